"""The compiled loops over scalar runs (importing this module imports Numba; `scalar` decides when).

The functions of the op table once more, for one line at a time.  The loops number the operations themselves
(`NAMES`): compiled code stays valid, cached on disk, when the op table grows.  Binary operations come first.
"""

from __future__ import annotations

import math

import numpy as np

from .jit import jit

BINARY = ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "arctan2", "hypot", "logaddexp",
          "remainder", "copysign", "floor_divide", "greater", "greater_equal", "less", "less_equal", "equal",
          "not_equal", "logical_and", "logical_or", "logical_xor")
UNARY = ("copy", "negative", "absolute", "sqrt", "square", "reciprocal", "cbrt", "exp", "exp2", "expm1", "log",
         "log2", "log10", "log1p", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh",
         "arcsinh", "arccosh", "arctanh", "sign", "floor", "ceil", "rint", "trunc", "logical_not", "isfinite",
         "isnan", "isinf", "signbit")
NAMES = BINARY + UNARY
N_BINARY = len(BINARY)
(ADD, SUBTRACT, MULTIPLY, DIVIDE, POWER, MAXIMUM, MINIMUM, ARCTAN2, HYPOT, LOGADDEXP, REMAINDER, COPYSIGN,
 FLOOR_DIVIDE, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, EQUAL, NOT_EQUAL, LOGICAL_AND, LOGICAL_OR, LOGICAL_XOR, COPY,
 NEGATIVE, ABSOLUTE, SQRT, SQUARE, RECIPROCAL, CBRT, EXP, EXP2, EXPM1, LOG, LOG2, LOG10, LOG1P, SIN, COS, TAN, ARCSIN,
 ARCCOS, ARCTAN, SINH, COSH, TANH, ARCSINH, ARCCOSH, ARCTANH, SIGN, FLOOR, CEIL, RINT, TRUNC, LOGICAL_NOT, ISFINITE,
 ISNAN, ISINF, SIGNBIT) = range(len(NAMES))
LN2, LN10 = math.log(2.0), math.log(10.0)


@jit
def _sign(x):
    return 1.0 if x > 0.0 else -1.0 if x < 0.0 else x


@jit
def _cbrt(x):
    if x == 0.0 or not math.isfinite(x):
        return x
    r = math.copysign(math.pow(abs(x), 1.0 / 3.0), x)
    return r - (r * r * r - x) / (3.0 * r * r)  # one Newton step: pow(x, 1/3) rounds the exponent


@jit
def _floor_divide(x, z):
    """As NumPy: the quotient that goes with the remainder of the divisor's sign."""
    if z == 0.0:
        return x / z
    rest = np.fmod(x, z)
    q = (x - rest) / z
    if rest != 0.0 and (z < 0.0) != (rest < 0.0):
        q -= 1.0
    if q == 0.0:
        return math.copysign(0.0, x / z)
    whole = np.floor(q)
    return whole + 1.0 if q - whole > 0.5 else whole


