"""Planning a sweep: elimination at block level, the memory of what is kept, and the operations in order.

The plan is made once from the tape's structure; running it at any point, for any number of right-hand sides, touches no
statement again.  Both directions are made of one kind of step, a *term*

    dst[i] += p[i] src[i + shift]

with dst an operand and src the statement's result (adjoint), or the other way round (tangent).  A block's vector is a
sum of such terms over vectors that are stored, and most blocks are never more than that (`sweep_sums`).  Statements
that are no such terms (sums, products of matrices, indexed operands, scans, scalar runs, exchanges) have operations of
their own on stored vectors.  Loops are planned once (`sweep_period`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from ..kernels import scalar
from ..partials import coefficient
from ..partition.local import Exchange, LocalTape
from ..strided import BlockIndex, one_to_one
from ..tape import Affine, Const, Indexed, Joint, ScalarRun, Statement
from .sweep_ops import (
    Finish,
    Gather,
    Lines,
    Moves,
    Plan,
    Product,
    Result,
    Scan,
    Scatter,
    Seed,
    Start,
    Strided,
    combines,
    in_turn,
    names,
)
from .sweep_period import HALO, Event, Loop, loops
from .sweep_places import placed
from .sweep_sums import Replay, Sums, Use
from .sweep_uses import Raw, Uses

LONG = 1000  # elements an operation moves on average from which on its dispatch, once a column, no longer counts


def plan_adjoint(local: LocalTape, keep: bool = False, every: bool = False) -> Plan:
    """lam[operand] += p lam[result], last statement first: from ybar at the outputs to xbar at the inputs.

    keep: partials that rules compute have memory of their own, so that they are there for further solves.
    every: every block is stored, so partials multiply vectors in the order of the lines, never each other.
    """
    return _Planner(local, False, keep, every).adjoint()


def plan_tangent(local: LocalTape, keep: bool = False, every: bool = False) -> Plan:
    """ydot[result] = sum p ydot[operand], first statement first: from xdot at the inputs to ydot at the outputs."""
    return _Planner(local, True, keep, every).tangent()


class _Planner:
    def __init__(self, local: LocalTape, forward: bool, keep_partials: bool, every: bool) -> None:
        self.local, self.blocks, self.forward = local, local.blocks, forward
        lines = sum(len(item.op) for item in local.items if type(item) is ScalarRun)
        self.scalar = 2 * lines > local.n_nodes
        self.sums, self.keep_partials = Sums(local.blocks, every), keep_partials
        self.uses = Uses(local, self.sums)
        self.ops = self.sums.ops
        self.index = BlockIndex(local.blocks)
        self.blocks_of = self.index.blocks_of
        self.number = {b: k for k, b in enumerate(self.index.full)}
        self.fan_out = _fan_out(local) if forward else []

    # -- statements

    def statements(self, items: list[int]) -> None:
        """All terms of statements of one block."""
        b = self.local.items[items[0]].out.block
        item = self.local.items[items[0]]
        collective = type(item) is Joint and item.op.collective  # no rank may leave it out
        if not self.forward and b not in self.sums and not collective:
            return
        if type(item) is Joint:
            self.joint(items[0])
            return
        uses: list[Use] = []
        direct: list[Raw] = []
        statements = [(i, self.local.items[i]) for i in items if 0 not in self.local.items[i].shape]
        scans = [item for _, item in statements if item.op.kind == "scan"]
        if not self.forward:
            for item in scans:
                self.scan(item)
        for i, item in statements:
            for k, ref in enumerate(item.operands):
                what = coefficient(item, k)
                if what is None or (self.forward and not self._carries(ref)):
                    continue
                if type(ref) is Indexed:
                    self.indexed(i, k, what, ref, item.out, item.shape)
                    continue
                raw = Raw(i, k, what, item.out, ref, item.shape) if self.forward else Raw(
                    i, k, what, ref, item.out, item.shape)
                use = self.uses.of(raw)
                if use is None:
                    direct.append(raw)
                else:
                    uses.append(use)
        if self.forward:
            for use in uses:
                self.sums.decide(use.src, self.fan_out[use.src])
        elif uses and not direct:
            self.sums.decide(b, sum(use.work for use in uses) / self.sums.sizes[b])
        elif direct:
            self.sums.read(b)
        for use in uses:
            self.sums.push(use)
        for raw in direct:
            self.direct(raw)
        if self.forward:
            for item in scans:
                self.scan(item)

    def direct(self, raw: Raw) -> None:
        """A term that is none of a sum: straight into stored vectors."""
        i, k, what, dst, src, shape = raw
        injective = one_to_one(shape, dst.strides)
        b, n = dst.block, self.sums.sizes[dst.block]
        write = b not in self.sums and injective and prod(m for m, s in zip(shape, dst.strides) if s) == n
        if write:
            self.sums.make(b)
        base = self.sums.own(b)
        source = base if src.block == b else self.sums.read(src.block)
        scale, i = (what, -1) if isinstance(what, float) else (1.0, i)
        self.ops.append(Strided(base + dst.offset, dst.strides, source + src.offset, src.strides, shape, scale, i, k,
                                write, not injective))
        self.sums.moved += prod(shape)

    def joint(self, i: int) -> None:
        """The product of a joint statement's derivative and stored vectors."""
        item = self.local.items[i]
        active = [k for k in item.active if not self.forward or self._carries(item.operands[k])]
        if (not active and not item.op.collective) or 0 in item.shape:
            return
        for k in active:
            (self.readable if self.forward else self.claim)(self._read(item.operands[k]))
        b = item.out.block
        write = self.forward and b not in self.sums and prod(item.out_shape) == self.sums.sizes[b]
        if write:
            self.sums.make(b)
        out = self.sums.own(b) if self.forward or b not in self.sums else self.sums.read(b)
        places: list[Any] = [None] * len(item.operands)
        for k in active:
            ref = item.operands[k]
            places[k] = self.sums.read(ref.block) + ref.offset if type(ref) is Affine else self.places(ref.ids)
        self.ops.append(Product(i, out + item.out.offset, tuple(places), write))
        self.sums.moved += prod(item.out_shape) + sum(prod(item.operand_shape(k)) for k in active)

    def scan(self, item: Statement) -> None:
        at = self.sums.own(item.out.block) + item.out.offset
        self.ops.append(Scan(at, item.out.strides, item.shape, not self.forward))
        self.sums.moved += prod(item.shape)

    def _carries(self, ref: Any) -> bool:
        """Whether a tangent has come to an operand at all."""
        if type(ref) is Affine:
            return ref.block in self.sums
        return any(b in self.sums for b in self.blocks_of(ref.ids))

    def indexed(self, i: int, k: int, what: Any, ref: Indexed, out: Affine, shape: tuple[int, ...]) -> None:
        (self.readable if self.forward else self.claim)(self.blocks_of(ref.ids))
        scale, i = (what, -1) if isinstance(what, float) else (1.0, i)
        at = self.sums.own(out.block) + out.offset
        places = self.places(ref.ids)
        if self.forward:
            self.ops.append(Gather(at, out.strides, places, shape, scale, i, k))
        else:
            self.ops.append(Scatter(places, at, out.strides, shape, scale, i, k))
        self.sums.moved += prod(shape)

    def claim(self, blocks: list[int]) -> None:
        """Have vectors of their own for blocks that are written to."""
        for b in blocks:
            self.sums.own(b)

    def readable(self, blocks: list[int]) -> None:
        """Have vectors for blocks that are read."""
        for b in blocks:
            self.sums.read(b) if b in self.sums else self.sums.own(b)

    def places(self, ids: np.ndarray) -> np.ndarray:
        """Node ids as rows of the workspace; their blocks must be owned."""
        if not ids.size:
            return ids
        first, last = self.index.ends(ids)
        if first == last:
            b = self.index.full[first]
            return ids + (self.sums.read(b) - self.blocks[b].first)
        numbers, which = np.unique(self.index.number(ids), return_inverse=True)
        owners = [self.index.full[j] for j in numbers]
        shift = np.array([self.sums.read(b) - self.blocks[b].first for b in owners], dtype=np.int64)
        return ids + shift[which.reshape(ids.shape)]

    def run(self, i: int, item: ScalarRun) -> None:
        b = item.block
        if not len(item.op) or (not self.forward and b not in self.sums):
            return
        blocks = self.blocks_of_run(item)
        if self.forward:
            self.readable(blocks[:-1])
            self.sums.make(b)  # every line is written before it is read
        else:
            self.claim(blocks[:-1])
            self.claim([b])
        starts = np.array([self.blocks[k].first for k in blocks])
        self.ops.append(Lines(i, starts, np.array([self.sums.read(k) for k in blocks]) - starts))
        self.sums.moved += 2 * len(item.op)

    def blocks_of_run(self, item: ScalarRun) -> list[int]:
        """The blocks that a run reads, and its own."""
        read = scalar.blocks_read(item, self.index.firsts, self.number[item.block])
        return [*(self.index.full[k] for k in read), item.block]

    def halo(self, kind: str, s: int) -> None:
        """Start or finish the exchange of superstep s; in the adjoint everything is the other way round."""
        messages, leaves = self._messages(kind, s), (kind == "start") == self.forward
        for _, ids in messages:  # what leaves a ghost in the adjoint leaves zeros behind
            (self.readable if leaves and self.forward else self.claim)(self.blocks_of(ids))
        self.ops.append((Start if leaves else Finish)(s, [self.places(ids) for _, ids in messages]))

    def _messages(self, kind: str, s: int) -> list[tuple[int, np.ndarray]]:
        exchange = self.local.steps[s].exchange
        return exchange.sends if kind == "start" else exchange.recvs

    # -- directions

    def events(self) -> list[Event]:
        """Items and exchanges in forward order.

        ("run", i), ("statements", [i, ...] of one block), and an exchange's ("start", step) and ("finish", step).
        """
        order: list[Event] = []
        for s, step in enumerate(self.local.steps):
            previous = -1
            for i in range(step.start, step.stop + 1):
                if i == step.ready and step.exchange:
                    order.append(("start", s))
                    previous = -1
                if i == step.stop:
                    break
                item = self.local.items[i]
                if type(item) is ScalarRun:
                    order.append(("run", i))
                    previous = -1
                    continue
                b = item.out.block
                alone = item.op.kind in ("scan", "joint")
                for ref in item.operands:
                    if type(ref) is Affine:
                        alone = alone or ref.block == b
                    elif type(ref) is Indexed:
                        alone = alone or b in self.blocks_of(ref.ids)
                if b == previous and not alone:
                    order[-1][1].append(i)
                else:
                    order.append(("statements", [i]))
                previous = -1 if alone else b
            if step.exchange:
                order.append(("finish", s))
        return order

    def _read(self, ref: Any) -> list[int]:
        """Blocks that an operand reads."""
        if type(ref) is Affine:
            return [ref.block]
        return [] if type(ref) is Const else self.blocks_of(ref.ids)

    def _exchanged(self, kind: str, s: int) -> list[int]:
        return [b for _, ids in self._messages(kind, s) for b in self.blocks_of(ids)]

    def adjoint(self) -> Plan:
        local, events = self.local, self.events()
        first = [-1] * len(self.blocks)  # event that first defines (part of) a block: its adjoint ends there
        for e in range(len(events) - 1, -1, -1):
            kind, what = events[e]
            if kind == "statements":
                first[local.items[what[0]].out.block] = e
            else:
                for b in self._defined(kind, what):
                    first[b] = e
        for b in self.blocks_of(local.inputs.ids):
            first[b] = -1
        self.seed(local.outputs.ids)

        def handle(e: int) -> None:
            kind, what = events[e]
            self._event(kind, what)
            for b in self._defined(kind, what):
                if first[b] == e:
                    self.sums.drop(b)

        self.walk(events, handle, lambda e, f, step: True)
        return self.plan(local.inputs.ids)

    def tangent(self) -> Plan:
        local, events = self.local, self.events()
        ends: list[list[int]] = [[] for _ in events]  # blocks that are read last (or never, after they were made)
        seen = set(self.blocks_of(local.outputs.ids))
        for e in range(len(events) - 1, -1, -1):
            for b in self._used(*events[e]):
                if b not in seen:
                    seen.add(b)
                    ends[e].append(b)
        self.seed(local.inputs.ids)

        def handle(e: int) -> None:
            self._event(*events[e])
            for b in ends[e]:
                self.sums.drop(b)

        def same(e: int, f: int, step: int) -> bool:
            if len(ends[e]) != len(ends[f]) or any(a not in (b, b + step) for a, b in zip(ends[e], ends[f])):
                return False
            return all(self.fan_out[a] == self.fan_out[b]
                       for a, b in zip(self._defined(*events[e]), self._defined(*events[f])))

        self.walk(events, handle, same)
        return self.plan(local.outputs.ids)

    def _event(self, kind: str, what: Any) -> None:
        if kind in HALO:
            self.halo(kind, what)
        elif kind == "run":
            self.run(what, self.local.items[what])
        else:
            self.statements(what)

    def _defined(self, kind: str, what: Any) -> list[int]:
        """Blocks that (in the tape's direction) get values in an event."""
        if kind in HALO:
            return self._exchanged(kind, what) if kind == "finish" else []
        item = self.local.items[what if kind == "run" else what[0]]
        return [item.block if kind == "run" else item.out.block]

    def _used(self, kind: str, what: Any) -> list[int]:
        """Blocks that an event reads or writes."""
        if kind in HALO:
            return self._exchanged(kind, what)
        if kind == "run":
            item = self.local.items[what]
            return self.blocks_of_run(item) if len(item.op) else [item.block]
        used = []
        for item in (self.local.items[i] for i in what):
            used.append(item.out.block)
            for ref in item.operands:
                used += self._read(ref)
        return used

    # -- loops

    def walk(self, events: list[Event], handle: Callable[[int], None], same: Callable[[int, int, int], bool]) -> None:
        """Every event in the direction's order, loops by their first periods."""
        step = 1 if self.forward else -1
        found = {(loop.start if self.forward else loop.stop - 1): loop
                 for loop in loops(self.local, self.index, events, same)}
        e = 0 if self.forward else len(events) - 1
        while 0 <= e < len(events):
            loop = found.get(e)
            if loop is None:
                handle(e)
                e += step
                continue
            e = self._loop(loop, e, step, handle)

    def _loop(self, loop: Loop, e: int, step: int, handle: Callable[[int], None]) -> int:
        """A loop, from its first event in the direction on; returns the event after it."""
        replay = Replay(self.sums, loop)
        for j in range(loop.count) if self.forward else reversed(range(loop.count)):
            base = loop.lo + loop.blocks * j
            if not replay.repeated(base):
                replay.record(base, lambda e=e: [handle(e + step * k) for k in range(loop.period)])
            e += step * loop.period
        return e

    # -- right-hand sides and solutions

    def seed(self, ids: np.ndarray) -> None:
        """The right-hand side enters at these nodes (a node may come up twice: an array returned twice)."""
        for b, where, places in self.index.pieces(ids):
            add = b in self.sums or not isinstance(places, slice) or places.stop - places.start < self.sums.sizes[b]
            if not add:
                self.sums.make(b)
            self.ops.append(Seed(where, _shifted(places, self.sums.own(b)), add))
        self.sums.kept = 0  # these are none that elimination left

    def plan(self, ids: np.ndarray) -> Plan:
        """The plan, its solution read off at these nodes."""
        sums = self.sums
        results = [Result(where, _shifted(places, sums.read(b)) if b in sums else None)
                   for b, where, places in self.index.pieces(ids)]
        lasting = {n for result in results if result.places is not None for n in names(result)[0]}
        offsets, rows, stored, size = placed(self.ops, sums.vectors, sums.partials, lasting, self.keep_partials)
        moves = Moves(offsets, stored)
        operations = [op if combines(op) else moves.of(op) for op in in_turn(self.ops)]
        dispatched = sum(not combines(op) for op in operations)  # the others are one call for all columns
        by_rows = self.scalar or sums.moved < LONG * dispatched
        results = [r if r.places is None else moves.of(r) for r in results]
        exchanges = [Exchange(step.exchange.sends, step.exchange.recvs) for step in self.local.steps]
        return Plan(operations, results, rows, size, sums.kept, sums.moved, by_rows, self.uses.constants, offsets,
                    stored, exchanges)


def _shifted(places: slice | np.ndarray, offset: int) -> slice | np.ndarray:
    return slice(places.start + offset, places.stop + offset) if isinstance(places, slice) else places + offset


def _fan_out(local: LocalTape) -> list[float]:
    """How often, all its elements counted, each block is an operand with a derivative."""
    count = [0.0] * len(local.blocks)
    for item in local.items:
        if type(item) is Statement:
            n = prod(item.shape)
            for k, ref in enumerate(item.operands):
                if type(ref) is Affine and coefficient(item, k) is not None:
                    count[ref.block] += n / (local.blocks[ref.block].size or 1)
    return count
