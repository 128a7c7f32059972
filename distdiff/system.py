"""I - L over the ranks: a PETSc MPIAIJ matrix whose arrays are the eliminated rows themselves.

Rows are the kept nodes, numbered rank after rank, on each rank in tape order.  Without implicit statements a rank's
own rows are unit lower triangular; the whole is a symmetric permutation of a unit triangular matrix, so every pivot is
1 in any symmetric ordering.  The residual rows of implicit statements form diagonal blocks, the strongly connected
`components`; a rank's own rows are then block lower triangular, with the diagonal 1 outside these blocks, and ranks
still depend on each other in supersteps, for a component lies on one rank.

There is one copy of the matrix: PETSc's blocks *are* `Reduced.own` and `Reduced.ghost`
(MatCreateMPIAIJWithSplitArrays shares the caller's arrays), the substitution reads the same arrays, and
new values are written in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from mpi4py import MPI

from .blocks import DiagonalBlocks, LargeBlock, Range
from .channels import Channels
from .comm import agreed
from .errors import IndexRangeError, InputError
from .kernels import products
from .kernels.stretches import Stretches, stretches
from .partition.local import Exchange, Portion
from .petsc import destroy, event, petsc, start
from .preaccumulate import CSR, Reduced

STRETCH = 1 << 21  # rows: a pass over as many takes some milliseconds
TAG = 73  # ours on the caller's communicator, beside the exchange's of the tape

NOT_TRIANGULAR = ("The rows depend on each other in a cycle, or are numbered against their order; substitution and "
                  "what builds on it need them in order: number them so, or use method='petsc' with an LU")


class TriangularSystem:
    """I - L distributed over `comm`, triangular up to `components`.  Creation, `refresh` and `close` are collective.

    mat                the PETSc matrix (AIJ; on one rank SEQAIJ), made when first asked for, collectively
    own                this rank's rows over its own columns: lower triangular, unit diagonal last in each row, but in
                       the rows of `components`
    ghost              this rank's rows over ghost columns
    components         this rank's diagonal blocks that are no unit triangle
    cyclic             whether any rank has such components
    blocks             these, factorized, in the order of rows; see `factorize`
    ends               rows ends[s]:ends[s+1] belong to superstep s
    halos              the exchange after each superstep
    halo               one exchange for all ghosts at once
    n_local, n_ghosts  rows and ghost columns of this rank
    first_row          the number, among all ranks' rows, of this rank's first
    ghost_columns      these numbers of the ghost columns
    n_rows, nnz        rows and stored entries (unit diagonal included) over all ranks

    Raises `IndexRangeError` on every rank if this PETSc's indices are too small for the system.  `alone`: the system is
    not for PETSc, whose indices then don't matter.  where(row): the user's line, if `reduced` doesn't know.
    """

    def __init__(self, comm: MPI.Comm, reduced: Reduced, alone: bool = False,
                 where: Callable[[int], str] | None = None) -> None:
        self.comm = comm
        self.own, self.ghost = reduced.own, reduced.ghost
        self.n_local, self.n_ghosts = reduced.n_rows, reduced.n_ghosts
        self.inputs, self.outputs = reduced.inputs, reduced.outputs
        self.ends = reduced.ends
        self.components, self._where = reduced.components, where or reduced.where
        self.blocks: list[Range] = []
        self._diagonal: DiagonalBlocks | None = None
        self._large: Callable[..., LargeBlock] | None = None
        self._factorized = self._solved_by_blocks = False
        counts = comm.allgather((self.n_local, reduced.nnz, len(reduced.components.first)))
        self.cyclic = any(c[2] for c in counts)
        self.n_rows, self.nnz = sum(c[0] for c in counts), sum(c[1] for c in counts)
        if not alone:
            start(comm)
        with agreed(comm):
            if not alone:
                check_index_range(self.n_rows, reduced.own.nnz, reduced.ghost.nnz)
        with event("assemble"):
            self.first_row = sum(c[0] for c in counts[:comm.rank])
            self.ghost_columns = self._number_ghosts(reduced, self.first_row)
            self.halos = [Halo(comm, exchange, self.n_local) for exchange in reduced.exchanges]
        self.ghost_rows = np.flatnonzero(np.diff(self.ghost.indptr)).astype(self.ghost.indptr.dtype)
        self.ghost_ends = np.searchsorted(self.ghost_rows, self.ends)
        self._triangular = False
        self._depth: int | None = None
        self._longest: dict[bool, int] = {}
        self._closed = False

    def _number_ghosts(self, reduced: Reduced, start: int) -> np.ndarray:
        """Order ghost columns by global row, used ones first, as PETSc orders them; returns their global rows."""
        n = self.n_local
        numbers = np.full(n + self.n_ghosts, -1.0)  # as doubles, which hold rows exactly up to 2^53
        numbers[:n] = start + np.arange(n)
        for exchange in reduced.exchanges:
            exchange.forward(self.comm, numbers)
            exchange.close()
        rows = numbers[n:].astype(np.int64)
        used = np.zeros(self.n_ghosts, dtype=bool)
        used[self.ghost.indices] = True
        order = np.lexsort((rows, ~used))
        reduced.order_ghosts(order)
        return rows[order]

    def matrix(self, comm: MPI.Comm) -> Any:
        """A PETSc matrix over this system's arrays on `comm` (this system's, or a duplicate of it).  Collective."""
        PETSc = petsc()
        own, ghost = self.own, self.ghost
        size = ((self.n_local, self.n_rows), (self.n_local, self.n_rows))
        diagonal = (own.indptr, own.indices, own.data)
        if comm.size == 1:
            mat = PETSc.Mat().createAIJWithArrays(size, diagonal, comm=comm)
        else:
            # PETSc wants global columns here and turns them, in place, into places among the sorted ghosts,
            # which are ours.  Columns have an array of their own all the same: the ghost part is small, and
            # versions may differ.
            columns = self.ghost_columns[ghost.indices].astype(ghost.indices.dtype)
            mat = PETSc.Mat().createAIJWithArrays(size, (diagonal, (ghost.indptr, columns, ghost.data)), comm=comm)
        mat.setOption(PETSc.Mat.Option.NEW_NONZERO_LOCATION_ERR, True)
        mat.assemble()
        return mat

    @cached_property
    def mat(self) -> Any:
        return self.matrix(self.comm)

    @cached_property
    def bounds(self) -> np.ndarray:
        """Rows bounds[k]:bounds[k+1] belong to one superstep, and all or none of them to `blocks`; where no block lies
        there are no more than STRETCH of them, for a pass to look up in between.  Local.
        """
        edges = [edge for found in self.blocks for edge in (found.first, found.stop)]
        if not self.blocks:
            edges += range(STRETCH, self.n_local, STRETCH)
        return np.unique(np.concatenate([self.ends, edges])) if edges else self.ends

    @cached_property
    def stretches(self) -> Stretches:
        """Runs of own rows between `bounds` that reach back by the same distances, found at first use.  Local."""
        return stretches(self.bounds, self.own.indptr, self.own.indices)

    def factorize(self) -> None:
        """`blocks` with the values of this point, if they aren't there yet.  Collective.

        Raises `SingularError` on every rank, naming the user's line, where a diagonal block has no inverse.
        """
        self._solved_by_blocks = True
        if self.cyclic and not self._factorized:
            with event("factorize"), agreed(self.comm):
                if self._diagonal is not None:
                    self._diagonal.refresh()
                elif self.components:
                    self._diagonal = DiagonalBlocks(self.components, self.own, self.ends, self._where, self._large)
                    self.blocks = self._diagonal.ranges
            self._factorized = True

    def with_blocks(self, large: Callable[..., LargeBlock]) -> TriangularSystem:
        """The same rows, arrays and exchanges, its diagonal blocks factorized apart, the large ones by what `large`
        makes.  Local; not to be closed, but `release` frees what these hold.
        """
        system = copy.copy(self)
        system._large, system._diagonal, system._factorized = large, None, False
        return system

    def factorize_anew(self) -> None:
        """`factorize` after a `refresh` of the system that this one's rows are of.  Collective."""
        self._factorized = False
        self.factorize()

    @property
    def packaged(self) -> bool:
        """Whether a package has factors of this rank's blocks, once they are made."""
        return self._diagonal is not None and self._diagonal.packaged

    def release(self) -> None:
        """Free what the diagonal blocks hold of packages.  Local."""
        if self._diagonal is not None:
            self._diagonal.close()

    def without_signs(self) -> TriangularSystem:
        """The same structure with the diagonal and minus the absolute values beside it, its `blocks` bounds on those
        of the inverse: solutions add up magnitudes along all paths.  Local; for `blocks`, after `factorize`.
        """
        system, own, ghost = copy.copy(self), copy.copy(self.own), copy.copy(self.ghost)
        own.data, ghost.data = -np.abs(own.data), -np.abs(ghost.data)
        own.data[own.indptr[1:] - 1] = 1.0  # blocks don't read theirs
        system.own, system.ghost = own, ghost
        system.blocks = [] if self._diagonal is None else self._diagonal.bounds(own)
        for name in ("bounds", "stretches"):  # these blocks are apart, ours may have rows between them
            system.__dict__.pop(name, None)
        return system

    @property
    def k_star(self) -> int:
        """Supersteps of one pass."""
        return len(self.halos)

    @property
    def messages(self) -> int:
        """Messages this rank sends in one forward pass."""
        return sum(len(halo.sends) for halo in self.halos)

    @property
    def how(self) -> str:
        """How the diagonal blocks of this rank are solved, for reports; empty where there are none, or not yet."""
        return self._diagonal.how if self._diagonal is not None else ""

    @property
    def memory(self) -> int:
        """Bytes this rank holds for the matrix and its exchanges; PETSc and the substitution share them."""
        blocks = self._diagonal.nbytes if self._diagonal is not None else 0
        return self.own.nbytes + self.ghost.nbytes + self.ghost_rows.nbytes + sum(h.nbytes for h in self.halos) + blocks

    @cached_property
    def halo(self) -> Halo:
        """The exchanges of all supersteps as one: a message a neighbour, whatever k* is.  Local."""
        return Halo.merged(self.comm, self.halos)

    def require_triangular(self, up_to_blocks: bool = False) -> None:
        """Raise `InputError` on every rank unless rows read nothing but what comes before them, or, `up_to_blocks`,
        their diagonal block.  Collective.

        Before a row come the rows above it on its rank, and ghosts that arrived after an earlier superstep: in that
        order I - L is unit lower triangular.  Looked at once; values that `refresh` brings are not.
        """
        if self.cyclic and not up_to_blocks:
            raise InputError("the system has implicit statements, whose results depend on each other in a cycle; this "
                             "method needs rows that depend on earlier ones only: use method='substitution'")
        if not self._triangular:
            with agreed(self.comm):
                self._look_for_cycles()
            self._triangular = True

    def _look_for_cycles(self) -> None:
        own, ghost = self.own, self.ghost
        computed = np.diff(own.indptr) + np.diff(ghost.indptr) > 1  # inputs are there from the beginning
        arrives = np.full(self.n_ghosts, self.k_star)  # the superstep after which a ghost is there
        for s, halo in enumerate(self.halos):
            arrives[halo.ghost] = s
            late = halo.own[(halo.own >= self.ends[s + 1]) & computed[halo.own]]
            if len(late):
                raise InputError(f"rank {self.comm.rank} has to send row {late[0]} after superstep {s}, whose rows end "
                                 f"at {self.ends[s + 1]}: it is not computed by then. {NOT_TRIANGULAR}")
        i = products.first_out_of_order(own.nnz, self.components.first, self.components.stop, own.indptr, own.indices,
                                        own.data)
        if i >= 0:
            columns = own.indices[own.indptr[i]:own.indptr[i + 1]].tolist()
            raise InputError(f"row {i} of rank {self.comm.rank} has own columns {columns[:8]} and "
                             f"{own.data[own.indptr[i + 1] - 1] if columns else 'nothing'} last, where columns before "
                             f"{i} and a last one of 1 are wanted. {NOT_TRIANGULAR}")
        row = np.repeat(self.ghost_rows, np.diff(ghost.indptr)[self.ghost_rows])
        late = arrives[ghost.indices] >= np.searchsorted(self.ends, row, side="right") - 1
        if late.any():
            k = int(late.argmax())
            g = int(ghost.indices[k])
            raise InputError(f"row {row[k]} of rank {self.comm.rank} reads ghost {g}, which arrives after superstep "
                             f"{arrives[g]}, too late for it. {NOT_TRIANGULAR}")

    def depth(self) -> int:
        """Edges of the longest path from an input: L's power that takes every seed there to zero, less 1.  Collective.

        Not of the transpose, whose seeds are at outputs, but no less than what those need to reach an input.
        """
        if self._depth is None:
            self._depth = self._longest_path()
        return self._depth

    def longest(self, transposed: bool) -> int:
        """Entries of the longest row of all ranks, or the longest column.  Collective."""
        if transposed not in self._longest:
            if transposed:
                counts = np.bincount(self.own.indices, minlength=self.n_local).astype(float)
                self.halo_add(counts, np.bincount(self.ghost.indices, minlength=self.n_ghosts).astype(float))
            else:
                counts = np.diff(self.own.indptr) + np.diff(self.ghost.indptr)
            self._longest[transposed] = self.comm.allreduce(int(counts.max(initial=1)), op=MPI.MAX)
        return self._longest[transposed]

    def _longest_path(self) -> int:
        own, ghost = self.own, self.ghost
        level, ghosts = np.full(self.n_local, -1.0), np.full(self.n_ghosts, -1.0)
        level[self.inputs.ids] = 0.0
        for s, halo in enumerate(self.halos):
            lo, hi = int(self.ends[s]), int(self.ends[s + 1])
            rows = self.ghost_rows[self.ghost_ends[s]:self.ghost_ends[s + 1]]
            products.raise_levels_by_ghosts(len(rows), rows, ghost.indptr, ghost.indices, ghosts, level)
            products.raise_levels(int(own.indptr[hi] - own.indptr[lo]), lo, hi, own.indptr, own.indices, level)
            halo.forward(level, ghosts)
        return int(self.comm.allreduce(level.max(initial=0.0), op=MPI.MAX))

    def refresh(self, reduced: Reduced) -> None:
        """Take the values that `Reduced.refresh` has written, in the same places.  Collective.

        Nothing moves if `reduced` is the one this system was made from; one of the same structure is copied
        from.  Diagonal blocks that were factorized are again: raises what `factorize` raises.
        """
        for mine, new in ((self.own, reduced.own), (self.ghost, reduced.ghost)):
            if new.data is not mine.data:
                mine.data[:] = new.data
        if "mat" in self.__dict__:
            self.mat.stateIncrease()  # preconditioners must notice
            if self.comm.size > 1:
                self.mat.assemble()  # MPIAIJ keeps the diagonal it has read; assembly drops it
        self._factorized = False
        if self._solved_by_blocks:
            self.factorize()

    def vec(self, array: np.ndarray) -> Any:
        """A PETSc vector over `array` (n_local,), shared, not copied.  Collective."""
        return petsc().Vec().createWithArray(array, size=(self.n_local, self.n_rows), comm=self.comm)

    def halo_update(self, x: np.ndarray, ghosts: np.ndarray) -> None:
        """Ghosts take their owners' values, all at once.  Collective."""
        self.halo.forward(x, ghosts)

    def halo_add(self, x: np.ndarray, ghosts: np.ndarray) -> None:
        """Owners add what their ghosts hold: the transpose of `halo_update`.  Collective."""
        self.halo.reverse(x, ghosts)

    def close(self) -> None:
        """Destroy the PETSc matrix.  Collective; a second call does nothing."""
        if not self._closed:
            self._closed = True
            if "mat" in self.__dict__:
                destroy(self.mat)
            for halo in self.halos:
                halo.close()
            if "halo" in self.__dict__:
                self.halo.close()


