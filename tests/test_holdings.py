"""Runs of scalar code leave rank 0 while it traces, are held by all ranks, and go where they belong at the end."""

from __future__ import annotations

import gc
import tracemalloc
from functools import lru_cache

import numpy as np
import pytest
from mpi4py import MPI
from references import of_one_rank

import distdiff as dd
from distdiff.comm import on_root
from distdiff.graph import LiveWidth, live, reads
from distdiff.kernels import structure
from distdiff.kernels.jit import jit
from distdiff.partition import Holdings, choose, holdings, regroup, regrouped
from distdiff.partition.holdings import receive_run, send_run
from distdiff.solvers.layouts import Use
from distdiff.source import Source
from distdiff.stages import Stages
from distdiff.tape import HeldRun, ScalarRun
from distdiff.tracing import recorder, scalar

X = np.array([0.9, 1.1, 0.4])
POINTS = X, 0.9 * X
pytestmark = pytest.mark.mpi


@pytest.fixture
def short_runs(monkeypatch):
    """Programs of this size are recorded and laid out as large ones are."""
    monkeypatch.setattr(choose, "MANY_LINES", 500)
    monkeypatch.setattr(holdings, "LEAST", 50)
    monkeypatch.setattr(holdings, "AHEAD", 0)
    for module in (scalar, recorder):
        monkeypatch.setattr(module, "RUN_LINES", 100)


def chain(steps, fails=False):
    def f(x):
        a, b, s = x[0], x[1], x[2]
        for _ in range(steps):
            s = s + 0.1 * (a * s - b * s * s)
        if fails:
            raise RuntimeError("at the very end")
        return s * s + np.sin(a)
    return f


def samples(x):
    k, s = np.exp(x[0]), 0.0
    for i in range(400):
        s = s + np.sin(k * (0.01 * i)) * x[1]
    return s * x[2]


def turning(x):
    """A decision at the end, which falls the other way for a smaller x[1]."""
    s = samples(x)
    return s * x[2] if x[1] > 1.0 else s + x[2]


def nested(x):
    """A derivative taken inside wants the values of all that came before: the function is run once more, and kept."""
    s = samples(x)
    return s + dd.grad(lambda t: t * t * s)(x[2])


def arrays_between(x):
    s = samples(x)
    u = np.sin(np.arange(200.0) * s) * x[1]
    for t in u[:100]:
        s = s + t * t
    return s + np.sum(u)


def source(f, comm, partition="auto", solves=1):
    settings = {"argnums": 0, "has_aux": False, "partition": partition, "method": "auto", "solves": solves,
                "min_block": None, "preaccumulate": True, "options": None}
    return Source(f, (X,), None, comm=comm, stages=Stages(), settings=settings)


CHAIN = chain(150)


@lru_cache
def on_one_rank(f):
    """Value, J X and J^T 1 at both points, and the structure; once for all settings."""
    def structure():
        with dd.linearize(f, X, comm=MPI.COMM_SELF) as lin:
            report = lin.report()
            return report.lines, report.depth, report.shape, report.nonzeros

    return of_one_rank(MPI.COMM_WORLD, f, POINTS, X, 1.0)[1], on_root(MPI.COMM_WORLD, structure)


@pytest.mark.parametrize(("f", "settings"), [
    (CHAIN, {}), (CHAIN, {"partition": "contiguous"}), (CHAIN, {"solves": "jacobian"}),
    (CHAIN, {"method": "interface"}), (samples, {}), (samples, {"partition": "contiguous"}),
    (samples, {"solves": 40}), (samples, {"partition": "fewer ranks"}), (nested, {}), (arrays_between, {}),
    (arrays_between, {"partition": "contiguous"})], ids=lambda value: getattr(value, "__name__", str(value)))
def test_derivatives_are_those_of_one_rank(comm, short_runs, f, settings):
    found, structure = on_one_rank(f)
    with dd.linearize(f, X, comm=comm, **settings) as lin:
        for x, (value, ydot, xbar) in zip(POINTS, found):
            np.testing.assert_allclose(lin.update(x), value, rtol=1e-11)
            np.testing.assert_allclose(lin.vjp(1.0), xbar, rtol=1e-9)
            np.testing.assert_allclose(lin.jvp(X), ydot, rtol=1e-9)
        report = lin.report()  # the structure of the tape, which is gone
        assert (report.lines, report.depth, report.shape, report.nonzeros) == structure


def test_a_cut_is_near_the_middle_where_runs_are_held(comm, short_runs, monkeypatch):
    """Few values fewer that cross are not worth a rank's share of 5 % more: one run is looked at, where loops are cut
    anywhere alike."""
    monkeypatch.setattr(holdings, "LEAST", 20)
    for module in (scalar, recorder):
        monkeypatch.setattr(module, "RUN_LINES", 36)
    looked, within = [], LiveWidth.within
    monkeypatch.setattr(LiveWidth, "within", lambda live, run: looked.append(run.block) or within(live, run))

    def loop(x):
        k, s, q = np.exp(x[0]), 0.0, 0.0
        for i in range(350 * comm.size):
            t = np.sin(k * (0.01 * i)) * x[1]
            s = s + t * t
            q = q - t * k
        return s * np.sqrt(s) + q * x[2]

    with dd.linearize(loop, X, comm=comm, partition="contiguous") as lin:
        lines = np.array(comm.allgather(lin._at.local.lines))
    assert (abs(lines - lines.mean()) <= 0.012 * lines.mean()).all(), lines  # a hundredth at either end, and the sums
    assert len(looked) <= comm.size - 1 if comm.rank == 0 else not looked


