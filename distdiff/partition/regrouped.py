"""Scalar runs written down anew, by rank and superstep: what a tape becomes that was regrouped.

Twice over the lines: what the new runs read of other ranks' is what layouts are weighed by; their lines are written
once this one is taken, and then the old tape may give up its runs one by one, and each new one go to its rank at once,
so that there is about one of both tapes and rank 0 has no more of it than others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..graph import Reads
from ..kernels.sharing import gather, read_elsewhere
from ..tape import RUN_LINES, Affine, Block, Const, HeldRun, Indexed, Item, Operand, ScalarRun, Tape, id_type
from ..tracing import memory
from .accumulators import Accumulators
from .plan import ARITY
from .sections import Section

Lines = tuple[np.ndarray, np.ndarray, np.ndarray]  # operations and operands
_NONE = np.empty(0)


class Run(NamedTuple):
    """Where a run of the new tape belongs, and what its lines read of others than that rank's runs, ascending."""

    rank: int
    step: int
    reads: np.ndarray


class Regrouped:
    """A tape that computes the same in another order.  Its runs are held back until their lines are to be written.

    runs: by block of the new tape.  starts, shifts: old node j, starts[k] <= j < starts[k + 1], is j + shifts[k] there;
    lines that came in for sums have old numbers from the old tape's length on.  homes: who has these nodes; -1: no run.
    """

    def __init__(self, tape: Tape, sections: list[Section], sums: Accumulators) -> None:
        self._writer: _Writer | None = _Writer(self, tape, sections, sums)
        self.tape, self.runs = self._writer.planned()
        self._index = self._writer.index

    def write(self, old: Tape | None = None, reads: Reads | None = None,
              written: Callable[[ScalarRun, int], ScalarRun] | None = None) -> None:
        """Write the lines, unless that was done.  old: the tape that it came of, if that gives up its runs meanwhile,
        and with it what is known of their reads.  written(run, its rank): what stands on the tape for a run, once it
        is written."""
        if self._writer is not None:
            self._writer.write(self.tape, old, reads, written or (lambda run, rank: run))
            self._writer = None

    def look(self, block: int) -> ScalarRun:
        """The run of that block, whose lines somebody wants to see."""
        self.write()
        run = self.tape.items[self._index[block]]
        assert isinstance(run, ScalarRun)
        return run

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
        self.runs: list[np.ndarray] = []  # what each reads
        self.index = 0  # of the open run's item
        self.open: Lines | None = None
        self.at = self.done = self.number = self.constants = 0  # lines of the open run, of those before; its constants
        self.parts: list[np.ndarray] = []  # of these, or of reads

    @property
    def room(self) -> int:
        """Lines of the run that is being written."""
        return min(self.lines - self.done, RUN_LINES)

    def taken(self, lines: int) -> bool:
        """So many more lines are there; True if a run is full."""
        self.at += lines
        if self.at < self.room:
            return False
        self.done, self.at = self.done + self.at, 0
        return True


