"""NumPy's functions of complex arrays: what moves elements or is linear is done to both parts, others are formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import composed, decisions, movement, polynomials
from ..array import TracedArray, is_traced, plain, shape_of
from ..domains import FUNCTIONS as DOMAINS
from ..indexing import into
from ..joining import FUNCTIONS as REAL_JOINING
from ..movement import FUNCTIONS as REAL_MOVEMENT
from ..padding import FUNCTIONS as REAL_PADDING
from ..recorder import Recorder
from ..reductions import axes_of, begun, masked
from ..text import text_of
from ..ufuncs import recorder_of
from .array import (
    DTYPE,
    ComplexArray,
    complex_within,
    computed,
    elements,
    is_complex,
    is_traced_complex,
    parts_of,
)
from .formulas import angle as angle_of
from .linalg import FUNCTIONS as LINALG
from .linalg import singular_values
from .order import FUNCTIONS as ORDER
from .parts import constant_zeros
from .products import FUNCTIONS as PRODUCTS
from .statistics import FUNCTIONS as STATISTICS


def array_of(rec: Recorder, values: Any) -> ComplexArray:
    """Any complex number or array, nested lists of them, or a real traced one, as a complex array of its own."""
    values = rec.array_of(values) if isinstance(values, (list, tuple)) else values
    re, im = parts_of(values, rec)
    return _array(computed(rec, re, im, _parts(values), shape_of(values)))


def _parts(x: Any) -> tuple[Any, ...]:
    return (x.re, x.im) if is_traced_complex(x) else (x,) if type(x) is TracedArray else ()


def _array(x: Any) -> ComplexArray:
    if type(x) is ComplexArray:
        return x
    return x.as_array() if is_traced_complex(x) else np.asarray(x)


# -- both parts alike


def _split(x: Any, imaginary: bool) -> Any:
    """One part of all that is a value in nested lists."""
    if isinstance(x, (list, tuple)):
        return type(x)(_split(part, imaginary) for part in x)
    if is_complex(x):
        part = x.imag if imaginary else x.real
        return part if not isinstance(part, np.ndarray) or is_traced(part) else np.array(part)
    if not imaginary or x is None or isinstance(x, str) or x is np._NoValue:
        return x
    if type(x) is TracedArray:
        return constant_zeros(x.rec, x.window)
    return np.zeros(shape_of(x))[()]


def _united(rec: Recorder, re: Any, im: Any) -> Any:
    if isinstance(re, (list, tuple)):
        return type(re)(_united(rec, a, b) for a, b in zip(re, im))
    if isinstance(re, np.ndarray) != isinstance(im, np.ndarray):  # a number, of which a part is constant
        re, im = (x.scalar() if type(x) is TracedArray and not x.ndim else x for x in (re, im))
    return None if re is None else elements(rec, re, im)


def _of_values(tree: Any) -> list[Any]:
    if isinstance(tree, (list, tuple)):
        return [x for part in tree for x in _of_values(part)]
    return [tree]


def lifted(function: Callable[..., Any], *values: int | str) -> Callable[..., Any]:
    """A function that is linear in its arguments `values` (by place or name; default: the first), of both parts."""
    values = values or (0,)

    def call(*args: Any, **kwargs: Any) -> Any:
        given_values = [args[k] for k in values if isinstance(k, int) and k < len(args)]
        given_values += [kwargs[k] for k in values if k in kwargs]
        traced = [x for x in _of_values(given_values) if is_traced(x) or is_traced_complex(x)]
        rec = traced[0].rec if traced else recorder_of([x for x in _of_values([*args, *kwargs.values()])])
        out = kwargs.pop("out", None)
        others = [x for k, x in enumerate(args) if k not in values], [x for k, x in kwargs.items() if k not in values]
        if complex_within(others):
            rec.unsupported(f"numpy.{function.__name__} with complex numbers in that place",
                            "only what it is linear in may be complex here")
        parts = [
            function(*(_split(x, imaginary) if k in values else x for k, x in enumerate(args)),
                     **{name: _split(x, imaginary) if name in values else x for name, x in kwargs.items()})
            for imaginary in (False, True)
        ]
        return into(out, _united(rec, *parts))

    return call


def padded(x: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if mode in ("maximum", "minimum", "median"):
        recorder_of((x,)).unsupported(f"numpy.pad of complex numbers with mode={mode!r}", "np.concatenate joins what "
                                      "np.max, np.min or np.median of a part gives")
    return lifted(np.pad, 0, "constant_values", "end_values")(x, pad_width, mode, **kwargs)


# -- reductions


def _summed(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, **kwargs: Any) -> Any:
        rec = recorder_of(_of_values([x, *args, *kwargs.values()]))
        if dtype is not None and dtype is not np._NoValue and np.dtype(dtype).kind != "c":
            rec.unsupported(f"numpy.{function.__name__} of complex numbers with dtype={np.dtype(dtype)}",
                            "take real and imaginary parts")
        return into(out, lifted(function, 0, "initial")(x, axis, None, None, *args, **kwargs))

    return call


def product(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
            where: Any = None) -> Any:
    """By halving: log2(n) multiplications of whole arrays."""
    if dtype is not None and dtype is not np._NoValue and np.dtype(dtype).kind != "c":
        recorder_of((x,)).unsupported(f"numpy.prod of complex numbers with dtype={np.dtype(dtype)}",
                                      "take real and imaginary parts")
    x = masked(x, where, 1.0)
    axes = axes_of(axis, x.ndim)
    kept = tuple(n for k, n in enumerate(x.shape) if k not in axes)
    rest = [k for k in range(x.ndim) if k not in axes]
    flat = x.transpose(rest + list(axes)).reshape(kept + (prod(x.shape[k] for k in axes),))
    if not flat.shape[-1]:
        flat = array_of(x.rec, np.ones((*kept, 1), dtype=complex))
    while (n := flat.shape[-1]) > 1:
        pairs = flat[..., : n // 2] * flat[..., n // 2 : n // 2 * 2]
        flat = np.concatenate([pairs, flat[..., n // 2 * 2 :]], axis=-1) if n % 2 else pairs
    result = flat[..., 0]
    result = result.copy() if kept else result[()]
    result = result * initial if begun(initial) else result
    if keepdims and keepdims is not np._NoValue:
        result = np.reshape(result, tuple(1 if k in axes else n for k, n in enumerate(x.shape)))
    return into(out, result)


def cumulative_product(x: Any, axis: int | None = None, dtype: Any = None, out: Any = None) -> Any:
    """By doubling: log2(n) statements."""
    if axis is None or not x.ndim:
        x, axis = np.reshape(x, -1), axis or 0
    moved = np.moveaxis(x, axis, -1)
    step = 1
    while step < moved.shape[-1]:
        moved = np.concatenate([moved[..., :step], moved[..., step:] * moved[..., :-step]], axis=-1)
        step *= 2
    return into(out, np.moveaxis(moved, -1, axis).copy())


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    axes = axes_of(axis, x.ndim)
    if ord in (None, "fro", "f") or ord == 2 and len(axes) == 1:
        total = sum(np.sum(np.square(part), axis=axes, keepdims=keepdims) for part in (x.re, x.im))
        return np.sqrt(total)
    if len(axes) == 2 and ord in (2, -2, "nuc"):
        s = singular_values(np.moveaxis(x, axes, (-2, -1)))
        result = np.sum(s, -1) if ord == "nuc" else s[..., 0 if ord == 2 else -1]
        return np.expand_dims(result, axes) if keepdims else result
    return np.linalg.norm(np.abs(x), ord, axis, keepdims)


# -- questions, choices, new arrays


def _truth(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, *args, **kwargs: function(np.not_equal(x, 0.0), *args, **kwargs)


def angle(z: Any, deg: bool = False) -> Any:
    result = angle_of(parts_of(z, z.rec, signed=True))
    return result * (180.0 / np.pi) if deg else result


def real_if_close(x: Any, tol: float = 100) -> Any:
    """Whether it is real is a decision."""
    close = tol * np.finfo(DTYPE).eps if tol > 1 else tol
    return x.real if bool(np.all(np.less(np.absolute(x.imag), close))) else x


def poly(zeros: Any) -> Any:
    """Real where the zeros (of a matrix, its eigenvalues) are pairs of conjugates at this point, as NumPy has it."""
    found = polynomials.poly(zeros)
    if not is_complex(found):
        return found
    re, im = parts_of(np.atleast_1d(zeros), recorder_of((zeros,)))
    values = (0.0 if re is None else plain(re)) + 1j * (0.0 if im is None else plain(im))
    values = np.sort_complex(np.linalg.eigvals(values) if np.ndim(values) == 2 else values)
    return found.real if np.array_equal(values, np.sort_complex(values.conj())) else found


def select(conditions: Any, choices: Any, default: Any = 0) -> Any:
    return composed.select(conditions, choices, default)


def _like(value: Any) -> Callable[..., Any]:
    def like(x: Any, *args: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None) -> Any:
        fill, args = (args[0], args[1:]) if value is None else (value, args)
        dtype = np.dtype((args[0] if args else dtype) or x.dtype)
        rec = recorder_of((x, fill))
        stand_in = x.re.nd if type(x) is ComplexArray else np.empty(()) if is_traced_complex(x) else (
            x.nd if type(x) is TracedArray else np.empty(shape_of(x)))
        if dtype.kind != "c":
            if is_complex(fill):
                fill = float(fill) if not is_traced_complex(fill) else rec.unsupported(
                    f"numpy.full_like of a complex value with dtype={dtype}", "take its real part")
            result = np.full_like(stand_in, 0.0 if is_traced(fill) else fill, dtype, order, shape=shape)
            result = rec.array_of(result) if dtype.kind == "f" else result
        else:
            zeros = constant_zeros(rec, np.empty_like(stand_in, np.float64, order, shape=shape))
            result = ComplexArray(zeros, constant_zeros(rec, zeros.window))
        if dtype.kind == "c" or is_traced(fill):
            result[...] = fill
        return result

    return like


def _asked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Functions whose answer rests on shapes and types only, or that print."""

    def plain(x: Any, values: bool) -> Any:
        if is_traced_complex(x):
            return x.plain_values() if values else np.broadcast_to(DTYPE.type(0), x.shape)
        return (x.nd if type(x) is TracedArray else x.v) if is_traced(x) else x

    if function in (np.array_repr, np.array_str, np.array2string):
        return lambda *args, **kwargs: text_of(function(*(plain(x, True) for x in args), **kwargs))
    return lambda *args, **kwargs: function(*(plain(x, False) for x in args), **kwargs)


