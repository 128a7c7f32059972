"""What is computed while messages are on their way: the same numbers, and counted how much of a superstep it is."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from distdiff.assembly import Assembly
from distdiff.channels import Messages
from distdiff.comm import on_root
from distdiff.evaluate import Values, evaluate
from distdiff.kernels import combine, copies, jit, overlap, overlap_rows, sequence, tiles
from distdiff.machine import Machine
from distdiff.node import Node, node, share
from distdiff.partition import distribute, localize_all, partition
from distdiff.partition import local as partition_local
from distdiff.partition.local import Exchange, Finisher, Starter
from distdiff.solvers import passes
from distdiff.solvers.substitution import Substitution
from distdiff.solvers.sweep import Sweep
from distdiff.solvers.sweep_table import Program
from distdiff.stages import Stages
from distdiff.tracing import trace

W_ROWS = 600


@pytest.fixture
def compiled(monkeypatch):
    """Nothing is too small to be compiled, or to be computed early."""
    monkeypatch.setattr(jit, "_at_once", True)
    monkeypatch.setattr(overlap, "LEAST", 1)
    monkeypatch.setattr(overlap, "WORTH", 0.0)


def some_boxes(rng, count):
    """Boxes of a workspace that read what is around them, or what others make, with a strided one now and then."""
    cells, passes = [], []
    for _ in range(count):
        shape = [(1, 1, 60), (1, 6, 10), (2, 3, 10)][rng.integers(3)]
        strides = (30, 10, 1) if shape[0] > 1 else (0, 10, 1) if shape[1] > 1 else (0, 0, rng.integers(1, 3))
        place = 150 * int(rng.integers(4)) + int(rng.integers(0, 20))
        first = len(passes)
        for _ in range(rng.integers(0, 4)):
            source = 150 * int(rng.integers(4)) + int(rng.integers(0, 25))
            if abs(source - place) < 150:  # a box reads of its own vector what it writes, or nothing
                source = place
            passes.append([source, *strides, *[0] * 8])
        if any(p[0] == place for p in passes[first:]):  # it comes first
            passes[first:] = sorted(passes[first:], key=lambda p: p[0] != place)
            passes[first + 1:] = [p for p in passes[first + 1:] if p[0] != place]
        cells.append([place, *shape, *strides, first, len(passes), 0, 0, 0])
    factors = np.column_stack([rng.uniform(-1, 1, len(passes)), np.zeros(len(passes))]).reshape(-1, 2)
    return combine.Tables(np.array(cells, dtype=np.int64), np.array(passes, dtype=np.int64).reshape(-1, 12), factors)


@pytest.mark.parametrize("seed", range(30))
def test_boxes_in_two_parts_are_the_boxes(compiled, seed):
    """Whatever is read, overwritten and read again: to the last bit what one part after the other gives."""
    rng = np.random.default_rng(seed)
    tables, before = some_boxes(rng, 12), rng.standard_normal(W_ROWS)
    arriving = [(lo, lo + int(rng.integers(1, 15))) for lo in rng.integers(0, W_ROWS - 20, 2).tolist()]
    came = [rng.standard_normal(hi - lo) for lo, hi in arriving]

    def arrive(W, add):
        for (lo, hi), x in zip(arriving, came):
            W[lo:hi] = W[lo:hi] + x if add else x

    parts = overlap.boxes(tables, arriving)
    for add in (False, True):
        one, two = before.copy(), before.copy()
        arrive(one, add)
        combine.run(one, tables)
        if parts is None:
            assert seed % 7  # hardly ever nothing
            continue
        combine.run(two, parts.early)
        arrive(two, add)
        combine.run(two, parts.late)
        np.testing.assert_array_equal(two, one)


def test_intervals_that_find_no_room_wait(compiled, monkeypatch):
    tables = some_boxes(np.random.default_rng(0), 12)
    assert overlap.boxes(tables, [(0, 5)]) is not None
    monkeypatch.setattr(overlap, "ROOM", 1)
    assert overlap.boxes(tables, [(0, 5), (100, 105)]) is None
    assert overlap.intervals(slice(3, 10, 6)) == [(3, 4), (9, 10)]
    assert overlap.intervals(np.arange(50)[::-2]) == [(1, 50)]


@pytest.mark.parametrize("shape", [(7,), (5, 2), (2, 5)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_copies_are_numpys(monkeypatch, shape, order):
    """Copied, moved and added, strided or not, compiled and by NumPy."""
    found = []
    for at_once in (False, True):
        monkeypatch.setattr(jit, "_at_once", at_once)
        rng = np.random.default_rng(1)
        W = np.array(rng.standard_normal((20, *shape[1:])), order=order)
        buffer, together = rng.standard_normal((3 * shape[0], *shape[1:])), copies.Copies()
        n = shape[0]
        together.add(copies.COPY, buffer[:n], W[2 : 2 + n])
        together.add(copies.MOVE, buffer[n : 2 * n], W[1 : 1 + 2 * n : 2])
        together.add(copies.ADD, W[3 : 3 + 2 * n : 2], buffer[2 * n :])
        together(), together()
        found.append((W, buffer))
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


def stencil(u):
    """Diffusion and transport on a square that is closed at two sides."""
    for _ in range(6):
        v = 0.25 * (np.roll(u, 1, 1) + np.roll(u, -1, 1)) * u
        u = np.concatenate([u[:1], u[1:-1] + 0.1 * (u[2:] - 2.0 * u[1:-1] + u[:-2]) * v[1:-1], u[-1:]])
    return np.sum(u * u)


def line(u):
    for _ in range(5):
        u = u + 0.1 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1)) * u
    return u


def masses(u):
    """Scalar code: masses on a string, each of which reads its neighbours."""
    n = len(u) // 2
    p, q = list(u[:n]), list(u[n:])
    for _ in range(5):
        for i in range(1, n - 1):
            q[i] = q[i] + 0.1 * (p[i - 1] - 2.0 * p[i] + p[i + 1]) * p[i]
        for i in range(n):
            p[i] = p[i] + 0.1 * q[i]
    return sum(t * t for t in p)


def tangle(u):
    """Scalar code: everyone reads three others here and there, so messages are single numbers."""
    x, n = list(u), len(u)
    for k in range(5):
        x = [x[i] + 0.1 * x[(7 * i + k) % n] * x[(5 * i + 3 * k) % n] - 0.1 * x[(11 * i + 1) % n] for i in range(n)]
    return sum(t * t for t in x)


ARRAYS = {"stencil": (stencil, (256, 16), "axes"), "line": (line, (6000,), "axes")}
PROGRAMS = {**ARRAYS, "masses": (masses, (120,), "levels"),
            "tangle": (tangle, (60,), "streaming")}


def early_shares(local):
    """By superstep, the share of what follows an exchange that waits for no message: evaluation, and the adjoint."""
    values = Values.lean(local, True)
    calls, evaluation = values.calls(local, True), []
    for s, step in enumerate(local.steps[1:], 1):
        program = next((call for call in calls[step.start : step.ready] if call is not None), None)
        if program is not None:
            code, parts = program[1][0].code, values.parts(local, s)
            evaluation.append((parts.elements if parts else 0) / ((code[:, 2] - code[:, 1]) * code[:, 3]).sum())
    sweep = Sweep(local, SimpleNamespace(values=values, local=local), MPI.COMM_SELF)
    sweep.adjoint(np.ones(len(local.outputs.ids)))
    around = [function.__self__ for function, _ in sweep._programs["adjoint"][()].woven.calls
              if getattr(function, "__func__", None) is Program.around]
    return evaluation, [program.early / program._elements for program in around]


@pytest.mark.parametrize("program", ARRAYS)
@pytest.mark.parametrize("n_ranks", [2, 8, 64])
def test_most_of_a_superstep_waits_for_no_message(compiled, monkeypatch, program, n_ranks):
    """The border of a rank's part waits, some two rows on either side; what begins with a sum waits for all of it."""
    monkeypatch.setattr(tiles._Loops, "spent", 10**12)
    for name in ("starter", "finisher"):  # no messages: what is counted are the calls
        monkeypatch.setattr(Exchange, name, lambda *_, **__: lambda: None)
    f, shape, _ = PROGRAMS[program]
    tape = trace(f, (np.random.default_rng(0).uniform(0.5, 1.0, shape),)).tape
    made = partition(tape, n_ranks, strategy="axes", min_block=1, depth=1)
    locals_, least = localize_all(tape, made), 1.0 - 5.0 * n_ranks / shape[0]
    for rank in {0, 1, n_ranks - 1}:
        evaluation, adjoint = early_shares(locals_[rank])
        assert len(evaluation) >= 4 and min(evaluation) >= least
        assert len(adjoint) >= 4 and sorted(adjoint)[1] >= least


