"""Random DAGs spread over ranks, as LocalTape and rows of L: what partition and expansion would hand on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
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
    residuals: np.ndarray = np.empty(0, dtype=np.int64)


@dataclass(eq=False)
class Problem:
    """The whole matrix L (dense), inputs and outputs, and this rank's part.  Nothing of it changes: what the inverse
    gives is computed once."""

    L: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    local: LocalTape
    rows: Rows
    own: np.ndarray  # global nodes of the rank's local ids, ghosts included
    residuals: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))  # of equations

    @property
    def matrix(self) -> np.ndarray:
        """I - L, short of a 1 on the diagonal of residual rows."""
        identity = np.eye(len(self.L))
        identity[self.residuals, self.residuals] = 0.0
        return identity - self.L

    def jacobian(self) -> np.ndarray:
        return self.inverse[np.ix_(self.outputs, self.inputs)]

    @cached_property
    def inverse(self) -> np.ndarray:
        """(I - L)^-1.  (A general solver would pivot, and lose everything where L's entries are large.)"""
        if len(self.L) == 0:
            return self.L
        if len(self.residuals):
            rows = 1.0 / np.abs(self.matrix).max(axis=1)  # a general solver wants rows and columns of one size
            columns = 1.0 / (rows[:, None] * np.abs(self.matrix)).max(axis=0)
            return columns[:, None] * np.linalg.inv(rows[:, None] * self.matrix * columns) * rows
        return solve_triangular(self.matrix, np.eye(len(self.L)), lower=True, unit_diagonal=True)

    def bound(self, factor: float = 200.0) -> np.ndarray:
        """What rounding may do to each entry of the Jacobian: factor eps |(I - L)^-1| |I - L| |(I - L)^-1|."""
        return factor * np.finfo(float).eps * self._grown[np.ix_(self.outputs, self.inputs)]

    @cached_property
    def _grown(self) -> np.ndarray:
        """|(I - L)^-1| |I - L| |(I - L)^-1|."""
        inverse = np.abs(self.inverse)
        return inverse @ (sp.csr_matrix(np.abs(self.matrix)) @ inverse)

    def tolerance(self) -> float:
        """The largest entry of `bound` that any entry of (I - L)^-1 could have, for methods that mix rows."""
        return max(200.0 * np.finfo(float).eps * float(self._grown.max(initial=0.0)), 1e-13)


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
           residuals: np.ndarray | None = None, together: np.ndarray | None = None) -> Problem:
    """The share of `rank` when node i belongs to owner[i]; supersteps as soon as possible.

    Nodes of the same number in `together` (consecutive, of one owner) are of the same superstep.
    """
    n = L.shape[0]
    step = np.zeros(n, dtype=int)
    group = np.arange(n) if together is None else together
    first = 0
    while first < n:
        stop = first + 1
        while stop < n and group[stop] == group[first]:
            stop += 1
        read = L.indices[L.indptr[first]:L.indptr[stop]]
        read = read[group[read] != group[first]]
        step[first:stop] = (step[read] + (owner[read] != owner[first])).max(initial=0)
        first = stop
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
    local = LocalTape(blocks, items, steps, *portions, own_bits=np.packbits(own), own_count=int(own.sum()))
    residuals = np.empty(0, np.int64) if residuals is None else residuals
    mine = np.array(sorted(place[j] for j in residuals if owner[j] == rank), np.int64)
    rows = Rows(np.array(indptr, np.int64), np.array(indices, np.int64), np.array(data, float), mine)
    dense = np.zeros((n, n))
    np.add.at(dense, (np.repeat(np.arange(n), np.diff(L.indptr)), L.indices), L.data)
    return Problem(dense, inputs, outputs, local, rows, np.array(order, dtype=np.int64), residuals)


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


KINDS = ("diagonal", "upper", "sparse", "zero diagonal", "dense", "through others")


def implicit_problem(comm: MPI.Comm, seed: int, kinds: tuple[str, ...] = KINDS, size: int = 5, n_in: int = 4,
                     n_out: int = 4, scale: float = 0.0) -> Problem:
    """A random program with an implicit statement of every kind among its lines, each whole on a random rank.

    kinds: how dR/dy of a statement looks; "through others": half of its nodes are explicit, read the others, and are
    read by the residuals.  scale: orders of magnitude by which residuals and unknowns differ.
    """
    rng = np.random.default_rng(seed)
    n = n_in
    spans = []
    for _ in kinds:
        n += int(rng.integers(0, 6))
        spans.append((n, n + size))
        n += size
    n += 6
    L = random_matrix(rng, n, n_in).toarray()
    together, residuals = np.arange(n), []
    for kind, (a, b) in zip(kinds, spans):
        together[a:b] = a
        y = np.arange(a, (a + b + 1) // 2 if kind == "through others" else b)
        residuals.append(y)
        k = len(y)
        inner = np.arange(a, b) if kind == "through others" else y
        B = rng.uniform(-1.0, 1.0, (k, len(inner))) * (rng.random((k, len(inner))) < 0.4)
        order = np.roll(np.arange(k), 1) if kind == "zero diagonal" else np.arange(k)
        if kind == "dense":
            B = rng.uniform(-1.0, 1.0, (k, k))
        if kind == "diagonal":
            B[:] = 0.0
        B[:, :k][np.arange(k), order] += 2.0 + rng.random(k)
        if kind == "upper":
            B = np.triu(B)
        if kind == "zero diagonal" and k > 1:
            np.fill_diagonal(B, 0.0)
        L[y[:, None], inner] = -B
        L[inner[k:], y[:len(inner) - k]] = 0.3
        row, column = 10.0 ** rng.uniform(-scale, scale, (2, k))
        L[y] *= row[:, None]
        L[:, y] *= column
    nodes = np.concatenate(residuals) if residuals else np.empty(0, np.int64)
    owner = rng.integers(0, comm.size, n)[together]
    outputs = np.concatenate([rng.integers(n_in, n, n_out), [n - 1]])
    return spread(sp.csr_matrix(L), owner, np.arange(n_in), outputs, comm.rank, nodes, together)


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
