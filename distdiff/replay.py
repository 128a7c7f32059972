"""A function that is recorded at its first call and replayed afterwards: for optimizers, which ask for many points.

    F = dd.recorded(f)
    scipy.optimize.minimize(F, x0, jac=F.grad, hessp=F.hvp)
    scipy.optimize.minimize(F.value_and_grad, x0, jac=True)
    scipy.optimize.least_squares(F, x0, jac=F.jacobian)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mpi4py import MPI

from .comm import agreed, calling, chosen, on_root
from .errors import BranchChangedError, InputError, NonFiniteError
from .linearization import Linearization, linearize
from .nest import require_number
from .nested import NestedLinearization
from .purpose import Outside, Purpose, RecordedFunction
from .tracing import running


def _worth_trying(lin: Linearization) -> int:
    """How many tapes to try before f is traced: as many replays as cost about one trace.

    So a point costs at most about twice what it had to, whether one of them fits or not.  Two at least, for a decision
    that goes to and fro.  (Seconds a statement and a line, measured on a 2.6 GHz core; only their ratio matters.)
    """
    work = lin.work
    trace = 5e-4 + 2e-5 * work.items + 1e-9 * work.array_lines + 3e-7 * work.scalar_lines
    replay = 5e-5 + 5e-7 * work.items + 0.5e-9 * work.array_lines + 1.6e-9 * work.scalar_lines
    return max(2, round(trace / replay))


class Recorded(RecordedFunction):
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
        super().__init__(f, argnums, max_tapes, on_branch_change, nonfinite, settings)
        self._comm = comm

    def __repr__(self) -> str:
        return f"<recorded {getattr(self, '__qualname__', 'function')}, {self.counts}>"

    def value_and_grad(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """(f(x), grad f(x)), by one replay and one transposed solve."""
        with self._turn("Recorded.grad or value_and_grad"):
            at = self.at(*args, **kwargs)
            with agreed(at.comm):
                require_number(at.value)
            return (at.value, at.vjp(1.0)) if isinstance(at, NestedLinearization) else self._gradient(at)

    def _at(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Linearization | NestedLinearization | Outside:
        """A linearization; inside a function that is being differentiated, f on that function's tape.  Collective."""
        if running() is not None:
            return NestedLinearization(self._f, args, argnums=self._argnums, kwargs=kwargs)
        if self._closed:
            raise InputError("this recorded function was closed; make a new one with distdiff.recorded")
        comm = chosen(self._comm)
        asked: Purpose | None = None

        def decide() -> tuple[list[int], int, str]:
            nonlocal asked
            asked = Purpose(args, kwargs, self._argnums)
            return self._serving(asked)

        serving, here, why = on_root(comm, decide, begins=True)
        if here >= 0:
            return self._repeat(here)
        moving = self._moving(args) if comm.rank == 0 else (None,) * len(self._numbers)
        for tries, k in enumerate(serving):
            if tries >= _worth_trying(self._tapes[serving[0]].lin):
                break
            tape = self._tapes[k]
            tape.reach(None)
            outside = False
            try:
                place = tape.lin.try_update(*moving)
            except NonFiniteError:  # the decisions fell as recorded, and the result is not finite
                if self._nonfinite == "raise":
                    raise
                place, outside = None, True
            if place is None:
                tape.reach(asked and asked.x.copy(), outside)
                return self._replayed(k)
            self.counts.misses += 1
            why = f"a comparison goes the other way ({place}); use np.where there, or raise max_tapes"
        if serving and self._on_branch_change == "raise":
            raise BranchChangedError(
                f"at the new point {why.partition(';')[0]}, so the recorded tape does not apply; use "
                "on_branch_change='retrace', or a new recorded function there")
        return self._trace(args, kwargs, asked, why, bool(serving))

    def _linearize(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Linearization:
        return linearize(self._f, *args, argnums=self._argnums, kwargs=kwargs, comm=self._comm,
                         on_branch_change=self._on_branch_change, **self._settings)

    def _calling(self, name: str) -> AbstractContextManager[None]:
        return calling(name)


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

    Where f draws from a random generator, or goes on with an iterator, that was made outside of it, or takes entropy of
    the system's (a generator without a seed), every new point is traced: at another it would have drawn others.

    Not noticed: what f assigns itself (a counter), what other libraries' objects hold (a DataFrame, a file, the time,
    `threading.local`, `ContextVar`, `weakref`, `os.environ`), what is found by `importlib`, `sys.modules`, `globals()`
    or `eval`, attributes that only `getattr` with a computed name reads, what lies past those bounds, and single
    numbers of arrays that come after the first 64 MiB, of which 4096 each are looked at.  Call `F.forget()` when you
    have changed such a thing.

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
