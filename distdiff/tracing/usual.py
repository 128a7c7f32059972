"""The usual operations, recorded with no more work than that takes.

An operator, ufunc or function comes here first.  Where its operands are arrays in C order that depend on the inputs,
numbers and constants, it is recorded at once, the same statement as by the general way (`array.elementwise` and its
kin); anything else is answered NotImplemented, and goes there.  On small arrays finding out what operands could be
otherwise takes most of the time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..ops import BY_NAME, COPY, MULTIPLY, Op
from ..tape import Affine, Const, Operand, c_strides
from . import memory
from .array import TracedArray, read_values, recorded, scalar_of
from .boxes import Index, Piece
from .recorder import Recorder
from .scalar import BOOLEAN_OPS
from .storage import Storage

_empty, _choose = np.empty, np.where  # NumPy's own, whatever is substituted meanwhile
_new = object.__new__
_WHERE, _SQUARE, _ABSOLUTE, _HYPOT = (BY_NAME[name] for name in ("where", "square", "absolute", "hypot"))


def unary(op: Op, a: TracedArray) -> Any:
    """op of an array."""
    st, nd = a.st, a.window
    rec, shape = st.rec, nd.shape
    ref = _carrier(a, rec, shape)
    if ref is None:
        return NotImplemented
    if op is _SQUARE and rec.modulus is not None and rec.modulus[0] == st.block and nd is st.buffer and _unchanged(rec):
        return _squared(rec)
    if op is _ABSOLUTE:
        rec.modulus = len(rec.firsts) + bool(rec.run), ((a, ref),)
    if nd.size >= memory.LARGE:
        return recorded(rec, op, (a,), (ref,), rec.empty(shape))
    out = _empty(shape)
    op.value(a.nd if st.pending else nd, out)
    read = False
    if rec.sparing and not op.linear:
        for place in op.reads[0]:
            if place < 0:
                read = True
            else:
                st.need()
    return _result(rec, op, shape, (ref,), out, read, 4, None, type(ref) is list)


def binary(op: Op, a: TracedArray, b: Any, reflected: bool = False) -> Any:
    """op of an array and another of its shape, or a number.  reflected: b op a."""
    st, nd = a.st, a.window
    rec, shape = st.rec, nd.shape
    ref = _carrier(a, rec, shape)
    if ref is None:
        return NotImplemented
    kind = type(b)
    value = b
    if kind is TracedArray:
        other = _carrier(b, rec, shape)
        if other is None:
            return NotImplemented
    elif kind is float or kind is int or kind is np.float64:
        other = Const(float(b))
    elif kind is rec.scalar_type:
        other = rec.node(b.i, len(shape))
        value = b.v
    elif kind is np.ndarray and b.shape == shape and b.dtype.char == "d" and b.size > 1 and (
            len(shape) == 1 or b.flags.c_contiguous):
        other = Const(rec.snapshot(b))
    else:
        return NotImplemented
    if op is _HYPOT and kind is TracedArray:
        rec.modulus = len(rec.firsts) + bool(rec.run), ((a, ref), (b, other))
    pieces = type(ref) is list or type(other) is list
    if nd.size >= memory.LARGE:
        out = rec.empty(shape)
        if reflected:
            return recorded(rec, op, (b, a), (other, ref), out)
        return recorded(rec, op, (a, b), (ref, other), out)
    if st.pending:
        nd = a.nd
    if kind is TracedArray:
        value = b.nd
    out = _empty(shape)
    if reflected:
        op.value(value, nd, out)
        read = rec.sparing and not op.linear and read_values(op, (b, a))
        return _result(rec, op, shape, (other, ref), out, read, 4, None, pieces)
    op.value(nd, value, out)
    read = rec.sparing and not op.linear and read_values(op, (a, b))
    return _result(rec, op, shape, (ref, other), out, read, 4, None, pieces)


def _squared(rec: Recorder) -> Any:
    """x^2 + y^2 for the square of |x + iy|, which has no derivatives of its own where it is 0."""
    _, parts = rec.modulus
    rec.modulus, rec.dead = None, True
    terms = [np.square(x) for x, _ in parts]
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _unchanged(rec: Recorder) -> bool:
    """Whether the arrays that the latest modulus is of still hold what it was computed from."""
    for x, ref in rec.modulus[1]:
        now = x.st.lower(x.window, x.window.shape, x.at)
        if type(now) is not Affine or type(ref) is not Affine or now != ref:
            return False
    return True


def chosen(condition: TracedArray, a: Any, b: Any) -> Any:
    """Elements of a where the condition holds, else of b: arrays of its shape, or numbers."""
    st, nd = condition.st, condition.window
    rec, shape = st.rec, nd.shape
    if st.block < 0 or not st.boolean or nd is not st.buffer or not rec.open or not shape or not nd.size:
        return NotImplemented
    if rec.capturing:
        st.need()
    refs: list[Any] = [st.whole]
    for x in (a, b):
        kind = type(x)
        if kind is TracedArray:
            ref = _carrier(x, rec, shape)
            if ref is None:
                return NotImplemented
            refs.append(ref)
        elif kind is float or kind is int or kind is np.float64:
            refs.append(Const(float(x)))
        else:
            return NotImplemented
    if nd.size >= memory.LARGE or list in map(type, refs):
        return recorded(rec, _WHERE, (condition, a, b), refs, rec.empty(shape))
    if rec.sparing:
        read_values(_WHERE, (condition, a, b))
    values = [x.nd if type(x) is TracedArray else float(x) for x in (condition, a, b)]
    return _result(rec, _WHERE, shape, tuple(refs), _choose(*values), False, 5)


def summed(x: Any) -> Any:
    """The sum of all elements."""
    if type(x) is not TracedArray:
        return NotImplemented
    st, nd = x.st, x.window
    rec, shape = st.rec, nd.shape
    ref = _carrier(x, rec, shape)
    if ref is None or type(ref) is not Affine:
        return NotImplemented
    values = np.asarray(np.add.reduce(x.nd, axis=None))
    block = rec.record(COPY, shape, (ref,), values, (0,) * len(shape), True, 4)[0]
    return scalar_of(rec, rec.firsts[block], values.item(), False)


def product(a: Any, b: Any, function: Any) -> Any:
    """a @ b by `function`, np.matmul or np.dot, of small arrays of one or two axes: views of blocks, or constants."""
    kind = type(a)
    rec = a.st.rec if kind is TracedArray else b.st.rec
    x = a.window if kind is TracedArray else a
    y = b.window if type(b) is TracedArray else b
    if not rec.open or x.size >= memory.LARGE or y.size >= memory.LARGE or 1 in x.shape or 1 in y.shape:
        return NotImplemented  # an axis of length 1 stands still
    m, n = x.ndim, y.ndim
    if m == 2:
        space, strides = (x.shape if n == 1 else (x.shape[0], y.shape[-1], x.shape[1])), (1, 0)
        if n == 2:
            strides = (y.shape[1], 1, 0)  # type: ignore[assignment]
    elif m == 1:
        space, strides = (x.shape, (0,)) if n == 1 else (y.shape[::-1], (1, 0))
    else:
        return NotImplemented
    if n > 2 or not n or y.shape[0] != space[-1] or not x.size or not y.size:
        return NotImplemented
    first = _factor(a, x, rec, space, m == 2 and n == 2, False)
    second = _factor(b, y, rec, space, m == 2 and n == 2, True)
    if first is None or second is None:
        return NotImplemented
    values = function(a.nd if kind is TracedArray else x, b.nd if type(b) is TracedArray else y)
    if m == n == 1:
        values = np.asarray(values)
    elif not values.flags.c_contiguous:
        return NotImplemented
    if rec.sparing:
        read_values(MULTIPLY, (a, b))
    if m == n == 1:
        block = rec.record(MULTIPLY, space, (first, second), values, strides, True, 4)[0]
        return scalar_of(rec, rec.firsts[block], values.item(), False)
    return _result(rec, MULTIPLY, space, (first, second), values, False, 5, strides)


def _factor(x: Any, view: np.ndarray, rec: Recorder, space: Index, matrices: bool, second: bool) -> Operand | None:
    """An operand of `product` over its iteration space: rows, columns and what is summed, of those that there are."""
    if type(x) is not TracedArray:
        source = rec.snapshot(view) if view.dtype.char == "d" else None
        if source is None or not source.flags.c_contiguous:
            return None
        return Const(np.ndarray(space, np.float64, source, 0, _steps(source.strides, len(space), matrices, second, 1)))
    st = x.st
    if st.rec is not rec or st.boolean or st.block < 0:
        return None
    if rec.capturing:
        st.need()
    return Affine(st.block, x.place, _steps(view.strides, len(space), matrices, second, 8))


@lru_cache(maxsize=4096)
def _steps(strides: Index, ndim: int, matrices: bool, second: bool, unit: int) -> Index:
    """The strides of a vector or matrix over the iteration space of a product, in these units."""
    steps = tuple([step // unit for step in strides])
    if matrices:
        return (0, steps[1], steps[0]) if second else (steps[0], 0, steps[1])
    if len(steps) == 1:
        return steps if ndim == 1 else (0, steps[0])
    return steps[::-1] if second else steps


def _carrier(x: TracedArray, rec: Recorder, shape: Index) -> Operand | list[Piece] | None:
    """What carries an array of floats of this shape, in C order, that depends on the inputs; None for any other."""
    st, nd = x.st, x.window
    if st.rec is not rec or not rec.open or st.boolean or nd.shape != shape or not shape or not nd.size:
        return None
    if nd is st.buffer:
        if st.block >= 0:
            if rec.capturing:
                st.need()
            return st.whole
    elif len(shape) > 1 and not nd.flags.c_contiguous:
        return None
    if st.block < 0 and (st.ids is not None or st.constant):
        return None
    return st.lower(nd, shape, x.at)


def _result(rec: Recorder, op: Op, shape: Index, operands: tuple[Any, ...], out: np.ndarray, read: Any, depth: int = 4,
            strides: Index | None = None, pieces: bool = False) -> TracedArray:
    """The array that a statement computes, `out` its values.  depth: of the user's line, from `Recorder.record`."""
    ref = rec.record(op, shape, operands, out, c_strides(shape) if strides is None else strides, read, depth, pieces)
    st = _new(Storage)
    st.rec, st.buffer, st.block = rec, out, ref[0]
    st.pieces = st.ids = None
    st.ids_shared = st.pending = False
    st.shared = True
    st.boolean = op in BOOLEAN_OPS
    st.ref = ref if strides is None else None
    st._address = -1
    x = _new(TracedArray)
    x.st, x.window, x.at = st, out, 0
    return x


__all__ = ["binary", "chosen", "product", "summed", "unary"]
