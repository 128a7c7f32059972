"""A family of DAGs, one a shape that programs have: as rows of L spread over ranks, and as a function to trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from mpi4py import MPI
from random_systems import Problem, spread


class Dag(NamedTuple):
    """Strictly lower triangular L (duplicates and explicit zeros as stored), inputs first, and the outputs' nodes."""

    L: sp.csr_matrix
    n_in: int
    outputs: np.ndarray

    def problem(self, comm: MPI.Comm, owners: str = "slabs") -> Problem:
        """This rank's share: `slabs` of trace order, `cyclic` (every edge may cross), `last` (the others empty), or
        `one` (rank 0 has the first node, the last rank all others)."""
        n, size = self.L.shape[0], comm.size
        owner = {"slabs": np.arange(n) * size // max(n, 1), "cyclic": np.arange(n) % size,
                 "last": np.full(n, size - 1), "one": np.where(np.arange(n) == 0, 0, size - 1)}[owners]
        return spread(self.L, owner, np.arange(self.n_in), self.outputs, comm.rank)

    def function(self) -> Callable[[Any], Any]:
        """x -> y at the outputs, line by line in plain Python: this L once products are eliminated."""
        L, n_in, outputs = self.L, self.n_in, self.outputs

        def f(x: Any) -> Any:
            y = [x[k] for k in range(n_in)]
            for i in range(n_in, L.shape[0]):
                entries = range(L.indptr[i], L.indptr[i + 1])
                y.append(sum((float(L.data[e]) * y[L.indices[e]] for e in entries), 0.0))
            return np.array([y[i] for i in outputs])

        return f


def dag(edges: list[tuple[int, int]], n: int, n_in: int, outputs: Any, values: np.ndarray | None = None) -> Dag:
    """From (reader, read) pairs in any order; values default to random ones within [-1, 1]."""
    order = sorted(range(len(edges)), key=lambda e: edges[e])
    if values is None:
        values = np.random.default_rng(n + len(edges)).uniform(-1.0, 1.0, len(edges))
    rows = np.array([edges[e][0] for e in order], int)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    columns = np.array([edges[e][1] for e in order], int)
    return Dag(sp.csr_matrix((values[order], columns, indptr), shape=(n, n)), n_in, np.asarray(outputs))


def _chain() -> Dag:
    return dag([(i, i - 1) for i in range(1, 31)], 31, 1, [30])


def _wide() -> Dag:  # samples, one reduction
    return dag([(8 + i, i) for i in range(8)] + [(16 + i, 8 + i) for i in range(8)] + [(24, 16 + i) for i in range(8)],
               25, 8, [24])


def _layered() -> Dag:
    rng = np.random.default_rng(3)
    return dag([(6 * k + i, 6 * k - 6 + int(j)) for k in range(1, 5) for i in range(6)
                for j in rng.choice(6, 3, replace=False)], 30, 6, range(24, 30))


def _tree() -> Dag:
    edges, level, n = [], list(range(16)), 16
    while len(level) > 1:
        edges += [(n + k // 2, node) for k, node in enumerate(level)]
        level = list(range(n, n + len(level) // 2))
        n += len(level)
    return dag(edges, n, 16, [n - 1])


def _grid() -> Dag:  # a wavefront, 6 x 6
    edges = [(6 * i + j, 6 * a + b) for i in range(1, 6) for j in range(6)
             for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if b >= 0]
    return dag(edges, 36, 6, [33, 35])


def _random() -> Dag:  # with edges that occur twice and rows without any
    rng = np.random.default_rng(11)
    edges = [(i, int(j)) for i in range(4, 36) for j in rng.integers(0, i, rng.poisson(2.0))]
    return dag([*edges, *edges[::5]], 36, 4, [35, 20, 35, 9])


def _bipartite() -> Dag:  # every output reads every input
    return dag([(5 + i, j) for i in range(7) for j in range(5)], 12, 5, range(5, 12))


def _ladder() -> Dag:  # two chains with rungs
    return dag([(2 * i + s, 2 * i - 2 + t) for i in range(1, 15) for s in (0, 1) for t in (0, 1)], 30, 2, [28, 29])


def _hub() -> Dag:  # one node that everything reads, and one that reads everything
    return dag([(3, j) for j in range(3)] + [(i, 3) for i in range(4, 24)] + [(24, i) for i in range(24)], 25, 3,
               [24, 3])


FAMILY: dict[str, Dag] = {
    "chain": _chain(), "wide": _wide(), "layered": _layered(), "tree": _tree(), "grid": _grid(), "random": _random(),
    "bipartite": _bipartite(), "ladder": _ladder(), "hub": _hub()}
