"""Pieces: how the elements of an array lie on the tape, as a list of boxes.

A *piece* (lo, hi, ref) says that the elements with lo <= index < hi are carried by `ref`, an operand over the
box's shape (`tape.Affine`, `tape.Const`, `tape.Indexed`).  The pieces of an array are disjoint and cover it.
Everything that moves data (slices, roll, concatenate, pad, assignment to a slice) rearranges pieces: no
statement, no id per element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from operator import mul, sub
from typing import NamedTuple

import numpy as np

from ..tape import Affine, Const, Indexed, Operand, c_strides

_new = tuple.__new__

Index = tuple[int, ...]
Axis = tuple[int, int] | None  # of a view: (the array's axis, step), or None where it moves along no axis


class Piece(NamedTuple):
    """The elements lo <= index < hi are carried by ref."""

    lo: Index
    hi: Index
    ref: Operand


def whole(shape: Index, ref: Operand) -> list[Piece]:
    """One piece that covers an array."""
    return [Piece((0,) * len(shape), shape, ref)]


def extent(lo: Index, hi: Index) -> Index:
    """Shape of a box."""
    return tuple(h - low for low, h in zip(lo, hi))


@lru_cache(maxsize=4096)
def view_axes(shape: Index, view_shape: Index, strides: Index, offset: int) -> tuple[Index, tuple[Axis, ...]] | None:
    """Which axis of a C-ordered array of `shape` each axis of a view moves along, and the index of its first element.

    strides and offset count elements.  None if an axis of the view moves along several axes at once (a
    diagonal, or axes that a reshape merged).
    """
    base, rest, steps = [], offset, c_strides(shape)
    for step in steps:
        base.append(rest // step if step else 0)
        rest -= base[-1] * step
    axes: list[Axis] = []
    used = set()
    for n, stride in zip(view_shape, strides):
        if n == 1 or stride == 0:
            axes.append(None)
            continue
        for axis, step in enumerate(steps):
            if axis in used or stride % step:
                continue
            if 0 <= base[axis] + stride // step * (n - 1) < shape[axis]:
                used.add(axis)
                axes.append((axis, stride // step))
                break
        else:
            return None
    return tuple(base), tuple(axes)


@lru_cache(maxsize=4096)
def in_c_order(shape: Index, strides: Index) -> bool:
    """Whether the axes of a view lie in memory in C's order."""
    steps = [abs(s) for s, n in zip(strides, shape) if n > 1 and s]
    return all(a >= b for a, b in zip(steps, steps[1:]))