@pytest.mark.parametrize(("latency", "early"), [(1e-6, False), (50e-6, True)])
def test_only_messages_that_take_long_are_computed_around(compiled, monkeypatch, latency, early):
    """By the machine's latency; in memory of the node none are."""
    monkeypatch.setattr(overlap, "WORTH", 15e-6)
    monkeypatch.setattr(tiles._Loops, "spent", 10**12)
    monkeypatch.setattr(partition_local, "current", lambda: Machine(latency=latency))
    for name in ("starter", "finisher"):
        monkeypatch.setattr(Exchange, name, lambda *_, **__: lambda: None)
    tape = trace(line, (np.random.default_rng(0).uniform(0.5, 1.0, 6000),)).tape
    local = localize_all(tape, partition(tape, 2, strategy="axes", min_block=1, depth=1))[0]
    values = Values.lean(local, True)
    sweep = Sweep(local, SimpleNamespace(values=values, local=local), MPI.COMM_SELF)
    sweep.adjoint(np.ones(len(local.outputs.ids)))
    solve = [getattr(function, "__func__", None) for function, _ in sweep._programs["adjoint"][()].woven.calls]
    evaluation = [getattr(function, "__func__", None) for function, _ in values.weave(local, MPI.COMM_SELF, True).calls]
    assert (Program.around in solve) == early
    whole = sum(call is not None and call[0] is tiles.Bound.run for call in values.calls(local, True))
    assert evaluation.count(tiles.Bound.run) == whole + early * (len(local.steps) - 2)
    near = SimpleNamespace(numbers={1: None})
    monkeypatch.setattr(partition_local, "node", lambda comm: near)
    assert not any(step.exchange.latency(MPI.COMM_SELF) for step in local.steps)


