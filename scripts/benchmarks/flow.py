"""Array code on grids of the size people have: the gradient of the shallow-water example, tool by tool.

The one-shot gradient is what somebody pays who asks for one derivative: record, plan, solve, all of it. On small grids
that is the tools' own work a NumPy call, on larger ones arithmetic and memory. "again" is the value and gradient at
another point, with whatever the tool keeps between points. Times are those of the processor.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import programs
from measure import Figure, figure, samples, timed

READ_EVERY = 4
CHECK = 24, 12  # cells, steps of the run whose gradients are compared as well
WARM = 3  # gradients before the first that counts

Primal = Callable[[Any], Any]


def make(cells: int, steps: int, array_module: Any = np, array: Callable[[np.ndarray], Any] = np.asarray) -> Primal:
    """The example's misfit on cells x cells squares over `steps` steps, its constants made arrays of the tool's."""
    plain, example = programs.load_example("flow"), programs.load_example("flow", array_module)
    sea = plain.make_sea(cells)
    gauges = plain.place_gauges(sea, count=max(4, cells**2 // 100), steps=steps, every=READ_EVERY)
    of_tool = example.Sea(depth=array(sea.depth), wet=array(sea.wet), dx=sea.dx, dt=float(sea.dt))
    read = example.Gauges(array(gauges.rows), array(gauges.columns), gauges.times, array(gauges.observations))
    return example.make_misfit(of_tool, read)


def unknown(cells: int) -> np.ndarray:
    """Where the gradient is asked for."""
    return 0.1 * np.random.default_rng(0).standard_normal((cells, cells))


class Run:
    """Collects the figures and the gradients of one tool."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.sizes = [tuple(size) for size in settings["sizes"]]
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}
        self._primals: dict[tuple[int, int], float] = {}

    def add(self, what: str, size: tuple[int, int], seconds: list[float], role: str, **more: Any) -> None:
        """A figure for every cell and step."""
        cells, steps = size
        found = figure(f"{what}, {cells} x {cells} x {steps}", seconds, cells**2 * steps, "cell-step",
                       role=f"{role} {cells}", **more)
        if role == "primal":
            self._primals[size] = found["ns_per_unit"]
        elif size in self._primals:
            found["primal"] = self._primals[size]
        self.figures.append(found)

    def repeat(self, what: str, size: tuple[int, int], call: Callable[[], Any], role: str, **more: Any) -> None:
        """Times `call` again and again."""
        seconds = samples(call, self.settings["repeats"], self.settings["budget"], time.process_time)
        self.add(what, size, seconds, role, **more)

    def primal(self, size: tuple[int, int]) -> None:
        """NumPy's own run of the function, in this process."""
        f, z = make(*size), unknown(size[0])
        f(z)
        self.repeat("primal", size, lambda: f(z), "primal")

    def check(self, call: Callable[[Primal, np.ndarray], Any], *tool: Any) -> None:
        """Keeps the gradient of the small run."""
        self.gradients["small"] = np.array(call(make(*CHECK, *tool), unknown(CHECK[0])), dtype=float)

    def gradient(self, size: tuple[int, int], call: Callable[[np.ndarray], Any], role: str = "one-shot",
                 what: str = "trace + gradient", warm: int = WARM, **more: Any) -> None:
        """Times call(z), which returns the gradient; keeps it."""
        z = unknown(size[0])
        for _ in range(warm):
            call(z)
        self.gradients[f"{size[0]}"] = np.array(call(z), dtype=float)
        self.repeat(what, size, lambda: call(z), role, **more)


def another(z: np.ndarray) -> Callable[[], np.ndarray]:
    """A point other than the one before, at every call."""
    points, turn = (z, 1.001 * z), [0]

    def point() -> np.ndarray:
        turn[0] ^= 1
        return points[turn[0]]

    return point


def distdiff(settings: dict[str, Any]) -> Run:
    """distdiff, beside NumPy's primal in the same process."""
    from mpi4py import MPI

    import distdiff as dd
    from distdiff.warm import warm

    warm(MPI.COMM_WORLD)
    run = Run(settings)
    run.check(lambda f, z: dd.grad(f)(z))
    for size in run.sizes:
        f, z = make(*size), unknown(size[0])
        run.primal(size)
        run.gradient(size, lambda z, f=f: dd.value_and_grad(f)(z)[1])
        run.repeat("trace alone", size, lambda f=f, z=z: dd.trace(f, z), "trace")
        with dd.recorded(f) as replayed:
            point = another(z)
            replayed.value_and_grad(point())
            replayed.value_and_grad(point())
            run.repeat("value and gradient at another point", size,
                       lambda replayed=replayed, point=point: replayed.value_and_grad(point()), "again")
    return run


