"""The page at /: its files, the stream of what happens that it follows, and the pictures it shows.

Files are the package's own and want no token; they hold nothing of the service's.  Everything else does.  The page is
told what it may load: its own files, images it made itself, and answers of this service.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any, Literal
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from .. import __version__
from ..errors import ServiceError
from ..pictures import Picture
from .door import Door, client_of, later_wanted
from .jobs import Job
from .schema import LATER, described
from .service import Service

FILES = {"dashboard.css": "text/css; charset=utf-8", "dashboard.js": "text/javascript; charset=utf-8",
         "icon.svg": "image/svg+xml"}
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache"}
TICK, BEAT = 0.05, 10.0  # seconds between looks at what has changed, and at most between events
LATEST = 50  # jobs that are told of one by one
SHARE = 0.05  # of a core that looking may take
CAPTION = "distdiff-caption"  # the header that says in words what a picture shows

Kind = Literal["spy", "levels", "partition", "timeline", "scaling"]


def add_dashboard(app: FastAPI, door: Door, secured: dict[str, Any]) -> None:
    """The page and what it asks for."""
    folder = resources.files(__package__).joinpath("static")

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def page() -> Response:
        return Response(folder.joinpath("index.html").read_bytes(), media_type="text/html; charset=utf-8",
                        headers=HEADERS)

    @app.api_route("/static/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(name: str) -> Response:
        if name not in FILES:
            raise ServiceError(f"there is no file {name!r}", status=404)
        return Response(folder.joinpath(name).read_bytes(), media_type=FILES[name], headers=HEADERS)

    @app.get("/events", include_in_schema=False, dependencies=secured["dependencies"])
    async def events() -> Response:
        """Server-sent events without end: the state of everything, whenever it has changed."""
        return StreamingResponse(_states(door.service), media_type="text/event-stream",
                                 headers={"cache-control": "no-store"})

    @app.get("/v1/systems/{system}/pictures/{kind}", response_class=Response, dependencies=secured["dependencies"],
             responses={**secured["responses"], **LATER, 200: {
                 "content": {"image/svg+xml": {"schema": {"type": "string"}}}, "headers": {CAPTION: {
                     "schema": {"type": "string"}, "description": "What it shows, in words, percent-encoded"}}}})
    async def picture(system: str, kind: Kind, request: Request, dark: bool = False) -> Response:
        """A picture as SVG: entries of I - L, levels, partition; timeline and scaling run solves to measure them."""
        job = Job(door.system(system).id, "picture", client_of(request), payload=kind)
        if later_wanted(request):
            return door.submitted(job)
        return await drawn((await door.outcome(job, request)).result, dark)


async def drawn(taken: Picture, dark: bool) -> Response:
    """A picture as SVG, drawn on a thread beside the queue."""
    try:
        content = await asyncio.to_thread(taken.svg, dark, words=False)
    except ImportError as error:
        raise ServiceError(str(error), status=501) from error
    return Response(content, media_type="image/svg+xml", headers={
        "cache-control": "no-store", "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
        CAPTION: quote(taken.caption)})


async def _states(service: Service) -> AsyncIterator[bytes]:
    """All that has changed; looked for more seldom where there is much of it."""
    last, said = "", 0.0
    while not service.queue.closed:
        began = time.monotonic()
        jobs = tuple(service.jobs.values())
        under_way = [job for job in jobs if job.state == "running"]
        shown = {job.id: job for job in (*jobs[-LATEST:], *under_way)}
        state = json.dumps({
            "version": __version__, "busy": service.busy,
            "tracing": service.tracers.under_way, "ranks": [used._asdict() for used in service.ranks.used],
            "running": len(under_way), "queued": sum(job.state == "queued" for job in jobs),
            "systems": [{**system.describe(), "served": system.served} for system in tuple(service.systems.values())],
            "jobs": [{**described(job), "cancellable": job.cancellable} for job in shown.values()]})
        took = time.monotonic() - began
        if state != last or time.monotonic() - said > BEAT:
            yield f"event: state\ndata: {state}\n\n".encode()
            last, said = state, time.monotonic()
        await asyncio.sleep(max(TICK, took / SHARE))


__all__ = ["add_dashboard", "drawn"]
