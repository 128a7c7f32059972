"""The traced array: a view of a storage.  Creation, indexing and assignment; the rest of NumPy is attached in `protocol`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..ops import BY_NAME, WHERE, Op
from ..tape import Affine, Const, Indexed, Operand
from .boxes import Index, Piece, select, whole
from .recorder import Recorder
from .scalar import BOOLEAN_OPS, TracedScalar
from .storage import Storage, compress, too_many


class TracedArray:
    """An array whose elements are nodes: `nd`, an ordinary ndarray, is a view of the value buffer of the storage `st`.

    Its node ids need no array of their own: they are read off the view's address and strides.
    """

    __slots__ = ("__weakref__", "nd", "st")
    __array_priority__ = 1000.0
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, st: Storage, nd: np.ndarray) -> None:
        self.st = st
        self.nd = nd

    @property
    def rec(self) -> Recorder:
        return self.st.rec

    # -- what an ndarray knows of itself -----------------------------------------------------------------------

    @property
    def __class__(self) -> type:  # isinstance(u, np.ndarray) holds, as user code expects
        return np.ndarray

    @property
    def shape(self) -> Index:
        return self.nd.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        self.nd.shape = shape

    @property
    def ndim(self) -> int:
        return self.nd.ndim

    @property
    def size(self) -> int:
        return self.nd.size

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(bool) if self.st.boolean else self.nd.dtype

    @property
    def strides(self) -> Index:
        return self.nd.strides

    @property
    def flags(self) -> Any:
        return self.nd.flags

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def T(self) -> TracedArray:
        return TracedArray(self.st, self.nd.T)

    @property
    def real(self) -> TracedArray:
        return self

    @property
    def imag(self) -> np.ndarray:
        return np.zeros(self.shape)

    @property
    def base(self) -> Any:
        return None if self.nd is self.st.buffer else self.st.buffer

    def values(self) -> np.ndarray:
        """The elements' values as a plain array of their own."""
        return self.nd != 0.0 if self.st.boolean else np.array(self.nd)

    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self.nd)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return f"traced({self.values()!r})"

    def __str__(self) -> str:
        return str(self.values())

    # -- elements and views ----------------------------------------------------------------------------------------

    def scalar(self) -> Any:
        """The single element: a traced scalar, or a plain float if it is constant."""
        st = self.st
        st.need()
        node = st.node((self.nd.__array_interface__["data"][0] - st.address) // 8)
        return scalar_of(st.rec, node, self.nd.item(), st.boolean)

    def _place(self, index: Any) -> int:
        """Place in the buffer of the element at an index of plain integers; -1 for any other index."""
        nd = self.nd
        if type(index) is int:
            if nd.ndim != 1:
                return -1
            step = (index + nd.shape[0] if index < 0 else index) * nd.strides[0]
        elif type(index) is tuple and len(index) == nd.ndim:
            step = 0
            for i, n, stride in zip(index, nd.shape, nd.strides):
                if type(i) is not int:
                    return -1
                step += (i + n if i < 0 else i) * stride
        else:
            return -1
        if nd is self.st.buffer:
            return step // 8
        return (nd.__array_interface__["data"][0] - self.st.address + step) // 8

    def __getitem__(self, index: Any) -> Any:
        nd, st = self.nd, self.st
        place = self._place(index)
        if place >= 0:
            value = nd.item(index)  # raises where the index is out of bounds
            if st.rec.sparing:
                st.need()
            if st.block >= 0:
                node = st.rec.firsts[st.block] + place
            elif st.ids is not None:
                node = int(st.ids[place])
            else:
                node = st.node(place)
            return scalar_of(st.rec, node, value, st.boolean)
        if not _advanced(index):
            part = nd[index]
            if type(part) is np.ndarray:
                return TracedArray(st, part)
            part = nd[index + (...,) if type(index) is tuple else (index, ...)]
            return TracedArray(st, part).scalar()
        return gather(self, plain_index(st.rec, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        st = self.st
        rec = st.rec
        if st.ids is not None and not st.boolean:
            scalar = isinstance(value, TracedScalar)
            if scalar or type(value) is float:
                place = self._place(index)
                if place >= 0:
                    if scalar:
                        own(rec, value)
                    st.protect()
                    st._own_ids()
                    self.nd[index] = value.v if scalar else value
                    st.ids[place] = value.i if scalar else -1
                    return
        if not _advanced(index):
            if type(index) is not tuple:
                index = (index,)
            part = self.nd[index if any(i is Ellipsis for i in index) else (*index, ...)]
            assign(TracedArray(st, part), value)
            return
        mask = _single_mask(index)
        if mask is not None and np.ndim(plain(value)) == 0 and mask.shape == self.shape:
            # u[u < 0] = 0 needs no decision: it is a choice element by element
            assign(self, elementwise(rec, WHERE, (mask, value, self)))
            return
        scatter(self, plain_index(rec, index), value)


def own(rec: Recorder, x: Any) -> None:
    """Refuse values of another trace, or of one that is over."""
    if x.rec is not rec:
        rec.unsupported("a value of another trace", "derivatives of functions that are being differentiated themselves can't be "
                        "traced; return what the inner function needs instead")
    if not rec.open:
        rec.unsupported("a traced value after its trace was over", "it was kept in a global or closure; return it instead")


def scalar_of(rec: Recorder, node: int, value: float, boolean: bool) -> Any:
    """What an element is to the user: traced, or plain if it is constant."""
    if node < 0:
        return np.bool_(value) if boolean else np.float64(value)
    return (rec.boolean if boolean else rec.scalar)(node, value)


def fresh(rec: Recorder, values: np.ndarray, block: int, boolean: bool = False) -> Any:
    """The result of a statement, as the user sees it: an array, or a scalar."""
    if values.ndim == 0:
        return scalar_of(rec, rec.firsts[block], values.item(), boolean)
    return TracedArray(Storage.of_block(rec, values, block, boolean), values)


def rearranged(rec: Recorder, values: np.ndarray, pieces: list[Piece], boolean: bool = False) -> TracedArray:
    """An array made by moving data: its values, a buffer of its own, and the pieces that carry them."""
    if not values.flags.c_contiguous:  # NumPy keeps the memory order of its operands: a storage of the axes in that order
        order = memory_order(values)
        turned = values.transpose(order)
        if turned.flags.c_contiguous:
            axes = [(k, 1) if values.shape[k] > 1 else None for k in order]
            pieces = select(pieces, (0,) * values.ndim, axes, turned.shape)
            return TracedArray(rearranged(rec, turned, pieces, boolean).st, values)
        values = values.copy(order="C")
    st = Storage(rec, values, pieces, boolean=boolean)
    if too_many(pieces, values.size):
        st.make_explicit()
    else:
        st._become(pieces)
    return TracedArray(st, values)


def memory_order(nd: np.ndarray) -> list[int]:
    """The axes from the slowest in memory to the fastest."""
    return sorted(range(nd.ndim), key=lambda k: -abs(nd.strides[k]))


def of_ids(rec: Recorder, values: np.ndarray, ids: np.ndarray, boolean: bool = False) -> TracedArray:
    """An array of gathered elements, given their nodes (-1: constant)."""
    values = np.array(values, order="C", ndmin=0)
    if not values.size:
        return rearranged(rec, values, [], boolean)
    st = Storage(rec, values, [], boolean=boolean)
    ids = np.ascontiguousarray(ids)
    ref = compress(rec, ids) if ids.min() >= 0 else None
    if ref is not None:
        st._become(ref if type(ref) is list else whole(values.shape, ref))
    else:
        st.ids, st.pieces = ids.reshape(-1), None
    return TracedArray(st, values)


# -- operands --------------------------------------------------------------------------------------------------


def plain(x: Any) -> Any:
    """The value of an operand, for NumPy to compute with."""
    if type(x) is TracedArray:
        return x.nd
    return x.v if isinstance(x, TracedScalar) else x


def lower(rec: Recorder, x: Any, shape: Index) -> Operand | list[Piece]:
    """What carries an operand, broadcast to `shape`."""
    if type(x) is TracedArray:
        return x.st.lower(x.nd, shape)
    if isinstance(x, TracedScalar):
        return rec.node(x.i, len(shape))
    if isinstance(x, np.ndarray) and x.ndim:
        if x.size == 1:
            return Const(float(x.reshape(-1)[0]))
        copy = rec.snapshot(x)
        return Const(copy if copy.shape == shape else np.broadcast_to(copy, shape))
    return Const(float(x))


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


def single(rec: Recorder, x: Any, shape: Index) -> Operand:
    """The operand in one piece, affine or constant: in several, or irregular, it is copied to fresh nodes first."""
    lowered = lower(rec, x, x.shape if type(x) is TracedArray else shape)
    if type(lowered) is list or type(lowered) is Indexed:
        x = compact(x)
    return lower(rec, x, shape)


def compact(x: TracedArray) -> TracedArray:
    """The same elements as one fresh block (COPY statements)."""
    rec = x.rec
    values = rec.empty(x.shape)
    values[...] = x.nd
    return fresh(rec, values, rec.emit(BY_NAME["copy"], x.shape, (x.st.lower(x.nd, x.shape),), values, read=True), x.st.boolean)


def binary(op: Op, a: TracedArray, b: TracedArray | float) -> Any:
    """op of an array with another of its shape or a float, both carried by one block and in C order: the usual case, with no more
    work than that takes.  NotImplemented: the general way is wanted."""
    st, nd = a.st, a.nd
    rec, shape = st.rec, nd.shape
    if st.block < 0 or st.boolean or not rec.open or not shape or not (len(shape) == 1 or nd.flags.c_contiguous):
        return NotImplemented
    if type(b) is TracedArray:
        other, value = b.st, b.nd
        if other.block < 0 or other.boolean or other.rec is not rec or value.shape != shape or not (
                len(shape) == 1 or value.flags.c_contiguous):
            return NotImplemented
        lowered = (st.lower(nd, shape), other.lower(value, shape))
    else:
        value = b
        lowered = (st.lower(nd, shape), Const(b))
    out = rec.empty(shape)
    if not out.size:
        return NotImplemented
    op.value(nd, value, out=out)
    read = rec.sparing and not op.linear and read_values(op, (a, b))
    boolean = op in BOOLEAN_OPS
    return TracedArray(Storage.of_block(rec, out, rec.emit(op, shape, lowered, out, read=read), boolean), out)


def elementwise(rec: Recorder, op: Op, operands: Sequence[Any]) -> Any:
    """op of any mixture of traced arrays, traced scalars and constants, broadcast."""
    values, shape, even, arrays, varying = [], None, True, False, False
    for x in operands:
        if type(x) is TracedArray:
            st, value = x.st, x.nd
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
    if not arrays and op is not WHERE:
        return rec.scalar_op(op, operands)
    if not varying:
        return rec.array_of(op.value(*map(as_plain, operands)))
    if not even or shape is None:
        shape = np.broadcast_shapes(*map(np.shape, values))
    if not shape and op is not WHERE:
        return rec.scalar_op(op, tuple(x.scalar() if type(x) is TracedArray else x for x in operands))
    if len(shape) > 1:
        order = _result_order(values)
        if order is not None:
            turned = elementwise(rec, op, [_turn(x, shape, order) for x in operands])
            return TracedArray(turned.st, turned.nd.transpose(np.argsort(order)))
    out = rec.empty(shape)
    op.value(*values, out=out)
    boolean = op in BOOLEAN_OPS
    if not out.size:
        return rearranged(rec, out, [], boolean)
    lowered = [lower(rec, x, shape) for x in operands]
    read = rec.sparing and not op.linear and read_values(op, operands)
    return fresh(rec, out, rec.emit(op, shape, lowered, out, read=read), boolean)


def read_values(op: Op, operands: Sequence[Any]) -> bool:
    """Keep the values of (lowered) operands that the partials read; whether they read the result's."""
    result = False
    for x, places in zip(operands, op.reads):
        if is_traced(x):
            for place in places:
                if place < 0:
                    result = True
                elif type(operands[place]) is TracedArray:
                    operands[place].st.need()
    return result


def _result_order(values: Sequence[Any]) -> list[int] | None:
    """The order of the result's axes in memory that NumPy takes from its operands; None for C order."""
    for value in values:
        if isinstance(value, np.ndarray) and not value.flags.c_contiguous:
            steps = [abs(s) for s, n in zip(value.strides, value.shape) if n > 1 and s]
            if any(a < b for a, b in zip(steps, steps[1:])):
                break
    else:
        return None
    result = np.nditer([*values, None], order="K", flags=["zerosize_ok"]).operands[-1]
    order = memory_order(result)
    return None if order == list(range(result.ndim)) else order


def _turn(x: Any, shape: Index, order: list[int]) -> Any:
    nd = x.nd if type(x) is TracedArray else x
    if not isinstance(nd, np.ndarray) or not nd.ndim:
        return x
    turned = np.broadcast_to(nd, shape).transpose(order)
    return TracedArray(x.st, turned) if type(x) is TracedArray else turned


# -- assignment and index arrays ------------------------------------------------------------------------------------


def assign(target: TracedArray, value: Any) -> None:
    """target[...] = value, NumPy's broadcasting and aliasing."""
    st = target.st
    rec = st.rec
    if not is_traced(value):
        value = np.asarray(value)
        if value.dtype.kind not in "fiub":
            value = value.astype(np.float64) if value.dtype.kind == "O" else rec.unsupported(
                f"assigning {value.dtype} values", "traced arrays hold real numbers")
    else:
        own(rec, value)
    values = plain(value)
    extra = np.ndim(values) - target.ndim
    if extra > 0 and np.shape(values)[:extra] == (1,) * extra:  # NumPy drops leading axes of length 1
        values = values.reshape(values.shape[extra:])
        value = TracedArray(value.st, values) if type(value) is TracedArray else values
    if st.boolean and not is_boolean(value):
        value = elementwise(rec, BY_NAME["not_equal"], (value, 0.0)) if is_traced(value) else value != 0
        values = plain(value)
    np.broadcast_shapes(np.shape(values), target.shape)
    if np.broadcast_shapes(np.shape(values), target.shape) != target.shape:
        raise ValueError(f"could not broadcast input array from shape {np.shape(values)} into shape {target.shape}")
    if type(value) is TracedArray and value.st is st and target.ndim == 1 and values.strides != target.nd.strides:
        # Where both overlap NumPy's result depends on the order of its writes: the ids are moved by the same code.
        scatter(target, ..., value)
        return
    if type(value) is TracedArray and value.st is st:
        st.need()
    st.assign(target.nd, lower(rec, value, target.shape), values)
    if type(value) is TracedArray and st.block < 0:
        value.st.need()  # its ids are where its values may not outlive it


def positions(view: np.ndarray, index: Any, offset: int) -> np.ndarray:
    """Places in the buffer of view[index], for any index: summed axis by axis, with no more memory than the result."""
    total: Any = offset
    for axis, (n, stride) in enumerate(zip(view.shape, view.strides)):
        steps = np.arange(n, dtype=np.int64) * (stride // 8)
        steps = steps.reshape((n,) + (1,) * (view.ndim - axis - 1))
        total = total + np.broadcast_to(steps, view.shape)[index]
    return np.asarray(total, dtype=np.int64)


def gather(x: TracedArray, index: Any) -> TracedArray:
    """x[index] with index arrays: a copy, whose ids are gathered likewise."""
    st, view = x.st, x.nd
    st.need()
    values = view[index]
    places = positions(view, index, (view.__array_interface__["data"][0] - st.address) // 8)
    if st.block >= 0:
        ids = places + st.rec.firsts[st.block]
    else:
        ids = (st.explicit() if st.ids is None else st.ids)[places]
    result = of_ids(st.rec, np.asarray(values), ids, st.boolean)
    return result.scalar() if np.ndim(values) == 0 else result


def scatter(x: TracedArray, index: Any, value: Any) -> None:
    """x[index] = value with index arrays; ids move as the values do, also where NumPy's result depends on the order of writes."""
    st, nd = x.st, x.nd
    rec = st.rec
    if is_traced(value):
        own(rec, value)
    elif isinstance(value, (list, tuple)):
        value = np.asarray(value)
    values = plain(value)
    st.protect()
    st.make_explicit()
    offset = (nd.__array_interface__["data"][0] - st.address) // 8
    ids = as_strided(st.ids[offset:], nd.shape, nd.strides) if nd.size else np.empty(nd.shape, np.int64)
    if type(value) is TracedArray:
        ids[index] = ids_of(value)
    else:
        ids[index] = value.i if isinstance(value, TracedScalar) else -1
    nd[index] = values


def ids_of(x: TracedArray) -> np.ndarray:
    """Explicit ids of a traced array, -1 for constants; to be read only."""
    st = x.st
    st.need()
    ids = st.explicit() if st.ids is None else st.ids
    offset = (x.nd.__array_interface__["data"][0] - st.address) // 8
    return as_strided(ids[offset:], x.shape, x.nd.strides) if x.size else np.empty(x.shape, np.int64)


def _advanced(index: Any) -> bool:
    """Whether an index holds index arrays, masks or lists."""
    if type(index) is tuple:
        return any(map(_advanced, index))
    return not (index is None or index is Ellipsis or isinstance(index, (int, np.integer, slice))) or isinstance(
        index, (bool, np.bool_))


def _single_mask(index: Any) -> TracedArray | None:
    """The traced mask that is the whole index."""
    if type(index) is tuple and len(index) == 1:
        index = index[0]
    return index if type(index) is TracedArray and index.st.boolean else None


def decided(x: Any) -> np.ndarray:
    """The value of a traced mask, as a decision: the trace is guarded by it."""
    rec = x.rec
    if isinstance(x, TracedScalar):
        return np.bool_(bool(x))
    x.st.need()
    lowered = x.st.lower(x.nd, x.shape)
    for lo, hi, ref in lowered if type(lowered) is list else whole(x.shape, lowered):
        if type(ref) is not Const:
            rec.guard(ref if type(ref) is Affine else Indexed(np.array(ref.ids)), np.array(x.nd[tuple(map(slice, lo, hi))]))
    return x.values()


def plain_index(rec: Recorder, index: Any) -> Any:
    """An index whose traced masks are decided."""
    if type(index) is tuple:
        return tuple(plain_index(rec, part) for part in index)
    if is_traced(index):
        if not is_boolean(index):
            raise IndexError("arrays used as indices must be of integer (or boolean) type")
        return decided(index)
    if type(index) is list and any(map(is_traced, index)):
        return [plain_index(rec, part) for part in index]
    return index
