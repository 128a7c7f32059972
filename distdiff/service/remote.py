"""Systems that a service holds, on the client's side: on vectors, and with the face of `dd.Linearization`."""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import numpy as np

from ..errors import BranchChangedError, InputError, MovedError, ServiceError, ServiceWarning
from ..nest import Nest, blocks, names_of, require_number
from ..snapshot import kept, same_bits
from ..storage import save_tape
from ..storage.trees import from_json
from ..tracing import trace
from ..tracing.tree import flatten
from . import wire
from .answers import RemoteJob, RemotePicture, RemoteReport, require_svg
from .line import Line

PRODUCTS, MATRICES = ("jvp", "vjp", "hvp"), ("jacobian", "hessian")
SOON = 0.5  # seconds for which nobody is told what is waited for
SAME, TINY = 1e-6, 1e-12  # of the largest number: what a plain run and a replay may differ by, in another order of sums


class RemoteSystem:
    """A system of the service, on vectors: all leaves of the arguments, or of the result, one after another.

    Attributes
    ----------
    id : by which others attach to it;  point : the number of the point that answers are wanted at
    """

    def __init__(self, client: Line, described: dict[str, Any]) -> None:
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

    def _started(self, kind: str, seed: np.ndarray | None, made: Callable[[Message, np.ndarray], Any]) -> RemoteJob:
        """A job for a product, a matrix (no seed), or a move to the point `seed` ("update").  made: what its result is
        made of the numbers that come."""
        if self._closed:
            raise InputError("this system was closed; make a new one with client.linearize")
        body = wire.to_npy(seed) if seed is not None else None
        method, what = ("PUT", "point") if kind == "update" else ("POST", f"{kind}?point={self.point}")
        _, content = self._client.ask(method, f"{self._path}/{what}", body, wire.NPY if body is not None else None,
                                      wire.JSON, prefer="respond-async")
        return RemoteJob(self._client, json.loads(content), made)

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

        What was asked of it before is carried out first, which a `ServiceWarning` names where it takes longer.
        `ServiceError` where that can't be known to be done: the service may hold it still (`client.systems()`), and
        another call tries again.  One that is gone already is deleted.
        """
        if self._closed:
            return
        self._tell_what_is_waited_for()
        try:
            self._client.ask("DELETE", self._path)
        except ServiceError as error:
            if error.status != 404:
                raise
        self._closed = True

    def _tell_what_is_waited_for(self) -> None:
        """Warn of jobs of many turns, or that measure, that the system's end waits for."""
        until = time.monotonic() + SOON
        while long := [job for job in self._client._json("GET", "/v1/jobs") if job["system"] == self.id
                       and job["state"] in ("queued", "running") and job["kind"] in (*MATRICES, "picture", "move")]:
            if time.monotonic() > until:
                named = ", ".join(f"{job['kind']} {job['id']!r} ({job['done']} of {job['columns']} right-hand sides)"
                                  for job in long)
                warnings.warn(f"deleting the system {self.id!r} waits for what was asked of it before: {named}; cancel "
                              "a job by job.cancel(), or in the dashboard, to have it end sooner", ServiceWarning,
                              stacklevel=3)
                return
            time.sleep(SOON / 10)

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

    def __init__(self, client: Line, f: Callable[..., Any] | None, args: tuple[Any, ...],
                 argnums: int | tuple[int, ...], kwargs: dict[str, Any], has_aux: bool, name: str | None,
                 on_branch_change: str, settings: dict[str, Any]) -> None:
        self._f, self._args, self._kwargs, self._has_aux = f, list(args), kwargs, has_aux
        self._argnums, self._name, self._settings = argnums, name, settings
        self._on_branch_change = on_branch_change
        self._single = isinstance(argnums, (int, np.integer))
        self._x: np.ndarray | None = None  # where the system was brought to from here
        self._gradient: Any = None  # there, once asked for
        self.aux: Any = None
        self.retraces = 0
        self._client = client

    @classmethod
    def _attached(cls, client: Line, described: dict[str, Any], f: Callable[..., Any] | None) -> RemoteLinearization:
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

    @property
    def nests(self) -> tuple[Nest, Nest]:
        """How the arguments and the results nest."""
        return self._inputs, self._outputs

    def __call__(self, *args: Any) -> Any:
        """The value at a point, where the system moves to unless it is there: `minimize(remote, x0, jac=remote.grad)`.
        """
        self._reach(args)
        return self.value

    def grad(self, *args: Any) -> Any:
        """The gradient at a point, as `__call__`, or, without arguments, where the system is; of one number."""
        return self.value_and_grad(*args)[1]

    def value_and_grad(self, *args: Any) -> tuple[Any, Any]:
        """Value and gradient at a point, as `grad`, by one transposed solve: `minimize(..., jac=True)`."""
        if args:
            self._reach(args)
        require_number(self.value)
        if self._gradient is None:
            self._gradient = self.vjp(1.0)
        return self.value, kept(self._gradient)

    def _reach(self, args: tuple[Any, ...]) -> None:
        if self._x is None or not same_bits(self._x, self._inputs.flat(self._packed(args), "point")):
            self.update(*args)

    def jacobian(self) -> Any:
        """The dense Jacobian; for one array in and one out its shape is out.shape + in.shape."""
        return blocks(self.matrix("jacobian"), self._outputs, self._inputs)

    def hessian(self) -> Any:
        """The dense Hessian of a function with one result."""
        return blocks(self.matrix("hessian"), self._inputs, self._inputs)

    def start(self, kind: str, *args: Any) -> RemoteJob:
        """`jvp`, `vjp`, `hvp`, `jacobian`, `hessian` or `update`, called with `args`, without waiting: a job with
        progress, that can be cancelled, and whose `result()` is what the method of that name returns.

        A started update that meets a decision which goes the other way is a `BranchChangedError` of `result()`, and the
        system stays where it is: f is traced again by `update` alone.
        """
        _require_kind(kind, (*PRODUCTS, *MATRICES, "update"))
        inputs, outputs = self.nests  # as they are now: a change of branch may bring others
        if bool(args) == (kind in MATRICES):
            wants = "takes no vector" if args else f"wants a vector: start({kind!r}, vector), nested as for {kind}"
            raise InputError(f"a {kind} {wants}")
        if kind in MATRICES:
            rows = outputs if kind == "jacobian" else inputs
            return self._started(kind, None, lambda _, found: blocks(found, rows, inputs))
        if kind == "vjp":
            if len(args) != 1:
                raise InputError(f"a vjp takes one cotangent, nested as the result is, and {len(args)} were given: "
                                 "start('vjp', cotangent)")
            return self._started(kind, outputs.flat(args[0], "cotangent"), lambda _, found: inputs.nest(found))
        seed = inputs.flat(self._packed(args), "point" if kind == "update" else "tangent")
        if kind == "update":
            return self._started(kind, seed, self._updated)
        given = outputs if kind == "jvp" else inputs
        return self._started(kind, seed, lambda _, found: given.nest(found))

    def _updated(self, headers: Message, value: np.ndarray) -> Any:
        self._arrived(headers, value)
        return self.value

    def _arrived(self, headers: Message, value: np.ndarray) -> None:
        super()._arrived(headers, value)
        self._x = self._gradient = None
        if self.described["function"] is not None:  # the service may have traced it again, to a result nested otherwise
            self.described = self._client._json("GET", self._path)
            self._nested()
        self.value = self._outputs.nest(value)

    def update(self, *args: Any) -> Any:
        """Move to a new point; returns the value there."""
        x = self._inputs.flat(self._packed(args), "point")
        self._x = self._gradient = None
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
        self._x = x.copy()
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


