"""Long scalar code in another order: what a rank computes between two exchanges stands together.

Loops that are run again and again, a step of time for all particles, a pass over all samples for a new guess, can't be
cut where they stand: every stretch of their trace waits for the one before it.  Here every wide level of the program
is cut into equal parts, in the order of the trace, so a rank has the same particles, or samples, each time, whichever
loop is the inner one; and the lines are written down anew, by superstep and rank.  A run of the new tape then lies on
one rank as a whole, in one superstep, and nothing is held a line by anybody.

    lines so far ... 1 2 3 4 5 6 | 1 2 3 4 5 6 | ...      a rank's lines   1 2 3 1 2 3 ... and 4 5 6 4 5 6 ...

Rank 0 goes over the lines six times, a run at a time, and a seventh time to write them (`regrouped`), if the layout is
taken; it holds 5 bytes a line meanwhile (levels of 16 bits, owners, flags; 8 where levels are many), then the new lines
in the place of the old.  Which lines run at the same time is told by levels in which a chain of additions counts as one
sum (`accumulators` makes it one a stretch), as Kahn's order does; within a level the order of the trace is what keeps
neighbours together.
"""

from __future__ import annotations

import numpy as np

from ..graph import Reads
from ..kernels.sharing import LATER, MANY, USES, count_readers, find_levels
from ..tape import RUN_LINES, Tape
from ..tracing.memory import give_back
from .accumulators import MOST, Accumulators
from .plan import ARITY
from .regrouped import Regrouped
from .sections import CODES, WIDE, Section, edges, sections

SURELY = 8  # times as wide, over as many full runs, from which a section is taken to be wide all along
LEAST = 256  # lines, on average, of a piece that stays together; below, writing it down anew costs more than it saves
SECTION = 1 << 12  # ... and of the runs between two statements


class Regrouping:
    """The lines of a tape's runs by rank and superstep, as `regroup` found them; `planned` is a new tape of them."""

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

    def planned(self) -> Regrouped:
        """The new tape, whose lines are still to be written.  The old one stays as it is."""
        return Regrouped(self.tape, self.sections, self.sums)


def regroup(tape: Tape, reads: Reads, ranks: int, asked: bool = False) -> Regrouping | None:
    """How the tape's scalar runs are shared out level by level; None where that does not suit them, unless it is asked
    for.
    """
    found = sections(tape)
    lines = sum(section.lines for section in found)
    if not found or not asked and (
            lines < SECTION * len(found) or any(_narrow(section, reads, ranks) for section in found)):
        return None
    give_back()  # what was held a node that runs read of each other
    for section in found:
        if not section.share(ranks) and not asked:
            return None
    bounds = [0]
    for section in found:
        bounds += (section.first + edges(section.owner)).tolist()
        bounds.append(section.first + section.lines)
    stretches = len(bounds)
    if not asked and stretches * LEAST > lines:
        return None
    sums = Accumulators(tape, reads, np.array([*bounds, tape.n_nodes + 1]), MOST * -(-stretches // ranks))
    for section in found:
        section.cut(sums, ranks)
    if not asked and sum(len(section.pieces) for section in found) * LEAST > lines:
        return None
    return Regrouping(tape, found, sums, ranks)


def _narrow(section: Section, reads: Reads, ranks: int) -> bool:
    """Whether the levels are too narrow to be cut, as `share` would find, but with memory for a run and for what runs
    read of each other alone: chains, however long, are not to take anything a line.  Once they are wide by far, `share`
    is left to find out.
    """
    level, flags = (np.zeros(len(reads.single), dtype=kind) for kind in (np.int32, np.int16))
    deepest = 0
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
        deepest = max(deepest, find_levels(run.op, a, b, ARITY, 0, n, flagged, levels, LATER))
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


__all__ = ["Regrouping", "regroup"]
