"""The traced array: a view of a storage.  Creation, indexing and assignment; the rest of NumPy is attached in
`protocol`."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from math import prod
from typing import Any, NoReturn

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..ops import BY_NAME, Op
from ..tape import Const, Indexed, Operand
from . import memory
from .boxes import Index, Piece, in_c_order, select, whole
from .callers import CUT
from .recorder import Recorder
from .scalar import BOOLEAN_OPS, TracedScalar
from .storage import Storage, compress, spread, too_many, window
from .text import text_of

_ELEMENT = np.zeros(1)
_new = object.__new__
_array, _asarray = np.array, np.asarray  # NumPy's own, whatever is substituted meanwhile


class TracedArray:
    """An array whose elements are nodes: `window`, an ordinary ndarray, is a view of the value buffer of the
    storage `st`, and `nd` is the same view once the buffer holds the values.

    Its node ids need no array of their own: they are read off the view's address and strides.
    """

    __slots__ = ("__weakref__", "at", "st", "window")
    __array_priority__ = 1000.0
    __hash__ = None

    def __init__(self, st: Storage, window: np.ndarray, at: int = -1) -> None:
        self.st = st
        self.window = window
        self.at = at  # the place of the first element in the storage's buffer; -1: to be read off the addresses

    @property
    def place(self) -> int:
        """The place of the first element in the storage's buffer."""
        if self.at < 0:
            self.at = self.st.place_of(self.window)
        return self.at

    @property
    def rec(self) -> Recorder:
        return self.st.rec

    @property
    def nd(self) -> np.ndarray:
        """The values; those that were put off are computed now."""
        if self.st.pending:
            self.st.fill()
        return self.window

    # -- what an ndarray knows of itself -----------------------------------------------------------------------

    @property
    def __class__(self) -> type:  # isinstance(u, np.ndarray) holds, as user code expects
        return np.ndarray

    @property
    def shape(self) -> Index:
        return self.window.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        window = self.window.view()  # the buffer keeps its own shape
        window.shape = shape
        if self.window is self.st.buffer or self.window is self.st.made:
            self.st.made = window
        self.window = window

    @property
    def ndim(self) -> int:
        return self.window.ndim

    @property
    def size(self) -> int:
        return self.window.size

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(bool) if self.st.boolean else self.window.dtype

    @property
    def strides(self) -> Index:
        return self.window.strides

    @property
    def flags(self) -> Any:
        return self.window.flags

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def T(self) -> TracedArray:
        return TracedArray(self.st, self.window.T)

    @property
    def mT(self) -> TracedArray:
        return TracedArray(self.st, self.window.swapaxes(-1, -2))

    @property
    def real(self) -> TracedArray:
        return self

    @real.setter
    def real(self, value: Any) -> None:
        self[...] = value

    @property
    def imag(self) -> np.ndarray:
        return np.zeros(self.shape)

    @property
    def base(self) -> Any:
        st = self.st
        if self.window is st.buffer or self.window is st.made:
            return None
        asked_by = sys._getframe(1).f_globals.get("__name__", "")
        if asked_by.startswith(("scipy.", "numpy.")):  # for its size, not for which array it is
            return TracedArray(st, _seen_whole(st))
        return _owner(st)

    @property
    def ctypes(self) -> NoReturn:
        self.rec.unsupported("numpy.ndarray.ctypes of a traced array", f"compiled code would be handed its memory, and "
                             f"{CUT}: distdiff.elemental, custom_jvp or custom_vjp take a rule around such a call")

    @property
    def data(self) -> NoReturn:
        self.rec.unsupported("numpy.ndarray.data of a traced array", f"compiled code would be handed its memory, and "
                             f"{CUT}; to only look at the values, use distdiff.numpy.value(x)")

    def plain_values(self) -> np.ndarray:
        """The elements' values as a plain array of their own."""
        return self.nd != 0.0 if self.st.boolean else np.array(self.nd)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self.window)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return text_of(repr(self.plain_values()))

    def __str__(self) -> str:
        return text_of(str(self.plain_values()))

    # -- elements and views ----------------------------------------------------------------------------------------

    def scalar(self) -> Any:
        """The single element: a traced scalar, or a plain float if it is constant."""
        st = self.st
        st.need()
        node = st.node(self.place)
        return scalar_of(st.rec, node, self.nd.item(), st.boolean)


def own(rec: Recorder, x: Any) -> None:
    """Refuse values of another trace, or of one that is over."""
    if not x.rec.open:
        rec.over()
    if x.rec is not rec:
        rec.unsupported(
            "a value of another trace",
            "derivatives of functions that are being differentiated themselves can't be "
            "traced; return what the inner function needs instead",
        )


