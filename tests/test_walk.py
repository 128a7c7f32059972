"""The walk without a plan: one derivative of a program on small arrays."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import NonFiniteError
from distdiff.evaluate import evaluate
from distdiff.machine import Machine
from distdiff.partition import whole
from distdiff.program import record
from distdiff.solvers import walk as walking
from distdiff.solvers.cost import Work
from distdiff.solvers.layouts import Use
from distdiff.solvers.select import choose

X = np.linspace(0.4, 1.9, 12)
C = np.cos(np.arange(12.0)).reshape(3, 4)


def _stretches(x):
    y = np.zeros(14)
    y[1:-1] = x
    y[1:-1] += 0.1 * (y[2:] - y[:-2])
    return y[::-2] / (1 + y[::2] ** 2)


def _scalars(x):
    s, out = x[0], []
    for k in range(1, 8):
        s = np.sin(s) * x[k] / (1.0 + s * s) if k % 2 else s - 2.0 * x[k]
        out.append(s)
    return np.array(out) * x[:7] + s * x[5]


def _long_run(x):
    a, b = x[0], x[1]
    for _ in range(20):
        a, b = a + 0.1 * b, b - 0.1 * np.sin(a)
    return np.stack([a, b]) * x[:2]


PROGRAMS = {  # statements of every kind, flat and not, that the walk computes itself and that it hands on
    "elementwise": lambda x: np.exp(-x) * x / (2.0 - 0.3 * x) + np.maximum(x, 1.0) ** 3 - 1.0 / x,
    "the same twice": lambda x: x * x + x * (x - x[::-1]),
    "constants": lambda x: np.arange(12.0) * x + x / np.arange(1.0, 13.0) + np.hypot(x, 3.0),
    "numbers over arrays": lambda x: x[3] * x + x / x[2] - np.power(x, x[1]),
    "broadcast": lambda x: (x[:3, None] * x[4:8] + C / x[:4]) ** 2,
    "transposed": lambda x: x.reshape(3, 4).T @ x[:3] + np.sum(x.reshape(4, 3) * C.T, axis=1),
    "sums": lambda x: np.sum(x.reshape(3, 4), axis=0) * np.mean(x) + np.sum(np.sum(x.reshape(3, 4), 1) * 2.0),
    "products": lambda x: x.reshape(3, 4) @ C.T @ x.reshape(3, 4) * (x @ x),
    "a large product": lambda x: np.tanh(np.outer(np.tile(x, 2), x) @ np.outer(x, np.tile(x, 2))),
    "gathered": lambda x: x[[0, 3, 3, 1]] * x[[5, 2, 7, 11]] + np.take(x, [1, 1, 0, 4]),
    "running sums": lambda x: np.cumsum(x * x) * np.cumsum(x.reshape(3, 4), axis=1).reshape(-1),
    "selections": lambda x: np.max(x.reshape(3, 4), axis=0) * np.min(x) + np.sort(x[:4]),
    "windows": lambda x: np.convolve(x, x[:3], "same") + np.convolve(x, C[0], "same"),
    "chosen": lambda x: np.where(x > 1.0, x * x, np.sin(x)),
    "a solve": lambda x: np.linalg.solve(np.eye(3) + 0.1 * np.outer(x[:3], x[3:6]), x[6:9]),
    "stretches": _stretches,
    "scalars": _scalars,
    "a longer run": _long_run,
    "an output twice, an input": lambda x: (x, x[:2], np.sum(x), x),
}


@pytest.mark.mpi
@pytest.mark.parametrize("name", PROGRAMS)
def test_walks_are_solves(name, comm):
    f = PROGRAMS[name]
    how = {"comm": comm, "partition": "contiguous"}
    with dd.linearize(f, X, method="substitution", **how) as plain, dd.linearize(f, X, method="walk", **how) as walk:
        assert walk.choice.method == "walk"
        for x in (X, X[::-1] + 0.05):
            if x is not X:
                plain.update(x)
                walk.update(x)
            _, outputs = plain.nests
            n = sum(int(np.prod(shape)) for shape in outputs.shapes)
            w = outputs.nest(np.sin(1.0 + np.arange(n)))
            for ours, theirs in ((walk.jvp(np.cos(x)), plain.jvp(np.cos(x))), (walk.vjp(w), plain.vjp(w)),
                                 (walk.jacobian(), plain.jacobian())):
                ours, theirs = (t if isinstance(t, tuple) else (t,) for t in (ours, theirs))
                for a, b in zip(ours, theirs):
                    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["auto", "sweep", "substitution", "krylov", "direct", "interface"])
def test_one_of_several_ranks_that_has_it_all_waits_for_nobody(comm, method):
    """A single derivative of a small program: on that rank it is solved for as on one, and walked to."""
    def f(x):
        y = np.sin(x) * x[::-1]
        return np.sum(y * np.exp(-y))

    x = np.linspace(0.2, 1.1, 12)
    expected = dd.grad(f, comm=MPI.COMM_SELF, method="sweep")
    with dd.linearize(f, x, comm=comm, method=method, solves=Use(once=True)) as lin:
        np.testing.assert_allclose(lin.vjp(1.0), expected(x), rtol=1e-12)
        assert lin.choice.method == ("walk" if method == "auto" else method)
        np.testing.assert_allclose(lin.jvp(x), expected(x) @ x, rtol=1e-12)
        report = lin.report(check=True)
        assert (report.messages, report.k_star) == (0, 1) or method == "interface"
        lin.update(0.9 * x)
        np.testing.assert_allclose(lin.vjp(1.0), expected(0.9 * x), rtol=1e-12)
        np.testing.assert_allclose(lin.jacobian(), expected(0.9 * x), rtol=1e-12)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="test_walk.py"):
        dd.grad(lambda x: np.sum(np.log(x - x[0])), comm=comm, method=method)(x)


def test_partials_that_are_not_finite_are_errors():
    for f in (lambda x: np.sum(np.sqrt(x)), lambda x: np.sqrt(x[0]) * 2.0 + x[1]):
        with pytest.raises(NonFiniteError, match="test_walk.py"):
            dd.grad(f, method="walk")(np.arange(5.0))


def _unread(x):
    with np.errstate(divide="ignore"):
        y, s = np.sqrt(x), np.sqrt(x[0])
    return np.sum(np.where(y > 1.2, 2.0, 1.0) * x) + y[1] * y[2] + (x[1] if s > 2.0 else x[2])


def test_lines_that_no_result_reads_may_have_infinite_partials():
    x = np.arange(5.0)
    with dd.linearize(_unread, x, method="substitution") as plain:
        expected = plain.vjp(1.0), plain.jvp(x)
    np.testing.assert_allclose(dd.grad(_unread)(x), expected[0], rtol=1e-14)
    np.testing.assert_allclose(dd.jvp(_unread, (x,), (x,))[1], expected[1], rtol=1e-14)


def _rolled(x):
    y, unread = x, x
    for _ in range(50):
        unread = np.sin(unread)
        y = y - 0.1 * (y - np.roll(y, 1)) * x[3]
    return np.sum(y * y)


def test_an_adjoint_has_memory_while_it_is_alive():
    x = np.linspace(0.5, 1.5, 200)
    traced = record(_rolled, (x,), keep_values="read")
    local = whole(traced.tape)
    walk = walking.Walk(local, evaluate(local, x, MPI.COMM_SELF, known=traced.values), MPI.COMM_SELF)
    visited = []
    walk._flat = lambda i, *args, own=walk._flat: (visited.append(i), own(i, *args))[1]
    np.testing.assert_allclose(walk.adjoint(np.ones(1)), dd.grad(_rolled, method="substitution")(x), rtol=1e-12)
    assert walk.memory < 8 * 8 * len(x) < 8 * local.n_nodes / 10
    assert not {local.items[i].op.name for i in visited} & {"sin"}  # its results are read by nobody


def test_nothing_to_walk_through():
    assert dd.grad(lambda x: x[0])(np.array([3.0, 4.0])).tolist() == [1.0, 0.0]


def _steps(x):
    p, v = x[:3], x[3:]
    for _ in range(40):
        v = v - 0.01 * p / np.sqrt(p @ p) ** 3
        p = p + 0.01 * v
    return p @ p


def test_it_is_taken_for_a_single_derivative_of_small_arrays(monkeypatch):
    passes = []
    monkeypatch.setattr(walking.Walk, "_pass", lambda self, W, forward, own=walking.Walk._pass: (
        passes.append(forward), own(self, W, forward)))
    x = np.array([1.0, 0.2, 0.1, 0.0, 0.9, 0.1])
    g = dd.grad(_steps)(x)
    assert passes == [False]
    dd.jvp(_steps, (x,), (x,))
    assert passes == [False, True]
    with dd.linearize(_steps, x) as lin:  # others will follow, so a plan pays
        np.testing.assert_allclose(lin.vjp(1.0), g, rtol=1e-12)
        assert lin.choice.method != "walk"
        assert next(c for c in lin.choice.candidates if c.method == "walk").seconds is None
    assert passes == [False, True]


def test_large_arrays_are_swept():
    small = Work(array_lines=10_000, scalar_lines=0, items=1000, k_star=1, ranks=1, nodes=10_000, nonzeros=15_000,
                 together=1, once=True, inputs=6, outputs=1)
    assert choose(small, 1, Machine()).method == "walk"
    large = Work(array_lines=100_000_000, scalar_lines=0, items=1000, copies=900, copy_lines=90_000_000,
                 far_lines=10_000_000, k_star=1, ranks=1, nodes=100_000_000, nonzeros=150_000_000, together=1,
                 once=True, inputs=6, outputs=1)
    assert choose(large, 1, Machine()).method == "sweep"


def _number(name):
    """A program's results as one number that is linear in none of them."""
    def f(x):
        y = PROGRAMS[name](x)
        parts = y if isinstance(y, tuple) else (y,)
        return sum(np.sum(np.sin(np.arange(1.0, np.size(p) + 1.0) * np.reshape(p, -1))) for p in parts)

    return f


