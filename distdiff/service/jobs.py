"""Who is served next: jobs, and the queue between the threads that accept them and the one that computes.

Systems take turns, and within a system the clients do.  Jobs on one system keep their order where it matters: what
came before a move to another point is answered at the old point, what came after at the new.  Between two moves,
vectors that want the same product are one *turn*, solved together; a Jacobian takes a turn for every batch of its
columns, so it delays nobody for longer than a batch.  A turn ends between two supersteps once all its jobs are
cancelled.
"""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ServiceError

VECTORS = ("jvp", "vjp", "hvp")
MATRICES = ("jacobian", "hessian")
ENDED = ("done", "failed", "cancelled")
_OURS, _numbers = secrets.token_hex(4), itertools.count(1)  # no two services' jobs have one name


@dataclass(eq=False)
class Job:
    """One thing that a client asked for.  Its state is changed by the computing thread, or by the one that traces its
    function, and read by all.

    Attributes
    ----------
    kind : "jvp", "vjp", "hvp", "jacobian", "hessian", or what only one at a time does on a system: "open", "move",
        "report", "picture", "close"
    columns, done : right-hand sides it takes, and how many of them have been solved for
    memory : bytes on rank 0 that it is predicted to take until it is answered; after its end those of its result
    state : queued, running, done, failed or cancelled
    """

    system: str
    kind: str
    client: str = ""
    seed: np.ndarray | None = None
    payload: Any = None
    columns: int = 1
    memory: int = 0
    id: str = field(default_factory=lambda: f"{_OURS}{next(_numbers):08x}")
    done: int = 0
    state: str = "queued"
    result: Any = None
    error: BaseException | None = None
    point: int = 0  # number of the point at which it was answered
    submitted: float = field(default_factory=time.time)
    began: float | None = None
    ended: float | None = None
    cancelled: bool = False
    trace: Future[Path] | None = None  # of the function that it wants traced, in a process beside
    kept: bool = False  # after its end, for who comes back for the result
    listeners: list[Callable[[Job], None]] = field(default_factory=list)

    @property
    def exclusive(self) -> bool:
        """Whether it waits for all before it on its system, and all after wait for it."""
        return self.kind not in VECTORS and self.kind not in MATRICES and self.kind != "report"

    @property
    def lane(self) -> str:
        """What can be solved together has one lane."""
        return self.kind if self.kind in VECTORS else self.id

    @property
    def cancellable(self) -> bool:
        """Whether it is under way, and not carried through."""
        return not self.over and not (self.kind == "close" and self.state == "running")

    @property
    def over(self) -> bool:
        return self.state in ENDED

    @property
    def nbytes(self) -> int:
        """Of its result."""
        return self.result.nbytes if isinstance(self.result, np.ndarray) else 0

    def tell(self) -> None:
        """Something has changed: every listener hears of it, on the thread that changed it."""
        for listener in tuple(self.listeners):
            listener(self)

    def start(self) -> None:
        if self.state == "queued":
            self.state, self.began = "running", time.time()
            self.tell()

    def wait(self) -> None:
        """For something else than a turn: nothing is done for it meanwhile."""
        if self.state == "running":
            self.state, self.began = "queued", None
            self.tell()

    def end(self, state: str, result: Any = None, error: BaseException | None = None) -> None:
        if not self.over:
            self.result, self.error, self.ended = result, error, time.time()
            self.seed = self.payload = None
            self.memory = self.nbytes
            self.state = state
            self.tell()


@dataclass
class Turn:
    """What is computed next: one job, or several whose vectors are solved together."""

    jobs: list[Job]

    @property
    def kind(self) -> str:
        return self.jobs[0].kind

    @property
    def system(self) -> str:
        return self.jobs[0].system


