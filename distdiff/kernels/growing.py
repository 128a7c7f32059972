"""A compiled loop that grows supersteps over all scalar lines of a program at once."""

from __future__ import annotations

import numpy as np

from .graph import Loop
from .jit import Helper


@Helper
def spread_lines(limit, ranks, ready, starts, readers, left, touched, following, owner, log):
    """One superstep of at most `limit` lines on rank 0 and as many on every other: (lines, lines on the busiest rank,
    how many of `ready` were taken).

    log: the lines in the order in which they were taken.  following: by line, the next in its rank's queue.
    """
    total, most, taken = 0, 0, 0
    for rank in range(ranks):
        load, head, tail = 0, -1, -1
        while load < limit:
            if head >= 0:
                i = head
                head = following[i]
            elif taken < len(ready):
                i = ready[taken]
                taken += 1
            else:
                break
            owner[i] = rank
            log[total] = i
            total += 1
            load += 1
            for e in range(starts[i], starts[i + 1]):
                j = readers[e]
                left[j] -= 1
                touched[j] = rank if touched[j] == -1 or touched[j] == rank else -2
                if left[j] == 0 and touched[j] == rank:
                    following[j] = -1
                    if head < 0:
                        head = j
                    else:
                        following[tail] = j
                    tail = j
        if rank == 0:
            limit = load
        most = max(most, load)
    return total, most, taken


@Loop
def grow_supersteps(a, b, ranks, latency, least, growth, worth):
    """(owner, superstep) of every line; a, b: the operands' positions among all lines, -1 for others.

    A superstep of `least` lines a rank is made `growth` times as large as long as lines / (lines of the busiest rank +
    latency) stays within `worth` of the best so far; then the last one that did is taken.  A rank goes on with lines
    whose operands it alone has computed in this superstep, and else takes the first of those that could be computed
    before it began.
    """
    n = len(a)
    starts, left = np.zeros(n + 1, np.int64), np.zeros(n, np.int64)
    for i in range(n):
        for second in range(2):
            j = b[i] if second else a[i]
            if j >= 0 and not (second and j == a[i]):
                starts[j + 1] += 1
                left[i] += 1
    for i in range(n):
        starts[i + 1] += starts[i]
    readers, at = np.empty(starts[n], np.int64), starts[:n].copy()
    for i in range(n):
        for second in range(2):
            j = b[i] if second else a[i]
            if j >= 0 and not (second and j == a[i]):
                readers[at[j]] = i
                at[j] += 1
    owner, step = np.full(n, -1, np.int32), np.zeros(n, np.int32)
    touched, following, log = np.full(n, -1, np.int32), np.empty(n, np.int64), np.empty(n, np.int64)
    ready = np.flatnonzero(left == 0)
    now, done = 0, 0
    while done < n:
        limit, chosen, best, before = least, 0, -1.0, 0
        total, taken = 0, 0
        while True:
            total, most, taken = spread_lines(limit, ranks, ready, starts, readers, left, touched, following, owner,
                                              log)
            score = total / (most + latency)
            last = chosen > 0 and (score < worth * best or total == before)
            if not last:
                chosen, best, before = limit, max(best, score), total
            if last and total == before and score >= worth * best:
                break  # there is no more to be taken: this is the chosen one as well
            for k in range(total):  # undone
                i = log[k]
                owner[i] = -1
                for e in range(starts[i], starts[i + 1]):
                    left[readers[e]] += 1
                    touched[readers[e]] = -1
            if last:
                total, most, taken = spread_lines(chosen, ranks, ready, starts, readers, left, touched, following,
                                                  owner, log)
                break
            limit = max(limit + 1, int(limit * growth))
        new = 0  # lines that can be computed from now on, in the place of the ranks' queues
        for k in range(total):
            i = log[k]
            step[i] = now
            for e in range(starts[i], starts[i + 1]):
                j = readers[e]
                touched[j] = -1
                if left[j] == 0 and owner[j] < 0:
                    left[j] = -1
                    following[new] = j
                    new += 1
        further = np.sort(np.concatenate((ready[taken:], following[:new])))
        for j in further:
            left[j] = 0
        ready = further
        done += total
        now += 1
    return owner, step


__all__ = ["grow_supersteps"]