_ELEMENTWISE = {  # every function whose partials change, with a formula of its own
    "of one": lambda x: sum(np.sum(g(x / 4.0 + 0.5)) for g in (
        np.sqrt, np.square, np.reciprocal, np.cbrt, np.exp, np.exp2, np.expm1, np.log, np.log2, np.log10, np.log1p,
        np.sin, np.cos, np.tan, np.arctan, np.sinh, np.cosh, np.tanh, np.arcsinh, np.abs)),
    "of one, within 1": lambda x: np.sum(np.arcsin(x / 2.0) * np.arccos(x / 3.0) + np.arctanh(x / 4.0))
    + np.sum(np.arccosh(1.1 + x)),
    "of two": lambda x: np.sum(np.hypot(x, x[::-1]) * np.arctan2(x, 1.0 + x[::-1]) + np.logaddexp(x, x[::-1] ** 2)
                               + np.power(x, x[::-1]) + x / x[::-1]),
    "kinks": lambda x: np.sum(np.maximum(x, x[::-1]) ** 2 * np.copysign(x, x - 1.0) + np.remainder(x**2, 0.7) * x
                              + np.minimum(x, 1.0) ** 3 + np.clip(x, 0.5, 1.5) ** 2),
    "powers": lambda x: np.sum(x**3 + x**0.5 + x**-1 + 2.0**x + np.where(x > 1.0, x, 0.0) ** 2),
    "norms": lambda x: np.linalg.norm(x) * np.var(x) + np.std(x) + np.mean(x**2) ** 2 + np.linalg.norm(C * x[:4]),
}


