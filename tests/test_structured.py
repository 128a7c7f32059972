"""I - L in block-structured storage: products and solves on all nodes against the dense matrix, and through PETSc."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI
from random_tapes import random_tape
from test_evaluate import dense

import distdiff as dd
from distdiff.errors import InputError
from distdiff.evaluate import evaluate
from distdiff.partials import expand
from distdiff.partition import distribute, partition, whole
from distdiff.partition.local import OBJECTS
from distdiff.petsc import petsc
from distdiff.solvers.structured import StructuredSystem
from distdiff.tracing import trace

ALONE = MPI.COMM_SELF


def burgers(u):
    for _ in range(4):
        up, um = np.roll(u, -1), np.roll(u, 1)
        u = u - 0.1 * u * (up - um) + 0.05 * (up - 2.0 * u + um)
    return u


def in_place(x):
    u = x.copy()
    for _ in range(3):
        u[1:-1] += 0.1 * (u[2:] - 2.0 * u[1:-1] + u[:-2]) * u[1:-1]
        u[0] = u[1]
        u[-1] *= 0.5
    return u


def products(x):
    a = x[:9].reshape(3, 3)
    m = a @ a.T + np.exp(-a)
    return np.concatenate([(m @ x[:3]) * np.max(m, axis=1), [np.sum(m), np.mean(np.tanh(x))]])


def sums(x):
    y = np.cumsum(np.cumsum(x.reshape(2, -1), axis=1) * 0.3, axis=0)
    return np.concatenate([y.ravel() * x, [y.max(), np.prod(x)]])


def gathers(x):
    y = x[[3, 3, 0, 1]] * np.sin(x[[1, 2, 2, 5]])
    return np.where(y > 0.3, y * y, -y) + x[::3][:4]


def loop(x):
    a, b = x[0], x[1]
    for k in range(12):
        a, b = a * b + 0.1 * k, np.sin(a) / (2.0 + b * b)
    return np.stack([a, b, a - b]) + np.sum(x)


PROGRAMS = [(burgers, 9), (in_place, 7), (products, 12), (sums, 8), (gathers, 10), (loop, 3)]
named = pytest.mark.parametrize("f, n", PROGRAMS, ids=lambda p: getattr(p, "__name__", ""))


def system_of(f, x, keep=False):
    traced = trace(f, (x,), argnums=0, keep_values="read")
    local = whole(traced.tape)
    return local, StructuredSystem(local, evaluate(local, x, ALONE, known=traced.values), ALONE, keep=keep)


def agrees(system, L):
    """All four operations are those of the dense I - L, for random vectors on all rows."""
    rng, A = np.random.default_rng(0), np.eye(len(L)) - L
    scale = max(1.0, abs(L).max(initial=0.0))
    inverse = np.linalg.solve(A, np.eye(len(A)))
    growth = max(1.0, abs(inverse).max(initial=0.0))
    for tail in ((), (3,), (0,)):
        x = rng.normal(size=(len(A), *tail))
        for _ in range(2):
            for ours, matrix, size in ((system.mult, A, scale), (system.mult_transpose, A.T, scale),
                                       (system.solve, inverse, growth), (system.solve_transpose, inverse.T, growth)):
                before = x.copy()
                np.testing.assert_allclose(ours(x), matrix @ x, rtol=1e-9, atol=1e-9 * size)
                np.testing.assert_array_equal(x, before)


def tame(L):
    """The random program has not left a function's domain, and its inverse can be compared with."""
    if not np.isfinite(L).all() or abs(L).max(initial=0.0) > 1e6:
        return False
    return abs(np.linalg.solve(np.eye(len(L)) - abs(L), np.eye(len(L)))).max(initial=0.0) < 1e10


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.booleans())
def test_random_programs(mode, seed, keep):
    tape, x = random_tape(seed)
    local = whole(tape)
    point = evaluate(local, x, ALONE)
    system = StructuredSystem(local, point, ALONE, keep=keep)
    for here in (x, x * 1.05 + 0.01):
        point = evaluate(local, here, ALONE, values=point.values)
        system.refresh(point)
        L = dense(expand(local, point), tape.n_nodes)
        if tame(L):
            agrees(system, L)


