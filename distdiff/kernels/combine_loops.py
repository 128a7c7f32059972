"""The compiled loops of `combine` (importing this module imports Numba).

A product of b, p and q may underflow where b p q src would not, and nothing would tell.  So src is multiplied by one of
them after the other, p before q, by b first if it makes larger and last if it makes smaller; only where b is SAFE are b
and a single p taken together, several terms in a loop.
"""

from __future__ import annotations

from .addresses import doubles
from .jit import jit

SAFE = 2.0**-26  # numbers from which on a product with one partial is as good as the partial
TILE = 1024  # elements: what a tile of the result and a few operands take stays in the first cache level


@jit(contract=True)
def _one(write, n, d, a, b, p, s):
    if write:
        for i in range(n):
            d[i] = (a + b * p[i]) * s[i]
    else:
        for i in range(n):
            d[i] += (a + b * p[i]) * s[i]


@jit(contract=True)
def _two(write, n, d, a0, b0, p0, s0, a1, b1, p1, s1):
    if write:
        for i in range(n):
            d[i] = (a0 + b0 * p0[i]) * s0[i] + (a1 + b1 * p1[i]) * s1[i]
    else:
        for i in range(n):
            d[i] += (a0 + b0 * p0[i]) * s0[i] + (a1 + b1 * p1[i]) * s1[i]


@jit(contract=True)
def _three(write, n, d, a0, b0, p0, s0, a1, b1, p1, s1, a2, b2, p2, s2):
    if write:
        for i in range(n):
            d[i] = (a0 + b0 * p0[i]) * s0[i] + (a1 + b1 * p1[i]) * s1[i] + (a2 + b2 * p2[i]) * s2[i]
    else:
        for i in range(n):
            d[i] += (a0 + b0 * p0[i]) * s0[i] + (a1 + b1 * p1[i]) * s1[i] + (a2 + b2 * p2[i]) * s2[i]


@jit(contract=True)
def _product(write, n, d, a, first, last, p, q, s):
    if write:
        for i in range(n):
            d[i] = a * s[i] + last * (q[i] * (p[i] * (first * s[i])))
    else:
        for i in range(n):
            d[i] += a * s[i] + last * (q[i] * (p[i] * (first * s[i])))


@jit(contract=True)
def _scaled(write, n, d, dd, a, s, ds):
    for i in range(n):
        t = a * s[i * ds]
        d[i * dd] = t if write else d[i * dd] + t


@jit(contract=True)
def _single(write, n, d, dd, a, first, last, p, dp, s, ds):
    for i in range(n):
        t = a * s[i * ds] + last * (p[i * dp] * (first * s[i * ds]))
        d[i * dd] = t if write else d[i * dd] + t


@jit(contract=True)
def _strided(write, n, d, dd, a, first, last, p, dp, q, dq, s, ds):
    for i in range(n):
        t = a * s[i * ds] + last * (q[i * dq] * (p[i * dp] * (first * s[i * ds])))
        d[i * dd] = t if write else d[i * dd] + t


@jit(contract=True)
def _simple(row, factor):
    """Whether a pass has unit strides and at most one factor, so that it can share a loop with others."""
    return row[3] == 1 and row[8] == 0 and (row[4] == 0 or (row[7] == 1 and abs(factor[1]) >= SAFE))


@jit(contract=True)
def _halves(b):
    """b as two factors, the one that a vector is multiplied by before all else and the one after it."""
    return (b, 1.0) if abs(b) > 1.0 else (1.0, b)


@jit(contract=True)
def _scale(W, d, step, n, row, factor, i0, i1, i2):
    """The first pass where it reads dst itself: compilers vectorise only what they can tell apart."""
    a, b = factor
    if row[4] == 0:
        if a != 1.0:
            for i in range(n):
                d[i * step] *= a
        return
    p, dp = doubles(row[4] + 8 * (i0 * row[5] + i1 * row[6] + i2 * row[7])), row[7]
    first, last = _halves(b)
    if row[8] == 0:
        for i in range(n):
            d[i * step] = a * d[i * step] + last * (p[i * dp] * (first * d[i * step]))
        return
    q, dq = doubles(row[8] + 8 * (i0 * row[9] + i1 * row[10] + i2 * row[11])), row[11]
    for i in range(n):
        d[i * step] = a * d[i * step] + last * (q[i * dq] * (p[i * dp] * (first * d[i * step])))


