"""Sums, extrema and running sums of traced arrays, and what is composed of them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..ops import COPY, CUMSUM, DIVIDE, MAX, MIN, MULTIPLY, Op
from ..tape import Affine, Const, c_strides
from . import memory, usual
from .array import (
    TracedArray,
    as_plain,
    constant,
    fresh,
    is_boolean,
    is_traced,
    memory_order,
    ndim_of,
    of_constants,
    own,
    owning,
    shape_of,
    single,
)
from .indexing import decided, into
from .layout import laid, turned
from .recorder import Recorder
from .scalar import TracedScalar
from .storage import Storage
from .ufuncs import require_floats
from .wholes import written

Axes = int | tuple[int, ...] | None
_empty = np.empty  # NumPy's own, whatever is substituted meanwhile
_new = tuple.__new__


def traced_array(x: Any) -> TracedArray:
    """A traced operand as an array (a scalar as one of shape ())."""
    own(x.rec, x)
    return x.as_array(x) if isinstance(x, TracedScalar) else x


def axes_of(axis: Axes, ndim: int) -> tuple[int, ...]:
    """The axes to reduce, normalized; NumPy's errors for wrong ones."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(map(operator.index, axis if isinstance(axis, tuple) else (axis,)))
    for k in axes:
        if not -ndim <= k < ndim:
            np.empty((1,) * ndim).sum(axis=k)  # raises NumPy's AxisError, but for 0 and -1 of no axes
    if not ndim:
        return ()
    normal = tuple(int(k) % ndim for k in axes)
    if len(set(normal)) != len(normal):
        raise ValueError("duplicate value in 'axis'")
    return normal


def axis_of(axis: Any, ndim: int) -> int:
    """One axis, normalized; NumPy's errors for what is none."""
    k = operator.index(axis)
    if not -ndim <= k < ndim:
        np.empty((1,) * ndim).sum(axis=(k,))  # raises NumPy's AxisError
    return k % ndim


class Left(NamedTuple):
    """What a reduction over some axes leaves of a shape."""

    axes: tuple[int, ...]
    count: int  # of the elements that come together
    kept: tuple[int, ...]  # the shape without the axes
    with_ones: tuple[int, ...]  # with length 1 there
    strides: tuple[int, ...]  # of the result over the iteration space


@lru_cache(maxsize=4096, typed=True)
def _left(shape: tuple[int, ...], axis: Axes) -> Left:
    axes = axes_of(axis, len(shape))
    kept = tuple([n for k, n in enumerate(shape) if k not in axes])
    steps = iter(c_strides(kept))
    return Left(axes, prod([shape[k] for k in axes]), kept,
                tuple([1 if k in axes else n for k, n in enumerate(shape)]),
                tuple([0 if k in axes else next(steps) for k in range(len(shape))]))


def given(option: Any) -> bool:
    """Whether an option of a reduction was used: dtype, initial or where."""
    return option is not None and option is not np._NoValue and option is not True


def begun(initial: Any) -> bool:
    """Whether a reduction is told what to begin with."""
    return initial is not None and initial is not np._NoValue


def _first(x: Any, initial: Any, dtype: Any, truth: bool = False) -> Any:
    """What a reduction begins with, as one of truths (`truth`) or counts has it: a truth, or a whole number."""
    kind = bool if truth and is_boolean(x) else int if x.dtype.kind in "iub" else None
    return initial if kind is None or given(dtype) and np.dtype(dtype).kind not in "iu" else written(
        initial, kind) if is_traced(initial) else kind(initial)


def masked(x: Any, where: Any, neutral: Any) -> Any:
    """x where it takes part in a reduction, elsewhere what changes nothing."""
    return np.where(where, x, neutral) if given(where) else x


