"""Compiled loops over the scalar lines of a run: levels, supersteps, placement, chains of additions.

In all of them `a` and `b` are the operands' positions within the run, or -1 for what lies outside of it.
Numba is imported, and a loop compiled (once a machine, cached on disk), when a loop is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .jit import jit, worth_it

SMALL = 10_000  # lines up to which a loop runs as plain Python: some 10 ms, where loading compiled code takes more
OFTEN = 20  # times as many, in loops that are small one by one: by then that has taken about as long as the import


class Loop:
    """A loop over n lines, compiled if n is worth it or what came before was: call it as loop(*arrays), the first of
    length n.  Lists are for plain Python, which is faster with them, and run there.
    """

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain = plain
        self._compiled: Callable[..., Any] | None = None
        self._spent = 0
        self.__doc__ = plain.__doc__

    def __call__(self, *arguments: Any) -> Any:
        if type(arguments[0]) is list:
            return self.plain(*arguments)
        if self._compiled is None:
            n = len(arguments[0])
            self._spent += n
            if not (worth_it(n, SMALL) or worth_it(self._spent, OFTEN * SMALL)):
                return self.plain(*arguments)
            self._compiled = jit(self.plain)
        return self._compiled(*arguments)


def read_before(op, a, b, arity, first):
    """The distinct ids below `first`, ascending, among the operands of a run's lines (no constants)."""
    if worth_it(len(op), SMALL):
        found = np.empty(2 * len(op), np.int64)
        return np.unique(found[:_read_before(op, a, b, arity, first, found)])
    used = np.concatenate([a[arity[op] > 0], b[arity[op] > 1]])
    return np.unique(used[(used >= 0) & (used < first)]).astype(np.int64)


@Loop
def _read_before(op, a, b, arity, first, found):
    """These ids into `found`; returns how many.  Those that come up again and again, as parameters do, come once."""
    latest = np.full(256, -1)
    n = 0
    for i in range(len(op)):
        for second in range(2):
            j = b[i] if second else a[i]
            if j >= 0 and j < first and arity[op[i]] > second and latest[j & 255] != j:
                latest[j & 255] = j
                found[n] = j
                n += 1
    return n


@Loop
def renumber(ids, first, shift, known, numbers):
    """Operand ids of a run in other numbers, in place: from `first` on j + shift, before it numbers[k], j = known[k]
    (ascending); constants stay.
    """
    for i in range(len(ids)):
        j = ids[i]
        if j >= first:
            ids[i] = j + shift
        elif j >= 0:
            low, high = 0, len(known) - 1
            while low < high:
                middle = (low + high) >> 1
                if known[middle] < j:
                    low = middle + 1
                else:
                    high = middle
            ids[i] = numbers[low]


@Loop
def renumber_stretches(ids, starts, ends, shifts, known, numbers):
    """Operand ids of a run in other numbers, in place: from starts[k] up to ends[k] (ascending) j + shifts[k], others
    numbers[k], j = known[k] (ascending); constants stay.
    """
    k = 0
    for i in range(len(ids)):
        j = ids[i]
        if j < 0:
            continue
        if j < starts[k] or j >= ends[k]:
            low, high = 0, len(starts) - 1
            while low < high:
                middle = (low + high + 1) >> 1
                if starts[middle] <= j:
                    low = middle
                else:
                    high = middle - 1
            k = low
        if starts[k] <= j < ends[k]:
            ids[i] = j + shifts[k]
            continue
        low, high = 0, len(known) - 1
        while low < high:
            middle = (low + high) >> 1
            if known[middle] < j:
                low = middle + 1
            else:
                high = middle
        ids[i] = numbers[low]


@Loop
def run_steps(a, b, owner, base, sent):
    """Supersteps: s_i = max(base_i, s_j + [owner differs or j is sent]) over operands j; base (int32) is from
    outside.
    """
    n = len(a)
    steps = base.copy()
    for i in range(n):
        s = steps[i]
        for j in (a[i], b[i]):
            if j >= 0:
                t = steps[j]
                if sent[j] or owner[j] != owner[i]:
                    t += 1
                if t > s:
                    s = t
        steps[i] = s
    return steps


@Loop
def sent_away(a, b, owner):
    """Which lines of the run another owner's line reads."""
    sent = np.zeros(len(a), np.bool_)
    for i in range(len(a)):
        if a[i] >= 0 and owner[a[i]] != owner[i]:
            sent[a[i]] = True
        if b[i] >= 0 and owner[b[i]] != owner[i]:
            sent[b[i]] = True
    return sent


