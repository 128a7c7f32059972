"""Local elimination: the rows of I - L that are worth storing.

Given the rows of L over one rank's local nodes, nodes are eliminated whose elimination can never add a
nonzero:

- *zero*: no operand carries a derivative (constants and what is computed from them alone);
- *alias*: the row has one operand after elimination, y_i' = c y_r'.  Every use of i becomes a use of its
  *root* r. In-degree 1: the users' rows keep their length, the alias' own row goes;
- *cone*: all uses of the node end in one kept row, its *head*, directly or through nodes with the same head
  (the fan-out-free cone of the head).  Its out-degree in the reduced system is 1.  A chain s = s + t_k becomes
  one wide row this way, and an intermediate that is used several times within one kept statement vanishes as
  well, which a count of uses would not find;
- *unused*: no kept row depends on it.

Kept whatever their degree: inputs, outputs, and nodes that another rank reads.  With in-degree p and
out-degree q, elimination trades p + q entries and a diagonal for at most p q, so in- or out-degree 1 never
loses (Markowitz' count; Griewank and Walther, Evaluating Derivatives, 2nd ed., section 9.2).  Further nodes
with p q <= p + q would be those with p = q = 2 alone; they need dynamic row lists, and are not eliminated
here.

An implicit statement R(y, x) = 0 is written as residual rows (`RowsOfL.residuals`): they hold -dR/dy and -dR/dx, have
no 1 on the diagonal and may read nodes after their own.  Their results are kept; what only they use is eliminated into
them like into any kept row.  Kept rows are numbered so that I - L is block lower triangular (`components`).

The structure is found in four passes over L, each linear.  The values of a kept row are one adjoint sweep from
the row over its cone, so every entry of L is read once however deep the cone is; `Reduced.refresh` repeats
that for new values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from . import components
from .components import Components
from .errors import CycleError
from .kernels import csr
from .partition.local import Exchange, LocalTape, Portion
from .petsc import index_type
from .tape import ScalarRun


class RowsOfL(Protocol):
    """Rows of L over local node ids; ghosts and inputs have empty rows; duplicates are added up.

    `residuals` are the own nodes, ascending, whose equation is R_i(y, x) = 0 instead of y_i = F_i(y): their rows hold
    -dR_i, and I - L is short of a 1 on their diagonals.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    residuals: np.ndarray


@dataclass
class CSR:
    """Compressed sparse rows."""

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray

    @property
    def nnz(self) -> int:
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        return self.indptr.nbytes + self.indices.nbytes + self.data.nbytes


