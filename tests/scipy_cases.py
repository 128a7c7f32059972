"""What SciPy programs write, one case a line, as `numpy_cases` has them for NumPy: run by `test_scipy`.

A case is the body of a function of traced arguments, those of `numpy_cases.ARGUMENTS` that it names. Values are SciPy's
to rounding: its own loops add in another order.
"""

from __future__ import annotations

import re

import numpy as np
import scipy.cluster.vq
import scipy.integrate
import scipy.interpolate
import scipy.ndimage
import scipy.optimize
import scipy.signal
import scipy.special
import scipy.stats
from numpy_cases import CONSTANTS
from scipy.spatial import distance

NAMES = {
    **CONSTANTS,
    "scipy": scipy,
    "special": scipy.special,
    "logsumexp": scipy.special.logsumexp,  # bound before any trace
    "stats": scipy.stats,
    "signal": scipy.signal,
    "ndimage": scipy.ndimage,
    "gaussian": scipy.ndimage.gaussian_filter,
    "integrate": scipy.integrate,
    "optimize": scipy.optimize,
    "interpolate": scipy.interpolate,
    "distance": distance,
    "GRID": np.array([0.0, 0.4, 1.0, 1.6, 2.3, 3.1]),
    "W": np.linspace(2.03, 4.07, 6),
    "CUBIC": scipy.interpolate.CubicSpline([0.0, 0.4, 1.0, 1.6, 2.3], [1.0, 0.2, 0.7, -0.3, 0.5]),
    "TCK": scipy.interpolate.splrep([0.0, 0.4, 1.0, 1.6, 2.3], [1.0, 0.2, 0.7, -0.3, 0.5]),
    "UNIVARIATE": scipy.interpolate.UnivariateSpline([0.0, 0.4, 1.0, 1.6, 2.3], [1.0, 0.2, 0.7, -0.3, 0.5], s=0.01),
    "SURFACE": scipy.interpolate.RectBivariateSpline(
        [0.0, 0.4, 1.0, 1.6, 2.3], [0.0, 0.5, 1.1, 1.7, 2.2, 3.0],
        np.outer([1.0, 0.2, 0.7, -0.3, 0.5], np.arange(6) ** 2)),
    "KDE": scipy.stats.gaussian_kde([0.2, 0.9, 1.4, 1.5, 2.2], weights=[1.0, 2.0, 1.0, 0.5, 1.0]),
    "KDE2": scipy.stats.gaussian_kde([[0.2, 0.9, 1.4, 1.5], [1.0, 0.3, 0.8, 0.1]]),
    "KNOTS": np.array([0.0, 0.0, 0.0, 0.8, 1.5, 2.5, 2.5, 2.5]),
    "SOS": np.array([[1.0, 0.5, 0.2, 1.0, -0.3, 0.1], [0.7, 0.0, 0.1, 1.0, 0.2, 0.05]]),
    "PLUS": np.array([[False, True, False], [True, True, True], [False, True, False]]),
    "vq": scipy.cluster.vq.vq,
    "norm": scipy.stats.norm,
    "frozen": scipy.stats.norm(0.3, 1.2),  # made before any trace
    "mvn": scipy.stats.multivariate_normal,
    "erf": scipy.special.erf,
    "b": np.array([0.0, 1.5, 2.0, -0.5, 1.0, 0.3]),
    "inf": np.array([0.0, -np.inf, 0.0, 0.0, -np.inf, 0.0]),
}

