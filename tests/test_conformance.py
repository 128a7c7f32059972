"""Every method conforms: on a family of DAGs, both directions, one and several right-hand sides, any ranks.

A method of `select.METHODS` is tested through `linearize` by its name alone; one that solves assembled systems also on
rows that are spread in hard ways, under each set of options listed in `methods`.  A new method joins by its name, and a
line there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dags import FAMILY
from methods import LABELS, MIXED, solver_for
from methods import METHODS as ASSEMBLED
from random_systems import Problem, collect, random_problem

import distdiff as dd
from distdiff.preaccumulate import eliminate
from distdiff.solvers.select import METHODS
from distdiff.system import TriangularSystem

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(90)]

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


LAYOUTS = [("cyclic", False, (0, 3)), ("slabs", True, (1, 13)), ("one", True, (0,))]  # owners, full, right-hand sides
GENERATED = [("random", True, (0, 4)), ("slabs", False, (1,)), ("one", True, (2,)), ("random", False, (0,))]
HARD = ("layered", "grid", "random", "hub")  # shapes on which variants of a method are tested, on the first layout


@pytest.mark.parametrize("shape, method", [
    pytest.param(shape, method, marks=pytest.mark.few_ranks if method in MIXED or (k + m) % 2 else ())
    for k, shape in enumerate(FAMILY) for m, method in enumerate(ASSEMBLED) if shape in HARD or " " not in method])
def test_assembled(comm, shape, method):
    """On most numbers of ranks every method on half of the shapes, and every shape by half of the methods."""
    for owners, full, columns in LAYOUTS[:1] if " " in method else LAYOUTS:
        p, system = spread_system(comm, shape, owners, full)
        solver = solver_for(method, system)
        try:
            for m in columns:
                check_both_directions(comm, p, system, solver, m)
        finally:
            solver.close()


@pytest.mark.parametrize("method", LABELS)
def test_generated(comm, method):
    """Random DAGs: narrow and wide, sparse and dense, spread at random, in slabs, and with a rank that has one row."""
    for seed, (owners, full, columns) in enumerate(GENERATED[:2] if " " in method else GENERATED):
        key = f"generated {seed}", owners, full
        if key not in _systems:
            draw = np.random.default_rng(seed)
            p = random_problem(comm, seed, n=int(draw.integers(20, 50)), n_in=int(draw.integers(1, 6)),
                               n_out=int(draw.integers(1, 5)), owners=owners, degree=draw.uniform(1.0, 3.0),
                               window=(None, 3, 12)[seed % 3])
            _systems[key] = p, TriangularSystem(comm, eliminate(p.local, p.rows, full=full))
        p, system = _systems[key]
        solver = solver_for(method, system)
        try:
            for m in columns:
                check_both_directions(comm, p, system, solver, m)
            assert system.k_star == len(p.local.steps)
            if method == "substitution":
                assert solver.info == {"supersteps": system.k_star, "messages": comm.allreduce(p.local.messages)}
        finally:
            solver.close()


def check_both_directions(comm, p: Problem, system: TriangularSystem, solver: Any, m: int) -> None:
    J, tolerance = p.jacobian(), p.tolerance()
    x, w = seeds(J.shape[1], m), seeds(J.shape[0], m)
    forward = solver.tangent(np.ascontiguousarray(x[system.inputs.positions]))
    np.testing.assert_allclose(collect(comm, system.outputs, forward, len(J)), J @ x, rtol=0, atol=3 * tolerance)
    back = solver.adjoint(np.ascontiguousarray(w[system.outputs.positions]))
    np.testing.assert_allclose(collect(comm, system.inputs, back, len(x)), J.T @ w, rtol=0, atol=3 * tolerance)


def seeds(n: int, m: int) -> np.ndarray:
    """Entries within [-1, 1], (n,) for m = 0 else (n, m): a different mix of directions in each column."""
    return np.cos(np.arange(n * max(m, 1)) * 1.7).reshape((n, m) if m else (n,))


@pytest.mark.parametrize("shape, method", [
    pytest.param(shape, method, marks=pytest.mark.few_ranks if (k + m) % 2 else ())
    for k, shape in enumerate(FAMILY) for m, method in enumerate(METHODS)])
def test_by_name(comm, shape, method):
    """The same shapes traced line by line: jvp, vjp and the Jacobian's many right-hand sides; on most numbers of ranks
    every method on half of the shapes, as in `test_assembled`."""
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
