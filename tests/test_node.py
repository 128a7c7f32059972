"""Messages through memory that the ranks of a node share: the same as by MPI, whatever is early, late or lacking."""

from __future__ import annotations

import time

import numpy as np
import pytest

from distdiff.channels import Channels, NodeChannel
from distdiff.node import ROOM, Node, node, share
from distdiff.partition.local import Exchange, spots_of

pytestmark = pytest.mark.mpi


def ring(comm, n=50):
    """Every rank sends rows to its neighbours, and has ghosts of theirs behind its own."""
    near = sorted({(comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size} - {comm.rank})
    sends = [(rank, np.arange(3 * k, 3 * k + 7)) for k, rank in enumerate(near)]
    recvs = [(rank, n + np.arange(7 * k, 7 * k + 7)) for k, rank in enumerate(near)]
    return Exchange(sends, recvs), n + 7 * len(near)


def passes(comm, exchange, n, late=0.0):
    """Ten passes there and back, one rank being late in each."""
    y, found = np.zeros(n), []
    sends, recvs = spots_of(exchange.sends, y), spots_of(exchange.recvs, y)
    pass_on = [exchange.starter(comm, sends), exchange.finisher(comm, recvs),
               exchange.starter(comm, recvs, back=True), exchange.finisher(comm, sends, back=True)]
    for k in range(10):
        y[:] = np.random.default_rng(100 * k + comm.rank).standard_normal(n)
        for call in pass_on:
            if late and k % comm.size == comm.rank:
                time.sleep(late)
            call()
            found.append(y.copy())
    return np.array(found)


@pytest.mark.parametrize("lacking", ["nothing", "words", "some buffers"])
def test_messages_are_those_of_mpi(comm, monkeypatch, lacking):
    share(comm)
    if lacking == "words" and comm.rank == 0:
        monkeypatch.setattr(Node, "channel", lambda self: -1)
    if lacking == "some buffers" and comm.rank % 2:
        monkeypatch.setattr(Node, "take", lambda self, n, take=Node.take: take(self, n) if n > 7 else -1)
    here, n = ring(comm)
    there, _ = ring(comm)
    with monkeypatch.context() as patch:
        patch.setattr(Channels, "get", lambda self, comm, columns, repeated, get=Channels.get: get(self, comm, columns))
        expected = passes(comm, there, n)
    np.testing.assert_array_equal(passes(comm, here, n, late=0.002), expected)
    if node(comm) is not None and comm.size > 1:
        channel = here._channel(comm, ())
        channel._settle()
        assert isinstance(channel, NodeChannel)
        by_mpi = len(channel.forward._requests) + len(channel.reverse._requests)
        assert (by_mpi == 0) == (lacking == "nothing" or (lacking == "words" and comm.size > 3 and comm.rank not in (
            0, 1, comm.size - 1)))
    comm.Barrier()
    for exchange in (here, there):
        exchange.close()


def test_memory_of_closed_channels_is_used_again(comm):
    share(comm)
    shared = node(comm)
    if shared is None:
        pytest.skip("these ranks share no memory")
    used = []
    for _ in range(4):
        exchange, n = ring(comm)
        passes(comm, exchange, n)
        comm.Barrier()  # as every call ends with an agreement
        exchange.close()
        comm.Barrier()
        used.append(shared._next)
    assert used[1:] == used[:1] * 3 and used[0] < ROOM
    free = sum(map(len, shared._free.values()))
    exchange, n = ring(comm)
    exchange.starter(comm, spots_of(exchange.sends, np.zeros(n)))()  # nobody has taken that
    comm.Barrier()
    if comm.rank == 0:
        exchange.close()
        left = sum(map(len, shared._free.values()))
        assert left < free or comm.size == 1  # what may still be read has not come back
    comm.Barrier()
    if comm.rank:
        exchange.close()
