"""What a derivative costs, over the function: programs on small arrays and on larger ones, tool by tool.

The primal is NumPy's own run of the program in the same process, in turns with what it is compared with; times are
those of the processor. "one-shot" records, prepares and solves; "recorded" is `dd.recorded` at another point each time.
"""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Figure, figure

Program = tuple[Callable[[Any], Any], np.ndarray]


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def bodies(np_: Any, steps: int = 100) -> Program:
    """Five bodies, all pairs at once: arrays of 5 x 5 x 3."""
    mass = 1.0 + _random().random(5)

    def f(x: Any) -> Any:
        r, v = np_.reshape(x[:15], (5, 3)), np_.reshape(x[15:], (5, 3))
        for _ in range(steps):
            d = r[:, None, :] - r[None, :, :]
            square = np_.sum(d * d, axis=2) + 0.1
            v = v - 0.01 * np_.sum(mass[None, :, None] * d / (square * np_.sqrt(square))[:, :, None], axis=1)
            r = r + 0.01 * v
        return np_.sum(r**2) + 0.5 * np_.sum(v**2)

    return f, _random().standard_normal(30)


def pairs(np_: Any, steps: int = 20) -> Program:
    """Five bodies, pair by pair in Python: vectors of 3."""
    mass = 1.0 + _random().random(5)

    def f(x: Any) -> Any:
        r, v = [x[3 * i : 3 * i + 3] for i in range(5)], [x[15 + 3 * i : 18 + 3 * i] for i in range(5)]
        for _ in range(steps):
            a = [np_.zeros(3) for _ in range(5)]
            for i in range(5):
                for j in range(5):
                    if i != j:
                        d = r[j] - r[i]
                        a[i] = a[i] + mass[j] * d / np_.sqrt(np_.dot(d, d) + 0.1) ** 3
            v = [v[i] + 0.01 * a[i] for i in range(5)]
            r = [r[i] + 0.01 * v[i] for i in range(5)]
        return sum(np_.dot(p, p) for p in r)

    return f, _random().standard_normal(30)


def top(np_: Any, steps: int = 100) -> Program:
    """A rigid body by Runge-Kutta's fourth-order method: vectors of 3, np.cross."""
    inertia = np.array([1.0, 2.0, 3.0])

    def rate(w: Any, q: Any) -> Any:
        return 0.1 * q - np_.cross(w, inertia * w) / inertia

    def f(x: Any) -> Any:
        w, q, h = x[:3], x[3:], 0.01
        for _ in range(steps):
            a = rate(w, q)
            b = rate(w + h / 2 * a, q)
            c = rate(w + h / 2 * b, q)
            w = w + h / 6 * (a + 2 * b + 2 * c + rate(w + h * c, q))
        return np_.sum(w**2)

    return f, _random().standard_normal(6)


def recurrent(np_: Any, width: int = 16, steps: int = 100) -> Program:
    """A recurrent network on a series."""
    series = _random().standard_normal((steps, 4))
    n = width

    def f(w: Any) -> Any:
        inner, outer, b = np_.reshape(w[: n * n], (n, n)), np_.reshape(w[n * n : n * n + 4 * n], (n, 4)), w[-n:]
        h, s = np_.zeros(n), 0.0
        for t in range(steps):
            h = np_.tanh(np_.dot(inner, h) + np_.dot(outer, series[t]) + b)
            s = s + np_.sum(h * h)
        return s

    return f, 0.3 / np.sqrt(n) * _random().standard_normal(n * n + 5 * n)


def layers(np_: Any, batch: int = 10, width: int = 16) -> Program:
    """The loss of a network of three layers."""
    x, y = _random().standard_normal((batch, 8)), _random().standard_normal((batch, 4))
    shapes = [(8, width), (width, width), (width, 4)]

    def f(w: Any) -> Any:
        h, k = x, 0
        for i, (m, n) in enumerate(shapes):
            h = np_.dot(h, np_.reshape(w[k : k + m * n], (m, n))) + w[k + m * n : k + m * n + n]
            k += m * n + n
            h = np_.tanh(h) if i < 2 else h
        return np_.mean((h - y) ** 2)

    return f, 0.2 * _random().standard_normal(sum(m * n + n for m, n in shapes))


def filtered(np_: Any, steps: int = 60) -> Program:
    """The likelihood of a Kalman filter: matrices of 3 x 3, and numbers."""
    step = np.eye(3) + 0.01 * _random().standard_normal((3, 3))
    seen = _random().standard_normal(steps)

    def f(q: Any) -> Any:
        x, cov, noise, total = np_.zeros(3), np_.eye(3), np_.diag(q[:3] ** 2), 0.0
        for t in range(steps):
            x = np_.dot(step, x)
            cov = np_.dot(np_.dot(step, cov), step.T) + noise
            s, e = cov[0, 0] + q[3] ** 2, seen[t] - x[0]
            gain = cov[:, 0] / s
            x, cov = x + gain * e, cov - np_.outer(gain, cov[0])
            total = total + np_.log(s) + e * e / s
        return total

    return f, np.array([0.1, 0.2, 0.3, 0.4])


