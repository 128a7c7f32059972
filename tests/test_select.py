"""The choice of a method: what its cost functions promise, and what the report says of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import distdiff as dd
from distdiff.machine import Machine
from distdiff.solvers import METHODS, method
from distdiff.solvers.cost import Cost, Work
from distdiff.solvers.measured import Clock
from distdiff.solvers.select import choose
from distdiff.solving import FEW, Expected, Solving

GRID = Work(array_lines=1_000_000, scalar_lines=0, items=300, k_star=1, ranks=1, copies=280, copy_lines=900_000,
            nodes=1_000_000, nonzeros=1_800_000, inputs=1000, outputs=1000)
CHAIN = Work(array_lines=0, scalar_lines=100_000, items=2, k_star=1, ranks=1, runs=2, nodes=100_000, nonzeros=150_000,
             inputs=6, outputs=1)
SPREAD = replace(GRID, k_star=101, ranks=2, messages=100, halo=200, interface=200)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("work", [GRID, CHAIN, SPREAD])
def test_costs_are_positive_and_grow_with_columns(name, work):
    found = [method(name).cost(work, columns, Machine()) for columns in (1, 20, 1000)]
    for cost in found:
        assert cost.reason
        if cost.seconds is not None:
            assert 0 < cost.seconds < math.inf and 0 <= cost.memory < math.inf
    seconds = [cost.seconds for cost in found if cost.seconds is not None]
    assert seconds == sorted(seconds)


def test_set_up_counts_against_solves():
    assert choose(GRID, 1, Machine()).method == "sweep"
    assert choose(CHAIN, 1000, Machine()).method != "sweep"
    assembled = replace(CHAIN, assembled=True, kept_rows=10)
    assert choose(assembled, 1, Machine()).method != "krylov"


def test_every_candidate_is_explained():
    choice = choose(SPREAD, 20, Machine())
    assert [c.method for c in choice.candidates] == list(METHODS)
    assert all(c.reason for c in choice.candidates)
    assert choice.method in {c.method for c in choice.candidates} and "cheapest for 20" in choice.reason
    asked = choose(SPREAD, 20, Machine(), "direct")
    assert asked.method == "direct" and choice.method in asked.reason


def test_what_does_not_apply_is_not_chosen(monkeypatch):
    from distdiff.solvers import sweep

    monkeypatch.setattr(sweep, "METHOD", replace(sweep.METHOD, cost=lambda *_: Cost.none("no way here")))
    choice = choose(GRID, 1, Machine())
    assert choice.method != "sweep"
    assert next(c for c in choice.candidates if c.method == "sweep").seconds is None


@pytest.mark.mpi
def test_all_ranks_take_the_choice_of_rank_0(comm, monkeypatch):
    from distdiff import solving

    machine = Machine(sweep_call=9.0, krylov_call=9.0, direct_call=9.0) if comm.rank == 0 else Machine()
    monkeypatch.setattr(solving, "current_machine", lambda: machine)
    with dd.linearize(lambda u: np.sum(u * u), np.ones(5), comm=comm) as lin:
        assert lin.vjp(1.0).tolist() == [2.0] * 5
        report = lin.report()
        assert report.method == "substitution"
        assert all(c.memory >= 0 for c in report.candidates) and "a rank" in str(report)


@pytest.mark.parametrize(("points", "found"), [
    ([1] * 9, [1] * 9),  # a loop of update and vjp
    ([[1] * 9], [1, 1, 1, 1, 8, 8, 8, 8, 16]),  # many at one point: as many again as came
    ([20, 20, 20, [20, 20]], [20, 20, 20, 20, 64]),  # a Jacobian a point, and one more
    ([[1] * 6, [1] * 6, 1], [1, 1, 1, 1, 8, 8] * 2 + [8]),  # as many as usual, from the third point on
    ([100, 1, 1, 100, 1], [100, 1, 1, 100, 1]),  # what came once is not usual
])
def test_as_many_are_expected_as_came(points, found):
    expected, said = Expected(), []
    for point in points:
        said += [expected.come(count) for count in np.atleast_1d(point).tolist()]
        expected.leave()
    assert said == found


def steps(x):
    p, q, kept = x[0], x[1], []
    for _ in range(1500):
        p, q = p + 0.01 * np.sin(q), q - 0.01 * p * q
        kept.append(p * q)
    return np.stack(kept)


@pytest.fixture
def prepared(monkeypatch):
    """Every solver and every matrix that is set up or gets another point's values, and which method each solve took."""
    found, make, assemble = [], Solving._make, Solving.assemble

    def made(self, name):
        found.append(("new " if name not in self.solvers else "again ") + name)
        make(self, name)

    def assembled(self):
        if self.assembly is None or "assembly" in self._stale:
            found.append("values" if self.assembly is not None else "matrix")
        assemble(self)

    monkeypatch.setattr(Solving, "_make", made)
    monkeypatch.setattr(Solving, "assemble", assembled)
    return found


