"""Substitution on numbers with an exponent of their own, (m, e) for m 2^(512 e), which no product leaves the range of.

m is 0, or 2^-256 <= |m| < 2^256; e is a float, as it travels between ranks like any other.  Sums of two numbers whose
exponents differ by more than one are the larger of them, 2^512 times the other at least.  Arrays are (n, columns).
"""

from __future__ import annotations

from .csr import Kernel
from .jit import Helper

DIGIT = 2.0**512
LARGE, SMALL = 2.0**256, 2.0**-256
NAN = float("nan")


@Helper
def less(s, t, a, m, e):
    """(s, t) - a (m, e); NaN where anything is not finite."""
    if a - a != 0.0 or m - m != 0.0 or s - s != 0.0:
        return NAN, 0.0
    if a == 0.0 or m == 0.0:
        return s, t
    if abs(a) >= LARGE:
        a, e = a / DIGIT, e + 1.0
    elif abs(a) < SMALL:
        a, e = a * DIGIT, e - 1.0
    p = -a * m
    while abs(p) >= LARGE:
        p, e = p / DIGIT, e + 1.0
    while abs(p) < SMALL:
        p, e = p * DIGIT, e - 1.0
    if s == 0.0 or e > t + 1.0:
        return p, e
    if t > e + 1.0:
        return s, t
    if e > t:
        s, t = p + s / DIGIT, e
    elif t > e:
        s = s + p / DIGIT
    else:
        s = s + p
    if s == 0.0:
        return 0.0, 0.0
    while abs(s) >= LARGE:
        s, t = s / DIGIT, t + 1.0
    while abs(s) < SMALL:
        s, t = s * DIGIT, t - 1.0
    return s, t


@Kernel
def forward(lo, hi, indptr, indices, data, ghost_indptr, ghost_indices, ghost_data, gm, ge, m, e):
    """Rows lo, ..., hi - 1 of y <- (I - L)^-1 y, in order, with their ghosts."""
    for i in range(lo, hi):
        for k in range(m.shape[1]):
            s, t = m[i, k], e[i, k]
            for n in range(ghost_indptr[i], ghost_indptr[i + 1]):
                j = ghost_indices[n]
                s, t = less(s, t, ghost_data[n], gm[j, k], ge[j, k])
            for n in range(indptr[i], indptr[i + 1]):
                j = indices[n]
                if j != i:
                    s, t = less(s, t, data[n], m[j, k], e[j, k])
            m[i, k], e[i, k] = s, t


@Kernel
def backward(lo, hi, indptr, indices, data, ghost_indptr, ghost_indices, ghost_data, gm, ge, m, e):
    """Rows hi - 1, ..., lo of lam <- (I - L)^-T lam, in falling order; ghosts are added to."""
    for i in range(hi - 1, lo - 1, -1):
        for k in range(m.shape[1]):
            s, t = m[i, k], e[i, k]
            for n in range(ghost_indptr[i], ghost_indptr[i + 1]):
                j = ghost_indices[n]
                gm[j, k], ge[j, k] = less(gm[j, k], ge[j, k], ghost_data[n], s, t)
            for n in range(indptr[i], indptr[i + 1]):
                j = indices[n]
                if j != i:
                    m[j, k], e[j, k] = less(m[j, k], e[j, k], data[n], s, t)


@Kernel
def add(ids, more, exponents, m, e):
    """(m, e) in these rows += (more, exponents)."""
    for n in range(len(ids)):
        for k in range(m.shape[1]):
            m[ids[n], k], e[ids[n], k] = less(m[ids[n], k], e[ids[n], k], -1.0, more[n, k], exponents[n, k])
