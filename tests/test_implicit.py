"""Implicit statements inside functions: against closed forms and differences; any method, order and ranks."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from mpi4py import MPI

import distdiff as dd
from distdiff import blocks, solvers
from distdiff.errors import BranchChangedError, ConvergenceError, InputError, SingularError
from distdiff.implicit import equation, fixed_point, linear_solve, minimize, root
from distdiff.tape import Joint

pytestmark = pytest.mark.timeout(90)

SPARSE = sp.diags([-np.ones(4), 2.5 * np.ones(5), -np.ones(4)], [-1, 0, 1]).tocsr()
ROWS = np.r_[np.arange(5), np.arange(4), np.arange(1, 5)]
COLUMNS = np.r_[np.arange(5), np.arange(1, 5), np.arange(4)]


def cubic(x):
    return root(lambda x, y: y**3 + y * x[0] - x[1], x, 1.0) * x[1]


def surroundings(x):
    """What the residual reads: given to it or found around it, nested, scalars of a loop."""
    a, c, s = np.sin(x[0]), x[1:4] * x[2], 0.0
    for k in range(3):
        s = s + a * x[k]
    y = root(lambda p, y: {"u": y["u"]**3 + a * y["u"] - c - p["s"], "v": y["v"] - a * np.sum(y["u"]) * p["k"][0]},
             {"s": s, "k": (x[1], None)}, {"u": np.ones(3), "v": 0.5})
    return y["v"] * np.sum(y["u"] * x[:3])


def equilibrium(x):
    """A layer of a network, iterated to its end."""
    A, b = 0.15 * x[:9].reshape(3, 3), x[9:12]
    z = fixed_point(lambda p, z: np.tanh(p[0] @ z + p[1]), (A, b), np.zeros(3))
    return np.sum(z**2)


def dense(x):
    A = x[:9].reshape(3, 3) + 4 * np.eye(3)
    return linear_solve(A, np.stack([x[9:12], x[1:4]], 1)) * x[0]


def sparse(x):
    values = np.concatenate([3 + x[:5]**2, x[:4] * 0.5, x[1:5]])
    y = linear_solve((values, (ROWS, COLUMNS)), linear_solve(SPARSE, x[3:8]))
    return y * x[:5]


def operator(x):
    b = {"a": x[2:6], "b": x[6]}
    return linear_solve(lambda u: {"a": 3 * u["a"] + x[0] * np.roll(u["a"], 1) + u["b"],
                                   "b": u["b"] * x[1] - u["a"][0]}, b)["a"]


def bilevel(x):
    """The best weights for a penalty, judged by something else."""
    w = minimize(lambda p, w: np.sum((p[0] @ w - p[1])**2) + np.exp(p[2]) * np.sum(w**2) + 0.1 * np.sum(w**4),
                 (x[:6].reshape(3, 2), x[6:9], x[9]), np.zeros(2))
    return np.sum((w - 0.3)**2)


def nested(x):
    def outer(p, y):
        z = root(lambda q, z: z**3 + z - q * p[0], y, y)
        return y - 0.3 * np.cos(z) * p[1]
    return root(outer, x, 0.1) * x[0]


def steps(x):
    u = x[:4]
    for _ in range(4):
        u = root(lambda u, v: v - u + 0.1 * (v**3 - x[4] * np.roll(v, 1)), u, u)
    return u


def kinked(x):
    return root(lambda x, y: y + (y - 0.25 if y > 0.5 else y**2) - x[0], x, 0.0) * x[1]


def shared(x):
    """Intermediate results with several uses stay rows of the equation."""
    def R(p, y):
        e, m = np.exp(y), np.mean(y)
        return e + 0.5 * np.roll(e, 1) * m + y * m - p
    return root(R, 2.0 + x, np.zeros(4))


POINT = np.random.default_rng(0).uniform(0.5, 1.5, 20)
CASES = {f.__name__: (f, POINT[:n]) for f, n in (
    (cubic, 2), (surroundings, 4), (equilibrium, 12), (dense, 12), (sparse, 8), (operator, 7), (bilevel, 10),
    (nested, 2), (steps, 5), (kinked, 2), (shared, 4))}
ON_RANKS = ("surroundings", "nested", "steps", "shared", "bilevel")
METHODS = ("sweep", "substitution", "krylov", "direct")
OTHERS = tuple(name for name in solvers.METHODS if name not in (*METHODS, "neumann"))


def differences(f, x, h=1e-5):
    columns = [(np.asarray(f(x + h * e)) - np.asarray(f(x - h * e))) / (2 * h) for e in np.eye(len(x))]
    return np.moveaxis(np.array(columns), 0, -1)


def spread(comm):
    return {"comm": comm, **({"partition": "axes", "min_block": 1} if comm.size > 1 else {})}


def test_unknowns_that_stay_zero_for_a_step():
    """Newton's first step leaves some where they are, at zero, and so says nothing of their size."""
    def f(x):
        y = root(lambda x, y: [y[0] - x, y[1] - y[0]**2, y[2] - y[1] * y[0]], x, [np.zeros(3)] * 3)
        return y[2]

    x = np.array([0.5, -1.5, 2.0])
    np.testing.assert_allclose(f(x), x**3, rtol=1e-12)
    np.testing.assert_allclose(dd.jacobian(f)(x), np.diag(3 * x**2), rtol=1e-12)


