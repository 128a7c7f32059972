"""The user's lines: where on a tape, and in words, what is recorded or refused comes from."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, NoReturn

import numpy as np

from ..errors import PrecisionWarning, UnsupportedOperationError
from ..tape import Site, Tape
from .callers import library, refusal
from .owners import owner, user_caller, user_line

MANY_CODES = 1 << 12


class _Known:
    """Whose code is whose, from one trace to the next."""

    latest: _Known | None = None

    def __init__(self) -> None:
        self.codes: list[CodeType] = []  # kept alive, so that their ids stay their own
        self.owners: dict[int, str] = {}  # id(code) -> whose it is
        self.ours: set[int] = set()  # ... where that is ours: most frames are

    @classmethod
    def so_far(cls) -> _Known:
        known = cls.latest
        if known is None or len(known.codes) > MANY_CODES:
            known = cls.latest = cls()
        return known


class Sites:
    """The sites of a tape that is being written, and refusals that name them; the face of `Recorder` towards people."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.open = True  # False once the trace is over: traced values that escaped are refused
        self.refusal: UnsupportedOperationError | None = None  # the first; f may catch it, but not go on without it
        self._end = -1  # site of what is recorded, where it is not the line that runs
        self._sites: dict[tuple[int, int], int] = {}
        self._site_numbers: dict[Site, int] = {}
        known = _Known.so_far()
        self._codes, self._owners, self._ours = known.codes, known.owners, known.ours

    def user_frame(self) -> FrameType:
        """The innermost frame of the user's own code: not ours or NumPy's, nor (if there is another) a library's; where
        the function is itself NumPy's, the one that asked for its derivative."""
        frame: FrameType | None = sys._getframe(2)
        ours = self._ours
        library = None
        while frame is not None:
            while frame is not None and id(frame.f_code) in ours:
                frame = frame.f_back
            if frame is None:
                break
            owner = self._owners.get(id(frame.f_code)) or self._owner(frame.f_code)
            if owner == "user":
                return frame
            if owner == "trace":
                break
            if owner == "library":
                library = library or frame
                frame = frame.f_back
        return library or user_caller()

    def _owner(self, code: CodeType) -> str:
        self._codes.append(code)
        found = self._owners[id(code)] = owner(code.co_filename, code.co_name)
        if found == "ours":
            self._ours.add(id(code))
        return found

    def conclude(self, f: Callable[..., Any]) -> None:
        """The function has returned: what is still recorded (its result, put together) belongs to the
        function as a whole."""
        self._end = self.site_of(f)

    def site_of(self, f: Callable[..., Any]) -> int:
        """The site that is a function as a whole."""
        code = getattr(inspect.unwrap(f), "__code__", None)
        if code is None:
            self.tape.sites.append(Site("the function", 0, getattr(f, "__qualname__", type(f).__name__)))
        else:
            self.tape.sites.append(Site(code.co_filename, code.co_firstlineno, code.co_qualname))
        return len(self.tape.sites) - 1

    def stand(self, site: int) -> int:
        """What is recorded from now on belongs to that site (-1: to the line that runs); returns what it was."""
        before, self._end = self._end, site
        return before

    def site(self) -> int:
        """Index of the user's current line among the tape's sites."""
        if self._end >= 0:
            return self._end
        frame = self.user_frame()
        key = (id(frame.f_code), frame.f_lasti)
        number = self._sites.get(key)
        if number is None:
            code = frame.f_code
            number = self._sites[key] = self.site_number(Site(code.co_filename, frame.f_lineno, code.co_qualname))
        return number

    def site_number(self, site: Site) -> int:
        """Index of a site among the tape's."""
        number = self._site_numbers.get(site)
        if number is None:
            number = self._site_numbers[site] = len(self.tape.sites)
            self.tape.sites.append(site)
        return number

    def unsupported(self, what: str, remedy: str) -> NoReturn:
        """Refuse an operation by name, with the user's file and line."""
        if not self.open:
            self.over()
        error = self.refused(what, remedy)
        if self.refusal is None:
            self.refusal = error
        raise error

    def refused(self, what: str, remedy: str) -> UnsupportedOperationError:
        """The error that says so."""
        return UnsupportedOperationError(refusal(what, library(), self.tape.sites[self.site()], remedy))

    def float64(self, dtype: Any, what: str, frame: FrameType | None = None) -> None:
        """Say, once a line (the user's that is being traced, or `frame`'s), that floats of another size are computed in
        float64."""
        if dtype is None or dtype is np._NoValue or (dtype := np.dtype(dtype)).kind not in "fc" or dtype.char in "dD":
            return
        frame = frame or self.user_frame()
        warnings.warn_explicit(
            f"{what} as {dtype}: everything is computed in float64, so the values differ from NumPy's in the digits "
            f"that {dtype} {'adds' if dtype.itemsize > 8 else 'drops'}", PrecisionWarning, frame.f_code.co_filename,
            frame.f_lineno, registry=frame.f_globals.setdefault("__warningregistry__", {}))

    def over(self) -> NoReturn:
        """Refuse a value that outlived its trace."""
        error = UnsupportedOperationError(
            f"a traced value was used at {user_line()} after its trace was over: the function had put it into a list, "
            "a global or a closure. Put distdiff.numpy.value(x) there, its plain value, or return it, beside the "
            "result with has_aux=True")
        if self.refusal is None:
            self.refusal = error
        raise error
