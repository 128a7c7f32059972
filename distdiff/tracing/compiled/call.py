"""A call of a compiled function from a traced one: traced values in, compiled code, traced values out."""

from __future__ import annotations

import inspect
import os
import re
import sys
import threading
import warnings
from types import FunctionType
from typing import Any

import numpy as np
from numba import typeof
from numba.core.errors import NumbaError
from numpy.lib.stride_tricks import as_strided

from ...errors import NotCompiledWarning
from ...tape import Indexed
from ..array import TracedArray, ids_of, of_ids, own, scalar_of
from ..creation import NUMPY
from ..holding import HoldingArray, held, hold, promote, traced_within
from ..patching import suspended
from ..recorder import Recorder
from ..scalar import TracedBool, TracedScalar
from ..storage import Storage, compress
from .entry import entry
from .function import Function
from .rewrite import NotCompiled, current, python_function, tracing
from .stream import STREAM
from .types import ELEMENT, Answer, Number

LONGEST = 64  # elements of a list that goes in as a tuple

_one_at_a_time = threading.Lock()


def call(f: Function, rec: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """f(*args, **kwargs), traced into rec: by compiled code, or else by the interpreter, with a warning."""
    if rec.careful:  # floating-point errors are to come up, which compiled code has none of
        return f.function(*args, **kwargs)
    try:
        passage = Passage(rec, _positional(f.function, args, kwargs))
        shapes, given = passage.inward()
        compiled = _compiled(f, shapes, given, marked=rec.target is not None)
    except NotCompiled as reason:
        _warn(f, str(reason))
        return f.function(*args, **kwargs)
    with _one_at_a_time:
        STREAM.begin(rec)
        try:
            result = compiled(*given)
        finally:
            STREAM.end()
            passage.write_back()
    return passage.outward(result)


def _positional(function: FunctionType, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    code = function.__code__
    if not kwargs and len(args) == code.co_argcount and not code.co_flags & (
            inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) and not code.co_kwonlyargcount:
        return args
    bound = inspect.signature(function).bind(*args, **kwargs)  # raises what a wrong call raises
    bound.apply_defaults()
    if bound.kwargs:
        raise NotCompiled(f"it takes arguments by keyword only ({', '.join(bound.kwargs)})")
    return bound.args


def _compiled(f: Function, shapes: tuple[Any, ...], given: list[Any], marked: bool) -> Any:
    """The compiled code for these arguments."""
    if not current(f.function):
        f.forget()
    fast = (shapes, marked, *map(_kind, given))
    code = f.ready.get(fast)
    if code is None:
        code = f.entries.get((shapes, marked))
        if code is None:
            code = f.entries[shapes, marked] = entry(f.function, shapes, marked)
        kinds = tuple(map(code.typeof_pyval, given))
        if kinds not in code.overloads:
            if fast in f.failures:
                raise NotCompiled(f.failures[fast])
            try:
                with suspended():
                    code.compile(kinds)
            except Exception as error:  # Numba's own, and what it trips over
                f.failures[fast] = str(error) if type(error) is NotCompiled else explain(error, f.function)
                raise NotCompiled(f.failures[fast]) from None
        f.ready[fast] = code
    return code


def _kind(x: Any) -> Any:
    """What tells Numba's types of arguments apart, or is finer."""
    if isinstance(x, np.ndarray):
        return x.dtype, x.ndim, x.flags.c_contiguous, x.flags.f_contiguous, x.flags.writeable, x.flags.aligned
    if isinstance(x, (int, float, str)) or x is None:
        return type(x)
    try:
        return typeof(x)
    except ValueError:
        raise NotCompiled(f"Numba does not know arguments of type {type(x).__qualname__}") from None


def _warn(f: Function, reason: str) -> None:
    if reason in f.warned:
        return
    f.warned.add(reason)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and "distdiff" in frame.f_globals.get("__name__", ""):
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"{f.function.__qualname__} was not compiled, and is traced by the interpreter instead, some hundred times "
        f"slower: {reason}", NotCompiledWarning, stacklevel=level)


def explain(error: Exception, function: FunctionType) -> str:
    """What Numba could not do, and where: the innermost of its messages, with the user's file and line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    wanted = re.search(r">>> (.+)", text)
    said = [line.strip() for line in text.splitlines()]
    said = [line for line in said if line and not line.startswith(("Failed in", "During:", "File ", "<source"))]
    if wanted and (result := re.match(r"outward\((.*)\)", wanted.group(1).strip())):
        what = f"its result is of the kind {result.group(1)}; return numbers, arrays, or tuples of them"
    elif wanted:
        what = f"Numba has no rule for {wanted.group(1).strip()}"
    else:
        what = f"Numba says: {said[0].rstrip('.')}" if said else "Numba failed"
    if not isinstance(error, NumbaError):
        what += f" ({type(error).__name__})"
    places = [place for place in re.findall(r'File "([^"]+)", line (\d+):', text) if not _OTHERS.search(place[0])]
    code = function.__code__
    file, line = places[0] if places else (code.co_filename, code.co_firstlineno)
    return f"{what}, at {os.path.abspath(file)}:{line}"


_OTHERS = re.compile(r"<distdiff|[\\/]numba[\\/]|[\\/]tracing[\\/]compiled[\\/]")


class _Memory:
    """Memory that traced arrays among the arguments look into, and its copy as traced floats."""

    def __init__(self, holder: Storage | HoldingArray, flat: np.ndarray) -> None:
        self.holder, self.flat = holder, flat
        self.address = flat.__array_interface__["data"][0]
        self.low, self.high = flat.size, 0  # the elements that are looked at

    def include(self, nd: np.ndarray) -> None:
        first = (nd.__array_interface__["data"][0] - self.address) // 8
        steps = [s // 8 * (n - 1) for s, n in zip(nd.strides, nd.shape)]
        self.low = min(self.low, first + sum(s for s in steps if s < 0))
        self.high = max(self.high, first + sum(s for s in steps if s > 0) + 1)

    def copy_in(self, rec: Recorder) -> None:
        values = self.flat[self.low : self.high]
        self.copy = NUMPY["empty"](len(values), dtype=ELEMENT)
        self.copy["value"] = values
        if type(self.holder) is Storage:
            self.copy["mark"] = ids_of(TracedArray(self.holder, values))
            self.copy["mark"] += 1
        else:
            self.copy["mark"] = 0
        self.before = self.copy.copy()

    def seen(self, x: TracedArray | HoldingArray) -> np.ndarray:
        """The copy as an array looks at it."""
        nd = x.nd if type(x) is TracedArray else x
        offset = (nd.__array_interface__["data"][0] - self.address) // 8 - self.low
        strides = tuple(2 * s for s in nd.strides)
        return np.ndarray(nd.shape, ELEMENT, self.copy, 16 * offset, strides)

    def original(self, seen: np.ndarray) -> Any:
        """The traced array (or plain one) whose copy, or a part of it, compiled code returned; None if it is none."""
        start = seen.__array_interface__["data"][0] - self.copy.__array_interface__["data"][0]
        if not seen.size or not 0 <= start < self.copy.nbytes:
            return None
        holder = self.holder if type(self.holder) is Storage else self.holder._held
        flat = self.flat if holder is None else holder.buffer.reshape(-1)
        nd = as_strided(flat[self.low + start // 16 :], seen.shape, tuple(s // 2 for s in seen.strides))
        return hold(nd) if holder is None else TracedArray(holder, nd)

    def write_back(self, rec: Recorder) -> None:
        """What compiled code wrote."""
        new, old = self.copy, self.before
        bits = new["value"].view(np.int64) != old["value"].view(np.int64)
        changed = np.flatnonzero((new["mark"] != old["mark"]) | bits)
        if not changed.size:
            return
        low, high = int(changed[0]), int(changed[-1]) + 1
        values, ids = new["value"][low:high], new["mark"][low:high] - 1
        st = self.holder
        if type(st) is HoldingArray:
            if not (ids >= 0).any():
                self.flat[self.low + low : self.low + high] = values
                return
            promote(st, rec)
            st = st._held
            flat = st.buffer.reshape(-1)
        else:
            flat = self.flat
        view = flat[self.low + low : self.low + high]
        if ids.min() >= 0:
            ref = compress(rec, ids)
            st.assign(view, Indexed(ids) if ref is None else ref, values)
        else:
            st.protect()
            st.make_explicit()
            st.ids[self.low + low : self.low + high] = ids
            view[...] = values


class Passage:
    """One call's way in and out."""

    def __init__(self, rec: Recorder, args: tuple[Any, ...]) -> None:
        self.rec = rec
        self._memories: dict[int, _Memory] = {}
        self._args = [self._look(x, f"argument {k}") for k, x in enumerate(args)]
        for memory in self._memories.values():
            memory.copy_in(rec)

    def inward(self) -> tuple[tuple[Any, ...], list[Any]]:
        """What `entry` wants to know of the arguments' shapes, and what it takes."""
        given: list[Any] = []
        return tuple(self._inward(x, given) for x in self._args), given

    def _look(self, x: Any, what: str) -> Any:
        """The argument, lists as tuples; arrays are told to the memory they look into."""
        x = held(x) if type(x) is HoldingArray and x._root()._held is not None else x
        if isinstance(x, TracedScalar):
            own(self.rec, x)
            if isinstance(x, TracedBool):
                raise NotCompiled(f"{what} is the answer of a comparison of traced values")
        elif type(x) is TracedArray:
            own(self.rec, x)
            if x.st.boolean:
                raise NotCompiled(f"{what} holds answers of comparisons of traced values")
            self._memory(x.st, x.st.buffer).include(x.nd)  # (its values are computed now, if they were put off)
        elif type(x) is HoldingArray:
            if x.dtype != np.float64:
                return x.view(np.ndarray)
            root = x._root()
            self._memory(root, root.view(np.ndarray)).include(x)
        elif type(x) in (tuple, list):
            if len(x) > LONGEST:
                raise NotCompiled(f"{what} is a {type(x).__name__} of {len(x)} elements: make it an array")
            return tuple(self._look(part, f"{what}[{k}]") for k, part in enumerate(x))
        elif type(x) is dict or traced_within(x) is not None:
            raise NotCompiled(f"{what} is a {type(x).__name__}")
        else:
            function = python_function(x)
            return x if function is None else tracing(function, self.rec.target is not None)
        return x

    def _memory(self, holder: Any, memory: np.ndarray) -> _Memory:
        found = self._memories.get(id(holder))
        if found is None:
            if not memory.flags.c_contiguous:
                raise NotCompiled("an array's memory is not contiguous")
            found = self._memories[id(holder)] = _Memory(holder, memory.reshape(-1))
        return found

    def _inward(self, x: Any, given: list[Any]) -> Any:
        if isinstance(x, TracedScalar):
            given += (float(x.v), x.i + 1)
            return "scalar"
        if type(x) is tuple:
            return tuple(self._inward(part, given) for part in x)
        if type(x) is TracedArray or type(x) is HoldingArray:
            given.append(self._memories[id(x.st if type(x) is TracedArray else x._root())].seen(x))
            return "array"
        given.append(x)
        return "plain"

    def write_back(self) -> None:
        """What compiled code wrote into arrays it was given."""
        for memory in self._memories.values():
            memory.write_back(self.rec)

    def outward(self, x: Any) -> Any:
        """The result, with traced values for pairs."""
        if type(x) is Number or type(x) is Answer:
            return scalar_of(self.rec, int(x.mark) - 1, float(x.value), type(x) is Answer)
        if type(x) is tuple:
            return tuple(map(self.outward, x))
        if not isinstance(x, np.ndarray) or x.dtype != ELEMENT:
            return x
        for memory in self._memories.values():
            original = memory.original(x)
            if original is not None:
                return original
        if not x["mark"].any():
            return hold(x["value"].copy())
        return of_ids(self.rec, x["value"].copy(), x["mark"] - 1)
