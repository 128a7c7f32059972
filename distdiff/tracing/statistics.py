"""Running products, covariances and reductions that leave out NaN, from simpler functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import is_boolean, is_traced, ndim_of
from .decisions import argmax, argmin, decide
from .indexing import into
from .layout import laid
from .reductions import (
    axes_of,
    begun,
    cumulative_sum,
    given,
    largest,
    mean,
    product,
    smallest,
    total,
    traced_array,
)
from .ufuncs import require_floats


def cumulative_product(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """Running product, by doubling: log2(n) statements."""
    require_floats((x,), "numpy.cumprod", dtype, is_boolean(x))
    x = traced_array(x)
    if is_boolean(x):
        x = x * 1.0  # truths are counted
    if axis is None or not x.ndim:  # of no axes: as of one
        x, axis = x.reshape(-1), axis or 0
    moved = np.moveaxis(x, axes_of(axis, x.ndim)[0], -1)
    step = 1
    while step < moved.shape[-1]:
        moved = np.concatenate([moved[..., :step], moved[..., step:] * moved[..., :-step]], axis=-1)
        step *= 2
    result = laid(np.moveaxis(moved, -1, axis), np.empty_like(x.nd))
    return np.copy(result) if out is None else into(out, result)


def accumulated(rule: Callable[..., Any]) -> Callable[..., Any]:
    """NumPy 2's cumulative_sum and cumulative_prod."""

    def cumulative(x: Any, /, *, axis: int | None = None, dtype: Any = None, out: Any = None,
                   include_initial: bool = False) -> Any:
        if axis is None and ndim_of(x) > 1:
            raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
        axis = 0 if axis is None else axis
        result = rule(x, axis, dtype)
        if include_initial:
            first = np.zeros_like(np.take(result, [0], axis)) + (0.0 if rule is cumulative_sum else 1.0)
            result = np.concatenate([first, result], axis=axis)
        return into(out, result)

    return cumulative


def covariance(m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None,
               fweights: Any = None, aweights: Any = None, *, dtype: Any = None) -> Any:
    require_floats((m, y), "numpy.cov", dtype)
    m = _variables(m, rowvar)
    if y is not None:
        m = np.concatenate([m, _variables(y, rowvar)])
    ddof = (0 if bias else 1) if ddof is None else ddof
    weights = np.asarray(fweights, dtype=float) if fweights is not None else None
    if aweights is not None:
        aweights = aweights if is_traced(aweights) else np.asarray(aweights)
        if np.any(np.less(aweights, 0.0)):  # decided, as NumPy does
            raise ValueError("aweights cannot be negative")
        weights = aweights if weights is None else weights * aweights
    if weights is None:
        centred, count = m - mean(m, axis=1, keepdims=True), m.shape[1]
        return np.squeeze(centred @ centred.T / (count - ddof))
    sum_of_weights = np.sum(weights)
    if np.equal(sum_of_weights, 0.0):
        raise ZeroDivisionError("Weights sum to zero, can't be normalized")
    centred = m - np.sum(m * weights, axis=1, keepdims=True) / sum_of_weights
    if ddof == 0:
        factor = sum_of_weights
    elif aweights is None:
        factor = sum_of_weights - ddof
    else:
        factor = sum_of_weights - ddof * np.sum(weights * aweights) / sum_of_weights
    return np.squeeze(centred @ (centred * weights).T / factor)


def _variables(x: Any, rowvar: bool) -> Any:
    if ndim_of(x) > 2:
        raise ValueError("more than 2 dimensions")
    x = np.atleast_2d(x)
    return x.T if not rowvar and x.shape[0] != 1 else x


def correlation(x: Any, y: Any = None, rowvar: bool = True, bias: Any = None, ddof: Any = None, *, dtype: Any = None,
                ) -> Any:
    require_floats((x, y), "numpy.corrcoef", dtype)
    c = covariance(x, y, rowvar)
    if ndim_of(c) == 0:
        return c / c
    deviation = np.sqrt(np.diagonal(c))
    return np.clip(c / deviation[:, None] / deviation[None, :], -1.0, 1.0)


