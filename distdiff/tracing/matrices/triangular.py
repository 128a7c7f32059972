"""Triangular solves and the Cholesky factorization.

    T x = b          xdot = T^-1 (bdot - Tdot x)             lam = T^-T xbar,  bbar = lam,  Tbar = -tri(lam x^T)
    A = L L^T        Ldot = L phi(L^-1 Adot L^-T)            Abar from G = L^-T phi(L^T Lbar) L^-1

phi keeps the lower triangle, half of the diagonal (Murray, arXiv:1602.07527).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...ops import Shaped
from ...ops.elemental import Pattern
from ..joint import applied
from . import kernels
from .shared import by_columns, in_columns, times, transpose


@dataclass(frozen=True)
class Triangular(Shaped):
    """T x = b, or T^T x = b, for m right-hand sides: operands are A (n, n), of which T is one triangle, and b (n, m).

    unit: the diagonal is taken for ones.  The rest of A is not read.  LinAlgError where T is singular.
    """

    n: int
    m: int
    lower: bool
    transposed: bool = False
    unit: bool = False
    name = "triangular solve"
    signature = "(n,n),(n,m)->(n,m)"
    reads = frozenset((-1, 0))

    @property
    def lines(self) -> int:
        return self.n * self.n * self.m

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return (kernels.solve_triangular(x[0], x[1], self.lower, self.transposed, self.unit),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        right = xdot[1]
        if xdot[0] is not None:
            t = xdot[0] * self._triangle
            change = times(transpose(t) if self.transposed else t, y[0])
            right = -change if right is None else right - change
        return applied(self, x[0], right)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        lam = applied(replace(self, transposed=not self.transposed), x[0], ybar[0])[0]
        if not wanted[0]:
            return None, lam
        change = times(-y[0], transpose(lam)) if self.transposed else times(-lam, transpose(y[0]))
        return change * self._triangle, lam

    def pattern(self, k: int) -> Pattern | None:
        return by_columns(self.n, self.m) if k == 1 and self.m > 1 else None

    def entries(self, k: int, y: Sequence[np.ndarray], x: Sequence[np.ndarray]) -> np.ndarray:
        return in_columns(self.value(x[0], np.eye(self.n))[0], self.m)

    @property
    def _triangle(self) -> np.ndarray:
        kept = np.tri(self.n, k=-1 if self.unit else 0)
        return kept if self.lower else kept.T


@dataclass(frozen=True)
class Indefinite(Shaped):
    """1 where a matrix has no Cholesky factor, by its lower triangle, and 0 where it has one."""

    n: int
    name = "indefinite"
    signature = "(n,n)->()"
    reads = frozenset()
    inert = frozenset((0,))

    @property
    def lines(self) -> int:
        return self.n**3

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        found = np.zeros(x[0].shape[:-2])
        for k in np.ndindex(found.shape):
            try:
                np.linalg.cholesky(x[0][k])
            except np.linalg.LinAlgError:
                found[k] = 1.0
        return (found,)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return (None,)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return (None,)


@dataclass(frozen=True)
class Cholesky(Shaped):
    """L with A = L L^T, of the lower triangle of A, which is all that is read: an upper triangle has no derivative.

    LinAlgError where A is not positive definite.
    """

    n: int
    name = "cholesky"
    signature = "(n,n)->(n,n)"
    reads = frozenset((-1,))

    @property
    def lines(self) -> int:
        return self.n**3

    @property
    def fails(self) -> Indefinite:
        return Indefinite(self.n)

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return (np.linalg.cholesky(x[0]),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        change = xdot[0] * _phi(self.n)
        half = self._left(y[0], change + transpose(change))
        return (times(y[0], self._left(y[0], transpose(half)) * _phi(self.n)),)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        inner = times(transpose(y[0]), ybar[0]) * _phi(self.n)
        half = self._left(y[0], inner, True)
        g = self._left(y[0], transpose(half), True)
        return ((g + transpose(g)) * _phi(self.n),)

    def _left(self, factor: Any, b: Any, transposed: bool = False) -> Any:
        return applied(Triangular(self.n, self.n, True, transposed), factor, b)[0]


def _phi(n: int) -> np.ndarray:
    return np.tri(n) - 0.5 * np.eye(n)


__all__ = ["Cholesky", "Indefinite", "Triangular"]
