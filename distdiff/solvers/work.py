"""What the cost functions look at: counts of a rank's share of the tape, linear in its statements.

`count` is cheap enough for every linearization, a microsecond a statement.  `kept` follows the elimination of
`preaccumulate` block by block where that follows it node by node, and is asked for where many right-hand sides make the
rows that are left matter.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from ..graph.contractions import contracts
from ..kernels import elimination
from ..ops import DIVIDE, MULTIPLY, OPS
from ..partition.local import LocalTape
from ..tape import Affine, Const, Indexed, Joint, Operand, ScalarRun, Statement, Vector, c_strides

NEAR = 4096  # nodes of a block up to which it stays in cache, with its columns if there are many
FAR_READS = 1 << 16  # reads by explicit nodes in one statement from which on they leave the cache
PERIODS = 4  # of a loop, planned one by one before the others are copies
LOOP = 32  # statements without a scalar run between them that can be a loop
KEPT_OF_LINES = 0.15  # rows that elimination keeps of a program, where nobody has looked
ENTRIES = 4  # nonzeros of such a row, the diagonal included
FEW = 8  # a part of a block smaller than one in so many is left out of the estimate
SAMPLE = 256  # explicit nodes looked at
TOGETHER = 1 << 22  # lines of scalar runs up to which they are followed from run to run
STRETCH = 2048  # lines looked at of scalar runs that are not worth compiled loops
ACTIVE = np.array([k < op.arity and op.partials[k] is not None for op in OPS for k in range(2)])
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
    far_reads: int = 0  # ... of these, reads that leave the cache: they take twice as long
    copy_lines: int = 0  # ... those of copies
    far_lines: int = 0  # ... those of other statements over arrays that don't stay in cache
    strips: int = 0  # ... those of no sums in several dimensions, over the length of the innermost
    nodes: int = 0
    nonzeros: int = 0  # of L, scalar lines counted as 1.5
    exploded: int = 0  # ... of these, in rows of products, solves and the like, those beyond what these read and write
    inputs: int = 0  # nodes that are seeded or read out
    outputs: int = 0
    kept_rows: int | None = None  # rows left by elimination, once known or estimated
    kept_nonzeros: int | None = None  # their entries, the diagonal included
    sum_copies: int = 0  # of the sums, those that repeat a period of a loop
    waits: float = 1.0  # lines of the busiest rank of every superstep, over those of the busiest rank of all
    planned: bool = False  # a sweep's plan is there
    expanded: bool = False  # the matrix's structure is there, with the values of an earlier point
    assembled: bool = False  # the matrix holds the values of this point
    together: int = BATCH  # right-hand sides in one pass: 1 where they come one after another
    implicit: int = 0  # entries of the systems of implicit statements, before elimination
    cyclic: bool = False  # implicit statements: results that depend on each other
    shared: bool = False  # ... one of them on several ranks

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
    found = comm.allgather(counts(local))
    most = {name: max(mine[name] for mine in found) for name in found[0]}
    return Work(k_star=len(local.steps), ranks=comm.size, waits=_waits(local, comm), **most)


def counts(local: LocalTape) -> dict[str, Any]:
    """This rank's part of a `Work`, by its names.  Local."""
    array = scalar = runs = nonzeros = exploded = implicit = strips = sums = sum_lines = gather_lines = far_reads = 0
    alike: dict[tuple[object, ...], list[int]] = {}  # statements by what their copies share: number, lines, far lines
    summing: Counter[tuple[object, ...]] = Counter()  # likewise those that are operations of their own
    constants: set[int] = set()
    kinds: dict[tuple[object, ...], list[Any]] = {}  # statements that count alike: the first of them, and how many
    blocks = local.blocks
    for item in local.items:
        if type(item) is Statement:
            op, shape, out, operands, site = item
            types = tuple(map(type, operands))
            kind = id(op), site, shape, out.strides, blocks[out.block].shape, types
            known = kinds.get(kind)
            if known is None:
                kinds[kind] = [item, 1]
            else:
                known[1] += 1
            if Const in types and (op is MULTIPLY or op is DIVIDE):  # a coefficient
                constants.update(map(_base, operands))
        elif isinstance(item, ScalarRun):
            runs += 1
            scalar += item.lines
        else:  # an operation of its own, its rows dense
            assert type(item) is Joint
            sums += 1
            array += item.lines
            gather_lines += item.lines
            entries = prod(item.shape) * item.op.stored(item.active)
            nonzeros += entries
            implicit += entries if item.op.implicit else 0
            exploded += 0 if item.op.implicit else max(entries - _touched(item), 0)
            summing[item.site, item.op.core_in, item.shape] += 1
    for item, number in kinds.values():
        n, lines, types = prod(item.shape), number * item.lines, list(map(type, item.operands))
        array += lines
        active = [kind for kind, partial in zip(types, item.op.partials) if kind is not Const and partial is not None]
        nonzeros += number * n * len(active)
        exploded += number * max(n * len(active) - _touched(item), 0) if contracts(item) else 0
        gathers = item.op.kind != "elementwise" or Indexed in active
        if gathers or (0 in item.out.strides and item.reduced):
            sums += number
            summing[item.site, id(item.op), item.shape] += number
            if gathers:
                gather_lines += lines
                if item.lines > FAR_READS and Indexed in types:
                    far_reads += lines
            else:
                sum_lines += lines
            continue
        if len(item.shape) > 1 and item.shape[-1]:
            strips += number * (item.lines // item.shape[-1])
        far = lines if blocks[item.out.block].size > NEAR else 0
        group = alike.setdefault((item.site, id(item.op), item.shape), [0, 0, 0])
        group[0] += number
        group[1] += lines
        group[2] += far
    constants.discard(0)
    copies = copy_lines = far_lines = sum_copies = 0
    loops = len(local.items) > LOOP * (runs + len(constants) + 1)  # between what no loop can contain
    first = PERIODS * (runs + 1)  # planned one by one: what comes between two runs is a loop of its own
    for number, lines, far in alike.values():
        share = max(number - PERIODS, 0) / number if loops else 0.0
        copies += max(number - first, 0) if loops else 0
        copy_lines += round(share * lines)
        far_lines += round((1.0 - share) * far)
    if loops:
        sum_copies = sum(max(number - first, 0) for number in summing.values())
    return {"array_lines": array, "scalar_lines": scalar, "items": len(local.items), "messages": local.messages,
            "halo": local.halo, "interface": _interface(local), "runs": runs, "sums": sums,
            "copies": copies, "sum_lines": sum_lines, "gather_lines": gather_lines, "copy_lines": copy_lines,
            "far_reads": far_reads,
            "far_lines": far_lines, "strips": strips, "nodes": local.n_own,
            "nonzeros": nonzeros + 3 * scalar // 2, "exploded": exploded, "inputs": len(local.inputs.ids),
            "outputs": len(local.outputs.ids), "sum_copies": sum_copies,
            "implicit": implicit,
            "cyclic": any(type(item) is Joint and item.op.implicit for item in local.items),
            "shared": any(type(item) is Joint and item.op.collective for item in local.items)}


def _touched(item: Vector) -> int:
    """How many elements a statement reads and writes, each counted once."""
    found = prod(n for n, step in zip(item.out_shape, item.out.strides) if step)
    for k, ref in enumerate(item.operands):
        strides = () if type(ref) is Indexed else getattr(ref.value if type(ref) is Const else ref, "strides", ())
        shape = item.operand_shape(k)
        found += prod(n for n, step in zip(shape, strides) if step) if strides else 0
    return found


def _base(ref: Operand) -> int:
    """What tells a constant array from others; 0: it is none."""
    if type(ref) is not Const or not isinstance(ref.value, np.ndarray):
        return 0
    return id(ref.value if ref.value.base is None else ref.value.base)


def _interface(local: LocalTape) -> int:
    sent = [ids for step in local.steps for _, ids in step.exchange.sends]
    return len(np.setdiff1d(np.concatenate(sent), local.inputs.ids)) if sent else 0


def _waits(local: LocalTape, comm: MPI.Comm) -> float:
    if comm.size == 1:
        return 1.0
    by_step = np.array([sum(item.lines for item in local.items[step.start:step.stop]) for step in local.steps])
    most = comm.allreduce(float(by_step.sum()), op=MPI.MAX)
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
    Lines of scalar runs are followed one by one, or those of a stretch in the middle where a run is short.
    """
    if len(local.outputs.ids) == 1 and len(local.steps) == 1:
        n = len(local.inputs.ids)
        return Kept(n + 1, 2 * n + 1)
    sent = [ids for step in local.steps for _, ids in step.exchange.sends]
    return Kept(*(int(each.sum()) for each in Elimination(local, sent).result()))


class Elimination:
    """Walks back over the items of a tape, of which the nodes `sent` (and so many more by block) go to other ranks.

    `uses[b]`: the rows in which uses of block b end, (block, alignment) -> entries.  After `result`, `lines` tells
    of the blocks of scalar runs that were looked at as a whole which of their lines are kept.
    """

    def __init__(self, local: LocalTape, sent: list[np.ndarray], by_block: np.ndarray | None = None) -> None:
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
        if by_block is not None:
            self.wanted += by_block[:len(local.blocks)]
            self.sent += by_block[:len(local.blocks)]
        # Of blocks further back, the share from which uses lead to rows that are sent, of blocks that vanish, as well
        # as to the row that they end in: neighbours' reads carry what is sent a little further into a block every time.
        self.reached = 0.0
        self.reads = np.zeros(len(local.blocks))  # of a block's nodes by operands, on average
        self.largest = [0] * len(local.blocks)  # statement that writes a block
        self._in_run = np.zeros(len(local.blocks), dtype=bool)
        for item in local.items:
            if type(item) is Statement:
                self.largest[item.out.block] = max(self.largest[item.out.block], prod(item.shape))
                for ref in item.operands:
                    if type(ref) is Affine:
                        self.reads[ref.block] += prod(item.shape) / max(local.blocks[ref.block].size, 1)
            elif isinstance(item, ScalarRun):
                self._in_run[item.block] = True
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
        self.rows[block] += self.blocks[block].size
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
            if FEW * (sum(users.values()) + self.wanted[block]) < size:
                self._few(item, users, active)
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
                    self.rows[block] += part * size
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

    def _few(self, item: Statement, users: dict[tuple[int, object], int], active: list[Any]) -> None:
        """A few nodes of a block matter: as many of what they read, more where that is read at several places."""
        block = item.out.block
        wanted = int(self.wanted[block])
        self.rows[block] += wanted
        self.entries[block] += (sum(users.values()) if wanted else 0) + wanted
        self.uses[block], self.wanted[block] = {}, 0
        heads = {(block, 0): wanted} if wanted else users
        for ref in active:
            if type(ref) is Affine:
                for (row, align), entries in heads.items():
                    self._use(ref.block, row, _moved(align, _shift(ref, item)), entries)

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


__all__ = ["BATCH", "Elimination", "Kept", "Work", "count", "counts", "expected_kept", "kept", "kept_by"]
