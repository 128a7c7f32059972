"""Large results: memory is used again only when nothing looks into it any more."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest
import tape_oracle as oracle

from distdiff.tape import UNREAD, Const
from distdiff.tracing import memory, trace

N = memory.LARGE + 100


@pytest.fixture(autouse=True)
def empty_pool(monkeypatch):
    gc.collect()  # traces that failed elsewhere hang in reference cycles
    monkeypatch.setattr(memory, "_pool", {})
    monkeypatch.setattr(memory, "_rooms", [])
    monkeypatch.setattr(memory, "_pooled", 0)


def address(a):
    return a.__array_interface__["data"][0]


def test_a_buffer_lives_as_long_as_its_last_view():
    a = memory.empty(N)
    where = address(a)
    assert type(a) is np.ndarray and a.flags.writeable and a.shape == (N,) and a.dtype == np.float64
    view = a.reshape(-1, 1)[3:].T
    strided = np.lib.stride_tricks.as_strided(view, (5,), (16,))
    del a, view
    assert not memory._pool and address(memory.empty(N)) != where
    memory._pool.clear()
    del strided
    assert list(memory._pool) == [N]
    b = memory.empty(N)
    assert address(b) == where and not memory._pool[N]


def test_small_results_are_numpys_own():
    assert memory.empty(10).base is None


def test_the_pool_is_bounded(monkeypatch):
    monkeypatch.setattr(memory, "LIMIT", 20 * N)
    held = [memory.empty(N) for _ in range(5)]
    held.clear()
    assert memory._pooled == 8 * (N + memory.GAP) * len(memory._pool[N]) <= 20 * N


def test_a_forked_process_has_a_pool_of_its_own():
    """What the parent's next array is made of the child's is made of as well."""
    memory.empty(N)[:] = 1.0
    child = os.fork()
    if child == 0:
        memory.empty(N)[:] = 2.0
        os._exit(0)
    os.waitpid(child, 0)
    assert (memory.empty(N) == 1.0).all()


def test_a_room_has_addresses_for_all_and_pages_for_what_is_written():
    room = memory.Room.make()
    assert room.size > 1 << 24 and not memory._rooms
    parts = [room.part(k * N, (k + 1) * N) for k in range(3)]
    for k, part in enumerate(parts):
        assert type(part) is np.ndarray and memory.Room.around(part[5:].reshape(1, -1)) is room
        assert address(part) == address(room) + 8 * k * N
        part[:] = k
    assert memory.Room.around(memory.empty(N)) is memory.Room.around(np.empty(3)) is None
    where, vector = address(room), room.vector(3 * N)
    del room, parts, part
    assert not memory._rooms and (vector[N:2 * N] == 1.0).all()
    del vector
    assert memory._pooled == 8 * 3 * N + 8 * (N + memory.GAP) and len(memory._rooms) == 1
    again = memory.Room.make()
    assert address(again) == where and not memory._rooms and memory._pooled == 8 * (N + memory.GAP)


def test_pages_that_a_shorter_program_does_not_use_go(monkeypatch):
    monkeypatch.setattr(memory, "HUGE", 4096)
    room = memory.Room.make()
    room.part(0, 100 * N)[:] = 1.0
    vector = room.vector(N)
    assert (vector == 1.0).all() and (room.part(2 * N, 100 * N) == 0.0).all()  # they are fresh
    monkeypatch.setattr(memory, "LIMIT", 10 * N)
    del vector, room
    assert not memory._rooms and not memory._pooled  # more than the pool takes


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_where_addresses_are_counted_nobody_takes_more_than_he_writes(monkeypatch, limit):
    assert memory._addresses_are_free()
    counted, free = getattr(memory.resource, limit), memory.resource.RLIM_INFINITY
    monkeypatch.setattr(memory.resource, "getrlimit", lambda kind: (1 << 34 if kind == counted else free, free))
    assert not memory._addresses_are_free() and memory.Room.make() is None


def program(u):
    for _ in range(4):
        left = np.roll(u, 1)
        u = u + 0.1 * (u * left - np.sin(u)) - left / 3.0
        u[1:-1] *= 0.5
        u -= 0.1
    return u * 2.0, np.sum(u * u)


@pytest.mark.parametrize("keep", [True, "read"])
def test_values_of_large_blocks(keep):
    x = np.cos(np.arange(float(N)))
    for _ in range(3):  # the second and third run in the memory of the one before
        t = trace(program, (x,), keep_values=keep)
        y = oracle.evaluate(t.tape, x)
        for block, values in zip(t.tape.blocks, t.values):
            if values is not UNREAD and values is not None:
                np.testing.assert_allclose(values, y[block.first : block.first + block.size], rtol=1e-12)
        plain = program(x.copy())
        np.testing.assert_array_equal(t.result[0], plain[0])
        first = address(t.values[0])
        del t, values
    assert any(memory._pool.values())
    t = trace(program, (x,), keep_values=keep)
    assert first in [address(v) for v in t.values if v is not None and v.size]


def test_memory_comes_back_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        trace(program, (np.cos(np.arange(float(N))),), keep_values=True)
        buffers = memory._pool[N]
        first = {id(buffer) for buffer in buffers}
        trace(program, (np.cos(np.arange(float(N))),), keep_values=True)
        assert {id(buffer) for buffer in buffers} == first
    finally:
        gc.enable()


def test_a_result_is_the_users_own():
    x = np.ones(N)
    kept = trace(lambda u: u * 2.0, (x,)).result
    trace(lambda u: u * 3.0, (x,))
    assert (kept == 2.0).all() and kept.base is None


@pytest.mark.parametrize("n", [9, 64, 5000])
def test_a_constant_made_anew_at_every_step_is_kept_once(n):
    mask = np.linspace(0.0, 1.0, n)
    held = []

    def f(u):
        for k in range(30):
            here = 0.02 * mask
            held.append(here)  # so that each is at another place
            u = u + here * u
            here[-1] = k  # which is nothing to the tape
        return u

    traced = trace(f, (np.ones(n),))
    tape = traced.tape
    constants = [c.value for item in tape.items for c in item.operands if isinstance(c, Const)]
    assert len(constants) == 30 and len({address(c) for c in constants}) == 1
    np.testing.assert_array_equal(oracle.outputs(tape, oracle.evaluate(tape, np.ones(n))), traced.result)