class Halo:
    """One superstep's exchange between an own vector (n_local[, m]) and a ghost vector (n_ghosts[, m]).

    Same contract as `Exchange`, but with ghosts in a vector of their own.
    """

    def __init__(self, comm: MPI.Comm, exchange: Exchange, n_local: int) -> None:
        self.comm = comm
        self.sends = [(rank, ids) for rank, ids in exchange.sends if len(ids)]
        self.recvs = [(rank, ids - n_local) for rank, ids in exchange.recvs if len(ids)]
        self.own = _join(self.sends)
        self.ghost = _join(self.recvs)
        self._channels = Channels(self.sends, self.recvs, TAG)

    @classmethod
    def merged(cls, comm: MPI.Comm, halos: list[Halo]) -> Halo:
        """One exchange for what several bring: a message a neighbour."""
        sides = []
        for parts in ([part for halo in halos for part in halo.sends], [part for halo in halos for part in halo.recvs]):
            ranks = sorted({rank for rank, _ in parts})
            sides.append([(r, np.concatenate([ids for rank, ids in parts if rank == r])) for r in ranks])
        return cls(comm, Exchange(*sides), 0)

    @property
    def nbytes(self) -> int:
        return self.own.nbytes + self.ghost.nbytes + self._channels.nbytes

    def forward(self, y: np.ndarray, ghosts: np.ndarray) -> None:
        """ghosts[recv] = y_owner[send]; neighbours call together."""
        self.start_forward(y)
        self.finish_forward(y, ghosts)

    def start_forward(self, y: np.ndarray) -> None:
        """The messages leave; until `finish_forward` nobody reads the ghosts that they bring."""
        if self.sends or self.recvs:
            channel = self._channels.get(self.comm, y.shape[1:])
            np.take(y, self.own, axis=0, out=channel.own, mode="clip")  # mode: np.take buffers `out` otherwise
            channel.forward.start()

    def finish_forward(self, y: np.ndarray, ghosts: np.ndarray) -> None:
        if self.sends or self.recvs:
            channel = self._channels.get(self.comm, y.shape[1:])
            channel.forward.finish()
            ghosts[self.ghost] = channel.ghost

    def reverse(self, lam: np.ndarray, ghosts: np.ndarray) -> None:
        """lam_owner[send] += ghosts[recv], and ghosts[recv] = 0: the transpose of `forward`."""
        self.start_reverse(lam, ghosts)
        self.finish_reverse(lam)

    def start_reverse(self, lam: np.ndarray, ghosts: np.ndarray) -> None:
        """The messages leave; until `finish_reverse` nobody reads the rows that they are added to."""
        if self.sends or self.recvs:
            channel = self._channels.get(self.comm, lam.shape[1:])
            np.take(ghosts, self.ghost, axis=0, out=channel.ghost, mode="clip")
            ghosts[self.ghost] = 0.0
            channel.reverse.start()

    def finish_reverse(self, lam: np.ndarray) -> None:
        if self.sends or self.recvs:
            channel = self._channels.get(self.comm, lam.shape[1:])
            channel.reverse.finish()
            for (_, ids), received in zip(self.sends, channel.sends):  # ids are distinct within a message only
                lam[ids] += received

    def gathered(self, ghosts: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """What others' ghosts hold, (own rows, values) of each neighbour, for who adds it up in a way of its own; sent
        as by `reverse`."""
        if not (self.sends or self.recvs):
            return []
        channel = self._channels.get(self.comm, ghosts.shape[1:])
        self.start_reverse(np.empty((0, *ghosts.shape[1:])), ghosts)
        channel.reverse.finish()
        return [(ids, received.copy()) for (_, ids), received in zip(self.sends, channel.sends)]

    def close(self) -> None:
        self._channels.close()


def check_index_range(n_rows: int, *nnz: int) -> None:
    """Raise `IndexRangeError` if this PETSc's indices can't number the rows or count this rank's entries.  Local."""
    limit = int(np.iinfo(petsc().IntType).max)
    if n_rows > limit:
        raise IndexRangeError(
            f"the system has {n_rows} rows, but this PETSc counts to {limit} (32-bit indices); use a PETSc configured "
            "with --with-64-bit-indices, or method='sweep', which assembles nothing")
    if max(nnz, default=0) > limit:
        raise IndexRangeError(
            f"one rank holds {max(nnz)} entries of the system, but this PETSc counts to {limit} a rank (32-bit "
            "indices); use more ranks, a PETSc configured with --with-64-bit-indices, or method='sweep', which "
            "assembles nothing")


def _join(parts: list[tuple[int, np.ndarray]]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.int64), *(ids for _, ids in parts)])


__all__ = ["CSR", "Halo", "Portion", "TriangularSystem", "check_index_range"]
