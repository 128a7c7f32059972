"""Random DAGs spread over ranks, as LocalTape and rows of L: what partition and expansion would hand on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from mpi4py import MPI
from scipy.linalg import solve_triangular

from distdiff.partition.local import Exchange, LocalTape, Portion, Step
from distdiff.tape import Block, ScalarRun


class Rows(NamedTuple):
    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray


class Problem(NamedTuple):
    """The whole matrix L (dense), inputs and outputs, and this rank's part."""

    L: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    local: LocalTape
    rows: Rows
    own: np.ndarray  # global nodes of the rank's local ids, ghosts included

    def jacobian(self) -> np.ndarray:
        return self.inverse()[np.ix_(self.outputs, self.inputs)]

    def inverse(self) -> np.ndarray:
        """(I - L)^-1.  (A general solver would pivot, and lose everything where L's entries are large.)"""
        if len(self.L) == 0:
            return self.L
        identity = np.eye(len(self.L))
        return solve_triangular(identity - self.L, identity, lower=True, unit_diagonal=True)

    def bound(self, factor: float = 200.0) -> np.ndarray:
        """What rounding may do to each entry of the Jacobian: factor eps |(I - L)^-1| |I - L| |(I - L)^-1|."""
        inverse = np.abs(self.inverse())
        grown = inverse @ np.abs(np.eye(len(self.L)) - self.L) @ inverse
        return factor * np.finfo(float).eps * grown[np.ix_(self.outputs, self.inputs)]

    def tolerance(self) -> float:
        """The largest entry of `bound` that any entry of (I - L)^-1 could have, for methods that mix rows."""
        every = self._replace(inputs=np.arange(len(self.L)), outputs=np.arange(len(self.L)))
        return float(every.bound().max(initial=1e-13))


def random_matrix(rng: np.random.Generator, n: int, n_in: int, degree: float = 2.0, window: int | None = None,
                  size: float = 1.0) -> sp.csr_matrix:
    """Strictly lower triangular with empty input rows; some rows empty (constants), duplicates left in."""
    rows, columns = [], []
    for i in range(n_in, n):
        k = min(int(rng.poisson(degree)), i)
        low = 0 if window is None else max(0, i - window)
        rows += [i] * k
        columns += list(rng.integers(low, i, k))
    values = rng.uniform(-size, size, len(rows))
    return _raw_csr(np.array(rows, int), np.array(columns, int), values, n)


def _raw_csr(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, n: int) -> sp.csr_matrix:
    """CSR without adding up duplicates (scipy's conversion would)."""
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    return sp.csr_matrix((values, columns, indptr), shape=(n, n))


