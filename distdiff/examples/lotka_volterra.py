"""A long scalar chain: the Lotka-Volterra predator-prey model against a century-old fur trade ledger.

The hares H and the lynx L (thousands of pelts a year) follow

    dH/dt = (alpha - beta L) H,        dL/dt = (delta H - gamma) L,

integrated by the classical Runge-Kutta method, written as anyone would: a Python loop over floats. `misfit` is
the function to differentiate; nothing in this file knows about distdiff.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import numpy as np

PARAMETERS = ("alpha", "beta", "gamma", "delta", "H(1900)", "L(1900)")
"""Rates a year (beta and delta also per thousand pelts) and the two initial values (thousands of pelts)."""

START = (0.6, 0.03, 0.6, 0.03, 30.0, 4.0)
"""A guess by eye: a ten-year cycle (2 pi / sqrt(alpha gamma)) around twenty thousand of each, and the first pair."""

DEFAULT_SUBSTEPS = 250


def load_pelts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The published pairs: years, hare and lynx pelts (thousands), each of shape (21,)."""
    text = resources.files(__package__).joinpath("data/hudson_bay.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    if lines[0] != "year,lynx,hare":
        raise ValueError(f"hudson_bay.csv: the columns are {lines[0]!r}, expected 'year,lynx,hare'")
    table = np.array([[float(field) for field in line.split(",")] for line in lines[1:]])
    return table[:, 0], table[:, 2], table[:, 1]


def step(hare, lynx, alpha, beta, gamma, delta, dt):
    """One classical Runge-Kutta step of length dt (years)."""
    h1 = (alpha - beta * lynx) * hare
    l1 = (delta * hare - gamma) * lynx

    hare2 = hare + 0.5 * dt * h1
    lynx2 = lynx + 0.5 * dt * l1
    h2 = (alpha - beta * lynx2) * hare2
    l2 = (delta * hare2 - gamma) * lynx2

    hare3 = hare + 0.5 * dt * h2
    lynx3 = lynx + 0.5 * dt * l2
    h3 = (alpha - beta * lynx3) * hare3
    l3 = (delta * hare3 - gamma) * lynx3

    hare4 = hare + dt * h3
    lynx4 = lynx + dt * l3
    h4 = (alpha - beta * lynx4) * hare4
    l4 = (delta * hare4 - gamma) * lynx4

    hare = hare + dt / 6.0 * (h1 + 2.0 * h2 + 2.0 * h3 + h4)
    lynx = lynx + dt / 6.0 * (l1 + 2.0 * l2 + 2.0 * l3 + l4)
    return hare, lynx


def trajectory(log_parameters, years: int, substeps: int = DEFAULT_SUBSTEPS) -> tuple[list, list]:
    """Hares and lynx after every step, years - 1 years long; log_parameters has shape (6,), see PARAMETERS."""
    alpha, beta, gamma, delta, hare, lynx = np.exp(log_parameters)
    hares, lynxes = [hare], [lynx]
    for _ in range((years - 1) * substeps):
        hare, lynx = step(hare, lynx, alpha, beta, gamma, delta, 1.0 / substeps)
        hares.append(hare)
        lynxes.append(lynx)
    return hares, lynxes


def make_misfit(substeps: int = DEFAULT_SUBSTEPS) -> Callable:
    """The misfit of the pelt data as a function of the six logarithms of PARAMETERS.

    misfit(p) = 1/2 sum_k (log H_k - log hare_k)^2 + (log L_k - log lynx_k)^2, i.e. the error of a count is taken
    to be proportional to it. `substeps` Runge-Kutta steps a year make about 1200 flattened lines each.
    """
    _, hare_data, lynx_data = load_pelts()
    log_hare, log_lynx = np.log(hare_data).tolist(), np.log(lynx_data).tolist()

    def misfit(log_parameters):
        hares, lynxes = trajectory(log_parameters, len(log_hare), substeps)
        total = 0.0
        for hare, lynx, seen_hare, seen_lynx in zip(
            hares[::substeps], lynxes[::substeps], log_hare, log_lynx, strict=True
        ):
            total = total + 0.5 * (np.log(hare) - seen_hare) ** 2 + 0.5 * (np.log(lynx) - seen_lynx) ** 2
        return total

    return misfit


def misfit(log_parameters):
    """`make_misfit()` with its default substeps, for the command line."""
    return make_misfit()(log_parameters)


def start() -> np.ndarray:
    """The starting point of the fit, shape (6,): the logarithms of START."""
    return np.log(START)
