"""The service over HTTP: what can be asked, with its OpenAPI description at /openapi.json.

Handlers check what came and submit a job; the answer is sent when the job has ended.  Errors are answered as
`application/problem+json` (RFC 9457), whose `type` names the error's class and whose `detail` is its message.
"""

from __future__ import annotations

import asyncio
import json
import math
import traceback
from http import HTTPStatus
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import StreamingResponse
from starlette.routing import Match

from .. import __version__
from ..errors import DistdiffError, InputError, ServiceError
from ..pictures import Picture
from . import API, wire
from .dashboard import add_dashboard, drawn
from .door import Door, accepted, client_of, later_wanted, require_known, sent, settled
from .jobs import Job
from .room import needed
from .schema import (
    ANSWER,
    ARGUMENTS,
    BINARY,
    LATER,
    PROBLEM,
    PROBLEMS,
    UNREADABLE,
    Cancelled,
    Health,
    JobInfo,
    ModuleInfo,
    Problem,
    SystemInfo,
    body,
    described,
    problem_of,
)
from .service import Service
from .vectors import Straight, Vectors

bearer = HTTPBearer(auto_error=False, description="The token in the service's token file")


def _answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    return Response(problem.model_dump_json(), problem.status, headers, PROBLEM)


def _failed(error: Exception) -> Response:
    """An error as it is answered; one that nobody expects is shown to the operator as well."""
    if not isinstance(error, DistdiffError):
        traceback.print_exception(error)
    problem = problem_of(error)
    return _answer(problem, {"www-authenticate": "Bearer"} if problem.status == 401 else None)


