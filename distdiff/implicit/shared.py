"""An implicit statement whose equation ranks share: every one has some of the unknowns, and lines of R that are near.

R, a function of x and y, is partitioned like any tape, its residuals where the unknowns of the same number are.  The
rows of its lines, eliminated, are a system of the usual kind over all ranks (`TriangularSystem`).  With residuals zero
it is square in the unknowns y and the results m of lines that elimination keeps:

    A (ydot, mdot) = -A_x xdot      tangent          A^T lam = (ybar, 0),  xbar = -A_x^T lam      adjoint

`spanning` solves with A.  Newton's method, and PETSc's SNES, work on it as well, every rank on its own unknowns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI

from ..comm import agreed, on_root
from ..evaluate import Point, evaluate
from ..kernels import csr
from ..ops import COPY, Elemental, Share
from ..partials import expand, expand_values
from ..partition import distribute, partition
from ..partition.choose import default_min_block
from ..partition.local import LocalTape
from ..petsc import ended
from ..preaccumulate import eliminate
from ..solvers.sweep import Sweep
from ..spanning import SpanningBlock
from ..system import TriangularSystem
from ..tape import Affine, Const, Joint, Leaf, Statement, Tape
from .forward import Settings, as_vector, solved

UNKNOWNS = 100_000  # of an equation, from which on ranks share it: for fewer, messages cost more than they save
METHODS = ("newton", "iterate", "snes")


class Whole(Protocol):
    """An implicit statement that one rank has, as far as it is looked at here."""

    settings: Settings
    guarded: bool
    where: str
    left: np.ndarray | None  # a solution that an earlier point left

    @property
    def tape(self) -> Tape: ...

    @property
    def n(self) -> int: ...

    @property
    def lines(self) -> int: ...

    def stored(self, active: Sequence[int]) -> int: ...


def shares(op: Whole, n_ranks: int) -> list[Share] | None:
    """Every rank's share of an implicit statement; None where one rank has it all (`reason_against`)."""
    if n_ranks == 1 or reason_against(op):
        return None
    plan = _partitioned(op, n_ranks)
    ends = np.cumsum([0, *(prod(leaf.shape) for leaf in op.tape.inputs)])
    owner = plan.owner(np.arange(ends[-1]))
    found = []
    for rank in range(n_ranks):
        places = [np.flatnonzero(owner[lo:hi] == rank) for lo, hi in zip(ends[:-1], ends[1:])]
        known, mine = places[:-1], places[-1]
        part = Shared(op, n_ranks, [len(p) for p in known], len(mine))
        if op.left is not None:
            part.found(op.left[mine])
        last = op.n if rank == 0 else -1  # whether a solution was found is known to all
        found.append(Share(part, (mine, *known), np.append(mine, last)))
    return found


def reason_against(op: Whole) -> str:
    """Why one rank has an equation to itself; empty if ranks may share it."""
    if op.n < UNKNOWNS:
        return f"fewer than {UNKNOWNS} are solved for sooner by one"
    if op.settings.method not in METHODS or op.settings.kind == "minimum":
        return f"method {op.settings.method!r} for a {op.settings.kind} is one process's"
    if any(type(item) is Joint for item in op.tape.items):
        return "it holds statements whose results are computed together (equations, solves, transforms)"
    if type(op.tape.outputs[0].ref) is Const:
        return "its residual is constant"
    return ""


