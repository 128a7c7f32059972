"""Hard systems and things that go wrong: every method's answer is right to rounding, or a clear error on all ranks."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dags import Dag, dag
from methods import LABELS, METHODS, MIXED, solver_for, told
from mpi4py import MPI
from random_systems import Problem, collect

import distdiff as dd
from distdiff import comm as agreement
from distdiff import solvers as dd_methods
from distdiff.comm import require_sound, together
from distdiff.errors import (
    BrokenCommunicatorError,
    ConvergenceError,
    FallbackWarning,
    InputError,
    NonFiniteError,
    RemoteError,
)
from distdiff.preaccumulate import eliminate
from distdiff.solvers import method as method_of
from distdiff.solvers.krylov import Krylov
from distdiff.solvers.sweep import Sweep
from distdiff.system import TriangularSystem

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(90)]

EXACT = ["substitution", "neumann", "gmres", "richardson", "bcgs", "gmres over asm", "gmres over substitution"]
"""Methods that end in substitutions whatever the entries are; the others round in orders of their own."""


def system_of(comm, d: Dag, owners: str = "cyclic", full: bool = True) -> tuple[Problem, TriangularSystem]:
    p = d.problem(comm, owners)
    return p, TriangularSystem(comm, eliminate(p.local, p.rows, full=full))


def both_ways(comm, system: TriangularSystem, solver: Any, x: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
    forward = solver.tangent(np.ascontiguousarray(x[system.inputs.positions]))
    back = solver.adjoint(np.ascontiguousarray(w[system.outputs.positions]))
    return [collect(comm, system.outputs, forward, len(w)), collect(comm, system.inputs, back, len(x))]


def exactly(d: Dag, x: np.ndarray, w: np.ndarray) -> list[np.ndarray]:
    """J x and J^T w in exact fractions, rounded once."""
    n, L = d.L.shape[0], d.L
    entries = [[(int(L.indices[e]), Fraction(float(L.data[e]))) for e in range(L.indptr[i], L.indptr[i + 1])]
               for i in range(n)]
    y = [Fraction(0)] * n
    lam = [Fraction(0)] * n
    for k, value in enumerate(x):
        y[k] += Fraction(float(value))
    for node, value in zip(d.outputs, w):
        lam[node] += Fraction(float(value))
    for i in range(n):
        y[i] += sum((a * y[j] for j, a in entries[i]), Fraction(0))
    for i in reversed(range(n)):
        for j, a in entries[i]:
            lam[j] += a * lam[i]
    return [np.array([float(y[i]) for i in d.outputs]), np.array([float(v) for v in lam[:d.n_in]])]


# -- extreme values


def scaled() -> Dag:
    """Partials of 1e300 and 1e-300 in turn, of subnormal numbers, and exact zeros, on two chains that join."""
    big, small, tiny = 1.1e300, 0.9e-300, 7 * 5e-324
    edges = [(2, 0), (3, 1), (4, 2), (5, 3), (6, 4), (7, 5), (8, 6), (8, 7), (9, 8), (10, 9), (10, 0), (11, 10)]
    values = np.array([small, big, big, small, -small, big, 1.5 * big, -2.5 * small, 1.0, 0.0, tiny, 1e200])
    return dag(edges, 12, 2, [8, 11], values)


@pytest.mark.parametrize("method", LABELS)
def test_extreme_scaling(comm, method):
    d = scaled()
    p, system = system_of(comm, d)
    x, w = np.array([[1.0, 2.0], [-3.0, 5.0]]), np.array([[1.0, -1.0], [2.0, 3.0]])
    wanted = [np.stack(pair, axis=1) for pair in zip(*(exactly(d, x[:, k], w[:, k]) for k in range(2)))]
    solver = solver_for(method, system)
    try:
        found = both_ways(comm, system, solver, x, w)
    except ConvergenceError:
        assert method not in EXACT  # factors and Krylov spaces square what they hold: that they say so is enough
    else:
        for ours, exact in zip(found, wanted):
            assert (np.abs(ours - exact) <= 1e-13 * np.abs(exact) + 1e-320).all()
    solver.close()
    system.close()


def test_subnormal_results():
    """Gradual underflow, not a jump to zero: what a product of doubles gives."""
    gradient = dd.grad(lambda x: x[0] * 1e-200 * 3e-120 + 0.0 * x[1])(np.ones(2))
    assert gradient[0] == 1e-200 * 3e-120 != 0.0 and gradient[1] == 0.0


@pytest.mark.parametrize("method", ["substitution", "neumann", "sweep", "krylov"])
def test_growth_beyond_all_numbers_is_an_error(comm, method):
    """Entries of 1e30 along a chain: ten of them fit, and of twelve the error says what they do."""
    def f(x, n):
        for _ in range(n):
            x = 1e30 * x
        return x.sum()

    for n, fits in (10, True), (12, False):
        with dd.linearize(f, np.full(3, 1e-60), n, comm=comm, method=method, partition="axes", min_block=1,
                          preaccumulate=False) as lin:
            if fits:
                np.testing.assert_allclose(lin.vjp(1.0), 1e300, rtol=1e-12)
            else:
                with (warned(comm, "overflow" if method == "krylov" else None),
                      pytest.raises(NonFiniteError, match="overflow")):
                    lin.vjp(1.0)


@contextlib.contextmanager
def warned(comm, match: str | None) -> Any:
    """One `FallbackWarning` on rank 0 (none without `match`), and no other warning on any rank."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    wanted = 1 if comm.rank == 0 and match is not None else 0
    assert len(caught) == wanted, [str(w.message) for w in caught]
    for warning in caught:
        assert warning.category is FallbackWarning and re.search(match, str(warning.message), re.DOTALL)
        assert warning.filename == __file__  # where the user called


