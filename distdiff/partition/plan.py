"""A partition in the making: where every block lies, and the tape's items with their sums lowered to it.

A partitioner walks over the blocks in order and, for each, calls `Plan.split` or `Plan.scatter` and hands on
the items that write the block (`Plan.add`, `lower.*`).  Nothing here decides anything.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..graph import Listing, Survey
from ..kernels.graph import read_before
from ..machine import Machine, current
from ..ops import COPY, OPS, Elemental
from ..tape import Affine, Block, Const, Indexed, Item, Joint, Operand, ScalarRun, Statement, Tape, Vector, id_type
from .layout import Layout, single, split
from .whereabouts import Whereabouts

ARITY = np.array([op.arity for op in OPS])


def binary(op: np.ndarray) -> np.ndarray:
    """Which op codes have a second operand."""
    return ARITY[op] > 1


class Task(NamedTuple):
    """An item and the one rank that runs it; -1: every rank runs the part whose results it owns."""

    item: Item
    rank: int = -1


class Writing(NamedTuple):
    """The tasks that write a block, the blocks of their affine operands, and a number that equal statements over
    arrays laid out alike share; -1 where more than integers decide.
    """

    tasks: list[Task]
    operands: list[int]
    alike: int


class WholeRun(NamedTuple):
    """A scalar run on one rank: its block has one owner and one superstep, and nothing is held a line."""

    index: int  # of the tape's item
    rank: int
    reads: Listing | np.ndarray  # nodes of other blocks that its lines read, ascending ...
    step: int = -1  # ... but for those of the rank's own runs, if the program was regrouped for this superstep

    @property
    def ids(self) -> np.ndarray:
        """The nodes, which a listing makes when they are asked for."""
        return self.reads.ids if isinstance(self.reads, Listing) else self.reads


@dataclass
class RunShare:
    """A scalar run with explicit node ids, in an order in which it can run (see `tape.ScalarRun` for op, a,
    b, const).

    `inner` holds the operands' positions within the run, -1 for what is outside of it, constant or not there.
    `floors`: supersteps before which no line is computed by the rule "grown"; none for 0.
    """

    ids: np.ndarray
    op: np.ndarray
    a: np.ndarray
    b: np.ndarray
    const: np.ndarray
    owner: np.ndarray
    inner: tuple[np.ndarray, np.ndarray]
    steps: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int32))  # supersteps, once scheduled
    floors: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int32))


class Shared(NamedTuple):
    """An elemental that ranks share, and the block of every rank's part: one superstep has them all."""

    whole: Elemental
    parts: list[int]


@dataclass
class Extents:
    """Rank r computes the places low[block, r] <= c < high[block, r] of a block's ring of rows (see `reach`)."""

    low: np.ndarray
    high: np.ndarray
    lines: np.ndarray  # (blocks, ranks), beyond those of a rank's own rows
    traffic: list[tuple[np.ndarray, ...]]  # (superstep, source, target, values) columns, as `quality.Traffic`

    def of(self, block: int, rank: int) -> tuple[int, int]:
        return int(self.low[block, rank]), int(self.high[block, rank])


class Kinds:
    """Statements told apart by all but the blocks they read and write: equal ones have equal numbers.

    Programs repeat themselves: the same statement over arrays laid out alike comes once a time step, and what was
    found out about one holds for all.
    """

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._held: list[Vector] = []  # so that an address stays its statement's

    def of(self, item: Vector) -> int:
        """The statement's number; -1 where it depends on more than integers."""
        known = self._of.get(id(item))
        if known is None:
            self._held.append(item)
            known = self._of[id(item)] = self._number(item)
        return known

    def _number(self, item: Vector) -> int:
        key: list[object] = [item.op, item.shape, item.out.offset, item.out.strides]
        for ref in item.operands:
            if type(ref) is Affine:
                key += (ref.offset, ref.strides)
            elif type(ref) is Const:
                key.append(None)
            else:
                return -1
        return self._numbers.setdefault(tuple(key), len(self._numbers))


