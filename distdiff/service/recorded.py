"""A recorded function whose tapes a service holds: the face of `dd.recorded`, for programs that have no MPI.

    F = client.recorded(f)
    scipy.optimize.minimize(F, x0, jac=F.grad, hessp=F.hvp)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BranchChangedError, InputError, NonFiniteError
from ..nest import require_number
from ..purpose import Counts, Latest, Outside, Purpose, check_choices
from ..tracing import running
from ..watch import Surroundings, kept, same_bits
from .remote import RemoteLinearization

if TYPE_CHECKING:
    from .client import Client


@dataclass(eq=False)
class _Tape:
    """A system of the service, what it was recorded for, and the point that it stands for."""

    remote: RemoteLinearization
    purpose: Purpose
    surroundings: Surroundings
    x: np.ndarray
    outside: bool = False  # f is not finite there
    gradient: Any = None  # at the point, once asked for

    @property
    def there(self) -> Any:
        return Outside(*self.remote.nests) if self.outside else self.remote


class RemoteRecorded:
    """f, traced here at the first call and replayed by a service afterwards.  Made by `Client.recorded`.

    The point comes first, then the direction, then f's other arguments, which is how scipy.optimize calls: with
    `argnums` a tuple the direction is a tuple too.

    Attributes
    ----------
    counts : traces, retraces, replays, misses, repeats, evictions, as of `dd.recorded`
    """

    def __init__(self, client: Client, f: Callable[..., Any], argnums: int | tuple[int, ...], max_tapes: int,
                 on_branch_change: str, nonfinite: str, settings: dict[str, Any]) -> None:
        check_choices(f, max_tapes, nonfinite, on_branch_change, settings)
        functools.update_wrapper(self, f, updated=())
        self._client, self._f, self._argnums, self._max_tapes = client, f, argnums, max_tapes
        self._on_branch_change, self._nonfinite, self._settings = on_branch_change, nonfinite, settings
        self.counts, self._latest = Counts(), Latest()
        self._tapes: list[_Tape] = []  # the one used last comes first
        self._closed = False

    def __repr__(self) -> str:
        name = getattr(self, "__qualname__", "function")
        return f"<recorded {name}, {self.counts}, held at {self._client.address}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """f(*args, **kwargs)."""
        return self._f(*args, **kwargs) if running() is not None else kept(self.at(*args, **kwargs).value)

    def grad(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient of f, which must return one number; nested as the differentiated arguments."""
        return self.value_and_grad(*args, **kwargs)[1]

    def value_and_grad(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """(f(x), grad f(x)), by one replay and one transposed solve."""
        at = self.at(*args, **kwargs)
        require_number(at.value)
        here = self._tapes[0]
        if here.gradient is None:
            here.gradient = at.vjp(1.0)
        return at.value, kept(here.gradient)

    def jvp(self, x: Any, tangent: Any, *args: Any, **kwargs: Any) -> Any:
        """J xdot at the point (x, *args)."""
        return self.at(x, *args, **kwargs).jvp(*self._direction(tangent))

    def vjp(self, x: Any, cotangent: Any, *args: Any, **kwargs: Any) -> Any:
        """J^T ybar at the point (x, *args)."""
        return self.at(x, *args, **kwargs).vjp(cotangent)

    def jacobian(self, *args: Any, **kwargs: Any) -> Any:
        """The dense Jacobian; see `Linearization.jacobian`."""
        return self.at(*args, **kwargs).jacobian()

    def hvp(self, x: Any, tangent: Any, *args: Any, **kwargs: Any) -> Any:
        """H v at the point (x, *args), of an f that returns one number."""
        return self.at(x, *args, **kwargs).hvp(*self._direction(tangent))

    def hessian(self, *args: Any, **kwargs: Any) -> Any:
        """The dense Hessian; see `Linearization.hessian`."""
        return self.at(*args, **kwargs).hessian()

    def at(self, *args: Any, **kwargs: Any) -> Any:
        """f linearized at the point, a `RemoteLinearization`: for its `report()`, or several derivatives at once.
        Valid until the next call; not to be closed or updated."""
        if running() is not None:
            raise InputError("derivatives of a function that a service holds can't be part of a function that is being "
                             "traced: take them of f itself, with dd.recorded or dd.grad")
        if self._closed:
            raise InputError("this recorded function was closed; make a new one with client.recorded")
        asked, why = Purpose(args, kwargs, self._argnums), ""
        serving = []
        for k, tape in enumerate(self._tapes):
            reason = tape.purpose.differs(asked)
            if reason is None and (name := tape.surroundings.changed()):
                reason = f"{name!r}, which f reads from around it, changes; make it an argument"
            if reason is None:
                serving.append(tape)
            elif k == 0:
                why = reason
        for tape in serving:
            if same_bits(tape.x, asked.x):
                self.counts.repeats += 1
                return self._first(tape).there
        for tape in serving:
            try:
                tape.remote.update(*self._moving(args))
            except BranchChangedError as error:
                if self._on_branch_change == "raise":
                    raise
                self.counts.misses += 1
                why = str(error).partition(";")[0].partition(", and a tape")[0]
                continue
            except NonFiniteError:  # the decisions fell as recorded; the system is where it was
                if self._nonfinite == "raise":
                    raise
                tape.outside = True
            else:
                tape.outside = False
            tape.x, tape.gradient = asked.x.copy(), None
            self.counts.replays += 1
            self._latest.replayed()
            return self._first(tape).there
        return self._trace(args, kwargs, asked, why, bool(serving))

    def _first(self, tape: _Tape) -> _Tape:
        self._tapes.remove(tape)
        self._tapes.insert(0, tape)
        return tape

    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any], asked: Purpose, why: str,
               again: bool) -> RemoteLinearization:
        """Record f at the point, on a system that takes the place of the one used least recently."""
        while len(self._tapes) >= self._max_tapes:
            self._tapes.pop().remote.close()
            self.counts.evictions += 1
        self._latest.traced(why, getattr(self, "__qualname__", "the function"), 5)
        self.counts.traces += 1
        self.counts.retraces += again
        args, kwargs = kept(args), kept(kwargs)  # the caller's arrays may change
        remote = self._client.linearize(self._f, *args, argnums=self._argnums, kwargs=kwargs,
                                        on_branch_change="raise", **self._settings)
        asked.constants = kept(asked.constants)
        self._tapes.insert(0, _Tape(remote, asked, Surroundings(self._f, asked.constants), asked.x.copy()))
        return remote

    def _moving(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        numbers = (self._argnums,) if isinstance(self._argnums, (int, np.integer)) else self._argnums
        return tuple(args[k] for k in numbers)

    def _direction(self, tangent: Any) -> tuple[Any, ...]:
        return (tangent,) if isinstance(self._argnums, (int, np.integer)) else tuple(tangent)

    @property
    def cached(self) -> int:
        """Systems held now."""
        return len(self._tapes)

    def forget(self) -> None:
        """Delete the systems: the next call traces f."""
        while self._tapes:
            self._tapes[-1].remote.close()
            self._tapes.pop()

    def close(self) -> None:
        """Delete the systems for good; a second call does nothing."""
        self.forget()
        self._closed = True

    def __enter__(self) -> RemoteRecorded:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


__all__ = ["RemoteRecorded"]
