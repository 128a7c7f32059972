"""What a recorded function reads beside its differentiated arguments: kept by value, to be noticed when it changes.

A tape holds constants, as they were when it was recorded.  `Kept` is a copy of such values; `surroundings` finds those
that a function reads from around it, without running it.
"""

from __future__ import annotations

import dis
import functools
import math
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

LARGE = 1 << 16  # bytes: larger arrays around a function are told apart by identity, looking through them would cost
MANY = 1000  # names looked at around a function and those that it calls
STORES = ("STORE_GLOBAL", "STORE_DEREF", "STORE_ATTR")
_NOT_THE_USERS = frozenset(("numpy", "scipy", "numba", "distdiff", "mpi4py", "petsc4py")) | sys.stdlib_module_names


def kept(value: Any, limit: float = math.inf) -> Any:
    """A copy of arrays (up to `limit` bytes) in nested containers; everything else as it is."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.copy() if value.nbytes <= limit else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(kept(part, limit) for part in value))
    if type(value) in (tuple, list):
        return type(value)([kept(part, limit) for part in value])
    if type(value) is dict:
        return {key: kept(part, limit) for key, part in value.items()}
    return value


def same(a: Any, b: Any) -> bool:
    """Whether b is what was kept as a: numbers and text by value and type, arrays bit by bit, containers part by part,
    other objects by identity."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray) and a.dtype != object:
        return same_bits(a, b)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return a.keys() == b.keys() and all(same(part, b[key]) for key, part in a.items())
    if isinstance(a, (float, np.floating)):
        return bool(a == b and math.copysign(1.0, a) == math.copysign(1.0, b) or (a != a and b != b))
    if isinstance(a, (int, str, bytes, complex, np.generic, frozenset)):
        return bool(a == b)
    return a is b


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are equal, NaN equal to itself and -0.0 another number than 0.0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind == "f" and a.itemsize == 8:
        a, b = (np.ascontiguousarray(x).view(np.int64) for x in (a, b))
        return bool((a == b).all())
    return a.tobytes() == b.tobytes()


class Surroundings:
    """The values that a function, and the functions that it names, take from closures, globals and their object."""

    def __init__(self, f: Any) -> None:
        self._watched: list[tuple[str, Any, Any, Any]] = []  # what to call it; where it is; its value then
        seen: set[int] = set()
        for name, holder, key in _names(f, seen):
            value = _read(holder, key)
            keep = kept(value, LARGE)
            self._watched.append((name, holder, key, keep))
            if len(self._watched) >= MANY:
                break

    def changed(self) -> str | None:
        """The name of one that is another now; None if all are as they were."""
        for name, holder, key, value in self._watched:
            now = _read(holder, key)
            if now is value and not isinstance(now, (np.ndarray, list, dict)):
                continue
            if isinstance(now, np.ndarray) and now.nbytes > LARGE:
                if now is not value:
                    return name
            elif not same(value, now):
                return name
        return None


class _Missing:
    """Stands for a name without a value."""


def _read(holder: Any, key: Any) -> Any:
    if key is not None:
        return holder.get(key, _Missing)
    try:
        return holder.cell_contents
    except ValueError:  # not bound yet
        return _Missing


def _names(f: Any, seen: set[int]) -> Iterator[tuple[str, Any, Any]]:
    """(name, dictionary or cell, key) of what f reads from around it."""
    if id(f) in seen:
        return
    seen.add(id(f))
    while hasattr(f, "__wrapped__"):
        f = f.__wrapped__
    if isinstance(f, functools.partial):
        bound = {"args": f.args, "keywords": f.keywords}
        yield from ((name, bound, name) for name in bound)
        yield from _names(f.func, seen)
        return
    of_self: list[tuple[str, Any, Any]] = []
    if callable(f) and isinstance(type(f).__call__, FunctionType):
        f = f.__call__
    if isinstance(f, MethodType):
        attributes = getattr(f.__self__, "__dict__", {})
        of_self = [(f"self.{name}", attributes, name) for name in attributes]
        f = f.__func__
    if not isinstance(f, FunctionType) or (f.__module__ or "").partition(".")[0] in _NOT_THE_USERS:
        return
    read, written = _of_code(f.__code__)
    found: list[tuple[str, Any, Any]] = [*of_self]
    found += [(name, cell, None) for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ())]
    found += [(name, f.__globals__, name) for name in sorted(read) if name in f.__globals__]
    for name, holder, key in found:
        if name.removeprefix("self.") in written:  # a counter of its own calls says nothing of its result
            continue
        yield name, holder, key
        value = _read(holder, key)
        if callable(value):
            yield from _names(value, seen)


def _of_code(code: CodeType) -> tuple[set[str], set[str]]:
    """Names that code, and the functions defined in it, may look up around it, and those that it writes there."""
    read = set(code.co_names)
    written = {i.argval for i in dis.get_instructions(code) if i.opname in STORES}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _of_code(constant)
            read |= inner[0]
            written |= inner[1]
    return read, written
