"""Elementals for the tests: results computed together, with rules of every kind.

`apply` runs one on traced arrays as a joint statement, and on plain ones (complex, too) as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from distdiff.ops import Elemental
from distdiff.tracing.array import is_traced
from distdiff.tracing.joint import joint


def apply(op, *operands):
    """The results of an elemental; one as it is, several as a list."""
    traced = any(map(is_traced, operands))
    results = joint(op, operands) if traced else op.value(*map(np.asarray, operands))
    return results[0] if len(results) == 1 else list(results)


@dataclass(frozen=True)
class MatVec(Elemental):
    """y = A x; the rules are products themselves."""

    m: int
    n: int
    name = "matvec"

    @property
    def core_in(self):
        return (self.m, self.n), (self.n,)

    @property
    def core_out(self):
        return ((self.m,),)

    @property
    def reads(self):
        return frozenset((0, 1))

    def value(self, a, x):
        return (_times(a, x),)

    def tangent(self, y, x, xdot):
        assert y == [None]
        terms = [_times(a, v) for a, v in ((xdot[0], x[1]), (x[0], xdot[1])) if a is not None and v is not None]
        return (sum(terms),)

    def adjoint(self, y, x, ybar, wanted):
        return (ybar[0][..., :, None] * x[1][..., None, :] if wanted[0] else None,
                _times(np.swapaxes(x[0], -1, -2), ybar[0]) if wanted[1] else None)


def _times(a, x):
    return np.sum(a * x[..., None, :], axis=-1)


@dataclass(frozen=True)
class Solve(Elemental):
    """A y = b: its derivative of any order is in terms of itself."""

    n: int
    name = "solve"

    @property
    def core_in(self):
        return (self.n, self.n), (self.n,)

    @property
    def core_out(self):
        return ((self.n,),)

    @property
    def reads(self):
        return frozenset((-1, 0))

    def value(self, a, b):
        return (np.linalg.solve(a, b[..., None])[..., 0],)

    def tangent(self, y, x, xdot):
        r = 0.0 if xdot[1] is None else xdot[1]
        if xdot[0] is not None:
            r = r - _times(xdot[0], y[0])
        return (apply(self, x[0], r),)

    def adjoint(self, y, x, ybar, wanted):
        lam = apply(self, np.swapaxes(x[0], -1, -2), ybar[0])
        return -lam[..., :, None] * y[0][..., None, :], lam


@dataclass(frozen=True)
class Polar(Elemental):
    """r = |v| (a number) and v / r."""

    n: int
    name = "polar"

    @property
    def core_in(self):
        return ((self.n,),)

    @property
    def core_out(self):
        return (), (self.n,)

    @property
    def reads(self):
        return frozenset((-1,))

    def value(self, v):
        r = np.sqrt(np.sum(v * v, axis=-1))
        return r, v / r[..., None]

    def tangent(self, y, x, xdot):
        rdot = np.sum(y[1] * xdot[0], axis=-1)
        return rdot, (xdot[0] - y[1] * rdot[..., None]) / y[0][..., None]

    def adjoint(self, y, x, ybar, wanted):
        rbar, u = ybar[0], ybar[1]
        t = rbar - np.sum(y[1] * u, axis=-1) / y[0]
        return (y[1] * t[..., None] + u / y[0][..., None],)


@dataclass(frozen=True)
class Products(Elemental):
    """y_i = c_i x_i x_{i+1}^2, with two entries a row; c has no derivative."""

    n: int
    name = "products"
    inert = frozenset((1,))

    @property
    def core_in(self):
        return (self.n,), (self.n - 1,)

    @property
    def core_out(self):
        return ((self.n - 1,),)

    @property
    def reads(self):
        return frozenset((0, 1))

    @property
    def lines(self):
        return 3 * self.n

    def value(self, x, c):
        return (c * x[..., :-1] * x[..., 1:] ** 2,)

    def tangent(self, y, x, xdot):
        d, (x, c) = xdot[0], x
        assert xdot[1] is None
        return (c * (d[..., :-1] * x[..., 1:] ** 2 + 2.0 * x[..., :-1] * x[..., 1:] * d[..., 1:]),)

    def adjoint(self, y, x, ybar, wanted):
        assert not wanted[1]
        x, w = x[0], x[1] * ybar[0]
        zero = np.zeros((*np.shape(w)[:-1], 1))
        return (np.concatenate([w * x[..., 1:] ** 2, zero], axis=-1)
                + np.concatenate([zero, 2.0 * w * x[..., :-1] * x[..., 1:]], axis=-1), None)

    def pattern(self, k):
        if k:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        i = np.arange(self.n - 1)
        return np.concatenate([i, i]), np.concatenate([i + 1, i])

    def entries(self, k, y, x):
        x, c = x
        return np.concatenate([2.0 * c * x[..., :-1] * x[..., 1:], c * x[..., 1:] ** 2], axis=-1)


def dense(op, k, y, x):
    """The Jacobian for operand k at one loop index, by unit tangents."""
    columns = []
    for unit in np.eye(prod(op.core_in[k])):
        seeds = [None] * op.arity
        seeds[k] = unit.reshape(op.core_in[k])
        columns.append(np.concatenate([np.zeros(prod(core)) if t is None else np.ravel(np.broadcast_to(t, core))
                                       for t, core in zip(op.tangent(y, x, seeds), op.core_out)]))
    return np.array(columns).T
