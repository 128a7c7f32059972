"""Derivatives of Hurwitz' zeta function in s, of several orders.

    Z_k(s, q) = sum_n log(q + n)^k (q + n)^-s        dZ_k/ds = -Z_(k+1)
                                                     dZ_k/dq = k Z_(k-1)(s + 1, q) - s Z_k(s + 1, q)

Z_0 is SciPy's.  The others by Euler and Maclaurin's formula: TERMS terms, the integral of the rest, and corrections by
its derivatives at the first x of the rest, which are x^(-s-m) times a polynomial in log x (DLMF 2.10(i), 25.11(iii)).
"""

from __future__ import annotations

from functools import partial
from math import factorial
from typing import Any

import numpy as np

from .foreign import UNKNOWN, Numerical, sc
from .table import enter

TERMS = 12
CORRECTIONS = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)  # Bernoulli's numbers
ORDER = 4


def zeta(k: int, s: Any, q: Any, out: np.ndarray | None = None) -> Any:
    """Z_k, k >= 1; NaN where s <= 1 or q <= 0."""
    s, q = np.broadcast_arrays(np.asarray(s, dtype=float), np.asarray(q, dtype=float))
    there = (s > 1.0) & (q > 0.0)
    s, q = np.where(there, s, 2.0), np.where(there, q, 1.0)
    total = sum((np.log(q + n) ** k * (q + n) ** -s for n in range(TERMS)), np.zeros(s.shape))
    x = q + TERMS
    log = np.log(x)
    for i in range(k + 1):
        total = total + x ** (1.0 - s) * factorial(k) / factorial(k - i) * log ** (k - i) / (s - 1.0) ** (i + 1)
    total = total + 0.5 * log**k * x**-s
    powers = [np.zeros(s.shape) for _ in range(k)] + [np.ones(s.shape)]  # of log x, in the derivative of order m
    for m in range(2 * len(CORRECTIONS) - 1):
        if m % 2:
            total = total - _correction(m, powers, log, x ** (-s - m))
        powers = [(i + 1) * above - (s + m) * p for i, (p, above) in enumerate(zip(powers, [*powers[1:], 0.0]))]
    total = np.where(there, total - _correction(2 * len(CORRECTIONS) - 1, powers, log, x ** (
        -s - 2 * len(CORRECTIONS) + 1)), np.nan)
    if out is None:
        return total
    out[...] = total
    return out


def _correction(m: int, powers: list[np.ndarray], log: np.ndarray, scale: np.ndarray) -> np.ndarray:
    value = sum((p * log**i for i, p in enumerate(powers)), np.zeros(log.shape))
    return CORRECTIONS[m // 2] / factorial(m + 1) * value * scale


def _enter(k: int) -> None:
    value = Numerical(partial(zeta, k), 2)
    setattr(sc, f"zeta_{k}", value)
    further = (lambda y, a, b: -getattr(sc, f"zeta_{k + 1}")(a, b)) if k < ORDER else UNKNOWN
    in_q = ((lambda y, a, b: sc.zeta(a + 1.0, b) - a * sc.zeta_1(a + 1.0, b)) if k == 1 else
            (lambda y, a, b: k * getattr(sc, f"zeta_{k - 1}")(a + 1.0, b) - a * getattr(sc, f"zeta_{k}")(a + 1.0, b)))
    enter(f"zeta_{k}", value, further, in_q, scalar=False)


for _k in range(1, ORDER + 1):
    _enter(_k)
