"""The compiled loops over scalar runs (importing this module imports Numba; `scalar` decides when).

What a line hands to the next one goes by a register: through memory it would wait for a store and a load, some seven
cycles beside the four of a multiply-add, on the way that every chain of lines has to go.

`number` says what an operation of the op table is called in `scalar_ops`, whose functions they evaluate.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import jit
from .scalar_ops import ADD, COPY, MULTIPLY, N_BINARY, NEGATIVE, SUBTRACT, partials, value

NONE = -(1 << 62)  # neither a node nor a constant


@jit
def run_values(op, number, a, b, const, first, y):
    """y[first + i] = op[i](y[a[i]], y[b[i]]), one line after another.

    The operations that most lines are made of are decided here, not by a call: 1.3 ns a line where it was 3.1.
    """
    v, latest = 0.0, NONE
    for k in range(len(op)):
        i = np.uint64(k)
        c = number[op[i]]
        j = a[i]
        if j == latest:
            x = v
        else:
            x = y[np.uint64(j)] if j >= 0 else const[np.uint64(-1 - j)]
        if c < N_BINARY:
            j = b[i]
            if j == latest:
                z = v
            else:
                z = y[np.uint64(j)] if j >= 0 else const[np.uint64(-1 - j)]
            if c == MULTIPLY:
                v = x * z
            elif c == ADD:
                v = x + z
            elif c == SUBTRACT:
                v = x - z
            else:
                v = value(c, x, z)
        else:
            v = value(c, x, 0.0)
        latest = first + k
        y[np.uint64(latest)] = v


@jit
def run_partials(op, number, a, b, const, first, y, pa, pb):
    """pa[i], pb[i]: partials of line i, 0 for constants."""
    for i in range(len(op)):
        c = number[op[i]]
        ja, jb = a[i], np.int64(-1)
        x = y[ja] if ja >= 0 else const[-1 - ja]
        z = 0.0
        if c < N_BINARY:
            jb = b[i]
            z = y[jb] if jb >= 0 else const[-1 - jb]
        da, db = partials(c, y[first + i], x, z)
        pa[i] = da if ja >= 0 else 0.0
        pb[i] = db if jb >= 0 else 0.0


@jit
def run_first_bad(op, number, active, a, b, const, first, y):
    """(first line whose value or an active partial is NaN or infinite, or -1; what it is; whether a partial)."""
    for i in range(len(op)):
        c = number[op[i]]
        w = y[first + i]
        if not math.isfinite(w):
            return i, w, False
        if c <= MULTIPLY or c == COPY or c == NEGATIVE:
            continue  # partials are constants or values that are nodes, looked at as such
        ja, jb = a[i], np.int64(-1)
        x = y[ja] if ja >= 0 else const[-1 - ja]
        z = 0.0
        if c < N_BINARY:
            jb = b[i]
            z = y[jb] if jb >= 0 else const[-1 - jb]
        da, db = partials(c, w, x, z)
        if ja >= 0 and active[op[i]] & 1 and not math.isfinite(da):
            return i, da, True
        if jb >= 0 and active[op[i]] & 2 and not math.isfinite(db):
            return i, db, True
    return -1, 0.0, False


@jit
def run_entries(op, number, active, a, b, const, first, y, ca, cb, row, indptr, structure, indices, data):
    """Rows of L: at most two entries a line, at the places that indptr gives."""
    for i in range(len(op)):
        c = number[op[i]]
        ja, jb = a[i], np.int64(-1)
        x = y[ja] if ja >= 0 else const[-1 - ja]
        z = 0.0
        if c < N_BINARY:
            jb = b[i]
            z = y[jb] if jb >= 0 else const[-1 - jb]
        da, db = partials(c, y[first + i], x, z)
        k = indptr[row + i]
        if ja >= 0 and active[op[i]] & 1:
            data[k] = da
            if structure:
                indices[k] = ca[i]
            k += 1
        if jb >= 0 and active[op[i]] & 2:
            data[k] = db
            if structure:
                indices[k] = cb[i]


@jit
def blocks_read(op, number, a, b, firsts, own, read):
    """read[k] = True for the blocks firsts[k] <= j < firsts[k+1], k < own, that operands j lie in."""
    last = own
    for i in range(len(op)):
        for second in range(2):
            if second and number[op[i]] >= N_BINARY:
                continue
            j = b[i] if second else a[i]
            if j < 0 or j >= firsts[own]:
                continue
            if last == own or j < firsts[last] or j >= firsts[last + 1]:
                last = np.searchsorted(firsts[:own], j, side="right") - 1
                read[last] = True


@jit(inline=True)
def lodging(starts, shifts):
    """What `place` has to know of the blocks a run touches: node j lies at j + shifts[k], k the last starts[k] <= j."""
    return starts[-1], shifts[-1], starts[min(1, len(starts) - 1)], shifts[0], starts, shifts


@jit(inline=True)
def place(j, blocks):
    """Where node j lies in the workspace: found at once for the run's own lines and for the first block (parameters).

    Unsigned: Numba then leaves out the question whether an index counts from the end, a sixth of the whole sweep.
    """
    own, shift, second, shift_first, starts, shifts = blocks
    if j >= own:
        return np.uint64(j + shift)
    if j < second:
        return np.uint64(j + shift_first)
    low, high = np.uint64(1), np.uint64(len(starts) - 2)
    while low < high:
        middle = (low + high + np.uint64(1)) >> np.uint64(1)
        if j < starts[middle]:
            high = middle - np.uint64(1)
        else:
            low = middle
    return np.uint64(j + shifts[low])


@jit(contract=True)
def run_adjoint(op, number, a, b, const, first, y, ta, tb, starts, shifts, lam):
    """lam[place of ta[i]] += pa[i] lam[place of line i], and so for tb and pb, last line first; lam is (n,)."""
    blocks, base, own = lodging(starts, shifts), np.uint64(starts[-1] + shifts[-1]), starts[-1]
    w = lam[base + np.uint64(len(op) - 1)] if len(op) else 0.0
    for k in range(len(op) - 1, -1, -1):
        i = np.uint64(k)
        c = number[op[i]]
        ja, jb = a[i], np.int64(-1)
        before, up = NONE, 0.0  # the line before, and its adjoint
        if k:
            before, up = own + k - 1, lam[base + i - np.uint64(1)]
        if c < N_BINARY:
            jb = b[i]
            if c == MULTIPLY:
                z = y[np.uint64(jb)] if jb >= 0 else const[np.uint64(-1 - jb)]
                x = y[np.uint64(ja)] if ja >= 0 else const[np.uint64(-1 - ja)]
                da, db = z * w, x * w
            elif c == ADD:
                da, db = w, w
            elif c == SUBTRACT:
                da, db = w, -w
            else:
                x = y[np.uint64(ja)] if ja >= 0 else const[np.uint64(-1 - ja)]
                z = y[np.uint64(jb)] if jb >= 0 else const[np.uint64(-1 - jb)]
                da, db = partials(c, y[first + k], x, z)
                da, db = da * w, db * w
        else:
            da, db = partials(c, y[first + k], y[np.uint64(ja)] if ja >= 0 else 0.0, 0.0)
            da = da * w
        if ja >= 0:
            if ta[i] == before:
                up += da
            else:
                lam[place(ta[i], blocks)] += da
        if jb >= 0:
            if tb[i] == before:
                up += db
            else:
                lam[place(tb[i], blocks)] += db
        if k:
            lam[base + i - np.uint64(1)] = up
        w = up


@jit(contract=True)
def run_adjoint_columns(op, number, a, b, const, first, y, ta, tb, starts, shifts, lam):
    """The same for lam (n, m): each line's partials serve all columns."""
    m = lam.shape[1]
    blocks, base = lodging(starts, shifts), starts[-1] + shifts[-1]
    for i in range(len(op) - 1, -1, -1):
        c = number[op[i]]
        ja, jb = a[i], np.int64(-1)
        x = y[ja] if ja >= 0 else const[-1 - ja]
        z = 0.0
        if c < N_BINARY:
            jb = b[i]
            z = y[jb] if jb >= 0 else const[-1 - jb]
        da, db = partials(c, y[first + i], x, z)
        if ja >= 0:
            t = place(ta[i], blocks)
            for k in range(m):
                lam[t, k] += da * lam[base + i, k]
        if jb >= 0:
            t = place(tb[i], blocks)
            for k in range(m):
                lam[t, k] += db * lam[base + i, k]


