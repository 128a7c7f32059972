"""Scalar lines placed by supersteps that grow (GrowLocal: Böhnlein, Papp, Steiner, Yzelman, "Efficient parallel
scheduling for sparse triangular solvers", arXiv 2503.05408).

A superstep of a few lines a rank is made larger as long as that lets ranks compute more beside what they wait for each
other:

    lines / (lines of the busiest rank + latency)

The latency is the machine's, in lines of scalar code.  A rank goes on where it alone has the operands, so that chains
stay together, and else takes what comes first in the trace.  It looks at when a line can be computed, and at nothing
else: on an irregular program it takes fewer supersteps than a stream does, and sends more.
"""

from __future__ import annotations

import numpy as np

from ..kernels.growing import grow_supersteps
from .plan import Plan
from .whole_graph import WholeGraph

LEAST, GROWTH, WORTH = 20, 1.5, 0.97  # lines of the smallest superstep, by what it grows, how near to the best it stays


class GrowLocal(WholeGraph):
    """The partitioner; `place` places one scalar run."""

    def __init__(self, plan: Plan, active: int | None = None) -> None:
        machine = plan.machine
        latency = machine.message / machine.run_line

        def divide(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            owner, step = grow_supersteps(a, b, self.active, latency, LEAST, GROWTH, WORTH)
            return owner, step

        super().__init__(plan, active, divide)


__all__ = ["GrowLocal"]
