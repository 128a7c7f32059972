"""Which nodes of a stretch of tape its results depend on, element by element.

An infinite partial of a line that goes nowhere (the root of 0 on the diagonal of a matrix of distances, which a mask or
a `where` leaves out) is no part of any derivative, though 0 * inf is NaN.  Zero adjoints alone don't tell, as those of
sqrt(x)**2 at 0; the structure does.  Where a `where` chooses, its condition is guarded from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..ops import OPS, WHERE
from ..tape import Affine, Const, Joint, Operand, ScalarRun
from .array import is_traced, plain
from .boxes import Index
from .decisions import decide
from .primals import Group

if TYPE_CHECKING:
    from .stretch import Stretch


class Reach:
    """The nodes that the results of a stretch depend on; `of` asks for those of a group."""

    def __init__(self, stretch: Stretch) -> None:
        self._rec, self._primals = stretch.rec, stretch.primals
        self._needed: dict[int, np.ndarray] = {}  # by block, (size,) bool
        for leaf in stretch.outputs:
            for lo, hi, ref in leaf.boxes:
                self._need(ref, np.ones(tuple(b - a for a, b in zip(lo, hi)), dtype=bool))
        for group in reversed(stretch.groups):
            if type(group) is ScalarRun:
                self._lines(group)
            elif type(group) is Joint:
                if self._flags(group.out, group.out_shape).any():
                    for k in group.active:
                        self._need(group.operands[k], np.ones(group.operand_shape(k), dtype=bool))
            else:
                self._group(group)

    def of(self, group: Group) -> np.ndarray:
        """Over the group's shape, whether results depend on the line."""
        flags = self._flags(group.out, group.shape)
        if group.op.kind == "scan":  # and all before it
            flags = np.logical_or.accumulate(flags[..., ::-1], axis=-1)[..., ::-1]
        return flags

    def _group(self, group: Group) -> None:
        flags = self.of(group)
        if not flags.any():
            return
        for k, rule in enumerate(group.op.partials):
            if rule is None:
                continue
            wanted = flags
            if group.op is WHERE:
                wanted = flags & np.broadcast_to(self._condition(group) == (k == 1), group.shape)
            for lo, hi, refs in group.boxes:
                self._need(refs[k], wanted[tuple(map(slice, lo, hi))])

    def _condition(self, group: Group) -> np.ndarray:
        """Where a `where` takes its first choice, which stays so."""
        condition = self._primals.operand(group, 0)
        known = np.not_equal(plain(condition) if is_traced(condition) else condition, 0.0)
        if is_traced(condition):
            decide(np.all(np.equal(np.not_equal(condition, 0.0), known)))
        return known

    def _lines(self, run: ScalarRun) -> None:
        needed = self._needed.get(run.block)
        if needed is None:
            return
        first = self._rec.firsts[run.block]
        outside = []
        for i in range(len(run.op) - 1, -1, -1):
            if needed[i]:
                for rule, node in zip(OPS[run.op[i]].partials, (int(run.a[i]), int(run.b[i]))):
                    if rule is not None and node >= first:
                        needed[node - first] = True
                    elif rule is not None and node >= 0:
                        outside.append(node)
        self._nodes(np.array(outside, dtype=np.int64))

    def _flags(self, ref: Affine, shape: Index) -> np.ndarray:
        needed = self._needed.get(ref.block)
        return np.zeros(shape, dtype=bool) if needed is None else needed[ref.ids(0, shape)]

    def _need(self, ref: Operand, flags: np.ndarray) -> None:
        if type(ref) is Const or not flags.any():
            return
        if type(ref) is Affine:
            self._block(ref.block)[ref.ids(0, flags.shape)[flags]] = True
        else:
            self._nodes(np.broadcast_to(ref.ids, flags.shape)[flags])

    def _nodes(self, nodes: np.ndarray) -> None:
        owners = np.searchsorted(self._rec.firsts, nodes, side="right") - 1
        for block in np.unique(owners).tolist():
            self._block(block)[nodes[owners == block] - self._rec.firsts[block]] = True

    def _block(self, block: int) -> np.ndarray:
        if block not in self._needed:
            self._needed[block] = np.zeros(self._rec.tape.blocks[block].size, dtype=bool)
        return self._needed[block]


__all__ = ["Reach"]