class Queue:
    """Jobs by system, until the computing thread takes them.  Safe to use from all threads.

    at_once : vectors solved together, at most;  most, most_bytes : jobs that wait, and their vectors, at most
    pays : of a system's vectors for one product, how many are worth solving together
    """

    def __init__(self, at_once: int = 64, most: int = 4096, most_bytes: int = 1 << 31,
                 pays: Callable[[str, str], int] | None = None) -> None:
        self.at_once, self.most, self.most_bytes, self._pays = at_once, most, most_bytes, pays
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # the system served next comes first
        self._latest: dict[str, str] = {}  # system: the lane served last
        self._aside: set[str] = set()  # systems of jobs that wait for something else than a turn
        self._changed = threading.Condition()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether there are no more turns."""
        return self._closed

    def __len__(self) -> int:
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def submit(self, job: Job) -> Job:
        """Have a job wait for its turn; `ServiceError` (503) where too many do."""
        with self._changed:
            if self._closed:
                raise ServiceError("the service is ending", status=503)
            waiting = [other for jobs in self._waiting.values() for other in jobs]
            held = sum(other.seed.nbytes for other in waiting if other.seed is not None)
            if len(waiting) >= self.most or held > self.most_bytes:
                raise ServiceError(f"{len(waiting)} jobs with {held:,} bytes of vectors are waiting already; ask again "
                                   "later", status=503)
            self._waiting.setdefault(job.system, deque()).append(job)
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Nothing more is computed for the job: at once if it waits, else from where its turn notices."""
        with self._changed:
            job.cancelled = True
            waiting = self._waiting.get(job.system, deque())
            if job not in waiting:
                return
            waiting.remove(job)
            self._drop_if_empty(job.system)
        job.end("cancelled")

    def close(self) -> None:
        """No more turns; those who wait for one are told."""
        with self._changed:
            self._closed = True
            left = [job for waiting in self._waiting.values() for job in waiting]
            self._waiting.clear()
            self._changed.notify_all()
        for job in left:
            job.end("failed", error=ServiceError("the service has ended", status=503))

    def take(self, patience: float | None = None) -> Turn | None:
        """The next turn, waited for; None if the queue was closed, or after `patience` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._next() is not None, patience)
            system = self._next()
            if self._closed or system is None:
                return None
            jobs = self._choose(system, self._waiting[system])
            self._waiting.move_to_end(system)
            self._drop_if_empty(system)
            return Turn(jobs)

    def _next(self) -> str | None:
        """The system that is served next."""
        return next((system for system in self._waiting if system not in self._aside), None)

    def aside(self, job: Job) -> None:
        """A job whose turn ends without it: its system has no turn until it comes `again`, others do."""
        with self._changed:
            self._aside.add(job.system)

    def again(self, job: Job) -> None:
        """A job that needs further turns waits for the next, before whatever came after it."""
        with self._changed:
            self._aside.discard(job.system)
            if not self._closed:
                self._waiting.setdefault(job.system, deque()).appendleft(job)
                self._changed.notify()
                return
        job.end("failed", error=ServiceError("the service has ended", status=503))

    def _drop_if_empty(self, system: str) -> None:
        if not self._waiting.get(system, True):
            del self._waiting[system]

    def _choose(self, system: str, waiting: deque[Job]) -> list[Job]:
        """Take the jobs of the next turn out of a system's."""
        if waiting[0].exclusive:
            if waiting[0].kind == "close":
                self._latest.pop(system, None)
            return [waiting.popleft()]
        lanes: OrderedDict[str, list[Job]] = OrderedDict()
        for job in waiting:
            if job.exclusive:
                break
            lanes.setdefault(job.lane, []).append(job)
        names = list(lanes)
        latest = self._latest.get(system)
        lane = names[(names.index(latest) + 1) % len(names)] if latest in names else names[0]
        self._latest[system] = lane
        together = self._pays(system, lane) if self._pays is not None and lane in VECTORS else self.at_once
        chosen = _by_turns(lanes[lane], together)
        taken = {id(job) for job in chosen}
        left = [job for job in waiting if id(job) not in taken]
        waiting.clear()
        waiting.extend(left)
        return chosen


def _by_turns(jobs: list[Job], most: int) -> list[Job]:
    """At most so many jobs, from each client in turn."""
    if len(jobs) <= most:
        return jobs
    clients: OrderedDict[str, deque[Job]] = OrderedDict()
    for job in jobs:
        clients.setdefault(job.client, deque()).append(job)
    chosen: list[Job] = []
    while len(chosen) < most:
        client, theirs = clients.popitem(last=False)
        chosen.append(theirs.popleft())
        if theirs:
            clients[client] = theirs
    return chosen
