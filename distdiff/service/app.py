"""The service over HTTP: what can be asked, with its OpenAPI description at /openapi.json.

Handlers check what came and submit a job; the answer is sent when the job has ended.  Errors are answered as
`application/problem+json` (RFC 9457), whose `type` names the error's class and whose `detail` is its message.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import math
import traceback
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.routing import Match

from .. import __version__
from ..errors import DistdiffError, InputError, ServiceError
from . import API, wire
from .dashboard import add_dashboard
from .jobs import MATRICES, Job
from .schema import (
    ANSWER,
    ARGUMENTS,
    BINARY,
    LATER,
    POINT,
    PROBLEM,
    PROBLEMS,
    VECTOR,
    Cancelled,
    Health,
    JobInfo,
    Problem,
    SystemInfo,
    body,
    described,
    problem_of,
)
from .service import Service, System

PATIENCE = 1.0  # seconds after which it is looked whether a client still waits
BYTES = 40  # that a number takes in a body at most, JSON with all digits and some space included
BEAT = 15.0  # seconds between events where nothing happens, for proxies that close silent connections
bearer = HTTPBearer(auto_error=False, description="The token in the service's token file")


def _answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(problem.model_dump_json(), problem.status, headers, PROBLEM)


class Door:
    """What handlers share: how a body is read, and how a job is waited for."""

    def __init__(self, service: Service, most_body: int) -> None:
        self.service, self.most_body = service, most_body

    async def body(self, request: Request, numbers: int | None = None) -> bytes:
        """The whole body, if it is no larger than may be; with `numbers`, than so many take in any form."""
        most = self.most_body if numbers is None else min(self.most_body, BYTES * numbers + 65536)
        return b"".join([chunk async for chunk in self.chunks(request, most)])

    async def chunks(self, request: Request, most: int | None = None) -> Any:
        """The body piece by piece; `ServiceError` (413) as soon as it is too large."""
        most = self.most_body if most is None else most
        why = ("; start the service with a larger --max-body, or send less" if most == self.most_body else
               ", which is more than this vector takes in any form")
        too_large = ServiceError(f"the body is larger than {most:,} bytes{why}", status=413)
        if int(request.headers.get("content-length", "0")) > most:
            raise too_large
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise too_large
            yield chunk

    def system(self, name: str) -> System:
        if name not in self.service.systems:
            raise ServiceError(f"there is no system {name!r}; it may have been deleted", status=404)
        return self.service.systems[name]

    async def outcome(self, job: Job, request: Request) -> Job:
        """Submit a job and wait for its end; raises its error.  If the client goes away it is cancelled."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def heard(job: Job) -> None:
            if job.over:
                loop.call_soon_threadsafe(lambda: ended.done() or ended.set_result(None))

        job.listeners.append(heard)
        self.service.submit(job)
        await asyncio.wait({ended}, timeout=PATIENCE)
        if not ended.done():
            gone = asyncio.ensure_future(_gone(request))
            await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                self.service.queue.cancel(job)
            gone.cancel()
            await ended
        return settled(job)

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


