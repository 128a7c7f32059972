"""Substitution from some rows to some others, the solution kept only as long as rows read it.

Who wants the solution at a few rows need not write it down at all of them.  Every row has a *slot*, taken when it is
computed and free again after its last reader, as registers are allotted (Poletto and Sarkar, Linear scan register
allocation, ACM TOPLAS 21, 1999); ghosts have the first slots for good.  A chain of any length has a few, which stay in
the first cache level with all their columns, so memory carries the matrix alone.

`operands` holds the slots of what a row's own entries read, its own slot (that of the diagonal) last.
"""

from __future__ import annotations

import numpy as np

from .csr import Kernel

ONE = np.uint64(1)
MANY = 8  # columns from which on this takes less than all rows of a solution that leaves the cache


@Kernel
def allot(indptr, indices, slots, operands):
    """Fills `operands` for own rows, columns ascending, the diagonal last, from slot `slots` on; returns their end."""
    n = len(indptr) - 1
    last = np.arange(n)
    for i in range(n):
        for e in range(indptr[i], indptr[i + 1] - 1):
            last[indices[e]] = i
    slot, free = np.empty(n, np.int64), np.empty(n, np.int64)
    count = 0
    for i in range(n):
        if count > 0:
            count -= 1
            slot[i] = free[count]
        else:
            slot[i] = slots
            slots += 1
        for e in range(indptr[i], indptr[i + 1] - 1):  # a row's own slot is taken before those it reads are free
            j = indices[e]
            operands[e] = slot[j]
            if last[j] == i:
                last[j] = -1
                free[count] = slot[j]
                count += 1
        operands[indptr[i + 1] - 1] = slot[i]
        if last[i] == i:
            free[count] = slot[i]
            count += 1
    return slots


@Kernel
def forward(lo, hi, indptr, operands, data, b_rows, b_indptr, b_indices, b_data, rows, seeds, wanted, found, y):
    """found[q] = row wanted[q] of y in  M y = b - B g  between rows lo and hi, where b is seeds[p] in row rows[p].

    rows, wanted: ascending, within lo, ..., hi - 1.  y (slots, m) holds the ghosts g; b_rows are the rows that read
    some, b_indptr, b_indices, b_data those entries.
    """
    m = y.shape[1]
    p, q, r = 0, 0, np.searchsorted(b_rows, lo)
    for i in range(lo, hi):
        e0, e1 = np.uint64(indptr[i]), np.uint64(indptr[i + 1]) - ONE
        to = y[operands[e1]]
        if p < len(rows) and rows[p] == i:
            for k in range(m):
                to[k] = seeds[p, k]
            p += 1
        elif e1 - e0 > ONE:
            a, b = y[operands[e0]], y[operands[e0 + ONE]]
            c, d = data[e0], data[e0 + ONE]
            for k in range(m):
                to[k] = -c * a[k] - d * b[k]
            e0 += ONE + ONE
        else:
            for k in range(m):
                to[k] = 0.0
        for e in range(e0, e1):
            c, of = data[e], y[operands[e]]
            for k in range(m):
                to[k] -= c * of[k]
        if r < len(b_rows) and b_rows[r] == i:
            for e in range(b_indptr[i], b_indptr[i + 1]):
                c, of = b_data[e], y[b_indices[e]]
                for k in range(m):
                    to[k] -= c * of[k]
            r += 1
        if q < len(wanted) and wanted[q] == i:
            for k in range(m):
                found[q, k] = to[k]
            q += 1


@Kernel
def backward(lo, hi, indptr, operands, data, b_rows, b_indptr, b_indices, b_data, rows, seeds, wanted, found, y):
    """The transpose: found[q] = row wanted[q] of lam in  M^T lam = b,  and -B^T lam at the ghosts in y, which comes as
    zeros."""
    m = y.shape[1]
    p, q, r = len(rows) - 1, len(wanted) - 1, np.searchsorted(b_rows, hi) - 1
    for step in range(hi - lo):
        i = hi - 1 - step
        e0, e1 = np.uint64(indptr[i]), np.uint64(indptr[i + 1]) - ONE
        of = y[operands[e1]]
        if p >= 0 and rows[p] == i:
            for k in range(m):
                of[k] += seeds[p, k]
            p -= 1
        if q >= 0 and wanted[q] == i:
            for k in range(m):
                found[q, k] = of[k]
            q -= 1
        if r >= 0 and b_rows[r] == i:
            for e in range(b_indptr[i], b_indptr[i + 1]):
                c, to = b_data[e], y[b_indices[e]]
                for k in range(m):
                    to[k] -= c * of[k]
            r -= 1
        for e in range(e0, e1):
            c, to = data[e], y[operands[e]]
            for k in range(m):
                to[k] -= c * of[k]
        for k in range(m):  # the slot's rows before this one begin with nothing
            of[k] = 0.0
