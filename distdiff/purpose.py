"""What a recorded function is asked for, and what it has done: shared by those that keep tapes here and elsewhere."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import InputError, RetraceWarning
from .nest import Nest
from .tracing.floating import surroundings
from .tracing.stretch import check_numbers
from .tracing.tree import flatten
from .watch import same

WINDOW, MOST = 8, 6  # new points looked back upon; if so many of them were traced, the user is told


@dataclass
class Counts:
    """What a recorded function has done so far."""

    traces: int = 0  # runs of f that made a tape
    retraces: int = 0  # those of them at points where a decision fell differently than in all tapes kept
    replays: int = 0  # points reached by replaying a tape
    misses: int = 0  # replays that met a decision which fell differently, so that another tape was tried
    repeats: int = 0  # calls at the point where the function was already
    evictions: int = 0  # tapes given up, the one used least recently first

    def __str__(self) -> str:
        return ", ".join(f"{n} {name}" for name, n in vars(self).items() if n) or "not called yet"


class Latest:
    """Why the latest new points were traced, if they were."""

    def __init__(self) -> None:
        self._why: deque[str | None] = deque(maxlen=WINDOW)  # None: replayed
        self._warned = False

    def replayed(self) -> None:
        self._why.append(None)

    def traced(self, why: str, name: str, stacklevel: int) -> None:
        """Warn, once, where most points are traced.  why: "" for what is no retrace."""
        if why:
            self._why.append(why)
        if not self._warned and sum(w is not None for w in self._why) >= MOST:
            self._warned = True
            warnings.warn(f"{name} was traced at most of its latest points, which takes 10 to 100 times a replay: "
                          f"{why}", RetraceWarning, stacklevel=stacklevel + 1)


class Purpose:
    """What a tape must have been recorded for to serve a call: the point's nesting and shapes, and the constants."""

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], argnums: int | tuple[int, ...]) -> None:
        numbers = (argnums,) if isinstance(argnums, (int, np.integer)) else argnums
        check_numbers(numbers, len(args))
        moving = [k % len(args) for k in numbers]
        leaves, spec = flatten(tuple(args[k] for k in moving), "point")
        self.structure = spec, tuple(np.shape(leaf) for leaf in leaves)
        if not leaves:
            raise InputError(f"argument {', '.join(map(str, moving))} holds no number to differentiate with respect to")
        parts = [np.asarray(leaf, dtype=float).reshape(-1) for leaf in leaves]
        self.x = np.concatenate(parts) if len(parts) != 1 else np.ascontiguousarray(parts[0])
        self.constants: dict[Any, Any] = {k: arg for k, arg in enumerate(args) if k not in moving}
        self.constants.update(kwargs)
        self.errors = surroundings()

    def differs(self, other: Purpose) -> str | None:
        """What another call has otherwise, in words ("" for another kind of call); None if a tape serves both."""
        if self.structure != other.structure or self.constants.keys() != other.constants.keys():
            return ""
        for name, value in self.constants.items():
            if not same(value, other.constants[name]):
                return f"the constant argument {name!r} changes; differentiate by it as well, if it holds floats"
        return None if self.errors == other.errors else "np.seterr, or what makes warnings errors, changes"


class Outside:
    """A linearization where f has no finite value: inf, and derivatives that are NaN."""

    def __init__(self, inputs: Nest, outputs: Nest, comm: Any = None) -> None:
        self.comm = comm
        self.value = outputs.nest(np.full(int(outputs.bounds[-1]), np.inf))
        self._xbar, self._ydot = (nest.nest(np.full(int(nest.bounds[-1]), np.nan)) for nest in (inputs, outputs))
        self._blocks = tuple(of.unflatten([inputs.unflatten([np.full(a + b, np.nan) for b in inputs.shapes])
                                           for a in of.shapes]) for of in (outputs, inputs))

    def jvp(self, *tangents: Any) -> Any:
        return self._ydot

    def vjp(self, cotangent: Any) -> Any:
        return self._xbar

    hvp = vjp

    def jacobian(self) -> Any:
        return self._blocks[0]

    def hessian(self) -> Any:
        return self._blocks[1]


def check_choices(f: Any, max_tapes: int, nonfinite: str, on_branch_change: str, settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for what a function can't be recorded with."""
    if not callable(f):
        raise InputError(f"the function to record is a {type(f).__name__}, which can't be called")
    if not isinstance(max_tapes, int) or max_tapes < 1:
        raise InputError(f"max_tapes={max_tapes!r} must be a positive integer: tapes kept at a time")
    for name, value, known in (("nonfinite", nonfinite, ("raise", "inf")),
                               ("on_branch_change", on_branch_change, ("retrace", "raise"))):
        if value not in known:
            raise InputError(f"{name}={value!r} does not exist; choose {' or '.join(map(repr, known))}")
    if "has_aux" in settings:
        raise InputError("has_aux: a replay computes what f returns, not what it does beside it; return a tuple, "
                         "or use linearize")


__all__ = ["Counts", "Latest", "Outside", "Purpose", "check_choices"]
