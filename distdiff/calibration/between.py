"""The rates of messages: L, o, g and G between two ranks, and what supersteps take on all of them.

Messages go as those of a pass do, through memory of the node where ranks share one (`channels`), and by MPI elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI

from ..comm import agreed, on_root
from ..evaluate import evaluate
from ..kernels.sequence import Passes
from ..linearization import linearize
from ..machine import Machine
from ..node import idle, share
from ..partition import LocalTape, amounts, distribute, partition
from ..partition.local import Exchange, spots_of
from ..partition.transport import receive, send
from ..solvers.layouts import SUPERSTEPS
from ..solvers.sweep import Sweep, pass_amounts, plan_amounts
from ..solvers.work import count
from ..tracing import trace
from .fit import Fitted, Sample, fit, unrest
from .programs import programs
from .stages import ROUNDS

PINGS = 300  # messages one after another
PARCELS = 17  # ranks whose parcels are made
NUMBERS = 1 << 14  # in a long one
NAMING = ("neighbours", "many neighbours")  # programs that name nodes one by one
WARM = 3  # passes by single calls, until they are bound to memory and joined
FAR = 20_000  # inputs beyond which programs are left out: what they hold is large, not what is shared out
WIDTH = 16  # columns of data
PLANES = ((16, 16, 40, 0), (16, 16, 20, 4), (32, 200, 30, 0), (32, 200, 15, 3), (96, 96, 20, 0), (96, 96, 12, 5),
          (256, 128, 10, 0), (256, 128, 6, 4))  # rows a rank, columns, steps, statements more


def messages(comm: MPI.Comm) -> list[Fitted]:
    """L, o, g and G between rank 0 and the last rank; the others wait.  Collective.

    L + 2 o is what a number takes that goes to and fro as between two supersteps, nothing being computed; of it o is
    what MPI takes to send a message, or half of it where that is less.  G is what a long message takes there beyond.
    """
    found: dict[str, list[float]] = {"latency": [], "overhead": [], "gap": [], "byte": []}
    other = comm.size - 1
    share(comm)
    with _Exchanges(comm, 1) as small, _Exchanges(comm, NUMBERS) as large:
        for _ in range(ROUNDS):
            comm.Barrier()
            if comm.rank in (0, other):
                superstep, bulk = small.seconds(), large.seconds()
                sent, gap = _burst(comm, other - comm.rank)
                overhead = min(sent, superstep / 2)
                found["overhead"].append(overhead)
                found["latency"].append(superstep - 2 * overhead)
                found["gap"].append(gap)
                found["byte"].append(max(bulk - superstep, 0.0) / (8 * NUMBERS))
            comm.Barrier()
    found = comm.bcast(found)
    # The lower quartile: what disturbs a message can only delay it.
    whole = [2 * o + lat for o, lat in zip(found["overhead"], found["latency"])]
    return [Fitted("messages", {k: float(np.quantile(v, 0.25)) for k, v in found.items()},
                   {k: (min(v), max(v)) for k, v in found.items()}, {}, unrest([whole, found["gap"]]))]


class _Exchanges:
    """Passes of nothing but exchanges of n numbers, there and back, between rank 0 and the last rank."""

    def __init__(self, comm: MPI.Comm, n: int) -> None:
        self._exchange: Exchange | None = None
        peer, own, ghosts = comm.size - 1 - comm.rank, np.arange(n), np.arange(n, 2 * n)
        if comm.rank in (0, comm.size - 1):
            self._exchange = Exchange([(peer, own)], [(peer, ghosts)])
            y = np.zeros(2 * n)
            ends = (self._exchange.starter(comm, spots_of(self._exchange.sends, y)),
                    self._exchange.finisher(comm, spots_of(self._exchange.recvs, y)))
            self._passes = Passes([(end, ()) for end in ends] * PINGS)
            for _ in range(3):  # bound to memory, and joined
                self._passes(idle)

    def seconds(self) -> float:
        """Of one of them.  On the two ranks together."""
        start = time.perf_counter()
        self._passes(idle)
        return (time.perf_counter() - start) / PINGS

    def __enter__(self) -> _Exchanges:
        return self

    def __exit__(self, *of: object) -> None:
        if self._exchange is not None:
            self._exchange.close()


def _burst(comm: MPI.Comm, peer: int) -> tuple[float, float]:
    """Seconds that MPI takes to send one of many messages from rank 0, and until the next can follow."""
    number = np.zeros(1)
    start = time.perf_counter()
    requests = [comm.Isend(number, peer) for _ in range(PINGS)] if comm.rank == 0 else []
    sent = time.perf_counter() - start
    for _ in range(PINGS if comm.rank else 0):
        comm.Recv(number, peer)
    MPI.Request.Waitall(requests)
    return sent / PINGS, (time.perf_counter() - start) / PINGS


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


def agreements(comm: MPI.Comm, machine: Machine) -> list[Fitted]:
    """What a solve takes on all ranks beyond its method: agreeing on failures, and asking for them.  Collective."""
    with linearize(lambda u: np.sum(np.sin(u) * u), np.ones(10), partition="fewer ranks", method="sweep",
                   comm=comm) as lin:
        seed = np.ones(len(lin._at.local.outputs.ids))
        lin._solving.select(1)
        known = machine.seconds(pass_amounts(count(lin._at.local, comm)))
        seconds = [_together(comm, partial(lin._solving.solve, False, seed)) for _ in range(10 * ROUNDS)]
    sample = Sample("agreements", "a sum", {"agreement": 1}, comm.bcast(seconds[WARM:]), known)
    return [replace(fit("agreements", [sample]), unrest=1.0)]


def shares(comm: MPI.Comm) -> list[Fitted]:
    """Handing every rank its share of programs of many sizes, or all of it.  Collective.

    On these ranks alone nobody could tell what each of them takes from what any call takes, so parcels for PARCELS
    ranks are made and sent, all to the last one.
    """
    parcel = [_parcels(comm) for _ in range(ROUNDS + 1)][1:]
    rate = float(np.median(parcel))
    sharing: dict[str, list[Sample]] = {"sharing a program out": [], "the whole program to all": []}
    data = [(f"{n} samples of data", _samples(n), np.ones(WIDTH)) for n in (10_000, 40_000, 160_000)]
    chosen = [one for k, one in enumerate(programs()) if k % 3 == 0 or one[0] in NAMING]
    for name, f, x in chosen + data:
        if len(x) > FAR:
            continue
        for strategy in ("axes", "contiguous", "right-hand sides"):
            seconds, counted = [], {}
            for _ in range(ROUNDS + 1):
                def laid(f: Any = f, x: np.ndarray = x, strategy: str = strategy) -> Any:
                    tape = trace(f, (x,)).tape  # it is used up
                    return tape, partition(tape, comm.size, strategy=strategy, depth=1)
                tape, made = on_root(comm, laid, share=False) or (None, None)
                counted = on_root(comm, lambda tape=tape, made=made: dict(amounts(tape, made)))
                seconds.append(_together(comm, partial(distribute, tape, made, comm)))
            stage = list(sharing)["copy_call" in counted]
            known = rate * counted.pop("share_rank", 0)
            sharing[stage].append(Sample(stage, f"{name}, {strategy}", counted, comm.bcast(seconds[1:]), known))
    found = [fit(stage, of) for stage, of in sharing.items() if of]
    found.append(Fitted("a parcel", {"share_rank": rate}, {"share_rank": (min(parcel), max(parcel))}, {}))
    return [replace(each, unrest=1.0) for each in found]  # fresh memory and Python's own work, no unrest of messages'


def _parcels(comm: MPI.Comm) -> float:
    """Seconds that a rank's parcel of a small program takes: made, packed, sent and unpacked.  Collective."""
    def sender() -> Any:
        tape = trace(lambda u: np.sum(np.sin(u) * u), (np.ones(256 * PARCELS),)).tape
        return partition(tape, PARCELS, strategy="axes", depth=1).sender()

    parcels = on_root(comm, sender, share=False)

    def all_of_them() -> None:
        for rank in range(1, PARCELS):
            with agreed(comm):
                made = parcels.parcel(rank) if comm.rank == 0 else None
            if comm.rank == 0:
                send(made, comm.size - 1, comm)
            elif comm.rank == comm.size - 1:
                receive(0, comm)

    return comm.bcast(_together(comm, all_of_them)) / (PARCELS - 1)