async def _gone(request: Request) -> None:
    """Until the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


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


def plain(data: Any) -> Any:
    """Data that JSON can say: what is not finite is null."""
    if isinstance(data, dict):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def create_app(service: Service, token: str, *, most_body: int) -> FastAPI:
    """The application; every answer but that of /healthz wants the token."""
    app = FastAPI(title="distdiff", version=__version__, docs_url=None, redoc_url=None, description=(
        "Derivatives of functions that are held linearized over the ranks of an MPI job."))
    door = Door(service, most_body)
    expected = token.encode()

    async def allowed(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if given is None or not hmac.compare_digest(given.credentials.encode(errors="replace"), expected):
            raise ServiceError("the token is missing or wrong: it is in the file that the service named when it was "
                               "started, and goes into the header 'Authorization: Bearer TOKEN'", status=401)

    secured: dict[str, Any] = {"dependencies": [Depends(allowed)], "responses": PROBLEMS}
    _errors(app)

    app.add_middleware(_Counted, metrics=service.metrics)

    @app.get("/healthz", response_model=Health)
    async def health() -> Health:
        """Whether the service answers, and which it is."""
        return Health(status="ok", version=__version__, api=API, ranks=len(service.ranks.resident))

    @app.get("/metrics", response_class=Response, dependencies=[Depends(allowed)], responses={
        **PROBLEMS, 200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
    async def metrics() -> Response:
        """Counters in Prometheus' text form."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/systems", response_model=list[SystemInfo], **secured)
    async def systems() -> Any:
        """All systems."""
        return [system.describe() for system in tuple(service.systems.values())]

    @app.post("/v1/systems", status_code=201, response_model=SystemInfo,
              openapi_extra=body(content={wire.TAPE: BINARY}), **secured)
    async def open_tape(request: Request, response: Response, name: Annotated[str, Query(max_length=200)] = "",
                        method: str = "auto", partition: str = "auto",
                        solves: Annotated[int, Query(ge=1, le=1 << 20)] = 1) -> Any:
        """A new system from a tape that was saved with a point."""
        path = service.spool.incoming()
        try:
            with open(path, "wb") as stream:
                async for chunk in door.chunks(request):
                    stream.write(chunk)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        about = {"name": name, "settings": {"method": method, "partition": partition, "solves": solves}}
        job = Job(service.fresh_id(), "open", _client(request), payload={"path": path, "about": about})
        system = (await door.outcome(job, request)).result
        response.headers["location"] = f"/v1/systems/{system.id}"
        return system.describe()

    @app.get("/v1/functions", response_model=list[str], **secured)
    async def modules() -> Any:
        """The modules whose functions may be asked for."""
        return service.modules.names

    @app.post("/v1/functions/{module}/{function}", status_code=201, response_model=SystemInfo,
              openapi_extra=body(**ARGUMENTS), **secured)
    async def open_function(module: str, function: str, request: Request, response: Response,
                            name: Annotated[str, Query(max_length=200)] = "", method: str = "auto",
                            partition: str = "auto", solves: Annotated[int, Query(ge=1, le=1 << 20)] = 1) -> Any:
        """A new system from a function of a module that the service was started with, at arguments given by name;
        those that hold floats are differentiated."""
        arguments = wire.named(_sent(request, wire.NPZ), await door.body(request), most_body)
        about = {"name": name or function, "function": f"{module}:{function}",
                 "settings": {"method": method, "partition": partition, "solves": solves}}
        payload = {"path": service.spool.incoming(), "about": about, "function": (module, function, arguments)}
        job = Job(service.fresh_id(), "open", _client(request), payload=payload)
        system = (await door.outcome(job, request)).result
        response.headers["location"] = f"/v1/systems/{system.id}"
        return system.describe()

    @app.get("/v1/systems/{system}", response_model=SystemInfo, **secured)
    async def describe(system: str) -> Any:
        """One system."""
        return door.system(system).describe()

    @app.delete("/v1/systems/{system}", status_code=204, operation_id="close", **secured)
    async def close(system: str, request: Request) -> None:
        """Delete a system, after what is being asked of it now."""
        await door.outcome(Job(door.system(system).id, "close", _client(request)), request)

    @app.get("/v1/systems/{system}/report", **secured)
    async def report(system: str, request: Request) -> Response:
        """Structure, partition, method and why, times and memory."""
        job = await door.outcome(Job(door.system(system).id, "report", _client(request)), request)
        return Response(json.dumps(plain(job.result)), media_type=wire.JSON)

    @app.get("/v1/systems/{system}/value", response_class=Response, responses={**PROBLEMS, **ANSWER},
             dependencies=[Depends(allowed)])
    async def value(system: str, request: Request) -> Response:
        """The result at the point."""
        found = door.system(system)
        at = found.at
        return _vector(request, at.value, found.opened.outputs.shapes, at.number)

    @app.get("/v1/systems/{system}/point", response_class=Response, responses={**PROBLEMS, **ANSWER},
             dependencies=[Depends(allowed)])
    async def point(system: str, request: Request) -> Response:
        """The point."""
        found = door.system(system)
        at = found.at
        return _vector(request, at.x, found.opened.inputs.shapes, at.number)

    @app.put("/v1/systems/{system}/point", response_class=Response, responses={**PROBLEMS, **ANSWER, **LATER},
             dependencies=[Depends(allowed)], openapi_extra=body(**VECTOR))
    async def move(system: str, request: Request) -> Response:
        """Move to another point, for all who ask about this system; answers with the result there."""
        found = door.system(system)
        x = wire.vector(_sent(request), await door.body(request, found.opened.inputs.size),
                        found.opened.inputs.shapes, "point")
        return await answer(Job(found.id, "move", _client(request), payload=x),
                            lambda: found.opened.outputs.shapes, request)

    async def answer(job: Job, shapes: Callable[[], wire.Shapes], request: Request) -> Response:
        """The job's result; or, where the client prefers not to wait, where the job can be asked about."""
        if "respond-async" not in request.headers.get("prefer", "").lower():
            job = await door.outcome(job, request)
            return _vector(request, job.result, shapes(), job.point)
        service.submit(job, keep=True)
        return Response(json.dumps(described(job)), 202, {
            "location": f"/v1/jobs/{job.id}", "preference-applied": "respond-async"}, wire.JSON)

    async def product(kind: str, system: str, request: Request, point: int | None) -> Response:
        found = door.system(system)
        wanted = found.wanted(kind)
        seed = wire.vector(_sent(request), await door.body(request, wanted.size), wanted.shapes, "right-hand side")
        job = Job(found.id, kind, _client(request), seed=seed, payload=point)
        return await answer(job, lambda: found.given(kind).shapes, request)

    async def matrix(kind: str, system: str, request: Request, point: int | None) -> Response:
        found = door.system(system)
        _, columns, size = found.seeds(kind)
        if 8 * columns * size > service.most_result:
            raise ServiceError(f"the {kind} would take {8 * columns * size:,} bytes, more than the "
                               f"{service.most_result:,} that this service gives: ask for products", status=413)
        rows = found.opened.inputs.size if kind == "hessian" else found.opened.outputs.size
        job = Job(found.id, kind, _client(request), payload=point, columns=columns)
        return await answer(job, lambda: [(rows, found.opened.inputs.size)], request)

    for kind, what in (("jvp", "J v, for a vector shaped as the arguments"), ("vjp", "J^T w, for one as the result"),
                       ("hvp", "H v, for a function of one result and a vector shaped as the arguments")):
        _product(app, kind, what, product, allowed)
    for kind in MATRICES:
        _matrix(app, kind, matrix, allowed)
    _jobs(app, door, secured)

    async def draw(system: str, kind: str, request: Request) -> Any:
        found = door.system(system)
        return (await door.outcome(Job(found.id, "picture", _client(request), payload=kind), request)).result

    add_dashboard(app, service, described, draw, secured)
    return app


