"""NumPy functions that are a formula in other NumPy functions, and those that only ask for shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import TracedArray, as_plain, is_boolean, is_traced, ndim_of, plain, shape_of
from .decisions import decide, searchsorted
from .indexing import assign, into
from .layout import laid
from .reductions import axes_of, axis_of, traced_array
from .scalar import TracedScalar
from .text import text_of
from .ufuncs import number, recorder_of, require_floats
from .wholes import written

_full_like = np.full_like  # NumPy's own, whatever is substituted meanwhile


def clip(
    x: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None,
    where: Any = True, dtype: Any = None, **kwargs: Any
) -> Any:
    require_floats((x, a_min, a_max, min, max), "numpy.clip", dtype)
    low, high = a_min if a_min is not None else min, a_max if a_max is not None else max
    if low is None and high is None:
        np.clip(np.empty(0), None, None)  # some of NumPy's raise
        return into(out, np.copy(x), True)
    result = x
    if low is not None:
        result = np.maximum(result, low)
    if high is not None:
        result = np.minimum(result, high)
    return into(out, result if where is True else np.where(where, result, 0.0 if out is None else out), True)


def diff(x: Any, n: int = 1, axis: int = -1, prepend: Any = np._NoValue, append: Any = np._NoValue) -> Any:
    x = traced_array(x)
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n}")
    if not n:
        return x
    if not x.ndim:
        raise ValueError("diff requires input that is at least one dimensional")
    axis = axis_of(axis, x.ndim)
    ends = []
    for end in (prepend, append):
        if end is not np._NoValue and ndim_of(end) == 0:
            end = np.broadcast_to(end, x.shape[:axis] + (1,) + x.shape[axis + 1 :])
        ends.append([] if end is np._NoValue else [end])
    if ends[0] or ends[1]:
        x = np.concatenate([*ends[0], x, *ends[1]], axis=axis)
    before = (slice(None),) * axis
    for _ in range(n):
        high, low = x[before + (slice(1, None),)], x[before + (slice(None, -1),)]
        x = np.not_equal(high, low) if is_boolean(x) else high - low
    return x


def gradient(x: Any, *spacing: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Second-order differences inside, one-sided ones at the ends, for even or uneven spacing."""
    x = recorder_of((x, *spacing)).array_of(x) if not isinstance(x, TracedScalar) else traced_array(x)
    axes = axes_of(axis, x.ndim)
    if not spacing:
        spacing = (1.0,) * len(axes)
    elif len(spacing) == 1:
        spacing = spacing * len(axes)
    elif len(spacing) != len(axes):
        raise TypeError("invalid number of arguments")
    results = []
    for k, h in zip(axes, spacing):
        y = np.moveaxis(x, k, 0)
        if len(y) < edge_order + 1:
            raise ValueError(
                "Shape of array too small to calculate a numerical gradient, at least (edge_order + 1) elements "
                "are required."
            )
        steps = (
            np.diff(h)
            if ndim_of(h)
            else np.full(len(y) - 1, float(h))
            if not is_traced(h)
            else np.broadcast_to(h, len(y) - 1)
        )
        column = np.reshape(steps, (-1,) + (1,) * (y.ndim - 1))
        a, b = column[:-1], column[1:]
        if ndim_of(h) == 0:
            inner = (y[2:] - y[:-2]) / (2.0 * h)
        else:
            inner = -b / (a * (a + b)) * y[:-2] + (b - a) / (a * b) * y[1:-1] + a / (b * (a + b)) * y[2:]
        if edge_order == 1:
            first, last = (y[1:2] - y[:1]) / column[:1], (y[-1:] - y[-2:-1]) / column[-1:]
        else:
            first = _one_sided(y[:3], column[0], column[1])
            last = -_one_sided(y[:-4:-1], column[-1], column[-2])
        result = np.moveaxis(np.concatenate([first, inner, last]), 0, k)
        results.append(laid(result, np.empty_like(x.nd)))
    return results[0] if len(results) == 1 else results


def _one_sided(y: Any, a: Any, b: Any) -> Any:
    """Second-order derivative at the first of three points with steps a, b."""
    return -(2.0 * a + b) / (a * (a + b)) * y[:1] + (a + b) / (a * b) * y[1:2] - a / (b * (a + b)) * y[2:3]


