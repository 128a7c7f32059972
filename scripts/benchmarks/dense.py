"""Dense products: programs of matrix products in NumPy's own calls, beside NumPy's primal in the same process.

A gradient of a product costs two products of its size, so three times the primal is what one from scratch can cost at
least (twice where one factor is constant), and a replay costs the primal. Times are those of the processor, which is
all that one thread needs.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from measure import Figure, figure, samples

WIDTH = {"product": 500, "chain": 200, "constant": 1000}  # divided by ten with --quick


def programs(scale: int) -> dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]]:
    """Name: (f, its arguments, all of them differentiated)."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) / shape[-1] ** 0.5

    n, m, c = (width // scale for width in WIDTH.values())
    constant = normal(c, c)
    samples_, features, hidden = 1797 // scale, 64, 128
    data, labels = rng.normal(size=(samples_, features)), rng.integers(0, 10, samples_)

    def chain(a: Any) -> Any:
        x = a
        for _ in range(20):
            x = x @ a
        return np.sum(x)

    def steps(u: Any) -> Any:
        for _ in range(100):
            u = np.tanh(constant @ u)
        return np.sum(u * u)

    def network(w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        z = np.tanh(data @ w1 + b1) @ w2 + b2
        z = z - np.max(z, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(labels)), labels])

    return {
        f"tanh(A @ B), {n}": (lambda a, b: np.sum(np.tanh(a @ b)), (normal(n, n), normal(n, n))),
        f"20 products, {m}": (chain, (normal(m, m),)),
        f"{10000 // scale} x (8 x 8 @ 8 x 8)": (
            lambda a, b: np.sum(np.tanh(a @ b)), (normal(10000 // scale, 8, 8), normal(10000 // scale, 8, 8))),
        f"einsum bij,bjk->bik, 50 x {n // 4}": (
            lambda a, b: np.sum(np.tanh(np.einsum("bij,bjk->bik", a, b))),
            (normal(50, n // 4, n // 4), normal(50, n // 4, n // 4))),
        f"einsum ij,kj,l->ikl, {m // 2}": (
            lambda a, b, c: np.sum(np.tanh(np.einsum("ij,kj,l->ikl", a, b, c))),
            (normal(m // 2, m // 2), normal(m // 2, m // 2), normal(m // 2))),
        f"100 steps of M @ u, {c}": (steps, (normal(c),)),
        f"network, {samples_} x {features} x {hidden} x 10": (
            network, (normal(features, hidden), np.zeros(hidden), normal(hidden, 10), np.zeros(10))),
    }


class Run:
    """Collects the figures; each says what NumPy's primal took, in ns, between its samples."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}

    def measure(self, name: str, primal: Callable[[], Any], calls: dict[str, Callable[[], Any]],
                settings: dict[str, Any]) -> None:
        """Times each of the calls."""
        seconds, mine = [], []
        for case, call in calls.items():
            call()
            mine += samples(primal, settings["repeats"], settings["budget"] / 100, time.process_time)
            seconds.append((case, samples(call, settings["repeats"], settings["budget"] / 50, time.process_time)))
        own = figure(f"{name}: primal", mine, 1.0, "call", role=f"{name}: primal")
        self.figures.append(own)
        for case, found in seconds:
            self.figures.append(figure(f"{name}: {case}", found, 1.0, "call", role=f"{name}: {case}",
                                       primal=own["ns_per_unit"]))


def distdiff(settings: dict[str, Any]) -> Run:
    """distdiff, and NumPy's primal in the same process."""
    import distdiff as dd

    run = Run()
    for name, (f, arguments) in programs(10 if settings["quick"] else 1).items():
        every = tuple(range(len(arguments)))
        direction = [np.cos(np.arange(x.size)).reshape(x.shape) for x in arguments]
        gradient = dd.grad(f, argnums=every)
        with dd.linearize(f, *arguments, argnums=every) as lin:
            run.measure(name, partial(f, *arguments), {
                "trace + gradient": partial(gradient, *arguments),
                "value again": partial(lin.update, *arguments), "vjp": partial(lin.vjp, 1.0),
                "jvp": partial(lin.jvp, *direction), "hvp": partial(lin.hvp, *direction)}, settings)
    return run


TOOLS = {"distdiff": distdiff}
