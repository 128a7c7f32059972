"""From a point on the tape to the assembled system: expand, eliminate, assemble; and in place at the next point."""

from __future__ import annotations

from mpi4py import MPI

from .comm import agreed
from .evaluate import Point
from .flags import Watched
from .nonfinite import all_finite
from .partials import expand, expand_values
from .partition.local import LocalTape
from .petsc import start
from .preaccumulate import eliminate
from .stages import Stages
from .system import TriangularSystem
from .tracing.memory import give_back

MANY = 1 << 20  # entries of all rows from which what elimination has worked with does not stay with the C library


class Assembly:
    """The assembled I - L of a LocalTape at a point, with what it takes to refresh its values.

    Creation, `refresh` and `close` are collective.  `preaccumulate=False` keeps one row a flattened line.

    rounded : whether a partial of this rank was rounded below the normal numbers as it was formed
    lossy : elimination has rounded products of partials below 2^-1022 on this rank, all or digits of them, which row by
        row might well be kept: a stretch of the trace may halve a thousand times where others double as often
    """

    def __init__(self, local: LocalTape, point: Point, comm: MPI.Comm, preaccumulate: bool, stages: Stages) -> None:
        self._local, self._stages, self._comm = local, stages, comm
        start(comm)  # elimination asks it for the type of its indices
        with agreed(comm):
            with stages("expand"), Watched() as partials:
                self._rows = expand(local, point)
            with stages("preaccumulate"):
                with Watched() as products:
                    self.reduced = eliminate(local, self._rows, full=not preaccumulate)
                self._eliminated = preaccumulate and not self._overflowed()
                if preaccumulate and not self._eliminated:
                    self.reduced = eliminate(local, self._rows, full=True)
        self.rounded, self.lossy = partials.under, self._eliminated and products.under
        with stages("assemble"):
            self.system = TriangularSystem(comm, self.reduced)
        if len(self._rows.indices) > MANY:
            give_back()

    def refresh(self, point: Point) -> bool:
        """The values at another point, in the same places; whether these are right.

        Not where products of partials are above all numbers on some rank that has eliminated: it has to be made anew
        then.
        """
        with self._stages("expand"), agreed(self._comm), Watched() as partials:  # a joint statement's rule may raise
            expand_values(self._local, point, self._rows)
        with self._stages("preaccumulate"):
            with Watched() as products:
                self.reduced.refresh(self._rows.data)
            self.rounded, self.lossy = partials.under, self._eliminated and products.under
            if self._comm.allreduce(self._eliminated and self._overflowed(), op=MPI.LOR):
                return False
        with self._stages("assemble"):
            self.system.refresh(self.reduced)
        return True

    def _overflowed(self) -> bool:
        """Whether elimination made products of partials beyond all numbers, which row by row might well be within.

        A rank decides by itself: what others read is kept either way.
        """
        own, ghost = self.reduced.own.data, self.reduced.ghost.data
        return not (all_finite(own) and all_finite(ghost)) and all_finite(self._rows.data)

    @property
    def memory(self) -> int:
        """Bytes on this rank: the matrix, and the unreduced rows that a refresh starts from."""
        return self.system.memory + sum(a.nbytes for a in self._rows)

    def close(self) -> None:
        self.system.close()
