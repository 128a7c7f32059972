"""Scalar runs as rows of a sequence of compiled calls: what the loops take of a run, as a record of addresses.

A record is looked at when its row is reached, so what it says may be changed between two passes: another way to go over
the same lines, once they are written out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import scalar
from .sequence import Sequence

if TYPE_CHECKING:
    from .scalar_stored import Stored

(VALUES, TANGENT, ADJOINT, STORED) = range(4)  # as in `lines_loops`
NONE = np.empty(0, dtype=np.int64)
CONST = 4  # place of the constants among a record's arrays

class Record:
    """A run on memory that stays where it is (see `scalar` for the arguments).

    way: VALUES computes the lines' values in y, TANGENT and ADJOINT go over `vector`, (n,).
    """

    def __init__(self, way: int, run: scalar.Run, first: int, y: np.ndarray, starts: np.ndarray = NONE,
                 shifts: np.ndarray = NONE, vector: np.ndarray = NONE) -> None:
        arrays = run.op, scalar.loop_numbers(), run.a, run.b, run.const, y, starts, shifts, vector
        addresses = [array.__array_interface__["data"][0] for array in arrays]
        self.numbers = np.array([way, len(run.op), first, len(starts), *addresses], dtype=np.int64)
        self._held = [*arrays]
        self._lines = self.numbers.copy()  # as they are on the tape
        self._written: Stored | None = None

    @classmethod
    def possible(cls, run: scalar.Run) -> bool:
        """Whether the loops are compiled, and for ids of that size."""
        return scalar.compiled(0) and run.a.dtype == run.b.dtype == np.int32

    def put(self, sequence: Sequence) -> None:
        """Add it to a sequence."""
        sequence.lines(self.numbers, self)

    def read(self, const: np.ndarray) -> None:
        """From now on these are the constants."""
        if self._held[CONST] is not const:
            self._held[CONST], address = const, const.__array_interface__["data"][0]
            self._lines[len(self._lines) - len(self._held) + CONST] = address
            if self._written is None:
                self.numbers[:] = self._lines

    def write_out(self, stored: Stored) -> None:
        """From now on the adjoint goes over the lines as they are written out, on the same vector."""
        if self._written is not stored:
            self._written, vector = stored, self._lines[-1]
            addresses = [x.__array_interface__["data"][0] for x in (stored.pa, stored.pb, stored.ta, stored.tb)]
            self.numbers[:9] = STORED, len(stored.pa), stored.base, 0, *addresses, vector

    def forget(self) -> None:
        """Back to the lines on the tape."""
        if self._written is not None:
            self._written = None
            self.numbers[:] = self._lines


class Values:
    """The call that computes a run's values, `scalar.run_values` on these arguments."""

    def __init__(self, run: scalar.Run, first: int, y: np.ndarray) -> None:
        self._arguments = run, first, y

    def __call__(self) -> None:
        scalar.run_values(*self._arguments)

    def join(self, sequence: Sequence) -> bool:
        """Put it into a sequence.  False: the loops are not compiled."""
        if not Record.possible(self._arguments[0]):
            return False
        Record(VALUES, *self._arguments).put(sequence)
        return True


__all__ = ["ADJOINT", "TANGENT", "VALUES", "Record", "Values"]