@pytest.mark.parametrize("method", ["sweep", "substitution", "interface"])
def test_products_that_overflow_in_another_order(comm, method, monkeypatch):
    """1e200 twice and then 1e-200 twice: within the numbers from a small seed, but not as one coefficient."""
    monkeypatch.setattr("distdiff.kernels.combine.compiled", lambda n: True)  # NumPy multiplies in another order
    def f(x, a, b):
        return x * a * a * b * b + x

    x, a = np.full(3, 1e-250), np.full(3, 1e200)
    with dd.linearize(f, x, a, 1 / a, comm=comm, method=method, partition="axes", min_block=1) as lin:
        np.testing.assert_allclose(lin.jvp(x), 2 * x, rtol=1e-12)
        np.testing.assert_allclose(lin.jvp(np.ones(3)), 2.0, rtol=1e-12)  # in range from a smaller seed


def test_a_seed_of_the_size_of_x_goes_where_the_values_go(comm):
    """Which is in range, where the seed 1 is lost on the way."""
    def f(x):
        return np.sum(x * 1e-300 * 1e-300 * 1e300 * 1e300)

    x = np.array([1e308])
    for method in "auto", "sweep", "substitution":
        with dd.linearize(f, x, comm=comm, method=method) as lin:
            np.testing.assert_allclose(lin.jvp(x) / x, 1.0, rtol=1e-7)  # 1e-292 * 1e-300 and back: digits are lost too


def test_what_an_overflow_advises_works(comm):
    """The derivative is 1e310, and from a smaller seed a number."""
    def f(x):
        return np.sum(x * 1e-100 * 1e205 * 1e205)

    x = np.array([1e-10])
    with pytest.raises(NonFiniteError, match="scale the seed"):
        dd.grad(f, comm=comm)(x)
    with dd.linearize(f, x, comm=comm) as lin:
        np.testing.assert_allclose(lin.vjp(1e-10), 1e300, rtol=1e-12)