def _owner(st: Storage) -> Any:
    """The array that was made with a storage: `base` of its views.  (Views that kept it would keep what code that never
    asks does without; so those that have the storage are looked through, among all objects of the process.)"""
    if type(st.made) is weakref.ref:
        owner = st.made()
        if owner is not None:
            return owner
    window = _seen_whole(st)
    for x in gc.get_referrers(st):
        if type(x) is TracedArray and x.window is window:
            return x
    return TracedArray(st, window)


def _seen_whole(st: Storage) -> np.ndarray:
    """A storage's buffer as the array that was made with it sees it."""
    return st.made if type(st.made) is np.ndarray else st.buffer


def owning(x: TracedArray) -> TracedArray:
    """An array that sees all of a fresh storage's buffer, with its axes in another order or not to be written."""
    x.st.made = x.window
    return x


def read_only(x: TracedArray) -> TracedArray:
    """The elements of a fresh array as one that must not be written, as an argument that came so."""
    window = x.window.view()
    window.flags.writeable = False
    return owning(TracedArray(x.st, window, x.at))


def scalar_of(rec: Recorder, node: int, value: float, boolean: bool) -> Any:
    """What an element is to the user: traced, or plain if it is constant."""
    if node < 0:
        return np.bool_(value) if boolean else np.float64(value)
    return (rec.boolean if boolean else rec.scalar)(node, value)


def fresh(rec: Recorder, values: np.ndarray, block: int, boolean: bool = False) -> Any:
    """The result of a statement, as the user sees it: an array, or a scalar."""
    if values.ndim == 0:
        return scalar_of(rec, rec.firsts[block], values.item(), boolean)
    x = _new(TracedArray)
    x.st, x.window, x.at = Storage.of_block(rec, values, block, boolean), values, 0
    return x


def moved_later(rec: Recorder, shape: Index, pieces: list[Piece], boolean: bool) -> TracedArray | None:
    """An array made by moving data, as `rearranged` gives it, whose values are moved when somebody looks; None where
    that can't or had better not be."""
    if not rec.lazy or prod(shape) < memory.LARGE or too_many(pieces, prod(shape)) or not all(map(rec.holds, pieces)):
        return None
    values = rec.empty(shape)
    st = Storage(rec, values, pieces, boolean=boolean)
    st.pending = True
    rec.moved.append(weakref.ref(st))
    return TracedArray(st, values)


def rearranged(rec: Recorder, values: np.ndarray, pieces: list[Piece], boolean: bool = False) -> TracedArray:
    """An array made by moving data: its values, a buffer of its own, and the pieces that carry them."""
    if (
        not values.flags.c_contiguous
    ):  # NumPy keeps the memory order of its operands: a storage of the axes in that order
        order = memory_order(values)
        turned = values.transpose(order)
        if turned.flags.c_contiguous:
            axes = [(k, 1) if values.shape[k] > 1 else None for k in order]
            pieces = select(pieces, (0,) * values.ndim, axes, turned.shape)
            return owning(TracedArray(rearranged(rec, turned, pieces, boolean).st, values))
        values = values.copy(order="C")
    st = Storage(rec, values, pieces, boolean=boolean)
    if too_many(pieces, values.size):
        st.make_explicit()
    else:
        st._become(pieces)
    return TracedArray(st, values, 0)


def memory_order(nd: np.ndarray) -> list[int]:
    """The axes from the slowest in memory to the fastest."""
    return sorted(range(nd.ndim), key=lambda k: -abs(nd.strides[k]))


def of_ids(rec: Recorder, values: np.ndarray, ids: np.ndarray, boolean: bool = False) -> TracedArray:
    """An array of gathered elements, given their nodes (-1: constant)."""
    if not rec.open:
        rec.over()
    values = _asarray(values)
    if not values.size:
        return rearranged(rec, values, [], boolean)
    if values.ndim > 1 and not values.flags.c_contiguous:  # the order in memory that NumPy gave them
        order = memory_order(values)
        if order != list(range(values.ndim)):
            turned = of_ids(rec, values.transpose(order), ids.transpose(order), boolean)
            return owning(TracedArray(turned.st, turned.nd.transpose(np.argsort(order))))
    return gathered(rec, _array(values, order="C"), _asarray(ids, order="C"), boolean)


