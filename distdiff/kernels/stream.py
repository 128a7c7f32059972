"""Streaming sums of contiguous vectors, one pass over memory each.

    linear     dst = s1 first + s2 second
    product    dst = s1 first + (s2 p + c) second
    columns    the same for dst, first, second of shape (n, m), with p of shape (n,)

`first` may be None (no such term) or dst itself; `second` may be dst itself.  NumPy does it in tiles that stay in
the first cache level; once enough has been moved to be worth Numba's import, compiled loops take over.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np

from .jit import worth_it

TILE = 8192
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


def linear(dst: np.ndarray, s1: float, first: np.ndarray | None, s2: float, second: np.ndarray) -> None:
    """dst = s1 first + s2 second, for 1-D arrays."""
    if first is None:
        if s2 == 1.0:
            np.copyto(dst, second)
        else:
            np.multiply(second, s2, out=dst)
        return
    if second is dst:
        first, second, s1, s2 = second, first, s2, s1
    if s1 == 1.0 and s2 == 1.0:
        np.add(first, second, out=dst)
    elif s1 == 1.0 and s2 == -1.0:
        np.subtract(first, second, out=dst)
    elif _Loops.ready(dst.size):
        if first is dst:
            _Loops.module.linear_into(dst, s1, s2, second)
        else:
            _Loops.module.linear(dst, s1, first, s2, second)
    else:
        for i in range(0, len(dst), TILE):
            t = second[i : i + TILE] * s2
            if s1 == 1.0:
                np.add(first[i : i + TILE], t, out=dst[i : i + TILE])
            else:
                np.add(first[i : i + TILE] * s1, t, out=dst[i : i + TILE])


def product(dst: np.ndarray, s1: float, first: np.ndarray | None, s2: float, p: np.ndarray, c: float,
            second: np.ndarray) -> None:
    """dst = s1 first + (s2 p + c) second, for 1-D arrays."""
    if first is None and s2 == 1.0 and c == 0.0:
        np.multiply(p, second, out=dst)
    elif _Loops.ready(dst.size):
        loops = _Loops.module
        if first is None:
            if second is dst:
                loops.scale_by(dst, s2, p, c)
            else:
                loops.product_alone(dst, s2, p, c, second)
        elif first is dst:
            loops.product_into(dst, s1, s2, p, c, second)
        elif second is dst:
            loops.product_onto(dst, s1, first, s2, p, c)
        else:
            loops.product(dst, s1, first, s2, p, c, second)
    else:
        for i in range(0, len(dst), TILE):
            if c != 0.0:
                t = p[i : i + TILE] * s2
                t += c
                t *= second[i : i + TILE]
            else:
                t = p[i : i + TILE] * second[i : i + TILE]
                if s2 != 1.0:
                    t *= s2
            if first is not None:
                t += first[i : i + TILE] if s1 == 1.0 else first[i : i + TILE] * s1
            dst[i : i + TILE] = t


def columns(dst: np.ndarray, s1: float, first: np.ndarray | None, s2: float, p: np.ndarray, c: float,
            second: np.ndarray) -> None:
    """dst = s1 first + (s2 p + c) second, for (n, m) arrays and p (n,)."""
    if first is not None and _Loops.ready(dst.size):
        _Loops.module.columns(dst, s1, first, s2, p, c, second)
        return
    rows = max(1, TILE // max(dst.shape[1], 1))
    for i in range(0, len(dst), rows):
        t = (p[i : i + rows] * s2 + c)[:, None] * second[i : i + rows]
        if first is not None:
            t += first[i : i + rows] if s1 == 1.0 else first[i : i + rows] * s1
        dst[i : i + rows] = t


def scatter_add(places: np.ndarray, values: np.ndarray, vector: np.ndarray) -> None:
    """vector[places[k]] += values[k], places may repeat; values (k,) and vector (n,), or (k, m) and (n, m)."""
    if _Loops.ready(10 * values.size):  # np.add.at takes about ten times as long as a loop
        loops = _Loops.module
        (loops.scatter_add if values.ndim == 1 else loops.scatter_add_columns)(places, values, vector)
    else:
        np.add.at(vector, places, values)
