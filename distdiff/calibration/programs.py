"""Small programs that between them take much of everything whose rate is to be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..implicit import linear_solve, root


def programs() -> list[tuple[str, Callable[[Any], Any], np.ndarray]]:
    """Programs that between them take much of everything: statements, lines near and far, scalar code, rows, ends."""
    rng = np.random.default_rng(0)

    def stencil(steps: int) -> Callable[[Any], Any]:
        def f(u: Any) -> Any:
            for _ in range(steps):
                u = 0.7 * u + 0.1 * np.roll(u, 1) * u - 0.2 * np.roll(u, -1)
            return u
        return f

    def layers(widths: list[int]) -> Callable[[Any], Any]:
        weights = [rng.standard_normal((b, a)) / a for a, b in zip(widths, widths[1:])]

        def f(x: Any) -> Any:
            for w in weights:
                x = np.exp(-(w @ x) ** 2)
            return x
        return f

    def various(n: int, results: bool) -> Callable[[Any], Any]:
        picked = rng.integers(0, n, n)

        def f(x: Any) -> Any:
            y = np.exp(-x) * np.sqrt(1.0 + x * x)
            z = y[picked] * x + np.cumsum(y) / n
            w = np.log(1.0 + z * z)[: n // 2] - np.tanh(y)[n // 2 : 2 * (n // 2)]
            return w if results else np.sum(w * w)
        return f

    def squares(n: int) -> Callable[[Any], Any]:
        t = np.linspace(0.0, 1.0, n)

        def f(p: Any) -> Any:
            y = p[0] * np.exp(-p[1] * t) + p[2] * np.sin(p[3] * t + p[4])
            return np.sum((y - 0.3) ** 2)
        return f

    def recurrence(steps: int, results: bool) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:  # derivatives neither fade nor grow: where they leave the range, solves are repeated
            a, b, c = x[0], x[1], x[2]
            path = []
            for k in range(steps):
                a, b, c = 0.9999 * b + 0.01 * np.cos(c), 0.9999 * c - 0.01 * np.sin(a), 0.9999 * a - 0.01 * x[k % 3]
                path.append(a * b)
            return path[::10] if results else path[-1]
        return f

    def web(lines: int) -> Callable[[Any], Any]:
        reads = [(int(rng.integers(0, 20 + k)), int(rng.integers(max(0, k - 50), 20 + k))) for k in range(lines)]

        def f(x: Any) -> Any:
            v = [x[k] for k in range(20)]
            for i, j in reads:
                v.append(0.5 * v[i] - 0.4 * v[j] * v[i])
            return v[-30:]
        return f

    def alternating(steps: int, n: int) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            u, s = x[1:], x[0]
            for _ in range(steps):
                s = s - 0.01 * s * s
                u = u - 0.1 * s * u * u
            return u
        assert n
        return f

    def neighbours(n: int) -> Callable[[Any], Any]:
        near = rng.integers(0, n, (n, 3))

        def f(u: Any) -> Any:
            for _ in range(5):
                u = u - 0.1 * np.sum(u[near], axis=1) * u
            return u
        return f

    def matrices(n: int, steps: int) -> Callable[[Any], Any]:
        A = rng.standard_normal((n, n)) / n

        def f(x: Any) -> Any:
            for _ in range(steps):
                x = x + 0.1 * np.sin(A @ x) * np.cumsum(x)
            return x
        return f

    def classes(samples: int) -> Callable[[Any], Any]:
        features = rng.standard_normal((samples, 30))

        def f(w: Any) -> Any:
            scores = np.exp(features @ w.reshape(30, 6))
            return np.sum(np.log(np.sum(scores, axis=1)))
        return f

    def ratios(steps: int) -> Callable[[Any], Any]:
        def f(u: Any) -> Any:
            for _ in range(steps):
                u = u + 0.1 * np.tanh(np.roll(u, 1)) / (1.0 + u * u)
            return u
        return f

    def species(steps: int) -> Callable[[Any], Any]:
        def f(w: Any) -> Any:
            a, b = w[0], w[1]
            for _ in range(steps):
                near = [np.roll(c, 1, 0) + np.roll(c, -1, 0) + np.roll(c, 1, 1) - 3.0 * c for c in (a, b)]
                a, b = a + 0.1 * near[0] - 0.01 * a * b, b + 0.05 * near[1] + 0.01 * a * b
            return a * b
        return f

    def fixed_ends(steps: int) -> Callable[[Any], Any]:
        def f(u: Any) -> Any:
            for _ in range(steps):
                v = u.copy()
                v[1:-1] = u[1:-1] - 0.1 * u[1:-1] * (u[2:] - u[:-2])
                u = v
            return u
        return f

    def cells(n: int, steps: int) -> Callable[[Any], Any]:
        def f(w: Any) -> Any:
            matrix, h = w[n:].reshape(n, n), w[:n]
            for _ in range(steps):
                h = np.tanh(matrix @ h)
            return h
        return f

    def halves(x: Any) -> Any:
        while len(x) > 1:
            x = x[: len(x) // 2] * np.cos(x[len(x) // 2 :])
        return x[0]

    def energy(w: Any) -> Any:
        for _ in range(8):
            w = w - 0.01 * (4.0 * w - np.roll(w, 1, 0) - np.roll(w, -1, 0) - np.roll(w, 1, 1) - np.roll(w, -1, 1)) * w
        return np.sum(w ** 3)

    def at(n: int) -> np.ndarray:
        return rng.uniform(0.2, 1.0, n)

    return [
        ("short stencil", stencil(40), at(300)), ("long stencil", stencil(12), at(8000)),
        ("far stencil", stencil(6), at(30_000)),
        ("tiny stencil", stencil(150), at(8)), ("narrow layers", layers([30] * 9), at(30)),
        ("wide layers", layers([300, 200, 300, 100]), at(300)), ("various, near", various(3000, True), at(3000)),
        ("various, far", various(40_000, True), at(40_000)), ("various, a sum", various(20_000, False), at(20_000)),
        ("fit, near", squares(2000), at(5)), ("fit, far", squares(60_000), at(5)),
        ("recurrence", recurrence(2000, False), at(3)),
        ("long recurrence", recurrence(10_000, False), at(3)), ("recurrence, results", recurrence(3000, True), at(3)),
        ("web", web(6000), at(20)), ("alternating", alternating(30, 2000), at(2001)), ("halves", halves, at(1 << 12)),
        ("plane", energy, at(100 * 100).reshape(100, 100)), ("small plane", energy, at(24 * 24).reshape(24, 24)),
        ("neighbours", neighbours(1500), at(1500)), ("many neighbours", neighbours(6000), at(6000)),
        ("matrix steps", matrices(8, 150), at(8)), ("large matrix steps", matrices(60, 60), at(60)),
        ("ratios", ratios(30), at(3000)), ("far ratios", ratios(8), at(40_000)),
        ("vast stencil", stencil(6), at(120_000)), ("vast ratios", ratios(3), at(120_000)),
        ("species", species(20), at(2 * 40 * 40).reshape(2, 40, 40)), ("fixed ends", fixed_ends(60), at(1500)),
        ("cells", cells(12, 40), at(12 * 13)), ("more cells", cells(40, 25), at(40 * 41)),
        ("classes", classes(400), at(180)), ("many classes", classes(3000), at(180)), ("tiny", squares(10), at(5)),
    ]


def equations() -> list[tuple[str, Callable[[Any], Any], np.ndarray]]:
    """Programs whose results are given by equations: point by point, along a line, in the plane, dense and sparse."""
    rng = np.random.default_rng(1)

    def solved(residual: Callable[[Any, Any], Any], times: int) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            for _ in range(times):
                x = root(residual, x, x)
            return np.sum(x * x)
        return f

    def apart(x: Any, y: Any) -> Any:
        return y + 0.1 * y**3 - x

    def line(x: Any, y: Any) -> Any:
        return y + 0.1 * y**3 - 0.1 * (np.roll(y, 1) + np.roll(y, -1)) - x

    def plane(x: Any, y: Any) -> Any:
        z = np.pad(y, 1)
        return 1.8 * y - 0.2 * (z[2:, 1:-1] + z[:-2, 1:-1] + z[1:-1, 2:] + z[1:-1, :-2]) + 0.1 * y**3 - x

    def dense(n: int, times: int) -> Callable[[Any], Any]:
        matrix = np.eye(n) + 0.1 * rng.standard_normal((n, n)) / n

        def f(x: Any) -> Any:
            for _ in range(times):
                x = linear_solve(matrix * (1.0 + 0.01 * x[0]), x)
            return np.sum(x * x)
        return f

    def sparse(x: Any) -> Any:
        k = np.arange(len(x))
        places = np.concatenate([k, k[1:], k[:-1]]), np.concatenate([k, k[:-1], k[1:]])
        beside = np.full(len(x) - 1, -0.4)
        for _ in range(2):
            x = linear_solve((np.concatenate([2.0 + x * x, beside, beside]), places), x)
        return np.sum(x * x)

    def at(*shape: int) -> np.ndarray:
        return rng.uniform(0.5, 1.5, shape)

    return [("apart", solved(apart, 5), at(300)), ("far apart", solved(apart, 1), at(30_000)),
            ("short line", solved(line, 12), at(10)), ("line", solved(line, 4), at(400)),
            ("long line", solved(line, 1), at(8000)), ("small plane", solved(plane, 3), at(10, 10)),
            ("plane", solved(plane, 1), at(40, 40)), ("large plane", solved(plane, 1), at(100, 100)),
            ("small matrices", dense(4, 12), at(4)), ("matrices", dense(25, 4), at(25)),
            ("large matrices", dense(90, 2), at(90)), ("sparse", sparse, at(3000))]


__all__ = ["equations", "programs"]