def gathered(rec: Recorder, values: np.ndarray, ids: np.ndarray, boolean: bool = False) -> TracedArray:
    """The same of an array in C order that is nobody else's."""
    st = Storage(rec, values, [], boolean=boolean)
    ref = compress(rec, ids)
    if ref is not None:
        st._become(ref if type(ref) is list else whole(values.shape, ref))
    else:
        st.ids, st.pieces = ids.reshape(-1), None
    return TracedArray(st, values, 0)


# -- operands --------------------------------------------------------------------------------------------------


def plain(x: Any) -> Any:
    """The value of an operand, for NumPy to compute with."""
    if type(x) is TracedArray:
        return x.nd
    return x.v if isinstance(x, TracedScalar) else x


def lower(rec: Recorder, x: Any, shape: Index) -> Operand | list[Piece]:
    """What carries an operand, broadcast to `shape`."""
    if type(x) is TracedArray:
        return x.st.lower(x.window, shape, x.at)
    if isinstance(x, TracedScalar):
        return rec.node(x.i, len(shape))
    if isinstance(x, np.ndarray) and x.ndim:
        if x.size == 1:
            return Const(float(x.reshape(-1)[0]))
        return Const(spread(rec.snapshot(x), shape))
    return Const(float(x))


def shape_of(x: Any) -> Index:
    """The shape of an operand, as np.shape gives it by a long way through NumPy's protocol."""
    if type(x) is float or type(x) is int:
        return ()
    shape = getattr(x, "shape", None)
    return np.shape(x) if shape is None else shape


def ndim_of(x: Any) -> int:
    return x.window.ndim if type(x) is TracedArray else x.ndim if type(x) is np.ndarray else len(shape_of(x))


def is_traced(x: Any) -> bool:
    return type(x) is TracedArray or isinstance(x, TracedScalar)


def is_boolean(x: Any) -> bool:
    dtype = getattr(x, "dtype", None)
    return dtype.kind == "b" if dtype is not None else isinstance(x, bool)


def constant(x: Any) -> bool:
    """Whether an operand depends on no input (explicit storages are taken to depend on one)."""
    if type(x) is TracedArray:
        st = x.st
        return st.block < 0 and st.ids is None and st.constant
    return not isinstance(x, TracedScalar)


def as_plain(x: Any) -> Any:
    """A constant operand as NumPy knows it."""
    return (x.nd != 0.0 if x.st.boolean else x.nd) if type(x) is TracedArray else x


def of_constants(rec: Recorder, values: Any) -> Any:
    """What NumPy has made of constants: an array that can take traced values, a number as it is."""
    return rec.array_of(values) if isinstance(values, np.ndarray) else values


def single(rec: Recorder, x: Any, shape: Index) -> Operand:
    """The operand in one piece, affine or constant: in several, or irregular, it is copied to fresh nodes first."""
    lowered = lower(rec, x, x.shape if type(x) is TracedArray else shape)
    if type(lowered) is list or type(lowered) is Indexed:
        x = compact(x)
    elif type(x) is TracedArray and x.window.shape == shape:
        return lowered
    return lower(rec, x, shape)


def compact(x: TracedArray) -> TracedArray:
    """The same elements as one fresh block (COPY statements)."""
    rec = x.rec
    values = rec.empty(x.shape)
    values[...] = x.nd
    block = rec.emit(BY_NAME["copy"], x.shape, (x.st.lower(x.nd, x.shape, x.at),), values, read=True)
    return fresh(rec, values, block, x.st.boolean)


def recorded(rec: Recorder, op: Op, operands: Sequence[Any], lowered: Sequence[Operand | list[Piece]],
              out: np.ndarray) -> Any:
    """The statement out = op(operands), computed now or, where that may pay, once somebody looks."""
    boolean = op in BOOLEAN_OPS
    read = rec.sparing and not op.linear and read_values(op, operands)
    if rec.lazy and out.size >= memory.LARGE and not rec.careful:
        for x in operands:
            if type(x) is TracedArray and not x.st.pending:
                x.st.need()
        st = Storage.of_block(rec, out, rec.emit(op, out.shape, lowered, out, read=read), boolean)
        st.put_off()
        return TracedArray(st, out)
    try:
        op.value(*map(plain, operands), out=out)
    except FloatingPointError:
        rec.failed()
        raise
    return fresh(rec, out, rec.emit(op, out.shape, lowered, out, read=read), boolean)


