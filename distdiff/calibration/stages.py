"""One rank's rates: small programs run stage by stage through the very code whose cost the rates predict.

They are measured in the processor's time.  That leaves out the turns of others on the same core, but not what others
leave of its caches, so it is no measure either where this process does not have a core to itself.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI

from ..assembly import Assembly
from ..errors import DistdiffError
from ..graph.contractions import rates, vast
from ..implicit.forward import as_vector
from ..kernels.slots import MANY
from ..linearization import Linearization, linearize
from ..machine import Machine
from ..partition import partition
from ..partition.candidates import GROWN, SCOTCH
from ..partition.choose import default_min_block
from ..partition.scotch import available
from ..products import Products
from ..solvers import cost, method, sweep, walk
from ..solvers.kept import kept_by
from ..solvers.layouts import Judge, Use
from ..solvers.transfer import NONE, Block
from ..solvers.work import BATCH, count
from ..stages import Stages
from ..system import TriangularSystem
from ..tape import Joint, ScalarRun
from ..tracing import trace
from .fit import Sample
from .programs import equations, programs

ROUNDS = 5  # each stage of each program is timed so often, in turns with all others
LEAST, BUDGET = 3, 20.0  # ... or at least so often, once so many seconds are spent
SHARE = 0.8  # of the time, at least, this process has to have had a core
IRREGULAR = ("web",)  # programs for which anybody would ask a graph partitioner
SMALL = 20_000  # entries up to which a system is factored


def samples(stages: Stages) -> list[Sample]:
    """All stages of all programs, in turns; `stages` are told which program is measured.

    Raises `DistdiffError` after the first turn in which others had this process's core.
    """
    with stages("preparing programs to measure"):
        runs = [*(_Stages(name, f, x) for name, f, x in programs()),
                *(_Equations(name, f, x) for name, f, x in equations())]
    began = time.perf_counter()
    for k in range(ROUNDS + 1):  # the first one warms up
        if k > LEAST and time.perf_counter() - began > BUDGET:
            break
        if k <= 1:
            since = time.perf_counter(), time.process_time()
        for run in runs:
            with stages(f"measuring {run.name}"):
                run.round()
        if k:
            refuse_company(time.perf_counter() - since[0], time.process_time() - since[1])
    found = [sample for run in runs for sample in run.samples()]
    for run in runs:
        run.close()
    return found


def refuse_company(seconds: float, computed: float) -> None:
    """Raise `DistdiffError` where this process, which never waits, computed for less than SHARE of the time."""
    share = computed / max(seconds, 1e-12)
    if share < SHARE:
        raise DistdiffError(
            f"the machine is busy with something else: this process, which only computes, had a core for {share:.0%} "
            f"of the time ({SHARE:.0%} is the least), and what others leave of the caches changes what work takes. "
            "Nothing is kept; run this again when the machine is quiet, on no more ranks than it has cores")


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that this process computed for: what others on the machine take meanwhile is not the method's."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


class _Stages:
    """One program, evaluated on this rank alone, and the times of its stages."""

    def __init__(self, name: str, f: Callable[[Any], Any], x: np.ndarray) -> None:
        self.name, self.x, self.tape = name, x, trace(f, (x,)).tape
        self.lin: Linearization = linearize(f, x, comm=MPI.COMM_SELF, method="sweep")
        self.local, self.point = self.lin._at.local, self.lin._at.point
        self.work = count(self.local, MPI.COMM_SELF)
        self.times: dict[tuple[str, str], list[float]] = {}
        rng = np.random.default_rng(0)
        n, m = len(self.local.outputs.ids), len(self.local.inputs.ids)
        self.seeds = {"adjoint": (rng.standard_normal(n), rng.standard_normal((n, BATCH))),
                      "tangent": (rng.standard_normal(m), rng.standard_normal((m, BATCH)))}
        self.turn = 0

    def close(self) -> None:
        self.lin.close()

    def _note(self, stage: str, direction: str, seconds: float) -> None:
        self.times.setdefault((stage, direction), []).append(seconds)

    def round(self) -> None:
        self._sweeps()
        self._assembled()
        self._looking()
        self._again()

    def _sweeps(self) -> None:
        for direction, (one, many) in self.seeds.items():
            solver = sweep.Sweep(self.local, self.point, MPI.COMM_SELF)
            solve = getattr(solver, direction)
            first, _ = _timed(lambda solve=solve, one=one: solve(one))
            again = min(_timed(lambda solve=solve, one=one: solve(one))[0] for _ in range(2))
            batch, _ = _timed(lambda solve=solve, many=many: solve(many))
            columns = min(_timed(lambda solve=solve, many=many: solve(many))[0] for _ in range(2))
            self._note("planning a sweep", direction, first - again)
            self._note("a pass of a sweep", direction, again)
            self._note("a sweep's first batch", direction, batch - columns)
            self._note("a sweep's further columns", direction, (columns - again) / (BATCH - 1))
            solver.close()
            walked = min(_timed(self._walked(direction, one))[0] for _ in range(2))
            self._note("a walk", direction, walked)

    def _walked(self, direction: str, seed: np.ndarray) -> Callable[[], Any]:
        """A walk as it is taken, which is once: with partials that nobody has computed."""
        return lambda: getattr(walk.Walk(self.local, self.point, MPI.COMM_SELF), direction)(seed)

    def _assembled(self) -> None:
        seconds, assembly = _timed(lambda: Assembly(self.local, self.point, MPI.COMM_SELF, True, Stages()))
        system = assembly.system
        self.kept = kept_by(system.n_local, system.own.nnz, MPI.COMM_SELF)
        self._note("assembling", "", seconds)
        self._note("new values", "", _timed(lambda: assembly.refresh(self.point))[0])
        for name, limit in (("substitution", np.inf), ("krylov", 10 * SMALL), ("direct", SMALL)):
            if self.kept.nonzeros > limit:
                continue
            seconds, solver = _timed(lambda name=name: method(name).make(system, {}))
            self._note(f"{name}: set-up", "", seconds)
            for direction, (one, many) in self.seeds.items():
                solve = getattr(solver, direction)
                solve(one)
                again = min(_timed(lambda solve=solve, one=one: solve(one))[0] for _ in range(3))
                self._note(f"{name}: a solve", direction, again)
                if name == "substitution":
                    solve(many)
                    columns = min(_timed(lambda solve=solve, many=many: solve(many))[0] for _ in range(3))
                    self._note("substitution: further columns", direction, (columns - again) / (BATCH - 1))
            solver.close()
        self._little(system)
        assembly.close()

    def _little(self, system: TriangularSystem) -> None:
        """Solutions that are kept only as long as rows read them, where that is little."""
        block, nothing = Block(system), np.zeros((0, BATCH))
        inputs, outputs = np.unique(system.inputs.ids), np.unique(system.outputs.ids)
        for m in (MANY, BATCH):
            seeds = np.ones((len(inputs), m))
            if block.keeps_little(seeds) and block.has_few_slots:
                self._note("substitution: little kept", f"{m}", min(_timed(partial(
                    block.forward, nothing[:, :m], NONE, inputs, seeds, outputs))[0] for _ in range(3)))

    def _looking(self) -> None:
        """Making a layout on two ranks; of scalar code by supersteps that grow, and by a graph partitioner."""
        names = ["axes"] if self.work.array_lines else [GROWN]
        if self.name in IRREGULAR and available():
            names.append(SCOTCH)
        for name in names if len(self.times.get((f"looking: {names[0]}", ""), ())) <= LEAST else ():
            self._note(f"looking: {name}", "", _timed(lambda name=name: partition(
                self.tape, 2, name, depth=1, judge=Judge(self.tape, Use(), Machine())))[0])

    def _again(self) -> None:
        """An evaluation at another point."""
        taken = []
        for _ in range(3):
            self.turn += 1
            taken.append(_timed(lambda: self.lin.update(self.x * (1.0 + 1e-9 * self.turn)))[0])
        self._note("evaluating", "", min(taken))
        self.point = self.lin._at.point  # the old one's memory is this one's

    def samples(self) -> Iterator[Sample]:
        w = replace(self.work, kept_rows=self.kept.rows, kept_nonzeros=self.kept.nonzeros)
        entries = w.rows + w.entries
        amounts: dict[str, dict[str, float]] = {
            "planning a sweep": sweep.plan_amounts(w),
            "a pass of a sweep": sweep.pass_amounts(w),
            "a sweep's first batch": sweep.batch_amounts(w, BATCH),
            "a sweep's further columns": sweep.column_amounts(w),
            "a walk": walk.amounts(w),
            "assembling": cost.assembly_amounts(w),
            "substitution: set-up": {"substitution_call": 1, "substitution_row": w.rows},
            "substitution: a solve": cost.pass_amounts(w),
            "substitution: further columns": cost.column_amounts(w),
            "krylov: set-up": {"krylov_call": 1, "krylov_row": w.rows},
            "krylov: a solve": {"krylov_solve": 1, "krylov_entry": entries},
            "direct: set-up": {"direct_call": 1, "factor_entry": entries},
            "direct: a solve": {"direct_solve": 1, "direct_entry": entries},
            "evaluating": self._evaluated(),
            "new values": cost.refresh_amounts(w),
            f"looking: {GROWN}": {"grow_line": w.scalar_lines}, f"looking: {SCOTCH}": {"scotch_line": w.scalar_lines},
            "looking: axes": {"look_call": 1, "look_item": w.items - self._small, "look_small": self._small},
        }
        for (stage, columns), seconds in self.times.items():
            counted = amounts.get(stage) or cost.slot_amounts(w, 1, int(columns))
            yield Sample(stage, self.name, counted, [max(s, 1e-9) for s in seconds[1:]])

    def _evaluated(self) -> dict[str, float]:
        """Of an evaluation, by rates that are there and back."""
        found = Counter({"point_call": 1.0})
        for item in self.local.items:
            call, line = ("item", "run_line") if type(item) is ScalarRun else rates(item)
            found += Counter({call: 0.5, line: 0.5 * item.lines, "vast_line": 0.5 * item.lines * vast(item)})
        return dict(found)

    @property
    def _small(self) -> int:
        """Statements that no rank shares with another."""
        return sum(item.lines < default_min_block(2) for item in self.local.items)


class _Equations:
    """A program of equations, on this rank alone: their systems at a point and solves with these, and their rows in the
    assembled system."""

    def __init__(self, name: str, f: Callable[[Any], Any], x: np.ndarray) -> None:
        self.name = name
        self.lin: Linearization = linearize(f, x, comm=MPI.COMM_SELF, method="sweep")
        self.local, self.point = self.lin._at.local, self.lin._at.point
        self.work = count(self.local, MPI.COMM_SELF)
        self.parts = []
        for item in self.local.items:
            if type(item) is Joint and item.op.implicit:
                at = Products(item, self.point.values)
                self.parts.append((item.op.equation, np.ravel(at.y[0]), as_vector(at.x[1:])))
        self.times: dict[str, list[float]] = {}
        self.turn = 0

    def close(self) -> None:
        self.lin.close()

    def _note(self, stage: str, seconds: float) -> None:
        self.times.setdefault(stage, []).append(seconds)

    def round(self) -> None:
        self.turn += 1

        def move() -> None:
            for equation, y, x in self.parts:
                assert equation.at(y * (1.0 + 1e-9 * self.turn), x).rows is not None

        def solve(columns: int) -> float:
            seeds = [np.ones((len(y), columns)) for _, y, _ in self.parts]
            return min(_timed(lambda: [part[0].adjoint(seed) for part, seed in zip(self.parts, seeds)])[0]
                       for _ in range(2))

        self._note("an equation's system", _timed(move)[0])
        one, many = solve(1), solve(BATCH)
        self._note("an equation's solve", one)
        self._note("an equation's further columns", (many - one) / (BATCH - 1))
        seconds, assembly = _timed(lambda: Assembly(self.local, self.point, MPI.COMM_SELF, True, Stages()))
        self.kept = kept_by(assembly.system.n_local, assembly.system.own.nnz, MPI.COMM_SELF)
        self._note("assembling", seconds)
        seconds, solver = _timed(lambda: method("substitution").make(assembly.system, {}))
        self._note("substitution: set-up", seconds)
        solver.close()
        assembly.close()

    def samples(self) -> Iterator[Sample]:
        w = replace(self.work, kept_rows=self.kept.rows, kept_nonzeros=self.kept.nonzeros)
        amounts: dict[str, dict[str, float]] = {
            "an equation's system": cost.equation_amounts(w),
            "an equation's solve": cost.equation_solve_amounts(w),
            "an equation's further columns": cost.equation_column_amounts(w),
            "assembling": cost.assembly_amounts(w) | cost.equation_rows_amounts(w),
            "substitution: set-up": {"substitution_call": 1, "substitution_row": w.rows} | cost.component_amounts(w),
        }
        for stage, seconds in self.times.items():
            yield Sample(stage, self.name, amounts[stage], [max(s, 1e-9) for s in seconds[1:]])


__all__ = ["ROUNDS", "refuse_company", "samples"]