UFUNCS = """
special.erf(k) + special.erfc(k) * special.erfcx(k) + special.erfi(k)
special.erfinv(0.5 * u) + special.erfcinv(u) + special.dawsn(u)
special.ndtr(k) + special.log_ndtr(k) + special.log_ndtr(k * 8) + special.ndtri(0.5 * u[1:])
special.ndtri_exp(-u[1:])
special.owens_t(k, 0.3) + special.owens_t(0.7, k) + special.owens_t(s, k)
special.fresnel(k)
special.gamma(u) + special.gammaln(u) + special.loggamma(u) + special.rgamma(u) + special.gamma(0.3 * u - 0.8)
special.gammasgn(u - 2.5) * u + special.digamma(u) + special.psi(0.3 * u - 0.8)
special.poch(u, c) + special.poch(c, u) + special.beta(u, c) + special.betaln(u, u[::-1])
special.binom(u + 3, u) + special.binom(5, u)
special.gammainc(c, u) + special.gammaincc(c, u) + special.gammaincinv(c, 0.4 * u) + special.gammainccinv(c, 0.4 * u)
special.betainc(c, 1.7, 0.5 * u) + special.betaincinv(c, 1.7, 0.5 * u)
special.gammainc(u, c) + special.gammaincc(u, u) + special.gammaincinv(u, 0.4) + special.gammainccinv(c, 0.4 * u)
special.betainc(u, u[::-1], 0.5 * u) + special.betaincinv(u, 1.7, 0.4) + special.betainc(1.3, u, 0.3 * u)
special.chdtr(u, c) + special.chdtrc(u, u) + special.chdtri(u, 0.3) + special.gdtr(u, u, c) + special.gdtrc(c, u, 1.0)
special.stdtr(u, c) + special.stdtr(u, k[0] * u) + special.stdtr(u, -c) + special.stdtrit(u + 1, 0.1)
special.fdtr(u, u[::-1], c) + special.fdtrc(u, 2.5, u) + special.fdtri(u, u[::-1], 0.4)
special.voigt_profile(u, s, r * r) + special.voigt_profile(k[0], u, u) + special.wofz(u).imag + special.wofz(k[1]).real
special.wofz(u + 1j * u[::-1]).real + special.wofz(0.3j * u).real + special.wofz(1j + u).imag
parts(special.kelvin(u)) + parts(special.hankel1e(c, u) + special.hankel2e(1, u) * s)
special.eval_sh_jacobi(3, 2.0, 1.5, 0.3 * u) + special.eval_sh_jacobi(0, 2.0, 1.5, u) + special.besselpoly(u, 2.0, 1.0)
special.hankel1(c, u).imag + special.hankel2(1, u).real + special.hankel2(0, u).imag
special.sph_harm(1, 2, u, 0.7).real + special.sph_harm(-2, 3, u, u).imag
special.sph_harm([0, 1, -1] * 2, 3, u, u).real
special.sph_harm(1.0, 1.5, 1.2, u).real + special.sph_harm(-1.7, 2.9, u, s).imag
z = u * 1; special.zeta(2.0, 3.0, z[2:]); return z * u
special.sph_harm_y(3, [0, 1, -1] * 2, u, 0.3 * u).real + special.sph_harm_y(2, 1, s, u).imag
special.betaincc(u, 1.7, 0.5 * u) + special.betainccinv(1.3, u, 0.4)
special.btdtr(c, 1.7, 0.5 * u) + special.btdtri(c, 1.7, 0.5 * u)
special.chdtr(c, u) + special.chdtrc(c, u) + special.chdtri(c, 0.4 * u) + special.gdtr(u, c, u)
special.gdtrc(s, c, u)
special.pdtr(2, u) + special.pdtrc(2.0, u) + special.bdtr(2, 5, 0.5 * u) + special.bdtrc(2, 5, 0.5 * u)
special.nbdtr(2, 5, 0.5 * u) + special.nbdtrc(2, 5, 0.5 * u) + special.stdtr(c, u) + special.stdtrit(2.3, 0.1 * u)
special.fdtr(c, 2.5, u) + special.fdtrc(c, 2.5, u) + special.fdtri(c, 2.5, 0.4 * u)
special.expit(k) + special.logit(0.5 * u[1:]) + special.log_expit(k) + special.expit(20 * k)
special.log_expit(20 * k)
special.xlogy(k, c[:5]) + special.xlogy(c, u)[:5] + special.xlog1py(k, c[:5]) + special.xlog1py(k, 0.5 * k)
special.xlogy(0.0, u) + special.xlogy(np.zeros(6), u) * u + special.xlogy(u - u, u) + special.xlogy(0.0, u - u)
special.entr(u) + special.rel_entr(u, c) + special.kl_div(u, c) + special.kl_div(c, u) + special.rel_entr(0.0 * c, u)
special.huber(s, k) + special.huber(1.0, k) + special.pseudo_huber(s, k) + special.pseudo_huber(1.0, k)
special.boxcox(u, 0.0) + special.boxcox(u, c) + special.boxcox(u, u) + special.boxcox(u, 1e-3 * r)
special.boxcox1p(u, 0.0) + special.boxcox1p(u, c) + special.boxcox1p(u, u) + special.boxcox1p(u, 1e-3 * r)
special.inv_boxcox(u, 0.0) + special.inv_boxcox(u, c) + special.inv_boxcox(u, u) + special.inv_boxcox(u, 1e-3 * r)
special.inv_boxcox1p(u, 0.0) + special.inv_boxcox1p(u, c) + special.inv_boxcox1p(u, u) + special.inv_boxcox1p(u, 0 * s)
special.exprel(k) + special.exprel(k * 1e-3) + special.cosm1(k) + special.exp10(k) + special.exp2(k) + special.expm1(k)
special.log1p(u) + special.cbrt(u) + special.round(u) * u + special.sindg(u) + special.cosdg(u) + special.tandg(u)
special.cotdg(u) + special.spence(u) + special.spence(1 + 1e-3 * u) + special.wrightomega(u)
special.expi(u) + special.exp1(u) + special.expn(0, u) + special.expn(3, u)
special.expn([0, 1, 2, 1, 0, 4], u)
special.sici(u) + special.shichi(u) + special.itj0y0(u) + special.iti0k0(u)
special.sici(u - u)[0] + special.shichi(1e-3 * k[0])[0]
special.itstruve0(u) + special.itmodstruve0(u) + special.struve(0, u) + special.struve(1.5, u)
special.modstruve(0, u)
special.j0(k) + special.j1(k) + special.y0(u)[1:] + special.y1(u)[1:] + special.yn(3, u)[1:] + special.jn(2, k)
special.i0(k) + special.i1(k) + special.i0e(k) + special.i1e(k) + special.k0(u)[1:] + special.k1(u)[1:]
special.k0e(u) + special.k1e(u) + special.kn(2, u) + special.kv(c, u) + special.kve(0.5, u)
special.jv(c, u) + special.jve(0, u) + special.yv(c[:3].sum(), u) + special.yve(0.5, u) + special.iv(c, u)
special.ive(c, u)
special.airy(k)
special.airye(u)
special.ber(u) + special.bei(u) + special.ker(u) + special.kei(u) + special.wright_bessel(0.5, 1.0, u)
special.berp(u) + special.beip(u) + special.kerp(u) + special.keip(u)
special.hyp0f1(c, k[0]) + special.hyp1f1(c, 1.5, u) + special.hyp2f1(1.0, c, 2.5, 0.4 * u) + special.hyperu(c, 1.5, u)
special.ellipk(0.5 * u) + special.ellipe(0.5 * u) + special.ellipkm1(0.5 * u) + special.ellipk(0 * u)
special.ellipe(0 * u)
special.ellipkinc(u, 0.3) + special.ellipeinc(u, 0.5 * u) + special.ellipkinc(s, 0.5 * u)
special.ellipj(k, 0.4 * s)
special.elliprf(u, c, s) + special.elliprc(u, c) + special.elliprc(u, -c) + special.elliprf(u, u, 1.0)
special.elliprd(u, c, s) + special.elliprg(u, c, s) + special.elliprj(u, c, s, u[::-1]) + special.elliprg(0.0, u, u)
special.agm(u, c) + special.agm(-u, -c) + special.agm(s, u) + special.elliprd(0.0, u, u)
special.pbdv(1.5, k) + special.pbvv(0.5, k) + special.pbwa(0.7, k)
special.mathieu_cem(2, 1.1, 30 * u) + special.mathieu_sem(2, 1.1, 30 * u)
special.mathieu_modcem1(2, 1.1, u) + special.mathieu_modcem2(2, 1.1, u) + special.mathieu_modsem1(2, 1.1, u)
special.mathieu_modsem2(1, 0.7, u)
special.pro_ang1(1, 2, 0.5, 0.4 * u) + special.obl_ang1(1, 2, 0.5, 0.4 * u) + special.pro_rad1(1, 2, 0.5, 1 + u)
special.obl_rad1(1, 2, 0.5, u) + special.pro_ang1_cv(1, 2, 0.5, special.pro_cv(1, 2, 0.5), 0.4 * u)
special.obl_ang1_cv(1, 2, 0.5, special.obl_cv(1, 2, 0.5), 0.4 * u)
special.obl_rad1_cv(1, 2, 0.5, special.obl_cv(1, 2, 0.5), u)
special.pro_rad1_cv(1, 2, 0.5, special.pro_cv(1, 2, 0.5), 1 + u)
special.itairy(u) + special.it2i0k0(u) + special.it2j0y0(u)
special.it2struve0(u) + special.radian(u, s, c) + special.tklmbda(0.5 * u, 0.3 * s) + special.tklmbda(0.3 * u, 0.0)
special.nrdtrimn(0.4 * u, 1.2, c) + special.nrdtrimn(0.3, u, s)
special.nrdtrisd(-1.0 - u, 0.9, s) + special.nrdtrisd(-1.0, 0.5 + 0.2 * u, s)
special.chndtr(u, 2.3, c) + special.chndtr(s, 3.0, u)
special.gdtrix(u, c, 0.3 * u) + special.pdtri(2, 0.4 * u) + special.bdtri(2, 5, 0.4 * u) + special.nbdtri(2, 5, 0.4 * u)
special.eval_legendre(3, k) + special.eval_legendre([0, 1, 2, 5, 7], k) + special.eval_chebyt(4, k)
special.eval_chebyu(3, k)
special.eval_chebyc(4, k) + special.eval_chebys(3, k) + special.eval_hermite(4, k) + special.eval_hermitenorm(3, k)
special.eval_laguerre(4, k) + special.eval_genlaguerre(3, 0.5, k) + special.eval_gegenbauer(4, 0.7, k)
special.eval_jacobi(3, 0.5, 1.5, k) + special.lpmv(1, 3, 0.3 * k)
special.eval_sh_legendre(3, k) + special.eval_sh_chebyt(3, k) + special.eval_sh_chebyu(3, k)
o = np.zeros(6); special.erf(u, out=o); return o * u
special.gammaln(u, out=np.ones(6)) + special.erf(u, o := np.zeros(6)) + o
special.erf(s) + special.gammaln(m[0, 0]) + special.jv(1, s) + special.airy(r)[1]
y = [special.erf(x) * special.xlogy(x, s) for x in u]; return np.array(y) + sum(y)
special.erf(m.T)[1:] + special.gammaln(m[None, ::2, :2]).sum() + special.xlogy(m, w).T[1:]
erf(k) * special.powm1(1 + 1e-3 * s, k)
"""

