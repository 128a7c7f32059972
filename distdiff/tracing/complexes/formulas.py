"""NumPy's elementwise functions of complex operands, as real formulas on their parts.

A rule takes a pair (re, im) an operand and returns the pair of the result (`RULES`), or one real result (`REAL`).
Values are NumPy's to rounding, on its branches; where a part of a factor is zero by structure its products are left
out, so that 0 * inf makes no NaN there, and a zero that a sum or product leaves is positive.  Branch cuts and the
signs of zero on them are those of W. Kahan, "Branch cuts for complex elementary functions" (1987), from whom the
formulas of the inverse functions are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ops.table import LN2, LN10
from ..array import is_traced
from .parts import Pair, Part, filled, minus, negated, over, plus, times, times_minus

# -- arithmetic


def add(x: Pair, y: Pair) -> Pair:
    return plus(x[0], y[0]), plus(x[1], y[1])


def subtract(x: Pair, y: Pair) -> Pair:
    return minus(x[0], y[0]), minus(x[1], y[1])


def multiply(x: Pair, y: Pair) -> Pair:
    (a, b), (c, d) = x, y
    first = times(a, c)
    re = times_minus(b, d) if first is None else minus(first, times(b, d))
    return re, plus(times(a, d), times(b, c))


def square(x: Pair) -> Pair:
    a, b = x
    re = minus(None if a is None else np.square(a), None if b is None else np.square(b))
    return re, times(times(a, 2.0), b)


def _unit(x: Pair) -> tuple[Pair, Part]:
    """(conj(x) / |x|, |x|): no square overflows."""
    a, b = x
    size = np.hypot(a, b)
    return (a / size, -b / size), size


def divide(x: Pair, y: Pair) -> Pair:
    a, b = x
    c, d = y
    if d is None:
        c = filled(c)
        return over(a, c), over(b, c)
    if c is None:  # (a + ib) / (id) = (b - ia) / d
        return over(b, d), over(negated(a), d)
    if not is_traced(c) and not is_traced(d):
        inverse = 1.0 / (np.asarray(c) + 1j * np.asarray(d))
        return multiply(x, (inverse.real[()], inverse.imag[()]))
    unit, size = _unit(y)
    re, im = multiply(x, unit)
    return over(re, size), over(im, size)


def reciprocal(x: Pair) -> Pair:
    return divide((1.0, None), x)


def negative(x: Pair) -> Pair:
    return negated(x[0]), -0.0 if x[1] is None else -x[1]


def conjugate(x: Pair) -> Pair:
    return x[0], -0.0 if x[1] is None else -x[1]


def _whole_power(x: Pair, n: int) -> Pair:
    """By squaring, as NumPy's."""
    result: Pair | None = None
    power, rest = x, abs(n)
    while rest:
        if rest & 1:
            result = power if result is None else multiply(result, power)
        rest >>= 1
        power = square(power) if rest else power
    return (1.0, None) if result is None else reciprocal(result) if n < 0 else result


def power(x: Pair, y: Pair) -> Pair:
    """x^y = exp(y log x); whole numbers below 100 by products.  0^y is 0 where y > 0, with derivative 0, and NaN where
    y is not real, as NumPy has it."""
    (a, b), (c, d) = x, y
    if d is None and not is_traced(c) and np.ndim(c) == 0:
        c = float(filled(c))
        if c.is_integer() and abs(c) < 100:
            return _whole_power(x, int(c)) if c else (np.ones_like(filled(plus(a, b))), None)
        if c == 0.5:
            return sqrt(x)
    origin = np.logical_and(np.equal(filled(a), 0.0), np.equal(filled(b), 0.0))
    re, im = exp(multiply(y, log((np.where(origin, 1.0, filled(a)), b))))
    c, d = filled(c), filled(d)
    one = np.logical_and(np.equal(c, 0.0), np.equal(d, 0.0))
    there = np.where(np.logical_and(np.greater(c, 0.0), np.equal(d, 0.0)), 0.0, np.where(one, 1.0, np.nan))
    return np.where(origin, there, re), np.where(origin, there * 0.0, filled(im))


# -- exponentials


def exp(x: Pair) -> Pair:
    a, b = x
    size = 1.0 if a is None else np.exp(a)
    return (size, None) if b is None else (times(size, np.cos(b)), times(size, np.sin(b)))


