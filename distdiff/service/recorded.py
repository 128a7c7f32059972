"""A recorded function whose tapes a service holds: the face of `dd.recorded`, for programs that have no MPI.

    F = client.recorded(f)
    scipy.optimize.minimize(F, x0, jac=F.grad, hessp=F.hvp)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import BranchChangedError, InputError, NonFiniteError
from ..nest import require_number
from ..purpose import Outside, Purpose, RecordedFunction
from ..tracing import running
from .line import Line
from .remote import RemoteLinearization, linearized


class RemoteRecorded(RecordedFunction):
    """f, traced here at the first call and replayed by a service afterwards.  Made by `Client.recorded`.

    The point comes first, then the direction, then f's other arguments, which is how scipy.optimize calls: with
    `argnums` a tuple the direction is a tuple too.

    Attributes
    ----------
    counts : traces, retraces, replays, misses, repeats, evictions, as of `dd.recorded`
    """

    def __init__(self, client: Line, f: Callable[..., Any], argnums: int | tuple[int, ...], max_tapes: int,
                 on_branch_change: str, nonfinite: str, settings: dict[str, Any]) -> None:
        super().__init__(f, argnums, max_tapes, on_branch_change, nonfinite, settings)
        self._client = client

    def __repr__(self) -> str:
        name = getattr(self, "__qualname__", "function")
        return f"<recorded {name}, {self.counts}, held at {self._client.address}>"

    def value_and_grad(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """(f(x), grad f(x)), by one replay and one transposed solve."""
        with self._turn("Recorded.grad or value_and_grad"):
            at = self.at(*args, **kwargs)
            require_number(at.value)
            return self._gradient(at)

    def _at(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RemoteLinearization | Outside:
        if running() is not None:
            raise InputError("derivatives of a function that a service holds can't be part of a function that is being "
                             "traced: take them of f itself, with dd.recorded or dd.grad")
        if self._closed:
            raise InputError("this recorded function was closed; make a new one with client.recorded")
        asked = Purpose(args, kwargs, self._argnums)
        serving, here, why = self._serving(asked)
        if here >= 0:
            return self._repeat(here)
        for k in serving:
            tape, outside = self._tapes[k], False
            try:
                tape.lin.update(*self._moving(args))
            except BranchChangedError as error:
                if self._on_branch_change == "raise":
                    raise
                self.counts.misses += 1
                why = str(error).partition(";")[0].partition(", and a tape")[0]
                continue
            except NonFiniteError:  # the decisions fell as recorded; the system is where it was
                if self._nonfinite == "raise":
                    raise
                outside = True
            tape.reach(asked.x.copy(), outside)
            return self._replayed(k)
        return self._trace(args, kwargs, asked, why, bool(serving))

    def _linearize(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RemoteLinearization:
        settings = dict(self._settings)
        has_aux, name = settings.pop("has_aux", False), settings.pop("name", None)
        return linearized(self._client, self._f, args, self._argnums, kwargs, has_aux, name, "raise", settings)


__all__ = ["RemoteRecorded"]
