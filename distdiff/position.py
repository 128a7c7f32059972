"""Where a linearization stands: f's program, spread over the ranks, at a point; and the way to another point.

    Source  ──trace──▶  Position: facts, this rank's share, its values  ──▶  Solving
                          │    ▲
                          └────┘ move: the tape once more, if its guards hold
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI

from . import comm as agreement
from .cancellation import apart, look
from .comm import agreed, on_root, together
from .errors import BranchChangedError, CancelledError, NonFiniteError, OverdueError
from .evaluate import Point, at_the_trace, evaluate
from .facts import Facts
from .independence import put_aside
from .nonfinite import require_finite
from .partition import LocalTape
from .program import refusal, without_function
from .solvers.layouts import Use
from .source import Share, Source
from .spread import Spread
from .stages import Stages


class Position:
    """f's program at a point.  What is not an attribute or a property is collective on `comm`.

    Attributes
    ----------
    facts : what all ranks know of the program; local : this rank's share of it
    inputs, outputs : which numbers of the arguments and of the result this rank has
    use : for how many right-hand sides the program was laid out
    point : values and partials there; None after a failure, or where the tape does not apply
    """

    facts: Facts
    local: LocalTape
    inputs: Spread
    outputs: Spread
    use: Use
    point: Any = None
    _memory: Any = None  # of the values: the next point's take their place
    _looked_at: Any = None  # the point whose values were looked through for NaN
    _put_aside: Any = None  # ... whose lines were asked for infinite partials that no result depends on
    _value: Any = None  # how the result nests, and all its leaves in one

    def __init__(self, source: Source, comm: MPI.Comm, stages: Stages) -> None:
        self._source, self._comm, self._stages = source, comm, stages

    @property
    def team(self) -> MPI.Comm:
        """The ranks that share one copy of the program."""
        return MPI.COMM_SELF if self.facts.everywhere or self.by_itself else self._comm

    @property
    def by_itself(self) -> bool:
        """Whether a single derivative is found by the one rank that has all of the program, as on one rank.

        Where rules may raise ranks meet after every pass, as one that fails alone would leave the others waiting.
        """
        return self.facts.alone and self.use.once and not self.local.joint

    @property
    def made(self) -> bool:
        """Whether f has ever been evaluated."""
        return self._value is not None

    @property
    def value(self) -> Any:
        """f's result at the point, nested as f returned it: a copy."""
        outputs, full = self._value
        return outputs.nest(full.copy())

    @property
    def nbytes(self) -> int:
        """Bytes of this rank's share and of its values."""
        held = (self.local, self.inputs, self.outputs, *([] if self._memory is None else [self._memory]))
        return sum(thing.nbytes for thing in held)

    def coordinates(self) -> np.ndarray:
        """The point itself, all leaves of the arguments in one, on every rank."""
        return self.inputs.collect(self.own_coordinates())

    def own_coordinates(self) -> np.ndarray:
        """Those that this rank has.  Local."""
        return self.point.values.gather(self.local.inputs.ids)

    def trace(self) -> Share:
        """Run f at the source's arguments and spread its program over the ranks; there is no point until `begin`."""
        self.point = self._memory = None
        share = self._source.spread()
        look(self._comm)
        self.local, self.facts = share.local, share.facts
        facts = share.facts
        self.inputs = Spread(self._comm, self.local.inputs.positions, facts.n_inputs, facts.everywhere)
        self.outputs = Spread(self._comm, self.local.outputs.positions, facts.n_outputs, facts.everywhere)
        self.use = Use.announced(self._source.settings["solves"], facts.n_inputs, facts.n_outputs)
        return share

    def begin(self, known: list[Any] | None) -> None:
        """Evaluate the program where f was run; known: the values that tracing left (`Share`)."""
        facts = self.facts
        x = self.inputs.take(self.inputs.share(facts.x))
        facts.x = None
        with at_the_trace(self.local, not facts.elsewhere):
            self._evaluate(x, known)
        site = self._broken_guard() if facts.elsewhere else None
        if site:
            raise BranchChangedError(refusal(site))
        self._read_value()

    def move(self, x: np.ndarray) -> str | None:
        """Replay the tape where this rank's inputs are x; the place of a guard that broke, the same on every rank.

        There is no point then, nor after an error.  The source's arguments are there already: where an operation
        raises on the tape, or its result is not finite, f itself is asked whether it goes on.
        """
        try:
            self.replay(x)
            site = self._broken_guard()
            if not site:
                self._read_value()
            return site
        except Exception as error:  # of an operation, or what is not finite: where f goes on, the tape does not apply
            if not self._goes_on(error):
                raise
            self.point = None
            return f"an operation that fails on the tape, with {type(error).__name__}, and not in the function"

    def replay(self, x: np.ndarray) -> None:
        """Evaluate the tape where this rank's inputs are x, in the memory of the point that was."""
        self.point = None  # its values are overwritten, whatever happens
        self._evaluate(x, values=self._memory)

    def finite(self, result: np.ndarray) -> np.ndarray:
        """`result` if it is finite, else `NonFiniteError` naming where it began."""
        return require_finite(result, self.point, self.team, self._comm, self._source.locate)

    def passed_over(self) -> bool:
        """Whether there are values that are NaN: f's result is finite, so they are passed over on its way (by nansum, a
        mask, where), and it depends on none of them.  What reads them has its partials at a number from now on.

        A NaN that comes up at this point alone (0 / 0) still shows: the line that makes it reads finite numbers, and
        has partials that are not.  Then: whether there are such lines, and results depend on none, which have no
        partials from now on.  True once a point for either.
        """
        if self._put_aside is self.point:
            return False
        given = bool(np.isnan(self.own_coordinates()).any())  # by the arguments, which stay what they are
        if self._comm.allreduce(given, op=MPI.LOR):
            return False
        if self._looked_at is not self.point:
            self._looked_at = self.point
            with agreed(self._comm):
                found = self.point.values.without_nan(self.local.items)
            if self._comm.allreduce(found, op=MPI.LOR):
                return True
        self._put_aside = self.point
        with without_function(self._source.f):
            return put_aside(self.point, self.team, self._comm)

    def leave(self) -> None:
        """Free the messages between the shares, where there are any; local."""
        if hasattr(self, "local"):
            self.local.close()

    def close(self) -> None:
        """Free the values as well; local."""
        self.leave()
        self.point = self._memory = None

    def _evaluate(self, x: np.ndarray, known: list[Any] | None = None, values: Any = None) -> None:
        with self._stages("evaluate"):
            with without_function(self._source.f), together(self._comm), apart(self._comm, self.team):
                point: Point = evaluate(self.local, x, self.team, values=values, known=known)
        self.point, self._memory = point, point.values

    def _read_value(self) -> None:
        """The function's result on every rank, all leaves in one."""
        full = self.outputs.collect(self.point.outputs())
        try:
            self.finite(full)
        except NonFiniteError:
            self.point = None
            raise
        for place, constant in self.facts.constants:
            full[place:place + constant.size] = constant.ravel()
        self._value = self.facts.outputs, full

    def _broken_guard(self) -> str | None:
        """Where a decision falls otherwise than on the tape, on any rank; then there is no point."""
        broken = None
        with agreed(self._comm):
            broken = next(iter(self.point.broken_guards()), None)
        place = None
        if self._source.otherwise:  # on rank 0
            place = "an argument's keys, or its axes in memory, come in another order"
        elif broken is not None:
            place = str(self.local.sites[broken.site]) if broken.site >= 0 else "a comparison of traced values"
        site = next((s for s in self._comm.allgather(place) if s), None)
        if site:
            self.point = None
        return site

    def _goes_on(self, error: Exception) -> bool:
        """Whether f has a value where the tape has raised `error`, alike on all ranks."""
        if isinstance(error, CancelledError | OverdueError) or "_settled" in vars(error) or (
                not agreement.sound(self._comm)):
            return False
        return on_root(self._comm, self._source.has_value)


__all__ = ["Position"]
