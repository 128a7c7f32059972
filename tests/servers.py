"""A real service in processes of its own, for tests."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from test_cli import fresh_environment

import distdiff as dd

LIMIT = 60.0  # seconds for a start or an end


class Server:
    """`distdiff serve` on some ranks, from its start to its end in a `with`."""

    def __init__(self, folder: Path, *options: str, ranks: int = 1, unix: bool = True) -> None:
        self.folder, self.ranks, self._options, self._unix = folder, ranks, options, unix
        self.said: list[str] = []

    def start(self) -> Server:
        words = [sys.executable, "-m", "distdiff.cli", "serve", *self._options]
        # Sockets' paths are short, and pytest's directories are not.
        words += ["--unix", "s", "--token-file", "t"] if self._unix else ["--port", "0", "--token-file", "t"]
        if self.ranks > 1:
            mpirun = shutil.which("mpirun")
            assert mpirun is not None, "no mpirun on PATH"
            words = [mpirun, "-n", str(self.ranks), *words]
        self.process = subprocess.Popen(words, cwd=self.folder, text=True, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=fresh_environment(), start_new_session=True)
        ready = threading.Event()
        threading.Thread(target=self._listen, args=(ready,), daemon=True).start()
        if not ready.wait(LIMIT):
            self.kill()
            raise AssertionError(f"the service did not start: {self.said}")
        assert self.process.poll() is None or self.url, self.said
        return self

    def _listen(self, ready: threading.Event) -> None:
        self.url = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if found := re.search(r" serves .* at (\S+); token in", line):
                self.url = found[1]
                ready.set()
        ready.set()

    def connect(self, **keywords: Any) -> Any:
        return dd.connect(self.url, **{"token": self.folder / "t", **keywords})

    def pids(self) -> list[int]:
        """The ranks' processes, rank 0's first."""
        if self.ranks == 1:
            return [self.process.pid]
        found, parents = [], [self.process.pid]
        while parents:
            parent = parents.pop()
            for task in Path(f"/proc/{parent}/task").glob("*"):
                for child in map(int, (task / "children").read_text().split()):
                    words = Path(f"/proc/{child}/cmdline").read_bytes()
                    (found if words.startswith(sys.executable.encode()) else parents).append(child)
        return sorted(found)

    def wait(self) -> int:
        return self.process.wait(LIMIT)

    def stop(self) -> int:
        """End it as an operator does, at rank 0: a launcher that is told to end kills its ranks; the exit status."""
        os.kill(self.pids()[0], signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End everything that is left of it."""
        for pid in [*self.pids(), self.process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(LIMIT)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.stop()
        print("".join(self.said))  # shown where a test failed


def metric(client: Any, name: str) -> float:
    """The sum of a metric over its labels that follow the name in {}."""
    values = [float(line.rpartition(" ")[2]) for line in client.metrics().splitlines() if line.startswith(name)]
    return sum(values)


def wait_for(condition: Any, limit: float = 20.0) -> None:
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)
