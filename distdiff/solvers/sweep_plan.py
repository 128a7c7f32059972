"""Planning a sweep: which memory every block's tangent or adjoint lives in, and the operations in order.

The plan is made once from the tape's structure; running it at any point, for any number of right-hand sides, touches no
statement again.  Both directions are made of one kind of step, a *term*

    dst += scale * p * src

with dst an operand and src the statement's result (adjoint), or the other way round (tangent).  Blocks live in *slots*
of one workspace, from their first term to their last reading, and freed slots are taken again at once, so the working
set is the live width of the program and stays in cache.  Three things keep terms from becoming passes over memory:

- *lazy multiples*: where dst and src are whole blocks in the same order and p is constant, dst is only noted down as
  a multiple of src's slot.  Chains of scalings, copies, sums and differences cost nothing until something is added;
- *first touch*: what is known to be untouched (`gaps`) is written instead of zeroed and added to;
- *in place*: the last term that reads a dying slot takes the slot over.
"""

from __future__ import annotations

from bisect import insort
from math import prod
from typing import Any

import numpy as np

from ..kernels import scalar
from ..liveness import Pool
from ..partials import coefficient
from ..partition.local import Exchange, LocalTape
from ..strided import BlockIndex, interval, one_to_one
from ..tape import Affine, Const, Indexed, ScalarRun, Statement
from .sweep_join import joined
from .sweep_ops import Gather, Halo, Linear, Lines, Plan, Product, Result, Scan, Scatter, Seed, Strided, Term, Zero

SAFE = (1e-100, 1e100)  # lazy factors: their products must not overflow or vanish before they meet a number

LONG = 1000  # elements an operation moves on average from which on its dispatch, once a column, no longer counts