@pytest.mark.parametrize("keep", [False, True])
@named
def test_programs(mode, f, n, keep):
    x = np.linspace(0.4, 1.3, n)
    local, system = system_of(f, x, keep)
    for here in (x, x[::-1] * 0.9):
        point = evaluate(local, here, ALONE)
        system.refresh(point)
        agrees(system, dense(expand(local, point), local.n_nodes))


@named
def test_identities(f, n):
    _, system = system_of(f, np.linspace(0.4, 1.3, n))
    v, w = np.random.default_rng(1).normal(size=(2, system.n_own))
    np.testing.assert_allclose(system.solve(system.mult(v)), v, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(system.mult_transpose(system.solve_transpose(w)), w, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(w @ system.mult(v), system.mult_transpose(w) @ v, rtol=1e-12)
    np.testing.assert_allclose(w @ system.solve(v), system.solve_transpose(w) @ v, rtol=1e-10)


def test_array_code_needs_no_index_and_stores_no_coefficient():
    _, system = system_of(burgers, np.linspace(0.5, 1.0, 50), keep=True)
    x = np.ones(system.n_own)
    system.mult(x), system.solve_transpose(x)
    assert (system.index_bytes, system.coefficient_bytes) == (0, 0)
    assert system.nbytes == OBJECTS * system.n_segments  # no vector is held on one rank
    assert system.n_segments < 4 * 20 and system.n_rows > 4 * 50 * 8


def test_what_rules_compute_is_stored_if_wanted():
    for keep in (False, True):
        local, system = system_of(lambda x: np.sin(x) * 2.0, np.linspace(0.5, 1.0, 50), keep)
        x = np.ones(system.n_own)
        system.mult(x), system.mult(x), system.solve(x)
        assert system.coefficient_bytes == 8 * 50 * keep
        system.refresh(evaluate(local, np.linspace(0.5, 1.0, 50), ALONE))
        assert system.coefficient_bytes == 0
    assert system_of(gathers, np.linspace(0.5, 1.0, 10))[1].index_bytes > 0


def test_vectors_that_do_not_fit_are_refused():
    _, system = system_of(burgers, np.linspace(0.5, 1.0, 9))
    x = np.ones(system.n_own)
    with pytest.raises(InputError, match="does not fit the rows"):
        system.mult(x[1:])
    for out in (x, np.ones(3), np.ones(len(x), dtype=np.float32)):
        with pytest.raises(InputError, match="another array than x"):
            system.mult(x, out)


# -- on any ranks


def global_L(local, point, comm, start, n):
    """L over all ranks' rows, dense on every rank, from the ranks' expanded rows."""
    own = np.ones(local.n_nodes, dtype=bool) if local.own is None else local.own
    numbers = np.full(local.n_nodes, -1.0)
    numbers[own] = start + np.arange(own.sum())
    for step in local.steps:
        step.exchange.forward(comm, numbers)
    numbers = numbers.astype(int)
    rows, mine = expand(local, point), np.zeros((n, n))
    np.add.at(mine, (np.repeat(numbers, np.diff(rows.indptr)), numbers[rows.indices]), rows.data)
    return comm.allreduce(mine)


@pytest.mark.mpi
@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(12))
def test_ranks_together_are_the_dense_operator(comm, seed):
    """All four operations, applied to all unit vectors at once, on all nodes of all ranks."""
    tape, x = random_tape(seed, size=10, scalars=seed % 2 == 1)
    plan = partition(tape, comm.size, min_block=1) if comm.rank == 0 else None
    local = distribute(tape if comm.rank == 0 else None, plan, comm)
    point = evaluate(local, x[local.inputs.positions], comm)
    system = StructuredSystem(local, point, comm, keep=seed % 3 == 0)
    for here in (x, x * 1.05 + 0.01):
        point = evaluate(local, here[local.inputs.positions], comm, values=point.values)
        system.refresh(point)
        L = global_L(local, point, comm, system.row_start, system.n_rows)
        if not tame(L):
            continue
        A, mine = np.eye(len(L)) - L, slice(system.row_start, system.row_start + system.n_own)
        inverse = np.linalg.solve(A, np.eye(len(A)))
        for ours, matrix in ((system.mult, A), (system.mult_transpose, A.T),
                             (system.solve, inverse), (system.solve_transpose, inverse.T)):
            tolerance = 1e-10 * max(1.0, abs(matrix).max(initial=0.0))
            for _ in range(2):
                np.testing.assert_allclose(ours(np.eye(len(A))[mine]), matrix[mine], rtol=1e-9, atol=tolerance)


def krylov(system, kind, pc):
    ksp = petsc().KSP().create(comm=system.comm)
    ksp.setOperators(system.mat)
    ksp.setType(kind)
    ksp.setTolerances(rtol=1e-13, atol=1e-300, divtol=1e300, max_it=400)
    if kind == "gmres":
        ksp.setGMRESRestart(400)
    if pc == "structured":
        system.precondition(ksp.getPC())
    else:
        ksp.getPC().setType(pc)
    return ksp


SOLVERS = [("preonly", "structured"), ("gmres", "structured"), ("richardson", "structured"), ("gmres", "none"),
           ("richardson", "none"), ("gmres", "jacobi")]


@pytest.mark.mpi
@pytest.mark.timeout(60)
@pytest.mark.parametrize("f, n", [  # on many ranks: halos, sums and cuts through scalar code, of which all are made
    pytest.param(f, n, marks=() if f in (burgers, sums, loop) else pytest.mark.few_ranks) for f, n in PROGRAMS],
    ids=lambda p: getattr(p, "__name__", ""))
def test_petsc_solves_with_it(comm, f, n):
    """Seeded at the inputs and read at the outputs every KSP gives the Jacobian; at a second point too."""
    x = np.linspace(0.4, 1.3, n)
    with dd.linearize(f, x, comm=comm, min_block=1, partition="contiguous" if f is loop else "axes") as lin:
        assert comm.size == 1 or lin.report().halo > 0
        system = lin.operator()
        solvers = [krylov(system, *names) for names in SOLVERS]
        b, y = system.mat.createVecs()
        for here in (x, x[::-1] * 0.9):
            lin.update(here)
            J = dd.jacobian(f, comm=ALONE)(here)
            v, w = np.random.default_rng(2).normal(size=n), np.random.default_rng(3).normal(size=len(J))
            for (kind, pc), ksp in zip(SOLVERS, solvers):
                for solve, seed, seeds, results, expected in (
                        (ksp.solve, v, system.inputs, system.outputs, J @ v),
                        (ksp.solveTranspose, w, system.outputs, system.inputs, J.T @ w)):
                    b.set(0.0), y.set(0.0)
                    np.add.at(b.array, seeds.ids, seed[seeds.positions])
                    b.assemble()
                    solve(b, y)
                    ours = np.zeros(len(expected))
                    ours[results.positions] = y.array_r[results.ids]
                    comm.Allreduce(MPI.IN_PLACE, ours)
                    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9 * abs(expected).max(),
                                               err_msg=f"{kind}, {pc}")
                    if pc == "structured" and kind != "preonly":
                        assert ksp.getIterationNumber() <= 2
        for thing in (*solvers, b, y):
            thing.destroy()


