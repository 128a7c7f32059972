"""What a rank reads of a block: an interval of rows where operands are affine, else nodes one by one."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..tape import Affine, Indexed
from .layout import Layout, Pieces, resolve
from .plan import Plan
from .reach import nearest_turns

DENSE = 8  # nodes that a range has for each that is named, up to which these are flagged in it


class Interval(NamedTuple):
    """Rows low[r] <= c < high[r] of a block that rank r reads, and the nodes a row."""

    low: np.ndarray
    high: np.ndarray
    nodes: int
    reach: np.ndarray | None = None  # [reader, owner], None if everyone reads only their own
    beyond: int = 0  # the most rows outside of a reader's own
    which: object = None  # nodes of a row: equal ones are the same


def rows_read(ref: Affine, shape: tuple[int, ...], layout: Layout | None, parts: Pieces,
              active: np.ndarray) -> Interval | None:
    """The rows of a block laid out so that each rank reads by an operand; None where that takes explicit ids.

    parts: what each rank computes of the iteration space `shape`.  active: the ranks that compute any.
    """
    found = resolve(ref, shape, layout) if layout is not None else None
    if found is None:
        return None
    assert layout is not None
    low = np.zeros(len(active), dtype=np.int64)
    high = low.copy()
    base, top, nodes = found.start[1], found.start[1] + 1, 1
    for k, (extent, (_, step, _)) in enumerate(zip(shape, found.steps)):
        if step == 0:
            if ref.strides[k]:
                nodes *= extent if k != parts.axis else int((parts.stop - parts.start).max())
        elif k == parts.axis:
            first, last = step * parts.start, step * (parts.stop - 1)
            low, high = np.minimum(first, last), np.maximum(first, last)
        elif step > 0:
            top += step * (extent - 1)
        else:
            base += step * (extent - 1)
    low, high = low + base, high + top
    if found.flat:
        low, high, nodes = low // layout.inner, -(-high // layout.inner), layout.inner
    low, high = np.where(active, low, 0), np.where(active, high, 0)
    reach = _reach(layout.cuts, low, high, active)
    beyond = _beyond(layout, low, high) if reach is not None else 0
    return Interval(low, high, min(nodes, layout.row), reach, beyond, (ref.offset, ref.strides, shape))


def _beyond(layout: Layout, low: np.ndarray, high: np.ndarray) -> int:
    """The most rows that a rank reads outside of its own."""
    own_low, own_high = layout.cuts[:-1], layout.cuts[1:]
    turn = nearest_turns(low, high, own_low, own_high, layout.n)
    beyond = np.maximum(own_low - low - turn, high + turn - own_high)
    return int(beyond[high > low].max(initial=0))


def _reach(cuts: np.ndarray, low: np.ndarray, high: np.ndarray, active: np.ndarray) -> np.ndarray | None:
    """[reader, owner]: who reads whose rows; None if everyone reads only their own."""
    if ((low >= cuts[:-1]) & (high <= cuts[1:]))[active].all():
        return None
    ranks = np.arange(len(active))
    first = np.searchsorted(cuts, low, side="right") - 1
    last = np.searchsorted(cuts, high - 1, side="right") - 1
    return (ranks >= first[:, None]) & (ranks <= last[:, None]) & (cuts[1:] > cuts[:-1]) & active[:, None]


def volume(reads: list[Interval], layout: Layout) -> np.ndarray:
    """Values from every rank to every rank, (source, target): the reads of a block united.

    Reads that touch a rank's own rows (or follow one on another) become one interval; far ones are counted
    one by one.
    """
    cuts = layout.cuts
    if layout.n == 1:  # a whole on one rank, of which others read this and that
        different = {read.which: np.where(read.high > read.low, read.nodes, 0) for read in reads}
        each = np.minimum(np.sum(list(different.values()), axis=0), layout.row)
        total = np.where((np.diff(cuts) > 0)[:, None], each, 0)
        np.fill_diagonal(total, 0)
        return total
    empty = cuts[:-1] == cuts[1:]
    low, high = np.where(empty, np.iinfo(np.int64).max, cuts[:-1]), np.where(empty, -1, cuts[1:])
    nodes = 0
    far: dict[bytes, Interval] = {}
    for read in sorted(reads, key=lambda r: int((r.high - r.low).max()), reverse=True):
        touches = (read.high > read.low) & ((high < low) | (read.low <= high) & (read.high >= low))
        low = np.where(touches, np.minimum(low, read.low), low)
        high = np.where(touches, np.maximum(high, read.high), high)
        nodes = max(nodes, read.nodes)
        rest = Interval(np.where(touches, 0, read.low), np.where(touches, 0, read.high), read.nodes)
        if (rest.high > rest.low).any():
            far[rest.low.tobytes() + rest.high.tobytes()] = rest
    total = _overlap(low, high, cuts) * nodes
    for rest in far.values():
        total += _overlap(rest.low, rest.high, cuts) * rest.nodes
    total = np.minimum(total, (np.diff(cuts) * layout.row)[:, None])
    np.fill_diagonal(total, 0)
    return total


def _overlap(low: np.ndarray, high: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    return np.maximum(np.minimum(high, cuts[1:, None]) - np.maximum(low, cuts[:-1, None]), 0)


def distinct_ids(plan: Plan, ref: Affine | Indexed, shape: tuple[int, ...], axis: int,
                 box: tuple[int, tuple[int, ...]]) -> np.ndarray:
    """The node ids a box of the iteration space reads, each once or nearly so."""
    start, part = box
    if isinstance(ref, Indexed):
        ids = ref.ids
        if axis >= 0:
            ids = ids[(slice(None),) * axis + (slice(start, start + part[axis]),)]
        return _ascending(ids)
    part = tuple(n if s or not n else 1 for n, s in zip(part, ref.strides))
    moved = ref if axis < 0 else ref._replace(offset=ref.offset + start * ref.strides[axis])
    return np.ravel(moved.ids(plan.blocks[ref.block].first, part))


def _ascending(ids: np.ndarray) -> np.ndarray:
    """`np.unique(ids)`: by flags where they are dense, which takes a tenth of sorting them."""
    if not ids.size:
        return ids.ravel()
    low, high = int(ids.min()), int(ids.max())
    if high - low > DENSE * ids.size:
        return np.unique(ids)
    there = np.zeros(high - low + 1, dtype=bool)
    there[ids.ravel() - low] = True
    return (np.flatnonzero(there) + low).astype(ids.dtype, copy=False)


__all__ = ["Interval", "distinct_ids", "rows_read", "volume"]
