"""Solving R(y, x) = 0 for y: Newton's method with the exact Jacobian, and what may bring it near the solution first.

`newton` is damped by the natural monotonicity test, which measures a residual by the step that it asks for, so neither
the equations' units nor the unknowns' matter (Deuflhard, Newton Methods for Nonlinear Problems, section 3.3).  SciPy
has no Newton method that takes a sparse Jacobian; its other methods run before this one when asked for, and theirs is
then the choice among several solutions.

A solution is accepted when Newton's step is below `tol` times every unknown, or when the residual is what rounding
leaves, row by row: an unknown of 1e10 says nothing of others in its leaf.  Where rounding isn't known, steps no longer
become smaller or a leaf becomes zero, `tol` times its largest unknown, or a thousandth of the guess, is enough.  Steps
must have become shorter faster than by a constant factor, though, as they do where dR/dy has an inverse: towards a root
of multiplicity m, where it has none and the result no derivative, each is 1 - 1/m of the one before (Griewank, On
solving nonlinear equations with simple singularities, SIAM Review 27, 1985).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from mpi4py import MPI

from ..errors import ConvergenceError, InputError, SingularError

MINIMIZERS = ("bfgs", "l-bfgs-b", "cg", "trust-ncg")
ROOTS = ("hybr", "lm", "broyden1", "broyden2", "anderson", "krylov", "df-sane", "snes")
ROUNDING = 32  # residuals so many units of rounding above zero are zero
FIRST = 50  # steps of a plain iteration before Newton's method takes over
NEAR = 1e-3  # ... or when its steps are so small
STUCK = 6  # steps that no longer halve what the worst unknown is off by, as rounding is
TINY = 1e-14  # relative sizes of steps that are rounding alone
SLOW, TELLING = 0.4, 4  # so many steps, the last ones, longer than that beside those before tell a multiple root


class AnyEquation(Protocol):
    """What solving asks of an equation: `equation.Equation`, or `shared.SharedEquation`, with a part on every rank."""

    comm: MPI.Comm
    n: int
    total: int
    places: np.ndarray

    @property
    def residual(self) -> np.ndarray: ...
    def every(self, mine: Any) -> bool: ...
    def largest(self, mine: np.ndarray) -> np.ndarray: ...
    def step(self, r: np.ndarray, anew: bool = True) -> np.ndarray: ...
    def times(self, p: np.ndarray) -> np.ndarray: ...
    def rounding(self, y: np.ndarray) -> np.ndarray: ...


At = Callable[[np.ndarray], Any]


class Settings(NamedTuple):
    """How an equation is solved.

    method           "newton"; or first "iterate" (y <- y - R), a method of scipy.optimize.root or .minimize, "snes"
    tol              relative error of the solution that is accepted
    max_iterations   of Newton's method, and of the one before it
    kind             "root"; "linear": one step leads there, or none can; "minimum": R is the gradient of an objective
    leaves           sizes of the unknown's arrays
    """

    method: str
    tol: float
    max_iterations: int
    kind: str = "root"
    leaves: tuple[int, ...] = ()

    def checked(self, allowed: tuple[str, ...]) -> Settings:
        if self.method not in allowed:
            raise InputError(f"method {self.method!r} does not solve this; choose one of {', '.join(allowed)}")
        if not isinstance(self.tol, (int, float, np.number)) or not 0.0 < self.tol < 1.0:
            raise InputError(f"tol={self.tol!r}: give a relative tolerance between 0 and 1")
        if not isinstance(self.max_iterations, (int, np.integer)) or self.max_iterations < 1:
            raise InputError(f"max_iterations={self.max_iterations!r}: at least one is wanted, a whole number")
        if self.kind not in ("root", "linear", "minimum"):
            raise InputError(f"an equation of kind {self.kind!r} is not known")
        return self


def as_vector(parts: Sequence[np.ndarray]) -> np.ndarray:
    """What an equation reads, all of it one after another."""
    return np.concatenate([np.empty(0), *(np.reshape(part, -1) for part in parts)])


def solved(at: At, y0: np.ndarray, n: int, settings: Settings, where: str, guarded: bool,
           near: np.ndarray | None = None) -> Sequence[np.ndarray]:
    """The values of an implicit statement with n unknowns (of this rank): `solve`'s y, and 1.

    guarded: where there is no solution a guard tells, so that is no error here; zeros, and 0.
    """
    try:
        return solve(at, np.array(y0), settings, where, near), np.ones(())
    except ConvergenceError:
        if not guarded:
            raise
        return np.zeros(n), np.zeros(())


def solve(at: At, y: np.ndarray, settings: Settings, where: str, near: np.ndarray | None = None,
          steps: list[int] | None = None) -> np.ndarray:
    """y with R(y, x) = 0, from a first guess; at(y) is the equation there.

    near: the solution but for rounding, of which Newton's method makes sure and no method before it has to look.
    steps: is given the number of factorizations that it took.
    Raises `ConvergenceError`, with numbers and the user's line `where`.
    """
    start, y = y, y if near is None else near
    with np.errstate(all="ignore"):
        equation = at(y)
        if not equation.every(np.isfinite(equation.residual)):
            raise ConvergenceError(f"the equation solved at {where} can't be evaluated at the first guess: its "
                                   "residual there is not finite; start from another y0")
        if near is not None:
            pass
        elif settings.method == "iterate":
            y = _iterated(at, y, settings)
        elif settings.method in MINIMIZERS:
            y = _minimized(at, y, settings)
        elif settings.method == "snes":
            y = _snes(at, y, settings, where)
        elif settings.method != "newton":
            y = _scipy_root(at, y, settings)
        found = newton(at, y, settings, where, steps)
    if settings.kind == "minimum":
        _check_minimum(at, start, found, where)
    return found


def newton(at: At, y: np.ndarray, settings: Settings, where: str, steps: list[int] | None = None) -> np.ndarray:
    """Damped Newton iteration (see the module's text); `steps` are given their number."""
    equation = at(y)
    sizes = _Sizes(settings.leaves, y, equation)
    r = equation.residual
    error, course = np.inf, list[float]()
    nearest, stuck = np.inf, 0
    for taken in range(settings.max_iterations):
        if steps is not None:
            steps[:] = [taken + 1]
        if equation.every(r == 0.0):
            _require_simple(course, where)
            return y
        try:
            step = equation.step(r)
        except SingularError as singular:
            if settings.kind == "linear":
                raise
            raise ConvergenceError(f"Newton's method, solving the equation at {where}, met a point where it can't go "
                                   f"on ({singular}); start from another y0") from singular
        error = sizes.relative(step, y, y + step)
        if error > TINY:
            course.append(error)
        worst = sizes.worst(step, y + step) if error <= settings.tol else np.inf
        rounding = ROUNDING * equation.rounding(y) if worst > settings.tol else np.zeros(0)
        if worst <= settings.tol or equation.every(np.abs(r) <= rounding):
            _require_simple(course, where)
            return y + step if error <= settings.tol else y
        if error <= settings.tol:  # the largest of every leaf are there, and others may be on their way
            _require_simple(course, where)
            stuck = stuck + 1 if worst > 0.5 * nearest else 0
            nearest = min(nearest, worst)
            y = y + step
            equation = at(y)
            r = equation.residual
            if stuck >= STUCK or not _largest(equation, rounding) or equation.every(np.abs(r) <= rounding):
                return y
            continue
        damping = 1.0
        while True:
            trial = y + damping * step
            there = at(trial)
            r = there.residual
            if there.every(np.isfinite(r)):
                left = sizes.relative(equation.step(r, anew=False), y, y + step, known=True)
                if left <= (1.0 - damping / 4) * error:
                    break
            damping /= 2
            if damping < 1e-8:
                raise ConvergenceError(
                    f"Newton's method stalled, solving the equation at {where}: no step along its direction brings a "
                    f"smaller error (relative {error:.3g} > tol={settings.tol:g}, largest residual "
                    f"{_size(at(y)):.3g}); there may be no solution near: start from another y0, or "
                    "choose another method")
        y, equation = trial, there
        if damping < 1.0:
            course.clear()
    raise ConvergenceError(
        f"Newton's method stopped after {settings.max_iterations} iterations, solving the equation at {where}: "
        f"relative error {error:.3g} > tol={settings.tol:g}, largest residual {_size(equation):.3g}; start "
        "from a better y0, or raise max_iterations or tol")


def _require_simple(course: list[float], where: str) -> None:
    """Raise `SingularError` where whole steps of these relative sizes led to a multiple root; of the very last one,
    rounding may be all there is."""
    ratios = [later / before for before, later in zip(course, course[1:])]
    for last in ratios[-TELLING:], ratios[-TELLING - 1:-1]:
        if len(last) == TELLING and all(SLOW <= ratio < 1.0 for ratio in last):
            raise SingularError(
                f"Newton's method comes nearer to a root of the equation at {where} by about the same part at every "
                f"step, the last of relative size {course[-1]:.3g}, so it is a multiple root, or next to one: dR/dy "
                "has no inverse there, and the result no derivative. Move the point, or write an equation of which it "
                "is a simple root")


class _Sizes:
    """Steps relative to the unknown, leaf by leaf; one that becomes zero is measured by a thousandth of the guess."""

    def __init__(self, leaves: tuple[int, ...], guess: np.ndarray, equation: AnyEquation) -> None:
        self._equation = equation
        bounds = np.searchsorted(equation.places, np.concatenate([[0], np.cumsum([n for n in leaves if n])]))
        self._here, self._starts = np.diff(bounds) > 0, bounds[:-1][np.diff(bounds) > 0]
        self._leaf = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))  # of each unknown
        self._least = 1e-3 * self._largest(guess)

    def relative(self, step: np.ndarray, *points: np.ndarray, known: bool = False) -> float:
        """known: of leaves alone that are not zero at all points, which say nothing of their size."""
        if not self._equation.every(np.isfinite(step)):
            return np.inf
        size = np.maximum.reduce([self._least, *map(self._largest, points)])
        largest = self._largest(step)
        counts = (largest > 0.0) & (size > 0.0) if known else largest > 0.0
        return float(np.where(counts, largest / size, 0.0).max(initial=0.0))

    def worst(self, step: np.ndarray, y: np.ndarray) -> float:
        """The largest step beside its own unknown, but in leaves that become zero."""
        beside = np.divide(np.abs(step), np.abs(y), out=np.full(len(y), np.inf), where=y != 0.0)
        there = (self._largest(y) > self._least)[self._leaf]
        return _largest(self._equation, np.where(there & (step != 0.0), beside, 0.0))

    def _largest(self, y: np.ndarray) -> np.ndarray:
        """The largest magnitude in each leaf, over all ranks."""
        found = np.zeros(len(self._here))
        if len(y):
            found[self._here] = np.maximum.reduceat(np.abs(y), self._starts)
        return self._equation.largest(found)


