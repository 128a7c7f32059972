"""Supersteps of a placed plan, and what it costs.

    s(unit) >= max over the units it reads of  s(operand unit) + [another rank owns it],      k* = 1 + max s

A unit is a rank's part of a block, or a single node of a scalar run.  "Soonest" takes the least such s.  That
can run ranks one after another: the owner of a shared parameter computes its samples in the superstep before
the others get the parameter. "Together" therefore gives all parts of a block one superstep, and lets a single
node that is sent to other ranks count as sent to its own rank too.  Both are valid; the measure decides.  "Grown" is
"soonest" where whoever placed scalar lines has given them out superstep by superstep (`growlocal`): sooner than meant,
a rank's lines would keep others waiting.

With deep halos (`deepen`) a read of a neighbour's rows does not count where the rank can compute them itself; a
superstep then begins where `floors` say, one number a block.  Short scalar runs wait until they are read (`waiting`).
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..graph.contractions import call_seconds, line_seconds
from ..kernels.graph import run_steps, sent_away
from ..tape import Affine, Const, Indexed, ScalarRun, Statement, Vector
from .intervals import Interval, distinct_ids, rows_read, volume
from .layout import Layout, Pieces, owned_pieces, resolve
from .plan import Plan, Task, binary
from .quality import Load, Quality, Traffic, gathered, measure
from .waiting import delay

RULES = ("soonest", "together")
GROWN = "grown"  # as soon as possible, but no sooner than whoever placed a scalar line meant
NEAR = 8  # rows beyond its own that a statement may read of what a rank computes itself


class Look(NamedTuple):
    """What equal statements over arrays laid out alike share: who runs which part, at what cost, reading what."""

    parts: Pieces | None  # None: nobody has a part
    active: np.ndarray
    lines: np.ndarray
    seconds: np.ndarray
    reads: list[Interval | None]


class Known(NamedTuple):
    """What was found out about a block, for others that equal statements write from operands scheduled alike."""

    steps: np.ndarray  # of all ranks, less the latest operand's
    lines: np.ndarray
    seconds: np.ndarray
    reads: list[tuple[int, Interval]]  # number of an affine operand, what is read of it
    free: bool
    pattern: int
    latest: int


NEVER = -(1 << 30)  # a superstep before all others
EARLY = -2  # stands for the supersteps of operands that are so early that it makes no difference how early


class Schedule:
    """Supersteps of all units, left in `plan.where`, and by `finish` their number and quality."""

    def __init__(self, plan: Plan, rule: str, floors: np.ndarray | None = None) -> None:
        self.together, self.grown = rule == "together" or floors is not None, rule == GROWN
        self.floors = floors
        self.free = [False] * len(plan.blocks)  # blocks whose rows any rank can compute in their superstep
        self.apart = False  # whether the other rule may differ
        self.plan, self.where, self.machine = plan, plan.where, plan.machine
        self.where.clear_steps()
        plan.extents = None
        self.n_ranks = plan.n_ranks
        self.ranks = np.arange(plan.n_ranks)
        self.other = (self.ranks[:, None] != self.ranks).astype(np.int32)
        self._in_rows: dict[tuple[object, ...], bool] = {}
        self._known: dict[tuple[object, ...], Known] = {}
        self._latest = [0] * len(plan.blocks)  # of a block's supersteps
        self._pattern = [0] * len(plan.blocks)  # number of a block's supersteps less the latest; 0: all ranks alike
        self._patterns: dict[bytes, int] = {bytes(4 * plan.n_ranks): 0}
        self._volumes: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        blocks = len(plan.blocks)
        self.lines = np.zeros((blocks, plan.n_ranks))
        self.seconds = np.zeros((blocks, plan.n_ranks))
        self.run_lines: list[tuple[np.ndarray, np.ndarray]] = []
        self.reads: list[list[Interval]] = [[] for _ in range(blocks)]
        self.edges: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        self._late = 0  # supersteps that runs of a regrouped program come later than foreseen
        self._run()
        if plan.regrouped is None and delay(plan):  # there runs have their supersteps
            self.edges = [(ids, self.where.find(ids)[1], owner, target) for ids, _, owner, target in self.edges]
            self.run_lines = [(share.steps, share.owner) for share in plan.runs.values()]

    # -- supersteps ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        plan = self.plan
        parts = {shared.parts[-1]: shared.parts for shared in plan.shared}
        for block in plan.in_order:
            self._block(block)
            if block in parts:  # ranks compute them together
                step = max(self._latest[part] for part in parts[block])
                for part in parts[block]:
                    self.where.steps[part], self._latest[part], self._pattern[part] = step, step, 0

    def _block(self, block: int) -> None:
        plan = self.plan
        if block in plan.whole:
            self._whole_run(block)
        operands = plan.writing[block].operands
        key, base = self._key(block, *plan.writing[block][1:])
        known = self._known.get(key) if key is not None else None
        if known is None:
            self._first_time(block, key, operands, base)
            return
        self.lines[block], self.seconds[block] = known.lines, known.seconds
        self.where.steps[block] = known.steps + base
        for number, read in known.reads:
            self.reads[operands[number]].append(read)
        self.free[block], self._pattern[block] = known.free, known.pattern
        self._latest[block] = base + known.latest

    def _key(self, block: int, operands: list[int], alike: int) -> tuple[tuple[object, ...] | None, int]:
        """(what decides a block's supersteps beside the latest operand's, that superstep); None: more than integers."""
        if alike < 0:
            return None, 0
        base = max([self._latest[b] for b in operands])
        key: list[object] = [alike]
        for b in operands:
            late = self._latest[b] - base
            key += (late, self._pattern[b], self.free[b]) if late > EARLY else (EARLY, self.free[b])
        if self.floors is not None:
            key.append(max(int(self.floors[block]) - base, 0))
        return tuple(key), base

    def _first_time(self, block: int, key: tuple[object, ...] | None, operands: list[int], base: int) -> None:
        """Supersteps, lines and reads of a block; remembered under `key` if they hold for all such blocks."""
        steps, tasks = self.where.steps, self.plan.writing[block].tasks
        looks: list[tuple[Vector, Look]] = []
        for item, rank in tasks:
            if isinstance(item, ScalarRun):
                self._scalar_run(item)
            else:
                look = self._look(block, item, rank)
                if look.parts is not None:
                    self.lines[block] += look.lines
                    self.seconds[block] += look.seconds
                    looks.append((item, look))
        row = self._row(looks, steps)
        for item, look in looks:
            for k, (ref, read) in enumerate(zip(item.operands, look.reads)):
                if read is None and not isinstance(ref, Const):
                    self._explicit(row, ref, item.shape, item.core(k), look)
                    key = None
        active = np.any([look.active for _, look in looks], axis=0) if looks else np.zeros(self.n_ranks, dtype=bool)
        early = {b for b in operands if self._latest[b] - base <= EARLY}
        if (row[active] < 0).any() or early and not self._same_for_all_earlier(looks, early, base):
            key = None
        if looks:
            steps[block] = np.where(active, np.maximum(row, 0), max(int(row[active].max()), 0))
        if self.floors is not None:
            steps[block] = max(int(steps[block].max()), int(self.floors[block]))
        elif self.together:
            steps[block] = steps[block].max()
        elif not self.apart:
            busy = self.seconds[block] > 0
            self.apart = bool(busy.any() and (steps[block, busy] != steps[block, busy][0]).any())
        latest = self._latest[block] = int(steps[block].max())
        pattern = steps[block] - latest
        self._pattern[block] = self._patterns.setdefault(pattern.tobytes(), len(self._patterns))
        if self.floors is not None:
            self.free[block] = self._computable(block, tasks)
        reads = self._note_reads(looks)
        if key is not None:
            self._known[key] = Known(steps[block] - base, self.lines[block].copy(), self.seconds[block].copy(), reads,
                                     self.free[block], self._pattern[block], latest - base)

    def _row(self, looks: list[tuple[Vector, Look]], steps: Any) -> np.ndarray:
        """The least supersteps that the operands allow; NEVER where nothing is read."""
        row = np.full(self.n_ranks, NEVER, dtype=np.int32)
        for item, look in looks:
            for ref, read in zip(item.operands, look.reads):
                if read is None or isinstance(ref, Const):
                    continue
                assert isinstance(ref, Affine)
                if read.reach is None:
                    np.maximum(row, steps[ref.block], out=row, where=look.active)
                else:
                    other = self.other if not self.free[ref.block] or read.beyond > NEAR else 0
                    np.maximum(row, np.where(read.reach, steps[ref.block] + other, NEVER).max(axis=1), out=row)
        return row

    def _same_for_all_earlier(self, looks: list[tuple[Vector, Look]], early: set[int], base: int) -> bool:
        """Whether it makes no difference how early some operands are."""
        rows = []
        for when in (base + EARLY, NEVER):
            ends = np.full(self.n_ranks, when, dtype=np.int32)
            rows.append(self._row(looks, {ref.block: ends if ref.block in early else self.where.steps[ref.block]
                                          for item, _ in looks for ref in item.operands if isinstance(ref, Affine)}))
        return bool((rows[0] == rows[1]).all())

    def _note_reads(self, looks: list[tuple[Vector, Look]]) -> list[tuple[int, Interval]]:
        """Note what is read of other ranks; returns it with the numbers of the affine operands."""
        found, number = [], 0
        for item, look in looks:
            for k, ref in enumerate(item.operands):
                if isinstance(ref, Affine):
                    read = look.reads[k] if look.reads else None
                    if read is not None and read.reach is not None:
                        self.reads[ref.block].append(read)
                        found.append((number, read))
                    number += 1
        return found

    def _computable(self, block: int, tasks: list[Task]) -> bool:
        """Whether a rank can compute rows of others: from operands that it has by then, or can compute as well."""
        layout = self.plan.layouts[block]
        if layout is None or not tasks:
            return False
        now = self.where.steps[block, 0]
        for item, rank in tasks:
            if rank >= 0 or not isinstance(item, Statement):
                return False
            key = (item.op.kind, item.shape, item.out.offset, item.out.strides, id(layout))
            if key not in self._in_rows:
                self._in_rows[key] = _in_rows(item, layout)
            if not self._in_rows[key]:
                return False
            for ref in item.operands:
                if isinstance(ref, Affine):
                    known = ref.block != block and self.plan.layouts[ref.block] is not None
                    if not known or not (self.free[ref.block] or self._latest[ref.block] < now):
                        return False
                elif not isinstance(ref, Const):
                    return False
        return True

    def _look(self, block: int, item: Vector, rank: int) -> Look:
        """What every equal statement over arrays laid out alike has in common."""
        plan = self.plan
        layout, kind = plan.layouts[block], plan.kinds.of(item)
        assert layout is not None
        key = (kind, rank, id(layout), *(id(plan.layouts[ref.block]) for ref in item.operands if type(ref) is Affine))
        if key not in plan.looks:
            look = self._new_look(item, layout, rank)
            if kind < 0:
                return look
            plan.looks[key] = look
        return plan.looks[key]

    def _new_look(self, item: Vector, layout: Layout, rank: int) -> Look:
        parts = owned_pieces(item, layout, rank)
        active = parts.stop > parts.start
        if not active.any():
            return Look(None, active, active, active, [])
        share = (parts.stop - parts.start) / (item.shape[parts.axis] if parts.axis >= 0 else 1)
        lines = item.lines * np.where(active, share, 0.0)
        seconds = np.where(active, call_seconds(item, self.machine), 0.0) + line_seconds(item, self.machine) * lines
        reads = [rows_read(ref, item.operand_shape(k), self.plan.layouts[ref.block], parts, active)
                 if isinstance(ref, Affine) else None
                 for k, ref in enumerate(item.operands)] if 0 not in item.shape else []
        return Look(parts, active, lines, seconds, reads)

    def _explicit(self, steps: np.ndarray, ref: Affine | Indexed, shape: tuple[int, ...], core: tuple[int, ...],
                  look: Look) -> None:
        assert look.parts is not None
        for rank in np.flatnonzero(look.active):
            box = look.parts.box(shape, rank)
            assert box is not None
            ids = distinct_ids(self.plan, ref, (*shape, *core), look.parts.axis, (box[0], (*box[1], *core)))
            owner, step = self.where.find(ids)
            away = owner != rank
            steps[rank] = max(steps[rank], int((step + away).max(initial=0)))
            if away.any():
                self._note(ids[away], owner[away], np.full(int(away.sum()), rank))

    def _note(self, ids: np.ndarray, owner: np.ndarray, target: np.ndarray) -> None:
        """Single nodes that travel to a rank (each noted once a rank at the end)."""
        _, step = self.where.find(ids)
        self.edges.append((ids, step, owner, target))

    def _whole_run(self, block: int) -> None:
        """The superstep of a run that one rank has."""
        run = self.plan.whole[block]
        rank, ids, least = run.rank, run.ids, run.step
        n = self.plan.blocks[block].size
        self.lines[block, rank], self.seconds[block, rank] = n, self.machine.item + self.machine.run_line * n
        owner, step = self.where.find_ascending(ids)
        away = owner != rank
        if away.any():
            self.apart = True
            self.edges.append((ids[away], step[away], owner[away], np.full(np.count_nonzero(away), rank)))
        if least >= 0:  # own runs, which stand before it, are not among its reads
            away |= np.isin(ids, self._sent_to_runs)
            now = max(least + self._late, int((step + away).max(initial=0)))
            self.where.steps[block, rank], self._late = now, now - least
            return
        if self.together and len(ids):
            away |= np.isin(ids, self._sent_to_runs)
        self.where.steps[block, rank] = (step + away).max(initial=0)

    @cached_property
    def _sent_to_runs(self) -> np.ndarray:
        """The nodes that runs on other ranks than their owner's read, as far as runs are on one rank as a whole."""
        found = [np.empty(0, dtype=np.int64)]
        for run in self.plan.whole.values():
            ids = run.ids
            owner, _ = self.where.find_ascending(ids)
            found.append(ids[owner != run.rank])
        return np.unique(np.concatenate(found))

    def _scalar_run(self, item: ScalarRun) -> None:
        """Supersteps of single nodes; operands inside the run by the compiled loop, others looked up."""
        plan, where = self.plan, self.where
        share = plan.runs[item.block]
        owner, n = share.owner, len(share.ids)
        base = np.zeros(n, dtype=np.int32)  # from operands that other items compute
        if self.grown and len(share.floors):
            base[:] = share.floors
        for ref, inner, used in zip((share.a, share.b), share.inner, (True, binary(share.op))):
            outside = np.flatnonzero((ref >= 0) & (inner < 0) & used)
            if not len(outside):
                continue
            ids = ref[outside]
            whose, step = where.find(ids)
            away = whose != owner[outside]
            if away.any():
                self.edges.append((ids[away], step[away], whose[away], owner[outside[away]]))
                if self.together:
                    away |= np.isin(ids, ids[away])
            if self.together and self.plan.whole:
                away = away | np.isin(ids, self._sent_to_runs)
            base[outside] = np.maximum(base[outside], step + away)
        sent = sent_away(*share.inner, owner) if self.together else np.zeros(n, dtype=np.bool_)
        if self.together and plan.whole:
            sent |= np.isin(share.ids, self._sent_to_runs)
        self.apart = True
        share.steps = run_steps(*share.inner, owner, base, sent)
        where.set_steps(item.block, share.ids, share.steps)
        for inner, ref in zip(share.inner, (share.a, share.b)):
            cross = np.flatnonzero((inner >= 0) & (owner[inner] != owner))
            if len(cross):
                at = inner[cross]
                self.edges.append((ref[cross], share.steps[at], owner[at], owner[cross]))
        self.run_lines.append((share.steps, owner))

    # -- cost ------------------------------------------------------------------------------------------------------

    def finish(self) -> tuple[int, Quality]:
        """(supersteps, quality) of the plan."""
        plan, where, p = self.plan, self.where, self.n_ranks
        if plan.extents is not None:
            self.lines += plan.extents.lines
            self.seconds += self.machine.line * plan.extents.lines
        steps = where.steps[:where.count]
        n_steps = 1 + max([int(steps.max(initial=0)), *(int(s.max(initial=0)) for s, _ in self.run_lines)])
        busy = np.nonzero(self.seconds)
        places, seconds = [steps[busy].astype(np.int64) * p + busy[1]], [self.seconds[busy]]
        lines = self.lines.sum(axis=0)
        written = np.array([len(writing.tasks) for writing in plan.writing], dtype=np.int64)
        items, runs = ((self.seconds > 0) * written[:, None]).sum(axis=0), np.zeros(p, dtype=np.int64)
        for whole in plan.whole.values():
            runs[whole.rank] += 1
            items[whole.rank] += 1
        nodes = np.zeros(p)
        laid = {id(layout): layout for layout in plan.layouts}
        for number, times in Counter(map(id, plan.layouts)).items():
            layout = laid[number]
            if layout is not None:
                nodes += times * np.diff(layout.cuts) * layout.row
        for s, owner in self.run_lines:
            place, (each,) = gathered(s.astype(np.int64) * p + owner, n_steps * p, np.ones(len(s)))
            places.append(place)
            seconds.append(self.machine.run_line * each + self.machine.item)
            pieces, of_rank = np.bincount(place % p, minlength=p), np.bincount(owner, minlength=p)
            runs, items, lines, nodes = runs + pieces, items + pieces, lines + of_rank, nodes + of_rank
        place, (work,) = gathered(np.concatenate(places), n_steps * p, np.concatenate(seconds))
        load = Load(n_steps, p, place, work)
        return n_steps, measure(np.rint(lines), load, nodes, self._traffic(), self.machine, items, runs)

    def _traffic(self) -> Traffic:
        deep = self.plan.extents
        self.sent, self.sent_ids = np.zeros(len(self.plan.blocks), dtype=np.int64), np.empty(0, dtype=np.int64)
        parts: list[tuple[np.ndarray, ...]] = [] if deep is None else list(deep.traffic)
        for block, reads in enumerate(self.reads if deep is None else []):
            if reads:
                key = (id(self.plan.layouts[block]), *map(id, reads))  # the reads live as long as self
                if key not in self._volumes:
                    between = volume(reads, self.plan.layouts[block])
                    source, target = np.nonzero(between)
                    self._volumes[key] = source, target, between[source, target]
                source, target, values = self._volumes[key]
                self.sent[block] = values.sum()
                parts.append((self.where.steps[block][source], source, target, values))
        if self.edges:
            ids, step, source, target = (np.concatenate(column) for column in zip(*self.edges))
            _, once = np.unique(ids * self.n_ranks + target, return_index=True)
            self.sent_ids = ids[once]
            parts.append((step[once], source[once], target[once], np.ones(len(once))))
        if not parts:
            return Traffic.none()
        return Traffic(*(np.concatenate(column) for column in zip(*parts)))


def _in_rows(item: Statement, layout: Layout) -> bool:
    """Whether an elementwise statement's results lie one row of the cut axis after another, on several ranks."""
    if item.op.kind != "elementwise" or item.reduced or 0 in item.shape or np.count_nonzero(np.diff(layout.cuts)) < 2:
        return False
    out = resolve(item.out, item.shape, layout)
    return out is not None and not out.flat and sum(bool(s) and n > 1 for s, n in zip(out.middle, item.shape)) <= 1


__all__ = ["GROWN", "RULES", "Schedule"]
