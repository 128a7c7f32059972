"""The name of a program's shape does not depend on how the program is written (nor on ranks: test_structure_on_ranks).
"""

from __future__ import annotations

import numpy as np
import pytest

import distdiff as dd

pytestmark = pytest.mark.timeout(90)

RNG = np.random.default_rng(3)
STEPS, SAMPLES, POINTS = 400, 300, 120
A = RNG.uniform(-0.4, 0.4, (4, 4))
DATA = RNG.uniform(0.2, 0.8, (SAMPLES, 5))


def plain(t):
    return t


def busy(t):
    """More functions on the way, some of two operands."""
    return np.sin(t) * 0.5 + 0.3 * np.tanh(np.sin(t) * t)


def recurrence(step):
    def f(x):
        s = x[0]
        for _ in range(STEPS):
            s = step(s * x[1] + 0.1)
        return s
    return f


def forced(x):
    """As many inputs as steps."""
    s = x[0]
    for k in range(1, len(x)):
        s = s * 0.9 + np.sin(x[k])
    return s


def state_by_products(step):
    def f(x):
        for _ in range(STEPS):
            x = step(A @ x)
        return x
    return f


def state_by_loops(x):
    u = [x[k] for k in range(4)]
    for _ in range(STEPS):
        new = []
        for i in range(4):
            s = 0.0
            for j in range(4):
                s = s + A[i, j] * u[j]
            new.append(np.tanh(s))
        u = new
    return u[0]


def samples_by_products(step):
    return lambda x: np.sum(step(DATA @ x)**2)


def samples_by_loops(step):
    def f(x):
        total = 0.0
        for row in DATA:
            s = 0.0
            for k in range(5):
                s = s + row[k] * x[k]
            total = total + step(s)**2
        return total
    return f


def samples_by_columns(x):
    s = np.zeros(SAMPLES)
    for k in range(5):
        s = s + DATA[:, k] * x[k]
    return np.mean(np.exp(s))


def scalar_samples(x):
    total = 0.0
    for row in DATA:
        s = 0.0
        for k in range(5):
            s = s + row[k] * x[k]
        total = total + np.tanh(s) * np.tanh(s)
    return total


def heat(step):
    def f(u):
        for _ in range(60):
            u = step(u + 0.1 * (np.roll(u, 1) - 2 * u + np.roll(u, -1)))
        return np.sum(u**2)
    return f


def heat_by_loops(x):
    u = [x[k] for k in range(POINTS)]
    for _ in range(60):
        u = [u[k] + 0.1 * (u[k - 1] - 2 * u[k] + u[(k + 1) % POINTS]) for k in range(POINTS)]
    total = 0.0
    for t in u:
        total = total + t * t
    return total


LAPLACE = 0.1 * (np.roll(np.eye(POINTS), 1, 0) - 2 * np.eye(POINTS) + np.roll(np.eye(POINTS), -1, 0))


def heat_by_products(u):
    for _ in range(60):
        u = np.sin(u + LAPLACE @ u)
    return u @ u


def tree(step):
    def f(x):
        while len(x) > 1:
            x = step(x[::2]) + step(x[1::2]) * x[::2]
        return x[0]
    return f


def tree_by_loops(step):
    def f(x):
        values = [x[k] for k in range(len(x))]
        while len(values) > 1:
            values = [step(a) + step(b) * a for a, b in zip(values[::2], values[1::2])]
        return values[0]
    return f


def additions(x):
    values = [x[k] for k in range(len(x))]
    while len(values) > 1:
        values = [np.sin(a) + np.sin(b) for a, b in zip(values[::2], values[1::2])]
    return values[0]


def uneven(step):
    """A long recurrence, then an array on it."""
    def f(x):
        s = x[0]
        for _ in range(STEPS):
            s = step(s * x[1])
        return np.sum(np.sin(s * np.linspace(0.0, 1.0, 100_000)))
    return f


def uneven_on_arrays(x):
    s = x[:1]
    for _ in range(STEPS):
        s = s * x[1] + 0.1
    return np.sum(np.cos(np.linspace(0.0, 1.0, 100_000) * s))


def side_by_side(x):
    """A recurrence, and an array that knows nothing of it."""
    s = x[0]
    for _ in range(STEPS):
        s = np.sin(s * x[1])
    t = np.linspace(0.0, 1.0, 20_000)
    return s + np.sum(np.tanh(t * x[2]) * np.cos(t * x[3]))