def select(pieces: Sequence[Piece], base: Index, axes: Sequence[Axis], view_shape: Index) -> list[Piece]:
    """Pieces of a view: view index i stands for element base + sum_k i_k step_k e_axis_k."""
    plan = [(start, -1, 0) for start in base]  # for each axis of the array: start, the view's axis, step
    for k, axis in enumerate(axes):
        if axis is not None:
            plan[axis[0]] = (base[axis[0]], k, axis[1])
    selected = []
    for lo, hi, ref in pieces:
        first, last = [0] * len(view_shape), list(view_shape)
        for (start, k, step), low, high in zip(plan, lo, hi):
            if k < 0:
                if low <= start < high:
                    continue
                break
            if step > 0:  # low <= start + step i < high
                begin, end = -((start - low) // step), -((start - high) // step)
            else:  # the same with the bounds turned round
                begin, end = -((high - 1 - start) // -step), (start - low) // -step + 1
            if begin > 0:
                first[k] = begin
            if end < last[k]:
                last[k] = end
            if first[k] >= last[k]:
                break
        else:
            corner = [start + (first[k] * step if k >= 0 else 0) - low for (start, k, step), low in zip(plan, lo)]
            box = tuple([b - a for a, b in zip(first, last)])
            if type(ref) is Affine:
                offset = ref.offset
                for i, stride in zip(corner, ref.strides):
                    offset += i * stride
                steps = [0 if axis is None or n == 1 else ref.strides[axis[0]] * axis[1] for axis, n in zip(axes, box)]
                part: Operand = Affine(ref.block, offset, tuple(steps))
            else:
                part = _part(ref, corner, axes, box)
            selected.append(Piece(tuple(first), tuple(last), part))
    return selected


def stretch(pieces: Sequence[Piece], start: int, step: int, n: int) -> list[Piece] | None:
    """Pieces of a view of an array of one axis, elements start, start + step, ... (n of them), as `select` gives them;
    None where it is not as simple: elements in reverse, or values given one by one."""
    if step < 1:
        return None
    found = []
    for (low,), (high,), ref in pieces:
        first = (low - start + step - 1) // step if low > start else 0
        last = min((high - start + step - 1) // step, n)
        if first >= last:
            continue
        if type(ref) is Affine:
            stride = ref.strides[0]
            inside = Affine(ref.block, ref.offset + (start + first * step - low) * stride,
                            (stride * step if last - first > 1 else 0,))
        elif type(ref) is Const and type(ref.value) is float:
            inside = ref
        else:
            return None
        found.append(Piece((first,), (last,), inside))
    return found


def _part(ref: Const | Indexed, corner: Sequence[int], axes: Sequence[Axis], box: Index) -> Operand:
    """What carries a view of shape `box` into a piece of explicit values; its first element is at `corner` there."""
    values = ref.value if type(ref) is Const else ref.ids
    if isinstance(values, float):
        return ref
    index: list[int | slice] = list(corner)
    order = []
    for k, axis in enumerate(axes):
        if axis is None:
            continue
        start, step = corner[axis[0]], axis[1]
        stop = start + step * box[k]
        index[axis[0]] = slice(start, stop if stop >= 0 else None, step)
        order.append((axis[0], k))
    part = values[tuple(index)]
    if order:
        by_array_axis = [k for _, k in sorted(order)]
        part = part.transpose([by_array_axis.index(k) for _, k in order])
        part = part[tuple(np.newaxis if axis is None else slice(None) for axis in axes)]
    part = np.broadcast_to(np.asarray(part), box)
    return Const(part) if type(ref) is Const else Indexed(part)


def cut(pieces: Sequence[Piece], shape: Index, axis: int, index: range) -> tuple[list[Piece], Index]:
    """Pieces and shape of array[..., index, ...] along one axis."""
    view_shape = shape[:axis] + (len(index),) + shape[axis + 1 :]
    if 0 in view_shape:
        return [], view_shape
    if len(pieces) == 1 and type(pieces[0].ref) is Affine:
        block, offset, strides = pieces[0].ref
        turned = strides[:axis] + (strides[axis] * index.step,) + strides[axis + 1 :]
        return whole(view_shape, Affine(block, offset + index[0] * strides[axis], turned)), view_shape
    base = tuple(index[0] if k == axis else 0 for k in range(len(shape)))
    axes: list[Axis] = [(k, index.step if k == axis else 1) if n > 1 else None for k, n in enumerate(view_shape)]
    return select(pieces, base, axes, view_shape), view_shape


def join(parts: Sequence[tuple[Sequence[Piece], Index]], axis: int) -> tuple[list[Piece], Index]:
    """Pieces and shape of arrays laid one after another along an axis."""
    joined, start = [], 0
    for pieces, shape in parts:
        for lo, hi, ref in pieces:
            joined.append(
                Piece(
                    lo[:axis] + (lo[axis] + start,) + lo[axis + 1 :],
                    hi[:axis] + (hi[axis] + start,) + hi[axis + 1 :],
                    ref,
                )
            )
        start += shape[axis]
    shape = parts[0][1]
    return joined, shape[:axis] + (start,) + shape[axis + 1 :]


def merge(pieces: Sequence[Piece], axis: int) -> list[Piece]:
    """Unite neighbours along an axis that continue each other: roll by 0, or two halves put back together."""
    merged: list[Piece] = []
    for piece in sorted(pieces, key=lambda p: (p.lo[:axis], p.lo[axis + 1 :], p.lo[axis])):
        if merged and _continues(merged[-1], piece, axis):
            last = merged.pop()
            strides = _strides_along(last, piece, axis)
            piece = Piece(last.lo, piece.hi, last.ref if strides is None else last.ref._replace(strides=strides))
        merged.append(piece)
    return merged


def _strides_along(last: Piece, piece: Piece, axis: int) -> Index | None:
    if not isinstance(last.ref, Affine):
        return None
    gap = piece.lo[axis] - last.lo[axis]
    return last.ref.strides[:axis] + ((piece.ref.offset - last.ref.offset) // gap,) + last.ref.strides[axis + 1 :]


def _continues(last: Piece, piece: Piece, axis: int) -> bool:
    if last.hi[axis] != piece.lo[axis] or any(
        k != axis and (last.lo[k] != piece.lo[k] or last.hi[k] != piece.hi[k]) for k in range(len(last.lo))
    ):
        return False
    a, b = last.ref, piece.ref
    if isinstance(a, Const) and isinstance(b, Const):
        return isinstance(a.value, float) and isinstance(b.value, float) and a.value == b.value != 0.0
    if not (isinstance(a, Affine) and isinstance(b, Affine)) or a.block != b.block:
        return False
    n_a, n_b = last.hi[axis] - last.lo[axis], piece.hi[axis] - piece.lo[axis]
    if any(
        s != t and extent(piece.lo, piece.hi)[k] > 1
        for k, (s, t) in enumerate(zip(a.strides, b.strides))
        if k != axis
    ):
        return False
    step, odd = divmod(b.offset - a.offset, n_a)
    return not odd and (n_a == 1 or a.strides[axis] == step) and (n_b == 1 or b.strides[axis] == step)


def subtract(pieces: Sequence[Piece], lo: Index, hi: Index) -> list[Piece]:
    """What is left of the pieces outside a box."""
    left = []
    for piece in pieces:
        if any(p_hi <= low or p_lo >= high for p_lo, p_hi, low, high in zip(piece.lo, piece.hi, lo, hi)):
            left.append(piece)
            continue
        p_lo, p_hi = list(piece.lo), list(piece.hi)
        for axis in range(len(lo)):
            if p_lo[axis] < lo[axis]:
                left.append(part_of(piece, tuple(p_lo), tuple(p_hi[:axis] + [lo[axis]] + p_hi[axis + 1 :])))
                p_lo[axis] = lo[axis]
            if p_hi[axis] > hi[axis]:
                left.append(part_of(piece, tuple(p_lo[:axis] + [hi[axis]] + p_lo[axis + 1 :]), tuple(p_hi)))
                p_hi[axis] = hi[axis]
    return left


def part_of(piece: Piece, lo: Index, hi: Index) -> Piece:
    """A piece cut down to a smaller box (given in the array's indices)."""
    if lo == piece.lo and hi == piece.hi:
        return piece
    ref = piece.ref
    if type(ref) is Affine:
        block, offset, strides = ref
        for a, b, step in zip(lo, piece.lo, strides):
            offset += (a - b) * step
        return Piece(lo, hi, Affine(block, offset, strides))
    corner = tuple(a - b for a, b in zip(lo, piece.lo))
    if isinstance(ref, Indexed):
        ref = Indexed(ref.ids[tuple(slice(c, c + n) for c, n in zip(corner, extent(lo, hi)))])
    elif not isinstance(ref.value, float):
        ref = Const(ref.value[tuple(slice(c, c + n) for c, n in zip(corner, extent(lo, hi)))])
    return Piece(lo, hi, ref)


def refine(
    operands: Sequence[Operand | list[Piece]], shape: Index
) -> Iterator[tuple[Index, Index, tuple[Operand, ...]]]:
    """The common refinement, (corner, extent, operands) a box: boxes on which every operand is one piece.  A bare
    operand covers everything."""
    several = [operand for operand in operands if type(operand) is list]
    if len(several) == 1:  # its pieces are the boxes
        for piece in several[0]:
            lo, hi, ref = piece
            yield lo, tuple(map(sub, hi, lo)), tuple([
                ref if type(operand) is list else operand if type(operand) is Const and type(operand.value) is float
                else _corner(operand, shape, lo, hi) for operand in operands])
        return
    origin = (0,) * len(shape)
    pieces = [operand if type(operand) is list else [Piece(origin, shape, operand)] for operand in operands]
    for lo, hi, size, chosen in _common(shape, tuple([tuple([piece[:2] for piece in parts]) for parts in pieces])):
        yield lo, size, tuple([part_of(parts[k], lo, hi).ref for parts, k in zip(pieces, chosen)])


def _corner(ref: Operand, shape: Index, lo: Index, hi: Index) -> Operand:
    """The part that a box reads of an operand over `shape`."""
    if type(ref) is Affine:
        block, offset, strides = ref
        return _new(Affine, (block, offset + sum(map(mul, lo, strides)), strides))
    return part_of(Piece((0,) * len(shape), shape, ref), lo, hi).ref


@lru_cache(maxsize=1024)
def _common(
    shape: Index, bounds: tuple[tuple[tuple[Index, Index], ...], ...]
) -> list[tuple[Index, Index, Index, tuple[int, ...]]]:
    """(lo, hi, extent, number of the box of each operand it lies in) of the common refinement of operands' boxes.

    It is the same at every turn of a loop.
    """
    found: list[tuple[Index, Index, tuple[int, ...]]] = [((0,) * len(shape), shape, ())]
    for boxes in bounds:
        finer = []
        for lo, hi, chosen in found:
            for k, (box_lo, box_hi) in enumerate(boxes):
                low, high = tuple(map(max, lo, box_lo)), tuple(map(min, hi, box_hi))
                if all(a < b for a, b in zip(low, high)):
                    finer.append((low, high, (*chosen, k)))
        found = finer
    return [(lo, hi, extent(lo, hi), chosen) for lo, hi, chosen in found]
