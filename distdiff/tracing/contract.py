"""Products that sum: dot, matmul, inner, outer, tensordot, einsum.

Each is one MULTIPLY statement over the free and the contracted axes, whose result stands still along the
contracted ones; the values come from NumPy's own product, nothing of the iteration space is materialised.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np

from ..ops import MULTIPLY
from ..strided import contract
from ..tape import Affine, Const, Operand, c_strides
from . import memory, sparse
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
    owning,
    read_values,
    shape_of,
    single,
)
from .boxes import Index
from .indexing import into
from .layout import laid
from .recorder import Recorder
from .reductions import in_order, traced_array
from .ufuncs import number, recorder_of, require_floats
from .usual import binary, product

Axes = tuple[int, ...]  # of the iteration space, one for each axis of an operand
_dot = np.dot  # NumPy's own, whatever is substituted meanwhile
INTO = (np.matmul, _dot)  # of one or two axes each their results are in C order, and can be written into `out`


def _operand(rec: Recorder, x: Any, name: str) -> Any:
    if type(x) is TracedArray:
        if x.st.rec is rec and rec.open:  # the usual cases
            return x
    elif type(x) is np.ndarray and x.dtype.char == "d":
        return x
    x = number(rec, x, name)
    return traced_array(x) if is_traced(x) else x if type(x) is np.ndarray else np.asarray(x)


def _values(x: Any) -> np.ndarray:
    return x.nd if type(x) is TracedArray else x


def _spread(rec: Recorder, x: Any, axes: Axes, shape: Index) -> Operand:
    """x over the iteration space: its axis k runs along axes[k], it stands still along the others."""
    if type(x) is TracedArray:
        window = x.window
        if window is x.st.buffer and x.st.block >= 0 and not rec.capturing and 1 not in window.shape:
            return Affine(x.st.block, 0, _along(c_strides(window.shape), axes, len(shape)))
        lowered = x.st.lower(window, window.shape)
        if type(lowered) is Affine:  # the usual case, without views
            strides = lowered.strides
            if 1 in window.shape:  # an axis of length 1 may run along a longer one
                strides = tuple([s if n > 1 else 0 for s, n in zip(strides, window.shape)])
            return Affine(lowered.block, lowered.offset, _along(strides, axes, len(shape)))
    elif x.ndim:
        values = rec.snapshot(x)
        if values.flags.c_contiguous and x.size > 1:
            strides = tuple([s if n > 1 else 0 for s, n in zip(values.strides, values.shape)])
            return Const(np.ndarray(shape, np.float64, values, 0, _along(strides, axes, len(shape))))
    order = sorted(range(len(axes)), key=axes.__getitem__)
    at = tuple(slice(None) if k in axes else np.newaxis for k in range(len(shape)))
    if type(x) is TracedArray:
        return single(rec, TracedArray(x.st, x.nd.transpose(order)[at]), shape)
    if not x.ndim:
        return Const(float(x))
    return Const(np.broadcast_to(rec.snapshot(x).transpose(order)[at], shape))


@lru_cache(maxsize=4096)
def _along(strides: Index, axes: Axes, ndim: int) -> Index:
    """The strides of an operand over the iteration space."""
    spread = [0] * ndim
    for step, axis in zip(strides, axes):
        spread[axis] = step
    return tuple(spread)


@lru_cache(maxsize=4096)
def _space(a_shape: Index, b_shape: Index, a_axes: Axes, b_axes: Axes, free: int) -> tuple[Index, Index]:
    """The iteration space, and the strides over it of a result in C order."""
    lengths: dict[int, int] = {}
    for x_shape, axes in ((a_shape, a_axes), (b_shape, b_axes)):
        for k, n in zip(axes, x_shape):
            known = lengths.setdefault(k, n)
            if known == 1:
                lengths[k] = n
            elif n not in (1, known):
                raise ValueError(f"operands of shapes {a_shape} and {b_shape} don't fit: axes that run together have "
                                 f"lengths {known} and {n}")
    shape = tuple([lengths[k] for k in range(len(lengths))])
    return shape, c_strides(shape[:free]) + (0,) * (len(shape) - free)


def contraction(
    a: Any, b: Any, a_axes: Axes, b_axes: Axes, free: int, function: Callable[..., Any] | None, name: str
) -> Any:
    """sum over the axes >= free of a[a_axes] * b[b_axes]; `function(a, b)` computes the values, of the free
    axes' shape (None: as matrix products, by BLAS)."""
    rec = recorder_of((a, b))
    a, b = _operand(rec, a, name), _operand(rec, b, name)
    if is_boolean(a) and is_boolean(b):  # NumPy joins truths by "and", their products by "or"
        return np.not_equal(contraction(a.astype(float), b.astype(float), a_axes, b_axes, free, function, name), 0.0)
    if function is None:
        def function(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return _contracted(x, y, a_axes, b_axes, free)
    if constant(a) and constant(b):
        return of_constants(rec, function(as_plain(a), as_plain(b)))
    x, y = _values(a), _values(b)
    try:
        shape, strides = _space(x.shape, y.shape, a_axes, b_axes, free)
    except ValueError:
        function(x, y)  # says it in NumPy's words
        raise
    if free <= 2 and function in INTO and 0 not in shape and prod(shape[:free]) >= memory.LARGE:
        values = rec.empty(shape[:free])  # memory that was used before, where NumPy would take fresh pages
        function(x, y, out=values)
    else:
        values = np.asarray(function(x, y), dtype=np.float64)
    if 0 in shape:
        return of_constants(rec, np.zeros(shape[:free])[()])
    back = None
    if free > 1 and not values.flags.c_contiguous:
        values, strides, back = in_order(rec, values, range(free), len(shape))
    refs = (_spread(rec, a, a_axes, shape), _spread(rec, b, b_axes, shape))
    if rec.sparing:
        read_values(MULTIPLY, (a, b))
    result = fresh(rec, values, rec.emit(MULTIPLY, shape, refs, values, strides))
    return result if back is None else owning(result.transpose(back))


def _contracted(x: np.ndarray, y: np.ndarray, x_axes: Axes, y_axes: Axes, free: int) -> np.ndarray:
    shape, _ = _space(x.shape, y.shape, x_axes, y_axes, free)
    values = memory.empty(prod(shape[:free])).reshape(shape[:free])
    if 0 not in shape:
        core = [_core(np.asarray(v, dtype=np.float64), axes, len(shape)) for v, axes in ((x, x_axes), (y, y_axes))]
        contract(values.reshape(shape[:free] + (1,) * (len(shape) - free)), *core, shape)
    return values


def _core(x: np.ndarray, axes: Axes, ndim: int) -> np.ndarray:
    """A view of x over the iteration space, with length 1 along the axes that it does not have."""
    return x.transpose(sorted(range(len(axes)), key=axes.__getitem__))[
        tuple([slice(None) if k in axes else np.newaxis for k in range(ndim)])]


def dot(a: Any, b: Any, out: Any = None) -> Any:
    if out is None and _arrays(a, b):
        result = product(a, b, _dot)
        if result is not NotImplemented:
            return result
    m, n = ndim_of(a), ndim_of(b)
    if m == 0 or n == 0:
        return into(out, np.multiply(a, b))
    return into(out, contraction(a, b, *_dot_axes(m, n), _dot, "dot"))


def _arrays(a: Any, b: Any) -> bool:
    """Whether these are a traced array and another, or one of the user's."""
    return type(a) is TracedArray and (type(b) is TracedArray or type(b) is np.ndarray) or (
        type(a) is np.ndarray and type(b) is TracedArray)


@cache
def _dot_axes(m: int, n: int) -> tuple[Axes, Axes, int]:
    free = m + n - 2
    b_axes = list(range(m - 1, free))
    b_axes.insert(max(n - 2, 0), free)
    return (*range(m - 1), free), tuple(b_axes), free


def matmul(a: Any, b: Any, axes: Any = None) -> Any:
    if axes is not None:
        return _along_axes(a, b, *axes)
    if _arrays(a, b):
        result = product(a, b, np.matmul)
        if result is not NotImplemented:
            return result
    if hasattr(b, "tocsr"):  # SciPy's sparse matrices
        return np.transpose(sparse.product(b.T, np.transpose(a)))
    m, n = ndim_of(a), ndim_of(b)
    if m == 0 or n == 0:
        raise ValueError("matmul: Input operand does not have enough dimensions (a scalar): use * instead")
    if m <= 2 and n <= 2:
        return contraction(a, b, *_matmul_axes(m, n), np.matmul, "matmul")
    if n == 1 or m == 1:
        return dot(a, b) if n == 1 else np.matmul(np.reshape(a, (1, -1)), b)[..., 0, :]
    batch = max(m, n) - 2
    free = batch + 2
    a_axes = (*range(batch - (m - 2), batch), batch, free)
    b_axes = (*range(batch - (n - 2), batch), free, batch + 1)
    return contraction(a, b, a_axes, b_axes, free, np.matmul, "matmul")


def _along_axes(a: Any, b: Any, a_axes: Any, b_axes: Any, axes: Any = ()) -> Any:
    """The product of matrices that lie along these axes, and is to lie along others."""
    places = [(k,) if isinstance(k, (int, np.integer)) else tuple(k) for k in (a_axes, b_axes, axes)]
    a, b = (np.moveaxis(x, k, range(-len(k), 0)) for x, k in zip((a, b), places))
    result = matmul(a, b)
    return np.moveaxis(result, range(-len(places[2]), 0), places[2]) if places[2] else result


@cache
def _matmul_axes(m: int, n: int) -> tuple[Axes, Axes, int]:
    free = m + n - 2
    return (*range(m - 1), free), (free,) if n == 1 else (free, m - 1), free


def inner(a: Any, b: Any) -> Any:
    m, n = ndim_of(a), ndim_of(b)
    if m == 0 or n == 0:
        return np.multiply(a, b)
    if m == n == 1:
        return dot(a, b)
    free = m + n - 2
    return contraction(a, b, (*range(m - 1), free), (*range(m - 1, free), free), free, np.inner, "inner")


def vdot(a: Any, b: Any) -> Any:
    return dot(np.ravel(a), np.ravel(b))


def outer(a: Any, b: Any, out: Any = None) -> Any:
    if out is None and type(a) is type(b) is TracedArray and a.window.ndim == b.window.ndim == 1:
        column, row = TracedArray(a.st, a.window[:, None], a.at), TracedArray(b.st, b.window[None], b.at)
        result = binary(MULTIPLY, column, row)
        if result is not NotImplemented:
            return result
    return into(out, np.multiply(np.reshape(a, (-1, 1)), np.reshape(b, (1, -1))))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    m, n = ndim_of(a), ndim_of(b)
    if isinstance(axes, (int, np.integer)):
        if axes > min(m, n):
            raise IndexError("tuple index out of range")
        a_sum, b_sum = list(range(m - axes, m)), list(range(axes))
    else:
        a_sum, b_sum = ([k] if isinstance(k, (int, np.integer)) else list(k) for k in axes)
    a_sum, b_sum = [k % m for k in a_sum], [k % n for k in b_sum]
    free = m + n - 2 * len(a_sum)
    a_axes, b_axes, next_axis = [0] * m, [0] * n, iter(range(free))
    for axis_list, ndim, summed in ((a_axes, m, a_sum), (b_axes, n, b_sum)):
        for k in range(ndim):
            if k not in summed:
                axis_list[k] = next(next_axis)
    for place, (k, j) in enumerate(zip(a_sum, b_sum)):
        a_axes[k] = b_axes[j] = free + place
    return contraction(a, b, tuple(a_axes), tuple(b_axes), free, lambda x, y: np.tensordot(x, y, (a_sum, b_sum)),
                       "tensordot")


def einsum(*operands: Any, out: Any = None, optimize: Any = False, **kwargs: Any) -> Any:
    """Any number of operands, two at a time; every result keeps the indices that are still wanted."""
    terms, result, arrays = _subscripts(operands)
    rec = recorder_of(arrays)
    require_floats(arrays, "numpy.einsum", kwargs.pop("dtype", None))
    in_c_order = kwargs.get("order") == "C"
    if kwargs.get("order", "K") not in ("K", "A", "C"):
        rec.unsupported("numpy.einsum with order='F'", "use np.asfortranarray on the result")
    arrays = [_operand(rec, x, "einsum") for x in arrays]
    if all(map(is_boolean, arrays)):
        numbers = [x.astype(float) for x in arrays]
        return into(out, np.not_equal(einsum(f"{','.join(terms)}->{result}", *numbers, optimize=optimize), 0.0))
    stack = [_diagonals(term, x) for term, x in zip(terms, arrays)]
    for group in _path(stack, result, optimize):
        chosen = [stack.pop(k) for k in sorted(group, reverse=True)][::-1]
        while len(chosen) > 1:
            (s, a), (t, b) = chosen[:2]
            others = {c for term, _ in (*chosen[2:], *stack) for c in term}
            last = not others and len(chosen) == 2 and not stack
            kept = result if last else "".join(c for c in dict.fromkeys(s + t) if c in result or c in others)
            chosen[:2] = [(kept, _pair(rec, s, a, t, b, kept))]
        stack.append(chosen[0])
    (term, x), = stack
    y = x if term == result else _alone(term, x, result)
    if len(terms) > 1 and type(y) is TracedArray and y.ndim > 1:
        small = np.einsum(f"{','.join(terms)}->{result}", *map(_small, arrays), optimize=optimize)
        order = memory_order(small)
        y = laid(y, np.empty([y.shape[k] for k in order]).transpose(np.argsort(order)))
    if in_c_order and type(y) is TracedArray:
        y = laid(y, np.empty(y.shape))
    return into(out, y)


def _subscripts(operands: tuple[Any, ...]) -> tuple[list[str], str, list[Any]]:
    """einsum's arguments in any of its forms as (one string of letters an operand, the result's, the operands)."""
    letters = string.ascii_letters
    if isinstance(operands[0], str):
        inputs, arrow, result = operands[0].replace(" ", "").partition("->")
        terms, arrays = inputs.split(","), list(operands[1:])
    else:  # operand, list of numbers, operand, list, ... [, the result's list]
        def term(numbers: Any) -> str:
            return "".join("..." if k is Ellipsis else letters[k] for k in numbers)

        arrays = list(operands[: len(operands) // 2 * 2 : 2])
        terms = [term(numbers) for numbers in operands[1 : len(operands) // 2 * 2 : 2]]
        arrow = len(operands) % 2
        result = term(operands[-1]) if arrow else ""
    if len(terms) != len(arrays):
        raise ValueError("einsum: the subscripts and the operands don't match in number")
    used = "".join(terms)
    free = [c for c in letters[::-1] if c not in used]
    ndim = 0
    for k, (x, term_) in enumerate(zip(arrays, terms)):
        if "..." in term_:
            n = ndim_of(x) - (len(term_) - 3)
            ndim = max(ndim, n)
            terms[k] = term_.replace("...", "".join(free[:n][::-1]))  # aligned at the last axis
        if len(terms[k]) != ndim_of(x):
            raise ValueError(f"einsum: operand {k} has {ndim_of(x)} axes, its subscripts {term_!r} name others")
    lost = set(result) - set(used) - {"."}
    if lost:
        raise ValueError(f"einstein sum subscripts string included output subscript {min(lost)!r} which never appeared "
                         "in an input")
    dots = "".join(free[:ndim][::-1])
    if not arrow:
        result = dots + "".join(sorted(c for c in set(used) - {"."} if used.count(c) == 1))
    return terms, result.replace("...", dots), arrays


def _path(stack: list[tuple[str, Any]], result: str, optimize: Any) -> list[tuple[int, ...]]:
    """Which operands to take together, one group after another; each result goes to the end."""
    if len(stack) < 3:
        return [tuple(range(len(stack)))]
    plain = [_values(x) for _, x in stack]
    path = np.einsum_path(f"{','.join(term for term, _ in stack)}->{result}", *plain, optimize=optimize or "greedy")[0]
    return path[1:]


def _small(x: Any) -> np.ndarray:
    """An array of no more than two elements an axis that has its axes in memory in the same order as x."""
    nd = _values(x) if isinstance(x, np.ndarray) else np.empty(shape_of(x))
    order = memory_order(nd)
    return np.zeros([min(nd.shape[k], 2) for k in order]).transpose(np.argsort(order))


def _diagonals(term: str, x: Any) -> tuple[str, Any]:
    """Repeated letters of one operand: a view of its diagonal, which NumPy makes one to write into as well."""
    writes = type(x) is TracedArray and x.window.flags.writeable
    for letter in term:
        while term.count(letter) > 1:
            i, j = term.index(letter), term.rindex(letter)
            if shape_of(x)[i] != shape_of(x)[j]:
                raise ValueError(f"dimensions in operand for collapsing index {letter!r} don't match "
                                 f"({shape_of(x)[i]} != {shape_of(x)[j]})")
            x = np.diagonal(x, axis1=i, axis2=j)
            term = term[:i] + term[i + 1 : j] + term[j + 1 :] + letter
            if writes:
                x.window.setflags(write=True)
    return term, x


def _pair(rec: Recorder, s: str, a: Any, t: str, b: Any, kept: str) -> Any:
    if not is_traced(a) and not is_traced(b):
        return np.einsum(f"{s},{t}->{kept}", a, b)
    order = kept + "".join(c for c in dict.fromkeys(s + t) if c not in kept)
    return contraction(
        a,
        b,
        tuple([order.index(c) for c in s]),
        tuple([order.index(c) for c in t]),
        len(kept),
        None,
        "einsum",
    )


def _alone(term: str, x: Any, result: str) -> Any:
    summed = tuple(k for k, c in enumerate(term) if c not in result)
    left = [c for c in term if c in result]
    if summed:
        x = np.sum(x, axis=summed)
    return np.transpose(x, [left.index(c) for c in result]) if len(left) > 1 else x


def vecdot(a: Any, b: Any, axis: int = -1, keepdims: bool = False) -> Any:
    a, b = (np.moveaxis(x, axis, -1) if ndim_of(x) > 1 else x for x in (a, b))
    result = einsum("...i,...i->...", a, b)
    return np.expand_dims(result, axis) if keepdims else result


GUFUNCS: dict[np.ufunc, Callable[..., Any]] = {np.matmul: matmul}
for _name, _rule in {"vecdot": vecdot, "matvec": lambda a, x: einsum("...ij,...j->...i", a, x),
                     "vecmat": lambda x, a: einsum("...i,...ij->...j", x, a)}.items():
    if hasattr(np, _name):  # of NumPy 2
        GUFUNCS[getattr(np, _name)] = _rule

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.dot: dot,
    np.inner: inner,
    np.vdot: vdot,
    np.outer: outer,
    np.tensordot: tensordot,
    np.einsum: einsum,
}

__all__ = ["FUNCTIONS", "GUFUNCS", "dot", "matmul"]
