"""Connected components: weak ones of tapes, strong ones of systems of rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from ..kernels.structure import join_pairs, strong
from ..ops import COPY
from ..tape import Affine, Indexed, Joint, Operand, ScalarRun, Statement, Tape, Vector, c_strides
from .lines import Here, Lines
from .reads import EMPTY, Reads, ref_ids


def weak_components(tape: Tape, reads: Reads, through_inputs: bool = True, lines: Lines | None = None) -> int:
    """How many parts of a tape have nothing to do with each other; array blocks are units, but for those whose elements
    each go a way of their own, as in sin(x) ** 2: as many parts as elements.

    through_inputs=False: what only reads the same inputs is not connected, and inputs count nothing.  lines: where runs
    are looked at; None: here.
    """
    lines = lines or Here(reads)
    blocks, single = len(tape.blocks), reads.single.ids
    block = reads.block_of(single)
    element = np.where(reads.scalar[block], blocks + np.arange(len(single)), block)  # array blocks, then nodes of runs
    joins = through_inputs | ~reads.leaf
    x, y, inside = [EMPTY], [EMPTY], 0
    pairs: set[tuple[int, int]] = set()  # of array blocks
    apart = ~reads.scalar  # whose elements each go a way of their own
    laid = _laid_side_by_side(tape, reads)
    for item in tape.items:
        if isinstance(item, ScalarRun):
            read = reads.block_of(reads.of_run[item.block].ids)
            apart[read[joins[read]]] = False
            found, alone = _join_run(item, reads, element, joins, lines)
            x.append(found[0])
            y.append(found[1])
            inside += alone
            continue
        if laid[item.out.block]:
            continue
        one_by_one = _elementwise(item, tape)
        for k, ref in enumerate(item.operands if 0 not in item.shape else ()):
            if not (one_by_one and isinstance(ref, Affine) and _covers(ref, item.shape, tape)):
                apart[_joined(ref, reads, joins)] = False
                apart[item.out.block] &= one_by_one and not len(_joined(ref, reads, joins))
            if isinstance(ref, Affine) and not reads.scalar[ref.block]:
                if joins[ref.block]:
                    pairs.add((ref.block, item.out.block))
                continue
            elif isinstance(ref, Affine):
                ids = ref_ids(ref, int(reads.first[ref.block]), item.operand_shape(k))
                joined = element[reads.place(ids)]
            elif isinstance(ref, Indexed):
                ids = np.ravel(ref.ids)
                whose = reads.block_of(ids)
                alone = reads.scalar[whose]
                joined = np.unique(np.concatenate([whose[~alone], element[reads.place(ids[alone])]]))
            else:
                continue
            joined = joined[(joined >= blocks) | joins[np.minimum(joined, blocks - 1)]]
            x.append(joined)
            y.append(np.full(len(joined), item.out.block))
    for column, values in zip((x, y), np.array(list(pairs), dtype=np.int64).reshape(-1, 2).T):
        column.append(values)
    root = np.arange(blocks + len(single))
    join_pairs(np.concatenate(x), np.concatenate(y), root)
    sizes = reads.last - reads.first + 1
    exists = np.concatenate([(sizes > 0) & ~reads.scalar & joins & ~laid, reads.scalar[block]])
    found, at = np.unique(root[:blocks][exists[:blocks] & apart], return_index=True)
    together = np.unique(root[exists & ~np.append(apart, np.zeros(len(single), dtype=bool))])
    elements = sizes[exists[:blocks] & apart][at][~np.isin(found, together)]
    return inside + len(np.unique(root[exists])) + int((elements - 1).sum())


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


def _elementwise(item: Vector, tape: Tape) -> bool:
    """Whether every element of a statement's block is computed by itself."""
    return type(item) is Statement and item.op.kind == "elementwise" and not item.reduced and (
        _covers(item.out, item.shape, tape))


def _covers(ref: Affine, shape: tuple[int, ...], tape: Tape) -> bool:
    """Whether a reference goes through all of a block, in order."""
    return ref.offset == 0 and prod(shape) == tape.blocks[ref.block].size and all(
        n == 1 or stride == whole for n, stride, whole in zip(shape, ref.strides, c_strides(shape)))


def _joined(ref: Operand, reads: Reads, joins: np.ndarray) -> np.ndarray:
    """The blocks of an operand that connect what reads them."""
    if isinstance(ref, Affine):
        blocks = np.array([ref.block])
    else:
        blocks = np.unique(reads.block_of(np.ravel(ref.ids))) if isinstance(ref, Indexed) else EMPTY
    return blocks[joins[blocks]]


def _join_run(run: ScalarRun, reads: Reads, element: np.ndarray, joins: np.ndarray,
              lines: Lines) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """(elements that a run connects, how many of its components touch none of them)."""
    known, out = reads.outside(run.block), reads.exposed(run.block)
    joining = joins[reads.block_of(known)]
    x, y, alone = lines.joined(run, reads.read_of(run.block)[0], joining)
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


__all__ = ["Cycles", "Strong", "cycles", "strong_components", "weak_components"]
