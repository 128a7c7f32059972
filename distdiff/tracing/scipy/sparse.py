"""Solves through sparse matrices: scipy.sparse.linalg.

A constant matrix is factorized when a trace meets it, and remembered: tangents, adjoints, other points and traces find
its factors; one with traced entries (`entries`) at every point.  Factors that were made before the function runs are
SciPy's own objects, whose compiled code can't take traced values: `outside` exchanges them.  Krylov methods solve the
same equation (`matrices.iterative`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from ..active import running, set_aside
from ..array import is_traced, plain, shape_of
from ..holding import held, traced_within
from ..joint import joint
from ..matrices.iterative import METHODS, Held, Iterative
from ..matrices.sparse import SparseSolve, SparseSystem, digest, factor_of
from ..ufuncs import number, recorder_of
from .replacing import Rule, also_plain, around


class Factors:
    """SciPy's SuperLU object of a square matrix, whose `solve` takes traced right-hand sides too, and whose entries may
    be traced (`entries`): then it has no other use."""

    _made: Any = None  # SciPy's

    def __init__(self, a: Any, options: dict[str, Any]) -> None:
        rec = running()
        assert rec is not None
        if is_traced(held(a)):
            rec.unsupported("a sparse factorization of a traced matrix that is an array", "solve with "
                            "numpy.linalg.solve, or make a sparse matrix of its entries: "
                            "scipy.sparse.csc_matrix((values, (rows, columns)))")
        if _entries_traced(a):
            matrix = a.tocsc(copy=True)
            matrix.sum_duplicates()
            self._n = _order(matrix)
            self._operands = held(matrix.data), matrix.indices.astype(float), matrix.indptr.astype(float)
            return
        with set_aside():
            from scipy.sparse import csc_matrix
            from scipy.sparse.linalg import splu

            matrix = csc_matrix(a, copy=True)
            matrix.sum_duplicates()
            self._n = _order(matrix)
            real = matrix.dtype.kind in "fiub"
            if real:
                parts = matrix.data.astype(np.float64), matrix.indices, matrix.indptr
                key = digest(*parts)
                self._made = factor_of(*parts, key, lambda a: splu(a, **options))
                self._operands = (*parts, np.frombuffer(key, np.uint8))
        if not real:
            rec.unsupported(f"a sparse matrix of dtype {matrix.dtype}", "derivatives here are those of real functions")

    @classmethod
    def made(cls, factor: Any, matrix: Any) -> Factors:
        """Of SciPy's factor of a real matrix in CSC, which was made before."""
        factors = cls.__new__(cls)
        parts = matrix.data, matrix.indices, matrix.indptr
        factors._made, factors._n = factor, _order(matrix)
        factors._operands = (*parts, np.frombuffer(digest(*parts), np.uint8))
        return factors

    def remembered(self) -> Factors:
        """Itself, whose factor is found from now on by what travels on tapes."""
        *parts, key = self._operands
        factor_of(*parts, key.tobytes(), lambda a: self._made)
        return self

    def solve(self, rhs: Any, trans: str = "N") -> Any:
        rhs = held(rhs)
        if not is_traced(rhs) and self._made is not None:
            with set_aside():
                return self._made.solve(rhs, trans)
        b = number(recorder_of((rhs, self._operands[0])), rhs, "sparse solve")
        n = self._n
        if b.ndim not in (1, 2) or b.shape[0] != n:
            raise ValueError(f"rhs is of incompatible size: {b.shape} for a matrix of order {n}")
        if trans not in ("N", "T", "H"):
            raise ValueError("trans must be N, T, or H")
        columns = b[:, None] if b.ndim == 1 else b
        kind = SparseSystem if self._made is None else SparseSolve
        op = kind(n, columns.shape[1], len(self._operands[0]), trans != "N")
        x, = joint(op, (*self._operands, columns), "scipy.sparse.linalg.splu(A).solve")
        return x[:, 0] if b.ndim == 1 else x

    def __getattr__(self, name: str) -> Any:
        if self._made is None and not name.startswith("_"):
            recorder_of((self._operands[0],)).unsupported(f"{name} of a sparse factorization of traced entries",
                                                          "its solve can be used")
        return getattr(self._made, name)


def _entries_traced(a: Any) -> bool:
    return is_traced(held(getattr(a, "data", None)))


def _order(matrix: Any) -> int:
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"can only factor square matrices, not one of shape {matrix.shape}")
    return int(matrix.shape[0])


