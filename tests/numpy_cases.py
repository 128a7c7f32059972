"""What NumPy programs write, one case a line: every function of NumPy's with its options, as `test_numpy` runs it.

A case is the body of a function of traced arguments, those of `ARGUMENTS` that it names; statements before the result
are separated by "; ". Values, memory order and views are to be NumPy's own; where a line begins with "~" its values are
equal to rounding only, because the statements that compute them add or multiply in another order.
"""

from __future__ import annotations

import re

import complex_cases
import linalg_cases
import numpy as np

ARGUMENTS = {  # nothing at a kink or near a tie
    "u": np.array([0.9137, 1.7214, 0.4353, 1.3079, 0.6181, 1.1231]),
    "m": np.array([[0.9137, 1.7214, 0.4353, 1.2178], [1.3079, 0.6181, 1.1231, 0.8119],
                   [0.7331, 1.4142, 1.6227, 0.5193]]),
    "q": np.array([[1.9137, 0.7214, -0.4353], [0.3079, 2.6181, 0.1231], [-0.7331, 0.4142, 1.6227]]),
    "t": np.array([[[0.31, -1.12], [0.73, 0.44], [-0.56, 1.37]], [[1.21, 0.92], [-0.83, 0.65], [0.17, -0.28]]]),
    "w": np.array([1.2317, 0.3112, 0.8093, 1.5471]),
    "k": np.array([-1.03, 0.21, 0.94, 1.52, 2.71]),
    "s": 0.8345,
    "r": -1.2671,
}

def parts(*results):
    """Both parts of complex results, nested or not, as arrays of their own."""
    flat = [x for result in results for x in (result if isinstance(result, tuple) else (result,))]
    return [part + 0 for x in flat for part in ((x.real, x.imag) if np.iscomplexobj(x) else (x,))]


CONSTANTS = {
    "parts": parts,
    "np": np,
    "polynomial": np.polynomial,
    "trapz": vars(np).get("trapezoid", vars(np).get("trapz")),  # its name in NumPy 2, and in NumPy 1
    "c": np.array([0.3, 2.0, 1.0, 0.7, 0.2, 5.0]),
    "C": np.array([[0.5, 2.0, 1.0, 0.7], [0.2, 1.5, 0.9, 2.5], [1.1, 0.4, 0.8, 0.6]]),
    "I": np.array([2, 0, 1, 2]),
    "B": np.array([True, False, True, True, False, True]),
    "M": np.array([[True, False, True, True], [False, True, True, False], [True, True, False, True]]),
    "N": np.array([[0.0, 0.0, np.nan, 0.0], [np.nan, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, np.nan]]),
    "nan": np.array([0.0, np.nan, 0.0, 0.0, np.nan, 0.0]),
}

UFUNCS = """
u + m[0, 0] - 2 * u / c
np.add(u, c) + np.subtract(c, u) * np.multiply(u, u) / np.divide(u, c) + np.true_divide(1.0, u)
~c ** s + C[0, 0] ** u + 2 ** u + c ** u + (C ** r).sum() + np.float64(2.0) ** s
np.power(u, c) + np.power(2.0, u) + np.float_power(u, 1.5) + np.float_power(u, u)
np.sqrt(u) + np.square(u) + np.cbrt(u) + np.reciprocal(u) + np.positive(u) + np.negative(u)
np.exp(u) + np.exp2(u) + np.expm1(u)
np.log(u) + np.log2(u) + np.log10(u) + np.log1p(u)
np.logaddexp(u, c)
~np.logaddexp2(u, c)
~np.logaddexp2(u, u[::-1])
np.sin(u) + np.cos(u) + np.tan(u * 0.5)
np.arcsin(u * 0.5) + np.arccos(u * 0.5) + np.arctan(u)
np.sinh(u) + np.cosh(u) + np.tanh(u)
np.arcsinh(u) + np.arccosh(u + 1.0) + np.arctanh(u * 0.5)
np.arctan2(u, c) + np.arctan2(u[::-1], u) + np.hypot(u, c) + np.hypot(u, u[::-1])
np.deg2rad(u) + np.radians(u)
np.rad2deg(u) + np.degrees(u)
np.absolute(u - 1.0) + np.abs(u - 1.0) + np.fabs(u - 1.0) + np.sign(u - 1.0)
np.maximum(u, c) + np.minimum(u, 1.0) + np.fmax(u, c) + np.fmin(u, c)
np.fmax(u, nan) + np.fmin(u + 0 * nan, c)
np.mod(u, 0.3) + np.remainder(u - 1.0, 0.3) + np.mod(2.0, u) + np.mod(-c, u)
np.fmod(u, 0.3) + np.fmod(u - 1.0, 0.3) + np.fmod(-2.0, u) + np.fmod(-c, u)
np.divmod(u, 0.3)
np.divmod(c, u)
divmod(u, 0.3) + divmod(c, u)
np.modf(u * 3 - 3)
np.modf(s * 3)
np.frexp(u)[0] * u + np.frexp(u)[1]
np.ldexp(u, 3) + np.ldexp(u, [0, 1, 2, 0, 1, -2])
np.copysign(u, -1.0) + np.copysign(u - 1.0, c) + np.copysign(2.0, u - 1.0)
np.heaviside(u - 1.0, 0.5) * u + np.heaviside(0 * u, u)
np.floor(u) + np.ceil(u) + np.rint(u) + np.trunc(u) + np.fix(u * 3) + np.floor_divide(u, 0.3)
np.greater(u, c) * u + np.less(u, c) + np.greater_equal(u, 1) + np.less_equal(u, 1) + np.equal(u, 1) * u
np.logical_and(u > 1, c > 0.5) * u + np.logical_or(u > 1, c) + np.logical_xor(u > 1, c > 1) + np.logical_not(u > 1)
((u > 1) & (c > 1)) * u + ((u > 1) | B) + ((u > 1) ^ B) + ~(u > 1) + np.bitwise_and(u > 1, B) + np.invert(u > 1)
np.bitwise_or(u > 1, B) * u + np.bitwise_xor(u > 1, B) + np.bitwise_not(u > 1) + np.not_equal(u, c)
np.isfinite(u) * u + np.isnan(u) + np.isinf(u) + np.signbit(u - 1) * u
np.conjugate(u) + np.conj(u) + np.real(u) + np.imag(u) + np.angle(u) + np.angle(-u)
np.real_if_close(u) * 2
np.nextafter(u, c) * u + np.nextafter(c, u) + np.spacing(u) + np.spacing(-u) * u
np.matmul(m, w) + np.matmul(m, m.T) @ m[:, 0]
~np.sinc(u)
~np.sinc(u - u) + np.sinc(0.3 * u) + np.sinc(1e-6 * u) + np.sinc(u - 0.9137)
~np.i0(u) + np.i0(u * 9) + np.i0(-u) + np.i0(u - 0.9137)
np.nan_to_num(u + nan) + np.nan_to_num(u + nan, nan=2.0)
np.nan_to_num(u + np.array([0.0, np.inf, 0, 0, -np.inf, 0]), posinf=3.0, neginf=-1.0)
z = u + nan; y = np.nan_to_num(z, copy=False); return y + z
np.around(u, 1) + u + np.round(u) + np.round(u * 100, -1)
"""

