"""Every method conforms: on a family of DAGs, both directions, one and several right-hand sides, any ranks.

A method of `select.METHODS` is tested through `linearize` by its name alone; one that solves assembled systems also on
rows that are spread in hard ways, under each set of options listed in ASSEMBLED.  A new method joins by its name (and a
line there).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dags import FAMILY
from random_systems import Problem, collect

import distdiff as dd
from distdiff.preaccumulate import eliminate
from distdiff.solvers import assembled_solver, direct
from distdiff.solvers.select import METHODS
from distdiff.system import TriangularSystem

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(90)]

# Label: method, options.
ASSEMBLED: dict[str, tuple[str, dict[str, Any]]] = {
    "substitution": ("substitution", {}),
    "neumann": ("neumann", {}),
    "gmres": ("krylov", {}),
    "gmres over substitution": ("krylov", {"preconditioner": "substitution"}),
    "fgmres": ("krylov", {"ksp_type": "fgmres"}),
    "richardson": ("krylov", {"ksp_type": "richardson"}),
    "bcgs": ("krylov", {"ksp_type": "bcgs"}),
    "mumps": ("direct", {"pc_factor_mat_solver_type": "mumps"}),
}

_systems: dict[tuple[str, str, bool], tuple[Problem, TriangularSystem]] = {}


@pytest.fixture(scope="module", autouse=True)
def _close_systems():
    """Systems are shared by the module's tests, and made in the same order on all ranks."""
    yield
    for _, system in _systems.values():
        system.close()
    _systems.clear()


def spread_system(comm, shape: str, owners: str, full: bool) -> tuple[Problem, TriangularSystem]:
    key = shape, owners, full
    if key not in _systems:
        p = FAMILY[shape].problem(comm, owners)
        _systems[key] = p, TriangularSystem(comm, eliminate(p.local, p.rows, full=full))
    return _systems[key]


@pytest.mark.parametrize("method", ASSEMBLED)
@pytest.mark.parametrize("shape", FAMILY)
def test_assembled(comm, shape, method):
    name, options = ASSEMBLED[method]
    package = options.get("pc_factor_mat_solver_type")
    if package is not None and package not in direct.available(comm.size):
        pytest.skip(f"this PETSc has no {package}")
    for owners, full in ("slabs", True), ("cyclic", False), ("one", True):
        p, system = spread_system(comm, shape, owners, full)
        solver = assembled_solver(name, SimpleNamespace(system=system), options)
        try:
            J, tolerance = p.jacobian(), p.tolerance()
            for m in (0, 1, 3):
                forward = solve_with(solver.tangent, comm, system.inputs, system.outputs, J.shape[::-1], m)
                transposed = solve_with(solver.adjoint, comm, system.outputs, system.inputs, J.shape, m)
                seeds_in, seeds_out = seeds(J.shape[1], m), seeds(J.shape[0], m)
                np.testing.assert_allclose(forward, J @ seeds_in, rtol=0, atol=3 * tolerance)
                np.testing.assert_allclose(transposed, J.T @ seeds_out, rtol=0, atol=3 * tolerance)
        finally:
            solver.close()


def seeds(n: int, m: int) -> np.ndarray:
    """Entries within [-1, 1], (n,) for m = 0 else (n, m): a different mix of directions in each column."""
    return np.cos(np.arange(n * max(m, 1)) * 1.7).reshape((n, m) if m else (n,))


def solve_with(solve, comm, source, target, shape: tuple[int, int], m: int) -> np.ndarray:
    n_source, n_target = shape
    return collect(comm, target, solve(np.ascontiguousarray(seeds(n_source, m)[source.positions])), n_target)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", FAMILY)
def test_by_name(comm, shape, method):
    """The same shapes traced line by line: jvp, vjp and the Jacobian's many right-hand sides."""
    dag = FAMILY[shape]
    p = dag.problem(comm)
    J, tolerance = p.jacobian(), p.tolerance()
    n_out, n_in = J.shape
    with dd.linearize(dag.function(), seeds(n_in, 0), comm=comm, method=method, partition="contiguous",
                      min_block=1) as lin:
        np.testing.assert_allclose(lin.value, J @ seeds(n_in, 0), rtol=0, atol=3 * tolerance)
        np.testing.assert_allclose(lin.jvp(seeds(n_in, 0)), J @ seeds(n_in, 0), rtol=0, atol=3 * tolerance)
        np.testing.assert_allclose(lin.vjp(seeds(n_out, 0)), J.T @ seeds(n_out, 0), rtol=0, atol=3 * tolerance)
        np.testing.assert_allclose(lin.jacobian(), J, rtol=0, atol=tolerance)
