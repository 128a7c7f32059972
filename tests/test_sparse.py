"""Sparse matrices as constants: products with traced arrays by their entries, solves through a factor that is kept."""

from __future__ import annotations

import functools
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from mpi4py import MPI
from scipy.sparse.linalg import factorized, splu, spsolve
from test_linalg import in_another_process
from test_numpy import flat

import distdiff as dd
from distdiff.errors import InputError, UnsupportedOperationError
from distdiff.testing import taylor_test
from distdiff.tracing import trace
from distdiff.tracing.matrices import sparse
from distdiff.tracing.scipy.outside import matrix_of

ALONE = MPI.COMM_SELF
N = 6
A = sp.diags([-1.0, 4.0, -1.0], [-1, 0, 1], shape=(N, N)).tolil()
A[0, 4], A[3, 1], A[2, 2] = 0.5, -0.7, -3.0
A = A.tocsr()
X = np.linspace(0.3, 1.2, N)
ARRAYS = [getattr(sp, f"{name}_array") for name in ("csr", "coo", "csc", "dia", "bsr") if hasattr(sp, f"{name}_array")]
LOWER = sp.tril(A).tocsr()
OUTSIDE, SOLVER = splu(A.tocsc()), factorized(A.tocsc())
NAMED = SimpleNamespace(lu=splu(A.tocsc(), permc_spec="NATURAL", diag_pivot_thresh=0.0))
FACTORS, BY_NAME = [splu(A.tocsc() * k) for k in (1.0, 2.0)], {"lu": OUTSIDE, "solve": SOLVER}
HIDDEN = (OUTSIDE,)  # which can't be exchanged there
FINE = sp.diags([-1.0, 2.5, -1.0], [-1, 0, 1], shape=(200, 200)).tocsc()


def with_zeros(x):
    z = np.zeros(N)
    z[2:] = x[:4]
    return z
FACTOR = splu(FINE)


class Model:
    """Holds a factor, and the solve of another."""

    __slots__ = ("__dict__", "slot")
    shared = 2.0

    def __init__(self):
        self.lu, self.slot = splu(A.tocsc()), factorized(A.T.tocsc())

    def __call__(self, x):
        return self.lu.solve(x * self.shared) + self.slot(x)


def closed_over(lu):
    return lambda x: lu.solve(x, "T") + lu.solve(np.outer(x, x[:2]))[:, 1]


def by_default(x, lu=OUTSIDE, *, solve=SOLVER):
    return lu.solve(x) + solve(x * x)


def helped(x):
    return by_default(x) + OUTSIDE.solve(np.ones(N)) * OUTSIDE.nnz


MODEL = Model()

PRODUCTS = {
    **{f"A @ x, {name}": lambda x, name=name: A.asformat(name) @ x
       for name in ("csr", "csc", "coo", "dia", "bsr", "lil", "dok")},
    **{f"A @ x, {kind.__name__}": lambda x, kind=kind: kind(A) @ x for kind in ARRAYS},
    **{f"x @ A, {kind.__name__}": lambda x, kind=kind: x @ kind(A) for kind in ARRAYS},
    "A.dot(x), A * x": lambda x: A.dot(x) + A * x,
    "A.T @ x": lambda x: A.T @ x + A.T.dot(2.0 * x) + x * A,
    "A X": lambda x: A @ np.outer(x, x[:2]),
    "X A": lambda x: np.outer(x[:2], x) @ A,
    "a part": lambda x: A[1:4] @ x + A[:, 1:4].T @ x,
    "empty rows": lambda x: sp.csr_matrix(([1.0, 2.0], ([1, 1], [0, 3])), shape=(N, N)) @ x,
    "no entries": lambda x: sp.csr_matrix((N, N)) @ x + x[0],
    "by an operator": lambda x: spl.aslinearoperator(A) @ x + spl.aslinearoperator(A).rmatvec(x),
    "of a plain array that holds traced values": lambda x: A @ with_zeros(x),
}
SOLVES = {
    "spsolve": lambda x: spsolve(A, x) + spl.spsolve(A.tocsc(), np.flip(x)),
    "spsolve of a column": lambda x: spsolve(A, x[:, None]),
    "spsolve of columns": lambda x: spsolve(A, np.outer(x, x[:3])),
    "spsolve with an order": lambda x: spsolve(A, x, permc_spec="NATURAL", use_umfpack=False),
    "splu": lambda x: splu(A).solve(x) + splu(A, permc_spec="NATURAL").solve(np.outer(x, x))[:, 0],
    "splu transposed": lambda x: splu(A).solve(x, "T"),
    "factorized": lambda x: factorized(A)(x) * splu(A).nnz,
    "a loop": lambda x: [x := factorized(A)(x * x) for _ in range(4)][-1],
    "lower triangle": lambda x: spl.spsolve_triangular(LOWER, x) + spl.spsolve_triangular(LOWER, x, unit_diagonal=True),
    "upper triangle": lambda x: spl.spsolve_triangular(LOWER.T.tocsr(), x, lower=False),
    "of zeros that were written": lambda x: spsolve(A, with_zeros(x)),
    "made outside, by a global name": lambda x: OUTSIDE.solve(x) + SOLVER(x * x),
    "made outside, transposed and closed over": closed_over(OUTSIDE),
    "made outside, as a default": by_default,
    "made outside, called by a function": lambda x: helped(x * x),
    "made outside, attributes": lambda x: NAMED.lu.solve(x) + MODEL(x),
    "made outside, an object that is called": MODEL,
    "made outside, in lists and dictionaries":
        lambda x: sum(lu.solve(x) for lu in FACTORS) + BY_NAME["lu"].solve(x) + BY_NAME["solve"](x),
    "made outside, bound to its argument": functools.partial(lambda lu, x: lu.solve(x), OUTSIDE),
    "a factor of plain values": lambda x: x * splu(A).solve(np.ones(N)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*PRODUCTS, *SOLVES])
