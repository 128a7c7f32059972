"""The tape walked through once, without a plan: what a single derivative of a program on small arrays wants.

    (I - L) ydot = xdot        tangent    ydot[result] = sum_k p_k ydot[operand k], first statement first
    (I - L)^T lam = ybar       adjoint    lam[operand k] += p_k lam[result], last statement first

Nothing is eliminated, composed or written out: a statement is a NumPy call or two an operand, on one vector of all
nodes.  On arrays of a few elements planning a sweep takes several such calls a statement, and assembling as many, which
further solves at the point win back and a single one does not.  Statements whose operands lie in C order, numbers that
are spread over arrays, and short scalar runs are computed here; all others by `structured`, as are several right-hand
sides and a rank's share of a tape.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from mpi4py import MPI

from ..errors import InputError
from ..evaluate import FEW_LINES, Point
from ..flags import quiet
from ..machine import Machine
from ..ops import MULTIPLY, OPS
from ..partials import Other, Partials, coefficient
from ..partition.local import LocalTape
from ..products import Failure
from ..strided import as_slice, core_view, with_columns
from ..tape import Affine, Const, Indexed, Item, ScalarRun, Statement, c_strides
from ..tracing import memory
from .adding import add, plus
from .adjoints import Alive, Whole
from .cost import Cost, Method, Work, equation_solve_amounts, equations_setup
from .curvature import curved, product
from .structured import BlockRows, StructuredSystem, segment

LARGE = 4096  # lines a statement from which on second derivatives had better be recorded, and computed tile by tile
NEAR = 1 << 18  # nodes whose vector stays in cache; of others it is fresh memory


def amounts(work: Work) -> dict[str, float]:
    """What a pass with one right-hand side takes of each rate of `Machine`."""
    return {"walk_call": 1, "walk_item": work.items, "walk_line": work.array_lines - work.sum_lines,
            "walk_sum_line": work.sum_lines, "walk_run_line": work.scalar_lines,
            "walk_far_node": max(work.nodes - NEAR, 0)}


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """As many statements as there are, once a right-hand side."""
    if work.ranks > 1:
        return Cost.none("what it would save on several ranks was not measured")
    if not work.once:
        return Cost.none("for a single derivative at a single point, as dd.grad takes one; others follow here")
    seconds = columns * machine.seconds(amounts(work)) + equations_setup(work, machine)
    seconds += columns * machine.seconds(equation_solve_amounts(work))
    return Cost(seconds, 8.0 * work.nodes * min(columns, work.together), "no plan and no matrix, a call a statement")


class Walk:
    """Solves with the tape at a point; `tangent`, `adjoint` are collective on the communicator."""

    def __init__(self, local: LocalTape, point: Point, comm: MPI.Comm) -> None:
        self.local, self.comm = local, comm
        self._point, self._partials, self._failure = point, Partials(point), Failure()
        self._inputs, self._outputs = as_slice(local.inputs.ids), as_slice(local.outputs.ids)
        self._firsts = [block.first for block in local.blocks]
        self._system: StructuredSystem | None = None  # for what is not walked through here
        self.memory = 0

    def accuracy(self) -> str:
        """What is known of the solutions' error.  Local."""
        return "every path's product and sum is rounded once an operation, by theory: substitution, nothing measured"

    def multiply_in_order(self, forward: bool) -> bool:
        """Whether partials could still multiply in the order of the lines: they always do."""
        return False

    def refresh(self, point: Point) -> None:
        """Solve at another point of the same tape from now on."""
        self._point = point
        self._partials.refresh(point)
        if self._system is not None:
            self._system.refresh(point)

    def close(self) -> None:
        """Free the vectors."""
        if self._system is not None:
            self._system.close()
            self._system = None

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        """xdot (n_in,) or (n_in, m) at local.inputs -> ydot at local.outputs, (n_out,) or (n_out, m).  Collective."""
        seed = self._checked(xdot, len(self.local.inputs.ids), "tangent")
        if self._alone(seed):
            y = self._seeded(self._inputs, seed)
            self._pass(self._whole(y), True)
            return np.array(y[self._outputs])
        system = self._structured()
        y = np.zeros((system.n_own, *seed.shape[1:]))
        y[system.inputs.ids] = seed
        system.forward(y)
        return y[system.outputs.ids]

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        """ybar (n_out,) or (n_out, m) at local.outputs -> xbar at local.inputs, (n_in,) or (n_in, m).  Collective."""
        seed = self._checked(ybar, len(self.local.outputs.ids), "adjoint")
        if self._alone(seed):
            if all(map(_by_blocks, self.local.items)):
                alive = Alive(self._point.values.index)
                alive.add(self.local.outputs.ids, seed)
                self._pass(alive, False)
                return alive.gathered(self.local.inputs.ids)
            lam = self._seeded(self._outputs, seed)
            self._pass(self._whole(lam), False)
            return np.array(lam[self._inputs])
        system = self._structured()
        lam = np.zeros((system.n_own, *seed.shape[1:]))
        np.add.at(lam, system.outputs.ids, seed)
        system.backward(lam)
        return lam[system.inputs.ids]

    def second(self, xdot: np.ndarray, ybar: np.ndarray) -> np.ndarray | None:
        """How the adjoint of ybar at local.inputs changes along xdot, H xdot of one result; None where that isn't
        computed here: several ranks, and programs that `curved` leaves out or whose arrays are large.
        """
        local, point = self.local, self._point
        lines = sum(prod(item.shape) for item in local.items if type(item) is Statement)
        if self.comm.size > 1 or local.own is not None or lines > LARGE * max(len(local.items), 1) or not curved(point):
            return None
        y = self._seeded(self._inputs, self._checked(xdot, len(local.inputs.ids), "tangent"))
        lam = self._seeded(self._outputs, self._checked(ybar, len(local.outputs.ids), "adjoint"))
        self._pass(self._whole(y), True)
        self._pass(self._whole(lam), False)
        w = product(point, y, lam)
        self._pass(self._whole(w), False)
        return np.array(w[self._inputs])

    def _seeded(self, places: slice | np.ndarray, seed: np.ndarray) -> np.ndarray:
        """A vector over all nodes, 0 but at the places of a seed, where one may come twice."""
        vector = memory.empty(self.local.n_nodes)
        vector.fill(0.0)
        if isinstance(places, slice):
            vector[places] = seed
        else:
            np.add.at(vector, places, seed)
        return vector

    def _checked(self, seed: np.ndarray, n: int, way: str) -> np.ndarray:
        seed = np.asarray(seed, dtype=np.float64)
        if seed.ndim not in (1, 2) or len(seed) != n:
            raise InputError(f"the {way}'s seed has shape {seed.shape}; this rank wants ({n},) or ({n}, m)")
        return seed

    def _alone(self, seed: np.ndarray) -> bool:
        return seed.ndim == 1 and self.comm.size == 1 and self.local.own is None

    def _structured(self) -> StructuredSystem:
        if self._system is None:
            self._system = StructuredSystem(self.local, self._point, self.comm)
        return self._system

    # -- one right-hand side, one rank

    def _whole(self, flat: np.ndarray) -> Whole:
        return Whole(flat, self._firsts)

    def _pass(self, W: Whole | Alive, forward: bool) -> None:
        """W <- (I - L)^-1 W or its transpose."""
        items = self.local.items
        first = None if isinstance(W, Whole) else _first_writers(items)
        self._failure.forget()
        with quiet():  # what is not finite is reported with file and line, not as a warning
            for i in range(len(items)) if forward else range(len(items) - 1, -1, -1):
                item = items[i]
                if _by_blocks(item):
                    if type(item) is Statement:
                        self._statement(i, item, W, forward)
                    else:
                        self._lines(item, W, forward)
                elif type(item) is ScalarRun or 0 not in item.shape:
                    assert isinstance(W, Whole)
                    rows = segment(self._partials, i, item, self.local.blocks, self._failure)
                    (rows.forward if forward else rows.backward)(W.flat)
                if first is not None and first[block := _block(item)] == i:
                    W.release(block)
        self.memory = max(self.memory, W.peak)
        if self.local.joint:
            self._failure.agree(self.comm, self.local.sites)

    def _statement(self, i: int, item: Statement, W: Whole | Alive, forward: bool) -> None:
        shape, (block, offset, strides) = item.shape, item.out
        n, result = prod(shape), W.known(block)
        if not n or result is None:
            return
        flat, start = result[0], result[1] + offset
        dense = strides == c_strides(shape)
        rows = flat[start : start + n] if dense else core_view(flat, start, shape, strides)
        for k, ref in enumerate(item.operands):
            what = coefficient(item, k)
            if what is None:
                continue
            if type(ref) is not Affine:
                self._listed(i, item, k, rows.reshape(shape) if dense else rows, W, forward)
                continue
            if dense:
                p = self._flat(i, item, k, what, n)
                if p is not None and ref.strides == strides:
                    if not forward and self.local.blocks[ref.block].size == n:
                        fresh = W.begun(ref.block)
                        if fresh is not None:
                            np.multiply(p, rows, out=fresh)
                            continue
                    vector, at = W.at(ref.block)
                    near = vector[at + ref.offset : at + ref.offset + n]
                    if forward:
                        plus(rows, near, p)
                    else:
                        plus(near, rows, p)
                    continue
                if p is not None and not any(ref.strides):  # a number, spread over the result
                    vector, at = W.at(ref.block)
                    if forward:
                        rows += p * vector[at + ref.offset]
                    else:
                        vector[at + ref.offset] += rows @ p if isinstance(p, np.ndarray) else p * rows.sum()
                    continue
            vector, at = W.at(ref.block)
            view = core_view(vector, at + ref.offset, shape, ref.strides)
            given = self._partials.array(i, k) if not isinstance(what, float) else what
            if isinstance(given, np.ndarray):
                given = with_columns(given, shape, False)
            else:
                given = float(given)
            here = rows.reshape(shape) if dense else rows
            if forward:
                add(here, view, given, shape, strides)
            else:
                add(view, here, given, shape, ref.strides)

    def _flat(self, i: int, item: Statement, k: int, what: Any, n: int) -> Any:
        """The partial as a float or a vector over a result in C order; None where it is neither at once."""
        if type(what) is float:
            return what
        op, operands = item.op, item.operands
        if type(what) is Other:
            return self._value(operands[what.index], item, n)
        if op.kind == "elementwise" and i not in self._point.values.aside:
            reads, x = op.reads[k], [None] * op.arity
            for j in reads:
                if j >= 0:
                    x[j] = self._value(operands[j], item, n)
                    if x[j] is None:
                        break
            else:
                p = what.function(self._value(item.out, item, n) if -1 in reads else None, *x)
                if not isinstance(p, np.ndarray):
                    return float(p)
                if p.shape == (n,):
                    return p
        p = self._partials.array(i, k)
        if not isinstance(p, np.ndarray):
            return float(p)
        return p.reshape(-1) if p.size == n else float(p.reshape(-1)[0]) if p.size == 1 else None

    def _value(self, ref: Any, item: Statement, n: int) -> Any:
        """The values of an operand of a result in C order, as a vector or a number; None where that takes a copy."""
        if type(ref) is Affine:
            values = self._point.values.block(ref.block)
            if ref.strides == item.out.strides:
                return values[ref.offset : ref.offset + n]
            return None if any(ref.strides) else values[ref.offset]
        if type(ref) is Const:
            value = self._point.values.read(ref, item.shape)
            if not isinstance(value, np.ndarray):
                return np.float64(value)
            if value.size == n and value.flags.c_contiguous:
                return value.reshape(-1)
        return None

    def _listed(self, i: int, item: Statement, k: int, rows: np.ndarray, W: Whole | Alive, forward: bool) -> None:
        """Operand k, whose nodes are listed."""
        if isinstance(W, Whole):
            BlockRows(self._partials, i, item, self.local.blocks).of_operand(k, W.flat, forward)
            return
        ref = item.operands[k]
        assert type(ref) is Indexed and not forward
        p = with_columns(np.asarray(self._partials.array(i, k), dtype=np.float64), item.shape, False)
        W.add(ref.ids.reshape(-1), np.broadcast_to(p * rows, item.shape).reshape(-1))

    def _lines(self, run: ScalarRun, W: Whole | Alive, forward: bool) -> None:
        """A few scalar lines, one by one."""
        result = W.known(run.block)
        if result is None:
            return
        firsts = self._firsts
        values = self._point.values
        own, first, at, const = result[0], firsts[run.block], values.at, values.numbers(run.const)
        start = result[1] - first

        def value(j: int) -> np.float64:
            return at(j) if j >= 0 else np.float64(const[-1 - j])

        codes, ids = run.op.tolist(), list(zip(run.a.tolist(), run.b.tolist()))
        for i in range(len(codes)) if forward else range(len(codes) - 1, -1, -1):
            op, x = OPS[codes[i]], ids[i]
            arity = op.arity
            read: list[Any] | None = None
            for k in range(arity):
                j = x[k]
                rule = op.partials[k]
                if j < 0 or rule is None:
                    continue
                if not op.reads[k]:
                    p = rule(None, *[None] * arity)
                elif op is MULTIPLY:
                    p = value(x[1 - k])
                else:
                    if read is None:
                        read = [value(first + i), *[value(m) for m in x[:arity]]]
                    p = rule(*read)
                if j >= first:
                    vector, place = own, start + j
                else:
                    block = bisect_right(firsts, j) - 1
                    vector, begin = W.at(block)
                    place = begin + j - firsts[block]
                if forward:
                    own[start + first + i] += p * vector[place]
                else:
                    vector[place] += p * own[start + first + i]


def _block(item: Item) -> int:
    return item.block if isinstance(item, ScalarRun) else item.out.block


def _first_writers(items: Sequence[Item]) -> dict[int, int]:
    """By block, the first of the items that write to it."""
    return {_block(items[i]): i for i in range(len(items) - 1, -1, -1)}


def _by_blocks(item: Item) -> bool:
    """Whether the item is computed here, its operands one by one."""
    return item.op.kind != "scan" if type(item) is Statement else type(item) is ScalarRun and len(item.op) <= FEW_LINES


METHOD = Method("walk", cost, Walk, assembled=False, ends="when the pass is over")