@pytest.mark.parametrize("method", ["substitution", "interface", "krylov", "sweep"])
@pytest.mark.parametrize("factors", [(1e250, 1e-250, 1e-290, 1e290), (1e-160, 1e160, 1e160, 1e-160)])
def test_products_that_underflow_where_a_stretch_begins(comm, method, factors):
    """Every rank's stretch may begin in the midst of them; in the order of the lines no value is out of range."""
    def f(x):
        s = x[0]
        for k in range(90):
            s = s * factors[k % 4]
            if k % 9 == 0:
                s = s * x[1] / x[1]
        return np.stack([s * factors[2] * factors[3], 0.0 * x[1] + x[1] - x[1]])

    x = np.array([0.7, 1.3])
    with dd.linearize(f, x, comm=comm, method=method, partition="contiguous" if comm.size > 1 else "auto") as lin:
        rows, columns = [lin.vjp(w) for w in np.eye(2)], [lin.jvp(v) for v in np.eye(2)]
        for J in lin.jacobian(), np.stack(rows), np.stack(columns, 1):
            np.testing.assert_allclose(J, [[1.0, 0.0], [0.0, 0.0]], rtol=1e-10, atol=1e-10)


FAR_APART = {  # a period that is 1 as a whole, within range in the order of the lines from either end; no partial is
    # below 1e-100 or above its inverse
    "zero": [1e90] * 3 + [1e-90] * 6 + [1e90] * 3,  # what begins after the first three comes to 1e-540
    "digits": [1e80, 1e79] + [1e-80, 1e-79] * 2 + [1e80, 1e79],  # ... the first two, to 1e-318, and back
    "infinity": [1e-90] * 3 + [1e90] * 6 + [1e-90] * 3}


@pytest.mark.parametrize("method", ["substitution", "interface", "sweep"])
@pytest.mark.parametrize("period", FAR_APART)
@pytest.mark.parametrize("as_what", ["numbers", "inputs", "inputs at another point"])
def test_partials_far_apart(comm, method, period, as_what):
    """Rows are kept where a period is at its height, and every rank's stretch may begin anywhere in it."""
    factors = np.array(FAR_APART[period])
    turns, height = 90 // len(factors), len(factors) // 4 - 1

    def f(x):
        s, kept = x[0], []
        for _ in range(turns):
            for k in range(len(factors)):
                s = s * (factors[k] if as_what == "numbers" else x[2 + k])
                if k == height:
                    s = s * x[1] / x[1]
                    kept.append(s)
        return np.stack([s, *kept])

    x, first = np.concatenate([[0.7, 1.3], factors]), np.ones(len(factors) + 2)
    e, exact = np.eye(len(x))[0], [1.0, *[float(np.prod(factors[:height + 1]))] * turns]
    with dd.linearize(f, first if "another" in as_what else x, comm=comm, method=method,
                      partition="contiguous" if comm.size > 1 else "auto") as lin:
        if "another" in as_what:
            np.testing.assert_allclose(lin.jvp(e), np.ones(turns + 1), rtol=1e-12)
            lin.update(x)
        lin.jvp(1e-200 * e)  # of which little is left on the way: what comes next is none the worse for it
        for scale in (1.0, 2.0):
            np.testing.assert_allclose(lin.jvp(scale * e), scale * np.array(exact), rtol=1e-9)
        np.testing.assert_allclose(lin.vjp(np.eye(len(lin.value))[0])[0], 1.0, rtol=1e-9)


LOST = {  # factors, one after another: within range from either end, but not all among themselves; [c]: a number
    "a pair": (1e150, 1e-200, 1e-200, 1e150), "a pair in the other order": (1e-150, 1e200, 1e-280, 1e130),
    "a number and an array": (1e200, [1e-60], 1e-280, 1e140), "a large number": (1e-190, [1e90], 1e-180, 1e280),
    "numbers": (1e180, [1e-80], [1e-15], 1e-250, 1e165), "a pair and a number": (1e250, 1e-170, [1e-60], 1e-170, 1e150)}


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("factors", LOST.values(), ids=LOST)
def test_partials_that_underflow_among_themselves(comm, factors, compiled, monkeypatch):
    """A sweep multiplies what it has come to by one partial after another: of x * (p * q) nothing would be left."""
    monkeypatch.setattr("distdiff.kernels.combine.compiled", lambda n: compiled)
    n = 4
    order = [f[0] if isinstance(f, list) else f for f in factors]
    product, v = np.exp(np.sum(np.log(order))), np.linspace(1.0, 2.0, n)
    for before in range(2):  # whichever two are taken together
        for after in range(2):
            def f(x, *given, before=before, after=after):
                x = x * given[0] if before else x
                for a, factor in zip(given[1:], factors):
                    x = x * (factor[0] if isinstance(factor, list) else a)
                return x * given[0] if after else x

            given = np.ones(n), *(np.full(n, a) for a in order)
            with dd.linearize(f, v, *given, comm=comm, method="sweep", partition="axes", min_block=1) as lin:
                np.testing.assert_allclose(lin.jvp(v), product * v, rtol=1e-10)
                np.testing.assert_allclose(lin.vjp(v), product * v, rtol=1e-10)


