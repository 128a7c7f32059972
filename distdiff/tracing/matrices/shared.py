"""What the rules of matrices have in common.  Everything serves plain and traced arrays, (..., rows, columns)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import NotDifferentiableError
from ...ops.elemental import Pattern
from ..array import is_traced

ROUNDING = 16 * np.finfo(float).eps  # what values of order 1 may differ by, an order of a matrix, and be equal


def svd(a: np.ndarray, full_matrices: bool = True) -> tuple[np.ndarray, ...]:
    """U, s, V^H of plain matrices; NaN of those with infinite entries, from which LAPACK may never return."""
    infinite = np.isinf(a).any(axis=(-2, -1))
    if not infinite.any():
        return tuple(np.linalg.svd(a, full_matrices=full_matrices))
    found = np.linalg.svd(np.where(infinite[..., None, None], 0.0, a), full_matrices=full_matrices)
    for part in found:
        part[infinite] = np.nan
    return tuple(found)


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


def by_columns(n: int, m: int) -> Pattern:
    """The places of the Jacobian of x = B b, (n, m), with respect to b: columns don't meet."""
    i, c, k = np.indices((n, m, n)).reshape(3, -1)
    return i * m + c, k * m + c


def in_columns(inverse: np.ndarray, m: int) -> np.ndarray:
    """The entries at these places, given B, (..., n, n)."""
    *loop, n, _ = inverse.shape
    return np.broadcast_to(inverse[..., :, None, :], (*loop, n, m, n)).reshape(*loop, n * m * n)


def diagonal(a: Any) -> Any:
    return np.diagonal(a, axis1=-2, axis2=-1)


def on_diagonal(d: Any) -> Any:
    """Diagonal matrices of vectors."""
    return d[..., None] * np.eye(d.shape[-1])


def column_scaled(a: Any, d: Any) -> Any:
    """a diag(d)."""
    return a * d[..., None, :]


def reads_lower(uplo: str) -> bool:
    """Whether NumPy's argument UPLO names the lower triangle."""
    if uplo.upper() not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    return uplo.upper() == "L"


def plain(x: Any) -> np.ndarray:
    """The values of an array, traced or not."""
    return x.nd if is_traced(x) else x


def gaps(w: Any, cotangent: Any, what: str, f: Callable[[Any], Any] = lambda w: w) -> Any:
    """1 / (f(w_j) - f(w_i)), (..., n, n), 0 on the diagonal, of values w (..., n) that belong to vectors.

    NotDifferentiableError where two values are equal to rounding, unless an adjoint `cotangent` of the vectors, in
    columns, is zero for both: then nothing depends on how they turn among themselves.
    """
    values = plain(w)
    n = values.shape[-1]
    scale = np.max(np.abs(values), axis=-1, initial=0.0)[..., None, None]
    equal = np.abs(values[..., None, :] - values[..., :, None]) <= ROUNDING * n * scale
    equal[..., np.arange(n), np.arange(n)] = False
    if equal.any():
        bad = equal
        if cotangent is not None and not is_traced(cotangent):
            used = np.any(cotangent, axis=-2)
            bad = equal & (used[..., None, :] | used[..., :, None])
        if cotangent is None or is_traced(cotangent) or bad.any():
            *_, i, j = at = tuple(np.argwhere(bad)[0])
            value = np.broadcast_to(values[..., None], bad.shape)[at]
            raise NotDifferentiableError(
                f"the derivative of {what}s is wanted, but numbers {i} and {j} (from 0) belong to one value, "
                f"{value:.6g}: they are any basis of what belongs to it, and have no derivative. Use what does not "
                "depend on the basis (the values alone), or move away from that point; where they are not used at all, "
                "method='sweep' does not ask for them in gradients, while assembled methods ask for everything")
    none = equal | np.eye(n, dtype=bool)
    return np.where(none, 0.0, 1.0) / np.where(none, 1.0, f(w)[..., None, :] - f(w)[..., :, None])
