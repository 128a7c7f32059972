"""Equations that ranks share: residual lines cut like others, one matrix over all ranks, against one rank alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from methods import told
from mpi4py import MPI

import distdiff as dd
from distdiff import spanning
from distdiff.errors import ConvergenceError, InputError, SingularError
from distdiff.implicit import fixed_point, linear_solve, minimize, root, shared
from distdiff.solvers.layouts import Use
from distdiff.spanning import SpanningBlock

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(120)]

N = 5


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    monkeypatch.setattr(shared, "UNKNOWNS", 5)


@pytest.fixture(autouse=True)
def few_on_many_ranks(comm, request):
    """What two and three ranks can't show: parts without a row, and neighbours on both sides."""
    shown = ("against_one_rank[coupled", "changes", "blocks")
    if comm.size > 3 and not any(name in request.node.name for name in shown):
        pytest.skip("two and three ranks show it")


def poisson(x):
    """Five points, a parameter of rank 0's, a sum that every rank wants a part of."""
    def R(p, u):
        r = 4.0 * u
        r[1:] -= u[:-1]
        r[:-1] -= u[1:]
        r[:, 1:] -= u[:, :-1]
        r[:, :-1] -= u[:, 1:]
        return 4.0 * r + p[0] * u**3 - p[1]

    u = root(R, (x[0], x[1:].reshape(N, N)), np.zeros((N, N)))
    return np.sum(u**2) + u[3]


def coupled(x):
    """Lines with several uses, a mean over all unknowns, what R finds around it, and units far apart."""
    scale = 10.0**np.linspace(-6, 6, len(x))

    def R(p, y):
        e, m = np.exp(0.1 * y["a"] * scale), np.mean(y["a"] * scale)
        return {"b": y["b"] - m * x[1], "a": (e + 0.5 * np.roll(e, 1) * m + y["a"] * scale - p) / scale**2}

    y = root(R, 2.0 + x, {"a": np.zeros(len(x)), "b": 0.5})
    return y["a"] * scale * y["b"]


def attracted(x):
    z = fixed_point(lambda p, z: np.tanh(0.3 * np.roll(z, 1) + p[0] * np.roll(z, -2) + p[1]), (0.3 * x[:1], x),
                    np.zeros(len(x)))
    return z[::-1] * x


def operator(x):
    return linear_solve(lambda u: 3.0 * u + x[0] * np.roll(u, 1) - np.roll(u, -1), x)


def entries(x):
    """A matrix given by entries, places given."""
    n = len(x)
    rows, columns = np.concatenate([np.arange(n), np.arange(n - 1)]), np.concatenate([np.arange(n), np.arange(1, n)])
    y = linear_solve((np.concatenate([3.0 + x**2, x[1:]]), (rows, columns)), np.stack([x, 1.0 - x], axis=1))
    return np.sum(y, axis=1)


def by_snes(x):
    return root(lambda p, y: y**3 + y * p[0] - np.roll(y, 1) * 0.1 - p, x, np.ones(len(x)), method="snes")


def steps(x):
    """An equation each time step."""
    u = x
    for _ in range(2):
        u = root(lambda u, v: v - u + 0.1 * (v**3 - np.roll(v, 1)), u, u)
    return u


def two_at_once(x):
    """Nothing says which of two is solved first: all ranks must choose alike."""
    a = root(lambda x, y: y**3 + y - np.roll(y, 1) * 0.2 - x, x, np.ones(len(x)))
    b = root(lambda x, y: y + 0.2 * np.sin(np.roll(y, 2)) - x, x[::-1], np.ones(len(x)))
    return np.sum(a) * a[0] + b[2:5]


def decided(x):
    """A branch in R."""
    return root(lambda x, y: y + (0.5 * y if np.sum(y) > 0.0 else y**2) - x, x, np.ones(len(x)))


POINT = np.random.default_rng(0).uniform(0.5, 1.5, N * N + 1)
CASES = {f.__name__: (f, POINT[:n]) for f, n in (
    (poisson, N * N + 1), (coupled, 11), (attracted, 13), (operator, 12), (entries, 9), (by_snes, 10), (steps, 7),
    (two_at_once, 9), (decided, 8))}
SECOND = ("coupled",)


def settings(comm):
    return {"comm": comm, **({"partition": "axes", "min_block": 1} if comm.size > 1 else {})}


