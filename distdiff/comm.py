"""Agreement over a communicator (one rank fails, or is in another call, every rank raises the same error)."""

from __future__ import annotations

import pickle
import sys
import threading
import time
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial, wraps
from typing import Any, Literal, TypeVar, overload

import numpy as np
from mpi4py import MPI

from . import errors
from .channels import Messages

T = TypeVar("T")

PATIENCE = 60.0  # seconds that a failed rank waits for the others, which may be waiting for it
TOLD = 2  # numbers that ranks may tell each other in an agreement
LATE = 10.0  # seconds at the beginning of a call after which is said that others have not come


class _Alone(threading.local):
    """How many `on_root` calls of this thread are running their work."""

    depth = 0


class _Calling(threading.local):
    """The collective call that this thread is in, the outermost: the one in its user's program."""

    name, begun = "", False  # begun: all ranks are known to be in it
    together = 0  # stretches of work around, whose messages may be on their way


_alone, _calling = _Alone(), _Calling()


def world() -> MPI.Comm:
    """The default communicator, taken when it is asked for and never at import: of all ranks, or, in work that rank 0
    does for them all, of itself."""
    return MPI.COMM_SELF if _alone.depth else MPI.COMM_WORLD


def chosen(given: MPI.Comm | None) -> MPI.Comm:
    """The communicator that a caller gives, or `world()`; `InputError` for what is none."""
    comm = world() if given is None else given
    if not isinstance(comm, MPI.Comm) or comm == MPI.COMM_NULL:
        raise errors.InputError(f"comm={given!r} is no communicator; give one of mpi4py's, or leave it out")
    return comm


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
    notes = {"__notes__": error.__notes__} if hasattr(error, "__notes__") else {}
    return pickle.dumps((errors.RemoteError, (f"{type(error).__name__}: {error}",), notes))


def _unpacked(packed: bytes) -> BaseException:
    kind, args, attributes = pickle.loads(packed)
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


@contextmanager
def calling(name: str) -> Iterator[None]:
    """While the body runs, agreements say that this rank is in the call `name`, if it is in no other.  Local."""
    outermost = not _calling.name
    if outermost:
        _calling.name = name
    try:
        yield
    finally:
        if outermost:
            _calling.name, _calling.begun = "", False


@contextmanager
def agreed(comm: MPI.Comm, begins: bool = False) -> Iterator[None]:
    """Run a stretch of *local* work; afterwards all ranks have succeeded or all raise.  Collective.

    Inside the block no rank may communicate on `comm`: a rank that fails leaves the block early.
    The rank that failed raises its own error (with its traceback); the others raise the error of the
    lowest failing rank.  Ranks that are in different calls all raise `InputError`.  `begins`: a call begins so, and a
    rank that waits for others to make it says so.
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
    worst, _, _ = _agree(comm, failure, _wait_for_calls if begins else _wait)
    _calling.begun = _calling.begun or begins
    if worst == comm.size:
        return
    packed = comm.bcast(_packed(failure) if comm.rank == worst and failure is not None else None, root=worst)
    if failure is not None:
        raise failure
    raise _unpacked(packed)


def tell(comm: MPI.Comm, what: str, category: type[Warning] = UserWarning) -> None:
    """Warn, on rank 0, at the user's line.  Collective."""
    with agreed(comm):  # warnings may be errors
        if comm.rank == 0:
            warnings.warn(what, category, stacklevel=outside())