UFUNC_FORMS = """
m[np.arange(3), [0, 1, 2]] + m[(0, 1, 2), (1, 2, 3)] + m[[True, True, True], 1]
np.divide(u, c - 1.0, where=c != 1.0, out=np.full(6, s))
~np.arccosh(u, where=u > 1.2, out=np.zeros(6))
m[np.ix_(u[:3] > 0.5, w > 1.0)] * 2
z = np.zeros((3, 4)); z.T[1] = m[:, 0]; z.flat[5] = s; z.reshape(-1)[::5] += r; return z
z = np.zeros((2, 4)); z.flat[1:7] = u; return z
z = np.zeros((2, 4)); y = z.flat; y[::2] = w; y[1] = s; y[[3, 5]] = [r, 2.0]; return z + len(y), y[2:] * 2
z = np.zeros((3, 2)); z.T.flat[1:] = u[1:]; z.flat[:] = z.flat[::-1]; return z + [x for x in z.flat][1]
np.emath.sqrt(u) + np.emath.log(u) + np.emath.log2(u) + np.emath.log10(u) + np.emath.power(u, 2.5)
~np.emath.logn(2.0, u) + np.emath.arcsin(0.5 * u) + np.emath.arccos(0.5 * u) + np.emath.arctanh(0.5 * u)
~parts(np.emath.sqrt(3 * k), np.emath.log(3 * k), np.emath.arccos(3 * k), np.emath.power(3 * k, 0.5))
~parts(np.emath.log2(3 * k), np.emath.log10(3 * k), np.emath.logn(3.0, 3 * k), np.emath.arcsin(3 * k))
~parts(np.emath.arctanh(3 * k))
~parts(np.emath.sqrt(1j * u), np.emath.log(u + 1j))
z = np.zeros((0, 3)); z = np.vstack([z, m[:, :3]]); return z
~z = []; [z.append(x * 2) for x in u]; return np.array(z) + np.sum(z) + np.mean(z) + np.max(z)
~np.vectorize(lambda x, p: x ** p, excluded=["p"])(u, p=2.0)
~np.vectorize(lambda x: x ** 2 if x > 1 else x)(u) + np.vectorize(max)(u, c)
~np.poly1d([1.0, 2.0, 3.0])(u) * s
np.bincount(np.array([0, 1, 1, 2, 0, 2]), weights=u) / np.bincount(np.array([0, 1, 1, 2, 0, 2]))
z = np.empty((2, 3)); z[:] = [[s, r, 1], [2, 3, u[0]]]; return z
o = np.zeros(6); np.add(u, c, out=o); return o * 2
o = np.zeros(6); y = np.sin(u, out=o); return y + o
o = np.zeros(6); np.sin(u, o); return o
o = np.zeros(6); np.add(u, o, out=o); np.add(o[1:], u[1:], o[1:]); return o
o = np.ones(6); np.clip(u, o, 2.0, o); return o
o = np.ones((2, 3)); np.copyto(o[0], u[:3]); np.dot(o, q, o); return o
o = np.ones((3, 3)); np.dot(q, b=o, out=o); return o
o = np.zeros((2, 6)); np.multiply(u, c, out=o[1]); return o
o = np.empty(6); p = np.empty(6); np.modf(u * 3, out=(o, p)); return o * p
o = np.empty(6); p = np.empty(6); np.divmod(u, c, o, p); return o + p * u
o = np.empty(6); np.modf(u * 3, out=(o, None)); return o
o = np.zeros(6); p = np.divmod(s, 0.3, out=(o, None))[1]; return o, p * u
p = np.modf(2.5, np.zeros(6))[1]; p[0] = s; return p
o = np.ones(6); np.log(u, out=o, where=u > 1); return o * 2
o = np.ones(6); np.log(u, out=o, where=B); return o * 2
o = u * u; np.divide(c, u, out=o, where=B); return o
o = np.ones((3, 4)); np.multiply(m, w, out=o, where=m > 1); return o
y = np.sqrt(u, where=u > 0); return y
z = u * 1; np.multiply(z, 2, out=z); return z
z = u * 1; np.multiply(z[1:], z[:-1], out=z[1:]); return z
z = u * 1; np.add(z[:-1], z[1:], out=z[:-1], where=B[1:]); return z
z = u * 1; z += u; z *= c; z -= 1; z /= u; z **= 2; z %= 0.7; return z
z = u * 1; z //= 0.3; return z * u
np.add(u, 1, dtype=float) + np.add(u, c, dtype=np.float64, casting="same_kind")
np.add.reduce(u) + np.add.reduce(u, axis=0, keepdims=True) + np.add.reduce(u, initial=2.0)
np.add.reduce(m) + np.add.reduce(m, axis=(0, 1)) + np.add.reduce(m, axis=None) + np.add.reduce(m, 0)
np.add.reduce(m, axis=1, where=M, initial=1.0)
~np.subtract.reduce(u) + np.subtract.reduce(u[:1])
~np.subtract.reduce(m, axis=1)
~np.divide.reduce(u)
~np.divide.reduce(m, axis=0, keepdims=True)
~np.true_divide.reduce(m, axis=1)
~np.multiply.reduce(m, axis=1)
~np.multiply.reduce(m, axis=None, where=M, initial=2.0)
np.maximum.reduce(m, axis=1) + np.minimum.reduce(m, axis=-1, initial=0.7)
np.fmax.reduce(m + N, axis=1) + np.fmin.reduce(m + N, axis=1)
np.maximum.reduce(m, axis=0, where=M, initial=0.0)
~np.logaddexp.reduce(u)
~np.logaddexp.reduce(m, axis=1)
~np.logaddexp2.reduce(m, axis=0)
~np.hypot.reduce(m, axis=1)
np.power.reduce(m[:, :2], axis=1)
np.arctan2.reduce(m, axis=0)
np.logical_or.reduce(m > 1.5, axis=1) * w[:3] + np.logical_and.reduce(m > 0.5, axis=1)
np.logical_xor.reduce(m > 1, axis=1) * m[:, 0]
np.bitwise_or.reduce(m > 1.5, axis=1) * m[:, 0] + np.bitwise_and.reduce(m > 0.5, axis=1)
np.add.accumulate(u) + np.add.accumulate(m, axis=1)[0, 0]
np.add.accumulate(m)
~np.multiply.accumulate(u)
~np.multiply.accumulate(m, axis=1)
np.maximum.accumulate(u) + np.minimum.accumulate(u)
np.maximum.accumulate(m, axis=1)
np.fmax.accumulate(u + nan)
~np.subtract.accumulate(u)
np.divide.accumulate(m, axis=1)
np.logaddexp.accumulate(m, axis=1)
o = np.zeros(6); np.add.accumulate(u, out=o); return o
np.add.outer(u, w) + np.multiply.outer(u, w)
np.subtract.outer(m, w)
np.maximum.outer(u, c) + np.arctan2.outer(c, u)
np.power.outer(u, [1.0, 2.0, 3.0])
np.multiply.outer(s, u) + np.multiply.outer(u, s)
np.greater.outer(u, w) * 1.0
z = u * 1; np.add.at(z, [0, 1, 0], s); return z
z = u * 1; np.add.at(z, [0, 1, 0, 5], w); return z
z = m * 1; np.add.at(z, ([0, 1, 0], [1, 2, 1]), w[:3]); return z
z = m * 1; np.add.at(z, [0, 2, 0], w); return z
z = m * 1; np.add.at(z, (slice(None), [0, 1, 0]), m[:, :3]); return z
z = np.zeros(4); np.add.at(z, I, w); return z * 2
z = u * 1; np.subtract.at(z, [0, 1, 0, 5], w); return z
~z = u * 1; np.multiply.at(z, [0, 1, 0, 5], w); return z
~z = u * 1; np.divide.at(z, [0, 1, 0, 5], w); return z
z = u * 1; np.maximum.at(z, [0, 1, 0, 5], w); return z
z = u * 1; np.minimum.at(z, [0, 1, 0, 5], w); return z
z = u * 1; np.power.at(z, [0, 1, 5], 2.5); return z
z = u * 1; np.negative.at(z, [0, 1]); return z
z = u * 1; np.exp.at(z, [0, 1, 0]); return z
z = u * 1; np.add.at(z, B, 1.0); return z
~np.add.reduceat(u, [0, 2, 4])
~np.add.reduceat(u, [0, 4, 1, 3])
~np.add.reduceat(m, [0, 2], axis=1) + np.add.reduceat(m, [0, 1, 2])[:, :2]
~np.multiply.reduceat(u, [0, 2, 3])
np.maximum.reduceat(u, [0, 2, 4, 1])
np.minimum.reduceat(m, [0, 1, 3], axis=1)
~np.logaddexp.reduceat(u, [0, 3])
"""

