"""Sparse factors that were made before the function runs: `lu = splu(A)`, `solve = factorized(A)`.

They are objects of compiled code, which takes no traced values and can't be given a rule: neither its type nor the
built-in method that `factorized` returns can be changed.  What can be is what they are called by (`names`).

The matrix is made of the factors, Pr A Pc = L U; the factors that solve are the user's own.
"""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from types import BuiltinMethodType
from typing import Any

import numpy as np

from ..matrices.sparse import REMEMBERED
from .sparse import Factors

_REFUSED = re.compile(r"must be numpy\.ndarray, not Traced")
_answering: OrderedDict[int, Factors] = OrderedDict()  # by the id of SciPy's factor, which they keep


def refused(error: Exception) -> bool:
    """Whether a trace may have ended because SciPy's factor was given a traced value."""
    return isinstance(error, TypeError) and _REFUSED.search(str(error)) is not None


def _factor(x: Any) -> Any:
    """SciPy's factor behind an object or its method `solve`; None if there is none."""
    if type(x) is BuiltinMethodType and x.__name__ == "solve":
        x = x.__self__
    kind = getattr(sys.modules.get("scipy.sparse.linalg"), "SuperLU", None)
    return x if kind is not None and type(x) is kind else None


def is_factor(x: Any) -> bool:
    """Whether it is a factor of SciPy's, or the method of one."""
    return _factor(x) is not None


def ours(x: Any) -> Any:
    """What takes traced values in the place of a factor, or of its method `solve`; None for anything else."""
    lu = _factor(x)
    if lu is None or lu.L.dtype.kind != "f":  # complex ones refuse by themselves
        return None
    if id(lu) not in _answering:
        _answering[id(lu)] = Factors.made(lu, matrix_of(lu))
        while len(_answering) > REMEMBERED:
            _answering.popitem(last=False)
    factors = _answering[id(lu)].remembered()
    return factors if x is lu else factors.solve


def matrix_of(lu: Any) -> Any:
    """A = Pr^T L U Pc^T in CSC, without what rounding left of fill-in."""
    from scipy.sparse import csc_matrix

    n = lu.shape[0]
    lower, upper = lu.L.tocsc(), lu.U.tocsc()
    product, size = lower @ upper, abs(lower) @ abs(upper)
    product = product.multiply(abs(product) - 8 * np.finfo(float).eps * size > 0)
    ones, places = np.ones(n), np.arange(n)
    rows = csc_matrix((ones, (lu.perm_r, places)), shape=(n, n))
    columns = csc_matrix((ones, (places, lu.perm_c)), shape=(n, n))
    return (rows.T @ product @ columns.T).tocsc()