def _largest(equation: AnyEquation, mine: np.ndarray) -> float:
    """The largest magnitude, over all ranks."""
    return float(equation.largest(np.array([np.abs(mine).max(initial=0.0)]))[0])


def _size(equation: AnyEquation) -> float:
    """The largest residual."""
    return _largest(equation, equation.residual)


def _iterated(at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
    """y <- y - R(y): a fixed-point iteration, until it is near enough for Newton's method (or runs away from it)."""
    sizes, start, best = _Sizes(settings.leaves, y, at(y)), y, np.inf
    for _ in range(min(FIRST, settings.max_iterations)):
        r = at(y).residual
        size = sizes.relative(r, y, y - r)
        if not np.isfinite(size) or size > 1e6 * best:
            return start
        best = min(best, size)
        if size <= NEAR:
            return y
        y = y - r
    return y


def _scipy_root(at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
    from scipy.optimize import root

    options = {}
    if settings.method not in ("hybr", "lm"):
        options["maxiter" if settings.method != "df-sane" else "maxfev"] = settings.max_iterations
    with warnings.catch_warnings():  # Newton's method comes after, and says whether it converged
        warnings.simplefilter("ignore")
        return np.asarray(root(lambda v: at(v).residual, y, method=settings.method, options=options).x)


def _minimized(at: At, y: np.ndarray, settings: Settings) -> np.ndarray:
    from scipy.optimize import minimize

    def both(v: np.ndarray) -> tuple[float, np.ndarray]:
        equation = at(v)
        return equation.objective, equation.residual

    extra = {}
    if settings.method == "trust-ncg":
        extra["hessp"] = lambda v, p: at(v).times(p)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(minimize(both, y, jac=True, method=settings.method, **extra,
                                   options={"maxiter": 20 * settings.max_iterations}).x)


def _check_minimum(at: At, start: np.ndarray, y: np.ndarray, where: str) -> None:
    """A stationary point that lies above the first guess, or from which a way leads down, is no minimum."""
    equation = at(y)
    here, slack = equation.objective, 1e-9 * (abs(equation.objective) + abs(at(start).objective))
    if here > at(start).objective + slack:
        raise ConvergenceError(f"the stationary point found at {where} lies above the first guess ({here:.6g} > "
                               f"{at(start).objective:.6g}); start from another y0")
    rng = np.random.default_rng(0)
    for _ in range(4):
        p = rng.standard_normal(len(y))
        curvature = float(p @ at(y).times(p))
        if curvature < -1e-8 * float(np.abs(p) @ np.abs(at(y).times(p))):
            raise ConvergenceError(f"the stationary point found at {where} is no minimum: the objective curves "
                                   f"downwards there ({curvature:.3g}); start from another y0")


def _snes(at: At, y: np.ndarray, settings: Settings, where: str) -> np.ndarray:
    """PETSc's nonlinear solvers, on the ranks that share the equation; options with prefix `distdiff_implicit_`."""
    from ..petsc import petsc

    PETSc = petsc()
    equation = at(y)
    comm, n = equation.comm, (equation.n, equation.total)
    snes, x, f = PETSc.SNES().create(comm=comm), *(PETSc.Vec().createMPI(n, comm=comm) for _ in range(2))
    J = PETSc.Mat().createPython((n, n), comm=comm)
    try:
        def function(snes: Any, v: Any, out: Any) -> None:
            out.setArray(at(np.array(v.getArray())).residual)

        context = _Jacobian(at)
        J.setPythonContext(context)
        J.setUp()

        def jacobian(snes: Any, v: Any, A: Any, B: Any) -> None:
            context.y = np.array(v.getArray())
            J.assemble()

        snes.setOptionsPrefix("distdiff_implicit_")
        snes.setFunction(function, f)
        snes.setJacobian(jacobian, J)
        snes.setTolerances(rtol=settings.tol, max_it=settings.max_iterations)
        ksp = snes.getKSP()
        ksp.setType(PETSc.KSP.Type.PREONLY)
        ksp.getPC().setType(PETSc.PC.Type.PYTHON)
        ksp.getPC().setPythonContext(context)
        snes.setFromOptions()
        x.setArray(y)
        snes.solve(None, x)
        if snes.getConvergedReason() < 0 and not equation.every(np.isfinite(x.getArray())):
            raise ConvergenceError(f"PETSc's {snes.getType()} (reason {snes.getConvergedReason()}) left no finite "
                                   f"point, solving the equation at {where}; start from another y0")
        return np.array(x.getArray())
    finally:
        for thing in (snes, x, f, J):
            thing.destroy()


class _Jacobian:
    """dR/dy as a PETSc Mat of Python type, and its inverse as a PC."""

    def __init__(self, at: At) -> None:
        self.at, self.y = at, np.empty(0)

    def mult(self, mat: Any, v: Any, out: Any) -> None:
        out.setArray(self.at(self.y).times(np.array(v.getArray())))

    def apply(self, pc: Any, v: Any, out: Any) -> None:
        out.setArray(-self.at(self.y).step(np.array(v.getArray())))


__all__ = ["MINIMIZERS", "ROOTS", "Settings", "as_vector", "newton", "solve", "solved"]