def test_a_matrix_that_is_not_square_is_told_of():
    for A, b in ((np.ones((3, 4)), np.ones(3)), (np.ones((4, 4)), np.ones(3)), (sp.csr_matrix(np.eye(3)), np.ones(4))):
        with pytest.raises(InputError, match="must be square, with as many rows as b"):
            linear_solve(A, b)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.mpi if name in ON_RANKS else ())
                                  for name in CASES])
def test_every_method_in_both_directions(comm, name):
    f, x = CASES[name]
    expected = comm.bcast(differences(f, x) if comm.rank == 0 else None)
    methods = {"shared": (*METHODS, *OTHERS), **dict.fromkeys(ON_RANKS[:3], METHODS)}
    for method in methods.get(name, METHODS[:2]):
        with dd.linearize(f, x, method=method, **spread(comm)) as lin:
            J = lin.jacobian()
            np.testing.assert_allclose(J, expected, rtol=1e-8, atol=1e-8)
            v, w = np.cos(np.arange(len(x))), np.sin(1.0 + np.arange(np.size(lin.value))).reshape(np.shape(lin.value))
            np.testing.assert_allclose(lin.jvp(v), J @ v, rtol=1e-11, atol=1e-12)
            np.testing.assert_allclose(lin.vjp(w), np.tensordot(w, J, np.ndim(w)), rtol=1e-11, atol=1e-12)
            lin.update(1.02 * x)  # solved anew from the first guess
            assert lin.retraces == 0
            moved = lin.jacobian()
        with dd.linearize(f, 1.02 * x, method=method, **spread(comm)) as lin:
            np.testing.assert_allclose(moved, lin.jacobian(), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.mpi if name == "surroundings" else ())
                                  for name in CASES])