def side_by_side_in_loops(x):
    s, total = x[0], 0.0
    for k in range(STEPS):
        s = np.sin(s * x[1])
        for j in range(5):
            total = total + np.sin(0.01 * (5 * k + j) * x[2]) * x[3]
    return s + total


def grid_then_chain(x):
    """An array in time, then a recurrence on what it comes to."""
    u, s = x[0] * np.linspace(0.1, 1.0, POINTS), x[1]
    for _ in range(60):
        u = u + 0.1 * np.sin(np.roll(u, 1) * u)
    for k in range(STEPS):
        s = np.tanh(s * u[k % POINTS])
    return s


def chain_then_grid_in_loops(x):
    s = x[0]
    for _ in range(STEPS):
        s = np.sin(s * x[1])
    u = [s * (0.1 + 0.01 * k) for k in range(POINTS)]
    for _ in range(60):
        u = [np.sin(u[k - 1] * u[k]) for k in range(POINTS)]
    return sum(u)


def side_by_side_for_long(x):
    """Recurrences that know nothing of each other."""
    for _ in range(STEPS):
        x = np.sin(0.9 * x + 0.1)
    return x


def side_by_side_for_long_in_loops(x):
    found = []
    for k in range(len(x)):
        s = x[k]
        for _ in range(STEPS):
            s = np.sin(0.9 * s + 0.1)
        found.append(s)
    return np.stack(found)


def finally_summed(parts, square=False):
    """... until they are summed."""
    def f(x):
        return np.sqrt(np.mean((parts(x) - 0.3)**2)) if square else np.sum(parts(x))
    return f


def finally_summed_in_loops(x):
    rate, total = np.exp(-x[0]), 0.0  # of a parameter of their own, and of what is common to all
    for k in range(len(x)):
        s = x[k]
        for _ in range(STEPS):
            s = np.sin(rate * s + 0.1)
        total = total + (s - 0.5)**2
    return total


def all_at_once_in_loops(x):
    """Step by step for all of them."""
    states = [x[k] for k in range(len(x))]
    for _ in range(STEPS):
        states = [np.sin(0.9 * s + 0.1) for s in states]
    return sum(states)


def paths(x):
    """Random walks of a price, and what they are worth on average."""
    noise = np.random.default_rng(2).standard_normal((STEPS, SAMPLES))
    price, sigma = x[0] * np.ones(SAMPLES), np.sqrt(x[1])
    for row in noise:
        price = price * np.exp(0.01 * x[2] + 0.1 * sigma * row)
    return np.mean(np.maximum(price - 0.5, 0.0))


def mean_field(x):
    """All of them read the mean of all, at every step."""
    for _ in range(STEPS):
        x = np.sin(0.9 * x + 0.1 * np.mean(x))
    return np.sum(x)


def out_tree(x):
    """From one value to two, again and again."""
    y = x[:1]
    for _ in range(9):
        y = np.concatenate([np.sin(0.3 * y), np.cos(y)])
    return y


def out_tree_in_loops(x):
    values = [x[0]]
    for _ in range(9):
        values = [np.sin(a * factor) for a in values for factor in (0.3, 0.7)]
    return np.stack(values)


def triangle(n):
    """Every step reads all before it."""
    def f(x):
        rows, y = RNG.uniform(-0.1, 0.1, (n, n)), np.zeros(n)
        y[0] = x[0]
        for i in range(1, n):
            y[i] = np.tanh(rows[i, :i] @ y[:i])
        return y[-1]
    return f


def triangle_in_loops(n):
    def f(x):
        rows, y = RNG.uniform(-0.1, 0.1, (n, n)), [x[0]]
        for i in range(1, n):
            s = 0.0
            for j in range(i):
                s = s + rows[i, j] * y[j]
            y.append(np.tanh(s))
        return y[-1]
    return f


def triangle_of_sums(n):
    def f(x):
        y = [x[0], x[1]]
        for _ in range(n - 2):
            y.append(sum(y))
        return y[-1]
    return f


def trajectory(x):
    """A recurrence, all of which is read again at its end."""
    s, states, total = x[0], [], 0.0
    for _ in range(STEPS):
        s = np.sin(s * x[1])
        states.append(s)
    for state in states:
        total = total + (state - 0.5)**2
    return total


def many_parameters(x):
    """Every step reads all parameters, and the step before."""
    s = 0.1
    for k in range(100):
        a = 0.0
        for j in range(len(x)):
            a = a + 0.01 * (j + k) * x[j]
        s = np.tanh(s * 0.5 + a)
    return s


