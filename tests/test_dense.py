"""Products of matrices: every form, in value and derivatives to second order, by all methods on any ranks, and that
nothing of the size of their iteration space is ever made.

The reference takes no derivative rule: the functions are analytic, so a complex step through plain NumPy is exact.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import distdiff as dd
from distdiff.graph import analyse, contractions
from distdiff.machine import Machine
from distdiff.partition import partition
from distdiff.partition.local import whole
from distdiff.solvers.select import choose
from distdiff.solvers.work import Work, counts
from distdiff.tracing import memory, trace

pytestmark = pytest.mark.few_ranks

N = 5
M = np.linspace(-1.0, 1.0, N * N).reshape(N, N)
M24 = np.linspace(-1.0, 1.0, 24 * 24).reshape(24, 24)
T = np.sin(np.arange(3.0 * N * N)).reshape(3, N, N)


def chain(a, b):
    x = a
    for _ in range(4):
        x = x @ b / 2.0
    return x


FORMS = {
    "matmul": lambda a, b: a @ b,
    "square": lambda a, b: a @ a + b,
    "transposed": lambda a, b: a.T @ b.T,
    "constant on the left": lambda a, b: M @ a + b,
    "constant on the right": lambda a, b: a @ M.T + b,
    "constant, turned": lambda a, b: np.asfortranarray(M) @ a @ b,
    "gram": lambda a, b: a.T @ a - b @ b.T,
    "chain": chain,
    "matrix, vector": lambda a, b: a @ b[0],
    "vector, matrix": lambda a, b: a[1] @ b,
    "dot of vectors": lambda a, b: a[:, 1] @ b[2],
    "np.dot": lambda a, b: np.dot(a, b),
    "inner": lambda a, b: np.inner(a, b),
    "outer": lambda a, b: np.outer(a[0], b[:, 1]),
    "tensordot": lambda a, b: np.tensordot(a, b, axes=([0], [1])),
    "tensordot over both": lambda a, b: np.tensordot(a, b),
    "tensordot, constant": lambda a, b: np.tensordot(T, a, axes=([1], [0])) * b,
    "batched": lambda a, b: (T * a) @ b,
    "batched both": lambda a, b: (T * a) @ (T[:, ::-1] * b),
    "broadcast batch": lambda a, b: (T[:1] * a) @ (T * b),
    "batched vector": lambda a, b: (T * a) @ b[0],
    "einsum ij,jk->ik": lambda a, b: np.einsum("ij,jk->ik", a, b),
    "einsum bij,bjk->bik": lambda a, b: np.einsum("bij,bjk->bik", T * a, T + b),
    "einsum bij,bij->b": lambda a, b: np.einsum("bij,bij->b", T * a, T + b),
    "einsum ij,kj,l->ikl": lambda a, b: np.einsum("ij,kj,l->ikl", a, b, a[0]),
    "einsum ij,ij->": lambda a, b: np.einsum("ij,ij->", a, b),
    "einsum ii,ij->j": lambda a, b: np.einsum("ii,ij->j", a, b),
    "einsum with a free sum": lambda a, b: np.einsum("ij,kl->i", a, b),
    "part of an array": lambda a, b: a[1:, ::2] @ b[:3, 1:],
    "into a part": lambda a, b: np.concatenate([a[:2] @ b, b[2:] @ a]),
}
RNG = np.random.default_rng(4)
A, B, DA, DB = RNG.normal(size=(4, N, N))
METHODS = ["sweep", "substitution", "neumann", "krylov", "interface", "pipeline", "direct"]
DERIVED = ["square", "chain", "batched both", "broadcast batch", "einsum ij,kj,l->ikl", "tensordot, constant",
           "into a part"]


def weights(shape):
    return np.cos(np.arange(np.prod(shape, dtype=int))).reshape(shape)


def misfit(f):
    def g(a, b):
        y = f(a, b)
        return np.sum(weights(np.shape(y)) * y * y)
    return g


def along(f, a, b, da, db):
    """The derivative of f in a direction, exact to rounding."""
    return np.imag(f(a + 1e-30j * da, b + 1e-30j * db)) / 1e-30


def gradient(g, a, b):
    units = np.eye(N * N).reshape(-1, N, N)
    zero = np.zeros((N, N))
    return (np.array([along(g, a, b, u, zero) for u in units]).reshape(N, N),
            np.array([along(g, a, b, zero, u) for u in units]).reshape(N, N))


@pytest.mark.parametrize("form", [pytest.param(f, marks=pytest.mark.mpi if f in DERIVED else ()) for f in FORMS])
def test_products_to_second_order(form):
    f = FORMS[form]
    g = misfit(f)
    with dd.linearize(f, A, B, argnums=(0, 1)) as lin:
        np.testing.assert_allclose(lin.value, f(A, B), atol=1e-12)
        np.testing.assert_allclose(lin.jvp(DA, DB), along(f, A, B, DA, DB), atol=1e-12)
        lin.update(B, A)
        np.testing.assert_allclose(lin.jvp(DB, DA), along(f, B, A, DB, DA), atol=1e-12)
    with dd.linearize(g, A, B, argnums=(0, 1)) as lin:
        for found, expected in zip(lin.vjp(1.0), gradient(g, A, B)):
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)
        h = 1e-3  # polynomials: Richardson's step leaves h^4 of the sixth order on
        steps = [[(p - q) / (2 * k) for p, q in zip(gradient(g, A + k * DA, B + k * DB),
                                                   gradient(g, A - k * DA, B - k * DB))] for k in (h, 2 * h)]
        for found, near, far in zip(lin.hvp(DA, DB), *steps):
            np.testing.assert_allclose(found, (4 * near - far) / 3, rtol=1e-7, atol=1e-7)


@pytest.mark.mpi
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", DERIVED)
def test_products_by_every_method(form, method):
    f = FORMS[form]
    with dd.linearize(f, A, B, argnums=(0, 1), method=method) as lin:
        np.testing.assert_allclose(lin.jvp(DA, DB), along(f, A, B, DA, DB), atol=1e-11)
        w = weights(np.shape(lin.value))
        abar, bbar = lin.vjp(w)
        assert np.sum(abar * DA) + np.sum(bbar * DB) == pytest.approx(np.sum(w * along(f, A, B, DA, DB)), abs=1e-10)
        parts = lin.jacobian()
        np.testing.assert_allclose(np.tensordot(parts[0], DA) + np.tensordot(parts[1], DB),
                                   along(f, A, B, DA, DB), atol=1e-11)


@pytest.mark.mpi
@pytest.mark.parametrize("form, method", [*((f, "sweep") for f in FORMS), *((f, "substitution") for f in DERIVED)])
def test_products_spread_over_ranks(form, method):
    """Batches, rows and columns go to ranks wherever the partition puts them."""
    f = FORMS[form]
    for strategy in ("axes", "contiguous"):
        with dd.linearize(f, A, B, argnums=(0, 1), method=method, partition=strategy, min_block=1) as lin:
            np.testing.assert_allclose(lin.value, f(A, B), atol=1e-12)
            np.testing.assert_allclose(lin.jvp(DA, DB), along(f, A, B, DA, DB), atol=1e-11)
            w = weights(np.shape(lin.value))
            abar, bbar = lin.vjp(w)
            product = np.sum(w * along(f, A, B, DA, DB))
            assert np.sum(abar * DA) + np.sum(bbar * DB) == pytest.approx(product, abs=1e-10)


@pytest.mark.mpi
def test_batches_stay_on_their_ranks():
    """Every rank multiplies its own matrices: no halo, and its share of the lines."""
    batch = RNG.normal(size=(12, 8, 8))

    def f(a, b):
        return np.tanh((batch * a) @ b + a)

    a, b = RNG.normal(size=(2, 12, 8, 8))
    with dd.linearize(f, a, b, argnums=(0, 1), partition="axes", min_block=1) as lin:
        report = lin.report()
        fullest = -(-len(batch) // lin.comm.size)  # 12 matrices on 5 ranks: three on some of them, 2.4 on average
        assert report.halo == 0 and report.balance == pytest.approx(fullest * lin.comm.size / len(batch), abs=0.05)
        w = weights(a.shape)
        _, bbar = lin.vjp(w)
        outer = w * (1.0 - f(a, b) ** 2)
        np.testing.assert_allclose(bbar, np.swapaxes(batch * a, 1, 2) @ outer, atol=1e-11)


@pytest.fixture
def largest(monkeypatch):
    """Elements of the largest buffer that was taken from the pool, which tracemalloc does not see."""
    taken = [0]
    pool = memory.empty

    def empty(size):
        taken[0] = max(taken[0], size)
        return pool(size)

    monkeypatch.setattr(memory, "empty", empty)
    return taken


LARGE = {  # f(a, b), the operands' shapes, and the lines of the product
    "matmul": (lambda a, b: np.sum(np.tanh(a @ b)), (120, 120), (120, 120), 120**3),
    "batched": (lambda a, b: np.sum((a @ b) ** 2), (20, 80, 80), (20, 80, 80), 20 * 80**3),
    "einsum": (lambda a, b: np.sum(np.sin(np.einsum("bij,kbj->ik", a, b))), (12, 100, 100), (80, 12, 100),
               12 * 80 * 100**2),
    "tensordot": (lambda a, b: np.sum(np.tensordot(a, b, axes=([1, 2], [1, 0])) ** 3), (50, 30, 40), (40, 30, 60),
                  50 * 30 * 40 * 60),
}


@pytest.mark.parametrize("name", LARGE)
def test_nothing_of_the_iteration_space_is_made(name, largest):
    """Value, replay, gradient, jvp, vjp of one and several columns, and hvp: arrays of the operands' size alone."""
    f, a_shape, b_shape, space = LARGE[name]
    a, b, da, db = (RNG.normal(size=s) / 10 for s in (a_shape, b_shape, a_shape, b_shape))
    f_small = tuple(x[tuple(slice(0, 2) for _ in x.shape)] for x in (a, b))
    dd.hvp(f, f_small, f_small)  # what is imported or compiled once
    tracemalloc.start()
    with dd.linearize(f, a, b, argnums=(0, 1)) as lin:
        lin.vjp(1.0)
        lin.jvp(da, db)
        lin.update(da, db)
        lin.vjp(1.0)
        lin.hvp(a, b)
        assert lin.choice.method == "sweep"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest[0] < space / 4 and peak < 8 * space / 2
    assert peak < 40 * 8 * (a.size + b.size)


