"""numpy.linalg of complex matrices, by real ones of twice the order, [[A, -B], [B, A]] for A + iB.

That matrix multiplies, is inverted and has singular values as A + iB has (each twice), so NumPy's functions of it,
which have rules, give the solves, inverses, pseudoinverses and norms; `matrices.pairs` has what they can't give.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..array import is_traced, ndim_of, shape_of
from ..decompositions import as_numpy, hermitian_svd
from ..joint import joint
from ..matrices.hermitian import EighPair, EigvalshPair, QrPair, SvdPair, SvdvalsPair
from ..matrices.pairs import DetPair, EigPair, EigvalsPair, LogDetPair, embedded
from ..matrices.shared import reads_lower
from ..recorder import Recorder
from ..ufuncs import recorder_of
from .array import computed, parts_of
from .parts import Part

_NUMPY_2 = np.lib.NumpyVersion(np.__version__) >= "2.0.0"


def _square(a: Any) -> tuple[int, ...]:
    shape = shape_of(a)
    if len(shape) < 2:
        raise np.linalg.LinAlgError(f"{len(shape)}-dimensional array given. Array must be at least two-dimensional")
    if shape[-1] != shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return shape


def _filled(part: Part, shape: tuple[int, ...]) -> Any:
    return np.zeros(shape) if part is None else part


def _embedded(a: Any, rec: Recorder) -> Any:
    re, im = parts_of(a, rec)
    return embedded(_filled(re, shape_of(a)), _filled(im, shape_of(a)))


def _halves(rec: Recorder, x: Any, n: int) -> Any:
    """The complex array whose parts lie one above the other."""
    return computed(rec, x[..., :n, :], x[..., n:, :])


def solve(a: Any, b: Any) -> Any:
    n = _square(a)[-1]
    vector = ndim_of(b) == (1 if _NUMPY_2 else ndim_of(a) - 1)
    rec = recorder_of((a, b))
    right = np.expand_dims(b, -1) if vector else b
    re, im = (_filled(part, shape_of(right)) for part in parts_of(right, rec))
    if parts_of(a, rec)[1] is None:  # a real matrix, and both parts are right-hand sides
        x = np.linalg.solve(parts_of(a, rec)[0], np.concatenate([re, im], axis=-1))
        m = shape_of(right)[-1]
        result = computed(rec, x[..., :m], x[..., m:])
    else:
        result = _halves(rec, np.linalg.solve(_embedded(a, rec), np.concatenate([re, im], axis=-2)), n)
    return result[..., 0] if vector else result


def inv(a: Any) -> Any:
    n = _square(a)[-1]
    rec = recorder_of((a,))
    right = np.concatenate([np.eye(n), np.zeros((n, n))])
    return _halves(rec, np.linalg.solve(_embedded(a, rec), np.broadcast_to(right, (*shape_of(a)[:-2], 2 * n, n))), n)


def by_real_one(a: Any, function: Callable[[Any], Any]) -> Any:
    """A function of square matrices that a power series with real coefficients gives, by that of the real matrix."""
    n = _square(a)[-1]
    rec = recorder_of((a,))
    return _halves(rec, function(_embedded(a, rec))[..., :n], n)


def pinv(a: Any, rcond: Any = 1e-15, hermitian: bool = False) -> Any:
    rec = recorder_of((a,))
    m, n = shape_of(a)[-2:]
    return _halves(rec, np.linalg.pinv(_embedded(a, rec), rcond)[..., :m], n)


def det(a: Any) -> Any:
    re, im = joint(DetPair(_square(a)[-1]), _given(a), "numpy.linalg.det")
    return computed(recorder_of((a,)), re, im)


def slogdet(a: Any) -> Any:
    log, phase = joint(LogDetPair(_square(a)[-1]), _given(a), "numpy.linalg.slogdet")
    return as_numpy(np.linalg.slogdet, (computed(recorder_of((a,)), np.cos(phase), np.sin(phase)), log))


def singular_values(a: Any) -> Any:
    shape = shape_of(a)
    return joint(SvdvalsPair(*shape[-2:]), _given(a), "numpy.linalg.svd")[2]


def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    if hermitian:
        return hermitian_svd(a, compute_uv)
    if not compute_uv:
        return singular_values(a)
    m, n = shape_of(a)[-2:]
    rec = recorder_of((a,))
    if full_matrices and m != n:
        rec.unsupported(f"numpy.linalg.svd of a {m} x {n} matrix with full_matrices=True", "the vectors beyond the "
                        f"first {min(m, n)} are any that complete a basis, and have no derivative; use "
                        "full_matrices=False")
    ure, uim, s, vre, vim = joint(SvdPair(m, n), _given(a), "numpy.linalg.svd")
    return as_numpy(np.linalg.svd, (computed(rec, ure, uim), s, computed(rec, vre, vim)))


def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """Of the triangle that LAPACK reads, its diagonal real."""
    return joint(EigvalshPair(_square(a)[-1], reads_lower(UPLO)), _given(a), "numpy.linalg.eigvalsh")[0]


def eigh(a: Any, UPLO: str = "L") -> Any:
    return as_numpy(np.linalg.eigh, eigh_by(a, reads_lower(UPLO)))


def eigh_by(a: Any, lower: bool, driver: str = "") -> tuple[Any, Any]:
    """w and V of a triangle by one of LAPACK's drivers (see `EighPair`)."""
    w, re, im = joint(EighPair(_square(a)[-1], lower, driver), _given(a), "linalg.eigh")
    return w, computed(recorder_of((a,)), re, im)


