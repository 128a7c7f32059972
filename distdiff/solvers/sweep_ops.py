"""The operations that a planned sweep is made of (see `sweep_plan`).

Places are addresses of vectors while planning (`combination.Vector`), then rows of the workspace W (`sweep_places`).
Combinations, of which there are most, keep addresses, and are moved as tables when they are bound to memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..partition.local import Exchange
from .combination import MASK, SHIFT, STORED, VALUES, Factor


class Pass(NamedTuple):
    """(a + b f) W[src + i . strides] for a box of indices i, f the product of the factors (none: b is not used)."""

    src: int
    strides: tuple[int, ...]
    a: float
    b: float
    factors: tuple[Factor, ...]


class Box(NamedTuple):
    """W[dst + i . strides] = sum of passes, for i over `shape` (up to three axes)."""

    dst: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    passes: tuple[Pass, ...]


class Combine(NamedTuple):
    """One row of blocks of the eliminated system: boxes that make up block `block`."""

    block: int
    boxes: list[Box]


class Partial(NamedTuple):
    """The stored partial `place` = the partial of statement `item` for operand k, over its shape in C order."""

    item: int
    k: int
    place: int
    shape: tuple[int, ...]


class Zero(NamedTuple):
    """W[start:stop] = 0."""

    start: int
    stop: int


class Strided(NamedTuple):
    """dst (+)= p src over an iteration space, dst and src affine in W.

    p is the constant `scale`, or (item >= 0) the partial of statement `item` for operand k.
    """

    dst: int
    dst_strides: tuple[int, ...]
    src: int
    src_strides: tuple[int, ...]
    shape: tuple[int, ...]
    scale: float
    item: int
    k: int
    write: bool
    overlapping: bool


class Scatter(NamedTuple):
    """W[places[k]] += scale p[k] src[k], places may repeat."""

    places: np.ndarray
    src: int
    src_strides: tuple[int, ...]
    shape: tuple[int, ...]
    scale: float
    item: int
    k: int


class Gather(NamedTuple):
    """dst += scale p[k] W[places[k]]."""

    dst: int
    dst_strides: tuple[int, ...]
    places: np.ndarray
    shape: tuple[int, ...]
    scale: float
    item: int
    k: int


class Scan(NamedTuple):
    """Cumulative sums along the last axis: t = W[src]; t[..., i] += t[..., i-1] (reverse: from the end); W[src] = t."""

    at: int
    strides: tuple[int, ...]
    shape: tuple[int, ...]
    reverse: bool


class Lines(NamedTuple):
    """A scalar run; of the blocks it touches node j lies at j + shifts[k], starts[k] <= j, the last being its own."""

    item: int
    starts: np.ndarray
    shifts: np.ndarray


class Product(NamedTuple):
    """W[out] (+)= J W[operands] of joint statement `item`, or W[operands] += J^T W[out].

    operands: for each the address of its first node, the addresses of all (an array), or None: it has no part in this.
    """

    item: int
    out: int
    operands: tuple[Any, ...]
    write: bool


class Start(NamedTuple):
    """A superstep's messages leave: forward what is sent, in the adjoint what ghosts gathered; places of W, each's."""

    step: int
    places: list[np.ndarray]


class Finish(NamedTuple):
    """They arrive: forward in ghosts, in the adjoint added to what was sent."""

    step: int
    places: list[np.ndarray]


class Seed(NamedTuple):
    """W[places] = seed[where], or += (then places may repeat)."""

    where: slice | np.ndarray
    places: slice | np.ndarray
    add: bool


class Result(NamedTuple):
    """result[where] = W[places]; zero if places is None."""

    where: slice | np.ndarray
    places: slice | np.ndarray | None


class Time(NamedTuple):
    """One time of a `Repeat`: how far blocks, items and supersteps are on, what vectors and partials are called."""

    blocks: int
    items: int
    steps: int
    vectors: list[int]
    partials: list[int]


class Repeat(NamedTuple):
    """The operations, once for each of `times`, with names of its own for vectors, partials and blocks lo to hi - 1.

    vectors, partials: the numbers in the operations that those of a time stand for, ascending.
    """

    operations: list[Any]
    vectors: list[int]
    partials: list[int]
    times: list[Time]
    lo: int
    hi: int

    def moves(self, time: Time) -> Moves:
        """From the operations to those of one of the times."""
        table = np.zeros(self.vectors[-1] + 1 if self.vectors else 0, dtype=np.int64)
        table[self.vectors] = time.vectors

        def block(b: int) -> int:
            return b + time.blocks if self.lo <= b < self.hi else b

        return Moves(table << SHIFT, dict(zip(self.partials, time.partials)), block, time.items, time.steps)

    def unrolled(self) -> list[Any]:
        """Each operation by itself."""
        return [moves.of(op) for moves in map(self.moves, self.times) for op in self.operations]

    def in_turn(self) -> list[Any]:
        """Each operation by itself, but combinations as turns: written out they cost more than all else in a plan."""
        return [Turn(self, op, time) if type(op) is Combine else moves.of(op)
                for time, moves in zip(self.times, map(self.moves, self.times)) for op in self.operations]


class Turn(NamedTuple):
    """One of a loop's combinations at one of its times; the loop has other operations, too, but for which it would be
    one call.
    """

    repeat: Repeat
    combine: Combine
    time: Time

    def unrolled(self) -> list[Any]:
        """The combination by itself."""
        return [self.repeat.moves(self.time).of(self.combine)]


class Moves:
    """Operations under other names, or at their places.

    vectors: for each vector's number the address where its elements begin now; partials likewise.
    """

    def __init__(self, vectors: np.ndarray, partials: Mapping[int, int] | np.ndarray,
                 block: Callable[[int], int] = lambda b: b, items: int = 0, steps: int = 0) -> None:
        self.vectors, self.partials, self.block, self.items, self.steps = vectors, partials, block, items, steps

    def where(self, address: Any) -> Any:
        """An address, an array, a slice or a tuple of them (None stays None)."""
        if address is None:
            return None
        if isinstance(address, tuple):
            return tuple(map(self.where, address))
        if isinstance(address, slice):
            start = self.where(address.start)
            return slice(start, start + address.stop - address.start)
        moved = self.vectors[address >> SHIFT] + (address & MASK)
        return int(moved) if isinstance(address, int) else np.asarray(moved)

    def of(self, op: Any) -> Any:
        """An operation."""
        if type(op) is Combine:
            return Combine(self.block(op.block), [
                Box(self.where(box.dst), box.shape, box.strides, tuple(
                    p._replace(src=self.where(p.src), factors=tuple(self._factor(f) for f in p.factors))
                    for p in box.passes)) for box in op.boxes])
        if type(op) in (Start, Finish):
            return type(op)(op.step + self.steps, [self.where(places) for places in op.places])
        if type(op) is Lines:
            return Lines(op.item + self.items, op.starts, self.where(op.starts + op.shifts) - op.starts)
        changes = {name: self.where(getattr(op, name)) for name in ADDRESSES[type(op)]}
        if type(op) is Partial:
            changes["place"] = self.partials[op.place]
        if getattr(op, "item", -1) >= 0:
            changes["item"] = op.item + self.items
        return op._replace(**changes)

    def _factor(self, f: Factor) -> Factor:
        if f.kind == VALUES:
            return f._replace(number=self.block(f.number))
        return f._replace(number=self.partials[f.number]) if f.kind == STORED else f


ADDRESSES: dict[type, tuple[str, ...]] = {
    Partial: (), Zero: ("start", "stop"), Strided: ("dst", "src"), Scatter: ("places", "src"),
    Gather: ("dst", "places"), Scan: ("at",), Product: ("out", "operands"), Seed: ("places",), Result: ("places",)}


def names(op: Any) -> tuple[set[int], set[int]]:
    """The vectors and the partials that an operation names."""
    if type(op) is Combine:
        passes = [p for box in op.boxes for p in box.passes]
        return ({box.dst >> SHIFT for box in op.boxes} | {p.src >> SHIFT for p in passes},
                {f.number for p in passes for f in p.factors if f.kind == STORED})
    if type(op) in (Start, Finish):
        addresses = op.places
    elif type(op) is Lines:
        addresses = [op.starts + op.shifts]
    else:
        addresses = [getattr(op, name) for name in ADDRESSES[type(op)]]
    addresses = [a for x in addresses for a in (x if isinstance(x, tuple) else (x,)) if a is not None]
    found: set[int] = set()
    for address in addresses:
        first = address.start if isinstance(address, slice) else address
        found.update(np.unique(np.asarray(first) >> SHIFT).tolist())
    return found, {op.place} if type(op) is Partial else set()


class Plan(NamedTuple):
    """Operations, then results; `rows` of workspace, `stored` coefficients, `moved` elements that passes go over.

    kept: rows that elimination leaves, those where the right-hand side enters aside; rows of workspace serve many.

    vectors, partials: where each vector begins among the rows, each partial among the stored coefficients.
    by_rows: with several columns, the entries of a row are best neighbours in memory (scalar code, small arrays);
    else each column is best a vector of its own.
    constants: arrays that factors of the kind CONSTANT name.
    exchanges: the messages of every superstep, the plan's own: passes of two plans never meet in one buffer.
    """

    operations: list[Any]
    results: list[Result]
    rows: int
    stored: int
    kept: int
    moved: int
    by_rows: bool
    constants: list[np.ndarray]
    vectors: np.ndarray
    partials: np.ndarray
    exchanges: list[Exchange]


@dataclass(frozen=True)
class Counts:
    """What one solve of a sweep works on, over all ranks."""

    rows: int  # kept by block elimination
    terms_per_row: float  # of a kept row, on average: its diagonals, where rows are a stencil's
    coefficient_bytes: int  # stored coefficients; others are constants and the point's own values
    moved: int  # elements that the solve's operations go over


def combines(op: Any) -> bool:
    """Whether an operation is a combination, or a loop of nothing else."""
    if type(op) is Repeat:
        return all(type(x) is Combine for x in op.operations)
    return type(op) is Combine or type(op) is Turn


def in_turn(operations: list[Any]) -> Iterator[Any]:
    """The operations, turn by turn of loops that have others than combinations."""
    for op in operations:
        if type(op) is Repeat and not combines(op):
            yield from op.in_turn()
        else:
            yield op
