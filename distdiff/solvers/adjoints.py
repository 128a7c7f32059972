"""Where the vectors of a walk lie.

A tangent is wanted to the end, and has one vector over all nodes.  Going backwards a block's adjoint is there from the
last statement that reads the block to the first that writes it: its memory then serves other blocks, so that on
arrays that fit into the cache the adjoints stay there, what comes first is written and not added to zeros, and
statements whose results nothing reads are passed over.  (What reverse accumulation has always done: Speelpenning,
"Compiling fast partial derivatives", 1980.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..kernels.stream import scatter_add
from ..strided import BlockIndex
from ..tracing import memory

Place = tuple[np.ndarray, int]


class Whole:
    """A vector over all nodes, block by block."""

    def __init__(self, flat: np.ndarray, firsts: Sequence[int]) -> None:
        self.flat, self._firsts = flat, firsts
        self.peak = flat.nbytes

    def at(self, block: int) -> Place:
        """(vector, where the block begins in it)."""
        return self.flat, self._firsts[block]

    def known(self, block: int) -> Place | None:
        """The same; None where all of it is 0 and need not be looked at."""
        return self.flat, self._firsts[block]

    def begun(self, block: int) -> np.ndarray | None:
        """Memory for a block that is to be written whole, without a look at what is there; None: add to it."""
        return None


class Alive:
    """Vectors of single blocks, 0 until somebody asks for them; `release`d ones serve others of their size."""

    def __init__(self, index: BlockIndex) -> None:
        self._index, self._blocks = index, index.blocks
        self._held: dict[int, np.ndarray] = {}
        self._free: dict[int, list[np.ndarray]] = {}
        self.peak = 0

    def at(self, block: int) -> Place:
        """As `Whole.at`."""
        held = self._held.get(block)
        if held is None:
            held = self._made(block)
            held.fill(0.0)
        return held, 0

    def known(self, block: int) -> Place | None:
        """As `Whole.known`."""
        held = self._held.get(block)
        return None if held is None else (held, 0)

    def begun(self, block: int) -> np.ndarray | None:
        """As `Whole.begun`."""
        return None if block in self._held else self._made(block)

    def release(self, block: int) -> None:
        """Nobody will ask for it any more."""
        held = self._held.pop(block, None)
        if held is not None:
            self._free.setdefault(len(held), []).append(held)

    def add(self, ids: np.ndarray, values: np.ndarray) -> None:
        """vector[ids] += values over all nodes; ids may repeat."""
        for block, here, places in self._index.pieces(ids):
            held, _ = self.at(block)
            if isinstance(places, slice):
                held[places] += values[here]
            else:
                scatter_add(places, values[here], held)

    def gathered(self, ids: np.ndarray) -> np.ndarray:
        """vector[ids] over all nodes."""
        found = np.zeros(len(ids))
        for block, here, places in self._index.pieces(ids):
            if block in self._held:
                found[here] = self._held[block][places]
        return found

    def _made(self, block: int) -> np.ndarray:
        size = self._blocks[block].size
        free = self._free.get(size)
        if free:
            held = free.pop()
        else:
            held = np.empty(size) if size < memory.LARGE else memory.empty(size)
            self.peak += held.nbytes
        self._held[block] = held
        return held


__all__ = ["Alive", "Whole"]