def expm1(x: Pair) -> Pair:
    """Re = (e^a - 1) cos b - 2 sin(b/2)^2."""
    a, b = x
    if b is None:
        return np.expm1(filled(a)), None
    re = minus(times(None if a is None else np.expm1(a), np.cos(b)), 2.0 * np.square(np.sin(0.5 * b)))
    return re, times(1.0 if a is None else np.exp(a), np.sin(b))


def size_of(x: Pair) -> Part:
    a, b = x
    return np.absolute(filled(a)) if b is None else np.absolute(b) if a is None else np.hypot(a, b)


def angle(x: Pair) -> Part:
    return np.arctan2(filled(x[1]), filled(x[0]))


def log(x: Pair) -> Pair:
    return np.log(size_of(x)), angle(x)


def log1p(x: Pair) -> Pair:
    return log((plus(x[0], 1.0), x[1]))


def _scaled(rule: Callable[[Pair], Pair], factor: float) -> Callable[[Pair], Pair]:
    return lambda x: tuple(times(part, factor) for part in rule(x))


def exp2(x: Pair) -> Pair:
    return exp((times(x[0], LN2), times(x[1], LN2)))


def sqrt(x: Pair) -> Pair:
    """t + i b / (2t) with t^2 = (|x| + |a|) / 2 in the right half plane, turned by 90 degrees in the left one."""
    a, b = filled(x[0]), filled(x[1])
    sign = np.copysign(1.0, b)
    if type(b) is float:  # a real number
        root = np.sqrt(np.abs(a))
        return np.where(np.greater_equal(a, 0.0), root, 0.0), np.where(np.less(a, 0.0), times(root, sign), b)
    t = np.sqrt(0.5 * (np.hypot(a, b) + np.abs(a)))
    s = b / np.where(np.equal(t, 0.0), 1.0, 2.0 * t)
    right = np.greater_equal(a, 0.0)
    return np.where(right, t, s * sign), np.where(right, s, t * sign)


# -- circular and hyperbolic functions


def _of(function: Callable[[Any], Any], x: Part, at_zero: float | None) -> Part:
    return at_zero if x is None else function(x)


def sinh(x: Pair) -> Pair:
    a, b = x
    return (times(_of(np.sinh, a, None), _of(np.cos, b, 1.0)), times(_of(np.cosh, a, 1.0), _of(np.sin, b, None)))


def cosh(x: Pair) -> Pair:
    a, b = x
    return (times(_of(np.cosh, a, 1.0), _of(np.cos, b, 1.0)), times(_of(np.sinh, a, None), _of(np.sin, b, None)))


def tanh(x: Pair) -> Pair:
    """(p (1 + q^2) + i q (1 - p^2)) / (1 + p^2 q^2) with p = tanh a, q = tan b."""
    a, b = x
    if a is None or b is None:
        return _of(np.tanh, a, None), _of(np.tan, b, None)
    p, q = np.tanh(a), np.tan(b)
    below = 1.0 + np.square(p * q)
    return p * (1.0 + np.square(q)) / below, q / np.square(np.cosh(a)) / below


def _turned(rule: Callable[[Pair], Pair]) -> Callable[[Pair], Pair]:
    """f(x) = -i rule(ix): sin from sinh, tan from tanh, and the inverses."""

    def turned(x: Pair) -> Pair:
        re, im = rule((negated(x[1]), x[0]))
        return im, negated(re)

    return turned


def cos(x: Pair) -> Pair:
    return cosh((negated(x[1]), x[0]))


def _roots(x: Pair, one: float) -> tuple[Pair, Pair]:
    """sqrt(1 - x) and sqrt(1 + x), or sqrt(x - 1) and sqrt(x + 1), with the sign of a zero imaginary part kept."""
    a, b = filled(x[0]), filled(x[1])
    return (sqrt((1.0 - a, -b)) if one > 0 else sqrt((a - 1.0, b))), sqrt((1.0 + a, b))


def _product_part(x: Pair, y: Pair, imaginary: bool) -> Part:
    """Re or Im of conj(x) y."""
    (a, b), (c, d) = x, y
    return a * d - b * c if imaginary else a * c + b * d