def test_a_program_of_products_is_statements():
    tape = trace(chain, (A, B), argnums=(0, 1)).tape
    found = contractions(tape)
    assert len(tape.items) == 8 and found.statements == 4
    assert found.lines == 4 * (2 * N**3 - N**2) and found.rows == 4 * N**2 and found.entries == 4 * 2 * N**3
    assert found.largest == (N, N, N)
    constant = contractions(trace(lambda a: M @ a, (A,)).tape)
    assert constant.entries == N**3
    assert not contractions(trace(lambda a: np.sum(2.0 * a, axis=0), (A,)).tape).statements


@pytest.mark.mpi
def test_the_report_says_what_was_done_with_products():
    with dd.linearize(chain, A, B, argnums=(0, 1), method="sweep") as lin:
        lin.vjp(A)
        report = lin.report()
        assert report.contractions.statements == 4 and report.contractions.entries == 4 * 2 * N**3
        assert "4 sums of products (5 x 5 x 5 the largest)" in str(report)
        assert "their 1,000 entries are written nowhere" in str(report)
    with dd.linearize(lambda a: np.sum(a @ a), A, method="substitution") as lin:
        lin.vjp(1.0)
        assert "a sum of products (5 x 5 x 5), 225 of the lines in 25 rows; written out, 250 entries" in str(
            lin.report())
    with dd.linearize(lambda a: a * a, A) as lin:
        assert "sums of products" not in str(lin.report())