@jit
def value(c, x, z):
    """op(x, z); a unary op ignores z."""
    if c == ADD:
        return x + z
    elif c == SUBTRACT:
        return x - z
    elif c == MULTIPLY:
        return x * z
    elif c == DIVIDE:
        return x / z
    elif c == POWER:
        return x ** z
    elif c == MAXIMUM:
        return x if x >= z or x != x else z
    elif c == MINIMUM:
        return x if x <= z or x != x else z
    elif c == ARCTAN2:
        return math.atan2(x, z)
    elif c == HYPOT:
        return math.hypot(x, z)
    elif c == LOGADDEXP:
        if x == z:
            return x + LN2
        d = x - z
        if d > 0.0:
            return x + math.log1p(math.exp(-d))
        elif d <= 0.0:
            return z + math.log1p(math.exp(d))
        return d
    elif c == REMAINDER:
        rest = np.remainder(x, z)
        return rest if rest != 0.0 else math.copysign(0.0, z)  # as NumPy; Numba's gives 0.0 for -0.0
    elif c == COPYSIGN:
        return math.copysign(x, z)
    elif c == FLOOR_DIVIDE:
        return _floor_divide(x, z)
    elif c == GREATER:
        return 1.0 if x > z else 0.0
    elif c == GREATER_EQUAL:
        return 1.0 if x >= z else 0.0
    elif c == LESS:
        return 1.0 if x < z else 0.0
    elif c == LESS_EQUAL:
        return 1.0 if x <= z else 0.0
    elif c == EQUAL:
        return 1.0 if x == z else 0.0
    elif c == NOT_EQUAL:
        return 1.0 if x != z else 0.0
    elif c == LOGICAL_AND:
        return 1.0 if x != 0.0 and z != 0.0 else 0.0
    elif c == LOGICAL_OR:
        return 1.0 if x != 0.0 or z != 0.0 else 0.0
    elif c == LOGICAL_XOR:
        return 1.0 if (x != 0.0) != (z != 0.0) else 0.0
    elif c == COPY:
        return x
    elif c == NEGATIVE:
        return -x
    elif c == ABSOLUTE:
        return abs(x)
    elif c == SQRT:
        return math.sqrt(x)
    elif c == SQUARE:
        return x * x
    elif c == RECIPROCAL:
        return 1.0 / x
    elif c == CBRT:
        return _cbrt(x)
    elif c == EXP:
        return math.exp(x)
    elif c == EXP2:
        return 2.0 ** x
    elif c == EXPM1:
        return math.expm1(x)
    elif c == LOG:
        return math.log(x)
    elif c == LOG2:
        return np.log2(x)
    elif c == LOG10:
        return math.log10(x)
    elif c == LOG1P:
        return math.log1p(x)
    elif c == SIN:
        return math.sin(x)
    elif c == COS:
        return math.cos(x)
    elif c == TAN:
        return math.tan(x)
    elif c == ARCSIN:
        return math.asin(x)
    elif c == ARCCOS:
        return math.acos(x)
    elif c == ARCTAN:
        return math.atan(x)
    elif c == SINH:
        return math.sinh(x)
    elif c == COSH:
        return math.cosh(x)
    elif c == TANH:
        return math.tanh(x)
    elif c == ARCSINH:
        return math.asinh(x)
    elif c == ARCCOSH:
        return math.acosh(x)
    elif c == ARCTANH:
        return math.atanh(x)
    elif c == SIGN:
        return _sign(x)
    elif c == FLOOR:
        return np.floor(x)
    elif c == CEIL:
        return np.ceil(x)
    elif c == RINT:
        return np.rint(x)
    elif c == TRUNC:
        return np.trunc(x)
    elif c == LOGICAL_NOT:
        return 1.0 if x == 0.0 else 0.0
    elif c == ISFINITE:
        return 1.0 if math.isfinite(x) else 0.0
    elif c == ISNAN:
        return 1.0 if x != x else 0.0
    elif c == ISINF:
        return 1.0 if math.isinf(x) else 0.0
    elif c == SIGNBIT:
        return 1.0 if math.copysign(1.0, x) < 0.0 else 0.0
    return math.nan


