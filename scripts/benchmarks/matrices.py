"""Linear algebra: gradients of one large matrix's functions and of many small ones', beside the functions themselves.

"numpy" evaluates; "distdiff" traces, evaluates and pulls back at new points ("again": replays there instead).  An
item is a matrix.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from measure import Figure, figure, samples

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "solve": lambda a: np.sum(np.linalg.solve(a, np.ones((*a.shape[:-1], 1))) ** 2),
    "inv": lambda a: np.sum(np.linalg.inv(a) ** 2),
    "slogdet": lambda a: np.sum(np.linalg.slogdet(a)[1]),
    "cholesky": lambda a: np.sum(np.linalg.cholesky(a) ** 3),
    "eigvalsh": lambda a: np.sum(np.sqrt(np.linalg.eigvalsh(a))),
    "eigh": lambda a: np.sum(np.linalg.eigh(a)[1][..., 0] ** 3),
    "svd": lambda a: np.sum(np.linalg.svd(a, full_matrices=False)[0][..., 0] ** 3),
    "qr": lambda a: np.sum(np.linalg.qr(a)[0] ** 3),
    "pinv": lambda a: np.sum(np.linalg.pinv(a) ** 2),
}


def matrices(n: int, count: int) -> np.ndarray:
    """Symmetric, positive definite, condition about ten."""
    a = np.random.default_rng(n).normal(size=(count, n, n)) / n**0.5
    a = a @ np.swapaxes(a, 1, 2) + 0.5 * np.eye(n)
    return a if count > 1 else a[0]


class Run:
    """Collects the figures, and gradients to compare with differences."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}

    def measure(self, settings: dict[str, Any], make: Callable[[Callable[[Any], Any]], dict[str, Any]]) -> None:
        """`make(f)` gives what is to be timed, by name: functions of the matrices."""
        share = settings["budget"] / len(FUNCTIONS) / len(settings["sizes"]) / 2
        for n, count in settings["sizes"]:
            a = matrices(n, count)
            for name, f in FUNCTIONS.items():
                case = f"{name} of {count} x ({n} x {n})"
                for what, call in make(f).items():
                    scale = iter(1.0 + 1e-3 * np.arange(1, 10_000))
                    call(a)
                    seconds = samples(lambda: call(next(scale) * a), settings["repeats"], share)  # noqa: B023
                    self.figures.append(figure(case + what, seconds, count, "item", role=case))


def numpy(settings: dict[str, Any]) -> Run:
    """The functions themselves."""
    run = Run()
    run.measure(settings, lambda f: {"": f})
    return run


def distdiff(settings: dict[str, Any]) -> Run:
    """Their gradients."""
    import distdiff as dd

    run = Run()
    run.measure(settings, lambda f: {"": dd.grad(f), ", again": dd.recorded(f).grad})
    return run


TOOLS = {"numpy": numpy, "distdiff": distdiff}
