"""Scalar lines placed all at once, by whoever divides the graph of all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..tape import ScalarRun
from .chains import Links
from .plan import Plan, binary
from .streaming import Streaming

Divide = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]


class WholeGraph(Streaming):
    """The partitioner; `place` places one scalar run.

    divide(a, b) is the rank of every scalar line, and the superstep that it was meant for (None: no matter); a, b are
    its operands' positions among all of them, -1 for what is none (other nodes lie in arrays, placed already).
    """

    def __init__(self, plan: Plan, active: int | None, divide: Divide) -> None:
        super().__init__(plan, active)
        runs, self.starts, total = [item for item in plan.tape.items if isinstance(item, ScalarRun)], {}, 0
        for run in runs:
            self.starts[run.block] = total
            total += len(run.op)
        base = np.full(len(plan.blocks), -1)
        base[list(self.starts)] = list(self.starts.values())
        operands = np.full((2, total), -1, dtype=np.int64)
        for run in runs:
            for place, ref, used in zip(operands, (run.a, run.b), (True, binary(run.op))):
                lines = np.flatnonzero((ref >= 0) & used)
                ids = ref[lines].astype(np.int64)
                block = plan.where.block_of(ids)
                inside = base[block] >= 0
                place[self.starts[run.block] + lines[inside]] = (base[block] + ids - plan.where.first[block])[inside]
        self.parts, self.meant = divide(*operands)

    def place(self, block: int) -> None:
        super().place(block)
        if self.meant is not None and self.active > 1:
            share, first = self.plan.runs[block], self.plan.blocks[block].first
            own = np.flatnonzero(share.ids - first < self.plan.blocks[block].size)  # the others are partial sums
            share.floors = np.zeros(len(share.ids), dtype=np.int32)
            share.floors[own] = self.meant[self.starts[block] + share.ids[own] - first]

    def _owners(self, block: int, run: ScalarRun, inner: tuple[np.ndarray, np.ndarray], near: list[np.ndarray],
                links: Links | None) -> np.ndarray:
        owner = self.parts[self.starts[block]:self.starts[block] + len(run.op)].copy()
        if links is not None:  # a link goes with its term, as in the stream: partial sums then need no messages
            for second, (inside, outside) in enumerate(zip(inner, near)):
                link = np.flatnonzero(links.term == second)
                owner[link] = np.where(inside[link] >= 0, owner[inside[link]],
                                       np.where(outside[link] >= 0, outside[link], owner[link]))
        return owner


__all__ = ["Divide", "WholeGraph"]
