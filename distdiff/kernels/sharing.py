"""Compiled loops that share long scalar code out level by level, and write it down again in another order.

They walk over a section, runs that follow each other, a run at a time: `first` is the section's first node, `start` the
place of the run's first line in it.  Columns over the section hold a level, an owner, and `flags` of every line, in
which USES counts its readers (up to MANY), and the bits are named below.
"""

from __future__ import annotations

import numpy as np

from .graph import Loop

USES = 15
MANY = 12  # readers: what is read so often says nothing about where its readers belong
ADDITIVE, LINK, SECOND, LONG, SENT = 16, 32, 64, 128, 256  # LINK: goes on from a chain of additions; SECOND: operand b
LENGTH = 9  # from this bit on: links so far, at most MOST
MOST = 15
MIN_LINKS = 8  # chains with fewer are lines like others
SHALLOW = 8  # levels whose lines may stand anywhere: what a step computes of its number, say ...
NEAR = 64  # ... if they are read so many lines later at most
LATER = np.iinfo(np.int32).max


@Loop
def count_readers(op, a, b, arity, add, subtract, first, start, flags):
    """USES and ADDITIVE of the lines so far."""
    for i in range(len(op)):
        flags[start + i] = ADDITIVE if op[i] == add or op[i] == subtract else 0
        for second in range(2):
            j = (b[i] if second else a[i]) - first
            if j >= 0 and arity[op[i]] > second and flags[j] & USES < MANY:
                flags[j] += 1


@Loop
def find_levels(op, a, b, arity, first, start, flags, level, most):
    """Levels in which a chain of additions is one sum: a link is no deeper than its deepest term.  Returns the deepest;
    -1 where one is more than `most`.

    A link goes on from an addition that it alone reads; of two such operands from the one with more links behind it.
    """
    deepest = 0
    for i in range(len(op)):
        link, longest, deep = -1, -1, 0
        for second in range(2):
            j = (b[i] if second else a[i]) - first
            if j < 0 or arity[op[i]] <= second:
                continue
            if flags[start + i] & ADDITIVE and flags[j] & ADDITIVE and flags[j] & USES == 1:
                length = flags[j] >> LENGTH
                if length > longest:
                    link, longest = second, length
            deep = max(deep, level[j] + 1)
        if link >= 0:
            j = (b[i] if link else a[i]) - first
            k = (a[i] if link else b[i]) - first
            deep = max(level[j], level[k] + 1) if k >= 0 else max(level[j], 1)
            flags[start + i] |= LINK | (SECOND if link else 0) | min(longest + 1, MOST) << LENGTH
        if deep > most:
            return -1
        level[start + i] = deep
        deepest = max(deepest, deep)
    return deepest


@Loop
def find_places(op, a, b, arity, first, start, flags, level, reader, count):
    """The levels by which lines are shared out, in the place of their own, and how many lines each has (runs in
    reverse).

    Links of long chains are not among them.  SHALLOW lines go to the level before that of the lowest NEAR reader that
    is no link: reader, of the NEAR lines before this one (LATER at first), each in its place modulo NEAR.
    """
    for k in range(len(op)):
        i = len(op) - 1 - k
        flag, near = flags[start + i], (start + i) % NEAR
        if level[start + i] < SHALLOW and reader[near] != LATER:
            level[start + i] = reader[near]
        reader[near] = LATER
        if flag & LINK:
            if flag >> LENGTH >= MIN_LINKS:
                flag |= LONG
                flags[start + i] = flag
            if flag & LONG:
                flags[(b[i] if flag & SECOND else a[i]) - first] |= LONG
        if not flag & LONG:
            count[level[start + i]] += 1
        if flag & LINK:
            continue
        for second in range(2):
            j = (b[i] if second else a[i]) - first
            if j >= 0 and arity[op[i]] > second and level[j] < SHALLOW and start + i - j < NEAR:
                reader[j % NEAR] = min(reader[j % NEAR], level[start + i] - 1)


@Loop
def share_levels(op, a, b, arity, first, start, flags, level, count, seen, ranks, wide, last, owner):
    """Owners.  A line goes with the operand that fewest lines read; where two do, on several ranks, or it is read by
    MANY, the line's level is cut, if it is wide, into equal parts in the order of the trace, of which the line belongs
    to one; else it goes with the operand computed last, or the line before.  Links of long chains go with their terms.
    Marks what is SENT.
    """
    for i in range(len(op)):
        flag, here = flags[start + i], level[start + i]
        latest, near, fewest, apart = -1, -1, MANY, False
        for second in range(2):
            j = (b[i] if second else a[i]) - first
            chain = flag & LONG != 0 and flag & LINK != 0 and (second == 1) == (flag & SECOND != 0)
            if j >= 0 and arity[op[i]] > second and not chain:
                latest = max(latest, j)
                uses = flags[j] & USES
                if uses < fewest:
                    near, fewest, apart = owner[j], uses, False
                elif uses == fewest and near >= 0:
                    apart = near != owner[j]
        if flag & LONG:
            if latest >= 0:
                last = owner[latest]
        else:
            if near >= 0 and not apart:
                last = near
            elif count[here] >= wide:
                last = seen[here] * ranks // count[here]
            elif latest >= 0:
                last = owner[latest]
            seen[here] += 1
        owner[start + i] = last
        for second in range(2):
            j = (b[i] if second else a[i]) - first
            if j >= 0 and arity[op[i]] > second and owner[j] != last:
                flags[j] |= SENT
    return last