REDUCTIONS = """
np.sum(u) + np.sum(m) * np.sum(m, axis=0) + np.sum(m, 1, keepdims=True)
np.sum(t, axis=(0, 2)) + np.sum(t, axis=(-1, 0), keepdims=True)
np.sum(m, axis=1, initial=2.0) + np.sum(m, axis=1, where=M) + np.sum(m, axis=1, where=M, initial=1.0)
~np.sum(m, axis=1, where=m > 1) + np.sum(m, initial=s) + np.sum(m, where=M[:, :1])
np.sum(m, dtype=float) + m.sum(axis=0, dtype=np.float64)
o = np.zeros(4); np.sum(m, axis=0, out=o); return o
np.sum([s, r]) + np.sum([u[0], 2.0]) + np.sum((s, r))
np.sum(m > 1) * u + np.sum(M) + np.count_nonzero(m > 1) + np.count_nonzero(m > 1, axis=1)[0] + np.count_nonzero(u)
np.any(m > 1.5, axis=1) * w[:3] + np.all(m > 0.5, axis=0)[0] + np.any(u > 1) + np.all(u)
~np.prod(u) + np.prod(m, axis=1)[0] + np.prod(m, axis=(0, 1)) + np.prod(m, axis=0, keepdims=True)
~np.prod(m, axis=1, initial=2.0) + np.prod(m, axis=1, where=M) + np.prod(m, where=M, initial=s)
np.max(u) + np.amax(m, axis=1) + np.max(m, axis=(0, 1), keepdims=True)[0] + np.max(m, initial=0.0)
np.min(u) + np.amin(m, axis=1) + np.min(m, axis=(0, 1), keepdims=True)[0] + np.min(m, initial=0.5)
np.max(m, axis=1, initial=1.5) + np.max(m, axis=1, where=M, initial=0.0) + np.max(m, axis=1, initial=s)
np.max(m, axis=1, where=m > 1, initial=0.0) + np.min(m, axis=0, where=M, initial=9.0)[0]
np.mean(u) + np.mean(m, axis=1) + np.mean(m, axis=(0, 1), keepdims=True)[0] + np.mean(m, 1, keepdims=True)[:, 0]
np.mean(m, axis=1, where=M) + np.mean(m, where=m > 1)
np.var(u) + np.var(m, axis=1) + np.var(m, axis=0, ddof=1, keepdims=True)[0, 0] + np.var(m, axis=(0, 1))
np.var(m, axis=1, where=M) + np.var(m, ddof=1, where=M) + np.var(m, axis=1, where=m > 0.6)
np.std(u) + np.std(m, axis=1) + np.std(m, axis=0, ddof=1, keepdims=True)[0, 0] + np.std(m, axis=(0, 1))
np.std(m, axis=1, where=M)
o = np.zeros(3); np.var(m, axis=1, out=o); p = np.zeros(3); np.std(m, 1, None, p); return o + p
o = np.zeros(3); np.mean(m, axis=1, out=o); p = np.zeros(3); np.max(m, axis=1, out=p); return o * p
np.average(u) + np.average(u, weights=c) + np.average(u, weights=u[::-1]) + np.average(c, weights=u)
np.average(m, axis=1) + np.average(m, axis=1, weights=w) + np.average(m, 1, C)
np.average(m, axis=0, weights=w[:3], keepdims=True)
np.average(u, weights=c, returned=True)
np.average(m, axis=1, returned=True)
np.ptp(u) + np.ptp(m, axis=1) + np.ptp(m, axis=1, keepdims=True)[:, 0]
np.median(u) + np.median(u[:5]) + np.median(m, axis=1) + np.median(m, axis=(0, 1)) + np.median(m)
np.median(t, axis=(0, 2)) + np.median(t, axis=(0, 2), keepdims=True)[0, :, 0]
np.median(t, axis=1, keepdims=True)
np.nan_to_num(np.median(m + N, axis=0)) + np.nan_to_num(np.quantile(m + N, 0.25, axis=0))
~np.quantile(u, 0.3) + np.quantile(m, 0.7, axis=1) + np.quantile(m, 0.25, axis=(0, 1)) + np.quantile(t, 0.4)
~np.quantile(m, [0.1, 0.5, 0.9], axis=1)
~np.quantile(t, [[0.1, 0.5], [0.3, 1.0]], axis=(0, 1), keepdims=True)
~np.quantile(u, s) + np.quantile(u, np.array([0.2, 0.4]) * s)
~np.percentile(u, 30) + np.percentile(m, [10, 60], axis=1, keepdims=True)[0]
np.percentile(u, 0) + np.percentile(u, 100)
np.quantile(u, 0.33, method="lower") + np.quantile(u, 0.33, method="higher") + np.quantile(u, 0.33, method="nearest")
np.quantile(u, 0.33, method="midpoint") + np.quantile(u, 0.33, method="inverted_cdf")
~np.quantile(u, 0.33, method="averaged_inverted_cdf") + np.quantile(u, 0.4, method="closest_observation")
~np.quantile(u, 0.33, method="interpolated_inverted_cdf") + np.quantile(u, 0.33, method="hazen")
~np.quantile(u, 0.33, method="weibull") + np.quantile(u, 0.33, method="median_unbiased")
~np.quantile(u, 0.9, method="weibull")
~np.quantile(u, [0.33, 0.01, 0.99], method="normal_unbiased")
~np.percentile(m, 33, axis=0, method="weibull")
np.nansum(m + N) + np.nansum(m + N, axis=1) + np.nansum(m, axis=0, keepdims=True)[0, 0]
~np.nanprod(m + N) + np.nanprod(m + N, axis=1)
np.nanmax(m + N) + np.nanmax(m + N, axis=1) + np.nanmin(m + N) + np.nanmin(m + N, axis=1)
np.nanmean(m + N) + np.nanmean(m + N, axis=1) + np.nanmean(m + N, axis=1, keepdims=True)[:, 0]
~np.nanvar(m + N) + np.nanvar(m + N, axis=1) + np.nanvar(m + N, axis=1, ddof=1)
~np.nanstd(m + N) + np.nanstd(m + N, axis=1) + np.nanstd(m + N, axis=1, ddof=1, keepdims=True)[:, 0]
np.nanmedian(m + N) + np.nanmedian(m + N, axis=1) + np.nanmedian(m + N, axis=0, keepdims=True)[0, 0]
~np.nanquantile(m + N, 0.3) + np.nanquantile(m + N, 0.3, axis=1)
~np.nanpercentile(m + N, [30, 70], axis=1)
np.nanmedian(m + N, axis=(0, 1)) + u
np.nanargmax(u + nan) * u + np.nanargmin(m + N, axis=1)[0]
np.nansum(m + N, axis=1, where=M, initial=1.0) + np.nanmax(m + N, axis=1, initial=0.0)
~np.cumsum(u) + np.cumprod(u) + np.cumsum(m, axis=1)[0, 0] + np.cumprod(m, axis=0)[0, 0]
np.cumsum(m) + np.cumsum(m, axis=0).sum()
~np.cumprod(m, axis=1)
np.nancumsum(u + nan) + np.nancumsum(m + N, axis=1)[0, 0]
~np.nancumprod(u + nan) + np.nancumprod(m + N, axis=1)[0, 0]
o = np.zeros((3, 4)); np.cumsum(m, axis=0, out=o); return o
np.trace(q) + np.trace(q, offset=1) + np.trace(t, axis1=0, axis2=1) + np.trace(t, 0, 0, 2)[0]
np.linalg.norm(u) + np.linalg.norm(m) + np.linalg.norm(m, axis=1) + np.linalg.norm(u, 1) + np.linalg.norm(u, np.inf)
np.linalg.norm(m, axis=0, keepdims=True) + np.linalg.norm(u, 3) + np.linalg.norm(m, "fro") + np.linalg.norm(u, -np.inf)
np.linalg.norm(m, 1) + np.linalg.norm(m, np.inf) + np.linalg.norm(m, -1) + np.linalg.norm(m, -np.inf)
np.linalg.norm(t, 1, axis=(0, 1)) + np.linalg.norm(t, axis=(0, 2))[0] + np.linalg.norm(u, 0)
np.cov(m) + np.cov(q)
~np.cov(m, rowvar=False) + np.cov(m.T)
~np.cov(u, u[::-1]) + np.cov(u, c)
~np.cov(m, aweights=[0.5, 2.0, 1.0, 0.7]) + np.cov(m, aweights=[s * s, 2.0, 1.0, r * r], fweights=[1, 2, 1, 3])
~np.cov(m, ddof=0) + np.cov(m, bias=True) + np.cov(u)
~np.cov(m, aweights=w) + np.cov(m, fweights=[1, 2, 1, 3]) + np.cov(m, fweights=[1, 2, 1, 3], aweights=w, ddof=0)
~np.corrcoef(m) + np.corrcoef(q)
~np.corrcoef(u, c) + np.corrcoef(u, u[::-1])
~np.corrcoef(m, rowvar=False)
np.histogram(u, bins=[0.0, 0.5, 1.0, 2.0])[0] * w[:3] + np.histogram(u, bins=3, range=(0, 2))[0]
~np.histogram([0.2, 0.7, 1.1, 1.7], bins=[0.0, 0.5, 1.0, 2.0], weights=w)[0] * 2
~np.histogram(u, bins=[0.0, 0.5, 1.0, 2.0], weights=u)[0] * 2
~np.histogram2d(u, c, bins=3, range=[[0, 2], [0, 6]], weights=u * u)[0] * s
np.histogram2d(u, c, [0.0, 0.7, 1.4, 2.0])[0] * s + np.histogram2d(u, u[::-1], bins=(3, 3))[2][:3]
~np.histogram2d(u, c, bins=[2, [0.0, 1.0, 6.0]], density=True)[0] * s
~np.histogramdd(m.T, bins=2)[0] * r + np.histogramdd(m.T, 2, weights=w)[0]
~np.histogramdd([u, c, u], bins=(2, 2, 3), range=[(0, 2)] * 3, weights=c)[0] * s
np.bincount(I, weights=w) + np.bincount([0, 1, 2])
np.bincount(I, w, minlength=6)
np.histogram_bin_edges(u, 4) + np.histogram_bin_edges(u, 4, range=(0.0, s))
np.histogram(u, bins=[0.0, 0.5, 1.0, 2.0])[1] * s + np.histogram_bin_edges(u, [0, 1, 2, 3])
np.histogram(u, bins=4)[1] + np.histogram(u, bins=4)[0][0]
np.histogram(u, bins=[0.0, 0.5, 1.0, 2.0], density=True)[0] * s
"""

