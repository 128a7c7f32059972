"""Singular values and vectors, and the pseudoinverse.

    A = U diag(s) V^T       P = U^T Adot V,  F_ij = 1 / (s_j^2 - s_i^2), 0 on the diagonal,  S = diag s
                            sdot = diag P
                            Udot = U (F * (P S + S P^T)) + (I - U U^T) Adot V S^-1
                            Vdot = V (F * (S P + P^T S)) + (I - V V^T) Adot^T U S^-1

(Townsend, "Differentiating the singular value decomposition", 2016), adjoints by transposing.  The gauge is LAPACK's:
s descends, pairs of columns of U and V have the signs that it gives them.  Vectors of equal singular values, or of
zeros where A is not square, have no derivative; the values then have that of LAPACK's vectors (see `symmetric`).

    P = A^+                 Pdot = -P Adot P + P P^T Adot^T (I - A P) + (I - P A) Adot^T P^T P

(Golub and Pereyra, 1973), while the rank is full; at lower ranks A^+ jumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import NotDifferentiableError
from ...ops import Shaped
from ..array import is_traced
from ..joint import joint
from .shared import ROUNDING, column_scaled, diagonal, gaps, on_diagonal, plain, times, transpose


@dataclass(frozen=True)
class Svd(Shaped):
    """U (m, k), s (k,) and V^T (k, n) of a matrix (m, n), k = min(m, n)."""

    m: int
    n: int
    name = "svd"
    signature = "(m,n)->(m,k),(k),(k,n)"
    reads = frozenset((-1,))

    @property
    def k(self) -> int:
        return min(self.m, self.n)

    @property
    def lines(self) -> int:
        return 20 * self.m * self.n * min(self.m, self.n)

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        return tuple(np.linalg.svd(x[0], full_matrices=False))

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        u, s, vt = y
        right = times(xdot[0], transpose(vt))
        p = times(transpose(u), right)
        f = gaps(s, None, "singular vector", np.square)
        ps, sp = column_scaled(p, s), s[..., :, None] * p
        udot = times(u, f * (ps + transpose(ps)))
        vtdot = times(f * -(sp + transpose(sp)), vt)
        if self.m > self.n:
            udot = udot + column_scaled(right - times(u, p), self._inverse(s, None))
        if self.n > self.m:
            left = times(transpose(u), xdot[0])
            vtdot = vtdot + self._inverse(s, None)[..., :, None] * (left - times(p, vt))
        return udot, diagonal(p), vtdot

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        (u, s, vt), (ubar, sbar, vtbar) = y, (_used(part) for part in ybar)
        inner = None if sbar is None else on_diagonal(sbar)
        rest = None
        if ubar is not None:
            turn = times(transpose(u), ubar)
            term = column_scaled(gaps(s, ubar, "singular vector", np.square) * (turn - transpose(turn)), s)
            inner = term if inner is None else inner + term
            if self.m > self.n:
                rest = times(column_scaled(ubar - times(u, turn), self._inverse(s, ubar)), vt)
        if vtbar is not None:
            vbar = transpose(vtbar)
            turn = times(vt, vbar)
            term = s[..., :, None] * (gaps(s, vbar, "singular vector", np.square) * (turn - transpose(turn)))
            inner = term if inner is None else inner + term
            if self.n > self.m:
                term = times(u, self._inverse(s, vbar)[..., :, None] * (vtbar - times(transpose(turn), vt)))
                rest = term if rest is None else rest + term
        if inner is None:
            return (None,)
        total = times(times(u, inner), vt)
        return (total if rest is None else total + rest,)

    def _inverse(self, s: Any, cotangent: Any) -> Any:
        """1 / s, for vectors that turn out of the space of all: not where s is zero to rounding."""
        values = plain(s)
        zero = values <= ROUNDING * max(self.m, self.n) * np.max(values, axis=-1, keepdims=True, initial=0.0)
        used = np.ones(zero.shape, dtype=bool) if cotangent is None or is_traced(cotangent) else np.any(cotangent, -2)
        if np.any(zero & used):
            raise NotDifferentiableError(
                f"the derivative of singular vectors of a {self.m} x {self.n} matrix is wanted that belong to the "
                "singular value 0: they are any basis, and have no derivative. Use the singular values alone, or the "
                "vectors of others")
        return np.where(zero, 0.0, 1.0) / np.where(zero, 1.0, s)


class Svdvals(Svd):
    """s (k,) alone; U and V^T are further results, which are for the rules and are not handed out."""

    name = "singular values"
    reads = frozenset((-1, 0))

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        u, vt = self._vectors(y, x)
        return None, diagonal(times(transpose(u), times(xdot[0], transpose(vt)))), None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[1] is None:
            return (None,)
        u, vt = self._vectors(y, x)
        return (times(column_scaled(u, ybar[1]), vt),)

    def _vectors(self, y: Sequence[Any], x: Sequence[Any]) -> tuple[Any, Any]:
        """U and V^T; in a trace as results that have derivatives themselves."""
        if not is_traced(x[0]):
            return y[0], y[2]
        u, _, vt = joint(Svd(self.m, self.n), (x[0],), values=[plain(part) for part in y])
        return u, vt


@dataclass(frozen=True)
class Pinv(Shaped):
    """A^+ (n, m) of a matrix (m, n), singular values up to `rcond` times the largest taken for zero, and the rank."""

    m: int
    n: int
    rcond: float
    name = "pinv"
    signature = "(m,n)->(n,m),()"

    @property
    def lines(self) -> int:
        return 20 * self.m * self.n * min(self.m, self.n)

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        u, s, vt = np.linalg.svd(x[0], full_matrices=False)
        large = s > self.rcond * np.max(s, axis=-1, keepdims=True, initial=0.0)
        inverse = np.where(large, 1.0, 0.0) / np.where(large, s, 1.0)
        return np.matmul(transpose(vt), inverse[..., None] * transpose(u)), np.sum(large, axis=-1).astype(float)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        p, a, change = self._regular(y), x[0], xdot[0]
        total = -times(times(p, change), p)
        if self.m > self.n:
            left = times(times(p, transpose(p)), transpose(change))
            total = total + left - times(times(left, a), p)
        if self.n > self.m:
            right = times(transpose(change), times(transpose(p), p))
            total = total + right - times(p, times(a, right))
        return total, None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[0] is None:
            return (None,)
        p, a, pbar = self._regular(y), x[0], ybar[0]
        total = -times(times(transpose(p), pbar), transpose(p))
        if self.m > self.n:
            left = times(transpose(pbar), times(p, transpose(p)))
            total = total + left - times(a, times(p, left))
        if self.n > self.m:
            right = times(times(transpose(p), p), transpose(pbar))
            total = total + right - times(times(right, p), a)
        return (total,)

    def _regular(self, y: Sequence[Any]) -> Any:
        """A^+, where it has a derivative."""
        rank = np.min(plain(y[1]), initial=min(self.m, self.n))
        if rank < min(self.m, self.n):
            raise NotDifferentiableError(
                f"a derivative of pinv is wanted at a {self.m} x {self.n} matrix of rank {rank:g}: a pseudoinverse "
                "jumps where the rank is not full. Regularize (A^T A + c I), or move away from that point")
        return y[0]


def _used(cotangent: Any) -> Any:
    """An adjoint, or None where it is zero all over."""
    return None if cotangent is None or not is_traced(cotangent) and not np.any(cotangent) else cotangent


__all__ = ["Pinv", "Svd", "Svdvals"]
