"""PETSc at first use: start, index type, log events, and options with the prefix `distdiff_`.

Nothing here runs at import, so array code that never assembles a matrix never starts PETSc.
"""

from __future__ import annotations

import atexit
import ctypes
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from mpi4py import MPI

from .comm import on_root, tell
from .errors import InputError
from .packages import explained

PREFIX = "distdiff_"

# Command-line words handed to PETSc when distdiff is the one to start it.  Not all of them: a script's own
# `-h` or `-v` would make PETSc print its help or version and stop.
_PASSED_ON = ("-" + PREFIX, "-log_", "-options_", "-info", "-malloc", "-on_error_", "-mat_mumps_", "-mat_superlu_dist_")

_events: dict[str, Any] = {}


def petsc() -> Any:
    """The module petsc4py.PETSc; if nobody has started it yet, started for this process alone, with our part of the
    command line.  What all ranks do together calls `start` before.
    """
    module = sys.modules.get("petsc4py.PETSc")
    if module is None:
        module = _start(MPI.COMM_SELF)
    elif not getattr(module, "_distdiff_options_read", False):
        given = module.Options().getAll()  # started by someone else, perhaps without the command line
        words = _words(sys.argv[1:], ("-" + PREFIX,))
        for key, value in _pairs(words):
            if key not in given:
                module.Options().setValue(key, value)
    module._distdiff_options_read = True
    return module


def started() -> bool:
    """Whether PETSc runs already."""
    return "petsc4py.PETSc" in sys.modules


def start(comm: MPI.Comm) -> None:
    """Start PETSc on the ranks of `comm`, where it doesn't run yet.  Collective.

    PETSc has one communicator for all it isn't told another for: `-log_view`, and what users make without naming one.
    Started by all processes at once, it is that of all; but starting it so waits for all of them.  Where some of them
    need it by themselves, or have before, each process starts it with a communicator of its own: our objects name
    theirs, so all methods work.
    """
    if comm.size == MPI.COMM_WORLD.size and not comm.allreduce(started(), op=MPI.LOR):
        _start(MPI.COMM_WORLD)
    petsc()


def _start(comm: MPI.Comm) -> Any:
    try:
        import petsc4py
    except ImportError as error:
        raise explained(error, "this method") from error
    # Its handlers would end the program where a pipe or a client has gone away, which Python makes an exception.
    petsc4py.init([*sys.argv[:1], "-no_signal_handler", *_words(sys.argv[1:], _PASSED_ON)],
                  comm=comm if MPI.COMM_WORLD.size > 1 else None)
    from petsc4py import PETSc

    # By itself PETSc ends when the interpreter is gone; what calls into Python and was never closed would then crash.
    atexit.register(PETSc._finalize)
    return PETSc


def ended() -> bool:
    """Whether PETSc runs no more: the program is at its end, and PETSc has freed what it had."""
    return bool(petsc().Sys.isFinalized())


def destroy(*objects: Any) -> None:
    """Destroy PETSc objects, unless PETSc has ended.  Collective."""
    if not ended():
        for one in objects:
            one.destroy()


def _words(argv: list[str], prefixes: tuple[str, ...]) -> list[str]:
    kept: list[str] = []
    taking = False
    for word in argv:
        if word.startswith("-") and not _is_number(word):
            taking = word.startswith(prefixes)
        if taking:
            kept.append(word)
    return kept


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _pairs(words: list[str]) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        if word.startswith("-") and not _is_number(word):
            pairs.append((word[1:], None))
        elif pairs:
            pairs[-1] = (pairs[-1][0], word)
    return pairs


def index_type() -> np.dtype:
    """The integer type of this PETSc's indices: int32, or int64 if built with --with-64-bit-indices."""
    return np.dtype(petsc().IntType)


@contextmanager
def event(name: str) -> Iterator[None]:
    """A PETSc log event around a stretch of work, so `-log_view` shows it by our name; none where PETSc isn't used."""
    if "petsc4py.PETSc" not in sys.modules:
        yield
        return
    if name not in _events:
        _events[name] = petsc().Log.Event(f"dd {name}")
    one = _events[name]
    one.begin()
    try:
        yield
    finally:
        one.end()


