"""From the structure and a rank's parcel to its LocalTape: what the rank reads, its part of every statement in local
numbers (see `numbering`), and who gets what from whom.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ..kernels.graph import renumber, renumber_stretches
from ..strided import BlockIndex
from ..tape import Affine, Const, Guard, Indexed, Item, Joint, Operand, ScalarRun, Vector, id_type
from .afar import Stored
from .early import cut
from .layout import Layout, resolve
from .local import Exchange, LocalTape, Numbers, Portion, Step
from .numbering import EMPTY, Numbering
from .parcel import OwnRun, Parcel, Structure, unpack
from .plan import binary
from .reach import Box, Look, Read, away, boxes, moved, nearest_turn, rows_of
from .rejoin import Joiner

WASTE = 4  # a slab of ghosts may hold this many times the nodes that are read; beyond, they are read one by one


class Part(NamedTuple):
    """The rank's part of a statement; operands are `Read`s, or references with the tape's ids."""

    step: int
    index: int
    item: Vector
    out: Read
    shape: tuple[int, ...]
    operands: tuple[Operand | Read, ...]


@dataclass
class Ghosts:
    """Nodes of others that a rank reads, by (superstep, id): global ids, owners, supersteps, local ids."""

    ids: np.ndarray
    owner: np.ndarray
    step: np.ndarray
    local: np.ndarray

    def wanted(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """(ids, supersteps) wanted from a rank, in the order in which they come."""
        mine = self.owner == rank
        return self.ids[mine], self.step[mine]


@dataclass
class Rank:
    """One rank's share in the making: `build` numbers it, `adopt` takes in whole runs, `connect` says who gets what."""

    structure: Structure
    parcel: Parcel
    rank: int
    run_ids: dict[int, np.ndarray | range | Numbers] = field(default_factory=dict)
    stored: dict[int, Stored] = field(default_factory=dict)  # by block of the whole tape
    _made: list[tuple[int, int, int, Item]] = field(default_factory=list)  # (step, index, number, item)

    def build(self) -> Ghosts:
        """Number the rank's nodes; returns the ghosts it needs."""
        self._where = self.structure.where
        self._own_ids = np.sort(np.concatenate([EMPTY, *(run.ids for run in self.parcel.runs)]), kind="stable")
        self._needs: dict[int, set[tuple[int, int]]] = {}
        self._hulls: dict[int, tuple[int, int]] = {}
        self._ghosts: list[np.ndarray] = []
        cuts = self._where.cuts[:len(self.structure.blocks)]
        extents = self.parcel.extents
        self._low, self._high = (cuts[:, self.rank], cuts[:, self.rank + 1]) if extents is None else extents
        self._spans = list(zip(self._low.tolist(), self._high.tolist()))
        self._steps: list[int] = self._where.steps[:len(self.structure.blocks), self.rank].tolist()
        self._patterns: dict[tuple[object, ...], list[tuple[Box, list[Look | None]]]] = {}
        parts = [part for t in range(len(self.structure.tasks)) for part in self._parts(t)]
        for run in self.parcel.runs:
            for ref, inner in zip((run.a, run.b), run.inner):
                self._note(ref[(ref >= 0) & (inner < 0)])
        for _, reads in self.parcel.whole.values():
            self._note(reads)
        ids = np.unique(np.concatenate([EMPTY, *self._ghosts]))
        owner, step = self._find(ids)
        order = np.lexsort((ids, step))
        ids, owner, step = ids[order], owner[order], step[order]
        self._numbers = Numbering(self.structure, self.rank, self.parcel.runs, self._span, self._needs, ids, step)
        self.ghosts = Ghosts(ids, owner, step, self._numbers.to_local(ids))
        self._write(parts)
        return self.ghosts

    # -- what the rank reads ---------------------------------------------------------------------------------------

    def _parts(self, t: int) -> list[Part]:
        """The rank's part of a statement, box by box."""
        structure = self.structure
        index, item, only = structure.tasks[t]
        if t in self.parcel.ops:
            item = replace(item, op=self.parcel.ops[t])
        block = item.out.block
        span, step = self._spans[block], self._steps[block]
        parts = []
        for number, (box, looks) in enumerate(self._pattern(structure.kinds[t], item, only)):
            operands: list[Operand | Read] = []
            for k, ref in enumerate(item.operands):
                if type(ref) is Affine:
                    operands.append(self._affine(ref, box, item.core(k), looks[k]))
                elif type(ref) is Const:
                    operands.append(ref)
                else:
                    filled = unpack(self.parcel.arrays[t, k, number])
                    if isinstance(filled, Indexed):
                        self._note(np.ravel(filled.ids))
                    operands.append(filled)
            parts.append(Part(step, index, item, Read(box.out, block, *span, box.turn), box.shape, tuple(operands)))
        return parts

    def _pattern(self, kind: int, item: Vector, only: int) -> list[tuple[Box, list[Look | None]]]:
        """The boxes of the rank's part of a statement, and what affine operands read there: the same for all statements
        of its kind over arrays laid out alike, of which the rank computes the same rows.
        """
        layouts, spans, block = self.structure.layouts, self._spans, item.out.block
        layout, span = layouts[block], spans[block]
        key: list[object] = [kind, only, id(layout), span]
        for ref in item.operands:
            if type(ref) is Affine:
                key += (id(layouts[ref.block]), spans[ref.block])
        found = self._patterns.get(tuple(key)) if kind >= 0 else None
        if found is None:
            assert layout is not None
            home = (int(layout.cuts[self.rank]), int(layout.cuts[self.rank + 1]))
            found = [(box, [self._look_at(ref, box, item.core(k)) if type(ref) is Affine else None
                            for k, ref in enumerate(item.operands)])
                     for box in boxes(item, layout, self.rank, None if span == home else span, only)]
            self._patterns[tuple(key)] = found
        return found

    def _span(self, block: int) -> tuple[int, int]:
        """The places of a block that the rank computes: its own rows, and perhaps more."""
        return self._spans[block]

    def _look_at(self, ref: Affine, box: Box, core: tuple[int, ...]) -> Look | None:
        layout, shape = self.structure.layouts[ref.block], (*box.shape, *core)
        if layout is None or 0 in shape:
            return None
        return self._look(moved(ref, box.axis, box.start), shape, layout, self._spans[ref.block])

    def _affine(self, ref: Affine, box: Box, core: tuple[int, ...], look: Look | None) -> Operand | Read:
        """Note what the operand needs; a `Read` if slabs will hold it, else explicit ids."""
        if look is not None and not self._fits(ref.block, look):
            layout = self.structure.layouts[ref.block]
            assert layout is not None
            look = self._look(moved(ref, box.axis, box.start), (*box.shape, *core), layout, self._spans[ref.block],
                              turned=False)
            if look is not None and not self._fits(ref.block, look):
                look = None
        if look is None:
            shape = (*box.shape, *core)
            if 0 in shape:
                return Indexed(np.empty(shape, dtype=np.int64))
            return self._one_by_one(moved(ref, box.axis, box.start), shape)
        if look.away is not None:
            self._needs.setdefault(ref.block, set()).add((look.low, look.high))
            self._ghosts.append(look.away + self.structure.blocks[ref.block].first)
        return Read(look.ref, ref.block, look.low, look.high, look.turn)

    def _fits(self, block: int, look: Look) -> bool:
        """Whether the block's places with these ones make less than one turn: then no row has two places."""
        low, high = self._hulls.get(block) or self._spans[block]
        if low <= look.low and look.high <= high and low < high:
            return True
        layout = self.structure.layouts[block]
        assert layout is not None
        if low == high:
            low, high = look.low, look.high
        low, high = min(low, look.low), max(high, look.high)
        if high - low > layout.n:
            return False
        self._hulls[block] = low, high
        return True

    def _look(self, ref: Affine, shape: tuple[int, ...], layout: Layout, span: tuple[int, int],
              turned: bool = True) -> Look | None:
        found = resolve(ref, shape, layout)
        if found is None:
            return None
        first, last = rows_of(*found.span(shape), layout, found.flat)
        own = int(layout.cuts[self.rank]), int(layout.cuts[self.rank + 1])
        turn = nearest_turn(first, last, *own, layout.n) if turned else 0
        if first + turn >= span[0] and last + turn <= span[1]:
            return Look(found, first + turn, last + turn, turn, None)
        if not self._worth_a_slab(ref, shape, layout, first + turn, last + turn):
            return None
        unit = layout.inner if found.flat else 1
        others = away(ref, shape, layout, found, (span[0] - turn) * unit, (span[1] - turn) * unit)
        return Look(found, first + turn, last + turn, turn, others)

    def _worth_a_slab(self, ref: Affine, shape: tuple[int, ...], layout: Layout, first: int, last: int) -> bool:
        if layout.row <= 64:
            return True
        own = layout.cuts[self.rank:self.rank + 2]
        outside = last - first - max(0, min(last, int(own[1])) - max(first, int(own[0])))
        read = 1
        for n, s in zip(shape, ref.strides):
            read *= n if s else 1
        return outside * layout.row <= WASTE * read + 4096

    def _one_by_one(self, ref: Affine, shape: tuple[int, ...]) -> Indexed:
        ids = ref.ids(self.structure.blocks[ref.block].first, tuple(n if s else 1 for n, s in zip(shape, ref.strides)))
        self._note(np.ravel(ids))
        return Indexed(np.broadcast_to(ids, shape))

    def _note(self, ids: np.ndarray) -> None:
        """Single nodes that are read; those of others become ghosts."""
        if len(ids):
            ids = np.unique(ids)
            self._ghosts.append(ids[~self.owns(ids)])

    def owns(self, ids: np.ndarray) -> np.ndarray:
        """Which nodes the rank computes."""
        where = self._where
        block = where.block_of(ids)
        row = (ids - where.first[block]) // np.maximum(where.inner[block], 1) % np.maximum(where.n[block], 1)
        low = self._low[block]
        mine = (row - low) % np.maximum(where.n[block], 1) < self._high[block] - low
        single = where.scattered[block] >= 0
        if single.any():
            at = np.searchsorted(self._own_ids, ids[single])
            mine[single] = np.append(self._own_ids, -1)[at] == ids[single]
        return mine

    def _find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(owner, superstep) of other ranks' nodes."""
        where = self._where
        single = where.scattered[where.block_of(ids)] >= 0
        owner = np.empty(len(ids), dtype=np.int64)
        step = np.empty(len(ids), dtype=np.int64)
        owner[~single], step[~single] = where.find(ids[~single])
        known, whose, when = self.parcel.foreign
        at = np.searchsorted(known, ids[single])
        owner[single], step[single] = whose[at], when[at]
        return owner, step

    # -- the tape in local numbers -----------------------------------------------------------------------------------

    def _write(self, parts: list[Part]) -> None:
        made = self._made = []
        for part in parts:
            item = part.item
            out = self._numbers.affine(part.out)
            operands = tuple(self._local_operand(ref) for ref in part.operands)
            made.append((part.step, part.index, len(made), item.over(part.shape, out, operands)))
        self.run_ids = {}
        numbers: dict[int, np.ndarray] = {run.block: np.empty(len(run.ids), dtype=np.int64) for run in self.parcel.runs}
        for _, run, lines, block in self._numbers.run_parts:
            numbers[run.block][lines] = self._numbers.blocks[block].first + np.arange(len(lines))
        refs = {run.block: self._local_refs(run, numbers[run.block]) for run in self.parcel.runs}
        ids = id_type(self._numbers.n_nodes)
        for step, run, lines, block in self._numbers.run_parts:
            a, b = (ref[lines].astype(ids, copy=False) for ref in refs[run.block])
            made.append((step, run.index, len(made), ScalarRun(block, run.op[lines], a, b, run.const)))
            self.run_ids[block] = run.ids[lines]

    def adopt(self, run: ScalarRun, keeps: bool = False) -> None:
        """Take in one of the runs that the parcel announced (`Parcel.whole`), as it stands on the tape; if it `keeps`
        what that takes, its structure can be looked at.

        Its arrays are overwritten: new ones beside them would leave holes in the heap, of the size of the tape.
        """
        index, reads = self.parcel.whole[run.block]
        (slab,) = self._numbers.slabs[run.block]
        first, here = self.structure.blocks[run.block].first, self._numbers.blocks[slab.local].first
        numbers = self._numbers.to_local(reads)
        np.copyto(run.b, run.a, where=~binary(run.op))  # a unary line's second operand must exist
        ids, operands = id_type(self._numbers.n_nodes), []
        for ref in (run.a, run.b):
            ref = ref.astype(np.promote_types(ref.dtype, ids), copy=False)
            if self.structure.origins is not None:
                renumber_stretches(ref, *self._own_runs, reads, numbers)
            else:
                renumber(ref, first, here - first, reads, numbers)
            operands.append(ref.astype(ids, copy=False))
        step = int(self._where.steps[run.block, self.rank])
        mine = ScalarRun(slab.local, run.op, *operands, run.const)
        self._made.append((step, index, len(self._made), mine))
        if keeps:
            self.stored[run.block] = Stored(mine, here, numbers)
        origins = self.structure.origins
        self.run_ids[slab.local] = range(first, first + len(run.op)) if origins is None else Numbers(
            *origins.within(first, first + len(run.op)), len(run.op))

    @cached_property
    def _own_runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rank's whole runs as stretches of the tape's numbers, ascending: first, end, local number less that."""
        found: list[list[int]] = []
        for block in sorted(self.parcel.whole, key=lambda block: self.structure.blocks[block].first):
            (slab,) = self._numbers.slabs[block]
            (first, shape), here = self.structure.blocks[block], self._numbers.blocks[slab.local].first
            if found and found[-1][1:] == [first, here - first]:
                found[-1][1] += shape[0]
            else:
                found.append([first, first + shape[0], here - first])
        first, end, shift = np.array(found, dtype=np.int64).reshape(-1, 3).T.copy()
        return first, end, shift

    def _local_operand(self, ref: Operand | Read) -> Operand:
        if isinstance(ref, Read):
            return self._numbers.affine(ref)
        return Indexed(self._spread(ref.ids)) if isinstance(ref, Indexed) else ref

    def _spread(self, ids: np.ndarray) -> np.ndarray:
        """Local ids of an index array; one broadcast along an axis is looked up once."""
        base = ids[tuple(slice(0, 1) if s == 0 and n > 1 else slice(None) for s, n in zip(ids.strides, ids.shape))]
        return np.broadcast_to(self._numbers.to_local(base), ids.shape)

    def _local_refs(self, run: OwnRun, number: np.ndarray) -> list[np.ndarray]:
        """A run's operands in local numbers; number[i] is that of its line i."""
        refs = []
        for ref, inner in zip((run.a, run.b), run.inner):
            local = np.where(inner >= 0, number[inner], ref)
            others = np.flatnonzero((ref >= 0) & (inner < 0))
            local[others] = self._numbers.to_local(ref[others])
            refs.append(local)
        return refs

    # -- exchanges -----------------------------------------------------------------------------------------------------

    def connect(self, wanted: list[tuple[np.ndarray, np.ndarray]]) -> LocalTape:
        """The finished LocalTape; wanted[q] = (ids, supersteps) of this rank's nodes that rank q has as ghosts."""
        exchanges = [Exchange() for _ in range(self.structure.n_steps)]
        for q, (ids, step) in enumerate(wanted):
            if len(ids):
                self._deal(exchanges, "sends", q, self._numbers.to_local(ids), step)
        for q in np.unique(self.ghosts.owner):
            mine = self.ghosts.owner == q
            self._deal(exchanges, "recvs", int(q), self.ghosts.local[mine], self.ghosts.step[mine])
        parcel, numbers = self.parcel, self._numbers
        scheduled, made = self._schedule(exchanges)
        blocks, items, steps, run_ids = cut(numbers.blocks, made, scheduled, self.run_ids)
        own, count = numbers.own_bits()
        return LocalTape(
            blocks=blocks, items=items, steps=steps,
            inputs=Portion(numbers.to_local(parcel.inputs[0]), parcel.inputs[1]),
            outputs=Portion(numbers.to_local(parcel.outputs[0]), parcel.outputs[1]),
            guards=[Guard(Indexed(numbers.to_local(ids)), expected, site) for ids, expected, site in parcel.guards],
            sites=self.structure.sites, own_bits=own, own_count=count, run_ids=run_ids,
            joint=self.structure.joint, stored=self.stored)

    def _schedule(self, exchanges: list[Exchange]) -> tuple[list[Step], list[Item]]:
        """The supersteps and all items in order; within a superstep, what neighbours wait for comes first."""
        index, joiner = BlockIndex(self._numbers.blocks), Joiner(self._numbers.blocks)
        made: list[list[Item]] = [[] for _ in exchanges]
        ordered = sorted(self._made, key=lambda entry: entry[:3])
        for (step, _), group in groupby(ordered, key=lambda entry: (entry[0], _block(entry[3]))):
            made[step] += joiner.joined([item for *_, item in group])
        steps: list[Step] = []
        items: list[Item] = []
        for computed, exchange in zip(made, exchanges):
            wanted = {b for _, ids in exchange.sends for b in index.blocks_of(ids)}
            first: list[Item] = []
            rest: list[Item] = []
            for item in reversed(computed):
                if _block(item) in wanted or _collective(item):  # these in the same order on all ranks
                    first.append(item)
                    wanted.update(_blocks_read(item, index))
                else:
                    rest.append(item)
            start = len(items)
            items += [*reversed(first), *reversed(rest)]
            steps.append(Step(start, start + len(first), len(items), exchange))
        return steps, items

    @staticmethod
    def _deal(exchanges: list[Exchange], side: str, rank: int, local: np.ndarray, step: np.ndarray) -> None:
        edges = np.flatnonzero(np.diff(step)) + 1
        for ids, s in zip(np.split(local, edges), step[np.concatenate([[0], edges])]):
            getattr(exchanges[int(s)], side).append((rank, ids))


def _collective(item: Item) -> bool:
    return type(item) is Joint and item.op.collective


def _block(item: Item) -> int:
    return item.block if isinstance(item, ScalarRun) else item.out.block


def _blocks_read(item: Item, index: BlockIndex) -> set[int]:
    if isinstance(item, ScalarRun):
        return {b for ref in (item.a, item.b) for b in index.blocks_of(ref[ref >= 0])}
    read = {ref.block for ref in item.operands if isinstance(ref, Affine)}
    return read.union(*(index.blocks_of(ref.ids) for ref in item.operands if isinstance(ref, Indexed)))


__all__ = ["Ghosts", "Rank"]
