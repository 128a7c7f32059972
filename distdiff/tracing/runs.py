"""The two walks through a scalar run of many lines, compiled: the lines that `walks` records one by one, at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.templates import CODES, Loops
from ..tape import RUN_LINES, Indexed, ScalarRun, id_type
from .dependence import Places, ready
from .patching import suspended
from .primals import Primals
from .recorder import Located, Recorder
from .walk import Walk

NONE, CONSTANT = -2, -1  # in place of a node
HASHES = 1 << 12
KEPT_LINES = 1 << 20  # of a stretch, whose runs are prepared once: 48 bytes a line


def written_adjoint(walk: Walk, run: ScalarRun, adjoints: dict[int, Any]) -> bool:
    """Write the adjoint of a run, given those of its lines that have one so far; False if it is for plain Python."""
    writer = _Writer.of(walk, run)
    if writer is None or not writer.take(adjoints, {node: walk.lines.get(block, {}).get(place)
                                                    for node, block, place in writer.sources}):
        return False
    writer.write(backwards=True)
    for k, (_, block, place) in enumerate(writer.sources, writer.n):
        if writer.node[k] != NONE:
            walk.lines.setdefault(block, {})[place] = writer.number(k)
    return True


def written_tangent(walk: Walk, run: ScalarRun, of_node: Callable[[int], Any]) -> Any:
    """Write the tangents of a run: they by line, with `get`, or None if that is for plain Python."""
    if run.block in walk.lines:
        return None
    writer = _Writer.of(walk, run)
    if writer is None or not writer.take({}, {node: of_node(node) for node, _, _ in writer.sources}):
        return None
    writer.write(backwards=False)
    return writer


class _Lines:
    """What a walk through a run reads, whatever is walked with: kept for the next one, for a Jacobian's rows say, where
    the stretch is of a moderate length."""

    def __init__(self, walk: Walk, run: ScalarRun) -> None:
        rec: Recorder = walk.rec
        primals: Primals = walk.primals
        self.first, self.n = rec.firsts[run.block], len(run.op)
        places = Places(run, self.first)
        self.outside = places.outside.tolist()
        depends = walk.stretch.node_depends
        active = np.concatenate([walk.stretch.active[run.block], np.array(
            [depends(node) for node in self.outside], dtype=np.bool_)])
        op = run.op.astype(np.int64)
        counted = [np.where((p >= 0) & active[p] & Loops.templates.rules[2 * op + k], p, -1)
                   for k, p in enumerate((places.pa, places.pb))]
        blocks = [rec.block_of(node) for node in self.outside]
        self.sources = [(node, block, node - rec.firsts[block]) for node, block in zip(self.outside, blocks)]
        y = primals.block(run.block)
        pool = np.concatenate([y, primals.values(Indexed(places.outside), places.outside.shape)])
        const = run.const if len(run.const) else np.zeros(1)
        xa, xb = (np.where(p >= 0, pool[p], const[np.where(x < 0, -1 - x, 0)])
                  for p, x in ((places.pa, places.a), (places.pb, places.b)))
        self.tables = run.op, np.ascontiguousarray(y), places.a, xa, places.b, xb, *counted

    @classmethod
    def of(cls, walk: Walk, run: ScalarRun) -> _Lines:
        stretch = walk.stretch
        known = stretch.lines.get(run.block)
        if known is None:
            known = cls(walk, run)
            if sum(kept.n for kept in stretch.lines.values()) + known.n <= KEPT_LINES:
                stretch.lines[run.block] = known
        return known


class _Writer:
    """A run and its derivatives so far, `node` and `value` over its lines and the nodes outside that it reads."""

    def __init__(self, walk: Walk, run: ScalarRun) -> None:
        self.rec: Recorder = walk.rec
        self.lines = _Lines.of(walk, run)
        self.n, self.sources = self.lines.n, self.lines.sources
        size = self.n + len(self.sources)
        self.node = np.full(size, NONE, dtype=np.int64)
        self.value = np.zeros(size)

    @classmethod
    def of(cls, walk: Walk, run: ScalarRun) -> _Writer | None:
        return cls(walk, run) if ready(len(run.op)) else None

    def take(self, own: dict[int, Any], outside: dict[int, Any]) -> bool:
        """The derivatives that are there already; False where one is more than a number."""
        given = [*own.items(), *((k, outside[node]) for k, node in enumerate(self.lines.outside, self.n))]
        scalar = self.rec.scalar_type
        for k, x in given:
            if type(x) is scalar:
                self.node[k], self.value[k] = x.i, x.v
            elif type(x) in (float, int, np.float64):
                self.node[k], self.value[k] = CONSTANT, x
            elif x is not None:
                return False
        return True

    def number(self, k: int) -> Any:
        j, v = int(self.node[k]), float(self.value[k])
        return self.rec.scalar(j, v) if j >= 0 else v

    def get(self, place: int, otherwise: Any = None) -> Any:
        """The derivative of a line, a number."""
        return otherwise if self.node[place] == NONE else self.number(place)

    def write(self, backwards: bool) -> None:
        """Write the adjoint, or the tangent, a run of lines at a time."""
        i = self.n - 1 if backwards else 0
        templates, rec = Loops.templates, self.rec
        node, x = np.zeros(templates.slots, dtype=np.int64), np.zeros(templates.slots)
        tables = templates.starts, templates.roots, templates.conditions, templates.steps, templates.constants
        while 0 <= i < self.n:
            const = np.empty(RUN_LINES + 1)
            op, values = np.empty(RUN_LINES, dtype=np.uint8), np.empty(RUN_LINES)
            a, b = np.empty(RUN_LINES, dtype=np.int64), np.empty(RUN_LINES, dtype=np.int64)
            out = op, a, b, const, const.view(np.int64), values, np.full(HASHES, -1, dtype=np.int64)
            at = np.array([0, 0, rec.next_node(), *CODES])
            with suspended():
                i = Loops.module.write(i, templates.room, backwards, self.lines.first, Loops.number,
                                       *self.lines.tables, *tables,
                                       node, x, self.node, self.value, *out, at)
            n = int(at[0])
            if not n:
                continue
            first = int(at[2])
            if rec.target is not None and first <= rec.target < first + n:
                raise Located(rec.tape.sites[rec.site()])
            ids = id_type(first + n)
            kept = rec.room_for(first, n) if rec.keep_values and n > RUN_LINES // 2 else np.empty(n)
            kept[:] = values[:n]
            rec.append_lines(op[:n].copy(), a[:n].astype(ids), b[:n].astype(ids), const[: at[1]].copy(), kept)
