"""What SciPy programs write, one case a line, as `numpy_cases` has them for NumPy: run by `test_scipy`.

A case is the body of a function of traced arguments, those of `numpy_cases.ARGUMENTS` that it names. Values are SciPy's
to rounding: its own loops add in another order.
"""

from __future__ import annotations

import numpy as np
import scipy.special
import scipy.stats
from numpy_cases import CONSTANTS

NAMES = {
    **CONSTANTS,
    "scipy": scipy,
    "special": scipy.special,
    "logsumexp": scipy.special.logsumexp,  # bound before any trace
    "stats": scipy.stats,
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
special.ber(u) + special.bei(u) + special.ker(u) + special.kei(u) + special.wright_bessel(0.5, 1.0, u)
special.berp(u) + special.beip(u) + special.kerp(u) + special.keip(u)
special.hyp0f1(c, k[0]) + special.hyp1f1(c, 1.5, u) + special.hyp2f1(1.0, c, 2.5, 0.4 * u) + special.hyperu(c, 1.5, u)
special.ellipk(0.5 * u) + special.ellipe(0.5 * u) + special.ellipkm1(0.5 * u) + special.ellipk(0 * u)
special.ellipe(0 * u)
special.ellipkinc(u, 0.3) + special.ellipeinc(u, 0.5 * u) + special.ellipkinc(s, 0.5 * u)
special.ellipj(k, 0.4 * s)
special.eval_legendre(3, k) + special.eval_legendre([0, 1, 2, 5, 7], k) + special.eval_chebyt(4, k)
special.eval_chebyu(3, k)
special.eval_chebyc(4, k) + special.eval_chebys(3, k) + special.eval_hermite(4, k) + special.eval_hermitenorm(3, k)
special.eval_laguerre(4, k) + special.eval_genlaguerre(3, 0.5, k) + special.eval_gegenbauer(4, 0.7, k)
special.eval_jacobi(3, 0.5, 1.5, k) + special.lpmv(1, 3, 0.3 * k)
special.eval_sh_legendre(3, k) + special.eval_sh_chebyt(3, k) + special.eval_sh_chebyu(3, k)
o = np.zeros(6); special.erf(u, out=o); return o * u
special.gammaln(u, where=B, out=np.ones(6)) + special.erf(u, o := np.zeros(6)) + o
special.erf(s) + special.gammaln(m[0, 0]) + special.jv(1, s) + special.airy(r)[1]
y = [special.erf(x) * special.xlogy(x, s) for x in u]; return np.array(y) + sum(y)
special.erf(m.T)[1:] + special.gammaln(m[None, ::2, :2]).sum() + special.xlogy(m, w).T[1:]
erf(k) * special.powm1(1 + 1e-3 * s, k)
"""

SPECIAL = """
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
stats.laplace.logpdf(k, s, 1.5) + stats.cauchy.logpdf(k, s, w[0]) + stats.logistic.logpdf(k, s, w[1] + 1)
stats.cauchy.cdf(k)
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
stats.geom.pmf([0, 2, 2.5, 3, -1, 1], 0.4 * u)[[1, 3, 5]] + stats.poisson(s).logpmf([1, 2, 3])
stats.dirichlet.logpdf(u / u.sum(), c) + stats.dirichlet.logpdf(C[0] / C[0].sum(), w)
stats.dirichlet(w).pdf(C[1] / C[1].sum())
stats.dirichlet.logpdf(0.2 * u[:3], w)
stats.multivariate_normal.logpdf(m, w, np.diag([1.0, 2.0, 0.5, 0.7])) + mvn(w, 2.0).pdf(m)
mvn.logpdf(m[:, :3], k[:3], q @ q.T + np.eye(3)) + mvn(w[:3], q @ q.T + np.eye(3)).logpdf(m[0, 1:])
mvn.logpdf(m[:, :3], None, q @ q.T + np.eye(3)) + mvn.logpdf(w, mean=m[0], cov=s)
stats.multinomial.logpmf([1, 2, 0, 3], 6, w / w.sum()) + stats.multinomial.pmf([[1, 2, 3], [2, 2, 2]], 6, 0.2 * w[:3])
"""


def cases(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if line]


CASES = ["~" + case for text in (UFUNCS, SPECIAL, STATS) for case in cases(text)]
