"""How and when every loop of this package is compiled: by Numba, once it is worth it, and kept on disk (`cache`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_at_once = False


def worth_it(work: int, budget: int) -> bool:
    """Whether so much work wants compiled loops: more than Numba's import and a compilation cost in plain Python."""
    return _at_once or work > budget


def compile_at_once() -> None:
    """From now on nothing is too small to be compiled: for filling the cache."""
    global _at_once
    _at_once = True


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

        settings: dict[str, Any] = dict(error_model="numpy", nogil=True, fastmath={"contract"} if contract else False)
        if inline:
            settings["inline"] = "always"
        dispatcher = numba.njit(**settings)(f)
        if not numba.config.DISABLE_JIT:
            dispatcher._cache = DiskCache(f)  # where njit(cache=True) puts Numba's own
        return dispatcher

    return compiled if function is None else compiled(function)