def plain(data: Any) -> Any:
    """Data that JSON can say: what is not finite is null."""
    if isinstance(data, dict):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def create_app(service: Service, token: str, *, most_body: int) -> Straight:
    """The application; every answer but that of /healthz wants the token.  FastAPI's, and straight ways past it."""
    app = FastAPI(
        title="distdiff", version=__version__, docs_url=None, redoc_url=None, redirect_slashes=False,
        description="Derivatives of functions that are held linearized over the ranks of an MPI job.")
    door = Door(service, token, most_body)

    async def allowed(request: Request, described: Annotated[Any, Depends(bearer)]) -> None:
        door.admit(request)
        require_known(request.query_params, (field.alias for field in request.scope["route"].dependant.query_params))

    secured: dict[str, Any] = {"dependencies": [Depends(allowed)], "responses": PROBLEMS}
    later: dict[str, Any] = {**secured, "responses": {**PROBLEMS, **LATER}}
    vectors = Vectors(door, secured)
    _errors(app, vectors.router.routes)

    app.include_router(vectors.router)  # first: routes are tried in their order

    @app.get("/healthz", response_model=Health, responses=UNREADABLE)
    async def health() -> Health:
        """Whether the service answers, and which it is."""
        return Health(status="ok", version=__version__, api=API, ranks=len(service.ranks.used),
                      tracing=service.tracers.under_way)

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
              openapi_extra=body(content={wire.TAPE: BINARY}), **later)
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
        job = Job(service.fresh_id(), "open", client_of(request), payload={"path": path, "about": about})
        return await door.opened(job, request, response)

    @app.get("/v1/functions", response_model=list[ModuleInfo], **secured)
    async def functions() -> Any:
        """The functions that may be asked for, by module: what the files define by `def`, read and not run."""
        return await asyncio.to_thread(service.modules.described)

    @app.post("/v1/functions/{module}/{function}", status_code=201, response_model=SystemInfo,
              openapi_extra=body(**ARGUMENTS), **later)
    async def open_function(module: str, function: str, request: Request, response: Response,
                            name: Annotated[str, Query(max_length=200)] = "", method: str = "auto",
                            partition: str = "auto", solves: Annotated[int, Query(ge=1, le=1 << 20)] = 1) -> Any:
        """A new system from a function of a module that the service was started with, at arguments given by name;
        those that hold floats are differentiated.  In JSON all numbers are, but for parameters that take integers."""
        form = sent(request, wire.NPZ)
        integers = await asyncio.to_thread(service.modules.integers, module, function) if form == wire.JSON else ()
        arguments = wire.named(form, await door.body(request), most_body, integers)
        about = {"name": name or function, "function": f"{module}:{function}",
                 "settings": {"method": method, "partition": partition, "solves": solves}}
        payload = {"path": service.spool.incoming(), "about": about, "function": (module, function, arguments)}
        job = Job(service.fresh_id(), "open", client_of(request), payload=payload)
        return await door.opened(job, request, response)

    @app.get("/v1/systems/{system}", response_model=SystemInfo, **secured)
    async def describe(system: str) -> Any:
        """One system."""
        return door.system(system).describe()

    @app.delete("/v1/systems/{system}", status_code=204, operation_id="close", **secured)
    async def close(system: str, request: Request) -> None:
        """Delete a system, after what is being asked of it now."""
        await door.outcome(Job(door.system(system).id, "close", client_of(request)), request)

    @app.get("/v1/systems/{system}/report", **later)
    async def report(system: str, request: Request) -> Response:
        """Structure, partition, method and why, times and memory."""
        job = Job(door.system(system).id, "report", client_of(request))
        if later_wanted(request):
            return door.submitted(job)
        return Response(json.dumps(plain((await door.outcome(job, request)).result)), media_type=wire.JSON)

    _jobs(app, door, secured)

    add_dashboard(app, door, secured)
    return Straight(app, vectors, _failed, service.metrics.answered)


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
    async def result(job: str, request: Request, dark: bool = False) -> Response:
        """What the job computed, once it has ended; its error, if it failed.  Of a system that was opened what
        describes it, of a report the report, of a picture the drawing, for a light or a dark page."""
        found = settled(door.job(job))
        if isinstance(found.result, Picture):
            return await drawn(found.result, dark)
        if isinstance(found.result, dict):
            return Response(json.dumps(plain(found.result)), media_type=wire.JSON)
        if not isinstance(found.result, np.ndarray):
            raise ServiceError("this job has no result of numbers", status=409)
        copies = needed(found.result.nbytes, accepted(request)) - found.result.nbytes
        door.service.require_room(copies, "this result", found)
        return door.numbers(request, found.result, [found.result.shape], found.point, door.service.held(found, copies))

    @app.delete("/v1/jobs/{job}", response_model=Cancelled, **secured)
    async def cancel(job: str) -> Any:
        """Cancel a job: at once if it waits for a turn, else where the work under way lets it end on all ranks, which
        `ends` says.  Sweeps, substitutions, pipelines and evaluations end between two supersteps, a trace of a module's
        function at once, with its process, a partition between two layouts, iterations between two of them.  A
        factorization (`direct`, or of an implicit statement) and a solve with its factors are carried through: the job
        is cancelled when that is done."""
        found = door.job(job)
        ends = door.service.cancel(found)
        return {**described(found), "ends": ends}


def _errors(app: FastAPI, included: list[Any]) -> None:
    """Whatever goes wrong is answered as a problem.  included: routes beside the app's own."""
    @app.exception_handler(DistdiffError)
    async def known(request: Request, error: DistdiffError) -> Response:
        return _failed(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        text = "; ".join(
            f"{e['loc'][-1]}={e['input']!r} does not exist; choose {e['ctx']['expected']}"
            if e["type"] == "literal_error" else f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return _answer(problem_of(InputError(text)))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}  # so that none is said twice
        if error.status_code == 405:  # the router knows of one of the path's routes only
            routes = [route for route in (*app.routes, *included) if getattr(route, "methods", None)]
            found = [route.methods for route in routes if route.matches(request.scope)[0] != Match.NONE]
            headers["allow"] = ", ".join(sorted(set().union(*found)))
        return _answer(Problem(type="urn:distdiff:error:ServiceError", title=HTTPStatus(error.status_code).phrase,
                               status=error.status_code, detail=str(error.detail)), headers)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> Response:
        return _failed(error)
