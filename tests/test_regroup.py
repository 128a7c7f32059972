"""Loops that are run again and again in long scalar code: regrouped, every rank has the same particles each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from references import of_one_rank
from tapes import tapes
from test_accumulators import PROGRAMS as SAMPLES
from test_partition import follows

import distdiff as dd
from distdiff.errors import NonFiniteError
from distdiff.graph import Survey
from distdiff.kernels import graph as kernels
from distdiff.machine import Machine
from distdiff.partition import choose, early, holdings, localize_all, partition, regroup, regrouped, sections
from distdiff.partition.check import check
from distdiff.solvers.layouts import Judge, Use
from distdiff.tracing import recorder, scalar, trace

STEPS = 5
COUNTING = Machine(item=0.0).without_messages()


def pendulums(x, time_outside=True):
    """An ensemble: nobody reads another's state."""
    n = len(x) // 2
    u, v = list(x[:n]), list(x[n:2 * n])
    rate = np.exp(0.1 * x[0])
    for t, i in [(t, i) for t in range(STEPS) for i in range(n)] if time_outside else [
            (t, i) for i in range(n) for t in range(STEPS)]:
        v[i] = v[i] - 0.1 * np.sin(u[i]) * (rate * (0.1 * t))
        u[i] = u[i] + 0.1 * v[i]
    s = 0.0
    for i in range(n):
        s = s + u[i] * v[i]
    return s


def pendulums_one_by_one(x):
    return pendulums(x, time_outside=False)


def string(x):
    """Masses that read their neighbours', with two ends that stay; two loops a step."""
    n = len(x) // 2
    u, v = list(x[:n]), list(x[n:2 * n])
    for _ in range(STEPS):
        for i in range(1, n - 1):
            v[i] = v[i] + 0.1 * (u[i - 1] - 2.0 * u[i] + u[i + 1])
        for i in range(n):
            u[i] = u[i] + 0.1 * v[i]
    return sum(t * t for t in u)


def bodies(x):
    """Everybody reads everybody."""
    n = len(x) // 4
    u, v = list(x[:n]), list(x[n:2 * n])
    for _ in range(2):
        for i in range(n):
            f = 0.0
            for j in range(n):
                if j != i:
                    d = u[j] - u[i]
                    f = f + d / (1.0 + d * d)
            v[i] = v[i] + 0.1 * f
        for i in range(n):
            u[i] = u[i] + 0.1 * v[i]
    return np.array(u)


def passes(x):
    """A loop over samples again and again, each for what the one before has found; decisions and results between."""
    a, b, seen = x[0], 1.0 + x[1], []
    for _ in range(STEPS):
        g, h = 0.0, 0.0
        for k in range(2, len(x)):
            z = x[k] * b
            r = a * np.sin(z) - 0.1 * k
            g = g + r * z
            h = h - r
        a = a - 1e-3 * g
        b = b - 1e-3 * h * x[0]
        if a > 1e9:
            b = b + 1.0
        seen.append(h)
    return np.array([a * b, seen[1]])


PROGRAMS = [pendulums, pendulums_one_by_one, string, bodies, passes]


def point(n=96):
    return np.random.default_rng(5).uniform(0.2, 1.0, n)


@pytest.fixture
def short_runs(monkeypatch):
    """Programs of this size are recorded and laid out as large ones are."""
    monkeypatch.setattr(choose, "MANY_LINES", 100)
    monkeypatch.setattr(regroup, "LEAST", 4)
    monkeypatch.setattr(regroup, "SECTION", 10)
    monkeypatch.setattr(holdings, "LEAST", 10)
    monkeypatch.setattr(holdings, "AHEAD", 0)
    monkeypatch.setattr(early, "LEAST", 10)
    monkeypatch.setattr(early, "SHORT", 3)
    for module in (scalar, recorder, regroup, regrouped):
        monkeypatch.setattr(module, "RUN_LINES", 50)


