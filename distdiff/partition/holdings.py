"""Scalar runs that leave rank 0 while it goes on tracing.

Where a run belongs follows from the program's length, which nobody knows before its end.  So finished runs are held
provisionally by all ranks, turn about, which leaves each of them its share of however many there will be; rank 0 keeps
what layouts are made of: a run's length and what it reads from before it.  Once the layout is known, every run that
does not lie where it belongs goes there, from rank to rank.  What rank 0 looks at in between (runs at the borders of
ranks, links of chains) it fetches, one run at a time.

Rank 0 runs the user's function meanwhile, so it alone speaks, and the others `serve`:

    rank 0   note, note, ..., fetch, ..., dismiss        others   serve (until dismissed)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import numpy as np
from mpi4py import MPI

from ..graph.reads import reads_of
from ..tape import HeldRun, ScalarRun, Tape
from ..tracing import memory
from . import choose

LEAST = 1 << 12  # lines of a run that leaves
AHEAD = 1 << 24  # bytes of runs that stay with rank 0 beyond its share: programs with no more trace without a message
ONCE = 64  # ... times as many where one derivative is wanted, which rank 0 will probably find alone
ON_THE_WAY = 8  # runs that rank 0 still has the memory of, as they are being sent
HOLD, FETCH, TAKE, WRITTEN, FORGET, DISMISS = range(6)
_TAG = 74


class Holdings:
    """The runs that ranks hold for rank 0.  Construction is local.  once: for one derivative, and no other point."""

    def __init__(self, comm: MPI.Comm, once: bool = False) -> None:
        self.comm, self._once = comm, once
        self.runs: dict[int, ScalarRun] = {}  # by block: those that this rank holds (rank 0's are on the tape)
        self.holder: dict[int, int] = {}  # on rank 0: by block, who holds it
        self._written: dict[int, ScalarRun] = {}  # the same of the tape that takes this one's place
        self._owner: dict[int, int] = {}
        self._lines = self._noted = self._seen = self._turn = 0
        self._heard = False  # the others serve
        self._latest: tuple[int, ScalarRun] | None = None  # the run that was fetched last
        self._waiting: deque[tuple[int, ScalarRun, int]] = deque()  # item, run, whose turn it is: they leave later
        self._bytes = 0  # of these
        self._leaving: deque[tuple[list[MPI.Request], object]] = deque()  # what is being sent, and where it lies

    # -- rank 0

    @property
    def long(self) -> int:
        """Scalar lines from which on programs are laid out run by run."""
        return choose.MANY_LINES

    def note(self, tape: Tape, beside: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Runs were appended to the tape.  Of programs that will be laid out run by run, those whose turn is another
        rank's leave, and `HeldRun`s stand in their places; short ones, which are objects more than lines, stay, and the
        latest ones: a message makes rank 0 wait for others, for long where they have no core to themselves.  `beside`
        as `tracing.recorder.Holdings` says.
        """
        self._lines += sum(item.lines for item in tape.items[self._noted:] if isinstance(item, ScalarRun))
        self._noted = len(tape.items)
        if self._lines <= self.long:
            return
        for index in range(self._seen, len(tape.items)):
            run = tape.items[index]
            if isinstance(run, ScalarRun) and run.lines >= LEAST:
                self._turn = (self._turn + 1) % self.comm.size
                if self._turn:
                    self._waiting.append((index, run, self._turn))
                    self._bytes += run.nbytes
        self._seen = len(tape.items)
        while self._bytes > AHEAD * (ONCE if self._once else 1):
            with beside():
                self._send_oldest(tape)

    def settle(self, tape: Tape, leave: bool) -> None:
        """The tape is complete: what has waited stays, or is to `leave` as well, before lines are looked at with bytes
        a line beside them."""
        while leave and self._waiting:
            self._send_oldest(tape)
        self._waiting.clear()
        if leave:
            self._left(0)
            memory.give_back(pool=True)

    def _send_oldest(self, tape: Tape) -> None:
        index, run, rank = self._waiting.popleft()
        self._bytes -= run.nbytes
        if index < len(tape.items) and tape.items[index] is run:
            tape.items[index] = self._hand_over(run, tape.blocks[run.block].first, rank)

    def _hand_over(self, run: ScalarRun, first: int, rank: int) -> HeldRun:
        self._leaving.append(_start(run, rank, self.comm, HOLD))  # who traces does not wait for who listens
        self._left(ON_THE_WAY)
        self.holder[run.block] = rank
        return HeldRun(run.block, run.lines, reads_of(run, first), partial(self._get, run.block, FETCH))

    def written(self, run: ScalarRun, rank: int) -> ScalarRun:
        """A run of the tape that is to take this one's place, which goes to its rank at once; what stands for it."""
        if not rank:
            return run
        self._leaving.append(_start(run, rank, self.comm, WRITTEN))
        self._left(ON_THE_WAY)
        self._owner[run.block] = rank
        return HeldRun(run.block, run.lines, None, partial(self._get, run.block, FETCH))

    def _left(self, most: int) -> None:
        """Wait until no more than so many runs are on their way."""
        while len(self._leaving) > most:
            MPI.Request.Waitall(self._leaving.popleft()[0])

    def _get(self, block: int, what: int) -> ScalarRun:
        if not self._heard:
            raise RuntimeError(f"the lines of block {block} are held by rank {self.holder.get(block)}, which does not "
                               "listen any more")
        if self._latest is None or self._latest[0] != block or what == TAKE:
            self.comm.Send(_head(what, block), self.holder[block], _TAG)
            self._latest = block, receive_run(self.holder[block], self.comm)
        return self._latest[1]

    def gather(self, tape: Tape) -> None:
        """All runs come back to the tape: rank 0 is to have them all, or every rank."""
        for index, item in enumerate(tape.items):
            if isinstance(item, HeldRun):
                tape.items[index] = self._get(item.block, TAKE)
                del self.holder[item.block]
        self._latest = None

    def forget(self) -> None:
        """What was noted so far is of no use: the function is traced once more, without, or there is another tape,
        whose runs are `written`."""
        self._left(0)
        for rank in range(1, self.comm.size):
            self.comm.Send(_head(FORGET), rank, _TAG)
        self.holder, self._owner = self._owner, {}
        self._waiting.clear()
        self._lines, self._noted, self._seen, self._bytes, self._latest = 0, 0, 0, 0, None

    @contextmanager
    def speaking(self) -> Iterator[None]:
        """Rank 0's work while the others serve: however it ends, they are dismissed."""
        self._heard = True
        try:
            yield
        finally:
            self._left(0)
            self._heard, self._latest = False, None
            for rank in range(1, self.comm.size):
                self.comm.Send(_head(DISMISS), rank, _TAG)

    # -- all others

    def serve(self) -> None:
        """Hold runs, and give them back, until rank 0 dismisses this rank."""
        head = _head(0)
        while True:
            self.comm.Recv(head, 0, _TAG)
            what, block = int(head[0]), int(head[1])
            if what == HOLD:
                self.runs[block] = receive_run(0, self.comm, head)
            elif what == FETCH:
                send_run(self.runs[block], 0, self.comm)
            elif what == TAKE:
                send_run(self.runs.pop(block), 0, self.comm)
            elif what == WRITTEN:
                self._written[block] = receive_run(0, self.comm, head)
            elif what == FORGET:
                self.runs, self._written = self._written, {}
            else:
                return


