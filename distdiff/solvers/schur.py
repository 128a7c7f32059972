"""The reduced system over interface rows, those that other ranks read: the Schur complement of all others.

With T_p the transfer matrix of rank p (`transfer`), from the interface rows it reads to those it owns, the values z of
all interface rows satisfy

    z  =  T z + c,         T strictly lower triangular in the order of supersteps,  c = what right-hand sides contribute

and transposed  zeta = T^T zeta + d.  It has a few rows a rank, and is solved in either of two ways:

- `Gathered`: every rank has the whole of it and solves it by substitution.  One collective message.
- `Scan`: where ranks read from lower ranks only, the rows alive at the cut between two ranks are a state that the
  ranks hand on,  x_(p+1) = S_p x_p + c_p,  S_p being T_p and identities for what passes by.  Such maps compose, so
  the state that enters each rank is an exclusive scan (recursive doubling, as in Hillis and Steele, Data Parallel
  Algorithms, CACM 29, 1986): ceil(log2 P) rounds of one message each.  The products of the S_p are formed once a
  point; further right-hand sides send vectors.

Nothing here communicates.  `Scan`'s methods are generators that yield (partner, array, shape of the answer) and are
sent the partner's array, so that the same code runs over MPI and over any number of ranks in one process.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from ..flags import quiet
from ..kernels import substitution as kernels
from ..kernels.stretches import stretches

Messages = Generator[tuple[int, np.ndarray, tuple[int, ...]], np.ndarray, "np.ndarray | None"]


class Coupling(NamedTuple):
    """Who owns and who reads the interface rows, known to every rank.

    starts   rank p owns the rows starts[p], ..., starts[p + 1] - 1
    levels   superstep after which each row first leaves its rank
    reads    rows that each rank reads, in the order of its transfer matrix's columns
    """

    starts: np.ndarray
    levels: np.ndarray
    reads: list[np.ndarray]

    @property
    def n(self) -> int:
        return len(self.levels)

    @property
    def n_ranks(self) -> int:
        return len(self.reads)

    @property
    def ordered(self) -> bool:
        """Whether ranks read from lower ranks only."""
        return all(int(rows.max(initial=-1)) < start for rows, start in zip(self.reads, self.starts))

    @property
    def entries(self) -> int:
        """Entries of all transfer matrices."""
        return int(sum(len(rows) * owned for rows, owned in zip(self.reads, np.diff(self.starts))))

    def widths(self) -> np.ndarray:
        """Rows alive at each cut: owned by ranks before it, read by ranks from it on; (P + 1,), `ordered` only."""
        owner = np.searchsorted(self.starts, np.arange(self.n), side="right") - 1
        change = np.zeros(self.n_ranks + 1, dtype=np.int64)
        last = self._last_readers()
        read = last >= 0
        np.add.at(change, owner[read] + 1, 1)
        np.add.at(change, last[read] + 1, -1)
        return np.cumsum(change)

    def alive(self, cut: int) -> np.ndarray:
        """The rows alive at the cut before rank `cut`, ascending."""
        last = self._last_readers()
        before = int(self.starts[cut])
        return np.flatnonzero(last[:before] >= cut)

    def _last_readers(self) -> np.ndarray:
        last = np.full(self.n, -1)
        for rank, rows in enumerate(self.reads):
            last[rows] = rank
        return last


class Gathered:
    """The whole reduced system, solved by substitution: rows in the order of supersteps, stored compressed."""

    def __init__(self, coupling: Coupling) -> None:
        n, owned = coupling.n, np.diff(coupling.starts)
        self._order = np.lexsort((np.arange(n), coupling.levels))
        place = np.empty(n, dtype=np.int64)
        place[self._order] = np.arange(n)
        # All transfer matrices, one after another, row by row; what is no edge of the triangle is zero.
        rows = place[np.repeat(np.arange(n), np.repeat([len(reads) for reads in coupling.reads], owned))]
        columns = place[np.concatenate([np.arange(0), *(np.tile(r, k) for r, k in zip(coupling.reads, owned))])]
        self._entries = np.flatnonzero(columns < rows)
        rows, columns = np.r_[rows[self._entries], np.arange(n)], np.r_[columns[self._entries], np.arange(n)]
        sort = np.lexsort((columns, rows))
        self._at = np.empty(len(sort), dtype=np.int64)
        self._at[sort] = np.arange(len(sort))
        self._at = self._at[:len(self._entries)]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
        indices, data = columns[sort], np.ones(len(sort))
        found = stretches(np.array([0, n]), indptr, indices)
        self._data = data
        self._arrays = (0, len(found.table), found.table, found.offsets, indptr.view(np.uint64),
                        indices.view(np.uint64), data)

    @property
    def nbytes(self) -> int:
        arrays = (a for a in self._arrays if isinstance(a, np.ndarray))
        return self._order.nbytes + self._entries.nbytes + self._at.nbytes + sum(a.nbytes for a in arrays)

    def refresh(self, transfers: list[np.ndarray]) -> None:
        """Take all ranks' transfer matrices."""
        values = np.concatenate([np.empty(0), *(T.ravel() for T in transfers)])
        self._data[self._at] = -values[self._entries]

    def solve(self, c: np.ndarray, transposed: bool) -> np.ndarray:
        """z of z = T z + c, or transposed; c is (n,) or (n, m)."""
        y = c[self._order]
        single = (kernels.forward, kernels.backward)
        sweep = (single if y.ndim == 1 else (kernels.forward_columns, kernels.backward_columns))[transposed]
        sweep(len(self._data), *self._arrays, y)
        z = np.empty_like(y)
        z[self._order] = y
        return z