@pytest.mark.parametrize("method", ["substitution", "interface", "direct"])
@pytest.mark.parametrize("beyond", [(1e250, 1e-250, 1e-290, 1e290), (1e-250, 1e250, 1e290, 1e-290)])
def test_products_that_leave_the_range_at_a_later_point(comm, method, beyond):
    """Assembled anew there, on all ranks: with every line, and without again where nothing asks for it."""
    def f(x):
        s = x[0]
        for k in range(90):
            s = s * x[1 + k % 4]
        return np.stack([s * x[3] * x[4]])

    near = np.array([0.7, 1e120, 1e-120, 1.0, 1.0])
    with dd.linearize(f, near, comm=comm, method=method, partition="contiguous" if comm.size > 1 else "auto") as lin:
        for k, x in enumerate([near, np.array([0.7, *beyond]), near]):
            lin.update(x)
            np.testing.assert_allclose(lin.jvp(np.eye(5)[0]), [1.0], rtol=1e-9, err_msg=str(k))
            with np.errstate(over="ignore"):
                np.testing.assert_allclose(lin.vjp(np.array([1e-10]))[0], 1e-10, rtol=1e-9)


def test_sweeps_in_the_order_of_the_lines(comm, monkeypatch):
    """Both directions, loops, many right-hand sides; at the next point coefficients are composed again."""
    monkeypatch.setattr("distdiff.kernels.combine.compiled", lambda n: True)

    n = 5

    def f(x, s, first, then, number):
        for _ in range(12):  # first and then meet without the numbers around them, which are 1 together
            x = x * number * first * then * (1 / number) + s * np.roll(x, 1)
        return x

    expected = np.linalg.matrix_power(np.eye(n) + 0.5 * np.roll(np.eye(n), 1, axis=0), 12)
    v = 1e150 * np.linspace(1.0, 2.0, n)
    pair = np.stack([v, 2 * v], 1)
    for kind, J, order in ("jvp", expected, (1e200, 1e-200, 1e-90)), ("vjp", expected.T, (1e-200, 1e200, 1e90)):
        args = np.full(n, 1e-100), np.full(n, 0.5), *(np.full(n, a) for a in order[:2]), order[2]
        with dd.linearize(f, *args, comm=comm, method="sweep", partition="axes", min_block=1) as lin:
            solve = getattr(lin, kind)
            for _ in range(2):
                np.testing.assert_allclose(solve(v), J @ v, rtol=1e-12)
                np.testing.assert_allclose(lin.batch(kind, pair), J @ pair, rtol=1e-12)
                assert any(way.endswith("lines in order") for way in lin.report().sweeps)
                lin.update(np.full(n, 2e-100))
            with pytest.raises(NonFiniteError, match="the derivative overflows"):
                solve(5e157 * v)  # which is in range, and what it is multiplied to isn't

    with dd.linearize(lambda x: x * 1e-200 * 1e-100 + x * x * x * x, np.full(n, 1e-60), comm=comm,
                      method="sweep") as lin:  # nothing overflows: nothing is planned twice
        lin.vjp(np.ones(n))
        assert list(lin.report().sweeps) == ["adjoint"]


