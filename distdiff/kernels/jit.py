"""How and when every loop of this package is compiled: by Numba, once it is worth it, and kept on disk (`cache`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, update_wrapper
from types import FunctionType
from typing import Any

_at_once = False


def worth_it(work: int, budget: int) -> bool:
    """Whether so much work wants compiled loops: more than Numba's import and a compilation cost in plain Python."""
    return _at_once or work > budget


def compile_at_once() -> None:
    """From now on nothing is too small to be compiled: for filling the cache."""
    global _at_once
    _at_once = True


class Helper:
    """A function that loops share: called as it is by loops that run as plain Python, put into compiled ones as it
    stands.
    """

    def __init__(self, plain: Callable[..., Any]) -> None:
        self.plain = plain
        self.__doc__ = plain.__doc__

    def __call__(self, *arguments: Any) -> Any:
        return self.plain(*arguments)

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        return jit(self.plain, inline=True)


class _Fetch(Helper):
    """A helper that is another function where it is compiled."""

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        from .prefetch import fetch as compiled

        return jit(compiled, inline=True)


@_Fetch
def fetch(y: Any, j: Any) -> None:
    """Have the processor fetch y[j] or y[j, 0], wanted soon, without waiting for it; in plain Python nothing.

    j is unsigned, and need not be a place within y.
    """


def _with_helpers(f: Any) -> Any:
    """The same function, its helpers compiled, which is all that Numba takes."""
    found = {name: f.__globals__[name].compiled for name in f.__code__.co_names
             if isinstance(f.__globals__.get(name), Helper)}
    if not found:
        return f
    made = FunctionType(f.__code__, {**f.__globals__, **found}, f.__name__, f.__defaults__, f.__closure__)
    return update_wrapper(made, f)


def jit(function: Callable[..., Any] | None = None, *, contract: bool = False,
        inline: bool = False) -> Callable[..., Any]:
    """A decorator: the function compiled at its first call for each signature (importing Numba takes half a second).

    Division by zero gives inf or nan, as in NumPy.  `contract` allows fused multiply-add, for loops that need not
    give NumPy's result to the last bit.  `inline` puts the function into its callers as it stands: a helper that takes
    arrays is called at the price of counting their references otherwise.
    """
    def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
        import numba

        from .cache import DiskCache

        f = _with_helpers(f)
        settings: dict[str, Any] = dict(error_model="numpy", nogil=True, fastmath={"contract"} if contract else False)
        if inline:
            settings["inline"] = "always"
        dispatcher = numba.njit(**settings)(f)
        if not numba.config.DISABLE_JIT:
            dispatcher._cache = DiskCache(f)  # where njit(cache=True) puts Numba's own
        return dispatcher

    return compiled if function is None else compiled(function)
