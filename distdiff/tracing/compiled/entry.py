"""In and out of compiled code: plain pairs and structured arrays on NumPy's side, traced floats on Numba's."""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.core.errors import TypingError
from numba.core.typing import signature
from numba.extending import intrinsic

from . import arrays
from .rewrite import tracing
from .types import ELEMENT, Answer, Number, TracedBool, TracedFloat, pair, traced_float

RECORD = numba.from_dtype(ELEMENT)
_NUMBER, _ANSWER = (types.NamedTuple((types.float64, types.int64), kind) for kind in (Number, Answer))


@intrinsic
def scalar(typingctx: Any, value: Any, mark: Any) -> Any:
    """A value and its mark as a traced float."""
    return signature(traced_float, types.float64, types.int64), (
        lambda context, builder, sig, args: pair(builder, *args))


@intrinsic
def array(typingctx: Any, x: Any) -> Any:
    """A structured array as an array of traced floats: the same memory."""
    return signature(x.copy(dtype=traced_float), x), arrays.same_memory


@intrinsic
def outward(typingctx: Any, x: Any) -> Any:
    """The result, traced floats as (value, mark) and arrays of them as structured arrays."""
    return signature(_outward(x), x), _lower_outward


def _outward(x: Any) -> Any:
    if isinstance(x, (TracedFloat, TracedBool)):
        return _NUMBER if isinstance(x, TracedFloat) else _ANSWER
    if isinstance(x, types.Array) and isinstance(x.dtype, TracedFloat):
        return x.copy(dtype=RECORD)
    if isinstance(x, types.BaseTuple) and not isinstance(x, types.BaseNamedTuple):
        return types.Tuple([_outward(part) for part in x])
    if isinstance(x, (types.Array, types.Number, types.Boolean, types.NoneType, types.UnicodeType)):
        return x
    raise TypingError(f"a result of the kind {x} can't leave compiled code: return numbers, arrays, or tuples of them")


def _lower_outward(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> ir.Value:
    def move(ty: Any, value: ir.Value) -> ir.Value:
        if isinstance(ty, types.Array) and isinstance(ty.dtype, TracedFloat):
            return arrays.same_memory(context, builder, signature(_outward(ty), ty), [value])
        if isinstance(ty, types.BaseTuple) and not isinstance(ty, types.BaseNamedTuple):
            moved = [move(part, builder.extract_value(value, k)) for k, part in enumerate(ty)]
            return context.make_tuple(builder, _outward(ty), moved)
        context.nrt.incref(builder, ty, value)
        return value

    return move(sig.args[0], args[0])


@cache
def _maker(shapes: tuple[Any, ...]) -> Any:
    """Text of an entry whose arguments come in these shapes: "scalar", "array", "plain", or a tuple of such."""

    names: list[str] = []

    def new(count: int = 1) -> str:
        names.extend([f"a{len(names) + k}" for k in range(count)])
        return ", ".join(names[-count:])

    def inward(shape: Any) -> str:
        if type(shape) is tuple:
            return f"({''.join(inward(part) + ', ' for part in shape)})"
        return new() if shape == "plain" else f"scalar({new(2)})" if shape == "scalar" else f"array({new()})"

    given = ", ".join(map(inward, shapes))
    text = f"def make(inner, scalar, array, outward):\n def entry({', '.join(names)}):\n"
    text += f"  return outward(inner({given}))\n return entry\n"
    space: dict[str, Any] = {}
    exec(compile(text, "<distdiff compiled entry>", "exec"), space)
    return space["make"]


def entry(function: FunctionType, shapes: tuple[Any, ...], marked: bool) -> Any:
    """The compiled function that takes values, marks and structured arrays one by one, puts them together in `shapes`,
    calls `function` traced, and gives its result `outward`."""
    return numba.njit(no_cfunc_wrapper=True)(_maker(shapes)(tracing(function, marked), scalar, array, outward))
