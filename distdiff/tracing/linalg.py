"""NumPy's linear algebra on traced arrays: norms and products as sums and extrema, the rest as joint statements.

What a solve, a factorization and their derivatives are is said in `matrices`; here are NumPy's ways to call them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops import Elemental
from ..tape import Affine
from . import complexes
from .array import TracedArray, is_traced, ndim_of, shape_of
from .contract import dot
from .decompositions import as_numpy, hermitian_svd
from .indexing import decided, into
from .joint import applied, joint
from .matrices.lu import Det, Factors, LogDet, Solve
from .matrices.orthogonal import FullQr, Qr
from .matrices.shared import reads_lower
from .matrices.singular import FullSvd, Pinv, Svd, Svdvals
from .matrices.spectral import Eig, Eigvals
from .matrices.symmetric import Eigh, Eigvalsh
from .matrices.triangular import Cholesky
from .recorder import Recorder
from .reductions import Axes, axes_of, largest, root, smallest, squares, total, traced_array
from .ufuncs import number, recorder_of
from .usual import magnitude

_dot = np.dot  # NumPy's own, whatever is substituted meanwhile
REMEMBERED = 8  # matrices of a trace whose factors may be wanted again
SMALL = 256  # elements of constant matrices that are told apart by their bytes
_NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


def norm(x: Any, ord: Any = None, axis: Axes = None, keepdims: bool = False) -> Any:
    """Norms of vectors and of matrices."""
    x = x if type(x) is TracedArray else traced_array(x)
    x = x.astype(float) if x.st.boolean else x
    if axis is None and (ord is None or (ord, x.ndim) in (("f", 2), ("fro", 2), (2, 1))):
        flat = x if x.window.ndim == 1 else x.reshape(-1)  # NumPy's own way: the square root of a dot product
        result = magnitude(flat, _dot)
        if result is NotImplemented:
            result = root(dot(flat, flat))
        return np.reshape(result, (1,) * x.ndim) if keepdims else result
    axes = axes_of(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes[0], keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    if ord in (None, "f", "fro"):
        return root(squares(x, axes, keepdims))
    if ord in (2, -2, "nuc"):
        s = svdvals(np.moveaxis(x, axes, (-2, -1)))
        result = total(s, -1) if ord == "nuc" else s[..., 0 if ord == 2 else -1]
        return np.expand_dims(result, axes) if keepdims else result[()]
    if ord not in (1, -1, np.inf, -np.inf):
        raise ValueError("Invalid norm order for matrices.")
    summed, other = axes if abs(ord) == 1 else axes[::-1]
    sums = total(np.abs(x), summed, keepdims=True)
    result = (largest if ord > 0 else smallest)(sums, other, keepdims=True)
    return result if keepdims else np.squeeze(result, axes)[()]


def _vector_norm(x: Any, ord: Any, axis: int, keepdims: bool) -> Any:
    if ord is None or ord == 2:
        return root(squares(x, axis, keepdims))
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    if ord == np.inf:
        return largest(np.abs(x), axis, keepdims=keepdims)
    if ord == -np.inf:
        return smallest(np.abs(x), axis, keepdims=keepdims)
    if ord == 0:
        return 1.0 * total(np.not_equal(x, 0.0), axis, keepdims=keepdims)
    if ord == 1:
        return total(np.abs(x), axis, keepdims=keepdims)
    ord = np.asarray(ord, dtype=float) if isinstance(ord, (list, tuple)) else ord
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
    x = solved(a, np.expand_dims(b, -1) if vector else b, "solve")
    return x[..., 0] if vector else x


def results(op: Elemental, operands: tuple[Any, ...], name: str) -> list[Any]:
    """The results of an elemental on operands of any kind, none of which need be traced."""
    return joint(op, operands, f"linalg.{name}") if any(map(is_traced, operands)) else applied(op, *operands)


def solved(a: Any, b: Any, name: str, transposed: bool = False) -> Any:
    """A^-1 b, (..., n, m), or A^-T b."""
    op = Solve(shape_of(a)[-1], shape_of(b)[-1], transposed)
    return results(op, (factors_of(a, recorder_of((a, b))), a, b), name)[0]


def factors_of(a: Any, rec: Recorder) -> Any:
    """The factors of square matrices, traced or not; those of the last few matrices of the trace are remembered, so
    that a loop that solves with one matrix has it factorized once."""
    key: Any = None
    held = None
    if is_traced(a):
        a = traced_array(a)
        ref = a.st.lower(a.nd, a.shape)
        key = (ref, a.shape) if type(ref) is Affine else None  # others, made of several pieces, are not compared
    elif a.size <= SMALL:
        key = (a.tobytes(), a.dtype.char, a.shape)
    else:
        held = rec.snapshot(a)  # one array as long as the user's stays the same; held, so that its id stays its own
        key = (id(held), a.shape)
    known = rec.factors.get(key)
    if known is not None:
        return known[0]
    made, = applied(Factors(shape_of(a)[-1]), a)
    if key is not None and not rec.capturing:  # what an equation records leaves the tape with it
        if len(rec.factors) == REMEMBERED:
            del rec.factors[next(iter(rec.factors))]
        rec.factors[key] = made, held
    return made


def inv(a: Any) -> Any:
    a = matrices(a, "inv")
    return solved(a, np.eye(a.shape[-1]), "inv")


def det(a: Any) -> Any:
    a = matrices(a, "det")
    n = a.shape[-1]
    return results(Det(n), (factors_of(a, recorder_of((a,))), a), "det")[0]


def slogdet(a: Any) -> Any:
    a = matrices(a, "slogdet")
    n = a.shape[-1]
    return as_numpy(np.linalg.slogdet, results(LogDet(n), (factors_of(a, recorder_of((a,))), a), "slogdet"))


def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    a = matrices(a, "cholesky")
    factor, = results(Cholesky(a.shape[-1]), (np.swapaxes(a, -1, -2) if upper else a,), "cholesky")
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


# -- spectra and least squares


def eigh(a: Any, UPLO: str = "L") -> Any:
    a = matrices(a, "eigh")
    return as_numpy(np.linalg.eigh, results(Eigh(a.shape[-1], reads_lower(UPLO)), (a,), "eigh"))


def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    a = matrices(a, "eigvalsh")
    return results(Eigvalsh(a.shape[-1], reads_lower(UPLO)), (a,), "eigvalsh")[0]


def _complex_spectrum(a: Any) -> bool:
    """Whether real matrices have complex eigenvalues, here: at a point where it is otherwise the kind of the results
    is another, so it is decided (where they have none, by the rule for real ones, which has no value elsewhere)."""
    return is_traced(a) and np.linalg.eigvals(a.nd).dtype.kind == "c"


def _of_this_kind(w: Any) -> None:
    decided(np.any(np.not_equal(w.imag, 0.0)))


def eig(a: Any) -> Any:
    a = matrices(a, "eig")
    if _complex_spectrum(a):
        result = complexes.eig(a)
        _of_this_kind(result[0])
        return result
    return as_numpy(np.linalg.eig, results(Eig(a.shape[-1]), (a,), "eig"))


def eigvals(a: Any) -> Any:
    a = matrices(a, "eigvals")
    if _complex_spectrum(a):
        w = complexes.eigvals(a)
        _of_this_kind(w)
        return w
    return results(Eigvals(a.shape[-1]), (a,), "eigvals")[0]


def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    a = matrices(a, "svd", square=hermitian)
    m, n = a.shape[-2:]
    if hermitian:
        return hermitian_svd(a, compute_uv)
    if not compute_uv:
        return svdvals(a)
    if full_matrices and m != n:
        u, s, vt, rest = results(FullSvd(m, n), (a,), "svd")
        u, vt = (np.concatenate([u, rest], -1), vt) if m > n else (u, np.concatenate([vt, rest], -2))
        return as_numpy(np.linalg.svd, [u, s, vt])
    return as_numpy(np.linalg.svd, results(Svd(m, n), (a,), "svd"))


def svdvals(x: Any, /) -> Any:
    x = matrices(x, "svdvals", square=False)
    return results(Svdvals(*x.shape[-2:]), (x,), "svd")[1]


def qr(a: Any, mode: str = "reduced") -> Any:
    a = matrices(a, "qr", square=False)
    m, n = a.shape[-2:]
    if mode not in ("reduced", "r", "complete"):
        recorder_of((a,)).unsupported(f"numpy.linalg.qr of a {m} x {n} matrix with mode={mode!r}",
                                      "Householder's vectors have no rule here; use mode='reduced'")
    if mode == "complete" and m > n:
        q, r, rest = results(FullQr(m, n), (a,), "qr")
        r = np.concatenate([r, np.zeros((*shape_of(r)[:-2], m - n, n))], axis=-2)
        return as_numpy(np.linalg.qr, [np.concatenate([q, rest], axis=-1), r])
    q, r = results(Qr(m, min(m, n)), (a[..., :m],), "qr")
    if n > m:
        r = np.concatenate([r, np.matmul(np.swapaxes(q, -1, -2), a[..., m:])], axis=-1)
    return r if mode == "r" else as_numpy(np.linalg.qr, [q, r])


def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    a = matrices(a, "pinv", square=hermitian)
    cut = rtol if rcond is None or rcond is np._NoValue else rcond
    cut = 1e-15 if cut is None or cut is np._NoValue else cut
    if is_traced(cut) or np.ndim(cut):
        recorder_of((a,)).unsupported("numpy.linalg.pinv with an array for rcond", "use one number")
    if hermitian:
        n = a.shape[-1]
        half = a * (np.tri(n) - 0.5 * np.eye(n))
        a = half + np.swapaxes(half, -1, -2)
    return results(Pinv(*a.shape[-2:], float(cut)), (a,), "pinv")[0]


def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, int, Any]:
    """By the pseudoinverse; the rank is decided, and full, or there is no derivative."""
    a = matrices(a, "lstsq", square=False)
    m, n = a.shape
    if rcond == "warn" or rcond is not None and rcond < 0:
        rcond = np.finfo(float).eps
    elif rcond is None:
        rcond = max(m, n) * np.finfo(float).eps if _NUMPY_2 or rcond is None else rcond
    s = svdvals(a)
    rank = int(np.count_nonzero(np.greater(s, rcond * s[:1])))
    x = np.matmul(pinv(a, rcond), b)
    if rank < n or m <= n:
        residuals: Any = np.empty(0)
    else:
        rest = b - np.matmul(a, x)
        residuals = np.reshape(total(rest * rest, 0), (-1,))
    return x, residuals, rank, s


def matrix_rank(a: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """Decided, from the singular values."""
    if ndim_of(a) < 2:
        return int(bool(np.any(np.not_equal(a, 0.0))))
    s = svd(a, compute_uv=False, hermitian=hermitian)
    if tol is None:
        rtol = max(shape_of(a)[-2:]) * np.finfo(float).eps if rtol is None else np.asarray(rtol)[..., None]
        tol = largest(s, -1, keepdims=True) * rtol
    else:
        tol = np.asarray(tol)[..., None]
    return np.count_nonzero(np.greater(s, tol), axis=-1)


def cond(x: Any, p: Any = None) -> Any:
    if p in (None, 2, -2):
        s = svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    try:
        inverse = inv(x)
    except np.linalg.LinAlgError:  # which NumPy's doesn't raise
        recorder_of((x,)).unsupported("numpy.linalg.cond of a singular matrix", "it is inf there, without a derivative")
    return norm(x, p, (-2, -1)) * norm(inverse, p, (-2, -1))


def roots(p: Any) -> Any:
    """Eigenvalues of the companion matrix; which coefficients are 0 is decided."""
    p = np.atleast_1d(p)
    found = np.nonzero(p)[0]
    if not len(found):
        return np.empty(0)
    zeros = len(p) - 1 - found[-1]
    p = p[found[0] : found[-1] + 1]
    if len(p) == 1:
        return np.zeros(zeros)
    rest = np.eye(len(p) - 2, len(p) - 1)
    return np.append(eigvals(np.concatenate([np.reshape(-p[1:] / p[0], (1, -1)), rest])), np.zeros(zeros))


# -- products


def matrix_power(a: Any, n: int) -> Any:
    """By squares; the first power is the array itself, as in NumPy."""
    a = matrices(a, "matrix_power")
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
    return result


def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """In the order that takes the fewest multiplications, as NumPy chooses it."""
    arrays = list(arrays)
    if len(arrays) < 2:
        raise ValueError("Expecting at least two arrays.")
    if len(arrays) == 2:
        return into(out, np.dot(*arrays))
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
    np.linalg.eigh: eigh, np.linalg.eigvalsh: eigvalsh, np.linalg.eig: eig, np.linalg.eigvals: eigvals,
    np.linalg.svd: svd, np.linalg.qr: qr, np.linalg.pinv: pinv, np.linalg.lstsq: lstsq,
    np.linalg.matrix_rank: matrix_rank, np.linalg.cond: cond, np.roots: roots,
}
if hasattr(np.linalg, "vector_norm"):  # of NumPy 2
    from . import contract

    FUNCTIONS |= {
        np.linalg.vector_norm: vector_norm, np.linalg.svdvals: svdvals,
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
