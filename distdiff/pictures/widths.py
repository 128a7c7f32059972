"""How wide a program is: nodes by level, values alive along the trace, and where the critical path goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..comm import on_root
from ..graph import Here, Levels, LiveWidth, Path, Reads
from ..machine import Machine, current
from ..tape import Tape
from .sections import Section, sections
from .subject import Subject

BINS = 240
POINTS = 400  # of the critical path


@dataclass(frozen=True)
class Widths:
    """Levels, live widths and the critical path of a tape."""

    edges: np.ndarray  # levels edges[k] <= level < edges[k + 1] ...
    nodes: np.ndarray  # ... hold so many nodes each, on average
    width: int  # most on one level
    depth: int  # edges of the longest path
    places: np.ndarray  # cuts of the trace, as node ids ...
    live: np.ndarray  # ... and how many values cross there, at most, up to the next
    widest: int
    trail: tuple[np.ndarray, np.ndarray]  # the critical path: node ids, and when they are there, in seconds
    path: Path
    sections: tuple[Section, ...]

    @property
    def parallelism(self) -> float:
        """Work over span: what any number of ranks could gain."""
        return self.path.work / self.path.span if self.path.span else 1.0


def levels(subject: Subject) -> Widths:
    """Look at the tape's structure.  Collective."""
    tape = subject.tape
    return on_root(subject.comm, lambda: of_tape(tape, current()))


def of_tape(tape: Tape, machine: Machine, bins: int = BINS) -> Widths:
    """Linear in the tape: microseconds a statement, nanoseconds a scalar line.  Not collective."""
    reads = Reads(tape)
    live = LiveWidth(reads)
    along = Along(live, tape.n_nodes, bins)
    found = Levels(tape, reads, live, machine, Here(reads, along.note))
    depth, width, _, profile = found.summary(bins)
    edges = np.array(profile.edges)
    nodes, when = found.trail()
    some = np.unique(np.linspace(0, len(nodes) - 1, POINTS).astype(np.int64)) if len(nodes) else slice(None)
    return Widths(edges, np.array(profile.nodes) / np.maximum(np.diff(edges), 1), width, depth, along.places,
                  along.most, found.widest, (nodes[some], when[some]), found.path(), tuple(sections(tape)))


class Along:
    """Places along a trace of n nodes, and the most values that cross a cut between each and the next.

    Between blocks they are known from the reads; the widths within runs are noted as these are looked at.
    """

    def __init__(self, live: LiveWidth, n: int, bins: int) -> None:
        self.places = np.unique(np.linspace(0, n, bins + 1).astype(np.int64))[:-1] if n else np.zeros(0, np.int64)
        self.most = live.between(self.places)
        at = self._bin(live.places)
        inside = (at >= 0) & (live.places < n)
        np.maximum.at(self.most, at[inside], live.between(live.places[inside]))

    def note(self, first: int, width: np.ndarray) -> None:
        """The widths before the lines from `first` on."""
        begins, stop = self._bin(np.array([first, first + len(width) - 1])), len(self.places)
        bins = np.arange(begins[0], min(begins[1] + 1, stop))
        edges = np.maximum(self.places[bins] - first, 0)
        self.most[bins] = np.maximum(self.most[bins], np.maximum.reduceat(width, edges))

    def _bin(self, nodes: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.places, nodes, side="right") - 1


__all__ = ["Along", "Widths", "levels", "of_tape"]
