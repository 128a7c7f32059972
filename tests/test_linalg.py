"""Matrices: the algorithms for one and for many, what is factorized once, where derivatives end, methods, ranks, files.

Values and derivatives of every function are checked with the other functions of NumPy's (`linalg_cases`).
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import SingularError
from distdiff.tape import Joint
from distdiff.testing import taylor_test
from distdiff.tracing import trace
from distdiff.tracing.matrices import kernels

ALONE = MPI.COMM_SELF
RNG = np.random.default_rng(5)
A = RNG.normal(size=(24, 3, 3)) + 3.0 * np.eye(3)
B = RNG.normal(size=(24, 3, 2))
S = np.array([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5], [0.3, -1.0, 2.0]])  # singular
ROTATED = np.linalg.qr(RNG.normal(size=(3, 3)))[0]


def energy(a, b):
    x = np.linalg.solve(a, b)
    return np.sum(x * x) + np.sum(np.linalg.slogdet(a)[1]) + np.sum(np.linalg.cholesky(a @ np.swapaxes(a, 1, 2)) ** 2)


# -- algorithms


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("n", [1, 3, 9])
def test_elimination_of_one_matrix_and_of_many(n, count):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(count, n, n)), rng.normal(size=(5, count, n, 2))
    factors = kernels.lu(a)
    lower, upper = np.tril(factors[:, :n], -1) + np.eye(n), np.triu(factors[:, :n])
    rows = factors[:, n].astype(int)
    np.testing.assert_allclose(lower @ upper, np.take_along_axis(a, rows[..., None], 1), rtol=1e-12, atol=1e-13)
    assert np.abs(lower).max() <= 1.0  # partial pivoting
    np.testing.assert_array_equal(kernels.sign_of(factors), np.rint(np.linalg.det(np.eye(n)[rows])))
    for t in (False, True):
        m = np.swapaxes(a, 1, 2) if t else a
        for right in (b, b[0], b[0, 0], b[:, :1]):
            np.testing.assert_allclose(m @ kernels.solve(factors, right, t), right + 0 * m[..., :1], rtol=1e-9,
                                       atol=1e-10)
        np.testing.assert_allclose(m[0] @ kernels.solve(factors[0], b, t), b, rtol=1e-9, atol=1e-10)
        for low in (False, True):
            for unit in (False, True):
                tri = (np.tril if low else np.triu)(a + 3.0 * np.eye(n))
                tri[:, np.arange(n), np.arange(n)] = 1.0 if unit else tri[:, np.arange(n), np.arange(n)]
                x = kernels.solve_triangular(a + 3.0 * np.eye(n), b, low, t, unit)
                np.testing.assert_allclose((np.swapaxes(tri, 1, 2) if t else tri) @ x, b, rtol=1e-9, atol=1e-9)


def test_a_singular_matrix_among_many_has_zeros_on_its_diagonal():
    a = np.concatenate([A, S[None], np.zeros((1, 3, 3))])
    for some in (a, a[-2:]):
        factors = kernels.lu(some)
        assert np.isfinite(factors).all() and not kernels.diagonal_of(factors)[-2:].all(axis=1).any()
        with pytest.raises(np.linalg.LinAlgError):
            kernels.solve(factors, np.ones((3, 1)), False)


# -- what stands on the tape


def test_a_matrix_is_factorized_once_a_point(monkeypatch):
    calls = []
    monkeypatch.setattr(kernels, "lu", lambda a, lu=kernels.lu: calls.append(1) or lu(a))

    def f(a, b):
        return np.sum(np.linalg.solve(a, b) ** 2)

    with dd.linearize(f, A[0], B[0, :, 0], argnums=(0, 1), method="sweep", comm=ALONE) as lin:
        for _ in range(3):
            lin.vjp(1.0)
            lin.jvp(A[1], B[1, :, 0])
        assert len(calls) == 1
        lin.update(A[1], B[0, :, 0])
        lin.vjp(1.0)
        assert len(calls) == 2
    dd.hvp(f, (A[0], B[0, :, 0]), (A[1], B[1, :, 0]), comm=ALONE)
    assert len(calls) == 3


def test_a_solve_is_two_statements_not_n_cubed_lines():
    n = 40
    tape = trace(lambda a, b: np.linalg.solve(a, b), (np.eye(n) * 3, np.ones(n)), argnums=(0, 1)).tape
    assert [type(item) for item in tape.items] == [Joint, Joint]
    assert tape.n_nodes == n * n + n + (n + 1) * n + n  # matrix and right-hand side, factors, solution
    with dd.linearize(lambda b: np.linalg.solve(np.eye(n) * 3, b), np.ones(n), method="substitution",
                      comm=ALONE) as lin:
        assert "80 rows kept" in str(lin.report())


def test_vectors_of_a_batch_as_numpy_has_them():
    """NumPy 1 takes (24, 3) for 24 vectors, NumPy 2 for a matrix of 24 rows."""
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        def f(a):
            return np.linalg.solve(a, B[:, :, 0])

        np.testing.assert_allclose(trace(f, (A,)).result, f(A), rtol=1e-13)
        assert taylor_test(f, A, comm=ALONE).passed
    for bad in (lambda a: np.linalg.solve(a, np.ones(4)), lambda a: np.linalg.solve(a[0, :2], np.ones(2)),
                lambda a: np.linalg.inv(a[0, 0]), lambda a: np.linalg.tensorinv(a[0], 0)):
        with pytest.raises((ValueError, np.linalg.LinAlgError)):
            bad(A)
        with pytest.raises((ValueError, np.linalg.LinAlgError)):
            trace(bad, (A,))
    assert trace(lambda a: np.sum(a) + np.linalg.solve(a, np.zeros((24, 3, 0))).size, (A,)).result == A.sum()


# -- where derivatives end


def test_a_determinant_at_a_singular_matrix():
    """Its first derivative is the matrix of cofactors, at rank n - 1 and below; its second is refused."""
    cofactors = np.array([[np.linalg.det(np.delete(np.delete(S, i, 0), j, 1)) * (-1) ** (i + j) for j in range(3)]
                          for i in range(3)])
    np.testing.assert_allclose(dd.grad(np.linalg.det, comm=ALONE)(S), cofactors, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(dd.grad(np.linalg.det, comm=ALONE)(np.zeros((3, 3))), 0.0)
    np.testing.assert_array_equal(dd.grad(np.linalg.det, comm=ALONE)(np.zeros((1, 1))), 1.0)
    nearly = ROTATED @ np.diag([1.0, 0.5, 1e-13]) @ ROTATED.T
    np.testing.assert_allclose(ROTATED.T @ dd.grad(np.linalg.det, comm=ALONE)(nearly) @ ROTATED,
                               np.diag([0.0, 0.0, 0.5]), atol=1e-12)
    with pytest.raises(SingularError, match="second derivative of det is wanted at a singular matrix"):
        dd.hvp(np.linalg.det, (S,), (S,), comm=ALONE)


@pytest.mark.mpi
@pytest.mark.timeout(60)
def test_singular_matrices_raise_on_all_ranks(comm):
    """Only one of many is singular, first in the trace, then at another point."""
    def solve(a):
        return np.linalg.solve(a, B)

    settings = {"comm": comm, "partition": "axes", "min_block": 1}
    bad = A.copy()
    bad[-1] = S
    with pytest.raises(np.linalg.LinAlgError, match="Singular"):
        dd.linearize(solve, bad, **settings)
    with dd.linearize(solve, A, **settings) as lin:
        with pytest.raises(np.linalg.LinAlgError, match="Singular"):
            lin.update(bad)
        lin.update(A)
        lin.vjp(B)
    with dd.linearize(lambda a: np.linalg.slogdet(a)[0], bad, **settings) as lin:
        assert lin.value[-1] == 0.0
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        dd.linearize(lambda a: np.linalg.cholesky(a), -A @ np.swapaxes(A, 1, 2), **settings)


# -- methods, ranks, files


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["sweep", "substitution", "krylov"])
def test_batches_on_ranks(method, comm):
    """Loop axes are cut over ranks; every method has the same derivative."""
    g = dd.grad(energy, argnums=(0, 1), comm=ALONE, method="sweep")(A, B)
    with dd.linearize(energy, A, B, argnums=(0, 1), comm=comm, partition="axes", min_block=1, method=method) as lin:
        assert comm.size == 1 or lin.report().partition.startswith("axes")
        for got, expected in zip(lin.vjp(1.0), g):
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
        tangent = lin.jvp(A, B)
        np.testing.assert_allclose(tangent, np.sum(g[0] * A) + np.sum(g[1] * B), rtol=1e-11)
    v = (np.sin(A), np.cos(B))
    hv = [dd.hvp(energy, (A, B), v, comm=c, method=method) for c in (ALONE, comm)]
    np.testing.assert_allclose(hv[0][0], hv[1][0], rtol=1e-10, atol=1e-11)


def in_another_process(tmp_path, f, *args):
    """The gradient and a second derivative of a saved tape, as another process without f computes them."""
    dd.trace(f, *args, argnums=tuple(range(len(args)))).save(tmp_path / "f.tape", point=args)
    code = ("import sys, numpy as np, distdiff as dd; t = dd.load(sys.argv[1]); x = t.point;"
            "n = tuple(range(len(x))); x = [1.01 * part for part in x];"
            "g = dd.grad(t, argnums=n)(*x); h = dd.hvp(t, tuple(x), tuple(x));"
            "np.savez(sys.argv[2], *g, *(h if len(x) > 1 else (h,)))")
    subprocess.run([sys.executable, "-c", code, tmp_path / "f.tape", tmp_path / "g.npz"], check=True, timeout=60)
    with np.load(tmp_path / "g.npz") as found:
        return list(found.values())


def test_saved_tapes_have_their_elementals_everywhere(tmp_path):
    def f(a, b):
        return energy(a, b) + np.sum(np.linalg.inv(a)) + np.linalg.det(a[0])

    n = (0, 1)
    there = in_another_process(tmp_path, f, A, B)
    x = (1.01 * A, 1.01 * B)
    here = [*dd.grad(f, argnums=n, comm=ALONE)(*x), *dd.hvp(f, x, x, comm=ALONE)]
    for a, b in zip(there, here, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
