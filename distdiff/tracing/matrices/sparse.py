"""Solves with sparse matrices: A x = b, by SuperLU, which factorizes a matrix once however often it is met.

    xdot = A^-1 (bdot - Adot x)          bbar = A^-T xbar          abar_ij = -bbar_i x_j where A has an entry
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
from ..array import plain
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
    require_places(indices, indptr)
    matrix = csc_matrix((np.array(data), indices.astype(np.int32), indptr.astype(np.int32)), shape=(n, n))
    try:
        found = (make or splu)(matrix)
    except RuntimeError as error:
        raise np.linalg.LinAlgError(f"a sparse matrix of order {n} is singular: {error}") from None
    with _lock:
        _factors[key] = found
        while len(_factors) > REMEMBERED:
            _factors.popitem(last=False)
    return found


def require_places(indices: np.ndarray, indptr: np.ndarray) -> None:
    """Raise `InputError` unless these are row numbers and beginnings of columns: SciPy reads what they point to."""
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


@dataclass(frozen=True)
class SparseSystem(Shaped):
    """The same where entries of A depend on the input: operands are A in CSC (data, row numbers, where columns begin)
    and b; which entries it has is constant.  A point's factors are remembered by their digest."""

    n: int
    m: int
    entries_of_a: int
    transposed: bool = False
    name = "sparse solve"
    signature = "(entries_of_a),(entries_of_a),(n+1),(n,m)->(n,m)"
    reads = frozenset((-1, 0, 1, 2))
    inert = frozenset((1, 2))

    @property
    def lines(self) -> int:
        return 4 * self.entries_of_a * self.m

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        data, b = x[0], x[3]
        indices, indptr = (part[(0,) * (part.ndim - 1)] for part in x[1:3])
        loop = np.broadcast_shapes(b.shape[:-2], data.shape[:-1])
        data, b = np.broadcast_to(data, (*loop, data.shape[-1])), np.broadcast_to(b, (*loop, *b.shape[-2:]))
        y = np.empty(b.shape)
        for at in np.ndindex(loop):
            parts = np.ascontiguousarray(data[at]), indices, indptr
            factors = factor_of(*parts, digest(*parts))
            y[at] = factors.solve(np.asfortranarray(b[at]), "T" if self.transposed else "N")
        return (y,)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        rows, columns = self._places(x)
        right = 0.0 if xdot[3] is None else xdot[3]
        if xdot[0] is not None:
            terms = np.moveaxis(np.expand_dims(xdot[0], -1) * y[0][..., columns, :], -2, 0)
            moved = 0.0 * terms[:1] + np.zeros((self.n,) + (1,) * (np.ndim(terms) - 1))
            np.add.at(moved, rows, terms)
            right = right - np.moveaxis(moved, 0, -2)
        return applied(self, *x[:3], right)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        rows, columns = self._places(x)
        b_bar, = applied(replace(self, transposed=not self.transposed), *x[:3], ybar[0])
        data_bar = -np.sum(b_bar[..., rows, :] * y[0][..., columns, :], -1) if wanted[0] else None
        return data_bar, None, None, b_bar

    def _places(self, x: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of every entry, of A^T where that is solved with."""
        indices, indptr = (plain(part)[(0,) * (np.ndim(part) - 1)] for part in x[1:3])
        require_places(indices, indptr)
        indices, indptr = indices.astype(int), indptr.astype(int)
        columns = np.repeat(np.arange(self.n), np.diff(indptr))
        return (columns, indices) if self.transposed else (indices, columns)
