"""Which rows of a superstep wait for messages, in either substitution."""

from __future__ import annotations

import numpy as np

from .csr import Kernel
from .stretches import within

SHORT = 64  # rows in a row: fewer that need no message wait all the same, as a stretch of their own costs more
MOST = 64  # stretches of rows that need none; with more of them, all wait


@Kernel
def _forward(lo, hi, indptr, indices, late):
    """Row i waits where it reads one of the superstep's rows that waits."""
    for i in range(lo, hi):
        if not late[i - lo]:
            for e in range(indptr[i], indptr[i + 1] - 1):
                j = indices[e]
                if j >= lo and late[j - lo]:
                    late[i - lo] = True
                    break


@Kernel
def _backward(lo, hi, indptr, indices, late):
    """Row j waits where one that waits reads it: its solution is not complete before."""
    for i in range(hi - 1, lo - 1, -1):
        if late[i - lo]:
            for e in range(indptr[i], indptr[i + 1] - 1):
                j = indices[e]
                if j >= lo:
                    late[j - lo] = True


def waiting(lo: int, hi: int, arriving: np.ndarray, indptr: np.ndarray, indices: np.ndarray,
            transposed: bool) -> np.ndarray | None:
    """Which of the rows lo, ..., hi - 1 wait, shape (hi - lo,), if messages write rows `arriving` of the solution (or
    ghosts that these rows read); None: about all of them.
    """
    late = np.zeros(hi - lo, dtype=np.bool_)
    late[arriving[(arriving >= lo) & (arriving < hi)] - lo] = True
    for _ in range(4):  # what is too short to be taken by itself makes others wait
        (_backward if transposed else _forward)(int(indptr[hi] - indptr[lo]), lo, hi, indptr, indices, late)
        edges = runs(~late)
        short = [(a, b) for a, b in edges if b - a < SHORT]
        if not short:
            return late if edges and len(edges) <= MOST else None
        for a, b in short:
            late[a:b] = True
    return None


def runs(which: np.ndarray) -> list[tuple[int, int]]:
    """Begin and end of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], which, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def part(table: np.ndarray, lo: int, which: np.ndarray) -> np.ndarray:
    """The part of a table of stretches that stands for the rows lo + i with which[i]."""
    parts = [within(table, lo + a, lo + b) for a, b in runs(which)]
    return np.concatenate(parts) if parts else table[:0]


__all__ = ["part", "runs", "waiting"]
