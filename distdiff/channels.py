"""Messages that are exchanged again and again, bound to their buffers: by MPI, or through memory that a node shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from mpi4py import MPI

from .node import LINE, OFFERED, TAKEN, Node, Word, Words, node

T = TypeVar("T")

WIDTHS = 8  # of batches of right-hand sides, for which messages and calls stay set up: 1, 2, 4, ... of the service


class Messages:
    """Requests that run together; persistent ones are started.  Local.

    `start` returns at once, `finish` when all have arrived; between the two nobody touches the buffers.  What goes
    through memory of the node (`words`) is packed after `before` and unpacked before `after`.
    """

    def __init__(self, requests: list[Any], words: Words | None = None) -> None:
        self._requests, self._words = requests, words

    def before(self) -> None:
        if self._words is not None:
            self._words.before()

    def start(self) -> None:
        if self._words is not None:
            self._words.send()
        if self._requests:
            MPI.Prequest.Startall(self._requests)

    def finish(self) -> None:
        if self._words is not None:
            self._words.receive()
        if self._requests:
            MPI.Request.Waitall(self._requests)

    def after(self) -> None:
        if self._words is not None:
            self._words.after()

    @property
    def in_memory(self) -> Words | None:
        """The words, where all goes through memory of the node."""
        return None if self._requests else self._words

    @property
    def taken(self) -> bool:
        """Whether all that was packed in memory of the node has been unpacked."""
        return self._words is None or self._words.all_taken()

    def close(self) -> None:
        for request in self._requests:
            request.Free()
        self._requests = []

    @staticmethod
    def wait_for(call: Callable[[], T]) -> T:
        """A message or a collective of another kind, which is waited for."""
        return call()

    @staticmethod
    def elsewhere(call: Callable[[], T]) -> T:
        """The work of a library that computes and sends messages of its own."""
        return call()


_START, _FINISH = Messages.start, Messages.finish


def as_ever() -> bool:
    """Whether nobody has exchanged what starts and finishes messages for something else, to time them say."""
    return Messages.start is _START and Messages.finish is _FINISH


SENT, WAITED, ELSEWHERE = range(3)


class Timing(NamedTuple):
    """One call of `Messages` on this process: from when to when, and whether it sent (`start`), waited (`finish`,
    `wait_for`) or was a library's (`elsewhere`)."""

    begin: float
    end: float
    kind: int


@contextmanager
def timed_messages() -> Iterator[list[Timing]]:
    """While the body runs, every exchange of this process notes its times (`time.perf_counter`).  Local.

    The methods themselves are changed for others, so that exchanges which nobody times pay nothing for it.
    """
    timings: list[Timing] = []

    def noting(method: Callable[[Any], Any], kind: int) -> Callable[[Any], Any]:
        def call(what: Any) -> Any:
            begin = time.perf_counter()
            try:
                return method(what)
            finally:
                timings.append(Timing(begin, time.perf_counter(), kind))
        return call

    usual = {name: vars(Messages)[name] for name in ("start", "finish", "wait_for", "elsewhere")}
    noted = {"start": noting(Messages.start, SENT), "finish": noting(Messages.finish, WAITED),
             "wait_for": staticmethod(noting(Messages.wait_for, WAITED)),
             "elsewhere": staticmethod(noting(Messages.elsewhere, ELSEWHERE))}
    for name, method in noted.items():
        setattr(Messages, name, method)
    try:
        yield timings
    finally:
        for name, method in usual.items():
            setattr(Messages, name, method)


