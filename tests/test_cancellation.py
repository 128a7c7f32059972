"""Work that is cancelled ends between two supersteps, on all ranks after the same one, and leaves everything sound."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff import cancellation
from distdiff.cancellation import watch_of, watched
from distdiff.errors import CancelledError
from distdiff.solvers import sweep_table
from distdiff.tracing import recorder, scalar

pytestmark = [pytest.mark.mpi, pytest.mark.few_ranks]
X = np.linspace(0.2, 1.4, 60)
LEAST = {"sweep": 3, "substitution": 1, "neumann": 4, "krylov": 2, "interface": 1, "direct": 0, "petsc": 1}


def f(x):
    for _ in range(6):
        x = np.tanh(x + 0.3 * np.roll(x, 1) - 0.2 * np.roll(x, -1))
    return x


def turns(x):
    s = x[0]
    for _ in range(250):
        s = np.sin(s) + 0.5 * s
    return s


def chain(x):
    s = x[0]
    for k in range(1, 60):
        s = np.sin(s) + x[k] * s
    return s


class Count:
    """How often it was looked; true from the look `at` on."""

    def __init__(self, at: int | None = None) -> None:
        self.looks, self.at = 0, at

    def __call__(self) -> bool:
        self.looks += 1
        return self.at is not None and self.looks > self.at


@pytest.fixture(autouse=True)
def every_superstep(monkeypatch, plain_loops):
    monkeypatch.setattr(cancellation, "EVERY", 0.0)
    monkeypatch.setattr(sweep_table, "PART", 50)


def cancelled_anywhere(comm: Any, work: Callable[[], Any], wanted: Any, again: Callable[[], Any] = lambda: None) -> int:
    """Cancel `work` at its first look, at its last and between; see that it gives `wanted` afterwards.  Its looks."""
    work()  # whatever is set up once
    count = Count()
    with watched(comm, count):
        np.testing.assert_allclose(work(), wanted, rtol=1e-12, atol=1e-13)
    looks = comm.bcast(count.looks)
    for at in sorted({0, looks // 3, looks // 2, looks - 1} & set(range(looks))):
        stop = Count(at)
        with watched(comm, stop), pytest.raises(CancelledError, match="between two supersteps|has the whole program"):
            work()
        assert comm.rank or stop.looks == at + 1
        again()
        assert watch_of(comm) is None
        np.testing.assert_allclose(work(), wanted, rtol=1e-12, atol=1e-13)
    return looks


@pytest.mark.parametrize("method, options, partition", [
    ("sweep", {}, "axes"), ("substitution", {}, "axes"), ("neumann", {}, "axes"), ("krylov", {}, "axes"),
    ("krylov", {"preconditioner": "substitution", "ksp_type": "bcgs"}, "axes"),
    ("interface", {}, "contiguous"), ("direct", {}, "axes"), ("petsc", {}, "axes")])
def test_every_method_ends_early_and_answers_afterwards(comm, method, options, partition):
    x = X[:10] if method == "interface" else X  # as narrow as it wants
    v, w = np.cos(x), np.sin(3 * x)
    with dd.linearize(f, x, comm=comm, method="sweep") as right:
        ydot, xbar, jacobian = right.jvp(v), right.vjp(w), right.jacobian()
    with dd.linearize(f, x, comm=comm, method=method, options=options, partition=partition, min_block=1,
                      on_failure="raise") as lin:
        assert lin.report().method == method
        looks = [cancelled_anywhere(comm, lambda: lin.jvp(v), ydot), cancelled_anywhere(comm, lambda: lin.vjp(w), xbar),
                 cancelled_anywhere(comm, lambda: lin.batch("jvp", range(2)), jacobian[:, :2])]
    assert min(looks) >= LEAST[method], looks


@pytest.mark.parametrize("method", ["sweep", "substitution", "krylov"])
def test_who_has_the_whole_program_gives_up_too(comm, method):
    """A pass of every rank by itself: all leave out the rest once rank 0 says so, and raise together."""
    v, w = np.cos(X), np.sin(3 * X)
    with dd.linearize(f, X, comm=comm, method="sweep") as right:
        ydot, xbar, jacobian, there = right.jvp(v), right.vjp(w), right.jacobian(), f(2 * X)
    with dd.linearize(f, X, comm=comm, method=method, partition="right-hand sides") as lin:
        for work, wanted in ((lambda: lin.jvp(v), ydot), (lambda: lin.vjp(w), xbar),
                             (lambda: lin.batch("jvp", range(7)), jacobian[:, :7])):
            cancelled_anywhere(comm, work, wanted)
        for at in (0, 3):
            with watched(comm, Count(at)), pytest.raises(CancelledError):
                lin.update(2 * X)
            np.testing.assert_allclose(lin.update(2 * X), there, rtol=1e-14)
        lin.update(X)
        np.testing.assert_allclose(lin.vjp(w), xbar, rtol=1e-12, atol=1e-13)
        with watched(comm, Count(0)), pytest.raises(CancelledError, match="whole program|two supersteps"):
            lin.vjp(w)
        assert not comm.Iprobe(MPI.ANY_SOURCE, cancellation.STOP)  # nothing is left on its way


def test_scalar_code_and_the_pipeline(comm):
    wanted = dd.grad(chain)(X)
    for method in ("sweep", "pipeline"):
        with dd.linearize(chain, X, comm=comm, method=method, partition="contiguous", min_block=1) as lin:
            cancelled_anywhere(comm, lambda: lin.vjp(1.0), wanted)


def test_a_pipeline_ends_between_its_supersteps(comm, monkeypatch):
    """What is left of it is passed on, on all ranks, without being computed."""
    with dd.linearize(f, X, comm=comm, method="pipeline", partition="axes", min_block=1,
                      options={"pipeline_columns": 3}) as lin:
        wanted = lin.batch("vjp", range(20))
        looks = cancelled_anywhere(comm, lambda: lin.batch("vjp", range(20)), wanted)
        rows = lin.batch("jvp", range(20))
        cancelled_anywhere(comm, lambda: lin.batch("jvp", range(20)), rows)
        k_star = lin.report().k_star
        assert comm.size == 1 or looks >= 2 * k_star
        assert not comm.Iprobe(MPI.ANY_SOURCE, cancellation.STOP)


def test_a_move_that_is_cancelled_leaves_no_point_until_the_next(comm):
    with dd.linearize(f, X, comm=comm, partition="axes", min_block=1) as lin:
        value, there = lin.value, f(2 * X)
        looks = cancelled_anywhere(comm, lambda: lin.update(2 * X), there,
                                   lambda: np.testing.assert_array_equal(lin.update(X), value))
        assert looks >= 5
        stop = Count(2)
        with watched(comm, stop), pytest.raises(CancelledError):
            lin.update(2 * X)
        with pytest.raises(dd.errors.InputError, match="no point"):
            lin.vjp(X)


def test_second_derivatives_and_what_was_being_set_up(comm):
    def energy(x):
        return np.sum(np.tanh(x + 0.3 * np.roll(x, 1)) ** 2)

    with dd.linearize(energy, X, comm=comm) as right:
        product = right.hvp(X)
    for at in (0, 4, 8):
        with dd.linearize(energy, X, comm=comm) as lin:
            with watched(comm, Count(at)), pytest.raises(CancelledError):
                lin.hvp(X)
                lin.hessian()
            np.testing.assert_allclose(lin.hvp(X), product, rtol=1e-11, atol=1e-12)


def test_a_linearization_that_is_cancelled_is_none(comm):
    for at in range(3):
        with watched(comm, Count(at)), pytest.raises(CancelledError):
            dd.linearize(f, X, comm=comm, partition="axes", min_block=1)
    np.testing.assert_allclose(dd.vjp(f, X, comm=comm)[0], f(X), rtol=1e-14)


def test_a_trace_and_a_partition_end_early(comm, monkeypatch):
    """Wherever rank 0 notices while it traces or lays out, all ranks raise; f can't go on by catching it."""
    monkeypatch.setattr(recorder, "RUN_LINES", 200)
    monkeypatch.setattr(scalar, "RUN_LINES", 200)

    def caught(x):
        try:
            return np.sum(f(x))
        except Exception:
            return x

    def made(function, watch):
        with watched(comm, watch), dd.linearize(function, X, comm=comm, partition="axes", min_block=1) as lin:
            return lin.value

    # Compiling takes longer than all else here, and rank 0 traces alone on any number of ranks.
    compiled = [(dd.compiled(turns), 1)] if comm.size == 1 else []
    for function, lines in ((f, 30), (caught, 30), *compiled, (turns, 3)):
        count = Count()
        with watched(comm, count):
            dd.trace(function, X, comm=comm)
        tracing = comm.bcast(count.looks)
        assert tracing > lines
        for at in (0, tracing // 2, tracing - 1):
            with pytest.raises(CancelledError, match="while the function was traced"):
                made(function, Count(at))
    with pytest.raises(CancelledError, match="between two " + ("layouts" if comm.size > 1 else "supersteps")):
        made(turns, Count(tracing))
    assert made(turns, Count()) == turns(X)


def test_who_watches_another_communicator_changes_nothing(comm):
    other = comm.Dup()
    count = Count(0)
    with dd.linearize(f, X, comm=comm) as lin, watched(other, count):
        lin.vjp(X)
    assert count.looks == 0
    other.Free()


def test_looks_are_as_far_apart_as_supersteps_allow(comm, monkeypatch):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(cancellation, "time", clock)
    monkeypatch.setattr(cancellation, "EVERY", 0.01)
    count = Count()

    def looks(supersteps: int, seconds: float) -> int:
        before = count.looks
        for _ in range(supersteps):
            clock.now += seconds
            watch.look()
        return count.looks - before

    with watched(comm, count):
        watch = watch_of(comm)
        found = [looks(1000, 1e-6), looks(64, 0.05), looks(100, 0.05), looks(1000, 1e-3)]
        if comm.size > 1 and comm.rank == 0:
            # 1, 2, 4, ... 64 apart, 14 times; the next comes 23 supersteps later, and then every one; every tenth
            assert found[:3] == [6 + 14, 1 + 64 - 23, 100], found
            assert found[3] == pytest.approx(100, abs=5), found


def smoothing(x):
    for _ in range(12):
        x = x + 0.1 * np.sin(np.roll(x, 1) * x)
    return x


@pytest.mark.parametrize("partition", ["axes", "contiguous"])
def test_ranks_look_together_whatever_is_left_to_compute(comm, partition, monkeypatch):
    """Some have nothing to do after the last exchange, which is no reason to look once more than others."""
    looks, look = [], cancellation.Watch.look
    monkeypatch.setattr(cancellation.Watch, "look", lambda self, last=False: (looks.append(last), look(self, last)))
    monkeypatch.setattr(cancellation, "EVERY", 1e9)  # few looks are messages
    x = np.linspace(0.1, 1.0, 200)
    with dd.linearize(smoothing, x, comm=comm, method="sweep", partition=partition, min_block=1) as lin:
        for kind in ("jvp", "vjp"):
            for columns in (1, 5):
                with watched(lin.comm, lambda: False):
                    lin.batch(kind, np.ones((200, columns)))
        found = comm.allgather(looks)
        assert all(one == found[0] for one in found) and True in looks
