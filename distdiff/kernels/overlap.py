"""What can be computed before messages have arrived: planned loops are shared out to two parts, in linear time.

    while messages are on their way   the elements that read nothing arriving, nor what is made of it
    once they are there               all others, in the order in which they were

Boxes of elements are cut along one axis: what a stencil reads of its neighbours lies at a border, so the interior is
one box again.  Memory is reused, so an element also waits where it would overwrite what one that waits still reads.
Each is computed as it would have been, so nothing changes to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .combine import Tables
from .tiles import Bound

WORTH = 15e-6  # seconds that a message is on its way from which on a second call pays (`scripts/bench ranks --tools
# overlap`): it costs some 4 us, of caches above all, and what computes can't be all that a rank would wait for
LEAST = 8192  # elements (of a box one for every term) that make up for a second call
APART = 16  # places that are intervals by themselves
ROOM = 512  # intervals that are kept apart; with more, all waits

Intervals = list[tuple[int, int]]  # lo <= address < hi


class Boxes(NamedTuple):
    """The two parts of a combination's boxes, and the elements in the first."""

    early: Tables
    late: Tables
    elements: int


class Groups(NamedTuple):
    """The two parts of a program that runs tile by tile, and the elements in the first."""

    early: Bound
    late: Bound
    elements: int


def pays(latency: float) -> bool:
    """Whether to compute while messages are on their way for so many seconds."""
    return latency >= WORTH


def boxes(tables: Tables, arriving: Intervals, columns: int = 1) -> Boxes | None:
    """What of the boxes can be computed before these rows of the workspace have come; None if that is not worth it."""
    from . import overlap_loops

    early, late, elements = _shared(overlap_loops.boxes, tables.cells, tables.passes, arriving)
    if elements * columns < LEAST:
        return None
    return Boxes(tables._replace(cells=early), tables._replace(cells=late), elements)


def groups(program: Bound, arriving: Intervals) -> Groups | None:
    """The same of groups of statements, for bytes of memory."""
    from . import overlap_loops

    early, late, elements = _shared(overlap_loops.groups, program.groups, program.code, arriving)
    if elements < LEAST:
        return None
    return Groups(program._replace(groups=early), program._replace(groups=late), elements)


def _shared(loop: Callable[..., tuple[int, int, int]], table: np.ndarray, more: np.ndarray,
            arriving: Intervals) -> tuple[np.ndarray, np.ndarray, int]:
    """The rows of a table in two parts, by the loop that knows which addresses they touch (see `overlap_loops`)."""
    n, columns = table.shape
    early, late = np.empty((n, columns), dtype=np.int64), np.empty((2 * n, columns), dtype=np.int64)
    n_early, n_late, elements = loop(table, more, _table(arriving), early, late, np.empty((2, ROOM, 2), dtype=np.int64))
    return early[:n_early].copy(), late[:n_late].copy(), elements


def intervals(places: slice | np.ndarray) -> Intervals:
    """Intervals that hold the places: each its own where they are few, as the two ends of a rank's part are."""
    if isinstance(places, slice) and places.step in (None, 1):
        return [(places.start, places.stop)]
    found = np.arange(places.start, places.stop, places.step) if isinstance(places, slice) else places.reshape(-1)
    if len(found) > APART:
        return [(int(found.min()), int(found.max()) + 1)]
    return [(place, place + 1) for place in found.tolist()]


def _table(intervals: Intervals) -> np.ndarray:
    return np.array(intervals, dtype=np.int64).reshape(-1, 2)


__all__ = ["Boxes", "Groups", "boxes", "groups", "intervals", "pays"]