@Loop
def place_streaming(a, b, near_a, near_b, follow, load, capacity, fallback, phase, shared, crowd, room):
    """Owners in one pass over the run: a line goes where its operands are, unless that rank is full.

    near_a, near_b: owners of the outside operands, -1 for none.  follow[i] >= 0: the line is a link of a
    chain of additions, and goes with its term, the operand that this says (0: a, 1: b).  load (float64, a
    rank) counts lines and is updated; capacity is the most a rank may take before others are preferred;
    fallback (int64) is the rank of the line before the first.  phase[i] >= 0: line i can run with the others of that
    phase, of which crowd[phase, rank] counts those a rank has, and room[phase] is what it may have; a rank may have
    a quarter more of lines that go on with a value of their own, one that is not `shared`.

    Linear deterministic greedy (Stanton and Kliot, KDD 2012) scores a rank by the operands it has, times its free
    share, so with one operand each the emptier of two ranks wins.  That tears every chain of lines apart over a
    difference of one line; here the operand computed last decides, which nobody else is likely to read, unless its rank
    is ahead of the other by more than a sixteenth of its share (Fennel, Tsourakakis et al., WSDM 2014, weighs the load
    as little while there is room).
    """
    n = len(a)
    ranks = len(load)
    owner = np.empty(n, np.int32)
    last = fallback
    ahead = capacity / 16
    for i in range(n):
        ra, rb = near_a[i], near_b[i]
        if a[i] >= 0:
            ra = owner[a[i]]
        if b[i] >= 0:
            rb = owner[b[i]]
        if follow[i] == 0:
            rb = -1
        elif follow[i] == 1:
            ra = -1
        best = -1
        if ra >= 0 and rb >= 0:
            if b[i] > a[i]:
                ra, rb = rb, ra
            best = ra if ra == rb or load[ra] <= load[rb] + ahead else rb
        elif ra >= 0:
            best = ra
        elif rb >= 0:
            best = rb
        else:
            best = last
        p = phase[i]
        if follow[i] < 0:
            if p >= 0:
                own = (a[i] >= 0 and not shared[a[i]]) or (b[i] >= 0 and not shared[b[i]])
                if crowd[p, best] >= room[p] * (1.25 if own else 1.0):
                    for r in range(ranks):
                        if crowd[p, r] < crowd[p, best]:
                            best = r
            elif load[best] >= capacity:
                for r in range(ranks):
                    if load[r] < load[best]:
                        best = r
        if p >= 0:
            crowd[p, best] += 1
        owner[i] = best
        load[best] += 1.0
        last = best
    return owner


@Loop
def chain_links(a, b, additive, uses):
    """The chains of additions: previous[i] = the operand of line i that is the chain's earlier part, -1 where
    none.

    A line can be continued if it is an addition or subtraction (`additive`) that is used once (`uses`), by
    another. Of two such operands the one with the longer chain behind it goes on.
    """
    n = len(a)
    length = np.zeros(n, np.int64)
    previous = np.full(n, -1, np.int64)
    for i in range(n):
        if not additive[i]:
            continue
        best, longest = -1, -1
        for j in (a[i], b[i]):
            if j >= 0 and additive[j] and uses[j] == 1 and length[j] > longest:
                best, longest = j, length[j]
        previous[i] = best
        length[i] = longest + 1
    return previous


@Loop
def count_uses(a, b, uses):
    """Adds to uses[j] (int64) the number of lines that read line j."""
    for i in range(len(a)):
        if a[i] >= 0:
            uses[a[i]] += 1
        if b[i] >= 0:
            uses[b[i]] += 1
    return uses


@Loop
def chain_roots(previous):
    """root[i] = the last link of the chain that line i is part of; previous as `chain_links` gives it."""
    n = len(previous)
    root = np.arange(n)
    for k in range(n):
        i = n - 1 - k
        if previous[i] >= 0:
            root[previous[i]] = root[i]
    return root