SPECIAL = """
special.zeta(1 + u, 0.7 + c) + special.zeta(1 + u) + special.zetac(1.2 + c * u) + special.zeta(3.3, u)
special.polygamma(0, u) + special.polygamma(1, u) + special.polygamma(3, u) + special.polygamma([0, 1, 2, 0, 1, 3], u)
special.zeta(2, u) + special.zeta(c + 1.5, u) + special.digamma(s)
special.lambertw(u).real + special.lambertw(-0.15 * u, 0).real + special.lambertw(-0.15 * u, -1).real
special.factorial(u) + special.factorial(np.array([-1, 1, 1, 1, 1, 1]) * u) + special.factorial(s)
special.comb(u + 3, u) + special.comb(5, u) + special.comb(5, u, repetition=True) + special.perm(5, u)
special.perm(u, 0.3)
special.comb(u, np.array([0.1, 2.0, 0.3, 0.2, -0.5, 0.4]))
special.multigammaln(u + 2, 3) + special.multigammaln(s + 1, 2)
special.spherical_jn(2, u) + special.spherical_jn(0, u) + special.spherical_jn(1, u, derivative=True)
special.spherical_yn(2, u) + special.spherical_in([0, 1, 2, 3, 1, 0], u) + special.spherical_kn(2, u, derivative=True)
special.spherical_yn(0, u, True) + special.spherical_in(1, u, True) + special.spherical_kn(0, u)
special.jvp(2, u) + special.jvp(0.5, u, 3) + special.yvp(1, u, 2) + special.ivp(1, u, 2)
special.kvp(1, u, 3) + special.jvp(1, u, 0)
special.sinc(k) + special.diric(0.0, 3)
special.logsumexp(u)
special.logsumexp(m, axis=1) + logsumexp(m, 0, keepdims=True)[0, 0]
special.logsumexp(m, axis=(0, 1), b=C) + logsumexp(100 * m)
special.logsumexp(u, b=b, return_sign=True)
special.logsumexp(u, b=-u * c, return_sign=True)
special.logsumexp([s, r, 1.0]) + special.logsumexp(s)
special.logsumexp(u + inf)
special.softmax(u) * c
special.softmax(m, axis=0) + special.softmax(500 * m, axis=(0, 1))
special.log_softmax(u) + special.log_softmax(m, axis=1)[0, 0]
z = np.zeros(6); z[:] = u; return special.softmax(z)[2]
"""


