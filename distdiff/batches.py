"""Many right-hand sides at one point: described on rank 0, known to all, sent through a solver a batch at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from .cancellation import watch_of
from .errors import InputError
from .solvers.work import BATCH
from .spread import Spread, gathered

KINDS = ("jvp", "vjp", "hvp")
BATCH_BYTES = 512e6  # of the workspace that a batch of right-hand sides may take


def known(kind: str) -> str:
    """The kind of product, or `InputError`."""
    if kind not in KINDS:
        raise InputError(f"kind={kind!r} does not exist; choose one of {', '.join(map(repr, KINDS))}")
    return kind


class Columns(NamedTuple):
    """Right-hand sides: the unit vectors e_start, e_{start+1}, ... or, without a start, given ones."""

    count: int
    start: int | None = None

    @classmethod
    def of(cls, seeds: Any, n: int) -> Columns:
        """What rank 0 was given, or `InputError` saying why it is none."""
        if isinstance(seeds, range):
            if seeds.step != 1 or not 0 <= seeds.start <= seeds.stop <= n:
                raise InputError(f"{seeds} names no unit vectors of {n} numbers")
            return cls(len(seeds), seeds.start)
        if not isinstance(seeds, np.ndarray) or seeds.dtype.kind not in "fiub" or seeds.ndim != 2 or len(seeds) != n:
            what = f"an array of shape {seeds.shape}" if isinstance(seeds, np.ndarray) else f"a {type(seeds).__name__}"
            raise InputError(f"right-hand sides are a range of unit vectors or the columns of an array of shape ({n}, "
                             f"m), not {what}")
        if not np.isfinite(seeds).all():
            raise InputError("a right-hand side holds NaN or infinity")
        return cls(seeds.shape[1])

    def parts(self, comm: MPI.Comm, everywhere: bool) -> list[int]:
        """The first column of each rank's, and their number: all of them, or, where every rank has the whole program,
        a share."""
        return [self.count * rank // comm.size for rank in range(comm.size + 1)] if everywhere else [0, self.count]


def width(n_nodes: int, comm: MPI.Comm) -> int:
    """How many right-hand sides one pass carries.  Collective."""
    most = int(max(1, min(BATCH, BATCH_BYTES // (8 * max(n_nodes, 1)))))
    return comm.allreduce(most, op=MPI.MIN)


def solve_all(columns: Columns, seeds: np.ndarray | None, comm: MPI.Comm, into: Spread, out: Spread, at_once: int,
              solve: Callable[[np.ndarray], np.ndarray], everywhere: bool) -> np.ndarray:
    """The solutions, (columns, out.n), on every rank: `solve` takes this rank's rows of `at_once` columns.

    seeds : rank 0's columns, unless they are unit vectors.  Collective.
    """
    parts = columns.parts(comm, everywhere)
    begin, end = parts[comm.rank:comm.rank + 2] if everywhere else parts
    given = into.share(seeds, columns.count) if columns.start is None else None

    def block(first: int, stop: int) -> np.ndarray:
        if given is not None:
            return into.take(given[:, first:stop])
        assert columns.start is not None
        return into.units(columns.start + first, columns.start + stop)

    rows = np.empty((end - begin, out.n))  # one a right-hand side
    watch = watch_of(comm)
    for start in range(0, max(b - a for a, b in zip(parts, parts[1:])), at_once):  # as often everywhere: solves are
        first, stop = (min(begin + start + ahead, end) for ahead in (0, at_once))  # collective
        if watch is not None:
            watch.look()
        if stop == first:  # this rank's are done
            solve(np.zeros((len(into.places), 1)))
            continue
        rows[first - begin:stop - begin] = out.collect(solve(np.ascontiguousarray(block(first, stop)))).T
    return gathered(rows, comm) if everywhere else rows
