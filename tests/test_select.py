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
from distdiff.solvers.select import choose

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
