"""Derivatives of derivatives: against closed forms, differences of gradients, and each other."""

from __future__ import annotations

import functions
import numpy as np
import pytest
import scipy.stats
from test_ops import points

import distdiff as dd
from distdiff.errors import InputError, UnsupportedOperationError
from distdiff.ops import OPS, WHERE
from distdiff.tape import Indexed, ScalarRun
from distdiff.tracing import memory, recorder

pytestmark = pytest.mark.few_ranks

SMOOTH = [op for op in OPS if op.scalar and any(op.partials) or op is WHERE]
X = np.array([1.2, 0.7, -0.3, 0.4])


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_hessian(x):
    n = len(x)
    h = np.zeros((n, n))
    for i in range(n - 1):
        h[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        h[i, i + 1] = h[i + 1, i] = -400 * x[i]
        h[i + 1, i + 1] += 200
    return h


def one_number(case):
    """A nonlinear function of a case's result, so that its second derivative counts."""

    def f(x):
        y = case.f(x)
        if np.ndim(y) == 0:
            return y + 0.1 * y * y
        return np.sum(np.sin(np.arange(1.0, y.size + 1.0).reshape(y.shape)) * y + 0.1 * y * y)

    return f


def differences(g, x, h=1e-4):
    """The Jacobian of g by central differences of fourth order."""
    columns = []
    for k in range(x.size):
        e = np.zeros(x.size)
        e[k] = h
        columns.append((8 * (g(x + e) - g(x - e)) - (g(x + 2 * e) - g(x - 2 * e))) / (12 * h))
    return np.array(columns).T


def at_points(lin, derivative):
    """What `derivative()` gives at a point, `lin` moved there."""
    def there(x):
        lin.update(x)
        return derivative()

    return there


def close(a, b, tolerance):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(np.abs(b).max(), 1e-300))


@pytest.mark.mpi
def test_rosenbrock_and_quartic():
    h = dd.hessian(rosenbrock)(X)
    close(h, rosenbrock_hessian(X), 1e-14)
    v = np.array([0.3, -1.0, 2.0, 0.5])
    close(dd.hvp(rosenbrock, (X,), (v,)), h @ v, 1e-14)
    a = np.arange(9.0).reshape(3, 3) + np.eye(3)
    x = X[:3]
    closed = 2 * (x @ (a + a.T) @ x) * (a + a.T) / 2 + 2 * np.outer((a + a.T) @ x, (a + a.T) @ x)
    close(dd.hessian(lambda x: (x @ a @ x) ** 2)(x), closed, 1e-13)


@pytest.mark.mpi
@pytest.mark.parametrize("case", functions.CASES, ids=str)
def test_hessians(case):
    f, x = one_number(case), case.x
    h = dd.hessian(f)(x)
    scale = np.abs(h).max() + 1e-300
    assert np.abs(h - h.T).max() <= 1e-13 * scale
    v = np.random.default_rng(1).standard_normal(x.size)
    close(dd.hvp(f, (x,), (v,)), h @ v, 1e-13)
    lifted = dd.jvp(dd.grad(f), (x,), (v,))[1]
    close(lifted, h @ v, 1e-13)
    value, pullback = dd.vjp(dd.grad(f), x)  # reverse over reverse
    close(pullback(v)[0], h @ v, 1e-13)
    pullback.close()
    close(value, dd.grad(f)(x), 1e-14)
    forward = dd.grad(lambda x: dd.jvp(f, (x,), (v,))[1])(x)  # reverse over forward
    close(forward, h @ v, 1e-13)


@pytest.mark.parametrize("case", [c for c in functions.CASES if c.x.size < 32], ids=str)
def test_hessians_against_differences(case):
    f = one_number(case)
    with dd.linearize(f, case.x) as lin:
        close(dd.hessian(f)(case.x), differences(at_points(lin, lambda: lin.vjp(1.0)), case.x), 1e-9)


