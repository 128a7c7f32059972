"""A square sparse matrix whose rows lie on several ranks, factorized: solving with dR/dy where ranks share an equation.

    A x = b          A^T x = b

The matrix is equilibrated by powers of two, like the blocks of one rank (`blocks`), and goes to PETSc:

- to MUMPS or SuperLU_DIST, whichever there is, where factors are expected to have few entries;
- else to GMRES, with hypre's BoomerAMG where the pattern is symmetric, or additive Schwarz with incomplete factors;
  where that does not converge, it is factorized all the same;
- to what options with the prefix `distdiff_component_` say (`ksp_type`, `pc_type`, `pc_factor_mat_solver_type`, ...).

What is expected: n rows in the plane, dissected, fill in with about 8 n log2 n entries, and a separator of w columns is
a dense triangle in the end (George, Nested dissection of a regular finite element mesh, SIAM J. Numer. Anal. 10, 1973);
w is read off what neighbours have of each other, which for a cube of unknowns in slabs is n^(2/3).

A solution is refined, and accepted on its true residual.  The condition number in the maximum norm is estimated, as
there: beyond SINGULAR no digit of a derivative would be right, and that is an error.  Where nothing is factorized, it
is not estimated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mpi4py import MPI

from .blocks import SINGULAR, undetermined
from .errors import ConvergenceError
from .petsc import OPTION_ERRORS, PREFIX, destroy, ended, event, options, petsc, reason

PART = "component_"  # options with our prefix and this one are those of these blocks
OPTIONS = PREFIX + PART
LONG = 10  # entries of a row or column, in square roots of the rows, from which on an ordering must expect it
QAMD = 6  # approximate minimum degree with quasi-dense rows, in MUMPS' numbers
REFINEMENTS = 4  # of a solution, at most
ENOUGH = 1e-15  # residual, relative to |A| |x| + |b| in the maximum norm, at which nothing is to be gained
ACCEPTED = 1e-11  # ... that a solution may have
FILL = 100.0  # entries of the factors for one of the matrix, from which on an iteration is tried first
SYMMETRIC = 0.9  # share of entries with mirror images from which on a pattern counts as symmetric
SINGULAR_MUMPS = -10  # its INFOG(1) of a matrix that it finds singular
RTOL, MOST = 1e-12, 1000  # of an iteration, where options ask for one
RIGHT = ("gmres", "fgmres", "lgmres", "bcgs")  # can be preconditioned from the right


class SpanningBlock:
    """The matrix A, (N, N) over `comm`, of which this rank has the rows `indptr`, `columns` (numbers among all ranks'
    rows, rank after rank).  Everything is collective.

    where: the user's line, for errors.  given: options, the same on all ranks, of which those that begin with
    `component_` are meant.  `refresh` brings values, and has to come first.
    """

    def __init__(self, comm: MPI.Comm, indptr: np.ndarray, columns: np.ndarray, where: str,
                 given: Mapping[str, Any] | None = None) -> None:
        PETSc = petsc()
        self.comm, self._where = comm, where
        self._given = {key: value for key, value in (given or {}).items()
                       if str(key).lstrip("-").removeprefix(PREFIX).startswith(PART)}
        n = self.n_local = len(indptr) - 1
        counts = comm.allgather(n)
        starts = np.concatenate([[0], np.cumsum(counts)])
        self.n_rows, first = int(starts[-1]), int(starts[comm.rank])
        self._first = first
        indptr, columns, self._given_places = _with_diagonal(indptr, columns, first)
        self._indptr, self._columns = indptr.astype(PETSc.IntType), columns.astype(PETSc.IntType)
        self._rows = np.repeat(np.arange(n), np.diff(indptr))
        distinct, self._column = np.unique(columns, return_inverse=True)  # of every entry, among those that come up
        self._by_column = np.argsort(self._column, kind="stable")
        self._column_ends = np.concatenate([[0], np.cumsum(np.bincount(self._column, minlength=len(distinct)))])
        self._here = (distinct >= first) & (distinct < first + n)
        self._place = distinct[self._here] - first
        away = distinct[~self._here]
        owner = np.searchsorted(starts, away, side="right") - 1
        self._owned = np.stack([owner, away - starts[owner]], axis=1).astype(PETSc.IntType)  # columns of others: where
        longest = np.array([np.diff(indptr).max(initial=0), np.bincount(self._column).max(initial=0)])
        self._long = comm.allreduce(int(longest.max()), op=MPI.MAX) > LONG * self.n_rows**0.5
        widest = comm.allreduce(len(away), op=MPI.MAX) / (1 if comm.size == 2 else 2)  # of separators between ranks
        entries = comm.allreduce(len(columns))
        fill = (8 * self.n_rows * np.log2(max(self.n_rows, 2)) + 8 * widest**2) / max(entries, 1)
        self._iterates = fill > FILL
        self.reason = f"factors of about {fill:.3g} times the entries expected"
        self._mat: Any = None
        self._ksps: dict[bool, Any] = {}
        self._flipped: Any = None  # the transpose, where a solver can't do without,
        self._apart: Any = None  # ... its communicator, and
        self._behind = True  # whether it lacks these values
        self._b, self._x, self._r = (PETSc.Vec().createMPI((n, self.n_rows), comm=comm) for _ in range(3))
        self._row_scale, self._column_scale = np.ones((2, n))
        self._norm = 0.0
        self._estimated = False
        self.info: dict[str, Any] = {}

    def refresh(self, data: np.ndarray) -> None:
        """Factorize these values.  Raises `SingularError` on every rank where the matrix has no inverse."""
        with event("factorize"):
            stored = np.zeros(len(self._columns))
            stored[self._given_places] = data
            scaled = self._equilibrated(stored)
            condition = np.inf
            if scaled is not None:
                self._assemble(scaled)
                self._behind = True
                sums = np.bincount(self._rows, np.abs(scaled), minlength=self.n_local)
                self._norm = self.comm.allreduce(float(sums.max(initial=0.0)), op=MPI.MAX)
                if self._set_up(False):
                    condition = 1.0
                    self._estimated = self._iterates
        if not condition < SINGULAR:
            raise undetermined(self._where, f"{self._size}, on {self.comm.size} ranks", condition)

    def require_regular(self) -> None:
        """Estimate the condition number of these values, once; raises `SingularError` as `refresh` does.

        For derivatives: it takes some ten solves, which steps towards a solution can do without.
        """
        if not self._estimated:
            condition = self._norm * self._inverse()
            if not condition < SINGULAR:
                raise undetermined(self._where, f"{self._size}, on {self.comm.size} ranks", condition)
            self._estimated = True

    def solve(self, b: np.ndarray, transposed: bool, refined: bool = True) -> np.ndarray:
        """A^-1 b, or A^-T b, for b (n_local,) or (n_local, m).

        Not `refined` unless the residual asks for it: a step towards a solution, which the next one corrects.
        """
        if b.ndim == 2:
            columns = [self.solve(np.ascontiguousarray(column), transposed, refined) for column in b.T]
            return np.stack(columns, axis=1) if columns else np.zeros(b.shape)
        try:
            return self._refined(b, transposed, int(refined))
        except ConvergenceError:
            if not self._iterates:
                raise
        self._iterates = False  # factors then, whatever they take
        self._drop()
        if not self._set_up(False):
            raise undetermined(self._where, f"{self._size}, on {self.comm.size} ranks", np.inf)
        return self._refined(b, transposed, int(refined))

    def _refined(self, b: np.ndarray, transposed: bool, least: int) -> np.ndarray:
        into, out = (self._column_scale, self._row_scale) if transposed else (self._row_scale, self._column_scale)
        b = into * b
        product = self._mat.multTranspose if transposed else self._mat.mult
        x, left, error = np.zeros(len(b)), b, np.inf
        for step in range(1 + REFINEMENTS):
            x = x + self._once(left, transposed)
            self._x.setArray(x)
            product(self._x, self._r)
            left = b - self._r.getArray()
            largest = self._largest(left, x, b)
            before, error = error, float(largest[0] / (self._norm * largest[1] + largest[2] + np.finfo(float).tiny))
            if not np.isfinite(largest).all() or (step >= least and error <= ENOUGH) or (
                    step and error > before / 4):
                break
        if not error <= ACCEPTED:
            ksp = self._ksps[transposed and True in self._ksps]
            raise ConvergenceError(
                f"{ksp.getType()} with preconditioner {ksp.getPC().getType()} left a residual of {error:.3g} > "
                f"{ACCEPTED:g} in dR/dy ({self._size}, on {self.comm.size} ranks) of the equation solved at "
                f"{self._where}; choose another solver with options -{OPTIONS}ksp_type and -{OPTIONS}pc_type, or none "
                "of them for a factorization")
        self.info["residual"] = error
        return out * x

    @property
    def _size(self) -> str:
        return f"{self.n_rows} x {self.n_rows}"

    # -- scaling

    def _equilibrated(self, data: np.ndarray) -> np.ndarray | None:
        """The values with rows and columns scaled to a largest entry between 1/2 and 1; None where that can't be."""
        size = np.abs(data)
        rows = _largest_in(size, self._indptr)
        if not self._all(np.isfinite(data).all() and (rows > 0.0).all()):
            return None
        self._row_scale = _power(rows)
        size = size * self._row_scale[self._rows]
        distinct = _largest_in(size[self._by_column], self._column_ends)
        columns = np.zeros(self.n_local)
        columns[self._place] = distinct[self._here]
        away = np.ascontiguousarray(distinct[~self._here])
        exchange = petsc().SF().create(comm=self.comm)
        exchange.setGraph(self.n_local, None, self._owned)
        exchange.reduceBegin(MPI.DOUBLE, away, columns, MPI.MAX)
        exchange.reduceEnd(MPI.DOUBLE, away, columns, MPI.MAX)
        self._column_scale = _power(np.maximum(columns, np.finfo(float).tiny))
        exchange.bcastBegin(MPI.DOUBLE, self._column_scale, away, MPI.REPLACE)
        exchange.bcastEnd(MPI.DOUBLE, self._column_scale, away, MPI.REPLACE)
        exchange.destroy()
        if not self._all((columns > 0.0).all()):
            return None
        distinct[self._here], distinct[~self._here] = self._column_scale[self._place], away
        return np.asarray(data * self._row_scale[self._rows] * distinct[self._column])

    def _all(self, mine: Any) -> bool:
        return bool(self.comm.allreduce(bool(mine), op=MPI.LAND))

    def _largest(self, *vectors: np.ndarray) -> np.ndarray:
        """The largest magnitude of each, over all ranks; infinity where one is not finite."""
        found = np.array([np.abs(v).max(initial=0.0) for v in vectors])
        found[~np.isfinite(found)] = np.inf
        self.comm.Allreduce(MPI.IN_PLACE, found, op=MPI.MAX)
        return found

    # -- PETSc

    def _assemble(self, data: np.ndarray) -> None:
        PETSc = petsc()
        if self._mat is None:
            n = (self.n_local, self.n_rows)
            self._mat = PETSc.Mat().createAIJ((n, n), csr=(self._indptr, self._columns, data), comm=self.comm)
        else:
            self._mat.zeroEntries()
            self._mat.setValuesCSR(self._indptr, self._columns, data)
        self._mat.assemble()

    def _set_up(self, flipped: bool) -> bool:
        """Bring the solver, or the one of the explicit transpose, to these values; whether that worked."""
        mat = self._mat
        if flipped:
            mat = self._transpose()
        if flipped not in self._ksps:
            with options(self.comm, self._given, "equations on several ranks", PART):
                ksp = self._ksps[flipped] = self._configured(mat)
                return self._ready(ksp)
        self._ksps[flipped].setOperators(mat)
        return self._ready(self._ksps[flipped])

    def _transpose(self) -> Any:
        """A^T as a matrix, on a communicator of its own: see `solvers.ksp.Ksp` on SuperLU_DIST."""
        PETSc = petsc()
        if self._apart is None:
            self._apart = self.comm.Dup()
        if self._flipped is not None:
            destroy(self._flipped)
        n = (self.n_local, self.n_rows)
        transposed = self._mat.transpose(PETSc.Mat())
        self._flipped = PETSc.Mat().createAIJ((n, n), csr=transposed.getValuesCSR(), comm=self._apart)
        self._flipped.assemble()
        destroy(transposed)
        return self._flipped

    def _ready(self, ksp: Any) -> bool:
        PETSc = petsc()
        try:
            ksp.setUp()
            if ksp.getPC().getType() != PETSc.PC.Type.LU or ksp.getConvergedReason() >= 0:
                return True
        except PETSc.Error as error:
            if error.ierr in OPTION_ERRORS:
                raise
            raise ConvergenceError(
                f"{ksp.getPC().getType()} could not be set up for dR/dy ({self._size}) of the equation solved at "
                f"{self._where} (PETSc error {error.ierr}: {reason(error)}); choose another with -{OPTIONS}pc_type"
            ) from error
        package = ksp.getPC().getFactorSolverType()
        code = ksp.getPC().getFactorMatrix().getMumpsInfog(1) if package == "mumps" else SINGULAR_MUMPS
        self._drop()  # a package that failed can't go on
        if code not in (0, SINGULAR_MUMPS):
            raise ConvergenceError(
                f"{package} failed (INFOG(1) = {code}) on dR/dy ({self._size}, on {self.comm.size} ranks) of the "
                f"equation solved at {self._where}; -{OPTIONS}mat_mumps_icntl_14 raises its workspace, "
                f"-{OPTIONS}pc_factor_mat_solver_type or -{OPTIONS}pc_type choose another")
        return False

    def _configured(self, mat: Any) -> Any:
        """A solver as options say; MUMPS or SuperLU_DIST where they don't, or what every PETSc has."""
        PETSc = petsc()
        ksp = PETSc.KSP().create(comm=mat.getComm())
        ksp.setOptionsPrefix(OPTIONS)
        ksp.setOperators(mat)
        ksp.setTolerances(rtol=RTOL, atol=1e-300, divtol=1e300, max_it=MOST)
        pc, given = ksp.getPC(), PETSc.Options(OPTIONS)
        package = next((name for name in ("mumps", "superlu_dist") if PETSc.Sys.hasExternalPackage(name)), None)
        own_choice = given.hasName("pc_type") or given.hasName("ksp_type")
        self._iterates = self._iterates and not own_choice
        if self._iterates and PETSc.Sys.hasExternalPackage("hypre") and self._symmetric():
            ksp.setType(PETSc.KSP.Type.GMRES)
            ksp.setPCSide(PETSc.PC.Side.RIGHT)
            pc.setType(PETSc.PC.Type.HYPRE)
        elif package is not None and not self._iterates and given.getString("pc_type", "lu") == "lu":
            ksp.setType(PETSc.KSP.Type.PREONLY)
            pc.setType(PETSc.PC.Type.LU)
            pc.setFactorSolverType(package)
        else:
            ksp.setType(PETSc.KSP.Type.GMRES)
            if given.getString("ksp_type", "gmres") in RIGHT:
                ksp.setPCSide(PETSc.PC.Side.RIGHT)  # so that its residual is the true one
            pc.setType(PETSc.PC.Type.ASM)
        ksp.setFromOptions()
        if self._long and pc.getType() == PETSc.PC.Type.LU and pc.getFactorSolverType() == "mumps":
            pc.setFactorSetUpSolverType()
            if not given.hasName("mat_mumps_icntl_7"):
                pc.getFactorMatrix().setMumpsIcntl(7, QAMD)
        self.info |= {"type": ksp.getType(), "preconditioner": pc.getType()}
        if pc.getType() == PETSc.PC.Type.LU:
            self.info["preconditioner"] += f" of {pc.getFactorSolverType()}"
        return ksp

    def _once(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        PETSc = petsc()
        one = self._ksps[False]
        exact = one.getPC().getType() == PETSc.PC.Type.LU and one.getPC().getFactorSolverType() in ("mumps", "petsc")
        flipped = transposed and not exact
        if flipped and self._behind:
            if not self._set_up(True):
                raise undetermined(self._where, f"{self._size}, on {self.comm.size} ranks", np.inf)
            self._behind = False
        ksp = self._ksps[flipped]
        self._b.setArray(b)
        try:
            (ksp.solveTranspose if transposed and not flipped else ksp.solve)(self._b, self._x)
        except PETSc.Error as error:
            raise ConvergenceError(
                f"{ksp.getType()} with preconditioner {ksp.getPC().getType()} failed on dR/dy of the equation solved "
                f"at {self._where} (PETSc error {error.ierr}: {reason(error)})") from error
        return np.array(self._x.getArray())

    def _symmetric(self) -> bool:
        """Whether the pattern is its own mirror image, or nearly: that of this rank's own square."""
        first, n = self._first, self.n_local
        inside = (self._columns >= first) & (self._columns < first + n)
        row, column = self._rows[inside], self._columns[inside] - first
        mirrored = np.isin(row * n + column, column.astype(np.int64) * n + row).sum()
        counts = self.comm.allreduce(np.array([mirrored, len(row)]))
        return bool(counts[0] > SYMMETRIC * counts[1])

    def _inverse(self) -> float:
        """An estimate of the maximum norm of the inverse: `blocks.largest_row_sum_of_inverse` over ranks."""
        comm, n, estimate = self.comm, self.n_rows, 0.0
        x = np.full(self.n_local, 1.0 / n)
        for _ in range(5):
            y = self._once(x, True)  # the 1-norm of A^-T
            norm = comm.allreduce(float(np.abs(y).sum()))
            if not np.isfinite(norm):
                return np.inf
            if norm <= estimate:
                break
            estimate = norm
            z = self._once(np.where(y >= 0.0, 1.0, -1.0), False)
            largest, rank = comm.allreduce((float(np.abs(z).max(initial=0.0)), comm.rank), op=MPI.MAXLOC)
            if not largest > comm.allreduce(float(z @ x)):
                break
            x = np.zeros(self.n_local)
            if rank == comm.rank:
                x[int(np.argmax(np.abs(z)))] = 1.0
        place = self._first + np.arange(self.n_local)
        alternating = np.where(place % 2, -1.0, 1.0) * (1.0 + place / max(n - 1, 1))
        total = comm.allreduce(float(np.abs(self._once(alternating, True)).sum()))
        return max(estimate, 2.0 * total / (3 * n)) if np.isfinite(total) else np.inf

    @property
    def nbytes(self) -> int:
        """Bytes on this rank; what the package itself holds is not among them."""
        return self._indptr.nbytes + 12 * len(self._columns) + 8 * len(self._column)

    def close(self) -> None:
        """Free PETSc's objects."""
        self._drop()
        destroy(*(mat for mat in (self._mat, self._flipped) if mat is not None), self._b, self._x, self._r)
        if self._apart is not None and not ended():
            self._apart.Free()

    def _drop(self) -> None:
        destroy(*self._ksps.values())
        self._ksps = {}


def _largest_in(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The largest of values[ends[i]:ends[i + 1]] for every i; 0 of none."""
    found = np.zeros(len(ends) - 1)
    some = np.diff(ends) > 0
    if some.any():
        found[some] = np.maximum.reduceat(values, ends[:-1][some])
    return found


def _with_diagonal(indptr: np.ndarray, columns: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same rows with an entry on the diagonal, which PETSc's incomplete factors want, and the places of the given
    entries among these."""
    n = len(indptr) - 1
    rows = np.repeat(np.arange(n), np.diff(indptr))
    missing = np.setdiff1d(np.arange(n), rows[columns == rows + first])
    order = np.lexsort((np.concatenate([columns, missing + first]), np.concatenate([rows, missing])))
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    counts = np.diff(indptr)
    counts[missing] += 1
    full = np.concatenate([columns, missing + first])[order]
    return np.concatenate([[0], np.cumsum(counts)]), full, places[:len(columns)]


def _power(largest: np.ndarray) -> np.ndarray:
    """Powers of two that bring positive numbers between 1/2 and 1."""
    return np.ldexp(1.0, np.minimum(-np.frexp(largest)[1], 1000))


__all__ = ["SpanningBlock"]
