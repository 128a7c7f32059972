"""Rank 0's part of the service: the systems, and one turn of the queue after another.

`Service` knows nothing of HTTP.  Threads that speak with clients submit jobs and read `systems`; the main thread works
turns off, so everything that computes or communicates happens on it.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import (
    BranchChangedError,
    BrokenCommunicatorError,
    CancelledError,
    DistdiffError,
    FormatError,
    MovedError,
    ServiceError,
)
from ..nest import Nest, leaf_names
from ..pictures import Picture
from ..storage.trees import to_json
from .jobs import MATRICES, VECTORS, Job, Queue, Turn
from .metrics import Metrics
from .modules import Modules
from .options import TRACE_LIMIT
from .ranks import Opened, Ranks
from .room import SMALL, column
from .spool import Spool
from .tracers import AT_ONCE, Tracers
from .widths import Width

MOST_KEPT = 64  # jobs that have ended and can still be asked about
MOST_WAITING = 1 << 31  # bytes of vectors that wait, or what memory there is
MOST_EXPECTED = 1 << 16  # right-hand sides at a point, after which the choice of a method changes no more


ASIDE = object()  # instead of a job's result: it waits for its function to be traced
LASTING = ("spy", "levels", "partition")


class At(NamedTuple):
    """A point and the result there, as vectors; points of a system are numbered from 1."""

    number: int
    x: np.ndarray
    value: np.ndarray


@dataclass
class System:
    """What clients can ask about without waiting for a turn."""

    id: str
    about: dict[str, Any]
    opened: Opened
    at: At
    served: int = 0  # right-hand sides at this point
    created: float = field(default_factory=time.time)
    pictures: dict[str, Picture] = field(default_factory=dict)  # by kind, those that last
    widths: dict[str, int] = field(default_factory=dict)  # by kind, requests that one solve answers at most

    def wanted(self, kind: str) -> Nest:
        """How a right-hand side nests."""
        return self.opened.outputs if kind == "vjp" else self.opened.inputs

    def names(self, kind: str) -> list[str] | None:
        """The names of a right-hand side's leaves, or of a point's, if it has any: a result has none."""
        return None if kind == "vjp" else leaf_names(self.opened.names, self.opened.inputs.spec)

    def given(self, kind: str) -> Nest:
        """How the result for one right-hand side nests."""
        return self.opened.outputs if kind == "jvp" else self.opened.inputs

    def seeds(self, matrix: str) -> tuple[str, int, int]:
        """For a "jacobian" or "hessian" the kind of its right-hand sides, how many, and numbers in each result."""
        n_in, n_out = self.opened.inputs.size, self.opened.outputs.size
        if matrix == "hessian":
            return "hvp", n_in, n_in
        return ("jvp", n_in, n_out) if n_in <= n_out else ("vjp", n_out, n_in)

    def describe(self) -> dict[str, Any]:
        """Plain data."""
        inputs, outputs = self.opened.inputs, self.opened.outputs
        return {
            "id": self.id, "name": self.about["name"], "function": self.about.get("function"),
            "created": self.created, "point": self.at.number, "lines": self.opened.lines,
            "predicted_memory": self.opened.memory, "names": self.opened.names,
            "settings": self.about["settings"],
            "arguments": {"tree": to_json(inputs.spec), "shapes": inputs.shapes},
            "result": {"tree": to_json(outputs.spec), "shapes": outputs.shapes}}


class Service:
    """All systems, and the queue of what is asked of them.

    most_systems : held at a time;  most_result : bytes that a dense result may take;  trace_limit : seconds that a
        trace of a module's function may take
    """

    def __init__(self, ranks: Ranks, spool: Spool, modules: Modules, *, most_systems: int = 64,
                 most_result: int = 1 << 30, at_once: int = 64, most_jobs: int = 4096,
                 trace_limit: float = TRACE_LIMIT, traces: int = AT_ONCE) -> None:
        self.ranks, self.spool, self.modules = ranks, spool, modules
        ranks.find = modules.rule
        self.most_systems, self.most_result = most_systems, most_result
        self.queue = Queue(at_once, most_jobs, min(MOST_WAITING, ranks.most),
                           pays=lambda system, kind: self.width(system, kind).most)
        self.tracers = Tracers(modules, trace_limit, traces)
        self.systems: dict[str, System] = {}
        self.jobs: dict[str, Job] = {}  # under way; and those that somebody may come back for
        self._unsent: dict[Job, int] = {}  # bytes that answers take until clients have them, once the jobs are over
        self.busy = False  # a turn is being worked off
        self.metrics = Metrics(self)

    def submit(self, job: Job, keep: bool = False) -> Job:
        """Have a job wait for its turn.  keep: it can be asked about after its end, as long as there is room for it and
        its result among the latest."""
        job.kept = keep
        if job.memory > SMALL:
            self.require_room(job.memory, f"this {job.kind}")
        job.listeners.append(self._listen)
        self.jobs[job.id] = job
        try:
            return self.queue.submit(job)
        except ServiceError:
            del self.jobs[job.id]
            raise

    def require_room(self, memory: int, what: str, held: Job | None = None) -> None:
        """Raise `ServiceError` (413, or 507 where others take it) unless rank 0 has that many bytes beside the systems
        and what is under way; results kept for those who may come back make room, the oldest first, but that of
        `held`."""
        most, systems = self.ranks.most, self.ranks.memory
        jobs = tuple(self.jobs.values())
        on_its_way = {job: size for job, size in self._unsent.items() if job.over}
        under_way = sum(job.memory for job in jobs if not job.over or job is held or job in on_its_way)
        under_way += sum(on_its_way.values())
        kept = [job for job in jobs if job.over and job.memory and job is not held and job not in on_its_way]
        while kept and systems + under_way + sum(job.memory for job in kept) + memory > most:
            self.jobs.pop(kept.pop(0).id, None)
        if systems + under_way + memory > most:
            raise ServiceError(
                f"{what} would take about {memory / 1e6:,.1f} MB on rank 0 until it is answered, and of the "
                f"{most / 1e6:,.1f} MB that the service may use {systems / 1e6:,.1f} MB are taken by systems and "
                f"{under_way / 1e6:,.1f} MB by results under way: ask for products"
                f"{', ask again later' if under_way else ''}, or start the service with a larger --memory",
                status=507 if systems + memory <= most else 413)

    def held(self, job: Job, memory: int) -> Callable[[], None]:
        """Count so many bytes beside what a job keeps, from its end until what is returned is called: its answer is
        made and sent.  On the thread that asks for room."""
        self._unsent[job] = self._unsent.get(job, 0) + memory

        def sent() -> None:
            self._unsent[job] -= memory
            if not self._unsent[job]:
                del self._unsent[job]

        return sent

    def columns(self, system: System) -> int:
        """Right-hand sides that one solve may have: as many as there is memory for, a rank."""
        inputs, outputs = system.opened.inputs.size, system.opened.outputs.size
        each = column(system.opened.lines, len(self.ranks.used), inputs + outputs)
        return max(1, min(self.queue.at_once, (self.ranks.most - self.ranks.memory) // each))

    def _listen(self, job: Job) -> None:
        """On the thread that ended the job."""
        if not job.over:
            return
        self.metrics.ended(job)
        if not job.kept:
            self.jobs.pop(job.id, None)
            return
        kept = [other for other in tuple(self.jobs.values()) if other.over and other not in self._unsent]
        held = sum(other.nbytes for other in kept)
        while len(kept) > MOST_KEPT or (held > self.most_result and len(kept) > 1):
            oldest = kept.pop(0)
            held -= oldest.nbytes
            self.jobs.pop(oldest.id, None)

    def cancel(self, job: Job) -> str:
        """Nothing more is computed for a job; when that is.

        What waits is gone at once.  Work under way ends where its method lets it, on all ranks; where others'
        right-hand sides are solved together with the job's they go on, and its result is dropped.  `ServiceError` (409)
        for what is carried through.
        """
        if job.over:
            return "it had ended before"
        if not job.cancellable:
            raise ServiceError("a system that is being deleted stays no longer", status=409)
        ends = "at once"
        if job.state == "running":
            traced = job.trace is not None and not job.trace.done()
            ends = "at once: the process that traces its function is ended" if traced else self.ranks.ends(job.system)
        self.abandon(job)
        return "it had ended before" if job.over and job.state != "cancelled" else ends

    def abandon(self, job: Job) -> None:
        """Compute nothing more for a job, if it can be left."""
        self.queue.cancel(job)
        self.tracers.look()

    def restore(self) -> None:
        """Open what the spool holds, each at the point acknowledged last."""
        for kept in self.spool.systems():
            if isinstance(kept, DistdiffError):
                print(f"distdiff: {kept}", file=sys.stderr, flush=True)
                continue
            try:
                opened = self.ranks.open(kept.id, str(kept.tape), kept.about["settings"], kept.x)
            except DistdiffError as error:  # as damaged files are; others can still be served
                print(f"distdiff: the system {kept.id} can't be opened again: {error}", file=sys.stderr, flush=True)
                continue
            self.systems[kept.id] = System(kept.id, kept.about, opened, At(kept.number, opened.x, opened.value),
                                           created=kept.about["created"])

    def run(self) -> None:
        """Work turns off until the queue is closed."""
        while (turn := self.queue.take()) is not None:
            self.work(turn)
            del turn  # with it results, which would stay until the next turn

    def work(self, turn: Turn) -> None:
        """One turn; whatever it raises is its jobs' error."""
        self.busy = True
        self.metrics.busy.set(1)
        for job in turn.jobs:
            job.start()
        first = turn.jobs[0]  # asked often: mostly it is not cancelled, and nobody else need be looked at
        try:
            with self.ranks.until(lambda: self.queue.closed or (
                    first.cancelled and all(job.cancelled for job in turn.jobs))):
                if turn.kind in VECTORS:
                    self._vectors(turn.jobs)
                elif turn.kind in MATRICES:
                    self._columns(turn.jobs[0])
                else:
                    job = turn.jobs[0]
                    found = getattr(self, f"_{job.kind}")(job)
                    if found is not ASIDE:
                        job.end("done", found)
        except CancelledError:
            for job in turn.jobs:
                if job.cancelled:
                    job.end("cancelled")
                else:
                    job.end("failed", error=ServiceError("the service has ended", status=503))
        except Exception as error:  # whatever it is, it is the answer
            for job in turn.jobs:
                job.end("failed", error=error)
        finally:
            self.busy = False
            self.metrics.busy.set(0)

    # -- one method a kind of job; on the main thread ------------------------------------------------------------------

    def _vectors(self, jobs: list[Job]) -> None:
        """One solve for all; each by itself if that fails, so that nobody answers for another's right-hand side."""
        system, jobs = self._system(jobs[0].system), [job for job in jobs if not self._passed_over(job)]
        if not jobs:
            return
        try:
            results = self._solve(system, jobs[0].kind, _side_by_side([job.seed for job in jobs]), len(jobs))
        except CancelledError:  # all of them are
            raise
        except DistdiffError as error:
            if len(jobs) == 1:
                jobs[0].end("failed", error=error)
            else:
                for job in jobs:
                    self._vectors([job])
            return
        for k, job in enumerate(jobs):
            job.done, job.point = 1, system.at.number
            job.end("cancelled") if job.cancelled else job.end("done", results[:, k].copy())

    def _columns(self, job: Job) -> None:
        """The next columns of a Jacobian or Hessian."""
        if self._passed_over(job):
            return
        system = self._system(job.system)
        kind, columns, size = system.seeds(job.kind)
        if job.result is None:
            job.columns, job.point, job.result = columns, system.at.number, np.empty((columns, size))
        stop = min(job.done + self.columns(system), job.columns)
        found = self._solve(system, kind, range(job.done, stop), stop - job.done, job.columns)
        job.result[job.done:stop] = found.T
        job.done = stop
        if job.cancelled:
            job.result = None
            job.end("cancelled")
        elif stop < job.columns:
            job.tell()
            self.queue.again(job)
        else:
            job.end("done", job.result.T if kind == "jvp" else job.result)

    def _solve(self, system: System, kind: str, seeds: np.ndarray | range, count: int, expected: int = 1,
               ) -> np.ndarray:
        """A batch, `count` columns of which are asked for.

        As many right-hand sides as came at this point so far are expected to follow, so that setting up a faster method
        is paid for by at most as much again.
        """
        following = 1 << (min(max(expected, count + system.served), MOST_EXPECTED) - 1).bit_length()
        began = time.perf_counter()
        try:
            found = self.ranks.batch(system.id, kind, seeds, following)
        except BrokenCommunicatorError:
            self._reopen(system)
            found = self.ranks.batch(system.id, kind, seeds, following)
        system.served += count
        self.metrics.solved(kind, count, time.perf_counter() - began)
        return found

    def _open(self, job: Job) -> Any:
        """A new system, from a tape in a file, or from a function of a module."""
        path, about, function = job.payload["path"], dict(job.payload["about"]), job.payload.get("function")
        if function is not None and job.trace is None and len(self.systems) < self.most_systems:
            return self._have_traced(job, path, *function)
        try:
            if len(self.systems) >= self.most_systems:
                raise ServiceError(f"{len(self.systems)} systems are held, which is as many as may be: delete some",
                                   status=409)
            if job.trace is not None:
                job.trace.result()
            opened = self.ranks.open(job.system, str(path), about["settings"])
            if job.cancelled:  # nobody would know it by name
                self.ranks.close(job.system)
                raise CancelledError("the system was cancelled as soon as it was there")
            about["created"] = time.time()
            try:
                self.spool.keep(job.system, path, about, opened.x, function and function[2])
            except OSError as error:
                self.ranks.close(job.system)
                raise ServiceError(f"the spool can't be written: {error}", status=507) from error
        except FormatError as error:
            raise FormatError(str(error).replace(str(path), "what was sent")) from error.__cause__
        finally:
            path.unlink(missing_ok=True)
        system = System(job.system, about, opened, At(1, opened.x, opened.value), created=about["created"])
        self.systems[job.system] = system
        return system.describe()

    def _have_traced(self, job: Job, path: Path, module: str, name: str, arguments: dict[str, Any]) -> Any:
        """Have a module's function traced beside; the job's next turn comes when that has ended.  Others are served."""
        self.queue.aside(job)
        job.wait()  # for a process
        job.trace = self.tracers.trace(module, name, arguments, path, lambda: job.cancelled or self.queue.closed,
                                       job.client, job.start)
        job.trace.add_done_callback(lambda _: self.queue.again(job))
        return ASIDE

    def _move(self, job: Job) -> Any:
        """Another point; where that fails, or is cancelled, the system stays where it was.  The result there."""
        system = self._system(job.system)
        if job.trace is not None:
            at = self._replaced(system, job.trace.result())
        else:
            try:
                at = self._moved(system, job.payload)
            except BranchChangedError:
                arguments = self.spool.arguments(system.id)
                if arguments is None:
                    raise
                assert system.opened.names is not None
                arguments.update(zip(system.opened.names, system.opened.inputs.nest(job.payload)))
                module, _, name = system.about["function"].partition(":")
                return self._have_traced(job, self.spool.incoming(), module, name, arguments)
        job.done, job.point = 1, at.number
        return at.value

    def _moved(self, system: System, x: np.ndarray) -> At:
        before = system.at
        if np.array_equal(x.view(np.uint64), before.x.view(np.uint64)):  # by bits: -0.0 is another point than 0.0
            return before
        try:
            value = self.ranks.move(system.id, x)
        except BrokenCommunicatorError:
            self._reopen(system)
            value = self.ranks.move(system.id, x)
        except Exception:  # whatever it is, the system is back at its point first
            self._back(system)
            raise
        after = At(before.number + 1, x, value)
        try:
            self.spool.move(system.id, after.number, x)
        except OSError as error:
            self._back(system)
            raise ServiceError(f"the spool can't be written: {error}", status=507) from error
        system.at, system.served = after, 0
        return after

    def _picture(self, job: Job) -> Picture:
        """The picture of that kind; what does not depend on the point and is not measured is taken once."""
        system = self._system(job.system)
        try:
            found = system.pictures.get(job.payload) or self.ranks.picture(system.id, job.payload)
        except CancelledError:  # perhaps in the middle of a replay that was measured
            self._back(system)
            raise
        if job.payload in LASTING:
            system.pictures[job.payload] = found
        return found

    def _replaced(self, system: System, path: Path) -> At:
        """The system with another tape of its function, and its point: where a decision falls another way."""
        try:
            self.ranks.close(system.id)
            try:
                opened = self.ranks.open(system.id, str(path), system.about["settings"])
                self.spool.move(system.id, system.at.number + 1, opened.x, path)
            except Exception:  # whatever it is: raised again
                self._reopen(system)
                raise
        finally:
            path.unlink(missing_ok=True)
        system.opened, system.served = opened, 0
        system.at = At(system.at.number + 1, opened.x, opened.value)
        return system.at

    def width(self, system: str, kind: str) -> Width:
        """How many requests for a product of a system are solved together, and why."""
        held = self.systems.get(system)
        found = self.ranks.width(system, kind, self.queue.at_once)
        if held is not None:
            found = found._replace(most=min(found.most, self.columns(held)))
            held.widths[kind] = found.most
        return found

    def _report(self, job: Job) -> dict[str, Any]:
        system = self._system(job.system)
        report = self.ranks.report(system.id)
        widths = {kind: width for kind in VECTORS if (width := self.width(system.id, kind)).seconds}
        report["batches"] = {kind: {"most": width.most, "seconds": width.seconds, "reason": width.reason()}
                             for kind, width in widths.items()}
        report["text"] += "".join(f"\nbatches      {kind}: {width.reason()}" for kind, width in widths.items())
        return report

    def _close(self, job: Job) -> None:
        system = self._system(job.system)
        self.spool.drop(system.id)
        del self.systems[system.id]
        self.ranks.close(system.id)

    # -- what they share -----------------------------------------------------------------------------------------------

    def _system(self, name: str) -> System:
        if name not in self.systems:
            raise ServiceError(f"there is no system {name!r}; it may have been deleted", status=404)
        return self.systems[name]

    def _passed_over(self, job: Job) -> bool:
        """Whether the job was cancelled, or is about a point that the system has left; then it has ended."""
        if job.cancelled:
            job.end("cancelled")
        elif job.payload is not None and job.payload != (now := self._system(job.system).at.number):
            job.end("failed", error=MovedError(
                f"the system has moved to its point {now}, and the answer was asked for at point {job.payload}: update "
                "it to the point wanted, or open a system of your own", status=409))
        return job.over

    def _back(self, system: System) -> None:
        """To the point where the system was, after a move that failed or was cancelled; this is carried through."""
        with self.ranks.until(lambda: False):
            self.ranks.move(system.id, system.at.x)

    def _reopen(self, system: System) -> None:
        """Make a system anew from its tape, after a failure that left its ranks out of step; carried through."""
        with self.ranks.until(lambda: False):
            self.ranks.close(system.id)
            self.ranks.open(system.id, str(self.spool.tape(system.id)), system.about["settings"], system.at.x)

    @staticmethod
    def fresh_id() -> str:
        return secrets.token_hex(6)


def _side_by_side(seeds: list[np.ndarray]) -> np.ndarray:
    """Vectors as columns, and columns of zeros up to a power of two: solvers set up for a width, and few widths are
    few set-ups."""
    columns = np.zeros((len(seeds[0]), 1 << (len(seeds) - 1).bit_length()))
    for k, seed in enumerate(seeds):
        columns[:, k] = seed
    return columns
