"""Vectors that complete a basis, which svd and qr give where they are not asked not to: a program may have them, and no
result may depend on them.  Values and derivatives beside are among `linalg_cases`."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from mpi4py import MPI
from scipy import linalg

import distdiff as dd
from distdiff.errors import UnsupportedOperationError
from distdiff.tracing import trace

ALONE = MPI.COMM_SELF
TALL = np.random.default_rng(2).normal(size=(5, 3))


def pca(x):
    """As it is written everywhere: the first components, of all that svd gives."""
    u, s, vt = np.linalg.svd(x - np.mean(x, axis=0))
    return np.sum((u[:, :2] * s[:2] @ vt[:2]) ** 3) + np.sum(np.log(s))


def reduced(x):
    u, s, vt = np.linalg.svd(x - np.mean(x, axis=0), full_matrices=False)
    return np.sum((u[:, :2] * s[:2] @ vt[:2]) ** 3) + np.sum(np.log(s))


@pytest.mark.parametrize("method", ["auto", "walk", "sweep", "substitution", "krylov"])
def test_what_does_not_use_them_has_its_derivatives(method):
    v = np.cos(TALL)
    with dd.linearize(pca, TALL, comm=ALONE, method=method) as lin, dd.linearize(reduced, TALL, comm=ALONE) as other:
        for x in (TALL, TALL[::-1] * 1.1):
            lin.update(x), other.update(x)
            np.testing.assert_allclose(lin.vjp(1.0), other.vjp(1.0), rtol=1e-10, atol=1e-11)
            np.testing.assert_allclose(lin.jvp(v), other.jvp(v), rtol=1e-10)
            np.testing.assert_allclose(lin.hvp(v), other.hvp(v), rtol=1e-8, atol=1e-9)


def null_space(x):
    return np.linalg.svd(x.T)[2][3:]


@pytest.mark.parametrize("f", [
    lambda x: np.linalg.svd(x)[0],
    lambda x: np.sum(np.linalg.svd(x)[0][:, 3] ** 2),
    lambda x: np.sum(null_space(x) @ np.ones(5)),
    lambda x: np.linalg.qr(x, "complete")[0][0, 4] * x[0, 0],
    lambda x: linalg.qr(x)[0].T @ np.ones(5),
    lambda x: sum(t * t for t in null_space(x)[0]),
    lambda x: np.maximum(null_space(x), 0.0)[:, ::2],
    lambda x: np.linalg.solve(np.eye(2) + null_space(x) @ null_space(x).T, np.ones(2)),
    lambda x: dd.grad(lambda y: np.sum(null_space(y)), comm=ALONE)(x),
    lambda x: dd.jvp(lambda y: np.sum(null_space(y)), (x,), (x,), comm=ALONE)[1],
    lambda x: dd.jvp(lambda y: np.sum(y) * np.sum(null_space(x)), (x,), (x,), comm=ALONE)[1],
    lambda x: dd.recorded(lambda y: y * np.sum(null_space(x)), comm=ALONE)(x),
    lambda x: dd.implicit.fixed_point(lambda a, y: 0.1 * np.linalg.svd(a)[1][0] * y + 1.0, x, 1.0),
])
def test_what_uses_them_is_refused(f):
    with pytest.raises(UnsupportedOperationError, match=r"complete[s]? a basis.*(full_matrices=False|mode='reduced')"):
        trace(lambda x: f(x), (TALL,))


def test_one_of_many_is_named():
    def f(x):
        total = 0.0
        for _ in range(40):
            u, s, _ = np.linalg.svd(x)
            x = x + 0.01 * u[:, :3] * s
            total = total + np.sum(s)
        return total + np.sum(null_space(x))

    with pytest.raises(UnsupportedOperationError, match="in null_space: a result depends on vectors that complete"):
        trace(f, (TALL,))


def test_products_are_not_written_out():
    """Which nodes a product of n x n matrices reads are n^2, however many lines it has."""
    def f(x):
        y = np.ones((300, 300)) * np.linalg.svd(x)[1][0]
        return np.sum(y @ y)

    tracemalloc.start()
    try:
        trace(f, (TALL,))
        assert tracemalloc.get_traced_memory()[1] < 300**3
    finally:
        tracemalloc.stop()


def test_a_decision_may_use_them():
    """Its derivative is zero whatever the vectors are."""
    def f(x):
        u, s, _ = np.linalg.svd(x)
        return np.where(u[:, 3:] > 10.0, 0.0, 1.0) * s[0]

    np.testing.assert_allclose(dd.jvp(f, (TALL,), (TALL,), comm=ALONE)[1], np.linalg.svd(TALL)[1][0], rtol=1e-12)


@pytest.mark.mpi
def test_on_ranks_and_in_files(comm, tmp_path):
    g = dd.grad(reduced, comm=ALONE)
    np.testing.assert_allclose(dd.grad(pca, comm=comm)(TALL), g(TALL), rtol=1e-10, atol=1e-11)
    if comm.size == 1:
        dd.trace(pca, TALL).save(tmp_path / "pca.tape")
        loaded = dd.load(tmp_path / "pca.tape")
        np.testing.assert_allclose(dd.grad(loaded)(1.01 * TALL), g(1.01 * TALL), rtol=1e-10, atol=1e-11)
