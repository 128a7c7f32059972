"""The tape cut in trace order into stretches of about equal work, few values crossing each cut.

Among the cuts near to the one that shares work equally, the one is taken that fewest values cross
(`graph.LiveWidth`).  Of a recurrence that makes a pipeline of ranks; a loop over samples, which add to sums, runs on
all ranks at once: the sums start anew in each stretch (`accumulators`), and inputs lie where they are read.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from ..tape import ScalarRun
from .accumulators import Accumulators
from .layout import pieces, single, split
from .plan import Plan

UNEVEN = 0.05  # of a rank's work that a cut may be off the equal share, for fewer values to cross it


class Contiguous:
    """The partitioner; node ids below bounds[r] belong to ranks below r, of which the first `active` get any."""

    def __init__(self, plan: Plan, active: int | None = None) -> None:
        self.plan = plan
        active = plan.n_ranks if active is None else active
        lines = np.array([max(1.0, sum(plan.tape.items[i].lines for i in writers)) if writers else 0.0
                          for writers in plan.writers])
        done = np.concatenate([[0.0], np.cumsum(lines)])
        nodes = np.concatenate([[b.first for b in plan.blocks], [plan.n_nodes]]).astype(float)
        self.bounds = np.zeros(plan.n_ranks + 1)
        self.reads = self.sums = None
        self.early: set[int] = set()
        if active > 1 and done[-1]:
            reads, each = plan.survey.reads, done[-1] / active
            live = plan.survey.live
            for rank in range(1, active):
                ends = (rank - UNEVEN) * each, (rank + UNEVEN) * each
                low, high = np.interp(ends, done, nodes)
                self.bounds[rank] = live.narrowest(int(np.ceil(low)), max(int(high), int(np.ceil(low)))).position
        self.bounds[active:] = plan.n_nodes
        self._cuts: list[float] = self.bounds[1:-1].tolist()
        if active > 1 and done[-1]:
            self.reads = reads
            self.sums = plan.accumulators = Accumulators(plan.tape, reads, self.bounds)
            self.early = self._early()

    def place(self, block: int) -> None:
        """Lay a block out and hand on the items that write it."""
        plan = self.plan
        first, shape = plan.blocks[block]
        items = [plan.tape.items[i] for i in plan.writers[block]]
        if items and isinstance(items[0], ScalarRun):
            n = items[0].lines
            changes = self.sums is not None and self.sums.touches(block)
            low, high = self._ranks([first, first + n - 1])
            if low == high and not changes and block not in self.early:
                plan.settle(block, int(low), self.reads.of_run[block] if self.reads is not None else None)
                return
            owner = self._ranks(np.arange(first, first + n)).astype(np.int32)
            plan.add(plan.writers[block][0], items[0])
            share = self.sums.rewire(plan, block, items[0], owner) if changes else plan.share(items[0], owner)
            plan.scatter(block, owner, share)
            return
        if not items and self.reads is not None and not self.reads.touches[block]:
            cuts = self._by_readers(block)
            if cuts is not None:
                plan.split(block, split((plan.blocks[block].size,), 0, cuts))
                return
        for index, item in zip(plan.writers[block], items):
            plan.add(index, item)
        middle = first + plan.blocks[block].size // 2
        home = bisect_right(self._cuts, middle)
        layout = single(shape, home, plan.n_ranks)
        within = bisect_right(self._cuts, first) == bisect_right(self._cuts, first + plan.blocks[block].size - 1)
        if shape and items and items[0].shape and not within:
            row = max(plan.blocks[block].size // max(shape[0], 1), 1)
            cuts = np.clip(np.ceil((self.bounds - first) / row), 0, shape[0]).astype(np.int64)
            cuts[0], cuts[-1] = 0, shape[0]
            trial = split(shape, 0, cuts)
            if all(item.op.kind != "scan" and pieces(item.out, item.out_shape, trial) is not None for item in items):
                layout = trial
        plan.split(block, layout)

    def _early(self) -> set[int]:
        """Runs with something that other ranks read in the first half of their rank's stretch: what is computed once
        for all samples, say.  Line by line it is sent before the run's other lines are computed.
        """
        assert self.reads is not None
        found: set[int] = set()
        for part in self.reads.parts():
            block, rank = self.reads.block_of(part.ids), self._ranks(part.ids)
            away = self.reads.scalar[block] & (rank < self._ranks(part.end))
            away &= 2 * part.ids < self.bounds[rank] + self.bounds[rank + 1]
            found.update(block[away].tolist())
            if len(found) > self.plan.n_ranks:
                return set()
        return found

    def _ranks(self, nodes: np.ndarray | list[int]) -> np.ndarray:
        return np.searchsorted(self.bounds[1:-1], nodes, side="right")

    def _by_readers(self, block: int) -> np.ndarray | None:
        """Cuts of an input's block that leave its nodes with the ranks that read them first, as many each as these are;
        None if no run reads any.
        """
        assert self.reads is not None
        here = self.reads.exposed(block)
        if here.start == here.stop:
            return None
        places, _ = self.reads.read_of(block)
        readers = self.reads.single[here].begin
        ends = np.cumsum(np.bincount(self._ranks(readers), minlength=self.plan.n_ranks))
        return np.concatenate([[0], np.append(places, self.plan.blocks[block].size)[ends[:-1]],
                               [self.plan.blocks[block].size]])


__all__ = ["Contiguous"]
