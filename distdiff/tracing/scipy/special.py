"""Functions of scipy.special's that are written in Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reductions import axes_of, largest, total, traced_array
from .replacing import Rule


def _near_largest(a: Any, axes: tuple[int, ...]) -> Any:
    """A shift that keeps exp(a - shift) within range: a whole number beside the largest, with derivative zero."""
    shift = np.rint(largest(a, axes, keepdims=True))
    return np.where(np.isfinite(shift), shift, 0.0)


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """log(sum(b exp(a))); with return_sign the logarithm of the absolute value, and the sign."""
    a, b = (a, b) if b is None else np.broadcast_arrays(a, b)
    a = traced_array(a)
    axes = axes_of(axis, a.ndim)
    if b is not None:
        a = np.where(np.equal(b, 0.0), -np.inf, a)  # a weight of 0 takes an infinite term away
    shift = _near_largest(a, axes)
    terms = np.exp(a - shift)
    s = total(terms if b is None else b * terms, axes, keepdims=keepdims)
    sign = np.sign(s)
    result = np.log(np.abs(s) if return_sign else s) + (shift if keepdims else np.squeeze(shift, axes))
    return (result, sign) if return_sign else result


def softmax(x: Any, axis: Any = None) -> Any:
    x = traced_array(x)
    axes = axes_of(axis, x.ndim)
    terms = np.exp(x - _near_largest(x, axes))
    return terms / total(terms, axes, keepdims=True)


def log_softmax(x: Any, axis: Any = None) -> Any:
    x = traced_array(x)
    axes = axes_of(axis, x.ndim)
    x = x - _near_largest(x, axes)
    return x - np.log(total(np.exp(x), axes, keepdims=True))


RULES: dict[str, Rule] = {
    "scipy.special:logsumexp": logsumexp,
    "scipy.special:softmax": softmax,
    "scipy.special:log_softmax": log_softmax,
}
