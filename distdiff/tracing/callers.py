"""What a refusal can say of the user's line: NumPy's function that it called, and NumPy's twin of one of Python's."""

from __future__ import annotations

import linecache
import os
import re
import sys
from types import FrameType

import numpy as np

_NUMPY = os.path.dirname(os.path.abspath(np.__file__))
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = ("numpy.", __name__.partition(".")[0] + ".")

TWINS = {  # functions of Python's math module that have another name in NumPy
    "asin": "np.arcsin", "acos": "np.arccos", "atan": "np.arctan", "atan2": "np.arctan2", "asinh": "np.arcsinh",
    "acosh": "np.arccosh", "atanh": "np.arctanh", "pow": "np.power", "fsum": "np.sum", "dist": "np.linalg.norm(a - b)",
    "sumprod": "np.dot", "fma": "a * b + c", "ulp": "np.spacing(distdiff.numpy.value(x))",
}


def called() -> str:
    """NumPy's function that the user called and that got this far, as "numpy.save: "; nothing if there is none."""
    frame: FrameType | None = sys._getframe(1)
    name = ""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<__array_function__"):
            name = f"numpy.{code.co_name}: "
        elif code.co_filename.startswith(_NUMPY):
            room = next((f"{part}." for part in ("linalg", "fft") if f"/{part}/" in code.co_filename), "")
            name = f"numpy.{room}{code.co_qualname.removesuffix('.__init__')}: "
        elif not code.co_filename.startswith(_PACKAGE) or "examples" in code.co_filename:
            break
        frame = frame.f_back
    return name


def library() -> str:
    """SciPy's function that the user called and that got this far, as " in scipy.special.zeta"; nothing if none."""
    frame: FrameType | None = sys._getframe(1)
    name = ""
    while frame is not None:
        room = frame.f_globals.get("__name__") or ""
        if room.startswith("scipy."):
            parts = [part for part in room.split(".") if not part.startswith("_")]
            name = f" in {'.'.join(parts)}.{frame.f_code.co_qualname}"
        elif name and not room.startswith(_LIBRARIES):
            break
        frame = frame.f_back
    return name


def twin(frame: FrameType) -> str:
    """What to write for the functions of Python's math module that a frame's line calls."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    names = dict.fromkeys(re.findall(r"\bmath\.(\w+)\(", line))
    if not names:
        return "Use NumPy's functions for Python's, np.sin(x), not math.sin(x)"
    return "; ".join(
        f"Write {TWINS.get(n, f'np.{n}' if hasattr(np, n) else 'a formula in NumPy functions')} for math.{n}"
        for n in names)
