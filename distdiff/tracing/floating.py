"""Floating-point errors while a function is traced: NumPy's warnings of them, with the user's line.

They are kept until the function has returned.  A result that is not finite is an error with file and line, which says
it once and better; where the result is finite the user is told as NumPy would.

A function may also have errors raised (`np.errstate`, `np.seterr`), warnings made errors or recorded
(`warnings.catch_warnings`), and go on by what it learns.  Then they come up where NumPy would have them, of numbers as
of arrays, and the tape holds at its own point only, since no replay raises them.  So it is where that was set before
the function runs, if code that it reaches catches anything.
"""

from __future__ import annotations

import dis
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from ..watch import Search
from .active import CAREFUL, failed, running
from .codes import twin
from .recorder import Recorder

Noted = dict[tuple[str, str, int], dict[str, Any]]  # (what, file, line) -> the globals there
_seterr, _seterrcall, _geterr, _geterrcall = (  # which stay NumPy's own
    twin(function) for function in (np.seterr, np.seterrcall, np.geterr, np.geterrcall))


class _Note:
    """What NumPy calls with the kind of an error, and what errors led to before the function ran."""

    def __init__(self, rec: Recorder, f: Callable[..., Any], modes: dict[str, str]) -> None:
        self._rec = rec
        self.found: Noted = {}
        self.before = _known(_geterrcall())  # what the user's function may ask for, and put there again
        self.calls: set[str] = set()  # kinds of errors that the user's function wants its own handler called with
        self.noting: Any = self  # the note that is taken: that of a trace around, if there is one
        self.modes, self.shown, self.errors = _raising(modes), _shown(), _action() == "error"
        self.catches = bool(self.modes or self.errors) and catches(f)

    def __call__(self, kind: str, flag: int) -> None:
        if _action() != "ignore":
            frame = self._rec.user_frame()
            self.found.setdefault((kind, frame.f_code.co_filename, frame.f_lineno), frame.f_globals)

    @property
    def told(self) -> bool:
        """Whether the function may learn of errors that NumPy warns of."""
        action = _action()
        return action != "ignore" and _shown() != self.shown or action == "error" and (self.catches or not self.errors)


@contextmanager
def noted(rec: Recorder, f: Callable[..., Any]) -> Iterator[Noted]:
    """While the body runs f, errors that NumPy would warn of are noted; what the user raises or ignores stays so."""
    modes = _geterr()
    note = _Note(rec, f, modes)
    theirs = {} if "call" in modes.values() else {"call": note, **{k: "call" for k in modes if modes[k] == "warn"}}
    note.noting = note if theirs else _geterrcall()
    with np.errstate(**theirs):
        rec.note_of_errors = note
        try:
            yield note.found
        finally:
            rec.note_of_errors = None
            CAREFUL.discard(id(rec))


@contextmanager
def aside() -> Iterator[None]:
    """While the body computes with plain numbers, what errors lead to there is none of the function's business."""
    rec = running()
    if rec is None:
        yield
        return
    before, rec.aside = rec.aside, True
    try:
        yield
    finally:
        rec.aside = before


def begin(rec: Recorder) -> None:
    """`look` before the function runs, when nothing has changed since it was noted."""
    note = rec.note_of_errors
    if note.modes or note.errors:
        look()


def look() -> None:
    """What errors lead to may be another thing now, in a thread that traces."""
    rec = running()
    note = rec.note_of_errors if rec is not None else None
    if rec is None or note is None or rec.aside:
        return
    told, raising = note.told, _raising()
    if type(_geterrcall()) is _Note:
        now, then = ("call", "warn") if told else ("warn", "call")  # NumPy itself warns, or the note is taken
        change = {kind: then for kind, mode in _geterr().items() if mode == now and kind not in note.calls}
        if change:
            _seterr(**change)
    rec.be_careful(told or bool(raising))
    (CAREFUL.add if rec.careful else CAREFUL.discard)(id(rec))
    if told or raising and (note.catches or raising != note.modes):
        failed()


