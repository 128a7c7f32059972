"""Which elementals can go to other ranks: users' may be made of what no pickle holds or another rank can't import."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from mpi4py import MPI

from ..ops import Elemental
from ..tape import Joint, Tape


def homebound(tape: Tape | None, comm: MPI.Comm) -> frozenset[Elemental]:
    """The elementals of rank 0's tape that some rank can't have, on rank 0 (elsewhere: none).  Collective.

    Every rank tries to load them all, so that nobody fails in the midst of an exchange.
    """
    found: list[Elemental] = []
    if tape is not None:
        found = list(dict.fromkeys(item.op for item in tape.items if type(item) is Joint))
    packed = comm.bcast([_packed(op) for op in found] if comm.rank == 0 else None, root=0)
    if not packed:
        return frozenset()
    failed = np.array([not _loads(data) for data in packed])
    comm.Allreduce(MPI.IN_PLACE, failed, op=MPI.LOR)
    return frozenset(op for op, lost in zip(found, failed) if lost)


def _packed(op: Elemental) -> bytes | None:
    try:
        return pickle.dumps(op, protocol=5)
    except Exception:  # whatever foreign objects raise when they are pickled
        return None


def _loads(data: bytes | None) -> bool:
    if data is None:
        return False
    try:
        thing: Any = pickle.loads(data)
    except Exception:  # unpickling runs whatever code the elemental's module holds
        return False
    return isinstance(thing, Elemental)


__all__ = ["homebound"]
