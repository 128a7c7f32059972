"""Short scalar runs wait until somebody reads them.

A time loop's results are added up in scalar code, a line or two a step.  In the superstep in which that could be done
first, it would stand between the steps, which then are alike no more: plans that look at the first steps of a loop
alone (`solvers.sweep_period`) would look at all of them.  So it is done after the loop, where the program had it.
"""

from __future__ import annotations

import numpy as np

from ..tape import Affine, Indexed, ScalarRun
from .plan import Plan, binary

SHORT = 1024  # lines of a run that may wait


def delay(plan: Plan) -> bool:
    """Give short runs that one rank has the latest supersteps that their readers allow; whether any has to wait.

    Whoever may be on another rank than the run reads it a superstep later.
    """
    where, steps = plan.where, plan.where.steps
    owner = _owners(plan)
    if not owner or len(plan.whole) + len(plan.runs) == len(plan.tape.items):  # nothing between which they would stand
        return False
    made_of = {int(b): block for block in owner if block in plan.runs  # what rewiring adds has blocks of its own
               for b in np.unique(where.block_of(plan.runs[block].ids)) if b != block}
    last = max(int(steps[:where.count].max()), *(int(share.steps.max(initial=0)) for share in plan.runs.values()), 0)
    latest, waits, theirs = dict.fromkeys(owner, last), False, owner.keys() | made_of.keys()
    for block in reversed(plan.in_order):
        if block in owner:
            waits |= _wait(plan, block, owner[block], latest[block])
        elif plan.writing[block].alike >= 0 and theirs.isdisjoint(plan.writing[block].operands):
            continue
        for read in {made_of.get(b, b) for b in _blocks_read(plan, block)} & (owner.keys() - {block}):
            if block in plan.whole:
                rank = plan.whole[block].rank
                least = int(steps[block, rank]) - (rank != owner[read])
            elif block in plan.runs:
                least = int(plan.runs[block].steps.min(initial=last)) - (owner.get(block) != owner[read])
            else:
                least = int(steps[block].min()) - 1
            latest[read] = min(latest[read], least)
    return waits


def _owners(plan: Plan) -> dict[int, int]:
    """The blocks of short runs that one rank has, and the rank."""
    found = {block: whole.rank for block, whole in plan.whole.items() if plan.blocks[block].size <= SHORT}
    for block, share in plan.runs.items():
        if 0 < len(share.ids) <= SHORT and (share.owner == share.owner[0]).all():
            found[block] = int(share.owner[0])
    return found


def _wait(plan: Plan, block: int, rank: int, until: int) -> bool:
    """Have a run computed in a superstep; False if that is the one that it has."""
    where = plan.where
    if block in plan.whole:
        before, where.steps[block, rank] = int(where.steps[block, rank]), max(int(where.steps[block, rank]), until)
        return before < until
    share = plan.runs[block]
    if until < share.steps.max() or (share.steps == until).all():
        return False
    share.steps = np.full_like(share.steps, until)
    where.set_steps(block, share.ids, share.steps)
    return True


def _blocks_read(plan: Plan, block: int) -> set[int]:
    """Blocks that a block's tasks read, its own left out."""
    found: set[int] = set()
    ids: list[np.ndarray] = []
    if block in plan.whole:
        ids.append(plan.whole[block].ids)
    elif block in plan.runs:
        share = plan.runs[block]
        ids += [share.a[share.a >= 0], share.b[(share.b >= 0) & binary(share.op)]]
    else:
        for item, _ in plan.writing[block].tasks:
            assert not isinstance(item, ScalarRun)
            for ref in item.operands:
                if isinstance(ref, Affine):
                    found.add(ref.block)
                elif isinstance(ref, Indexed):
                    ids.append(np.ravel(ref.ids))
    for each in ids:
        found.update(np.unique(plan.where.block_of(each)).tolist())
    return found


__all__ = ["delay"]
