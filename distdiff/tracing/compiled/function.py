"""A function that is traced at compiled speed: its code, and what was compiled of it so far."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

from ...errors import InputError


class Function:
    """A Python function, plain or under numba.njit."""

    def __init__(self, f: Callable[..., Any]) -> None:
        function = getattr(f, "py_func", f)  # what is under Numba's njit
        if type(function) is not FunctionType:
            raise InputError(
                f"compiled(f) wants a Python function, plain or under numba.njit, not a {type(f).__name__}: Numba "
                "compiles from the function's own code"
            )
        functools.update_wrapper(self, function)
        self.__wrapped__ = f
        self.__code__ = function.__code__
        self.function = function
        self.warned: set[str] = set()
        self.forget()

    def forget(self) -> None:
        """Let go of what was compiled, and what could not be (`call` keeps it here)."""
        self.entries: dict[Any, Any] = {}  # by the arguments' shapes
        self.ready: dict[Any, Any] = {}  # the same, by the arguments' kinds
        self.failures: dict[Any, str] = {}

    def __repr__(self) -> str:
        return f"compiled({self.function.__qualname__})"


__all__ = ["Function"]
