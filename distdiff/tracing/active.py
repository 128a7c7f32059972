"""Which traces a thread is in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .recorder import Recorder

TRACES: dict[int, list[Recorder]] = {}  # by thread, the innermost last
CAREFUL: set[int] = set()  # ids of recorders whose function is to learn of floating-point errors (`verdict`)


def running() -> Recorder | None:
    """The trace that this thread is in, or None."""
    traces = TRACES.get(threading.get_ident())
    return traces[-1] if traces else None


def failed(error: Exception | None = None) -> None:
    """An operation on traced values has raised: see `Recorder.failed`; unless a guard says already where it does."""
    if error is not None and "_distdiff_foreseen" in error.__dict__:
        return
    for rec in TRACES.get(threading.get_ident(), ()):
        rec.failed()


@contextmanager
def set_aside() -> Iterator[None]:
    """While the body runs, this thread is in no trace: for code that is called with plain values."""
    me = threading.get_ident()
    traces = TRACES.pop(me, None)
    try:
        yield
    finally:
        if traces is not None:
            TRACES[me] = traces
