"""Partition: virtual ranks that run their shares superstep by superstep do what the whole tape does."""

from __future__ import annotations

from dataclasses import replace

import functions
import numpy as np
import pytest
import tape_oracle
import test_shapes_of_programs as shapes
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from tapes import SIN, Writer, adjoint, looked_at, run_ranks, tangent, tapes

from distdiff import graph
from distdiff.errors import InputError
from distdiff.kernels import graph as kernels
from distdiff.kernels import growing
from distdiff.linearization import linearize
from distdiff.machine import Machine
from distdiff.ops import ADD, COPY, MULTIPLY, SUBTRACT
from distdiff.partition import (
    Partition,
    candidates,
    check,
    choose,
    deepen,
    distribute,
    localize_all,
    partition,
    quality,
    schedule,
    scotch,
    table,
    transport,
)
from distdiff.partition.intervals import _ascending
from distdiff.partition.layout import split
from distdiff.partition.local import whole
from distdiff.partition.whereabouts import Whereabouts
from distdiff.solvers.sweep_plan import plan_adjoint
from distdiff.tape import ScalarRun, Tape
from distdiff.tracing import trace
from distdiff.tracing.tree import flatten

RANKS = (1, 2, 3, 5, 8)


def reproduces(tape: Tape, n_ranks: int, **settings) -> list:
    """Partition, localize, check, run and differentiate; returns the LocalTapes."""
    return follows(tape, partition(tape, n_ranks, **settings))


def follows(tape: Tape, plan: Partition, x: np.ndarray | None = None) -> list:
    """The virtual ranks of a partition compute what the oracle computes, at x or a random point."""
    n_ranks = plan.n_ranks
    locals_ = localize_all(tape, plan)
    assert len(locals_) == n_ranks and all(len(local.steps) == len(locals_[0].steps) for local in locals_)
    for local in locals_:
        check(local)
    rng = np.random.default_rng(tape.n_nodes)
    x = rng.uniform(-1.0, 1.0, tape.n_inputs) if x is None else x
    truth = tape_oracle.evaluate(tape, x)
    y, matrix = run_ranks(locals_, x)
    scale = 1.0 + np.abs(truth[np.isfinite(truth)]).max(initial=0.0)
    outputs, changed = np.full(tape.n_outputs, np.nan), plan.changed
    for values, local in zip(y, locals_):
        own = np.ones(local.n_nodes, dtype=bool) if local.own is None else local.own
        assert np.isfinite(values[own]).all(), "an own node without a value"
        assert np.isnan(outputs[local.outputs.positions]).all(), "an output on two ranks"
        outputs[local.outputs.positions] = values[local.outputs.ids]
        for block, ids in local.run_ids.items():
            first, size = local.blocks[block].first, local.blocks[block].size
            ids = np.asarray(ids)
            kept = ~np.isin(ids, changed) & (ids < tape.n_nodes)
            np.testing.assert_allclose(values[first:first + size][kept], truth[ids[kept]], rtol=0, atol=1e-13 * scale)
    np.testing.assert_allclose(outputs, tape_oracle.outputs(tape, truth), rtol=0, atol=1e-13 * scale)
    assert sorted(np.concatenate([local.inputs.positions for local in locals_])) == list(range(tape.n_inputs))

    jacobian = tape_oracle.jacobian(tape, x)
    xdot, ybar = rng.standard_normal(tape.n_inputs), rng.standard_normal(tape.n_outputs)
    size = 1.0 + np.abs(jacobian).max(initial=0.0)
    tolerance = 1e-13 * size * (1 + tape.n_nodes)
    np.testing.assert_allclose(tangent(locals_, matrix, xdot, tape.n_outputs), jacobian @ xdot, rtol=0, atol=tolerance)
    np.testing.assert_allclose(adjoint(locals_, matrix, ybar, tape.n_inputs), jacobian.T @ ybar, rtol=0, atol=tolerance)
    return locals_


@given(tapes(runs=False), st.sampled_from(RANKS))
def test_array_programs(tape, n_ranks):
    reproduces(tape, n_ranks, strategy="axes", min_block=1)


@given(tapes(arrays=False), st.sampled_from(RANKS))
def test_scalar_programs(tape, n_ranks):
    reproduces(tape, n_ranks, strategy="axes", min_block=1)


@given(tapes(), st.sampled_from(RANKS), st.sampled_from(["auto", "axes", "contiguous", "fewer ranks"]),
       st.sampled_from([1, 12]))
def test_mixed_programs(tape, n_ranks, strategy, min_block):
    reproduces(tape, n_ranks, strategy=strategy, min_block=min_block)


@given(tapes(), st.sampled_from(RANKS))
def test_parts_of_a_block_together(tape, n_ranks):
    follows(tape, candidates.make(tape, n_ranks, "axes", n_ranks, 1, {}, rules=("together",)))


@given(tapes(runs=False), st.sampled_from(RANKS), st.sampled_from([2, 3]))
def test_deep_halos(tape, n_ranks, depth):
    follows(tape, partition(tape, n_ranks, strategy="axes", min_block=1, depth=depth))


@given(tapes(), st.sampled_from([2, 3]), st.sampled_from([2, 4]))
def test_deep_halos_beside_scalar_code(tape, n_ranks, depth):
    follows(tape, partition(tape, n_ranks, strategy="axes", min_block=1, depth=depth))