def _jobs(app: FastAPI, door: Door, secured: dict[str, Any]) -> None:
    """Jobs under way, and those that were submitted with 'Prefer: respond-async'."""
    @app.get("/v1/jobs", response_model=list[JobInfo], **secured)
    async def jobs() -> Any:
        """Jobs that wait or are being worked on, and those kept after their end."""
        return [described(job) for job in tuple(door.service.jobs.values())]

    @app.get("/v1/jobs/{job}", response_model=JobInfo, **secured)
    async def info(job: str) -> Any:
        """One job."""
        return described(door.job(job))

    @app.get("/v1/jobs/{job}/events", response_class=Response, dependencies=secured["dependencies"], responses={
        **PROBLEMS, 200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}})
    async def events(job: str) -> Response:
        """Server-sent events until the job has ended, named by its state, with the job as their data."""
        return StreamingResponse(door.events(door.job(job)), media_type="text/event-stream",
                                 headers={"cache-control": "no-store"})

    @app.get("/v1/jobs/{job}/result", response_class=Response, dependencies=secured["dependencies"],
             responses={**PROBLEMS, **ANSWER})
    async def result(job: str, request: Request) -> Response:
        """What the job computed, once it has ended; its error, if it failed."""
        found = settled(door.job(job))
        if not isinstance(found.result, np.ndarray):
            raise ServiceError("this job has no result of numbers", status=409)
        return _vector(request, found.result, [found.result.shape], found.point)

    @app.delete("/v1/jobs/{job}", response_model=Cancelled, **secured)
    async def cancel(job: str) -> Any:
        """Cancel a job: at once if it waits for a turn, else between two supersteps; `ends` says where."""
        found = door.job(job)
        ends = door.service.cancel(found)
        return {**described(found), "ends": ends}


