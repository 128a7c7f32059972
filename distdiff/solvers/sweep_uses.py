"""Statements as uses: what operand adds to what result, over boxes of a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..missing import has_nan
from ..partials import Other
from ..partition.local import LocalTape
from ..strided import interval
from ..tape import Affine, Const, c_strides
from . import combination as algebra
from .combination import CONSTANT, STORED, VALUES, Coefficient, Index
from .sweep_sums import Sums, Use


class Raw(NamedTuple):
    """dst += p src over `shape`, p (a float, or array) the partial `what` of statement `item` for operand k."""

    item: int
    k: int
    what: Any
    dst: Affine
    src: Affine
    shape: tuple[int, ...]


class Uses:
    """Makes uses of a tape's terms; `constants` are the arrays that their factors name."""

    def __init__(self, local: LocalTape, sums: Sums) -> None:
        self.local, self.sums = local, sums
        self.constants: list[np.ndarray] = []
        self._numbers: dict[tuple[int, Index], int] = {}

    def of(self, raw: Raw) -> Use | None:
        """A term as a use, if its elements of dst are a box of the block and operands are affine over it."""
        dst, src, shape = raw.dst, raw.src, raw.shape
        if dst.block == src.block:
            return None
        grid = self.sums.grids[dst.block]
        lo = algebra.corner(dst.offset, dst.strides, shape, grid)
        item, values = self.local.items[raw.item], None
        if isinstance(raw.what, Other):
            values = item.operands[raw.what.index]
        if lo is not None:
            def over(strides: Index) -> Index | None:
                return strides
        elif interval(dst, shape) == (0, self.sums.sizes[dst.block]):  # the whole block, by another shape
            lo, inner, shape = (0,) * len(grid), shape, grid

            def over(strides: Index) -> Index | None:
                if len(inner) == 1 or not any(strides):
                    step = strides[0] if strides else 0
                elif interval(Affine(0, 0, strides), inner) is not None:
                    step = 1
                else:
                    return None
                return tuple(step * s for s in c_strides(grid))
        else:
            return None
        steps = over(src.strides)
        if steps is None:
            return None
        found = self._coefficient(raw, values, over, lo)
        if found is None:
            return None
        start = algebra.corner(src.offset, steps, shape, self.sums.grids[src.block])
        shift = None if start is None else tuple(b - a for a, b in zip(lo, start))
        return Use(dst.block, lo, tuple(a + n for a, n in zip(lo, shape)), src.block,
                   src.offset - algebra.dot(steps, lo), steps, shift, found)

    def _coefficient(self, raw: Raw, values: Any, over: Callable[[Index], Index | None],
                     lo: Index) -> Coefficient | None:
        if isinstance(raw.what, float):
            return algebra.constant(raw.what)
        if type(values) is Affine:
            kind, number, offset, strides = VALUES, values.block, values.offset, values.strides
        elif type(values) is Const and isinstance(values.value, np.ndarray) and (
                values.value.dtype == np.float64 and self._plain(values.value)):
            kind, offset = CONSTANT, 0
            strides = tuple(s // values.value.itemsize for s in values.value.strides)
            number = self._constant(values.value)
        else:
            kind, number, offset, strides = STORED, -1, 0, c_strides(raw.shape)
        steps = over(strides)
        if steps is None:
            return None
        if kind == STORED:
            number = self.sums.partial(raw.item, raw.k, raw.shape)
        return algebra.reference(kind, number, offset - algebra.dot(steps, lo), steps)

    def _plain(self, value: np.ndarray) -> bool:
        """Whether a factor may be read where it lies: it has no NaN, which may be passed over."""
        key = value.__array_interface__["data"][0], value.strides
        return key in self._numbers or not has_nan(value)

    def _constant(self, value: np.ndarray) -> int:
        key = value.__array_interface__["data"][0], value.strides
        if key not in self._numbers:
            self._numbers[key] = len(self.constants)
            self.constants.append(value)
        return self._numbers[key]