class Channel:
    """Messages that are exchanged again and again: buffers and persistent requests, or memory that the node shares.

    `sends` and `recvs` list (rank, count); a buffer holds count rows of `columns` numbers.  The `forward` messages
    bring what is in `sends` buffers into the receivers' `recvs` buffers, the `reverse` ones bring it back.  Neighbours
    start their exchanges in the same order; `close` is local.
    """

    def __init__(self, comm: MPI.Comm, sends: list[tuple[int, int]], recvs: list[tuple[int, int]],
                 columns: tuple[int, ...], tag: int) -> None:
        self.own = np.empty((sum(n for _, n in sends), *columns))  # all neighbours' buffers, one after another
        self.ghost = np.empty((sum(n for _, n in recvs), *columns))
        self.sends, self.recvs = _split(self.own, sends), _split(self.ghost, recvs)
        own = [(r, buffer) for (r, _), buffer in zip(sends, self.sends)]
        ghost = [(r, buffer) for (r, _), buffer in zip(recvs, self.recvs)]
        self.forward, self.reverse = (
            Messages([comm.Recv_init(b, source=r, tag=tag) for r, b in to]
                     + [comm.Send_init(b, dest=r, tag=tag) for r, b in out])
            for to, out in ((ghost, own), (own, ghost)))

    def messages(self, back: bool) -> Messages:
        """The forward ones, or those on the way back."""
        return self.reverse if back else self.forward

    def packed(self, back: bool) -> list[np.ndarray]:
        """The buffers that leave this rank, a neighbour's each: those of `sends`, or `recvs` on the way back."""
        return self.recvs if back else self.sends

    def arrived(self, back: bool) -> list[np.ndarray]:
        """The buffers that messages arrive in: those of `recvs`, or `sends` on the way back."""
        return self.sends if back else self.recvs

    @property
    def nbytes(self) -> int:
        return self.own.nbytes + self.ghost.nbytes

    def close(self) -> None:
        self.forward.close()
        self.reverse.close()


class _Place(NamedTuple):
    """Of a message in memory of the node: its buffer and the words by which it is offered and taken."""

    buffer: np.ndarray
    offered: Word
    taken: Word


class NodeChannel(Channel):
    """The same for one vector, where neighbours on this node read from this rank's memory what it packs (see `node`).

    All neighbours of an exchange make their channels together, in the same order: each tells the others where its
    words and buffers lie.
    """

    def __init__(self, shared: Node, comm: MPI.Comm, sends: list[tuple[int, int]], recvs: list[tuple[int, int]],
                 tag: int) -> None:
        self._shared, self._comm, self._to, self._tag = shared, comm, (sends, recvs), tag
        near = sorted({rank for rank, _ in (*sends, *recvs) if rank in shared.numbers})
        self._taken: list[tuple[int, int]] = []  # of this rank's memory: start, length
        self._mine = {rank: np.array([self._take(None), self._take(dict(sends).get(rank)),
                                      self._take(dict(recvs).get(rank))]) for rank in near}
        self._theirs = {rank: np.empty(3, dtype=np.int64) for rank in near}
        self._asked = [*(comm.Irecv(self._theirs[rank], source=rank, tag=tag) for rank in near),
                       *(comm.Isend(self._mine[rank], dest=rank, tag=tag) for rank in near)]
        self._settled = False

    def _settle(self) -> None:
        """Once the neighbours have told: first used after all channels of a pass were made, no rank waits for each."""
        if not self._settled:
            MPI.Request.Waitall(self._asked)
            self._settled = True
            self._in: tuple[list[np.ndarray], list[np.ndarray]] = [], []  # forward, back
            self._out: tuple[list[np.ndarray], list[np.ndarray]] = [], []
            self.forward, self.reverse = self._bind(0), self._bind(1)

    def _bind(self, back: int) -> Messages:
        """The messages of one direction: each lies in its sender's memory, or goes by MPI where there is no room."""
        words, requests = Words(), list[Any]()
        ways = ((self._to[1 - back], self._in[back], words.coming, words.took, self._comm.Recv_init),
                (self._to[back], self._out[back], words.sent, words.taken, self._comm.Send_init))
        for incoming, (neighbours, buffers, offered, taken, request) in zip((True, False), ways):
            for rank, n in neighbours:
                place = self._place(rank, n, back, incoming)
                buffers.append(np.empty(n) if place is None else place.buffer)
                if place is None:
                    requests.append(request(buffers[-1], rank, self._tag))
                else:
                    offered.append(place.offered)
                    taken.append(place.taken)
        return Messages(requests, words)

    def _place(self, rank: int, n: int, back: int, incoming: bool) -> _Place | None:
        """Where a message between this rank and `rank` lies; None: it has no place."""
        if rank not in self._theirs:
            return None
        here = self._comm.rank, self._mine[rank].tolist()  # places of the words, of a buffer forward and of one back
        there = rank, self._theirs[rank].tolist()
        (sender, sends), (receiver, receives) = (there, here) if incoming else (here, there)
        start = sends[1 + back]
        if min(start, sends[0], receives[0]) < 0:
            return None
        return _Place(self._shared.numbers[sender][start : start + n],
                      Word(self._shared.words[sender], sends[0] + (OFFERED + back) * LINE),
                      Word(self._shared.words[receiver], receives[0] + (TAKEN + back) * LINE))

    def _take(self, n: int | None) -> int:
        """Memory of this rank for n numbers, or (None) for the words of a channel; -1: there is none."""
        start = self._shared.channel() if n is None else self._shared.take(n)
        self._taken.append((start, 4 * LINE if n is None else n))
        return start

    def messages(self, back: bool) -> Messages:
        self._settle()
        return super().messages(back)

    def packed(self, back: bool) -> list[np.ndarray]:
        self._settle()
        return self._out[back]

    def arrived(self, back: bool) -> list[np.ndarray]:
        self._settle()
        return self._in[back]

    @property
    def nbytes(self) -> int:
        return 8 * sum(n for _, n in self._taken)

    def close(self) -> None:
        """What a neighbour has not taken yet, as where a pass failed, stays as it is and is not used again."""
        if not self._settled and not MPI.Request.Testall(self._asked):
            return  # a neighbour has not come so far
        self._settle()
        super().close()
        if self.forward.taken and self.reverse.taken:
            for start, n in self._taken:
                self._shared.give(start, n)
        self._taken = []