@pytest.mark.parametrize("f", [chain(20), chain(150), samples, nested, arrays_between, turning],
                         ids=["few lines", "chain", "samples", "nested", "arrays between", "turning"])
def test_one_derivative_is_that_of_one_rank(comm, short_runs, f):
    """Values are kept while f is traced, as one rank will have it all, and no more once runs leave."""
    value, gradient = dd.value_and_grad(f, comm=comm)(X)
    expected, there = dd.value_and_grad(f, comm=MPI.COMM_SELF)(X)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, there, rtol=1e-10)


def test_values_of_the_trace_serve_one_derivative(comm, short_runs):
    """Where rank 0 has all of a program: nothing is computed twice."""
    def waves(x):
        u = np.sin(np.arange(3000.0) * x[0]) * x[1]
        return np.sum(u * np.tanh(u)) + x[2]

    once = Use(once=True)
    for f, partition, solves, kept in (
            (waves, "auto", once, True), (waves, "fewer ranks", 1, True), (waves, "axes", once, comm.size == 1),
            (waves, "auto", 1, comm.size == 1), (chain(150), "fewer ranks", 1, True),
            (chain(150), "auto", once, comm.size == 1)):  # its runs leave
        share = source(f, comm, partition, solves).spread()
        assert (share.values is not None) == (kept and comm.rank == 0), (f, partition)
        if share.values is not None:
            assert len(share.values) == len(share.local.blocks)


def test_a_function_that_fails_late_fails_on_all_ranks(comm, short_runs):
    with pytest.raises(RuntimeError, match="at the very end"):
        dd.linearize(chain(300, fails=True), X, comm=comm)
    with dd.linearize(samples, X, comm=comm) as lin:  # and nobody is left with what was held
        assert np.isfinite(lin.vjp(1.0)).all()


def test_another_branch_is_traced_anew(comm, short_runs):
    other = X * [1.0, 0.8, 1.0]
    with dd.linearize(turning, X, comm=comm) as lin, dd.linearize(turning, other, comm=MPI.COMM_SELF) as one:
        lin.update(other)
        assert lin.retraces == 1
        np.testing.assert_allclose(lin.vjp(1.0), one.vjp(1.0), rtol=1e-10)


def test_saved_tapes_and_recorded_functions(comm, short_runs, tmp_path):
    path = comm.bcast(str(tmp_path / "f.tape"))
    dd.trace(samples, X, comm=comm).save(path)
    comm.Barrier()
    expected = dd.grad(samples, comm=MPI.COMM_SELF)(X)
    np.testing.assert_allclose(dd.grad(dd.load(path, comm=comm), comm=comm)(X), expected, rtol=1e-10)
    recorded = dd.recorded(turning, comm=comm)
    for x in (X, X * [1.0, 0.8, 1.0], 1.1 * X, X):
        np.testing.assert_allclose(recorded.grad(x), dd.grad(turning, comm=MPI.COMM_SELF)(x), rtol=1e-10)
    assert recorded.counts.traces == 2


