"""Parts: a complex operand as a pair (re, im) of real ones, and the real arithmetic of formulas on them.

A part is a traced array or scalar, a plain one, or None: zero by structure, which costs no statement.  So the product
of z and an imaginary constant is two statements, not six, and that of two real arrays is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...tape import Const
from ..array import TracedArray, is_boolean, is_traced, moved_later, rearranged
from ..boxes import whole
from ..layout import copied, laid, pieces_of
from ..recorder import Recorder
from ..reductions import traced_array
from ..scalar import TracedScalar, numpy_divide
from ..storage import Storage

Part = Any
Pair = tuple[Part, Part]
_NUMBERS = (int, float, np.float64)


def zero(x: Part) -> bool:
    """Whether a part is zero by structure: at every point, not at this one only."""
    if x is None:
        return True
    if type(x) is TracedArray:
        st = x.st
        return st.block < 0 and st.ids is None and not st.boolean and all(
            type(ref) is Const and type(ref.value) is float and ref.value == 0.0 for _, _, ref in st.pieces)
    if isinstance(x, TracedScalar):
        return False
    return not x.any() if isinstance(x, np.ndarray) else x == 0.0


def negative_zero(x: Part) -> bool:
    """Whether a part that is zero has the other sign, which matters at a branch cut."""
    if x is None:
        return False
    if type(x) is TracedArray:
        return bool(x.st.pieces) and all(np.signbit(ref.value) for _, _, ref in x.st.pieces)
    return bool(np.all(np.signbit(x))) and np.size(x) > 0


def real_part(x: Any) -> Part:
    """A real operand as a part: truths and whole numbers are floats."""
    if is_traced(x):
        return x * 1.0 if is_boolean(x) else x
    if type(x) is np.ndarray and x.ndim and x.dtype.char == "d":
        return x
    return float(x) if type(x) in (float, int, bool) else np.asarray(x, dtype=np.float64)[()]


# -- formulas


def plus(x: Part, y: Part) -> Part:
    return y if x is None else x if y is None else x + y


def minus(x: Part, y: Part) -> Part:
    return x if y is None else negated(y) if x is None else x - y


def negated(x: Part) -> Part:
    return None if x is None else -x


def times(x: Part, y: Part) -> Part:
    if x is None or y is None:
        return None
    for factor, other in ((x, y), (y, x)):
        if type(factor) in _NUMBERS:
            if factor == 1.0:
                return other
            if factor == -1.0:
                return -other
    return x * y if is_traced(x) else y * x  # a traced array's own operator is the shorter way


def times_minus(x: Part, y: Part) -> Part:
    """-x y, the sign given to a constant."""
    if x is None or y is None:
        return None
    if not is_traced(x):
        return times(-x, y)
    return times(x, -y) if not is_traced(y) else -(x * y)


def over(x: Part, y: Part) -> Part:
    if type(x) in (float, int) and type(y) in (float, int):
        return numpy_divide(x, y)
    return None if x is None else x / y


def filled(x: Part) -> Part:
    return 0.0 if x is None else x


# -- traced arrays of parts


def constant_zeros(rec: Recorder, like: np.ndarray, value: float = 0.0) -> TracedArray:
    """An array of one constant that lies in memory as `like`."""
    values = np.empty_like(like, dtype=np.float64, subok=False)
    order = sorted(range(values.ndim), key=lambda k: -values.strides[k])
    buffer = values.transpose(order)
    if not buffer.flags.c_contiguous:
        buffer = np.empty(buffer.shape)
    buffer[...] = value
    st = Storage(rec, buffer, whole(buffer.shape, Const(value)) if buffer.size else [])
    return TracedArray(st, buffer.transpose(np.argsort(order)))


def own_copy(x: TracedArray) -> TracedArray:
    """The same elements in a storage of their own, laid out as the result of a ufunc; no statement."""
    if x.window.flags.c_contiguous:
        later = moved_later(x.rec, x.shape, pieces_of(x), x.st.boolean)
        if later is not None:
            return later
    return copied(x, np.positive(x.nd))


def spread(rec: Recorder, x: Part, shape: tuple[int, ...]) -> TracedArray:
    """A part that is known not to be zero, as a traced array of a shape, perhaps that of an operand."""
    x = traced_array(x) if is_traced(x) else rec.array_of(np.asarray(x, dtype=np.float64))
    if is_boolean(x):
        x = traced_array(x * 1.0)
    if x.shape == shape:
        return x
    x = TracedArray(x.st, np.broadcast_to(x.nd, shape))
    return rearranged(rec, np.array(x.nd, order="C"), pieces_of(x))


def arrays(rec: Recorder, re: Part, im: Part, shape: tuple[int, ...]) -> tuple[TracedArray, TracedArray]:
    """Both parts as traced arrays of a shape, their elements at the same places in memory."""
    if zero(re) and zero(im):
        like = re if re is not None else im
        like = like.window if type(like) is TracedArray else np.empty(shape)
        like = like if like.shape == shape else np.empty(shape)
        return tuple(constant_zeros(rec, like, -0.0 if negative_zero(x) else 0.0) for x in (re, im))
    if zero(re):
        b = spread(rec, im, shape)
        return constant_zeros(rec, b.window, -0.0 if negative_zero(re) else 0.0), b
    a = spread(rec, re, shape)
    if zero(im):
        return a, constant_zeros(rec, a.window, -0.0 if negative_zero(im) else 0.0)
    b = spread(rec, im, shape)
    return a, b if b.window.strides == a.window.strides else laid(b, a.window)
