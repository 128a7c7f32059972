"""The compiled loops of `stream` (importing this module imports Numba).

One loop for each way in which arguments can coincide: the compiler vectorises only where it can tell arrays apart.
"""

from __future__ import annotations

from .jit import jit


@jit(contract=True)
def linear(dst, s1, first, s2, second):
    for i in range(len(dst)):
        dst[i] = s1 * first[i] + s2 * second[i]


@jit(contract=True)
def linear_into(dst, s1, s2, second):
    for i in range(len(dst)):
        dst[i] = s1 * dst[i] + s2 * second[i]


@jit(contract=True)
def scale_by(dst, s, p, c):
    for i in range(len(dst)):
        dst[i] = (s * p[i] + c) * dst[i]


@jit(contract=True)
def product_alone(dst, s, p, c, second):
    for i in range(len(dst)):
        dst[i] = (s * p[i] + c) * second[i]


@jit(contract=True)
def product_into(dst, s1, s2, p, c, second):
    for i in range(len(dst)):
        dst[i] = s1 * dst[i] + (s2 * p[i] + c) * second[i]


@jit(contract=True)
def product_onto(dst, s1, first, s2, p, c):
    for i in range(len(dst)):
        dst[i] = s1 * first[i] + (s2 * p[i] + c) * dst[i]


@jit(contract=True)
def product(dst, s1, first, s2, p, c, second):
    for i in range(len(dst)):
        dst[i] = s1 * first[i] + (s2 * p[i] + c) * second[i]


@jit(contract=True)
def columns(dst, s1, first, s2, p, c, second):
    n, m = dst.shape
    for i in range(n):
        w = s2 * p[i] + c
        for k in range(m):
            dst[i, k] = s1 * first[i, k] + w * second[i, k]


@jit(contract=True)
def scatter_add(places, values, vector):
    for i in range(len(places)):
        vector[places[i]] += values[i]


@jit(contract=True)
def scatter_add_columns(places, values, vector):
    for i in range(len(places)):
        for k in range(values.shape[1]):
            vector[places[i], k] += values[i, k]
