"""Implicit statements in the system: components, factorized and solved with, against dense solves, on any ranks."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from random_systems import KINDS, Problem, Rows, implicit_problem, spread
from test_solvers import jacobians, solver_for

from distdiff import blocks, filling
from distdiff.components import components
from distdiff.errors import ConvergenceError, CycleError, InputError, SingularError
from distdiff.kernels import components as component_kernels
from distdiff.kernels import csr
from distdiff.ops import COPY
from distdiff.preaccumulate import CSR, eliminate
from distdiff.solvers.direct import Direct, available
from distdiff.solvers.factors import Factor
from distdiff.solvers.krylov import Krylov
from distdiff.solvers.passes import Passes
from distdiff.solvers.residual import Residual
from distdiff.solvers.substitution import Substitution
from distdiff.system import TriangularSystem
from distdiff.tape import Affine, Site, Statement

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(90)]

ALWAYS = ("substitution", "gmres", "richardson", "gmres over substitution", "mumps", "superlu_dist")


def check(comm, p: Problem, solver_of, full: bool, m: int, bound: bool = False) -> None:
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=full))
    assert system.cyclic == (len(p.residuals) > 0)
    solver = solver_of(system)
    for J in jacobians(comm, p, system, solver, m):
        if bound:
            expected = p.jacobian()  # which rounds where ours has nothing to add up
            assert (np.abs(J - expected) <= p.bound(1e4) + 1e-13 * np.abs(expected).max(axis=1, keepdims=True)).all()
        else:
            np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=p.tolerance())
    solver.close()
    system.close()


@pytest.mark.parametrize("m, full, size", [(0, False, 1), (4, True, 5), (3, False, 11)])
@pytest.mark.parametrize("method", ALWAYS)
def test_against_dense_solve(comm, method, m, full, size):
    kinds = tuple(kind for kind in KINDS if method != "superlu_dist" or kind != "zero diagonal")  # it does not pivot
    p = implicit_problem(comm, 10 * m + size, kinds, size=size)
    check(comm, p, lambda system: solver_for(method, system), full, m)


def test_a_package_that_does_not_pivot_says_so(comm):
    """SuperLU_DIST on diagonals of zeros: right to rounding, or an error that names the remedy."""
    p = implicit_problem(comm, 7, ("zero diagonal",), size=11)
    try:
        check(comm, p, lambda system: solver_for("superlu_dist", system), False, 0)
    except ConvergenceError as error:
        assert "does not pivot" in str(error) and "mumps" in str(error) and "substitution" in str(error)


def grid(n, small, seed=0):
    """Five points, values without symmetry, and a diagonal so much of which is small that it asks for pivots."""
    rng = np.random.default_rng(seed)
    line = sp.diags([np.ones(n - 1), np.ones(n), np.ones(n - 1)], [-1, 0, 1])
    A = (sp.kron(sp.eye(n), line) + sp.kron(line, sp.eye(n))).tocsr()
    A.data = rng.uniform(0.2, 1.0, A.nnz) * rng.choice([-1.0, 1.0], A.nnz)
    A.setdiag(np.where(rng.random(n * n) < small, 1e-9, 4.0))
    return A


@pytest.mark.parametrize("small", [0.0, 0.2])
def test_a_grid_is_factorized_with_little_fill(small):
    A = grid(40, small)
    factors = blocks._SparseFactors.of(A)
    assert blocks.favours_diagonal(A) == (not small) and not blocks.favours_diagonal(sp.triu(A).tocsr())
    assert factors.nnz <= (1.0 if small else 0.8) * sp.linalg.splu(A.tocsc()).nnz
    b = np.cos(np.arange(1600.0))
    for transposed, M in ((False, A), (True, A.T)):
        x = factors.solve(b, transposed)
        x += factors.solve(b - M @ x, transposed)
        assert np.abs(M @ x - b).max() <= 1e-13 * np.abs(x).max()


def cube(n, seed=0):
    """Seven points, diagonally dominant: 13 x 13 x 13 unknowns fill in with some fifty entries for each."""
    line = sp.diags([np.ones(n - 1), np.ones(n), np.ones(n - 1)], [-1, 0, 1])
    one = sp.eye(n)
    A = (sp.kron(sp.kron(line, one), one) + sp.kron(sp.kron(one, line), one) + sp.kron(sp.kron(one, one), line)).tocsr()
    A.data = np.random.default_rng(seed).uniform(-1.0, -0.2, A.nnz)
    A.setdiag(7.0)
    return A


def test_what_fills_in_is_left_to_mumps():
    """A cube, whose factors have many times its entries; not a square, whose have few, nor what is small."""
    if not filling.available():
        pytest.skip("this PETSc has no MUMPS")
    A = cube(13)
    n = A.shape[0]
    assert filling.fills(A) and not filling.fills(grid(50, 0.0)) and not filling.fills(cube(8))
    own = CSR(A.indptr.astype(np.int64), A.indices, A.data)
    zero = np.zeros(1, dtype=np.int64)
    block = blocks.LargeBlock(components(zero, zero + n, own.indptr, own.indices), 0, own)
    b = np.cos(np.arange(n))
    for other in (1.0, 1.7):
        A.data *= other
        assert 1.0 < block.refresh() < 100.0 and block.how == "MUMPS"
        for transposed, M in ((False, A), (True, A.T)):
            for right in (b, np.stack([b, 2.0 * b], axis=1)):
                x = block.solve(right, transposed)
                assert np.abs(M @ x - right).max() <= 1e-13 * np.abs(x).max()
    A.data[A.indptr[5]:A.indptr[6]] = 0.0
    A.data[A.indptr[5]] = 1.0
    A.data[A.indptr[4]:A.indptr[5]] = 0.0
    A.data[A.indptr[4]:A.indptr[5]][A.indices[A.indptr[4]:A.indptr[5]] == A.indices[A.indptr[5]]] = 1.0
    assert block.refresh() > blocks.SINGULAR  # two rows alike


@pytest.mark.parametrize("large", ["dense", "sparse"])
def test_large_components(comm, large, monkeypatch):
    """LAPACK's and SuperLU's factors."""
    monkeypatch.setattr(blocks, "SMALL", 2)
    monkeypatch.setattr(blocks, "DENSE", 1000 if large == "dense" else 0)
    monkeypatch.setattr(blocks, "FILLED", 8 if large == "dense" else 0)
    for m in (0, 3):
        check(comm, implicit_problem(comm, 3, size=20), Substitution, m == 0, m)


@pytest.mark.parametrize("method", ["substitution", "gmres", "richardson"])
def test_any_units(comm, method):
    """Residuals and unknowns of very different size: nothing is lost, nothing taken for singular."""
    p = implicit_problem(comm, 5, size=10, scale=8.0)
    check(comm, p, lambda system: solver_for(method, system), False, 0, bound=True)


@pytest.mark.parametrize("between", [0, 3, 10**6])
def test_rows_between_small_blocks_go_along(comm, between, monkeypatch):
    """In one loop with the blocks, or by themselves: the same solutions and the same bounds of magnitudes."""
    monkeypatch.setattr(blocks, "BETWEEN", between)
    p = implicit_problem(comm, 11, size=7)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    ours = Passes(system)
    sizes = system.components.stop - system.components.first
    assert between or sum(r.stop - r.first for r in system.blocks) == sizes.sum()
    assert between < 10**6 or len(system.blocks) <= system.k_star
    magnitudes = Passes(system.without_signs())
    for m in ((), (3,)):
        b = np.random.default_rng(comm.rank).standard_normal((system.n_local, *m))
        residual = Residual(system)
        for transposed in (False, True):
            x, s = b.copy(), np.abs(b)
            (ours.backward if transposed else ours.forward)(x)
            (magnitudes.backward if transposed else magnitudes.forward)(s)
            assert residual.worst(b, x, transposed)[0] <= 1e-14 and (10 * s >= np.abs(x)).all()
    system.close()


def test_components_are_the_strong_ones(comm):
    """Against SciPy's, and as few entries as there are: rows in block triangular order."""
    for seed in range(2):
        p = implicit_problem(comm, seed, size=9)
        reduced = eliminate(p.local, p.rows, full=True)
        own, found = reduced.own, reduced.components
        A = sp.csr_matrix((np.ones(own.nnz), own.indices, own.indptr), shape=(reduced.n_rows,) * 2)
        _, label = sp.csgraph.connected_components(A, connection="strong")
        inside = np.zeros(reduced.n_rows, dtype=bool)
        for k, (first, stop) in enumerate(zip(found.first, found.stop)):
            inside[first:stop] = True
            assert len(set(label[first:stop])) == 1 and (label == label[first]).sum() == stop - first
            for row in range(first, stop):
                left = found.left[found.at[k] + row - first]
                columns = own.indices[own.indptr[row]:own.indptr[row + 1]]
                assert (np.diff(columns) > 0).all() and row in columns
                assert ((columns < first) == (np.arange(own.indptr[row], own.indptr[row + 1]) < left)).all()
                assert (columns < stop).all()
        assert inside[reduced.residuals].all()
        for row in np.flatnonzero(~inside):
            assert own.indices[own.indptr[row + 1] - 1] == row and own.data[own.indptr[row + 1] - 1] == 1.0
            assert (label == label[row]).sum() == 1