def arcsin(x: Pair) -> Pair:
    low, high = _roots(x, 1.0)
    return (np.arctan2(filled(x[0]), low[0] * high[0] - low[1] * high[1]),
            np.arcsinh(_product_part(low, high, True)))


def arccos(x: Pair) -> Pair:
    low, high = _roots(x, 1.0)
    return 2.0 * np.arctan2(low[0], high[0]), np.arcsinh(_product_part(high, low, True))


def arccosh(x: Pair) -> Pair:
    low, high = _roots(x, -1.0)
    return np.arcsinh(_product_part(low, high, False)), 2.0 * np.arctan2(low[1], high[0])


def arctanh(x: Pair) -> Pair:
    a, b = filled(x[0]), filled(x[1])
    re = 0.25 * np.log1p(4.0 * a / (np.square(1.0 - a) + np.square(b)))
    return re, 0.5 * np.arctan2(2.0 * b, (1.0 - a) * (1.0 + a) - np.square(b))


def _inverse_turned(rule: Callable[[Pair], Pair]) -> Callable[[Pair], Pair]:
    """f(x) = -i rule(ix), the signs of zeros kept."""

    def turned(x: Pair) -> Pair:
        re, im = rule((-filled(x[1]), filled(x[0])))
        return im, -re

    return turned


# -- questions


def equal(x: Pair, y: Pair) -> Any:
    same = np.equal(filled(x[0]), filled(y[0]))
    return same if x[1] is None and y[1] is None else np.logical_and(same, np.equal(filled(x[1]), filled(y[1])))


def not_equal(x: Pair, y: Pair) -> Any:
    return np.logical_not(equal(x, y))


def _truth(x: Pair) -> Any:
    return not_equal(x, (None, None))


def _any(function: np.ufunc) -> Callable[[Pair], Any]:
    return lambda x: np.logical_or(function(filled(x[0])), function(filled(x[1])))


def _of_truths(function: np.ufunc) -> Callable[..., Any]:
    return lambda *x: function(*map(_truth, x))


def sign(x: Pair) -> Pair:
    """x / |x| since NumPy 2, before the sign of the real part (of the imaginary one, where that is 0)."""
    a, b = filled(x[0]), filled(x[1])
    if np.lib.NumpyVersion(np.__version__) < "2.0.0":
        return np.where(np.not_equal(a, 0.0), np.sign(a), np.sign(b)), None
    size = size_of(x)
    size = np.where(np.equal(size, 0.0), 1.0, size)
    return a / size, b / size


Rule = Callable[..., Any]

RULES: dict[np.ufunc, Rule] = {
    np.add: add, np.subtract: subtract, np.multiply: multiply, np.divide: divide, np.power: power,
    np.float_power: power, np.negative: negative, np.positive: lambda x: x, np.conjugate: conjugate,
    np.square: square, np.reciprocal: reciprocal, np.sqrt: sqrt,
    np.exp: exp, np.exp2: exp2, np.expm1: expm1, np.log: log, np.log1p: log1p,
    np.log2: _scaled(log, 1.0 / LN2), np.log10: _scaled(log, 1.0 / LN10),
    np.sinh: sinh, np.cosh: cosh, np.tanh: tanh, np.sin: _turned(sinh), np.cos: cos, np.tan: _turned(tanh),
    np.arcsin: arcsin, np.arccos: arccos, np.arctanh: arctanh, np.arccosh: arccosh,
    np.arcsinh: _inverse_turned(arcsin), np.arctan: _inverse_turned(arctanh),
    np.sign: sign, np.rint: lambda x: (np.rint(filled(x[0])), np.rint(filled(x[1]))),
}

REAL: dict[np.ufunc, Rule] = {
    np.absolute: size_of, np.equal: equal, np.not_equal: not_equal,
    np.isnan: _any(np.isnan), np.isinf: _any(np.isinf),
    np.isfinite: lambda x: np.logical_and(np.isfinite(filled(x[0])), np.isfinite(filled(x[1]))),
    **{ufunc: _of_truths(ufunc) for ufunc in (np.logical_and, np.logical_or, np.logical_xor, np.logical_not)},
}

SIGNED = frozenset((np.sqrt, np.log, np.log1p, np.log2, np.log10, np.power, np.float_power, np.arcsin, np.arccos,
                    np.arctanh, np.arccosh, np.arcsinh, np.arctan))  # with cuts, where the sign of a zero matters
