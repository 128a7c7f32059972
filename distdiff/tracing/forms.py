"""The forms in which NumPy's ufuncs can be called: out= and where=, reduce, accumulate, outer, at, reduceat.

Sums, products and extrema have rules of their own; others that can be brought to these are, and what is left is applied
element after element, as NumPy does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce as folded
from math import prod
from typing import Any

import numpy as np

from . import scatter
from .array import TracedArray, is_boolean, is_traced, ndim_of, shape_of
from .contract import GUFUNCS
from .floating import aside
from .indexing import assign, decided, plain_index
from .layout import laid
from .reductions import (
    UFUNC_REDUCTIONS,
    axes_of,
    begun,
    cumulative_sum,
    given,
    largest,
    masked,
    total,
    traced_array,
)
from .scalar import PLAIN
from .statistics import cumulative_product, nan_max, nan_min
from .truths import WHOLE_ONLY, reduced
from .ufuncs import BOOLEAN_RESULTS, evaluate, recorder_of, require_floats


def call(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`__array_ufunc__` of arrays and scalars alike."""
    outs = kwargs.pop("out", ())
    if method == "__call__" and outs and decides(inputs, outs):
        where = kwargs.get("where", True)  # alive &= x < 1; hits += x < 1
        return ufunc(*map(_decided, inputs), out=outs, **{**kwargs, "where": _decided(where)})
    if method == "__call__" and not _UNUSUAL.isdisjoint(kwargs):
        results = _unusual(ufunc, inputs, outs, kwargs)
        if results is not NotImplemented:
            return results
    require_floats(inputs + outs, f"numpy.{ufunc.__name__}", kwargs.get("dtype"), any(map(is_boolean, inputs)))
    if method == "at":
        at(ufunc, *inputs)
        return None
    if method == "__call__" and kwargs.get("dtype") is not None and ufunc not in BOOLEAN_RESULTS:
        inputs = tuple(x * 1.0 if is_traced(x) and is_boolean(x) else x for x in inputs)  # they are counted
    if method == "__call__" and ufunc not in GUFUNCS:
        results = masked_call(ufunc, inputs, outs, kwargs.get("where", True))
    elif not any(map(is_traced, inputs)):  # constants, to be written into an array that can hold traced values
        results = getattr(ufunc, method)(*inputs, **kwargs)
    elif ufunc in GUFUNCS:
        kwargs = {name: value for name, value in kwargs.items() if name in ("axes", "axis", "keepdims")}
        results = GUFUNCS[ufunc](*inputs, **kwargs)
    else:
        kwargs.pop("dtype", None)
        if method in ("accumulate", "reduceat") and not ndim_of(inputs[0]):
            raise TypeError(f"cannot {method} on a scalar")
        results = reduced(ufunc, method, inputs, kwargs)
        if results is NotImplemented:
            results = _METHODS[method](ufunc, *inputs, **kwargs)
    single = not isinstance(results, tuple)
    results = (results,) if single else _of_one_shape(results, outs)
    written = tuple(_written(ufunc, *pair) for pair in zip(results, outs or (None,) * len(results)))
    return written[0] if single else written


