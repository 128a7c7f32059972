"""Loops over compressed sparse rows: elimination of local nodes, and residuals.

Written as plain Python over arrays.  `Kernel` runs them as they stand while the work is small, so a small
problem pays neither for Numba's import nor for a compilation, and compiles them (cached on disk) once the
work adds up.

In all of them `indptr, indices, data` are the rows of L over local node ids, n = len(indptr) - 1 is the
number of local nodes, and the id n stands for "nothing": the root of a node whose derivative is identically
zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..flags import note
from .jit import jit, worth_it

INTERIOR, KEPT, GHOST = 0, 1, 2  # state of a node before elimination; interior ones become
CONE, ALIAS, ZERO = 3, 4, 5  # ... one of these, or kept, or stay interior: unused
UNSEEN, SHARED = -1, -2  # head of a node: none of its uses seen, uses in several kept rows

PLAIN_WORK = 100_000  # inner steps a kernel may spend in plain Python, about 50 ms, before it is compiled


class Kernel:
    """A loop that is compiled when it has become worth it: call it as kernel(work, *arguments)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.plain = function
        self._compiled: Callable[..., Any] | None = None
        self._spent = 0
        self.__doc__ = function.__doc__

    def __call__(self, work: int, *arguments: Any) -> Any:
        loop = self._compiled
        if loop is None:
            self._spent += work + 20  # a call costs something too
            loop = self.compiled if worth_it(self._spent, PLAIN_WORK) else self.plain
        found = loop(*arguments)
        note()
        return found

    @property
    def compiled(self) -> Callable[..., Any]:
        if self._compiled is None:
            self._compiled = jit(self.plain, contract=True)
        return self._compiled


# -- elimination, structure


@Kernel
def first_upward(indptr, indices, state, residuals):
    """The first own node that reads itself or a node after it though it is none of `residuals` (ascending), or -1."""
    k = 0
    for i in range(len(state)):
        if k < len(residuals) and residuals[k] == i:
            k += 1
            continue
        if state[i] == 2:
            continue
        for e in range(indptr[i], indptr[i + 1]):
            if indices[e] >= i and state[indices[e]] != 2:
                return i
    return -1


@Kernel
def find_roots(indptr, indices, state, root):
    """root[i] = the only node that interior node i depends on (through others like it), n if none, else i itself.

    root comes in as 0, ..., n; state becomes ALIAS or ZERO.
    """
    n = len(state)
    for i in range(n):
        if state[i] != 0:
            continue
        r = n
        several = False
        for e in range(indptr[i], indptr[i + 1]):
            q = root[indices[e]]
            if q == n or q == r:
                continue
            if r != n:
                several = True
                break
            r = q
        if not several:
            root[i] = r
            state[i] = 5 if r == n else 4


@Kernel
def find_heads(indptr, indices, state, root, residuals, head):
    """head[i] = the kept row that alone uses node i, directly or through nodes with the same head; i itself if kept.

    Backwards over the own nodes; head comes in as UNSEEN and stays so for nodes that reach no kept row.  The state of
    interior nodes becomes CONE, or KEPT where several rows use them.  `residuals`, kept, may use nodes after them, so
    their uses are seen first.
    """
    n = len(root) - 1
    for k in range(len(residuals)):
        i = residuals[k]
        for e in range(indptr[i], indptr[i + 1]):
            q = root[indices[e]]
            if q == n:
                continue
            if head[q] == -1:
                head[q] = i
            elif head[q] != i:
                head[q] = -2
    for i in range(n - 1, -1, -1):
        if state[i] > 1:
            continue
        h = head[i]
        if state[i] == 1:
            h = i
        elif h == -1:
            continue
        elif h == -2:
            h = i
            state[i] = 1
        else:
            state[i] = 3
        for e in range(indptr[i], indptr[i + 1]):
            q = root[indices[e]]
            if q == n:
                continue
            if head[q] == -1:
                head[q] = h
            elif head[q] != h:
                head[q] = -2


@Kernel
def group(head, number, nodes, start):
    """The nodes sorted by number[head] and, within one head, descending (a counting sort; `nodes` ascend).

    start comes in as zeros, two more than heads; group r comes out at start[r+1]:start[r+2].
    """
    rows = len(start) - 2
    out = nodes.copy()
    for k in range(len(nodes)):
        start[number[head[nodes[k]]] + 1] += 1
    for r in range(rows):
        start[r + 1] += start[r]
    start[rows + 1] = start[rows]
    for k in range(len(nodes)):  # each group filled from its end
        r = number[head[nodes[k]]]
        start[r + 1] -= 1
        out[start[r + 1]] = nodes[k]
    return out


