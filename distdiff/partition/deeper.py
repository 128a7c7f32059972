"""Halos as deep as pays: several supersteps of a layout as one (`deepen`), while what is promised falls."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from ..cancellation import alone
from .deepen import deepened
from .placement import Judge, Partition, Scheduled
from .plan import Extents
from .schedule import Schedule

SAME = 1.02  # predicted seconds within this factor of the best are no reason
BETWEEN = "between two layouts of its lines over the ranks"  # where a partition that is cancelled ends


def deeper(made: Partition, depth: int | None, judge: Judge) -> Partition | None:
    """The same plan with `depth` supersteps in one, or more and more of them as long as that pays; None if none do.

    GrowLocal (arXiv 2503.05408) grows supersteps likewise while work / (largest work + latency) improves.
    """
    plan, before = made.plan, made.scheduled
    assert plan is not None and before is not None
    machine = plan.machine
    floors = plan.where.steps[:len(plan.blocks)].max(axis=1)
    best: Partition | None = None
    watch = alone()
    grown, least = depth or 2, np.inf if depth else made.promise.seconds
    waiting = 2 * machine.message * made.n_steps + 16 * machine.byte * made.quality.halo  # more than there is to save
    if not depth and waiting < (SAME - 1) * made.quality.seconds:
        return None
    while 1 < grown < made.n_steps and made.quality.messages:
        if watch is not None:
            watch.look(BETWEEN)
        if not depth and _deeper_at_best(made, grown, judge) >= least:
            break
        schedule = Schedule(plan, "together", floors // grown)
        plan.extents = deepened(plan, schedule.free)
        if plan.extents is None:
            break
        found = Scheduled(plan, schedule)
        found.sent, found.sent_ids = before.sent, before.sent_ids  # extents don't say of which blocks: about the same
        grew = Partition(made.n_ranks, f"{made.name}, {grown} supersteps in one", plan, found.n_steps, found.quality,
                           scheduled=found, depth=grown)
        grew.promise = judge(grew)
        if grew.promise.seconds >= least:
            break
        best, least = grew, grew.promise.seconds
        if depth:
            break
        grown *= 2
    kept = best.scheduled if best is not None else before
    assert kept is not None
    kept.restore()
    return best


def _deeper_at_best(made: Partition, depth: int, judge: Judge) -> float:
    """Seconds promised if so many supersteps became one, without a row computed twice and nobody waiting."""
    plan, quality = made.plan, made.quality
    assert plan is not None and made.scheduled is not None
    steps, exchanging = ceil(quality.k_star / depth), quality.exchanging / depth
    fewer = replace(quality, k_star=steps, messages=ceil(quality.messages / depth), exchanging=exchanging, waits=1.0,
                    sent_messages=ceil(quality.sent_messages / depth),
                    seconds=(quality.seconds - quality.exchanging) / quality.waits + exchanging)
    made.scheduled.restore()
    cuts = plan.where.cuts[:len(plan.blocks)]
    plan.extents = Extents(cuts[:, :-1], cuts[:, 1:], np.zeros(0), [])
    promised = judge.imagined(Partition(made.n_ranks, made.name, plan, steps, fewer, scheduled=made.scheduled)).seconds
    plan.extents = None
    return promised


__all__ = ["BETWEEN", "SAME", "deeper"]
