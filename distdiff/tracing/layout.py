"""Memory order of results: a write through `y.reshape(-1)` or `y.ravel()` reaches y where these are views of it, and
that rests on the strides of y.  So a result has its axes in the order in memory that NumPy gives its own.

Nothing is computed twice for arrays in C order, whose results are in C order too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import numpy as np

from .array import TracedArray, as_plain, plain, rearranged
from .boxes import Piece, in_c_order, whole
from .storage import Storage


def pieces_of(x: TracedArray) -> list[Piece]:
    """Where all elements of x lie, to be carried into another storage."""
    x.st.need()  # its ids go where its values may not outlive it
    lowered = x.st.lower(x.window, x.shape, x.at)
    return lowered if type(lowered) is list else whole(x.shape, lowered) if x.size else []


def copied(x: TracedArray, values: np.ndarray) -> TracedArray:
    """A copy of x that lies in memory as `values`, a fresh plain copy of its elements."""
    return rearranged(x.rec, values, pieces_of(x), x.st.boolean)


def inside(values: np.ndarray, st: Storage) -> bool:
    """Whether what NumPy made of a view of a storage's buffer is a view of it, not a copy."""
    return 0 <= values.__array_interface__["data"][0] - st.address < st.buffer.nbytes


def view_or_copy(x: TracedArray, values: np.ndarray) -> TracedArray:
    """x as `values`, NumPy's conversion of x.nd of the same elements in the same order: a view or a copy, as there."""
    if values is x.nd:
        return x
    if not values.size or inside(values, x.st):
        return TracedArray(x.st, values)
    return copied(TracedArray(x.st, x.nd.reshape(values.shape)) if x.shape != values.shape else x, values)


def laid(x: TracedArray, like: np.ndarray) -> TracedArray:
    """x, a fresh result, with its axes in the order in memory that `like` has them in."""
    if x.ndim < 2 or _steps(x.nd) == _steps(like):
        return x
    values = np.empty_like(like, dtype=np.float64, subok=False)
    values[...] = x.nd
    return copied(x, values)


def _steps(nd: np.ndarray) -> tuple[int, ...]:
    """The strides that matter, in elements."""
    return tuple(s // nd.itemsize if n > 1 else 0 for s, n in zip(nd.strides, nd.shape))


def turned(nd: np.ndarray) -> bool:
    """Whether the axes lie in memory in another order than C's."""
    return nd.ndim > 1 and not in_c_order(nd.shape, nd.strides)


def as_numpy(function: Callable[..., Any], implementation: Callable[..., Any]) -> Callable[..., Any]:
    """An implementation that is composed of others, its result laid out as NumPy's own: where an argument is not in
    C order, NumPy's function says how, called with the values."""

    @wraps(implementation)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = implementation(*args, **kwargs)
        if type(result) is not TracedArray or result.ndim < 2 or kwargs.get("out") is not None:
            return result
        arrays = list(_arrays((args, tuple(kwargs.values()))))
        if any(type(x) is TracedArray and x.st is result.st for x in arrays):  # a view, whose strides are NumPy's
            return result
        if any(_strided(x.nd if type(x) is TracedArray else x) for x in arrays):
            options = {name: _values(x) for name, x in kwargs.items() if name != "overwrite_input"}
            return laid(result, function(*_values(args), **options))
        return laid(result, np.empty(result.shape))

    return call


def _strided(nd: np.ndarray) -> bool:
    return nd.ndim > 1 and not nd.flags.c_contiguous


def _arrays(tree: Any) -> Iterator[Any]:
    if isinstance(tree, (tuple, list)):
        for part in tree:
            yield from _arrays(part)
    elif isinstance(tree, np.ndarray):
        yield tree


def _values(tree: Any) -> Any:
    if type(tree) in (tuple, list):
        return type(tree)(map(_values, tree))
    return as_plain(tree) if type(tree) is TracedArray else plain(tree)