class Plan:
    """The tape's blocks and items, placed on ranks one block after another.

    `order[b]` says where a block stands in program order; blocks made by lowering stand before the block they
    serve, though their node ids come after all others.  `changed` holds the nodes whose value is no longer
    the tape's: links of a chain of additions that became partial sums.
    """

    def __init__(self, tape: Tape, n_ranks: int, machine: Machine | None = None, kinds: Kinds | None = None,
                 survey: Survey | None = None) -> None:
        self.tape, self.n_ranks = tape, n_ranks
        self.machine = current() if machine is None else machine
        self.kinds = kinds or Kinds()
        self.survey: Any = Survey(tape, self.machine) if survey is None else survey  # None: released
        self.blocks: list[Block] = list(tape.blocks)
        self.order: list[float] = [float(b) for b in range(len(tape.blocks))]
        self.layouts: list[Layout | None] = [None] * len(tape.blocks)
        self.where = Whereabouts(tape.blocks, n_ranks)
        self.tasks: list[list[Task]] = [[] for _ in tape.items]  # what became of each item
        self.runs: dict[int, RunShare] = {}  # by block: placed node by node,
        self.whole: dict[int, WholeRun] = {}  # ... or as a whole
        self.looks: dict[tuple[object, ...], Any] = {}  # `schedule.Look`s: they hold for every schedule of the plan,
        self.deep: dict[tuple[object, ...], Any] = {}  # ... and what `deepen` finds of statements, for every depth
        self._kept: dict[tuple[int, int, int, bytes], Layout] = {}
        self.changed: list[np.ndarray] = []
        self.accumulators: Any = None  # that stretches of the trace add to, each by itself (`accumulators`)
        self.regrouped: Any = None  # how the tape came of the one that was to be partitioned (`regroup`)
        self.shared: list[Shared] = []
        self.extents: Extents | None = None  # rows that ranks compute beyond their own
        self.writers: list[list[int]] = [[] for _ in tape.blocks]
        for i, item in enumerate(tape.items):
            self.writers[item.block if isinstance(item, ScalarRun) else item.out.block].append(i)

    @property
    def n_nodes(self) -> int:
        return self.blocks[-1].first + self.blocks[-1].size if self.blocks else 0

    def split(self, block: int, layout: Layout) -> None:
        """Place a block by cuts along an axis.  Equal layouts become one object, so that their ids tell them apart."""
        self.split_alike(block, self._kept.setdefault((*layout[:3], layout.cuts.tobytes()), layout))

    def split_alike(self, block: int, layout: Layout) -> None:
        """Place a block by the very layout of another."""
        self.layouts[block] = layout
        self.where.split(block, layout)

    def scatter(self, block: int, owner: np.ndarray, share: RunShare) -> None:
        """Place a scalar run node by node: `owner` of its block's nodes, `share` what is to be run."""
        self.where.scatter(block, owner)
        self.runs[block] = share

    def settle(self, block: int, rank: int, reads: Listing | np.ndarray | None = None, step: int = -1) -> None:
        """Place the scalar run that computes a block on one rank.  reads, step: as in `WholeRun`, if they are known."""
        (index,) = self.writers[block]
        run = self.tape.items[index]
        assert isinstance(run, ScalarRun)
        cuts = np.zeros(self.n_ranks + 1, dtype=np.int64)
        cuts[rank + 1:] = run.lines
        self.split(block, split((run.lines,), 0, cuts))
        if run.lines:
            if reads is None:
                reads = read_before(run.op, run.a, run.b, ARITY, self.blocks[block].first)
            self.whole[block] = WholeRun(index, rank, reads, step)

    def settled(self, block: int, share: bool) -> bool:
        """Place a block about which there is nothing to decide; False if it is none.

        Such are those whose elemental only rank 0 has, those that lie as others do, and, if ranks may `share` them,
        the results of elementals that they do share.
        """
        items = [(i, self.tape.items[i]) for i in self.writers[block]]
        if self.tape.homebound and any(type(x) is Joint and x.op in self.tape.homebound for _, x in items):
            self.split(block, single(self.blocks[block].shape, 0, self.n_ranks))
        elif block in self.tape.alike:
            layout = self.layouts[self.tape.alike[block]]
            assert layout is not None
            self.split_alike(block, layout)
        else:
            return share and len(items) == 1 and self._shared(block, *items[0])
        for index, item in items:
            self.add(index, item)
        return True

    def _shared(self, block: int, index: int, item: Item) -> bool:
        """Place every rank's part of an elemental there, and the block, which copies their results, beside them."""
        if type(item) is not Joint or item.shape:
            return False
        shares = item.op.shares(self.n_ranks)
        if shares is None:
            return False
        copied = np.empty(item.op.size, dtype=np.int64)
        owner = np.empty(item.op.size, dtype=np.int64)
        parts = []
        for rank, share in enumerate(shares):
            shape = (len(share.results),)
            part = self.add_block(shape, block, single(shape, rank, self.n_ranks))
            operands = tuple(self._elements(ref, item.operand_shape(k), places)
                             for k, (ref, places) in enumerate(zip(item.operands, share.operands)))
            # A copy, for what it becomes on a rank belongs to this plan.
            self.add(index, Joint(copy(share.part), (), Affine(part, 0, (1,)), operands, item.site))
            real = share.results >= 0
            copied[share.results[real]] = self.blocks[part].first + np.flatnonzero(real)
            owner[share.results[real]] = rank
            parts.append(part)
        self.shared.append(Shared(item.op, parts))
        shape, cuts = item.out_shape, np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=self.n_ranks))])
        self.split(block, split(self.blocks[block].shape, 0, cuts))
        self.add(index, Statement(COPY, shape, item.out, (Indexed(copied),), item.site))
        return True

    def _elements(self, ref: Operand, shape: tuple[int, ...], places: np.ndarray) -> Operand:
        """Elements of an operand, one by one."""
        if isinstance(ref, Const):
            return Const(np.broadcast_to(ref.value, shape).reshape(-1)[places])
        return Indexed(self.tape.ids(ref, shape).reshape(-1)[places])

    @cached_property
    def writing(self) -> list[Writing]:
        """What writes each block, in the order of the program; asked for when everything is placed."""
        writing = [Writing([], [], -1) for _ in self.blocks]
        for group in self.tasks:
            for task in group:
                item = task.item
                writing[item.block if isinstance(item, ScalarRun) else item.out.block].tasks.append(task)
        numbers: dict[tuple[object, ...], int] = {}
        for block, (tasks, operands, _) in enumerate(writing):
            key: list[object] = [id(self.layouts[block])]
            for item, rank in tasks:
                kind = self.kinds.of(item) if not isinstance(item, ScalarRun) else -1
                if kind < 0:
                    break
                assert not isinstance(item, ScalarRun)
                key += (kind, rank)
                for ref in item.operands:
                    if type(ref) is Affine:
                        layout = self.layouts[ref.block]
                        if layout is None or ref.block == block:
                            kind = -1
                        operands.append(ref.block)
                        key.append(id(layout))
                if kind < 0:
                    break
            else:
                if operands:
                    writing[block] = Writing(tasks, operands, numbers.setdefault(tuple(key), len(numbers)))
        return writing

    @cached_property
    def in_order(self) -> list[int]:
        """The blocks in the order of the program."""
        return sorted(range(len(self.blocks)), key=self.order.__getitem__)

    def add_block(self, shape: tuple[int, ...], before: int, layout: Layout | None) -> int:
        """A block of fresh nodes that stands just before another in program order."""
        self.blocks.append(Block(self.n_nodes, tuple(shape)))
        self.order.append(before - 0.5)
        self.layouts.append(None)
        self.where.add(self.blocks[-1])
        if layout is not None:
            self.split(len(self.blocks) - 1, layout)
        return len(self.blocks) - 1

    def add(self, index: int, item: Item, rank: int = -1) -> None:
        """Item `index` of the tape is done (in part) by this one."""
        self.tasks[index].append(Task(item, rank))

    def share(self, run: ScalarRun, owner: np.ndarray) -> RunShare:
        """A run as it stands on the tape."""
        first = self.blocks[run.block].first
        ids = np.arange(first, first + len(run.op), dtype=id_type(self.n_nodes))
        return RunShare(ids, run.op, run.a, run.b, run.const, owner, self.inner(run))

    def inner(self, run: ScalarRun) -> tuple[np.ndarray, np.ndarray]:
        """`RunShare.inner` of a run as it stands on the tape."""
        first = self.blocks[run.block].first
        return (np.where(run.a >= first, run.a - first, -1),
                np.where((run.b >= first) & binary(run.op), run.b - first, -1))

    def touched(self, ref: Operand, shape: tuple[int, ...]) -> int:
        """How many places of the iteration space read different nodes: 0 for constants."""
        if isinstance(ref, Const):
            return 0
        if isinstance(ref, Indexed):
            return int(ref.ids.size)
        n = 1
        for extent, stride in zip(shape, ref.strides):
            if stride or not extent:
                n *= extent
        return n


def cut(ref: Operand, axis: int, start: int, stop: int) -> Operand:
    """An operand over the part start <= k_axis < stop of its iteration space."""
    if isinstance(ref, Affine):
        return Affine(ref.block, ref.offset + start * ref.strides[axis], ref.strides)
    where = (slice(None),) * axis + (slice(start, stop),)
    if isinstance(ref, Indexed):
        return Indexed(ref.ids[where])
    if isinstance(ref.value, np.ndarray) and ref.value.ndim:
        return Const(ref.value[where])
    return ref


def cut_statement(item: Statement, axis: int, start: int, stop: int, out: Affine | None = None) -> Statement:
    """The part start <= k_axis < stop of a statement, with other results if `out` is given."""
    shape = item.shape[:axis] + (stop - start,) + item.shape[axis + 1:]
    where = out if out is not None else cut(item.out, axis, start, stop)
    return item.over(shape, where, tuple(cut(o, axis, start, stop) for o in item.operands))


__all__ = ["Extents", "Kinds", "Plan", "RunShare", "Task", "Writing", "binary", "cut", "cut_statement"]
