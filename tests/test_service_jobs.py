"""The service's queue: whose turn it is."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest

from distdiff.errors import ServiceError
from distdiff.service.jobs import Job, Queue
from distdiff.service.server import call_at_signals
from distdiff.service.widths import widest


def put(queue: Queue, *words: str) -> list[Job]:
    """Jobs written as system:kind:client."""
    return [queue.submit(Job(*word.split(":"), seed=np.zeros(1))) for word in words]


def turns(queue: Queue, jobs: list[Job], n: int = 99) -> list[list[int]]:
    found = []
    while n and (turn := queue.take(0)) is not None:
        found.append([jobs.index(job) for job in turn.jobs])
        n -= 1
    return found


@pytest.mark.parametrize("words, wanted", [
    (["a:vjp", "a:vjp", "a:jvp", "a:vjp"], [[0, 1, 3], [2]]),
    (["a:vjp", "b:vjp", "a:vjp", "b:vjp", "c:vjp"], [[0, 2], [1, 3], [4]]),  # systems take turns
    (["a:vjp", "a:move", "a:vjp", "a:vjp"], [[0], [1], [2, 3]]),  # each at its own point
    (["a:vjp", "a:jvp", "a:move", "a:jvp", "a:vjp", "a:close"], [[0], [1], [2], [4], [3], [5]]),
    (["a:vjp:x", "a:vjp:x", "a:vjp:x", "a:vjp:y", "a:vjp:y", "a:vjp:z"], [[0, 3, 5, 1], [2, 4]]),  # so do clients
    (["a:report", "a:vjp", "a:report"], [[0], [1], [2]]),
])
def test_turns(words, wanted):
    queue = Queue(at_once=4)
    jobs = put(queue, *words)
    assert turns(queue, jobs) == wanted and len(queue) == 0


def test_as_many_as_pay_are_solved_together():
    queue = Queue(at_once=8, pays=lambda system, kind: {"a": 2, "b": 8}[system] if kind == "vjp" else 1)
    jobs = put(queue, *["a:vjp"] * 5, *["b:vjp"] * 5, *["b:jvp"] * 2, "a:report")
    assert turns(queue, jobs) == [[0, 1], [5, 6, 7, 8, 9], [12], [10], [2, 3], [11], [4]]


@pytest.mark.parametrize("first, further, at_once, most", [
    (0.0, 0.0, 64, 16),  # a turn is all it takes
    (6e-5, 4e-5, 64, 16),  # array code: 0.1 ms alone, 0.04 among many
    (6e-5, 4e-5, 2, 2), (4e-3, 8e-4, 64, 32), (1.0, 1e-3, 64, 64), (1.0, 1e-3, 48, 48),
    (0.2, 0.19, 64, 1), (0.1, 0.1, 64, 1), (0.1, 0.2, 64, 1),  # nothing is gained: one by one
    (0.1, 0.05, 64, 16), (0.0, 0.0, 1, 1), (None, 0.0, 64, 64)])
def test_how_many_pay(first, further, at_once, most):
    found = widest(lambda m: None if first is None else first + (m - 1) * further, at_once)
    assert found.most == most
    if first is not None:
        assert found.seconds[1] == first and max(found.seconds) == at_once
        assert ("one by one" if most == 1 else f"up to {most} a solve") in found.reason()


def test_a_long_job_and_short_ones_take_turns():
    queue = Queue(at_once=2)
    long, *short = jobs = put(queue, "a:jacobian", "a:vjp", "a:vjp", "a:vjp", "a:move", "b:vjp")
    order = []
    for _ in range(8):
        (turn,) = turns(queue, jobs, 1)
        order.append(turn)
        if turn == [0] and len(order) < 7:
            queue.again(long)
    assert order == [[0], [5], [1, 2], [0], [3], [0], [0], [4]]


def test_cancelled_before_its_turn():
    queue = Queue()
    jobs = put(queue, "a:vjp", "a:vjp", "b:vjp")
    queue.cancel(jobs[0])
    queue.cancel(jobs[2])
    assert turns(queue, jobs) == [[1]]
    assert [job.state for job in jobs] == ["cancelled", "queued", "cancelled"]
    queue.cancel(jobs[1])  # its turn is under way
    assert jobs[1].cancelled and jobs[1].state == "queued"


def test_a_signal_is_heard_wherever_the_queue_is(monkeypatch):
    """The main thread has just seen that nobody waits, and is about to wait itself."""
    queue = Queue()
    found, handlers = queue._next, {n: signal.getsignal(n) for n in (signal.SIGUSR1, signal.SIGUSR2)}

    def looked() -> str | None:
        seen = found()
        if threading.current_thread() is threading.main_thread() and not queue.closed:
            os.kill(os.getpid(), signal.SIGUSR1)
        return seen

    monkeypatch.setattr(queue, "_next", looked)
    call_at_signals((signal.SIGUSR1,), queue.close)
    try:
        signal.signal(signal.SIGUSR2, lambda *_: None)
        os.kill(os.getpid(), signal.SIGUSR2)  # another's
        assert not queue.closed
        began = time.monotonic()
        assert queue.take(20.0) is None and queue.closed
        assert time.monotonic() - began < 10
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_too_many_and_too_late():
    queue = Queue(most=2)
    jobs = put(queue, "a:vjp", "a:vjp")
    with pytest.raises(ServiceError, match="waiting already"):
        put(queue, "b:vjp")
    large = Queue(most_bytes=10)
    put(large, "a:vjp", "a:vjp")  # 8 bytes each
    with pytest.raises(ServiceError, match="2 jobs with 16 bytes of vectors are waiting already"):
        put(large, "a:vjp")
    waiting = threading.Thread(target=queue.close)
    waiting.start()
    waiting.join()
    assert queue.take() is None and all("ended" in str(job.error) for job in jobs)
    with pytest.raises(ServiceError, match="ending"):
        put(queue, "a:vjp")
