"""What handlers of requests share: who may come in, how bodies are read and vectors answered, how jobs end."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..errors import InputError, ServiceError
from . import wire
from .jobs import Job
from .room import AFTER, LARGE, give_back
from .schema import described
from .sending import numbers
from .service import Service, System

PATIENCE = 1.0  # seconds after which it is looked whether a client still waits
BYTES = 40  # that a number takes in a body at most, JSON with all digits and some space included
BEAT = 15.0  # seconds between events where nothing happens, for proxies that close silent connections


class _Ended:
    """Futures of jobs that have ended, resolved on the event loop: woken once, however many end together."""

    def __init__(self) -> None:
        self._futures: deque[asyncio.Future[None]] = deque()
        self._woken = False

    def tell(self, job: Job, future: asyncio.Future[None], loop: asyncio.AbstractEventLoop) -> None:
        """Have the future resolved when the job has ended."""
        def heard(job: Job) -> None:  # on the thread that ended it
            if job.over:
                self._futures.append(future)
                if not self._woken:
                    self._woken = True
                    loop.call_soon_threadsafe(self._wake)

        job.listeners.append(heard)

    def _wake(self) -> None:
        self._woken = False  # first: who appends from now on wakes again
        while self._futures:
            future = self._futures.popleft()
            if not future.done():
                future.set_result(None)


class Door:
    """What handlers share: who may come in, how a body is read, and how a job is waited for."""

    def __init__(self, service: Service, token: str, most_body: int) -> None:
        self.service, self.most_body, self._token = service, most_body, token.encode()
        self._ended = _Ended()
        self._later: asyncio.TimerHandle | None = None

    def admit(self, request: Request) -> None:
        """Raise `ServiceError` (401) unless the request carries the token."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(errors="replace"), self._token):
            raise ServiceError("the token is missing or wrong: it is in the file that the service named when it was "
                               "started, and goes into the header 'Authorization: Bearer TOKEN'", status=401)

    async def body(self, request: Request, numbers: int | None = None) -> bytes:
        """The whole body, if it is no larger than may be; with `numbers`, than so many take in any form."""
        most = self.most_body if numbers is None else min(self.most_body, BYTES * numbers + 65536)
        return b"".join([chunk async for chunk in self.chunks(request, most)])

    async def chunks(self, request: Request, most: int | None = None) -> Any:
        """The body piece by piece; `ServiceError` as soon as it is too large (413) or no more of it can come (400)."""
        most = self.most_body if most is None else most
        why = ("; start the service with a larger --max-body, or send less" if most == self.most_body else
               ", which is more than this vector takes in any form")
        too_large = ServiceError(f"the body is larger than {most:,} bytes{why}", status=413)
        if int(request.headers.get("content-length", "0")) > most:
            raise too_large
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > most:
                    raise too_large
                yield chunk
        except ClientDisconnect:  # nobody's mistake that the operator should see: there is only nobody to answer
            raise ServiceError("the client went away before the whole body had come", status=400) from None

    def system(self, name: str) -> System:
        if name not in self.service.systems:
            raise ServiceError(f"there is no system {name!r}; it may have been deleted", status=404)
        return self.service.systems[name]

    async def outcome(self, job: Job, request: Request) -> Job:
        """Submit a job and wait for its end; raises its error.  If the client goes away it is cancelled."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        self._ended.tell(job, ended, loop)
        self.service.submit(job)
        gone: list[asyncio.Task[None]] = []
        timer = loop.call_later(PATIENCE, lambda: gone.append(loop.create_task(self._cancel_if_gone(job, request))))
        try:
            await ended
        finally:
            timer.cancel()
            for watcher in gone:
                watcher.cancel()
        return settled(job)

    async def _cancel_if_gone(self, job: Job, request: Request) -> None:
        """Wait until the client has closed the connection, and compute nothing more for it."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.service.abandon(job)

    async def answer(self, job: Job, shapes: Callable[[], wire.Shapes], request: Request) -> Response:
        """The job's result; or, where the client prefers not to wait, where the job can be asked about."""
        if later_wanted(request):
            return self.submitted(job)
        sent = self.service.held(job, job.memory)
        try:
            await self.outcome(job, request)
            return self.numbers(request, job.result, shapes(), job.point, sent)
        except BaseException:
            sent()
            raise

    def numbers(self, request: Request, full: Any, shapes: wire.Shapes, point: int,
                sent: Callable[[], None] | None = None) -> Response:
        """A vector or matrix in the form that the request accepts; `sent` is called when the client has it."""
        size = full.nbytes

        def done() -> None:
            if sent is not None:
                sent()
            self.give_back_soon(size)

        return numbers(accepted(request), full, shapes, point, done)

    def give_back_soon(self, result: int) -> None:
        """Have memory given back when a large result has been sent, and no other was for a moment."""
        if result > LARGE:
            if self._later is not None:
                self._later.cancel()
            self._later = asyncio.get_running_loop().call_later(AFTER, give_back)

    async def opened(self, job: Job, request: Request, response: Response) -> Any:
        """What describes the system that a job opens; or where the job can be asked about."""
        if later_wanted(request):
            return self.submitted(job)
        found = (await self.outcome(job, request)).result
        response.headers["location"] = f"/v1/systems/{found['id']}"
        return found

    def submitted(self, job: Job) -> Response:
        """Where a job that nobody waits for can be asked about."""
        self.service.submit(job, keep=True)
        return Response(json.dumps(described(job)), 202, {
            "location": f"/v1/jobs/{job.id}", "preference-applied": "respond-async"}, wire.JSON)

    def job(self, name: str) -> Job:
        if name not in self.service.jobs:
            raise ServiceError(f"there is no job {name!r}; those that ended longest ago are forgotten", status=404)
        return self.service.jobs[name]

    async def events(self, job: Job) -> AsyncIterator[bytes]:
        """A server-sent event for every change of a job, until it has ended."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def heard(_: Job) -> None:
            loop.call_soon_threadsafe(changed.set)

        job.listeners.append(heard)
        try:
            while True:
                changed.clear()
                over = job.over
                yield f"event: {job.state}\ndata: {json.dumps(described(job))}\n\n".encode()
                if over:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), BEAT)
        finally:
            job.listeners.remove(heard)


def later_wanted(request: Request) -> bool:
    """Whether the client prefers not to wait (RFC 7240)."""
    wanted = (part.partition(";")[0].strip().lower() for part in request.headers.get("prefer", "").split(","))
    return "respond-async" in wanted


def require_known(given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `InputError` for parameters of a query that mean nothing: misspelt ones would have no effect."""
    known = list(known)
    for name in given:
        if name not in known:
            raise InputError(f"{name[:40]!r} is no parameter here; {', '.join(known) or 'none'} can be given")


