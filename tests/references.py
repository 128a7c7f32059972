"""What a single rank finds, for tests on several: rank 0 does, once, and tells the others, which share its cores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mpi4py import MPI

import distdiff as dd
from distdiff.comm import on_root


def of_one_rank(comm: MPI.Comm, f: Callable[..., Any], points: Sequence[Any], v: Any, w: Any = None) -> tuple[Any, Any]:
    """w, by default J v at the first point, and at each of the points (value, J v, J^T w).  Collective."""
    def found() -> tuple[Any, Any]:
        with dd.linearize(f, points[0], comm=MPI.COMM_SELF) as one:
            seed = one.jvp(v) if w is None else w
            at = [(one.update(x), one.jvp(v), one.vjp(seed)) for x in points]
            assert one.retraces == 0
            return seed, at

    return on_root(comm, found)
