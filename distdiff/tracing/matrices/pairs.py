"""Complex matrices A + iB as pairs of real ones: the determinant, its sign and logarithm, eigenvalues and vectors.

Solves, inverses and Hermitian matrices need nothing of their own: [[A, -B], [B, A]] is a real matrix that multiplies as
A + iB does.  A determinant's phase and the eigenvalues of a general matrix can't be had from it.

    d = det Z, C = dd/dZ                    ddot = tr(C^T Zdot),  Zbar = dbar conj(C)  (`minors`)
    l = log |det Z|, phi = arg det Z        ldot + i phidot = tr(Z^-1 Zdot)
    Z V = V diag(w),  C = V^-1 Zdot V       wdot = diag C,  Vdot = V (F * C) without what changes length or gauge,
                                            F_ij = 1 / (w_j - w_i), 0 on the diagonal
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import NotDifferentiableError
from ...ops import Shaped
from ..array import is_traced, shape_of
from ..joint import applied, joint
from . import minors
from .lu import Factors, Solve
from .shared import diagonal, on_diagonal, plain, scalar, svd, times, trace_of, transpose
from .spectral import DEFECTIVE

Pair = tuple[Any, Any]  # real and imaginary parts


def embedded(re: Any, im: Any) -> Any:
    """[[re, -im], [im, re]], (..., 2 m, 2 n)."""
    if shape_of(re) != shape_of(im):
        re, im = np.broadcast_arrays(re, im)
    above = np.concatenate([re, -im], axis=-1)
    return np.concatenate([above, np.concatenate([im, re], axis=-1)], axis=-2)


def product(a: Pair, b: Pair) -> Pair:
    return times(a[0], b[0]) - times(a[1], b[1]), times(a[0], b[1]) + times(a[1], b[0])


def adjoint_of(a: Pair) -> Pair:
    """The conjugate transpose."""
    return transpose(a[0]), -transpose(a[1])


def left(a: Pair, b: Pair, transposed: bool = False) -> Pair:
    """A^-1 b, or A^-H b."""
    n, m = a[0].shape[-1], b[0].shape[-1]
    matrix = embedded(*a)
    factors, = applied(Factors(2 * n), matrix)
    x = applied(Solve(2 * n, m, transposed), factors, matrix, np.concatenate(b, axis=-2))[0]
    return x[..., :n, :], x[..., n:, :]


def both(parts: Sequence[Any]) -> Pair:
    """Tangents or cotangents of both parts, zeros for one that there is none of."""
    shape = next(part for part in parts if part is not None).shape
    re, im = (np.zeros(shape) if part is None else part for part in parts)
    return re, im


@dataclass(frozen=True)
class _OfDeterminant(Shaped):
    """Both parts of a function of det Z, Z = x[0] + i x[1], (n, n), that changes by tr(D^T Zdot): D is its slope."""

    n: int
    signature = "(n,n),(n,n)->(),()"
    reads = frozenset((0, 1))

    @property
    def lines(self) -> int:
        return 4 * self.n**3

    def slope(self, x: Sequence[Any]) -> Pair:
        raise NotImplementedError

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        (c, d), (re, im) = self.slope(x), both(xdot)
        return trace_of(c, re) - trace_of(d, im), trace_of(c, im) + trace_of(d, re)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[0] is None and ybar[1] is None:
            return None, None
        c, d = self.slope(x)
        re, im = map(scalar, both(ybar))
        return re * c + im * d, im * c - re * d


@dataclass(frozen=True)
class LogDetPair(_OfDeterminant):
    """log |det Z| and arg det Z."""

    name = "complex_slogdet"

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        sign, log = np.linalg.slogdet(x[0] + 1j * x[1])
        return np.asarray(log), np.asarray(np.angle(sign))

    def slope(self, x: Sequence[Any]) -> Pair:
        """Z^-T."""
        try:
            re, im = left((x[0], x[1]), (np.eye(self.n), np.zeros((self.n, self.n))), True)
        except np.linalg.LinAlgError:
            raise NotDifferentiableError("a derivative of slogdet is wanted at a singular complex matrix, where it has "
                                         "none; move away from that point, or use det") from None
        return re, -im


@dataclass(frozen=True)
class DetPair(_OfDeterminant):
    """Both parts of det Z, with derivatives of every order at singular matrices too."""

    name = "complex_det"

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        det = np.asarray(np.linalg.det(x[0] + 1j * x[1]))
        return det.real, det.imag

    def slope(self, x: Sequence[Any]) -> Pair:
        """The cofactors."""
        re, im = applied(CofactorsPair(self.n), *x)
        return re, im


@dataclass(frozen=True)
class CofactorsPair(Shaped):
    """Both parts of C_k of `minors`: the cofactors of Z, or their derivative in k complex directions, whose parts are
    the operands after Z's."""

    n: int
    k: int = 0
    name = "complex_det"

    def __post_init__(self) -> None:
        minors.check(self.k)

    @property
    def signature(self) -> str:  # type: ignore[override]
        return f"(n,n),(n,n){',(n,n),(n,n)' * self.k}->(n,n),(n,n)"

    @property
    def reads(self) -> frozenset[int]:
        return frozenset(range(2 * self.k + 2))

    @property
    def lines(self) -> int:
        return 4 * minors.lines(self.n, self.k)

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        z, *directions = (re + 1j * im for re, im in zip(x[::2], x[1::2]))
        found = minors.by_singular_values(*svd(z), directions)
        return found.real, found.imag

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        total: Pair | None = None
        for place in range(self.k + 1):
            if xdot[2 * place] is None and xdot[2 * place + 1] is None:
                continue
            term = self._in_place(x, place, both(xdot[2 * place : 2 * place + 2]))
            total = term if total is None or term is None else (total[0] + term[0], total[1] + term[1])
        return (None, None) if total is None else total

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        bars: list[Any] = [None] * len(x)
        if ybar[0] is None and ybar[1] is None:
            return bars
        re, im = both(ybar)
        for place in range(self.k + 1):
            found = self._in_place(x, place, (re, -im)) if wanted[2 * place] or wanted[2 * place + 1] else None
            if found is not None:
                bars[2 * place], bars[2 * place + 1] = found[0], -found[1]
        return bars

    def _in_place(self, x: Sequence[Any], place: int, change: Pair) -> Pair | None:
        """C_k with a change in place of direction `place`, or C_(k+1) with one more, for 0; None where that is zero."""
        if place == 0:
            if self.k + 1 >= self.n:
                return None
            re, im = applied(replace(self, k=self.k + 1), *x, *change)
        else:
            re, im = applied(self, *x[: 2 * place], *change, *x[2 * place + 2 :])
        return re, im


