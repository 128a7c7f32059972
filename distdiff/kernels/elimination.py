"""A compiled loop that foresees what elimination leaves of a scalar run (see `preaccumulate` for the rules)."""

from __future__ import annotations

import numpy as np

from .graph import SMALL, Loop
from .jit import worth_it


@Loop
def eliminate(op, a, b, active, first, kept, root, head):
    """Rows that a run's lines leave, and their entries, the diagonal included; returns both.

    active[2 op + k]: whether operand k carries a derivative.  kept comes in with the lines that are wanted for
    themselves and goes out with all that are kept, root and head come in as they like.  root[i] becomes the only line
    that i depends on (-1 none, -2 - id one before the run, i itself if there are several), head[i] the kept line in
    which all uses of i end (-1 it has none, -2 there are several).
    """
    n = len(op)
    for i in range(n):
        r, several = -1, False
        for second in range(2):
            j = b[i] if second else a[i]
            if j < 0 or not active[2 * op[i] + second]:
                continue
            q = root[j - first] if j >= first else -2 - j
            if q == -1 or q == r:
                continue
            if r != -1:
                several = True
                break
            r = q
        root[i] = i if several or kept[i] else r
        head[i] = -1
    for i in range(n - 1, -1, -1):
        if root[i] != i or (head[i] == -1 and not kept[i]):
            continue
        if kept[i] or head[i] == -2:
            kept[i], head[i] = True, i
        for second in range(2):
            j = b[i] if second else a[i]
            if j < first or not active[2 * op[i] + second]:
                continue
            q = root[j - first]
            if q >= 0 and head[q] != head[i]:
                head[q] = head[i] if head[q] == -1 else -2
    rows, entries = 0, 0
    reader, read = np.full(1024, -1), np.full(1024, -1)  # the latest entries, of which each counts once
    for i in range(n):
        h = head[i]
        if root[i] != i or h < 0:
            continue
        if h == i:
            rows += 1
            entries += 1
        for second in range(2):
            j = b[i] if second else a[i]
            if j < 0 or not active[2 * op[i] + second]:
                continue
            q = root[j - first] if j >= first else -2 - j
            if q == -1 or (q >= 0 and not kept[q]):
                continue
            slot = (7 * h + q) & 1023
            if reader[slot] != h or read[slot] != q:
                reader[slot], read[slot] = h, q
                entries += 1
    return rows, entries


def whole(n: int) -> bool:
    """Whether so many lines are worth the loop compiled, so that all of them can be looked at; else hand it lists."""
    return worth_it(n, SMALL)
