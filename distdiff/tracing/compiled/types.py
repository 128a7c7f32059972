"""What Numba knows of traced values: a float with the node that carries it, and the answer of a comparison.

Both are a pair (value, mark): mark = node + 1, or 0 for a constant, so that memory full of zeros holds the constant 0.
Plain numbers turn into constants wherever they meet a traced float; no traced float turns into a plain one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typeconv import Conversion
from numba.core.typing.templates import infer_global
from numba.extending import lower_cast, models, register_model

ELEMENT = np.dtype([("value", np.float64), ("mark", np.int64)], align=True)
"""A traced float as NumPy sees it where it goes in and out of compiled code."""


class Number(NamedTuple):
    """A traced float on its way in or out of compiled code."""

    value: float
    mark: int


class Answer(NamedTuple):
    """The answer of a comparison on its way out: value is 1.0 or 0.0."""

    value: float
    mark: int


I64, F64 = ir.IntType(64), ir.DoubleType()


class TracedFloat(types.Type):
    """A float that depends on the inputs, or may come to."""

    def __init__(self) -> None:
        super().__init__(name="traced float")

    def can_convert_from(self, typingctx: Any, other: Any) -> Conversion | None:
        if isinstance(other, (types.Integer, types.Float, types.Boolean)) or other == traced_bool:
            return Conversion.safe
        return None

    def unify(self, typingctx: Any, other: Any) -> Any:
        return self if self.can_convert_from(typingctx, other) is not None else None


class TracedBool(types.Type):
    """The answer of a comparison of traced floats; to ask for its truth is a decision, which guards the trace."""

    def __init__(self) -> None:
        super().__init__(name="traced comparison")

    def can_convert_from(self, typingctx: Any, other: Any) -> Conversion | None:
        return Conversion.safe if isinstance(other, types.Boolean) else None

    def unify(self, typingctx: Any, other: Any) -> Any:
        return self if isinstance(other, types.Boolean) else None


traced_float, traced_bool = TracedFloat(), TracedBool()


class _Model(models.StructModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, [("value", types.float64), ("mark", types.int64)])


register_model(TracedFloat)(_Model)
register_model(TracedBool)(_Model)


def declare(function: Any, template: Any) -> None:
    """One more way to type calls of `function`, beside Numba's own."""
    template.key = function
    infer_global(function, types.Function(template))


def is_plain(ty: Any) -> bool:
    """Whether a type is that of plain real numbers."""
    return isinstance(ty, (types.Integer, types.Float, types.Boolean))


def pair(builder: ir.IRBuilder, value: ir.Value, mark: ir.Value) -> ir.Value:
    """A traced value from its two parts."""
    both = builder.insert_value(ir.Constant(ir.LiteralStructType([F64, I64]), ir.Undefined), value, 0)
    return builder.insert_value(both, mark, 1)


def parts(builder: ir.IRBuilder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """(value, mark) of a traced value."""
    return builder.extract_value(x, 0), builder.extract_value(x, 1)


@lower_cast(types.Integer, TracedFloat)
@lower_cast(types.Float, TracedFloat)
@lower_cast(types.Boolean, TracedFloat)
@lower_cast(types.Boolean, TracedBool)
def _constant(context: Any, builder: ir.IRBuilder, fromty: Any, toty: Any, value: ir.Value) -> ir.Value:
    return pair(builder, context.cast(builder, value, fromty, types.float64), I64(0))


@lower_cast(types.IntegerLiteral, TracedFloat)
@lower_cast(types.BooleanLiteral, TracedFloat)
@lower_cast(types.BooleanLiteral, TracedBool)
def _literal(context: Any, builder: ir.IRBuilder, fromty: Any, toty: Any, value: ir.Value) -> ir.Value:
    return pair(builder, F64(float(fromty.literal_value)), I64(0))


@lower_cast(TracedBool, TracedFloat)
def _number(context: Any, builder: ir.IRBuilder, fromty: Any, toty: Any, value: ir.Value) -> ir.Value:
    return value
