"""Order statistics: medians, quantiles, partitions, distinct elements, counts in bins.

They rest on an order, which is recorded and guarded: a tape is not used where the order would be another.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .array import is_boolean, is_traced, ndim_of, plain, shape_of
from .decisions import argsort, decide, searchsorted, sort
from .indexing import into
from .movement import moved
from .reductions import Axes, axes_of, axis_of, largest, smallest, traced_array
from .scatter import bincount
from .ufuncs import recorder_of
from .wholes import whole

# -- medians and quantiles ---------------------------------------------------------------------------------------


def _lanes(x: Any, axis: Axes) -> tuple[Any, tuple[int, ...]]:
    """(x with the reduced axes joined to a last one, the shape of a result that keeps them)."""
    if isinstance(axis, list):
        axis = tuple(axis)
    axes = axes_of(axis, ndim_of(x))
    shape = shape_of(x)
    kept = [k for k in range(len(shape)) if k not in axes]
    x = np.transpose(x, [*kept, *axes])
    joined = (*(shape[k] for k in kept), prod(shape[k] for k in axes))
    return np.reshape(x, joined), tuple(1 if k in axes else n for k, n in enumerate(shape))


FEW = 4  # ranks that are picked by a partition: guards of so many pivots, and not of a whole order


def _ordered(lanes: Any, *ranks: Any) -> Any:
    """The lanes with the elements of these ranks in their places."""
    if not is_traced(lanes):
        return np.sort(lanes, axis=-1)
    pivots = np.unique(np.concatenate([np.ravel(rank) for rank in ranks])).tolist()
    return picked(lanes, pivots, -1) if len(pivots) <= FEW else sort(lanes, -1)


def median(
    x: Any, axis: Axes = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False
) -> Any:
    x = traced_array(x)
    lanes, shape = _lanes(x.astype(float) if is_boolean(x) else x, axis)
    n = lanes.shape[-1]
    if n:
        ordered = _ordered(lanes, (n - 1) // 2, n // 2)
        result = ordered[..., n // 2] if n % 2 else (ordered[..., n // 2 - 1] + ordered[..., n // 2]) / 2.0
        result = _nan_if_any(result, lanes)
    else:
        result = np.full(lanes.shape[:-1], np.nan)[()]
    return into(out, np.reshape(result, shape) if keepdims else result)


def _nan_if_any(result: Any, lanes: Any, axes: int = 0) -> Any:
    """NaN for the lanes that hold one."""
    found = np.any(np.isnan(lanes), axis=-1)
    return np.where(np.reshape(found, (1,) * axes + shape_of(found)), np.nan, result) if np.any(decide(found)) else (
        result)


def quantile(x: Any, q: Any, axis: Axes = None, out: Any = None, overwrite_input: bool = False, method: str = "linear",
             keepdims: bool = False, *, weights: Any = None, interpolation: Any = None) -> Any:
    """Interpolation between neighbours in the sorted order."""
    return _quantile(x, q, axis, out, interpolation or method, keepdims, weights, False)


def nan_quantile(x: Any, q: Any, axis: Axes = None, out: Any = None, overwrite_input: bool = False,
                 method: str = "linear", keepdims: Any = False, *, weights: Any = None, interpolation: Any = None,
                 ) -> Any:
    return _quantile(x, q, axis, out, interpolation or method, keepdims, weights, True)


def nan_median(x: Any, axis: Axes = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Any:
    x = traced_array(x)
    return _quantile(x.astype(float) if is_boolean(x) else x, 0.5, axis, out, "linear", keepdims, None, True)


def _quantile(x: Any, q: Any, axis: Axes, out: Any, method: str, keepdims: Any, weights: Any, ignore_nan: bool) -> Any:
    if weights is not None:
        return into(out, _weighted(x, q, axis, method, keepdims, weights, ignore_nan))
    if isinstance(q, (list, tuple)) and any(map(is_traced, q)):
        q = np.stack(q)
    if is_traced(q) and method != "linear":
        q.rec.unsupported(f"numpy.quantile of a traced q with method={method!r}", "only 'linear' is supported there")
    lanes, shape = _lanes(traced_array(x) if is_traced(x) else np.asarray(x, dtype=float), axis)
    missing = decide(np.isnan(lanes)) if ignore_nan else np.zeros(1, dtype=bool)
    if not shape_of(lanes)[-1]:
        result = np.full(shape_of(q) + shape_of(lanes)[:-1], np.nan)[()]
    elif missing.any():
        result = _in_lanes(sort(lanes, -1), q, method, (~missing).sum(axis=-1))
    else:
        q = traced_array(q) if is_traced(q) else np.asarray(q, dtype=float)
        low, high, base, part = _places(q, lanes.shape[-1], method)
        ordered = _ordered(lanes, low, high)
        result = _interpolated(ordered[..., base], ordered[..., low], ordered[..., high], part)
        result = np.moveaxis(result, range(-q.ndim, 0), range(q.ndim)) if q.ndim else result
        result = result if ignore_nan else _nan_if_any(result, lanes, q.ndim)
    keep = bool(keepdims) and keepdims is not np._NoValue
    return into(out, np.reshape(result, shape_of(q) + shape) if keep else result)


def _weighted(x: Any, q: Any, axis: Axes, method: str, keepdims: Any, weights: Any, ignore_nan: bool) -> Any:
    """The first element, in order, up to which the weights sum to q of all: it is decided which."""
    if method != "inverted_cdf":
        raise ValueError(f"Only method 'inverted_cdf' supports weights. Got: {method}.")
    rec = recorder_of((x, q, weights))
    lanes, shape = _lanes(rec.array_of(x), axis)
    weights = rec.array_of(weights)
    if weights.shape != shape_of(x):
        axes = axes_of(axis, ndim_of(x))
        weights = np.broadcast_to(
            np.reshape(np.transpose(weights, np.argsort(axes)), [n if k in axes else 1 for k, n in
                                                                 enumerate(shape_of(x))]), shape_of(x))
    weights = _lanes(weights, axis)[0]
    if np.any(decide(np.isnan(lanes))):
        rec.unsupported("numpy.quantile of NaN with weights", "leave the NaN out first" if ignore_nan else "it is NaN")
    if np.any(decide(np.less(weights, 0.0))):
        raise ValueError("Weights must be non-negative.")
    asked = rec.array_of(q)
    results = []
    for index in np.ndindex(lanes.shape[:-1]):
        order = argsort(lanes[index])
        sums = np.cumsum(weights[index][order])
        sums = np.where(np.equal(sums, 0.0), -1.0, sums / sums[-1])  # what weighs nothing is not reached by q = 0
        at = searchsorted(sums, np.reshape(asked, -1), "left")
        results.append(lanes[index][order[np.minimum(at, len(order) - 1)]])
    result = np.reshape(np.transpose(np.stack(results)), asked.shape + lanes.shape[:-1])
    if result.ndim > 1 and _weighted_in_c_order():
        result = np.reshape(np.ravel(result), shape_of(result))
    if keepdims and keepdims is not np._NoValue:
        result = np.reshape(result, asked.shape + shape)
    return result if result.ndim else result[()]


@lru_cache(maxsize=1)
def _weighted_in_c_order() -> bool:
    """Whether this NumPy's weighted quantiles of several lanes lie in C order; older ones lie the other way round."""
    pair = np.ones((2, 2))
    return bool(np.quantile(pair, [0.2, 0.7], 0, method="inverted_cdf", weights=pair).flags.c_contiguous)


