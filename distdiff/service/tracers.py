"""Functions of modules, traced in processes beside the service (`recording`), which can be ended for certain.

A process that has done serves the next function, so that its start, half a second, is paid once; one that had to be
ended is replaced.  Meanwhile the ranks solve.

Many are traced at a time, each in a process of its own, so that those that never return keep no other waiting; a client
has half of the processes at most, so that no other's do.  Whoever comes when all are at work waits in line.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CancelledError, TracingError
from . import wire
from .modules import Modules

AT_ONCE = 16  # functions
RESTING = 2  # processes that are kept while nothing is asked of them: each has NumPy, SciPy and Numba in memory
DYING = 1.0  # seconds that a process has for ending when it has closed its output
LOOK = 0.05  # seconds between looks whether a trace is still wanted
LAUNCHERS = ("OMPI_", "PMIX_", "PMI_", "HYDRA_", "MPI_LOCAL")  # a process of its own is none of the job's ranks
CODE = ("import sys; sys.path.append(sys.argv[1]); from distdiff.service.recording import main; "
        "main(sys.argv[2], int(sys.argv[3]))")


class _Ended(Exception):
    """The process is no more."""


class _Process:
    """A process that traces; made on the thread that uses it, with which it ends."""

    def __init__(self, directory: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
        root = str(Path(__file__).parents[2])
        # -P: what lies in the working directory is not imported.
        self._process = subprocess.Popen([sys.executable, "-P", "-c", CODE, root, directory, str(os.getpid())],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
                                         start_new_session=True)

    def ask(self, asked: dict[str, Any], look: Callable[[], None]) -> dict[str, Any]:
        """What it answers; `look` is called while it works, and may raise.  `_Ended` where it ends instead."""
        into, out = self._process.stdin, self._process.stdout
        assert into is not None and out is not None
        said, poll = b"", select.poll()
        poll.register(out, select.POLLIN)
        try:
            into.write(json.dumps(asked).encode() + b"\n")
            into.flush()
            while not said.endswith(b"\n"):
                if not poll.poll(1000 * LOOK):
                    look()
                    continue
                piece = os.read(out.fileno(), 1 << 16)
                if not piece:
                    raise _Ended
                said += piece
        except BrokenPipeError:
            raise _Ended from None
        return json.loads(said)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self, patience: float = 0.0) -> str:
        """End it, and whatever it started; how it has ended, by itself if within `patience` seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(OSError):  # what was to be written
                stream.close()
        return f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit status {code}"


@dataclass(eq=False)
class _Asked:
    """A function to be traced.  unwanted: whether to end early; begins: called when it is a process's turn."""

    module: str
    function: str
    arguments: dict[str, Any]
    path: Path
    client: str
    unwanted: Callable[[], bool]
    begins: Callable[[], None]
    found: Future[Path] = field(default_factory=Future)

    def __str__(self) -> str:
        return f"{self.module}:{self.function}"