def _partitioned(op: Whole, n_ranks: int) -> Any:
    """R as a function of (x, y), its residuals where the unknowns are."""
    tape = op.tape
    own = Tape(blocks=list(tape.blocks), items=list(tape.items), inputs=tape.inputs, sites=tape.sites)
    unknowns, residual = tape.inputs[-1].ref, tape.outputs[0]
    assert isinstance(unknowns, Affine)
    block = own.add_block((op.n,))
    own.items.append(Statement(COPY, (op.n,), Affine(block, 0, (1,)), (residual.ref,)))
    own.outputs = [Leaf((op.n,), Affine(block, 0, (1,)))]
    own.alike = {block: unknowns.block}
    least = min(default_min_block(n_ranks), max(op.n // 16, 1))  # what has the size of the unknowns is cut
    return partition(own, n_ranks, "axes", min_block=least)


class Shared(Elemental):
    """A rank's part: operands are its unknowns' first guess and what it has of what R reads, results its unknowns."""

    name = "implicit"
    inert = frozenset((0,))
    implicit = True
    collective = True

    def __init__(self, op: Whole, n_ranks: int, known: list[int], n: int) -> None:
        self.settings, self.guarded, self.where = op.settings, op.guarded, op.where
        self.n, self.total = n, op.n
        self.core_in = ((n,), *((size,) for size in known))
        self.core_out = ((n,), ())
        self._lines, self._stored = -(-op.lines // n_ranks), -(-op.stored(()) // n_ranks)
        self._equation: SharedEquation | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_equation": None}

    def join(self, comm: MPI.Comm, whole: Elemental | None, options: Mapping[str, Any]) -> None:
        plan = on_root(comm, lambda: _partitioned(whole, comm.size), share=False)
        alone = comm.Dup()  # messages of R's own, between those of the program around
        local = distribute(plan.plan.tape if plan is not None else None, plan, alone)
        self._equation = SharedEquation(alone, local, self, options)

    def leave(self) -> None:
        if self._equation is not None:
            self._equation.close()
        self._equation = None

    @property
    def equation(self) -> SharedEquation:
        assert self._equation is not None
        return self._equation

    @property
    def how(self) -> str:
        return self.equation.how

    @property
    def lines(self) -> int:
        return self._lines

    def stored(self, active: Sequence[int]) -> int:
        return self._stored

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        known = as_vector(x[1:])
        return solved(lambda y: self.equation.at(y, known), x[0], self.n, self.settings, self.where, self.guarded,
                      self.near)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        columns = next((t.shape[:-1] for t in xdot[1:] if t is not None), None)
        equation = self.equation.at(y[0], as_vector(x[1:]))
        width = equation.agree(-1 if columns is None else prod(columns))  # a rank may have nothing that varies
        given = [np.zeros((width, core[0])) if t is None else np.reshape(t, (width, core[0]))
                 for core, t in zip(self.core_in[1:], xdot[1:])]
        flat = np.concatenate([np.empty((width, 0)), *given], axis=1)
        ydot = equation.tangent(np.ascontiguousarray(flat.T))
        return (ydot.T.reshape(*columns, self.n), None) if columns is not None else (None, None)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        columns = ybar[0].shape[:-1]
        xbar = self.equation.at(y[0], as_vector(x[1:])).adjoint(np.ascontiguousarray(
            ybar[0].reshape(prod(columns), self.n).T))
        ends = np.cumsum([core[0] for core in self.core_in[1:]])
        return [None, *(part.T.reshape(*columns, *core)
                        for part, core in zip(np.split(xbar, ends[:-1]), self.core_in[1:]))]


class SharedEquation:
    """R(y, x) = 0 over `comm`: the face of `Equation`, where vectors hold this rank's part.  Everything is collective.

    places   numbers of this rank's unknowns among all
    """

    def __init__(self, comm: MPI.Comm, local: LocalTape, part: Shared, options: Mapping[str, Any]) -> None:
        self.comm, self._local, self._where, self._options = comm, local, part.where, options
        self._n_x = len(local.inputs.ids) - part.n
        self.n, self.total = part.n, part.total
        self.places = local.outputs.positions
        self._point: Point | None = None
        self._z = np.empty(0)
        self._expanded = self._swept = False
        self._rows: Any = None
        self._reduced: Any = None
        self._system: Any = None
        self._block: Any = None
        self._sweep: Any = None

    def at(self, y: np.ndarray, x: np.ndarray) -> SharedEquation:
        """Move to the point (y, x)."""
        z = np.concatenate([x, y])
        if not self.every(self._point is not None and np.array_equal(z, self._z)):
            values = self._point.values if self._point is not None else None
            self._z, self._expanded, self._swept = z, False, False
            self._point = evaluate(self._local, z, self.comm, values=values)
        return self

    @property
    def residual(self) -> np.ndarray:
        """R_i(y, x) of this rank's unknowns."""
        assert self._point is not None
        return np.array(self._point.outputs())

    def every(self, mine: Any) -> bool:
        """Whether something is true on every rank."""
        return bool(self.comm.allreduce(bool(np.all(mine)), op=MPI.LAND))

    def largest(self, mine: np.ndarray) -> np.ndarray:
        """The largest values over all ranks, element by element."""
        found = np.array(mine, dtype=np.float64)
        self.comm.Allreduce(MPI.IN_PLACE, found, op=MPI.MAX)
        return found

    def agree(self, mine: int) -> int:
        """The largest of the ranks' numbers, at least 1."""
        return int(self.comm.allreduce(max(mine, 1), op=MPI.MAX))

    def _solver(self) -> SpanningBlock:
        """The factorized matrix of this point.  Raises `SingularError`, naming the user's line, on every rank."""
        from scipy import sparse

        comm = self.comm
        if self._rows is None:
            with agreed(comm):
                self._rows = expand(self._local, self._point)
                self._reduced = eliminate(self._local, self._rows)
            self._system = TriangularSystem(comm, self._reduced)
            self._cut()
        elif not self._expanded:
            with agreed(comm):
                expand_values(self._local, self._point, self._rows)
                self._reduced.refresh(self._rows.data)
            self._system.refresh(self._reduced)
        if not self._expanded:
            own, ghost = self._system.own.data, self._system.ghost.data
            self._block.refresh(np.concatenate([own, ghost])[self._entries])
            self._known = [sparse.csr_matrix((data[places], at), shape=shape)
                           for (places, at, shape), data in zip(self._known_parts, (own, ghost))]
            self._expanded = True
        return self._block

    def _cut(self) -> None:
        """From the rows of R's lines to those of A, over the unknowns and over what R reads beside them."""
        system, comm = self._system, self.comm
        n = system.n_local
        self._x_rows, self._y_rows = np.split(system.inputs.ids, [self._n_x])
        r_rows = system.outputs.ids
        stay = np.ones(n, dtype=bool)
        stay[np.concatenate([system.inputs.ids, r_rows])] = False
        others = np.flatnonzero(stay)
        unknowns, equations = np.concatenate([self._y_rows, others]), np.concatenate([r_rows, others])
        self._size = len(unknowns)
        first = comm.exscan(self._size) or 0
        number = np.full(n, -1.0)  # as doubles, which travel as ghosts
        number[unknowns] = first + np.arange(self._size)
        ghosts = np.full(system.n_ghosts, -1.0)
        system.halo_update(number, ghosts)
        residual = np.zeros(n, dtype=bool)
        residual[r_rows] = True
        place = np.full(n, -1)
        place[equations] = np.arange(self._size)
        # R_i may be a line that stays anyhow, since others read it: its row then has the diagonal, not R_i = that line.
        copies = r_rows[(np.diff(system.own.indptr)[r_rows] == 2) & (np.diff(system.ghost.indptr)[r_rows] == 0)]
        lines = system.own.indices[system.own.indptr[copies]]
        lines, once = np.unique(lines[stay[lines]], return_index=True)
        copies = copies[stay[system.own.indices[system.own.indptr[copies]]]][once]
        place[copies], place[lines] = place[lines], place[copies]
        self._residuals = place[r_rows]
        x_place = np.full(n, -1)
        x_place[self._x_rows] = np.arange(self._n_x)
        rows, columns, entries, known = [], [], [], []
        for matrix, numbers, offset, mine in (
                (system.own, number, 0, True), (system.ghost, ghosts, system.own.nnz, False)):
            row = place[np.repeat(np.arange(n), np.diff(matrix.indptr))]
            number_of = numbers[matrix.indices].astype(np.int64)
            square = (row >= 0) & (number_of >= 0)
            rows.append(row[square])
            columns.append(number_of[square])
            entries.append(np.flatnonzero(square) + offset)
            other = (row >= 0) & (number_of < 0)
            if mine:
                other &= ~residual[matrix.indices]
            at = np.flatnonzero(other)
            column = x_place[matrix.indices[at]] if mine else matrix.indices[at]
            width = self._n_x if mine else system.n_ghosts
            known.append((at, (row[at], column), (self._size, width)))
        self._known_parts = known
        row, column, entry = (np.concatenate(part) for part in (rows, columns, entries))
        order = np.lexsort((column, row))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=self._size))])
        self._entries = entry[order]
        self._block = SpanningBlock(comm, indptr, column[order], self._where, self._options)

    def step(self, r: np.ndarray, anew: bool = True) -> np.ndarray:
        """-(dR/dy)^-1 r; with the factors of the last step's point unless `anew`."""
        block = self._solver() if anew else self._block
        b = np.zeros(self._size)
        b[self._residuals] = r
        return block.solve(b, False, refined=False)[:self.n]

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        """ydot (n, m) for xdot (len(x), m)."""
        block, system = self._solver(), self._system
        block.require_regular()
        v, ghosts = np.zeros((system.n_local, xdot.shape[1])), np.zeros((system.n_ghosts, xdot.shape[1]))
        v[self._x_rows] = xdot
        system.halo_update(v, ghosts)
        own, ghost = self._known
        return block.solve(-(own @ xdot + ghost @ ghosts), False)[:self.n]

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        """xbar (len(x), m) for ybar (n, m)."""
        block, system = self._solver(), self._system
        block.require_regular()
        lam = block.solve(np.concatenate([ybar, np.zeros((self._size - self.n, ybar.shape[1]))]), True)
        own, ghost = self._known
        v, ghosts = np.zeros((system.n_local, ybar.shape[1])), np.asarray(-(ghost.T @ lam))
        system.halo_add(v, ghosts)
        return np.asarray(v[self._x_rows] - own.T @ lam)

    def times(self, p: np.ndarray) -> np.ndarray:
        """(dR/dy) p, by a sweep."""
        if self._sweep is None:
            self._sweep = Sweep(self._local, self._point, self.comm)
        elif not self._swept:
            self._sweep.refresh(self._point)
        self._swept = True
        return self._sweep.tangent(np.concatenate([np.zeros(self._n_x), p]))

    def rounding(self, y: np.ndarray) -> np.ndarray:
        """About what rounding alone may leave of R_i: eps sum_j |dR_i/dy_j y_j|."""
        self._solver()
        system, (found, none) = self._system, np.zeros((2, self._system.n_local))
        size, ghosts = np.zeros(system.n_local), np.zeros(system.n_ghosts)
        size[self._y_rows], size[self._x_rows] = np.abs(y), np.abs(self._z[:self._n_x])
        system.halo_update(size, ghosts)
        for matrix, values in ((system.own, size), (system.ghost, ghosts)):
            csr.residual(matrix.nnz, matrix.indptr, matrix.indices, matrix.data, values, none, found)
        return np.asarray(np.finfo(float).eps * found[system.outputs.ids])

    @property
    def how(self) -> str:
        """What solves with A, and why."""
        block = self._block
        if block is None:
            return ""
        return f"{block.info['type']} with {block.info['preconditioner']} at {self._where}; {block.reason}"

    @property
    def nbytes(self) -> int:
        return 0 if self._system is None else self._system.memory + self._block.nbytes

    def close(self) -> None:
        for thing in (self._sweep, self._block, self._system, self._local):
            if thing is not None:
                thing.close()
        if not ended():
            self.comm.Free()


__all__ = ["Shared", "SharedEquation", "reason_against", "shares"]
