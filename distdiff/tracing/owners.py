"""Whose code a frame runs: the user's, which errors and sites name, a library's, or ours."""

from __future__ import annotations

import os
import sys
import sysconfig
from types import FrameType

import numpy as np

from ..tape import Site

_HERE = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(_HERE)
_LIBRARIES = (_PACKAGE + os.sep, os.path.dirname(os.path.abspath(np.__file__)))
CYTHON = (".pyx", ".pxd", "stringsource", "<stringsource>")  # all that frames of compiled Cython say of their file
_EXAMPLES = os.path.join(_PACKAGE, "examples") + os.sep

_INSTALLED = tuple({os.path.normpath(sysconfig.get_paths()[k]) + os.sep for k in ("stdlib", "platlib", "purelib")})
_ENTRY = os.path.join(_HERE, "__init__.py")


def owner(file: str, function: str) -> str:
    """Whose code this is: "ours" (and NumPy's), "trace" (where one begins), an installed "library" or the "user"."""
    if file.startswith((*_LIBRARIES, "<__array_function__")) and not file.startswith(_EXAMPLES):
        return "trace" if file == _ENTRY and function == "trace" else "ours"
    installed = file.startswith((*_INSTALLED, "<frozen", "<decorator-gen"))
    installed = installed or "site-packages" in file or "dist-packages" in file
    installed = installed or file.endswith(CYTHON)
    return "library" if installed else "user"


def user_line() -> str:
    """The line outside of this package that the caller was called from."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and owner(frame.f_code.co_filename, frame.f_code.co_name) in ("ours", "trace"):
        frame = frame.f_back
    return "an unknown line" if frame is None else str(
        Site(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname))


def user_caller() -> FrameType:
    """The innermost frame of the user's that a trace was asked for in, or the outermost there is."""
    frame = sys._getframe(1)
    while frame.f_back is not None and owner(frame.f_code.co_filename, frame.f_code.co_name) != "user":
        frame = frame.f_back
    return frame
