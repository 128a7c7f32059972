"""Reading and writing parts of traced arrays: elements, views, index arrays, masks."""

from __future__ import annotations

from operator import mul
from typing import Any

import numpy as np

from ..ops import BY_NAME, WHERE
from ..tape import Affine, Const, Indexed
from .array import (
    TracedArray,
    elementwise,
    gathered,
    ids_of,
    is_boolean,
    is_traced,
    lower,
    ndim_of,
    of_ids,
    own,
    plain,
    scalar_of,
    shape_of,
    together,
)
from .boxes import whole
from .recorder import Recorder
from .scalar import TracedCount, TracedScalar
from .storage import window
from .usual import chosen

_asarray = np.asarray  # NumPy's own, whatever is substituted meanwhile
_NUMBERS = np.arange(1 << 12)
_PARTS = frozenset((slice, int))
_new = object.__new__


def _place(self: TracedArray, index: Any) -> int:
    """Place in the buffer of the element at an index of plain integers; -1 for any other index."""
    nd = self.window
    if type(index) is int:
        if nd.ndim != 1:
            return -1
        step = (index + nd.shape[0] if index < 0 else index) * nd.strides[0]
    elif type(index) is tuple and len(index) == nd.ndim:
        step = 0
        for i, n, stride in zip(index, nd.shape, nd.strides):
            if type(i) is not int:
                return -1
            step += (i + n if i < 0 else i) * stride
    else:
        return -1
    return self.place + step // 8


def _offset(nd: np.ndarray, index: Any) -> int | None:
    """How many places the first element of nd[index] comes after that of nd, for slices and whole numbers."""
    step = 0
    for i, n, stride in zip(index if type(index) is tuple else (index,), nd.shape, nd.strides):
        if type(i) is slice:
            start = i.start
            if i.step is not None:
                start = i.indices(n)[0]
            elif start is None:
                continue
            elif type(start) is not int:
                start = i.indices(n)[0]
            elif start < 0:
                start = start + n if start + n > 0 else 0
            elif start > n:
                start = n
            step += start * stride
        elif type(i) is int:
            step += (i + n if i < 0 else i) * stride
        else:
            return None
    return step // 8


def _part(self: TracedArray, part: np.ndarray, index: Any) -> TracedArray:
    """The view self[index], `part` its window."""
    offset = _offset(self.window, index)
    x = _new(TracedArray)
    x.st, x.window, x.at = self.st, part, -1 if offset is None else self.place + offset
    return x


def getitem(self: TracedArray, index: Any) -> Any:
    nd, st = self.window, self.st
    kind = type(index)
    if kind is slice or kind is tuple and index and _PARTS.issuperset(map(type, index)) and slice in map(type, index):
        return _part(self, nd[index], index)
    if kind is np.ndarray:
        return gather(self, index)
    place = _place(self, index)
    if place >= 0:
        value = self.nd.item(index)  # raises where the index is out of bounds
        if st.rec.sparing:
            st.need()
        if st.block >= 0:
            node = st.rec.firsts[st.block] + place
        elif st.ids is not None:
            node = int(st.ids[place])
        else:
            node = st.node(place)
        return scalar_of(st.rec, node, value, st.boolean)
    if not _advanced(index):
        part = nd[index]
        if type(part) is np.ndarray:
            return _part(self, part, index)
        part = nd[index + (...,) if type(index) is tuple else (index, ...)]
        return TracedArray(st, part).scalar()
    index = plain_index(st.rec, index)
    return gather(self, index) if _advanced(index) else getitem(self, index)


def setitem(self: TracedArray, index: Any, value: Any) -> None:
    st = self.st
    rec = st.rec
    if st.ids is not None and not st.boolean:
        scalar = isinstance(value, TracedScalar)
        if scalar or type(value) is float:
            place = _place(self, index)
            if place >= 0:
                if scalar:
                    own(rec, value)
                st.protect()
                st._own_ids()
                self.nd[index] = value.v if scalar else value
                st.ids[place] = value.i if scalar else -1
                return
    if not _advanced(index):
        if type(index) is slice:
            target = _part(self, self.window[index], index)
        else:
            if type(index) is not tuple:
                index = (index,)
            part = self.window[index if any(i is Ellipsis for i in index) else (*index, ...)]
            target = _part(self, part, index)
        assign(target, value)
        return
    mask = _single_mask(index)
    if mask is not None and ndim_of(plain(value)) == 0 and mask.shape == self.shape:
        # u[u < 0] = 0 needs no decision: it is a choice element by element
        result = chosen(mask, value, self)
        if result is NotImplemented:
            result = elementwise(rec, WHERE, (mask, value, self))
        if not (type(result) is TracedArray and self.window is st.buffer and st.becomes(result.st)):
            assign(self, result)
        return
    index = plain_index(rec, index)
    if _advanced(index):
        scatter(self, index, value)
    else:
        setitem(self, index, value)


