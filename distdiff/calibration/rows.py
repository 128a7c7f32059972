"""The rates of assembled systems over several ranks: until they have agreed on them, and beside rows in every pass.

What a method's own cost function predicts without the rates that are wanted is known; what it predicts beyond with one
of them is so much of that one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI

from ..assembly import Assembly
from ..comm import on_root
from ..evaluate import evaluate
from ..machine import Machine
from ..partition import distribute, partition
from ..solvers import method
from ..solvers.cost import assembly as assembly_seconds
from ..solvers.kept import kept_by
from ..solvers.pipeline import AT_ONCE
from ..solvers.work import BATCH, Work, count
from ..stages import Stages
from ..tracing import trace
from .fit import Fitted, Sample, fit
from .programs import programs
from .stages import ROUNDS

LAID_OUT = (("recurrence", "contiguous"), ("recurrence, results", "contiguous"), ("web", "contiguous"),
            ("matrix steps", "contiguous"), ("cells", "contiguous"), ("short stencil", "axes"), ("small plane", "axes"),
            ("long stencil", "axes"), ("neighbours", "axes"), ("various, near", "axes"), ("fit, near", "axes"))
NARROW = 200  # values that leave a rank, up to which interfaces are eliminated
SHALLOW = 10  # supersteps up to which a Krylov space is made of them
STEP = 1e-3  # of a rate, by which it is made larger to see what it does: widths of batches stay what they are
RATES = {"assembled rows on ranks": ("joining_call", "joining_value", "step", "step_pass"),
         "new values on ranks": ("joining_again",),
         "interfaces": ("interface_call", "interface_pass", "interface_entry"),
         "a pipeline": ("pipeline_task",), "krylov on ranks": ("krylov_iteration",)}


def assembled(comm: MPI.Comm, machine: Machine) -> list[Fitted]:
    """Every stage of every program, by the machine's other rates.  Collective."""
    found: dict[str, list[Sample]] = {stage: [] for stage in RATES}
    known = {name: (f, x) for name, f, x in programs()}
    for name, strategy in LAID_OUT:
        if name in known:
            for sample in _Assembled(comm, name, *known[name], strategy).samples(machine):
                found[sample.stage].append(sample)
    fits = [fit(stage, samples) for stage, samples in found.items() if samples]
    return [replace(each, unrest=1.0) for each in fits]  # Python's own work, whose unrest is none of the messages'


class _Assembled:
    """A program laid out over all ranks, and the times of what is done with its rows."""

    def __init__(self, comm: MPI.Comm, name: str, f: Callable[[Any], Any], x: np.ndarray, strategy: str) -> None:
        def laid() -> Any:
            tape = trace(f, (x,)).tape  # it is used up
            return tape, partition(tape, comm.size, strategy=strategy, depth=1)

        tape, made = on_root(comm, laid, share=False) or (None, None)
        self.comm, self.name = comm, f"{name}, {strategy}"
        self.local = distribute(tape, made, comm)
        self.point = evaluate(self.local, np.resize(x, len(self.local.inputs.ids)), comm)
        n = len(self.local.outputs.ids)
        self.seeds = {m: np.ones((n, m) if m > 1 else n) for m in (1, BATCH, BATCH * AT_ONCE)}
        self.times: dict[tuple[str, str, int], list[float]] = {}

    def samples(self, machine: Machine) -> Iterator[Sample]:
        """All stages, with what is known of them.  Collective."""
        size = count(self.local, self.comm)
        for _ in range(ROUNDS + 1):  # the first one warms up
            work = self._round(size)
        self.local.close()
        for (stage, name, m), seconds in self.times.items():
            cost = partial(_predicted, name, replace(work, together=m), m)
            known, amounts = _parts(cost, machine, RATES[stage])
            yield Sample(stage, f"{self.name}: {name}, {m}", amounts, self.comm.bcast(seconds[1:]), known)

    def _round(self, size: Work) -> Work:
        assembling, assembly = self._timed(lambda: Assembly(self.local, self.point, self.comm, True, Stages()))
        system = assembly.system
        rows, nonzeros = kept_by(system.n_local, system.own.nnz + system.ghost.nnz, self.comm)
        self._solves("assembled rows on ranks", "substitution", system, (1, BATCH), assembling)
        self._note("new values on ranks", "assembly", 1, self._timed(lambda: assembly.refresh(self.point))[0])
        if system.k_star > 1 and size.interface <= NARROW:
            self._solves("interfaces", "interface", system, (1, BATCH), 0.0)
        if system.k_star > 1:
            self._solves("a pipeline", "pipeline", system, (BATCH * AT_ONCE,))
        if system.k_star <= SHALLOW:
            self._solves("krylov on ranks", "krylov", system, (1,))
        assembly.close()
        return replace(size, kept_rows=rows, kept_nonzeros=nonzeros)

    def _solves(self, stage: str, name: str, system: Any, columns: tuple[int, ...],
                before: float | None = None) -> None:
        """A solver's first solve, with its set-up and what came before (None: of no interest), and further ones."""
        making, solver = self._timed(lambda: method(name).make(system, {}))
        first, _ = self._timed(partial(solver.adjoint, self.seeds[1]))
        if before is not None:
            self._note(stage, f"{name}, first", 1, before + making + first)
        for m in columns:
            solve = partial(solver.adjoint, self.seeds[m])
            self._timed(solve)
            self._note(stage, name, m, min(self._timed(solve)[0] for _ in range(3)))
        solver.close()

    def _timed(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Seconds from a common start until the last rank is done, and the result."""
        self.comm.Barrier()
        start = time.perf_counter()
        result = call()
        self.comm.Barrier()
        return time.perf_counter() - start, result

    def _note(self, stage: str, name: str, columns: int, seconds: float) -> None:
        self.times.setdefault((stage, name, columns), []).append(seconds)


def _predicted(name: str, work: Work, columns: int, machine: Machine) -> float:
    """Seconds by the method's own cost function: of new values, of a first solve with all that comes before it, or of
    another one with as many columns."""
    if name == "assembly":
        return assembly_seconds(replace(work, expanded=True), machine)
    name, _, first = name.partition(", ")
    cost = method(name).cost
    if first and name == "substitution":
        return cost(work, columns, machine).seconds or 0.0
    there = replace(work, assembled=True)
    once = cost(there, columns, machine).seconds or 0.0
    return once if first or name == "pipeline" else (cost(there, 2 * columns, machine).seconds or 0.0) - once


def _parts(predicted: Callable[[Machine], float], machine: Machine,
           rates: tuple[str, ...]) -> tuple[float, dict[str, float]]:
    """What is predicted without some rates, and how much of each of these is in it."""
    whole, amounts = predicted(machine), {}
    for name in rates:
        usual = getattr(Machine(), name)
        more = replace(machine, **{name: getattr(machine, name) + STEP * usual})
        amounts[name] = max(predicted(more) - whole, 0.0) / (STEP * usual)
    return max(whole - machine.seconds(amounts), 0.0), amounts


__all__ = ["assembled"]
