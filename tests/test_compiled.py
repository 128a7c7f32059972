"""Compiled tracing against the interpreter's: the same lines, decisions, values and derivatives."""

from __future__ import annotations

import math
import types
import warnings

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import BranchChangedError, InputError, NonFiniteError, NotCompiledWarning
from distdiff.kernels.scalar import BINARY
from distdiff.ops import OPS
from distdiff.tape import RUN_LINES, ScalarRun, Statement
from distdiff.tracing import memory, trace

pytestmark = pytest.mark.few_ranks

# -- the functions: plain Python that the interpreter traces as well ----------------------------------------------

def lotka_volterra(p):
    a, b, c, d, x, y = p[0], p[1], p[2], p[3], p[4], p[5]
    for _ in range(120):
        x, y = x + 0.01 * (a * x - b * x * y), y + 0.01 * (d * x * y - c * y)
    return x * x + y


def newton(p):
    x = p[0]
    steps = 0
    while abs(x * x - p[1]) > 1e-12 * p[1] and steps < 50:
        x = x - (x * x - p[1]) / (2.0 * x)
        steps += 1
    return x * steps


def table(p):
    t = np.array([0.0, 1.0, 4.0, 9.0, 16.0])
    s = 0.0
    for k in range(len(p)):
        i = int(2.0 * p[k])
        w = 2.0 * p[k] - i
        s = s + (1.0 - w) * t[i] + w * t[i + 1]
    return s


def a(n, x):
    if n == 0:
        return x
    return a(n - 1, x) * 0.5 + np.sin(x)


def recursion(p):
    return a(10, p[0]) + a(3, p[1])


def _square(x):
    return x * x


def _distance(x, y):
    return np.sqrt(_square(x) + _square(y))


def nested(p):
    def inner(x):
        return _distance(x, p[1]) + 1.0

    return inner(p[0]) * inner(p[2])


def state(p):
    u = np.zeros(len(p) + 2)
    for k in range(len(p)):
        u[k + 1] = p[k] * 2.0
    for _ in range(5):
        new = np.empty_like(u)
        new[0] = u[0]
        new[-1] = u[-1]
        for k in range(1, len(u) - 1):
            new[k] = u[k] + 0.1 * (u[k - 1] - 2.0 * u[k] + u[k + 1])
        u = new
    u[0] += p[0]
    return u


def matrix(p):
    m = np.zeros((3, 2))
    for i in range(3):
        for j in range(2):
            m[i, j] = p[i] * p[j + 1] + i
    s = 0.0
    for i in range(m.shape[0]):
        row = m[i]
        row[0] = row[0] * row[1]
        s = s + m[i, 0]
    return s, m


def constants(p):
    s = 0
    for k in range(6):
        s += k * p[0] - 3
    z = 1.5
    z = z * 2.0  # plain
    if z > 2.0:
        s = s * z
    t = 1.0 / 3.0 - p[1] - 0.0 + (-0.0) * p[1]
    return s + 2 ** p[0] + t ** 2 + t ** 3 + p[1] ** 1 + p[1] ** 0 + p[1] ** 0.5 + p[0] ** p[1]


def booleans(p):
    inside = (p[0] > 0.1) & (p[1] > 0.1) | ~(p[2] < 5.0)
    s = p[0]
    if inside:
        s = s * 2.0
    if p[0] < 0.3 or not p[1] > 5.0:
        s = s + 1.0
    if p[2] and p[0] == p[0]:
        s = s - p[1]
    far = not p[0] > 5.0
    flag = False
    for k in range(len(p)):
        flag = flag or p[k] > 1.2
    return s * (p[1] > 0.5) + (1.0 if flag and far else 2.0)


def extremes(p):
    s = max(p[0], p[1]) + min(p[0], 0.7) - max(0.2, p[2], p[1]) + abs(p[0] - p[1])
    return s + np.maximum(p[0], p[1]) * np.minimum(p[1], 1.0) + np.sign(p[0]) + np.floor(3.0 * p[1]) + round(2.6 * p[1])


