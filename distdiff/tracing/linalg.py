"""NumPy's linear algebra on traced arrays: norms and products as sums and extrema, the rest as joint statements.

What a solve, a factorization and their derivatives are is said in `matrices`; here are NumPy's ways to call them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import is_traced, ndim_of, shape_of
from .indexing import into
from .joint import applied, joint
from .matrices.lu import Det, Factors, LogDet, Solve
from .matrices.triangular import Cholesky
from .reductions import Axes, axes_of, largest, smallest, total, traced_array
from .ufuncs import number, recorder_of

_NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


def norm(x: Any, ord: Any = None, axis: Axes = None, keepdims: bool = False) -> Any:
    """Vector norms of any order; of matrices those that need no singular values."""
    x = traced_array(x)
    if axis is None and (ord is None or (ord, x.ndim) in (("f", 2), ("fro", 2), (2, 1))):
        flat = x.reshape(-1)  # NumPy's own way: the square root of a dot product
        result = np.sqrt(np.dot(flat, flat))
        return np.reshape(result, (1,) * x.ndim) if keepdims else result
    axes = axes_of(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    if ord in (None, "f", "fro"):
        return np.sqrt(total(x * x, axes, keepdims=keepdims))
    if ord not in (1, -1, np.inf, -np.inf):
        x.rec.unsupported(f"numpy.linalg.norm of a matrix with ord={ord!r}", "it needs singular values, which have no "
                          "derivative rule here")
    summed, other = axes if abs(ord) == 1 else axes[::-1]
    sums = total(np.abs(x), summed, keepdims=True)
    result = (largest if ord > 0 else smallest)(sums, other, keepdims=True)
    return result if keepdims else np.squeeze(result, axes)


def _vector_norm(x: Any, ord: Any, axis: int, keepdims: bool) -> Any:
    if ord is None or ord == 2:
        return np.sqrt(total(x * x, axis, keepdims=keepdims))
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    if ord == np.inf:
        return largest(np.abs(x), axis, keepdims=keepdims)
    if ord == -np.inf:
        return smallest(np.abs(x), axis, keepdims=keepdims)
    if ord == 0:
        return total(np.not_equal(x, 0.0), axis, keepdims=keepdims)
    if ord == 1:
        return total(np.abs(x), axis, keepdims=keepdims)
    return total(np.abs(x) ** ord, axis, keepdims=keepdims) ** (1.0 / ord)


def vector_norm(x: Any, /, *, axis: Axes = None, keepdims: bool = False, ord: Any = 2) -> Any:
    x = traced_array(x)
    axes = axes_of(axis, x.ndim)
    rest = [k for k in range(x.ndim) if k not in axes]
    lanes = np.reshape(np.transpose(x, [*axes, *rest]), (-1, *(x.shape[k] for k in rest)))
    result = _vector_norm(lanes, ord, 0, False)
    return np.reshape(result, [1 if k in axes else n for k, n in enumerate(x.shape)]) if keepdims else result


# -- solves


def matrices(x: Any, name: str, square: bool = True) -> Any:
    """An operand as an array of matrices; NumPy's errors where it is none."""
    x = number(recorder_of((x,)), x, f"linalg.{name}") if is_traced(x) else np.asarray(x)
    shape = shape_of(x)
    if len(shape) < 2:
        raise np.linalg.LinAlgError(f"{len(shape)}-dimensional array given. Array must be at least two-dimensional")
    if square and shape[-1] != shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return x


def solve(a: Any, b: Any) -> Any:
    a = matrices(a, "solve")
    vector = ndim_of(b) == (1 if _NUMPY_2 else ndim_of(a) - 1)
    x = factorized(a)(np.expand_dims(b, -1) if vector else b, "linalg.solve")
    return x[..., 0] if vector else x


def factorized(a: Any) -> Callable[..., Any]:
    """b -> A^-1 b, (..., n, m), for square matrices A, traced or not, which are factorized now."""
    n = shape_of(a)[-1]
    factors, = applied(Factors(n), a)

    def solved(b: Any, name: str, transposed: bool = False) -> Any:
        return joint(Solve(n, shape_of(b)[-1], transposed), (factors, a, b), name)[0]

    return solved


def inv(a: Any) -> Any:
    a = matrices(a, "inv")
    return factorized(a)(np.eye(a.shape[-1]), "linalg.inv")


def det(a: Any) -> Any:
    a = matrices(a, "det")
    n = a.shape[-1]
    return joint(Det(n), (*applied(Factors(n), a), a), "linalg.det")[0]


def slogdet(a: Any) -> Any:
    a = matrices(a, "slogdet")
    n = a.shape[-1]
    return _as_numpy(np.linalg.slogdet, joint(LogDet(n), (*applied(Factors(n), a), a), "linalg.slogdet"))


