"""Pseudo-spectral solvers: derivatives in the modes, products on the points, a complex state over the steps.

Two misfits of a final state as functions of the initial one, in plain NumPy with `np.fft`. Nothing in this file knows
about distdiff.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def initial(points: int) -> np.ndarray:
    """A smooth initial state of the Kuramoto-Sivashinsky equation, shape (points,)."""
    x = 2.0 * np.pi * np.arange(points) / points
    return np.cos(x) * (1.0 + np.sin(x)) + 0.1 * np.sin(3.0 * x)


def make_flame(points: int, steps: int, length: float = 32.0 * np.pi, dt: float = 0.25) -> Callable:
    """The misfit of a flame front as a function of its initial shape u, (points,).

        u_t = -u u_x - u_xx - u_xxxx        on a ring of `length` (Kuramoto and Sivashinsky)
        misfit(u0) = length / (2 points) sum_i (u_i(T) - 1/2)^2

    stepped by the fourth-order exponential time differencing of S. M. Cox and P. C. Matthews (2002), its coefficients
    by contour means (A.-K. Kassam and L. N. Trefethen, 2005, section 3).
    """
    k = 2.0 * np.pi / length * np.arange(points // 2 + 1)
    linear = k**2 - k**4
    whole, half = np.exp(dt * linear), np.exp(0.5 * dt * linear)
    circle = np.exp(1j * np.pi * (np.arange(32) + 0.5) / 32)
    z = dt * linear[:, None] + circle
    q = dt * np.mean((np.exp(z / 2) - 1) / z, axis=1).real
    f1 = dt * np.mean((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3, axis=1).real
    f2 = dt * np.mean((2 + z + np.exp(z) * (-2 + z)) / z**3, axis=1).real
    f3 = dt * np.mean((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3, axis=1).real
    advection = np.where(np.arange(len(k)) < 2 * len(k) // 3, -0.5j * k, 0.0)  # of u^2, without what is aliased

    def nonlinear(v):
        return advection * np.fft.rfft(np.fft.irfft(v, points) ** 2)

    def misfit(u):
        v = np.fft.rfft(u)
        for _ in range(steps):
            n0 = nonlinear(v)
            a = half * v + q * n0
            n1 = nonlinear(a)
            b = half * v + q * n1
            n2 = nonlinear(b)
            c = half * a + q * (2.0 * n2 - n0)
            n3 = nonlinear(c)
            v = whole * v + f1 * n0 + 2.0 * f2 * (n1 + n2) + f3 * n3
        return length / (2.0 * points) * np.sum((np.fft.irfft(v, points) - 0.5) ** 2)

    return misfit


def vortices(cells: int) -> np.ndarray:
    """A shear layer with a wave on it: an initial vorticity, shape (cells, cells)."""
    x = 2.0 * np.pi * np.arange(cells) / cells
    return np.cos(2.0 * x)[:, None] + 0.3 * np.cos(x)[None, :] + 0.1 * np.sin(x[:, None] + 3.0 * x[None, :])


def make_enstrophy(cells: int, steps: int, viscosity: float = 1e-3, dt: float = 0.02) -> Callable:
    """The enstrophy of a flow in two dimensions as a function of its initial vorticity w, (cells, cells).

        w_t + u . grad w = nu lap w,    u = (d psi / dy, -d psi / dx),    lap psi = -w        on the square of side 2 pi
        enstrophy(w0) = 1/2 (2 pi / cells)^2 sum w(T)^2

    in modes, viscosity by an integrating factor, advection by Heun's method, 2/3 of the modes kept (S. A. Orszag,
    1971).
    """
    kx = np.fft.fftfreq(cells, 1.0 / cells)[:, None]
    ky = np.fft.rfftfreq(cells, 1.0 / cells)[None, :]
    square = kx**2 + ky**2
    inverse = 1.0 / np.where(square == 0.0, 1.0, square)
    decay = np.exp(-viscosity * dt * square)
    kept = np.where((np.abs(kx) < cells / 3) & (ky < cells / 3), -1.0, 0.0)

    def points(modes):
        return np.fft.irfft2(modes, (cells, cells))

    def advection(w):
        u, v = points(1j * ky * inverse * w), points(-1j * kx * inverse * w)
        return kept * np.fft.rfft2(u * points(1j * kx * w) + v * points(1j * ky * w))

    def enstrophy(w):
        w = np.fft.rfft2(w)
        for _ in range(steps):
            n0 = advection(w)
            n1 = advection(decay * (w + dt * n0))
            w = decay * (w + 0.5 * dt * n0) + 0.5 * dt * n1
        return 0.5 * (2.0 * np.pi / cells) ** 2 * np.sum(points(w) ** 2)

    return enstrophy
