"""Products with one rank's strictly lower rows of I - L, without its unit diagonal: what Jacobi iteration is made of.

`indptr`, `indices` are unsigned, the diagonal is the last entry of each row; ghosts have kernels in `ghosts`.
The order of additions depends on nothing but the structure, so equal arguments give equal results bit for bit.
"""

from __future__ import annotations

import numpy as np

from .csr import Kernel

ONE = np.uint64(1)  # unsigned sums: no test whether a place is negative


@Kernel
def subtract(indptr, indices, data, x, y):
    """y_i -= sum_(j<i) A_ij x_j."""
    e0 = np.uint64(0)
    for i in range(len(indptr) - 1):
        e1 = np.uint64(indptr[i + 1])
        s = y[i]
        if e1 - e0 == 3:  # what binary operations make
            s -= data[e0] * x[indices[e0]]
            s -= data[e0 + ONE] * x[indices[e0 + ONE]]
        else:
            for e in range(e0, e1 - ONE):
                s -= data[e] * x[indices[e]]
        y[i] = s
        e0 = e1


@Kernel
def subtract_transposed(indptr, indices, data, x, y):
    """y_j -= sum_(i>j) A_ij x_i, a scatter."""
    e0 = np.uint64(0)
    for i in range(len(indptr) - 1):
        e1 = np.uint64(indptr[i + 1])
        s = x[i]
        for e in range(e0, e1 - ONE):
            y[indices[e]] -= data[e] * s
        e0 = e1


@Kernel
def subtract_columns(indptr, indices, data, x, y):
    """`subtract` for all columns of x and y (n, m), row-major: the matrix is streamed once."""
    m = x.shape[1]
    e0 = np.uint64(0)
    for i in range(len(indptr) - 1):
        e1 = np.uint64(indptr[i + 1])
        to = y[i]
        for e in range(e0, e1 - ONE):
            a = data[e]
            of = x[indices[e]]
            for k in range(m):
                to[k] -= a * of[k]
        e0 = e1


@Kernel
def subtract_transposed_columns(indptr, indices, data, x, y):
    """`subtract_transposed` for all columns of x and y (n, m), row-major."""
    m = x.shape[1]
    e0 = np.uint64(0)
    for i in range(len(indptr) - 1):
        e1 = np.uint64(indptr[i + 1])
        of = x[i]
        for e in range(e0, e1 - ONE):
            a = data[e]
            to = y[indices[e]]
            for k in range(m):
                to[k] -= a * of[k]
        e0 = e1


# -- structure


@Kernel
def raise_levels(lo, hi, indptr, indices, level):
    """level_i = max(level_i, 1 + level_j) over the entries (i, j), j < i, of rows lo, ..., hi - 1.

    Levels below zero are of rows that no seed reaches, and count for nothing.
    """
    for i in range(lo, hi):
        top = level[i]
        for e in range(indptr[i], indptr[i + 1] - 1):
            below = level[indices[e]]
            if below >= top and below >= 0.0:
                top = below + 1.0
        level[i] = top


@Kernel
def raise_levels_by_ghosts(rows, indptr, indices, ghost_level, level):
    """The same over ghost columns, for the given rows."""
    for p in range(len(rows)):
        i = rows[p]
        for e in range(indptr[i], indptr[i + 1]):
            below = ghost_level[indices[e]]
            if below >= level[i] and below >= 0.0:
                level[i] = below + 1.0


@Kernel
def first_out_of_order(first, stop, indptr, indices, data):
    """The first row that is not: columns before the row's own, and last a diagonal of 1; -1 if all are.

    Rows of the diagonal blocks first[k]:stop[k], ascending, may read any row up to the end of their block.
    """
    k = 0
    for i in range(len(indptr) - 1):
        while k < len(first) and stop[k] <= i:
            k += 1
        if k < len(first) and first[k] <= i:
            for e in range(indptr[i], indptr[i + 1]):
                if indices[e] >= stop[k]:
                    return i
            continue
        last = indptr[i + 1] - 1
        if last < indptr[i] or indices[last] != i or data[last] != 1.0:
            return i
        for e in range(indptr[i], last):
            if indices[e] >= i:
                return i
    return -1


@Kernel
def order_rows(indptr, indices, order, seen, stack):
    """order = the rows, each after those that its entries off the diagonal read.  Depth first; no cycles.

    seen comes in as zeros; stack is work space, one place a row.
    """
    count = 0
    for root in range(len(order)):
        if seen[root] != 0:
            continue
        top = 0
        stack[0] = root
        while top >= 0:
            i = stack[top]
            if seen[i] == 2:  # came up twice on the stack
                top -= 1
                continue
            below = top
            if seen[i] == 0:
                seen[i] = 1
                for e in range(indptr[i], indptr[i + 1]):
                    j = indices[e]
                    if seen[j] == 0:
                        top += 1
                        stack[top] = j
            if top == below:
                seen[i] = 2
                order[count] = i
                count += 1
                top -= 1
