"""What a picture is taken of: a linearization, as far as pictures look at it.

The tape is gone once ranks have their shares, so whoever wants to see all of it has rank 0 record it again, at the same
point: the same tape, laid out in the same way.  It is kept as long as the subject, for one picture after another.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mpi4py import MPI

from ..partition import Partition
from ..partition.local import LocalTape
from ..system import TriangularSystem
from ..tape import Tape


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
