"""Solves through constant sparse matrices: scipy.sparse.linalg.

A matrix is factorized when a trace meets it, and remembered: tangents, adjoints, other points and later traces find its
factors.  A factor that was made before the function runs is SciPy's own object, whose compiled code can't take traced
values: it is to be made inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..active import running, set_aside
from ..array import is_traced
from ..holding import held
from ..joint import joint
from ..matrices.sparse import SparseSolve, digest, factor_of
from ..ufuncs import number, recorder_of
from .replacing import Rule, also_plain


class Factors:
    """SciPy's SuperLU object of a constant square matrix, whose `solve` takes traced right-hand sides too."""

    def __init__(self, a: Any, options: dict[str, Any]) -> None:
        rec = running()
        assert rec is not None
        if is_traced(held(a)):
            rec.unsupported("a sparse factorization of a traced matrix", "sparse matrices are constants here; solve "
                            "with numpy.linalg.solve, or state the equation by distdiff.implicit.linear_solve")
        with set_aside():
            from scipy.sparse import csc_matrix
            from scipy.sparse.linalg import splu

            matrix = csc_matrix(a, copy=True)
            matrix.sum_duplicates()
            if matrix.shape[0] != matrix.shape[1]:
                raise ValueError(f"can only factor square matrices, not one of shape {matrix.shape}")
            real = matrix.dtype.kind in "fiub"
            if real:
                parts = matrix.data.astype(np.float64), matrix.indices, matrix.indptr
                key = digest(*parts)
                self._made = factor_of(*parts, key, lambda a: splu(a, **options))
                self._operands = (*parts, np.frombuffer(key, np.uint8))
        if not real:
            rec.unsupported(f"a sparse matrix of dtype {matrix.dtype}", "derivatives here are those of real functions")

    def solve(self, rhs: Any, trans: str = "N") -> Any:
        rhs = held(rhs)
        if not is_traced(rhs):
            with set_aside():
                return self._made.solve(rhs, trans)
        b = number(recorder_of((rhs,)), rhs, "sparse solve")
        n = self._made.shape[0]
        if b.ndim not in (1, 2) or b.shape[0] != n:
            raise ValueError(f"rhs is of incompatible size: {b.shape} for a matrix of order {n}")
        if trans not in ("N", "T", "H"):
            raise ValueError("trans must be N, T, or H")
        columns = b[:, None] if b.ndim == 1 else b
        op = SparseSolve(n, columns.shape[1], len(self._operands[0]), trans != "N")
        x, = joint(op, (*self._operands, columns), "scipy.sparse.linalg.splu(A).solve")
        return x[:, 0] if b.ndim == 1 else x

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_made"), name)


@also_plain
def splu(A: Any, permc_spec: Any = None, diag_pivot_thresh: Any = None,
         relax: Any = None, panel_size: Any = None, options: Any = None) -> Factors:
    return Factors(A, {"permc_spec": permc_spec, "diag_pivot_thresh": diag_pivot_thresh, "relax": relax,
                       "panel_size": panel_size, "options": {} if options is None else options})


@also_plain
def factorized(A: Any) -> Any:
    return Factors(A, {}).solve


def spsolve(A: Any, b: Any, permc_spec: Any = None, use_umfpack: bool = True) -> Any:
    x = Factors(A, {"permc_spec": permc_spec}).solve(b)
    return x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x


def spsolve_triangular(A: Any, b: Any, lower: bool = True, overwrite_A: bool = False,
                       overwrite_b: bool = False, unit_diagonal: bool = False) -> Any:
    from scipy import sparse

    with set_aside():
        if (sparse.triu(A, 1) if lower else sparse.tril(A, -1)).count_nonzero():
            raise np.linalg.LinAlgError(f"A is not triangular: it has elements {'above' if lower else 'below'} its "
                                        "diagonal")
        triangle = A - sparse.diags(A.diagonal() - 1.0) if unit_diagonal else A
    return Factors(triangle, {"permc_spec": "NATURAL", "diag_pivot_thresh": 0.0}).solve(b)


RULES: dict[str, Rule] = {
    f"scipy.sparse.linalg:{rule.__name__}": rule for rule in (splu, factorized, spsolve, spsolve_triangular)
}