def test_second_derivatives(comm, name):
    f, x = CASES[name]

    def F(x):
        return np.sum(np.sin(f(x)))

    v = np.cos(np.arange(len(x)))
    g = [dd.grad(F, **spread(comm))(x + h * v) for h in (1e-5, -1e-5)]
    for method in ("sweep", "substitution"):
        H = dd.hvp(F, (x,), (v,), method=method, **spread(comm))
        np.testing.assert_allclose(H, (g[0] - g[1]) / 2e-5, rtol=1e-7, atol=1e-7)
    both = dd.jvp(lambda x: dd.jvp(F, (x,), (v,))[1], (x,), (v,), comm=comm)[1]  # forward over forward
    np.testing.assert_allclose(both, v @ H, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_without_writing_partials_out(name, monkeypatch):
    """GMRES with sweeps, equations in equations included."""
    f, x = CASES[name]
    J, H = dd.jacobian(f)(x), dd.hvp(lambda x: np.sum(f(x)), (x,), (np.sin(x),))
    monkeypatch.setattr(equation, "ENTRIES", -1)
    np.testing.assert_allclose(dd.jacobian(f)(x), J, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(dd.jacobian(f, method="substitution")(x), J, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(dd.hvp(lambda x: np.sum(f(x)), (x,), (np.sin(x),)), H, rtol=1e-8, atol=1e-9)


def test_gmres_that_gets_nowhere_says_so(monkeypatch):
    monkeypatch.setattr(equation, "ENTRIES", -1)
    monkeypatch.setattr(equation, "BASIS", 3)
    monkeypatch.setattr(equation, "RESTARTS", 2)
    with pytest.raises(ConvergenceError, match=r"gmres.*test_implicit.py:\d+.*2 x 3 iterations \(20 unknowns"):
        dd.grad(lambda x: np.sum(linear_solve(lambda y: np.roll(y, 1), x)))(np.arange(20.0))


@pytest.mark.mpi
def test_closed_forms(comm):
    x = np.array([1.3, 0.7])
    y, g = dd.value_and_grad(lambda x: root(lambda x, y: y**2 - x[0] * x[1], x, 1.0), comm=comm)(x)
    assert abs(y - np.sqrt(x[0] * x[1])) < 1e-14
    np.testing.assert_allclose(g, [x[1] / (2 * y), x[0] / (2 * y)], rtol=1e-13)
    third = dd.grad(dd.grad(dd.grad(lambda x: root(lambda x, y: y**2 - x, x, 1.0))), comm=comm)(1.3)
    np.testing.assert_allclose(third, 0.375 * 1.3**-2.5, rtol=1e-12)
    a, b = np.random.default_rng(1).uniform(0.5, 1.5, (2, 3, 3))
    J = dd.jacobian(lambda b: linear_solve(a, b), comm=comm)(b)
    np.testing.assert_allclose(J, np.einsum("ij,kl->ikjl", np.linalg.inv(a), np.eye(3)), rtol=1e-9, atol=1e-11)


def test_the_first_guess_counts_only_as_such(comm):
    def f(x):
        return root(lambda x, y: y**2 - x[0], x, x[1]**2) + x[1]

    np.testing.assert_allclose(dd.grad(f, comm=comm)(np.array([1.3, 2.0])), [0.5 / np.sqrt(1.3), 1.0], rtol=1e-12)
    with dd.linearize(f, np.array([1.3, 2.0]), comm=comm) as lin:
        assert abs(lin.update(np.array([1.44, -0.1])) - 1.1) < 1e-12
    g = dd.grad(lambda x: root(lambda x, y: y**2 - x[0], x, -1 * x[1] * x[1]), comm=comm)(np.array([1.3, 2.0]))
    np.testing.assert_allclose(g, [-0.5 / np.sqrt(1.3), 0.0], rtol=1e-12)  # but it says which root


@pytest.mark.mpi
def test_what_the_trace_solved_is_not_solved_again(comm, monkeypatch):
    """At its own point ranks make sure of the solution, by a Newton step; elsewhere they start from the first guess."""
    taken, step = [], equation.Equation.step
    monkeypatch.setattr(equation.Equation, "step", lambda self, r, anew=True: (taken.append(1), step(self, r, anew))[1])
    x = np.array([3.0, 0.4])

    def f(x):
        return root(lambda x, y: np.sin(y) - x[1], x, x[0])  # near pi

    def ready(lin):
        return comm.allreduce(len(taken)) if lin is not None else comm.allreduce(taken.clear() or 0)

    ready(None)
    with dd.linearize(f, x, comm=MPI.COMM_SELF) as one:  # as the trace takes, and nothing after it
        traced, expected = ready(one) // comm.size, one.value
    ready(None)
    with dd.linearize(f, x, **spread(comm)) as lin:
        assert ready(lin) == traced + (comm.size > 1) and traced > 2
        steps = [item.op.steps for item in lin._at.local.items if isinstance(item, Joint) and item.op.implicit]
        assert all(step >= traced // 2 for step in steps)  # by which layouts are weighed
        np.testing.assert_allclose(lin.value, expected, rtol=1e-14)
        ready(None)
        lin.update(np.array([0.3, 0.41]))
        np.testing.assert_allclose(lin.value, np.arcsin(0.41), rtol=1e-14)
        assert ready(lin) > 2
    tape = dd.trace(f, np.array([0.3, 0.4]))  # the other solution
    with dd.linearize(lambda x: 2.0 * tape(x), x, **spread(comm)) as lin:
        np.testing.assert_allclose(lin.value, 2.0 * expected, rtol=1e-14)
    with dd.linearize(tape, x, **spread(comm)) as lin:
        np.testing.assert_allclose(lin.value, expected, rtol=1e-14)


def test_plain_calls_are_solvers():
    assert abs(root(lambda x, y: y**2 - x, 2.0, 1) - np.sqrt(2.0)) < 1e-14
    assert abs(fixed_point(lambda x, y: np.cos(y), None, 0.5) - 0.7390851332151607) < 1e-14
    np.testing.assert_allclose(linear_solve(SPARSE, np.ones(5)), np.linalg.solve(SPARSE.toarray(), np.ones(5)))
    y = minimize(lambda x, y: (y[0] - 1)**2 + 100 * (y[1] - y[0]**2)**2, None, np.array([-1.2, 1.0]))
    np.testing.assert_allclose(y, [1.0, 1.0], rtol=1e-12)
    y = root(lambda x, y: {"u": y["u"]**2 - x, "v": (y["v"][0] - y["u"],)}, 2.0, {"u": 1, "v": (np.ones(()),)})
    assert abs(y["v"][0] - np.sqrt(2.0)) < 1e-14 and set(y) == {"u", "v"}


@pytest.mark.parametrize("method", ["newton", "hybr", "lm", "broyden1", "anderson", "krylov", "df-sane", "snes"])
def test_ways_to_a_root(method):
    def f(x):
        return np.sum(root(lambda x, y: y**3 + y * x - 1.0, x, 0.5 * np.ones(3), method=method))

    x = POINT[:3]
    np.testing.assert_allclose(dd.grad(f)(x), differences(f, x), rtol=1e-8)


@pytest.mark.parametrize("method", ["bfgs", "l-bfgs-b", "cg", "trust-ncg", "newton"])
def test_ways_to_a_minimum(method):
    def f(x):
        return np.sum(minimize(lambda x, y: np.sum(np.cosh(y - x)) + np.sum(y**2), x, 0.5 * np.ones(3), method=method))

    x = POINT[:3]
    np.testing.assert_allclose(dd.grad(f)(x), differences(f, x), rtol=1e-7)


def test_fixed_points_that_attract_are_preferred():
    """y = y^3/2 + x has three; Newton's method alone finds the one that is nearest on its way."""
    assert abs(fixed_point(lambda x, y: 0.5 * y**3 + x, 0.1, 1.3) - 0.10051) < 1e-4
    assert fixed_point(lambda x, y: 0.5 * y**3 + x, 0.1, 1.35, method="newton") > 1.3
    assert abs(fixed_point(lambda x, y: x * y + 1.0, -3.0, 0.0) - 0.25) < 1e-14  # one that repels, where it is the only


@pytest.mark.mpi
def test_decisions_at_the_solution(comm):
    """The branch on the way does not count; another one at the solution means a new trace."""
    with dd.linearize(kinked, np.array([0.3, 1.0]), **spread(comm)) as lin:
        assert lin.retraces == 0
        for x0, retraces in ((0.4, 0), (1.5, 1), (1.6, 1), (0.3, 2)):
            lin.update(np.array([x0, 1.0]))
            y = (x0 + 0.25) / 2 if x0 > 0.75 else np.sqrt(0.25 + x0) - 0.5
            assert abs(lin.value - y) < 1e-13 and lin.retraces == retraces
            np.testing.assert_allclose(lin.vjp(1.0)[0], 1 / (2.0 if x0 > 0.75 else 1 + 2 * y), rtol=1e-12)
    with dd.linearize(kinked, np.array([0.3, 1.0]), on_branch_change="raise", **spread(comm)) as lin:
        with pytest.raises(BranchChangedError, match="test_implicit"):
            lin.update(np.array([1.5, 1.0]))

    def gap(x):  # where the recorded branch has no solution, another may have one
        return root(lambda x, y: (y**2 + 1 if y < 1 else y) - x[0], x, 0.5)

    with dd.linearize(gap, np.array([1.25]), comm=comm) as lin:
        with pytest.raises(ConvergenceError):
            lin.update(np.array([0.5]))
        assert abs(lin.update(np.array([1.49])) - 0.7) < 1e-12


@pytest.mark.parametrize("residual, y0, error, match", [
    (lambda x, y: y**2 + x[0], 0.3, ConvergenceError, r"test_implicit.py:\d+.*residual 1.3"),
    (lambda x, y: np.exp(-y) + 0.0 * x[0], 1.0, ConvergenceError, r"after 100 iterations.*relative error.*> tol"),
    (lambda x, y: np.log(y) - x[0], -1.0, ConvergenceError, "not finite; start from another y0"),
    (lambda x, y: x[0] * 1.0, 0.3, ConvergenceError, r"dR/dy \(1 x 1\) is singular"),
    (lambda x, y: np.stack([y, y]), 0.3, InputError, "2 residuals for 1 unknowns"),
    (lambda x, y: y, np.zeros(0), InputError, "nothing to solve for")])
def test_what_can_not_be_solved(comm, residual, y0, error, match):
    with pytest.raises(error, match=match):
        dd.grad(lambda x: root(residual, x, y0), comm=comm)(np.array([1.3, 0.7]))


@pytest.mark.mpi
def test_singular_systems_and_wrong_minima(comm):
    x = np.array([1.3, 0.7])
    with pytest.raises(SingularError, match=r"test_implicit.py:\d+.*dR/dy \(2 x 2\)"):
        dd.grad(lambda x: np.sum(linear_solve(np.stack([x, x]), x)), comm=comm)(x)
    # A double root at which the trace begins: nothing to solve, and no derivative.
    for method in METHODS:
        with pytest.raises(SingularError, match=r"test_implicit.py:\d+.*no derivative"):
            dd.grad(lambda x: root(lambda x, y: (y - x[0])**2, x, 1.3), comm=comm, method=method)(x)
    for objective in (lambda x, y: -(y - x[0])**2, lambda x, y: y**2 - x[0] * (y - 1.0)**2 * 2):
        with pytest.raises(ConvergenceError, match="no minimum|above the first guess"):
            dd.grad(lambda x, f=objective: minimize(f, x, 0.9, method="newton"), comm=comm)(x)
    for wrong in ({"method": "nonsense"}, {"tol": 0.0}, {"tol": "1e-9"}, {"max_iterations": 0},
                  {"max_iterations": 9.5}):
        with pytest.raises(InputError, match="choose one of|tolerance|at least one"):
            root(lambda x, y: y, None, 1.0, **wrong)
    with pytest.raises(InputError, match="wants both alike"):
        fixed_point(lambda x, y: (y, y), None, 1.0)


@pytest.mark.parametrize("n, what", [  # in a compiled loop, dense, sparse
    (8, "equations"), (8, "unknowns"), (8, "both"), (30, "both"), (70, "both")])
def test_units_are_nothing_to_an_equation(n, what):
    """Equations and unknowns of sizes from 1e-15 to 1e15: first and second derivatives are those without units."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal(n)
    of_rows, of_columns = (10.0**rng.permutation(np.linspace(-15, 15, n)) if what in (which, "both") else np.ones(n)
                           for which in ("equations", "unknowns"))

    def loss(rows, columns):
        def residual(x, y):
            z = columns * y
            return rows * (z + z**3 + 0.1 * np.roll(z, 1) - x)
        return lambda x: np.sum((columns * root(residual, x, np.zeros(n)))**2)

    scaled, plain = loss(of_rows, of_columns), loss(np.ones(n), np.ones(n))
    np.testing.assert_allclose(dd.grad(scaled)(x), dd.grad(plain)(x), rtol=1e-9)
    np.testing.assert_allclose(dd.hvp(scaled, (x,), (x,)), dd.hvp(plain, (x,), (x,)), rtol=1e-9)


@pytest.mark.mpi
@pytest.mark.parametrize("size", [1e6, 1e9, 1e19])
@pytest.mark.parametrize("solve", [
    lambda r, x: root(r, x, np.zeros(2)), lambda r, x: root(r, x, np.zeros(2), method="hybr"),
    lambda r, x: fixed_point(lambda x, y: y - np.stack([1.0, 0.25]) * r(x, y), x, np.zeros(2))])
def test_a_large_unknown_says_nothing_of_others(comm, size, solve):
    """It is there at once, and a step of 1 is nothing beside it; what it is beside of isn't."""
    def f(x):
        return solve(lambda x, y: np.stack([y[0] - size * x[0], y[1]**3 + y[1] - x[1]]), x)

    x, y = np.array([1.0, 3.0]), 1.2134116627622296
    with dd.linearize(f, x, comm=comm) as lin:
        np.testing.assert_allclose(lin.value, [size, y], rtol=1e-12)
        np.testing.assert_allclose(lin.jacobian(), np.diag([size, 1.0 / (3.0 * y * y + 1.0)]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("residual, x, y0", [
    (lambda x, y: y * y - x, 0.0, 1.0),
    (lambda x, y: y * y - x, 1e-30, 1.0),  # not one, but nearer to one than what is accepted
    (lambda x, y: y * y - 2.0 * y + 1.0 - x, 0.0, 3.0),  # near it there is nothing but rounding
    (lambda x, y: (y - x)**3, 0.3, 1.0),
    (lambda x, y: np.stack([y[0]**2 - x, 3.0 * y[1] - y[0] - np.sin(y[1])]), 0.0, np.ones(2))])
def test_multiple_roots_have_no_derivative(residual, x, y0):
    """Newton's steps to one are halves of each other, and what they end at is none, nor its 1e12 a derivative."""
    with pytest.raises(SingularError, match=r"test_implicit.py:\d+.*multiple root"):
        dd.jacobian(lambda x: root(residual, x, y0))(x)


@pytest.mark.parametrize("residual, x, y0, y, slope", [
    (lambda x, y: y * y - x, 1e-20, 1.0, 1e-10, 0.5e10),  # simple, if only just
    (lambda x, y: y * y - x, 2.0, 1e9, np.sqrt(2.0), np.sqrt(0.125)),  # halves, from far away
    (lambda x, y: np.exp(y) - x, 3.0, 20.0, np.log(3.0), 1.0 / 3.0),
    (lambda x, y: y**3 - x, 1e-9, 1.0, 1e-3, 1e6 / 3.0)])
def test_simple_roots_that_take_many_steps(residual, x, y0, y, slope):
    found, derivative = dd.value_and_grad(lambda x: root(residual, x, y0))(x)
    np.testing.assert_allclose([found, derivative], [y, slope], rtol=1e-9)


@pytest.mark.mpi
def test_a_replay_that_fails_fails_everywhere(comm):
    with dd.linearize(lambda x: root(lambda x, y: y**2 - x[0], x, 1.0), np.array([2.0]), comm=comm) as lin:
        with pytest.raises(ConvergenceError, match="test_implicit"):
            lin.update(np.array([-1.0]))
        assert abs(lin.update(np.array([4.0])) - 2.0) < 1e-14


UNSOLVABLE = {  # f and where it has no solution, so that only the first point has
    "root": lambda x: root(lambda x, y: y**2 + 1.0 - x[0], x, 1.0),
    "fixed_point": lambda x: fixed_point(lambda x, y: y + 0.1 * (x[0] - y**2), x, 1.0),
    "linear_solve": lambda x: linear_solve(np.array([[1.0, 1.0], [1.0, 1.0]]) + (x[0] - 1.0) * np.eye(2), x[:2]),
    "minimize": lambda x: minimize(lambda x, y: np.sum((x[0] - 1.0) * (y - 0.3)**2), x, np.ones(1), method="newton"),
}


@pytest.mark.mpi
@pytest.mark.parametrize("name", UNSOLVABLE)
@pytest.mark.parametrize("method", ["sweep", "substitution"])
def test_no_derivative_without_a_solution(comm, name, method):
    """Forward, and where a tape is replayed, on every rank; and a point that has a solution is none the worse."""
    f = UNSOLVABLE[name]
    first = {"root": 0.0, "fixed_point": -4.0, "linear_solve": 1.0, "minimize": 0.5}
    good, bad = np.array([2.0, 0.5]), np.array([first[name], 0.5])
    with pytest.raises((ConvergenceError, SingularError), match="test_implicit"):
        dd.linearize(f, bad, comm=comm, method=method)
    with dd.linearize(f, good, comm=comm, method=method, on_branch_change="raise") as lin:
        expected = lin.jacobian()
        with pytest.raises((ConvergenceError, SingularError), match="test_implicit"):
            lin.update(bad)
            lin.jacobian()  # where a linear system is singular, this is the first to know
        with pytest.raises((ConvergenceError, SingularError, InputError)):
            lin.jacobian()
        lin.update(good)
        np.testing.assert_allclose(lin.jacobian(), expected, rtol=1e-9)


@pytest.mark.mpi
def test_what_the_equation_leaves_behind(comm):
    """Values that the residual stores elsewhere are those at the solution, and have their derivatives."""
    x = np.array([1.3, 0.7, 2.0])

    def f(x):
        kept, buffer = [], np.zeros(3)
        buffer[:] = x

        def R(_, y):
            kept.append(3.0 * y)
            buffer[0] = 2.0 * y
            return y**2 - buffer[1]

        return root(R, None, 1.0) + kept[-1] + buffer[0]

    np.testing.assert_allclose(dd.grad(f, comm=comm)(x), [0.0, 3.0 / np.sqrt(0.7), 0.0], rtol=1e-12)

    def irregular(x):  # reading puts large arrays that are read irregularly into order
        big = np.outer(x, np.arange(100.0))
        y = root(lambda _, y: y - 0.001 * np.sum(big.T.ravel()[::7][:10]) - 0.1 * y**2, None, 1.0)
        return y + np.sum(big.ravel()[3::11])

    v = np.array([0.3, -1.0, 0.5])
    expected = (irregular(x + 1e-5 * v) - irregular(x - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(dd.grad(irregular, comm=comm)(x) @ v, expected, rtol=1e-8)


def test_the_tape_holds_the_statement_alone():
    tape = dd.trace(cubic, np.array([1.3, 2.0]))
    assert len(tape.items) == 2 and tape.items[0].op.name == "implicit" and not tape.guards
    assert tape.n_nodes == 2 + 2 + 1  # inputs, y and whether it was found, the product


def test_a_tape_with_an_equation_is_a_function():
    """It is written anew without what nothing reads, and knows its arguments all the same."""
    def f(a, u):
        return np.sum(a * root(lambda u, v: v + v**3 - u, u, np.zeros(3)))

    args = 2.0, np.array([0.5, 1.0, 1.5])
    tape = dd.trace(f, *args, argnums=(0, 1))
    if tape.blocks:  # rank 0 has it
        assert tape(*args) == pytest.approx(f(*args), rel=1e-12)


def test_where_a_nan_begins_after_an_equation():
    def f(x):
        y = root(lambda x, y: y**2 * x[0] * 2.0 * x[1] - x[0], x, 1.0)
        d = (x[0] + x[1]) * 2.0
        t = (d - d) / (x[1] - 0.7)
        return t * 2.0 + y

    line = f.__code__.co_firstlineno + 3
    with pytest.raises(dd.DistdiffError, match=f"divide is nan at .*test_implicit.py:{line} "):
        dd.grad(f)(np.array([1.3, 0.7]))


def poisson(n):
    """-u'' + p u^3 = q on a square of n x n points."""
    def R(p, u):
        r = 4.0 * u
        r[1:] -= u[:-1]
        r[:-1] -= u[1:]
        r[:, 1:] -= u[:, :-1]
        r[:, :-1] -= u[:, 1:]
        return r * (n + 1)**2 / 100 + p[0] * u**3 - p[1]

    return lambda x: np.sum(root(R, (x[0], x[1:].reshape(n, n)), np.zeros((n, n)))**2)


@pytest.mark.mpi
def test_a_large_sparse_equation(comm, monkeypatch):
    n = 48
    x = np.random.default_rng(2).uniform(0.5, 1.5, n * n + 1)
    f = poisson(n)
    with dd.linearize(f, x, comm=comm) as lin:
        g = lin.vjp(1.0)
        assert lin._solving.assembly is None
    v = np.cos(np.arange(len(x)))
    h = 1e-4
    np.testing.assert_allclose(g @ v, (f(x + h * v) - f(x - h * v)) / (2 * h), rtol=1e-7)
    with dd.linearize(f, x, comm=comm, method="substitution") as lin:  # its rows are those of the equation
        np.testing.assert_allclose(lin.vjp(1.0), g, rtol=1e-9, atol=1e-12)
        system = lin._solving.assembly.system
        assert system.cyclic and system.nnz < 10 * len(x)
        sizes = comm.allreduce(list(system.components.stop - system.components.first))
        assert sizes == [n * n]


@pytest.mark.mpi
def test_rows_of_equations_in_the_assembled_system(comm):
    """A pointwise equation is as many components as points, and dR/dy has the places that R gives it."""
    def f(x):
        return root(lambda x, y: y**3 + y - x, x, np.ones(40))

    with dd.linearize(f, np.linspace(0.5, 2.0, 40), comm=comm, method="substitution") as lin:
        y = lin.value
        np.testing.assert_allclose(lin.vjp(np.ones(40)), 1.0 / (3 * y**2 + 1.0), rtol=1e-12)
        system = lin._solving.assembly.system
        assert comm.allreduce(len(system.components.first)) == 40
        info = lin._solving.solvers["substitution"].info
        assert info["blocks"] == 40 and info["largest_block"] == 1
        assert all(isinstance(found, blocks.Range) for found in system.blocks)
        assert {c.method for c in lin.choice.candidates if c.seconds is None} >= {"neumann"}
    with pytest.raises(InputError, match="implicit statements.*substitution"):
        dd.grad(lambda x: np.sum(f(x)), method="neumann", comm=comm)(np.linspace(0.5, 2.0, 40))


def test_no_petsc_and_no_numba_for_a_small_root():
    import subprocess
    import sys

    code = ("import sys, numpy as np, distdiff as dd; f = lambda x: dd.implicit.root(lambda x, y: y**3 - x[0], x, 1.0);"
            "g = dd.grad(f)(np.array([8.0])); assert abs(g[0] - 1 / 12) < 1e-14;"
            "started = [m for m in ('petsc4py.PETSc', 'numba', 'scipy.optimize') if m in sys.modules];"
            "assert not started, started")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
