"""scipy.linalg on traced values: solves by kind of matrix, factors and what is solved with them, functions of matrices.

Options that only say how SciPy computes (overwrite_a, check_finite, lapack_driver ...) are taken and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import linalg
from ..array import ndim_of, shape_of
from ..complexes import by_real_one, eigh_by, is_complex
from ..holding import traced_within
from ..linalg import results
from ..matrices.banded import Banded
from ..matrices.functions import NAMES, MatrixFunction
from ..matrices.lu import PackedLu
from ..matrices.sylvester import Sylvester
from ..matrices.symmetric import Eigh
from ..matrices.triangular import Triangular
from ..wholes import whole
from .replacing import Rule, parts_apart


def _refuse(operands: Any, what: str, remedy: str) -> Any:
    return traced_within(list(operands)).unsupported(what, remedy)


def _columns(b: Any) -> tuple[Any, bool]:
    """A right-hand side as a matrix, and whether it was a vector."""
    vector = ndim_of(b) == 1
    return (np.reshape(b, (-1, 1)) if vector else b), vector


def _mirrored(a: Any, lower: bool) -> Any:
    """The symmetric matrix that one triangle of `a` stands for."""
    n = shape_of(a)[-1]
    half = a * (np.tri(n) - 0.5 * np.eye(n) if lower else np.tri(n).T - 0.5 * np.eye(n))
    return half + np.swapaxes(half, -1, -2)


def _conjugate(a: Any) -> Any:
    """The conjugate transpose."""
    return np.conj(np.swapaxes(a, -1, -2))


# -- solves


def _triangular(a: Any, b: Any, lower: bool, transposed: bool = False, unit: bool = False) -> Any:
    b, vector = _columns(b)
    op = Triangular(shape_of(a)[-1], shape_of(b)[-1], bool(lower), bool(transposed), bool(unit))
    x, = results(op, (a, b), "solve_triangular")
    return x[..., 0] if vector else x


def solve_triangular(a: Any, b: Any, trans: Any = 0, lower: bool = False, unit_diagonal: bool = False,
                     overwrite_b: bool = False, check_finite: bool = True, **kwargs: Any) -> Any:
    trans = {"N": 0, "T": 1, "C": 2}.get(trans, trans)
    if is_complex(a) or is_complex(b):
        n = shape_of(a)[-1]
        kept = np.tri(n, k=-int(unit_diagonal))
        a = a * (kept if lower else kept.T) + np.eye(n) * bool(unit_diagonal)
        return np.linalg.solve(_conjugate(a) if trans == 2 else np.swapaxes(a, -1, -2) if trans else a, b)
    a = linalg.matrices(a, "solve_triangular")
    return _triangular(a, b, lower, trans != 0, unit_diagonal)


def solve(a: Any, b: Any, lower: bool = False, overwrite_a: bool = False, overwrite_b: bool = False,
          check_finite: bool = True, assume_a: Any = None, transposed: bool = False, **kwargs: Any) -> Any:
    if is_complex(a) or is_complex(b):
        return _complex_solve(a, b, lower, kwargs.get("sym_pos") and "pos" or assume_a, transposed)
    a = linalg.matrices(a, "solve")
    kind = {None: "general", "gen": "general", "sym": "symmetric", "her": "symmetric", "hermitian": "symmetric",
            "pos": "positive definite"}.get(assume_a, assume_a)
    kind = kwargs.get("sym_pos") and "positive definite" or kind
    if kind in ("upper triangular", "lower triangular"):
        return _triangular(a, b, kind == "lower triangular", transposed)
    if kind == "positive definite":
        return cho_solve(cho_factor(a, lower), b)
    if kind not in ("general", "symmetric"):
        _refuse((a, b), f"scipy.linalg.solve with assume_a={assume_a!r}", "use 'gen', 'sym', 'pos', 'upper triangular' "
                "or 'lower triangular', or scipy.linalg.solve_banded")
    b, vector = _columns(b)
    x = linalg.solved(_mirrored(a, lower) if kind == "symmetric" else a, b, "solve", bool(transposed))
    return x[..., 0] if vector else x


def _complex_solve(a: Any, b: Any, lower: bool, kind: Any, transposed: bool) -> Any:
    if kind in ("her", "hermitian", "pos", "positive definite"):
        n = shape_of(a)[-1]
        half = a * (np.tri(n) - 0.5 * np.eye(n) if lower else np.tri(n).T - 0.5 * np.eye(n))
        a = half + _conjugate(half)
    elif kind not in (None, "gen", "general"):
        _refuse((a, b), f"scipy.linalg.solve of complex matrices with assume_a={kind!r}", "use 'gen', 'her' or 'pos'")
    return np.linalg.solve(np.swapaxes(a, -1, -2) if transposed else a, b)


def cholesky(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> Any:
    if is_complex(a):
        return np.linalg.cholesky(a) if lower else _conjugate(np.linalg.cholesky(_conjugate(a)))
    return linalg.cholesky(a, upper=not lower)


def cho_factor(a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, bool]:
    """The triangle that SciPy leaves as it was is 0 here."""
    return cholesky(a, lower), lower


@parts_apart
def cho_solve(c_and_lower: Any, b: Any, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    c, lower = c_and_lower
    if is_complex(c) or is_complex(b):
        first = solve_triangular(c, b, trans=0 if lower else 2, lower=lower)
        return solve_triangular(c, first, trans=2 if lower else 0, lower=lower)
    return _triangular(c, _triangular(c, b, lower, not lower), lower, bool(lower))


def _complex_factors(a: Any) -> tuple[Any, np.ndarray]:
    """By elimination, column by column, with LAPACK's pivots: the largest |re| + |im|, which is decided."""
    n, packed = shape_of(a)[-1], a + 0j
    pivots = np.empty(n, dtype=np.int32)
    for k in range(n):
        column = packed[k:, k]
        pivots[k] = p = k + int(np.argmax(np.abs(column.real) + np.abs(column.imag)))
        if p != k:
            packed[[k, p]] = packed[[p, k]]
        if k + 1 < n:
            below, rest = packed[k + 1 :, k] / packed[k, k], packed[k + 1 :, k + 1 :]
            packed[k + 1 :, k], packed[k + 1 :, k + 1 :] = below, rest - below[:, None] * packed[k, k + 1 :]
    return packed, pivots


