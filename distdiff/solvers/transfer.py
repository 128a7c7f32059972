"""One rank's share of I - L as a map between its boundaries: from ghosts and inputs to what others read and outputs.

A rank's rows are  M y = b - B g  with M its own block (unit lower triangular) and g its ghosts.  What anybody else sees
of them is a small dense *transfer matrix*

    K  =  R M^-1 [-B | E]        R picks rows of y, E places inputs in b

found by substitution with M alone, no rank waiting for another: forward, a column of [-B | E] each, or transposed, a
row of R each, whichever are fewer.  The many columns stream the matrix once, and a batch of them begins at the first
row that any reads and ends at the last row that is wanted.

Of the solution a boundary is wanted, so many columns at once keep it only as long as rows read it (`kernels.slots`),
where that is little: writing all of it down and reading it again takes two to four times as long.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..kernels import slots
from ..kernels.slots import MANY
from ..system import TriangularSystem
from .passes import Passes, unsigned

COLUMNS = 32  # that go through together
WORKSPACE = 1 << 28  # bytes they may take
FEW = 3  # columns up to which each takes a pass of its own: together they take longer
NEAR = 1 << 18  # bytes of slots that stay in a cache near to the core

NONE = np.empty(0, dtype=np.int64)


class Block:
    """A rank's own rows and ghost columns, without communication.

    used      ghost columns that its rows read, ascending
    first     the first row that reads each ghost column, n if none does
    columns   right-hand sides that transfer matrices have taken so far
    """

    def __init__(self, system: TriangularSystem) -> None:
        self.system, self.passes = system, Passes(system, local=True)
        self.n, self.n_ghosts = system.n_local, system.n_ghosts
        ghost = system.ghost
        readers = np.repeat(np.arange(self.n), np.diff(ghost.indptr))
        self.first = np.full(self.n_ghosts, self.n)
        self.first[ghost.indices[::-1]] = readers[::-1]  # of repeated places the last one stays
        self.used = np.flatnonzero(self.first < self.n)
        self.columns = 0
        self._held = np.empty(0)

    # -- all rows

    def solve(self, y: np.ndarray, transposed: bool, lo: int = 0, hi: int | None = None) -> None:
        """y <- M^-1 y or M^-T y, where only the rows lo, ..., hi - 1 matter: forward, those before are zero and those
        after unwanted; transposed, the other way round."""
        hi = self.n if hi is None else hi
        if lo < hi:
            self.passes.own_rows(y, transposed, lo, hi)

    def take_ghosts(self, ghosts: np.ndarray, y: np.ndarray) -> None:
        """y <- y - B ghosts."""
        if len(self.used):
            self.passes.from_ghosts(ghosts, y)

    def to_ghosts(self, y: np.ndarray) -> np.ndarray:
        """-B^T y, (n_ghosts[, m])."""
        ghosts = np.zeros((self.n_ghosts, *y.shape[1:]))
        if len(self.used):
            self.passes.to_ghosts(ghosts, y)
        return ghosts

    # -- from some rows to some others; lists of rows ascend

    def forward(self, ghosts: np.ndarray, read: np.ndarray, rows: np.ndarray, seeds: np.ndarray,
                wanted: np.ndarray) -> np.ndarray:
        """y in the rows `wanted` of  M y = b - B ghosts,  b being zero but for `seeds` in `rows`, and ghosts zero but
        for the columns `read`."""
        if self._one_by_one(seeds):
            parts = [self.forward(np.ascontiguousarray(g), read, rows, np.ascontiguousarray(b), wanted)
                     for g, b in zip(ghosts.T, seeds.T)]
            return np.stack(parts, axis=1)
        found = np.zeros((len(wanted), *seeds.shape[1:]))
        lo = int(min(rows.min(initial=self.n), self.first[read].min(initial=self.n)))
        hi = int(wanted.max(initial=-1)) + 1
        if lo >= hi or not found.size:
            return found
        rows, seeds = rows[:np.searchsorted(rows, hi)], seeds[:np.searchsorted(rows, hi)]
        if self.keeps_little(found):
            y = self._slots_for(ghosts)
            y[:len(self.used)] = ghosts[self.used]
            out = slice(np.searchsorted(wanted, lo), len(wanted))
            slots.forward((hi - lo) * found.shape[1], lo, hi, *self._entries, rows, seeds, wanted[out], found[out], y)
            return found
        y = self._all_rows(seeds.shape[1:])
        if len(read):
            self.take_ghosts(ghosts, y)
        y[rows] = seeds if not len(read) else y[rows] + seeds
        self.solve(y, False, lo, hi)
        return np.asarray(y[wanted])

    def backward(self, rows: np.ndarray, seeds: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(-B^T lam, lam in the rows `wanted`) of  M^T lam = b,  b being zero but for `seeds` in `rows`."""
        if self._one_by_one(seeds):
            parts = zip(*(self.backward(rows, np.ascontiguousarray(b), wanted) for b in seeds.T))
            ghosts, found = (np.stack(part, axis=1) for part in parts)
            return ghosts, found
        tail = seeds.shape[1:]
        ghosts, found = np.zeros((self.n_ghosts, *tail)), np.zeros((len(wanted), *tail))
        lo = int(min(wanted.min(initial=self.n), self.first.min(initial=self.n)))
        hi = int(rows.max(initial=-1)) + 1
        if lo >= hi or not seeds.size:
            return ghosts, found
        if self.keeps_little(seeds):
            y = self._slots_for(ghosts)
            out = slice(0, np.searchsorted(wanted, hi))
            slots.backward((hi - lo) * seeds.shape[1], lo, hi, *self._entries, rows[np.searchsorted(rows, lo):],
                           seeds[np.searchsorted(rows, lo):], wanted[out], found[out], y)
            ghosts[self.used] = y[:len(self.used)]
            return ghosts, found
        lam = self._all_rows(tail)
        lam[rows] = seeds
        self.solve(lam, True, lo, hi)
        if len(self.used):
            self.passes.to_ghosts(ghosts, lam)
        return ghosts, np.asarray(lam[wanted])

    def transfer(self, rows: np.ndarray, ghosts: np.ndarray, inputs: np.ndarray = NONE) -> np.ndarray:
        """K = R M^-1 [-B | E] with these columns of B, shape (len(rows), len(ghosts) + len(inputs)); `rows` ascend."""
        K = np.zeros((len(rows), len(ghosts) + len(inputs)))
        if K.size:
            width = max(1, min(COLUMNS, WORKSPACE // (8 * self.n), *K.shape))
            forward = K.shape[1] <= K.shape[0]
            self.columns += min(K.shape)
            (self._by_columns if forward else self._by_rows)(K, rows, ghosts, inputs, width)
        return K

    def _by_columns(self, K: np.ndarray, rows: np.ndarray, ghosts: np.ndarray, inputs: np.ndarray, width: int) -> None:
        starts, g = np.concatenate([self.first[ghosts], inputs]), len(ghosts)
        order = np.argsort(starts, kind="stable")  # columns that begin late skip what comes before
        for at in range(0, len(order), width):
            batch = order[at:at + width]
            of_ghost = batch < g
            read, seeded = ghosts[batch[of_ghost]], inputs[batch[~of_ghost] - g]
            units, seeds = np.zeros((self.n_ghosts, len(batch))), np.zeros((len(seeded), len(batch)))
            units[read, np.flatnonzero(of_ghost)] = 1.0
            seeds[np.argsort(np.argsort(seeded)), np.flatnonzero(~of_ghost)] = 1.0
            K[:, batch] = self.forward(units, read, np.sort(seeded), seeds, rows)

    def _by_rows(self, K: np.ndarray, rows: np.ndarray, ghosts: np.ndarray, inputs: np.ndarray, width: int) -> None:
        order = np.argsort(inputs, kind="stable")
        for at in range(0, len(rows), width):
            batch = rows[at:at + width]
            into, ends = self.backward(batch, np.eye(len(batch)), inputs[order])
            K[at:at + width, :len(ghosts)] = into[ghosts].T
            K[at:at + width, len(ghosts) + order] = ends.T

    # -- where solutions are

    def _one_by_one(self, seeds: np.ndarray) -> bool:
        return seeds.ndim == 2 and 0 < seeds.shape[1] <= FEW and not self.system.blocks

    def keeps_little(self, columns: np.ndarray) -> bool:
        """Whether so many columns are kept in slots."""
        return (columns.ndim == 2 and columns.shape[1] >= MANY and not self.system.blocks
                and 8 * self.n_slots * columns.shape[1] <= NEAR)

    @property
    def has_few_slots(self) -> bool:
        """Whether a batch as wide as any has its columns near, as far as was looked."""
        return "_operands" in self.__dict__ and not self.system.blocks and 8 * self.n_slots * COLUMNS <= NEAR

    @cached_property
    def _operands(self) -> tuple[np.ndarray, int]:
        """What `slots.allot` finds: operands (of use where slots are few), and how many slots."""
        own = self.system.own
        operands = np.empty(own.nnz, dtype=own.indices.dtype)
        n = int(slots.allot(self.n + own.nnz, own.indptr, own.indices, len(self.used), operands))
        return operands if 8 * n * MANY <= NEAR else operands[:0].copy(), n

    @property
    def n_slots(self) -> int:
        """Ghosts that are read, and values that are alive between two rows at most."""
        return self._operands[1]

    @cached_property
    def _entries(self) -> tuple[np.ndarray, ...]:
        system = self.system
        own, ghost = system.own, system.ghost
        return (own.indptr, unsigned(self._operands[0]), own.data, system.ghost_rows, ghost.indptr,
                unsigned(ghost.indices), ghost.data)

    def _slots_for(self, columns: np.ndarray) -> np.ndarray:
        return np.zeros((self.n_slots, columns.shape[1]))

    def _all_rows(self, tail: tuple[int, ...]) -> np.ndarray:
        """Zeros in all rows, in memory that is kept between passes: fresh pages cost as much as one."""
        size = self.n * int(np.prod(tail, dtype=np.int64))
        if len(self._held) < size:
            self._held = np.empty(size)
        y = self._held[:size].reshape(self.n, *tail)
        y.fill(0.0)
        return y

    @property
    def nbytes(self) -> int:
        slots_ = self.__dict__["_operands"][0].nbytes if "_operands" in self.__dict__ else 0
        return self.passes.nbytes + self._held.nbytes + slots_


__all__ = ["Block"]