def assign(target: TracedArray, value: Any) -> None:
    """target[...] = value, NumPy's broadcasting and aliasing."""
    st = target.st
    rec = st.rec
    if type(value) is TracedArray and value.window.shape == target.window.shape and value.st.rec is rec and rec.open:
        if value.st is not st:
            if st.boolean is value.st.boolean:
                _write(target, value)
                return
        elif value.window.strides == target.window.strides and value.place == target.place:
            return  # the second half of u[1:-1] += v
    if isinstance(value, (list, tuple)):
        value = rec.array_of(value)
    if not is_traced(value):
        value = _asarray(value)
        if value.dtype.kind not in "fiub":
            value = (
                value.astype(np.float64)
                if value.dtype.kind == "O"
                else rec.unsupported(f"assigning {value.dtype} values", "traced arrays hold real numbers")
            )
    else:
        own(rec, value)
    values = plain(value)
    extra = ndim_of(values) - target.ndim
    if extra > 0 and shape_of(values)[:extra] == (1,) * extra:  # NumPy drops leading axes of length 1
        values = values.reshape(values.shape[extra:])
        value = TracedArray(value.st, values) if type(value) is TracedArray else values
    if st.boolean and not is_boolean(value):
        value = elementwise(rec, BY_NAME["not_equal"], (value, 0.0)) if is_traced(value) else value != 0
        values = plain(value)
    if shape_of(values) != target.shape and together(shape_of(values), target.shape) != target.shape:
        raise ValueError(f"could not broadcast input array from shape {shape_of(values)} into shape {target.shape}")
    if type(value) is TracedArray and value.st is st and target.ndim == 1 and values.strides != target.nd.strides:
        # Where both overlap NumPy's result depends on the order of its writes: the ids are moved by the same code.
        scatter(target, ..., value)
        return
    if type(value) is TracedArray and value.st is st:
        st.need()
    st.assign(target.nd, lower(rec, value, target.shape), values, target.place)
    if type(value) is TracedArray and st.block < 0:
        value.st.need()  # its ids are where its values may not outlive it


def _write(target: TracedArray, value: TracedArray) -> None:
    """target[...] = value, of the same shape and kind, in another storage."""
    st = target.st
    values, view = value.nd, target.nd
    st.assign(view, value.st.lower(values, values.shape, value.at), values, target.place)
    if st.block < 0:
        value.st.need()  # its ids are where its values may not outlive it


def into(out: Any, result: Any, broad: bool = False) -> Any:
    """What a function with `out=` returns: its result, written where that says; without it, a number where that has no
    axes, as NumPy's do.  broad: NumPy's own function broadcasts it, as ufuncs do."""
    if out is None:
        return result.scalar() if type(result) is TracedArray and not result.window.ndim else result
    target = out[0] if isinstance(out, tuple) else out
    if not isinstance(target, np.ndarray):
        raise TypeError("return arrays must be of ArrayType")
    if hasattr(result, "rec") and result.dtype.kind == "c" and target.dtype.kind != "c":
        result.rec.unsupported(f"complex numbers written into an out= of {target.dtype}", "take their real parts")
    if not broad and shape_of(target) != shape_of(result):
        raise ValueError(f"output array has the wrong shape: {shape_of(target)} for a result of {shape_of(result)}")
    target[...] = result
    return target


