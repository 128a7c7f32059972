"""Interface elimination and the pipeline: chains of every width, any ranks, 64 of them without MPI; what is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from mpi4py import MPI
from random_systems import Problem, implicit_problem, random_matrix, random_problem, spread
from test_solvers import chain_over_ranks, jacobians

import distdiff as dd
from distdiff.errors import ConvergenceError, InputError
from distdiff.kernels.stretches import REACH, Stretches, stretches, within
from distdiff.kernels.substitution import backward, forward
from distdiff.machine import Machine, current
from distdiff.preaccumulate import eliminate
from distdiff.solvers import interface, pipeline, substitution, transfer
from distdiff.solvers.cost import Work, local_seconds, substitution_setup
from distdiff.solvers.interface import Interface
from distdiff.solvers.pipeline import Pipeline, widest
from distdiff.solvers.residual import Residual
from distdiff.solvers.schur import Coupling, Gathered, Scan
from distdiff.solvers.substitution import Substitution
from distdiff.solvers.transfer import Block
from distdiff.system import TriangularSystem

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(90)]


def chain(width: int, steps: int, inputs: np.ndarray, size: float = 0.7) -> sp.csr_matrix:
    """`width` rows a step, each reading itself and one other of the step before; `inputs` read nothing."""
    rng = np.random.default_rng(width)
    i = np.arange(width, width * steps)
    i = i[~np.isin(i, inputs)]
    other = (i // width - 1) * width + rng.integers(0, width, len(i))
    values = size * rng.uniform(0.5, 1.0, 2 * len(i)) * rng.choice([-1.0, 1.0], 2 * len(i))
    counts = np.zeros(width * steps, dtype=int)
    counts[i] = 2
    columns = np.stack([i - width, other], axis=1).ravel()
    return sp.csr_matrix((values, columns, np.r_[0, np.cumsum(counts)]), shape=(width * steps,) * 2)


def chain_problem(comm, width: int, steps: int, further: bool, **more: Any) -> Problem:
    """The chain in stretches of whole steps, from its first step to its last, or with `further` inputs and outputs."""
    n = width * steps
    inputs = np.r_[np.arange(width), np.arange(width + 1, n - width, 3 * width + 1) if further else ()].astype(int)
    outputs = np.r_[np.arange(n - width, n), (n // 2, n // 3) if further else ()].astype(int)
    owner = np.repeat(np.arange(steps) * comm.size // steps, width)
    return spread(chain(width, steps, inputs, **more), owner, inputs, outputs, comm.rank)


def solved(comm, p: Problem, cls: type, options: dict[str, Any], columns: tuple[int, ...], full: bool = True):
    """The Jacobian both ways against a dense solve, twice: further solves may go another way."""
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=full))
    solver, expected, tolerance = cls(system, options), p.jacobian(), p.tolerance()
    for m in columns * 2:
        for J in jacobians(comm, p, system, solver, m):
            np.testing.assert_allclose(J, expected, rtol=0, atol=tolerance)
    assert solver.memory > 0 or not system.n_local
    solver.close()
    system.close()
    return solver


@pytest.mark.parametrize("width, steps, further", [
    pytest.param(width, steps, further, marks=pytest.mark.few_ranks if further == k % 2 else ())
    for k, (width, steps) in enumerate([(1, 40), (2, 25), (5, 5), (8, 12), (64, 5)]) for further in (True, False)])
def test_chains(comm, width, steps, further):
    p, columns = chain_problem(comm, width, steps, further), (0, 1, 20) if width < 8 else (64,)
    for reduced, rounds in ("gather", 1), ("scan", (comm.size - 1).bit_length()):
        info = solved(comm, p, Interface, {"interface_reduced": reduced}, columns).info
        if comm.size == 1 or not info["interface_rows"]:  # all that crosses are inputs
            assert info["interface_rows"] == info["rounds"] == 0 and (comm.size == 1 or further)
            continue
        assert info["rounds"] == rounds and info["residual"] <= 1e-12
        assert info["interface_rows"] <= width * (comm.size - 1)
        if not further and width < steps:  # a pass for each direction; at the chain's ends one has nothing to do
            assert info["interface_rows"] == width * (comm.size - 1)
            assert info["transfer_columns"] == (width if comm.size == 2 else 2 * width)
    if width < 8:
        solved(comm, p, Interface, {"interface_check": "always"}, columns[-1:])
        solved(comm, p, Pipeline, {"pipeline_columns": 7}, columns)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 8, 16, 32, 64])
def test_chains_against_substitution(comm, width):
    """Both directions, one and several right-hand sides, first and further solves; a column or two a state, counted."""
    p = chain_problem(comm, width, max(2, 24 // width) * comm.size, False, size=0.6)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    exact, draw = Substitution(system), np.random.default_rng(comm.rank)
    for reduced, rounds in ("gather", 1), ("scan", (comm.size - 1).bit_length()):
        solver = Interface(system, {"interface_reduced": reduced})
        for m in ((), (1,), (5,), (), (5,)):
            for name, portion in (("tangent", system.inputs), ("adjoint", system.outputs)):
                seed = draw.standard_normal((len(portion.ids), *m))
                ours, theirs = getattr(solver, name)(seed), getattr(exact, name)(seed)
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13 * np.abs(theirs).max(initial=0.0))
        if comm.size > 1:
            assert solver.info["interface_rows"] == width * (comm.size - 1) and solver.info["rounds"] == rounds
            assert solver.info["transfer_columns"] <= 2 * width
            assert width > 4 or solver.info["transfer_columns"] == (width if comm.size == 2 else 2 * width)
            assert solver._checks == {False: "none", True: "none"} and solver.info["residual"] <= 1e-12
    system.close()


@pytest.mark.few_ranks
@pytest.mark.parametrize("problem", [
    lambda comm: chain_problem(comm, 2, 25, True), lambda comm: chain_problem(comm, 8, 12, False),
    lambda comm: random_problem(comm, 3, n=60, n_in=4, n_out=5), lambda comm: parameters_problem(comm)])
def test_substitution_keeps_little_of_many_columns(monkeypatch, problem):
    """On one rank, from the second solve on whose solution would leave the cache."""
    monkeypatch.setattr(substitution, "FAR", 20)
    monkeypatch.setattr(transfer, "FEW", 0)
    monkeypatch.setattr(transfer, "MANY", 2)
    comm = MPI.COMM_SELF
    used, forward, backward = [], Block.forward, Block.backward
    monkeypatch.setattr(Block, "forward", lambda *args: used.append("forward") or forward(*args))
    monkeypatch.setattr(Block, "backward", lambda *args: used.append("backward") or backward(*args))
    solved(comm, problem(comm), Substitution, {}, (20,))
    assert {"forward", "backward"} == set(used)
    used.clear()
    monkeypatch.setattr(substitution, "FAR", 1 << 20)
    solved(comm, problem(comm), Substitution, {}, (20,))
    assert not used


@pytest.mark.few_ranks
def test_what_is_kept_of_wide_solutions_is_predicted(monkeypatch):
    """Once it is known, at the second wide solve, passes are predicted anew: less for many columns."""
    monkeypatch.setattr(substitution, "FAR", 20)
    monkeypatch.setenv("DISTDIFF_MACHINE", "default")
    current.cache_clear()

    def recurrence(x):
        for k in range(400):
            x = 0.9 * np.sin(x) + 0.1 * x[(k + 1) % 3]
        return x

    with dd.linearize(recurrence, np.ones(3), comm=MPI.COMM_SELF, method="substitution", preaccumulate=False) as lin:
        seeds = np.random.default_rng(0).standard_normal((3, 32))
        wanted = lin.batch("vjp", seeds)
        before = lin.prospects, lin.pass_seconds(32)
        np.testing.assert_allclose(lin.batch("vjp", seeds), wanted, rtol=1e-13)
        assert not before[0][1] and lin.prospects[1] and lin.prospects[0].method == "substitution"
        assert 0.0 < lin.pass_seconds(32) < before[1] and lin.pass_seconds(64) == 2 * lin.pass_seconds(32)
    current.cache_clear()


@pytest.mark.parametrize("owners", ["random", "slabs", "last", "one"])
def test_random_systems(comm, owners):
    """Ranks that read from each other back and forth, ranks without rows, ranks with one."""
    for seed, full in (3, True), (4, False):
        p = random_problem(comm, seed, n=60, n_in=4, n_out=5, owners=owners)
        solved(comm, p, Interface, {}, (0, 3), full)
        solved(comm, p, Pipeline, {"pipeline_columns": 2}, (0, 5), full)


def test_parameters_are_no_interface(comm):
    """A chain of width 2 whose every step reads one of many parameters, all of them on rank 0."""
    steps, m = 30, 40
    n = m + 2 * steps
    state = np.arange(m + 2, n)
    rng = np.random.default_rng(4)
    rows = np.concatenate([state, state, np.arange(m, n)])
    columns = np.concatenate([state - 2, state // 2 * 2 - 1, rng.integers(0, m, n - m)])
    L = sp.csr_matrix((rng.uniform(-0.8, 0.8, len(rows)), (rows, columns)), shape=(n, n))
    owner = np.r_[np.zeros(m, int), np.repeat(np.arange(steps) * comm.size // steps, 2)]
    p = spread(L, owner, np.arange(m), np.r_[n - 2, n - 1, m + 5, 3], comm.rank)
    for options in {}, {"interface_check": "always"}, {"interface_reduced": "scan"}:
        solver = solved(comm, p, Interface, options, (0, 3))
        assert solver.coupling.n == 2 * (comm.size - 1)
        assert solver.info["transfer_columns"] <= 4 and (comm.size == 1 or solver.info["residual"] <= 1e-12)


def parameters_problem(comm, m: int = 40, steps: int = 30) -> Problem:
    """A chain of width 2 whose every step reads some of m parameters, spread over all ranks; so are outputs."""
    n = m + 2 * steps
    state = np.arange(m + 2, n)
    rng = np.random.default_rng(4)
    rows = np.concatenate([state, state, np.arange(m, n)])
    columns = np.concatenate([state - 2, state // 2 * 2 - 1, rng.integers(0, m, n - m)])
    L = sp.csr_matrix((rng.uniform(-0.8, 0.8, len(rows)), (rows, columns)), shape=(n, n))
    owner = np.r_[np.arange(m) % comm.size, np.repeat(np.arange(steps) * comm.size // steps, 2)]
    return spread(L, owner, np.arange(m), np.r_[m + 2:n:7, n - 1], comm.rank)


@pytest.mark.parametrize("without", range(3))
def test_maps_stored_on_some_ranks_only(comm, monkeypatch, without):
    """How often ranks exchange does not depend on what each of them stores."""
    monkeypatch.setattr("distdiff.solvers.interface.DENSE", 0 if comm.rank % 3 == without else 10**6)
    p = parameters_problem(comm)
    for options in {}, {"interface_check": "always"}, {"interface_reduced": "gather"}:
        solver = solved(comm, p, Interface, options, (0, 3))
        assert comm.size == 1 or len(solver._fixed)
        for transposed, wanted in enumerate((len(solver._used), len(solver._sent))):
            assert (solver._maps[transposed] is None) == (comm.rank % 3 == without and wanted > 0)


@pytest.mark.parametrize("seed", range(4))
def test_many_random_systems(comm, monkeypatch, seed):
    """Any owners, few or many inputs, and on each rank another opinion of which maps are worth storing."""
    draw = np.random.default_rng(seed)
    for k in range(6):
        n = int(draw.integers(5, 70))
        n_in, n_out = (int(draw.integers(1, most)) for most in (n // 2, 6))
        owners = str(draw.choice(["random", "slabs", "last", "one"]))
        p = random_problem(comm, 100 * seed + k, n=n, n_in=n_in, n_out=n_out, owners=owners)
        dense = draw.choice([0, 1, 4, 10**6], comm.size)
        monkeypatch.setattr("distdiff.solvers.interface.DENSE", int(dense[comm.rank]))
        solved(comm, p, Interface, {}, (0, 2), bool(draw.integers(2)))


def test_components_that_read_nothing(comm):
    """A residual row with nothing but its own diagonal is known to nobody before it is solved for."""
    for seed in range(3):
        p = implicit_problem(comm, seed, kinds=("diagonal",) * 4, size=3)
        system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
        solver, exact = Interface(system), Substitution(system)
        for transposed in (False, True):
            y = np.random.default_rng(comm.rank).standard_normal(system.n_local)
            expected = y.copy()
            exact._solve(expected, transposed)
            solver._solve(y, transposed)
            np.testing.assert_allclose(y, expected, rtol=0, atol=p.tolerance())
        solver.close()
        system.close()


def test_maps_too_large_to_be_stored(comm, monkeypatch):
    """A second pass takes their place, forward and transposed."""
    monkeypatch.setattr("distdiff.solvers.interface.DENSE", 0)
    solver = solved(comm, chain_problem(comm, 3, 12, True), Interface, {}, (0, 2))
    system, rows = solver.system, solver.block.n
    inputs = len(system.inputs.ids) + len(solver._fixed)
    entries = len(solver._used) * len(system.outputs.ids), len(solver._sent) * inputs
    for transposed, wanted in enumerate(entries):
        assert (solver._maps[transposed] is None) == (wanted > 0 < rows)


def test_right_hand_sides_anywhere(comm):
    """`_solve` itself: seeds and solutions in all rows, as refinement uses it."""
    p = random_problem(comm, 5, n=50)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    rng = np.random.default_rng(comm.rank)
    for cls, options in (Interface, {}), (Pipeline, {"pipeline_columns": 2}):
        solver, exact = cls(system, options), Substitution(system)
        for transposed in (False, True):
            for tail in (), (5,):
                y = rng.standard_normal((system.n_local, *tail))
                expected = y.copy()
                exact._solve(expected, transposed)
                solver._solve(y, transposed)
                np.testing.assert_allclose(y, expected, rtol=0, atol=p.tolerance())
        solver.close()
    system.close()


@pytest.mark.parametrize("owners", ["slabs", "random", "one"])
@pytest.mark.parametrize("columns", [(), (2,), (13,)])
def test_from_some_rows_to_some_others(comm, owners, columns):
    """A rank's block alone, by every way it has: one vector, columns one by one, and kept in slots."""
    for seed in range(3):
        p = random_problem(comm, seed, n=60, n_in=4, n_out=5, owners=owners)
        system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
        block, rng = Block(system), np.random.default_rng(seed)
        own, ghost = (sp.csr_matrix((a.data, a.indices, a.indptr), shape=(system.n_local, k)).toarray()
                      for a, k in ((system.own, system.n_local), (system.ghost, system.n_ghosts)))
        inverse = np.linalg.inv(own)
        for _ in range(4):
            rows, wanted = (np.flatnonzero(rng.random(block.n) < rng.choice([0.0, 0.1, 0.6])) for _ in range(2))
            read = block.used[rng.random(len(block.used)) < 0.7]
            seeds, ghosts = rng.standard_normal((len(rows), *columns)), np.zeros((system.n_ghosts, *columns))
            ghosts[read] = rng.standard_normal((len(read), *columns))
            b = -ghost @ ghosts
            b[rows] += seeds
            tolerance = 1e-13 * (np.abs(inverse).max(initial=0.0) + 1) * (np.abs(own).sum() + np.abs(ghost).sum() + 1)
            np.testing.assert_allclose(block.forward(ghosts, read, rows, seeds, wanted), (inverse @ b)[wanted],
                                       rtol=0, atol=tolerance)
            b = np.zeros((block.n, *columns))
            b[rows] = seeds
            into, found = block.backward(rows, seeds, wanted)
            np.testing.assert_allclose(found, (inverse.T @ b)[wanted], rtol=0, atol=tolerance)
            np.testing.assert_allclose(into, -ghost.T @ (inverse.T @ b), rtol=0, atol=tolerance)
        system.close()


