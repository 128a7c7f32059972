"""The compiled loops that write the derivative of a scalar run, as scalar lines (importing this imports Numba).

A number is (node, value), the node CONSTANT for one that is no node.  What is written goes to `op`, `a`, `b` and `v`
(values), constants to `const` (`bits`, the same memory, tells them apart; `known` finds them by hash); `at` holds how
many lines and constants there are, the first line's node, and the codes of negative, multiply and add.  The lines read
are in `of`, `y`, `ja`, `xa`, `jb`, `xb`, `ta` and `tb`, with x the operands' values and t the places of their adjoints
or tangents, or -1 for operands that don't count.

Everything happens in one loop body: each array handed to a helper, inlined or not, has its references counted, which
took most of the time.
"""

from __future__ import annotations

import numpy as np

from .jit import jit
from .scalar_ops import value

NONE, CONSTANT = -2, -1
CHOOSE = 255  # as in `templates`


@jit
def write(k, room, backwards, first, number, of, y, ja, xa, jb, xb, ta, tb, starts, roots, conditions, steps, constants,
          node, x_of, lam, values, op, a, b, const, bits, v, known, at):
    """The adjoint of a run (`backwards`) or its tangent, from line k on, as long as there is room; the next line.

        lam[place of operand] += p lam[k]  backwards,        lam[k] = sum p lam[place of operand]  forwards

    lam, values: nodes and values of the adjoints or tangents of the run's lines, then of the nodes outside that it
    reads.  A line goes through six stages: both partials, by their templates; the product with one of them and its sum,
    then with the other.
    """
    done, constant_count = at[0], at[1]
    base, negative, multiply, add = at[2], at[3], at[4], at[5]
    n = len(of)
    while 0 <= k and k < n and done + room <= len(op):
        if (ta[k] < 0 and tb[k] < 0) or (backwards and lam[k] == NONE):
            k += -1 if backwards else 1
            continue
        node[0], x_of[0] = first + k, y[k]
        node[1], x_of[1] = max(ja[k], CONSTANT), xa[k]
        node[2], x_of[2] = max(jb[k], CONSTANT), xb[k]
        rule_a, rule_b = 4 * np.int64(of[k]), 4 * np.int64(of[k]) + 2
        if jb[k] < 0:
            rule_a += 1
        if ja[k] < 0:
            rule_b += 1
        pa, wa = np.int64(CONSTANT), 0.0
        pb, wb = np.int64(CONSTANT), 0.0
        i, x = np.int64(CONSTANT), 0.0
        for stage in range(6):
            second = stage == 1 or stage >= 4
            t, rule = (tb[k], rule_b) if second else (ta[k], rule_a)
            if t < 0:
                continue
            place = t if backwards else k  # what is written
            source = k if backwards else t  # what is multiplied
            if stage >= 2 and lam[source] == NONE:
                continue
            begin, end = np.int64(0), np.int64(1)
            if stage < 2:
                begin, end = starts[rule], starts[rule + 1]
            free = 3
            for s in range(begin, end):
                code = add
                line = True
                if stage < 2:
                    code = steps[s, 0]
                    p, q = steps[s, 1], steps[s, 2]
                    i, x = (node[p], x_of[p]) if p >= 0 else (np.int64(CONSTANT), constants[-1 - p])
                    if code == CHOOSE:
                        line = False
                        if x == 0.0:
                            q = steps[s, 3]
                    j, z = (node[q], x_of[q]) if q >= 0 else (np.int64(CONSTANT), constants[-1 - q])
                elif stage == 2 or stage == 4:
                    i, x = (pb, wb) if second else (pa, wa)
                    j, z = lam[source], values[source]
                    if i < 0 and (x == 1.0 or x == -1.0):
                        line = x < 0.0
                        code = negative
                        i, x = j, z
                    elif j < 0 and (z == 1.0 or z == -1.0) and not conditions[rule]:
                        line = z < 0.0
                        code = negative
                        j, z = i, x
                    else:
                        code = multiply
                else:  # (i, x) is the product
                    j, z = i, x
                    if lam[place] == NONE:
                        line = False
                    else:
                        i, x = lam[place], values[place]
                if line:
                    w = value(number[code], x, z)
                    if i < 0 and j < 0:
                        j = np.int64(CONSTANT)
                    else:
                        for side in range(2):
                            operand, number_of = (j, z) if side else (i, x)
                            if operand < 0:
                                const[constant_count] = number_of
                                h = (np.uint64(bits[constant_count]) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(52)
                                found = known[h]
                                if found < 0 or bits[found] != bits[constant_count]:
                                    known[h] = found = constant_count
                                    constant_count += 1
                                operand = -1 - found
                            if side:
                                b[done] = operand
                            else:
                                a[done] = operand
                        op[done], v[done] = code, w
                        j = base + done
                        done += 1
                    z = w
                i, x = j, z
                if stage < 2:
                    node[free], x_of[free] = i, x
                    free += 1
            if stage < 2:
                p = roots[rule]
                i, x = (node[p], x_of[p]) if p >= 0 else (np.int64(CONSTANT), constants[-1 - p])
                if second:
                    pb, wb = i, x
                else:
                    pa, wa = i, x
            elif stage == 3 or stage == 5:
                lam[place], values[place] = i, x
        k += -1 if backwards else 1
    at[0], at[1] = done, constant_count
    return k


@jit
def spread_activity(op, rules, pa, pb, active):
    """active[i] for the lines of a run: whether an operand that has a partial, at place pa or pb, is active."""
    for i in range(len(op)):
        entry = 2 * np.int64(op[i])
        if pa[i] >= 0 and rules[entry] and active[pa[i]] or pb[i] >= 0 and rules[entry + 1] and active[pb[i]]:
            active[i] = True
