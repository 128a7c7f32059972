"""Calls of compiled loops that follow one another, as one call: a pass over hundreds of supersteps.

What stands between the loops of two supersteps is a few copies and words of the node's memory.  A call from Python for
each of them takes more than the work itself, since its instructions and objects have left the caches while the loops
computed.  Here they are rows of a table, and a compiled loop goes from row to row.  What Python has to do, a product or
a message of MPI's, stands between two such sequences.

A rank that waits for a word looks at it LOOKS times and then returns to Python, which lets others run and comes back to
the same row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..flags import note
from . import combine

AFTER = 2  # passes by calls, in which everything is bound to memory, before they are joined
LEAST = 2  # rows that make up for a call of their own
LOOKS = 4000  # at a word, about 0.1 ms, before others are let run
(TILES, BOXES, COPIES, STEP, AWAIT, TELL, LINES, ZEROS, PICKED) = range(9)  # as in `sequence_loops`

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Sequence:
    """Rows of compiled work.  Each `add` is done in order; `held` keeps what their addresses point to alive."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.held: list[Any] = []
        self._table: np.ndarray | None = None

    def tiles(self, groups: np.ndarray, code: np.ndarray) -> None:
        """Groups of `tiles.Bound`."""
        self._add(TILES, len(groups), groups, code)

    def boxes(self, W: np.ndarray, tables: combine.Tables) -> None:
        """Boxes of `combine`, on W of shape (rows,) or (rows, m) in Fortran order."""
        columns = 1 if W.ndim == 1 else W.shape[1]
        self._add(BOXES, len(tables.cells), tables.cells, tables.passes, tables.factors, W, more=(W.shape[0], columns))

    def copies(self, table: np.ndarray, *views: Any) -> None:
        """Rows of `copies_loops.run`, whose addresses are those of the views."""
        self._add(COPIES, len(table), table)
        self.held += views

    def lines(self, record: np.ndarray, *held: Any) -> None:
        """A scalar run (see `lines`)."""
        self._add(LINES, len(record), record)
        self.held += held

    def picked(self, how: int, to: np.ndarray, where: np.ndarray, source: np.ndarray, places: np.ndarray) -> None:
        """What `copies.Picked` does, to[where] and source[places] being int64."""
        self._add(PICKED, len(where), to, source, where, places, more=(how,))

    def zeros(self, vector: np.ndarray) -> None:
        """A contiguous vector of float64 becomes zero."""
        self._add(ZEROS, len(vector), vector)

    def step(self, count: int) -> None:
        """The count at this address is one more."""
        self.rows.append((STEP, 1, count, 0, 0, 0, 0, 0))

    def until(self, words: list[int], count: int) -> None:
        """Wait until the words at these addresses are no less than the count."""
        if words:
            self._add(AWAIT, len(words), np.array(words, dtype=np.int64), more=(count,))

    def tell(self, words: list[int], count: int) -> None:
        """The words at these addresses are what the count is."""
        if words:
            self._add(TELL, len(words), np.array(words, dtype=np.int64), more=(count,))

    def join(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """A call, if its function says how (see `Passes`); False: it is not in the sequence."""
        join = getattr(getattr(function, "__self__", function), "join", None)
        before = len(self.rows)
        if join is not None and join(self, *arguments):
            return True
        del self.rows[before:]
        return False

    def _add(self, what: int, n: int, *arrays: np.ndarray, more: tuple[int, ...] = ()) -> None:
        addresses = [array.__array_interface__["data"][0] for array in arrays]
        self.rows.append((what, n, *addresses, *more, *(0,) * (6 - len(addresses) - len(more))))
        self.held += arrays

    def run(self, idle: Callable[[], None]) -> None:
        """All rows.  idle: what is done now and then while a word is waited for."""
        from .sequence_loops import run

        if self._table is None:
            self._table = np.array(self.rows, dtype=np.int64)
        done = run(self._table, 0, LOOKS)
        while done < len(self.rows):
            idle()
            done = run(self._table, done, LOOKS)
        note()


class Passes:
    """The calls of a pass that is made again and again on the same memory; from the third time on sequences where they
    can be.

    A call can be in one if its function is an object with a method `join(sequence, *arguments)`, or a method of such:
    it adds what the call does, or returns False, as where NumPy does it or a message goes by MPI.
    """

    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.joined: list[Call] | None = None
        self._made = 0

    def __call__(self, idle: Callable[[], None], one_by_one: bool = False) -> None:
        """One pass.  idle: as for `Sequence.run`; one_by_one: somebody has exchanged what the calls do."""
        calls = self.calls
        if self._made < AFTER:
            self._made += 1
        elif not one_by_one:
            if self.joined is None:
                self.joined = _joined(calls, idle)
            calls = self.joined
        for function, arguments in calls:
            function(*arguments)


def _joined(calls: list[Call], idle: Callable[[], None]) -> list[Call]:
    found: list[Call] = []
    sequence, begin = Sequence(), 0  # of calls[begin:k]

    def end(k: int) -> None:
        found.extend([(sequence.run, (idle,))] if len(sequence.rows) >= LEAST else calls[begin:k])

    for k, (function, arguments) in enumerate(calls):
        if not sequence.join(function, *arguments):
            end(k)
            found.append(calls[k])
            sequence, begin = Sequence(), k + 1
    end(len(calls))
    return found


__all__ = ["Passes", "Sequence"]