def diffusion(np_: Any, n: int = 50, steps: int = 200) -> Program:
    """Diffusion that depends on the state, in explicit steps on n points."""

    def f(u: Any) -> Any:
        for _ in range(steps):
            u = u + 0.1 * u * (np_.roll(u, 1) - 2.0 * u + np_.roll(u, -1))
        return np_.sum(u**2)

    return f, 0.5 + 0.1 * _random().random(n)


PROGRAMS: dict[str, Callable[[Any], Program]] = {
    "5 bodies, all pairs at once": bodies,
    "5 bodies, pair by pair (3-vectors)": pairs,
    "Runge-Kutta on 3-vectors": top,
    "recurrent network, 16 wide": recurrent,
    "network of 3 layers, 10 samples": layers,
    "Kalman filter, 3 x 3": filtered,
    "diffusion, 50 points x 200": diffusion,
    "diffusion, 1,000 points x 200": lambda np_: diffusion(np_, 1000),
    "diffusion, 100,000 points x 50": lambda np_: diffusion(np_, 100_000, 50),
    "network of 3 layers, 10,000 samples": lambda np_: layers(np_, 10_000, 64),
}
WARM = 2


class Run:
    """Collects the figures and gradients of one tool."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.share = settings["budget"] / len(PROGRAMS)
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}

    def measure(self, name: str, primal: Callable[[], Any], calls: dict[str, Callable[[], Any]]) -> None:
        """Times the calls in turns with the primal; a figure's `over` is the median of the turns' ratios."""
        for call in (primal, *calls.values()):
            for _ in range(WARM):
                call()
        inner = max(1, int(2e-3 / max(_seconds(primal), 1e-7)))
        taken: dict[str, list[float]] = {what: [] for what in ("primal", *calls)}
        began = time.perf_counter()
        while len(taken["primal"]) < self.settings["repeats"] and (
                len(taken["primal"]) < 3 or time.perf_counter() - began < self.share):
            taken["primal"].append(_seconds(primal, inner))
            for what, call in calls.items():
                taken[what].append(_seconds(call))
        for what, seconds in taken.items():
            over = statistics.median(a / b for a, b in zip(seconds, taken["primal"]))
            self.figures.append(figure(f"{name}: {what}", seconds, 1, "call", role=f"{name}: {what}", over=over))


def _seconds(call: Callable[[], Any], times: int = 1) -> float:
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def distdiff(settings: dict[str, Any]) -> Run:
    """distdiff, and its own stages."""
    from mpi4py import MPI

    import distdiff as dd
    from distdiff.tracing import trace
    from distdiff.warm import warm

    warm(MPI.COMM_WORLD)
    run = Run(settings)
    for name, make in PROGRAMS.items():
        f, x = make(np)
        v, turn = np.cos(np.arange(x.size)), [0]

        def point(x: np.ndarray = x, turn: list[int] = turn) -> np.ndarray:
            turn[0] = (turn[0] + 1) % 1000
            return x * (1.0 + 1e-9 * turn[0])

        with dd.recorded(f) as again:
            run.measure(name, lambda f=f, x=x: f(x), {
                "trace": lambda f=f, x=x: trace(f, (x,), argnums=(0,), keep_values="read"),
                "one-shot gradient": lambda f=f, x=x: dd.value_and_grad(f)(x),
                "one-shot hvp": lambda f=f, x=x, v=v: dd.hvp(f, (x,), (v,)),
                "recorded": lambda again=again, point=point: again.value_and_grad(point()),
                "recorded hvp": lambda again=again, point=point, v=v: again.hvp(point(), v)})
        run.gradients[name.replace(" ", "-").replace(",", "")] = np.array(dd.grad(f)(x))
    return run


def autograd(settings: dict[str, Any]) -> Run:
    """HIPS/autograd."""
    import autograd as ag
    import autograd.numpy as anp

    run = Run(settings)
    for name, make in PROGRAMS.items():
        (f, x), (g, _) = make(anp), make(np)
        run.measure(name, lambda g=g, x=x: g(x), {
            "one-shot gradient": lambda f=f, x=x: ag.value_and_grad(f)(x),
            "one-shot hvp": lambda f=f, x=x: ag.hessian_vector_product(f)(x, np.cos(np.arange(x.size)))})
        run.gradients[name.replace(" ", "-").replace(",", "")] = np.array(ag.grad(f)(x))
    return run


TOOLS = {"distdiff": distdiff, "autograd": autograd}