class Round(NamedTuple):
    """What a rank does in one round of the scan, its window of ranks and its partner's making one.

    partner   None: there is none, and nobody will ask what leaves the window
    enters    lower partners only: from the state that enters my window to the one that enters me
    passes    from the state that enters the later of the two windows to the one that leaves it
    before, after   states that leave my window, before the round and after it
    answer    states that leave my partner's window
    """

    partner: int | None
    enters: np.ndarray | None
    passes: np.ndarray
    before: int
    after: int
    answer: int


class Scan:
    """One rank's part of the exclusive scan; every method is a generator, see the module's text."""

    def __init__(self, coupling: Coupling, rank: int) -> None:
        self.rank, self.n_ranks = rank, coupling.n_ranks
        self._widths = coupling.widths()
        enter, leave = coupling.alive(rank), coupling.alive(rank + 1)
        start = coupling.starts[rank]
        self._reads = np.searchsorted(enter, coupling.reads[rank])  # places of what I read in the state
        self._stay = np.searchsorted(enter, leave[leave < start])
        self._owned = leave[leave >= start] - start  # which of my rows leave, after those that pass by
        self._rounds: list[Round] = []

    @property
    def n_rounds(self) -> int:
        return max(self.n_ranks - 1, 0).bit_length()

    @property
    def nbytes(self) -> int:
        return sum(r.passes.nbytes + (r.enters.nbytes if r.enters is not None else 0) for r in self._rounds)

    def refresh(self, T: np.ndarray) -> Messages:
        """Take this rank's transfer matrix, and form the products that further scans need."""
        widths, p = self._widths, self.rank
        passes = np.zeros((widths[p + 1], widths[p]))  # of my window: S_b ... S_a
        passes[np.arange(len(self._stay)), self._stay] = 1.0
        passes[len(self._stay):, self._reads] = T[self._owned]
        enters = np.eye(widths[p])
        self._rounds = []
        for size in (1 << k for k in range(self.n_rounds)):
            first = p & -size
            partner, end = p ^ size, min(first + size, self.n_ranks)
            low = min(first, first ^ size)
            after = int(widths[min(low + 2 * size, self.n_ranks)])
            if partner >= self.n_ranks:
                passes = np.zeros((0, widths[first]))
                self._rounds.append(Round(None, None, passes, int(widths[end]), after, 0))
                continue
            theirs = first ^ size
            answer = int(widths[min(theirs + size, self.n_ranks)])
            got = yield partner, passes, (answer, int(widths[theirs]))
            with quiet():  # products may overflow: `finite` tells
                if partner < p:
                    self._rounds.append(Round(partner, enters, passes, int(widths[end]), after, answer))
                    enters, passes = enters @ got, passes @ got
                else:
                    self._rounds.append(Round(partner, None, got, int(widths[end]), after, answer))
                    passes = got @ passes
        return None

    @property
    def finite(self) -> bool:
        """Whether all products are; where they aren't, the gathered system may be: it multiplies no matrices."""
        return all(np.isfinite(r.passes).all() and (r.enters is None or np.isfinite(r.enters).all())
                   for r in self._rounds)

    def forward(self, c: np.ndarray) -> Messages:
        """z at the rows this rank reads, from c at those it owns."""
        tail = c.shape[1:]
        entering = np.zeros((self._widths[self.rank], *tail))
        leaving = np.concatenate([np.zeros((len(self._stay), *tail)), c[self._owned]])
        for partner, enters, passes, _, after, answer in self._rounds:
            if partner is None:
                leaving = np.zeros((after, *tail))
                continue
            got = yield partner, leaving, (answer, *tail)
            if enters is not None:
                entering += enters @ got
                leaving = leaving + passes @ got
            else:
                leaving = got + passes @ leaving
        return entering[self._reads]

    def backward(self, d: np.ndarray, n_owned: int) -> Messages:
        """zeta at the rows this rank owns, from d at those it reads: `forward` transposed, round by round."""
        tail = d.shape[1:]
        entering = np.zeros((self._widths[self.rank], *tail))
        entering[self._reads] = d
        last = self._rounds[-1].after if self._rounds else self._widths[self.rank + 1]
        leaving = np.zeros((last, *tail))
        for partner, enters, passes, before, _, _ in reversed(self._rounds):
            if partner is None:
                leaving = np.zeros((before, *tail))
                continue
            if enters is not None:
                out = enters.T @ entering + passes.T @ leaving
                leaving = leaving + (yield partner, out, (before, *tail))
            else:
                out = leaving
                leaving = passes.T @ leaving + (yield partner, out, (before, *tail))
        zeta = np.zeros((n_owned, *tail))
        zeta[self._owned] = leaving[len(self._stay):]
        return zeta


__all__ = ["Coupling", "Gathered", "Messages", "Round", "Scan"]
