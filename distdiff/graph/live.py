"""Live width: how many values cross a cut of the trace.

A cut at p separates the nodes below p from the others.  It is crossed by the nodes below p that a node from p on reads;
an input, which can be loaded on either side, crosses only if both sides read it.  Where few values cross, the trace can
be given to two ranks one after the other, or a stretch of it be eliminated to a small transfer matrix.

Blocks of arrays are units (what several readers touch is taken to be disjoint up to the block's size, so the width is
an upper bound); scalar lines are taken one by one, and a tape of scalar lines has its width exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..kernels.structure import last_readers, spans
from ..tape import HeldRun, ScalarRun, id_type
from .reads import ARITY, MERGED, Reads, Touch

NEAR = 0.2  # of the way from the middle of the cuts among which one is looked for to their ends, that is near to it


@dataclass(frozen=True)
class Cut:
    """Nodes below `position` are before the cut; `width` values cross it."""

    position: int
    width: int

    def or_this(self, other: Cut | None, low: int, high: int) -> Cut:
        """The narrower of two cuts, of equals the one nearer to the middle between low and high."""
        if other is None:
            return self
        nearer = abs(2 * other.position - low - high) < abs(2 * self.position - low - high)
        return other if (other.width, not nearer) < (self.width, nearer) else self


class LiveWidth:
    """The live width at every cut of a tape: found between blocks from the reads alone, within a run on demand.

    Of nodes that are read one by one, `begins` and `ends` say where one begins to be alive and where one ends, each
    ascending: 8 bytes a node.  Blocks of arrays make few changes, kept with their places.
    """

    def __init__(self, reads: Reads) -> None:
        self.reads = reads
        soonest, latest = np.full(len(reads.leaf), np.iinfo(np.int64).max), np.full(len(reads.leaf), -1)
        for b in np.flatnonzero(reads.leaf):  # an input that is read in both ways may cross between any two readers
            if reads.touches[b]:
                soonest[b] = min(touch.end for touch in reads.touches[b])
                latest[b] = max(touch.end for touch in reads.touches[b])
        kind = id_type(2 * reads.tape.n_nodes)
        self.begins, self.ends = np.empty((2, len(reads.single)), dtype=kind)
        n = 0
        for part in reads.parts():
            block = reads.block_of(part.ids)
            begin = np.where(reads.leaf[block], np.minimum(part.begin, soonest[block]),
                             np.where(reads.scalar[block], part.ids, reads.last[block]))
            end = np.maximum(part.end, latest[block])
            some = end > begin
            low, n = n, n + np.count_nonzero(some)
            for column, places in ((self.begins, begin), (self.ends, end)):
                column[low:n] = places[some] + 1
        self.begins, self.ends = self.begins[:n], self.ends[:n]
        self.begins.sort(kind="stable")  # of runs they come in order
        self.ends.sort()
        steps = [step for b, touches in enumerate(reads.touches) if touches for step in _block_steps(
            touches, int(reads.last[b]), reads.tape.blocks[b].size, bool(reads.leaf[b]))]
        places, changes = np.array(sorted(steps), dtype=np.int64).reshape(-1, 2).T
        self._places, self._changes = places, changes
        self._width = np.append(np.cumsum(changes), 0)  # -1: before all of them

    @cached_property
    def widest(self) -> int:
        """The largest width of the cuts between blocks, at least."""
        grows = [self._places, *(self.begins[k:k + MERGED] for k in range(0, len(self.begins), MERGED))]
        return max(int(self.between(places).max(initial=0)) for places in grows)

    @property
    def places(self) -> np.ndarray:
        """Where it changes."""
        return np.unique(np.concatenate([self._places, self.begins, self.ends]))

    def between(self, positions: np.ndarray) -> np.ndarray:
        """The width at cuts between blocks (and within blocks of arrays)."""
        kind, blocks = positions.astype(self.begins.dtype), np.searchsorted(self._places, positions, side="right")
        return (np.searchsorted(self.begins, kind, side="right") - np.searchsorted(self.ends, kind, side="right")
                + self._width[blocks - 1])

    def within(self, run: ScalarRun) -> np.ndarray:
        """The width before each of a run's lines."""
        first, n = int(self.reads.first[run.block]), len(run.op)
        last = np.full(n, -1, dtype=np.int64)
        last_readers(run.op, run.a, run.b, ARITY, first, last)
        return widths(last, self.reads.read_of(run.block)[0], *self.around(first, n))

    def around(self, first: int, n: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Of n lines from node `first` on: the width before them, before which of them what lies outside changes it,
        and by how much."""
        places, changes = [], []
        for column, change in ((self.begins, 1), (self.ends, -1), (self._places, self._changes)):
            here = slice(*np.searchsorted(column, np.array([first + 1, first + n], dtype=column.dtype)))
            places.append(column[here].astype(np.int64) - first)
            changes.append(np.broadcast_to(change, column.shape)[here])
        return int(self.between(np.array([first]))[0]), np.concatenate(places), np.concatenate(changes)

    def narrowest(self, low: int, high: int) -> Cut:
        """The cut of least width at low <= p <= high, the one nearest to the middle among equals.

        Cuts inside an array block count only where there is no other.  Of runs that other ranks hold at most one is
        looked at, where no cut between runs that is as narrow as any lies near the middle: the run there, as the steps
        of a loop are alike.
        """
        reads = self.reads
        start, stop = np.searchsorted(reads.first, [low, high + 1])
        found = self.narrowest_between(low, high)
        blocks = range(max(int(start) - 1, 0), int(stop))
        if start < stop and any(isinstance(run, HeldRun) for run in reads.runs.values()):
            if abs(2 * found.position - low - high) <= NEAR * (high - low):
                return found
            middle = int(reads.block_of(np.array([(low + high) // 2]))[0])
            blocks = range(middle, middle + 1)
        for block in blocks:
            if reads.scalar[block]:
                here = nearest_within(int(reads.first[block]), self.within(reads.runs[block]), low, high)
                found = found.or_this(here, low, high)
        return found

    def narrowest_between(self, low: int, high: int) -> Cut:
        """`narrowest` among the cuts between blocks; where there is none the one in the middle, which counts as wider
        than any other if it lies in a run.
        """
        reads = self.reads
        places = reads.first[slice(*np.searchsorted(reads.first, [low, high + 1]))]
        if not len(places):
            middle = np.array([(low + high) // 2])
            if len(reads.first) and reads.scalar[reads.block_of(middle)[0]]:
                return Cut(int(middle[0]), reads.tape.n_nodes)
            places = middle
        return _nearest(places, self.between(places), low, high)


def _nearest(places: np.ndarray, width: np.ndarray, low: int, high: int) -> Cut:
    best = np.flatnonzero(width == width.min())
    best = best[np.argmin(abs(2 * places[best] - low - high))]
    return Cut(int(places[best]), int(width[best]))


def nearest_within(first: int, width: np.ndarray, low: int, high: int) -> Cut | None:
    """The narrowest of the cuts before a run's lines that lie within low, ..., high; width: one a line from `first` on.
    """
    part = slice(max(low - first, 0), max(min(high + 1 - first, len(width)), 0))
    if part.start >= part.stop:
        return None
    return _nearest(first + np.arange(part.start, part.stop), width[part], low, high)


def widths(last: np.ndarray, out: np.ndarray, width: int, places: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """The width before each of a run's lines.

    last: each line's last reader in the run, -1 none (overwritten).  out: lines that others read, which are among the
    places already, where what lies outside changes the width, at first `width`.
    """
    last[out] = -1
    change = np.zeros(len(last) + 1, dtype=np.int64)
    change[0] = width
    spans(last, places, changes, change)
    return np.cumsum(change[:-1])


def _block_steps(touches: list[Touch], last: int, size: int, leaf: bool) -> list[tuple[int, int]]:
    """(place, change of the width there) of one block: what is read later, of inputs also what was read before."""
    readers: dict[object, list[int]] = {}  # by key: nodes, end of the first reader, end of the last
    for touch in touches:
        found = readers.get(touch.key)
        if found is None:
            readers[touch.key] = [touch.nodes, touch.end, touch.end]
        else:
            found[2] = touch.end  # readers come in order
    later = sorted((end, nodes) for nodes, _, end in readers.values())
    first = sorted((begin, nodes) for nodes, begin, _ in readers.values()) if leaf else [(last, size)]
    before, after, width, k, m = 0, sum(nodes for _, nodes in later), 0, 0, 0
    steps = []
    while m < len(later):  # merge the places where reads begin and end
        place = min(first[k][0], later[m][0]) if k < len(first) else later[m][0]
        while k < len(first) and first[k][0] == place:
            before += first[k][1]
            k += 1
        while m < len(later) and later[m][0] == place:
            after -= later[m][1]
            m += 1
        now = min(before, after, size)
        if now != width:
            steps.append((place + 1, now - width))
            width = now
    return steps


__all__ = ["Cut", "LiveWidth", "nearest_within", "widths"]
