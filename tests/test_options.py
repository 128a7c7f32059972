"""PETSc's options as a stranger gives them, right and wrong ones, on any ranks: an answer or the same error everywhere.

Programs may have fewer rows than there are ranks.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI
from test_cli import fresh_environment

import distdiff as dd
from distdiff.errors import DistdiffError, InputError, MissingSolverError
from distdiff.petsc import petsc
from distdiff.solvers import METHODS

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(90)]

LU, SUPERLU_DIST = {"ksp_type": "preonly", "pc_type": "lu"}, {"pc_factor_mat_solver_type": "superlu_dist"}
RIGHT: list[tuple[str, dict[str, Any]]] = [
    ("petsc", {"ksp_type": "gmres", "pc_type": "bjacobi"}), ("petsc", {"-ksp_type": "bcgs", "-pc_type": "asm"}),
    ("petsc", {"distdiff_ksp_type": "tfqmr"}), ("petsc", LU), ("petsc", {**LU, **SUPERLU_DIST}),
    ("petsc", {"ksp_type": "fgmres", "pc_type": "hypre"}), ("petsc", {"pc_type": "redundant"}),
    ("krylov", {"ksp_type": "richardson", "preconditioner": "asm", "pc_asm_overlap": 2}),
    ("krylov", {"ksp_type": "cg"}), ("krylov", {"ksp_divtol": 1e-30}), ("krylov", {"ksp_pc_side": "left"}),
    ("direct", {"mat_mumps_icntl_14": 50}), ("direct", SUPERLU_DIST), ("pipeline", {"pipeline_columns": 2})]
SUBSTITUTED = "method '(petsc|krylov|direct)' failed, and substitution solves instead"
WRONG: list[tuple[str, dict[str, Any], type | None, str]] = [  # what is raised, or (None) told, and how
    ("petsc", {"ksp_type": "nope"}, InputError, "requested KSP type nope"),
    ("petsc", {"pc_type": "lsc"}, InputError, "refused the options"),
    ("petsc", {"ksp_rtol": "abc"}, InputError, "abc has no numeric value"),
    ("petsc", {"ksp_rtol": 2.0}, InputError, "would accept any result"),
    ("petsc", {"ksp_typ": "gmres"}, None, "ksp_typ was not used by petsc"),
    ("petsc", {"ksp_max_it": 1, "pc_type": "none"}, None, SUBSTITUTED),
    ("petsc", {**LU, "pc_factor_mat_solver_type": "nope"}, MissingSolverError, "no such package"),
    ("petsc", {"pc_type": "fieldsplit"}, None, SUBSTITUTED),
    ("krylov", {"ksp_gmres_restart": 0}, InputError, "Restart must be positive"),
    ("krylov", {"preconditioner": "nope"}, InputError, "blocks, asm, substitution"),
    ("krylov", {"ksp_pc_side": "symmetric"}, None, SUBSTITUTED),
    ("direct", {"pc_factor_mat_solver_type": "nope"}, InputError, "mumps, superlu_dist, petsc"),
    ("direct", {"mat_mumps_icntl_7": 77}, InputError, "Valid values are"),
    ("direct", {**SUPERLU_DIST, "mat_superlu_dist_colperm": "NOPE"}, None, SUBSTITUTED),
    ("direct", {"pc_type": "cholesky"}, InputError, "no factorization of I - L"),
    ("pipeline", {"pipeline_columns": -1}, InputError, "must be a positive number"),
    ("interface", {"ksp_type": "gmres"}, None, "ksp_type was not used by interface"),
    ("sweep", {"pc_type": "lu"}, None, "given and not read")]


def f(x):
    y = x
    for k in range(1, 4):
        y = y * np.roll(x, k) + 0.1 * y.sum()
    return y


def check(comm, n: int, method: str, options: dict[str, Any], columns: int = 3) -> list[str]:
    """Both directions, one and several columns, against differences of nothing but f; what was told on any rank."""
    x, seeds = np.linspace(0.5, 1.5, n), np.cos(np.arange(n * columns)).reshape(n, columns)
    J = np.stack([np.imag(f(x + 1e-30j * e)) / 1e-30 for e in np.eye(n)], 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dd.linearize(f, x, comm=comm, method=method, options=options, partition="axes", min_block=1,
                          preaccumulate=False) as lin:
            np.testing.assert_allclose(lin.jvp(seeds[:, 0]), J @ seeds[:, 0], rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(lin.vjp(seeds[:, 0]), J.T @ seeds[:, 0], rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(lin.batch("jvp", seeds), J @ seeds, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(lin.batch("vjp", seeds), J.T @ seeds, rtol=1e-10, atol=1e-12)
    return [text for told in comm.allgather([str(w.message) for w in caught]) for text in told]


def there(options: dict[str, Any]) -> bool:
    """Whether this PETSc has the packages that are asked for."""
    wanted = {"superlu_dist", "mumps", "hypre"} & {*options.values()}
    return all(petsc().Sys.hasExternalPackage(name) for name in wanted)


@pytest.mark.few_ranks
@pytest.mark.parametrize("method, options", RIGHT, ids=str)
def test_right_options(comm, method, options):
    if not there(options):
        pytest.skip("not in this PETSc")
    assert not check(comm, 12 if comm.size < 3 else 3, method, options)


@pytest.mark.few_ranks
@pytest.mark.parametrize("method, options, kind, text", WRONG, ids=str)
def test_wrong_options(comm, method, options, kind, text):
    if not there(options):
        pytest.skip("not in this PETSc")
    if kind is None:
        told = check(comm, 12, method, options)
        assert len(told) == 1 and re.search(text, told[0]), told
    else:
        with pytest.raises(DistdiffError, match=text) as caught:
            check(comm, 12, method, options)
        assert isinstance(caught.value, kind) and len(set(comm.allgather(str(caught.value)[:40]))) == 1


@pytest.mark.parametrize("kind", ["eisenstat", "tfs", "ilu", "icc"])
def test_what_is_for_one_rank_is_refused(comm, kind):
    if comm.size > 1:
        with pytest.raises(InputError, match="works on one rank only"):
            check(comm, 12, "petsc", {"pc_type": kind})


def test_options_of_equations_where_ranks_share_none(comm):
    told = check(comm, 12, "sweep", {"component_pc_type": "hypr"})
    assert len(told) == (comm.size > 1) and all("(component_pc_type): they are for equations" in one for one in told)


def test_what_leaves_ranks_apart_is_refused(comm):
    """Variable point blocks: one rank fails where it is set up, and others before."""
    with pytest.raises(InputError, match="sizes of blocks"):
        check(comm, 12, "petsc", {"ksp_type": "gmres", "pc_type": "vpbjacobi"})


@pytest.mark.parametrize("method", METHODS)
def test_more_ranks_than_rows(comm, method):
    """One column, and twenty, of a program with three rows."""
    check(comm, 3, method, {}, 20)


PROGRAM = """
import numpy as np, distdiff as dd
from mpi4py import MPI
def f(x):
    return np.sum(x * np.roll(x, 1) * np.roll(x, 2))
told = []
for options in {"ksp_type": "nope"}, {"sub_pc_type": "nope"}:
    try:
        with dd.linearize(f, np.ones(4), method="petsc", partition="axes", min_block=1, preaccumulate=False,
                          options=options) as lin:
            assert np.allclose(lin.vjp(1.0), 3.0)
            told.append((lin.report().info["type"], lin.report().info["preconditioner"]))
    except dd.errors.InputError as error:
        told.append("nope" in str(error))
told = MPI.COMM_WORLD.gather(told)
if told:
    print(*told, sep="\\n")
"""


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="starts ranks of its own")
def test_options_from_outside(tmp_path: Path):
    """From the environment and the command line, which wins."""
    (tmp_path / "program.py").write_text(PROGRAM)
    mpirun = shutil.which("mpirun")
    assert mpirun is not None, "no mpirun on PATH"
    done = subprocess.run([mpirun, "-n", "2", "--oversubscribe", sys.executable, "program.py", "-distdiff_ksp_type",
                           "bcgs"], cwd=tmp_path, text=True, capture_output=True, timeout=60,
                          env={**fresh_environment(), "PETSC_OPTIONS": "-distdiff_pc_type bjacobi"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[('bcgs', 'bjacobi'), True]"] * 2
