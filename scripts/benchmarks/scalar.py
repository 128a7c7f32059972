"""Scalar loop: the gradient of a chain of scalar operations written as a Python loop, tool by tool.

Every tool differentiates `programs.make_chain(steps)` as it stands, except JAX's `lax.scan`, which wants the loop
rewritten and is there for information. "trace + gradient" is everything from the function and a point to the
gradient: recording or building the graph, compiling where the tool does, the reverse sweep. "again" is
the gradient at another point with what was recorded, where the tool can reuse it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import programs
from measure import Figure, figure, per_call, samples, timed

CHECK_STEPS = 4
"""Every tool also differentiates this short chain, so that all gradients can be compared whatever size each could
bear. JAX sets it: under jit the loop is unrolled, and XLA's fusion of scalars grows so fast that 203 operations compile
in half a second, 303 in a minute and 1000 not in five."""


class Run:
    """Collects the figures and the gradients of one tool."""

    def __init__(self, settings: dict[str, Any], operations: float) -> None:
        self.settings = settings
        self.steps = programs.chain_steps(operations)
        self.point = programs.chain_inputs()
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}

    def gradient(self, case: str, call: Callable[[], Any], steps: int | None = None, **more: Any) -> None:
        """Times `call`, which returns the gradient of the chain of `steps` steps, and keeps the gradient."""
        steps = self.steps if steps is None else steps
        first, result = timed(call)
        self.gradients[str(steps)] = np.asarray(result, dtype=float).copy()
        again = samples(call, self.settings["repeats"] - 1, self.settings["budget"] - first) if first < 0.5 * (
            self.settings["budget"]) else []
        self.add(case, again or [first], steps, role="gradient", first=first, **more)

    def add(self, case: str, seconds: list[float], steps: int | None = None, **more: Any) -> None:
        """A figure of the chain of `steps` steps."""
        steps = self.steps if steps is None else steps
        self.figures.append(figure(case, seconds, programs.chain_operations(steps), "operation", **more))

    def check(self, gradient: Any) -> None:
        """Keeps the gradient of the short chain that all tools share."""
        self.gradients[str(CHECK_STEPS)] = np.asarray(gradient, dtype=float).copy()


def python(settings: dict[str, Any]) -> Run:
    """The function itself on floats: what the loop costs without any derivative."""
    run = Run(settings, settings["operations"])
    counted = programs.counted_operations(3)
    if counted != programs.chain_operations(3):
        raise RuntimeError(f"the chain of 3 steps made {counted} operations, expected {programs.chain_operations(3)}")
    chain, point = programs.make_chain(run.steps), run.point.tolist()
    run.add("primal, plain floats", samples(lambda: chain(point), settings["repeats"], settings["budget"]),
            role="primal")
    return run


def distdiff(settings: dict[str, Any]) -> Run:
    """distdiff from Python, interpreted tracing."""
    return _distdiff(settings, lambda f: f)


def distdiff_compiled(settings: dict[str, Any]) -> Run:
    """distdiff with the loop under `dd.compiled`: traced by machine code.  The first gradient includes compiling it."""
    import distdiff as dd

    return _distdiff(settings, dd.compiled)


def _distdiff(settings: dict[str, Any], prepare: Callable[[Any], Any]) -> Run:
    import distdiff as dd
    from distdiff.tracing import trace

    run = Run(settings, settings["operations"])
    repeats, budget = settings["repeats"], settings["budget"]
    check = prepare(programs.make_chain(CHECK_STEPS))
    start, (_, gradient) = timed(lambda: dd.value_and_grad(check)(run.point))
    run.add("first gradient in the process, short chain", [start], CHECK_STEPS)
    run.check(gradient)
    chain = prepare(programs.make_chain(run.steps))
    run.gradient("trace + gradient", lambda: dd.value_and_grad(chain)(run.point)[1])
    alone = samples(lambda: trace(chain, (run.point,), keep_values="read"), repeats, budget)
    run.add("trace alone, values kept", alone, role="trace")
    with dd.linearize(chain, run.point) as lin:
        seed = np.ones(())
        lin.vjp(seed)
        stages = dict(lin.report().times)
        run.add("solve again, one cotangent", per_call(lambda: lin.vjp(seed), repeats, budget), role="solve")
    with dd.linearize(chain, run.point, method="sweep") as lin:  # the one of many that reads every line
        for _ in range(4):
            lin.vjp(seed)
        run.add("solve again by a sweep, one cotangent", per_call(lambda: lin.vjp(seed), repeats, budget), role="sweep")
        run.add("the same, one tangent", per_call(lambda: lin.jvp(run.point), repeats, budget), role="tangent")
    with dd.recorded(chain) as replayed:
        points = [run.point * (1.0 + 1e-3 * k) for k in range(2)]
        turn = [0]

        def another() -> Any:
            turn[0] ^= 1
            return points[turn[0]]

        replayed(another())
        again = per_call(lambda: replayed.value_and_grad(another()), repeats, budget)
        run.add("value and gradient again at another point", again, role="again", stages=stages)
        run.add("value again at another point", per_call(lambda: replayed(another()), repeats, budget), role="replay")
    return run


def casadi(settings: dict[str, Any]) -> Run:
    """CasADi SX: symbolic expression, gradient expression, Function, evaluation in its virtual machine."""
    import casadi as ca

    run = Run(settings, settings["casadi_operations"])

    def build(steps: int) -> Any:
        p = ca.SX.sym("p", 6)
        y = programs.make_chain(steps)([p[i] for i in range(6)])
        return ca.Function("gradient", [p], [y, ca.gradient(y, p)])

    run.check(np.array(build(CHECK_STEPS)(run.point)[1]).ravel())
    run.gradient("trace + gradient", lambda: np.array(build(run.steps)(run.point)[1]).ravel())
    function = build(run.steps)
    run.add("gradient again at another point",
            per_call(lambda: function(run.point), settings["repeats"], settings["budget"]), role="again")
    return run


def torch(settings: dict[str, Any]) -> Run:
    """torch eager on 0-dimensional float64 tensors."""
    import torch as th

    th.set_num_threads(1)
    run = Run(settings, settings["torch_operations"])

    def gradient(steps: int) -> np.ndarray:
        p = th.tensor(run.point, requires_grad=True)
        programs.make_chain(steps)(p).backward()
        assert p.grad is not None
        return p.grad.numpy()

    run.check(gradient(CHECK_STEPS))
    run.gradient("trace + gradient", lambda: gradient(run.steps))
    return run


def autograd(settings: dict[str, Any]) -> Run:
    """HIPS autograd."""
    from autograd import grad

    run = Run(settings, settings["autograd_operations"])
    run.check(grad(programs.make_chain(CHECK_STEPS))(run.point))
    run.gradient("trace + gradient", lambda: grad(programs.make_chain(run.steps))(run.point))
    return run


def jax(settings: dict[str, Any]) -> Run:
    """JAX under jit, the loop as written: traced, unrolled, compiled and run, at the size that compiling can bear."""
    import jax as jx

    run = Run(settings, programs.chain_operations(CHECK_STEPS))

    def gradient(steps: int) -> np.ndarray:
        jx.clear_caches()
        return np.asarray(jx.jit(jx.grad(programs.make_chain(steps)))(run.point))

    gradient(1)
    run.gradient("trace + gradient, unrolled, compile included", lambda: gradient(run.steps))
    compiled = jx.jit(jx.grad(programs.make_chain(run.steps)))
    compiled(run.point).block_until_ready()
    run.add("gradient again at another point, unrolled",
            per_call(lambda: compiled(run.point).block_until_ready(), settings["repeats"], settings["budget"]),
            role="again")
    return run


def jax_scan(settings: dict[str, Any]) -> Run:
    """JAX with the loop rewritten as lax.scan: compile once, then run."""
    import jax as jx

    run = Run(settings, settings["operations"])
    step = programs.load_example("lotka_volterra").step

    def make(steps: int) -> Callable[[Any], Any]:
        def chain(p: Any) -> Any:
            def body(state: Any, _: Any) -> Any:
                return step(*state, *p[:4], 1.0 / programs.STEPS_A_YEAR), None

            (hare, lynx), _ = jx.lax.scan(body, (p[4], p[5]), None, length=steps)
            return hare * hare + lynx * lynx

        return chain

    def compile_and_run(steps: int) -> np.ndarray:
        jx.clear_caches()
        return np.asarray(jx.jit(jx.grad(make(steps)))(run.point))

    run.check(compile_and_run(CHECK_STEPS))
    run.gradient("trace + gradient, rewritten as scan, compile included", lambda: compile_and_run(run.steps))
    compiled = jx.jit(jx.grad(make(run.steps)))
    compiled(run.point).block_until_ready()
    run.add("gradient again at another point, scan",
            per_call(lambda: compiled(run.point).block_until_ready(), settings["repeats"], settings["budget"]),
            role="again")
    return run


TOOLS = {"python": python, "distdiff": distdiff, "distdiff_compiled": distdiff_compiled, "casadi": casadi,
         "torch": torch, "autograd": autograd, "jax": jax, "jax_scan": jax_scan}
