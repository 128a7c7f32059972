"""Scalar lines placed in one pass, each where its operands are (linear deterministic greedy).

A link s_k = s_(k-1) +- t_k of a chain of additions goes with its term t_k, whatever the earlier links did:
where the terms lie on several ranks the chain becomes one partial sum a rank.

Lines of one level can run at the same time, so every wide level is shared out by itself: a loop over samples that is
run again and again keeps all ranks busy each time, where equal loads in all could give each rank a time of its own.
"""

from __future__ import annotations

import numpy as np

from ..kernels.graph import place_streaming
from ..tape import ScalarRun
from .chains import Chains, Links, rewire
from .plan import Plan, binary

SLACK = 1.02  # lines a rank may take over the mean before others are preferred
WIDE = 4  # lines a rank from which a level is shared out by itself


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
        if self.active > 1 and total:
            self.levels = plan.survey.levels
            count = self.levels.count
            wide = count >= WIDE * self.active
            self.phase = np.where(wide, np.cumsum(wide) - 1, -1)
            self.room = SLACK * count[wide] / self.active
            self.crowd = np.zeros((len(self.room), self.active), dtype=np.int32)

    def place(self, block: int) -> None:
        """Place the run that computes a block."""
        plan = self.plan
        (index,) = plan.writers[block]
        run = plan.tape.items[index]
        assert isinstance(run, ScalarRun)
        plan.add(index, run)
        if self.active == 1 or not len(run.op):
            owner = np.zeros(len(run.op), dtype=np.int32)
            plan.scatter(block, owner, plan.share(run, owner))
            return
        inner = plan.inner(run)
        near = []
        for ref, inside, used in zip((run.a, run.b), inner, (True, binary(run.op))):
            owner = np.full(len(ref), -1, dtype=np.int32)
            outside = np.flatnonzero((ref >= 0) & (inside < 0) & used)
            owner[outside] = plan.where.find(ref[outside])[0]
            near.append(owner)
        links = self.chains.of(block, run, *inner) if self.chains else None
        owner = self._owners(block, run, inner, near, links)
        share = rewire(plan, block, run, links, owner) if links is not None else None
        plan.scatter(block, owner, share if share is not None else plan.share(run, owner))


    def _owners(self, block: int, run: ScalarRun, inner: tuple[np.ndarray, np.ndarray], near: list[np.ndarray],
                links: Links | None) -> np.ndarray:
        """The ranks of a run's lines; inner, near: operands' positions in the run, and owners of the others."""
        follow = links.term if links is not None else np.full(len(run.op), -1, dtype=np.int8)
        level, *_, uses, _ = self.levels.of_run(run)
        owner = place_streaming(*inner, *near, follow, self.load, self.capacity, self.last, self.phase[level],
                                uses >= self.active, self.crowd, self.room)
        self.last = int(owner[-1])
        return owner


__all__ = ["Streaming"]
