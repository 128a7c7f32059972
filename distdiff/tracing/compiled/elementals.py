"""The op table for Numba: operators, functions of `math` and NumPy's scalar functions on traced floats.

For each: what type comes out (traced floats from any mixture with plain numbers), and code that computes the value as
`kernels.scalar_ops` will and appends the line.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate
from numba.extending import lower_builtin

from ...kernels import scalar_ops
from ...ops import BY_NAME
from .emit import line
from .types import F64, I64, TracedBool, TracedFloat, declare, is_plain, pair, parts, traced_bool, traced_float

FUNCTIONS: dict[str, tuple[Callable[..., Any], ...]] = {
    "add": (operator.add, operator.iadd, np.add),
    "subtract": (operator.sub, operator.isub, np.subtract),
    "multiply": (operator.mul, operator.imul, np.multiply),
    "divide": (operator.truediv, operator.itruediv, np.true_divide),
    "remainder": (operator.mod, operator.imod, np.remainder),
    "floor_divide": (operator.floordiv, operator.ifloordiv, np.floor_divide),
    "negative": (operator.neg, np.negative),
    "absolute": (abs, math.fabs, np.absolute, np.fabs),
    "sqrt": (math.sqrt, np.sqrt),
    "square": (np.square,),
    "reciprocal": (np.reciprocal,),
    "cbrt": (np.cbrt, *([math.cbrt] if hasattr(math, "cbrt") else [])),
    "exp": (math.exp, np.exp),
    "exp2": (np.exp2, *([math.exp2] if hasattr(math, "exp2") else [])),
    "expm1": (math.expm1, np.expm1),
    "log": (math.log, np.log),
    "log2": (math.log2, np.log2),
    "log10": (math.log10, np.log10),
    "log1p": (math.log1p, np.log1p),
    "logaddexp": (np.logaddexp,),
    "sin": (math.sin, np.sin),
    "cos": (math.cos, np.cos),
    "tan": (math.tan, np.tan),
    "arcsin": (math.asin, np.arcsin),
    "arccos": (math.acos, np.arccos),
    "arctan": (math.atan, np.arctan),
    "arctan2": (math.atan2, np.arctan2),
    "hypot": (math.hypot, np.hypot),
    "sinh": (math.sinh, np.sinh),
    "cosh": (math.cosh, np.cosh),
    "tanh": (math.tanh, np.tanh),
    "arcsinh": (math.asinh, np.arcsinh),
    "arccosh": (math.acosh, np.arccosh),
    "arctanh": (math.atanh, np.arctanh),
    "maximum": (np.maximum,),
    "minimum": (np.minimum,),
    "copysign": (math.copysign, np.copysign),
    "sign": (np.sign,),
    "floor": (np.floor,),
    "ceil": (np.ceil,),
    "rint": (np.rint,),
    "trunc": (np.trunc,),
    "greater": (operator.gt, np.greater),
    "greater_equal": (operator.ge, np.greater_equal),
    "less": (operator.lt, np.less),
    "less_equal": (operator.le, np.less_equal),
    "equal": (operator.eq, np.equal),
    "not_equal": (operator.ne, np.not_equal),
    "logical_and": (operator.and_, operator.iand, np.logical_and),
    "logical_or": (operator.or_, operator.ior, np.logical_or),
    "logical_xor": (operator.xor, operator.ixor, np.logical_xor),
    "logical_not": (operator.invert, np.logical_not),
    "isfinite": (math.isfinite, np.isfinite),
    "isnan": (math.isnan, np.isnan),
    "isinf": (math.isinf, np.isinf),
    "signbit": (np.signbit,),
}
BITS = {operator.and_, operator.iand, operator.or_, operator.ior, operator.xor, operator.ixor, operator.invert}
COMPARISONS = {"greater": ">", "greater_equal": ">=", "less": "<", "less_equal": "<=", "equal": "==",
               "not_equal": "!="}
REFLECTED = {"greater": "less", "less": "greater", "greater_equal": "less_equal", "less_equal": "greater_equal",
             "equal": "equal", "not_equal": "not_equal"}
BOOLEAN = {*COMPARISONS, "logical_and", "logical_or", "logical_xor", "logical_not", "isfinite", "isnan", "isinf",
           "signbit"}
_INSTRUCTIONS = {"add": "fadd", "subtract": "fsub", "multiply": "fmul", "divide": "fdiv"}


def value_of(context: Any, builder: ir.IRBuilder, name: str, values: list[ir.Value]) -> ir.Value:
    """The value of an operation on floats, as `scalar_ops.value` computes it."""
    if name in _INSTRUCTIONS:
        return getattr(builder, _INSTRUCTIONS[name])(*values)
    if name in COMPARISONS:
        compare = builder.fcmp_unordered if name == "not_equal" else builder.fcmp_ordered
        return builder.uitofp(compare(COMPARISONS[name], *values), F64)
    if name == "negative":
        return builder.fneg(values[0])
    if name == "square":
        return builder.fmul(values[0], values[0])
    if name == "copy":
        return values[0]
    one_op = _one_op(name)
    return context.compile_internal(builder, one_op, signature(types.float64, *[types.float64] * len(values)), values)


_ONE_OP: dict[str, Callable[..., float]] = {}


def _one_op(name: str) -> Callable[..., float]:
    """`scalar_ops.value` for one operation, as a function that Numba puts into its caller."""
    if name not in _ONE_OP:
        value = scalar_ops.alone(name)
        if name in scalar_ops.BINARY:
            def one_op(x: float, z: float) -> float:
                return value(x, z)
        else:
            def one_op(x: float) -> float:
                return value(x)
        _ONE_OP[name] = one_op
    return _ONE_OP[name]


def record(context: Any, builder: ir.IRBuilder, name: str, *operands: ir.Value) -> ir.Value:
    """One operation on traced floats (their pairs): its value, and its line on the tape."""
    apart = [parts(builder, x) for x in operands]
    value = value_of(context, builder, name, [v for v, _ in apart])
    return pair(builder, value, line(context, builder, BY_NAME[name].code, apart, value))


def _fits(name: str, function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Whether an operation takes these: floats or numbers, at least one traced; & | ^ ~ take answers of comparisons."""
    if not any(isinstance(x, (TracedFloat, TracedBool)) for x in args):
        return False
    if function in BITS:
        return all(isinstance(x, (TracedBool, types.Boolean)) for x in args)
    if not all(isinstance(x, (TracedFloat, TracedBool)) or is_plain(x) for x in args):
        return False
    return name in BOOLEAN or any(isinstance(x, TracedFloat) for x in args) or any(
        isinstance(x, (types.Integer, types.Float)) for x in args)


