"""A client's line to a service: requests, answers and events over HTTP, and the errors that problems name."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from collections.abc import Iterator
from email.message import Message
from typing import Any

from ..errors import DistdiffError, ServiceError
from . import wire
from .connections import connected
from .tokens import Address

REST = 3.0  # seconds after which a connection is made anew: services close those that rest for five


class Line:
    """Requests to the service at an address, from any thread; each thread has an HTTP connection of its own.

    timeout : seconds to wait for an answer
    """

    def __init__(self, address: Address, timeout: float) -> None:
        self.address = address
        self._token, self._timeout = "", timeout
        self._name = secrets.token_hex(8)
        self._threads = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close the connections of all threads; systems stay."""
        for connection in self._open:
            connection.close()
        self._open = []

    def ask(self, method: str, path: str, body: Any = None, form: str | None = None, accept: str = wire.NPY,
            prefer: str | None = None) -> tuple[Message, bytes]:
        """Headers and body of an answer; a problem raises the error that it names."""
        headers = {"accept": accept, "authorization": f"Bearer {self._token}", "distdiff-client": self._name}
        if form is not None:
            headers["content-type"] = form
        if prefer is not None:
            headers["prefer"] = prefer
        again = method != "POST" or path.rpartition("/")[2].partition("?")[0] in ("jvp", "vjp", "hvp")
        while True:
            connection = self._kept_connection()
            fresh = connection is None
            if connection is None:
                connection = self._threads.connection = connected(self.address, self._timeout)
                self._open.append(connection)
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                content = response.read()
                self._threads.used = time.monotonic()
                break
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._open.remove(connection)
                self._threads.connection = None
                # A connection that was kept may have been closed meanwhile, which is no failure of the service.
                if fresh or not again or isinstance(error, TimeoutError):
                    raise self._away(error) from error
                if hasattr(body, "seek"):
                    body.seek(0)
        if response.status >= 400:
            raise _error(response.status, response.headers.get_content_type(), content)
        return response.headers, content

    def _kept_connection(self) -> http.client.HTTPConnection | None:
        """This thread's connection, unless it has rested for so long that the service may be closing it."""
        connection = getattr(self._threads, "connection", None)
        if connection is not None and time.monotonic() - self._threads.used > REST:
            connection.close()
            self._open.remove(connection)
            connection = self._threads.connection = None
        return connection

    def _events(self, path: str) -> Iterator[dict[str, Any]]:
        connection = connected(self.address, self._timeout)
        try:
            connection.request("GET", path, headers={"authorization": f"Bearer {self._token}"})
            response = connection.getresponse()
            if response.status >= 400:
                raise _error(response.status, response.headers.get_content_type(), response.read())
            for line in response:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        except (OSError, http.client.HTTPException) as error:
            raise self._away(error) from error
        finally:
            connection.close()

    def _away(self, error: BaseException) -> ServiceError:
        if isinstance(error, TimeoutError):
            return ServiceError(f"the service at {self.address} has not answered for {self._timeout:g} s")
        return ServiceError(f"no service answers at {self.address} ({error}): start one with 'distdiff serve', or "
                            "check the address and the tunnel")

    def _json(self, method: str, path: str, body: Any = None, form: str | None = None) -> Any:
        _, content = self.ask(method, path, body, form, wire.JSON)
        try:
            return json.loads(content)
        except ValueError as error:
            raise ServiceError(f"what answers at {self.address} is no distdiff service: its answer is no JSON"
                               ) from error


def _error(status: int, form: str, content: bytes) -> DistdiffError:
    """The error that a problem names."""
    try:
        problem = json.loads(content) if form == "application/problem+json" else {}
        name, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return ServiceError(f"the service answered with status {status}: {content[:200].decode(errors='replace')}",
                            status=status)
    return wire.error(name, detail, status)


__all__ = ["Line"]