class Reduced:
    """One rank's rows of I - L after elimination, in the layout of PETSc's MPIAIJ.

    own          CSR over the rank's kept nodes: square, lower triangular but for `components`, columns ascending; the
                 diagonal is stored, and is 1 and last but in `residuals`
    ghost        CSR over ghost columns
    kept         local node id of each row; ascending but where components had to be ordered
    ghosts       local node id of each ghost column
    residuals    rows of implicit statements, ascending
    components   the diagonal blocks that are no unit diagonal
    ends         rows ends[s]:ends[s+1] belong to superstep s
    exchanges    the tape's exchanges, with rows for own nodes and n_rows + column for ghosts
    inputs, outputs   Portions whose ids are rows

    Raises `CycleError` where a statement that is not implicit reads a node that is not before it.
    """

    def __init__(self, local: LocalTape, L: RowsOfL, full: bool, columns: np.dtype | None = None) -> None:
        n = len(L.indptr) - 1
        self._columns = index_type() if columns is None else columns
        self._local, self._indptr, self._indices = local, L.indptr, L.indices
        small = np.int32 if n < 2**31 - 1 else np.int64
        work = n + len(L.indices)
        nodes = L.residuals.astype(small)
        state, root, head = _states(local, n, full), np.arange(n + 1, dtype=small), np.full(n, csr.UNSEEN, dtype=small)
        state[nodes] = csr.KEPT
        wrong = csr.first_upward(work, L.indptr, L.indices, state, nodes)
        if wrong >= 0:
            raise CycleError(self._cycle(wrong))
        if not full:
            csr.find_roots(work, L.indptr, L.indices, state, root)
            csr.find_heads(work, L.indptr, L.indices, state, root, nodes, head)
        self.kept, self.ghosts, cone, self._alias, self._zero = (
            np.flatnonzero(state == kind).astype(small)
            for kind in (csr.KEPT, csr.GHOST, csr.CONE, csr.ALIAS, csr.ZERO))
        del state
        self._root = root
        self.n_steps = len(local.steps)
        self.ends = np.searchsorted(self.kept, superstep_ends(local, n)).astype(np.int64)
        number = self._number_rows(nodes, head, cone)
        self.components = Components.none()
        if len(nodes):
            order, first, stop = components.order(self.residuals, self.own.indptr, self.own.indices)
            self._check_supersteps(order, first, stop)
            if (order != np.arange(self.n_rows)).any():
                self.kept = self.kept[order]
                number = self._number_rows(nodes, head, cone)
            self.components = components.components(first, stop, self.own.indptr, self.own.indices)

        self.exchanges = [
            Exchange(sends=[(r, number[i].astype(np.int64)) for r, i in step.exchange.sends],
                     recvs=[(r, number[i].astype(np.int64)) for r, i in step.exchange.recvs])
            for step in local.steps
        ]
        self._check_ghosts()
        self.inputs = Portion(number[local.inputs.ids].astype(np.int64), local.inputs.positions)
        self.outputs = Portion(number[local.outputs.ids].astype(np.int64), local.outputs.positions)
        self.refresh(L.data)

    def _number_rows(self, residuals: np.ndarray, head: np.ndarray, cone: np.ndarray) -> np.ndarray:
        """Rows in the order of `kept`: their cones and columns.  Returns the number of each node."""
        indptr, indices, root, kept = self._indptr, self._indices, self._root, self.kept
        n, n_kept, n_ghosts = len(root) - 1, len(kept), len(self.ghosts)
        columns, small = self._columns, kept.dtype
        number = np.full(n + 1, -1, dtype=small)
        number[kept] = np.arange(n_kept, dtype=small)
        start = np.zeros(n_kept + 2, dtype=small)
        self._member = csr.group(2 * len(cone) + n_kept, head, number, cone, start)
        self._cone = start[1:]
        number[self.ghosts] = n_kept + np.arange(n_ghosts, dtype=small)
        self.residuals = np.sort(number[residuals])
        a_ptr, b_ptr = np.zeros(n_kept + 1, dtype=np.int64), np.zeros(n_kept + 1, dtype=np.int64)
        a_idx = np.empty(n_kept + len(indices), dtype=columns)  # untouched pages of an upper bound cost nothing
        b_idx = np.empty(len(indices) if n_ghosts else 0, dtype=columns)
        csr.reduced_rows(n + len(indices), indptr, indices, root, kept, self._cone, self._member, self.residuals,
                         number, n_kept, np.full(n + 1, -1, dtype=small), a_ptr, a_idx, b_ptr, b_idx)
        self.own = _compact(a_ptr, a_idx, columns)
        self.ghost = _compact(b_ptr, b_idx, columns)
        return number

    def _check_supersteps(self, order: np.ndarray, first: np.ndarray, stop: np.ndarray) -> None:
        """No residual row reads a row of a later superstep: components lie within one, and so does what they move."""
        step = np.repeat(np.arange(self.n_steps), np.diff(self.ends))
        early = np.flatnonzero(step[order] != step)
        if len(early) or (step[first] != step[stop - 1]).any():
            row = order[early[0]] if len(early) else first[np.flatnonzero(step[first] != step[stop - 1])[0]]
            raise CycleError(self._cycle(int(self.kept[row]), "in a later superstep "))

    def _check_ghosts(self) -> None:
        """No row reads a ghost that has yet to come."""
        if self.ghost.nnz:
            step = np.repeat(np.arange(self.n_steps), np.diff(self.ends))
            comes = np.zeros(self.n_ghosts, dtype=np.int64)
            for s, exchange in enumerate(self.exchanges):
                for _, ids in exchange.recvs:
                    comes[ids - self.n_rows] = s
            row = np.repeat(np.arange(self.n_rows), np.diff(self.ghost.indptr))
            early = np.flatnonzero(comes[self.ghost.indices] >= step[row])
            if len(early):
                raise CycleError(self._cycle(int(self.kept[row[early[0]]]), "on another rank "))

    def _cycle(self, node: int, where: str = "") -> str:
        return (f"the statement at {self._site(node)} reads a result that is computed {where}with or after its own, so "
                "statements depend on each other in a cycle; only the results of one implicit statement may, on one "
                "rank: write the cycle as one equation, or record the function anew if its tape came from a file")

    def where(self, row: int) -> str:
        """The user's line that a row comes from."""
        return self._site(int(self.kept[row]))

    def _site(self, node: int) -> str:
        return str(self._local.site(node) or "a line of scalar code")

    @property
    def n_rows(self) -> int:
        return len(self.kept)

    @property
    def n_ghosts(self) -> int:
        return len(self.ghosts)

    @property
    def nnz(self) -> int:
        """Stored entries on this rank, unit diagonal included."""
        return self.own.nnz + self.ghost.nnz

    @property
    def nbytes(self) -> int:
        """Memory of the rows and of what `refresh` needs (L's own structure and work space not counted)."""
        mine = (self.kept, self.ghosts, self._root, self._alias, self._member, self._cone)
        return self.own.nbytes + self.ghost.nbytes + self.components.nbytes + sum(a.nbytes for a in mine)

    def refresh(self, L_data: np.ndarray) -> None:
        """New values in the same places, for L with the same structure and the values `L_data`.  Local."""
        n = len(self._root) - 1
        factor, work = np.ones(n), n + len(L_data)
        factor[self._zero] = 0.0
        csr.alias_factors(work, self._indptr, self._indices, L_data, self._root, self._alias, factor)
        a, b = self.own, self.ghost
        csr.reduced_values(work, self._indptr, self._indices, L_data, self._root, factor, self.kept, self.ghosts,
                           self._cone, self._member, self.residuals, a.indptr, a.indices, a.data,
                           b.indptr, b.indices, b.data, np.zeros(n + 1))

    def order_ghosts(self, order: np.ndarray) -> None:
        """Renumber ghost columns: the new column g is the old column order[g].  Rows' columns ascend afterwards."""
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        self.ghosts = self.ghosts[order]
        b = self.ghost
        if b.nnz:
            row = np.repeat(np.arange(self.n_rows), np.diff(b.indptr))
            column = place[b.indices]
            sort = np.lexsort((column, row))
            b.indices[:] = column[sort]
            b.data[:] = b.data[sort]
        for exchange in self.exchanges:
            exchange.recvs[:] = [(r, self.n_rows + place[ids - self.n_rows]) for r, ids in exchange.recvs]


