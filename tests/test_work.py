"""What elimination will keep, estimated block by block, against what it keeps."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.implicit import root
from distdiff.partition.local import whole
from distdiff.solvers.kept import expected_kept, kept, kept_by
from distdiff.solvers.sweep_ops import Partial
from distdiff.solvers.sweep_plan import _Planner, plan_adjoint, plan_tangent
from distdiff.solvers.work import count
from distdiff.tape import Indexed
from distdiff.tracing import trace


def stencil(u):
    for _ in range(10):
        left, right = np.roll(u, 1), np.roll(u, -1)
        u = u - 0.1 * u * (right - left) + 0.05 * (right - 2.0 * u + left)
    return u


def layers(x):
    w = np.linspace(-1.0, 1.0, 100).reshape(10, 10)
    for _ in range(3):
        x = np.tanh(w @ x)
    return x


def halves(x):
    while len(x) > 1:
        x = np.sin(x[0::2]) * x[1::2]
    return x[0]


def records(u):
    kept = []
    for _ in range(9):
        u = u + 0.2 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1)) * u
        kept.append(u)
    return np.stack(kept)


def pooled(x):
    return (np.exp(-x * x) * np.sin(x)).reshape(4, -1).sum(axis=1)


def ends(x):
    for _ in range(5):
        x = x * np.cos(x)
    return np.concatenate([x[:2], x[-2:]])


def indexed(u):
    near = np.array([[(i + 1) % 40, (i + 7) % 40, (3 * i) % 40] for i in range(40)])
    for _ in range(4):
        u = u + 0.1 * u[near].sum(axis=1)
    return u


@pytest.mark.parametrize(("f", "n", "rows", "nonzeros"), [
    (stencil, 30, 1.0, 1.04), (layers, 10, 1.0, 1.02), (halves, 32, 1.0, 1.0), (records, 20, 1.0, 1.05),
    (pooled, 40, 1.0, 1.02), (ends, 40, 1.02, 1.05), (indexed, 40, 1.02, 1.35),
])
def test_kept_is_what_elimination_keeps(f, n, rows, nonzeros):
    with dd.linearize(f, np.linspace(0.2, 1.0, n), comm=MPI.COMM_SELF, method="substitution") as lin:
        expected, system = kept(lin._at.local), lin._solving.assembly.system
        assert system.n_rows / rows <= expected.rows <= system.n_rows * rows
        assert system.nnz / nonzeros <= expected.nonzeros <= system.nnz * nonzeros


def test_reads_that_leave_the_cache_are_counted():
    def f(u):
        return np.sum(np.sin(u[near]))

    for n, far in ((1000, False), (100_000, True)):
        near = np.random.default_rng(0).integers(0, n, n)
        with dd.linearize(f, np.ones(n), comm=MPI.COMM_SELF) as lin:
            reads = sum(item.lines for item in lin._at.local.items
                        if any(type(ref) is Indexed for ref in item.operands))
            work = count(lin._at.local, MPI.COMM_SELF)
            assert reads >= n and work.gather_lines == reads and work.far_reads == (reads if far else 0)


def test_an_implicit_statement_counts_its_equation():
    """Entries are those of R, not of dy/dx, in which everything depends on everything."""
    def f(q):
        return root(lambda q, u: 4.0 * u - np.roll(u, 1) - np.roll(u, -1) + 0.1 * u**3 - q, q, q)

    with dd.linearize(f, np.linspace(0.2, 1.0, 50), comm=MPI.COMM_SELF, method="substitution") as lin:
        work, expected = count(lin._at.local, MPI.COMM_SELF), kept(lin._at.local)
        system = lin._solving.assembly.system
        assert system.nnz - system.n_rows <= work.nonzeros == work.implicit <= 4 * system.nnz
        assert expected.rows == pytest.approx(system.n_rows, rel=0.05)
        assert system.nnz / 3 <= expected.nonzeros <= 4 * system.nnz


def test_counts():
    with dd.linearize(stencil, np.linspace(0.2, 1.0, 30), comm=MPI.COMM_SELF) as lin:
        work = count(lin._at.local, MPI.COMM_SELF)
        assert work.nodes == lin._at.local.n_nodes and work.array_lines == lin._at.local.lines
        assert work.nonzeros == lin.report().nonzeros and (work.inputs, work.outputs) == (30, 30)
        assert work.fresh + work.sums + work.copies + work.runs == work.items
        assert work.copies > work.fresh > 0  # ten periods, of which some are planned one by one
        assert (work.messages, work.halo, work.waits) == (0, 0, 1.0)
    with dd.linearize(halves, np.linspace(0.2, 1.0, 32), comm=MPI.COMM_SELF) as lin:
        assert count(lin._at.local, MPI.COMM_SELF).copies == 0  # every period has another shape


def samples(x):
    t = np.linspace(0.0, 1.0, 3000)
    y = np.zeros(3000)
    for k in range(5):
        y = y + np.tanh(x[k] * np.cos(k * t))
    return np.sum(y * y)


def gauges(u):
    """A field in time of which a few points are looked at."""
    u, total = u.reshape(48, 10), 0.0
    for _ in range(24):
        u = u + 0.1 * (np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1) - 4.0 * u) * u
        total = total + np.sum((u[[3, 30], [2, 7]] - 0.5) ** 2)
    return total


def neighbours(u):
    near = np.clip(np.arange(400)[:, None] + np.array([-3, -1, 1, 2]), 0, 399)
    for _ in range(10):
        u = u + 0.1 * (u[near].sum(axis=1) - 4.0 * u) * (1.0 + u)
    return np.sum(u * u)


def outflow(u):
    """The last point of a field in time: what matters of a step is a point more than of the next."""
    out = []
    for _ in range(40):
        v = u.copy()
        v[1:] = u[1:] - 0.3 * (1.0 + 0.1 * u[1:]) * (u[1:] - u[:-1])
        u = v
        out.append(u[-1])
    return np.stack(out)


@pytest.mark.mpi
@pytest.mark.parametrize(("f", "n", "layout", "within"), [
    (outflow, 2000, "axes", 1.6),
    (samples, 5, "axes", 1.1), (gauges, 480, "axes", 4.0), (gauges, 480, "contiguous", 1.6),
    (neighbours, 400, "contiguous", 1.6)])
def test_kept_on_ranks(comm, f, n, layout, within):
    """One result, and nodes that travel: neither a single row nor all of them.  Deep halos are followed worst."""
    if comm.size == 1:
        pytest.skip("one row is left on one rank")
    with dd.linearize(f, np.linspace(0.2, 1.0, n), comm=comm, method="substitution", partition=layout, min_block=1,
                      solves=20) as lin:
        system, expected = lin._solving.assembly.system, expected_kept(lin._at.local, comm)
        real = kept_by(system.n_local, system.own.nnz + system.ghost.nnz, comm)
        assert (real.rows - 10) / within <= expected.rows <= within * real.rows + 10
        assert (real.nonzeros - 30) / within <= expected.nonzeros <= within * real.nonzeros + 30


def read_every(every):
    def f(u):
        read = 0.0
        for k in range(60):
            u = u + 0.2 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1)) * u
            if every and k % every == every - 1:
                read = read + u[3] * u[5]
        return read + np.sum(u)
    return f


def species(u):
    """Each line of the step for two fields: its statements come twice a period."""
    a, b = u[:25], u[25:]
    for _ in range(40):
        near = [np.roll(c, 1) + np.roll(c, -1) - 2.0 * c for c in (a, b)]
        a, b = a + 0.1 * near[0] - a * b, b + 0.05 * near[1] + a * b
    return np.sum(a * b)


def in_place(u):
    """Ends that stay what they were: every period adds to their adjoints, which are many periods old."""
    for _ in range(60):
        v = u.copy()
        v[1:-1] = u[1:-1] - 0.1 * u[1:-1] * (u[2:] - u[:-2])
        u = v
    return u


@pytest.mark.parametrize(("f", "runs", "least"), [
    (read_every(0), 0, 0.5), (read_every(6), 10, 0.5), (read_every(20), 3, 0.5), (species, 0, 0.33),
    (in_place, 0, 0.33)])
@pytest.mark.parametrize("plan", [plan_tangent, plan_adjoint])
def test_what_planning_handles_one_by_one_is_foreseen(f, runs, least, plan, monkeypatch):
    """First periods of a loop, of every stretch of it that scalar lines cut off."""
    local = whole(trace(f, (np.linspace(0.5, 1.5, 50),)).tape)
    work, handled, plain = count(local, MPI.COMM_SELF), [], _Planner.statements
    monkeypatch.setattr(_Planner, "statements", lambda self, items: (handled.extend(items), plain(self, items)))
    plan(local)
    assert work.runs >= runs
    foreseen = work.fresh + work.sums - work.sum_copies
    assert least * len(handled) <= foreseen <= 2 * len(handled)


def test_partials_that_are_computed_are_counted():
    """Each an operation and memory of its own, in loops too; constants and values by reference are none."""
    def f(u):
        for _ in range(20):
            u = u / (1.0 + u * u) + 0.1 * np.tanh(u)
        return u

    local = whole(trace(f, (np.linspace(0.5, 1.5, 50),)).tape)
    work, plan = count(local, MPI.COMM_SELF), plan_adjoint(local, keep=True)
    operations = [op for op in plan.operations if type(op) is Partial]
    assert work.rules == len(operations) == 60 and work.rule_lines == plan.stored == 50 * 60
    assert work.vast_terms == 0 and work.outer_lines == 0


def test_entries_of_sums_that_are_streamed_are_counted():
    """A matrix that the right-hand sides enter is read or written for every one of them; a constant one is not."""
    def f(w):
        matrix, x = w[:400].reshape(20, 20), w[400:]
        for _ in range(3):
            x = matrix @ (np.ones((20, 20)) @ x)
        return x

    work = count(whole(trace(f, (np.linspace(0.5, 1.5, 420),)).tape), MPI.COMM_SELF)
    assert (work.outer_lines, work.sums) == (3 * 400, 6) and work.sum_lines >= 6 * 400