def joined(lin):
    return sum(getattr(item.op, "collective", False) for item in lin._at.local.items if hasattr(item, "op"))


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("operator", "entries")])
def test_against_one_rank(comm, name):
    if comm.size == 1:
        pytest.skip("one rank has nothing to share")
    f, x = CASES[name]
    with dd.linearize(f, x, **settings(comm)) as lin, dd.linearize(f, x, comm=MPI.COMM_SELF) as one:
        count = {"steps": 2, "two_at_once": 2}.get(name, 1)
        assert joined(lin) == count
        v, w = np.cos(np.arange(len(x))), np.sin(1.0 + np.arange(np.size(one.value))).reshape(np.shape(one.value))
        for scale in (1.0, 1.02):
            if scale != 1.0:
                lin.update(scale * x)
                one.update(scale * x)
                assert lin.retraces == 0
            np.testing.assert_allclose(lin.value, one.value, rtol=1e-9)
            found = [(lin.jvp(v), one.jvp(v)), (lin.vjp(w), one.vjp(w))]
            if name in SECOND and scale != 1.0:
                found.append((lin.jacobian(), one.jacobian()))
            for mine, theirs in found:
                np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-10 * max(np.abs(theirs).max(), 1.0))


def test_ranks_start_where_the_trace_ended(comm, monkeypatch):
    """At its own point: a step of Newton's method makes sure of the solution."""
    if comm.size == 1:
        pytest.skip("one rank has nothing to share")
    taken, step = [], shared.SharedEquation.step
    monkeypatch.setattr(shared.SharedEquation, "step",
                        lambda self, r, anew=True: (taken.append(anew), step(self, r, anew))[1])
    for name in ("attracted", "by_snes"):
        f, x = CASES[name]
        with dd.linearize(f, x, **settings(comm)) as lin:
            assert len(taken) <= 1  # none where nothing is left of the residual
            lin.update(1.02 * x)
            assert sum(taken) > 2
        taken.clear()


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives(comm, name):
    """Those of an equation are equations again, which ranks share as well."""
    f, x = CASES[name]

    def F(x):
        return np.sum(np.sin(f(x)))

    v = np.cos(np.arange(len(x)))
    with dd.linearize(F, x, **settings(comm)) as lin:
        H = lin.hvp(v)
        assert bool(joined(lin)) == (comm.size > 1)
    expected = dd.hvp(F, (x,), (v,), comm=MPI.COMM_SELF)
    np.testing.assert_allclose(H, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


def test_where_they_lie_is_told(comm):
    f, x = CASES["poisson"]
    with dd.linearize(f, x, **settings(comm)) as lin:
        text = str(lin.report())
        assert ("shared by" in text) == (comm.size > 1)
        if comm.size > 1:
            assert f"equation     25 unknowns at {__file__}" in text and f"shared by {comm.size} ranks" in text
            assert "solved by preonly with lu of" in text and "times the entries expected" in text
    with dd.linearize(f, x, comm=comm) as lin:  # too small to be worth it
        assert not joined(lin)
    with dd.linearize(f, x, solves=Use(once=True), **settings(comm)) as lin:  # as drivers do: no point follows
        assert not joined(lin) and ("a single derivative" in str(lin.report())) == (comm.size > 1)

    def nest(x):
        return root(lambda x, y: y - 0.2 * root(lambda y, z: z + z**3 - y, y, np.zeros(6)) - x, x, np.zeros(6))

    def least(x):
        return minimize(lambda x, y: np.sum(np.cosh(y - x)) + np.sum(y**2), x, np.zeros(6))

    for g, reason in ((nest, "computed together"), (least, "method 'bfgs' for a minimum")):
        with dd.linearize(g, POINT[:6], **settings(comm)) as lin:
            assert not joined(lin) and (reason in str(lin.report())) == (comm.size > 1)


@pytest.mark.parametrize("options", [
    {"component_ksp_type": "fgmres", "component_pc_type": "asm"},
    {"component_pc_factor_mat_solver_type": "superlu_dist"}])
def test_any_solver_of_petscs(comm, options):
    f, x = CASES["operator"]
    w = np.linspace(0.5, 1.0, len(x))
    with dd.linearize(f, x, comm=MPI.COMM_SELF) as one, warnings.catch_warnings():
        warnings.simplefilter("error")
        with dd.linearize(f, x, options=options, **settings(comm)) as lin:
            np.testing.assert_allclose(lin.jvp(x), one.jvp(x), rtol=1e-8)
            np.testing.assert_allclose(lin.vjp(w), one.vjp(w), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["operator", "entries"])
def test_what_would_fill_in_is_iterated(comm, name, monkeypatch):
    """And factorized where that does not converge."""
    if comm.size == 1:
        pytest.skip("one rank has nothing to share")
    monkeypatch.setattr(spanning, "FILL", 0.0)
    f, x = CASES[name]
    with dd.linearize(f, x, comm=MPI.COMM_SELF) as one:
        w = np.ones_like(one.value)
        tangent, adjoint = one.jvp(x), one.vjp(w)
    for most, kind in ((1000, "gmres"), (1, "preonly")):
        monkeypatch.setattr(spanning, "MOST", most)
        with dd.linearize(f, x, **settings(comm)) as lin:
            np.testing.assert_allclose(lin.jvp(x), tangent, rtol=1e-8)
            np.testing.assert_allclose(lin.vjp(w), adjoint, rtol=1e-8, atol=1e-10)
            if name == "operator" or most == 1:
                assert f"solved by {kind} with" in str(lin.report())


def test_options_that_are_wrong(comm, monkeypatch):
    if comm.size == 1:
        pytest.skip("one rank has nothing to share")
    left: list[object] = []
    monkeypatch.setattr(shared.SharedEquation, "close", lambda self, close=shared.SharedEquation.close: (
        left.append(self), close(self)))
    f, x = CASES["operator"]
    with told(comm, "option -distdiff_component_ksp_tpye was not used"):
        dd.linearize(f, x, options={"component_ksp_tpye": "gmres"}, **settings(comm)).close()
    with pytest.raises(InputError, match="PETSc refused the options for equations on several ranks"):
        dd.linearize(f, x, options={"component_ksp_type": "nonsense"}, **settings(comm))
    options = {"component_ksp_type": "richardson", "component_pc_type": "none", "component_ksp_max_it": 3}
    with pytest.raises(ConvergenceError, match=r"richardson with preconditioner none.*test_shared.*component_ksp_type"):
        dd.linearize(f, x, options=options, **settings(comm))
    assert len(left) == 3  # two of them by who failed


@pytest.mark.parametrize("residual, good, bad, error, match", [
    (lambda x, y: y**2 - x, 2.0, -1.0, ConvergenceError, r"test_shared.py:\d+.*start from another y0"),
    (lambda x, y: np.log(y) - np.log(x), 2.0, -1.0, (ConvergenceError, dd.errors.NonFiniteError), "not finite|nan"),
    (lambda x, y: (y - 1.0) * (x[0] - 1.0) + np.sum(y - 1.0), 2.0, 1.0, (ConvergenceError, SingularError), "singular")])
def test_no_derivative_without_a_solution(comm, residual, good, bad, error, match):
    """All ranks say so, and a point that has a solution is none the worse."""
    def f(x):
        return root(residual, x, 1.5 * np.ones(len(x)))

    x = np.full(6, good)
    with dd.linearize(f, x, **settings(comm)) as lin:
        expected = lin.vjp(x)
        with pytest.raises(error, match=match):
            lin.update(np.full(6, bad))
            lin.vjp(x)
        lin.update(x)
        np.testing.assert_allclose(lin.vjp(x), expected, rtol=1e-10)


def test_a_branch_that_changes(comm):
    f, x = CASES["decided"]
    with dd.linearize(f, x, **settings(comm)) as lin:
        lin.update(-0.05 * x)
        assert lin.retraces == 1
        with dd.linearize(f, -0.05 * x, comm=MPI.COMM_SELF) as one:
            np.testing.assert_allclose(lin.vjp(x), one.vjp(x), rtol=1e-9)


def matrix(comm, A):
    """This rank's rows of a dense matrix, and which they are."""
    cuts = np.arange(comm.size + 1) * len(A) // comm.size
    mine = slice(cuts[comm.rank], cuts[comm.rank + 1])
    rows, columns = np.nonzero(A[mine])
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=mine.stop - mine.start))])
    return mine, indptr, columns, A[mine][rows, columns]


