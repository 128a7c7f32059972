"""Long scalar code in another order: what a rank computes between two exchanges stands together.

Loops that are run again and again, a step of time for all particles, a pass over all samples for a new guess, can't be
cut where they stand: every stretch of their trace waits for the one before it.  Here every wide level of the program
is cut into equal parts, in the order of the trace, so a rank has the same particles, or samples, each time, whichever
loop is the inner one; and the lines are written down anew, by superstep and rank.  A run of the new tape then lies on
one rank as a whole, in one superstep, and nothing is held a line by anybody.

    lines so far ... 1 2 3 4 5 6 | 1 2 3 4 5 6 | ...      a rank's lines   1 2 3 1 2 3 ... and 4 5 6 4 5 6 ...

Rank 0 goes over the lines four times, a run at a time, and a fifth time to write them; it holds 12 bytes a line
meanwhile (levels, owners, flags), then 9, the new lines, which go to their ranks as they would have.  Which lines run
at the same time is told by levels in which a chain of additions counts as one sum (`accumulators` makes it one a
stretch), as Kahn's order does; within a level the order of the trace is what keeps neighbours together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from ..graph import Reads
from ..kernels.sharing import (
    LATER,
    MANY,
    USES,
    count_readers,
    find_levels,
    find_places,
    find_steps,
    gather,
    share_levels,
)
from ..ops import ADD, SUBTRACT
from ..tape import RUN_LINES, Affine, Block, Const, Indexed, Item, Operand, ScalarRun, Tape, id_type
from ..tracing import memory
from .accumulators import MOST, Accumulators
from .plan import ARITY

WIDE = 4  # lines a rank from which a level is cut
SURELY = 8  # times as wide, over as many full runs, from which a section is taken to be wide all along
LEAST = 256  # lines, on average, of a piece that stays together; below, writing it down anew costs more than it saves
SECTION = 1 << 12  # ... and of the runs between two statements

CODES = ARITY, ADD.code, SUBTRACT.code
Lines = tuple[np.ndarray, np.ndarray, np.ndarray]  # operations and operands


class Piece(NamedTuple):
    """Lines low <= i < high of a section that one rank computes in one superstep."""

    low: int
    high: int
    rank: int
    step: int


@dataclass
class Section:
    """Runs that follow each other, and columns over their lines (see `kernels.sharing`)."""

    blocks: list[int]
    runs: list[ScalarRun]
    first: int
    starts: list[int]  # where the runs begin in it
    lines: int
    flags: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int16))
    owner: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int16))
    level: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    step: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    deepest: int = 0
    pieces: list[Piece] = field(default_factory=list)

    def share(self, ranks: int) -> bool:
        """Find the owners; False if the levels are too narrow to be cut."""
        self.level, self.flags = np.zeros(self.lines, dtype=np.int32), np.zeros(self.lines, dtype=np.int16)
        self.owner, self.step = np.zeros(self.lines, dtype=np.int16), np.full(self.lines, LATER, dtype=np.int32)
        level = self.level
        for run, start in zip(self.runs, self.starts):
            count_readers(run.op, run.a, run.b, *CODES, self.first, start, self.flags)
        for run, start in zip(self.runs, self.starts):
            self.deepest = max(self.deepest,
                               find_levels(run.op, run.a, run.b, ARITY, self.first, start, self.flags, level))
            if self.deepest * WIDE * ranks > self.lines:
                return False
        count, seen = np.zeros((2, self.deepest + 1), dtype=np.int64)
        for run, start in zip(reversed(self.runs), reversed(self.starts)):
            find_places(run.op, run.a, run.b, ARITY, self.first, start, self.flags, level, self.step,
                        count)
        last = 0
        for run, start in zip(self.runs, self.starts):
            last = share_levels(run.op, run.a, run.b, ARITY, self.first, start, self.flags, level, count, seen, ranks,
                                WIDE * ranks, last, self.owner)
        return True

    def cut(self, sums: Accumulators, ranks: int) -> None:
        """Find the supersteps and pieces, given where chains of additions start anew."""
        reached = np.zeros((ranks, self.deepest + 2), dtype=np.int32)
        anew, turned, end, parts = [], [], [], []
        for block, run in zip(self.blocks, self.runs):
            if sums.touches(block):
                found = sums.starts(block, run)
                anew += [node - self.first for node, _ in found]
                turned += [side for _, side in found]
                for node, links in sums.ends(block):
                    end.append(node - self.first)
                    parts.append([link - self.first for link in links if self.first <= link < self.first + self.lines])
        bounds = np.concatenate([[0], np.cumsum([len(links) for links in parts])]).astype(np.int64)
        columns = (np.array(anew, dtype=np.int64), np.array(turned, dtype=np.int64), np.array(end, dtype=np.int64),
                   bounds, np.array(sum(parts, []), dtype=np.int64))
        for run, start in zip(self.runs, self.starts):
            find_steps(run.op, run.a, run.b, ARITY, self.first, start, self.flags, self.level, self.owner, *columns,
                       reached, self.step)
        edges = _edges(self.owner) | _edges(self.step)
        edges[np.array(end, dtype=np.int64)] = True  # lines come in before
        low = np.flatnonzero(edges)
        self.pieces = [Piece(*row) for row in zip(low.tolist(), [*low[1:].tolist(), self.lines],
                                                  self.owner[low].tolist(), self.step[low].tolist())]
        self.flags, self.level, self.owner, self.step = (column[:0].copy() for column in (
            self.flags, self.level, self.owner, self.step))


def _edges(column: np.ndarray) -> np.ndarray:
    """Where entries differ from those before, and the first."""
    found = np.empty(len(column), dtype=np.bool_)
    found[:1] = True
    np.not_equal(column[1:], column[:-1], out=found[1:])
    return found


class Regrouping:
    """The lines of a tape's runs by rank and superstep, as `regroup` found them; `written` has them on a new tape."""

    def __init__(self, tape: Tape, sections: list[Section], sums: Accumulators, ranks: int) -> None:
        self.tape, self.sections, self.sums, self.ranks = tape, sections, sums, ranks

    @property
    def work(self) -> np.ndarray:
        """Lines by superstep (of all sections, one after another) and rank."""
        found = []
        for section in self.sections:
            lines = np.zeros((1 + max(piece.step for piece in section.pieces), self.ranks), dtype=np.int64)
            for piece in section.pieces:
                lines[piece.step, piece.rank] += piece.high - piece.low
            found.append(lines)
        return np.concatenate(found)

    def written(self) -> Regrouped:
        """The new tape.  The old one stays as it is."""
        return _Writer(self).result


