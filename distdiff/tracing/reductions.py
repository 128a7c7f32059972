"""Sums, extrema and running sums of traced arrays, and what is composed of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..ops import COPY, CUMSUM, MAX, MIN, Op
from ..tape import c_strides
from .array import (
    TracedArray,
    as_plain,
    constant,
    fresh,
    is_boolean,
    is_traced,
    memory_order,
    ndim_of,
    own,
    shape_of,
    single,
)
from .indexing import into
from .layout import laid, turned
from .recorder import Recorder
from .scalar import TracedScalar
from .ufuncs import require_floats
from .usual import summed

Axes = int | tuple[int, ...] | None


def traced_array(x: Any) -> TracedArray:
    """A traced operand as an array (a scalar as one of shape ())."""
    own(x.rec, x)
    return x.as_array(x) if isinstance(x, TracedScalar) else x


def axes_of(axis: Axes, ndim: int) -> tuple[int, ...]:
    """The axes to reduce, normalized; NumPy's errors for wrong ones."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    for k in axes:
        if not -ndim <= k < ndim:
            np.empty((1,) * ndim).sum(axis=k)  # raises NumPy's AxisError
    normal = tuple(int(k) % ndim for k in axes)
    if len(set(normal)) != len(normal):
        raise ValueError("duplicate value in 'axis'")
    return normal


@lru_cache(maxsize=4096)
def _out_strides(
    shape: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(shape without the axes, shape with length 1 there, the strides of the result over the iteration space)."""
    kept = tuple(n for k, n in enumerate(shape) if k not in axes)
    with_ones = tuple(1 if k in axes else n for k, n in enumerate(shape))
    steps = iter(c_strides(kept))
    return kept, with_ones, tuple(0 if k in axes else next(steps) for k in range(len(shape)))


def given(option: Any) -> bool:
    """Whether an option of a reduction was used: dtype, initial or where."""
    return option is not None and option is not np._NoValue and option is not True


def masked(x: Any, where: Any, neutral: Any) -> Any:
    """x where it takes part in a reduction, elsewhere what changes nothing."""
    return np.where(where, x, neutral) if given(where) else x


def _reduce(op: Op, function: Callable[..., Any], x: Any, axis: Axes, keepdims: bool) -> Any:
    if not is_traced(x):
        return function(x, axis=axis, keepdims=keepdims)
    x = traced_array(x)
    rec = x.rec
    axes = axes_of(axis, x.ndim)
    if constant(x) or not x.size or not axes:
        if not axes:
            return x.copy("K") if x.ndim else x.scalar()
        return rec.array_of(function(as_plain(x), axis=axes, keepdims=keepdims))
    kept, with_ones, strides = _out_strides(x.shape, axes)
    ref = single(rec, x, x.shape)
    if op is not COPY:
        x.st.need()
    if len(kept) > 1 and turned(x.nd):
        along = [k for k in range(x.ndim) if k not in axes]
        values, strides, back = in_order(rec, function(x.nd, axis=axes), along, x.ndim)
    else:
        values, back = rec.empty(kept), None
        function(x.nd, axis=axes, out=values)
    block = rec.emit(op, x.shape, (ref,), values, strides, read=op is not COPY)
    boolean = x.st.boolean and op is not COPY
    result = fresh(rec, values, block, boolean)
    if back is not None:
        result = result.transpose(back)
    return traced_array(result).reshape(with_ones) if keepdims else result


def in_order(
    rec: Recorder, computed: np.ndarray, along: Sequence[int], ndim: int
) -> tuple[np.ndarray, tuple[int, ...], list[int]]:
    """A computed result as the values of a block, in NumPy's memory order: (values, with the axes from the slowest to
    the fastest; the block's strides over an iteration space of ndim axes, where axis k of the result runs along
    along[k]; how to turn the axes back)."""
    order = memory_order(computed)
    values = rec.empty(tuple(computed.shape[k] for k in order))
    values[...] = computed.transpose(order)
    strides = [0] * ndim
    for k, step in zip(order, c_strides(values.shape)):
        strides[along[k]] = step
    return values, tuple(strides), np.argsort(order).tolist()


def total(
    x: Any,
    axis: Axes = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Sum: one COPY statement whose result stands still along the summed axes."""
    if axis is dtype is out is initial is where is None and (keepdims is False or keepdims is np._NoValue):
        result = summed(x)
        if result is not NotImplemented:
            return result
    require_floats((x, initial, where), "numpy.sum", dtype, is_boolean(x))
    result = _reduce(COPY, np.add.reduce, masked(x, where, 0.0), axis, _flag(keepdims))
    return into(out, result + initial if given(initial) else result)


