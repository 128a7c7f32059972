"""The structure of a program whose scalar runs lie on several ranks, found where they lie.

Rank 0 walks over a skeleton of the tape, all of it but the runs' lines, and asks whoever has a run what it sees of it
(`graph.lines`): a run is looked at once for levels, paths, uses and live widths, and once for either count of
components.  What travels are nodes that cross a run's border; how many lines lie on which level stays with the ranks
until profiles are added up, stretch of levels by stretch.  All is linear in the tape, and the same as on one rank.

    rank 0   structure(skeleton, ...)        others   serve, until rank 0 has it
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from mpi4py import MPI

from ..comm import on_root
from ..graph import Structure, analyse
from ..graph.lines import Around, Between, Count, Seen, Tally, joined, seen
from ..kernels.graph import read_before
from ..machine import Machine
from ..tape import HeldRun, ScalarRun, Tape
from .plan import ARITY, Plan

ROOM = 1 << 24  # bytes that may be kept for it on all ranks together, or
A_LINE = 2.0  # ... so many a line, whichever are more
LINE = 17  # bytes of a run's line
READ = 5 * 8  # bytes of a node that a run reads from outside: its number, uses, first and last reader, number on a rank
_TAG = 76


class Stored:
    """A run on this rank, whose operands count its own lines from `first` on.

    numbers: those of the nodes that it reads from outside, in the order of the tape's; None: it stands as on the tape.
    """

    def __init__(self, run: ScalarRun, first: int, numbers: np.ndarray | None = None) -> None:
        self.run, self.first, self._numbers = run, first, numbers

    @cached_property
    def numbers(self) -> np.ndarray:
        run = self.run
        return read_before(run.op, run.a, run.b, ARITY, self.first) if self._numbers is None else self._numbers

    @property
    def arrays(self) -> list[np.ndarray]:
        """What is kept for this alone."""
        run = self.run
        return [run.op, run.a, run.b, run.const] if self._numbers is None else [self._numbers]

    def plain(self) -> ScalarRun:
        """The run with operands 0, 1, ... for the nodes outside, its own lines after them."""
        run, order, n = self.run, np.argsort(self.numbers), len(self.numbers)
        refs = []
        for ref in (run.a, run.b):
            own = (ref >= self.first) & (ref < self.first + run.lines)
            new = np.where(own, ref.astype(np.int64) - (self.first - n), ref)
            away = np.flatnonzero((ref >= 0) & ~own)
            if n:
                at = np.searchsorted(self.numbers, ref[away], sorter=order)
                new[away] = order[np.minimum(at, n - 1)]  # second operands of unary lines may be no such nodes
            else:
                new[away] = -1
            refs.append(new)
        return ScalarRun(run.block, run.op, *refs, run.const)


def skeleton(tape: Tape, plan: Plan) -> Tape | None:
    """The tape without the lines of its runs, which most ranks will have as a whole; None where too much would have to
    be kept for it, or the plan's tape is another."""
    if plan.regrouped is not None or not plan.whole:
        return None
    reads = plan.survey.reads.of_run
    runs = [item for item in tape.items if isinstance(item, ScalarRun)]
    kept = READ * sum(len(reads[run.block]) for run in runs)
    kept += LINE * sum(run.lines for run in runs if run.block not in plan.whole)
    if kept > max(ROOM, A_LINE * sum(run.lines for run in runs)):
        return None
    items = [HeldRun(item.block, item.lines, reads[item.block], _gone) if isinstance(item, ScalarRun) else item
             for item in tape.items]
    return Tape(blocks=list(tape.blocks), items=items, inputs=tape.inputs, outputs=tape.outputs, sites=tape.sites)


def _gone() -> ScalarRun:
    raise AssertionError("a run is looked at whose lines are on another rank")


def structure(comm: MPI.Comm, tape: Tape | None, stored: dict[int, Stored], machine: Machine) -> Structure:
    """The structure, on every rank.  tape: the skeleton, on rank 0.  Collective."""
    held = comm.gather(list(stored))
    if comm.rank:
        _serve(comm, stored)
        return on_root(comm, lambda: None)

    def asked() -> Structure:
        assert tape is not None
        try:
            return analyse(tape, machine, lines=_Afar(comm, stored, held))
        finally:
            for rank in range(1, comm.size):
                comm.send(None, rank, _TAG)

    return on_root(comm, asked)


class _Answers:
    """What a rank sees of the runs that it has."""

    def __init__(self, stored: dict[int, Stored]) -> None:
        self._stored, self._tally = stored, Tally()

    def seen(self, block: int, around: Around) -> Seen:
        run, n = self._stored[block].plain(), len(self._stored[block].numbers)
        return seen(run, n, np.arange(n), around, self._tally)

    def joined(self, block: int, out: np.ndarray, joining: np.ndarray,
               between: Between | None) -> tuple[np.ndarray, np.ndarray, int]:
        run, n = self._stored[block].plain(), len(self._stored[block].numbers)
        return joined(run, n, np.arange(n), out, joining, between)

    def by_level(self, start: int, stop: int, what: str) -> np.ndarray | None:
        return self._tally.by(what).between(start, stop)

    def stretches(self) -> dict[str, list[int]]:
        """The stretches of levels, and of steps, on which this rank has lines."""
        return {what: self._tally.by(what).stretches() for what in ("levels", "steps")}


def _serve(comm: MPI.Comm, stored: dict[int, Stored]) -> None:
    answers = _Answers(stored)
    while True:
        asked = comm.recv(source=0, tag=_TAG)
        if asked is None:
            return
        what, *arguments = asked
        try:
            answer = getattr(answers, what)(*arguments)
        except Exception as error:  # rank 0 asked, and raises it
            answer = error
        comm.send(answer, 0, _TAG)


class _Afar:
    """The runs' lines, on rank 0: `graph.lines.Lines`."""

    def __init__(self, comm: MPI.Comm, stored: dict[int, Stored], held: list[list[int]]) -> None:
        self._comm, self._own = comm, _Answers(stored)
        self._rank = {block: rank for rank, blocks in enumerate(held) for block in blocks}

    def _ask(self, rank: int, what: str, *arguments: Any) -> Any:
        if rank == 0:
            own: Callable[..., Any] = getattr(self._own, what)
            return own(*arguments)
        self._comm.send((what, *arguments), rank, _TAG)
        answer = self._comm.recv(source=rank, tag=_TAG)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def seen(self, run: ScalarRun, around: Around) -> Seen:
        found = self._ask(self._rank[run.block], "seen", run.block, around)
        assert isinstance(found, Seen)
        return found

    def joined(self, run: ScalarRun, out: np.ndarray, joining: np.ndarray,
               between: Between | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        x, y, alone = self._ask(self._rank[run.block], "joined", run.block, out, joining, between)
        return x, y, alone

    @cached_property
    def _stretches(self) -> list[dict[str, set[int]]]:
        found = [self._ask(rank, "stretches") for rank in range(self._comm.size)]
        return [{what: set(stretches) for what, stretches in one.items()} for one in found]

    def by_level(self, start: int, stop: int, what: str = "levels") -> np.ndarray | None:
        parts = [self._ask(rank, "by_level", start, stop, what) for rank, has in enumerate(self._stretches)
                 if Count.stretch(start) in has[what]]
        return np.sum(parts, axis=0, dtype=np.int64) if parts else None


__all__ = ["Stored", "skeleton", "structure"]