def torch(settings: dict[str, Any]) -> Run:
    """torch eager, float64."""
    import torch as th

    th.set_num_threads(1)
    tool = SimpleNamespace(roll=lambda x, shift, axis: th.roll(x, shift, axis), zeros_like=th.zeros_like, sum=th.sum,
                           sqrt=np.sqrt, pi=np.pi), th.from_numpy
    run = Run(settings)

    def gradient(f: Primal, z: np.ndarray) -> np.ndarray:
        x = th.tensor(z, requires_grad=True)
        f(x).backward()
        assert x.grad is not None
        return x.grad.numpy()

    run.check(gradient, *tool)
    for size in run.sizes:
        f = make(*size, *tool)
        run.primal(size)
        run.gradient(size, lambda z, f=f: gradient(f, z))
    return run


def autograd(settings: dict[str, Any]) -> Run:
    """HIPS autograd."""
    import autograd.numpy as anp
    from autograd import value_and_grad

    run = Run(settings)
    run.check(lambda f, z: value_and_grad(f)(z)[1], anp)
    for size in run.sizes:
        f = make(*size, anp)
        run.primal(size)
        run.gradient(size, lambda z, f=f: value_and_grad(f)(z)[1])
    return run


def jax(settings: dict[str, Any]) -> Run:
    """JAX, the loop rewritten as lax.scan, jitted: unrolled, as the example has it, compiling takes minutes."""
    import jax as jx

    run = Run(settings)

    def compiled(size: tuple[int, int]) -> tuple[float, Callable[[np.ndarray], Any]]:
        f = jx.jit(jx.value_and_grad(_scanned(*size)))
        seconds, executable = timed(lambda: f.lower(unknown(size[0])).compile(), time.process_time)
        return seconds, lambda z: jx.block_until_ready(executable(z))[1]

    run.gradients["small"] = np.array(compiled(CHECK)[1](unknown(CHECK[0])))
    for size in run.sizes:
        run.primal(size)
        seconds, call = compiled(size)
        run.add("compile", size, [seconds], "compile")
        run.gradient(size, call, "again", "value and gradient at another point", remark="scan, compile excluded")
    return run


def _scanned(cells: int, steps: int) -> Primal:
    """`make` for JAX, a step of `flow.simulate` the body of a scan."""
    import jax as jx
    import jax.numpy as jnp

    plain, flow = programs.load_example("flow"), programs.load_example("flow", jnp)
    sea = plain.make_sea(cells)
    gauges = plain.place_gauges(sea, count=max(4, cells**2 // 100), steps=steps, every=READ_EVERY)
    depth, wet, dt, dx = jnp.asarray(sea.depth), jnp.asarray(sea.wet), float(sea.dt), sea.dx
    open_x, open_y = wet * jnp.roll(wet, -1, axis=1), wet * jnp.roll(wet, -1, axis=0)
    keep, turn, slope = 1.0 - flow.FRICTION * dt, 0.25 * flow.CORIOLIS * dt, flow.GRAVITY * dt / dx
    sea = flow.Sea(depth, wet, dx, dt)

    def advance(eta: Any, u: Any, v: Any) -> tuple[Any, Any, Any]:
        height = depth + eta
        flux_x = u * (0.5 * (height + jnp.roll(height, -1, axis=1)))
        flux_y = v * (0.5 * (height + jnp.roll(height, -1, axis=0)))
        eta = eta - dt / dx * ((flux_x - jnp.roll(flux_x, 1, axis=1)) + (flux_y - jnp.roll(flux_y, 1, axis=0)))
        v_east = v + jnp.roll(v, -1, axis=1)
        at_u = v_east + jnp.roll(v_east, 1, axis=0)
        u = keep * open_x * u + turn * open_x * at_u - slope * open_x * (jnp.roll(eta, -1, axis=1) - eta)
        u_north = u + jnp.roll(u, -1, axis=0)
        at_v = u_north + jnp.roll(u_north, 1, axis=1)
        v = keep * open_y * v - turn * open_y * at_v - slope * open_y * (jnp.roll(eta, -1, axis=0) - eta)
        return eta, u, v

    def misfit(z: Any) -> Any:
        def body(state: Any, _: Any) -> Any:
            state = advance(*state)
            return state, state[0][gauges.rows, gauges.columns]

        still = jnp.zeros_like(depth)
        _, records = jx.lax.scan(body, (flow.initial_surface(z, sea), still, still), None, length=steps)
        misses = records[READ_EVERY - 1::READ_EVERY] - gauges.observations
        return 0.5 * jnp.sum(z**2) + 0.5 / flow.NOISE**2 * jnp.sum(misses**2)

    return misfit


TOOLS = {"distdiff": distdiff, "torch": torch, "autograd": autograd, "jax": jax}
