"""What a rank's part of a statement reads of a block: the rows it spans, and the nodes that others compute.

Rows of a block's cut axis are seen as a ring: a rank puts row c at place c + turn, turn in {-n, 0, n}, so that the last
rows lie right before the first where a program wraps around, and a roll is affine on a rank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..tape import Affine, Vector
from .layout import Layout, Ref, pieces, resolve


class Box(NamedTuple):
    """A rank's part of an iteration space: it begins at `start` along `axis`; its results in the layout's terms."""

    axis: int
    start: int
    shape: tuple[int, ...]
    out: Ref
    turn: int


class Look(NamedTuple):
    """What equal operands over equal parts of arrays laid out alike have in common."""

    ref: Ref
    low: int  # places
    high: int
    turn: int
    away: np.ndarray | None  # nodes of others, counted from the block's first


class Read(NamedTuple):
    """An affine operand over the rank's part: its reference in the layout's terms and the places it spans."""

    ref: Ref
    block: int
    low: int
    high: int
    turn: int


def boxes(item: Vector, layout: Layout, rank: int, span: tuple[int, int] | None = None, only: int = -1) -> list[Box]:
    """A rank's part of a statement's iteration space.

    span: the results at these places of the ring of rows; None: those on the rank's own rows, one box or none.
    only: that rank runs the whole statement.
    """
    if only >= 0:
        return [_box(item, layout, -1, 0, item.shape, 0)] if only == rank else []
    if span is None:
        found = _piece(item, layout, rank)
        return [_box(item, layout, *found, 0)] if found is not None else []
    result = []
    for turn in (-layout.n, 0, layout.n):
        low, high = max(span[0] - turn, 0), min(span[1] - turn, layout.n)
        if low < high:
            found = _piece(item, layout._replace(cuts=np.array([0, low, high, layout.n])), 1)
            if found is not None:
                result.append(_box(item, layout, *found, turn))
    return result


def _piece(item: Vector, layout: Layout, rank: int) -> tuple[int, int, tuple[int, ...]] | None:
    """(axis, start, shape) of the part whose results lie on a rank's rows."""
    parts = pieces(item.out, item.out_shape, layout)
    assert parts is not None, "a block is cut where its statements' parts are no boxes"
    found = parts.box(item.shape, rank)
    return (parts.axis, *found) if found is not None else None


def _box(item: Vector, layout: Layout, axis: int, start: int, shape: tuple[int, ...], turn: int) -> Box:
    kept = tuple(n if s else 1 for n, s in zip((*shape, *item.core_out), item.out.strides))
    out = resolve(moved(item.out, axis, start), kept, layout)
    assert out is not None
    return Box(axis, start, shape, out, turn)


def nearest_turn(low: int, high: int, home_low: int, home_high: int, n: int) -> int:
    """The turn that brings rows low <= c < high nearest to a rank's own rows; none if it has no rows."""
    if low >= home_low and high <= home_high or home_high <= home_low:
        return 0
    best, least = 0, _gap(low, high, home_low, home_high)
    for turn in (-n, n):
        gap = _gap(low + turn, high + turn, home_low, home_high)
        if gap < least:
            best, least = turn, gap
    return best


def _gap(low: int, high: int, home_low: int, home_high: int) -> int:
    """How far rows are from a rank's own; negative: rows in common."""
    common = min(high, home_high) - max(low, home_low)
    return -common if common > 0 else max(low - home_high, home_low - high)


def nearest_turns(low: np.ndarray, high: np.ndarray, home_low: np.ndarray, home_high: np.ndarray,
                  n: int) -> np.ndarray:
    """`nearest_turn` for many ranks."""
    if ((low >= home_low) & (high <= home_high)).all():
        return np.zeros_like(low)
    turns = np.array([[0], [-n], [n]])
    lows, highs = low + turns, high + turns
    common = np.minimum(highs, home_high) - np.maximum(lows, home_low)
    gap = np.where(common > 0, -common, np.maximum(lows - home_high, home_low - highs))
    best = turns[gap.argmin(axis=0), 0]  # of equals the first
    best[home_high <= home_low] = 0
    return best


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


__all__ = ["Box", "Look", "Read", "away", "boxes", "moved", "nearest_turn", "rows_of"]
