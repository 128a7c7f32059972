"""Small arrays: what tracing one operation on eight elements costs, where nothing but the work around it counts.

Every operation is repeated in a Python loop; the loop itself, and a trace of nothing, are taken off. "numpy" is the
same loop in plain NumPy: the operation's own price, which a trace pays as well. Times are those of the processor.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Figure, figure, samples

U, V = np.linspace(1.0, 2.0, 8), np.linspace(0.1, 0.5, 8)
C, M = np.linspace(1.0, 3.0, 8), np.linspace(0.0, 1.0, 64).reshape(8, 8)


def _add_in_place(u: Any, v: Any, s: Any) -> None:
    u += v


def _stencil(u: Any, v: Any, s: Any) -> None:
    u[1:-1] += 0.1 * (v[2:] - v[:-2])


def _write(u: Any, v: Any, s: Any) -> None:
    u[1:3] = v[:2]


OPERATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "u + v": lambda u, v, s: u + v,
    "u * 2.0": lambda u, v, s: u * 2.0,
    "u * constant": lambda u, v, s: u * C,
    "u - s": lambda u, v, s: u - s,
    "np.sin(u)": lambda u, v, s: np.sin(u),
    "u[1:]": lambda u, v, s: u[1:],
    "u[1:] * v[:-1]": lambda u, v, s: u[1:] * v[:-1],
    "u.sum()": lambda u, v, s: u.sum(),
    "np.dot(u, v)": lambda u, v, s: np.dot(u, v),
    "M @ u": lambda u, v, s: M @ u,
    "np.where(u > 1.5, u, v)": lambda u, v, s: np.where(u > 1.5, u, v),
    "np.concatenate([u, v])": lambda u, v, s: np.concatenate([u, v]),
    "u += v": _add_in_place,
    "u[1:3] = v[:2]": _write,
    "u[1:-1] += 0.1 * (v[2:] - v[:-2])": _stencil,
    "np.array([s, s])": lambda u, v, s: np.array([s, s]),
    "u.mean()": lambda u, v, s: u.mean(),
}


class Run:
    """Collects the figures; there are no gradients to compare."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}

    def measure(self, settings: dict[str, Any], run: Callable[[Callable[..., Any]], Any]) -> None:
        """`run(f)` runs f(u, v) as the tool does."""
        n = int(settings["operations"])
        for name, operation in OPERATIONS.items():
            def loop(u: Any, v: Any, operation: Any = operation) -> Any:
                u, s = u.copy(), v[0]
                for _ in range(n):
                    operation(u, v, s)
                return v[0] * 1.0

            def nothing(u: Any, v: Any) -> Any:
                u, s = u.copy(), v[0]
                for _ in range(n):
                    _nothing(u, v, s)
                return v[0] * 1.0

            run(loop)
            share = settings["budget"] / len(OPERATIONS) / 2
            empty = min(samples(lambda f=nothing: run(f), settings["repeats"], share, time.process_time))
            seconds = samples(lambda f=loop: run(f), settings["repeats"], share, time.process_time)
            self.figures.append(figure(name, [max(t - empty, 0.0) for t in seconds], n, "operation", role=name))


def _nothing(u: Any, v: Any, s: Any) -> None:
    return None


def numpy(settings: dict[str, Any]) -> Run:
    """The operations themselves."""
    run = Run()
    run.measure(settings, lambda f: f(U, V))
    return run


def distdiff(settings: dict[str, Any]) -> Run:
    """The operations, traced."""
    from distdiff.tracing import trace

    run = Run()
    run.measure(settings, lambda f: trace(f, (U, V), argnums=(0, 1), keep_values="read"))
    return run


TOOLS = {"numpy": numpy, "distdiff": distdiff}
