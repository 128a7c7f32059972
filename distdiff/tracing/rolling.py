"""A whole block that rolls: the usual case of np.roll, with no more work than two boxes and two copies take."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..tape import Affine, c_strides
from . import memory
from .array import TracedArray, moved_later
from .boxes import Index, Piece
from .storage import Storage


def block_rolled(x: TracedArray, shift: Any, axis: Any) -> TracedArray | None:
    """A block as a whole, rolled along one axis: the usual case; None: it is another."""
    st, nd = x.st, x.window
    shape = nd.shape
    if st.block < 0 or nd is not st.buffer or type(axis) is not int or not nd.size or not -nd.ndim <= axis < nd.ndim:
        return None
    turn = _turn(shape, shift, axis)
    if turn is None:
        return None
    st.need()  # its nodes go where its values may not outlive it
    rec, block, strides = st.rec, st.block, st.whole.strides
    pieces = [Piece(lo, hi, Affine(block, offset, strides)) for lo, hi, offset, _, _ in turn]
    later = moved_later(rec, shape, pieces, st.boolean) if nd.size >= memory.LARGE else None
    if later is not None:
        return later
    values, source = rec.empty(shape), x.nd
    for _, _, _, there, here in turn:
        values[there] = source[here]
    return TracedArray(Storage(rec, values, pieces, boolean=st.boolean), values, 0)


@lru_cache(maxsize=1024)
def _turn(shape: Index, shift: int, axis: int) -> tuple[Any, ...] | None:
    """Both boxes of a rolled array in C order: corners, offset of the first element, where it lies and lay before; None
    where nothing turns.
    """
    axis %= len(shape)
    n, by = shape[axis], shift % shape[axis]
    if not by:
        return None
    lo, step, before = (0,) * len(shape), c_strides(shape)[axis], (slice(None),) * axis
    return ((lo, (*shape[:axis], by, *shape[axis + 1:]), (n - by) * step,
             (*before, slice(0, by)), (*before, slice(n - by, n))),
            ((*lo[:axis], by, *lo[axis + 1:]), shape, 0, (*before, slice(by, n)), (*before, slice(0, n - by))))


__all__ = ["block_rolled"]
