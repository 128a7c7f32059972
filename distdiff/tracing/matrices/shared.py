"""What the rules of matrices have in common.  Everything serves plain and traced arrays, (..., rows, columns)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.elemental import Pattern


def transpose(a: Any) -> Any:
    return np.swapaxes(a, -1, -2)


def times(a: Any, b: Any) -> Any:
    """a b; a single column or row by sums, where a call of BLAS for each of many small matrices takes longer."""
    if a.shape[-1] == 1:
        return a * b
    if b.shape[-1] == 1:
        return np.sum(a * transpose(b), axis=-1, keepdims=True)
    return np.matmul(a, b)


def trace_of(a: Any, b: Any) -> Any:
    """tr(a^T b): the sum of the products of their elements."""
    return np.sum(a * b, axis=(-2, -1))


def scalar(x: Any) -> Any:
    """Numbers, one a matrix, (...), as (..., 1, 1)."""
    return x[..., None, None]


def identity(n: int) -> np.ndarray:
    """The unit matrix behind an axis of loops."""
    return np.eye(n)[None]


def by_columns(n: int, m: int) -> Pattern:
    """The places of the Jacobian of x = B b, (n, m), with respect to b: columns don't meet."""
    i, c, k = np.indices((n, m, n)).reshape(3, -1)
    return i * m + c, k * m + c


def in_columns(inverse: np.ndarray, m: int) -> np.ndarray:
    """The entries at these places, given B, (..., n, n)."""
    *loop, n, _ = inverse.shape
    return np.broadcast_to(inverse[..., :, None, :], (*loop, n, m, n)).reshape(*loop, n * m * n)
