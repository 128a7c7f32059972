"""Tapes made by hand and at random, and virtual ranks that run their LocalTapes in one process."""

from __future__ import annotations

import numpy as np
import pytest
import tape_oracle
from elementals import MatVec, Products
from hypothesis import strategies as st

from distdiff.ops import ADD, COPY, MULTIPLY, SUBTRACT
from distdiff.ops.table import BY_NAME
from distdiff.partition import LocalTape
from distdiff.solvers import sweep_plan
from distdiff.tape import (
    Affine,
    Const,
    Guard,
    Indexed,
    Joint,
    Leaf,
    ScalarRun,
    Statement,
    Tape,
    c_strides,
)

SIN, TANH, MAX, CUMSUM = (BY_NAME[name] for name in ("sin", "tanh", "max", "cumsum"))


class Array:
    """An array of nodes while a tape is written: a block seen through an affine view, or explicit ids."""

    def __init__(self, tape: Tape, view: np.ndarray, block: int | None) -> None:
        self.tape, self.view, self.block = tape, view, block  # view: ids, its strides tell the affine reference

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    def __getitem__(self, index) -> Array:
        view = self.view[index]
        return Array(self.tape, view, self.block)  # basic indexing only: views

    def broadcast(self, shape) -> Array:
        return Array(self.tape, np.broadcast_to(self.view, shape), self.block)

    def ref(self):
        if self.block is None:
            return Indexed(np.array(self.view))
        first = self.tape.blocks[self.block].first
        offset = int(self.view.ravel()[0]) - first if self.view.size else 0
        return Affine(self.block, offset, tuple(s // 8 if n > 1 else 0 for s, n in zip(self.view.strides, self.shape)))


class Writer:
    """Writes a tape statement by statement."""

    def __init__(self) -> None:
        self.tape = Tape()

    def fresh(self, shape) -> Array:
        block = self.tape.add_block(tuple(shape))
        first, size = self.tape.blocks[block].first, self.tape.blocks[block].size
        return Array(self.tape, np.arange(first, first + size, dtype=np.int64).reshape(shape), block)

    def input(self, *shape) -> Array:
        array = self.fresh(shape)
        self.tape.inputs.append(Leaf(tuple(shape), array.ref()))
        return array

    def apply(self, op, *operands, shape=None, out=None) -> Array:
        """op over the broadcast shape of the operands (Arrays, or constants)."""
        if shape is None:
            shape = np.broadcast_shapes(*(o.shape if isinstance(o, Array) else np.shape(o) for o in operands))
        result = self.fresh(shape) if out is None else out
        refs = []
        for o in operands:
            if isinstance(o, Array):
                refs.append(o.broadcast(shape).ref())
            else:
                refs.append(Const(np.broadcast_to(np.asarray(o, dtype=float), shape) if np.ndim(o) else float(o)))
        self.tape.items.append(Statement(op, tuple(shape), result.ref(), tuple(refs)))
        return result

    def reduce(self, op, axes, *operands) -> Array:
        """op summed (or selected) over axes of the broadcast shape."""
        shape = np.broadcast_shapes(*(o.shape for o in operands))
        kept = tuple(n for k, n in enumerate(shape) if k not in axes)
        result = self.fresh(kept)
        strides, inner = iter(c_strides(kept)), []
        for k in range(len(shape)):
            inner.append(0 if k in axes else next(strides))
        self.tape.items.append(Statement(op, tuple(shape), Affine(result.block, 0, tuple(inner)),
                                         tuple(o.broadcast(shape).ref() for o in operands)))
        return result

    def joint(self, op, loop, *operands) -> Array:
        """An elemental at every index of the loop axes; all its results along the last axis."""
        result = self.fresh((*loop, op.size))
        refs = [o.broadcast((*loop, *core)).ref() if isinstance(o, Array) else Const(o)
                for o, core in zip(operands, op.core_in)]
        self.tape.items.append(Joint(op, loop, result.ref(), tuple(refs)))
        return result

    def roll(self, a: Array, shift: int, axis: int = 0) -> Array:
        result, n = self.fresh(a.shape), a.shape[axis]
        shift %= max(n, 1)
        at = (slice(None),) * axis
        for to, frm in ((slice(shift, n), slice(0, n - shift)), (slice(0, shift), slice(n - shift, n))):
            if shift or to.start == 0 and to.stop == n or to.stop == n:
                target = result[at + (to,)]
                if target.view.size or not n:
                    self.apply(COPY, a[at + (frm,)], out=target, shape=target.shape)
        return result

    def run(self, lines) -> Array:
        """Scalar lines (op, a, b); operands are node ids, floats, or ("line", k) for line k of this run."""
        block = self.tape.add_block((len(lines),))
        first = self.tape.blocks[block].first
        const: list[float] = []

        def ref(o) -> int:
            if isinstance(o, tuple):
                return first + o[1]
            if isinstance(o, float):
                const.append(o)
                return -len(const)
            return int(o)

        op = np.array([line[0].code for line in lines], dtype=np.uint8)
        a = np.array([ref(line[1]) for line in lines], dtype=np.int64)
        b = np.array([ref(line[2]) if line[0].arity > 1 else -1 for line in lines], dtype=np.int64)
        self.tape.items.append(ScalarRun(block, op, a, b, np.array(const)))
        return Array(self.tape, np.arange(first, first + len(lines), dtype=np.int64), block)

    def output(self, a: Array) -> None:
        self.tape.outputs.append(Leaf(a.shape, a.ref()))


@st.composite
def tapes(draw, arrays: bool = True, runs: bool = True):
    """Random tapes: array statements of all kinds, scalar runs, and mixtures."""
    w = Writer()
    length = st.integers(0, 9)
    known: list[Array] = []
    for _ in range(draw(st.integers(1, 2))):
        known.append(w.input(*draw(st.lists(length, min_size=0, max_size=3))))
    kinds = (["unary", "binary", "roll", "sum", "contract", "select", "scan", "index", "slice", "reshape", "const",
              "joint"]
             if arrays else []) + (["run", "chain"] if runs else [])
    for _ in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from(kinds))
        a = draw(st.sampled_from(known))
        made = _draw_step(draw, w, kind, a, known)
        if made is not None:
            known.append(made)
    for a in draw(st.lists(st.sampled_from(known), min_size=1, max_size=3)):
        w.output(a)
    w.output(known[-1])
    if draw(st.booleans()):
        a = draw(st.sampled_from(known))
        w.tape.guards.append(Guard(a.ref(), np.zeros(a.shape), -1))
    return w.tape


def _draw_view(draw, a: Array) -> Array:
    index = []
    for n in a.shape:
        start, stop = sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))
        index.append(slice(start, stop, draw(st.sampled_from([1, 1, 2]))))
        if draw(st.integers(0, 4)) == 0:
            index[-1] = slice(None, None, -1)
    view = a[tuple(index)]
    if len(view.shape) > 1 and draw(st.integers(0, 3)) == 0:
        view = Array(view.tape, view.view.T, view.block)
    return view


