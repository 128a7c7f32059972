"""A x = b, det A and log |det A| by LU factorization with partial pivoting.

    x = A^-1 b       xdot = A^-1 (bdot - Adot x)             lam = A^-T xbar,  bbar = lam,  Abar = -lam x^T
    C = dd/dA        the cofactors of A, det(A) A^-T where A has an inverse (Jacobi's formula)
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
from . import kernels
from .shared import by_columns, in_columns, plain, scalar, times, trace_of, transpose
from .triangular import Triangular

NEARLY = 1e-8  # smallest over largest element of U's diagonal below which cofactors come from singular values


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

    def _inverse(self, x: Sequence[Any], order: str) -> Any:
        """A^-T, from the factors that are there."""
        try:
            return applied(Solve(self.n, self.n, True), x[0], x[1], np.eye(self.n))[0]
        except np.linalg.LinAlgError:
            raise NotDifferentiableError(f"{order} of {self.name} is wanted at a singular matrix, where it has "
                                         "none, or none that is known here; move away from that point") from None


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
    """det A.  At a singular matrix the first derivative is there, too: the cofactors, from singular values."""

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
class Cofactors(_Factorized):
    """C = det(A) A^-T."""

    n: int
    name = "det"
    signature = "(n+1,n),(n,n)->(n,n)"
    reads = frozenset((-1, 0, 1))

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        factors, a = x
        d = np.abs(kernels.diagonal_of(factors))
        regular = d.min(axis=-1) > NEARLY * d.max(axis=-1)
        if regular.all():
            det, = Det(self.n).value(factors, a)
            return (scalar(det) * kernels.solve(factors, np.eye(self.n), True),)
        u, s, v = np.linalg.svd(a)
        others = np.repeat(s[..., None, :], self.n, axis=-2)
        others[..., np.arange(self.n), np.arange(self.n)] = 1.0
        sign = np.rint(np.linalg.det(u) * np.linalg.det(v))
        return (scalar(sign) * np.matmul(u * np.prod(others, axis=-1)[..., None, :], v),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        inverse = self._inverse(x, "a second derivative")
        change = times(times(y[0], transpose(xdot[1])), inverse)
        return (scalar(trace_of(y[0], xdot[1])) * inverse - change,)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        inverse = self._inverse(x, "a second derivative")
        change = times(times(y[0], transpose(ybar[0])), inverse)
        return None, scalar(trace_of(ybar[0], inverse)) * y[0] - change


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
        return None, trace_of(self._inverse(x, "a derivative"), xdot[1])

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return None, None if ybar[1] is None else scalar(ybar[1]) * self._inverse(x, "a derivative")


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