@given(tapes(), st.sampled_from([4, 5, 8]))
def test_ranks_left_out(tape, n_ranks):
    locals_ = follows(tape, candidates.make(tape, n_ranks, "axes", n_ranks // 2, 1, {}))
    assert not any(local.n_own for local in locals_[n_ranks // 2:])


@pytest.mark.parametrize("case", functions.CASES, ids=str)
@pytest.mark.parametrize("n_ranks", [2, 5])
def test_traced_functions(case, n_ranks):
    tape = trace(case.f, (case.x,)).tape
    for rule in schedule.RULES:
        plan = candidates.make(tape, n_ranks, "axes", n_ranks, 1, {}, rules=(rule,))
        if tape.n_nodes > 2000:  # the oracle is dense
            for local in localize_all(tape, plan):
                check(local)
            continue
        locals_ = follows(tape, plan, np.ravel(case.x))
        assert plan.quality.max_work == max(local.lines for local in locals_)
        assert plan.quality.messages == sum(local.messages for local in locals_)


# -- known shapes ------------------------------------------------------------


def stencil(shape: tuple[int, ...], steps: int) -> Tape:
    """u <- sin(u) + sum of both neighbours along every axis, periodic; the sum of squares in the end."""
    w = Writer()
    u = w.input(*shape)
    for _ in range(steps):
        new = w.apply(SIN, u)
        for axis in range(len(shape)):
            new = w.apply(ADD, new, w.apply(SUBTRACT, w.roll(u, 1, axis), w.roll(u, -1, axis)))
        u = new
    w.output(u)
    return w.tape


@pytest.mark.parametrize("n_ranks", [2, 3, 4, 5])
@pytest.mark.parametrize("steps", [1, 4])
def test_periodic_stencil_exchanges_its_halo_once_a_step(n_ranks, steps):
    plan = partition(stencil((43,), steps), n_ranks, strategy="axes", min_block=1, depth=1)
    locals_ = reproduces(plan.plan.tape, n_ranks, strategy="axes", min_block=1, depth=1)
    assert plan.k_star == len(locals_[0].steps) == steps + 1
    assert sum(local.halo for local in locals_) == plan.quality.halo == 2 * n_ranks * steps
    assert plan.quality.balance < 1.2
    if n_ranks > 2:
        assert sum(local.messages for local in locals_) == plan.quality.messages == 2 * n_ranks * steps


@pytest.mark.parametrize("shape, halo", [((24, 6), 2 * 6), ((6, 24), 2 * 6)])
def test_stencil_in_two_dimensions_is_cut_along_its_longer_axis(shape, halo):
    locals_ = reproduces(stencil(shape, 2), 3, strategy="axes", min_block=1, depth=1)
    assert len(locals_[0].steps) == 3
    assert all(local.halo == 2 * halo for local in locals_)
    assert max(local.lines for local in locals_) <= 1.1 * sum(local.lines for local in locals_) / 3


@pytest.mark.parametrize("n_ranks", [2, 3, 5])
def test_interior_slices_stay_with_the_array_they_are_cut_from(n_ranks):
    w, steps = Writer(), 5
    u = w.input(62)
    for _ in range(steps):
        inner = w.apply(ADD, w.apply(SUBTRACT, u[2:], u[:-2]), w.apply(SIN, u[1:-1]))
        new = w.fresh(u.shape)
        w.apply(COPY, u[:1], out=new[:1], shape=(1,))
        w.apply(COPY, inner, out=new[1:-1], shape=inner.shape)
        w.apply(COPY, u[-1:], out=new[-1:], shape=(1,))
        u = new
    w.output(u)
    locals_ = reproduces(w.tape, n_ranks, strategy="axes", min_block=1, depth=1)
    assert len(locals_[0].steps) == steps + 1
    assert sum(local.halo for local in locals_) == 2 * (n_ranks - 1) * steps


@pytest.mark.parametrize("n_ranks", [2, 3, 5, 8])
def test_wide_sum_takes_two_supersteps(n_ranks):
    w = Writer()
    w.output(w.reduce(COPY, {0}, w.apply(SIN, w.input(101))))
    locals_ = reproduces(w.tape, n_ranks, strategy="axes", min_block=1)
    assert len(locals_[0].steps) == 2
    assert sum(local.halo for local in locals_) == n_ranks - 1
    assert max(local.lines for local in locals_) <= 2 * (101 // n_ranks + 1) + n_ranks


def test_samples_times_weights_and_back():
    w = Writer()
    x, weights = w.input(40, 6), w.input(6)
    residual = w.reduce(MULTIPLY, {1}, x, weights)
    column = type(residual)(w.tape, residual.view[:, None], residual.block)
    w.output(w.reduce(MULTIPLY, {0}, x, column))
    locals_ = reproduces(w.tape, 4, strategy="axes", min_block=8)
    assert len(locals_[0].steps) == 3  # weights to all, partial gradients to one
    assert max(local.lines for local in locals_) < 1.3 * sum(local.lines for local in locals_) / 4


@pytest.mark.parametrize("n_ranks", [2, 3, 5])
@pytest.mark.parametrize("ops", [(ADD,), (ADD, SUBTRACT)])
@pytest.mark.parametrize("turned", [False, True])
def test_chain_of_additions_splits_over_ranks(n_ranks, ops, turned):
    w, terms = Writer(), 60
    x = w.input(terms)
    lines = [(SIN, int(i), 0.0) for i in x.view]
    lines.append((ADD, ("line", 0), ("line", 1)))
    for k in range(2, terms):
        pair = (("line", len(lines) - 1), ("line", k))
        lines.append((ops[k % len(ops)], *(pair[::-1] if turned and k % 3 == 0 else pair)))
    w.output(w.run(lines)[-1:])
    locals_ = reproduces(w.tape, n_ranks, strategy="axes", min_block=1)
    assert len(locals_[0].steps) == 2
    assert sum(local.halo for local in locals_) == n_ranks - 1
    assert max(local.lines for local in locals_) <= 1.3 * sum(local.lines for local in locals_) / n_ranks


@pytest.mark.parametrize("n_ranks", [2, 5])
def test_compiled_loops_do_what_the_plain_ones_do(monkeypatch, n_ranks):
    w = Writer()
    x = w.input(30)
    lines: list = [(SIN, int(i), 0.0) for i in x.view] + [(SUBTRACT, 0.5, ("line", 0))]
    for k in range(1, 30):
        last = len(lines) - 1
        lines.append((SUBTRACT, ("line", k), ("line", last)) if k % 4 == 0 else (ADD, ("line", last), ("line", k)))
    lines += [(MULTIPLY, ("line", len(lines) - 1), 3.0), (SIN, ("line", 3), 0.0)]
    w.output(w.run(lines))
    plain = localize_all(w.tape, partition(w.tape, n_ranks, strategy="axes", min_block=1))
    depth = graph.analyse(w.tape)
    for loop in vars(kernels).values():
        if isinstance(loop, kernels.Loop):
            monkeypatch.setattr(loop, "_compiled", None)
    monkeypatch.setattr(kernels, "SMALL", -1)
    assert graph.analyse(w.tape) == depth
    same(reproduces(w.tape, n_ranks, strategy="axes", min_block=1), plain)


def test_samples_in_a_scalar_loop_are_spread():
    w, samples = Writer(), 50
    theta = w.input()
    lines: list = [(COPY, 0.0, 0.0)]
    total = 0
    for k in range(samples):
        lines += [(MULTIPLY, int(theta.view), 0.1 * k), (SIN, ("line", len(lines)), 0.0)]
        lines += [(MULTIPLY, ("line", len(lines) - 1), ("line", len(lines) - 1))]
        lines += [(ADD, ("line", total), ("line", len(lines) - 1))]
        total = len(lines) - 1
    w.output(w.run(lines)[-1:])
    locals_ = reproduces(w.tape, 3, strategy="axes")
    assert len(locals_[0].steps) <= 4
    assert sum(local.halo for local in locals_) <= 8
    assert max(local.lines for local in locals_) <= 1.3 * sum(local.lines for local in locals_) / 3


def busiest(locals_: list) -> int:
    """Lines of the busiest rank, summed over the supersteps: what a pass takes if messages take nothing."""
    each = [[sum(item.lines for item in local.items[step.start:step.stop]) for step in local.steps]
            for local in locals_]
    return sum(map(max, zip(*each)))


@pytest.mark.parametrize("n_ranks", [4, 16, 64])
def test_samples_that_are_looped_over_again_and_again_keep_all_ranks_busy(n_ranks):
    w, samples, rounds, own = Writer(), 4 * n_ranks, 5, 12
    theta: object = int(w.input().view)
    lines: list = []
    for _ in range(rounds):
        total = None
        for k in range(samples):
            lines.append((MULTIPLY, theta, 0.1 + k / samples))
            lines += [(SIN, ("line", len(lines) + j), 0.0) for j in range(-1, own - 2)]
            term = ("line", len(lines) - 1)
            if total is not None:
                lines.append((ADD, total, term))
            total = ("line", len(lines) - 1)
        lines.append((SIN, total, 0.0))
        theta = ("line", len(lines) - 1)
    w.output(w.run(lines)[-1:])
    plan = partition(w.tape, n_ranks, strategy="axes", min_block=1)
    locals_ = localize_all(w.tape, plan)
    for local in locals_:
        check(local)
    # a round takes three supersteps at most: the parameter, samples, their sum; the first rank starts a round ahead
    assert len(locals_[0].steps) <= 3 * rounds
    share = rounds * samples // n_ranks * (own + 1)
    assert busiest(locals_) <= 2.3 * share + rounds * 2 * n_ranks
    assert plan.quality.halo <= rounds * 2 * n_ranks


@pytest.mark.parametrize("n_ranks", [2, 3, 8, 64])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_grid_in_time_steps_is_counted(n_ranks, depth):
    """Supersteps, messages, bytes and the busiest rank's lines: planned, on the shares, and by hand."""
    rows, columns, times = 1536, 3, 8

    def heat(u):
        for _ in range(times):
            u = u + 0.1 * (np.roll(u, 1, 0) - 2.0 * u + np.roll(u, -1, 0))
        return u

    tape = trace(heat, (np.zeros((rows, columns)),)).tape
    plan = partition(tape, n_ranks, strategy="axes", min_block=1, depth=depth)
    locals_ = localize_all(tape, plan)
    exchanges, neighbours = times // depth, 1 if n_ranks == 2 else 2
    sent, rank_rows = 2 * depth * columns, rows // n_ranks
    for local in locals_:
        check(local)
        assert len(local.steps) == plan.k_star == exchanges + 1
        for step in local.steps[:-1]:  # one message to a neighbour, however many rows of however many arrays
            assert len({rank for rank, _ in step.exchange.sends}) == len(step.exchange.sends) == neighbours
        assert local.messages == exchanges * neighbours
        # deep halos: a statement that opens the next superstep is in this one, and its rows are sent as well
        assert exchanges * sent <= local.halo <= (1.0 if depth == 1 else 1.8) * exchanges * sent
    assert plan.quality.messages == n_ranks * exchanges * neighbours
    assert plan.quality.halo == sum(local.halo for local in locals_)
    twice = 2 * sum(range(2 * depth - 1)) * exchanges if depth > 1 else 0  # rows that a neighbour computes as well
    a_row = sum(item.lines for item in tape.items) // (rows * times)
    assert plan.quality.max_work == max(local.lines for local in locals_)
    assert plan.quality.max_work <= a_row * (rank_rows * times + twice)
    assert plan.quality.max_work >= a_row * rank_rows * times


def test_a_shared_parameter_does_not_run_ranks_in_turn():
    w = Writer()
    x, weights = w.input(40_000, 20), w.input(20)
    residual = w.reduce(MULTIPLY, {1}, x, weights)
    for _ in range(3):
        residual = w.apply(SIN, residual)
    w.output(w.reduce(COPY, {0}, residual))
    locals_ = localize_all(w.tape, partition(w.tape, 2))
    busy = [[sum(item.lines for item in local.items[step.start:step.stop]) for step in local.steps]
            for local in locals_]
    assert sum(max(step) for step in zip(*busy)) < 0.6 * sum(map(sum, busy))


def test_a_sequential_loop_stays_on_one_rank():
    w = Writer()
    lines: list = [(SIN, int(w.input().view), 0.0)]
    for k in range(100_000):
        lines.append((SIN, ("line", k), 0.0))
    w.output(w.run(lines)[-1:])
    plan = partition(w.tape, 4)
    assert plan.name == "rank 0 alone" and plan.k_star == 1
    assert {c["name"] for c in plan.summary()} >= {"streaming", "contiguous", "rank 0 alone"}
    assert [c["chosen"] for c in plan.summary()] == [True] + [False] * (len(plan.candidates) - 1)


def test_much_work_is_spread():
    w = Writer()
    u = w.input(200_000)
    for _ in range(3):
        u = w.apply(SIN, w.apply(ADD, w.roll(u, 1), u))
    w.output(w.reduce(COPY, {0}, u))
    plan = partition(w.tape, 2)
    assert plan.name.split(", ")[0] == "axes" and plan.quality.balance < 1.01


@pytest.mark.parametrize("settings", [{"strategy": "best"}, {"min_block": 0}, {"depth": 0}])
def test_wrong_settings_are_refused(settings):
    w = Writer()
    w.output(w.input(3))
    with pytest.raises(InputError, match="strategy|min_block|depth"):
        partition(w.tape, 2, **settings)


def test_a_small_function_is_not_even_weighed():
    w = Writer()
    w.output(w.apply(SIN, w.input(100)))
    plan = partition(w.tape, 4)
    assert plan.name == "rank 0 alone" and len(plan.candidates) == 1
    assert plan.owner(np.arange(5)).tolist() == plan.superstep(np.arange(5)).tolist() == [0] * 5
    locals_ = reproduces(w.tape, 4)
    assert [local.lines for local in locals_] == [100, 0, 0, 0]


def test_a_row_that_all_ranks_read_is_not_held_with_its_block():
    w = Writer()
    a, c = w.input(100, 200), w.input(90, 200)
    total = w.apply(ADD, a[10:], w.apply(MULTIPLY, c, a[3]))
    far = w.apply(MULTIPLY, total, a[:1, 7:8].broadcast(total.shape))
    w.output(w.reduce(COPY, {0, 1}, far))
    plan = candidates.make(w.tape, 4, "axes", 4, 50, {})
    locals_ = localize_all(w.tape, plan)
    for local in locals_:
        check(local)
    assert max(local.n_nodes for local in locals_) < 1.3 * sum(local.n_own for local in locals_) / 4


def test_constants_travel_once_where_they_repeat_themselves():
    w = Writer()
    x = w.input(40, 30)
    w.output(w.apply(MULTIPLY, x, np.linspace(0, 1, 30)))
    plan = partition(w.tape, 3, strategy="axes", min_block=1)
    assert sum(ref.base.size for ref in plan.sender().parcel(1).arrays.values()) == 30
    reproduces(w.tape, 3, strategy="axes", min_block=1)


def test_a_constant_that_many_statements_read_is_held_once():
    w = Writer()
    x, factor = w.input(12, 5), np.linspace(0, 1, 60).reshape(12, 5)
    for _ in range(3):
        x = w.apply(MULTIPLY, x, factor)
    w.output(x)
    plan = partition(w.tape, 3, strategy="axes", min_block=1)
    arrived = transport._load([bytearray(part) for part in transport._pack(plan.sender().parcel(1))])
    places = {ref.value.__array_interface__["data"][0] for ref in arrived.arrays.values()}
    assert len(arrived.arrays) == 3 and len(places) == 1
    reproduces(w.tape, 3, strategy="axes", min_block=1)


# -- counted for many ranks ------------------------------------------------------------

MANY = (2, 3, 7, 16, 64)


def counted(tape: Tape, n_ranks: int) -> tuple[int, int, int, int, list]:
    """(supersteps, messages, bytes, lines on the busiest rank, the shares), which are what the plan promises."""
    plan = partition(tape, n_ranks, strategy="axes", min_block=1, depth=1)
    locals_ = localize_all(tape, plan)
    for local in locals_:
        check(local)
    messages, halo = sum(local.messages for local in locals_), sum(local.halo for local in locals_)
    work = max(local.lines for local in locals_)
    assert (plan.k_star, plan.quality.messages, plan.quality.halo) == (len(locals_[0].steps), messages, halo)
    assert plan.quality.max_work == work
    return len(locals_[0].steps), messages, 8 * halo, work, locals_


@pytest.mark.parametrize("n_ranks", MANY)
@pytest.mark.parametrize("width", [1, 5])
def test_a_stencil_costs_a_message_each_way_a_step_whatever_the_ranks(n_ranks, width):
    rows, steps = 4 * n_ranks, 3
    tape = stencil((rows, width), steps)
    supersteps, messages, volume, work, locals_ = counted(tape, n_ranks)
    neighbours = min(n_ranks - 1, 2)
    assert supersteps == steps + 1
    assert messages == neighbours * n_ranks * steps
    assert volume == 8 * 2 * width * n_ranks * steps
    assert work == sum(local.lines for local in locals_) // n_ranks
    inside = [step for local in locals_ for step in local.steps[1:-1]]
    assert any(step.ready < step.stop for step in inside), "nothing is left to do while messages travel"


@pytest.mark.parametrize("n_ranks", MANY)
@pytest.mark.parametrize("depth", [2, 3])
def test_deep_halos_save_messages_for_a_little_work(n_ranks, depth):
    rows, steps = 16 * n_ranks, 6
    tape = stencil((rows,), steps)
    plan = partition(tape, n_ranks, strategy="axes", min_block=1, depth=depth)
    locals_ = localize_all(tape, plan)
    supersteps, messages, halo, work = (len(locals_[0].steps), sum(local.messages for local in locals_),
                                        sum(local.halo for local in locals_), max(local.lines for local in locals_))
    assert (plan.k_star, plan.quality.messages, plan.quality.halo, plan.quality.max_work) == (
        supersteps, messages, halo, work)
    # supersteps 0, ..., steps of the program in groups of `depth`; the input is fetched alone, for depth - 1 steps
    assert supersteps == 1 + -(-steps // depth)
    assert messages == min(n_ranks - 1, 2) * n_ranks * (supersteps - 1)
    plain = tape.items and sum(item.lines for item in tape.items) // n_ranks
    assert plain < work <= plain * (1 + 2 * depth / 16)
    assert len({len(local.items) for local in locals_}) == 1, "wrapping around costs a rank statements"


@pytest.mark.parametrize("n_ranks", MANY)
def test_a_time_step_like_those_before_is_not_looked_at_again(n_ranks, monkeypatch):
    looks: list[int] = []
    for loop, name in ((schedule.Schedule, "_first_time"), (deepen._Deepener, "_statement")):
        plain = getattr(loop, name)
        monkeypatch.setattr(loop, name, lambda *a, plain=plain: looks.append(1) or plain(*a))
    found = []
    for steps in (40, 80):
        looks.clear()
        plan = partition(stencil((40 * n_ranks, 3), steps), n_ranks, strategy="axes", min_block=1, depth=4)
        found.append((len(plan.plan.looks), len(plan.plan.deep), len(looks)))
    assert found[0] == found[1]


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("n_ranks", [2, 5])
def test_sums_over_a_time_loop_wait_until_it_is_over(n_ranks, depth):
    """Scalar code between the steps would make them different: plans look at the first, however many there are."""
    gauges = np.arange(3, 20 * n_ranks, 8)

    def misfit(u, steps):
        total = 0.0
        for k in range(1, steps + 1):
            u = u + 0.2 * (np.roll(u, 1, axis=0) - 2.0 * u + np.roll(u, -1, axis=0)) * u
            if k % 4 == 0:
                total = total + 0.5 * np.sum((u[gauges, 2] - 0.1 * k) ** 2)
        return total

    found = []
    for steps in (80, 160) if n_ranks == 2 else (40,):
        tape = trace(lambda u, steps=steps: misfit(u, steps), (np.ones((20 * n_ranks, 5)),)).tape
        made = candidates.make(tape, n_ranks, "axes", n_ranks, 16, {})
        locals_ = localize_all(tape, made if depth == 1 else choose.deeper(made, depth, choose._Sweeping(1)))
        for local in locals_:
            runs = [s for s, step in enumerate(local.steps) for item in local.items[step.start:step.stop]
                    if isinstance(item, ScalarRun)]
            assert all(s >= len(local.steps) - n_ranks for s in runs)
        found.append([looked_at(local)[0] for local in locals_])
    if n_ranks == 2:  # on more, loops begin anew where sums belong to another rank
        assert (np.array(found[1]) - found[0] < 80).all()  # of some 460 that are more


@pytest.mark.parametrize("n_ranks", MANY)
def test_a_wide_program_costs_one_message_a_rank(n_ranks):
    w, each = Writer(), 6
    w.output(w.reduce(COPY, {0}, w.apply(SIN, w.input(each * n_ranks))))
    supersteps, messages, volume, work, _ = counted(w.tape, n_ranks)
    assert (supersteps, messages, volume) == (2, n_ranks - 1, 8 * (n_ranks - 1))
    assert work == 2 * each + n_ranks  # sines, their sum, and on one rank the sum of sums


@pytest.mark.parametrize("n_ranks", MANY)
def test_a_chain_costs_no_message_at_all(n_ranks):
    w = Writer()
    lines: list = [(SIN, int(w.input().view), 0.0)]
    for k in range(20 * n_ranks):
        lines.append((SIN, ("line", k), 0.0))
    w.output(w.run(lines)[-1:])
    plan = partition(w.tape, n_ranks)
    locals_ = localize_all(w.tape, plan)
    assert plan.k_star == 1 and sum(local.messages for local in locals_) == 0
    assert max(local.lines for local in locals_) == len(lines)


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_stretches_are_cut_where_few_values_cross(n_ranks):
    w, stages, wide = Writer(), 22 * n_ranks + 3, 9
    lines: list = [(SIN, int(w.input().view), 0.0)]
    for _ in range(stages):  # one value becomes many, and they one again
        start = len(lines) - 1
        lines += [(MULTIPLY, ("line", start), 0.1 + 0.01 * k) for k in range(wide)]
        lines.append((ADD, ("line", start + 1), ("line", start + 2)))
        lines += [(ADD, ("line", len(lines) + k), ("line", start + 3 + k)) for k in range(-1, wide - 3)]
    w.output(w.run(lines)[-1:])
    plan = partition(w.tape, n_ranks, strategy="contiguous")
    assert (plan.k_star, plan.quality.halo, plan.quality.messages) == (n_ranks, n_ranks - 1, n_ranks - 1)
    assert plan.quality.balance < 1.1
    reproduces(w.tape, n_ranks, strategy="contiguous")


def test_many_right_hand_sides_of_a_chain_are_split_and_of_a_wide_program_are_not():
    w = Writer()
    lines: list = [(SIN, int(w.input().view), 0.0)]
    lines += [(SIN, ("line", k), 0.0) for k in range(30_000)]
    w.output(w.run(lines)[-1:])
    assert partition(w.tape, 4).name == "rank 0 alone"
    plan = partition(w.tape, 4, columns=50)
    assert plan.everywhere and (plan.k_star, plan.quality.messages, plan.quality.max_work) == (1, 0, len(lines))
    assert plan.quality.balance == 1
    locals_ = localize_all(w.tape, plan)
    assert [local.lines for local in locals_] == [len(lines)] * 4
    assert not partition(stencil((200_000,), 2), 4, columns=2).everywhere


def mesh(n: int, sweeps: int, seed: int = 0) -> Tape:
    """Scalar code on an unstructured mesh: every point adds up its neighbours in the plane, points in random order."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(size=(n, 2))
    near = np.argsort(((places[:, None] - places) ** 2).sum(axis=2), axis=1)[:, 1:4]
    w = Writer()
    x = w.input(n)
    now: list = [int(i) for i in x.view]
    lines: list = []
    for _ in range(sweeps):
        new: list = []
        for i in range(n):
            last = now[i]
            for j in near[i]:
                lines.append((MULTIPLY, last, now[j]))
                last = ("line", len(lines) - 1)
            lines.append((SIN, last, 0.0))
            new.append(("line", len(lines) - 1))
        now = new
    w.output(w.run(lines)[-n:])
    return w.tape


@pytest.mark.skipif(not scotch.available(), reason="PETSc was built without PT-Scotch")
@pytest.mark.parametrize("n_ranks", [2, 3])
def test_pt_scotch_cuts_fewer_edges_of_a_mesh_than_streaming_does(n_ranks):
    tape = mesh(60, 4)
    plan = partition(tape, n_ranks, strategy="pt-scotch", min_block=1)
    follows(tape, plan)
    streamed = partition(tape, n_ranks, strategy="axes", min_block=1)
    assert plan.quality.halo < 0.6 * streamed.quality.halo
    assert plan.quality.balance < 1.2 and streamed.quality.balance < 1.1


@given(tapes(), st.sampled_from([2, 3]))
def test_pt_scotch_on_mixed_programs(tape, n_ranks):
    if scotch.available():
        reproduces(tape, n_ranks, strategy="pt-scotch", min_block=1)


@given(tapes(), st.sampled_from([2, 3]), st.sampled_from([1.0, 30.0]))
def test_grown_supersteps_on_mixed_programs(tape, n_ranks, latency):
    follows(tape, candidates.make(tape, n_ranks, "growlocal", n_ranks, 1, {}, machine=near(latency)))


def near(lines: float) -> Machine:
    """A machine on which waiting for a message takes as long as so many scalar lines."""
    return replace(Machine(), latency=0.0, overhead=0.0, wait=lines * Machine().run_line / 2)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("n_ranks", [1, 2, 3, 8])
def test_supersteps_grow_as_long_as_that_pays(n_ranks, compiled, monkeypatch):
    """Every line once, no line before its operands or beside those of another rank; a chain is one superstep's."""
    if compiled:
        monkeypatch.setattr(kernels, "SMALL", -1)
        monkeypatch.setattr(growing.grow_supersteps, "_compiled", None)
    draw = np.random.default_rng(n_ranks)
    for n in (0, 1, 40, 400):
        a, b = (np.array([int(draw.integers(-1, max(i, 1))) if i else -1 for i in range(n)], int) for _ in range(2))
        for latency in (0.0, 10.0, 1e6):
            owner, step = growing.grow_supersteps(a, b, n_ranks, latency, 4, 1.5, 0.97)
            assert ((owner >= 0) & (owner < n_ranks)).all()
            for read in (a, b):
                i = np.flatnonzero(read >= 0)
                assert (step[i] >= step[read[i]] + (owner[i] != owner[read[i]])).all()
            if latency == 1e6:  # nothing is worth waiting for
                assert step.max(initial=0) <= 1 + (n_ranks > 1)
    chain = np.arange(-1, 299)
    owner, step = growing.grow_supersteps(chain, np.full(300, -1), n_ranks, 50.0, 4, 1.5, 0.97)
    assert not step.any() and not owner.any()


@pytest.mark.parametrize(("n_ranks", "width", "steps", "ahead"), [(2, 100, 40, 0.8), (8, 100, 40, 0.8),
                                                                   (64, 30, 16, 1.0)])
def test_grown_supersteps_of_a_grid_in_loops_are_trapezoids(n_ranks, width, steps, ahead):
    """Fewer of them than time steps, and little waiting, where every other layout exchanges once a step or waits."""
    def heat(x, steps):
        u = list(x)
        for _ in range(steps):
            u = [u[k - 1] * u[k] * u[(k + 1) % len(u)] for k in range(len(u))]
        return sum(u)

    x = np.linspace(0.9, 1.1, width * n_ranks)
    tape = trace(lambda x: heat([x[k] for k in range(len(x))], steps), (x,)).tape
    made = {name: partition(tape, n_ranks, strategy=name, machine=near(400.0))
            for name in ("growlocal", "streaming", "contiguous", "levels")}
    follows_counts(tape, made["growlocal"])
    grown = made.pop("growlocal").quality
    assert grown.k_star < steps / 2 and grown.seconds < ahead * min(other.quality.seconds for other in made.values())
    for a_line, others in (0.0, 1), (Machine().grow_line, 0):  # not looked at where that takes longer than it may save
        auto = partition(tape, n_ranks, machine=replace(near(400.0), grow_line=a_line))
        assert sum(c.name == "growlocal" for c in auto.candidates) == others
        suits = auto.name.startswith("growlocal") or n_ranks == 64  # where so little work wants fewer ranks
        assert not others or suits and auto.quality.seconds <= grown.seconds


def follows_counts(tape: Tape, plan: Partition, twice: float = 1.0) -> None:
    """What virtual ranks have is what the plan promises; nodes that go with their array and one by one may be counted
    twice."""
    locals_ = localize_all(tape, plan)
    for local in locals_:
        check(local)
    quality = plan.quality
    assert quality.max_work == max(local.lines for local in locals_) and quality.k_star == len(locals_[0].steps)
    assert quality.messages == sum(local.messages for local in locals_)
    halo = sum(local.halo for local in locals_)
    assert halo <= quality.halo <= twice * halo


def again(samples: int):
    """All samples anew for every guess."""
    def f(x):
        guess = x[0]
        for _ in range(4):
            total = 0.0
            for k in range(samples):
                t = guess * (0.01 * k)
                for _ in range(4):
                    t = np.sin(t) * guess
                total = total + t
            guess = np.tanh(total * x[1])
        return guess

    return f


FIVE, LEAVES = np.array([0.5, 0.9, 0.4, 0.3, 0.2]), np.linspace(0.5, 1.5, 256)
AHEAD = {  # program, ranks, lines that waiting takes, right-hand sides: where a partitioner is ahead of all others
    "axes": (lambda: stencil((20_000,), 3), 4, 50.0, 1),
    "streaming": (lambda: trace(shapes.tree_by_loops(shapes.busy), (LEAVES,)).tape, 4, 50.0, 1),
    "contiguous": (lambda: trace(shapes.samples_by_loops(shapes.busy), (FIVE,)).tape, 8, 50.0, 1),
    "levels": (lambda: trace(again(400), (FIVE,)).tape, 2, 50.0, 1),
    "growlocal": (lambda: trace(shapes.heat_by_loops, (np.linspace(0.2, 0.7, 120),)).tape, 2, 50.0, 1),
    "pt-scotch": (lambda: mesh(200, 6), 2, 50.0, 1),
    "fewer ranks": (lambda: trace(shapes.recurrence(np.sin), (FIVE,)).tape, 4, 500.0, 1),
    "right-hand sides": (lambda: trace(shapes.recurrence(np.sin), (FIVE,)).tape, 4, 50.0, 20)}


@pytest.mark.parametrize("name", AHEAD)
def test_every_partitioner_is_ahead_somewhere(name):
    """By a hundredth at least, by the one measure; and what comes out is a partition."""
    if name == "pt-scotch" and not scotch.available():
        pytest.skip("PETSc was built without PT-Scotch")
    make, n_ranks, latency, columns = AHEAD[name]
    alike = {"axes": ("streaming", "levels", "growlocal", "pt-scotch"), "streaming": ("axes",)}  # of arrays, of lines
    others = set(choose.STRATEGIES) - {"auto", name, *alike.get(name, ())}
    others -= {"right-hand sides"} if columns == 1 else set()
    others -= {"pt-scotch"} if not scotch.available() else set()
    tape, machine = make(), near(latency)
    rows = {other: table(tape, [n_ranks], columns, machine, other, min_block=1)[0] for other in others}
    (mine,) = table(tape, [n_ranks], columns, machine, name, min_block=1)
    if name == "fewer ranks":  # and whoever leaves it to one rank as well
        rows = {other: row for other, row in rows.items() if row["messages"]}
    assert rows and mine["seconds"] < 0.99 * min(row["seconds"] for row in rows.values()), rows
    plan = partition(tape, n_ranks, name, 1, machine=machine, columns=columns)
    if plan.everywhere or plan.plan is None:
        assert (plan.k_star, plan.quality.messages) == (1, 0)
    else:
        follows_counts(tape, plan)


@pytest.mark.parametrize("crowded", [True, False])
def test_places_are_counted_however_many_there_are(crowded):
    draw = np.random.default_rng(1)
    place, size = draw.integers(0, 500, 300), 1000 if crowded else 10**9
    found, (count, sums) = quality.gathered(place, size, np.ones(300), np.arange(300.0))
    assert (found == np.unique(place)).all()
    assert (count == np.bincount(place)[found]).all() and (sums == np.bincount(place, np.arange(300.0))[found]).all()


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 7, 1000])
def test_owners_by_bisection(n_ranks):
    """What counting the cuts that a row is behind gives; empty parts among them."""
    draw = np.random.default_rng(n_ranks)
    tape = Tape()
    tape.add_block((50,))
    where = Whereabouts(tape.blocks, n_ranks)
    for _ in range(5):
        cuts = np.concatenate([[0], np.sort(draw.integers(0, 51, n_ranks - 1)), [50]])
        where.split(0, split((50,), 0, cuts))
        ids = draw.permutation(50)
        np.testing.assert_array_equal(where.find(ids)[0], (cuts[1:-1] <= ids[:, None]).sum(axis=1))


def test_nodes_in_order_are_found_as_one_by_one():
    """In blocks of one rank's, cut ones and scattered ones, empty ones between."""
    draw, n_ranks = np.random.default_rng(0), 3
    tape = Tape()
    for size in (40, 0, 60, 50, 30, 70, 0):
        tape.add_block((size,))
    where = Whereabouts(tape.blocks, n_ranks)
    for block in (0, 2, 4, 5):
        rank = draw.integers(n_ranks)
        cuts = np.where(np.arange(n_ranks + 1) > rank, tape.blocks[block].size, 0)
        where.split(block, split((tape.blocks[block].size,), 0, np.array([0, 20, 30, 60]) if block == 2 else cuts))
    where.scatter(3, draw.integers(n_ranks, size=50).astype(np.int32))
    where.clear_steps()
    where.steps[:] = draw.integers(9, size=where.steps.shape)
    where.node_step[:] = draw.integers(9, size=len(where.node_step))
    for some in (250, 200, 30, 3, 1, 0):
        ids = np.sort(draw.permutation(250)[:some])
        np.testing.assert_array_equal(where.find_ascending(ids), where.find(ids))


def test_a_table_of_ranks_says_where_more_of_them_stop_paying():
    tape = stencil((100_000,), 3)
    rows = table(tape, ranks=(1, 2, 16, 256))
    assert [row["ranks"] for row in rows] == [1, 2, 16, 256]
    assert rows[0]["speedup"] == 1 and 1.5 < rows[1]["speedup"] <= 2
    for row in rows:
        plan = partition(tape, row["ranks"])
        assert (row["k_star"], row["messages"], row["halo"], row["max_work"], row["name"]) == (
            plan.k_star, plan.quality.messages, plan.quality.halo, plan.quality.max_work, plan.name)


@pytest.mark.parametrize("name", choose.STRATEGIES)
def test_tables_of_every_partitioner(name):
    """Of arrays and scalar code together: what virtual ranks have, for as many as one likes."""
    if name == "pt-scotch" and not scotch.available():
        pytest.skip("PETSc was built without PT-Scotch")

    def f(x):
        u, total = x, 0.0
        for _ in range(2):
            u = np.sin(np.roll(u, 1)) * u
        for k in range(150):
            total = total + u[k] * np.sin(u[2 * k])
        return u * total

    tape = trace(f, (np.linspace(0.1, 0.9, 320),)).tape
    for row in table(tape, (1, 7, 256), 2, near(50.0), name, min_block=1):
        n = row["ranks"]
        plan = partition(tape, n, name, 1, machine=near(50.0), columns=2)
        if name != "pt-scotch":  # which draws lots
            assert row | plan.quality.to_dict() | {"seconds": row["seconds"]} == row and row["name"] == plan.name
        assert row["max_work"] * n >= tape.lines - tape.n_inputs and row["halo"] >= row["messages"]
        if plan.plan is not None and n < 256:
            follows_counts(tape, plan, twice=1.5)
    assert row["seconds"] > 0.0


# -- over MPI ------------------------------------------------------------


def same(a, b) -> None:
    """Two LocalTapes, or parts of them, are equal."""
    assert type(a) is type(b)
    if isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for p, q in zip(a, b):
            same(p, q)
    elif hasattr(a, "__dataclass_fields__") and type(a).__name__ != "Op":
        for name in a.__dataclass_fields__:
            same(getattr(a, name), getattr(b, name))
    else:
        assert a == b


@pytest.mark.mpi
@given(tapes())
def test_distribute_gives_what_localize_all_gives(comm, tape):
    plan = partition(tape, comm.size, strategy="axes", min_block=1) if comm.rank == 0 else None
    found = comm.gather(distribute(tape if comm.rank == 0 else None, plan, comm))
    if comm.rank == 0:
        for local, expected in zip(found, localize_all(tape, plan), strict=True):
            same(local, expected)


@pytest.mark.mpi
@pytest.mark.parametrize("piece", [1 << 30, 1000])
def test_large_objects_travel_in_pieces(comm, monkeypatch, piece):
    monkeypatch.setattr(transport, "PIECE", piece)
    thing = {"ids": np.arange(5000), "text": "x" * 3000, "empty": np.empty((0, 3)), "shape": (1, 2)}
    same(transport.broadcast(thing if comm.rank == 0 else None, comm), thing)
    if comm.rank == 0:
        for rank in range(1, comm.size):
            transport.send(thing, rank, comm)
    else:
        same(transport.receive(0, comm), thing)


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["sweep", "substitution", "direct"])
def test_right_hand_sides_split_over_ranks_that_have_the_whole_program(comm, method):
    def forward(p):  # fewer inputs than outputs
        u = np.linspace(0.5, 1.5, 6) * p["a"]
        for _ in range(3):
            u = np.roll(u, 1) * p["b"][0] + np.sin(u)
        return u, u[0] * p["b"][1]

    def backward(u):
        total = 0.0
        for k in range(7):
            total = total + u[k] * u[(3 * k) % 7]
        return np.array([total, u[2] * total])

    point = {"a": 0.7, "b": np.array([0.3, 0.9])}
    for f, x, moved in ((forward, point, {"a": 0.2, "b": np.array([0.4, 1.0])}),
                        (backward, np.linspace(0.1, 0.9, 7), np.linspace(1.1, 0.4, 7))):
        with linearize(f, x, comm=comm, method=method, partition="right-hand sides", solves="jacobian") as lin, \
                linearize(f, x, comm=MPI.COMM_SELF, method="sweep") as one:
            for again in range(2):
                if again:
                    lin.update(moved), one.update(moved)
                close(lin.value, one.value)
                close(lin.jacobian(), one.jacobian())
                close(lin.jvp(moved), one.jvp(moved))
                close(lin.vjp(lin.value), one.vjp(one.value))
            report = lin.report()
            assert (report.messages, report.halo, report.k_star) == (0, 0, 1)
            if comm.size > 1:
                assert report.partition == "right-hand sides"
                with pytest.raises(InputError, match="every rank has the whole program"):
                    lin.operator()


def close(a, b) -> None:
    """Two nested results are equal to rounding."""
    for p, q in zip(flatten(a)[0], flatten(b)[0], strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-12, atol=1e-13)


@pytest.mark.mpi
def test_an_error_on_rank_0_reaches_all(comm):
    if comm.size == 1:
        pytest.skip("needs another rank")
    with pytest.raises(Exception, match="plan"):
        distribute(Tape(), None, comm)


def test_a_few_scalar_lines_make_no_candidates_and_one_survey(monkeypatch):
    """Sums over the results of a loop of array statements: where those few lines lie decides nothing."""
    from distdiff.graph import survey

    u = np.linspace(0.0, 1.0, 4000)

    def f(u, extra):
        total = 0.0
        for _ in range(40):
            u = u + 0.1 * np.sin(np.roll(u, 1))
            total = total + 0.5 * np.sum(u)
        for k in range(extra):
            total = total + 0.1 * total * u[k]
        return total

    made, plain = [], survey.Reads
    monkeypatch.setattr(survey, "Reads", lambda tape: (made.append(tape), plain(tape))[1])
    for extra, more in ((0, False), (3000, True)):
        made.clear()
        tape = trace(lambda u, extra=extra: f(u, extra), (u,)).tape
        found = partition(tape, 4)
        graph.analyse(tape, survey=found.survey)
        assert len(made) == 1
        assert any(c.name in ("contiguous", "pt-scotch") for c in found.candidates) == more


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_a_stretch_of_a_stencil_is_swept_as_on_one_rank(n_ranks):
    """The two ends of a roll stay two boxes: joined, they are none of their block, and a step is no three diagonals."""
    x = np.linspace(0.5, 1.5, 300)

    def steps(u):
        for _ in range(48):
            left, right = np.roll(u, 1), np.roll(u, -1)
            u = u - 0.1 * u * (right - left) + 0.05 * (right - 2.0 * u + left)
        return u

    tape = trace(steps, (x,)).tape
    whole_plan = plan_adjoint(whole(tape))
    shares = [plan_adjoint(local) for local in localize_all(tape, partition(tape, n_ranks, strategy="contiguous"))]
    assert sum(plan.kept for plan in shares) <= whole_plan.kept + 2 * len(x) * n_ranks
    assert sum(plan.moved for plan in shares) <= whole_plan.moved + 4 * len(x) * n_ranks
    assert all(len(plan.operations) < 24 for plan in shares)  # the loop is one of them


@pytest.mark.parametrize("spread", [1, 10, 1000, 100_000])
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_nodes_named_in_any_order_are_told_once(spread, kind):
    """By flags or by sorting: what np.unique finds."""
    for n in (0, 1, 300):
        ids = np.random.default_rng(n).integers(7, 7 + spread, (n, 2)).astype(kind)
        found = _ascending(ids)
        np.testing.assert_array_equal(found, np.unique(ids))
        assert found.dtype == kind