@pytest.mark.parametrize("width, steps", [(1, 60), (3, 20), (16, 9)])
def test_slots_of_a_chain(comm, width, steps):
    """As many as are alive at once: two steps of the chain at most, however long it is, and the ghosts."""
    p = chain_problem(comm, width, steps, False)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    assert Block(system).n_slots <= min(2 * width + 1, max(system.n_local, 1)) + system.n_ghosts
    system.close()


def test_rows_between_ranks_tell_the_true_residual(comm, monkeypatch):
    """A reduced system that is off is noticed, by the pass that starts from what it brought; all rows are looked at."""
    p = chain_problem(comm, 2, 20, True)
    exact, residual, looks = Gathered.solve, Residual.__call__, []
    monkeypatch.setattr(Gathered, "solve", lambda self, c, transposed: exact(self, c, transposed) * (1 + 1e-6))
    monkeypatch.setattr(Residual, "__call__", lambda *arguments: looks.append(1) or residual(*arguments))
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    for m in (0, 20):
        solver = Interface(system, {"interface_reduced": "gather"})
        looks.clear()
        for J in jacobians(comm, p, system, solver, m):
            np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=p.tolerance())
        assert bool(looks) == (comm.size > 1)  # at all rows
        assert solver._checks == dict.fromkeys((False, True), "every solve" if comm.size > 1 else "none")
    system.close()