class Options:
    """PETSc's options database as one solver sees it: names without the prefix."""

    def __init__(self, who: str) -> None:
        self.who = who
        self._db = petsc().Options(PREFIX)

    def given(self, name: str) -> bool:
        return bool(self._db.hasName(name))

    def string(self, name: str, default: str, allowed: tuple[str, ...] | None = None) -> str:
        """The option's value; raises `InputError` if it is none of the allowed ones."""
        value = self._db.getString(name, default)
        if allowed is not None and value not in allowed:
            raise InputError(f"option -{PREFIX}{name} {value!r} does not exist for {self.who}; choose one of "
                             f"{', '.join(allowed)}")
        return value

    def integer(self, name: str, default: int) -> int:
        try:
            return int(self._db.getInt(name, default))
        except petsc().Error:
            raise InputError(f"option -{PREFIX}{name} {self._db.getString(name)!r} is no integer") from None

    def real(self, name: str, default: float) -> float:
        try:
            return float(self._db.getReal(name, default))
        except petsc().Error:
            raise InputError(f"option -{PREFIX}{name} {self._db.getString(name)!r} is no number") from None


@contextmanager
def options(comm: MPI.Comm, extra: Mapping[str, Any] | None, who: str, part: str = "",
            told: bool = False) -> Iterator[Options]:
    """PETSc options with the prefix `distdiff_` while one solver is configured and set up.

    `extra` ({'ksp_type': 'fgmres', 'mat_mumps_icntl_14': 50}; a leading '-' or 'distdiff_' may be left out,
    True stands for a flag) enters the database for the duration; what stands on the command line
    wins.  Afterwards options with our prefix (and `part` after it) that nobody asked for are warned about, each once,
    on rank 0 (`told`: it was done before).  Collective.
    A PETSc error inside becomes an `InputError` if it speaks of an unknown type or a bad option value.
    """
    PETSc = petsc()
    database = PETSc.Options()
    before = database.getAll()
    entered = []
    for key, value in (extra or {}).items():
        name = PREFIX + str(key).lstrip("-").removeprefix(PREFIX)
        if name not in before:
            database.setValue(name, None if value is True or value is None else _text(value))
            entered.append(name)
    ours = [name for name in database.getAll() if name.startswith(PREFIX + part)]
    try:
        yield Options(who)
        if not told:
            _tell_unused(comm, PETSc, ours, entered, who)
    except PETSc.Error as error:
        if error.ierr in OPTION_ERRORS:
            given = ", ".join(f"-{name} {database.getAll().get(name, '')}".rstrip() for name in ours) or "none"
            raise InputError(f"PETSc refused the options for {who} ({reason(error)}; options given: {given}); "
                             "correct or remove the option, PETSc's manual pages list the values") from error
        raise
    finally:
        for name in entered:
            database.delValue(name)


OPTION_ERRORS = (86, 63, 62)  # PETSC_ERR_ARG_UNKNOWN_TYPE, ARG_OUTOFRANGE, ARG_WRONG
_warned: set[str] = set()


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def reason(error: Any) -> str:
    """The last line of PETSc's own message, which names the value it did not like."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].split("]", 1)[-1].strip() if lines else f"error {error.ierr}"


def _tell_unused(comm: MPI.Comm, PETSc: Any, names: list[str], entered: list[str], who: str) -> None:
    unused = [name for name in names if (name in entered or name not in _warned) and not _used(PETSc, name)]
    _warned.update(unused)
    for name in on_root(comm, lambda: unused):
        tell(comm, f"option -{name} was not used by {who}: misspelt, or meant for another method")


def _used(PETSc: Any, name: str) -> bool:
    """Has anybody asked the options database for this name?"""
    # petsc4py has no binding for PetscOptionsUsed up to (at least) 3.18; the C function is in the library
    # that its extension module is linked with.  The flag is an enum up to 3.22 and a C bool later: four zeroed
    # bytes hold either.
    library = ctypes.CDLL(PETSc.__file__)
    flag = ctypes.c_int(0)
    library.PetscOptionsUsed(None, name.encode(), ctypes.byref(flag))
    return flag.value != 0
