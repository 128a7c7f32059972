"""One rank's share of I - L as a map between its boundaries: from ghosts and inputs to what others read and outputs.

A rank's rows are  M y = b - B g  with M its own block (unit lower triangular) and g its ghosts.  What anybody else sees
of them is a small dense *transfer matrix*

    K  =  R M^-1 [-B | E]        R picks rows of y, E places inputs in b

found by substitution with M alone, no rank waiting for another: forward, a column of [-B | E] each, or transposed, a
row of R each, whichever are fewer.  The many columns stream the matrix once, and a batch of them begins at the first
row that any reads and ends at the last row that is wanted.
"""

from __future__ import annotations

import numpy as np

from ..system import TriangularSystem
from .substitution import Passes

COLUMNS = 32  # that go through together
WORKSPACE = 1 << 28  # bytes they may take

NONE = np.empty(0, dtype=np.int64)


class Block:
    """A rank's own rows and ghost columns, without communication.

    used      ghost columns that its rows read, ascending
    first     the first row that reads each ghost column, n if none does
    columns   right-hand sides that transfer matrices have taken so far
    """

    def __init__(self, system: TriangularSystem) -> None:
        self.passes = Passes(system, local=True)
        self.n, self.n_ghosts = system.n_local, system.n_ghosts
        ghost = system.ghost
        readers = np.repeat(np.arange(self.n), np.diff(ghost.indptr))
        self.first = np.full(self.n_ghosts, self.n)
        self.first[ghost.indices[::-1]] = readers[::-1]  # of repeated places the last one stays
        self.used = np.flatnonzero(self.first < self.n)
        self.columns = 0

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

    def transfer(self, rows: np.ndarray, ghosts: np.ndarray, inputs: np.ndarray = NONE) -> np.ndarray:
        """K = R M^-1 [-B | E] with these columns of B, shape (len(rows), len(ghosts) + len(inputs)); `rows` ascend."""
        K = np.zeros((len(rows), len(ghosts) + len(inputs)))
        if K.size:
            width = max(1, min(COLUMNS, WORKSPACE // (8 * self.n)))
            forward = K.shape[1] <= K.shape[0]
            self.columns += min(K.shape)
            (self._by_columns if forward else self._by_rows)(K, rows, ghosts, inputs, min(width, *K.shape))
        return K

    def _by_columns(self, K: np.ndarray, rows: np.ndarray, ghosts: np.ndarray, inputs: np.ndarray, width: int) -> None:
        starts, g = np.concatenate([self.first[ghosts], inputs]), len(ghosts)
        order = np.argsort(starts, kind="stable")  # columns that begin late skip what comes before
        Y = np.empty((self.n, width))
        for at in range(0, len(order), width):
            batch = order[at:at + width]
            Y.fill(0.0)
            units, places = np.zeros((self.n_ghosts, width)), np.arange(len(batch))
            of_ghost = batch < g
            units[ghosts[batch[of_ghost]], places[of_ghost]] = 1.0
            if of_ghost.any():
                self.passes.from_ghosts(units, Y)
            Y[inputs[batch[~of_ghost] - g], places[~of_ghost]] = 1.0
            self.solve(Y, False, int(starts[batch[0]]), int(rows[-1]) + 1)
            K[:, batch] = Y[rows, :len(batch)]

    def _by_rows(self, K: np.ndarray, rows: np.ndarray, ghosts: np.ndarray, inputs: np.ndarray, width: int) -> None:
        lo = int(min(self.first[ghosts].min(initial=self.n), inputs.min(initial=self.n)))
        Y = np.empty((self.n, width))
        for at in range(0, len(rows), width):
            batch = rows[at:at + width]
            Y.fill(0.0)
            Y[batch, np.arange(len(batch))] = 1.0
            self.solve(Y, True, lo, int(batch[-1]) + 1)
            K[at:at + width, :len(ghosts)] = self.to_ghosts(Y)[ghosts, :len(batch)].T
            K[at:at + width, len(ghosts):] = Y[inputs, :len(batch)].T


__all__ = ["NONE", "Block"]
