"""Functions that every driver, method and rank count is run through: declared once.

Each is plain NumPy code; `points` are arguments at which it is smooth, in sizes that don't divide evenly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from elementals import MatVec, Polar, Products, Solve, apply


@dataclass(frozen=True)
class Case:
    name: str
    f: Callable[[np.ndarray], Any]
    x: np.ndarray
    holomorphic: bool = True  # the complex step applies: no abs, max, comparisons

    def __str__(self) -> str:
        return self.name


def _x(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, n)


def polynomial(x):
    return np.sum(x**3 - 2.0 * x**2 + x)


def elementwise(x):
    return np.sin(x) * np.exp(-x) + np.sqrt(x) / (1.0 + x**2) - np.log(x) * np.tanh(x)


def heat(u):
    for _ in range(6):
        u = u + 0.2 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1))
    return u * u


def burgers(u):
    for _ in range(4):
        up, um = np.roll(u, -1), np.roll(u, 1)
        u = u - 0.1 * u * (up - um) + 0.05 * (up - 2.0 * u + um)
    return np.sum(u**2)


def in_place(x):
    u = x.copy()
    for _ in range(5):
        u[1:-1] += 0.1 * (u[2:] - 2.0 * u[1:-1] + u[:-2])
        u[0] = u[1]
        u[-1] *= 0.5
    return u


def created(x):
    out = np.zeros(len(x))
    for i in range(len(x)):
        out[i] = x[i] * x[i - 1]
    return np.array([out.sum(), out[0], 1.0]) * np.ones(3)


def plane(x):
    u = x.reshape(-1, 7)
    for _ in range(3):
        lap = (np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1) - 4.0 * u)
        u = u + 0.1 * lap * u
    return u.sum(axis=0) + u[0] * u.mean()


def matrix(x):
    a = x.reshape(5, -1)
    m = a @ a.T
    return np.dot(m, a[:, 0]) + np.sum(m * np.arange(25.0).reshape(5, 5), axis=1)


def scalar_loop(x):
    a, b = x[0], x[1]
    s = 0.0
    for k in range(200):
        a, b = a + 0.01 * (1.1 * a - 0.4 * a * b), b + 0.01 * (0.1 * a * b - 0.4 * b)
        s = s + (a - 1.0) ** 2 * x[k % len(x)]
    return s


def rational(x):
    s = 1.0
    for k in range(len(x)):
        s = s + np.sin(x[k]) / (1.0 + s * s)
    return s


def mixed(x):
    u = np.exp(-x)
    total = 0.0
    for k in range(0, len(x) - 1, 3):
        total = total + u[k] * x[k + 1]
    return total * u + np.cumsum(x)


def gather(x):
    index = np.array([0, 2, 2, 5, 1, 0])
    y = x[index] ** 2
    z = np.zeros_like(x)
    z[index[:3]] = y[:3]
    return np.concatenate([y, z * x])


def softmax(x):
    z = x.reshape(-1, 3)
    z = z - np.max(z, axis=1, keepdims=True)
    p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
    return -np.sum(np.log(p[:, 0]))


def kinks(x):
    return np.where(x > 1.0, x**2, np.abs(x - 3.0)) + np.maximum(x, 0.9) + np.clip(x, 0.7, 1.2) + x.max() * x.min()


def branches(x):
    y = x
    for k in range(4):
        y = y * 1.1 if y[k] > 0.8 else y + x
    return y.sum()


def padded(x):
    p = np.pad(x, 2, mode="edge")
    s = np.stack([p[:-4], x, p[4:]])
    return (s * np.array([1.0, -2.0, 1.0])[:, None]).sum(axis=0) * np.concatenate([x[1:], x[:1]])


def solves(x):
    """Batched solves in a loop over time: matrices cut where the vectors are, read at shifted places."""
    u = x.reshape(-1, 3)
    for _ in range(6):
        a = 0.1 * u[:, :, None] * np.roll(u, 1, 0)[:, None, :] + np.eye(3)
        u = apply(Solve(3), a, np.sin(u)) + 0.1 * u
    return u * u[::-1]


def together(x):
    """Unlooped, of several results, with operands of every layout; windows that overlap; entries in a pattern."""
    r, e = apply(Polar(4), x[1:9:2])
    s, w = apply(Polar(3), np.lib.stride_tricks.sliding_window_view(x, 3))
    w[1:] *= s[1:, None]
    y = apply(Products(5), np.roll(x, 2)[:5] * r, np.arange(1.0, 5.0))
    z = apply(MatVec(4, 4), np.stack([e, y, w[0, 0] * x[:4], x[3:7]]), y * s[2])
    return np.concatenate([z, w.T.ravel(), [r, s[0]], apply(Polar(2), np.array([r, z[1]]))[1]])


CASES = [
    Case("polynomial", polynomial, _x(17)),
    Case("elementwise", elementwise, _x(23)),
    Case("heat", heat, _x(29)),
    Case("burgers", burgers, _x(31)),
    Case("in_place", in_place, _x(19)),
    Case("created", created, _x(11)),
    Case("plane", plane, _x(63)),
    Case("matrix", matrix, _x(30)),
    Case("scalar_loop", scalar_loop, _x(7)),
    Case("rational", rational, _x(40)),
    Case("mixed", mixed, _x(26)),
    Case("gather", gather, _x(6)),
    Case("softmax", softmax, _x(24), holomorphic=False),
    Case("kinks", kinks, _x(15), holomorphic=False),
    Case("branches", branches, _x(9), holomorphic=False),
    Case("padded", padded, _x(13)),
    Case("solves", solves, _x(21)),
    Case("together", together, _x(12)),
]


_references: dict[str, np.ndarray] = {}


def reference_jacobian(case: Case) -> np.ndarray:
    """By the complex step where the function is holomorphic, else by central differences of order 4; found once."""
    if case.name not in _references:
        _references[case.name] = _differences(case)
        _references[case.name].flags.writeable = False
    return _references[case.name]


def _differences(case: Case) -> np.ndarray:
    x, n = case.x, case.x.size
    columns = []
    for k in range(n):
        e = np.zeros(n)
        if case.holomorphic:
            e[k] = 1.0
            columns.append(np.imag(np.ravel(_complex(case.f, x + 1e-30j * e))) / 1e-30)
        else:
            e[k] = 1e-3
            d = [np.ravel(case.f(x + s * e)) for s in (-2, -1, 1, 2)]
            columns.append((d[0] - 8 * d[1] + 8 * d[2] - d[3]) / (12e-3))
    return np.array(columns).T


def _complex(f: Callable[..., Any], z: np.ndarray) -> Any:
    """f in complex arithmetic: `np.zeros` inside f must hold complex numbers."""
    zeros, zeros_like = np.zeros, np.zeros_like
    np.zeros = lambda shape, dtype=complex: zeros(shape, dtype)
    np.zeros_like = lambda a, dtype=complex: zeros_like(a, dtype)
    try:
        return f(z)
    finally:
        np.zeros, np.zeros_like = zeros, zeros_like
