"""A global vector (all input leaves, or all output leaves, one after another) spread over the ranks by places."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from mpi4py import MPI

from .strided import progressions

MOST_PARTS = 4  # stretches of places a rank that are copied as such


class Spread:
    """Places of a vector of n numbers that each rank owns; disjoint over the ranks.  Construction is collective.

    everywhere: every rank owns what one rank would; only `share` then takes messages.
    """

    def __init__(self, comm: MPI.Comm, places: np.ndarray, n: int, everywhere: bool = False) -> None:
        self.comm, self.n = comm, n
        self._alone = everywhere or comm.size == 1
        self.places = np.ascontiguousarray(places, dtype=np.int64)
        self._all_in_order = len(places) == n and (  # distinct numbers from 0 to n - 1: it is enough that they ascend
            n == 0 or bool((self.places[1:] > self.places[:-1]).all()))
        if not self._alone:
            self._counts = np.array(comm.allgather(len(places)))
            self._starts = np.concatenate([[0], np.cumsum(self._counts)[:-1]])
            self._everyone = np.empty(int(self._counts.sum()), dtype=np.int64)
            comm.Allgatherv(self.places, (self._everyone, self._counts, self._starts, MPI.INT64_T))
            self._all_parts = progressions(self._everyone, self.comm.size * MOST_PARTS)

    @cached_property
    def _parts(self) -> list[tuple[slice, slice | np.ndarray]]:
        """The places in stretches; looked for only where they are not all in order, as on one rank."""
        return progressions(self.places)

    @property
    def nbytes(self) -> int:
        """Bytes of the lists of places."""
        return self.places.nbytes + (0 if self._alone else self._everyone.nbytes)

    def share(self, full: np.ndarray | None, *columns: int) -> np.ndarray:
        """Rank 0's vector (or block of so many columns) on every rank.  Collective."""
        if self.comm.size == 1:
            assert full is not None
            return full
        buffer = np.ascontiguousarray(full, dtype=float) if self.comm.rank == 0 else np.empty((self.n, *columns))
        self.comm.Bcast(buffer, root=0)
        return buffer

    def take(self, full: np.ndarray) -> np.ndarray:
        """The places this rank owns."""
        if self._all_in_order:
            return full
        mine = np.empty((len(self.places), *full.shape[1:]))
        for where, places in self._parts:
            mine[where] = full[places]
        return mine

    def units(self, start: int, stop: int) -> np.ndarray:
        """This rank's rows of the unit columns e_start, ..., e_{stop-1}: shape (own places, stop - start)."""
        block = np.zeros((len(self.places), stop - start))
        hit = np.flatnonzero((self.places >= start) & (self.places < stop))
        block[hit, self.places[hit] - start] = 1.0
        return block

    def collect(self, mine: np.ndarray) -> np.ndarray:
        """The whole vector (or block of columns) on every rank; places nobody owns are zero.  Collective."""
        columns = mine.shape[1:]
        if self._alone:
            if self._all_in_order:
                return mine.copy()
            return self._laid_out(mine, self._parts)
        width = int(np.prod(columns, dtype=np.int64))
        gathered = np.empty((len(self._everyone), *columns))
        self.comm.Allgatherv(np.ascontiguousarray(mine, dtype=float),
                             (gathered, self._counts * width, self._starts * width, MPI.DOUBLE))
        return self._laid_out(gathered, self._all_parts)

    def _laid_out(self, rows: np.ndarray, parts: list[tuple[slice, slice | np.ndarray]]) -> np.ndarray:
        """Rows at the places that parts name, zeros elsewhere."""
        if len(parts) == 1 and isinstance(parts[0][1], slice) and len(rows) == self.n:
            return rows
        full = (np.empty if len(rows) == self.n else np.zeros)((self.n, *rows.shape[1:]))  # places are disjoint
        for where, places in parts:
            full[places] = rows[where]
        return full


def gathered(rows: np.ndarray, comm: MPI.Comm) -> np.ndarray:
    """The rows of all ranks, one rank's after another's, on every rank.  Collective."""
    counts = np.array(comm.allgather(rows.size))
    full = np.empty((int(counts.sum()) // max(rows.shape[1], 1), rows.shape[1]))
    comm.Allgatherv(rows, (full, counts, np.cumsum(counts) - counts, MPI.DOUBLE))
    return full