def positions(view: np.ndarray, index: Any, offset: int) -> np.ndarray:
    """Places in the buffer of view[index], for any index: summed axis by axis, with no more memory than the
    result (or read off a view of all places, where these are few)."""
    if view.size and 0 <= offset < len(_NUMBERS) and offset + sum(map(mul, view.shape, view.strides)) // 8 < len(
            _NUMBERS) and min(view.strides, default=0) >= 0:
        return _asarray(window(_NUMBERS, view.shape, view.strides, offset)[index])
    total: Any = offset
    for axis, (n, stride) in enumerate(zip(view.shape, view.strides)):
        steps = np.arange(n, dtype=np.int64) * (stride // 8)
        steps = steps.reshape((n,) + (1,) * (view.ndim - axis - 1))
        total = total + np.broadcast_to(steps, view.shape)[index]
    return _asarray(total, dtype=np.int64)


def gather(x: TracedArray, index: Any, order: Any = None) -> TracedArray:
    """x[index] with index arrays: a copy (in NumPy's memory order, or `order`), whose ids are gathered likewise."""
    st, view = x.st, x.nd
    st.need()
    places = None
    if type(index) is np.ndarray and index.dtype.char == "?" and index.ndim == 1 and index.shape == view.shape:
        index = index.nonzero()[0]  # numbers, none of them negative, are looked up sooner than a mask
        if view.strides[0] == 8:
            places = index + x.place
    values = _asarray(view[index], order=order)
    if places is None:
        places = positions(view, index, x.place)
    if st.block >= 0:
        ids = places + st.rec.firsts[st.block]
    else:
        ids = (st.explicit() if st.ids is None else st.ids)[places]
    if values.ndim == 1 and values.size and st.rec.open:
        return gathered(st.rec, values, ids, st.boolean)
    result = of_ids(st.rec, values, ids, st.boolean)
    return result.scalar() if values.ndim == 0 else result


def scatter(x: TracedArray, index: Any, value: Any, flat: bool = False) -> None:
    """x[index] = value with index arrays, or x.flat[index] = value; ids move as the values do, also where NumPy's
    result depends on the order of writes."""
    st, nd = x.st, x.nd
    rec = st.rec
    if is_traced(value):
        own(rec, value)
    elif isinstance(value, (list, tuple)):
        value = rec.array_of(value)
    values = plain(value)
    st.protect()
    st.make_explicit()
    offset = x.place
    ids = window(st.ids, nd.shape, nd.strides, offset) if nd.size else np.empty(nd.shape, np.int64)
    if type(value) is TracedArray:
        moved: Any = ids_of(value)
    else:
        moved = value.i if isinstance(value, TracedScalar) else -1
    (nd.flat if flat else nd)[index] = values  # first: what it refuses, f may catch, and go on with what was there
    (ids.flat if flat else ids)[index] = moved


def _advanced(index: Any) -> bool:
    """Whether an index holds index arrays, masks or lists."""
    if type(index) is tuple:
        return any(type(part) is tuple or _advanced(part) for part in index)  # a tuple in a tuple is an array
    return not (index is None or index is Ellipsis or isinstance(index, (int, np.integer, slice))) or isinstance(
        index, (bool, np.bool_)
    )


def _single_mask(index: Any) -> TracedArray | None:
    """The traced mask that is the whole index."""
    if type(index) is tuple and len(index) == 1:
        index = index[0]
    return index if type(index) is TracedArray and index.st.boolean else None


def decided(x: Any) -> np.ndarray:
    """The value of a traced mask, as a decision: the trace is guarded by it."""
    rec = x.rec
    if isinstance(x, TracedScalar):
        return np.bool_(bool(x))
    x.st.need()
    lowered = x.st.lower(x.nd, x.shape, x.at)
    for lo, hi, ref in lowered if type(lowered) is list else whole(x.shape, lowered):
        if type(ref) is not Const:
            rec.guard(
                ref if type(ref) is Affine else Indexed(np.array(ref.ids)), np.array(x.nd[tuple(map(slice, lo, hi))])
            )
    return x.plain_values()


def plain_index(rec: Recorder, index: Any) -> Any:
    """An index whose traced masks and counts are decided."""
    if type(index) is tuple:
        return tuple(plain_index(rec, part) for part in index)
    if isinstance(index, TracedCount):
        return int(index)
    if is_traced(index):
        if not is_boolean(index):
            raise IndexError(
                f"arrays used as indices must be of integer (or boolean) type, and this traced one, at "
                f"{rec.tape.sites[rec.site()]}, holds floats: int(x) decides for a whole number and is guarded, "
                "x.astype(int) for an array of them")
        return decided(index)
    if type(index) is list and any(map(is_traced, index)):
        return [plain_index(rec, part) for part in index]
    return index