def tangle(lines, within=None):
    """Every line reads two lines before it at random: any, or one of the last so many."""
    def f(x):
        draw = np.random.default_rng(4)
        y = [x[k] for k in range(len(x))]
        for n in range(len(y), lines):
            a, b = draw.integers(0 if within is None else max(n - within, 0), n, 2)
            y.append(np.sin(y[a] * y[b]))
        return sum(y[-5:])
    return f


def shallow_tangle(x):
    """Eight layers, whose lines read any of those before them at random."""
    draw, layers = np.random.default_rng(4), [x[k] for k in range(len(x))]
    for _ in range(8):
        layers += [np.sin(layers[a] * layers[b]) for a, b in draw.integers(0, len(layers), (200, 2))]
    return sum(layers[-200:])


def tangle_on_arrays(x):
    """As much again as there is, read at random, and again."""
    draw, y = np.random.default_rng(4), x
    for _ in range(40):
        a, b = draw.integers(0, len(y), (2, max(len(y) // 4, 1)))
        y = np.concatenate([y, np.sin(y[a] * y[b])])
    return np.sum(y)


FEW, MANY, LEAVES = np.array([0.5, 0.9, 0.4, 0.3, 0.2]), np.linspace(0.2, 0.7, POINTS), np.linspace(0.5, 1.5, 256)
TABLE = {
    "chain": [(recurrence(plain), FEW), (recurrence(busy), FEW), (forced, np.linspace(0.1, 0.9, 3000)),
              (dd.compiled(recurrence(np.sin)), FEW), (state_by_products(np.tanh), FEW[:4]),
              (state_by_products(busy), FEW[:4]), (state_by_loops, FEW[:4]), (trajectory, FEW),
              (many_parameters, FEW)],
    "wide": [(samples_by_products(plain), FEW), (samples_by_products(busy), FEW), (samples_by_loops(plain), FEW),
             (samples_by_loops(busy), FEW), (samples_by_columns, FEW), (dd.compiled(scalar_samples), FEW),
             (shallow_tangle, FEW), (side_by_side_for_long, LEAVES[:64]),
             (side_by_side_for_long_in_loops, LEAVES[:64]), (paths, FEW),
             *[(finally_summed(f, square), LEAVES[:64]) for f in (side_by_side_for_long, side_by_side_for_long_in_loops)
               for square in (False, True)], (finally_summed_in_loops, LEAVES[:64]),
             (all_at_once_in_loops, LEAVES[:64])],
    "grid": [(heat(plain), MANY), (heat(busy), MANY), (heat_by_loops, MANY), (heat_by_products, MANY),
             (tangle(12_000, 400), MANY), (mean_field, LEAVES[:64])],
    "tree": [(tree(plain), LEAVES), (tree(busy), LEAVES), (tree_by_loops(plain), LEAVES), (tree_by_loops(busy), LEAVES),
             (additions, LEAVES), (out_tree, FEW), (out_tree_in_loops, FEW)],
    "mixed": [(uneven(plain), FEW), (uneven(np.sin), FEW), (uneven_on_arrays, FEW), (side_by_side, FEW),
              (side_by_side_in_loops, FEW), (grid_then_chain, FEW), (chain_then_grid_in_loops, FEW),
              (tangle(400), FEW), (tangle(20_000), FEW), (tangle_on_arrays, FEW),
              *[(f(n), FEW) for f in (triangle, triangle_in_loops, triangle_of_sums) for n in (20, 40)],
              (triangle(80), FEW)]}


@pytest.mark.parametrize("name", TABLE)
def test_it_is_the_same_however_it_is_written(name):
    found = []
    for f, x in TABLE[name]:
        with dd.linearize(f, x) as lin:
            found.append(lin.report().shape)
    assert found == [name] * len(found)


def test_parts():
    """Of arrays as of loops, and what is said where no line reads another."""
    def parts(f):
        with dd.linearize(f, np.linspace(0.1, 0.9, 12)) as lin:
            return next(line for line in str(lin.report()).splitlines() if line.startswith("parts"))

    assert "12 that have nothing in common" in parts(side_by_side_for_long)
    assert "12 that have only inputs in common" in parts(side_by_side_for_long_in_loops)
    assert "no line reads another but inputs" in parts(lambda x: x**2)
    assert "all hang together" in parts(lambda x: np.sin(x) * np.cumsum(x))