@pytest.mark.parametrize("program,n_ranks", [*((f, n) for f in PROGRAMS for n in (2, 3)), *((f, 2) for f in SAMPLES)])
def test_regrouped_programs_compute_what_they_did(short_runs, program, n_ranks):
    x = point(50 if program in SAMPLES else 32)
    plan = partition(trace(program, (x,)).tape, n_ranks, strategy="levels")
    assert plan.name == "levels"
    follows(trace(program, (x,)).tape, plan, x)


@pytest.mark.parametrize("program", [*PROGRAMS, *SAMPLES])
def test_narrow_levels_are_told_with_little_memory(short_runs, program):
    """What runs read of each other is enough to know whether levels are wide enough to be cut."""
    tape = trace(program, (point(50),)).tape
    reads, told = Survey(tape).reads, set()
    for n_ranks in (2, 3, 8, 20, 64, 1000):
        for section in sections.sections(tape):
            narrow = regroup._narrow(section, reads, n_ranks)
            assert narrow is not section.share(n_ranks)
            told.add(narrow)
    assert True in told


@given(tapes(), st.sampled_from([2, 3, 5, 8]))
def test_mixed_programs(tape, n_ranks):
    follows(tape, partition(tape, n_ranks, strategy="levels", min_block=1))


def test_compiled_loops_do_what_the_plain_ones_do(short_runs, monkeypatch):
    x = point(32)
    plain = partition(trace(passes, (x,)).tape, 3, strategy="levels")
    monkeypatch.setattr(kernels, "SMALL", 0)
    tape = trace(passes, (x,)).tape
    compiled = partition(tape, 3, strategy="levels")
    assert plain.quality == compiled.quality and plain.quality.halo
    follows(tape, compiled, x)


# At most how many supersteps, and messages a rank and turn.
COUNTED = {pendulums: (4, 4 / STEPS), pendulums_one_by_one: (4, 4 / STEPS), string: (STEPS + 4, 3),
           passes: (2 * STEPS + 3, 4)}


@pytest.mark.parametrize("n_ranks", [2, 8, 64])
@pytest.mark.parametrize("program", COUNTED)
def test_all_ranks_work_in_every_turn(short_runs, monkeypatch, program, n_ranks):
    """The largest rank's work, supersteps and messages: those of a program whose arrays were cut by particles."""
    for module in (regroup, regrouped):
        monkeypatch.setattr(module, "RUN_LINES", 5000)
    tape = trace(program, (point(24 * n_ranks),)).tape
    plan = partition(tape, n_ranks, strategy="levels", machine=COUNTING)
    quality, (k_star, messages) = plan.quality, COUNTED[program]
    assert quality.k_star <= k_star and quality.messages <= messages * STEPS * n_ranks
    assert quality.max_work <= 1.2 * tape.lines / n_ranks + 8 * n_ranks and quality.waits < 1.2
    assert quality.halo <= 2 * quality.messages + 24 * n_ranks  # inputs that were wanted elsewhere
    shares = localize_all(tape, plan)
    for share in shares:
        check(share)
    assert max(sum(item.lines for item in share.items) for share in shares) == quality.max_work


@pytest.mark.parametrize("n_ranks", [2, 8, 64])
def test_messages_travel_while_a_rank_computes_its_other_lines(short_runs, monkeypatch, n_ranks):
    """What comes before a step's messages are the masses at the ends of a rank's part, the others after: forwards the
    messages are waited for once these are computed, backwards they leave before."""
    for module in (regroup, regrouped):
        monkeypatch.setattr(module, "RUN_LINES", 5000)
    masses = 40
    tape = trace(string, (point(2 * masses * n_ranks),)).tape
    plan = partition(tape, n_ranks, strategy="levels", machine=COUNTING)
    assert plan.quality.k_star <= STEPS + 4
    for share in localize_all(tape, plan):
        check(share)
        turns = [(sum(item.lines for item in share.items[step.start : step.ready]),
                  sum(item.lines for item in share.items[step.ready : step.stop])) for step in share.steps]
        overlapping = sorted(rest / (first + rest) for first, rest in turns if first + rest > 2 * masses)
        assert len(overlapping) >= STEPS - 1 and overlapping[1] >= 1.0 - 4.0 / masses, turns
        assert len(share.items) <= 6 * len(share.steps)


