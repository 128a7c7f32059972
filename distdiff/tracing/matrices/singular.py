"""Singular values and vectors, and the pseudoinverse.

    A = U diag(s) V^T       P = U^T Adot V,  F_ij = 1 / (s_j^2 - s_i^2), 0 on the diagonal,  S = diag s
                            sdot = diag P
                            Udot = U (F * (P S + S P^T)) + (I - U U^T) Adot V S^-1
                            Vdot = V (F * (S P + P^T S)) + (I - V V^T) Adot^T U S^-1

(Townsend, "Differentiating the singular value decomposition", 2016), adjoints by transposing.  The gauge is LAPACK's:
s descends, pairs of columns of U and V have the signs that it gives them.  Vectors of equal singular values, or of
zeros where A is not square, have no derivative; the values then have that of LAPACK's vectors (see `symmetric`).

    P = A^+                 Pdot = -P Adot P + P P^T Adot^T (I - A P) + (I - P A) Adot^T P^T P

(Golub and Pereyra, 1973), while the rank is full.  At lower ranks `PinvChange` differentiates what is computed there,
the pseudoinverse of A without its small singular values, where these are clear of the cutoff; else A^+ jumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from ...errors import NotDifferentiableError, UnsupportedOperationError
from ...ops import Shaped
from ..array import is_traced
from ..decisions import decide
from ..joint import applied, joint
from .shared import ROUNDING, column_scaled, diagonal, gaps, on_diagonal, plain, svd, times, transpose


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
        return svd(x[0], full_matrices=False)

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


@dataclass(frozen=True)
class FullSvd(Svd):
    """The same of a matrix that is not square, and further columns of U, (m, m - k), or rows of V^T, (n - k, n), that
    complete a basis: any that do."""

    name = "svd"
    undetermined = frozenset((3,))
    undetermined_because = "complete a basis, which are any that do, and have no derivative; use full_matrices=False"

    @property
    def rest(self) -> int:
        return max(self.m, self.n) - self.k

    @property
    def signature(self) -> str:  # type: ignore[override]
        return f"{Svd.signature},{'(m,rest)' if self.m > self.n else '(rest,n)'}"

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        u, s, vt = svd(x[0])
        k = self.k
        return u[..., :k], s, vt[..., :k, :], u[..., k:] if self.m > self.n else vt[..., k:, :]

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return *Svd.tangent(self, y[:3], x, xdot), None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return Svd.adjoint(self, y[:3], x, ybar[:3], wanted)


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
        u, s, vt = svd(x[0], full_matrices=False)
        large = s > self.rcond * np.max(s, axis=-1, keepdims=True, initial=0.0)
        inverse = np.where(large, 1.0, 0.0) / np.where(large, s, 1.0)
        return np.matmul(transpose(vt), inverse[..., None] * transpose(u)), np.sum(large, axis=-1).astype(float)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        p, a, change = y[0], x[0], xdot[0]
        if not self._full(y):
            return *applied(self._change, a, change), None
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
        p, a, pbar = y[0], x[0], ybar[0]
        if not self._full(y):
            return (transpose(applied(self._change, a, transpose(pbar))[0]),)
        total = -times(times(transpose(p), pbar), transpose(p))
        if self.m > self.n:
            left = times(transpose(pbar), times(p, transpose(p)))
            total = total + left - times(a, times(p, left))
        if self.n > self.m:
            right = times(times(transpose(p), p), transpose(pbar))
            total = total + right - times(times(right, p), a)
        return (total,)

    @property
    def _change(self) -> PinvChange:
        return PinvChange(self.m, self.n, self.rcond)

    def _full(self, y: Sequence[Any]) -> bool:
        """Whether all matrices have full rank, which a trace decides: each rank has a rule of its own."""
        return bool(np.all(decide(np.greater_equal(y[1], min(self.m, self.n)))))


@dataclass(frozen=True)
class PinvChange(Shaped):
    """The derivative of order k of `Pinv` in the directions E_1, ..., E_k, (m, n) each after A, at any rank: (n, m).

    [[0, A], [A^T, 0]] = W diag(w) W^T is symmetric, its eigenvalues are the singular values, their negatives and
    zeros, and h(w) = 1/w, or 0 where |w| is small, makes [[0, A^+T], [A^+, 0]] of it: the derivatives are those of a
    function of a symmetric matrix, by divided differences of h (Higham, Functions of Matrices, 2008, 3.2), in which
    kept values meet those that are left out as 1 / (w_i - w_j).  They are symmetric in all directions, so

        change in E_l     as E_l itself           change in A     one more direction
        Ebar_l = (the same in direction Ybar^T in place of E_l)^T            Abar likewise, as one more

    NotDifferentiableError where a singular value is within rounding of the cutoff.
    """

    m: int
    n: int
    rcond: float
    k: int = 1
    name = "pinv"

    def __post_init__(self) -> None:
        if not 1 <= self.k <= 3:
            raise UnsupportedOperationError("derivatives of pinv at a matrix whose rank is not full are computed up to "
                                            f"order 3; this one is of order {self.k}")

    @property
    def signature(self) -> str:  # type: ignore[override]
        return f"(m,n){',(m,n)' * self.k}->(n,m)"

    @property
    def reads(self) -> frozenset[int]:
        return frozenset(range(self.k + 1))

    @property
    def lines(self) -> int:
        return 20 * (self.m + self.n) ** (self.k + 1)

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        m, n = self.m, self.n
        u, s, vt = svd(x[0])
        kept = self._kept(s)
        zeros = np.zeros((*s.shape[:-1], abs(m - n)))
        w = np.concatenate([s, -s, zeros], axis=-1)
        large = np.concatenate([kept, kept, zeros > 0.0], axis=-1)
        v, r = transpose(vt), s.shape[-1]
        above = np.concatenate([u[..., :r], u[..., :r], u[..., r:], np.zeros((*zeros.shape[:-1], m, n - r))], axis=-1)
        below = np.concatenate([v[..., :r], -v[..., :r], np.zeros((*zeros.shape[:-1], n, m - r)), v[..., r:]], axis=-1)
        half = np.where(np.arange(m + n) < 2 * r, np.sqrt(0.5), 1.0)
        above, below = above * half, below * half
        inner = []
        for e in x[1:]:
            part = times(transpose(above), times(e, below))
            inner.append(part + transpose(part))
        letters = "abcdef"[: self.k + 1]
        terms = ",".join([f"...{letters}", *(f"...{i}{j}" for i, j in zip(letters, letters[1:]))])
        weights, total = _differences(w, large, self.k), 0.0
        for order in permutations(inner):
            total = total + np.einsum(f"{terms}->...{letters[0]}{letters[-1]}", weights, *order)
        return (times(below, times(total, transpose(above))),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        total = None
        for place, change in enumerate(xdot):
            if change is not None:
                term = self._with(x, place, change)
                total = term if total is None else total + term
        return (total,)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        direction = transpose(ybar[0])
        return [transpose(self._with(x, place, direction)) if want else None for place, want in enumerate(wanted)]

    def _with(self, x: Sequence[Any], place: int, change: Any) -> Any:
        """The same with a change in place of direction `place`, or as a further one, for 0."""
        if place == 0:
            return applied(replace(self, k=self.k + 1), *x, change)[0]
        return applied(self, *x[:place], change, *x[place + 1 :])[0]

    def _kept(self, s: np.ndarray) -> np.ndarray:
        """Which singular values are not taken for zero."""
        largest = np.max(s, axis=-1, keepdims=True, initial=0.0)
        cut, noise = self.rcond * largest, ROUNDING * max(self.m, self.n) * largest
        kept = s > cut
        near = np.any(np.abs(s - cut) <= noise, axis=-1) & ~np.all(kept, axis=-1)
        if np.any(near):
            at = tuple(np.argwhere(near)[0])
            bad = np.argmin(np.abs(s[at] - cut[at]))
            raise NotDifferentiableError(
                f"a derivative of pinv is wanted at a {self.m} x {self.n} matrix of rank {np.sum(kept[at])}, whose "
                f"singular value {s[at][bad]:.2g} is within rounding of what is taken for zero, {self.rcond:g} of the "
                f"largest, {largest[at][0]:.2g}: a pseudoinverse jumps there. Give rcond between what is to count as "
                "zero and what is not, 1e-10 say, regularize (A^T A + c I), or move away from that point")
        return kept


def _differences(w: np.ndarray, kept: np.ndarray, k: int) -> np.ndarray:
    """Divided differences of order k of h, 1/w of values that are kept and 0 of others: (..., N, ..., N), by which
    k + 1 of them."""
    count, n = k + 1, w.shape[-1]

    def along(x: np.ndarray, axis: int) -> np.ndarray:
        return x.reshape(*x.shape[:-1], *(n if a == axis else 1 for a in range(count)))

    inverse = np.where(kept, 1.0, 0.0) / np.where(kept, w, 1.0)
    if k == 0:
        return inverse
    result: Any = (-1.0) ** k
    for axis in range(count):
        result = result * along(inverse, axis)  # 0 where one is not kept
    lower = _differences(w, kept, k - 1)
    for axis in range(k, 0, -1):
        differ = along(kept, 0) != along(kept, axis)
        gap = np.where(differ, along(w, 0) - along(w, axis), 1.0)
        first, second = (np.expand_dims(lower, a - count) for a in (axis, 0))  # without that one of them
        result = np.where(differ, (first - second) / gap, result)
    return result


def _used(cotangent: Any) -> Any:
    """An adjoint, or None where it is zero all over."""
    return None if cotangent is None or not is_traced(cotangent) and not np.any(cotangent) else cotangent


__all__ = ["FullSvd", "Pinv", "PinvChange", "Svd", "Svdvals"]
