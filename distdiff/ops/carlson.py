"""The op table's lines for Carlson's elliptic integrals, and for the arithmetic-geometric mean.

    J(p; x) = int_0^inf  prod_i (t + x_i)^(-p_i)  dt            dJ/dx_i = -p_i J(p + e_i; x)

R_F is J(1/2, 1/2, 1/2)/2, R_C is J(1/2, 1)/2, R_D is 3/2 J(1/2, 1/2, 3/2), R_J is 3/2 J(1/2, 1/2, 1/2, 1), and R_G's
derivatives are such integrals with one more factor t, (t + 0)^1.  J is an operation of its own (`integral`), of which
every derivative nests; where arguments are equal nothing is 0/0, as the formulas that have R_D alone are.

Formulas: NIST Digital Library of Mathematical Functions (https://dlmf.nist.gov), sections 19.16, 19.18, 19.8(i).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .foreign import UNKNOWN, Numerical, op, sc
from .special import PI
from .table import enter

STEP = 0.4  # of the trapezoidal rule in u = log t; analytic for |Im u| < pi, so exp(-2 pi^2 / STEP) is lost
RANGE = 38.0  # logarithms below its largest value where it ends
CHUNK = 512  # elements at a time


def integral(*operands: Any, out: np.ndarray | None = None) -> Any:
    """J of x_1, ..., x_4 >= 0 and p_1, ..., p_4; NaN where it does not exist."""
    shape = np.broadcast_shapes(*map(np.shape, operands))
    x, p = np.array([np.broadcast_to(part, shape).ravel() for part in operands], dtype=float).reshape(2, 4, -1)
    found = np.concatenate([np.empty(0), *(_integral(x[:, k : k + CHUNK], p[:, k : k + CHUNK])
                                           for k in range(0, x.shape[1], CHUNK))]).reshape(shape)
    if out is None:
        return found
    out[...] = found
    return out


def _integral(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    used = p != 0.0
    x = np.where(used, x, 1.0)
    low = 1.0 - np.sum(np.where(x == 0.0, p, 0.0), axis=0)  # exponents of t at 0 and at infinity, of t dt/t
    high = np.sum(p, axis=0) - 1.0
    there = np.all(x >= 0.0, axis=0) & (low > 0.0) & (high > 0.0) & np.any(x > 0.0, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(x)
        start = np.min(np.where(used & (x > 0.0), log, np.inf), axis=0) - RANGE / low
        stop = np.max(np.where(used, log, -np.inf), axis=0) + RANGE / high
        start, stop = np.where(there, start, 0.0), np.where(there, stop, 1.0)
        count = int(np.ceil(np.max(stop - start, initial=0.0) / STEP)) + 1
        width = (stop - start) / count
        u = start + width * np.arange(count + 1)[:, None]
        terms = np.exp(u - np.sum(p[:, None] * np.logaddexp(u, log[:, None]), axis=0))
    return np.where(there, width * np.sum(terms, axis=0), np.nan)


def _raised(k: int) -> Any:
    """dJ/dx_k."""
    return (
        lambda y, a, b, c, d, p, q, r, s: -p * sc.carlson(a, b, c, d, p + 1.0, q, r, s),
        lambda y, a, b, c, d, p, q, r, s: -q * sc.carlson(a, b, c, d, p, q + 1.0, r, s),
        lambda y, a, b, c, d, p, q, r, s: -r * sc.carlson(a, b, c, d, p, q, r + 1.0, s),
        lambda y, a, b, c, d, p, q, r, s: -s * sc.carlson(a, b, c, d, p, q, r, s + 1.0),
    )[k]


sc.carlson = Numerical(integral, 8)
enter("carlson", sc.carlson, *map(_raised, range(4)), UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, scalar=False)


def _degenerate_slope(y: Any, a: Any, b: Any) -> Any:
    """dR_C/dx; for y < 0, where R_C is a principal value, by the sum of both slopes and by its homogeneity."""
    below = b < 0.0
    positive = np.where(below, 1.0, b)
    return np.where(below, (1.0 / np.sqrt(np.where(below, a, 1.0)) - y) / (2.0 * (a - np.where(below, b, -1.0))),
                    -0.25 * sc.carlson(a, positive, 1.0, 1.0, 1.5, 1.0, 0.0, 0.0))


def _degenerate_pole(y: Any, a: Any, b: Any) -> Any:
    below = b < 0.0
    positive = np.where(below, 1.0, b)
    return np.where(below, -0.5 / (b * np.sqrt(np.where(below, a, 1.0))) - _degenerate_slope(y, a, b),
                    -0.5 * sc.carlson(a, positive, 1.0, 1.0, 0.5, 2.0, 0.0, 0.0))


op("elliprc", lambda y, a, b: _degenerate_slope(y, a, b), lambda y, a, b: _degenerate_pole(y, a, b))
op("elliprf", lambda y, a, b, c: -sc.elliprd(b, c, a) / 6.0, lambda y, a, b, c: -sc.elliprd(a, c, b) / 6.0,
   lambda y, a, b, c: -sc.elliprd(a, b, c) / 6.0)
op("elliprd", lambda y, a, b, c: -0.75 * sc.carlson(a, b, c, 1.0, 1.5, 0.5, 1.5, 0.0),
   lambda y, a, b, c: -0.75 * sc.carlson(a, b, c, 1.0, 0.5, 1.5, 1.5, 0.0),
   lambda y, a, b, c: -2.25 * sc.carlson(a, b, c, 1.0, 0.5, 0.5, 2.5, 0.0))
op("elliprj", lambda y, a, b, c, d: -0.75 * sc.carlson(a, b, c, d, 1.5, 0.5, 0.5, 1.0),
   lambda y, a, b, c, d: -0.75 * sc.carlson(a, b, c, d, 0.5, 1.5, 0.5, 1.0),
   lambda y, a, b, c, d: -0.75 * sc.carlson(a, b, c, d, 0.5, 0.5, 1.5, 1.0),
   lambda y, a, b, c, d: -1.5 * sc.carlson(a, b, c, d, 0.5, 0.5, 0.5, 2.0))
op("elliprg", lambda y, a, b, c: 0.125 * sc.carlson(a, b, c, 0.0, 1.5, 0.5, 0.5, -1.0),
   lambda y, a, b, c: 0.125 * sc.carlson(a, b, c, 0.0, 0.5, 1.5, 0.5, -1.0),
   lambda y, a, b, c: 0.125 * sc.carlson(a, b, c, 0.0, 0.5, 0.5, 1.5, -1.0))

# The mean of a and b is pi / (2 R_F(0, a^2, b^2)), with their sign
op("agm", lambda y, a, b: y * y * np.abs(a) * sc.elliprd(0.0, b * b, a * a) * (2.0 / (3.0 * PI)),
   lambda y, a, b: y * y * np.abs(b) * sc.elliprd(0.0, a * a, b * b) * (2.0 / (3.0 * PI)))