PRODUCTS = """
np.dot(u, c) + np.dot(m, w) + np.dot(C, w) + np.dot(s, w)[:3] + np.dot(m, m.T)[0] + np.dot(w, t.reshape(3, 4).T)
o = np.zeros(3); np.dot(m, w, out=o); return o
np.dot(t, m[:2, :3])
np.vdot(m, C) + np.vdot(u, u)
np.inner(m, w) + np.inner(m, m)[0] + np.inner(u, c) + np.inner(s, w)[:3]
np.outer(u, w) + np.outer(u, [1.0, 2.0, 3.0, 4.0]) + np.outer(m[0, :3], m[1:, 0]).sum()
o = np.zeros((6, 4)); np.outer(u, w, out=o); return o
np.kron(u, w) + np.kron(w, u)
np.kron(m, q)
np.kron(m, w) + np.kron(C, w)
np.tensordot(m, m) + np.tensordot(m, w, 1) + np.tensordot(t, m, axes=([1], [0]))[0, 0, :3]
np.tensordot(t, t, axes=([0, 1], [0, 1])) + np.tensordot(t, C, ((1,), (0,)))[:, :, 0]
np.tensordot(u, w, 0)
np.matmul(t, m[:2, :3]) + t @ m[:2, :3]
np.matmul(t, np.swapaxes(t, 1, 2)) + np.matmul(m, m.T)
np.matmul(w, m.T) + np.matmul(m, w) + w @ np.ones((4, 3)) + C @ w
~np.matmul(w[:3], t)[:, 0] + np.matmul(t, w[:2])[:, 0]
o = np.zeros((3, 3)); np.matmul(m, m.T, out=o); return o
np.matmul(t, t, axes=[(0, 2), (2, 0), (1, 2)]) + np.matmul(m, m, axes=[(1, 0), (0, 1), (0, 1)])[0, 0]
np.matmul(w, m, axes=[0, (1, 0), 0])
~np.einsum("i,i->", u, c) + np.einsum("ij->", m)
~np.einsum("ij,jk->ik", m, m.T) + np.einsum("ij,kj", m, m)
~np.einsum("ii->i", q) + np.einsum("ii", q) + np.einsum("ij->i", q)
~np.einsum("ij->ji", m) + np.einsum("ba", m)
~np.einsum("...j,j->...", t, w[:2]) + np.einsum("i...->...", t)[0, 0]
~np.einsum("...ij,...jk->...ik", t, np.swapaxes(t, 1, 2))
~np.einsum("...ij,...jk", t, np.swapaxes(t, 1, 2)) + np.einsum("...,...", s, w)[0]
~np.einsum("i...,i...->i...", m, w[:3, None])
~np.einsum("i,ij...->j...", w[:2], t)
~np.einsum(m, [0, 1], w, [1], [0]) + np.einsum(m, [0, 1], w, [1])
~np.einsum(t, [Ellipsis, 0], w[:2], [0], [Ellipsis])
~np.einsum(t, [..., 0], w[:2], [0])
~np.einsum("i,j,k->ijk", u[:2], w[:3], k[:2])
~np.einsum("ij,jk,kl->il", m, t.reshape(4, 3), q, optimize=True)
~np.einsum("ij,jk,kl->il", m, t.reshape(4, 3), q, optimize="greedy")
~np.einsum("ij,jk,kl->il", m, t.reshape(4, 3), q)
~np.einsum("ij, jk -> ik", m, t.reshape(4, 3), optimize=["einsum_path", (0, 1)])
~np.einsum("ij,ij,ij->j", m, m, C) + np.einsum("ij,ij,i->j", C, m, [1.0, 2.0, 3.0])
~np.einsum("iij->j", t[:, :2]) + np.einsum("ijk,jik->k", t[:, :2], t[:, :2])
~np.einsum("ij,ij->ij", C, m) + np.einsum("ij,j->ij", m, w)
~np.einsum("i,->i", u, s) + np.einsum(",i->i", 2.0, u)
~np.einsum("ij,ji,kk->k", m[:, :3], q, q)
~o = np.zeros((3, 3)); np.einsum("ij,kj->ik", m, m, out=o); return o
~np.einsum("ij->i", m, dtype=float, order="C", casting="safe")
np.cross(q[0], q[1]) + np.cross(q, [1.0, 2.0, 3.0]) + np.cross([1.0, 2.0, 3.0], q)
np.cross(m[:, :3], q)
np.cross(m, q[:2, 0] @ np.ones((2, 4)) if False else m[::-1], axis=0)
np.cross(m[:3, :3].T, q, axisa=0, axisb=1, axisc=0)
~np.linalg.matrix_power(q, 3) + np.linalg.matrix_power(q, 0) + np.linalg.matrix_power(q, 1)
np.linalg.multi_dot([m, t.reshape(4, 3), q]) + np.linalg.multi_dot([w, m.T, q])
~np.convolve(u, w) + np.convolve([1.0, 2.0], np.ones(8)) * s
~np.convolve(u, w, "same") + np.convolve(u, c[:3], mode="same") + np.convolve(w, u, "same")
~np.convolve(u, w, "valid") + np.convolve(w, u, "valid")
~np.correlate(u, w) + np.correlate(w, u)
~np.correlate(u, w, "full") + np.correlate(w, u, "full") + np.correlate(u, c[:4], "full")
~np.correlate(u, w, "same") + np.correlate(w, u, "same")
np.interp(u, [0.0, 1.0, 2.0], [1.0, 3.0, 2.0])
np.interp(u, k, k * k) + np.interp(u, k, [0.0, 2.0, 1.0, 3.0, 5.0]) + np.interp([0.3, 0.9, 1.1, -5, 7, 1.53], k, u[:5])
np.interp(u * 4 - 2, k, u[:5], left=-1.0, right=s) + np.interp(s, k, w[:1] * k) + np.interp(u * 4 - 2, k, k, left=r)
np.interp(m, [0.0, 1.0, 2.0], [1.0, 3.0, 2.0])
np.interp(u * 2, [0.1, 0.4, 0.9], w[:3], period=1.0) + np.interp(u, [0.9, 0.4, 0.1], w[:3], period=1.0)
np.interp(c, k, u[:5], period=4.0) + np.interp(u, [0.1, 1.4, 2.9], [1.0, 2.0, 3.0], period=3.0)
np.polyval([1.0, -2.0, 3.0], u) + np.polyval(w, u) + np.polyval(w, c) + np.polyval(w, 2.0) + np.polyval(w, s)
np.polyadd(u, w) + np.polysub(u, w)
~np.polymul(u, w) + np.polyint(np.polymul(u, w))[:9]
np.polyder(u) + np.polyder(u, 1) + np.polyint(w, k=2.0)
~np.polyfit(c, u, 2) + np.polyfit(c, u, 2, w=[1.0, 2.0, 1.0, 3.0, 1.0, 2.0])
~np.polyfit(c, np.stack([u, u * u], axis=1), 1)
~np.polyfit(u, c, 2) + np.polyfit(u, u[::-1], 2, w=c + 1) + np.polyfit(c, u, 2, w=u)
~np.polyfit(u, np.stack([u, c], axis=1), 1)
~np.kaiser(5, s) + np.kaiser(5, 2 * s)[::-1] + np.kaiser(1, s)
~np.poly(w) * np.poly(k[:4])
~np.poly([s, 2.0, r]) * 2
~np.poly(q) + np.poly(np.diag(w)[:3, :3]) + np.poly(np.eye(3) * s)
~np.poly(np.diag(s + 2.0 * np.arange(13.0)) + 0.1 * r * np.eye(13, k=1))[:2]
np.polydiv(u, w[:3]) + np.polydiv([1.0, 2.0, 3.0], w[:2])
np.polyder(u, 2) + np.polyint(w[:2], 2)[:4]
np.vander(w) + np.vander(w, 4, increasing=True) + np.vander([1.0, 2.0], 2).sum()
np.vander(w, 2)
trapz(u) + trapz(u, dx=0.5) + trapz(m, w, axis=1)[0] + trapz(m, axis=0)[0]
trapz(u, c) + trapz(c, u) + trapz(m, dx=s, axis=0)[0]
"""