@pytest.mark.mpi
def test_a_point_a_gradient_keeps_the_method(comm, prepared):
    """update and vjp in turns: nothing but the first method is ever set up, once, and its values follow."""
    x = np.array([0.5, 1.5])
    with dd.linearize(steps, x, comm=comm) as lin:
        first, w = lin.choice, np.ones(1500)
        for k in range(2 * FEW * FEW):
            lin.update(x * (1.0 + 1e-3 * k))
            lin.vjp(w)
            assert lin.choice == first
    again = [f"again {first.method}"] * (2 * FEW * FEW)
    assert [what for what in prepared if what not in ("matrix", "values")] == [f"new {first.method}", *again]


@pytest.mark.mpi
@pytest.mark.few_ranks
def test_many_solves_at_a_point_pay_for_a_faster_method(comm, prepared, monkeypatch):
    """It is set up once, when it would have paid for those that came; at other points it is there from the start once
    they usually are as many."""
    from distdiff import solving

    monkeypatch.setattr(solving, "current_machine", Machine)
    x, w = np.array([0.5, 1.5]), np.linspace(-1.0, 1.0, 1500)
    with dd.linearize(steps, x, comm=comm) as lin:
        slow, expected, methods = lin.choice, lin.vjp(w), []
        for k in range(3):
            for _ in range(150):
                found = lin.vjp(w)
                methods.append(lin.choice.method)
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            if k < 2:
                lin.update(x * 0.9), lin.update(x)
        changes = [n for n, (a, b) in enumerate(zip([slow.method, *methods], methods)) if a != b]
        assert slow.method == "sweep" and methods[-1] == "substitution"
        assert len(changes) == 3 and changes[0] > FEW and changes[1] == 150  # there, back at the next point, and there
        assert methods[300] == "substitution"
        assert prepared.count("new substitution") == prepared.count("matrix") == 1
        assert prepared.count("values") == 2
        cost = {n: {c.method: c.seconds for c in choose(lin._solving.work(1), n, Machine()).candidates}
                for n in (1, 2 * changes[0])}
        with dd.linearize(steps, x, comm=comm, method="substitution") as other:
            setup = choose(replace(other.work, together=1), 1, Machine()).candidates
        spent = changes[0] * cost[2 * changes[0]]["sweep"] / (2 * changes[0])
        assert next(c.seconds for c in setup if c.method == "substitution") <= 8 * spent


def test_memory_that_nobody_asked_for_is_not_taken(monkeypatch):
    from distdiff import solving

    monkeypatch.setattr(solving, "ROOMY", 0)
    monkeypatch.setattr(solving, "current_machine", Machine)
    with dd.linearize(steps, np.array([0.5, 1.5]), method="auto") as lin:
        for _ in range(100):
            lin.vjp(np.ones(1500))
        assert lin.choice.method == "sweep"  # the matrix takes more than the values
        assert lin._solving.choose(100, 1).method == "substitution"


@pytest.mark.mpi
@pytest.mark.parametrize("wanted", ["sweep", "substitution"])
def test_further_solves_are_told_beside_their_prediction(comm, wanted, monkeypatch):
    def f(x):
        return np.cumsum(np.sin(x) * x)

    x = np.linspace(0.5, 1.5, 40)
    with dd.linearize(f, x, comm=comm, method=wanted) as lin:
        assert lin.report().measured is None
        for k in range(4):
            lin.vjp(np.ones(40))
            assert (lin.report().measured is None) == (k == 0)  # the first sets up
        found = lin.report().measured
        assert (found.method, found.columns, found.solves) == (wanted, 1, 3)
        assert found.seconds > 0 and found.predicted > 0
        assert comm.allgather(found) == [found] * comm.size
        assert f"{wanted}: 3 further solves with 1 right-hand side took" in str(lin.report())
        lin.jacobian()  # a first solve of its width
        assert lin.report().measured.columns == 1


def test_what_is_far_from_its_prediction_is_said():
    clock = Clock()
    for seconds in (9.0, 1.0, 1.2, 1.2, 8.0):
        clock.note("sweep", 3, seconds)
    for seconds in (9.0, 1.0):
        clock.note("sweep", 1, seconds)
    clock.note("direct", 3, 1.0)
    for predicted, word in ((1.0, ""), (0.1, "12 times"), (10.0, "0.12 times"), (None, "")):
        found = clock.measured("sweep", lambda columns, predicted=predicted: predicted)
        assert (found.columns, found.solves, found.seconds) == (3, 4, 1.2)
        assert word in found.verdict and bool(word) == bool(found.verdict)
    clock.note("walk", 1, 0.0)
    clock.note("walk", 1, 60e-6)
    assert clock.measured("walk", lambda columns: 10e-6).verdict == ""  # what a call takes is no rate
    assert clock.measured("direct", float) is None and clock.measured("krylov", float) is None
