"""Who reads what: for blocks of arrays a few numbers a statement, for scalar lines one node at a time.

Positions are node ids, which grow in the order of the trace: a node of an array is there from its block's last
node on, and a statement reads until the last node of the block it writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..kernels.structure import reads_before
from ..ops import OPS
from ..tape import Affine, Const, HeldRun, Indexed, Operand, ScalarRun, Tape, id_type
from .listing import Listing, Single

ARITY = np.array([op.arity for op in OPS])
EMPTY = np.empty(0, dtype=np.int64)
MERGED = 1 << 16  # nodes whose readers are added up at once


class Touch(NamedTuple):
    """One reader of an array block: it touches `nodes` distinct nodes, `uses` times in all; equal keys, equal nodes."""

    begin: int
    end: int
    nodes: int
    uses: int
    key: object


def _kind(nodes: int) -> type[np.signedinteger[Any]]:
    """The type of positions, and of counts of operands, in a tape of so many nodes."""
    return id_type(2 * nodes)


def merged(parts: list[Listing], kind: Any = np.int64) -> Listing:
    """Several lists as one, every node once.

    One stretch of nodes after another, so that what it takes in between does not grow with the lists.
    """
    parts, made = [part for part in parts if len(part)], Listing(kind)
    if not parts:
        return made
    count = -(-sum(map(len, parts)) // MERGED)
    bounds = np.linspace(0, max(part.last for part in parts) + 1, count + 1).astype(np.int64)
    cuts = [part.place(bounds) for part in parts]
    for k in range(count):
        here = [part[cut[k]:cut[k + 1]] for part, cut in zip(parts, cuts) if cut[k] < cut[k + 1]]
        if here:
            made.append(_each_once([Single(*(column.astype(kind, copy=False) for column in part)) for part in here]))
    return made


def _each_once(parts: list[Single]) -> Single:
    ids, uses, begin, end = (np.concatenate(column) for column in zip(*parts))
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    return Single(ids[starts], np.add.reduceat(uses[order], starts, dtype=ids.dtype),
                  np.minimum.reduceat(begin[order], starts), np.maximum.reduceat(end[order], starts))


def reads_of(run: ScalarRun, first: int, room: list[np.ndarray] | None = None) -> Listing:
    """What a run's lines read of nodes before `first`, its first one.  room: four arrays of twice its length."""
    room = room or [np.empty(2 * len(run.op), dtype=np.int64) for _ in range(4)]
    n = reads_before(run.op, run.a, run.b, ARITY, first, *room)
    kind = _kind(first + len(run.op))
    return Listing.of(_each_once([Single(*(column[:n].astype(kind) for column in room))])) if n else Listing(kind)


