"""Forward and backward substitution with a rank's rows, superstep by superstep or with its own block alone.

What `substitution` runs, and what other methods take steps of: preconditioners, transfer matrices, the pipeline.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from ..blocks import Range
from ..cancellation import Watch, watch_of
from ..kernels import ghosts as ghost_kernels
from ..kernels import overlap_rows as overlap
from ..kernels import substitution as kernels
from ..kernels.stretches import within
from ..system import TriangularSystem

LEAST = 4096  # rows of a superstep that are worth being computed while messages are on their way


def unsigned(indices: np.ndarray) -> np.ndarray:
    """The same indices seen as unsigned: compiled loops then need no test for Python's negative ones."""
    return indices.view(np.uint32 if indices.itemsize == 4 else np.uint64)


# By the number of dimensions of the solution: own rows, rows with ghosts.
_FORWARD = {1: (kernels.forward, ghost_kernels.forward), 2: (kernels.forward_columns, ghost_kernels.forward_columns)}
_BACKWARD = {1: (kernels.backward, ghost_kernels.backward),
             2: (kernels.backward_columns, ghost_kernels.backward_columns)}


class _Rows(NamedTuple):
    """Own rows with the diagonal 1: so many entries, in these stretches."""

    entries: int
    lo: int
    hi: int


class _Some(NamedTuple):
    """Some rows of a superstep: its entries, their table of stretches, and those of them that have ghosts."""

    entries: int
    table: np.ndarray
    rows: np.ndarray


class _Shared(NamedTuple):
    """A superstep's rows that need nothing of the messages before it, those that do, and the share of the former."""

    early: _Some
    late: _Some
    share: float


