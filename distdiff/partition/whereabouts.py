"""Tables that say of any node which rank owns it and in which superstep it is computed."""

from __future__ import annotations

from copy import copy

import numpy as np

from ..tape import Block
from .layout import Layout

CHUNK = 1 << 20  # ids looked up at once, so that a long index array needs little scratch memory
FEW = 4  # consecutive ids a stretch, on average, from which stretches are looked up instead of ids
_COLUMNS = ("first", "size", "inner", "n", "cuts", "steps", "scattered")


def stretches(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(where stretches of consecutive ids begin, where they end) in a long list; None where they are short."""
    if len(ids) < 256:
        return None
    begins = np.flatnonzero(np.diff(ids) != 1) + 1
    if FEW * len(begins) > len(ids):
        return None
    return np.concatenate([[0], begins]), np.append(begins, len(ids)) - 1


class Whereabouts:
    """Owner and superstep of nodes, by block: from the cuts of a split block, else from one entry a node.

    Blocks may be added and placed one after another; a block that is not placed has owner 0.
    """

    def __init__(self, blocks: list[Block], n_ranks: int) -> None:
        self.n_ranks, self.count = n_ranks, 0
        self._grow(len(blocks))
        self.node_owner = np.empty(0, dtype=np.int32)  # with room for more
        self.node_step = np.empty(0, dtype=np.int32)
        self.nodes_placed = 0
        self.first[:len(blocks)] = [b.first for b in blocks]
        self.size[:len(blocks)] = self.inner[:len(blocks)] = [b.size for b in blocks]
        self.count = len(blocks)

    def _grow(self, room: int) -> None:
        """Room for that many blocks; those to come start beyond every id and lie on rank 0."""
        kept = self.count
        old = [getattr(self, name) for name in _COLUMNS] if kept else None
        self.first = np.full(room, np.iinfo(np.int64).max)
        self.size, self.inner = np.zeros(room, dtype=np.int64), np.zeros(room, dtype=np.int64)
        self.n = np.ones(room, dtype=np.int64)
        self.cuts = np.ones((room, self.n_ranks + 1), dtype=np.int64)
        self.cuts[:, 0] = 0
        self.steps = np.zeros((room, self.n_ranks), dtype=np.int32)
        self.scattered = np.full(room, -1, dtype=np.int64)  # where a block's nodes begin in the per-node arrays, or -1
        if old is not None:
            for name, column in zip(_COLUMNS, old):
                getattr(self, name)[:kept] = column[:kept]

    def add(self, block: Block) -> None:
        """One more block, after all others."""
        if self.count == len(self.first):
            self._grow(2 * self.count + 8)
        self.first[self.count] = block.first
        self.size[self.count] = self.inner[self.count] = block.size
        self.count += 1

    def split(self, block: int, layout: Layout) -> None:
        """Place a split block."""
        self.n[block], self.inner[block], self.cuts[block] = layout.n, layout.inner, layout.cuts

    def scatter(self, block: int, owner: np.ndarray) -> None:
        """Place a block node by node."""
        start, self.nodes_placed = self.nodes_placed, self.nodes_placed + len(owner)
        if self.nodes_placed > len(self.node_owner):
            more = np.zeros(self.nodes_placed + self.nodes_placed // 4 - start, dtype=np.int32)
            self.node_owner = np.concatenate([self.node_owner[:start], more])
            self.node_step = np.concatenate([self.node_step[:start], more])
        self.scattered[block] = start
        self.node_owner[start:self.nodes_placed] = owner

    @property
    def active(self) -> int:
        """Ranks up to the last one that owns anything; one at least."""
        there = self.size[:self.count] > 0
        cuts = self.cuts[:self.count][there & (self.scattered[:self.count] < 0)]
        owning = (cuts[:, :-1] < cuts[:, -1:]).sum(axis=1).max(initial=1)
        return int(max(owning, 1 + self.node_owner[:self.nodes_placed].max(initial=0)))

    def without_nodes(self) -> Whereabouts:
        """A copy for ranks that are told of single nodes one by one: the per-node entries left out."""
        other = copy(self)
        other.node_owner = other.node_step = np.empty(0, dtype=np.int32)
        return other

    def nodes(self, block: int) -> slice:
        """Where a scattered block's nodes lie in the per-node arrays."""
        start = int(self.scattered[block])
        return slice(start, start + int(self.size[block]))

    def block_of(self, ids: np.ndarray) -> np.ndarray:
        """The block that holds each node (empty blocks share their first id with the next and hold none)."""
        ends = stretches(ids) if ids.ndim == 1 else None
        if ends is not None:
            block, last = (np.searchsorted(self.first, ids[end], side="right") - 1 for end in ends)
            if (block == last).all():
                return np.repeat(block, ends[1] - ends[0] + 1)
        return np.searchsorted(self.first, ids, side="right") - 1

    def clear_steps(self) -> None:
        """All supersteps 0 again."""
        self.steps, self.node_step = np.zeros_like(self.steps), np.zeros_like(self.node_step)

    def set_steps(self, block: int, ids: np.ndarray, steps: np.ndarray) -> None:
        """The supersteps of a scalar run's nodes: those of its block, and perhaps more of another."""
        first, size = int(self.first[block]), int(self.size[block])
        if len(ids) == size:
            self.node_step[self.nodes(block)] = steps
            return
        inside = (ids >= first) & (ids < first + size)
        self.node_step[self.scattered[block] + ids[inside] - first] = steps[inside]
        ids, steps = ids[~inside], steps[~inside]
        other = self.block_of(ids)
        self.node_step[self.scattered[other] + ids - self.first[other]] = steps

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(owner, superstep) of each node, shape of ids."""
        flat = np.ravel(ids)
        owner = np.empty(len(flat), dtype=np.int32)
        step = np.empty(len(flat), dtype=np.int32)
        for start in range(0, len(flat), CHUNK):
            part = slice(start, start + CHUNK)
            owner[part], step[part] = self._find(flat[part])
        return owner.reshape(np.shape(ids)), step.reshape(np.shape(ids))

    def _find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = stretches(ids)
        if ends is not None and (self.scattered[block := self.block_of(ids[ends[0]])] < 0).all():
            low, high = ids[ends[0]], ids[ends[1]]
            owner, step = self._find_each(low)
            plane = np.maximum(self.inner[block] * self.n[block], 1)
            same = (block == self.block_of(high)) & (owner == self._find_each(high)[0])
            same &= (low - self.first[block]) // plane == (high - self.first[block]) // plane
            if same.all():
                length = ends[1] - ends[0] + 1
                return np.repeat(owner, length), np.repeat(step, length)
        return self._find_each(ids)

    def find_ascending(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`find` of distinct nodes in ascending order: of those that lie in a block of one rank's all at once."""
        if not len(ids):
            return self.find(ids)
        low, high = np.searchsorted(self.first, ids[[0, -1]], side="right") - 1
        if (high - low) * FEW > len(ids):
            return self.find(ids)
        blocks = np.arange(low, high + 1)
        length = np.diff(np.append(np.searchsorted(ids, self.first[blocks]), len(ids)))
        blocks, length = blocks[length > 0], length[length > 0]
        filled = np.diff(self.cuts[blocks], axis=1) > 0
        whole = (filled.sum(axis=1) == 1) & (self.scattered[blocks] < 0)
        rank = filled.argmax(axis=1).astype(np.int32)
        owner, step = np.repeat(rank, length), np.repeat(self.steps[blocks, rank], length)
        rest = np.flatnonzero(~np.repeat(whole, length))
        if len(rest):
            owner[rest], step[rest] = self.find(ids[rest])
        return owner, step

    def _find_each(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        block = self.block_of(ids)
        place = ids - self.first[block]
        row = place // np.maximum(self.inner[block], 1) % np.maximum(self.n[block], 1)
        owner = np.zeros(len(ids), dtype=np.int32)
        for bit in reversed(range((self.n_ranks - 1).bit_length())):  # cuts never fall: the last passed counts
            rank = np.minimum(owner + (1 << bit), self.n_ranks - 1)
            owner = np.where(self.cuts[block, rank] <= row, rank, owner).astype(np.int32, copy=False)
        step = self.steps[block, owner]
        single = np.flatnonzero(self.scattered[block] >= 0)
        if len(single):
            at = self.scattered[block[single]] + place[single]
            owner[single], step[single] = self.node_owner[at], self.node_step[at]
        return owner, step


__all__ = ["Whereabouts", "stretches"]
