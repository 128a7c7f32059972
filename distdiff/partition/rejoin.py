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
        self._known: dict[tuple[object, ...], list[tuple[int, Statement]]] = {}

    def joined(self, items: list[Item]) -> list[Item]:
        """The same lines of one block in as few statements as may be."""
        if len(items) < 2 or not all(isinstance(item, Statement) and _free(item) for item in items):
            return items
        key = self._key(items)
        if key not in self._known or key is None:
            found = self._joined(items)
            if key is None:
                return [item for _, item in found]
            self._known[key] = found
        return [_over(items[k], made) for k, made in self._known[key]]

    def _joined(self, items: list[Item]) -> list[tuple[int, Statement]]:
        """The statements, each with the place of the first of those that it is made of."""
        result: list[tuple[int, Statement]] = []
        for place in sorted(range(len(items)), key=lambda k: items[k].out.offset):
            for k in reversed(range(len(result))):
                both = self._pair(result[k][1], items[place])
                if both is not None:
                    result[k] = result[k][0], both
                    break
            else:
                result.append((place, items[place]))
        return result if len(result) < len(items) else list(enumerate(items))

    def _key(self, items: list[Item]) -> tuple[object, ...] | None:
        """What decides how statements are joined: all but which blocks they touch; None where that is an array."""
        numbers: dict[int, int] = {}
        key: list[object] = []
        for item in items:
            key += (item.op, item.shape)
            for ref in (item.out, *item.operands):
                if type(ref) is Affine:
                    block = numbers.setdefault(ref.block, len(numbers))
                    key += (block, ref.offset, ref.strides, self._blocks[ref.block].shape)
                elif isinstance(ref.value, np.ndarray):
                    return None
                else:
                    key.append(ref.value)
        return tuple(key)

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


def _over(item: Statement, made: Statement) -> Statement:
    """`made` with the blocks of `item`, which is the first of an equal group's as made's first was of its own."""
    operands = tuple(Affine(own.block, ref.offset, ref.strides) if type(ref) is Affine else own
                     for own, ref in zip(item.operands, made.operands))
    out = Affine(item.out.block, made.out.offset, made.out.strides)
    return Statement(item.op, made.shape, out, operands, item.site)


def _free(item: Statement) -> bool:
    """Whether the statement's lines may run in any order among those of its block."""
    return item.op.kind == "elementwise" and not item.reduced and all(
        isinstance(ref, Const) or isinstance(ref, Affine) and ref.block != item.out.block for ref in item.operands)


def _memory(array: Any) -> tuple[object, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides


__all__ = ["Joiner"]
