"""Long scalar programs that add up over samples: every rank has a stretch of whole runs, and waits for nobody."""

from __future__ import annotations

import numpy as np
import pytest
from references import of_one_rank
from test_partition import follows

import distdiff as dd
from distdiff import planning
from distdiff.kernels import graph as kernels
from distdiff.machine import Machine
from distdiff.partition import choose, holdings, localize_all, partition
from distdiff.partition.check import check
from distdiff.spread import Spread
from distdiff.tracing import recorder, scalar, trace

N = 92  # samples


def one_sum(x):
    s = 0.0
    for t in x:
        s = s + t * t
    return s


def signs_and_sides(x):
    """Chains as either operand of sums and differences, over an accumulator that changes its sign every other time."""
    s, q = x[0], 1.0
    for k, t in enumerate(x[1:]):
        u = np.sin(t) * x[0]
        s = (s - u, u + s, u - s, s - 0.5, 0.25 - s)[k % 5]
        q = q + u * u if k % 2 else u - q
    return s * q


def a_shared_beginning(x):
    """What all samples read is computed before, and what reads the sum after."""
    k = np.exp(x[0]) / (1.0 + x[1])
    s, q = 0.0, 0.0
    for t in x[2:]:
        r = k * t - x[1]
        s += r * r
        q -= r * k
    return np.sqrt(s) + s * q, q


def two_loops(x):
    """The second loop reads the first one's sum; half of the ranks have no part in the first."""
    s = 0.0
    for t in x:
        s = s + np.sin(t)
    q = 0.0
    for t in x:
        q = q + s * t * t
    return q


def results_on_the_way(x):
    """An accumulator that is read on its way, watched by a decision, and handed out."""
    s, kept, low = 0.0, [], 0
    for k, t in enumerate(x):
        s = s + t * t
        if k % 40 == 15:
            kept.append(s * x[0])
        if k == 41 and s > 1e3:
            low += 1
        if k == 70:
            kept.append(s)
    return np.array([*kept, s]) + low


