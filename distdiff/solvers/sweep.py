"""Structured substitution: both triangular solves straight on the tape, nothing assembled.

    (I - L) ydot = xdot        tangent    ydot[result] = sum_k p_k ydot[operand k], first statement first
    (I - L)^T lam = ybar       adjoint    lam[operand k] += p_k lam[result], last statement first

The tape is planned once a direction (`sweep_plan`): what remains is a list of array operations on one workspace.  Where
operands are affine no index is read, partials are taken by reference, and all right-hand sides go through together.
Over several ranks the operations of a superstep alternate with halo exchanges.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby
from math import prod
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from ..cancellation import Watch, watch_of
from ..channels import as_ever, make_room
from ..errors import InputError
from ..evaluate import Point
from ..flags import quiet
from ..kernels import overlap, stream
from ..kernels.copies import Zeros
from ..kernels.sequence import Passes
from ..machine import Machine
from ..node import idle
from ..partials import Partials, by_reference, coefficient
from ..partition.local import LocalTape, Spot
from ..products import Failure, Place, Products, add_adjoint, add_tangent
from ..strided import accumulate, accumulate_overlapping, contraction, core_view, progressions, with_columns
from ..tape import Affine
from ..tracing import memory
from . import sweep_ops as ops
from . import sweep_runs
from .cost import Cost, Method, Work, equations_seconds, equations_setup, latency
from .sweep_plan import plan_adjoint, plan_tangent
from .sweep_table import Memory, Program, Programs

CACHE = 16 << 20  # bytes of workspace that many columns together may take before they go in several batches

Call = tuple[Callable[..., None], tuple[Any, ...]]


class _Bound(NamedTuple):
    """A plan's calls, bound to memory for one number of right-hand sides.

    exchanges : which of the calls start or finish messages
    ends : the calls by which each superstep but the last is over, as many on every rank
    woven : passes of the same calls, messages being waited for within those that follow them, where they are needed
    runs : the scalar runs among them
    """

    calls: list[Call]
    woven: Passes
    exchanges: set[int]
    ends: list[int]
    runs: sweep_runs.Bound


def plan_amounts(work: Work) -> dict[str, float]:
    """What planning takes of each rate of `Machine`, fresh memory included."""
    return {"sweep_call": 1, "plan_item": work.fresh, "plan_sum": work.sums - work.sum_copies, "plan_run": work.runs,
            "plan_copy": work.copies, "plan_sum_copy": work.sum_copies, "plan_far_line": work.far_lines,
            "plan_exchange": work.k_star - 1, "plan_ghost": work.halo, "plan_rule": work.rules,
            "plan_indexed": work.indexed}


def pass_amounts(work: Work) -> dict[str, float]:
    """What a planned pass of one right-hand side takes of each rate, messages left out."""
    return {"sweep_pass": 1, "sweep_item": work.fresh, "sweep_sum": work.sums, "sweep_run": work.runs,
            "sweep_line": work.near_lines, "sweep_far_line": work.far_lines, "sweep_copy_line": work.copy_lines,
            "sweep_rule": work.rules, "sweep_rule_line": work.rule_lines, "sweep_outer_line": work.outer_lines,
            "sweep_vast_term": work.vast_terms,
            "sweep_sum_line": work.sum_lines, "sweep_gather_line": work.gather_lines + work.far_reads,
            "sweep_run_line": work.scalar_lines, "sweep_strip": work.strips,
            "sweep_end": work.inputs + work.outputs}


def column_amounts(work: Work) -> dict[str, float]:
    """What every further right-hand side in a pass takes of each rate."""
    return {"sweep_item_next_column": work.items - work.sums, "sweep_sum_next_column": work.sums,
            "sweep_vast_term_next_column": work.vast_terms, "sweep_rule_line_next_column": work.rule_lines,
            "sweep_outer_line_next_column": work.outer_lines,
            "sweep_line_next_column": work.near_lines,
            "sweep_far_line_next_column": work.far_lines, "sweep_copy_line_next_column": work.copy_lines,
            "sweep_sum_line_next_column": work.sum_lines, "sweep_gather_line_next_column": work.gather_lines,
            "sweep_run_line_next_column": work.scalar_lines,
            "sweep_strip_next_column": work.strips, "sweep_end_next_column": work.inputs + work.outputs}


def batch_amounts(work: Work, columns: int) -> dict[str, float]:
    """What the first pass of several right-hand sides takes beyond any other: binding, and fresh memory."""
    if columns == 1:
        return {}
    return {"bind_item": work.items - work.copies + work.rules,
            "workspace_byte": min(8.0 * work.nodes * columns, CACHE)}


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """A sweep reads the tape in place; planning it is the only set-up."""
    passes = work.passes(columns)
    solves = passes * machine.seconds(pass_amounts(work)) + (columns - passes) * machine.seconds(column_amounts(work))
    first = 0.0 if work.bound else machine.seconds(batch_amounts(work, min(columns, work.together)))
    plan = 0.0 if work.planned else machine.seconds(plan_amounts(work))
    seconds = plan + first + work.waits * solves + latency(work, columns, machine)
    seconds += work.waits * (equations_setup(work, machine) + equations_seconds(work, columns, machine))  # in turn
    memory = min(8.0 * work.nodes * min(columns, work.together), CACHE + 8.0 * work.nodes)
    return Cost(seconds, memory, "reads the tape's structure in place, nothing is assembled")


class Sweep:
    """Solves with the tape at a point; `tangent`, `adjoint` are collective on the communicator.

    keep: store the partials that rules compute (not those by reference), for many solves at one point.
    """

    def __init__(self, local: LocalTape, point: Point, comm: MPI.Comm, keep: bool = False) -> None:
        self.local, self.comm = local, comm
        self._point, self._partials, self._storage, self._keep = point, Partials(point), point.values.storage, keep
        self._plans: dict[str, ops.Plan] = {}
        self._programs: dict[str, dict[tuple[int, ...], _Bound]] = {}  # way: calls, by the columns they are for
        self._memories: dict[str, Memory] = {}  # way: where coefficients lie, for all columns alike
        self._workspace = np.empty(0)
        self._coefficients: dict[str, np.ndarray] = {}  # way: partials that rules compute
        self._fresh: set[tuple[str, int]] = set()  # those, by place, that hold this point's values
        self._in_order: set[bool] = set()  # directions in which composed coefficients overflow at this point
        self._seed: Any = None
        self._failure = Failure()  # of a joint statement's rule
        self._runs = sweep_runs.Runs(local)

    @property
    def memory(self) -> int:
        """Bytes held for solves: workspace, stored partials, lines written out, places in the plans and messages."""
        parts = [part for plan in self._plans.values() for op in plan.operations for part in op]
        plans = sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
        plans += sum(e.nbytes for plan in self._plans.values() for e in plan.exchanges)  # lists as long as the places
        coefficients = sum(c.nbytes for c in self._coefficients.values())
        return self._workspace.nbytes + coefficients + self._runs.nbytes + plans

    def accuracy(self) -> str:
        """What is known of the solutions' error.  Local."""
        return "every path's product and sum is rounded once an operation, by theory: substitution, nothing measured"

    def counts(self) -> dict[str, ops.Counts]:
        """What a solve works on, for each direction solved in so far, and each way to multiply.  Collective."""
        found = {}
        for direction in sorted(self._plans):
            plan = self._plans[direction]
            kept, moved, stored = self.comm.allreduce(np.array([plan.kept, plan.moved, 8 * plan.stored])).tolist()
            found[direction] = ops.Counts(kept, moved / max(kept, 1), stored, moved)
        return found

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        """xdot (n_in,) or (n_in, m) at local.inputs -> ydot at local.outputs, (n_out,) or (n_out, m).  Collective."""
        return self._solve(True, xdot, len(self.local.inputs.ids), len(self.local.outputs.ids))

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        """ybar (n_out,) or (n_out, m) at local.outputs -> xbar at local.inputs, (n_in,) or (n_in, m).  Collective."""
        return self._solve(False, ybar, len(self.local.outputs.ids), len(self.local.inputs.ids))

    def refresh(self, point: Point) -> None:
        """Solve at another point of the same tape from now on."""
        if point.values.storage is not self._storage:
            self._programs.clear()  # their calls hold views of the old values
            self._memories.clear()
            self._storage = point.values.storage
        self._point = point
        self._fresh.clear()
        self._in_order.clear()
        self._partials.refresh(point)
        self._runs.forget()

    def close(self) -> None:
        """Free the workspace and the messages."""
        self._programs.clear()
        self._memories.clear()
        for plan in self._plans.values():
            for exchange in plan.exchanges:
                exchange.close()
        self._plans.clear()
        self._runs.forget()
        self._workspace, self._coefficients = np.empty(0), {}

    def multiply_in_order(self, forward: bool) -> bool:
        """From now on at this point, partials multiply vectors in the order of the lines, and never each other.

        Where a product of partials overflows that a small seed would have kept in range.  False: they did already.
        Called by all ranks.
        """
        if forward in self._in_order:
            return False
        self._in_order.add(forward)
        return True

    def _way(self, forward: bool) -> str:
        """The direction, and how coefficients are multiplied: what plans and their memory are kept by."""
        return ("tangent" if forward else "adjoint") + (", lines in order" if forward in self._in_order else "")

    def _solve(self, forward: bool, seed: np.ndarray, n_in: int, n_out: int) -> np.ndarray:
        seed, way = np.asarray(seed, dtype=np.float64), self._way(forward)
        if seed.ndim not in (1, 2) or len(seed) != n_in:
            raise InputError(f"the {way}'s seed has shape {seed.shape}; this rank wants ({n_in},) or ({n_in}, m)")
        plan = self._plans.get(way)
        if plan is None:
            make = plan_tangent if forward else plan_adjoint
            with memory.rare_collections():
                plan = self._plans[way] = make(self.local, self._keep, every=forward in self._in_order)
            self._coefficients[way] = np.empty(plan.stored)
        tail = seed.shape[1:]
        result = memory.empty(n_out * prod(tail)).reshape((n_out, *tail))
        if 0 in tail:
            return result
        if seed.ndim == 2 and not plan.by_rows and self.comm.size == 1:  # several ranks: rather fewer messages
            width = max(1, CACHE // (8 * max(plan.rows, 1)))
            if width < seed.shape[1]:
                for start in range(0, seed.shape[1], width):
                    part = slice(start, start + width)
                    result[:, part] = self._solve(forward, np.ascontiguousarray(seed[:, part]), n_in, n_out)
                return result
        W = self._view(plan.rows, tail, plan.by_rows)
        programs, watch = self._programs.setdefault(way, {}), watch_of(self.comm)
        if tail not in programs:
            make_room(programs, tail)  # in the order in which they were bound, as for the channels that the calls hold
            programs[tail] = self._bind(plan, W, forward)
        bound = programs[tail]
        bound.runs.begin(tail)
        self._seed = seed
        self._failure.forget()
        with quiet():  # what is not finite is reported with file and line, not as a warning
            if watch is not None:
                _run_watched(bound, watch)
            else:
                bound.woven(idle, not as_ever())
        self._seed = None
        if self.local.joint:
            self._failure.agree(self.comm, self.local.sites)
        for where, places in plan.results:
            result[where] = 0.0 if places is None else W[places]
        return result

    def _view(self, rows: int, tail: tuple[int, ...], by_rows: bool) -> np.ndarray:
        """The workspace as (rows,) or (rows, m), in C or (not by_rows) Fortran order; larger memory if need be."""
        size = rows * int(np.prod(tail, dtype=np.int64))
        if self._workspace.size < size:
            self._workspace = memory.empty(size)
            self._programs.clear()  # their calls hold views of the old workspace
        return self._workspace[:size].reshape((rows, *tail), order="C" if by_rows else "F")

    # -- from a plan to calls

    def _bind(self, plan: ops.Plan, W: np.ndarray, forward: bool) -> _Bound:
        way = self._way(forward)
        runs = sweep_runs.Bound(self._runs, way, self._point.values, forward)
        bind = {ops.Zero: self._zero, ops.Strided: self._strided, ops.Scatter: self._scatter, ops.Gather: self._gather,
                ops.Scan: self._scan, ops.Product: self._product, ops.Lines: runs.bind, ops.Seed: self._enter,
                ops.Partial: self._stored, ops.Start: partial(self._exchange, plan),
                ops.Finish: partial(self._exchange, plan)}
        if way not in self._memories:
            values, coefficients = self._point.values.block, self._coefficients[way]
            self._memories[way] = Memory(values, len(self.local.blocks), plan, coefficients)
        programs, calls = Programs(self._memories[way], W), list[Call]()
        exchanges: set[int] = set()
        ends: list[int] = []
        arriving: dict[int, overlap.Intervals] = {}  # by call that finishes messages: the rows that they write
        last = len(plan.exchanges) - 1
        for combinations, group in groupby(plan.operations, key=ops.combines):
            if combinations:
                calls.append((programs.add(list(group)), ()))
                continue
            for op in group:
                if isinstance(op, (ops.Start, ops.Finish)):
                    turn = op.step if forward else last - op.step
                    ends += [len(calls)] * (turn - len(ends))  # earlier ones had no messages for this rank
                    exchanges.add(len(calls))
                calls.append(bind[type(op)](op, W, forward))
                if isinstance(op, ops.Finish):
                    if overlap.pays(plan.exchanges[op.step].latency(self.comm)):
                        arriving[len(calls) - 1] = [each for places in op.places for _, part in progressions(places)
                                                    for each in overlap.intervals(part)]
                    ends.append(len(calls))
        ends += [len(calls)] * (last - len(ends))
        return _Bound(calls, Passes(_woven(calls, arriving)), exchanges, ends[:last], runs)

    def _zero(self, op: ops.Zero, W: np.ndarray, forward: bool) -> Call:
        return Zeros(W[op.start : op.stop]), ()

    def _enter(self, op: ops.Seed, W: np.ndarray, forward: bool) -> Call:
        def enter() -> None:
            values = self._seed[op.where]
            if not op.add:
                W[op.places] = values
            elif isinstance(op.places, slice):
                W[op.places] += values
            else:
                _scatter_add(op.places, values, W)
        return enter, ()

    def _stored(self, op: ops.Partial, W: np.ndarray, forward: bool) -> Call:
        """A partial into its place among the stored coefficients; with `keep` once a point."""
        way = self._way(forward)
        place = self._coefficients[way][op.place : op.place + prod(op.shape)].reshape(op.shape)

        def store() -> None:
            if (way, op.place) not in self._fresh:
                self._partials.write(op.item, op.k, place)
                if self._keep:
                    self._fresh.add((way, op.place))
        return store, ()

    def _partial(self, i: int, k: int) -> tuple[Callable[[], np.ndarray], np.ndarray | None]:
        """How to get a partial when it is wanted, and the array itself if it is a view that stays valid."""
        item = self.local.items[i]
        what = coefficient(item, k)
        if by_reference(what, item.operands):
            p = np.asarray(self._partials.array(i, k), dtype=np.float64)
            return (lambda: p), p
        array = self._partials.array
        return (lambda: np.asarray(array(i, k), dtype=np.float64)), None

    def _strided(self, op: ops.Strided, W: np.ndarray, forward: bool) -> Call:
        dst = core_view(W, op.dst, op.shape, op.dst_strides)
        src = core_view(W, op.src, op.shape, op.src_strides)
        if op.overlapping:
            add: Callable[..., None] = partial(accumulate_overlapping, strides=op.dst_strides)
        else:
            add = accumulate
        if op.item < 0:
            return add, (dst, src, 1.0, op.shape, op.scale, op.write)
        fetch, p = self._partial(op.item, op.k)
        if p is not None:
            p = with_columns(p, op.shape, W.ndim > 1)
            if dst.shape[: len(op.shape)] != op.shape and not op.overlapping and 0 not in op.shape:
                return contraction(dst, p, src, op.shape, op.scale, op.write), ()
            return add, (dst, src, p, op.shape, op.scale, op.write)

        def term() -> None:
            add(dst, src, with_columns(fetch(), op.shape, W.ndim > 1), op.shape, op.scale, op.write)
        return term, ()

    def _scatter(self, op: ops.Scatter, W: np.ndarray, forward: bool) -> Call:
        src = core_view(W, op.src, op.shape, op.src_strides)
        places = op.places.reshape(-1)
        full = (*op.shape, *W.shape[1:])
        fetch = self._partial(op.item, op.k)[0] if op.item >= 0 else None

        def scatter() -> None:
            values = src * op.scale
            if fetch is not None:
                values = values * with_columns(fetch(), op.shape, W.ndim > 1)
            _scatter_add(places, np.broadcast_to(values, full).reshape((len(places), *W.shape[1:])), W)
        return scatter, ()

    def _gather(self, op: ops.Gather, W: np.ndarray, forward: bool) -> Call:
        dst = core_view(W, op.dst, op.shape, op.dst_strides)
        fetch = self._partial(op.item, op.k)[0] if op.item >= 0 else None

        def gather() -> None:
            p = 1.0 if fetch is None else with_columns(fetch(), op.shape, W.ndim > 1)
            accumulate(dst, W[op.places], p, op.shape, op.scale)
        return gather, ()

    def _scan(self, op: ops.Scan, W: np.ndarray, forward: bool) -> Call:
        view = core_view(W, op.at, op.shape, op.strides)
        axis = len(op.shape) - 1
        if op.reverse:
            view = np.flip(view, axis)
        return _cumulate, (view, axis)

    def _product(self, op: ops.Product, W: np.ndarray, forward: bool) -> Call:
        item = self.local.items[op.item]
        out = core_view(W, op.out, item.out_shape, item.out.strides)
        places: list[Place] = [Affine(-1, place, item.operands[k].strides) if isinstance(place, int) else place
                               for k, place in enumerate(op.operands)]

        def product() -> None:
            with self._failure.caught(item, lambda: W.fill(np.nan)):
                products = Products(item, self._point.values)
                if forward:
                    add_tangent(products, W, places, out, 1.0, op.write)
                else:
                    add_adjoint(products, out, W, places, 1.0)
        return product, ()

    def _exchange(self, plan: ops.Plan, op: ops.Start | ops.Finish, W: np.ndarray, forward: bool) -> Call:
        exchange = plan.exchanges[op.step]
        make = exchange.starter if isinstance(op, ops.Start) else exchange.finisher
        spots: list[list[Spot]] = [[(where, W, part) for where, part in progressions(places)] for places in op.places]
        return make(self.comm, spots, W.shape[1:], back=not forward), ()


def _woven(calls: list[Call], arriving: dict[int, overlap.Intervals]) -> list[Call]:
    """Combinations that follow the end of an exchange begin before it (see `overlap`)."""
    woven: list[Call] = []
    for k, (function, arguments) in enumerate(calls):
        if k - 1 in arriving and isinstance(function, Program):
            woven[-1] = function.around, (woven[-1][0], arriving[k - 1])
        else:
            woven.append((function, arguments))
    return woven


def _run_watched(bound: _Bound, watch: Watch) -> None:
    """All calls, with a look after every superstep; once rank 0 has given up it does nothing but exchange."""
    begin = 0
    for turn, end in enumerate((*bound.ends, len(bound.calls))):
        for k in range(begin, end):
            function, arguments = bound.calls[k]
            if k in bound.exchanges:
                function(*arguments)
            elif watch.given_up():
                continue
            elif isinstance(function, Program):
                function.until(watch.given_up)
            else:
                function(*arguments)
        begin = end
        watch.look(last=turn == len(bound.ends))  # the same on all ranks, though some have nothing left to compute


def _scatter_add(places: np.ndarray, values: np.ndarray, W: np.ndarray) -> None:
    """W[places] += values, places may repeat."""
    if W.flags.c_contiguous:
        stream.scatter_add(places, values, W)
    else:
        for column, part in zip(W.T, values.T):
            stream.scatter_add(places, np.ascontiguousarray(part), column)


def _cumulate(view: np.ndarray, axis: int) -> None:
    np.cumsum(view, axis=axis, out=view)


METHOD = Method("sweep", cost, Sweep, assembled=False)