def _places(q: Any, n: int, method: str) -> tuple[Any, Any, Any, Any]:
    """Quantiles of n ordered elements are o[base] + (o[high] - o[low]) part, measured from the nearer neighbour."""
    values = plain(q)
    if not np.all((values >= 0) & (values <= 1)):  # of NaN too
        raise ValueError("Quantiles must be in the range [0, 1]")
    if is_traced(q):
        place = q * (n - 1.0)
        low = np.clip(whole(np.floor(place)), 0, n - 1)
        part = place - low
        return low, np.minimum(low + 1, n - 1), low, part
    place = np.asarray(np.quantile(np.arange(float(n)), q, method=method))  # NumPy says between which
    low = np.floor(place).astype(int)
    high, part = np.minimum(low + 1, n - 1), place - low
    near = part >= 0.5
    return low, high, np.where(near, high, low), np.where(near, part - 1.0, part)


def _interpolated(base: Any, low: Any, high: Any, part: Any) -> Any:
    return base + (high - low) * part if is_traced(part) or np.any(part) else base


def _in_lanes(ordered: Any, q: Any, method: str, counts: np.ndarray) -> Any:
    """Quantiles of the first elements of each lane, as many as `counts` says."""
    if is_traced(q):
        q.rec.unsupported("numpy.nanquantile of a traced q, with NaN", "leave the NaN out first")
    q = np.asarray(q, dtype=float)
    shape = (*shape_of(counts), q.size)
    low, high, base, part = (np.zeros(shape, dtype=kind) for kind in (int, int, int, float))
    for n in np.unique(counts[counts > 0]):
        here = counts == n
        low[here], high[here], base[here], part[here] = _places(q.reshape(-1), int(n), method)
    at = [np.take_along_axis(ordered, places, -1) for places in (base, low, high)]
    result = np.moveaxis(_interpolated(*at, part), -1, 0)
    return np.reshape(result, q.shape + shape_of(counts))