class Slot:
    """A stretch of the workspace; `refs` blocks are multiples of it."""

    __slots__ = ("offset", "refs", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset, self.size, self.refs = offset, size, 1


class State:
    """A block's vector: scale * W[at : at + size], within `slot`.

    It is zero in `gaps` (intervals of the block that were never written), which only an unshared slot has.
    """

    __slots__ = ("at", "gaps", "scale", "slot")

    def __init__(self, slot: Slot, at: int, scale: float = 1.0, gaps: list[tuple[int, int]] | None = None) -> None:
        self.slot, self.at, self.scale, self.gaps = slot, at, scale, gaps or []


def plan_adjoint(local: LocalTape) -> Plan:
    """lam[operand] += p lam[result], last statement first: from ybar at the outputs to xbar at the inputs."""
    return _Planner(local, forward=False).adjoint()


def plan_tangent(local: LocalTape) -> Plan:
    """ydot[result] = sum p ydot[operand], first statement first: from xdot at the inputs to ydot at the outputs."""
    return _Planner(local, forward=True).tangent()


class _Planner:
    def __init__(self, local: LocalTape, forward: bool) -> None:
        self.local, self.blocks, self.forward = local, local.blocks, forward
        self.sizes = [b.size for b in local.blocks]
        self.ops: list[Any] = []
        self.states: list[State | None] = [None] * len(local.blocks)
        self.pool = Pool()
        self.moved = 0
        self.index = BlockIndex(local.blocks)
        self.blocks_of = self.index.blocks_of
        self.number = {b: k for k, b in enumerate(self.index.full)}
        lines = sum(len(item.op) for item in local.items if type(item) is ScalarRun)
        self.scalar = 2 * lines > local.n_nodes

    # -- memory

    def alloc(self, n: int) -> Slot:
        return Slot(self.pool.take(n), n)

    def drop(self, b: int) -> None:
        """Block b is not needed any more."""
        state = self.states[b]
        if state is None:
            return
        self.states[b] = None
        self._unref(state.slot)

    def _unref(self, slot: Slot) -> None:
        slot.refs -= 1
        if not slot.refs:
            self.pool.give(slot.offset, slot.size)

    def own(self, b: int) -> State:
        """Block b's state, in a slot of its own, scale 1 (gaps may remain)."""
        state, n = self.states[b], self.sizes[b]
        if state is None:
            slot = self.alloc(n)
            state = self.states[b] = State(slot, slot.offset, 1.0, [(0, n)] if n else [])
        elif state.slot.refs > 1:
            slot = self.alloc(n)
            self.linear(slot.offset, n, 0.0, -1, state.scale, state.at)
            self._unref(state.slot)
            state.slot, state.at, state.scale = slot, slot.offset, 1.0
        elif state.scale != 1.0:
            self.linear(state.at, n, 0.0, -1, state.scale, state.at)
            state.scale = 1.0
        return state

    def fill(self, b: int) -> State | None:
        """Write the zeros that block b's gaps stand for."""
        state = self.states[b]
        if state is not None and state.gaps:
            for lo, hi in state.gaps:
                self.ops.append(Zero(state.at + lo, state.at + hi))
                self.moved += hi - lo
            state.gaps = []
        return state

    def touch(self, b: int, span: tuple[int, int]) -> bool:
        """Claim an interval of an owned block; True if it is still untouched, so that it may be written."""
        state = self.states[b]
        lo, hi = span
        for i, (start, stop) in enumerate(state.gaps):
            if start <= lo and hi <= stop:
                del state.gaps[i]
                if start < lo:
                    insort(state.gaps, (start, lo))
                if hi < stop:
                    insort(state.gaps, (hi, stop))
                return True
        if any(start < hi and lo < stop for start, stop in state.gaps):
            self.fill(b)
        return False

    # -- terms

    def linear(self, dst: int, n: int, s1: float, first: int, s2: float, second: int) -> None:
        """dst = s1 first + s2 second, taken up into the last operation if that added second to dst as well."""
        last = self.ops[-1] if self.ops else None
        if first == dst and type(last) is Linear and last[:2] == (dst, n) and last.second == second != dst:
            self.ops[-1] = Linear(dst, n, s1 * last.s1, last.first, s1 * last.s2 + s2, second)
            return
        self.ops.append(Linear(dst, n, s1, first, s2, second))
        self.moved += n

    def product(self, dst: int, n: int, s1: float, first: int, s2: float, second: int, item: int, k: int) -> None:
        """dst = s1 first + s2 p second, likewise."""
        last = self.ops[-1] if self.ops else None
        if first == dst and type(last) is Linear and last[:2] == (dst, n) and last.second == second != dst:
            self.ops[-1] = Product(dst, n, s1 * last.s1, last.first, s2, second, item, k, s1 * last.s2)
            return
        self.ops.append(Product(dst, n, s1, first, s2, second, item, k, 0.0))
        self.moved += n

    def term(self, term: Term, last: bool) -> None:
        """dst += p * src; `last`: src's block ends here."""
        i, k, what, dst, src, shape = term
        if dst.block == src.block:
            self.own(dst.block)
        b, state = dst.block, self.fill(src.block)
        constant = isinstance(what, float)
        scale = state.scale * what if constant else state.scale
        spans = interval(dst, shape), interval(src, shape)
        n = self.sizes[b]
        if spans[0] == (0, n) and spans[1] is not None and b != src.block:
            self._whole(i, k, constant, b, state, state.at + src.offset, scale, last)
            return
        base = self.own(b).at
        source = state.at + src.offset
        if spans[0] is not None and spans[1] is not None:
            m = spans[0][1] - spans[0][0]
            at = base + dst.offset
            old = -1 if self.touch(b, spans[0]) else at
            if constant:
                self.linear(at, m, 1.0, old, scale, source)
            else:
                self.product(at, m, 1.0, old, scale, source, i, k)
            return
        injective = one_to_one(shape, dst.strides)
        covers = injective and prod(m for m, s in zip(shape, dst.strides) if s) == n
        if covers or spans[0] is not None:
            write = self.touch(b, spans[0] or (0, n))
        else:
            self.fill(b)
            write = False
        if constant:
            i = -1
        self.ops.append(Strided(base + dst.offset, dst.strides, source, src.strides, shape, scale, i, k, write,
                                not injective))
        self.moved += prod(shape)

    def _whole(self, i: int, k: int, constant: bool, b: int, state: State, source: int, scale: float,
               last: bool) -> None:
        """The term from an interval at `source` of another block's state to the whole block b."""
        slot, old, n = state.slot, self.states[b], self.sizes[b]
        if old is not None:
            self.fill(b)
            if constant and old.at == source:
                total = old.scale + scale
                if total == 0.0 or SAFE[0] < abs(total) < SAFE[1]:
                    old.scale = total
                    return
        elif constant and SAFE[0] < abs(scale) < SAFE[1] and 2 * n >= slot.size:  # no small part keeps a large slot
            slot.refs += 1
            self.states[b] = State(slot, source, scale)
            return
        if old is not None and old.slot.refs == 1:
            target, at = old.slot, old.at
        elif last and slot.refs == 1 and 2 * n >= slot.size:  # overwrites src, of which only the release follows
            target, at = slot, source
            slot.refs += 1
        else:
            target = self.alloc(n)
            at = target.offset
        s1, first = (old.scale, old.at) if old is not None else (0.0, -1)
        if constant:
            self.linear(at, n, s1, first, scale, source)
        else:
            self.product(at, n, s1, first, scale, source, i, k)
        if old is not None and old.slot is not target:
            self._unref(old.slot)
        self.states[b] = State(target, at)

    def places(self, ids: np.ndarray) -> np.ndarray:
        """Node ids as rows of the workspace; their blocks must be owned."""
        numbers, which = np.unique(self.index.number(ids), return_inverse=True)
        owners = [self.index.full[j] for j in numbers]
        shift = np.array([self.states[b].at - self.blocks[b].first for b in owners], dtype=np.int64)
        return ids + shift[which.reshape(ids.shape)] if ids.size else ids

    def claim(self, blocks: list[int]) -> None:
        for b in blocks:
            self.own(b)
            self.fill(b)

    # -- statements

    def statements(self, items: list[int], last: bool) -> None:
        """All terms of statements of one block; `last`: in the adjoint, the block ends here."""
        b = self.local.items[items[0]].out.block
        if not self.forward and self.states[b] is None:
            return
        terms: list[Term] = []
        scans = []
        for i in items:
            item = self.local.items[i]
            out, shape = item.out, item.shape
            if 0 in shape:
                continue
            scans_too = item.op.kind == "scan"
            for k, ref in enumerate(item.operands):
                what = coefficient(item, k)
                if what is None or (self.forward and not self._carries(ref)):
                    continue
                if scans_too:
                    scans.append(item)
                    if not self.forward:
                        self.scan(item)
                if type(ref) is Indexed:
                    self.indexed(i, k, what, ref, out, shape)
                elif self.forward:
                    terms.append(Term(i, k, what, out, ref, shape))
                else:
                    terms.append(Term(i, k, what, ref, out, shape))
        if len(items) > 1:
            terms = joined(terms, self.local.items, self.blocks)
        for n, term in enumerate(terms):
            self.term(term, last and n == len(terms) - 1)
        if self.forward:
            for item in scans:
                self.scan(item)

    def scan(self, item: Statement) -> None:
        b = item.out.block
        self.claim([b])
        at = self.states[b].at + item.out.offset
        self.ops.append(Scan(at, item.out.strides, item.shape, not self.forward))
        self.moved += prod(item.shape)

    def _carries(self, ref: Any) -> bool:
        """Whether a tangent has come to an operand at all."""
        if type(ref) is Affine:
            return self.states[ref.block] is not None
        return any(self.states[b] is not None for b in self.blocks_of(ref.ids))

    def indexed(self, i: int, k: int, what: Any, ref: Indexed, out: Affine, shape: tuple[int, ...]) -> None:
        touched = self.blocks_of(ref.ids)
        scale = what if isinstance(what, float) else 1.0
        item = -1 if isinstance(what, float) else i
        self.claim(touched)
        self.claim([out.block])
        at = self.states[out.block].at + out.offset
        places = self.places(ref.ids)
        if self.forward:
            self.ops.append(Gather(at, out.strides, places, shape, scale, item, k))
        else:
            self.ops.append(Scatter(places, at, out.strides, shape, scale, item, k))
        self.moved += prod(shape)

    def run(self, i: int, item: ScalarRun) -> None:
        b = item.block
        if not len(item.op) or (not self.forward and self.states[b] is None):
            return
        blocks = self.blocks_of_run(item)
        self.claim(blocks[:-1])
        if self.forward:
            self.own(b).gaps = []  # every line is written before it is read
        else:
            self.claim([b])
        starts = np.array([self.blocks[k].first for k in blocks])
        self.ops.append(Lines(i, starts, np.array([self.states[k].at for k in blocks]) - starts))
        self.moved += 2 * len(item.op)

    def blocks_of_run(self, item: ScalarRun) -> list[int]:
        """The blocks that a run reads, and its own."""
        read = scalar.blocks_read(item, self.index.firsts, self.number[item.block])
        return [*(self.index.full[k] for k in read), item.block]

    def halo(self, exchange: Exchange) -> None:
        if not exchange.sends and not exchange.recvs:
            return
        for _, ids in (*exchange.sends, *exchange.recvs):
            self.claim(self.blocks_of(ids))
        self.ops.append(Halo(Exchange(sends=[(r, self.places(ids)) for r, ids in exchange.sends],
                                      recvs=[(r, self.places(ids)) for r, ids in exchange.recvs])))

    # -- directions

    def events(self) -> list[tuple[str, Any]]:
        """Items and exchanges in forward order: ("run", i), ("statements", [i, ...] of one block) or ("halo", step)."""
        order: list[tuple[str, Any]] = []
        for s, step in enumerate(self.local.steps):
            previous = -1
            for i in range(step.start, step.stop):
                item = self.local.items[i]
                if type(item) is ScalarRun:
                    order.append(("run", i))
                    previous = -1
                    continue
                b = item.out.block
                alone = item.op.kind == "scan" or any(b in self._read(ref) for ref in item.operands)
                if b == previous and not alone:
                    order[-1][1].append(i)
                else:
                    order.append(("statements", [i]))
                previous = -1 if alone else b
            order.append(("halo", s))
        return order

    def _read(self, ref: Any) -> list[int]:
        """Blocks that an operand reads."""
        if type(ref) is Affine:
            return [ref.block]
        return [] if type(ref) is Const else self.blocks_of(ref.ids)

    def _exchanged(self, step: int) -> list[int]:
        exchange = self.local.steps[step].exchange
        return [b for _, ids in (*exchange.sends, *exchange.recvs) for b in self.blocks_of(ids)]

    def adjoint(self) -> Plan:
        local, events = self.local, self.events()
        first = [-1] * len(self.blocks)  # event that first defines (part of) a block: its adjoint ends there
        for e in range(len(events) - 1, -1, -1):
            for b in self._defined(*events[e]):
                first[b] = e
        for b in self.blocks_of(local.inputs.ids):
            first[b] = -1
        self.seed(local.outputs.ids)
        for e in range(len(events) - 1, -1, -1):
            kind, what = events[e]
            if kind == "halo":
                self.halo(local.steps[what].exchange)
            elif kind == "run":
                self.run(what, local.items[what])
            else:
                self.statements(what, first[local.items[what[0]].out.block] == e)
            for b in self._defined(kind, what):
                if first[b] == e:
                    self.drop(b)
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
        for e, (kind, what) in enumerate(events):
            if kind == "halo":
                self.halo(local.steps[what].exchange)
            elif kind == "run":
                self.run(what, local.items[what])
            else:
                self.statements(what, False)
            for b in ends[e]:
                self.drop(b)
        return self.plan(local.outputs.ids)

    def _defined(self, kind: str, what: Any) -> list[int]:
        """Blocks that (in the tape's direction) get values in an event."""
        if kind == "halo":
            return [b for _, ids in self.local.steps[what].exchange.recvs for b in self.blocks_of(ids)]
        item = self.local.items[what if kind == "run" else what[0]]
        return [item.block if kind == "run" else item.out.block]

    def _used(self, kind: str, what: Any) -> list[int]:
        """Blocks that an event reads or writes."""
        if kind == "halo":
            return self._exchanged(what)
        if kind == "run":
            item = self.local.items[what]
            return self.blocks_of_run(item) if len(item.op) else [item.block]
        used = []
        for item in (self.local.items[i] for i in what):
            used.append(item.out.block)
            for ref in item.operands:
                used += self._read(ref)
        return used

    def seed(self, ids: np.ndarray) -> None:
        """The right-hand side enters at these nodes (a node may come up twice: an array returned twice)."""
        for b, where, places in self.index.pieces(ids):
            offset = self.own(b).at
            write = isinstance(places, slice) and self.touch(b, (places.start, places.stop))
            if not write:
                self.fill(b)
            self.ops.append(Seed(where, _shifted(places, offset), not write))

    def plan(self, ids: np.ndarray) -> Plan:
        results = self.results(ids)
        by_rows = self.scalar or self.moved < LONG * len(self.ops)
        return Plan(self.ops, results, self.pool.size, self.moved, by_rows)

    def results(self, ids: np.ndarray) -> list[Result]:
        """The solution is read off at these nodes."""
        results = []
        for b, where, places in self.index.pieces(ids):
            state = self.fill(b)
            results.append(Result(where, None, 0.0) if state is None else
                           Result(where, _shifted(places, state.at), state.scale))
        return results


def _shifted(places: slice | np.ndarray, offset: int) -> slice | np.ndarray:
    return slice(places.start + offset, places.stop + offset) if isinstance(places, slice) else places + offset
