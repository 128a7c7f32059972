"""What the cost functions look at: counts of a rank's share of the tape, linear in its statements.

`count` is cheap enough for every linearization, a microsecond a statement.  `kept` follows the elimination of
`preaccumulate` block by block where that follows it node by node, and is asked for where many right-hand sides make the
rows that are left matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
from mpi4py import MPI

from ..ops import DIVIDE, MULTIPLY
from ..partition.local import LocalTape
from ..tape import Affine, Const, Indexed, Joint, ScalarRun, Statement, c_strides

NEAR = 4096  # nodes of a block up to which it stays in cache, with its columns if there are many
PERIODS = 4  # of a loop, planned one by one before the others are copies
LOOP = 32  # statements without a scalar run between them that can be a loop
KEPT_OF_LINES = 0.15  # rows that elimination keeps of scalar code with several results
ENTRIES = 4  # nonzeros of such a row, the diagonal included
FEW = 8  # a part of a block smaller than one in so many is left out of the estimate
SAMPLE = 256  # explicit nodes looked at
BATCH = 32  # right-hand sides that go through together


@dataclass(frozen=True)
class Work:
    """The job's size.  Counts are those of the busiest rank unless they say otherwise."""

    array_lines: int
    scalar_lines: int  # lines of scalar runs
    items: int  # statements and runs
    k_star: int
    ranks: int
    messages: int = 0  # sent by the busiest rank in one pass
    halo: int = 0  # values sent by the busiest rank in one pass
    interface: int = 0  # nodes of a rank that others read, inputs left out
    runs: int = 0  # scalar runs
    sums: int = 0  # statements that sum, select, scan or read by explicit nodes: each is an operation of its own
    copies: int = 0  # other statements that repeat a period of a loop
    sum_lines: int = 0  # of array_lines, those of sums along axes
    gather_lines: int = 0  # ... those of running sums, selections and reads by explicit nodes
    copy_lines: int = 0  # ... those of copies
    far_lines: int = 0  # ... those of other statements over arrays that don't stay in cache
    strips: int = 0  # ... those of no sums in several dimensions, over the length of the innermost
    nodes: int = 0
    nonzeros: int = 0  # of L, scalar lines counted as 1.5
    inputs: int = 0  # nodes that are seeded or read out
    outputs: int = 0
    kept_rows: int | None = None  # rows left by elimination, once known or estimated
    kept_nonzeros: int | None = None  # their entries, the diagonal included
    waits: float = 1.0  # lines of the busiest rank of every superstep, over those of the busiest rank of all
    assembled: bool = False  # the matrix holds the values of this point
    together: int = BATCH  # right-hand sides in one pass: 1 where they come one after another
    cyclic: bool = False  # implicit statements: results that depend on each other

    @property
    def lines(self) -> int:
        return self.array_lines + self.scalar_lines

    @property
    def near_lines(self) -> int:
        """Of array_lines, those of no sums and no copies, over arrays that stay in cache."""
        return max(self.array_lines - self.sum_lines - self.gather_lines - self.copy_lines - self.far_lines, 0)

    @property
    def fresh(self) -> int:
        """Statements that are neither sums nor copies."""
        return max(self.items - self.runs - self.sums - self.copies, 0)

    @property
    def rows(self) -> float:
        """Rows of the assembled system."""
        return self.kept_rows if self.kept_rows is not None else KEPT_OF_LINES * self.nodes

    @property
    def entries(self) -> float:
        """Nonzeros of the assembled system, its unit diagonal included."""
        return self.kept_nonzeros if self.kept_nonzeros is not None else ENTRIES * self.rows

    def passes(self, columns: int) -> int:
        """How many passes carry that many right-hand sides."""
        return -(-max(columns, 1) // min(self.together, max(columns, 1)))


def count(local: LocalTape, comm: MPI.Comm) -> Work:
    """The busiest rank's counts; what elimination keeps is left open.  Collective."""
    array = scalar = runs = nonzeros = strips = sums = sum_lines = gather_lines = 0
    alike: dict[tuple[object, ...], list[int]] = {}  # statements by what their copies share: number, lines, far lines
    constants = set()
    for item in local.items:
        if type(item) is ScalarRun:
            runs += 1
            scalar += item.lines
            continue
        if type(item) is Joint:  # an operation of its own, its rows dense
            sums += 1
            array += item.lines
            gather_lines += item.lines
            nonzeros += prod(item.shape) * item.op.size * sum(prod(item.core(k)) for k in item.active)
            continue
        assert type(item) is Statement
        n, lines = prod(item.shape), item.lines
        array += lines
        gathers, matters = item.op.kind != "elementwise", item.op is MULTIPLY or item.op is DIVIDE
        for ref, partial in zip(item.operands, item.op.partials):
            if type(ref) is Const:
                if matters and isinstance(ref.value, np.ndarray):  # it becomes a coefficient
                    constants.add(id(ref.value))
            elif partial is not None:
                nonzeros += n
                gathers = gathers or type(ref) is Indexed
        if gathers or 0 in item.out.strides:
            sums += 1
            if gathers:
                gather_lines += lines
            else:
                sum_lines += lines
            continue
        if len(item.shape) > 1 and item.shape[-1]:
            strips += lines // item.shape[-1]
        far = lines if local.blocks[item.out.block].size > NEAR else 0
        group = alike.setdefault((item.site, id(item.op), item.shape), [0, 0, 0])
        group[0] += 1
        group[1] += lines
        group[2] += far
    copies = copy_lines = far_lines = 0
    loops = len(local.items) > LOOP * (runs + len(constants) + 1)  # between what no loop can contain
    for number, lines, far in alike.values():
        share = max(number - PERIODS, 0) / number if loops else 0.0
        copies += round(share * number)
        copy_lines += round(share * lines)
        far_lines += round((1.0 - share) * far)
    mine = (array, scalar, len(local.items), local.messages, local.halo, _interface(local), runs, sums, copies,
            sum_lines, gather_lines, copy_lines, far_lines, strips, local.n_own, nonzeros + 3 * scalar // 2,
            len(local.inputs.ids), len(local.outputs.ids),
            any(type(item) is Joint and item.op.implicit for item in local.items))
    lines, scalar, items, *others, cyclic = (max(column) for column in zip(*comm.allgather(mine)))
    return Work(lines, scalar, items, len(local.steps), comm.size, *others, waits=_waits(local, comm), cyclic=cyclic)


def _interface(local: LocalTape) -> int:
    sent = [ids for step in local.steps for _, ids in step.exchange.sends]
    return len(np.setdiff1d(np.concatenate(sent), local.inputs.ids)) if sent else 0


def _waits(local: LocalTape, comm: MPI.Comm) -> float:
    by_step = np.array([sum(item.lines for item in local.items[step.start:step.stop]) for step in local.steps])
    most = comm.allreduce(float(by_step.sum()), op=MPI.MAX)
    if comm.size > 1:
        comm.Allreduce(MPI.IN_PLACE, by_step, op=MPI.MAX)
    return max(float(by_step.sum()) / max(most, 1.0), 1.0)


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
    """
    if len(local.outputs.ids) == 1 and len(local.steps) == 1:
        n = len(local.inputs.ids)
        return Kept(n + 1, 2 * n + 1)
    return _Elimination(local).result()


class _Elimination:
    """Walks back over the items.  `uses[b]`: the rows in which uses of block b end, (block, alignment) -> entries."""

    def __init__(self, local: LocalTape) -> None:
        self.local, self.blocks = local, local.blocks
        self.uses: list[dict[tuple[int, object], int]] = [{} for _ in local.blocks]
        self.heads: dict[int, tuple[int, object]] = {}
        self.firsts = np.array([b.first for b in local.blocks], dtype=np.int64)
        self.rows = self.entries = 0
        outside = [local.outputs.ids, *(ids for step in local.steps for _, ids in step.exchange.sends)]
        wanted = np.concatenate([*outside, np.empty(0, dtype=np.int64)])
        numbers = np.searchsorted(self.firsts, wanted, side="right") - 1
        self.wanted = np.bincount(numbers, minlength=len(local.blocks))  # results and nodes that others read, by block
        self.largest = [0] * len(local.blocks)  # statement that writes a block
        for item in local.items:
            if type(item) is Statement:
                self.largest[item.out.block] = max(self.largest[item.out.block], prod(item.shape))

    def result(self) -> Kept:
        for item in reversed(self.local.items):
            if type(item) is ScalarRun:
                self._run(item)
            elif type(item) is Joint:
                self._joint(item)
            elif type(item) is Statement and 0 not in item.shape:
                self._statement(item)
        inputs = np.searchsorted(self.firsts, self.local.inputs.ids, side="right") - 1
        for block in np.unique(inputs).tolist():
            self._keep(block)
        return Kept(self.rows, self.entries + self.rows)

    def _keep(self, block: int) -> tuple[int, object]:
        self.rows += self.blocks[block].size
        self.entries += sum(self.uses[block].values())
        self.uses[block] = {}
        self.heads[block] = block, 0
        return block, 0

    def _run(self, item: ScalarRun) -> None:
        share = KEPT_OF_LINES if self.local.outputs.ids.size > 1 or self.local.steps[1:] else 0.0
        rows = int(share * item.lines)
        self.rows += rows
        self.entries += (ENTRIES - 1) * rows

    def _joint(self, item: Joint) -> None:
        """Its results are kept, and so is what they read: every row reads all of it."""
        block = item.out.block
        if block not in self.heads and (self.uses[block] or self.wanted[block]):
            self._keep(block)
        n = prod(item.shape) * item.op.size
        for k in item.active:
            ref = item.operands[k]
            if type(ref) is Affine:
                self._use(ref.block, block, ("joint", ref.offset), n * prod(item.core(k)))
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
            if FEW * (sum(users.values()) + self.wanted[block]) < size:
                self.rows += int(self.wanted[block])  # a few of its nodes matter, and what those read is left out
                self.entries += sum(users.values()) + int(self.wanted[block])
                self.uses[block], self.wanted[block] = {}, 0
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
                plain = ref.strides == c_strides(item.shape) or ref.strides == item.out.strides
                shift = ref.offset - item.out.offset
                self._use(ref.block, row, _moved(align, shift if plain else (shift, ref.strides)), n)

    def _indexed(self, ref: Indexed, row: int, single: bool) -> None:
        """Uses by explicit nodes, of which a sample tells the blocks."""
        n = ref.ids.size
        sample = ref.ids.ravel()[:: 1 + n // SAMPLE]
        targets = np.unique(np.searchsorted(self.firsts, sample, side="right") - 1).tolist()
        again = n > sum(self.blocks[target].size for target in targets)  # nodes are read by several rows
        for target in targets:
            self._use(target, row, "all" if single else ("indexed", id(ref)), n // len(targets))
            if again and not single:
                self._use(target, row, "again", 0)

    def _use(self, block: int, row: int, align: object, entries: int) -> None:
        self.uses[block].setdefault((row, align), entries)


def _moved(align: object, shift: object) -> object:
    """The alignment of an operand with a row, its user's being known."""
    if isinstance(align, int) and isinstance(shift, int):
        return align + shift
    return (align, shift) if shift != 0 else align


__all__ = ["BATCH", "Kept", "Work", "count", "expected_kept", "kept", "kept_by"]
