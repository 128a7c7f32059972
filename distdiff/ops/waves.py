"""The op table's lines for scipy.special's solutions of wave equations: each comes with its slope, and the equation has
the slope's.

Formulas: NIST Digital Library of Mathematical Functions (https://dlmf.nist.gov), sections 12.2, 12.14, 28.2, 28.20, 30.2, of
integrals of Airy's, Bessel's and Struve's functions 9.10, 10.22, 10.43, 11.7.  Orders and parameters must be plain.
"""  # noqa: E501 (an address)

from __future__ import annotations

from typing import Any

import numpy as np

from .foreign import UNKNOWN, op, ops, sc
from .special import PI

DEGREE = PI / 180.0

# -- parabolic cylinders: y'' = (x^2/4 - v - 1/2) y, and W(a, x): y'' = (a - x^2/4) y
ops("pbdv", d=(UNKNOWN, lambda y, a, b: sc.pbdv(a, b)[1]),
    dp=(UNKNOWN, lambda y, a, b: (0.25 * b * b - a - 0.5) * sc.pbdv(a, b)[0]))
ops("pbvv", v=(UNKNOWN, lambda y, a, b: sc.pbvv(a, b)[1]),
    vp=(UNKNOWN, lambda y, a, b: (0.25 * b * b - a - 0.5) * sc.pbvv(a, b)[0]))
ops("pbwa", w=(UNKNOWN, lambda y, a, b: sc.pbwa(a, b)[1]),
    wp=(UNKNOWN, lambda y, a, b: (a - 0.25 * b * b) * sc.pbwa(a, b)[0]))


# -- Mathieu's functions of an angle in degrees, y'' = (2 q cos 2x - a) y; modified: y'' = (a - 2 q cosh 2x) y
def _angular(characteristic: Any, q: Any, x: Any) -> Any:
    return (2.0 * q * np.cos(2.0 * DEGREE * x) - characteristic) * DEGREE


def _radial(characteristic: Any, q: Any, x: Any) -> Any:
    return characteristic - 2.0 * q * np.cosh(2.0 * x)


ops("mathieu_cem", y=(UNKNOWN, UNKNOWN, lambda y, a, b, c: DEGREE * sc.mathieu_cem(a, b, c)[1]),
    yp=(UNKNOWN, UNKNOWN, lambda y, a, b, c: _angular(sc.mathieu_a(a, b), b, c) * sc.mathieu_cem(a, b, c)[0]))
ops("mathieu_sem", y=(UNKNOWN, UNKNOWN, lambda y, a, b, c: DEGREE * sc.mathieu_sem(a, b, c)[1]),
    yp=(UNKNOWN, UNKNOWN, lambda y, a, b, c: _angular(sc.mathieu_b(a, b), b, c) * sc.mathieu_sem(a, b, c)[0]))
ops("mathieu_modcem1", y=(UNKNOWN, UNKNOWN, lambda y, a, b, c: sc.mathieu_modcem1(a, b, c)[1]),
    yp=(UNKNOWN, UNKNOWN, lambda y, a, b, c: _radial(sc.mathieu_a(a, b), b, c) * sc.mathieu_modcem1(a, b, c)[0]))
ops("mathieu_modcem2", y=(UNKNOWN, UNKNOWN, lambda y, a, b, c: sc.mathieu_modcem2(a, b, c)[1]),
    yp=(UNKNOWN, UNKNOWN, lambda y, a, b, c: _radial(sc.mathieu_a(a, b), b, c) * sc.mathieu_modcem2(a, b, c)[0]))
ops("mathieu_modsem1", y=(UNKNOWN, UNKNOWN, lambda y, a, b, c: sc.mathieu_modsem1(a, b, c)[1]),
    yp=(UNKNOWN, UNKNOWN, lambda y, a, b, c: _radial(sc.mathieu_b(a, b), b, c) * sc.mathieu_modsem1(a, b, c)[0]))
ops("mathieu_modsem2", y=(UNKNOWN, UNKNOWN, lambda y, a, b, c: sc.mathieu_modsem2(a, b, c)[1]),
    yp=(UNKNOWN, UNKNOWN, lambda y, a, b, c: _radial(sc.mathieu_b(a, b), b, c) * sc.mathieu_modsem2(a, b, c)[0]))


# -- spheroidal wave functions: ((1 - x^2) y')' = (c^2 x^2 - cv + m^2 / (1 - x^2)) y; oblate ones with -ic and ix
def _prolate(value: Any, slope: Any, m: Any, c: Any, cv: Any, x: Any) -> Any:
    rest = 1.0 - x * x
    return (2.0 * x * slope + (c * c * x * x - cv + m * m / rest) * value) / rest


def _oblate(value: Any, slope: Any, m: Any, c: Any, cv: Any, x: Any) -> Any:
    rest = 1.0 - x * x
    return (2.0 * x * slope + (-c * c * x * x - cv + m * m / rest) * value) / rest


def _oblate_radial(value: Any, slope: Any, m: Any, c: Any, cv: Any, x: Any) -> Any:
    rest = 1.0 + x * x
    return (-2.0 * x * slope + (cv - c * c * x * x - m * m / rest) * value) / rest


def _spheroidal(name: str, kind: str, equation: Any) -> None:
    """A function of m, n, c and x, and the same with the characteristic value given before x."""
    found, characteristic = (lambda *x: getattr(sc, name)(*x)), (lambda *x: getattr(sc, f"{kind}_cv")(*x))
    given = lambda *x: getattr(sc, f"{name}_cv")(*x)  # noqa: E731
    ops(name, y=(UNKNOWN, UNKNOWN, UNKNOWN, lambda y, m, n, c, x: found(m, n, c, x)[1]),
        yp=(UNKNOWN, UNKNOWN, UNKNOWN, lambda y, m, n, c, x: equation(
            found(m, n, c, x)[0], y, m, c, characteristic(m, n, c), x)))
    ops(f"{name}_cv", y=(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, lambda y, m, n, c, cv, x: given(m, n, c, cv, x)[1]),
        yp=(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, lambda y, m, n, c, cv, x: equation(
            given(m, n, c, cv, x)[0], y, m, c, cv, x)))


for _name, _kind, _equation in (("pro_ang1", "pro", _prolate), ("pro_rad1", "pro", _prolate),
                                ("obl_ang1", "obl", _oblate), ("obl_rad1", "obl", _oblate_radial)):
    _spheroidal(_name, _kind, _equation)

# -- integrals, from 0 to x but of K0, Y0 and Struve's function over t, which go from x to infinity
ops("itairy", ai=(lambda y, a: sc.airy(a)[0],), bi=(lambda y, a: sc.airy(a)[2],), ain=(lambda y, a: sc.airy(-a)[0],),
    bin=(lambda y, a: sc.airy(-a)[2],))
ops("it2i0k0", i=(lambda y, a: (sc.i0(a) - 1.0) / a,), k=(lambda y, a: -sc.k0(a) / a,))
ops("it2j0y0", j=(lambda y, a: (1.0 - sc.j0(a)) / a,), y=(lambda y, a: -sc.y0(a) / a,))
op("it2struve0", lambda y, a: -sc.struve(0.0, a) / a)
