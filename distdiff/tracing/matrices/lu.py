"""A x = b, det A and log |det A| by LU factorization with partial pivoting.

    x = A^-1 b       xdot = A^-1 (bdot - Adot x)             lam = A^-T xbar,  bbar = lam,  Abar = -lam x^T
    C = dd/dA        the cofactors of A, det(A) A^-T where A has an inverse (`minors`)
    l = log |det A|  ldot = tr(A^-1 Adot)                    Abar = lbar A^-T
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import NotDifferentiableError
from ...ops import Shaped
from ...ops.elemental import Pattern
from ..joint import applied
from . import kernels, minors
from .shared import by_columns, in_columns, plain, scalar, svd, times, trace_of, transpose
from .triangular import Triangular

NEARLY = 1e-8  # smallest over largest element of U's diagonal below which cofactors come from singular values, and
SOMEWHAT = 1e-3  # ... below which their derivatives do: elements of order 1 / this squared cancel in them


@dataclass(frozen=True)
class Factors(Shaped):
    """P A = L U of a matrix (n, n), (n + 1, n): see `kernels.lu`.  Nothing depends on it differentiably."""

    n: int
    name = "factorization"
    signature = "(n,n)->(n+1,n)"
    reads = frozenset()
    inert = frozenset((0,))

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return (kernels.lu(x[0]),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return (None,)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return (None,)

    def pattern(self, k: int) -> Pattern:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)

    def entries(self, k: int, y: Sequence[np.ndarray], x: Sequence[np.ndarray]) -> np.ndarray:
        return np.empty(0)


class _Factorized(Shaped):
    """A function of a matrix (operand 1) that reads its factors (operand 0)."""

    n: int
    reads = frozenset((0, 1))
    inert = frozenset((0,))

    def _inverse(self, x: Sequence[Any]) -> Any:
        """A^-T, from the factors that are there."""
        try:
            return applied(Solve(self.n, self.n, True), x[0], x[1], np.eye(self.n))[0]
        except np.linalg.LinAlgError:
            raise NotDifferentiableError(f"a derivative of {self.name} is wanted at a singular matrix, where it has "
                                         "none; move away from that point, or use det") from None


@dataclass(frozen=True)
class Solve(_Factorized):
    """A x = b, or A^T x = b, for m right-hand sides: operands are A's factors, A, and b (n, m).  LinAlgError where A is
    singular."""

    n: int
    m: int
    transposed: bool = False
    name = "solve"
    signature = "(n+1,n),(n,n),(n,m)->(n,m)"
    reads = frozenset((-1, 0, 1))

    @property
    def lines(self) -> int:
        return 2 * self.n * self.n * self.m

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return (kernels.solve(x[0], x[2], self.transposed),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        right = xdot[2]
        if xdot[1] is not None:
            change = times(transpose(xdot[1]) if self.transposed else xdot[1], y[0])
            right = -change if right is None else right - change
        return applied(self, x[0], x[1], right)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        lam = applied(replace(self, transposed=not self.transposed), x[0], x[1], ybar[0])[0]
        if not wanted[1]:
            return None, None, lam
        change = times(-y[0], transpose(lam)) if self.transposed else times(-lam, transpose(y[0]))
        return None, change, lam

    def pattern(self, k: int) -> Pattern | None:
        if k == 2 and self.m > 1:
            return by_columns(self.n, self.m)
        return (np.empty(0, dtype=np.int64),) * 2 if k == 0 else None

    def entries(self, k: int, y: Sequence[np.ndarray], x: Sequence[np.ndarray]) -> np.ndarray:
        inverse = kernels.solve(x[0], np.eye(self.n), self.transposed)
        return in_columns(inverse, self.m) if k == 2 else np.empty(0)


@dataclass(frozen=True)
class Det(_Factorized):
    """det A, with derivatives of every order at singular matrices too."""

    n: int
    name = "det"
    signature = "(n+1,n),(n,n)->()"

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return (kernels.sign_of(x[0]) * np.prod(kernels.diagonal_of(x[0]), axis=-1),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return (trace_of(applied(Cofactors(self.n), *x)[0], xdot[1]),)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return None, scalar(ybar[0]) * applied(Cofactors(self.n), *x)[0]


@dataclass(frozen=True)
class Cofactors(Shaped):
    """C_k of `minors`: the cofactors of A, or their derivative in k directions, the operands after A.

    By A's factors, or by singular values where it is nearly singular.
    """

    n: int
    k: int = 0
    name = "det"
    inert = frozenset((0,))

    def __post_init__(self) -> None:
        minors.check(self.k)

    @property
    def signature(self) -> str:  # type: ignore[override]
        return f"(n+1,n),(n,n){',(n,n)' * self.k}->(n,n)"

    @property
    def reads(self) -> frozenset[int]:
        return frozenset(range(self.k + 2))

    @property
    def lines(self) -> int:
        return minors.lines(self.n, self.k)

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        factors, a, *directions = x
        d = np.abs(kernels.diagonal_of(factors))
        few = self.k and self.n ** (self.k + 1) <= minors.LARGEST
        if (d.min(axis=-1) > (SOMEWHAT if few else NEARLY) * d.max(axis=-1)).all():
            det, = Det(self.n).value(factors, a)
            return (minors.by_inverse(det, kernels.solve(factors, np.eye(self.n), False), directions),)
        return (minors.by_singular_values(*svd(a), directions),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        total = None
        for place, change in enumerate(xdot[1:], 1):
            term = None
            if change is not None and place > 1:
                term, = applied(self, *(change if j == place else part for j, part in enumerate(x)))
            elif change is not None and self.k + 1 < self.n:
                term, = applied(replace(self, k=self.k + 1), *x, change)
            total = term if total is None else total if term is None else total + term
        return (total,)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        bars: list[Any] = [None] * len(x)
        if wanted[1] and self.k + 1 < self.n:
            bars[1], = applied(replace(self, k=self.k + 1), *x, ybar[0])
        for place in range(2, len(x)):
            if wanted[place]:
                bars[place], = applied(self, *(ybar[0] if j == place else part for j, part in enumerate(x)))
        return bars


@dataclass(frozen=True)
class LogDet(_Factorized):
    """The sign of det A, which has no derivative, and log |det A|."""

    n: int
    name = "slogdet"
    signature = "(n+1,n),(n,n)->(),()"

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        d = kernels.diagonal_of(x[0])
        with np.errstate(divide="ignore"):
            return kernels.sign_of(x[0]) * np.prod(np.sign(d), axis=-1), np.sum(np.log(np.abs(d)), axis=-1)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return None, trace_of(self._inverse(x), xdot[1])

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return None, None if ybar[1] is None else scalar(ybar[1]) * self._inverse(x)


@dataclass(frozen=True)
class PackedLu(Shaped):
    """P A = L U as results that have derivatives: L (unit diagonal) and U in one square (n, n), and the order of the
    rows, (n,), which has none.

        X = L^-1 P Adot U^-1        Ldot = L tril(X, -1),  Udot = triu(X) U
        M = tril(L^T Lbar, -1) + triu(Ubar U^T)            Abar = P^T L^-T M U^-T
    """

    n: int
    name = "lu"
    signature = "(n,n)->(n,n),(n)"
    reads = frozenset((-1,))

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        factors = kernels.lu(x[0])
        return factors[..., :-1, :], factors[..., -1, :]

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        lower, upper = self._triangles(y)
        half = self._solved(y, times(self._order(y), xdot[0]), True, False)
        inner = transpose(self._solved(y, transpose(half), False, True))
        return times(lower, inner * np.tri(self.n, k=-1)) + times(inner * np.tri(self.n).T, upper), None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[0] is None:
            return (None,)
        lower, upper = self._triangles(y)
        strict, rest = np.tri(self.n, k=-1), np.tri(self.n).T
        inner = times(transpose(lower), ybar[0] * strict) * strict + times(ybar[0] * rest, transpose(upper)) * rest
        half = transpose(self._solved(y, transpose(inner), False, False))
        return (times(transpose(self._order(y)), self._solved(y, half, True, True)),)

    def _triangles(self, y: Sequence[Any]) -> tuple[Any, Any]:
        return y[0] * np.tri(self.n, k=-1) + np.eye(self.n), y[0] * np.tri(self.n).T

    def _order(self, y: Sequence[Any]) -> np.ndarray:
        return np.eye(self.n)[plain(y[1]).astype(int)]

    def _solved(self, y: Sequence[Any], b: Any, lower: bool, transposed: bool) -> Any:
        """L^-1 b, U^-1 b or those of the transposes."""
        return applied(Triangular(self.n, self.n, lower, transposed, lower), y[0], b)[0]


__all__ = ["Cofactors", "Det", "Factors", "LogDet", "PackedLu", "Solve"]
