"""The op table's lines for scipy.special: ufuncs with their partials, of which every derivative nests.

What they are to the table says `foreign`.  Rules are written in NumPy's functions and in functions of this
table, so that they can be evaluated on traced values; where the textbook's form is 0/0 (an elliptic integral at m = 0),
a hypergeometric function takes over near that point.

Formulas: NIST Digital Library of Mathematical Functions (https://dlmf.nist.gov), sections 5.5, 6.2, 7.10, 8.8, 9.2, 10.6,
10.29, 10.51, 13.3, 15.5, 18.9, 19.4; for ellipj, 22.20 with d am/dm from 19.4.
"""  # noqa: E501 (an address)

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from . import shapes
from .densities import beta_density, f_density, f_shape, gamma_density, t_density, t_shape
from .foreign import SPECIAL, UNKNOWN, Numerical, op, ops, sc
from .table import BY_NAME, LN10, enter

PI, ROOT_PI, ROOT_2, ROOT_2PI = np.pi, np.sqrt(np.pi), np.sqrt(2.0), np.sqrt(2.0 * np.pi)

# -- the same as NumPy's
for _name, _same in {"expm1": "expm1", "log1p": "log1p", "exp2": "exp2", "cbrt": "cbrt", "round": "rint"}.items():
    SPECIAL[_name] = (BY_NAME[_same],)

# -- exponentials and logarithms


def _where_small(t: Any, bound: float, near: Callable[[Any], Any], far: Callable[[Any], Any]) -> Any:
    """near(t) where |t| < bound, far(t) elsewhere; neither is asked outside its own ground."""
    small = np.abs(t) < bound
    return np.where(small, near(np.where(small, t, 0.0)), far(np.where(small, bound, t)))


def exprel_slope(t: Any) -> Any:
    """d/dt expm1(t)/t = (1 + (t - 1) exp(t)) / t^2."""
    return _where_small(t, 1.0, lambda t: 0.5 * sc.hyp1f1(2.0, 3.0, t),
                        lambda t: (1.0 + (t - 1.0) * np.exp(t)) / (t * t))


def _log1p_ratio(t: Any) -> Any:
    """log(1 + t) / t."""
    return _where_small(t, 0.5, lambda t: sc.hyp2f1(1.0, 1.0, 2.0, -t), lambda t: np.log1p(t) / t)


def _log1p_ratio_slope(t: Any) -> Any:
    """d/dt log(1 + t)/t."""
    return _where_small(t, 0.5, lambda t: -0.5 * sc.hyp2f1(2.0, 2.0, 3.0, -t),
                        lambda t: (t / (1.0 + t) - np.log1p(t)) / (t * t))


def _unless_both_zero(x: Any, y: Any) -> Any:
    """y, but 1 where x and y are 0."""
    return np.where((x == 0) & (y == 0), 1.0, y)


op("exp10", lambda y, a: LN10 * y)
op("exprel", lambda y, a: exprel_slope(a))
op("cosm1", lambda y, a: -np.sin(a))
op("expit", lambda y, a: y * sc.expit(-a))
op("logit", lambda y, a: 1.0 / (a * (1.0 - a)))
op("log_expit", lambda y, a: sc.expit(-a))
op("xlogy", lambda y, a, b: np.log(_unless_both_zero(a, b)), lambda y, a, b: a / _unless_both_zero(a, b))
op("xlog1py", lambda y, a, b: np.log(_unless_both_zero(a, 1.0 + b)), lambda y, a, b: a / _unless_both_zero(a, 1.0 + b))
op("powm1", lambda y, a, b: b * np.power(a, b - 1.0), lambda y, a, b: (y + 1.0) * np.log(a))
op("entr", lambda y, a: -1.0 - np.log(a))
op("rel_entr", lambda y, a, b: np.log(a / b) + 1.0, lambda y, a, b: -a / _unless_both_zero(a, b))
op("kl_div", lambda y, a, b: np.log(a / b), lambda y, a, b: 1.0 - a / _unless_both_zero(a, b))
op("huber", lambda y, a, b: np.where(np.abs(b) <= a, 0.0, np.abs(b) - a),
    lambda y, a, b: np.where(np.abs(b) <= a, b, a * np.sign(b)))