STATS = """
stats.norm.logpdf(u) + stats.norm.pdf(u, s) + stats.norm.logpdf(u, s, u) + stats.norm.logpdf(c, loc=u, scale=s)
stats.norm.cdf(k) + stats.norm.sf(k, s) + stats.norm.logcdf(k, 0, s) + stats.norm.logsf(k)
stats.norm.ppf(0.1 * s + 0.1)
norm(s, u[0]).logpdf(c) + norm(loc=u).cdf(0.3) + norm(scale=s).isf(0.3 * u) + frozen.logpdf(u)
stats.norm.logpdf(r, s) * stats.norm.pdf(s) + stats.norm.logpdf(m, w, 2.0).sum(0)
stats.t.logpdf(u, 2.5) + stats.t.logpdf(u, s + 1, r, u) + stats.t.cdf(u, 3.0, s)
stats.gamma.logpdf(u, c) + stats.gamma.logpdf(c, u, scale=s) + stats.gamma.cdf(u, 2.0, 0.0, u) + stats.gamma.pdf(u, s)
stats.gamma.logpdf(np.array([0.3, -1.0, 2.0, 0.5, -3.0, 1.0]), u)[[0, 2, 3]]
stats.gamma.pdf([-1.0, -2.0, 0.2], s, 0, s)
stats.beta.logpdf(0.4 * u, c, u) + stats.beta.cdf(0.4 * u, c, 2.0) + stats.beta.sf(0.4 * u, 3.0, 2.0)
stats.beta.ppf(0.4 * u, 1.5, 2.0) + stats.beta.isf(0.4 * u, 1.5, 2.0) + stats.beta.pdf(0.4 * u, s, u)
stats.chi2.logpdf(u, c) + stats.chi2.logpdf(c, u) + stats.expon.logpdf(u, scale=s) + stats.expon.sf(u, 0.1, s)
stats.lognorm.logpdf(u, s) + stats.lognorm.logpdf(c, u, -0.1, u) + stats.lognorm.cdf(u, s)
stats.uniform.logpdf(u, 0.2 * s, 3 * u) + stats.uniform.cdf(u, 0.5 * s, 0.9)
stats.weibull_min.logpdf(c, s) + stats.pareto.logpdf(c + 1.0, s) + stats.dweibull.logpdf(c, u)
stats.laplace.logpdf(k, s, 1.5) + stats.cauchy.logpdf(k, s, w[0]) + stats.logistic.logpdf(k, s, w[1] + 1)
stats.cauchy.cdf(k)
stats.gamma.cdf(c, u) + stats.beta.sf(0.3, u, s) + stats.t.cdf(u, u) + stats.chi2.sf(c, u) + stats.f.cdf(c, u, 2.0)
stats.truncnorm.logpdf(0.2 * c, -u, u + 1) + stats.truncnorm.logpdf(u + 3, 1.0, 2 * u + 4, 0.5, 1.5)
stats.truncnorm.logpdf(-u - 3, -2 * u - 4, -1.0) + stats.truncnorm.pdf(0.3, -1.0, u)
stats.truncnorm.logpdf(u / 3, -1, 2)
stats.multivariate_t.logpdf(u[:2], u[2:4], np.eye(2) * s, df=3)
stats.multivariate_t.logpdf(c[:3], None, q @ q.T, s + 2)
stats.multivariate_t.logpdf(u[:2], c[:2], [[2.0, 0.5], [0.5, 1.0]], df=3)
stats.multivariate_t.logpdf(c[:2], u[:2], 2.0, 3)
stats.multivariate_t.logpdf(c[:2], np.zeros(2), np.eye(2), df=s + 1) * stats.multivariate_t(shape=np.eye(2)).pdf(u[:2])
stats.median_abs_deviation(u) + stats.median_abs_deviation(m, axis=1, scale="normal")[0]
stats.median_abs_deviation(m, None, center=np.mean) * s
stats.iqr(u) + stats.iqr(m, axis=0)[0] + stats.iqr(u, rng=(10, 60), scale="normal")
stats.gamma.ppf(0.3, u) + stats.beta.ppf(0.4, u, s + 1) + stats.t.ppf(0.2, u + 1)
stats.weibull_min.logpdf(u, c) + stats.pareto.logpdf(u + 1.0, s) + stats.halfnorm.logpdf(u, 0.0, s)
stats.gumbel_r.logpdf(u, s)
stats.invgamma.logpdf(u, c) + stats.f.logpdf(u, c, s) + stats.skewnorm.logpdf(u, s) + stats.vonmises.logpdf(u, s)
stats.poisson.logpmf([0, 1, 2, 3, 4, 5], u) + stats.poisson.pmf(3, u) + stats.poisson.cdf(2, u)
stats.poisson.sf(1.5, u)
stats.binom.logpmf([0, 1, 2, 3, 4, 5], 5, 0.4 * u) + stats.binom.pmf(2, 6, 0.4 * u) + stats.binom.cdf(2, 6, 0.4 * u)
stats.binom.sf(2, 6, 0.4 * u) + stats.bernoulli.logpmf([0, 1, 1, 0, 0, 1], 0.4 * u) + stats.bernoulli.pmf(1, 0.4 * u)
stats.nbinom.logpmf([0, 1, 2, 3, 4, 5], u, 0.4 * u) + stats.nbinom.pmf(2, 2.5, 0.4 * u)
stats.nbinom.cdf(2, 2.5, 0.4 * u)
stats.nbinom.sf(2, 2.5, 0.4 * u) + stats.nbinom.logcdf([0, 1, 2, 9, 4, 5], 2.5, 0.4 * u)
stats.geom.logpmf(3, 0.4 * u)
stats.norm.stats(s, u, moments="mvsk"), stats.gamma.stats(u, s, w[0], moments="mvsk"), stats.t.stats(u + 5, r)
stats.beta(u, w[0]).mean() + stats.beta(s, 2.0).var(), stats.beta(2.0, u).stats("mvsk")
stats.nbinom(u, 0.4).mean() + stats.binom(5, 0.3 * s).var() + stats.nbinom(2.0, 0.3 * s).stats("s")
stats.beta.stats(u, w[0], moments="mvsk"), stats.lognorm.stats(0.3 * s, u[0]), stats.chi2.mean(u)
stats.binom.stats(5, 0.4 * u, moments="mvsk"), stats.nbinom.stats(u, 0.4 * u, moments="mvsk"), stats.poisson.var(u)
stats.norm.entropy(r, u) + stats.gamma.entropy(u, 0.0, w[0]) + stats.expon.entropy(s, u) * stats.t.entropy(u + 3, s)
stats.poisson.entropy(s) + stats.poisson.entropy(9 * s) + stats.binom.entropy(40, 0.4 * s) + frozen.entropy() * s
norm(s, u).var() + stats.weibull_min.mean(u) * stats.uniform.std(s, u) + stats.f.mean(3.0, u + 4) + norm.median(u)
stats.geom.pmf([0, 2, 2.5, 3, -1, 1], 0.4 * u)[[1, 3, 5]] + stats.poisson(s).logpmf([1, 2, 3])
stats.dirichlet.logpdf(u / u.sum(), c) + stats.dirichlet.logpdf(C[0] / C[0].sum(), w)
stats.dirichlet(w).pdf(C[1] / C[1].sum())
stats.dirichlet.logpdf(0.2 * u[:3], w)
stats.gaussian_kde(u)(k) + stats.gaussian_kde(u, "silverman").logpdf(k[::-1]) + stats.gaussian_kde(u, 0.4).pdf(k)
stats.gaussian_kde(m)(m[:, :2]), stats.gaussian_kde(c, weights=u).logpdf(w), stats.gaussian_kde(u * c, weights=u)(s)
stats.truncnorm.logpdf(s, -1.0, s + 1), stats.truncnorm.cdf(0.3, r, 2.0), stats.truncnorm.pdf(u, -1.0, s + 3)
stats.rankdata(u) * u, stats.rankdata(np.round(u), "min") * s, stats.rankdata(m, axis=1) * m
vq(m, C)[1] + vq(m, C[:2])[0] * s, vq(u, k)[1] + vq(c + 0.1, u[:3])[1] * s
KDE(u) + KDE.evaluate(s) + KDE.logpdf(c) * u + KDE.pdf(2 * u) + KDE2(m[:2]).sum() + KDE2(q[0, :2])
stats.multivariate_normal.logpdf(m, w, np.diag([1.0, 2.0, 0.5, 0.7])) + mvn(w, 2.0).pdf(m)
mvn.logpdf(m[:, :3], k[:3], q @ q.T + np.eye(3)) + mvn(w[:3], q @ q.T + np.eye(3)).logpdf(m[0, 1:])
mvn.logpdf(m[:, :3], None, q @ q.T + np.eye(3)) + mvn.logpdf(w, mean=m[0], cov=s)
stats.multinomial.logpmf([1, 2, 0, 3], 6, w / w.sum()) + stats.multinomial.pmf([[1, 2, 3], [2, 2, 2]], 6, 0.2 * w[:3])
"""


