"""Viscous Burgers in one dimension, u_t + u u_x = nu u_xx on a periodic interval: the smallest honest array program.

Central differences in space, forward Euler in time, written with `np.roll`; eleven flattened lines a point and step.
The benchmarks use it because every array tool runs it as it stands. Nothing in this file knows about distdiff.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

LINES_PER_POINT_STEP = 11


def initial(points: int) -> np.ndarray:
    """A smooth initial state of shape (points,), between 0.4 and 1.6."""
    x = np.arange(points) / points
    return 1.0 + 0.5 * np.sin(2.0 * np.pi * x) + 0.1 * np.cos(6.0 * np.pi * x)


def make_misfit(points: int, steps: int) -> Callable:
    """The misfit of the final state as a function of the initial state u, shape (points,).

    misfit(u0) = dx/2 sum_i (u_i(T) - 1)^2. The viscosity nu = dx keeps the cell Reynolds number below 2, and
    dt = dx/10 obeys the advective and the diffusive limit, so a run of any size stays bounded.
    """
    dx = 1.0 / points
    nu = dx
    dt = 0.1 * dx

    def misfit(u):
        for _ in range(steps):
            left, right = np.roll(u, 1), np.roll(u, -1)
            u = u - dt * (u * (right - left) / (2.0 * dx)) + nu * dt * (right - 2.0 * u + left) / dx**2
        return 0.5 * dx * np.sum((u - 1.0) ** 2)

    return misfit


def misfit(u):
    """`make_misfit` at 100 steps on as many points as u has, for the command line."""
    return make_misfit(len(u), 100)(u)
