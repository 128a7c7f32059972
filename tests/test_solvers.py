"""Every method, forward and transposed, one and several right-hand sides, against a triangular solve, on any ranks."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from methods import LABELS, solver_for, told
from random_systems import Problem, collect, random_problem, spread

import distdiff as dd
from distdiff.errors import ConvergenceError, InputError, MissingSolverError
from distdiff.kernels import csr, stretches, substitution
from distdiff.petsc import petsc
from distdiff.preaccumulate import eliminate
from distdiff.solvers import direct
from distdiff.solvers.direct import Direct
from distdiff.solvers.factors import Factor
from distdiff.solvers.iteration import Iteration
from distdiff.solvers.krylov import Krylov
from distdiff.solvers.passes import Passes
from distdiff.solvers.residual import Residual
from distdiff.solvers.substitution import Substitution, SubstitutionPC
from distdiff.system import TriangularSystem

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(90)]


def jacobians(comm, p: Problem, system: TriangularSystem, solver, m: int) -> list[np.ndarray]:
    """The Jacobian by tangents and by adjoints, m right-hand sides at a time (0: vectors)."""
    n_in, n_out = len(p.inputs), len(p.outputs)

    def run(solve, seeds, results, n, n_result):
        out = np.zeros((n_result, n))
        for k in range(0, n, max(m, 1)):
            unit = np.eye(n)[:, k] if m == 0 else np.eye(n)[:, k:k + m]
            x = collect(comm, results, solve(unit[seeds.positions]), n_result)
            out[:, k:k + max(m, 1)] = x.reshape(n_result, -1)
        return out

    forward = run(solver.tangent, system.inputs, system.outputs, n_in, n_out)
    transposed = run(solver.adjoint, system.outputs, system.inputs, n_out, n_in)
    return [forward, transposed.T]


def check(comm, p: Problem, method: str, full: bool, m: int) -> dict:
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=full))
    try:
        solver = solver_for(method, system)
        try:
            for J in jacobians(comm, p, system, solver, m):
                np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=p.tolerance())
            return solver.info
        finally:
            solver.close()
            solver.close()  # a second call does nothing
    finally:
        system.close()


@pytest.mark.parametrize("method", LABELS)
def test_one_row_and_no_edges(comm, method):
    p = random_problem(comm, 1, n=1, n_in=1, n_out=0)
    p = spread(sp.csr_matrix((1, 1)), np.full(1, comm.size - 1), np.array([0]), np.array([0]), comm.rank)
    check(comm, p, method, False, 0)


@pytest.mark.parametrize("method", LABELS)
def test_nothing_at_all(comm, method):
    p = random_problem(comm, 1, n=0, n_in=0, n_out=0)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    solver = solver_for(method, system)
    assert solver.tangent(np.zeros(0)).shape == (0,) and solver.adjoint(np.zeros((0, 3))).shape == (0, 3)
    solver.close()
    system.close()


@pytest.mark.parametrize("method", LABELS)
def test_no_right_hand_sides(comm, method):
    p = random_problem(comm, 2, n=20)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    solver = solver_for(method, system)
    n_in, n_out = len(system.inputs.ids), len(system.outputs.ids)
    assert solver.tangent(np.zeros((n_in, 0))).shape == (n_out, 0)
    assert solver.adjoint(np.zeros((n_out, 0))).shape == (n_in, 0)
    with pytest.raises(InputError, match="seed has shape"):
        solver.tangent(np.zeros(n_in + 1))
    solver.close()
    system.close()


@pytest.mark.parametrize("method", LABELS)
def test_refresh(comm, method):
    """New values in place give what a new system gives."""
    p = random_problem(comm, 8, n=30, n_in=3, n_out=3)
    reduced = eliminate(p.local, p.rows)
    system = TriangularSystem(comm, reduced)
    solver = solver_for(method, system)
    jacobians(comm, p, system, solver, 4)
    rng = np.random.default_rng(99)
    scale = rng.uniform(0.5, 2.0, len(p.L))  # D L D^-1 has the same structure
    L = scale[:, None] * p.L / scale
    rows = np.repeat(np.arange(len(p.own)), np.diff(p.rows.indptr))
    values = p.rows.data * scale[p.own[rows]] / scale[p.own[p.rows.indices]]
    reduced.refresh(values)
    system.refresh(reduced)
    solver.refresh()
    moved = replace(p, L=L)
    for m in (0, 4):
        for J in jacobians(comm, p, system, solver, m):
            np.testing.assert_allclose(J, moved.jacobian(), rtol=0, atol=moved.tolerance())
    solver.close()
    system.close()


@pytest.mark.parametrize("method", ["substitution", "interface", "gmres", "richardson", "bcgs"])
def test_growth_by_many_orders(comm, method):
    """Entries above 10: the solution grows by many orders, and its small entries are right all the same."""
    p = random_problem(comm, 12, n=40, n_in=3, n_out=3, degree=3.0, size=30.0, window=4)
    J = p.jacobian()
    assert np.abs(J).max() > 1e12
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    solver = solver_for(method, system)
    for ours in jacobians(comm, p, system, solver, 0):
        assert (np.abs(ours - J) <= p.bound(1e4)).all()  # 1e4 eps: the tolerance of the componentwise residual
    solver.close()
    system.close()


def test_krylov_ends_after_k_star(comm):
    p = random_problem(comm, 21, n=80)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    for options in ({"ksp_type": "richardson"}, {"ksp_type": "gmres"}):
        solver = Krylov(system, options)
        solver.tangent(np.ones(len(system.inputs.ids)))
        assert solver.info["iterations"] <= system.k_star and solver.info["exact_steps"] <= 1
        assert solver.info["residual"] <= 1e-12
        solver.close()
    solver = Krylov(system, {"preconditioner": "substitution"})
    solver.adjoint(np.ones(len(system.outputs.ids)))
    assert solver.info["iterations"] <= 2
    solver.close()
    system.close()


def chain_over_ranks(comm, n: int = 24) -> Problem:
    """x_(i+1) = x_i + x_(i-1)/2 dealt out in turn: every edge crosses, k* = n where there are ranks to cross to."""
    i = np.arange(2, n)
    L = sp.csr_matrix((np.r_[np.ones(n - 2), np.full(n - 2, 0.5)], (np.r_[i, i], np.r_[i - 1, i - 2])), shape=(n, n))
    return spread(L, np.arange(n) % comm.size, np.arange(2), np.array([n - 1]), comm.rank)


def test_too_few_iterations_raise_everywhere(comm):
    p = chain_over_ranks(comm)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    solver = Krylov(system, {"ksp_max_it": 1})
    seed = np.ones(len(system.inputs.ids))
    if comm.size == 1:
        solver.tangent(seed)  # one exact block: one iteration is enough
    else:
        with pytest.raises(ConvergenceError, match=r"gmres stopped after 1 iteration.*substitution"):
            solver.tangent(seed)
    solver.close()
    system.close()


def test_restart_below_k_star_is_finished_exactly(comm):
    p = chain_over_ranks(comm)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    solver = Krylov(system, {"ksp_gmres_restart": 3})
    y = collect(comm, system.outputs, solver.tangent(np.ones(len(system.inputs.ids))), 1)
    np.testing.assert_allclose(y, p.jacobian().sum(axis=1), rtol=1e-12)
    solver.close()
    system.close()


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e300])
def test_overflow_raises(comm, bad):
    n = 12
    L = sp.csr_matrix((np.full(n - 1, bad), (np.arange(1, n), np.arange(n - 1))), shape=(n, n))
    p = spread(L, np.arange(n) % comm.size, np.array([0]), np.array([n - 1]), comm.rank)
    with np.errstate(all="ignore"):
        system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
        solver = Krylov(system)
        with pytest.raises(ConvergenceError, match="overflow|not\\s+finite"):
            solver.tangent(np.ones(len(system.inputs.ids)))
    solver.close()
    system.close()


def cancelling(comm) -> Problem:
    """Thirds that cancel to rounding, multiplied along further rows: every edge crosses where ranks allow."""
    rng = np.random.default_rng(5)
    n = 40
    dense = np.zeros((n, n))
    for i in range(2, n):
        if i % 4 == 0:  # x_i = x_(i-1) - (x_(i-2) x_(i-1) / x_(i-2)), zero but for rounding
            dense[i, i - 1] = 1.0
            dense[i, :i - 1] = -dense[i - 1, :i - 1]
        else:
            dense[i, max(0, i - 3):i] = rng.uniform(-1.0, 1.0, min(i, 3)) / 3.0
    return spread(sp.csr_matrix(dense), np.arange(n) % comm.size, np.arange(2), np.arange(n - 4, n), comm.rank)


@pytest.mark.parametrize("method", [
    "interface", "neumann", "gmres", "richardson", pytest.param("richardson over asm", marks=pytest.mark.few_ranks),
    "richardson over nothing", "mumps", "superlu_dist", "petsc's lu", "petsc"])
def test_exact_cancellation(comm, method):
    """Rows that are nothing but rounding keep no solver from its solution."""
    p = cancelling(comm)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    solver = solver_for(method, system)
    for J in jacobians(comm, p, system, solver, 0):
        np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=1e-13)
    solver.close()
    system.close()


def softmax(x):
    m = x.max()
    return np.exp(x - (m + np.log(np.exp(x - m).sum())))


@pytest.mark.parametrize("method", ["krylov", "direct"])
@pytest.mark.parametrize("f", [softmax, lambda x: x.var() * x, lambda x: (x - x.mean()) / x.std()])
def test_functions_that_cancel(comm, f, method):
    x, seed = np.random.default_rng(0).standard_normal(10), np.arange(10.0)
    results = []
    for name in ("substitution", method):
        with dd.linearize(f, x, comm=comm, method=name, partition="axes", min_block=1) as lin:
            results.append(lin.vjp(seed))
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-13)


def test_exact_steps_end_as_substitution_bit_for_bit(comm, monkeypatch):
    monkeypatch.setattr(csr, "PLAIN_WORK", 10**9)  # a kernel that is compiled in between rounds otherwise
    p = cancelling(comm)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    rng = np.random.default_rng(comm.rank)
    for blocks, steps in (Passes(system, local=True), system.k_star), (None, system.n_rows):
        iteration = Iteration(system, blocks)
        for transposed, m in itertools.product((False, True), ((), (2,))):
            b = rng.standard_normal((system.n_local, *m))
            ends = []
            for start in (0.0, 1e8):
                x, taken = iteration.run(b, start * rng.standard_normal(b.shape), np.empty(b.shape), transposed, steps)
                assert taken <= steps
                ends.append(x)
            np.testing.assert_array_equal(*ends)
            assert Residual(system).worst(b, ends[0], transposed)[0] <= 1e-14
    system.close()


def test_residual_against_magnitudes(comm):
    """s counts paths without signs; a solution that stops half way is far from it."""
    p = cancelling(comm)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    residual, r = Residual(system), np.zeros(system.n_local)
    b = np.random.default_rng(comm.rank).standard_normal(system.n_local)
    for transposed in (False, True):
        x = b.copy()
        (Passes(system).backward if transposed else Passes(system).forward)(x)
        assert residual(b, x, r, transposed)[0] <= 1e-14
        assert residual.against_magnitudes(b, r, transposed) <= 1e-14
        for wrong in (b, 0.0 * b, 0.9 * x):
            residual(b, wrong, r, transposed)
            assert residual.against_magnitudes(b, r, transposed) > 1e-2
    assert residual.tolerance(False) == residual.tolerance(True) == 1e-12
    system.close()


@pytest.mark.parametrize("options", [
    {"pc_type": "jacobi", "ksp_type": "preonly"}, {"pc_type": "cholesky"},
    {"pc_type": "none", "ksp_type": "gmres", "ksp_max_it": 1}])
def test_direct_refuses_what_is_no_factorization(comm, options):
    p = random_problem(comm, 2, n=20)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    with warnings.catch_warnings(), pytest.raises(InputError, match="no factorization.*krylov"):
        warnings.simplefilter("error")  # no word of options that another choice would have used
        Direct(system, options)
    system.close()


def test_direct_checks_its_residual(comm, monkeypatch):
    """A factorization that solves nothing is found out, forward and transposed, one and several."""
    p = chain_over_ranks(comm)  # deep: three refinements without factors get nowhere
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    solver = Direct(system)
    for name in ("solve_one", "solve_all", "solve_each"):
        monkeypatch.setattr(Factor, name, lambda self, y, transposed=False: None)
    for m in ((), (2,)):
        with pytest.raises(ConvergenceError, match="after 3 refinements.*approximate.*substitution"):
            solver.tangent(np.ones((len(system.inputs.ids), *m)))
        with pytest.raises(ConvergenceError, match="residual"):
            solver.adjoint(np.ones((len(system.outputs.ids), *m)))
    solver.close()
    system.close()


def test_direct_refines_approximate_factors(comm, monkeypatch):
    p = random_problem(comm, 2, n=20, n_in=3)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    solver = Direct(system)
    exact = Factor.solve_one

    def nearly(self, y, transposed):
        exact(self, y, transposed)
        y *= 1.0 + 1e-5

    monkeypatch.setattr(Factor, "solve_one", nearly)
    for J in jacobians(comm, p, system, solver, 0):
        np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=p.tolerance())
    assert solver.info["residual"] <= 1e-12
    solver.close()
    system.close()


def test_loose_tolerances(comm):
    p = random_problem(comm, 3, n=20, owners="last")
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    seed = np.ones(len(system.inputs.ids))
    for rtol in (1.0, 5.0):
        with pytest.raises(InputError, match="ksp_rtol=.*below 1"):
            Krylov(system, {"ksp_rtol": rtol})
    # One damped step over the exact block leaves a tenth of the right-hand side.
    damped = {"ksp_type": "richardson", "ksp_richardson_scale": 0.9}
    solver = Krylov(system, {**damped, "ksp_rtol": 0.2})
    with told(comm, "componentwise residual of 0.0526.*ksp_rtol=0.2"):
        solver.tangent(seed)
    assert solver.info["iterations"] == 1 and abs(solver.info["residual"] - 0.1 / 1.9) < 1e-12
    solver.close()
    solver = Krylov(system, damped)
    solver.tangent(seed)
    assert solver.info["residual"] <= 1e-12
    solver.close()
    solver = Krylov(system, {"ksp_max_it": 1, "pc_type": "none"})
    with pytest.raises(ConvergenceError, match="ksp_max_it=1"):
        solver.tangent(seed)
    solver.close()
    system.close()


def test_wrong_options(comm):
    p = random_problem(comm, 2, n=20)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    with pytest.raises(InputError, match="nonsense"):
        Krylov(system, {"ksp_type": "nonsense"})
    with pytest.raises(InputError, match="blocks, asm, substitution"):
        Krylov(system, {"preconditioner": "magic"})
    with pytest.raises(InputError, match="'asm' and pc_type='jacobi' are two preconditioners"):
        Krylov(system, {"preconditioner": "asm", "pc_type": "jacobi"})
    with pytest.raises(InputError, match="mumps"):
        Direct(system, {"pc_factor_mat_solver_type": "magic"})
    with told(comm, "ksp_rtoll"):
        Krylov(system, {"ksp_rtoll": 1e-3}).close()
    with told(comm, "ksp_type"):
        Substitution(system, {"ksp_type": "gmres"}).close()
    system.close()


def test_missing_solver(comm, monkeypatch):
    p = random_problem(comm, 2, n=20)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    monkeypatch.setattr(direct, "available", lambda size: [])
    with pytest.raises(MissingSolverError, match="none.*substitution"):
        Direct(system)
    monkeypatch.setattr(direct, "available", lambda size: ["petsc"])
    with pytest.raises(MissingSolverError, match="mumps.*this PETSc has petsc"):
        Direct(system, {"pc_factor_mat_solver_type": "mumps"})
    system.close()


def test_substitution_counts_supersteps_and_messages(comm):
    p = random_problem(comm, 30, n=60)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    solver = Substitution(system)
    solver.tangent(np.ones(len(system.inputs.ids)))
    assert solver.info == {"supersteps": len(p.local.steps), "messages": comm.allreduce(p.local.messages)}
    system.close()


def test_substitution_as_a_petsc_solver(comm):
    """KSP preonly with the Python PC: vectors, transposed, and dense blocks of columns."""
    PETSc = petsc()
    p = random_problem(comm, 31, n=60)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    solver = Substitution(system)
    b, x = system.mat.createVecs()
    back = b.duplicate()
    b.setRandom()
    solver.ksp.solve(b, x)
    system.mat.mult(x, back)
    assert (back - b).norm() <= 1e-12 * (1 + x.norm())
    solver.ksp.solveTranspose(b, x)
    system.mat.multTranspose(x, back)
    assert (back - b).norm() <= 1e-12 * (1 + x.norm())
    B = PETSc.Mat().createDense(((system.n_local, system.n_rows), (None, 3)), comm=comm)
    B.setUp()
    B.getDenseArray()[...] = np.random.default_rng(comm.rank).standard_normal((system.n_local, 3))
    B.assemble()
    X = B.duplicate()
    pc, context = solver.ksp.getPC(), SubstitutionPC(Passes(system))
    pc.matApply(B, X)
    for solve, apply in ((context.apply, context.matApply), (context.applyTranspose, context.matApplyTranspose)):
        apply(pc, B, X)
        for k in range(3):
            b.setArray(B.getDenseArray()[:, k].copy())
            solve(pc, b, x)
            np.testing.assert_allclose(X.getDenseArray()[:, k], x.getArray(), rtol=1e-14, atol=1e-14)
    for thing in (B, X, b, x, back):
        thing.destroy()
    solver.close()
    system.close()


@pytest.mark.parametrize("owners", ["slabs", "halves", "last"])
def test_stretches_on_ranks(comm, owners, monkeypatch):
    """A program of recurrences and stencils, ghosts in some of its rows, against a dense solve."""
    monkeypatch.setattr(stretches, "SMALL", 0)
    k = (comm.size + 1) // 2  # every rank has rows enough for stretches
    n = 420 * k
    entries = [(i, i - d) for i in range(40, n)
               for d in ([40, 38] if i < 200 * k else [1, 2] if i < 300 * k else [90, 1])]
    i, j = np.array(entries).T
    L = sp.csr_matrix((np.random.default_rng(5).uniform(-0.45, 0.45, len(i)), (i, j)), shape=(n, n))
    owner = {"slabs": np.arange(n) * comm.size // n, "halves": np.arange(n) // (105 * k) % comm.size,
             "last": np.full(n, comm.size - 1)}[owners]
    p = spread(L, owner, np.arange(40), np.array([60 * k, 250 * k, n - 2, n - 1]), comm.rank)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    assert comm.allreduce(int((system.stretches.table[:, stretches.WIDTH] > 0).sum())) >= 3
    for m in (0, 3, 9):
        for J in jacobians(comm, p, system, Substitution(system), m):
            np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=p.tolerance())
    system.close()


def test_compiled_sweeps_agree_with_plain(comm, monkeypatch):
    p = random_problem(comm, 33, n=30, n_in=2, n_out=2, degree=3.0)
    kernels = [kernel for module in (csr, substitution) for kernel in vars(module).values()
               if isinstance(kernel, csr.Kernel)]
    results = []
    for compiled in (False, True):
        monkeypatch.setattr(csr, "PLAIN_WORK", 10**9)
        for kernel in kernels:
            monkeypatch.setattr(kernel, "_compiled", kernel.compiled if compiled else None)
        system = TriangularSystem(comm, eliminate(p.local, p.rows))
        solvers = Substitution(system), Krylov(system, {"ksp_type": "richardson"})
        results.append([J for s in solvers for m in (0, 3) for J in jacobians(comm, p, system, s, m)])
        for solver in solvers:
            solver.close()
        system.close()
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=0, atol=p.tolerance())
