"""The ghost columns of one rank's rows of I - L, in substitution: what they take from rows, what rows give to them."""

from __future__ import annotations

import numpy as np

from .csr import Kernel

ONE = np.uint64(1)  # unsigned sums: no test whether a place is negative


@Kernel
def forward(rows, indptr, indices, data, ghosts, y):
    """y_i -= sum_g B_ig ghosts_g over the given rows, those with ghost columns."""
    for p in range(len(rows)):
        i = np.uint64(rows[p])
        e0, e1 = indptr[i], indptr[i + ONE]
        if e1 - e0 == 1:
            y[i] -= data[e0] * ghosts[indices[e0]]
        else:
            s = y[i]
            for e in range(e0, e1):
                s -= data[e] * ghosts[indices[e]]
            y[i] = s


@Kernel
def backward(rows, indptr, indices, data, ghosts, y):
    """ghosts_g -= sum_i B_ig y_i over the given rows: the transpose of `forward`.

    Many rows may read one or two parameters in turn: what goes to the two ghosts met last stays in registers, for one
    addition to memory would wait for the one before.
    """
    if len(rows) == 0:
        return
    first = indptr[np.uint64(rows[0])]
    g0, g1 = indices[first], indices[first]
    sum0, sum1 = 0.0, 0.0
    for p in range(len(rows)):
        i = np.uint64(rows[p])
        e0, e1 = indptr[i], indptr[i + ONE]
        s = y[i]
        if e1 - e0 == 1:
            g = indices[e0]
            v = data[e0] * s
            if g == g0:
                sum0 -= v
            elif g == g1:
                sum1 -= v
            else:
                ghosts[g0] += sum0
                g0, sum0 = g1, sum1
                g1, sum1 = g, -v
        else:
            for e in range(e0, e1):
                ghosts[indices[e]] -= data[e] * s
    ghosts[g0] += sum0
    ghosts[g1] += sum1


@Kernel
def forward_columns(rows, indptr, indices, data, ghosts, y):
    """`forward` for all columns of y (n, m) and ghosts (n_ghosts, m)."""
    m = y.shape[1]
    for p in range(len(rows)):
        i = rows[p]
        for e in range(indptr[i], indptr[i + 1]):
            b = data[e]
            g = indices[e]
            for k in range(m):
                y[i, k] -= b * ghosts[g, k]


@Kernel
def backward_columns(rows, indptr, indices, data, ghosts, y):
    """`backward` for all columns of y (n, m) and ghosts (n_ghosts, m)."""
    m = y.shape[1]
    for p in range(len(rows)):
        i = rows[p]
        for e in range(indptr[i], indptr[i + 1]):
            b = data[e]
            g = indices[e]
            for k in range(m):
                ghosts[g, k] -= b * y[i, k]
