"""Covariances of complex variables, and reductions that leave out NaN: by those of real numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..array import ndim_of
from ..indexing import into
from ..ufuncs import recorder_of
from .array import complex_within


def variance(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The mean of |x - mean|^2: the variances of the parts together."""
    real, imaginary = (np.var(part, axis, dtype, None, *args, **kwargs) for part in (x.real, x.imag))
    return into(out, real + imaginary)


def deviation(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, **kwargs: Any) -> Any:
    return into(out, np.sqrt(variance(x, axis, dtype, None, *args, **kwargs)))


def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    """Of both parts; the sum of the weights is real."""
    keep = {} if keepdims is np._NoValue or not keepdims else {"keepdims": True}
    if complex_within([weights]):
        recorder_of([a, weights]).unsupported("numpy.average with complex weights", "write np.sum(w * z) / np.sum(w)")
    (real, of_all), (imaginary, _) = (np.average(part, axis, weights, True, **keep) for part in (a.real, a.imag))
    mean = real + 1j * imaginary
    return (mean, of_all + 0j) if returned else mean


def _variables(x: Any, rowvar: bool) -> Any:
    x = np.atleast_2d(x)
    return x.T if not rowvar and x.shape[0] != 1 else x


def covariance(m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None,
               fweights: Any = None, aweights: Any = None, *, dtype: Any = None) -> Any:
    """E (z - Ez) (z - Ez)^H, of z = a + ib: S_aa + S_bb + i (S_ba - S_ab)."""
    z = _variables(m, rowvar)
    if y is not None:
        z = np.concatenate([z, _variables(y, rowvar)])
    n = z.shape[0]
    s = np.cov(np.concatenate([z.real, z.imag]), None, True, bias, ddof, fweights, aweights)
    return np.squeeze(s[:n, :n] + s[n:, n:] + 1j * (s[n:, :n] - s[:n, n:]))


def correlation(x: Any, y: Any = None, rowvar: bool = True, bias: Any = None, ddof: Any = None, *, dtype: Any = None,
                ) -> Any:
    c = covariance(x, y, rowvar)
    if ndim_of(c) == 0:
        return c / c
    scale = np.sqrt(np.real(np.diagonal(c)))
    c = c / scale[:, None] / scale[None, :]
    return np.clip(c.real, -1.0, 1.0) + 1j * np.clip(c.imag, -1.0, 1.0)


# -- leaving out NaN, which is one where a part is


def _ignoring_nan(reduce: Callable[..., Any], neutral: float) -> Callable[..., Any]:
    return lambda x, axis=None, *args, **kwargs: reduce(np.where(np.isnan(x), neutral, x), axis, *args, **kwargs)


def nan_mean(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *,
             where: Any = True) -> Any:
    missing = np.isnan(x)
    present = np.logical_and(np.logical_not(missing), True if where is np._NoValue or where is None else where)
    keep = bool(keepdims) and keepdims is not np._NoValue
    return into(out, np.mean(np.where(missing, 0.0, x), axis, keepdims=keep, where=present))


def nan_variance(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: float = 0, keepdims: Any = False,
                 **other: Any) -> Any:
    missing = np.isnan(x)
    parts = (np.where(missing, np.nan, part) for part in (x.real, x.imag))
    real, imaginary = (np.nanvar(part, axis, None, None, ddof, keepdims, **other) for part in parts)
    return into(out, real + imaginary)


def nan_deviation(x: Any, axis: Any = None, dtype: Any = None, out: Any = None, *args: Any, **kwargs: Any) -> Any:
    return into(out, np.sqrt(nan_variance(x, axis, dtype, None, *args, **kwargs)))


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.average: average, np.var: variance, np.std: deviation, np.cov: covariance, np.corrcoef: correlation,
    np.nansum: _ignoring_nan(np.sum, 0.0), np.nanprod: _ignoring_nan(np.prod, 1.0),
    np.nancumsum: _ignoring_nan(np.cumsum, 0.0), np.nancumprod: _ignoring_nan(np.cumprod, 1.0),
    np.nanmean: nan_mean, np.nanvar: nan_variance, np.nanstd: nan_deviation,
}

__all__ = ["FUNCTIONS"]