def qr(a: Any, mode: str = "reduced") -> Any:
    m, n = shape_of(a)[-2:]
    rec = recorder_of((a,))
    if mode not in ("reduced", "r", "complete") or mode == "complete" and m > n:
        rec.unsupported(f"numpy.linalg.qr of a complex {m} x {n} matrix with mode={mode!r}", "what it has beyond the "
                        "first columns has no derivative; use mode='reduced'")
    qre, qim, rre, rim = joint(QrPair(m, min(m, n)), _given(a[..., :m]), "numpy.linalg.qr")
    q, r = computed(rec, qre, qim), computed(rec, rre, rim)
    if n > m:
        r = np.concatenate([r, np.matmul(np.conj(np.swapaxes(q, -1, -2)), a[..., m:])], axis=-1)
    return r if mode == "r" else as_numpy(np.linalg.qr, (q, r))


def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """The real matrix with the parts of every element side by side, [[re, -im], [im, re]], has the factor's parts in
    its factor, which is triangular because the factor's diagonal is real."""
    n = _square(a)[-1]
    rec = recorder_of((a,))
    if upper:
        a = np.conj(np.swapaxes(a, -1, -2))
    re, im = (_filled(part, shape_of(a)) for part in parts_of(a, rec))
    im = im * (1.0 - np.eye(n))
    rows = np.stack([np.stack([re, -im], axis=-1), np.stack([im, re], axis=-1)], axis=-3)  # (..., n, 2, n, 2)
    factor = np.linalg.cholesky(np.reshape(rows, (*shape_of(a)[:-2], 2 * n, 2 * n)))
    result = computed(rec, factor[..., ::2, ::2], factor[..., 1::2, ::2])
    return np.conj(np.swapaxes(result, -1, -2)) if upper else result


def eig(a: Any) -> Any:
    """Also of real matrices with complex eigenvalues."""
    rec = recorder_of((a,))
    w, u, v, z = joint(EigPair(_square(a)[-1], _is_real(a)), _given(a), "numpy.linalg.eig")
    return as_numpy(np.linalg.eig, (computed(rec, w, u), computed(rec, v, z)))


def eigvals(a: Any) -> Any:
    w, u, *_ = joint(EigvalsPair(_square(a)[-1], _is_real(a)), _given(a), "numpy.linalg.eigvals")
    return computed(recorder_of((a,)), w, u)


def _is_real(a: Any) -> bool:
    return is_traced(a) or parts_of(a, recorder_of((a,)))[1] is None


def _given(a: Any) -> tuple[Any, Any]:
    """Both parts, as arrays."""
    re, im = (a, None) if is_traced(a) else parts_of(a, recorder_of((a,)))
    return _filled(re, shape_of(a)), _filled(im, shape_of(a))


def lstsq(a: Any, b: Any, rcond: Any = None) -> tuple[Any, Any, int, Any]:
    """By the pseudoinverse; the rank is decided, and full, or there is no derivative."""
    m, n = shape_of(a)
    if rcond is None or rcond == "warn" or rcond < 0:
        rcond = np.finfo(float).eps * (max(m, n) if rcond is None else 1)
    s = singular_values(a)
    rank = int(np.count_nonzero(np.greater(s, rcond * s[0])))
    x = np.matmul(pinv(a, rcond), b)
    residuals: Any = np.empty(0)
    if rank == n < m:
        residuals = np.reshape(np.sum(np.square(np.abs(b - np.matmul(a, x))), 0), (-1,))
    return x, residuals, rank, s


def cond(a: Any, p: Any = None) -> Any:
    if p in (None, 2, -2):
        s = singular_values(a)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return np.linalg.norm(a, p, (-2, -1)) * np.linalg.norm(inv(a), p, (-2, -1))


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.linalg.solve: solve, np.linalg.inv: inv, np.linalg.pinv: pinv, np.linalg.det: det, np.linalg.slogdet: slogdet,
    np.linalg.svd: svd, np.linalg.eigvalsh: eigvalsh, np.linalg.eigh: eigh, np.linalg.qr: qr,
    np.linalg.cholesky: cholesky, np.linalg.eig: eig, np.linalg.eigvals: eigvals, np.linalg.cond: cond,
    np.linalg.lstsq: lstsq,
}
if hasattr(np.linalg, "svdvals"):  # of NumPy 2
    FUNCTIONS[np.linalg.svdvals] = singular_values

__all__ = ["FUNCTIONS", "by_real_one", "eig", "eigh_by", "eigvals"]
