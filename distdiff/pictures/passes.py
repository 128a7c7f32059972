"""When each rank computed, sent and waited: measured in an evaluation and a solve of this job, superstep by superstep.

What PETSc and its packages do (Krylov iterations, factorizations) is drawn as theirs: they compute and send messages
within one call, and nobody tells when.

The replay and the solve run once before, so that plans, buffers and compiled loops are there, and once more with every
exchange noting its times (`channels.timed_messages`), and the agreement at the end, for which all wait.  Zero is when
the rank left a barrier; what is neither sending nor waiting counts as computing, packing and unpacking included, except
on ranks without lines, which wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..channels import ELSEWHERE, SENT, WAITED, Timing, timed_messages
from .subject import Subject

MANY = 400  # calls of one rank in a pass, beyond which shares of stretches of time are drawn instead


@dataclass(frozen=True)
class Pass:
    """One pass of all ranks.  spans[r] are rank r's calls, ascending and disjoint: begin, end, `Timing`'s kind."""

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
        return self._seconds(WAITED)

    @property
    def sending(self) -> np.ndarray:
        """Seconds of sending by rank."""
        return self._seconds(SENT)

    @property
    def elsewhere(self) -> np.ndarray:
        """Seconds in libraries that compute and send messages of their own, by rank."""
        return self._seconds(ELSEWHERE)

    @property
    def computing(self) -> np.ndarray:
        """Seconds of all else by rank."""
        return self.busy - self.waiting - self.sending - self.elsewhere

    def _seconds(self, kind: int) -> np.ndarray:
        return np.array([float((s[:, 1] - s[:, 0])[s[:, 2] == kind].sum()) for s in self.spans])


@dataclass(frozen=True)
class Timeline:
    """The passes of one job.  lines : that each rank computes; those without wait for the others"""

    ranks: int
    k_star: int
    method: str
    lines: np.ndarray
    passes: tuple[Pass, ...]

    @property
    def working(self) -> np.ndarray:
        """The ranks that compute any lines, all where none does."""
        return np.flatnonzero(self.lines) if self.lines.any() else np.arange(self.ranks)

    @property
    def elsewhere(self) -> bool:
        """Whether a pass spends time in libraries."""
        return any(one.elsewhere.any() for one in self.passes)


def timeline(subject: Subject) -> Timeline:
    """Replay the tape at the point and solve once more, with a watch on every exchange.  Collective."""
    forward = subject.forward
    lines = np.array(subject.comm.allgather(subject.local.lines))
    idle = bool(lines.any() and not subject.local.lines)
    direction = "tangent" if forward else "adjoint"
    for _ in range(2):
        evaluation = _measured(subject, "evaluation", subject.replay, idle)
        method = subject.prepare()
        subject.solve(forward)  # the first at a point sets up and checks: a further one is what is wanted
        solve = _measured(subject, f"{direction} by {method}", lambda: subject.solve(forward), idle)
    return Timeline(subject.comm.size, len(subject.local.steps), method, lines, (evaluation, solve))


def _measured(subject: Subject, name: str, work: Callable[[], None], idle: bool) -> Pass:
    comm = subject.comm
    with timed_messages() as timings:
        comm.Barrier()
        began = time.perf_counter()
        work()
        done = time.perf_counter() - began
    spans = _spans(timings, began)
    both = comm.allgather((done, _waited(spans, done) if idle else spans))
    busy = np.array([d for d, _ in both])
    return Pass(name, float(busy.max()), busy, tuple(spans for _, spans in both))


def _spans(timings: list[Timing], began: float) -> np.ndarray:
    """One after another: a library that calls us back has what is left between our own exchanges."""
    found: list[tuple[float, float, int]] = []
    for t in timings:  # in the order of their ends
        inside = len(found)
        while inside and found[inside - 1][0] >= t.begin:
            inside -= 1
        edges = [t.begin, *(edge for begin, end, _ in found[inside:] for edge in (begin, end)), t.end]
        gaps = [(a, b, t.kind) for a, b in zip(edges[::2], edges[1::2]) if b > a]
        found[inside:] = sorted([*found[inside:], *gaps])
    return np.array([(a - began, b - began, kind) for a, b, kind in found], dtype=float).reshape(-1, 3)


def _waited(spans: np.ndarray, done: float) -> np.ndarray:
    """A rank that has nothing to compute waits for others whenever it does nothing else, in whatever call that is."""
    kept = spans[spans[:, 2] != WAITED]
    edges = np.concatenate([[0.0], kept[:, :2].ravel(), [done]])
    gaps = np.stack([edges[::2], edges[1::2], np.full(len(kept) + 1, float(WAITED))], axis=1)
    found = np.concatenate([kept, gaps[gaps[:, 1] > gaps[:, 0]]])
    return found[np.argsort(found[:, 0], kind="stable")]


def shares(spans: np.ndarray, busy: float, seconds: float, bins: int) -> np.ndarray:
    """(4, bins): the parts of each bin of [0, seconds) in which a rank computed, sent, waited, and was in a library;
    what is left is after its end."""
    edges = np.linspace(0.0, seconds, bins + 1)

    def within(begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        # the integral of "inside one of the disjoint spans", looked up at the edges
        at = np.ravel(np.stack([begin, end], axis=1)) if len(begin) else np.zeros(1)
        total = np.concatenate([[0.0], np.cumsum(end - begin)]) if len(begin) else np.zeros(1)
        known = np.repeat(total, 2)[1:-1] if len(begin) else np.zeros(1)
        return np.diff(np.interp(edges, at, known))

    parts = [within(*spans[spans[:, 2] == kind, :2].T) for kind in (SENT, WAITED, ELSEWHERE)]
    present = within(np.zeros(1), np.array([busy]))
    return np.stack([present - sum(parts), *parts]) / (edges[1] - edges[0])


__all__ = ["Pass", "Timeline", "shares", "timeline"]