@pytest.mark.parametrize("width, columns", [(1, 1), (2, 8), (4, 1), (16, 16), (64, 2)])
def test_rows_that_a_chain_streams(comm, monkeypatch, width, columns):
    """(s + 2 m) n / P on the busiest rank for a first solve, substitution m n: ranks gain from P > 2 + s / m on."""
    steps, streamed = 12, Counter()
    for name in ("forward", "backward"):
        plain = getattr(Block, name)

        def counted(self, *arguments, plain=plain):
            seeds = arguments[-2]
            if not self._one_by_one(seeds):  # which calls itself
                streamed["rows"] += self.n * (seeds.shape[1] if seeds.ndim == 2 else 1)
            return plain(self, *arguments)

        monkeypatch.setattr(Block, name, counted)
    p = chain_problem(comm, width, steps, False)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    for solve, seeds in (Interface(system).tangent, system.inputs.ids), (Interface(system).adjoint, system.outputs.ids):
        streamed.clear()
        solve(np.ones((len(seeds), columns)))
        s = width if comm.size > 1 else 0
        assert streamed["rows"] <= (s + 2 * columns) * width * -(-steps // comm.size)
    system.close()


# -- what it costs


class Counting:
    """A communicator that counts calls."""

    def __init__(self, comm) -> None:
        self._comm, self.calls = comm, Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._comm, name)
        if callable(found):
            self.calls[name] += 1
        return found