def _of_one_shape(results: tuple[Any, ...], outs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The results of one call: what is written into `out` gives those beside it its shape."""
    shapes = [shape_of(x) for x in outs if x is not None]
    if not shapes or len(shapes) == len(results):
        return results
    shape = np.broadcast_shapes(*shapes, shape_of(results[0]))
    return tuple(x if shape_of(x) == shape else np.broadcast_to(x, shape).copy() for x in results)


def decides(inputs: tuple[Any, ...], outs: tuple[Any, ...]) -> bool:
    """Whether truths alone go into arrays of truths or whole numbers, where they are decided."""
    return all(isinstance(x, np.ndarray) and not is_traced(x) and x.dtype.kind in "biu" for x in outs) and all(
        is_boolean(x) for x in inputs if is_traced(x))


_UNUSUAL = frozenset(("casting", "dtype", "sig", "signature"))


def _unusual(ufunc: np.ufunc, inputs: tuple[Any, ...], outs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Where it is said in what numbers to compute: what NumPy refuses is refused, and truths are decided."""
    how = {name: kwargs[name] for name in _UNUSUAL if kwargs.get(name) is not None}
    traced = [x for x in inputs if is_traced(x)]
    if not how or not traced or ufunc.signature is not None:
        return NotImplemented
    truths = all(map(is_boolean, traced))
    if truths and not outs and kwargs.get("where", True) is True and how.get("dtype") not in (float, "float64"):
        return ufunc(*map(_decided, inputs), **kwargs)
    some = [np.ones((0,) * ndim_of(x), bool if is_boolean(x) else float) if is_traced(x) and ndim_of(x) else
            np.bool_(True) if is_traced(x) and is_boolean(x) else np.float64(0.5) if is_traced(x) else
            np.asarray(x)[(slice(0, 0),) * ndim_of(x)] if ndim_of(x) else x for x in inputs]
    try:
        with aside(), np.errstate(all="ignore"):
            found = ufunc(*some, **how)
    except TypeError as error:
        raise TypeError(f"numpy.{ufunc.__name__} with {' and '.join(how)}: {error}") from None
    kinds = {np.asarray(y).dtype.char for y in (found if type(found) is tuple else (found,))}
    if ("sig" in how or "signature" in how) and (truths or not kinds <= {"d", "?"}):
        traced[0].rec.unsupported(f"numpy.{ufunc.__name__} with signature=", "traced values are floats of 64 bits")
    return NotImplemented


def _decided(x: Any) -> Any:
    return decided(x) if is_traced(x) else x


def _written(ufunc: np.ufunc, result: Any, target: Any) -> Any:
    if target is None:
        return result
    if not isinstance(target, np.ndarray):
        raise TypeError("return arrays must be of ArrayType")
    if type(target) is not TracedArray and is_traced(result):
        result.rec.unsupported(
            f"numpy.{ufunc.__name__} writing a traced result into a plain array (out= or an in-place operator)",
            f"{PLAIN}; or write a = a + b instead of a += b",
        )
    if is_boolean(target) and not is_boolean(result):
        raise TypeError(
            f"Cannot cast ufunc '{ufunc.__name__}' output from dtype('float64') to dtype('bool') with casting rule "
            "'same_kind'"
        )
    if type(target) is TracedArray:
        assign(target, result)
    else:  # constants, beside another result that is written into a traced array
        target[...] = result
    return target


def masked_call(ufunc: np.ufunc, inputs: tuple[Any, ...], outs: tuple[Any, ...], where: Any) -> Any:
    """The ufunc where a condition holds; elsewhere what `out` holds, or 0 (as of np.empty)."""
    if where is True:
        return evaluate(ufunc, inputs)
    safe = 1.5 if ufunc is np.arccosh else 0.5  # in every domain: what isn't asked for is no error, and no NaN
    results = evaluate(ufunc, tuple(np.where(where, x, False if is_boolean(x) else safe) for x in inputs))
    parts = results if isinstance(results, tuple) else (results,)
    before = outs or (None,) * len(parts)
    chosen = tuple(
        np.where(where, part, (False if is_boolean(part) else 0.0) if old is None else old)
        for part, old in zip(parts, before)
    )
    return chosen if isinstance(results, tuple) else chosen[0]


# -- reduce, accumulate, reduceat -------------------------------------------------------------------------------


def reduce(ufunc: np.ufunc, x: Any, axis: Any = 0, keepdims: bool = False, initial: Any = None, where: Any = True,
           ) -> Any:
    if ufunc in WHOLE_ONLY and not is_boolean(x):
        x.rec.unsupported(f"numpy.{ufunc.__name__}.reduce of floats", "it is of whole numbers and truths: "
                          "x.astype(int) decides for them")
    rule = REDUCTIONS.get(ufunc)
    if rule is not None:
        return rule(x, axis=axis, keepdims=keepdims, initial=initial, where=where)
    x = _truth(ufunc, traced_array(x))
    _require_two(x.rec, ufunc, "reduce")
    axes = axes_of(axis, x.ndim)
    if len(axes) > 1 or not x.size or given(where):
        if len(axes) > 1:
            raise ValueError(f"reduction operation '{ufunc.__name__}' is not reorderable, so at most one axis may be "
                             "specified")
        x.rec.unsupported(f"numpy.{ufunc.__name__}.reduce of no elements or with where=", "choose the elements first")
    if not axes:
        return x.copy("K")
    terms = _slices(ufunc, x, axes[0])
    result = folded(ufunc, [initial, *terms] if begun(initial) else terms)
    if len(terms) == 1 and type(result) is TracedArray:
        result = result.copy()[()]
    return np.expand_dims(result, axes[0]) if keepdims else result


def _truth(ufunc: np.ufunc, x: Any) -> Any:
    """The operand of a logical function: what is not combined with another is a truth value as well."""
    if ufunc in (np.logical_and, np.logical_or, np.logical_xor) and not is_boolean(x):
        return np.not_equal(x, 0.0)
    return x


def accumulate(ufunc: np.ufunc, x: Any, axis: int = 0) -> Any:
    x = _truth(ufunc, traced_array(x))
    if not x.ndim:
        raise TypeError("cannot accumulate on a scalar")
    if axis is None and x.ndim > 1:
        raise ValueError("accumulate does not allow multiple axes")
    if ufunc is np.add:
        return cumulative_sum(x, axis)
    if ufunc is np.multiply:
        return cumulative_product(x, axis)
    _require_two(x.rec, ufunc, "accumulate")
    axis = axes_of(axis, x.ndim)[0]
    if ufunc in (np.maximum, np.minimum, np.fmax, np.fmin):
        result = running(x, axis, ufunc)
    elif x.shape[axis]:
        terms = _slices(ufunc, x, axis)
        rows = [terms[0]]
        for term in terms[1:]:
            rows.append(ufunc(rows[-1], term))
        result = np.stack(rows, axis)
    else:
        result = x.copy()
    return laid(result, ufunc.accumulate(x.nd, axis)) if type(result) is TracedArray else result


def running(x: Any, axis: int, ufunc: Callable[..., Any]) -> Any:
    """What a function that may be applied in any grouping makes of all elements up to each: by doubling, log2(n)
    statements."""
    moved = np.moveaxis(x, axis, -1)
    step = 1
    while step < moved.shape[-1]:
        moved = np.concatenate([moved[..., :step], ufunc(moved[..., :-step], moved[..., step:])], axis=-1)
        step *= 2
    result = np.moveaxis(moved, -1, axis)
    return result.copy("K") if step == 1 else result


def reduceat(ufunc: np.ufunc, x: Any, indices: Any, axis: int = 0) -> Any:
    """Segments of equal length together."""
    x = _truth(ufunc, traced_array(x))
    axis = axes_of(axis, x.ndim)[0]
    starts = np.asarray(plain_index(x.rec, indices))
    n = x.shape[axis]
    if ((starts < 0) | (starts >= n)).any():
        raise IndexError(f"index {starts[(starts < 0) | (starts >= n)][0]} out-of-bounds in {ufunc.__name__}.reduceat "
                         f"[0, {n})")
    ends = np.append(starts[1:], n)
    lengths = np.where(ends > starts, ends - starts, 1)
    x = np.moveaxis(x, axis, 0)
    parts, order = [], []
    for length in np.unique(lengths):
        which = np.flatnonzero(lengths == length)
        gathered = x[starts[which][:, None] + np.arange(length)]
        parts.append(reduce(ufunc, gathered, 1) if length > 1 else gathered[:, 0])
        order.append(which)
    if not parts:
        return np.zeros((*x.shape[1:axis + 1], 0, *x.shape[axis + 1:]))
    joined = np.concatenate(parts)[np.argsort(np.concatenate(order))] if len(parts) > 1 else parts[0]
    result = np.moveaxis(joined, 0, axis).copy()
    return laid(result, np.empty(result.shape))


def outer(ufunc: np.ufunc, a: Any, b: Any) -> Any:
    return ufunc(np.reshape(a, shape_of(a) + (1,) * ndim_of(b)), b)


def at(ufunc: np.ufunc, target: Any, index: Any, *operands: Any) -> None:
    """target[index] = ufunc(target[index], ...), for an element that is named several times as often."""
    if type(target) is not TracedArray:
        recorder_of((target, *operands)).unsupported(f"numpy.{ufunc.__name__}.at of a plain array", PLAIN)
    if ufunc in (np.add, np.subtract):
        scatter.add_at(target, index, operands[0], 1.0 if ufunc is np.add else -1.0)
        return
    index = plain_index(target.rec, index)
    numbers = np.arange(target.size).reshape(target.shape)[index]
    places = np.reshape(numbers, -1)
    terms = [np.reshape(np.broadcast_to(target.rec.array_of(x), shape_of(numbers)), -1) for x in operands]
    order = np.argsort(places, kind="stable")
    first = np.searchsorted(places[order], places[order], side="left")
    turn = np.empty(len(places), dtype=int)
    turn[order] = np.arange(len(places)) - first  # how often the element was named before
    for k in range(int(turn.max(initial=-1)) + 1):
        which = np.flatnonzero(turn == k)
        here = np.unravel_index(places[which], target.shape)
        target[here] = ufunc(target[here], *(x[which] for x in terms))


def _require_two(rec: Any, ufunc: np.ufunc, form: str) -> None:
    if ufunc.nin != 2 or ufunc.nout != 1:
        raise ValueError(f"{form} only supported for binary functions")
    if ufunc in BOOLEAN_RESULTS and not ufunc.__name__.startswith("logical"):
        rec.unsupported(f"numpy.{ufunc.__name__}.{form}", "its partial results are truths, not numbers")


def _slices(ufunc: np.ufunc, x: TracedArray, axis: int) -> list[Any]:
    moved = np.moveaxis(x, axis, 0)
    if ufunc in BOOLEAN_RESULTS and not is_boolean(x):
        moved = np.not_equal(moved, 0.0)
    return [moved[k] for k in range(len(moved))]


# -- reductions that can be brought to sums, products and extrema --------------------------------------------------


def _first_and_rest(inverse: np.ufunc, rest: Callable[..., Any]) -> Callable[..., Any]:
    """x_0 - sum of the others, x_0 / product of the others."""

    def rule(x: Any, axis: Any = 0, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
        x = traced_array(x)
        axes = axes_of(axis, x.ndim)
        if len(axes) != 1 or not x.size or given(where) or begun(initial):
            x.rec.unsupported(f"numpy.{inverse.__name__}.reduce of no element, over several axes or with where= or "
                              "initial=", "write the formula out")
        moved = np.moveaxis(x, axes[0], 0)
        result = inverse(moved[0], rest(moved[1:], axis=0)) if len(moved) > 1 else np.copy(moved[0])
        return np.expand_dims(result, axes[0]) if keepdims else result

    return rule


def _log_sum(exp: np.ufunc, log: np.ufunc) -> Callable[..., Any]:
    """log(sum exp(x)) = m + log(sum exp(x - m)), m the largest."""

    def rule(x: Any, axis: Any = 0, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
        x = traced_array(x)
        if given(where):
            x = np.where(where, x, -np.inf)
        if not prod([x.shape[k] for k in axes_of(axis, x.ndim)]):
            return total(x, axis, keepdims=keepdims) + (initial if begun(initial) else -np.inf)
        top = largest(x, axis, keepdims=True)
        top = np.where(np.isfinite(top), top, 0.0)  # all -inf, or one +inf
        result = log(total(exp(x - top), axis, keepdims=True)) + top
        if begun(initial):
            result = {np.log: np.logaddexp, np.log2: np.logaddexp2}[log](initial, result)
        return result if keepdims else np.squeeze(result, axes_of(axis, x.ndim))[()]

    return rule


def _hypotenuse(x: Any, axis: Any = 0, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
    x = traced_array(x)
    square = total(x * x, axis, keepdims=keepdims, where=where)
    return np.sqrt(square + initial * initial if begun(initial) else square)


def _parity(x: Any, axis: Any = 0, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
    """Whether an odd number of them hold."""
    count = total(masked(_truth(np.logical_xor, traced_array(x)), where, False), axis, keepdims=keepdims)
    return np.not_equal(np.remainder(count + bool(initial) if begun(initial) else count, 2.0), 0.0)


REDUCTIONS: dict[np.ufunc, Callable[..., Any]] = {
    **UFUNC_REDUCTIONS,
    np.subtract: _first_and_rest(np.subtract, total),
    np.divide: _first_and_rest(np.divide, UFUNC_REDUCTIONS[np.multiply]),
    np.logaddexp: _log_sum(np.exp, np.log),
    np.logaddexp2: _log_sum(np.exp2, np.log2),
    np.hypot: _hypotenuse,
    np.logical_xor: _parity,
    np.bitwise_xor: _parity,
    np.fmax: nan_max,
    np.fmin: nan_min,
}

_METHODS: dict[str, Callable[..., Any]] = {
    "reduce": reduce, "accumulate": accumulate, "reduceat": reduceat, "outer": outer}
