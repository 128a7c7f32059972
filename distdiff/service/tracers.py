"""Functions of modules, traced in processes beside the service (`recording`), which can be ended for certain.

A process that has done serves the next function, so that its start, half a second, is paid once; one that had to be
ended is replaced.  Meanwhile the ranks solve.
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
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CancelledError, TracingError
from . import wire
from .modules import Modules

AT_ONCE = 2  # functions: one that never returns does not keep the next from being traced
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


class Tracers:
    """The processes that trace functions of modules; none are started where there are no modules.

    limit : seconds that a trace may take
    """

    def __init__(self, modules: Modules, limit: float, at_once: int = AT_ONCE) -> None:
        self._modules, self._limit, self._closed = modules, limit, False
        self._threads = ThreadPoolExecutor(at_once, "distdiff-tracer")
        self._processes: dict[int, _Process] = {}  # by the thread that uses it
        self._under_way: set[tuple[str, str, Path]] = set()

    @property
    def under_way(self) -> int:
        """Functions that are being traced."""
        return len(self._under_way)

    def start(self) -> None:
        """Have a process ready for the first who asks."""
        if self._modules.directory is not None:
            self._threads.submit(self._process)

    def trace(self, module: str, function: str, arguments: dict[str, Any], path: Path,
              unwanted: Callable[[], bool]) -> Future[Path]:
        """The tape of a function at arguments given by name, in the file `path`, or no such file and the error.

        unwanted: whether to end early, with `CancelledError`; called on another thread.
        """
        return self._threads.submit(self._trace, module, function, arguments, path, unwanted)

    def close(self) -> None:
        """End what is being traced, and all processes."""
        self._closed = True
        self._threads.shutdown()
        for process in self._processes.values():
            process.end()

    def _process(self) -> _Process:
        """This thread's, which may have ended while nothing was asked of it."""
        me = threading.get_ident()
        found = self._processes.get(me)
        if found is None or not found.alive:
            assert self._modules.directory is not None
            found = self._processes[me] = _Process(self._modules.directory)
        return found

    def _trace(self, module: str, function: str, arguments: dict[str, Any], path: Path,
               unwanted: Callable[[], bool]) -> Path:
        began, given, done = time.monotonic(), path.with_name(f"{path.name}.arguments"), False

        def look() -> None:
            if self._closed or unwanted():
                raise CancelledError(f"the trace of {module}:{function} was cancelled, and its process ended")
            if time.monotonic() - began > self._limit:
                raise TracingError(f"{module}:{function} was still being traced after {self._limit:g} s, and its "
                                   "process was ended: it never ends, or the service wants a larger --trace-limit")

        self._under_way.add((module, function, path))
        try:
            look()
            self._modules.require(module)
            given.write_bytes(wire.to_npz({name: np.asarray(value) for name, value in arguments.items()}))
            said = self._ask({"module": module, "function": function, "arguments": str(given), "tape": str(path)}, look)
            if said:
                raise wire.error(**said)
            done = True
            return path
        finally:
            self._under_way.remove((module, function, path))
            given.unlink(missing_ok=True)
            if not done:
                path.unlink(missing_ok=True)

    def _ask(self, asked: dict[str, Any], look: Callable[[], None]) -> dict[str, Any]:
        """What this thread's process answers; whatever keeps it from that ends it."""
        process = self._process()
        try:
            return process.ask(asked, look)
        except _Ended:
            raise TracingError(f"the process that traced {asked['module']}:{asked['function']} ended, by "
                               f"{process.end(DYING)}: the function ended it, or took more memory than there is"
                               ) from None
        except BaseException:
            process.end()
            raise


__all__ = ["Tracers"]