def test_everybody_reads_everybody(short_runs):
    tape = trace(bodies, (point(4 * 64),)).tape
    quality = partition(tape, 8, strategy="levels", machine=COUNTING).quality
    assert quality.k_star <= 6 and quality.max_work < 1.05 * tape.lines / 8 and quality.waits < 1.1
    assert quality.halo <= 3 * 2 * 64 * 7  # two steps' positions, and inputs


def test_it_is_taken_where_other_points_follow(short_runs):
    tape = trace(passes, (point(400),)).tape
    for again in (True, False):
        made = partition(tape, 2, machine=COUNTING, judge=choose._Sweeping(1, again=again))
        assert (made.name == "levels") == again
    judge = Judge(tape, Use(), COUNTING)
    made = partition(tape, 2, machine=COUNTING, judge=judge)
    assert "levels" in [c.name for c in made.candidates]
    uses = Use(), Use(once=True), Use(columns=20, once=True)
    assert [Judge(tape, use, COUNTING).again for use in uses] == [True, False, True]


def test_what_does_not_suit_stays(short_runs):
    def recurrence(x):
        s = x[0]
        for t in x:
            s = s + 0.1 * s * t
        return s

    for program, n_ranks in ((recurrence, 2), (pendulums, 64)):  # a chain; fewer lines a level than ranks
        tape = trace(program, (point(40),)).tape
        assert regroup.regroup(tape, Survey(tape).reads, n_ranks) is None
    tape = trace(pendulums_one_by_one, (point(),)).tape  # stretches are as good
    names = [c.name for c in partition(tape, 2, machine=COUNTING).candidates]
    assert "contiguous" in names and "levels" not in names


@pytest.mark.mpi
@pytest.mark.parametrize("program,partition", [*((f, "levels") for f in PROGRAMS), (string, "auto")])
def test_derivatives_are_those_of_one_rank(comm, short_runs, program, partition):
    x = point(32 if program is bodies else 60)
    v = np.random.default_rng(1).standard_normal(len(x))
    solves = 1 if partition == "levels" else 20
    points = x, 0.9 * x
    w, expected = of_one_rank(comm, program, points, v)  # nested as the result is
    with dd.linearize(program, x, comm=comm, partition=partition, solves=solves) as lin:
        assert partition == "auto" or lin.report().partition == ("levels" if comm.size > 1 else "one rank")
        for here, (value, ydot, xbar) in zip(points, expected):
            np.testing.assert_allclose(lin.update(here), value, rtol=1e-12)
            np.testing.assert_allclose(lin.jvp(v), ydot, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(lin.vjp(w), xbar, rtol=1e-9, atol=1e-12)
        assert lin.retraces == 0


@pytest.mark.mpi
def test_short_programs_may_be_regrouped_too(comm):
    x, v = point(48), np.linspace(-1.0, 1.0, 48)
    with dd.linearize(string, x, comm=comm, partition="levels") as lin:
        assert lin.report().depth > STEPS
        owner = lin.plot("partition").data.owner
        assert np.array_equal(np.unique(owner), np.arange(comm.size)), np.unique(owner)
        np.testing.assert_allclose(lin.hvp(v), dd.hvp(string, (x,), (v,), comm=comm), rtol=1e-9, atol=1e-12)


@pytest.mark.mpi
def test_a_line_that_fails_is_found_on_the_tape_as_it_was_traced(comm, short_runs):
    def logarithms(x):
        u = list(x)
        for _ in range(3):
            for i in range(len(u)):
                u[i] = u[i] + 0.1 * np.sin(u[i])
            u[40] = np.log(u[40])
        return sum(u)

    x = np.full(96, 9.0)
    line = logarithms.__code__.co_firstlineno + 5
    with dd.linearize(logarithms, x, comm=comm, partition="levels") as lin:
        x[40] = 1.5  # its logarithm's has none
        with pytest.raises(NonFiniteError, match=f"log is nan at .*:{line} in "):
            lin.update(x)
            lin.vjp(1.0)
