"""The compiled interpreter of `tiles` (importing this module imports Numba).

Nothing is contracted or reordered: every operation rounds as NumPy's does, so a replayed value equals the traced one.
"""

from __future__ import annotations

import math

import numba
from numba import carray

from .addresses import doubles
from .jit import jit

BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "greater", "greater_equal", "less",
          "less_equal", "equal", "not_equal")
UNARY = ("copy", "negative", "square", "absolute", "sqrt", "reciprocal")
NAMES = (*BINARY, *UNARY, "where")
(ADD, SUBTRACT, MULTIPLY, DIVIDE, MAXIMUM, MINIMUM, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, EQUAL, NOT_EQUAL,
 COPY, NEGATIVE, SQUARE, ABSOLUTE, SQRT, RECIPROCAL, WHERE) = range(len(NAMES))


_part = numba.njit(error_model="numpy")  # compiled into `run`


def _binary(value):
    """The loops of a binary operation: operands that move by one element, or (step 0) not at all, or otherwise."""
    value = _part(value)

    @_part
    def loops(n, to, one, s, two, t):
        y = carray(doubles(to), n)
        if s == 1 and t == 1:
            a, b = carray(doubles(one), n), carray(doubles(two), n)
            for i in range(n):
                y[i] = value(a[i], b[i])
        elif s == 1 and t == 0:
            a, q = carray(doubles(one), n), carray(doubles(two), 1)[0]
            for i in range(n):
                y[i] = value(a[i], q)
        elif s == 0 and t == 1:
            p, b = carray(doubles(one), 1)[0], carray(doubles(two), n)
            for i in range(n):
                y[i] = value(p, b[i])
        else:
            for i in range(n):
                y[i] = value(carray(doubles(one + 8 * s * i), 1)[0], carray(doubles(two + 8 * t * i), 1)[0])
    return loops


def _unary(value):
    value = _part(value)

    @_part
    def loops(n, to, one, s):
        y = carray(doubles(to), n)
        if s == 1:
            a = carray(doubles(one), n)
            for i in range(n):
                y[i] = value(a[i])
        else:
            for i in range(n):
                y[i] = value(carray(doubles(one + 8 * s * i), 1)[0])
    return loops


_add = _binary(lambda a, b: a + b)
_subtract = _binary(lambda a, b: a - b)
_multiply = _binary(lambda a, b: a * b)
_divide = _binary(lambda a, b: a / b)
_maximum = _binary(lambda a, b: a if a >= b or a != a else b)
_minimum = _binary(lambda a, b: a if a <= b or a != a else b)
_greater = _binary(lambda a, b: 1.0 if a > b else 0.0)
_greater_equal = _binary(lambda a, b: 1.0 if a >= b else 0.0)
_less = _binary(lambda a, b: 1.0 if a < b else 0.0)
_less_equal = _binary(lambda a, b: 1.0 if a <= b else 0.0)
_equal = _binary(lambda a, b: 1.0 if a == b else 0.0)
_not_equal = _binary(lambda a, b: 1.0 if a != b else 0.0)
_copy = _unary(lambda a: a)
_negative = _unary(lambda a: -a)
_square = _unary(lambda a: a * a)
_absolute = _unary(lambda a: abs(a))
_sqrt = _unary(lambda a: math.sqrt(a))
_reciprocal = _unary(lambda a: 1.0 / a)


@_part
def _where(n, to, one, s, two, t, three, u):
    y = carray(doubles(to), n)
    if s == 1 and t == 1 and u == 1:
        c, a, b = carray(doubles(one), n), carray(doubles(two), n), carray(doubles(three), n)
        for i in range(n):
            y[i] = a[i] if c[i] != 0.0 else b[i]
    else:
        for i in range(n):
            c, a = carray(doubles(one + 8 * s * i), 1)[0], carray(doubles(two + 8 * t * i), 1)[0]
            y[i] = a if c != 0.0 else carray(doubles(three + 8 * u * i), 1)[0]


@jit
def run(groups, code):
    """Run groups one after another, each tile by tile.  The columns are those that `tiles.Program` writes."""
    for g in range(len(groups)):
        first, last, rows, tile = groups[g, 0], groups[g, 1], groups[g, 2], groups[g, 3]
        for top in range(groups[g, 4], rows, tile):
            bottom = min(top + tile, rows)
            for k in range(first, last):
                c = code[k]
                low, high = max(top, c[1]), min(bottom, c[2])
                if low >= high:
                    continue
                op, n, m = c[0], c[3], high - low
                y = c[5] + c[6] * (low - top * c[7])
                one = c[8] + c[9] * (low - top * c[10])
                two = c[12] + c[13] * (low - top * c[14])
                three = c[16] + c[17] * (low - top * c[18])
                if c[4]:
                    n, m = n * m, 1
                for _ in range(m):
                    if op == ADD:
                        _add(n, y, one, c[11], two, c[15])
                    elif op == SUBTRACT:
                        _subtract(n, y, one, c[11], two, c[15])
                    elif op == MULTIPLY:
                        _multiply(n, y, one, c[11], two, c[15])
                    elif op == DIVIDE:
                        _divide(n, y, one, c[11], two, c[15])
                    elif op == MAXIMUM:
                        _maximum(n, y, one, c[11], two, c[15])
                    elif op == MINIMUM:
                        _minimum(n, y, one, c[11], two, c[15])
                    elif op == GREATER:
                        _greater(n, y, one, c[11], two, c[15])
                    elif op == GREATER_EQUAL:
                        _greater_equal(n, y, one, c[11], two, c[15])
                    elif op == LESS:
                        _less(n, y, one, c[11], two, c[15])
                    elif op == LESS_EQUAL:
                        _less_equal(n, y, one, c[11], two, c[15])
                    elif op == EQUAL:
                        _equal(n, y, one, c[11], two, c[15])
                    elif op == NOT_EQUAL:
                        _not_equal(n, y, one, c[11], two, c[15])
                    elif op == COPY:
                        _copy(n, y, one, c[11])
                    elif op == NEGATIVE:
                        _negative(n, y, one, c[11])
                    elif op == SQUARE:
                        _square(n, y, one, c[11])
                    elif op == ABSOLUTE:
                        _absolute(n, y, one, c[11])
                    elif op == SQRT:
                        _sqrt(n, y, one, c[11])
                    elif op == RECIPROCAL:
                        _reciprocal(n, y, one, c[11])
                    elif op == WHERE:
                        _where(n, y, one, c[11], two, c[15], three, c[19])
                    y += c[6]
                    one += c[9]
                    two += c[13]
                    three += c[17]