@pytest.mark.parametrize("name", [*PROGRAMS, *_ELEMENTWISE])
def test_second_derivatives_by_three_walks(name, monkeypatch):
    """The same as the derivative of the gradient that is recorded."""
    f, v = _ELEMENTWISE.get(name) or _number(name), np.cos(np.arange(12.0))
    expected = dd.jvp(dd.grad(f), (X,), (v,))[1]
    done = []
    monkeypatch.setattr(walking.Walk, "second", lambda self, *seeds, own=walking.Walk.second: (
        done.append(own(self, *seeds)) or done[-1]))
    h = dd.hvp(f, (X,), (v,))
    np.testing.assert_allclose(h, expected, rtol=1e-11, atol=1e-12 * max(1.0, np.abs(expected).max()))
    assert len(done) == (name != "a solve") and not any(h is None for h in done)  # a joint statement ends it before


@pytest.mark.parametrize("name", [*PROGRAMS, *_ELEMENTWISE])
def test_where_walks_do_not_pay_what_was_traced_is_differentiated(name, monkeypatch):
    """Its tape is put on that of the gradient; the function runs once, but for joint statements."""
    runs, g = [], _ELEMENTWISE.get(name) or _number(name)

    def f(x):
        runs.append(1)
        return g(x), "aux"

    v = np.cos(np.arange(12.0))
    expected = dd.hvp(g, (X,), (v,))
    monkeypatch.setattr(walking, "LARGE", -1)
    h, aux = dd.hvp(f, (X,), (v,), has_aux=True)
    np.testing.assert_allclose(h, expected, rtol=1e-11, atol=1e-12 * max(1.0, np.abs(expected).max()))
    assert aux == "aux" and (len(runs) == 1) == (name != "a solve")


