"""LU factors by a package behind PETSc: of a whole system over its ranks, or of one component on this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mpi4py import MPI

from ..blocks import LargeBlock
from ..cancellation import look
from ..channels import Messages
from ..components import Components
from ..errors import ConvergenceError, InputError
from ..flags import ignored
from ..petsc import PREFIX, destroy, petsc
from ..preaccumulate import CSR
from ..spanning import LONG, QAMD
from .ksp import Ksp, Square, reason_name


class Factor(Ksp):
    """A KSP preonly with an LU preconditioner, on a matrix or on its explicit transpose.  in_order: its rows are nearly
    in the order in which they read each other, so PETSc's own LU keeps it."""

    def __init__(self, system: Square, package: str, transposed: bool, in_order: bool = True) -> None:
        self.system, self.package, self._in_order = system, package, in_order
        remedy = "method='substitution' needs no factorization"
        if package == "mumps":
            remedy = f"mat_mumps_icntl_14 raises MUMPS' workspace, and {remedy}"
        with _defaults(package, system):
            super().__init__(system, package, self._configure, transposed, package == "superlu_dist", remedy)

    def _configure(self, ksp: Any) -> None:
        PETSc = petsc()
        ksp.setType(PETSc.KSP.Type.PREONLY)
        pc = ksp.getPC()
        pc.setType(PETSc.PC.Type.LU)
        pc.setFactorSolverType(self.package)
        if self.package == "petsc" and self._in_order:
            pc.setFactorOrdering(PETSc.Mat.OrderingType.NATURAL)

    def _read_options(self) -> None:
        pc = self.ksp.getPC()
        pc.setFromOptions()  # of the factorization alone: nothing else iterates here
        if pc.getType() != petsc().PC.Type.LU:
            raise InputError(f"pc_type={pc.getType()!r} is no factorization of I - L, which is not symmetric, and "
                             "method='direct' solves with nothing but LU; leave pc_type out, or use method='krylov' or "
                             "'petsc' for preconditioners")

    def solve_in_place(self, y: np.ndarray, transposed: bool) -> None:
        """y <- the solution for y, (n_local,) or (n_local, m)."""
        if y.ndim == 1:
            self.solve_one(y, transposed)
        elif transposed or self.package == "superlu_dist":
            # PETSc has no binding for a transposed solve of several; with several, SuperLU_DIST 8 behind PETSc 3.18
            # overwrote memory on two ranks.
            self.solve_each(y, transposed)
        else:
            self.solve_all(y)

    def solve_one(self, y: np.ndarray, transposed: bool) -> None:
        """y <- the solution for y, (n_local,)."""
        _, reason = self.solve(y, y, transposed)
        if reason < 0:
            raise ConvergenceError(f"{self.package}: the solve failed ({reason_name(reason)}) on {self.system.n_rows} "
                                   f"rows; {self.remedy}")

    def solve_each(self, y: np.ndarray, transposed: bool) -> None:
        for column in y.T:
            look(self.system.comm)
            self.solve_one(column, transposed)

    def solve_all(self, y: np.ndarray) -> None:
        PETSc, system = petsc(), self.system
        size = ((system.n_local, system.n_rows), (None, y.shape[1]))
        B, X = (PETSc.Mat().createDense(size, comm=self.comm) for _ in range(2))
        try:
            for dense in (B, X):
                dense.setUp()
            B.getDenseArray()[...] = y
            for dense in (B, X):
                dense.assemble()
            with self.reasons("the solve"), ignored():
                Messages.elsewhere(lambda: self.ksp.getPC().getFactorMatrix().matSolve(B, X))
            y[...] = X.getDenseArray()
        finally:
            B.destroy()
            X.destroy()