def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    y = np.moveaxis(y, axis, -1)
    if x is None:
        d = dx
    else:
        d = np.diff(x) if ndim_of(x) == 1 else np.diff(np.moveaxis(x, axis, -1))
    return np.sum(d * (y[..., 1:] + y[..., :-1]) / 2.0, axis=-1)


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Piecewise linear: which piece a point lies in is a decision."""
    if period is not None:
        if not period:
            raise ValueError("period must be a non-zero value")
        period = np.abs(period)
        x, xp = np.remainder(x, period), np.remainder(xp, period)
        order = np.argsort(xp)
        xp, fp = xp[order], fp[order] if is_traced(fp) else np.asarray(fp)[order]
        xp = np.concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = np.concatenate([fp[-1:], fp, fp[:1]])
    n = len(xp)
    if n != np.size(fp):
        raise ValueError("fp and xp are not of the same length.")
    if not n:
        raise ValueError("array of sample points is empty")
    at = (
        np.clip(searchsorted(xp, x, "right") - 1, 0, max(n - 2, 0))
        if is_traced(x) or is_traced(xp)
        else np.clip(np.searchsorted(xp, x, "right") - 1, 0, max(n - 2, 0))
    )
    rec = recorder_of((x, xp, fp))
    x, xp, fp = (t.astype(float) if is_boolean(t) and ndim_of(t) else t for t in (x, xp, fp))
    x, xp, fp = (number(rec, t, "interp") for t in (x, xp, fp))
    if n == 1:
        inside = fp[at] + 0.0 * x
    else:
        inside = fp[at] + (fp[at + 1] - fp[at]) / (xp[at + 1] - xp[at]) * (x - xp[at])
    low, high = fp[0] if left is None else left, fp[-1] if right is None else right
    return np.where(np.less(x, xp[0]), low, np.where(np.greater(x, xp[-1]), high, inside))


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Any:
    if axisa == axisb == axisc == -1 and axis is None and shape_of(a) == shape_of(b) == (3,):
        (a0, a1, a2), (b0, b1, b2) = (x if is_traced(x) else np.asarray(x).tolist() for x in (a, b))
        return recorder_of((a, b)).array_of([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])
    if axis is not None:
        axisa = axisb = axisc = axis
    a, b = np.moveaxis(a, axisa, -1), np.moveaxis(b, axisb, -1)

    def part(x: Any, k: int) -> Any:
        return x[..., k] if k < shape_of(x)[-1] else 0.0

    if not {shape_of(a)[-1], shape_of(b)[-1]} <= {2, 3}:
        raise ValueError("incompatible dimensions for cross product\n(dimension must be 2 or 3)")
    if shape_of(a)[-1] == shape_of(b)[-1] == 2:
        return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    parts = [part(a, i) * part(b, j) - part(a, j) * part(b, i) for i, j in ((1, 2), (2, 0), (0, 1))]
    return np.moveaxis(np.stack(np.broadcast_arrays(*parts), axis=-1), -1, axisc)


def around(x: Any, decimals: int = 0, out: Any = None) -> Any:
    return into(out, np.rint(x) if decimals == 0 else np.rint(x * 10.0**decimals) / 10.0**decimals)


_SINC_SERIES = np.cumprod([1.0, *(-1.0 / (2 * k * (2 * k + 1)) for k in range(1, 10))])[::-1]  # of y^2, to |y| = 1


def sinc(x: Any) -> Any:
    """sin(y) / y, y = pi x; within |y| < 1 its series, since the quotient's derivatives cancel near 0."""
    y = np.pi * x
    near = np.less(np.abs(y), 1.0)
    far = np.where(near, 1.0, y)
    quotient = np.sin(far) / far
    if not np.any(plain(near)):
        decide(near)
        return quotient
    return np.where(near, np.polyval(_SINC_SERIES, np.square(np.where(near, y, 0.0))), quotient)


_I0_SERIES = np.cumprod([1.0, *(1.0 / k**2 for k in range(1, 41))])[::-1]  # of x^2 / 4, to |x| = 20
_I0_ASYMPTOTIC = np.cumprod([1.0, *((2 * k - 1) ** 2 / (8.0 * k) for k in range(1, 33))])[::-1]  # of 1 / x, beyond


def i0(x: Any) -> Any:
    """The modified Bessel function of order 0: its series, and for large arguments its asymptotic expansion (Abramowitz
    and Stegun, 9.6.12 and 9.7.1)."""
    size = np.abs(x)
    far = np.greater(size, 20.0)
    near = np.polyval(_I0_SERIES, np.square(0.5 * np.where(far, 1.0, x)))
    if not np.any(plain(far)):
        decide(far)
        return near
    large = np.where(far, size, 20.0)
    beyond = np.exp(large) / np.sqrt(2.0 * np.pi * large) * np.polyval(_I0_ASYMPTOTIC, 1.0 / large)
    return np.where(far, beyond, near)


def angle(z: Any, deg: bool = False) -> Any:
    """Of real numbers: 0 or pi."""
    result = np.arctan2(0.0, z)
    return result * (180.0 / np.pi) if deg else result


def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 2.0 * np.pi) -> Any:
    """Jumps of more than half a period are taken out, whole periods at a time."""
    p = traced_array(p) if is_traced(p) else np.asarray(p, dtype=float)
    steps = np.diff(p, axis=axis)
    axis = axes_of(axis, p.ndim)[0]
    half = period / 2
    wrapped = np.mod(steps + half, period) - half
    wrapped = np.where(np.logical_and(np.equal(wrapped, -half), np.greater(steps, 0.0)), half, wrapped)
    correction = np.where(np.less(np.abs(steps), half if discont is None else discont), 0.0, wrapped - steps)
    before = (slice(None),) * axis
    rest = p[before + (slice(1, None),)] + np.cumsum(correction, axis=axis)
    return laid(np.concatenate([p[before + (slice(0, 1),)], rest], axis=axis), np.empty(p.shape))


