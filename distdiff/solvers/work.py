"""What the cost functions look at: counts of a rank's share of the tape, linear in its statements.

`count` is cheap enough for every linearization, a microsecond a statement; what elimination leaves is in `kept`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from mpi4py import MPI

from ..graph.contractions import contracts
from ..ops import DIVIDE, MULTIPLY
from ..partials import Rule, coefficient
from ..partition.local import LocalTape
from ..tape import Affine, Const, Indexed, Joint, Operand, ScalarRun, Statement, Vector

NEAR = 4096  # nodes of a block up to which it stays in cache, with its columns if there are many
VAST = 1 << 15  # ... beyond which coefficients are read from memory, for every right-hand side anew
FAR_READS = 1 << 16  # reads by explicit nodes in one statement from which on they leave the cache
PERIODS = 4  # of a loop, planned one by one before the others are copies
LOOP = 32  # statements without a scalar run between them that can be a loop
MANY_GROUPS = 2000  # kinds of statements beyond which nobody asks which of them are of one loop
KEPT_OF_LINES = 0.15  # rows that elimination keeps of a program, where nobody has looked
ENTRIES = 4  # nonzeros of such a row, the diagonal included
BATCH = 32  # right-hand sides that go through together
COUNTED = ("array_lines", "scalar_lines", "runs", "sums", "copies", "sum_lines", "gather_lines", "copy_lines",
           "far_reads", "far_lines", "strips", "outer_lines", "indexed", "rules", "rule_lines",
           "vast_terms", "exploded",
           "sum_copies", "implicit", "equations")


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
    outer_lines: int = 0  # ... of sums, those that the other way round are no sums: a matrix's entries
    indexed: int = 0  # nodes that operands name one by one
    vast_terms: int = 0  # entries that are no constants, of statements over arrays that leave the second cache as well
    rules: int = 0  # partials that are computed, a statement's each an operation of its own
    rule_lines: int = 0  # ... and entries of these
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
    once: bool = False  # for these right-hand sides at this point alone
    planned: bool = False  # a sweep's plan is there
    bound: bool = False  # ... and bound to memory for as many right-hand sides as come together
    expanded: bool = False  # the matrix's structure is there, with the values of an earlier point
    assembled: bool = False  # the matrix holds the values of this point
    together: int = BATCH  # right-hand sides in one pass: 1 where they come one after another
    little: bool = False  # ... whose solutions are kept only as long as rows read them, if they are many
    implicit: int = 0  # entries of the systems of implicit statements, before elimination
    equations: int = 0  # how many of these there are
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
    n: Counter[str] = Counter()
    alike: dict[tuple[object, ...], _Alike] = {}  # statements by what their copies share
    summing: dict[tuple[object, ...], _Alike] = {}  # likewise those that are operations of their own
    constants: set[int] = set()
    kinds: dict[tuple[object, ...], list[Any]] = {}  # statements that count alike: the first, how many, first and last
    blocks = local.blocks
    for place, item in enumerate(local.items):
        if type(item) is Statement:
            op, shape, out, operands, site = item
            types = tuple(map(type, operands))
            kind = id(op), site, shape, out.strides, blocks[out.block].shape, types
            known = kinds.get(kind)
            if known is None:
                kinds[kind] = [item, 1, place, place]
            else:
                known[1] += 1
                known[3] = place
            if Const in types and (op is MULTIPLY or op is DIVIDE):  # a coefficient
                constants.update(map(_base, operands))
        elif isinstance(item, ScalarRun):
            n["runs"] += 1
            n["scalar_lines"] += item.lines
        else:  # an operation of its own, its rows dense
            assert type(item) is Joint
            n["sums"] += 1
            n["array_lines"] += item.lines
            n["gather_lines"] += item.lines
            entries = prod(item.shape) * item.op.stored(item.active)
            n["nonzeros"] += entries
            n["implicit"] += entries if item.op.implicit else 0
            n["equations"] += item.op.implicit
            n["exploded"] += 0 if item.op.implicit else max(entries - _touched(item), 0)
            _Alike.add(summing, (item.site, item.op.core_in, item.shape), 1, place, place)
    for item, number, first, last in kinds.values():
        size, lines = prod(item.shape), number * item.lines
        partials = [coefficient(item, k) for k in range(len(item.operands))]
        active = [k for k, partial in enumerate(partials) if partial is not None]
        indexed = [k for k in active if type(item.operands[k]) is Indexed]
        n["array_lines"] += lines
        n["nonzeros"] += number * size * len(active)
        n["exploded"] += number * max(size * len(active) - _touched(item), 0) if contracts(item) else 0
        n["indexed"] += number * size * len(indexed)
        gathers = item.op.kind != "elementwise" or bool(indexed)
        if item.op.kind == "elementwise":
            rules = number * sum(isinstance(partial, Rule) for partial in partials)
            n["rules"] += rules
            n["rule_lines"] += rules * size
            if size > VAST and not item.reduced:
                n["vast_terms"] += number * size * sum(not isinstance(partials[k], float) for k in active)
        if gathers or (0 in item.out.strides and item.reduced):
            n["sums"] += number
            _Alike.add(summing, (item.site, id(item.op), item.shape), number, first, last)
            if gathers:
                n["gather_lines"] += lines
                if item.lines > FAR_READS and indexed:
                    n["far_reads"] += lines
            else:
                n["sum_lines"] += lines
                n["outer_lines"] += number * sum(_distinct(item.operands[k], item.shape) for k in active)
            continue
        if len(item.shape) > 1 and item.shape[-1]:
            n["strips"] += number * (item.lines // item.shape[-1])
        far = lines if blocks[item.out.block].size > NEAR else 0
        _Alike.add(alike, (item.site, id(item.op), item.shape), number, first, last, lines, far)
    constants.discard(0)
    stretches = _stretches(local)
    loops = stretches > 0 and len(local.items) > LOOP * (len(constants) + 1)  # between what no loop can contain
    if loops:
        periods = _periods([*alike.values(), *summing.values()])
        first = PERIODS * stretches  # planned one by one
        for group, new in zip(summing.values(), periods[len(alike):]):
            n["sum_copies"] += max(group.number - first * new, 0)
    for group, new in zip(alike.values(), periods if loops else ()):
        share = max(group.number - PERIODS * new, 0) / group.number
        n["copies"] += max(group.number - first * new, 0)
        n["copy_lines"] += round(share * group.lines)
        n["far_lines"] -= round(share * group.far)
    n["far_lines"] += sum(group.far for group in alike.values())
    return {name: n[name] for name in COUNTED} | {
        "items": len(local.items), "messages": local.messages, "halo": local.halo, "interface": _interface(local),
        "nodes": local.n_own, "nonzeros": n["nonzeros"] + 3 * n["scalar_lines"] // 2,
        "inputs": len(local.inputs.ids), "outputs": len(local.outputs.ids),
        "cyclic": any(type(item) is Joint and item.op.implicit for item in local.items),
        "shared": any(type(item) is Joint and item.op.collective for item in local.items)}


class _Alike:
    """Statements that a loop may repeat: how many, the places of the first and the last, their lines, and those far."""

    def __init__(self, first: int, last: int) -> None:
        self.number = self.lines = self.far = 0
        self.first, self.last = first, last

    @staticmethod
    def add(groups: dict[tuple[object, ...], _Alike], key: tuple[object, ...], number: int, first: int, last: int,
            lines: int = 0, far: int = 0) -> None:
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Alike(first, last)
        group.number += number
        group.lines += lines
        group.far += far
        group.first, group.last = min(group.first, first), max(group.last, last)


def _periods(groups: list[_Alike]) -> list[int]:
    """How many of each group's statements a period of its loop has.

    Groups that begin and end within a period of each other are of one loop.  Most statements of a loop come once a
    period, some twice (for each of two fields, say) and few less often, so a loop's periods are as many as the lower
    quintile of its groups' numbers.
    """
    if len(groups) > MANY_GROUPS:
        return [1] * len(groups)
    number, first, last = (np.array([getattr(g, name) for g in groups]) for name in ("number", "first", "last"))
    repeated = number > PERIODS
    gap = (last - first) / np.maximum(number - 1, 1)
    found = []
    for k, group in enumerate(groups):
        mine = repeated & (first <= first[k] + gap) & (last >= last[k] - gap) & (
            first[k] <= first + gap[k]) & (last[k] >= last - gap[k])
        numbers = np.sort(number[mine])
        found.append(-(-group.number // int(numbers[len(numbers) // 5])) if len(numbers) else 1)
    return found


def _stretches(local: LocalTape) -> int:
    """Stretches between two scalar runs that are long enough for a loop, which contains none."""
    runs = [i for i, item in enumerate(local.items) if isinstance(item, ScalarRun)]
    return sum(after - before > LOOP for before, after in zip([-1, *runs], [*runs, len(local.items)]))


def _touched(item: Vector) -> int:
    """How many elements a statement reads and writes, each counted once."""
    found = prod(n for n, step in zip(item.out_shape, item.out.strides) if step)
    for k, ref in enumerate(item.operands):
        strides = () if type(ref) is Indexed else getattr(ref.value if type(ref) is Const else ref, "strides", ())
        shape = item.operand_shape(k)
        found += prod(n for n, step in zip(shape, strides) if step) if strides else 0
    return found


def _distinct(ref: Operand, shape: tuple[int, ...]) -> int:
    """The elements of an operand where each is read once, else none: of a matrix, not of the vector it multiplies."""
    if type(ref) is not Affine or any(not step and n > 1 for n, step in zip(shape, ref.strides)):
        return 0
    return prod(shape)


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


__all__ = ["BATCH", "Work", "count", "counts"]