def outside() -> int:
    """The level in the stack, seen from the caller, of the first line that isn't ours."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("distdiff.", "contextlib")):
        frame, level = frame.f_back, level + 1
    return level


def _agree(comm: MPI.Comm, failure: BaseException | None, wait: Callable[[MPI.Comm, MPI.Request], None],
           told: tuple[int, ...] = (0,) * TOLD) -> tuple[int, bool, tuple[int, ...]]:
    """The lowest rank that failed (or comm.size), whether all did, and the most of what each told.  One message.
    Collective.

    It is the same message in all agreements, so that ranks which are in different calls meet in it: then all raise
    `InputError`, and nothing that is around agrees on it again.
    """
    call = zlib.crc32(_calling.name.encode())
    mine = np.array([comm.size if failure is None else comm.rank, failure is not None, call, -call,
                     not _calling.together, *(-number for number in told)], dtype=np.int64)
    least = np.empty_like(mine)
    wait(comm, comm.Iallreduce(mine, least, op=MPI.MIN))
    worst, all_failed, lowest, highest, nothing_on_its_way, *most = least.tolist()
    if lowest != -highest:
        if not nothing_on_its_way:
            comm.Set_attr(_broken(), True)
        raise _different_calls(comm) from failure
    return worst, bool(all_failed), tuple(-number for number in most)


def _different_calls(comm: MPI.Comm) -> errors.InputError:
    names = [name or "another collective function" for name in comm.allgather(_calling.name)]
    other = next(rank for rank, name in enumerate(names) if name != names[0])
    error = errors.InputError(
        f"rank {other} called {names[other]} while rank 0 called {names[0]}: calls are collective on comm, so all its "
        f"{comm.size} ranks make the same ones in the same order; take them out of `if comm.rank == ...`, or give what "
        "one rank computes by itself comm=MPI.COMM_SELF")
    error.__dict__["_settled"] = comm
    return error


def _wait(comm: MPI.Comm, request: MPI.Request) -> None:
    request.Wait()


def _wait_for_calls(comm: MPI.Comm, request: MPI.Request) -> None:
    """Wait for all ranks to make this rank's call; the first two ranks say so where it takes long."""
    began = time.monotonic()
    while not request.Test():
        if time.monotonic() - began > LATE:
            if comm.rank < 2:
                what = _calling.name or "a call"
                print(f"distdiff: rank {comm.rank} has waited {LATE:g} s in {what} for other ranks to make it too: "
                      f"calls are collective on comm, of {comm.size} ranks", file=sys.stderr, flush=True)
            request.Wait()


class Told:
    """What a rank tells all others at the end of `together`, TOLD numbers; afterwards the largest of all ranks'."""

    numbers = (0,) * TOLD


@contextmanager
def together(comm: MPI.Comm) -> Iterator[Told]:
    """Run a stretch of work that *communicates*; afterwards all ranks have succeeded or all raise.  Collective.

    All ranks raise the error of the lowest failing rank.  Where only some failed, messages may still be on their way
    that a later exchange would take for its own: the communicator is then refused from `require_sound`.  A rank that
    fails while others wait for its messages can't tell them; it waits PATIENCE seconds for them, and then ends the job
    with its traceback, for nobody else could.
    """
    failure: BaseException | None = None
    told = Told()
    _calling.together += 1
    try:
        try:
            yield told
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            if vars(error).get("_settled") == comm:
                raise
            failure = error
        if comm.size == 1:
            if failure is not None:
                raise failure
            return
        worst, all_failed, told.numbers = _agree(comm, failure, _wait_for_messages if failure is None else partial(
            _wait_for_others, failure=failure), told.numbers)
    finally:
        _calling.together -= 1
    if worst == comm.size:
        return
    if not all_failed:
        comm.Set_attr(_broken(), True)
        if failure is not None:  # a surprise: where it came up travels along
            failure.add_note(f"On rank {comm.rank} of {comm.size}:\n" + "".join(traceback.format_exception(failure)))
    packed = comm.bcast(_packed(failure) if comm.rank == worst and failure is not None else None, root=worst)
    error = _unpacked(packed)
    if failure is not None and (comm.rank == worst or (type(failure), str(failure)) == (type(error), str(error))):
        raise failure
    raise error from failure


