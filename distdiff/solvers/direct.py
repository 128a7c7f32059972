"""Sparse direct solvers: MUMPS, SuperLU_DIST, or PETSc's own LU on one rank.

Without implicit statements I - L needs no factorization, being triangular up to its numbering: this is then for
comparison.  Every pivot is 1 in any symmetric ordering, so no pivoting is wanted.  With them it factorizes the whole,
where `substitution` factorizes diagonal block by diagonal block, and packages pivot as they do by default.

- MUMPS solves forward and transposed with one factorization.  Where a row reads very many others (a sum over a
  solution), it is told to set such rows apart while it orders.
- SuperLU_DIST has no transposed solve in PETSc: the transpose is formed and factored on its own when an
  adjoint is first asked for.
- PETSc's LU is sequential; natural ordering, in which the factors are I - L and I themselves.  It does not pivot.

Every solution is checked on its true residual (`residual.py`).  Where its componentwise backward error is above
rounding it is refined with the same factors, at most REFINEMENTS times (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 12.2).  A factorization orders and so rounds in its own way, which at
rows of mere cancellation no refinement mends: what is left must be rounding of the terms that cancelled.

Option (prefix `distdiff_`): `pc_factor_mat_solver_type` mumps, superlu_dist or petsc, and the packages' own,
`mat_mumps_icntl_14` ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cancellation import look
from ..channels import Messages
from ..errors import ConvergenceError, InputError, MissingSolverError
from ..flags import ignored
from ..machine import Machine
from ..petsc import PREFIX, event, petsc
from ..petsc import options as petsc_options
from ..spanning import LONG, QAMD
from ..system import TriangularSystem
from .base import Solver
from .cost import Cost, Method, Work, assembling_bytes, assembly, implicit_setup, system_bytes
from .ksp import Ksp, reason_name
from .residual import Residual

PACKAGES = ("mumps", "superlu_dist", "petsc")
REFINEMENTS = 3


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """A factorization once a point, and two triangular solves a right-hand side."""
    entries = work.rows + work.entries
    factors = machine.factor_entry * entries + implicit_setup(work, machine)
    seconds = (machine.direct_call + assembly(work, machine) + work.waits * factors
               + columns * (machine.direct_solve + machine.direct_entry * entries))
    what = ("factorizes the whole, where substitution factorizes implicit statements alone" if work.cyclic
            else "factorizes a matrix that is triangular already")
    return Cost(seconds, assembling_bytes(work) + 2 * system_bytes(work), what)


class Direct(Solver):
    """LU factors of I - L, for `tangent` and `adjoint`.  Collective.

    Several right-hand sides go to the package together where that works: forward, with MUMPS and PETSc's own.

    Raises `MissingSolverError` if the package is not in this PETSc, `InputError` for a preconditioner
    that is no LU, `ConvergenceError` if factorization or solve fails or the residual stays above rounding,
    `SingularError` where an implicit statement does not determine its result: packages don't say, and some go on.
    """

    name = "direct"
    takes_norms = True

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        self._factors: dict[bool, _Factor] = {}
        self._options = dict(options or {})
        self._residual = Residual(system)
        with petsc_options(self._options, self.name) as given:
            self.package = _package(given, system.comm.size)
            system.factorize()
            if system.n_rows:
                self._factor(False)

    def refresh(self, point: Any = None) -> None:
        """Factor the new values; the transpose, where there is one, is formed anew."""
        for factor in self._factors.values():
            factor.refresh()

    def close(self) -> None:
        for factor in self._factors.values():
            factor.close()
        self._factors = {}

    def _factor(self, transposed: bool) -> _Factor:
        if transposed not in self._factors:
            self._factors[transposed] = _Factor(self.system, self.package, transposed)
        return self._factors[transposed]

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        if self.system.n_rows == 0 or (y.ndim == 2 and y.shape[1] == 0):
            return
        explicit = transposed and self.package == "superlu_dist"
        if explicit and True not in self._factors:
            with petsc_options(self._options, self.name, told=True):
                self._factor(True)
        factor = self._factor(explicit)
        seed = self._work("seed", y.shape[1:])
        seed[:] = y
        with event("direct"):
            if y.ndim == 1:
                factor.solve_one(y, transposed and not explicit)
            elif transposed or self.package == "superlu_dist":
                # PETSc has no binding for a transposed solve of several; with several, SuperLU_DIST 8 behind
                # PETSc 3.18 overwrote memory on two ranks.
                factor.solve_each(y, transposed and not explicit)
            else:
                factor.solve_all(y)
            error = 0.0
            for column, b in ((y, seed),) if y.ndim == 1 else zip(y.T, seed.T):
                b = np.ascontiguousarray(b)
                error = max(error, self._checked(factor, column, b, transposed, transposed and not explicit))
        self.info = {"package": self.package, "residual": error}

    def _checked(self, factor: _Factor, y: np.ndarray, b: np.ndarray, transposed: bool, flip: bool) -> float:
        """Refine y, the solution for b, until its residual is rounding; returns its componentwise backward error."""
        x, r = np.array(y), self._work("residual")
        tolerance = self._residual.tolerance(transposed)
        error, norm = self._residual(b, x, r, transposed)
        steps = 0
        while not error <= tolerance and steps < REFINEMENTS and np.isfinite(norm):
            factor.solve_one(r, flip)
            x += r
            steps += 1
            error, norm = self._residual(b, x, r, transposed)
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


class _Factor(Ksp):
    """A KSP preonly with an LU preconditioner, on the system's matrix or on its explicit transpose."""

    def __init__(self, system: TriangularSystem, package: str, transposed: bool) -> None:
        self.system, self.package = system, package
        remedy = "method='substitution' needs no factorization"
        if package == "mumps":
            remedy = f"mat_mumps_icntl_14 raises MUMPS' workspace, and {remedy}"
        with _defaults(package, system):
            super().__init__(system, package, self._configure, transposed, package == "superlu_dist", remedy)

    def _configure(self, ksp: Any) -> None:
        PETSc = petsc()
        ksp.setType(PETSc.KSP.Type.PREONLY)
        pc = ksp.getPC()
        pc.setType(PETSc.PC.Type.LU)
        pc.setFactorSolverType(self.package)
        if self.package == "petsc":
            pc.setFactorOrdering(PETSc.Mat.OrderingType.NATURAL)

    def _read_options(self) -> None:
        pc = self.ksp.getPC()
        pc.setFromOptions()  # of the factorization alone: nothing else iterates here
        if pc.getType() != petsc().PC.Type.LU:
            raise InputError(f"pc_type={pc.getType()!r} is no factorization of I - L, which is not symmetric, and "
                             "method='direct' solves with nothing but LU; leave pc_type out, or use method='krylov' or "
                             "'petsc' for preconditioners")

    def solve_one(self, y: np.ndarray, transposed: bool) -> None:
        """y <- the solution for y, (n_local,)."""
        _, reason = self.solve(y, y, transposed)
        if reason < 0:
            raise ConvergenceError(f"{self.package}: the solve failed ({reason_name(reason)}) on {self.system.n_rows} "
                                   f"rows; {self.remedy}")

    def solve_each(self, y: np.ndarray, transposed: bool) -> None:
        for column in y.T:
            look(self.system.comm)
            self.solve_one(column, transposed)

    def solve_all(self, y: np.ndarray) -> None:
        PETSc, system = petsc(), self.system
        size = ((system.n_local, system.n_rows), (None, y.shape[1]))
        B, X = (PETSc.Mat().createDense(size, comm=self.comm) for _ in range(2))
        try:
            for dense in (B, X):
                dense.setUp()
            B.getDenseArray()[...] = y
            for dense in (B, X):
                dense.assemble()
            with self.reasons("the solve"), ignored():
                Messages.elsewhere(lambda: self.ksp.getPC().getFactorMatrix().matSolve(B, X))
            y[...] = X.getDenseArray()
        finally:
            B.destroy()
            X.destroy()