def test_every_rank_holds_its_turn(comm, short_runs):
    held_here = Holdings(comm)
    traced, _ = source(chain(500), comm)._record(False, held_here)
    if comm.rank == 0:
        runs = [item for item in traced.tape.items if isinstance(item, ScalarRun)]
        held = [run for run in runs if isinstance(run, HeldRun)]
        assert sum(run.lines for run in runs) == 6 * 500 + 3 and len(runs) == 31
        assert len(held) in (0, 30 - 30 // comm.size)  # the last run is short; all came back where rank 0 has them
        assert held_here.holder.keys() == {run.block for run in held}
    counts = comm.allgather(len(held_here.runs))
    assert counts[0] == 0 and max(counts) - min(counts[1:], default=0) <= 1 or sum(counts) == 0


def test_the_latest_runs_stay(comm, short_runs, monkeypatch):
    """With room for a third of the program, about a third of what would leave stays; with room for all, all does, and
    for a single derivative long before."""
    for ahead, once, leave in ((10 * 900, False, range(3, 21)), (31 * 900, False, range(1)), (900, True, range(1))):
        monkeypatch.setattr(holdings, "AHEAD", ahead)
        held_here = Holdings(comm, once)
        traced, plan = source(chain(500), comm, partition="contiguous")._record(False, held_here)
        if comm.rank == 0:
            held = [item for item in traced.tape.items if isinstance(item, HeldRun)]
            assert len(held) in leave or comm.size == 1
            assert held_here.holder.keys() == {run.block for run in held}
        assert comm.allreduce(len(held_here.runs)) in leave or comm.size == 1


def test_loops_are_compiled_while_the_function_is_traced(comm, short_runs, monkeypatch):
    """NumPy's functions are exchanged in a trace, and Numba takes them by name."""
    monkeypatch.setattr("distdiff.kernels.cache.DiskCache.load_overload", lambda *arguments: None)
    loop = jit(structure.reads_before.plain)
    monkeypatch.setattr(reads, "reads_before", loop)
    share = source(samples, comm, partition="contiguous").spread()
    assert comm.allreduce(share.local.lines) > 400 * 4
    assert loop.signatures or comm.rank or comm.size == 1


def test_runs_travel_as_they_are(comm):
    run = ScalarRun(7, np.arange(5, dtype=np.uint8), np.arange(5), -1 - np.arange(5), np.array([np.nan, 0.1]))
    small = ScalarRun(2, run.op, run.a.astype(np.int32), run.b.astype(np.int32), run.const[:0])
    for sent in (run, small):
        if comm.size > 1 and comm.rank == 0:
            send_run(sent, 1, comm)
        elif comm.rank == 1:
            came = receive_run(0, comm)
            assert came.block == sent.block
            for name in ("op", "a", "b", "const"):
                ours, theirs = getattr(sent, name), getattr(came, name)
                assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs, equal_nan=True)


@pytest.mark.few_ranks
def test_no_rank_needs_more_than_its_share(comm, monkeypatch):
    """Peak bytes until every rank has its lines, as the tape grows tenfold: operations and operands of a rank's own,
    nine bytes a line, of rank 0's like of the others', beside some objects a run and a few runs on their way."""
    monkeypatch.setattr(choose, "MANY_LINES", 5_000)
    monkeypatch.setattr(holdings, "LEAST", 50)
    monkeypatch.setattr(holdings, "AHEAD", 0)
    for module in (scalar, recorder):
        monkeypatch.setattr(module, "RUN_LINES", 2048)

    def spread(steps):
        share = source(chain(steps), comm, partition="contiguous").spread()
        assert comm.allreduce(share.local.lines) == 6 * steps + 3

    def peak(steps):
        gc.collect()
        tracemalloc.start()
        try:
            spread(steps)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    monkeypatch.setattr("distdiff.kernels.graph.worth_it", lambda *work: True)  # compiled now: that takes memory too
    spread(2_000)
    few, many = (comm.allgather(peak(steps)) for steps in (2_000, 20_000))
    for small, large in zip(few, many):
        more = 6 * 18_000
        a_line = 9 if comm.size > 1 else 9 + 8  # alone, the values that tracing computes are kept
        assert large - small < 1.1 * a_line * more / comm.size + 5000 * more / 2048 + 6 * 9 * 2048


def masses(steps):
    """On a string, time in the outer loop: most lines read what an earlier run has left."""
    def f(x):
        u, v = [x[0] * np.sin(0.001 * x[1] * i) for i in range(4000)], [0.0] * 4000
        for _ in range(steps):
            for i in range(1, 3999):
                v[i] = v[i] + 0.1 * (u[i - 1] - 2.0 * u[i] + u[i + 1])
            u = [a + 0.1 * b for a, b in zip(u, v)]
        return sum(u) * x[2]
    return f


@pytest.mark.few_ranks
def test_regrouping_takes_few_bytes_a_line(comm, monkeypatch):
    """Peak bytes of all ranks until every one has its lines, as a tape that reads far back grows fourfold: operations
    and operands, as they are and as they become, of a rank's share, and on rank 0 the levels, owners and flags of all
    lines, five bytes, before."""
    monkeypatch.setattr(choose, "MANY_LINES", 5_000)
    monkeypatch.setattr(holdings, "LEAST", 50)
    monkeypatch.setattr(holdings, "AHEAD", 1 << 24)  # those that have stayed leave before lines are looked at
    for module in (scalar, recorder, regroup, regrouped):
        monkeypatch.setattr(module, "RUN_LINES", 4096)
    for module in (reads, live):
        monkeypatch.setattr(module, "MERGED", 4096)
    monkeypatch.setattr("distdiff.kernels.graph.worth_it", lambda *work: True)  # compiled now: that takes memory too

    def peak(steps):
        gc.collect()
        tracemalloc.start()
        try:
            share = source(masses(steps), comm, partition="levels").spread()
            lines = comm.allreduce(share.local.lines)
            return tracemalloc.get_traced_memory()[1], lines
        finally:
            tracemalloc.stop()

    peak(1)
    (few, fewer), (many, lines) = peak(1), peak(4)
    a_line = 9 + 8 if comm.size == 1 else max(9, 9 / comm.size + 5) if comm.rank == 0 else 2 * 9 / comm.size
    assert many - few < 1.1 * a_line * (lines - fewer) + 8000 * (lines - fewer) / 4096 + 6 * 9 * 4096
