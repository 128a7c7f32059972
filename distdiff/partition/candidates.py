"""Candidates are made here: owners by one partitioner or another, supersteps by the better rule, and their quality."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Reads, Survey
from ..graph.contractions import seconds_of
from ..machine import Machine
from ..tape import ScalarRun, Tape
from ..tracing.memory import give_back
from .axes import Axes
from .contiguous import Contiguous
from .growlocal import GrowLocal
from .layout import split
from .placement import COLUMNS, Partition, Scheduled
from .plan import Kinds, Plan
from .quality import Load, Traffic, measure
from .regroup import regroup
from .schedule import GROWN as AS_GROWN
from .schedule import RULES, Schedule
from .scotch import Scotch
from .streaming import Streaming

SCOTCH, LEVELS, GROWN = "pt-scotch", "levels", "growlocal"
ALONE = "rank 0 alone"
WHOLE_GRAPH: dict[str, type[Streaming]] = {SCOTCH: Scotch, GROWN: GrowLocal}
RUN_BY_RUN = "axes and stretches"
FEW = 0.01  # of the time, in scalar lines, up to which they are no reason for candidates of their own


def alone(tape: Tape, n_ranks: int, machine: Machine, everywhere: bool = False) -> Partition:
    """Everything on rank 0, or on every rank."""
    lines = [item.lines for item in tape.items if isinstance(item, ScalarRun)]
    runs, scalar = len(lines), sum(lines)
    calls, vectors, array = seconds_of(tape.items, machine)
    share = np.ones(n_ranks) if everywhere else np.eye(1, n_ranks)[0]
    each = machine.item * runs + calls + vectors + machine.run_line * scalar
    work = Load(1, n_ranks, np.flatnonzero(share), np.full(np.count_nonzero(share), each))
    quality = measure(share * (array + scalar), work, share * tape.n_nodes, Traffic.none(), machine,
                      share * len(tape.items), share * runs)
    return Partition(n_ranks, COLUMNS if everywhere else ALONE, None, 1, quality)


def make(tape: Tape, n_ranks: int, name: str, active: int, min_block: int, settings: dict[str, Any],
         rules: tuple[str, ...] = RULES, machine: Machine | None = None,
         kinds: Kinds | None = None, survey: Survey | None = None, share: bool = True) -> Partition:
    """The layout of that name, its supersteps by whichever of `rules` promises less.

    active: ranks that get anything.  settings: of `Axes`.  Other arguments as for `choose.partition`.
    """
    plan = Plan(tape, n_ranks, machine, kinds, survey)
    share = share and active == n_ranks
    runs = {item.block for item in tape.items if isinstance(item, ScalarRun)}
    if name == "contiguous":
        placers: tuple[Any, Any] = (Contiguous(plan),) * 2
    elif name == RUN_BY_RUN:
        placers = Axes(plan, min_block, active=active), Contiguous(plan)
    elif "streaming" in name or name in WHOLE_GRAPH:
        scalar = WHOLE_GRAPH.get(name, Streaming)
        placers = Axes(plan, min_block, active=active, **settings), scalar(plan, active) if runs else None
    else:  # no scalar lines worth a thought
        together = seconds_of_runs(tape, plan.machine) < FEW * seconds_of_arrays(tape, plan.machine) / active
        scalar = Contiguous(plan, 1 if together else active) if runs else None  # on one rank, time loops stay alike
        placers = Axes(plan, min_block, active=active, **settings), scalar
    for block in range(len(tape.blocks)):
        if not plan.settled(block, share):
            placers[block in runs].place(block)
    best: Scheduled | None = None
    for rule in (*rules, AS_GROWN) if name == GROWN else rules:
        found = Scheduled(plan, Schedule(plan, rule))
        if best is None or found.quality.seconds < best.quality.seconds:
            best = found
        if not found.apart:
            break
    assert best is not None
    best.restore()
    return Partition(n_ranks, name, plan, best.n_steps, best.quality, scheduled=best)


def level_by_level(tape: Tape, n_ranks: int, machine: Machine, survey: Survey, min_block: int,
                   most: float | None = None, active: int | None = None) -> Any:
    """Long scalar code regrouped, arrays cut along axes.  most: seconds it may take for anybody to want it; then None
    where it does not suit the program either.  active: ranks that get anything.
    """
    active = n_ranks if active is None else active
    found = regroup(tape, survey.reads, active, asked=most is None)
    if found is None:
        return None if most is not None else make(tape, n_ranks, "axes", n_ranks, min_block, {}, machine=machine,
                                                   survey=survey)
    work = found.work
    if most is not None and machine.run_line * work.max(axis=1).sum() + 2 * machine.message * len(work) > most:
        return None
    give_back()  # what was held a line
    regrouped = found.planned()
    plan = Plan(regrouped.tape, n_ranks, machine)
    plan.regrouped, plan.accumulators = regrouped, found.sums
    axes = Axes(plan, min_block, active=active)
    for block in range(len(plan.blocks)):
        run = regrouped.runs.get(block)
        if run is not None:
            plan.settle(block, run.rank, run.reads, run.step)
        elif not plan.settled(block, True):
            cuts = _by_readers(plan, survey.reads, block) if not plan.writers[block] else None
            if cuts is not None:
                plan.split(block, split((plan.blocks[block].size,), 0, cuts))
            else:
                axes.place(block)
    scheduled = Scheduled(plan, Schedule(plan, "soonest"))
    return Partition(n_ranks, LEVELS, plan, scheduled.n_steps, scheduled.quality, scheduled=scheduled)


def _by_readers(plan: Plan, reads: Reads, block: int) -> np.ndarray | None:
    """Cuts of an input's block as `Contiguous` makes them, its nodes with the ranks that read them first; None if
    statements read it, or no run does.  (Inputs stand before all runs, in the same blocks on both tapes.)
    """
    here = reads.exposed(block)
    if reads.touches[block] or here.start == here.stop:
        return None
    rank = np.maximum(plan.regrouped.rank_of(reads.single[here].begin), 0)
    if (np.diff(rank) < 0).any():
        return None
    (places, _), size = reads.read_of(block), plan.blocks[block].size
    ends = np.cumsum(np.bincount(rank, minlength=plan.n_ranks))
    return np.concatenate([[0], np.append(places, size)[ends[:-1]], [size]])


def seconds_of_arrays(tape: Tape, machine: Machine) -> float:
    """Of an evaluation and a solve on one rank."""
    return sum(seconds_of(tape.items, machine)[:2])


def seconds_of_runs(tape: Tape, machine: Machine) -> float:
    return machine.run_line * sum(item.lines for item in tape.items if isinstance(item, ScalarRun))


__all__ = ["ALONE", "FEW", "GROWN", "LEVELS", "RUN_BY_RUN", "SCOTCH", "alone", "level_by_level", "make",
           "seconds_of_arrays", "seconds_of_runs"]
