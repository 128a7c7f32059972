"""Anything else from PETSc: a KSP as its options say, `method="petsc"`.

    options={"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "superlu_dist"}
    options={"ksp_type": "fgmres", "pc_type": "hypre"}

What is not given has PETSc's own defaults, but for the tolerances: ksp_rtol 1e-12, no divergence tolerance, and as
ksp_max_it A_ROW iterations a row (LEAST at least, PETSc's own MOST at most): what has not ended long after its Krylov
space is all there is won't, and many iterations of a preconditioner that doesn't fit look as if nothing went on.  The
matrix is an MPIAIJ, rows numbered rank after rank.  Adjoints are solved with an explicit transpose, configured alike:
few preconditioners apply their own.

A solution is accepted on its true residual, like those of `direct`: refined at most REFINEMENTS times with the same
KSP, then componentwise within rounding or the given ksp_rtol, or else rounding of the terms that cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..comm import tell
from ..errors import ConvergenceError
from ..machine import Machine
from ..petsc import Options, event
from ..petsc import options as petsc_options
from ..system import TriangularSystem
from .base import Solver
from .cost import Cost, Method, Work
from .ksp import LOOSE, Ksp, Ksps, finite_tolerances, reason_name
from .residual import Residual

REFINEMENTS = 3
A_ROW, LEAST, MOST = 4, 200, 10_000  # iterations


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """Nobody knows what options stand for."""
    return Cost.none("takes what its options make it take: only where it is asked for")


class External(Solver):
    """A KSP that options describe, right-hand sides one by one, for `tangent` and `adjoint`.  Collective.

    Raises `ConvergenceError` with PETSc's reason if it fails or the true residual stays above the tolerance,
    `MissingSolverError` for a package that this PETSc lacks, `InputError` for a wrong option; warns of unused ones.
    """

    name = "petsc"
    takes_norms = True

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        self._options = dict(options or {})
        self._residual = Residual(system)
        self._ksps = Ksps(self._options, self.name, self._make)
        if system.n_rows == 0:  # some packages refuse to set up nothing
            return
        with petsc_options(system.comm, self._options, self.name) as given:
            self._rtol = self._ksps.first(given)[1]

    def _make(self, given: Options, transposed: bool) -> Ksp:
        return Ksp(self.system, self.name, self._limits, transposed, alone=True)

    def _limits(self, ksp: Any) -> None:
        finite_tolerances(ksp)
        ksp.setTolerances(max_it=min(max(A_ROW * self.system.n_rows, LEAST), MOST))

    def refresh(self, point: Any = None) -> None:
        self._ksps.refresh()

    def close(self) -> None:
        self._ksps.close()

    @property
    def memory(self) -> int:
        """Bytes beside the system; what PETSc's own objects hold is not among them."""
        return super().memory + self._residual.nbytes + self._ksps.nbytes

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        if self.system.n_rows == 0 or y.shape[1:] == (0,):
            return
        ksp, iterations, error = self._ksps[transposed], 0, 0.0
        with event("petsc"):
            for x in (y,) if y.ndim == 1 else y.T:
                done, left = self._refined(ksp, x, transposed)
                iterations, error = max(iterations, done), max(error, left)
        if LOOSE < error <= self._rtol:
            tell(self.system.comm, f"petsc accepted a componentwise residual of {error:.3g}, as ksp_rtol={self._rtol:g}"
                                   " allows: derivatives may be wrong by that and more; lower ksp_rtol or leave it out")
        self.info = {"iterations": iterations, "residual": error, "type": ksp.ksp.getType(),
                     "preconditioner": ksp.ksp.getPC().getType()}

    def _refined(self, ksp: Ksp, y: np.ndarray, transposed: bool) -> tuple[int, float]:
        """y <- the solution for y: the iterations it took, and its componentwise backward error."""
        b, x, dx, r = np.array(y), np.zeros(len(y)), np.empty(len(y)), self._work("residual")
        r[:] = b
        rounding = self._residual.tolerance(transposed)
        tolerance = max(self._rtol, rounding)
        iterations, error = 0, np.inf
        for _ in range(1 + REFINEMENTS):
            done, reason = ksp.solve(r, dx)
            x += dx
            iterations, before = iterations + done, error
            error, norm = self._residual(b, x, r, transposed)
            if error <= tolerance or not np.isfinite(norm) or (reason < 0 and not error <= min(0.5 * before, 1e-3)):
                break  # ... where what diverged got nowhere
        if not error <= tolerance and not self._residual.against_magnitudes(b, r, transposed) <= rounding:
            kind = f"{ksp.ksp.getType()} with preconditioner {ksp.ksp.getPC().getType()}"
            raise ConvergenceError(
                f"petsc: {kind} stopped after {iterations} iterations ({reason_name(reason)}), refined: componentwise "
                f"residual {error:.3g} > {tolerance:.3g}" + ("" if np.isfinite(norm) else ", not finite") +
                "; try another ksp_type or pc_type, a larger ksp_max_it, or method='substitution', which is exact")
        y[:] = x
        return iterations, error


METHOD = Method("petsc", cost, External, ends="between two iterations: where it is a factorization, when it is done")