def test_without_implicit_statements_nothing_changes(comm):
    p = implicit_problem(comm, 1, kinds=())
    reduced = eliminate(p.local, p.rows)
    system = TriangularSystem(comm, reduced)
    assert not system.cyclic and not reduced.components and system.blocks == []
    np.testing.assert_array_equal(reduced.kept, np.sort(reduced.kept))
    np.testing.assert_array_equal(system.bounds, system.ends)
    check(comm, p, Substitution, False, 2)
    system.close()


@pytest.mark.parametrize("method", ["substitution", "gmres", "mumps"])
def test_refresh_factorizes_anew(comm, method):
    p = implicit_problem(comm, 6, size=9)
    reduced = eliminate(p.local, p.rows)
    system = TriangularSystem(comm, reduced)
    solver = solver_for(method, system)
    jacobians(comm, p, system, solver, 0)
    scale = np.random.default_rng(1).uniform(0.5, 2.0, len(p.L))
    rows = np.repeat(np.arange(len(p.own)), np.diff(p.rows.indptr))
    moved = replace(p, L=scale[:, None] * p.L / scale)
    reduced.refresh(p.rows.data * scale[p.own[rows]] / scale[p.own[p.rows.indices]])
    system.refresh(reduced)
    solver.refresh()
    for m in (0, 2):
        for J in jacobians(comm, moved, system, solver, m):
            np.testing.assert_allclose(J, moved.jacobian(), rtol=0, atol=moved.tolerance())
    solver.close()
    system.close()