def available(size: int) -> list[str]:
    """The packages of this PETSc that can factor a system on `size` ranks."""
    has = petsc().Sys.hasExternalPackage
    return [name for name in PACKAGES if (size == 1 if name == "petsc" else has(name))]


def _package(given: Any, size: int) -> str:
    built = available(size)
    wanted = given.string("pc_factor_mat_solver_type", (built or PACKAGES)[0], PACKAGES)
    if wanted not in built:
        ranks = "one rank" if size == 1 else f"{size} ranks"
        has = ", ".join(built) or "none for more than one rank"
        raise MissingSolverError(
            f"direct solver {wanted!r} is not available on {ranks}: this PETSc has {has}; use method='substitution', "
            "or a PETSc configured with --download-mumps (Debian's and conda-forge's have it)")
    return wanted


def _defaults(package: str, system: TriangularSystem) -> Any:
    """Package options that suit a unit triangular matrix, where the user has set none."""
    chosen = {}
    if package == "superlu_dist" and not system.cyclic:
        # No pivot search: the diagonal is 1.  On one rank the numbering is triangular as it is; on several it
        # is a permutation of triangular, which fills in if factored as it stands.
        chosen = {"mat_superlu_dist_rowperm": "NOROWPERM",
                  "mat_superlu_dist_colperm": "NATURAL" if system.comm.size == 1 else "MMD_AT_PLUS_A"}
    if system.cyclic:  # neither pivots as it goes along: refinement makes good for that, or the residual tells
        chosen = {"superlu_dist": {"mat_superlu_dist_replacetinypivot": "true"},
                  "petsc": {"pc_factor_nonzeros_along_diagonal": "1e-10"}}.get(package, {})
    if package == "mumps" and max(map(system.longest, (False, True))) > LONG * system.n_rows**0.5:
        # The ordering that MUMPS chooses by itself (PORD, where it has no METIS) takes time quadratic in the length of
        # a row, which a sum over all unknowns has; this one sets such rows apart.
        chosen = {"mat_mumps_icntl_7": str(QAMD)}
    return quiet_options(chosen)


def quiet_options(chosen: Mapping[str, Any]) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def entered() -> Any:
        database = petsc().Options()
        before = database.getAll()
        mine = [name for name in (PREFIX + key for key in chosen) if name not in before]
        for name in mine:
            database.setValue(name, chosen[name.removeprefix(PREFIX)])
        try:
            yield
        finally:
            for name in mine:
                database.delValue(name)

    return entered()


METHOD = Method("direct", cost, Direct,
                ends="when the right-hand sides under way are solved: solves with factors have no supersteps, and the "
                     "package can't be interrupted")
