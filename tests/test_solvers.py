"""Every method, forward and transposed, one and several right-hand sides, against a triangular solve, on any ranks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from random_systems import Problem, collect, random_problem, spread

from distdiff.errors import ConvergenceError, InputError, MissingSolverError
from distdiff.kernels import csr
from distdiff.petsc import petsc
from distdiff.preaccumulate import eliminate
from distdiff.solvers import direct
from distdiff.solvers.direct import Direct
from distdiff.solvers.krylov import Krylov
from distdiff.solvers.substitution import Passes, Substitution, SubstitutionPC
from distdiff.system import TriangularSystem

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(90)]

METHODS = {
    "substitution": (Substitution, {}),
    "gmres": (Krylov, {}),
    "richardson": (Krylov, {"ksp_type": "richardson"}),
    "fgmres": (Krylov, {"ksp_type": "fgmres"}),
    "bcgs": (Krylov, {"ksp_type": "bcgs"}),
    "gmres over substitution": (Krylov, {"preconditioner": "substitution"}),
    "petsc's own bjacobi": (Krylov, {"pc_type": "bjacobi", "sub_pc_type": "ilu"}),
    "neumann series": (Krylov, {"ksp_type": "richardson", "pc_type": "none"}),
    "mumps": (Direct, {"pc_factor_mat_solver_type": "mumps"}),
    "superlu_dist": (Direct, {"pc_factor_mat_solver_type": "superlu_dist"}),
    "petsc": (Direct, {"pc_factor_mat_solver_type": "petsc"}),
}


def solver_for(method: str, system: TriangularSystem):
    cls, options = METHODS[method]
    if cls is Direct and options["pc_factor_mat_solver_type"] not in direct.available(system.comm.size):
        with pytest.raises(MissingSolverError, match="this PETSc has"):
            cls(system, options)
        pytest.skip("not in this PETSc, or not in parallel")
    return cls(system, options)


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


@pytest.mark.parametrize("owners, m, full", [
    ("random", 0, False), ("random", 4, True), ("slabs", 1, False), ("slabs", 4, True), ("last", 4, False),
    ("one", 0, True), ("one", 2, False)])
@pytest.mark.parametrize("method", METHODS)
def test_against_dense_solve(comm, method, owners, m, full):
    check(comm, random_problem(comm, 17 + m, n=30, n_in=3, n_out=4, owners=owners), method, full, m)


@pytest.mark.parametrize("method", METHODS)
def test_one_row_and_no_edges(comm, method):
    p = random_problem(comm, 1, n=1, n_in=1, n_out=0)
    p = spread(sp.csr_matrix((1, 1)), np.full(1, comm.size - 1), np.array([0]), np.array([0]), comm.rank)
    check(comm, p, method, False, 0)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_at_all(comm, method):
    p = random_problem(comm, 1, n=0, n_in=0, n_out=0)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    solver = solver_for(method, system)
    assert solver.tangent(np.zeros(0)).shape == (0,) and solver.adjoint(np.zeros((0, 3))).shape == (0, 3)
    solver.close()
    system.close()


@pytest.mark.parametrize("method", METHODS)
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


@pytest.mark.parametrize("method", METHODS)
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
    moved = p._replace(L=L)
    for m in (0, 4):
        for J in jacobians(comm, p, system, solver, m):
            np.testing.assert_allclose(J, moved.jacobian(), rtol=0, atol=moved.tolerance())
    solver.close()
    system.close()


@pytest.mark.parametrize("method", ["substitution", "gmres", "richardson", "bcgs"])
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


def test_wrong_options(comm):
    p = random_problem(comm, 2, n=20)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    with pytest.raises(InputError, match="nonsense"):
        Krylov(system, {"ksp_type": "nonsense"})
    with pytest.raises(InputError, match="blocks, substitution"):
        Krylov(system, {"preconditioner": "magic"})
    with pytest.raises(InputError, match="mumps"):
        Direct(system, {"pc_factor_mat_solver_type": "magic"})
    with pytest.warns(UserWarning, match="ksp_rtoll"):
        Krylov(system, {"ksp_rtoll": 1e-3}).close()
    with pytest.warns(UserWarning, match="ksp_type"):
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


def test_compiled_sweeps_agree_with_plain(comm, monkeypatch):
    p = random_problem(comm, 33, n=30, n_in=2, n_out=2, degree=3.0)
    kernels = [kernel for kernel in vars(csr).values() if isinstance(kernel, csr.Kernel)]
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