def _draw_step(draw, w: Writer, kind: str, a: Array, known: list[Array]) -> Array | None:
    if kind == "unary":
        return w.apply(draw(st.sampled_from([SIN, TANH, COPY])), _draw_view(draw, a))
    if kind == "slice":
        return _draw_view(draw, a)
    if kind == "reshape":
        return a if not a.view.flags.c_contiguous else Array(a.tape, a.view.reshape(-1), a.block)
    if kind == "const":
        shape = a.shape
        values = np.linspace(-1.0, 1.0, max(int(np.prod(shape)), 1))[:int(np.prod(shape))].reshape(shape)
        return w.apply(MULTIPLY, a, values if draw(st.booleans()) else 0.5)
    if kind == "binary":
        b = draw(st.sampled_from(known))
        shape = list(a.shape)
        view = _draw_view(draw, b)
        try:
            np.broadcast_shapes(shape, view.shape)
        except ValueError:
            n = min(len(shape), len(b.shape))
            common = [min(x, y) for x, y in zip(shape[len(shape) - n:], b.shape[len(b.shape) - n:])]
            view = b[(0,) * (len(b.shape) - n) + tuple(slice(b.shape[len(b.shape) - n + k] - m, None)
                                                      for k, m in enumerate(common))] if 0 not in b.shape else None
            if view is None:
                return None
            a = a[(slice(None),) * (len(shape) - n) + tuple(slice(0, m) for m in common)]
        return w.apply(draw(st.sampled_from([ADD, SUBTRACT, MULTIPLY])), a, view)
    if kind == "roll":
        if not a.shape:
            return None
        axis = draw(st.integers(0, len(a.shape) - 1))
        return w.roll(a, draw(st.integers(-3, 3)), axis)
    if kind in ("sum", "select"):
        if not a.shape:
            return None
        axes = draw(st.sets(st.integers(0, len(a.shape) - 1), min_size=1))
        if any(a.shape[k] == 0 for k in axes):
            return None
        return w.reduce(COPY if kind == "sum" else MAX, axes, a)
    if kind == "contract":
        if not a.shape:
            return None
        axis = draw(st.integers(0, len(a.shape) - 1))
        if 0 in a.shape:
            return None
        weights = next((b for b in known if len(b.shape) <= 1 and b.shape in ((a.shape[-1],), ())), a)
        return w.reduce(MULTIPLY, {axis}, a, weights)
    if kind == "scan":
        return w.apply(CUMSUM, a) if a.shape else None
    if kind == "joint":
        if not a.shape or a.shape[-1] < 2:
            return None
        *loop, n = a.shape
        if draw(st.integers(0, 3)) == 0:
            a = Array(a.tape, np.array(a.view), None)  # node by node
        if draw(st.booleans()):
            return w.joint(Products(n), tuple(loop), a, np.broadcast_to(np.linspace(0.5, 1.0, n - 1), (*loop, n - 1)))
        return w.joint(MatVec(2, n), tuple(loop), a[..., None, :], a[..., ::-1])
    if kind == "index":
        flat = np.concatenate([b.view.ravel() for b in known])
        if not len(flat):
            return None
        n = draw(st.integers(0, 12))
        chosen = draw(st.lists(st.integers(0, len(flat) - 1), min_size=n, max_size=n))
        return w.apply(SIN, Array(w.tape, flat[np.array(chosen, dtype=np.int64)], None))
    flat = np.concatenate([b.view.ravel() for b in known])
    lines: list = []

    def operand():
        what = draw(st.integers(0, 3))
        if what == 0 or not (lines or len(flat)):
            return draw(st.sampled_from([0.5, -1.25, 2.0]))
        if what == 1 and len(flat) or not lines:
            return int(flat[draw(st.integers(0, len(flat) - 1))]) if len(flat) else 1.0
        return ("line", draw(st.integers(max(0, len(lines) - 4), len(lines) - 1)))

    if kind == "run":
        for _ in range(draw(st.integers(0, 12))):
            lines.append((draw(st.sampled_from([SIN, TANH, ADD, SUBTRACT, MULTIPLY])), operand(), operand()))
    else:
        for k in range(draw(st.integers(9, 20))):
            if k == 0:
                lines.append((MULTIPLY, operand(), operand()))
                link = 0
                continue
            term = operand()
            if term == ("line", link):
                term = 0.25
            if draw(st.booleans()):
                lines.append((TANH, term, 0.0))
                term = ("line", len(lines) - 1)
            op = draw(st.sampled_from([ADD, ADD, SUBTRACT]))
            pair = (("line", link), term) if draw(st.integers(0, 3)) else (term, ("line", link))
            lines.append((op, *pair))
            link = len(lines) - 1
        return w.run(lines)[link:]
    return w.run(lines)


