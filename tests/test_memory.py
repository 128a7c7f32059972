"""Bytes a line: what a tape, a linearization and rank 0 hold, counted, however long the program is."""

from __future__ import annotations

import gc
import resource
import tracemalloc
import weakref

import numpy as np
import pytest
from mpi4py import MPI
from references import of_one_rank

import distdiff as dd
from distdiff import graph, strided
from distdiff.errors import NonFiniteError
from distdiff.examples.burgers import initial, make_misfit
from distdiff.partition import choose, distribute, localize_all, partition, whole
from distdiff.partition.check import check
from distdiff.tape import RUN_LINES, ScalarRun
from distdiff.tracing import trace

ALONE = MPI.COMM_SELF
SMALL = 1 << 17  # bytes of what does not grow with the program


def chain(steps):
    """A recurrence of six lines a step, whose parameters every step reads, with a result from its middle as well."""
    def f(x):
        a, b, s = x[0], x[1], x[2]
        middle = s
        for k in range(steps):
            s = s + 0.1 * (a * s - b * s * s)
            if k == steps // 3:
                middle = s
        return s * s + middle * np.sin(a)
    return f


X = np.array([0.9, 1.1, 0.4])


def traced_bytes(make):
    """(what `make` returns, bytes that it keeps, bytes that it needs in between)."""
    gc.collect()
    tracemalloc.start()
    try:
        made = make()
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return made, kept, peak


def test_a_scalar_tape_takes_nine_bytes_a_line():
    f = chain(40_000)
    trace(chain(10), (X,))
    local, kept, peak = traced_bytes(lambda: whole(trace(f, (X,)).tape))
    assert local.lines > 3.5 * RUN_LINES
    assert abs(local.nbytes - kept) < SMALL
    assert local.nbytes < 9 * local.lines + SMALL
    assert peak < 9 * local.lines + 90 * RUN_LINES  # what is not packed yet, as Python's integers


def test_an_array_tape_is_counted_with_its_objects():
    trace(make_misfit(64, 3), (initial(64),))
    local, kept, _ = traced_bytes(lambda: whole(trace(make_misfit(64, 300), (initial(64),)).tape))
    assert 0.8 < local.nbytes / kept < 1.25


@pytest.mark.parametrize("direction", ["vjp", "jvp"])
def test_all_that_scalar_code_holds(direction):
    f = chain(60_000)
    with dd.linearize(f, X, method="sweep") as lin:
        getattr(lin, direction)(1.0 if direction == "vjp" else np.ones(3))
        report = lin.report()
        # operation and operands, values, adjoints of the runs that are alive: this one, another, the one in the middle
        assert report.memory_per_rank_bytes < (9 + 8) * report.lines + 8 * 4 * RUN_LINES + SMALL
        assert report.memory_per_rank_bytes > (9 + 8) * report.lines


def test_all_that_array_code_holds():
    f, x = make_misfit(20_000, 60), initial(20_000)
    with dd.linearize(f, x) as lin:
        lin.vjp(1.0)
        report = lin.report()
    assert report.lines > 1e7 and report.memory_per_rank_bytes < 1.7 * report.lines


def test_ranges_of_nodes_share_memory_and_are_known_as_ranges(monkeypatch):
    monkeypatch.setattr(strided, "SHARED", 100)
    monkeypatch.setattr(strided._Numbers, "array", np.empty(0, dtype=np.int64))
    few, more, many = strided.numbers(3, 8), strided.numbers(5, 60), strided.numbers(5, 101)
    assert not strided.shared(strided.numbers(90, 100))  # nine tenths of it would be nobody's
    again = strided.numbers(0, 60)
    for found, start, stop in ((few, 3, 8), (more, 5, 60), (many, 5, 101), (again, 0, 60)):
        np.testing.assert_array_equal(found, np.arange(start, stop))
        assert strided.as_slice(found) == slice(start, stop) and found.dtype == np.int64
    assert np.shares_memory(more, again) and not np.shares_memory(more, many)
    assert strided.shared(again) and not strided.shared(again[::2]) and not strided.shared(many)
    assert list(strided.as_slice(again[::-1])) == list(range(59, -1, -1))
    with pytest.raises(ValueError, match="read-only"):
        again[0] = 1


