"""Halos over MPI, one superstep deep and more: every method gives on many ranks what one rank gives."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

from distdiff import channels, linearize, source
from distdiff.assembly import Assembly
from distdiff.channels import Messages
from distdiff.evaluate import evaluate
from distdiff.partition import check, distribute, partition
from distdiff.partition.local import whole
from distdiff.solvers import sweep_plan
from distdiff.solvers.krylov import Krylov
from distdiff.solvers.substitution import Substitution
from distdiff.solvers.sweep import Sweep
from distdiff.solvers.sweep_ops import Finish, Start
from distdiff.stages import Stages
from distdiff.tracing import trace

pytestmark = pytest.mark.mpi


def waves(z):
    """Two coupled fields on a torus, with coefficients, readings in between and a closed edge."""
    mask = np.ones(z.shape)
    mask[0] = 0.0
    u, v, total = z, 0.5 * z, 0.0
    for k in range(5):
        slope = np.roll(u, -1, axis=0) - u + 0.3 * np.roll(v, 1, axis=1)
        v = v + 0.1 * mask * slope * u
        u = u + 0.1 * (v - np.roll(v, 1, axis=0)) + 0.05 * np.sin(v)
        if k % 2:
            total = total + np.sum(u[1:-1] * v[2:] ** 2) + u[3, 2] * v[-1, 0]
    return u[::2], total


def row(z):
    """One dimension, reaching two points to one side, with fixed ends."""
    for _ in range(6):
        inner = z[2:-1] + 0.2 * (z[3:] - z[2:-1]) * z[:-3]
        z = np.concatenate([z[:2], inner, z[-1:]])
    return z


PROGRAMS = {"waves": (waves, (14, 4)), "row": (row, (23,))}


def gathered(comm: MPI.Comm, n: int, places: np.ndarray, part: np.ndarray) -> np.ndarray:
    total = np.zeros((n, *part.shape[1:]))
    total[places] = part
    return comm.allreduce(total)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.few_ranks), 4])  # 4: beyond the next rank
def test_every_method_with_deep_halos(comm, program, depth):
    f, shape = PROGRAMS[program]
    x = np.random.default_rng(1).uniform(0.5, 1.5, shape)
    tape = trace(f, (x,)).tape
    alone = MPI.COMM_SELF
    plan = partition(tape, comm.size, strategy="axes", min_block=1, depth=depth) if comm.rank == 0 else None
    local = distribute(tape if comm.rank == 0 else None, plan, comm)
    if comm.size > 1:
        check(local)
    values = None
    for here in (x.ravel(), x.ravel() * 1.1 + 0.05):  # a second point, in the memory of the first
        point = evaluate(local, here[local.inputs.positions], comm, values=values)
        values = point.values
        one = evaluate(whole(tape), here, alone, complete=True)
        y = gathered(comm, tape.n_outputs, local.outputs.positions, point.outputs())
        np.testing.assert_allclose(y, one.outputs(), rtol=1e-13)
    exact = Sweep(whole(tape), one, alone)
    assembly = Assembly(local, point.completed(comm), comm, True, Stages())
    solvers = [Sweep(local, point, comm), Substitution(assembly.system), Krylov(assembly.system)]
    rng = np.random.default_rng(2)
    for tail in ((), (1,), (3,)):
        v, w = rng.standard_normal((tape.n_inputs, *tail)), rng.standard_normal((tape.n_outputs, *tail))
        ydot, xbar = exact.tangent(v), exact.adjoint(w)
        np.testing.assert_allclose(np.sum(ydot * w), np.sum(xbar * v), rtol=1e-10)
        for solver in solvers:
            mine = gathered(comm, tape.n_outputs, local.outputs.positions, solver.tangent(v[local.inputs.positions]))
            np.testing.assert_allclose(mine, ydot, rtol=1e-10, atol=1e-10)
            mine = gathered(comm, tape.n_inputs, local.inputs.positions, solver.adjoint(w[local.outputs.positions]))
            np.testing.assert_allclose(mine, xbar, rtol=1e-10, atol=1e-10)
    for solver in solvers:
        solver.close()
    assembly.close()
    local.close()


def test_deeper_halos_are_fewer_messages(comm):
    tape = trace(waves, (np.ones((16 * comm.size, 4)),)).tape
    plans = [partition(tape, comm.size, strategy="axes", min_block=1, depth=depth) for depth in (1, 2, 4)]
    if comm.size > 1:
        steps, messages = [plan.k_star for plan in plans], [plan.quality.messages for plan in plans]
        assert steps == sorted(steps, reverse=True) and steps[2] < 0.6 * steps[0]
        assert messages == sorted(messages, reverse=True) and messages[2] < 0.6 * messages[0]


def ring(z):
    """So many time steps that the sweeps are planned by the first of them."""
    mask = np.ones(z.shape)
    mask[0] = 0.0
    u, v = z, 0.5 * z
    for _ in range(24):
        v = v + 0.02 * mask * (np.roll(u, -1, axis=0) - u) * u
        u = u + 0.02 * (v - np.roll(v, 1, axis=0))
    return u


@pytest.mark.parametrize("depth", [1, 2])
def test_loops_with_exchanges_are_planned_by_their_first_periods(comm, depth, monkeypatch):
    """Starts and finishes are renumbered with the rest: solutions and exchanges are those of the whole plan."""
    x = np.random.default_rng(3).uniform(0.5, 1.5, (12 * comm.size, 3))
    tape = trace(ring, (x,)).tape
    plan = partition(tape, comm.size, strategy="axes", min_block=1, depth=depth) if comm.rank == 0 else None
    local = distribute(tape if comm.rank == 0 else None, plan, comm)
    point = evaluate(local, x.ravel()[local.inputs.positions], comm)
    rng = np.random.default_rng(4)
    v, w = rng.standard_normal((tape.n_inputs, 2)), rng.standard_normal((tape.n_outputs, 2))
    handled = []
    statements = sweep_plan._Planner.statements
    monkeypatch.setattr(sweep_plan._Planner, "statements", lambda self, items: (
        handled.append(len(items)), statements(self, items))[1])
    found = []
    for plain in (False, True):
        handled.clear()
        with monkeypatch.context() as patch:
            if plain:
                patch.setattr(sweep_plan, "loops", lambda *arguments: [])
            sweep = Sweep(local, point, comm)
            solutions = sweep.tangent(v[local.inputs.positions]), sweep.adjoint(w[local.outputs.positions])
        halves = [[(type(op), op.step) for op in plan.operations if isinstance(op, (Start, Finish))]
                  for plan in sweep._plans.values()]
        found.append((sum(handled), solutions, halves))
        sweep.close()
    (few, solutions, halves), (many, expected, in_order) = found
    assert 2 * few < many
    assert halves == in_order
    for mine, exact in zip(solutions, expected):
        np.testing.assert_array_equal(mine, exact)


def heat(u):
    for _ in range(6):
        u = u + 0.1 * (np.roll(u, 1, 0) - 2.0 * u + np.roll(u, -1, 0)) * u
    return u


@pytest.mark.parametrize("through", ["memory of the node", "MPI"])
def test_messages_are_made_once_and_counted_in_the_report(comm, through, monkeypatch):
    """A persistent request a neighbour and superstep, started before what it is waited for; none is made after the
    first pass of either kind.  Supersteps, messages, bytes and the busiest rank's lines are those of the layout."""
    rows, columns, exchanges = 12, 3, 6
    if through == "MPI":
        monkeypatch.setattr(channels, "node", lambda comm: None)
    made, open_now, most = [], [0], [0]

    class Counted(Messages):
        def __init__(self, requests, words=None):
            assert all(isinstance(request, MPI.Prequest) for request in requests)
            made.append(self)
            super().__init__(requests, words)

        def start(self):
            open_now[0] += 1
            most[0] = max(most[0], open_now[0])
            super().start()

        def finish(self):
            open_now[0] -= 1
            assert open_now[0] >= 0  # nothing is waited for that was not started before
            super().finish()

    usual = source.partition
    monkeypatch.setattr(source, "partition", lambda *arguments, **more: usual(*arguments, **{**more, "depth": 1}))
    monkeypatch.setattr(channels, "Messages", Counted)
    x = np.random.default_rng(1).uniform(0.5, 1.0, (rows * comm.size, columns))
    with linearize(heat, x, comm=comm, method="sweep", partition="axes", min_block=1) as lin:
        w = lin.update(1.1 * x)
        lin.vjp(w)
        before = len(made)
        for k in range(3):
            w = lin.update((1.0 + 0.1 * k) * x)
            lin.vjp(w)
        report = lin.report()
        assert len(made) == before and open_now == [0]
        neighbours = min(comm.size - 1, 2)
        assert (most[0] > 0) == (comm.size > 1)
        if comm.size > 1:
            a_step = exchanges * neighbours
            assert report.k_star == exchanges + 1 and report.messages == comm.size * a_step
            assert report.halo_bytes == 8 * report.halo == 8 * comm.size * exchanges * 2 * columns
        lines = comm.allgather(sum(item.lines for item in lin._solving.solvers["sweep"].local.items))
        assert report.max_work == max(lines) and sum(lines) == report.lines - report.inputs
        assert report.max_work <= report.lines / comm.size
        for counted_one in (report.k_star, report.messages, report.halo):
            assert f"{counted_one:,}" in str(report)
