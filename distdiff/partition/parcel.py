"""What rank 0 sends of a partition: one structure for all ranks, one parcel for each.  No values of nodes.

The structure holds the items with their arrays (constants, index arrays) taken out and no scalar runs; a
parcel holds the rank's part of those arrays, its own lines of the runs, and where the single nodes lie that
it reads from others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..ops import Elemental
from ..ops.elemental import Elsewhere
from ..tape import Affine, Block, Const, HeldRun, Indexed, Joint, Leaf, Operand, ScalarRun, Site, Tape, Vector
from .intervals import distinct_ids
from .layout import Layout, Pieces, owned_pieces
from .plan import Plan, RunShare, binary, cut
from .reach import boxes
from .regrouped import Origins
from .whereabouts import Whereabouts


class Hole(NamedTuple):
    """Stands in the structure for an array that comes with the parcel."""

    block: int = -1  # so that nobody takes it for a reference into a block


HOLE = Hole()


@dataclass
class Structure:
    """The part of a partition that every rank gets."""

    n_ranks: int
    n_steps: int
    blocks: list[Block]
    order: list[float]
    layouts: list[Layout | None]
    where: Whereabouts  # without the per-node entries
    tasks: list[tuple[int, Vector, int]]  # (index of the tape's item, statement, the rank that runs it or -1)
    kinds: list[int]  # of the tasks' statements (`plan.Kinds`)
    sites: list[Site]
    whole: bool  # whether there are runs that one rank has as a whole
    origins: Origins | None  # of the nodes, if the program was regrouped
    joint: bool  # whether there are joint statements
    shared: list[list[int]]  # by elemental that ranks share: the block of every rank's part


@dataclass
class OwnRun:
    """A rank's lines of one scalar run, in an order in which they can run.

    Operands are node ids of the whole tape (or constants); `inner` says which are lines of this very list, by
    position.
    """

    block: int
    index: int  # of the tape's item
    ids: np.ndarray
    op: np.ndarray
    a: np.ndarray
    b: np.ndarray
    const: np.ndarray
    inner: tuple[np.ndarray, np.ndarray]
    steps: np.ndarray


@dataclass
class Parcel:
    """The part of a partition that one rank gets."""

    arrays: dict[tuple[int, int, int], Operand] = field(default_factory=dict)  # (task, operand, box): the rank's part
    ops: dict[int, Elemental] = field(default_factory=dict)  # by task: in the place of `Elsewhere`
    extents: tuple[np.ndarray, np.ndarray] | None = None  # of the rank (`deepen.Extents`), None: its own rows
    runs: list[OwnRun] = field(default_factory=list)
    whole: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict)  # block -> (item's index, ids it reads)
    foreign: tuple[np.ndarray, np.ndarray, np.ndarray] = (np.empty(0, np.int64),) * 3  # single nodes: id, owner, step
    inputs: tuple[np.ndarray, np.ndarray] = (np.empty(0, np.int64),) * 2  # node ids, places
    outputs: tuple[np.ndarray, np.ndarray] = (np.empty(0, np.int64),) * 2
    guards: list[tuple[np.ndarray, np.ndarray, int]] = field(default_factory=list)  # node ids, expected, site


class Sender:
    """Makes the structure and the parcels of a placed and scheduled plan."""

    def __init__(self, plan: Plan, n_steps: int) -> None:
        self.plan, self.where, self.n_ranks = plan, plan.where, plan.n_ranks
        self.tasks = [(i, task.item, task.rank) for i, group in enumerate(plan.tasks) for task in group]
        statements = [t for t in self.tasks if not isinstance(t[1], ScalarRun)]
        self._parts: dict[int, Pieces] = {}
        self.statements = statements
        bare = []
        self.ops: dict[int, Elemental] = {}  # by task: those that stay on rank 0
        self.holes: list[tuple[int, int]] = []
        self.single: list[tuple[int, int]] = []  # operands that may read nodes of scalar runs
        for t, (index, item, rank) in enumerate(statements):
            holes = []
            for k, ref in enumerate(item.operands):
                if type(ref) is Affine:
                    if plan.layouts[ref.block] is None:
                        self.single.append((t, k))
                elif type(ref) is Indexed or np.ndim(ref.value):
                    holes.append(k)
                    if type(ref) is Indexed:
                        self.single.append((t, k))
            if holes:
                self.holes += [(t, k) for k in holes]
                item = item.over(item.shape, item.out, tuple(HOLE if k in holes else ref
                                                             for k, ref in enumerate(item.operands)))
            if isinstance(item, Joint) and item.op in plan.tape.homebound:
                self.ops[t] = item.op
                item = replace(item, op=Elsewhere(item.op.name, item.op.core_in, item.op.core_out))
            bare.append((index, item, rank))
        self.runs = [(i, item) for i, item, _ in self.tasks if isinstance(item, ScalarRun)]
        self.structure = Structure(
            plan.n_ranks, n_steps, plan.blocks, plan.order, plan.layouts, self.where.without_nodes(), bare,
            [plan.kinds.of(item) for _, item, _ in statements], plan.tape.sites, bool(plan.whole),
            plan.regrouped.origins() if plan.regrouped is not None else None, plan.tape.joint,
            [shared.parts for shared in plan.shared])
        self._leaves = [self._owned_places(leaves) for leaves in (plan.tape.inputs, plan.tape.outputs)]
        self._guards = self._owned_guards(plan.tape)
        self._run_orders = [_owner_order(plan.runs[run.block].owner, plan.n_ranks) for _, run in self.runs]

    def _part(self, t: int) -> Pieces:
        if t not in self._parts:
            _, item, rank = self.statements[t]
            layout = self.plan.layouts[item.out.block]
            assert layout is not None
            self._parts[t] = owned_pieces(item, layout, rank)
        return self._parts[t]

    def _boxes(self, t: int, rank: int) -> list[tuple[int, tuple[int, tuple[int, ...]]]]:
        """(axis, (start, shape)) of the boxes that a rank runs of a task."""
        _, item, only = self.statements[t]
        block, extents = item.out.block, self.plan.extents
        layout = self.plan.layouts[block]
        if only < 0 and extents is not None and layout is not None:
            span = extents.of(block, rank)
            if span != (layout.cuts[rank], layout.cuts[rank + 1]):
                return [(box.axis, (box.start, box.shape)) for box in boxes(item, layout, rank, span)]
        parts = self._part(t)
        box = parts.box(item.shape, rank)
        return [(parts.axis, box)] if box is not None else []

    def _owned_places(self, leaves: list[Leaf]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(owner, node ids, places) of the leaves' elements, by owner."""
        ids, places, start = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for leaf in leaves:
            n = int(np.prod(leaf.shape, dtype=np.int64))
            if not isinstance(leaf.ref, Const):
                ids.append(np.broadcast_to(self.plan.tape.ids(leaf.ref, leaf.shape), leaf.shape).ravel())
                places.append(np.arange(start, start + n, dtype=np.int64))
            start += n
        return _by_owner(self.where, np.concatenate(ids), np.concatenate(places))

    def _owned_guards(self, tape: Tape) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]:
        found = []
        for guard in tape.guards:
            expected = np.asarray(guard.expected)
            ids = np.ravel(tape.ids(guard.ref, expected.shape))
            found.append((*_by_owner(self.where, ids, expected.ravel()), guard.site))
        return found

    def parcel(self, rank: int) -> Parcel:
        """The parcel of a rank."""
        plan = self.plan
        parcel = Parcel(ops=self.ops if rank == 0 else {})
        if plan.extents is not None:
            parcel.extents = plan.extents.low[:, rank], plan.extents.high[:, rank]
        shared: dict[tuple[object, ...], Any] = {}  # a constant that many statements read travels, and is kept, once
        for t, k in self.holes:
            _, item, _ = self.statements[t]
            for number, (axis, box) in enumerate(self._boxes(t, rank)):
                ref = item.operands[k]
                key = (*_identity(ref), axis, box)
                if key not in shared:
                    if axis >= 0:
                        ref = cut(ref, axis, box[0], box[0] + box[1][axis])
                    shared[key] = _lean(ref, travels=rank > 0)
                parcel.arrays[t, k, number] = shared[key]
        foreign = [np.empty(0, np.int64)]
        for t, k in self.single:
            _, item, _ = self.statements[t]
            parts = self._part(t)
            box = parts.box(item.shape, rank)
            if box is not None and 0 not in box[1]:
                ref = item.operands[k]
                assert isinstance(ref, (Affine, Indexed))
                part = box[0], (*box[1], *item.core(k))
                foreign.append(self._single_nodes(distinct_ids(plan, ref, item.operand_shape(k), parts.axis, part)))
        for (index, run), (order, bounds, position) in zip(self.runs, self._run_orders):
            mine = order[bounds[rank]:bounds[rank + 1]]
            if len(mine):
                own, others = _own_run(plan.runs[run.block], run.block, index, rank, mine, position)
                parcel.runs.append(own)
                foreign.append(self._single_nodes(others))
        for block, placed in plan.whole.items():
            if placed.rank == rank:
                reads = placed.ids
                parcel.whole[block] = placed.index, reads
                foreign.append(self._single_nodes(reads))
        ids = np.unique(np.concatenate(foreign))
        owner, step = self.where.find(ids)
        away = owner != rank
        parcel.foreign = ids[away], owner[away], step[away]
        parcel.inputs, parcel.outputs = (_of_rank(leaf, rank) for leaf in self._leaves)
        for *columns, site in self._guards:
            ids, expected = _of_rank(tuple(columns), rank)
            if len(ids):
                parcel.guards.append((ids, expected, site))
        return parcel

    def whole_runs(self) -> Iterator[tuple[int, ScalarRun]]:
        """(rank, run) of the runs that go to one rank as they are, in program order."""
        for block in sorted(self.plan.whole, key=self.plan.order.__getitem__):
            index, rank, *_ = self.plan.whole[block]
            run = self.plan.tape.items[index]
            assert isinstance(run, ScalarRun)
            yield rank, run

    def routes(self, holder: Mapping[int, int]) -> np.ndarray:
        """(block, rank that has the run, rank that is to have it) of these runs, one a row.

        They come in program order on every rank, and to all ranks in turn: what ranks give away before their own
        comes is about as much as what they get.
        """
        turn = Counter[int]()
        found = []
        for block in sorted(self.plan.whole, key=self.plan.order.__getitem__):
            rank = self.plan.whole[block].rank
            found.append((turn[rank], rank, block))
            turn[rank] += 1
        return np.array([(block, holder.get(block, 0), rank) for _, rank, block in sorted(found)],
                        dtype=np.int64).reshape(-1, 3)

    def take(self, block: int) -> ScalarRun:
        """The run that computes a block, which the tape gives up."""
        index, items = self.plan.whole[block].index, self.plan.tape.items
        run = items[index]
        assert isinstance(run, ScalarRun)
        items[index] = ScalarRun(block, run.op[:0].copy(), run.a[:0].copy(), run.b[:0].copy(), np.empty(0))
        return run

    def placed_line_by_line(self) -> dict[int, ScalarRun]:
        """The runs, by block, that no rank has as a whole and rank 0 has held."""
        return {item.block: item for item in self.plan.tape.items
                if isinstance(item, ScalarRun) and item.block not in self.plan.whole and type(item) is not HeldRun}

    def _single_nodes(self, ids: np.ndarray) -> np.ndarray:
        """Those of the ids that are nodes of scalar runs."""
        return ids[self.where.scattered[self.where.block_of(ids)] >= 0] if len(ids) else ids