op("pseudo_huber", lambda y, a, b: 2.0 * y / a - b * b / (a * np.hypot(1.0, b / a)),
    lambda y, a, b: b / np.hypot(1.0, b / a))
op("boxcox", lambda y, a, b: np.power(a, b - 1.0),
    lambda y, a, b: np.square(np.log(a)) * exprel_slope(b * np.log(a)))
op("boxcox1p", lambda y, a, b: np.power(1.0 + a, b - 1.0),
    lambda y, a, b: np.square(np.log1p(a)) * exprel_slope(b * np.log1p(a)))
op("inv_boxcox", lambda y, a, b: y / (1.0 + a * b), lambda y, a, b: y * a * a * _log1p_ratio_slope(a * b))
op("inv_boxcox1p", lambda y, a, b: (1.0 + y) / (1.0 + a * b),
    lambda y, a, b: (1.0 + y) * a * a * _log1p_ratio_slope(a * b))
op("spence", lambda y, a: -_log1p_ratio(a - 1.0))
op("wrightomega", lambda y, a: y / (1.0 + y))
op("lambertw", lambda y, a, b: np.exp(-y) / (1.0 + y), UNKNOWN, whole=1)  # of z and the branch, where it is real

# -- degrees
op("sindg", lambda y, a: PI / 180.0 * sc.cosdg(a))
op("cosdg", lambda y, a: -PI / 180.0 * sc.sindg(a))
op("tandg", lambda y, a: PI / 180.0 * (1.0 + y * y))
op("cotdg", lambda y, a: -PI / 180.0 * (1.0 + y * y))

# -- error functions and the normal distribution
op("erf", lambda y, a: 2.0 / ROOT_PI * np.exp(-a * a))
op("erfc", lambda y, a: -2.0 / ROOT_PI * np.exp(-a * a))
op("erfcx", lambda y, a: 2.0 * a * y - 2.0 / ROOT_PI)
op("erfi", lambda y, a: 2.0 / ROOT_PI * np.exp(a * a))
op("erfinv", lambda y, a: ROOT_PI / 2.0 * np.exp(y * y))
op("erfcinv", lambda y, a: -ROOT_PI / 2.0 * np.exp(y * y))
op("dawsn", lambda y, a: 1.0 - 2.0 * a * y)
op("ndtr", lambda y, a: np.exp(-0.5 * a * a) / ROOT_2PI)
op("log_ndtr", lambda y, a: np.sqrt(2.0 / PI) / sc.erfcx(-a / ROOT_2))
op("ndtri", lambda y, a: ROOT_2PI * np.exp(0.5 * y * y))
op("ndtri_exp", lambda y, a: np.sqrt(PI / 2.0) * sc.erfcx(-y / ROOT_2))
op("owens_t", lambda y, a, b: -np.exp(-0.5 * a * a) * sc.erf(a * b / ROOT_2) / (2.0 * ROOT_2PI),
    lambda y, a, b: np.exp(-0.5 * a * a * (1.0 + b * b)) / (2.0 * PI * (1.0 + b * b)))
ops("fresnel", s=(lambda y, a: np.sin(PI / 2.0 * a * a),), c=(lambda y, a: np.cos(PI / 2.0 * a * a),))

# Faddeeva's function w(z) = exp(-z^2) erfc(-iz) of z = x + iy, as two operations; w' = -2 z w + 2i / sqrt(pi)


def _of_both(part: Callable[[Any], Any], x: Any, y: Any, out: np.ndarray | None = None) -> Any:
    found = part(sc.wofz(np.asarray(x) + 1j * np.asarray(y)))
    if out is None:
        return found
    out[...] = found
    return out


