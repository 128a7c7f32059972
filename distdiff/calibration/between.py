"""The rates of messages: L, o, g and G between two ranks, and what supersteps take on all of them."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import numpy as np
from mpi4py import MPI

from ..comm import agreed
from ..evaluate import evaluate
from ..machine import Machine
from ..partition import distribute, partition
from ..solvers.sweep import Sweep
from ..solvers.work import count
from ..tracing import trace
from .fit import Fitted, Sample, fit
from .stages import ROUNDS

PINGS = 300  # messages there and back


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
    return [Fitted("messages", {k: median(v) for k, v in found.items()},
                   {k: (min(v), max(v)) for k, v in found.items()}, {})]


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
    """What supersteps take beyond computing and messages: waits for neighbours not quite as far.  Collective."""
    samples = []
    for rows, columns, steps in ((16, 16, 30), (32, 200, 30), (96, 96, 20), (256, 128, 10)):
        n = rows * max(comm.size, 2)

        def f(u: Any, steps: int = steps) -> Any:
            for _ in range(steps):
                u = u + 0.1 * (np.roll(u, 1, 0) - 2.0 * u + np.roll(u, -1, 0)) * u
            return np.sum(u * u)

        x = np.ones((n, columns))
        with agreed(comm):
            tape = trace(f, (x,)).tape if comm.rank == 0 else None
            plan = partition(tape, comm.size, strategy="axes", depth=1) if tape is not None else None
        local = distribute(tape, plan, comm)
        values = np.ones(len(local.inputs.ids))
        point = evaluate(local, values, comm)
        sweep = Sweep(local, point, comm)
        seed = np.ones(len(local.outputs.ids))
        sweep.adjoint(seed)
        seconds = []
        for _ in range(2 * ROUNDS):
            comm.Barrier()
            start = time.perf_counter()
            point = evaluate(local, values, comm, values=point.values)
            sweep.refresh(point)
            sweep.adjoint(seed)
            comm.Barrier()
            seconds.append(time.perf_counter() - start)
        work = count(local, comm)
        computing = machine.item * work.items + machine.line * work.array_lines
        spent = comm.bcast([max(s - computing - 2 * work.messages * machine.superstep - 16 * machine.byte * work.halo,
                                1e-7) for s in seconds])
        samples.append(Sample("waiting for neighbours", f"{n} x {columns}", {"wait": 2 * work.messages}, spent))
        sweep.close()
        local.close()
    return fit("waiting for neighbours", samples)


__all__ = ["messages", "waits"]
