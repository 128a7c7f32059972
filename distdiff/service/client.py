"""Clients of the resident service: `dd.connect`, with the face of `dd.linearize`.

A function is traced here, on plain NumPy, and its tape is uploaded; the service never sees the function.  Neither MPI
nor PETSc is loaded, or needed.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np

from .. import __version__
from ..errors import DistdiffError, InputError, ServiceError
from ..tracing.tree import require_array
from . import API, tokens, wire
from .answers import RemoteJob
from .connections import connected
from .recorded import RemoteRecorded
from .remote import RemoteLinearization

REST = 3.0  # seconds after which a connection is made anew: services close those that rest for five

def connect(url: str = "http://127.0.0.1:8765", token: str | os.PathLike[str] | None = None,
            timeout: float = 600.0) -> Client:
    """A client of the service at `url`, http://HOST:PORT or unix:PATH.

        client = dd.connect("http://127.0.0.1:8765")
        with client.linearize(f, x) as remote:
            remote.value, remote.vjp(w), remote.update(x2), remote.jacobian()

    token : the token itself, or the path of the file that holds it; None: the file where a service on this machine
        puts it.  timeout : seconds to wait for an answer.

    Not collective: no MPI is started, or needed.  Raises `ServiceError` where no service answers, where the token is
    wrong (`status` 401), or where the service speaks another version.
    """
    return Client(url, token, timeout)


class Client:
    """A connection to a service, safe to use from several threads; each has an HTTP connection of its own."""

    def __init__(self, url: str, token: str | os.PathLike[str] | None, timeout: float) -> None:
        self.address = tokens.Address.of(url)
        self._token, self._timeout = "", timeout
        self._name = secrets.token_hex(8)
        self._threads = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self.service = self._json("GET", "/healthz")
        if self.service.get("api") != API:
            raise ServiceError(f"the service at {self.address} is distdiff {self.service.get('version')} and speaks "
                               f"version {self.service.get('api')}; this client is distdiff {__version__} and speaks "
                               f"version {API}: install the same version on both sides")
        self._token = tokens.given(token, self.address)
        try:
            self._json("GET", "/v1/systems")
        except ServiceError as error:
            if error.status == 401 and token is not None and os.sep in str(token):
                raise ServiceError(f"{error}; there is no file {os.fspath(token)}, so that was sent as the token "
                                   "itself", status=401) from error
            raise

    def linearize(self, f: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0,
                  kwargs: Mapping[str, Any] | None = None, has_aux: bool = False, name: str | None = None,
                  on_branch_change: str = "retrace", **settings: Any) -> RemoteLinearization:
        """f at `args`, held by the service: traced here, uploaded, and answered for there.

        Arguments as for `dd.linearize`, of whose settings `method`, `partition` and `solves` apply.  f may be a tape
        (`dd.load`).  Where an `update` meets a decision that goes the other way, f is traced again here and uploaded
        anew ("retrace"), or `BranchChangedError` is raised ("raise").
        """
        if on_branch_change not in ("retrace", "raise"):
            raise InputError(f"on_branch_change={on_branch_change!r} does not exist; choose 'retrace' or 'raise'")
        if not callable(f):
            run = f': client.run({f!r}, name=value, ...) asks for a function that the service has' * isinstance(f, str)
            raise InputError(f"the function to differentiate is a {type(f).__name__}, which can't be called{run}")
        unknown = sorted(set(settings) - {"method", "partition", "solves"})
        if unknown:
            raise InputError(f"{', '.join(unknown)}: of the settings of linearize, a service takes method, partition "
                             "and solves")
        made = RemoteLinearization(self, f, args, argnums, dict(kwargs or {}), has_aux, name, on_branch_change,
                                   settings)
        made._build()
        return made

    def recorded(self, f: Callable[..., Any], *, argnums: int | tuple[int, ...] = 0, max_tapes: int = 8,
                 on_branch_change: str = "retrace", nonfinite: str = "raise", **settings: Any) -> RemoteRecorded:
        """f for optimizers, with the face of `dd.recorded`: traced here when first called, replayed by the service at
        every other point, `minimize(F, x0, jac=F.grad, hessp=F.hvp)`.

        Each tape, at most `max_tapes` of them, is a system of the service, deleted by `close()` or at the end of a
        `with`.  settings: `name`, `method`, `partition`, `solves`, as for `linearize`; others as for `dd.recorded`.
        """
        return RemoteRecorded(self, f, argnums, max_tapes, on_branch_change, nonfinite, settings)

    def systems(self) -> list[dict[str, Any]]:
        """All systems of the service, as plain data."""
        return self._json("GET", "/v1/systems")

    def attach(self, system: str, f: Callable[..., Any] | None = None) -> RemoteLinearization:
        """A system that the service holds already, by its id, at the point where it is, with the face of `linearize`.

        Arguments and results nest as they did when it was made; named tuples come as types of the same names.  f: its
        function, of the differentiated arguments alone; where an `update` meets a decision that goes the other way, f
        is traced there and takes the system's place, under another id.  Without f that is a `BranchChangedError`,
        unless the service has the function itself (`run`).  f is called once, on plain arrays; `InputError` where it
        gives another result than the system has.  All who hold a system share its point: an `update` moves it for all.
        """
        if not isinstance(system, str) or not system:
            raise InputError(f"{system!r} is no id of a system; client.systems() lists those there are")
        return RemoteLinearization._attached(self, self._json("GET", f"/v1/systems/{quote(system, safe='')}"), f)

    def run(self, function: str, *, name: str = "", **arguments: Any) -> RemoteLinearization:
        """A system made of a function that the service has, "module:function" of its --modules, at the arguments given
        by name.  Those that hold floats are differentiated."""
        return RemoteLinearization._attached(self, self._json("POST", *_named(function, name, arguments)), None)

    def start(self, function: str, *, name: str = "", **arguments: Any) -> RemoteJob:
        """`run`, without waiting: a job that can be followed and cancelled, whose `result()` is what `run` gives."""
        path, body, form = _named(function, name, arguments)
        _, content = self.ask("POST", path, body, form, wire.JSON, prefer="respond-async")
        job = json.loads(content)
        return RemoteJob(self, job, whole=lambda: self.attach(job["system"]))

    def functions(self) -> dict[str, list[str]]:
        """The functions that `run` may be asked for, "module:function", with the names of their parameters."""
        return {f"{module['module']}:{function['name']}": function["parameters"]
                for module in self._json("GET", "/v1/functions") for function in module["functions"]}

    def metrics(self) -> str:
        """The service's counters, in Prometheus' text form."""
        return self.ask("GET", "/metrics")[1].decode()

    def close(self) -> None:
        """Close the connections of all threads; systems stay."""
        for connection in self._open:
            connection.close()
        self._open = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- HTTP ----------------------------------------------------------------------------------------------------------

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


def _named(function: str, name: str, arguments: Mapping[str, Any]) -> tuple[str, bytes, str]:
    """Path, body and form of a request for a function that the service has."""
    module, _, f = function.partition(":")
    if not module or not f or "/" in function:
        raise InputError(f"{function!r} names no function: write 'module:function', of the files that the service "
                         "was started with (--modules), by their names without directory and .py")
    body = wire.to_npz({key: _numbers(key, value) for key, value in arguments.items()})
    return f"/v1/functions/{quote(module, safe='')}/{quote(f, safe='')}?{urlencode({'name': name})}", body, wire.NPZ


def _numbers(key: str, value: Any) -> np.ndarray:
    """An argument that travels as numbers, or `InputError`."""
    require_array(value, key)
    try:
        array = np.asarray(value)
        told = f"an array of {array.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    except ValueError:  # lists of unequal lengths
        array, told = np.empty(0, dtype=object), "a list whose parts have different lengths"
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise InputError(f"the argument {key!r} is {told}, and the service's own functions are given numbers and "
                         "arrays of real numbers of at most 64 bits: give these, and let the function make the "
                         "rest, or trace it here, by client.linearize(f, ...)")
    return array


def _error(status: int, form: str, content: bytes) -> DistdiffError:
    """The error that a problem names."""
    try:
        problem = json.loads(content) if form == "application/problem+json" else {}
        name, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return ServiceError(f"the service answered with status {status}: {content[:200].decode(errors='replace')}",
                            status=status)
    return wire.error(name, detail, status)


__all__ = ["Client", "connect"]
