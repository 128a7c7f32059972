"""A grid in time: where did the wave start? Shallow water in a closed sea, seen by a few tide gauges.

The surface elevation eta and the velocities u, v on an Arakawa C grid follow the rotating shallow-water equations

    eta_t + ((D + eta) u)_x + ((D + eta) v)_y = 0,   u_t - f v = -g eta_x - r u,   v_t + f u = -g eta_y - r v

over the depth D, with a land mask, stepped forward-backward (continuity first, then the momentum at the new
surface). The unknown is the surface at time zero; the data are noisy gauge records. The estimate is the classical
variational one of data assimilation: the unknown is written as a smoothed field of independent standard normal
numbers z, and

    misfit(z) = 1/2 sum (gauge records - observations)^2 / noise^2 + 1/2 sum z^2

is minimised. Everything is array code with `np.roll`; nothing in this file knows about distdiff.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

GRAVITY = 9.81  # m/s^2
CORIOLIS = 1.2e-4  # 1/s, at about 55 degrees north
FRICTION = 2.0e-5  # 1/s
AMPLITUDE = 0.5  # m, prior standard deviation of the initial surface
NOISE = 0.02  # m, standard deviation of a gauge reading
SMOOTHING_PASSES = 8


@dataclass(frozen=True)
class Sea:
    """A closed sea of cells x cells squares: depth (m) and what is sea (1.0) or land (0.0), both (cells, cells)."""

    depth: np.ndarray
    wet: np.ndarray
    dx: float
    dt: float

    @property
    def cells(self) -> int:
        return self.depth.shape[0]


@dataclass(frozen=True)
class Gauges:
    """Positions of the tide gauges (cell indices), the steps at which they are read, and their records (m).

    `observations` has shape (len(times), len(rows)).
    """

    rows: np.ndarray
    columns: np.ndarray
    times: tuple[int, ...]
    observations: np.ndarray


def make_sea(cells: int = 80, length: float = 4.0e5) -> Sea:
    """A square sea of `length` metres a side with a ragged coast, an island, a shelf and a deep channel."""
    y, x = (np.mgrid[0:cells, 0:cells] + 0.5) / cells
    coast = 0.07 + 0.025 * np.sin(9.0 * x + 1.0) * np.cos(11.0 * y) + 0.02 * np.sin(23.0 * (x - y))
    inland = np.minimum(np.minimum(x, 1.0 - x), np.minimum(y, 1.0 - y)) < coast
    bearing = np.arctan2(y - 0.60, x - 0.40)
    island = ((x - 0.40) / 0.08) ** 2 + ((y - 0.60) / 0.06) ** 2 < 1.0 + 0.3 * np.sin(3.0 * bearing)
    wet = np.where(inland | island, 0.0, 1.0)
    wet[[0, -1], :] = 0.0  # np.roll wraps around: a rim of land closes the sea
    wet[:, [0, -1]] = 0.0
    depth = (
        40.0
        + 130.0 * np.sin(np.pi * x) * np.sin(np.pi * y)
        + 40.0 * np.exp(-(((y - 0.3 - 0.3 * x) / 0.1) ** 2))
    )
    dx = length / cells
    dt = 0.55 * dx / np.sqrt(GRAVITY * depth.max())
    return Sea(depth=depth, wet=wet, dx=dx, dt=dt)


def make_truth(sea: Sea) -> np.ndarray:
    """The initial surface to be found again (m): an uplift and a subsidence side by side, and a smaller, far one."""
    y, x = (np.mgrid[0 : sea.cells, 0 : sea.cells] + 0.5) / sea.cells

    def hump(height, cx, cy, along, across, angle):
        s = np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)
        t = np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)
        return height * np.exp(-0.5 * ((s / along) ** 2 + (t / across) ** 2))

    surface = hump(1.6, 0.66, 0.42, 0.11, 0.045, 0.6) + hump(-1.1, 0.72, 0.33, 0.11, 0.045, 0.6)
    return sea.wet * (surface + hump(0.9, 0.30, 0.28, 0.05, 0.05, 0.0))


def smooth(field, wet, passes: int = SMOOTHING_PASSES):
    """Diffusion steps over the wet cells, without flux over the coast; a Gaussian filter in open sea."""
    open_x = 0.2 * wet * np.roll(wet, -1, axis=1)
    open_y = 0.2 * wet * np.roll(wet, -1, axis=0)
    for _ in range(passes):
        flux_x = open_x * (np.roll(field, -1, axis=1) - field)
        flux_y = open_y * (np.roll(field, -1, axis=0) - field)
        field = field + (flux_x - np.roll(flux_x, 1, axis=1)) + (flux_y - np.roll(flux_y, 1, axis=0))
    return field


def initial_surface(z, sea: Sea):
    """The initial surface (m) that the control field z, shape (cells, cells), stands for.

    The factor makes the prior standard deviation of the surface AMPLITUDE in open sea: `passes` steps with
    diffusion number 0.2 are a Gaussian of variance 0.4 passes, and white noise filtered by it keeps the fraction
    1 / (4 pi 0.4 passes) of its own.
    """
    scale = AMPLITUDE * np.sqrt(4.0 * np.pi * 0.4 * SMOOTHING_PASSES)
    return scale * smooth(sea.wet * z, sea.wet)


def simulate(surface, sea: Sea, rows, columns, times) -> list:
    """Gauge records: a list with the surface at the cells (rows, columns) for each step of `times`."""
    dt, dx = sea.dt, sea.dx
    open_x = sea.wet * np.roll(sea.wet, -1, axis=1)  # the faces where water can pass
    open_y = sea.wet * np.roll(sea.wet, -1, axis=0)
    keep_x, keep_y = (1.0 - FRICTION * dt) * open_x, (1.0 - FRICTION * dt) * open_y
    turn_x, turn_y = 0.25 * CORIOLIS * dt * open_x, 0.25 * CORIOLIS * dt * open_y
    slope_x, slope_y = GRAVITY * dt / dx * open_x, GRAVITY * dt / dx * open_y

    eta, u, v = surface, np.zeros_like(sea.depth), np.zeros_like(sea.depth)
    records = []
    for step in range(1, max(times) + 1):
        height = sea.depth + eta
        flux_x = u * (0.5 * (height + np.roll(height, -1, axis=1)))
        flux_y = v * (0.5 * (height + np.roll(height, -1, axis=0)))
        eta = eta - dt / dx * ((flux_x - np.roll(flux_x, 1, axis=1)) + (flux_y - np.roll(flux_y, 1, axis=0)))

        v_east = v + np.roll(v, -1, axis=1)
        v_at_u = v_east + np.roll(v_east, 1, axis=0)
        u = keep_x * u + turn_x * v_at_u - slope_x * (np.roll(eta, -1, axis=1) - eta)
        u_north = u + np.roll(u, -1, axis=0)
        u_at_v = u_north + np.roll(u_north, 1, axis=1)
        v = keep_y * v - turn_y * u_at_v - slope_y * (np.roll(eta, -1, axis=0) - eta)

        if step in times:
            records.append(eta[rows, columns])
    return records


def place_gauges(sea: Sea, count: int, steps: int, every: int, seed: int = 1) -> Gauges:
    """`count` gauges at random wet cells, read every `every` of `steps` steps, with noise added to the true run."""
    rng = np.random.default_rng(seed)
    wet_rows, wet_columns = np.nonzero(sea.wet)
    chosen = rng.choice(len(wet_rows), size=count, replace=False)
    rows, columns = wet_rows[chosen], wet_columns[chosen]
    times = tuple(range(every, steps + 1, every))
    records = np.array(simulate(make_truth(sea), sea, rows, columns, times))
    return Gauges(rows, columns, times, records + NOISE * rng.standard_normal(records.shape))


def make_misfit(sea: Sea, gauges: Gauges) -> Callable:
    """misfit(z) of the module's docstring; z has shape (cells, cells), the result is a scalar."""

    def misfit(z):
        records = simulate(initial_surface(z, sea), sea, gauges.rows, gauges.columns, gauges.times)
        total = 0.5 * np.sum(z**2)
        for record, observed in zip(records, gauges.observations, strict=True):
            total = total + 0.5 / NOISE**2 * np.sum((record - observed) ** 2)
        return total

    return misfit


def misfit(z):
    """The demo's problem on the grid of z, shape (cells, cells), over as many steps as cells, for the command line."""
    sea = make_sea(len(z))
    return make_misfit(sea, place_gauges(sea, count=max(4, len(z) ** 2 // 100), steps=len(z), every=4))(z)
