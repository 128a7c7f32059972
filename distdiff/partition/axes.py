"""Array-axis blocks: every array is cut along one axis, where its operands are cut.

A block is cut so that a rank finds most of what it reads at home (owner computes): an affine operand that
maps an axis of the iteration space to the cut axis of its block hands its cuts on, shifted by the slice's
offset.  So that the cuts of a program do not drift with every shift, an axis length keeps the cuts it got
first as long as they are near: a rolled array is cut where the array is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from ..graph.contractions import line_seconds
from ..tape import Affine, Const, Indexed, Operand, Vector
from . import lower
from .layout import Layout, balanced, crossings, pieces, resolve, single, split
from .plan import Plan

NEAR = 8  # rows by which cuts may differ and still count as the same ...
NEAR_SHARE = 16  # ... or this fraction of a rank's rows
UNEVEN = 1.6  # largest part over the mean part beyond which inherited cuts are given up


Wish = tuple[tuple[int, np.ndarray] | None, int]  # (axis and edges at which an operand is cut), nodes it touches


@dataclass
class Vote:
    """Cut the iteration space's `axis` at `edges`."""

    axis: int
    edges: np.ndarray


@dataclass
class Axes:
    """The partitioner; `place` lays one block out.

    min_block: blocks with fewer lines have one owner.  first: axis along which inputs are cut, "longest" or
    "first" (the first that is long enough).  active: ranks that get anything.
    """

    plan: Plan
    min_block: int
    first: str = "longest"
    active: int | None = None
    lengths: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.n_ranks = self.plan.n_ranks
        self.active = self.n_ranks if self.active is None else self.active
        self._before: dict[tuple[object, ...], Layout] = {}

    # -- one block ----------------------------------------------------------------------------------------------------

    def place(self, block: int) -> None:
        """Lay a block out and hand on the items that write it."""
        plan = self.plan
        shape, writers = plan.blocks[block].shape, plan.writers[block]
        items = [plan.tape.items[i] for i in writers]
        known = self._recall(block, items)
        if known is not None and known in self._before:
            plan.split_alike(block, self._before[known])
            for index, item in zip(writers, items):
                plan.add(index, item)
            return
        self._decide(block, shape, writers, items)
        if known is not None:
            self._before[known] = plan.layouts[block]

    def _decide(self, block: int, shape: tuple[int, ...], writers: list[int], items: list[Vector]) -> None:
        plan = self.plan
        lines = sum(item.lines for item in items) if items else plan.blocks[block].size
        if lines < self.min_block or lines < 2 or self._reads_itself(block, items):
            self._alone(block, writers, items)
            return
        if not items:
            axis = self._longest(shape)
            plan.split(block, split(shape, axis, self._cuts(shape[axis] if shape else 1)))
            return
        main = max(items, key=lambda item: item.lines)
        vote = self._vote(main)
        layout = self._layout(block, main, vote)
        if any(pieces(item.out, item.out_shape, layout) is None for item in items):
            self._alone(block, writers, items)
            return
        plan.split(block, layout)
        for index, item in zip(writers, items):
            self._hand_on(index, item, layout, vote if item is main else None)

    def _recall(self, block: int, items: list[Vector]) -> tuple[object, ...] | None:
        """What decides the block's layout, if that is integers only and no item is to be lowered."""
        if not items:
            return None
        layouts = self.plan.layouts
        key: list[object] = [self.plan.blocks[block].shape]
        for item in items:
            kind = self.plan.kinds.of(item)
            if kind < 0 or item.op.kind != "elementwise" or item.reduced:
                return None
            key.append(kind)
            for ref in item.operands:
                if type(ref) is Affine:
                    layout = layouts[ref.block]
                    if layout is None or ref.block == block:
                        return None
                    key.append(id(layout))
        return tuple(key)

    def _alone(self, block: int, writers: list[int], items: list[Vector]) -> None:
        home = self._home(items) if items else 0
        self.plan.split(block, single(self.plan.blocks[block].shape, home, self.n_ranks))
        for index, item in zip(writers, items):
            self._hand_on(index, item, self.plan.layouts[block], None)

    def _hand_on(self, index: int, item: Vector, layout: Layout, vote: Vote | None) -> None:
        """The item's tasks: as it is, or with its reduction split where its operands are."""
        if item.op.kind == "scan":
            parts = pieces(item.out, item.shape, layout)
            if parts is not None and parts.axis == len(item.shape) - 1:
                edges = np.append(parts.start, item.shape[-1])
                if (parts.stop >= parts.start).all() and (np.diff(edges) >= 0).all():
                    lower.scan(self.plan, index, item, edges)
                    return
        elif item.reduced and item.lines >= self.min_block and 0 not in item.shape:
            vote = vote if vote is not None else self._vote(item)
            if vote is not None and self._may_split(item, vote.axis):
                if np.count_nonzero(np.diff(vote.edges)) > 1 or not self._at_home(item, layout, vote):
                    lower.reduction(self.plan, index, item, vote.axis, vote.edges)
                    return
        self.plan.add(index, item)

    @staticmethod
    def _at_home(item: Vector, layout: Layout, vote: Vote) -> bool:
        """Whether the one rank that has all terms is also the one that wants the sum."""
        parts = pieces(item.out, item.shape, layout)
        rank = int(np.argmax(np.diff(vote.edges)))
        return parts is not None and parts.axis < 0 and bool(parts.stop[rank] > parts.start[rank])

    @staticmethod
    def _may_split(item: Vector, axis: int) -> bool:
        """A sum may be split along any reduced axis, an extremum along the first (ties go to the first in C order)."""
        reduced = item.reduced
        return axis in reduced and (item.op.kind != "select" or axis == reduced[0])

    @staticmethod
    def _reads_itself(block: int, items: list[Vector]) -> bool:
        return any(isinstance(ref, Affine) and ref.block == block for item in items for ref in item.operands)

    # -- where operands are cut ---------------------------------------------------------------------------------------

    def _vote(self, item: Vector) -> Vote | None:
        """The axis of the iteration space to cut, and where; None to leave it to the block.

        Of the cuts that cost about least (`_cost`), first those that an operand has already (of the operand
        that touches most), and of a result's axes before axes that are summed away; then the longest axis.
        """
        if 0 in item.shape or not item.shape:
            return None
        operands, wishes = [], []
        for k, ref in enumerate(item.operands):
            if not isinstance(ref, Const):
                shape = item.operand_shape(k)
                n = self.plan.touched(ref, shape)
                operands.append((ref, n))
                wishes.append((self._wish(ref, shape) if n > 1 else None, n))
        options: list[tuple[tuple[float, ...], Vote]] = []
        for axis, n in enumerate(item.shape):
            if n < 2 or (axis in item.reduced and not self._may_split(item, axis)):
                continue
            wished = [(wish[1], weight) for wish, weight in wishes if wish is not None and wish[0] == axis]
            summed = float(axis in item.reduced)
            if wished:
                most = max(weight for _, weight in wished)
                same = [edges for edges, weight in wished if weight == most]
                edges = self._middle(same, n) if len(same) > 1 else same[0]
                options.append(((0, summed, -most, axis), Vote(axis, edges)))
            options.append(((1, summed, -n, axis), Vote(axis, self.lengths.get(n, self._fair(n)))))
        if not options:
            return None
        strides = [ref.strides if isinstance(ref, Affine) else _index_strides(ref) for ref, _ in operands]
        costs = [self._cost(item, vote, wishes, strides) for _, vote in options]
        machine = self.plan.machine
        enough = min(costs) + 0.25 * machine.message + 0.005 * line_seconds(item, machine) * item.lines / self.active
        return min((option for option, cost in zip(options, costs) if cost <= enough), key=lambda option: option[0])[1]

    def _cost(self, item: Vector, vote: Vote, wishes: list[Wish], strides: list[tuple[int, ...]]) -> float:
        """Seconds that cutting the iteration space so costs beyond a perfect cut: values moved, and uneven parts."""
        others = self.active - 1
        moved = 0.0
        for (wish, size), stride in zip(wishes, strides):
            if not stride[vote.axis]:
                moved += size * others
            elif wish is None or wish[0] != vote.axis:
                moved += size * others / self.active
            else:
                moved += size * float(abs(wish[1] - vote.edges).sum()) / item.shape[vote.axis]
        if vote.axis in item.reduced:
            moved += others * self._results(item)
        uneven = np.diff(vote.edges).max() / item.shape[vote.axis] - 1.0 / self.active
        machine = self.plan.machine
        return 8 * machine.pass_byte * moved / self.active + line_seconds(item, machine) * item.lines * float(uneven)

    @staticmethod
    def _results(item: Vector) -> int:
        return prod(n for k, n in enumerate(item.shape) if k not in item.reduced)

    def _middle(self, edges: list[np.ndarray], n: int) -> np.ndarray:
        """Between several operands' cuts, rounded towards balance: what is read reaches equally far to both sides."""
        mean = sum(edges) / len(edges)
        low, high = np.floor(mean).astype(np.int64), np.ceil(mean).astype(np.int64)
        fair = self._fair(n)
        middle = low if abs(low - fair).sum() < abs(high - fair).sum() else high
        middle[0], middle[-1] = 0, n
        return np.maximum.accumulate(np.clip(middle, 0, n))

    def _wish(self, ref: Affine | Indexed, shape: tuple[int, ...]) -> tuple[int, np.ndarray] | None:
        """(axis, edges) at which an operand is cut over the iteration space; None where it is not, or on
        several axes.
        """
        if isinstance(ref, Indexed):
            return self._indexed_wish(ref)
        layout = self.plan.layouts[ref.block]
        if layout is None:
            ids = ref.ids(self.plan.blocks[ref.block].first, tuple(n if s else 1 for n, s in zip(shape, ref.strides)))
            return self._indexed_wish(Indexed(ids))
        found = resolve(ref, shape, layout)
        if found is None:
            return None
        cuts = layout.cuts * layout.inner if found.flat else layout.cuts
        low, high = found.span(shape)
        if np.searchsorted(cuts, low, side="right") == np.searchsorted(cuts, high - 1, side="right"):
            return None  # all on one rank
        moving = [k for k, step in enumerate(found.middle) if step]
        axis = max(moving, key=lambda k: abs(found.steps[k][1]) * (shape[k] - 1))
        step = found.steps[axis][1]
        if step < 0:
            return axis, self._cuts(shape[axis])  # reversed: any cut has to be fetched
        return axis, self._closed(crossings(cuts, found.start[1], step, shape[axis]), shape[axis])

    def _indexed_wish(self, ref: Indexed) -> tuple[int, np.ndarray] | None:
        """The owners along each axis, through the middle of the others."""
        best = None
        middle = tuple(n // 2 for n in ref.ids.shape)
        for axis, n in enumerate(ref.ids.shape):
            if n < 2:
                continue
            line = ref.ids[middle[:axis] + (slice(None),) + middle[axis + 1:]]
            count = np.bincount(self.plan.where.find(line)[0], minlength=self.n_ranks)
            if count.max() < n and (best is None or n > ref.ids.shape[best[0]]):
                best = axis, np.concatenate([[0], np.cumsum(count)])
        return best

    @staticmethod
    def _closed(edges: np.ndarray, n: int) -> np.ndarray:
        edges = edges.copy()
        edges[0], edges[-1] = 0, n
        return edges

    # -- from the iteration space to the block ---------------------------------------------------------------------

    def _layout(self, block: int, item: Vector, vote: Vote | None) -> Layout:
        """Where the block of the item's results is cut, given where its iteration space wants to be."""
        shape = self.plan.blocks[block].shape
        if vote is not None and item.out.strides[vote.axis]:
            axis = self._out_axis(item, shape, vote.axis)
            if axis is not None:
                n = shape[axis]
                found = resolve(item.out, _spread(item), split(shape, axis, self._fair(n)))
                assert found is not None
                cuts = found.start[1] + found.steps[vote.axis][1] * vote.edges
                return split(shape, axis, self._settle(self._closed(np.clip(cuts, 0, n), n)))
        loops = shape[: len(shape) - len(item.core_out)]  # the core of a joint statement's results is not cut
        if self.plan.blocks[block].size < max(self.min_block, 2) or (item.core_out and prod(loops) == 1):
            return single(shape, self._home([item]), self.n_ranks)
        axis = self._longest(loops)
        return split(shape, axis, self._cuts(shape[axis]))

    def _out_axis(self, item: Vector, shape: tuple[int, ...], axis: int) -> int | None:
        """The axis of the block along which the results of the iteration space's `axis` lie."""
        spread = _spread(item)
        for a, n in enumerate(shape):
            if n < 2:
                continue
            found = resolve(item.out, spread, split(shape, a, self._fair(n)))
            if found is not None and not found.flat and found.steps[axis][1] > 0 \
                    and sum(bool(s) for s in found.middle) == 1:
                return a
        return None

    def _settle(self, cuts: np.ndarray) -> np.ndarray:
        """Inherited cuts, or those that the length has already, or balanced ones where the inherited are uneven."""
        n = int(cuts[-1])
        known = self.lengths.get(n)
        mean = n / self.active
        near = max(NEAR, mean / NEAR_SHARE)
        if known is not None and abs(known - cuts).max() <= near:
            return known
        if np.diff(cuts).max() > UNEVEN * mean + near:
            return self._cuts(n)
        return self.lengths.setdefault(n, cuts) if known is None else cuts

    def _cuts(self, n: int) -> np.ndarray:
        """The cuts of an axis length, made once."""
        if n not in self.lengths:
            self.lengths[n] = self._fair(n)
        return self.lengths[n]

    def _fair(self, n: int) -> np.ndarray:
        cuts = balanced(n, self.active)
        return np.concatenate([cuts, np.full(self.n_ranks - self.active, n, dtype=np.int64)])

    def _longest(self, shape: tuple[int, ...]) -> int:
        if self.first == "first":
            for axis, n in enumerate(shape):
                if n >= 4 * self.active:
                    return axis
        return max(range(len(shape)), key=lambda k: shape[k], default=0)

    def _home(self, items: list[Vector]) -> int:
        """The rank that has most of what small items read, by the ends of their operands."""
        weight = np.zeros(self.n_ranks)
        for item in items:
            for k, ref in enumerate(item.operands):
                touched = self.plan.touched(ref, item.operand_shape(k))
                if touched:
                    owners, _ = self.plan.where.find(self._ends(ref, item.operand_shape(k)))
                    np.add.at(weight, owners, touched / len(owners))
        return int(weight.argmax())

    def _ends(self, ref: Operand, shape: tuple[int, ...]) -> np.ndarray:
        if isinstance(ref, Indexed):
            return ref.ids.ravel()[[0, -1]]
        assert isinstance(ref, Affine)
        first = self.plan.blocks[ref.block].first + ref.offset
        return np.array([first, first + sum(s * (n - 1) for n, s in zip(shape, ref.strides))])


def _index_strides(ref: Indexed) -> tuple[int, ...]:
    """0 for the axes along which an index array repeats itself."""
    return tuple(1 if s or n == 1 else 0 for s, n in zip(ref.ids.strides, ref.ids.shape))


def _spread(item: Vector) -> tuple[int, ...]:
    return tuple(n if s else 1 for n, s in zip(item.out_shape, item.out.strides))


__all__ = ["Axes"]
