"""The functions of the op table once more, for one line at a time, in compiled loops (importing this imports Numba).

Operations have numbers of their own (`NAMES`), binary ones first: compiled code stays valid, cached on disk, when the
op table grows.
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable
from functools import cache

import numba
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


@cache
def alone(name: str) -> Callable[..., float]:
    """`value` of one operation, as a function of its operands, for code that is compiled where it is known.

    Its branch is cut out of `value`: compiled with all others, which then fall away, it takes ten times as long.
    """
    (function,) = ast.parse(inspect.getsource(value.py_func)).body
    assert isinstance(function, ast.FunctionDef)
    branch = next(node for node in ast.walk(function)
                  if isinstance(node, ast.If) and ast.unparse(node.test) == f"c == {name.upper()}")
    function.name, function.decorator_list, function.body = name, [], branch.body
    function.args.args = function.args.args[1:3 if name in BINARY else 2]
    ast.increment_lineno(function, value.py_func.__code__.co_firstlineno - 1)
    found: dict[str, Callable[..., float]] = {}
    exec(compile(ast.Module([function], []), __file__, "exec"), globals(), found)
    return numba.njit(error_model="numpy", nogil=True)(found[name])


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
        r = math.hypot(x, z)
        return z / r / r, -x / r / r
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
        r = math.hypot(1.0, x)
        return 1.0 / r / r, 0.0
    elif c == SINH:
        return math.cosh(x), 0.0
    elif c == COSH:
        return math.sinh(x), 0.0
    elif c == TANH:
        return 1.0 - y * y, 0.0
    elif c == ARCSINH:
        return 1.0 / math.hypot(1.0, x), 0.0
    elif c == ARCCOSH:
        return 1.0 / (math.sqrt(x - 1.0) * math.sqrt(x + 1.0)), 0.0
    elif c == ARCTANH:
        return 1.0 / ((1.0 - x) * (1.0 + x)), 0.0
    return 0.0, 0.0
