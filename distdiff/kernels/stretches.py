"""Stretches: consecutive rows of I - L that all reach back by the same distances.

Programs repeat themselves: a statement over an array, or a loop, makes row after row that reads rows i + d for the same
few offsets d < 0.  Substitution over such a stretch needs neither row pointers nor column indices: only values and
solution stream through memory.

A table has one row for each stretch, in order, int64:

    FIRST, ROWS    it begins with this row and has so many
    ENTRY          where its first row begins in indices and data
    WIDTH          entries of a row beside the diagonal; 0: rows of any kind, read as they are stored
    PLACE          offsets[PLACE:PLACE + WIDTH] are its offsets, ascending
    NEAR           how many of them are nearer than FAR: none, -1, or -2 and -1
    REACH          rows that the others reach back at least

Long runs of rows without operands are left out: there is nothing to do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .csr import Kernel
from .jit import worth_it

FIRST, ROWS, ENTRY, WIDTH, PLACE, NEAR, REACH = range(7)
LEAST = 64  # rows that are worth a stretch of their own
FAR = 32  # rows that an offset reaches back at least, if it is not one of the nearest two
MOST = 12  # offsets; with more of them, going over a block diagonal by diagonal costs more than indices do
SMALL = 100_000  # entries that stay in the second cache level, where it matters little how they are read


class Stretches(NamedTuple):
    """A table, its offsets, and steps: steps[s]:steps[s+1] are the stretches of superstep s."""

    table: np.ndarray
    offsets: np.ndarray
    steps: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.offsets.nbytes + self.steps.nbytes


def stretches(ends: np.ndarray, indptr: np.ndarray, indices: np.ndarray) -> Stretches:
    """The stretches of the rows ends[s]:ends[s+1] of every superstep, columns ascending, the diagonal last.

    Of small systems, a stretch for every superstep, to be read as it is stored: not worth the search.
    """
    n, nnz, steps = len(indptr) - 1, len(indices), np.zeros(len(ends), dtype=np.int64)
    if not worth_it(nnz, SMALL):
        rows = np.diff(ends)
        steps[1:] = np.cumsum(rows > 0)
        table = np.zeros((steps[-1], REACH + 1), dtype=np.int64)
        table[:, FIRST], table[:, ROWS] = ends[:-1][rows > 0], rows[rows > 0]
        return Stretches(table, np.empty(0, dtype=np.int64), steps)
    table = np.zeros((2 * (n // LEAST) + len(ends), REACH + 1), dtype=np.int64)
    offsets = np.empty(nnz // LEAST, dtype=np.int64)
    find(n + nnz, ends, indptr, indices, table, offsets, steps)
    table = table[:steps[-1]].copy()
    return Stretches(table, offsets[:table[:, WIDTH].sum()].copy(), steps)


def within(table: np.ndarray, lo: int, hi: int) -> np.ndarray:
    """The part of a table that stands for the rows lo, ..., hi - 1."""
    last = table[:, FIRST] + table[:, ROWS]
    part = table[np.searchsorted(last, lo, side="right"):np.searchsorted(table[:, FIRST], hi)].copy()
    if len(part):
        skip = max(lo - part[0, FIRST], 0)
        part[0, FIRST] += skip
        part[0, ROWS] -= skip
        part[0, ENTRY] += skip * (part[0, WIDTH] + 1)  # where it is read: in rows of constant offsets
        part[-1, ROWS] = min(part[-1, ROWS], hi - part[-1, FIRST])
    return part


@Kernel
def find(ends, indptr, indices, table, offsets, steps):
    """Fills table, offsets and steps, all large enough and table zero."""
    count = 0
    used = 0
    for s in range(len(ends) - 1):
        last = ends[s + 1]
        pending = ends[s]  # rows from here on belong to no stretch yet
        i = pending
        while i < last:
            e0 = indptr[i]
            w = indptr[i + 1] - e0 - 1
            t = i + 1
            while t < last and indptr[t + 1] - indptr[t] - 1 == w:  # as long as row t reaches back as row i does
                e = indptr[t]
                k = 0
                while k < w and indices[e + k] - indices[e0 + k] == t - i:
                    k += 1
                if k < w:
                    break
                t += 1
            near = 0
            if w > 0 and indices[e0 + w - 1] + 1 == i:
                near = 2 if w > 1 and indices[e0 + w - 2] + 2 == i else 1
            reach = t - i if w == near else i - indices[e0 + w - near - 1]
            if t - i >= LEAST and reach >= FAR and w <= MOST:
                if pending < i:
                    table[count, FIRST] = pending
                    table[count, ROWS] = i - pending
                    count += 1
                if w > 0:
                    table[count, FIRST] = i
                    table[count, ROWS] = t - i
                    table[count, ENTRY] = e0
                    table[count, WIDTH] = w
                    table[count, PLACE] = used
                    table[count, NEAR] = near
                    table[count, REACH] = reach
                    count += 1
                    for k in range(w):
                        offsets[used + k] = indices[e0 + k] - i
                    used += w
                pending = t
            i = t
        if pending < last:
            table[count, FIRST] = pending
            table[count, ROWS] = last - pending
            count += 1
        steps[s + 1] = count
