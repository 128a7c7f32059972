"""The usual operations, recorded with no more work than that takes.

An operator, ufunc or function comes here first.  Where its operands are arrays in C order, numbers and constants, and
one depends on the inputs, it is recorded at once, the same statement as by the general way (`array.elementwise` and its
kin); anything else is answered NotImplemented, and goes there.  On small arrays finding out what operands could be
otherwise takes most of the time.
"""

from __future__ import annotations

import math
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..ops import BY_NAME, MULTIPLY, Op
from ..tape import Affine, Const, Operand, c_strides
from . import memory
from .array import TracedArray, constant, fresh, keep_values, recorded, together
from .boxes import Index, Piece, in_c_order
from .recorder import Recorder
from .scalar import BOOLEAN_OPS, TracedScalar
from .storage import spread
from .verdict import CAREFUL, judged, judges

BEYOND = 2**63  # whole numbers that int64 doesn't hold
KNOWN = 256  # constants as operands of products, known again

_new = tuple.__new__
_asarray, _empty, _choose = np.asarray, np.empty, np.where  # NumPy's own, whatever is substituted meanwhile
_WHERE, _SQUARE, _ABSOLUTE, _HYPOT, _SQRT = (
    BY_NAME[name] for name in ("where", "square", "absolute", "hypot", "sqrt"))
_UNLIKE = frozenset(BY_NAME[name] for name in ("floor_divide", "remainder", "power"))  # of floats and whole numbers


def unary(op: Op, a: TracedArray) -> Any:
    """op of an array."""
    st, nd = a.st, a.window
    rec, shape = st.rec, nd.shape
    ref = None if st.boolean or st.block < 0 and constant(a) else _carrier(a, rec, shape)
    if ref is None:
        return NotImplemented
    if op is _SQUARE and rec.modulus is not None and rec.modulus[0] == st.block and nd is st.buffer and _unchanged(rec):
        if CAREFUL and judges((a,), {}):
            return judged(np.square, (a,), {}, lambda: _squared(rec))
        return _squared(rec)
    if op is _ABSOLUTE:
        rec.modulus = len(rec.firsts) + bool(rec.run), ((a, ref),)
    if nd.size >= memory.LARGE:
        return recorded(rec, op, (a,), (ref,), rec.empty(shape))
    out = _empty(shape)
    try:
        op.value(a.nd if st.pending else nd, out)
    except FloatingPointError:
        rec.failed()
        raise
    read = False
    if rec.sparing and not op.linear:
        for place in op.reads[0]:
            if place < 0:
                read = True
            else:
                st.need()
    return fresh(rec, out, rec.record(op, shape, (ref,), out, c_strides(shape), read), op in BOOLEAN_OPS)


def binary(op: Op, a: TracedArray, b: Any, reflected: bool = False) -> Any:
    """op of an array and another, or a number.  reflected: b op a."""
    st, nd = a.st, a.window
    rec, shape = st.rec, nd.shape
    kind = type(b)
    value = b.window if kind is TracedArray else b
    if st.boolean and (op in _UNLIKE or kind is np.ndarray and b.dtype.char not in "dl"):
        return NotImplemented  # NumPy may compute with whole numbers, or with fewer bits
    if (kind is TracedArray or kind is np.ndarray) and value.shape != shape:
        shape = together(shape, value.shape)
    if st.block < 0 and kind is not rec.scalar_type and constant(a) and (kind is not TracedArray or constant(b)):
        return NotImplemented  # nothing depends on the inputs
    ref = _carrier(a, rec, shape)
    if ref is None:
        return NotImplemented
    if kind is TracedArray:
        other = None if st.boolean and b.st.boolean else _carrier(b, rec, shape)
    elif kind is float or kind is int or kind is np.float64:
        other = Const(float(b))
        if kind is int and not -BEYOND < b < BEYOND:  # NumPy would go on with objects, of the same floats
            value = float(b)
    elif kind is rec.scalar_type:
        other = rec.node(b.i, len(shape))
        value = b.v
    elif kind is np.ndarray:
        other = _constant(rec, b, shape)
    else:  # an array made inside, as what it holds
        held = getattr(kind, "_distdiff_held", None)
        return NotImplemented if held is None else binary(op, a, held(b), reflected)
    if other is None:
        return NotImplemented
    if op is _HYPOT and kind is TracedArray:
        rec.modulus = len(rec.firsts) + bool(rec.run), ((a, ref), (b, other))
    if prod(shape) >= memory.LARGE:
        out = rec.empty(shape)
        if reflected:
            return recorded(rec, op, (b, a), (other, ref), out)
        return recorded(rec, op, (a, b), (ref, other), out)
    if st.pending:
        nd = a.nd
    if kind is TracedArray and b.st.pending:
        value = b.nd
    out = _empty(shape)
    traced = 3 if kind is TracedArray or kind is rec.scalar_type else 2 if reflected else 1
    try:
        if reflected:
            op.value(value, nd, out)
        else:
            op.value(nd, value, out)
    except FloatingPointError:
        rec.failed()
        raise
    if reflected:
        read = rec.sparing and not op.linear and keep_values(op, (b, a), traced)
        return fresh(rec, out, rec.record(op, shape, (other, ref), out, c_strides(shape), read), op in BOOLEAN_OPS)
    read = rec.sparing and not op.linear and keep_values(op, (a, b), traced)
    return fresh(rec, out, rec.record(op, shape, (ref, other), out, c_strides(shape), read), op in BOOLEAN_OPS)