@pytest.mark.parametrize("reduced", ["gather", "scan"])
def test_a_further_solve_is_one_gather_or_a_scan(comm, reduced):
    p = chain_problem(comm, 2, 20, True)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    solver = Interface(system, {"interface_reduced": reduced})
    jacobians(comm, p, system, solver, 0)
    passes = []
    own_rows = solver.block.passes.own_rows
    solver.block.passes.own_rows = lambda *arguments: (passes.append(1), own_rows(*arguments))
    system.comm = counting = Counting(comm)
    for solve, seeds in (solver.tangent, system.inputs.ids), (solver.adjoint, system.outputs.ids):
        counting.calls.clear()
        passes.clear()
        solve(np.ones((len(seeds), 5)))
        begins = len(seeds) > 0 or (solve == solver.tangent and len(solver._fixed) > 0)  # here, or at others' inputs
        assert len(passes) == begins  # one local pass, and no row twice
        if comm.size == 1:
            assert not counting.calls
        elif reduced == "gather":
            assert counting.calls == {"Allgatherv": 1}
        else:
            rounds = (comm.size - 1).bit_length()
            partners = sum((comm.rank ^ (1 << k)) < comm.size for k in range(rounds))
            assert counting.calls == {"Sendrecv": partners}
    system.comm = comm
    system.close()