def functions(p):
    x, y = p[0], p[1]
    s = np.exp(-x) + np.log(x) + np.sqrt(y) + np.sin(x) * np.cos(y) + np.tan(x) + np.arctan2(y, x) + np.hypot(x, y)
    s = s + np.arcsin(0.5 * x) + np.arccos(0.5 * y) + np.arctan(x) + np.sinh(x) - np.cosh(y) + np.tanh(x)
    s = s + np.arcsinh(x) + np.arccosh(1.0 + y) + np.arctanh(0.5 * x) + np.log1p(x) + np.expm1(y) + np.cbrt(x)
    s = s + np.exp2(x) + np.log2(y) + np.log10(x) + np.reciprocal(x) + np.square(y) + np.logaddexp(x, y)
    s = s + x % 0.3 + np.remainder(y, x) - x // 0.3 + np.copysign(x, -y) + np.rint(x) + np.trunc(y) + np.ceil(x)
    return s - (-x) + (+y) + abs(-x) + np.fabs(y) + np.absolute(x)


def collected(p):
    xs = [p[0]]
    for _ in range(4):
        xs.append(xs[-1] * p[1])
    s = 0.0
    for x in xs[1:]:
        s = s + x
    pair = (p[0], p[2])
    for x, w in zip(pair, (1.0, 2.0)):
        s += w * x
    return s, (p[2], 3.0)


FUNCTIONS = [lotka_volterra, newton, table, recursion, nested, state, matrix, constants, booleans, extremes, functions,
             collected]
POINT = np.array([0.61, 0.83, 1.27, 0.45, 0.9, 0.72])


def flat(tape):
    """(op, operands) of every scalar line, constants by value, and of other statements their op; the guards."""
    lines, copies = [], []
    for item in tape.items:
        if isinstance(item, Statement):
            copies.append(item.op.name)
            continue
        assert isinstance(item, ScalarRun)
        for op, a, b in zip(item.op.tolist(), item.a.tolist(), item.b.tolist()):
            names = (a, b) if BINARY[op] else (a,)
            lines.append((OPS[op].name, *(i if i >= 0 else repr(float(item.const[-1 - i])) for i in names)))
    guards = sorted((int(i), float(v)) for g in tape.guards
                    for i, v in zip(np.ravel(g.ref.ids), np.broadcast_to(g.expected, np.shape(g.ref.ids)).ravel()))
    return lines, guards, copies


