"""What the ranks do together: one command after another, announced by rank 0, carried out by all.

Every system has a communicator of its own, so what one leaves behind after a failure reaches no other.  Ranks that wait
for a command sleep, for longer the longer nothing comes: an MPI library that waits by itself keeps a core busy.
"""

from __future__ import annotations

import os
import pickle
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI

from ..comm import on_root, together
from ..errors import InputError, ServiceError
from ..linearization import Linearization, linearize
from ..nest import Nest
from ..partition import partition
from ..pictures import Picture
from ..program import Program, load

SHORTEST, LONGEST = 2e-5, 2e-3  # seconds that a waiting rank sleeps at a time
SHARE = 0.02  # of the time it has been waiting


@dataclass(frozen=True)
class Opened:
    """What rank 0 keeps of a system that was opened."""

    inputs: Nest
    outputs: Nest
    names: tuple[str, ...] | None
    x: np.ndarray
    value: np.ndarray
    lines: int
    memory: int  # bytes a rank, predicted


@dataclass
class Held:
    """A system on one rank."""

    comm: MPI.Comm
    lin: Linearization
    memory: int


class Ranks:
    """All ranks of the service.  Rank 0 calls the methods, the others `follow`.

    Whatever a method raises was raised on every rank, and concerns that command alone.

    Attributes
    ----------
    resident : bytes of every rank's process after the last command
    """

    def __init__(self, comm: MPI.Comm, most_memory: int) -> None:
        self.comm, self._most = comm, most_memory
        self._held: dict[str, Held] = {}
        self.resident = [_resident_bytes()] * comm.size

    # -- on rank 0 -------------------------------------------------------------------------------------------------

    def open(self, name: str, path: str, settings: dict[str, Any], x: np.ndarray | None = None) -> Opened:
        """Linearize the tape in a file, at x or at the point in the file."""
        return self._command("open", name, settings, here=(path, x))

    def move(self, name: str, x: np.ndarray) -> np.ndarray:
        """Another point; the result there, as a vector.  After an error there is none: move again."""
        return self._command("move", name, here=x)

    def batch(self, name: str, kind: str, seeds: np.ndarray | range, expected: int = 1) -> np.ndarray:
        """`Linearization.batch`."""
        return self._command("batch", name, kind, seeds if isinstance(seeds, range) else None, expected, here=seeds)

    def report(self, name: str) -> dict[str, Any]:
        """`Linearization.report`, as plain data, and as text."""
        return self._command("report", name)

    def picture(self, name: str, kind: str) -> Picture:
        """`Linearization.plot`: what is drawn, not the drawing."""
        return self._command("picture", name, kind)

    def close(self, name: str) -> None:
        self._command("close", name)

    def stop(self) -> None:
        """Every rank frees what it holds and leaves `follow`."""
        for name in tuple(self._held):
            self.close(name)
        self._announce(("stop",))

    def __contains__(self, name: str) -> bool:
        return name in self._held

    @property
    def memory(self) -> int:
        """Bytes a rank that were predicted for all systems together."""
        return sum(held.memory for held in self._held.values())

    # -- on all ----------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """What ranks other than 0 do until rank 0 stops them."""
        while True:
            command = self._next()
            if command[0] == "stop":
                for held in self._held.values():
                    held.lin.close()
                return
            try:
                self._carry_out(command, None)
            except Exception:  # rank 0 has the same error, and answers with it
                pass
            self._count()

    def _command(self, *command: Any, here: Any = None) -> Any:
        self._announce(command)
        try:
            return self._carry_out(command, here)
        finally:
            self._count()

    def _announce(self, command: tuple[Any, ...]) -> None:
        if self.comm.size == 1:
            return
        packed = np.frombuffer(pickle.dumps(command), dtype=np.uint8)
        self.comm.Ibcast(np.array([packed.size], dtype=np.int64), root=0).Wait()
        self.comm.Bcast(packed, root=0)

    def _next(self) -> tuple[Any, ...]:
        """The next command, waited for asleep."""
        size = np.empty(1, dtype=np.int64)
        coming = self.comm.Ibcast(size, root=0)
        began = time.monotonic()
        while not coming.Test():
            time.sleep(min(max(SHARE * (time.monotonic() - began), SHORTEST), LONGEST))
        packed = np.empty(int(size[0]), dtype=np.uint8)
        self.comm.Bcast(packed, root=0)
        return pickle.loads(packed.data)

    def _count(self) -> None:
        self.resident = self.comm.allgather(_resident_bytes()) if self.comm.size > 1 else [_resident_bytes()]

    def _carry_out(self, command: tuple[Any, ...], here: Any) -> Any:
        verb, name, *rest = command
        if verb == "open":
            return self._open(name, *rest, *(here or (None, None)))
        if verb == "close":
            held = self._held.pop(name)
            with together(held.comm):
                held.lin.close()
            held.comm.Free()
            return None
        held = self._held[name]
        with together(held.comm):
            if verb == "move":
                return self._move(held.lin, here)
            if verb == "batch":
                kind, units, expected = rest
                return held.lin.batch(kind, units if units is not None else here, expected)
            if verb == "picture":
                return held.lin.plot(*rest)
            assert verb == "report", verb
            report = held.lin.report()
            return {**report.to_dict(), "text": str(report)}

    def _open(self, name: str, settings: dict[str, Any], path: str | None, x: np.ndarray | None) -> Opened | None:
        comm = self.comm.Dup()
        lin = None
        try:
            with together(comm):
                program = load(path or "", most_lines=max(self._most // 8, 1), comm=comm)
                memory = on_root(comm, lambda: self._admit(program, x))
                args: Any = () if comm.rank else program.point
                if x is not None:
                    args = Nest(program.in_tree, [leaf.shape for leaf in program.inputs]).nest(x)
                lin = linearize(program, *args, argnums=tuple(range(len(args))) or 0, comm=comm,
                                on_branch_change="raise", **settings)
        except BaseException:
            if lin is not None:
                lin.close()
            comm.Free()
            raise
        self._held[name] = Held(comm, lin, memory)
        if comm.rank:
            return None
        inputs, outputs = lin.nests
        point = inputs.flat(args, "point") if x is None else x
        return Opened(inputs, outputs, program.names, point, outputs.flat(lin.value, "value"), program.lines, memory)

    def _admit(self, program: Program, x: np.ndarray | None) -> int:
        """Bytes a rank that the system will take, if there is room for them."""
        if program.point is None and x is None:
            raise InputError("the tape was saved without a point: tape.save(path, point=(x, ...))")
        memory = partition(program, self.comm.size).quality.memory
        if self.memory + memory > self._most:
            raise ServiceError(
                f"this system would take about {memory / 1e6:,.0f} MB a rank, and of the {self._most / 1e6:,.0f} MB "
                f"that the service may use {self.memory / 1e6:,.0f} MB are taken: delete systems, start the service on "
                "more ranks or with a larger --memory", status=413)
        return memory

    @staticmethod
    def _move(lin: Linearization, x: np.ndarray | None) -> np.ndarray | None:
        inputs, outputs = lin.nests
        args = inputs.nest(x) if x is not None else (None,) * len(inputs.spec.children)
        value = lin.update(*args)
        return outputs.flat(value, "value") if x is not None else None


def _resident_bytes() -> int:
    """Memory of this process that is in use, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