class PackageBlock(LargeBlock):
    """A component whose factors, where it is sparse, are a package's: on this process alone, ordered once for all
    points."""

    def __init__(self, components: Components, k: int, own: CSR, package: str) -> None:
        super().__init__(components, k, own)
        self._package = package
        self._kept: _Kept | None = None

    @property
    def how(self) -> str:
        return super().how if self.dense else {"mumps": "MUMPS", "superlu_dist": "SuperLU_DIST"}.get(
            self._package, "PETSc's LU")

    def _factorized(self, scaled: Any) -> Any:
        if self.dense:
            return super()._factorized(scaled)
        try:
            if self._kept is None:
                self._kept = _Kept(scaled, self._package)
            else:
                self._kept.refresh(scaled)
            return self._kept
        except ConvergenceError:  # packages don't say of what: a matrix that SuperLU finds singular is
            if super()._factorized(scaled) is None:
                return None
            raise

    @property
    def packaged(self) -> bool:  # type: ignore[override]
        return not self.dense

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self._kept = None


class _Component:
    """A component's matrix as a `Square` on this process."""

    comm: MPI.Comm = MPI.COMM_SELF
    cyclic = True

    def __init__(self, matrix: Any) -> None:
        index = petsc().IntType
        self.n_local = self.n_rows = matrix.shape[0]
        self._csr = matrix.indptr.astype(index), matrix.indices.astype(index), np.array(matrix.data)
        self._longest = int(np.diff(matrix.indptr).max()), int(np.bincount(matrix.indices).max())
        self.mat = self.matrix(self.comm)

    def matrix(self, comm: MPI.Comm) -> Any:
        mat = petsc().Mat().createAIJWithArrays((self.n_rows, self.n_rows), self._csr, comm=comm)
        mat.assemble()
        return mat

    def longest(self, transposed: bool) -> int:
        return self._longest[transposed]

    def refresh(self, matrix: Any) -> None:
        self._csr[2][:] = matrix.data
        self.mat.stateIncrease()


class _Kept:
    """Factors of a component, and those of its transpose for a package that does not solve transposed."""

    def __init__(self, matrix: Any, package: str) -> None:
        self.nnz = 2 * matrix.nnz  # at least: what a package holds it doesn't say
        self._square = _Component(matrix)
        self._factors: list[Factor] = []
        try:
            for transposed in (False, True)[:1 + (package == "superlu_dist")]:
                self._factors.append(Factor(self._square, package, transposed, in_order=False))
        except BaseException:
            self.close()
            raise

    def refresh(self, matrix: Any) -> None:
        self._square.refresh(matrix)
        for factor in self._factors:
            factor.refresh()

    def solve(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        """The solution for b, (n,) or (n, m), as a new array."""
        x, explicit = np.array(b), transposed and len(self._factors) > 1
        self._factors[explicit].solve_in_place(x, transposed and not explicit)
        return x

    def close(self) -> None:
        for factor in self._factors:
            factor.close()
        destroy(self._square.mat)


@contextmanager
def _defaults(package: str, system: Square) -> Iterator[None]:
    """Package options that suit a unit triangular matrix, where the user has set none."""
    chosen: dict[str, str] = {}
    if package == "superlu_dist" and not system.cyclic:
        # No pivot search: the diagonal is 1.  On one rank the numbering is triangular as it is; on several it
        # is a permutation of triangular, which fills in if factored as it stands.
        chosen = {"mat_superlu_dist_rowperm": "NOROWPERM",
                  "mat_superlu_dist_colperm": "NATURAL" if system.comm.size == 1 else "MMD_AT_PLUS_A"}
    if system.cyclic:  # neither pivots as it goes along: refinement makes good for that, or the residual tells
        chosen = {"superlu_dist": {"mat_superlu_dist_replacetinypivot": "true"},
                  "petsc": {"pc_factor_nonzeros_along_diagonal": "1e-10"}}.get(package, {})
    if package == "mumps" and max(map(system.longest, (False, True))) > LONG * system.n_rows**0.5:
        # The ordering that MUMPS chooses by itself (PORD, where it has no METIS) takes time quadratic in the length of
        # a row, which a sum over all unknowns has; this one sets such rows apart.
        chosen = {"mat_mumps_icntl_7": str(QAMD)}
    database = petsc().Options()
    before = database.getAll()
    mine = [name for name in (PREFIX + key for key in chosen) if name not in before]
    for name in mine:
        database.setValue(name, chosen[name.removeprefix(PREFIX)])
    try:
        yield
    finally:
        for name in mine:
            database.delValue(name)


__all__ = ["Factor", "PackageBlock"]
