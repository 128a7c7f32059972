"""Derivatives of the incomplete gamma and beta functions in their shapes, of several orders.

    d^k P(a, x) / da^k           =  int_0^x  f(t) B_k(t) dt,     f(t) = t^(a-1) e^-t / Gamma(a)
    d^(i+j) I_x(a, b) / da^i db^j  =  int_0^x  f(t) B_ij(t) dt,    f(t) = t^(a-1) (1-t)^(b-1) / B(a, b)

where B are Bell's polynomials in the derivatives of log f: B_1 = log t - psi(a), B_2 = B_1^2 - psi'(a), ...  Over all t
these integrals are the derivatives of 1, which are zero, so each is taken over the side of x that has less of f, where
B_1 has one sign: nothing cancels, and tails are as exact as the middle.  In s = log t, or log(t / (1 - t)), f is
log-concave and smooth; Gauss-Legendre quadrature over what is above exp(-RANGE) of its value at x gives some 13 digits
(10 where a shape is 1e4 and more, by the logarithm of f).  For small a and x <= 1 the series of P, term by term.

The formulas: NIST Digital Library of Mathematical Functions (https://dlmf.nist.gov), sections 8.2, 8.17, 8.7(1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

RANGE = 42.0  # logarithms below the value at x, where the integrand ends
NODES = 48  # of a panel
TERMS = 24  # of the series, for x <= 1
CHUNK = 2048  # elements at a time: their nodes take some megabytes
ORDER = 4  # of derivatives of P; of I_x two
STEPS = 40  # of Newton's method, monotone, for the end of the integrand

Array = np.ndarray


@lru_cache(maxsize=1)
def _rule() -> tuple[Array, Array]:
    """Gauss and Legendre's nodes and weights on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return 0.5 * (nodes + 1.0), 0.5 * weights


def _integral(end: Array, breaks: tuple[float, ...], integrand: Callable[[Array], Array]) -> Array:
    """int_0^end, panel by panel; integrand takes (n, nodes) for n values of `end`."""
    nodes, weights = _rule()
    total, start = np.zeros_like(end), np.zeros_like(end)
    for limit in (*breaks, np.inf):
        stop = np.minimum(end, limit)
        if np.any(stop > start):
            width = stop - start
            total += width * (integrand(start[:, None] + width[:, None] * nodes) @ weights)
        start = stop
    return total


def _end(start: Array, h: Callable[[Array], Array], slope: Callable[[Array], Array]) -> Array:
    """Where a convex h is RANGE, by Newton's method from `start`, which lies beyond."""
    d = start
    for _ in range(STEPS):
        step = (h(d) - RANGE) / slope(d)
        d = d - step
        if np.all(np.abs(step) <= 1e-3 * np.abs(d)):
            break
    return d


def _bell(order: int, first: Array, higher: list[Array]) -> Array:
    """Bell's polynomial of `first` and the derivatives of it."""
    if order < 2:
        return first if order else np.ones_like(first)
    if order == 2:
        return first**2 + higher[0]
    if order == 3:
        return first**3 + 3.0 * first * higher[0] + higher[1]
    return first**4 + 6.0 * first**2 * higher[0] + 4.0 * first * higher[1] + 3.0 * higher[0] ** 2 + higher[2]


def _polygammas(order: int, a: Array) -> list[Array]:
    """-psi', -psi'', ... of a, as many as a Bell polynomial wants."""
    from scipy.special import polygamma

    return [-polygamma(m, a) for m in range(1, order)]


def _elementwise(x: tuple[Any, ...], out: Array | None, valid: Callable[..., Array],
                 function: Callable[..., Array]) -> Any:
    """A function of vectors over arrays that broadcast: NaN where the operands are not valid."""
    x = tuple(np.asarray(part, dtype=np.float64) for part in x)
    shape = np.broadcast_shapes(*(part.shape for part in x))
    flat = [np.broadcast_to(part, shape).reshape(-1) for part in x]
    y = np.full(len(flat[0]), np.nan)
    with np.errstate(all="ignore"):
        places = np.flatnonzero(valid(*flat))
        for k in range(0, len(places), CHUNK):
            here = places[k : k + CHUNK]
            y[here] = function(*(part[here] for part in flat))
    y = y.reshape(shape)
    if out is None:
        return y[()]
    out[...] = y
    return out


# -- the incomplete gamma function


def _log_mass(a: Array, x: Array) -> Array:
    """log of x f(x); by Stirling's series for large a, where the terms cancel."""
    from scipy.special import gammaln

    large = np.maximum(a, 10.0)
    ratio = (x - large) / large
    stirling = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0 - 1.0 / (1188.0 * large**2)) / large**2)
                              / large**2) / large**2) / large
    bend = np.where(np.abs(ratio) < 0.5, ratio - np.log1p(ratio), ratio - np.log(x / large))
    by_stirling = -large * bend + 0.5 * np.log(large / (2.0 * np.pi)) - stirling
    return np.where(a < 10.0, a * np.log(x) - x - gammaln(np.minimum(a, 10.0)), by_stirling)


