"""Functions that are recorded once and replayed: what is asked of them, which of the tapes kept answers, what they did.

`replay.Recorded` keeps its tapes here, `service.recorded.RemoteRecorded` has a service keep them.
"""

from __future__ import annotations

import functools
import threading
import warnings
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .draws import Draws
from .errors import InputError, RetraceWarning
from .nest import Nest
from .snapshot import identities, kept, same, same_bits
from .tracing import running
from .tracing.floating import surroundings
from .tracing.stretch import check_numbers
from .tracing.tree import flatten, layout, require_floats, writeable
from .watch import Surroundings

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
        self._warned = self._told = False

    def replayed(self) -> None:
        self._why.append(None)

    def looked(self, beyond: str, name: str, stacklevel: int) -> None:
        """Warn, once, where there is more around the function than is looked at.  beyond: some of that."""
        if beyond and not self._told:
            self._told = True
            warnings.warn(f"{name} reads more from around it than is looked at: if {beyond} or others change, that is "
                          "not noticed. Call forget() then, or keep numbers in arrays", RetraceWarning,
                          stacklevel=stacklevel + 1)

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
        self.structure = spec, tuple((np.shape(leaf), layout(leaf), writeable(leaf)) for leaf in leaves)
        if not leaves:
            raise InputError(f"argument {', '.join(map(str, moving))} holds no number to differentiate with respect to")
        for k, leaf in enumerate(leaves):
            require_floats(leaf, "the argument" if len(leaves) == 1 else f"leaf {k} of the arguments")
        parts = [np.asarray(leaf, dtype=float).reshape(-1) for leaf in leaves]
        self.x = np.concatenate(parts) if len(parts) != 1 else np.ascontiguousarray(parts[0])
        self.constants: dict[Any, Any] = {k: arg for k, arg in enumerate(args) if k not in moving}
        self.constants.update(kwargs)
        self.identities = identities(*(self.constants[name] for name in sorted(self.constants, key=str)))
        self.errors = surroundings()

    def differs(self, other: Purpose) -> str | None:
        """What another call has otherwise, in words ("" for another kind of call); None if a tape serves both."""
        if self.structure != other.structure or [*self.constants] != [*other.constants]:  # **kwargs come in order
            return ""
        for name, value in self.constants.items():
            if not same(value, other.constants[name]):
                return f"the constant argument {name!r} changes; differentiate by it as well, if it holds floats"
        if self.identities != other.identities:
            return "which of the constant arguments are one and the same changes"
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


@dataclass(eq=False)
class KeptTape:
    """A linearization that is kept, what it was recorded for, and the point where it is."""

    lin: Any
    purpose: Purpose | None = None  # None, as all that follows, on ranks where nobody looks
    surroundings: Surroundings | None = None
    x: np.ndarray | None = None  # at no point
    outside: bool = False  # f is not finite there
    gradient: Any = None  # there, once asked for
    drawn: str = ""  # what f drew from, and will draw otherwise from at another point

    def reach(self, x: np.ndarray | None, outside: bool = False) -> None:
        self.x, self.outside, self.gradient = x, outside, None

    @property
    def there(self) -> Any:
        """What answers at the point."""
        return Outside(*self.lin.nests, getattr(self.lin, "comm", None)) if self.outside else self.lin

    def differs(self, asked: Purpose) -> str | None:
        """Why it does not serve a call, in words ("" for another kind of call); None if it may."""
        assert self.purpose is not None and self.surroundings is not None
        reason = self.purpose.differs(asked)
        if reason is None and (name := self.surroundings.changed()):
            return f"{name!r}, which f reads from around it, changes; make it an argument"
        if reason is None and self.drawn and (self.x is None or not same_bits(self.x, asked.x)):
            return (f"f draws from {self.drawn}, which goes on from run to run, and so others at every point; make a "
                    "generator inside, from a seed, or draw before and give f the numbers")
        return reason