@pytest.mark.parametrize("method", EXACT)
def test_entries_of_a_thousand_in_a_long_chain(comm, method):
    """Non-normal to 1e297: no residual norm says anything, and every entry is right."""
    d = dag([(i, i - 1) for i in range(1, 100)] + [(i, i - 3) for i in range(50, 100, 7)], 100, 1, [99, 50],
            np.concatenate([np.full(49, 1e3), np.tile([1e3, 1e-3], 100)])[:99 + 8])
    p, system = system_of(comm, d, "slabs")
    solver = solver_for(method, system)
    x, w = np.array([1.0]), np.array([1.0, -1e100])
    for ours, exact in zip(both_ways(comm, system, solver, x, w), exactly(d, x, w)):
        np.testing.assert_allclose(ours, exact, rtol=1e-11)
    solver.close()
    system.close()


@pytest.mark.parametrize("method", ["substitution", "sweep", "interface"])
def test_deep_chain(comm, method):
    """A million steps, one after another (fewer on many ranks)."""
    steps = 1_000_000 // comm.size**2

    def f(x):
        y = np.empty(steps + 1)
        y[0] = x[0]
        y[1:] = 0.1 / steps * x[1]
        return np.cumsum(y)[-1] * x[0]

    with dd.linearize(f, np.array([0.5, 2.0]), comm=comm, method=method) as lin:
        np.testing.assert_allclose(lin.vjp(1.0), [0.5 + (0.5 + 0.2), 0.05], rtol=1e-9)


# -- structure


@pytest.mark.parametrize("method", LABELS)
def test_explicit_zeros_and_edges_that_occur_twice(comm, method):
    """x * x and x + x: two entries in one place; a zero is an entry like any other."""
    d = dag([(2, 0), (2, 0), (3, 2), (3, 1), (4, 3), (4, 3), (4, 2), (5, 4)], 6, 2, [5, 4],
            np.array([1.5, 1.5, 0.0, 2.0, 1.0, 1.0, 0.0, -1.0]))
    p, system = system_of(comm, d)
    solver = solver_for(method, system)
    x, w = np.array([3.0, 5.0]), np.array([1.0, 1.0])
    assert system.nnz == 6 + 6  # the diagonal, and six places
    for ours, exact in zip(both_ways(comm, system, solver, x, w), exactly(d, x, w)):
        np.testing.assert_allclose(ours, exact, rtol=1e-14, atol=1e-14)
    solver.close()
    system.close()


@pytest.mark.parametrize("method, owners", [
    pytest.param(method, owners, marks=pytest.mark.few_ranks if method in MIXED else ()) for method in METHODS
    for owners in ("last", "one") if owners == "last" or " " not in method])
def test_ranks_with_nothing_and_with_one_row(comm, method, owners):
    d = dag([(i, i - 1) for i in range(1, 12)] + [(i, 0) for i in range(3, 12)], 12, 1, [11, 4, 11])
    p, system = system_of(comm, d, owners)
    solver = solver_for(method, system)
    x, w = np.ones((1, 3)), np.arange(9.0).reshape(3, 3)
    found = both_ways(comm, system, solver, x, w)
    np.testing.assert_allclose(found[0], p.jacobian() @ x, atol=p.tolerance())
    np.testing.assert_allclose(found[1], p.jacobian().T @ w, atol=10 * p.tolerance())
    solver.close()
    system.close()


def spoil_own_row(p: Problem, reduced: Any) -> None:
    """Row 2 reads a row after it."""
    reduced.own.indices[reduced.own.indptr[3] - 1] = 4


def spoil_diagonal(p: Problem, reduced: Any) -> None:
    reduced.own.data[reduced.own.indptr[3] - 1] = 2.0


def spoil_ghost(p: Problem, reduced: Any) -> None:
    """What comes from another rank comes too late."""
    reduced.exchanges.reverse()


