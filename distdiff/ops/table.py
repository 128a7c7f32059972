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
    scalar: bool = True  # can be a line of a scalar run; others are statements, over one number too

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


def enter(name: str, value: Callable[..., Any], *partials: Partial, kind: str = "elementwise",
          linear: bool = False, scalar: bool = True) -> Op:
    """One more line of the table."""
    op = Op(name, len(OPS), value, partials, kind, linear, scalar)
    OPS.append(op)
    BY_NAME[name] = op
    return op


def _constant(c: float) -> Partial:
    return lambda y, *x: c


_one, _minus_one = _constant(1.0), _constant(-1.0)
LN2, LN10 = float(np.log(2.0)), float(np.log(10.0))


_choose = np.where  # NumPy's own, whatever is substituted meanwhile


def _where(c: Any, a: Any, b: Any, out: np.ndarray | None = None) -> Any:
    chosen = _choose(c, a, b)  # np.where is no ufunc: it has no out
    if out is None:
        return chosen
    out[...] = chosen
    return out


def _copy(a: Any, out: np.ndarray | None = None) -> Any:
    return np.positive(a, out=out)


def _varies(x: Any) -> bool:
    """Whether a rule is given what is recorded as it computes with it, so that the derivative is differentiated."""
    return hasattr(type(x), "rec")


def _power_base(y: Any, a: Any, b: Any) -> Any:
    """d(a^b)/da = b a^(b-1); 0 where a = b = 0."""
    if _varies(b):
        return b * np.power(a, b - 1.0 + np.logical_and(a == 0, b == 0))
    return b * np.power(a, np.where(b == 0, 1.0, b - 1.0))


def _power_exponent(y: Any, a: Any, b: Any) -> Any:
    """d(a^b)/db = y log a; 0 where a = 0 and y = 0, the limit from the right."""
    return y * np.log(a + np.logical_and(a == 0, b > 0))


def _mask(condition: Any) -> Any:
    """1.0 where a condition holds and 0.0 where not; a condition on traced values stays one."""
    return np.asarray(condition, dtype=float) if type(condition) in (np.ndarray, np.bool_, bool) else condition


def _hypot_partial(y: Any, a: Any) -> Any:
    """a / y; 0 where both are."""
    return a / (y + (y == 0))


def _over_squares(x: Any, a: Any, b: Any) -> Any:
    """x / (a^2 + b^2), whose squares may be out of range where the quotient isn't."""
    r = np.hypot(a, b)
    return x / r / r


# -- arithmetic
COPY = enter("copy", _copy, _one, linear=True)
ADD = enter("add", np.add, _one, _one, linear=True)
SUBTRACT = enter("subtract", np.subtract, _one, _minus_one, linear=True)
MULTIPLY = enter("multiply", np.multiply, lambda y, a, b: b, lambda y, a, b: a)
DIVIDE = enter("divide", np.true_divide, lambda y, a, b: 1.0 / b, lambda y, a, b: -y / b)
POWER = enter("power", np.power, _power_base, _power_exponent)
NEGATIVE = enter("negative", np.negative, _minus_one, linear=True)
enter("absolute", np.absolute, lambda y, a: np.sign(a))
enter("sqrt", np.sqrt, lambda y, a: 0.5 / y)
enter("square", np.square, lambda y, a: 2.0 * a)
enter("reciprocal", np.reciprocal, lambda y, a: -y * y)
enter("cbrt", np.cbrt, lambda y, a: 1.0 / (3.0 * y * y))
# -- exponentials
enter("exp", np.exp, lambda y, a: y)
enter("exp2", np.exp2, lambda y, a: LN2 * y)
enter("expm1", np.expm1, lambda y, a: y + 1.0)
enter("log", np.log, lambda y, a: 1.0 / a)
enter("log2", np.log2, lambda y, a: 1.0 / (LN2 * a))
enter("log10", np.log10, lambda y, a: 1.0 / (LN10 * a))
enter("log1p", np.log1p, lambda y, a: 1.0 / (1.0 + a))
enter("logaddexp", np.logaddexp, lambda y, a, b: np.exp(a - y), lambda y, a, b: np.exp(b - y))
# -- trigonometry
enter("sin", np.sin, lambda y, a: np.cos(a))
enter("cos", np.cos, lambda y, a: -np.sin(a))
enter("tan", np.tan, lambda y, a: 1.0 + y * y)
enter("arcsin", np.arcsin, lambda y, a: 1.0 / np.sqrt((1.0 - a) * (1.0 + a)))
enter("arccos", np.arccos, lambda y, a: -1.0 / np.sqrt((1.0 - a) * (1.0 + a)))
enter("arctan", np.arctan, lambda y, a: _over_squares(1.0, 1.0, a))
enter("arctan2", np.arctan2, lambda y, a, b: _over_squares(b, a, b), lambda y, a, b: _over_squares(-a, a, b))
enter("hypot", np.hypot, lambda y, a, b: _hypot_partial(y, a), lambda y, a, b: _hypot_partial(y, b))
enter("sinh", np.sinh, lambda y, a: np.cosh(a))
enter("cosh", np.cosh, lambda y, a: np.sinh(a))
enter("tanh", np.tanh, lambda y, a: 1.0 - y * y)
enter("arcsinh", np.arcsinh, lambda y, a: 1.0 / np.hypot(1.0, a))
enter("arccosh", np.arccosh, lambda y, a: 1.0 / (np.sqrt(a - 1.0) * np.sqrt(a + 1.0)))
enter("arctanh", np.arctanh, lambda y, a: 1.0 / ((1.0 - a) * (1.0 + a)))
# -- kinks
enter("maximum", np.maximum, lambda y, a, b: _mask(np.greater_equal(a, b)),
      lambda y, a, b: _mask(np.less(a, b)))
enter("minimum", np.minimum, lambda y, a, b: _mask(np.less_equal(a, b)),
      lambda y, a, b: _mask(np.greater(a, b)))
enter("remainder", np.remainder, _one, lambda y, a, b: -np.floor(a / b))
enter("copysign", np.copysign, lambda y, a, b: np.sign(a) * np.sign(y), None)
# -- piecewise constant: derivative 0, no entries; a comparison is 1.0 where it holds and 0.0 where not
enter("sign", np.sign, None)
enter("floor", np.floor, None)
enter("ceil", np.ceil, None)
enter("rint", np.rint, None)
enter("trunc", np.trunc, None)
enter("floor_divide", np.floor_divide, None, None)
for _name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal",
              "logical_and", "logical_or", "logical_xor"):
    enter(_name, getattr(np, _name), None, None)
for _name in ("logical_not", "isfinite", "isnan", "isinf", "signbit"):
    enter(_name, getattr(np, _name), None)
# -- ops of arrays only
WHERE = enter("where", _where, None, lambda y, c, a, b: _mask(c != 0),
              lambda y, c, a, b: _mask(c == 0), scalar=False)
MAX = enter("max", np.max, _one, kind="select", scalar=False)
MIN = enter("min", np.min, _one, kind="select", scalar=False)
CUMSUM = enter("cumsum", np.cumsum, _one, kind="scan", linear=True, scalar=False)
enter("nextafter", np.nextafter, _one, None, scalar=False)  # x itself, to the last digit
