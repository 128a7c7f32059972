"""Floating-point errors while a function is traced: NumPy's warnings of them, with the user's line.

They are kept until the function has returned.  A result that is not finite is an error with file and line, which says
it once and better; where the result is finite the user is told as NumPy would.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .recorder import Recorder

Noted = dict[tuple[str, str, int], dict[str, Any]]  # (what, file, line) -> the globals there


class _Note:
    """What NumPy calls with the kind of an error."""

    def __init__(self, rec: Recorder) -> None:
        self._rec = rec
        self.found: Noted = {}

    def __call__(self, kind: str, flag: int) -> None:
        frame = self._rec.user_frame()
        self.found.setdefault((kind, frame.f_code.co_filename, frame.f_lineno), frame.f_globals)


@contextmanager
def noted(rec: Recorder) -> Iterator[Noted]:
    """While the body runs, errors that NumPy would warn of are noted; what the user raises or ignores stays so."""
    note = _Note(rec)
    with np.errstate(call=note, **{kind: "call" for kind, mode in np.geterr().items() if mode == "warn"}):
        yield note.found


def tell(found: Noted) -> None:
    """Warn of what was noted."""
    for (kind, file, line), space in found.items():
        warnings.warn_explicit(f"{kind} encountered", RuntimeWarning, file, line,
                               registry=space.setdefault("__warningregistry__", {}))


def raised() -> bool:
    """Whether the user wants to be told of errors where they arise, and may handle them there."""
    modes = set(np.geterr().values())
    return not {"ignore", "warn", "call"}.issuperset(modes) or "call" in modes and type(np.geterrcall()) is not _Note
