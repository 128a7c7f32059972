"""Deep halos: ranks compute rows next to their own themselves, so that several supersteps become one.

In a stencil code every superstep ends with an exchange of the rows that neighbours read.  A rank that fetches a deeper
halo can go on alone: it computes the neighbour's border rows as well, fewer with every step, until the halo is used up
(ghost zone expansion, communication-avoiding; Demmel et al., Avoiding communication in sparse matrix computations,
IPDPS 2008).  A row that two ranks compute is two nodes with the same operands, each an ordinary node of its rank, so
tangents and adjoints need nothing new: what the copies gather goes back through the same exchanges.

`plan.Extents` says which rows of every block a rank computes; they are found backwards, from the readers.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import NamedTuple

import numpy as np

from ..tape import Affine, ScalarRun, Vector
from .layout import Layout, resolve
from .plan import Extents, Plan, Writing
from .reach import Box, boxes, moved, nearest_turn, nearest_turns, rows_of


def deepened(plan: Plan, free: list[bool]) -> Extents | None:
    """The extents of a scheduled plan; None where a rank would compute more rows than there are.

    free: blocks that any rank may compute rows of, in their superstep.
    """
    return _Deepener(plan, free).extents()


class _Deepener:
    """Blocks from last to first; what equal statements over equal extents read is found once (see `plan.Kinds`)."""

    def __init__(self, plan: Plan, free: list[bool]) -> None:
        self.plan, self.free = plan, free
        count = len(plan.blocks)
        self.step: list[int] = plan.where.steps[:count].max(axis=1).tolist()
        self.places: list[tuple[np.ndarray, np.ndarray]] = []  # distinct extents of all ranks: low, high
        self._numbers: dict[bytes, int] = {}
        own: dict[int, int] = {}  # by layout: the rows that ranks own
        self.extent = []
        for cuts, layout in zip(plan.where.cuts[:count], plan.layouts):
            number = own.get(id(layout)) if layout is not None else None
            if number is None:
                number = own[id(layout)] = self._number(cuts[:-1].copy(), cuts[1:].copy())
            self.extent.append(number)
        self.lines = np.zeros((count, plan.n_ranks))
        self.fetched: dict[int, set[int]] = {}  # by block: numbers of reads
        self.reads: list[_Reads] = []
        self._known: dict[tuple[object, ...], _Block] = {}
        self._grown: dict[tuple[int, int], int] = {}
        self._own: dict[tuple[int, int, int], np.ndarray] = {}

    def _number(self, low: np.ndarray, high: np.ndarray) -> int:
        """Equal extents have equal numbers."""
        number = self._numbers.setdefault(low.tobytes() + high.tobytes(), len(self.places))
        if number == len(self.places):
            self.places.append((low, high))
        return number

    def extents(self) -> Extents | None:
        plan = self.plan
        for block in reversed(plan.in_order):
            layout = plan.layouts[block]
            if layout is None:
                continue
            known = self._look(block, layout)
            if known.more_than_all:
                return None
            if known.lines is not None:
                self.lines[block] = known.lines
            for b, reads in zip(_operands(plan.writing[block]), known.reads):
                if reads < 0:
                    continue
                if self.free[b] and self.step[b] == self.step[block]:
                    self.extent[b] = self._grow(self.extent[b], reads)
                elif self.step[b] < self.step[block]:
                    self.fetched.setdefault(b, set()).add(reads)
        low, high = (np.array(column) for column in zip(*(self.places[number] for number in self.extent)))
        return Extents(low, high, self.lines, self._traffic())

    def _look(self, block: int, layout: Layout) -> _Block:
        """What all ranks read for their parts of a block."""
        plan = self.plan
        tasks, _, alike = plan.writing[block]
        key = alike, self.extent[block], self.free[block]
        if key in self._known:
            return self._known[key]
        low, high = self.places[self.extent[block]]
        reads: list[int] = []
        lines = np.zeros(plan.n_ranks) if self.free[block] else None
        for item, only in tasks:
            if isinstance(item, ScalarRun):
                continue
            found, more = self._statement(item, only, layout, low, high)
            for each in found:
                reads.append(len(self.reads) if each is not None else -1)
                if each is not None:
                    self.reads.append(each)
            if lines is not None:
                lines += more
        made = _Block(bool((high - low > layout.n).any()), reads, lines)
        if alike >= 0:
            self._known[key] = made
        return made

    def _statement(self, item: Vector, only: int, layout: Layout, low: np.ndarray,
                   high: np.ndarray) -> tuple[list[_Reads | None], np.ndarray]:
        """(what all ranks read by each affine operand, None if nothing of others; lines beyond those of own rows)."""
        kind = self.plan.kinds.of(item)
        operands = [self.plan.layouts[ref.block] for ref in item.operands if type(ref) is Affine]
        key = (kind, only, id(layout), low.tobytes(), high.tobytes(), *map(id, operands))
        if key not in self.plan.deep:
            found: list[_Reads | None] = []
            if 0 in item.shape:
                return [None] * len(operands), np.zeros(self.plan.n_ranks)
            part = _Part(item, layout, only, low, high)
            affine = [(ref, item.core(k)) for k, ref in enumerate(item.operands) if type(ref) is Affine]
            for (ref, core), operand in zip(affine, operands):
                reads = _Reads.of(part.reads(ref, core, operand), operand) if operand is not None else None
                found.append(reads if reads is not None and reads.away else None)
            more = part.lines() - self._own_lines(kind, item, only, layout)
            if kind < 0:
                return found, more
            self.plan.deep[key] = found, more
        return self.plan.deep[key]

    def _own_lines(self, kind: int, item: Vector, only: int, layout: Layout) -> np.ndarray:
        """Lines of each rank's part of a statement on its own rows."""
        key = kind, only, id(layout)
        if kind < 0 or key not in self._own:
            self._own[key] = _Part(item, layout, only, layout.cuts[:-1], layout.cuts[1:]).lines()
        return self._own[key]

    def _grow(self, extent: int, reads: int) -> int:
        """The extent that holds what is read as well."""
        if (extent, reads) not in self._grown:
            (low, high), more = self.places[extent], self.reads[reads]
            self._grown[extent, reads] = self._number(np.minimum(low, more.low), np.maximum(high, more.high))
        return self._grown[extent, reads]

    def _traffic(self) -> list[tuple[np.ndarray, ...]]:
        """What every rank has to fetch: (superstep, owner, target, values) columns."""
        parts = []
        known: dict[tuple[object, ...], tuple[np.ndarray, ...]] = {}
        for block, reads in self.fetched.items():
            layout = self.plan.layouts[block]
            assert layout is not None
            key = (id(layout), self.extent[block], frozenset(reads))
            if key not in known:
                known[key] = self._fetched(layout, *self.places[self.extent[block]], reads)
            owner, target, values = known[key]
            parts.append((np.full(len(owner), self.step[block]), owner, target, values))
        return parts

    def _fetched(self, layout: Layout, low: np.ndarray, high: np.ndarray, reads: set[int]) -> tuple[np.ndarray, ...]:
        """(owner, target, values) of what ranks read of a block outside of their extents low <= c < high."""
        owners, targets, values = [], [], []
        for rank in range(self.plan.n_ranks):
            outside = set()
            for number in reads:
                for first, last in self.reads[number].boxes:
                    a, b = int(first[rank]), int(last[rank])
                    outside |= {part for part in ((a, min(b, int(low[rank]))), (max(a, int(high[rank])), b))
                                if part[0] < part[1]}
            if not outside:
                continue
            rows = np.unique(np.concatenate([np.arange(*part) for part in outside]) % layout.n)
            owner, count = np.unique(np.searchsorted(layout.cuts, rows, side="right") - 1, return_counts=True)
            away = owner != rank
            owners.append(owner[away])
            targets.append(np.full(np.count_nonzero(away), rank))
            values.append(count[away] * float(layout.row))
        nothing = np.empty(0, dtype=np.int64)
        return (np.concatenate([nothing, *owners]), np.concatenate([nothing, *targets]),
                np.concatenate([np.empty(0), *values]))


