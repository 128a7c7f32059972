"""A function that is recorded at its first call and replayed afterwards: for optimizers, which ask for many points.

    F = dd.recorded(f)
    scipy.optimize.minimize(F, x0, jac=F.grad, hessp=F.hvp)
    scipy.optimize.minimize(F.value_and_grad, x0, jac=True)
    scipy.optimize.least_squares(F, x0, jac=F.jacobian)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from .comm import agreed, calling, on_root, world
from .errors import BranchChangedError, InputError, NonFiniteError
from .linearization import Linearization, linearize
from .nest import require_number
from .nested import NestedLinearization
from .purpose import Counts, Latest, Outside, Purpose, check_choices
from .tracing import running
from .watch import Surroundings, kept, same_bits


class _Tape:
    """One linearization, what it was recorded for, and the point where it is (both known to rank 0 alone)."""

    def __init__(self, lin: Linearization, purpose: Purpose | None, surroundings: Surroundings | None) -> None:
        self.lin, self.purpose, self.surroundings = lin, purpose, surroundings
        self.x: np.ndarray | None = None
        self.gradient: Any = None  # at the point, once asked for
        self.outside = False  # f is not finite there

    def reached(self, x: np.ndarray | None, outside: bool = False) -> None:
        self.x, self.gradient, self.outside = x, None, outside


def _worth_trying(lin: Linearization) -> int:
    """How many tapes to try before f is traced: as many replays as cost about one trace.

    So a point costs at most about twice what it had to, whether one of them fits or not.  Two at least, for a decision
    that goes to and fro.  (Seconds a statement and a line, measured on a 2.6 GHz core; only their ratio matters.)
    """
    work = lin.work
    trace = 5e-4 + 2e-5 * work.items + 1e-9 * work.array_lines + 3e-7 * work.scalar_lines
    replay = 5e-5 + 5e-7 * work.items + 0.5e-9 * work.array_lines + 1.6e-9 * work.scalar_lines
    return max(2, round(trace / replay))


class Recorded:
    """f, traced at the first call and replayed afterwards.  Make one with `recorded`.

    All calls are collective, and rank 0's arguments count.  Results are the same bits on every rank, so an optimizer
    that every rank runs alike takes the same steps everywhere.

    The point comes first, then the direction, then f's other arguments, which is how scipy.optimize calls: with
    `argnums` a tuple the direction is a tuple too.

    Attributes
    ----------
    counts : `Counts`: traces, retraces, replays, misses, repeats, evictions
    """

    def __init__(self, f: Callable[..., Any], *, argnums: int | tuple[int, ...] = 0, max_tapes: int = 8,
                 comm: MPI.Comm | None = None, on_branch_change: str = "retrace", nonfinite: str = "raise",
                 **settings: Any) -> None:
        if callable(f):
            functools.update_wrapper(self, f, updated=())
        self._f, self._argnums, self._settings = f, argnums, settings
        self._comm, self._max_tapes = comm, max_tapes
        self._on_branch_change, self._nonfinite = on_branch_change, nonfinite
        check_choices(f, max_tapes, nonfinite, on_branch_change, settings)
        self.counts, self._latest = Counts(), Latest()
        self._tapes: list[_Tape] = []  # the one used last comes first
        self._closed = False

    def __repr__(self) -> str:
        return f"<recorded {getattr(self, '__qualname__', 'function')}, {self.counts}>"

    # -- values and derivatives --------------------------------------------------------------------------------------

    @calling("a recorded function")
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """f(*args, **kwargs)."""
        return self._f(*args, **kwargs) if running() is not None else kept(self.at(*args, **kwargs).value)

    def grad(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient of f, which must return one number; nested as the differentiated arguments."""
        return self.value_and_grad(*args, **kwargs)[1]

    @calling("Recorded.grad or value_and_grad")
    def value_and_grad(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """(f(x), grad f(x)), by one replay and one transposed solve."""
        at = self.at(*args, **kwargs)
        with agreed(at.comm):
            require_number(at.value)
        if isinstance(at, NestedLinearization):
            return at.value, at.vjp(1.0)
        here = self._tapes[0]
        if here.gradient is None:
            here.gradient = at.vjp(1.0)
        return at.value, kept(here.gradient)

    @calling("Recorded.jvp")
    def jvp(self, x: Any, tangent: Any, *args: Any, **kwargs: Any) -> Any:
        """J xdot at the point (x, *args)."""
        return self.at(x, *args, **kwargs).jvp(*self._direction(tangent))

    @calling("Recorded.vjp")
    def vjp(self, x: Any, cotangent: Any, *args: Any, **kwargs: Any) -> Any:
        """J^T ybar at the point (x, *args)."""
        return self.at(x, *args, **kwargs).vjp(cotangent)

    @calling("Recorded.jacobian")
    def jacobian(self, *args: Any, **kwargs: Any) -> Any:
        """The dense Jacobian; see `Linearization.jacobian`."""
        return self.at(*args, **kwargs).jacobian()

    @calling("Recorded.hvp")
    def hvp(self, x: Any, tangent: Any, *args: Any, **kwargs: Any) -> Any:
        """H v at the point (x, *args), of an f that returns one number.  Its gradient is recorded, too."""
        return self.at(x, *args, **kwargs).hvp(*self._direction(tangent))

    @calling("Recorded.hessian")
    def hessian(self, *args: Any, **kwargs: Any) -> Any:
        """The dense Hessian; see `Linearization.hessian`."""
        return self.at(*args, **kwargs).hessian()

    def _direction(self, tangent: Any) -> tuple[Any, ...]:
        return (tangent,) if isinstance(self._argnums, (int, np.integer)) else tuple(tangent)

    # -- the way to a point --------------------------------------------------------------------------------------------

    @calling("Recorded.at")
    def at(self, *args: Any, **kwargs: Any) -> Linearization | NestedLinearization:
        """f linearized at the point: for its `report()`, or several derivatives at once.  Valid until the next call;
        not to be closed or updated.  Inside a function that is being differentiated, f on that function's tape.
        """
        if running() is not None:
            return NestedLinearization(self._f, args, argnums=self._argnums, kwargs=kwargs)
        if self._closed:
            raise InputError("this recorded function was closed; make a new one with distdiff.recorded")
        comm = self._comm if self._comm is not None else world()
        asked: Any = None

        def decide() -> tuple[list[int], int, str]:
            """The tapes that may serve, best first; which one is at the point (-1: none); why one has to be traced."""
            nonlocal asked
            asked = Purpose(args, kwargs, self._argnums)
            serving, why = [], ""
            for k, tape in enumerate(self._tapes):
                assert tape.purpose is not None and tape.surroundings is not None
                reason = tape.purpose.differs(asked)
                if reason is None:
                    name = tape.surroundings.changed()
                    reason = name and f"{name!r}, which f reads from around it, changes; make it an argument"
                if reason is None:
                    serving.append(k)
                elif k == 0:
                    why = reason
            there = [(k, self._tapes[k].x) for k in serving]
            return serving, next((k for k, x in there if x is not None and same_bits(x, asked.x)), -1), why

        serving, here, why = on_root(comm, decide, begins=True)
        if here >= 0:
            self.counts.repeats += 1
            self._tapes.insert(0, self._tapes.pop(here))
            return self._there(self._tapes[0])
        moving = self._moving(args) if comm.rank == 0 else self._nowhere()
        for tries, k in enumerate(serving):
            if tries >= _worth_trying(self._tapes[serving[0]].lin):
                break
            tape = self._tapes[k]
            tape.reached(None)
            outside = False
            try:
                place = tape.lin.try_update(*moving)
            except NonFiniteError:  # the decisions fell as recorded, and the result is not finite
                if self._nonfinite == "raise":
                    raise
                place, outside = None, True
            if place is None:
                self._tapes.insert(0, self._tapes.pop(k))
                tape.reached(asked and asked.x.copy(), outside)
                self.counts.replays += 1
                self._latest.replayed()
                return self._there(tape)
            self.counts.misses += 1
            why = f"a comparison goes the other way ({place}); use np.where there, or raise max_tapes"
        if serving and self._on_branch_change == "raise":
            raise BranchChangedError(
                f"at the new point {why.partition(';')[0]}, so the recorded tape does not apply; use "
                "on_branch_change='retrace', or a new recorded function there")
        return self._trace(args, kwargs, comm, asked, why, bool(serving))

    @staticmethod
    def _there(tape: _Tape) -> Any:
        """What answers at the point where a tape is."""
        return Outside(*tape.lin.nests, tape.lin.comm) if tape.outside else tape.lin

    def _trace(self, args: tuple[Any, ...], kwargs: dict[str, Any], comm: MPI.Comm, asked: Any, why: str,
               again: bool) -> Linearization:
        """Record f at the point, on a tape that takes the place of the one used least recently.  Collective."""
        while len(self._tapes) >= self._max_tapes:
            self._tapes.pop().lin.close()
            self.counts.evictions += 1
        if comm.rank == 0:
            self._latest.traced(why, getattr(self, "__qualname__", "the function"), 6)
        self.counts.traces += 1
        self.counts.retraces += again
        args, kwargs = kept(args), kept(kwargs)  # the caller's arrays may change before f runs again
        lin = linearize(self._f, *args, argnums=self._argnums, kwargs=kwargs, comm=comm,
                        on_branch_change=self._on_branch_change, **self._settings)
        if comm.rank == 0:
            asked.constants, around = kept(asked.constants), Surroundings(self._f, asked.constants)
            tape = _Tape(lin, asked, around)
            tape.reached(asked.x.copy())
        else:
            tape = _Tape(lin, None, None)
        self._tapes.insert(0, tape)
        return lin

    def _moving(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        numbers = (self._argnums,) if isinstance(self._argnums, (int, np.integer)) else self._argnums
        return tuple(args[k] for k in numbers)

    def _nowhere(self) -> tuple[None, ...]:
        return (None,) * (1 if isinstance(self._argnums, (int, np.integer)) else len(self._argnums))

    # -- the rest --------------------------------------------------------------------------------------------------

    @property
    def cached(self) -> int:
        """Tapes held now."""
        return len(self._tapes)

    def forget(self) -> None:
        """Give up all tapes: the next call traces f.  Collective."""
        for tape in self._tapes:
            tape.lin.close()
        self._tapes = []

    def close(self) -> None:
        """Give up all tapes for good.  Collective; a second call does nothing."""
        self.forget()
        self._closed = True

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def recorded(f: Callable[..., Any], *, argnums: int | tuple[int, ...] = 0, max_tapes: int = 8,
             **settings: Any) -> Recorded:
    """f as a function that is traced when first called, and replayed at every other point.

        F = dd.recorded(f)
        F(x)  F.grad(x)  F.value_and_grad(x)  F.jvp(x, v)  F.vjp(x, w)  F.jacobian(x)  F.hvp(x, v)  F.hessian(x)

    for an optimizer: `minimize(F, x0, jac=F.grad, hessp=F.hvp)` evaluates and linearizes no point twice, however it
    mixes its calls.  Nothing is computed ahead: `F(x)` is one run of the tape, `F.grad` after it one transposed solve.

    A decision that falls another way at a new point (an `if`, a mask, an order) traces f again, and the tape is kept
    beside the others: the next time the point is replayed on the tape whose decisions fit.  So does another nesting or
    shape of the point, or another value of an argument or keyword that is not differentiated.  So does another value
    of what f, and the functions and methods that it names or is given, read from closures, globals, defaults and
    objects, among them those given as arguments, which is looked at at every call, by value: numbers, text, arrays,
    SciPy's sparse matrices, containers, and the attributes that code names of objects, classes and modules, six steps
    deep and up to 1000 values.

    Not noticed: what f assigns itself (a counter), what other libraries' objects hold (a DataFrame, a generator, a
    file, `threading.local`, `ContextVar`, `weakref`, `os.environ`), what is found by `importlib`, `sys.modules`,
    `globals()` or `eval`, attributes that only `getattr` with a computed name reads, what lies past those bounds, and
    single numbers of arrays that come after the first 64 MiB, of which 4096 each are looked at.  Call `F.forget()` when
    you have changed such a thing.

    All calls are collective: every rank makes them, rank 0's point counts, and results are the same bits on every rank,
    so that an optimizer which all ranks run takes the same steps everywhere.

    Parameters
    ----------
    f : a function as for `linearize`
    argnums : the arguments that move and by which is differentiated
    max_tapes : tapes kept at a time; the one used least recently goes
    nonfinite : "raise" `NonFiniteError` with the user's line, or "inf": where f is not finite its value is inf and its
        derivatives NaN, which line searches step back from; the first point has to be one where f is finite
    on_branch_change : "retrace", or "raise" `BranchChangedError` where no tape kept applies
    comm, method, options, partition, solves, ... : as for `linearize`

    Use it in a `with`, or call `close()`, to free the tapes and PETSc's objects; then further calls raise `InputError`.
    Else calls raise what `linearize` does, on every rank alike.
    """
    return Recorded(f, argnums=argnums, max_tapes=max_tapes, **settings)