@Loop
def find_steps(op, a, b, arity, first, start, flags, level, owner, anew, turned, end, bounds, parts, reached, most):
    """Supersteps, in the place of the levels of the lines so far; they never fall on a rank from level to level: what
    is SENT counts as sent to its own rank as well.  Returns the last; -1 where one is more than `most`.

    anew (ascending): lines at which a chain starts anew, so that what it has been, operand b where turned, is not read.
    end (ascending): lines that add up the lines parts[bounds[k]:bounds[k + 1]].  reached[rank, 1 + level]: the
    superstep so far.
    """
    k = np.searchsorted(anew, start)
    e = np.searchsorted(end, start)
    latest = 0
    for i in range(len(op)):
        here, s = owner[start + i], 0
        left_out = -1
        if k < len(anew) and anew[k] == start + i:
            left_out = turned[k]
            k += 1
        for second in range(2):
            j = (b[i] if second else a[i]) - first
            if j >= 0 and arity[op[i]] > second and second != left_out:
                s = max(s, level[j] + (1 if flags[j] & SENT or owner[j] != here else 0))
        if e < len(end) and end[e] == start + i:
            for n in range(bounds[e], bounds[e + 1]):
                s = max(s, level[parts[n]] + (1 if owner[parts[n]] != here else 0))
            e += 1
        s = max(s, reached[here, level[start + i]], reached[here, 1 + level[start + i]])
        if s > most:
            return -1
        reached[here, 1 + level[start + i]] = s
        level[start + i] = s
        latest = max(latest, s)
    return latest


@Loop
def read_elsewhere(op, a, b, arity, low, high, starts, shifts, homes, rank, reads):
    """The nodes of others that lines low <= i < high of a run read, in new numbers, into `reads`; returns how many.

    Nodes starts[k], ..., starts[k + 1] - 1 become j + shifts[k], and lie on rank homes[k].  Those that come again and
    again come once.
    """
    latest = np.full(256, -1)
    others, k = 0, 0
    for i in range(low, high):
        for second in range(2):
            j = b[i] if second else a[i]
            if j < 0 or arity[op[i]] <= second:
                continue
            if j < starts[k] or j >= starts[k + 1]:
                k = np.searchsorted(starts, j, side="right") - 1
            x = j + shifts[k]
            if homes[k] != rank and latest[x & 255] != x:
                latest[x & 255] = x
                reads[others] = x
                others += 1
    return others


@Loop
def gather(op, a, b, arity, const, low, high, starts, shifts, new_op, new_a, new_b, at, new_const, place, stamp, number,
           constants):
    """Lines low <= i < high of a run as lines at, ... of another, number `number`, in new numbers of the nodes (see
    `read_elsewhere`).

    Written down as well: new_const, what follows the new run's constants so far; place and stamp, an entry a constant
    of the old run, say which it has.  Returns how many.
    """
    before, k = constants, 0
    for i in range(low, high):
        code = op[i]
        new_op[at] = code
        for second in range(2):
            if second and arity[code] < 2:
                new_b[at] = new_a[at]  # must exist
                continue
            j = b[i] if second else a[i]
            if j < 0:
                c = -1 - j
                if stamp[c] != number:
                    stamp[c], place[c], new_const[constants - before] = number, constants, const[c]
                    constants += 1
                x = -1 - place[c]
            else:
                if j < starts[k] or j >= starts[k + 1]:
                    least, most = 0, len(starts) - 2
                    while least < most:
                        middle = (least + most + 1) >> 1
                        if starts[middle] <= j:
                            least = middle
                        else:
                            most = middle - 1
                    k = least
                x = j + shifts[k]
            if second:
                new_b[at] = x
            else:
                new_a[at] = x
        at += 1
    return constants - before


@Loop
def find_wanted(op, a, b, arity, base, start, wanted):
    """What lines that are wanted read is wanted too, the last line first; wanted[k] is that of node base + k."""
    for k in range(len(op)):
        i = len(op) - 1 - k
        if wanted[start + i]:
            for second in range(2):
                j = (b[i] if second else a[i]) - base
                if j >= 0 and arity[op[i]] > second:
                    wanted[j] = True


__all__ = ["LATER", "NEAR", "SENT", "count_readers", "find_levels", "find_places", "find_steps", "find_wanted",
           "gather", "read_elsewhere", "share_levels"]
