"""Where I - L has its entries: counted into at most a few hundred bins a side, whatever its size.

    count[i, j] = number of entries in rows [i w, (i + 1) w) and columns [j w, (j + 1) w)

Of an array statement the entries of an operand lie on a straight line for every line of its iteration space, so they
are counted by where that line crosses from bin to bin: a statement costs microseconds, however many lines it stands
for.  Scalar lines and index arrays are counted one by one, in compiled loops.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..comm import on_root
from ..graph import ACTIVE
from ..kernels.structure import tally_cells
from ..system import TriangularSystem
from ..tape import Affine, Const, Indexed, Joint, ScalarRun, Tape, Vector
from .sections import Section, sections
from .subject import Subject

BINS = 240  # a side
CHUNK = 1 << 20  # of numbers worked on at once


@dataclass(frozen=True)
class Sparsity:
    """Counted entries in rows and columns first, ..., first + n - 1, `width` of each a bin."""

    first: int
    n: int
    nonzeros: int
    width: int
    count: np.ndarray  # (bins, bins)


@dataclass(frozen=True)
class Spy:
    """The flattened program's I - L, and what elimination leaves of it to be assembled."""

    program: Sparsity
    closer: Sparsity | None  # a few statements in its middle; None: they are most of the program
    kept: Sparsity | None  # None: not assembled, for it would take too much memory
    sections: tuple[Section, ...]
    operations: tuple[Section, ...]  # what computes the lines of `closer`
    implicit: bool  # whether there are implicit statements
    rank_rows: tuple[int, ...]  # where each rank's rows begin in `kept`, and the end

    @property
    def panels(self) -> int:
        """How many matrices there are to see."""
        return 1 + (self.closer is not None) + (self.kept is not None)


def spy(subject: Subject, bins: int = BINS) -> Spy:
    """Count the entries of both matrices.  Collective."""
    tape = subject.tape
    program, closer, along, operations, implicit = on_root(subject.comm, lambda: _of_program(tape, bins))
    with subject.system() as system:
        kept = None if system is None else of_system(system, bins)
        ends = () if system is None else tuple(np.cumsum([0, *system.comm.allgather(system.n_local)]).tolist())
    return Spy(program, closer, kept, along, operations, implicit, ends)


def _of_program(tape: Tape, bins: int) -> tuple[Any, ...]:
    """What `Spy` says of the program, all but the last of it."""
    window = middle(tape)
    closer = of_tape(tape, bins, *window) if 2 * (window[1] - window[0]) <= tape.n_nodes else None
    implicit = any(isinstance(item, Joint) and item.op.implicit for item in tape.items)
    return (of_tape(tape, bins), closer, tuple(sections(tape)), tuple(_operations(tape, *window)) if closer else (),
            implicit)


def of_tape(tape: Tape, bins: int = BINS, low: int = 0, high: int | None = None) -> Sparsity:
    """I - L of a tape, one row a node, or the part of it with low <= row, column < high.  An extremum, which reads one
    of its candidates, is an equal share of each.
    """
    count = _Count(low, tape.n_nodes if high is None else high, bins)
    diagonal = np.arange(count.bins)
    count.cells[diagonal, diagonal] += np.minimum((diagonal + 1) * count.width, count.n) - diagonal * count.width
    for item in tape.items:
        block = tape.blocks[item.block if isinstance(item, ScalarRun) else item.out.block]
        if block.first >= count.high or block.first + block.size <= low:
            continue
        if isinstance(item, ScalarRun):
            count.run(item, block.first)
        elif 0 not in item.shape:
            count.statement(tape, item)
    return Sparsity(low, count.n, round(float(count.cells.sum())), count.width, count.cells)


