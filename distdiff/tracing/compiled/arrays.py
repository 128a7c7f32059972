"""Arrays of traced floats: Numba's own arrays, with pairs for elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing import signature
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array

from .rewrite import MAKERS
from .types import ELEMENT, TracedFloat, traced_float


def same_memory(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """An array with another type of elements of the same size, on the same memory."""
    source = make_array(sig.args[0])(context, builder, args[0])
    target = make_array(sig.return_type)(context, builder)
    for name in ("nitems", "itemsize", "shape", "strides", "parent", "meminfo"):
        setattr(target, name, getattr(source, name))
    target.data = builder.bitcast(source.data, context.get_data_type(sig.return_type.dtype).as_pointer())
    context.nrt.incref(builder, sig.args[0], args[0])
    return target._getvalue()


@intrinsic
def _traced(typingctx: Any, x: Any) -> Any:
    return signature(x.copy(dtype=traced_float), x), same_memory


def _floats(dtype: Any, default: bool = True) -> bool:
    """Whether an array asked for with this dtype (default: without one) can come to hold traced floats."""
    if isinstance(dtype, types.Omitted):
        dtype = dtype.value
    if dtype is None or isinstance(dtype, types.NoneType):
        return default
    if dtype is float:
        return True
    if isinstance(dtype, types.Function):
        return dtype.typing_key is float
    return isinstance(getattr(dtype, "dtype", None), (types.Float, TracedFloat))


def _number(x: Any) -> bool:
    return isinstance(x, (TracedFloat, types.Integer, types.Float, types.Boolean))


def _float(x: Any) -> bool:
    return isinstance(x, (TracedFloat, types.Float))


def _of_floats(x: Any) -> bool:
    return isinstance(x, types.Array) and _float(x.dtype)


def _maker(function: Any) -> Any:
    """Registers a function that stands for one of NumPy's in compiled code."""

    def register(ours: Any) -> Any:
        MAKERS[function] = ours
        return ours

    return register


# In Numba the arguments of an overload and of what it returns have to be called and to default alike, and may carry no
# annotations.

@_maker(np.empty)
@_maker(np.zeros)
def zeros(shape, dtype=float):
    """np.zeros; np.empty too, because what is not set must at least be a number."""


@overload(zeros)
def _zeros(shape, dtype=float):
    if _floats(dtype):
        return lambda shape, dtype=float: _traced(np.zeros(shape, ELEMENT))
    return lambda shape, dtype=float: np.zeros(shape, dtype)


@_maker(np.ones)
def ones(shape, dtype=float):
    """np.ones."""


@overload(ones)
def _ones(shape, dtype=float):
    if not _floats(dtype):
        return lambda shape, dtype=float: np.ones(shape, dtype)

    def filled(shape, dtype=float):
        out = _traced(np.zeros(shape, ELEMENT))
        out[...] = 1.0
        return out

    return filled


@_maker(np.full)
def full(shape, fill_value, dtype=None):
    """np.full."""


@overload(full)
def _full(shape, fill_value, dtype=None):
    if not _floats(dtype, default=_float(fill_value)):
        if dtype is None or isinstance(dtype, (types.NoneType, types.Omitted)):
            return lambda shape, fill_value, dtype=None: np.full(shape, fill_value)
        return lambda shape, fill_value, dtype=None: np.full(shape, fill_value, dtype)

    def filled(shape, fill_value, dtype=None):
        out = _traced(np.zeros(shape, ELEMENT))
        out[...] = fill_value
        return out

    return filled


@_maker(np.empty_like)
@_maker(np.zeros_like)
def zeros_like(a, dtype=None):
    """np.zeros_like, np.empty_like."""


@overload(zeros_like)
def _zeros_like(a, dtype=None):
    if not isinstance(a, types.Array):
        return None
    if _floats(dtype, default=_float(a.dtype)):
        return lambda a, dtype=None: _traced(np.zeros(a.shape, ELEMENT))
    if dtype is None or isinstance(dtype, (types.NoneType, types.Omitted)):
        return lambda a, dtype=None: np.zeros_like(a)
    return lambda a, dtype=None: np.zeros(a.shape, dtype)


@_maker(np.ones_like)
def ones_like(a, dtype=None):
    """np.ones_like."""


@overload(ones_like)
def _ones_like(a, dtype=None):
    if not isinstance(a, types.Array):
        return None
    return lambda a, dtype=None: full_like(a, 1, dtype)


@_maker(np.full_like)
def full_like(a, fill_value, dtype=None):
    """np.full_like."""


@overload(full_like)
def _full_like(a, fill_value, dtype=None):
    if not isinstance(a, types.Array):
        return None

    def filled(a, fill_value, dtype=None):
        out = zeros_like(a, dtype)
        out[...] = fill_value
        return out

    return filled


@_maker(np.copy)
@_maker(np.ascontiguousarray)
def copy(a):
    """np.copy."""


@overload(copy)
def _copy(a):
    if not isinstance(a, types.Array):
        return lambda a: array(a)
    if not _float(a.dtype):
        return lambda a: a.copy()

    def copied(a):
        out = zeros_like(a)
        out[...] = a
        return out

    return copied


@_maker(np.asarray)
@_maker(np.array)
def array(object, dtype=None):
    """np.array of numbers in a list or tuple, or in lists of equal length; np.asarray of an array is that array."""


@overload(array)
def _array(object, dtype=None):
    if isinstance(object, types.Array):
        return (lambda object, dtype=None: copy(object)) if _of_floats(object) else None
    if not isinstance(object, (types.List, types.UniTuple, types.Tuple)):
        return None
    parts = list(object) if isinstance(object, types.BaseTuple) else [object.dtype]
    if parts and all(map(_number, parts)):
        if not _floats(dtype, default=any(map(_float, parts))):
            return lambda object, dtype=None: np.array(object)
        if isinstance(object, types.Tuple):  # of different kinds of numbers
            return lambda object, dtype=None: array(_alike(object))

        def row(object, dtype=None):
            out = _traced(np.zeros(len(object), ELEMENT))
            for k in range(len(object)):
                out[k] = object[k]
            return out

        return row
    inner = {part.dtype for part in parts if isinstance(part, (types.List, types.UniTuple))}
    if len(inner) == 1 and all(isinstance(part, (types.List, types.UniTuple)) for part in parts) and (
            _float(next(iter(inner))) and len(set(parts)) == 1):

        def rows(object, dtype=None):
            out = _traced(np.zeros((len(object), len(object[0])), ELEMENT))
            for k in range(len(object)):
                if len(object[k]) != out.shape[1]:
                    raise ValueError("np.array of lists of different lengths")
                for j in range(out.shape[1]):
                    out[k, j] = object[k][j]
            return out

        return rows
    return None


@intrinsic
def _alike(typingctx: Any, x: Any) -> Any:
    """A tuple of numbers as one of traced floats."""
    result = types.UniTuple(traced_float, len(x))
    return signature(result, x), lambda context, builder, sig, args: context.cast(builder, args[0], x, result)