sc.wofz_re, sc.wofz_im = (Numerical(partial(_of_both, part), 2) for part in (np.real, np.imag))
FADDEEVA = (
    enter("wofz_re", sc.wofz_re, lambda y, a, b: -2.0 * (a * y - b * sc.wofz_im(a, b)),
          lambda y, a, b: 2.0 * (a * sc.wofz_im(a, b) + b * y) - 2.0 / ROOT_PI, scalar=False),
    enter("wofz_im", sc.wofz_im, lambda y, a, b: 2.0 / ROOT_PI - 2.0 * (a * y + b * sc.wofz_re(a, b)),
          lambda y, a, b: -2.0 * (a * sc.wofz_re(a, b) - b * y), scalar=False))


def _voigt_slopes(x: Any, sigma: Any, gamma: Any) -> tuple[Any, Any]:
    """Partials of Voigt's profile in x and in gamma: Re w(z) / (sigma sqrt(2 pi)), z = (x + i gamma) / (sigma sqrt 2).
    """
    a, b, scale = x / (sigma * ROOT_2), gamma / (sigma * ROOT_2), 1.0 / (2.0 * ROOT_PI * sigma * sigma)
    re, im = sc.wofz_re(a, b), sc.wofz_im(a, b)
    return -2.0 * (a * re - b * im) * scale, (2.0 * (a * im + b * re) - 2.0 / ROOT_PI) * scale


def _voigt_width(y: Any, x: Any, sigma: Any, gamma: Any) -> Any:
    """The partial in sigma: the profile is homogeneous of degree -1 in all three."""
    of_x, of_gamma = _voigt_slopes(x, sigma, gamma)
    return -(y + x * of_x + gamma * of_gamma) / sigma


op("voigt_profile", lambda y, a, b, c: _voigt_slopes(a, b, c)[0], lambda y, a, b, c: _voigt_width(y, a, b, c),
    lambda y, a, b, c: _voigt_slopes(a, b, c)[1])

# -- gamma functions


op("gamma", lambda y, a: y * sc.psi(a))
op("gammaln", lambda y, a: sc.psi(a))
op("loggamma", lambda y, a: sc.psi(a))
op("rgamma", lambda y, a: -y * sc.psi(a))
op("gammasgn", None)
op("psi", lambda y, a: sc.zeta(2.0, a))
op("zeta", lambda y, a, b: -sc.zeta_1(a, b), lambda y, a, b: -a * sc.zeta(a + 1.0, b))
op("poch", lambda y, a, b: y * (sc.psi(a + b) - sc.psi(a)), lambda y, a, b: y * sc.psi(a + b))
op("beta", lambda y, a, b: y * (sc.psi(a) - sc.psi(a + b)), lambda y, a, b: y * (sc.psi(b) - sc.psi(a + b)))
op("betaln", lambda y, a, b: sc.psi(a) - sc.psi(a + b), lambda y, a, b: sc.psi(b) - sc.psi(a + b))
op("binom", lambda y, a, b: y * (sc.psi(a + 1.0) - sc.psi(a - b + 1.0)),
    lambda y, a, b: y * (sc.psi(a - b + 1.0) - sc.psi(b + 1.0)))

# Derivatives of P(a, x) and I_x(a, b) in their shapes, as operations of their own, each the next one's partial
# (`shapes`): of P up to order 4, of I_x up to 2.


def _psi_gap(a: Any, x: Any) -> Any:
    """d/da of the logarithm of the gamma density."""
    return np.log(x) - sc.psi(a)


def _polygamma(m: int, a: Any) -> Any:
    return sc.psi(a) if m == 0 else (-1.0) ** (m + 1) * math.factorial(m) * sc.zeta(m + 1.0, a)


def _gamma_bell(order: int, a: Any, x: Any) -> Any:
    """The derivative of that order in a of the gamma density, over the density."""
    first, second, third = _psi_gap(a, x), -_polygamma(1, a), -_polygamma(2, a)
    if order == 1:
        return first
    if order == 2:
        return first * first + second
    if order == 3:
        return first * (first * first + 3.0 * second) + third
    square = first * first
    return square * (square + 6.0 * second) + 4.0 * first * third + 3.0 * second * second - _polygamma(3, a)


