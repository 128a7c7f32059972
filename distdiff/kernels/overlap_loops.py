"""The compiled loops of `overlap` (importing this module imports Numba).

Intervals lo <= address < hi are rows of a table, in use the first `count` of them.
"""

from __future__ import annotations

import numpy as np

from .jit import jit
from .tile_loops import BINARY, WHERE


@jit
def _add(table, count, lo, hi):
    """One more interval, joined with one that it meets; returns their number.  -1: no room."""
    for k in range(count):
        if table[k, 0] <= hi and lo <= table[k, 1]:
            table[k, 0], table[k, 1] = min(lo, table[k, 0]), max(hi, table[k, 1])
            return count
    if count == len(table):
        return -1
    table[count, 0], table[count, 1] = lo, hi
    return count + 1


@jit
def _clear(table, count, first, step, reach, a, b):
    """Of the indices a <= i < b an interval [a, b) whose addresses first + step i, ..., + reach are in no interval:
    what is left on the longer side of each that is in the way."""
    for k in range(count):
        lo, hi = table[k, 0], table[k, 1]
        if step == 0:
            if first < hi and lo <= first + reach:
                return a, a
            continue
        if step > 0:
            x, y = -((first + reach - lo) // step), -((first - hi) // step)
        else:
            x, y = (first - hi) // -step + 1, (first + reach - lo) // -step + 1
        if x < y and x < b and y > a:
            if x - a > b - y:
                b = x
            else:
                a = y
        if a >= b:
            return a, a
    return a, b


@jit
def _span(first, step, reach, a, b):
    """The first and the last address of the indices a <= i < b."""
    one, other = first + step * a, first + step * (b - 1)
    return min(one, other), max(one, other) + reach


@jit
def _reads(cell, passes, p, axis):
    """Where pass p of a box reads (before the first: where it writes): address, step along the axis, others' reach."""
    first, step, reach = cell[0], cell[4 + axis], np.int64(0)
    if p >= cell[7]:
        first, step = passes[p, 0], passes[p, 1 + axis]
    for k in range(3):
        if k != axis:
            s = cell[4 + k] if p < cell[7] else passes[p, 1 + k]
            span = s * (cell[1 + k] - 1 - cell[9 + k])
            first, reach = first + s * cell[9 + k] + min(span, 0), reach + abs(span)
    return first, step, reach


@jit
def cells(table, passes, arriving, early, late, room):
    """Share out the boxes of `combine.Tables` to those that nothing arriving is needed for, and the rest in order.

    arriving (k, 2): the rows of the workspace that messages write.  Fills early (c, 12) and late (2 c, 12); room (2, r,
    2) is for intervals.  Returns their numbers and the elements of the early ones; -1: no room.
    """
    written, read = room[0], room[1]  # what later boxes must not read or write, and what they must not write
    w = r = 0
    for k in range(len(arriving)):
        w = _add(written, w, arriving[k, 0], arriving[k, 1])
        if w < 0:
            return -1, -1, -1
    n_early = n_late = elements = 0
    for c in range(len(table)):
        cell = table[c]
        axis = 2
        for k in range(2):
            if cell[1 + k] - cell[9 + k] > 1:
                axis = k
                break
        begin, end = cell[9 + axis], cell[1 + axis]
        a, b = begin, end
        size = 1
        for k in range(3):
            if k != axis:
                size *= cell[1 + k] - cell[9 + k]
        for p in range(cell[7] - 1, cell[8]):  # the result, then what it is made of
            first, step, reach = _reads(cell, passes, p, axis)
            a, b = _clear(written, w, first, step, reach, a, b)
            if p < cell[7]:
                a, b = _clear(read, r, first, step, reach, a, b)
        if a < b:
            early[n_early] = cell
            early[n_early, 9 + axis], early[n_early, 1 + axis] = a, b
            n_early += 1
            elements += (b - a) * size * max(cell[8] - cell[7], 1)
        else:
            a = b = end
        for lo, hi in ((begin, a), (b, end)):
            if lo >= hi:
                continue
            late[n_late] = cell
            late[n_late, 9 + axis], late[n_late, 1 + axis] = lo, hi
            n_late += 1
            for p in range(cell[7] - 1, cell[8]):
                first, step, reach = _reads(cell, passes, p, axis)
                lo_at, hi_at = _span(first, step, reach, lo, hi)
                if p < cell[7]:
                    w = _add(written, w, lo_at, hi_at + 1)
                else:
                    r = _add(read, r, lo_at, hi_at + 1)
                if w < 0 or r < 0:
                    return -1, -1, -1
    return n_early, n_late, elements


@jit
def _operands(op):
    """Of an instruction of `tiles`."""
    return 2 if op < len(BINARY) else 3 if op == WHERE else 1


@jit
def groups(table, code, arriving, early, late, room):
    """The same for groups of `tiles.Program`, whose rows of the grid are shared out; addresses are bytes.

    Fills early (g, 5) and late (2 g, 5).
    """
    written, read = room[0], room[1]
    w = r = 0
    for k in range(len(arriving)):
        w = _add(written, w, arriving[k, 0], arriving[k, 1])
        if w < 0:
            return -1, -1, -1
    n_early = n_late = elements = 0
    for g in range(len(table)):
        begin, end = table[g, 4], table[g, 2]
        a, b = begin, end
        for k in range(table[g, 0], table[g, 1]):
            c = code[k]
            for q in range(_operands(c[0]) + 1):
                at = 5 if q == 0 else 4 + 4 * q
                if c[at + 2]:  # in the tile's own memory
                    continue
                reach = 8 * (c[3] - 1) * (1 if q == 0 else c[at + 3])
                first = c[at] + min(reach, 0)
                low, high = max(a, c[1]), min(b, c[2])
                x, y = _clear(written, w, first, c[at + 1], abs(reach), low, high)
                if q == 0:
                    x, y = _clear(read, r, first, c[at + 1], abs(reach), x, y)
                if low < high and (x, y) != (low, high):  # rows without this instruction may stay
                    if x >= y:
                        if low - a > b - high:
                            b = low
                        else:
                            a = high
                    else:
                        a, b = x if x > low else a, y if y < high else b
        if a < b:
            early[n_early] = table[g]
            early[n_early, 4], early[n_early, 2] = a, b
            n_early += 1
            for k in range(table[g, 0], table[g, 1]):
                elements += max(min(b, code[k, 2]) - max(a, code[k, 1]), 0) * code[k, 3]
        else:
            a = b = end
        for lo, hi in ((begin, a), (b, end)):
            if lo >= hi:
                continue
            late[n_late] = table[g]
            late[n_late, 4], late[n_late, 2] = lo, hi
            n_late += 1
            for k in range(table[g, 0], table[g, 1]):
                c = code[k]
                low, high = max(lo, c[1]), min(hi, c[2])
                if low >= high:
                    continue
                for q in range(_operands(c[0]) + 1):
                    at = 5 if q == 0 else 4 + 4 * q
                    if c[at + 2]:
                        continue
                    reach = 8 * (c[3] - 1) * (1 if q == 0 else c[at + 3])
                    lo_at, hi_at = _span(c[at] + min(reach, 0), c[at + 1], abs(reach), low, high)
                    if q == 0:
                        w = _add(written, w, lo_at, hi_at + 8)
                    else:
                        r = _add(read, r, lo_at, hi_at + 8)
                    if w < 0 or r < 0:
                        return -1, -1, -1
    return n_early, n_late, elements
