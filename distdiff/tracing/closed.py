"""Methods of plain arrays that no protocol of NumPy's reaches: P.dot(x) of a traced x, u0.copy() to be written into.

ndarray is closed to setattr, so while somebody traces these stand in the dictionary behind the class, and Python is
told that it has changed, as setattr would.  In threads that trace, for the user's lines, what a method makes anew can
come to hold traced values (`holding`), as what np.zeros makes can; elsewhere they are NumPy's own.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from .active import TRACES
from .creation import to_hold
from .holding import hold, traced_within

_NEW = ("copy", "astype", "flatten")


def _holding(own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def method(self: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        made = own(self, *args, **kwargs)
        return hold(made) if type(made) is np.ndarray and made is not self and to_hold() else made

    return method


def _dot(self: np.ndarray, b: Any, out: Any = None) -> Any:
    """a.dot(b) with NumPy's function, which has a rule."""
    rec = traced_within([b, out]) if threading.get_ident() in TRACES else None
    if rec is not None:
        return np.dot(self, rec.array_of(b) if isinstance(b, (list, tuple)) else b, out)
    return _OWN["dot"](self, b, out)


_OWN = {name: vars(np.ndarray)[name] for name in (*_NEW, "dot")}
_OURS = {name: _holding(_OWN[name]) for name in _NEW} | {"dot": wraps(_OWN["dot"])(_dot)}


def _behind() -> dict[str, Any] | None:
    """The class's own dictionary, where this Python lets it be reached and changed: with one interpreter lock."""
    found = gc.get_referents(vars(np.ndarray))
    known = len(found) == 1 and type(found[0]) is dict and all(found[0].get(k) is own for k, own in _OWN.items())
    return found[0] if known and getattr(sys, "_is_gil_enabled", lambda: True)() else None


_DICTIONARY = _behind()  # None: P.dot(x) is refused, and so is what is written into u0.copy()
_changed = ctypes.pythonapi.PyType_Modified
_changed.argtypes, _changed.restype = [ctypes.py_object], None


def _put(methods: dict[str, Any]) -> None:
    if _DICTIONARY is not None:
        _DICTIONARY.update(methods)
        _changed(np.ndarray)


def exchanged() -> bool:
    """Whether they are ours."""
    return vars(np.ndarray)["dot"] is _OURS["dot"]


def exchange() -> None:
    """Have the methods be ours."""
    _put(_OURS)


def restore() -> None:
    """Have them be NumPy's own again."""
    _put(_OWN)


__all__ = ["exchange", "exchanged", "restore"]