class CountingComm(MPI.Intracomm):
    """The same for a whole linearization, which wants a communicator."""

    calls: Counter = Counter()

    def __getattribute__(self, name: str) -> Any:
        if name.lower() in ("bcast", "allreduce", "iallreduce", "allgather", "allgatherv", "gather", "barrier"):
            CountingComm.calls[name] += 1
        return super().__getattribute__(name)


def test_messages_of_a_further_solve_through_the_library(comm):
    """An agreement that all ranks are in this call, rank 0's seed, a gather of interfaces, an agreement, a gather of
    results, and an agreement that all is well."""
    def f(x):
        a, b = x[0], x[1]
        for _ in range(50):
            a, b = np.sin(a + x[2] * b), np.cos(a * b)
        return np.stack([a, b])

    with dd.linearize(f, np.array([0.3, 0.7, 0.5]), comm=CountingComm(comm), method="interface") as lin:
        for solve, seed in (lin.jvp, np.ones(3)), (lin.vjp, np.ones(2)):
            first = solve(seed)
            CountingComm.calls.clear()
            np.testing.assert_allclose(solve(seed), first, rtol=1e-13)
            assert CountingComm.calls == ({"Bcast": 1, "Allgatherv": 2, "Iallreduce": 3} if comm.size > 1 else {})


def test_stages_and_messages_of_the_pipeline(comm):
    p = chain_problem(comm, 2, 20, False)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    solver = Pipeline(system, {"pipeline_columns": 4})
    system.comm = counting = Counting(comm)
    for solve, seeds in (solver.tangent, system.inputs.ids), (solver.adjoint, system.outputs.ids):
        counting.calls.clear()
        solve(np.ones((len(seeds), 18)))
        assert solver.info == {"batches": 5, "stages": comm.size + 4}
        first, last = comm.rank == 0, comm.rank == comm.size - 1
        sends, receives = (first, last) if solve == solver.adjoint else (last, first)
        assert counting.calls["Isend"] == 5 * (not sends) and counting.calls["Irecv"] == 5 * (not receives)
        assert len(solver._pool) <= 2  # a batch at a time, the last one narrower
    solver.tangent(np.ones(len(system.inputs.ids)))
    assert solver.info == {"batches": 1, "stages": comm.size}
    system.comm = comm
    solver.close()
    system.close()


def test_width_of_batches():
    """More ranks, narrower batches; few right-hand sides, or few rows, aren't split into ever smaller ones."""
    machine = Machine()
    assert widest(256, 1, 100_000, 1, machine)[0] == 256  # one superstep: nothing waits
    widths = [widest(256, k_star, 100_000, 1, machine)[0] for k_star in (2, 8, 64)]
    assert widths == sorted(widths, reverse=True) and widths[0] < 256
    assert widest(3, 8, 100_000, 1, machine)[0] == 3
    assert widest(256, 2, 10, 1, machine)[0] == 256
    assert widest(256, 2, 10**9, 1, machine)[0] == 4  # memory


@pytest.mark.parametrize("method", [interface, pipeline])
def test_costs(method):
    """On a chain over 8 ranks the waiting is what both save; on one rank, or where nothing crosses, neither applies."""
    chain = Work(0, 1_000_000, 10, k_star=8, ranks=8, messages=1, halo=2, interface=2, waits=8.0, kept_rows=10**6,
                 assembled=True)
    ours, plain = (m.cost(chain, 1000, Machine()).seconds for m in (method, substitution))
    assert ours < 0.3 * plain
    for alone in (replace(chain, ranks=1), replace(chain, k_star=1)):
        assert method.cost(alone, 1000, Machine()).seconds is None
    assert interface.cost(replace(chain, interface=10_000), 1, Machine()).seconds is None
    assert pipeline.cost(chain, 1, Machine()).seconds is None