@dataclass(frozen=True)
class EigPair(Shaped):
    """w (n,) and V (n, n) of Z = x[0] + i x[1], real parts before imaginary ones: V's columns have length 1, and their
    largest component is real, as LAPACK has it."""

    n: int
    real: bool = False  # Z is real: LAPACK has another routine for these, which puts eigenvalues in another order
    name = "complex_eig"
    signature = "(n,n),(n,n)->(n),(n),(n,n),(n,n)"
    reads = frozenset((-1,))

    @property
    def lines(self) -> int:
        return 100 * self.n**3

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        w, v = np.linalg.eig(x[0] if self.real else x[0] + 1j * x[1])
        return w.real, w.imag, v.real, v.imag

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        v = self._vectors(y)
        re, im = left(v, product(both(xdot), v))
        f, g = self._gaps(y)
        turn = product(v, (f * re - g * im, f * im + g * re))
        length, phase = self._gauge(v, turn)
        return (diagonal(re), diagonal(im), turn[0] - v[0] * length + v[1] * phase,
                turn[1] - v[1] * length - v[0] * phase)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        v = self._vectors(y)
        inner: Any = None
        if ybar[0] is not None or ybar[1] is not None:
            inner = tuple(map(on_diagonal, both(ybar[:2])))
        if any(part is not None and (is_traced(part) or np.any(part)) for part in ybar[2:]):
            re, im = self._gauge_adjoint(v, both(ybar[2:]))
            re, im = product(adjoint_of(v), (re, im))
            f, g = self._gaps(y)  # conjugated
            term = f * re + g * im, f * im - g * re
            inner = term if inner is None else (inner[0] + term[0], inner[1] + term[1])
        if inner is None:
            return None, None
        return left(v, product(inner, adjoint_of(v)), True)

    def _vectors(self, y: Sequence[Any]) -> Pair:
        condition = np.linalg.cond(plain(y[2]) + 1j * plain(y[3]))
        if not np.all(condition < DEFECTIVE):
            raise NotDifferentiableError(
                f"a derivative of {self.name} is wanted at a matrix of order {self.n} that has, to rounding, no basis "
                f"of eigenvectors (condition {np.max(condition):.1g}): its eigenvalues have none there. Move away from "
                "that point")
        return y[2], y[3]

    def _gaps(self, y: Sequence[Any]) -> Pair:
        """1 / (w_j - w_i), 0 on the diagonal."""
        re, im = (part[..., None, :] - part[..., :, None] for part in y[:2])
        eye = np.eye(self.n, dtype=bool)
        size = np.where(eye, 1.0, re * re + im * im)
        if not np.all(plain(size) > 0.0):
            raise NotDifferentiableError(
                "the derivative of eigenvectors is wanted, but two belong to one value: they are any basis of what "
                "belongs to it, and have no derivative. Use the values alone, or move away from that point")
        return np.where(eye, 0.0, re) / size, np.where(eye, 0.0, -im) / size

    def _largest(self, v: Pair) -> np.ndarray:
        """1 at every column's largest component, 0 elsewhere."""
        size = np.hypot(plain(v[0]), plain(v[1]))
        return (np.arange(self.n)[:, None] == np.argmax(size, axis=-2)[..., None, :]) * 1.0

    def _gauge(self, v: Pair, turn: Pair) -> Pair:
        """What turn changes of the columns' lengths, and of the phase of the largest components."""
        at = self._largest(v)
        length = np.sum(v[0] * turn[0] + v[1] * turn[1], axis=-2)[..., None, :]
        phase = np.sum(at * turn[1], axis=-2)[..., None, :] / np.sum(at * v[0], axis=-2)[..., None, :]
        return length, phase

    def _gauge_adjoint(self, v: Pair, vbar: Pair) -> Pair:
        at = self._largest(v)
        along = np.sum(v[0] * vbar[0] + v[1] * vbar[1], axis=-2)[..., None, :]
        across = np.sum(v[1] * vbar[0] - v[0] * vbar[1], axis=-2)[..., None, :]
        real = np.sum(at * v[0], axis=-2)[..., None, :]
        return vbar[0] - v[0] * along, vbar[1] - v[1] * along + at * (across / real)


@dataclass(frozen=True)
class EigvalsPair(EigPair):
    """w alone; V is there for the rules, and is not handed out."""

    name = "complex_eigvals"
    reads = frozenset((-1, 0, 1))

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        v = self._known(y, x)
        re, im = left(v, product(both(xdot), v))
        return diagonal(re), diagonal(im), None, None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[0] is None and ybar[1] is None:
            return None, None
        v = self._known(y, x)
        inner = tuple(map(on_diagonal, both(ybar[:2])))
        return left(v, product(inner, adjoint_of(v)), True)

    def _known(self, y: Sequence[Any], x: Sequence[Any]) -> Pair:
        """V; in a trace as results that have derivatives themselves."""
        if not any(map(is_traced, x)):
            return self._vectors(y)
        found = joint(EigPair(self.n, self.real), tuple(x), values=[plain(part) for part in y])
        return self._vectors(found)


__all__ = ["CofactorsPair", "DetPair", "EigPair", "EigvalsPair", "LogDetPair", "embedded"]