def lu_factor(a: Any, overwrite_a: bool = False, check_finite: bool = True) -> tuple[Any, Any]:
    if is_complex(a):
        if len(shape_of(a)) != 2 or shape_of(a)[0] != shape_of(a)[1]:
            _refuse((a,), f"scipy.linalg.lu_factor of an array of shape {shape_of(a)}", "only one square matrix is "
                    "factorized here")
        return _complex_factors(a)
    packed, order = _packed(a, "lu_factor")
    pivots = np.empty(order.shape, dtype=np.int32)  # LAPACK's: the row that was exchanged with row k at step k
    rows = list(range(len(order)))
    for k, row in enumerate(order.tolist()):
        pivots[k] = j = rows.index(row)
        rows[k], rows[j] = rows[j], rows[k]
    return packed, pivots


def _packed(a: Any, name: str) -> tuple[Any, np.ndarray]:
    """L and U in one square, and the order of the rows, which is decided here: a replay with another traces again."""
    a = linalg.matrices(a, name, square=False)
    shape = shape_of(a)
    if len(shape) > 2 or shape[0] != shape[1]:
        _refuse((a,), f"scipy.linalg.{name} of an array of shape {shape}", "only one square matrix is factorized here")
    packed, order = results(PackedLu(shape[0]), (a,), name)
    return packed, np.asarray(whole(order))


@parts_apart
def lu_solve(lu_and_piv: Any, b: Any, trans: int = 0, overwrite_b: bool = False, check_finite: bool = True) -> Any:
    packed, pivots = lu_and_piv
    order = np.arange(len(pivots))
    for k, j in enumerate(np.asarray(pivots).tolist()):
        order[k], order[j] = order[j], order[k]
    if is_complex(packed) or is_complex(b):
        if not trans:
            return solve_triangular(packed, solve_triangular(packed, b[order], lower=True, unit_diagonal=True))
        x = solve_triangular(packed, solve_triangular(packed, b, trans), trans, lower=True, unit_diagonal=True)
        return x[np.argsort(order)]
    if not trans:
        return _triangular(packed, _triangular(packed, b[order], True, unit=True), False)
    x = _triangular(packed, _triangular(packed, b, False, True), True, True, unit=True)
    return x[np.argsort(order)]


