"""Agreement over a communicator (one rank fails, every rank raises the same error, nobody hangs), and channels."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, overload

import numpy as np
from mpi4py import MPI

from . import errors

T = TypeVar("T")


class _Alone(threading.local):
    """How many `on_root` calls of this thread are running their work."""

    depth = 0


_alone = _Alone()


def world() -> MPI.Comm:
    """The default communicator, taken when it is asked for and never at import: of all ranks, or, in work that rank 0
    does for them all, of itself."""
    return MPI.COMM_SELF if _alone.depth else MPI.COMM_WORLD


@contextmanager
def alone() -> Iterator[None]:
    """While the body runs, `world` is this rank by itself: for foreign code that one rank calls and others may not."""
    _alone.depth += 1
    try:
        yield
    finally:
        _alone.depth -= 1


def _packed(error: BaseException) -> bytes:
    """The error, ready to travel: itself if it can, else a `RemoteError` with its text."""
    try:
        # Not the error's own pickling, which calls its class with `args`: a class with an __init__ of its own refuses.
        packed = pickle.dumps((type(error), error.args, error.__dict__))
        if str(_unpacked(packed)) == str(error):
            return packed
    except Exception:  # whatever a foreign exception's contents do, its text still travels
        pass
    return pickle.dumps((errors.RemoteError, (f"{type(error).__name__}: {error}",), {}))


def _unpacked(packed: bytes) -> BaseException:
    kind, args, attributes = pickle.loads(packed)
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


@contextmanager
def agreed(comm: MPI.Comm) -> Iterator[None]:
    """Run a stretch of *local* work; afterwards all ranks have succeeded or all raise.  Collective.

    Inside the block no rank may communicate on `comm`: a rank that fails leaves the block early.
    The rank that failed raises its own error (with its traceback); the others raise the error of the
    lowest failing rank.
    """
    failure: BaseException | None = None
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # a rank that leaves must not leave others waiting
        failure = error
    if comm.size == 1:
        if failure is not None:
            raise failure
        return
    worst = comm.allreduce(comm.rank if failure is not None else comm.size, op=MPI.MIN)
    if worst == comm.size:
        return
    packed = comm.bcast(_packed(failure) if comm.rank == worst and failure is not None else None, root=worst)
    if failure is not None:
        raise failure
    raise _unpacked(packed)


@overload
def on_root(comm: MPI.Comm, work: Callable[[], T], share: Literal[True] = True) -> T: ...
@overload
def on_root(comm: MPI.Comm, work: Callable[[], T], share: bool) -> Any: ...
def on_root(comm: MPI.Comm, work: Callable[[], T], share: bool = True) -> Any:
    """`work()` runs on rank 0; its result comes back on every rank (or rank 0 alone, `share=False`).  Collective."""
    result: Any = None
    packed: Any = None
    share = share and comm.size > 1
    with agreed(comm):
        if comm.rank == 0:
            with alone():
                result = work()
            packed = _pack(result) if share else None
    if share:
        packed = comm.bcast(packed, root=0)
        if comm.rank:
            return pickle.loads(packed)
    return result


def _pack(result: Any) -> bytes:
    try:
        return pickle.dumps(result, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise errors.InputError(f"rank 0 can't send its result to the other ranks: {error}. Results, aux and "
                                "containers must be picklable: classes of an importable module, no files") from error


class Messages:
    """Persistent requests that run together: `start` returns at once, `finish` when all have arrived.  Local.

    Between the two nobody touches the buffers.
    """

    def __init__(self, requests: list[MPI.Prequest]) -> None:
        self._requests = requests

    def start(self) -> None:
        MPI.Prequest.Startall(self._requests)

    def finish(self) -> None:
        MPI.Request.Waitall(self._requests)

    def close(self) -> None:
        for request in self._requests:
            request.Free()
        self._requests = []


class Channel:
    """Messages that are exchanged again and again: buffers and persistent requests.

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

    @property
    def nbytes(self) -> int:
        return self.own.nbytes + self.ghost.nbytes

    def close(self) -> None:
        self.forward.close()
        self.reverse.close()


class Channels:
    """The channels of one exchange by number of columns: for one column, and for the two widths used latest."""

    def __init__(self, sends: list[tuple[int, np.ndarray]], recvs: list[tuple[int, np.ndarray]], tag: int) -> None:
        self._sends = [(rank, len(ids)) for rank, ids in sends]
        self._recvs = [(rank, len(ids)) for rank, ids in recvs]
        self._tag = tag
        self._open: dict[tuple[int, ...], Channel] = {}

    def get(self, comm: MPI.Comm, columns: tuple[int, ...]) -> Channel:
        channel = self._open.get(columns)
        if channel is None:
            if len(self._open) >= 3:
                self._open.pop(next(width for width in self._open if width)).close()
            channel = self._open[columns] = Channel(comm, self._sends, self._recvs, columns, self._tag)
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
