"""Order statistics, running products, NaN-aware sums and the rest of NumPy's statistics, from simpler functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import is_traced
from .decisions import decide, sort
from .layout import laid
from .movement import moved
from .reductions import axes_of, largest, mean, smallest, total, traced_array


def quantile(x: Any, q: Any, axis: int | None = None, out: Any = None, overwrite_input: bool = False,
             method: str = "linear", keepdims: bool = False, **other: Any) -> Any:
    """Linear interpolation between neighbours in the sorted order, which is guarded."""
    x = traced_array(x) if is_traced(x) else np.asarray(x)
    rec = x.rec if is_traced(x) else q.rec
    if method != "linear" or isinstance(axis, tuple) or is_traced(q) or other.get("weights") is not None:
        rec.unsupported("numpy.quantile with another method, several axes, weights or a traced q", "sort, and pick")
    shape = tuple(1 if axis is None or k == axis % x.ndim else n for k, n in enumerate(x.shape))
    ordered = np.moveaxis(sort(x, axis), 0 if axis is None else axis, -1)
    place = np.asarray(q, dtype=float) * (ordered.shape[-1] - 1)
    low = np.clip(np.floor(place).astype(int), 0, ordered.shape[-1] - 1)
    high = np.minimum(low + 1, ordered.shape[-1] - 1)
    part = place - low
    result = np.moveaxis(ordered[..., low] * (1.0 - part) + ordered[..., high] * part, -1, 0) if np.ndim(q) else (
        ordered[..., int(low)] * (1.0 - part) + ordered[..., int(high)] * part)
    return np.reshape(result, np.shape(q) + shape) if keepdims else result


def percentile(x: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
    return quantile(x, np.asarray(q) / 100.0, *args, **kwargs)


def cumulative_product(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """Running product, by doubling: log2(n) statements."""
    x = traced_array(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    moved = np.moveaxis(x, axes_of(axis, x.ndim)[0], -1)
    step = 1
    while step < moved.shape[-1]:
        moved = np.concatenate([moved[..., :step], moved[..., step:] * moved[..., :-step]], axis=-1)
        step *= 2
    result = laid(np.moveaxis(moved, -1, axis), np.empty_like(x.nd))
    if out is not None:
        out[...] = result
        return out
    return np.copy(result)


def covariance(m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None,
               fweights: Any = None, aweights: Any = None, *, dtype: Any = None) -> Any:
    if y is not None or fweights is not None or aweights is not None:
        (m if is_traced(m) else y).rec.unsupported("numpy.cov with a second array or weights", "write the formula out")
    m = np.atleast_2d(m)
    if not rowvar and m.shape[0] != 1:
        m = m.T
    ddof = (0 if bias else 1) if ddof is None else ddof
    centred = m - mean(m, axis=1, keepdims=True)
    return np.squeeze(centred @ centred.T / (m.shape[1] - ddof))


def correlation(x: Any, y: Any = None, rowvar: bool = True, **kwargs: Any) -> Any:
    c = np.atleast_2d(covariance(x, y, rowvar))
    deviation = np.sqrt(np.diagonal(c))
    return np.squeeze(c / deviation[:, None] / deviation[None, :])


def _ignoring_nan(reduce: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    return lambda x, axis=None, **kwargs: reduce(np.where(np.isnan(x), neutral, x), axis, **kwargs)


def nan_mean(x: Any, axis: Any = None, **kwargs: Any) -> Any:
    return total(np.where(np.isnan(x), 0.0, x), axis, **kwargs) / total(~np.isnan(x), axis, **kwargs)


def matrix_power(a: Any, n: int) -> Any:
    if n < 0:
        a.rec.unsupported("numpy.linalg.matrix_power with a negative exponent", "it needs an inverse")
    result = np.eye(a.shape[-1])
    for bit in bin(n)[2:]:
        result = np.matmul(result, result)
        if bit == "1":
            result = np.matmul(result, a)
    return result


def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    result = arrays[0]
    for a in arrays[1:]:
        result = np.dot(result, a)
    return result


def differences(x: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    x = np.ravel(x)
    ends = [[] if end is None else [np.ravel(end)] for end in (to_begin, to_end)]
    return np.concatenate([*ends[0], x[1:] - x[:-1], *ends[1]])


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:  # noqa: N803 (NumPy's name)
    n = len(x) if N is None else N
    columns: list[Any] = [np.ones(len(x))]
    for _ in range(n - 1):
        columns.append(columns[-1] * x)
    return np.stack(columns[:n] if increasing else columns[:n][::-1], axis=1)


def resize(x: Any, new_shape: Any) -> Any:
    n = int(np.prod(new_shape))
    return np.reshape(np.ravel(x)[np.arange(n) % np.size(x)], new_shape)


def choose(index: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    if is_traced(index):
        index.rec.unsupported("numpy.choose by traced values", "use np.where")
    choices = np.broadcast_arrays(*choices, np.asarray(index))[:-1]
    result = choices[-1]
    for k in range(len(choices) - 1):
        result = np.where(np.asarray(index) == k, choices[k], result)
    return result


def piecewise(x: Any, conditions: Any, functions: Any, *args: Any, **kwargs: Any) -> Any:
    """A choice element by element; every function is called with all of x."""
    conditions = conditions if isinstance(conditions, (list, tuple)) else [conditions]
    values = [f(x, *args, **kwargs) if callable(f) else f for f in functions]
    result = values[len(conditions)] if len(values) > len(conditions) else 0.0
    for condition, value in zip(conditions, values):
        result = np.where(condition, value, result)
    return result


def put(a: Any, indices: Any, values: Any, mode: str = "raise") -> None:
    indices = np.ravel(np.asarray(indices))
    if np.ndim(values):
        values = resize(values, len(indices)) if is_traced(values) else np.resize(values, len(indices))
    a[np.unravel_index(indices % a.size if mode == "wrap" else indices, a.shape)] = values


def place(a: Any, mask: Any, values: Any) -> None:
    mask = decide(mask)
    a[mask] = np.ravel(values)[np.arange(int(np.sum(mask))) % np.size(values)]


def put_mask(a: Any, mask: Any, values: Any) -> None:
    a[...] = np.where(mask, values if np.ndim(values) == 0 else resize(values, a.shape), a)


def put_along_axis(a: Any, indices: Any, values: Any, axis: int) -> None:
    at = list(np.ogrid[tuple(slice(n) for n in np.shape(indices))])
    at[axis] = np.asarray(indices)
    a[tuple(at)] = values


def argpartition(x: Any, kth: Any, axis: int | None = -1, **kwargs: Any) -> np.ndarray:
    """The partition stays one while the pivots compare with all others as they did."""
    x = traced_array(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    at = np.argpartition(x.nd, kth, axis)
    parted = np.moveaxis(moved(x, lambda values: np.take_along_axis(values, at, axis)), axis, -1)
    for k in np.ravel(kth):
        pivot = parted[..., k : k + 1 if k != -1 else None]
        decide(np.less(parted, pivot))
        decide(np.greater(parted, pivot))
    return at


def partition(x: Any, kth: Any, axis: int | None = -1, **kwargs: Any) -> Any:
    if axis is None:
        x, axis = np.reshape(x, -1), 0
    at = argpartition(x, kth, axis)
    return moved(x, lambda values: np.take_along_axis(values, at, axis))


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.quantile: quantile, np.percentile: percentile, np.cumprod: cumulative_product, np.cov: covariance,
    np.corrcoef: correlation, np.nansum: _ignoring_nan(total, 0.0), np.nanmax: _ignoring_nan(largest, -np.inf),
    np.nanmin: _ignoring_nan(smallest, np.inf), np.nanmean: nan_mean, np.linalg.matrix_power: matrix_power,
    np.linalg.multi_dot: multi_dot, np.ediff1d: differences, np.vander: vander, np.resize: resize,
    np.extract: lambda condition, x: np.ravel(x)[np.ravel(condition)], np.choose: choose, np.piecewise: piecewise,
    np.put: put, np.place: place, np.putmask: put_mask, np.put_along_axis: put_along_axis,
    np.argpartition: argpartition, np.partition: partition,
}
