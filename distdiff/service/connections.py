"""HTTP connections of a client to a service, over TCP or a unix socket."""

from __future__ import annotations

import http.client
import socket

from .tokens import Address


class _UnixConnection(http.client.HTTPConnection):
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
    return http.client.HTTPConnection(address.host, address.port, timeout=timeout)


__all__ = ["connected"]