def _head(what: int, block: int = 0, lines: int = 0, constants: int = 0, width: int = 4) -> np.ndarray:
    return np.array([what, block, lines, constants, width], dtype=np.int64)


def send_run(run: ScalarRun, rank: int, comm: MPI.Comm, what: int = HOLD) -> None:
    """Send a run to a rank that calls `receive_run`."""
    MPI.Request.Waitall(_start(run, rank, comm, what)[0])


def _start(run: ScalarRun, rank: int, comm: MPI.Comm, what: int) -> tuple[list[MPI.Request], list[np.ndarray]]:
    """The messages of a run under way, and the memory that they are sent from."""
    head = _head(what, run.block, len(run.op), len(run.const), run.a.itemsize)
    arrays = [head, *(np.ascontiguousarray(array) for array in (run.op, run.a, run.b, run.const))]
    return [comm.Isend(array, rank, _TAG) for array in arrays], arrays


def receive_run(rank: int, comm: MPI.Comm, head: np.ndarray | None = None) -> ScalarRun:
    """The run that a rank sends; head: what announced it, if that has come already."""
    if head is None:
        head = _head(0)
        comm.Recv(head, rank, _TAG)
    _, block, lines, constants, width = head.tolist()
    # One piece of memory, as large as those that compiled tracing writes runs into: what a rank has given away serves.
    room, end = memory.empty(-(-lines * (1 + 2 * width) // 8)).view(np.uint8), 2 * width * lines
    a, b = (part.view(np.int32 if width == 4 else np.int64) for part in np.split(room[:end], 2))
    arrays = room[end:end + lines], a, b, np.empty(constants)
    for array in arrays:
        comm.Recv(array, rank, _TAG)
    return ScalarRun(block, *arrays)


__all__ = ["Holdings", "receive_run", "send_run"]