SIGNAL = """
signal.convolve(u, c) + signal.convolve(c, u, method="fft") + signal.fftconvolve(u, u[::-1]) + signal.oaconvolve(u, c)
signal.convolve(u, w, "same") + signal.convolve(w, u, "valid").sum() + signal.fftconvolve(u, w[:3], "same")
signal.convolve(w, u, "same")
signal.correlate(u, w) + signal.correlate(c, u)[:9] + signal.correlate(u, w, "full", "fft")
signal.correlate(u, w, "same") + signal.correlate(u, w, "valid").sum() + signal.correlate(w, u, "valid")[0]
signal.convolve(m, q) + signal.fftconvolve(q, m) + signal.correlate(m, q) + signal.correlate(q, m)
signal.convolve(m, q[:2], "same") + signal.convolve(m, C) [:3, :4] + signal.correlate(m, q[:2], "same")
signal.convolve(m, q, "valid") + signal.correlate(q, m[:, :3], "valid")
signal.fftconvolve(m, C, axes=1) + signal.fftconvolve(m, w[None], axes=[1]) + signal.fftconvolve(m[:1], C, "full", 1)
signal.convolve(t, t[:2, :2]).sum(0) + signal.convolve2d(m, q[:2, :2])[0, 0]
signal.convolve2d(m, q, "same") + signal.convolve2d(m, q, "same", "wrap") + signal.convolve2d(m, q, "same", "symm")
signal.convolve2d(m, q[:2], "full", "wrap") + signal.convolve2d(m, q[:2], fillvalue=1.5)
signal.convolve2d(m, C[:2, :3], boundary="symm")
signal.correlate2d(m, q, "same", "symm") + signal.correlate2d(m, q, "valid").sum()
signal.correlate2d(q, m[:, :3], "valid")
signal.lfilter(w, 1.0, u) + signal.lfilter([1.0, 0.5], [2.0, 0.3, 0.1], u) + signal.lfilter(w, [1.0, 0.2], c)
signal.lfilter(w, [s, 0.2, 0.1], u) + signal.lfilter([0.5], [1.0, -0.5 * s], u)
signal.lfilter([1.0, 0.5], [1.0, 0.3], m, axis=0) + signal.lfilter([1.0, 0.5], [1.0, 0.3], m)
signal.lfilter([1.0, 0.5], [1.0, 0.3], u, zi=np.array([s]))
signal.lfilter([1.0, 0.5], [1.0, 0.3, 0.2], m, zi=q[:, :2])
signal.sosfilt(SOS, u) + signal.sosfiltfilt(SOS, u, padlen=2) + signal.filtfilt([1.0, 0.4], [1.0, 0.3], u, padlen=3)
signal.savgol_filter(u, 5, 2) + signal.savgol_filter(u, 3, 1, mode="wrap") + signal.detrend(u, type="constant")
signal.upfirdn(w, u, 3, 2) + signal.upfirdn([1.0, 2.0, 1.0], m, 2, 1, axis=0)[0, 0] + signal.upfirdn(u[:4], c, 3, 2)
z = signal.convolve(u * np.exp(1j * c), w) * signal.correlate(u * np.exp(1j * u), w * 1j); return [z.real, z.imag]
z = signal.fftconvolve(m * np.exp(1j * C), q, "same"); return [z.real, z.imag]
z = signal.convolve2d(m, q * (1 + 2j), "same"); return [z.real, z.imag]
signal.welch(u, nperseg=4)[1] + signal.periodogram(u[:4])[1] + signal.welch(u * np.exp(1j * u), nperseg=3)[1]
np.abs(signal.stft(u, nperseg=4)[2]) + signal.spectrogram(u, nperseg=4, noverlap=2)[2][:, :1]
np.abs(signal.csd(u, c, nperseg=4)[1])
signal.correlate2d(m, q[:2], "same") + signal.correlate2d(m, q[:2, :2], "same", "symm")
signal.correlate2d(m, q[:, :2], "same", "wrap") + signal.correlate2d(m, q[:1], "same", fillvalue=0.7)
z = m * np.exp(1j * m); return parts(signal.convolve2d(z, q, fillvalue=1.5 - 0.3j))
z = m * np.exp(1j * m); return parts(signal.correlate2d(z, q * (1 + 1j), fillvalue=2))
parts(distance.squareform(u * np.exp(1j * u)))
z = signal.correlate2d(m * np.exp(1j * m), q * np.exp(1j * q), "same"); return [z.real, z.imag]
z = signal.lfilter(w, [1.0, 0.3], u * np.exp(1j * u)); y = signal.hilbert(u); return [z.real, z.imag, np.abs(y)]
signal.resample(u, 9)[:6] + np.abs(signal.freqz(u, 1.0, 6)[1]) + stats.truncnorm.logpdf(u, -u, 2 + u)
signal.medfilt(u, 3) + signal.order_filter(u, np.ones(3), 0)
"""

