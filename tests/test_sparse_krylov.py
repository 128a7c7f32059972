"""SciPy's Krylov methods as solves: the derivative of A x = b, whatever way x was found."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from mpi4py import MPI
from scipy.sparse.linalg import cg

import distdiff as dd
from distdiff.errors import ConvergenceError, InputError, UnsupportedOperationError
from distdiff.testing import taylor_test
from distdiff.tracing.matrices.iterative import METHODS

pytestmark = pytest.mark.filterwarnings("ignore:scipy.sparse.linalg:DeprecationWarning")  # of atol's default
ALONE = MPI.COMM_SELF
N = 8
SYMMETRIC = sp.diags([-1.0, 3.0, -1.0], [-1, 0, 1], shape=(N, N)).tocsr()
OTHER = (SYMMETRIC + sp.diags([0.3], [2], shape=(N, N))).tocsr()
TIGHT = {"atol": 1e-13} if "atol" in vars(spl.cg).get("__kwdefaults__", {}) else {"tol": 1e-13}
X = np.linspace(0.4, 1.3, N)


def matrix_of(method):
    return SYMMETRIC if method in ("cg", "minres") else OTHER


POINTS, V = (X, 0.9 * X + 0.1), np.cos(X)


def energy(a, solve):
    """Of solutions with a's entries scaled by x, and with a itself."""
    rows, columns = a.nonzero()

    def f(x):
        entries = np.asarray(a.tocoo().data) * (1.0 + 0.1 * np.sin(x[0]))
        u = solve(sp.coo_matrix((entries, (rows, columns)), shape=(N, N)).tocsr(), x * x)
        return np.sum(u**3) + np.sum(solve(a, u * x) * u)

    return f


@cache
def exact(symmetric):
    """Value and gradient at both points and a Hessian's product, by spsolve."""
    f = energy(SYMMETRIC if symmetric else OTHER, lambda m, b: spl.spsolve(m.tocsc(), b))
    with dd.linearize(f, X, comm=ALONE) as lin:
        found = []
        for x in POINTS:
            lin.update(x)
            found.append((lin.value, lin.vjp(1.0)))
        return found, lin.hvp(V)


@pytest.mark.parametrize("method", METHODS)
def test_right_hand_sides_and_entries(method):
    """Value, both modes, second order and another point, beside spsolve."""
    a, solve = matrix_of(method), getattr(spl, method)
    firsts, second = exact(a is SYMMETRIC)
    with dd.linearize(energy(a, lambda m, b: solve(m, b, **TIGHT)[0]), X, comm=ALONE) as lin:
        for x, (value, gradient) in zip(POINTS, firsts):
            lin.update(x)
            np.testing.assert_allclose(lin.value, value, rtol=1e-9)
            np.testing.assert_allclose(lin.vjp(1.0), gradient, rtol=1e-8)
            np.testing.assert_allclose(lin.jvp(V), lin.vjp(1.0) @ V, rtol=1e-11)
        np.testing.assert_allclose(lin.hvp(V), second, rtol=1e-7)


def test_arrays_starts_and_preconditioners(tmp_path):
    dense = OTHER.toarray()
    inverse = spl.LinearOperator((N, N), spl.spilu(OTHER.tocsc()).solve)

    def by_array(m, x):
        return np.sum(spl.gmres(m, x, **TIGHT)[0] ** 2) + np.sum(spl.bicgstab(dense, x, x0=0.1 * x, **TIGHT)[0])

    def held(x):
        return np.sum(spl.gmres(OTHER, x, M=inverse, **TIGHT)[0] ** 2)

    test = taylor_test(by_array, dense, X, order=2, comm=ALONE)
    assert test.passed, str(test)
    np.testing.assert_allclose(dd.grad(by_array, (0, 1), comm=ALONE)(dense, X)[1], dd.grad(
        lambda x: np.sum(np.linalg.solve(dense, x) ** 2) + np.sum(np.linalg.solve(dense, x)), comm=ALONE)(X), rtol=1e-9)
    np.testing.assert_allclose(dd.grad(held, comm=ALONE)(X), dd.grad(
        lambda x: np.sum(np.linalg.solve(dense, x) ** 2), comm=ALONE)(X), rtol=1e-9)
    seen = []
    dd.grad(lambda x: np.sum(cg(SYMMETRIC, x, callback=seen.append)[0]), comm=ALONE)(X)  # bound before any trace
    assert seen and not any(type(x) is not np.ndarray for x in seen)
    with pytest.raises(InputError, match="can't be saved"):
        dd.trace(held, X).save(tmp_path / "held.tape")

    def saved(x):
        return np.sum(spl.cg(SYMMETRIC, x * x, maxiter=50, **TIGHT)[0] ** 2)

    dd.trace(saved, X).save(tmp_path / "saved.tape")
    g = dd.load(tmp_path / "saved.tape")
    np.testing.assert_allclose(dd.hvp(g, (1.01 * X,), (X,), comm=ALONE), dd.hvp(saved, (1.01 * X,), (X,), comm=ALONE))


def test_loose_tolerances_have_the_derivative_of_the_equation():
    """At the x that was found: exact to rounding where b alone is traced."""
    gradient = dd.grad(lambda b: np.sum(spl.cg(SYMMETRIC, b)[0] * X), comm=ALONE)(X)
    np.testing.assert_allclose(gradient, spl.spsolve(SYMMETRIC.tocsc(), X), rtol=1e-12)


def test_what_ends_without_a_solution_is_an_error():
    with pytest.raises(ConvergenceError, match="cg of a matrix of order 8 ended without a solution"):
        dd.grad(lambda b: np.sum(spl.cg(SYMMETRIC, b, maxiter=1, **TIGHT)[0]), comm=ALONE)(X)
    with dd.linearize(lambda b: np.sum(spl.cg(SYMMETRIC, b, maxiter=1, **TIGHT)[0]), np.ones(N) * 0.0 + np.linalg.eigh(
            SYMMETRIC.toarray())[1][:, 0], comm=ALONE) as lin, pytest.raises(ConvergenceError, match="ended without"):
        lin.update(X)


def test_what_is_refused():
    operator = spl.aslinearoperator(SYMMETRIC)
    for f, match in ((lambda b: spl.cg(operator, b)[0], r"cg of an operator that is no matrix.*implicit\.root"),
                     (lambda b: spl.cg(SYMMETRIC, b, M=sp.diags(b))[0], "cg with traced options")):
        with pytest.raises(UnsupportedOperationError, match=match):
            dd.grad(lambda b, f=f: np.sum(f(b)), comm=ALONE)(X)
    np.testing.assert_allclose(dd.grad(lambda b: np.sum(b * cg(operator, X)[0]), comm=ALONE)(X), cg(operator, X)[0])


@pytest.mark.mpi
def test_on_ranks(comm):
    def f(x):
        for _ in range(2):
            x = spl.gmres(OTHER, np.sin(x), **TIGHT)[0]
        return np.sum(x**2)

    np.testing.assert_allclose(dd.grad(f, comm=comm, min_block=1)(X), dd.grad(f, comm=ALONE)(X), rtol=1e-9)
