"""What a rank's part of a statement reads of a block: the rows it spans, and the nodes that others own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..tape import Affine
from .layout import Layout, Ref


class Box(NamedTuple):
    """The rank's part of an iteration space: it begins at `start` along `axis`; its results in the layout's terms."""

    axis: int
    start: int
    shape: tuple[int, ...]
    out: Ref


class Look(NamedTuple):
    """What equal operands over equal parts of arrays laid out alike have in common."""

    ref: Ref
    low: int
    high: int
    away: np.ndarray | None  # nodes of others, counted from the block's first


class Read(NamedTuple):
    """An affine operand over the rank's part: its reference in the layout's terms and the rows it spans."""

    ref: Ref
    block: int
    low: int
    high: int


def away(ref: Affine, shape: tuple[int, ...], layout: Layout, found: Ref, home_low: int, home_high: int) -> np.ndarray:
    """What the operand reads outside of the rank's own rows, counted from the block's first node.

    Only the places of one axis whose reads leave home are expanded: the border of the rank's part.
    """
    shape = tuple(n if s else 1 for n, s in zip(shape, ref.strides))
    middle = found.middle
    moving = [k for k, step in enumerate(middle) if step and shape[k] > 1]
    if not moving:
        return np.unique(ref.ids(0, shape))
    axis = max(moving, key=lambda k: abs(middle[k]) * (shape[k] - 1))
    low = high = found.start[1]
    for k in moving:
        if k != axis:
            low, high = low + min(0, middle[k]) * (shape[k] - 1), high + max(0, middle[k]) * (shape[k] - 1)
    n, step = shape[axis], middle[axis]
    if step > 0:  # home: k with low + step k >= home_low and high + step k < home_high
        start, stop = -((low - home_low) // step), -((high - home_high) // step)
    else:
        start, stop = (high - home_high) // -step + 1, (low - home_low) // -step + 1
    start, stop = min(max(start, 0), n), min(max(stop, 0), n)
    parts = [np.empty(0, dtype=np.int64)]
    for a, b in [(0, n)] if start >= stop else [(0, start), (stop, n)]:
        if b > a:
            box = shape[:axis] + (b - a,) + shape[axis + 1:]
            parts.append(np.ravel(moved(ref, axis, a).ids(0, box)))
    ids = np.concatenate(parts)
    if len(moving) > 1 or start >= stop:
        unit, rows = (1, layout.n * layout.inner) if found.flat else (layout.inner, layout.n)
        row = ids // unit % rows
        ids = ids[(row < home_low) | (row >= home_high)]
    return np.unique(ids)


def moved(ref: Affine, axis: int, start: int) -> Affine:
    return ref if axis < 0 or not start else Affine(ref.block, ref.offset + start * ref.strides[axis], ref.strides)


def rows_of(low: int, high: int, layout: Layout, flat: bool) -> tuple[int, int]:
    return (low // layout.inner, -(-high // layout.inner)) if flat else (low, high)


__all__ = ["Box", "Look", "Read", "away", "moved", "rows_of"]