@jit
def partials(c, y, x, z):
    """(d op/dx, d op/dz); 0 for what has no derivative and for the missing operand of a unary op."""
    if c == ADD:
        return 1.0, 1.0
    elif c == SUBTRACT:
        return 1.0, -1.0
    elif c == MULTIPLY:
        return z, x
    elif c == DIVIDE:
        return 1.0 / z, -y / z
    elif c == POWER:
        e = 1.0 if z == 0.0 else z - 1.0
        return z * x ** e, y * math.log(1.0 if x == 0.0 and z > 0.0 else x)
    elif c == MAXIMUM:
        return (1.0, 0.0) if x >= z else (0.0, 1.0 if x < z else 0.0)
    elif c == MINIMUM:
        return (1.0, 0.0) if x <= z else (0.0, 1.0 if x > z else 0.0)
    elif c == ARCTAN2:
        r = x * x + z * z
        return z / r, -x / r
    elif c == HYPOT:
        r = 1.0 if y == 0.0 else y
        return x / r, z / r
    elif c == LOGADDEXP:
        return math.exp(x - y), math.exp(z - y)
    elif c == REMAINDER:
        return 1.0, -np.floor(x / z)
    elif c == COPYSIGN:
        return _sign(x) * _sign(y), 0.0
    elif c == COPY:
        return 1.0, 0.0
    elif c == NEGATIVE:
        return -1.0, 0.0
    elif c == ABSOLUTE:
        return _sign(x), 0.0
    elif c == SQRT:
        return 0.5 / y, 0.0
    elif c == SQUARE:
        return 2.0 * x, 0.0
    elif c == RECIPROCAL:
        return -y * y, 0.0
    elif c == CBRT:
        return 1.0 / (3.0 * y * y), 0.0
    elif c == EXP:
        return y, 0.0
    elif c == EXP2:
        return LN2 * y, 0.0
    elif c == EXPM1:
        return y + 1.0, 0.0
    elif c == LOG:
        return 1.0 / x, 0.0
    elif c == LOG2:
        return 1.0 / (LN2 * x), 0.0
    elif c == LOG10:
        return 1.0 / (LN10 * x), 0.0
    elif c == LOG1P:
        return 1.0 / (1.0 + x), 0.0
    elif c == SIN:
        return math.cos(x), 0.0
    elif c == COS:
        return -math.sin(x), 0.0
    elif c == TAN:
        return 1.0 + y * y, 0.0
    elif c == ARCSIN:
        return 1.0 / math.sqrt((1.0 - x) * (1.0 + x)), 0.0
    elif c == ARCCOS:
        return -1.0 / math.sqrt((1.0 - x) * (1.0 + x)), 0.0
    elif c == ARCTAN:
        return 1.0 / (1.0 + x * x), 0.0
    elif c == SINH:
        return math.cosh(x), 0.0
    elif c == COSH:
        return math.sinh(x), 0.0
    elif c == TANH:
        return 1.0 - y * y, 0.0
    elif c == ARCSINH:
        return 1.0 / math.hypot(1.0, x), 0.0
    elif c == ARCCOSH:
        return 1.0 / math.sqrt((x - 1.0) * (x + 1.0)), 0.0
    elif c == ARCTANH:
        return 1.0 / ((1.0 - x) * (1.0 + x)), 0.0
    return 0.0, 0.0


@jit
def run_values(op, number, a, b, const, first, y):
    """y[first + i] = op[i](y[a[i]], y[b[i]]), one line after another.

    The operations that most lines are made of are decided here, not by a call: 1.3 ns a line where it was 3.1.
    """
    for k in range(len(op)):
        i = np.uint64(k)
        c = number[op[i]]
        j = a[i]
        x = y[np.uint64(j)] if j >= 0 else const[np.uint64(-1 - j)]
        if c < N_BINARY:
            j = b[i]
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
        y[np.uint64(first + k)] = v


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
    blocks, base = lodging(starts, shifts), np.uint64(starts[-1] + shifts[-1])
    for k in range(len(op) - 1, -1, -1):
        i = np.uint64(k)
        c = number[op[i]]
        ja = a[i]
        w = lam[base + i]
        if c < N_BINARY:
            jb = b[i]
            if c == MULTIPLY:
                if ja >= 0:
                    z = y[np.uint64(jb)] if jb >= 0 else const[np.uint64(-1 - jb)]
                    lam[place(ta[i], blocks)] += z * w
                if jb >= 0:
                    x = y[np.uint64(ja)] if ja >= 0 else const[np.uint64(-1 - ja)]
                    lam[place(tb[i], blocks)] += x * w
            elif c == ADD:
                if ja >= 0:
                    lam[place(ta[i], blocks)] += w
                if jb >= 0:
                    lam[place(tb[i], blocks)] += w
            elif c == SUBTRACT:
                if ja >= 0:
                    lam[place(ta[i], blocks)] += w
                if jb >= 0:
                    lam[place(tb[i], blocks)] -= w
            else:
                x = y[np.uint64(ja)] if ja >= 0 else const[np.uint64(-1 - ja)]
                z = y[np.uint64(jb)] if jb >= 0 else const[np.uint64(-1 - jb)]
                da, db = partials(c, y[first + k], x, z)
                if ja >= 0:
                    lam[place(ta[i], blocks)] += da * w
                if jb >= 0:
                    lam[place(tb[i], blocks)] += db * w
        elif ja >= 0:
            da, db = partials(c, y[first + k], y[np.uint64(ja)], 0.0)
            lam[place(ta[i], blocks)] += da * w


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
        s = ydot[base + i] if add else 0.0
        if ja >= 0:
            s += da * ydot[place(ta[i], blocks)]
        if jb >= 0:
            s += db * ydot[place(tb[i], blocks)]
        ydot[base + i] = s


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
