"""Several threads that use one object at a time get the numbers that each asked for."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import distdiff as dd

N = 40
V = np.cos(np.arange(N))


def f(x):
    return np.sum(np.cumsum(np.sin(x) * x) ** 2) if x[0] > 0.5 else np.sum(x**3)


def points():
    return [np.linspace(0.1 + 0.05 * k, 1.0, N) for k in range(16)]


@pytest.fixture
def threads():
    """Threads that take turns as often as Python lets them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(4) as pool:
        yield pool
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("ask", [
    lambda F, x: F(x), lambda F, x: F.grad(x), lambda F, x: F.value_and_grad(x)[1], lambda F, x: F.jvp(x, V),
    lambda F, x: F.vjp(x, 2.0), lambda F, x: F.hvp(x, V), lambda F, x: F.jacobian(x), lambda F, x: F.hessian(x)],
    ids=["value", "grad", "value_and_grad", "jvp", "vjp", "hvp", "jacobian", "hessian"])
def test_a_recorded_function(threads, ask):
    def fresh(x):
        with dd.recorded(f) as alone:
            return ask(alone, x)

    wanted = list(map(fresh, points()))
    with dd.recorded(f) as F:
        for found, want in zip(threads.map(lambda x: ask(F, x), points()), wanted):
            np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["auto", "walk", "sweep", "substitution"])
def test_a_linearization(threads, method):
    with dd.linearize(lambda x: np.cumsum(np.sin(x) * x), points()[0], method=method) as lin:
        jacobian = lin.jacobian()
        seeds = [np.sin(np.arange(N) * k) for k in range(60)]
        for w, (back, forth) in zip(seeds, threads.map(lambda w: (lin.vjp(w), lin.jvp(w)), seeds)):
            np.testing.assert_allclose(back, jacobian.T @ w, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(forth, jacobian @ w, rtol=1e-9, atol=1e-9)


def test_a_recorded_function_in_one_that_another_thread_traces(threads):
    """Neither waits for the other: inside a trace a recorded function is the function that it was made of."""
    F = dd.recorded(lambda x: np.sum(np.sin(x)) if x[0] < 0.0 else G(x))
    G = dd.recorded(lambda x: np.sum(np.cos(x)) if x[0] > 0.0 else F(x))
    found = list(threads.map(lambda k: (F, G)[k % 2].grad(points()[k] * (-1) ** (k // 2)), range(8)))
    for k, gradient in enumerate(found):
        x = points()[k] * (-1) ** (k // 2)
        np.testing.assert_allclose(gradient, -np.sin(x) if x[0] > 0.0 else np.cos(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solve", ["root", "minimize"])
def test_a_tape_with_an_equation(threads, solve):
    """Linearizations of one tape have its equations in common, and their values."""
    def g(x):
        if solve == "root":
            y = dd.implicit.root(lambda x, y: y + 0.3 * np.sin(y) * x - x, x, np.zeros(4))
        else:
            y = dd.implicit.minimize(lambda x, y: np.sum((y - x) ** 2 + 0.1 * y**4), x, np.zeros(4))
        return np.sum(y**3)

    here = [np.linspace(0.4, 1.0, 4) + 0.02 * k for k in range(24)]
    tape = dd.trace(g, here[0])
    wanted = [dd.value_and_grad(tape)(x) for x in here]
    for ask in (lambda x: (tape(x), None), dd.value_and_grad(tape)):
        for (value, gradient), (right, slope) in zip(threads.map(ask, here), wanted):
            np.testing.assert_allclose(value, right, rtol=1e-9)
            if gradient is not None:
                np.testing.assert_allclose(gradient, slope, rtol=1e-8)
