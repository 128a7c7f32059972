"""Densities of distributions, and what distribution functions have for slopes in the shapes: the formulas that rules of
scipy.special's functions share, of plain and of traced values."""

from __future__ import annotations

from typing import Any

import numpy as np

from .foreign import sc

PI = np.pi


def gamma_density(a: Any, x: Any) -> Any:
    return np.exp(sc.xlogy(a - 1.0, x) - x - sc.gammaln(a))


def beta_density(a: Any, b: Any, x: Any) -> Any:
    return np.exp(sc.xlogy(a - 1.0, x) + sc.xlog1py(b - 1.0, -x) - sc.betaln(a, b))


def t_density(v: Any, t: Any) -> Any:
    return np.exp(sc.gammaln(0.5 * (v + 1.0)) - sc.gammaln(0.5 * v) - 0.5 * (v + 1.0) * np.log1p(t * t / v)) / np.sqrt(
        PI * v)


def f_density(m: Any, n: Any, x: Any) -> Any:
    a, b = 0.5 * m, 0.5 * n
    return np.exp(sc.xlogy(a - 1.0, x) + a * np.log(m) + b * np.log(n) - (a + b) * np.log(n + m * x) - sc.betaln(a, b))


def t_shape(v: Any, t: Any) -> Any:
    """d/dv of the distribution function of t: I_y(1/2, v/2), y = t^2 / (v + t^2), or 1 - I of the other end."""
    square = t * t
    y = square / (v + square)
    far = square > v
    near_part = sc.betainc_01(0.5, 0.5 * v, np.where(far, 0.5, y))
    far_part = -sc.betainc_10(0.5 * v, 0.5, np.where(far, v / (v + square), 0.5))
    inner = np.where(far, far_part, near_part)
    return 0.25 * np.sign(t) * inner - 0.5 * t / v * t_density(v, t)


def f_shape(m: Any, n: Any, x: Any, of_n: bool) -> Any:
    """d/dm, or d/dn, of I_y(m/2, n/2), y = m x / (m x + n)."""
    y = m * x / (m * x + n)
    inner = sc.betainc_01(0.5 * m, 0.5 * n, y) if of_n else sc.betainc_10(0.5 * m, 0.5 * n, y)
    return 0.5 * inner + x * f_density(m, n, x) * (-1.0 / n if of_n else 1.0 / m)