# -- leaving out NaN --------------------------------------------------------------------------------------------


def _ignoring_nan(reduce: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    return lambda x, axis=None, *args, **kwargs: reduce(
        x if is_boolean(x) else np.where(np.isnan(x), neutral, x), axis, *args, **kwargs)


def _extremum(reduce: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    """Of the elements that are not NaN; NaN where all are."""

    def extremum(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
                 where: Any = None) -> Any:
        if is_boolean(x):
            return reduce(x, axis, out, keepdims, initial, where)
        missing = np.isnan(x)
        result = reduce(np.where(missing, neutral, x), axis, None, keepdims, initial, where)
        if not begun(initial):
            empty = np.all(missing, axis=axis, keepdims=bool(keepdims) and keepdims is not np._NoValue)
            if np.any(decide(empty)):
                result = np.where(empty, np.nan, result)
        return into(out, result)

    return extremum


nan_max, nan_min = _extremum(largest, -np.inf), _extremum(smallest, np.inf)


def nan_mean(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = None,
             ) -> Any:
    return mean(x, axis, dtype, out, keepdims, where=_present(x, where))


def _present(x: Any, where: Any) -> Any:
    present = np.logical_not(np.isnan(x))
    return np.logical_and(present, where) if given(where) else present


def nan_variance(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = False,
                 *, where: Any = None, **other: Any) -> Any:
    """NaN where no more than ddof elements are left."""
    present = _present(x, where)
    ddof = other.pop("correction", ddof) if given(other.get("correction")) else ddof
    middle = other.pop("mean", None)
    require_floats((x,), "numpy.nanvar", dtype)
    keep = bool(keepdims) and keepdims is not np._NoValue
    count = np.sum(present, axis=axis, keepdims=keep)
    if not given(middle):
        middle = mean(x, axis, keepdims=True, where=present)
    difference = np.where(present, x, middle) - middle
    freedom, result = count - ddof, total(difference * difference, axis, keepdims=keep)
    few = decide(np.less_equal(freedom, 0.0))
    if np.any(few):
        freedom, result = np.where(few, 0.0, freedom), np.where(few, 0.0, result)
    return into(out, result / freedom)


def nan_deviation(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = False,
                  **other: Any) -> Any:
    return into(out, np.sqrt(nan_variance(x, axis, dtype, None, ddof, keepdims, **other)))


def _nan_place(rule: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    def place(x: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
        missing = np.isnan(x)
        if np.any(decide(np.all(missing, axis=axis))):
            raise ValueError("All-NaN slice encountered")
        return rule(np.where(missing, neutral, x), axis, out, keepdims=keepdims)

    return place


def _running_without_nan(rule: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    return lambda x, axis=None, dtype=None, out=None: rule(
        x if is_boolean(x) or not is_traced(x) else np.where(np.isnan(x), neutral, x), axis, dtype, out)


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.cumprod: cumulative_product, np.cov: covariance, np.corrcoef: correlation,
    np.nansum: _ignoring_nan(total, 0.0), np.nanprod: _ignoring_nan(product, 1.0), np.nanmax: nan_max,
    np.nanmin: nan_min, np.nanmean: nan_mean, np.nanvar: nan_variance, np.nanstd: nan_deviation,
    np.nanargmax: _nan_place(argmax, -np.inf), np.nanargmin: _nan_place(argmin, np.inf),
    np.nancumsum: _running_without_nan(cumulative_sum, 0.0),
    np.nancumprod: _running_without_nan(cumulative_product, 1.0),
}
for _name, _rule in {"cumulative_sum": accumulated(cumulative_sum), "cumulative_prod": accumulated(cumulative_product),
                     "cumproduct": cumulative_product}.items():  # of NumPy 2, and gone there
    if _name in vars(np):
        FUNCTIONS.setdefault(vars(np)[_name], _rule)
