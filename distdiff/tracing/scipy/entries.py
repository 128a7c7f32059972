"""Sparse matrices whose entries are traced: what SciPy's compiled loops do to them.

SciPy's classes are Python: one made of traced entries, in any of its formats, is a matrix of SciPy's own whose `data`
is a traced array, and where its entries are is plain as ever.  What its compiled loops do to entries is to order, to
copy and to add them; which to which place is found by sending numbers through the same loops.  Nothing is made dense
that SciPy does not make dense.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from ..active import set_aside
from ..array import shape_of
from ..ufuncs import recorder_of
from .replacing import Rule, writes


def _loops(name: str) -> Callable[..., Any]:
    """One of SciPy's loops itself (inside `set_aside`)."""
    return getattr(sys.modules["scipy.sparse._sparsetools"], name)


def _ordered(name: str, data: int, out: int) -> Rule:
    """A loop that puts the entries, its argument `data`, in another order, into its argument `out`."""

    @writes(out)
    def rule(*args: Any) -> None:
        values, target = args[data], args[out]
        with set_aside():
            order = np.arange(float(shape_of(target)[0]))
            plain = list(args)
            plain[data], plain[out] = (order, order) if data == out else (np.arange(float(shape_of(values)[0])), order)
            _loops(name)(*plain)
        target[...] = values[order.astype(int)]

    return rule


@writes(4)
def sum_duplicates(n: int, m: int, indptr: Any, indices: Any, data: Any) -> None:
    """Neighbours at one place are added up; in place, as the places are."""
    if not len(indices):
        return
    with set_aside():
        line = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        count = len(line)
        begins = np.append(True, (line[1:] != line[:-1]) | (indices[1:count] != indices[:count - 1]))
        place = np.cumsum(begins) - 1
        _loops("csr_sum_duplicates")(n, m, indptr, indices, np.zeros(len(indices)))
    sums = 0.0 * data[:place[-1] + 1]
    np.add.at(sums, place, data[:count])
    data[:len(sums)] = sums


def _combined(name: str, sign: float | None) -> Rule:
    """The sum or difference (sign) or product (None) of two matrices, entry by entry."""

    @writes(10)
    def rule(n: int, m: int, ap: Any, aj: Any, ax: Any, bp: Any, bj: Any, bx: Any, cp: Any, cj: Any, cx: Any) -> None:
        first, second = 1.0 + np.arange(len(aj)), 1.0 + np.arange(len(bj))

        def sent(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            with set_aside():
                found = np.zeros(len(cj))
                _loops(name)(n, m, ap, aj, a, bp, bj, b, cp, cj, found)
                return found[:cp[-1]].astype(int)

        if sign is None:
            a, b = sent(first, np.ones(len(bj))), sent(np.ones(len(aj)), second)
        else:
            code = sent(first, sign * (len(aj) + 1.0) * second)
            a, b = code % (len(aj) + 1), code // (len(aj) + 1)
        if any(np.bincount(used, minlength=1)[1:].max(initial=0) > 1 for used in (a, b)) or sign is not None and (
                np.count_nonzero(a) < len(aj) or np.count_nonzero(b) < len(bj)):
            recorder_of((ax, bx)).unsupported("sparse matrices of traced entries, several at one place",
                                              "call A.sum_duplicates() first")
        zero = np.zeros(1)
        left, right = np.concatenate([zero, ax])[a], np.concatenate([zero, bx])[b]
        cx[:len(a)] = left * right if sign is None else left + sign * right

    return rule


def _matrix_product(name: str, by_columns: bool) -> Rule:
    """C = A B, whose lines are rows; or columns, which are rows of B' A'."""

    @writes(10)
    def rule(n: int, m: int, ap: Any, aj: Any, ax: Any, bp: Any, bj: Any, bx: Any, cp: Any, cj: Any, cx: Any) -> None:
        with set_aside():
            _loops(name)(n, m, ap, aj, np.ones(len(aj)), bp, bj, np.ones(len(bj)), cp, cj, np.zeros(len(cj)))
        first, second = (ap, aj, ax), (bp, bj, bx)
        (p, j, x), (q, k, y) = (second, first) if by_columns else (first, second)
        count, width = (m, n) if by_columns else (n, m)
        lines = np.arange(count, dtype=np.int64)
        j = np.asarray(j[:p[-1]], dtype=np.int64)
        meets = np.diff(q)[j]  # entries of the other matrix that each entry is multiplied with: a line of it
        left = np.repeat(np.arange(len(j)), meets)
        right = np.arange(len(left)) + np.repeat(q[j] - (np.cumsum(meets) - meets), meets)
        if not len(left):
            return
        place = np.repeat(lines, np.diff(p))[left] * width + k[right]
        places = np.repeat(lines, np.diff(cp)) * width + cj[:cp[-1]]
        order = np.argsort(places)
        sums = recorder_of((ax, bx)).array_of(np.zeros(len(places)))
        np.add.at(sums, order[np.searchsorted(places, place, sorter=order)], x[left] * y[right])
        cx[:len(places)] = sums

    return rule


@writes(5)
def to_dense(n: int, m: int, indptr: Any, indices: Any, data: Any, out: Any) -> None:
    line = np.repeat(np.arange(n), np.diff(indptr))
    np.add.at(out, (line, indices[:len(line)]), data[:len(line)])


@writes(6)
def pairs_to_dense(n: int, m: int, nnz: int, row: Any, col: Any, data: Any, out: Any, fortran: int) -> None:
    np.add.at(out, row + n * col if fortran else m * row + col, data)


RULES: dict[str, Rule] = {
    "scipy.sparse._coo:coo_tocsr": _ordered("coo_tocsr", 5, 8),
    "scipy.sparse._csr:csr_tocsc": _ordered("csr_tocsc", 4, 7),
    "scipy.sparse._csc:csc_tocsr": _ordered("csc_tocsr", 4, 7),
    "scipy.sparse._csc:csr_tocsc": _ordered("csr_tocsc", 4, 7),
    "scipy.sparse._sparsetools:csr_sort_indices": _ordered("csr_sort_indices", 3, 3),
    "scipy.sparse._sparsetools:csr_sum_duplicates": sum_duplicates,
    **{f"scipy.sparse._sparsetools:{form}_{op}_{form}": _combined(f"{form}_{op}_{form}", sign)
       for form in ("csr", "csc") for op, sign in (("plus", 1.0), ("minus", -1.0), ("elmul", None))},
    "scipy.sparse._sparsetools:csr_matmat": _matrix_product("csr_matmat", False),
    "scipy.sparse._sparsetools:csc_matmat": _matrix_product("csc_matmat", True),
    "scipy.sparse._compressed:csr_todense": to_dense,
    "scipy.sparse._coo:coo_todense": pairs_to_dense,
}