@jit(contract=True)
def _operands(W, row, i0, i1, i2):
    s = doubles(W + 8 * (row[0] + i0 * row[1] + i1 * row[2] + i2))
    if row[4] == 0:
        return s, s  # a factor that is multiplied by zero
    return s, doubles(row[4] + 8 * (i0 * row[5] + i1 * row[6] + i2))


@jit(contract=True)
def _general(write, W, d, step, n, row, factor, i0, i1, i2):
    a, b = factor
    s = doubles(W + 8 * (row[0] + i0 * row[1] + i1 * row[2] + i2 * row[3]))
    if row[4] == 0:
        _scaled(write, n, d, step, a, s, row[3])
        return
    p = doubles(row[4] + 8 * (i0 * row[5] + i1 * row[6] + i2 * row[7]))
    first, last = _halves(b)
    if row[8] == 0:
        _single(write, n, d, step, a, first, last, p, row[7], s, row[3])
        return
    q = doubles(row[8] + 8 * (i0 * row[9] + i1 * row[10] + i2 * row[11]))
    if step == 1 and row[7] == 1 and row[11] == 1 and row[3] == 1:
        _product(write, n, d, a, first, last, p, q, s)
    else:
        _strided(write, n, d, step, a, first, last, p, row[7], q, row[11], s, row[3])


@jit(contract=True)
def _tile(W, passes, factors, dst, step, n, i0, i1, i2, first, stop):
    d = doubles(W + 8 * dst)
    if first == stop:
        for i in range(n):
            d[i * step] = 0.0
    k, write = first, True
    if first < stop and passes[first, 0] + i0 * passes[first, 1] + i1 * passes[first, 2] + i2 * passes[first, 3] == dst:
        _scale(W, d, step, n, passes[first], factors[first], i0, i1, i2)
        k, write = first + 1, False
    while k < stop:
        together = 0
        if step == 1:
            while together < 3 and k + together < stop and _simple(passes[k + together], factors[k + together]):
                together += 1
        if together == 0:
            _general(write, W, d, step, n, passes[k], factors[k], i0, i1, i2)
            k, write = k + 1, False
            continue
        s0, p0 = _operands(W, passes[k], i0, i1, i2)
        a0, b0 = factors[k]
        if together == 1:
            _one(write, n, d, a0, b0, p0, s0)
        else:
            s1, p1 = _operands(W, passes[k + 1], i0, i1, i2)
            a1, b1 = factors[k + 1]
            if together == 2:
                _two(write, n, d, a0, b0, p0, s0, a1, b1, p1, s1)
            else:
                s2, p2 = _operands(W, passes[k + 2], i0, i1, i2)
                a2, b2 = factors[k + 2]
                _three(write, n, d, a0, b0, p0, s0, a1, b1, p1, s1, a2, b2, p2, s2)
        k, write = k + together, False


@jit(contract=True)
def columns(W, cells, passes, factors, rows, m):
    """All cells in turn, on the m vectors of `rows` elements from address W on (see `combine.run`)."""
    for c in range(len(cells)):
        dst, n0, n1, n2, d0, d1, d2, first, stop, f0, f1, f2 = cells[c]
        for i0 in range(f0, n0):
            for i1 in range(f1, n1):
                for start in range(f2, n2, TILE):
                    n = min(TILE, n2 - start)
                    for column in range(m):
                        _tile(W + 8 * rows * column, passes, factors, dst + i0 * d0 + i1 * d1 + start * d2, d2, n,
                              i0, i1, start, first, stop)
