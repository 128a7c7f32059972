"""Small arrays: what tracing one operation on eight elements costs, where nothing but the work around it counts.

Every operation is repeated in a Python loop; the loop itself, and a trace of nothing, are taken off. "numpy" is the
same loop in plain NumPy: the operation's own price, which a trace pays as well. The aim is one on the overhead, what
the trace takes beyond that. Times are those of the processor.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from measure import Figure, figure, samples

U, V = np.linspace(1.0, 2.0, 8), np.linspace(0.1, 0.5, 8)
C, M = np.linspace(1.0, 3.0, 8), np.linspace(0.0, 1.0, 64).reshape(8, 8)
INDICES, K = np.array([0, 3, 5]), C > 2.0


def _add_in_place(u: Any, v: Any, s: Any, m: Any) -> None:
    u += v


def _stencil(u: Any, v: Any, s: Any, m: Any) -> None:
    u[1:-1] += 0.1 * (v[2:] - v[:-2])


def _write(u: Any, v: Any, s: Any, m: Any) -> None:
    u[1:3] = v[:2]


def _write_number(u: Any, v: Any, s: Any, m: Any) -> None:
    u[1:3] = 0.0


def _write_element(u: Any, v: Any, s: Any, m: Any) -> None:
    u[2] = s


def _write_indexed(u: Any, v: Any, s: Any, m: Any) -> None:
    u[INDICES] = v[:3]


def _write_masked(u: Any, v: Any, s: Any, m: Any) -> None:
    u[u > 1.5] = 0.0


OPERATIONS: dict[str, Callable[[Any, Any, Any, Any], Any]] = {  # u and v vectors, s a number, m a matrix
    "u + v": lambda u, v, s, m: u + v,
    "u * 2.0": lambda u, v, s, m: u * 2.0,
    "u * constant": lambda u, v, s, m: u * C,
    "u - s": lambda u, v, s, m: u - s,
    "u ** 3": lambda u, v, s, m: u**3,
    "np.sin(u)": lambda u, v, s, m: np.sin(u),
    "np.maximum(u, 0.0)": lambda u, v, s, m: np.maximum(u, 0.0),
    "u > v": lambda u, v, s, m: u > v,
    "u > 1.5": lambda u, v, s, m: u > 1.5,
    "m + u": lambda u, v, s, m: m + u,
    "m[1:-1, 1:-1] * 2.0": lambda u, v, s, m: m[1:-1, 1:-1] * 2.0,
    "u[1:]": lambda u, v, s, m: u[1:],
    "u[2]": lambda u, v, s, m: u[2],
    "m[:, 1]": lambda u, v, s, m: m[:, 1],
    "u[:, None]": lambda u, v, s, m: u[:, None],
    "u[indices]": lambda u, v, s, m: u[INDICES],
    "u[mask]": lambda u, v, s, m: u[K],
    "np.take(u, indices)": lambda u, v, s, m: np.take(u, INDICES),
    "m.T": lambda u, v, s, m: m.T,
    "m.reshape(-1)": lambda u, v, s, m: m.reshape(-1),
    "np.broadcast_to(u, (3, 8))": lambda u, v, s, m: np.broadcast_to(u, (3, 8)),
    "u.copy()": lambda u, v, s, m: u.copy(),
    "u.sum()": lambda u, v, s, m: u.sum(),
    "m.sum(axis=0)": lambda u, v, s, m: m.sum(axis=0),
    "np.sum(m, 1, keepdims=True)": lambda u, v, s, m: np.sum(m, axis=1, keepdims=True),
    "u.max()": lambda u, v, s, m: u.max(),
    "np.cumsum(u)": lambda u, v, s, m: np.cumsum(u),
    "np.dot(u, v)": lambda u, v, s, m: np.dot(u, v),
    "m @ u": lambda u, v, s, m: m @ u,
    "m @ m": lambda u, v, s, m: m @ m,
    "constant @ u": lambda u, v, s, m: M @ u,
    "np.where(mask, u, v)": lambda u, v, s, m: np.where(K, u, v),
    "np.concatenate([u, v])": lambda u, v, s, m: np.concatenate([u, v]),
    "np.stack([u, v])": lambda u, v, s, m: np.stack([u, v]),
    "np.array([s, s])": lambda u, v, s, m: np.array([s, s]),
    "np.roll(u, 1)": lambda u, v, s, m: np.roll(u, 1),
    "u[1:3] = 0.0": _write_number,
    "u[2] = s": _write_element,
    "-u": lambda u, v, s, m: -u,
    "u / v": lambda u, v, s, m: u / v,
    "1 / u": lambda u, v, s, m: 1 / u,
    "u ** v": lambda u, v, s, m: u**v,
    "np.abs(u)": lambda u, v, s, m: np.abs(u),
    "np.sqrt(u)": lambda u, v, s, m: np.sqrt(u),
    "np.min(u)": lambda u, v, s, m: np.min(u),
    "np.inner(u, v)": lambda u, v, s, m: np.inner(u, v),
    "np.outer(u, v)": lambda u, v, s, m: np.outer(u, v),
    "np.hstack([u, v])": lambda u, v, s, m: np.hstack([u, v]),
    "np.append(u, v)": lambda u, v, s, m: np.append(u, v),
    "np.zeros_like(u)": lambda u, v, s, m: np.zeros_like(u),
    "np.reshape(u, (2, 4))": lambda u, v, s, m: np.reshape(u, (2, 4)),
    "u[..., None]": lambda u, v, s, m: u[..., None],
    "u.astype(float)": lambda u, v, s, m: u.astype(float),
    "u.mean()": lambda u, v, s, m: u.mean(),
    "m.mean(axis=0)": lambda u, v, s, m: m.mean(axis=0),
    "np.linalg.norm(u)": lambda u, v, s, m: np.linalg.norm(u),
}
SEVERAL: dict[str, Callable[[Any, Any, Any, Any], Any]] = {  # several operations, for which there is no aim
    "u += v": _add_in_place,
    "u[1:3] = v[:2]": _write,
    "u[indices] = v[:3]": _write_indexed,
    "u[u > 1.5] = 0.0": _write_masked,
    "u[1:] * v[:-1]": lambda u, v, s, m: u[1:] * v[:-1],
    "u[:, None] * v": lambda u, v, s, m: u[:, None] * v,
    "np.where(u > 1.5, u, v)": lambda u, v, s, m: np.where(u > 1.5, u, v),
    "u[1:-1] += 0.1 * (v[2:] - v[:-2])": _stencil,
    "np.clip(u, 0.2, 1.5)": lambda u, v, s, m: np.clip(u, 0.2, 1.5),
    "np.diff(u)": lambda u, v, s, m: np.diff(u),
    "np.trace(m)": lambda u, v, s, m: np.trace(m),
    "np.var(u)": lambda u, v, s, m: np.var(u),
}


class Run:
    """Collects the figures; there are no gradients to compare."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}

    def measure(self, settings: dict[str, Any], run: Callable[[Callable[..., Any]], Any]) -> None:
        """`run(f)` runs f(u, v) as the tool does."""
        n = int(settings["operations"])
        every = {**OPERATIONS, **SEVERAL}
        share = settings["budget"] / len(every) / 2
        for name, operation in every.items():
            def loop(u: Any, v: Any, operation: Any = operation) -> Any:
                u, s, m = u.copy(), v[0], np.outer(u, v)
                for _ in range(n):
                    operation(u, v, s, m)
                return v[0] * 1.0

            run(loop)
            empty = min(samples(lambda: run(partial(loop, operation=_nothing)), settings["repeats"], share,
                                time.process_time))
            seconds = samples(lambda f=loop: run(f), settings["repeats"], share, time.process_time)
            self.figures.append(figure(name, [max(t - empty, 0.0) for t in seconds], n, "operation", role=name))


def _nothing(u: Any, v: Any, s: Any, m: Any) -> None:
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
