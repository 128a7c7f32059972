"""Loops over the rows that are no part of a unit triangle: finding their components, and solving with the smallest.

In all of them `indptr, indices, data` are one rank's own rows, columns ascending.
"""

from __future__ import annotations

import numpy as np

from .csr import Kernel
from .jit import Helper


@Kernel
def strong_components(windows, indptr, indices, index, low, stack, path, edge, order, ends):
    """The strongly connected components of rows lo, ..., hi - 1 in each of `windows`, (lo, hi) pairs.

    An edge goes from a row to each column of its window that it reads.  Returns their number; component c is
    order[ends[c]:ends[c+1]], and comes after all that it reads.  `index` comes in as -1, ends[0] as 0.  All arrays have
    a place for each row of the windows, one after another, `ends` one more.

    Tarjan's algorithm (Depth-first search and linear graph algorithms, SIAM J. Comput. 1, 1972) without recursion.
    Roots are taken in ascending order, so rows that are in order already stay as they are.
    """
    base = 0
    done = 0
    count = 0
    for q in range(len(windows)):
        lo = windows[q, 0]
        n = windows[q, 1] - lo
        finished = base + n
        seen = base
        top = 0
        for root in range(n):
            if index[base + root] >= 0:
                continue
            depth = 0
            enter = root
            while depth >= 0:
                if enter >= 0:
                    index[base + enter] = seen
                    low[base + enter] = seen
                    seen += 1
                    stack[top] = enter
                    top += 1
                    path[depth] = enter
                    edge[depth] = indptr[lo + enter]
                    enter = -1
                v = path[depth]
                e = edge[depth]
                if e < indptr[lo + v + 1]:
                    edge[depth] = e + 1
                    w = indices[e] - lo
                    if w < 0 or w >= n:
                        continue
                    if index[base + w] < 0:
                        enter = w
                        depth += 1
                    elif index[base + w] < low[base + v]:
                        low[base + v] = index[base + w]
                    continue
                if low[base + v] == index[base + v]:
                    while True:
                        top -= 1
                        w = stack[top]
                        index[base + w] = finished
                        order[done] = lo + w
                        done += 1
                        if w == v:
                            break
                    count += 1
                    ends[count] = done
                depth -= 1
                if depth >= 0 and low[base + v] < low[base + path[depth]]:
                    low[base + path[depth]] = low[base + v]
        base += n
    return count


@Helper
def solve_factored(a, p, z):
    """z <- A^-1 z by the factors in a, rows exchanged as p says."""
    for i in range(len(z)):
        t = z[p[i]]
        z[p[i]] = z[i]
        for g in range(i):
            t -= a[i, g] * z[g]
        z[i] = t
    for i in range(len(z) - 1, -1, -1):
        t = z[i]
        for g in range(i + 1, len(z)):
            t -= a[i, g] * z[g]
        z[i] = t / a[i, i]


@Helper
def centre(a, others, own):
    """own[i] <- minus the mean of log2 |a[i, j]| + others[j] over the entries of a's row i."""
    for i in range(len(own)):
        total = 0.0
        count = 0
        for j in range(len(others)):
            if a[i, j] != 0.0:
                total += np.log2(abs(a[i, j])) + others[j]
                count += 1
        own[i] = -total / max(count, 1)


@Helper
def balance(a, r, c):
    """a <- R a C, r and c powers of two such that the logarithms of its entries have nearly the least sum of squares:
    then the units of rows and columns make no difference (Curtis and Reid, On the automatic scaling of matrices for
    Gaussian elimination, IMA J. Appl. Math. 10, 1972)."""
    n = len(r)
    rows = np.zeros(n)
    columns = np.zeros(n)
    for _ in range(100):
        centre(a, columns, rows)
        centre(a.T, rows, columns)
    for i in range(n):
        rows[i] = min(max(np.round(rows[i]), -500.0), 500.0)
        columns[i] = min(max(np.round(columns[i]), -500.0), 500.0)
        r[i] = 2.0 ** rows[i]
        c[i] = 2.0 ** columns[i]
    for i in range(n):
        for j in range(n):
            a[i, j] *= 2.0 ** (rows[i] + columns[j])


@Kernel
def small_factors(first, stop, left, at, indptr, indices, data, limit, place, lu, pivot, scale, condition):
    """LU factors of small diagonal blocks, equilibrated, with partial pivoting; and the condition of each.

    Block k has rows first[k]:stop[k]; left[at[k] + i] is where row i's entries within the block begin.  Its factors go
    to lu[place[k]:] (n x n), its pivots to pivot[at[k]:], its row and column scales (powers of two) to scale[0] and
    scale[1].  condition[k] = |R A C| |(R A C)^-1| in the maximum norm; inf if there is no inverse.  Where that is not
    below `limit`, units may be all there is to it: rows and columns are balanced before they are equilibrated.
    """
    for k in range(len(first)):
        f = first[k]
        n = stop[k] - f
        a = lu[place[k]:place[k] + n * n].reshape(n, n)
        p = pivot[at[k]:at[k] + n]
        r = scale[0, at[k]:at[k] + n]
        c = scale[1, at[k]:at[k] + n]
        for balanced in range(2):
            a[:] = 0.0
            for i in range(n):
                for e in range(left[at[k] + i], indptr[f + i + 1]):
                    a[i, indices[e] - f] = data[e]
            r[:] = 1.0
            c[:] = 1.0
            if balanced:
                balance(a, r, c)
            good = True
            for i in range(n):
                t = np.max(np.abs(a[i]))
                good = good and 0.0 < t < np.inf
                t = 2.0 ** min(-np.floor(np.log2(t)), 1000.0) if good else 1.0
                r[i] *= t
                a[i] *= t
            for j in range(n):
                t = np.max(np.abs(a[:, j]))
                good = good and 0.0 < t < np.inf
                t = 2.0 ** min(-np.floor(np.log2(t)), 1000.0) if good else 1.0
                c[j] *= t
                a[:, j] *= t
            condition[k] = np.inf
            if not good:
                break
            norm = 0.0
            for i in range(n):
                norm = max(norm, np.sum(np.abs(a[i])))
            for j in range(n):
                q = j
                for i in range(j + 1, n):
                    if abs(a[i, j]) > abs(a[q, j]):
                        q = i
                p[j] = q
                if not abs(a[q, j]) > 0.0:
                    good = False
                    break
                for i in range(n):
                    t = a[j, i]
                    a[j, i] = a[q, i]
                    a[q, i] = t
                for i in range(j + 1, n):
                    a[i, j] /= a[j, j]
                    for g in range(j + 1, n):
                        a[i, g] -= a[i, j] * a[j, g]
            if good:
                inverse = np.zeros(n)  # sums of absolute values along the rows of the inverse
                x = np.zeros(n)
                for u in range(n):
                    x[:] = 0.0
                    x[u] = 1.0
                    solve_factored(a, p, x)
                    inverse += np.abs(x)
                condition[k] = norm * np.max(inverse)
            if condition[k] < limit:
                break