class _Counted:
    """Counts answers by status."""

    def __init__(self, app: Any, metrics: Any) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, sent if scope["type"] == "http" else send)


def _product(app: FastAPI, kind: str, what: str, product: Any, allowed: Any) -> None:
    @app.post(f"/v1/systems/{{system}}/{kind}", response_class=Response, responses={**PROBLEMS, **ANSWER, **LATER},
              dependencies=[Depends(allowed)], openapi_extra=body(**VECTOR), description=what,
              operation_id=kind, summary=kind)
    async def endpoint(system: str, request: Request, point: Annotated[int | None, Query(ge=1)] = None) -> Response:
        return await product(kind, system, request, point)


def _matrix(app: FastAPI, kind: str, matrix: Any, allowed: Any) -> None:
    @app.post(f"/v1/systems/{{system}}/{kind}", response_class=Response, responses={**PROBLEMS, **ANSWER, **LATER},
              dependencies=[Depends(allowed)], operation_id=kind, summary=kind,
              description="Dense, (numbers of the result or arguments, numbers of the arguments)")
    async def endpoint(system: str, request: Request, point: Annotated[int | None, Query(ge=1)] = None) -> Response:
        return await matrix(kind, system, request, point)


def _client(request: Request) -> str:
    """Who shares the service fairly with others: a connection, or what says that it is one client."""
    told = request.headers.get("distdiff-client")
    return told[:64] if told else f"{request.client.host}:{request.client.port}" if request.client else ""


def _sent(request: Request, default: str = wire.NPY) -> str:
    form = form_of(request.headers.get("content-type"), default)
    if form not in (wire.NPY, wire.NPZ, wire.JSON):
        raise ServiceError(f"bodies of type {form!r} are not read; send {wire.NPY}, {wire.NPZ} or {wire.JSON}",
                           status=415)
    return form


def _vector(request: Request, full: Any, shapes: wire.Shapes, point: int) -> Response:
    form = form_of(request.headers.get("accept"), wire.NPY)
    if form not in (wire.NPY, wire.NPZ, wire.JSON):
        form = wire.NPY
    return Response(wire.body(form, full, shapes, {"point": point}), media_type=form, headers={POINT: str(point)})


def _errors(app: FastAPI) -> None:
    """Whatever goes wrong is answered as a problem."""
    @app.exception_handler(DistdiffError)
    async def known(request: Request, error: DistdiffError) -> Response:
        problem = problem_of(error)
        return _answer(problem, {"www-authenticate": "Bearer"} if problem.status == 401 else None)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        text = "; ".join(
            f"{e['loc'][-1]}={e['input']!r} does not exist; choose {e['ctx']['expected']}"
            if e["type"] == "literal_error" else f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return _answer(problem_of(InputError(text)))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the router knows of one of the path's routes only
            routes = [route for route in app.routes if route.matches(request.scope)[0] != Match.NONE]
            headers["allow"] = ", ".join(sorted(set().union(*(getattr(route, "methods", ()) for route in routes))))
        return _answer(Problem(type="urn:distdiff:error:ServiceError", title=HTTPStatus(error.status_code).phrase,
                               status=error.status_code, detail=str(error.detail)), headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        traceback.print_exception(error)
        return _answer(problem_of(error))