@pytest.mark.parametrize("spoil", [spoil_own_row, spoil_diagonal, spoil_ghost])
@pytest.mark.parametrize("name", ["substitution", "neumann", "interface", "pipeline", "krylov"])
def test_cycles_are_refused(comm, name, spoil):
    if spoil is spoil_ghost and comm.size == 1:
        pytest.skip("nothing comes from another rank")
    p = dag([(i, i - 1) for i in range(1, 40)], 40, 1, [39]).problem(comm, "cyclic" if comm.size > 1 else "slabs")
    reduced = eliminate(p.local, p.rows, full=True)
    if spoil is spoil_ghost or comm.rank == comm.size - 1:
        spoil(p, reduced)
    system = TriangularSystem(comm, reduced)
    with pytest.raises(InputError, match="in a cycle, or are numbered against their order.*method='petsc'"):
        method_of(name).make(system, {})
    system.close()


def test_nan_partials_are_named(comm):
    def f(x):
        return np.sqrt(x - 1.0).sum()

    for method in ("substitution", "neumann", "krylov", "direct", "petsc"):
        fails = method in ("krylov", "direct", "petsc")  # at set-up or in the solve
        with warned(comm, "failed" if fails else None), pytest.raises(NonFiniteError, match="test_robustness.py"):
            with dd.linearize(f, np.array([1.0, 2.0]), comm=comm, method=method, partition="axes", min_block=1) as lin:
                lin.vjp(1.0)


# -- methods that fail


def f_of_many(x):
    y = x
    for k in range(6):
        y = y * np.roll(x, k) + 0.1 * y.sum()
    return y.sum()


FAILING = {
    "krylov": ({"ksp_max_it": 1, "pc_type": "none"}, "gmres stopped after 1 iterations.*ksp_max_it=1"),
    "petsc": ({"ksp_max_it": 1, "ksp_type": "richardson", "pc_type": "none"}, "richardson with preconditioner none"),
}


@pytest.mark.parametrize("method", [*dd_methods.METHODS, "auto"])
def test_accuracy_is_measured_on_demand(comm, method, monkeypatch):
    """<w, J v> = <J^T w, v> for every method; a wrong adjoint shows."""
    with dd.linearize(f_of_many, np.linspace(0.5, 1.5, 12), comm=comm, method=method) as lin:
        assert lin.report().dot_product is None
        report = lin.report(check=True)
        assert report.dot_product <= 1e-14 and "of its terms, measured" in str(report) and report.solves == 0
        solve = lin._solving.solve
        monkeypatch.setattr(lin._solving, "solve", lambda forward, seed: solve(forward, seed) * (1.0 + 1e-6 * forward))
        assert lin.report(check=True).dot_product > 1e-9  # the two products cancel in part


@pytest.mark.parametrize("method", FAILING)
def test_a_method_that_fails_falls_back(comm, method):
    options, why = FAILING[method]
    x = np.linspace(0.5, 1.5, 12)
    settings = dict(comm=comm, method=method, options=options, partition="axes", min_block=1, preaccumulate=False)
    reference = dd.grad(f_of_many, method="substitution", comm=comm)(x)
    with dd.linearize(f_of_many, x, **settings) as lin:
        with warned(comm, f"method '{method}' failed, and substitution solves instead.*{why}"):
            gradient = lin.vjp(1.0)
        np.testing.assert_allclose(gradient, reference, rtol=1e-12)
        np.testing.assert_allclose(lin.vjp(2.0), 2 * reference, rtol=1e-12)  # not tried, nor warned of, again
        report = lin.report()
        assert report.method == "substitution" and report.reason.startswith(f"{method} failed: ")
        assert "by theory" in report.accuracy
        lin.update(x + 0.1)
        with warned(comm, "failed"):  # at another point it may succeed
            lin.jacobian()
    with dd.linearize(f_of_many, x, **settings, on_failure="raise") as lin:
        with pytest.raises(ConvergenceError, match=why):
            lin.vjp(1.0)
    with pytest.raises(InputError, match="on_failure='ignore' does not exist; choose one of 'substitution', 'raise'"):
        dd.linearize(f_of_many, x, comm=comm, on_failure="ignore")


