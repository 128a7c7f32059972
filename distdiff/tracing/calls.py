"""Functions of NumPy's that call a function of the user's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from . import complexes
from .array import is_boolean, is_traced, ndim_of
from .decisions import decide
from .reductions import axis_of, traced_array
from .scalar import TracedCount
from .ufuncs import recorder_of
from .wholes import written


def apply_along_axis(function: Callable[..., Any], axis: int, x: Any, *args: Any, **kwargs: Any) -> Any:
    x = traced_array(x) if is_traced(x) else np.asarray(x)
    axis = axis_of(axis, x.ndim)
    lanes = np.moveaxis(x, axis, -1)
    outer = lanes.shape[:-1]
    if not np.prod(outer, dtype=int):
        raise ValueError("Cannot apply_along_axis when any iteration dimensions are 0")
    results = [function(lanes[index], *args, **kwargs) for index in np.ndindex(outer)]
    joined = _of_type(_joined(results), _type_of(results[0]))
    result, extra = np.reshape(joined, (*outer, *joined.shape[1:])), joined.ndim - 1
    return np.moveaxis(result, range(len(outer), len(outer) + extra), range(axis, axis + extra))


def _joined(results: list[Any]) -> Any:
    if complexes.complex_within(results) and (rec := complexes.recorder_within(results)) is not None:
        return np.stack([complexes.array_of(rec, y) for y in results])
    results = [np.stack(y) if isinstance(y, (list, tuple)) and any(map(is_traced, y)) else y for y in results]
    if not any(map(is_traced, results)):
        return np.stack([np.asarray(y) for y in results])
    return np.stack([traced_array(y) if is_traced(y) else y for y in results])


def _type_of(result: Any) -> np.dtype:
    """Of a function's first result, which NumPy makes the type of them all."""
    if is_traced(result):
        return np.dtype(bool if is_boolean(result) else int if isinstance(result, TracedCount) else float)
    return np.dtype(complex) if complexes.complex_within(result) else np.dtype(float) if (
        complexes.recorder_within(result) is not None) else np.asarray(result).dtype


def _of_type(x: Any, dtype: np.dtype) -> Any:
    """Results as NumPy writes them into an array of the type: what is cut to whole numbers is decided."""
    if complexes.is_traced_complex(x):
        return x
    if is_traced(x):
        recorder_of((x,)).float64(dtype, "a function's first result")
        return written(x, dtype)
    return x if dtype.kind in "OSUV" else np.asarray(x).astype(dtype)


def apply_over_axes(function: Callable[..., Any], x: Any, axes: Any) -> Any:
    for axis in np.atleast_1d(axes).tolist():
        result = function(x, axis)
        if ndim_of(result) != ndim_of(x):
            result = np.expand_dims(result, axis)
        x = result
    return x


def vectorized(self: np.vectorize, *args: Any, **kwargs: Any) -> Any:
    """What np.vectorize's objects do with traced arguments: the function is called with the scalars, one by one."""
    rec = recorder_of((*args, *kwargs.values()))
    if self.signature is not None:
        return _of_arrays(self, rec, args, kwargs)
    free = [k for k in range(len(args)) if k not in self.excluded]
    names = [name for name in kwargs if name not in self.excluded]
    arrays = np.broadcast_arrays(*(rec.array_of(x) if is_traced(x) or complexes.is_traced_complex(x) else np.asarray(x)
                                   for x in (*(args[k] for k in free), *(kwargs[name] for name in names))))
    shape = arrays[0].shape
    values = list(args)
    results = []
    for index in np.ndindex(shape):
        here = [x[index] for x in arrays]
        for k, x in zip(free, here):
            values[k] = x
        results.append(self.pyfunc(*values, **{**kwargs, **dict(zip(names, here[len(free) :]))}))
    if not results:
        rec.unsupported("numpy.vectorize of no elements", "the kind of its result would be unknown")
    if isinstance(results[0], tuple):
        return tuple(_presented(list(parts), shape, _type_asked(self, k, parts[0]))
                     for k, parts in enumerate(zip(*results)))
    return _presented(results, shape, _type_asked(self, 0, results[0]))


def _type_asked(self: np.vectorize, k: int, first: Any) -> np.dtype:
    return np.dtype(self.otypes[k]) if self.otypes else _type_of(first)


def _of_arrays(self: np.vectorize, rec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same with a signature, "(n),(n,m)->(m)": the function is called with arrays, one for each index of the axes
    before those that the signature names."""
    if kwargs or self.excluded:
        rec.unsupported("numpy.vectorize with a signature and keyword or excluded arguments", "bind them first, with "
                        "functools.partial")
    inner = [term.count(",") + 1 if term else 0 for term in re.findall(r"\(([^()]*)\)", self.signature.split("->")[0])]
    arrays = [rec.array_of(x) if is_traced(x) or complexes.is_traced_complex(x) else np.asarray(x) for x in args]
    cuts = [x.ndim - n for x, n in zip(arrays, inner, strict=True)]
    shape = np.broadcast_shapes(*(x.shape[:cut] for x, cut in zip(arrays, cuts)))
    arrays = [np.broadcast_to(x, shape + x.shape[cut:]) for x, cut in zip(arrays, cuts)]
    results = [self.pyfunc(*(x[index] for x in arrays)) for index in np.ndindex(shape)]
    if not results:
        rec.unsupported("numpy.vectorize of no elements", "the shape of its result would be unknown")
    parts = [_of_type(_joined(list(part)), _type_asked(self, k, part[0])) for k, part in enumerate(
        zip(*results) if isinstance(results[0], tuple) else [results])]
    parts = [np.reshape(part, shape + part.shape[1:]) for part in parts]
    return tuple(parts) if isinstance(results[0], tuple) else parts[0]


def _presented(results: list[Any], shape: tuple[int, ...], dtype: np.dtype) -> Any:
    return _of_type(np.reshape(_joined(results), shape) if shape else results[0], dtype)


def piecewise(x: Any, conditions: Any, functions: Any, *args: Any, **kwargs: Any) -> Any:
    """Each function is called with the elements for which its condition holds, which is decided."""
    x = traced_array(x) if is_traced(x) else np.asarray(x)
    scalar = ndim_of(conditions) == 0 if not isinstance(conditions, (list, tuple)) else False
    conditions = [conditions] if scalar or ndim_of(conditions[0]) == 0 and x.ndim else list(conditions)
    functions = list(functions)
    masks = [np.asarray(decide(condition), dtype=bool) for condition in conditions]
    if len(functions) == len(masks) + 1:
        masks.append(~np.any(masks, axis=0))
    elif len(functions) != len(masks):
        raise ValueError(f"with {len(masks)} condition(s), either {len(masks)} or {len(masks) + 1} functions are "
                         "expected")
    rec = recorder_of((x, *conditions, *functions, *args, *kwargs.values()))
    result = rec.array_of(np.zeros(x.shape))
    for mask, function in zip(masks, functions):
        if not mask.any():
            continue
        value = function(x[mask], *args, **kwargs) if callable(function) else function
        result[mask] = value
    return result


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.apply_along_axis: apply_along_axis, np.apply_over_axes: apply_over_axes, np.piecewise: piecewise}