def lu(a: Any, permute_l: bool = False, overwrite_a: bool = False, check_finite: bool = True,
       p_indices: bool = False) -> Any:
    packed, order = _packed(a, "lu")
    n = len(order)
    lower, upper = packed * np.tri(n, k=-1) + np.eye(n), packed * np.tri(n).T
    inverse = np.argsort(order)
    if permute_l:
        return lower[inverse], upper
    return (inverse if p_indices else np.eye(n)[:, order]), lower, upper


def solve_banded(l_and_u: Any, ab: Any, b: Any, overwrite_ab: bool = False, overwrite_b: bool = False,
                 check_finite: bool = True) -> Any:
    below, above = (int(k) for k in l_and_u)
    n = shape_of(ab)[-1]
    if shape_of(ab)[0] != below + above + 1 or shape_of(b)[0] != n:
        raise ValueError(f"shapes of ab {shape_of(ab)} and b {shape_of(b)} are not compatible with {below} diagonals "
                         f"below and {above} above")
    b, vector = _columns(b)
    x, = results(Banded(n, shape_of(b)[-1], below, above), (ab, b), "solve_banded")
    return x[:, 0] if vector else x


def solveh_banded(ab: Any, b: Any, overwrite_ab: bool = False, overwrite_b: bool = False, lower: bool = False,
                  check_finite: bool = True) -> Any:
    """Of the band of a symmetric matrix, put beside its mirror image."""
    k, n = shape_of(ab)[0] - 1, shape_of(ab)[-1]
    rows = [ab[k - d] if not lower else np.append(np.zeros(d), ab[d, : n - d]) for d in range(k, 0, -1)]
    under = [np.append(row[d:], np.zeros(d)) for d, row in zip(range(k, 0, -1), rows)][::-1]
    return solve_banded((k, k), np.stack([*rows, ab[0] if lower else ab[k], *under]), b)


def solve_sylvester(a: Any, b: Any, q: Any) -> Any:
    return results(Sylvester(*shape_of(q)), (a, b, q), "solve_sylvester")[0]


def solve_continuous_lyapunov(a: Any, q: Any) -> Any:
    return solve_sylvester(a, np.swapaxes(a, 0, 1), q)


# -- spectra


def _whole_spectrum(operands: Any, name: str, options: dict[str, Any]) -> Any:
    """The subset (lo, hi) of the eigenvalues that is wanted; refuses what is not done."""
    wanted = options.pop("subset_by_index", None) or options.pop("eigvals", None)
    for option in ("subset_by_value", "homogeneous_eigvals", "left"):
        if options.get(option) not in (None, False):
            _refuse(operands, f"scipy.linalg.{name} with {option}", "compute all and take those that are wanted")
    if options.get("type", 1) != 1:
        _refuse(operands, f"scipy.linalg.{name} with type={options['type']}", "only A x = w B x is solved here")
    return wanted


def eigh(a: Any, b: Any = None, lower: bool = True, eigvals_only: bool = False, *args: Any, **options: Any) -> Any:
    """With b: L L^T = B, and eigenvectors V = L^-T Y of the symmetric matrix L^-1 A L^-T."""
    if args:
        _refuse((a, b), "scipy.linalg.eigh with options by position", "give them by name")
    if lower is None:
        lower = True
    wanted = _whole_spectrum((a, b), "eigh", options)
    if b is not None:
        factor = cholesky(b, lower=lower)
        factor = factor if lower else np.swapaxes(factor, 0, 1)
        half = _triangular(factor, _mirrored(a, lower), True)
        a = _triangular(factor, np.swapaxes(half, 0, 1), True)
    if eigvals_only:
        w = np.linalg.eigvalsh(a, "L" if lower else "U")
        return w if wanted is None else w[wanted[0] : wanted[1] + 1]
    if wanted is not None:
        _refuse((a, b), "scipy.linalg.eigh with a subset of the vectors", "take w[i:j] and V[:, i:j] of all of them")
    if is_complex(a) and b is None:
        return eigh_by(a, bool(lower), "evr")
    op = Eigh(shape_of(a)[-1], bool(lower), "evr" if b is None else "")
    w, v = results(op, (linalg.matrices(a, "eigh"),), "eigh")
    return w, v if b is None else _triangular(factor, v, True, True)