def settled(job: Job) -> Job:
    """A job that ended as it should, or its error."""
    if job.error is not None:
        raise job.error
    if job.state == "cancelled":
        raise ServiceError("the job was cancelled", status=409)
    if not job.over:
        raise ServiceError(f"the job is {job.state}: follow its events, or ask again", status=409)
    return job


def form_of(header: str | None, default: str) -> str:
    """The form that a Content-Type or Accept header names first, of those that are known."""
    for part in (header or "").split(","):
        name = part.partition(";")[0].strip().lower()
        if name in (wire.NPY, wire.NPZ, wire.JSON):
            return name
        if name in ("application/octet-stream", "application/*", "*/*", ""):
            return default
    return default if not header else (header.partition(";")[0].strip().lower())


def client_of(request: Request) -> str:
    """Who shares the service fairly with others: a connection, or what says that it is one client."""
    told = request.headers.get("distdiff-client")
    return told[:64] if told else f"{request.client.host}:{request.client.port}" if request.client else ""


def sent(request: Request, default: str = wire.NPY) -> str:
    form = form_of(request.headers.get("content-type"), default)
    if form not in (wire.NPY, wire.NPZ, wire.JSON):
        raise ServiceError(f"bodies of type {form!r} are not read; send {wire.NPY}, {wire.NPZ} or {wire.JSON}",
                           status=415)
    return form


def held_as(request: Request) -> str:
    """The form in which a result is held when it has been computed: of a job that nobody waits for the numbers alone,
    and whoever fetches them says then what form they take."""
    return wire.NPY if later_wanted(request) else accepted(request)


def accepted(request: Request) -> str:
    """The form in which a vector is answered."""
    form = form_of(request.headers.get("accept"), wire.NPY)
    return form if form in (wire.NPY, wire.NPZ, wire.JSON) else wire.NPY


__all__ = ["BEAT", "Door", "accepted", "client_of", "form_of", "held_as", "later_wanted", "require_known", "sent",
           "settled"]