def test_plain_and_compiled_loops_agree(comm, monkeypatch):
    p = implicit_problem(comm, 7, size=6)
    results = []
    for compiled in (False, True):
        monkeypatch.setattr(csr, "PLAIN_WORK", 10**9)
        for module in (csr, component_kernels):
            for kernel in vars(module).values():
                if isinstance(kernel, csr.Kernel):
                    monkeypatch.setattr(kernel, "_compiled", kernel.compiled if compiled else None)
        system = TriangularSystem(comm, eliminate(p.local, p.rows))
        results.append([J for m in (0, 3) for J in jacobians(comm, p, system, Substitution(system), m)])
        system.close()
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_block_iteration_ends_after_k_star(comm):
    p = implicit_problem(comm, 8)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    solver = Krylov(system, {"ksp_type": "richardson"})
    solver.tangent(np.ones(len(system.inputs.ids)))
    assert solver.info["iterations"] <= system.k_star and solver.info["residual"] <= 1e-12
    solver.close()
    solver = Krylov(system, {"preconditioner": "substitution"})
    solver.adjoint(np.ones(len(system.outputs.ids)))
    assert solver.info["iterations"] <= 2
    solver.close()
    system.close()


def test_residual_against_magnitudes(comm):
    p = implicit_problem(comm, 9, size=9)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    passes, residual, r = Passes(system), Residual(system), np.zeros(system.n_local)
    b = np.random.default_rng(comm.rank).standard_normal(system.n_local)
    for transposed in (False, True):
        x = b.copy()
        (passes.backward if transposed else passes.forward)(x)
        assert residual(b, x, r, transposed)[0] <= 1e-14
        assert residual.against_magnitudes(b, r, transposed) <= 1e-14
        residual(b, 0.5 * x, r, transposed)
        assert residual.against_magnitudes(b, r, transposed) > 1e-4
    system.close()