@pytest.mark.parametrize("scalar", [False, True], ids=["arrays", "scalars"])
@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_every_partial_to_third_order(op, scalar):
    x = np.concatenate(points(op, 3))
    w = np.array([0.7, -1.3, 0.4])
    n = op.arity

    def f(x):
        parts = [x[3 * k : 3 * k + 3] for k in range(n)]
        if op.name == "where":
            parts[0] = parts[0] > 0.5
        if not scalar or op.name == "where":
            function = np.where if op.name == "where" else np.square if op.name == "copy" else op.value
            return np.sum(w * function(*parts) * (1.0 + x[0] * x[-1]))
        total = 0.0
        for i in range(3):
            y = parts[0][i] + 0.0 if op.name == "copy" else op.value(*(part[i] for part in parts))
            total = total + w[i] * y * (1.0 + x[0] * x[-1])
        return total

    v = np.linspace(0.5, -0.8, x.size)

    def curvature(x):
        return np.dot(v, dd.hvp(f, (x,), (v,)))

    h, third = dd.hessian(f)(x), dd.grad(curvature)(x)
    with dd.linearize(f, x) as lin:
        close(h, differences(at_points(lin, lambda: lin.vjp(1.0)), x), 2e-7)
        close(third, differences(at_points(lin, lambda: np.array([v @ lin.hvp(v)])), x)[0], 2e-6)


@pytest.mark.mpi
def test_third_derivatives_of_scalars():
    third = dd.grad(dd.grad(dd.grad(lambda x: np.exp(2 * x) * x**3)))(0.7)
    x = 0.7
    assert third == pytest.approx(np.exp(2 * x) * (8 * x**3 + 36 * x**2 + 36 * x + 6), rel=1e-14)
    assert dd.grad(dd.grad(dd.grad(dd.grad(lambda x: x**4))))(0.0) == 24.0
    assert dd.grad(dd.grad(dd.grad(lambda x: x**3)))(0.0) == 6.0


def test_no_variable_is_taken_for_another():
    assert dd.grad(lambda x: x * dd.grad(lambda y: x * y)(1.0))(3.0) == 6.0
    assert dd.grad(lambda x: x * dd.grad(lambda y: x + y)(1.0))(3.0) == 1.0
    assert dd.grad(lambda x: x * dd.jvp(lambda y: x * y, (1.0,), (1.0,))[1])(3.0) == 6.0
    assert dd.jvp(lambda x: x * dd.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (3.0,), (1.0,))[1] == 1.0
    # the same variable inside and outside: d/dx [d/dy (x y^2) at y = x] = d/dx 2 x^2
    assert dd.grad(lambda x: dd.grad(lambda y: x * y * y)(x))(3.0) == 12.0
    a = np.array([1.0, 2.0, 3.0])
    inner = dd.grad(lambda x: np.sum(dd.grad(lambda y: np.sum(x * y * y))(x * x)))(a)  # sum 2 x x^2
    np.testing.assert_allclose(inner, 6 * a**2)
    assert dd.grad(lambda x: dd.grad(lambda y: dd.grad(lambda z: x * y * z)(x) * y)(x))(2.0) == 8.0  # d/dx 2 x^2


@pytest.mark.parametrize("case", functions.CASES, ids=str)
def test_what_is_shared_with_the_inner_function(case):
    f, x = one_number(case), case.x
    k = np.cos(np.arange(x.size))
    inner = dd.grad(lambda x: np.dot(k, dd.grad(lambda y: f(0.3 * x + 0.7 * y))(x)))(x)  # 0.7 (0.3 + 0.7) H k
    close(inner, 0.7 * dd.hvp(f, (x,), (k,)), 1e-12)


@pytest.mark.parametrize("case", functions.CASES, ids=str)
def test_results_that_are_put_off(case, monkeypatch):
    f, x = one_number(case), case.x
    h = dd.hessian(f)(x)
    full = np.full
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(recorder, "MANY_LOOKS", 10**9)
    monkeypatch.setattr(recorder.Recorder, "empty", lambda self, shape: full(shape, np.nan))
    close(dd.hessian(f)(x), h, 1e-13)


def test_what_does_not_depend_is_constant():
    np.testing.assert_array_equal(dd.grad(lambda x: np.sum(dd.grad(lambda y: np.sum(x))(x)))(X), np.zeros(4))
    np.testing.assert_array_equal(dd.hessian(np.sum)(X), np.zeros((4, 4)))
    np.testing.assert_array_equal(dd.hessian(lambda x: 3.0)(X), np.zeros((4, 4)))
    gradient = dd.grad(lambda x: np.sum(x * dd.grad(lambda y: np.sum(y**3))(np.ones(4))))
    np.testing.assert_array_equal(gradient(X), 3 * np.ones(4))


