"""Predicted against measured time by number of ranks.

Predicted: the best partition for each number, by the machine's rates (`planning`).  Measured: the function linearized
again on the first 1, 2, 4, ... ranks of this job, a replay and one solve, the fastest of a few.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from ..comm import agreed, on_root
from ..machine import current
from ..petsc import start
from ..planning import Plan, plan
from ..tape import Tape
from .subject import Subject

RANKS = (1, 2, 4, 8, 16, 32, 64)
REPEATS = 3


@dataclass(frozen=True)
class Scaling:
    """Seconds of an evaluation and one solve."""

    ranks: np.ndarray  # predicted for ...
    seconds: np.ndarray
    exchanging: np.ndarray  # of these, messages and waiting
    memory: np.ndarray  # bytes on the fullest rank
    measured_ranks: np.ndarray
    measured: np.ndarray
    verdict: str  # where more ranks stop paying, and why
    rates: str  # where the machine's rates come from


def scaling(subject: Subject, ranks: tuple[int, ...] = RANKS) -> Scaling:
    """Plan on rank 0, measure on what ranks there are.  Collective."""
    comm = subject.comm
    start(comm)  # together, before some ranks go on alone and might want it
    tape = subject.tape
    found = on_root(comm, lambda: planned(tape, tuple(sorted({*ranks, comm.size}))))
    sizes = sorted({min(1 << k, comm.size) for k in range(comm.size.bit_length() + 1)})
    seconds = [_measured(subject, size) for size in sizes]
    return Scaling(found.ranks, found.seconds, found.exchanging, found.memory, np.array(sizes), np.array(seconds),
                   found.verdict, found.rates)


def planned(tape: Tape, ranks: tuple[int, ...] = RANKS) -> Scaling:
    """What is predicted alone.  Not collective."""
    made: Plan = plan(tape, ranks)
    columns: list[Any] = [np.array([getattr(layout, name) for layout in made.layouts])
                          for name in ("ranks", "seconds", "exchanging", "memory")]
    nothing = np.empty(0)
    return Scaling(*columns, nothing.astype(np.int64), nothing, made.verdict(), current().source)


def _measured(subject: Subject, size: int) -> float:
    """Seconds on the first `size` ranks, the same on all ranks.  Collective."""
    comm = subject.comm
    part = comm.Split(0 if comm.rank < size else MPI.UNDEFINED, comm.rank)
    best = np.inf
    with agreed(comm):
        if part != MPI.COMM_NULL:
            best = _fastest(subject, part)
    if part != MPI.COMM_NULL:
        part.Free()
    return float(comm.bcast(best, root=0))


def _fastest(subject: Subject, part: MPI.Comm) -> float:
    """Seconds of the slowest rank of `part`, in the fastest of the repetitions.  Collective on it."""
    found = []
    with subject.on(part) as other:
        for _ in range(REPEATS + 1):
            part.Barrier()
            began = time.perf_counter()
            other.replay()
            other.prepare()
            other.solve(other.forward)
            found.append(part.allreduce(time.perf_counter() - began, op=MPI.MAX))
    return min(found[1:])  # the first one planned, and compiled


__all__ = ["Scaling", "planned", "scaling"]
