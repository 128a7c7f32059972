"""Substitution with one rank's own block of I - L, in place, stretch by stretch (its ghost columns: `ghosts`).

`table` and `offsets` describe the stretches (see `stretches`): in one of constant offsets neither row pointers nor
column indices are read.  The offsets -1 and -2 are a recurrence, carried in registers.  All others reach back at least
as far as a block is long, so that its rows are independent and run diagonal by diagonal, vectorised.
"""

from __future__ import annotations

import numpy as np

from .csr import Kernel
from .jit import Helper, fetch
from .stretches import ENTRY, FAR, FIRST, NEAR, PLACE, REACH, ROWS, WIDTH

BLOCK = 2048  # entries of the solution in a block at most: it stays in the first cache level from diagonal to diagonal
FALLING = 8 * BLOCK  # the same for blocks that come in falling order: in the second level, since every one of them
# begins where nothing was fetched ahead, which costs more than the first level saves
CACHED = 1 << 17  # numbers of a solution that stay in the second cache level
SAMPLES = 32  # rows that are looked at before what they read is fetched ahead
AHEAD = np.uint64(24)  # entries between one that is used and the one that is fetched meanwhile
WIDE = 8  # columns from which on loops over them are worth their set-up
ONE, TWO, THREE, FOUR = np.arange(1, 5, dtype=np.uint64)  # unsigned sums: no test whether a place is negative


@Helper
def subtract(c, of, to, down):
    """to -= c of, row by row, arrays (n, m); `down` takes the last row of few columns first.

    Two to four columns are read as one vector.  Blocks of them that come in falling order are gone through in falling
    order too: the processor fetches ahead along lines that follow each other in either direction, but not from the end
    of one block to the beginning of another, and then they come at half the bandwidth.
    """
    n, m = to.shape
    if m == 4:
        for p in range(n):
            i = np.uint64(n - 1 - p if down else p)
            ci = c[i]
            x0, x1, x2, x3 = of[i, 0], of[i, 1], of[i, 2], of[i, 3]
            z0, z1, z2, z3 = to[i, 0], to[i, 1], to[i, 2], to[i, 3]
            to[i, 0] = z0 - ci * x0
            to[i, 1] = z1 - ci * x1
            to[i, 2] = z2 - ci * x2
            to[i, 3] = z3 - ci * x3
    elif m == 3:
        for p in range(n):
            i = np.uint64(n - 1 - p if down else p)
            ci = c[i]
            x0, x1, x2 = of[i, 0], of[i, 1], of[i, 2]
            z0, z1, z2 = to[i, 0], to[i, 1], to[i, 2]
            to[i, 0] = z0 - ci * x0
            to[i, 1] = z1 - ci * x1
            to[i, 2] = z2 - ci * x2
    elif m == 2:
        for p in range(n):
            i = np.uint64(n - 1 - p if down else p)
            ci = c[i]
            x0, x1 = of[i, 0], of[i, 1]
            z0, z1 = to[i, 0], to[i, 1]
            to[i, 0] = z0 - ci * x0
            to[i, 1] = z1 - ci * x1
    elif m > 4:
        for i in range(n):
            for k in range(m):
                to[i, k] -= c[i] * of[i, k]
    elif m == 1:
        for i in range(n):
            to[i, 0] -= c[i] * of[i, 0]


