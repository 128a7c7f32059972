"""The rates of messages: L, o, g and G between two ranks, and what supersteps take on all of them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from mpi4py import MPI

from ..comm import on_root
from ..evaluate import evaluate
from ..machine import Machine
from ..partition import LocalTape, distribute, partition
from ..solvers.sweep import Sweep
from ..solvers.work import count
from ..tracing import trace
from .fit import Fitted, Sample, fit, unrest
from .stages import ROUNDS

PINGS = 300  # messages there and back
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


def waits(comm: MPI.Comm, machine: Machine) -> Fitted:
    """Evaluation and a solve on all ranks, superstep by superstep: lines, statements, and waits for neighbours.

    Collective.  Loops that messages cut are no longer one operation, so these rates are none of one rank's.
    """
    samples = []
    for rows, columns, steps, more in PLANES:
        local = _plane(comm, rows * comm.size, columns, steps, more)
        values, seed = np.ones(len(local.inputs.ids)), np.ones(len(local.outputs.ids))
        point = evaluate(local, values, comm)
        sweep = Sweep(local, point, comm)
        seconds = []
        for _ in range(2 * ROUNDS + 1):
            comm.Barrier()
            start = time.perf_counter()
            point = evaluate(local, values, comm, values=point.values)
            sweep.refresh(point)
            sweep.adjoint(seed)
            comm.Barrier()
            seconds.append(time.perf_counter() - start)
        work, supersteps = count(local, comm), len(local.steps) - 1
        known = 2 * (supersteps * machine.superstep + 8 * machine.byte * work.halo)
        spent = comm.bcast([max(s - known, 1e-7) for s in seconds[1:]])
        amounts: dict[str, float] = {"item": work.items, "line": work.array_lines, "wait": 2 * supersteps}
        samples.append(Sample("supersteps", f"{rows} x {columns} a rank, {steps} steps, {more} more", amounts, spent))
        sweep.close()
        local.close()
    return fit("supersteps", samples)


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


__all__ = ["messages", "waits"]