# -- partitions, orders, distinct elements ----------------------------------------------------------------------------


def argpartition(x: Any, kth: Any, axis: int | None = -1, **kwargs: Any) -> np.ndarray:
    """NumPy's order inside the parts, which rests on more comparisons than those with the pivots: it stays while the
    order of all elements does."""
    x = traced_array(x)
    if axis is None:
        x, axis = x.reshape(-1), 0
    at = np.argpartition(x.nd, kth, axis)
    if x.ndim:
        argsort(x, axis)  # is guarded
    return at


def picked(x: Any, kth: Any, axis: int) -> Any:
    """x partitioned, where only the pivots are looked at: it serves while they compare with all others as they did."""
    x = traced_array(x)
    at = np.argpartition(x.nd, kth, axis)
    ordered = moved(x, lambda values: np.take_along_axis(values, at, axis))
    parted = np.moveaxis(ordered, axis, -1)
    for k in np.ravel(kth):
        pivot = parted[..., k : k + 1 if k != -1 else None]
        decide(np.less(parted, pivot))
        decide(np.greater(parted, pivot))
    return ordered


def partition(x: Any, kth: Any, axis: int | None = -1, **kwargs: Any) -> Any:
    if axis is None:
        x, axis = np.reshape(x, -1), 0
    if not ndim_of(x):
        np.partition(0.0, kth, axis)  # raises NumPy's AxisError
    at = argpartition(x, kth, axis)
    return moved(x, lambda values: np.take_along_axis(values, at, axis))


def partition_in_place(x: Any, kth: Any, axis: int = -1, **kwargs: Any) -> None:
    x[...] = partition(x, kth, axis)


def lexsort(keys: Any, axis: int = -1) -> np.ndarray:
    """By the last key, ties by the one before, ...: neighbours in the order compare as they did."""
    keys = [traced_array(x) if is_traced(x) else np.asarray(x) for x in keys]
    at = np.lexsort([plain(x) for x in keys], axis)
    if not at.ndim:
        return at
    tied = None
    for key in keys[::-1]:
        row = moved(key, lambda values: np.take_along_axis(values, at, axis)) if is_traced(key) else np.take_along_axis(
            key, at, axis)
        row = np.moveaxis(row, axis, -1)
        low, high = row[..., :-1], row[..., 1:]
        if tied is not None:
            low, high = low[tied], high[tied]
        decide(np.less(low, high))
        equal = decide(np.equal(low, high))
        if tied is None:
            tied = np.array(equal)
        else:
            tied[tied] = equal
    return at


