"""What computing while messages fly gains: a grid program on two ranks, messages arriving later than they do here, and
as passes are here, one call each.

Time steps exchange rows with the neighbour; the rows between are computed meanwhile, or (WORTH out of reach) not.  A
message counts as arrived so long after it was sent: the receiver looks at the sender's clock, which it shares.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from measure import figure

STAMPS = 4096  # more than the exchanges of a pass


@contextmanager
def later(comm: Any) -> Iterator[list[float]]:
    """While the body runs, messages between two ranks arrive no sooner than so many seconds (in the list) after they
    were sent.  Collective."""
    from mpi4py import MPI

    from distdiff.channels import Messages

    window = MPI.Win.Allocate_shared(16 * STAMPS if comm.rank == 0 else 0, 8, comm=comm)
    stamps = np.frombuffer(window.Shared_query(0)[0], dtype=np.float64).reshape(2, STAMPS)
    mine, theirs = stamps[comm.rank], stamps[1 - comm.rank]
    delay, count, begun = [0.0], [0], dict[int, int]()
    start, finish = Messages.start, Messages.finish

    def started(messages: Any) -> None:
        count[0] = begun[id(messages)] = (count[0] + 1) % STAMPS
        mine[count[0]] = time.perf_counter()
        start(messages)

    def finished(messages: Any) -> None:
        finish(messages)
        which = begun.pop(id(messages), None)
        while which is not None and time.perf_counter() < theirs[which] + delay[0]:
            pass

    Messages.start, Messages.finish = started, finished
    try:
        yield delay
    finally:
        Messages.start, Messages.finish = start, finish
        window.Free()


def delays(run: Any, function: Any, x: np.ndarray) -> Any:
    """An evaluation and a solve, with and without overlap in turns, for messages that are on their way ever longer."""
    import distdiff as dd
    from distdiff import source
    from distdiff.kernels import overlap
    from distdiff.warm import warm

    warm(run.comm)
    usual, worth = source.partition, overlap.WORTH
    source.partition = lambda *arguments, **more: usual(*arguments, **{**more, "strategy": "axes", "depth": 1})
    points = [x, x * 1.001 + 1e-6]
    with later(run.comm) as delay:
        lins = {}
        for name in ("overlapping", "waiting"):
            overlap.WORTH = 0.0 if name == "overlapping" else float("inf")
            lins[name] = dd.linearize(function, x)
            for k in range(2):
                _again(lins[name], points[k])
        overlap.WORTH, source.partition = worth, usual
        for microseconds in (0, 10, 20, 50):
            delay[0] = 1e-6 * microseconds
            _in_turns(run, f"messages {microseconds} us later", lins, points)
    _in_turns(run, "in memory of the node, one call a pass", lins, points)
    for lin in lins.values():
        lin.close()
    return run


def _in_turns(run: Any, name: str, lins: dict[str, Any], points: list[np.ndarray]) -> None:
    taken: dict[str, list[float]] = {way: [] for way in lins}
    for k in range(run.settings["repeats"] + 3):  # passes become one call the third time
        for way, lin in lins.items():
            seconds = run.seconds(partial(_again, lin, points[k % 2]))
            if k > 2:
                taken[way].append(seconds)
    report = lins["waiting"].report()
    for way, seconds in taken.items():
        run.figures.append(figure(f"{way}, {name}", seconds, 2 * report.k_star, "superstep", role="delay", ranks=2,
                                  messages=report.messages))


def _again(lin: Any, x: np.ndarray) -> None:
    lin.update(x)
    lin.vjp(1.0)