@pytest.fixture(autouse=True)
def strict():
    """Falling back is a failure here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", NotCompiledWarning)
        yield


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_same_lines_decisions_and_derivatives(f):
    g = dd.compiled(f)
    ours, theirs = trace(g, (POINT,)), trace(f, (POINT,))
    (lines, guards, copies), (expected, expected_guards, expected_copies) = flat(ours.tape), flat(theirs.tape)
    assert lines == expected
    assert guards == expected_guards
    assert copies == expected_copies
    jacobian, reference = dd.jacobian(g)(POINT), dd.jacobian(f)(POINT)
    for x, y in zip(_leaves(jacobian), _leaves(reference)):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-13)
    for x, y in zip(_leaves(ours.result), _leaves(theirs.result)):
        np.testing.assert_allclose(x, y, rtol=1e-13)


def _leaves(x):
    return [leaf for part in x for leaf in _leaves(part)] if isinstance(x, tuple) else [x]


# -- decisions, mixtures, arrays in and out -----------------------------------------------------------------------

def test_a_branch_that_flips_retraces_or_raises():
    @dd.compiled
    def f(x):
        return x * x if x > 1.0 else 3.0 * x

    with dd.linearize(f, 2.0) as lin:
        assert lin.vjp(1.0) == 4.0
        assert lin.update(0.5) == 1.5 and lin.retraces == 1
        assert lin.vjp(1.0) == 3.0
        assert lin.update(0.25) == 0.75 and lin.retraces == 1
    with dd.linearize(f, 2.0, on_branch_change="raise") as lin:
        with pytest.raises(BranchChangedError, match="test_compiled.py:") as caught:
            lin.update(0.5)
        assert f"test_compiled.py:{f.function.__code__.co_firstlineno + 2}" in str(caught.value)


@dd.compiled
def long_runs(x, n):
    s = 0.0
    for k in range(n):
        s = s * 0.5 + x * (k % 7)
        if s > 1e6:
            s = s - 1e6
    return s * 2.0


def test_long_runs_and_more_guards_than_fit_at_once():
    n = 50_000  # 150 000 lines, 50 000 guards
    ours, theirs = trace(long_runs, (0.7, n)), trace(long_runs.function, (0.7, n))
    assert flat(ours.tape) == flat(theirs.tape)
    assert dd.grad(long_runs)(0.7, n) == dd.grad(long_runs.function)(0.7, n)


def test_values_lie_where_they_are_made(monkeypatch):
    """All that a linearization had goes to the pool: operation, operands and value, and a value twice only where
    addresses are counted as memory is."""
    found, pooled = [], []
    for free in (True, False, True):
        monkeypatch.setattr(memory, "_addresses_are_free", lambda free=free: free)
        memory.give_back(pool=True)
        with dd.linearize(long_runs, 0.7, 100_000, comm=MPI.COMM_SELF) as lin:
            derivative, lines = lin.vjp(1.0), lin.report().lines
            assert (memory.Room.around(lin._at.point.values.flat) is not None) == free
            found.append((lin.value, derivative, lin.update(0.6), lin.vjp(1.0)))
        del lin
        pooled.append(memory._pooled)
    assert found[0] == found[1] == found[2]
    assert pooled[0] == pooled[2] < (9 + 8) * lines + 4 * 8 * RUN_LINES  # adjoints of runs that are alive, and ends
    assert pooled[0] + 7.9 * lines < pooled[1]


def test_compiled_and_interpreted_code_in_one_trace():
    @dd.compiled
    def inner(x, y, n):
        for _ in range(n):
            x, y = x * 0.9 + y, y * 0.8
        return x, y

    def f(p, n):
        s = p.sum()
        x, y = inner(p[0], s, n)
        u = np.zeros(3)
        u[1] = x
        v = p * y
        x, _ = inner(v[1], 2.0, 3)
        return np.sum(v) * x + u.sum()

    reference = dd.grad(lambda p: _by_hand(p, 5))(POINT)
    np.testing.assert_allclose(dd.grad(lambda p: f(p, 5))(POINT), reference, rtol=1e-13)
    assert np.isfinite(dd.grad(lambda p: f(p, 3000))(POINT)).all()
    with dd.linearize(lambda p: f(p, 3000), POINT) as lin:
        before = lin.vjp(1.0)
        lin.update(POINT * 1.1)
        moved = lin.vjp(1.0)
        lin.update(POINT)
        np.testing.assert_allclose(lin.vjp(1.0), before, rtol=1e-13)
    np.testing.assert_allclose(moved, dd.grad(lambda p: f(p, 3000))(POINT * 1.1), rtol=1e-12)


def _by_hand(p, n):
    s = p.sum()
    x, y = p[0], s
    for _ in range(n):
        x, y = x * 0.9 + y, y * 0.8
    v, first = p * y, x
    x, y = v[1], 2.0
    for _ in range(3):
        x, y = x * 0.9 + y, y * 0.8
    return np.sum(v) * x + first


def test_arrays_given_are_written_in_place_and_keep_their_aliases():
    @dd.compiled
    def fill(out, u, w):
        for k in range(len(u)):
            out[k] = u[k] * w[k]
        u[0] = 7.0
        w[-1] = out[0]
        return out, u[1:3]

    def plain(out, u, w):
        return fill.function(out, u, w)

    def f(g):
        def whole(p):
            u = p * 1.0
            out = np.zeros(4)
            back, part = g(out, u[:4], u[::-1][:4])
            part[0] = part[0] * 2.0
            return out, u, back * 3.0, part

        return whole

    ours, theirs = dd.jacobian(f(fill))(POINT), dd.jacobian(f(plain))(POINT)
    for x, y in zip(ours, theirs):
        np.testing.assert_allclose(x, y, rtol=1e-14)
    for x, y in zip(trace(f(fill), (POINT,)).result, trace(f(plain), (POINT,)).result):
        np.testing.assert_array_equal(x, y)


def test_many_dimensions_strides_keywords_and_functions_as_arguments():
    def g(x):
        return x * x + 1.0

    @dd.compiled
    def f(u, h, scale=2.0, *, _unused=None):
        return u

    @dd.compiled
    def total(u, h, scale=2.0):
        s = 0.0
        for i in range(u.shape[0]):
            for j in range(u.shape[1]):
                s = s + scale * h(u[i, j]) * (i + 1)
        return s

    x = np.arange(1.0, 7.0).reshape(2, 3)
    expected = 4.0 * x * np.array([[1.0], [2.0]])
    np.testing.assert_allclose(dd.grad(lambda u: total(u, g))(x), expected)
    turned = dd.grad(lambda u: total(h=g, u=u.T[::-1].T, scale=1.0))(x)
    np.testing.assert_allclose(2.0 * turned, expected)
    np.testing.assert_allclose(dd.grad(lambda u: total((u.T * 1.0).T, g))(x), expected)
    with pytest.warns(NotCompiledWarning, match="by keyword only"):
        dd.jacobian(lambda u: f(u, g))(x)


def test_plain_calls_run_the_function_as_it_is():
    seen = []

    @dd.compiled
    def f(x):
        seen.append(x)
        return 2 * x

    assert f(3) == 6 and f(x="a") == "aa" and seen == [3, "a"]
    assert f.__name__ == "f" and dd.compiled(f) is f
    with pytest.raises(InputError, match="Python function"):
        dd.compiled(np.sin)


def test_what_stands_outside_is_built_in_until_it_changes():
    weights = [1.0, 2.0]
    factor = 3.0

    def helper(x):
        return factor * x

    @dd.compiled
    def f(x):
        return helper(x) * weights[1]

    assert dd.grad(f)(1.0) == 6.0
    weights[1] = 5.0
    assert dd.grad(f)(1.0) == 15.0
    factor = 4.0
    assert dd.grad(f)(1.0) == 20.0
    assert len(f.entries) == 1

    settings = types.ModuleType("settings")
    settings.factor = 1.0
    g = dd.compiled(lambda x: settings.factor * x)
    assert dd.grad(g)(1.0) == 1.0
    settings.factor = 2.0
    assert dd.grad(g)(1.0) == 2.0


def test_division_by_zero_and_bounds():
    @dd.compiled
    def divide(x):
        return 1.0 / (x - 1.0)

    assert trace(divide, (1.0,)).result == np.inf

    @dd.compiled
    def outside(u, k):
        return u[k]

    with pytest.raises(IndexError):
        dd.grad(lambda u: outside(u, 9))(POINT)
    with pytest.raises(ValueError, match="NaN"):
        dd.grad(dd.compiled(lambda x: x * int(x)))(float("nan"))


def test_a_nan_is_reported_with_the_line_that_made_it():
    def helper(x):
        y = x * 2.0
        return math.sqrt(y - 10.0)  # here

    @dd.compiled
    def f(x):
        s = x
        for _ in range(3000):
            s = s * 1.0001
        s = s + helper(x)
        return s

    with pytest.raises(NonFiniteError, match="sqrt") as caught:
        dd.grad(f)(1.0)
    assert f"test_compiled.py:{helper.__code__.co_firstlineno + 2} in " in str(caught.value)


# -- falling back ---------------------------------------------------------------------------------------------------

def test_what_cannot_be_compiled_is_interpreted_and_says_why():
    @dd.compiled
    def f(u):
        s = {"total": 0.0}
        s["total"] = np.sum(np.sin(u) * u)
        return s["total"]

    with pytest.warns(NotCompiledWarning, match=r"test_compiled.py:\d+") as record:
        gradient = dd.grad(f)(POINT)
    np.testing.assert_allclose(gradient, np.cos(POINT) * POINT + np.sin(POINT))
    assert len(record) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dd.grad(f)(POINT)  # once


def test_arguments_that_cannot_go_in_are_interpreted():
    @dd.compiled
    def f(x, how):
        return x * how["factor"] if type(how) is dict else x * how.factor

    class Options:
        factor = 3.0

    with pytest.warns(NotCompiledWarning, match="argument 1 is a dict"):
        assert dd.grad(lambda x: f(x, {"factor": 2.0}))(1.0) == 2.0
    with pytest.warns(NotCompiledWarning, match="argument 1 is a dict"):
        assert dd.grad(lambda x: dd.compiled(f.function)(2.0, {"factor": x}))(1.0) == 2.0
    with pytest.warns(NotCompiledWarning):
        assert dd.grad(lambda x: f(x, Options()))(1.0) == 3.0


@pytest.mark.mpi
def test_every_rank_has_the_derivative(comm):
    for f in (lotka_volterra, state, newton):
        ours, reference = dd.jacobian(dd.compiled(f), comm=comm)(POINT), dd.jacobian(f, comm=comm)(POINT)
        np.testing.assert_allclose(ours, reference, rtol=1e-12)
