"""Connected components: weak ones of tapes, strong ones of systems of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..kernels.structure import join_pairs, strong
from ..tape import Affine, Indexed, Joint, ScalarRun, Tape
from .lines import Here, Lines
from .reads import EMPTY, Reads, ref_ids


def weak_components(tape: Tape, reads: Reads, through_inputs: bool = True, lines: Lines | None = None) -> int:
    """How many parts of a tape have nothing to do with each other; array blocks are units.

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
    for item in tape.items:
        if isinstance(item, ScalarRun):
            found, alone = _join_run(item, reads, element, joins, lines)
            x.append(found[0])
            y.append(found[1])
            inside += alone
            continue
        for k, ref in enumerate(item.operands if 0 not in item.shape else ()):
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
    exists = np.concatenate([(sizes > 0) & ~reads.scalar & joins, reads.scalar[block]])
    return inside + len(np.unique(root[exists]))


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
