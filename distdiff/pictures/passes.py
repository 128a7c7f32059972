"""When each rank computed, sent and waited: measured in an evaluation and a solve of this job, superstep by superstep.

The replay and the solve run once before, so that plans, buffers and compiled loops are there, and once more with every
exchange noting its times (`comm.timed_messages`), and the agreement at the end, for which all wait.  Zero is when the
rank left a barrier; what is neither sending nor waiting counts as computing, packing and unpacking included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..comm import Timing, timed_messages
from .subject import Subject

UNSEEN = ("krylov", "direct", "petsc", "interface", "pipeline")  # methods with messages that are not the exchanges' own


MANY = 400  # calls of one rank in a pass, beyond which shares of stretches of time are drawn instead


@dataclass(frozen=True)
class Pass:
    """One pass of all ranks.  spans[r] are rank r's calls, ascending: (begin, end, 1 if it waited, 0 if it sent)."""

    name: str
    seconds: float  # of the slowest rank
    busy: np.ndarray  # (ranks,): when each was done
    spans: tuple[np.ndarray, ...]

    @property
    def many(self) -> bool:
        """Whether its calls are too many to be drawn one by one."""
        return max(map(len, self.spans)) > MANY

    @property
    def waiting(self) -> np.ndarray:
        """Seconds of waiting by rank."""
        return np.array([float(((s[:, 1] - s[:, 0]) * s[:, 2]).sum()) for s in self.spans])

    @property
    def sending(self) -> np.ndarray:
        """Seconds of sending by rank."""
        return np.array([float(((s[:, 1] - s[:, 0]) * (1 - s[:, 2])).sum()) for s in self.spans])

    @property
    def computing(self) -> np.ndarray:
        """Seconds of all else by rank."""
        return self.busy - self.waiting - self.sending


@dataclass(frozen=True)
class Timeline:
    """The passes of one job."""

    ranks: int
    k_star: int
    method: str
    seen: bool  # whether all messages of the method are on it
    passes: tuple[Pass, ...]


def timeline(subject: Subject) -> Timeline:
    """Replay the tape at the point and solve once more, with a watch on every exchange.  Collective."""
    forward = subject.forward
    direction = "tangent" if forward else "adjoint"
    for _ in range(2):
        evaluation = _measured(subject, "evaluation", subject.replay)
        method = subject.prepare()
        solve = _measured(subject, f"{direction} by {method}", lambda: subject.solve(forward))
    seen = subject.comm.size == 1 or method not in UNSEEN
    return Timeline(subject.comm.size, len(subject.local.steps), method, seen, (evaluation, solve))


def _measured(subject: Subject, name: str, work: Callable[[], None]) -> Pass:
    comm = subject.comm
    with timed_messages() as timings:
        comm.Barrier()
        began = time.perf_counter()
        work()
        done = time.perf_counter() - began
    both = comm.allgather((done, _spans(timings, began)))
    busy = np.array([d for d, _ in both])
    return Pass(name, float(busy.max()), busy, tuple(spans for _, spans in both))


def _spans(timings: list[Timing], began: float) -> np.ndarray:
    return np.array([(t.begin - began, t.end - began, t.waited) for t in timings], dtype=float).reshape(-1, 3)


def shares(spans: np.ndarray, busy: float, seconds: float, bins: int) -> np.ndarray:
    """(3, bins): the parts of each bin of [0, seconds) in which a rank computed, sent and waited; what is left is after
    its end."""
    edges = np.linspace(0.0, seconds, bins + 1)

    def within(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        # the integral of "inside one of the disjoint spans", looked up at the edges
        at = np.ravel(np.stack([begin, end], axis=1)) if len(begin) else np.zeros(1)
        total = np.concatenate([[0.0], np.cumsum(end - begin)]) if len(begin) else np.zeros(1)
        known = np.repeat(total, 2)[1:-1] if len(begin) else np.zeros(1)
        return np.diff(np.interp(edges, at, known))

    sent, waited = (within(*spans[spans[:, 2] == kind, :2].T) for kind in (0.0, 1.0))
    present = within(np.zeros(1), np.array([busy]))
    return np.stack([present - sent - waited, sent, waited]) / (edges[1] - edges[0])


__all__ = ["Pass", "Timeline", "shares", "timeline"]
