"""Distributed substitution in supersteps: forward or backward, exact in one pass.

    for each superstep:   rows that read ghosts take them;  own rows in order;  one halo exchange

and transposed the same backwards.  Rows of an implicit statement are solved together, component by component, with
factors made once a point (`blocks`).  k* exchanges in all, each to neighbours only.  PETSc has no distributed
triangular solve, so this is a Python preconditioner for it: `SubstitutionPC` under KSP `preonly` is a direct
solver, and under any other KSP a preconditioner.  Several right-hand sides are kept row-major and stream the
matrix once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI

from ..cancellation import look
from ..machine import Machine
from ..petsc import destroy, event, petsc
from ..petsc import options as petsc_options
from ..system import TriangularSystem
from .base import Solver
from .cost import Cost, Method, Work, assembling_bytes, assembly, substitution_seconds, substitution_setup
from .passes import Passes
from .transfer import NONE, Block

FAR = 1 << 20  # numbers of a solution that no longer stays in cache: one of which little is kept pays from there on


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """Substitution streams the assembled rows."""
    seconds = substitution_setup(work, machine) + assembly(work, machine) + substitution_seconds(work, columns, machine)
    memory = assembling_bytes(work) + 8 * work.rows * min(columns, work.together)
    return Cost(seconds, memory, "assembles the kept rows once, then streams them for all right-hand sides")


class InPlace(Protocol):
    """Both substitutions in place, on arrays (n_local,) or (n_local, m)."""

    def forward(self, y: np.ndarray) -> None: ...
    def backward(self, lam: np.ndarray) -> None: ...


class SubstitutionPC:
    """`Passes`, or what else has `forward` and `backward` in place, as the context of a PETSc Python preconditioner."""

    def __init__(self, passes: InPlace) -> None:
        self.passes = passes

    def apply(self, pc: Any, b: Any, x: Any) -> None:
        b.copy(x)
        with x as array:
            self.passes.forward(array)

    def applyTranspose(self, pc: Any, b: Any, x: Any) -> None:
        b.copy(x)
        with x as array:
            self.passes.backward(array)

    def matApply(self, pc: Any, B: Any, X: Any) -> None:
        self._columns(B, X, self.passes.forward)

    def matApplyTranspose(self, pc: Any, B: Any, X: Any) -> None:  # PETSc calls it since 3.24
        self._columns(B, X, self.passes.backward)

    def _columns(self, B: Any, X: Any, solve: Any) -> None:
        rows = np.ascontiguousarray(B.getDenseArray())  # column-major in PETSc: one copy makes it row-major
        solve(rows)
        X.getDenseArray()[...] = rows
        X.assemble()


class Substitution(Solver):
    """Substitution in supersteps, for `tangent` and `adjoint`.  Collective.

    Both go straight to the compiled passes, without the copies that PETSc's vectors would cost; `ksp` is the
    same solver as a PETSc object, for whoever wants to compose it.
    """

    name = "substitution"
    substitutes = True

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        system.require_triangular(up_to_blocks=True)
        with petsc_options(system.comm, options, self.name):
            pass  # nothing to set: whatever is given is reported as unused
        self._passes = Passes(system)
        self._wide = 0  # solves so far whose solution leaves the cache
        self._ksp: Any = None
        self._messages = system.comm.allreduce(system.messages)
        sizes = system.components.stop - system.components.first
        self._blocks = {"blocks": system.comm.allreduce(len(sizes)),
                        "largest_block": system.comm.allreduce(int(sizes.max(initial=0)), op=MPI.MAX),
                        } if system.cyclic else {}

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        if not self._keeps_little(xdot):
            return super().tangent(xdot)
        self._fits(xdot, self.system.inputs.ids, "tangent")
        (rows, places), (wanted, back) = self._inputs, self._outputs
        with event("substitution"):
            found = self._block.forward(np.zeros((0, xdot.shape[1])), NONE, rows, self._at(xdot, rows, places), wanted)
        self._tell()
        return found[back]

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        if not self._keeps_little(ybar):
            return super().adjoint(ybar)
        self._fits(ybar, self.system.outputs.ids, "adjoint")
        (wanted, back), (rows, places) = self._inputs, self._outputs
        with event("substitution"):
            _, found = self._block.backward(rows, self._at(ybar, rows, places), wanted)
        self._tell()
        return found[back]

    def _keeps_little(self, seed: np.ndarray) -> bool:
        """Whether a solution of so many columns is kept only as long as rows read it: on one rank, from the second wide
        solve on, as finding places takes about what one of them gains."""
        if self.system.comm.size > 1 or seed.ndim != 2 or self.system.n_local * seed.shape[1] < FAR:
            return False
        look(self.system.comm)
        self._wide += 1
        return self._wide > 1 and self._block.keeps_little(seed)

    @property
    def little(self) -> bool:  # type: ignore[override]
        return "_block" in self.__dict__ and self._block.has_few_slots

    @cached_property
    def _block(self) -> Block:
        return Block(self.system)

    @cached_property
    def _inputs(self) -> tuple[np.ndarray, np.ndarray]:
        return np.unique(self.system.inputs.ids, return_inverse=True)

    @cached_property
    def _outputs(self) -> tuple[np.ndarray, np.ndarray]:
        return np.unique(self.system.outputs.ids, return_inverse=True)

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        with event("substitution"):
            self._passes.backward(y) if transposed else self._passes.forward(y)
        self._tell()

    def _tell(self) -> None:
        self.info = {"supersteps": self.system.k_star, "messages": self._messages, **self._blocks}

    @property
    def ksp(self) -> Any:
        """A PETSc KSP (preonly with `SubstitutionPC`) on the same system; made at first use, collective."""
        if self._ksp is None:
            PETSc = petsc()
            self._ksp = PETSc.KSP().create(comm=self.system.comm)
            self._ksp.setOperators(self.system.mat)
            self._ksp.setType(PETSc.KSP.Type.PREONLY)
            pc = self._ksp.getPC()
            pc.setType(PETSc.PC.Type.PYTHON)
            pc.setPythonContext(SubstitutionPC(self._passes))
            self._ksp.setUp()
        return self._ksp

    @property
    def memory(self) -> int:
        block = self._block.nbytes if "_block" in self.__dict__ else 0
        return super().memory + self._passes.nbytes + block

    def close(self) -> None:
        if self._ksp is not None:
            destroy(self._ksp)
            self._ksp = None


METHOD = Method("substitution", cost, Substitution)