def _operands(writing: Writing) -> list[int]:
    """The blocks of the affine operands, also where more than integers decide."""
    if writing.alike >= 0:
        return writing.operands
    return [ref.block for item, _ in writing.tasks if not isinstance(item, ScalarRun) for ref in item.operands
            if type(ref) is Affine]


class _Block(NamedTuple):
    """What blocks written alike have in common."""

    more_than_all: bool  # whether a rank would compute more rows than there are
    reads: list[int]  # of each affine operand: number of what is read of it, -1 if that is all the rank's own
    lines: np.ndarray | None  # beyond those of a rank's own rows


class _Reads(NamedTuple):
    """What all ranks read of a block: places first[r] <= c < last[r], a pair of arrays a box, and what spans them."""

    boxes: list[tuple[np.ndarray, np.ndarray]]
    low: np.ndarray
    high: np.ndarray
    away: bool  # whether anything lies outside of the rank's own rows

    @classmethod
    def of(cls, boxes: list[tuple[np.ndarray, np.ndarray]], operand: Layout) -> _Reads:
        low, high = operand.cuts[:-1].copy(), operand.cuts[1:].copy()  # own rows included
        for first, last in boxes:
            some = last > first
            np.minimum(low, first, out=low, where=some)
            np.maximum(high, last, out=high, where=some)
        return cls(boxes, low, high, bool((low < operand.cuts[:-1]).any() or (high > operand.cuts[1:]).any()))


