"""The methods that solve assembled systems, each under the options that matter: tests run through all of them by name.

A new method joins with a line here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from distdiff.errors import MissingSolverError
from distdiff.petsc import petsc
from distdiff.solvers import direct, method
from distdiff.system import TriangularSystem

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "substitution": ("substitution", {}),
    "interface": ("interface", {}),
    "pipeline": ("pipeline", {"pipeline_columns": 3}),
    "neumann": ("neumann", {}),
    "gmres": ("krylov", {}),
    "fgmres": ("krylov", {"ksp_type": "fgmres"}),
    "richardson": ("krylov", {"ksp_type": "richardson"}),
    "bcgs": ("krylov", {"ksp_type": "bcgs"}),
    "gmres over asm": ("krylov", {"preconditioner": "asm"}),
    "fgmres over asm": ("krylov", {"preconditioner": "asm", "ksp_type": "fgmres"}),
    "richardson over asm": ("krylov", {"preconditioner": "asm", "ksp_type": "richardson"}),
    "bcgs over asm": ("krylov", {"preconditioner": "asm", "ksp_type": "bcgs", "pc_asm_overlap": 2}),
    "gmres over substitution": ("krylov", {"preconditioner": "substitution"}),
    "fgmres over substitution": ("krylov", {"preconditioner": "substitution", "ksp_type": "fgmres"}),
    "richardson over substitution": ("krylov", {"preconditioner": "substitution", "ksp_type": "richardson"}),
    "bcgs over substitution": ("krylov", {"preconditioner": "substitution", "ksp_type": "bcgs"}),
    "gmres over petsc's bjacobi": ("krylov", {"pc_type": "bjacobi", "sub_pc_type": "ilu"}),
    "richardson over nothing": ("krylov", {"ksp_type": "richardson", "pc_type": "none"}),
    "mumps": ("direct", {"pc_factor_mat_solver_type": "mumps"}),
    "superlu_dist": ("direct", {"pc_factor_mat_solver_type": "superlu_dist"}),
    "petsc's lu": ("direct", {"pc_factor_mat_solver_type": "petsc"}),
    "petsc": ("petsc", {}),
    "petsc, mumps": ("petsc", {"ksp_type": "preonly", "pc_type": "lu", "pc_factor_mat_solver_type": "mumps"}),
    "petsc, hypre": ("petsc", {"ksp_type": "fgmres", "pc_type": "hypre"}),
}

MIXED = ("fgmres", "bcgs", "fgmres over asm", "richardson over asm", "bcgs over asm", "fgmres over substitution",
         "richardson over substitution", "bcgs over substitution", "gmres over petsc's bjacobi", "petsc, hypre")
"""Iterations and preconditioners of PETSc's that other methods have, too, the one or the other.  What they meet of
ranks is ours (rows, halos, `apply`) and meets all of them alike, so on many ranks the others show it."""



@contextmanager
def told(comm: Any, match: str, category: type[Warning] = UserWarning) -> Iterator[None]:
    """One warning, on rank 0, and none anywhere else."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert len(caught) == (comm.rank == 0), [str(w.message) for w in caught]
    assert all(w.category is category and re.search(match, str(w.message)) for w in caught)


LABELS = [pytest.param(label, marks=pytest.mark.few_ranks) if label in MIXED else label for label in METHODS]


def solver_for(label: str, system: TriangularSystem) -> Any:
    """The solver; skips the test, once the error has said so, where this PETSc has no such package."""
    name, options = METHODS[label]
    package = options.get("pc_factor_mat_solver_type")
    if name == "direct" and package not in direct.available(system.comm.size):
        with pytest.raises(MissingSolverError, match="this PETSc has"):
            method(name).make(system, options)
        pytest.skip("not in this PETSc, or not in parallel")
    if name == "petsc" and not petsc().Sys.hasExternalPackage(package or options.get("pc_type", "mpi")):
        pytest.skip("not in this PETSc")
    return method(name).make(system, options)