def eliminate(local: LocalTape, L: RowsOfL, full: bool = False, columns: np.dtype | None = None) -> Reduced:
    """Eliminate the rank's interior nodes (see the module's text); `full` keeps every own node, one row a
    line.  columns: the type of column indices, by default that of PETSc's.

    Local, no communication.  L's `indptr` and `indices` are kept by reference for `Reduced.refresh`.
    """
    return Reduced(local, L, full, columns)


def superstep_ends(local: LocalTape, n: int) -> np.ndarray:
    """First local id past the rows of superstep s - 1, for s = 0, ..., k*: rows of a superstep are
    consecutive ids.

    Read off what the items of each superstep compute; the last one takes the rest.
    """
    ends = np.zeros(len(local.steps) + 1, dtype=np.int64)
    for s, step in enumerate(local.steps):
        last = ends[s]
        for item in local.items[step.start:step.stop]:
            if isinstance(item, ScalarRun):
                stop = local.blocks[item.block].first + len(item.op)
            else:
                reach = sum((k - 1) * max(stride, 0) for k, stride in zip(item.out_shape, item.out.strides))
                stop = local.blocks[item.out.block].first + item.out.offset + reach + 1 if 0 not in item.shape else 0
            last = max(last, stop)
        ends[s + 1] = last
    if len(ends) > 1:
        ends[-1] = n
    return ends


def _states(local: LocalTape, n: int, full: bool) -> np.ndarray:
    state = np.full(n, csr.KEPT if full else csr.INTERIOR, dtype=np.int8)
    state[local.inputs.ids] = csr.KEPT
    state[local.outputs.ids] = csr.KEPT
    for step in local.steps:
        for _, ids in step.exchange.sends:
            state[ids] = csr.KEPT
    own = local.own
    if own is not None:
        state[~own[:n]] = csr.GHOST
    return state


def _compact(indptr: np.ndarray, indices: np.ndarray, columns: np.dtype) -> CSR:
    """The used part, in PETSc's index type where the count fits it (else TriangularSystem says what is needed)."""
    nnz = int(indptr[-1])
    if nnz <= np.iinfo(columns).max:
        indptr = indptr.astype(columns)
    return CSR(indptr, indices[:nnz].copy(), np.empty(nnz))