def with_arrays(tape: Tape) -> list[int]:
    """The items that read constant arrays."""
    return [index for index, item in enumerate(tape.items) if not isinstance(item, ScalarRun) and any(
        type(ref) is Const and isinstance(ref.value, np.ndarray) and ref.value.ndim > 0 for ref in item.operands)]


def travelling(plan: Plan, items: list[int]) -> float:
    """Bytes of the constants of these items (`with_arrays`) that leave rank 0: of each every rank's part, once, or all
    of it where the statement is not cut along it."""
    seen: set[tuple[object, ...]] = set()
    found = 0.0
    for item, rank in (task for index in items for task in plan.tasks[index]):
        assert not isinstance(item, ScalarRun)
        layout = plan.layouts[item.out.block]
        assert layout is not None
        parts = owned_pieces(item, layout, rank)
        lines = np.maximum(parts.stop - parts.start, 0)[1:]
        for ref in item.operands:
            array = ref.value if isinstance(ref, Const) else 0.0
            if not isinstance(array, np.ndarray) or not array.ndim:
                continue
            key = (*_identity(ref), parts.axis, parts.start.tobytes(), parts.stop.tobytes())
            if key in seen:
                continue
            seen.add(key)
            cut = parts.axis >= 0 and array.strides[parts.axis] != 0
            share = lines.sum() / item.shape[parts.axis] if cut else np.count_nonzero(lines)
            found += share * array.itemsize * prod(n for n, stride in zip(array.shape, array.strides) if stride)
    return found


