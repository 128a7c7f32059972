"""Work that can be told to end before it is done: between two supersteps, on all ranks after the same one.

A pass that somebody may cancel runs while its communicator is `watched`.  Between supersteps, when no halo is on its
way, it looks whether rank 0 has been told to stop: one number from rank 0, which also says after how many supersteps
to look again, so that looking takes a small share of the time however short supersteps are.  All ranks then raise
`CancelledError` together, and what they share is sound.

Within a superstep rank 0, which knows without asking, leaves out what it still would compute (`given_up`), so that work
of one rank alone, which has no supersteps, ends early as well.  Messages it sends all the same.

Where every rank has the whole program and works by itself, rank 0 sends the others word as soon as it knows, for which
they look as they go; all leave the rest out, and meet when they are done (`apart`).

A trace and a partition are work of rank 0 that the others wait for, and what it raises there all raise: it looks before
every statement, and between two candidates (`alone`).

Passes ask once, at their beginning, whether anybody watches (`watch_of`); where nobody does they run as they always do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from .errors import CancelledError

if TYPE_CHECKING:  # clients trace, and have no MPI
    from mpi4py import MPI

EVERY = 0.02  # seconds between looks, about
STOP = 78  # the tag of word to ranks that work by themselves
APART = "where every rank has the whole program"
AT_MOST = 64  # supersteps from one to the next: lengths may change, and a look takes some microseconds

_watches: list[Watch] = []


class Watch:
    """Whether work on a communicator is to end; rank 0 is told by `wanted()`, the others by rank 0."""

    def __init__(self, comm: MPI.Comm, wanted: Callable[[], bool]) -> None:
        self.comm, self._wanted = comm, wanted
        self._given_up, self._root, self._alone = False, comm.rank == 0, comm.size == 1
        self._left = self._stride = 1
        self._word = np.empty(1, dtype=np.int64)
        self._since = time.perf_counter()

    def given_up(self) -> bool:
        """Whether what this rank would compute until the next look is wasted: all will raise there.  Local."""
        if self._root and not self._given_up:
            self._given_up = self._wanted()
        return self._given_up

    def look(self, last: bool = False) -> None:
        """Raise `CancelledError` on every rank if the work is to end.  Collective, with nothing on its way.

        last: no other one follows in this pass.
        """
        if self._alone:
            if self.given_up():
                raise _cancelled()
            return
        self._left -= 1
        if self._left and not last:
            return
        if self._root:
            self._word[0] = 0 if self.given_up() else self._next()
        self.comm.Bcast(self._word, root=0)
        self._left = int(self._word[0]) or 1
        if not self._word[0]:
            raise _cancelled()

    def _next(self) -> int:
        """Supersteps until the next look, by what those since the last one took."""
        now = time.perf_counter()
        took, self._since = now - self._since, now
        fitting = self._stride * EVERY / max(took, 1e-9)
        self._stride = int(max(1, min(fitting, 2 * self._stride, AT_MOST)))
        return self._stride


def _cancelled(where: str = "between two supersteps") -> CancelledError:
    return CancelledError(f"this was cancelled while it was computed, {where}: nothing has changed but that there is "
                          "no result")


@contextmanager
def watched(comm: MPI.Comm, wanted: Callable[[], bool]) -> Iterator[None]:
    """While the body runs, work on `comm` ends with `CancelledError` soon after rank 0's `wanted()` is true.

    All ranks enter together.  wanted: called often, on rank 0 alone; it may look at what another thread sets.
    """
    watch = Watch(comm, wanted)
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.remove(watch)


@contextmanager
def unwatched() -> Iterator[None]:
    """While the body runs nobody watches: inside of foreign code that exceptions must not go through."""
    global _watches
    kept, _watches = _watches, []
    try:
        yield
    finally:
        _watches = kept


def watch_of(comm: MPI.Comm) -> Watch | None:
    """Who watches work on this communicator: the same answer on all of its ranks."""
    for watch in reversed(_watches):
        if watch.comm == comm:
            return watch
    return None


class Apart(Watch):
    """Work that every rank of a watched communicator does by itself on its `team`, itself alone, all at the same time.

    Who knows that it is to end raises, alone, or leaves the rest out; `meet`, which all come to, raises on all ranks.
    """

    def __init__(self, watch: Watch, team: MPI.Comm, where: str = APART) -> None:
        super().__init__(team, watch.given_up)
        self._watch, self._all, self._where = watch, watch.comm, where
        self._stopped = False
        self._said: list[MPI.Request] = []

    def given_up(self) -> bool:
        """Whether what this rank would compute is wasted.  Local; rank 0 sends word."""
        if not self._stopped and self._all.rank == 0 and self._watch.given_up():
            self._stopped = True
            self._said = [self._all.Isend(np.zeros(1), rank, STOP) for rank in range(1, self._all.size)]
        elif not self._stopped and self._all.rank and self._all.Iprobe(0, STOP):
            self._take()
        return self._stopped

    def look(self, last: bool = False) -> None:
        """Raise `CancelledError` if the work is to end.  Local."""
        if self.given_up():
            raise _cancelled(self._where)

    def meet(self) -> None:
        """Raise `CancelledError` on every rank if the work was to end.  Collective, once."""
        word = np.array([self._all.rank == 0 and self.given_up()], dtype=np.int64)
        self._all.Bcast(word, root=0)
        if not word[0]:
            return
        for said in self._said:
            said.Wait()
        if self._all.rank and not self._stopped:
            self._take()
        raise _cancelled(self._where)

    def _take(self) -> None:
        self._all.Recv(np.empty(1), 0, STOP)
        self._stopped = True


@contextmanager
def apart(comm: MPI.Comm, team: MPI.Comm) -> Iterator[None]:
    """The body is work of each rank by itself, if `team` is smaller than `comm`: it can be cancelled all the same.

    All ranks of `comm` enter together, and leave together.  The body communicates with nobody.
    """
    watch = watch_of(comm)
    if watch is None or team.size == comm.size:
        yield
        return
    made = Apart(watch, team)
    _watches.append(made)
    try:
        yield
    finally:  # who fails meets the others too
        _watches.remove(made)
        made.meet()


@contextmanager
def passed_on(comm: MPI.Comm) -> Iterator[Watch | None]:
    """The body is a pass in which halos are on their way at any moment: its ranks don't look together.

    Who knows that it is to end leaves out computing, not communicating, as others wait for that; all raise at the end.
    All ranks of `comm` enter and leave together, unless they fail.
    """
    watch = watch_of(comm)
    if watch is None:
        yield None
        return
    made = Apart(watch, comm, "between two supersteps")
    yield made
    made.meet()


class Alone:
    """Whether work that rank 0 does while all others wait for it is to end: where what it raises is raised by all."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def look(self, where: str) -> None:
        """Raise `CancelledError` if nobody wants the work any more.  Local."""
        if self._watch.given_up():
            raise _cancelled(where)


def alone() -> Alone | None:
    """Who watches what this rank does by itself, on rank 0 of what was watched last; None where nobody does."""
    watch = _watches[-1] if _watches else None
    return Alone(watch) if watch is not None and type(watch) is Watch and watch.comm.rank == 0 else None


def unwanted() -> bool:
    """Whether this rank knows that somebody wants an end of what it works on.  Local."""
    return any(watch.given_up() for watch in _watches if type(watch) is Watch)


def look(comm: MPI.Comm) -> None:
    """End here if somebody wants it: between stages, or whatever else takes long.  Collective."""
    watch = watch_of(comm)
    if watch is not None:
        watch.look()


__all__ = ["Alone", "Apart", "Watch", "alone", "apart", "look", "passed_on", "unwanted", "unwatched",
           "watch_of", "watched"]
