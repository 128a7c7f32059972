"""A = Q R of matrices with at least as many rows as columns.

    X = Adot R^-1,  C = Q^T X,  W = tril(C, -1) - tril(C, -1)^T
                            Qdot = X - Q C + Q W,  Rdot = (C - W) R
    M = R Rbar^T - Qbar^T Q
                            Abar = (Qbar + Q (tril(M) + tril(M, -1)^T)) R^-T

(Walter and Lehmann, "Algorithmic differentiation of linear algebra functions", 2018).  The gauge is LAPACK's: the
diagonal of R has the signs that Householder's reflections give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import NotDifferentiableError
from ...ops import Shaped
from ..joint import applied
from .shared import ROUNDING, plain, times, transpose
from .triangular import Triangular


@dataclass(frozen=True)
class Qr(Shaped):
    """Q (m, n) and R (n, n) of a matrix (m, n), m >= n."""

    m: int
    n: int
    name = "qr"
    signature = "(m,n)->(m,n),(n,n)"
    reads = frozenset((-1,))

    @property
    def lines(self) -> int:
        return 4 * self.m * self.n * self.n

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return tuple(np.linalg.qr(x[0]))

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        q, r = y
        turned = transpose(self._solved(r, transpose(xdot[0]), True))
        c = times(transpose(q), turned)
        lower = c * np.tri(self.n, k=-1)
        w = lower - transpose(lower)
        return turned - times(q, c - w), times(c - w, r)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        (q, r), (qbar, rbar) = y, ybar
        if rbar is not None:
            m = times(r, transpose(rbar))
            m = m if qbar is None else m - times(transpose(qbar), q)
        elif qbar is not None:
            m = -times(transpose(qbar), q)
        else:
            return (None,)
        total = times(q, m * np.tri(self.n) + transpose(m * np.tri(self.n, k=-1)))
        total = total if qbar is None else total + qbar
        return (transpose(self._solved(r, transpose(total), False)),)

    def _solved(self, r: Any, b: Any, transposed: bool) -> Any:
        """R^-1 b or R^-T b."""
        d = np.abs(np.diagonal(plain(r), axis1=-2, axis2=-1))
        if np.any(d.min(axis=-1) <= ROUNDING * self.n * d.max(axis=-1)):
            raise NotDifferentiableError(
                f"a derivative of qr is wanted at a {self.m} x {self.n} matrix whose columns are linearly dependent: Q "
                "is not determined there, and has none. Move away from that point, or use what needs no Q (A^T A)")
        return applied(Triangular(self.n, b.shape[-1], False, transposed), r, b)[0]


@dataclass(frozen=True)
class FullQr(Qr):
    """The same, m > n, and the further columns of Q, (m, m - n), that complete a basis: any that do."""

    name = "qr"
    undetermined = frozenset((2,))
    undetermined_because = "complete a basis, which are any that do, and have no derivative; use mode='reduced'"

    @property
    def rest(self) -> int:
        return self.m - self.n

    @property
    def signature(self) -> str:  # type: ignore[override]
        return f"{Qr.signature},(m,rest)"

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        q, r = np.linalg.qr(x[0], "complete")
        return q[..., : self.n], r[..., : self.n, :], q[..., self.n :]

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return *Qr.tangent(self, y[:2], x, xdot), None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return Qr.adjoint(self, y[:2], x, ybar[:2], wanted)


__all__ = ["FullQr", "Qr"]
