"""The tape cut in trace order into stretches of about equal work: a pipeline of ranks, few values crossing each cut.

Among the cuts near to the one that shares work equally, the one is taken that fewest values cross
(`graph.LiveWidth`).
"""

from __future__ import annotations

import numpy as np

from ..graph import LiveWidth, Reads
from ..tape import ScalarRun
from .layout import pieces, single, split
from .plan import Plan

UNEVEN = 0.05  # of a rank's work that a cut may be off the equal share, for fewer values to cross it


class Contiguous:
    """The partitioner; node ids below bounds[r] belong to ranks below r."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        lines = np.array([max(1.0, sum(plan.tape.items[i].lines for i in writers)) if writers else 0.0
                          for writers in plan.writers])
        done = np.concatenate([[0.0], np.cumsum(lines)])
        nodes = np.concatenate([[b.first for b in plan.blocks], [plan.n_nodes]]).astype(float)
        self.bounds = np.zeros(plan.n_ranks + 1)
        if plan.n_ranks > 1 and done[-1]:
            live, each = LiveWidth(Reads(plan.tape)), done[-1] / plan.n_ranks
            for rank in range(1, plan.n_ranks):
                ends = (rank - UNEVEN) * each, (rank + UNEVEN) * each
                low, high = np.interp(ends, done, nodes)
                self.bounds[rank] = live.narrowest(int(np.ceil(low)), max(int(high), int(np.ceil(low)))).position
        self.bounds[-1] = plan.n_nodes

    def place(self, block: int) -> None:
        """Lay a block out and hand on the items that write it."""
        plan = self.plan
        first, shape = plan.blocks[block]
        items = [plan.tape.items[i] for i in plan.writers[block]]
        if items and isinstance(items[0], ScalarRun):
            n = len(items[0].op)
            low, high = np.searchsorted(self.bounds[1:-1], [first, first + n - 1], side="right")
            if low == high:
                plan.settle(block, int(low))
                return
            owner = np.searchsorted(self.bounds[1:-1], np.arange(first, first + n), side="right").astype(np.int32)
            plan.add(plan.writers[block][0], items[0])
            plan.scatter(block, owner, plan.share(items[0], owner))
            return
        for index, item in zip(plan.writers[block], items):
            plan.add(index, item)
        middle = first + plan.blocks[block].size // 2
        home = int(np.searchsorted(self.bounds[1:-1], middle, side="right"))
        layout = single(shape, home, plan.n_ranks)
        if shape and items and items[0].shape:
            row = max(plan.blocks[block].size // max(shape[0], 1), 1)
            cuts = np.clip(np.ceil((self.bounds - first) / row), 0, shape[0]).astype(np.int64)
            cuts[0], cuts[-1] = 0, shape[0]
            trial = split(shape, 0, cuts)
            if all(item.op.kind != "scan" and pieces(item.out, item.out_shape, trial) is not None for item in items):
                layout = trial
        plan.split(block, layout)


__all__ = ["Contiguous"]
