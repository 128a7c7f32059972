"""Whole programs: who starts PETSc, with others or alone, and how it ends where nobody closed anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mpi4py import MPI
from test_cli import fresh_environment

pytestmark = pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="starts ranks of its own")

BEGIN = """
import numpy as np, distdiff as dd, atexit, sys
from mpi4py import MPI
world = MPI.COMM_WORLD
def f(x):
    for _ in range(3):
        x = x * np.roll(x, 1)
    return x
def solved(comm, method):
    lin = dd.linearize(f, np.ones(8), comm=comm, method=method, partition="axes", min_block=1)
    np.testing.assert_allclose(lin.jvp(np.ones(8)), 8.0)
    return lin
def size():
    from petsc4py import PETSc
    return PETSc.COMM_WORLD.size
"""


def run(folder: Path, ranks: int, program: str) -> str:
    (folder / "program.py").write_text(BEGIN + program)
    mpirun = shutil.which("mpirun")
    assert mpirun is not None, "no mpirun on PATH"
    done = subprocess.run([mpirun, "-n", str(ranks), "--oversubscribe", sys.executable, "program.py"], cwd=folder,
                          text=True, capture_output=True, timeout=60, env=fresh_environment())
    assert done.returncode == 0 and "signal" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("program, petsc_ranks", [
    ("solved(world, 'krylov').close()", 2),
    ("if world.rank == 0: solved(MPI.COMM_SELF, 'substitution').close()", 1),
    ("half = world.Split(world.rank % 2)\nif world.rank % 2: solved(half, 'krylov').close()", 1),
    ("if world.rank == 1: solved(MPI.COMM_SELF, 'sweep').operator().mat", 1)])
def test_whoever_comes_first_starts_it(tmp_path, program, petsc_ranks):
    """Alone, in part or all together: nobody waits for ranks that do something else, and all methods work after it."""
    after = """
for method in "krylov", "direct", "interface":
    solved(world, method).close()
    solved(MPI.COMM_SELF, method).close()
print(*world.gather(size()) or (), end="")
"""
    ranks = 3 if "half" in program else 2
    assert run(tmp_path, ranks, program + after) == " ".join([str(petsc_ranks)] * ranks)


def test_a_fresh_process_may_ask_pt_scotch(tmp_path):
    """Scalar lines after array work, many right-hand sides: a graph partitioner is asked, on rank 0 alone, and PETSc,
    which all ranks have to start, has not been started by anybody."""
    program = """
def g(u):
    wide, out = np.tanh(np.ones((10_000, 30)) * u).sum(axis=0), []
    for k in range(30):
        t = wide[k]
        for j in range(60):
            t = t * u[(k + j) % 30] + 0.1
        out.append(t)
    return out
assert "petsc4py.PETSc" not in sys.modules
with dd.linearize(g, np.linspace(0.5, 0.9, 30), solves="jacobian") as lin:
    candidates = lin.report().to_dict()["partition_candidates"]
if world.rank == 0:
    print(*(candidate["name"] for candidate in candidates), sep="\\n")
"""
    assert "pt-scotch" in run(tmp_path, 2, program).split("\n")


@pytest.mark.parametrize("program", [
    "lins = [solved(world, method) for method in ('krylov', 'petsc', 'direct', 'substitution')]\n"
    "ksp = lins[-1]._solving.solvers['substitution'].ksp; del lins",
    "sys.modules['kept'] = lin = solved(world, 'krylov'); op = lin.operator(); op.mat"])
def test_a_program_that_closes_nothing_ends_in_peace(tmp_path, program):
    assert run(tmp_path, 2, program + "\nsys.stdout.write('end\\n')") == "end\n" * 2


def test_closing_at_the_very_end(tmp_path):
    """An exit handler from before PETSc was started runs after PETSc has ended."""
    program = """
atexit.register(lambda: ([lin.close() for lin in lins], sys.stdout.write("closed\\n")))
lins = [solved(world, method) for method in ("krylov", "petsc", "direct", "substitution")]
lins[0].operator().mat
"""
    assert run(tmp_path, 2, program) == "closed\n" * 2
