"""The rates of messages: L, o, g and G between two ranks, and what supersteps take on all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI

from ..comm import on_root
from ..evaluate import evaluate
from ..machine import Machine
from ..partition import LocalTape, amounts, distribute, partition
from ..solvers.layouts import SUPERSTEPS
from ..solvers.sweep import Sweep, plan_amounts
from ..solvers.work import count
from ..tracing import trace
from .fit import Fitted, Sample, fit, unrest
from .programs import programs
from .stages import ROUNDS

PINGS = 300  # messages there and back
FAR = 20_000  # inputs beyond which programs are left out: what they hold is large, not what is shared out
PLANES = ((16, 16, 40, 0), (16, 16, 20, 4), (32, 200, 30, 0), (32, 200, 15, 3), (96, 96, 20, 0), (96, 96, 12, 5),
          (256, 128, 10, 0), (256, 128, 6, 4))  # rows a rank, columns, steps, statements more


def messages(comm: MPI.Comm) -> list[Fitted]:
    """L, o, g and G between rank 0 and the last rank; the others wait.  Collective."""
    found: dict[str, list[float]] = {"latency": [], "overhead": [], "gap": [], "byte": []}
    small, large = np.zeros(1), np.zeros(1 << 17)
    other = comm.size - 1
    for _ in range(ROUNDS):
        comm.Barrier()
        if comm.rank in (0, other):
            peer = other - comm.rank
            half = _ping(comm, small, peer, PINGS)
            bulk = _ping(comm, large, peer, 10)
            start = time.perf_counter()
            requests = [comm.Isend(small, peer) for _ in range(PINGS)] if comm.rank == 0 else []
            sent = time.perf_counter() - start
            for _ in range(PINGS if comm.rank else 0):
                comm.Recv(small, peer)
            MPI.Request.Waitall(requests)
            total = time.perf_counter() - start
            overhead = min(sent / PINGS, half / 2)
            found["overhead"].append(overhead)
            found["latency"].append(half - 2 * overhead)
            found["gap"].append(total / PINGS)
            found["byte"].append(max(bulk - half, 0.0) / large.nbytes)
        comm.Barrier()
    found = comm.bcast(found)
    # The lower quartile: what disturbs a message can only delay it.
    whole = [o + lat for o, lat in zip(found["overhead"], found["latency"])]
    return [Fitted("messages", {k: float(np.quantile(v, 0.25)) for k, v in found.items()},
                   {k: (min(v), max(v)) for k, v in found.items()}, {}, unrest([whole, found["gap"]]))]


def _ping(comm: MPI.Comm, buffer: np.ndarray, peer: int, times: int) -> float:
    """Seconds one way."""
    start = time.perf_counter()
    for _ in range(times):
        if comm.rank == 0:
            comm.Send(buffer, peer)
            comm.Recv(buffer, peer)
        else:
            comm.Recv(buffer, peer)
            comm.Send(buffer, peer)
    return (time.perf_counter() - start) / (2 * times)


def waits(comm: MPI.Comm, machine: Machine) -> list[Fitted]:
    """Evaluation and a solve on all ranks, superstep by superstep: lines, statements, and waits for neighbours; and
    what a superstep adds to planning a sweep.

    Collective.  Loops that messages cut are no longer one operation, so these rates are none of one rank's.
    """
    passes, plans = [], []
    for rows, columns, steps, more in PLANES:
        local = _plane(comm, rows * comm.size, columns, steps, more)
        name = f"{rows} x {columns} a rank, {steps} steps, {more} more"
        passes.append(_passes(comm, local, name, machine))
        plans.append(_plans(comm, local, name, machine))
        local.close()
    planning = fit("planning supersteps", plans)  # differences of times, whose unrest is none of the machine's
    return [fit("supersteps", passes), replace(planning, unrest=1.0)]


def shares(comm: MPI.Comm) -> list[Fitted]:
    """Handing every rank its share of programs of many sizes, or all of it.  Collective."""
    sharing: dict[str, list[Sample]] = {"sharing a program out": [], "the whole program to all": []}
    for name, f, x in programs()[::3]:
        if len(x) > FAR:
            continue
        for strategy in ("axes", "contiguous", "right-hand sides"):
            seconds, counted = [], {}
            for _ in range(ROUNDS + 1):
                def laid(f: Any = f, x: np.ndarray = x, strategy: str = strategy) -> Any:
                    tape = trace(f, (x,)).tape  # it is used up
                    return tape, partition(tape, comm.size, strategy=strategy, depth=1)
                tape, made = on_root(comm, laid, share=False) or (None, None)
                counted = on_root(comm, lambda tape=tape, made=made: amounts(tape, made))
                seconds.append(_together(comm, partial(distribute, tape, made, comm)))
            stage = list(sharing)["copy_call" in counted]
            sharing[stage].append(Sample(stage, f"{name}, {strategy}", counted, comm.bcast(seconds[1:])))
    # Fresh memory and Python's own work, whose unrest is none of the messages'
    return [replace(fit(stage, of), unrest=1.0) for stage, of in sharing.items() if of]


def _passes(comm: MPI.Comm, local: LocalTape, name: str, machine: Machine) -> Sample:
    """Evaluation and a solve, over and over."""
    values, seed = np.ones(len(local.inputs.ids)), np.ones(len(local.outputs.ids))
    point = evaluate(local, values, comm)
    sweep = Sweep(local, point, comm)

    def once() -> None:
        sweep.refresh(evaluate(local, values, comm, values=point.values))
        sweep.adjoint(seed)

    seconds = [_together(comm, once) for _ in range(2 * ROUNDS + 1)]
    sweep.close()
    work, supersteps = count(local, comm), len(local.steps) - 1
    known = 2 * (supersteps * machine.superstep + 8 * machine.byte * work.halo)
    spent = comm.bcast([max(s - known, 1e-7) for s in seconds[1:]])
    return Sample("supersteps", name, {"item": work.items, "line": work.array_lines, "wait": 2 * supersteps}, spent)


def _plans(comm: MPI.Comm, local: LocalTape, name: str, machine: Machine) -> Sample:
    """A first solve beyond a further one, and beyond what its statements take."""
    point, seed = evaluate(local, np.ones(len(local.inputs.ids)), comm), np.ones(len(local.outputs.ids))
    work, supersteps = count(local, comm), len(local.steps)
    copies = max(supersteps - SUPERSTEPS, 0) * work.copies // supersteps
    known = machine.seconds({**plan_amounts(replace(work, copies=copies)), "plan_exchange": 0})
    seconds = []
    for _ in range(ROUNDS + 1):
        sweep = Sweep(local, point, comm)
        first = _together(comm, partial(sweep.adjoint, seed))
        again = _together(comm, partial(sweep.adjoint, seed))
        seconds.append(max(first - again - known, 1e-7))
        sweep.close()
    return Sample("planning supersteps", name, {"plan_exchange": len(local.steps) - 1}, comm.bcast(seconds[1:]))


def _together(comm: MPI.Comm, call: Callable[[], Any]) -> float:
    """Seconds from a common start until the last rank is done."""
    comm.Barrier()
    start = time.perf_counter()
    call()
    comm.Barrier()
    return time.perf_counter() - start


def _plane(comm: MPI.Comm, rows: int, columns: int, steps: int, more: int) -> LocalTape:
    """This rank's share of a plane that exchanges rows in every step, with some statements more in each."""
    def f(u: Any) -> Any:
        for _ in range(steps):
            for _ in range(more):
                u = 0.99 * u + 0.01 * u * u
            u = u + 0.1 * (np.roll(u, 1, 0) - 2.0 * u + np.roll(u, -1, 0)) * u
        return np.sum(u * u)

    tape = on_root(comm, lambda: trace(f, (np.ones((rows, columns)),)).tape, share=False)
    plan = on_root(comm, lambda: partition(tape, comm.size, strategy="axes", depth=1), share=False)
    return distribute(tape, plan, comm)


__all__ = ["messages", "shares", "waits"]
