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
def of_boxes(table, passes, places, touched):
    """What boxes of `combine.Tables` touch, by rows of the workspace, along the axis on which each can be cut: the
    first with more than one index."""
    n = 0
    for c in range(len(table)):
        cell = table[c]
        axis = 2
        for k in range(2):
            if cell[1 + k] - cell[9 + k] > 1:
                axis = k
                break
        begin, end, size = cell[9 + axis], cell[1 + axis], max(cell[8] - cell[7], 1)
        for k in range(3):
            if k != axis:
                size *= cell[1 + k] - cell[9 + k]
        places[c, 0], places[c, 1], places[c, 2] = 9 + axis, 1 + axis, n
        for p in range(cell[7] - 1, cell[8]):  # the result, then what it is made of
            own, first, step, reach = p < cell[7], cell[0], cell[4 + axis], np.int64(0)
            if not own:
                first, step = passes[p, 0], passes[p, 1 + axis]
            for k in range(3):
                if k != axis:
                    s = cell[4 + k] if own else passes[p, 1 + k]
                    span = s * (cell[1 + k] - 1 - cell[9 + k])
                    first, reach = first + s * cell[9 + k] + min(span, 0), reach + abs(span)
            row = touched[n]
            row[0], row[1], row[2], row[3], row[4], row[5] = first, step, reach, begin, end, size if own else 0
            n += 1
        places[c, 3] = n


@jit
def of_groups(table, code, places, touched):
    """What groups of `tiles.Program` touch, by bytes, along the rows of their grids."""
    n = 0
    for g in range(len(table)):
        places[g, 0], places[g, 1], places[g, 2] = 4, 2, n
        for k in range(table[g, 0], table[g, 1]):
            c = code[k]
            operands = 2 if c[0] < len(BINARY) else 3 if c[0] == WHERE else 1
            for q in range(operands + 1):
                at = 5 if q == 0 else 4 + 4 * q
                reach = 8 * (c[3] - 1) * (1 if q == 0 else c[at + 3])
                row = touched[n]
                row[0], row[1], row[2], row[3], row[4] = c[at] + min(reach, 0), c[at + 1], abs(reach), c[1], c[2]
                row[5] = c[3] if q == 0 else 0
                if c[at + 2]:  # in the tile's own memory
                    row[2] = -1
                n += 1
        places[g, 3] = n


@jit
def share(table, places, touched, width, arriving, early, late, room):
    """Share out the rows of a table, each a range of indices, to those that nothing arriving is needed for, and the
    rest in order.

    places (n, 4): columns in which a row's range begins and ends; its rows of `touched`, first and last + 1
    touched (t, 6): address of index 0, how far it moves with every index, and reaches (< 0: nowhere); the first and the
        last + 1 index that touches it; how many elements it writes there, 0 if it reads
    width : of what lies at an address
    arriving (k, 2): the addresses that messages write

    Fills early (n, ...) and late (2 n, ...); room (2, r, 2) is for intervals.  Returns their numbers and the
    elements of the early ones; -1: no room.
    """
    written, read = room[0], room[1]  # what later rows must not read or write, and what they must not write
    w = r = 0
    for k in range(len(arriving)):
        w = _add(written, w, arriving[k, 0], arriving[k, 1])
        if w < 0:
            return -1, -1, -1
    n_early = n_late = elements = 0
    for g in range(len(table)):
        low_column, high_column = places[g, 0], places[g, 1]
        begin, end = table[g, low_column], table[g, high_column]
        a, b = begin, end
        for k in range(places[g, 2], places[g, 3]):
            first, step, reach, low, high, writes = touched[k]
            low, high = max(a, low), min(b, high)
            if reach < 0 or low >= high:
                continue
            x, y = _clear(written, w, first, step, reach, low, high)
            if writes:
                x, y = _clear(read, r, first, step, reach, x, y)
            if (x, y) != (low, high):  # indices that do not touch it may stay
                if x >= y:
                    if low - a > b - high:
                        b = low
                    else:
                        a = high
                else:
                    a, b = x if x > low else a, y if y < high else b
        if a < b:
            early[n_early] = table[g]
            early[n_early, low_column], early[n_early, high_column] = a, b
            n_early += 1
            for k in range(places[g, 2], places[g, 3]):
                elements += max(min(b, touched[k, 4]) - max(a, touched[k, 3]), 0) * touched[k, 5]
        else:
            a = b = end
        for lo, hi in ((begin, a), (b, end)):
            if lo >= hi:
                continue
            late[n_late] = table[g]
            late[n_late, low_column], late[n_late, high_column] = lo, hi
            n_late += 1
            for k in range(places[g, 2], places[g, 3]):
                first, step, reach, low, high, writes = touched[k]
                low, high = max(lo, low), min(hi, high)
                if reach < 0 or low >= high:
                    continue
                one, other = first + step * low, first + step * (high - 1)
                lo_at, hi_at = min(one, other), max(one, other) + reach + width
                if writes:
                    w = _add(written, w, lo_at, hi_at)
                else:
                    r = _add(read, r, lo_at, hi_at)
                if w < 0 or r < 0:
                    return -1, -1, -1
    return n_early, n_late, elements


@jit
def boxes(table, passes, arriving, early, late, room):
    """`share` for boxes of `combine.Tables`."""
    n = len(table)
    for c in range(len(table)):
        n += table[c, 8] - table[c, 7]
    places, touched = np.empty((len(table), 4), dtype=np.int64), np.empty((n, 6), dtype=np.int64)
    of_boxes(table, passes, places, touched)
    return share(table, places, touched, 1, arriving, early, late, room)


@jit
def groups(table, code, arriving, early, late, room):
    """`share` for groups of `tiles.Program`."""
    places, touched = np.empty((len(table), 4), dtype=np.int64), np.empty((4 * len(code), 6), dtype=np.int64)
    of_groups(table, code, places, touched)
    return share(table, places, touched, 8, arriving, early, late, room)