MOVEMENT = """
np.reshape(m, (4, 3)) * np.reshape(m, (2, -1), order="F").reshape(4, 3) + m.reshape(4, 3, order="F")
np.ravel(m) + m.ravel("F") + np.ravel(m.T) + m.flatten() + m.flatten("F")
np.transpose(m) + m.T + m.transpose((1, 0)) + np.transpose(t, (2, 1, 0))[0, 0, 0]
np.transpose(t, (2, 0, 1)) + np.moveaxis(t, 2, 0) + np.rollaxis(t, 2)
np.moveaxis(t, [0, 1], [1, 2]) + np.swapaxes(np.swapaxes(t, 0, 2), 1, 2)
np.swapaxes(m, 0, 1) + m.swapaxes(1, 0)
np.expand_dims(m, 1) + np.expand_dims(m, (0,))[0][:, None] + m[:, np.newaxis]
np.squeeze(m[:1]) + np.squeeze(m[:1], axis=0) + m[:1].squeeze()
np.atleast_1d(s) + np.atleast_1d(u) + np.atleast_2d(u)[0] + np.atleast_3d(u)[0, :, 0]
np.atleast_1d(s, u)
np.broadcast_to(u, (2, 6)) * 2.0
np.broadcast_to(s, (2, 2))
np.broadcast_arrays(m, w)
np.broadcast_arrays(m, w[:3, None], 1.0)
np.concatenate([u, c, w]) + np.concatenate((u, w, u))
np.concatenate([m, C], axis=1) + np.concatenate([m, m], -1)
np.concatenate([m, q], axis=None)
o = np.zeros(10); np.concatenate([u, w], out=o); return o
np.stack([u, c]) + np.stack([u, u]) + np.vstack([u, c]) + np.stack([c, u], axis=-1).T
np.hstack([u, w, s]) + np.hstack((u, c[:5]))
np.hstack([m, q]) + np.column_stack([m, q])
np.dstack([m, C]) + np.stack([C, m], axis=2)
np.column_stack([u, c, u])
np.vstack([m, w]) + np.block([[m], [w[None]]]) + np.r_[m, w[None]]
np.block([[m, q], [np.ones((1, 7))]])
np.block([u, s, 2.0])
np.append(u, s) + np.append(u, [1.0]) + np.append(m[0], [u[:3]]) if False else np.append(u, s)
np.append(m, C, axis=0) + np.append(m, m)[:4]
np.split(u, 3) + np.array_split(u, 4) + np.split(u, [1, 4])
np.split(m, 2, axis=1) + np.hsplit(m, 2) + np.hsplit(m, [1, 3])
np.vsplit(m, 3) + np.hsplit(u, 2) + np.vsplit(m, [1])
np.dsplit(t, 2)
np.array_split(m, [1, 3], axis=1)
np.tile(u, 2) + np.tile(u, (2, 2))[0]
np.tile(m, (2, 1, 2))
np.repeat(u, 2) + np.repeat(m, 2, axis=0)[0, 0] + u.repeat(2)
np.repeat(m, [1, 0, 2], axis=0)
np.repeat(s, 3)
np.roll(u, 2) + np.roll(u, -1) + np.roll(m, 1).ravel()[:6]
np.roll(m, (1, 2), axis=(0, 1)) + np.roll(m, 1, axis=0) + np.roll(m, -1, 1)
np.flip(u[:1].reshape(())) * u + np.flip(m[0, 1, ...]) + np.rot90(m, 4)[0, 0]
u[:1].reshape(()).sum(axis=0) * u + np.max(m[1, 1, ...], axis=-1) + np.all(u[0, ...], axis=0)
np.logical_and.reduceat(u, [0, 1])[0] * u + np.logical_or.accumulate(u)[:1]
np.logical_xor.reduce(u[1, ...], axis=None) * u
np.flip(m) + np.flip(m, 0) + np.flip(m, (0, 1)) + np.flipud(m) + np.fliplr(m)
np.rot90(m) + np.rot90(m, 3) + np.rot90(m, -1, (0, 1))
np.rot90(t, 2, (1, 2))
np.pad(u, 2) + np.pad(u, (1, 3), "constant", constant_values=(1.0, 2.0)) + np.pad(u, 2, constant_values=s)
np.pad(u, (2, 1), constant_values=(s, r)) + np.pad(u, (1, 2), "linear_ramp") + np.pad(u, (1, 2), "empty")[3]
np.pad(m, ((1, 2), (0, 1)), "edge") + np.pad(m, ((1, 2), (0, 1)), "wrap") + np.pad(m, [(1, 2), (0, 1)], "reflect")
np.pad(m, ((1, 2), (0, 3)), "symmetric")
np.pad(u, (2, 3), "reflect", reflect_type="odd") + np.pad(u, (2, 3), "symmetric", reflect_type="odd")
np.pad(u, (7, 9), "reflect") + np.pad(u, (7, 9), "symmetric") + np.pad(u, (7, 9), "wrap")
np.pad(u, (2, 3), "linear_ramp", end_values=(1.0, s)) + np.pad(u, (2, 3), "linear_ramp", end_values=5.0)
np.pad(m, ((1, 2), (2, 1)), "linear_ramp", end_values=2.0)
np.pad(u, 2, "maximum") + np.pad(u, 2, "minimum") + np.pad(u, 2, "mean") + np.pad(u, 2, "median")
np.pad(m, 1, "maximum", stat_length=2) + np.pad(m, 1, "mean", stat_length=((1, 2), (2, 3)))
np.pad(m, ((1, 1), (2, 0)), "minimum") + np.pad(m, ((1, 1), (2, 0)), "median", stat_length=3)
np.pad(m, 1, constant_values=((s, 1.0), (2.0, r)))
np.meshgrid(u, w)
np.meshgrid(u, w, indexing="ij", sparse=True)
np.meshgrid(u, c, k, copy=False)
np.take(u, [0, 3, 3]) + np.take(m, 2, axis=1) + u.take([1, 1, 0]) + np.take(u, 2)
np.take(m, [[0, 1], [2, 0]], axis=0)
np.take(u, [7, -1], mode="wrap") + np.take(u, [9, 1], mode="clip") + np.take(m, [0, 5])
o = np.zeros(3); np.take(u, [0, 3, 3], out=o); return o
np.take_along_axis(m, np.argsort(C, axis=1), axis=1)
np.take_along_axis(m, np.array([[1, 0, 2, 1]]), 0) + np.take_along_axis(m, np.array([3]), None)
np.compress([True, False, True], m, axis=0) + m.compress([True, False, True], axis=0)
np.compress(u > 1, u) * 2
np.extract(B, u) + np.extract(u > 0.2, u)[:4]
np.diag(u[:4]) + np.diag(w, 0)
np.diag(m) + np.diagonal(m) + np.diagonal(m, 1) + m.diagonal()
np.diag(w[:2], 2) + np.diag(m, -1).sum() + np.diag(w[:3], -1)
np.diagonal(t, axis1=1, axis2=2) + np.diagonal(t, 0, 1, 2)
np.diagflat(w) + np.diagflat([[s, r], [1.0, 2.0]])
np.diagflat(w, 1)
np.tril(m) + np.triu(m) + np.tril(m, 1) + np.triu(m, -1) + np.tril(C) * s
np.tril(t) + np.triu(t, 1)
np.tril(w) + np.triu(w)
z = m * 1; np.fill_diagonal(z, s); return z
z = m * 1; np.fill_diagonal(z, w[:2]); return z
z = np.zeros((7, 3)); np.fill_diagonal(z, s, wrap=True); return z
z = np.zeros((3, 3, 3)); np.fill_diagonal(z, w[:3]); return z
np.delete(u, 2) + np.delete(u, [0]) + np.delete(m, 1, axis=0)[0, 0] + np.delete(u, slice(0, 1))
np.delete(u, [0, -1]) * 2
np.insert(u, 2, s) + np.insert(u, [0], w[0])
np.insert(m, 1, w, axis=0) + np.insert(m, 1, [1.0, 2.0, 3.0, 4.0], 0)
np.insert(c, [1, 3], w[:2])
z = np.resize(u[:0], (2, 3)); z += s; return z
np.resize(u, (3, 4)) + np.resize(u, 12).reshape(3, 4)
np.trim_zeros(np.concatenate([[0.0], u, [0.0, 0.0]])) * u
np.copy(m) + np.array(m) + np.asarray(m) + np.ascontiguousarray(m) + np.asanyarray(m) + np.asfortranarray(m)
np.array([s, r, 1.0]) + np.array([u[0], u[1], s])
np.array([[s, r], [u[0], 2.0]]) * np.asarray([w[:2], w[2:]])
np.require(m, requirements="C") * 2 + np.asarray_chkfinite(m)
np.fft.fftshift(u) + np.fft.ifftshift(u) + np.fft.fftshift(m)[0, 0] + np.fft.ifftshift(m, axes=1)[0, 1]
np.fft.fftshift(m, axes=(0,)) + 0
np.fromiter((x * x for x in u), float) + np.fromiter(u, float, 6)
np.lib.stride_tricks.sliding_window_view(u, 3) * 2
np.lib.stride_tricks.sliding_window_view(m, (2, 2)).sum(axis=(2, 3))
np.copyto(z := m * 1, w); return z
z = m * 1; np.copyto(z, w, where=M); return z
z = u * 1; np.put(z, [0, 2], w[:2]); z.put([1], s); return z
z = m * 1; np.put(z, [0, 5, 7], [1.0, 2.0]); return z
z = u * 1; np.put(z, [0, 8], w[:2], mode="clip"); return z
z = u * 1; np.place(z, B, w); return z
z = u * 1; np.putmask(z, B, w); np.putmask(z, z > 1.5, s); return z
z = m * 1; np.put_along_axis(z, np.array([[0], [2], [1]]), w[:3, None], axis=1); return z
z = m * 1; np.put_along_axis(z, np.array([[0], [2], [1]]), s, 1); return z
np.apply_along_axis(np.sum, 1, m) + np.apply_along_axis(lambda x: x[0] * x[1], 1, m)
np.apply_along_axis(lambda x: x * x[0], 0, m)
np.apply_along_axis(np.diff, 0, m)
np.apply_over_axes(np.sum, t, [0, 2])
~np.vectorize(lambda a, b: a * b + np.sin(a))(u, 2.0)
np.vectorize(lambda a, b: a * b)(m, w)
polynomial.polynomial.polyval(u, w) + polynomial.chebyshev.chebval(c[:4] / 5, w) @ w + polynomial.legendre.legval(u, c)
polynomial.Polynomial(w)(u) * polynomial.Chebyshev([1.0, 2.0, 3.0])(u) + polynomial.Hermite(u[:3]).deriv()(c)
polynomial.laguerre.lagvander(u, 3) @ w + polynomial.hermite_e.hermemul(u[:4], w)[:6]
~polynomial.Legendre.fit(np.arange(6.0), u, 2)(np.array([1.5, 3.0]))
np.vectorize(np.dot, signature="(n),(n)->()")(m, w)
np.vectorize(lambda a: (a.sum(), a[:2]), signature="(n)->(),(k)")(m)
np.vectorize(lambda a, b: a @ b, signature="(i,j),(j)->(i)")(t, w[:2])
np.fromfunction(lambda i, j: i * s + j, (2, 3)) * r
np.linspace(s, 2.0, 5) + np.linspace(r, s, 5) + np.linspace(0.0, s, 5, endpoint=False)
np.linspace(u[:2], w[:2], 4) + np.linspace(s, u[:2], 4)
np.linspace(u[:2], 1.0, 3, axis=1)
np.linspace(s, r, 4, retstep=True)
np.geomspace(s, 2.0, 5)
~np.logspace(s, 1.0, 4) + np.logspace(r, s, 4, base=2.0)
np.full(3, s) + np.full((2, 3), s)[0] + np.full_like(u[:3], s) + np.full(3, u[:3])
np.zeros_like(m) + np.ones_like(m) * m + np.empty_like(m) * 0 + np.full_like(m, 2.0)
np.zeros_like(u) + s
np.tri(3, 4) * m + np.eye(3, 4) * m + np.identity(3)[0, 0]
np.ix_([0, 2], [1, 3])[0] * s + m[np.ix_([0, 2], [1, 3])]
np.r_[u, s, 1.0] + np.hstack([u, 1.0, 2.0])
np.c_[u, c] * 2
np.s_[1:3]; return u[np.s_[1:3]] + np.index_exp[0:2][0].start
"""

