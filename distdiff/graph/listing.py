"""Nodes that are read one by one, and by whom, in few bytes.

What scalar code reads of earlier stretches of itself it mostly reads evenly: every fifth node, each as often, by
readers that follow each other evenly as well.  Such a stretch is eight numbers however many nodes it has.  Where nodes
come in no such order they are listed, every column in as few bytes as its numbers span.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..kernels.structure import even_stretches

LONG = 8  # nodes of a stretch, on average, from which stretches take less than their nodes


class Single(NamedTuple):
    """Nodes read one by one, ascending: how often, and the positions of their first and last reader.

    All of one type, 32 bits where positions allow.
    """

    ids: np.ndarray
    uses: np.ndarray
    begin: np.ndarray
    end: np.ndarray


class _Even:
    """Stretches by where they begin, in the list and (rows of `start`) in all columns, and by their steps."""

    def __init__(self, nodes: Single, begins: np.ndarray) -> None:
        second = np.minimum(begins + 1, np.append(begins[1:], len(nodes.ids)) - 1)
        self.begins = np.append(begins, len(nodes.ids)).astype(np.int32)
        self.start = np.stack([column[begins] for column in nodes])
        self.step = np.stack([column[second] for column in nodes]) - self.start

    @property
    def nbytes(self) -> int:
        return self.begins.nbytes + self.start.nbytes + self.step.nbytes

    def between(self, low: int, high: int) -> Single:
        first = int(np.searchsorted(self.begins, low, side="right")) - 1
        last = int(np.searchsorted(self.begins, high))  # the stretch after them, or the end
        length = np.diff(np.clip(self.begins[first:last + 1], low, high))
        within = np.arange(low, high, dtype=self.start.dtype) - np.repeat(self.begins[first:last], length)
        return Single(*(np.repeat(start[first:last], length) + np.repeat(step[first:last], length) * within
                        for start, step in zip(self.start, self.step)))

    def place(self, ids: np.ndarray) -> np.ndarray:
        at = np.maximum(np.searchsorted(self.start[0], ids, side="right") - 1, 0)
        before = -(-(ids - self.start[0][at]) // np.maximum(self.step[0][at], 1))
        length = self.begins[at + 1] - self.begins[at]
        return self.begins[at] + np.clip(before, 0, length)


class _Listed:
    """Every column's distance from its least number."""

    def __init__(self, nodes: Single) -> None:
        self.kind = nodes.ids.dtype
        self.least = [int(column.min()) for column in nodes]
        self.columns = [_narrow(column, least) for column, least in zip(nodes, self.least)]

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns)

    def between(self, low: int, high: int) -> Single:
        return Single(*(column[low:high].astype(self.kind) + self.kind.type(least)
                        for column, least in zip(self.columns, self.least)))

    def place(self, ids: np.ndarray) -> np.ndarray:
        column, least = self.columns[0], self.least[0]
        return np.searchsorted(column, np.clip(ids - least, 0, int(column[-1]) + 1).astype(column.dtype))


def _narrow(column: np.ndarray, least: int) -> np.ndarray:
    """Distances from the least number, in a type that has room for one more than the largest."""
    away = column - column.dtype.type(least)
    return away.astype(np.min_scalar_type(int(away.max()) + 1))


class Listing:
    """Several nodes as `Single` has them, every one once, ascending; parts of it are made when asked for."""

    def __init__(self, kind: Any) -> None:
        self._kind = np.dtype(kind)
        self._parts: list[_Even | _Listed] = []
        self._lowest: list[int] = []  # the first node of every part
        self._starts = [0]  # where it begins

    @classmethod
    def of(cls, nodes: Single) -> Listing:
        """One list."""
        made = cls(nodes.ids.dtype)
        made.append(nodes)
        return made

    def append(self, nodes: Single) -> None:
        """More nodes, after all that are there."""
        n = len(nodes.ids)
        if not n:
            return
        begins = np.empty(n, dtype=np.int64)
        count = even_stretches(*nodes, begins)
        self._parts.append(_Even(nodes, begins[:count]) if LONG * count < n else _Listed(nodes))
        self._lowest.append(int(nodes.ids[0]))
        self._starts.append(self._starts[-1] + n)

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self._parts)

    @property
    def last(self) -> int:
        """The last node; -1 where there is none."""
        return int(self[len(self) - 1:len(self)].ids[0]) if len(self) else -1

    @property
    def ids(self) -> np.ndarray:
        """All nodes, in numbers of 64 bits."""
        return self[:].ids.astype(np.int64)

    def __getitem__(self, part: slice) -> Single:
        low, high, _ = part.indices(len(self))
        found = [Single(*np.empty((4, 0), dtype=self._kind))]
        first = int(np.searchsorted(self._starts, low, side="right")) - 1
        while low < high:
            stop = min(high, self._starts[first + 1])
            found.append(self._parts[first].between(low - self._starts[first], stop - self._starts[first]))
            low, first = stop, first + 1
        return found[-1] if len(found) < 3 else Single(*(np.concatenate(column) for column in zip(*found)))

    def parts(self, most: int) -> Iterator[Single]:
        """All of it, so many nodes at a time, in numbers of 64 bits."""
        for start in range(0, len(self), most):
            yield Single(*(column.astype(np.int64) for column in self[start:start + most]))

    def place(self, ids: np.ndarray) -> np.ndarray:
        """How many nodes come before each of ids: where those that are listed stand."""
        ids = np.asarray(ids, dtype=np.int64)
        part = np.searchsorted(self._lowest, ids, side="right") - 1
        found = np.zeros(len(ids), dtype=np.int64)
        for number in np.unique(part[part >= 0]).tolist():
            here = np.flatnonzero(part == number)
            found[here] = self._starts[number] + self._parts[number].place(ids[here])
        return found


__all__ = ["Listing", "Single"]