def _reduce(op: Op, ufunc: np.ufunc, x: Any, axis: Axes, keepdims: Any, over: float | None = None,
            of_none: float | None = None) -> Any:
    """Over some axes: the sum (COPY), an extremum, or the sum of the squares (MULTIPLY); divided by `over`.

    of_none: what it makes of no elements, where `ufunc` has no identity."""
    keepdims = keepdims is True or _flag(keepdims)
    if type(x) is not TracedArray:
        if not is_traced(x):
            return ufunc.reduce(x, axis=axis, keepdims=keepdims)
        x = traced_array(x)
    st = x.st
    rec, shape = st.rec, x.window.shape
    if not rec.open:
        rec.over()
    axes, _, kept, with_ones, strides = _left(shape, axis)
    if not axes:
        if st.boolean and op is COPY:  # truths are counted
            return x * 1.0 if shape else x.scalar() * 1
        return x.copy("K") if shape else x.scalar()
    if not x.window.size or st.block < 0 and constant(x):
        begin = {} if of_none is None or x.window.size else {"initial": of_none}
        return of_constants(rec, ufunc.reduce(as_plain(x), axis=axes, keepdims=keepdims, **begin))
    ref = st.whole if x.window is st.buffer and st.block >= 0 and not rec.capturing else single(rec, x, shape)
    read = op is not COPY
    if read:
        st.need()
    nd, back = x.nd, None
    if op is MULTIPLY:
        nd = nd * nd
    if len(kept) > 1 and turned(nd):
        along = [k for k in range(len(shape)) if k not in axes]
        values, strides, back = in_order(rec, ufunc.reduce(nd, axis=axes), along, len(shape))
    else:
        values = rec.empty(kept)
        ufunc.reduce(nd, axes, None, values)
    block = rec.record(op, shape, (ref, ref) if op is MULTIPLY else (ref,), values, strides, read or not kept)
    if over and not kept and not keepdims:
        return rec.follow(DIVIDE, values.item() / over, _new(Const, (float(over),)))
    if over is not None:
        sums, left = values, values.shape
        values, along = _empty(left), c_strides(left)
        np.true_divide(sums, over, values)
        ref = _new(Affine, (block, 0, along))
        operands, site = (ref, _new(Const, (float(over),))), rec.tape.items[-1].site
        block = rec.record(DIVIDE, left, operands, values, along, not left, site)
    boolean = st.boolean and op is not COPY
    if st.boolean and op is COPY and over is None and not kept and not keepdims:
        return rec.count(rec.firsts[block], values.item())
    if not keepdims:
        result = fresh(rec, values, block, boolean)
        return result if back is None else owning(result.transpose(back))
    whole = values if back is None else values.transpose(back)
    return owning(TracedArray(Storage.of_block(rec, values, block, boolean), whole.reshape(with_ones), 0))


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
    if dtype is not None:
        require_floats((x, initial, where), "numpy.sum", dtype, is_boolean(x))
    result = _reduce(COPY, np.add, x if where is None else masked(x, where, 0.0), axis, keepdims)
    if initial is not None and begun(initial):
        result = result + _first(x, initial, dtype)
    return result if out is None else into(out, result)


def squares(x: Any, axis: Axes = None, keepdims: Any = False) -> Any:
    """Sum of the squares: where arrays are small one statement, which computes as NumPy does, squares first."""
    if _few(x, axis):
        return _reduce(MULTIPLY, np.add, x, axis, keepdims)
    return total(x * x, axis, None, None, keepdims)


def _few(x: Any, axis: Axes) -> bool:
    """Whether something is summed of a small array, whose statements are computed one by one."""
    return type(x) is TracedArray and not x.st.boolean and 0 < x.window.size < memory.LARGE and x.window.ndim > 0 and (
        axis is None or axis != ()) and (x.st.block >= 0 or not constant(x))


def _extremum(op: Op, ufunc: np.ufunc, least: float) -> Callable[..., Any]:
    def extremum(
        x: Any,
        axis: Axes = None,
        out: Any = None,
        keepdims: bool = False,
        initial: Any = None,
        where: Any = None,
    ) -> Any:
        initial = _first(x, initial, None, True) if begun(initial) else initial
        if given(where) and not begun(initial):
            raise ValueError(f"reduction operation '{ufunc.__name__}' does not have an identity, so to use a where "
                             "mask one has to specify 'initial'")
        result = _reduce(op, ufunc, x if where is None else masked(x, where, initial), axis, keepdims,
                         of_none=least if begun(initial) else None)
        return into(out, ufunc(result, initial) if begun(initial) else result)

    return extremum


