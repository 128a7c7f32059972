"""Memory that the ranks of one node share: a message that lies there is written once and read once, without MPI.

Between two supersteps a call of MPI's takes ten times what it takes in a loop of its own: its instructions have to come
back to caches that computing has filled meanwhile.  Here a word says that message n is there, which is one store, and
the neighbour sees it with one load:

    sender      waits until message n - 1 was taken, packs, and sets `sent` to n in its memory
    receiver    waits for `sent` to be n, unpacks from the sender's memory, and sets `taken` to n in its own

Nobody writes into another rank's memory.  Other ranks must see stores in the order in which they were made, which x86
processors promise; on others messages go by MPI.
"""

from __future__ import annotations

import os
import platform
from array import array
from typing import NamedTuple

import numpy as np
from mpi4py import MPI

ROOM = 1 << 20  # numbers that a rank has for its messages: 8 MiB, of which only what is used takes memory
LINE = 8  # numbers in a cache line: no two words of a channel are in one
SPINS = 2000  # looks at a word, about 0.1 ms, before others are let run, and MPI's messages moved on
NO_MORE = 1 << 62  # messages taken by a rank that has closed its channel
OFFERED, TAKEN = 0, 2  # words of a channel, by direction: sent forward, sent back, taken forward, taken back
IN_ORDER = ("x86_64", "amd64")

_node: list[Node | None] = []  # of this process, once all processes have tried


class Node:
    """The memory of all ranks on a node: `numbers` and the same as whole `words`, by rank of MPI.COMM_WORLD."""

    def __init__(self, comm: MPI.Comm) -> None:
        """Collective on comm, whose ranks are those of MPI.COMM_WORLD."""
        here = comm.Split_type(MPI.COMM_TYPE_SHARED)
        self._window = MPI.Win.Allocate_shared(8 * ROOM, 8, comm=here)
        ranks = MPI.Group.Translate_ranks(here.group, list(range(here.size)), comm.group)
        self.numbers, self.words = {}, {}
        for k, rank in enumerate(ranks):
            memory = memoryview(self._window.Shared_query(k)[0]).cast("B")
            self.numbers[rank] = np.frombuffer(memory, dtype=np.float64, count=ROOM)
            self.words[rank] = memory.cast("q")
        self._rank, self._next = comm.rank, 0
        self._free: dict[int, list[int]] = {}

    def take(self, n: int) -> int:
        """Where this rank has n numbers free, at the beginning of a cache line; -1: nowhere."""
        n = -(-n // LINE) * LINE
        if self._free.get(n):
            return self._free[n].pop()
        if self._next + n > ROOM:
            return -1
        self._next += n
        return self._next - n

    def give(self, start: int, n: int) -> None:
        """Give them back."""
        if start >= 0:
            self._free.setdefault(-(-n // LINE) * LINE, []).append(start)

    def channel(self) -> int:
        """Where this rank has the words of one more channel, all 0; -1: nowhere."""
        start = self.take(4 * LINE)
        for k in range(4 if start >= 0 else 0):
            self.words[self._rank][start + k * LINE] = 0
        return start


class Words:
    """The words of one direction of a channel.  `mine` and `theirs` are pairs (memory, place).

    taken : of receivers, who say how many messages they took; `sent` is where this rank says how many it sent
    coming : of senders, who say how many they sent; `took` is where this rank says how many it took
    """

    def __init__(self) -> None:
        self.sent: list[Word] = []
        self.taken: list[Word] = []
        self.coming: list[Word] = []
        self.took: list[Word] = []
        self._counts = array("q", (0, 0))  # messages sent, and taken

    def before(self) -> None:
        """Wait until what was sent before has been taken."""
        for word in self.taken:
            _wait(word, self._counts[0])

    def all_taken(self) -> bool:
        """Whether it has been.  From now on this rank takes nothing more, and says so."""
        for words, place in self.took:
            words[place] = NO_MORE
        return all(words[place] >= self._counts[0] for words, place in self.taken)

    def send(self) -> None:
        """What was packed may be taken."""
        self._counts[0] += 1
        for words, place in self.sent:
            words[place] = self._counts[0]

    def receive(self) -> None:
        """Wait for all messages."""
        self._counts[1] += 1
        for word in self.coming:
            _wait(word, self._counts[1])

    def after(self) -> None:
        """What came has been unpacked."""
        for words, place in self.took:
            words[place] = self._counts[1]

    @property
    def counts(self) -> tuple[int, int]:
        """Addresses of the numbers of messages sent and taken."""
        sent, _ = self._counts.buffer_info()
        return sent, sent + self._counts.itemsize


class Word(NamedTuple):
    """A word of a rank's memory."""

    words: memoryview
    place: int

    @property
    def address(self) -> int:
        return int(np.frombuffer(self.words, dtype=np.int64).__array_interface__["data"][0]) + 8 * self.place


def _wait(word: Word, n: int) -> None:
    words, place = word
    if words[place] >= n:
        return
    for _ in range(SPINS):
        if words[place] >= n:
            return
    while words[place] < n:
        idle()


def idle() -> None:
    """What a rank does that has waited for long: it moves MPI's messages on, for one of which a neighbour may be
    waiting, and lets others run."""
    MPI.COMM_WORLD.Iprobe()
    os.sched_yield()


def share(comm: MPI.Comm) -> None:
    """Let ranks of a node share memory from now on, if comm has all ranks of MPI.COMM_WORLD.  Collective on comm."""
    if _node or comm.size == 1 or MPI.Comm.Compare(comm, MPI.COMM_WORLD) not in (MPI.IDENT, MPI.CONGRUENT):
        return
    found: Node | None = None
    if platform.machine().lower() in IN_ORDER:
        try:
            found = Node(comm)
        except MPI.Exception:  # no room for shared memory, or an MPI without it: messages go by MPI
            found = None
    _node.append(found if comm.allreduce(int(found is not None), op=MPI.MIN) else None)


def node(comm: MPI.Comm) -> Node | None:
    """The memory shared with ranks of comm, if there is any.  Local."""
    if not _node or _node[0] is None or MPI.Comm.Compare(comm, MPI.COMM_WORLD) not in (MPI.IDENT, MPI.CONGRUENT):
        return None
    return _node[0]


__all__ = ["LINE", "OFFERED", "TAKEN", "Node", "Word", "Words", "idle", "node", "share"]