def _shape_of_gamma(order: int) -> None:
    name = f"gammainc_{order}"
    further = (lambda y, a, b: getattr(sc, f"gammainc_{order + 1}")(a, b)) if order < shapes.ORDER else UNKNOWN
    value = Numerical(partial(shapes.gammainc, order), 2)
    setattr(sc, name, value)
    enter(name, value, further, lambda y, a, b: gamma_density(a, b) * _gamma_bell(order, a, b), scalar=False)


def _beta_bell(i: int, j: int, a: Any, b: Any, x: Any) -> Any:
    """The derivative of orders i in a and j in b of the beta density, over the density."""
    first, second = np.log(x) + sc.psi(a + b) - sc.psi(a), np.log1p(-x) + sc.psi(a + b) - sc.psi(b)
    if i + j == 1:
        return first if i else second
    bend = sc.zeta(2.0, a + b)
    return (first * first + bend - sc.zeta(2.0, a) if i == 2 else second * second + bend - sc.zeta(2.0, b) if j == 2
            else first * second + bend)


def _shape_of_beta(i: int, j: int) -> None:
    name = f"betainc_{i}{j}"
    more: tuple[Any, Any] = (UNKNOWN, UNKNOWN)
    if i + j == 1:
        more = (lambda y, a, b, c: getattr(sc, f"betainc_{i + 1}{j}")(a, b, c),
                lambda y, a, b, c: getattr(sc, f"betainc_{i}{j + 1}")(a, b, c))
    value = Numerical(partial(shapes.betainc, i, j), 3)
    setattr(sc, name, value)
    enter(name, value, *more, lambda y, a, b, c: beta_density(a, b, c) * _beta_bell(i, j, a, b, c), scalar=False)


for _order in range(1, shapes.ORDER + 1):
    _shape_of_gamma(_order)
for _i, _j in ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2)):
    _shape_of_beta(_i, _j)


op("gammainc", lambda y, a, b: sc.gammainc_1(a, b), lambda y, a, b: gamma_density(a, b))
op("gammaincc", lambda y, a, b: -sc.gammainc_1(a, b), lambda y, a, b: -gamma_density(a, b))
op("gammaincinv", lambda y, a, b: -sc.gammainc_1(a, y) / gamma_density(a, y),
    lambda y, a, b: 1.0 / gamma_density(a, y))
op("gammainccinv", lambda y, a, b: -sc.gammainc_1(a, y) / gamma_density(a, y),
    lambda y, a, b: -1.0 / gamma_density(a, y))
for _name in ("betainc", "btdtr"):
    op(_name, lambda y, a, b, c: sc.betainc_10(a, b, c), lambda y, a, b, c: sc.betainc_01(a, b, c),
        lambda y, a, b, c: beta_density(a, b, c))
for _name, _rule in (("betaincinv", lambda y, a, b, c: 1.0 / beta_density(a, b, y)),
                     ("btdtri", lambda y, a, b, c: 1.0 / beta_density(a, b, y)),
                     ("betainccinv", lambda y, a, b, c: -1.0 / beta_density(a, b, y))):
    op(_name, lambda y, a, b, c: -sc.betainc_10(a, b, y) / beta_density(a, b, y),
        lambda y, a, b, c: -sc.betainc_01(a, b, y) / beta_density(a, b, y), _rule)
op("betaincc", lambda y, a, b, c: -sc.betainc_10(a, b, c), lambda y, a, b, c: -sc.betainc_01(a, b, c),
    lambda y, a, b, c: -beta_density(a, b, c))

# -- distributions
op("chdtr", lambda y, a, b: 0.5 * sc.gammainc_1(0.5 * a, 0.5 * b),
    lambda y, a, b: 0.5 * gamma_density(0.5 * a, 0.5 * b))
op("chdtrc", lambda y, a, b: -0.5 * sc.gammainc_1(0.5 * a, 0.5 * b),
    lambda y, a, b: -0.5 * gamma_density(0.5 * a, 0.5 * b))
