"""What a tape that is still being written has computed so far: values of its nodes, and nodes as traced arrays again.

Blocks of arrays have their values kept by the recorder, those at least that partials read.  The values of scalar lines
are kept nowhere, and are computed once more when they are asked for.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..kernels import scalar
from ..kernels.templates import FEW_LINES
from ..ops import BY_NAME, OPS, Op
from ..strided import core_array, core_view
from ..tape import Affine, Const, Indexed, Item, Joint, Operand, ScalarRun, Statement, c_strides
from .array import TracedArray, of_ids, rearranged
from .boxes import Index, Piece
from .patching import suspended
from .recorder import Recorder
from .scalar import numpy_divide
from .storage import Storage

_PYTHON = {  # the commonest functions, many times faster than through NumPy
    BY_NAME[name].code: function
    for name, function in (("add", operator.add), ("subtract", operator.sub), ("multiply", operator.mul),
                           ("divide", numpy_divide), ("negative", operator.neg), ("copy", operator.pos))
}


class Group(NamedTuple):
    """Statements that compute one block by one operation: the whole over `shape`, box by box."""

    op: Op
    shape: Index
    out: Affine
    boxes: list[tuple[Index, Index, tuple[Operand, ...]]]
    site: int

    @property
    def reduced(self) -> Index:
        return Statement(self.op, self.shape, self.out, ()).reduced


def grouped(rec: Recorder, items: list[Item]) -> Iterator[Group | Joint | ScalarRun]:
    """The items, the statements that came of one operation on arrays in several pieces as one."""
    k = 0
    while k < len(items):
        item = items[k]
        k += 1
        if type(item) is not Statement:
            yield item
            continue
        start = k - 1
        while k < len(items) and type(items[k]) is Statement and (
            items[k].out.block == item.out.block and items[k].op is item.op and items[k].out.strides == item.out.strides
        ):
            k += 1
        if k - start == 1:
            if 0 not in item.shape:
                low = (0,) * len(item.shape)
                yield Group(item.op, item.shape, item.out, [(low, item.shape, item.operands)], item.site)
            continue
        shape = rec.tape.blocks[item.out.block].shape
        boxes = []
        for part in items[start:k]:
            low, rest = [], part.out.offset
            for step in c_strides(shape):
                low.append(rest // step)
                rest %= step
            boxes.append((tuple(low), tuple(a + n for a, n in zip(low, part.shape)), part.operands))
        yield Group(item.op, shape, Affine(item.out.block, 0, c_strides(shape)), boxes, item.site)


class Primals:
    """Values of the nodes recorded so far."""

    def __init__(self, rec: Recorder) -> None:
        self.rec = rec
        self._runs: dict[int, ScalarRun] = {}  # by block
        self._seen = 0  # items looked through for runs
        self._lines: dict[int, np.ndarray] = {}  # values of runs

    def block(self, block: int) -> np.ndarray:
        """The values of a block, (size,)."""
        if block in self.rec.pending:
            self.rec.compute()
        values = self.rec.values[block]
        return self._run(block) if values is None else values

    def is_run(self, block: int) -> bool:
        """Whether a block is a scalar run."""
        self._look()
        return block in self._runs

    def values(self, ref: Operand, shape: Index) -> Any:
        """The values at a reference, with length 1 along the axes on which it does not depend."""
        if type(ref) is Const:
            return core_array(ref.value) if isinstance(ref.value, np.ndarray) else ref.value
        if type(ref) is Affine:
            return core_view(self.block(ref.block), ref.offset, shape, ref.strides)
        out = np.empty(ref.ids.shape)
        owners = np.searchsorted(self.rec.firsts, ref.ids, side="right") - 1
        for block in np.unique(owners):
            here = owners == block
            out[here] = self.block(block)[ref.ids[here] - self.rec.firsts[block]]
        return out

    def at(self, ref: Operand, shape: Index) -> Any:
        """The nodes at a reference as a traced array (one node: a traced scalar); a constant as it is."""
        values, rec = self.values(ref, shape), self.rec
        if type(ref) is Const:
            return values
        if type(ref) is Indexed:
            return of_ids(rec, values, ref.ids)
        if values.size == 1:
            return rec.scalar(rec.firsts[ref.block] + ref.offset, values.item())
        flat = self.block(ref.block).reshape(rec.tape.blocks[ref.block].shape)
        return TracedArray(Storage.of_block(rec, flat, ref.block), values)

    def operand(self, group: Group, k: int) -> Any:
        """Operand k of a group over its shape."""
        if len(group.boxes) == 1:
            return self.at(group.boxes[0][2][k], group.shape)
        values = np.empty(group.shape)
        pieces = []
        for lo, hi, refs in group.boxes:
            box = values[tuple(map(slice, lo, hi))]
            box[...] = self.values(refs[k], box.shape)
            pieces.append(Piece(lo, hi, refs[k]))
        return rearranged(self.rec, values, pieces)

    def _look(self) -> None:
        """Remember the runs recorded since."""
        items = self.rec.tape.items
        for k in range(self._seen, len(items)):
            if type(items[k]) is ScalarRun:
                self._runs[items[k].block] = items[k]
        self._seen = len(items)

    def _run(self, block: int) -> np.ndarray:
        """The values of a scalar run, and of those that it reads from."""
        self._look()
        wanted = [block]
        while wanted:
            if wanted[-1] in self._lines:
                wanted.pop()
                continue
            run = self._runs[wanted[-1]]
            first = self.rec.firsts[run.block]
            used = np.concatenate([run.a, run.b])
            ids = np.unique(used[(used >= 0) & ((used < first) | (used >= first + len(run.op)))])
            owners = np.unique(np.searchsorted(self.rec.firsts, ids, side="right") - 1).tolist()
            missing = [b for b in owners if self.rec.values[b] is None and b not in self._lines]
            if missing:
                wanted += missing
                continue
            known = self.values(Indexed(ids), ids.shape)
            values = _computed_at_once(run, first, ids, known) if len(run.op) > FEW_LINES else None
            if values is None:
                values = _computed(run, first, dict(zip(ids.tolist(), known.tolist())))
            self._lines[run.block] = values
        return self._lines[block]


def _computed_at_once(run: ScalarRun, first: int, ids: np.ndarray, known: np.ndarray) -> np.ndarray | None:
    """The values of a run by a compiled loop, given those of the nodes `ids` outside; None where it isn't worth it."""
    with suspended():  # Numba takes NumPy's functions by name
        if not scalar.compiled(len(run.op)):
            return None
        n, m = len(run.op), len(ids)
        own = (run.a >= first) & (run.a < first + n), (run.b >= first) & (run.b < first + n)
        a, b = (np.where(mine, x.astype(np.int64) + (m - first), np.where(x < 0, x, np.searchsorted(ids, x)))
                for mine, x in zip(own, (run.a, run.b)))
        y = np.concatenate([known, np.empty(n)])
        scalar.run_values(ScalarRun(run.block, run.op, a, b, run.const), m, y)
        return y[m:]


def _computed(run: ScalarRun, first: int, known: dict[int, float]) -> np.ndarray:
    constants, y = run.const.tolist(), known
    with np.errstate(all="ignore"):
        for i, (code, a, b) in enumerate(zip(run.op.tolist(), run.a.tolist(), run.b.tolist()), first):
            x = [y[j] if j >= 0 else constants[-1 - j] for j in (a, b)[: OPS[code].arity]]
            function = _PYTHON.get(code)
            y[i] = function(*x) if function is not None else float(OPS[code].value(*map(np.float64, x)))
    return np.array([y[i] for i in range(first, first + len(run.op))])
