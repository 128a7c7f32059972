"""Connected components: weak ones of tapes, strong ones of systems of rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from ..kernels.structure import join_pairs, strong
from ..ops import COPY
from ..tape import Affine, Const, Joint, ScalarRun, Statement, Tape, Vector, c_strides
from .levels import Levels
from .lines import Between, Here, Lines
from .reads import EMPTY, Reads, ref_ids


class Middle(NamedTuple):
    """The nodes whose steps are first < step <= last, by the levels of their tape."""

    levels: Levels
    first: int
    last: int

    def has(self, step: np.ndarray) -> np.ndarray:
        return (step > self.first) & (step <= self.last)

    def lines(self, block: int) -> Between:
        """Those of a run."""
        reads = self.levels.reads
        return Between(self.first, self.last, *self.levels.steps_of(reads.outside(block)), reads.read_of(block)[1])


def weak_components(tape: Tape, reads: Reads, through_inputs: bool = True, lines: Lines | None = None,
                    middle: Middle | None = None) -> int:
    """How many parts of a tape have nothing to do with each other; array blocks are units, but for those whose elements
    each go a way of their own, as in sin(x) ** 2, or whose entries along the first axis do, or along the last
    (`_ways`): as many parts as these.

    through_inputs=False: what only reads the same inputs is not connected, and inputs count nothing.  lines: where runs
    are looked at; None: here.  middle: other nodes count nothing either, and connect nothing.
    """
    lines = lines or Here(reads)
    blocks, single = len(tape.blocks), reads.single.ids
    block = reads.block_of(single)
    element = np.where(reads.scalar[block], blocks + np.arange(len(single)), block)  # array blocks, then nodes of runs
    counts, one_by_one_counts = np.ones(blocks, dtype=bool), np.ones(len(single), dtype=bool)
    if middle is not None:
        counts, one_by_one_counts = reads.scalar | middle.has(middle.levels.step), middle.has(middle.levels.steps)
    joins = (through_inputs | ~reads.leaf) & counts
    x, y, inside = [EMPTY], [EMPTY], 0
    pairs: set[tuple[int, int]] = set()  # of array blocks
    apart = np.repeat(~reads.scalar[None], WAYS, axis=0)  # whose elements, or entries, each go a way of their own
    laid = _laid_side_by_side(tape, reads)
    for item in tape.items:
        if isinstance(item, ScalarRun):
            read = reads.block_of(reads.of_run[item.block].ids)
            apart[:, read[joins[read]]] = False
            found, alone = _join_run(item, reads, element, joins, one_by_one_counts, lines, middle)
            x.append(found[0])
            y.append(found[1])
            inside += alone
            continue
        if laid[item.out.block] or not counts[item.out.block]:
            continue
        ways = _ways_of(item, tape)
        for k, ref in enumerate(item.operands if 0 not in item.shape else ()):
            if isinstance(ref, Const):
                continue
            whole = isinstance(ref, Affine) and not reads.scalar[ref.block]
            if whole:
                read = nodes = np.array([ref.block])
            else:
                ids = (ref_ids(ref, int(reads.first[ref.block]), item.operand_shape(k)) if isinstance(ref, Affine)
                       else np.ravel(ref.ids))
                whose = reads.block_of(ids)
                alone = reads.scalar[whose]
                place = reads.place(ids[alone])
                place = place[one_by_one_counts[place]]
                read = nodes = np.unique(whose[~alone])
                if len(place):
                    read = np.append(read, whose[alone][:1])
                    nodes = np.append(nodes, element[place])
            connects = bool(joins[read].any())
            theirs = _ways(ref, item.operand_shape(k), tape) if whole else NO_WAY
            for way, (ours, axis) in enumerate(zip(ways, theirs)):
                if ours is None or ours != axis:
                    apart[way, read[joins[read]]] = False
                    apart[way, item.out.block] &= ours is not None and not connects
            if whole and connects:
                pairs.add((ref.block, item.out.block))
            elif not whole:
                nodes = nodes[(nodes >= blocks) | joins[np.minimum(nodes, blocks - 1)]]
                x.append(nodes)
                y.append(np.full(len(nodes), item.out.block))
    for column, values in zip((x, y), np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T):
        column.append(values)
    root = np.arange(blocks + len(single))
    join_pairs(np.concatenate(x), np.concatenate(y), root)
    arrays = (reads.last >= reads.first) & ~reads.scalar & joins & ~laid
    nodes = reads.scalar[block] & one_by_one_counts
    found, whose = np.unique(root[np.append(arrays, nodes)], return_inverse=True)
    whose, entries = whose[:np.count_nonzero(arrays)], _entries(tape)[:, arrays]
    parts = np.ones(len(found), dtype=np.int64)
    for mine, count in zip(apart[:, arrays], entries):
        least, most = np.full(len(found), np.iinfo(np.int64).max), np.zeros(len(found), dtype=np.int64)
        np.minimum.at(least, whose, np.where(mine, count, 1))
        np.maximum.at(most, whose, np.where(mine, count, 1))
        parts = np.where(least == most, np.maximum(parts, most), parts)
    with_nodes = np.isin(found, root[blocks:][nodes])
    return inside + int(np.where(with_nodes, 1, parts).sum())


def _laid_side_by_side(tape: Tape, reads: Reads) -> np.ndarray:
    """Which blocks are results that were computed elsewhere: copies that nothing reads, of a stack of numbers say."""
    copies = ~reads.leaf & ~reads.scalar
    for item in tape.items:
        if not isinstance(item, ScalarRun) and not (
                type(item) is Statement and item.op is COPY and not item.reduced):
            copies[item.out.block] = False
    for b in np.flatnonzero(copies):
        here = reads.exposed(b)
        copies[b] = not reads.touches[b] and here.start >= here.stop
    return copies


WAYS = 3  # in which a block may fall into parts: its elements, its entries along the first axis, those along the last
ALL = -1
NO_WAY = (None,) * WAYS


def _entries(tape: Tape) -> np.ndarray:
    """How many parts every block falls into, by way."""
    return np.array([(b.size, *((b.shape[0], b.shape[-1]) if b.shape else (1, 1))) for b in tape.blocks],
                    dtype=np.int64).reshape(-1, WAYS).T


def _ways_of(item: Vector, tape: Tape) -> tuple[int | None, ...]:
    """By way, the axis of a statement along which each part of its block is computed by itself (ALL: of elements)."""
    whole, *axes = _ways(item.out, item.out_shape, tape)
    if type(item) is not Statement:
        return None, *(None if axis is None or axis >= len(item.shape) else axis for axis in axes)
    if item.op.kind == "scan":
        return None, *(None if axis == len(item.shape) - 1 else axis for axis in axes)
    return whole if item.op.kind == "elementwise" and not item.reduced else None, *axes


def _ways(ref: Affine, shape: tuple[int, ...], tape: Tape) -> tuple[int | None, ...]:
    """By way, the axis along which a reference goes from part to part of its block, touching one at a time; or None."""
    block = tape.blocks[ref.block]
    whole = ALL if _covers(ref, shape, tape) else None
    if not block.shape or 0 in shape or min(ref.strides, default=0) < 0:
        return whole, None, None
    n, m = block.shape[0], block.shape[-1]
    row, first, last = block.size // n, None, None
    for axis, (extent, stride) in enumerate(zip(shape, ref.strides)):
        others = [(e, s) for k, (e, s) in enumerate(zip(shape, ref.strides)) if k != axis]
        if extent == n and stride == row and ref.offset + sum((e - 1) * s for e, s in others) < row:
            first = axis
        if extent == m and stride == 1 and not any(place % m for place in (ref.offset, *(s for _, s in others))):
            last = axis
    return whole, first, last


def _covers(ref: Affine, shape: tuple[int, ...], tape: Tape) -> bool:
    """Whether a reference goes through all of a block, in order."""
    return ref.offset == 0 and prod(shape) == tape.blocks[ref.block].size and all(
        n == 1 or stride == whole for n, stride, whole in zip(shape, ref.strides, c_strides(shape)))


def _join_run(run: ScalarRun, reads: Reads, element: np.ndarray, joins: np.ndarray, counts: np.ndarray,
              lines: Lines, middle: Middle | None) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """(elements that a run connects, how many of its components touch none of them)."""
    known, out = reads.outside(run.block), reads.exposed(run.block)
    block = reads.block_of(known)
    joining = joins[block] & (~reads.scalar[block] | counts[reads.place(known)])
    x, y, alone = lines.joined(run, reads.read_of(run.block)[0], joining,
                               None if middle is None else middle.lines(run.block))
    which = np.concatenate([element[out], element[reads.place(known[joining])]])
    return (which[x], which[y]), alone


class Strong(NamedTuple):
    """Strongly connected components of rows, each depending only on those with smaller numbers."""

    component: np.ndarray  # of every row
    sizes: np.ndarray

    @property
    def cycles(self) -> int:
        """Components of more than one row."""
        return int(np.count_nonzero(self.sizes > 1))


def strong_components(indptr: np.ndarray, indices: np.ndarray) -> Strong:
    """The strongly connected components of the system whose row i reads the columns indices[indptr[i]:indptr[i + 1]].

    Of a triangular system every row is one by itself.  A diagonal entry is no cycle.
    """
    component = np.full(len(indptr) - 1, -1, dtype=np.int64)
    count = strong(np.asarray(indptr, dtype=np.int64), indices, component)
    return Strong(component, np.bincount(component, minlength=count))


@dataclass(frozen=True)
class Cycles:
    """Strongly connected components of more than one row of I - L: unknowns of an equation (`dd.implicit`) that depend
    on each other.  All other rows are components of their own; an equation point by point has none but these.
    """

    count: int
    largest: int  # rows of the largest
    rows: int  # of all of them
    lines: int  # flattened lines of the equations that they are in, by their part of the unknowns


def cycles(tape: Tape) -> Cycles:
    """The cycles of a tape: of each of its equations by itself, for a statement reads only what is before it."""
    count = largest = rows = 0
    lines = 0.0
    for item in tape.items:
        if type(item) is Joint and item.op.implicit:
            sizes = item.op.cycles
            count += len(sizes)
            largest = max(largest, int(sizes.max(initial=0)))
            rows += int(sizes.sum())
            lines += item.lines * float(sizes.sum()) / (item.op.size - item.op.flags)
    return Cycles(count, largest, rows, round(lines))


__all__ = ["Cycles", "Middle", "Strong", "cycles", "strong_components", "weak_components"]
