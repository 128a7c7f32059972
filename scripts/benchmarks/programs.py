"""The programs that every tool differentiates: the worked examples of distdiff.

One text serves all tools, so their gradients can be compared digit by digit. Importing distdiff.examples needs nothing
but NumPy, so the examples load in the environment of the peers too, with the module they know as `np` replaced by the
peer's own (`jax.numpy`, `autograd.numpy`, `torch`): the peers, unlike distdiff, need that.
"""
from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np


def load_example(name: str, array_module: Any = np) -> ModuleType:
    """A fresh copy of distdiff/examples/<name>.py whose `np` is `array_module`."""
    spec = importlib.util.find_spec(f"distdiff.examples.{name}")
    if spec is None or spec.loader is None:
        raise ImportError(f"there is no example {name!r} in distdiff/examples")
    importlib.import_module(spec.name)  # dataclasses look their module up by name
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.np = array_module
    return module


# -- scalar: the Lotka-Volterra model, classical Runge-Kutta, one Python loop over scalars -----------------------------

OPERATIONS_A_STEP = 50
OPERATIONS_BEYOND = 3
STEPS_A_YEAR = 1000


def chain_inputs() -> np.ndarray:
    """alpha, beta, gamma, delta and the two initial populations, shape (6,): the guess the example starts from."""
    alpha, beta, gamma, delta, hare, lynx = load_example("lotka_volterra").START
    return np.array([alpha, beta, gamma, delta, hare, lynx])


def make_chain(steps: int) -> Callable[[Any], Any]:
    """|state|^2 after `steps` Runge-Kutta steps as a function of `chain_inputs()`; a Python loop over scalars."""
    step = load_example("lotka_volterra").step

    def chain(parameters: Any) -> Any:
        alpha, beta, gamma = parameters[0], parameters[1], parameters[2]
        delta, hare, lynx = parameters[3], parameters[4], parameters[5]
        for _ in range(steps):
            hare, lynx = step(hare, lynx, alpha, beta, gamma, delta, 1.0 / STEPS_A_YEAR)
        return hare * hare + lynx * lynx

    return chain


def chain_steps(operations: float) -> int:
    """The smallest number of steps that makes at least `operations` operations."""
    return max(1, math.ceil((operations - OPERATIONS_BEYOND) / OPERATIONS_A_STEP))


def chain_operations(steps: int) -> int:
    """The operations `make_chain(steps)` carries out on quantities that depend on its inputs."""
    return OPERATIONS_A_STEP * steps + OPERATIONS_BEYOND


class _Counting:
    """A float that counts the operations carried out with it: the denominator is measured, not asserted."""

    count = 0

    def _operate(self, _other: Any) -> _Counting:
        _Counting.count += 1
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _operate


def counted_operations(steps: int) -> int:
    """The number of operations that a counting float sees in `make_chain(steps)`."""
    _Counting.count = 0
    make_chain(steps)([_Counting()] * 6)
    return _Counting.count


# -- burgers: one dimension, np.roll, eleven lines a point and step ----------------------------------------------------

def make_burgers(points: int, steps: int, array_module: Any = np) -> Callable[[Any], Any]:
    """The misfit of the Burgers example, computed with `array_module`."""
    return load_example("burgers", array_module).make_misfit(points, steps)


def burgers_initial(points: int) -> np.ndarray:
    """The initial state of the Burgers example, shape (points,)."""
    return load_example("burgers").initial(points)


def burgers_lines(points: int, steps: int) -> int:
    """Flattened lines of the time loop."""
    return load_example("burgers").LINES_PER_POINT_STEP * points * steps


# -- implicit: nonlinear Poisson on a square, -u'' + p u^3 = q ---------------------------------------------------------


def poisson(n: int) -> tuple[Callable[[Any], Any], np.ndarray]:
    """(f, x): the sum of the squares of u on n x n points as a function of p and q, one after another, and a point."""
    from distdiff import implicit

    def residual(p: Any, u: Any) -> Any:
        r = 4.0 * u
        r[1:] -= u[:-1]
        r[:-1] -= u[1:]
        r[:, 1:] -= u[:, :-1]
        r[:, :-1] -= u[:, 1:]
        return r * (n + 1) ** 2 / 100 + p[0] * u**3 - p[1]

    def f(x: Any) -> Any:
        return np.sum(implicit.root(residual, (x[0], x[1:].reshape(n, n)), np.zeros((n, n))) ** 2)

    return f, np.random.default_rng(2).uniform(0.5, 1.5, n * n + 1)
