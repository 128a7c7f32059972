"""Strided views of flat vectors, and the sums and contractions over them; which blocks explicit ids lie in.

The views here are *core views*: an operand that does not depend on an axis of the iteration space has length 1
there (instead of stride 0), so NumPy's broadcasting does the rest and no array ever has the size of an iteration
space that its data does not fill.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np

from .flags import note, note_product
from .tape import Affine, Block

SHARED = 1 << 21  # numbers that are kept for all ranges, 16 MiB
ITEM = 8  # bytes of a float64
TILE = 16384  # elements of a temporary that stays in the first two cache levels


def core_shape(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with length 1 along the axes of stride 0."""
    if 0 in strides:
        return tuple(n if s else 1 for n, s in zip(shape, strides))
    return shape


def core_view(flat: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """Elements offset + sum_k i_k strides_k of a contiguous vector (n,) or of the rows of (n, m), never copied.

    Length 1 where the stride is 0; for (n, m), which may lie in C or in Fortran order, there is a trailing axis of m.
    """
    shape = core_shape(shape, strides)
    if flat.ndim == 1:
        if len(shape) == 1 and strides[0] == 1:
            return flat[offset : offset + shape[0]]
        if 0 in shape:
            return np.empty(shape)
        return np.ndarray(shape, flat.dtype, flat, offset * ITEM, [s * ITEM for s in strides])
    m = flat.shape[1]
    if 0 in shape:
        return np.empty((*shape, m))
    row, column = flat.strides
    memory = flat if flat.flags.c_contiguous else flat.T
    return np.ndarray((*shape, m), flat.dtype, memory, offset * row, [*(s * row for s in strides), column])


def core_array(value: np.ndarray) -> np.ndarray:
    """A constant array with its stride-0 axes shortened to length 1."""
    if 0 in value.strides and value.size:
        return value[tuple(slice(0, 1) if s == 0 else slice(None) for s in value.strides)]
    return value


def interval(ref: Affine, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(start, stop) if `ref` runs through consecutive nodes of its block in C order, else None."""
    strides = ref.strides
    if len(shape) == 1:  # the common case, first
        n = shape[0]
        return (ref.offset, ref.offset + n) if strides[0] == 1 or n <= 1 else None
    expected = 1
    for n, stride in zip(reversed(shape), reversed(strides)):
        if n != 1:
            if stride != expected and n:
                return None
            expected *= n
    return ref.offset, ref.offset + expected


def one_to_one(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether different indices certainly meet different elements (stride-0 axes taken as length 1)."""
    reach = 0
    for stride, n in sorted((abs(s), n) for n, s in zip(shape, strides) if s and n > 1):
        if stride <= reach:
            return False
        reach += (n - 1) * stride
    return True


def accumulate(dst: np.ndarray, src: np.ndarray, p: float | np.ndarray, shape: tuple[int, ...],
               scale: float = 1.0, write: bool = False) -> None:
    """dst[k] (+)= scale sum p[k] src[k] over the iteration space `shape`, summed where dst has length 1.

    dst, src and p are core views over `shape` (dst and src may have one more, trailing axis of columns, for which p
    has a trailing 1); dst must not meet an element twice. `write` overwrites dst instead of adding to it.
    """
    if 0 in shape:
        if write:
            dst[...] = 0.0
        return
    if isinstance(p, float):
        scale, p = scale * p, None
    for d, n in zip(dst.shape, shape):
        if d != n:
            break
    else:  # nothing to sum: elementwise
        if p is None:
            _axpy(dst, src, scale, write)
        elif write:
            np.multiply(p, src, out=dst)
            if scale != 1.0:
                dst *= scale
        else:
            _multiply_add(dst, src, p, scale)
        return
    if p is None:
        _sum(dst, src, shape, scale, write)
    else:
        contract(dst, p, src, shape, scale, write)


def accumulate_overlapping(dst: np.ndarray, src: np.ndarray, p: float | np.ndarray, shape: tuple[int, ...],
                           scale: float, write: bool, strides: tuple[int, ...]) -> None:
    """`accumulate` where dst meets elements twice (sliding windows): one index of the shortest axis after another.

    `strides` are those of dst, in elements.  With enough axes cut to length 1 the others are one to one.
    """
    if one_to_one(dst.shape[: len(shape)], strides):
        accumulate(dst, src, p, shape, scale, write)
        return
    axis = min((n, k) for k, n in enumerate(dst.shape[: len(shape)]) if n > 1)[1]
    for i in range(shape[axis]):
        def cut(x: Any, i: int = i) -> Any:
            if not isinstance(x, np.ndarray) or x.shape[axis] == 1:
                return x
            return x[(slice(None),) * axis + (slice(i, i + 1),)]
        part = (*shape[:axis], 1, *shape[axis + 1 :])
        accumulate_overlapping(cut(dst), cut(src), cut(p), part, scale, False, strides)


def with_columns(p: np.ndarray, shape: tuple[int, ...], columns: bool) -> np.ndarray:
    """A coefficient over `shape` beside core views: all axes are there, and a trailing one if they have columns."""
    if p.ndim < len(shape):
        p = p.reshape((1,) * (len(shape) - p.ndim) + p.shape)
    return p[..., None] if columns else p


def _axpy(dst: np.ndarray, src: np.ndarray, scale: float, write: bool) -> None:
    if write:
        if scale == 1.0:
            np.copyto(dst, src)
        else:
            np.multiply(src, scale, out=dst)
    elif scale == 1.0:
        np.add(dst, src, out=dst)
    elif scale == -1.0:
        np.subtract(dst, src, out=dst)
    elif src.size <= TILE or src.ndim == 0 or src.shape[0] == 1:
        dst += src * scale
    else:
        rows = max(1, TILE * src.shape[0] // src.size)
        for i in range(0, src.shape[0], rows):
            part = dst[i : i + rows]
            np.add(part, src[i : i + rows] * scale, out=part)


def _multiply_add(dst: np.ndarray, src: np.ndarray, p: np.ndarray, scale: float) -> None:
    if dst.size <= TILE or dst.ndim == 0 or dst.shape[0] == 1:
        t = p * src
        if scale != 1.0:
            t *= scale
        dst += t
        return
    rows = max(1, TILE * dst.shape[0] // dst.size)
    p_moves, src_moves = p.ndim == dst.ndim and p.shape[0] != 1, src.shape[0] != 1
    for i in range(0, dst.shape[0], rows):
        part = dst[i : i + rows]
        t = (p[i : i + rows] if p_moves else p) * (src[i : i + rows] if src_moves else src)
        if scale != 1.0:
            t *= scale
        np.add(part, t, out=part)


def _sum(dst: np.ndarray, src: np.ndarray, shape: tuple[int, ...], scale: float, write: bool) -> None:
    """dst (+)= scale * sum of src over the axes where dst has length 1."""
    axes = []
    for k, n in enumerate(shape):
        if dst.shape[k] == 1 and n != 1:
            if src.shape[k] == 1:
                scale *= n  # neither depends on this axis
            else:
                axes.append(k)
    if axes:
        src = np.add.reduce(src, axis=tuple(axes), keepdims=True)
    _axpy(dst, src, scale, write)


def contract(dst: np.ndarray, a: np.ndarray, b: np.ndarray, shape: tuple[int, ...],
             scale: float = 1.0, write: bool = True) -> None:
    """dst (+)= scale * sum a*b over the axes where dst has length 1, mapped onto matrix products.

    dst, a, b: core views over `shape`; b and dst may have one more axis of columns (a then a trailing 1).
    No temporary is larger than an operand or the result.
    """
    contraction(dst, a, b, shape, scale, write)()


def contraction(dst: np.ndarray, a: np.ndarray, b: np.ndarray, shape: tuple[int, ...],
                scale: float = 1.0, write: bool = True) -> Callable[[], None]:
    """`contract` as a call that can be made again whenever the arrays, which it looks into, hold other values."""
    full = (*shape, *dst.shape[len(shape):])
    if a.ndim < len(full):
        a = a.reshape(a.shape + (1,) * (len(full) - a.ndim))
    both, rows, columns = [], [], []  # in the result: axes of both factors, of a alone, of b alone
    inner, a_only, b_only = [], [], []
    for k, n in enumerate(full):
        if n == 1:
            continue
        in_a, in_b = a.shape[k] != 1, b.shape[k] != 1
        if dst.shape[k] != 1:
            if in_a or in_b:
                (both if in_a and in_b else rows if in_a else columns).append(k)
        elif in_a and in_b:
            inner.append(k)
        elif in_a:
            a_only.append(k)
        elif in_b:
            b_only.append(k)
        else:
            scale *= n
    if not inner:
        return partial(_outer, dst, a, b, a_only, b_only, scale, write)
    if rows and columns and abs(dst.strides[rows[-1]]) < abs(dst.strides[columns[-1]]):  # the result's own order
        a, b, rows, columns, a_only, b_only = b, a, columns, rows, b_only, a_only
    order = [*both, *rows, *columns]
    result = dst.transpose([*order, *(k for k in range(len(full)) if k not in order)])
    groups = (both, rows, inner), (both, inner, columns)

    def factors() -> tuple[np.ndarray, np.ndarray]:
        return _matrices(_summed(a, a_only), *groups[0]), _matrices(_summed(b, b_only), *groups[1])

    if not a_only and not b_only and all(_merges(x, axes) for x, three in zip((a, b), groups) for axes in three):
        left, right = factors()
        if np.may_share_memory(left, a) and np.may_share_memory(right, b):  # views, so there is nothing to do again
            def factors() -> tuple[np.ndarray, np.ndarray]:
                return left, right

    stacked = tuple(prod(full[k] for k in axes) for axes in (both, rows, columns))
    by_blas = bool(rows or columns)
    if by_blas and write and scale == 1.0 and result.flags.c_contiguous and result.size == prod(stacked):
        out = result.reshape(stacked)

        def write_all() -> None:
            left, right = factors()
            note_product(left, right, np.matmul(left, right, out=out))

        return write_all
    final = tuple(full[k] for k in order) + (1,) * (result.ndim - len(order))

    def multiply() -> None:
        left, right = factors()
        if by_blas:
            product = np.matmul(left, right)
            note_product(left, right, product)
        else:  # many dot products: no call of BLAS for each
            product = np.einsum("bk,bk->b", left[:, 0, :], right[:, :, 0])
            note()
        _axpy(result, product.reshape(final), scale, write)

    return multiply


def _outer(dst: np.ndarray, a: np.ndarray, b: np.ndarray, a_only: list[int], b_only: list[int], scale: float,
           write: bool) -> None:
    a, b = _summed(a, a_only), _summed(b, b_only)
    if write:
        np.multiply(a, b, out=dst)
        if scale != 1.0:
            dst *= scale
    else:
        _axpy(dst, a * b, scale, False)


def _summed(x: np.ndarray, axes: list[int]) -> np.ndarray:
    """x with length 1 along axes that are summed."""
    return np.add.reduce(x, axis=tuple(axes), keepdims=True) if axes else x


def _merges(x: np.ndarray, axes: list[int]) -> bool:
    """Whether the axes can be taken as one without a copy."""
    expected = None
    for k in reversed(axes):
        if x.shape[k] != 1:
            if expected is not None and x.strides[k] != expected:
                return False
            expected = x.strides[k] * x.shape[k]
    return True


def _matrices(x: np.ndarray, both: list[int], rows: list[int], columns: list[int]) -> np.ndarray:
    """x as a stack of matrices (batch, rows, columns); its other axes have length 1."""
    order = [*both, *rows, *columns]
    rest = [k for k in range(x.ndim) if k not in order]
    n = x.shape
    stack = x.transpose([*order, *rest]).reshape(
        prod(n[k] for k in both), prod(n[k] for k in rows), prod(n[k] for k in columns))
    if ITEM not in stack.strides[1:] and stack.size:
        stack = np.ascontiguousarray(stack)  # BLAS wants one of the two axes to have neighbouring elements
    return stack


class BlockIndex:
    """Which block a node lies in."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    @cached_property
    def full(self) -> list[int]:
        """Blocks that have nodes."""
        return [i for i, b in enumerate(self.blocks) if 0 not in b.shape]

    @cached_property
    def firsts(self) -> np.ndarray:
        """Their first nodes."""
        return np.array([self.blocks[i].first for i in self.full], dtype=np.int64)

    @cached_property
    def firsts_of_full(self) -> list[int]:
        """The same as numbers of Python's, for single nodes."""
        return self.firsts.tolist()

    def number(self, ids: np.ndarray) -> np.ndarray:
        """For every node the place of its block in `full`."""
        return np.searchsorted(self.firsts, ids, side="right") - 1

    def blocks_of(self, ids: np.ndarray) -> list[int]:
        """The blocks that a list of nodes touches."""
        if not ids.size:
            return []
        run = as_slice(np.ravel(ids))
        if isinstance(run, slice):
            return self.full[int(self.number(run.start)) : int(self.number(run.stop - 1)) + 1]
        first, last = self.ends(ids)
        return [self.full[first]] if first == last else [self.full[j] for j in np.unique(self.number(ids))]

    def ends(self, ids: np.ndarray) -> tuple[int, int]:
        """The places in `full` of the first and the last block that some nodes lie in."""
        return int(self.number(ids.min())), int(self.number(ids.max()))

    def pieces(self, ids: np.ndarray) -> list[tuple[int, slice | np.ndarray, slice | np.ndarray]]:
        """Nodes split by block: (block, places in `ids`, places in the block), slices where they are ranges."""
        if not len(ids):
            return []
        found: list[tuple[int, slice | np.ndarray, slice | np.ndarray]] = []
        run = as_slice(ids)
        if isinstance(run, slice):
            at = run.start
            for j in range(int(self.number(at)), len(self.full)):
                first = self.blocks[self.full[j]].first
                stop = min(run.stop, first + self.blocks[self.full[j]].size)
                found.append((self.full[j], slice(at - run.start, stop - run.start), slice(at - first, stop - first)))
                at = stop
                if at == run.stop:
                    return found
        owner = self.number(ids)
        cuts = np.flatnonzero(np.diff(owner)) + 1
        if len(cuts) < 64:  # ranges one after another: leaves laid side by side
            for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(ids)]):
                block = self.full[owner[start]]
                found.append((block, slice(start, stop), as_slice(ids[start:stop] - self.blocks[block].first)))
            return found
        for k in np.unique(owner):
            where = np.flatnonzero(owner == k)
            block = self.full[k]
            found.append((block, as_slice(where), as_slice(ids[where] - self.blocks[block].first)))
        return found


def progressions(places: np.ndarray, most: int = 6) -> list[tuple[slice, slice | np.ndarray]]:
    """Places as (where in the list, slice) pairs, if few arithmetic progressions make them up; else as they are.

    A row of a grid is one, and so is a column; where ranks are a ring of two the last row may come before the first.
    """
    n = len(places)
    whole: list[tuple[slice, slice | np.ndarray]] = [(slice(0, n), places)]
    step = np.diff(places)
    turns = np.append(np.flatnonzero(np.diff(step)), n - 2) + 1  # the last place of every run of equal steps
    found: list[tuple[slice, slice | np.ndarray]] = []
    start = 0
    while start < n:
        if len(found) == most:
            return whole
        rises = start < n - 1 and step[start] > 0
        last = int(turns[np.searchsorted(turns, start, side="right")]) if rises else start
        by = int(step[start]) if last > start else 1
        found.append((slice(start, last + 1), slice(int(places[start]), int(places[last]) + 1, by)))
        start = last + 1
    return found


class _Numbers:
    """0, 1, 2, ... as far as anybody asked: ranges of nodes are views of it, known for what they are."""

    array = np.empty(0, dtype=np.int64)


def numbers(start: int, stop: int) -> np.ndarray:
    """start, ..., stop - 1, not to be written to."""
    if stop > SHARED or stop > 2 * (stop - start):
        return np.arange(start, stop, dtype=np.int64)
    known = _Numbers.array
    if stop > len(known):
        known = np.arange(min(max(stop, 2 * len(known)), SHARED), dtype=np.int64)
        known.flags.writeable = False
        _Numbers.array = known
    return known[start:stop]


def shared(places: np.ndarray) -> bool:
    """Whether an array is one of `numbers`, whose memory is nobody's."""
    return places.base is _Numbers.array and places.strides == (ITEM,)


def as_slice(places: np.ndarray) -> slice | np.ndarray:
    """The same places as a slice if they are consecutive."""
    n = len(places)
    if n and shared(places):
        return slice(int(places[0]), int(places[0]) + n)
    if n and places[-1] - places[0] == n - 1 and bool((places[1:] > places[:-1]).all()):
        return slice(int(places[0]), int(places[0]) + n)
    return places