def unique(x: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
           axis: int | None = None, *, equal_nan: bool = True, **kwargs: Any) -> Any:
    """The distinct elements, in order; which they are is decided."""
    x = traced_array(x)
    axis = None if axis is None else axis_of(axis, x.ndim)
    along = axis is not None and x.ndim > 1  # whole rows are compared
    flat = np.moveaxis(x, axis, 0) if along else x.reshape(-1)
    rows = np.reshape(flat, (len(flat), -1)) if along else flat
    order = np.lexsort(np.transpose(rows)[::-1]) if along else argsort(flat, kind="stable")
    ordered = rows[order]
    first = np.ones(len(flat), dtype=bool)
    if len(flat) > 1:
        other = decide(np.not_equal(ordered[1:], ordered[:-1]))
        first[1:] = other.any(axis=1) if along else other
        if equal_nan and not along:
            missing = decide(np.isnan(ordered))
            first[1:] &= ~(missing[1:] & missing[:-1])
    results: list[Any] = [np.moveaxis(flat[order[first]], 0, axis) if along else ordered[first]]
    if return_index:
        results.append(order[first])
    if return_inverse:
        inverse = np.empty(len(flat), dtype=np.intp)
        inverse[order] = np.cumsum(first) - 1
        shaped = np.lib.NumpyVersion(np.__version__) >= "2.0.0" and not along
        results.append(inverse.reshape(x.shape) if shaped else inverse)
    if return_counts:
        results.append(np.diff(np.append(np.flatnonzero(first), len(flat))))
    return results[0] if len(results) == 1 else tuple(results)


def isin(x: Any, test: Any, assume_unique: bool = False, invert: bool = False, **kwargs: Any) -> Any:
    found = np.any(np.equal(np.expand_dims(x, -1), np.ravel(test)), axis=-1)
    return np.logical_not(found) if invert else found


def trim_zeros(x: Any, trim: str = "fb", axis: Any = None) -> Any:
    used = np.flatnonzero(decide(np.not_equal(x, 0.0)))
    if not len(used):
        return x[:0]
    return x[int(used[0]) if "f" in trim.lower() else 0 : int(used[-1]) + 1 if "b" in trim.lower() else None]


def union(a: Any, b: Any) -> Any:
    return unique(np.concatenate([np.ravel(a), np.ravel(b)]))


def _distinct(x: Any) -> Any:
    return unique(x) if is_traced(x) else np.unique(x)


def intersection(a: Any, b: Any, assume_unique: bool = False, return_indices: bool = False) -> Any:
    if return_indices:
        recorder_of((a, b)).unsupported("numpy.intersect1d with return_indices=True", "look them up by np.isin")
    a = _distinct(a)
    return a[np.asarray(decide(isin(a, b)), dtype=bool)]


def difference(a: Any, b: Any, assume_unique: bool = False) -> Any:
    a = np.ravel(a) if assume_unique else _distinct(a)
    return a[np.asarray(decide(isin(a, b, invert=True)), dtype=bool)]


def symmetric_difference(a: Any, b: Any, assume_unique: bool = False) -> Any:
    return union(difference(a, b), difference(b, a))


# -- counts in bins ------------------------------------------------------------------------------------------------


def histogram(x: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None, **kwargs: Any,
              ) -> Any:
    """How many elements (or what weight) lie in each bin: the places are decided, the weights are summed."""
    edges = histogram_bin_edges(x, bins, range, weights)
    values = np.ravel(edges)
    n = len(values) - 1
    at = _bins(values, np.ravel(x))
    counts = _counted(at, (at >= 0) & (at < n), weights, n)
    if density:
        counts = counts / np.diff(values) / np.sum(counts)
    return counts, edges


def _bins(edges: Any, x: Any) -> np.ndarray:
    """The bin that each element lies in; the last one has its right edge."""
    if is_traced(edges) or is_traced(x):
        at, closing = searchsorted(edges, x, "right") - 1, np.asarray(decide(np.equal(x, edges[-1])))
    else:
        at, closing = np.searchsorted(edges, x, "right") - 1, x == edges[-1]
    return np.where(closing, len(edges) - 2, at)


def _counted(places: np.ndarray, inside: np.ndarray, weights: Any, n: int) -> Any:
    if weights is None:
        return np.bincount(places[inside], minlength=n)
    count = bincount if is_traced(weights) else np.bincount
    return count(places[inside], np.ravel(weights)[inside], n)


