"""Levels and the critical path of a tape.

The level of a node is the number of edges of the longest path that ends there; nodes of one level don't depend on each
other.  Weighted by what statements and lines take, the longest path is what no number of ranks gets below (the span of
work and span: Blumofe and Leiserson, J. ACM 1999).  A sum of n terms can be added up as a tree of ceil(log2 n) steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from ..kernels.structure import tally_uses
from ..machine import Machine
from ..ops import ADD, COPY, MULTIPLY, SUBTRACT
from ..tape import RUN_LINES, Affine, Const, Indexed, Joint, Operand, ScalarRun, Statement, Tape, Vector
from .contractions import call_seconds, line_seconds
from .lines import CLASSES, Around, Here, Lines, walked
from .live import LiveWidth
from .reads import Reads, ref_ids

LEVELS = 1 << 12  # that a tree has at most
HALVES = 3  # times that a tree is halved at least ...
FEW = 2  # ... down to so many nodes at most,
EVEN_HALVES = 2.5  # ... with at most so many times more levels in one of its halves than on average
EIGHTHS = 8  # parts of the steps that are looked at one by one
BINS = 24  # stretches of levels, or of the trace, that a profile has


@dataclass(frozen=True)
class Path:
    """The critical path by cost: its cost, that of all work, and what it runs through."""

    span: float
    work: float
    statements: int
    scalar_lines: int
    sites: tuple[tuple[str, float], ...]  # (user's line, its share of the span), largest first


class Step(NamedTuple):
    """A statement on the critical path, or (index -1) a stretch of scalar lines: between which nodes, from when on."""

    index: int  # of the item
    first: int
    last: int
    begin: float
    end: float
    lines: int  # scalar ones


@dataclass(frozen=True)
class Profile:
    """Levels edges[k] <= level < edges[k + 1] hold so many nodes, and so many lines of arithmetic."""

    edges: tuple[int, ...]
    nodes: tuple[int, ...]
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Uses:
    """How often nodes are read: count[0] never, then once, twice, 3-4, 5-8, ... times; the nodes of an array alike."""

    count: tuple[int, ...]
    most: int

    @classmethod
    def of(cls, classes: np.ndarray, most: int) -> Uses:
        """From the nodes of every class, see `kernels.structure.tally_uses`."""
        return cls(tuple(np.trim_zeros(classes, "b").tolist()), most)


class Narrowing:
    """Whether levels narrow like a tree's, evenly by halves, down to a few, or widen so.

    With functions on its way up a tree has several levels for every half, but about as many for each; what is wide and
    then summed has nearly all of its levels at full width.  A level counts with the widest that comes after it (of a
    tree that widens, before it).
    """

    def __init__(self) -> None:
        self._levels: list[np.ndarray] | None = []

    def add(self, nodes: np.ndarray) -> None:
        """Further levels; those without nodes (before the first) are none."""
        if self._levels is not None:
            self._levels.append(nodes[nodes > 0])
            if sum(map(len, self._levels)) > LEVELS:
                self._levels = None

    @property
    def tree(self) -> bool:
        return self._narrows(1)

    @property
    def spreading(self) -> bool:
        """The same from the end to the beginning."""
        return self._narrows(-1)

    def _narrows(self, step: int) -> bool:
        """Every half has levels, or every other one has; none has many more than the others."""
        width = np.concatenate([np.empty(0), *(self._levels or [])])[::step]
        if not len(width):
            return False
        widest = np.maximum.accumulate(width[::-1])[::-1]
        half = np.floor(np.log2(widest[0] / widest)).astype(int)
        halves, levels = np.unique(half, return_counts=True)
        return bool(half[-1] >= HALVES and widest[-1] <= FEW and 2 * width.sum() >= widest.sum()
                    and 2 * len(halves) > half[-1] and levels.max() <= EVEN_HALVES * len(half) / (half[-1] + 1))


class Steps(NamedTuple):
    """Levels with sums taken as one (`lines.steps`): how many, nodes that are no parts of sums, most of them on one.

    thinnest   how many there are a step on average in that of EIGHTHS parts where they are fewest
    middle     ... and in all of these parts but the first and the last: first < step <= last
    """

    depth: int
    nodes: int
    width: int
    thinnest: float
    middle: float
    first: int
    last: int


class Levels:
    """One walk over a tape: levels, paths, uses and live widths; an array block is a unit, its level that of its last
    elements.  lines: where runs are looked at; None: here.
    """

    def __init__(self, tape: Tape, reads: Reads, live: LiveWidth, machine: Machine, lines: Lines | None = None) -> None:
        self.lines = lines or Here(reads)
        self.tape, self.reads, self.costs = tape, reads, machine
        blocks = len(tape.blocks)
        self.block = np.zeros(blocks, dtype=np.int64)  # levels
        self.time = np.zeros(blocks)
        self.writer: list[tuple[int, int, int]] = [(-1, -1, -1)] * blocks  # item, block and node (-1) that it waits for
        self.step = -reads.leaf.astype(np.int64)  # see `lines.steps`, blocks of arrays as units
        self.part = np.zeros(blocks, dtype=bool)
        self.counts: dict[int, list[tuple[int, int]]] = {}  # by block: (step, nodes) of what is no part of a sum
        n = len(reads.single)
        self.steps, self.parts = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
        self.level, self.when = np.zeros(n, dtype=np.int64), np.zeros(n)
        self.entry, self.length = np.full(n, -1), np.zeros(n, dtype=np.int64)
        self.run_end: dict[int, tuple[int, int]] = {}  # by block, of its latest line: where its path came from, lines
        self.work = 0.0
        self.ends: list[tuple[int, int, int, int]] = []  # (level, levels, nodes a level, lines a level)
        self.nonzeros = 0  # of runs
        self.used = np.zeros(CLASSES, dtype=np.int64)
        self.most_used = 0
        self.widest = live.widest
        n = tape.n_nodes
        self.middle = n // 4, n - n // 4
        self.narrowest = live.narrowest_between(*self.middle)
        self._inputs()
        for index, item in enumerate(tape.items):
            if isinstance(item, ScalarRun):
                self._run(item, live)
            else:
                self._statement(index, item)
        self._array_uses()

    # -- one item ----------------------------------------------------------------------------------------------------

    def _count_steps(self, item: Vector, results: int) -> None:
        """The step of a statement, by `lines.steps` for blocks: a part is read once, as a whole, by what adds it.  What
        only moves values is on their step, and no node."""
        moves = item.op is COPY and not item.reduced
        adds = item.op in (ADD, SUBTRACT) or (item.op is COPY and not moves)
        above = []
        for k, ref in enumerate(item.operands):
            if isinstance(ref, Const):
                continue
            if isinstance(ref, Affine) and not self.reads.scalar[ref.block]:
                part = adds and bool(self.part[ref.block])
                above.append(int(self.step[ref.block]) + (not part and not moves))
                if part:
                    self.counts.pop(ref.block, None)
                continue
            ids = (ref_ids(ref, int(self.reads.first[ref.block]), item.operand_shape(k))
                   if isinstance(ref, Affine) else np.ravel(ref.ids))
            steps, parts = self.steps_of(ids)
            above.append(int((steps + (~(parts & adds) & (not moves))).max(initial=-1)))
        if moves:
            self.step[item.out.block] = max(self.step[item.out.block], max(above, default=0))
            return
        if above == [0] and type(item) is Statement and not item.reduced and item.op.kind != "scan":
            self.step[item.out.block] = max(self.step[item.out.block], 0)  # a function of one input
            return
        step = max(above, default=1) or 1
        block = item.out.block
        self.step[block] = max(self.step[block], step)
        touches, size = self.reads.touches[block], self.tape.blocks[block].size
        here = self.reads.exposed(block)
        self.part[block] = (item.op in (ADD, SUBTRACT, MULTIPLY) and len(touches) == 1 and here.start == here.stop
                            and touches[0].uses == touches[0].nodes == size)
        self.counts.setdefault(block, []).append((step, results))

    def steps_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(step, whether it is a part of the sum that reads it) of nodes."""
        block = self.reads.block_of(ids)
        step, part = self.step[block], np.zeros(len(ids), dtype=bool)
        alone = self.reads.scalar[block]
        if alone.any():
            place = self.reads.place(ids[alone])
            step[alone], part[alone] = self.steps[place], self.parts[place]
        return step, part

    def _inputs(self) -> None:
        for leaf in self.tape.inputs:
            n = prod(leaf.shape)
            self.ends.append((0, 1, n, n))
            self.work += self.costs.line * n

    def _statement(self, index: int, item: Vector) -> None:
        n = prod(item.shape)
        if not n:
            return
        results = prod(extent for extent, s in zip(item.out_shape, item.out.strides) if s or extent == 1)
        level, time, source = -1, 0.0, (-1, -1)
        for k, ref in enumerate(item.operands):
            if not isinstance(ref, Const):
                above, when, whose = self._of(ref, item.operand_shape(k))
                level = max(level, above)
                if when > time:
                    time, source = when, whose
        self._count_steps(item, results)
        level += 1
        length = item.shape[-1] if item.op.kind == "scan" else 1
        self.ends.append((level, length, results // length, item.lines // length))
        block, costs = item.out.block, self.costs
        self.block[block] = max(self.block[block], level + length - 1)
        one = item.op.lines if isinstance(item, Joint) else length + (n // max(results, 1) - 1).bit_length()
        time += call_seconds(item, costs) + costs.line * one
        self.work += call_seconds(item, costs) + line_seconds(item, costs) * item.lines
        if time > self.time[block] or self.writer[block][0] < 0:
            self.time[block], self.writer[block] = time, (index, *source)

    def _of(self, ref: Operand, shape: tuple[int, ...]) -> tuple[int, float, tuple[int, int]]:
        """The highest level among an operand's nodes, when the latest is there, and (block, node) of that."""
        reads = self.reads
        if isinstance(ref, Affine):
            if not reads.scalar[ref.block]:
                return int(self.block[ref.block]), float(self.time[ref.block]), (ref.block, -1)
            ids = ref_ids(ref, int(reads.first[ref.block]), shape)
        else:
            assert isinstance(ref, Indexed)
            ids = np.ravel(ref.ids)
        level, when = self._each(ids)
        latest = int(when.argmax())
        return int(level.max()), float(when[latest]), (int(reads.block_of(ids[latest:latest + 1])[0]), int(ids[latest]))

    def _each(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Levels of nodes, and when they are there."""
        block = self.reads.block_of(ids)
        level, when = self.block[block], self.time[block]
        alone = self.reads.scalar[block]
        if alone.any():
            place = self.reads.place(ids[alone])
            level[alone], when[alone] = self.level[place], self.when[place]
        return level, when

    def of_run(self, item: ScalarRun) -> tuple[np.ndarray, ...]:
        """(level, time, entry, length, uses, last) of a run's lines, see `kernels.structure.walk`."""
        known = self.reads.outside(item.block)
        return walked(item, int(self.reads.first[item.block]), known, *self._each(known), self.costs.run_line)

    def _run(self, item: ScalarRun, live: LiveWidth) -> None:
        n, b, reads = item.lines, item.block, self.reads
        if not n:
            return
        known, out, first = np.append(reads.outside(b), -1), reads.exposed(b), int(reads.first[b])
        found = self.lines.seen(item, Around(
            first, *self._each(known[:-1]), *self.steps_of(known[:-1]), self.costs.run_line,
            *reads.read_of(b), *live.around(first, n), self.middle))
        self.work += self.costs.run_line * n
        self.block[b], self.time[b] = found.level, found.time
        self.run_end[b] = int(known[found.entry]), found.length
        self.level[out], self.when[out] = found.levels, found.times
        self.entry[out], self.length[out] = known[found.entries], found.lengths
        self.step[b] = found.step
        self.steps[out], self.parts[out] = found.steps, found.parts
        self.used += found.used
        self.most_used = max(self.most_used, found.most_used)
        self.widest = max(self.widest, found.widest)
        self.narrowest = self.narrowest.or_this(found.narrowest, *self.middle)
        self.nonzeros += found.nonzeros

    def _array_uses(self) -> None:
        """Nodes of arrays that statements read count as read alike, as often as they are on average, so far as these
        statements reach; what only runs read is counted node by node.
        """
        single, reads = self.reads.single, self.reads
        flags = {item.out.block: prod(item.shape) * item.op.flags for item in self.tape.items if type(item) is Joint}
        for b, touches in enumerate(reads.touches):
            size = self.tape.blocks[b].size - flags.get(b, 0)
            if size <= 0 or reads.scalar[b]:
                continue
            here = reads.exposed(b)
            uses = single[here].uses.astype(np.int64)
            if touches:
                total = int(uses.sum()) + sum(touch.uses for touch in touches)
                reached = min(len(uses) + sum({touch.key: touch.nodes for touch in touches}.values()), size)
                often = total % reached  # so many once more than the others
                for each, nodes in ((0, size - reached), (total // reached, reached - often),
                                    (total // reached + 1, often)):
                    self.used[1 + max(each - 1, 0).bit_length() if each else 0] += nodes
            else:
                tally_uses(uses, self.used)
                self.used[0] += size - len(uses)
            most = sum(touch.uses // touch.nodes for touch in touches) + int(
                uses.max() if len(uses) else 0)
            self.most_used = max(self.most_used, most)

    @property
    def count(self) -> np.ndarray:
        """Lines of runs by level."""
        found = np.zeros(int(self.block.max(initial=0)) + 1, dtype=np.int64)
        for start in range(0, len(found), RUN_LINES):
            part = self.lines.by_level(start, min(start + RUN_LINES, len(found)))
            if part is not None:
                found[start:start + RUN_LINES] = part
        return found

    # -- all levels together -------------------------------------------------------------------------------------------

    def summary(self, bins: int = BINS) -> tuple[int, int, Narrowing, Profile]:
        """(depth, width, how levels narrow, the profile in so many bins)."""
        depth = int(self.block.max(initial=0))
        begin = [(level, nodes, lines) for level, _, nodes, lines in self.ends]
        end = [(level + levels, -nodes, -lines) for level, levels, nodes, lines in self.ends]
        edges = np.array(begin + end, dtype=np.int64).reshape(-1, 3)
        edges = edges[np.argsort(edges[:, 0], kind="stable")]
        bounds = np.unique(np.linspace(0, depth + 1, bins + 1).astype(np.int64))
        nodes_in, lines_in = np.zeros(len(bounds) - 1), np.zeros(len(bounds) - 1)
        width, narrowing, carried = 0, Narrowing(), np.zeros(2, dtype=np.int64)
        inputs = self.tape.n_inputs
        for start in range(0, depth + 1, RUN_LINES):  # in pieces: a chain has as many levels as lines
            stop = min(start + RUN_LINES, depth + 1)
            here = edges[slice(*np.searchsorted(edges[:, 0], [start, stop]))]
            change = np.zeros((2, stop - start), dtype=np.int64)
            np.add.at(change, (slice(None), here[:, 0] - start), here[:, 1:].T)
            change[:, 0] += carried
            count = np.cumsum(change, axis=1)
            carried = count[:, -1].copy()
            runs = self.lines.by_level(start, stop)
            if runs is not None:
                count += runs
            _into_bins(bounds, start, count, nodes_in, lines_in)
            nodes = count[0]
            width = max(width, int(nodes.max()))
            narrowing.add(nodes - inputs * (np.arange(start, stop) == 0))
        profile = Profile(*(tuple(int(x) for x in column) for column in (bounds, nodes_in, lines_in)))
        return depth, width, narrowing, profile

    def by_step(self) -> Steps:
        """What is counted by steps."""
        last, nodes, widest = int(self.step.max(initial=0)), 0, 0
        bounds = np.unique(np.linspace(1, last + 1, EIGHTHS + 1).astype(np.int64))  # on step 0 are functions of inputs
        parts = np.zeros(len(bounds) - 1)
        counted = np.array([pair for pairs in self.counts.values() for pair in pairs], dtype=np.int64).reshape(-1, 2)
        counted = counted[np.argsort(counted[:, 0], kind="stable")]
        for start in range(0, last + 1, RUN_LINES):
            stop = min(start + RUN_LINES, last + 1)
            here = counted[slice(*np.searchsorted(counted[:, 0], [start, stop]))]
            count = np.bincount(here[:, 0] - start, here[:, 1], minlength=stop - start).astype(np.int64)
            runs = self.lines.by_level(start, stop, "steps")
            if runs is not None:
                count += runs
            nodes, widest = nodes + int(count.sum()), max(widest, int(count.max()))
            first = max(1 - start, 0)
            if len(parts) and first < len(count):
                _into_bins(bounds, start + first, count[None, first:], parts)
        low, high = (int(bounds[1]), int(bounds[-2])) if len(bounds) > 3 else (1, last + 1)
        within = parts[1:-1] if len(bounds) > 3 else parts
        return Steps(last, nodes, widest, float((parts / np.diff(bounds)).min(initial=np.inf)),
                     float(within.sum()) / max(high - low, 1), low - 1, high - 1)

    def path(self, sites: int = 3) -> Path:
        """The critical path, found backwards from the node that is there last."""
        span = float(self.time.max(initial=0.0))
        statements, scalar, at = 0, 0, Counter[str]()
        for step in self._backwards():
            if step.index < 0:
                scalar += step.lines
                at["scalar lines"] += self.costs.run_line * step.lines
                continue
            item = self.tape.items[step.index]
            assert not isinstance(item, ScalarRun)
            statements += 1
            at[str(self.tape.sites[item.site]) if item.site >= 0 else item.op.name] += step.end - step.begin
        shares = tuple((name, cost / span) for name, cost in at.most_common(sites)) if span else ()
        return Path(span, self.work, statements, scalar, shares)

    def trail(self) -> tuple[np.ndarray, np.ndarray]:
        """(nodes of the tape, when they are there) along the critical path, in its order; of a stretch of scalar lines
        the first and the last.
        """
        points: list[tuple[int, float]] = []
        for step in self._backwards():
            points += [(step.last, step.end), (step.first, step.begin)]
        nodes, when = zip(*points[::-1]) if points else ((), ())
        return np.array(nodes, dtype=np.int64), np.array(when)

    def _backwards(self) -> Iterator[Step]:
        """The steps of the critical path, the last one first."""
        block, node, reads = int(self.time.argmax()) if len(self.time) else -1, -1, self.reads
        while block >= 0:
            end = self._when(block, node)
            if reads.scalar[block]:
                place = int(reads.place(np.array([node]))[0]) if node >= 0 else -1
                last = node if node >= 0 else int(reads.last[block])
                node, lines = (int(self.entry[place]), int(self.length[place])) if node >= 0 else self.run_end[block]
                yield Step(-1, int(reads.first[block]), last, end - self.costs.run_line * lines, end, lines)
                block = int(reads.block_of(np.array([node]))[0]) if node >= 0 else -1
                continue
            index, source, node = self.writer[block]
            if index < 0:
                break
            before = 0.0 if source < 0 else self._when(source, node)
            yield Step(index, int(reads.first[block]), int(reads.last[block]), before, end, 0)
            block = source

    def _when(self, block: int, node: int) -> float:
        return float(self._each(np.array([node]))[1][0]) if node >= 0 else float(self.time[block])


def _into_bins(bounds: np.ndarray, start: int, count: np.ndarray, *bins: np.ndarray) -> None:
    """Adds up the rows of count, levels from `start` on, by the bins between bounds."""
    stop = start + count.shape[1]
    low = int(np.searchsorted(bounds, start, side="right")) - 1
    high = int(np.searchsorted(bounds, stop, side="left"))
    edges = np.maximum(bounds[low:high], start) - start
    for bin_, row in zip(bins, count):
        bin_[low:high] += np.add.reduceat(row, edges)


__all__ = ["Levels", "Path", "Profile", "Steps", "Uses"]
