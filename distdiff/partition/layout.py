"""How a block of nodes is split along one axis, and which part of it an affine operand touches.

A split block is seen with three axes (outer, n, inner): everything before the split axis, the split axis,
everything after it.  Rank r owns the rows cuts[r] <= c < cuts[r+1] of the middle axis.  A single owner is a
split too, with all rows on one rank.  An affine operand over an iteration space has then, for every
multi-index k,

    c(k) = start + sum_t step_t k_t

along the middle axis, so that what a rank needs of the block is an interval of rows.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from ..tape import Affine, Vector


class Layout(NamedTuple):
    """A block as (outer, n, inner), its middle axis cut at `cuts` (int64, ranks + 1, from 0 to n)."""

    outer: int
    n: int
    inner: int
    cuts: np.ndarray

    @property
    def row(self) -> int:
        """Nodes a row of the middle axis."""
        return self.outer * self.inner


def split(shape: tuple[int, ...], axis: int, cuts: np.ndarray) -> Layout:
    """The layout of a block of that shape cut along `axis`; a scalar () has one row."""
    if not shape:
        return Layout(1, 1, 1, cuts)
    return Layout(prod(shape[:axis]), shape[axis], prod(shape[axis + 1:]), cuts)


def single(shape: tuple[int, ...], rank: int, n_ranks: int) -> Layout:
    """The layout of a block that one rank owns: one row that holds it all."""
    cuts = np.zeros(n_ranks + 1, dtype=np.int64)
    cuts[rank + 1:] = 1
    return Layout(1, 1, prod(shape), cuts)


def balanced(n: int, n_ranks: int) -> np.ndarray:
    """Cuts of n rows that differ by at most one row: n r / ranks."""
    return np.arange(n_ranks + 1, dtype=np.int64) * n // n_ranks


class Ref(NamedTuple):
    """An affine reference in a layout's terms (see the module's equation).

    `start` and `steps` are (outer, middle, inner) places.  If `flat`, the layout has no outer axis and all of
    it is in nodes instead of rows: start and steps are (0, nodes, 0), and a row has `Layout.inner` of them.
    """

    start: tuple[int, int, int]
    steps: tuple[tuple[int, int, int], ...]
    flat: bool

    @property
    def middle(self) -> list[int]:
        return [s[1] for s in self.steps]

    def span(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """[low, high) of c over the iteration shape (which must not be empty)."""
        low = high = self.start[1]
        for n, (_, step, _) in zip(shape, self.steps):
            if step > 0:
                high += step * (n - 1)
            elif step < 0:
                low += step * (n - 1)
        return low, high + 1

    def affine(self, block: int, layout: Layout, low: int, high: int) -> Affine:
        """The same nodes, counted in a block that holds only the rows low <= c < high of the layout."""
        inner = layout.inner
        if self.flat:
            return Affine(block, self.start[1] - low * inner, tuple(s[1] for s in self.steps))
        width = high - low
        o, c, i = self.start
        return Affine(block, (o * width + c - low) * inner + i,
                      tuple((o * width + c) * inner + i for o, c, i in self.steps))

    def moved(self, axis: int, by: int) -> Ref:
        """The reference over the iteration space that begins at `by` along `axis`."""
        if not by:
            return self
        o, c, i = self.steps[axis]
        a, b, d = self.start
        return Ref((a + by * o, b + by * c, d + by * i), self.steps, self.flat)


def _digits(stride: int, extent: int, outer: int, n: int, inner: int) -> tuple[int, int, int] | None:
    """A stride as steps along (outer, middle, inner) that stay inside when taken extent - 1 times."""
    reach, plane = extent - 1, n * inner
    for nearest in (False, True):
        o, rest = _divide(stride, plane, nearest)
        c, i = _divide(rest, inner, nearest)
        if abs(o) * reach < outer and abs(c) * reach < n and abs(i) * reach < inner:
            return o, c, i
    return None


def _divide(a: int, b: int, nearest: bool) -> tuple[int, int]:
    """Quotient towards zero, or to the nearest, and what remains."""
    q = (a + b // 2) // b if nearest else (a // b if a >= 0 else -(-a // b))
    return q, a - q * b


def resolve(ref: Affine, shape: tuple[int, ...], layout: Layout) -> Ref | None:
    """The reference in the layout's terms, or None where a reshape merges axes across the cut one.

    The multi-index of a node is unique, so steps that never leave (outer, n, inner) are the right ones.
    """
    outer, n, inner, _ = layout
    if outer == 1 and inner == 1:
        return Ref((0, ref.offset, 0), tuple((0, s if e > 1 else 0, 0) for s, e in zip(ref.strides, shape)), False)
    if not (outer and n and inner):  # no nodes: only an empty iteration space can refer to it
        return Ref((0, 0, 0), ((0, 0, 0),) * len(shape), False)
    o, rest = divmod(ref.offset, n * inner)
    c, i = divmod(rest, inner)
    steps: list[tuple[int, int, int]] = []
    low, high = [o, c, i], [o, c, i]
    for stride, extent in zip(ref.strides, shape):
        digits = _digits(stride, extent, outer, n, inner) if stride and extent > 1 else (0, 0, 0)
        if digits is None:
            break
        steps.append(digits)
        for a, d in enumerate(digits):
            if d > 0:
                high[a] += d * (extent - 1)
            elif d < 0:
                low[a] += d * (extent - 1)
    else:
        if min(low) >= 0 and high[0] < outer and high[1] < n and high[2] < inner:
            return Ref((o, c, i), tuple(steps), False)
    if outer > 1:
        return None
    return Ref((0, ref.offset, 0), tuple((0, s if e > 1 else 0, 0) for s, e in zip(ref.strides, shape)), True)


class Pieces(NamedTuple):
    """Which part of an iteration space each rank runs: start[r] <= k_axis < stop[r] (axis -1: all or nothing)."""

    axis: int
    start: np.ndarray
    stop: np.ndarray

    def box(self, shape: tuple[int, ...], rank: int) -> tuple[int, tuple[int, ...]] | None:
        """(where the rank's part begins along `axis`, its shape), None where it has none."""
        low, high = int(self.start[rank]), int(self.stop[rank])
        if high <= low:
            return None
        if self.axis < 0:
            return 0, shape
        return low, shape[:self.axis] + (high - low,) + shape[self.axis + 1:]


def pieces(out: Affine, shape: tuple[int, ...], layout: Layout) -> Pieces | None:
    """The parts of a statement by owner of its results, or None where a part would be no box.

    Axes that are summed away never divide; where any axis of the results is empty nobody has a part.
    """
    n_ranks = len(layout.cuts) - 1
    kept = [k for k, s in enumerate(out.strides) if s != 0 and shape[k] != 1]
    if any(shape[k] == 0 for k in kept) or not layout.row * layout.n:
        nothing = np.zeros(n_ranks, dtype=np.int64)
        return Pieces(-1, nothing, nothing)
    spread = tuple(1 if s == 0 else e for e, s in zip(shape, out.strides))
    ref = resolve(out, spread, layout)
    if ref is None:
        return None
    cuts = layout.cuts * layout.inner if ref.flat else layout.cuts
    c = ref.start[1]
    cut = [k for k in kept if ref.steps[k][1] != 0]
    low, high = ref.span(spread)
    owner = int(np.searchsorted(cuts, low, side="right")) - 1
    if high <= cuts[owner + 1]:  # all on one rank
        start = np.zeros(n_ranks, dtype=np.int64)
        stop = start.copy()
        stop[owner] = 1
        return Pieces(-1, start, stop)
    if len(cut) != 1:
        return None
    axis = cut[0]
    edges = crossings(cuts, c, ref.steps[axis][1], shape[axis])
    if ref.steps[axis][1] < 0:
        return Pieces(axis, edges[1:], edges[:-1])
    return Pieces(axis, edges[:-1], edges[1:])


def owned_pieces(item: Vector, layout: Layout, rank: int) -> Pieces:
    """The parts of a task by rank (see `pieces`); a task given to one rank is whole there."""
    if rank >= 0:
        start = np.zeros(len(layout.cuts) - 1, dtype=np.int64)
        stop = start.copy()
        stop[rank] = 1
        return Pieces(-1, start, stop)
    parts = pieces(item.out, item.out_shape, layout)
    if parts is None:
        raise AssertionError("a block is cut where its statements' parts are no boxes")
    return parts


def crossings(cuts: np.ndarray, start: int, step: int, n: int) -> np.ndarray:
    """The first k in 0, ..., n with start + step k >= cut (step > 0), or < cut (step < 0), for every cut."""
    if step > 0:
        return np.minimum(np.maximum(-((start - cuts) // step), 0), n)
    return np.minimum(np.maximum((start - cuts) // -step + 1, 0), n)


__all__ = ["Layout", "Pieces", "Ref", "balanced", "crossings", "pieces", "resolve", "single", "split"]
