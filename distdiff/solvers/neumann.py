"""The finite Neumann series  (I - L)^-1 = I + L + L^2 + ... + L^d,  d = depth(L), by Jacobi-Richardson  x <- b + L x.

For systems that are very wide and very shallow: d products with L, each with one exchange of all ghosts at once, and
nothing that waits for anything else in between.  Substitution reads every row once and exchanges k* <= d + 1 times; the
series reads every row d times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..machine import Machine
from ..petsc import event
from ..petsc import options as petsc_options
from ..system import TriangularSystem
from .base import Solver
from .cost import (
    BATCH,
    Cost,
    Method,
    Work,
    assembling_bytes,
    assembly,
    steps_seconds,
    substitution_seconds,
    substitution_setup,
)
from .iteration import Iteration

LEAST = 3  # products, in passes over the rows: the series compares each with the last


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """A product reads every row, as a substitution does; there are at least k* - 1, LEAST where the depth is not 1."""
    if work.cyclic:
        return Cost.none("implicit statements: the series has no end on results that depend on each other")
    products = max(work.k_star - 1, LEAST)
    rows = substitution_seconds(replace(work, k_star=1), columns, machine)
    exchange = machine.exchange * work.passes(columns) if work.ranks > 1 else 0.0
    seconds = substitution_setup(work, machine) + assembly(work, machine) + products * (rows + exchange)
    seconds += steps_seconds(work, columns, machine)
    memory = assembling_bytes(work) + 3 * 8 * work.rows * min(columns, BATCH)
    return Cost(seconds, memory, f"reads every row once for each edge of the longest path, at least {products} times")


class Neumann(Solver):
    """x <- b + L x from x = b, for `tangent` and `adjoint`, all right-hand sides together.  Collective.

    Exact after as many products as the longest path from an input has edges, sooner where no bit of x changes any
    more.  Raises `InputError` if the system has a cycle, on which the series has no end.
    """

    name = "neumann"
    substitutes = True

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        system.require_triangular()
        with petsc_options(system.comm, options, self.name):
            pass  # nothing to set: whatever is given is reported as unused
        self.depth = system.depth()
        self._iteration = Iteration(system)
        self._messages = system.comm.allreduce(len(system.halo.sends))

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        b, new = self._work("b", y.shape[1:]), self._work("new", y.shape[1:])
        b[...] = y
        with event("neumann"):
            x, steps = self._iteration.run(b, y, new, transposed, self.depth)
        if x is not y:
            y[...] = x
        self.info = {"products": steps, "messages": steps * self._messages}

    @property
    def memory(self) -> int:
        return super().memory + self._iteration.nbytes


METHOD = Method("neumann", cost, Neumann)
