"""Arrays made inside a traced function: np.zeros(n), np.array([a, b]), which no NumPy protocol reaches.

While a thread traces, NumPy's creation functions answer it with *holding* arrays: true ndarrays (of a subclass, so compiled code and
`isinstance` are content) that turn over to a traced storage as soon as a traced value is written into them.  From then on every
operation on them is one on that storage, and their own memory is NaN: compiled code that reads it regardless can't
return a plausible number.

The substitution is undone when the last trace ends, whatever ends it; other threads get NumPy's own answers meanwhile.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..tape import Const
from . import protocol
from .array import TracedArray, is_boolean, is_traced, of_ids, own, plain_index
from .boxes import whole
from .recorder import Recorder
from .scalar import TracedScalar
from .storage import Storage

_CREATE = ("zeros", "empty", "ones", "full", "eye", "identity", "arange", "linspace", "zeros_like", "empty_like", "ones_like",
           "full_like", "copy")
_CONVERT = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "asarray_chkfinite")

NUMPY: dict[str, Callable[..., Any]] = {}  # NumPy's own functions, by name
_active: dict[int, list[Recorder]] = {}  # thread -> the traces it is in
_lock = threading.Lock()
_uses = 0


class HoldingArray(np.ndarray):
    """An ndarray that can come to hold traced values (see the module's text)."""

    _held: Storage | None = None  # of the array that owns the memory; views find it through `base`
    _all: TracedArray | None = None  # the whole of it

    def _root(self) -> HoldingArray:
        root: Any = self
        base = self.base
        while base is not None:
            if type(base) is HoldingArray:
                root = base
            base = getattr(base, "base", None)
        return root

    __array_ufunc__ = protocol.array_ufunc
    __array_function__ = protocol.array_function

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._all is not None and type(index) is int:
            self._all[index] = held(value)
            return
        st = self._root()._held
        if st is None:
            rec = traced_within(value)
            if rec is None:
                np.ndarray.__setitem__(self, _index(index), value)
                return
            if not np.issubdtype(self.dtype, np.floating):
                np.asarray(self)[_index(index)] = value  # whole numbers: the value decides, or is refused
                return
            value = rec.array_of(value) if isinstance(value, (list, tuple)) else value
            promote(self, rec)
        elif isinstance(value, (list, tuple)):
            value = st.rec.array_of(value)
        held(self)[_index(index)] = held(value)

    def __getitem__(self, index: Any) -> Any:
        if self._all is not None and type(index) is int:
            return self._all[index]
        if self._root()._held is None:
            return np.ndarray.__getitem__(self, _index(index))
        return held(self)[_index(index)]


def _index(index: Any) -> Any:
    if type(index) is tuple:
        return tuple(map(_index, index))
    if type(index) is HoldingArray:
        return held(index)
    if type(index) is TracedArray and not index.st.boolean and index.st.constant:
        return index.nd
    if type(index) is TracedArray:
        return plain_index(index.rec, index)
    return index


def held(x: Any) -> Any:
    """What a holding array holds: a traced array, or, as long as it is plain, a plain view; anything else as it is."""
    if type(x) is not HoldingArray:
        return x
    if x._all is not None:
        return x._all
    root = x._root()
    st = root._held
    if st is None:
        return x.view(np.ndarray)
    offset = x.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    flat = st.buffer.reshape(-1)
    view = as_strided(flat[offset // 8 :], x.shape, x.strides) if x.size else np.empty(x.shape)
    return TracedArray(st, view)



def hold(x: Any) -> Any:
    """A fresh plain result, able to hold traced values (a view of someone else's memory can't)."""
    if type(x) is not np.ndarray or x.dtype != np.float64:
        return x
    base: Any = x.base
    while base is not None and type(base) is not HoldingArray:
        base = getattr(base, "base", None)
    return x.view(HoldingArray) if base is not None or x.base is None else x


def promote(x: Any, rec: Recorder) -> Any:
    """Make a holding array hold traced values."""
    if type(x) is tuple:
        return tuple(promote(part, rec) for part in x)
    if type(x) is not HoldingArray:
        return x
    root = x._root()
    if root._held is None:
        memory = root.view(np.ndarray)
        if not memory.flags.c_contiguous:  # a root is dense: as one axis in the order of its memory
            memory = as_strided(memory, (memory.size,), (8,))
        root._held = _constant_storage(rec, memory.copy())
        root._all = held(root)
        memory.fill(np.nan)
    return held(x)


HoldingArray._distdiff_held, HoldingArray._distdiff_promote = staticmethod(held), staticmethod(promote)
HoldingArray._distdiff_hold = staticmethod(hold)


def _constant_storage(rec: Recorder, values: np.ndarray, boolean: bool = False) -> Storage:
    """A storage of constants: one value if they are all the same, else a copy."""
    if not values.size:
        return Storage(rec, values, [], boolean=boolean)
    first = values.reshape(-1)[0]
    same = bool(np.all(values == first)) and not (first == 0.0 and np.signbit(values).any())
    return Storage(rec, values, whole(values.shape, Const(float(first) if same else values.copy())), boolean=boolean)


def traced_within(tree: Any) -> Recorder | None:
    """The recorder of the first traced value in nested lists, or None."""
    if is_traced(tree):
        return tree.rec
    if type(tree) is HoldingArray:
        st = tree._root()._held
        return None if st is None else st.rec
    if isinstance(tree, (list, tuple)):
        for part in tree:
            rec = traced_within(part)
            if rec is not None:
                return rec
    elif type(tree) is np.ndarray and tree.dtype == object:
        return traced_within(tree.ravel().tolist())
    return None


_SAME = {"__class__", "__new__", "__init__", "__init_subclass__", "__subclasshook__", "__dict__", "__doc__", "__getattribute__",
         "__setattr__", "__delattr__", "__dir__", "__sizeof__", "__array_finalize__", "__array_prepare__", "__array_wrap__",
         "__array_ufunc__", "__array_function__", "__array_interface__", "__array_struct__", "__array_priority__", "__getitem__",
         "__setitem__", "__class_getitem__", "__dlpack__", "__dlpack_device__", "__hash__", "__len__", "__array__", "__buffer__",
         "view", "ctypes", "data", "base", "dtype", "flags", "itemsize", "nbytes", "ndim", "shape", "size", "strides", "T", "mT",
         "device", "__array_namespace__", "__reduce__", "__reduce_ex__", "__setstate__", "getfield", "setflags", "transpose",
         "swapaxes", "setfield"}


def _forwarding(name: str) -> Any:
    """A method of ndarray that goes to what is held, if something is."""
    own_method = getattr(np.ndarray, name)
    if not callable(own_method):  # flat, real, imag
        return property(lambda self: getattr(held(self), name) if self._root()._held is not None
                        else own_method.__get__(self), lambda self, value: setattr(held(self), name, value))

    @wraps(own_method)
    def method(self: HoldingArray, *args: Any, **kwargs: Any) -> Any:
        if self._root()._held is None:
            rec = traced_within(args) or traced_within(list(kwargs.values()))
            if rec is None:
                return own_method(self, *args, **kwargs)
            if name in ("fill", "put", "itemset") or name.startswith("__i") and name[3:5] != "n_":
                promote(self, rec)
            elif name.startswith("__") and name not in ("__contains__",):
                return own_method(self, *args, **kwargs)  # an operator: NumPy turns to the protocol
            else:
                return getattr(array_of(rec, self), name)(*args, **kwargs)
        target = held(self)
        result = getattr(target, name)(*map(held, args), **kwargs)
        return result

    return method


for _name in dir(np.ndarray):
    if _name not in _SAME:
        setattr(HoldingArray, _name, _forwarding(_name))


# -- lists of traced values --------------------------------------------------------------------------------------


def array_of(rec: Recorder, values: Any) -> Any:
    """np.array of anything: nested lists of traced values and numbers, or a plain array, as a traced array."""
    values = held(values)
    if is_traced(values):
        return values
    if not isinstance(values, (list, tuple)):
        values = NUMPY["asarray"](values)
        if values.dtype == object:
            return np.reshape(array_of(rec, values.ravel().tolist()), values.shape)
        if values.dtype.kind not in "fiub":
            rec.unsupported(f"an array of dtype {values.dtype}", "derivatives here are those of real functions")
        buffer = np.array(values, dtype=np.float64, order="C")
        st = _constant_storage(rec, buffer, values.dtype == bool)
        return TracedArray(st, buffer)
    if traced_within(values) is None:
        return array_of(rec, NUMPY["array"](values))
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
        raise ValueError(f"setting an array element with a sequence. The requested array has an inhomogeneous shape: parts of "
                         f"shapes {sorted(shapes)}")
    return np.stack([part if is_traced(part) else array_of(rec, part) for part in parts])


def _objects(tree: Any) -> np.ndarray:
    """An object array of traced scalars: Python's own operators work on it."""
    traced = array_of(traced_within(tree), tree)
    result = NUMPY["empty"](np.shape(traced), dtype=object)
    for index in np.ndindex(result.shape):
        result[index] = traced[index]
    return result


def _tracing() -> bool:
    """Whether the caller of a substitute is to be answered with an array that can hold traced values: it is in a thread that
    traces, and is neither NumPy nor this package itself."""
    if threading.get_ident() not in _active:
        return False
    name = sys._getframe(2).f_globals.get("__name__") or ""
    return not name.startswith(("numpy.", _PACKAGE)) or name.startswith(_EXAMPLES)


_PACKAGE = __name__.partition(".")[0] + "."
_EXAMPLES = _PACKAGE + "examples."


def _convert(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    @wraps(function)
    def convert(x: Any = None, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if not _tracing() or (not args and not kwargs and x is None):
            return function(x, dtype, *args, **kwargs)
        rec = traced_within(x)
        if rec is None:
            result = function(x, dtype, *args, **kwargs)
            return result if result is x else hold(result)
        if dtype is not None and np.dtype(dtype) == object:
            return _objects(x)
        if name in ("asarray", "asanyarray") and type(x) is HoldingArray and (dtype is None or np.dtype(dtype) == x.dtype):
            return x
        result = array_of(rec, x)
        if isinstance(result, TracedScalar):
            result = result.as_array(result)
        copied = result is not held(x)
        if dtype is not None and np.dtype(dtype) != result.dtype:
            result, copied = result.astype(dtype), True
        if name == "array" and kwargs.get("copy", True) and not copied:
            result = result.copy()
        ndmin = kwargs.get("ndmin", 0)
        if name in ("ascontiguousarray", "asfortranarray"):
            ndmin = max(ndmin, 1)
        if np.ndim(result) < ndmin:
            result = np.reshape(result, (1,) * (ndmin - np.ndim(result)) + np.shape(result))
        return result

    return convert


def _create(name: str) -> Callable[..., Any]:
    function = getattr(np, name)
    fill = np.zeros if name == "empty" else np.zeros_like if name == "empty_like" else function

    @wraps(function)
    def create(*args: Any, **kwargs: Any) -> Any:
        if not _tracing():
            return function(*args, **kwargs)
        rec = traced_within([*args, *kwargs.values()])
        if rec is not None and name == "full":
            shape = args[0] if args else kwargs["shape"]
            result = array_of(rec, NUMPY["zeros"](shape))
            result[...] = args[1] if len(args) > 1 else kwargs["fill_value"]
            return result
        if rec is not None and name in ("linspace", "arange"):
            return _spaced(rec, name, *args, **kwargs)
        result = fill(*args, **kwargs)  # what was not written of np.empty is 0 at every run
        if type(result) is np.ndarray and result.dtype == np.float32:
            result = result.astype(np.float64)
        return hold(result if result.base is None else result.copy())

    return create


def _spaced(rec: Recorder, name: str, start: Any, stop: Any = None, num: Any = 50, endpoint: bool = True, **kwargs: Any) -> Any:
    if name == "arange" or kwargs:
        rec.unsupported(f"numpy.{name} of traced values", "the number of elements would depend on them; scale np.linspace(0, 1, n)")
    steps = num - 1 if endpoint else num
    return start + (stop - start) * (NUMPY["arange"](num) / max(steps, 1))


def _with_lists(name: str) -> Callable[..., Any]:
    """np.sum([a, b]): a list takes part in no protocol, so lists of traced values become arrays first."""
    function = getattr(np, name)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _tracing():
            args = tuple(array_of(rec, x) if type(x) in (list, tuple) and (rec := traced_within(x)) is not None else x
                         for x in args)
        return function(*args, **kwargs)

    return call


_LISTS = ("sum", "mean", "prod", "max", "min", "amax", "amin", "std", "var", "dot", "matmul_", "inner", "outer", "cumsum", "diff",
          "any", "all", "argmax", "argmin", "sort", "argsort", "median", "clip", "reshape", "ravel", "transpose", "trapz",
          "trapezoid", "roll", "tile", "repeat", "average", "tensordot", "interp", "polyval", "cross", "diag", "convolve")


def _substitutes() -> dict[str, Callable[..., Any]]:
    for name in (*_CREATE, *_CONVERT, *_LISTS):
        if hasattr(np, name):
            NUMPY[name] = getattr(np, name)
    table = {name: _create(name) for name in _CREATE}
    table.update({name: _convert(name) for name in _CONVERT})
    table.update({name: _with_lists(name) for name in _LISTS if name in NUMPY})
    return table


SUBSTITUTES = _substitutes()


@contextmanager
def substituted(rec: Recorder) -> Iterator[None]:
    """While the body runs, this thread's creation functions answer with arrays that can hold traced values."""
    global _uses
    me = threading.get_ident()
    with _lock:
        if _uses == 0:
            for name, function in SUBSTITUTES.items():
                setattr(np, name, function)
        _uses += 1
        _active.setdefault(me, []).append(rec)
    try:
        yield
    finally:
        with _lock:
            _active[me].pop()
            if not _active[me]:
                del _active[me]
            _uses -= 1
            if _uses == 0:
                for name in SUBSTITUTES:
                    setattr(np, name, NUMPY[name])
