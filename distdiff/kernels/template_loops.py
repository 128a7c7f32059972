"""The compiled loops that write the derivative of a scalar run, as scalar lines (importing this imports Numba).

A number is (node, value), the node CONSTANT for one that is no node.  What is written goes to `op`, `a`, `b` and `v`
(values), constants to `const` (`bits`, the same memory, tells them apart; `known` finds them by hash); `at` holds how
many lines and constants there are, the first line's node, and the codes of negative, multiply and add.  The lines read
are in `of`, `y`, `ja`, `xa`, `jb`, `xb`, `ta` and `tb`, with x the operands' values and t the places of their adjoints
or tangents, or -1 for operands that don't count.

Helpers are inlined, and take arrays one by one: each array handed to a function, or in a tuple, has its references
counted, which took two thirds of the time.
"""

from __future__ import annotations

import numpy as np

from .jit import jit
from .scalar_ops import ADD, MULTIPLY, NEGATIVE, value

NONE, CONSTANT = -2, -1
CHOOSE = 255  # as in `templates`


@jit(inline=True)
def constant(x, const, bits, known, at):
    """The number -1-k under which a line names a constant."""
    k = at[1]
    const[k] = x
    h = (np.uint64(bits[k]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(52)
    j = known[h]
    if j < 0 or bits[j] != bits[k]:
        known[h] = j = k
        at[1] = k + 1
    return -1 - j


@jit(inline=True)
def line(code, c, i, x, j, z, op, a, b, v, const, bits, known, at):
    """One line; of constants only its value."""
    y = value(c, x, z)
    node = np.int64(CONSTANT)
    if i >= 0 or j >= 0:
        k = at[0]
        op[k] = code
        a[k] = i if i >= 0 else constant(x, const, bits, known, at)
        b[k] = j if j >= 0 else constant(z, const, bits, known, at)
        v[k] = y
        at[0] = k + 1
        node = at[2] + k
    return node, y


@jit(inline=True)
def times(i, p, j, q, op, a, b, v, const, bits, known, at):
    """p q."""
    unit_p, unit_q = i < 0 and (p == 1.0 or p == -1.0), j < 0 and (q == 1.0 or q == -1.0)
    if unit_p:
        sign, i, p = p, j, q
    elif unit_q:
        sign = q
    else:
        sign = 0.0
    node, y = i, p
    if sign <= 0.0:
        code, c = (at[3], NEGATIVE) if sign < 0.0 else (at[4], MULTIPLY)
        if sign < 0.0:
            j, q = i, p
        node, y = line(code, c, i, p, j, q, op, a, b, v, const, bits, known, at)
    return node, y


@jit(inline=True)
def partial(entry, number, starts, roots, steps, constants, node, value_of, op, a, b, v, const, bits, known, at):
    """The partial that a template computes from slots 0, 1 and 2 of (node, value_of)."""
    free = 3
    for s in range(starts[entry], starts[entry + 1]):
        code, p, q = steps[s, 0], steps[s, 1], steps[s, 2]
        i, x = (node[p], value_of[p]) if p >= 0 else (np.int64(CONSTANT), constants[-1 - p])
        if code == CHOOSE and x == 0.0:
            q = steps[s, 3]
        j, z = (node[q], value_of[q]) if q >= 0 else (np.int64(CONSTANT), constants[-1 - q])
        if code != CHOOSE:
            j, z = line(code, number[code], i, x, j, z, op, a, b, v, const, bits, known, at)
        node[free], value_of[free] = j, z
        free += 1
    root = roots[entry]
    i, x = (node[root], value_of[root]) if root >= 0 else (np.int64(CONSTANT), constants[-1 - root])
    return i, x


@jit(inline=True)
def operands(k, first, y, ja, xa, jb, xb, node, value_of):
    """Slots 0, 1 and 2 of line k: its result and its operands."""
    node[0], value_of[0] = first + k, y[k]
    node[1], value_of[1] = max(ja[k], CONSTANT), xa[k]
    node[2], value_of[2] = max(jb[k], CONSTANT), xb[k]


@jit
def write_adjoint(k, room, first, number, of, y, ja, xa, jb, xb, ta, tb, starts, roots, steps, constants, node,
                  value_of, lam, values, op, a, b, const, bits, v, known, at):
    """lam[place of operand] += p lam[k] from line k backwards, as long as there is room; returns the next line.

    lam, values: nodes and values of the adjoints of the run's lines, then of the nodes outside that it reads.
    """
    while k >= 0 and at[0] + room <= len(op):
        if lam[k] != NONE and (ta[k] >= 0 or tb[k] >= 0):
            operands(k, first, y, ja, xa, jb, xb, node, value_of)
            entry = 2 * np.int64(of[k])
            pa, wa = np.int64(CONSTANT), 0.0
            pb, wb = np.int64(CONSTANT), 0.0
            for second in range(2):
                if (tb[k] if second else ta[k]) >= 0:
                    i, x = partial(entry + second, number, starts, roots, steps, constants, node, value_of, op, a, b,
                                   v, const, bits, known, at)
                    if second:
                        pb, wb = i, x
                    else:
                        pa, wa = i, x
            for second in range(2):
                t = tb[k] if second else ta[k]
                if t >= 0:
                    i, x = (pb, wb) if second else (pa, wa)
                    i, x = times(i, x, lam[k], values[k], op, a, b, v, const, bits, known, at)
                    if lam[t] != NONE:
                        i, x = line(at[5], ADD, lam[t], values[t], i, x, op, a, b, v, const, bits, known, at)
                    lam[t], values[t] = i, x
        k -= 1
    return k


@jit
def write_tangent(k, room, first, number, of, y, ja, xa, jb, xb, ta, tb, starts, roots, steps, constants, node,
                  value_of, dot, values, op, a, b, const, bits, v, known, at):
    """dot[k] = sum p dot[place of operand] from line k on, as long as there is room; returns the next line."""
    while k < len(of) and at[0] + room <= len(op):
        if ta[k] >= 0 or tb[k] >= 0:
            operands(k, first, y, ja, xa, jb, xb, node, value_of)
            entry = 2 * np.int64(of[k])
            pa, wa = np.int64(CONSTANT), 0.0
            pb, wb = np.int64(CONSTANT), 0.0
            for second in range(2):
                if (tb[k] if second else ta[k]) >= 0:
                    i, x = partial(entry + second, number, starts, roots, steps, constants, node, value_of, op, a, b,
                                   v, const, bits, known, at)
                    if second:
                        pb, wb = i, x
                    else:
                        pa, wa = i, x
            for second in range(2):
                t = tb[k] if second else ta[k]
                if t >= 0 and dot[t] != NONE:
                    i, x = (pb, wb) if second else (pa, wa)
                    i, x = times(i, x, dot[t], values[t], op, a, b, v, const, bits, known, at)
                    if dot[k] != NONE:
                        i, x = line(at[5], ADD, dot[k], values[k], i, x, op, a, b, v, const, bits, known, at)
                    dot[k], values[k] = i, x
        k += 1
    return k


@jit
def spread_activity(op, rules, pa, pb, active):
    """active[i] for the lines of a run: whether an operand that has a partial, at place pa or pb, is active."""
    for i in range(len(op)):
        entry = 2 * np.int64(op[i])
        if pa[i] >= 0 and rules[entry] and active[pa[i]] or pb[i] >= 0 and rules[entry + 1] and active[pb[i]]:
            active[i] = True