@pytest.mark.parametrize("package", ["mumps", "superlu_dist", "petsc"])
def test_direct_factorizes_component_by_component(comm, package, monkeypatch):
    """The package gets each large sparse component by itself, never the whole, and orders once for all points."""
    if package not in available(1):
        pytest.skip(f"this PETSc has no {package}")
    for name, most in (("SMALL", 2), ("DENSE", 0), ("FILLED", 0)):
        monkeypatch.setattr(blocks, name, most)
    made, refreshed, first = [], [], Factor.__init__

    def counted(self, system, *rest, **keywords):
        made.append(system.n_rows)
        first(self, system, *rest, **keywords)

    monkeypatch.setattr(Factor, "__init__", counted)
    again = Factor.refresh
    monkeypatch.setattr(Factor, "refresh", lambda self: (refreshed.append(self.system.n_rows), again(self)))
    kinds = tuple(kind for kind in KINDS if package == "mumps" or kind != "zero diagonal")  # others do not pivot
    p = implicit_problem(comm, 3, kinds, size=20)
    reduced = eliminate(p.local, p.rows, full=True)
    system = TriangularSystem(comm, reduced)
    solver = Direct(system, {"pc_factor_mat_solver_type": package})
    large = np.diff([reduced.components.first, reduced.components.stop], axis=0)[0]
    large = sorted(large[large > 2].tolist())
    assert sorted(made) == sorted(large * (2 if package == "superlu_dist" else 1))
    assert comm.allreduce(len(large)) > 0 and max(large, default=0) < system.n_rows
    for m in (0, 3):
        for J in jacobians(comm, p, system, solver, m):
            np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=p.tolerance())
    assert solver.info["of"] == "components" and solver.info["residual"] <= 1e-12
    name = {"mumps": "MUMPS", "superlu_dist": "SuperLU_DIST", "petsc": "PETSc's LU"}[package]
    assert (name in solver.system.how) == bool(large)
    whole = Direct(system, {"direct_of": "whole", "pc_factor_mat_solver_type": "mumps"})
    assert whole.info == {} and made[-1] == system.n_rows
    known = len(made)
    scale = np.random.default_rng(1).uniform(0.5, 2.0, len(p.L))
    rows = np.repeat(np.arange(len(p.own)), np.diff(p.rows.indptr))
    moved = replace(p, L=scale[:, None] * p.L / scale)
    reduced.refresh(p.rows.data * scale[p.own[rows]] / scale[p.own[p.rows.indices]])
    system.refresh(reduced)
    for one in (solver, whole):
        one.refresh()
        for J in jacobians(comm, moved, system, one, 0):
            np.testing.assert_allclose(J, moved.jacobian(), rtol=0, atol=moved.tolerance())
        one.close()
        one.close()
    assert len(made) == known and sorted(refreshed) == sorted([*made[:-1], system.n_rows])
    system.close()


def test_options_of_direct_are_read_where_the_large_components_are(comm, monkeypatch):
    """A rank that has none says nothing of options that another has read, and one that nobody knows is told of."""
    if "mumps" not in available(1):
        pytest.skip("this PETSc has no MUMPS")
    monkeypatch.setattr(blocks, "DENSE", 0)
    monkeypatch.setattr(blocks, "FILLED", 0)
    p = one_equation(comm, 3.0 * np.eye(40) - np.eye(40, k=1) - np.eye(40, k=-1))
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Direct(system, {"mat_mumps_icntl_14": 60}).close()
    with pytest.raises(InputError, match="components, whole"):
        Direct(system, {"direct_of": "halves"})
    system.close()


def one_equation(comm, B: np.ndarray) -> Problem:
    """Two inputs, an implicit statement B y = x_0 on the last rank, and the sum of its results on the first."""
    n = len(B)
    L = np.zeros((n + 3, n + 3))
    y = np.arange(2, n + 2)
    L[np.ix_(y, y)], L[y, 0] = -B, 1.0
    L[n + 2, y] = 1.0
    owner = np.zeros(n + 3, int)
    owner[y] = comm.size - 1
    together = np.r_[0, 1, np.full(n, 2), n + 2]
    return spread(sp.csr_matrix(L), owner, np.arange(2), np.array([n + 2]), comm.rank, y, together)