NDIMAGE = """
ndimage.correlate1d(u, w) + ndimage.convolve1d(u, w, mode="nearest") + ndimage.correlate1d(u, c[:3], mode="mirror")
ndimage.correlate1d(u, w, mode="wrap", origin=1) + ndimage.correlate1d(u, w, mode="constant", cval=0.7, origin=-1)
ndimage.correlate1d(m, q[0], axis=0) + ndimage.convolve1d(m, q[1], axis=1, mode="grid-wrap")
ndimage.correlate(m, q) + ndimage.convolve(m, q, mode="nearest")
ndimage.convolve(m, q[:2], mode="constant", cval=1.2)
ndimage.correlate(m, C[:2, :2], mode="mirror", origin=(0, -1))
ndimage.convolve(m, q[:2], mode="wrap", origin=[-1, 1])
ndimage.gaussian_filter(u, 1.2) + ndimage.gaussian_filter1d(u, 0.8, order=1, mode="mirror")
gaussian(u, 2.5, mode="wrap")
ndimage.gaussian_filter(m, (1.0, 0.5)) + ndimage.gaussian_filter(m, 0.7, order=(0, 2), mode=["reflect", "nearest"])
ndimage.laplace(m) + ndimage.sobel(m) + ndimage.prewitt(m, 0) + ndimage.gaussian_laplace(m, 0.8)
ndimage.gaussian_gradient_magnitude(m, 0.8) + ndimage.uniform_filter(m, 3)
ndimage.uniform_filter1d(m, 2, 0, mode="wrap")
ndimage.maximum_filter(m, 3) + ndimage.minimum_filter(m, (2, 3), mode="wrap") + ndimage.maximum_filter1d(m, 3, axis=0)
ndimage.maximum_filter(m, footprint=PLUS) + ndimage.minimum_filter(m, footprint=PLUS, mode="constant", cval=5.0)
ndimage.grey_dilation(m, structure=0.1 * C[:, :3]) + ndimage.grey_erosion(m, structure=0.1 * C[:, :3])
ndimage.grey_opening(m, 3)
ndimage.map_coordinates(m, [0.6 * u, u], order=1) + ndimage.map_coordinates(C, [u, 2 * u], order=1, cval=s)
ndimage.map_coordinates(m, [0.6 * u, 3 * u - 1], order=1, mode="nearest")
ndimage.map_coordinates(m, [[1.2] * 6, u], order=0)
ndimage.map_coordinates(m, [0.6 * u, 3 * u - 1], cval=0.3) + ndimage.map_coordinates(u, [4 * u - 2], mode="mirror")
ndimage.map_coordinates(m, [4 * u - 2, u], order=2, mode="reflect")
ndimage.map_coordinates(m, [4 * u - 2, 0.7 * u], order=3, mode="nearest", prefilter=False)
ndimage.shift(m, (0.7, -1.3), order=2, mode="nearest", prefilter=False) + ndimage.zoom(u, 1.7, mode="nearest")[:4]
ndimage.map_coordinates(C, [u, 2 * u], order=4, mode="wrap") + ndimage.map_coordinates(m, [u, u], mode="nearest")
ndimage.map_coordinates(0.2 * m, [0.5 * u - 1, 2 * u], order=3, mode="grid-wrap")
ndimage.shift(m, (s, -0.3 * r)) + ndimage.shift(m, s, order=1, mode="nearest") + ndimage.shift(C, [s, r], mode="wrap")
ndimage.zoom(m, 1.6) + ndimage.zoom(m, (1.6, 1.5), order=1, mode="nearest", grid_mode=True)
ndimage.shift(m, (0.3, -1.2), mode="reflect") + ndimage.rotate(m, 30.0, reshape=False, order=2)
ndimage.affine_transform(m, [[1.1, 0.2], [-0.1, 0.9]], offset=0.3, mode="grid-wrap")
ndimage.spline_filter(m, 4) + ndimage.spline_filter1d(m, axis=0)
ndimage.map_coordinates(u, [2 * m], order=1) + ndimage.center_of_mass(m)[0]
ndimage.variance(u, [0, 1, 1, 0, 2, 2], 1)
ndimage.median_filter(m, 3) + ndimage.percentile_filter(m, 30, 3) + ndimage.rank_filter(u, 1, 3).sum()
z = np.zeros((3, 4)); ndimage.gaussian_filter(m, 1.0, output=z); return z * m
z = m * 1; ndimage.uniform_filter(z, 3, output=z); return z
ndimage.sum_labels(u, [0, 1, 1, 0, 2, 2], index=[1, 2]) + ndimage.mean(u, [0, 1, 1, 0, 2, 2], [1, 2])
"""