def _declare(name: str, function: Callable[..., Any]) -> None:
    result = traced_bool if name in BOOLEAN else traced_float
    operand = traced_bool if function in BITS else traced_float
    arity = BY_NAME[name].arity

    class Template(AbstractTemplate):
        def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
            if len(args) != arity or kws or not _fits(name, function, args):
                return None
            if name in COMPARISONS and is_plain(args[0]):
                return signature(result, types.float64, traced_float)
            return signature(result, *[operand] * arity)

    declare(function, Template)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        return record(context, builder, name, *args)

    lower_builtin(function, *[type(operand)] * arity)(lower)
    if name in COMPARISONS:
        lower_builtin(function, types.Float, TracedFloat)(
            lambda context, builder, sig, args: compare(context, builder, name, *zip(sig.args, args)))


def compare(context: Any, builder: ir.IRBuilder, name: str, x: tuple[Any, ir.Value],
            y: tuple[Any, ir.Value]) -> ir.Value:
    """A comparison of two (type, value); Python asks the traced one, so 1.0 < x is x > 1.0."""
    if is_plain(x[0]):
        name, x, y = REFLECTED[name], y, x
    return record(context, builder, name, *(context.cast(builder, v, ty, traced_float) for ty, v in (x, y)))


for _name, _functions in FUNCTIONS.items():
    for _function in dict.fromkeys(_functions):
        _declare(_name, _function)


# -- powers: x ** 2 is a square, as in the interpreter ------------------------------------------------------------

POWERS = (operator.pow, operator.ipow, pow, math.pow, np.power)


class Power(AbstractTemplate):
    def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        if len(args) != 2 or kws or not _fits("power", operator.pow, args):
            return None
        exponent = types.float64 if is_plain(args[1]) else traced_float
        return signature(traced_float, traced_float, exponent)


def _power(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    return record(context, builder, "power", *args)


def _power_plain(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    """x ** 2 is a square, x ** 1 is x, x ** 0 the constant 1; the tests fall away where the exponent is written out."""
    x, exponent = args
    done = builder.append_basic_block("power.done")
    found = []
    for special, result in ((2.0, lambda: record(context, builder, "square", x)), (1.0, lambda: x),
                            (0.0, lambda: pair(builder, F64(1.0), I64(0)))):
        with builder.if_then(builder.fcmp_ordered("==", exponent, F64(special))):
            y = result()
            found.append((y, builder.block))
            builder.branch(done)
    y = record(context, builder, "power", x, pair(builder, exponent, I64(0)))
    found.append((y, builder.block))
    builder.branch(done)
    builder.position_at_end(done)
    result = builder.phi(y.type)
    for y, block in found:
        result.add_incoming(y, block)
    return result


for _function in POWERS:
    declare(_function, type("Power", (Power,), {}))
    lower_builtin(_function, TracedFloat, TracedFloat)(_power)
    lower_builtin(_function, TracedFloat, types.Float)(_power_plain)


# -- what changes nothing -----------------------------------------------------------------------------------------

def _declare_same(function: Callable[..., Any]) -> None:
    class Same(AbstractTemplate):
        def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
            return signature(traced_float, traced_float) if args == (traced_float,) and not kws else None

    declare(function, Same)
    lower_builtin(function, TracedFloat)(lambda context, builder, sig, args: args[0])


for _function in (operator.pos, np.positive):
    _declare_same(_function)
