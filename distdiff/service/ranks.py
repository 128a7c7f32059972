"""What the ranks do together: one command after another, announced by rank 0, carried out by all.

Every system has a communicator of its own, so what one leaves behind after a failure reaches no other.  Ranks that wait
for a command sleep, for longer the longer nothing comes: an MPI library that waits by itself keeps a core busy.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from ..cancellation import watched
from ..comm import on_root, sound, together
from ..deadline import anew
from ..errors import BrokenCommunicatorError, DistdiffError, InputError, ServiceError
from ..linearization import Linearization, linearize
from ..nest import Nest
from ..partition import partition
from ..pictures import Picture
from ..program import Program, loaded
from ..solvers.select import Choice
from ..storage import Find, among
from .room import give_back
from .widths import Width, widest

SHORTEST, LONGEST = 2e-5, 2e-3  # seconds that a waiting rank sleeps at a time
LOOK = 16  # batches after which ranks look at their memory
SHARE = 0.02  # of the time it has been waiting


class Used(NamedTuple):
    """What a rank's process takes."""

    memory: int  # bytes in use
    seconds: float  # of processors' time since it began


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
    """A system on one rank.  sound: no rank has failed alone while others may have waited for it."""

    comm: MPI.Comm
    lin: Linearization
    memory: int
    sound: bool = True
    widths: dict[str, tuple[tuple[Choice, bool], Width]] = field(default_factory=dict)  # by kind, and by what known


class Ranks:
    """All ranks of the service.  Rank 0 calls the methods, the others `follow`.

    Whatever a method raises was raised on every rank, and concerns that command alone.

    Attributes
    ----------
    most : bytes a rank that may be used
    find : on rank 0, finds the users' rules that a tape calls (`storage.rules`)
    used : memory and processor time of every rank's process, as of its last command or some commands before
    """

    def __init__(self, comm: MPI.Comm, most_memory: int) -> None:
        self.comm, self.most = comm, most_memory
        self.find: Find = among(())
        self._held: dict[str, Held] = {}
        self._commands = 0
        self.used = [Used(_resident_bytes(), time.process_time())] * comm.size
        self._wanted: Callable[[], bool] = _never  # whether the command under way is to end

    # -- on rank 0 -------------------------------------------------------------------------------------------------

    @contextmanager
    def until(self, wanted: Callable[[], bool]) -> Iterator[None]:
        """Commands inside end between two supersteps once `wanted()` is true, on all ranks: `CancelledError`.

        wanted: called on this thread; another one may set what it looks at.
        """
        before, self._wanted = self._wanted, wanted
        try:
            yield
        finally:
            self._wanted = before

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

    def width(self, name: str, kind: str, at_once: int) -> Width:
        """How many right-hand sides of a kind are worth solving together, up to `at_once`.  No command."""
        held = self._held.get(name)
        lin = held.lin.behind(kind) if held is not None else None
        if held is None or lin is None:
            return Width(at_once, {})
        known, found = held.widths.get(kind, (None, None))
        now = lin.prospects
        if found is None or known is None or known[0] is not now[0] or known[1] != now[1]:
            found = widest(lin.pass_seconds, at_once)
            held.widths[kind] = now, found
        return found

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

    def ends(self, name: str) -> str:
        """Where the work on a system that is cancelled now ends, by what is under way."""
        held = self._held.get(name)
        if held is None:
            return "between two layouts of the lines or two stages of making the system"
        return held.lin.ends()

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
            self._count(command[0])

    def _command(self, *command: Any, here: Any = None) -> Any:
        self._announce(command)
        try:
            return self._carry_out(command, here)
        finally:
            self._count(command[0])

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

    def _count(self, verb: str) -> None:
        self._commands += 1
        if verb != "batch" or self._commands % LOOK == 0:
            self.used = self.comm.allgather(Used(_resident_bytes(), time.process_time()))

    def _carry_out(self, command: tuple[Any, ...], here: Any) -> Any:
        """A command on all ranks: all have carried it out, or all raise.

        They agree on the service's own communicator: a rank that failed alone may have left messages of a system on
        their way, and that system is then unsound, no other.
        """
        verb, name, *rest = command
        anew()
        try:
            with together(self.comm), self._watching(name):
                return getattr(self, f"_do_{verb}")(name, *rest, here)
        except BaseException:
            if not sound(self.comm):
                self.comm = self.comm.Dup()  # a sound one, made by all
                if name in self._held:
                    self._held[name].sound = False
            raise

    def _watching(self, name: str) -> AbstractContextManager[None]:
        """While a command works on a system that is there, it can be cancelled."""
        held = self._held.get(name)
        return watched(held.comm, self._wanted) if held is not None else nullcontext()

    def _sound(self, name: str) -> Linearization:
        held = self._held.get(name)  # none where it could not be opened again
        if held is None or not held.sound:
            raise BrokenCommunicatorError("a rank failed alone while it worked on this system: open it again")
        return held.lin

    def _do_batch(self, name: str, kind: str, units: range | None, expected: int, seeds: Any) -> np.ndarray:
        return self._sound(name).batch(kind, units if units is not None else seeds, expected)

    def _do_move(self, name: str, x: np.ndarray | None) -> np.ndarray | None:
        lin = self._sound(name)
        inputs, outputs = lin.nests
        value = lin.update(*(inputs.nest(x) if x is not None else (None,) * len(inputs.spec.children)))
        return outputs.flat(value, "value") if x is not None else None

    def _do_report(self, name: str, here: None) -> dict[str, Any]:
        report = self._sound(name).report()
        return {**report.to_dict(), "text": str(report)}

    def _do_picture(self, name: str, kind: str, here: None) -> Picture:
        return self._sound(name).plot(kind)

    def _do_close(self, name: str, here: None) -> None:
        held = self._held.pop(name, None)
        if held is None:
            return
        held.lin.close()
        if held.sound:  # else something may be on its way over it still
            held.comm.Free()
        give_back()

    def _do_open(self, name: str, settings: dict[str, Any], here: Any) -> Opened | None:
        path, x = here or ("", None)
        comm = self.comm.Dup()
        try:
            with watched(comm, self._wanted):
                program = loaded(path, self.find, self.most, comm)
                memory = on_root(comm, lambda: self._admit(program, x))
                args: Any = () if comm.rank else program.point
                if x is not None:
                    args = Nest(program.in_tree, [leaf.shape for leaf in program.inputs]).nest(x)
                lin = linearize(program, *args, argnums=tuple(range(len(args))) or 0, comm=comm,
                                on_branch_change="raise", **settings)
        except DistdiffError:  # raised by all, who are in step
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
        if self.memory + memory > self.most:
            raise ServiceError(
                f"this system would take about {memory / 1e6:,.0f} MB a rank, and of the {self.most / 1e6:,.0f} MB "
                f"that the service may use {self.memory / 1e6:,.0f} MB are taken: delete systems, start the service on "
                "more ranks or with a larger --memory", status=413)
        return memory


def _never() -> bool:
    return False


def _resident_bytes() -> int:
    """Memory of this process that is in use, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