def _passes(comm: MPI.Comm, local: LocalTape, name: str, machine: Machine) -> Sample:
    """There and back: an evaluation, over and over, which a solve is taken to be like."""
    x = np.ones(len(local.inputs.ids))
    point = evaluate(local, x, comm)
    seconds = [2.0 * _together(comm, partial(evaluate, local, x, comm, values=point.values))
               for _ in range(2 * ROUNDS + WARM)]
    work, supersteps = count(local, comm), len(local.steps) - 1
    known = 2 * (supersteps * machine.superstep + 8 * machine.byte * work.halo)
    return Sample("supersteps", name, {"item": work.items, "line": work.array_lines, "wait": 2 * supersteps},
                  comm.bcast(seconds[WARM:]), known)


def _plans(comm: MPI.Comm, local: LocalTape, name: str, machine: Machine) -> Sample:
    """A first solve beyond a further one, and beyond what its statements take."""
    point, seed = evaluate(local, np.ones(len(local.inputs.ids)), comm), np.ones(len(local.outputs.ids))
    work, supersteps = count(local, comm), len(local.steps)
    copies = max(supersteps - SUPERSTEPS, 0) * work.copies // supersteps
    known = machine.seconds({**plan_amounts(replace(work, copies=copies)), "plan_exchange": 0, "plan_ghost": 0})
    seconds = []
    for _ in range(ROUNDS + 1):
        sweep = Sweep(local, point, comm)
        first = _together(comm, partial(sweep.adjoint, seed))
        again = _together(comm, partial(sweep.adjoint, seed))
        seconds.append(first - again)
        sweep.close()
    return Sample("planning supersteps", name, {"plan_exchange": supersteps - 1, "plan_ghost": work.halo},
                  comm.bcast(seconds[1:]), known)


def _samples(n: int) -> Callable[[Any], Any]:
    """Statements over constants, which travel, of so many rows."""
    features = np.random.default_rng(0).standard_normal((n, WIDTH))

    def f(w: Any) -> Any:
        return np.sum(np.tanh(features @ w))
    return f


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