DECISIONS = """
np.sort(u) + np.sort(m, axis=0)[0, 0] + np.sort(m, axis=None)[:6] + np.sort(m)[0, 1]
np.sort(m, axis=1, kind="stable") + np.sort(m, 0)
np.argsort(u) * u + np.argsort(m, axis=0)[0, 1] + np.argsort(u, kind="mergesort")
u[np.argsort(-u)] + u[np.lexsort((u, c))]
np.sort_complex(u).real + np.sort_complex(m)[0, 1].real
np.partition(u, 2)[2] + np.partition(m, 1, axis=1)[:, 1] + np.partition(u, [1, 3])[[1, 3]].sum()
np.argpartition(u, 2)[2] * u
np.argmax(u) * u + np.argmin(m) + np.argmax(m, axis=1)[0] + np.argmin(m, axis=0, keepdims=True)[0, 0]
u[np.argmax(u)] + u[np.argmin(u)] + m[np.arange(3), np.argmax(m, axis=1)]
np.where(u > 1, u, c) + np.where(B, u, 0.0) + np.where(u > c, u * u, s) + np.where(c > 1, 1.0, 2.0)
u[np.where(u > 1)] + u[np.nonzero(u > 1)] + u[np.flatnonzero(u > 1)] + u[u > 1] + u[np.argwhere(u > 1)[:, 0]]
np.select([u > 1.5, u > 0.8], [u * u, 2 * u], default=s) + np.select([B, u > 1], [1.0, u])
np.choose(I, [u[:4], w, c[:4]]) + np.choose([0, 1, 0, 1], [w, 2.0])
np.choose([0, 3, 1, -1], [w, w * w], mode="wrap") + np.choose([0, 3, 1, -1], [w, w * w], mode="clip")
np.piecewise(u, [u > 1.5, u > 0.8], [lambda x: x * x, 2.0, lambda x: -x])
np.piecewise(u, [u < 1, u >= 1], [lambda x, a: a * x, lambda x, a: x + a], s)
np.piecewise(u, u > 1, [lambda x: np.log(x), 0.0])
np.digitize(u, [0.5, 1.0, 1.5]) * u + np.digitize(c, k[1:])
np.digitize(u, [1.5, 1.0, 0.5]) * u + np.digitize(u, [0.5, 1.0], right=True)
np.searchsorted([0.5, 1.0, 1.5], u) * u + np.searchsorted(k, c, side="right") + k.searchsorted(0.5)
np.allclose(u, u) * u + np.allclose(u, c) + np.isclose(u, c) + np.array_equal(u, u) + np.array_equiv(u, c)
np.isclose(u + nan, u + nan, equal_nan=True) * u + np.allclose(u + nan, u + nan, equal_nan=True)
np.array_equal(u + nan, u + nan, equal_nan=True) * u + np.array_equal(u, w)
np.isneginf(u) * u + np.isposinf(-u / 0.0) + np.isreal(u) + np.iscomplex(u)
np.isin(u, [5.0, 2.0]) * u + np.isin(u, c, invert=True)
np.unique(u) * 2
np.union1d(u, c) * 2
np.intersect1d(np.append(u, c), c) * s + np.setdiff1d(u, c) + np.setdiff1d(c, u)
np.setxor1d(u, c) * 2
np.unique(np.append(u, u[:2]), return_index=True, return_inverse=True, return_counts=True)
np.unique(np.append(u, u[:2])) * u
np.unique(np.vstack([m, m[1:], 0.9 * m[:1]]), axis=0) * w
np.unique(np.vstack([m, m[1:]]), axis=0, return_index=True, return_inverse=True, return_counts=True)
np.unique(np.hstack([m, m[:, ::-1]]), axis=1) + 0 * m
np.clip(u, 0.7, 1.4) + np.clip(u, 0.7, None) + np.clip(u, None, c) + np.clip(u, c - 1, u[0]) + u.clip(0.7, 1.4)
np.clip(m, 0.7, 1.4, out=(z := m * 2)) + z
np.clip(u, a_min=0.7, a_max=1.4) + np.clip(s, 0.1, 0.5) + np.clip(c, 0.5, u)
np.clip(u, 0.7, 1.4, out=(o := np.ones(6)), where=B) + o
np.unwrap(u * 4) + np.unwrap([0.0, 3.5, 7.2, 1.0, 2.0, -5.0] * u)
np.unwrap(np.cumsum(m * 4, axis=0), axis=0) + np.unwrap(m * 9, discont=4.0)
np.unwrap(u * 9, period=4.0)
np.diff(u) + np.diff(u, prepend=0.0)[1:] + np.diff(u, 1, append=s)[:5] + np.diff(m, axis=0)[0, 0]
np.diff(m, 2) + np.diff(m, 2, axis=1) + np.diff(u, 0)[0]
np.ediff1d(u) + np.ediff1d(m[0], to_end=[s], to_begin=0.0)
np.gradient(u) + np.gradient(u, 0.5) + np.gradient(u, c.cumsum()) + np.gradient(u, edge_order=2) + np.gradient(u, s)
np.gradient(m)
np.gradient(m, 0.5, axis=1) + np.gradient(m, w, axis=1)
np.gradient(c, u.cumsum()) + np.gradient(u, u.cumsum(), edge_order=2)
"""

METHODS = """
u.sum() + m.sum(axis=0) + m.mean(1)[0] + m.std(axis=0) + m.var(axis=0, ddof=1) + m.max(0) + m.min(axis=0)
m.ptp(axis=1) if hasattr(np.ndarray, "ptp") else np.ptp(m, axis=1)
~u.prod() + u.cumsum() + u.cumprod() + m.trace() + q.trace(1)
u.dot(c) + m.dot(w) + (m @ w)
m.clip(0.7, 1.4).round(1) + m.copy() + m.conj() + m.conjugate()
u.argmax() * u + u.argmin() + u.argsort() + m.argmax(axis=1)[0] + u.any() + u.all() + u.nonzero()[0]
z = u.copy(); z.sort(); return z
z = m.copy(); z.sort(axis=0); return z
z = m.copy(); z[1].sort(); return z
z = u.copy(); z.partition(2); return z[2]
z = u.copy(); z.fill(s); return z + u
z = m.copy(); z[1].fill(2.0); return z
z = u.copy(); z.put([0, 2], [s, r]); return z
z = m.copy(); z.itemset(3, s) if hasattr(z, "itemset") else z.put(3, s); return z
m.repeat(2, axis=1) + m.repeat([1, 2, 1, 4], 1)
m.take([0, 2], axis=1) + m.compress([True, False, True, False], axis=1)
I.choose([u[:4], w, c[:4]]) if False else np.choose(I, [u[:4], w, c[:4]])
(3 * u[1]).astype(int) * u + np.array(3 * s).astype("i4") * m[0, 0] + np.asarray(u[1] > 1).astype(int)
u.astype(float) + u.astype("f8", copy=False) + (u > 1).astype(float) + u.astype(int) + (u > 1).astype(int)
u.item(0) + u[2].item() + m.item(1, 2) + m.item((0, 1)) + m[0].item(3)
sum(u.tolist()) + m.tolist()[0][1] * 2.0 + len(u) + u.size + u.ndim + m.shape[1]
m.flat[3] + m.flat[1:3].sum() + sum(m.flat)
z = m.copy(); z.flat = 2.0; z.flat[3] = s; return z
z = m.copy(); z.flat[1:3] = w[:2]; return z
z = m.copy(); z.T[0] = w[:3]; return z
z = m.copy(); z.shape = (4, 3); return z * 1
z = u.copy(); z.resize(4); return z
z = u.copy(); z.resize((2, 4), refcheck=False); return z
z = u.copy(); z.setflags(write=True); return z.argpartition(2)[2] * z + z.__len__()
m.flatten() + m.ravel() + m.reshape(-1)
m.squeeze() + m.transpose().swapaxes(0, 1) + m.item(2) + sum(m.diagonal().tolist())
m.view() * 2 + m.real + m.imag
m.mT * 2 if hasattr(np.ndarray, "mT") else m.T * 2
m.searchsorted(1.0) if False else k.searchsorted(c) * u
np.ndarray.sum(u) if False else u.sum()
"""