def elementwise(rec: Recorder, op: Op, operands: Sequence[Any]) -> Any:
    """op of any mixture of traced arrays, traced scalars and constants, broadcast."""
    values, shape, even, arrays, varying = [], None, True, False, False
    for x in operands:
        if type(x) is TracedArray:
            st, value = x.st, x.window
            if st.rec is not rec or not rec.open:
                own(rec, x)
            arrays = True
            varying = varying or st.block >= 0 or not constant(x)
        elif isinstance(x, TracedScalar):
            if x.rec is not rec or not rec.open:
                own(rec, x)
            value, varying = x.v, True
        else:
            value = x
            arrays = arrays or isinstance(x, np.ndarray)
        values.append(value)
        if isinstance(value, np.ndarray) and value.shape != shape:
            even, shape = even and shape is None, value.shape
    if not arrays and op.scalar:
        return rec.scalar_op(op, operands)
    if arrays and varying and op not in BOOLEAN_OPS:
        _tell_of_few_bits(rec, op, operands)
    if not varying:
        return of_constants(rec, op.value(*map(as_plain, operands)))
    if not even or shape is None:
        shape = together(*map(shape_of, values))
    if not shape and op.scalar:
        return rec.scalar_op(op, tuple(x.scalar() if type(x) is TracedArray else x for x in operands))
    if len(shape) > 1:
        order = _result_order(values)
        if order is not None:
            turned = elementwise(rec, op, [_turn(x, shape, order) for x in operands])
            return owning(TracedArray(turned.st, turned.window.transpose(np.argsort(order))))
    out = rec.empty(shape)
    if not out.size:
        return rearranged(rec, out, [], op in BOOLEAN_OPS)
    lowered = [lower(rec, x, shape) for x in operands]
    return recorded(rec, op, operands, lowered, out)


def _tell_of_few_bits(rec: Recorder, op: Op, operands: Sequence[Any]) -> None:
    """NumPy may compute with a number as its arrays do, in fewer bits, if those are plain: say that this is not."""
    few = None
    for x in operands:
        if type(x) is TracedArray:
            return
        if isinstance(x, np.ndarray) and x.ndim:
            if x.dtype.char not in "fe":
                return
            few = x.dtype
    if few is not None:
        rec.float64(few, f"numpy.{op.name} of a traced number and an array that comes")


def read_values(op: Op, operands: Sequence[Any]) -> bool:
    """Keep the values of (lowered) operands that the partials read; whether they read the result's."""
    traced = 0
    for k, x in enumerate(operands):
        if type(x) is TracedArray or isinstance(x, TracedScalar):
            traced |= 1 << k
    return keep_values(op, operands, traced)


def keep_values(op: Op, operands: Sequence[Any], traced: int) -> bool:
    """The same, where the operands that are traced are known, as bits."""
    result = False
    for place in _read(op, traced):
        if place < 0:
            result = True
        elif type(operands[place]) is TracedArray:
            operands[place].st.need()
    return result


@cache
def _read(op: Op, traced: int) -> tuple[int, ...]:
    """What the partials with respect to these operands read: operands, and -1 for the result."""
    return tuple(sorted({place for k, places in enumerate(op.reads) if traced >> k & 1 for place in places}))


@lru_cache(maxsize=4096)
def together(*shapes: Index) -> Index:
    """The shape of operands of these shapes, broadcast."""
    return np.broadcast_shapes(*shapes)


def _result_order(values: Sequence[Any]) -> list[int] | None:
    """The order of the result's axes in memory that NumPy takes from its operands; None for C order."""
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    if all([x.flags.c_contiguous or in_c_order(x.shape, x.strides) for x in arrays]):
        return None
    return _order_of(tuple([(x.shape, x.strides) for x in arrays]))


@lru_cache(maxsize=4096)
def _order_of(views: tuple[tuple[Index, Index], ...]) -> list[int] | None:
    """The same for views of these shapes and strides."""
    arrays = [as_strided(_ELEMENT, shape, strides) for shape, strides in views]  # of no memory: none of it is read
    order = memory_order(np.nditer([*arrays, None], order="K", flags=["zerosize_ok"]).operands[-1])
    return None if order == list(range(len(order))) else order


def _turn(x: Any, shape: Index, order: list[int]) -> Any:
    nd = x.window if type(x) is TracedArray else x
    if not isinstance(nd, np.ndarray) or not nd.ndim:
        return x
    turned = np.broadcast_to(nd, shape).transpose(order)
    return TracedArray(x.st, turned) if type(x) is TracedArray else turned


def ids_of(x: TracedArray) -> np.ndarray:
    """Explicit ids of a traced array, -1 for constants; to be read only."""
    st = x.st
    st.need()
    ids = st.explicit() if st.ids is None else st.ids
    return window(ids, x.shape, x.window.strides, x.place) if x.size else np.empty(x.shape, np.int64)