@pytest.mark.mpi
def test_arguments_nest_as_elsewhere():
    p = {"w": np.arange(6.0).reshape(2, 3) / 7, "b": (np.ones(2), 0.5)}

    def f(p, k):
        y = np.tanh(p["w"] @ np.array([1.0, 2.0, 3.0]) + p["b"][0] * p["b"][1])
        return k * np.sum(y**2)

    h = dd.hessian(f)(p, 2.0)
    assert h["w"]["w"].shape == (2, 3, 2, 3) and h["b"][1]["w"].shape == (2, 3) and h["b"][1]["b"][1].shape == ()
    np.testing.assert_allclose(h["w"]["b"][0], np.moveaxis(h["b"][0]["w"], 0, -1), atol=1e-14)
    v = {"w": np.ones((2, 3)), "b": (np.zeros(2), 0.0)}
    product, by_k = dd.hvp(f, (p, 2.0), (v, 0.0))
    np.testing.assert_allclose(product["b"][0], np.sum(h["b"][0]["w"], axis=(1, 2)))
    assert np.shape(by_k) == ()
    h = dd.hessian(lambda a, b: np.sum(a * a * b), argnums=(0, 1))(np.ones(2), np.full(2, 3.0))
    np.testing.assert_allclose(h[0][0], 6 * np.eye(2))
    np.testing.assert_allclose(h[0][1], 2 * np.eye(2))
    np.testing.assert_allclose(h[1][1], np.zeros((2, 2)))


@pytest.mark.mpi
def test_aux_and_values_come_along():
    def f(x):
        return np.sum(x**3), {"twice": 2 * x}

    h, aux = dd.hessian(f, has_aux=True)(X)
    np.testing.assert_allclose(h, np.diag(6 * X))
    np.testing.assert_allclose(aux["twice"], 2 * X)
    product, aux = dd.hvp(f, (X,), (np.ones(4),), has_aux=True)
    np.testing.assert_allclose(product, 6 * X)

    def g(x):
        (value, aux), gradient = dd.value_and_grad(f, has_aux=True)(x)
        return value + np.sum(gradient * aux["twice"])  # sum x^3 + 6 x^3

    np.testing.assert_allclose(dd.grad(g)(X), 21 * X**2)


@pytest.mark.mpi
def test_inner_jacobians_and_pullbacks():
    a = np.arange(12.0).reshape(3, 4) / 10

    def f(x):
        return np.tanh(a @ x)

    def g(x):
        j = dd.jacobian(f)(x)
        y, pullback = dd.vjp(f, x)
        assert j.shape == (3, 4)
        return np.sum(j**2) + np.sum(pullback(y)[0])

    def plain(x):
        y = np.tanh(a @ x)
        j = (1 - y**2)[:, None] * a
        return np.sum(j**2) + np.sum(j.T @ y)

    close(dd.grad(g)(X), dd.grad(plain)(X), 1e-13)
    tall = dd.jacobian(lambda x: dd.jacobian(lambda y: np.concatenate([y**2, y**3]))(x))(X[:2])
    assert tall.shape == (4, 2, 2)
    np.testing.assert_allclose(tall[2, 0, 0], 6 * X[0])
    np.testing.assert_allclose(tall[1, 1, 1], 2.0)
    several = dd.grad(lambda x: dd.jacobian(lambda y: {"a": y[0] * y, "b": y[1] ** 2})(x)["a"][1, 0])(X)
    np.testing.assert_allclose(several, [0, 1, 0, 0])


def test_writes_in_place_stay_apart():
    def f(x):
        g = dd.grad(lambda y: np.sum(x * y * y))(x)  # 2 x^2
        g *= x  # a gradient is an array of its own
        x = x + 0.0
        h = dd.grad(lambda y: np.sum(x * y))(x)  # x itself
        x[:] = 7.0
        return np.sum(g) + np.sum(h)

    np.testing.assert_allclose(dd.grad(f)(X), 6 * X**2 + 1)

    def overwrites(y):
        y[1:] = y[:-1] ** 2
        y *= 2.0
        return np.sum(y**2)

    x = X.copy()
    h = dd.hessian(lambda x: overwrites(x) + np.sum(x))(x)
    np.testing.assert_array_equal(x, X)
    plain = dd.hessian(lambda x: 4 * (x[0] ** 2 + np.sum(x[:-1] ** 4)) + 2 * (x[0] + np.sum(x[:-1] ** 2)))(X)
    close(h, plain, 1e-13)


