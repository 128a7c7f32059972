"""Programs of many structures, small and medium: what `solvers` asks every method to solve.

Each is (name, function, point).  Nothing of distdiff is tuned on them: `distdiff calibrate` measures on programs of its
own, and these say whether its predictions carry over.  `held_out` are others again, of other sizes.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Program = tuple[str, Callable[[Any], Any], np.ndarray]


def chain(steps: int) -> Program:
    """Two floats, each step from the last: the critical path is all there is."""
    def f(x: Any) -> Any:
        p, q = x[0], x[1]
        for _ in range(steps):
            p, q = p + 0.01 * np.sin(q), q - 0.01 * p * q
        return p * p + q
    return "chain", f, np.array([0.5, 1.5])


def wide(samples: int, parameters: int) -> Program:
    """Many samples of few parameters, one sum."""
    rng = np.random.default_rng(1)
    t = np.linspace(0.0, 1.0, samples)
    basis = np.stack([np.cos((k + 1) * t) for k in range(parameters)])
    data = rng.standard_normal(samples)

    def f(x: Any) -> Any:
        y = np.zeros(samples)
        for k in range(parameters):
            y = y + np.tanh(x[k] * basis[k])
        return np.sum((y - data) ** 2)
    return "wide", f, rng.standard_normal(parameters)


def layered(width: int, depth: int) -> Program:
    """Dense layers: every value of one reads every value of the last."""
    rng = np.random.default_rng(2)
    weights = [rng.standard_normal((width, width)) / np.sqrt(width) for _ in range(depth)]

    def f(x: Any) -> Any:
        for w in weights:
            x = np.tanh(w @ x)
        return x
    return "layered", f, rng.standard_normal(width)


def tree(leaves: int) -> Program:
    """Pairs, pairs of pairs, down to one number."""
    def f(x: Any) -> Any:
        while len(x) > 1:
            x = np.sin(x[0::2]) * x[1::2] + x[0::2]
        return x[0]
    return "tree", f, np.random.default_rng(3).uniform(0.5, 1.5, leaves)


def burgers(points: int, steps: int) -> Program:
    """One dimension in time, the whole state wanted."""
    def f(u: Any) -> Any:
        for _ in range(steps):
            left, right = np.roll(u, 1), np.roll(u, -1)
            u = u - 0.1 * u * (right - left) + 0.05 * (right - 2.0 * u + left)
        return u
    return "burgers", f, np.sin(np.linspace(0.0, 2.0 * np.pi, points, endpoint=False))


def water(cells: int, steps: int) -> Program:
    """The shallow water of the examples: two dimensions in time, three fields, gauges read along the way."""
    from distdiff.examples import flow

    sea = flow.make_sea(cells)
    gauges = flow.place_gauges(sea, count=max(4, cells**2 // 100), steps=steps, every=4)
    return "water", flow.make_misfit(sea, gauges), 0.1 * np.random.default_rng(0).standard_normal((cells, cells))


def populations(steps: int) -> Program:
    """The Lotka-Volterra example: a scalar chain of Runge-Kutta steps, every step a result."""
    from distdiff.examples import lotka_volterra as model

    def f(x: Any) -> Any:
        hare, lynx, path = x[4], x[5], []
        for _ in range(steps):
            hare, lynx = model.step(hare, lynx, x[0], x[1], x[2], x[3], 1e-2)
            path.append(hare - lynx)
        return path
    return "populations", f, np.array(model.START, dtype=float)


def digits(images: int) -> Program:
    """The softmax regression of the examples."""
    from distdiff.examples import digits as model

    pictures, labels, _, _ = model.load()
    return "digits", model.make_loss(pictures[:images], labels[:images]), model.start()


def scattered(lines: int, inputs: int, outputs: int) -> Program:
    """Floats that read floats from anywhere before."""
    rng = np.random.default_rng(4)
    picks = [(int(a), int(b)) for a, b in zip(rng.integers(0, np.arange(inputs, inputs + lines)),
                                              rng.integers(0, np.arange(inputs, inputs + lines)))]

    def f(x: Any) -> Any:
        values = [x[k] for k in range(inputs)]
        for a, b in picks:
            values.append(0.6 * values[a] - 0.3 * values[b])
        return values[-outputs:]
    return "scattered", f, rng.uniform(0.5, 1.5, inputs)


def hub(lines: int) -> Program:
    """One parameter in every line of scalar code, and a sum."""
    def f(x: Any) -> Any:
        total = 0.0
        for k in range(lines):
            total = total + np.exp(-x[0] * (1.0 + k / lines)) * x[1 + k % 40]
        return total
    return "hub", f, np.linspace(0.5, 1.5, 41)


def ladder(width: int, steps: int) -> Program:
    """A narrow array through many steps: statements of a few elements, an interface of as many numbers."""
    rng = np.random.default_rng(5)
    A = rng.standard_normal((width, width)) / (2 * width)

    def f(x: Any) -> Any:
        for _ in range(steps):
            x = x + 0.1 * np.sin(A @ x)
        return x
    return "ladder", f, rng.standard_normal(width)


def records(points: int, steps: int) -> Program:
    """Many results: a short row of cells, recorded at every step."""
    def f(u: Any) -> Any:
        kept = []
        for _ in range(steps):
            u = u + 0.2 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1)) * u
            kept.append(u)
        return np.stack(kept)
    return "records", f, np.random.default_rng(6).uniform(0.5, 1.5, points)


def mesh(nodes: int, steps: int) -> Program:
    """An unstructured mesh: neighbours by index arrays."""
    rng = np.random.default_rng(7)
    near = np.minimum(nodes - 1, np.maximum(0, np.arange(nodes)[:, None] + rng.integers(-40, 41, (nodes, 4))))

    def f(u: Any) -> Any:
        for _ in range(steps):
            u = u + 0.1 * (u[near].sum(axis=1) - 4.0 * u) * (1.0 + u)
        return np.sum(u * u)
    return "mesh", f, rng.uniform(0.0, 0.1, nodes)


def mixed(points: int, steps: int) -> Program:
    """Arrays whose step is a float that a scalar recurrence makes."""
    def f(x: Any) -> Any:
        u, h = x[1:], x[0]
        for _ in range(steps):
            h = h * (1.0 - 0.01 * h * h)
            u = u + 0.1 * h * np.sin(u)
        return np.concatenate([u[:5], u[-5:]])
    return "mixed", f, np.linspace(0.2, 1.2, points + 1)


def sums(points: int, steps: int) -> Program:
    """Running sums of running sums."""
    def f(u: Any) -> Any:
        for _ in range(steps):
            u = np.tanh(np.cumsum(u) / points) + u
        return u
    return "sums", f, np.linspace(-1.0, 1.0, points)


def pool(points: int) -> Program:
    """Few statements, few results of many values: wide and shallow."""
    def f(x: Any) -> Any:
        y = np.exp(-x * x) * np.sin(3.0 * x) / (1.0 + x * x)
        return y.reshape(20, -1).sum(axis=1)
    return "pool", f, np.linspace(-1.0, 1.0, points)


def suite(quick: bool = False) -> list[Program]:
    """The structures of the table."""
    s = 10 if quick else 1
    return [chain(5000 // s), wide(100_000 // s, 8), layered(64, 6), tree(2**14 // s // 8 * 8 if s == 1 else 2**11),
            burgers(2000 // s, 60), water(48 // (3 if quick else 1), 16), populations(400 // s), digits(600 // s),
            scattered(20_000 // s, 50, 50), hub(8000 // s), ladder(6, 1000 // s), records(200, 50 // s),
            mesh(4000 // s, 10), mixed(5000 // s, 40), sums(500, 20), pool(100_000 // s)]


def held_out(quick: bool = False) -> list[Program]:
    """Others, for which nothing was looked at while the cost functions were written."""
    s = 10 if quick else 1

    def orbits(x: Any) -> Any:  # n bodies, all pairs as arrays
        q, v = x[:60].reshape(20, 3), x[60:].reshape(20, 3)
        for _ in range(12 if s == 1 else 3):
            d = q[:, None, :] - q[None, :, :]
            r = np.sum(d * d, axis=2) + 0.1
            v = v - 0.01 * np.sum(d / (r ** 1.5)[:, :, None], axis=1)
            q = q + 0.01 * v
        return q

    def rosenbrock(x: Any) -> Any:
        return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

    def reaction(u: Any) -> Any:  # two dimensions, two species
        a, b = u[0], u[1]
        for _ in range(15):
            lap = [np.roll(w, 1, 0) + np.roll(w, -1, 0) + np.roll(w, 1, 1) + np.roll(w, -1, 1) - 4 * w for w in (a, b)]
            r = a * b * b
            a, b = a + 0.1 * lap[0] - r + 0.03 * (1 - a), b + 0.05 * lap[1] + r - 0.09 * b
        return a + b

    def recurrent(w: Any) -> Any:  # a small recurrent network
        W, h = w.reshape(24, 24), np.zeros(24)
        for k in range(60 // (3 if quick else 1)):
            h = np.tanh(W @ h + np.sin(0.3 * k))
        return h

    def polynomials(x: Any) -> Any:  # Horner's rule on floats, many results
        return [((x[0] * k + x[1]) * k + x[2]) * (0.1 * k) + x[3] for k in range(3000 // s)]

    def filters(x: Any) -> Any:  # a scalar recurrence of third order over a signal
        a, b, c = x[0], x[1], x[2]
        y = [x[3], x[4], x[5]]
        for k in range(4000 // s):
            y.append(a * y[-1] + b * y[-2] + c * y[-3] + np.cos(0.1 * k))
        return y[-1] * y[-2]

    rng = np.random.default_rng(9)
    return [("orbits", orbits, rng.standard_normal(120)), ("rosenbrock", rosenbrock, rng.uniform(0, 1, 50_000 // s)),
            ("reaction", reaction, rng.uniform(0, 1, (2, 60 // (2 if quick else 1), 60))),
            ("recurrent", recurrent, 0.3 * rng.standard_normal(576)),
            ("polynomials", polynomials, rng.uniform(0, 1, 4)),
            ("filters", filters, np.array([0.5, 0.2, -0.3, 1.0, 0.5, 0.2]))]


def fresh(quick: bool = False) -> list[Program]:
    """Others again, written when layouts and methods came to be chosen together, not looked at before that was done."""
    s = 10 if quick else 1
    rng = np.random.default_rng(11)
    inputs, targets = rng.standard_normal((2000 // s, 6)), rng.standard_normal(2000 // s)

    def advection(u: Any) -> Any:  # upwind, in place, fixed ends; the outflow in time
        out = []
        for _ in range(80 // (4 if quick else 1)):
            v = u.copy()
            v[1:] = u[1:] - 0.3 * (1.0 + 0.1 * u[1:]) * (u[1:] - u[:-1])
            u = v
            out.append(u[-1])
        return np.stack(out)

    def network(w: Any) -> Any:  # two layers, a regression
        hidden = np.tanh(inputs @ w[:60].reshape(6, 10))
        return np.mean((hidden @ w[60:] - targets) ** 2)

    def pendulums(x: Any) -> Any:  # coupled pendulums, floats, all angles at the end
        q, p = [x[k] for k in range(8)], [x[8 + k] for k in range(8)]
        for _ in range(150 // (5 if quick else 1)):
            force = [-np.sin(q[k]) + 0.2 * (q[(k + 1) % 8] - 2.0 * q[k] + q[k - 1]) for k in range(8)]
            p = [p[k] + 0.02 * force[k] for k in range(8)]
            q = [q[k] + 0.02 * p[k] for k in range(8)]
        return q

    def filtered(x: Any) -> Any:  # predictions and corrections with small matrices
        A, state, cost = x[:16].reshape(4, 4), x[16:20], 0.0
        for k in range(200 // s):
            state = state + 0.05 * np.tanh(A @ state)
            miss = state[0] - np.cos(0.1 * k)
            state = state - 0.1 * miss * x[20:24]
            cost = cost + miss * miss
        return cost

    def histogram(x: Any) -> Any:  # scattered into cells, and back
        cells = np.zeros(500 // s)
        np.add.at(cells, rng_cells, np.exp(-x))
        return np.cumsum(cells)[::5] / np.sum(cells)

    rng_cells = rng.integers(0, 500 // s, 20_000 // s)

    def continued(x: Any) -> Any:  # a continued fraction for many arguments
        y = x
        for k in range(30, 0, -1):
            y = x / (k + y * y)
        return y

    return [("advection", advection, rng.uniform(0.5, 1.5, 3000 // s)),
            ("network", network, 0.3 * rng.standard_normal(70)),
            ("pendulums", pendulums, rng.uniform(-1.0, 1.0, 16)),
            ("filtered", filtered, 0.3 * rng.standard_normal(24)),
            ("histogram", histogram, rng.uniform(0.0, 2.0, 20_000 // s)),
            ("continued", continued, rng.uniform(0.5, 1.5, 30_000 // s))]


def unseen(quick: bool = False) -> list[Program]:
    """Others once more, written when counts and rates were changed last and measured only after that was done."""
    s = 10 if quick else 1
    rng = np.random.default_rng(13)

    def string(u: Any) -> Any:  # a wave on a string with fixed ends, two levels in time, its energy
        before, now = u, u.copy()
        for _ in range(50 // (5 if quick else 1)):
            after = np.zeros(len(u))
            after[1:-1] = 2.0 * now[1:-1] - before[1:-1] + 0.2 * (now[2:] - 2.0 * now[1:-1] + now[:-2])
            before, now = now, after
        return np.sum((now - before) ** 2) + 0.2 * np.sum((now[1:] - now[:-1]) ** 2)

    def mixture(p: Any) -> Any:  # log-likelihood of a mixture of normal distributions
        mean, spread, weight = p[:4], np.exp(p[4:8]), np.exp(p[8:])
        z = (data[:, None] - mean) / spread
        return np.sum(np.log(np.sum(weight / np.sum(weight) * np.exp(-0.5 * z * z) / spread, axis=1)))

    def reversible(x: Any) -> Any:  # coupled layers that change one half by the other
        a, b = x[:40], x[40:]
        for k in range(24 // (3 if quick else 1)):
            a = a + np.tanh(first[k] @ b)
            b = b + np.tanh(second[k] @ a)
        return np.concatenate([a, b])

    def auction(x: Any) -> Any:  # floats with kinks: a price that follows bids
        price, spent = x[0], 0.0
        for k in range(2000 // s):
            bid = x[1 + k % 30] * np.sqrt(1.0 + price * price)
            price = price + 0.1 * np.maximum(bid - price, 0.0) - 0.01 * price
            spent = spent + np.minimum(bid, price)
        return [price, spent]

    def diffusion(u: Any) -> Any:  # three dimensions, a coefficient at every point
        c = u[0]
        u = u[1]
        for _ in range(8 // (2 if quick else 1)):
            flux = sum(np.roll(u, 1, axis) + np.roll(u, -1, axis) - 2.0 * u for axis in range(3))
            u = u + 0.1 * c * flux
        return u[::4, ::4, ::4].ravel()

    def ranking(x: Any) -> Any:  # pairs compared, scattered back to who took part
        win = 1.0 / (1.0 + np.exp(x[right] - x[left]))
        score = np.zeros(300 // s)
        np.add.at(score, left, win)
        np.add.at(score, right, 1.0 - win)
        return np.log(1.0 + score)

    data = rng.standard_normal(20_000 // s)
    first, second = 0.2 * rng.standard_normal((2, 24, 40, 40))
    left, right = rng.integers(0, 300 // s, (2, 15_000 // s))
    cells = 24 // (3 if quick else 1)
    return [("string", string, rng.uniform(-1.0, 1.0, 4000 // s)), ("mixture", mixture, 0.5 * rng.standard_normal(12)),
            ("reversible", reversible, rng.standard_normal(80)), ("auction", auction, rng.uniform(0.5, 1.5, 31)),
            ("diffusion", diffusion, rng.uniform(0.5, 1.5, (2, cells, cells, cells))),
            ("ranking", ranking, rng.standard_normal(300 // s))]
