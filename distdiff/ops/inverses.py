"""The op table's lines for inverses of distribution functions: scipy.special finds y with F(..., y, ...) = p.

    dy/dp = 1 / F_y        dy/dx = -F_x / F_y        for every other argument x of F
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .densities import beta_density, f_density, f_shape, gamma_density, t_density, t_shape
from .foreign import UNKNOWN, op, sc
from .special import PI, ROOT_2PI, exprel_slope

Slopes = tuple[Callable[..., Any], ...]  # the partials of a distribution function F, by its arguments

GAMMA: Slopes = (lambda a, b, x: x * gamma_density(b, a * x), lambda a, b, x: sc.gammainc_1(b, a * x),
                 lambda a, b, x: a * gamma_density(b, a * x))
CHI_SQUARE: Slopes = (lambda v, x: 0.5 * sc.gammainc_1(0.5 * v, 0.5 * x),
                      lambda v, x: 0.5 * gamma_density(0.5 * v, 0.5 * x))
POISSON: Slopes = (lambda k, m: -sc.gammainc_1(k + 1.0, m), lambda k, m: -gamma_density(k + 1.0, m))
BETA: Slopes = (lambda a, b, x: sc.betainc_10(a, b, x), lambda a, b, x: sc.betainc_01(a, b, x),
                lambda a, b, x: beta_density(a, b, x))
BINOMIAL: Slopes = (lambda k, n, p: sc.betainc_01(n - k, k + 1.0, 1.0 - p) - sc.betainc_10(n - k, k + 1.0, 1.0 - p),
                    lambda k, n, p: sc.betainc_10(n - k, k + 1.0, 1.0 - p),
                    lambda k, n, p: -beta_density(n - k, k + 1.0, 1.0 - p))
NEGATIVE_BINOMIAL: Slopes = (lambda k, n, p: sc.betainc_01(n, k + 1.0, p), lambda k, n, p: sc.betainc_10(n, k + 1.0, p),
                             lambda k, n, p: beta_density(n, k + 1.0, p))
STUDENT: Slopes = (lambda v, t: t_shape(v, t), lambda v, t: t_density(v, t))
FISHER: Slopes = (lambda m, n, x: f_shape(m, n, x, False), lambda m, n, x: f_shape(m, n, x, True),
                  lambda m, n, x: f_density(m, n, x))


def _density(x: Any, v: Any, c: Any) -> Any:
    """Of the noncentral chi-square distribution, v degrees of freedom and noncentrality c > 0."""
    gap = np.sqrt(x) - np.sqrt(c)
    return 0.5 * np.exp(-0.5 * gap * gap) * np.power(x / c, 0.25 * v - 0.5) * sc.ive(0.5 * v - 1.0, np.sqrt(c * x))


NONCENTRAL: Slopes = (lambda x, v, c: _density(x, v, c), UNKNOWN,
                      lambda x, v, c: 0.5 * (sc.chndtr(x, v + 2.0, c) - sc.chndtr(x, v, c)))


def _to_p(f: Slopes, at: int, *x: Any) -> Any:
    """dy/dp, y being F's argument number `at`."""
    return 1.0 / f[at](*x)


def _to(f: Slopes, k: int, at: int, *x: Any) -> Any:
    """dy/dx_k."""
    return -f[k](*x) / f[at](*x)


def _moving(y: Any, slope: Any) -> Any:
    """A slope of a number of events; where 0 events are already likelier than p, y is 0 and stays."""
    return np.where(np.greater(y, 0.0), slope, 0.0)


op("gdtria", lambda y, p, b, x: _to_p(GAMMA, 0, y, b, x), lambda y, p, b, x: _to(GAMMA, 1, 0, y, b, x),
   lambda y, p, b, x: _to(GAMMA, 2, 0, y, b, x))
op("gdtrib", lambda y, a, p, x: _to(GAMMA, 0, 1, a, y, x), lambda y, a, p, x: _to_p(GAMMA, 1, a, y, x),
   lambda y, a, p, x: _to(GAMMA, 2, 1, a, y, x))
op("gdtrix", lambda y, a, b, p: _to(GAMMA, 0, 2, a, b, y), lambda y, a, b, p: _to(GAMMA, 1, 2, a, b, y),
   lambda y, a, b, p: _to_p(GAMMA, 2, a, b, y))
op("chdtriv", lambda y, p, x: _to_p(CHI_SQUARE, 0, y, x), lambda y, p, x: _to(CHI_SQUARE, 1, 0, y, x))
op("pdtri", UNKNOWN, lambda y, k, p: _to_p(POISSON, 1, np.floor(k), y))
op("pdtrik", lambda y, p, m: _moving(y, _to_p(POISSON, 0, y, m)),
   lambda y, p, m: _moving(y, _to(POISSON, 1, 0, y, m)))
op("btdtria", lambda y, p, b, x: _to_p(BETA, 0, y, b, x), lambda y, p, b, x: _to(BETA, 1, 0, y, b, x),
   lambda y, p, b, x: _to(BETA, 2, 0, y, b, x))