@also_plain
def splu(A: Any, permc_spec: Any = None, diag_pivot_thresh: Any = None,
         relax: Any = None, panel_size: Any = None, options: Any = None) -> Factors:
    return Factors(A, {"permc_spec": permc_spec, "diag_pivot_thresh": diag_pivot_thresh, "relax": relax,
                       "panel_size": panel_size, "options": {} if options is None else options})


@also_plain
def factorized(A: Any) -> Any:
    return Factors(A, {}).solve


@around
def spsolve(original: Callable[..., Any], A: Any, b: Any, permc_spec: Any = None, use_umfpack: bool = True) -> Any:
    if not is_traced(b) and not _entries_traced(A):
        return original(A, b, permc_spec, use_umfpack)
    x = Factors(A, {"permc_spec": permc_spec}).solve(b)
    return x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x


@also_plain
def spsolve_triangular(A: Any, b: Any, lower: bool = True, overwrite_A: bool = False,
                       overwrite_b: bool = False, unit_diagonal: bool = False) -> Any:
    from scipy import sparse

    if _entries_traced(A):
        recorder_of((held(A.data),)).unsupported("scipy.sparse.linalg.spsolve_triangular with traced entries",
                                                 "spsolve solves it as well")
    with set_aside():
        if (sparse.triu(A, 1) if lower else sparse.tril(A, -1)).count_nonzero():
            raise np.linalg.LinAlgError(f"A is not triangular: it has elements {'above' if lower else 'below'} its "
                                        "diagonal")
        triangle = A - sparse.diags(A.diagonal() - 1.0) if unit_diagonal else A
    return Factors(triangle, {"permc_spec": "NATURAL", "diag_pivot_thresh": 0.0}).solve(b)


def _iterative(method: str) -> Rule:
    """SciPy's Krylov method as a solve: see `Iterative`."""
    name = f"scipy.sparse.linalg.{method}"

    @around
    def rule(original: Callable[..., Any], A: Any, b: Any, x0: Any = None, *options: Any, **named: Any) -> Any:
        given = dict(zip(list(inspect.signature(original).parameters)[3:], options)) | named
        others = {key: given.pop(key) for key in ("callback", "M", "M1", "M2") if key in given}
        rec = _traced(A, b, x0, *others.values(), *given.values())
        if rec is None:
            return original(A, b, x0, **others, **given)
        if hasattr(A, "matvec"):
            rec.unsupported(f"{name} of an operator that is no matrix", "give it a sparse matrix or an array, or write "
                            "distdiff.implicit.root(lambda b, y: product(y) - b, b, x0)")
        if _traced(*others.values(), *given.values()) is not None:
            rec.unsupported(f"{name} with traced options", "tolerances and preconditioners must be plain")
        data, indices, indptr = _columns_of(A)
        n = len(indptr) - 1
        right = np.reshape(number(rec, b, name), (n, 1))
        guess = np.zeros((n, 1)) if x0 is None else np.reshape(number(rec, x0, name), (n, 1))
        kept = {key: value for key, value in others.items() if key != "callback" and value is not None}
        op = Iterative(n, len(indices), method, tuple(sorted(given.items())), Held(kept) if kept else None)
        with set_aside():
            from scipy.sparse import csc_matrix

            matrix = csc_matrix((plain(data), indices, indptr), shape=(n, n))
            value = op.solution(matrix, plain(right)[:, 0], plain(guess)[:, 0], **others)
        x, = joint(op, (data, indices.astype(float), indptr.astype(float), right, guess), name, [value[:, None]])
        return np.reshape(x, shape_of(b)), 0

    return rule


def _traced(*values: Any) -> Any:
    """The recorder of traced values among these, or among entries of sparse matrices among these."""
    return traced_within([*values, *(held(x.data) for x in values if hasattr(x, "tocsc"))])


def _columns_of(A: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """Entries, row numbers and where columns begin, of a sparse matrix or of an array."""
    if hasattr(A, "tocsc"):
        matrix = A.tocsc(copy=True)
        matrix.sum_duplicates()
        _order(matrix)
        return held(matrix.data), matrix.indices, matrix.indptr
    _order(A)
    n = shape_of(A)[0]
    return np.reshape(np.transpose(A), (n * n,)), np.tile(np.arange(n, dtype=np.int32), n), np.arange(0, n * n + 1, n)


RULES: dict[str, Rule] = {
    f"scipy.sparse.linalg:{rule.__name__}": rule for rule in (splu, factorized, spsolve, spsolve_triangular)
} | {f"scipy.sparse.linalg:{method}": _iterative(method) for method in METHODS}
