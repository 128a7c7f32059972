"""Which values a solve needs, and where the others can live while they are needed to compute them.

A partial reads few values: those of linear statements are constants, and of a product only the other operand is read.
In a stencil code four values of five are read by nothing but the next statements.  Such blocks share a small pool of
memory, a block's place being taken again as soon as its last reader has run; the pool stays in cache, and evaluating a
point writes only what has to stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ops import COPY, MULTIPLY
from .partials import coefficient
from .partition.local import LocalTape
from .strided import BlockIndex
from .tape import Affine, Const, Indexed, Joint, Operand, ScalarRun, Vector
from .tracing.memory import apart


class Pool:
    """Intervals of one growing stretch of memory; what was given back last is taken first."""

    def __init__(self) -> None:
        self.size = 0
        self._free: dict[int, list[int]] = {}

    def take(self, n: int) -> int:
        """The offset of n free elements."""
        same = self._free.get(n)
        if same:
            return same.pop()
        larger = [size for size, offsets in self._free.items() if size > n and offsets]
        if larger:
            size = min(larger)
            offset = self._free[size].pop()
            self.give(offset + n, size - n)
            return offset
        self.size += n
        return self.size - n

    def give(self, offset: int, n: int) -> None:
        """Give n elements back."""
        self._free.setdefault(n, []).append(offset)


def lengths(sizes: Sequence[int], parts: int = 8) -> list[int]:
    """Elements to take for arrays of these sizes: those that differ by less than a `parts`-th take as many as the
    largest of them.

    Deep halos make the rows of a superstep's time steps a little longer from one to the next (backwards), and of slots
    that are free each would be a little too short.
    """
    n = np.asarray(sizes, dtype=np.int64)
    grain = np.maximum((1 << np.maximum(np.frexp(n)[1] - 1, 0).astype(np.int64)) // parts, 1)
    _, like = np.unique(-(-n // grain) * grain, return_inverse=True)
    largest = np.zeros(like.max(initial=-1) + 1, dtype=np.int64)
    np.maximum.at(largest, like, n)
    return largest[like].tolist()


def kept_blocks(local: LocalTape, index: BlockIndex) -> list[bool]:
    """Which blocks' values partials, guards, inputs or outputs read; the others only feed later statements."""
    kept = [False] * len(local.blocks)

    def keep(ref: Operand) -> None:
        if type(ref) is Affine:
            kept[ref.block] = True
        elif type(ref) is Indexed:
            for b in index.blocks_of(ref.ids):
                kept[b] = True

    for ids in (local.inputs.ids, local.outputs.ids):
        keep(Indexed(ids))
    for guard in local.guards:
        keep(guard.ref)
    for item in local.items:
        if type(item) is ScalarRun:
            kept[item.block] = True
            keep(Indexed(item.a[item.a >= 0]))
            keep(Indexed(item.b[item.b >= 0]))
        else:
            for j in _read_by_partials(item):
                keep(item.out if j < 0 else item.operands[j])
    return kept


def _read_by_partials(item: Vector) -> set[int]:
    """Operands (-1: the result) whose values the statement's array partials read."""
    if type(item) is Joint:
        return set(item.op.reads)
    read: set[int] = set()
    for k in range(len(item.operands)):
        what = coefficient(item, k)
        if what is not None and not isinstance(what, float):
            read |= item.op.reads[k]
            if item.reduced and item.op is not COPY and item.op is not MULTIPLY:
                read |= set(range(len(item.operands)))  # the result is a sum: its terms are computed again
    return read


NOWHERE = -2  # a block that lives within one group of statements


def lodgings(local: LocalTape, kept: list[bool], index: BlockIndex,
             groups: Sequence[tuple[int, int]] = ()) -> tuple[list[int], int]:
    """(offset of every block in a pool, -1 for those kept, `NOWHERE` for those that need no memory; size of the pool).

    groups: (start, stop) of items that run tile by tile, in any order as far as the pool is concerned.
    """
    uses: list[set[int]] = []  # blocks an event reads or writes, in forward order
    once: dict[int, bool] = {}  # blocks used so far: whether by one group alone
    following = iter([*groups, (len(local.items),) * 2])
    start, stop = next(following)
    for step in local.steps:
        for i, end, messages in ((step.start, step.ready, step.exchange.sends),
                                 (step.ready, step.stop, step.exchange.recvs)):
            while i < end:
                grouped = i == start
                event = range(i, stop if grouped else i + 1)
                if grouped:
                    start, stop = next(following)
                used: set[int] = set()
                for item in local.items[event.start : event.stop]:
                    if type(item) is not ScalarRun:
                        used.add(item.out.block)
                        for ref in item.operands:
                            if type(ref) is Affine:
                                used.add(ref.block)
                            elif type(ref) is not Const:
                                used.update(index.blocks_of(ref.ids))
                once.update((b, grouped and b not in once) for b in used)
                uses.append(used)
                i = event.stop
            used = {b for _, ids in messages for b in index.blocks_of(ids)}
            once.update(dict.fromkeys(used, False))
            uses.append(used)
    last: dict[int, int] = {}
    for e, used in enumerate(uses):
        last.update(dict.fromkeys(used, e))
    room = lengths([apart(block.size) for block in local.blocks])
    pool, places = Pool(), [-1 if kept[b] or not once.get(b, False) else NOWHERE for b in range(len(local.blocks))]
    for e, used in enumerate(uses):
        transient = [b for b in used if not kept[b] and places[b] != NOWHERE]
        for b in transient:
            if places[b] < 0:
                places[b] = pool.take(room[b])
        for b in transient:
            if last[b] == e:
                pool.give(places[b], room[b])
    return places, pool.size
