"""Python objects between ranks, of any size: arrays out of band (pickle protocol 5), in pieces below MPI's
2^31 limit.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
from mpi4py import MPI

PIECE = 1 << 30  # bytes a message
_TAG = 73


def _pack(thing: Any) -> list[memoryview]:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    return [memoryview(head), *(b.raw() for b in buffers)]


def _sizes(parts: list[memoryview]) -> np.ndarray:
    return np.array([part.nbytes for part in parts], dtype=np.int64)


def _empty(sizes: np.ndarray) -> list[np.ndarray]:
    return [np.empty(int(n), dtype=np.uint8) for n in sizes]  # its pages are touched once, by what arrives


def _load(parts: Sequence[Any]) -> Any:
    return pickle.loads(parts[0], buffers=parts[1:])


def _pieces(part: memoryview | np.ndarray) -> list[memoryview]:
    view = memoryview(part)
    return [view[start:start + PIECE] for start in range(0, view.nbytes, PIECE)]


def send(thing: Any, rank: int, comm: MPI.Comm) -> None:
    """Send an object to a rank that calls `receive`."""
    parts = _pack(thing)
    comm.send(_sizes(parts), dest=rank, tag=_TAG)
    for part in parts:
        for piece in _pieces(part):
            comm.Send([piece, MPI.BYTE], dest=rank, tag=_TAG)


def receive(rank: int, comm: MPI.Comm) -> Any:
    """The object that a rank sends."""
    parts = _empty(comm.recv(source=rank, tag=_TAG))
    for part in parts:
        for piece in _pieces(part):
            comm.Recv([piece, MPI.BYTE], source=rank, tag=_TAG)
    return _load(parts)


def broadcast(thing: Any, comm: MPI.Comm) -> Any:
    """Rank 0's object on every rank.  Collective."""
    mine = _pack(thing) if comm.rank == 0 else []
    sizes = comm.bcast(_sizes(mine) if comm.rank == 0 else None, root=0)
    parts: Any = mine if comm.rank == 0 else _empty(sizes)
    for part in parts:
        for piece in _pieces(part):
            comm.Bcast([piece, MPI.BYTE], root=0)
    return thing if comm.rank == 0 else _load(parts)


__all__ = ["broadcast", "receive", "send"]
