"""Sparse direct solvers, component by component or of the whole: MUMPS, SuperLU_DIST, or PETSc's own LU.

The strongly connected components of I - L, each after all that it reads, make it block lower triangular.  A component
of one row, which every line outside implicit statements is, takes a substitution; the others, the unknowns of equations
that depend on each other, are factorized one by one: small ones in one compiled loop, dense ones by LAPACK, large
sparse ones by the package, which has no more rows to order than are coupled, and no others fill in.  They lie on one
rank each, so the package runs there alone, and orders once for all points.

Without implicit statements nothing is coupled, and nothing would be left to factorize: then the package gets the whole,
for comparison.  Every pivot is 1 in any symmetric ordering of it, so no pivoting is wanted.  (The whole of a system
with components, if asked for, is pivoted across them, which rounds what is exactly 0, and no refinement makes good for
that: rows that no path reaches from the right-hand side are set to 0.)

- MUMPS solves forward and transposed with one factorization.  Where a row reads very many others (a sum over a
  solution), it is told to set such rows apart while it orders.
- SuperLU_DIST has no transposed solve in PETSc: the transpose is formed and factored on its own, of the whole when an
  adjoint is first asked for.
- PETSc's LU is sequential; of the whole in natural ordering, in which the factors are I - L and I themselves.  It does
  not pivot.

Every solution is checked on its true residual (`residual.py`).  Where its componentwise backward error is above
rounding it is refined with the same factors, at most REFINEMENTS times (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 12.2).  A factorization orders and so rounds in its own way, which at
rows of mere cancellation no refinement mends: what is left must be rounding of the terms that cancelled.

Options (prefix `distdiff_`): `direct_of` components or whole; `pc_factor_mat_solver_type` mumps, superlu_dist or petsc;
and the packages' own, `mat_mumps_icntl_14` ...
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np

from ..errors import ConvergenceError, MissingSolverError
from ..machine import Machine
from ..petsc import PREFIX, Options, event, petsc
from ..petsc import options as petsc_options
from ..system import TriangularSystem
from .base import Solver
from .cost import (
    Cost,
    Method,
    Work,
    assembling_bytes,
    assembly,
    implicit_setup,
    substitution_seconds,
    substitution_setup,
    system_bytes,
)
from .factors import Factor, PackageBlock
from .passes import Passes
from .residual import Residual

PACKAGES = ("mumps", "superlu_dist", "petsc")
REFINEMENTS = 3


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """Components: a substitution, and another pass for the residual.  The whole: a factorization once a point, and two
    triangular solves a right-hand side."""
    if work.cyclic:
        seconds = (machine.direct_call + assembly(work, machine) + substitution_setup(work, machine)
                   + 2 * substitution_seconds(work, columns, machine))
        return Cost(seconds, assembling_bytes(work) + system_bytes(work),
                    "substitutes as substitution does, has a package factorize large components, and checks residuals")
    entries = work.rows + work.entries
    factors = machine.factor_entry * entries + implicit_setup(work, machine)
    seconds = (machine.direct_call + assembly(work, machine) + work.waits * factors
               + columns * (machine.direct_solve + machine.direct_entry * entries))
    return Cost(seconds, assembling_bytes(work) + 2 * system_bytes(work),
                "factorizes a matrix that is triangular already")


class _Factors(Protocol):
    """What solves in place, for y (n_local,) or (n_local, m)."""

    def solve(self, y: np.ndarray, transposed: bool) -> None: ...
    def refresh(self) -> None: ...
    def close(self) -> None: ...


class Direct(Solver):
    """LU factors of I - L or of its components, for `tangent` and `adjoint`.  Collective.

    Raises `MissingSolverError` if the package is not in this PETSc, `InputError` for a preconditioner
    that is no LU, `ConvergenceError` if factorization or solve fails or the residual stays above rounding,
    `SingularError` where an implicit statement does not determine its result: of the whole packages don't say, and some
    go on.
    """

    name = "direct"
    takes_norms = True

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        self._factors: _Factors | None = None
        options = dict(options or {})
        with petsc_options(system.comm, options, self.name) as given:
            usual = "components" if system.cyclic else "whole"
            self.by_components = given.string("direct_of", usual, ("components", "whole")) == "components"
            self.package = _package(given, 1 if self.by_components else system.comm.size)
            if self.by_components:
                system.require_triangular(up_to_blocks=True)
                system = system.with_blocks(partial(PackageBlock, package=self.package))
            super().__init__(system)
            self._residual = Residual(system)
            if self.by_components:
                self._factors = _Components(system, given, options)
            else:
                system.factorize()
                if system.n_rows:
                    self._factors = _Whole(system, self.package, options)

    def refresh(self, point: Any = None) -> None:
        """Factor the new values; the transpose, where there is one, is formed anew."""
        if self._factors is not None:
            self._factors.refresh()

    def close(self) -> None:
        if self._factors is not None:
            self._factors.close()

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        if self._factors is None or (y.ndim == 2 and y.shape[1] == 0):
            return
        seed = self._work("seed", y.shape[1:])
        seed[:] = y
        with event("direct"):
            self._factors.solve(y, transposed)
            error = 0.0
            for column, b in ((y, seed),) if y.ndim == 1 else zip(y.T, seed.T):
                error = max(error, self._checked(self._factors, column, np.ascontiguousarray(b), transposed))
        self.info = {"package": self.package, "of": "components" if self.by_components else "whole", "residual": error}

    def _checked(self, factors: _Factors, y: np.ndarray, b: np.ndarray, transposed: bool) -> float:
        """Refine y, the solution for b, until its residual is rounding; returns its componentwise backward error."""
        x, r = np.array(y), self._work("residual")
        tolerance = self._residual.tolerance(transposed)
        error, norm = self._residual(b, x, r, transposed)
        steps = 0
        while not error <= tolerance and steps < REFINEMENTS and np.isfinite(norm):
            factors.solve(r, transposed)
            x += r
            steps += 1
            error, norm = self._residual(b, x, r, transposed)
        if not error <= tolerance and not self.by_components and self.system.cyclic and np.isfinite(norm):
            x[self._residual.paths(b, transposed) == 0.0] = 0.0
            error, norm = self._residual(b, x, r, transposed)
            steps += 1
        if not error <= tolerance and not self._residual.against_magnitudes(b, r, transposed) <= tolerance:
            raise ConvergenceError(
                f"{self.package}: after {steps} refinements the componentwise residual is {error:.3g} > "
                f"{tolerance:.3g}; the factors are only approximate (an option of the package that drops or "
                f"compresses entries?), or entries are too large or not finite; {self._remedy()}")
        if steps:
            y[:] = x
        return error

    def _remedy(self) -> str:
        substitution = "method='substitution' factorizes implicit statements alone, and pivots"
        if not self.system.cyclic:
            return "method='substitution' needs no factorization"
        if self.package == "superlu_dist":
            return ("SuperLU_DIST does not pivot, which zeros on the diagonal of dR/dy ask for: use "
                    f"options={{'pc_factor_mat_solver_type': 'mumps'}}, or {substitution}")
        return substitution

    @property
    def memory(self) -> int:
        """Bytes beside the system; what the package itself holds is not among them."""
        return super().memory + self._residual.nbytes


class _Whole:
    """Factors of the whole over its ranks, and of its explicit transpose once a package that does not solve transposed
    is asked to."""

    def __init__(self, system: TriangularSystem, package: str, options: Mapping[str, Any]) -> None:
        self._system, self._package, self._options = system, package, options
        self._kept = {False: Factor(system, package, False)}

    def solve(self, y: np.ndarray, transposed: bool) -> None:
        explicit = transposed and self._package == "superlu_dist"
        if explicit not in self._kept:
            with petsc_options(self._system.comm, self._options, Direct.name, told=True):
                self._kept[explicit] = Factor(self._system, self._package, explicit)
        self._kept[explicit].solve_in_place(y, transposed and not explicit)

    def refresh(self) -> None:
        for factor in self._kept.values():
            factor.refresh()

    def close(self) -> None:
        for factor in self._kept.values():
            factor.close()
        self._kept = {}


class _Components:
    """Substitution, with a package's factors of the large components."""

    def __init__(self, system: TriangularSystem, given: Options, options: Mapping[str, Any]) -> None:
        self._system = system
        self._passes = Passes(system)
        if any(system.comm.allgather(system.packaged)) and not system.packaged:
            for name in options:  # not read here, but where the large components are
                given.given(str(name).lstrip("-").removeprefix(PREFIX))

    def solve(self, y: np.ndarray, transposed: bool) -> None:
        self._passes.backward(y) if transposed else self._passes.forward(y)

    def refresh(self) -> None:
        self._system.factorize_anew()

    def close(self) -> None:
        self._system.release()


def available(size: int) -> list[str]:
    """The packages of this PETSc that can factor a system on `size` ranks."""
    has = petsc().Sys.hasExternalPackage
    return [name for name in PACKAGES if (size == 1 if name == "petsc" else has(name))]


def _package(given: Options, size: int) -> str:
    built = available(size)
    wanted = given.string("pc_factor_mat_solver_type", (built or PACKAGES)[0], PACKAGES)
    if wanted not in built:
        ranks = "one rank" if size == 1 else f"{size} ranks"
        has = ", ".join(built) or "none for more than one rank"
        raise MissingSolverError(
            f"direct solver {wanted!r} is not available on {ranks}: this PETSc has {has}; use method='substitution', "
            "or a PETSc configured with --download-mumps (Debian's and conda-forge's have it)")
    return wanted


METHOD = Method("direct", cost, Direct,
                ends="when the right-hand sides under way are solved: solves with factors have no supersteps, and the "
                     "package can't be interrupted")
