"""Live width: how many values cross a cut of the trace.

A cut at p separates the nodes below p from the others.  It is crossed by the nodes below p that a node from p on reads;
an input, which can be loaded on either side, crosses only if both sides read it.  Where few values cross, the trace can
be given to two ranks one after the other, or a stretch of it be eliminated to a small transfer matrix.

Blocks of arrays are units (what several readers touch is taken to be disjoint up to the block's size, so the width is
an upper bound); scalar lines are taken one by one, and a tape of scalar lines has its width exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.structure import last_readers, spans
from ..tape import HeldRun, ScalarRun
from .reads import ARITY, Reads, Touch


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
    """The live width at every cut of a tape: found between blocks from the reads alone, within a run on demand."""

    def __init__(self, reads: Reads) -> None:
        self.reads = reads
        single = reads.single
        block = reads.block_of(single.ids)
        begin = np.where(reads.leaf[block], single.begin, np.where(reads.scalar[block], single.ids, reads.last[block]))
        end = single.end.copy()
        for b in np.flatnonzero(reads.leaf):
            if reads.touches[b]:  # an input that is read in both ways may cross between any two of its readers
                here = reads.exposed(b)
                begin[here] = np.minimum(begin[here], min(touch.end for touch in reads.touches[b]))
                end[here] = np.maximum(end[here], max(touch.end for touch in reads.touches[b]))
        some = end > begin
        at = [begin[some] + 1, end[some] + 1]
        by = [np.ones(len(at[0]), dtype=np.int64), np.full(len(at[1]), -1, dtype=np.int64)]
        steps = [step for b, touches in enumerate(reads.touches) if touches for step in _block_steps(
            touches, int(reads.last[b]), reads.tape.blocks[b].size, bool(reads.leaf[b]))]
        for column, values in zip((at, by), np.array(steps, dtype=np.int64).reshape(-1, 2).T):
            column.append(values)
        places, changes = np.concatenate(at), np.concatenate(by)
        order = np.argsort(places, kind="stable")
        self.places, self.changes = places[order], changes[order]
        self._width = np.cumsum(self.changes)
        self.widest = int(self._width.max(initial=0))  # of the cuts between blocks, at least

    def between(self, positions: np.ndarray) -> np.ndarray:
        """The width at cuts between blocks (and within blocks of arrays)."""
        at = np.searchsorted(self.places, positions, side="right") - 1
        return np.where(at >= 0, self._width[at], 0) if len(self._width) else np.zeros(len(positions), dtype=np.int64)

    def within(self, run: ScalarRun) -> np.ndarray:
        """The width before each of a run's lines."""
        first, n = int(self.reads.first[run.block]), len(run.op)
        last = np.full(n, -1, dtype=np.int64)
        last_readers(run.op, run.a, run.b, ARITY, first, last)
        return widths(last, self.reads.single.ids[self.reads.exposed(run.block)] - first, *self.around(first, n))

    def around(self, first: int, n: int) -> tuple[int, np.ndarray, np.ndarray]:
        """Of n lines from node `first` on: the width before them, before which of them what lies outside changes it,
        and by how much."""
        here = slice(*np.searchsorted(self.places, [first + 1, first + n]))
        return int(self.between(np.array([first]))[0]), self.places[here] - first, self.changes[here]

    def narrowest(self, low: int, high: int) -> Cut:
        """The cut of least width at low <= p <= high, the one nearest to the middle among equals.

        Cuts inside an array block count only where there is no other.
        """
        reads = self.reads
        start, stop = np.searchsorted(reads.first, [low, high + 1])
        found = self.narrowest_between(low, high)
        if start < stop and any(isinstance(run, HeldRun) for run in reads.runs.values()):
            return found  # a run's lines are looked at only where the cut has to lie within one
        for block in range(max(int(start) - 1, 0), int(stop)):
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
