"""Agreement over a communicator: one rank fails, every rank raises the same error, nobody hangs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, overload

from mpi4py import MPI

from . import errors

T = TypeVar("T")


def world() -> MPI.Comm:
    """The default communicator, taken when it is asked for and never at import."""
    return MPI.COMM_WORLD


def _portable(error: BaseException) -> BaseException:
    """The error itself if it can travel, else a `RemoteError` with its text."""
    try:
        copy = pickle.loads(pickle.dumps(error))
        if type(copy) is type(error) and str(copy) == str(error):
            return copy
    except Exception:  # whatever a foreign exception's pickling does, its text still travels
        pass
    return errors.RemoteError(f"{type(error).__name__}: {error}")


@contextmanager
def agreed(comm: MPI.Comm) -> Iterator[None]:
    """Run a stretch of *local* work; afterwards all ranks have succeeded or all raise.  Collective.

    Inside the block no rank may communicate on `comm`: a rank that fails leaves the block early.
    The rank that failed raises its own error (with its traceback); the others raise the error of the
    lowest failing rank.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if comm.size == 1:
        if failure is not None:
            raise failure
        return
    worst = comm.allreduce(comm.rank if failure is not None else comm.size, op=MPI.MIN)
    if worst == comm.size:
        return
    shared = comm.bcast(_portable(failure) if comm.rank == worst and failure is not None else None, root=worst)
    if failure is not None:
        raise failure
    raise shared


@overload
def on_root(comm: MPI.Comm, work: Callable[[], T], share: Literal[True] = True) -> T: ...
@overload
def on_root(comm: MPI.Comm, work: Callable[[], T], share: bool) -> Any: ...
def on_root(comm: MPI.Comm, work: Callable[[], T], share: bool = True) -> Any:
    """`work()` runs on rank 0; its result comes back on every rank (or rank 0 alone, `share=False`).  Collective."""
    result: Any = None
    with agreed(comm):
        if comm.rank == 0:
            result = work()
    if share and comm.size > 1:
        shared = comm.bcast(result, root=0)
        return result if comm.rank == 0 else shared  # rank 0 keeps the object itself, not what became of it on the way
    return result