op("chdtri", lambda y, a, b: -sc.gammainc_1(0.5 * a, 0.5 * y) / gamma_density(0.5 * a, 0.5 * y),
    lambda y, a, b: -2.0 / gamma_density(0.5 * a, 0.5 * y))
op("gdtr", lambda y, a, b, c: c * gamma_density(b, a * c), lambda y, a, b, c: sc.gammainc_1(b, a * c),
    lambda y, a, b, c: a * gamma_density(b, a * c))
op("gdtrc", lambda y, a, b, c: -c * gamma_density(b, a * c), lambda y, a, b, c: -sc.gammainc_1(b, a * c),
    lambda y, a, b, c: -a * gamma_density(b, a * c))
op("pdtr", UNKNOWN, lambda y, a, b: -gamma_density(np.floor(a) + 1.0, b))
op("pdtrc", UNKNOWN, lambda y, a, b: gamma_density(np.floor(a) + 1.0, b))
op("bdtr", UNKNOWN, UNKNOWN, lambda y, a, b, c: -beta_density(np.floor(a) + 1.0, b - np.floor(a), c), whole=1)
op("bdtrc", UNKNOWN, UNKNOWN, lambda y, a, b, c: beta_density(np.floor(a) + 1.0, b - np.floor(a), c), whole=1)
op("nbdtr", UNKNOWN, UNKNOWN, lambda y, a, b, c: beta_density(b, np.floor(a) + 1.0, c))
op("nbdtrc", UNKNOWN, UNKNOWN, lambda y, a, b, c: -beta_density(b, np.floor(a) + 1.0, c))
op("stdtr", lambda y, a, b: t_shape(a, b), lambda y, a, b: t_density(a, b))
op("stdtrit", lambda y, a, b: -t_shape(a, y) / t_density(a, y), lambda y, a, b: 1.0 / t_density(a, y))
op("fdtr", lambda y, a, b, c: f_shape(a, b, c, False), lambda y, a, b, c: f_shape(a, b, c, True),
    lambda y, a, b, c: f_density(a, b, c))
op("fdtrc", lambda y, a, b, c: -f_shape(a, b, c, False), lambda y, a, b, c: -f_shape(a, b, c, True),
    lambda y, a, b, c: -f_density(a, b, c))
op("fdtri", lambda y, a, b, c: -f_shape(a, b, y, False) / f_density(a, b, y),
    lambda y, a, b, c: -f_shape(a, b, y, True) / f_density(a, b, y), lambda y, a, b, c: 1.0 / f_density(a, b, y))

# -- integrals


def _sinh_ratio(t: Any) -> Any:
    """sinh(t) / t."""
    return _where_small(t, 1.0, lambda t: sc.hyp0f1(1.5, 0.25 * t * t), lambda t: np.sinh(t) / t)


op("expi", lambda y, a: np.exp(a) / a)
op("exp1", lambda y, a: -np.exp(-a) / a)
op("expn", UNKNOWN, lambda y, a, b: np.where(a == 0, -y * (1.0 + 1.0 / b), -sc.expn(np.maximum(a - 1.0, 0.0), b)),
    least=0)
ops("sici", si=(lambda y, a: np.sinc(a / PI),), ci=(lambda y, a: np.cos(a) / a,))
ops("shichi", shi=(lambda y, a: _sinh_ratio(a),), chi=(lambda y, a: np.cosh(a) / a,))
ops("itj0y0", j=(lambda y, a: sc.j0(a),), y=(lambda y, a: sc.y0(a),))
ops("iti0k0", i=(lambda y, a: sc.i0(a),), k=(lambda y, a: sc.k0(a),))
op("itstruve0", lambda y, a: sc.struve(0.0, a))
op("itmodstruve0", lambda y, a: sc.modstruve(0.0, a))

# -- Bessel functions and their kin


def _lower(n: Any) -> Any:
    return np.maximum(n - 1.0, 0.0)  # of degree 0 the derivative is 0, which a factor says


