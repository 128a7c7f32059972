"""The compiled loops of `copies` (importing this module imports Numba)."""

from __future__ import annotations

from .addresses import doubles
from .jit import jit

COPY, MOVE, ADD = range(3)


@jit
def run(table):
    """All copies in turn; the columns of the table are those that `copies.Copies` writes."""
    for k in range(len(table)):
        how, rows, n, to, to_row, t, source, from_row, f = table[k]
        for i in range(rows):
            y, x = doubles(to + 8 * i * to_row), doubles(source + 8 * i * from_row)
            if how == ADD:
                for j in range(n):
                    y[j * t] += x[j * f]
            elif t == 1 and f == 1:
                for j in range(n):
                    y[j] = x[j]
            else:
                for j in range(n):
                    y[j * t] = x[j * f]
            if how == MOVE:
                for j in range(n):
                    x[j * f] = 0.0


@jit
def pick(n, how, to, where, source, places):
    """n elements, one after another (see `copies.Picked`)."""
    for i in range(n):
        t, f = where[i], places[i]
        if how == ADD:
            to[t] += source[f]
        else:
            to[t] = source[f]
        if how == MOVE:
            source[f] = 0.0