def test_kinks_have_no_curvature():
    x = np.array([-1.5, 0.4, 2.0])
    for f in (np.abs, lambda x: np.maximum(x, 0.0), np.sign, np.floor, lambda x: np.where(x > 0, x, -2 * x)):
        np.testing.assert_array_equal(dd.hessian(lambda x, f=f: np.sum(f(x)))(x), np.zeros((3, 3)))
    h = dd.hessian(lambda x: np.sum(np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), x**2)))(x)
    np.testing.assert_allclose(np.diag(h), [2.0, -0.25 * 0.4**-1.5, -0.25 * 2.0**-1.5], rtol=1e-14)
    h = dd.hessian(lambda x: np.max(x) ** 2 * np.min(x))(np.array([1.0, 3.0, 3.0, 2.0]))  # the first of equals
    np.testing.assert_allclose(h, [[0, 6, 0, 0], [6, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    h = dd.hessian(lambda x: np.sum(np.max(x.reshape(2, 2) ** 2, axis=1)))(np.array([1.0, -3.0, 3.0, 2.0]))
    np.testing.assert_allclose(h, np.diag([0.0, 2, 2, 0]))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_whole_powers_are_exact_at_zero(n):
    expected = 2.0 if n == 2 else 0.0
    assert dd.grad(dd.grad(lambda x: x**n))(0.0) == expected
    np.testing.assert_array_equal(dd.hessian(lambda x: np.sum(x**n))(np.zeros(2)), expected * np.eye(2))
    assert dd.grad(dd.grad(lambda x: x**n))(-2.0) == pytest.approx(n * (n - 1) * (-2.0) ** (n - 2), rel=1e-14)


@pytest.mark.parametrize("f", [lambda x: x[0] ** x[1], lambda x: np.sum(x[:1] ** x[1:])], ids=["scalars", "arrays"])
@pytest.mark.parametrize("b", [0.0, 1.0, -0.5])
def test_powers_with_a_variable_exponent(f, b):
    """d^2 (a^b) / da db = a^(b-1) (1 + b log a), also where b = 0."""
    a, hessian = 2.0, dd.hessian(f)(np.array([2.0, b]))
    mixed = a ** (b - 1.0) * (1.0 + b * np.log(a))
    close(hessian, [[b * (b - 1.0) * a ** (b - 2.0), mixed], [mixed, a**b * np.log(a) ** 2]], 1e-14)


def test_sums_contractions_and_broadcasts():
    rng = np.random.default_rng(0)
    b = rng.standard_normal((4, 3))

    def f(x):
        m = x[:12].reshape(3, 4)
        n = np.einsum("ij,jk,k->ik", m, b, x[12:15])
        s = np.cumsum(m, axis=1) @ b + n.T
        t = np.broadcast_to(x[:4], (3, 4)).sum(axis=0) * x[12]
        u = np.convolve(x[:6], x[6:9]) * np.arange(8.0)
        matrix = np.trace(n @ n) * np.prod(x[:3]) + np.sum(np.diag(m[:, :3]) ** 2)
        return np.sum(s**2) + np.sum(t**3) + np.sum(u * u) + matrix

    x = rng.standard_normal(15)
    h = dd.hessian(f)(x)
    close(h, differences(dd.grad(f), x, 1e-3), 1e-8)
    assert np.abs(h - h.T).max() < 1e-13 * np.abs(h).max()


@pytest.mark.parametrize("axis", [0, 1])
def test_running_sums_of_broadcasts(axis):
    def f(x):
        a, b = np.broadcast_to((x**2)[:, None], (4, 3)), np.broadcast_to(x**3, (2, 4))
        return np.sum(np.cumsum(a, axis=axis)) + np.sum(np.cumsum(b, axis=axis))

    squares = 3 * np.array([4, 3, 2, 1]) if axis == 0 else np.full(4, 6)  # how often each is summed
    cubes = np.full(4, 3) if axis == 0 else 2 * np.array([4, 3, 2, 1])
    np.testing.assert_allclose(dd.hessian(f)(X), np.diag(2 * squares + 6 * cubes * X), rtol=1e-14)


@pytest.mark.mpi
def test_update_follows_branches():
    def f(x):
        return np.sum(np.sin(x) ** 3) if x[0] > 0 else np.sum(x**4)

    with dd.linearize(f, X) as lin:
        close(lin.hvp(np.ones(4)), dd.hvp(f, (X,), (np.ones(4),)), 1e-14)
        lin.update(-X)
        np.testing.assert_allclose(lin.hvp(np.ones(4)), 12 * X**2, rtol=1e-14)
        lin.update(0.5 * X)
        close(lin.hvp(np.ones(4)), dd.hvp(f, (0.5 * X,), (np.ones(4),)), 1e-14)
    with dd.linearize(dd.grad(f), X) as lin:  # the guard of an inner branch guards the gradient's tape
        lin.update(-X)
        assert lin.retraces == 1
        np.testing.assert_allclose(lin.value, -4 * X**3)
        np.testing.assert_allclose(np.diag(lin.jacobian()), 12 * X**2)
    with dd.linearize(lambda x: x * 2.0, X) as lin, pytest.raises(InputError, match="one number"):
        lin.hvp(X)


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["sweep", "substitution", "krylov"])
def test_methods_agree(method):
    f = functions.burgers
    x = functions.CASES[3].x
    v = np.cos(np.arange(x.size))
    close(dd.hvp(f, (x,), (v,), method=method), dd.hessian(f)(x) @ v, 1e-12)


def test_gradient_programs_stay_array_code():
    def burgers(u, steps):
        for _ in range(steps):
            up, um = np.roll(u, -1), np.roll(u, 1)
            u = u - 0.1 * u * (up - um) + 0.05 * (up - 2.0 * u + um)
        return np.sum(u**2)

    def plane(u, steps):
        for _ in range(steps):
            u = u.copy()
            u[1:-1, 1:-1] += 0.1 * u[1:-1, 1:-1] * (
                u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4 * u[1:-1, 1:-1])
            u[0], u[:, -1] = u[1], u[:, -2]
        return np.sum(u**2)

    def counts(f, x, steps):
        tapes = [dd.trace(g, x) for g in (lambda u: f(u, steps), dd.grad(lambda u: f(u, steps)))]
        for tape in tapes:
            assert not any(type(ref) is Indexed for item in tape.items if type(item) is not ScalarRun
                           for ref in item.operands)
        return [(tape.lines, len(tape.items)) for tape in tapes]

    for f, x, most in ((burgers, functions._x(50), 4.0), (plane, functions._x(120).reshape(10, 12), 4.0)):
        (lines, items), (gradient_lines, gradient_items) = counts(f, x, 4)
        assert gradient_lines < most * lines and gradient_items < 5 * items
        (_, _), (_, twice) = counts(f, x, 8)
        assert twice < 2.1 * gradient_items
    loop = [dd.trace(g, functions._x(7)) for g in (functions.scalar_loop, dd.grad(functions.scalar_loop))]
    assert loop[1].lines < 4 * loop[0].lines


def test_what_is_refused_inside():
    def late(x):
        late.pullback = dd.vjp(np.sum, x)[1]
        return np.sum(x)

    dd.grad(late)(X)
    with pytest.raises(UnsupportedOperationError, match="over"):
        late.pullback(1.0)
    with dd.linearize(lambda x: x**2, X) as lin:
        with pytest.raises(UnsupportedOperationError, match="inside a function"):
            dd.grad(lambda x: np.sum(lin.jvp(X)) + np.sum(x))(X)
    with pytest.raises(UnsupportedOperationError, match="inside a function"):
        dd.grad(lambda x: dd.linearize(np.sum, x).value)(X)
    with pytest.raises(InputError, match="one number"):
        dd.grad(lambda x: np.sum(dd.grad(lambda y: y * 2.0)(x)))(X)
    with pytest.raises(InputError, match="int64"):
        dd.grad(lambda x: x[0] * dd.grad(lambda y: y * 2.0)(1))(X)
    with pytest.raises(InputError, match="argnums"):
        dd.grad(lambda x: np.sum(dd.grad(lambda y: np.sum(y), argnums=1)(x)))(X)
    with pytest.raises(TypeError, match="metod"):
        dd.grad(lambda x: np.sum(dd.grad(np.sum, metod="sweep")(x)))(X)
    with pytest.raises(InputError, match="shape"):
        dd.grad(lambda x: np.sum(dd.jvp(np.sin, (x,), (x[:2],))[1]))(X)


def test_errors_name_the_line_that_is_differentiated():
    def f(x):
        y = x - 1.0
        return np.sum(y**1.5)  # second derivative infinite at x = 1

    with pytest.raises(dd.errors.NonFiniteError, match=r"test_second_order.py:\d+ in .*\bf\b"):
        dd.hvp(f, (np.ones(3),), (np.ones(3),))


@pytest.mark.mpi
def test_values_are_kept_when_a_derivative_is_wanted_late():
    def f(x):
        y = np.sin(x) * x  # on several ranks the trace keeps no values until it meets the next line
        s = x[0] * x[1]
        return np.sum(dd.grad(lambda z: np.sum(z**2 * y) * s)(x))  # sum 2 x y s

    expected = dd.grad(lambda x: np.sum(2 * x * np.sin(x) * x) * x[0] * x[1])(X)
    close(dd.grad(f)(X), expected, 1e-14)
    tape = dd.trace(f, X)
    assert not tape.blocks or tape.lines > 20


@pytest.mark.mpi
def test_a_function_that_differentiates_runs_on_one_rank_too():
    def f(x):
        return np.sum(dd.grad(lambda y: np.sum(y**3))(x) ** 2)

    assert dd.testing.taylor_test(f, X, order=2).passed  # runs f itself, plainly, on rank 0 alone
    assert f(X) == pytest.approx(np.sum(9 * X**4))  # and here on all


def test_seeds_made_inside():
    def f(x):
        seed = np.zeros(4)
        seed[1] = x[0]
        _, pullback = dd.vjp(lambda y: y**2, x)
        cubes = dd.jvp(lambda y: y**3, (x,), (seed,))[1]
        return cubes[1] + np.sum(pullback(seed)[0]) + dd.jvp(np.sin, (x[0],), (1,))[1]

    x0, x1 = X[:2]
    np.testing.assert_allclose(dd.grad(f)(X), [3 * x1**2 + 2 * x1 - np.sin(x0), 6 * x1 * x0 + 2 * x0, 0, 0], rtol=1e-14)


def test_many_uses_of_few_nodes_stay_small():
    def often(x):
        u, s = x[10:], 0.0
        for k in range(50):
            u = u * (1 + 0.01 * x[k % 3])
            s = s + np.sum(x[k : k + 10] ** 2) + np.sum(x[[1, 5, 2, 90, 77]] ** 2)
        return np.sum(u**2) + s

    x = functions._x(500)
    tapes = [dd.trace(g, x) for g in (often, dd.grad(often))]
    assert tapes[1].lines < 4 * tapes[0].lines and len(tapes[1].items) < 4 * len(tapes[0].items)
    close(dd.hvp(often, (x,), (x,)), (dd.grad(often)(x * (1 + 1e-5)) - dd.grad(often)(x * (1 - 1e-5))) / 2e-5, 1e-8)


def test_taylor_test_of_second_order():
    passed = dd.testing.taylor_test(rosenbrock, X, order=2)
    assert passed.passed and max(passed.third_rates) > 2.9 and "second order" in str(passed)
    assert dd.testing.taylor_test(lambda x: np.sin(x) * x[0], X, order=2).passed  # several results
    assert dd.testing.taylor_test(lambda x: np.sum(x * x), X, order=2).passed
    assert not dd.testing.taylor_test(rosenbrock, X).third

    class Wrong(dd.Linearization):
        def hvp(self, *tangents):
            return 1.1 * super().hvp(*tangents)

    with Wrong(rosenbrock, (X,)) as lin:
        failed = dd.testing.taylor_test(rosenbrock, X, lin=lin, order=2)
    assert not failed.passed and max(failed.rates) > 1.9 and "FAILED" in str(failed)
    with pytest.raises(InputError, match="order"):
        dd.testing.taylor_test(rosenbrock, X, order=3)


def spread_of_products(x):
    return np.ptp(np.outer(x, x))


def extremes(t):
    return scipy.stats.genextreme.logpdf(np.array([0.3, 0.8, 1.1]), t[0], t[1], t[2]).sum()


@pytest.mark.parametrize("f, x", [(spread_of_products, X), (extremes, np.array([0.1, 0.2, 1.3]))])
def test_choices_within_derivatives(f, x):
    """A condition times -1 is a choice, whichever of the two stands first."""
    h, steps = dd.hessian(f)(x), 1e-6 * np.eye(len(x))
    np.testing.assert_allclose(h, [(dd.grad(f)(x + s) - dd.grad(f)(x - s)) / 2e-6 for s in steps], atol=1e-7)
    np.testing.assert_allclose(dd.hvp(f, (x,), (x,)), h @ x, rtol=1e-12, atol=1e-12)