def _extremum(op: Op, ufunc: np.ufunc) -> Callable[..., Any]:
    def extremum(
        x: Any,
        axis: Axes = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Any:
        if given(where) and not given(initial):
            raise ValueError(f"reduction operation '{ufunc.__name__}' does not have an identity, so to use a where "
                             "mask one has to specify 'initial'")
        result = _reduce(op, ufunc.reduce, masked(x, where, initial), axis, _flag(keepdims))
        return into(out, ufunc(result, initial) if given(initial) else result)

    return extremum


largest, smallest = _extremum(MAX, np.maximum), _extremum(MIN, np.minimum)


def anywhere(
    x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False, where: Any = None, initial: Any = None
) -> Any:
    return into(out, _reduce(MAX, np.maximum.reduce, masked(_truth(x), where, False), axis, _flag(keepdims)))


def everywhere(
    x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False, where: Any = None, initial: Any = None
) -> Any:
    return into(out, _reduce(MIN, np.minimum.reduce, masked(_truth(x), where, True), axis, _flag(keepdims)))


def _truth(x: Any) -> Any:
    return x if x.dtype == bool else np.not_equal(x, 0.0)


def product(
    x: Any,
    axis: Axes = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
) -> Any:
    """Product, by halving: log2(n) multiplications of whole arrays."""
    require_floats((x, initial, where), "numpy.prod", dtype, is_boolean(x))
    x = masked(x, where, 1.0)
    if not is_traced(x):
        return into(out, np.multiply(np.multiply.reduce(x, axis=axis, keepdims=_flag(keepdims)), initial))
    x = traced_array(x)
    if is_boolean(x):
        x = x * 1.0
    axes = axes_of(axis, x.ndim)
    kept, with_ones, _ = _out_strides(x.shape, axes)
    rest = [k for k in range(x.ndim) if k not in axes]
    flat = x.transpose(rest + list(axes)).reshape(kept + (prod(x.shape[k] for k in axes),))
    n = flat.shape[-1]
    if n == 0:
        result = np.ones(with_ones if _flag(keepdims) else kept)
        return into(out, result * initial if given(initial) else result)
    while n > 1:
        half = n // 2
        pairs = flat[..., :half] * flat[..., half : 2 * half]
        flat = np.concatenate([pairs, flat[..., 2 * half :]], axis=-1) if n % 2 else pairs
        n = flat.shape[-1]
    result = flat[..., 0]
    if type(result) is TracedArray:
        result = laid(result.copy(), np.multiply.reduce(x.nd, axis=axes) if turned(x.nd) else result.nd)
    if given(initial):
        result = result * initial
    return into(out, np.reshape(result, with_ones) if _flag(keepdims) else result)


def mean(
    x: Any, axis: Axes = None, dtype: Any = None, out: Any = None, keepdims: bool = False, where: Any = None
) -> Any:
    result = total(x, axis, dtype, None, keepdims, None, where)
    return into(out, result / _count(x, axis, keepdims, where))


def _count(x: Any, axis: Axes, keepdims: bool, where: Any) -> Any:
    """How many elements a mean is of."""
    if not given(where):
        if axis is None and type(x) is TracedArray:
            return x.window.size
        return prod(shape_of(x)[k] for k in axes_of(axis, ndim_of(x)))
    where = np.broadcast_to(where, shape_of(x))
    return np.sum(where, axis=axis, keepdims=_flag(keepdims))


def variance(
    x: Any,
    axis: Axes = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: bool = False,
    where: Any = None,
    **other: Any,
) -> Any:
    """`mean=` and `correction=` are NumPy 2's."""
    ddof = other.pop("correction", ddof) if given(other.get("correction")) else ddof
    middle = other.pop("mean", None)
    if not given(middle):
        middle = mean(x, axis, dtype, keepdims=True, where=where)
    deviation = x - middle
    squares = total(deviation * deviation, axis, dtype, None, keepdims, None, where)
    return into(out, squares / np.maximum(_count(x, axis, keepdims, where) - ddof, 0))


def deviation(
    x: Any, axis: Axes = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False, **other: Any
) -> Any:
    return into(out, np.sqrt(variance(x, axis, dtype, None, ddof, keepdims, **other)))


def peak_to_peak(x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False) -> Any:
    return into(out, largest(x, axis, keepdims=keepdims) - smallest(x, axis, keepdims=keepdims))


def cumulative_sum(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sum: a scan along the last axis of the iteration space, so the axis is moved there."""
    x = traced_array(x)
    rec = x.rec
    require_floats((x,), "numpy.cumsum", dtype, is_boolean(x))
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axes_of(axis, x.ndim)[0]
    if constant(x) or not x.size:
        return into(out, rec.array_of(np.cumsum(as_plain(x), axis=axis)))
    moved = np.moveaxis(x, axis, -1)
    ref = single(rec, moved, moved.shape)
    along = [k if k < axis else x.ndim - 1 if k == axis else k - 1 for k in range(x.ndim)]
    if turned(x.nd):
        values, strides, back = in_order(rec, np.cumsum(x.nd, axis=axis), along, x.ndim)
    else:
        values, back = rec.empty(x.shape), None
        np.cumsum(x.nd, axis=axis, out=values)
        strides = c_strides(x.shape)
        strides = strides[:axis] + strides[axis + 1 :] + (strides[axis],)
    result = fresh(rec, values, rec.emit(CUMSUM, moved.shape, (ref,), values, strides))
    return into(out, result if back is None else result.transpose(back))


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    require_floats((x,), "numpy.trace", dtype)
    return into(out, total(np.diagonal(x, offset, axis1, axis2), axis=-1))


def average(x: Any, axis: Axes = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    if weights is None:
        result = mean(x, axis, keepdims=keepdims)
        scale = np.full(shape_of(result), float(_count(x, axis, keepdims, None)))
    else:
        if shape_of(weights) != shape_of(x):
            axes = axes_of(axis, ndim_of(x))  # of each axis of the weights
            order = np.argsort(axes)
            weights = np.transpose(weights, order)
            weights = np.reshape(weights, tuple(shape_of(x)[k] if k in axes else 1 for k in range(ndim_of(x))))
        scale = np.sum(weights, axis=axis, keepdims=_flag(keepdims))
        result = np.sum(x * weights, axis=axis, keepdims=_flag(keepdims)) / scale
    return (result, np.broadcast_to(scale, shape_of(result)) * 1.0) if returned else result


def count_nonzero(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Any:
    return total(_truth(x), axis, keepdims=keepdims)


def _flag(keepdims: Any) -> bool:
    return bool(keepdims) and keepdims is not np._NoValue


UFUNC_REDUCTIONS: dict[np.ufunc, Callable[..., Any]] = {
    np.add: total,
    np.maximum: largest,
    np.minimum: smallest,
    np.multiply: product,
    np.logical_or: anywhere,
    np.logical_and: everywhere,
    np.bitwise_or: anywhere,
    np.bitwise_and: everywhere,
}

_FORMER = {"product": product, "sometrue": anywhere, "alltrue": everywhere}  # names that are gone in NumPy 2

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    **{vars(np)[name]: rule for name, rule in _FORMER.items() if name in vars(np)},
    np.sum: total,
    np.max: largest,
    np.min: smallest,
    np.amax: largest,
    np.amin: smallest,
    np.any: anywhere,
    np.all: everywhere,
    np.prod: product,
    np.mean: mean,
    np.var: variance,
    np.std: deviation,
    np.ptp: peak_to_peak,
    np.cumsum: cumulative_sum,
    np.trace: trace,
    np.average: average,
    np.count_nonzero: count_nonzero,
}

METHODS: dict[str, Callable[..., Any]] = {
    "sum": total,
    "max": largest,
    "min": smallest,
    "any": anywhere,
    "all": everywhere,
    "prod": product,
    "mean": mean,
    "var": variance,
    "std": deviation,
    "cumsum": cumulative_sum,
    "trace": trace,
    "ptp": peak_to_peak,
}

__all__ = ["FUNCTIONS", "METHODS", "UFUNC_REDUCTIONS", "traced_array"]
