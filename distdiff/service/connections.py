"""HTTP connections of a client to a service, over TCP or a unix socket."""

from __future__ import annotations

import http.client
import socket
from typing import Any

from .tokens import Address

SMALL = 1 << 16  # bytes that are worth being put together


class _Connection(http.client.HTTPConnection):
    """One that sends a small request whole: else its headers go by themselves, and either side wakes twice."""

    _held: list[bytes] | None = None

    def request(self, *arguments: Any, **keywords: Any) -> None:
        self._held = []
        try:
            super().request(*arguments, **keywords)
            self._flush()
        finally:
            self._held = None

    def send(self, data: Any) -> None:
        if self._held is not None and isinstance(data, bytes) and sum(map(len, self._held)) + len(data) <= SMALL:
            self._held.append(data)
            return
        self._flush()
        super().send(data)

    def _flush(self) -> None:
        held, self._held = self._held, None
        if held:
            super().send(b"".join(held))


class _UnixConnection(_Connection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connected(address: Address, timeout: float) -> http.client.HTTPConnection:
    """A connection to what listens at an address, opened when it is first asked."""
    if address.path:
        return _UnixConnection(address.path, timeout)
    return _Connection(address.host, address.port, timeout=timeout)


__all__ = ["connected"]