def test_what_interface_costs():
    """A further solve a P-th of one rank's; the first some passes more; parameters a message; states a pass each."""
    chain = Work(0, 1_000_000, 10, k_star=8, ranks=8, messages=1, halo=2, interface=2, waits=8.0, kept_rows=2 * 10**6,
                 assembled=True, together=1)
    machine = Machine()

    def seconds(columns, **changes):
        return interface.cost(replace(chain, **changes), columns, machine).seconds

    one_rank = 8 * local_seconds(chain, 1, machine)
    further = (seconds(1001) - seconds(1)) / 1000
    assert further == pytest.approx(one_rank / 8, rel=0.05)
    assert 3 * further < seconds(1) - substitution_setup(chain, machine) < 5 * further  # 2 passes, transfer
    assert seconds(1000, halo=10_000) < 1.05 * seconds(1000)
    wide = seconds(1, interface=32) - seconds(1)
    assert 2 * further < wide < 30 * further  # 30 columns more, streamed together


def test_parameters_are_not_counted_as_interface(comm):
    """A thousand inputs, a step reads one of them and the state: the state alone is what ranks hand on."""
    def f(x):
        s = np.float64(1.0)
        for k in range(3 * len(x)):
            s = np.sin(s) * x[k % len(x)]
        return s

    with dd.linearize(f, np.linspace(0.5, 1.5, 1000), comm=comm, method="interface", partition="contiguous") as lin:
        assert lin.work.interface == (comm.size > 1) and (comm.size == 1 or lin.work.halo > 300)
        lin.vjp(1.0)
        info = lin.report().info
        assert info["interface_rows"] == comm.size - 1


# -- what is accepted


def grown(comm) -> Problem:
    """Entries above 10 over a chain of 40 steps: the solution grows by many orders."""
    return random_problem(comm, 12, n=40, n_in=3, n_out=3, degree=3.0, size=30.0, window=4, owners="slabs")


def test_growth(comm):
    p = grown(comm)
    J = p.jacobian()
    assert np.abs(J).max() > 1e12
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    for reduced in ("gather", "scan"):
        solver = Interface(system, {"interface_reduced": reduced})
        for _ in range(2):
            for ours in jacobians(comm, p, system, solver, 0):
                assert (np.abs(ours - J) <= p.bound(1e4)).all()
        assert comm.size == 1 or (solver.growth > 1e3 and solver.info["residual"] <= 1e-12)
    system.close()


@pytest.fixture
def wrong_transfer(monkeypatch):
    """Transfer matrices off by a factor, as rounding could leave them."""
    exact = Block.transfer

    def set_factor(factor: float) -> None:
        monkeypatch.setattr(Block, "transfer", lambda *arguments: factor * exact(*arguments))

    return set_factor


def test_what_loses_digits_is_refined_or_refused(comm, wrong_transfer, monkeypatch):
    p = chain_problem(comm, 3, 15, False)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    seed = np.ones((len(system.inputs.ids), 9))
    wrong_transfer(1.0 + 1e-8)
    solver = Interface(system)
    for m in (0, 9, 1):
        for J in jacobians(comm, p, system, solver, m):
            np.testing.assert_allclose(J, p.jacobian(), rtol=0, atol=p.tolerance())
    if comm.size > 1:  # no solve goes the short way at this point
        assert set(solver._checks.values()) == {"every solve"} and solver.info["residual"] <= 1e-12
    if comm.size > 2:  # on two, no transfer matrix enters the reduced system
        monkeypatch.setattr("distdiff.solvers.interface.REFINEMENTS", 0)
        with pytest.raises(ConvergenceError, match=r"after 0 refinements the .*residual is .* > 1e-12.*substitution"):
            solver.tangent(seed)
    wrong_transfer(1.0)
    solver.refresh()
    solver.tangent(seed)
    assert solver._checks == {False: "none", True: "the first" if comm.size > 1 else "none"}
    system.close()


