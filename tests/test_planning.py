"""Planning for ranks that nobody has: what is predicted, and where more ranks stop paying."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import distdiff as dd
from distdiff import cli
from distdiff.comm import on_root
from distdiff.machine import Machine
from distdiff.partition import amounts, candidates, localize_all, partition
from distdiff.planning import plan
from distdiff.solvers.layouts import POINTS, Judge, Use
from distdiff.tracing import trace


def grid(u):
    for _ in range(20):
        u = u + 0.2 * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
    return np.sum(u * u)


def burgers(u):
    for _ in range(30):
        left, right = np.roll(u, 1), np.roll(u, -1)
        u = u - 0.1 * u * (right - left) + 0.05 * (right - 2.0 * u + left)
    return np.sum(u * u)


def chain(x):
    a = x[0]
    for k in range(500):
        a = 0.9 * np.sin(a) + x[k % 4]
    return a


def long(x):
    """Whose partials are near to 1: what underflows is solved for again in another way, which takes memory as well."""
    a = x[0]
    for k in range(10_000):
        a = a + 1e-3 * np.sin(a) * x[k % 4]
    return a


def several(x, steps):
    kept, a = [], x[0]
    for k in range(steps):
        a = 0.9 * np.sin(a) + x[k % 4]
        kept.append(a)
    return kept[::steps // 30]


def short(x):
    return several(x, 900)


def enough(x):
    return several(x, 15_000)


def tangle(x):
    rng = np.random.default_rng(0)
    values = [x[k] for k in range(4)]
    for n in range(4, 2000):
        values.append(0.6 * values[rng.integers(n)] - 0.3 * values[rng.integers(n)])
    return values[-3:]


@pytest.fixture(scope="module")
def layouts():
    return plan(trace(grid, (np.ones(200_000),)).tape, [4, 16], machine=Machine())


def test_layouts_are_those_of_the_partition(layouts):
    tape = trace(grid, (np.ones(200_000),)).tape
    assert [layout.ranks for layout in layouts.layouts] == [1, 4, 16]
    made = partition(tape, 16, machine=Machine(), judge=Judge(tape, Use(), Machine()))
    last = layouts.layouts[-1]
    assert (last.name, last.k_star, last.messages) == (made.name, made.k_star, made.quality.messages)
    assert last.seconds == pytest.approx(made.promise.seconds) and last.method == made.promise.method
    assert last.memory > 0 and last.halo_bytes == 8 * made.quality.halo


@pytest.mark.mpi
@pytest.mark.few_ranks
@pytest.mark.parametrize(("f", "n", "solves", "layout"), [
    (grid, 200_000, 1, "axes"), (grid, 20_000, 50, "rank 0 alone"), (grid, 20_000, "jacobian", "rank 0 alone"),
    (enough, 4, "jacobian", "right-hand sides"), *((short, 4, solves, "rank 0 alone") for solves in (1, 50)),
    *((chain, 4, solves, "rank 0 alone") for solves in (1, 50, "jacobian"))])
def test_auto_does_what_was_planned(comm, f, n, solves, layout):
    x = np.linspace(0.5, 1.5, n)
    planned = on_root(comm, lambda: plan(trace(f, (x,)).tape, [comm.size], solves).layouts[-1])
    with dd.linearize(f, x, comm=comm, solves=solves) as lin:
        report = lin.report()
        assert (report.k_star, report.messages) == (planned.k_star, planned.messages)
        if comm.size > 1:
            assert report.partition == planned.name and planned.name.startswith(layout)
            chosen = next(c for c in report.partition_candidates if c["chosen"])
            assert chosen["job"]["seconds"] == pytest.approx(planned.seconds)
            assert chosen["job"]["method"] == planned.method
            assert "predicted" in str(report) and planned.method in str(report)


def wide(x):
    t, y = np.linspace(0.0, 1.0, 50_000), 0.0
    for k in range(8):
        y = y + np.tanh(x[k] * np.cos((k + 1) * t))
    return np.sum(y**2)


def tree(x):
    while len(x) > 1:
        x = np.sin(x[::2]) * x[1::2] + x[::2]
    return x[0]


@pytest.mark.mpi
@pytest.mark.few_ranks
@pytest.mark.parametrize(("f", "n", "partition"), [
    (grid, 50_000, "axes"), (burgers, 20_000, "axes"), (wide, 8, "axes"), (tree, 1 << 15, "axes"),
    (long, 4, "contiguous")])
def test_memory_is_what_is_held(comm, f, n, partition):
    """Within a factor of two, on any number of ranks, as all that is counted is right."""
    x = np.linspace(0.5, 1.5, n)
    planned = on_root(comm, lambda: plan(trace(f, (x,)).tape, [comm.size], strategy=partition).layouts[-1])
    with dd.linearize(f, x, comm=comm, method=planned.method, partition="auto" if comm.size == 1 else partition) as lin:
        lin.update(1.001 * x)
        lin.vjp(np.ones_like(lin.value))
        report = lin.report()
    assert report.k_star == planned.k_star and report.max_work == planned.max_work
    assert (report.messages, report.halo_bytes) == (planned.messages, planned.halo_bytes)
    assert 0.5 <= planned.memory / report.memory_per_rank_bytes <= 2.0
    for chosen in [c for c in report.partition_candidates if c["chosen"]]:  # on several ranks: the report says the same
        assert int(chosen["job"]["memory"]) == planned.memory and not chosen["job"]["at_most"]


def test_a_grid_gains_and_a_chain_does_not(layouts):
    seconds = [layout.seconds for layout in layouts.layouts]
    assert seconds == sorted(seconds, reverse=True) and layouts.best.ranks > 1
    memory = [layout.memory for layout in layouts.layouts]
    assert memory == sorted(memory, reverse=True)
    alone = plan(trace(chain, (np.ones(4),)).tape, [2, 8], machine=Machine())
    assert alone.best.ranks == 1
    assert "beyond 1" in alone.verdict() and "longest path" in alone.verdict()


@pytest.mark.parametrize(("f", "x", "best", "because"), [
    (chain, np.ones(4), {1}, "longest path"),
    (lambda x: np.sum(np.tanh(np.outer(x, np.linspace(0, 1, 100_000))) ** 2), np.ones(8), {4, 16, 64, 256}, ""),
    (lambda u: grid(grid(u)), np.ones(300_000), {4, 16, 64}, ""),
    (tangle, np.ones(4), {1}, "could be computed at a time"),
])
def test_where_more_ranks_stop_paying(f, x, best, because):
    """A chain, many samples, a grid in time, and lines that read each other from anywhere."""
    found = plan(trace(f, (x,)).tape, [2, 4, 16, 64, 256], machine=Machine())
    assert found.best.ranks in best and because in found.verdict()
    seconds = [layout.seconds for layout in found.layouts]
    assert min(seconds) == pytest.approx(found.best.seconds, rel=0.06)  # nothing beyond is worth it
    for layout in found.layouts[-2:]:  # nor is it taken where it hurts: a parcel a rank is packed, and all agree
        parcels = (Machine().share_rank * layout.ranks + Machine().share_call) / POINTS
        assert layout.seconds <= 1.3 * found.best.seconds + parcels


def small_steps(u):
    for _ in range(60):
        u = u + 0.1 * np.sin(u) * np.roll(u, 1)
    return np.sum(u)


def plane(u):
    for _ in range(12):
        u = u + 0.1 * (np.roll(u, 1, 0) - 2 * u + np.roll(u, -1, 1)) * u
    return np.sum(u * u)


def samples(x):
    total = 0.0
    for k in range(3000):
        total = total + np.sin(x[k % 4] * k) * x[(k + 1) % 4]
    return total


@pytest.mark.parametrize(("f", "x", "solves"), [
    (grid, np.ones(50_000), 1), (burgers, np.ones(20_000), 1), (small_steps, np.ones(400), 1), (chain, np.ones(4), 9),
    (plane, np.ones((100, 60)), 50), (wide, np.ones(8), 1), (tree, np.ones(1 << 12), 1), (samples, np.ones(4), 1),
    (tangle, np.ones(4), "jacobian")])
def test_more_ranks_never_take_longer(f, x, solves):
    """Some of them may be left without work, at no cost: so whatever fewer promise, more do."""
    ranks = [2, 3, 16, 50]
    found = plan(trace(f, (x,)).tape, ranks, solves, machine=Machine())
    alone, *seconds = [layout.seconds for layout in found.layouts]
    assert all(more <= fewer for fewer, more in zip(seconds, seconds[1:])), list(zip(ranks, seconds))
    columns = found.columns if solves != 1 else 1  # all ranks agree after every pass on whether it failed
    assert seconds[0] <= (1.0 + 1e-9) * (alone + Machine().exchange * columns)
    assert "more ranks" in found.verdict()


@pytest.mark.parametrize("f, x", [(grid, np.ones(20_000)), (plane, np.ones((64, 64))), (short, np.ones(4))])
def test_ranks_without_work_cost_nothing(f, x):
    """What a layout promises on the first four of many ranks is what it promises on four."""
    tape = trace(f, (x,)).tape
    four, many = (candidates.make(tape, n, "axes and streaming", 4, 64, {}, machine=Machine()) for n in (4, 64))
    judge = Judge(tape, Use(), Machine())
    assert amounts(tape, many) == amounts(tape, four) and amounts(tape, four)["share_rank"] == 4
    assert judge(many).seconds == pytest.approx(judge(four).seconds)
    shares = localize_all(tape, many)
    assert len(shares) == 64 and not any(local.items or local.n_own for local in shares[4:])
    assert [local.lines for local in shares[:4]] == [local.lines for local in localize_all(tape, four)]


def test_ranks_without_work_are_the_messages_doing(layouts):
    """A layout on fewer ranks than there are is taken for what sharing out further would cost."""
    more = replace(layouts.layouts[-1], ranks=64, name="axes on 16 ranks", balance=4.0)
    said = replace(layouts, layouts=(*layouts.layouts, more)).verdict()
    assert "beyond 16" in said and "leaves the others without work" in said


@pytest.mark.parametrize(("seconds", "method", "said"), [
    (12.0, "neumann", "computing takes longer on each of them, by neumann instead of "),
    (1.0, None, "what a rank computes no longer falls"),
])
def test_what_computing_becomes_is_what_is_said_of_it(layouts, seconds, method, said):
    last = replace(layouts.layouts[-1], exchanging=0.1 * layouts.layouts[-1].seconds, balance=1.0, messages=9)
    more = replace(last, ranks=64, method=method or last.method, seconds=seconds * last.computing + last.exchanging)
    verdict = replace(layouts, layouts=(last, more)).verdict()
    assert "beyond 16" in verdict and said in verdict


def test_ranks_that_no_machine_has():
    """As many ranks as lines and no more are laid out; more than a process can hold something for are refused."""
    tape = trace(chain, (np.ones(4),)).tape
    few, many, most = (plan(tape, [n], machine=Machine()).layouts[-1] for n in (4000, 10**9, 10**18))
    assert (many.ranks, most.ranks) == (10**9, 10**18) and tape.lines < 4000
    assert many.seconds == most.seconds <= few.seconds and many.memory == few.memory
    assert many.balance == pytest.approx(10**9, rel=0.01)
    assert "more ranks stop paying beyond 1:" in plan(tape, [10**9], machine=Machine()).verdict()
    tape = trace(lambda x: grid(grid(x)), (np.ones(100_000),)).tape
    assert plan(tape, [1 << 19], machine=Machine()).layouts[-1].name == plan(
        tape, [1 << 13], machine=Machine()).layouts[-1].name
    for ranks, strategy, most in (10**9, "auto", "1,048,576"), (1 << 17, "axes", "16,384"):
        with pytest.raises(dd.errors.InputError, match=f"no layout is made for {ranks:,} ranks.*ask for {most} at"):
            plan(tape, [ranks], strategy=strategy)


def test_a_chain_of_two_numbers_is_its_longest_path():
    """Two lines at a time for two ranks are no choice."""
    def pair(x):
        a, b = x[0], x[1]
        for _ in range(300):
            a, b = a + 0.1 * np.sin(b), b - 0.1 * np.cos(a)
        return a * b

    assert "longest path" in plan(trace(pair, (np.ones(2),)).tape, [2], machine=Machine()).verdict()


def test_equations_one_after_another_are_no_work_for_many():
    """Ranks that wait for each other's solutions gain nothing, and solve anew what one rank has from the trace."""
    def steps(x):
        for _ in range(6):
            x = dd.implicit.root(lambda y, x: x + 0.1 * x**3 - 0.1 * (np.roll(x, 1) + np.roll(x, -1)) - y, x, 30.0 * x)
        return np.sum(x**2)

    found = plan(trace(steps, (np.linspace(0.5, 1.5, 400),)).tape, [2, 16], machine=Machine())
    assert found.best.ranks == 1 and "longest path" in found.verdict()
    assert all(layout.seconds >= 0.99 * found.best.seconds for layout in found.layouts)


