"""Clients of the resident service: `dd.connect`, with the face of `dd.linearize`.

A function is traced here, on plain NumPy, and its tape is uploaded; the service never sees the function.  Neither MPI
nor PETSc is loaded, or needed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np

from .. import __version__
from ..errors import InputError, ServiceError
from ..tracing.tree import require_array
from . import API, tokens, wire
from .answers import RemoteJob
from .line import Line
from .recorded import RemoteRecorded
from .remote import RemoteLinearization, linearized


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


class Client(Line):
    """A connection to a service, safe to use from several threads; each has an HTTP connection of its own."""

    def __init__(self, url: str, token: str | os.PathLike[str] | None, timeout: float) -> None:
        super().__init__(tokens.Address.of(url), timeout)
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
        return linearized(self, f, args, argnums, dict(kwargs or {}), has_aux, name, on_branch_change, settings)

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

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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


__all__ = ["Client", "connect"]