def middle(tape: Tape, statements: int = 24, lines: int = 240) -> tuple[int, int]:
    """[low, high): nodes of so many statements around the middle of the trace, or of so many scalar lines."""
    runs = {item.block for item in tape.items if isinstance(item, ScalarRun)}
    centre, blocks = tape.n_nodes // 2, tape.blocks
    first = np.array([block.first for block in blocks], dtype=np.int64)
    block = int(np.searchsorted(first, centre, side="right")) - 1
    if block < 0 or block in runs:
        low = max(centre - lines // 2, 0)
        return low, min(low + lines, tape.n_nodes)
    low = high = block
    while low > 0 and block - low < statements // 2 and low - 1 not in runs:
        low -= 1
    while high + 1 < len(blocks) and high - low + 1 < statements and high + 1 not in runs:
        high += 1
    return blocks[low].first, blocks[high].first + blocks[high].size


def _operations(tape: Tape, low: int, high: int) -> list[Section]:
    """What computes the arrays between two nodes."""
    found: dict[int, Section] = {}
    for item in tape.items:
        if not isinstance(item, ScalarRun):
            first, size = tape.blocks[item.out.block].first, tape.blocks[item.out.block].size
            if low <= first < high and size:
                found.setdefault(item.out.block, Section(first, first + size, item.op.name))
    return list(found.values())


def of_system(system: TriangularSystem, bins: int = BINS) -> Sparsity:
    """The assembled system, its rows numbered rank after rank.  Collective."""
    count = _Count(0, system.n_rows, bins)
    for rows, number in ((system.own, system.first_row + np.arange(system.n_local)),
                         (system.ghost, system.ghost_columns)):
        for start in range(0, system.n_local, CHUNK):
            stop = min(start + CHUNK, system.n_local)
            lo, hi = int(rows.indptr[start]), int(rows.indptr[stop])
            row = np.repeat(system.first_row + np.arange(start, stop), np.diff(rows.indptr[start:stop + 1]))
            count.pairs(row, number[rows.indices[lo:hi]], 1.0)
    total = np.empty_like(count.cells)
    system.comm.Allreduce(count.cells, total)
    return Sparsity(0, system.n_rows, round(float(total.sum())), count.width, total)


class _Count:
    """Entries with low <= row, column < high by bin, `cells`, as they are told; others are not counted."""

    def __init__(self, low: int, high: int, bins: int) -> None:
        self.low, self.high, self.n = low, high, high - low
        self.width = max(-(-self.n // bins), 1)
        self.bins = -(-self.n // self.width)
        self.cells = np.zeros((self.bins, self.bins))

    def run(self, item: ScalarRun, first: int) -> None:
        part = slice(max(self.low - first, 0), max(self.high - first, 0))
        lines = np.zeros(self.cells.shape, dtype=np.int64)
        tally_cells(item.op[part], item.a[part], item.b[part], ACTIVE, first + part.start, self.low, self.high,
                    self.width, lines)
        self.cells += lines

    def statement(self, tape: Tape, item: Vector) -> None:
        first = tape.blocks[item.out.block].first + item.out.offset
        if isinstance(item, Joint):
            for k in item.active:
                self._joint(tape, item, k, first)
            return
        weight = 1.0
        if item.op.kind == "select":
            weight = prod(n for n, s in zip(item.shape, item.out.strides) if s or n == 1) / prod(item.shape)
        for ref, partial in zip(item.operands, item.op.partials):
            if partial is not None:
                self._operand(tape, item.shape, first, item.out.strides, ref, weight)
        if item.op.kind == "scan":
            shape, strides = (*item.shape[:-1], item.shape[-1] - 1), item.out.strides
            self.box(shape, first + strides[-1], strides, first, strides, 1.0)

    def _joint(self, tape: Tape, item: Joint, k: int, first: int) -> None:
        """The core's results by the core's operands, at every loop index, all of them alike where no pattern is known
        to be sparse."""
        core, ref, loop = item.core(k), item.operands[k], len(item.shape)
        pattern = item.op.pattern(k)
        if pattern is not None and not loop and not isinstance(ref, Const):
            self.pairs(first + pattern[0] * item.out.strides[-1],
                       np.ravel(tape.ids(ref, core))[pattern[1]], 1.0)
            return
        shape = (*item.shape, item.op.size, *core)
        rows = (*item.out.strides, *(0,) * len(core))
        weight = item.op.count(k) / max(item.op.size * prod(core), 1)
        if isinstance(ref, Affine):
            ref = Affine(ref.block, ref.offset, (*ref.strides[:loop], 0, *ref.strides[loop:]))
        elif isinstance(ref, Indexed):
            ids = ref.ids.reshape((*item.shape, 1, *core))
            ref = Indexed(np.broadcast_to(ids, shape))
        self._operand(tape, shape, first, rows, ref, weight)

    def _operand(self, tape: Tape, shape: tuple[int, ...], first: int, strides: tuple[int, ...], ref: object,
                 weight: float) -> None:
        if isinstance(ref, Affine):
            self.box(shape, first, strides, tape.blocks[ref.block].first + ref.offset, ref.strides, weight)
        elif isinstance(ref, Indexed):
            step = max(1, CHUNK // max(prod(shape[1:]), 1))
            for start in range(0, shape[0] if shape else 1, step):
                ids = ref.ids[start:start + step] if shape else ref.ids
                begin = first + start * strides[0] if shape else first
                self.pairs(np.ravel(Affine(0, 0, strides).ids(begin, np.shape(ids))), np.ravel(ids), weight)

    def pairs(self, rows: np.ndarray, columns: np.ndarray, weight: float | np.ndarray) -> None:
        """Entries one by one, of so much weight each."""
        self._cells(rows - self.low, columns - self.low, weight)

    def _cells(self, rows: np.ndarray, columns: np.ndarray, weight: float | np.ndarray) -> None:
        """The same, rows and columns counted from `low`."""
        inside = (rows >= 0) & (rows < self.n) & (columns >= 0) & (columns < self.n)
        if not inside.all():
            rows, columns = rows[inside], columns[inside]
            weight = weight if np.ndim(weight) == 0 else np.asarray(weight)[inside]
        at = (rows // self.width) * self.bins + columns // self.width
        if len(at) < self.bins:
            np.add.at(self.cells.reshape(-1), at, weight)
        else:
            weights = None if np.ndim(weight) == 0 else weight
            scale = weight if weights is None else 1.0
            self.cells += scale * np.bincount(at, weights, minlength=self.bins**2).reshape(self.cells.shape)

    def box(self, shape: tuple[int, ...], row: int, row_strides: tuple[int, ...], column: int,
            column_strides: tuple[int, ...], weight: float) -> None:
        """The entries (row + sum_k i_k r_k, column + sum_k i_k c_k) for all i over the shape."""
        if 0 in shape:
            return
        row, column = row - self.low, column - self.low
        axes = _merged(shape, row_strides, column_strides)
        reach = [[sum(min((n - 1) * s, 0) for n, s in side), sum(max((n - 1) * s, 0) for n, s in side)]
                 for side in ([(n, r) for n, r, _ in axes], [(n, c) for n, _, c in axes])]
        (top, bottom), (left, right) = (((at + low) // self.width, (at + high) // self.width)
                                        for at, (low, high) in zip((row, column), reach))
        if min(bottom, right) < 0 or max(top, left) >= self.bins:
            return
        if top == bottom and left == right:  # the whole of a bin is inside, but for the last one's end
            if (top + 1) * self.width <= self.n and (left + 1) * self.width <= self.n:
                self.cells[top, left] += weight * prod(shape)
                return
        axes.sort()  # the longest last: it is the one that is not walked along
        n, r, c = axes.pop()
        starts = np.array([[row], [column]], dtype=np.int64)
        for extent, *steps in axes:
            starts = (starts[:, :, None] + np.array(steps)[:, None, None] * np.arange(extent)).reshape(2, -1)
        crossings = [abs(step) * (n - 1) // self.width + 1 if step else 0 for step in (r, c)]
        each = n if sum(crossings) >= n else sum(crossings) + 2
        size = max(1, CHUNK // each)
        for begin in range(0, starts.shape[1], size):
            part = starts[:, begin:begin + size]
            if each == n:
                steps = np.arange(n)
                self._cells(np.ravel(part[0, :, None] + r * steps), np.ravel(part[1, :, None] + c * steps), weight)
            else:
                self._lines(n, r, c, crossings, part, weight)

    def _lines(self, n: int, r: int, c: int, crossings: list[int], starts: np.ndarray, weight: float) -> None:
        """Straight lines of n entries each, cut where they cross from bin to bin."""
        cuts = [np.zeros((starts.shape[1], 1), dtype=np.int64), np.full((starts.shape[1], 1), n)]
        for start, step, count in zip(starts, (r, c), crossings):
            if not step:
                continue
            bin_ = (start // self.width)[:, None]
            k = np.arange(count)
            if step > 0:  # the first i with start + step i >= border
                at = -((start[:, None] - (bin_ + 1 + k) * self.width) // step)
            else:  # the first i below the border
                at = (start[:, None] - (bin_ - k) * self.width) // -step + 1
            cuts.append(np.clip(at, 0, n))
        edges = np.sort(np.concatenate(cuts, axis=1), axis=1)
        begin, length = edges[:, :-1], np.diff(edges, axis=1)
        some = length > 0
        which = np.nonzero(some)[0]
        self._cells(starts[0, which] + r * begin[some], starts[1, which] + c * begin[some],
                    weight * length[some].astype(float))


def _merged(shape: tuple[int, ...], rows: tuple[int, ...], columns: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(length, row stride, column stride) of the axes, consecutive ones that are walked through alike as one."""
    axes: list[tuple[int, int, int]] = []
    for n, r, c in zip(shape, rows, columns):
        if n == 1:
            continue
        if axes and axes[-1][1:] == (n * r, n * c):
            axes[-1] = (axes[-1][0] * n, r, c)
        else:
            axes.append((n, r, c))
    return axes or [(1, 0, 0)]


__all__ = ["Sparsity", "Spy", "of_system", "of_tape", "spy"]
