"""Compiled loops that find structure: reads, levels and paths of scalar runs, union-find, strong components.

`known` are the distinct nodes outside of a run that its lines read, ascending; programs read the same few again and
again, so the loops remember the places of the latest ones instead of searching.
"""

from __future__ import annotations

import numpy as np

from .graph import Loop
from .jit import Helper


@Loop
def reads_before(op, a, b, arity, first, ids, uses, begin, end):
    """What a run's lines read of nodes below `first`: (id, uses, first reader, last reader), as many as returned.

    An id may come several times, but one that is read again and again comes once.
    """
    latest, place = np.full(256, -1), np.zeros(256, np.int64)
    n = 0
    for i in range(len(op)):
        for second in range(2):
            j = b[i] if second else a[i]
            if j >= 0 and j < first and arity[op[i]] > second:
                slot = j & 255
                if latest[slot] != j:
                    latest[slot], place[slot] = j, n
                    ids[n], uses[n], begin[n] = j, 0, first + i
                    n += 1
                uses[place[slot]] += 1
                end[place[slot]] = first + i
    return n


@Loop
def even_stretches(ids, uses, begin, end, begins):
    """Where stretches of nodes begin in which all columns advance evenly, uses not at all; as many as returned."""
    n, i = 0, 0
    while i < len(ids):
        begins[n] = i
        n += 1
        k = i + 1
        if k < len(ids) and uses[k] == uses[i]:
            by, first, last = ids[k] - ids[i], begin[k] - begin[i], end[k] - end[i]
            while (k < len(ids) and uses[k] == uses[i] and ids[k] - ids[k - 1] == by
                   and begin[k] - begin[k - 1] == first and end[k] - end[k - 1] == last):
                k += 1
        i = k
    return n


@Loop
def walk(op, a, b, arity, first, known, known_level, known_time, cost, level, time, entry, length, uses, last):
    """Levels and longest paths of a run's lines; all outputs have an entry a line, uses (0) and last (-1) come filled.

    level: 1 + the largest level of an operand.  time: `cost` more than the latest operand's; that operand's path came
    into the run from known[entry] (-1: it began here), and length lines of it lie in the run.  uses, last: how many
    of the run's operands are the line, and the last line that reads it.
    """
    latest, place = np.full(256, -1), np.zeros(256, np.int64)
    for i in range(len(op)):
        top, when, come, long = -1, -1.0, -1, 0
        for second in range(2):
            j = b[i] if second else a[i]
            if j < 0 or arity[op[i]] <= second:
                continue
            if j >= first:
                k = j - first
                uses[k] += 1
                last[k] = i
                lv, t, e, m = level[k], time[k], entry[k], length[k]
            else:
                slot = j & 255
                if latest[slot] != j:
                    latest[slot], place[slot] = j, np.searchsorted(known, j)
                e = place[slot]
                lv, t, m = known_level[e], known_time[e], 0
            if lv > top:
                top = lv
            if t > when:
                when, come, long = t, e, m
        level[i], time[i], entry[i], length[i] = top + 1, max(when, 0.0) + cost, come, long + 1


@Loop
def steps_of(op, a, b, arity, first, known, known_step, known_part, adds, parts, uses, step, counts):
    """Steps of a run's lines (see `graph.steps`); outputs have an entry a line, counts comes as ones.

    adds, parts: by operation, whether it adds, and whether it is a part of what adds it if that alone reads it.
    known_step: -1 for inputs.  known_part: outside nodes that are parts.  uses: readers of every line, anywhere.
    counts: 0 for lines that are parts, or functions of an input.
    """
    latest, place = np.full(256, -1), np.zeros(256, np.int64)
    for i in range(len(op)):
        top, operands = -1, 0
        for second in range(2):
            j = b[i] if second else a[i]
            if j < 0 or arity[op[i]] <= second:
                continue
            operands += 1
            if j >= first:
                k = j - first
                s, part = step[k], uses[k] == 1 and parts[op[k]]
                if part and adds[op[i]]:
                    counts[k] = 0
            else:
                slot = j & 255
                if latest[slot] != j:
                    latest[slot], place[slot] = j, np.searchsorted(known, j)
                e = place[slot]
                s, part = known_step[e], known_part[e]
            if not (part and adds[op[i]]):
                s += 1
            if s > top:
                top = s
        step[i] = max(top, 1)
        if operands == 1 and top == 0:  # of an input
            step[i] = counts[i] = 0


@Loop
def count_active(op, a, b, active):
    """How many entries of L a run's lines have; active[k, op]: whether operation op has a derivative by operand k."""
    n = 0
    for i in range(len(op)):
        if a[i] >= 0 and active[0, op[i]]:
            n += 1
        if b[i] >= 0 and active[1, op[i]]:
            n += 1
    return n