@pytest.mark.mpi
@pytest.mark.timeout(60)
@named
def test_ranks_together_hold_the_one_operator(comm, f, n):
    """<w, A v> = <A^T w, v> and A^-1 A v = v over all ranks; Mat's methods are the system's."""
    x = np.linspace(0.4, 1.3, n)
    with dd.linearize(f, x, comm=comm, min_block=1, partition="contiguous" if f is loop else "axes") as lin:
        assert comm.size == 1 or lin.report().halo > 0
        system = lin.operator()
        mat = system.mat
        assert mat.getType() == "python" and mat.getSize() == (system.n_rows,) * 2
        assert mat.getLocalSize() == (system.n_own,) * 2 and mat.getOwnershipRange()[0] == system.row_start
        assert comm.allreduce(len(system.inputs.ids)) == n
        rng = np.random.default_rng(comm.rank)
        for tail in ((), (2,)):
            v, w = rng.normal(size=(2, system.n_own, *tail))

            def dot(a, b):
                return comm.allreduce(float(np.sum(a * b)))

            np.testing.assert_allclose(system.solve(system.mult(v)), v, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(system.mult_transpose(system.solve_transpose(w)), w, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(dot(w, system.mult(v)), dot(system.mult_transpose(w), v), rtol=1e-10)
            np.testing.assert_allclose(dot(w, system.solve(v)), dot(system.solve_transpose(w), v), rtol=1e-9)
        a, b = mat.createVecs()
        a.array[:] = v[:, 0]
        for ours, theirs in ((system.mult, mat.mult), (system.mult_transpose, mat.multTranspose),
                             (system.solve, mat.solve), (system.solve_transpose, mat.solveTranspose)):
            theirs(a, b)
            np.testing.assert_array_equal(b.array_r, ours(v[:, 0]))
        np.testing.assert_array_equal(mat.getDiagonal().array_r, 1.0)
        a.destroy(), b.destroy()


@pytest.mark.mpi
@pytest.mark.timeout(60)
def test_several_columns_go_through_petsc_together(comm):
    with dd.linearize(burgers, np.linspace(0.4, 1.3, 9), comm=comm, min_block=1, partition="axes") as lin:
        system = lin.operator()
        rows = np.random.default_rng(comm.rank).normal(size=(system.n_own, 3))
        ksp = krylov(system, "preonly", "structured")
        size = ((system.n_own, system.n_rows), (petsc().DECIDE, 3))
        B, X = (petsc().Mat().createDense(size, comm=comm) for _ in range(2))
        for M in (B, X):
            M.setUp(), M.assemble()
        B.getDenseArray()[...] = rows
        B.assemble()
        pc = ksp.getPC()
        pc.setUp()
        pc.matApply(B, X)
        np.testing.assert_array_equal(X.getDenseArray(), system.solve(rows))
        for thing in (ksp, B, X):
            thing.destroy()


@pytest.mark.mpi
@pytest.mark.timeout(60)
def test_the_operator_follows_the_linearization(comm):
    x = np.linspace(0.4, 1.3, 9)
    lin = dd.linearize(lambda u: np.sin(u) * (u if u[0] > 0.0 else 2.0), x, comm=comm)
    system = lin.operator()
    assert lin.operator() is system
    mat, v = system.mat, np.ones(system.n_own)
    before = system.solve(v)
    lin.update(x + 0.1)
    assert lin.operator() is system and system.mat is mat
    assert comm.allreduce(float(abs(system.solve(v) - before).sum())) > 0.0
    assert comm.allreduce(system.coefficient_bytes) == 0
    with dd.linearize(np.sin, x, comm=comm, solves=2) as several:
        several.operator().mult(np.ones(several.operator().n_own))
        assert comm.allreduce(several.operator().coefficient_bytes) == 8 * len(x)
        assert several.report().memory_per_rank_bytes > 0
    lin.update(x - 2.0)  # another branch: another tape
    again = lin.operator()
    assert again is not system
    lin.close()
    with pytest.raises(InputError, match="closed"):
        lin.operator()
