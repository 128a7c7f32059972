"""Small sums added in place, by the fewest NumPy calls: on arrays of a few elements a call costs more than its work."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from ..flags import note, note_product
from ..strided import accumulate, accumulate_overlapping, core_shape, one_to_one

SMALL = 4096  # elements of a sum's terms up to which they are multiplied and added, no matrix product looked for

Index = tuple[int, ...]


def add(dst: np.ndarray, src: np.ndarray, p: float | np.ndarray, shape: Index,
         strides: Index) -> None:
    """dst += sum p src over the iteration space; core views, dst of these strides."""
    if not _distinct(shape, strides):
        accumulate_overlapping(dst, src, p, shape, 1.0, False, strides)
        return
    if len(shape) == 3 and isinstance(p, np.ndarray):
        places = _product(dst.shape, src.shape, p.shape, shape)
        if places is not None:
            summed, row, column = places
            a, b, c = (x.squeeze(k) for x, k in ((src, column), (p, row), (dst, summed)))
            c = c if row < column else c.T
            left, right = a if row < summed else a.T, b if summed < column else b.T
            product = np.dot(left, right)
            note()
            note_product(left, right, product)
            c += product
            return
    axes = _summed(dst.shape, shape)
    if not axes:
        plus(dst, src, p)
        return
    if prod(shape) > SMALL:
        accumulate(dst, src, p, shape)
        return
    terms = p * src
    if terms.shape != shape:
        for k in axes:
            if terms.shape[k] != shape[k]:
                terms = terms * shape[k]  # the same all along the axis
    dst += np.add.reduce(terms, axis=axes, keepdims=True)


def plus(dst: np.ndarray, src: np.ndarray, p: float | np.ndarray) -> None:
    """dst += p src, element by element."""
    if isinstance(p, np.ndarray) or abs(p) != 1.0:
        dst += p * src
    elif p > 0.0:
        dst += src
    else:
        dst -= src


@lru_cache(maxsize=4096)
def _product(dst: Index, src: Index, p: Index, shape: Index) -> tuple[int, int, int] | None:
    """(the axis summed, the one along which src moves, the one along which p moves) of a product of matrices, each of
    which stands still along one axis of three; None for any other sum."""
    still = [[k for k in range(3) if x[k] != shape[k]] for x in (dst, src, p)]
    if any(len(axes) != 1 for axes in still) or len({*map(tuple, still)}) != 3:
        return None
    (summed,), (column,), (row,) = still
    return summed, row, column


@lru_cache(maxsize=4096)
def _distinct(shape: Index, strides: Index) -> bool:
    return one_to_one(core_shape(shape, strides), strides)


@lru_cache(maxsize=4096)
def _summed(core: Index, shape: Index) -> Index:
    return tuple(k for k, (n, m) in enumerate(zip(core, shape)) if n != m)