def test_sums_in_loops_are_no_chains():
    def batch(x):
        total = 0.0
        for k in range(2000):
            total = total + np.sin(x[k % 4] * k) * x[(k + 1) % 4]
        return total

    found = plan(trace(batch, (np.ones(4),)).tape, [2], machine=Machine())
    assert "longest path" not in found.verdict() and "computed at a time" in found.verdict()
    assert not found.layouts[-1].messages and "one rank keeps them all" in found.verdict()


def test_a_program_without_statements():
    found = plan(trace(lambda x: x, (np.ones(4),)).tape, [2, 8], machine=Machine())
    assert found.best.ranks == 1 and "nothing to compute" in str(found)


def test_latency_is_named_where_it_is_the_reason():
    slow = Machine(wait=1e-2)
    found = plan(trace(grid, (np.ones(200_000),)).tape, [2, 8], machine=slow)
    assert found.best.ranks == 1
    assert "beyond 1" in found.verdict()


def test_columns_cost_seconds_and_memory(layouts):
    tape = trace(grid, (np.ones(200_000),)).tape
    use = Use(100, 32)
    many, judge = plan(tape, [4, 16], columns=use, machine=Machine()), Judge(tape, use, Machine())
    for one, hundred in zip(layouts.layouts, many.layouts):
        assert hundred.seconds > 2 * one.seconds and hundred.memory > one.memory
        made = partition(tape, hundred.ranks, machine=Machine(), columns=use.split, judge=judge)
        assert hundred.halo_bytes == 100 * 8 * made.quality.halo  # its halos may be deeper, or less deep


def test_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "model.py").write_text("import numpy as np\ndef loss(u):\n    return np.sum(np.sin(u) ** 2)\n")
    np.savez(tmp_path / "x.npz", u=np.ones(1000))
    call = ["plan", f"{tmp_path}/model.py:loss", "--input", str(tmp_path / "x.npz"), "--ranks", "2,64", "--quiet"]
    assert cli.main(call) == 0
    text = capsys.readouterr().out
    assert "more ranks stop paying" in text and "defaults" in text
    assert cli.main([*call, "--json", "--columns", "3"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [layout["ranks"] for layout in data["layouts"]] == [1, 2, 64] and data["columns"] == 3
    dd.trace(lambda u: np.sum(np.sin(u) ** 2), np.ones(1000)).save(tmp_path / "f.tape")
    assert cli.main([call[0], str(tmp_path / "f.tape"), *call[2:]]) == 0  # as many lines as the function has
    assert capsys.readouterr().out.splitlines()[0] == text.splitlines()[0]
    assert cli.main([*call[:-2], "2;64"]) == 1
    assert "--ranks 2,16" in capsys.readouterr().err
