"""Large results: memory is used again only when nothing looks into it any more."""

from __future__ import annotations

import gc

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
