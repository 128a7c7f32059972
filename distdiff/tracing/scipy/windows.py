"""Arrays extended at their ends, and contractions with the windows that slide over them.

A window is a view of the extended array whose elements repeat: its operand is affine, and the contraction with a
kernel is one statement, however large either of them is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..array import shape_of

_PADDED = {"nearest": "edge", "wrap": "wrap", "reflect": "symmetric", "mirror": "reflect"}  # NumPy's names


def extended(x: Any, axis: int, before: int, after: int, mode: str, value: float = 0.0) -> Any:
    """x with more elements along an axis, as scipy.ndimage's mode of that name has them; < 0: fewer."""
    n = shape_of(x)[axis]
    if before < 0 or after < 0:
        keep = [slice(None)] * len(shape_of(x))
        keep[axis] = slice(max(0, -before), n - max(0, -after))
        return extended(x[tuple(keep)], axis, max(before, 0), max(after, 0), mode, value)
    if not before and not after:
        return x
    width = [(before, after) if k == axis else (0, 0) for k in range(len(shape_of(x)))]
    if mode == "constant":
        return np.pad(x, width, constant_values=value)
    if max(before, after) < n:
        return np.pad(x, width, _PADDED[mode])
    return np.take(x, places(n, before, after, mode), axis)


def places(n: int, before: int, after: int, mode: str) -> np.ndarray:
    """Which elements of n stand at -before, ..., n + after - 1."""
    at = np.arange(-before, n + after)
    if mode == "nearest":
        return np.clip(at, 0, n - 1)
    if mode == "wrap":
        return at % n
    period = 2 * n if mode == "reflect" else max(2 * n - 2, 1)
    at = at % period
    return np.where(at < n, at, (2 * n - 1 if mode == "reflect" else period) - at)


def sliding(x: Any, sizes: Sequence[int], axes: Sequence[int]) -> Any:
    """(..., *sizes): what lies in the window at every place."""
    return np.lib.stride_tricks.sliding_window_view(x, tuple(sizes), tuple(axes))


def contracted(x: Any, kernel: Any, axes: Sequence[int]) -> Any:
    """sum_k x[i + k] kernel[k], the window moving along `axes`; along the others kernel and x have one length, or 1."""
    ndim = len(shape_of(x))
    windows = sliding(x, [shape_of(kernel)[k] for k in axes], axes)
    inner = {axis: ndim + i for i, axis in enumerate(axes)}
    return np.einsum(windows, [*range(ndim), *inner.values()], kernel, [inner.get(k, k) for k in range(ndim)],
                     list(range(ndim)))
