"""I - L of a whole program in block-structured storage: a linear operator that is never assembled.

    mult            x - L x            solve            (I - L)^-1 b
    mult_transpose  x - L^T x          solve_transpose  (I - L)^-T w

Rows are all nodes of the tape, one a flattened line's result; a right-hand side may enter anywhere, not only at inputs.
The storage is the tape itself: a *segment* is a statement, that is a range of rows, operands that are affine (a few
integers) or indexed, and a coefficient for each that is a constant, an operand's own values by reference, or computed
by the rule when it is wanted.  Where all operands are affine there is no index at all.  A scalar run is a segment of
lines, an operation and two operands each.

Over several ranks a rank's rows are its own nodes; ghosts are copies that only the products' vectors have room for.
"""

from __future__ import annotations

from functools import cached_property
from itertools import chain
from math import prod
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from ..comm import agreed
from ..errors import InputError
from ..evaluate import Point
from ..flags import quiet
from ..kernels import scalar, stream
from ..partials import Partials, coefficient
from ..partition.local import OBJECTS, LocalTape, Portion
from ..petsc import destroy, petsc, start
from ..products import Failure, Products, add_adjoint, add_tangent, operand_places
from ..strided import accumulate, accumulate_overlapping, core_view, with_columns
from ..system import check_index_range
from ..tape import Affine, Block, Indexed, Item, Joint, ScalarRun, Statement
from .substitution import SubstitutionPC