op("btdtrib", lambda y, a, p, x: _to(BETA, 0, 1, a, y, x), lambda y, a, p, x: _to_p(BETA, 1, a, y, x),
   lambda y, a, p, x: _to(BETA, 2, 1, a, y, x))
op("bdtri", UNKNOWN, UNKNOWN, lambda y, k, n, p: _to_p(BINOMIAL, 2, np.floor(k), n, y), whole=1)
op("bdtrik", lambda y, p, n, x: _moving(y, _to_p(BINOMIAL, 0, y, n, x)),
   lambda y, p, n, x: _moving(y, _to(BINOMIAL, 1, 0, y, n, x)),
   lambda y, p, n, x: _moving(y, _to(BINOMIAL, 2, 0, y, n, x)))
op("bdtrin", lambda y, k, p, x: _to(BINOMIAL, 0, 1, k, y, x), lambda y, k, p, x: _to_p(BINOMIAL, 1, k, y, x),
   lambda y, k, p, x: _to(BINOMIAL, 2, 1, k, y, x))
op("nbdtri", UNKNOWN, UNKNOWN, lambda y, k, n, p: _to_p(NEGATIVE_BINOMIAL, 2, np.floor(k), n, y))
op("nbdtrik", lambda y, p, n, x: _moving(y, _to_p(NEGATIVE_BINOMIAL, 0, y, n, x)),
   lambda y, p, n, x: _moving(y, _to(NEGATIVE_BINOMIAL, 1, 0, y, n, x)),
   lambda y, p, n, x: _moving(y, _to(NEGATIVE_BINOMIAL, 2, 0, y, n, x)))
op("nbdtrin", lambda y, k, p, x: _to(NEGATIVE_BINOMIAL, 0, 1, k, y, x),
   lambda y, k, p, x: _to_p(NEGATIVE_BINOMIAL, 1, k, y, x), lambda y, k, p, x: _to(NEGATIVE_BINOMIAL, 2, 1, k, y, x))
op("stdtridf", lambda y, p, t: _to_p(STUDENT, 0, y, t), lambda y, p, t: _to(STUDENT, 1, 0, y, t))
op("fdtridfd", lambda y, m, p, x: _to(FISHER, 0, 1, m, y, x), lambda y, m, p, x: _to_p(FISHER, 1, m, y, x),
   lambda y, m, p, x: _to(FISHER, 2, 1, m, y, x))
op("chndtr", lambda y, x, v, c: NONCENTRAL[0](x, v, c), UNKNOWN, lambda y, x, v, c: NONCENTRAL[2](x, v, c))
op("chndtrix", lambda y, p, v, c: _to_p(NONCENTRAL, 0, y, v, c), UNKNOWN,
   lambda y, p, v, c: _to(NONCENTRAL, 2, 0, y, v, c))
op("chndtrinc", lambda y, x, v, p: _to(NONCENTRAL, 0, 2, x, v, y), UNKNOWN,
   lambda y, x, v, p: _to_p(NONCENTRAL, 2, x, v, y))

# Normal: (x - mean) / std = z, p = Phi(z)
op("nrdtrimn", lambda y, p, std, x: -std * ROOT_2PI * np.exp(0.5 * np.square((x - y) / std)),
   lambda y, p, std, x: (y - x) / std, lambda y, p, std, x: 1.0)
op("nrdtrisd", lambda y, mean, p, x: -y / (x - mean),
   lambda y, mean, p, x: -y * y / (x - mean) * ROOT_2PI * np.exp(0.5 * np.square((x - mean) / y)),
   lambda y, mean, p, x: y / (x - mean))


def _tukey_slope(y: Any, s: Any) -> Any:
    """dx/dy of Tukey's x = (y^s - (1 - y)^s) / s, whose inverse is a distribution function."""
    return np.power(y, s - 1.0) + np.power(1.0 - y, s - 1.0)


def _tukey_shape(y: Any, s: Any) -> Any:
    """dx/ds."""
    low, high = np.log(y), np.log1p(-y)
    return np.square(low) * exprel_slope(s * low) - np.square(high) * exprel_slope(s * high)


op("tklmbda", lambda y, a, b: np.where(np.abs(a) * b < 1.0, 1.0 / _tukey_slope(y, b), 0.0),
    lambda y, a, b: np.where(np.abs(a) * b < 1.0, -_tukey_shape(y, b) / _tukey_slope(y, b), 0.0))

# -- and what else came later
op("eval_sh_jacobi", UNKNOWN, UNKNOWN, UNKNOWN, lambda y, a, b, c, x: (
    np.where(a > 0, a + b, 0.0) * sc.eval_jacobi(np.maximum(a - 1.0, 0.0), b - c + 1.0, c, 2.0 * x - 1.0)
    / sc.binom(2.0 * a + b - 1.0, a)), least=0)
op("besselpoly", lambda y, a, b, c: sc.besselpoly(a, b + 1.0, c - 1.0) - sc.besselpoly(a, b + 1.0, c + 1.0), UNKNOWN,
   UNKNOWN)
op("zetac", lambda y, a: -sc.zeta_1(a, 1.0))
op("radian", lambda y, a, b, c: PI / 180.0, lambda y, a, b, c: PI / 10800.0, lambda y, a, b, c: PI / 648000.0)