class Passes:
    """Forward and backward substitution in place, on arrays (n_local,) or (n_local, m), row-major.  Collective.

    With `local=True` each rank solves with its own rows alone, without communication: block Jacobi.  Raises
    `SingularError` where a diagonal block of the system has no inverse.
    """

    def __init__(self, system: TriangularSystem, local: bool = False) -> None:
        self.system, self.local = system, local
        system.factorize()
        own, ghost = system.own, system.ghost
        self._own = (unsigned(own.indptr), unsigned(own.indices), own.data)
        self._ghost = (unsigned(ghost.indptr), unsigned(ghost.indices), ghost.data)
        found = system.stretches
        self._stretches = found.table, found.offsets
        ends = system.ghost_ends
        self._steps = [(parts, system.ghost_rows[ends[s]:ends[s + 1]]) for s, parts in enumerate(self._parts())]
        self._buffer = np.zeros(0)  # for the widest solve so far
        self._passed = [0, 0]  # forward, backward
        self._shares: dict[bool, list[_Shared | None] | None] = {}  # by direction: rows that wait for messages

    def _parts(self) -> list[list[_Rows | Range]]:
        """Own rows of each superstep: in order, rows with the diagonal 1 and diagonal blocks."""
        system = self.system
        first = np.array([block.first for block in system.blocks], dtype=np.int64)
        edges, starts = system.bounds, np.searchsorted(system.bounds, system.ends)
        found: list[list[_Rows | Range]] = []
        for lo, hi in zip(starts[:-1], starts[1:]):
            found.append([])
            for k in range(lo, hi):
                blocks = slice(*np.searchsorted(first, edges[k:k + 2]))
                entries = int(system.own.indptr[edges[k + 1]]) - int(system.own.indptr[edges[k]])
                if blocks.start < blocks.stop:
                    found[-1] += system.blocks[blocks]
                elif entries:
                    steps = system.stretches.steps
                    found[-1].append(_Rows(entries, int(steps[k]), int(steps[k + 1])))
        return found

    def forward(self, y: np.ndarray) -> None:
        """y <- (I - L)^-1 y."""
        if self.local:
            self.own_rows(y, False)
            return
        ghosts, watch = self._ghosts(y.shape[1:]), watch_of(self.system.comm)
        shared = self._shared_out(False) if watch is None else None
        for s, halo in enumerate(self.system.halos):
            self.forward_step(s, y, ghosts, watch, shared[s] if shared else None)
            halo.start_forward(y)
            if shared and s + 1 < len(shared) and shared[s + 1] is not None:
                self._some_rows(y, shared[s + 1].early, False, ghosts)
            halo.finish_forward(y, ghosts)
            if watch is not None:
                watch.look(s == self.system.k_star - 1)

    def backward(self, lam: np.ndarray) -> None:
        """lam <- (I - L)^-T lam."""
        if self.local:
            self.own_rows(lam, True)
            return
        ghosts, watch = self._ghosts(lam.shape[1:]), watch_of(self.system.comm)
        ghosts.fill(0.0)
        shared = self._shared_out(True) if watch is None else None
        for s, halo in reversed(list(enumerate(self.system.halos))):
            halo.start_reverse(lam, ghosts)
            if shared and shared[s] is not None:
                self._some_rows(lam, shared[s].early, True)
            halo.finish_reverse(lam)
            self.backward_step(s, lam, ghosts, watch, shared[s] if shared else None)
            if watch is not None:
                watch.look(s == 0)

    def forward_step(self, s: int, y: np.ndarray, ghosts: np.ndarray, watch: Watch | None = None,
                     left: _Shared | None = None) -> None:
        """Superstep s: its rows take their ghosts, then own rows in order, unless given up meanwhile; what is `left` of
        it where some were computed before their messages came.  Local."""
        if left is not None:
            self._some_rows(y, left.late, False, ghosts)
            return
        parts, rows = self._steps[s]
        if len(rows):
            _FORWARD[y.ndim][1](len(rows), rows, *self._ghost, ghosts, y)
        self._forward(parts, y, watch)

    def backward_step(self, s: int, lam: np.ndarray, ghosts: np.ndarray, watch: Watch | None = None,
                      left: _Shared | None = None) -> None:
        """The transpose of `forward_step`; ghosts are added to.  Local."""
        parts, rows = self._steps[s]
        if left is not None:
            self._some_rows(lam, left.late, True)
        else:
            self._backward(parts, lam, watch)
        if len(rows):
            _BACKWARD[lam.ndim][1](len(rows), rows, *self._ghost, ghosts, lam)

    def _some_rows(self, y: np.ndarray, some: _Some, transposed: bool, ghosts: np.ndarray | None = None) -> None:
        """Some of a superstep's rows, in order; forward they take their ghosts before."""
        if ghosts is not None and len(some.rows):
            _FORWARD[y.ndim][1](len(some.rows), some.rows, *self._ghost, ghosts, y)
        sweep = (_BACKWARD if transposed else _FORWARD)[y.ndim][0]
        sweep(some.entries, 0, len(some.table), some.table, self._stretches[1], *self._own, y)

    def _shared_out(self, transposed: bool) -> list[_Shared | None] | None:
        """By superstep, the rows that need nothing of the messages before it and those that do, from the third pass on:
        finding them takes about what two passes do.  None: all rows wait everywhere."""
        self._passed[transposed] += 1
        if self._passed[transposed] <= 2 or self.system.comm.size == 1 or self.system.cyclic:
            return None
        if transposed not in self._shares:
            found = [self._share(s, transposed) for s in range(self.system.k_star)]
            self._shares[transposed] = found if any(found) else None
        return self._shares[transposed]

    def _share(self, s: int, transposed: bool) -> _Shared | None:
        system = self.system
        lo, hi = int(system.ends[s]), int(system.ends[s + 1])
        if hi - lo < LEAST or (s == 0 and not transposed):
            return None
        _, rows = self._steps[s]
        if transposed:
            arriving = system.halos[s].own
        else:
            comes = np.zeros(system.n_ghosts, dtype=np.bool_)
            comes[system.halos[s - 1].ghost] = True
            counts = np.diff(system.ghost.indptr)[rows]
            first = int(system.ghost.indptr[rows[0]]) if len(rows) else 0
            wait = comes[system.ghost.indices[first : first + int(counts.sum())]]
            arriving = np.repeat(rows, counts)[wait]
        late = overlap.waiting(lo, hi, arriving, system.own.indptr, system.own.indices, transposed)
        if late is None or np.count_nonzero(~late) < LEAST:
            return None
        steps, bounds = system.stretches.steps, system.bounds
        table = self._stretches[0][steps[np.searchsorted(bounds, lo)] : steps[np.searchsorted(bounds, hi)]]
        entries = int(system.own.indptr[hi] - system.own.indptr[lo])
        early, rest = (_Some(entries, overlap.part(table, lo, which), rows[which[rows - lo]])
                       for which in (~late, late))
        return _Shared(early, rest, 1.0 - np.count_nonzero(late) / len(late))

    def _forward(self, parts: list[_Rows | Range], y: np.ndarray, watch: Watch | None = None) -> None:
        columns = y if y.ndim == 2 else y[:, None]
        for part in parts:
            if watch is not None and watch.given_up():
                return
            if isinstance(part, Range):
                part.piece.forward(columns)
            else:
                _FORWARD[y.ndim][0](*part, *self._stretches, *self._own, y)

    def _backward(self, parts: list[_Rows | Range], lam: np.ndarray, watch: Watch | None = None) -> None:
        columns = lam if lam.ndim == 2 else lam[:, None]
        for part in reversed(parts):
            if watch is not None and watch.given_up():
                return
            if isinstance(part, Range):
                part.piece.backward(columns)
            else:
                _BACKWARD[lam.ndim][0](*part, *self._stretches, *self._own, lam)

    def own_rows(self, y: np.ndarray, transposed: bool, lo: int = 0, hi: int | None = None) -> None:
        """The own block alone, rows lo, ..., hi - 1 of it where the others' are zero or not wanted.  Local."""
        if self.system.blocks:
            parts = [part for step, _ in self._steps for part in step]
            (self._backward if transposed else self._forward)(parts, y)
            return
        table, offsets = self._stretches
        if lo > 0 or (hi is not None and hi < self.system.n_local):
            table = within(table, lo, self.system.n_local if hi is None else hi)
        sweep = (_BACKWARD if transposed else _FORWARD)[y.ndim][0]
        sweep(self.system.own.nnz, 0, len(table), table, offsets, *self._own, y)

    def from_ghosts(self, ghosts: np.ndarray, y: np.ndarray) -> None:
        """y <- y - B ghosts, B being the rank's ghost columns of I - L.  Local."""
        rows = self.system.ghost_rows
        _FORWARD[y.ndim][1](self.system.ghost.nnz, rows, *self._ghost, ghosts, y)

    def to_ghosts(self, ghosts: np.ndarray, y: np.ndarray) -> None:
        """ghosts <- ghosts - B^T y.  Local."""
        rows = self.system.ghost_rows
        _BACKWARD[y.ndim][1](self.system.ghost.nnz, rows, *self._ghost, ghosts, y)

    @property
    def nbytes(self) -> int:
        return self.system.stretches.nbytes + self._buffer.nbytes

    def _ghosts(self, columns: tuple[int, ...]) -> np.ndarray:
        shape = (self.system.n_ghosts, *columns)
        size = prod(shape)
        if self._buffer.size < size:
            self._buffer = np.zeros(size)
        return self._buffer[:size].reshape(shape)


__all__ = ["Passes", "unsigned"]