class StructuredSystem:
    """I - L over all nodes at a point.  Creation and all methods but `refresh` and the counts are collective.

    local, point, comm   the rank's share of the tape and its values, of which only those that solves read are needed
    keep                 store the coefficients that rules compute, for many products at one point
    n_own, n_rows        rows of this rank, and of all; a rank's rows are row_start, ..., row_start + n_own - 1
    inputs, outputs      where the function's arguments and results are: `ids` are rows of this rank counted from its
                         first, `positions` places in the flat argument or result (a row may be an output twice)

    Vectors are (n_own,) or (n_own, m), a rank's rows in the order of its local nodes.
    """

    def __init__(self, local: LocalTape, point: Point, comm: MPI.Comm, keep: bool = False) -> None:
        self.comm, self._local = comm, local
        self._partials = Partials(point, keep=keep)
        self._failure = Failure()  # of a joint statement's rule
        self._segments: list[list[Segment]] = [  # by superstep
            [segment(self._partials, i, item, local.blocks, self._failure)
             for i, item in enumerate(local.items[step.start : step.stop], step.start) if not _empty(item)]
            for step in local.steps]
        self._own = local.own
        self.n_own = local.n_own
        counts = comm.allgather(self.n_own)
        self.n_rows, self.row_start = sum(counts), sum(counts[: comm.rank])
        self.inputs, self.outputs = self._rows(local.inputs), self._rows(local.outputs)
        self._workspace: dict[str, np.ndarray] = {}
        self._mat: Any = None

    def _rows(self, portion: Portion) -> Portion:
        if self._own is None:
            return portion
        return Portion(np.cumsum(self._own)[portion.ids] - 1, portion.positions)

    # -- products and solves

    def mult(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """x - L x, written into `out` if given (not x itself).  Collective."""
        return self._product(x, out, False)

    def mult_transpose(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """x - L^T x, written into `out` if given (not x itself).  Collective."""
        return self._product(x, out, True)

    def _product(self, x: np.ndarray, out: np.ndarray | None, transposed: bool) -> np.ndarray:
        x = self._checked(x)
        z = self._result(out, x)
        if self._own is None:
            z[...] = x
            self._subtract(x, z, transposed)
            self._agree()
            return z
        local_x, local_z = self._local_vector("x", x), self._local_vector("z", x)
        steps = self._local.steps
        if transposed:
            self._subtract(local_x, local_z, True)
            for step in reversed(steps):
                step.exchange.reverse(self.comm, local_z)
        else:
            for step in steps:
                step.exchange.forward(self.comm, local_x)
            self._subtract(local_x, local_z, False)
        z[...] = local_z[self._own]
        self._agree()
        return z

    def _subtract(self, x: np.ndarray, z: np.ndarray, transposed: bool) -> None:
        """z -= L x or z -= L^T x, over local nodes."""
        with quiet():
            for segment in chain.from_iterable(self._segments):
                (segment.add_transposed if transposed else segment.add)(x, z, -1.0)

    def _agree(self) -> None:
        """A joint statement's rule that raised on one rank raises on all."""
        if self._local.joint:
            self._failure.agree(self.comm, self._local.sites)

    def solve(self, b: np.ndarray) -> np.ndarray:
        """(I - L)^-1 b for any b.  Collective."""
        y = np.array(self._checked(b))
        self.forward(y)
        return y

    def solve_transpose(self, w: np.ndarray) -> np.ndarray:
        """(I - L)^-T w for any w.  Collective."""
        lam = np.array(self._checked(w))
        self.backward(lam)
        return lam

    def forward(self, y: np.ndarray) -> None:
        """y <- (I - L)^-1 y, for an array in C order.  Collective."""
        local = y if self._own is None else self._local_vector("x", y)
        with quiet():
            for step, segments in zip(self._local.steps, self._segments):
                for segment in segments:
                    segment.forward(local)
                if self._own is not None:
                    step.exchange.forward(self.comm, local)
        if self._own is not None:
            y[...] = local[self._own]
        self._agree()

    def backward(self, lam: np.ndarray) -> None:
        """lam <- (I - L)^-T lam, for an array in C order.  Collective."""
        local = lam if self._own is None else self._local_vector("x", lam)
        with quiet():
            for step, segments in zip(reversed(self._local.steps), reversed(self._segments)):
                if self._own is not None:
                    step.exchange.reverse(self.comm, local)
                for segment in reversed(segments):
                    segment.backward(local)
        if self._own is not None:
            lam[...] = local[self._own]
        self._agree()

    def _checked(self, x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, dtype=np.float64)
        if x.ndim not in (1, 2) or len(x) != self.n_own:
            raise InputError(f"a vector of shape {x.shape} does not fit the rows of rank {self.comm.rank}; "
                             f"give ({self.n_own},) or ({self.n_own}, m)")
        return x

    def _result(self, out: np.ndarray | None, x: np.ndarray) -> np.ndarray:
        if out is None:
            return np.empty(x.shape)
        if out.shape != x.shape or out.dtype != np.float64 or not out.flags.c_contiguous or np.may_share_memory(out, x):
            raise InputError(f"out must be another array than x, of doubles in C order and of shape {x.shape}; it is "
                             f"{out.dtype} of shape {out.shape}")
        return out

    def _local_vector(self, name: str, x: np.ndarray) -> np.ndarray:
        """x with room for ghosts, which are zero."""
        shape = (self._local.n_nodes, *x.shape[1:])
        if name not in self._workspace or self._workspace[name].shape != shape:
            self._workspace[name] = np.empty(shape)
        y = self._workspace[name]
        y.fill(0.0)
        y[self._own] = x
        return y

    # -- PETSc

    @property
    def mat(self) -> Any:
        """A PETSc Mat (MATPYTHON) of n_rows rows with mult, multTranspose, solve, solveTranspose and its diagonal, 1.

        Made at first use; follows `refresh`.  Collective.  Raises `IndexRangeError` if PETSc's indices are too small.
        """
        if self._mat is None:
            start(self.comm)
            with agreed(self.comm):
                check_index_range(self.n_rows)
            size = (self.n_own, self.n_rows)
            self._mat = petsc().Mat().createPython((size, size), _Context(self), comm=self.comm)
            self._mat.setUp()
        return self._mat

    def precondition(self, pc: Any) -> None:
        """Make a PETSc PC apply `solve` and `solve_transpose`: under `preonly` a direct solver.  Collective.

        Where you started PETSc yourself, destroy the KSP before the program ends: PETSc calls into Python when it frees
        such a PC, and at the end of the interpreter that can crash.
        """
        pc.setType(petsc().PC.Type.PYTHON)
        pc.setPythonContext(SubstitutionPC(self))

    def refresh(self, point: Point) -> None:
        """The operator at another point of the same tape from now on.  Local."""
        self._partials.refresh(point)
        if self._mat is not None:
            self._mat.stateIncrease()  # preconditioners must notice

    def close(self) -> None:
        """Destroy the PETSc matrix and free the vectors.  Collective; a second call does nothing."""
        if self._mat is not None:
            destroy(self._mat)
            self._mat = None
        self._workspace.clear()

    # -- counts of this rank

    @cached_property
    def n_segments(self) -> int:
        """Statements and scalar runs that rows are stored in."""
        return sum(map(len, self._segments))

    @cached_property
    def index_bytes(self) -> int:
        """Bytes of operands that are given node by node."""
        return sum(segment.index_bytes for segment in chain.from_iterable(self._segments))

    @property
    def coefficient_bytes(self) -> int:
        """Bytes of coefficients that were computed and stored (`keep`); the others are the point's own values."""
        return self._partials.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes held beside tape and point: stored coefficients, vectors with ghosts, which rows are own, objects."""
        held = OBJECTS * self.n_segments + (0 if self._own is None else self._own.nbytes)
        return self.coefficient_bytes + held + sum(a.nbytes for a in self._workspace.values())


class _Context:
    """A `StructuredSystem` as the context of a PETSc Python matrix."""

    def __init__(self, system: StructuredSystem) -> None:
        self.system = system

    def mult(self, mat: Any, x: Any, y: Any) -> None:
        with y as array:
            self.system.mult(x.getArray(readonly=True), array)

    def multTranspose(self, mat: Any, x: Any, y: Any) -> None:
        with y as array:
            self.system.mult_transpose(x.getArray(readonly=True), array)

    def solve(self, mat: Any, b: Any, x: Any) -> None:
        b.copy(x)
        with x as array:
            self.system.forward(array)

    def solveTranspose(self, mat: Any, b: Any, x: Any) -> None:
        b.copy(x)
        with x as array:
            self.system.backward(array)

    def getDiagonal(self, mat: Any, diagonal: Any) -> None:
        diagonal.set(1.0)


def _empty(item: Item) -> bool:
    return not len(item.op) if type(item) is ScalarRun else 0 in item.shape


class _Operand(NamedTuple):
    """Operand k of a statement: the nodes start + i . strides, or those listed."""

    k: int
    constant: float | None  # the coefficient, None: an array
    start: int
    strides: tuple[int, ...]
    ids: np.ndarray | None

    @classmethod
    def of(cls, item: Statement, k: int, what: Any, blocks: list[Block]) -> _Operand:
        ref, constant = item.operands[k], what if isinstance(what, float) else None
        if type(ref) is Indexed:
            return cls(k, constant, 0, (), ref.ids)
        assert type(ref) is Affine
        return cls(k, constant, blocks[ref.block].first + ref.offset, ref.strides, None)


class BlockRows:
    """The rows of one statement.  Vectors are over local nodes."""

    __slots__ = ("_number", "_operands", "_partials", "_scan", "_shape", "_start", "_strides")

    def __init__(self, partials: Partials, number: int, item: Statement, blocks: list[Block]) -> None:
        self._partials, self._number, self._shape = partials, number, item.shape
        self._start, self._strides = blocks[item.out.block].first + item.out.offset, item.out.strides
        self._scan = item.op.kind == "scan"
        whats = ((k, coefficient(item, k)) for k in range(len(item.operands)))
        self._operands = [_Operand.of(item, k, what, blocks) for k, what in whats if what is not None]

    @property
    def index_bytes(self) -> int:
        return sum(operand.ids.nbytes for operand in self._operands if operand.ids is not None)

    def add(self, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        """z += scale L x on these rows."""
        self._add_operands(x, z, scale)
        if self._scan:  # a row reads the one before it
            self._rows(z)[self._cut(1, None)] += scale * self._rows(x)[self._cut(None, -1)]

    def add_transposed(self, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        """z += scale L^T x, of these rows."""
        self._add_to_operands(x, z, scale)
        if self._scan:
            self._rows(z)[self._cut(None, -1)] += scale * self._rows(x)[self._cut(1, None)]

    def forward(self, y: np.ndarray) -> None:
        """These rows of (I - L) y = b, where y holds b; earlier rows are solved."""
        self._add_operands(y, y, 1.0)
        if self._scan:
            rows, axis = self._rows(y), len(self._shape) - 1
            np.cumsum(rows, axis=axis, out=rows)

    def backward(self, lam: np.ndarray) -> None:
        """What these rows, which are solved but for a scan, add to earlier ones of (I - L)^T lam = w."""
        if self._scan:
            axis = len(self._shape) - 1
            rows = np.flip(self._rows(lam), axis)
            np.cumsum(rows, axis=axis, out=rows)
        self._add_to_operands(lam, lam, 1.0)

    def of_operand(self, k: int, x: np.ndarray, forward: bool) -> None:
        """`forward` or `backward`, of operand k alone and without a scan's own rows."""
        for operand in self._operands:
            if operand.k == k:
                (self._add_operand if forward else self._add_to_operand)(operand, x, x, 1.0)

    def _add_operands(self, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        for operand in self._operands:
            self._add_operand(operand, x, z, scale)

    def _add_operand(self, operand: _Operand, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        source = x[operand.ids] if operand.ids is not None else core_view(
            x, operand.start, self._shape, operand.strides)
        accumulate(self._rows(z), source, self._coefficient(operand, x.ndim > 1), self._shape, scale)

    def _add_to_operands(self, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        for operand in self._operands:
            self._add_to_operand(operand, x, z, scale)

    def _add_to_operand(self, operand: _Operand, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        rows, p = self._rows(x), self._coefficient(operand, x.ndim > 1)
        if operand.ids is None:
            dst = core_view(z, operand.start, self._shape, operand.strides)
            accumulate_overlapping(dst, rows, p, self._shape, scale, False, operand.strides)
        else:
            tail = x.shape[1:]
            terms = np.broadcast_to(scale * p * rows, (*self._shape, *tail)).reshape((prod(self._shape), *tail))
            stream.scatter_add(operand.ids.reshape(-1), terms, z)

    def _rows(self, x: np.ndarray) -> np.ndarray:
        return core_view(x, self._start, self._shape, self._strides)

    def _cut(self, start: int | None, stop: int | None) -> tuple[slice, ...]:
        """Part of a scan's last axis."""
        return (*(slice(None),) * (len(self._shape) - 1), slice(start, stop))

    def _coefficient(self, operand: _Operand, columns: bool) -> float | np.ndarray:
        if operand.constant is not None:
            return operand.constant
        p = np.asarray(self._partials.array(self._number, operand.k), dtype=np.float64)
        return with_columns(p, self._shape, columns)


class _Lines:
    """The rows of a scalar run.  Vectors are over local nodes."""

    __slots__ = ("_first", "_item", "_number", "_partials", "_shifts", "_starts")

    def __init__(self, partials: Partials, number: int, item: ScalarRun, blocks: list[Block]) -> None:
        self._partials, self._number, self._item = partials, number, item
        self._first = blocks[item.block].first
        self._starts = np.unique([0, self._first])  # nodes lie at their own numbers, the run's own from the last on
        self._shifts = np.zeros_like(self._starts)

    @property
    def index_bytes(self) -> int:
        return self._item.a.nbytes + self._item.b.nbytes

    def add(self, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        """z += scale L x on these rows."""
        for lines, ids, p in self._entries(x.ndim > 1):
            z[lines] += scale * p * x[ids]

    def add_transposed(self, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        """z += scale L^T x, of these rows."""
        for lines, ids, p in self._entries(x.ndim > 1):
            stream.scatter_add(ids, scale * p * x[lines], z)

    def forward(self, y: np.ndarray) -> None:
        """These rows of (I - L) y = b, where y holds b; earlier rows are solved."""
        scalar.run_tangent(*self._arguments, y, add=True)

    def backward(self, lam: np.ndarray) -> None:
        """These rows of (I - L)^T lam = w, where lam holds w and what later rows add, and what they add to earlier."""
        scalar.run_adjoint(*self._arguments, lam)

    @property
    def _arguments(self) -> tuple[Any, ...]:
        run = self._partials.point.values.lines(self._item)
        return (*run, self._item.a, self._item.b, self._starts, self._shifts)

    def _entries(self, columns: bool) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(rows, columns, coefficients) of the entries of L, operand by operand."""
        found = []
        item = self._item
        for used, p, ids in zip(scalar.active(item), self._partials.run(self._number), (item.a, item.b)):
            lines = np.flatnonzero(used)
            p = p[lines, None] if columns else p[lines]
            found.append((self._first + lines, ids[lines].astype(np.int64, copy=False), p))
        return found


class _Joint:
    """The rows of a joint statement.  Vectors are over local nodes."""

    __slots__ = ("_failure", "_item", "_partials", "_places", "_start")

    def __init__(self, partials: Partials, item: Joint, blocks: list[Block], failure: Failure) -> None:
        self._partials, self._item, self._failure = partials, item, failure
        self._start = blocks[item.out.block].first + item.out.offset
        self._places = operand_places(item, lambda b: blocks[b].first)

    @property
    def index_bytes(self) -> int:
        return sum(place.nbytes for place in self._places if isinstance(place, np.ndarray))

    def add(self, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        """z += scale L x on these rows."""
        if not self._item.active and not self._item.op.collective:
            return
        with self._failure.caught(self._item, lambda: z.fill(np.nan)):
            add_tangent(self._products(), x, self._places, self._rows(z), scale, False)

    def add_transposed(self, x: np.ndarray, z: np.ndarray, scale: float) -> None:
        """z += scale L^T x, of these rows."""
        if not self._item.active and not self._item.op.collective:
            return
        with self._failure.caught(self._item, lambda: z.fill(np.nan)):
            add_adjoint(self._products(), self._rows(x), z, self._places, scale)

    def forward(self, y: np.ndarray) -> None:
        """These rows of (I - L) y = b, where y holds b; earlier rows are solved."""
        self.add(y, y, 1.0)

    def backward(self, lam: np.ndarray) -> None:
        """What these rows, which are solved, add to earlier ones of (I - L)^T lam = w."""
        self.add_transposed(lam, lam, 1.0)

    def _products(self) -> Products:
        return Products(self._item, self._partials.point.values)

    def _rows(self, x: np.ndarray) -> np.ndarray:
        return core_view(x, self._start, self._item.out_shape, self._item.out.strides)


Segment = BlockRows | _Lines | _Joint


def segment(partials: Partials, number: int, item: Item, blocks: list[Block], failure: Failure) -> Segment:
    """The rows of one item of the tape, its `number`."""
    if type(item) is ScalarRun:
        return _Lines(partials, number, item, blocks)
    if type(item) is Joint:
        return _Joint(partials, item, blocks, failure)
    return BlockRows(partials, number, item, blocks)


__all__ = ["BlockRows", "StructuredSystem", "segment"]
