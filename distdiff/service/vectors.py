"""What is asked most, and what numbers come and go by: value, point, products, matrices.

FastAPI describes these routes from their declarations, but checking a request and an answer against them takes it
longer than a small solve.  There is little to check here, so they are answered directly.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute

from ..errors import InputError, ServiceError
from . import wire
from .door import Door, client_of, sent, vector
from .jobs import MATRICES, Job
from .schema import ANSWER, LATER, PROBLEMS, VECTOR, body

PRODUCTS = {"jvp": "J v, for a vector shaped as the arguments", "vjp": "J^T w, for one as the result",
            "hvp": "H v, for a function of one result and a vector shaped as the arguments"}
MOST_POINTS = 1 << 62
AtPoint = Annotated[int | None, Query(ge=1, le=MOST_POINTS)]


def vectors(door: Door, secured: dict[str, Any]) -> APIRouter:
    """The routes.  secured: the dependency that describes the token, which `door` itself looks at."""
    class Direct(APIRoute):
        """A route whose endpoint is called with what its path and query say, and nothing else."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            endpoint, asks = self.endpoint, bool(self.dependant.query_params)

            async def handle(request: Request) -> Response:
                door.admit(request)
                more = {"point": _number(request)} if asks else {}
                return await endpoint(request=request, **request.path_params, **more)

            return handle

    router = APIRouter(route_class=Direct, dependencies=secured["dependencies"], responses={**PROBLEMS, **ANSWER},
                       default_response_class=Response)
    for kind, what in PRODUCTS.items():
        _product(router, door, kind, what)

    @router.get("/v1/systems/{system}/value")
    async def value(system: str, request: Request) -> Response:
        """The result at the point."""
        found = door.system(system)
        at = found.at
        return vector(request, at.value, found.opened.outputs.shapes, at.number)

    @router.get("/v1/systems/{system}/point")
    async def point(system: str, request: Request) -> Response:
        """The point."""
        found = door.system(system)
        at = found.at
        return vector(request, at.x, found.opened.inputs.shapes, at.number)

    @router.put("/v1/systems/{system}/point", responses=LATER, openapi_extra=body(**VECTOR))
    async def move(system: str, request: Request) -> Response:
        """Move to another point, for all who ask about this system; answers with the result there."""
        found = door.system(system)
        x = wire.vector(sent(request), await door.body(request, found.opened.inputs.size),
                        found.opened.inputs.shapes, "point")
        return await door.answer(Job(found.id, "move", client_of(request), payload=x),
                                 lambda: found.opened.outputs.shapes, request)

    for kind in MATRICES:
        _matrix(router, door, kind)
    return router


def _product(router: APIRouter, door: Door, kind: str, what: str) -> None:
    @router.post(f"/v1/systems/{{system}}/{kind}", responses=LATER, openapi_extra=body(**VECTOR), description=what,
                 operation_id=kind, summary=kind)
    async def product(system: str, request: Request, point: AtPoint = None) -> Response:
        found = door.system(system)
        wanted = found.wanted(kind)
        seed = wire.vector(sent(request), await door.body(request, wanted.size), wanted.shapes, "right-hand side")
        job = Job(found.id, kind, client_of(request), seed=seed, payload=point)
        return await door.answer(job, lambda: found.given(kind).shapes, request)


def _matrix(router: APIRouter, door: Door, kind: str) -> None:
    @router.post(f"/v1/systems/{{system}}/{kind}", responses=LATER, operation_id=kind, summary=kind,
                 description="Dense, (numbers of the result or arguments, numbers of the arguments)")
    async def matrix(system: str, request: Request, point: AtPoint = None) -> Response:
        found, most = door.system(system), door.service.most_result
        _, columns, size = found.seeds(kind)
        if 8 * columns * size > most:
            raise ServiceError(f"the {kind} would take {8 * columns * size:,} bytes, more than the {most:,} that this "
                               "service gives: ask for products", status=413)
        rows = found.opened.inputs.size if kind == "hessian" else found.opened.outputs.size
        job = Job(found.id, kind, client_of(request), payload=point, columns=columns)
        return await door.answer(job, lambda: [(rows, found.opened.inputs.size)], request)


def _number(request: Request) -> int | None:
    """The number of the point that an answer is wanted at."""
    given = request.query_params.get("point")
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 1 <= len(given) < 20 and 1 <= int(given) <= MOST_POINTS):
        raise InputError(f"point={given[:40]!r} is no number of a point: they are 1, 2, ...")
    return int(given)


__all__ = ["vectors"]
