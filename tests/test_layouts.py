"""Layout and method chosen together: what a layout promises, by counts that its shares bear out."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from tapes import looked_at

import distdiff as dd
from distdiff.assembly import Assembly
from distdiff.comm import on_root
from distdiff.evaluate import evaluate
from distdiff.examples import flow, spectral
from distdiff.graph import Reads, Survey
from distdiff.graph.contractions import call_seconds, line_seconds, seconds_of
from distdiff.kernels import elimination
from distdiff.kernels.jit import jit
from distdiff.machine import Machine
from distdiff.partition import amounts, candidates, distribute, localize_all, partition, whole
from distdiff.partition import choose as choose_layout
from distdiff.solvers.kept import expected_kept, kept, kept_by
from distdiff.solvers.layouts import ONE_JACOBIAN, POINTS, Judge, Use
from distdiff.solvers.select import choose
from distdiff.solvers.work import BATCH, counts
from distdiff.stages import Stages
from distdiff.tape import Const, ScalarRun
from distdiff.tracing import trace

MACHINE, LOOP = Machine(), elimination.eliminate


def chain(steps):
    def f(x):
        p, q = x[0], x[1]
        for _ in range(steps):
            p, q = p + 0.01 * np.sin(q), q - 0.01 * p * q
        return p * p + q
    return f, np.array([0.5, 1.5])


def path(steps):
    def f(x):
        a, b, kept = x[0], x[1], []
        for k in range(steps):
            a, b = a + 0.1 * np.sin(b), b - 0.1 * a * x[k % 3]
            kept.append(a * b)
        return kept
    return f, np.array([0.5, 1.5, 1.0])


def wide(n):
    t = np.linspace(0.0, 1.0, n)

    def f(x):
        y = np.zeros(n)
        for k in range(6):
            y = y + np.tanh(x[k] * np.cos(k * t))
        return np.sum(y * y)
    return f, np.linspace(0.5, 1.5, 6)


def own(n):
    """As wide, of nothing but its inputs."""
    def f(x):
        for _ in range(30):
            x = x + 0.1 * np.tanh(x)
        return np.sum(x * x)
    return f, np.linspace(0.5, 1.5, n)


def ladder(steps):
    A = np.linspace(-0.1, 0.1, 36).reshape(6, 6)

    def f(x):
        for _ in range(steps):
            x = x + 0.1 * np.sin(A @ x)
        return x
    return f, np.linspace(0.5, 1.5, 6)


def grid(n, steps):
    def f(u):
        for _ in range(steps):
            u = u + 0.2 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1)) * u
        return u
    return f, np.linspace(0.5, 1.5, n)


def judged(program, n_ranks, use, machine=MACHINE, **settings):
    f, x = program
    tape = trace(f, (x,)).tape
    judge = Judge(tape, use, machine)
    return tape, judge, partition(tape, n_ranks, machine=machine, columns=use.split, judge=judge, **settings)


@pytest.mark.parametrize("n_ranks", [2, 3])
@pytest.mark.parametrize(("program", "strategy"), [
    (chain(300), "contiguous"), (path(300), "contiguous"), (path(300), "axes"), (wide(3000), "axes"),
    (grid(900, 12), "axes"), (ladder(60), "contiguous"), (wide(3000), "fewer ranks"), (path(300), "right-hand sides")])
def test_work_is_foreseen(program, strategy, n_ranks):
    tape, judge, made = judged(program, n_ranks, Use(20, 20), strategy=strategy, depth=1)
    foreseen = judge.work(made)
    locals_ = localize_all(tape, made)
    found = [counts(local) for local in locals_]
    rate = {True: MACHINE.run_line, False: MACHINE.line}
    steps = np.array([[sum(MACHINE.item + rate[type(item) is ScalarRun] * item.lines
                           for item in local.items[s.start:s.stop]) for s in local.steps]
                      for local in locals_ if local.blocks])
    assert (foreseen.ranks, foreseen.k_star) == (n_ranks, len(locals_[0].steps))
    assert foreseen.messages == max(c["messages"] for c in found)
    for name, within in (("array_lines", 1.1), ("scalar_lines", 1.1), ("items", 1.4), ("nonzeros", 1.1),
                         ("nodes", 1.1), ("runs", 1.01)):
        most, few = max(c[name] for c in found), 8
        assert (most - few) / within <= getattr(foreseen, name) <= most * within + few, name
    assert foreseen.waits == pytest.approx(steps.max(axis=0).sum() / steps.sum(axis=1).max(), rel=0.2)
    rows, nonzeros = (max(each) for each in zip(*(kept(local) for local in locals_ if local.blocks)))
    assert (rows - 8) / 1.3 <= foreseen.kept_rows <= 1.3 * rows + 8
    assert (nonzeros - 8) / 2.3 <= foreseen.kept_nonzeros <= 2.3 * nonzeros + 8


def plane(u):
    for _ in range(8):
        around = np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1)
        u = u + 0.1 * (around - 4.0 * u) * (1.0 + u)
    return u


def energy(u):
    """Of a wave on a string: two sums, so that on a rank whose parts of them others read all rows lead to two."""
    before, now = u, u
    for _ in range(12):
        after = np.zeros(len(u))
        after[1:-1] = 2.0 * now[1:-1] - before[1:-1] + 0.2 * (now[2:] - 2.0 * now[1:-1] + now[:-2])
        before, now = now, after
    return np.sum((now - before) ** 2) + 0.2 * np.sum((now[1:] - now[:-1]) ** 2)


@pytest.mark.mpi
@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(("f", "x"), [
    grid(900, 12), (plane, np.linspace(0.0, 1.0, 24 * 30).reshape(24, 30)), (energy, np.linspace(0.5, 1.5, 900)),
    (lambda u: np.sum(grid(900, 12)[0](u) ** 2), np.linspace(0.5, 1.5, 900)),
    (lambda u: np.sum(plane(u)), np.linspace(0.0, 1.0, 48 * 30).reshape(48, 30))])
def test_rows_kept_on_ranks_are_foreseen(comm, f, x, depth):
    """Where every step's rows stay, and where all lead to one result but for those near other ranks' rows, or to two
    parts of sums."""

    def planned():
        tape = trace(f, (x,)).tape
        judge = Judge(tape, Use(20, 20), MACHINE)
        made = partition(tape, comm.size, strategy="axes", depth=depth, machine=MACHINE, judge=judge, columns=20)
        return (tape, made), judge.work(made).kept_rows

    (tape, made), rows = on_root(comm, planned, share=False) or ((None, None), 0)
    local = distribute(tape, made, comm) if comm.size > 1 else whole(tape)
    system = Assembly(local, evaluate(local, np.full(len(local.inputs.ids), 0.7), comm), comm, True, Stages()).system
    real = kept_by(system.n_local, system.own.nnz, comm).rows
    for foreseen in (expected_kept(local, comm).rows, comm.bcast(rows)):
        assert 0.5 * real - 8 <= foreseen <= (1.25 if depth == 1 else 1.5) * real + 8
    system.close()


@pytest.mark.parametrize("n_ranks", [2, 3])
@pytest.mark.parametrize(("program", "strategy", "depth"), [
    (grid(900, 40), "contiguous", 1), (grid(900, 40), "axes", 1), (wide(900), "axes", 1),
    (ladder(80), "contiguous", 1)])
def test_what_repeats_on_a_rank_is_foreseen(program, strategy, depth, n_ranks):
    """Every rank plans the first periods of its part of a loop itself."""
    tape, judge, made = judged(program, n_ranks, Use(1), strategy=strategy, depth=depth)
    foreseen, found = judge.work(made), [counts(local) for local in localize_all(tape, made)]
    new = max(c["items"] - c["sums"] - c["copies"] for c in found)
    assert 0.5 * new <= foreseen.fresh <= 2 * new
    assert foreseen.sums == pytest.approx(max(c["sums"] for c in found), rel=0.1, abs=8)
    assert foreseen.sum_copies == pytest.approx(max(c["sum_copies"] for c in found), rel=0.1, abs=8)


ONE = Use(1)


def heat(n, steps):
    def f(u):
        for _ in range(steps):
            around = np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1)
            u = u + 0.1 * (around - 4.0 * u) * (1.0 + 0.01 * u)
        return np.sum(u * u)
    return f, np.random.default_rng(0).standard_normal((n, n))


def waters(n, steps):
    sea = flow.make_sea(n)
    gauges = flow.place_gauges(sea, count=n**2 // 100, steps=steps, every=4)
    return flow.make_misfit(sea, gauges), 0.1 * np.random.default_rng(0).standard_normal((n, n))


def evaluating(local):
    """Seconds of an evaluation, whose rates are there and back."""
    return 0.5 * sum(line_seconds(item, MACHINE) * item.lines for item in local.items if type(item) is not ScalarRun)


@pytest.mark.parametrize("program", [grid(4000, 60), heat(64, 40), heat(256, 24), heat(1024, 6), waters(40, 48)])
def test_depths_of_halos_come_in_the_order_of_what_they_take(program):
    """Deeper halos: fewer messages, more rows computed twice, and more statements that a plan looks at one by one, of
    which many points bear their part each."""
    f, x = program
    tape = trace(f, (x,)).tape
    uses = Use(once=True), ONE
    judges = [Judge(tape, use, MACHINE) for use in uses]
    promised, counted, rows = [], [], []  # by depth; of the first two, by use
    shallow = candidates.make(tape, 2, "axes", 2, 128, {}, machine=MACHINE)
    for depth in (1, 2, 4, 8):
        shallow.scheduled.restore()
        made = shallow if depth == 1 else choose_layout.deeper(shallow, depth, judges[0])
        if made is None:  # more rows than there are, or supersteps
            continue
        promises = [judge(made) for judge in judges]
        promised.append([promise.seconds - promise.sharing / use.points for promise, use in zip(promises, uses)])
        local = localize_all(tape, made)[0]
        looked, plan = looked_at(local)
        rows.append(plan.rows)
        planning = (MACHINE.plan_item * looked + MACHINE.plan_copy * (len(local.items) - looked)
                    + MACHINE.plan_exchange * local.messages)
        counted.append([planning / use.points + MACHINE.message * local.messages
                        + MACHINE.pass_byte * 8 * local.halo + evaluating(local) + MACHINE.line * plan.moved
                        for use in uses])
    for promise, count in zip(zip(*promised), zip(*counted)):
        for k, mine in enumerate(count):
            for j, other in enumerate(count):
                if mine > 1.25 * other:
                    assert promise[k] > promise[j], (promise, count)
        assert count[int(np.argmin(promise))] < 1.1 * min(count)
    assert max(rows) < 6 * rows[0]  # a sweep's vectors: about as many at a time, each a little longer


@pytest.mark.parametrize(("program", "use", "layouts", "methods"), [
    (chain(4000), ONE, {"rank 0 alone"}, {"sweep"}),  # the critical path is all there is
    (wide(400_000), ONE, {"axes"}, {"sweep"}),
    (chain(20_000), Use(1000), {"rank 0 alone"}, {"substitution"}),  # one result: elimination leaves a row
    (path(30_000), Use(10_000), {"contiguous", "streaming"}, {"interface"}),  # each rank reduces its stretch
    (path(20_000), Use(20, BATCH), {"right-hand sides"}, {"sweep", "substitution"}),  # as a Jacobian has them
    (ladder(300), ONE, {"rank 0 alone"}, {"sweep", "substitution"}),  # 1,200 statements of six numbers
])
def test_layout_and_method_by_counted_costs(program, use, layouts, methods):
    _, judge, made = judged(program, 2, use)
    assert made.name in layouts and made.promise.method in methods
    cheapest = min(c.promise.seconds for c in made.candidates)
    assert made.promise.seconds <= 1.05 * cheapest
    for candidate in made.candidates:
        assert candidate.promise.reason and candidate.promise.seconds > 0 and candidate.promise.memory > 0
        assert 0 <= candidate.promise.exchanging < candidate.promise.seconds
    names = {c.name for c in made.candidates}
    assert "rank 0 alone" in names and ("right-hand sides" in names) == (use.split > 1)
    assert ("contiguous" in names) or use == ONE
    share = use.share(2, made.everywhere)
    assert made.promise.method == choose(judge.work(made), share, MACHINE, points=use.points).method


def test_solves_at_a_point_pay_for_a_spread():
    """A chain stays on one rank for a few solves; many more solves never make a choice cost more than another did."""
    names = []
    for columns in (1, 10, 1000, 100_000):
        _, _, made = judged(path(30_000), 2, Use(columns))
        names.append((made.name, made.promise.method))
        alone = next(c for c in made.candidates if c.name == "rank 0 alone")
        assert made.promise.seconds <= 1.02 * alone.promise.seconds
    assert names[0] == ("rank 0 alone", "sweep") and names[-1][1] == "interface"


def test_another_layout_for_more_right_hand_sides_than_announced():
    """What would have been chosen for them is said, and nothing where it is what was."""
    _, judge, made = judged(path(30_000), 2, ONE)
    rows, nonzeros = kept(judge._local)
    here = replace(judge.work(made), kept_rows=rows, kept_nonzeros=nonzeros)
    assert made.name == "rank 0 alone" and judge.prospects(made).advice(8, here) is None
    advice = judge.prospects(made).advice(1 << 17, here)
    _, _, wanted = judged(path(30_000), 2, Use(1 << 17))
    assert (advice.layout, advice.method) == (wanted.name, wanted.promise.method)
    assert advice.there == pytest.approx(wanted.promise.seconds, rel=0.2) and advice.here > advice.there
    assert "solves=131072" in str(advice)


@pytest.mark.mpi
def test_a_layout_for_far_fewer_is_told_of_once(comm, monkeypatch):
    from distdiff import solving, source
    from distdiff.solvers import layouts

    monkeypatch.setattr(layouts, "MUCH", 1.01)  # on five ranks it gains a twentieth
    for module in (solving, source):
        monkeypatch.setattr(module, "current_machine", Machine)
    f, x = path(30_000)
    with dd.linearize(f, x, comm=comm) as lin, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        w = lin.value
        lin.vjp(w)
        assert lin.report().advice == "" and not caught
        lin._solving._expected.here = 1 << 17  # as if so many had come
        for _ in range(3):
            lin.vjp(w)
        report = lin.report()
    mine = [str(c.message) for c in caught if issubclass(c.category, dd.errors.LayoutWarning)]
    if comm.size == 1:
        assert not mine and report.advice == ""
    else:
        assert mine == ([report.advice] if comm.rank == 0 else []) and "pass solves=" in report.advice
        assert report.advice in str(report)


@pytest.mark.mpi
@pytest.mark.parametrize(("asked", "loop", "why"), [
    ("axes", True, "'streaming' for this program: there are no arrays"),
    ("streaming", False, "'axes' for this program: there are no scalar lines"),
    ("levels", False, "'axes' for this program: there is no scalar code"),
    ("axes", False, ""), ("streaming", True, ""), ("contiguous", True, ""), ("fewer ranks", True, "")])
def test_a_partitioner_with_nothing_to_place_is_told_of(comm, asked, loop, why):
    f, x = chain(50) if loop else (lambda x: np.sin(x) * x, np.linspace(0.0, 1.0, 500))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dd.linearize(f, x, comm=comm, partition=asked):
            pass
    mine = [c for c in caught if issubclass(c.category, dd.errors.FallbackWarning)]
    assert len(mine) == (1 if why and comm.size > 1 and comm.rank == 0 else 0)
    assert all(why in str(c.message) and c.filename == __file__ for c in mine)


UNSHARED = replace(MACHINE, **{name: 0.0 for name in MACHINE.to_dict() if name.startswith(("share_", "copy_"))})


@pytest.mark.parametrize(("program", "use", "free", "paid"), [
    (wide(60_000), Use(once=True), "axes", "rank 0 alone"),  # of a millisecond to save, three to share it out
    (wide(60_000), Use(), "axes", "axes"),  # other points follow, which bear their part
    (wide(400_000), Use(once=True), "axes", "rank 0 alone"),  # of 3 bytes a line that half of the lines read
    (own(400_000), Use(once=True), "axes", "axes"),
    (path(3000), Use(60, BATCH, once=True), "right-hand sides", "right-hand sides")])  # a copy costs little
def test_sharing_a_program_out_has_to_pay(program, use, free, paid):
    assert judged(program, 2, use, UNSHARED)[2].name == free
    tape, _, made = judged(program, 2, use)
    assert made.name == paid
    for candidate in made.candidates:
        assert (candidate.promise.sharing == 0) == (candidate.name == "rank 0 alone")
        assert candidate.promise.sharing / use.points < candidate.promise.seconds
    assert made.promise.sharing == MACHINE.seconds(amounts(tape, made))


def test_nobody_looks_for_layouts_that_sharing_out_rules_out():
    """For one derivative of a program that takes less than that; where points follow, all are looked at."""
    for use, machine, alone in ((Use(once=True), MACHINE, True), (Use(), MACHINE, False),
                                (Use(once=True), UNSHARED, False), (Use(20, BATCH, once=True), MACHINE, False)):
        made = judged(wide(60_000), 2, use, machine)[2]
        assert ([c.name for c in made.candidates] == ["rank 0 alone"]) == alone
    made = judged(own(400_000), 2, Use(once=True))[2]
    assert len(made.candidates) > 1


@pytest.mark.parametrize(("f", "x"), [
    wide(3000), ladder(5), (plane, np.ones((24, 30))),
    (lambda x: np.cumsum(x)[[1, 3, 3]] * 2.0 + np.sum(2.0 * x) + np.linalg.norm(np.outer(x, x) @ x), np.ones(8))])
def test_statements_that_are_alike_take_what_each_of_them_does(f, x):
    vectors = [item for item in trace(f, (x,)).tape.items if not isinstance(item, ScalarRun)]
    lines = [item.lines for item in vectors]
    assert seconds_of(vectors, MACHINE) == pytest.approx((
        sum(call_seconds(item, MACHINE) for item in vectors),
        sum(line_seconds(item, MACHINE) * n for item, n in zip(vectors, lines)), sum(lines)), rel=1e-12)


@pytest.mark.mpi
def test_a_single_derivative_stays_with_the_values_of_its_trace(comm, monkeypatch):
    """Which rank 0 has, and others would compute anew before they solve; a tape that was traced elsewhere has none, and
    programs whose further points will be evaluated anyway are shared out.
    """
    from distdiff import source

    monkeypatch.setattr(source, "current_machine", Machine)
    f, x = own(60_000)
    stays = {}
    for name, program, use in (("traced", f, Use(once=True)), ("a tape", dd.trace(f, x, comm=comm), Use(once=True)),
                               ("points follow", f, Use())):
        with dd.linearize(program, x, comm=comm, solves=use) as lin:
            names = [candidate["name"] for candidate in lin._at.facts.candidates]
            assert np.all(np.isfinite(lin.vjp(1.0)))
        stays[name] = names == ["rank 0 alone"]
    assert stays == {"traced": comm.size > 1, "a tape": False, "points follow": False}


def test_one_derivative_of_long_scalar_code_looks_at_no_run(monkeypatch):
    """Which is not sooner done by any ranks than its runs are looked at; unless one rank has no room for it."""
    monkeypatch.setattr(choose_layout, "MANY_LINES", 1000)
    asked = []
    monkeypatch.setattr(Survey, "reads", property(lambda self: asked.append(self) or Reads(self.tape)))
    for use, roomy, alone in ((Use(once=True), 1 << 28, True), (Use(), 1 << 28, False), (Use(once=True), 1000, False)):
        monkeypatch.setattr(choose_layout, "ROOMY", roomy)
        asked.clear()
        made = judged(chain(3000), 2, use)[2]
        assert ([c.name for c in made.candidates] == ["rank 0 alone"]) == alone == (not asked)


def test_looking_at_many_small_statements_has_its_price():
    """Steps of a few numbers each, hundreds of milliseconds to look at, are not; of many numbers, as many are."""
    def steps(n):
        def f(x):
            for _ in range(300):
                x = x + 0.1 * np.sin(x[::-1].copy())
            return np.sum(x)
        return f, np.linspace(0.1, 1.0, n)

    few, many = (judged(steps(n), 2, Use())[2] for n in (6, 100_000))
    assert [c.name for c in few.candidates] == ["rank 0 alone"] and len(many.candidates) > 2


@pytest.mark.parametrize(("program", "use", "layouts"), [
    (grid(20_000, 60), Use(once=True), {"rank 0 alone"}),  # its one derivative takes less than sharing it out
    (grid(400, 200), ONE, {"rank 0 alone"}),  # what ranks would share of a point is less than what each of them plans
    (grid(200_000, 40), ONE, {"rank 0 alone", "axes"})])  # stretches, which follow each other, need not be looked at
def test_layouts_that_cannot_pay_are_not_made(program, use, layouts):
    made = judged(program, 2, use)[2]
    assert {c.name.split(",")[0] for c in made.candidates} == layouts  # halos may be deeper


@pytest.mark.parametrize("n_ranks", [2, 5])
@pytest.mark.parametrize("use", [Use(once=True), ONE])
@pytest.mark.parametrize(("program", "strategy"), [
    (grid(4000, 60), "axes"), (grid(4000, 60), "contiguous"), (heat(64, 40), "axes"), (ladder(80), "contiguous"),
    (wide(3000), "axes"), (chain(300), "contiguous")])
def test_no_layout_promises_less_than_the_least(program, strategy, use, n_ranks):
    """By which layouts are left out; it is the better a bound the nearer it comes."""
    _, judge, made = judged(program, n_ranks, use, strategy=strategy, depth=1)
    alone = judged(program, n_ranks, use, strategy="fewer ranks")[2]
    assert 0.0 < judge.least(alone, n_ranks, made.quality.items) <= made.promise.seconds


def test_what_shares_bear_of_it_is_counted():
    """Statements and values of the busiest rank; lines that are placed one by one, all of them by rank 0."""
    for program, strategy in ((path(300), "contiguous"), (grid(900, 12), "axes")):
        tape, _, made = judged(program, 3, Use(), strategy=strategy, depth=1)
        found, locals_ = amounts(tape, made), localize_all(tape, made)
        assert 1.0 <= found["share_item"] / max(len(local.items) for local in locals_) <= 1.4  # pieces are joined
        assert found["share_line"] == sum(c["scalar_lines"] for c in map(counts, locals_))
        assert found["share_value"] == max(local.halo for local in locals_)
        assert found["share_byte"] == 0.0
    for n_ranks in (2, 3):  # the other ranks' parts of constants, each once
        tape, _, made = judged(wide(6000), n_ranks, Use(), strategy="axes")
        sent = sum(sum(np.asarray(item.operands[k].value).nbytes for k in range(len(item.operands))
                       if type(item.operands[k]) is Const) for local in localize_all(tape, made)[1:]
                   for item in local.items if item.lines > 100)
        assert 0.0 < amounts(tape, made)["share_byte"] <= sent
    assert amounts(tape, judged(program, 3, Use(), strategy="fewer ranks")[2]) == {}


def test_points_that_follow_are_expected_unless_somebody_knows():
    assert (Use(once=True).points, Use().points, Use.announced(7, 3, 2).points) == (1, POINTS, POINTS)
    assert Use.announced("jacobian", 5, 3) == Use(3, BATCH)
    assert Use.announced(ONE_JACOBIAN, 5, 3) == Use(3, BATCH, once=True)


@pytest.mark.mpi
def test_what_sharing_takes_is_said(comm):
    f, x = wide(6000)
    with dd.linearize(f, x, comm=comm, partition="axes") as lin:
        report = lin.report()
        assert ("share" in report.times) == (comm.size > 1)
        assert all(c["job"]["sharing"] > 0 for c in report.partition_candidates)


def test_a_machine_without_waits_is_spread_sooner():
    """The same program: messages that take long keep it on one rank."""
    near, far = (judged(grid(500_000, 8), 2, ONE, Machine(wait=wait))[2] for wait in (1e-6, 1e-2))
    assert near.name.startswith("axes") and far.name == "rank 0 alone"


def test_a_method_asked_for_has_the_layout_that_suits_it():
    f, x = path(2000)
    tape = trace(f, (x,)).tape
    for method in ("substitution", "krylov", "direct", "petsc"):
        judge = Judge(tape, Use(5), MACHINE, method)
        made = partition(tape, 2, machine=MACHINE, judge=judge)
        assert {c.promise.method for c in made.candidates} == {method}
        assert made.promise.seconds <= 1.05 * min(c.promise.seconds for c in made.candidates)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("looped", [LOOP.plain, jit(LOOP.plain)])
def test_lines_left_of_a_run(seed, looped, monkeypatch):
    """The loop over a run's lines keeps what elimination keeps."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, 5 + np.arange(400), (2, 400)).T.tolist()

    def f(x):
        values = [x[k] for k in range(5)]
        for n, (a, b) in enumerate(picks):
            a, b = (max(k, n - 10) if seed % 2 else k for k in (a, b))
            factor = values[b] if n % 3 else 0.5
            values.append(np.sin(values[a]) if n % 5 == seed else np.tanh(values[a] * factor + 0.1))
        return values[-3:]

    monkeypatch.setattr(elimination, "whole", lambda n: looped is not LOOP.plain)
    monkeypatch.setattr(elimination, "eliminate", looped)
    with dd.linearize(f, np.linspace(0.5, 1.5, 5), comm=MPI.COMM_SELF, method="substitution") as lin:
        expected, system = kept(lin._at.local), lin._solving.assembly.system
        assert expected.rows == system.n_rows
        assert system.nnz <= expected.nonzeros <= 1.1 * system.nnz