def _gamma_side(order: int, a: Array, x: Array, sign: float) -> Array:
    """The integral over t = x e^(sign d), d > 0."""
    from scipy.special import psi

    def h(d: Array, a: Array = a, x: Array = x) -> Array:
        return x * np.expm1(sign * d) - sign * a * d

    def slope(d: Array) -> Array:
        return sign * (x * np.exp(sign * d) - a)

    start = (RANGE + x) / a if sign < 0 else np.log1p((RANGE + 800.0 * a) / x)
    first, higher = np.log(x) - psi(a), [part[:, None] for part in _polygammas(order, a)]

    def integrand(d: Array) -> Array:
        return np.exp(-h(d, a[:, None], x[:, None])) * _bell(order, first[:, None] + sign * d, higher)

    return np.exp(_log_mass(a, x)) * _integral(_end(start, h, slope), (6.0, 16.0), integrand)


def _gamma_series(order: int, a: Array, x: Array) -> Array:
    """sum_n x^(a+n) e^-x / Gamma(a + n + 1), derived term by term."""
    from scipy.special import gammaln, psi

    total = np.zeros_like(a)
    for n in range(TERMS):
        b = a + (n + 1.0)
        total += np.exp((a + n) * np.log(x) - x - gammaln(b)) * _bell(order, np.log(x) - psi(b), _polygammas(order, b))
    return total


def _gamma(order: int, a: Array, x: Array) -> Array:
    from scipy.special import psi

    y = np.zeros_like(a)  # where x is 0 or infinite
    inside = (x > 0.0) & np.isfinite(x)
    below = inside & (x <= np.exp(psi(a)))
    near = inside & ~below & (x <= 1.0)
    above = inside & ~below & ~near
    y[below] = _gamma_side(order, a[below], x[below], -1.0)
    y[near] = _gamma_series(order, a[near], x[near])
    y[above] = -_gamma_side(order, a[above], x[above], 1.0)
    return y


def gammainc(order: int, a: Any, x: Any, out: Array | None = None) -> Any:
    """The derivative of that order in a of P(a, x), scipy.special.gammainc; NaN unless 0 < a < inf and x >= 0."""
    return _elementwise((a, x), out, lambda a, x: (a > 0.0) & np.isfinite(a) & (x >= 0.0),
                        lambda a, x: _gamma(order, a, x))


# -- the incomplete beta function


def _beta_side(i: int, j: int, a: Array, b: Array, s: Array) -> Array:
    """The integral over all t up to the one with log(t / (1 - t)) = s."""
    from scipy.special import betaln, expit, polygamma, psi

    c = a + b
    whole = np.logaddexp(0.0, s)

    def h(d: Array, *axis: Any) -> Array:
        a_, c_, s_, whole_ = (part[(slice(None), *axis)] for part in (a, c, s, whole))
        return a_ * d - c_ * (whole_ - np.logaddexp(0.0, s_ - d))

    end = _end((RANGE + c * whole) / a, h, lambda d: a - c * expit(s - d))
    first, second = psi(c) - psi(a), psi(c) - psi(b)
    bend = polygamma(1, c)
    higher = bend - polygamma(1, a) if i == 2 else bend - polygamma(1, b) if j == 2 else bend

    def integrand(d: Array) -> Array:
        at = s[:, None] - d
        la, lb = first[:, None] - np.logaddexp(0.0, -at), second[:, None] - np.logaddexp(0.0, at)
        bell = la**i * lb**j + (higher[:, None] if i + j == 2 else 0.0)
        return np.exp(-h(d, None)) * bell

    mass = np.exp(a * -np.logaddexp(0.0, -s) - b * whole - betaln(a, b))
    return mass * _integral(end, (10.0, 20.0, 40.0), integrand)


def _beta(i: int, j: int, a: Array, b: Array, x: Array) -> Array:
    y = np.zeros_like(a)  # at the ends
    inside = (x > 0.0) & (x < 1.0)
    s = np.log(x) - np.log1p(-x)
    below = inside & (x <= a / (a + b))
    above = inside & ~below
    y[below] = _beta_side(i, j, a[below], b[below], s[below])
    y[above] = -_beta_side(j, i, b[above], a[above], -s[above])
    return y


def betainc(i: int, j: int, a: Any, b: Any, x: Any, out: Array | None = None) -> Any:
    """The derivative of orders i in a and j in b, i + j = 1 or 2, of I_x(a, b), scipy.special.betainc; NaN unless
    a and b are positive and finite and 0 <= x <= 1."""
    return _elementwise((a, b, x), out, lambda a, b, x: (
        (a > 0.0) & np.isfinite(a) & (b > 0.0) & np.isfinite(b) & (x >= 0.0) & (x <= 1.0)),
        lambda a, b, x: _beta(i, j, a, b, x))


__all__ = ["ORDER", "betainc", "gammainc"]
