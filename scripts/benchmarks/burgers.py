"""Array code: the gradient of a 1-D Burgers run written with np.roll, eleven lines a point and step, tool by tool.

"cold" is the first gradient at full size in a process that has already differentiated a run of a tenth of the points:
libraries loaded, kernels compiled, memory fresh. "warm" are those after it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import programs
from measure import Figure, figure, samples, timed

CHECK_POINTS, CHECK_STEPS = 64, 5


class Run:
    """Collects the figures and the gradients of one tool."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.points, self.steps = settings["points"], settings["steps"]
        self.lines = programs.burgers_lines(self.points, self.steps)
        self.initial = programs.burgers_initial(self.points)
        self.small = programs.burgers_initial(CHECK_POINTS)
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}

    def add(self, case: str, seconds: list[float], **more: Any) -> None:
        """A figure for the run's lines."""
        self.figures.append(figure(case, seconds, self.lines, "line", **more))

    def repeat(self, case: str, call: Callable[[], Any], **more: Any) -> None:
        """Times `call` again and again."""
        self.add(case, samples(call, self.settings["repeats"], self.settings["budget"]), **more)

    def check(self, gradient: Any) -> None:
        """Keeps the gradient of the small run."""
        self.gradients["small"] = np.asarray(gradient, dtype=float).copy()

    def gradient(self, call: Callable[[np.ndarray], Any], **more: Any) -> None:
        """Times call(initial), which traces and returns the gradient, once cold and then warm; keeps the gradient."""
        call(self.initial[::10])
        first, result = timed(lambda: call(self.initial))
        self.gradients["full"] = np.asarray(result, dtype=float).copy()
        del result
        self.add("trace + gradient, cold", [first], role="cold", **more)
        self.repeat("trace + gradient, warm", lambda: call(self.initial), role="warm", **more)


def numpy(settings: dict[str, Any]) -> Run:
    """The function itself, on NumPy."""
    run = Run(settings)
    misfit = programs.make_burgers(run.points, run.steps)
    run.add("primal, cold", [timed(lambda: misfit(run.initial))[0]])
    run.repeat("primal, warm", lambda: misfit(run.initial), role="primal")
    return run


def distdiff(settings: dict[str, Any]) -> Run:
    """distdiff, and NumPy's primal in the same process."""
    import distdiff as dd

    run = Run(settings)
    small = programs.make_burgers(CHECK_POINTS, CHECK_STEPS)
    run.check(dd.grad(small)(run.small))
    run.gradient(lambda initial: dd.value_and_grad(programs.make_burgers(len(initial), run.steps))(initial)[1])
    misfit = programs.make_burgers(run.points, run.steps)
    run.repeat("primal, warm", lambda: misfit(run.initial), role="primal")
    with dd.recorded(misfit) as replayed:
        replayed.grad(run.initial)
        stages = dict(replayed.at(run.initial).report().times)
        points = [run.initial, run.initial * 1.001]
        turn = [0]

        def another() -> Any:
            turn[0] ^= 1
            return points[turn[0]]

        replayed.grad(another())
        run.repeat("gradient again at another point", lambda: replayed.value_and_grad(another()), role="again",
                   stages=stages)
        run.repeat("value again at another point (replay)", lambda: replayed(another()), role="replay")
        lin = replayed.at(points[turn[0]])
        run.repeat("gradient alone, same point", lambda: lin.vjp(1.0), role="solve")
    return run


def torch(settings: dict[str, Any]) -> Run:
    """torch eager, float64."""
    import torch as th

    th.set_num_threads(1)
    run = Run(settings)

    def gradient(initial: np.ndarray, steps: int) -> np.ndarray:
        u = th.tensor(initial, requires_grad=True)
        programs.make_burgers(len(initial), steps, th)(u).backward()
        assert u.grad is not None
        return u.grad.numpy()

    run.check(gradient(run.small, CHECK_STEPS))
    run.gradient(lambda initial: gradient(initial, run.steps))
    misfit = programs.make_burgers(run.points, run.steps, th)
    with th.no_grad():
        run.repeat("primal, warm", lambda: misfit(th.tensor(run.initial)), role="primal")
    return run


def autograd(settings: dict[str, Any]) -> Run:
    """HIPS autograd."""
    import autograd.numpy as anp
    from autograd import value_and_grad

    run = Run(settings)

    def gradient(initial: np.ndarray, steps: int) -> np.ndarray:
        return value_and_grad(programs.make_burgers(len(initial), steps, anp))(initial)[1]

    run.check(gradient(run.small, CHECK_STEPS))
    run.gradient(lambda initial: gradient(initial, run.steps))
    return run


def casadi(settings: dict[str, Any]) -> Run:
    """CasADi SX, a node a line, at the size it can bear: far behind on array code, and so stated per line."""
    import casadi as ca

    run = Run({**settings, "points": settings["casadi_points"], "steps": settings["casadi_steps"]})

    class Arrays:
        """The three NumPy functions the program calls, on CasADi columns."""

        @staticmethod
        def roll(u: Any, shift: int) -> Any:
            return ca.vertcat(u[-shift:], u[:-shift])

        sum = staticmethod(ca.sum1)

    def gradient(initial: np.ndarray, steps: int) -> np.ndarray:
        u = ca.SX.sym("u", len(initial))
        y = programs.make_burgers(len(initial), steps, Arrays)(u)
        return np.array(ca.Function("g", [u], [ca.gradient(y, u)])(initial)).ravel()

    run.check(gradient(run.small, CHECK_STEPS))
    first, _ = timed(lambda: gradient(run.initial, run.steps))
    run.add("trace + gradient, cold", [first], role="cold", size=f"{run.points} x {run.steps}")
    return run


def jax(settings: dict[str, Any]) -> Run:
    """JAX, the loop rewritten as lax.scan, jitted: compiled once, the compile apart."""
    import jax as jx
    import jax.numpy as jnp

    run = Run(settings)

    def make(points: int, steps: int) -> Any:
        dx = 1.0 / points
        nu, dt = dx, 0.1 * dx

        def misfit(u: Any) -> Any:
            def body(u: Any, _: Any) -> Any:
                left, right = jnp.roll(u, 1), jnp.roll(u, -1)
                u = u - dt * (u * (right - left) / (2.0 * dx)) + nu * dt * (right - 2.0 * u + left) / dx**2
                return u, None

            u, _ = jx.lax.scan(body, u, None, length=steps)
            return 0.5 * dx * jnp.sum((u - 1.0) ** 2)

        return misfit

    run.check(jx.grad(make(CHECK_POINTS, CHECK_STEPS))(run.small))
    misfit = make(run.points, run.steps)
    compiled = jx.jit(jx.value_and_grad(misfit))
    seconds, executable = timed(lambda: compiled.lower(run.initial).compile())
    run.add("compile", [seconds], role="compile")
    run.gradient(lambda initial: jx.block_until_ready(executable(np.resize(initial, run.points)))[1],
                 remark="scan, compile excluded")
    primal = jx.jit(misfit).lower(run.initial).compile()
    run.repeat("primal, warm", lambda: jx.block_until_ready(primal(run.initial)), role="primal")
    return run


TOOLS = {"numpy": numpy, "distdiff": distdiff, "torch": torch, "autograd": autograd, "jax": jax, "casadi": casadi}
