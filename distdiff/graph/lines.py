"""What structure asks of a scalar run, found line by line where the run lies.

What is asked, and what is answered, is about the nodes that cross the run's border; the levels of its lines are counted
where they are found.  So a walk over a tape whose runs lie on several ranks (`partition.afield`) holds their lines
nowhere else, and is the same walk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from ..kernels.structure import count_active, join_run, steps_of, tally_uses, walk
from ..ops import ADD, MULTIPLY, OPS, SUBTRACT
from ..tape import RUN_LINES, ScalarRun
from .live import Cut, nearest_within, widths
from .reads import ARITY, Reads

CLASSES = 34  # of uses: none, 1, 2, 3-4, 5-8, ...
ACTIVE = np.array([[k < op.arity and op.partials[k] is not None for op in OPS] for k in range(2)])
ADDS = np.array([op in (ADD, SUBTRACT) for op in OPS])
PARTS = np.array([op in (ADD, SUBTRACT, MULTIPLY) for op in OPS])  # of what adds them up (`steps`)
SPREAD = 4  # levels for a line, beyond which they are counted one by one


class Around(NamedTuple):
    """What is known around a run, all in its tape's numbers.

    first               its first node
    level, time         of the nodes that its lines read from outside, ascending; when these are there
    step, part          of these nodes, see `steps`; whether they are parts of a sum
    cost                what a line takes
    out, uses           its lines that others read, ascending, and how often
    width               values that cross the cut before it
    places, changes     lines before which that width changes, and by how much, by what lies outside of it
    middle              cuts among which the narrowest is looked for
    """

    first: int
    level: np.ndarray
    time: np.ndarray
    step: np.ndarray
    part: np.ndarray
    cost: float
    out: np.ndarray
    uses: np.ndarray
    width: int
    places: np.ndarray
    changes: np.ndarray
    middle: tuple[int, int]


class Seen(NamedTuple):
    """What is found: of the line that is there last, and of the lines that others read, one entry each.

    entry: which of the outside nodes the longest path came from, -1 none; length: lines of it in the run.
    used: lines by class of uses.  nonzeros: entries of L.  step, steps: of the last line and of those that others read;
    parts: which of these are parts of what adds them.
    """

    level: int
    time: float
    entry: int
    length: int
    levels: np.ndarray
    times: np.ndarray
    entries: np.ndarray
    lengths: np.ndarray
    used: np.ndarray
    most_used: int
    widest: int
    narrowest: Cut | None
    nonzeros: int
    step: int
    steps: np.ndarray
    parts: np.ndarray


class Count:
    """Lines by level, in pieces: a rank's lines may be on levels far from each other."""

    def __init__(self) -> None:
        self._pieces: dict[int, np.ndarray] = {}

    def add(self, levels: np.ndarray) -> None:
        low, high = int(levels.min()), int(levels.max()) + 1
        if high - low > SPREAD * len(levels) + RUN_LINES:
            places, count = np.unique(levels, return_counts=True)
            for piece in range(low // RUN_LINES, (high - 1) // RUN_LINES + 1):
                part = slice(*np.searchsorted(places, [piece * RUN_LINES, (piece + 1) * RUN_LINES]))
                if part.start < part.stop:
                    self._piece(piece)[places[part] - piece * RUN_LINES] += count[part]
            return
        count = np.bincount(levels - low).astype(np.int32)
        for piece in range(low // RUN_LINES, (high - 1) // RUN_LINES + 1):
            start, stop = max(piece * RUN_LINES, low), min((piece + 1) * RUN_LINES, high)
            if (part := count[start - low:stop - low]).any():
                self._piece(piece)[start - piece * RUN_LINES:stop - piece * RUN_LINES] += part

    def _piece(self, number: int) -> np.ndarray:
        if number not in self._pieces:
            self._pieces[number] = np.zeros(RUN_LINES, dtype=np.int32)
        return self._pieces[number]

    @staticmethod
    def stretch(level: int) -> int:
        """The number of the piece that a level is in."""
        return level // RUN_LINES

    def stretches(self) -> list[int]:
        """The pieces in which there are lines."""
        return list(self._pieces)

    def between(self, start: int, stop: int) -> np.ndarray | None:
        """Lines on the levels start, ..., stop - 1, of one piece; None for none."""
        piece = self._pieces.get(start // RUN_LINES)
        return None if piece is None else piece[start % RUN_LINES:start % RUN_LINES + stop - start]


class Tally:
    """Lines by level, and those that are no parts of sums by step."""

    def __init__(self) -> None:
        self.levels, self.steps = Count(), Count()

    def by(self, what: str) -> Count:
        return self.steps if what == "steps" else self.levels


class Between(NamedTuple):
    """Lines whose steps are first < step <= last; what `steps` has to know for that.

    known, part: of the nodes that the run reads from outside.  uses: of its lines that others read.
    """

    first: int
    last: int
    known: np.ndarray
    part: np.ndarray
    uses: np.ndarray


class Lines(Protocol):
    """The lines of a tape's runs."""

    def seen(self, run: ScalarRun, around: Around) -> Seen:
        """Look at a run, once: in the order of the tape."""

    def joined(self, run: ScalarRun, out: np.ndarray, joining: np.ndarray,
               between: Between | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        """See `joined`."""

    def by_level(self, start: int, stop: int, what: str = "levels") -> np.ndarray | None:
        """How many lines are on the levels start, ..., stop - 1, within a piece of RUN_LINES; None for none.

        what="steps": on steps, those that are no parts of sums.
        """


class Here:
    """The lines of runs that are all in this process.  note: is told a run's first node and the width before each line.
    """

    def __init__(self, reads: Reads, note: Callable[[int, np.ndarray], None] | None = None) -> None:
        self._reads, self._tally, self._note = reads, Tally(), note

    def seen(self, run: ScalarRun, around: Around) -> Seen:
        return seen(run, around.first, self._reads.outside(run.block), around, self._tally, self._note)

    def joined(self, run: ScalarRun, out: np.ndarray, joining: np.ndarray,
               between: Between | None = None) -> tuple[np.ndarray, np.ndarray, int]:
        return joined(run, int(self._reads.first[run.block]), self._reads.outside(run.block), out, joining, between)

    def by_level(self, start: int, stop: int, what: str = "levels") -> np.ndarray | None:
        return self._tally.by(what).between(start, stop)


def walked(run: ScalarRun, first: int, known: np.ndarray, level: np.ndarray, time: np.ndarray,
           cost: float) -> tuple[np.ndarray, ...]:
    """(level, time, entry, length, uses, last) of a run's lines, see `kernels.structure.walk`."""
    n = len(run.op)
    found = (np.empty(n, dtype=np.int64), np.empty(n), np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64),
             np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int64))
    walk(run.op, run.a, run.b, ARITY, first, known, level, time, cost, *found)
    return found


def seen(run: ScalarRun, first: int, known: np.ndarray, around: Around, tally: Tally,
         note: Callable[[int, np.ndarray], None] | None = None) -> Seen:
    """Look at a run whose operands count its own lines from `first` on, and `known` outside of it, ascending."""
    level, time, entry, length, uses, last = walked(run, first, known, around.level, around.time, around.cost)
    latest, out = int(time.argmax()), around.out
    uses[out] += around.uses
    used = np.zeros(CLASSES, dtype=np.int64)
    tally_uses(uses, used)
    tally.levels.add(level)
    step, counts = steps(run, first, known, around.step, around.part, uses)
    if counts.any():
        tally.steps.add(step[counts != 0])
    width = widths(last, out, around.width, around.places, around.changes)
    if note is not None:
        note(around.first, width)
    return Seen(int(level.max()), float(time[latest]), int(entry[latest]), int(length[latest]), level[out], time[out],
                entry[out], length[out], used, int(uses.max()), int(width.max()),
                nearest_within(around.first, width, *around.middle), nonzeros(run),
                int(step.max()), step[out], PARTS[run.op[out]] & (uses[out] == 1))


def steps(run: ScalarRun, first: int, known: np.ndarray, known_step: np.ndarray, known_part: np.ndarray,
          uses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(step, 1 or 0) of a run's lines: the level with sums taken as one, and whether a line counts by itself.

        step(i)  =  max over operands j of  step(j) + [j is no part of i],      0 for inputs and functions of one

    A sum, difference or product that one line alone reads, which adds, is a part of that line.  So s = s + a_k b_k over
    k is one step on the a_k and b_k, like the dot product it is, and any recurrence has as many steps as it goes on.
    """
    step, counts = np.zeros(run.lines, dtype=np.int64), np.ones(run.lines, dtype=np.int64)
    steps_of(run.op, run.a, run.b, ARITY, first, known, known_step, known_part, ADDS, PARTS, uses, step, counts)
    return step, counts


def joined(run: ScalarRun, first: int, known: np.ndarray, out: np.ndarray, joining: np.ndarray,
           between: Between | None = None) -> tuple[np.ndarray, np.ndarray, int]:
    """What a run connects: pairs of places among its lines `out` and, after them, the nodes known[joining] that all
    who read them are connected by; and how many of its components touch none of these.  between: lines that count; by
    default all.
    """
    root, touched = np.arange(len(run.op)), np.full(len(known), -1)
    counts = np.ones(len(run.op), dtype=bool) if between is None else _counted(run, first, known, out, between)
    join_run(run.op, run.a, run.b, ARITY, first, known, joining, counts, root, touched)
    ends = np.concatenate([out, touched[joining]])
    places = np.where(ends < 0, -1 - np.arange(len(ends)), root[ends])  # lines that count may read nothing of a node
    order = np.argsort(places, kind="stable")
    same = np.flatnonzero(np.diff(places[order]) == 0)
    met = np.unique(places[places >= 0])
    alone = np.count_nonzero((root == np.arange(len(root))) & counts) - np.count_nonzero(counts[met])
    return order[same], order[same + 1], alone


def _counted(run: ScalarRun, first: int, known: np.ndarray, out: np.ndarray, between: Between) -> np.ndarray:
    *_, uses, _ = walked(run, first, known, np.zeros(len(known), dtype=np.int64), np.zeros(len(known)), 0.0)
    uses[out] += between.uses
    step, _ = steps(run, first, known, between.known, between.part, uses)
    return (step > between.first) & (step <= between.last)


def nonzeros(run: ScalarRun) -> int:
    """Entries of L in a run's rows: active operands."""
    return int(count_active(run.op, run.a, run.b, ACTIVE))


__all__ = ["ACTIVE", "CLASSES", "Around", "Between", "Count", "Here", "Lines", "Seen", "Tally", "joined", "nonzeros",
           "seen", "steps", "walked"]