def histogram_dd(sample: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    """The same in several dimensions; sample[:, k], or (a list) sample[k], are the coordinates."""
    columns = list(sample) if isinstance(sample, (list, tuple)) else list(np.transpose(
        sample if ndim_of(sample) > 1 else np.reshape(sample, (-1, 1))))
    bins = bins if np.iterable(bins) else [bins] * len(columns)
    edges = [histogram_bin_edges(x, n, limits)
             for x, n, limits in zip(columns, bins, range if range is not None else [None] * len(columns))]
    shape = tuple(len(e) - 1 for e in edges)
    at = np.stack([_bins(np.ravel(e), np.ravel(x)) for e, x in zip(edges, columns)])
    inside = ((at >= 0) & (at < np.reshape(shape, (-1, 1)))).all(axis=0)
    places = np.ravel_multi_index(tuple(np.where(inside, at, 0)), shape)
    counts = np.reshape(_counted(places, inside, weights, int(np.prod(shape))) * 1.0, shape)
    if density:
        total = np.sum(counts)
        for k, e in enumerate(edges):
            widths = np.diff(e)
            counts = counts / np.reshape(widths, [-1 if j == k else 1 for j, _ in enumerate(edges)])
        counts = counts / total
    return counts, edges


def histogram_2d(x: Any, y: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    if np.iterable(bins) and len(bins) not in (1, 2):  # the same edges for both
        bins = [bins, bins]
    counts, edges = histogram_dd([x, y], bins, range, density, weights)
    return counts, *edges


def histogram_bin_edges(x: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    if isinstance(bins, str):
        recorder_of((x, weights)).unsupported(f"numpy.histogram with bins={bins!r}", "give a number or the edges")
    if ndim_of(bins):
        bins = bins if is_traced(bins) else np.asarray(bins)
        if ndim_of(bins) == 1 and np.any(decide(np.greater(bins[:-1], bins[1:]))):
            raise ValueError("`bins` must increase monotonically, when an array")
        return bins
    if operator.index(bins) < 1:
        raise ValueError("`bins` must be positive, when an integer")
    if not is_traced(x) and (range is None or not any(map(is_traced, range))):
        return np.histogram_bin_edges(x, bins, range)
    low, high = range if range is not None else (smallest(x), largest(x)) if np.size(x) else (0.0, 1.0)
    if range is not None and decide(np.greater(low, high)):
        raise ValueError("max must be larger than min in range parameter.")
    if not (decide(np.isfinite(low)) and decide(np.isfinite(high))):
        raise ValueError("the range of a histogram is not finite")
    if decide(np.equal(low, high)):
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, int(bins) + 1)


def _hundredth(q: Any) -> Any:
    return q / 100.0 if is_traced(q) else np.true_divide(q, 100)


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.sort_complex: lambda x: sort(x) + 0j,
    np.median: median, np.quantile: quantile, np.nanmedian: nan_median, np.nanquantile: nan_quantile,
    np.percentile: lambda x, q, *args, **kwargs: quantile(x, _hundredth(q), *args, **kwargs),
    np.nanpercentile: lambda x, q, *args, **kwargs: nan_quantile(x, _hundredth(q), *args, **kwargs),
    np.argpartition: argpartition, np.partition: partition, np.lexsort: lexsort, np.unique: unique, np.isin: isin,
    np.union1d: union, np.intersect1d: intersection, np.setdiff1d: difference, np.setxor1d: symmetric_difference,
    np.trim_zeros: trim_zeros, np.histogram: histogram, np.histogram_bin_edges: histogram_bin_edges,
    np.histogramdd: histogram_dd, np.histogram2d: histogram_2d,
}
if "in1d" in vars(np):  # gone in NumPy 2.4
    FUNCTIONS[vars(np)["in1d"]] = lambda x, test, *args, **kwargs: isin(np.ravel(x), test, *args, **kwargs)
if "unique_values" in vars(np):  # of NumPy 2
    FUNCTIONS[vars(np)["unique_values"]] = lambda x, **kwargs: unique(x, equal_nan=False)
    for _name, _wanted in (("unique_all", (True, True, True)), ("unique_inverse", (False, True, False)),
                           ("unique_counts", (False, False, True))):
        _kind = type(vars(np)[_name](np.zeros(1)))  # a named tuple
        FUNCTIONS[vars(np)[_name]] = lambda x, kind=_kind, wanted=_wanted: kind(*unique(x, *wanted, equal_nan=False))
