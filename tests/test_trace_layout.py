"""Views, copies and memory order: what a write through ravel() or reshape(-1) reaches is what it reaches in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from test_trace import check

from distdiff.tracing import trace

PARTS = [np.s_[0:1, ::2], np.s_[0:1, ::-1], np.s_[::2, 0:1], np.s_[::-1, ::-1], np.s_[1:3], np.s_[:, 1:2],
         np.s_[::2], np.s_[::-1], np.s_[1:2, 1:3], np.s_[:, ::2], np.s_[1], np.s_[:, 1], np.s_[::2, 1]]  # fmt: skip

FLATTENED = {
    "reshape": lambda v: v.reshape(-1),
    "ravel": lambda v: v.ravel(),
    "np.ravel": lambda v: np.ravel(v),
    "ravel F": lambda v: v.ravel(order="F"),
    "ravel K": lambda v: v.ravel(order="K"),
    "ravel A": lambda v: v.ravel(order="A"),
    "ravel T": lambda v: v.T.ravel(),
    "ravel T K": lambda v: v.T.ravel("K"),
    "reshape F": lambda v: v.reshape(-1, order="F"),
    "flatten": lambda v: v.flatten(),
    "flatten K": lambda v: v.flatten("K"),
    "squeeze": np.squeeze,
    "ascontiguousarray": lambda v: np.ascontiguousarray(v),
    "asfortranarray": lambda v: np.asfortranarray(v),
    "asarray": lambda v: np.asarray(v),
    "asarray F": lambda v: np.asarray(v, order="F"),
    "array": lambda v: np.array(v),
    "array ndmin": lambda v: np.array(v, ndmin=3),
    "astype": lambda v: v.astype(float, copy=False),
    "astype C": lambda v: v.astype(float, order="C", copy=False),
    "atleast_3d": np.atleast_3d,
    "prod of one": lambda v: v[..., None].prod(axis=-1),
    "power 1": lambda v: v**1,
}


@pytest.mark.parametrize("name", FLATTENED)
def test_a_copy_where_numpy_copies(name):
    """What was taken before a write in place keeps the old values, unless NumPy takes a view."""
    x = np.arange(25.0).reshape(5, 5) / 7 + 0.3

    def f(x):
        u = x.copy()
        taken = [FLATTENED[name](u[part]) for part in PARTS]
        u[...] = u * u + 100
        return [t * 1.0 for t in taken]

    check(f, x)


LAYOUTS = {  # of a transposed argument v and the C-ordered u
    "copy": lambda v, u: np.copy(v),
    "x.copy": lambda v, u: v.copy(),
    "x.copy K": lambda v, u: v.copy("K"),
    "array": lambda v, u: np.array(v),
    "array C": lambda v, u: np.array(v, order="C"),
    "array of rows": lambda v, u: np.array([v, v])[0],
    "ascontiguousarray": lambda v, u: np.ascontiguousarray(v),
    "asfortranarray": lambda v, u: np.asfortranarray(u * 1),
    "zeros_like": lambda v, u: np.zeros_like(v) + v,
    "ones_like": lambda v, u: np.ones_like(v) * u[0, 0],
    "full_like": lambda v, u: np.full_like(v, 2.0) * v,
    "full_like traced": lambda v, u: np.full_like(v, u[0, 0]),
    "full_like C": lambda v, u: np.full_like(v, 2.0, order="C") * 3 * u[0, 0],
    "full_like of plain": lambda v, u: np.full_like(np.zeros((2, 6)).T, u[0, 0]),
    "power 0": lambda v, u: v**0 * u[0, 0],
    "positive": lambda v, u: np.positive(v),
    "sin": lambda v, u: np.sin(v),
    "tile": lambda v, u: np.tile(v, (2, 1)),
    "tile 1": lambda v, u: np.tile(v, (1, 1)),
    "sort 0": lambda v, u: np.sort(v, axis=0),
    "sort 1": lambda v, u: np.sort(v, axis=1),
    "insert": lambda v, u: np.insert(v, 1, u[0, 0], axis=1),
    "delete": lambda v, u: np.delete(v, 1, axis=1),
    "delete C": lambda v, u: np.delete(u, 1, axis=1),
    "delete several": lambda v, u: np.delete(u.reshape(3, 4), [0, 1], axis=1),
    "delete masked": lambda v, u: np.delete(u.reshape(3, 4), u.reshape(3, 4)[0] > u[1, 0], axis=1),
    "repeat": lambda v, u: np.repeat(v, 2, axis=0),
    "take": lambda v, u: np.take(u, [0, 1, 0], axis=1),
    "x.take": lambda v, u: v.take([0, 1, 0], axis=1),
    "compress": lambda v, u: np.compress([True, False, True, True, False, True], v, axis=1),
    "take_along_axis": lambda v, u: np.take_along_axis(v, np.array([[1, 0, 1, 0, 0, 1]]), axis=0),
    "fancy": lambda v, u: u[:, [0, 1, 0]],
    "fancy T": lambda v, u: v[:, [0, 1, 0]],
    "fancy rows": lambda v, u: v[[0, 1, 0]],
    "meshgrid": lambda v, u: np.meshgrid(u[:, 0], u[:, 1])[0],
    "meshgrid 1": lambda v, u: np.meshgrid(u[:, 0], u[:, 1], indexing="ij")[1],
    "gradient": lambda v, u: np.gradient(u, axis=0),
    "gradient T": lambda v, u: np.gradient(v, axis=1),
    "cumsum 0": lambda v, u: np.cumsum(v, axis=0),
    "cumsum 1": lambda v, u: v.cumsum(axis=1),
    "cumsum C": lambda v, u: np.cumsum(u, axis=0),
    "cumprod": lambda v, u: np.cumprod(v, axis=1),
    "diff": lambda v, u: np.diff(v, axis=1),
    "tril": lambda v, u: np.tril(v),
    "where": lambda v, u: np.where(v > 1, v, 0.0),
    "clip": lambda v, u: np.clip(v, 0.5, 1.5),
    "matmul": lambda v, u: v @ u,
    "dot": lambda v, u: np.dot(u, v),
    "roll": lambda v, u: np.roll(v, 1, axis=1),
    "pad": lambda v, u: np.pad(v, 1),
    "concatenate": lambda v, u: np.concatenate([v, v], axis=1),
    "append": lambda v, u: np.append(v, v, axis=0),
    "nan_to_num": lambda v, u: np.nan_to_num(v),
    "round": lambda v, u: np.round(v, 1) + v,
    "cross": lambda v, u: np.cross(u[:3].T, u[3:].T, axis=1),
    "kron": lambda v, u: np.kron(v, v),
}  # fmt: skip

LAYOUTS_3D = {
    "sum 0": lambda w: w.sum(axis=0),
    "sum 1": lambda w: np.sum(w, axis=1),
    "sum 2": lambda w: w.sum(axis=2),
    "sum keepdims": lambda w: w.sum(axis=2, keepdims=True)[..., 0],
    "sum of no axis": lambda w: w.sum(axis=())[0],
    "max": lambda w: w.max(axis=1),
    "min": lambda w: np.min(w, axis=2),
    "mean": lambda w: w.mean(axis=2),
    "prod": lambda w: w.prod(axis=2),
    "var": lambda w: w.var(axis=2),
    "std": lambda w: np.std(w, axis=1),
    "median": lambda w: np.median(w, axis=1),
    "quantile": lambda w: np.quantile(w, 0.3, axis=1),
    "nansum": lambda w: np.nansum(w, axis=1),
    "norm": lambda w: np.linalg.norm(w, axis=1),
    "average": lambda w: np.average(w, axis=1),
    "ptp": lambda w: np.ptp(w, axis=1),
    "trace": lambda w: np.trace(w[..., None] * np.ones(2), axis1=0, axis2=3),
    "cumsum 0": lambda w: w.cumsum(axis=0)[0],
    "cumsum all": lambda w: w.cumsum(axis=1).T[0],
    "fancy": lambda w: w[[1, 0]][:, 1],
    "matmul": lambda w: np.matmul(w, w.swapaxes(1, 2))[0],
    "matmul turned": lambda w: np.matmul(w.transpose(0, 2, 1), w)[0],
    "einsum": lambda w: np.einsum("ijk->kj", w),
    "einsum of two": lambda w: np.einsum("ijk,il->klj", w, w[:, 0])[0],
    "einsum of two turned": lambda w: np.einsum("ij,jk->ik", w[0], w[1].T),
    "einsum of three": lambda w: np.einsum("ij,jk,kl->li", w[0], w[1].T, w[0]),
    "select": lambda w: np.select([w > 1.0], [w], 0.5)[0],
    "select all": lambda w: np.select([w > 1.0], [w], 0.5).T[0],
    "triu": lambda w: np.triu(w)[:, :, 0],
    "round": lambda w: np.round(w * w, 1)[0] + 0.1 * w[0, 0, 0],
    "tensordot": lambda w: np.tensordot(w, w, (2, 2))[0, 1],
}


def write_through(y):
    """Write through what may be a view of y, in two orders."""
    r = y.reshape(-1)
    r[0] = 10 * r[1]
    q = y.T.reshape(-1)
    q[1] = 5 * q[2]
    return y, r, q, y.reshape(-1), y.ravel("K")


@pytest.mark.parametrize("name", LAYOUTS)
def test_memory_order(name):
    x = np.random.default_rng(3).random((6, 2)) + 0.5
    check(lambda x: write_through(LAYOUTS[name](x.T, x)), x)


@pytest.mark.parametrize("name", LAYOUTS_3D)
def test_memory_order_of_reductions(name):
    x = np.random.default_rng(4).random((2, 3, 4)) + 0.5
    for axes in ((2, 1, 0), (2, 0, 1), (1, 2, 0), (0, 2, 1), (0, 1, 2)):
        check(lambda x, axes=axes: write_through(LAYOUTS_3D[name](x.transpose(axes))), x)


def test_only_what_numpy_turns_is_turned():
    """Reductions of C-ordered arrays stay whole blocks of the tape."""
    t = trace(lambda u: u.sum(axis=1).cumsum(axis=0) * 2, (np.ones((3, 4, 5)),))
    assert len(t.tape.items) == 3


@pytest.mark.parametrize(
    "convert",
    [
        lambda z: np.asarray(z),
        lambda z: np.asarray(z, order="F"),
        lambda z: np.asarray(z, dtype=float),
        lambda z: np.ascontiguousarray(z),
        lambda z: np.asfortranarray(z),
        lambda z: np.array(z),
        lambda z: np.array(z, subok=False, ndmin=3),
        lambda z: np.tile(z, 2),
        lambda z: z.ravel("K"),
        lambda z: z.T.ravel("F"),
    ],
)
def test_arrays_made_inside_are_converted_before_they_hold_traced_values(convert):
    """The result can hold traced values itself, and sees those written into the array where it is a view."""

    def f(u):
        z = np.zeros((2, 3))
        r = convert(z)
        z[0] = u
        r[..., 1] += u[0]
        return z, r * 1.0

    check(f, np.array([0.4, 1.3, 2.2]))
