"""Points between traced ends: linspace, logspace, geomspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import is_traced, ndim_of
from .decisions import decide
from .ufuncs import recorder_of, require_floats


def linspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
             axis: int = 0, **kwargs: Any) -> Any:
    """start + k step, k = 0, 1, ...; with the endpoint, the last is `stop` itself."""
    if not is_traced(start) and not is_traced(stop):
        return np.linspace(start, stop, num, endpoint, retstep, axis=axis)
    require_floats((start, stop), "numpy.linspace", dtype)
    num = int(num)
    if num < 0:
        raise ValueError(f"Number of samples, {num}, must be non-negative.")
    steps = num - 1 if endpoint else num
    start, stop = (x if is_traced(x) else np.asarray(x, dtype=float)[()] for x in (start, stop))
    difference = stop - start
    step = difference / steps if steps > 0 else np.nan
    k = np.reshape(np.arange(0.0, num), (-1,) + (1,) * ndim_of(difference))
    if steps <= 0:
        result = k * difference + start
    elif np.all(decide(np.not_equal(step, 0.0))):
        result = k * step + start
    else:
        result = k / steps * difference + start
    if not is_traced(result):  # no element
        result = recorder_of((start, stop)).array_of(np.asarray(result, dtype=float))
    if endpoint and num > 1:
        result[-1, ...] = stop
    if axis != 0:
        result = np.moveaxis(result, 0, axis)
    return (result, step) if retstep else result


def logspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None,
             axis: int = 0) -> Any:
    require_floats((start, stop, base), "numpy.logspace", dtype)
    return np.power(base, linspace(start, stop, num, endpoint, axis=axis))


def geomspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    require_floats((start, stop), "numpy.geomspace", dtype)
    if np.any(decide(np.equal(start, 0.0))) or np.any(decide(np.equal(stop, 0.0))):
        raise ValueError("Geometric sequence cannot include zero")
    negative = np.logical_and(decide(np.less(start, 0.0)), decide(np.less(stop, 0.0)))
    sign = np.where(negative, -1.0, 1.0)
    start, stop = start * sign, stop * sign
    result = logspace(np.log10(start), np.log10(stop), num, endpoint)
    if int(num) > 0:
        result[0, ...] = start
        if endpoint and int(num) > 1:
            result[-1, ...] = stop
    result = result * sign
    return np.moveaxis(result, 0, axis) if axis != 0 else result


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.linspace: linspace, np.logspace: logspace, np.geomspace: geomspace}
