"""Matrices: the algorithms for one and for many, what is factorized once, where derivatives end, methods, ranks, files.

Values and derivatives of every function are checked with the other functions of NumPy's (`linalg_cases`).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import warnings

import linalg_cases
import numpy as np
import pytest
import scipy.linalg
from mpi4py import MPI
from numpy_cases import ARGUMENTS, CASES, CONSTANTS
from scipy import linalg
from scipy.sparse import linalg as sparse_linalg
from test_numpy import check, flat, function_of

import distdiff as dd
from distdiff.errors import FormatError, NotDifferentiableError, UnsupportedOperationError
from distdiff.storage import elementals as named
from distdiff.tape import Joint
from distdiff.testing import taylor_test
from distdiff.tracing import trace
from distdiff.tracing.matrices import kernels
from distdiff.tracing.matrices.lu import Factors

ALONE = MPI.COMM_SELF
RNG = np.random.default_rng(5)
A = RNG.normal(size=(24, 3, 3)) + 3.0 * np.eye(3)
B = RNG.normal(size=(24, 3, 2))
S = np.array([[1.0, 2.0, 0.5], [1.0, 2.0, 0.5], [0.3, -1.0, 2.0]])  # singular
U3 = np.array([0.7, -1.3, 0.4])
ROTATED = np.linalg.qr(RNG.normal(size=(3, 3)))[0]


def energy(a, b):
    x = np.linalg.solve(a, b)
    return np.sum(x * x) + np.sum(np.linalg.slogdet(a)[1]) + np.sum(np.linalg.cholesky(a @ np.swapaxes(a, 1, 2)) ** 2)


def spectrum(a, b):
    w, v = np.linalg.eigh(a @ np.swapaxes(a, 1, 2) + np.arange(3.0) * np.eye(3))
    u, s, vt = np.linalg.svd(b, full_matrices=False)
    q, r = np.linalg.qr(a)
    return (np.sum(np.log(w) * v[:, 0] ** 2) + np.sum(u[..., 0] * s[..., :1] * vt[:, 0, :1]) + np.sum(q * r**2)
            + np.sum(np.linalg.pinv(b) ** 2) + np.sum(np.linalg.svd(a, compute_uv=False) ** 3))


# -- algorithms


@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize("row", [np.nan, -1.0, 3.0, 1e300])
def test_factors_whose_rows_have_no_order_give_nan(row, count, mode):
    """As a file may hold them: nothing is read or written beside an array, and nothing goes round for ever."""
    factors = kernels.lu(np.random.default_rng(1).normal(size=(count, 3, 3)))
    factors[0, 3, 1] = row
    for t in (False, True):
        assert np.isnan(kernels.solve(factors, np.ones((count, 3, 2)), t)).all()
    large = kernels.lu(np.eye(20) + 0.1)
    large[-1, :3] = [1.0, 2.0, 1.0]
    assert np.isnan(kernels.sign_of(large)).all()


@pytest.mark.parametrize("count", [1, 40, 200])
@pytest.mark.parametrize("n", [1, 3, 9])
def test_elimination_of_one_matrix_and_of_many(n, count, mode):
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


def test_a_singular_matrix_among_many_has_zeros_on_its_diagonal(mode):
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


def test_a_loop_with_one_matrix_factorizes_it_once(monkeypatch):
    """Traced or constant, until it is written to; also what else reads the same factors."""
    calls = []
    monkeypatch.setattr(kernels, "lu", lambda a, lu=kernels.lu: calls.append(1) or lu(a))
    constant = A[1].copy()

    def f(a, b):
        a = a * 1.0
        for _ in range(5):
            b = np.linalg.solve(constant, np.linalg.solve(a, b)) + np.linalg.slogdet(a)[1]
        a[0, 0] += 1.0
        b = np.linalg.solve(a, b) + np.linalg.inv(a)[0]
        constant[0, 0] += 1.0
        b = np.linalg.solve(constant, b)
        constant[0, 0] -= 1.0
        return b

    args = A[0], B[0, :, 0]
    tape = trace(f, args, argnums=(0, 1)).tape
    made = sum(type(item) is Joint and type(item.op) is Factors for item in tape.items)
    assert (len(calls), made) == (5, 3)  # after it was written to, a is made of pieces, which are not compared
    with dd.linearize(f, *args, argnums=(0, 1), method="sweep", comm=ALONE) as lin:
        np.testing.assert_allclose(lin.value, f(*args), rtol=1e-12)
        test = taylor_test(lambda a, b: np.sum(f(a, b) ** 2), *args, order=2, comm=ALONE)
        assert test.passed, str(test)

    def by_root(a, b):
        first = np.linalg.solve(a, b)
        return dd.implicit.root(lambda x, y: 2.0 * np.linalg.solve(x[0], y) - np.linalg.solve(x[0] + 1, y) - x[1],
                                (a, b), first) + np.linalg.solve(a + 1.0, first)

    test = taylor_test(lambda a, b: np.sum(by_root(a, b) ** 2), *args, order=2, comm=ALONE)
    assert test.passed, str(test)


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


# -- third derivatives: rules of rules


W3 = np.cos(np.arange(9.0)).reshape(3, 3)
SPD = np.diag([1.0, 2.0, 3.0])
OF_A_MATRIX = {
    "solve": lambda a: np.sum(np.linalg.solve(a, W3) ** 2),
    "det": np.linalg.det,
    "slogdet": lambda a: np.linalg.slogdet(a)[1],
    "cholesky": lambda a: np.sum(np.linalg.cholesky(a @ a.T) ** 3),
    "eigh": lambda a: np.sum(np.linalg.eigh(a)[1][:, 0] ** 3),
    "eigvalsh": lambda a: np.sum(np.linalg.eigvalsh(a) ** 4),
    "svd": lambda a: np.sum(np.linalg.svd(a)[0][:, 0] ** 3),
    "svd of a wide one": lambda a: np.sum(np.linalg.svd(a[:2], full_matrices=False)[2] ** 3),
    "singular values": lambda a: np.sum(np.linalg.svd(a, compute_uv=False) ** 3),
    "qr": lambda a: np.sum(np.linalg.qr(a[:, :2])[0] ** 3) + np.sum(np.linalg.qr(a)[1] ** 3),
    "pinv": lambda a: np.sum(np.linalg.pinv(a[:2]) ** 3),
    "eig": lambda a: np.sum(np.linalg.eig(a @ a.T @ SPD)[1][:, 0] ** 3),
    "eigvals": lambda a: np.sum(np.linalg.eigvals(a @ a.T @ SPD) ** 2),
    "expm": lambda a: np.sum(linalg.expm(a * 0.3) ** 2),
    "logm": lambda a: np.sum(linalg.logm(a @ a.T) ** 2),
    "lu": lambda a: np.sum(linalg.lu(a)[1] ** 3),
    "sylvester": lambda a: np.sum(linalg.solve_sylvester(a, a.T, W3) ** 2),
    "banded": lambda a: np.sum(linalg.solve_banded((1, 1), a + 5, W3) ** 2),
}


@pytest.mark.parametrize("name", OF_A_MATRIX)
def test_third_derivatives(name):
    """d^3 f along (v, w, v) as the derivative of a second derivative, against its differences."""
    f, a, v = OF_A_MATRIX[name], np.diag([2.0, 3.0, 4.5]) + 0.3 * W3, np.sin(W3 * 5.0)

    def second(x):
        return np.sum(dd.hvp(f, (x,), (v,), comm=ALONE) * W3)

    h = 1e-5
    expected = (second(a + h * v) - second(a - h * v)) / (2.0 * h)
    found = dd.jvp(second, (a,), (v,), comm=ALONE)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


# -- where derivatives end


def test_a_determinant_at_a_singular_matrix():
    """Its first derivative is the matrix of cofactors, at rank n - 1 and below (more in `test_singular`)."""
    cofactors = np.array([[np.linalg.det(np.delete(np.delete(S, i, 0), j, 1)) * (-1) ** (i + j) for j in range(3)]
                          for i in range(3)])
    np.testing.assert_allclose(dd.grad(np.linalg.det, comm=ALONE)(S), cofactors, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(dd.grad(np.linalg.det, comm=ALONE)(np.zeros((3, 3))), 0.0)
    np.testing.assert_array_equal(dd.grad(np.linalg.det, comm=ALONE)(np.zeros((1, 1))), 1.0)
    nearly = ROTATED @ np.diag([1.0, 0.5, 1e-13]) @ ROTATED.T
    np.testing.assert_allclose(ROTATED.T @ dd.grad(np.linalg.det, comm=ALONE)(nearly) @ ROTATED,
                               np.diag([0.0, 0.0, 0.5]), atol=1e-12)


TWICE = ROTATED @ np.diag([2.0, 2.0, 5.0]) @ ROTATED.T


def test_functions_of_equal_eigenvalues_that_are_symmetric_in_them():
    """Their derivative is there, and is that of the same function written without eigenvalues."""
    for f, g in ((lambda a: np.sum(np.linalg.eigvalsh(a)), np.trace),
                 (lambda a: np.prod(np.linalg.eigvalsh(a)), np.linalg.det),
                 (lambda a: np.sum(np.linalg.eigvalsh(a) ** 3), lambda a: np.trace(a @ a @ a)),
                 (lambda a: np.linalg.eigh(a)[0].sum(), np.trace)):
        for a in (TWICE, np.eye(3) * 2.0):
            lower = np.tril(dd.grad(g, comm=ALONE)(a)) + np.triu(dd.grad(g, comm=ALONE)(a), 1).T
            np.testing.assert_allclose(dd.grad(f, comm=ALONE)(a), lower, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(dd.jvp(lambda a: np.sum(np.linalg.eigvalsh(a) ** 2), (TWICE,), (A[0] + A[0].T,),
                                      comm=ALONE)[1], 2.0 * np.sum(TWICE * (A[0] + A[0].T)), rtol=1e-11)
    for f, g in ((lambda a: np.sum(np.linalg.svd(a, compute_uv=False) ** 2), lambda a: np.sum(a * a)),
                 (lambda a: np.sum(np.linalg.svd(a, full_matrices=False)[1] ** 2), lambda a: np.sum(a * a)),
                 (lambda a: np.sum(np.linalg.eigvals(a) ** 2), lambda a: np.trace(a @ a))):
        np.testing.assert_allclose(dd.grad(f, comm=ALONE)(TWICE), dd.grad(g, comm=ALONE)(TWICE), rtol=1e-9, atol=1e-9)


def test_vectors_of_equal_eigenvalues_have_no_derivative():
    other = np.diag([1.0, 2.0, 3.0])
    for f in (lambda a: np.sum(np.linalg.eigh(a)[1][:, 0] * U3), lambda a: np.sum(np.linalg.svd(a)[0][:, 1] * U3),
              lambda a: np.sum(np.linalg.svd(a)[2][1] * U3), lambda a: np.sum(np.linalg.eig(a)[1][:, 0] * U3),
              lambda a: np.sum(np.sqrt(np.linalg.eigh(a)[0]) * np.linalg.eigh(a)[1] @ U3)):
        for derivative in (lambda f: dd.grad(f, comm=ALONE)(np.diag([2.0, 2.0, 5.0])),
                           lambda f: dd.jvp(f, (np.diag([2.0, 2.0, 5.0]),), (other,), comm=ALONE)):
            with pytest.raises(NotDifferentiableError, match="belong to one value, 2:"):
                derivative(f)
    with pytest.raises(NotDifferentiableError):  # second derivatives go through the vectors
        dd.hvp(lambda a: np.sum(np.linalg.eigvalsh(a) ** 2), (TWICE,), (TWICE,), comm=ALONE)


def test_a_vector_beside_equal_eigenvalues_has_its_derivative():
    """That of the eigenvalue 5, though the two others are equal; a sweep asks for no more than is used."""
    def f(a):
        return np.sum(np.linalg.eigh(a)[1][:, 2] * U3) ** 2

    def by_power(a):
        for _ in range(6):
            a = a @ a / np.trace(a @ a)
        return U3 @ a @ U3 / np.trace(a)

    g = dd.grad(by_power, comm=ALONE)(TWICE)
    np.testing.assert_allclose(dd.grad(f, comm=ALONE, method="sweep")(TWICE), np.tril(g) + np.triu(g, 1).T,
                               rtol=1e-10, atol=1e-12)


def test_where_other_factorizations_end():
    low = np.outer(U3, U3)
    for f, match in ((lambda a: np.sum(np.linalg.pinv(a)), "3 x 3 matrix of rank 1"),
                     (lambda a: np.sum(np.linalg.qr(a)[0]), "columns are linearly dependent"),
                     (lambda a: np.sum(np.linalg.svd(a[:2], full_matrices=False)[2]), "belong to the singular value 0"),
                     (lambda a: np.sum(np.linalg.lstsq(a, U3, rcond=None)[0]), "of rank 1"),
                     (lambda a: np.sum(np.linalg.eigvals(a - low + np.eye(3, k=1))), "no basis of eigenvectors")):
        with pytest.raises(NotDifferentiableError, match=match):
            dd.grad(f, comm=ALONE)(low)
    turned = np.array([[0.0, -1.0], [1.0, 0.0]])
    for f in (lambda a: np.sum(np.linalg.eigvals(a)), lambda a: np.sum(np.linalg.eig(a)[0])):
        with dd.linearize(f, np.diag([1.0, 2.0]), comm=ALONE) as lin, pytest.raises(
                UnsupportedOperationError, match="complex eigenvalues here"):
            lin.update(turned)
    for f, match in ((lambda a: np.linalg.eigvals(a + 0j).real.sum(), "no basis of eigenvectors"),
                     (lambda a: np.abs(np.linalg.eig(a + 0j)[1]).sum(), "no basis of eigenvectors"),
                     (lambda a: np.linalg.slogdet(a + 0j)[1], "singular complex matrix")):
        with pytest.raises(NotDifferentiableError, match=match):
            dd.grad(f, comm=ALONE)(np.eye(3, k=1))
    for f in (lambda a: np.linalg.svd(a[:2])[2], lambda a: np.linalg.qr(a[:, :2], "complete"),
              lambda a: np.linalg.qr(a, "raw"), lambda a: np.linalg.pinv(a, np.array([1e-3, 1e-4]))):
        with pytest.raises(UnsupportedOperationError):
            trace(f, (TWICE,))


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


# -- SciPy's


SCIPY = [f"~{line}" for line in linalg_cases.SCIPY.splitlines() if line]


@pytest.mark.parametrize("case", SCIPY)
def test_as_scipy(case):
    check(case, constants={**CONSTANTS, "linalg": scipy.linalg}, layouts=False)


def test_what_is_not_done_with_scipys_options_is_refused():
    for f in (lambda a: linalg.solve(a, U3, assume_a="tridiagonal"), lambda a: linalg.lu(a[:2]),
              lambda a: linalg.lu_factor(a[:, :2]), lambda a: linalg.eigh(a, subset_by_index=[0, 1]),
              lambda a: linalg.eigh(a, subset_by_value=[0, 1]), lambda a: linalg.eigh(a, a, type=2),
              lambda a: linalg.eig(a, left=True), lambda a: linalg.svd(a[:2]), lambda a: linalg.qr(a, pivoting=True),
              lambda a: linalg.qr(a[:, :2]), lambda a: linalg.qr(a, mode="raw"), lambda a: linalg.pinv(a, atol=1e-3),
              lambda a: linalg.logm(a, disp=False), lambda a: linalg.logm(-a), lambda a: linalg.sqrtm(-a)):
        with pytest.raises(UnsupportedOperationError):
            trace(f, (TWICE,))
    for f in (lambda a: linalg.solve_triangular(a * 0.0, U3), lambda a: linalg.lu_solve(linalg.lu_factor(a * 0.0), U3),
              lambda a: linalg.solve_banded((1, 1), a * 0.0, U3), lambda a: linalg.cho_factor(-a)):
        with pytest.raises(np.linalg.LinAlgError):
            trace(f, (TWICE,))
    with pytest.raises(ValueError, match="not compatible"):
        trace(lambda a: linalg.solve_banded((1, 2), a, U3), (TWICE,))


def test_what_has_no_rule_is_refused_with_the_users_line():
    """Whatever SciPy stumbles over: compiled code with words of its own."""
    for f in (lambda a: linalg.rq(a), lambda a: linalg.ldl(a), lambda a: linalg.solve_toeplitz(a[0], U3)):
        with pytest.raises(UnsupportedOperationError, match=" at .*test_linalg.py"):
            trace(f, (TWICE,))
    with pytest.raises(TypeError, match="unexpected") as raised:  # the user's own
        trace(lambda a: (lambda: a)(unexpected=1), (TWICE,))
    assert type(raised.value) is TypeError


def test_another_order_of_pivots_is_another_tape():
    """L and U are functions of A as long as rows are exchanged alike, which is decided."""
    def f(a):
        return np.sum(linalg.lu(a)[1] ** 2)

    F = dd.recorded(f, comm=ALONE)
    for a in (A[0], A[0][::-1].copy(), A[0]):
        np.testing.assert_allclose(F.grad(a), dd.grad(f, comm=ALONE)(a), rtol=1e-12)
    assert F.counts.traces == 2 if hasattr(F.counts, "traces") else F.counts["traces"] == 2


@pytest.mark.mpi
def test_bands_and_functions_of_matrices_on_ranks(comm):
    def f(x):
        for _ in range(2):
            x = linalg.solve_banded((1, 1), np.stack([np.sin(x), 4.0 + x * x, np.cos(x)]), x)
        return np.sum(x**2) + np.sum(linalg.expm(np.outer(x[:3], x[3:6])))

    x = np.linspace(0.3, 1.0, 40)
    for method in ("sweep", "substitution"):
        settings = {"comm": comm, "method": method, "min_block": 1}
        np.testing.assert_allclose(dd.grad(f, **settings)(x), dd.grad(f, comm=ALONE, method="sweep")(x), rtol=1e-10)
    np.testing.assert_allclose(dd.hvp(f, (x,), (x,), comm=comm), dd.hvp(f, (x,), (x,), comm=ALONE), rtol=1e-9)


# -- methods, ranks, files


@pytest.mark.parametrize("case", [*(line for text in linalg_cases.SECTIONS.values() for line in text.splitlines()
                                    if line in CASES), *SCIPY])
def test_sweeps_and_assembled_rows_agree(case):
    """They call the rules otherwise: with one tangent or adjoint of what is used, and with all unit vectors."""
    f, names, _ = function_of(case, {**CONSTANTS, "linalg": scipy.linalg})
    args = [ARGUMENTS[name] for name in names]
    found = []
    for method in ("sweep", "substitution"):
        with warnings.catch_warnings(), dd.linearize(f, *args, argnums=tuple(range(len(args))), method=method,
                                                     comm=ALONE) as lin:
            warnings.simplefilter("ignore")
            w = tree_map(lambda x: np.cos(np.arange(float(np.size(x)))).reshape(np.shape(x)), lin.value)
            v = [np.sin(1.0 + np.arange(np.size(x))).reshape(np.shape(x)) for x in args]
            found.append((flat(lin.jvp(*v)), flat(lin.vjp(w))))
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)


def tree_map(g, tree):
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(tree_map(g, part) for part in tree))
    return type(tree)(tree_map(g, part) for part in tree) if isinstance(tree, (tuple, list)) else g(tree)


@pytest.mark.mpi
@pytest.mark.parametrize("energy", [energy, spectrum])
@pytest.mark.parametrize("method", ["sweep", "substitution", "krylov"])
def test_batches_on_ranks(method, energy, comm):
    """Loop axes are cut over ranks; every method has the same derivative."""
    a, b = A[::4], B[::4]
    g = dd.grad(energy, argnums=(0, 1), comm=ALONE, method="sweep")(a, b)
    with dd.linearize(energy, a, b, argnums=(0, 1), comm=comm, partition="axes", min_block=1, method=method) as lin:
        assert comm.size == 1 or lin.report().partition.startswith("axes")
        for got, expected in zip(lin.vjp(1.0), g):
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
        tangent = lin.jvp(a, b)
        np.testing.assert_allclose(tangent, np.sum(g[0] * a) + np.sum(g[1] * b), rtol=1e-11)
    if method != "substitution":
        return
    v = (np.sin(a), np.cos(b))
    hv = [dd.hvp(energy, (a, b), v, comm=c, method=method) for c in (ALONE, comm)]
    np.testing.assert_allclose(hv[0][0], hv[1][0], rtol=1e-10, atol=1e-11)


def test_every_elemental_has_a_name_in_files():
    """Those that any case leaves on a tape, and those of their derivatives."""
    seen = {}
    for case, space in [*((c, CONSTANTS) for text in linalg_cases.SECTIONS.values() for c in text.splitlines()
                          if c in CASES), *((c, {**CONSTANTS, "linalg": scipy.linalg}) for c in SCIPY)]:
        f, names, _ = function_of(case, space)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tape = trace(f, tuple(ARGUMENTS[name] for name in names), argnums=tuple(range(len(names)))).tape
        seen.update((item.op, None) for item in tape.items if type(item) is Joint)
    def caught(q):
        with contextlib.suppress(np.linalg.LinAlgError):
            np.linalg.cholesky(-q @ q.T)
        return np.sum(q)

    seen.update((item.op, None) for item in trace(caught, (np.eye(2),)).tape.items if type(item) is Joint)
    for op in seen:
        text = json.loads(json.dumps(named.to_json(op, [], [])))
        again = named.from_json(text, 10**6, [], [])
        assert again == op and hash(again) == hash(op)
    for name in (place for place in named.BUILT_IN if ".matrices." in named.BUILT_IN[place]):
        for junk in ({}, {"n": -1}, {"n": "2"}, {"n": 2.5, "m": 1}, {"n": None, "m": None}, {"q": 1},
                     {"n": [2], "m": [2]}, {"function": "system", "n": 2}, {"n": 2, "driver": "rm"},
                     {"n": 10**9, "m": 1}):
            with pytest.raises(FormatError):
                named.from_json([name, junk], 10**6, [], [])
    places = {place for place in named.BUILT_IN.values() if ".matrices." in place}
    made = {f"{type(op).__module__}:{type(op).__name__}" for op in seen}
    missing = {place.rpartition(":")[2] for place in places - made}
    assert missing == {"Cofactors", "CofactorsPair", "PinvChange",  # of derivatives alone (`test_singular`)
                       "Iterative", "SparseSolve", "SparseSystem"}  # tested with sparse matrices


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
        rest = np.sum(np.linalg.inv(a)) + np.linalg.det(a[0]) + np.sum(np.linalg.eigvalsh(a[1] @ a[1].T) ** 2)
        rest = rest + np.sum(linalg.expm(a[0])) + np.sum(linalg.solve_banded((1, 1), a[1] + 3.0, b[0]))
        rest = rest + np.sum(linalg.lu(a[2])[0]) + np.sum(linalg.solve_sylvester(a[3], a[4], a[5]))
        rest = rest + np.abs(np.linalg.det(a[0] + 1j * a[1])) + np.sum(np.linalg.pinv(b[:3], 1e-3) ** 2)
        rest = rest + np.sum(np.linalg.svd(b[0])[1]) + np.sum(np.linalg.qr(b[1], "complete")[1])
        rest = rest + np.sum(sparse_linalg.cg(np.eye(3) * 4.0 + a[2] @ a[2].T, b[0, :, 0])[0])
        rest = rest + np.sum(linalg.eigh(a[1] @ a[1].T)[0] ** 2) + np.sum(linalg.cho_solve((a[6], True), b[0]))
        return energy(a, b) + spectrum(a, b) + rest + np.sum(np.linalg.eigh(a[1] @ a[1].T)[1][0])

    n = (0, 1)
    there = in_another_process(tmp_path, f, A, B)
    x = (1.01 * A, 1.01 * B)
    here = [*dd.grad(f, argnums=n, comm=ALONE)(*x), *dd.hvp(f, x, x, comm=ALONE)]
    for a, b in zip(there, here, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