OTHERS = """
stats.zscore(u) + stats.gmean(u) + stats.hmean(u) + stats.skew(u) + stats.kurtosis(u) + stats.moment(u, 3)
stats.sem(u)
stats.entropy(u) + stats.linregress(c, u).slope + stats.ttest_1samp(u, 0.5)[0]
stats.boxcox(u, 0.5)
u[0][()] + u[1][None, ...] * u
integrate.trapezoid(u, c) + integrate.trapezoid(c, u) + integrate.trapezoid(m, dx=s, axis=0).sum()
integrate.simpson(u[:5], k) + integrate.simpson(m, dx=s)[0] + integrate.simpson(u, dx=0.1)
integrate.cumulative_trapezoid(u, dx=s) + integrate.cumulative_trapezoid(u, c, initial=0)[1:] + integrate.romb(k, s)
integrate.solve_ivp(lambda t, y: [y[1] * s, y[0] ** 2 - t], (0.0, 1.0), u[:2], "RK23", first_step=0.5, max_step=0.5).y
optimize.rosen(u) + optimize.rosen(m).sum()
optimize.rosen_der(u)
"""


INTERPOLATE = """
CUBIC(u) + CUBIC(u, 1) + CUBIC(u, nu=2) + CUBIC(u[0]) + CUBIC.derivative()(s)
interpolate.CubicSpline(GRID, GRID**2)(u)
interpolate.PchipInterpolator(GRID, np.sin(GRID))(m) + interpolate.Akima1DInterpolator(GRID, np.cos(GRID))(m)
interpolate.CubicSpline(GRID, np.cos(GRID), bc_type="natural", extrapolate=False)(u)
interpolate.CubicSpline(GRID, np.stack([GRID, np.sin(GRID)], 1))(u)[:, 1] + CUBIC(3.0 * u)
interpolate.PPoly(q, np.array([0.0, 0.7, 1.4, 2.5]))(c) + interpolate.PPoly(q, np.array([0.0, 0.7, 1.4, 2.5]))(u)
interpolate.BSpline(KNOTS, np.array([1.0, -0.5, 2.0, 0.3, 0.8]), 2)(u) + interpolate.BSpline(KNOTS, k, 2)(u)
interpolate.BSpline(KNOTS, k, 2)(u, 1) + interpolate.BSpline(KNOTS, k, 2)(c, 2) + interpolate.BSpline(KNOTS, k, 2)(u, 3)
interpolate.make_interp_spline(GRID, np.sin(GRID))(u) + interpolate.BSpline(KNOTS, k, 2).derivative()(u)
interpolate.interp1d(GRID, np.sin(GRID))(u) + interpolate.interp1d(GRID, np.sin(GRID), kind="cubic")(u)
interpolate.interp1d(GRID[:3], GRID[:3] ** 2, bounds_error=False, fill_value=(1.0, 2.0))(3 * u - 1)
interpolate.interp1d(GRID[:3], GRID[:3] ** 2, fill_value="extrapolate")(3 * u - 1)
interpolate.RegularGridInterpolator((GRID, GRID), np.outer(GRID, np.sin(GRID)))(np.stack([u, u[::-1]], 1))
interpolate.RegularGridInterpolator((GRID, GRID[:3]), np.outer(np.cos(GRID), w[:3]))(0.4 * m[:, :2])
interpolate.RegularGridInterpolator((GRID,) * 3, np.add.outer(np.outer(GRID, GRID), np.sin(GRID)))(m[:, 1:])
interpolate.CubicSpline(GRID, u)(c) + interpolate.CubicSpline(GRID, u, bc_type="clamped")(u, 1)
interpolate.PchipInterpolator(GRID, u)(c) + interpolate.Akima1DInterpolator(GRID, u)(u)
interpolate.CubicHermiteSpline(GRID, u, c)(u) + interpolate.RegularGridInterpolator((GRID,), u)(0.3 * c[:, None])
interpolate.CubicSpline(GRID, u).integrate(0.1, 2.0) + interpolate.CubicSpline(GRID, u).integrate(2.7, 0.2)
interpolate.make_interp_spline(GRID, u)(c) + interpolate.make_interp_spline(GRID, u, k=2)(u)
interpolate.make_interp_spline(GRID, np.stack([u, c]), axis=1, bc_type="natural")(0.3 * c)
interpolate.interp1d(GRID, u)(0.3 * c) + interpolate.interp1d(GRID, u, kind="cubic")(u)
interpolate.interp1d(GRID[::-1], np.stack([u, c], 1), axis=0)(k[1:])
interpolate.CubicSpline(np.cumsum(u), c)(GRID) + interpolate.CubicSpline(np.cumsum(u), u)(GRID + 0.17, 1)
interpolate.PchipInterpolator(np.cumsum(u), c)(GRID + 0.9) + interpolate.Akima1DInterpolator(np.cumsum(u), u)(W)
interpolate.CubicHermiteSpline(np.cumsum(u), u, c)(W) + interpolate.CubicSpline(np.cumsum(u), c).integrate(0.3, 2)
interpolate.BSpline(np.cumsum(m.ravel()[:8]), k, 2)(GRID + 2.7) + interpolate.interp1d(np.cumsum(u), c)(W)
interpolate.interp1d(np.cumsum(u)[::-1], u, bounds_error=False, fill_value="extrapolate")(2.0 * GRID + 0.07)
interpolate.splev(u, TCK) + interpolate.splev(m, TCK, der=1)[0, 0] + UNIVARIATE(u) + UNIVARIATE(4 * u, 1)
interpolate.splev(4 * u, TCK, ext=1) + interpolate.splev(4 * u, TCK, ext=3) + UNIVARIATE(s)
SURFACE.ev(u, u[::-1]) + SURFACE(u, 4 * u, grid=False) + SURFACE.ev(m, C, dx=1)[0, 0] + SURFACE.ev(u, c, dx=1, dy=2)
interpolate.barycentric_interpolate([0.0, 1.0, 2.0], u[:3], k)
interpolate.krogh_interpolate([0.0, 1.0, 2.0], u[:3], 0.3)
"""


