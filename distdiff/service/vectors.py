"""What is asked most, and what numbers come and go by: value, point, products, matrices.

FastAPI describes these routes from their declarations, but its way to an endpoint, with a request and an answer checked
against them, takes longer than a small solve.  There is little to check here, so endpoints are called straight.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from ..errors import InputError, ServiceError
from . import wire
from .door import Door, client_of, held_as, require_known, sent
from .jobs import MATRICES, Job
from .room import needed
from .schema import ANSWER, LATER, PROBLEMS, VECTOR, body

PRODUCTS = {"jvp": "J v, for a vector shaped as the arguments", "vjp": "J^T w, for one as the result",
            "hvp": "H v, for a function of one result and a vector shaped as the arguments"}
MOST_POINTS = 1 << 62
AtPoint = Annotated[int | None, Query(ge=1, le=MOST_POINTS)]
_PATH = re.compile(r"/v1/systems/([^/]+)/([^/]+)")
_POINT = re.compile(rb"point=(\d+)")
Endpoint = Callable[..., Coroutine[Any, Any, Response]]


class Vectors:
    """The routes below /v1/systems/{system}.  secured: the dependency that describes the token, which `door` looks at.

    Attributes
    ----------
    router : their declarations;  endpoints : what answers them, by method and last word of the path
    """

    def __init__(self, door: Door, secured: dict[str, Any]) -> None:
        self._door = door
        self.endpoints: dict[tuple[str, str], Endpoint] = {}
        self.router = APIRouter(dependencies=secured["dependencies"], responses={**PROBLEMS, **ANSWER},
                                default_response_class=Response)
        _points(self, door)
        for kind, what in PRODUCTS.items():
            _product(self, door, kind, what)
        for kind in MATRICES:
            _matrix(self, door, kind)

    def route(self, method: str, word: str, **declared: Any) -> Callable[[Endpoint], Endpoint]:
        """Declare the endpoint of `method` on /v1/systems/{system}/word."""
        def keep(endpoint: Endpoint) -> Endpoint:
            self.endpoints[method, word] = endpoint
            self.router.add_api_route(f"/v1/systems/{{system}}/{word}", endpoint, methods=[method], **declared)
            return endpoint
        return keep

    async def answer(self, endpoint: Endpoint, system: str, request: Request) -> Response:
        """What the endpoint answers, called with what its path and query say."""
        self._door.admit(request)
        more = {}
        if request.method == "POST":
            more["point"] = _number(request)
        elif request.scope["query_string"]:
            require_known(request.query_params, ())
        return await endpoint(system=system, request=request, **more)


class _Asked(Request):
    """A request whose headers are looked at again and again, each decoded once."""

    @property
    def headers(self) -> Any:
        found = self.__dict__.get("_said")
        if found is None:
            found = self.__dict__["_said"] = {name.decode("latin-1"): value.decode("latin-1")
                                              for name, value in reversed(self.scope["headers"])}  # the first counts
        return found


class Straight:
    """An application that has `vectors` answer what is theirs, and everything else by the application behind it.

    failed: an error as it is answered;  counted: told of the status of every answer.
    """

    def __init__(self, app: Any, vectors: Vectors, failed: Callable[[Exception], Response],
                 counted: Callable[[int], None]) -> None:
        self.app, self._vectors, self._failed, self._counted = app, vectors, failed, counted

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._counted(message["status"])
            await send(message)

        if scope["type"] == "http":
            await self._answer(scope, receive, sent)
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        found = _PATH.fullmatch(scope["path"])
        endpoint = self._vectors.endpoints.get((scope["method"], found[2])) if found else None
        if found is None or endpoint is None:
            await self.app(scope, receive, send)
            return
        try:
            answer = await self._vectors.answer(endpoint, found[1], _Asked(scope, receive))
        except Exception as error:  # whatever it is, it is the answer
            answer = self._failed(error)
        await answer(scope, receive, send)


def _points(vectors: Vectors, door: Door) -> None:
    @vectors.route("GET", "value")
    async def value(system: str, request: Request) -> Response:
        """The result at the point."""
        found = door.system(system)
        at = found.at
        return door.numbers(request, at.value, found.opened.outputs.shapes, at.number)

    @vectors.route("GET", "point")
    async def point(system: str, request: Request) -> Response:
        """The point."""
        found = door.system(system)
        at = found.at
        return door.numbers(request, at.x, found.opened.inputs.shapes, at.number)

    @vectors.route("PUT", "point", responses=LATER, openapi_extra=body(**VECTOR))
    async def move(system: str, request: Request) -> Response:
        """Move to another point, for all who ask about this system; answers with the result there."""
        found = door.system(system)
        x = wire.vector(sent(request), await door.body(request, found.opened.inputs.size),
                        found.opened.inputs.shapes, "point", found.names("point"))
        return await door.answer(Job(found.id, "move", client_of(request), payload=x),
                                 lambda: found.opened.outputs.shapes, request)


def _product(vectors: Vectors, door: Door, kind: str, what: str) -> None:
    @vectors.route("POST", kind, responses=LATER, openapi_extra=body(**VECTOR), description=what, operation_id=kind,
                   summary=kind)
    async def product(system: str, request: Request, point: AtPoint = None) -> Response:
        found = door.system(system)
        wanted = found.wanted(kind)
        seed = wire.vector(sent(request), await door.body(request, wanted.size), wanted.shapes, "right-hand side",
                           found.names(kind))
        job = Job(found.id, kind, client_of(request), seed=seed, payload=point,
                  memory=needed(8 * found.given(kind).size, held_as(request)))
        return await door.answer(job, lambda: found.given(kind).shapes, request)


def _matrix(vectors: Vectors, door: Door, kind: str) -> None:
    @vectors.route("POST", kind, responses=LATER, operation_id=kind, summary=kind,
                   description="Dense, (numbers of the result or arguments, numbers of the arguments)")
    async def matrix(system: str, request: Request, point: AtPoint = None) -> Response:
        found, most = door.system(system), door.service.most_result
        _, columns, size = found.seeds(kind)
        if 8 * columns * size > most:
            raise ServiceError(f"the {kind} would take {8 * columns * size:,} bytes, more than the {most:,} that this "
                               "service gives: ask for products", status=413)
        rows = found.opened.inputs.size if kind == "hessian" else found.opened.outputs.size
        job = Job(found.id, kind, client_of(request), payload=point, columns=columns,
                  memory=needed(8 * columns * size, held_as(request)))
        return await door.answer(job, lambda: [(rows, found.opened.inputs.size)], request)


def _number(request: Request) -> int | None:
    """The number of the point that an answer is wanted at."""
    query = request.scope["query_string"]
    alone = _POINT.fullmatch(query)  # as clients of ours say it
    if query and not alone:
        require_known(request.query_params, ("point",))
    given = alone[1].decode() if alone else request.query_params.get("point")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 1 <= len(given) < 20 and 1 <= int(given) <= MOST_POINTS):
        raise InputError(f"point={given[:40]!r} is no number of a point: they are 1, 2, ...")
    return int(given)


__all__ = ["Straight", "Vectors"]
