"""Arrays put together: concatenate, stack and their kin.  No statements; an array knows its nodes piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ..tape import Affine, Const
from .array import TracedArray, is_boolean, is_traced, ndim_of, rearranged, shape_of
from .boxes import Index, Piece, join, merge, whole
from .indexing import into
from .layout import pieces_of
from .reductions import traced_array
from .ufuncs import number, recorder_of, require_floats

_concatenate = np.concatenate  # NumPy's own, whatever is substituted meanwhile


def _part(rec: Any, x: Any) -> tuple[np.ndarray, list[Piece]]:
    """(values, pieces) of a traced or constant array."""
    if is_traced(x):
        x = traced_array(x)
        return x.nd, pieces_of(x)
    x = np.asarray(x)
    ref = Const(float(x.reshape(-1)[0]) if x.size == 1 else rec.snapshot(x)) if x.size else None
    return x, whole(x.shape, ref) if ref is not None else []


def concatenate(
    arrays: Sequence[Any], axis: int | None = 0, out: Any = None, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    arrays = list(arrays)
    if out is dtype is None and _alike(arrays) and type(axis) is int:
        return _one_after_another(arrays, axis)
    rec = recorder_of(arrays)
    arrays = [number(rec, x, "concatenate") for x in arrays]
    if axis is None:
        arrays, axis = [np.ravel(x) for x in arrays], 0
    boolean = all(map(is_boolean, arrays))
    require_floats(arrays, "numpy.concatenate", dtype, boolean)
    parts = [_part(rec, x) for x in arrays]
    values = np.concatenate([np.asarray(v, dtype=float) for v, _ in parts], axis=axis)
    axis %= values.ndim
    pieces, _ = join([(p, v.shape) for v, p in parts], axis)
    result = rearranged(rec, values, pieces if len(pieces) < 2 else merge(pieces, axis), boolean)
    return into(out, result)


def _one_after_another(arrays: list[Any], axis: int) -> TracedArray:
    """Traced arrays of floats in C order: the usual case, with no more work than that takes."""
    values = _concatenate([x.nd for x in arrays], axis)
    axis %= values.ndim
    pieces, start, last, again = [], 0, -1, False
    for x in arrays:
        st, window = x.st, x.window
        st.need()  # its ids go where its values may not outlive it
        lowered = st.lower(window, window.shape, x.at)
        if type(lowered) is Affine:
            again = again or lowered.block == last
            last = lowered.block
        else:
            again = True
        if type(lowered) is list:
            pieces += join([([], (start,) * window.ndim), (lowered, window.shape)], axis)[0]
        else:
            pieces.append(Piece(*_box(window.shape, axis, start), lowered))
        start += window.shape[axis]
    return rearranged(arrays[0].st.rec, values, merge(pieces, axis) if again else pieces)


@lru_cache(maxsize=4096)
def _box(shape: Index, axis: int, start: int) -> tuple[Index, Index]:
    """The corners of an array that comes after others, which are so long along an axis."""
    return tuple([start if k == axis else 0 for k in range(len(shape))]), tuple(
        [n + start if k == axis else n for k, n in enumerate(shape)])


def _alike(arrays: list[Any]) -> bool:
    """Whether these are arrays of floats, in C order and of one trace."""
    rec = arrays[0].st.rec if arrays and type(arrays[0]) is TracedArray else None
    if rec is None or not rec.open:
        return False
    for x in arrays:
        if type(x) is not TracedArray or x.st.rec is not rec or x.st.boolean:
            return False
        window = x.window
        if not window.size or not window.ndim or window is not x.st.buffer and not window.flags.c_contiguous:
            return False
    return True


def stack(arrays: Sequence[Any], axis: int = 0, out: Any = None, **kwargs: Any) -> Any:
    arrays = list(arrays)
    if out is None and not kwargs and type(axis) is int and _alike(arrays):
        shape = arrays[0].window.shape
        at = axis if axis >= 0 else axis + len(shape) + 1
        if 0 <= at <= len(shape) and all([x.window.shape == shape for x in arrays]):
            index = (slice(None),) * at + (None,)
            return _one_after_another([TracedArray(x.st, x.window[index], x.at) for x in arrays], at)
    if len({shape_of(x) for x in arrays}) > 1:
        raise ValueError("all input arrays must have the same shape")
    parts = [np.expand_dims(x, axis if axis >= 0 else axis + ndim_of(x) + 1) for x in arrays]
    return concatenate(parts, axis, out, **kwargs)


def vstack(arrays: Sequence[Any], **kwargs: Any) -> Any:
    arrays = list(arrays)
    if not kwargs and _alike(arrays) and all([x.window.ndim == 1 for x in arrays]):
        return stack(arrays)
    return concatenate([np.atleast_2d(x) for x in arrays], 0, **kwargs)


def hstack(arrays: Sequence[Any], **kwargs: Any) -> Any:
    parts = [x if ndim_of(x) else np.atleast_1d(x) for x in arrays]
    return concatenate(parts, 0 if ndim_of(parts[0]) == 1 else 1, **kwargs)


def dstack(arrays: Sequence[Any]) -> Any:
    return concatenate([np.atleast_3d(x) for x in arrays], 2)


def column_stack(arrays: Sequence[Any]) -> Any:
    return concatenate([np.reshape(x, (-1, 1)) if ndim_of(x) < 2 else x for x in arrays], 1)


def block(arrays: Any) -> Any:
    def depth(x: Any) -> int:
        return 1 + depth(x[0]) if isinstance(x, list) else 0

    levels = depth(arrays)

    def largest(x: Any) -> int:
        return max(map(largest, x)) if isinstance(x, list) else ndim_of(x)

    ndim = max(levels, largest(arrays))

    def build(x: Any, level: int) -> Any:
        if isinstance(x, list):
            return np.concatenate([build(part, level + 1) for part in x], axis=level - levels)
        return np.reshape(x, (1,) * (ndim - ndim_of(x)) + shape_of(x))

    return build(arrays, 0) if levels else np.copy(build(arrays, 0))


def append(x: Any, values: Any, axis: int | None = None) -> Any:
    if axis is None:
        if ndim_of(x) == ndim_of(values) == 1:
            return concatenate([x, values])
        return np.concatenate([np.ravel(x), np.ravel(values)])
    return np.concatenate([x, values], axis=axis)


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.concatenate: concatenate,
    np.stack: stack,
    np.vstack: vstack,
    np.hstack: hstack,
    np.dstack: dstack,
    np.column_stack: column_stack,
    np.block: block,
    np.append: append,
}
if "row_stack" in vars(np):  # gone in NumPy 2
    FUNCTIONS.setdefault(vars(np)["row_stack"], vstack)
