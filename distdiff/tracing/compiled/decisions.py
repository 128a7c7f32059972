"""Where compiled code asks a traced value for a plain answer: if and while, int(x), max and min, round, floor, ceil.

The answer is recorded and guarded, as the interpreter does.  These functions stand in for Python's own, with the place
in the user's code (`stream.site_text`) as one more argument; for plain values they do what Python's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate
from numba.extending import lower_builtin

from .elementals import compare, record
from .emit import at_line, guard
from .types import F64, I64, TracedBool, TracedFloat, declare, is_plain, pair, parts, traced_float

DECISIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""Python's function -> the one that stands in for it."""

_TRACED = (TracedFloat, TracedBool)


def _stands_in(function: Callable[..., Any], traced: Callable[..., Any], lower: Callable[..., Any]) -> None:
    """traced(args) -> the signature with a traced argument, or None; lower(context, builder, sig, args, site)."""

    def decision(*args: Any) -> Any:
        raise AssertionError("stands for a function inside compiled code")

    decision.__name__ = decision.__qualname__ = function.__name__

    class Template(AbstractTemplate):
        prefer_literal = True

        def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
            *args, site = args
            if not isinstance(site, types.StringLiteral):
                return None
            if any(isinstance(x, _TRACED) for x in args):
                sig = traced(tuple(args))
            else:
                own = self.context.resolve_value_type(function)
                sig = self.context.resolve_function_type(own, tuple(args), kws)
            return sig and signature(sig.return_type, *sig.args, site)

    declare(decision, Template)

    def lower_any(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
        *inner, site = sig.args
        inner_sig = signature(sig.return_type, *inner)
        if any(isinstance(x, _TRACED) for x in inner):
            return lower(context, builder, inner_sig, args[:-1], site.literal_value)
        own = context.typing_context.resolve_value_type(function)
        context.typing_context.resolve_function_type(own, tuple(inner), {})
        return context.get_function(own, inner_sig)(builder, args[:-1])

    lower_builtin(decision, types.VarArg(types.Any))(lower_any)
    DECISIONS[function] = decision


def _whole(op: str) -> Callable[..., ir.Value]:
    """x cut to a whole number: the line `op`, and a guard on it."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value], site: str) -> ir.Value:
        value, mark = parts(builder, record(context, builder, op, args[0]))
        with builder.if_then(builder.fcmp_unordered("uno", builder.fsub(value, value), F64(0.0)), likely=False):
            nan = builder.fcmp_unordered("uno", value, F64(0.0))
            with builder.if_then(nan):
                context.call_conv.return_user_exc(builder, ValueError, ("cannot convert float NaN to integer",))
            context.call_conv.return_user_exc(builder, OverflowError, ("cannot convert float infinity to integer",))
        guard(context, builder, value, mark, site)
        return builder.fptosi(value, I64)

    return lower


def _truth(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value], site: str) -> ir.Value:
    answer = args[0]
    if isinstance(sig.args[0], TracedFloat):
        answer = record(context, builder, "not_equal", answer, pair(builder, F64(0.0), I64(0)))
    value, mark = parts(builder, answer)
    guard(context, builder, value, mark, site)
    return builder.fcmp_unordered("!=", value, F64(0.0))


def _one_to_int(args: tuple[Any, ...]) -> Any:
    return signature(types.int64, args[0]) if len(args) == 1 and isinstance(args[0], TracedFloat) else None


_stands_in(bool, lambda args: signature(types.boolean, args[0]) if len(args) == 1 else None, _truth)
for _function, _op in ((int, "trunc"), (round, "rint"), (math.floor, "floor"), (math.ceil, "ceil"),
                       (math.trunc, "trunc")):
    _stands_in(_function, _one_to_int, _whole(_op))


def _extreme(op: str) -> Callable[..., ir.Value]:
    """Python's max and min: the first that no later one beats, decided one comparison after another."""

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value], site: str) -> ir.Value:
        kind, best = sig.args[0], args[0]
        for ty, x in zip(sig.args[1:], args[1:]):
            answer = compare(context, builder, op, (ty, x), (kind, best))
            value, mark = parts(builder, answer)
            guard(context, builder, value, mark, site)
            x, best = context.cast(builder, x, ty, traced_float), context.cast(builder, best, kind, traced_float)
            kind, best = traced_float, builder.select(builder.fcmp_unordered("!=", value, F64(0.0)), x, best)
        return best

    return lower


def _some_floats(args: tuple[Any, ...]) -> Any:
    if len(args) < 2 or not all(isinstance(x, (TracedFloat, types.Integer, types.Float)) for x in args):
        return None
    return signature(traced_float, *[types.float64 if is_plain(x) else traced_float for x in args])


_stands_in(max, _some_floats, _extreme("greater"))
_stands_in(min, _some_floats, _extreme("less"))
# float(x) decides nothing: a traced float it stays
for _function in (float, np.float64):
    _stands_in(_function, lambda args: signature(traced_float, traced_float) if len(args) == 1 else None,
               lambda context, builder, sig, args, site: args[0])


def mark_line(site: str) -> None:
    """Say at which line of the user's code compiled code is."""
    raise AssertionError("stands in compiled code only")


class _MarkLine(AbstractTemplate):
    prefer_literal = True

    def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        return signature(types.none, *args) if isinstance(args[0], types.StringLiteral) else None


def _lower_mark(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    at_line(context, builder, sig.args[0].literal_value)
    return context.get_dummy_value()


declare(mark_line, _MarkLine)
lower_builtin(mark_line, types.Any)(_lower_mark)
