"""What the walks through a stretch of tape have in common."""

from __future__ import annotations

from math import prod
from typing import Any, Self

import numpy as np

from ..strided import core_array
from ..tape import Const, Joint
from .array import is_traced, plain
from .boxes import Index
from .decisions import decide
from .primals import Group
from .reach import Reach
from .reductions import traced_array
from .sheets import Sheet, shape_of
from .stretch import Stretch


class Walk:
    """What both walks share: the partials, and the derivatives that belong to nodes."""

    def __init__(self, stretch: Stretch, reach: Reach | None = None) -> None:
        self.stretch, self.rec, self.primals = stretch, stretch.rec, stretch.primals
        self._reach = reach  # to leave out infinite partials that no result depends on
        self.sheets: dict[int, Sheet] = {}  # by block
        self.lines: dict[int, Any] = {}  # by block: place -> derivative of that node, a number
        self.missing = _reads_nan(stretch.groups) and self._finite()  # data that the function passes over

    def otherwise(self, found: list[Any]) -> Self | None:
        """Another walk, where infinite partials have made of a finite result what is not finite."""
        fine = self._reach is not None or all(x is None or np.isfinite(plain(x)).all() for x in found)
        if fine or not self._finite():
            return None
        return type(self)(self.stretch, Reach(self.stretch))

    def _finite(self) -> bool:
        """Whether the function's result is finite, which is guarded."""
        return all(bool(decide(np.all(np.isfinite(self.primals.at(ref, extent(lo, hi))))))
                   for leaf in self.stretch.outputs for lo, hi, ref in leaf.boxes)

    def sheet(self, block: int) -> Sheet:
        if block not in self.sheets:
            self.sheets[block] = Sheet(self.rec, self.rec.tape.blocks[block].shape)
        return self.sheets[block]

    def is_run(self, block: int) -> bool:
        """Whether a block is a scalar run, whose nodes have derivatives one by one."""
        return self.primals.is_run(block)

    def partial(self, group: Group, k: int, read: dict[int, Any]) -> Any:
        """The partial with respect to operand k over the group's shape; `read` collects what rules read."""
        op = group.op
        for j in op.reads[k]:
            if j not in read:
                read[j] = self._read(group, j)
        if op.kind == "select":
            return _first_extremum(read[0], self.primals.at(group.out, group.shape), group)
        p = op.partials[k](read.get(-1), *(read.get(j) for j in range(op.arity)))
        if self.missing:  # 0 where it reads NaN: a finite result does not depend on what that makes
            for j in op.reads[k]:
                if np.isnan(plain(read[j])).any():
                    p = np.where(np.isnan(read[j]), 0.0, p)
        if self._reach is not None and (idle := ~self._reach.of(group)).any():
            p = np.where(idle, 0.0, p)
        return p

    def _read(self, group: Group, j: int) -> Any:
        """Operand j of a group, or (-1) what it computes, before any sum."""
        if j >= 0:
            return self.primals.operand(group, j)
        if not group.reduced:
            return self.primals.at(group.out, group.shape)
        return group.op.value(*(self.primals.operand(group, i) for i in range(group.op.arity)))

    def joint(self, item: Joint) -> tuple[list[Any], list[Any]]:
        """(y, x): what the rules of a joint statement's elemental read; None for what they don't.

        There is a loop axis at least, if of length 1: rules compute with arrays only, whatever they sum over.
        """
        reads, primals, loop = item.op.reads, self.primals, item.shape or (1,)
        x = [in_full(primals.at(ref, item.operand_shape(k)), loop + item.core(k)) if k in reads else None
             for k, ref in enumerate(item.operands)]
        y: list[Any] = [None] * len(item.op.core_out)
        if -1 in reads:
            y = item.op.split(in_full(primals.at(item.out, item.out_shape), loop + item.core_out))
        return y, x

    def depends(self, group: Group, k: int) -> bool:
        """Whether operand k of a group counts."""
        return group.op.partials[k] is not None and any(
            self.stretch.depends(refs[k], extent(lo, hi)) for lo, hi, refs in group.boxes)


def _reads_nan(groups: list[Any]) -> bool:
    """Whether a constant array that is read has elements that are NaN."""
    arrays = {id(ref.value): ref.value for group in groups if type(group) is Group for _, _, refs in group.boxes
              for ref in refs if type(ref) is Const and isinstance(ref.value, np.ndarray)}
    return any(np.isnan(np.sum(core_array(array))) for array in arrays.values())  # not what is broadcast


def in_full(x: Any, shape: Index) -> Any:
    """An array or a number, traced or plain, as an array of that shape."""
    x = traced_array(x) if is_traced(x) else x
    return x if shape_of(x) == shape else np.broadcast_to(x, shape)


def extent(lo: Index, hi: Index) -> Index:
    return tuple(b - a for a, b in zip(lo, hi))


def _first_extremum(x: Any, y: Any, group: Group) -> Any:
    """Where x has its first extremum (in C order) over the reduced axes; y is its value there."""
    equal = np.equal(x, y)
    lengths = shape_of(equal) or (1,) * len(group.shape)
    moving = [k for k in group.reduced if lengths[k] > 1]
    idle = prod(group.shape[k] for k in group.reduced if k not in moving)  # the first of as many copies
    if moving:
        order = [*(k for k in range(len(lengths)) if k not in moving), *moving]
        rows = np.transpose(equal, order)
        flat = np.reshape(rows, (*(lengths[k] for k in order[: -len(moving)]), prod(lengths[k] for k in moving)))
        first = np.logical_and(flat, np.less_equal(np.cumsum(flat * 1.0, axis=-1), 1.0))
        equal = np.transpose(np.reshape(first, shape_of(rows)), np.argsort(order))
    return equal if idle == 1 else np.where(equal, 1.0 / idle, 0.0)


__all__ = ["Walk", "extent", "in_full"]
