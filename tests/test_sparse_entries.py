"""Sparse matrices of SciPy's whose entries are traced, against the same arithmetic with dense ones."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.sparse.linalg import factorized, splu, spsolve, spsolve_triangular

import distdiff as dd
from distdiff.errors import NotDifferentiableError, SingularError, UnsupportedOperationError
from distdiff.tracing import trace

pytestmark = pytest.mark.few_ranks
X = np.array([0.7, 1.3, 2.1, 0.9, 1.7])
V = np.array([0.3, -1.0, 0.5, 2.0, 0.1])
ROWS, COLUMNS = np.array([0, 1, 1, 2, 0]), np.array([2, 0, 1, 2, 2])  # two at one place
B = np.array([1.0, 2.0, -1.0])
D = np.array([[4.0, 1.0, 0.0], [0.0, 5.0, 1.0], [1.0, 0.0, 6.0]])
S = sp.csr_matrix(D)


def dense(x):
    a = np.zeros((3, 3))
    np.add.at(a, (ROWS, COLUMNS), x)
    return a


def bands(x):
    return np.diag(x[:3]) + np.diag(x[3:], 1)


def listed(x):
    a = np.zeros((3, 3))
    a[[0, 0, 1, 2], [1, 0, 0, 2]] = x[:4]
    return a


MADE = {  # how a matrix may be made, and the same as a dense one
    "coo": (lambda x: sp.coo_matrix((x, (ROWS, COLUMNS)), shape=(3, 3)), dense),
    "csc": (lambda x: sp.csc_matrix((x, (ROWS, COLUMNS)), shape=(3, 3)), dense),
    "csr": (lambda x: sp.csr_matrix((x[:4], [1, 0, 0, 2], [0, 2, 3, 4]), shape=(3, 3)), listed),
    "array": (lambda x: sp.csr_array((x, (ROWS, COLUMNS)), shape=(3, 3)), dense),
    "diags": (lambda x: sp.diags([x[:3], x[3:]], [0, 1]), bands),
    "a list": (lambda x: sp.coo_matrix(([x[0], x[1], x[2] * 2.0, 1.0], (ROWS[:4], COLUMNS[:4])), shape=(3, 3)),
               lambda x: dense(np.array([x[0], x[1], 2.0 * x[2], 1.0, 0.0]))),
    "filled": (lambda x: sp.csc_matrix((filled(x), (ROWS, COLUMNS)), shape=(3, 3)), dense),
}
DONE = {  # what is done with it
    "A @ b": (lambda a, x: a @ B, lambda a, x: a @ B),
    "A @ x": (lambda a, x: a @ x[:3], lambda a, x: a @ x[:3]),
    "A @ X": (lambda a, x: a @ np.outer(x[:3], B), lambda a, x: a @ np.outer(x[:3], B)),
    "A.T.dot": (lambda a, x: a.T.dot(B), lambda a, x: a.T @ B),
    "b @ A": (lambda a, x: B @ a + x[:3] @ a, lambda a, x: B @ a + x[:3] @ a),
    "scaled": (lambda a, x: (-2.0 * a * x[0] / x[1]) @ B, lambda a, x: (-2.0 * a * x[0] / x[1]) @ B),
    "converted": (lambda a, x: a.tocsc().tocsr().tocoo().tocsc() @ B, lambda a, x: a @ B),
    "sums": (lambda a, x: (S + a.tocsr() - S.T) @ B, lambda a, x: (D + a - D.T) @ B),
    "with itself": (lambda a, x: (a.tocsc() - 0.5 * a.T.tocsc()) @ x[:3], lambda a, x: (a - 0.5 * a.T) @ x[:3]),
    "product": (lambda a, x: (S @ a @ a.T.tocsc()) @ B, lambda a, x: D @ a @ a.T @ B),
    "product by columns": (lambda a, x: (a.tocsc() @ S) @ x[:3], lambda a, x: a @ D @ x[:3]),
    "product of bands": (lambda a, x: S @ sp.diags([x[:3], x[1:3]], [0, 1]) @ B,
                         lambda a, x: D @ (np.diag(x[:3]) + np.diag(x[1:3], 1)) @ B),
    "made inside": (lambda a, x: a @ np.ones(3), lambda a, x: a @ np.ones(3)),
    "multiply": (lambda a, x: a.tocsr().multiply(S) @ B, lambda a, x: (a * D) @ B),
    "toarray": (lambda a, x: a.toarray() ** 2, lambda a, x: a ** 2),
    "spsolve": (lambda a, x: spsolve(S + a.tocsr(), B), lambda a, x: np.linalg.solve(D + a, B)),
    "factors": (lambda a, x: splu(S.tocsc() + a.tocsc()).solve(np.outer(B, x[:2])),
                lambda a, x: np.linalg.solve(D + a, np.outer(B, x[:2]))),
    "transposed": (lambda a, x: splu(S.tocsc() + a.tocsc()).solve(x[:3], "T"),
                   lambda a, x: np.linalg.solve((D + a).T, x[:3])),
    "factorized": (lambda a, x: factorized(S.tocsc() + a.tocsc())(B), lambda a, x: np.linalg.solve(D + a, B)),
}


def filled(x):
    z = np.zeros(5)
    z[:] = x
    return z


def programs(made, done):
    (make, plain), (use, same) = MADE[made], DONE[done]
    weights = 1.0 + np.arange(np.size(same(plain(X), X)))
    return (lambda x: np.sum(weights * np.ravel(np.cos(use(make(x), x)))),
            lambda x: np.sum(weights * np.ravel(np.cos(same(plain(x), x)))))


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("done", DONE)
def test_as_dense_ones(made, done):
    f, same = programs(made, done)
    assert f(X) == pytest.approx(same(X), rel=1e-12)
    value, gradient = dd.value_and_grad(f)(X)
    assert value == pytest.approx(same(X), rel=1e-12)
    np.testing.assert_allclose(gradient, dd.grad(same)(X), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(dd.jvp(f, (X,), (V,))[1], gradient @ V, rtol=1e-9)


@pytest.mark.parametrize("done", ["A @ x", "sums", "multiply", "spsolve", "factors", "transposed"])
def test_second_derivatives(done):
    f, same = programs("coo", done)
    np.testing.assert_allclose(dd.hvp(f, (X,), (V,)), dd.hvp(same, (X,), (V,)), rtol=1e-8, atol=1e-10)


def test_scipy_asks_for_no_object_of_the_process(monkeypatch):
    """It looks at the base of what it is given, for its size; to find that very object takes as long as there are."""
    asked = []
    monkeypatch.setattr(gc, "get_referrers", lambda *objects: asked.append(objects) or [])
    for made in MADE:
        dd.grad(programs(made, "A @ x")[0])(X)
    assert not asked


def assembled(x):
    """Finite elements on a line with coefficients x: assembly by triplets, boundary by a sum, a solve."""
    n = len(x)
    k = np.arange(n)
    values = np.concatenate([x, x, -x, -x])
    rows, columns = np.concatenate([k, k + 1, k, k + 1]), np.concatenate([k, k + 1, k + 1, k])
    a = sp.coo_matrix((values, (rows, columns)), shape=(n + 1, n + 1)).tocsc() + 0.5 * sp.eye(n + 1, format="csc")
    u = spsolve(a, np.cos(np.arange(n + 1.0)) / n)
    return np.sum(u**2) + u @ (a @ u)


@pytest.mark.mpi
def test_assembled_on_ranks_at_other_points_and_from_a_file(shared_tmp_path, comm):
    x = 1.0 + 0.5 * np.sin(np.arange(40.0))
    dd.trace(assembled, x).save(shared_tmp_path / "f.tape", point=(x,))
    tape = dd.load(shared_tmp_path / "f.tape")
    step = 1e-6 * np.cos(np.arange(40.0))
    with dd.linearize(assembled, x) as lin:
        for y in (x, 1.3 * x):
            assert lin.update(y) == pytest.approx(assembled(y), rel=1e-11)
            slope = (assembled(y + step) - assembled(y - step)) / 2e-6
            np.testing.assert_allclose(lin.vjp(1.0) @ (step / 1e-6), slope, rtol=1e-6)
            np.testing.assert_allclose(lin.jvp(step / 1e-6), slope, rtol=1e-6)
            np.testing.assert_allclose(dd.grad(tape)(y), lin.vjp(1.0), rtol=1e-10)


def test_nothing_is_made_dense():
    x = 1.0 + 0.5 * np.sin(np.arange(3000.0))
    tape = dd.trace(assembled, x)
    assert tape.lines < 200 * len(x)


@pytest.mark.parametrize("f, match", [
    (lambda x: sp.csr_matrix((x, (ROWS, COLUMNS)), shape=(3, 3))[1:2], "a sparse matrix of traced values"),
    (lambda x: spsolve_triangular(sp.diags(x).tocsr(), np.ones(5)), "spsolve solves it as well"),
    (lambda x: splu(sp.diags(x).tocsc()).L, "L of a sparse factorization of traced entries"),
    (lambda x: splu(np.diag(x)).solve(V), "make a sparse matrix of its entries"),
    (lambda x: (raw(x) + raw(x)) @ B, "call A.sum_duplicates"),
])
def test_refused(f, match):
    with pytest.raises(UnsupportedOperationError, match=match):
        trace(f, (X,))


def raw(x):
    """With two entries at one place."""
    return sp.csr_matrix((x, [2, 2, 0, 1, 2], [0, 2, 4, 5]), shape=(3, 3))


def test_a_singular_matrix():
    with pytest.raises((np.linalg.LinAlgError, SingularError, NotDifferentiableError, dd.DistdiffError)):
        dd.grad(lambda x: np.sum(spsolve(sp.diags(x * 0.0).tocsc(), V)))(X)