@pytest.mark.mpi
@pytest.mark.parametrize("solves", [1, 30, "jacobian"])
@pytest.mark.parametrize("program", [chain(400), path(400), grid(30_000, 8), ladder(40)])
def test_derivatives_are_those_of_one_rank(comm, program, solves):
    f, x = program
    v = np.cos(np.arange(len(x)))

    def derivatives(comm, **settings):
        with dd.linearize(f, x, comm=comm, **settings) as lin:
            return [lin.jvp(v), *([lin.jacobian()] if len(x) < 10 else [])]

    alone = on_root(comm, lambda: derivatives(MPI.COMM_SELF))
    for found, expected in zip(derivatives(comm, solves=solves), alone, strict=True):
        assert np.abs(np.subtract(found, expected)).max() <= 1e-13 * np.abs(expected).max()


def test_transforms_in_a_loop_stay_on_one_rank_after_one_look():
    """Each is computed whole, so there is nothing to gain; scalar lines at the end ask for no layouts of theirs."""
    tape = trace(spectral.make_flame(64, 3, dt=0.05), (spectral.initial(64),)).tape
    made = partition(tape, 8, machine=MACHINE)
    assert made.name == "rank 0 alone"
    assert {c.name for c in made.candidates} <= {"rank 0 alone", "axes", "axes on 4 ranks"}