def _require_kind(kind: str, kinds: tuple[str, ...]) -> None:
    if kind not in kinds:
        raise InputError(f"kind={kind!r} does not exist; choose one of {', '.join(map(repr, kinds))}")


def linearized(line: Line, f: Callable[..., Any], args: tuple[Any, ...], argnums: int | tuple[int, ...],
               kwargs: dict[str, Any], has_aux: bool, name: str | None, on_branch_change: str,
               settings: dict[str, Any]) -> RemoteLinearization:
    """f at args, traced here and uploaded; see `Client.linearize`."""
    if on_branch_change not in ("retrace", "raise"):
        raise InputError(f"on_branch_change={on_branch_change!r} does not exist; choose 'retrace' or 'raise'")
    if not callable(f):
        run = f': client.run({f!r}, name=value, ...) asks for a function that the service has' * isinstance(f, str)
        raise InputError(f"the function to differentiate is a {type(f).__name__}, which can't be called{run}")
    unknown = sorted(set(settings) - {"method", "partition", "solves"})
    if unknown:
        raise InputError(f"{', '.join(unknown)}: of the settings of linearize, a service takes method, partition "
                         "and solves")
    made = RemoteLinearization(line, f, args, argnums, kwargs, has_aux, name, on_branch_change, settings)
    made._build()
    return made


def _nesting(described: dict[str, Any]) -> tuple[Any, list[tuple[int, ...]]]:
    return from_json(described["tree"]), [tuple(shape) for shape in described["shapes"]]


__all__ = ["RemoteLinearization", "RemoteSystem", "linearized"]
