"""np.r_ and np.c_ of traced values: objects, which no protocol of NumPy's reaches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import ndim_of, shape_of


def joined(key: Any, array_of: Callable[[Any], Any], axis: int = 0, ndmin: int = 1, first: int = -1) -> Any:
    """What np.r_[key] is: slices are ranges (linspace, if the step is imaginary), the rest arrays, joined along `axis`;
    a string "axis,ndmin,first" says how those with fewer axes than `ndmin` get new ones (see numpy.r_)."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if parts and isinstance(parts[0], str):
        numbers = parts.pop(0).split(",")
        axis, ndmin, first = (*(int(n) for n in numbers), *(axis, ndmin, first)[len(numbers) :])
    return np.concatenate([_shaped(_array(part, array_of), ndmin, first) for part in parts], axis=axis)


def _array(part: Any, array_of: Callable[[Any], Any]) -> Any:
    if isinstance(part, slice):
        start, step = part.start or 0, 1 if part.step is None else part.step
        if isinstance(step, complex):
            return np.linspace(start, part.stop, int(abs(step)))
        return np.arange(start, part.stop, step)
    return array_of(part)


def _shaped(x: Any, ndmin: int, first: int) -> Any:
    """x with at least `ndmin` axes; its own begin at axis `first`, or (negative) so far from the last they can be."""
    missing = ndmin - ndim_of(x)
    if missing <= 0:
        return x
    before = first if first >= 0 else missing + 1 + first
    return np.reshape(x, (1,) * before + shape_of(x) + (1,) * (missing - before))