def test_values_and_derivatives(name):
    f = {**PRODUCTS, **SOLVES}[name]
    x = X * 1.1
    with dd.linearize(f, X, comm=ALONE) as lin:
        assert np.shape(lin.value) == np.shape(f(X))
        np.testing.assert_allclose(lin.value, f(X), rtol=1e-13, atol=1e-14)
        lin.update(x)
        np.testing.assert_allclose(lin.value, f(x), rtol=1e-13, atol=1e-14)
        w = np.cos(np.arange(float(np.size(lin.value)))).reshape(np.shape(lin.value))
        np.testing.assert_allclose(flat(lin.vjp(w)) @ X, flat(w) @ flat(lin.jvp(X)), rtol=1e-12)
    test = taylor_test(lambda x: np.sum(f(x) ** 3), X, order=2, comm=ALONE)
    assert test.passed, str(test)


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["sweep", "substitution", "krylov"])
def test_on_ranks(method, comm):
    def f(x):
        for _ in range(2):
            x = spsolve(FINE, FINE.T @ np.sin(x) + x)
        return np.sum(FACTOR.solve(FINE.T @ np.sin(x) + x) ** 2)  # made before, on every rank

    x = np.linspace(0.0, 2.0, 200)
    settings = {"comm": comm, "method": method, "min_block": 1}
    np.testing.assert_allclose(dd.grad(f, **settings)(x), dd.grad(f, comm=ALONE, method="sweep")(x), rtol=1e-10,
                               atol=1e-13)
    if method != "sweep":
        return
    np.testing.assert_allclose(dd.hvp(f, (x,), (np.cos(x),), **settings), dd.hvp(f, (x,), (np.cos(x),), comm=ALONE),
                               rtol=1e-9, atol=1e-11)


def test_l_has_the_matrix_s_entries():
    """One entry of L for each of A, where rows of inputs and results are kept; no dense row anywhere."""
    assert FINE.nnz == 598
    tape = trace(lambda x: FINE @ x, (np.ones(200),)).tape
    assert tape.lines <= 2 * FINE.nnz + 2 * 200
    with dd.linearize(lambda x: FINE @ x, np.ones(200), method="substitution", comm=ALONE) as lin:
        assert "400 rows kept" in str(lin.report()) and f"{400 + FINE.nnz} nonzeros" in str(lin.report())


def test_a_matrix_is_factorized_once(monkeypatch):
    made = []
    monkeypatch.setattr(spl, "splu", lambda a, f=spl.splu, **options: made.append(1) or f(a, **options))
    a = A + sp.identity(N) * 0.25

    def f(x):
        for _ in range(3):
            x = spsolve(a, x)
        return np.sum(splu(a).solve(x) ** 2)

    dd.hvp(f, (X,), (X,), comm=ALONE)
    dd.grad(f, comm=ALONE)(X)
    assert len(made) == 1
    np.testing.assert_allclose(dd.grad(f, comm=ALONE)(X), dd.grad(lambda x: np.sum(np.linalg.solve(
        np.linalg.matrix_power(a.toarray(), 4), x) ** 2), comm=ALONE)(X), rtol=1e-10)
    a.data *= 2.0  # another matrix at the same place in memory
    doubled = dd.grad(f, comm=ALONE)(X)
    assert len(made) == 2
    np.testing.assert_allclose(doubled, dd.grad(lambda x: np.sum(np.linalg.solve(
        np.linalg.matrix_power(a.toarray(), 4), x) ** 2), comm=ALONE)(X), rtol=1e-10)