def bins(x):
    """More accumulators than ranks, in no order."""
    sums = [x[0], *[0.0] * 6]
    for k, t in enumerate(x):
        sums[k * k % 7] = sums[k * k % 7] + t * x[k // 2]
    return sum(sums[1:], sums[0]) * sums[3]


def recurrence(x):
    """Nothing to be split: the accumulator's links are read twice."""
    s = x[0]
    for t in x:
        s = s + 0.1 * s * t
    return s


PROGRAMS = [one_sum, signs_and_sides, a_shared_beginning, two_loops, results_on_the_way, bins, recurrence]


@pytest.fixture
def short_runs(monkeypatch):
    """Programs of this size are recorded and laid out as large ones are."""
    monkeypatch.setattr(choose, "MANY_LINES", 100)
    monkeypatch.setattr(holdings, "LEAST", 10)
    monkeypatch.setattr(holdings, "AHEAD", 0)
    for module in (scalar, recorder):
        monkeypatch.setattr(module, "RUN_LINES", 24)


def point(n=N):
    return np.random.default_rng(7).uniform(0.2, 1.0, n)


@pytest.mark.parametrize("n_ranks", [2, 3, 11])
@pytest.mark.parametrize("program", PROGRAMS)
def test_stretches_compute_what_the_program_does(short_runs, program, n_ranks):
    x = point()
    tape = trace(program, (x,)).tape
    plan = partition(tape, n_ranks, strategy="contiguous")
    follows(tape, plan, x)
    assert n_ranks > 2 or plan.plan.whole and bool(len(plan.changed)) == (program is not recurrence)


def test_compiled_loops_do_what_the_plain_ones_do(short_runs, monkeypatch):
    x = point()
    tape = trace(signs_and_sides, (x,)).tape
    plain = partition(tape, 3, strategy="contiguous")
    monkeypatch.setattr(kernels, "SMALL", 0)
    compiled = partition(tape, 3, strategy="contiguous")
    assert plain.quality == compiled.quality and np.array_equal(plain.changed, compiled.changed)
    follows(tape, compiled, x)


@pytest.mark.parametrize("n_ranks", [2, 8, 64])
def test_samples_are_computed_by_all_ranks_at_once(short_runs, n_ranks):
    """k*: what all samples read, the samples, the sums; a message there to every rank and back, of a few values."""
    tape = trace(a_shared_beginning, (point(48 * n_ranks),)).tape
    plan = partition(tape, n_ranks, strategy="contiguous", machine=Machine().without_messages())
    quality = plan.quality
    assert quality.k_star <= 4 and quality.messages <= 3 * (n_ranks - 1) and quality.halo <= 6 * (n_ranks - 1)
    assert quality.max_work <= 1.1 * tape.lines / n_ranks + 4 * n_ranks  # the sums lie on one rank
    assert quality.waits < 1.2
    shares = localize_all(tape, plan)
    for share in shares:
        check(share)
    samples = np.array([sum(item.lines for item in share.items) for share in shares])
    assert samples.max() == quality.max_work and samples.sum() <= tape.lines + 8 * n_ranks
    # inputs lie where they are read
    assert max(len(share.inputs.ids) for share in shares) <= 1.1 * tape.n_inputs / n_ranks + 8


@pytest.mark.parametrize("n_ranks", [2, 16])
def test_a_recurrence_goes_from_rank_to_rank_as_before(short_runs, n_ranks):
    tape = trace(recurrence, (point(80 * n_ranks),)).tape
    quality = partition(tape, n_ranks, strategy="contiguous").quality
    assert quality.k_star == n_ranks and quality.messages <= 2 * (n_ranks - 1)


def test_a_plan_foresees_the_gain():
    """At full size: a program that is laid out run by run, recorded by machine code."""
    @dd.compiled
    def samples(p, n):
        s = 0.0
        for k in range(n):
            r = np.sin(p[0] * (1e-3 * k)) * p[1] - 0.3
            s = s + r * r
        return s

    made = planning.plan(trace(lambda p: samples(p, 400_000), (np.array([0.7, 1.1]),)).tape, (2, 4))
    one, two, four = made.layouts
    assert two.name == four.name == "contiguous" and two.k_star <= 4
    assert one.seconds > 1.7 * two.seconds and two.seconds > 1.6 * four.seconds and four.max_work < 0.26 * one.max_work


@pytest.mark.mpi
@pytest.mark.parametrize("program", PROGRAMS)
def test_derivatives_are_those_of_one_rank(comm, short_runs, program):
    x = point()
    v = np.random.default_rng(1).standard_normal(N)
    points = x, 0.9 * x
    w, expected = of_one_rank(comm, program, points, v)  # nested as the result is
    with dd.linearize(program, x, comm=comm, partition="contiguous") as lin:
        for here, (value, ydot, xbar) in zip(points, expected):
            for a, b in zip(np.atleast_1d(value), np.atleast_1d(lin.update(here))):
                np.testing.assert_allclose(b, a, rtol=1e-12)
            np.testing.assert_allclose(lin.jvp(v), ydot, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(lin.vjp(w), xbar, rtol=1e-9, atol=1e-12)
        assert lin.retraces == 0


@pytest.mark.mpi
@pytest.mark.parametrize("kind", ["stretches", "stretches and some more", "anywhere", "backwards", "not all"])
def test_vectors_over_the_ranks(comm, kind):
    n, rng = 37, np.random.default_rng(3)
    owner = np.sort(rng.integers(0, comm.size, n))
    if kind == "stretches and some more":
        owner[-2:] = 0
    elif kind != "stretches":
        owner = rng.integers(-1 if kind == "not all" else 0, comm.size, n)
    places = np.flatnonzero(owner == comm.rank)
    spread = Spread(comm, places[::-1] if kind == "backwards" else places, n)
    for full in (rng.standard_normal(n), rng.standard_normal((n, 3))):
        mine = spread.take(spread.share(full, *full.shape[1:]))
        np.testing.assert_array_equal(mine, full[spread.places])
        np.testing.assert_array_equal(spread.collect(mine), full * (owner >= 0).reshape(-1, *[1] * (full.ndim - 1)))