@pytest.mark.mpi
@pytest.mark.parametrize("program", PROGRAMS)
def test_messages_that_come_late_change_nothing(comm, compiled, monkeypatch, program):
    """Values, tangents and adjoints beside those of one rank, while messages take a millisecond to arrive."""
    finish = Messages.finish
    monkeypatch.setattr(Messages, "finish", lambda self: (time.sleep(1e-3), finish(self)))
    assert not any(woven.joined for woven in beside_one_rank(comm, program, rounds=2))


@pytest.mark.mpi
@pytest.mark.parametrize("lacking", ["nothing", "some memory"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pass_is_one_call(comm, compiled, monkeypatch, program, lacking):
    """... and from the third pass on, in the node's memory, nothing between two supersteps is left to Python."""
    share(comm)
    monkeypatch.setattr(sequence, "LOOKS", 3)
    if lacking == "some memory" and comm.rank % 2:
        monkeypatch.setattr(Node, "channel", lambda self: -1)
    for woven in beside_one_rank(comm, program, rounds=5):
        left = [getattr(function, "__self__", function) for function, _ in woven.joined or ()]
        if node(comm) is not None and lacking == "nothing" and comm.size > 1:
            assert not any(isinstance(each, Starter | Finisher) and each.bound[1] for each in left)
            sequences = [each for each in left if isinstance(each, sequence.Sequence)]
            rows = sum(len(each.rows) for each in sequences)
            assert len(sequences) <= 3 and rows > (2 if program in ARRAYS else 1.5) * len(woven.calls)


def beside_one_rank(comm, program, rounds):
    """Values, tangents and adjoints at so many points, twice each, and those of one rank; returns the passes."""
    f, shape, strategy = PROGRAMS[program]
    x = np.random.default_rng(1).uniform(0.5, 1.0, shape)
    tape = trace(f, (x,)).tape
    made = partition(tape, comm.size, strategy=strategy, min_block=1, depth=1) if comm.rank == 0 else None
    local = distribute(tape if comm.rank == 0 else None, made, comm)
    rng = np.random.default_rng(2)
    v, w = rng.standard_normal(tape.n_inputs), rng.standard_normal(tape.n_outputs)
    points = [(1.0 + 0.1 * k) * x.ravel() for k in range(rounds)]

    def by_one_rank():
        one = localize_all(tape, partition(tape, 1))[0]
        sweep, found = None, []
        for here in points:
            point = evaluate(one, here, MPI.COMM_SELF)
            sweep = sweep or Sweep(one, point, MPI.COMM_SELF)
            sweep.refresh(point)
            found.append((point.outputs().copy(), sweep.tangent(v).copy(), sweep.adjoint(w).copy()))
        sweep.close()
        return found

    values = sweep = None
    for here, (outputs, ydot, xbar) in zip(points, on_root(comm, by_one_rank)):
        point = evaluate(local, here[local.inputs.positions], comm, values=values)
        values = point.values
        assert_parts(comm, local.outputs.positions, point.outputs(), outputs)
        sweep = sweep or Sweep(local, point, comm)
        sweep.refresh(point)
        for _ in range(2):
            assert_parts(comm, local.outputs.positions, sweep.tangent(v[local.inputs.positions]), ydot)
            assert_parts(comm, local.inputs.positions, sweep.adjoint(w[local.outputs.positions]), xbar)
    made = [bound.woven for programs in sweep._programs.values() for bound in programs.values()]
    sweep.close()
    local.close()
    return [*made, *([values.woven] if values.woven else [])]


@pytest.mark.parametrize("transposed", [False, True])
def test_rows_that_wait_are_those_that_messages_reach(transposed):
    """Beside a walk from row to row, and short runs of rows wait with their neighbours."""
    rng, n, lo = np.random.default_rng(0), 900, 300
    rows = [np.unique(rng.integers(max(0, i - 9), i, 2)) if i else np.empty(0, int) for i in range(n)]
    for i in range(700, n):
        rows[i] = rows[i][rows[i] >= 700]  # a stretch that reads nothing before it
    indptr = np.concatenate([[0], np.cumsum([len(row) + 1 for row in rows])])
    indices = np.concatenate([[*row, i] for i, row in enumerate(rows)]).astype(np.int64)
    late = overlap_rows.waiting(lo, n, np.array([5, 500]), indptr, indices, transposed)
    order = range(lo, n) if not transposed else reversed(range(lo, n))
    expected = {500}
    for i in order:
        if transposed and i in expected:
            expected.update(int(j) for j in rows[i] if j >= lo)
        elif not transposed and expected & set(rows[i].tolist()):
            expected.add(i)
    assert set(np.flatnonzero(late) + lo) >= expected
    assert all(b - a >= overlap_rows.SHORT for a, b in overlap_rows.runs(~late))
    assert not late[-200:].any() and (late[:100].all() if transposed else not late[:200].any())
    assert overlap_rows.waiting(lo, n, np.arange(lo, n, 20), indptr, indices, transposed) is None


@pytest.mark.mpi
def test_assembled_rows_are_computed_early(comm, monkeypatch):
    """Substitution on many right-hand sides and one: what it gave when it waited, and counted what does not wait."""
    monkeypatch.setattr(passes, "LEAST", 1)
    monkeypatch.setattr(overlap_rows, "SHORT", 4)
    x = np.random.default_rng(1).uniform(0.5, 1.0, (40 * comm.size, 6))
    tape = trace(lambda u: stencil(u) * u, (x,)).tape
    made = partition(tape, comm.size, strategy="axes", min_block=1, depth=1) if comm.rank == 0 else None
    local = distribute(tape if comm.rank == 0 else None, made, comm)
    point = evaluate(local, x.ravel()[local.inputs.positions], comm, complete=True)
    assembly = Assembly(local, point, comm, False, Stages())  # every line is a row
    solver = Substitution(assembly.system)
    rng = np.random.default_rng(2)
    for tail in ((), (3,)):
        v = rng.standard_normal((tape.n_inputs, *tail))[local.inputs.positions]
        w = rng.standard_normal((tape.n_outputs, *tail))[local.outputs.positions]
        found = [(solver.tangent(v), solver.adjoint(w)) for _ in range(4)]  # shared out from the third on
        for tangent, adjoint in found[1:]:
            np.testing.assert_allclose(tangent, found[0][0], rtol=1e-10)
            np.testing.assert_allclose(adjoint, found[0][1], rtol=1e-10)
    if comm.size > 1:
        for transposed in (False, True):
            shares = [each.share for each in solver._passes._shares[transposed] if each is not None]
            assert len(shares) >= 4 and sorted(shares)[1] >= 0.8, shares
    solver.close()
    assembly.close()
    local.close()


def assert_parts(comm, places, part, expected):
    total = np.zeros_like(expected)
    total[places] = part
    np.testing.assert_allclose(comm.allreduce(total), expected, rtol=1e-12, atol=1e-13)
