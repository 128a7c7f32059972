"""Products of SciPy's sparse matrices with traced arrays: A @ x, A.T @ x, x @ A.

The rows with equally many entries are one contraction each, sum_k a_ik x_{j(i,k)}; where the columns of
consecutive rows are shifted copies of each other (bands, stencils) its operand is affine, else it is
gathered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .array import is_traced
from .reductions import traced_array
from .ufuncs import recorder_of


def product(matrix: Any, x: Any) -> Any:
    """matrix @ x for a sparse matrix (any format) and an x of one or two axes, of which one at least is traced."""
    x = traced_array(x) if is_traced(x) else np.asarray(x, dtype=float)
    if x.ndim not in (1, 2) or x.shape[0] != matrix.shape[1]:
        raise ValueError(f"dimension mismatch: matrix of shape {matrix.shape}, array of shape {x.shape}")
    csr = matrix.tocsr()
    if csr.dtype.kind not in "fiub":
        recorder_of((x, csr.data)).unsupported(f"a sparse matrix of dtype {csr.dtype}",
                                               "derivatives here are those of real functions")
    counts = np.diff(csr.indptr)
    result = None
    for m in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts == m)
        entries = csr.indptr[rows][:, None] + np.arange(m)
        sums = np.einsum("im,imk->ik" if x.ndim == 2 else "im,im->i", csr.data[entries], x[csr.indices[entries]])
        if len(rows) == len(counts):
            return sums
        if result is None:
            result = sums.rec.array_of(np.zeros((len(counts), *x.shape[1:])))
        start, stop = int(rows[0]), int(rows[-1]) + 1
        result[slice(start, stop) if stop - start == len(rows) else rows] = sums
    return np.zeros((len(counts), *x.shape[1:])) if result is None else result


def methods() -> list[tuple[type, str]]:
    """Where SciPy's matrices decide what to do with the right operand of @ (its name has changed over the
    versions)."""
    base = sys.modules.get("scipy.sparse._base")
    cls = getattr(base, "_spbase", None) or getattr(base, "spmatrix", None)
    return [(cls, name) for name in ("_matmul_dispatch", "_mul_dispatch") if cls is not None and name in vars(cls)]


def dispatching(original: Callable[..., Any], traced: Callable[[Any], Any]) -> Callable[..., Any]:
    """SciPy's method, for plain operands; `traced(x)` is the traced array that x is or holds, or None."""

    def dispatch(self: Any, other: Any, *args: Any, **kwargs: Any) -> Any:
        x = traced(other)
        plain = type(other) is np.ndarray or hasattr(type(other), "_distdiff_held")  # by np.ones inside the function
        if x is None and plain and other.ndim in (1, 2) and traced(getattr(self, "data", None)) is not None:
            x = other
        return original(self, other, *args, **kwargs) if x is None else product(self, x)

    return dispatch
