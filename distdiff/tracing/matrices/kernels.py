"""LU factorizations and triangular solves of plain arrays, (..., n, n), for one matrix or very many small ones.

Small matrices in large numbers are eliminated side by side, one NumPy operation for the same step of all of them (a
call of LAPACK takes longer than the arithmetic of a 3 x 3 matrix); others one after another, by LAPACK.  How many are
large numbers was measured.  Once enough has been done to be worth Numba's import, compiled loops do it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ...kernels import stream

MANY = 16  # at least so many matrices are worked on side by side ...
ELIMINATED, SOLVED = (12, 2.0), (24, 0.5)  # ... of at most an order n, and at least so many times n^2 of them
COMPILED = 48  # largest order for compiled loops: beyond, LAPACK's blocks are faster
OPERATION = 10  # what a multiplication by NumPy costs here, in elements that `stream` counts
TOGETHER = 1 << 16  # elements of the matrices that are eliminated at once: they stay in cache

Undo = Callable[[np.ndarray], np.ndarray]


def lu(a: np.ndarray) -> np.ndarray:
    """P A = L U by partial pivoting, (..., n + 1, n): L (unit diagonal) and U in one square, then row numbers p with
    A[p] = L U.  A singular matrix has zeros on the diagonal of U."""
    *loop, n, _ = a.shape
    out = np.empty((prod(loop), n + 1, n))
    flat = a.reshape(prod(loop), n, n)
    if not n:
        pass  # LAPACK takes no empty matrices
    elif loops := _compiled(n, len(flat), n):
        loops.lu(np.ascontiguousarray(flat), out)
    elif _side_by_side(n, len(flat), *ELIMINATED):
        step = TOGETHER // (n * n)
        for k in range(0, len(flat), step):
            _lu_many(flat[k : k + step], out[k : k + step])
    else:
        getrf, = _lapack("getrf")
        for matrix, factors in zip(flat, out):
            factors[:n], pivots, _ = getrf(matrix)
            order = np.arange(n)
            for k, j in enumerate(pivots.tolist()):
                order[k], order[j] = order[j], order[k]
            factors[n] = order
    return out.reshape(*loop, n + 1, n)


def _lu_many(a: np.ndarray, out: np.ndarray) -> None:
    n = a.shape[-1]
    m = np.ascontiguousarray(a.transpose(1, 2, 0))
    rows = np.empty((n, m.shape[2]))
    rows[...] = np.arange(n)[:, None]
    for k in range(n - 1):
        pivot = np.argmax(np.abs(m[k:, k]), axis=0) + k
        for j in range(k + 1, n):
            swap = pivot == j
            for x in (m, rows):
                x[k], x[j] = np.where(swap, x[j], x[k]), np.where(swap, x[k], x[j])
        zero = m[k, k] == 0.0
        m[k + 1 :, k] /= np.where(zero, 1.0, m[k, k])
        m[k + 1 :, k + 1 :] -= m[k + 1 :, k, None] * m[k, k + 1 :]
    out[:, :n] = m.transpose(2, 0, 1)
    out[:, n] = rows.T


def diagonal_of(factors: np.ndarray) -> np.ndarray:
    """The diagonal of U, (..., n)."""
    return np.diagonal(factors[..., :-1, :], axis1=-2, axis2=-1)


def sign_of(factors: np.ndarray) -> np.ndarray:
    """The sign of the permutation p, (...): -1 for every pair of rows that stand in the wrong order."""
    p = factors[..., -1, :]
    n = p.shape[-1]
    if n > ELIMINATED[0]:
        if not (np.sort(p, axis=-1) == np.arange(n)).all():
            return np.full(p.shape[:-1], np.nan)
        signs = np.array([_parity(order) for order in p.reshape(-1, n).astype(int).tolist()])
        return signs.reshape(p.shape[:-1])
    wrong = np.zeros(p.shape[:-1], dtype=int)
    for k in range(n - 1):
        wrong += np.sum(p[..., k : k + 1] > p[..., k + 1 :], axis=-1)
    return 1.0 - 2.0 * (wrong % 2)


def _parity(order: list[int]) -> float:
    """The sign of one permutation: -1 for every cycle of even length."""
    sign, seen = 1.0, [False] * len(order)
    for k in range(len(order)):
        j = order[k] if not seen[k] else k
        seen[k] = True
        while j != k:
            seen[j] = True
            sign, j = -sign, order[j]
    return sign


def solve(factors: np.ndarray, b: np.ndarray, transposed: bool) -> np.ndarray:
    """A x = b or A^T x = b, (..., n, m), the axes in front broadcast; LinAlgError where a matrix is singular."""
    n = factors.shape[-1]
    f, b, undo = lanes(factors, b)
    if not diagonal_of(f).all():
        raise np.linalg.LinAlgError("Singular matrix")
    if not b.size:
        return undo(np.empty(b.shape))
    if not (f[:, n].min() >= 0.0 and f[:, n].max() < n):  # no order of rows, but NaN, or what a file has in its place
        return undo(np.full(b.shape, np.nan))
    if loops := _compiled(n, len(f), b.shape[2]):
        f, x = np.ascontiguousarray(f), np.empty(b.shape)
        loops.permuted(f[:, n], np.ascontiguousarray(b), False, x) if not transposed else np.copyto(x, b)
        loops.triangular(f, x, not transposed, transposed, not transposed)
        loops.triangular(f, x, transposed, transposed, transposed)
        if transposed:
            x, z = np.empty(b.shape), x
            loops.permuted(f[:, n], z, True, x)
        return undo(x)
    order = f[:, n].astype(int)
    if not _side_by_side(n, len(f), *SOLVED):
        x = np.empty_like(b)
        for k, (matrix, p) in enumerate(zip(f, order)):
            if transposed:
                x[k, p] = _trtrs(matrix[:n].T, _trtrs(matrix[:n].T, b[k], True, False), False, True)
            else:
                x[k] = _trtrs(matrix[:n], _trtrs(matrix[:n], b[k][p], True, True), False, False)
        return undo(x)
    m = f[:, :n].transpose(1, 2, 0)
    if not transposed:
        x = np.take_along_axis(b, order[:, :, None], axis=1).transpose(1, 0, 2).copy()
        _substitute(m, x, lower=True, unit=True)
        _substitute(m, x, lower=False, unit=False)
        return undo(x.transpose(1, 0, 2))
    z = b.transpose(1, 0, 2).copy()
    _substitute(m.transpose(1, 0, 2), z, lower=True, unit=False)
    _substitute(m.transpose(1, 0, 2), z, lower=False, unit=True)
    x = np.empty(b.shape)
    np.put_along_axis(x, order[:, :, None], z.transpose(1, 0, 2), axis=1)
    return undo(x)


def solve_triangular(a: np.ndarray, b: np.ndarray, lower: bool, transposed: bool, unit: bool) -> np.ndarray:
    """T x = b or T^T x = b for a triangle T of A, with ones on its diagonal if `unit`; LinAlgError where it has zeros
    there."""
    n = a.shape[-1]
    a, b, undo = lanes(a, b)
    if not unit and not np.diagonal(a, axis1=-2, axis2=-1).all():
        raise np.linalg.LinAlgError("singular matrix: a zero on the diagonal of a triangular one")
    if loops := _compiled(n, len(a), b.shape[2]):
        x = b.copy()
        loops.triangular(np.ascontiguousarray(a), x, lower, transposed, unit)
        return undo(x)
    if transposed:
        a, lower = a.transpose(0, 2, 1), not lower
    if _side_by_side(n, len(a), *SOLVED):
        x = b.transpose(1, 0, 2).copy()
        _substitute(a.transpose(1, 2, 0), x, lower, unit)
        return undo(x.transpose(1, 0, 2))
    x = np.empty_like(b)
    for k, matrix in enumerate(a):
        x[k] = _trtrs(matrix, b[k], lower, unit)
    return undo(x)


def _side_by_side(n: int, count: int, order: int, least: float) -> bool:
    return n <= order and count >= max(MANY, least * n * n)


def _compiled(n: int, count: int, columns: int) -> Any:
    """The compiled loops, where they are for such matrices and there has been enough to do; else None.

    Never while somebody traces: NumPy's creation functions are not its own then, and Numba would take them for good.
    """
    if n > COMPILED or count < MANY or hasattr(np.zeros, "__wrapped__") or not stream.compiled(
            OPERATION * n * n * columns * count):
        return None
    from ...kernels import matrix_loops

    return matrix_loops


def lanes(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, Undo]:
    """a as (B, ., .) and b as (B, n, C): axes along which there is one matrix count as columns of b.  The third brings
    a result of b's kind back to the axes of both, broadcast."""
    loops = max(a.ndim, b.ndim) - 2
    a, b = (x.reshape((1,) * (loops + 2 - x.ndim) + x.shape) for x in (a, b))
    over = [k for k in range(loops) if a.shape[k] != 1]
    rest = [k for k in range(loops) if a.shape[k] == 1]
    loop = np.broadcast_shapes(a.shape[:loops], b.shape[:loops])
    n, m = b.shape[loops:]
    if over:
        b = np.broadcast_to(b, (*loop, n, m))
    axes = [*over, loops, *rest, loops + 1]
    b = b.transpose(axes)
    shape = b.shape
    count = prod(loop[k] for k in over)
    columns = prod(shape[len(over) + 1 :])
    return (a.reshape(count, *a.shape[loops:]), b.reshape(count, n, columns),
            lambda x: x.reshape(shape).transpose(np.argsort(axes)))


def _substitute(m: np.ndarray, x: np.ndarray, lower: bool, unit: bool) -> None:
    """x := T^-1 x for the triangles T of matrices (n, n, B), x (n, B, C)."""
    n = len(m)
    for i in range(n) if lower else range(n - 1, -1, -1):
        for j in range(i) if lower else range(i + 1, n):
            x[i] -= m[i, j][:, None] * x[j]
        if not unit:
            x[i] /= m[i, i][:, None]


def _trtrs(a: np.ndarray, b: np.ndarray, lower: bool, unit: bool) -> Any:
    """T^-1 b; LAPACK reads columns, so of a matrix in rows it gets the transpose, and is told so."""
    trtrs, = _lapack("trtrs")
    if a.flags.f_contiguous:
        return trtrs(a, b, lower=lower, trans=0, unitdiag=unit)[0]
    return trtrs(a.T, b, lower=not lower, trans=1, unitdiag=unit)[0]


def _lapack(*names: str) -> list[Any]:
    from scipy.linalg import lapack

    return [getattr(lapack, f"d{name}") for name in names]
