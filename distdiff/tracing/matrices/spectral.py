"""Eigenvalues and eigenvectors of matrices whose eigenvalues are all real.

    A V = V diag(w)         C = V^-1 Adot V,  F_ij = 1 / (w_j - w_i), 0 on the diagonal
                            wdot = diag C,  Vdot = V (F * C), without its part along the vectors, which keep length 1
                            Abar = V^-T (diag wbar + F * (V^T Vbar)) V^T

The gauge is LAPACK's, in which the order of the eigenvalues is whatever its iteration ends with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import NotDifferentiableError, UnsupportedOperationError
from ...ops import Shaped
from ..array import is_traced
from ..joint import applied, joint
from .lu import Factors, Solve
from .shared import diagonal, gaps, on_diagonal, plain, times, transpose

DEFECTIVE = 1e7  # condition of V from which on A is taken for one that has no basis of eigenvectors


@dataclass(frozen=True)
class Eig(Shaped):
    """w (n,) and V (n, n), columns of length 1.  UnsupportedOperationError where an eigenvalue is complex."""

    n: int
    name = "eig"
    signature = "(n,n)->(n),(n,n)"
    reads = frozenset((-1,))

    @property
    def lines(self) -> int:
        return 25 * self.n**3

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        w, v = np.linalg.eig(x[0])
        if w.dtype.kind == "c":
            k = np.argwhere(w.imag != 0.0)[0]
            raise UnsupportedOperationError(
                f"a real matrix of order {self.n} has complex eigenvalues here ({w[tuple(k)]:.4g} among them), and "
                "traced values are real; use numpy.linalg.eigh for a symmetric matrix, or what needs no eigenvalues "
                "(det, trace, solve, scipy.linalg.expm)")
        return w, v

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        w, v = y
        c = self._left(v, times(xdot[0], v))
        turn = times(v, gaps(w, None, "eigenvector") * c)
        return diagonal(c), self._across(v, turn)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        (w, v), (wbar, vbar) = y, ybar
        inner = None if wbar is None else on_diagonal(wbar)
        if vbar is not None and (is_traced(vbar) or np.any(vbar)):
            term = gaps(w, vbar, "eigenvector") * times(transpose(v), self._across(v, vbar))
            inner = term if inner is None else inner + term
        if inner is None:
            return (None,)
        return (self._left(v, times(inner, transpose(v)), True),)

    def _across(self, v: Any, x: Any) -> Any:
        """x without its part along the vectors."""
        return x - v * np.sum(v * x, axis=-2)[..., None, :]

    def _left(self, v: Any, b: Any, transposed: bool = False) -> Any:
        """V^-1 b or V^-T b."""
        condition = np.linalg.cond(plain(v))
        if not np.all(condition < DEFECTIVE):
            raise NotDifferentiableError(
                f"a derivative of {self.name} is wanted at a matrix of order {self.n} that has, to rounding, no basis "
                f"of eigenvectors (condition {np.max(condition):.1g}): its eigenvalues have none there. Move away from "
                "that point")
        factors, = applied(Factors(self.n), v)
        return applied(Solve(self.n, self.n, transposed), factors, v, b)[0]


@dataclass(frozen=True)
class Eigvals(Eig):
    """w (n,) alone; V is a second result, which is for the rules and is not handed out."""

    name = "eigvals"
    reads = frozenset((-1, 0))

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        v = self._vectors(y, x)
        return diagonal(self._left(v, times(xdot[0], v))), None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[0] is None:
            return (None,)
        v = self._vectors(y, x)
        return (self._left(v, times(on_diagonal(ybar[0]), transpose(v)), True),)

    def _vectors(self, y: Sequence[Any], x: Sequence[Any]) -> Any:
        """V; in a trace as a result that has derivatives itself."""
        if not is_traced(x[0]):
            return y[1]
        return joint(Eig(self.n), (x[0],), values=[plain(part) for part in y])[1]


__all__ = ["Eig", "Eigvals"]