PYTHON = """
sum(u) + max(u) + min(u) + sum([s, r]) + max(s, r) + min(s, 0.3) + max([s, r, 1.0]) + sum(x * x for x in u)
sorted(u)[2] + sorted([s, r, 0.1])[1] + sorted(u, reverse=True)[0] + sorted(u, key=lambda x: -x)[0]
~abs(r) + abs(u - 1) + pow(s, 2) + pow(u, 3) + s ** 0.5 + 2 ** s + s ** s + s ** -1 + s ** 2.5 + (-s) ** 3
round(s, 1) + s + round(s) + round(u[0], 1) + int(s * 10) + s // 0.3 + s % 0.3
divmod(s, 0.3) + divmod(2.0, s)
a, b, *rest = u; return a * b + rest[0] * rest[-1]
(a, b), (x, y) = q[:2, :2]; return a * y - b * x
[x * x for x in u] + [row.sum() for row in m]
[a * b for a, b in zip(u, w)] + [i * x for i, x in enumerate(u)]
total = 0.0; total = [total := total + x * x for x in u][-1]; return total
s if s > 0 else r
u.sum() if s > r and not s > 2 else s
(s > 0) * s + (s < r) * r + (s >= 0.5) * 2.0 + float(True) * s
np.float64(2.0) * s + s * np.float64(2.0) + np.int64(3) * s + u * np.float32(0.5) + s * True
s + 1 - r * 2 / s + 3 - (2 - s) + 1 / s + (-s) + (+s)
s * u + u / s - s * c + c / s + u ** s + s ** u
list(reversed(u))[0] * 2 + u[::-1][0]
any(x > 1 for x in u) * s + all(x > 0 for x in u) * r
s.real + s.imag + s.conjugate() + complex(1.0).real
f"{s:.2f}" and s * 2
{"a": s, "b": u}["b"] * 2
sum(i * j * x for (i, j), x in np.ndenumerate(m)) + sum(i[0] * x for i, x in np.ndenumerate(c)) * s
np.array(u.tolist()) + np.array([x for x in u]) + np.array(list(map(np.sin, u)))
np.array([u, c]) + np.array((u, u)) + np.asarray([[x, 1.0] for x in u]).T
import functools; return functools.reduce(lambda a, b: a * b, u)
import operator; return operator.mul(s, r) + operator.itemgetter(1)(u)
import itertools; return list(itertools.accumulate(u))
import statistics; return sum(u) / len(u)
len(np.array_repr(c)) * s + len(np.array_str(c)) + len(np.array2string(c))
np.iscomplexobj(u) * s + np.isrealobj(u) + np.isfortran(m) + np.isfortran(m.T) + np.can_cast(float, u.dtype)
np.may_share_memory(u, u[1:]) * s + np.shares_memory(u, c) + (np.result_type(u, 1) == float)
u[np.diag_indices_from(q)[0]] + q[np.tril_indices_from(q)].sum() + q[np.triu_indices_from(q, 1)].sum()
(np.common_type(c) is np.float64) * s + (np.min_scalar_type(2.0) == float) + len(np.einsum_path("ij,jk", m, m.T)[0])
np.indices((3, 4))[1] * m + np.indices((3, 4), dtype=float)[0] * s
np.isscalar(s) * s + np.ndim(s) + np.shape(u)[0] + np.size(m)
z = u.copy(); z[0], z[1] = z[1], z[0]; return z
z = m.copy(); z[[0, 1]] = z[[1, 0]]; return z
z = m.copy(); z[:, 1] += s; z[0] *= w; z[z > 1.4] = 0.0; return z
z = m.copy(); z[1:, ::2] -= w[:2]; z[M] *= 2; return z
z = m.copy(); y = z[:, 1]; y += 1; z[0, 1] = s; return y * z[:, 0]
z = np.zeros(6); z[B] = w; return z
z = np.zeros((3, 4)); z[I[:3], [0, 1, 2]] = w[:3]; z[..., 3] = s; return z
m[1, 2] + m[-1, -1] + m[1][2] + m[..., 0].sum() + m[None, :, 1].sum()
m[[0, 2], [1, 3]].sum() + m[[0, 1]][:, [1, 2]].sum()
m[M] * 2
m[:, [True, False, True, False]] + m[np.array([0, 1, 2]), :2]
m[m > 1] * 2
"""

VERSIONS = """
np.trapz(u) + np.trapz(m, w, axis=1)
np.trapezoid(u) + np.trapezoid(m, w, axis=1)
np.asfarray(u) * 2
~np.cumproduct(u) + np.product(u)
np.in1d(m, [9.0, 2.0]) * s
np.msort(m)
np.row_stack([u, c])
np.alltrue(m > 0.5, axis=1) * m[:, 0] + np.sometrue(m > 1.5, axis=1)
np.round_(u, 1) + u
np.fastCopyAndTranspose(m)
np.unstack(m) + np.unstack(m, axis=1)
np.quantile(u, [0.3, 0.0, 1.0], weights=c, method="inverted_cdf") + 0 * np.unstack(m)[0][0]
np.quantile(m, 0.4, axis=1, weights=w, method="inverted_cdf", keepdims=True) + 0 * np.unstack(m)[0]
np.percentile(m, [40, 80], weights=C, method="inverted_cdf", axis=0) + 0 * np.unstack(m)[0]
np.quantile(m, 0.45, axis=(0, 1), weights=C, method="inverted_cdf") + 0 * np.unstack(m)[0]
y = np.unstack(m)[0]; return m.to_device("cpu") * 2 + m.__array_namespace__().sum(y)
z = q.copy(); y = z[0]; z @= q; return z + y + 0 * np.unstack(z)[0]
np.astype(u, float) * 2
np.unique_values(u) * 2
np.unique_all(u).values * np.unique_counts(u).values + np.unique_inverse(u).values[np.unique_all(u).inverse_indices]
np.cumulative_sum(u) + np.cumulative_sum(m, axis=1)[0, 0]
np.cumulative_sum(m, axis=1, include_initial=True)
~np.cumulative_prod(u) + np.cumulative_prod(m, axis=0)[0, 0]
~np.cumulative_prod(m, axis=0, include_initial=True)
~np.vecdot(m, C) + np.vecdot(m, w)
~np.vecdot(t, t, axis=1)
~np.matvec(t, w[:2])
~np.vecmat(w[:3], t)
np.matrix_transpose(t) + np.linalg.matrix_transpose(t)
np.permute_dims(t, (2, 0, 1)) + 0
np.concat([u, w]) * 2
np.pow(u, 2.5) + np.acos(u * 0.5) + np.asin(u * 0.5) + np.atan(u) + np.atan2(u, c)
np.asinh(u) + np.acosh(u + 1) + np.atanh(u * 0.5) + np.bitwise_invert(u > 1)
~np.linalg.vector_norm(m) + np.linalg.vector_norm(m, axis=1, ord=3) + np.linalg.vector_norm(t, axis=(0, 1))[0]
~np.linalg.vector_norm(t, axis=(0, 2), keepdims=True)
~np.linalg.matrix_norm(t) + np.linalg.matrix_norm(t, ord=1)
np.linalg.outer(u, w) + np.linalg.matmul(u[:, None], w[None])
np.linalg.tensordot(m, m) + np.linalg.trace(t[:, :2]) + np.linalg.trace(q, offset=1)
np.linalg.cross(q, m[:, :3]) + np.linalg.cross(q[0], q[1])
~np.linalg.vecdot(m, C)
np.linalg.diagonal(t[:, :2]) * 2 + np.linalg.diagonal(t, offset=1)
~np.var(m, axis=1, mean=np.mean(m, axis=1, keepdims=True), correction=1) if hasattr(np, "vecdot") else np.var(m)
"""

FORMS = """
~np.poly1d([1, s])(r) + np.poly1d((s, r), True)(2.0) * np.poly1d([[s], [r]][0] + [u[0]]).deriv()(s) + np.poly1d(u)(s)
~(np.poly1d([s, 1]) * np.poly1d([1.0, r])).coeffs, np.poly1d([s, 1.0, r]).integ()(2.0) + np.poly1d([s, r]).order
np.zeros_like(s) + np.full_like(s, r) * np.ones_like(r) + 0 * np.empty_like(s)
out = np.zeros_like(1j * s); np.multiply(1j * s, r, out=out); out.imag
np.copy([s, r]) + np.zeros_like([s, 1.0]) + np.ones_like((s, 2.0)) * r + np.full_like([s, 1.0], r)
np.meshgrid([s, r], w), np.broadcast_arrays([s, 1.0], u[:1]), np.meshgrid([s, 1.0], [2.0, r], indexing="ij")
np.stack([s, r, 1.0]) + np.array([1.0, s, r]) + np.hstack([s, r, 2.0]) + np.concatenate([[s], [r], [2.0]])
np.reshape(u, (2, 3), "F") + np.reshape(u, [3, 2]).T + u.reshape(2, -1) + u.reshape((3, 2), order="F").T
~np.allclose(s, s) * s + np.isclose(u, u[0]).sum() + np.array_equal([s], [s])
np.bincount([0, 1, 1, 3], [s, r, 1.0, 2.0]) * s
np.apply_along_axis(np.sort, 1, m) + np.apply_along_axis(lambda v: [v[0], v[1], s, 1.0], 1, m)
z = np.ones(6); z *= u; z[::2] += s; z[[0, 1]] = [s, r]; return z
np.sum(u, 0) + np.sum(m, (1,), None, None, True)
~m.sum(where=M, initial=1.0) + m.max(axis=1, initial=0.5)[0] + m.mean(axis=0, where=M)[0] + m.std(axis=1, where=M)[0]
np.vstack([s, r]) + np.vstack((u[:1], c[:1])) + np.column_stack([s, r]).T
np.where(s > 0, u, c) + np.where(True, s, r) + np.where(s > r, s, r)
~np.matmul([[1.0, 2.0, 3.0]], m) + [1.0, 2.0, 3.0] @ m
~np.einsum("bi,bj->bij", m, m).sum(0) + np.einsum("ab,cb,db->acd", m[:2], m, m).sum()
z = m.copy(); z -= z.mean(axis=0); z /= z.std(axis=0); return z
(np.r_[1.0, u, s, 2:4] * s)[:4] + np.c_[u, c].sum()
np.r_["0,2", u, c] * s
np.r_[0:1:5j, s] + np.r_[-1, u[:5]]
~np.average(t, axis=(0, 1), weights=np.abs(t)) + np.average(m, axis=None)
np.delete(u, [True, False, False, True, False, False]) * 2
~np.cov([s, 1.0, r]) + np.corrcoef(np.array([u, c]))
~np.convolve([1.0, s], [r, 2.0]) + np.correlate([1.0, s, 1.0], [r, 2.0, 1.0], "same")
np.choose([[0, 1], [1, 0]], [s, r]) + np.choose(np.array([[0, 1], [1, 0]]), [m[:2, :2], q[:2, :2]])
z = m.copy(); z.sort(1); z[:, 0] = 0; return z
z = m.copy(); np.maximum(z, 1.0, z); np.add(z, z, z); return z
"""

