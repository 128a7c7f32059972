"""Clients of the resident service: `dd.connect`, with the face of `dd.linearize`.

A function is traced here, on plain NumPy, and its tape is uploaded; the service never sees the function.  Neither MPI
nor PETSc is loaded, or needed.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import numpy as np

from .. import __version__
from ..errors import BranchChangedError, DistdiffError, InputError, MovedError, ServiceError
from ..nest import Nest, blocks, names_of
from ..storage import save_tape
from ..storage.trees import from_json
from ..tracing import trace
from ..tracing.tree import flatten
from . import API, tokens, wire
from .answers import RemoteJob, RemotePicture, RemoteReport, require_svg
from .connections import connected

PRODUCTS, MATRICES = ("jvp", "vjp", "hvp"), ("jacobian", "hessian")
SAME, TINY = 1e-6, 1e-12  # of the largest number: what a plain run and a replay may differ by, in another order of sums
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
        module, _, f = function.partition(":")
        if not module or not f or "/" in function:
            raise InputError(f"{function!r} names no function: write 'module:function', of the files that the service "
                             "was started with (--modules), by their names without directory and .py")
        body = wire.to_npz({key: np.asarray(value) for key, value in arguments.items()})
        path = f"/v1/functions/{quote(module, safe='')}/{quote(f, safe='')}?{urlencode({'name': name})}"
        return RemoteLinearization._attached(self, self._json("POST", path, body, wire.NPZ), None)

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


class RemoteSystem:
    """A system of the service, on vectors: all leaves of the arguments, or of the result, one after another.

    Attributes
    ----------
    id : by which others attach to it;  point : the number of the point that answers are wanted at
    """

    def __init__(self, client: Client, described: dict[str, Any]) -> None:
        self._client = client
        self._is(described)

    def _is(self, described: dict[str, Any]) -> None:
        self.id, self.point, self.described = described["id"], described["point"], described
        self._path = f"/v1/systems/{self.id}"
        self._closed = False

    def value_vector(self) -> np.ndarray:
        """The result at the point."""
        return self._vector("GET", "value")

    def move(self, x: np.ndarray) -> np.ndarray:
        """Another point, for all who use this system; the result there."""
        headers, content = self._ask("PUT", "point", wire.to_npy(np.asarray(x, dtype=float).reshape(-1)))
        found = wire.from_npy(content).copy()
        self._arrived(headers, found)
        return found

    def _arrived(self, headers: Message, value: np.ndarray) -> None:
        """At another point, with that result there."""
        self.point = int(headers["distdiff-point"])

    def product(self, kind: str, seed: np.ndarray) -> np.ndarray:
        """J v ("jvp"), J^T w ("vjp") or H v ("hvp"); `MovedError` if the system has been moved by another client."""
        _require_kind(kind, PRODUCTS)
        return self._vector("POST", f"{kind}?point={self.point}", wire.to_npy(seed))

    def matrix(self, kind: str) -> np.ndarray:
        """The dense "jacobian" or "hessian", a row for each number of the result."""
        _require_kind(kind, MATRICES)
        return self._vector("POST", f"{kind}?point={self.point}")

    def start(self, kind: str, seed: np.ndarray | None = None) -> RemoteJob:
        """Ask for a product or matrix ("jvp", "vjp", "hvp", "jacobian", "hessian"), or for a move to the point `seed`
        ("update"), and don't wait: a job with progress, that can be cancelled.  All on vectors."""
        _require_kind(kind, (*PRODUCTS, *MATRICES, "update"))
        if (seed is None) != (kind in MATRICES):
            wants = "takes no vector" if kind in MATRICES else f"wants a vector: start({kind!r}, vector)"
            raise InputError(f"a {kind} {wants}")
        if self._closed:
            raise InputError("this system was closed; make a new one with client.linearize")
        body = wire.to_npy(np.asarray(seed, dtype=float)) if seed is not None else None
        move = kind == "update"
        method, what = ("PUT", "point") if move else ("POST", f"{kind}?point={self.point}")
        _, content = self._client.ask(method, f"{self._path}/{what}", body, wire.NPY if body is not None else None,
                                      wire.JSON, prefer="respond-async")
        return RemoteJob(self._client, json.loads(content), self._arrived if move else None)

    def plot(self, kind: str, path: str | os.PathLike[str] | None = None, *, dark: bool = False) -> RemotePicture:
        """A picture as SVG, taken by the service's ranks (see `dd.Linearization.plot`); written to `path`, if given."""
        if path is not None:
            require_svg(path)
        what = f"pictures/{quote(kind, safe='')}?{urlencode({'dark': str(dark).lower()})}"
        headers, content = self._ask("GET", what)
        picture = RemotePicture(kind, unquote(headers.get("distdiff-caption", "")), content)
        if path is not None:
            picture.save(path)
        return picture

    def report(self) -> RemoteReport:
        """What the service knows of it: its text when printed, else data."""
        return RemoteReport(self._client._json("GET", f"{self._path}/report"))

    def close(self) -> None:
        """Delete the system; a second call does nothing.

        `ServiceError` where that can't be known to be done: the service may hold it still (`client.systems()`), and
        another call tries again.  One that is gone already is deleted.
        """
        if self._closed:
            return
        try:
            self._client.ask("DELETE", self._path)
        except ServiceError as error:
            if error.status != 404:
                raise
        self._closed = True

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, _: Any) -> None:
        try:
            self.close()
        except ServiceError as error:  # what the body raised is what its caller has to know
            if raised is None:
                raise
            raised.add_note(f"the system {self.id!r} could not be deleted: {error}")

    def _ask(self, method: str, what: str, body: Any = None) -> tuple[Message, bytes]:
        if self._closed:
            raise InputError("this system was closed; make a new one with client.linearize")
        return self._client.ask(method, f"{self._path}/{what}", body, wire.NPY if body is not None else None)

    def _vector(self, method: str, what: str, body: Any = None) -> np.ndarray:
        headers, content = self._ask(method, what, body)
        if int(headers["distdiff-point"]) != self.point:
            raise MovedError(f"the system has moved to its point {headers['distdiff-point']}, and this is about point "
                             f"{self.point}: update it", status=409)
        return wire.from_npy(content).copy()


