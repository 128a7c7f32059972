"""Where the elements of a traced array lie on the tape.

A `Storage` is a value buffer and the nodes that carry its elements, in one of two forms:

- *pieces* (`boxes.Piece`): a few boxes, each affine on the tape or constant.  A fresh result is one piece;
  roll, concatenate and assignment to a slice make several.
- *explicit*: an int64 id beside every element (-1: a constant, whose value is in the buffer), after element
  writes in a loop, index-array writes, or when the boxes become too many.

Traced arrays are views of a storage's buffer, so NumPy's aliasing rules hold: what one view writes, all see.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..ops import COPY
from ..tape import UNREAD, Affine, Const, Indexed, Operand, c_strides
from .boxes import Index, Piece, extent, part_of, select, stretch, subtract, view_axes, whole
from .recorder import Recorder

MAX_PIECES = 16
MAX_JOINED = 256  # pieces of a concatenation or stack whose parts are large
LARGE_PIECE = 1024
SETTLE = 64  # larger storages that are read irregularly are copied to a block of their own first
FEW = 64  # ids that are looked at one by one
SMALL = 16  # storages up to this size are explicit at once when an element is written

_new = object.__new__
_ELEMENT = np.zeros(1)


class Storage:
    """A buffer of values and the nodes that carry them (see the module's text)."""

    __slots__ = (
        "_address",
        "block",
        "boolean",
        "buffer",
        "ids",
        "ids_shared",
        "made",
        "pending",
        "pieces",
        "rec",
        "ref",
        "shared",
        "__weakref__",
    )

    def __init__(
        self, rec: Recorder, buffer: np.ndarray, pieces: list[Piece], block: int = -1, boolean: bool = False
    ) -> None:
        self.rec = rec
        self.buffer = buffer
        self.pieces: list[Piece] | None = pieces
        self.ids: np.ndarray | None = None  # flat; explicit form
        self.ids_shared = False  # the tape holds a reference to ids
        self.block = block  # the block this storage is, whole and in order; -1: none
        self.shared = block >= 0  # the buffer doubles as the kept values of `block`
        self.boolean = boolean
        self.pending = False  # the buffer does not hold the values yet
        self.made: Any = None  # how the array that owns it sees the buffer, or a reference to that, if not as it is
        self.ref: Affine | None = None  # all of a block, in order: of this one, while `block` says so
        self._address = -1

    @staticmethod
    def of_block(rec: Recorder, buffer: np.ndarray, block: int, boolean: bool = False) -> Storage:
        """A fresh result: all of one block."""
        st = _new(Storage)
        st.rec, st.buffer, st.block, st.boolean = rec, buffer, block, boolean
        st.pieces = st.ids = st.ref = st.made = None  # its piece is made when wanted
        st.ids_shared = st.pending = False
        st.shared = True
        st._address = -1
        return st

    @property
    def address(self) -> int:
        if self._address < 0:
            self._address = self.buffer.__array_interface__["data"][0]
        return self._address

    def place_of(self, view: np.ndarray) -> int:
        """The place in the buffer of a view's first element."""
        return int(view.__array_interface__["data"][0] - self.address) // 8

    @property
    def whole(self) -> Affine:
        """The nodes of the block this storage is."""
        ref = self.ref
        if ref is None or ref[0] != self.block:
            ref = self.ref = Affine(self.block, 0, c_strides(self.buffer.shape))
        return ref

    @property
    def boxes(self) -> list[Piece] | None:
        """The pieces; None in explicit form."""
        if self.pieces is None and self.ids is None:
            shape = self.buffer.shape
            self.pieces = whole(shape, self.whole)
        return self.pieces

    @property
    def constant(self) -> bool:
        """Whether no element depends on an input."""
        if self.block >= 0:
            return False
        if self.ids is not None:
            return not (self.ids >= 0).any()
        return all(type(piece.ref) is Const for piece in self.pieces)

    # -- values that were put off ------------------------------------------------------------------------------

    def put_off(self) -> None:
        """The block this storage is gets computed later, into the buffer if that is still wanted then."""
        self.pending = True
        self.rec.pending[self.block] = weakref.ref(self)

    def fill(self) -> None:
        """Let the buffer hold the values: computed by the statements that were put off, or moved from other blocks."""
        if self.rec.pending:
            self.rec.compute()
        if self.pending:
            self.pending = False
            for lo, hi, operand in self.boxes:
                box = self.buffer[tuple(map(slice, lo, hi))]
                box[...] = operand.value if type(operand) is Const else self.rec.view(operand, box.shape)

    # -- reading -----------------------------------------------------------------------------------------------

    def lower(self, view: np.ndarray, shape: Index, at: int = -1) -> Operand | list[Piece]:
        """What carries `view` (of the buffer; from place `at` on, if that is known), broadcast to `shape`: an operand,
        or pieces."""
        if self.rec.capturing:
            self.need()
        if view is self.buffer and view.shape == shape:
            if self.block >= 0:
                return self.whole
            if self.ids is None and self.pieces:
                return self.pieces[0].ref if len(self.pieces) == 1 else self.pieces
        strides = steps_over(view.strides, view.shape, shape)
        if 0 in shape:
            return Const(0.0)
        offset = at if at >= 0 else self.place_of(view)
        if self.block >= 0:
            return Affine(self.block, offset, strides)
        if self.ids is None:
            if len(shape) == 1 and self.buffer.ndim == 1:
                pieces = stretch(self.pieces, offset, strides[0] if shape[0] > 1 else 1, shape[0])
                if pieces is not None:
                    return pieces[0].ref if len(pieces) == 1 else pieces
            mapped = view_axes(self.buffer.shape, shape, strides, offset)
            if mapped is not None:
                pieces = select(self.pieces, *mapped, shape)
                return pieces[0].ref if len(pieces) == 1 else pieces
            if self.buffer.size > SETTLE:
                self.settle()
                return Affine(self.block, offset, strides)
        if view.shape != shape:
            view = np.broadcast_to(view, shape)
        lowered = self._lower_explicit(view, strides, offset)
        if type(lowered) is Indexed and self.buffer.size > SETTLE and 2 * view.size >= self.buffer.size:
            self.settle()
            return Affine(self.block, offset, strides)
        return lowered

    def settle(self) -> None:
        """Copy the elements to one fresh block (COPY statements) that carries them from now on.

        For a large storage whose views can't be described by pieces: one copy, and every later operand is
        affine again.
        """
        shape = self.buffer.shape
        if self.pending:
            self.fill()
        if self.ids is None:
            operand: Operand | list[Piece] = self.pieces[0].ref if len(self.pieces) == 1 else self.pieces
        else:
            operand = self._lower_explicit(self.buffer, c_strides(shape), 0)
        values = self.rec.empty(shape)
        values[...] = self.buffer
        self.block = self.rec.emit(COPY, shape, (operand,), values, read=True)
        self.pieces, self.ids, self.ids_shared, self.shared = None, None, False, False

    def _lower_explicit(self, view: np.ndarray, strides: Index, offset: int) -> Operand | list[Piece]:
        if not self.rec.open:
            self.rec.over()
        ids = self.explicit() if self.ids is None else self.ids
        part = window(ids, view.shape, tuple([8 * s for s in strides]), offset)
        missing = part < 0
        if missing.any():
            if missing.all():
                return Const(self.rec.snapshot(view))
            core = tuple(slice(0, 1) if s == 0 else slice(None) for s in strides)  # each constant once
            part_core, missing = part[core], missing[core]
            if self.ids_shared:  # pragma: no cover - constants are numbered before ids are shared
                self._own_ids()
                return self._lower_explicit(view, strides, offset)
            first = self.rec.constant_nodes(view[core][missing])
            part_core[missing] = np.arange(first, first + int(missing.sum()))
        ref = compress(self.rec, part)
        if ref is not None:
            return ref
        if ids is self.ids and part.flags.c_contiguous:
            self.ids_shared = True
            return Indexed(part)
        return Indexed(np.array(part))

    def node(self, offset: int) -> int:
        """The node that carries the element at `offset` of the buffer; -1 for a constant."""
        if self.block >= 0:
            return self.rec.firsts[self.block] + offset
        if self.ids is not None:
            return int(self.ids[offset])
        index = []
        for step in c_strides(self.buffer.shape):
            index.append(offset // step)
            offset -= index[-1] * step
        for piece in self.pieces:
            if all(low <= i < high for low, i, high in zip(piece.lo, index, piece.hi)):
                here = part_of(piece, tuple(index), tuple(i + 1 for i in index)).ref
                if type(here) is Const:
                    return -1
                return int(here.ids.item()) if type(here) is Indexed else self._first(here.block) + here.offset
        raise AssertionError("an element that no piece covers")

    def _first(self, block: int) -> int:
        firsts = self.rec.firsts
        return firsts[block] if block < len(firsts) else self.rec.n  # the open scalar run

    def explicit(self) -> np.ndarray:
        """Flat ids of all elements, -1 for constants."""
        shape = self.buffer.shape
        ids = np.full(shape, -1, dtype=np.int64)
        for lo, hi, ref in self.boxes:
            if type(ref) is not Const:
                if type(ref) is Affine and len(self.boxes) == 1 and ref.strides == c_strides(shape):
                    first = self._first(ref.block) + ref.offset
                    return np.arange(first, first + ids.size)
                box = tuple(map(slice, lo, hi))
                ids[box] = ref.ids if type(ref) is Indexed else ref.ids(self._first(ref.block), extent(lo, hi))
        return ids.reshape(-1)

    # -- writing -----------------------------------------------------------------------------------------------

    def need(self) -> None:
        """The values of the block this storage is will be read: keep them (others are kept where ids leave
        their storage)."""
        if self.block >= 0 and self.rec.sparing:
            if not self.rec.open:
                self.rec.over()
            if self.rec.values[self.block] is UNREAD:
                self.rec.values[self.block] = self.buffer.reshape(-1)
                self.shared = True

    def protect(self, whole: bool = False) -> None:
        """Before the buffer is written (all of it, if `whole`): what the tape keeps of the block must stay as
        computed."""
        if not self.rec.open:
            self.rec.over()
        if self.rec.sealed and self in self.rec.sealed:
            self.rec.unsupported(*self.rec.sealed[self])
        if self.pending:
            self.fill()
        if self.block >= 0 and self.rec.keep_values:
            if self.rec.values[self.block] is UNREAD:
                if not whole:  # the elements that stay are still this block's
                    self.rec.values[self.block] = self.buffer.reshape(-1).copy()
            elif self.shared:
                self.rec.values[self.block] = self.buffer.reshape(-1).copy()
        self.shared = False

    def _own_ids(self) -> None:
        if self.ids_shared:
            self.ids, self.ids_shared = self.ids.copy(), False

    def make_explicit(self) -> None:
        """Take the explicit form, with ids that may be written."""
        if self.pending:
            self.fill()
        if self.ids is None:
            self.ids = self.explicit()
            self.pieces, self.block = None, -1
        else:
            self._own_ids()

    def assign(self, view: np.ndarray, lowered: Operand | list[Piece], values: Any, at: int = -1) -> None:
        """view[...] = values, where `lowered` (over view.shape) carries the values; at: the view's place, if known."""
        if not view.flags.writeable:  # before anything is noted: f may catch it
            raise ValueError("assignment destination is read-only")
        self.protect(whole=view.size == self.buffer.size)
        shape = self.buffer.shape
        if view.size:
            offset = at if at >= 0 else self.place_of(view)
            strides = tuple(s // 8 if n > 1 else 0 for s, n in zip(view.strides, view.shape))
            new = lowered if type(lowered) is list else whole(view.shape, lowered)
            if (
                view.size == self.buffer.size
                and view.shape == shape
                and offset == 0
                and all(s == c or n == 1 for s, c, n in zip(strides, c_strides(shape), shape))
            ):
                self._become(new)
            elif self.ids is not None or not self._assign_box(view, strides, offset, new):
                self.make_explicit()
                ids = window(self.ids, view.shape, view.strides, offset)
                for lo, hi, ref in new:
                    box = tuple(map(slice, lo, hi))
                    if type(ref) is Const:
                        ids[box] = -1
                    else:
                        ids[box] = (
                            ref.ids if type(ref) is Indexed else ref.ids(self._first(ref.block), extent(lo, hi))
                        )
        view[...] = values

    def becomes(self, other: Storage) -> bool:
        """Take over all elements of another storage that is one block, values and nodes; False: not so simply."""
        if (other.block < 0 or self.block < 0 or self.pending or other.pending or other.boolean or self.boolean
                or other.buffer.shape != self.buffer.shape or other is self):
            return False
        if not self.buffer.flags.writeable:
            raise ValueError("assignment destination is read-only")
        self.protect(whole=True)
        self.block, self.pieces = other.block, None
        self.buffer[...] = other.buffer
        return True

    def _become(self, pieces: list[Piece]) -> None:
        self.ids, self.ids_shared, self.block, self.pieces = None, False, -1, pieces
        if len(pieces) == 1 and type(pieces[0].ref) is Affine:
            ref, shape = pieces[0].ref, self.buffer.shape
            blocks = self.rec.tape.blocks
            if (
                ref.offset == 0
                and ref.block < len(blocks)
                and blocks[ref.block].size == self.buffer.size
                and all(s == c or n == 1 for s, c, n in zip(ref.strides, c_strides(shape), shape))
            ):
                self.block, self.pieces = ref.block, None

    def _assign_box(self, view: np.ndarray, strides: Index, offset: int, new: list[Piece]) -> bool:
        """Replace a box of the pieces; False where it is no box, or the pieces become too many."""
        shape = self.buffer.shape
        if view.size == 1 and self.buffer.size <= SMALL:
            return False
        if len(shape) == view.ndim == 1 and (strides[0] == 1 or view.size == 1):
            return self._assign_stretch(offset, offset + view.size, new)
        mapped = view_axes(shape, view.shape, strides, offset)
        if mapped is None or any(axis is not None and abs(axis[1]) != 1 for axis in mapped[1]):
            return False
        base, axes = mapped
        moving = {axis[0]: (k, axis[1]) for k, axis in enumerate(axes) if axis is not None}
        lo, hi = list(base), [b + 1 for b in base]
        view_base, view_map = [0] * view.ndim, []  # the buffer's box as a view of `view`: the inverse mapping
        for axis in range(len(shape)):
            if axis not in moving:
                view_map.append(None)
                continue
            k, step = moving[axis]
            n = view.shape[k]
            if step > 0:
                hi[axis] = base[axis] + n
            else:
                lo[axis], view_base[k] = base[axis] - n + 1, n - 1
            view_map.append((k, step))
        box = tuple(h - low for low, h in zip(lo, hi))
        turned = select(new, tuple(view_base), view_map, box)
        pieces = subtract(self.boxes, tuple(lo), tuple(hi))
        if len(pieces) + len(turned) > MAX_PIECES:
            return False
        pieces += [
            Piece(tuple(a + b for a, b in zip(p.lo, lo)), tuple(a + b for a, b in zip(p.hi, lo)), p.ref)
            for p in turned
        ]
        self.pieces, self.block = pieces, -1
        return True


    def _assign_stretch(self, begin: int, end: int, new: list[Piece]) -> bool:
        """The same for elements begin, ..., end - 1 of one axis."""
        pieces = []
        for piece in self.boxes:
            (low,), (high,), _ = piece
            if high <= begin or low >= end:
                pieces.append(piece)
                continue
            if low < begin:
                pieces.append(part_of(piece, (low,), (begin,)))
            if high > end:
                pieces.append(part_of(piece, (end,), (high,)))
        if len(pieces) + len(new) > MAX_PIECES:
            return False
        pieces += [Piece((low + begin,), (high + begin,), ref) for (low,), (high,), ref in new]
        self.pieces, self.block = pieces, -1
        return True


@lru_cache(maxsize=4096)
def steps_over(strides: Index, lengths: Index, shape: Index) -> Index:
    """The strides, in elements, of a view of these strides (in bytes) and lengths that is broadcast to `shape`."""
    view = np.broadcast_to(as_strided(_ELEMENT, lengths, strides), shape)  # of no memory: its strides are read only
    return tuple([s // 8 if n > 1 else 0 for s, n in zip(view.strides, shape)])


def window(flat: np.ndarray, shape: Index, strides: Index, offset: int) -> np.ndarray:
    """A view of a flat array of 8 bytes an element, from place `offset` on, with these strides in bytes."""
    return np.ndarray(shape, flat.dtype, flat, 8 * offset, strides)


def spread(values: np.ndarray, shape: Index) -> np.ndarray:
    """Plain values, broadcast."""
    if values.shape == shape:
        return values
    return np.ndarray(shape, np.float64, values, 0, [8 * s for s in steps_over(values.strides, values.shape, shape)]
                      ) if values.flags.c_contiguous else np.broadcast_to(values, shape)


def too_many(pieces: Sequence[Piece], size: int) -> bool:
    """Whether joined pieces had better become explicit ids."""
    return len(pieces) > (MAX_JOINED if size >= LARGE_PIECE * len(pieces) else MAX_PIECES)


def compress(rec: Recorder, ids: np.ndarray) -> Operand | list[Piece] | None:
    """Explicit ids as an affine operand, or (one axis) as a few affine pieces; None if they are irregular, or some
    constants."""
    ref = _affine(rec, ids)
    if ref is not None or ids.ndim != 1 or len(ids) < 2 * MAX_PIECES:
        return ref
    steps = np.diff(ids)
    turns = np.flatnonzero(steps[1:] != steps[:-1])
    if len(turns) > 2 * MAX_PIECES:
        return None
    pieces, start = [], 0
    while start < len(ids):
        if start == len(ids) - 1:
            stop = start + 1
        else:
            ends = np.flatnonzero(steps[start:] != steps[start])
            stop = start + int(ends[0]) + 1 if len(ends) else len(ids)
        ref = _affine(rec, ids[start:stop])
        if ref is None or len(pieces) >= MAX_PIECES:
            return None
        pieces.append(Piece((start,), (stop,), ref))
        start = stop
    return pieces


def _affine_few(rec: Recorder, ids: list[int]) -> Affine | None:
    """`_affine` of a few ids along one axis."""
    first, n = ids[0], len(ids)
    if first < 0:
        return None
    step = ids[1] - first if n > 1 else 0
    if step:
        if ids != list(range(first, first + step * n, step)):
            return None
    elif ids.count(first) != n:
        return None
    firsts = rec.firsts
    block = rec.block_of(first)
    if block < len(firsts):
        start = firsts[block]
        stop = start + rec.tape.blocks[block].size
    else:
        start, stop = rec.n, 1 << 62
    last = ids[-1]
    if not start <= last < stop or first >= stop:
        return None
    return Affine(block, first - start, (step,))


def _affine(rec: Recorder, ids: np.ndarray) -> Affine | None:
    if ids.ndim == 1 and ids.size <= FEW:
        return _affine_few(rec, ids.tolist())
    first = ids.item(0)
    if first < 0:
        return None
    strides = tuple(
        [ids.item((0,) * k + (1,) + (0,) * (ids.ndim - k - 1)) - first if n > 1 else 0 for k, n in enumerate(ids.shape)]
    )
    spans = [s * (n - 1) for s, n in zip(strides, ids.shape)]
    if ids.item(-1) != first + sum(spans):
        return None
    block = rec.block_of(first)
    if block < len(rec.firsts):
        start, stop = rec.firsts[block], rec.firsts[block] + rec.tape.blocks[block].size
    else:
        start, stop = rec.n, 1 << 62
    if first + sum([min(0, span) for span in spans]) < start or first + sum([max(0, span) for span in spans]) >= stop:
        return None
    ref = Affine(block, first - start, strides)
    if prod(ids.shape) > 2 and not np.array_equal(ids, ref.ids(start, ids.shape)):
        return None
    return ref
