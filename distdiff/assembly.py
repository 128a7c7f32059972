"""From a point on the tape to the assembled system: expand, eliminate, assemble; and in place at the next point."""

from __future__ import annotations

import numpy as np
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

SMALL = 1e-20  # partials from which on products are looked at one by one: some fifteen leave the range of doubles
ROOT = 16


class Assembly:
    """The assembled I - L of a LocalTape at a point, with what it takes to refresh its values.

    Creation, `refresh` and `close` are collective.  `preaccumulate=False` keeps one row a flattened line.

    rounded : whether a partial of this rank was rounded below the normal numbers as it was formed
    """

    def __init__(self, local: LocalTape, point: Point, comm: MPI.Comm, preaccumulate: bool, stages: Stages) -> None:
        self._local, self._stages, self._comm = local, stages, comm
        start(comm)  # elimination asks it for the type of its indices
        with agreed(comm):
            with stages("expand"), Watched() as seen:
                self._rows = expand(local, point)
            with stages("preaccumulate"):
                self.reduced = eliminate(local, self._rows, full=not preaccumulate)
                self._eliminated = preaccumulate and not self._out_of_range()
                if preaccumulate and not self._eliminated:
                    self.reduced = eliminate(local, self._rows, full=True)
        self.rounded = seen.under
        with stages("assemble"):
            self.system = TriangularSystem(comm, self.reduced)

    def refresh(self, point: Point) -> bool:
        """The values at another point, in the same places; whether these are right.

        Not where products of partials leave the range of doubles on some rank that has eliminated: it has to be made
        anew then.
        """
        with self._stages("expand"), agreed(self._comm), Watched() as seen:  # a joint statement's rule may raise on one
            expand_values(self._local, point, self._rows)
        self.rounded = seen.under
        with self._stages("preaccumulate"):
            self.reduced.refresh(self._rows.data)
            if self._comm.allreduce(self._eliminated and self._out_of_range(), op=MPI.LOR):
                return False
        with self._stages("assemble"):
            self.system.refresh(self.reduced)
        return True

    def _out_of_range(self) -> bool:
        return self._overflowed() or self._underflowed()

    def _overflowed(self) -> bool:
        """Whether elimination made products of partials beyond all numbers, which row by row might well be within.

        A rank decides by itself: what others read is kept either way.
        """
        own, ghost = self.reduced.own.data, self.reduced.ghost.data
        return not (all_finite(own) and all_finite(ghost)) and all_finite(self._rows.data)

    def _underflowed(self) -> bool:
        """Whether elimination lost products of partials, all or digits of them, though none of these is zero, which row
        by row might well be kept: a stretch of the trace may begin with 1e-250 * 1e-290 where what comes before it is
        1e250, or go on with 1e290 and 1e250.

        Entries that have come to nothing are looked at if there are partials so small, and all products one by one if
        others are as large, for these may bring back what is left of one.  Magnitudes, eliminated likewise, tell a loss
        from terms that cancel, and their ROOTth roots, whose products are in range whatever they are, from partials
        that are zero.
        """
        size = np.abs(self._rows.data)
        if np.count_nonzero(size) == np.count_nonzero(size >= SMALL):  # sooner than a minimum of what is not zero
            return False
        if 1.0 / SMALL < size.max() < np.inf and self.reduced.loses_products(size):
            return True
        entries, tiny = (self.reduced.own.data, self.reduced.ghost.data), np.finfo(float).tiny
        lost = [np.abs(data) < tiny for data in entries]
        if not any(found.any() for found in lost):
            return False
        self.reduced.refresh(size)
        lost = [found & (np.abs(data) < tiny) for found, data in zip(lost, entries)]
        self.reduced.refresh(size ** (1 / ROOT))
        underflowed = any(bool((found & (data != 0.0)).any()) for found, data in zip(lost, entries))
        self.reduced.refresh(self._rows.data)
        return underflowed

    @property
    def memory(self) -> int:
        """Bytes on this rank: the matrix, and the unreduced rows that a refresh starts from."""
        return self.system.memory + sum(a.nbytes for a in self._rows)

    def close(self) -> None:
        self.system.close()
