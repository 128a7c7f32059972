"""Where the program asks for a plain answer: masks, orders, whole numbers.

The answer is what NumPy gives; the comparisons that decide it are recorded on the tape and guarded, so that a
tape is not used at a point where the answer would be another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops import BY_NAME
from .array import TracedArray, elementwise, is_boolean, is_traced, ndim_of, shape_of
from .indexing import decided, into
from .movement import moved
from .reductions import traced_array
from .scalar import TracedScalar
from .truths import of_few_bits
from .ufuncs import number, recorder_of
from .usual import chosen


def decide(condition: Any) -> Any:
    """The plain value of a traced condition, guarded; a plain one as it is."""
    return decided(condition) if is_traced(condition) else condition


def nonzero(x: Any) -> tuple[np.ndarray, ...]:
    return np.nonzero(decide(x if x.dtype == bool else np.not_equal(x, 0.0)))


def argwhere(x: Any) -> np.ndarray:
    at = np.transpose(nonzero(np.atleast_1d(x)))
    return at if ndim_of(x) else at[:, :0]


def where(condition: Any, *choices: Any) -> Any:
    """np.where: a choice element by element is a statement; with one argument it decides indices."""
    if not choices:
        return nonzero(condition)
    result = of_few_bits(condition, choices)
    if result is not NotImplemented:
        return result
    result = chosen(condition, *choices)
    if result is not NotImplemented:
        return result
    rec = recorder_of((condition, *choices))
    operands = [number(rec, x, "where") for x in (condition, *choices)]
    if (is_traced(operands[1]) or is_traced(operands[2])) and not is_traced(operands[0]):
        operands[0] = np.not_equal(operands[0], 0)
    result = elementwise(rec, BY_NAME["where"], operands)
    return np.not_equal(result, 0.0) if is_boolean(operands[1]) and is_boolean(operands[2]) else result


def _extreme(
    x: Any, axis: int | None, keepdims: Any, function: Callable[..., Any], beaten: Callable[..., Any]
) -> Any:
    x = traced_array(x)
    keep = bool(keepdims) and keepdims is not np._NoValue
    if axis is None or not x.ndim and axis in (0, -1):
        at = int(function(x.nd))
        _guard_extreme(x, x.reshape(-1)[at], x.nd.flat[at], beaten)
        return np.full((1,) * x.ndim, at) if keep else np.int64(at)
    at = function(x.nd, axis=axis, keepdims=True)
    best = moved(x, lambda values: np.take_along_axis(values, at, axis))
    _guard_extreme(x, best, best.nd, beaten)
    return at if keep else np.squeeze(at, axis)


def _guard_extreme(x: TracedArray, best: Any, values: Any, beaten: Callable[..., Any]) -> None:
    decide(beaten(x, best))  # who was beaten stays beaten, and who was equal ...
    if np.count_nonzero(x.nd == values) > np.size(values):
        decide(np.equal(x, best))  # ... stays equal: else it could have become better


def argmax(x: Any, axis: int | None = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """The first of the largest: it stays while the same elements are beaten by it, and the same are its equals."""
    return into(out, _extreme(x, axis, keepdims, np.argmax, np.less))


def argmin(x: Any, axis: int | None = None, out: Any = None, *, keepdims: Any = False) -> Any:
    return into(out, _extreme(x, axis, keepdims, np.argmin, np.greater))


def argsort(x: Any, axis: int | None = -1, kind: Any = None, order: Any = None, **kwargs: Any) -> np.ndarray:
    """The order stays while neighbours in it compare as they did."""
    x = traced_array(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    at = np.argsort(x.nd, axis=axis, kind="stable")
    if not x.ndim:
        return at
    _guard_order(moved(x, lambda values: np.take_along_axis(values, at, axis)), axis)
    return at


def _guard_order(ordered: TracedArray, axis: int) -> None:
    ordered = np.moveaxis(ordered, axis, -1)
    if ordered.shape[-1] > 1 and ordered.size:
        low, high = ordered[..., :-1], ordered[..., 1:]
        decide(np.less(low, high))  # who was smaller stays smaller, and who was equal ...
        if not (low.nd < high.nd).all():
            decide(np.equal(low, high))  # ... stays equal


def sort(x: Any, axis: int | None = -1, kind: Any = None, order: Any = None, **kwargs: Any) -> TracedArray:
    x = traced_array(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    at = np.argsort(x.nd, axis=axis, kind="stable")
    ordered = moved(x, lambda values: np.take_along_axis(values, at, axis))
    _guard_order(ordered, axis)
    return ordered


def sort_in_place(x: TracedArray, axis: int = -1, kind: Any = None, order: Any = None) -> None:
    x[...] = sort(x, axis)


def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    """Where v belongs in the sorted a; guarded by the comparisons with the two neighbours."""
    a = a if is_traced(a) else np.asarray(a)
    if sorter is not None:
        a = a[sorter]
    values_a = a.nd if type(a) is TracedArray else a
    values_v = v.nd if type(v) is TracedArray else v.v if isinstance(v, TracedScalar) else np.asarray(v)
    at = np.searchsorted(values_a, values_v, side)
    if is_traced(a):
        _guard_order(a, 0)
    below, above = (np.greater, np.less_equal) if side == "left" else (np.greater_equal, np.less)
    v = np.broadcast_to(v, shape_of(values_v)) if type(v) is TracedArray else v
    flat_at = np.atleast_1d(at).reshape(-1)
    flat_v = np.reshape(v, -1)
    inner = np.flatnonzero(flat_at > 0)
    if len(inner):
        decide(below(flat_v[inner], a[flat_at[inner] - 1]))
    inner = np.flatnonzero(flat_at < len(values_a))
    if len(inner):
        decide(above(flat_v[inner], a[flat_at[inner]]))
    return at


def digitize(x: Any, bins: Any, right: bool = False) -> Any:
    values = bins.nd if type(bins) is TracedArray else np.asarray(bins)
    side, steps = "left" if right else "right", np.diff(values)
    if (steps < 0.0).any() and (steps > 0.0).any():
        raise ValueError("bins must be monotonically increasing or decreasing")
    if len(values) > 1 and values[0] > values[-1]:
        return len(values) - searchsorted(bins[::-1], x, side)
    return searchsorted(bins, x, side)


def allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    return bool(decide(np.all(isclose(a, b, rtol, atol, equal_nan))))


def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    """Finite numbers within the tolerance of b; infinite ones if they are the same."""
    near = np.less_equal(np.abs(np.subtract(a, b)), np.add(atol, np.multiply(rtol, np.abs(b))))
    near = np.logical_or(np.logical_and(near, np.isfinite(b)), np.equal(a, b))
    return np.logical_or(near, np.logical_and(np.isnan(a), np.isnan(b))) if equal_nan else near


def array_equal(a: Any, b: Any, equal_nan: bool = False) -> bool:
    if shape_of(a) != shape_of(b):
        return False
    same = np.equal(a, b)
    if equal_nan:
        same = np.logical_or(same, np.logical_and(np.isnan(a), np.isnan(b)))
    return bool(decide(np.all(same)))


def array_equiv(a: Any, b: Any) -> bool:
    try:
        np.broadcast_shapes(shape_of(a), shape_of(b))
    except ValueError:
        return False
    return bool(decide(np.all(np.equal(a, b))))


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.where: where,
    np.nonzero: nonzero,
    np.flatnonzero: lambda x: nonzero(np.ravel(x))[0],
    np.argwhere: argwhere,
    np.argmax: argmax,
    np.argmin: argmin,
    np.argsort: argsort,
    np.sort: sort,
    np.searchsorted: searchsorted,
    np.digitize: digitize,
    np.allclose: allclose,
    np.isclose: isclose,
    np.array_equal: array_equal,
    np.array_equiv: array_equiv,
}
if "msort" in vars(np):  # gone in NumPy 2
    FUNCTIONS[vars(np)["msort"]] = lambda x: sort(x, 0)
