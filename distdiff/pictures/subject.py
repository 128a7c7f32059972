"""What a picture is taken of: a linearization, as far as pictures look at it.

The tape is gone once ranks have their shares, so whoever wants to see all of it has rank 0 record it again, at the same
point: the same tape, laid out in the same way.  It is kept as long as the subject, for one picture after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from mpi4py import MPI

from ..evaluate import Point
from ..facts import Facts
from ..partition import Partition
from ..partition.local import LocalTape
from ..solving import Solving
from ..source import Source
from ..system import TriangularSystem
from ..tape import Tape

DRAWN = 4_000_000  # lines up to which a system is assembled to be looked at


@dataclass
class Subject:
    """All of it is collective on `comm`, but for what is an attribute."""

    comm: MPI.Comm
    local: LocalTape  # this rank's share
    forward: bool  # whether a Jacobian would take tangents, not adjoints
    record: Callable[[], tuple[Tape, Partition | None]]  # rank 0: what it recorded, and who owns what (None: one rank)
    system: Callable[[], AbstractContextManager[TriangularSystem | None]]  # assembled for the picture, if affordable
    replay: Callable[[], None]  # the tape once more at the point,
    prepare: Callable[[], str]  # ... the method ready for it, and its name,
    solve: Callable[[bool], None]  # ... and a solve for one right-hand side of ones, tangent or adjoint
    on: Callable[[MPI.Comm], AbstractContextManager[Subject]]  # the same, linearized on other ranks

    @classmethod
    def of(cls, comm: MPI.Comm, local: LocalTape, facts: Facts, source: Source, solving: Solving,
           point: Callable[[], Point], *, columns: int, replay: Callable[[], None],
           again: Callable[[MPI.Comm], Any]) -> Subject:
        """Of the parts of a linearization.

        point: the latest.  columns: right-hand sides that its method is for.  replay: moves to the point once more.
        again: the same function linearized on other ranks, for a `with`.
        """
        def record() -> tuple[Any, Any]:
            return (facts.tape, None) if facts.tape is not None else source.record()  # on one rank it is there

        def prepare() -> str:
            solving.arrive(point())
            solving.select(columns, 1)
            return solving.choice.method

        def solve(forward: bool) -> None:
            solving.solve(forward, np.ones(len((local.inputs if forward else local.outputs).ids)))

        @contextmanager
        def on(comm: MPI.Comm) -> Iterator[Subject]:
            with again(comm) as lin:
                yield lin.subject()

        return cls(comm, local, facts.n_inputs <= facts.n_outputs, record,
                   lambda: solving.looked_at(solving.size.nodes <= DRAWN), replay, prepare, solve, on)

    @cached_property
    def _recorded(self) -> tuple[Tape, Partition | None]:
        return self.record()

    @property
    def tape(self) -> Any:
        """The whole tape on rank 0, None elsewhere.  Collective."""
        return self._recorded[0]

    @property
    def partition(self) -> Any:
        """Who owns what on it, on rank 0; None on one rank, and elsewhere.  Collective."""
        return self._recorded[1]


__all__ = ["Subject"]
