"""Ranks that make different calls all raise the same error; what it takes to know is one small message a call."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff import comm as agreement
from distdiff.errors import BrokenCommunicatorError, InputError

pytestmark = [pytest.mark.mpi, pytest.mark.few_ranks, pytest.mark.timeout(60)]
several = pytest.mark.skipif(MPI.COMM_WORLD.size == 1, reason="one rank makes one call")

x, w = np.linspace(0.5, 1.5, 4), np.ones(4)


def squares(u):
    return u**2


def total(u):
    return (u**2).sum()


FUNCTIONS = {
    "grad": lambda: dd.grad(total)(x),
    "jvp": lambda: dd.jvp(squares, (x,), (w,)),
    "hvp": lambda: dd.hvp(total, (x,), (w,)),
    "vjp": lambda: dd.vjp(squares, x)[1].close(),
    "jacobian": lambda: dd.jacobian(squares)(x),
    "hessian": lambda: dd.hessian(total)(x),
    "linearize": lambda: dd.linearize(squares, x).close(),
    "trace": lambda: dd.trace(squares, x),
}
METHODS = {
    "Linearization.vjp": lambda lin: lin.vjp(1.0),
    "Linearization.jvp": lambda lin: lin.jvp(w),
    "Linearization.jacobian": lambda lin: lin.jacobian(),
    "Linearization.hvp": lambda lin: lin.hvp(w),
    "Linearization.hessian": lambda lin: lin.hessian(),
    "Linearization.update": lambda lin: lin.update(x),
    "Linearization.report": lambda lin: lin.report(),
}


@several
@pytest.mark.parametrize("first, other", [("grad", "jvp"), ("jvp", "hvp"), ("jacobian", "hessian"), ("vjp", "jacobian"),
                                          ("linearize", "trace"), ("trace", "grad")])
def test_different_functions(comm, first, other):
    with pytest.raises(InputError, match=f"rank 1 called .*{other}.* while rank 0 called .*{first}.*: calls are coll"):
        FUNCTIONS[first if comm.rank == 0 else other]()
    np.testing.assert_allclose(dd.grad(total)(x), 2 * x)  # nothing was on its way: the ranks go on


@several
@pytest.mark.parametrize("first, other", [
    ("vjp", "jacobian"), ("jvp", "vjp"), ("hvp", "hessian"), ("update", "vjp"), ("report", "jvp"), ("jacobian", "hvp")])
def test_different_methods(comm, first, other):
    with dd.linearize(total, x) as lin:
        for odd in (0, comm.size - 1):
            with pytest.raises(InputError, match=r"called Linearization\.\w+ while rank 0 called Linearization\.\w+: "):
                METHODS[f"Linearization.{first if comm.rank == odd else other}"](lin)
        np.testing.assert_allclose(lin.vjp(1.0), 2 * x)


@several
def test_a_recorded_functions_methods(comm):
    with dd.recorded(total) as F:
        with pytest.raises(InputError, match=r"rank 1 called Recorded.jacobian while rank 0 called Recorded.grad or "):
            (F.grad if comm.rank == 0 else F.jacobian)(x)
        np.testing.assert_allclose(F.grad(x), 2 * x)


@several
def test_in_the_middle_of_an_exchange(comm):
    """Messages may be on their way: no further exchange trusts the communicator."""
    mine = comm.Dup()
    with pytest.raises(InputError, match="rank 1 called that while rank 0 called this"), \
            agreement.calling("this" if comm.rank == 0 else "that"), agreement.together(mine):
        if comm.rank:
            with agreement.agreed(mine):
                pass
    with pytest.raises(BrokenCommunicatorError):
        dd.grad(total, comm=mine)(x)


class Counting(MPI.Intracomm):
    """A communicator that counts the collective messages of Python's."""

    counts: Counter[str] = Counter()

    def Iallreduce(self, *args, **kwargs):
        self.counts["Iallreduce"] += 1
        return super().Iallreduce(*args, **kwargs)

    def allreduce(self, *args, **kwargs):
        self.counts["allreduce"] += 1
        return super().allreduce(*args, **kwargs)


@several
@pytest.mark.parametrize("call, most", [(lambda lin: lin.vjp(w), 3), (lambda lin: lin.jvp(w), 3),
                                        (lambda lin: lin.update(x), 4)])
def test_what_it_costs(comm, call, most):
    """One message at the beginning; the others, at the end of the call and of its parts, were there before."""
    mine = Counting(comm.Dup())
    with dd.linearize(squares, x, comm=mine) as lin:
        call(lin)  # sets up
        mine.counts.clear()
        call(lin)
    assert 1 < mine.counts["Iallreduce"] <= most and not mine.counts["allreduce"]


def on_two_ranks(path, text):
    """What starts a program on ranks of its own, as subprocess takes it."""
    from test_cli import fresh_environment

    path.write_text("import time, numpy as np, distdiff as dd\nfrom distdiff import comm, source\n"
                    f"from mpi4py import MPI\n{text}")
    return {"args": ["mpirun", "-n", "2", sys.executable, str(path)], "text": True, "env": fresh_environment()}


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="starts ranks of its own")
def test_who_waits_for_ranks_that_do_not_come_says_so(tmp_path):
    program = on_two_ranks(tmp_path / "alone.py", "comm.LATE = 0.2\nif MPI.COMM_WORLD.rank:\n    time.sleep(1.0)\n"
                           "dd.grad(lambda x: (x**2).sum())(np.ones(3))\n")
    run = subprocess.run(**program, capture_output=True, timeout=50)
    assert run.returncode == 0, run.stderr
    assert "distdiff: rank 0 has waited 0.2 s in grad or value_and_grad for other ranks" in run.stderr


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="starts ranks of its own")
def test_a_function_that_communicates_is_told_of(tmp_path):
    """It waits for ranks that wait for it: nobody can end that, but it can be said what the matter is."""
    program = on_two_ranks(tmp_path / "communicates.py", "source.LONG = 0.2\n"
                           "dd.grad(lambda x: (x**2).sum() * MPI.COMM_WORLD.allreduce(1))(np.ones(3))\n")
    with subprocess.Popen(**program, stderr=subprocess.PIPE) as run:
        try:
            told = next(line for line in run.stderr if line.startswith("distdiff:"))
        finally:
            run.terminate()
    assert "waited 0.2 s for rank 0 to run the function; one that communicates" in told
