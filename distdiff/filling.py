"""Factors of a component that fills in, as cubes of unknowns and scattered couplings do: MUMPS', on this process alone.

Its dense fronts take a fifth to a tenth of SuperLU's time there, and a further point's values keep the ordering; where
little fills in, as in the plane or along a line, SuperLU is sooner done and solves several times as fast
(`scripts/bench costs`).  What is to be expected is told by the front of an elimination in the order of Cuthill and
McKee (Reducing the bandwidth of sparse symmetric matrices, 1969): half its mean square, as the triangle of a separator
that wide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from .errors import MissingPackageError
from .petsc import petsc

LEAST = 2000  # rows from which on it is looked at
FILLED = 0.25  # entries of that triangle for one of the matrix, from which on a matrix fills in
SINGULAR = -10  # MUMPS' INFOG(1) of a matrix that it finds singular


def fills(matrix: Any) -> bool:
    """Whether a SciPy CSR matrix is expected to fill in."""
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    n = matrix.shape[0]
    if n < LEAST:
        return False
    place = np.empty(n, dtype=np.int64)
    place[reverse_cuthill_mckee(matrix, symmetric_mode=False)] = np.arange(n)
    rows = np.repeat(place, np.diff(matrix.indptr))
    front = np.zeros(n, dtype=np.int64)
    np.maximum.at(front, rows, rows - place[matrix.indices])
    return bool(0.5 * float(front.mean()) ** 2 > FILLED * matrix.nnz)


def available() -> bool:
    """Whether there is a PETSc with MUMPS."""
    try:
        return bool(petsc().Sys.hasExternalPackage("mumps"))
    except MissingPackageError:
        return False


class MumpsFactors:
    """Factors of a matrix whose values may change and whose pattern does not."""

    def __init__(self, matrix: Any) -> None:
        PETSc = petsc()
        index, n = PETSc.IntType, matrix.shape[0]
        self._csr = matrix.indptr.astype(index), matrix.indices.astype(index), np.array(matrix.data)
        self._mat = PETSc.Mat().createAIJWithArrays((n, n), self._csr, comm=MPI.COMM_SELF)
        self._mat.assemble()
        self._b, self._x = (PETSc.Vec().createSeq(n, comm=MPI.COMM_SELF) for _ in range(2))
        self._pc = PETSc.PC().create(MPI.COMM_SELF)
        self._pc.setType(PETSc.PC.Type.LU)
        self._pc.setFactorSolverType("mumps")
        self._pc.setOperators(self._mat)

    def refresh(self, matrix: Any) -> int:
        """Factorize these values; returns MUMPS' INFOG(1): 0, or what failed."""
        self._csr[2][:] = matrix.data
        self._mat.stateIncrease()
        self._pc.setOperators(self._mat)
        self._pc.setUp()
        return int(self._pc.getFactorMatrix().getMumpsInfog(1))

    @property
    def nnz(self) -> int:
        return int(self._pc.getFactorMatrix().getMumpsInfog(29) or 2 * len(self._csr[2]))

    def solve(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        """The solution for b, (n,) or (n, m), as a new array."""
        if b.ndim == 2:
            columns = [self.solve(column, transposed) for column in b.T]
            return np.stack(columns, axis=1) if columns else np.zeros(b.shape)
        factors = self._pc.getFactorMatrix()
        self._b.setArray(b)
        (factors.solveTranspose if transposed else factors.solve)(self._b, self._x)
        return np.array(self._x.getArray())


__all__ = ["MumpsFactors", "SINGULAR", "available", "fills"]