@Helper
def scattered(first, rows, indptr, indices, m):
    """Whether most of these rows, read as they are stored, read what has left the second cache level.

    Then what later rows read is fetched while a row is computed, of several columns: of one column the processor has
    enough reads on their way by itself, and rows that read what is near take up to a third longer with it.
    """
    if rows < 16 * SAMPLES:
        return False
    far = 0
    for k in range(SAMPLES):
        i = first + k * (rows // SAMPLES)
        e = np.uint64(indptr[i])
        if e + ONE < indptr[i + 1]:
            far += 1 if (i - np.int64(indices[e])) * m > CACHED else -1
    return far > 0


@Kernel
def forward(lo, hi, table, offsets, indptr, indices, data, y):
    """Stretches lo, ..., hi - 1 of  A y = y:  y_i -= sum_(j<i) A_ij y_j."""
    for q in range(lo, hi):
        first = table[q, FIRST]
        rows = table[q, ROWS]
        w = table[q, WIDTH]
        if w == 0:
            e0 = np.uint64(indptr[first])
            for i in range(first, first + rows):
                e1 = np.uint64(indptr[i + 1])
                s = y[i]
                if e1 - e0 == 3:  # what binary operations make
                    s -= data[e0] * y[indices[e0]]
                    s -= data[e0 + ONE] * y[indices[e0 + ONE]]
                elif e1 - e0 < 16:
                    for e in range(e0, e1 - ONE):
                        s -= data[e] * y[indices[e]]
                else:  # sums that don't wait for each other
                    s1 = s2 = s3 = 0.0
                    e = e0
                    for _ in range((e1 - e0 - ONE) // FOUR):
                        s -= data[e] * y[indices[e]]
                        s1 -= data[e + ONE] * y[indices[e + ONE]]
                        s2 -= data[e + TWO] * y[indices[e + TWO]]
                        s3 -= data[e + THREE] * y[indices[e + THREE]]
                        e += FOUR
                    for g in range(e, e1 - ONE):
                        s -= data[g] * y[indices[g]]
                    s += (s1 + s2) + s3
                y[i] = s
                e0 = e1
            continue
        d = offsets[table[q, PLACE]:table[q, PLACE] + w]
        near = table[q, NEAR]
        size = min(2 * BLOCK // w, table[q, REACH])  # values that are read once for every diagonal stay near as well
        a = data[table[q, ENTRY]:table[q, ENTRY] + rows * (w + 1)].reshape(rows, w + 1)
        for r in range(0, rows, size):
            n = min(size, rows - r)
            f = first + r
            z = y[f:f + n]
            for k in range(w - near):
                c = a[r:r + n, k]
                x = y[f + d[k]:f + d[k] + n]
                for i in range(n):
                    z[i] -= c[i] * x[i]
            if near == 0:
                continue
            c = a[r:r + n, w - 1]
            s = y[f - 1]
            if near == 1:
                for i in range(n):
                    s = z[i] - c[i] * s
                    z[i] = s
            else:
                c2 = a[r:r + n, w - 2]
                s2 = y[f - 2]
                for i in range(n):
                    t = (z[i] - c2[i] * s2) - c[i] * s
                    z[i] = t
                    s2 = s
                    s = t


@Kernel
def backward(lo, hi, table, offsets, indptr, indices, data, y):
    """Stretches hi - 1, ..., lo of  A^T y = y:  y_j -= A_ij y_i for all j < i, a scatter."""
    for q in range(hi - 1, lo - 1, -1):
        first = table[q, FIRST]
        rows = table[q, ROWS]
        w = table[q, WIDTH]
        if w == 0:
            e1 = np.uint64(indptr[first + rows])
            for p in range(rows):
                i = np.uint64(first + rows - 1 - p)
                e0 = np.uint64(indptr[i])
                s = y[i]
                if e1 - e0 == 3:
                    y[indices[e0]] -= data[e0] * s
                    y[indices[e0 + ONE]] -= data[e0 + ONE] * s
                else:
                    for e in range(e0, e1 - ONE):
                        y[indices[e]] -= data[e] * s
                e1 = e0
            continue
        d = offsets[table[q, PLACE]:table[q, PLACE] + w]
        near = table[q, NEAR]
        size = min(2 * FALLING // w, table[q, REACH])  # values that are read once for every diagonal stay near as well
        a = data[table[q, ENTRY]:table[q, ENTRY] + rows * (w + 1)].reshape(rows, w + 1)
        for end in range(rows, 0, -size):
            n = min(size, end)
            r = end - n
            f = first + r
            z, below, below2 = y[f:f + n], y[f - 1:f + n - 1], y[f - near:f + n - near]
            if near == 1:
                c = a[r:end, w - 1]
                s = z[n - 1]
                for p in range(n):
                    i = np.uint64(n - 1 - p)
                    z[i] = s
                    s = below[i] - c[i] * s
                y[f - 1] = s
            elif near == 2:
                c = a[r:end, w - 1]
                c2 = a[r:end, w - 2]
                s = z[n - 1]
                s2 = y[f + n - 2]
                for p in range(n):
                    i = np.uint64(n - 1 - p)
                    z[i] = s
                    t = below2[i] - c2[i] * s
                    s = s2 - c[i] * s
                    s2 = t
                y[f - 1] = s
                y[f - 2] = s2
            for k in range(w - near):
                c = a[r:end, k]
                x = y[f + d[k]:f + d[k] + n]
                for i in range(n):
                    x[i] -= c[i] * z[i]


@Kernel
def forward_columns(lo, hi, table, offsets, indptr, indices, data, y):
    """`forward` for all columns of y (n, m), row-major: the matrix is streamed once."""
    m = y.shape[1]
    block = BLOCK // min(max(m, 1), FAR)
    for q in range(lo, hi):
        first = table[q, FIRST]
        rows = table[q, ROWS]
        w = table[q, WIDTH]
        if w == 0:
            end = np.uint64(indptr[first + rows] if scattered(first, rows, indptr, indices, m) else 0)
            for i in range(first, first + rows):
                e0 = np.uint64(indptr[i])
                e1 = np.uint64(indptr[i + 1]) - ONE
                if e1 + AHEAD < end:
                    for e in range(e0 + AHEAD, e1 + AHEAD):
                        fetch(y, indices[e])
                if m >= WIDE:
                    to = y[i]
                    for e in range(e0, e1):
                        c1 = data[e]
                        of = y[indices[e]]
                        for k in range(m):
                            to[k] -= c1 * of[k]
                    continue
                if m >= 4:  # sums in registers; places that are known not to wrap around make four of them a vector
                    s0, s1, s2, s3 = y[i, 0], y[i, 1], y[i, 2], y[i, 3]
                    for e in range(e0, e1):
                        c1 = data[e]
                        j = indices[e]
                        s0 -= c1 * y[j, 0]
                        s1 -= c1 * y[j, 1]
                        s2 -= c1 * y[j, 2]
                        s3 -= c1 * y[j, 3]
                    y[i, 0], y[i, 1], y[i, 2], y[i, 3] = s0, s1, s2, s3
                for t in range(4 * (m // 4), m):
                    k0 = np.uint64(t)
                    s0 = y[i, k0]
                    for e in range(e0, e1):
                        s0 -= data[e] * y[indices[e], k0]
                    y[i, k0] = s0
            continue
        d = offsets[table[q, PLACE]:table[q, PLACE] + w]
        near = table[q, NEAR]
        size = min(block, table[q, REACH])
        a = data[table[q, ENTRY]:table[q, ENTRY] + rows * (w + 1)].reshape(rows, w + 1)
        for r in range(0, rows, size):
            n = min(size, rows - r)
            f = first + r
            z = y[f:f + n]
            for p in range(w - near):
                c = a[r:r + n, p]
                x = y[f + d[p]:f + d[p] + n]
                subtract(c, x, z, False)
            if near == 0:
                continue
            if m >= WIDE:
                for i in range(n):
                    for p in range(w - near, w):
                        c1 = a[r + i, p]
                        j = f + i + d[p]
                        for k in range(m):
                            y[f + i, k] -= c1 * y[j, k]
                continue
            c = a[r:r + n, w - 1]
            c2 = a[r:r + n, w - near]
            four = m - m % 4
            for k0 in range(0, four, 4):  # none of them waits for the others
                k1, k2, k3 = k0 + 1, k0 + 2, k0 + 3
                j = f - 1
                s0, s1, s2, s3 = y[j, k0], y[j, k1], y[j, k2], y[j, k3]
                if near == 1:
                    for i in range(n):
                        ci = c[i]
                        s0 = z[i, k0] - ci * s0
                        s1 = z[i, k1] - ci * s1
                        s2 = z[i, k2] - ci * s2
                        s3 = z[i, k3] - ci * s3
                        z[i, k0], z[i, k1], z[i, k2], z[i, k3] = s0, s1, s2, s3
                else:
                    j = f - 2
                    t0, t1, t2, t3 = y[j, k0], y[j, k1], y[j, k2], y[j, k3]
                    for i in range(n):
                        ci, di = c[i], c2[i]
                        u0 = (z[i, k0] - di * t0) - ci * s0
                        u1 = (z[i, k1] - di * t1) - ci * s1
                        u2 = (z[i, k2] - di * t2) - ci * s2
                        u3 = (z[i, k3] - di * t3) - ci * s3
                        z[i, k0], z[i, k1], z[i, k2], z[i, k3] = u0, u1, u2, u3
                        t0, t1, t2, t3 = s0, s1, s2, s3
                        s0, s1, s2, s3 = u0, u1, u2, u3
            for k in range(four, m):
                s = y[f - 1, k]
                if near == 1:
                    for i in range(n):
                        s = z[i, k] - c[i] * s
                        z[i, k] = s
                else:
                    before = y[f - 2, k]
                    for i in range(n):
                        t = (z[i, k] - c2[i] * before) - c[i] * s
                        z[i, k] = t
                        before = s
                        s = t


@Kernel
def backward_columns(lo, hi, table, offsets, indptr, indices, data, y):
    """`backward` for all columns of y (n, m), row-major: the matrix is streamed once."""
    m = y.shape[1]
    block = FALLING // min(max(m, 1), FAR)
    for q in range(hi - 1, lo - 1, -1):
        first = table[q, FIRST]
        rows = table[q, ROWS]
        w = table[q, WIDTH]
        if w == 0:
            begin = np.uint64(indptr[first] if scattered(first, rows, indptr, indices, m) else indptr[first + rows])
            for i in range(first + rows - 1, first - 1, -1):
                e0 = np.uint64(indptr[i])
                e1 = np.uint64(indptr[i + 1]) - ONE
                if e0 >= begin + AHEAD:
                    for e in range(e0 - AHEAD, e1 - AHEAD):
                        fetch(y, indices[e])
                if m >= WIDE:
                    of = y[i]
                    for e in range(e0, e1):
                        c1 = data[e]
                        to = y[indices[e]]
                        for k in range(m):
                            to[k] -= c1 * of[k]
                    continue
                if m >= 4:
                    s0, s1, s2, s3 = y[i, 0], y[i, 1], y[i, 2], y[i, 3]
                    for e in range(e0, e1):
                        c1 = data[e]
                        j = indices[e]
                        y[j, 0] -= c1 * s0
                        y[j, 1] -= c1 * s1
                        y[j, 2] -= c1 * s2
                        y[j, 3] -= c1 * s3
                for t in range(4 * (m // 4), m):
                    k0 = np.uint64(t)
                    s0 = y[i, k0]
                    for e in range(e0, e1):
                        y[indices[e], k0] -= data[e] * s0
            continue
        d = offsets[table[q, PLACE]:table[q, PLACE] + w]
        near = table[q, NEAR]
        size = min(block, table[q, REACH])
        a = data[table[q, ENTRY]:table[q, ENTRY] + rows * (w + 1)].reshape(rows, w + 1)
        for end in range(rows, 0, -size):
            n = min(size, end)
            r = end - n
            f = first + r
            z, below, below2 = y[f:f + n], y[f - 1:f + n - 1], y[f - near:f + n - near]
            if near > 0 and m >= WIDE:
                for p in range(n):
                    i = n - 1 - p
                    for g in range(w - near, w):
                        c1 = a[r + i, g]
                        j = f + i + d[g]
                        for k in range(m):
                            y[j, k] -= c1 * y[f + i, k]
            elif near > 0:
                c = a[r:end, w - 1]
                c2 = a[r:end, w - near]
                four = m - m % 4
                for k0 in range(0, four, 4):  # none of them waits for the others
                    k1, k2, k3 = k0 + 1, k0 + 2, k0 + 3
                    s0, s1, s2, s3 = z[n - 1, k0], z[n - 1, k1], z[n - 1, k2], z[n - 1, k3]
                    if near == 1:
                        for p in range(n):
                            i = np.uint64(n - 1 - p)
                            ci = c[i]
                            z[i, k0], z[i, k1], z[i, k2], z[i, k3] = s0, s1, s2, s3
                            s0 = below[i, k0] - ci * s0
                            s1 = below[i, k1] - ci * s1
                            s2 = below[i, k2] - ci * s2
                            s3 = below[i, k3] - ci * s3
                    else:
                        j = f + n - 2
                        t0, t1, t2, t3 = y[j, k0], y[j, k1], y[j, k2], y[j, k3]
                        for p in range(n):
                            i = np.uint64(n - 1 - p)
                            ci, di = c[i], c2[i]
                            z[i, k0], z[i, k1], z[i, k2], z[i, k3] = s0, s1, s2, s3
                            u0 = below2[i, k0] - di * s0
                            u1 = below2[i, k1] - di * s1
                            u2 = below2[i, k2] - di * s2
                            u3 = below2[i, k3] - di * s3
                            s0 = t0 - ci * s0
                            s1 = t1 - ci * s1
                            s2 = t2 - ci * s2
                            s3 = t3 - ci * s3
                            t0, t1, t2, t3 = u0, u1, u2, u3
                        j = f - 2
                        y[j, k0], y[j, k1], y[j, k2], y[j, k3] = t0, t1, t2, t3
                    j = f - 1
                    y[j, k0], y[j, k1], y[j, k2], y[j, k3] = s0, s1, s2, s3
                for k in range(four, m):
                    s = z[n - 1, k]
                    if near == 1:
                        for p in range(n):
                            i = np.uint64(n - 1 - p)
                            z[i, k] = s
                            s = below[i, k] - c[i] * s
                    else:
                        before = y[f + n - 2, k]
                        for p in range(n):
                            i = np.uint64(n - 1 - p)
                            z[i, k] = s
                            t = below2[i, k] - c2[i] * s
                            s = before - c[i] * s
                            before = t
                        y[f - 2, k] = before
                    y[f - 1, k] = s
            for p in range(w - near):
                c = a[r:end, p]
                x = y[f + d[p]:f + d[p] + n]
                subtract(c, z, x, True)
