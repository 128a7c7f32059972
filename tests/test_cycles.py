"""Equations in the structure that is reported: cycles, uses and entries, the same on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI
from scipy.sparse.csgraph import connected_components

import distdiff as dd
from distdiff.implicit import linear_solve, root
from distdiff.implicit.equation import cycles

pytestmark = [pytest.mark.mpi, pytest.mark.few_ranks, pytest.mark.timeout(60)]  # equations are on one rank of them


def tridiagonal(x, u):
    padded = np.concatenate([[0.0], u, [0.0]])
    return 2 * u - padded[2:] - padded[:-2] + 0.1 * u**3 - x


def poisson(x):
    return np.sum(root(tridiagonal, x, np.zeros_like(x))**2)


def steps(x):
    """Implicit steps of time, one after another."""
    u = x
    for _ in range(20):
        u = root(lambda x, u: u + 0.1 * tridiagonal(0.0 * x, u) - x, u, np.zeros_like(x))
    return u


def pointwise(x):
    """Kepler's equation for every point by itself, its line read by its own sine."""
    return np.sum(root(lambda m, e: e - 0.3 * np.sin(e) - m, x, np.zeros_like(x)))


def pairs(x):
    """Neighbours two by two, the last one read by none and reading all."""
    def residual(x, u):
        return np.concatenate([u[:-1].reshape(-1, 2) + 0.1 * u[:-1].reshape(-1, 2)[:, ::-1]**2 - x[:-1].reshape(-1, 2),
                               (u[-1:] + np.sum(u[:-1]) - x[-1:]).reshape(1, 1)], axis=None)

    return root(residual, x, np.zeros_like(x))


def roots(x):
    y = x[0]
    for _ in range(60):
        y = root(lambda x, y: y + 0.1 * np.sin(y) - x, y, 0.5)
    return y


def aside(x):
    """A small equation in a program that is long otherwise."""
    u = x
    for _ in range(90):
        u = u + 0.1 * np.sin(np.roll(u, 1))
    return u * linear_solve(2.0 * np.eye(3) + np.outer(u[:3], u[1:4]), u[:3])[0]


def backwards(x):
    """Every unknown reads the next one: triangular the other way round."""
    return root(lambda x, u: u + 0.1 * np.concatenate([u[1:], [1.0]])**2 - x, x, np.zeros_like(x))


TABLE = {  # program: (shape, shape of the components, cycles, largest, rows)
    poisson: ("cyclic", "wide", 1, 21, 21), steps: ("cyclic", "wide", 20, 21, 420),
    pointwise: ("wide", "wide", 0, 0, 0), pairs: ("cyclic", "wide", 10, 2, 20), roots: ("chain", "chain", 0, 0, 0),
    aside: ("grid", "grid", 1, 3, 3), backwards: ("wide", "wide", 0, 0, 0)}


@pytest.mark.parametrize("f", TABLE, ids=lambda f: f.__name__)
def test_cycles_are_found(comm, f):
    x = np.linspace(0.2, 0.7, 21)
    with dd.linearize(f, x, comm=comm) as lin:
        report = lin.report()
        shape, order, count, largest, rows = TABLE[f]
        assert (report.shape, report.cycles.count, report.cycles.largest, report.cycles.rows) == (
            shape, count, largest, rows)
        assert report.order == order
        assert ("strongly connected" in str(report)) == (count > 0)


@pytest.mark.parametrize("f", [poisson, pairs, backwards, pointwise], ids=lambda f: f.__name__)
def test_they_are_those_of_the_matrix(f):
    """Of dR/dy as differences tell it: unknown i reads j where R_i changes with y_j."""
    x = np.linspace(0.2, 0.7, 21)
    with dd.linearize(f, x, comm=MPI.COMM_SELF) as lin:
        op = next(item.op for item in lin._at.facts.tape.items if getattr(getattr(item, "op", None), "implicit", False))
    equation = op.equation.at(np.linspace(0.3, 0.9, 21), x)
    J = np.stack([equation.times(e) for e in np.eye(21)], 1)
    found = np.bincount(connected_components(J != 0.0, connection="strong")[1])
    assert sorted(cycles(op.tape)) == sorted(found[found > 1])


def test_uses_around_equations(comm):
    """A chain of equations: every solution is read once, the last one and x[1] never."""
    x = np.linspace(0.2, 0.7, 2)
    with dd.linearize(roots, x, comm=comm) as lin:
        uses = lin.report().uses
        assert uses.count == (2, 60) and uses.most == 1
    with dd.linearize(poisson, x, comm=comm) as lin:  # x, u, their squares
        assert lin.report().uses.count == (1, 3 * len(x))


def test_entries_of_equations_are_those_of_their_lines(comm):
    """And not those of the solution's derivative, which is dense."""
    n = 400
    with dd.linearize(poisson, np.linspace(0.2, 0.7, n), comm=comm) as lin:
        assert lin.report().nonzeros < 20 * n


def test_how_components_are_solved(comm):
    x = np.linspace(0.2, 0.7, 101)
    for f, how in (pointwise, "division for 101 blocks"), (poisson, "SuperLU for a block, the largest of 101 rows"):
        with dd.linearize(f, x, comm=comm, method="sweep") as lin:
            lin.vjp(1.0)
            assert f"solved by {how}" in str(lin.report())
    with dd.linearize(pairs, x, comm=comm, method="substitution") as lin:
        lin.vjp(x)
        assert "division for a block, LU in one compiled loop for 50 blocks" in str(lin.report())