def test_a_factorization_that_fails_falls_back(comm):
    """PETSc's reason is in the message; set-up fails as solves do."""
    x = np.linspace(0.5, 1.5, 12)
    options = {"ksp_type": "preonly", "pc_type": "bjacobi", "sub_pc_type": "lu", "sub_pc_factor_zeropivot": 2.0}
    settings = dict(comm=comm, method="petsc", partition="axes", min_block=1, options=options)
    with warned(comm, "method 'petsc' failed.*DIVERGED_PC"), dd.linearize(f_of_many, x, **settings) as lin:
        gradient = lin.vjp(1.0)
    np.testing.assert_allclose(gradient, dd.grad(f_of_many, comm=comm)(x), rtol=1e-12)


def test_warnings_as_errors_raise_on_all_ranks(comm):
    options, _ = FAILING["krylov"]
    with dd.linearize(f_of_many, np.ones(12), comm=comm, method="krylov", options=options, partition="axes",
                      min_block=1, preaccumulate=False) as lin:
        with warnings.catch_warnings(), pytest.raises(FallbackWarning):
            warnings.simplefilter("error")
            lin.vjp(1.0)


def test_petsc_by_options(comm):
    x = np.linspace(0.5, 1.5, 12)
    settings = dict(comm=comm, method="petsc", partition="axes", min_block=1)
    reference = dd.grad(f_of_many, comm=comm)(x)
    with dd.linearize(f_of_many, x, **settings, options={"ksp_type": "fgmres", "pc_type": "sor"}) as lin:
        np.testing.assert_allclose(lin.vjp(1.0), reference, rtol=1e-12)
        assert lin.report().info["type"] == "fgmres" and lin.report().info["preconditioner"] == "sor"
    for more in {"ksp_type": "gmres", "pc_type": "eisenstat"}, {"pc_type": "bjacobi", "sub_pc_type": "eisenstat"}:
        fails = comm.size > 1 and more["pc_type"] == "eisenstat"  # PETSc crashes
        with pytest.raises(InputError, match="works on one rank only") if fails else contextlib.nullcontext():
            with dd.linearize(f_of_many, x, **settings, options=more) as lin:
                np.testing.assert_allclose(lin.vjp(1.0), reference, rtol=1e-12)
    with told(comm, "ksp_monitr was not used by petsc"):
        dd.linearize(f_of_many, x, **settings, options={"ksp_monitr": True}).close()
    with pytest.raises(InputError, match="nonsense"):
        dd.linearize(f_of_many, x, **settings, options={"pc_type": "nonsense"})


# -- one rank fails


def test_one_rank_that_fails_is_told_to_all(comm):
    duplicate = comm.Dup()
    last = comm.size - 1
    with pytest.raises(ValueError if comm.rank == last else RemoteError, match="on one rank") as caught:
        with together(duplicate):
            duplicate.allreduce(1)
            if comm.rank == last:
                class Local(ValueError):
                    pass
                raise Local("on one rank")
    if comm.size > 1:
        assert f"On rank {last} of {comm.size}" in caught.value.__notes__[0] and __file__ in caught.value.__notes__[0]
        with pytest.raises(BrokenCommunicatorError, match=r"comm=comm.Dup\(\)"):
            dd.linearize(f_of_many, np.ones(3), comm=duplicate)
        require_sound(duplicate.Dup())
    duplicate.Free()


def test_all_ranks_raise_the_lowest_failing_ranks_error(comm):
    duplicate = comm.Dup()
    with pytest.raises(ConvergenceError, match="rank 0"), together(duplicate):
        raise ConvergenceError("rank 0") if comm.rank == 0 else KeyError(comm.rank)
    require_sound(duplicate)  # all failed: nothing is on its way
    duplicate.Free()