class _Part:
    """The parts of a statement whose results lie at places low[r] <= c < high[r], for all ranks r."""

    def __init__(self, item: Vector, layout: Layout, only: int, low: np.ndarray, high: np.ndarray) -> None:
        self.item, self.layout, self.only, self.low, self.high = item, layout, only, low, high
        self.axis, self.start = self._row_after_row()

    def _row_after_row(self) -> tuple[int, int]:
        """(axis, first row) where results lie one row after another along an axis of the iteration space.

        Axis -1: all in one row; first row -1: it is not as simple as that.
        """
        item, layout = self.item, self.layout
        if self.only >= 0 or item.op.kind != "elementwise" or item.reduced:
            return -1, -1
        out = resolve(item.out, item.shape, layout)
        if out is None or out.flat:
            return -1, -1
        moving = [k for k, (step, n) in enumerate(zip(out.middle, item.shape)) if step and n > 1]
        if len(moving) > 1 or any(out.middle[k] != 1 for k in moving):
            return -1, -1
        return (moving[0] if moving else -1), out.start[1]

    @cached_property
    def _ranges(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where the ranks' parts begin and end along the axis, for every turn of the ring that has any."""
        n = self.item.shape[self.axis] if self.axis >= 0 else 1
        found = []
        for turn in (-self.layout.n, 0, self.layout.n):
            start = np.minimum(np.maximum(self.low - (turn + self.start), 0), n)
            stop = np.minimum(np.maximum(self.high - (turn + self.start), 0), n)
            if (stop > start).any():
                found.append((start, stop))
        return found

    def _boxes(self, rank: int) -> list[Box]:
        span = int(self.low[rank]), int(self.high[rank])
        home = span == (self.layout.cuts[rank], self.layout.cuts[rank + 1])
        return boxes(self.item, self.layout, rank, None if home else span, self.only)

    def lines(self) -> np.ndarray:
        """Lines of each rank's part."""
        if self.start < 0:
            return np.array([sum(prod(box.shape) for box in self._boxes(r)) for r in range(len(self.low))], dtype=float)
        row = prod(self.item.shape) // (self.item.shape[self.axis] if self.axis >= 0 else 1)
        return row * sum((np.maximum(stop - start, 0) for start, stop in self._ranges), np.zeros(len(self.low)))

    def reads(self, ref: Affine, core: tuple[int, ...], operand: Layout) -> list[tuple[np.ndarray, np.ndarray]]:
        """Places of the operand's block that each rank reads, as intervals; none where the second is not greater."""
        at = resolve(ref, self.item.shape, operand) if self.start >= 0 else None
        own_low, own_high = operand.cuts[:-1], operand.cuts[1:]
        found = []
        if at is not None and not at.flat:
            shape, step = list(self.item.shape), 0
            if self.axis >= 0:
                shape[self.axis], step = 1, at.steps[self.axis][1]
            low, high = at.span(tuple(shape))
            for start, stop in self._ranges:
                ends = step * start, step * (stop - 1)
                first, last = low + np.minimum(*ends), high + np.maximum(*ends)
                turn = nearest_turns(first, last, own_low, own_high, operand.n)
                some = stop > start
                found.append((np.where(some, first + turn, 0), np.where(some, last + turn, 0)))
            return found
        for rank in range(len(self.low)):
            for number, box in enumerate(self._boxes(rank)):
                here = resolve(moved(ref, box.axis, box.start), (*box.shape, *core), operand)
                if here is not None and 0 not in box.shape:
                    if number == len(found):
                        found.append((np.zeros_like(self.low), np.zeros_like(self.low)))
                    first, last = rows_of(*here.span((*box.shape, *core)), operand, here.flat)
                    turn = nearest_turn(first, last, int(own_low[rank]), int(own_high[rank]), operand.n)
                    found[number][0][rank], found[number][1][rank] = first + turn, last + turn
        return found


__all__ = ["deepened"]
