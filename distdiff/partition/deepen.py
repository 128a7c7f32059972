"""Deep halos: ranks compute rows next to their own themselves, so that several supersteps become one.

In a stencil code every superstep ends with an exchange of the rows that neighbours read.  A rank that fetches a deeper
halo can go on alone: it computes the neighbour's border rows as well, fewer with every step, until the halo is used up
(ghost zone expansion, communication-avoiding; Demmel et al., Avoiding communication in sparse matrix computations,
IPDPS 2008).  A row that two ranks compute is two nodes with the same operands, each an ordinary node of its rank, so
tangents and adjoints need nothing new: what the copies gather goes back through the same exchanges.

`plan.Extents` says which rows of every block a rank computes; they are found backwards, from the readers.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..tape import Affine, ScalarRun, Vector
from .layout import Layout, resolve
from .plan import Extents, Plan, Task
from .reach import Box, boxes, moved, nearest_turn, nearest_turns, rows_of


def deepened(plan: Plan, tasks: list[list[Task]], free: list[bool]) -> Extents | None:
    """The extents of a scheduled plan; None where a rank would compute more rows than there are.

    tasks: the items that write each block; free: blocks that any rank may compute rows of, in their superstep.
    """
    return _Deepener(plan, tasks, free).extents()


class _Deepener:
    def __init__(self, plan: Plan, tasks: list[list[Task]], free: list[bool]) -> None:
        self.plan, self.tasks, self.free = plan, tasks, free
        count = len(plan.blocks)
        self.cuts = plan.where.cuts[:count]
        self.step = plan.where.steps[:count].max(axis=1)
        self.low, self.high = self.cuts[:, :-1].copy(), self.cuts[:, 1:].copy()
        self.lines = np.zeros((count, plan.n_ranks))
        self.fetched: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._known: dict[tuple[object, ...], Any] = {}

    def extents(self) -> Extents | None:
        plan = self.plan
        for block in sorted(range(len(plan.blocks)), key=plan.order.__getitem__, reverse=True):
            layout = plan.layouts[block]
            if layout is None:
                continue
            if (self.high[block] - self.low[block] > layout.n).any():
                return None
            for task in self.tasks[block]:
                if not isinstance(task.item, ScalarRun) and 0 not in task.item.shape:
                    self._statement(block, layout, task.item, task.rank)
        return Extents(self.low, self.high, self.lines, self._traffic())

    def _statement(self, block: int, layout: Layout, item: Vector, only: int) -> None:
        """What all ranks read for their parts; programs repeat themselves, so equal parts are looked at once."""
        low, high, part = self.low[block], self.high[block], None
        key = (item.op.kind, item.out_shape, item.out.offset, item.out.strides, id(layout), only, low.tobytes(),
               high.tobytes())
        for k, ref in enumerate(item.operands):
            operand = self.plan.layouts[ref.block] if isinstance(ref, Affine) else None
            if operand is not None:
                reads = (*key, item.core(k), ref.offset, ref.strides, id(operand))
                if reads not in self._known:
                    part = part or _Part(item, layout, only, low.copy(), high.copy())
                    self._known[reads] = _Reads.of(part.reads(ref, item.core(k), operand), operand)
                self._read(block, ref.block, self._known[reads])
        if self.free[block]:
            if key not in self._known:
                own = _Part(item, layout, only, layout.cuts[:-1], layout.cuts[1:])
                self._known[key] = (part or _Part(item, layout, only, low, high)).lines() - own.lines()
            self.lines[block] += self._known[key]

    def _read(self, block: int, b: int, reads: _Reads) -> None:
        if not reads.away:
            return
        if self.free[b] and self.step[b] == self.step[block]:
            np.minimum(self.low[b], reads.low, out=self.low[b])
            np.maximum(self.high[b], reads.high, out=self.high[b])
        elif self.step[b] < self.step[block]:
            self.fetched.setdefault(b, []).extend(reads.boxes)

    def _traffic(self) -> list[tuple[np.ndarray, ...]]:
        """What every rank has to fetch, by owner."""
        parts = []
        for block, reads in self.fetched.items():
            layout = self.plan.layouts[block]
            assert layout is not None
            for rank in range(self.plan.n_ranks):
                low, high = int(self.low[block, rank]), int(self.high[block, rank])
                outside = set()
                for first, last in reads:
                    a, b = int(first[rank]), int(last[rank])
                    outside |= {part for part in ((a, min(b, low)), (max(a, high), b)) if part[0] < part[1]}
                if not outside:
                    continue
                rows = np.unique(np.concatenate([np.arange(*part) for part in outside]) % layout.n)
                owner, count = np.unique(np.searchsorted(layout.cuts, rows, side="right") - 1, return_counts=True)
                away = owner != rank
                owner, count = owner[away], count[away]
                parts.append((np.full(len(owner), self.step[block]), owner, np.full(len(owner), rank),
                              count * float(layout.row)))
        return parts


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

    def _ranges(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where the ranks' parts begin and end along the axis, by turn of the ring."""
        n = self.item.shape[self.axis] if self.axis >= 0 else 1
        return [(np.clip(self.low - turn - self.start, 0, n), np.clip(self.high - turn - self.start, 0, n))
                for turn in (-self.layout.n, 0, self.layout.n)]

    def _boxes(self, rank: int) -> list[Box]:
        span = int(self.low[rank]), int(self.high[rank])
        home = span == (self.layout.cuts[rank], self.layout.cuts[rank + 1])
        return boxes(self.item, self.layout, rank, None if home else span, self.only)

    def lines(self) -> np.ndarray:
        """Lines of each rank's part."""
        if self.start < 0:
            return np.array([sum(prod(box.shape) for box in self._boxes(r)) for r in range(len(self.low))], dtype=float)
        row = prod(self.item.shape) // (self.item.shape[self.axis] if self.axis >= 0 else 1)
        return row * sum(np.maximum(stop - start, 0) for start, stop in self._ranges()).astype(float)

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
            for start, stop in self._ranges():
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