@Kernel
def small_forward(lo, hi, first, stop, left, at, indptr, indices, data, place, lu, pivot, scale, y):
    """Blocks lo, ..., hi - 1 of  A y = y  for y (n, m), each after all it reads, refined once, and the rows between
    them, whose diagonal is 1 and stored last."""
    for k in range(lo, hi):
        f = first[k]
        for i in range(stop[k - 1] if k > lo else f, f):
            for e in range(indptr[i], indptr[i + 1] - 1):
                for j in range(y.shape[1]):
                    y[i, j] -= data[e] * y[indices[e], j]
        n = stop[k] - f
        a = lu[place[k]:place[k] + n * n].reshape(n, n)
        p = pivot[at[k]:at[k] + n]
        r = scale[0, at[k]:at[k] + n]
        c = scale[1, at[k]:at[k] + n]
        x = np.zeros(n)
        z = np.zeros(n)
        for j in range(y.shape[1]):
            for i in range(n):
                t = y[f + i, j]
                for e in range(indptr[f + i], left[at[k] + i]):
                    t -= data[e] * y[indices[e], j]
                y[f + i, j] = t
            x[:] = 0.0
            for turn in range(2):
                for i in range(n):
                    t = y[f + i, j]
                    if turn == 1:
                        for e in range(left[at[k] + i], indptr[f + i + 1]):
                            t -= data[e] * x[indices[e] - f]
                    z[i] = r[i] * t
                solve_factored(a, p, z)
                for i in range(n):
                    x[i] += c[i] * z[i]
            for i in range(n):
                y[f + i, j] = x[i]


@Kernel
def small_backward(lo, hi, first, stop, left, at, indptr, indices, data, place, lu, pivot, scale, y):
    """Blocks hi - 1, ..., lo of  A^T y = y  for y (n, m), refined once, and the rows between them."""
    for k in range(hi - 1, lo - 1, -1):
        f = first[k]
        n = stop[k] - f
        a = lu[place[k]:place[k] + n * n].reshape(n, n)
        p = pivot[at[k]:at[k] + n]
        r = scale[0, at[k]:at[k] + n]
        c = scale[1, at[k]:at[k] + n]
        x = np.zeros(n)
        z = np.zeros(n)
        for j in range(y.shape[1]):
            x[:] = 0.0
            for turn in range(2):
                for i in range(n):
                    z[i] = y[f + i, j]
                if turn == 1:
                    for i in range(n):
                        for e in range(left[at[k] + i], indptr[f + i + 1]):
                            z[indices[e] - f] -= data[e] * x[i]
                for i in range(n):
                    t = c[i] * z[i]
                    for g in range(i):
                        t -= a[g, i] * z[g]
                    z[i] = t / a[i, i]
                for i in range(n - 1, -1, -1):
                    t = z[i]
                    for g in range(i + 1, n):
                        t -= a[g, i] * z[g]
                    z[i] = t
                for i in range(n - 1, -1, -1):
                    t = z[i]
                    z[i] = z[p[i]]
                    z[p[i]] = t
                for i in range(n):
                    x[i] += r[i] * z[i]
            for i in range(n):
                y[f + i, j] = x[i]
                for e in range(indptr[f + i], left[at[k] + i]):
                    y[indices[e], j] -= data[e] * x[i]
        for i in range(f - 1, (stop[k - 1] if k > lo else f) - 1, -1):
            for e in range(indptr[i], indptr[i + 1] - 1):
                for j in range(y.shape[1]):
                    y[indices[e], j] -= data[e] * y[i, j]


@Kernel
def gather_left(first, left, indptr, indices, data, y):
    """y_i -= sum_j A_ij y_j over the entries indptr[i]:left[i - first] of rows first, ...; y is (n, m)."""
    for i in range(len(left)):
        for e in range(indptr[first + i], left[i]):
            for j in range(y.shape[1]):
                y[first + i, j] -= data[e] * y[indices[e], j]


@Kernel
def scatter_left(first, left, indptr, indices, data, y):
    """y_j -= sum_i A_ij y_i over the same entries: the transpose of `gather_left`."""
    for i in range(len(left)):
        for e in range(indptr[first + i], left[i]):
            for j in range(y.shape[1]):
                y[indices[e], j] -= data[e] * y[first + i, j]
