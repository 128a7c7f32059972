"""HTTP read by httptools, a third of what a request in pure Python takes, with the limits that it lacks."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST = 1 << 16  # bytes of a request that are no body: its line, headers, framing of chunks
FRAMING = 8  # bytes of a body for one of framing: whoever sends smaller chunks has little to say


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which hangs up on requests whose headers have no end.

    Counted is what arrives less what is body, from the first byte of a request to its last; that is what lines and
    headers can take in memory, half-sent ones included.
    """

    _beside = _body = 0

    def data_received(self, data: bytes) -> None:
        self._beside += len(data)
        super().data_received(data)
        if self._beside > MOST + self._body // FRAMING and not self.transport.is_closing():
            self.send_400_response(f"A request's line and headers take more than {MOST} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._body = 0

    def on_body(self, body: bytes) -> None:
        self._beside -= len(body)
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> Any:
        self._beside = 0  # what came of the next one already is less than was read at once
        return super().on_message_complete()


__all__ = ["BoundedProtocol"]
