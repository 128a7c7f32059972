"""Solves with constant sparse matrices: A x = b, by SuperLU, which factorizes a matrix once however often it is met.

    xdot = A^-1 bdot          bbar = A^-T xbar
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import InputError
from ...ops import Shaped
from ..joint import applied

REMEMBERED = 8  # matrices whose factors are kept
DIGEST = 16  # bytes

_factors: OrderedDict[bytes, Any] = OrderedDict()
_lock = threading.Lock()


def factor_of(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, key: bytes,
              make: Callable[[Any], Any] | None = None) -> Any:
    """SuperLU's factors of a square matrix in CSC with a digest, remembered.  make: how they are computed.

    LinAlgError where the matrix is singular.
    """
    with _lock:
        if key in _factors:
            _factors.move_to_end(key)
            return _factors[key]
    if key != digest(data, indices, indptr):
        raise InputError("a sparse matrix is not the one that its digest was taken of")
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    n = len(indptr) - 1
    _check(indices, indptr)
    matrix = csc_matrix((data, indices.astype(np.int32), indptr.astype(np.int32)), shape=(n, n))
    try:
        found = (make or splu)(matrix)
    except RuntimeError as error:
        raise np.linalg.LinAlgError(f"a sparse matrix of order {n} is singular: {error}") from None
    with _lock:
        _factors[key] = found
        while len(_factors) > REMEMBERED:
            _factors.popitem(last=False)
    return found


def _check(indices: np.ndarray, indptr: np.ndarray) -> None:
    """Whether these are row numbers and beginnings of columns: SuperLU reads what they point to, whatever it is."""
    n = len(indptr) - 1
    with np.errstate(invalid="ignore"):
        whole = all(np.array_equal(x, np.floor(x)) for x in (indices, indptr))
        fits = whole and np.all((indices >= 0) & (indices < n)) and np.all(np.diff(indptr) >= 0)
    if not fits or indptr[0] != 0 or indptr[-1] != len(indices):
        raise InputError(f"a sparse matrix of order {n} has row numbers or beginnings of columns that are none")


def digest(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray) -> bytes:
    """What tells a matrix from others."""
    state = hashlib.blake2b(digest_size=DIGEST)
    for part, kind in ((data, np.float64), (indices, np.int32), (indptr, np.int32)):
        state.update(np.ascontiguousarray(part, kind).data)
    return state.digest()


@dataclass(frozen=True)
class SparseSolve(Shaped):
    """A x = b, or A^T x = b, for m right-hand sides: operands are A in CSC (data, row numbers, where columns begin),
    its digest, one byte a number, and b (n, m).  There is no derivative by A."""

    n: int
    m: int
    entries_of_a: int
    transposed: bool = False
    name = "sparse solve"
    signature = f"(entries_of_a),(entries_of_a),(n+1),({DIGEST}),(n,m)->(n,m)"
    reads = frozenset(range(4))
    inert = frozenset(range(4))

    @property
    def lines(self) -> int:
        return 4 * self.entries_of_a * self.m

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        """All axes in front of b's last two are columns as well; the matrix is the same along them."""
        data, indices, indptr, key = (part[(0,) * (part.ndim - 1)] for part in x[:4])
        factors = factor_of(data, indices, indptr, key.astype(np.uint8).tobytes())
        loop = np.broadcast_shapes(x[4].shape[:-2], *(part.shape[:-1] for part in x[:4]))
        b = np.moveaxis(x[4], -2, 0)
        right = np.asfortranarray(b.reshape(self.n, -1))
        y = factors.solve(right, "T" if self.transposed else "N").reshape(b.shape)
        return (np.broadcast_to(np.moveaxis(y, 0, -2), (*loop, self.n, self.m)),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return applied(self, *x[:4], xdot[4])

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return None, None, None, None, applied(replace(self, transposed=not self.transposed), *x[:4], ybar[0])[0]