def test_factors_are_few_and_of_the_matrix_they_are_said_to_be():
    for k in range(sparse.REMEMBERED + 3):
        trace(lambda x, k=k: spsolve(A + k * sp.identity(N), x), (X,))
    assert len(sparse._factors) == sparse.REMEMBERED
    matrix = (A * 7.0).tocsc()
    with pytest.raises(InputError, match="not the one that its digest"):
        sparse.factor_of(matrix.data, matrix.indices, matrix.indptr, bytes(16))


def test_indices_that_lead_elsewhere_are_not_followed():
    """A tape's constants come from files that anyone may have written."""
    csc = A.tocsc()
    i, p = csc.indices, csc.indptr
    for indices, indptr in ((i + 5.0, p), (i - 1.0, p), (i + 0.5, p), (i, p[::-1]), (i, p + 1), (i * np.nan, p),
                            (i, p * 2.0), (i[1:], p)):
        with np.errstate(invalid="ignore"), pytest.raises(InputError, match="that are none"):
            sparse.factor_of(csc.data, indices, indptr, sparse.digest(csc.data, indices, indptr))


def test_factors_made_outside_are_the_users_own():
    """Values are theirs bit by bit, they are put back, and the function is not run in vain a second time."""
    runs = []
    lu = splu(A.tocsc(), permc_spec="MMD_AT_PLUS_A")

    def f(x):
        runs.append(1)
        return lu.solve(x)

    for count in (2, 3):  # the first time it fails, and is run again
        assert trace(f, (X,)).result.tobytes() == lu.solve(X).tobytes() and len(runs) == count
        assert type(f.__closure__[0].cell_contents) is type(OUTSIDE)
    np.testing.assert_array_equal(trace(lambda x, lu: lu.solve(x), (X, lu)).result, lu.solve(X))
    F = dd.recorded(lambda x: np.sum(lu.solve(x) ** 2), comm=ALONE)
    for k in (1.0, 2.0, 3.0):
        np.testing.assert_allclose(F.grad(k * X), 2.0 * k * lu.solve(lu.solve(X), "T"), rtol=1e-12)
    assert F.counts.traces == 1


@pytest.mark.parametrize("order", ["COLAMD", "NATURAL", "MMD_ATA"])
def test_the_matrix_of_a_factor(order):
    a = sp.random(60, 60, 0.05, random_state=4) + sp.diags(np.linspace(1.0, 2.0, 60))
    found = matrix_of(splu(a.tocsc(), permc_spec=order))
    assert abs(found - a).max() < 1e-14 and found.nnz == a.tocsc().nnz


def test_what_is_refused():
    singular = sp.csr_matrix(np.diag([1.0, 1.0, 0.0, 1.0, 1.0, 1.0]))
    with pytest.raises(UnsupportedOperationError, match="compiled code was given a traced array at .*makes it inside"):
        trace(lambda x: HIDDEN[0].solve(x), (X,))
    with pytest.raises(np.linalg.LinAlgError, match="order 6 is singular"):
        trace(lambda x: spsolve(singular, x), (X,))
    with pytest.raises(UnsupportedOperationError, match="traced matrix"):
        trace(lambda x: spsolve(np.outer(x, x), x), (X,))
    with pytest.raises(UnsupportedOperationError, match="dtype complex"):
        trace(lambda x: spsolve(A * 1j, x), (X,))
    with pytest.raises(np.linalg.LinAlgError, match="not triangular"):
        trace(lambda x: spl.spsolve_triangular(A, x), (X,))
    for bad in (lambda x: spsolve(A, x[:3]), lambda x: spsolve(A[:3], x[:3]), lambda x: A @ x[:3],
                lambda x: splu(A).solve(x, "X")):
        with pytest.raises(ValueError):
            trace(bad, (X,))


def test_scipy_is_itself_for_others():
    own = splu.__code__
    seen = []

    def f(x):
        other = threading.Thread(target=lambda: seen.append(type(splu(A.tocsc())).__name__))
        other.start()
        other.join()
        return splu(A).solve(x)

    trace(f, (X,))
    assert seen == ["SuperLU"] and splu.__code__ is own and type(splu(A.tocsc())).__name__ == "SuperLU"


def test_saved_tapes_bring_their_matrices_along(tmp_path):
    def f(x):
        return np.sum(spsolve(A, np.sin(A @ x)) ** 2)

    x = 1.01 * X
    for there, here in zip(in_another_process(tmp_path, f, X), [dd.grad(f, comm=ALONE)(x),
                                                               dd.hvp(f, (x,), (x,), comm=ALONE)], strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-11)