def cases(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if line]


SPATIAL = """
distance.cdist(m, C) + distance.cdist(m, m) + distance.cdist(C, m, "sqeuclidean") + distance.cdist(m, C, "cityblock")
distance.cdist(m, C, "chebyshev") + distance.cdist(m, C, "minkowski", p=3) + distance.cdist(m, C, metric="cosine")
distance.cdist(m, C, "correlation") + distance.cdist(m, C, "canberra") + distance.cdist(m, C, "braycurtis")
distance.cdist(m, C, lambda a, b: (a * b).sum()) + distance.cdist([[s, r]], [[1.0, 2.0], [0.5, s]])[0, 0]
distance.pdist(m) + distance.pdist(m, "sqeuclidean") + distance.pdist(m, lambda a, b: np.sum(a / b))
distance.squareform(distance.pdist(m)) + distance.squareform(distance.squareform(u)).sum()
distance.squareform(u)
distance.minkowski(u, c, np.inf) + distance.minkowski(u, c, np.inf, [1, 0, 2, 1, 1, 1]) + distance.minkowski(u, c, 3, c)
distance.cdist(m, C, "minkowski", p=np.inf) + distance.cdist(m, C, "minkowski", p=1)
distance.euclidean(u, c) + distance.euclidean(u, u[::-1], c) + distance.minkowski(u, c, 3) + distance.cityblock(u, c)
distance.sqeuclidean(u, c) + distance.cosine(u, c) + distance.cosine(u, u[::-1], c)
distance.correlation(u, c) + distance.correlation(u, c, u)
"""


INVERSES = """
special.gdtria(0.5, 1.0 + u, c[:1]) + special.gdtrib(1.0 + s, 0.3 + 0.2 * u, 2.0)
special.chdtriv(0.3 + 0.2 * u, 2 * s)
special.pdtrik(0.4 + 0.2 * u, 2.5 + s) + special.btdtria(0.3 + 0.2 * s, 1.0 + u, 0.5)
special.btdtrib(1.3, 0.4, 0.3 * u)
special.bdtrik(0.3 + 0.2 * u, 7.0, 0.3 + 0.2 * s) + special.bdtrin(2.0 + s, 0.3 + 0.2 * u, 0.4)
special.pdtrik(0.4 + 0.1 * s, 0.1 * u) + special.bdtrik(0.2, 7.0, 0.01 * u) + special.nbdtrik(0.2, 7.0, 0.9 + 0.01 * u)
special.nbdtrik(0.3 + 0.2 * u, 7.0, 0.3 + 0.2 * s) + special.nbdtrin(2.0 + s, 0.3 + 0.2 * u, 0.4)
special.stdtridf(0.81 + 0.02 * u, 1.35) + special.fdtridfd(2.5, 0.55 + 0.03 * u, 1.7)
special.chndtrix(0.3 * u, 2.3, 1.0 + s) + special.chndtrinc(3.0 + s, 2.3, 0.2 * u)
"""  # SciPy finds these to some eight digits (`test_inverses_as_exact_as_scipys`)


def known(case: str) -> bool:
    """Whether this SciPy has all functions of scipy.special that a case calls: some are gone in newer ones."""
    return all(hasattr(scipy.special, name) for name in re.findall(r"\bspecial\.(\w+)", case))


CASES = ["~" + case for text in (UFUNCS, SPECIAL, STATS, SIGNAL, NDIMAGE, OTHERS, INTERPOLATE, SPATIAL)
         for case in cases(text) if known(case)]
