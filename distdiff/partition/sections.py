"""Stretches of scalar runs whose lines are shared out level by level, and what is known of a line meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..kernels.sharing import LATER, NEAR, count_readers, find_levels, find_places, find_steps, share_levels
from ..ops import ADD, SUBTRACT
from ..tape import Item, ScalarRun, Tape
from .accumulators import Accumulators
from .plan import ARITY

WIDE = 4  # lines a rank from which a level is cut
STRETCH = 1 << 16  # lines that are looked at at once
CODES = ARITY, ADD.code, SUBTRACT.code


class Piece(NamedTuple):
    """Lines low <= i < high of a section that one rank computes in one superstep."""

    low: int
    high: int
    rank: int
    step: int


@dataclass
class Section:
    """Runs that follow each other, and columns over their lines (see `kernels.sharing`), in as few bytes as may be."""

    blocks: list[int]
    runs: list[ScalarRun]
    first: int
    starts: list[int]  # where the runs begin in it
    lines: int
    flags: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int16))
    owner: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int16))
    level: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int32))  # then supersteps
    deepest: int = 0
    pieces: list[Piece] = field(default_factory=list)

    def share(self, ranks: int, kinds: tuple[Any, ...] = (np.int16, np.int32)) -> bool:
        """Find the owners, rank 0 if the levels are too narrow to be cut, and then False.  kinds: of levels."""
        for kind in kinds:
            if self._find_levels(kind, WIDE * ranks):
                break
        self.owner = np.zeros(self.lines, dtype=np.min_scalar_type(-ranks))
        if self.deepest * WIDE * ranks > self.lines:
            self.level[:] = 0
            return False
        count, seen = np.zeros((2, self.deepest + 1), dtype=np.int64)
        reader = np.full(NEAR, LATER, dtype=np.int64)
        for run, start in zip(reversed(self.runs), reversed(self.starts)):
            find_places(run.op, run.a, run.b, ARITY, self.first, start, self.flags, self.level, reader, count)
        last = 0
        for run, start in zip(self.runs, self.starts):
            last = int(share_levels(run.op, run.a, run.b, ARITY, self.first, start, self.flags, self.level, count, seen,
                                    ranks, WIDE * ranks, last, self.owner))
        return True

    def _find_levels(self, kind: type[np.signedinteger[Any]], wide: int) -> bool:
        """Levels, up to the first that is one too many for lines so `wide`; False if they don't fit in that type."""
        self.level, self.flags = np.zeros(self.lines, dtype=kind), np.zeros(self.lines, dtype=np.int16)
        self.deepest = 0
        for run, start in zip(self.runs, self.starts):
            count_readers(run.op, run.a, run.b, *CODES, self.first, start, self.flags)
        for run, start in zip(self.runs, self.starts):
            found = find_levels(run.op, run.a, run.b, ARITY, self.first, start, self.flags, self.level,
                                np.iinfo(kind).max)
            if found < 0:
                return False
            self.deepest = max(self.deepest, found)
            if self.deepest * wide > self.lines:
                break
        return True

    def cut(self, sums: Accumulators, ranks: int) -> None:
        """Find the supersteps and pieces, given where chains of additions start anew."""
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
        if not self._find_steps(columns, ranks):  # more supersteps than 16 bits hold, of fewer levels
            self.share(ranks, (np.int32,))
            self._find_steps(columns, ranks)
        self.flags = self.flags[:0].copy()
        low = np.union1d(edges(self.owner, self.level), np.array(end, dtype=np.int64))  # before ends lines come in
        self.pieces = [Piece(*row) for row in zip(low.tolist(), [*low[1:].tolist(), self.lines],
                                                  self.owner[low].tolist(), self.level[low].tolist())]
        self.level, self.owner = self.level[:0].copy(), self.owner[:0].copy()

    def _find_steps(self, columns: tuple[np.ndarray, ...], ranks: int) -> bool:
        """Supersteps in the place of levels; False if they don't fit in their type."""
        reached, most = np.zeros((ranks, self.deepest + 2), dtype=np.int32), np.iinfo(self.level.dtype).max
        return all(find_steps(run.op, run.a, run.b, ARITY, self.first, start, self.flags, self.level, self.owner,
                              *columns, reached, most) >= 0 for run, start in zip(self.runs, self.starts))


def edges(*columns: np.ndarray) -> np.ndarray:
    """The places, ascending, at which an entry of one of the columns differs from the one before; and the first.

    Stretch by stretch: columns are as long as the program.
    """
    found, n = [np.zeros(1, dtype=np.int64)], len(columns[0])
    for start in range(0, n, STRETCH):
        stop = min(start + STRETCH + 1, n)
        differ = np.zeros(max(stop - start - 1, 0), dtype=np.bool_)
        for column in columns:
            differ |= column[start + 1:stop] != column[start:stop - 1]
        found.append(start + 1 + np.flatnonzero(differ))
    return np.concatenate(found)


def sections(tape: Tape) -> list[Section]:
    """The stretches of runs between other statements."""
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


__all__ = ["CODES", "WIDE", "Piece", "Section", "edges", "sections"]
