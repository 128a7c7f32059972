"""What elimination will keep of a rank's share, estimated block by block.

`kept` follows the elimination of `preaccumulate` where that follows it node by node, and is asked for where many
right-hand sides make the rows that are left matter.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from ..kernels import elimination
from ..ops import OPS
from ..partition.local import LocalTape
from ..tape import Affine, Const, Indexed, Joint, ScalarRun, Statement, Vector, c_strides

FEW = 8  # a part of a block smaller than one in so many is left out of the estimate
SAMPLE = 256  # explicit nodes looked at
TOGETHER = 1 << 22  # lines of scalar runs up to which they are followed from run to run
STRETCH = 2048  # lines looked at of scalar runs that are not worth compiled loops
ACTIVE = np.array([k < op.arity and op.partials[k] is not None for op in OPS for k in range(2)])


class Kept(NamedTuple):
    """Rows that elimination leaves, and nonzeros with the diagonal, on the rank with most."""

    rows: int
    nonzeros: int


def kept_by(rows: int, nonzeros: int, comm: MPI.Comm) -> Kept:
    """The most of any rank.  Collective."""
    return Kept(*(max(column) for column in zip(*comm.allgather((rows, nonzeros)))))


def expected_kept(local: LocalTape, comm: MPI.Comm) -> Kept:
    """What elimination is expected to leave.  Collective."""
    return kept_by(*kept(local), comm)


def kept(local: LocalTape) -> Kept:
    """Rows and nonzeros that elimination is expected to leave of this rank's share, block by block.

    A block's nodes are taken to behave alike, as those read by the largest of its statements do: kept if their uses end
    in two rows, if they are results, or if another rank reads them; else they vanish into the row in which they end.
    Lines of scalar runs are followed one by one, or those of a stretch in the middle where a run is short.
    """
    if len(local.outputs.ids) == 1 and len(local.steps) == 1:
        n = len(local.inputs.ids)
        return Kept(n + 1, 2 * n + 1)
    sent = [ids for step in local.steps for _, ids in step.exchange.sends]
    return Kept(*(int(each.sum()) for each in Elimination(local, sent).result()))


class Elimination:
    """Walks back over the items of a tape, of which the nodes `sent` (and so many more by block) go to other ranks.

    spots: places of a block that have such nodes, the borders between ranks, where it is not one rank's share.

    `uses[b]`: the rows in which uses of block b end, (block, alignment) -> entries.  After `result`, `lines` tells
    of the blocks of scalar runs that were looked at as a whole which of their lines are kept.
    """

    def __init__(self, local: LocalTape, sent: list[np.ndarray], by_block: np.ndarray | None = None,
                 spots: int = 1) -> None:
        self.local, self.blocks = local, local.blocks
        self.uses: list[dict[tuple[int, object], int]] = [{} for _ in local.blocks]
        self.heads: dict[int, tuple[int, object]] = {}
        self.firsts = np.array([b.first for b in local.blocks], dtype=np.int64)
        self.rows, self.entries = np.zeros((2, len(local.blocks)))  # by block; without the diagonal
        self.lines: dict[int, np.ndarray] = {}
        sent = [ids[ids < local.n_nodes] for ids in sent]  # beyond: nodes that only the layout has
        self._ids = np.concatenate([local.outputs.ids, *sent, np.empty(0, dtype=np.int64)])
        numbers = np.searchsorted(self.firsts, self._ids, side="right") - 1
        self.wanted = np.bincount(numbers, minlength=len(local.blocks))  # results and nodes that others read, by block
        self.sent = np.bincount(numbers[len(local.outputs.ids):], minlength=len(local.blocks))  # of these, the latter
        # Places of each block, low to high, beyond which nothing is wanted of it and nothing uses it.
        sizes = np.array([b.size for b in local.blocks], dtype=np.int64)
        written = np.zeros(len(sizes), dtype=np.int64)
        self.low, self.high, self._spots = sizes.copy(), np.zeros(len(sizes), dtype=np.int64), spots
        places = self._ids - self.firsts[numbers]
        np.minimum.at(self.low, numbers, places)
        np.maximum.at(self.high, numbers, places + 1)
        if by_block is not None:
            more = by_block[:len(local.blocks)]
            self.wanted += more
            self.sent += more
            self.low[more > 0], self.high[more > 0] = 0, sizes[more > 0]  # anywhere
        # Of blocks further back, the share from which uses lead to rows that are sent, of blocks that vanish, as well
        # as to the row that they end in: neighbours' reads carry what is sent a little further into a block every time.
        self.reached = 0.0
        self.reads = np.zeros(len(local.blocks))  # of a block's nodes by operands, on average
        self.largest = [0] * len(local.blocks)  # statement that writes a block
        self._in_run = np.zeros(len(local.blocks), dtype=bool)
        for item in local.items:
            if type(item) is Statement:
                self.largest[item.out.block] = max(self.largest[item.out.block], prod(item.shape))
                written[item.out.block] += prod([n for n, step in zip(item.shape, item.out.strides) if step])
                for ref in item.operands:
                    if type(ref) is Affine:
                        self.reads[ref.block] += prod(item.shape) / max(local.blocks[ref.block].size, 1)
            elif isinstance(item, ScalarRun):
                self._in_run[item.block] = True
        # Nodes of a block that are computed here or are inputs: others that lie among them are ghosts and no rows.
        self.own = np.where(written > 0, np.minimum(written, sizes), sizes)
        self._read = [self._ids]  # lines of runs that are wanted for themselves

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows kept, and their nonzeros with the diagonal, by block."""
        runs = [item for item in self.local.items if isinstance(item, ScalarRun) and item.lines]
        for item in reversed(self.local.items):
            if isinstance(item, ScalarRun):
                continue
            assert type(item) is Statement or type(item) is Joint
            if runs:
                self._note_reads(item)
            if type(item) is Joint:
                self._joint(item)
            elif 0 not in item.shape:
                self._statement(item)
        if sum(len(run.op) for run in runs) <= TOGETHER:
            runs_together = [runs] if runs else []
        else:  # each by itself: long ones have few ends
            runs_together = [[run] for run in runs]
            self._read += [ids[(ids >= 0) & (ids < self.blocks[run.block].first)] for run in runs
                           for ids in (run.a, run.b)]
        for group in runs_together:
            self._follow(group)
        inputs = np.searchsorted(self.firsts, self.local.inputs.ids, side="right") - 1
        for block in np.unique(inputs).tolist():
            self._keep(block)
        return self.rows, self.entries + self.rows

    def _note_reads(self, item: Vector) -> None:
        """Lines of scalar runs that a statement reads are kept: they are read by other kinds of rows."""
        for k, ref in enumerate(item.operands):
            if type(ref) is Affine and self._in_run[ref.block]:
                self._read.append(ref.ids(int(self.firsts[ref.block]), item.operand_shape(k)).ravel())
            elif type(ref) is Indexed:
                self._read.append(ref.ids.ravel())

    def _keep(self, block: int) -> tuple[int, object]:
        self.rows[block] += self.own[block]
        by_row: Counter[int] = Counter()
        for (row, _), entries in self.uses[block].items():
            by_row[row] += entries
        size = self.blocks[block].size
        self.entries[block] += sum(min(entries, self.blocks[row].size * size) for row, entries in by_row.items())
        self.uses[block] = {}
        self.heads[block] = block, 0
        return block, 0

    def _follow(self, runs: list[ScalarRun]) -> None:
        """Lines of scalar runs, as if they were one run that begins after all nodes."""
        n, base = sum(len(run.op) for run in runs), self.local.n_nodes
        starts = np.cumsum([0, *(len(run.op) for run in runs)])
        place = np.arange(base)  # of every node
        for run, start in zip(runs, starts):
            first = self.blocks[run.block].first
            place[first:first + len(run.op)] = base + start + np.arange(len(run.op))
        op = np.concatenate([run.op for run in runs])
        a, b = (np.where(x >= 0, place[x], -1)
                for x in (np.concatenate([getattr(run, name) for run in runs]) for name in "ab"))
        compiled = elimination.whole(n)
        low, high = (0, n) if compiled else ((n - min(n, STRETCH)) // 2, (n + min(n, STRETCH)) // 2)
        kept = np.zeros(high - low, dtype=bool)
        for lines in (*(place[ids] for ids in self._read), a[high:], b[high:]):
            lines = lines - base - low
            kept[lines[(lines >= 0) & (lines < high - low)]] = True
        arrays = [op[low:high], a[low:high], b[low:high], ACTIVE]
        work = [kept, *np.empty((2, high - low), dtype=np.int64)]
        if not compiled:
            arrays, work = ([x.tolist() for x in each] for each in (arrays, work))
        rows, entries = elimination.eliminate(*arrays, base + low, *work)
        for run, start, stop in zip(runs, starts, starts[1:]):
            self.rows[run.block] += rows * (stop - start) / (high - low)
            self.entries[run.block] += (entries - rows) * (stop - start) / (high - low)
            if (low, high) == (0, n):
                self.lines[run.block] = np.asarray(work[0][start:stop])
                self.rows[run.block] = np.count_nonzero(self.lines[run.block])

    def _joint(self, item: Joint) -> None:
        """Its results are kept, and so is what they read: every row reads all of it."""
        block = item.out.block
        if block not in self.heads and (self.uses[block] or self.wanted[block]):
            self._keep(block)
        for k in item.active:
            ref = item.operands[k]
            if type(ref) is Affine:
                each = item.op.stored(item.active) // len(item.active) if item.op.implicit else item.op.count(k)
                entries = prod(item.shape) * each
                self._use(ref.block, block, ("joint", ref.offset), entries)
                self._use(ref.block, block, "again", 0)
            elif type(ref) is Indexed:
                self._indexed(ref, block, False)

    def _statement(self, item: Statement) -> None:
        block, blocks = item.out.block, self.blocks
        size = blocks[block].size
        n = prod(item.shape)
        if FEW * n < self.largest[block]:
            return  # the end of a roll, a border: its nodes are few
        active = [ref for ref, partial in zip(item.operands, item.op.partials)
                  if type(ref) is not Const and partial is not None]
        reduced = bool(item.reduced)
        head = self.heads.get(block)
        if head is None:
            users = self.uses[block]
            nodes = self._nodes(block)
            if FEW * nodes < size:
                self._few(item, users, active, nodes)
                return
            if 2 * self.wanted[block] > size or item.op.kind == "scan":
                head = self._keep(block)
            elif len(active) == 1 and not reduced and type(active[0]) is Affine:  # an alias: its uses are its operand's
                shift = active[0].offset - item.out.offset
                for (row, align), entries in users.items():
                    self._use(active[0].block, row, _moved(align, shift), entries)
                return
            elif len(users) == 1:
                (head,) = users
                self.heads[block] = head
                self.reached += self.sent[block] / size
                if self.reads[block] > 1:
                    part = min(self.reached, 1.0)
                    self.rows[block] += part * self.own[block]
                    self.entries[block] += part * n * len(active)
            elif users:
                head = self._keep(block)
            else:
                return  # nothing depends on it
        row, align = head
        single = blocks[row].size == 1
        for ref in active:
            if type(ref) is Indexed:
                self._indexed(ref, row, single)
                continue
            assert isinstance(ref, Affine)
            spread = any(s == 0 and extent > 1 for s, extent in zip(ref.strides, item.shape))
            if single:
                self._use(ref.block, row, "all", min(n, blocks[ref.block].size))
            elif spread:  # read by many rows: kept whatever else
                self._use(ref.block, row, ("spread", ref.offset, ref.strides), n)
                self._use(ref.block, row, "again", 0)
            elif reduced:
                self._use(ref.block, row, ("sum", align, ref.offset, ref.strides), n)
            else:
                self._use(ref.block, row, _moved(align, _shift(ref, item)), n)

    def _nodes(self, block: int) -> int:
        """How many nodes of a block matter: as many as are wanted or any row uses, at the places where something does.

        A row's reads at several shifts are of the same nodes but for as many as they are apart, at each of the spots
        where they lie.
        """
        most, by_row = int(self.wanted[block]), dict[int, list[tuple[object, int]]]()
        for (row, align), entries in self.uses[block].items():
            by_row.setdefault(row, []).append((align, entries))
        for uses in by_row.values():
            shifts, found = [align for align, _ in uses if isinstance(align, int)], sum(entries for _, entries in uses)
            if len(shifts) == len(uses) > 1:
                shifts, each = sorted(shifts), max(entries for _, entries in uses)
                found = min(found, each + sum(min(self._spots * (b - a), each) for a, b in pairwise(shifts)))
            most = max(most, found)
        return min(most, max(int(self.high[block] - self.low[block]), 0))

    def _few(self, item: Statement, users: dict[tuple[int, object], int], active: list[Any], nodes: int) -> None:
        """So many nodes of a block matter, a few: as many of what they read, more where that is read at several places.
        """
        block = item.out.block
        wanted, heads = int(self.wanted[block]), users
        if wanted or sum(users.values()) > nodes:  # else no node is used by two rows
            self.rows[block] += nodes
            self.entries[block] += sum(users.values()) + wanted
            heads = {(block, 0): nodes}
        self.uses[block], self.wanted[block] = {}, 0
        for ref in active:
            if type(ref) is Affine:
                shift = ref.offset - item.out.offset
                near = int(self.low[block]) + shift, int(self.high[block]) + shift
                places = near if ref.strides == item.out.strides else None
                for (row, align), entries in heads.items():
                    self._use(ref.block, row, _moved(align, _shift(ref, item)), entries, places)

    def _indexed(self, ref: Indexed, row: int, single: bool) -> None:
        """Uses by explicit nodes, of which a sample tells the blocks."""
        n = ref.ids.size
        sample = ref.ids.ravel()[:: 1 + n // SAMPLE]
        targets = np.unique(np.searchsorted(self.firsts, sample, side="right") - 1).tolist()
        again = n > sum(self.blocks[target].size for target in targets)  # nodes are read by several rows
        numbers = np.searchsorted(self.firsts, sample, side="right") - 1
        for target in targets:
            ids = sample[numbers == target] - self.firsts[target]
            near = (int(ids.min()), int(ids.max()) + 1) if len(sample) == n else None
            self._use(target, row, "all" if single else ("indexed", id(ref)), n // len(targets), near)
            if again and not single:
                self._use(target, row, "again", 0)

    def _use(self, block: int, row: int, align: object, entries: int, places: tuple[int, int] | None = None) -> None:
        """So many entries of a row's are in a block's column, at these places or anywhere."""
        size = self.blocks[block].size
        low, high = (max(places[0], 0), min(places[1], size)) if places else (0, size)
        if low >= high:
            low, high = 0, size
        self.low[block], self.high[block] = min(self.low[block], low), max(self.high[block], high)
        self.uses[block].setdefault((row, align), entries)


def _shift(ref: Affine, item: Statement) -> object:
    """How an operand lies to the result."""
    plain = ref.strides == c_strides(item.shape) or ref.strides == item.out.strides
    shift = ref.offset - item.out.offset
    return shift if plain else (shift, ref.strides)


def _moved(align: object, shift: object) -> object:
    """The alignment of an operand with a row, its user's being known."""
    if align == "all":  # of a single row's
        return align
    if isinstance(align, int) and isinstance(shift, int):
        return align + shift
    return (align, shift) if shift != 0 else align


__all__ = ["Elimination", "Kept", "expected_kept", "kept", "kept_by"]
