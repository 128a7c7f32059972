"""The equation R(y, x) = 0 of an implicit statement at a point: its residual, its Jacobian, and solves with it.

R is a tape, a function of what it reads beside the unknowns, x, and of these, y, its last input.  Its
derivative is the system this package is about: one row a line of R, closed by the rows R_i = 0 that stand for y.  Lines
are eliminated, components found and factorized as those of any system (`preaccumulate`, `components`, `blocks`):

    (dR/dy) ydot = -(dR/dx) xdot       tangent              (dR/dy) step = -R             Newton's step
    (dR/dy)^T lam = ybar,  xbar = -(dR/dx)^T lam            adjoint

Where the partials of R's lines are too many to be written out (a transform, say, in which everything reads
everything), products with dR/dy are sweeps, and GMRES solves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from ..errors import ConvergenceError
from ..evaluate import Point, evaluate
from ..graph import nonzeros, strong_components
from ..kernels import csr
from ..partials import LocalL, expand, expand_structure, expand_values
from ..partition import whole
from ..partition.local import LocalTape, Portion
from ..preaccumulate import eliminate
from ..solvers.passes import Passes
from ..solvers.sweep import Sweep
from ..system import TriangularSystem
from ..tape import Const, Tape

ENTRIES = 1 << 27  # partials of R's lines up to which they are written out: 1.6 GB
DEEP = 64  # lines of R that depend on each other, one after another, and have several uses
BASIS, RESTARTS, KRYLOV_RTOL = 100, 50, 1e-13  # of GMRES where they are not


class Equation:
    """R(y, x) = 0 on one process.  `at` moves it to a point; what is computed there is kept until the next.

    Attributes
    ----------
    comm : the ranks that have a part of it, here this one
    n, places : unknowns here, and their numbers among all; total : how many there are on all ranks
    """

    comm = MPI.COMM_SELF

    def __init__(self, tape: Tape, where: str) -> None:
        self.tape, self._where = tape, where
        self.n = self.total = tape.outputs[0].shape[0]
        self.places = np.arange(self.n)
        self._local = whole(tape)
        self._matrix_free = nonzeros(tape) > ENTRIES
        inputs = self._local.inputs.ids
        self._n_x = len(inputs) - self.n
        self._closed = whole(tape)  # the same lines as a function from x to y
        self._closed.inputs = Portion(inputs[:self._n_x], np.arange(self._n_x))
        self._closed.outputs = Portion(inputs[self._n_x:], np.arange(self.n))
        self._z = np.empty(0)  # (x, y)
        self._point: Point | None = None
        self._expanded = self._swept = False  # the rows, and the sweep, hold the values of this point
        self._rows: Any = None
        self._closing: Any = None
        self._reduced: Any = None
        self._system: Any = None
        self._passes: Any = None
        self._structure: Any = None  # of the Jacobian
        self._sweep: Any = None

    @property
    def how(self) -> str:
        """How its components are solved, for reports; empty while none has been."""
        return "" if self._system is None else self._system.how

    @property
    def nbytes(self) -> int:
        return 0 if self._system is None else self._system.memory + sum(a.nbytes for a in self._rows)

    def at(self, y: np.ndarray, x: np.ndarray) -> Equation:
        """Move to the point (y, x), both flat."""
        z = np.concatenate([x, y])
        if self._point is None or not np.array_equal(z, self._z):
            values = self._point.values if self._point is not None else None
            self._z, self._expanded, self._swept = z, False, False
            self._point = evaluate(self._local, z, MPI.COMM_SELF, values=values)
        return self

    @staticmethod
    def every(mine: Any) -> bool:
        """Whether something is true, of all elements on all ranks."""
        return bool(np.all(mine))

    @staticmethod
    def largest(mine: np.ndarray) -> np.ndarray:
        """The largest values over all ranks, element by element."""
        return mine

    @property
    def residual(self) -> np.ndarray:
        """R(y, x), (n,)."""
        return self._outputs()[:self.n]

    @property
    def objective(self) -> float:
        """The objective whose gradient R is: the tape's second result, where there is one."""
        return float(self._outputs()[self.n])

    def _outputs(self) -> np.ndarray:
        assert self._point is not None
        found = np.concatenate([np.broadcast_to(leaf.ref.value if isinstance(leaf.ref, Const) else 0.0, leaf.shape)
                                .reshape(-1) for leaf in self.tape.outputs])
        found[self._local.outputs.positions] = self._point.outputs()
        return found

    def _solver(self) -> Any:
        """Substitution with the rows of this point.  Raises `SingularError`, naming the user's line."""
        if self._passes is None:  # the first time, or again after a point where it was singular
            rows = self._rows = expand(self._local, self._point)
            indptr, indices = _closed(self._local, self.n, rows.indptr, rows.indices)
            data = np.concatenate([np.ones(len(indices) - len(rows.data)), rows.data])
            unknowns = self._closed.outputs.ids
            self._closing = LocalL(indptr, indices, data, np.concatenate([unknowns, rows.residuals]))
            wide = len(indices) + len(indptr) > np.iinfo(np.int32).max
            self._reduced = eliminate(self._closed, self._closing, columns=np.dtype(np.int64 if wide else np.int32))
            self._system = TriangularSystem(MPI.COMM_SELF, self._reduced, alone=True, where=lambda row: self._where)
            self._expanded = True
            self._passes = Passes(self._system)
        elif not self._expanded:
            expand_values(self._local, self._point, self._rows)
            self._closing.data[len(self._closing.data) - len(self._rows.data):] = self._rows.data
            self._reduced.refresh(self._closing.data)
            self._system.refresh(self._reduced)
            self._expanded = True
        return self._passes

    @property
    def rows(self) -> Any:
        """The eliminated rows at this point (`preaccumulate.Reduced`)."""
        self._solver()
        return self._reduced

    def jacobian(self) -> tuple[Any, Any] | None:
        """-(dR/dy, dR/dx) at this point, as the structure that all points share and its entries: (a SciPy CSR matrix
        (n, n + len(x)), data).  None where R has intermediate results that can't be eliminated: too deep, or given
        by equations themselves.
        """
        if self._matrix_free:
            return None
        self._solver()
        if len(self._rows.residuals):
            return None
        own, n = self._reduced.own, self._reduced.n_rows
        order = np.concatenate([self._reduced.outputs.ids, self._reduced.inputs.ids])
        if self._structure is None:
            ones = _schur(own, n, order, self.n, structure=True)
            if ones is None:
                self._structure = ()
            else:
                ones.sort_indices()
                self._structure = (ones, np.repeat(np.arange(self.n), np.diff(ones.indptr)) * len(order) + ones.indices)
        if not self._structure:
            return None
        pattern, keys = self._structure
        found = _schur(own, n, order, self.n, structure=False).tocoo()
        data = np.zeros(len(keys))
        np.add.at(data, np.searchsorted(keys, found.row.astype(np.int64) * len(order) + found.col), found.data)
        return pattern, data

    def step(self, r: np.ndarray, anew: bool = True) -> np.ndarray:
        """-(dR/dy)^-1 r, for r (n,); with the factors of the last step's point unless `anew`."""
        if self._matrix_free:
            return -self._iterated(r, False)
        passes, system = self._solver() if anew else self._passes, self._system
        v = np.zeros(system.n_local)
        v[system.outputs.ids] = r
        passes.forward(v)
        return v[system.outputs.ids]

    def times(self, p: np.ndarray) -> np.ndarray:
        """(dR/dy) p, for p (n,)."""
        return self._forward(np.concatenate([np.zeros(self._n_x), p]))

    def _forward(self, zdot: np.ndarray) -> np.ndarray:
        """rdot (n,) of (xdot, ydot), by a sweep."""
        found = np.zeros(self.tape.n_outputs)
        found[self._local.outputs.positions] = self._sweeping().tangent(zdot)
        return found[:self.n]

    def _backward(self, rbar: np.ndarray) -> np.ndarray:
        """(xbar, ybar) of rbar (n,), by a sweep."""
        seed = np.concatenate([rbar, np.zeros(self.tape.n_outputs - self.n)])
        return self._sweeping().adjoint(seed[self._local.outputs.positions])

    def _sweeping(self) -> Sweep:
        if self._sweep is None:
            self._sweep = Sweep(self._local, self._point, MPI.COMM_SELF)
        elif not self._swept:
            self._sweep.refresh(self._point)
        self._swept = True
        return self._sweep

    def _iterated(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        """(dR/dy)^-1 b, or transposed, for b (n,), by GMRES with sweeps: nothing is written out."""
        product = (lambda v: self._backward(v)[self._n_x:]) if transposed else self.times
        size, x, left = float(np.linalg.norm(b)), np.zeros(self.n), b
        for _ in range(RESTARTS):  # each on what is left, measured anew
            if float(np.linalg.norm(left)) <= KRYLOV_RTOL * size:
                return x
            x = x + _gmres(product, left, min(self.n, BASIS), KRYLOV_RTOL)
            left = b - product(x)
            if not np.isfinite(left).all():
                break
        norm = float(np.linalg.norm(left)) / (size or 1.0)
        if norm <= 100 * KRYLOV_RTOL:
            return x
        raise ConvergenceError(
            f"gmres with dR/dy of the equation solved at {self._where} left a residual of {norm:.3g} > {KRYLOV_RTOL:g} "
            f"after {RESTARTS} x {BASIS} iterations ({self.n} unknowns, too many partials to write them out); scale "
            "the equations, or bring them nearer to the identity by multiplying with an approximate inverse")

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        """ydot (n, m) for xdot (len(x), m)."""
        if self._matrix_free:
            none = np.zeros(self.n)
            return np.stack([-self._iterated(self._forward(np.concatenate([t, none])), False) for t in xdot.T], axis=1)
        passes, system = self._solver(), self._system
        v = np.zeros((system.n_local, xdot.shape[1]))
        v[system.inputs.ids] = xdot
        passes.forward(v)
        return v[system.outputs.ids]

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        """xbar (len(x), m) for ybar (n, m)."""
        if self._matrix_free:
            return np.stack([-self._backward(self._iterated(v, True))[:self._n_x] for v in ybar.T], axis=1)
        passes, system = self._solver(), self._system
        v = np.zeros((system.n_local, ybar.shape[1]))
        v[system.outputs.ids] = ybar
        passes.backward(v)
        return v[system.inputs.ids]

    def rounding(self, y: np.ndarray) -> np.ndarray:
        """About what rounding alone may leave of R_i: eps sum_j |dR_i/dy_j y_j|; 0 where nothing is written out."""
        if self._matrix_free:
            return np.zeros(self.n)
        self._solver()
        own, n = self._reduced.own, self._reduced.n_rows
        size = np.zeros(n)
        size[self._system.outputs.ids] = np.abs(y)
        size[self._system.inputs.ids] = np.abs(self._z[:self._n_x])
        found, none = np.zeros(n), np.zeros(n)
        csr.residual(own.nnz, own.indptr, own.indices, own.data, size, none, found)
        return np.finfo(float).eps * found[self._system.outputs.ids]


def _gmres(product: Callable[[np.ndarray], np.ndarray], b: np.ndarray, most: int, tol: float) -> np.ndarray:
    """x with |b - A x| least in a Krylov space of at most `most` vectors, or below tol |b| (Saad and Schultz 1986).

    SciPy's does not allow A's product to use it again, as an equation in an equation does.
    """
    size = float(np.linalg.norm(b))
    V, H = np.zeros((most + 1, len(b))), np.zeros((most + 1, most))
    V[0] = b / size
    coefficients = np.zeros(0)
    for j in range(most):
        w = product(V[j])
        for _ in range(2):  # once is not enough where directions are nearly dependent
            h = V[:j + 1] @ w
            H[:j + 1, j] += h
            w = w - h @ V[:j + 1]
        H[j + 1, j] = np.linalg.norm(w)
        last = j + 1 == most or not H[j + 1, j] > tol * np.abs(H[:j + 1, j]).max()
        if last or j % 8 == 7:
            target = np.zeros(j + 2)
            target[0] = size
            if not np.isfinite(H[:j + 2, :j + 1]).all():
                break
            coefficients = np.linalg.lstsq(H[:j + 2, :j + 1], target, rcond=None)[0]
            if last or np.linalg.norm(target - H[:j + 2, :j + 1] @ coefficients) <= tol * size:
                break
        V[j + 1] = w / H[j + 1, j]
    return coefficients @ V[:len(coefficients)]


def cycles(tape: Tape) -> np.ndarray:
    """Unknowns in each strongly connected component of R(y, x) = 0 with more than one: y_i depends on what R_i reads.

    tape: R, a function of x and, last, y.  Structure alone, linear in the entries of R's lines; where these are too
    many to be written out, all unknowns are taken to hang together.
    """
    n = tape.outputs[0].shape[0]
    if nonzeros(tape) > ENTRIES:
        return np.array([n])[:n > 1]
    local = whole(tape)
    found = strong_components(*_closed(local, n, *expand_structure(local)))
    unknowns = np.bincount(found.component[local.inputs.ids[-n:]])
    return unknowns[unknowns > 1]


def _closed(local: LocalTape, n: int, indptr: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of R's lines with y_i's row reading R_i: inputs come first, so their entries do."""
    (ends, places), inputs = local.outputs, local.inputs.ids
    ends, places = ends[places < n], places[places < n]
    counts = np.diff(indptr)
    counts[len(inputs) - n + places] = 1
    return (np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([ends[np.argsort(places)].astype(indices.dtype), indices]))


def _schur(own: Any, n: int, order: np.ndarray, n_y: int, structure: bool) -> Any:
    """Rows of the unknowns (the first n_y of `order`) over the columns `order`, all other rows eliminated.

    These others are unit lower triangular, I - N, and N is nilpotent: (I - N)^-1 = I + N + N^2 + ...  None where that
    takes more than DEEP terms.  structure: with 1 for every entry that can come up, or more.
    """
    from scipy import sparse

    data = np.ones(own.nnz) if structure else own.data
    matrix = sparse.csr_matrix((data, own.indices, own.indptr), shape=(n, n))
    others = np.setdiff1d(np.arange(n), order)
    rows = matrix[order[:n_y]]
    found = rows[:, order]
    if not len(others):
        return found
    through, below = rows[:, others], matrix[others]
    sign = 1.0 if structure else -1.0
    N, ends = sign * sparse.tril(below[:, others], -1, format="csr"), sign * below[:, order]
    for _ in range(DEEP):
        found = found + through @ ends
        through = through @ N
        if not through.nnz:
            return found
    return None


__all__ = ["Equation", "cycles"]
