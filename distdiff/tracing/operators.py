"""The operators of traced scalars, written out: a loop of a million lines spends its time in them.

They are compiled once from one template, which reaches the recorder through its globals, and run anew for every trace
(`scalar.attach`), around the run that it appends to.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..ops import BY_NAME, Op
from .floating import raised

# The operands are a traced scalar or a Python number; everything else goes the general way.
_FORWARD = """
def __{name}__(self, other):
    kind = type(other)
    if kind is Scalar:
        b = other.i
        v = self.v {sign} other.v
    elif kind is float or kind is int:
        b = lookup(other) or constant(other)
        v = self.v {sign} other
    else:
        return general({op}, self, other)
    extend(({code}, self.i, b))
    result = new({kind})
    try:
        result.i = next_id()
    except StopIteration:
        result.i = pack()
    result.v = {value}
    return result
"""
_REFLECTED = """
def __r{name}__(self, other):
    kind = type(other)
    if kind is not float and kind is not int:
        return general({op}, other, self)
    v = other {sign} self.v
    extend(({code}, lookup(other) or constant(other), self.i))
    result = new(Scalar)
    try:
        result.i = next_id()
    except StopIteration:
        result.i = pack()
    result.v = v
    return result
"""

def _method(template: str, name: str, op: str, sign: str, kind: str = "Scalar", value: str = "v") -> str:
    text = template.format(name=name, op=f"op_{op}", sign=sign, code=BY_NAME[op].code, kind=kind, value=value)
    if sign == "/":  # by zero to inf or nan, as NumPy's floats
        text = re.sub(r"v = (\S+) / (\S+)", r"v = divide(\1, \2)", text)
    return text


_ARITHMETIC = (("add", "add", "+"), ("sub", "subtract", "-"), ("mul", "multiply", "*"), ("truediv", "divide", "/"))
_COMPARISONS = (
    ("lt", "less", "<"),
    ("le", "less_equal", "<="),
    ("gt", "greater", ">"),
    ("ge", "greater_equal", ">="),
    ("eq", "equal", "=="),
    ("ne", "not_equal", "!="),
)
OPS_BY_NAME = {f"op_{op}": BY_NAME[op] for _, op, _ in _ARITHMETIC + _COMPARISONS}
METHODS = [(f"__{name}__", BY_NAME[op]) for name, op, _ in _ARITHMETIC + _COMPARISONS] + [
    (f"__r{name}__", BY_NAME[op]) for name, op, _ in _ARITHMETIC
]
CODE = compile(
    "".join(
        [_method(_FORWARD, *row) for row in _ARITHMETIC]
        + [_method(_REFLECTED, *row) for row in _ARITHMETIC]
        + [_method(_FORWARD, *row, "Boolean", "1.0 if v else 0.0") for row in _COMPARISONS]
    ),
    __file__,
    "exec",
)


def numpy_divide(a: float, b: float) -> float:
    """a / b as NumPy's floats divide: by zero to inf or nan."""
    try:
        return a / b
    except ZeroDivisionError:
        with nullcontext() if raised() else np.errstate(all="ignore"):
            return float(np.float64(a) / np.float64(b))


def asking(general: Callable[..., Any], op: Op, reflected: bool) -> Callable[..., Any]:
    """An operator by NumPy's own operation, which raises or warns as the user has set it."""
    if reflected:
        return lambda self, other: general(op, other, self)
    return lambda self, other: general(op, self, other)


__all__ = ["CODE", "METHODS", "OPS_BY_NAME", "asking", "numpy_divide"]
