"""The op table: one line an elemental operation, with value and first partial derivatives.

`value(*x, out=None)` is a NumPy ufunc (or keeps its calling convention).  `partials[k](y, *x)` is the derivative of the
result y with respect to operand k: a float where it is constant, else an array, by reference where it is one of the
operands (d(ab)/da is b itself).  `partials[k] is None` says that the derivative vanishes identically (comparisons,
rounding): such an operand makes no entry in L.

`code` numbers the ops of scalar runs; `kernels.scalar_values` and `kernels.scalar_partials` compute the same functions
compiled, and a test holds the two against each other.

Conventions where a function has a kink: |x| has derivative 0 at 0 (sign), maximum and minimum give a tie to their first
operand, and a maximum over an array to its first maximal element: the derivative of the line that ran.
"""

from __future__ import annotations

import dis
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Partial = Callable[..., Any] | None


@dataclass(frozen=True, eq=False)
class Op:
    """One elemental operation."""

    name: str
    code: int
    value: Callable[..., Any]
    partials: tuple[Partial, ...]
    kind: str = "elementwise"  # or "select" (first extremum over the reduced axes), "scan" (running sum)
    linear: bool = False  # every partial is a constant float

    @property
    def arity(self) -> int:
        return len(self.partials)

    @cached_property
    def reads(self) -> tuple[frozenset[int], ...]:
        """For each partial, the values its rule reads: operand numbers, -1 for the result."""
        if self.kind == "select":
            return (frozenset((0,)),)
        return tuple(frozenset() if rule is None else _names_read(rule) for rule in self.partials)

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)  # ops are singletons: they travel by name

    def __repr__(self) -> str:
        return f"<op {self.name}>"


def _names_read(rule: Callable[..., Any]) -> frozenset[int]:
    """The arguments that a rule's code loads, counted from the first operand: it cannot read others."""
    names = rule.__code__.co_varnames[: rule.__code__.co_argcount]
    loaded = {i.argval for i in dis.get_instructions(rule) if i.opname.startswith("LOAD_FAST")}
    loaded |= {name for pair in loaded if isinstance(pair, tuple) for name in pair}  # two at once, since Python 3.13
    return frozenset(names.index(name) - 1 for name in loaded if name in names)


OPS: list[Op] = []
BY_NAME: dict[str, Op] = {}


def _by_name(name: str) -> Op:
    return BY_NAME[name]


def _op(name: str, value: Callable[..., Any], *partials: Partial, kind: str = "elementwise",
        linear: bool = False) -> Op:
    op = Op(name, len(OPS), value, partials, kind, linear)
    OPS.append(op)
    BY_NAME[name] = op
    return op


def _constant(c: float) -> Partial:
    return lambda y, *x: c


_one, _minus_one = _constant(1.0), _constant(-1.0)
LN2, LN10 = float(np.log(2.0)), float(np.log(10.0))


def _where(c: Any, a: Any, b: Any, out: np.ndarray | None = None) -> Any:
    chosen = np.where(c, a, b)  # np.where is no ufunc: it has no out
    if out is None:
        return chosen
    out[...] = chosen
    return out


def _copy(a: Any, out: np.ndarray | None = None) -> Any:
    return np.positive(a, out=out)


def _power_exponent(y: Any, a: Any, b: Any) -> Any:
    """d(a^b)/db = y log a; 0 where a = 0 and y = 0, the limit from the right."""
    return y * np.log(np.where((a == 0) & (b > 0), 1.0, a))


def _mask(condition: Any) -> Any:
    """1.0 where a condition holds and 0.0 where not; a condition on traced values stays one."""
    return np.asarray(condition, dtype=float) if type(condition) in (np.ndarray, np.bool_, bool) else condition


def _hypot_partial(y: Any, a: Any) -> Any:
    return a / np.where(y == 0, 1.0, y)


