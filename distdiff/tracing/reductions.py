"""Sums, extrema and running sums of traced arrays, and what is composed of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from ..ops import COPY, CUMSUM, MAX, MIN, Op
from ..tape import c_strides
from .array import TracedArray, as_plain, constant, fresh, is_traced, memory_order, own, single
from .layout import laid, turned
from .recorder import Recorder
from .scalar import TracedScalar

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


def _out_strides(
    shape: tuple[int, ...], axes: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(shape without the axes, shape with length 1 there, the strides of the result over the iteration space)."""
    kept = tuple(n for k, n in enumerate(shape) if k not in axes)
    with_ones = tuple(1 if k in axes else n for k, n in enumerate(shape))
    steps = iter(c_strides(kept))
    return kept, with_ones, tuple(0 if k in axes else next(steps) for k in range(len(shape)))


def _reduce(
    op: Op, name: str, function: Callable[..., Any], x: Any, axis: Axes, keepdims: bool, **options: Any
) -> Any:
    x = traced_array(x)
    rec = x.rec
    for option, value in options.items():
        if (
            value is None
            or value is np._NoValue
            or (option == "dtype" and np.dtype(value).kind == "f")
            or (option == "where" and value is True)
        ):
            continue
        if option == "dtype" and x.st.boolean:
            continue
        rec.unsupported(
            f"numpy.{name} with {option}=", "traced values are floats of 64 bits, and reductions start from nothing"
        )
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
    return _into(
        out, _reduce(COPY, "sum", np.add.reduce, x, axis, _flag(keepdims), dtype=dtype, initial=initial, where=where)
    )


def largest(
    x: Any,
    axis: Axes = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
    dtype: Any = None,
) -> Any:
    return _into(out, _reduce(MAX, "max", np.maximum.reduce, x, axis, _flag(keepdims), initial=initial, where=where))


def smallest(
    x: Any,
    axis: Axes = None,
    out: Any = None,
    keepdims: bool = False,
    initial: Any = None,
    where: Any = None,
    dtype: Any = None,
) -> Any:
    return _into(out, _reduce(MIN, "min", np.minimum.reduce, x, axis, _flag(keepdims), initial=initial, where=where))


def anywhere(
    x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False, where: Any = None, dtype: Any = None
) -> Any:
    return largest(_truth(x), axis, out, keepdims, None, where)


def everywhere(
    x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False, where: Any = None, dtype: Any = None
) -> Any:
    return smallest(_truth(x), axis, out, keepdims, None, where)


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
    x = traced_array(x)
    if initial not in (None, np._NoValue, 1) or where not in (None, np._NoValue, True):
        x.rec.unsupported("numpy.prod with initial= or where=", "multiply, or use np.where, before the product")
    axes = axes_of(axis, x.ndim)
    kept, with_ones, _ = _out_strides(x.shape, axes)
    rest = [k for k in range(x.ndim) if k not in axes]
    flat = x.transpose(rest + list(axes)).reshape(kept + (prod(x.shape[k] for k in axes),))
    n = flat.shape[-1]
    if n == 0:
        return _into(out, np.ones(with_ones if keepdims else kept))
    while n > 1:
        half = n // 2
        pairs = flat[..., :half] * flat[..., half : 2 * half]
        flat = np.concatenate([pairs, flat[..., 2 * half :]], axis=-1) if n % 2 else pairs
        n = flat.shape[-1]
    result = flat[..., 0]
    if type(result) is TracedArray:
        result = laid(result.copy(), np.multiply.reduce(x.nd, axis=axes) if turned(x.nd) else result.nd)
    return _into(out, np.reshape(result, with_ones) if _flag(keepdims) else result)