largest, smallest = _extremum(MAX, np.maximum, -np.inf), _extremum(MIN, np.minimum, np.inf)


def anywhere(
    x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False, where: Any = None, initial: Any = None
) -> Any:
    result = _reduce(MAX, np.maximum, masked(_truth(x), where, False), axis, keepdims, of_none=False)
    return into(out, np.logical_or(result, initial) if begun(initial) else result)


def everywhere(
    x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False, where: Any = None, initial: Any = None
) -> Any:
    result = _reduce(MIN, np.minimum, masked(_truth(x), where, True), axis, keepdims, of_none=True)
    return into(out, np.logical_and(result, initial) if begun(initial) else result)


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
    initial = _first(x, initial, dtype) if begun(initial) else initial
    x = masked(x, where, 1.0)
    if not is_traced(x):
        return into(out, np.multiply(np.multiply.reduce(x, axis=axis, keepdims=_flag(keepdims)), initial))
    x = traced_array(x)
    if is_boolean(x):
        x = x * 1.0
    axes, count, kept, with_ones, _ = _left(x.shape, axis)
    rest = [k for k in range(x.ndim) if k not in axes]
    flat = x.transpose(rest + list(axes)).reshape((*kept, count))
    n = flat.shape[-1]
    if n == 0:
        result = np.ones(with_ones if _flag(keepdims) else kept)
        return into(out, (result * initial if begun(initial) else result)[()])
    while n > 1:
        half = n // 2
        pairs = flat[..., :half] * flat[..., half : 2 * half]
        flat = np.concatenate([pairs, flat[..., 2 * half :]], axis=-1) if n % 2 else pairs
        n = flat.shape[-1]
    result = flat[..., 0]
    if type(result) is TracedArray:
        result = laid(result.copy(), np.multiply.reduce(x.nd, axis=axes) if turned(x.nd) else result.nd)
    if begun(initial):
        result = result * initial
    return into(out, np.reshape(result, with_ones) if _flag(keepdims) else result)


def mean(
    x: Any, axis: Axes = None, dtype: Any = None, out: Any = None, keepdims: bool = False, where: Any = None
) -> Any:
    if given(dtype) and np.dtype(dtype).kind in "iu":
        return _of_whole_numbers(np.mean, x, dtype, axis=axis, out=out, keepdims=keepdims, where=where)
    if dtype is None and where is None and _few(x, axis):
        result = _reduce(COPY, np.add, x, axis, keepdims, _left(x.window.shape, axis).count)
    else:
        result = total(x, axis, dtype, None, keepdims, None, where) / _count(x, axis, keepdims, where)
    return result if out is None else into(out, result)


def _of_whole_numbers(function: Callable[..., Any], x: Any, dtype: Any, out: Any, **options: Any) -> Any:
    """NumPy's own of truths, which are decided, in whole numbers."""
    require_floats((x,), f"numpy.{function.__name__}", dtype, is_boolean(x))
    options = {name: decided(value) if is_traced(value) else value for name, value in options.items()
               if value is not None}
    return into(out, function(decided(x) if is_traced(x) else x, dtype=dtype, **options))


def _count(x: Any, axis: Axes, keepdims: bool, where: Any) -> Any:
    """How many elements a mean is of."""
    if not given(where):
        return _left(shape_of(x), axis).count
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
    if given(dtype) and np.dtype(dtype).kind in "iu":
        return _of_whole_numbers(np.var, x, dtype, axis=axis, out=out, ddof=ddof, keepdims=keepdims, where=where)
    middle = None
    if other:
        ddof = other.pop("correction", ddof) if given(other.get("correction")) else ddof
        middle = other.pop("mean", None)
        other.pop("correction", None)
        if other:
            raise TypeError(f"_var() got an unexpected keyword argument {next(iter(other))!r}")
    if middle is None or not given(middle):
        middle = mean(x, axis, dtype, None, True, where)
    away, freedom = x - middle, _count(x, axis, keepdims, where) - ddof
    if not given(where) and _few(away, axis):
        result = _reduce(MULTIPLY, np.add, away, axis, keepdims, max(freedom, 0))
    else:
        result = total(away * away, axis, dtype, None, keepdims, None, where) / np.maximum(freedom, 0)
    return result if out is None else into(out, result)


