"""Functions of scipy.special's whose results are complex."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ops.foreign import SPECIAL
from ...ops.special import FADDEEVA
from ..array import as_plain, constant, is_traced, shape_of
from ..ufuncs import COMPLEX_RESULTS, apply, recorder_of, special
from .array import computed, is_complex, parts_of


def wofz(z: Any) -> Any:
    """Faddeeva's function, of real or complex arguments."""
    rec = recorder_of((z,))
    x, y = (0.0 if part is None else part for part in (parts_of(z, rec) if is_complex(z) else (z, None)))
    return computed(rec, *(apply(op, x, y) for op in FADDEEVA))


def hankel(sign: float) -> Callable[[Any, Any], Any]:
    """J_v + i Y_v, or J_v - i Y_v, of real arguments."""

    def rule(v: Any, z: Any) -> Any:
        rec = recorder_of((v, z))
        if is_complex(z):
            rec.unsupported("scipy.special's Hankel functions of complex arguments", "there is a rule for real ones")
        return computed(rec, special("jv", v, z), sign * special("yv", v, z))

    return rule


def scaled_hankel(sign: float) -> Callable[[Any, Any], Any]:
    """The same, times exp(-i z), or exp(i z)."""
    unscaled = hankel(sign)

    def rule(v: Any, z: Any) -> Any:
        h = unscaled(v, z)
        return h * np.exp(-1j * sign * z)

    return rule


def kelvin(x: Any) -> tuple[Any, ...]:
    """Be = ber + i bei, Ke = ker + i kei, and their derivatives."""
    rec = recorder_of((x,))
    return tuple(computed(rec, special(re, x), special(im, x)) for re, im in (
        ("ber", "bei"), ("ker", "kei"), ("berp", "beip"), ("kerp", "keip")))


def sph_harm(m: Any, n: Any, theta: Any, phi: Any) -> Any:
    """Y of order m and degree n, plain: c P_n^|m|(cos phi) exp(i m theta)."""
    rec = recorder_of((m, n, theta, phi))
    order, degree = (np.trunc(_plain(x)) for x in (m, n))  # as SciPy does, with a warning
    size, poch = np.abs(order), SPECIAL["poch"][0].value
    factor = np.sqrt((2 * degree + 1) / (4.0 * np.pi) * poch(degree + order + 1.0, -2.0 * order))
    factor = factor * np.where(order < 0, (-1.0) ** size * poch(degree + size + 1.0, -2.0 * size), 1.0)
    x = np.cos(phi)
    legendre = factor * (special("lpmv", size, degree, x) if is_traced(x) else SPECIAL["lpmv"][0].value(
        size, degree, x))
    turn = order * theta
    return computed(rec, legendre * np.cos(turn), legendre * np.sin(turn))


def _with_axes(n: Any, m: Any, theta: Any, phi: Any) -> Any:
    """SciPy's newer spherical harmonics call a ufunc that puts derivatives on two axes more, here none."""
    y = sph_harm(m, n, phi, theta)
    return np.reshape(y, (*shape_of(y), 1, 1))


def _plain(x: Any) -> np.ndarray:
    """An order, as floats."""
    if is_traced(x):
        if not constant(x):
            x.rec.unsupported("scipy.special.sph_harm of an order or degree that is traced", "it must not depend on "
                              "the inputs")
        x = as_plain(x)
    return np.asarray(x, dtype=np.float64)


COMPLEX_RESULTS |= {f"scipy.special.{name}": rule for name, rule in {
    "wofz": wofz, "hankel1": hankel(1.0), "hankel2": hankel(-1.0), "sph_harm": sph_harm,
    "hankel1e": scaled_hankel(1.0), "hankel2e": scaled_hankel(-1.0), "kelvin": kelvin}.items()}
COMPLEX_RESULTS["the ufunc sph_harm_y"] = _with_axes  # since SciPy 1.15

__all__ = ["COMPLEX_RESULTS"]
