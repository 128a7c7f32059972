"""The text of traced values: to be looked at, never to compute with.

A number read back from text would have lost its derivative, and `len(f"{x:.1f}")` or `f"{x:.1f}" == "0.9"` would be
decisions that no replay could check; of a marked text they would even be others than the function's own.  So the text
says "traced(0.9)", it may be printed, written, logged, raised and joined to other text, and what looks into it is
refused.  Text that stands alone is of a class of its own, `Text`, which refuses wherever it is looked into.  What
Python joins (an f-string of several parts, `%`, `str.format`, the text of a list) is plain text, in which the mark is
all that stays: `fates` reads off the instructions that follow what comes of it, and where that can't be told it is
refused.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from .active import running
from .fates import AWAY, JOINING, KEPT, LOOKED, use_of
from .owners import owner


class Text(str):
    """The text of a traced value by itself.  Python's own and installed libraries, which print, may look into it, and
    so may everybody once the trace is over."""

    __slots__ = ()

    def __str__(self) -> str:  # by print(text, file=out), say
        _follow(_asking())
        return self

    def __bool__(self) -> bool:
        return True  # no text of a number is empty

    def __radd__(self, other: str) -> str:
        return Text(str(other) + str.__str__(self)) if isinstance(other, str) else NotImplemented


def text_of(value: str) -> str:
    """The text of a traced value whose own is `value`; refused where the user's lines go on to compute with it."""
    _follow(_asking())
    return Text(f"traced({value})") if running() is not None else f"traced({value})"


def _follow(frame: FrameType | None) -> None:
    """A text is made for a frame, or asked for once more: refused where it is computed with from there on."""
    rec = running()
    if rec is None or frame is None:
        return
    joined = _within_a_container()
    while frame.f_back is not None and frame.f_globals.get("__name__") in JOINING:
        frame, joined = frame.f_back, True
    use = use_of(frame, joined) if _is_users(frame) else ""
    if use == AWAY:
        rec.unsupported("the text of a traced value is joined to other text, which is kept where it can't be "
                        "followed", f"{_LOST}. " 'Join it as "x = " + str(x), which knows what it is wherever it '
                        "is kept; or print, write or log it at once")
    elif use:
        _refuse(use)


_LOST = "text is to be looked at: what is computed with it has no derivative"
_thread = ctypes.pythonapi.PyThreadState_GetDict
_thread.restype, _thread.argtypes = ctypes.c_void_p, ()  # the reference is borrowed


def _within_a_container() -> bool:
    """Whether Python is making the text of a list, a tuple, a dictionary or a set, of which this becomes part: it notes
    them, lest one that holds itself has no end."""
    place = _thread()
    return bool(place and ctypes.cast(place, ctypes.py_object).value.get("Py_Repr"))


def _refuse(use: str) -> None:
    rec = running()
    if rec is not None:
        rec.unsupported(f"{use} of the text of a traced value", f"{_LOST}. Decide by numbers, x > 1, int(x), round(x, "
                        "1); or make a text that may be taken apart of distdiff.numpy.value(x), which is a plain "
                        "number")


def _asking() -> FrameType | None:
    """The frame that asks for a text, or for what is in it."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and owner(frame.f_code.co_filename, frame.f_code.co_name) == "ours":
        frame = frame.f_back
    return frame


def _is_users(frame: FrameType) -> bool:
    return owner(frame.f_code.co_filename, frame.f_code.co_name) == "user"


def _looking(name: str) -> Callable[..., Any]:
    own = getattr(str, name, None)
    said = f"{name.strip('_')}()" if name not in _OPERATORS else _OPERATORS[name]

    def look(self: Text, *args: Any) -> Any:
        if running() is not None and (frame := _asking()) is not None and _is_users(frame):
            _refuse(said)
        return own(self, *args) if own is not None else _NUMBERS[name](str.__str__(self))

    return look


def _keeping(name: str) -> Callable[..., Any]:
    own = getattr(str, name)

    def keep(self: Text, *args: Any, **kwargs: Any) -> Any:
        found = own(self, *args, **kwargs)
        return Text(found) if isinstance(found, str) else found

    return keep


_NUMBERS: dict[str, Callable[[str], Any]] = {"__float__": float, "__int__": int, "__complex__": complex}
_OPERATORS = {"__eq__": "==", "__ne__": "!=", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">=",
              "__contains__": "in", "__getitem__": "[]", "__iter__": "a loop", "__hash__": "a key"}
for _name in (*LOOKED, *_OPERATORS, *_NUMBERS, "__len__"):
    setattr(Text, _name, _looking(_name))
for _name in (*KEPT, "__add__", "__mul__", "__rmul__", "__mod__", "__format__"):
    setattr(Text, _name, _keeping(_name))