def mean(
    x: Any, axis: Axes = None, dtype: Any = None, out: Any = None, keepdims: bool = False, where: Any = None
) -> Any:
    x = traced_array(x)
    count = prod(x.shape[k] for k in axes_of(axis, x.ndim))
    return _into(out, total(x, axis, dtype, None, keepdims, None, where) / count)


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
    x = traced_array(x)
    for name, value in {"where": where, **other}.items():
        if value is not None and value is not np._NoValue and value is not True:
            x.rec.unsupported(f"numpy.var with {name}=", "write the formula out")
    count = prod(x.shape[k] for k in axes_of(axis, x.ndim))
    deviation = x - mean(x, axis, keepdims=True)
    return _into(out, total(deviation * deviation, axis, keepdims=keepdims) / max(count - ddof, 0))


def deviation(x: Any, *args: Any, out: Any = None, **kwargs: Any) -> Any:
    return _into(out, np.sqrt(variance(x, *args, **kwargs)))


def peak_to_peak(x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False) -> Any:
    return _into(out, largest(x, axis, keepdims=keepdims) - smallest(x, axis, keepdims=keepdims))


def cumulative_sum(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sum: a scan along the last axis of the iteration space, so the axis is moved there."""
    x = traced_array(x)
    rec = x.rec
    if dtype is not None and np.dtype(dtype).kind != "f":
        rec.unsupported("numpy.cumsum with dtype=", "traced values are floats of 64 bits")
    if axis is None:
        x, axis = x.reshape(-1), 0
    axis = axes_of(axis, x.ndim)[0]
    if constant(x) or not x.size:
        return _into(out, rec.array_of(np.cumsum(as_plain(x), axis=axis)))
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
    return _into(out, result if back is None else result.transpose(back))


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    return _into(out, total(np.diagonal(x, offset, axis1, axis2), axis=-1))


def norm(x: Any, ord: Any = None, axis: Axes = None, keepdims: bool = False) -> Any:
    """Vector norms 1, 2, inf and -inf and p; of matrices only the Frobenius norm."""
    x = traced_array(x)
    vector = axis is not None and not isinstance(axis, tuple) or axis is None and x.ndim == 1
    if ord is None and axis is None:
        flat = x.reshape(-1)  # NumPy's own way: the square root of a dot product
        result = np.sqrt(np.dot(flat, flat))
        return np.reshape(result, (1,) * x.ndim) if keepdims else result
    if ord is None or ord == "fro" or (ord == 2 and vector):
        return np.sqrt(total(x * x, axis, keepdims=keepdims))
    if not vector:
        x.rec.unsupported(
            f"numpy.linalg.norm of a matrix with ord={ord!r}", "only the Frobenius norm has a derivative rule"
        )
    if ord == np.inf:
        return largest(np.abs(x), axis, keepdims=keepdims)
    if ord == -np.inf:
        return smallest(np.abs(x), axis, keepdims=keepdims)
    if ord == 0:
        return total(np.not_equal(x, 0.0), axis, keepdims=keepdims)
    if ord == 1:
        return total(np.abs(x), axis, keepdims=keepdims)
    return total(np.abs(x) ** ord, axis, keepdims=keepdims) ** (1.0 / ord)


def average(x: Any, axis: Axes = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    if returned:
        (x if is_traced(x) else weights).rec.unsupported(
            "numpy.average with returned=True", "divide the sums yourself"
        )
    if weights is None:
        return mean(x, axis, keepdims=keepdims)
    if np.ndim(weights) == 1 and np.ndim(x) > 1:
        weights = np.reshape(weights, tuple(-1 if k == axis % np.ndim(x) else 1 for k in range(np.ndim(x))))
        return np.sum(x * weights, axis=axis, keepdims=keepdims) / np.sum(weights)
    return np.sum(x * weights, axis=axis, keepdims=keepdims) / np.sum(weights, axis=axis, keepdims=keepdims)


def count_nonzero(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Any:
    return total(_truth(x), axis, keepdims=keepdims)


def _flag(keepdims: Any) -> bool:
    return bool(keepdims) and keepdims is not np._NoValue


def _into(out: Any, result: Any) -> Any:
    if out is None or out == ():
        return result
    target = out[0] if isinstance(out, tuple) else out
    target[...] = result
    return target


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

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
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
    np.linalg.norm: norm,
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