class Tracers:
    """The processes that trace functions of modules; none are started where there are no modules.

    limit : seconds that a trace may take;  at_once : functions that are traced at a time
    """

    def __init__(self, modules: Modules, limit: float, at_once: int = AT_ONCE) -> None:
        self._modules, self._limit, self._at_once, self._closed = modules, limit, at_once, False
        self._threads = ThreadPoolExecutor(at_once, "distdiff-tracer")  # a process ends with the thread that made it
        self._lock = threading.Lock()  # of what follows
        self._waiting: list[_Asked] = []
        self._under_way: list[_Asked] = []
        self._resting: list[_Process] = []  # the latest last

    @property
    def under_way(self) -> int:
        """Functions that are being traced."""
        return len(self._under_way)

    @property
    def waiting(self) -> int:
        """Functions whose trace waits for a process."""
        return len(self._waiting)

    def start(self) -> None:
        """Have a process ready for the first who asks."""
        if self._modules.directory is not None:
            self._threads.submit(lambda: self._rests(self._process()))

    def trace(self, module: str, function: str, arguments: dict[str, Any], path: Path, unwanted: Callable[[], bool],
              client: str = "", begins: Callable[[], None] = lambda: None) -> Future[Path]:
        """The tape of a function at arguments given by name, in the file `path`, or no such file and the error.

        unwanted: whether to end early, with `CancelledError`; whoever makes it true while the trace waits says so
        (`look`).  client: who asks.  begins: called when the trace no longer waits.  Both on other threads.
        """
        asked = _Asked(module, function, arguments, path, client, unwanted, begins)
        with self._lock:
            self._waiting.append(asked)
        self._advance()
        if self._closed:
            self.look()
        return asked.found

    def look(self) -> None:
        """Traces that wait and that nobody wants any more end."""
        with self._lock:
            left = [asked for asked in self._waiting if self._closed or asked.unwanted()]
            self._waiting = [asked for asked in self._waiting if asked not in left]
        for asked in left:
            asked.found.set_exception(_cancelled(asked, "before it had begun"))

    def close(self) -> None:
        """End what is being traced, and all processes."""
        with self._lock:
            self._closed = True
        self.look()
        self._threads.shutdown()
        for process in self._resting:
            process.end()

    def _advance(self) -> None:
        """Begin with those that wait, in their order, as far as there are processes for them."""
        with self._lock:
            for asked in tuple(self._waiting):
                theirs = sum(other.client == asked.client for other in self._under_way)
                if len(self._under_way) < self._at_once and theirs < max(self._at_once // 2, 1) and not self._closed:
                    self._waiting.remove(asked)
                    self._under_way.append(asked)
                    self._threads.submit(self._work, asked)

    def _work(self, asked: _Asked) -> None:
        """A trace from its beginning to its end, on a thread."""
        error = None
        try:
            asked.begins()
            self._trace(asked)
        except BaseException as raised:  # whatever it is, it is the answer
            error = raised
        with self._lock:
            self._under_way.remove(asked)
        self._advance()
        if error is None:
            asked.found.set_result(asked.path)
        else:
            asked.found.set_exception(error)

    def _process(self) -> _Process:
        """One that rests, or a new one; those that have ended while nothing was asked of them are none."""
        assert self._modules.directory is not None
        with self._lock:
            while self._resting:
                found = self._resting.pop()
                if found.alive:
                    return found
                found.end()
        return _Process(self._modules.directory)

    def _rests(self, process: _Process) -> None:
        """Nothing more is asked of a process for now."""
        with self._lock:
            self._resting.append(process)
            ended = self._resting.pop(0) if len(self._resting) > RESTING else None
        if ended is not None:
            ended.end()

    def _trace(self, asked: _Asked) -> None:
        began, path, done = time.monotonic(), asked.path, False
        given = path.with_name(f"{path.name}.arguments")

        def look() -> None:
            if self._closed or asked.unwanted():
                raise _cancelled(asked, "and its process ended")
            if time.monotonic() - began > self._limit:
                raise TracingError(f"{asked} was still being traced after {self._limit:g} s, and its process was "
                                   "ended: it never ends, or the service wants a larger --trace-limit")

        try:
            look()
            self._modules.require(asked.module)
            given.write_bytes(wire.to_npz({name: np.asarray(value) for name, value in asked.arguments.items()}))
            said = self._ask({"module": asked.module, "function": asked.function, "arguments": str(given),
                              "tape": str(path)}, look)
            if said:
                raise wire.error(**said)
            done = True
        finally:
            given.unlink(missing_ok=True)
            if not done:
                path.unlink(missing_ok=True)

    def _ask(self, asked: dict[str, Any], look: Callable[[], None]) -> dict[str, Any]:
        """What a process answers; whatever keeps it from that ends it."""
        process = self._process()
        try:
            answer = process.ask(asked, look)
        except _Ended:
            how = process.end(DYING)
            look()  # it ends with the thread that made it, where the service ends
            raise TracingError(f"the process that traced {asked['module']}:{asked['function']} ended, by {how}: the "
                               "function ended it, or took more memory than there is") from None
        except BaseException:
            process.end()
            raise
        self._rests(process)
        return answer


def _cancelled(asked: _Asked, how: str) -> CancelledError:
    return CancelledError(f"the trace of {asked} was cancelled, {how}")


__all__ = ["AT_ONCE", "Tracers"]
