"""What only moves elements: views, rolls, repeats, gathers.  None of it makes a statement; ids are rearranged.

Arrays are put together in `joining`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .array import (
    TracedArray,
    compact,
    ids_of,
    is_boolean,
    is_traced,
    moved_later,
    ndim_of,
    of_ids,
    plain,
    rearranged,
    shape_of,
)
from .boxes import cut, join, merge
from .indexing import decided, gather, into, plain_index
from .joining import concatenate
from .layout import copied, inside, laid, pieces_of
from .reductions import axes_of, axis_of, traced_array
from .rolling import block_rolled
from .scalar import TracedCount
from .ufuncs import recorder_of
from .wholes import whole, written

_asarray = np.asarray  # NumPy's own, whatever is substituted meanwhile
SMALL = 64  # a copy this small takes explicit ids, a larger irregular one fresh nodes by COPY (affine operands)


def viewer(function: Callable[..., Any]) -> Callable[..., Any]:
    """A NumPy function that returns a view of its first argument."""

    def view(x: Any, *args: Any, **kwargs: Any) -> TracedArray:
        x = traced_array(x)
        seen = function(x.window, *args, **kwargs)
        if seen is x.window:
            return x
        return TracedArray(x.st, seen if isinstance(seen, np.ndarray) else x.window)  # a number, of no axes

    return view


def copy(x: Any, order: str = "K", subok: bool = False) -> Any:
    """An array of its own with the same nodes."""
    x = traced_array(x)
    return copied(x, np.array(x.nd, order=order))


def reshape(x: Any, *shape: Any, order: str = "C", **kwargs: Any) -> Any:
    x = traced_array(x)
    shape = kwargs.pop("newshape", kwargs.pop("shape", shape))
    if isinstance(shape, tuple) and len(shape) == 1:
        shape = shape[0]
    if order in ("F", "A") and not (order == "A" and x.window.flags.c_contiguous):
        if order == "F" or x.window.flags.f_contiguous:
            shape = np.empty(x.shape).reshape(shape).shape
            return reshape(x.T, shape[::-1]).T
    values = x.window.reshape(shape)
    if not values.size or inside(values, x.st):
        return TracedArray(x.st, values)
    values = x.nd.reshape(shape)  # a copy, which must be one of the values
    return _regular(x, values, lambda ids: ids.reshape(shape))


def reshaped(x: Any, /, *shape: Any, order: str = "C", **kwargs: Any) -> Any:
    """np.reshape, where the order may come after the shape."""
    shape, *orders = shape or (kwargs.pop("newshape", kwargs.pop("shape", None)),)
    return reshape(x, shape, order=orders[0] if orders else order, **kwargs)


def ravel(x: Any, order: str = "C") -> Any:
    """A view where NumPy takes one, which is rarer than for reshape: of elements without gaps, in this order."""
    x = traced_array(x)
    values = x.nd.ravel(order)
    if not values.size or inside(values, x.st):
        return TracedArray(x.st, values)
    if order == "K":
        return of_ids(x.rec, values, ids_of(x).ravel("K"), x.st.boolean)
    flat = reshape(x, -1, order=order)
    return copy(flat) if flat.st is x.st else flat


def flatten(x: Any, order: str = "C") -> Any:
    x = traced_array(x)
    flat = ravel(x, order)
    return copy(flat) if flat.st is x.st else flat


def _regular(x: TracedArray, values: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> TracedArray:
    """A reshape that must copy: small with gathered ids, large through fresh nodes, so that operands stay affine."""
    if x.size <= SMALL:
        return of_ids(x.rec, values, function(ids_of(x)), x.st.boolean)
    y = compact(x)
    return TracedArray(y.st, function(y.nd))


def moved(x: TracedArray, function: Callable[[np.ndarray], np.ndarray]) -> TracedArray:
    """Any function that only moves elements, applied to values and ids alike."""
    return of_ids(x.rec, function(x.nd), function(np.ascontiguousarray(ids_of(x))), x.st.boolean)


# -- inserting, deleting, splitting -----------------------------------------------------------------------------


def delete(x: Any, index: Any, axis: int | None = None) -> Any:
    index = decided(index) if is_boolean(index) and is_traced(index) else _places(index)
    if not is_traced(x):
        return np.delete(x, index, axis)
    x = traced_array(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axis_of(axis, x.ndim)
    kept = np.delete(np.arange(x.shape[axis]), index)
    result = take(x, kept, axis)
    return laid(result, np.delete(x.nd, index, axis)) if result.ndim > 1 else result  # as NumPy's lies in memory


def insert(x: Any, index: Any, values: Any, axis: int | None = None) -> Any:
    x = traced_array(x) if is_traced(x) else np.asarray(x)
    if axis is None:
        x, axis = np.reshape(x, -1), 0
    axis = axis_of(axis, x.ndim)
    n = x.shape[axis]
    index = np.arange(*index.indices(n)) if isinstance(index, slice) else np.asarray(index)
    index = index if index.size else index.astype(int)
    if index.size == 1 and index.dtype.kind in "iu":  # all the values come before one element
        values = np.asarray(values) if not is_traced(values) and not isinstance(values, (list, tuple)) else values
        values = recorder_of((x, values)).array_of(values) if isinstance(values, (list, tuple)) else values
        values = np.reshape(values, (1,) * (x.ndim - ndim_of(values)) + shape_of(values))
        if not index.ndim:
            values = np.moveaxis(values, 0, axis)
        index = np.repeat(index, shape_of(values)[axis])
    order = np.insert(np.arange(n), index, -1 - np.arange(index.size) if index.dtype.kind in "iu" else -1)
    places = np.where(order < 0, 0, order)
    dtype = x.dtype
    if not is_traced(x) and dtype.kind in "iub" and is_traced(values):  # cut to whole numbers as NumPy does
        values, result = written(values, dtype), np.zeros((*x.shape[:axis], len(order), *x.shape[axis + 1:]), dtype)
        if n:
            result[...] = np.take(x, places, axis)
    elif not n:  # nothing to begin with
        shape = list(x.shape)
        shape[axis] = len(order)
        result = recorder_of((x, values)).array_of(np.zeros(shape))
    else:
        result = take(x, places, axis) if is_traced(x) else recorder_of([values]).array_of(np.take(x, places, axis))
    new = np.flatnonzero(order < 0)
    new = new[np.argsort(-order[new], kind="stable")]  # NumPy takes the values in the order of the indices
    together = len(new) > 0 and bool((np.diff(new) == 1).all())
    result[(slice(None),) * axis + (slice(new[0], new[-1] + 1) if together else new,)] = values
    return result


def split(x: Any, sections: Any, axis: int = 0) -> list[Any]:
    n, sections = shape_of(x)[axis], _places(sections)
    if isinstance(sections, (int, np.integer)) and n % sections:
        raise ValueError("array split does not result in an equal division")
    return array_split(x, sections, axis)


def array_split(x: Any, sections: Any, axis: int = 0) -> list[Any]:
    x = traced_array(x)
    return [TracedArray(x.st, part) for part in np.array_split(x.window, _places(sections), axis)]


def _places(index: Any) -> Any:
    """Counts, np.sum(x > 0), that say where: decided."""
    if not is_traced(index):
        return index
    places = whole(index)
    if index.dtype != bool and np.any(places != plain(index)):
        raise TypeError("slice indices must be integers or None or have an __index__ method")
    return places


def _along(name: str, least: int, axis: int) -> Callable[..., Any]:
    """np.vsplit and its kin: a split along one axis of arrays that have at least so many."""

    def call(x: Any, sections: Any) -> list[Any]:
        if ndim_of(x) < least:
            raise ValueError(f"{name} only works on arrays of {least} or more dimensions")
        return split(x, sections, min(axis, ndim_of(x) - 1))

    return call


def broadcast_arrays(*arrays: Any, subok: bool = False) -> list[Any]:
    shape = np.broadcast_shapes(*map(np.shape, arrays))
    return [np.broadcast_to(x, shape) for x in arrays]


def meshgrid(*arrays: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> list[Any]:
    ndim = len(arrays)
    grids = [np.reshape(x, (1,) * k + (-1,) + (1,) * (ndim - k - 1)) for k, x in enumerate(arrays)]
    if indexing == "xy" and ndim > 1:
        grids = [np.swapaxes(x, 0, 1) for x in grids]
    if not sparse:
        grids = broadcast_arrays(*grids)
    return [x.copy() for x in grids] if copy else grids


# -- shifting and repeating ---------------------------------------------------------------------------------------


def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Cyclic shift: the pieces on both sides of the cut change places."""
    x, shift = traced_array(x), _whole(shift)
    if type(shift) is int and (type(axis) is int or x.ndim == 1):
        rolled = block_rolled(x, shift, 0 if axis is None else axis)
        if rolled is not None:
            return rolled
    if axis is None and x.ndim != 1:
        return reshape(roll(reshape(x, -1), shift, 0), x.shape)
    axis = 0 if axis is None else axis
    pieces, shape = pieces_of(x), x.shape
    if isinstance(shift, int) and isinstance(axis, int):
        shifts = [(shift, axis)]
    else:
        shifts = [(int(by), int(k)) for by, k in np.broadcast(shift, axis)]
    if not all(-x.ndim <= k < x.ndim for _, k in shifts):
        np.roll(x.window, shift, axis)  # raises
    for by, k in shifts:
        k %= x.ndim
        n = shape[k]
        at = -by % n if n else 0
        if at:
            single = len(pieces) == 1
            pieces, _ = join([cut(pieces, shape, k, range(at, n)), cut(pieces, shape, k, range(at))], k)
            if not single:  # what was cut before may come together again
                pieces = merge(pieces, k)
    later = moved_later(x.rec, shape, pieces, x.st.boolean) if x.window.flags.c_contiguous else None
    return rearranged(x.rec, np.roll(x.nd, shift, axis), pieces, x.st.boolean) if later is None else later


