"""The code of functions that are not ours, exchanged while somebody traces: every name bound to them runs it."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any


def _call(*args, **kwargs):
    dispatch = "dispatch"  # the constant is exchanged for the function it names: other modules' globals don't know it
    return dispatch(*args, **kwargs)


def code_of(dispatch: Callable[..., Any]) -> CodeType:
    """Code that hands all arguments to `dispatch`, for a function of whatever signature."""
    code = _call.__code__
    constants = tuple(dispatch if c == "dispatch" else c for c in code.co_consts)
    return code.replace(co_consts=constants, co_name=dispatch.__name__, co_qualname=dispatch.__qualname__)


def twin(function: FunctionType) -> FunctionType:
    """The same function, which keeps its code."""
    twin = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    twin.__kwdefaults__, twin.__qualname__ = function.__kwdefaults__, function.__qualname__
    return twin
