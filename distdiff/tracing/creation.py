"""Making arrays inside a traced function: np.zeros(n), np.array([a, b]), which no NumPy protocol reaches.

While a thread traces, NumPy's creation functions answer it with arrays that can come to hold traced values
(`holding`), and lists of traced values become traced arrays.  `patching` puts these functions in NumPy's place.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import wraps
from itertools import islice
from types import CodeType, FrameType
from typing import Any

import numpy as np

from ..tape import Affine, Const
from . import complexes, protocol
from .active import CAREFUL, TRACES
from .array import TracedArray, is_boolean, is_traced, memory_order, of_ids, own, owning
from .boxes import whole
from .holding import HoldingArray, constant_storage, held, hold, traced_within
from .joiners import joined
from .layout import laid, view_or_copy
from .options import plain_options
from .placing import Flat
from .recorder import Recorder
from .scalar import TracedCount, TracedScalar
from .storage import Storage
from .usual import chosen
from .wholes import written

_CREATE = (
    "zeros",
    "empty",
    "ones",
    "full",
    "eye",
    "identity",
    "arange",
    "indices",
    "tri",
    "linspace",
    "zeros_like",
    "empty_like",
    "ones_like",
    "full_like",
    "copy",
)
FEW = 64  # scalars of a list that are looked at one by one
_array = np.array  # NumPy's own, whatever is substituted meanwhile
_CONVERT = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "asarray_chkfinite")

NUMPY: dict[str, Any] = {}  # NumPy's own functions, by name
_IF_NEEDED = None if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else False  # a copy, to np.array

# -- lists of traced values --------------------------------------------------------------------------------------


def array_of(rec: Recorder, values: Any) -> Any:
    """np.array of anything: nested lists of traced values and numbers, or a plain array, as a traced array."""
    if type(values) is list and (few := _of_scalars(values)) is not None:
        return few
    values = held(values)
    if is_traced(values) or complexes.is_traced_complex(values):
        return values
    if not isinstance(values, (list, tuple)):
        values = NUMPY["asarray"](values)
        if values.dtype == object:
            return np.reshape(array_of(rec, values.ravel().tolist()), values.shape)
        if values.dtype.kind == "c":
            return complexes.array_of(rec, values)
        if values.dtype.kind not in "fiub":
            rec.unsupported(f"an array of dtype {values.dtype}", "derivatives here are those of real functions")
        buffer = _array(values, dtype=np.float64, order="K")
        laid_out = buffer if buffer.flags.c_contiguous else buffer.transpose(memory_order(buffer))
        made = TracedArray(constant_storage(rec, laid_out, values.dtype == bool), buffer)
        return made if laid_out is buffer else owning(made)
    if traced_within(values) is None:
        made = NUMPY["array"](values)
        if made.dtype == object:
            rec.unsupported(f"an array that holds objects ({type(made.flat[0]).__name__}) beside traced values",
                            "derivatives here are those of arrays of numbers")
        return array_of(rec, made)
    if complexes.complex_within(values):
        parts = [array_of(rec, _part_of(values, part)) for part in ("real", "imag")]
        return complexes.elements(rec, *parts)
    parts = [part if is_traced(part) or isinstance(part, (float, int)) else held(part) for part in values]
    if all(isinstance(part, (TracedScalar, float, int, np.number)) for part in parts):
        ids = np.array([part.i if isinstance(part, TracedScalar) else -1 for part in parts], dtype=np.int64)
        numbers = np.array([part.v if isinstance(part, TracedScalar) else part for part in parts], dtype=np.float64)
        for part in parts:
            if isinstance(part, TracedScalar):
                own(rec, part)
        return of_ids(rec, numbers, ids, all(map(is_boolean, parts)))
    parts = [array_of(rec, part) if isinstance(part, (list, tuple)) else part for part in parts]
    shapes = {np.shape(part) for part in parts}
    if len(shapes) > 1:
        raise ValueError(
            f"setting an array element with a sequence. The requested array has an inhomogeneous shape: parts of "
            f"shapes {sorted(shapes)}"
        )
    return np.stack([part if is_traced(part) else array_of(rec, part) for part in parts])


def _of_scalars(values: list[Any]) -> TracedArray | None:
    """np.array of a few traced scalars and floats, as steps of an ODE's right-hand side make it; None where it is any
    other list."""
    rec, ids, numbers = None, [], []
    for x in values:
        if isinstance(x, TracedScalar):
            if type(x) is not x.rec.scalar_type or rec is not None and x.rec is not rec:
                return None
            rec = x.rec
            ids.append(x.i)
            numbers.append(x.v)
        elif type(x) is float:
            ids.append(-1)
            numbers.append(x)
        else:
            return None
    if rec is None or not rec.open or len(ids) > FEW:
        return None
    buffer = _array(numbers)
    first, step = ids[0], ids[1] - ids[0] if len(ids) > 1 else 1
    block = rec.block_of(first)
    end = rec.firsts[block] + rec.tape.blocks[block].size if block < len(rec.firsts) else rec.next_node()
    if step > 0 <= first and ids == list(range(first, first + step * len(ids), step)) and ids[-1] < end:
        start = rec.firsts[block] if block < len(rec.firsts) else rec.n
        st = Storage(rec, buffer, [])
        st._become(whole(buffer.shape, Affine(block, first - start, (step if len(ids) > 1 else 0,))))
    else:
        st = Storage(rec, buffer, [])
        st.ids, st.pieces = _array(ids), None
    return TracedArray(st, buffer, 0)


def _part_of(values: Any, part: str) -> Any:
    """The real or imaginary parts of nested lists."""
    values = held(values)
    if isinstance(values, (list, tuple)):
        return [_part_of(x, part) for x in values]
    if complexes.is_complex(values) or part == "imag":
        return getattr(values, part) if hasattr(values, part) else 0.0
    return values


def _objects(tree: Any) -> np.ndarray:
    """An object array of traced scalars: Python's own operators work on it."""
    traced = array_of(traced_within(tree), tree)
    result = NUMPY["empty"](np.shape(traced), dtype=object)
    for index in np.ndindex(result.shape):
        result[index] = traced[index]
    return result


