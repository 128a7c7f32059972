"""Functions of scipy.special's that are written in Python."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...ops.special import SPECIAL
from .. import ufuncs
from ..array import as_plain, constant, is_traced
from ..callers import YOURS
from ..complexes import is_complex
from ..decisions import decide
from ..indexing import into
from ..reductions import axes_of, largest, total, traced_array
from ..ufuncs import recorder_of
from .replacing import Rule


def _near_largest(a: Any, axes: tuple[int, ...]) -> Any:
    """A shift that keeps exp(a - shift) within range: a whole number beside the largest, with derivative zero."""
    shift = np.rint(largest(a, axes, keepdims=True))
    return np.where(np.isfinite(shift), shift, 0.0)


def logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    """log(sum(b exp(a))); with return_sign the logarithm of the absolute value, and the sign."""
    a, b = (a, b) if b is None else np.broadcast_arrays(a, b)
    if return_sign and (is_complex(a) or is_complex(b)):
        recorder_of((a, b)).unsupported("scipy.special.logsumexp of complex numbers with return_sign=True",
                                        "without it, the result's imaginary part is the sign's angle")
    a = traced_array(a)
    axes = axes_of(axis, a.ndim)
    if b is not None:
        a = np.where(np.equal(b, 0.0), -np.inf, a)  # a weight of 0 takes an infinite term away
    shift = _near_largest(a, axes)
    terms = np.exp(a - shift)
    s = total(terms if b is None else b * terms, axes, keepdims=keepdims)
    sign = np.sign(s)
    result = np.log(np.abs(s) if return_sign else s) + (shift if keepdims else np.squeeze(shift, axes))
    return (result, sign) if return_sign else result


def softmax(x: Any, axis: Any = None) -> Any:
    x = traced_array(x)
    axes = axes_of(axis, x.ndim)
    terms = np.exp(x - _near_largest(x, axes))
    return terms / total(terms, axes, keepdims=True)


def log_softmax(x: Any, axis: Any = None) -> Any:
    x = traced_array(x)
    axes = axes_of(axis, x.ndim)
    x = x - _near_largest(x, axes)
    return x - np.log(total(np.exp(x), axes, keepdims=True))


def plain(x: Any, what: str) -> Any:
    """An argument that has to be plain: NumPy's array or number."""
    if is_traced(x):
        if not constant(x):
            x.rec.unsupported(f"{what} that is traced", "it must not depend on the inputs")
        x = as_plain(x)
    return np.asarray(x)


def polygamma(n: Any, x: Any) -> Any:
    """The n-th derivative of digamma: (-1)^(n+1) n! zeta(n + 1, x)."""
    n = plain(n, "scipy.special.polygamma of an order").astype(float)
    if not n.ndim and n == 0:
        return ufuncs.special("psi", x)
    factor = (-1.0) ** (n + 1.0) * SPECIAL["gamma"][0].value(n + 1.0)
    higher = factor * ufuncs.special("zeta", np.where(n == 0, 1.0, n) + 1.0, x)
    return higher if np.all(n > 0) else np.where(n == 0, ufuncs.special("psi", x), higher)


def zeta(x: Any, q: Any = None, out: Any = None) -> Any:
    """Hurwitz' zeta function, Riemann's where there is no q: beyond 1, which is decided."""
    if q is None:
        q = 1.0
        if not np.all(decide(np.greater(x, 1.0))):
            recorder_of((x, out)).unsupported("scipy.special.zeta of arguments up to 1, Riemann's zeta function",
                                              f"there is a rule beyond 1{YOURS}")
    values = ufuncs.special("zeta", x, q) if is_traced(x) or is_traced(q) else SPECIAL["zeta"][0].value(x, q)
    return into(out, values, True)  # which may be traced alone


def lambertw(z: Any, k: Any = 0, tol: float = 1e-8) -> Any:
    """W_k where it is real (k = 0, z >= -1/e; k = -1, -1/e <= z < 0), which is decided; the result is real."""
    k = plain(k, "scipy.special.lambertw of a branch")
    real = np.logical_and(np.greater_equal(z, -1.0 / np.e), np.logical_or(k == 0, np.logical_and(
        k == -1, np.less(z, 0.0))))
    if not np.all(decide(real)):
        recorder_of((z,)).unsupported("scipy.special.lambertw where it is not real",
                                      "it is real on branch 0 from -1/e on, and on branch -1 from -1/e to 0")
    return ufuncs.special("lambertw", z, k)


