"""Planned combinations bound to memory: as tables for the compiled loops, or as views for NumPy's."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import groupby
from math import prod

import numpy as np

from ..kernels import combine, overlap
from ..kernels.sequence import Sequence
from ..strided import ITEM, core_shape, core_view
from .combination import CONSTANT, MASK, SHIFT, STORED, VALUES, Factor
from .sweep_ops import Box, Combine, Pass, Plan, Repeat, Time, Turn

Combinations = Combine | Repeat | Turn
NO_FACTOR = (-1, 0, 0, 0, 0, 0)  # kind, number, at, three strides

BOX = 20_000  # elements that NumPy moves in the time that its calls for a box take
PART = 1 << 22  # elements between two looks at whether to go on: some milliseconds


class Memory:
    """Where the factors of coefficients lie: values of blocks, constant arrays, stored partials.

    tables : those of the plan's combinations, call by call, once they were made: they name rows of the workspace, so
        they serve any number of right-hand sides, in any workspace, as long as the factors stay where they are
    """

    def __init__(self, block: Callable[[int], np.ndarray], blocks: int, plan: Plan, stored: np.ndarray) -> None:
        self.block, self.constants, self.stored = block, plan.constants, stored
        self.vectors, self.partials = plan.vectors, plan.partials
        self.tables: list[combine.Tables] = []
        self._addresses = np.zeros(blocks, dtype=np.int64)

    def addresses(self, kinds: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Addresses of the arrays that factors (kind, number) read; kind -1: none, 0."""
        result = np.zeros(len(kinds), dtype=np.int64)
        here = kinds == VALUES
        for b in np.unique(numbers[here]).tolist():
            if not self._addresses[b]:
                self._addresses[b] = _address(self.block(b))
        result[here] = self._addresses[numbers[here]]
        here = kinds == CONSTANT
        result[here] = np.array([_address(x) for x in self.constants], dtype=np.int64)[numbers[here]]
        here = kinds > CONSTANT
        result[here] = _address(self.stored) + ITEM * self.partials[numbers[here]]
        return result

    def view(self, f: Factor, shape: tuple[int, ...], columns: bool) -> np.ndarray:
        """A factor over `shape`, with a trailing axis of length 1 if it meets columns."""
        if f.kind == VALUES:
            x = core_view(self.block(f.number), f.at, shape, f.strides)
        elif f.kind == CONSTANT:
            x = np.asarray(_Elements(self.constants[f.number], f.at, shape, f.strides))
        else:
            x = core_view(self.stored, int(self.partials[f.number]) + f.at, shape, f.strides)
        return x[..., None] if columns else x