# -- virtual ranks ------------------------------------------------------------


def as_tape(local: LocalTape, start: int, stop: int) -> Tape:
    """Some items of a LocalTape, to be read by the oracle (which knows no ghosts)."""
    return Tape(blocks=local.blocks, items=local.items[start:stop])


def run_ranks(locals_: list[LocalTape], x: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Values of all local nodes of every rank, and their local L's (dense), superstep by superstep."""
    y = [np.full(local.n_nodes, np.nan) for local in locals_]
    matrix = [np.zeros((local.n_nodes, local.n_nodes)) for local in locals_]
    for values, local in zip(y, locals_):
        values[local.inputs.ids] = x[local.inputs.positions]
    for s in range(len(locals_[0].steps)):
        for values, local, L in zip(y, locals_, matrix):
            step = local.steps[s]
            tape = as_tape(local, step.start, step.stop)
            for item in tape.items:
                with np.errstate(all="ignore"):
                    tape_oracle.interpret(
                        tape, item, values, lambda rows, cols, vals, L=L: np.add.at(L, (rows, cols), vals))
        exchange(locals_, s, y)
    return y, matrix


def exchange(locals_: list[LocalTape], s: int, y: list[np.ndarray], back: bool = False) -> None:
    """The exchange after superstep s between virtual ranks, or its transpose."""
    inbox = {(r, q): ids for r, local in enumerate(locals_) for q, ids in local.steps[s].exchange.recvs}
    outbox = {(q, r): ids for r, local in enumerate(locals_) for q, ids in local.steps[s].exchange.sends}
    assert inbox.keys() == outbox.keys(), "who sends and who receives do not agree"
    for (r, q), ids in inbox.items():
        sent = outbox[r, q]
        assert len(ids) == len(sent)
        if back:
            np.add.at(y[q], sent, y[r][ids])
            y[r][ids] = 0.0
        else:
            y[r][ids] = y[q][sent]


def tangent(locals_: list[LocalTape], matrix: list[np.ndarray], xdot: np.ndarray, n_outputs: int) -> np.ndarray:
    """J xdot by forward substitution in supersteps."""
    y = [np.zeros(local.n_nodes) for local in locals_]
    for values, local in zip(y, locals_):
        values[local.inputs.ids] = xdot[local.inputs.positions]
    for s in range(len(locals_[0].steps)):
        for values, local, L in zip(y, locals_, matrix):
            for i in rows_of(local, s):
                values[i] += L[i] @ values
        exchange(locals_, s, y)
    out = np.zeros(n_outputs)
    for values, local in zip(y, locals_):
        out[local.outputs.positions] = values[local.outputs.ids]
    return out


def adjoint(locals_: list[LocalTape], matrix: list[np.ndarray], ybar: np.ndarray, n_inputs: int) -> np.ndarray:
    """J^T ybar by backward substitution in supersteps."""
    lam = [np.zeros(local.n_nodes) for local in locals_]
    for values, local in zip(lam, locals_):
        np.add.at(values, local.outputs.ids, ybar[local.outputs.positions])
    for s in reversed(range(len(locals_[0].steps))):
        exchange(locals_, s, lam, back=True)
        for values, local, L in zip(lam, locals_, matrix):
            for i in reversed(rows_of(local, s)):
                values += L[i] * values[i]
    xbar = np.zeros(n_inputs)
    for values, local in zip(lam, locals_):
        xbar[local.inputs.positions] = values[local.inputs.ids]
    return xbar


def rows_of(local: LocalTape, s: int) -> list[int]:
    """Local ids that superstep s computes, ascending."""
    rows: list[np.ndarray] = [np.empty(0, dtype=np.int64)]
    for item in local.items[local.steps[s].start:local.steps[s].stop]:
        if isinstance(item, ScalarRun):
            block = local.blocks[item.block]
            rows.append(np.arange(block.first, block.first + block.size))
        else:
            rows.append(np.ravel(item.out.ids(local.blocks[item.out.block].first, item.out_shape)))
    return sorted(set(np.concatenate(rows).tolist()))


def looked_at(local) -> tuple[int, sweep_plan.Plan]:
    """How many statements the plan of an adjoint looks at, copies of a loop's periods being none; and the plan."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        statements = sweep_plan._Planner.statements
        patch.setattr(sweep_plan._Planner, "statements", lambda self, items: (
            found.append(len(items)), statements(self, items))[1])
        plan = sweep_plan.plan_adjoint(local)
    return sum(found), plan