op("j0", lambda y, a: -sc.j1(a))
op("j1", lambda y, a: 0.5 * (sc.j0(a) - sc.jv(2.0, a)))
op("y0", lambda y, a: -sc.y1(a))
op("y1", lambda y, a: 0.5 * (sc.y0(a) - sc.yv(2.0, a)))
op("i0", lambda y, a: sc.i1(a))
op("i1", lambda y, a: 0.5 * (sc.i0(a) + sc.iv(2.0, a)))
op("i0e", lambda y, a: sc.i1e(a) - np.sign(a) * y)
op("i1e", lambda y, a: 0.5 * (sc.i0e(a) + sc.ive(2.0, a)) - np.sign(a) * y)
op("k0", lambda y, a: -sc.k1(a))
op("k1", lambda y, a: -0.5 * (sc.k0(a) + sc.kv(2.0, a)))
op("k0e", lambda y, a: y - sc.k1e(a))
op("k1e", lambda y, a: y - 0.5 * (sc.k0e(a) + sc.kve(2.0, a)))
op("jv", UNKNOWN, lambda y, a, b: 0.5 * (sc.jv(a - 1.0, b) - sc.jv(a + 1.0, b)))
op("jve", UNKNOWN, lambda y, a, b: 0.5 * (sc.jve(a - 1.0, b) - sc.jve(a + 1.0, b)))
op("yv", UNKNOWN, lambda y, a, b: 0.5 * (sc.yv(a - 1.0, b) - sc.yv(a + 1.0, b)))
op("yve", UNKNOWN, lambda y, a, b: 0.5 * (sc.yve(a - 1.0, b) - sc.yve(a + 1.0, b)))
op("yn", UNKNOWN, lambda y, a, b: 0.5 * (sc.yn(a - 1.0, b) - sc.yn(a + 1.0, b)), least=-2**62)
op("iv", UNKNOWN, lambda y, a, b: 0.5 * (sc.iv(a - 1.0, b) + sc.iv(a + 1.0, b)))
op("ive", UNKNOWN, lambda y, a, b: 0.5 * (sc.ive(a - 1.0, b) + sc.ive(a + 1.0, b)) - np.sign(b) * y)
op("kv", UNKNOWN, lambda y, a, b: -0.5 * (sc.kv(a - 1.0, b) + sc.kv(a + 1.0, b)))
op("kve", UNKNOWN, lambda y, a, b: y - 0.5 * (sc.kve(a - 1.0, b) + sc.kve(a + 1.0, b)))
op("kn", UNKNOWN, lambda y, a, b: -0.5 * (sc.kn(a - 1.0, b) + sc.kn(a + 1.0, b)), least=-2**62)


def _spherical(name: str, low: float, high: float) -> Callable[..., Any]:
    """(low n f_{n-1} + high (n + 1) f_{n+1}) / (2 n + 1)."""
    return lambda y, a, b: (low * a * getattr(sc, name)(_lower(a), b)
                            + high * (a + 1.0) * getattr(sc, name)(a + 1.0, b)) / (2.0 * a + 1.0)


for _name, _low, _high in (("spherical_jn", 1.0, -1.0), ("spherical_yn", 1.0, -1.0), ("spherical_in", 1.0, 1.0),
                           ("spherical_kn", -1.0, -1.0)):
    op(_name, UNKNOWN, _spherical(_name, _low, _high), least=0)
ops("airy", ai=(lambda y, a: sc.airy(a)[1],), aip=(lambda y, a: a * sc.airy(a)[0],),
     bi=(lambda y, a: sc.airy(a)[3],), bip=(lambda y, a: a * sc.airy(a)[2],))


def _decay(z: Any) -> Any:
    """d/dz of Re(2/3 z^(3/2)), by whose exponential airye scales."""
    return np.sqrt(np.maximum(z, 0.0))


ops("airye", ai=(lambda y, a: sc.airye(a)[1] + _decay(a) * y,), aip=(lambda y, a: a * sc.airye(a)[0] + _decay(a) * y,),
     bi=(lambda y, a: sc.airye(a)[3] - _decay(a) * y,), bip=(lambda y, a: a * sc.airye(a)[2] - _decay(a) * y,))
