"""Arrays that can come to hold traced values.

A `HoldingArray` is a true ndarray (of a subclass, so compiled code and `isinstance` are content).  When a
traced value is written into it, it turns over to a traced storage: from then on every operation on it and its
views is one on that storage, and their own memory is NaN, so compiled code that reads it regardless can't
return a plausible number.
"""

from __future__ import annotations

import weakref
from functools import wraps
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..tape import Const
from . import protocol
from .active import CAREFUL
from .array import TracedArray, is_traced
from .boxes import whole
from .complexes import ComplexArray, is_traced_complex
from .indexing import plain_index
from .recorder import Recorder
from .storage import Storage
from .wholes import written

_base = np.ndarray.base.__get__  # type: ignore[attr-defined]


class HoldingArray(np.ndarray):
    """An ndarray that can come to hold traced values (see the module's text)."""

    _held: Storage | tuple[Storage, Storage] | None = None  # of the array that owns the memory (both parts of a
    # complex one); views find it through `base`
    _all: Any = None  # the whole of it

    def _root(self) -> HoldingArray:
        root: Any = self
        base = _base(self)
        while base is not None:
            if type(base) is HoldingArray:
                root, base = base, _base(base)
            else:
                base = getattr(base, "base", None)
        return root

    @property
    def base(self) -> Any:
        """The array whose memory it is, as NumPy's own arrays have it: the plain one beneath is nobody's."""
        root = self._root()
        return None if root is self else root

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
            if not np.issubdtype(self.dtype, np.inexact):
                value = rec.array_of(value) if isinstance(value, (list, tuple)) else held(value)
                np.asarray(self)[_index(index)] = written(value, self.dtype)  # whole numbers: the value decides
                return
            value = rec.array_of(value) if isinstance(value, (list, tuple)) else value
            promote(self, rec)
        elif isinstance(value, (list, tuple)):
            value = _recorder(st).array_of(value)
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
    """What a holding array holds: a traced array, or, as long as it is plain, a plain view; anything else as
    it is."""
    if type(x) is not HoldingArray:
        return x
    if x._all is not None:
        return x._all
    root = x._root()
    st = root._held
    if st is None:
        return x.view(np.ndarray)
    offset = x.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    if type(st) is tuple:
        return _of_complex(x, st, offset)
    flat = st.buffer.reshape(-1)
    view = as_strided(flat[offset // 8 :], x.shape, x.strides) if x.size else np.empty(x.shape)
    return TracedArray(st, view)


def _of_complex(x: np.ndarray, parts: tuple[Storage, Storage], offset: int) -> Any:
    """A view of a complex array that holds traced values, or of one of its parts."""
    if any(s % 16 for s, n in zip(x.strides, x.shape) if n > 1) or x.dtype.kind not in "fc":
        _recorder(parts).unsupported("numpy.ndarray.view of complex numbers as another type",
                                     "z.real and z.imag are views of the parts")
    strides = tuple(s // 2 if n > 1 else 0 for s, n in zip(x.strides, x.shape))
    views = [TracedArray(st, as_strided(st.buffer.reshape(-1)[offset // 16 :], x.shape, strides) if x.size
                         else np.empty(x.shape)) for st in parts]
    return ComplexArray(*views) if x.dtype.kind == "c" else views[offset // 8 % 2]


def _recorder(st: Storage | tuple[Storage, Storage]) -> Recorder:
    return st[0].rec if type(st) is tuple else st.rec


def hold(x: Any) -> Any:
    """A fresh plain result, able to hold traced values (a view of someone else's memory can't)."""
    if type(x) is not np.ndarray or x.dtype.char not in "dD" and x.dtype.kind not in "iub":
        return x
    base: Any = x.base
    while base is not None and type(base) is not HoldingArray:
        base = getattr(base, "base", None)
    return x.view(HoldingArray) if base is not None or x.base is None else x


class _Part:
    """Memory of a holding array, that NumPy's own view of it knows the address of but not the owner."""

    def __init__(self, view: np.ndarray, owner: HoldingArray) -> None:
        self.__array_interface__ = view.__array_interface__
        self.base = owner  # read by `_root`


def view_of(view: np.ndarray, owner: HoldingArray) -> Any:
    """A plain view of a holding array's memory as one that holds what its owner does.

    NumPy's views name as `base` the memory itself, past the holding array; so this one is made anew.
    Those that are only to be read (np.broadcast_to) stay plain.
    """
    if view.dtype.kind in "iub":
        return view.view(HoldingArray)
    if view.dtype.char not in "dD" or not view.size or view.__array_interface__["data"][1]:
        return view
    return np.asarray(_Part(view, owner)).view(HoldingArray)


def promote(x: Any, rec: Recorder) -> Any:
    """Make a holding array hold traced values."""
    if type(x) is tuple:
        return tuple(promote(part, rec) for part in x)
    if type(x) is not HoldingArray:
        return x
    root = x._root()
    if root._held is None:
        if root.dtype.kind in "iub":
            rec.unsupported(f"writing traced values into an array of dtype {root.dtype}", "NumPy cuts them to whole "
                            "numbers: make the array of floats, np.zeros(n), or write y[...] = x, which decides")
        memory = root.view(np.ndarray)
        if not memory.flags.c_contiguous:  # a root is dense: as one axis in the order of its memory
            memory = as_strided(memory, (memory.size,), (memory.itemsize,))
        if memory.dtype.kind == "c":
            root._held = constant_storage(rec, memory.real.copy()), constant_storage(rec, memory.imag.copy())
        else:
            root._held = constant_storage(rec, memory.copy())
        root._all = held(root)
        for st in root._held if type(root._held) is tuple else (root._held,):
            st.made = weakref.ref(root)
        rec.holding = True
        memory.fill(complex(np.nan, np.nan) if memory.dtype.kind == "c" else np.nan)
    return held(x)


HoldingArray._distdiff_held, HoldingArray._distdiff_promote = staticmethod(held), staticmethod(promote)
HoldingArray._distdiff_hold, HoldingArray._distdiff_view = staticmethod(hold), staticmethod(view_of)


def constant_storage(rec: Recorder, values: np.ndarray, boolean: bool = False) -> Storage:
    """A storage of constants: one value if they are all the same, else a copy."""
    if not values.size:
        return Storage(rec, values, [], boolean=boolean)
    first = values.item(0)
    same = bool((values == first).all()) and not (first == 0.0 and np.signbit(values).any())
    return Storage(rec, values, whole(values.shape, Const(float(first) if same else values.copy())), boolean=boolean)


def traced_within(tree: Any) -> Recorder | None:
    """The recorder of the first traced value in nested lists, or None."""
    if is_traced(tree) or is_traced_complex(tree):
        return tree.rec
    if type(tree) is HoldingArray:
        st = tree._root()._held
        return None if st is None else _recorder(st)
    if isinstance(tree, (list, tuple)):
        for part in tree:
            rec = traced_within(part)
            if rec is not None:
                return rec
    elif type(tree) is np.ndarray and tree.dtype == object:
        return traced_within(tree.ravel().tolist())
    return None


_SAME = {
    "__class__",
    "__new__",
    "__init__",
    "__init_subclass__",
    "__subclasshook__",
    "__dict__",
    "__doc__",
    "__getattribute__",
    "__setattr__",
    "__delattr__",
    "__dir__",
    "__sizeof__",
    "__array_finalize__",
    "__array_prepare__",
    "__array_wrap__",
    "__array_ufunc__",
    "__array_function__",
    "__array_interface__",
    "__array_struct__",
    "__array_priority__",
    "__getitem__",
    "__setitem__",
    "__class_getitem__",
    "__dlpack__",
    "__dlpack_device__",
    "__hash__",
    "__len__",
    "__array__",
    "__buffer__",
    "view",
    "ctypes",
    "data",
    "base",
    "dtype",
    "flags",
    "itemsize",
    "nbytes",
    "ndim",
    "shape",
    "size",
    "strides",
    "T",
    "mT",
    "device",
    "__array_namespace__",
    "__reduce__",
    "__reduce_ex__",
    "__setstate__",
    "getfield",
    "setflags",
    "transpose",
    "swapaxes",
    "setfield",
}


def _target(x: HoldingArray, value: Any) -> Any:
    """What x holds, after room was made for the traced values that are to be written into it."""
    rec = traced_within(value)
    return held(x) if rec is None else promote(x, rec)


class PlainFlat:
    """`flat` of an array that holds nothing traced yet: NumPy's own, until something traced is written through it."""

    def __init__(self, base: HoldingArray) -> None:
        self._base, self._own = base, np.ndarray.flat.__get__(base)  # type: ignore[attr-defined]

    def _now(self) -> Any:
        return self._own if self._base._root()._held is None else held(self._base).flat

    def __setitem__(self, index: Any, value: Any) -> None:
        if self._base.dtype.kind in "fc":
            _target(self._base, value)  # of whole numbers the value decides, or is refused
        self._now()[_index(index)] = held(value)

    def __getitem__(self, index: Any) -> Any:
        return self._now()[_index(index)]

    def __iter__(self) -> Any:
        return iter(self._now())

    def __next__(self) -> Any:
        return next(self._own)

    def __len__(self) -> int:
        return int(self._base.size)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return np.array(self._now(), *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._now(), name)

    def __eq__(self, other: object) -> Any:
        return self._now() == other

    def __ne__(self, other: object) -> Any:
        return self._now() != other

    __hash__ = None  # type: ignore[assignment]


def _flat(x: HoldingArray) -> Any:
    return PlainFlat(x) if x._root()._held is None else held(x).flat


_ARITHMETIC = frozenset(f"__{side}{name}__" for side in ("", "r") for name in "add sub mul truediv pow".split())
_NUMBERS = frozenset((float, int, np.float64))


def _plain(x: Any) -> Any:
    """A number or an array of numbers that holds nothing traced, as NumPy's own; None for anything else."""
    if type(x) is HoldingArray:
        return x.view(np.ndarray) if x._root()._held is None else None
    return x if type(x) in _NUMBERS or type(x) is np.ndarray and x.dtype.kind in "fiub" else None


def _forwarding(name: str) -> Any:
    """A method of ndarray that goes to what is held, if something is."""
    own_method = getattr(np.ndarray, name)
    if not callable(own_method):  # flat, real, imag
        return property(
            _flat if name == "flat" else
            lambda self: getattr(held(self), name) if self._root()._held is not None else own_method.__get__(self),
            lambda self, value: setattr(_target(self, value), name, held(value)),
        )

    arithmetic = name in _ARITHMETIC

    @wraps(own_method)
    def method(self: HoldingArray, *args: Any, **kwargs: Any) -> Any:
        if self._root()._held is None:
            if arithmetic and len(args) == 1 and not CAREFUL and (other := _plain(args[0])) is not None:
                return hold(own_method(self.view(np.ndarray), other))  # as the protocol would, in half the time
            rec = traced_within(args) or traced_within(list(kwargs.values()))
            if rec is None:
                return own_method(self, *args, **kwargs)
            if name in ("fill", "put", "itemset") or name.startswith("__i") and name[3:5] != "n_":
                if not np.issubdtype(self.dtype, np.inexact):  # whole numbers: the value decides, or is refused
                    found = own_method(np.asarray(self), *args, **kwargs)
                    return found if found is None or found is NotImplemented else self
                promote(self, rec)
            elif name.startswith("__") and name not in ("__contains__",):
                return own_method(self, *args, **kwargs)  # an operator: NumPy turns to the protocol
            else:
                return getattr(rec.array_of(self), name)(*args, **kwargs)
        target = held(self)
        result = getattr(target, name)(*map(held, args), **kwargs)
        return result

    return method


for _name in dir(np.ndarray):
    if _name not in _SAME:
        setattr(HoldingArray, _name, _forwarding(_name))
