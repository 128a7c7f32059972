"""Solves through sparse matrices: scipy.sparse.linalg.

A constant matrix is factorized when a trace meets it, and remembered: tangents, adjoints, other points and traces find
its factors; one with traced entries (`entries`) at every point.  Factors that were made before the function runs are
SciPy's own objects, whose compiled code can't take traced values: `outside` exchanges them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..active import running, set_aside
from ..array import is_traced
from ..holding import held
from ..joint import joint
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


RULES: dict[str, Rule] = {
    f"scipy.sparse.linalg:{rule.__name__}": rule for rule in (splu, factorized, spsolve, spsolve_triangular)
}