op("struve", UNKNOWN, lambda y, a, b: 0.5 * (sc.struve(a - 1.0, b) - sc.struve(a + 1.0, b)
                                              + np.power(0.5 * b, a) * sc.rgamma(a + 1.5) / ROOT_PI))
op("modstruve", UNKNOWN, lambda y, a, b: 0.5 * (sc.modstruve(a - 1.0, b) + sc.modstruve(a + 1.0, b)
                                                 + np.power(0.5 * b, a) * sc.rgamma(a + 1.5) / ROOT_PI))
op("ber", lambda y, a: sc.berp(a))
op("bei", lambda y, a: sc.beip(a))
op("ker", lambda y, a: sc.kerp(a))
op("kei", lambda y, a: sc.keip(a))
op("berp", lambda y, a: -sc.bei(a) - y / a)
op("beip", lambda y, a: sc.ber(a) - y / a)
op("kerp", lambda y, a: -sc.kei(a) - y / a)
op("keip", lambda y, a: sc.ker(a) - y / a)
op("wright_bessel", UNKNOWN, UNKNOWN, lambda y, a, b, c: sc.wright_bessel(a, a + b, c))

# -- hypergeometric functions
op("hyp0f1", UNKNOWN, lambda y, a, b: sc.hyp0f1(a + 1.0, b) / a)
op("hyp1f1", UNKNOWN, UNKNOWN, lambda y, a, b, c: a / b * sc.hyp1f1(a + 1.0, b + 1.0, c))
op("hyp2f1", UNKNOWN, UNKNOWN, UNKNOWN, lambda y, a, b, c, z: a * b / c * sc.hyp2f1(a + 1.0, b + 1.0, c + 1.0, z))
op("hyperu", UNKNOWN, UNKNOWN, lambda y, a, b, c: -a * sc.hyperu(a + 1.0, b + 1.0, c))

# -- elliptic integrals and functions


def _ellipk_slope(m: Any) -> Any:
    return _where_small(m, 0.5, lambda m: PI / 8.0 * sc.hyp2f1(1.5, 1.5, 2.0, m),
                        lambda m: (sc.ellipe(m) / (1.0 - m) - sc.ellipk(m)) / (2.0 * m))


def _ellipe_slope(m: Any) -> Any:
    return _where_small(m, 0.5, lambda m: -PI / 8.0 * sc.hyp2f1(0.5, 1.5, 2.0, m),
                        lambda m: (sc.ellipe(m) - sc.ellipk(m)) / (2.0 * m))


def _ellipkm1_slope(p: Any) -> Any:
    return -_where_small(1.0 - p, 0.5, lambda m: PI / 8.0 * sc.hyp2f1(1.5, 1.5, 2.0, m),
                         lambda m: (sc.ellipe(m) / (1.0 - m) - sc.ellipkm1(1.0 - m)) / (2.0 * m))


def _delta(phi: Any, m: Any) -> Any:
    return np.sqrt(1.0 - m * np.square(np.sin(phi)))


def _amplitude_slope(u: Any, m: Any) -> Any:
    """d am(u | m) / dm."""
    sn, cn, dn, phi = sc.ellipj(u, m)
    return (dn * ((1.0 - m) * u - sc.ellipeinc(phi, m)) + m * sn * cn) / (2.0 * m * (1.0 - m))


def _dn_slope(u: Any, m: Any) -> Any:
    sn, cn, dn, _ = sc.ellipj(u, m)
    return -sn * (0.5 * sn + m * cn * _amplitude_slope(u, m)) / dn


op("ellipk", lambda y, a: _ellipk_slope(a))
op("ellipkm1", lambda y, a: _ellipkm1_slope(a))
op("ellipe", lambda y, a: _ellipe_slope(a))
op("ellipkinc", lambda y, a, b: 1.0 / _delta(a, b),
    lambda y, a, b: ((sc.ellipeinc(a, b) / (1.0 - b) - y) / (2.0 * b)
                     - np.sin(2.0 * a) / (4.0 * (1.0 - b) * _delta(a, b))))