@jit(contract=True)
def run_tangent(op, number, a, b, const, first, y, ta, tb, starts, shifts, ydot, add):
    """ydot[place of line i] = pa[i] ydot[place of ta[i]] + pb[i] ydot[place of tb[i]], or += (add), in order; (n,)."""
    blocks, base, own = lodging(starts, shifts), np.uint64(starts[-1] + shifts[-1]), starts[-1]
    s, latest = 0.0, NONE
    for k in range(len(op)):
        i = np.uint64(k)
        c = number[op[i]]
        ja, jb, xdot, zdot = a[i], np.int64(-1), 0.0, 0.0
        if ja >= 0:
            xdot = s if ta[i] == latest else ydot[place(ta[i], blocks)]
        if c < N_BINARY:
            jb = b[i]
            if jb >= 0:
                zdot = s if tb[i] == latest else ydot[place(tb[i], blocks)]
            if c == ADD:
                s = xdot + zdot
            elif c == SUBTRACT:
                s = xdot - zdot
            else:
                x = y[np.uint64(ja)] if ja >= 0 else const[np.uint64(-1 - ja)]
                z = y[np.uint64(jb)] if jb >= 0 else const[np.uint64(-1 - jb)]
                if c == MULTIPLY:
                    da, db = z, x
                else:
                    da, db = partials(c, y[first + k], x, z)
                s = da * xdot if ja >= 0 else 0.0
                if jb >= 0:
                    s += db * zdot
        elif ja >= 0:
            da, db = partials(c, y[first + k], y[np.uint64(ja)], 0.0)
            s = da * xdot
        else:
            s = 0.0
        if add:
            s += ydot[base + i]
        ydot[base + i] = s
        latest = own + k


@jit(contract=True)
def run_tangent_columns(op, number, a, b, const, first, y, ta, tb, starts, shifts, ydot, add):
    """The same for ydot (n, m)."""
    m = ydot.shape[1]
    blocks, base = lodging(starts, shifts), starts[-1] + shifts[-1]
    for i in range(len(op)):
        c = number[op[i]]
        ja, jb = a[i], np.int64(-1)
        x = y[ja] if ja >= 0 else const[-1 - ja]
        z = 0.0
        if c < N_BINARY:
            jb = b[i]
            z = y[jb] if jb >= 0 else const[-1 - jb]
        da, db = partials(c, y[first + i], x, z)
        ka = place(ta[i], blocks) if ja >= 0 else np.uint64(0)
        kb = place(tb[i], blocks) if jb >= 0 else np.uint64(0)
        for k in range(m):
            s = ydot[base + i, k] if add else 0.0
            if ja >= 0:
                s += da * ydot[ka, k]
            if jb >= 0:
                s += db * ydot[kb, k]
            ydot[base + i, k] = s
