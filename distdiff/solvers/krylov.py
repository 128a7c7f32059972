"""Krylov and Richardson iteration, preconditioned by exact local blocks, by additive Schwarz or by substitution.

With M the block diagonal of I - L over the ranks and N = M - (I - L) the rest, M^-1 N is nilpotent (`iteration`), so
GMRES on the preconditioned system ends after at most k* iterations (in exact arithmetic); restricted additive Schwarz,
whose domains overlap, after no more.  Hence

- GMRES (default; any KSP by option) with right preconditioning, so its residual is the true one; divtol out
  of the way, for a non-normal system may grow by many orders of magnitude before it ends exactly; restart and
  iteration limit above k*;
- whatever the KSP left, measured componentwise, is removed by the exact block iteration, at most k* steps of it.

A solution is accepted only on its true residual, componentwise (`residual`).  `ksp_rtol` loosens that, at
the user's word: below 1 only (x = 0 has residual 1), and with a warning from LOOSE on.

Options (prefix `distdiff_`): `preconditioner` (blocks, asm or substitution), and every `ksp_...` and `pc_...` of
PETSc; `pc_type` puts one of PETSc's own preconditioners in its place.  Those rarely apply their transpose, so adjoints
are then solved with an explicit one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..cancellation import look
from ..comm import tell
from ..errors import ConvergenceError, InputError
from ..machine import Machine
from ..petsc import Options, event, petsc
from ..petsc import options as petsc_options
from ..system import TriangularSystem
from .asm import InOrder
from .base import Solver
from .cost import Cost, Method, Work, assembling_bytes, assembly, implicit_seconds, implicit_setup
from .iteration import Iteration
from .ksp import LOOSE, Ksp, Ksps, finite_tolerances, reason_name
from .passes import Passes
from .residual import Residual
from .substitution import SubstitutionPC

RESTART_LIMIT = 200  # basis vectors at most; beyond, the exact iteration finishes what restarts leave
RIGHT = ("gmres", "fgmres", "lgmres", "bcgs")  # can be preconditioned from the right


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """At most k* iterations a right-hand side, each with a product, a local solve and reductions over all ranks."""
    entries = work.rows + work.entries
    reductions = machine.superstep * max(work.ranks - 1, 0).bit_length() * (work.k_star + 2) / 2
    iteration = machine.krylov_iteration + machine.krylov_entry * entries + reductions
    iteration += implicit_seconds(work, 1, machine)
    seconds = (machine.krylov_call + machine.krylov_row * work.rows + assembly(work, machine)
               + implicit_setup(work, machine) + columns * (machine.krylov_solve + work.k_star * iteration))
    memory = assembling_bytes(work) + 8 * work.rows * min(work.k_star + 8, RESTART_LIMIT)
    return Cost(seconds, memory, f"exact after k* = {work.k_star} iterations, one right-hand side after another")


class Krylov(Solver):
    """A PETSc KSP on I - L, closed by exact steps, for `tangent` and `adjoint`.  Collective.

    Several right-hand sides go through the KSP one by one, Krylov spaces not being shared, and through the closing
    steps together.

    Raises `ConvergenceError` if the true residual stays above the tolerance, `InputError` for a wrong option;
    warns if a tolerance of the user's let a residual above LOOSE pass.
    """

    name = "krylov"
    takes_norms = True

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        system.require_triangular(up_to_blocks=True)
        self._options = dict(options or {})
        self._blocks = Passes(system, local=True)
        self._iteration = Iteration(system, self._blocks)
        self._residual = Residual(system)
        self._ksps = Ksps(self._options, self.name, self._make)
        with petsc_options(system.comm, self._options, self.name) as given:
            self.preconditioner = given.string("preconditioner", "blocks", ("blocks", "asm", "substitution"))
            self._foreign = given.given("pc_type")
            if self._foreign and given.given("preconditioner"):
                raise InputError(f"preconditioner={self.preconditioner!r} and pc_type={given.string('pc_type', '')!r} "
                                 "are two preconditioners; leave one out")
            # A limit that the user sets is a limit on all iterations, the closing ones included.
            self._limit = given.integer("ksp_max_it", 0) if given.given("ksp_max_it") else None
            ksp, self._rtol = self._ksps.first(given)
            if self._foreign:
                self.preconditioner = ksp.ksp.getPC().getType()

    def _make(self, given: Options, transpose: bool) -> Ksp:
        ksp = Ksp(self.system, self.name, lambda ksp: self._configure(ksp, given), transpose)
        if self.preconditioner == "asm" and not self._foreign and not given.given("sub_pc_type"):
            for sub in ksp.ksp.getPC().getASMSubKSP():
                sub.getPC().setType(petsc().PC.Type.PYTHON)
                sub.getPC().setPythonContext(InOrder())
        return ksp

    def _configure(self, ksp: Any, given: Options) -> None:
        PETSc, k = petsc(), self.system.k_star
        ksp.setType(PETSc.KSP.Type.GMRES)
        ksp.setGMRESRestart(min(k + 8, RESTART_LIMIT))
        finite_tolerances(ksp)
        ksp.setTolerances(max_it=k + 8)
        pc = ksp.getPC()
        if self.preconditioner == "asm":
            pc.setType(PETSc.PC.Type.ASM)  # restricted, so that domains' solutions are not added where they overlap
        else:
            pc.setType(PETSc.PC.Type.PYTHON)
            passes = self._blocks if self.preconditioner == "blocks" else Passes(self.system)
            pc.setPythonContext(SubstitutionPC(passes))
        if given.string("ksp_type", "gmres") in RIGHT:
            ksp.setPCSide(PETSc.PC.Side.RIGHT)

    def refresh(self, point: Any = None) -> None:
        self._ksps.refresh()

    def close(self) -> None:
        self._ksps.close()

    @property
    def memory(self) -> int:
        """Bytes beside the system, the Krylov basis at its largest included."""
        basis = min(self.system.k_star + 8, RESTART_LIMIT) * 8 * self.system.n_local
        return super().memory + basis + self._ksps.nbytes + self._residual.nbytes + self._iteration.nbytes

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        if self.system.n_rows == 0 or y.shape[1:] == (0,):
            return
        b = self._work("b", y.shape[1:])
        b[...] = y
        ksp, iterations, reasons = self._ksps[transposed and self._foreign], 0, set()
        with event("krylov"):
            for column, x in ((b, y),) if y.ndim == 1 else zip(b.T, y.T):
                done, reason = ksp.solve(column, x, transposed and not self._foreign)
                iterations = max(iterations, done)
                reasons.add(reason_name(reason))
            steps, error = self._close_in(b, y, transposed, iterations, ", ".join(sorted(reasons)))
        if error > LOOSE:
            tell(self.system.comm, f"krylov accepted a componentwise residual of {error:.3g}, as ksp_rtol="
                                   f"{self._rtol:g} allows: derivatives may be wrong by that and more; lower ksp_rtol "
                                   "or leave it out")
        self.info = {"iterations": iterations, "exact_steps": steps, "residual": error, "type": ksp.ksp.getType(),
                     "preconditioner": self.preconditioner}

    def _close_in(self, b: np.ndarray, y: np.ndarray, transposed: bool, iterations: int, reasons: str
                  ) -> tuple[int, float]:
        """Exact steps on y until its residual is small enough: how many, and the componentwise backward error."""
        tolerance = max(self._rtol, self._residual.tolerance(transposed))
        error, norm = self._residual.worst(b, y, transposed)
        steps, most = 0, self.system.k_star + 1
        if self._limit is not None:
            most = min(most, max(self._limit - iterations, 0))
        x, new = y, self._work("new", y.shape[1:])
        while not error <= tolerance and steps < most:
            look(self.system.comm)
            self._iteration.step(b, x, new, transposed)
            x, new = new, x
            steps += 1
            error, norm = self._residual.worst(b, x, transposed)
        if not error <= tolerance:
            raise ConvergenceError(self._complaint(iterations, steps, reasons, error, tolerance, norm))
        if x is not y:
            y[...] = x
        return steps, error

    def _complaint(self, iterations: int, steps: int, reasons: str, error: float, tolerance: float, norm: float) -> str:
        done = f"{self._ksps[False].ksp.getType()} stopped after {iterations} iterations ({reasons})"
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


METHOD = Method("krylov", cost, Krylov, ends="between two iterations")
