"""Which lines of a long scalar run depend on given nodes, by compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.scalar import BINARY
from ..kernels.templates import Loops
from ..tape import ScalarRun
from .patching import suspended


def ready(lines: int) -> bool:
    """Whether to go through a run of so many lines compiled."""
    if not Loops.ready(lines):
        return False
    if Loops.module is None:
        with suspended():  # Numba takes NumPy's functions by name
            Loops.load()
    return True


class Places:
    """The nodes a run reads, numbered: its own lines first, then those outside."""

    def __init__(self, run: ScalarRun, first: int) -> None:
        n = len(run.op)
        self.a, self.b = run.a.astype(np.int64), np.where(BINARY[run.op], run.b, run.a).astype(np.int64)
        used = np.concatenate([self.a, self.b])
        self.outside = np.unique(used[(used >= 0) & (used < first)])
        self.pa, self.pb = (np.where(x >= first, x - first, np.where(x >= 0, n + np.searchsorted(self.outside, x), -1))
                            for x in (self.a, self.b))


def activity(run: ScalarRun, first: int, depends: Any) -> np.ndarray | None:
    """Which lines of a run depend on what `depends` says of nodes before it; None if it is for plain Python."""
    n = len(run.op)
    if not ready(n):
        return None
    places = Places(run, first)
    active = np.zeros(n + len(places.outside), dtype=np.bool_)
    active[n:] = [depends(node) for node in places.outside.tolist()]
    if active.any():
        with suspended():
            Loops.module.spread_activity(run.op, Loops.templates.rules, places.pa, places.pb, active)
    return active[:n]


__all__ = ["Places", "activity", "ready"]