def tile(x: Any, reps: Any) -> Any:
    x = traced_array(x)
    reps = tuple(np.atleast_1d(_whole(reps)).tolist())
    if min(reps, default=0) < 0:
        raise ValueError("negative dimensions are not allowed")
    x = np.reshape(x, (1,) * max(0, len(reps) - x.ndim) + x.shape)
    reps = (1,) * (x.ndim - len(reps)) + reps
    for axis, times in enumerate(reps):
        x = (
            x[(slice(None),) * axis + (slice(0),)]
            if times == 0
            else concatenate([x] * times, axis)
            if times > 1
            else x
        )
    return copy(x)


def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    if not is_traced(x):
        return np.repeat(x, _places(repeats), axis)
    x = traced_array(x)
    if axis is None or not x.ndim:
        x, axis = x.reshape(-1), axes_of(axis or 0, 1)[0]
    axis = axis_of(axis, x.ndim)
    return take(x, np.repeat(np.arange(x.shape[axis]), _places(repeats)), axis)


def _whole(x: Any) -> Any:
    """How far: a count decides."""
    return int(x) if isinstance(x, TracedCount) else x


# -- gathering --------------------------------------------------------------------------------------------------


def take(x: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    indices = _asarray(_places(indices))
    if not is_traced(x):
        return np.take(x, indices, axis, out, mode)
    x = traced_array(x)
    if axis is None or not x.window.ndim:  # of no axes: as of one
        x, axis = x if x.window.ndim == 1 else x.reshape(-1), axes_of(axis or 0, 1)[0]
    axis = axis_of(axis, x.ndim)
    if mode != "raise":
        indices = indices % x.shape[axis] if mode == "wrap" else np.clip(indices, 0, x.shape[axis] - 1)
    if x.window.ndim == indices.ndim == 1:
        return into(out, gather(x, indices))
    before = (slice(None),) * axis
    if indices.ndim:
        return into(out, gather(x, (*before, indices), "C"))
    result = x[(*before, int(indices))]
    return into(out, copy(result, "C") if type(result) is TracedArray else result)


def take_along_axis(x: Any, indices: Any, axis: int | None) -> Any:
    if axis is None:
        x, axis = np.reshape(x, -1), 0
    indices = _asarray(_places(indices))
    if not is_traced(x):
        return np.take_along_axis(x, indices, axis)
    return moved(x, lambda values: np.take_along_axis(values, indices, axis))


def compress(condition: Any, x: Any, axis: int | None = None, out: Any = None) -> Any:
    if is_traced(condition):
        condition = decided(condition)
    if not is_traced(x):
        return np.compress(condition, x, axis, out)
    return into(out, take(x, np.flatnonzero(condition), axis))


def _triangle(x: Any, keep: Callable[..., np.ndarray], k: int) -> Any:
    x = traced_array(x)
    mask = keep(np.ones(x.shape, dtype=bool), k)
    ids = np.where(mask, ids_of(x), -1)
    return of_ids(x.rec, np.where(mask, x.nd, 0.0), ids, x.st.boolean)


def diag(x: Any, k: int = 0) -> Any:
    x = traced_array(x)
    if x.ndim == 2:
        return np.diagonal(x, k)
    if x.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    n = len(x) + abs(k)
    result = x.rec.array_of(np.zeros((n, n)))
    rows = np.arange(len(x))
    result[rows + max(-k, 0), rows + max(k, 0)] = x
    return np.not_equal(result, 0.0) if x.st.boolean else result


def fftshift(x: Any, axes: Any = None) -> Any:
    """The zero frequency to the middle: a roll by half of each axis."""
    axes = tuple(range(ndim_of(x))) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    return roll(x, [shape_of(x)[k] // 2 for k in axes], axes)


def ifftshift(x: Any, axes: Any = None) -> Any:
    axes = tuple(range(ndim_of(x))) if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    return roll(x, [-(shape_of(x)[k] // 2) for k in axes], axes)


def open_mesh(*arrays: Any) -> tuple[np.ndarray, ...]:
    if any(ndim_of(x) != 1 for x in arrays):
        raise ValueError("Cross index must be 1 dimensional")
    return np.ix_(*(plain_index(recorder_of(arrays), x) for x in arrays))


def _joined(x: Any) -> Any:
    """Nested lists of traced values as an array."""
    return np.stack([_joined(part) for part in x]) if isinstance(x, (list, tuple)) else x


def view(x: TracedArray, dtype: Any = None, kind: Any = None) -> TracedArray:
    if kind is not None or dtype is not None and not (isinstance(dtype, type) and issubclass(dtype, np.ndarray)) and (
            np.dtype(dtype) != x.dtype):
        x.rec.unsupported("numpy.ndarray.view as another type", "it reads the bytes of floats as something else")
    return TracedArray(x.st, x.window.view())


def _at_least(ndim: int) -> Callable[..., Any]:
    function = getattr(np, f"atleast_{ndim}d")

    def view(*arrays: Any) -> Any:
        results = [viewer(function)(x) if is_traced(x) else function(x) for x in arrays]
        return results[0] if len(results) == 1 else results

    return view


def _of_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is a method's: of a number what has no axes is a number."""
    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(x, *args, **kwargs)
        number = type(x) is not TracedArray and type(result) is TracedArray and not result.ndim
        return result.scalar() if number else result

    return call


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    **{
        function: viewer(function)
        for function in (
            np.transpose,
            np.swapaxes,
            np.moveaxis,
            np.rollaxis,
            np.expand_dims,
            np.broadcast_to,
            np.flip,
            np.flipud,
            np.fliplr,
            np.rot90,
            np.diagonal,
            np.real,
            sliding_window_view,
        )
    },
    np.reshape: _of_numbers(reshaped),
    np.squeeze: _of_numbers(viewer(np.squeeze)),
    np.ravel: ravel,
    np.copy: copy,
    np.delete: delete,
    np.insert: insert,
    np.split: split,
    np.array_split: array_split,
    np.vsplit: _along("vsplit", 2, 0),
    np.hsplit: _along("hsplit", 1, 1),
    np.dsplit: _along("dsplit", 3, 2),
    np.broadcast_arrays: broadcast_arrays,
    np.ix_: open_mesh,
    np.fft.fftshift: fftshift,
    np.fft.ifftshift: ifftshift,
    np.meshgrid: meshgrid,
    np.roll: roll,
    np.tile: tile,
    np.repeat: repeat,
    np.take: take,
    np.take_along_axis: take_along_axis,
    np.compress: compress,
    np.tril: lambda x, k=0: _triangle(x, np.tril, k),
    np.triu: lambda x, k=0: _triangle(x, np.triu, k),
    np.diag: diag,
    np.diagflat: lambda v, k=0: diag(np.ravel(_joined(v)), k),
    np.atleast_1d: _at_least(1),
    np.atleast_2d: _at_least(2),
    np.atleast_3d: _at_least(3),
}
for _name, _function in {"unstack": lambda x, /, *, axis=0: tuple(np.moveaxis(x, axis, 0)),
                         "astype": lambda x, dtype, /, *, copy=True, **kwargs: x.astype(dtype, copy=copy)}.items():
    if hasattr(np, _name):  # of NumPy 2
        FUNCTIONS[getattr(np, _name)] = _function

METHODS: dict[str, Callable[..., Any]] = {
    "view": view,
    "reshape": reshape,
    "ravel": ravel,
    "flatten": flatten,
    "copy": lambda x, order="C": copy(x, order),
    "take": take,
    "repeat": repeat,
    "swapaxes": FUNCTIONS[np.swapaxes],
    "squeeze": FUNCTIONS[np.squeeze],
    "diagonal": FUNCTIONS[np.diagonal],
    "transpose": lambda x, *axes: TracedArray(x.st, x.window.transpose(*axes)),
    "compress": lambda x, condition, axis=None, out=None: compress(condition, x, axis, out),
}
