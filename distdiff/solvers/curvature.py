"""Second derivatives along a direction: how the partials of a tape change, times adjoints.

    (I - L) ydot = xdot,    (I - L)^T lam = ybar,    (I - L)^T lamdot = Ldot^T lam        H xdot = lamdot at the inputs

Ldot, the derivative of L along ydot, has L's structure: a product's partial is the other operand, and changes by its
tangent; a constant's change is nothing; others are rules of the op table, computed with numbers that have a tangent
(`ops.dual`).  The sum over all statements needs no order, since all adjoints are known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..evaluate import FEW_LINES, Point
from ..flags import quiet
from ..kernels import stream
from ..ops import KNOWN, MULTIPLY, OPS, Dual, tangent
from ..partials import Other, Rule, coefficient
from ..strided import core_view, with_columns
from ..tape import Affine, Indexed, Operand, ScalarRun, Statement
from .adding import add


def curved(point: Point) -> bool:
    """Whether the change of all partials can be computed here: there are no joint statements, and no functions whose
    rules are formulas in others than NumPy's own."""
    return all(type(item) is ScalarRun or type(item) is Statement and (
        item.op.linear or item.op.kind != "elementwise" or item.op in KNOWN) for item in point.local.items)


def product(point: Point, ydot: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """Ldot^T lam over all nodes, given ydot and lam over all nodes."""
    change = _Change(point, ydot, lam)
    with quiet():  # who asked looks whether the result is finite
        for item in point.local.items:
            if type(item) is ScalarRun:
                (change.few_lines if len(item.op) <= FEW_LINES else change.lines)(item)
            elif item.op.kind == "elementwise" and not item.op.linear and 0 not in item.shape:
                change.statement(item)
    return change.result


class _Change:
    def __init__(self, point: Point, ydot: np.ndarray, lam: np.ndarray) -> None:
        self.values, self.ydot, self.lam = point.values, ydot, lam
        self.blocks = point.local.blocks
        self.result = np.zeros(len(lam))

    def statement(self, item: Statement) -> None:
        shape, rows = item.shape, None
        known: dict[int, Any] = {}
        for k, ref in enumerate(item.operands):
            what = coefficient(item, k)
            if what is None or isinstance(what, float):
                continue
            if isinstance(what, Other):
                pdot = self._tangents(item.operands[what.index], shape)
            else:
                pdot = self._of_rule(item, k, what, known)
            if pdot is None:
                continue
            if rows is None:
                rows = self._view(self.lam, item.out, shape)
            self._add(ref, rows, np.asarray(pdot), shape)

    def _of_rule(self, item: Statement, k: int, what: Rule, known: dict[int, Any]) -> Any:
        """The change of a partial that is computed."""
        arity = len(item.operands)
        reads = range(arity) if item.reduced and -1 in item.op.reads[k] else item.op.reads[k]
        for j in reads:
            if j not in known:
                known[j] = self._dual(item.operands[j] if j >= 0 else item.out, item.shape)
        if not any(type(known[j]) is Dual for j in reads):
            return None
        x = [known.get(j) for j in range(arity)]
        y = known.get(-1)
        if item.reduced and -1 in item.op.reads[k]:
            y = item.op.value(*x)  # before the sum
        return tangent(what.function, y, *x)

    def _dual(self, ref: Operand, shape: tuple[int, ...]) -> Any:
        value, dot = self.values.read(ref, shape), self._tangents(ref, shape)
        return value if dot is None else Dual(value, dot)

    def _tangents(self, ref: Operand, shape: tuple[int, ...]) -> Any:
        if type(ref) is Affine:
            return self._view(self.ydot, ref, shape)
        return self.ydot[ref.ids] if type(ref) is Indexed else None

    def _view(self, flat: np.ndarray, ref: Affine, shape: tuple[int, ...]) -> np.ndarray:
        return core_view(flat, self.blocks[ref.block].first + ref.offset, shape, ref.strides)

    def _add(self, ref: Operand, rows: np.ndarray, pdot: np.ndarray, shape: tuple[int, ...]) -> None:
        """What a statement's rows add to an operand: pdot lam, summed where that stands still."""
        pdot = with_columns(pdot, shape, False)
        if type(ref) is Affine:
            add(self._view(self.result, ref, shape), rows, pdot, shape, ref.strides)
        elif type(ref) is Indexed:
            stream.scatter_add(ref.ids.reshape(-1), np.broadcast_to(pdot * rows, shape).reshape(-1), self.result)

    def few_lines(self, run: ScalarRun) -> None:
        """A scalar run line by line."""
        at, const, ydot, lam, result = self.values.at, self.values.numbers(run.const), self.ydot, self.lam, self.result
        first = self.blocks[run.block].first

        def dual(j: int) -> Any:
            return Dual(at(j), ydot[j]) if j >= 0 else const[-1 - j]

        for i, (code, *ids) in enumerate(zip(run.op.tolist(), run.a.tolist(), run.b.tolist()), first):
            op = OPS[code]
            if op.linear or not lam[i]:
                continue
            for k in range(op.arity):
                j, reads = ids[k], op.reads[k]
                if j < 0 or not reads:
                    continue
                if op is MULTIPLY:
                    pdot = ydot[ids[1 - k]] if ids[1 - k] >= 0 else None
                else:
                    x = [dual(ids[m]) if m in reads else None for m in range(op.arity)]
                    pdot = tangent(op.partials[k], dual(i) if -1 in reads else None, *x)
                if pdot is not None:
                    result[j] += pdot * lam[i]

    def lines(self, run: ScalarRun) -> None:
        """A longer one, all lines of one operation at a time."""
        first = self.blocks[run.block].first
        lam = self.lam[first : first + len(run.op)]
        for code in np.unique(run.op).tolist():
            op = OPS[code]
            if op.linear:
                continue
            which = np.flatnonzero((run.op == code) & (lam != 0.0))
            ids = (run.a[which].astype(np.int64), run.b[which].astype(np.int64))[: op.arity]
            duals: dict[int, Any] = {}
            for k in range(op.arity):
                reads, here = op.reads[k], np.flatnonzero(ids[k] >= 0)
                if not reads or not len(here):
                    continue
                if op is MULTIPLY:
                    pdot = np.where(ids[1 - k] >= 0, self.ydot[ids[1 - k]], 0.0)
                else:
                    for m in reads:
                        if m not in duals:
                            duals[m] = self._of_nodes(which + first if m < 0 else ids[m], run.const)
                    pdot = tangent(op.partials[k], duals.get(-1), *(duals.get(m) for m in range(op.arity)))
                if pdot is not None:
                    terms = np.broadcast_to(pdot * lam[which], which.shape)
                    stream.scatter_add(ids[k][here], terms[here], self.result)

    def _of_nodes(self, ids: np.ndarray, const: np.ndarray) -> Dual:
        """The operands of many lines: nodes, and constants, which do not change."""
        node = ids >= 0
        if node.all():
            return Dual(self.values.gather(ids), self.ydot[ids])
        value, dot = np.empty(len(ids)), np.zeros(len(ids))
        value[node], dot[node] = self.values.gather(ids[node]), self.ydot[ids[node]]
        value[~node] = const[-1 - ids[~node]]
        return Dual(value, dot)