def test_overflowing_transfer_matrices(comm):
    """Growth beyond the range within one rank's rows is refused; in products of the scan alone, gathered instead."""
    n = 60 * comm.size
    for entry, refused in (1e10, True), (1e4, False):
        i = np.r_[1:n - 2, n - 1]  # the last row alone reads the input before it
        L = sp.csr_matrix((np.full(n - 2, entry), (i, i - 1)), shape=(n, n))
        p = spread(L, np.arange(n) * comm.size // n, np.array([n - 2]), np.array([n - 1]), comm.rank)
        system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
        solver = Interface(system, {"interface_reduced": "scan"})
        if refused and comm.size > 2:  # some rank has both ghosts and readers
            with pytest.raises(ConvergenceError, match="overflow.*substitution"):
                solver.tangent(np.ones(len(system.inputs.ids)))
        else:
            y = solver.tangent(np.ones(len(system.inputs.ids)))
            np.testing.assert_array_equal(y, np.full(len(system.outputs.ids), entry))
            # The scan multiplies matrices of ranks 2k and 2k + 1, then of twice as many; the first rank's has no
            # columns, the last one's no rows, so from five ranks on there is a product of two that overflow.
            assert (solver._scan is None) == (comm.size > 4 and not refused)
        system.close()


def test_refusals(comm):
    p = chain_over_ranks(comm)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    if comm.size > 1:
        with pytest.raises(InputError, match="higher ones.*contiguous"):
            Interface(system, {"interface_reduced": "scan"})
    with pytest.raises(InputError, match="auto, gather, scan"):
        Interface(system, {"interface_reduced": "magic"})
    with pytest.raises(InputError, match="pipeline_columns=-1"):
        Pipeline(system, {"pipeline_columns": -1})
    system.close()


def test_interfaces_too_wide(comm, monkeypatch):
    monkeypatch.setattr("distdiff.solvers.interface.LIMIT", 100)
    p = random_problem(comm, 5, n=50)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    if comm.size > 1:
        with pytest.raises(InputError, match="reduced system of .* GB .* rows are read by other ranks.*substitution"):
            Interface(system)
    system.close()


# -- the algebra by itself, on any number of ranks


def shares(L: sp.csr_matrix, owner: np.ndarray, n_ranks: int) -> list[SimpleNamespace]:
    """What every rank's block needs of a `TriangularSystem`; rows and ghosts by superstep, then in order."""
    n = L.shape[0]
    step = np.zeros(n, dtype=int)
    for i in range(n):
        read = L.indices[L.indptr[i]:L.indptr[i + 1]]
        step[i] = max((step[j] + (owner[j] != owner[i]) for j in read), default=0)
    A, found = sp.csr_matrix(sp.eye(n) - L), []
    for rank in range(n_ranks):
        nodes = np.flatnonzero(owner == rank)
        nodes = nodes[np.lexsort((nodes, step[nodes]))]
        read = np.unique(A[nodes].indices)
        ghosts = read[owner[read] != rank]
        own, ghost = A[nodes][:, nodes], A[nodes][:, ghosts]
        own.sort_indices()
        ends = np.searchsorted(step[nodes], np.arange(step.max() + 2))
        rows = np.flatnonzero(np.diff(ghost.indptr)).astype(ghost.indptr.dtype)
        found.append(SimpleNamespace(
            own=own, ghost=ghost, n_local=len(nodes), n_ghosts=len(ghosts), ends=ends, k_star=len(ends) - 1,
            stretches=stretches(ends, own.indptr, own.indices), ghost_rows=rows,
            blocks=[], bounds=ends, factorize=lambda: None,
            ghost_ends=np.searchsorted(rows, ends), nodes=nodes, ghosts=ghosts))
    return found


def together(messages: list[Any]) -> tuple[list[Any], int]:
    """Runs all ranks' generators, delivering what partners send each other; their results and the most messages."""
    results: list[Any] = [None] * len(messages)
    waiting: dict[int, tuple[int, np.ndarray, tuple[int, ...]]] = {}
    sent = Counter()

    def go_on(rank: int, answer: np.ndarray | None) -> None:
        try:
            waiting[rank] = messages[rank].send(answer)
            sent[rank] += 1
        except StopIteration as done:
            results[rank] = done.value

    for rank in range(len(messages)):
        go_on(rank, None)
    while waiting:
        rank, partner = next((r, q) for r, (q, _, _) in waiting.items() if q in waiting and waiting[q][0] == r)
        (_, mine, wanted), (_, theirs, expected) = waiting.pop(rank), waiting.pop(partner)
        assert theirs.shape == wanted and mine.shape == expected
        go_on(rank, theirs)
        go_on(partner, mine)
    return results, max(sent.values(), default=0)


@pytest.mark.mpi_skip
@pytest.mark.parametrize("n_ranks, width", [(1, 2), (2, 3), (3, 1), (6, 4), (13, 2), (64, 3)])
def test_many_ranks_in_one_process(n_ranks, width):
    """A chain, a parameter that all ranks read, and a last rank without rows: gathered and scanned."""
    steps = max(2, n_ranks - 1)
    L = sp.lil_matrix(chain(width, steps, np.arange(width)))
    L[np.arange(1, steps) * width, 0] = 0.3  # alive at every cut
    owner = np.repeat(np.arange(steps) * max(n_ranks - 1, 1) // steps, width)
    check_algebra(sp.csr_matrix(L), owner, n_ranks, ordered=True)


@pytest.mark.mpi_skip
def test_random_ranks_in_one_process():
    """Ranks that read from each other back and forth."""
    L = random_matrix(np.random.default_rng(2), 70, 4)
    L.sum_duplicates()
    check_algebra(L, np.random.default_rng(3).integers(0, 7, 70), 7, ordered=False)


def check_algebra(L: sp.csr_matrix, owner: np.ndarray, n_ranks: int, ordered: bool) -> None:
    """Both reduced systems against a dense solve."""
    n, parts = L.shape[0], shares(L, owner, n_ranks)
    blocks = [Block(part) for part in parts]
    reads = [part.ghosts[block.used] for part, block in zip(parts, blocks)]
    crossing = np.unique(np.concatenate(reads)).astype(int)
    rows = [np.flatnonzero(np.isin(part.nodes, crossing)) for part in parts]
    nodes = np.concatenate([part.nodes[r] for part, r in zip(parts, rows)]).astype(int)  # of interface rows, numbered
    number = np.zeros(n, dtype=int)
    number[nodes] = np.arange(len(nodes))
    coupling = Coupling(np.concatenate([[0], np.cumsum([len(r) for r in rows])]),
                        np.concatenate([np.searchsorted(p.ends, r, side="right") - 1 for p, r in zip(parts, rows)]),
                        [number[r.astype(int)] for r in reads])
    assert coupling.ordered == ordered and coupling.entries == sum(len(r) * len(g) for r, g in zip(rows, reads))
    T = [block.transfer(r, block.used) for block, r in zip(blocks, rows)]
    assert max(b.columns for b in blocks) <= max(len(g) for g in reads)
    A = np.eye(n) - L.toarray()
    b = np.random.default_rng(1).standard_normal((n, 2))
    gathered = Gathered(coupling)
    gathered.refresh(T)
    scans = [Scan(coupling, rank) for rank in range(n_ranks)] if ordered else []
    _, most = together([scan.refresh(t) for scan, t in zip(scans, T)])
    assert most <= (n_ranks - 1).bit_length() and all(scan.finite for scan in scans)
    for transposed in (False, True):
        x = np.linalg.solve(A.T if transposed else A, b)
        firsts = [b[part.nodes] for part in parts]
        for block, first in zip(blocks, firsts):
            block.solve(first, transposed)
        if transposed:
            d = [block.to_ghosts(first)[block.used] for block, first in zip(blocks, firsts)]
            total = np.zeros((coupling.n, 2))
            for r, part in zip(coupling.reads, d):
                total[r] += part
            zeta = gathered.solve(total, True)
            found = [zeta[a:z] for a, z in zip(coupling.starts, coupling.starts[1:])]
            scanned, most = together([s.backward(part, len(r)) for s, part, r in zip(scans, d, rows)])
        else:
            c = [first[r] for first, r in zip(firsts, rows)]
            z = gathered.solve(np.concatenate(c), False)
            np.testing.assert_allclose(z, x[nodes], rtol=1e-11, atol=1e-11)
            found = [z[r] for r in coupling.reads]
            scanned, most = together([s.forward(part) for s, part in zip(scans, c)])
        assert most <= (n_ranks - 1).bit_length()
        for one, other in zip(found, scanned):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)
        for part, block, r, values in zip(parts, blocks, rows, found):
            y = b[part.nodes]
            if transposed:
                y[r] += values
            else:
                ghosts = np.zeros((block.n_ghosts, 2))
                ghosts[block.used] = values
                block.take_ghosts(ghosts, y)
            block.solve(y, transposed)
            np.testing.assert_allclose(y, x[part.nodes], rtol=1e-11, atol=1e-11)


@pytest.mark.mpi_skip
def test_part_of_the_rows(monkeypatch):
    """A table's part solves the rows asked for: recurrences, diagonals and rows of any kind, cut anywhere."""
    monkeypatch.setattr("distdiff.kernels.stretches.SMALL", 0)
    n = 420
    entries = [(i, i - d) for i in range(40, n) for d in ([40, 38] if i < 200 else [1, 2] if i < 300 else [90, 1])]
    i, j = np.array([*entries, *((k, k) for k in range(n))]).T
    values = np.where(i == j, 1.0, np.random.default_rng(5).uniform(-0.45, 0.45, len(i)))
    A = sp.csr_matrix((values, (i, j)), shape=(n, n))
    A.sort_indices()
    table, offsets, _ = found = stretches(np.array([0, n]), A.indptr, A.indices)
    assert isinstance(found, Stretches) and table.shape[1] == REACH + 1 and len(table) >= 3
    for lo, hi in (0, n), (50, 390), (100, 120), (199, 301), (210, 290), (0, 41), (419, 420), (30, 30):
        b = np.zeros(n)
        b[lo:hi] = np.cos(np.arange(lo, hi))
        for sweep, matrix in (forward, A), (backward, A.T):
            part, y = within(table, lo, hi), b.copy()
            sweep(n, 0, len(part), part, offsets, A.indptr, A.indices, A.data, y)
            expected = np.linalg.solve(matrix.toarray(), b)
            np.testing.assert_allclose(y[lo:hi], expected[lo:hi], rtol=1e-12, atol=1e-12)