def root(x: TracedScalar) -> Any:
    """The square root of a traced scalar that the latest statement has computed, as a statement by itself.

    Between statements over arrays a run of one scalar line takes the trace, and every solve, several times as long.
    """
    return x.rec.follow(_SQRT, math.sqrt(x.v) if x.v >= 0.0 else float(_SQRT.value(x.v)))  # NumPy's own, sooner


def magnitude(a: TracedArray, function: Any) -> Any:
    """The square root of a traced vector's product with itself, by `function`, np.dot."""
    st, x = a.st, a.window
    rec = st.rec
    if st.block < 0 or not rec.open or st.boolean or not 1 < x.size < memory.LARGE:
        return NotImplemented
    if rec.capturing or rec.sparing:
        st.need()
    ref = st.whole if x is st.buffer else Affine(st.block, a.place, (x.strides[0] // 8,))
    nd = a.nd if st.pending else x
    out = _asarray(function(nd, nd))
    rec.record(MULTIPLY, x.shape, (ref, ref), out, (0,), True)
    square = out.item()
    return rec.follow(_SQRT, math.sqrt(square) if square >= 0.0 else float(_SQRT.value(square)))


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


def chosen(*operands: Any) -> Any:
    """np.where of a condition and two choices: arrays, one of them traced, or numbers."""
    rec, shape, varying = None, (), False
    for x in operands:
        kind, own = type(x), ()
        if kind is TracedArray:
            rec, own = x.st.rec, x.window.shape
            varying = varying or x.st.block >= 0 or not constant(x)
        elif kind is np.ndarray:
            own = x.shape
        if own and own != shape:
            shape = together(shape, own) if shape else own
    if not varying:
        return NotImplemented
    refs: list[Any] = []
    truth = True
    for x in operands:
        kind, ref = type(x), None
        if kind is TracedArray:
            if x.st.boolean is truth:
                ref = _carrier(x, rec, shape)
        elif kind is np.ndarray:
            if (x.dtype.char == "?") is truth and (
                    x.dtype.char in "dl?" or any(type(part) is TracedArray for part in operands[1:])):
                ref = _constant(rec, x, shape)  # (two of fewer bits are NumPy's to choose from)
        elif not truth and (kind is float or kind is int or kind is np.float64):
            ref = Const(float(x))
        if ref is None:
            return NotImplemented
        refs.append(ref)
        truth = False
    if prod(shape) >= memory.LARGE:
        return recorded(rec, _WHERE, operands, refs, rec.empty(shape))
    if rec.sparing and type(operands[0]) is TracedArray:
        operands[0].st.need()  # partials read the condition, and nothing else
    out = _choose(*[x.nd if type(x) is TracedArray else x for x in operands])
    if out.dtype.char != "d" or not out.flags.c_contiguous:
        out = _asarray(out, np.float64, "C")
    return fresh(rec, out, rec.record(_WHERE, shape, tuple(refs), out, c_strides(shape), False))


def product(a: Any, b: Any, function: Any) -> Any:
    """a @ b by `function`, np.matmul or np.dot, of small arrays of one or two axes: views of blocks, or constants."""
    kind = type(a)
    rec = a.st.rec if kind is TracedArray else b.st.rec
    x = a.window if kind is TracedArray else a
    y = b.window if type(b) is TracedArray else b
    if kind is TracedArray and a.st.boolean:  # of truths it is a truth
        return NotImplemented
    m, n = x.ndim, y.ndim
    if m == n == 1 and kind is type(b):
        return _inner(a, b, rec, x, y, function)
    if not rec.open or x.size >= memory.LARGE or y.size >= memory.LARGE or 1 in x.shape or 1 in y.shape:
        return NotImplemented  # an axis of length 1 stands still
    if m == 2:
        space, strides = (x.shape if n == 1 else (x.shape[0], y.shape[-1], x.shape[1])), (1, 0)
        if n == 2:
            strides = (y.shape[1], 1, 0)
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
        values = _asarray(values)
    elif not values.flags.c_contiguous:
        return NotImplemented
    if rec.sparing:
        keep_values(MULTIPLY, (a, b), (kind is TracedArray) + 2 * (type(b) is TracedArray))
    return fresh(rec, values, rec.record(MULTIPLY, space, (first, second), values, strides, m == n == 1))


def _inner(a: TracedArray, b: TracedArray, rec: Recorder, x: np.ndarray, y: np.ndarray, function: Any) -> Any:
    """The same of two traced vectors."""
    s, t = a.st, b.st
    if s.block < 0 or t.block < 0 or t.rec is not rec or not rec.open or s.boolean or t.boolean or (
            x.shape != y.shape or not 1 < x.size < memory.LARGE):
        return NotImplemented
    if rec.capturing or rec.sparing:
        s.need()
        t.need()
    first = s.whole if x is s.buffer else Affine(s.block, a.place, (x.strides[0] // 8,))
    second = t.whole if y is t.buffer else Affine(t.block, b.place, (y.strides[0] // 8,))
    out = _asarray(function(a.nd if s.pending else x, b.nd if t.pending else y))
    return fresh(rec, out, rec.record(MULTIPLY, x.shape, (first, second), out, (0,), True))


def _factor(x: Any, view: np.ndarray, rec: Recorder, space: Index, matrices: bool, second: bool) -> Operand | None:
    """An operand of `product` over its iteration space: rows, columns and what is summed, of those that there are."""
    if type(x) is not TracedArray:
        source = rec.snapshot(view) if view.dtype.char == "d" else None
        if source is None:
            return None
        name = id(source), space, matrices, second
        known = rec.factored.get(name)
        if known is not None:
            return known[1]
        if not source.flags.c_contiguous:
            return None
        steps = _steps(source.strides, len(space), matrices, second, 1)
        const = Const(np.ndarray(space, np.float64, source, 0, steps))
        if len(rec.factored) >= KNOWN:
            rec.factored.clear()
        rec.factored[name] = source, const  # the source with it: its id stays its own
        return const
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
    """What carries an array in C order, broadcast to this shape; None for any other."""
    st, nd = x.st, x.window
    if st.rec is not rec or not rec.open or not shape or not nd.size:
        return None
    if nd is st.buffer:
        if st.block >= 0 and nd.shape == shape:
            if rec.capturing:
                st.need()
            return st.whole
    elif nd.ndim > 1 and not nd.flags.c_contiguous and not in_c_order(nd.shape, nd.strides):
        return None
    return st.lower(nd, shape, x.at)


def _constant(rec: Recorder, x: np.ndarray, shape: Index) -> Const | None:
    """The same for an array of the user's."""
    if x.dtype.char != "d" and x.dtype.kind not in "fiub" or not shape or not x.size:
        return None
    if x.size == 1:
        return Const(float(x.reshape(-1)[0]))
    if x.ndim > 1 and not x.flags.c_contiguous and not in_c_order(x.shape, x.strides):
        return None
    copy = rec.snapshot(x)
    return _new(Const, (copy if x.shape == shape else spread(copy, shape),))


__all__ = ["binary", "chosen", "magnitude", "product", "root", "unary"]
