"""SciPy's functions that no protocol of NumPy's reaches, on traced values: one file a module of SciPy's, and
`replacing`, which answers in their stead while somebody traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..complexes import TRANSFORMS, complex_within
from ..linalg import FUNCTIONS
from ..protocol import array_function
from . import (
    entries,
    fft,
    integrate,
    interpolate,
    linalg,
    ndimage,
    optimize,
    signal,
    sparse,
    spatial,
    special,
    stats,
)
from .replacing import Replaced, Rule, around

NUMPY_LINALG = ("solve", "inv", "det", "slogdet", "cholesky", "eigh", "eigvalsh", "eig", "eigvals", "svd", "qr", "pinv",
                "lstsq", "matrix_rank", "cond", "norm", "matrix_power", "tensorsolve", "tensorinv")



def _numpys(function: Callable[..., Any], rule: Rule) -> Rule:
    def call(*args: Any, **kwargs: Any) -> Any:
        if complex_within((args, tuple(kwargs.values()))):
            return array_function(None, function, (), args, kwargs)
        return rule(*args, **kwargs)

    call.straight = rule
    return call


@around
def poly1d(original: Callable[..., Any], self: Any, c_or_r: Any, r: bool = False, variable: Any = None) -> None:
    """np.poly1d of a list, which is an array by now."""
    original(self, c_or_r, r, variable)


RULES: dict[str, Rule] = {  # "module:function" or "module:Class.method" -> what answers for it
    **{f"numpy.linalg:{function.__name__}": _numpys(function, rule)  # for lists, which take part in no protocol either
       for function, rule in FUNCTIONS.items() if function.__name__ in NUMPY_LINALG},
    **{f"numpy.fft:{function.__name__}": rule for function, rule in TRANSFORMS.items()},
    "numpy:poly1d.__init__": poly1d,
    **fft.RULES,
    **special.RULES,
    **linalg.RULES,
    **sparse.RULES,
    **entries.RULES,
    **stats.RULES,
    **signal.RULES,
    **ndimage.RULES,
    **optimize.RULES,
    **integrate.RULES,
    **interpolate.RULES,
    **spatial.RULES,
}

REFUSED: dict[str, Rule] = {**optimize.REFUSED, **spatial.REFUSED}  # what would answer wrongly, or crash

REPLACED = Replaced({**RULES, **REFUSED})

__all__ = ["REFUSED", "REPLACED", "RULES"]
