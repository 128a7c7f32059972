"""The text of traced values: to be looked at, never to compute with.

A number read back from text would have lost its derivative, and `len(f"{x:.1f}")` or `f"{x:.1f}" == "0.9"` would be
decisions that no replay could check; of a marked text they would even be others than the function's own.  So the text
says "traced(0.9)", it may be printed, written, logged, raised and joined to other text, and what looks into it is
refused.  Text that stands alone is of a class of its own, `Text`, which refuses wherever it is looked into.  What
Python joins (an f-string of several parts, `%`, `str.format`) is plain text, in which the mark is all that stays: there
the instructions that follow in the user's function tell what comes of it, as far as its statement goes.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

from .active import running
from .callers import callee
from .owners import owner


class Text(str):
    """The text of a traced value by itself.  Python's own and installed libraries, which print, may look into it, and
    so may everybody once the trace is over."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __bool__(self) -> bool:
        return True  # no text of a number is empty

    def __radd__(self, other: str) -> str:
        return Text(str(other) + str.__str__(self)) if isinstance(other, str) else NotImplemented


def text_of(value: str) -> str:
    """The text of a traced value whose own is `value`; refused where the user's line goes on to compute with it."""
    rec = running()
    frame = _asking()
    if rec is not None and frame is not None and _is_users(frame):
        parts = False
        while frame.f_code.co_name in ("<genexpr>", "<listcomp>") and frame.f_back is not None:
            frame, parts = frame.f_back, True  # what the texts become that it makes
        use = _use(frame.f_code, frame.f_lasti, parts) if _is_users(frame) else ""
        if use:
            _refuse(use)
    return Text(f"traced({value})")


def _refuse(use: str) -> None:
    rec = running()
    if rec is not None:
        rec.unsupported(f"{use} of the text of a traced value", "text is to be looked at: what is computed with it has "
                        "no derivative. Decide by numbers, x > 1, int(x), round(x, 1); or make a text that may be "
                        "taken apart of distdiff.numpy.value(x), which is a plain number")


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
_KEPT = ("capitalize casefold center expandtabs format join ljust lower lstrip removeprefix removesuffix replace rjust "
         "rstrip strip swapcase title translate upper zfill").split()
_LOOKED = ("count encode endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric "
           "isprintable isspace istitle isupper partition rfind rindex rpartition rsplit split splitlines "
           "startswith").split()
for _name in (*_LOOKED, *_OPERATORS, *_NUMBERS, "__len__"):
    setattr(Text, _name, _looking(_name))
for _name in (*_KEPT, "__add__", "__mul__", "__rmul__", "__mod__", "__format__"):
    setattr(Text, _name, _keeping(_name))

# -- what becomes of text that Python joins ---------------------------------------------------------------------------

_FUNCTIONS = frozenset(  # which look into a text they are given, or find something by it
    "len float int complex ord hash eval list tuple set frozenset sorted reversed max min any all iter enumerate zip "
    "map filter sum Decimal Fraction fromstring literal_eval count endswith find get index partition pop rfind rindex "
    "rpartition rsplit setdefault split startswith".split())
_BOTH = "COMPARE_OP CONTAINS_OP IS_OP BINARY_SUBSCR".split()
_POPPED = {  # from the stack; of other instructions nothing is known, and the search ends
    **dict.fromkeys(_BOTH, 2), "BINARY_OP": 2, "LOAD_ATTR": 1, "LOAD_METHOD": 1, "FORMAT_SIMPLE": 1,
    "FORMAT_WITH_SPEC": 2, "CONVERT_VALUE": 1, "GET_ITER": 1, "UNPACK_SEQUENCE": 1,
}
_SAID = {"COMPARE_OP": "a comparison", "CONTAINS_OP": "in", "IS_OP": "is", "BINARY_SUBSCR": "[]", "GET_ITER": "a loop",
         "UNPACK_SEQUENCE": "an assignment to several names"}
_JOINING = ("BUILD_STRING", "FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE")
_SILENT = ("PRECALL", "KW_NAMES", "EXTENDED_ARG", "CACHE", "NOP", "RESUME")


def _popped(line: dis.Instruction) -> int | None:
    """How many of the stack an instruction takes; None: unknown here."""
    name, n = line.opname, line.arg or 0
    if name == "CALL":
        return n + 2  # with what is called, and its object or nothing
    if name == "FORMAT_VALUE":
        return 1 + bool(n & 4)
    if name in ("BUILD_STRING", "BUILD_TUPLE", "BUILD_LIST"):
        return n
    if name == "PUSH_NULL" or name.startswith("LOAD_") and name not in _POPPED:
        return 0
    return _POPPED.get(name)


@lru_cache(maxsize=1024)
def _use(code: CodeType, at: int, parts: bool) -> str:
    """What the text that the instruction at this offset makes (with `parts`, the list of such) is looked into for, in
    words; "" where it is not, or goes into a variable or another function."""
    lines = [line for line in dis.get_instructions(code) if line.offset >= at and line.opname not in _SILENT]
    if not lines or lines[0].opname not in (*_JOINING, "CALL", "BINARY_OP"):
        return ""
    if parts and callee(code, lines[0].offset) == "join":  # of a generator's
        parts = False
    above, method = 0, False  # what lies above the text on the stack; whether the text is the object of a call to come
    for line in lines[1:]:
        name, popped = line.opname, _popped(line)
        if popped is None:
            return ""
        pushed = 1 if name == "CALL" else popped + dis.stack_effect(line.opcode, line.arg, jump=False)
        if popped <= above:
            above += pushed - popped
        elif name == "CALL":
            called = "" if method else callee(code, line.offset)
            if not method and called != "join":
                return f"{called}()" if called in _FUNCTIONS and not parts else ""
            above, method, parts = 0, False, False
        elif name in ("BUILD_TUPLE", "BUILD_LIST"):
            above, parts = 0, True
        elif parts:
            return ""
        elif name in ("LOAD_ATTR", "LOAD_METHOD"):
            if line.argval not in _KEPT:
                return f"{line.argval}()" if line.argval in _LOOKED else ""
            above, method = pushed - 1, True
        elif name in _JOINING or name == "BINARY_OP" and line.argrepr.rstrip("=") in ("+", "*", "%"):
            above = 0
        elif name == "BINARY_OP":
            return ""
        else:
            return _SAID[name]
    return ""