def _sharing(function: Callable[..., Any]) -> Callable[..., Any]:
    def windows(x: Any) -> list[Any]:
        return [x.re.window, x.im.window] if type(x) is ComplexArray else [x.window if type(x) is TracedArray else x]

    return lambda a, b, *args: any(function(x, y, *args) for x in windows(a) for y in windows(b))


def _each(function: Callable[..., Any]) -> Callable[..., Any]:
    """Functions that turn every one of their arguments into an array of its own."""

    def call(*arrays: Any, **kwargs: Any) -> Any:
        results = [lifted(function)(x, **kwargs) if is_traced_complex(x) else function(x, **kwargs) for x in arrays]
        return results if len(results) > 1 else results[0]

    return call


def broadcast_arrays(*arrays: Any, subok: bool = False) -> list[Any]:
    shape = np.broadcast_shapes(*map(shape_of, arrays))
    return [np.broadcast_to(x, shape) for x in arrays]


def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    return lifted(np.interp, 2, 3, 4)(x, xp, fp, left, right, period)


def logspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0, dtype: Any = None,
             axis: int = 0) -> Any:
    return np.power(base, np.linspace(start, stop, num, endpoint=endpoint, axis=axis))


_MOVING: Sequence[Callable[..., Any]] = [
    function for function in (*REAL_MOVEMENT, *REAL_JOINING, *REAL_PADDING)
    if function not in (np.real, np.concatenate, np.append, np.insert, np.broadcast_arrays, np.meshgrid, np.ix_,
                        np.atleast_1d, np.atleast_2d, np.atleast_3d, np.compress, np.pad)]


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    **{function: lifted(function) for function in _MOVING},
    **{function: lifted(function, *values) for function, values in {
        np.concatenate: (0,), np.append: (0, 1), np.insert: (0, 2), np.compress: (1,),
        np.copyto: (0, 1), np.put: (0, 2), np.place: (0, 2), np.putmask: (0, 2), np.fill_diagonal: (0, 1),
        np.put_along_axis: (0, 2), np.where: (1, 2), np.choose: (1,),
        np.diff: (0, "prepend", "append"), np.gradient: (0,), np.around: (0,), np.nan_to_num: (0,),
        np.ediff1d: (0, "to_end", "to_begin"), np.trace: (0,),
    }.items()},
    np.pad: padded,
    np.sum: _summed(np.sum), np.mean: _summed(np.mean), np.cumsum: _summed(np.cumsum),
    np.prod: product, np.cumprod: cumulative_product,
    np.linalg.norm: norm,
    np.real: lambda x: x.real, np.imag: lambda x: x.imag, np.angle: angle, np.real_if_close: real_if_close,
    np.isreal: lambda x: np.equal(x.imag, 0.0), np.iscomplex: lambda x: np.not_equal(x.imag, 0.0),
    np.iscomplexobj: lambda x: True, np.isrealobj: lambda x: False,
    np.sinc: composed.sinc, np.polyval: polynomials.polyval, np.poly: poly, np.select: select, np.interp: interp,
    np.isclose: decisions.isclose, np.allclose: decisions.allclose, np.array_equal: decisions.array_equal,
    np.array_equiv: decisions.array_equiv,
    **{function: _truth(function) for function in (np.any, np.all, np.count_nonzero, np.nonzero, np.flatnonzero,
                                                  np.argwhere)},
    np.zeros_like: _like(0.0), np.empty_like: _like(0.0), np.ones_like: _like(1.0), np.full_like: _like(None),
    **{function: _asked(function) for function in (
        np.shape, np.ndim, np.size, np.result_type, np.common_type, np.can_cast, np.min_scalar_type, np.isfortran,
        np.array_repr, np.array_str, np.array2string, np.diag_indices_from, np.tril_indices_from,
        np.triu_indices_from)},
    **{function: _sharing(function) for function in (np.may_share_memory, np.shares_memory)},
    **{function: _each(function) for function in (np.atleast_1d, np.atleast_2d, np.atleast_3d)},
    np.broadcast_arrays: broadcast_arrays, np.meshgrid: movement.meshgrid,
    np.linspace: lifted(np.linspace, 0, 1, "start", "stop"), np.logspace: logspace, np.resize: lifted(np.resize),
    **PRODUCTS, **LINALG, **ORDER, **STATISTICS, **DOMAINS,
}
for _name in ("round", "round_"):
    if hasattr(np, _name):
        FUNCTIONS.setdefault(getattr(np, _name), FUNCTIONS[np.around])
for _name in ("trapz", "trapezoid"):
    if hasattr(np, _name):
        FUNCTIONS[getattr(np, _name)] = lifted(getattr(np, _name))

__all__ = ["FUNCTIONS", "array_of", "lifted"]