def replaced(function: Any) -> Any:
    """The user's own function is to be called with errors: those that were noted are warnings again.  What was there
    before the trace stands for the note."""
    rec = running()
    note = rec.note_of_errors if rec is not None else None
    if note is not None and function is note.before:
        function = note.noting
    elif type(_geterrcall()) is _Note and type(function) is not _Note:
        kinds = note.calls if note is not None else ()
        _seterr(**{kind: "warn" for kind, mode in _geterr().items() if mode == "call" and kind not in kinds})
    return _known(_seterrcall(function))


def modes() -> dict[str, str]:
    """np.geterr(), as the user has set it: what is noted would be a warning."""
    modes, note = _geterr(), _geterrcall()
    if type(note) is not _Note:
        return modes
    return {kind: "warn" if mode == "call" and kind not in note.calls else mode for kind, mode in modes.items()}


def set_modes(all: str | None = None, divide: str | None = None, over: str | None = None, under: str | None = None,
              invalid: str | None = None) -> dict[str, str]:
    """np.seterr."""
    before = _seterr(all, divide, over, under, invalid)
    note = _geterrcall()
    if type(note) is _Note:
        for kind, mode in {"divide": divide, "over": over, "under": under, "invalid": invalid}.items():
            mode = all if mode is None else mode
            if mode is not None:
                (note.calls.add if mode == "call" else note.calls.discard)(kind)
    return before


def handler() -> Any:
    """np.geterrcall(), as the user has set it."""
    return _known(_geterrcall())


def _known(function: Any) -> Any:
    return function.before if type(function) is _Note else function


def tell(found: Noted) -> None:
    """Warn of what was noted."""
    for (kind, file, line), space in found.items():
        warnings.warn_explicit(f"{kind} encountered", RuntimeWarning, file, line,
                               registry=space.setdefault("__warningregistry__", {}))


def raised() -> bool:
    """Whether the user wants to be told of errors where they arise, and may handle them there."""
    return bool(_raising())


def surroundings() -> Any:
    """What errors lead to, apart from a note: to be compared."""
    return _raising(), _action() == "error"


def _raising(modes: dict[str, str] | None = None) -> frozenset[tuple[str, str]]:
    """The kinds of errors that lead to more than a warning, and what to."""
    modes = _geterr() if modes is None else modes
    if {"ignore", "warn"}.issuperset(modes.values()):
        return frozenset()
    ours = ("ignore", "warn", "call") if type(_geterrcall()) is _Note else ("ignore", "warn")
    return frozenset((kind, mode) for kind, mode in modes.items() if mode not in ours)


def _action() -> str:
    """What becomes of NumPy's warnings of errors: "error" if that may be."""
    for action, message, kind, module, line in warnings.filters:
        if issubclass(RuntimeWarning, kind):
            if action == "error":
                return "error"
            if message is None and module is None and not line:
                return action
    return "default"


def _shown() -> tuple[Any, ...]:
    """Where warnings go."""
    return warnings.showwarning, getattr(warnings, "_showwarnmsg_impl", None)


class _Reached(Search):
    """All code of the user's that a function reaches."""

    def begin(self) -> None:
        self.codes: list[CodeType] = []
        super().begin()

    def _code(self, f: FunctionType) -> None:
        self.codes.append(f.__code__)
        super()._code(f)


def catches(f: Callable[..., Any]) -> bool:
    """Whether code that f reaches has a handler for exceptions."""
    return any(map(_handles, _Reached(f).codes))


def _handles(code: CodeType) -> bool:
    names = [line.opname for line in dis.get_instructions(code)]
    bare = any(a == "PUSH_EXC_INFO" and b == "POP_TOP" for a, b in zip(names, names[1:]))
    return bare or "CHECK_EXC_MATCH" in names or "suppress" in code.co_names or any(
        _handles(part) for part in code.co_consts if isinstance(part, CodeType))