def test_memory_of_assembling_counts_all_entries():
    """2 n^3 entries are written before elimination, though one row is left."""
    n = 60
    a = RNG.normal(size=(n, n))
    with dd.linearize(lambda a: np.sum(a @ a), a) as lin:
        cost = {c.method: c.memory for c in lin.choice.candidates}
        assert cost["substitution"] > 12 * 2 * n**3 > cost["sweep"]


@pytest.mark.parametrize("f", [lambda a: a @ a, lambda a: np.linalg.solve(a, 0.5 * np.eye(80)),
                               lambda a: np.einsum("ij,kj->ki", a, a)], ids=["product", "solve", "einsum"])
def test_nothing_is_written_out_unasked(f):
    """However many right-hand sides: cubes of entries are made only where they are small, or a method is named."""
    a = RNG.normal(size=(80, 80)) + 80.0 * np.eye(80)
    work = Work(k_star=1, ranks=1, **counts(whole(trace(f, (a,)).tape)))
    assert work.exploded > 500_000
    slow = Machine(sweep_line_next_column=1.0, sweep_gather_line_next_column=1.0)  # sweeps cost hours
    for columns in (1, 20, 1000, 10**6):
        choice = choose(work, columns, slow)
        assert choice.method == "sweep"
        reasons = {c.method: c.reason for c in choice.candidates}
        assert "asked for by name" in reasons["substitution"] and "asked for by name" not in reasons["sweep"]
    a = a[:24, :24]
    with dd.linearize(lambda a: a @ a, a, method="substitution") as lin:
        lin.vjp(a)
        assert lin.report().rows is not None
    vectors = trace(lambda v: np.tanh(M24 @ v) * np.dot(v, v), (a[0],)).tape  # as many entries as the matrix has
    assert counts(whole(vectors))["exploded"] == 0


