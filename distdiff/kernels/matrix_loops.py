"""The compiled loops over many small matrices (importing this module imports Numba): see `tracing.matrices.kernels`."""

from __future__ import annotations

import numpy as np

from .jit import jit


@jit(contract=True)
def lu(a, out):
    """P A = L U of matrices (B, n, n), into (B, n + 1, n)."""
    n = a.shape[1]
    for b in range(a.shape[0]):
        m = out[b]
        for i in range(n):
            m[n, i] = i
            for j in range(n):
                m[i, j] = a[b, i, j]
        for k in range(n):
            pivot, largest = k, abs(m[k, k])
            for i in range(k + 1, n):
                if abs(m[i, k]) > largest:
                    pivot, largest = i, abs(m[i, k])
            if pivot != k:
                m[n, k], m[n, pivot] = m[n, pivot], m[n, k]
                for j in range(n):
                    m[k, j], m[pivot, j] = m[pivot, j], m[k, j]
            if m[k, k] != 0.0:
                for i in range(k + 1, n):
                    m[i, k] /= m[k, k]
                    for j in range(k + 1, n):
                        m[i, j] -= m[i, k] * m[k, j]


@jit(contract=True)
def triangular(a, x, lower, transposed, unit):
    """x := T^-1 x or T^-T x for a triangle T of each matrix (B, n or more, n), x (B, n, C)."""
    n = x.shape[1]
    for b in range(x.shape[0]):
        for step in range(n):
            i = step if lower != transposed else n - 1 - step
            for before in range(step):
                j = before if lower != transposed else n - 1 - before
                t = a[b, j, i] if transposed else a[b, i, j]
                for c in range(x.shape[2]):
                    x[b, i, c] -= t * x[b, j, c]
            if not unit:
                for c in range(x.shape[2]):
                    x[b, i, c] /= a[b, i, i]


@jit
def permuted(order, b, back, x):
    """x[k] = b[order[k]], or with `back` x[order[k]] = b[k], of matrices (B, n, C)."""
    for m in range(b.shape[0]):
        for k in range(b.shape[1]):
            row = np.int64(order[m, k])
            for c in range(b.shape[2]):
                if back:
                    x[m, row, c] = b[m, k, c]
                else:
                    x[m, k, c] = b[m, row, c]
