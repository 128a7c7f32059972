"""Numbers with a tangent: what the rules of the op table are computed with to find how partials change.

    p(y, x)   with y and x at  y + e ydot,  x + e xdot,  e^2 = 0        gives    p + e pdot

A rule is a formula in NumPy's functions, every one of which is a line of the table itself, so there is no second table
of partials.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .table import BY_NAME, OPS, Op

_OP_OF = {op.value: op for op in OPS if isinstance(op.value, np.ufunc) and getattr(np, op.value.__name__, None)
          is op.value}
KNOWN = frozenset((*_OP_OF.values(), BY_NAME["where"]))  # ops whose rules use no other functions than those


class Dual:
    """value + e dot: arrays that broadcast against each other, or numbers."""

    __slots__ = ("dot", "value")
    rec = None  # by this rules know what varies
    __hash__ = None

    def __init__(self, value: Any, dot: Any) -> None:
        self.value, self.dot = value, dot

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs or ufunc not in _OP_OF:
            raise TypeError(f"a rule of the op table used numpy.{ufunc.__name__} in a way that has no derivative")
        return _applied(_OP_OF[ufunc], inputs)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        raise TypeError(f"a rule of the op table used numpy.{function.__name__}, which has no derivative here")


def _applied(op: Op, operands: tuple[Any, ...]) -> Any:
    values = [x.value if type(x) is Dual else x for x in operands]
    y, dot = op.value(*values), None
    for x, rule in zip(operands, op.partials):
        if type(x) is Dual and rule is not None:
            term = rule(y, *values) * x.dot
            dot = term if dot is None else dot + term
    return y if dot is None else Dual(y, dot)


def _operators() -> None:
    names = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "power", "lt": "less",
             "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
    for name, of in names.items():
        op = BY_NAME[of]
        setattr(Dual, f"__{name}__", lambda self, other, op=op: _applied(op, (self, other)))
        setattr(Dual, f"__r{name}__", lambda self, other, op=op: _applied(op, (other, self)))
    Dual.__neg__ = lambda self: _applied(BY_NAME["negative"], (self,))


_operators()


def tangent(rule: Callable[..., Any], y: Any, *x: Any) -> Any:
    """pdot of a rule of an op that is `KNOWN`, some of whose arguments are `Dual`; None where it is zero."""
    p = rule(y, *x)
    return p.dot if type(p) is Dual else None


__all__ = ["KNOWN", "Dual", "tangent"]