def test_a_solver_that_fails_on_one_rank(comm, monkeypatch):
    """After its last message: the others end their solve, and learn of it."""
    duplicate = comm.Dup()
    with dd.linearize(f_of_many, np.ones(12), comm=duplicate, method="sweep", partition="axes", min_block=1) as lin:
        lin.vjp(1.0)
        solve = Sweep.adjoint

        def failing(self, ybar):
            result = solve(self, ybar)
            if comm.rank == comm.size - 1:
                raise MemoryError("no room")
            return result

        monkeypatch.setattr(Sweep, "adjoint", failing)
        with pytest.raises(MemoryError, match="no room"):
            lin.vjp(1.0)
        monkeypatch.undo()
        if comm.size > 1:
            with pytest.raises(BrokenCommunicatorError):
                lin.vjp(1.0)
    duplicate.Free()


HANGING = """
import numpy as np, distdiff as dd, sys
from distdiff import comm as agreement
from distdiff import linearization, position, solving
from distdiff.solvers.passes import Passes
from mpi4py import MPI
agreement.PATIENCE = 0.5
where, name = PLACE
right = getattr(where, name)
def failing(*args, **more):
    if MPI.COMM_WORLD.rank == 1:
        raise RuntimeError("a bug on rank 1")
    return right(*args, **more)
setattr(where, name, failing)
def f(x):
    for _ in range(3):
        x = x * np.roll(x, 1)
    return x
with dd.linearize(f, np.ones(8), method="substitution", partition="axes", min_block=1) as lin:
    lin.jvp(np.ones(8))
    lin.report()
"""


@pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="starts ranks of its own")
@pytest.mark.parametrize("place", [
    "Passes, 'forward'", "solving, 'count_work'", "position, 'Spread'", "linearization, 'gather'"])
def test_a_rank_that_others_wait_for_ends_the_job(tmp_path: Path, place: str):
    """In a solve, while everything is set up, in the report: no rank is left waiting for ever."""
    from test_cli import fresh_environment

    (tmp_path / "hanging.py").write_text(HANGING.replace("PLACE", place))
    mpirun = shutil.which("mpirun")
    assert mpirun is not None, "no mpirun on PATH"
    done = subprocess.run([mpirun, "-n", "2", sys.executable, "hanging.py"], cwd=tmp_path, text=True,
                          capture_output=True, timeout=60, env=fresh_environment())
    assert done.returncode != 0
    assert "RuntimeError: a bug on rank 1" in done.stderr and "rank 1 of 2 failed as above" in done.stderr


def test_patience_is_finite():
    assert 1.0 <= agreement.PATIENCE <= 600.0


def test_krylov_says_why(comm):
    p, system = system_of(comm, dag([(i, i - 1) for i in range(1, 40)], 40, 1, [39]))
    solver = Krylov(system, {"ksp_max_it": 1, "pc_type": "none"})
    with pytest.raises(ConvergenceError, match="DIVERGED_MAX_IT.*componentwise residual"):
        solver.tangent(np.ones(len(system.inputs.ids)))
    solver.close()
    system.close()


@pytest.mark.few_ranks  # an iteration of PETSc's, whatever the ranks
@pytest.mark.parametrize("iterations", [80, 90, 100, 110])
@pytest.mark.parametrize("backwards", [False, True])
def test_an_iteration_that_ended_early_is_no_rounding(comm, iterations, backwards):
    """Paths without signs add up to 1e25 here, beside which a residual as large as the solution seems to be nothing."""
    def heat(u):
        for _ in range(100):
            u = u + 0.2 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1))
        return u

    options = {"ksp_type": "richardson", "pc_type": "jacobi", "ksp_max_it": iterations}
    with dd.linearize(heat, np.linspace(0.1, 1.0, 12), comm=comm, method="petsc", preaccumulate=False, options=options,
                      on_failure="raise") as lin:
        with pytest.raises(ConvergenceError, match="componentwise residual"):
            (lin.vjp if backwards else lin.jvp)(np.ones(12))
    with dd.linearize(heat, np.linspace(0.1, 1.0, 12), comm=comm, method="petsc", preaccumulate=False,
                      options=options) as lin:
        with warned(comm, "method 'petsc' failed"):
            np.testing.assert_allclose((lin.vjp if backwards else lin.jvp)(np.ones(12)), np.ones(12), rtol=1e-12)
