"""Krylov and Richardson iteration, preconditioned by exact local blocks or by substitution.

With M the block diagonal of I - L over the ranks and N = M - (I - L) the rest, the iteration x <- M^-1 (b + N x)
has the iteration matrix M^-1 N, which is nilpotent: every factor crosses from one rank to another, and no path
does that more than k* - 1 times.  So it is exact after k* steps from *any* start, however large the entries of
L, and GMRES on the preconditioned system ends after at most k* iterations (in exact arithmetic).  Hence

- GMRES (default; any KSP by option) with right preconditioning, so its residual is the true one; divtol out
  of the way, for a non-normal system may grow by many orders of magnitude before it ends exactly; restart and
  iteration limit above k*;
- whatever GMRES left, measured componentwise, is removed by the exact iteration above, at most k* steps of
  it.

The steps compute x anew from b and N x; they do not add a correction to x.  That ends after k* steps in
floating point too, bit for bit: rows of the first superstep depend on b alone, rows of the s-th on rows that
no longer change after s - 1 steps, and every step does the same arithmetic.  What is left is a substitution,
with its small componentwise residual, even where terms cancel to mere rounding.  Corrections would round
anew in every step, and at such rows never settle.

A solution is accepted only on its true residual, componentwise (`residual.py`).  `ksp_rtol` loosens that, at
the user's word: below 1 only (x = 0 has residual 1), and with a warning from LOOSE on.

Options (prefix `distdiff_`): every `ksp_...` and `pc_...` of PETSc, and `preconditioner` (blocks or
substitution).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ConvergenceError, InputError
from ..kernels import substitution as kernels
from ..machine import Machine
from ..petsc import PREFIX, event, petsc
from ..petsc import options as petsc_options
from ..system import TriangularSystem
from .base import Solver
from .cost import Cost, Method, Work, assembly, system_bytes
from .residual import RTOL, Residual
from .substitution import Passes, SubstitutionPC

LOOSE = 1e-6  # a residual above is the user's choice, but nobody should find it by accident
ITERATION = 3.0  # one, in substitutions: the preconditioner, the product, the orthogonalisation
RESTART_LIMIT = 200  # basis vectors at most; beyond, the exact iteration finishes what restarts leave


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """k* iterations a right-hand side, each with a product, a local solve and reductions over all ranks."""
    iteration = ITERATION * machine.row * work.rows + machine.superstep * work.ranks
    seconds = machine.krylov_call + assembly(work, machine) + columns * work.k_star * iteration
    memory = system_bytes(work) + 8 * work.rows * min(work.k_star + 8, RESTART_LIMIT)
    return Cost(seconds, memory, f"exact after k* = {work.k_star} iterations, each costing about {ITERATION:g} "
                                 "substitutions")


class Krylov(Solver):
    """A PETSc KSP on I - L, for `tangent` and `adjoint` (solveTranspose).  Collective.

    Several right-hand sides are solved column by column: Krylov spaces are not shared between them.

    Raises `ConvergenceError` if the true residual stays above the tolerance, `InputError` for a wrong option;
    warns if a tolerance of the user's let a residual above LOOSE pass.
    """

    name = "krylov"

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        PETSc = petsc()
        self._blocks = Passes(system, local=True)
        self._residual = Residual(system)
        self._x, self._b = np.zeros(system.n_local), np.zeros(system.n_local)
        k = system.k_star
        with petsc_options(options, self.name) as given:
            choice = given.string("preconditioner", "blocks", ("blocks", "substitution"))
            passes = self._blocks if choice == "blocks" else Passes(system)
            self.ksp = ksp = PETSc.KSP().create(comm=system.comm)
            self._vecs = (system.vec(self._b), system.vec(self._x))
            ksp.setOptionsPrefix(PREFIX)
            ksp.setOperators(system.mat)
            ksp.setType(PETSc.KSP.Type.GMRES)
            ksp.setGMRESRestart(min(k + 8, RESTART_LIMIT))
            ksp.setTolerances(rtol=RTOL, atol=1e-300, divtol=1e300, max_it=k + 8)
            pc = ksp.getPC()
            pc.setType(PETSc.PC.Type.PYTHON)
            pc.setPythonContext(SubstitutionPC(passes))
            if not given.given("ksp_type") or given.string("ksp_type", "") in ("gmres", "fgmres", "bcgs", "lgmres"):
                ksp.setPCSide(PETSc.PC.Side.RIGHT)
            ksp.setFromOptions()
            ksp.setUp()
            self._rtol = ksp.getTolerances()[0]
            if not self._rtol < 1.0:
                ksp.destroy()
                raise InputError(f"ksp_rtol={self._rtol:g} would accept any result, zero included, since the residual "
                                 "is relative; give a tolerance below 1, or leave it out")
            # A limit that the user sets is a limit on all iterations, the closing ones included.
            self._limit = given.integer("ksp_max_it", 0) if given.given("ksp_max_it") else None
            if pc.getType() != PETSc.PC.Type.PYTHON:  # one of PETSc's own, by -distdiff_pc_type
                choice = pc.getType()
        self.preconditioner = choice
        self._closed = False

    def refresh(self, point: Any = None) -> None:
        self.ksp.setOperators(self.system.mat)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.ksp.destroy()
            for vec in self._vecs:
                vec.destroy()

    @property
    def memory(self) -> int:
        """Bytes beside the system, the Krylov basis at its largest included."""
        basis = min(self.system.k_star + 8, RESTART_LIMIT) * 8 * self.system.n_local
        return super().memory + basis + self._x.nbytes + self._b.nbytes + self._residual.nbytes

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        if self.system.n_rows == 0:
            return
        columns = [y] if y.ndim == 1 else [y[:, k] for k in range(y.shape[1])]
        totals = {"iterations": 0, "exact_steps": 0}
        worst = 0.0
        with event("krylov"):
            for column in columns:
                self._b[:] = column
                iterations, steps, error = self._solve_one(transposed)
                totals["iterations"] += iterations
                totals["exact_steps"] += steps
                worst = max(worst, error)
                column[:] = self._x
        if worst > LOOSE:
            warnings.warn(f"krylov accepted a componentwise residual of {worst:.3g}, as ksp_rtol={self._rtol:g} "
                          "allows: derivatives may be wrong by that and more; lower ksp_rtol or leave it out",
                          stacklevel=4)
        self.info = {**totals, "residual": worst, "type": self.ksp.getType(), "preconditioner": self.preconditioner}

    def _solve_one(self, transposed: bool) -> tuple[int, int, float]:
        """self._x from self._b: (KSP iterations, exact steps after them, componentwise backward error)."""
        ksp = self.ksp
        b, x = self._vecs
        self._x.fill(0.0)
        for vec in self._vecs:
            vec.stateIncrease()  # PETSc caches norms by state, and we have written into the arrays
        (ksp.solveTranspose if transposed else ksp.solve)(b, x)
        iterations, reason = ksp.getIterationNumber(), ksp.getConvergedReason()
        tolerance = max(self._rtol, self._residual.tolerance(transposed))
        residual = self._work("residual")
        error, norm = self._residual(self._b, self._x, residual, transposed)
        steps, most = 0, self.system.k_star + 1
        if self._limit is not None:
            most = min(most, max(self._limit - iterations, 0))
        while not error <= tolerance and steps < most:
            self._exact_step(transposed)
            steps += 1
            error, norm = self._residual(self._b, self._x, residual, transposed)
        if not error <= tolerance:
            raise ConvergenceError(self._complaint(iterations, steps, reason, error, tolerance, norm))
        return iterations, steps, error

    def _exact_step(self, transposed: bool) -> None:
        """x <- M^-1 (b + N x), or transposed."""
        system, new = self.system, self._work("new")
        new[:] = self._b
        if system.comm.size > 1:
            ghosts, ghost = self._work("ghosts", ghosts=True), system.ghost
            arrays = (ghost.indptr, ghost.indices, ghost.data, ghosts)
            rows = system.ghost_rows
            if transposed:
                ghosts.fill(0.0)
                kernels.to_ghosts(ghost.nnz, rows, *arrays, self._x)
                system.halo_add(new, ghosts)
            else:
                system.halo_update(self._x, ghosts)
                kernels.from_ghosts(ghost.nnz, rows, *arrays, new)
        (self._blocks.backward if transposed else self._blocks.forward)(new)
        self._x[:] = new

    def _complaint(self, iterations: int, steps: int, reason: int, error: float, tolerance: float, norm: float) -> str:
        reasons = vars(petsc().KSP.ConvergedReason)
        names = {value: name for name, value in reasons.items() if isinstance(value, int)}
        done = f"{self.ksp.getType()} stopped after {iterations} iterations ({names.get(reason, reason)})"
        if steps:
            done += f" and {steps} further exact block steps"
        if not np.isfinite(norm):
            return (f"{done}: the solution overflowed (largest residual {norm}); partials or seeds are too large or "
                    "not finite: scale the function or look for the statement whose derivative explodes")
        limit = ""
        if self._limit is not None:
            limit = f"; ksp_max_it={self._limit} allows too few iterations, k* is {self.system.k_star}"
        return (f"{done}: componentwise residual {error:.3g} > {tolerance:.3g}{limit}; raise the limit, or use "
                "method='substitution', which is exact in one pass")


METHOD = Method("krylov", cost, Krylov)