@pytest.mark.few_ranks  # the equation is on one of them
@pytest.mark.parametrize("n, sets_apart", [(40, False), (300, True)])
def test_mumps_expects_rows_that_read_everything(comm, n, sets_apart):
    """The sum of all results: the ordering that MUMPS chooses by itself takes time quadratic in such a row's length."""
    if "mumps" not in available(comm.size):
        pytest.skip("this PETSc has no MUMPS")
    p = one_equation(comm, 3.0 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    for options in ({}, {"mat_mumps_icntl_7": 0}):
        solver = Direct(system, {**options, "direct_of": "whole"})
        ordering = solver._factors._kept[False].ksp.getPC().getFactorMatrix().getMumpsInfog(7)
        assert (ordering == 6) == (sets_apart and not options)
        for J in jacobians(comm, p, system, solver, 0):
            np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=p.tolerance())
        solver.close()
    system.close()


@pytest.mark.parametrize("method, how, n", [
    *((Substitution, how, n) for how in ("zero", "rank", "nearly", "nan") for n in (1, 3, 12, 90)),
    *((method, how, 3) for how in ("rank", "nan") for method in (Krylov, Direct))])
def test_singular_blocks_are_named(comm, method, how, n):
    B = np.eye(n) + np.eye(n, k=1) + np.eye(n, k=1 - n)
    if how == "zero":
        B[:, 0] = 0.0
    elif how == "rank":
        B[-1] = B[0] if n > 1 else 0.0
    elif how == "nearly":
        B[-1] = B[0] * (1 + 1e-16) if n > 1 else 0.0
        B[-1, -1] += 1e-16 if n > 1 else 0.0
    else:
        B[n // 2, 0] = np.nan
    p = one_equation(comm, B)
    p.local.sites.append(Site("model.py", 12, "balance"))
    for k, item in enumerate(p.local.items):  # its lines as one statement
        if item.lines >= n and comm.rank == comm.size - 1:
            p.local.items[k] = Statement(COPY, (item.lines,), Affine(item.block, 0, (1,)), (), site=0)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    with pytest.raises(SingularError, match="model.py:12 in balance.*dR/dy.*singular.*no derivative"):
        method(system)
    system.close()


def test_singular_after_refresh(comm):
    p = one_equation(comm, np.eye(3) + np.eye(3, k=1))
    reduced = eliminate(p.local, p.rows, full=True)
    system = TriangularSystem(comm, reduced)
    solver = Substitution(system)
    reduced.refresh(0.0 * p.rows.data)
    with pytest.raises(SingularError, match="singular"):
        system.refresh(reduced)
    solver.close()
    system.close()


def test_cycles_where_none_were_expected(comm):
    p = one_equation(comm, np.eye(3) + np.eye(3, k=1))
    explicit = p.rows._replace(residuals=np.empty(0, np.int64))  # the same rows, called explicit
    if comm.rank == comm.size - 1:
        with pytest.raises(CycleError, match="in a cycle; only the results of one implicit statement may"):
            eliminate(p.local, explicit)
    rows = Rows(np.array([0, 0, 1]), np.array([1]), np.ones(1))  # a line that reads itself
    with pytest.raises(CycleError, match="with or after its own"):
        eliminate(spread(sp.csr_matrix((2, 2)), np.zeros(2, int), np.array([0]), np.array([1]), 0).local, rows)


def test_cycle_over_ranks(comm):
    """Two equations that need each other, on two ranks: whoever placed them so is told."""
    if comm.size == 1:
        pytest.skip("one rank")
    L = np.zeros((4, 4))
    L[1, 0], L[1, 2], L[2, 1], L[3, 2] = 1.0, 1.0, 0.5, 1.0
    L[1, 1] = L[2, 2] = -3.0
    owner = np.array([0, 0, comm.size - 1, comm.size - 1])
    p = spread(sp.csr_matrix(L), owner, np.array([0]), np.array([3]), comm.rank, np.array([1, 2]),
               np.array([0, 1, 1, 3]))
    failed = False
    try:
        eliminate(p.local, p.rows)
    except CycleError as error:
        failed = "on another rank" in str(error)
    assert comm.allreduce(failed) >= 1  # whoever waits for what comes later