def test_evaluations_are_counted_by_what_statements_do():
    """Arithmetic runs tile by tile; functions, reads by explicit nodes, sums and products are calls of their own, with
    rates of their own for lines, and nodes that are named are looked up when programs are shared out."""
    rng = np.random.default_rng(0)
    n, matrix = 4000, rng.standard_normal((30, 30))
    near = rng.integers(0, n, (n, 3))
    programs = {("item", "line"): lambda u: 2.0 * u * u, ("operation", "function_line"): np.tanh,
                ("operation", "product_line"): lambda u: matrix @ u[:30], ("operation", "gather_line"): np.cumsum,
                ("operation", "line"): np.sum}
    nothing = dict.fromkeys(("item", "operation", "line", "function_line", "gather_line", "product_line"), 0.0)
    for (call, line), f in programs.items():
        tape = trace(f, (np.linspace(0.1, 1.0, n),)).tape
        for rate, amount in (call, len(tape.items)), (line, sum(item.lines for item in tape.items)):
            machine = replace(MACHINE, **{**nothing, rate: 1.0})
            assert candidates.alone(tape, 1, machine).quality.seconds == amount > 0
    tape = trace(lambda u: np.sum(u[near].sum(axis=1) * u), (np.ones(n),)).tape
    made = partition(tape, 2, strategy="axes", machine=MACHINE)
    assert amounts(tape, made)["share_indexed"] == near.size