def faults(call):
    """Pages that the process touches first: how many a call maps."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    call()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_a_second_gradient_touches_hardly_any_fresh_memory():
    """What the first one held, 16 bytes a point-step of 11 lines, is used again: pages are mapped once."""
    f, x = make_misfit(20_000, 60), initial(20_000)
    counted = [faults(lambda: dd.grad(f, comm=ALONE)(x)) for _ in range(4)]
    assert min(counted[1:]) < 0.1 * 16 * x.size * 60 / resource.getpagesize()


@pytest.mark.parametrize(("f", "x"), [(make_misfit(20_000, 20), initial(20_000)), (chain(40_000), X)],
                         ids=["arrays", "scalars"])
def test_a_second_call_maps_no_pages(f, x):
    """Values, tangents, adjoints and results lie where those of the first call lay."""
    points, turn, v = (x, 1.001 * x), [0], np.ones_like(x)
    with dd.linearize(f, x, comm=ALONE) as lin:
        def update():
            turn[0] ^= 1
            lin.update(points[turn[0]])

        for call in (update, lambda: lin.vjp(1.0), lambda: lin.jvp(v), lambda: (update(), lin.vjp(1.0))):
            first, second, third, *_ = [faults(call) for _ in range(3)]
            # either is the second call, and the other one may load compiled loops
            assert min(second, third) < 16 <= 8 * x.nbytes / resource.getpagesize() or x.size < 10, (first, second)


@pytest.mark.parametrize(("f", "x"), [(make_misfit(2000, 5), initial(2000)), (chain(400), X)],
                         ids=["arrays", "scalars"])
def test_memory_is_free_when_nobody_has_it(f, x):
    """What a tape and its values took serves the next one: the garbage collector, which comes late, is left nothing."""
    gc.collect()
    gc.disable()
    try:
        lin = dd.linearize(f, x, comm=ALONE)
        lin.vjp(1.0)
        held = [weakref.ref(lin._solving), weakref.ref(lin._at.local)]
        lin.close()
        del lin
        assert [one() for one in held] == [None, None]
    finally:
        gc.enable()


def test_structure_is_found_in_less_than_the_tape():
    found = []
    for steps in (30_000, 90_000):
        tape = trace(chain(steps), (X,)).tape
        graph.analyse(tape)
        structure, _, peak = traced_bytes(lambda tape=tape: graph.analyse(tape))
        found.append((structure, tape.lines, peak))
    (shorter, few, low), (longer, many, high) = found
    assert high - low < 9 * (many - few)  # nodes a level, of which a chain has almost as many as lines
    assert longer.depth > 2 * RUN_LINES and longer.depth - shorter.depth == 5 * 60_000
    assert (longer.width, longer.shape) == (shorter.width, shorter.shape)


def string(masses, steps):
    """Masses on a string, time in the outer loop: most lines of a step read what the step before has left."""
    def f(x):
        u, v = [x[0] * (1.0 + 0.001 * i) for i in range(masses)], [x[1]] * masses
        for _ in range(steps):
            for i in range(1, masses - 1):
                v[i] = v[i] + x[2] * (u[i - 1] - 2.0 * u[i] + u[i + 1])
            u = [a + 0.1 * b for a, b in zip(u, v)]
        return sum(u)
    return f


def test_who_reads_whom_takes_few_bytes_a_node(monkeypatch):
    """Where runs read much of each other: of every node that is read from outside, and of every run that reads it."""
    for module in (graph.reads, graph.live):
        monkeypatch.setattr(module, "MERGED", 1 << 12)
    tape = trace(string(20_000, 2), (X,)).tape
    survey = graph.Survey(tape)
    assert survey.live.widest == graph.LiveWidth(graph.Reads(tape)).widest > 40_000
    (reads, live), kept, peak = traced_bytes(lambda: (r := graph.Reads(tape), graph.LiveWidth(r)))
    nodes, read = len(reads.single), sum(len(found) for found in reads.of_run.values())
    assert read > nodes > tape.lines / 4
    np.testing.assert_array_equal(np.diff(reads.single.ids) > 0, True)
    assert kept < 8 * nodes + SMALL  # where each begins and ends to be alive; who reads it is a few even stretches
    assert peak < 8 * nodes + 12 * 8 * RUN_LINES + SMALL  # beside the room for one run


def test_who_reads_whom_in_no_order_takes_few_bytes_a_node():
    order = np.random.default_rng(3).permutation(20_000)

    def f(x):
        u = [x[0] * (1.0 + 0.001 * i) for i in range(20_000)]
        for _ in range(3):
            u = [u[i] * x[1] + u[k] for i, k in enumerate(order)]
        return sum(u)

    tape = trace(f, (X,)).tape
    reads, kept, _ = traced_bytes(lambda: graph.Reads(tape))
    nodes, read = len(reads.single), sum(len(found) for found in reads.of_run.values())
    assert read > nodes > 40_000
    assert kept < 13 * nodes + 9 * read + SMALL


def listings():
    """Nodes, uses and readers of many kinds: even stretches, none, a node alone, positions beyond 32 bits."""
    rng = np.random.default_rng(0)
    for case in range(40):
        kind = np.int64 if case % 4 == 3 else np.int32
        ids = rng.choice(500, size=rng.integers(1, 60), replace=False) if case % 2 else np.arange(
            3, 200, rng.integers(1, 9))
        ids = np.sort(ids).astype(kind) + (2**40 if kind is np.int64 else 0)
        uses = rng.integers(1, 3 if case % 3 else 400, len(ids))
        begin = 1000 + np.cumsum(rng.integers(-5, 9, len(ids)) if case % 5 else np.full(len(ids), 3))
        if case % 2 == 0:
            uses[:] = 2
        yield graph.Single(ids, *(column.astype(kind) for column in (uses, ids % 2**31 + begin, 7 * begin)))


def test_listed_nodes_are_what_they_were():
    """In parts of any length; and where other nodes would stand among them."""
    for nodes in listings():
        n = len(nodes.ids)
        for cuts in ([0, n], [0, n // 2, n], [0, 1, n]):
            listing = graph.Listing(nodes.ids.dtype)
            for low, high in zip(cuts, cuts[1:]):
                listing.append(graph.Single(*(column[low:high] for column in nodes)))
            assert len(listing) == n and listing.last == nodes.ids[-1]
            for part in (slice(None), slice(0, 0), slice(n // 3, n // 3 + 1), slice(1, n - 1), slice(n // 2, None)):
                for ours, theirs in zip(listing[part], nodes):
                    assert ours.dtype == theirs.dtype
                    np.testing.assert_array_equal(ours, theirs[part])
            asked = np.concatenate([nodes.ids + by for by in (-700, -1, 0, 1, 700)])
            np.testing.assert_array_equal(listing.place(asked), np.searchsorted(nodes.ids, asked))


@pytest.fixture
def run_by_run(monkeypatch):
    """Programs of this size are laid out as large ones are."""
    monkeypatch.setattr(choose, "MANY_LINES", 1000)
    monkeypatch.setattr(choose, "ROOMY", 1000)
    monkeypatch.setattr(choose, "SAME", 2.0)


def growth(steps):
    """Bytes rank 0 needs beside the tape to lay it out, by lines."""
    tape = trace(chain(steps), (X,)).tape
    partition(tape, 3)
    plan, kept, peak = traced_bytes(lambda: partition(tape, 3))
    return plan, tape, kept, peak


def test_laying_out_scalar_code_takes_nothing_a_line(run_by_run):
    _, tape, kept, peak = growth(36_000)
    longer, large, kept_longer, peak_longer = growth(360_000)
    assert large.lines > 9.9 * tape.lines and longer.name == "contiguous" and longer.k_star == 3
    # single lines are placed in runs that straddle two ranks, the same number whatever the length
    assert kept_longer < kept + 0.1 * large.lines and peak_longer < peak + 0.1 * large.lines
    shares = localize_all(large, longer)
    for share in shares:
        check(share)
    assert sum(share.lines for share in shares) == large.lines - large.n_inputs
    assert max(share.lines for share in shares) < 1.01 * large.lines / 3
    assert sum(share.nbytes for share in shares) < 10 * large.lines + 3 * 30 * RUN_LINES


@pytest.mark.mpi
def test_stretches_of_scalar_code_give_the_same_derivative(comm, run_by_run):
    f = chain(60_000)
    points = X, X * 0.9
    _, expected = of_one_rank(comm, f, points, np.ones(3), 1.0)
    with dd.linearize(f, X, comm=comm) as lin:
        report = lin.report()
        if comm.size > 1:
            assert report.partition == "contiguous" and report.k_star == comm.size
            assert report.messages <= comm.size * (comm.size - 1)
        for point, (value, ydot, xbar) in zip(points, expected):
            np.testing.assert_allclose(lin.update(point), value, rtol=1e-12)
            np.testing.assert_allclose(lin.vjp(1.0), xbar, rtol=1e-11)
            np.testing.assert_allclose(lin.jvp(np.ones(3)), ydot, rtol=1e-11)
            np.testing.assert_allclose(lin.vjp(1.0).sum(), lin.jvp(np.ones(3)), rtol=1e-11)
        most = lin.report().memory_per_rank_bytes
        assert most < (9 + 8) * report.lines / comm.size + 8 * 4 * RUN_LINES + 40 * RUN_LINES + SMALL


@pytest.mark.mpi
def test_arrays_are_cut_along_axes_beside_scalar_code_in_stretches(comm, run_by_run):
    def f(u):
        for _ in range(100):
            u = u + 0.1 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1)) * u
        s, t = u[3], u[-5]
        for _ in range(2000):
            s = s + 0.01 * s * t
        return np.sum(u * u) * s

    u = np.random.default_rng(0).uniform(0.5, 1.0, 40_000)
    _, ((_, ydot, xbar),) = of_one_rank(comm, f, (u,), u, 1.0)
    with dd.linearize(f, u, comm=comm, solves=10) as lin:
        if comm.size > 1:
            assert lin.report().partition.split(", ")[0] == "axes and stretches"  # the depth of halos may follow
            assert lin.report().balance < 1.1
        np.testing.assert_allclose(lin.vjp(1.0), xbar, rtol=1e-10)
        np.testing.assert_allclose(lin.jvp(u), ydot, rtol=1e-10)


@pytest.mark.mpi
def test_rank_0_gives_the_tape_up(comm, run_by_run):
    tape = trace(chain(60_000), (X,)).tape if comm.rank == 0 else None
    plan = partition(tape, comm.size, strategy="contiguous") if comm.rank == 0 and comm.size > 1 else None
    local = distribute(tape, plan, comm)
    check(local)
    if comm.size > 1 and comm.rank == 0:
        left = sum(item.lines for item in tape.items if isinstance(item, ScalarRun))
        assert left <= (comm.size - 1) * RUN_LINES  # runs that straddle two ranks
    assert comm.allreduce(local.lines) == 60_000 * 6 + 4
    assert local.nbytes < 9.2 * local.lines + 60 * RUN_LINES + SMALL


@pytest.mark.mpi
def test_what_is_not_finite_is_found_in_another_ranks_stretch(comm, run_by_run):
    def f(x):
        s = x[0]
        for _ in range(60_000):
            s = s * 0.9999 + 0.0001 * x[1]
        return np.sqrt(s - s)  # here

    with pytest.raises(NonFiniteError, match=r"sqrt is inf at .*test_memory.py") as error, \
            dd.linearize(f, X[:2], comm=comm) as lin:
        lin.vjp(1.0)
    line = f.__code__.co_firstlineno + 4
    assert f"test_memory.py:{line}" in str(error.value)


def test_sharing_out_a_long_program_takes_no_byte_a_line():
    """What a rank makes of its share is structure: a bit a node, and what statements and steps take."""
    f, x = make_misfit(100_000, 30), initial(100_000)
    tape = trace(f, (x,)).tape
    plan = partition(tape, 2, strategy="axes")
    localize_all(tape, plan)
    ranks, _, peak = traced_bytes(lambda: localize_all(tape, plan))
    assert sum(local.lines for local in ranks) > 3e7
    assert peak < 0.45 * sum(local.lines for local in ranks)
    _, _, peak = traced_bytes(lambda: [local.n_own for local in ranks])
    assert peak < SMALL
    assert [local.n_own for local in ranks] == [int(local.own.sum()) for local in ranks]
