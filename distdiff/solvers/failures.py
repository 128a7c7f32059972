"""What becomes of a method that fails: substitution instead, with a warning that says why, or its error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mpi4py import MPI

from ..comm import tell
from ..errors import ConvergenceError, FallbackWarning
from .select import Choice

INSTEAD = "substitution"


class Failures:
    """The methods that failed at a point.  `add` is collective, and all ranks add alike.

    on_failure   "substitution" or "raise"
    """

    def __init__(self, comm: MPI.Comm, on_failure: str) -> None:
        self._comm, self._on_failure = comm, on_failure
        self._why: dict[str, str] = {}

    def add(self, method: str, error: ConvergenceError) -> None:
        """Warn, on rank 0, that another method takes over; raises `error` if told to, or if there is none."""
        if self.final or method in (INSTEAD, "sweep"):
            raise error
        self._why[method] = str(error)
        self.warn(f"method {method!r} failed, and substitution solves instead at this point. {error}")

    @property
    def final(self) -> bool:
        """Whether a failure is an error, and nothing else is tried."""
        return self._on_failure == "raise"

    def warn(self, what: str) -> None:
        """On rank 0, of what solves instead.  Collective."""
        tell(self._comm, f"{what}. With on_failure='raise' this is an error", FallbackWarning)

    def instead_of(self, choice: Choice) -> Choice:
        """The choice, unless its method failed before: then substitution."""
        if choice.method not in self._why:
            return choice
        return replace(choice, method=INSTEAD, reason=f"{choice.method} failed: {self._why[choice.method]}")

    def options(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options for the method that solves now: those given were for the one that failed."""
        return {} if self._why else given

    def clear(self) -> None:
        """There is another point."""
        self._why.clear()
