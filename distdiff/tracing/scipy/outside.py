"""Sparse factors that were made before the function runs: `lu = splu(A)`, `solve = factorized(A)`.

They are objects of compiled code, which takes no traced values and can't be given a rule: neither its type nor the
built-in method that `factorized` returns can be changed.  What can be is what they are called by.  Where a trace ends
because such a factor refused a traced value, the names by which the function reaches factors are found (globals,
closures, defaults, attributes, items of lists and dictionaries: `watch.Search`), exchanged for objects that answer for
them, and the function is run again; a function whose code had that before is not run in vain a second time.

The matrix is made of the factors, Pr A Pc = L U; the factors that solve are the user's own.
"""

from __future__ import annotations

import functools
import re
import sys
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import BuiltinMethodType, CodeType
from typing import Any

import numpy as np

from ...watch import Search
from ..active import set_aside
from ..matrices.sparse import REMEMBERED
from .sparse import Factors

_REFUSED = re.compile(r"must be numpy\.ndarray, not Traced")
_met: weakref.WeakSet[CodeType] = weakref.WeakSet()  # code of functions that used such a factor
_answering: OrderedDict[int, Factors] = OrderedDict()  # by the id of SciPy's factor, which they keep


def refused(error: Exception) -> bool:
    """Whether a trace may have ended because SciPy's factor was given a traced value."""
    return isinstance(error, TypeError) and _REFUSED.search(str(error)) is not None


def expected(f: Callable[..., Any]) -> bool:
    """Whether f had its factors exchanged before."""
    return _code(f) in _met


@contextmanager
def exchanged(f: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """While the body runs, f finds factors that take traced values: (its arguments with them, whether there are any).

    Other threads find them too, and have SciPy's answers from them.
    """
    places = _Factors(f).places
    with set_aside():
        found = [(write, value, ours) for write, value in places if (ours := _ours(value)) is not None]
        given = tuple(x if (ours := _ours(x)) is None else ours for x in args)
    some = bool(found) or given != args
    code = _code(f)
    if some and code is not None:
        _met.add(code)
    done = []
    try:
        for write, value, ours in found:
            write(ours)
            done.append((write, value))
        yield given, some
    finally:
        for write, value in reversed(done):
            write(value)


def _code(f: Any) -> CodeType | None:
    while isinstance(f, functools.partial):
        f = f.func
    return getattr(f, "__code__", None) or getattr(type(f).__call__, "__code__", None)


def _factor(x: Any) -> Any:
    """SciPy's factor behind an object or its method `solve`; None if there is none."""
    if type(x) is BuiltinMethodType and x.__name__ == "solve":
        x = x.__self__
    kind = getattr(sys.modules.get("scipy.sparse.linalg"), "SuperLU", None)
    return x if kind is not None and type(x) is kind else None


def _ours(x: Any) -> Any:
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


class _Factors(Search):
    """The places where a function's factors are named, each as what writes another value there."""

    def begin(self) -> None:
        self.places: list[tuple[Callable[[Any], None], Any]] = []
        super().begin()

    def met(self, value: Any, write: Callable[[Any], None] | None) -> None:
        if write is not None and _factor(value) is not None:
            self.places.append((write, value))
