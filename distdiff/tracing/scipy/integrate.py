"""scipy.integrate: SciPy's own code is traced, but for what it makes plain numbers of, or writes into plain arrays."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..array import is_traced
from ..decisions import decide
from .replacing import Rule, also_plain, parts_apart


def basic_simpson(y: Any, start: int, stop: int, x: Any, dx: Any, axis: int) -> Any:
    """Simpson's rule on intervals start, start + 2, ... before stop, of any lengths."""

    def part(a: Any, first: int, last: int) -> Any:
        return a[tuple(slice(first, last, 2) if k == axis % a.ndim else slice(None) for k in range(a.ndim))]

    y0, y1, y2 = (part(y, (start or 0) + k, stop + k) for k in range(3))
    if x is None:
        return np.sum(y0 + 4.0 * y1 + y2, axis) * (dx / 3.0)
    h = np.diff(x, axis=axis)
    h0, h1 = part(h, start or 0, stop), part(h, (start or 0) + 1, stop + 1)
    whole, zero = h0 + h1, decide(np.logical_or(np.equal(h0, 0.0), np.equal(h1, 0.0)))
    if np.any(zero):
        (h if is_traced(h) else y).rec.unsupported("scipy.integrate.simpson with equal neighbours among x",
                                                   "the weights of their samples are discontinuous there")
    return np.sum(whole / 6.0 * (y0 * (2.0 - h1 / h0) + y1 * (whole * whole / (h0 * h1)) + y2 * (2.0 - h0 / h1)), axis)


@also_plain
@parts_apart
def collocation(fun: Callable[..., Any], t: Any, y: Any, h: Any, Z0: Any, scale: Any, tol: Any, LU_real: Any,
                LU_complex: Any, solve_lu: Callable[..., Any]) -> tuple[bool, int, Any, Any]:
    """A step of Radau IIA: simplified Newton iteration for its three stages Z, in the basis W = T^-1 Z in which the
    system falls apart into a real and a complex one (Hairer and Wanner, Solving Ordinary Differential Equations II,
    IV.8).  What it decides by, and gives, is what SciPy's does: (converged, iterations, Z, rate).
    """
    radau: Any = sys.modules["scipy.integrate._ivp.radau"]
    W, Z = radau.TI @ Z0, Z0
    size = rate = None
    converged = False
    for k in range(radau.NEWTON_MAXITER):
        F = np.stack([fun(t + h * c, y + z) for c, z in zip(radau.C, Z)])
        if not np.all(np.isfinite(F)):
            break
        real = solve_lu(LU_real, F.T @ radau.TI_REAL - radau.MU_REAL / h * W[0])
        pair = solve_lu(LU_complex, F.T @ radau.TI_COMPLEX - radau.MU_COMPLEX / h * (W[1] + 1j * W[2]))
        change = np.stack([real, pair.real, pair.imag])
        before, size = size, np.linalg.norm(change / scale) / (3 * len(y)) ** 0.5
        rate = rate if before is None else size / before
        left = radau.NEWTON_MAXITER - k
        if rate is not None and (rate >= 1 or rate**left / (1 - rate) * size > tol):
            break
        W = W + change
        Z = radau.T @ W
        if size == 0 or rate is not None and rate / (1 - rate) * size < tol:
            converged = True
            break
    return converged, k + 1, Z, rate


RULES: dict[str, Rule] = {
    "scipy.integrate._quadrature:_basic_simpson": basic_simpson,
    "scipy.integrate._ivp.radau:solve_collocation_system": collocation,
}
