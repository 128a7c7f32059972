"""A rank's local numbers: which blocks it holds its nodes and ghosts in, and where a node of the tape lies in them.

A local block is a *slab*: rows low <= c < high of a block along its cut axis, the rank's own rows and the
halo next to them side by side; rows needed from far away (a periodic wrap) make slabs of their own, and
single nodes that no affine operand reads make one ghost block a superstep.  Lines of a scalar run make one
block a superstep.

Local blocks are numbered by (superstep, program order), so every operand of a node has a smaller number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..tape import Affine, Block
from .layout import Layout
from .parcel import OwnRun, Structure
from .reach import Read
from .whereabouts import stretches

NEAR_ROWS = 2  # rows of nobody's business between two needed intervals that still make one slab,
NEAR_SHARE = 8  # ... or this fraction of the intervals' rows
FEW = 16  # stretches of a block's places that are set one by one
EMPTY = np.empty(0, dtype=np.int64)


@dataclass
class Slab:
    """Places low <= c < high of a block's ring of rows (see `reach`), and the local block that holds them."""

    low: int
    high: int
    key: tuple[float, float, int]
    local: int = -1


class Numbering:
    """Where the nodes that a rank computes, and its ghosts, lie.

    Attributes
    ----------
    blocks : the local blocks; slabs : by block of the tape, those that hold rows of it
    run_parts : (superstep, run, its lines, local block) for what the rank has of scalar runs
    """

    def __init__(self, structure: Structure, rank: int, runs: list[OwnRun], spans: Callable[[int], tuple[int, int]],
                 needs: dict[int, set[tuple[int, int]]], ghosts: np.ndarray, steps: np.ndarray) -> None:
        """`spans` tells the places of a block that the rank computes, `needs` has those it reads by slabs; `ghosts` are
        nodes of others, in the order of their `steps`."""
        self._structure, self._rank, self._runs, self._spans = structure, rank, runs, spans
        self._where = structure.where
        self.slabs: dict[int, list[Slab]] = {}
        self._affines: dict[tuple[int, int, int], Affine] = {}
        self._make_slabs(needs, ghosts, steps)
        self._number(ghosts, steps)

    @property
    def n_nodes(self) -> int:
        """How many nodes the blocks have, those that nobody reads included."""
        return self.blocks[-1].first + self.blocks[-1].size if self.blocks else 0

    def _make_slabs(self, needs: dict[int, set[tuple[int, int]]], ghosts: np.ndarray, steps: np.ndarray) -> None:
        """Own rows and needed rows of every block, united where they are near."""
        structure, where = self._structure, self._where
        soonest: dict[int, int] = {}  # of a block's ghosts; `ghosts` is ordered by superstep
        for block, step in zip(*_firsts(where.block_of(ghosts), steps)):
            soonest[int(block)] = int(step)
        for block, layout in enumerate(structure.layouts):
            if layout is None:
                continue
            own = self._spans(block)
            spans = sorted([*needs.get(block, ()), *([own] if own[1] > own[0] else ())])
            if not spans or not layout.row:
                continue
            slabs: list[Slab] = []
            for low, high in spans:
                if slabs:
                    last = slabs[-1]
                    if low - last.high <= max(NEAR_ROWS, (last.high - last.low + high - low) // NEAR_SHARE):
                        last.high = max(last.high, high)
                        continue
                slabs.append(Slab(low, high, (soonest.get(block, 0), structure.order[block], 1)))
            for slab in slabs:
                if own[1] > own[0] and slab.low <= own[0] and slab.high >= own[1]:
                    slab.key = (int(where.steps[block, self._rank]), structure.order[block], 0)
            self.slabs[block] = slabs

    def _number(self, ghosts: np.ndarray, steps: np.ndarray) -> None:
        """Local blocks in the order of (superstep, program order), and the tables that `to_local` uses."""
        structure = self._structure
        made: list[tuple[tuple[float, float, int], tuple[int, ...], Slab | None, np.ndarray | None]] = []
        table: list[tuple[int, int, int, Slab, int]] = []  # block, rows low <= c < high, slab, where low lies in it
        for block, slabs in self.slabs.items():
            layout, shape = structure.layouts[block], structure.blocks[block].shape
            assert layout is not None
            for slab in slabs:
                made.append((slab.key, _slab_shape(shape, layout, slab.high - slab.low), slab, None))
                for turn in (-layout.n, 0, layout.n):
                    low, high = max(slab.low - turn, 0), min(slab.high - turn, layout.n)
                    if low < high:
                        table.append((block, low, high, slab, low + turn - slab.low))
        runs: list[tuple[int, OwnRun, np.ndarray, int]] = []  # as `run_parts`, with the place in `made`
        for run in self._runs:
            for step, lines in _groups(run.steps):
                runs.append((step, run, lines, len(made)))
                made.append(((step, structure.order[run.block], 0), (len(lines),), None, run.ids[lines]))
        table.sort(key=lambda entry: entry[:2])
        self._slab_block, self._slab_low, self._slab_high = (
            np.array([entry[k] for entry in table], dtype=np.int64) for k in range(3))
        self._slab_shift = np.array([at - low for _, low, _, _, at in table], dtype=np.int64)
        self._slab_width = np.array([slab.high - slab.low for *_, slab, _ in table], dtype=np.int64)
        self._slab_first = np.zeros(len(table), dtype=np.int64)
        slab_index, _ = self._slab_of(ghosts)
        loose = np.flatnonzero(slab_index < 0)
        for step, places in _groups(steps[loose]):
            made.append(((step, np.inf, 2), (len(places),), None, ghosts[loose[places]]))
        order = sorted(range(len(made)), key=lambda k: made[k][0])
        self.blocks: list[Block] = []
        position = [0] * len(made)
        single_ids, single_local = [EMPTY], [EMPTY]
        first = 0
        for place, k in enumerate(order):
            _, shape, slab, ids = made[k]
            self.blocks.append(Block(first, shape))
            position[k] = place
            if slab is not None:
                slab.local = place
            if ids is not None:
                single_ids.append(ids)
                single_local.append(first + np.arange(len(ids), dtype=np.int64))
            first += self.blocks[-1].size
        for t, (*_, slab, _) in enumerate(table):
            self._slab_first[t] = self.blocks[slab.local].first
        ids, local = np.concatenate(single_ids), np.concatenate(single_local)
        by_id = np.argsort(ids, kind="stable")
        self._single_ids, self._single_local = ids[by_id], local[by_id]
        self.run_parts = [(step, run, lines, position[k]) for step, run, lines, k in runs]

    def _slab_of(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(place of the slab that holds each node in the table or -1, row of the node)."""
        where = self._where
        block = where.block_of(ids)
        row = (ids - where.first[block]) // np.maximum(where.inner[block], 1) % np.maximum(where.n[block], 1)
        if not len(self._slab_block):
            return np.full(len(ids), -1), row
        wide = int(where.n.max(initial=1)) + 1
        at = np.searchsorted(self._slab_block * wide + self._slab_low, block * wide + row, side="right") - 1
        safe = np.maximum(at, 0)
        held = (at >= 0) & (self._slab_block[safe] == block) & (row < self._slab_high[safe])
        held &= where.scattered[block] < 0
        return np.where(held, at, -1), row

    def to_local(self, ids: np.ndarray) -> np.ndarray:
        """Local ids of nodes that the rank owns or has as ghosts, shape of ids."""
        flat = np.ravel(ids)
        ends = stretches(flat)
        if ends is not None:
            (low, slab), (high, other) = (self._each_to_local(flat[end]) for end in ends)
            length = ends[1] - ends[0] + 1
            if ((slab == other) & (slab >= 0) & (high - low == length - 1)).all():  # consecutive here as well
                return (np.repeat(low - ends[0], length) + np.arange(len(flat))).reshape(np.shape(ids))
        return self._each_to_local(flat)[0].reshape(np.shape(ids))

    def _each_to_local(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(local id, place of the slab in the table, -1 for single nodes) of every node."""
        where = self._where
        slab, row = self._slab_of(ids)
        held = np.flatnonzero(slab >= 0)
        local = np.empty(len(ids), dtype=np.int64)
        s, block = slab[held], where.block_of(ids[held])
        inner = where.inner[block]
        place = ids[held] - where.first[block]
        outer = place // (inner * where.n[block])
        local[held] = (self._slab_first[s] + place % inner
                       + (outer * self._slab_width[s] + row[held] + self._slab_shift[s]) * inner)
        rest = np.flatnonzero(slab < 0)
        if len(rest):
            at = np.searchsorted(self._single_ids, ids[rest])
            if (at >= len(self._single_ids)).any() or (self._single_ids[at] != ids[rest]).any():
                raise AssertionError("a rank has no place for a node it reads")
            local[rest] = self._single_local[at]
        return local, slab

    def affine(self, read: Read) -> Affine:
        """A reference to rows that one of the slabs holds."""
        layout = self._structure.layouts[read.block]
        assert layout is not None
        for slab in self.slabs[read.block]:
            if slab.low <= read.low and read.high <= slab.high:
                low, high = slab.low - read.turn, slab.high - read.turn
                key = (id(read.ref), low, high)  # references are kept by the parts, so ids stay theirs
                if key not in self._affines:
                    self._affines[key] = read.ref.affine(0, layout, low, high)
                _, offset, strides = self._affines[key]
                return Affine(slab.local, offset, strides)
        raise AssertionError("a rank has no place for rows it reads")

    def own_bits(self) -> tuple[np.ndarray, int]:
        """(which places are the rank's own, a bit each; how many): a flag a place would be half of all that a rank
        holds of a long program.  Places of a slab that nobody reads are not its own.
        """
        bits = np.zeros((self.n_nodes + 7) // 8, dtype=np.uint8)
        found: list[tuple[int, int, int, int]] = []  # stretches of own places: first, how many, how far apart, length
        for number, slabs in self.slabs.items():
            layout = self._structure.layouts[number]
            assert layout is not None
            low, high = self._spans(number)
            for slab in slabs:
                if slab.low <= low < high <= slab.high:
                    first, inner = self.blocks[slab.local].first, layout.inner
                    found.append((first + (low - slab.low) * inner, layout.outer, (slab.high - slab.low) * inner,
                                  (high - low) * inner))
        for *_, number in self.run_parts:
            found.append((self.blocks[number].first, 1, 0, self.blocks[number].size))
        for first, stop in _joined(found):
            begin, end = -(-first // 8), stop // 8
            if begin > end:  # within a byte
                bits[end] |= 0xFF >> first % 8 & ~(0xFF >> stop % 8)
                continue
            bits[begin:end] = 0xFF
            if first % 8:
                bits[begin - 1] |= 0xFF >> first % 8
            if stop % 8:
                bits[end] |= 0xFF & ~(0xFF >> stop % 8)
        for first, count, apart, length in found:
            if count > FEW and apart > length:  # all at once
                flags = np.zeros(first % 8 + count * apart, dtype=bool)
                flags[first % 8:].reshape(count, apart)[:, :length] = True
                packed = np.packbits(flags[:len(flags) - (apart - length)])
                bits[first // 8:first // 8 + len(packed)] |= packed
        return bits, sum(count * length for _, count, _, length in found)


def _joined(found: list[tuple[int, int, int, int]]) -> Iterator[tuple[int, int]]:
    """(first, stop) of stretches of places, joined where they touch; those that are many are left out."""
    first = stop = -1
    for start, count, apart, length in sorted(found):
        if apart <= length:
            count, length = 1, count * length
        for begin in range(start, start + count * apart, apart) if 1 < count <= FEW else (start,) * (count == 1):
            if begin != stop:
                if stop > first:
                    yield first, stop
                first = begin
            stop = begin + length
    if stop > first:
        yield first, stop


def _slab_shape(shape: tuple[int, ...], layout: Layout, rows: int) -> tuple[int, ...]:
    """The slab's shape: the block's own with fewer rows where the cut axis is one of its axes."""
    if layout.n == 1 and layout.outer == 1:
        return shape
    before = 1
    for axis, n in enumerate(shape):
        if before == layout.outer and n == layout.n:
            return shape[:axis] + (rows,) + shape[axis + 1:]
        before *= n
    return (layout.outer, rows, layout.inner)


def _groups(keys: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(key, places) for every distinct key, places in order."""
    if not len(keys):
        return []
    order = np.argsort(keys, kind="stable")
    edges = np.flatnonzero(np.diff(keys[order])) + 1
    return [(int(keys[places[0]]), places) for places in np.split(order, edges)]


def _firsts(keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each distinct key with the first of its values."""
    distinct, at = np.unique(keys, return_index=True)
    return distinct, values[at]


__all__ = ["Numbering"]