@Loop
def split_chains(op, a, b, previous, term, root, owner, slot, n_ranks, first, add, subtract, copy):
    """Rewires, in place, the chains of additions that are to become partial sums: those whose root has slot
    >= 0.

    Returns for every slot and rank (flat) the last link of the rank's partial sum, -1 for none, and the sign
    (+1, -1) with which that sum enters the chain's total.
    """
    n, slots = len(op), 0
    gain = np.ones(n, np.int8)  # how what a link passes on enters the total
    for k in range(n):
        i = n - 1 - k
        if slot[root[i]] >= slots:
            slots = slot[root[i]] + 1
        if previous[i] >= 0:
            gain[previous[i]] = -gain[i] if op[i] == subtract and term[i] == 0 else gain[i]
    last = np.full(slots * n_ranks, -1, np.int64)
    enters = np.ones(slots * n_ranks, np.int8)
    for i in range(n):
        if slot[root[i]] < 0:
            continue
        place = slot[root[i]] * n_ranks + owner[i]
        if previous[i] < 0:  # the first link adds two terms and stays as it is
            enters[place] = gain[i]
        else:
            operand = a[i] if term[i] == 0 else b[i]
            sign = -gain[i] if op[i] == subtract and term[i] == 1 else gain[i]
            if last[place] < 0:
                op[i], a[i], b[i] = copy, operand, operand
                enters[place] = sign
            else:
                op[i] = add if sign == enters[place] else subtract
                a[i], b[i] = first + last[place], operand
        last[place] = i
    return last, enters


@Loop
def weave(op, a, b, owner, before, more_op, more_a, more_b, first, fresh, binary):
    """A run with more lines, line k of them just before line before[k] (ascending) of the old: ids, op, a, b,
    owner, and the operands' positions.  The old lines' ids begin at `first`, the others' at `fresh`.
    """
    n, m = len(op), len(before)
    ids = np.empty(n + m, a.dtype)
    new_op = np.empty(n + m, op.dtype)
    new_a, new_b = np.empty(n + m, a.dtype), np.empty(n + m, a.dtype)
    new_owner = np.empty(n + m, owner.dtype)
    inner_a, inner_b = np.empty(n + m, a.dtype), np.empty(n + m, a.dtype)
    position = np.empty(n, np.int64)
    k = 0
    for i in range(n):
        while k < m and before[k] == i:
            j = i + k
            ids[j], new_op[j], new_a[j], new_b[j], new_owner[j] = fresh + k, more_op[k], more_a[k], more_b[k], owner[i]
            k += 1
        j = i + k
        position[i] = j
        ids[j], new_op[j], new_a[j], new_b[j], new_owner[j] = first + i, op[i], a[i], b[i], owner[i]
    for j in range(n + m):
        for second in range(2):
            ref = new_b[j] if second else new_a[j]
            at = -1
            if second == 0 or binary[new_op[j]]:
                if ref >= fresh:
                    at = before[ref - fresh] + ref - fresh
                elif ref >= first:
                    at = position[ref - first]
            if second:
                inner_b[j] = at
            else:
                inner_a[j] = at
    return ids, new_op, new_a, new_b, new_owner, inner_a, inner_b


@Loop
def follow_chains(op, a, b, arity, add, subtract, first, uses, tails, tail_length, tail_sign, previous, length, sign,
                  origin, enters, last):
    """Chains of additions through a run: a link is an addition or subtraction, and goes on from the operand that is a
    link used once, of two such operands from the one with the longer chain behind it.

    uses (int64): reads of the run's lines by others; the run's own are added.  tails (ascending): links of earlier runs
    that are used once, by one outside of their runs, with the chain's length and sign there.  Filled in, one entry a
    line: previous, the earlier link's position, or -2 - k for tails[k], or -1; length, links so far (0: no link); sign,
    +1 or -1, with which the chain's first link enters this one; origin, k of the tail, or -1 - the first link.
    enters[k], last[k] (-1 before): the first and the last line that go on from tail k.
    """
    for i in range(len(op)):
        if arity[op[i]] > 0 and a[i] >= first:
            uses[a[i] - first] += 1
        if arity[op[i]] > 1 and b[i] >= first:
            uses[b[i] - first] += 1
    for i in range(len(op)):
        previous[i], length[i], sign[i], origin[i] = -1, 0, 1, -1 - i
        if op[i] != add and op[i] != subtract:
            continue
        best, longest, turned = -1, 0, False
        for second in range(2):
            j = b[i] if second else a[i]
            if j >= first:
                k = j - first
                if uses[k] == 1 and length[k] > longest:
                    best, longest, turned = k, length[k], second == 1
            elif j >= 0 and len(tails) and j >= tails[0] and j <= tails[-1]:
                k = np.searchsorted(tails, j)
                if tails[k] == j and tail_length[k] > longest:
                    best, longest, turned = -2 - k, tail_length[k], second == 1
        length[i], previous[i] = longest + 1, best
        if best >= 0:
            sign[i], origin[i] = sign[best], origin[best]
        elif best < -1:
            sign[i], origin[i] = tail_sign[-2 - best], -2 - best
            enters[-2 - best] = i
        if turned and op[i] == subtract:
            sign[i] = -sign[i]
        if origin[i] >= 0:
            last[origin[i]] = i
