"""Which stage the computation is in: times for the report, stages for PETSc's -log_view, a heartbeat for people."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

ENDS = {  # by stage, where it ends if it is cancelled
    "trace": "before the function's next statement", "partition": "between two layouts of the lines over the ranks",
    "evaluate": "between two supersteps", "plan": "when the solver is ready", "expand": "when the system is ready",
    "preaccumulate": "when the system is ready", "assemble": "when the system is ready",
    "set up": "when the solver is ready: a factorization has no supersteps, and the package can't be interrupted"}

_log_stages: dict[str, Any] = {}


def _petsc_stage(name: str) -> Any:
    """PETSc's log stage of that name, or None while PETSc has not been started (array code may never need it)."""
    petsc = sys.modules.get("petsc4py.PETSc")
    if petsc is None:
        return None
    if name not in _log_stages:
        _log_stages[name] = petsc.Log.Stage(f"distdiff {name}")
    return _log_stages[name]


class Stages:
    """Seconds spent in each stage, added up over its runs; `now` is the stage under way."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.now: str | None = None
        self.since = time.perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        outer, start, log = self.now, time.perf_counter(), _petsc_stage(name)
        self.now, self.since = name, start
        if log is not None:
            log.push()
        try:
            yield
        finally:
            if log is not None:
                log.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self.now, self.since = outer, time.perf_counter()


class Heartbeat:
    """Says on a stream what is under way, once it has taken `after` seconds and every `every` seconds from then on."""

    def __init__(self, stages: Stages, stream: TextIO | None = None, after: float = 2.0, every: float = 5.0) -> None:
        self._stages, self._stream = stages, stream or sys.stderr
        self._after, self._every = after, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="distdiff-progress", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        start, wait = time.perf_counter(), self._after
        while not self._stop.wait(wait):
            now = time.perf_counter()
            stage = self._stages.now or "working"
            print(f"distdiff: {stage} ({now - self._stages.since:.0f} s; {now - start:.0f} s in all)",
                  file=self._stream, flush=True)
            wait = self._every
