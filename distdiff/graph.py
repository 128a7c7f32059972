"""The structure of L read off a tape: levels, depth, width, nonzeros, and a name for its shape.

The level of a node is the number of edges of the longest path that ends there; nodes of one level don't
depend on each other.  Array blocks are taken as units (a block's level is that of its last elements), so an
all-array tape costs microseconds a statement however many lines it stands for; scalar lines are taken one by
one in a compiled loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from .kernels.graph import read_before, run_levels, tally
from .ops import OPS
from .tape import RUN_LINES, Affine, Const, Indexed, Joint, Operand, ScalarRun, Tape, Vector

SHALLOW = 64  # levels up to which a graph counts as shallow
THIN = 8  # nodes a level, on average, up to which it counts as thin
EVEN = 8  # widest level over the mean up to which levels count as alike
SHRINK = 0.75  # a tree's levels shrink by this factor or more

ARITY = np.array([op.arity for op in OPS])
ACTIVE = np.array([[k < op.arity and op.partials[k] is not None for op in OPS] for k in range(2)])


@dataclass(frozen=True)
class Structure:
    """What a solver wants to know of the system (I - L) ydot = xdot before it is built."""

    lines: int  # flattened scalar lines
    nodes: int  # rows of the full system (a sum of n terms is one row)
    nonzeros: int  # entries of L
    depth: int  # edges of the longest path (blockwise: an upper bound that array programs attain)
    width: int  # most nodes on one level
    inputs: int
    outputs: int
    shape: str  # "chain", "wide", "grid", "tree" or "mixed"

    @property
    def parallelism(self) -> float:
        """Nodes a level, on average: the speed-up that any number of ranks could reach if messages were free."""
        return self.nodes / (self.depth + 1)


def analyse(tape: Tape) -> Structure:
    """The structure of a tape.  Milliseconds for array code of any size, tens of nanoseconds a scalar line."""
    levels = _Levels(tape)
    depth, width, shrinking = levels.summary()
    nodes = tape.n_nodes
    return Structure(
        lines=tape.lines, nodes=nodes, nonzeros=nonzeros(tape), depth=depth, width=width, inputs=tape.n_inputs,
        outputs=tape.n_outputs, shape=_shape(nodes, depth, width, shrinking))


def _shape(nodes: int, depth: int, width: int, shrinking: bool) -> str:
    mean = nodes / (depth + 1)
    if shrinking and depth >= 3:
        return "tree"
    if depth <= SHALLOW:
        return "wide" if width >= depth else "chain"
    if mean <= THIN:
        return "chain" if width <= EVEN * THIN else "mixed"
    return "grid" if width <= EVEN * mean else "mixed"


def nonzeros(tape: Tape) -> int:
    """Entries of L: active operands.  An extremum has one a result, a running sum also its predecessor."""
    count = 0
    for item in tape.items:
        if isinstance(item, ScalarRun):
            for k, ref in enumerate((item.a, item.b)):
                count += int(np.count_nonzero((ref >= 0) & ACTIVE[k, item.op]))
            continue
        n = prod(item.shape)
        if isinstance(item, Joint):
            count += n * sum(item.op.count(k) for k in item.active)
            continue
        active = sum(not isinstance(ref, Const) and partial is not None
                     for ref, partial in zip(item.operands, item.op.partials))
        if item.op.kind == "select":
            count += active * prod(extent for extent, s in zip(item.shape, item.out.strides) if s or extent == 1)
        else:
            count += active * n
        if item.op.kind == "scan" and n:
            count += n - n // item.shape[-1]
    return count


class _Levels:
    """Levels of all nodes: one number a block, and one for each node of a scalar run that others than the run read."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.first = np.array([block.first for block in tape.blocks], dtype=np.int64)
        self.block = np.zeros(len(tape.blocks), dtype=np.int64)
        self.scalar = np.zeros(len(tape.blocks), dtype=bool)
        self.scalar[[item.block for item in tape.items if isinstance(item, ScalarRun)]] = True
        self.read = self._read_from_runs()  # nodes of runs, ascending
        self.level = np.zeros(len(self.read), dtype=np.int64)
        self.ends: list[tuple[int, int, int]] = []  # (level, levels, nodes a level): `nodes` on each of `levels` levels
        self.count = np.zeros(1, dtype=np.int32)  # nodes of runs by level, with room for more levels
        for leaf in tape.inputs:
            self.ends.append((0, 1, prod(leaf.shape)))
        for item in tape.items:
            if isinstance(item, ScalarRun):
                self._run(item)
            else:
                self._statement(item)

    def _read_from_runs(self) -> np.ndarray:
        found = [np.empty(0, dtype=np.int64)]
        for item in self.tape.items:
            if isinstance(item, ScalarRun):
                ids = read_before(item.op, item.a, item.b, ARITY, self.first[item.block])
                found.append(ids[self.scalar[self._block_of(ids)]])
                continue
            for k, ref in enumerate(item.operands):
                if isinstance(ref, Indexed) and self.scalar.any():
                    ids = np.unique(ref.ids)
                    found.append(ids[self.scalar[self._block_of(ids)]])
                elif isinstance(ref, Affine) and self.scalar[ref.block]:
                    found.append(self._ids(ref, item.operand_shape(k)))
        return np.unique(np.concatenate(found))

    def _block_of(self, ids: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.first, ids, side="right") - 1

    def _ids(self, ref: Affine, shape: tuple[int, ...]) -> np.ndarray:
        return np.ravel(ref.ids(int(self.first[ref.block]), tuple(n if s else 1 for n, s in zip(shape, ref.strides))))

    def _statement(self, item: Vector) -> None:
        results = prod(extent for extent, s in zip(item.out_shape, item.out.strides) if s or extent == 1)
        if 0 in item.shape:
            return
        level = 1 + max((self._of(ref, item.operand_shape(k)) for k, ref in enumerate(item.operands)), default=-1)
        if all(isinstance(ref, Const) for ref in item.operands):
            level = 0
        length = item.shape[-1] if item.op.kind == "scan" else 1
        self.ends.append((level, length, results // length))
        block = item.out.block
        self.block[block] = max(self.block[block], level + length - 1)

    def _of(self, ref: Operand, shape: tuple[int, ...]) -> int:
        """The highest level among an operand's nodes, -1 for constants."""
        if isinstance(ref, Const):
            return -1
        if isinstance(ref, Affine):
            if not self.scalar[ref.block]:
                return int(self.block[ref.block])
            return int(self._each(self._ids(ref, shape)).max())
        assert isinstance(ref, Indexed)
        return int(self._each(np.ravel(ref.ids)).max(initial=-1))

    def _each(self, ids: np.ndarray) -> np.ndarray:
        """Levels of nodes."""
        block = self._block_of(ids)
        single = self.scalar[block]
        level = self.block[block]
        level[single] = self.level[np.searchsorted(self.read, ids[single])]
        return level

    def _run(self, item: ScalarRun) -> None:
        first = int(self.first[item.block])
        ids = read_before(item.op, item.a, item.b, ARITY, first)
        known = np.append(self._each(ids), -1)  # the last for constants
        base = np.full(len(item.op), -1, dtype=np.int64)
        inside = []
        for ref, used in ((item.a, ARITY[item.op] > 0), (item.b, ARITY[item.op] > 1)):
            inside.append(np.where(used & (ref >= first), ref - first, -1))
            outside = np.flatnonzero(used & (ref >= 0) & (ref < first))
            base[outside] = np.maximum(base[outside], known[np.searchsorted(ids, ref[outside])])
        levels = run_levels(inside[0], inside[1], base)
        span = slice(*np.searchsorted(self.read, [first, first + len(levels)]))
        self.level[span] = levels[self.read[span] - first]
        deepest = self.block[item.block] = levels.max(initial=0)
        if deepest >= len(self.count):
            self.count.resize(deepest + deepest // 8 + 1, refcheck=False)  # zeros; large memory is moved, not copied
        tally(levels, self.count)

    def summary(self) -> tuple[int, int, bool]:
        """(depth, width, whether every level is much narrower than the one before)."""
        depth = int(self.block.max(initial=0))
        begin = [(level, nodes) for level, _, nodes in self.ends]
        end = [(level + levels, -nodes) for level, levels, nodes in self.ends]
        edges = np.array(begin + end, dtype=np.int64).reshape(-1, 2)
        edges = edges[np.argsort(edges[:, 0], kind="stable")]
        width, shrinking, carried, last = 0, True, 0, None
        for start in range(0, depth + 1, RUN_LINES):  # in pieces: a chain has as many levels as lines
            stop = min(start + RUN_LINES, depth + 1)
            here = edges[slice(*np.searchsorted(edges[:, 0], [start, stop]))]
            change = np.zeros(stop - start, dtype=np.int64)
            np.add.at(change, here[:, 0] - start, here[:, 1])
            change[0] += carried
            count = np.cumsum(change)
            carried = int(count[-1])
            runs = self.count[start:stop]
            count[: len(runs)] += runs
            width = max(width, int(count.max()))
            before = count[:-1] if last is None else np.append(last, count[:-1])
            shrinking = shrinking and bool((count[len(count) - len(before):] <= SHRINK * before).all())
            last = count[-1]
        return depth, width, shrinking


__all__ = ["Structure", "analyse", "nonzeros"]