@Loop
def spans(last, places, changes, change):
    """Adds to change (one more entry than lines): a line i is live at the cuts after i up to last[i], and what lies
    outside of the run makes changes at places.
    """
    for i in range(len(last)):
        if last[i] > i:
            change[i + 1] += 1
            change[last[i] + 1] -= 1
    for k in range(len(places)):
        change[places[k]] += changes[k]


@Loop
def last_readers(op, a, b, arity, first, last):
    """last[k] (-1 before) = the last line of the run that reads line k of it."""
    for i in range(len(op)):
        if a[i] >= first and arity[op[i]] > 0:
            last[a[i] - first] = i
        if b[i] >= first and arity[op[i]] > 1:
            last[b[i] - first] = i


@Loop
def tally_uses(uses, count):
    """count[k] += 1 for every node: k = 0 for none, else 1 + the power of two that its uses reach (1, 2, 3-4, ...)."""
    for i in range(len(uses)):
        k, most = 0, 1
        if uses[i] > 0:
            k = 1
            while most < uses[i]:
                most *= 2
                k += 1
        count[k] += 1


@Helper
def unite(root, p, k):
    """Unites the sets of p and k: the smaller of their smallest elements becomes the root of both."""
    while root[p] != p:
        root[p] = root[root[p]]
        p = root[p]
    while root[k] != k:
        root[k] = root[root[k]]
        k = root[k]
    if k < p:
        root[p] = k
    else:
        root[k] = p


@Loop
def join_run(op, a, b, arity, first, known, joins, counts, root, touched):
    """Weakly connected lines of a run: root[i] = the first line connected with line i (root comes as 0, 1, 2, ...).

    touched[q] = a line that reads known[q], -1 none; where joins[q] all lines that read it are connected.  Lines that
    don't count are alone, and connect nothing.
    """
    latest, place = np.full(256, -1), np.zeros(256, np.int64)
    for i in range(len(op)):
        if not counts[i]:
            continue
        for second in range(2):
            j = b[i] if second else a[i]
            if j < 0 or arity[op[i]] <= second:
                continue
            k = j - first
            if k >= 0 and not counts[k]:
                continue
            if k < 0:
                slot = j & 255
                if latest[slot] != j:
                    latest[slot], place[slot] = j, np.searchsorted(known, j)
                q = place[slot]
                k = touched[q]
                if k < 0:
                    touched[q] = i
                if k < 0 or not joins[q]:
                    continue
            unite(root, i, k)
    for i in range(len(op)):
        root[i] = root[root[i]]


@Loop
def join_pairs(x, y, root):
    """Unites the sets of x[k] and y[k]; afterwards root[i] is the smallest element of i's set."""
    for i in range(len(x)):
        unite(root, x[i], y[i])
    for i in range(len(root)):
        root[i] = root[root[i]]


@Loop
def strong(starts, indices, component):
    """Strongly connected components (Tarjan, SIAM J. Comput. 1972, without recursion); returns how many.

    Row i depends on the columns indices[starts[i]:starts[i + 1]]; component[i] (-1 before) numbers the components such
    that each depends only on those with smaller numbers.
    """
    n = len(component)
    order, low = np.full(n, -1), np.zeros(n, np.int64)
    stack, path, at = np.empty(n, np.int64), np.empty(n, np.int64), starts[:n].copy()
    held, deep, seen, count = 0, 0, 0, 0
    for begin in range(n):
        if order[begin] >= 0:
            continue
        path[0], deep = begin, 1
        while deep > 0:
            i = path[deep - 1]
            if order[i] < 0:
                order[i] = low[i] = seen
                stack[held] = i
                seen += 1
                held += 1
            down = False
            while at[i] < starts[i + 1]:
                j = indices[at[i]]
                if order[j] < 0:  # its turn comes first, and this edge again afterwards
                    path[deep] = j
                    deep += 1
                    down = True
                    break
                at[i] += 1
                if component[j] < 0 and low[j] < low[i]:
                    low[i] = low[j]
            if down:
                continue
            if low[i] == order[i]:
                j = -1
                while j != i:
                    held -= 1
                    j = stack[held]
                    component[j] = count
                count += 1
            deep -= 1
    return count


@Loop
def tally_cells(op, a, b, active, first, low, high, width, count):
    """count[(row - low) // width, (column - low) // width] += 1 for every entry of L in a run's lines, the first of
    which is row `first` >= low, with low <= column < high; active[k, op]: whether operation op has a derivative by
    operand k.
    """
    for i in range(len(op)):
        row = (first + i - low) // width
        for second in range(2):
            j = b[i] if second else a[i]
            if j >= low and j < high and j >= 0 and active[second, op[i]]:
                count[row, (j - low) // width] += 1
