"""The two walks through a stretch of tape on traced arrays: adjoints backwards, tangents forwards."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..ops import OPS
from ..strided import one_to_one
from ..tape import Affine, Const, Joint, Operand, ScalarRun
from .array import is_traced
from .boxes import Index
from .primals import Group
from .reach import Reach
from .runs import written_adjoint, written_tangent
from .scatter import segment_sums
from .sheets import along, boxed, number, product, shape_of, sum_of, times
from .stretch import Leaf, Stretch, as_leaf
from .walk import Walk, extent, in_full

WINDOWS = 32  # positions along an axis of overlapping windows that are added one by one


_RULES = [  # by Op.code: (operand, the partial if it is a constant, else its rule, and what that reads)
    [(k, None if reads else rule(None, *[None] * op.arity), rule, reads)
     for k, (rule, reads) in enumerate(zip(op.partials, op.reads)) if rule is not None]
    if op.kind == "elementwise" else [] for op in OPS
]


class Lines:
    """The lines of a scalar run, read one at a time."""

    def __init__(self, walk: Walk, run: ScalarRun) -> None:
        self.walk, self.scalar = walk, walk.rec.scalar
        self.first = walk.rec.firsts[run.block]
        self.op, self.constants = run.op.tolist(), run.const.tolist()
        self.operands = run.a.tolist(), run.b.tolist()
        self.y = walk.primals.block(run.block).tolist()
        self.active = walk.stretch.active[run.block].tolist()
        self._outside: dict[int, bool] = {}  # nodes of other blocks -> whether they count

    def partials(self, i: int) -> list[tuple[int, Any]]:
        """(operand, partial) of line i for each operand that counts."""
        found = []
        for k, p, rule, reads in _RULES[self.op[i]]:
            node = self.operands[k][i]
            if node >= self.first:
                if not self.active[node - self.first]:
                    continue
            elif node < 0 or not self._counts(node):
                continue
            if p is None:
                x = [self._value(self.operands[n][i]) if n in reads else None for n in (0, 1)]
                y = self.scalar(self.first + i, self.y[i]) if -1 in reads else None
                p = rule(y, *x) if OPS[self.op[i]].arity == 2 else rule(y, x[0])
            found.append((node, p))
        return found

    def _counts(self, node: int) -> bool:
        known = self._outside.get(node)
        if known is None:
            known = self._outside[node] = self.walk.stretch.node_depends(node)
        return known

    def _value(self, node: int) -> Any:
        if node >= self.first:
            return self.scalar(node, self.y[node - self.first])
        if node < 0:
            return self.constants[-1 - node]
        block = self.walk.rec.block_of(node)
        return self.scalar(node, float(self.walk.primals.block(block)[node - self.walk.rec.firsts[block]]))


class Adjoint(Walk):
    """lam[operand] += p lam[result], last statement first."""

    def run(self, cotangents: list[Any]) -> list[Any]:
        for leaf, cotangent in zip(self.stretch.outputs, cotangents):
            if is_traced(cotangent) or np.any(cotangent):
                for lo, hi, ref in leaf.boxes:
                    self._contribute(ref, extent(lo, hi), 1.0, boxed(cotangent, lo, hi))
        for group in reversed(self.stretch.groups):
            if type(group) is ScalarRun:
                self._run(group)
            elif type(group) is Joint:
                self._joint(group)
            else:
                self._group(group)
        self.rec.stand(self.stretch.site)
        return [self._gradient(leaf) for leaf in self.stretch.inputs]

    def _group(self, group: Group) -> None:
        lam = self._total(group.out.block)
        if lam is None:
            return
        self.rec.stand(group.site)
        lam = along(lam, group.out.offset, group.out.strides, group.shape)
        if group.op.kind == "scan" and shape_of(lam):
            lam = np.cumsum(lam[..., ::-1], axis=-1)[..., ::-1]
        elif group.op.kind == "scan":
            after = np.arange(float(group.shape[-1]), 0.0, -1.0)  # terms of the sum that each operand is in
            lam = lam * after.reshape((1,) * (len(group.shape) - 1) + (-1,))
        read: dict[int, Any] = {}
        for k in range(group.op.arity):
            if not self.depends(group, k):
                continue
            p, q = self.partial(group, k, read), lam
            boxes = [(lo, hi, refs[k], extent(lo, hi)) for lo, hi, refs in group.boxes]
            if len(boxes) > 1 and not any(_stands_still(ref, shape) for _, _, ref, shape in boxes):
                p, q = 1.0, times(p, q)  # at once, not box by box
            for lo, hi, ref, shape in boxes:
                self._contribute(ref, shape, boxed(p, lo, hi), boxed(q, lo, hi))

    def _joint(self, item: Joint) -> None:
        lam = self._total(item.out.block)
        wanted = [k in item.active and self.stretch.depends(ref, item.operand_shape(k))
                  for k, ref in enumerate(item.operands)]
        if lam is None or not any(wanted):
            return
        self.rec.stand(item.site)
        lam = along(lam, item.out.offset, item.out.strides, item.out_shape)
        ybar = in_full(lam, (item.shape or (1,)) + item.core_out)
        y, x = self.joint(item)
        for k, xbar in enumerate(item.op.adjoint(y, x, item.op.split(ybar), wanted)):
            if wanted[k] and xbar is not None:
                shape = item.operand_shape(k)
                xbar = in_full(xbar, (item.shape or (1,)) + item.core(k))
                self._contribute(item.operands[k], shape, 1.0, np.reshape(xbar, shape))

    def _run(self, run: ScalarRun) -> None:
        adjoints = self.lines.pop(run.block, None)
        if not adjoints:
            return
        self.rec.stand(self.stretch.site)
        if written_adjoint(self, run, adjoints):
            return
        lines = Lines(self, run)
        for i in range(len(lines.op) - 1, -1, -1):
            lam = adjoints.pop(i, None)
            if lam is None:
                continue
            for node, p in lines.partials(i):
                term = times(p, lam)
                place = node - lines.first
                if place < 0:
                    self._add(node, term)
                elif place in adjoints:
                    adjoints[place] = adjoints[place] + term
                else:
                    adjoints[place] = term

    def _add(self, node: int, term: Any) -> None:
        block = self.rec.block_of(node)
        lines = self.lines.setdefault(block, {})
        place = node - self.rec.firsts[block]
        lines[place] = lines[place] + term if place in lines else term

    def _total(self, block: int) -> Any:
        """The adjoint of a block, of which all uses have been met."""
        lines = self.lines.pop(block, None)
        if lines:
            places = np.array(sorted(lines))
            values = [lines[place] for place in places.tolist()]
            self.sheet(block).add_at(values[0] if len(values) == 1 else self.rec.array_of(values), places)
        sheet = self.sheets.pop(block, None)
        return None if sheet is None else sheet.total()

    def _gradient(self, leaf: Leaf) -> Any:
        (_, _, ref), = leaf.boxes
        if self.is_run(ref.block):
            return self.lines.get(ref.block, {}).get(ref.offset, 0.0)
        return presented(self._total(ref.block), leaf.shape)

    def _contribute(self, ref: Operand, shape: Index, p: Any, q: Any) -> None:
        """lam[ref] += p q, summed over the axes along which ref stands still."""
        if not self.stretch.depends(ref, shape):
            return
        if type(ref) is not Affine:
            self._contribute_indexed(ref.ids, shape, p, q)
            return
        kept = [k for k, (n, s) in enumerate(zip(shape, ref.strides)) if s and n > 1]
        lengths, strides = tuple(shape[k] for k in kept), tuple(ref.strides[k] for k in kept)
        if not one_to_one(lengths, strides):  # windows that overlap: position by position, or node by node
            axis = min(kept, key=shape.__getitem__)
            if shape[axis] > WINDOWS:
                self._contribute_indexed(ref.ids(self.rec.firsts[ref.block], shape), shape, p, q)
                return
            rest = shape[:axis] + (1,) + shape[axis + 1 :]
            for i in range(shape[axis]):
                lo = tuple(i if k == axis else 0 for k in range(len(shape)))
                hi = tuple(a + n for a, n in zip(lo, rest))
                at = Affine(ref.block, ref.offset + i * ref.strides[axis], ref.strides)
                self._contribute(at, rest, boxed(p, lo, hi), boxed(q, lo, hi))
            return
        if not self.is_run(ref.block):
            if prod(shape) == 1:  # the end of a roll stays an array: a scalar run of one line costs solvers more
                kept, lengths, strides = range(len(shape)), shape, ref.strides
            self.sheet(ref.block).add(product(p, q, shape, kept), ref.offset, strides, lengths)
            return
        value = product(p, q, shape, kept)
        first = self.rec.firsts[ref.block] + ref.offset
        for index in np.ndindex(lengths):
            node = first + sum(i * s for i, s in zip(index, strides))
            if self.stretch.node_depends(node):
                self._add(node, number(value[index]) if shape_of(value) else value)

    def _contribute_indexed(self, ids: np.ndarray, shape: Index, p: Any, q: Any) -> None:
        value = product(p, q, shape, range(len(shape)))
        if not shape_of(value) or shape_of(value) != shape:
            value = np.broadcast_to(value, shape)
        value = np.reshape(value, -1)
        if not is_traced(value):
            value = self.rec.array_of(value)
        targets, sums = segment_sums(value, ids.reshape(-1))
        for which, terms in sums:
            nodes = targets[which]
            owners = np.searchsorted(self.rec.firsts, nodes, side="right") - 1
            for block in np.unique(owners).tolist():
                if block not in self.stretch.active:
                    continue
                here = np.flatnonzero(owners == block)
                part = terms if len(here) == len(nodes) else terms[here]
                places = nodes[here] - self.rec.firsts[block]
                if not self.is_run(block):
                    self.sheet(block).add_at(part, places)
                    continue
                for i, place in enumerate(places.tolist()):
                    if self.stretch.node_depends(self.rec.firsts[block] + place):
                        self._add(self.rec.firsts[block] + place, number(part[i]))


class Tangent(Walk):
    """ydot[result] = sum p ydot[operand], first statement first."""

    def __init__(self, stretch: Stretch, reach: Reach | None = None) -> None:
        super().__init__(stretch, reach)
        self.known: dict[int, Any] = {}  # tangents of blocks of arrays

    def run(self, tangents: list[Any]) -> list[Any]:
        for leaf, tangent in zip(self.stretch.inputs, tangents):
            (_, _, ref), = leaf.boxes
            if not is_traced(tangent) and not np.any(tangent):
                continue
            if self.is_run(ref.block):
                self.lines.setdefault(ref.block, {})[ref.offset] = tangent
            else:
                self.known[ref.block] = tangent
        for group in self.stretch.groups:
            if type(group) is ScalarRun:
                self._run(group)
            elif type(group) is Joint:
                self._joint(group)
            else:
                self._group(group)
        self.rec.stand(self.stretch.site)
        return [presented(self._gathered(leaf.boxes, leaf.shape), leaf.shape) for leaf in self.stretch.outputs]

    def _group(self, group: Group) -> None:
        if group.out.block not in self.stretch.active:
            return
        self.rec.stand(group.site)
        shape, op = group.shape, group.op
        kept = [k for k, (n, s) in enumerate(zip(shape, group.out.strides)) if (s and n > 1) or op.kind == "scan"]
        read: dict[int, Any] = {}
        terms = []
        for k in range(op.arity):
            if not self.depends(group, k):
                continue
            t = self._gathered([(lo, hi, refs[k]) for lo, hi, refs in group.boxes], shape)
            if t is None:
                continue
            if op.kind == "scan":
                t = np.cumsum(np.broadcast_to(t, shape) if shape_of(t) != shape else t, axis=-1)
            terms.append(product(self.partial(group, k, read), t, shape, kept))
        total = sum_of(terms)
        if total is None:
            return
        sheet = self.sheet(group.out.block)
        sheet.add(total, group.out.offset, tuple(group.out.strides[k] for k in kept), tuple(shape[k] for k in kept))
        self.known[group.out.block] = sheet.total()

    def _joint(self, item: Joint) -> None:
        if item.out.block not in self.stretch.active:
            return
        xdot: list[Any] = [None] * len(item.operands)
        for k in item.active:
            shape = item.operand_shape(k)
            t = self._gathered([((0,) * len(shape), shape, item.operands[k])], shape)
            xdot[k] = None if t is None else in_full(t, (item.shape or (1,)) + item.core(k))
        if all(t is None for t in xdot):
            return
        self.rec.stand(item.site)
        y, x = self.joint(item)
        parts = [np.zeros((*item.shape, prod(core))) if ydot is None
                 else np.reshape(in_full(ydot, (item.shape or (1,)) + core), (*item.shape, prod(core)))
                 for core, ydot in zip(item.op.core_out, item.op.tangent(y, x, xdot), strict=True)]
        sheet = self.sheet(item.out.block)
        sheet.add(np.concatenate(parts, axis=-1), item.out.offset, item.out.strides, item.out_shape)
        self.known[item.out.block] = sheet.total()

    def _run(self, run: ScalarRun) -> None:
        if run.block not in self.stretch.active:
            return
        self.rec.stand(self.stretch.site)
        written = written_tangent(self, run, self.of_node)
        if written is not None:
            self.lines[run.block] = written
            return
        lines = Lines(self, run)
        tangents = self.lines.setdefault(run.block, {})
        for i in np.flatnonzero(lines.active).tolist():
            terms = []
            for node, p in lines.partials(i):
                t = tangents.get(node - lines.first) if node >= lines.first else self.of_node(node)
                if t is not None:
                    terms.append(times(p, t))
            if terms:
                tangents[i] = sum_of(terms)

    def of_node(self, node: int) -> Any:
        block = self.rec.block_of(node)
        place = node - self.rec.firsts[block]
        if self.is_run(block):
            return self.lines.get(block, {}).get(place)
        t = self.known.get(block)
        return number(t[np.unravel_index(place, shape_of(t))]) if t is not None and shape_of(t) else t

    def _gathered(self, boxes: list[Any], shape: Index) -> Any:
        """The tangents of what lies in boxes on the tape, over `shape` with length 1 along axes on which they do not
        depend; None if they are zero."""
        found = [(lo, hi, self._of(ref, extent(lo, hi))) for lo, hi, ref in boxes]
        if all(t is None for _, _, t in found):
            return None
        if len(found) == 1:
            return found[0][2]
        array: Any = np.zeros(shape)
        if any(is_traced(t) for _, _, t in found):
            array = self.rec.array_of(array)
        for lo, hi, t in found:
            if t is not None:
                array[tuple(map(slice, lo, hi))] = t
        return array

    def _of(self, ref: Operand, shape: Index) -> Any:
        """The tangents at a reference, None if they are zero."""
        if type(ref) is Const or not self.stretch.depends(ref, shape):
            return None
        if type(ref) is Affine and not self.is_run(ref.block):
            t = self.known.get(ref.block)
            return None if t is None else along(t, ref.offset, ref.strides, shape)
        if type(ref) is Affine:
            core = tuple(n if s else 1 for n, s in zip(shape, ref.strides))
            ids = ref.ids(self.rec.firsts[ref.block], core)
            if ids.size == 1:
                return self.of_node(int(ids.item()))
        else:
            ids = ref.ids
        return self._of_nodes(ids)

    def _of_nodes(self, ids: np.ndarray) -> Any:
        flat = ids.reshape(-1)
        owners = np.searchsorted(self.rec.firsts, flat, side="right") - 1
        array = self.rec.array_of(np.zeros(flat.shape))
        for block in np.unique(owners).tolist():
            here = np.flatnonzero(owners == block)
            places = flat[here] - self.rec.firsts[block]
            if self.is_run(block):
                lines = self.lines.get(block, {})
                part = self.rec.array_of([lines.get(place, 0.0) for place in places.tolist()])
            else:
                t = self.known.get(block)
                if t is None:
                    continue
                part = np.reshape(t, -1)[places] if shape_of(t) else t
            if len(here) == len(flat) and shape_of(part):
                array = part
            else:
                array[here] = part
        return np.reshape(array, ids.shape)


def presented(x: Any, shape: Index) -> Any:
    """A derivative as the user sees it: an array of its own (or a number), zeros where it is zero by structure."""
    if x is None:
        return np.zeros(shape) if shape else 0.0
    if not shape:
        return number(x)
    if shape_of(x) != shape:
        x = np.broadcast_to(x, shape)
    return x.copy()


def _stands_still(ref: Operand, shape: Index) -> bool:
    return type(ref) is Affine and any(not s and n > 1 for n, s in zip(shape, ref.strides))


def _run(walk: Adjoint | Tangent, given: list[Any]) -> list[Any]:
    found = walk.run(given)
    again = walk.otherwise(found)
    return found if again is None else again.run(given)


def pullback(stretch: Stretch, cotangents: list[Any]) -> list[Any]:
    """J^T ybar, one array (or number) an input leaf; `cotangents` one an output leaf."""
    with stretch.recording():
        return _run(Adjoint(stretch), [as_leaf(stretch.rec, y) for y in cotangents])


def pushforward(stretch: Stretch, tangents: list[Any]) -> list[Any]:
    """J xdot, one array (or number) an output leaf; `tangents` one an input leaf."""
    with stretch.recording():
        return _run(Tangent(stretch), [as_leaf(stretch.rec, x) for x in tangents])


__all__ = ["pullback", "pushforward"]