def spread(L: sp.csr_matrix, owner: np.ndarray, inputs: np.ndarray, outputs: np.ndarray, rank: int,
           rng: np.random.Generator | None = None) -> Problem:
    """The share of `rank` when node i belongs to owner[i]; supersteps as soon as possible."""
    n = L.shape[0]
    step = np.zeros(n, dtype=int)
    for i in range(n):
        for j in L.indices[L.indptr[i]:L.indptr[i + 1]]:
            step[i] = max(step[i], step[j] + (owner[j] != owner[i]))
    steps = int(step.max(initial=0)) + 1
    size = int(owner.max(initial=0)) + 1
    # Who reads what from whom: the same list on every rank.
    edges = ((i, j) for i in range(n) for j in L.indices[L.indptr[i]:L.indptr[i + 1]])
    wanted = {(owner[i], owner[j], j) for i, j in edges if owner[i] != owner[j]}
    mine = np.flatnonzero(owner == rank)
    is_input = np.isin(mine, inputs)
    blocks: list[Block] = []
    items: list[ScalarRun] = []
    order: list[int] = []
    bounds: list[tuple[int, int]] = []

    def add(nodes: list[int]) -> int:
        blocks.append(Block(len(order), (len(nodes),)))
        order.extend(nodes)
        return len(blocks) - 1

    add(list(mine[is_input]))
    ghosts = sorted({j for reader, _, j in wanted if reader == rank}, key=lambda j: (step[j], j))
    for s in range(steps):
        start = len(items)
        nodes = [int(i) for i in mine[~is_input] if step[i] == s]
        block = add(nodes)
        codes = np.zeros(len(nodes))
        ids = codes.astype(np.int64)
        items.append(ScalarRun(block, codes.astype(np.uint8), ids, ids, np.empty(0)))
        bounds.append((start, len(items)))
        add([j for j in ghosts if step[j] == s])  # ghosts between own blocks, as halos are
    place = {node: k for k, node in enumerate(order)}
    exchanges = []
    for s in range(steps):
        sends, recvs = [], []
        for other in range(size):
            out = sorted(j for reader, holder, j in wanted if holder == rank and reader == other and step[j] == s)
            back = sorted(j for reader, holder, j in wanted if holder == other and reader == rank and step[j] == s)
            if out:
                sends.append((other, np.array([place[j] for j in out], dtype=np.int64)))
            if back:
                recvs.append((other, np.array([place[j] for j in back], dtype=np.int64)))
        exchanges.append(Exchange(sends, recvs))
    own = np.array([owner[j] == rank for j in order], dtype=bool)
    indptr, indices, data = [0], [], []
    for j in order:
        if owner[j] == rank:
            span = slice(L.indptr[j], L.indptr[j + 1])
            indices += [place[k] for k in L.indices[span]]
            data += list(L.data[span])
        indptr.append(len(indices))
    portions = []
    for nodes in (inputs, outputs):
        here = [(place[j], k) for k, j in enumerate(nodes) if owner[j] == rank]
        portions.append(Portion(*(np.array([pair[k] for pair in here], dtype=np.int64) for k in (0, 1))))
    steps = [Step(a, b, b, e) for (a, b), e in zip(bounds, exchanges)]
    local = LocalTape(blocks, items, steps, *portions, own_bits=np.packbits(own))
    rows = Rows(np.array(indptr, np.int64), np.array(indices, np.int64), np.array(data, float))
    dense = np.zeros((n, n))
    np.add.at(dense, (np.repeat(np.arange(n), np.diff(L.indptr)), L.indices), L.data)
    return Problem(dense, inputs, outputs, local, rows, np.array(order, dtype=np.int64))


def random_problem(comm: MPI.Comm, seed: int, n: int = 60, n_in: int = 5, n_out: int = 4, owners: str = "random",
                   **matrix: float) -> Problem:
    """A seeded random problem, the same on every rank, of which each rank holds its share."""
    rng = np.random.default_rng(seed)
    L = random_matrix(rng, n, n_in, **matrix)
    inputs = np.arange(n_in)
    outputs = rng.integers(0 if n_in == 0 else n_in, n, n_out) if n else np.empty(0, int)
    if owners == "random":
        owner = rng.integers(0, comm.size, n)
    elif owners == "slabs":  # few cross edges: k* is small
        owner = np.arange(n) * comm.size // max(n, 1)
    elif owners == "last":  # all on one rank, the others empty
        owner = np.full(n, comm.size - 1)
    else:  # "one": rank 0 has a single node
        owner = np.full(n, comm.size - 1)
        owner[n_in:n_in + 1] = 0
    return spread(L, np.append(owner, comm.size - 1)[:n], inputs, outputs, comm.rank)


def spread_everywhere(n: int, n_ranks: int, seed: int) -> list[Problem]:
    """All ranks' shares of one random problem, without MPI."""
    rng = np.random.default_rng(seed)
    L = random_matrix(rng, n, 4)
    owner = rng.integers(0, n_ranks, n)
    outputs = rng.integers(4, n, 3)
    return [spread(L, owner, np.arange(4), outputs, rank) for rank in range(n_ranks)]


def collect(comm: MPI.Comm, portion: Portion, values: np.ndarray, n: int) -> np.ndarray:
    """A distributed vector (or block of columns) put together on every rank."""
    full = np.zeros((n, *values.shape[1:]))
    for positions, part in comm.allgather((portion.positions, values)):
        full[positions] = part
    return full