def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    top = np.finfo(float).max
    result = np.where(np.isnan(x), nan, x)
    result = np.where(np.equal(x, np.inf), top if posinf is None else posinf, result)
    result = np.where(np.equal(x, -np.inf), -top if neginf is None else neginf, result)
    if not copy:
        assign(x, result)
        return x
    return result


def select(conditions: Any, choices: Any, default: Any = 0) -> Any:
    if len(conditions) != len(choices):
        raise ValueError("list of cases must be same length as list of conditions")
    result = default
    for condition, choice in list(zip(conditions, choices))[::-1]:
        result = np.where(condition, choice, result)
    return result


def kron(a: Any, b: Any) -> Any:
    ndim = max(ndim_of(a), ndim_of(b))
    a, b = (np.reshape(x, (1,) * (ndim - ndim_of(x)) + shape_of(x)) for x in (a, b))
    left, right = shape_of(a), shape_of(b)
    spread_a = np.reshape(a, tuple(n for k in left for n in (k, 1)))
    spread_b = np.reshape(b, tuple(n for k in right for n in (1, k)))
    return np.reshape(spread_a * spread_b, tuple(m * n for m, n in zip(left, right)))


def _like(value: float | None) -> Callable[..., Any]:
    def like(x: Any, *args: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None) -> Any:
        if value is None:
            fill, args = args[0], args[1:]
        else:
            fill = value
        x = traced_array(x)
        dtype = args[0] if args else dtype
        if dtype is None and is_boolean(x):
            dtype = bool
        if dtype is not None and np.dtype(dtype).kind != "f":
            return _full_like(x.nd, written(fill, dtype), dtype, order, shape=shape)
        first = 0.0 if is_traced(fill) else fill
        result = x.rec.array_of(_full_like(x.window, first, np.float64, order, shape=shape))
        if is_traced(fill):
            result[...] = fill
        return result

    return like


def full_like(
    x: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None
) -> Any:
    if is_traced(x):
        return _like(None)(x, fill_value, dtype=dtype, order=order, shape=shape)
    kind = np.dtype(x.dtype if dtype is None else dtype)
    if kind.kind in "iub":
        return _full_like(x, written(fill_value, kind), kind, order, shape=shape)
    result = fill_value.rec.array_of(np.zeros_like(x, np.float64, order, shape=shape))
    result[...] = fill_value
    return result


def _asked_of_values(function: Callable[..., Any]) -> Callable[..., Any]:
    """Functions whose answer rests on shapes and types only."""

    def ask(*args: Any, **kwargs: Any) -> Any:
        return function(*(as_plain(x) if type(x) is TracedArray else x.__class__(x.v) if is_traced(x) else x
                          for x in args), **kwargs)

    return ask


def _printed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Functions that print."""
    ask = _asked_of_values(function)
    return lambda *args, **kwargs: text_of(ask(*args, **kwargs))


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.clip: clip,
    np.diff: diff,
    np.gradient: gradient,
    np.interp: interp,
    np.cross: cross,
    np.around: around,
    np.sinc: sinc,
    np.nan_to_num: nan_to_num,
    np.select: select,
    np.kron: kron,
    np.zeros_like: _like(0.0),
    np.empty_like: _like(0.0),
    np.ones_like: _like(1.0),
    np.full_like: full_like,
    np.imag: lambda x: np.zeros(shape_of(x)),
    np.i0: i0,
    np.angle: angle,
    np.unwrap: unwrap,
    np.fix: lambda x, out=None: into(out, np.trunc(x), True),
    np.real_if_close: lambda x, tol=100: x,
    np.isreal: lambda x: np.ones(shape_of(x), dtype=bool),
    np.iscomplex: lambda x: np.zeros(shape_of(x), dtype=bool),
    np.isposinf: lambda x, out=None: into(out, np.equal(x, np.inf), True),
    np.isneginf: lambda x, out=None: into(out, np.equal(x, -np.inf), True),
    **{
        function: _asked_of_values(function)
        for function in (
            np.shape,
            np.ndim,
            np.size,
            np.iscomplexobj,
            np.isrealobj,
            np.result_type,
            np.common_type,
            np.may_share_memory,
            np.shares_memory,
            np.can_cast,
            np.min_scalar_type,
            np.einsum_path,
            np.isfortran,
            np.diag_indices_from,
            np.tril_indices_from,
            np.triu_indices_from,
        )
    },
    **{function: _printed(function) for function in (np.array_repr, np.array_str, np.array2string)},
}
for _name in ("round", "round_"):
    if hasattr(np, _name):
        FUNCTIONS.setdefault(getattr(np, _name), around)
for _name in ("trapz", "trapezoid"):
    if hasattr(np, _name):
        FUNCTIONS[getattr(np, _name)] = trapezoid
if "asfarray" in vars(np):  # gone in NumPy 2
    FUNCTIONS[vars(np)["asfarray"]] = lambda x, dtype=float: x