class RemoteLinearization(RemoteSystem):
    """f at a point, held by a service; made by `Client.linearize`, with the face of `dd.Linearization`.

    Attributes
    ----------
    value : the function's result at the point, nested as f returned it;  aux : what f returned beside it
    """

    def __init__(self, client: Client, f: Callable[..., Any] | None, args: tuple[Any, ...],
                 argnums: int | tuple[int, ...], kwargs: dict[str, Any], has_aux: bool, name: str | None,
                 on_branch_change: str, settings: dict[str, Any]) -> None:
        self._f, self._args, self._kwargs, self._has_aux = f, list(args), kwargs, has_aux
        self._argnums, self._name, self._settings = argnums, name, settings
        self._on_branch_change = on_branch_change
        self._single = isinstance(argnums, (int, np.integer))
        self.aux: Any = None
        self.retraces = 0
        self._client = client

    @classmethod
    def _attached(cls, client: Client, described: dict[str, Any], f: Callable[..., Any] | None) -> RemoteLinearization:
        """One that the service holds, from what it says of it."""
        count = len(from_json(described["arguments"]["tree"]).children)
        made = cls(client, f, (None,) * count, tuple(range(count)) if count > 1 else 0, {}, False, described["name"],
                   "raise" if f is None else "retrace", described["settings"])
        made._is(described)
        made._nested()
        made.value = made._outputs.nest(made.value_vector())
        if f is not None:
            made._require_its_function(f)
        return made

    def _require_its_function(self, f: Callable[..., Any]) -> None:
        """Raise `InputError` unless f, run here at the system's point, gives what the system has there."""
        point = self._inputs.nest(self._vector("GET", "point"))
        result, wanted = f(*(point,) if self._single else point), self._outputs.flat(self.value, "value")
        try:
            found = self._outputs.flat(result, "result")
            off, most = (np.abs(part).max(initial=0.0) for part in (found - wanted, wanted))
            wrong = "" if off <= SAME * most + TINY else f"its result is another by {off:.3g}"
        except InputError as error:
            wrong = str(error)
        if wrong:
            raise InputError(f"{getattr(f, '__name__', 'f')} is not the function of system {self.id!r}, called with "
                             f"its differentiated arguments alone, at the point where that is: {wrong}")

    def _nested(self) -> None:
        """How arguments and results nest, as the service says."""
        spec, shapes = _nesting(self.described["arguments"])
        self._inputs = Nest(spec.children[0] if self._single else spec, shapes)
        self._outputs = Nest(*_nesting(self.described["result"]))

    def _build(self) -> None:
        """Trace f at the point, and upload it."""
        assert self._f is not None
        traced = trace(self._f, tuple(self._args), argnums=self._argnums, has_aux=self._has_aux, kwargs=self._kwargs)
        tape, self.aux = traced.tape, traced.aux
        numbers = (self._argnums,) if isinstance(self._argnums, (int, np.integer)) else self._argnums
        here = tuple(self._args[k] for k in numbers)
        leaves, spec = flatten(here[0] if self._single else here, "arguments")
        shapes = [leaf.shape for leaf in tape.inputs]
        self._inputs = Nest(spec, shapes)
        self._outputs = Nest(tape.out_tree, [leaf.shape for leaf in tape.outputs])
        with tempfile.TemporaryDirectory(prefix="distdiff-") as folder:
            path = Path(folder) / "tape"
            save_tape(tape, path, [np.asarray(leaf, dtype=float).reshape(s) for leaf, s in zip(leaves, shapes)],
                      names_of(self._f, numbers))
            query = urlencode({"name": self._name or getattr(self._f, "__name__", ""), **self._settings})
            with open(path, "rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                body: Any = stream if size > 1 << 24 else io.BytesIO(stream.read())
                self._is(self._client._json("POST", f"/v1/systems?{query}", body, wire.TAPE))
        self.value = self._outputs.nest(self.value_vector())

    def __repr__(self) -> str:
        if not hasattr(self, "id"):
            return "<remote linearization, not made>"
        about, closed = self.described, ", closed" * self._closed
        return (f"<remote linearization of {about['name'] or 'a function'}, {self._inputs} to {self._outputs}, "
                f"{about['lines']:,} lines, {about['settings'].get('method', 'auto')}, point {self.point} of "
                f"{self.id!r} at {self._client.address}{closed}>")

    def jvp(self, *tangents: Any) -> Any:
        """J xdot, nested as f's result; `tangents` as the differentiated arguments."""
        return self._outputs.nest(self.product("jvp", self._inputs.flat(self._packed(tangents), "tangent")))

    def vjp(self, cotangent: Any) -> Any:
        """J^T ybar, nested as the differentiated argument (a tuple of them if `argnums` is a tuple)."""
        return self._inputs.nest(self.product("vjp", self._outputs.flat(cotangent, "cotangent")))

    def hvp(self, *tangents: Any) -> Any:
        """H v, for a function of one result."""
        return self._inputs.nest(self.product("hvp", self._inputs.flat(self._packed(tangents), "tangent")))

    def jacobian(self) -> Any:
        """The dense Jacobian; for one array in and one out its shape is out.shape + in.shape."""
        return blocks(self.matrix("jacobian"), self._outputs, self._inputs)

    def hessian(self) -> Any:
        """The dense Hessian of a function with one result."""
        return blocks(self.matrix("hessian"), self._inputs, self._inputs)

    def _arrived(self, headers: Message, value: np.ndarray) -> None:
        super()._arrived(headers, value)
        if self.described["function"] is not None:  # the service may have traced it again, to a result nested otherwise
            self.described = self._client._json("GET", self._path)
            self._nested()
        self.value = self._outputs.nest(value)

    def update(self, *args: Any) -> Any:
        """Move to a new point; returns the value there."""
        x = self._inputs.flat(self._packed(args), "point")
        numbers = (self._argnums,) if isinstance(self._argnums, (int, np.integer)) else self._argnums
        try:
            self.move(x)
        except BranchChangedError as error:
            if self._f is None:
                raise BranchChangedError(f"{str(error).partition(';')[0]}; it was attached to without its function: "
                                         f"client.attach({self.id!r}, f) traces f there") from error
            if self._on_branch_change == "raise":
                raise
            self._remember(numbers, args)
            super().close()
            self._build()
            self.retraces += 1
        else:
            self._remember(numbers, args)
        return self.value

    def _remember(self, numbers: tuple[int, ...], args: tuple[Any, ...]) -> None:
        for number, arg in zip(numbers, args):
            self._args[number] = arg

    def _packed(self, values: tuple[Any, ...]) -> Any:
        expected = 1 if isinstance(self._argnums, (int, np.integer)) else len(self._argnums)
        if len(values) != expected:
            raise InputError(f"{len(values)} arguments given for {expected} differentiated ones "
                             f"(argnums={self._argnums!r})")
        return values[0] if self._single else values


def _error(status: int, form: str, content: bytes) -> DistdiffError:
    """The error that a problem names."""
    try:
        problem = json.loads(content) if form == "application/problem+json" else {}
        name, detail = str(problem["type"]).rpartition(":")[2], str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return ServiceError(f"the service answered with status {status}: {content[:200].decode(errors='replace')}",
                            status=status)
    return wire.error(name, detail, status)


def _require_kind(kind: str, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise InputError(f"kind={kind!r} does not exist; choose one of {', '.join(map(repr, kinds))}")


def _nesting(described: dict[str, Any]) -> tuple[Any, list[tuple[int, ...]]]:
    return from_json(described["tree"]), [tuple(shape) for shape in described["shapes"]]


__all__ = ["Client", "RemoteLinearization", "RemoteSystem", "connect"]
