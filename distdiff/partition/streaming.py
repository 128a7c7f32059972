"""Scalar lines placed in one pass, each where its operands are (linear deterministic greedy).

A link s_k = s_(k-1) +- t_k of a chain of additions goes with its term t_k, whatever the earlier links did: where the terms lie on
several ranks the chain becomes one partial sum a rank.
"""

from __future__ import annotations

import numpy as np

from ..kernels.graph import place_streaming
from ..tape import ScalarRun
from .chains import Chains, rewire
from .plan import Plan, RunShare

SLACK = 1.02  # lines a rank may take over the mean before others are preferred


class Streaming:
    """The partitioner; `place` places one scalar run."""

    def __init__(self, plan: Plan, active: int | None = None) -> None:
        self.plan = plan
        self.active = plan.n_ranks if active is None else active
        total = sum(item.lines for item in plan.tape.items if isinstance(item, ScalarRun))
        self.capacity = SLACK * total / self.active + 8
        self.load = np.zeros(self.active)
        self.last = 0
        self.chains = Chains(plan) if self.active > 1 else None

    def place(self, block: int) -> None:
        """Place the run that computes a block."""
        plan = self.plan
        (index,) = plan.writers[block]
        run = plan.tape.items[index]
        assert isinstance(run, ScalarRun)
        plan.add(index, run)
        if self.active == 1 or not len(run.op):
            plan.scatter(block, np.zeros(len(run.op), dtype=np.int32))
            return
        first = plan.blocks[block].first
        operands = [run.a, np.where(plan.binary(run), run.b, -1)]
        inside = [np.where(ref >= first, ref - first, -1) for ref in operands]
        near = []
        for ref in operands:
            owner = np.full(len(ref), -1, dtype=np.int32)
            outside = np.flatnonzero((ref >= 0) & (ref < first))
            owner[outside] = plan.where.find(ref[outside])[0]
            near.append(owner)
        links = self.chains.of(block, run, inside[0], inside[1]) if self.chains else None
        follow = links.term if links is not None else np.full(len(run.op), -1, dtype=np.int8)
        owner = place_streaming(inside[0], inside[1], near[0], near[1], follow, self.load, self.capacity, self.last)
        self.last = int(owner[-1])
        share: RunShare | None = None
        if links is not None:
            share, owner = rewire(plan, block, run, links, owner)
        plan.scatter(block, owner, share)


__all__ = ["Streaming"]
