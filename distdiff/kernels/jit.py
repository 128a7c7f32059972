"""How every loop of this package is compiled, and where the result is kept.

The machine code is cached on disk by Numba, beside the source or, where that can't be written, in the user's cache;
where neither can be written it is compiled anew by every process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def jit(function: Callable[..., Any] | None = None, *, contract: bool = False,
        inline: bool = False) -> Callable[..., Any]:
    """A decorator: the function compiled at its first call for each signature (importing Numba takes half a second).

    Division by zero gives inf or nan, as in NumPy.  `contract` allows fused multiply-add, for loops that need not
    give NumPy's result to the last bit.  `inline` puts the function into its callers as it stands: a helper that takes
    arrays is called at the price of counting their references otherwise.
    """
    def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
        import numba

        settings: dict[str, Any] = dict(error_model="numpy", nogil=True, fastmath={"contract"} if contract else False)
        if inline:
            settings["inline"] = "always"
        try:
            return numba.njit(cache=True, **settings)(f)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            return numba.njit(**settings)(f)

    return compiled if function is None else compiled(function)