def test_partitions_and_paths_count_products_at_blas_speed():
    n = 64
    a, b = RNG.normal(size=(2, n, n))
    machine = Machine()
    for f, rate in ((lambda a, b: a @ b, machine.product_line), (lambda a, b: np.sum(a * b, axis=1), machine.line)):
        tape = trace(f, (a, b), argnums=(0, 1)).tape
        lines = tape.lines - tape.n_inputs
        seconds = partition(tape, 2, strategy="fewer ranks").quality.seconds
        assert rate * lines <= seconds < rate * lines + machine.line * 2 * tape.n_inputs + 1e-4
        work = analyse(tape, machine).path.work
        assert rate * lines <= work < rate * lines + machine.line * 2 * tape.n_inputs + 1e-4


def constants(tape):
    return [ref.value for item in tape.items for ref in item.operands if hasattr(ref, "value")]


def test_constants_that_change_between_products():
    """A constant is copied when it changed, to the last bit, and shared otherwise, NaN or not."""
    def f(u, m):
        y = m @ u
        y = m @ y
        m[2, 1] = np.nextafter(m[2, 1], 9.0)
        y = m @ y
        m[0, 0] *= 3.0
        return m @ y

    for n in (4, 9, 40):  # copied at every use; known by their bytes; by their address
        m = RNG.normal(size=(n, n))
        u, v = RNG.normal(size=(2, n))
        expected = f(v.copy(), m.copy())
        with dd.linearize(lambda x, m=m: f(x, m.copy()), u) as lin:
            np.testing.assert_allclose(lin.jvp(v), expected, rtol=1e-13)
        used = constants(trace(lambda x, m=m: f(x, m.copy()), (u,)).tape)
        assert [np.array_equal(a, b) for a, b in zip(used, used[1:])] == [True, False, False]
        assert used[2][2, 1] == np.nextafter(used[1][2, 1], 9.0)
    kept = RNG.normal(size=(30, 30))
    kept[3, 3] = np.nan
    used = constants(trace(lambda u: kept @ (kept @ u), (RNG.normal(size=30),)).tape)
    assert len(used) == 2 and used[0].base is used[1].base


@pytest.mark.parametrize("n", [4, 20, 40])
def test_a_constant_made_anew_at_every_step_is_one(n):
    """... as long as it holds the same numbers, so that loops are known as such."""
    m = RNG.normal(size=(n, n))

    def f(u):
        for _ in range(6):
            u = np.tanh((0.5 * m) @ u) * (2.0 * m[0])
        return u

    matrices, rows = (constants(trace(f, (m[1],)).tape)[k::2] for k in range(2))
    for used in (matrices, rows):
        assert len(used) == 6
        assert len({c.__array_interface__["data"][0] for c in used}) == 1


def test_shapes_that_do_not_fit_are_refused():
    b = np.ones((N + 1, 2))
    for f in (lambda a: a @ b, lambda a: np.einsum("ij,jk", a, b), lambda a: np.tensordot(a, b, 1),
              lambda a: np.dot(a, b), lambda a: np.inner(a, b)):
        with pytest.raises(ValueError):
            dd.linearize(f, A)


def test_a_jacobian_through_dense_layers_is_swept():
    """A Jacobian of a thousand columns through dense layers is swept: BLAS beats streaming what is assembled."""
    n = 300
    w = RNG.normal(size=(n, n)) / n

    def layers(x):
        for _ in range(3):
            x = np.tanh(w @ x)
        return x

    with dd.linearize(layers, RNG.normal(size=n), solves="jacobian") as lin:
        assert lin.choice.method == "sweep"