class _Elements:
    """Elements at + i . strides of a constant, which may run backwards or stand still, as an array."""

    def __init__(self, base: np.ndarray, at: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.base = base  # stays alive as long as views of it
        self.__array_interface__ = {
            "version": 3, "typestr": base.dtype.str, "data": (_address(base) + at * ITEM, True),
            "shape": core_shape(shape, strides), "strides": tuple(s * ITEM for s in strides)}


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class Programs:
    """The combinations of a plan bound to memory: NumPy's views one by one, compiled loops' tables all at once.

    Exchanges, products and scans come between combinations, and a table of one row takes NumPy as long as one of many.
    """

    def __init__(self, memory: Memory, W: np.ndarray) -> None:
        self.memory, self.W = memory, W
        self._groups: list[list[Combinations]] = []

    def add(self, operations: list[Combinations]) -> Program:
        """A call for consecutive combinations."""
        self._groups.append(operations)
        return Program(self, len(self._groups) - 1, operations)

    def tables(self, group: int) -> combine.Tables:
        """Those of one call."""
        if not self.memory.tables:
            everything = self._tabulate([op for operations in self._groups for op in operations])
            ends = np.cumsum([sum(map(_boxes, operations)) for operations in self._groups]).tolist()
            self.memory.tables = [everything._replace(cells=everything.cells[a:b]) for a, b in zip([0, *ends], ends)]
        return self.memory.tables[group]

    def views(self, operations: list[Combinations]) -> list[combine.Views]:
        """Those of consecutive combinations."""
        return [self._view(box) for op in operations
                for single in ([op] if type(op) is Combine else op.unrolled()) for box in single.boxes]

    def _view(self, box: Box) -> combine.Views:
        W, shape, columns = self.W, box.shape, self.W.ndim == 2
        dst = core_view(W, self._row(box.dst), shape, box.strides)
        passes = []
        for src, strides, a, b, factors in box.passes:
            p, q = (*(self.memory.view(f, shape, columns) for f in factors), None, None)[:2]
            same = src == box.dst and strides == box.strides
            passes.append((dst if same else core_view(W, self._row(src), shape, strides), a, b, p, q))
        return dst, passes

    def _row(self, address: int) -> int:
        return int(self.memory.vectors[address >> SHIFT]) + (address & MASK)

    def _tabulate(self, operations: list[Combinations]) -> combine.Tables:
        loops = list(_repeats(operations))
        starts = np.zeros((sum(len(loop.times) for _, loop in loops), 2), dtype=np.int64)  # of cells, passes of a time
        bodies: dict[int, list[tuple[int, Repeat]]] = {}  # (its first time, loop) for each with the same operations
        n, at = 0, np.zeros(2, dtype=np.int64)
        for body, loop in loops:
            bodies.setdefault(body, []).append((n, loop))
            sizes, times = np.array([sum(len(op.boxes) for op in loop.operations), sum(
                len(box.passes) for op in loop.operations for box in op.boxes)]), len(loop.times)
            starts[n : n + times] = at + sizes * np.arange(times)[:, None]
            n, at = n + times, at + sizes * times
        tables = combine.Tables(np.zeros((at[0], 12), dtype=np.int64), np.empty((at[1], 12), dtype=np.int64),
                                np.empty((at[1], 2)))
        for same in bodies.values():
            where = np.concatenate([starts[k : k + len(loop.times)] for k, loop in same])
            self._fill(tables, same[0][1]._replace(times=[time for _, loop in same for time in loop.times]), where)
        return tables

    def _fill(self, tables: combine.Tables, repeat: Repeat, starts: np.ndarray) -> None:
        """Rows of the tables for all times of a loop; `starts`: the first cell and pass of each."""
        times = len(repeat.times)
        boxes = [box for single in repeat.operations for box in single.boxes]
        terms = [p for box in boxes for p in box.passes]
        ends = np.cumsum([0, *(len(box.passes) for box in boxes)])
        shapes = np.array([[*_three(box.shape, 1), *_three(box.strides, 0)] for box in boxes], dtype=np.int64)
        tables.cells[_ranges(starts[:, 0], len(boxes)), :9] = np.concatenate([
            self._rows([box.dst for box in boxes], repeat), np.tile(shapes.reshape(-1, 6), (times, 1)),
            *((starts[:, 1:] + e).reshape(-1, 1) for e in (ends[:-1], ends[1:]))], axis=1)
        if terms:
            where = _ranges(starts[:, 1], len(terms))
            tables.passes[where] = self._passes(terms, repeat)
            tables.factors[where] = np.tile(np.array([[p.a, p.b] for p in terms]), (times, 1))

    def _rows(self, addresses: list[int], repeat: Repeat) -> np.ndarray:
        """Addresses as rows of the workspace, a column of all for one time after the other."""
        address = np.array(addresses, dtype=np.int64)
        numbers = _named(address >> SHIFT, repeat.vectors, [time.vectors for time in repeat.times])
        return (self.memory.vectors[numbers] + (address & MASK)).reshape(-1, 1)

    def _passes(self, terms: list[Pass], repeat: Repeat) -> np.ndarray:
        """Rows of `combine.Tables.passes`, for one time after the other."""
        numbers = array("q")
        for p in terms:
            numbers.extend(_three(p.strides, 0))
            for f in (*p.factors, None, None)[:2]:
                numbers.extend(NO_FACTOR if f is None else (f.kind, f.number, f.at, *_three(f.strides, 0)))
        table = np.frombuffer(numbers, dtype=np.int64).reshape(-1, 15)
        times = len(repeat.times)
        moves = np.array([time.blocks for time in repeat.times])[:, None]
        columns = [self._rows([p.src for p in terms], repeat), np.tile(table[:, :3], (times, 1))]
        for first in (3, 9):
            kind, number, at = table[:, first : first + 3].T
            inside = (kind == VALUES) & (number >= repeat.lo) & (number < repeat.hi)
            stored = np.where(kind == STORED, number, repeat.partials[0] if repeat.partials else 0)
            numbers = np.where(kind == STORED, _named(stored, repeat.partials, [t.partials for t in repeat.times]),
                               number + moves * inside).reshape(-1)
            kinds = np.tile(kind, times)
            address = self.memory.addresses(kinds, numbers) + ITEM * np.tile(at, times)
            columns += [np.where(kinds < 0, 0, address)[:, None], np.tile(table[:, first + 3 : first + 6], (times, 1))]
        return np.concatenate(columns, axis=1)


class Program:
    """Consecutive combinations, run as one call; bound when first run, to NumPy views or to compiled tables."""

    def __init__(self, programs: Programs, number: int, operations: list[Combinations]) -> None:
        self._programs, self._number, self._operations = programs, number, operations
        W = programs.W
        self._elements = sum(map(_elements, operations)) * W.size // max(len(W), 1)
        self._effort = self._elements + BOX * sum(map(_boxes, operations))
        self._columns = W.ndim == 1 or W.flags.f_contiguous  # each a vector of its own
        self._tables: combine.Tables | None = None
        self._views: list[combine.Views] | None = None
        self._parts: overlap.Boxes | None | bool = False  # False: not yet looked for

    def __call__(self) -> None:
        tables, views = self._bound()
        if tables is not None:
            combine.run(self._programs.W, tables)
        else:
            combine.run_views(views)

    def around(self, arrive: Callable[[], None], arriving: overlap.Intervals) -> None:
        """The same, `arrive` being called where it is needed: it waits for messages and writes rows `arriving`."""
        tables, views = self._bound()
        W = self._programs.W
        if tables is not None and self._parts is False:
            self._parts = overlap.boxes(tables, arriving, 1 if W.ndim == 1 else W.shape[1])
        if isinstance(self._parts, overlap.Boxes):
            combine.run(W, self._parts.early)
            arrive()
            combine.run(W, self._parts.late)
            return
        arrive()
        self()

    def join(self, sequence: Sequence, arrive: Callable[[], None] | None = None,
             arriving: overlap.Intervals | None = None) -> bool:
        """Put it, or what `around` does, into a sequence.  False: NumPy does it, or `arrive` is no compiled loops."""
        W, here = self._programs.W, self._tables
        if here is None:
            return False
        if arrive is not None and isinstance(self._parts, overlap.Boxes):
            sequence.boxes(W, self._parts.early)
            here = self._parts.late
        if arrive is not None and not sequence.join(arrive):
            return False
        sequence.boxes(W, here)
        return True

    @property
    def early(self) -> int:
        """Elements that are computed before messages have arrived."""
        return self._parts.elements if isinstance(self._parts, overlap.Boxes) else 0

    def until(self, given_up: Callable[[], bool]) -> None:
        """The same, but no more than about PART elements after `given_up()` is true."""
        tables, views = self._bound()
        boxes = len(tables.cells) if tables is not None else len(views)
        step = max(1, PART * boxes // max(self._elements, 1))
        for start in range(0, boxes, step):
            if given_up():
                return
            if tables is not None:
                combine.run(self._programs.W, tables._replace(cells=tables.cells[start : start + step]))
            else:
                combine.run_views(views[start : start + step])

    def _bound(self) -> tuple[combine.Tables | None, list[combine.Views]]:
        """Tables for the compiled loops, or None and views for NumPy's."""
        if self._columns and combine.compiled(self._effort):
            if self._tables is None:
                self._tables, self._views = self._programs.tables(self._number), None
            return self._tables, []
        if self._views is None:
            self._views = self._programs.views(self._operations)
        return None, self._views


def _repeats(operations: list[Combinations]) -> Iterator[tuple[int, Repeat]]:
    """The operations as loops, with what tells their bodies apart: those between two loops as one that runs once, all
    turns of one as the loop they are.
    """
    for _, some in groupby(operations, key=_loop):
        once = list(some)
        first = once[0]
        if type(first) is Combine:
            yield id(once), Repeat(once, [], [], [Time(0, 0, 0, [], [])], 0, 0)
        elif type(first) is Turn:
            body = first.repeat.operations
            yield id(body), first.repeat._replace(operations=[op for op in body if type(op) is Combine])
        else:
            yield id(first.operations), first


def _loop(op: Combinations) -> int:
    """What tells a loop from the next; 0: none."""
    return 0 if type(op) is Combine else id(op.repeat if type(op) is Turn else op)


def _ranges(starts: np.ndarray, n: int) -> np.ndarray:
    """start, ..., start + n - 1 for each of the starts, one after another."""
    return (starts[:, None] + np.arange(n)).reshape(-1)


def _named(numbers: np.ndarray, old: list[int], new: list[list[int]]) -> np.ndarray:
    """For each time, numbers among `old` by their names then, shape (times, n); `old` empty: unchanged."""
    if not old:
        return np.tile(numbers, (len(new), 1))
    return np.array(new, dtype=np.int64)[:, np.searchsorted(old, numbers)]


def _three(x: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """As many as three axes, the first ones made up."""
    return (fill,) * (3 - len(x)) + x


def _boxes(op: Combinations) -> int:
    if type(op) is Repeat:
        return len(op.times) * sum(map(_boxes, op.operations))
    return len(op.combine.boxes if type(op) is Turn else op.boxes)


def _elements(op: Combinations) -> int:
    if type(op) is Repeat:
        return len(op.times) * sum(_elements(single) for single in op.operations)
    return sum(prod(box.shape) * max(len(box.passes), 1) for box in (op.combine if type(op) is Turn else op).boxes)