def eigvalsh(a: Any, b: Any = None, lower: bool = True, *args: Any, **options: Any) -> Any:
    if args:
        _refuse((a, b), "scipy.linalg.eigvalsh with options by position", "give them by name")
    return eigh(a, b, lower, True, **options)


def eig(a: Any, b: Any = None, left: bool = False, right: bool = True, **options: Any) -> Any:
    _whole_spectrum((a, b), "eig", {**options, "left": left})
    w, v = np.linalg.eig(a if b is None else np.linalg.solve(b, a))
    return (w, v) if right else w


def eigvals(a: Any, b: Any = None, **options: Any) -> Any:
    _whole_spectrum((a, b), "eigvals", options)
    return np.linalg.eigvals(a if b is None else np.linalg.solve(b, a))


def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, overwrite_a: bool = False,
        check_finite: bool = True, lapack_driver: str = "gesdd") -> Any:
    found = np.linalg.svd(a, full_matrices, compute_uv)
    return tuple(found) if compute_uv else found


def eigvalsh_tridiagonal(d: Any, e: Any, select: Any = "a", select_range: Any = None, check_finite: bool = True,
                         tol: Any = 0.0, lapack_driver: str = "auto") -> Any:
    """Of the dense matrix: n^3 operations."""
    w = np.linalg.eigvalsh(np.diag(d) + np.diag(e, 1) + np.diag(e, -1))
    if select in ("a", "all", 0):
        return w
    if select in ("i", "index", 2):
        return w[int(select_range[0]) : int(select_range[1]) + 1]
    return _refuse((d, e), f"scipy.linalg.eigvalsh_tridiagonal with select={select!r}", "take w[i:j] of all of them")


def eigh_tridiagonal(d: Any, e: Any, eigvals_only: bool = False, *args: Any, **options: Any) -> Any:
    if eigvals_only:
        return eigvalsh_tridiagonal(d, e, *args, **options)
    return _refuse((d, e), "scipy.linalg.eigh_tridiagonal with vectors", "w, V = np.linalg.eigh(np.diag(d) + "
                   "np.diag(e, 1) + np.diag(e, -1)) can be traced, whose vectors may have other signs")


def qr_multiply(a: Any, c: Any, mode: str = "right", pivoting: bool = False, conjugate: bool = False,
                overwrite_a: bool = False, overwrite_c: bool = False) -> Any:
    if pivoting or mode not in ("left", "right"):
        _refuse((a, c), f"scipy.linalg.qr_multiply with mode={mode!r} and pivoting={pivoting}", "use mode='right'")
    q, r = np.linalg.qr(a)
    q = np.conj(q) if conjugate else q
    return (q @ c if mode == "left" else c @ q), r


def qr(a: Any, overwrite_a: bool = False, lwork: Any = None, mode: str = "full", pivoting: bool = False,
       check_finite: bool = True) -> Any:
    if pivoting or mode not in ("full", "r", "economic"):
        _refuse((a,), f"scipy.linalg.qr with mode={mode!r} and pivoting={pivoting}", "use mode='economic'")
    if mode == "r":
        m, n = shape_of(a)
        r = np.linalg.qr(a, "r")
        return (np.concatenate([r, np.zeros((m - n, n))]) if m > n else r,)
    return tuple(np.linalg.qr(a, {"full": "complete", "economic": "reduced"}[mode]))


