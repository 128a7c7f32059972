"""Scalar lines placed by a graph partitioner: PT-Scotch through PETSc's MatPartitioning, on rank 0 alone.

It cuts few edges whatever the order of the trace, which pays where scalar code walks over an unstructured mesh.  It
knows nothing of time: its parts depend on one another both ways, so the number of supersteps can grow, and it counts
only by the same measure as every other partition.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from mpi4py import MPI

from ..petsc import petsc, started
from .plan import Plan
from .whole_graph import WholeGraph

MOST_LINES = 30_000  # scalar lines: beyond, partitioning takes longer than many gradients


def available() -> bool:
    """Whether PETSc has PT-Scotch, for rank 0 alone; not where one of several ranks would be the first to start it."""
    return (started() or MPI.COMM_WORLD.size == 1) and _built_in()


@lru_cache(maxsize=1)
def _built_in() -> bool:
    PETSc = petsc()
    partitioning = PETSc.MatPartitioning().create(comm=MPI.COMM_SELF)
    try:
        partitioning.setType(PETSc.MatPartitioning.Type.PARTITIONINGPTSCOTCH)
    except PETSc.Error:
        return False
    finally:
        partitioning.destroy()
    return True


def parts(n: int, x: np.ndarray, y: np.ndarray, n_parts: int) -> np.ndarray:
    """The part, 0 <= part < n_parts, of each of n nodes: about equally many in each, few edges (x, y) between them."""
    if n < n_parts or not len(x):
        return (np.arange(n) * n_parts // max(n, 1)).astype(np.int32)
    PETSc = petsc()
    number = PETSc.IntType
    edges = np.unique(np.concatenate([x * n + y, y * n + x]))
    row, column = edges // n, edges % n
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    matrix = PETSc.Mat().createAIJ((n, n), comm=MPI.COMM_SELF, csr=(
        starts.astype(number), column.astype(number), np.ones(len(column))))
    adjacency = matrix.convert(PETSc.Mat.Type.MPIADJ, PETSc.Mat())
    partitioning, found = PETSc.MatPartitioning().create(comm=MPI.COMM_SELF), PETSc.IS().create(comm=MPI.COMM_SELF)
    partitioning.setAdjacency(adjacency)
    partitioning.setType(PETSc.MatPartitioning.Type.PARTITIONINGPTSCOTCH)
    options, prefix = PETSc.Options(), "distdiff_scotch_"
    name = f"{prefix}mat_partitioning_nparts"  # petsc4py has no other way
    options[name] = n_parts
    try:
        partitioning.setOptionsPrefix(prefix)
        partitioning.setFromOptions()
        partitioning.apply(found)
        return found.getIndices().astype(np.int32)
    finally:
        options.delValue(name)
        for thing in (found, partitioning, adjacency, matrix):
            thing.destroy()


class Scotch(WholeGraph):
    """The partitioner; `place` places one scalar run."""

    def __init__(self, plan: Plan, active: int | None = None) -> None:
        def divide(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, None]:
            x, y = (np.concatenate(pair) for pair in zip(*((np.flatnonzero(j >= 0), j[j >= 0]) for j in (a, b))))
            return parts(len(a), x, y, self.active), None

        super().__init__(plan, active, divide)


__all__ = ["MOST_LINES", "Scotch", "available", "parts"]
