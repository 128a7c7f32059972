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
from ..tape import ScalarRun
from .chains import Links
from .plan import Plan, binary
from .streaming import Streaming

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


class Scotch(Streaming):
    """The partitioner; `place` places one scalar run."""

    def __init__(self, plan: Plan, active: int | None = None) -> None:
        super().__init__(plan, active)
        starts, total, runs = {}, 0, [item for item in plan.tape.items if isinstance(item, ScalarRun)]
        for run in runs:
            starts[run.block] = total
            total += len(run.op)
        base = np.full(len(plan.blocks), -1)
        base[list(starts)] = list(starts.values())
        x, y = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
        for run in runs:
            for ref, used in ((run.a, True), (run.b, binary(run.op))):
                lines = np.flatnonzero((ref >= 0) & used)
                ids = ref[lines].astype(np.int64)
                block = plan.where.block_of(ids)
                inside = base[block] >= 0  # other nodes lie in arrays, which are placed already
                x.append(starts[run.block] + lines[inside])
                y.append((base[block] + ids - plan.where.first[block])[inside])
        self.starts = starts
        self.parts = parts(total, np.concatenate(x), np.concatenate(y), self.active)

    def _owners(self, block: int, run: ScalarRun, inner: tuple[np.ndarray, np.ndarray], near: list[np.ndarray],
                links: Links | None) -> np.ndarray:
        owner = self.parts[self.starts[block]:self.starts[block] + len(run.op)].copy()
        if links is not None:  # a link goes with its term, as in the stream: partial sums then need no messages
            for second, (inside, outside) in enumerate(zip(inner, near)):
                link = np.flatnonzero(links.term == second)
                owner[link] = np.where(inside[link] >= 0, owner[inside[link]],
                                       np.where(outside[link] >= 0, outside[link], owner[link]))
        return owner


__all__ = ["MOST_LINES", "Scotch", "available", "parts"]
