"""A rank's part of a block is often one statement again: boxes that run on from one another are joined.

A rolled or concatenated array is a few boxes on the tape; where a rank's rows and their halo lie side by side, the
boxes of its part are neighbours along one axis, and so are what they read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tape import Affine, Block, Const, Item, Operand, Statement, c_strides


class Joiner:
    """Joins statements over `blocks`, and remembers joined constants: many statements read the same ones."""

    def __init__(self, blocks: list[Block]) -> None:
        self._blocks = blocks
        self._constants: dict[tuple[object, ...], tuple[Const, Const, Const]] = {}

    def joined(self, items: list[Item]) -> list[Item]:
        """The same lines of one block in as few statements as may be."""
        if len(items) < 2 or not all(isinstance(item, Statement) and _free(item) for item in items):
            return items
        result: list[Statement] = []
        for item in sorted(items, key=lambda item: item.out.offset):
            for k in reversed(range(len(result))):
                both = self._pair(result[k], item)
                if both is not None:
                    result[k] = both
                    break
            else:
                result.append(item)
        return result if len(result) < len(items) else items

    def _pair(self, p: Statement, q: Statement) -> Statement | None:
        """q after p along some axis, as one statement; None where they are no neighbours."""
        if p.op is not q.op or len(p.shape) != len(q.shape) or 0 in p.shape or 0 in q.shape:
            return None
        for axis in range(len(p.shape)):
            if p.shape[:axis] + p.shape[axis + 1:] != q.shape[:axis] + q.shape[axis + 1:]:
                continue
            out = self._continued(p.out, q.out, p.shape, q.shape, axis)
            if out is None or not out.strides[axis]:
                continue
            operands = [self._operand(a, b, p.shape, q.shape, axis) for a, b in zip(p.operands, q.operands)]
            if all(ref is not None for ref in operands):
                shape = p.shape[:axis] + (p.shape[axis] + q.shape[axis],) + p.shape[axis + 1:]
                return Statement(p.op, shape, out, tuple(ref for ref in operands if ref is not None), p.site)
        return None

    def _operand(self, a: Operand, b: Operand, first: tuple[int, ...], second: tuple[int, ...],
                 axis: int) -> Operand | None:
        if isinstance(a, Affine) and isinstance(b, Affine):
            return self._continued(a, b, first, second, axis)
        if isinstance(a, Const) and isinstance(b, Const):
            if np.ndim(a.value) and np.ndim(b.value):
                key = (*_memory(a.value), *_memory(b.value), axis)
                if key not in self._constants:  # kept with its parts, whose addresses stay theirs
                    self._constants[key] = Const(np.concatenate([a.value, b.value], axis)), a, b
                return self._constants[key][0]
            return a if not (np.ndim(a.value) or np.ndim(b.value)) and a.value == b.value else None
        return None

    def _continued(self, a: Affine, b: Affine, first: tuple[int, ...], second: tuple[int, ...],
                   axis: int) -> Affine | None:
        """The reference over both parts: b goes on along `axis` where a ends.

        Two single rows go on along an axis of their block, or they are the two ends of one, which are no box of it.
        """
        if a.block != b.block:
            return None
        strides = []
        for k, (m, n, s, t) in enumerate(zip(first, second, a.strides, b.strides)):
            if k == axis:
                s = s if m > 1 else t if n > 1 else b.offset - a.offset
                if (n > 1 and t != s) or b.offset != a.offset + m * s:
                    return None
                if m == n == 1 and s and s not in c_strides(self._blocks[a.block].shape):
                    return None
            elif m > 1 and s != t:
                return None
            strides.append(s)
        return Affine(a.block, a.offset, tuple(strides))


def _free(item: Statement) -> bool:
    """Whether the statement's lines may run in any order among those of its block."""
    return item.op.kind == "elementwise" and not item.reduced and all(
        isinstance(ref, Const) or isinstance(ref, Affine) and ref.block != item.out.block for ref in item.operands)


def _memory(array: Any) -> tuple[object, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides


__all__ = ["Joiner"]
