"""Which rows ranks read of each other, and how values travel between these and ghosts.

Two kinds of rows are sent.  Those that read nothing, parameters above all, are known from the beginning: they are no
unknowns of a reduced system but have an exchange of their own, the *sources*.  The others are *interface rows*,
numbered rank after rank, which every rank may want to know of all ranks.
"""

from __future__ import annotations

import numpy as np

from ..channels import Messages
from ..kernels.stream import scatter_add
from ..partition.local import Exchange
from ..system import Halo, TriangularSystem
from .schur import Coupling

NONE = np.empty(0, dtype=np.int64)


class Crossings:
    """What crosses between the ranks of a system.  Construction, `source_ghosts`, `returned` and `collected` are
    collective.

    sent          this rank's interface rows
    used, fixed   ghost columns that its rows read: of interface rows, of rows that read nothing
    coupling      who owns and who reads interface rows
    mine, reads   of all interface rows, those of this rank and those that its ghosts `used` stand for
    """

    def __init__(self, system: TriangularSystem, read: np.ndarray) -> None:
        """read: ghost columns that this rank's rows read, ascending."""
        self.system, comm = system, system.comm
        bounds = np.bincount(system.components.first, minlength=system.n_local + 1)
        bounds -= np.bincount(system.components.stop, minlength=system.n_local + 1)
        unit = np.cumsum(bounds)[:-1] == 0  # elsewhere a seed is no solution yet
        reads_nothing = unit & (np.diff(system.own.indptr) + np.diff(system.ghost.indptr) == 1)
        sent = np.unique(np.concatenate([NONE, *(halo.own for halo in system.halos)]))
        self.sent = sent[~reads_nothing[sent]]
        starts = np.concatenate([[0], np.cumsum(comm.allgather(len(self.sent)))])
        numbers = np.full(system.n_local, -1.0)  # doubles count exactly up to 2^53
        numbers[self.sent] = starts[comm.rank] + np.arange(len(self.sent))
        ghosts = np.full(system.n_ghosts, -1.0)
        system.halo_update(numbers, ghosts)
        self.used, self.fixed = read[ghosts[read] >= 0], read[ghosts[read] < 0]
        leaves = np.full(system.n_local, system.k_star)
        for s, halo in reversed(list(enumerate(system.halos))):
            leaves[halo.own] = s
        found = comm.allgather((ghosts[self.used].astype(np.int64), leaves[self.sent], len(self.fixed)))
        reads, levels, fixed = zip(*found)
        self.coupling = Coupling(starts, np.concatenate([NONE, *levels]), list(reads))
        self.mine, self.reads = slice(int(starts[comm.rank]), int(starts[comm.rank + 1])), reads[comm.rank]
        self._all_reads = np.concatenate([NONE, *reads])
        self._counts = np.diff(starts).tolist(), [len(rows) for rows in reads]
        self.sources: Halo | None = None
        self.source_rows = sent[reads_nothing[sent]]
        if any(fixed):
            rows = self.source_rows
            self.sources = Halo.merged(comm, [
                Halo(comm, Exchange([(r, np.searchsorted(rows, ids[reads_nothing[ids]])) for r, ids in halo.sends],
                                    [(r, ids[ghosts[ids] < 0]) for r, ids in halo.recvs]), 0) for halo in system.halos])
            inputs = system.inputs.ids
            self._shared = np.flatnonzero(np.isin(inputs, rows))  # inputs that others read
            self._shared_sources = np.searchsorted(rows, inputs[self._shared])

    def source_values(self, xdot: np.ndarray) -> np.ndarray:
        """What source rows have for a seed at the inputs."""
        values = np.zeros((len(self.source_rows), *xdot.shape[1:]))
        if self.sources is not None:
            values[self._shared_sources] = xdot[self._shared]
        return values

    def source_ghosts(self, values: np.ndarray) -> np.ndarray:
        """Ghosts with what their owners have in source rows, the others zero."""
        ghosts = np.zeros((self.system.n_ghosts, *values.shape[1:]))
        if self.sources is not None:
            self.sources.forward(values, ghosts)
        return ghosts

    def at_sources(self, ghosts: np.ndarray) -> np.ndarray:
        """The transpose: what ghosts (n_ghosts[, m]) add up to in source rows.  Collective."""
        values = np.zeros((len(self.source_rows), *ghosts.shape[1:]))
        if self.sources is not None:
            self.sources.reverse(values, ghosts)
        return values

    def returned(self, values: np.ndarray) -> np.ndarray:
        """The adjoint at inputs, from `values` at the ghosts `fixed`, whose owners get them, and then at inputs."""
        n = len(self.fixed)
        out = values[n:]
        if self.sources is not None:
            ghosts = np.zeros((self.system.n_ghosts, *values.shape[1:]))
            ghosts[self.fixed] = values[:n]
            out[self._shared] += self.at_sources(ghosts)[self._shared_sources]
        return out

    def collected(self, values: np.ndarray, transposed: bool) -> np.ndarray:
        """What ranks have in interface rows, all of them; transposed, what ghosts `used` add up to there."""
        tail = values.shape[1:]
        columns = int(np.prod(tail, dtype=np.int64))
        counts = [columns * n for n in self._counts[transposed]]
        total = np.empty((sum(self._counts[transposed]), *tail))
        mine = np.ascontiguousarray(values)
        Messages.wait_for(lambda: self.system.comm.Allgatherv(mine, [total, counts]))
        if not transposed:
            return total
        d = np.zeros((self.coupling.n, *tail))
        scatter_add(self._all_reads, total, d)
        return d

    def close(self) -> None:
        """Free the messages."""
        if self.sources is not None:
            self.sources.close()


__all__ = ["NONE", "Crossings"]