def _of_order(name: str, low: float, high: float) -> Rule:
    """f_n(z), or its derivative (low n f_{n-1} + high (n + 1) f_{n+1}) / (2 n + 1)."""

    def rule(n: Any, z: Any, derivative: bool = False) -> Any:
        if not derivative:
            return ufuncs.special(name, n, z)
        n = plain(n, f"scipy.special.{name} of an order")
        return (low * n * ufuncs.special(name, np.maximum(n - 1, 0), z)
                + high * (n + 1.0) * ufuncs.special(name, n + 1, z)) / (2.0 * n + 1.0)

    return rule


def _derivatives_of(name: str, factor: float, phase: float) -> Rule:
    """The n-th derivative of a Bessel function, by f_v' = factor (f_{v-1} - phase f_{v+1}) / 2."""

    def rule(v: Any, z: Any, n: int = 1) -> Any:
        if n < 0 or n != int(n):
            raise ValueError(f"n must be a non-negative integer, not {n}")
        v, weight, result = plain(v, f"scipy.special.{name}p of an order"), 1.0, ufuncs.special(name, v - float(n), z)
        for i in range(1, int(n) + 1):
            weight = -phase * weight * (n - i + 1) / i
            result = result + weight * ufuncs.special(name, v - float(n) + 2.0 * i, z)
        return (0.5 * factor) ** n * result

    return rule


def factorial(n: Any, exact: bool = False, **kwargs: Any) -> Any:
    """gamma(n + 1), and 0 for negative n."""
    _refuse_exact("factorial", exact, n)
    below = decide(np.less(n, 0.0))
    y = ufuncs.special("gamma", n + 1.0)
    return np.where(below, 0.0, y) if np.any(below) else y


def comb(N: Any, k: Any, *, exact: bool = False, repetition: bool = False, **kwargs: Any) -> Any:
    _refuse_exact("comb", exact, N, k)
    return comb(N + k - 1, k) if repetition else _if_counted(N, k, ufuncs.special("binom", N, k))


def perm(N: Any, k: Any, exact: bool = False) -> Any:
    _refuse_exact("perm", exact, N, k)
    return _if_counted(N, k, ufuncs.special("poch", N - k + 1.0, k))


def _refuse_exact(name: str, exact: bool, *operands: Any) -> None:
    if exact:
        recorder_of(operands).unsupported(f"scipy.special.{name} with exact=True", "it counts in whole numbers")


def _if_counted(N: Any, k: Any, y: Any) -> Any:
    """y, but 0 where there is nothing to choose."""
    some = decide(np.logical_and(np.less_equal(k, N), np.logical_and(np.greater_equal(N, 0), np.greater_equal(k, 0))))
    return y if np.all(some) else np.where(some, y, 0.0)


def multigammaln(a: Any, d: Any) -> Any:
    """log of the multivariate gamma function: d (d - 1) / 4 log pi + sum_j loggamma(a - (j - 1) / 2)."""
    if not np.isscalar(d) or np.floor(d) != d:
        raise ValueError("d should be a positive integer (dimension)")
    if np.any(decide(np.less_equal(a, 0.5 * (d - 1)))):
        raise ValueError(f"condition a ({a}) > 0.5 * (d-1) ({0.5 * (d - 1):f}) not met")
    result = d * (d - 1) / 4.0 * np.log(np.pi)
    for j in range(int(d)):
        result = result + ufuncs.special("gammaln", a - 0.5 * j)
    return result


RULES: dict[str, Rule] = {f"scipy.special:{name}": rule for name, rule in {
    "logsumexp": logsumexp, "softmax": softmax, "log_softmax": log_softmax,
    "polygamma": polygamma, "zeta": zeta, "lambertw": lambertw, "factorial": factorial, "comb": comb, "perm": perm,
    "multigammaln": multigammaln,
    "spherical_jn": _of_order("spherical_jn", 1.0, -1.0), "spherical_yn": _of_order("spherical_yn", 1.0, -1.0),
    "spherical_in": _of_order("spherical_in", 1.0, 1.0), "spherical_kn": _of_order("spherical_kn", -1.0, -1.0),
    "jvp": _derivatives_of("jv", 1.0, 1.0), "yvp": _derivatives_of("yv", 1.0, 1.0),
    "ivp": _derivatives_of("iv", 1.0, -1.0), "kvp": _derivatives_of("kv", -1.0, -1.0),
}.items()}