WRITES = """
z = u.copy(); v = z[::2]; v *= 2; np.add(v, 1, out=v); z[1::2] = v; return z
~z = m.copy(); np.add.at(z, (np.array([0, 0, 1]), np.array([1, 1, 2])), np.array([s, r, 1.0])); return z
z = m.copy(); np.subtract.at(z, np.s_[0, :2], s); return z
z = m.copy(); np.maximum.at(z, (slice(None), 1), 1.0); return z
z = u.copy(); np.minimum(z, 1.0, out=z, where=z > 1.2); return z
z = m.copy(); np.sqrt(z[1], out=z[1]); np.exp(z[:, 0], z[:, 0]); return z
z = m.copy(); np.copyto(z[:, 1:3], s); np.copyto(z, w, where=np.array([True, False, True, False])); return z
z = m.copy(); z[1, :] = z[0, :] + z[2, :]; z[:, -1] /= z[:, 0]; return z
z = m.copy(); z[[0, 2]] *= s; z[:, [1, 3]] += w[:2]; return z
z = m.copy(); z[z > m.mean()] = m.mean(); return z
z = m.copy(); z[np.triu_indices(3)] = 0.0; z[np.diag_indices(3)] = w[:3]; return z
z = m.copy(); z.T[...] = z.T[::-1]; return z
z = m.copy(); z[::-1, ::-1][0] = s; return z
z = m.copy().T; z[0] = w[:3]; return z.reshape(-1) * 2
z = np.asfortranarray(m).copy("F"); z[:, 0] = s; return z.ravel(order="K") * 2
z = m.copy(); y = z.view(); y[0] = s; return z
z = m.copy(); y = z.reshape(4, 3); y[1] = 0; y.shape = (12,); y[0] = s; return z
z = m.copy(); y = np.swapaxes(z, 0, 1); y += w[:, None]; return z
z = m.copy(); a, b = np.split(z, 2, axis=1); a[...] = b; b *= s; return z
z = m.copy(); r1, r2, r3 = z; r1 += r2; r3[...] = s; return z
z = m.copy(); d = np.diagonal(z); return d * 2 + np.trace(z)
z = m.copy(); f = z.flat; return sum(f) + z.flat[5] * s
z = m.copy(); np.fill_diagonal(z[:, 1:], [s, r, 1.0]); return z
z = u.copy(); z.put([0, -1], [s]); np.put(z, 2, r); return z
z = u.copy(); np.putmask(z, z > 1, [s, r]); np.place(z, z < 0.7, [1.0]); return z
z = u.copy(); z.resize((3, 2)); z[0] = s; return z
z = u.copy(); z.partition([1, 3]); return z[[1, 3]]
z = u.copy(); z[:3].sort(); z[::-1][:2].sort(); return z
"""

NO_AXES = """
~np.convolve(u, s) + np.convolve(s, u) + np.convolve(s, r) + np.convolve(u[0], u)
np.fft.fftn(s).real + np.fft.ifftn(u[0]).real + np.fft.fftn(m, axes=()).real[0, 1]
np.argsort(s) * u[:1] + np.argpartition(s, 0) * s + np.argsort(u[1], axis=0) + np.argsort(s, None) * s
np.lexsort(u) * s + np.lexsort([s, r]) + np.lexsort([u[:1], c[:1]])
np.polyval(u, [1, 0, 2]) + np.polyval(u, (1, s, r)) + np.polyval([s, r], [[1, 2, 0], [0, s, 1]])[1]
~np.linalg.norm(u, [3]) + np.linalg.norm(m, [3.0], axis=1)
np.cumsum(s, axis=0) + np.cumprod(s, axis=-1) + u[0].cumsum(0) + np.cumsum(u[1]) * np.cumprod(u[2])
np.take(s, [0, 0], axis=0), np.take(s, [0], axis=-1, mode="clip")
np.repeat(s, 2, axis=0), np.compress([True], s, axis=0)
np.zeros(np.argwhere(s).shape[1] + 1) + s, np.argmin(s, axis=-1) * s, np.argmax(s, axis=0) * s + np.argmax(s) * s
np.diff(s, 0) + np.pad(s, 1) + np.pad(u[0], 2, "edge") + np.linalg.multi_dot([s, r])
np.diagflat(u[:1].reshape(())), np.insert(u[:1].reshape(()), 0, r), np.delete(u[:1].reshape(()), []) + 1
"""

NO_ELEMENTS = """
s * np.all(u[:0]) + np.any(u[:0] > 1) + (m[:0] > 1).any(axis=0).sum() + (m[:, :0] > 1).all(axis=1, keepdims=True)
np.max(u[:0], initial=s) + np.min(m[:, :0], axis=1, initial=2.0) * s + np.max(m[:0], axis=0, initial=r)[0]
np.insert(u[:0], 0, s), np.insert(m[:0], 0, s, axis=0), np.insert(m[:, :0], [0, 0], r, axis=1)
np.histogram(u[:0], 3)[1] * s + np.histogram(u[:0], 3)[0][0] * r
np.median(m[:0], axis=-1).shape[0] + np.percentile(m[:0], [10, 20], axis=-1).shape[1] + s
np.pad(u[:0], 2, constant_values=s), np.pad(m[:, :0], 1), np.pad(m[:, :0], ((0, 0), (2, 1)))
(np.vander(u[:0]).size + np.vander(u, 0).size + s) * np.poly(u[:0])
s * bool(u[:0].size) + np.sum(u[:0]) + np.prod(u[:0]) * r + (m[:0] @ w).size + np.dot(u[:0], u[:0])
np.concatenate([u[:0], u]), np.sort(u[:0]).size + s, np.cumsum(m[:0], 0).size + np.argsort(u[:0]).size * s + r
"""

TRUTHS = """
np.left_shift(u > 1, 2) * u + np.right_shift(3, u > 1) + np.gcd(u > 1, 4) * u + np.lcm(3, u > 1) + ((u > 1) & 3) * u
np.logical_xor.reduce(m > 1.1, None) * m + np.logical_xor.reduce(m > 1.1, (1, 0), keepdims=True)
np.bitwise_xor.reduce(m > 1, 1, where=m > 0.9) * m[:, 0] + np.logical_xor.reduce(m[:, :0] > 1, (0, 1), initial=True)
np.logical_or.reduce(m > 9, 1, initial=True) * m[:, 0] + np.add.reduce(m, 1, initial=True)
np.logaddexp(np.logaddexp.reduce(u[:0]), u) + np.exp(np.logaddexp2.reduce(m[:0], 0)) @ m.T[:, 0]
np.logaddexp.reduce(m[:, :0], axis=(0, 1), keepdims=True, initial=u[0]) * m
"""

SECTIONS = {"ufuncs": UFUNCS, "ufunc forms": UFUNC_FORMS, "reductions": REDUCTIONS, "products": PRODUCTS,
            "movement": MOVEMENT, "decisions": DECISIONS, "methods": METHODS, "python": PYTHON,
            "of one version": VERSIONS, "other ways to say it": FORMS, "writes": WRITES, "no axes": NO_AXES,
            "no elements": NO_ELEMENTS, **linalg_cases.SECTIONS, **complex_cases.SECTIONS, "truths": TRUTHS}
_ALL = [line for text in SECTIONS.values() for line in text.splitlines() if line]


def named(line: str) -> set[str]:
    """The functions of NumPy's that a case names, without "np."."""
    return {name.removesuffix(".") for name in re.findall(r"\bnp\.((?:linalg\.|fft\.|emath\.)?\w+)", line)}


def _there(name: str) -> bool:
    found = np
    for part in name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


CASES = [line for line in _ALL if all(map(_there, named(line)))]  # those of the NumPy that is installed