class _Writer:
    """Writes the new tape, a run of the old one after another: first what its runs read, then their lines."""

    def __init__(self, made: Regrouped, tape: Tape, sections: list[Section], sums: Accumulators) -> None:
        self.made, self.old, self.sections, self.sums = made, tape, sections, sums
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
        self._left: dict[int, np.ndarray] = {}  # by rank, of the piece of memory that its runs are written to
        self._number()

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
                bins[key].position = position
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
        self.made.starts, self.made.shifts, self.made.homes = np.append(starts, np.iinfo(np.int64).max), shifts, homes

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _in_bins(self, section: Section, bins: dict[tuple[int, int], _Bin]) -> Iterator[
            tuple[int, _Bin, Lines, int, int]]:
        """(number of the old run, bin, lines, from where to where) of all that goes to a bin, in order."""
        pieces, comes_in = iter(section.pieces), self._comes_in(section)
        piece = next(pieces)
        for number, (block, start) in enumerate(zip(section.blocks, section.starts)):
            run = section.runs[number]
            lines: Lines = run.op, run.a, run.b
            if self.sums.touches(block):
                lines = self.sums.altered(block, run, self.fresh.get(block, self.old.n_nodes))[:3]
            at, end = start, start + run.lines
            while at < end:
                made, stop = bins[piece.step, piece.rank], min(end, piece.high)
                if at == piece.low and at in comes_in:
                    columns = zip(*(line for _, line in comes_in[at]))
                    _, op, a, b = (np.array(column, dtype=np.int64) for column in columns)
                    yield from self._in_runs(number, made, (op.astype(np.uint8), a, b), 0, len(op))
                yield from self._in_runs(number, made, lines, at - start, stop - start)
                at = stop
                if at == piece.high and at < section.lines:
                    piece = next(pieces)
        for made in bins.values():
            assert made.done == made.lines and not made.at

    @staticmethod
    def _in_runs(number: int, made: _Bin, lines: Lines, low: int, high: int) -> Iterator[
            tuple[int, _Bin, Lines, int, int]]:
        while low < high:
            stop = min(high, low + made.room - made.at)
            yield number, made, lines, low, stop
            low = stop

    # -- lines ---------------------------------------------------------------------------------------------------------

    def _look(self, section: Section, bins: dict[tuple[int, int], _Bin]) -> None:
        """Find what the new runs read of others."""
        made_of, room = self.made, np.empty(2 * RUN_LINES, dtype=np.int64)
        for _, made, lines, low, high in self._in_bins(section, bins):
            others = read_elsewhere(*lines, ARITY, low, high, made_of.starts, made_of.shifts, made_of.homes, made.rank,
                                    room)
            made.parts.append(room[:others].copy())
            if made.taken(high - low):
                made.runs.append(np.unique(np.concatenate(made.parts)))
                made.parts = []
        for made in bins.values():
            made.done = 0

    def write(self, new: Tape, old: Tape | None, reads: Reads | None,
              written: Callable[[ScalarRun, int], ScalarRun]) -> None:
        """Write the lines of all runs; see `Regrouped.write`."""
        index = {item.block: k for k, item in enumerate(old.items) if isinstance(item, ScalarRun)} if old else {}
        room, numbers, starts, shifts = np.empty(2 * RUN_LINES), 0, self.made.starts, self.made.shifts
        for section, bins in zip(self.sections, self.bins):
            before = -1
            for number, made, lines, low, high in self._in_bins(section, bins):
                if number != before:
                    if old is not None and before >= 0:
                        self._gives_up(section, before, old, index, reads)
                    const, before = section.runs[number].const, number
                    const = const if len(const) else np.zeros(1)
                    places = np.zeros(len(const), dtype=np.int64), np.full(len(const), -1, dtype=np.int64)
                if made.open is None:
                    made.open, made.number, numbers = self._room(made.room, made.rank), numbers, numbers + 1
                    made.constants, made.parts = 0, []
                constants = gather(*lines, ARITY, const, low, high, starts, shifts, *made.open, made.at, room, *places,
                                   made.number, made.constants)
                made.parts.append(room[:constants].copy())
                made.constants += constants
                if made.taken(high - low):
                    block = new.items[made.index].block
                    run = ScalarRun(block, *made.open, np.concatenate(made.parts))
                    new.items[made.index] = written(run, made.rank)
                    made.open, made.index = None, made.index + 1
            if old is not None:
                self._gives_up(section, before, old, index, reads)

    @staticmethod
    def _gives_up(section: Section, number: int, old: Tape, index: dict[int, int], reads: Reads | None) -> None:
        block, gone = section.blocks[number], given_up(section.runs[number])
        section.runs[number] = old.items[index[block]] = gone
        if reads is not None:
            reads.runs[block] = gone

    def _room(self, n: int, rank: int) -> Lines:
        """For so many lines: in a piece of memory as large as those that old runs leave; a rank's short runs share one.
        """
        width = np.dtype(self.ids).itemsize
        size = -(-n * (1 + 2 * width) // 8)
        left = [self._left.pop(rank, _NONE)]
        if len(left[0]) < size:
            left.append(memory.empty(max(size, -(-RUN_LINES * (1 + 2 * width) // 8))))
        room, left[-1] = left[-1][:size].view(np.uint8), left[-1][size:]
        self._left[rank] = max(left, key=len)
        a, b = (part.view(self.ids) for part in np.split(room[:2 * width * n], 2))
        return room[2 * width * n:2 * width * n + n], a, b

    # -- the tape ------------------------------------------------------------------------------------------------------

    def planned(self) -> tuple[Tape, dict[int, Run]]:
        """The new tape, the bins' runs in the places of their sections, all else as it was; and these runs."""
        old = self.old
        for section, bins in zip(self.sections, self.bins):
            self._look(section, bins)
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
                    first, part.index = part.position, len(blocks)
                    for k, reads in enumerate(part.runs):
                        lines = min(RUN_LINES, part.lines - k * RUN_LINES)
                        items.append(HeldRun(len(blocks), lines, None, partial(self.made.look, len(blocks))))
                        runs[len(blocks)] = Run(part.rank, part.step, reads)
                        blocks.append(Block(first, (lines,)))
                        first += lines
                made[number] = items
            elif number not in self.regrouped:
                self.block[number] = len(blocks)
                blocks.append(Block(int(self.made.renumbered(np.array([block.first]))[0]), block.shape))
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
        self.index = {item.block: k for k, item in enumerate(items) if isinstance(item, HeldRun)}
        for part in (part for bins in self.bins for part in bins.values()):
            part.index = self.index[part.index]
        return replace(
            old, blocks=blocks, items=items,
            inputs=[leaf._replace(ref=self._ref(leaf.ref, leaf.shape)) for leaf in old.inputs],
            outputs=[leaf._replace(ref=self._ref(leaf.ref, leaf.shape)) for leaf in old.outputs],
            guards=[guard._replace(ref=self._ref(guard.ref, np.shape(guard.expected))) for guard in old.guards],
            alike={self.block[one]: self.block[other] for one, other in old.alike.items()}), runs

    def _ref(self, ref: Any, shape: tuple[int, ...]) -> Operand | Any:
        if isinstance(ref, Const):
            return ref
        if isinstance(ref, Affine) and ref.block not in self.regrouped:
            return ref._replace(block=self.block[ref.block])
        return Indexed(np.asarray(self.made.renumbered(np.asarray(self.old.ids(ref, shape)))))  # also of one


def given_up(run: ScalarRun) -> HeldRun:
    """What stands in the place of a run whose lines are on another tape."""
    return HeldRun(run.block, run.lines, None, _gone)


def _gone() -> ScalarRun:
    raise AssertionError("a run is looked at that was regrouped on another tape")


__all__ = ["Origins", "Regrouped", "Run", "given_up"]
