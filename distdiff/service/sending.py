"""Answers of numbers on their way: piece by piece as clients take them, out of the result itself.

What a client has not taken yet is memory of rank 0's, and counts until it has: a body is given to the connection as
fast as that gets rid of it, so that no more of it lies there than a piece, and the last piece is the end of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from . import wire
from .schema import POINT

PIECE = 1 << 20  # bytes that go to the connection at a time
TAKEN_WITHIN = 60.0  # seconds in which a client takes a piece, or is hung up on: what it holds up others want


class Numbers(Response):
    """A body given in parts, bytes-like, that are not copied.  done: called once nothing of it is held any more."""

    def __init__(self, parts: list[Any], form: str, point: int, done: Callable[[], None] | None = None) -> None:
        self._parts = [memoryview(part).cast("B") for part in parts if len(part)]
        self._done = done
        size = sum(map(len, self._parts))
        joined = b"".join(self._parts) if size <= PIECE else b""
        super().__init__(joined, media_type=form, headers={POINT: str(point), "content-length": str(size)})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            if self.body or not self._parts:
                await super().__call__(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for part in self._parts:
                for start in range(0, len(part), PIECE):
                    await self._taken(send({"type": "http.response.body", "body": part[start:start + PIECE],
                                            "more_body": True}))
            await self._taken(send({"type": "http.response.body", "body": b"", "more_body": False}))
        finally:
            self._parts = []
            if self._done is not None:
                self._done()

    @staticmethod
    async def _taken(sending: Any) -> None:
        """A piece waits until what was given before has gone; an error closes the connection."""
        await asyncio.wait_for(sending, TAKEN_WITHIN)


def numbers(form: str, full: Any, shapes: wire.Shapes, point: int, done: Callable[[], None] | None = None) -> Numbers:
    """The answer of a vector or matrix in that form."""
    return Numbers(wire.body(form, full, shapes, {"point": point}), form, point, done)


__all__ = ["Numbers", "numbers"]