op("ellipeinc", lambda y, a, b: _delta(a, b), lambda y, a, b: (y - sc.ellipkinc(a, b)) / (2.0 * b))
ops("ellipj",
     sn=(lambda y, a, b: sc.ellipj(a, b)[1] * sc.ellipj(a, b)[2],
         lambda y, a, b: sc.ellipj(a, b)[1] * _amplitude_slope(a, b)),
     cn=(lambda y, a, b: -sc.ellipj(a, b)[0] * sc.ellipj(a, b)[2],
         lambda y, a, b: -sc.ellipj(a, b)[0] * _amplitude_slope(a, b)),
     dn=(lambda y, a, b: -b * sc.ellipj(a, b)[0] * sc.ellipj(a, b)[1], lambda y, a, b: _dn_slope(a, b)),
     ph=(lambda y, a, b: sc.ellipj(a, b)[2], lambda y, a, b: _amplitude_slope(a, b)))

# -- orthogonal polynomials of whole degree n: every derivative is one of degree n - 1
op("eval_jacobi", UNKNOWN, UNKNOWN, UNKNOWN, lambda y, a, b, c, z: (
    np.where(a > 0, 0.5 * (a + b + c + 1.0), 0.0) * sc.eval_jacobi(_lower(a), b + 1.0, c + 1.0, z)), least=0)
op("eval_legendre", UNKNOWN, lambda y, a, b: (
    np.where(a > 0, 0.5 * (a + 1.0), 0.0) * sc.eval_jacobi(_lower(a), 1.0, 1.0, b)), least=0)
op("eval_sh_legendre", UNKNOWN, lambda y, a, b: (
    np.where(a > 0, a + 1.0, 0.0) * sc.eval_jacobi(_lower(a), 1.0, 1.0, 2.0 * b - 1.0)), least=0)
op("eval_gegenbauer", UNKNOWN, UNKNOWN, lambda y, a, b, c: (
    np.where(a > 0, 2.0 * b, 0.0) * sc.eval_gegenbauer(_lower(a), b + 1.0, c)), least=0)
op("eval_chebyt", UNKNOWN, lambda y, a, b: a * sc.eval_chebyu(_lower(a), b), least=0)
op("eval_sh_chebyt", UNKNOWN, lambda y, a, b: 2.0 * a * sc.eval_chebyu(_lower(a), 2.0 * b - 1.0), least=0)
op("eval_chebyc", UNKNOWN, lambda y, a, b: a * sc.eval_chebyu(_lower(a), 0.5 * b), least=0)
op("eval_chebyu", UNKNOWN, lambda y, a, b: np.where(a > 0, 2.0, 0.0) * sc.eval_gegenbauer(_lower(a), 2.0, b), least=0)
op("eval_sh_chebyu", UNKNOWN, lambda y, a, b: (
    np.where(a > 0, 4.0, 0.0) * sc.eval_gegenbauer(_lower(a), 2.0, 2.0 * b - 1.0)), least=0)
op("eval_chebys", UNKNOWN, lambda y, a, b: (
    np.where(a > 0, 1.0, 0.0) * sc.eval_gegenbauer(_lower(a), 2.0, 0.5 * b)), least=0)
op("eval_hermite", UNKNOWN, lambda y, a, b: 2.0 * a * sc.eval_hermite(_lower(a), b), least=0)
op("eval_hermitenorm", UNKNOWN, lambda y, a, b: a * sc.eval_hermitenorm(_lower(a), b), least=0)
op("eval_laguerre", UNKNOWN, lambda y, a, b: (
    np.where(a > 0, -1.0, 0.0) * sc.eval_genlaguerre(_lower(a), 1.0, b)), least=0)
op("eval_genlaguerre", UNKNOWN, UNKNOWN, lambda y, a, b, c: (
    np.where(a > 0, -1.0, 0.0) * sc.eval_genlaguerre(_lower(a), b + 1.0, c)), least=0)
op("lpmv", UNKNOWN, UNKNOWN, lambda y, a, b, c: (b * c * y - (a + b) * sc.lpmv(a, b - 1.0, c)) / (c * c - 1.0))
