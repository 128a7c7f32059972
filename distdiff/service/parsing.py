"""HTTP read by httptools, a third of what a request in pure Python takes, with the limits that it lacks."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .schema import PROBLEM, Problem

MOST = 1 << 16  # bytes of a request that are no body: its line, headers, framing of chunks
TOO_LONG = f"a request's line and headers may take {MOST} bytes, and these take more"
FRAMING = 8  # bytes of a body for one of framing: whoever sends smaller chunks has little to say


class _Joined:
    """A connection's transport that sends an answer's headers together with what follows within the same step of the
    event loop: every call of the system lets other threads take over, and one answer is two calls otherwise."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._held: list[bytes] = []

    def write(self, data: Any) -> None:
        if len(data) > MOST:
            self._flush()
            self._transport.write(data)
            return
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)

    def _flush(self) -> None:
        held, self._held = self._held, []
        if held:
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which hangs up on requests whose headers have no end, in bytes or in time.

    Counted is what arrives less what is body, from the first byte of a request to its last; that is what lines and
    headers can take in memory, half-sent ones included.  Requests that come whole, however many at once, are held to
    the lengths of their own.  Who has no token yet can hold a connection for `patience` seconds.
    """

    patience = 30.0
    _beside = _body = _said = 0
    _begun = False
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._beside += len(data)
        super().data_received(data)
        if self._begun and not self.transport.is_closing():  # and has not come whole, as most requests do
            self._await_headers()
        if self._beside > MOST + self._body // FRAMING and not self.transport.is_closing():
            self._hang_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LONG)

    def send_400_response(self, msg: str) -> None:
        if self._said > MOST:
            self._hang_up(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LONG)
        else:
            self._hang_up(HTTPStatus.BAD_REQUEST, "this is no request of HTTP/1.1: its line, a header or the framing "
                                                  "of its body can't be read")

    def _hang_up(self, status: HTTPStatus, detail: str) -> None:
        """Answer with a problem, as all else does, and close the connection."""
        problem = Problem(type="urn:distdiff:error:ServiceError", title=status.phrase, status=status, detail=detail)
        content = problem.model_dump_json().encode()
        head = (f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM}\r\n"
                f"content-length: {len(content)}\r\nconnection: close\r\n\r\n")
        self.transport.write(head.encode() + content)
        self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._body = self._said = 0
        self._begun = True

    def on_url(self, url: bytes) -> None:
        self._hear(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._hear(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _hear(self, size: int) -> None:
        """Raise, which ends parsing, where a request's line and headers become too long."""
        self._said += size
        if self._said > MOST:
            raise ValueError(TOO_LONG)

    def on_headers_complete(self) -> None:
        self._headers_are_there()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._beside -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> Any:
        self._beside = 0  # what came of the next one already is less than was read at once
        return super().on_message_complete()

    def _await_headers(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self.patience, self.transport.close)

    def _headers_are_there(self) -> None:
        self._begun = False
        if self._late is not None:
            self._late.cancel()
            self._late = None


__all__ = ["BoundedProtocol"]
