"""HTTP read by httptools, a third of what a request in pure Python takes, with the limits that it lacks."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST = 1 << 16  # bytes of a request that are no body: its line, headers, framing of chunks
FRAMING = 8  # bytes of a body for one of framing: whoever sends smaller chunks has little to say


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which hangs up on requests whose headers have no end, in bytes or in time.

    Counted is what arrives less what is body, from the first byte of a request to its last; that is what lines and
    headers can take in memory, half-sent ones included.  Who has no token yet can hold a connection for `patience`
    seconds.
    """

    patience = 30.0
    _beside = _body = 0
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._beside += len(data)
        super().data_received(data)
        if self._beside > MOST + self._body // FRAMING and not self.transport.is_closing():
            self.send_400_response(f"A request's line and headers take more than {MOST} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._body = 0
        self._await_headers()

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
        if self._late is not None:
            self._late.cancel()
            self._late = None


__all__ = ["BoundedProtocol"]
