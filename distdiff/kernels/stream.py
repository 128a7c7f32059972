"""Scattered sums, and when compiled loops over vectors are worth Numba's import.

NumPy does small work; once enough has been moved, compiled loops take over.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

from ..flags import note
from .jit import worth_it

COMPILE_AFTER = 100_000_000  # elements moved by NumPy, about 50 ms, before the loops are compiled ...
COMPILE_SOON = 10_000_000  # ... and if Numba is there already


class _Loops:
    module: ModuleType | None = None
    spent = 0

    @classmethod
    def ready(cls, n: int) -> bool:
        cls.spent += n
        if cls.module is None and worth_it(cls.spent, COMPILE_SOON if "numba" in sys.modules else COMPILE_AFTER):
            from . import stream_loops

            cls.module = stream_loops
        return cls.module is not None


def compiled(n: int) -> bool:
    """Whether compiled loops are worth it for n more elements, in these loops and in `combine`'s."""
    return _Loops.ready(n)


FEW, DENSE = 64, 8  # more places than that, in a range of at most so many times their number: counted, not one by one


def scatter_add(places: np.ndarray, values: np.ndarray, vector: np.ndarray) -> None:
    """vector[places[k]] += values[k], places may repeat; values (k,) and vector (n,), or (k, m) and (n, m)."""
    if _Loops.ready(10 * values.size):  # np.add.at takes about ten times as long as a loop, np.bincount twice
        loops = _Loops.module
        (loops.scatter_add if values.ndim == 1 else loops.scatter_add_columns)(places, values, vector)
        note()
    elif len(places) > FEW and (reach := int(places.max()) + 1 - (low := int(places.min()))) <= DENSE * len(places):
        columns, sums = values.reshape(len(places), -1), vector.reshape(len(vector), -1)[low : low + reach]
        for k in range(columns.shape[1]):
            counted = np.bincount(places - low, columns[:, k], reach)
            note()
            sums[:, k] += counted
    else:
        np.add.at(vector, places, values)