# -- arithmetic
COPY = _op("copy", _copy, _one, linear=True)
ADD = _op("add", np.add, _one, _one, linear=True)
SUBTRACT = _op("subtract", np.subtract, _one, _minus_one, linear=True)
MULTIPLY = _op("multiply", np.multiply, lambda y, a, b: b, lambda y, a, b: a)
DIVIDE = _op("divide", np.true_divide, lambda y, a, b: 1.0 / b, lambda y, a, b: -y / b)
POWER = _op("power", np.power, lambda y, a, b: b * np.power(a, np.where(b == 0, 1.0, b - 1.0)), _power_exponent)
NEGATIVE = _op("negative", np.negative, _minus_one, linear=True)
_op("absolute", np.absolute, lambda y, a: np.sign(a))
_op("sqrt", np.sqrt, lambda y, a: 0.5 / y)
_op("square", np.square, lambda y, a: 2.0 * a)
_op("reciprocal", np.reciprocal, lambda y, a: -y * y)
_op("cbrt", np.cbrt, lambda y, a: 1.0 / (3.0 * y * y))
# -- exponentials
_op("exp", np.exp, lambda y, a: y)
_op("exp2", np.exp2, lambda y, a: LN2 * y)
_op("expm1", np.expm1, lambda y, a: y + 1.0)
_op("log", np.log, lambda y, a: 1.0 / a)
_op("log2", np.log2, lambda y, a: 1.0 / (LN2 * a))
_op("log10", np.log10, lambda y, a: 1.0 / (LN10 * a))
_op("log1p", np.log1p, lambda y, a: 1.0 / (1.0 + a))
_op("logaddexp", np.logaddexp, lambda y, a, b: np.exp(a - y), lambda y, a, b: np.exp(b - y))
# -- trigonometry
_op("sin", np.sin, lambda y, a: np.cos(a))
_op("cos", np.cos, lambda y, a: -np.sin(a))
_op("tan", np.tan, lambda y, a: 1.0 + y * y)
_op("arcsin", np.arcsin, lambda y, a: 1.0 / np.sqrt((1.0 - a) * (1.0 + a)))
_op("arccos", np.arccos, lambda y, a: -1.0 / np.sqrt((1.0 - a) * (1.0 + a)))
_op("arctan", np.arctan, lambda y, a: 1.0 / (1.0 + a * a))
_op("arctan2", np.arctan2, lambda y, a, b: b / (a * a + b * b), lambda y, a, b: -a / (a * a + b * b))
_op("hypot", np.hypot, lambda y, a, b: _hypot_partial(y, a), lambda y, a, b: _hypot_partial(y, b))
_op("sinh", np.sinh, lambda y, a: np.cosh(a))
_op("cosh", np.cosh, lambda y, a: np.sinh(a))
_op("tanh", np.tanh, lambda y, a: 1.0 - y * y)
_op("arcsinh", np.arcsinh, lambda y, a: 1.0 / np.hypot(1.0, a))
_op("arccosh", np.arccosh, lambda y, a: 1.0 / np.sqrt((a - 1.0) * (a + 1.0)))
_op("arctanh", np.arctanh, lambda y, a: 1.0 / ((1.0 - a) * (1.0 + a)))
# -- kinks
_op("maximum", np.maximum, lambda y, a, b: _mask(a >= b),
    lambda y, a, b: _mask(a < b))
_op("minimum", np.minimum, lambda y, a, b: _mask(a <= b),
    lambda y, a, b: _mask(a > b))
_op("remainder", np.remainder, _one, lambda y, a, b: -np.floor(a / b))
_op("copysign", np.copysign, lambda y, a, b: np.sign(a) * np.sign(y), None)
# -- piecewise constant: derivative 0, no entries; a comparison is 1.0 where it holds and 0.0 where not
_op("sign", np.sign, None)
_op("floor", np.floor, None)
_op("ceil", np.ceil, None)
_op("rint", np.rint, None)
_op("trunc", np.trunc, None)
_op("floor_divide", np.floor_divide, None, None)
for _name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal",
              "logical_and", "logical_or", "logical_xor"):
    _op(_name, getattr(np, _name), None, None)
for _name in ("logical_not", "isfinite", "isnan", "isinf", "signbit"):
    _op(_name, getattr(np, _name), None)
# -- ops of arrays only
WHERE = _op("where", _where, None, lambda y, c, a, b: _mask(c != 0),
            lambda y, c, a, b: _mask(c == 0))
MAX = _op("max", np.max, _one, kind="select")
MIN = _op("min", np.min, _one, kind="select")
CUMSUM = _op("cumsum", np.cumsum, _one, kind="scan", linear=True)
