"""Complex matrices A + iB as pairs of real ones: eigenvectors of Hermitian ones, singular vectors, Q and R.

    Z = V diag(w) V^H      P = V^H Zdot V,  F_ij = 1 / (w_j - w_i), 0 on the diagonal
                           wdot = diag P,  Vdot = V (F * P - i diag phi)
    Z = U diag(s) V^H      P = U^H Zdot V,  F_ij = 1 / (s_j^2 - s_i^2), 0 on the diagonal,  S = diag s
                           sdot = Re diag P
                           Udot = U (F * (P S + S P^H) + i Im diag(P) S^-1 - i diag phi) + (I - U U^H) Zdot V S^-1
                           Vdot = V (F * (S P + P^H S) - i diag phi) + (I - V V^H) Zdot^H U S^-1
    Z = Q R                X = Zdot R^-1,  C = Q^H X,  W = tril(C, -1) - tril(C, -1)^H + i Im diag C
                           Qdot = X - Q C + Q W,  Rdot = (C - W) R

Adjoints are these transposed, with <A, B> = Re tr A^H B.  R's diagonal is real, which determines Q.  A vector is
determined up to its phase, and what does not depend on phases (projectors, |v|, functions of the matrix) has its
derivative in any gauge.  phi turns vectors into LAPACK's gauge, where that keeps a component of all of them real: of
`eigh` the first (the last of an upper triangle), of `svd` the first of V (of U, where Z is wide).  A vector whose
component vanishes there to `SMALL` has phi = 0, as all have in JAX: its phase jumps nearby, and what depends on it has
no derivative.
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
from .pairs import Pair, adjoint_of, both, left, product
from .shared import ROUNDING, column_scaled, diagonal, gaps, on_diagonal, plain, svd, transpose
from .symmetric import DRIVERS, eigh_of

SMALL = 1e-6  # of a vector's length: a component by which its phase can't be told with any accuracy


def _plus(a: Pair | None, b: Pair) -> Pair:
    return b if a is None else (a[0] + b[0], a[1] + b[1])


def _minus(a: Pair, b: Pair) -> Pair:
    return a[0] - b[0], a[1] - b[1]


def _scaled(f: Any, a: Pair) -> Pair:
    """f a, for a real f."""
    return f * a[0], f * a[1]


def _used(parts: Sequence[Any]) -> Pair | None:
    """Both parts of an adjoint, or None where it is zero all over."""
    if not any(part is not None and (is_traced(part) or np.any(part)) for part in parts):
        return None
    return both(parts)


def _size(a: Pair) -> Any:
    """Something that is zero where a is, and traced if a is."""
    return a[0] if is_traced(a[0]) else a[1] if is_traced(a[1]) else np.abs(a[0]) + np.abs(a[1])


def _real(component: Pair) -> np.ndarray | None:
    """1 where a component tells the phase, 0 where it vanishes; None unless it is real in all vectors, (..., n)."""
    re, im = map(plain, component)
    if np.any(np.abs(im) > ROUNDING * np.sqrt(re.shape[-1])):
        return None
    return (np.abs(re) > SMALL) * 1.0


def _phase(turn: Any, component: Any, told: np.ndarray) -> Any:
    """phi = Im turn / component, where told, (..., 1, n)."""
    return (told * turn / np.where(told > 0.0, component, 1.0))[..., None, :]


def _across(vbar: Pair, v: Pair) -> Any:
    """What pairs with phi where Vdot has the term -i V diag phi, (..., 1, n)."""
    return np.sum(vbar[0] * v[1] - vbar[1] * v[0], axis=-2)[..., None, :]


def _unit(n: int, k: int) -> np.ndarray:
    """The k-th unit vector as a column."""
    return (np.arange(n) == k)[:, None] * 1.0


@dataclass(frozen=True)
class EighPair(Shaped):
    """w (n,) and V (n, n), real part and imaginary part, of one triangle of x[0] + i x[1], its diagonal real.

    driver: as of `symmetric.Eigh`
    """

    n: int
    lower: bool = True
    driver: str = ""
    name = "complex_eigh"
    signature = "(n,n),(n,n)->(n),(n,n),(n,n)"
    reads = frozenset((-1,))

    @property
    def lines(self) -> int:
        return 40 * self.n**3

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        w, v = eigh_of(x[0] + 1j * x[1], self.lower, self.driver)
        return w, v.real, v.imag

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        w, v = y[0], (y[1], y[2])
        inner = self._rotated(v, both(xdot))
        turn = product(v, _scaled(gaps(w, None, "eigenvector"), inner))
        k, told = self._gauge(v)
        if told is not None:
            phi = _phase(turn[1][..., k, :], v[0][..., k, :], told)
            turn = turn[0] + v[1] * phi, turn[1] - v[0] * phi
        return diagonal(inner[0]), *turn

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        w, v, vbar = y[0], (y[1], y[2]), _used(ybar[1:])
        inner: Pair | None = None
        if ybar[0] is not None:
            diagonals = on_diagonal(ybar[0])
            inner = diagonals, diagonals * 0.0
        if vbar is not None:
            f = gaps(w, _size(vbar), "eigenvector")
            k, told = self._gauge(v)
            if told is not None:
                phibar = _phase(_across(vbar, v)[..., 0, :], v[0][..., k, :], told)
                vbar = vbar[0], vbar[1] + _unit(self.n, k) * phibar
            inner = _plus(inner, _scaled(f, product(adjoint_of(v), vbar)))
        return (None, None) if inner is None else self._unrotated(v, inner)

    def __post_init__(self) -> None:
        if self.driver not in DRIVERS:
            raise ValueError(f"no driver {self.driver!r}")

    def _gauge(self, v: Pair) -> tuple[int, np.ndarray | None]:
        """The component that LAPACK keeps real, and where it tells the phase."""
        k = 0 if self.lower else self.n - 1
        return k, _real((v[0][..., k, :], v[1][..., k, :]))

    def _kept(self) -> tuple[np.ndarray, np.ndarray]:
        """The triangle that is read, its diagonal by half, of both parts."""
        strict = np.tri(self.n, k=-1) if self.lower else np.tri(self.n, k=-1).T
        return strict + 0.5 * np.eye(self.n), strict

    def _rotated(self, v: Pair, change: Pair) -> Pair:
        """V^H Zdot V, of one triangle of Zdot."""
        re, im = (part * kept for part, kept in zip(change, self._kept()))
        return product(adjoint_of(v), product((re + transpose(re), im - transpose(im)), v))

    def _unrotated(self, v: Pair, inner: Pair) -> Pair:
        """V M V^H as an adjoint of one triangle."""
        re, im = product(v, product(inner, adjoint_of(v)))
        kept = self._kept()
        return (re + transpose(re)) * kept[0], (im - transpose(im)) * kept[1]


@dataclass(frozen=True)
class EigvalshPair(EighPair):
    """w alone; V is there for the rules, and is not handed out."""

    name = "complex_eigvalsh"
    reads = frozenset((-1, 0, 1))

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return diagonal(self._rotated(self._vectors(y, x), both(xdot))[0]), None, None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[0] is None:
            return None, None
        diagonals = on_diagonal(ybar[0])
        return self._unrotated(self._vectors(y, x), (diagonals, diagonals * 0.0))

    def _vectors(self, y: Sequence[Any], x: Sequence[Any]) -> Pair:
        """V; in a trace as results that have derivatives themselves."""
        if not any(map(is_traced, x)):
            return y[1], y[2]
        found = joint(EighPair(self.n, self.lower, self.driver), tuple(x), values=[plain(part) for part in y])
        return found[1], found[2]


@dataclass(frozen=True)
class SvdPair(Shaped):
    """U (m, k), s (k,) and V^H (k, n) of x[0] + i x[1], (m, n), k = min(m, n), real parts before imaginary ones."""

    m: int
    n: int
    name = "complex_svd"
    signature = "(m,n),(m,n)->(m,k),(m,k),(k),(k,n),(k,n)"
    reads = frozenset((-1,))

    @property
    def k(self) -> int:
        return min(self.m, self.n)

    @property
    def lines(self) -> int:
        return 80 * self.m * self.n * self.k

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        u, s, vh = svd(x[0] + 1j * x[1], full_matrices=False)
        return u.real, u.imag, s, vh.real, vh.imag

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        u, s, v, change = (y[0], y[1]), y[2], adjoint_of((y[3], y[4])), both(xdot)
        right = product(change, v)
        p = product(adjoint_of(u), right)
        f, inverse = gaps(s, None, "singular vector", np.square), self._inverse(s, None)
        ps, sp = (tuple(column_scaled(part, s) for part in p), _scaled(s[..., :, None], p))
        turn = _scaled(f, _plus(ps, adjoint_of(ps)))
        udot = product(u, (turn[0], turn[1] + on_diagonal(diagonal(p[1]) * inverse)))
        vdot = product(v, _scaled(f, _plus(sp, adjoint_of(sp))))
        if self.m > self.n:
            rest = _minus(right, product(u, p))
            udot = udot[0] + column_scaled(rest[0], inverse), udot[1] + column_scaled(rest[1], inverse)
        if self.n > self.m:
            rest = _minus(product(adjoint_of(change), u), product(v, adjoint_of(p)))
            vdot = vdot[0] + column_scaled(rest[0], inverse), vdot[1] + column_scaled(rest[1], inverse)
        of_u, told = self._gauge(u, v)
        if told is not None:
            phi = _phase((udot if of_u else vdot)[1][..., 0, :], (u if of_u else v)[0][..., 0, :], told)
            udot = udot[0] + u[1] * phi, udot[1] - u[0] * phi
            vdot = vdot[0] + v[1] * phi, vdot[1] - v[0] * phi
        return *udot, diagonal(p[0]), *adjoint_of(vdot)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        u, s, v = (y[0], y[1]), y[2], adjoint_of((y[3], y[4]))
        ubar, vhbar = _used(ybar[:2]), _used(ybar[3:])
        vbar = None if vhbar is None else adjoint_of(vhbar)
        of_u, told = self._gauge(u, v)
        vectors = [(bar, own) for bar, own in ((ubar, u), (vbar, v)) if bar is not None]
        if told is not None and vectors:
            phibar = sum(_across(bar, own) for bar, own in vectors[1:]) + _across(*vectors[0])
            own = u if of_u else v
            gauge = _phase(phibar[..., 0, :], own[0][..., 0, :], told) * _unit(self.m if of_u else self.n, 0)
            if of_u:
                ubar = (gauge * 0.0, gauge) if ubar is None else (ubar[0], ubar[1] + gauge)
            else:
                vbar = (gauge * 0.0, gauge) if vbar is None else (vbar[0], vbar[1] + gauge)
        inner: Pair | None = None
        rest: Pair | None = None
        if ybar[2] is not None:
            diagonals = on_diagonal(ybar[2])
            inner = diagonals, diagonals * 0.0
        if ubar is not None:
            size = _size(ubar)
            inverse, turn = self._inverse(s, size), product(adjoint_of(u), ubar)
            term = _scaled(gaps(s, size, "singular vector", np.square), _minus(turn, adjoint_of(turn)))
            phases = on_diagonal(diagonal(turn[1]) * inverse)
            inner = _plus(inner, (column_scaled(term[0], s), column_scaled(term[1], s) + phases))
            if self.m > self.n:
                off = _minus(ubar, product(u, turn))
                rest = product((column_scaled(off[0], inverse), column_scaled(off[1], inverse)), adjoint_of(v))
        if vbar is not None:
            size, turn = _size(vbar), product(adjoint_of(v), vbar)
            term = _scaled(gaps(s, size, "singular vector", np.square), _minus(turn, adjoint_of(turn)))
            inner = _plus(inner, _scaled(s[..., :, None], term))
            if self.n > self.m:
                inverse, off = self._inverse(s, size), _minus(vbar, product(v, turn))
                off = column_scaled(off[0], inverse), column_scaled(off[1], inverse)
                rest = _plus(rest, product(u, adjoint_of(off)))
        if inner is None:
            return None, None
        total = product(u, product(inner, adjoint_of(v)))
        return total if rest is None else _plus(total, rest)

    def _gauge(self, u: Pair, v: Pair) -> tuple[bool, np.ndarray | None]:
        """Whether LAPACK keeps the first component of U or of V real, and where it tells the phase."""
        for of_u, own in ((False, v), (True, u)):
            told = _real((own[0][..., 0, :], own[1][..., 0, :]))
            if told is not None:
                return of_u, told
        return True, None

    def _inverse(self, s: Any, cotangent: Any) -> Any:
        """1 / s: not where s is zero to rounding, whose vectors have no phase in common."""
        values = plain(s)
        zero = values <= ROUNDING * max(self.m, self.n) * np.max(values, axis=-1, keepdims=True, initial=0.0)
        used = np.ones(zero.shape, dtype=bool) if cotangent is None or is_traced(cotangent) else np.any(cotangent, -2)
        if np.any(zero & used):
            raise NotDifferentiableError(
                f"the derivative of singular vectors of a complex {self.m} x {self.n} matrix is wanted that belong to "
                "the singular value 0: they are any basis, and have no derivative. Use the singular values alone, or "
                "the vectors of others")
        return np.where(zero, 0.0, 1.0) / np.where(zero, 1.0, s)


@dataclass(frozen=True)
class SvdvalsPair(SvdPair):
    """s alone; U and V^H are there for the rules, and are not handed out."""

    name = "complex_svdvals"
    reads = frozenset((-1, 0, 1))

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        u, vh = self._vectors(y, x)
        p = product(adjoint_of(u), product(both(xdot), adjoint_of(vh)))
        return None, None, diagonal(p[0]), None, None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[2] is None:
            return None, None
        u, vh = self._vectors(y, x)
        return product((column_scaled(u[0], ybar[2]), column_scaled(u[1], ybar[2])), vh)

    def _vectors(self, y: Sequence[Any], x: Sequence[Any]) -> tuple[Pair, Pair]:
        """U and V^H; in a trace as results that have derivatives themselves."""
        if any(map(is_traced, x)):
            y = joint(SvdPair(self.m, self.n), tuple(x), values=[plain(part) for part in y])
        return (y[0], y[1]), (y[3], y[4])


@dataclass(frozen=True)
class QrPair(Shaped):
    """Q (m, n) and R (n, n) of x[0] + i x[1], (m, n), m >= n, real parts before imaginary ones."""

    m: int
    n: int
    name = "complex_qr"
    signature = "(m,n),(m,n)->(m,n),(m,n),(n,n),(n,n)"
    reads = frozenset((-1,))

    @property
    def lines(self) -> int:
        return 16 * self.m * self.n * self.n

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        q, r = np.linalg.qr(x[0] + 1j * x[1])
        return q.real, q.imag, r.real, r.imag

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        q, r = (y[0], y[1]), self._regular((y[2], y[3]))
        turned = adjoint_of(left(r, adjoint_of(both(xdot)), True))
        c = product(adjoint_of(q), turned)
        strict = np.tri(self.n, k=-1)
        lower = _scaled(strict, c)
        w = lower[0] - transpose(lower[0]), lower[1] + transpose(lower[1]) + c[1] * np.eye(self.n)
        upper = _minus(c, w)
        return *_minus(turned, product(q, upper)), *product(upper, r)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        q, r, qbar, rbar = (y[0], y[1]), self._regular((y[2], y[3])), _used(ybar[:2]), _used(ybar[2:])
        inner: Pair | None = None
        if rbar is not None:
            inner = product(rbar, adjoint_of(r))
        if qbar is not None:
            term = product(adjoint_of(q), qbar)
            inner = _plus(inner, (-term[0], -term[1]))
        if inner is None:
            return None, None
        strict = np.tri(self.n, k=-1).T
        upper = _scaled(strict, inner)
        cbar = upper[0] + transpose(upper[0]) + inner[0] * np.eye(self.n), upper[1] - transpose(upper[1])
        total = product(q, cbar)
        return adjoint_of(left(r, adjoint_of(total if qbar is None else _plus(total, qbar))))

    def _regular(self, r: Pair) -> Pair:
        d = np.abs(np.diagonal(plain(r[0]), axis1=-2, axis2=-1))
        if np.any(d.min(axis=-1) <= ROUNDING * self.n * d.max(axis=-1)):
            raise NotDifferentiableError(
                f"a derivative of qr is wanted at a complex {self.m} x {self.n} matrix whose columns are linearly "
                "dependent: Q is not determined there, and has none. Move away from that point, or use what needs no Q "
                "(Z^H Z)")
        return r


__all__ = ["EighPair", "EigvalshPair", "QrPair", "SvdPair", "SvdvalsPair"]