def regroup(tape: Tape, reads: Reads, ranks: int, asked: bool = False) -> Regrouping | None:
    """How the tape's scalar runs are shared out level by level; None where that does not suit them, unless it is asked
    for.
    """
    sections = _sections(tape)
    lines = sum(section.lines for section in sections)
    if not sections or not asked and (
            lines < SECTION * len(sections) or any(_narrow(section, reads, ranks) for section in sections)):
        return None
    for section in sections:
        if not section.share(ranks):
            if not asked:
                return None
            section.owner[:] = section.level[:] = 0
    bounds = [0]
    for section in sections:
        bounds += (section.first + np.flatnonzero(_edges(section.owner))).tolist()
        bounds.append(section.first + section.lines)
    stretches = len(bounds)
    if not asked and stretches * LEAST > lines:
        return None
    sums = Accumulators(tape, reads, np.array([*bounds, tape.n_nodes + 1]), MOST * -(-stretches // ranks))
    for section in sections:
        section.cut(sums, ranks)
    if not asked and sum(len(section.pieces) for section in sections) * LEAST > lines:
        return None
    return Regrouping(tape, sections, sums, ranks)


def _narrow(section: Section, reads: Reads, ranks: int) -> bool:
    """Whether the levels are too narrow to be cut, as `share` would find, but with memory for a run and for what runs
    read of each other alone: chains, however long, are not to take anything a line.  Once they are wide by far, `share`
    is left to find out.
    """
    single, deepest = reads.single, 0
    level, flags = np.zeros(len(single.ids), dtype=np.int32), np.zeros(len(single.ids), dtype=np.int16)
    for block, run, start in zip(section.blocks, section.runs, section.starts):
        outside = reads.outside(block)
        outside = outside[np.searchsorted(outside, section.first):]
        n, first = len(outside), section.first + start
        a, b = (_from_outside(ids, first, outside) for ids in (run.a, run.b))
        known = reads.place(outside)
        levels, flagged = np.zeros(n + run.lines, dtype=np.int32), np.zeros(n + run.lines, dtype=np.int16)
        count_readers(run.op, a, b, *CODES, 0, n, flagged)
        levels[:n], flagged[:n] = level[known], flags[known]
        exposed = reads.exposed(block)
        here, uses = reads.read_of(block)
        here += n
        uses = np.minimum((flagged[here] & USES) + uses, MANY)
        flagged[here] = flagged[here] & ~USES | uses
        deepest = max(deepest, find_levels(run.op, a, b, ARITY, 0, n, flagged, levels))
        if deepest * WIDE * ranks > section.lines:
            return True
        if run.lines and SURELY * deepest * WIDE * ranks < start + run.lines >= SURELY * RUN_LINES:
            return False
        level[exposed], flags[exposed] = levels[here], flagged[here]
    return False


def _from_outside(ids: np.ndarray, first: int, outside: np.ndarray) -> np.ndarray:
    """Operands of a run that begins at node `first`, counted from 0: the nodes `outside` of it come before its lines;
    -1 for all others."""
    found = ids.astype(np.int64) - (first - len(outside))
    before = np.flatnonzero(ids < first)
    places = np.searchsorted(outside, ids[before])
    there = places < len(outside)
    there[there] = outside[places[there]] == ids[before][there]
    found[before] = np.where(there, places, -1)
    return found


def _sections(tape: Tape) -> list[Section]:
    found: list[Section] = []
    before: Item | None = None
    for item in tape.items:
        if isinstance(item, ScalarRun) and item.lines:
            first = tape.blocks[item.block].first
            if not found or before is not found[-1].runs[-1] or found[-1].first + found[-1].lines != first:
                found.append(Section([], [], first, [], 0))
            section = found[-1]
            section.blocks.append(item.block)
            section.runs.append(item)
            section.starts.append(section.lines)
            section.lines += item.lines
            before = item
        elif not isinstance(item, ScalarRun):
            before = item
    return found


class Run(NamedTuple):
    """Where a run of the new tape belongs, and what its lines read of others than that rank's runs, ascending."""

    rank: int
    step: int
    reads: np.ndarray


@dataclass
class Regrouped:
    """A tape that computes the same in another order.

    runs: by block of the new tape.  starts, shifts: old node j, starts[k] <= j < starts[k + 1], is j + shifts[k] there;
    lines that came in for sums have old numbers from the old tape's length on.
    """

    tape: Tape
    runs: dict[int, Run]
    starts: np.ndarray
    shifts: np.ndarray
    homes: np.ndarray  # who has these nodes; -1: no run

    def renumbered(self, ids: np.ndarray) -> np.ndarray:
        """Nodes of the old tape in the new one's numbers."""
        return ids + self.shifts[np.searchsorted(self.starts, ids, side="right") - 1]

    def rank_of(self, ids: np.ndarray) -> np.ndarray:
        """Who has nodes of the old tape; -1: no run."""
        return self.homes[np.searchsorted(self.starts, ids, side="right") - 1]

    def origins(self) -> Origins:
        """The way back."""
        starts, shifts = self.starts[:-1], self.shifts
        order = np.argsort(starts + shifts, kind="stable")
        return Origins((starts + shifts)[order], -shifts[order])


class Origins(NamedTuple):
    """New node j, starts[k] <= j < starts[k + 1], was j + shifts[k]."""

    starts: np.ndarray
    shifts: np.ndarray

    def within(self, first: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """The part of it for nodes first <= j < end, counted from `first` on."""
        low, high = np.searchsorted(self.starts, [first, end - 1], side="right")
        starts, shifts = self.starts[low - 1:high] - first, self.shifts[low - 1:high] + first
        return np.maximum(starts, 0), shifts


class _Bin:
    """The lines of one rank in one superstep of a section, run by run; the last one is being written."""

    def __init__(self, rank: int, step: int) -> None:
        self.rank, self.step, self.lines = rank, step, 0
        self.position = 0  # of the next line, in new numbers
        self.left = 0  # lines to come
        self.runs: list[tuple[Lines, np.ndarray, np.ndarray]] = []  # lines, constants, reads
        self.open: Lines | None = None
        self.at = self.number = self.constants = 0
        self.const: list[np.ndarray] = []
        self.reads: list[np.ndarray] = []


class _Writer:
    """Writes the new tape, a run of the old one after another."""

    def __init__(self, regrouping: Regrouping) -> None:
        self.old, self.sections, self.sums = regrouping.tape, regrouping.sections, regrouping.sums
        self.extra: dict[int, list[tuple[int, int, int, int]]] = {}  # by block: lines that come in
        self.fresh: dict[int, int] = {}  # by block: the first one's number
        count = self.old.n_nodes
        for section in self.sections:
            for block, run in zip(section.blocks, section.runs):
                if self.sums.ends(block):
                    *_, self.extra[block] = self.sums.altered(block, run, count)
                    self.fresh[block] = count
                    count += len(self.extra[block])
        self.ids = id_type(count)
        self.bins: list[dict[tuple[int, int], _Bin]] = []
        self._number()
        self.scratch = np.empty(2 * RUN_LINES), np.empty(2 * RUN_LINES, dtype=np.int64)
        self.numbers = 0
        for section, bins in zip(self.sections, self.bins):
            self._fill(section, bins)
        self.result = self._tape()

    def _comes_in(self, section: Section) -> dict[int, list[tuple[int, tuple[int, int, int, int]]]]:
        """By line of a section: lines that come in before it, with their numbers."""
        found: dict[int, list[tuple[int, tuple[int, int, int, int]]]] = {}
        for block, start in zip(section.blocks, section.starts):
            for k, line in enumerate(self.extra.get(block, ())):
                found.setdefault(start + line[0], []).append((self.fresh[block] + k, line))
        return found

    def _number(self) -> None:
        """New numbers of all nodes: a table of (first, how much more, who has them), and where bins begin."""
        table: list[tuple[int, int, int]] = []
        more = done = 0
        for section in self.sections:
            if done < section.first:
                table.append((done, more, -1))
            comes_in, bins = self._comes_in(section), dict[tuple[int, int], _Bin]()
            for low, high, rank, step in section.pieces:
                if (step, rank) not in bins:
                    bins[step, rank] = _Bin(rank, step)
                bins[step, rank].lines += high - low + len(comes_in.get(low, ()))
            position = section.first + more
            for key in sorted(bins):
                bins[key].position, bins[key].left = position, bins[key].lines
                position += bins[key].lines
            places = {key: made.position for key, made in bins.items()}
            for low, high, rank, step in section.pieces:
                here = places[step, rank]
                for number, _ in comes_in.get(low, ()):
                    table.append((number, here - number, rank))
                    here += 1
                table.append((section.first + low, here - section.first - low, rank))
                places[step, rank] = here + high - low
            self.bins.append(bins)
            more += sum(len(lines) for lines in comes_in.values())
            done = section.first + section.lines
        if done < self.old.n_nodes:  # from there on lines that come in are numbered
            table.append((done, more, -1))
        table.sort()
        starts, shifts, homes = (np.array(column, dtype=np.int64) for column in zip(*table))
        self.starts, self.shifts, self.homes = np.append(starts, np.iinfo(np.int64).max), shifts, homes

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _fill(self, section: Section, bins: dict[tuple[int, int], _Bin]) -> None:
        pieces, comes_in = iter(section.pieces), self._comes_in(section)
        piece = next(pieces)
        for block, run, start in zip(section.blocks, section.runs, section.starts):
            const = run.const if len(run.const) else np.zeros(1)
            lines: Lines = run.op, run.a, run.b
            if self.sums.touches(block):
                lines = self.sums.altered(block, run, self.fresh.get(block, self.old.n_nodes))[:3]
            places = np.zeros(len(const), dtype=np.int64), np.full(len(const), -1, dtype=np.int64)
            at, end = start, start + run.lines
            while at < end:
                made, stop = bins[piece.step, piece.rank], min(end, piece.high)
                if at == piece.low and at in comes_in:
                    columns = zip(*(line for _, line in comes_in[at]))
                    _, op, a, b = (np.array(column, dtype=np.int64) for column in columns)
                    self._write(made, (op.astype(np.uint8), a, b), const, places, 0, len(op))
                self._write(made, lines, const, places, at - start, stop - start)
                at = stop
                if at == piece.high and at < section.lines:
                    piece = next(pieces)
        for made in bins.values():
            assert made.open is None and not made.left

    def _write(self, made: _Bin, lines: Lines, const: np.ndarray, places: tuple[np.ndarray, np.ndarray],
               low: int, high: int) -> None:
        """Lines low <= i < high of a run into a bin."""
        while low < high:
            if made.open is None:
                self._begin(made)
            assert made.open is not None
            take = min(high - low, len(made.open[0]) - made.at)
            new_const, reads = self.scratch
            constants, others = gather(
                *lines, ARITY, const, low, low + take, self.starts, self.shifts, self.homes, made.rank, *made.open,
                made.at, new_const, *places, made.number, made.constants, reads, np.full(256, -1))
            made.const.append(new_const[:constants].copy())
            made.reads.append(reads[:others].copy())
            made.constants += constants
            made.at += take
            low += take
            if made.at == len(made.open[0]):
                made.runs.append((made.open, np.concatenate(made.const), np.unique(np.concatenate(made.reads))))
                made.open = None

    def _begin(self, made: _Bin) -> None:
        n, width = min(made.left, RUN_LINES), np.dtype(self.ids).itemsize
        room = memory.empty(-(-n * (1 + 2 * width) // 8)).view(np.uint8)  # one piece, as large as those that ranks get
        a, b = (part.view(self.ids) for part in np.split(room[:2 * width * n], 2))
        made.open = room[2 * width * n:2 * width * n + n], a, b
        made.left -= n
        made.at = made.constants = 0
        made.const, made.reads = [], []
        made.number, self.numbers = self.numbers, self.numbers + 1

    # -- the tape ------------------------------------------------------------------------------------------------------

    def _tape(self) -> Regrouped:
        """The new tape: the bins' runs in the places of their sections, all else as it was."""
        old = self.old
        sections = {section.blocks[0]: (section, bins) for section, bins in zip(self.sections, self.bins)}
        self.regrouped = {block for section in self.sections for block in section.blocks}
        self.block: dict[int, int] = {}  # new numbers of those that stay
        blocks: list[Block] = []
        runs: dict[int, Run] = {}
        made: dict[int, list[Item]] = {}
        for number, block in enumerate(old.blocks):
            if number in sections:
                items: list[Item] = []
                for key in sorted(sections[number][1]):
                    part = sections[number][1][key]
                    first = part.position
                    for (op, a, b), const, reads in part.runs:
                        items.append(ScalarRun(len(blocks), op, a, b, const))
                        runs[len(blocks)] = Run(part.rank, part.step, reads)
                        blocks.append(Block(first, (len(op),)))
                        first += len(op)
                made[number] = items
            elif number not in self.regrouped:
                self.block[number] = len(blocks)
                blocks.append(Block(int(self._renumbered(np.array([block.first]))[0]), block.shape))
        items = []
        for item in old.items:
            if isinstance(item, ScalarRun):
                if item.block in self.regrouped:
                    items += made.get(item.block, [])
                else:
                    items.append(replace(item, block=self.block[item.block]))
                continue
            operands = tuple(self._ref(ref, item.operand_shape(k)) for k, ref in enumerate(item.operands))
            items.append(item.over(item.shape, item.out._replace(block=self.block[item.out.block]), operands))
        tape = replace(
            old, blocks=blocks, items=items,
            inputs=[leaf._replace(ref=self._ref(leaf.ref, leaf.shape)) for leaf in old.inputs],
            outputs=[leaf._replace(ref=self._ref(leaf.ref, leaf.shape)) for leaf in old.outputs],
            guards=[guard._replace(ref=self._ref(guard.ref, np.shape(guard.expected))) for guard in old.guards],
            alike={self.block[one]: self.block[other] for one, other in old.alike.items()})
        return Regrouped(tape, runs, self.starts, self.shifts, self.homes)

    def _renumbered(self, ids: np.ndarray) -> np.ndarray:
        return ids + self.shifts[np.searchsorted(self.starts, ids, side="right") - 1]

    def _ref(self, ref: Any, shape: tuple[int, ...]) -> Operand | Any:
        if isinstance(ref, Const):
            return ref
        if isinstance(ref, Affine) and ref.block not in self.regrouped:
            return ref._replace(block=self.block[ref.block])
        return Indexed(self._renumbered(np.asarray(self.old.ids(ref, shape))))


__all__ = ["Origins", "Regrouped", "Regrouping", "Run", "regroup"]