def _tracing() -> bool:
    """Whether the caller of a substitute is to be answered with an array that can hold traced values: it is
    in a thread that traces, and is neither NumPy nor this package itself."""
    if threading.get_ident() not in TRACES:
        return False
    frame = sys._getframe(2)
    known = _CALLERS.get(id(frame.f_code))
    if known is None:
        if len(_CALLERS) >= MANY_CALLERS:
            _CALLERS.clear()
        known = _CALLERS[id(frame.f_code)] = _is_users(frame), frame.f_code
    return known[0]


def _is_users(frame: FrameType) -> bool:
    if frame.f_code.co_name == "<module>":  # imported meanwhile: its constants outlive the trace
        return False
    name = frame.f_globals.get("__name__") or ""
    return not name.startswith(("numpy.", _PACKAGE)) or name.startswith(_LIKE_USERS)


to_hold = _tracing  # by its name elsewhere
MANY_CALLERS = 1 << 12
_CALLERS: dict[int, tuple[bool, CodeType]] = {}  # by id(code), with the code, so that its id stays its own
_PACKAGE = __name__.partition(".")[0] + "."
_LIKE_USERS = (_PACKAGE + "examples.", "numpy.polynomial.")  # Python code that knows nothing of memory


def _convert(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    @wraps(function)
    def convert(x: Any = None, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not _tracing() or (not args and not kwargs and x is None):
            return function(x, dtype, *args, **kwargs)
        x = x._distdiff_held() if isinstance(x, Flat) else x
        if type(x) is list and dtype is None and not args and not kwargs and name != "asarray_chkfinite":
            result = _of_scalars(x)
            if result is not None:
                return result
        rec = traced_within(x)
        if rec is None:
            if type(x) is HoldingArray and x.ndim and (
                    dtype is None or np.dtype(dtype) == x.dtype):  # views of it are to know it
                if name == "array":
                    return hold(function(x, dtype, *args, **{**kwargs, "subok": True}))
                order = {"ascontiguousarray": "C", "asfortranarray": "F"}.get(name)
                return NUMPY["asanyarray"](x, dtype, *args, **({} if order is None else {"order": order}), **kwargs)
            result = function(x, dtype, *args, **kwargs)
            return result if result is x else hold(result)
        if dtype is not None and np.dtype(dtype) == object:
            return _objects(x)
        if (
            name in ("asarray", "asanyarray")
            and type(x) is HoldingArray
            and not args
            and not kwargs
            and (dtype is None or np.dtype(dtype) == x.dtype)
        ):
            return x
        result = array_of(rec, x)
        if isinstance(result, TracedScalar):
            result = result.as_array(result)
        copied = result is not held(x)
        if dtype is not None and np.dtype(dtype).kind == "c" or complexes.is_traced_complex(result):
            return _complex_result(name, result, dtype, copied, args, kwargs)
        if dtype is not None and np.dtype(dtype) != result.dtype:
            result, copied = result.astype(dtype), True  # which says so if the floats are of another size
        if type(result) is not TracedArray:  # whole numbers, which are plain
            return function(result, None, *args, **kwargs)
        if copied and result.ndim > 1 and isinstance(x, (list, tuple)):  # NumPy makes C order of a list
            result = laid(result, NUMPY["empty"](result.shape))
        options = {key: value for key, value in kwargs.items() if key != "like"}
        if copied and name == "array":
            options["copy"] = _IF_NEEDED
        return view_or_copy(result, function(result.nd, None, *args, **options))

    return convert


def _complex_result(name: str, x: Any, dtype: Any, copied: bool, args: Any, kwargs: Any) -> Any:
    """np.array and its kin of complex values."""
    if not complexes.is_complex(x):
        x, copied = x.astype(dtype), True
    x = x if type(x) is complexes.ComplexArray else x.as_array()
    if dtype is not None and np.dtype(dtype).kind != "c":
        return x.astype(dtype)
    order = kwargs.get("order", {"ascontiguousarray": "C", "asfortranarray": "F"}.get(name, "K"))
    asked = kwargs.get("copy", args[0] if args else True)  # True, False, None, or NumPy's name for one of them
    copy = name == "array" and getattr(asked, "name", asked) in (True, "ALWAYS") and not copied
    laid_out = order == "K" or x.flags[f"{order}_CONTIGUOUS"] if order in ("K", "C", "F") else True
    x = x.copy("K" if order == "A" else order) if copy or not laid_out else x
    missing = kwargs.get("ndmin", 0) - x.ndim
    return np.reshape(x, (1,) * missing + x.shape) if missing > 0 else x


_LIKE = {"zeros_like": 0.0, "ones_like": 1.0}


def _create(name: str) -> Callable[..., Any]:
    function = getattr(np, name)
    fill = np.zeros if name == "empty" else np.zeros_like if name == "empty_like" else function
    like = {"zeros_like": "zeros_like", "empty_like": "zeros_like", "ones_like": "ones_like"}.get(name, "")

    @wraps(function)
    def create(*args: Any, **kwargs: Any) -> Any:
        if like and len(args) == 1 and not kwargs and type(args[0]) is TracedArray and not args[0].st.boolean and (
                args[0].window.flags.c_contiguous):
            x = args[0]
            own(x.rec, x)
            values = NUMPY[like](x.window)
            return TracedArray(Storage(x.rec, values, whole(values.shape, Const(_LIKE[like]))), values, 0)
        if not _tracing():
            return function(*args, **kwargs)
        if name == "arange":
            args = tuple(int(x) if isinstance(x, TracedCount) else x for x in args)
        args, kwargs = plain_options(function, args, kwargs)
        rec = traced_within([*args, *kwargs.values()])
        if rec is not None and name == "full":
            shape = args[0] if args else kwargs["shape"]
            value = held(args[1] if len(args) > 1 else kwargs["fill_value"])
            dtype = args[2] if len(args) > 2 else kwargs.get("dtype")
            if dtype is not None and np.dtype(dtype).kind in "iub" and not complexes.is_complex(value):
                return NUMPY["full"](shape, written(array_of(rec, value), dtype), dtype)
            if dtype is None and is_boolean(value):
                return np.broadcast_to(value, shape).copy()
            if dtype is not None:
                rec.float64(np.dtype(dtype), "numpy.full")
            of_complex = complexes.is_complex(value) if dtype is None else np.dtype(dtype).kind == "c"
            result = array_of(rec, NUMPY["zeros"](shape, complex if of_complex else float))
            result[...] = value
            return result
        if rec is not None and name == "full_like" and len(args) > 1 and traced_within(args[0]) is None:
            model, value = NUMPY["asarray"](args[0]), array_of(rec, args[1])
            dtype = args[2] if len(args) > 2 else kwargs.get("dtype")
            if is_traced(value) and (model.dtype if dtype is None else np.dtype(dtype)).kind in "iub":
                return protocol.FUNCTIONS[function](model, value, *args[2:], **kwargs)
        if rec is not None and name == "arange":
            rec.unsupported(
                "numpy.arange of traced values",
                "the number of elements would depend on them; scale np.linspace(0, 1, n)",
            )
        if rec is not None and name == "linspace":
            return function(*(array_of(rec, x) if isinstance(x, (list, tuple)) else x for x in args), **kwargs)
        if rec is not None and args and type(args[0]) in _CONTAINERS:  # np.copy and its kin of lists
            args = (array_of(rec, args[0]), *args[1:])
        result = fill(*args, **kwargs)  # what was not written of np.empty is 0 at every run
        if type(result) is np.ndarray and result.dtype in (np.float32, np.complex64):
            TRACES[threading.get_ident()][-1].float64(result.dtype, f"numpy.{name}")
            result = result.astype(np.float64 if result.dtype == np.float32 else np.complex128)
        if is_traced(result) or complexes.is_traced_complex(result):
            return result
        return hold(result if result.base is None else result.copy(order="K"))

    return create


def _with_lists(name: str) -> Callable[..., Any]:
    """np.sum([a, b]): a list takes part in no protocol, so lists of traced values become arrays first."""
    function = getattr(np, name)
    rule = protocol.FUNCTIONS[function]
    named = protocol.checks_names(rule)
    sooner = chosen if name == "where" else None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if CAREFUL:
            pass  # NumPy's own function decides what is raised
        elif not kwargs:
            if sooner is not None and len(args) == 3:
                result = sooner(*args)
                if result is not NotImplemented:
                    return result
            for x in args:
                if type(x) is TracedArray:  # NumPy would come back to the rule, by a longer way
                    if protocol.usual(args):
                        return protocol.writable(rule(*args), x)
                    break
        elif named and args and type(args[0]) is TracedArray and protocol.usual(args) and protocol.usual(
                kwargs.values()):
            return protocol.writable(rule(*args, **kwargs), args[0])
        if not _CONTAINERS.isdisjoint(map(type, args)) and _tracing():
            args, kwargs = plain_options(function, args, kwargs)
            args = tuple(
                array_of(rec, x) if type(x) in _CONTAINERS and (rec := traced_within(x)) is not None else x
                for x in args
            )
        if kwargs and not _CONTAINERS.isdisjoint(map(type, kwargs.values())) and _tracing():
            kwargs = {key: array_of(rec, x) if type(x) in _CONTAINERS and (rec := traced_within(x)) is not None else x
                      for key, x in kwargs.items()}
        return function(*args, **kwargs)

    return call


class _Joiner:
    """np.r_ or np.c_ while a thread traces."""

    def __init__(self, original: Any, *how: int) -> None:
        self._original, self._how = original, how

    def __getitem__(self, key: Any) -> Any:
        if _tracing():
            rec = traced_within(key)
            if rec is not None:
                return joined(key, lambda x: array_of(rec, x), *self._how)
        return self._original[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _require(a: Any, dtype: Any = None, requirements: Any = None, **kwargs: Any) -> Any:
    """np.require: traced arrays have what it can ask for, but for the order in memory."""
    if not _tracing() or traced_within(a) is None:
        return NUMPY["require"](a, dtype, requirements, **kwargs)
    wanted = {str(r).upper()[:1] for r in ([requirements] if isinstance(requirements, str) else requirements or ())}
    x = array_of(traced_within(a), a)
    x = x.as_array(x) if isinstance(x, TracedScalar) else x if dtype is None else x.astype(dtype, copy=False)
    order = "F" if "F" in wanted else "C" if "C" in wanted else "A"
    return view_or_copy(x, NUMPY["asarray"](x.nd, order=order)) if type(x) is TracedArray else x


def _from_iterable(iter: Any, dtype: Any, count: int = -1, **kwargs: Any) -> Any:
    if not _tracing():
        return NUMPY["fromiter"](iter, dtype, count, **kwargs)
    values = list(iter if count < 0 else islice(iter, count))
    rec = traced_within(values)
    if rec is not None:
        return written(array_of(rec, values), dtype)
    return hold(NUMPY["fromiter"](values, dtype, **kwargs))


def _kaiser(M: Any, beta: Any) -> Any:
    """np.kaiser, which makes a plain float of beta."""
    rec = traced_within([beta]) if _tracing() else None
    if rec is None:
        return NUMPY["kaiser"](M, beta)
    place = np.linspace(-1.0, 1.0, M) if M > 1 else np.zeros(M)
    return np.i0(held(beta) * np.sqrt((1.0 - place) * (1.0 + place))) / np.i0(held(beta))


def _enumerated(arr: Any) -> Any:
    """np.ndenumerate, which reads the elements as a plain array."""
    x = held(arr)
    if not _tracing() or type(x) is not TracedArray:
        return NUMPY["ndenumerate"](arr)
    return ((index, x[index]) for index in np.ndindex(x.shape))


def _lexsort(keys: Any, axis: int = -1) -> Any:
    """np.lexsort, which takes part in the protocol with a tuple of keys only."""
    if type(keys) is list and _tracing() and (rec := traced_within(keys)) is not None:
        keys = tuple([array_of(rec, x) if type(x) in _CONTAINERS else x for x in keys])
    return NUMPY["lexsort"](keys, axis)


_CONTAINERS, _ARRAYS = frozenset((list, tuple)), {TracedArray}
# Functions whose lists are lists of arrays, not arrays.
_JOINS = ("concatenate", "concat", "stack", "vstack", "hstack", "dstack", "column_stack", "row_stack")
_OF_LISTS = {*_JOINS, "block", "select", "choose", "piecewise", "ix_", "lexsort", "histogramdd"}


def _with_parts(name: str) -> Callable[..., Any]:
    """np.concatenate([[a, b], [c]]): of the arrays to join, some are lists."""
    function = getattr(np, name)
    rule = protocol.FUNCTIONS[function]

    @wraps(function)
    def call(arrays: Any, *args: Any, **kwargs: Any) -> Any:
        if type(arrays) in _CONTAINERS and set(map(type, arrays)) == _ARRAYS and protocol.usual(args) and (
                protocol.usual(kwargs.values())):
            return rule(arrays, *args, **kwargs)  # NumPy would come back to the rule, by a longer way
        if type(arrays) in _CONTAINERS and not _CONTAINERS.isdisjoint(map(type, arrays)) and _tracing():
            rec = traced_within(arrays)
            if rec is not None:
                arrays = [array_of(rec, x) if type(x) in _CONTAINERS else x for x in arrays]
        return function(arrays, *args, **kwargs)

    return call


def _substitutes() -> dict[str, Any]:
    lists = [name for name, function in vars(np).items() if isinstance(function, Callable)
             and function in protocol.FUNCTIONS and name not in _OF_LISTS | {*_CREATE, *_CONVERT}]
    joins = [name for name in _JOINS if name in vars(np)]
    NUMPY.update({name: getattr(np, name) for name in (*_CREATE, *_CONVERT, *lists, *joins)})
    table = {name: _create(name) for name in _CREATE}
    table.update({name: _convert(name) for name in _CONVERT})
    table.update({name: _with_lists(name) for name in lists})
    table.update({name: _with_parts(name) for name in joins})
    for name, function in {"r_": _Joiner(np.r_), "c_": _Joiner(np.c_, -1, 2, 0), "require": _require,
                           "fromiter": _from_iterable, "lexsort": _lexsort, "ndenumerate": _enumerated,
                           "kaiser": _kaiser, "fastCopyAndTranspose": lambda x: np.transpose(x).copy()}.items():
        if name in vars(np):
            NUMPY[name] = getattr(np, name)
            table[name] = function
    return table


SUBSTITUTES = _substitutes()
