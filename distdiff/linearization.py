"""A function linearized at a point: traced once, spread over the ranks, solved as often as wanted.

    (I - L) ydot = xdot          lin.jvp(xdot)      y'  = J x'
    (I - L)^T lam = ybar         lin.vjp(ybar)      x-bar = J^T y-bar

`Linearization` is where the stages meet: trace, partition and evaluate (`source`, `position`), and preaccumulate,
assemble, choose and solve (`solving`).  All of its methods are collective on its communicator; rank 0's arguments
count, and results come back on every rank.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from . import batches
from .comm import agreed, calling, chosen, collective, on_root, require_sound, sound, vector_from_root
from .errors import BranchChangedError, InputError, LayoutWarning
from .nest import Nest, blocks, require_number
from .nested import gradient, refuse_inside
from .nonfinite import all_finite
from .position import Position
from .report import Report, dot_product_residual, gather
from .settings import CALL, check_settings, plain, refuse_unknown
from .solvers import method as method_of
from .solvers.layouts import Advice
from .solvers.select import Choice
from .solvers.work import BATCH, Work
from .solving import Solving
from .source import Source
from .spread import Spread
from .stages import ENDS, Stages
from .tracing.memory import rare_collections

if TYPE_CHECKING:
    from .pictures import Picture
    from .pictures.subject import Subject
    from .solvers.structured import StructuredSystem
    from .tracing import Trace


class Linearization:
    """f at a point x, ready for derivative solves.  Make one with `linearize`; close it, or use it in a `with`.

    Attributes
    ----------
    turn : a lock, held by the thread whose call is under way: those of others wait
    value : the function's result at the point, nested as f returned it; a copy whenever it is asked for
    aux : what f returned beside its result (`has_aux=True`) when it was traced last; ranks other than 0 have copies
    """

    @calling("linearize")
    def __init__(
        self, f: Callable[..., Any], args: tuple[Any, ...], *, argnums: int | tuple[int, ...] = 0,
        kwargs: Mapping[str, Any] | None = None, has_aux: bool = False, comm: MPI.Comm | None = None,
        method: str = "auto", options: Mapping[str, Any] | None = None, preaccumulate: bool = True,
        partition: str = "auto", min_block: int | None = None, on_branch_change: str = "retrace",
        on_failure: str = "substitution", solves: int = 1, stages: Stages | None = None,
        traced: Trace | None = None, **unknown: Any,
    ) -> None:
        refuse_inside(unknown)
        self.turn = threading.RLock()
        self.comm = chosen(comm)
        settings: dict[str, Any] = {
            "argnums": argnums, "has_aux": has_aux, "method": method, "options": options,
            "preaccumulate": preaccumulate, "partition": partition, "min_block": plain(min_block),
            "on_branch_change": on_branch_change, "on_failure": on_failure, "solves": plain(solves)}
        require_sound(self.comm)
        with agreed(self.comm, begins=True):
            if not callable(f):
                raise InputError(f"the function to differentiate is a {type(f).__name__}, which can't be called")
            refuse_unknown(unknown, CALL)
            check_settings(**settings)
        settings = on_root(self.comm, lambda: settings)  # rank 0's count, or ranks might go different ways
        self._settings = settings
        self.method, self.options = settings["method"], dict(settings["options"] or {})
        self.preaccumulate = settings["preaccumulate"]
        self.stages = stages or Stages()
        self.retraces = self.solves = 0
        self.aux: Any = None
        self._source = Source(f, args, kwargs, comm=self.comm, stages=self.stages, settings=settings,
                              traced=traced)
        self._at = Position(self._source, self.comm, self.stages)
        self._closed = False
        self._gradient: Linearization | None = None  # of the gradient, at the point or at an earlier one
        self._gradient_moves = False
        self._advised, self._warned = 0, False
        try:
            self._build()
        except Exception:  # whatever it is: raised again
            if sound(self.comm):  # nobody is left to call `close`
                self._at.leave()
            raise

    # -- from the function to the point ------------------------------------------------------------------------

    @collective
    @rare_collections()
    def _build(self) -> None:
        """Trace, partition, distribute, evaluate, and prepare the solver.  Collective."""
        at, share = self._at, self._at.trace()
        self.aux = share.aux
        self._solving = Solving(at.local, self.comm, at.team, self.stages, method=self.method, options=self.options,
                                preaccumulate=self.preaccumulate, on_failure=self._settings["on_failure"],
                                once=at.use.once, by_itself=at.by_itself, points=at.use.points)
        job = at.use.share(self.comm.size, at.facts.everywhere), at.use.together
        self._solving.choice = self._solving.choose(*job)  # also where there will be no point, but the next one is
        at.begin(share.values)
        self._solving.arrive(at.point)
        self._solving.select(*job)

    def _derivative(self, forward: bool, solve: Callable[[], np.ndarray]) -> np.ndarray:
        """What `solve` finds, or finds again in other ways if products overflow; finite.  Collective."""
        result = solve()
        while not all_finite(result) and self._otherwise(forward):
            result = solve()
        return self._at.finite(result)

    def _otherwise(self, forward: bool) -> bool:
        """Whether there is another way to what is not finite: past NaN that do not count, or as solvers know."""
        if self._at.passed_over():
            self._solving.look_again(self._at.point)
            return True
        return self._solving.another_way(forward)

    @property
    def value(self) -> Any:
        """The function's result at the point, nested as f returned it: a copy, for the caller to write into."""
        return self._at.value

    def __repr__(self) -> str:
        """In a line; not collective."""
        name = getattr(self._source.f, "__name__", type(self._source.f).__name__)
        if not self._at.made:
            return f"<linearization of {name}, not made>"
        facts, ranks = self._at.facts, f" on {self.comm.size} ranks" * (self.comm.size > 1)
        return (f"<linearization of {name}, {facts.inputs} to {facts.outputs}, {facts.lines:,} lines, "
                f"{self.choice.method}{ranks}{', closed' * self._closed}>")

    @property
    def nests(self) -> tuple[Nest, Nest]:
        """How the differentiated arguments and the result nest, and their shapes."""
        return self._at.facts.inputs, self._at.facts.outputs

    @property
    def work(self) -> Work:
        """Lines and statements of the busiest rank: what a pass over the tape costs."""
        return self._solving.size

    @property
    def choice(self) -> Choice:
        """The method selected last, and why."""
        return self._solving.choice

    # -- derivatives ----------------------------------------------------------------------------------------------

    @collective
    def jvp(self, *tangents: Any) -> Any:
        """ydot = J xdot, by one forward solve.  Collective.

        `tangents` are nested and shaped as the differentiated arguments (one a number in `argnums`); the result as
        f's result.  Raises `InputError` where shapes don't fit.
        """
        self._ready()
        xdot = self._seed(self._at.facts.inputs, lambda: self._source.pack(tangents), "tangent", self._at.inputs)
        self._select_one()
        ydot = self._derivative(True, lambda: self._at.outputs.collect(self._solving.solve(True, xdot)))
        self.solves += 1
        return self._at.facts.outputs.nest(ydot)

    @collective
    def vjp(self, cotangent: Any) -> Any:
        """xbar = J^T ybar, by one transposed solve (backprop).  Collective.

        `cotangent` is nested and shaped as f's result; the result as the differentiated argument (a tuple of them if
        `argnums` is a tuple).  Raises `InputError` where shapes don't fit.
        """
        self._ready()
        ybar = self._seed(self._at.facts.outputs, lambda: cotangent, "cotangent", self._at.outputs)
        self._select_one()
        xbar = self._derivative(False, lambda: self._at.inputs.collect(self._solving.solve(False, ybar)))
        self.solves += 1
        return self._at.facts.inputs.nest(xbar)

    def _select_one(self) -> None:
        """The method for one more right-hand side; rank 0 warns once where far more come than the layout is for."""
        self._solving.select(self._at.use.columns, 1, 1)
        if self._advised == self._solving.expected or self._warned:
            return
        self._advised = self._solving.expected
        advice = self._advice()
        if advice is not None and advice.urgent:
            self._warned = True
            warnings.warn(str(advice), LayoutWarning, stacklevel=5)

    def _advice(self) -> Advice | None:
        """The layout that would have suited the right-hand sides that come at this point.  Local, on rank 0."""
        return self._solving.advice(self._source.prospects, self._at.use.columns)

    @calling("Linearization.hvp")
    def hvp(self, *tangents: Any) -> Any:
        """H v, the second derivative of a function with one result, by one forward solve of its gradient's program.
        Collective.

        `tangents` as for `jvp`, the result as for `vjp`.  The gradient is traced at the first call, and from then on
        follows `update`.  Raises `InputError` where f returns more than a number.
        """
        with self.turn:
            return self._gradient_here().jvp(*tangents)

    @calling("Linearization.hessian")
    def hessian(self) -> Any:
        """The dense Hessian of a function with one result, the Jacobian of its gradient.  Collective.

        For one array x its shape is x.shape + x.shape; else the arguments' nesting holding such blocks twice nested.
        """
        with self.turn:
            return self._gradient_here().jacobian()

    def _gradient_here(self) -> Linearization:
        """The gradient linearized at the point: traced once, then replayed.  Collective."""
        self._ready()
        with agreed(self.comm, begins=True):
            require_number(self.value)
        nested = self._at.facts.inputs.nest(self._at.coordinates())  # the caller's arrays may change
        source = self._source
        nested = source.laid(nested)
        here = (nested,) if source.single else nested
        if self._gradient is None:
            settings = {**self._settings, "has_aux": False}
            source.move(here)
            self._gradient = Linearization(
                gradient(source.f, settings["argnums"], self._settings["has_aux"]), source.args, comm=self.comm,
                kwargs=source.kwargs, stages=self.stages, **settings)
        elif self._gradient_moves:
            self._gradient.update(*here)
        self._gradient_moves = False
        return self._gradient

    @calling("Linearization.jacobian")
    def jacobian(self) -> Any:
        """The dense Jacobian, from as many right-hand sides as the smaller of inputs and outputs.  Collective.

        For one array in and one out its shape is out.shape + in.shape; for nested results or arguments, the result's
        nesting holding the arguments' nesting holding such blocks.  Forward solves if there are no more inputs than
        outputs, else transposed ones.
        """
        forward = self._at.facts.n_inputs <= self._at.facts.n_outputs
        jacobian = self.batch("jvp", range(self._at.facts.n_inputs)) if forward else self.batch(
            "vjp", range(self._at.facts.n_outputs)).T
        return blocks(jacobian, self._at.facts.outputs, self._at.facts.inputs)

    @collective
    def batch(self, kind: str, seeds: np.ndarray | range | None, expected: int = 1) -> np.ndarray:
        """J X (kind "jvp"), J^T Y ("vjp") or H V ("hvp") for many right-hand sides, on flat vectors.  Collective.

        `seeds` is (n, m), a column for each of them: the leaves of arguments or result one after another; or a range of
        unit vectors, `range(n)` for a whole Jacobian.  The result is (k, m).  The matrix is streamed once for a batch,
        not once a column.  expected: how many more are expected at this point, which the choice of a method goes by if
        it is more than m.  Raises `InputError` where shapes don't fit.
        """
        self._ready()
        kind = on_root(self.comm, lambda: batches.known(kind))
        if kind == "hvp":
            return self._gradient_here().batch("jvp", seeds, expected)
        forward, everywhere = kind == "jvp", self._at.facts.everywhere
        into, out = (self._at.inputs, self._at.outputs) if forward else (self._at.outputs, self._at.inputs)
        columns, expected = on_root(self.comm, lambda: (batches.Columns.of(seeds, into.n), expected))
        share = -(-columns.count // self.comm.size) if everywhere else columns.count
        self._solving.select(max(share, expected, 1), 1 if share == 1 else BATCH, share)
        at_once = batches.width(self._at.local.n_nodes, self.comm) * method_of(self.choice.method).at_once
        given = seeds if isinstance(seeds, np.ndarray) else None
        rows = self._derivative(forward, lambda: batches.solve_all(
            columns, given, self.comm, into, out, at_once, lambda block: self._solving.solve(forward, block),
            everywhere))
        self.solves += columns.count
        return rows.T

    def behind(self, kind: str) -> Linearization | None:
        """What solves for a kind of product: this, or for "hvp" the gradient's, None until one is asked for.  Local."""
        return self._gradient if kind == "hvp" else self

    def ends(self) -> str:
        """Where the work under way ends if it is cancelled now, in words.  Local; any thread may ask."""
        return ENDS.get(self.stages.now or "") or method_of(self.choice.method).ends

    @property
    def prospects(self) -> tuple[Choice, bool]:
        """What `pass_seconds` goes by beside the machine: another prediction comes with another of these.  Local."""
        return self.choice, self._solving.little

    def pass_seconds(self, columns: int) -> float | None:
        """Predicted seconds of one more `batch` of so many columns at this point, by the method chosen last; None where
        the cost model can't say.  Local, on rank 0."""
        mine = -(-columns // self.comm.size) if self._at.facts.everywhere else columns
        each = self._solving.pass_seconds(min(mine, BATCH))
        return None if each is None else -(-mine // BATCH) * each

    @collective
    def operator(self) -> StructuredSystem:
        """I - L of the whole program as a linear operator, for PETSc's own solvers; nothing is assembled.  Collective.

        Its rows are all flattened lines, spread over the ranks; a right-hand side may enter at any of them.

            op = lin.operator()              the same one at every call; follows `update`, until f is traced again
            op.mat                           a PETSc Mat (MATPYTHON): mult, multTranspose, solve, solveTranspose
            op.precondition(ksp.getPC())     exact substitution as a PC: with `preonly` a direct solver
            op.inputs, op.outputs            the rows of x and of f(x) on this rank: seed there, read there
            op.mult(v), op.solve(b), ...     the same on NumPy arrays, (op.n_own,) or (op.n_own, m)

        Coefficients that rules compute are computed at every product, and stored if `solves` told of several.  Raises
        `InputError` where there is no point; `close` frees it.
        """
        self._ready()
        with agreed(self.comm):
            if self._at.facts.everywhere:
                raise InputError("every rank has the whole program here, and the operator's rows are spread over the "
                                 "ranks; choose another partition than 'right-hand sides'")
        return self._solving.operator(keep=self._at.use.columns > 1)

    # -- another point --------------------------------------------------------------------------------------------

    @collective
    def update(self, *args: Any) -> Any:
        """Move to a new point, replaying the tape without tracing again; returns the value there.  Collective.

        `args` replace the differentiated arguments (one a number in `argnums`), same nesting and shapes.  All else that
        f reads (its other arguments, closures, globals, attributes) is a constant of the trace and stays as it was
        then, whatever has become of it since: to take new constants linearize again, or use `recorded`, which looks.

        Where a recorded comparison goes the other way at the new point, the function is traced afresh, with what it
        then reads (`on_branch_change="retrace"`, counted in `retraces`), or `BranchChangedError` is raised ("raise");
        never a derivative of the wrong branch.  So it is where an operation raises on the tape, or its result is not
        finite, while f itself, which is run once to see, has a value there; else that error is raised.
        """
        self._ready(point=False)
        site = self._move(args)
        if site is None:
            return self.value
        if self._settings["on_branch_change"] == "raise":
            raise BranchChangedError(
                f"at the new point a comparison goes the other way ({site}), so the recorded tape does not "
                "apply; use on_branch_change='retrace', or linearize again there")
        self._solving.close()
        self._at.leave()
        self._build()
        self.retraces += 1
        return self.value

    @collective
    def try_update(self, *args: Any) -> str | None:
        """`update` if the tape applies at the new point: None, or the place of a comparison that goes the other way.

        Then there is no point, and another update can follow.  f is not traced, whatever `on_branch_change` says.
        Collective.
        """
        self._ready(point=False)
        return self._move(args)

    def _move(self, args: tuple[Any, ...]) -> str | None:
        """Replay the tape at `args`; the place of a guard that broke, the same on every rank.  Collective."""
        x = self._seed(self._at.facts.inputs, lambda: self._source.pack(args), "point", self._at.inputs)
        self._source.move(args)
        self._gradient_moves = True
        self._solving.leave()
        site = self._at.move(x)
        if site is None:
            self._solving.arrive(self._at.point)
        return site

    def _replay(self) -> None:
        """Evaluate the tape at the point once more; solvers have yet to arrive there.  Collective."""
        x = self._at.own_coordinates()
        self._solving.leave()
        self._at.replay(x)

    # -- the rest ---------------------------------------------------------------------------------------------------

    @collective
    def report(self, assemble: bool = False, check: bool = False) -> Report:
        """What was traced, how it is spread, which method solves it and why, times and memory.  Collective.

        `assemble=True` builds the PETSc system for its counts even where the method needs none.  `check=True` solves
        once in either direction and tells by how much <w, J v> and <J^T w, v> differ.
        """
        self._ready(point=assemble or check)
        dot_product = self._dot_product() if check else None
        if not self._at.facts.known:
            self._at.facts.structure, held = self._source.structure(self._at.local)
            self._at.facts.foresee(held, self._at.use)
        kept = self._solving.counts(assemble)
        memory = self._solving.memory + self._at.nbytes
        advice = on_root(self.comm, lambda: str(self._advice() or ""))
        return gather(self.comm, self._at.facts, self._at.local, self.choice, self._solving.solvers, self.stages, kept,
                      memory, retraces=self.retraces, solves=self.solves, dot_product=dot_product, advice=advice,
                      measured=self._solving.measured(), ranges=self._solving.ranges)

    def _dot_product(self) -> float:
        if self.choice.method not in self._solving.solvers:
            self._solving.select(self._at.use.columns, 1)

        def solved(forward: bool, seed: np.ndarray) -> np.ndarray:
            into, out = (self._at.inputs, self._at.outputs) if forward else (self._at.outputs, self._at.inputs)
            return self._derivative(forward, lambda: out.collect(self._solving.solve(forward, into.take(seed))))

        n, m = self._at.inputs.n, self._at.outputs.n
        return dot_product_residual(partial(solved, True), partial(solved, False), n, m)

    @calling("Linearization.plot")
    def plot(self, kind: str, path: str | PathLike[str] | None = None, *, dark: bool = False) -> Picture:
        """A picture: "spy", "levels", "partition", "timeline" or "scaling" (see `distdiff.pictures`).  Collective.

        It is written to `path`, a .png or .svg, by rank 0, and returned on every rank: `.data` are the plain arrays
        that are drawn, `.figure()` is matplotlib's.  "timeline" and "scaling" run solves to measure them; on several
        ranks rank 0 traces f once more.  Raises `InputError` for another kind or suffix, `ImportError` where something
        is to be drawn and matplotlib is missing.
        """
        from .pictures import require_path, take

        with agreed(self.comm, begins=True):  # before the work
            if path is not None and self.comm.rank == 0:
                require_path(path)
        picture = take(self.subject(), kind)
        if path is not None:
            on_root(self.comm, lambda: picture.save(path, dark=dark))
        return picture

    def subject(self) -> Subject:
        """What pictures are taken of, here and until the next `update`; one serves several.  Local."""
        self._ready()
        from .pictures.subject import Subject

        at, source, settings = self._at, self._source, self._settings
        return Subject.of(
            self.comm, at.local, at.facts, source, self._solving, lambda: at.point, columns=at.use.columns,
            replay=self._replay,
            again=lambda comm: Linearization(source.f, source.args, comm=comm, kwargs=source.kwargs, **settings))

    def close(self) -> None:
        """Free the PETSc objects and the values.  Collective; a second call does nothing."""
        with self.turn:
            if self._closed:
                return
            self._solving.close()
            if self._gradient is not None:
                self._gradient.close()
            self._at.close()
            self._closed = True

    def __enter__(self) -> Linearization:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ready(self, point: bool = True) -> None:
        refuse_inside()
        require_sound(self.comm)
        if self._closed:
            raise InputError("this linearization was closed; make a new one with distdiff.linearize")
        if point and self._at.point is None:
            raise InputError("the last update failed: there is no point to differentiate at; update(x) to a valid one")

    def _seed(self, nest: Nest, tree: Callable[[], Any], what: str, spread: Spread) -> np.ndarray:
        """Rank 0's `tree()` as a flat vector, checked against the nest, cut to this rank's places.  Collective."""
        return spread.take(vector_from_root(self.comm, spread.n, lambda: nest.flat(tree(), what)))


def linearize(f: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0, **settings: Any) -> Linearization:
    """Linearize f at `args`: trace it, spread it over the ranks, evaluate it there.  Collective.

    Parameters
    ----------
    f : a function of NumPy arrays (or nested containers of them, or floats), returning the same; run on rank 0 only.
    args : the point.  Rank 0's counts.
    argnums : which positional arguments are differentiated, an integer or a tuple of them; the others are constants.
    kwargs : keyword arguments for f, constants.
    has_aux : f returns (result, aux); aux is kept, not differentiated.
    comm : an mpi4py communicator, default `MPI.COMM_WORLD` at the time of the call.
    method : "auto", "walk", "sweep", "substitution", "interface", "pipeline", "neumann", "krylov", "direct", or
        "petsc", a KSP as `options` say.
    options : PETSc options (without the prefix `distdiff_`) for this linearization's solver.
    preaccumulate : False keeps every flattened line as a row of the assembled system.
    partition : "auto" or a strategy's name (a `FallbackWarning` tells where the program has nothing for it).
    min_block : smallest array (elements) spread over ranks.
    on_branch_change : "retrace" or "raise", when `update` meets a comparison that goes the other way.
    on_failure : "substitution" or "raise", when the method fails: solve by substitution, with a `FallbackWarning`, or
        raise its `ConvergenceError` (`RangeError` where vectors leave the range of doubles from every seed).
    solves : how many right-hand sides are expected at each point; "auto" weighs set-up against solves by it.  Where
        more come, another method may be set up for them, but the layout over ranks stays.
        "jacobian": as many as `jacobian` takes, which ranks that all have the whole program can share.

    Raises `InputError`, `UnsupportedOperationError`, `NonFiniteError`, or what f itself raised, on every rank alike.
    """
    return Linearization(f, args, argnums=argnums, **settings)