def collective(method: Callable[..., T]) -> Callable[..., T]:
    """A method of an object with a `comm`, whose ranks all succeed or all raise: `together`, whatever fails in it.

    It begins with an agreement that all ranks are in the same call, if what it is called by has not.  The object's
    `turn`, a lock, is held meanwhile: another thread would write into the same values.
    """
    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> T:
        require_sound(self.comm)
        with self.turn, calling(method.__qualname__):
            if not _calling.begun:
                with agreed(self.comm, begins=True):
                    pass
            with together(self.comm):
                return method(self, *args, **kwargs)
    return call


def _wait_for_messages(comm: MPI.Comm, request: MPI.Request) -> None:
    Messages([request]).finish()


def _wait_for_others(comm: MPI.Comm, request: MPI.Request, failure: BaseException) -> None:
    began = time.monotonic()
    while not request.Test():
        if time.monotonic() - began > PATIENCE:
            traceback.print_exception(failure)
            print(f"distdiff: rank {comm.rank} of {comm.size} failed as above, and others have been waiting for its "
                  f"messages for {PATIENCE:g} s: ending the job", file=sys.stderr, flush=True)
            comm.Abort(1)
        time.sleep(0.001)


@lru_cache(maxsize=1)
def _broken() -> int:
    """The key of an attribute that broken communicators have."""
    return MPI.Comm.Create_keyval()


def sound(comm: MPI.Comm) -> bool:
    """Whether no rank failed alone in an exchange on it.  The same on all ranks."""
    return comm.size == 1 or not comm.Get_attr(_broken())


def require_sound(comm: MPI.Comm) -> None:
    """Raise `BrokenCommunicatorError` if a rank failed in the middle of an exchange on it.  The same on all ranks."""
    if not sound(comm):
        raise errors.BrokenCommunicatorError(
            "a rank failed in the middle of an exchange on this communicator, and a later exchange could receive what "
            "was left on its way; end the program, or go on with a duplicate that all ranks make, comm=comm.Dup()")


@overload
def on_root(comm: MPI.Comm, work: Callable[[], T], share: Literal[True] = True, begins: bool = False) -> T: ...
@overload
def on_root(comm: MPI.Comm, work: Callable[[], T], share: bool, begins: bool = False) -> Any: ...
def on_root(comm: MPI.Comm, work: Callable[[], T], share: bool = True, begins: bool = False) -> Any:
    """`work()` runs on rank 0; its result comes back on every rank (or rank 0 alone, `share=False`).  Collective.

    `begins`: as for `agreed`.
    """
    result: Any = None
    packed: Any = None
    share = share and comm.size > 1
    with agreed(comm, begins):
        if comm.rank == 0:
            with alone():
                result = work()
            packed = _pack(result) if share else None
    if share:
        packed = comm.bcast(packed, root=0)
        if comm.rank:
            return pickle.loads(packed)
    return result


def vector_from_root(comm: MPI.Comm, n: int, work: Callable[[], np.ndarray]) -> np.ndarray:
    """`work()`, a vector of n doubles, runs on rank 0; its result comes back on every rank, or its error.  Collective.

    As `on_root`, but rank 0 waits for nobody and what it sends is one message, for what is done at every solve.
    """
    if comm.size == 1:
        with alone():
            return work()
    message, failure = np.empty(n + 1), None
    if comm.rank == 0:
        try:
            with alone():
                message[1:] = work()
            message[0] = 0.0
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            message[:], failure = 1.0, error
    comm.Bcast(message, root=0)
    if message[0]:
        packed = comm.bcast(_packed(failure) if failure is not None else None, root=0)
        raise failure if failure is not None else _unpacked(packed)
    return message[1:]


def _pack(result: Any) -> bytes:
    try:
        return pickle.dumps(result, protocol=5)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise errors.InputError(f"rank 0 can't send its result to the other ranks: {error}. Results, aux and "
                                "containers must be picklable: classes of an importable module, no files") from error