@Kernel
def reduced_rows(indptr, indices, root, kept, cone, member, residuals, number, ghost_base, mark,
                 a_ptr, a_idx, b_ptr, b_idx):
    """Columns of the kept rows: own part (sorted, with the diagonal) in a, ghosts in b.  Returns nothing.

    number[i] is the row of a kept node, ghost_base + g of ghost g, and -1 of an eliminated node.  The diagonal is the
    last of a row's columns but in `residuals` (rows, ascending).
    """
    n = len(root) - 1
    na = 0
    nb = 0
    residual = 0
    for r in range(len(kept)):
        a0 = na
        b0 = nb
        last = -1
        falls = 0
        i = kept[r]
        if residual < len(residuals) and residuals[residual] == r:
            mark[i] = r  # whether it is read or not
            a_idx[na] = r
            na += 1
            last = r
        k = cone[r]
        while True:
            for e in range(indptr[i], indptr[i + 1]):
                q = root[indices[e]]
                if q == n or mark[q] == r:
                    continue
                c = number[q]
                if c < 0:
                    continue
                mark[q] = r
                if c >= ghost_base:
                    b_idx[nb] = c - ghost_base
                    nb += 1
                else:
                    a_idx[na] = c
                    na += 1
                    if c < last:
                        falls += 1
                    last = c
            if k == cone[r + 1]:
                break
            i = member[k]
            k += 1
        if falls:
            if na - a0 <= 12:
                for p in range(a0 + 1, na):
                    c = a_idx[p]
                    q = p
                    while q > a0 and a_idx[q - 1] > c:
                        a_idx[q] = a_idx[q - 1]
                        q -= 1
                    a_idx[q] = c
            else:
                if 2 * falls > na - a0:  # as cones are walked through; sorting that takes ten times as long
                    p = a0
                    q = na - 1
                    while p < q:
                        c = a_idx[p]
                        a_idx[p] = a_idx[q]
                        a_idx[q] = c
                        p += 1
                        q -= 1
                a_idx[a0:na].sort()
        if nb - b0 > 1:
            b_idx[b0:nb].sort()
        if residual < len(residuals) and residuals[residual] == r:
            residual += 1
        else:
            a_idx[na] = r
            na += 1
        a_ptr[r + 1] = na
        b_ptr[r + 1] = nb


# -- elimination, values


@Kernel
def alias_factors(indptr, indices, data, root, alias, factor):
    """factor[i] = d y_i / d y_root(i) of the nodes in `alias` (ascending); factor comes in as 1 elsewhere."""
    n = len(root) - 1
    for k in range(len(alias)):
        i = alias[k]
        total = 0.0
        for e in range(indptr[i], indptr[i + 1]):
            q = indices[e]
            if root[q] != n:
                total += data[e] * factor[q]
        factor[i] = total


@Kernel
def reduced_values(indptr, indices, data, root, factor, kept, ghosts, cone, member, residuals,
                   a_ptr, a_idx, a_val, b_ptr, b_idx, b_val, acc):
    """Values of I - L reduced (of -L in the rows `residuals`): each kept row swept backwards over its cone.  acc
    (n + 1 zeros) returns to zeros but acc[n].

    This is the adjoint sweep of one kept node over the nodes that only it uses; every entry of L is read
    once.
    """
    residual = 0
    for r in range(len(kept)):
        i = kept[r]
        for e in range(indptr[i], indptr[i + 1]):
            q = indices[e]
            acc[root[q]] += data[e] * factor[q]
        for k in range(cone[r], cone[r + 1]):
            i = member[k]
            w = acc[i]
            acc[i] = 0.0
            for e in range(indptr[i], indptr[i + 1]):
                q = indices[e]
                acc[root[q]] += w * data[e] * factor[q]
        for e in range(a_ptr[r], a_ptr[r + 1]):
            q = kept[a_idx[e]]
            a_val[e] = -acc[q]
            acc[q] = 0.0
        if residual < len(residuals) and residuals[residual] == r:
            residual += 1
        else:
            a_val[a_ptr[r + 1] - 1] = 1.0
        for e in range(b_ptr[r], b_ptr[r + 1]):
            q = ghosts[b_idx[e]]
            b_val[e] = -acc[q]
            acc[q] = 0.0


# -- residual, componentwise


@Kernel
def residual(indptr, indices, data, x, r, scale):
    """r_i -= sum_j A_ij x_j and scale_i += sum_j |A_ij x_j|."""
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            t = data[e] * x[indices[e]]
            r[i] -= t
            scale[i] += abs(t)


@Kernel
def residual_transposed(indptr, indices, data, x, r, scale):
    """r_j -= sum_i A_ij x_i and scale_j += sum_i |A_ij x_i|."""
    for i in range(len(indptr) - 1):
        s = x[i]
        for e in range(indptr[i], indptr[i + 1]):
            t = data[e] * s
            r[indices[e]] -= t
            scale[indices[e]] += abs(t)