def make_room(kept: dict[tuple[int, ...], T], columns: tuple[int, ...]) -> list[T]:
    """Take out what has to go where something for so many columns comes: the first of `WIDTHS` that are kept.

    What is for one vector, (), stays.  Batches come in few widths, those of the service in powers of two.
    """
    widths = [width for width in kept if width]
    return [kept.pop(widths[0])] if columns and len(widths) >= WIDTHS else []


class Channels:
    """The channels of one exchange by number of columns; `get` closes that for the width which was got longest ago."""

    def __init__(self, sends: list[tuple[int, np.ndarray]], recvs: list[tuple[int, np.ndarray]], tag: int) -> None:
        self._sends = [(rank, len(ids)) for rank, ids in sends]
        self._recvs = [(rank, len(ids)) for rank, ids in recvs]
        self._tag = tag
        self._open: dict[tuple[int, ...], Channel] = {}

    def get(self, comm: MPI.Comm, columns: tuple[int, ...], repeated: bool = False) -> Channel:
        """repeated, which all neighbours say of it: one vector may go through memory of the node."""
        channel = self._open.pop(columns, None)
        if channel is None:
            for old in make_room(self._open, columns):
                old.close()
            shared = node(comm) if repeated and not columns else None
            channel = Channel(comm, self._sends, self._recvs, columns, self._tag) if shared is None else NodeChannel(
                shared, comm, self._sends, self._recvs, self._tag)
        self._open[columns] = channel
        return channel

    @property
    def nbytes(self) -> int:
        return sum(channel.nbytes for channel in self._open.values())

    def close(self) -> None:
        for channel in self._open.values():
            channel.close()
        self._open = {}


def _split(buffer: np.ndarray, parts: list[tuple[int, int]]) -> list[np.ndarray]:
    ends = np.cumsum([n for _, n in parts]).tolist()
    return [buffer[end - n:end] for (_, n), end in zip(parts, ends)]


__all__ = ["ELSEWHERE", "SENT", "WAITED", "WIDTHS", "Channel", "Channels", "Messages", "NodeChannel", "Timing",
           "make_room", "timed_messages"]
