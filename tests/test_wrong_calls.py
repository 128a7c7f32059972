"""Calls that NumPy or Python refuses are refused of traced values too, by an error of the same kind: code that catches
it, to find out what it has before it, goes the same way."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from distdiff.errors import UnsupportedOperationError
from distdiff.tracing import trace

U = np.array([0.9, 1.7, 0.4, 1.3])
M = U + np.arange(3.0)[:, None]
CALLS = """
u[10]
u[-7]
u[1, 2]
u[[0, 9]]
u[np.array([9])]
u[1.5]
u["a"]
u[[True, False]]
u[np.ones(3, bool)]
m[5]
m[0, 9]
m[:, 9]
m[0][9]
np.take(u, 9)
np.take(u, [9])
np.take(u, [9], mode="clip")
u.take([1], axis=3)
u.reshape(4, 4)
u.reshape(-1, -1)
np.reshape(u, 7)
u.reshape(-1, 5)
u + np.ones(5)
u @ np.ones(5)
m @ m
np.dot(u, np.ones(5))
np.dot(m, m)
np.concatenate([u, m])
np.concatenate([])
np.concatenate([u[0], u])
np.stack([u, u[:3]])
np.vstack([u, m])
np.hstack([u, m])
np.column_stack([u, u[:2]])
np.broadcast_to(u, (3, 4))
np.broadcast_to(u, (3,))
np.transpose(m, (0, 0))
np.transpose(m, (0,))
np.swapaxes(u, 0, 3)
np.moveaxis(m, 0, 5)
np.expand_dims(u, 5)
np.squeeze(m, 0)
np.sum(u, axis=2)
np.sum(m, axis=(0, 0))
u.sum(axis=1)
np.mean(u, axis=3)
np.max(u[:0])
np.min(u[:0])
u[:0].max()
np.argmax(u[:0])
np.median(u, axis=2)
np.quantile(u, 1.5)
np.quantile(u, np.nan)
np.quantile(u, u[0] * np.nan)
np.percentile(u, 101)
np.linalg.inv(m)
np.linalg.inv(u)
np.linalg.det(m)
np.linalg.solve(np.eye(2), u)
np.linalg.cholesky(-np.eye(2) * u[0])
np.linalg.cholesky(m)
np.linalg.eigh(m)
np.linalg.eigvals(u)
np.linalg.norm(u, "nuc")
np.linalg.norm(m, 3)
np.linalg.matrix_power(m, 2)
np.linalg.matrix_power(np.eye(2) * u[0], 0.5)
np.cross(u, u)
np.cross(u[:2], m)
np.split(u, 4)
np.array_split(u, 0)
np.hsplit(u[0], 1)
np.vsplit(u, 2)
np.dsplit(m, 1)
np.tile(u, -1)
np.repeat(u, -1)
np.repeat(u, [1, 2])
np.roll(u, 1, axis=3)
np.rot90(u)
np.flip(u, 3)
np.diag(np.ones((2, 2, 2)) * u[0])
np.trace(u)
np.diagonal(u)
np.insert(u, 20, 1.0)
np.delete(u, 20)
np.pad(u, -1)
np.pad(u, 1, mode="nonsense")
np.pad(u, (1, 2, 3))
np.interp(u, [0, 1], [0, 1, 2])
np.interp(u, [], [])
np.convolve(u, [])
np.convolve(m, u)
np.convolve(u, u, mode="x")
np.einsum("ij,jk", u, m)
np.einsum("i,i->k", u, u)
np.einsum("ii", m)
np.tensordot(u, m, axes=2)
np.gradient(u[:1])
np.gradient(u, 1, 2)
np.diff(u, n=-1)
np.searchsorted(m, 1.0)
np.digitize(u, [1, 0, 2])
np.histogram(u, bins=-1)
np.histogram(u, bins=[1, 0])
np.histogram(u, range=(1, 0))
np.bincount([-1], weights=u[:1])
np.bincount([0, 1], weights=u)
np.where(u > 1, u)
np.where(u > 1, u, np.ones(5))
np.select([u > 1], [u, u])
np.choose([0, 3], [u[:2], u[:2]])
np.piecewise(u, [u > 0, u < 0], [1.0])
np.apply_along_axis(np.sum, 3, u)
np.linspace(u[0], 1, -3)
np.full((2,), u)
np.array([[u[0]], [u[0], u[1]]])
np.array([u, u[:2]])
np.vander(m)
np.polyfit(u, u, -1)
np.polyval([], u)
np.outer(u, u, 3)
np.fft.fft(u, n=0)
np.fft.fft(u, axis=4)
np.fft.fft(u, norm="x")
np.unwrap(u, axis=3)
np.cov(np.ones((2, 2, 2)) * u[0])
np.corrcoef(u, u[:2])
np.average(u, weights=[1, 2])
np.average(m, weights=[1, 2])
np.average(m, axis=0, weights=[1.0])
np.sort(u, axis=3)
np.partition(u, 9)
np.argpartition(u, 9)
np.unique(u, axis=3)
np.take_along_axis(u, np.array([9]), 0)
np.take_along_axis(m, np.array([0]), 0)
np.put_along_axis(u.copy(), np.array([9]), 1.0, 0)
np.place(u.copy(), [True], [])
np.copyto(u.copy(), np.ones(5))
np.put(u.copy(), [9], 1.0)
np.fill_diagonal(u.copy(), 1.0)
np.add(u, u, u, u)
np.add(u)
np.add(u, u, out=np.zeros(5))
np.add(u, u, where=np.ones(5, bool))
np.add(u, u, axis=1)
np.sin(u, foo=1)
np.sum(u, foo=1)
np.sum()
u.sum(1, 2, 3, 4, 5, 6)
np.add.reduce(u, axis=4)
np.add.at(u.copy(), [9], 1.0)
np.add.outer(u)
np.subtract.accumulate(u, axis=3)
np.multiply.reduceat(u, [9])
np.logical_and.reduce(u, axis=9)
u.item(9)
u.item()
m.item(0, 9)
u.astype("nonsense")
u.view(np.int16).shape
u.transpose(1, 0)
u.squeeze(axis=0)
u.repeat([1, 2])
u.dot(np.ones(5))
u.clip(1, 2, 3, 4)
u.round("a")
u.var(ddof="a")
u.foo
u[0].foo
u < "a"
u + "a"
u + None
u + [1, 2, 3]
u * {}
u[0] + "a"
u[0] + None
"a" + u[0]
u[0] < None
u[0] < "a"
u ** "a"
not u
bool(u)
if_(u)
bool(u[:0])
int(u)
float(m)
len(u[0])
iter(u[0])
a_(u)
range(u[0])
u & 1
u[0] & 1
u | u
~u
u << 1
u % "a"
divmod(u, "a")
round(u)
max(u, m)
max(u[:0])
sorted(m)
sum(u, "a")
sum(["a", u[0]])
min(u, key=1)
np.ix_(m)
np.r_[u, m]
np.c_[u, u[:2]]
np.meshgrid(m, u)
np.block([[u], [m]])
np.tril(u[0])
np.triu(u)[9]
np.lexsort(u[0])
np.isclose(u, np.ones(5))
np.allclose(u, np.ones(5))
np.array_equal(u, 5)
np.intersect1d(u, m)[9]
np.nanmax(u[:0])
np.nanargmin(u * np.nan)
np.ptp(u, axis=3)
np.prod(m, axis=5)
np.cumsum(m, axis=5)
np.atleast_2d(u)[3]
np.nonzero(u)[1]
np.ravel_multi_index([9], (3,))
np.unravel_index(9, (3,))
np.asarray(u, dtype="x")
np.asfortranarray(u)[9]
np.zeros(u)
np.zeros((u[0], 2))
np.eye(u[0])
np.arange(u)
np.identity(u[0])
np.vstack([u, m])
np.vstack([m, u])
np.vstack([u, u, m[:1]])
"""


def decided(x):
    if x:
        return


def unpacked(x):
    _a, _b = x


def raised(call, u, m):
    """The kind of error that a call raises, if any; a refusal says what to write, and is none of NumPy's."""
    try:
        space = {"np": np, "if_": decided, "a_": unpacked, "__name__": "calls"}
        exec(f"def f(u, m): return {call}", space)
        space["f"](u, m)
    except UnsupportedOperationError:
        raise
    except Exception as error:
        return type(error)
    return None


def raised_traced(call, factor):
    """The same of traced arguments, in a function that catches it; where it is refused what it is of plain ones."""
    def f(u, m):
        seen.append(raised(call, u * factor, m * factor))
        return u[0] * 1.0

    seen = []
    try:
        trace(f, (U, M), argnums=(0, 1))
    except UnsupportedOperationError:
        return raised(call, U * factor, M * factor)
    return seen[0]


@pytest.mark.parametrize("factor", [1.0, 1.0 + 2.0j], ids=["real", "complex"])
def test_wrong_calls_raise_as_numpys(factor):
    other = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for call in CALLS.strip().splitlines():
            kinds = raised(call, U * factor, M * factor), raised_traced(call, factor)
            if kinds[0] is not kinds[1] and (None in kinds or not (issubclass(*kinds) or issubclass(*kinds[::-1]))):
                other.append((call, *kinds))
    assert not other