def _by_owner(where: Whereabouts, ids: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    owner, _ = where.find(ids)
    order = np.argsort(owner, kind="stable")
    return owner[order], ids[order], column[order]


def _of_rank(columns: tuple[np.ndarray, ...], rank: int) -> tuple[np.ndarray, np.ndarray]:
    owner, ids, other = columns
    part = slice(*np.searchsorted(owner, [rank, rank + 1]))
    return ids[part], other[part]


def _owner_order(owner: np.ndarray, n_ranks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(lines by owner, where each owner's begin, position of each line among its owner's)."""
    order = np.argsort(owner.astype(np.uint16), kind="stable")  # 16 bits: a radix sort
    bounds = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_ranks))])
    position = np.empty(len(owner), dtype=np.int64)
    position[order] = np.arange(len(owner))
    position -= bounds[owner]
    return order, bounds, position


def _own_run(share: RunShare, block: int, index: int, rank: int, mine: np.ndarray,
             position: np.ndarray) -> tuple[OwnRun, np.ndarray]:
    """(a rank's lines of a run, the node ids they read that are not among them)."""
    op, two = share.op[mine], binary(share.op[mine])
    a, b = share.a[mine], np.where(two, share.b[mine], share.a[mine])  # a unary line's second operand must exist
    inner = []
    for whose in (share.inner[0][mine], np.where(two, share.inner[1][mine], share.inner[0][mine])):
        inner.append(np.where((whose >= 0) & (share.owner[whose] == rank), position[whose], -1))
    used = np.zeros(len(share.const), dtype=bool)
    for ref in (a, b):
        used[-1 - ref[ref < 0]] = True
    place = np.cumsum(used) - 1
    for ref in (a, b):
        ref[ref < 0] = -1 - place[-1 - ref[ref < 0]]
    others = np.concatenate([ref[(ref >= 0) & (own < 0)] for ref, own in zip((a, b), inner)])
    return OwnRun(block, index, share.ids[mine], op, a, b, share.const[used], tuple(inner), share.steps[mine]), others


def _identity(ref: Operand) -> tuple[object, ...]:
    """What two operands with the same array in memory have in common; the tape keeps the arrays alive."""
    array = ref.ids if isinstance(ref, Indexed) else ref.value if isinstance(ref, Const) else None
    assert isinstance(array, np.ndarray)
    return type(ref), array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


class Repeated(NamedTuple):
    """A constant array that repeats itself along some axes, as it travels: `base` has length 1 there."""

    base: np.ndarray
    shape: tuple[int, ...]


def _lean(ref: Operand, travels: bool) -> Any:
    """A constant broadcast along an axis travels once, and rank 0's part of an array doesn't keep all of it."""
    own = _in_order if travels else _by_itself
    if isinstance(ref, Const) and isinstance(ref.value, np.ndarray):
        value = ref.value
        base = value[tuple(slice(0, 1) if s == 0 and n > 1 else slice(None)
                           for s, n in zip(value.strides, value.shape))]
        if base.size < value.size:
            return Repeated(own(base), value.shape)
        return Const(own(value))
    return Indexed(own(ref.ids)) if isinstance(ref, Indexed) else ref


def _in_order(part: np.ndarray) -> np.ndarray:
    """The array as it is sent: from where it lies, if its elements follow each other."""
    return np.asarray(part, order="C")


def _by_itself(part: np.ndarray) -> np.ndarray:
    """The array in memory of its own if it is a small part of another's, which may go then."""
    whole = part
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    return part.copy() if whole.nbytes >= 2 * part.nbytes else _in_order(part)


def unpack(ref: Any) -> Operand:
    """An operand as it was before it travelled."""
    return Const(np.broadcast_to(ref.base, ref.shape)) if isinstance(ref, Repeated) else ref


__all__ = ["OwnRun", "Parcel", "Sender", "Structure", "travelling", "unpack", "with_arrays"]