def pinv(a: Any, atol: Any = None, rtol: Any = None, return_rank: bool = False, check_finite: bool = True,
         **options: Any) -> Any:
    if atol is not None or options:
        _refuse((a,), f"scipy.linalg.pinv with {', '.join(['atol', *options])}", "use rtol")
    rtol = max(shape_of(a)) * np.finfo(float).eps if rtol is None else rtol
    p = np.linalg.pinv(a, rtol)
    return (p, linalg.matrix_rank(a, rtol=rtol)) if return_rank else p


def lstsq(a: Any, b: Any, cond: Any = None, *args: Any, **options: Any) -> Any:
    x, residuals, rank, s = np.linalg.lstsq(a, b, np.finfo(float).eps if cond is None else cond)
    return x, residuals[0] if ndim_of(b) == 1 and len(residuals) else residuals, rank, s


def norm(a: Any, ord: Any = None, axis: Any = None, keepdims: bool = False, check_finite: bool = True) -> Any:
    return np.linalg.norm(a, ord, axis, keepdims)


# -- functions of matrices


def _function(name: str) -> Callable[..., Any]:
    def function(A: Any, disp: bool = True, blocksize: int = 64) -> Any:
        if not disp:
            _refuse((A,), f"scipy.linalg.{name} with disp=False", "its estimate of the error has no derivative")
        if is_complex(A):
            return by_real_one(A, lambda a: results(MatrixFunction(name, shape_of(a)[-1]), (a,), name)[0])
        A = linalg.matrices(A, name)
        return results(MatrixFunction(name, shape_of(A)[-1]), (A,), name)[0]

    function.__name__ = name
    return function


def expm_frechet(A: Any, E: Any, method: Any = None, compute_expm: bool = True,
                 check_finite: bool = True) -> Any:
    n = shape_of(A)[-1]
    block = np.block([[A, E], [np.zeros((n, n)), A]])
    found = results(MatrixFunction("expm", 2 * n), (block,), "expm_frechet")[0]
    return (found[:n, :n], found[:n, n:]) if compute_expm else found[:n, n:]


# -- matrices made of others


def block_diag(*arrays: Any) -> Any:
    parts = [np.atleast_2d(x) for x in arrays]
    shapes = [shape_of(x) for x in parts]
    rows = []
    for k, (part, (m, _)) in enumerate(zip(parts, shapes)):
        left, right = sum(n for _, n in shapes[:k]), sum(n for _, n in shapes[k + 1 :])
        rows.append(np.concatenate([np.zeros((m, left)), part, np.zeros((m, right))], axis=1))
    return np.concatenate(rows)


def toeplitz(c: Any, r: Any = None) -> Any:
    c = np.ravel(c)
    r = np.conj(c) if r is None else np.ravel(r)
    m, n = len(c), len(r)
    values = np.concatenate([c[::-1], r[1:]])
    return values[np.arange(m)[::-1, None] + np.arange(n)]


def circulant(c: Any) -> Any:
    n = shape_of(c)[-1]
    return c[(np.arange(n)[:, None] - np.arange(n)) % n]


def hankel(c: Any, r: Any = None) -> Any:
    c = np.ravel(c)
    r = np.zeros(len(c)) if r is None else np.ravel(r)
    return np.concatenate([c, r[1:]])[np.arange(len(c))[:, None] + np.arange(len(r))]


_SAME = {"inv": lambda a, **options: np.linalg.inv(a), "det": lambda a, **options: np.linalg.det(a),
         "svdvals": lambda a, **options: np.linalg.svd(a, compute_uv=False), "kron": np.kron}
_HERE = (solve, solve_triangular, cholesky, cho_factor, cho_solve, lu_factor, lu_solve, lu, solve_banded, solveh_banded,
         solve_sylvester, solve_continuous_lyapunov, eigh, eigvalsh, eig, eigvals, svd, qr, qr_multiply,
         eigvalsh_tridiagonal, eigh_tridiagonal, pinv, lstsq, norm,
         expm_frechet, block_diag, toeplitz, circulant, hankel)
RULES: dict[str, Rule] = {
    f"scipy.linalg:{name}": rule
    for name, rule in {**_SAME, **{rule.__name__: rule for rule in _HERE}, **{n: _function(n) for n in NAMES}}.items()
}