class Reads:
    """All reads of a tape.

    first, last: the first node of every block, and its last.  scalar, leaf: which blocks scalar runs write, and nobody
    (inputs).  runs: by block.  of_run: by block, what a run's lines read from outside of it.  single: all nodes that
    runs read from outside, and all nodes of runs that others read (both lists in few bytes).  touches: by array block.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.first = np.array([block.first for block in tape.blocks], dtype=np.int64)
        self.last = self.first + np.array([block.size for block in tape.blocks], dtype=np.int64) - 1
        self.scalar = np.zeros(len(tape.blocks), dtype=bool)
        self.leaf = np.ones(len(tape.blocks), dtype=bool)
        self.runs: dict[int, ScalarRun] = {}
        for item in tape.items:
            if isinstance(item, ScalarRun):
                self.scalar[item.block], self.leaf[item.block] = True, False
                self.runs[item.block] = item
            else:
                self.leaf[item.out.block] = False
        self.touches: list[list[Touch]] = [[] for _ in tape.blocks]
        self.of_run: dict[int, Listing] = {}
        self._one_by_one: list[Listing] = []
        self._room: list[np.ndarray] = []
        self._some_scalar = bool(self.scalar.any())
        for item in tape.items:
            if isinstance(item, ScalarRun):
                self.of_run[item.block] = self._run(item)
            elif 0 not in item.shape:
                for k, ref in enumerate(item.operands):
                    self._operand(ref, item.operand_shape(k), item.out.block)
        self._room = []
        self.single = merged([*self.of_run.values(), *self._one_by_one], _kind(tape.n_nodes))
        self._one_by_one = []

    def block_of(self, ids: np.ndarray) -> np.ndarray:
        """The block of every node."""
        return np.searchsorted(self.first, ids, side="right") - 1

    def outside(self, block: int) -> np.ndarray:
        """What a run's lines read from outside of it, ascending."""
        return self.of_run[block].ids

    def place(self, ids: np.ndarray) -> np.ndarray:
        """Where nodes stand in `single`, or would."""
        return self.single.place(ids)

    def exposed(self, block: int) -> slice:
        """The nodes of a run that others read, in `single`."""
        return slice(self._exposed[0][block], self._exposed[1][block])

    def read_of(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """(places within the block, uses) of these."""
        here = self.single[self.exposed(block)]
        return here.ids.astype(np.int64) - self.first[block], here.uses.astype(np.int64)

    def parts(self) -> Iterator[Single]:
        """`single`, a stretch after another, in numbers of 64 bits."""
        return self.single.parts(MERGED)

    @cached_property
    def _exposed(self) -> tuple[list[int], list[int]]:
        """By block, where `exposed` begins and ends."""
        low, high = (self.place(ends).tolist() for ends in (self.first, self.last + 1))
        return low, high

    def _run(self, run: ScalarRun) -> Listing:
        if isinstance(run, HeldRun):
            reads: Listing = run.reads
            return reads
        most = 2 * len(run.op)
        if not self._room or len(self._room[0]) < most:
            self._room = [np.empty(most, dtype=np.int64) for _ in range(4)]
        return reads_of(run, int(self.first[run.block]), self._room)

    def _operand(self, ref: Operand, shape: tuple[int, ...], reader: int) -> None:
        begin, end = int(self.first[reader]), int(self.last[reader])
        if isinstance(ref, Const):
            return
        if isinstance(ref, Affine):
            nodes = prod(n for n, s in zip(shape, ref.strides) if s)
            if not self.scalar[ref.block]:
                nodes = min(nodes, self.tape.blocks[ref.block].size)
                key = ref.offset, ref.strides, shape
                self.touches[ref.block].append(Touch(begin, end, nodes, prod(shape), key))
                return
            ids = ref_ids(ref, int(self.first[ref.block]), shape)
            self._singly(ids, prod(shape) // max(len(ids), 1), begin, end)
            return
        assert isinstance(ref, Indexed)
        ids = np.ravel(ref.ids)
        count = np.bincount(self.block_of(ids), minlength=len(self.first))
        for block in np.flatnonzero(count):
            if not self.scalar[block]:
                nodes, uses = min(int(count[block]), self.tape.blocks[block].size), int(count[block])
                self.touches[block].append(Touch(begin, end, nodes, uses, id(ref.ids)))
        if self._some_scalar:
            self._singly(ids[self.scalar[self.block_of(ids)]], 1, begin, end)

    def _singly(self, ids: np.ndarray, times: int, begin: int, end: int) -> None:
        ids, uses = np.unique(ids, return_counts=True)
        if len(ids):
            self._one_by_one.append(Listing.of(Single(ids, times * uses, np.full(len(ids), begin),
                                                      np.full(len(ids), end))))


def ref_ids(ref: Affine, first: int, shape: tuple[int, ...]) -> np.ndarray:
    """The nodes of an affine reference, without repetitions along axes of stride 0."""
    return np.ravel(ref.ids(first, tuple(n if s else 1 for n, s in zip(shape, ref.strides))))


__all__ = ["ARITY", "Reads", "Touch", "reads_of", "ref_ids"]
