"""Programs of elementwise operations that run tile by tile, so that what only they read never leaves the first cache.

NumPy streams every operand of every operation through memory, or at best through the second cache level, and takes
microseconds to start.  Here consecutive operations over one grid of elements form a *group*; the interpreter runs all
of a group's instructions on one tile of the grid, then on the next.  (The idea is that of numexpr's virtual machine.)
Nothing is compiled for a program: it is a table of integers.

A group's grid has `rows` of R elements.  An instruction covers a box of it, rows low to high and `width` columns, and
reads and writes at places that move by `row` bytes with every row and by `step` elements with every column.  A *local*
place is a slot of scratch memory that has the size of one tile.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import NamedTuple

import numpy as np

from .jit import worth_it
from .sequence import Sequence

TILE = 2048  # elements: a handful of slots of 16 KiB share the first cache level with what is read and written
COMPILE_AFTER = 300_000_000  # elements computed by NumPy, about 150 ms, before the interpreter is loaded ...
COMPILE_SOON = 10_000_000  # ... and if Numba is there already
DISPATCH = 5_000  # elements whose computing takes as long as NumPy takes to start an operation

NAMES = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "greater", "greater_equal", "less",
         "less_equal", "equal", "not_equal", "copy", "negative", "square", "absolute", "sqrt", "reciprocal", "where")
NUMBER = {name: number for number, name in enumerate(NAMES)}  # as in `tile_loops`


class Place(NamedTuple):
    """An operand of an instruction: where it starts, counted from row 0 of the grid, and how it moves."""

    base: int  # number in the table of addresses
    offset: int  # bytes
    row: int = 0  # bytes
    step: int = 0  # elements
    local: bool = False  # counted from the tile's first row


NOWHERE = Place(0, 0)


class _Loops:
    module: ModuleType | None = None
    spent = 0


def worth(elements: int, operations: int) -> bool:
    """Whether to run tile by tile from now on, after so much more work that NumPy could do."""
    _Loops.spent += elements + DISPATCH * operations
    if _Loops.module is None and worth_it(_Loops.spent, COMPILE_SOON if "numba" in sys.modules else COMPILE_AFTER):
        from . import tile_loops

        _Loops.module = tile_loops
    return _Loops.module is not None


def instruction(op: str, low: int, high: int, width: int, collapsed: bool, places: list[Place]) -> tuple[int, ...]:
    """A row of the table.  places: of the result, then of the operands.  collapsed: its rows join end to end."""
    y, a, b, c = _four(places)
    return (NUMBER[op], low, high, width, collapsed, y.offset, y.row, y.local, a.offset, a.row, a.local, a.step,
            b.offset, b.row, b.local, b.step, c.offset, c.row, c.local, c.step)


def bases(places: list[Place]) -> tuple[int, ...]:
    """The numbers of the addresses that go with an instruction."""
    return tuple(place.base for place in _four(places))


def _four(places: list[Place]) -> list[Place]:
    return [*places, *[NOWHERE] * (4 - len(places))]


class Program:
    """Groups of instructions.  `add` all of them, then `bind` the addresses."""

    def __init__(self) -> None:
        self._groups: list[tuple[int, int, int, int, int]] = []
        self._code: list[np.ndarray] = []
        self._bases: list[np.ndarray] = []
        self._length = 0

    def add(self, rows: int, tile: int, code: np.ndarray, bases: np.ndarray) -> None:
        """A group over a grid of `rows`, `tile` of them at a time: its instructions (n, 20) and their bases (n, 4)."""
        self._groups.append((self._length, self._length + len(code), rows, tile, 0))
        self._code.append(code)
        self._bases.append(bases)
        self._length += len(code)

    def bind(self, addresses: np.ndarray, memory: tuple[np.ndarray, ...]) -> Bound:
        """The program at these addresses (int64); `memory` is kept alive, the rest is the caller's to keep."""
        code = np.concatenate(self._code)
        code[:, [5, 8, 12, 16]] += addresses[np.concatenate(self._bases)]
        return Bound(np.array(self._groups, dtype=np.int64), code, memory)


class Bound(NamedTuple):
    """A program on given memory.

    groups : (g, 5) int64: first and last + 1 of a group's instructions, its rows, those of a tile, and the row with
        which it begins: not 0 where it is computed in parts
    """

    groups: np.ndarray
    code: np.ndarray
    memory: tuple[np.ndarray, ...]

    def run(self) -> None:
        """Execute it."""
        assert _Loops.module is not None
        _Loops.module.run(self.groups, self.code)

    def join(self, sequence: Sequence) -> bool:
        """Put it into a sequence."""
        sequence.tiles(self.groups, self.code)
        sequence.held += self.memory
        return True