def deviation(
    x: Any, axis: Axes = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: bool = False, **other: Any
) -> Any:
    if given(dtype) and np.dtype(dtype).kind in "iu":
        return _of_whole_numbers(np.std, x, dtype, axis=axis, out=out, ddof=ddof, keepdims=keepdims, **other)
    result = root(variance(x, axis, dtype, None, ddof, keepdims, **other))
    return result if out is None else into(out, result)


def root(x: Any) -> Any:
    """The square root of what a reduction left."""
    return usual.root(x) if isinstance(x, TracedScalar) and x.i == x.rec.firsts[-1] else np.sqrt(x)


def peak_to_peak(x: Any, axis: Axes = None, out: Any = None, keepdims: bool = False) -> Any:
    return into(out, largest(x, axis, keepdims=keepdims) - smallest(x, axis, keepdims=keepdims))


def cumulative_sum(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sum: a scan along the last axis of the iteration space, so the axis is moved there."""
    x = traced_array(x)
    if dtype is not None:
        require_floats((x,), "numpy.cumsum", dtype, is_boolean(x))
    if axis is None or not x.window.ndim:  # of no axes: as of one
        axis = 0 if axis is None else axis
        if x.window.ndim != 1:
            x = x.reshape(-1)
    rec, nd = x.st.rec, x.nd
    axis, = axes_of(axis, nd.ndim)
    if constant(x) or not nd.size:
        return into(out, rec.array_of(np.cumsum(as_plain(x), axis=axis)))
    last = nd.ndim - 1
    moved = x if axis == last else np.moveaxis(x, axis, -1)
    ref, back = single(rec, moved, moved.window.shape), None
    if turned(nd):
        along = [k if k < axis else last if k == axis else k - 1 for k in range(nd.ndim)]
        values, strides, back = in_order(rec, np.cumsum(nd, axis=axis), along, nd.ndim)
    else:
        values = rec.empty(nd.shape)
        np.add.accumulate(nd, axis, None, values)
        strides = c_strides(nd.shape)
        strides = strides[:axis] + strides[axis + 1 :] + (strides[axis],)
    result = fresh(rec, values, rec.record(CUMSUM, moved.window.shape, (ref,), values, strides, False))
    return into(out, result if back is None else owning(result.transpose(back)))


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    require_floats((x,), "numpy.trace", dtype)
    return into(out, total(np.diagonal(x, offset, axis1, axis2), axis=-1))


def average(x: Any, axis: Axes = None, weights: Any = None, returned: bool = False, *, keepdims: bool = False) -> Any:
    if weights is None:
        result = mean(x, axis, keepdims=keepdims)
        scale = np.full(shape_of(result), float(_count(x, axis, keepdims, None)))
    else:
        if shape_of(weights) != shape_of(x):
            if axis is None:
                raise TypeError("Axis must be specified when shapes of a and weights differ.")
            axes = axes_of(axis, ndim_of(x))  # of each axis of the weights
            order = np.argsort(axes)
            weights = np.transpose(weights, order)
            weights = np.reshape(weights, tuple(shape_of(x)[k] if k in axes else 1 for k in range(ndim_of(x))))
        scale = np.sum(weights, axis=axis, keepdims=_flag(keepdims))
        if np.any(np.equal(scale, 0.0)):  # decided, as NumPy does
            raise ZeroDivisionError("Weights sum to zero, can't be normalized")
        result = np.sum(x * weights, axis=axis, keepdims=_flag(keepdims)) / scale
    return (result, np.broadcast_to(scale, shape_of(result)) * 1.0) if returned else result


def count_nonzero(x: Any, axis: Axes = None, *, keepdims: bool = False) -> Any:
    truth = traced_array(_truth(x))
    if not truth.ndim and axes_of(axis, 0) == ():
        return total(truth.reshape(1))  # a count, of one
    return total(truth, axis, keepdims=keepdims)


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