class RecordedFunction(ABC):
    """f, traced at the first call and replayed afterwards: `at` says where.

    The point comes first, then the direction, then f's other arguments, which is how scipy.optimize calls: with
    `argnums` a tuple the direction is a tuple too.

    Attributes
    ----------
    counts : `Counts`: traces, retraces, replays, misses, repeats, evictions
    """

    def __init__(self, f: Callable[..., Any], argnums: int | tuple[int, ...], max_tapes: int, on_branch_change: str,
                 nonfinite: str, settings: dict[str, Any]) -> None:
        _check_choices(f, max_tapes, nonfinite, on_branch_change, settings)
        functools.update_wrapper(self, f, updated=())
        self._f, self._argnums, self._max_tapes, self._settings = f, argnums, max_tapes, settings
        self._on_branch_change, self._nonfinite = on_branch_change, nonfinite
        self.counts, self._latest = Counts(), Latest()
        self._tapes: list[KeptTape] = []  # the one used last comes first
        self._closed = False
        self._lock = threading.RLock()

    # -- values and derivatives --------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """f(*args, **kwargs)."""
        with self._turn("a recorded function"):
            return self._f(*args, **kwargs) if running() is not None else kept(self.at(*args, **kwargs).value)

    def grad(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient of f, which must return one number; nested as the differentiated arguments."""
        return self.value_and_grad(*args, **kwargs)[1]

    @abstractmethod
    def value_and_grad(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """(f(x), grad f(x)), by one replay and one transposed solve."""

    def _gradient(self, at: Any) -> tuple[Any, Any]:
        """Value and gradient by the tape that is at the point."""
        here = self._tapes[0]
        if here.gradient is None:
            here.gradient = at.vjp(1.0)
        return at.value, kept(here.gradient)

    def jvp(self, x: Any, tangent: Any, *args: Any, **kwargs: Any) -> Any:
        """J xdot at the point (x, *args)."""
        with self._turn("Recorded.jvp"):
            return self.at(x, *args, **kwargs).jvp(*self._direction(tangent))

    def vjp(self, x: Any, cotangent: Any, *args: Any, **kwargs: Any) -> Any:
        """J^T ybar at the point (x, *args)."""
        with self._turn("Recorded.vjp"):
            return self.at(x, *args, **kwargs).vjp(cotangent)

    def jacobian(self, *args: Any, **kwargs: Any) -> Any:
        """The dense Jacobian; see `Linearization.jacobian`."""
        with self._turn("Recorded.jacobian"):
            return self.at(*args, **kwargs).jacobian()

    def hvp(self, x: Any, tangent: Any, *args: Any, **kwargs: Any) -> Any:
        """H v at the point (x, *args), of an f that returns one number.  Its gradient is recorded, too."""
        with self._turn("Recorded.hvp"):
            return self.at(x, *args, **kwargs).hvp(*self._direction(tangent))

    def hessian(self, *args: Any, **kwargs: Any) -> Any:
        """The dense Hessian; see `Linearization.hessian`."""
        with self._turn("Recorded.hessian"):
            return self.at(*args, **kwargs).hessian()

    # -- the way to a point ------------------------------------------------------------------------------------------

    def at(self, *args: Any, **kwargs: Any) -> Any:
        """f linearized at the point: for its `report()`, or several derivatives at once.  Valid until the next call;
        not to be closed or updated."""
        with self._turn("Recorded.at"):
            return self._at(args, kwargs)

    @abstractmethod
    def _at(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What answers at the point, on a tape that was replayed there or is new."""

    @abstractmethod
    def _linearize(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """f traced at the point."""

    def _calling(self, name: str) -> AbstractContextManager[None]:
        """While the body runs, this is the call that is made."""
        return nullcontext()

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """While the body runs, this is the call that is made, and those of other threads wait: each moves the tapes to
        its point.  Calls inside a trace go on that trace's tape, and wait for nobody."""
        with self._lock if running() is None else nullcontext(), self._calling(name):
            yield

    def _serving(self, asked: Purpose) -> tuple[list[int], int, str]:
        """The tapes that may serve, best first; which one is at the point (-1: none); why one has to be traced."""
        reasons = [tape.differs(asked) for tape in self._tapes]
        serving = [k for k, reason in enumerate(reasons) if reason is None]
        there = ((k, self._tapes[k].x) for k in serving)
        here = next((k for k, x in there if x is not None and same_bits(x, asked.x)), -1)
        return serving, here, (reasons[0] or "") if reasons else ""

    def _repeat(self, k: int) -> Any:
        """What answers where tape k is already."""
        self.counts.repeats += 1
        return self._first(k).there

    def _replayed(self, k: int) -> Any:
        """What answers where tape k has come to by a replay."""
        self.counts.replays += 1
        self._latest.replayed()
        return self._first(k).there

    def _first(self, k: int) -> KeptTape:
        self._tapes.insert(0, self._tapes.pop(k))
        return self._tapes[0]

    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any], asked: Purpose | None, why: str,
               again: bool) -> Any:
        """Record f at the point, on a tape that takes the place of the one used least recently.

        asked: None on ranks where nobody looks at purposes.  again: another tape might have served.
        """
        while len(self._tapes) >= self._max_tapes:
            self._tapes.pop().lin.close()
            self.counts.evictions += 1
        if asked is not None:
            self._latest.traced(why, getattr(self, "__qualname__", "the function"), 5)
        self.counts.traces += 1
        self.counts.retraces += again
        args, kwargs = kept((args, kwargs))  # the caller's arrays may change before f runs again
        draws = Draws(self._f, asked.constants) if asked is not None else None
        with draws.watching() if draws is not None else nullcontext():
            lin = self._linearize(args, kwargs)
        tape = KeptTape(lin)
        if asked is not None and draws is not None:
            asked.constants = kept(asked.constants)
            around = Surroundings(self._f, asked.constants)
            self._latest.looked(around.beyond, getattr(self, "__qualname__", "the function"), 5)
            tape = KeptTape(lin, asked, around, asked.x.copy(), drawn=draws.drawn())
        self._tapes.insert(0, tape)
        return lin

    @property
    def _numbers(self) -> tuple[int, ...]:
        return (self._argnums,) if isinstance(self._argnums, (int, np.integer)) else tuple(self._argnums)

    def _moving(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The differentiated ones of f's arguments."""
        return tuple(args[k] for k in self._numbers)

    def _direction(self, tangent: Any) -> tuple[Any, ...]:
        return (tangent,) if isinstance(self._argnums, (int, np.integer)) else tuple(tangent)

    # -- the rest ----------------------------------------------------------------------------------------------------

    @property
    def cached(self) -> int:
        """Tapes held now."""
        return len(self._tapes)

    def forget(self) -> None:
        """Give up all tapes: the next call traces f."""
        with self._lock:
            while self._tapes:
                self._tapes[-1].lin.close()
                self._tapes.pop()

    def close(self) -> None:
        """Give up all tapes for good; a second call does nothing."""
        with self._lock:
            self.forget()
            self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _check_choices(f: Any, max_tapes: int, nonfinite: str, on_branch_change: str, settings: Mapping[str, Any]) -> None:
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


__all__ = ["Counts", "KeptTape", "Outside", "Purpose", "RecordedFunction"]
