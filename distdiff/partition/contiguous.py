"""The tape cut in trace order into stretches of equal work: a pipeline of ranks, with few values crossing each cut."""

from __future__ import annotations

import numpy as np

from ..tape import ScalarRun
from .layout import pieces, single, split
from .plan import Plan


class Contiguous:
    """The partitioner; node ids below bounds[r] belong to ranks below r."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        lines = np.array([max(1.0, sum(plan.tape.items[i].lines for i in writers)) if writers else 0.0
                          for writers in plan.writers])
        done = np.concatenate([[0.0], np.cumsum(lines)])
        nodes = np.concatenate([[b.first for b in plan.blocks], [plan.n_nodes]]).astype(float)
        wanted = np.arange(plan.n_ranks + 1) * done[-1] / plan.n_ranks
        self.bounds = np.interp(wanted, done, nodes) if len(plan.blocks) else np.zeros(plan.n_ranks + 1)
        self.bounds[0], self.bounds[-1] = 0, plan.n_nodes

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
