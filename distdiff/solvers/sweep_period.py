"""Loops on the tape: stretches of events that repeat, all block numbers moved on by a constant.

A loop in the user's function leaves one period of statements after another.  Planning is a function of the statements
and of the planner's state, so where both are a period's, only renumbered, the operations are the last period's,
renumbered.  Finding that costs a comparison of each statement with the one a period before it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..ops import DIVIDE, MULTIPLY
from ..partition.local import LocalTape
from ..strided import BlockIndex
from ..tape import Affine, Const, Indexed, Joint, Vector

Event = tuple[str, Any]
HALO = ("start", "finish")  # kinds of events that are half an exchange

SHORTEST = 4  # periods that make a loop
LONGEST = 2000  # events of a period
TRIES = 8  # lags looked at from one place


class Loop(NamedTuple):
    """Events start + j period, ..., start + (j + 1) period - 1 for j < count are alike.

    Blocks lo, ..., hi - 1 belong to the loop and are `blocks` further in each period; items are `items`, supersteps
    `steps` further.
    """

    start: int
    period: int
    count: int
    blocks: int
    items: int
    steps: int
    lo: int
    hi: int

    @property
    def stop(self) -> int:
        return self.start + self.count * self.period


def loops(local: LocalTape, index: BlockIndex, events: list[Event],
          same: Callable[[int, int, int], bool]) -> list[Loop]:
    """The longest loops, disjoint; `same(e, f, blocks)`: what else must agree of events e and f, `blocks` apart.

    index: of the tape's blocks.
    """
    keys = [_key(local, event) for event in events]
    found: list[Loop] = []
    stretches = [(0, len(events))]
    while stretches:
        lo, hi = stretches.pop()
        if hi - lo < 8 * SHORTEST:
            continue
        for middle in ((lo + hi) // 2, (lo + 3 * hi) // 4, (3 * lo + hi) // 4):
            loop = _around(local, index, events, keys, lo, hi, middle, same)
            if loop is not None:
                found.append(loop)
                stretches += [(lo, loop.start), (loop.stop, hi)]
                break
    return found


def _key(local: LocalTape, event: Event) -> Any:
    """Little, but quickly compared."""
    kind, what = event
    if kind != "statements":
        return kind
    item = local.items[what[0]]
    return len(what), item.site, item.op.name, item.shape


def _around(local: LocalTape, index: BlockIndex, events: list[Event], keys: list[Any], lo: int, hi: int, middle: int,
            same: Callable[[int, int, int], bool]) -> Loop | None:
    tries = 0
    for lag in range(1, min(LONGEST, middle - lo, hi - middle) + 1):
        if keys[middle - lag] != keys[middle] or keys[middle - lag : middle] != keys[middle : middle + lag]:
            continue
        pair = _Pair.of(local, index, events, middle, lag)
        if pair is not None:
            stop = middle
            while stop < hi and pair.alike(stop) and same(stop, stop - lag, pair.blocks):
                stop += 1
            start = middle
            while start - lag > lo and pair.alike(start - 1) and same(start - 1, start - 1 - lag, pair.blocks):
                start -= 1
            loop = pair.loop(start - lag, stop)
            if loop is not None:
                return loop
        tries += 1
        if tries == TRIES:
            break
    return None


class _Pair:
    """Compares events a lag apart."""

    def __init__(self, local: LocalTape, index: BlockIndex, events: list[Event], lag: int, i: int, j: int) -> None:
        """i, j: two items a lag apart."""
        self.local, self.events, self.lag, self.items = local, events, lag, i - j
        after, before = local.items[i].out.block, local.items[j].out.block
        self.blocks = after - before
        self.nodes = local.blocks[after].first - local.blocks[before].first
        self.index = index
        self.steps: int | None = None  # from the first exchange on
        self.far = 0  # the furthest that a reference within the loop reaches back, in blocks
        self.ahead = 0  # and forward: ghosts may come before their block is written to
        self.outside = -1  # the last block that all periods refer to alike

    @classmethod
    def of(cls, local: LocalTape, index: BlockIndex, events: list[Event], e: int, lag: int) -> _Pair | None:
        """Of the first event from e on that has statements."""
        for k in range(e, min(e + lag, len(events))):
            kind, what = events[k]
            if kind == "statements" and events[k - lag][0] == kind:
                pair = cls(local, index, events, lag, what[0], events[k - lag][1][0])
                return pair if pair.blocks > 0 else None
        return None

    def alike(self, e: int) -> bool:
        (kind, what), (other_kind, other) = self.events[e], self.events[e - self.lag]
        if kind != other_kind or kind == "run":
            return False
        if kind in HALO:
            return self._exchanges(e, what, other)
        items, step = self.local.items, self.items
        if len(what) != len(other):
            return False
        for i, j in zip(what, other):
            if i - j != step or not self._statements(items[i], items[j]):
                return False
        return True

    def _statements(self, x: Vector, y: Vector) -> bool:
        out, before, blocks = x.out, y.out, self.local.blocks
        block = out.block
        if block - before.block != self.blocks or out.offset != before.offset or out.strides != before.strides:
            return False
        if type(x) is not type(y) or x.shape != y.shape or blocks[block].shape != blocks[before.block].shape:
            return False
        if x.op is not y.op and not _same_operation(x, y):
            return False
        matters = x.op is MULTIPLY or x.op is DIVIDE  # constants that become coefficients
        for a, b in zip(x.operands, y.operands):
            if type(a) is not type(b):
                return False
            if type(a) is Affine:
                if a.offset != b.offset or a.strides != b.strides:
                    return False
                if a.block == b.block:
                    self.outside = max(self.outside, a.block)
                elif a.block - b.block == self.blocks:
                    self.far = max(self.far, block - a.block)
                else:
                    return False
            elif type(a) is Indexed:
                if not self._ids(block, a.ids, b.ids):
                    return False
            elif matters and a.value is not b.value and not _same_constant(a, b):
                return False
        return True

    def _ids(self, out: int, a: np.ndarray, b: np.ndarray) -> bool:
        """Explicit nodes, all moved on by a period or all outside the loop."""
        if a.shape != b.shape:
            return False
        if not a.size:
            return True
        if np.array_equal(a, b):
            self.outside = max(self.outside, self._block(int(a.max())))
            return True
        self.far = max(self.far, out - self._block(int(a.min())))
        return np.array_equal(a - self.nodes, b)

    def _block(self, node: int) -> int:
        return self.index.full[int(self.index.number(np.array(node)))]

    def _exchanges(self, e: int, step: int, other: int) -> bool:
        """Event e, half of the exchange of a superstep, and the same half of another superstep's."""
        if self.steps not in (None, step - other):
            return False
        self.steps = step - other
        x, y = (exchange.sends if self.events[e][0] == "start" else exchange.recvs
                for exchange in (self.local.steps[step].exchange, self.local.steps[other].exchange))
        if [rank for rank, _ in x] != [rank for rank, _ in y]:
            return False
        before = next((k for k in range(e - 1, -1, -1) if self.events[k][0] == "statements"), None)
        out = 0 if before is None else self.local.items[self._item(before)].out.block
        self.ahead = max(self.ahead, *(self._block(int(a.max())) - out for _, a in x if a.size), 0)
        return all(self._ids(out + self.blocks, a, b) for (_, a), (_, b) in zip(x, y))

    def loop(self, start: int, stop: int) -> Loop | None:
        """The whole periods between two events that refer to nothing between the loop's blocks and their own."""
        first = next((e for e in range(start, stop) if self.events[e][0] == "statements"), stop)
        if first == stop:
            return None
        items = self.local.items
        while first < stop and items[self._item(first)].out.block <= self.outside:
            first += self.lag
        if stop - first < SHORTEST * self.lag:
            return None
        lo = items[self._item(first)].out.block
        first += self.lag * (-(-self.far // self.blocks))
        count = (stop - first) // self.lag
        if count < SHORTEST:
            return None
        hi = items[self._item(first)].out.block + count * self.blocks
        shapes = [block.shape for block in self.local.blocks[lo:hi]]
        if shapes[self.blocks :] != shapes[: -self.blocks]:
            return None
        count -= -(-self.ahead // self.blocks)
        if count < SHORTEST:
            return None
        return Loop(first, self.lag, count, self.blocks, self.items, self.steps or 0, lo, hi)

    def _item(self, e: int) -> int:
        return self.events[e][1][0]


def _same_operation(x: Vector, y: Vector) -> bool:
    """Whether a plan makes no difference between the statements' operations: of joint ones it knows extents alone, and
    every implicit statement of a loop has an equation of its own.
    """
    if x.op == y.op:
        return True
    return (type(x) is Joint and type(y) is Joint and x.op.core_in == y.op.core_in
            and x.op.core_out == y.op.core_out and x.active == y.active)


def _same_constant(a: Const, b: Const) -> bool:
    x, y = a.value, b.value
    if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
        return (isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and x.strides == y.strides
                and x.__array_interface__["data"][0] == y.__array_interface__["data"][0])
    return x == y