def test_blocks_against_dense_solves(comm):
    """In any units, with any number of rows on a rank, in both directions, and refreshed."""
    from distdiff import petsc

    petsc.start(comm)
    rng = np.random.default_rng(3)
    for n in (3, 12):
        B = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.5) + 3.0 * np.eye(n)
        r, c = 10.0**rng.uniform(-9, 9, (2, n))
        mine, indptr, columns, data = matrix(comm, B)
        block = SpanningBlock(comm, indptr, columns, "here")
        for rows, cols in ((np.ones(n), np.ones(n)), (r, c)):
            A = rows[:, None] * B * cols
            block.refresh(matrix(comm, A)[3])
            b = rng.standard_normal((n, 2))
            for transposed, M in ((False, B), (True, B.T)):
                left, right = (cols, rows) if transposed else (rows, cols)
                x = block.solve((left[:, None] * b)[mine], transposed)
                expected = np.linalg.solve(M, b) / right[:, None]
                np.testing.assert_allclose(x, expected[mine], rtol=1e-10)
        for wrong in (0.0 * data, np.where(np.arange(len(data)) == 1, np.nan, data)):
            with pytest.raises(SingularError, match="here.*singular"):
                block.refresh(wrong)
        block.close()
    mine, indptr, columns, data = matrix(comm, np.ones((7, 7)) + 1e-17)
    block = SpanningBlock(comm, indptr, columns, "here")
    with pytest.raises(SingularError, match="here.*singular"):
        block.refresh(data)
        block.require_regular()
    block.close()
