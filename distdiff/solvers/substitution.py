"""Distributed substitution in supersteps: forward or backward, exact in one pass.

    for each superstep:   rows that read ghosts take them;  own rows in order;  one halo exchange

and transposed the same backwards.  Rows of an implicit statement are solved together, component by component, with
factors made once a point (`blocks`).  k* exchanges in all, each to neighbours only.  PETSc has no distributed
triangular solve, so this is a Python preconditioner for it: `SubstitutionPC` under KSP `preonly` is a direct
solver, and under any other KSP a preconditioner.  Several right-hand sides are kept row-major and stream the
matrix once.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np
from mpi4py import MPI

from ..blocks import Range
from ..cancellation import Watch, watch_of
from ..kernels import substitution as kernels
from ..kernels.stretches import within
from ..machine import Machine
from ..petsc import destroy, event, petsc
from ..petsc import options as petsc_options
from ..system import TriangularSystem
from .base import Solver
from .cost import Cost, Method, Work, assembling_bytes, assembly, substitution_seconds, substitution_setup


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """Substitution streams the assembled rows."""
    seconds = substitution_setup(work, machine) + assembly(work, machine) + substitution_seconds(work, columns, machine)
    memory = assembling_bytes(work) + 8 * work.rows * min(columns, work.together)
    return Cost(seconds, memory, "assembles the kept rows once, then streams them for all right-hand sides")


def unsigned(indices: np.ndarray) -> np.ndarray:
    """The same indices seen as unsigned: compiled loops then need no test for Python's negative ones."""
    return indices.view(np.uint32 if indices.itemsize == 4 else np.uint64)


# By the number of dimensions of the solution: own rows, rows with ghosts.
_FORWARD = {1: (kernels.forward, kernels.from_ghosts), 2: (kernels.forward_columns, kernels.from_ghosts_columns)}
_BACKWARD = {1: (kernels.backward, kernels.to_ghosts), 2: (kernels.backward_columns, kernels.to_ghosts_columns)}


class _Rows(NamedTuple):
    """Own rows with the diagonal 1: so many entries, in these stretches."""

    entries: int
    lo: int
    hi: int


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
        for s, halo in enumerate(self.system.halos):
            self.forward_step(s, y, ghosts, watch)
            halo.forward(y, ghosts)
            if watch is not None:
                watch.look(s == self.system.k_star - 1)

    def backward(self, lam: np.ndarray) -> None:
        """lam <- (I - L)^-T lam."""
        if self.local:
            self.own_rows(lam, True)
            return
        ghosts, watch = self._ghosts(lam.shape[1:]), watch_of(self.system.comm)
        ghosts.fill(0.0)
        for s, halo in reversed(list(enumerate(self.system.halos))):
            halo.reverse(lam, ghosts)
            self.backward_step(s, lam, ghosts, watch)
            if watch is not None:
                watch.look(s == 0)

    def forward_step(self, s: int, y: np.ndarray, ghosts: np.ndarray, watch: Watch | None = None) -> None:
        """Superstep s: its rows take their ghosts, then own rows in order, unless given up meanwhile.  Local."""
        parts, rows = self._steps[s]
        if len(rows):
            _FORWARD[y.ndim][1](len(rows), rows, *self._ghost, ghosts, y)
        self._forward(parts, y, watch)

    def backward_step(self, s: int, lam: np.ndarray, ghosts: np.ndarray, watch: Watch | None = None) -> None:
        """The transpose of `forward_step`; ghosts are added to.  Local."""
        parts, rows = self._steps[s]
        self._backward(parts, lam, watch)
        if len(rows):
            _BACKWARD[lam.ndim][1](len(rows), rows, *self._ghost, ghosts, lam)

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


class InPlace(Protocol):
    """Both substitutions in place, on arrays (n_local,) or (n_local, m)."""

    def forward(self, y: np.ndarray) -> None: ...
    def backward(self, lam: np.ndarray) -> None: ...


class SubstitutionPC:
    """`Passes`, or what else has `forward` and `backward` in place, as the context of a PETSc Python preconditioner."""

    def __init__(self, passes: InPlace) -> None:
        self.passes = passes

    def apply(self, pc: Any, b: Any, x: Any) -> None:
        b.copy(x)
        with x as array:
            self.passes.forward(array)

    def applyTranspose(self, pc: Any, b: Any, x: Any) -> None:
        b.copy(x)
        with x as array:
            self.passes.backward(array)

    def matApply(self, pc: Any, B: Any, X: Any) -> None:
        self._columns(B, X, self.passes.forward)

    def matApplyTranspose(self, pc: Any, B: Any, X: Any) -> None:  # PETSc calls it since 3.24
        self._columns(B, X, self.passes.backward)

    def _columns(self, B: Any, X: Any, solve: Any) -> None:
        rows = np.ascontiguousarray(B.getDenseArray())  # column-major in PETSc: one copy makes it row-major
        solve(rows)
        X.getDenseArray()[...] = rows
        X.assemble()


class Substitution(Solver):
    """Substitution in supersteps, for `tangent` and `adjoint`.  Collective.

    Both go straight to the compiled passes, without the copies that PETSc's vectors would cost; `ksp` is the
    same solver as a PETSc object, for whoever wants to compose it.
    """

    name = "substitution"
    substitutes = True

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        system.require_triangular(up_to_blocks=True)
        with petsc_options(options, self.name):
            pass  # nothing to set: whatever is given is reported as unused
        self._passes = Passes(system)
        self._ksp: Any = None
        self._messages = system.comm.allreduce(system.messages)
        sizes = system.components.stop - system.components.first
        self._blocks = {"blocks": system.comm.allreduce(len(sizes)),
                        "largest_block": system.comm.allreduce(int(sizes.max(initial=0)), op=MPI.MAX),
                        } if system.cyclic else {}

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        with event("substitution"):
            self._passes.backward(y) if transposed else self._passes.forward(y)
        self.info = {"supersteps": self.system.k_star, "messages": self._messages, **self._blocks}

    @property
    def ksp(self) -> Any:
        """A PETSc KSP (preonly with `SubstitutionPC`) on the same system; made at first use, collective."""
        if self._ksp is None:
            PETSc = petsc()
            self._ksp = PETSc.KSP().create(comm=self.system.comm)
            self._ksp.setOperators(self.system.mat)
            self._ksp.setType(PETSc.KSP.Type.PREONLY)
            pc = self._ksp.getPC()
            pc.setType(PETSc.PC.Type.PYTHON)
            pc.setPythonContext(SubstitutionPC(self._passes))
            self._ksp.setUp()
        return self._ksp

    @property
    def memory(self) -> int:
        return super().memory + self._passes.nbytes

    def close(self) -> None:
        if self._ksp is not None:
            destroy(self._ksp)
            self._ksp = None


METHOD = Method("substitution", cost, Substitution)