def _as_numpy(function: Callable[..., Any], results: list[Any]) -> Any:
    """Several results in the kind of tuple that NumPy has them in (of NumPy 2 a named one)."""
    kind = type(function(np.eye(1)))
    return tuple(results) if kind is tuple else kind(*results)


def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    a = matrices(a, "cholesky")
    factor, = joint(Cholesky(a.shape[-1]), (np.swapaxes(a, -1, -2) if upper else a,), "linalg.cholesky")
    return np.swapaxes(factor, -1, -2) if upper else factor


def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    if axes is not None:
        rest = [k for k in range(ndim_of(a)) if k not in axes]
        a = np.transpose(a, [*rest, *axes])
    shape = shape_of(a)[ndim_of(b) - ndim_of(a):]
    n = int(np.prod(shape))
    if int(np.prod(shape_of(a))) != n * n:
        raise np.linalg.LinAlgError("Input arrays must satisfy the requirement "
                                    "prod(a.shape[b.ndim:]) == prod(a.shape[:b.ndim])")
    return np.reshape(np.linalg.solve(np.reshape(a, (n, n)), np.ravel(b)), shape)


def tensorinv(a: Any, ind: int = 2) -> Any:
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    shape = shape_of(a)
    return np.reshape(inv(np.reshape(a, (int(np.prod(shape[ind:])), -1))), shape[ind:] + shape[:ind])


# -- products


def matrix_power(a: Any, n: int) -> Any:
    if n < 0:
        a, n = inv(a), -n
    result: Any = None
    power = a
    while n:
        if n & 1:
            result = power if result is None else np.matmul(result, power)
        n >>= 1
        power = np.matmul(power, power) if n else power
    if result is None:
        return np.broadcast_to(np.eye(a.shape[-1]), a.shape) * 1.0
    return np.copy(result) if result is a else result


def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """In the order that takes the fewest multiplications, as NumPy chooses it."""
    arrays = list(arrays)
    left, right = ndim_of(arrays[0]) == 1, ndim_of(arrays[-1]) == 1
    arrays[0] = np.atleast_2d(arrays[0])
    arrays[-1] = np.reshape(arrays[-1], (-1, 1)) if right else arrays[-1]
    while len(arrays) > 1:
        sizes = [shape_of(x)[0] for x in arrays] + [shape_of(arrays[-1])[1]]
        k = _cheapest(sizes)
        arrays[k : k + 2] = [np.dot(arrays[k], arrays[k + 1])]
    result = arrays[0]
    if left or right:
        result = np.reshape(result, tuple(n for n, drop in zip(shape_of(result), (left, right)) if not drop))
    return into(out, result)


def _cheapest(sizes: list[int]) -> int:
    """Which two neighbours of a chain of matrices to multiply first (k x l, l x m, ...: `sizes` are k, l, m, ...)."""
    n = len(sizes) - 1
    cost: dict[tuple[int, int], int] = {(i, i): 0 for i in range(n)}
    cut: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], cut[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j))
    i, j = 0, n - 1
    while j - i > 1:
        k = cut[i, j]
        i, j = (i, k) if k > i else (k + 1, j)
    return i


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.linalg.norm: norm, np.linalg.matrix_power: matrix_power, np.linalg.multi_dot: multi_dot,
    np.linalg.solve: solve, np.linalg.inv: inv, np.linalg.det: det, np.linalg.slogdet: slogdet,
    np.linalg.cholesky: cholesky, np.linalg.tensorsolve: tensorsolve, np.linalg.tensorinv: tensorinv,
}
if hasattr(np.linalg, "vector_norm"):  # of NumPy 2
    from . import contract

    FUNCTIONS |= {
        np.linalg.vector_norm: vector_norm,
        np.linalg.matrix_norm: lambda x, /, *, keepdims=False, ord="fro": norm(x, ord, (-2, -1), keepdims),
        np.linalg.outer: lambda x1, x2, /: np.outer(x1, x2),
        np.linalg.matmul: lambda x1, x2, /: np.matmul(x1, x2),
        np.linalg.tensordot: lambda x1, x2, /, *, axes=2: np.tensordot(x1, x2, axes),
        np.linalg.cross: lambda x1, x2, /, *, axis=-1: np.cross(x1, x2, axis=axis),
        np.linalg.vecdot: lambda x1, x2, /, *, axis=-1: contract.vecdot(x1, x2, axis),
        np.linalg.diagonal: lambda x, /, *, offset=0: np.diagonal(x, offset, -2, -1),
        np.linalg.trace: lambda x, /, *, offset=0, dtype=None: np.trace(x, offset, -2, -1, dtype),
        np.linalg.matrix_transpose: lambda x, /: np.swapaxes(x, -1, -2),
        np.matrix_transpose: lambda x, /: np.swapaxes(x, -1, -2),
    }
