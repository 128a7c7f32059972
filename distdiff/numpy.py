"""NumPy as traced functions want it, for code that says `from numpy import zeros`.

    import distdiff.numpy as np          or          from distdiff.numpy import zeros, array

is NumPy itself, but for the functions that make arrays: while a function is traced they answer with arrays
that can hold traced values.  `import numpy as np` needs none of this: there np.zeros is looked up at the
call, and is substituted.
"""

from __future__ import annotations

from typing import Any

import numpy as _numpy

from .tracing import plain_value as value
from .tracing.creation import SUBSTITUTES as _SUBSTITUTES

globals().update(_SUBSTITUTES)


def __getattr__(name: str) -> Any:
    return getattr(_numpy, name)


def __dir__() -> list[str]:
    return sorted({*dir(_numpy), "value"})


__all__ = [name for name in _numpy.__all__ if not name.startswith("_")] + ["value"]