def test_second_derivatives_of_constants():
    assert dd.hvp(lambda x: 3.0, (X,), (X,)).tolist() == [0.0] * 12
    assert dd.hvp(lambda x: np.sum(2.0 * x), (X,), (X,)).tolist() == [0.0] * 12


def test_second_derivatives_of_long_scalar_code(monkeypatch):
    def f(x):
        a, b = x[0], x[1]
        for k in range(60):
            a, b = a + 0.01 * b * np.exp(-a) / (1.0 + a * a), b - 0.01 * np.sin(a) * x[k % 5] - 0.1
        return a * b + 2.0**b

    x, v = X[:5], np.cos(np.arange(5.0))
    expected = dd.jvp(dd.grad(f), (x,), (v,))[1]
    np.testing.assert_allclose(dd.hvp(f, (x,), (v,)), expected, rtol=1e-11)


def test_second_derivatives_that_are_not_finite_are_errors():
    def scalars(x):
        s = x[1]
        for _ in range(400):
            s = s + 0.1 * np.sin(s)
        return s / x[0]

    for f in (lambda x: np.sum(np.sqrt(x)), lambda x: x[1] / x[0] + x[2], lambda x: x[2] ** x[1] * np.sqrt(x[0]),
              scalars):
        with pytest.raises(NonFiniteError, match="test_walk.py"):
            dd.hvp(f, (np.arange(3.0),), (np.ones(3),))
        with pytest.raises(NonFiniteError, match="test_walk.py"):
            dd.grad(f)(np.arange(3.0))
        with pytest.raises(NonFiniteError, match="test_walk.py"):
            dd.jvp(f, (np.arange(3.0),), (np.ones(3),))


def test_a_function_runs_once_for_one_derivative():
    """Whether its program is small, and walked through at once, or a linearization goes on from the trace."""
    for steps in (1, 100):
        runs = []

        def f(x, steps=steps, runs=runs):
            runs.append(1)
            for _ in range(steps):
                x = x + 0.1 * np.sin(x) * x[::-1]
            return np.sum(x)

        dd.grad(f)(X)
        dd.jvp(f, (X,), (X,))
        dd.hvp(f, (X,), (X,))
        assert len(runs) == 3
