"""Eigenvalues and eigenvectors of symmetric matrices, of one of their triangles.

    A = V diag(w) V^T       P = V^T Adot V,  F_ij = 1 / (w_j - w_i), 0 on the diagonal
                            wdot = diag P,  Vdot = V (F * P)
                            Abar = V (diag wbar + F * (V^T Vbar)) V^T, brought to the triangle that is read

The gauge is LAPACK's: w ascends, columns of V have length 1 and the sign that it gives them; Vdot has no part along
the vector itself.  Where eigenvalues are equal to rounding their vectors are any basis, and have no derivative; the
eigenvalues then have that of this basis, which is right for functions that are symmetric in them (traces, norms,
determinants, sums of the k largest that take all or none), and one of several, as at any kink, for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ops import Shaped
from ..array import is_traced
from ..joint import joint
from .shared import column_scaled, diagonal, gaps, on_diagonal, plain, times, transpose

DRIVERS = ("", "evr")


def eigh_of(a: np.ndarray, lower: bool, driver: str) -> tuple[np.ndarray, np.ndarray]:
    """w and V of plain matrices (..., n, n), real or complex."""
    if not driver:
        w, v = np.linalg.eigh(a, "L" if lower else "U")
        return w, v
    from scipy.linalg import eigh

    w, v = np.empty(a.shape[:-1]), np.empty_like(a)
    for k in np.ndindex(a.shape[:-2]):
        w[k], v[k] = eigh(a[k], lower=lower, driver=driver)
    return w, v


@dataclass(frozen=True)
class Eigh(Shaped):
    """w (n,) and V (n, n) of the lower or the upper triangle of a matrix (n, n).

    driver: LAPACK's, on which the gauge depends: "" is NumPy's, others are SciPy's by their names.
    """

    n: int
    lower: bool = True
    driver: str = ""
    name = "eigh"
    signature = "(n,n)->(n),(n,n)"
    reads = frozenset((-1,))

    def __post_init__(self) -> None:
        if self.driver not in DRIVERS:
            raise ValueError(f"no driver {self.driver!r}")

    @property
    def lines(self) -> int:
        return 10 * self.n**3

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return eigh_of(x[0], self.lower, self.driver)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        w, v = y
        inner = _rotated(v, xdot[0], self.lower)
        return diagonal(inner), times(v, gaps(w, None, "eigenvector") * inner)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        (w, v), (wbar, vbar) = y, ybar
        if vbar is None or not is_traced(vbar) and not np.any(vbar):
            return (_unrotated(v, column_scaled(v, wbar), self.lower),) if wbar is not None else (None,)
        inner = gaps(w, vbar, "eigenvector") * times(transpose(v), vbar)
        if wbar is not None:
            inner = inner + on_diagonal(wbar)
        return (_unrotated(v, times(v, inner), self.lower),)


@dataclass(frozen=True)
class Eigvalsh(Shaped):
    """w (n,) alone; V is a second result, which is for the rules and is not handed out."""

    n: int
    lower: bool = True
    name = "eigvalsh"
    signature, lines = Eigh.signature, Eigh.lines

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return Eigh(self.n, self.lower).value(*x)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return diagonal(_rotated(self._vectors(y, x), xdot[0], self.lower)), None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[0] is None:
            return (None,)
        v = self._vectors(y, x)
        return (_unrotated(v, column_scaled(v, ybar[0]), self.lower),)

    def _vectors(self, y: Sequence[Any], x: Sequence[Any]) -> Any:
        """V; in a trace as a result that has derivatives itself."""
        if not is_traced(x[0]):
            return y[1]
        return joint(Eigh(self.n, self.lower), (x[0],), values=[plain(part) for part in y])[1]


def _triangle(n: int, lower: bool) -> np.ndarray:
    kept = np.tri(n) - 0.5 * np.eye(n)
    return kept if lower else kept.T


def _rotated(v: Any, change: Any, lower: bool) -> Any:
    """V^T Adot V, of one triangle of Adot."""
    half = change * _triangle(v.shape[-1], lower)
    return times(transpose(v), times(half + transpose(half), v))


def _unrotated(v: Any, scaled: Any, lower: bool) -> Any:
    """V M V^T, given V M, as an adjoint of one triangle."""
    g = times(scaled, transpose(v))
    return (g + transpose(g)) * _triangle(v.shape[-1], lower)


__all__ = ["DRIVERS", "Eigh", "Eigvalsh", "eigh_of"]
