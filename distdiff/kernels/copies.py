"""Many short copies as one call: what packs and unpacks messages, superstep after superstep.

Between two supersteps' computing nothing of NumPy is left in the caches that instructions come from, so each of its
calls takes several times as long as in a loop of its own; compiled loops are one call whatever the number of copies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import stream
from .sequence import Sequence

COPY, MOVE, ADD = range(3)  # as in `copies_loops`: MOVE leaves zeros behind


class Copies:
    """to[...] = source[...], or += (ADD), for views of float64 with up to two axes, in the order in which they come."""

    def __init__(self) -> None:
        self._views: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._compiled: tuple[Callable[[np.ndarray], None], np.ndarray] | None = None
        self._elements = 0

    def add(self, how: int, to: np.ndarray, source: np.ndarray) -> None:
        """One more copy, before the first call."""
        self._views.append((how, to, source))
        self._elements += to.size

    def __bool__(self) -> bool:
        return bool(self._views)

    def __call__(self) -> None:
        if self._compiled is not None:
            run, table = self._compiled
            run(table)
            return
        if stream.compiled(self._elements):
            from .copies_loops import run

            self._compiled = run, np.array([_row(*view) for view in self._views], dtype=np.int64).reshape(-1, 9)
            self()
            return
        for how, to, source in self._views:
            if how == ADD:
                np.add(to, source, out=to)
            else:
                np.copyto(to, source)
            if how == MOVE:
                source[...] = 0.0

    def join(self, sequence: Sequence) -> bool:
        """Put them into a sequence.  False: NumPy does them."""
        if self._compiled is None:
            return not self._views
        sequence.copies(self._compiled[1], *self._views)
        return True


class Picked:
    """to[where] = source[places], leaving zeros behind (MOVE), or += (ADD); places are distinct, slices or arrays."""

    def __init__(self, how: int, to: np.ndarray, where: slice | np.ndarray, source: np.ndarray,
                 places: slice | np.ndarray) -> None:
        self._how, self._to, self._where, self._source, self._places = how, to, where, source, places

    def __call__(self) -> None:
        to, where, source, places = self._to, self._where, self._source, self._places
        if self._how == ADD:
            to[where] = to[where] + source[places]
        elif isinstance(where, slice) and not isinstance(places, slice):
            np.take(source, places, 0, to[where], "clip")  # mode: it would buffer `out` otherwise
        else:
            to[where] = source[places]
        if self._how == MOVE:
            source[places] = 0.0

    def join(self, sequence: Sequence) -> bool:
        """Put it into a sequence.  False: NumPy does it."""
        where, places = _numbers(self._where, self._to), _numbers(self._places, self._source)
        if self._to.ndim > 1 or not stream.compiled(len(where)):
            return False
        if not (self._to.flags.c_contiguous and self._source.flags.c_contiguous):
            return False
        sequence.picked(self._how, self._to, where, self._source, places)
        return True


class Zeros:
    """vector[...] = 0, one call or part of a sequence."""

    def __init__(self, vector: np.ndarray) -> None:
        self._vector = vector

    def __call__(self) -> None:
        self._vector.fill(0.0)

    def join(self, sequence: Sequence) -> bool:
        """Put it into a sequence.  False: NumPy does it."""
        if self._vector.ndim > 1 or not stream.compiled(self._vector.size):
            return False
        sequence.zeros(self._vector)
        return True


def _numbers(places: slice | np.ndarray, array: np.ndarray) -> np.ndarray:
    if isinstance(places, slice):
        return np.arange(*places.indices(len(array)), dtype=np.int64)
    return np.ascontiguousarray(places, dtype=np.int64)


def _row(how: int, to: np.ndarray, source: np.ndarray) -> tuple[int, ...]:
    """how, rows, elements of a row, and of either side: address, elements from row to row, from element to element."""
    shape = (1, *to.shape) if to.ndim == 1 else to.shape
    (a, b), (c, d) = (((0,) * (2 - x.ndim)) + tuple(s // x.itemsize for s in x.strides) for x in (to, source))
    rows, n = shape
    if a == n * b and c == n * d:  # one row after the other
        rows, n = 1, rows * n
    elif rows > n:
        rows, n, a, b, c, d = n, rows, b, a, d, c
    return (how, rows, n, to.__array_interface__["data"][0], a, b, source.__array_interface__["data"][0], c, d)


__all__ = ["ADD", "COPY", "MOVE", "Copies", "Picked", "Zeros"]
