"""The compiled loops that write the derivative of a scalar run, as scalar lines (importing this imports Numba).

A number is (node, value), the node CONSTANT for one that is no node.  What is written goes to `out`: op, a, b, const,
its bits, values, and a table of constants by hash; `at` holds how many lines and constants there are, the first line's
node, and the codes of negative, multiply and add.  Operands and values of lines are in `lines`: op, y, a, xa, b, xb,
ta, tb, with x the operands' values and t the places of their adjoints or tangents, or -1 for operands that don't count.
"""

from __future__ import annotations

import numpy as np

from .jit import jit
from .scalar_ops import ADD, MULTIPLY, NEGATIVE, value

NONE, CONSTANT = -2, -1
CHOOSE = 255  # as in `templates`


@jit(inline=True)
def constant(v, out, at):
    """The number -1-k under which a line names a constant."""
    const, bits, known = out[3], out[4], out[6]
    k = at[1]
    const[k] = v
    h = (np.uint64(bits[k]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(52)
    j = known[h]
    if j >= 0 and bits[j] == bits[k]:
        return -1 - j
    known[h] = k
    at[1] = k + 1
    return -1 - k


@jit
def line(code, c, ja, va, jb, vb, out, at):
    """One line; of constants only its value."""
    v = value(c, va, vb)
    if ja < 0 and jb < 0:
        return np.int64(CONSTANT), v
    k = at[0]
    out[0][k] = code
    out[1][k] = ja if ja >= 0 else constant(va, out, at)
    out[2][k] = jb if jb >= 0 else constant(vb, out, at)
    out[5][k] = v
    at[0] = k + 1
    return at[2] + k, v


@jit
def times(jp, vp, jq, vq, out, at):
    """p q."""
    if jp < 0 and (vp == 1.0 or vp == -1.0):
        if vp > 0.0:
            return jq, vq
        return line(at[3], NEGATIVE, jq, vq, jq, vq, out, at)
    if jq < 0 and (vq == 1.0 or vq == -1.0):
        if vq > 0.0:
            return jp, vp
        return line(at[3], NEGATIVE, jp, vp, jp, vp, out, at)
    return line(at[4], MULTIPLY, jp, vp, jq, vq, out, at)


@jit(inline=True)
def slot(s, constants, node, x):
    if s < 0:
        return np.int64(CONSTANT), constants[-1 - s]
    return node[s], x[s]


@jit
def partial(entry, number, templates, node, x, out, at):
    """The partial that a template computes from slots 0, 1 and 2 of (node, x)."""
    starts, roots, steps, constants = templates
    free = 3
    for s in range(starts[entry], starts[entry + 1]):
        code = steps[s, 0]
        ja, va = slot(steps[s, 1], constants, node, x)
        jb, vb = slot(steps[s, 2], constants, node, x)
        if code == CHOOSE:
            if va == 0.0:
                jb, vb = slot(steps[s, 3], constants, node, x)
            node[free], x[free] = jb, vb
        else:
            node[free], x[free] = line(code, number[code], ja, va, jb, vb, out, at)
        free += 1
    return slot(roots[entry], constants, node, x)


@jit
def partials(i, first, number, lines, templates, node, x, out, at):
    """Those of line i with respect to both operands, where they count."""
    op, y, a, xa, b, xb, ta, tb = lines
    node[0], x[0] = first + i, y[i]
    node[1], x[1] = max(a[i], CONSTANT), xa[i]
    node[2], x[2] = max(b[i], CONSTANT), xb[i]
    entry = 2 * np.int64(op[i])
    ja, va = np.int64(CONSTANT), 0.0
    jb, vb = np.int64(CONSTANT), 0.0
    if ta[i] >= 0:
        ja, va = partial(entry, number, templates, node, x, out, at)
    if tb[i] >= 0:
        jb, vb = partial(entry + 1, number, templates, node, x, out, at)
    return ja, va, jb, vb


@jit
def write_adjoint(i, room, first, number, lines, templates, node, x, lam, values, out, at):
    """lam[place of operand] += p lam[i] from line i backwards, as long as there is room; returns the next line.

    lam, values: nodes and values of the adjoints of the run's lines, then of the nodes outside that it reads.
    """
    ta, tb = lines[6], lines[7]
    while i >= 0 and at[0] + room <= len(out[0]):
        if lam[i] != NONE and (ta[i] >= 0 or tb[i] >= 0):
            ja, va, jb, vb = partials(i, first, number, lines, templates, node, x, out, at)
            if ta[i] >= 0:
                j, v = times(ja, va, lam[i], values[i], out, at)
                t = ta[i]
                if lam[t] != NONE:
                    j, v = line(at[5], ADD, lam[t], values[t], j, v, out, at)
                lam[t], values[t] = j, v
            if tb[i] >= 0:
                j, v = times(jb, vb, lam[i], values[i], out, at)
                t = tb[i]
                if lam[t] != NONE:
                    j, v = line(at[5], ADD, lam[t], values[t], j, v, out, at)
                lam[t], values[t] = j, v
        i -= 1
    return i


@jit
def write_tangent(i, room, first, number, lines, templates, node, x, dot, values, out, at):
    """dot[i] = sum p dot[place of operand] from line i on, as long as there is room; returns the next line."""
    ta, tb = lines[6], lines[7]
    n = len(ta)
    while i < n and at[0] + room <= len(out[0]):
        if ta[i] >= 0 or tb[i] >= 0:
            ja, va, jb, vb = partials(i, first, number, lines, templates, node, x, out, at)
            if ta[i] >= 0 and dot[ta[i]] != NONE:
                dot[i], values[i] = times(ja, va, dot[ta[i]], values[ta[i]], out, at)
            if tb[i] >= 0 and dot[tb[i]] != NONE:
                j, v = times(jb, vb, dot[tb[i]], values[tb[i]], out, at)
                if dot[i] != NONE:
                    j, v = line(at[5], ADD, dot[i], values[i], j, v, out, at)
                dot[i], values[i] = j, v
        i += 1
    return i


@jit
def spread_activity(op, rules, pa, pb, active):
    """active[i] for the lines of a run: whether an operand that has a partial, at place pa or pb, is active."""
    for i in range(len(op)):
        entry = 2 * np.int64(op[i])
        if pa[i] >= 0 and rules[entry] and active[pa[i]] or pb[i] >= 0 and rules[entry + 1] and active[pb[i]]:
            active[i] = True
