"""Densities and distribution functions of scipy.stats, in their points, locations, scales and shapes.

SciPy's public methods check, mask and gather; these do the same on traced values and call what a distribution defines
itself, `_logpdf(z, *shapes)` and its like, for z = (x - loc)/scale.  That is SciPy's code (or a user's, of a subclass) and
is traced like any other.  Which points lie within the support is decided: the formula is asked there only.
"""  # noqa: E501 (a formula)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...ops.foreign import sc
from ..array import TracedArray, as_plain, constant, is_traced, ndim_of, plain, shape_of
from ..complexes import is_complex
from ..decisions import decide
from ..reductions import traced_array
from ..ufuncs import recorder_of
from . import special
from .replacing import Rule, around, parts_apart

Fill = tuple[float, float]  # the value below the support, and above it


def _operand(x: Any) -> Any:
    """An argument as traced value, or array, or number."""
    if is_complex(x):
        recorder_of((x,)).unsupported("scipy.stats of complex numbers", "these distributions are of real ones")
    return x if is_traced(x) or type(x) is float else np.asarray(x, dtype=float)[()]


def _is(x: Any, value: float) -> bool:
    return not is_traced(x) and np.ndim(x) == 0 and x == value


def _continuous(method: str, fill: Fill, density: Callable[[Any, Any], Any] | None = None) -> Rule:
    """A function of x.  density: what scale makes of its value; else it is a probability, 0 and 1 at the support's
    ends."""

    def rule(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        shapes, loc, scale = self._parse_args(*args, **kwargs)
        x, loc, scale, *shapes = map(_operand, (x, loc, scale, *shapes))
        z = x if _is(loc, 0.0) else x - loc
        z = z if _is(scale, 1.0) else z / scale
        valid = _valid(self, shapes) if _is(scale, 1.0) else np.logical_and(_valid(self, shapes), np.greater(scale, 0))
        compare = (np.less, np.greater) if density is not None else (np.less_equal, np.greater_equal)

        def formula(z: Any, scale: Any, *shapes: Any) -> Any:
            y = getattr(self, method)(z, *shapes)
            return y if density is None or _is(scale, 1.0) else density(y, scale)

        return _masked(self, formula, z, (scale, *shapes), shapes, valid, compare, fill)

    return rule


def _inverse(method: str) -> Rule:
    """A quantile function of q."""

    def rule(self: Any, q: Any, *args: Any, **kwargs: Any) -> Any:
        shapes, loc, scale = self._parse_args(*args, **kwargs)
        q, loc, scale, *shapes = map(_operand, (q, loc, scale, *shapes))
        rec = recorder_of((q, loc, scale, *shapes))
        inside = np.logical_and(np.logical_and(_valid(self, shapes), np.greater(scale, 0)),
                                np.logical_and(np.greater(q, 0), np.less(q, 1)))
        if not np.all(decide(inside)):
            rec.unsupported(f"scipy.stats.{self.name}.{method[1:]} at probabilities that are not between 0 and 1",
                            "at the ends of the support it has no derivative; keep to those between")
        y = getattr(self, method)(q, *shapes)
        y = y if _is(scale, 1.0) else y * scale
        return y if _is(loc, 0.0) else y + loc

    return rule


def _discrete(method: str, fill: Fill, mass: bool) -> Rule:
    """A function of k, which counts.  mass: it is of the probability of k itself."""

    def rule(self: Any, k: Any, *args: Any, **kwargs: Any) -> Any:
        shapes, loc, _ = self._parse_args(*args, **kwargs)
        k, loc, *shapes = map(_operand, (k, loc, *shapes))
        name = f"scipy.stats.{self.name}.{method[1:]}"
        k = _counted(k, f"{name} of a count") - _counted(loc, f"{name} with a location")
        for i, (shape, info) in enumerate(zip(shapes, self._shape_info())):
            between = [_value(x) + 0.5 * (i == j) for j, x in enumerate(shapes)]
            if info.integrality and not np.any(self._argcheck(*between)):
                _counted(shape, f"{name} with a number {info.name}")
        if mass:
            whole = np.asarray(self._nonzero(k, *map(_value, shapes)))
            if not np.all(whole):
                k = np.where(whole, k, -np.inf)  # below the support, where the mass is none as well
        else:
            k = np.floor(k)
        compare = (np.less, np.greater) if mass else (np.less, np.greater_equal)
        return _masked(self, getattr(self, method), k, shapes, shapes, _valid(self, shapes), compare, fill)

    return rule


def _of_parameters(self: Any, what: str, shapes: Any, loc: Any, scale: Any) -> Any:
    """(loc, scale, shapes), which are those of a distribution: that is decided."""
    loc, scale, *shapes = map(_operand, (loc, scale, *shapes))
    if not np.all(decide(np.logical_and(_valid(self, shapes), np.greater(scale, 0)))):
        recorder_of((loc, scale, *shapes)).unsupported(
            f"scipy.stats.{self.name}.{what} of parameters that are none of it", "NaN has no derivative")
    return loc, scale, shapes


def moments(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Mean, variance, skewness and kurtosis: loc + scale mu, scale^2 mu2, g1, g2 of what the distribution itself says
    of its shapes, or of its moments about 0 where it says nothing."""
    shapes, loc, scale, wanted = self._parse_args_stats(*args, **kwargs)
    loc, scale, shapes = _of_parameters(self, "stats", shapes, loc, scale)
    mu, mu2, g1, g2 = self._stats(*shapes, **({"moments": wanted} if self._stats_has_moments else {}))

    def about_zero(order: int) -> Any:
        return self._munp(order, *shapes)

    unknown = {which for which, x in zip("mvsk", (mu, mu2, g1, g2)) if x is None} & set(wanted)
    if mu is None and unknown:
        mu = about_zero(1)
    if mu2 is None and (unknown - {"m"} or set(wanted) & set("sk")):
        mu2 = about_zero(2) - mu * mu
    third = about_zero(3) - (mu * mu + 3.0 * mu2) * mu if unknown & set("sk") else None
    if "s" in unknown:
        g1 = third / mu2**1.5
    if "k" in unknown:
        g2 = (about_zero(4) - ((mu * mu + 6.0 * mu2) * mu + 4.0 * third) * mu) / mu2**2.0 - 3.0
    results = {"m": lambda: loc + scale * mu, "v": lambda: mu2 * scale * scale, "s": lambda: g1, "k": lambda: g2}
    shape = np.broadcast_shapes(*map(shape_of, (loc, scale, *shapes)))
    found = [_spread(results[which](), shape) for which in "mvsk" if which in wanted]
    return found[0] if len(found) == 1 else tuple(found)


def _spread(x: Any, shape: tuple[int, ...]) -> Any:
    return x + np.zeros(shape) if shape_of(x) != shape else x


def entropy(self: Any, *args: Any, **kwargs: Any) -> Any:
    """What the distribution itself says of its shapes, or a formula here where SciPy integrates, + log scale."""
    shapes, loc, scale = self._parse_args(*args, **kwargs)
    loc, scale, shapes = _of_parameters(self, "entropy", shapes, loc, scale)
    own = _ENTROPIES.get(type(self).__name__) if type(self).__module__.startswith("scipy.stats.") else None
    own = own or (np.vectorize(self._entropy) if any(map(shape_of, shapes)) else self._entropy)
    shape = np.broadcast_shapes(*map(shape_of, (loc, scale, *shapes)))
    return _spread(own(*shapes) + np.log(scale), shape)


@around
def discrete_entropy(original: Callable[..., Any], self: Any, *shapes: Any) -> Any:
    """- sum p log p from the median outwards; how far SciPy adds is decided."""
    if not any(map(is_traced, shapes)) or hasattr(self, "pk"):
        return original(self, *shapes)
    from scipy.stats._distn_infrastructure import _expect

    plain_shapes = list(map(_value, shapes))
    low, high = self._get_support(*plain_shapes)
    return _expect(lambda k: sc.entr(self.pmf(k, *shapes)), low, high, self.ppf(0.5, *plain_shapes), self.inc)


def _counted(x: Any, what: str) -> Any:
    if is_traced(x) and not constant(x):
        x.rec.unsupported(f"{what} that is traced", "it is a whole number, and must not depend on the inputs")
    return np.asarray(as_plain(x), dtype=float)


def _value(x: Any) -> Any:
    """The plain value, for a question whose answer the derivative does not depend on."""
    return x.nd if type(x) is TracedArray else x.v if is_traced(x) else x


def _valid(self: Any, shapes: list[Any]) -> Any:
    """Whether the shape parameters are such that the distribution is one."""
    return self._argcheck(*shapes) if shapes else True


def positive(self: Any, *shapes: Any) -> Any:
    """What `rv_generic._argcheck` checks where a distribution says nothing else."""
    result: Any = True
    for shape in shapes:
        result = np.logical_and(result, np.greater(shape, 0))
    return result


def _masked(self: Any, formula: Callable[..., Any], z: Any, operands: Any, shapes: list[Any], valid: Any,
            compare: tuple[Any, Any], fill: Fill) -> Any:
    """formula(z, *operands) within the support, `fill` on either side of it, NaN where the distribution is none."""
    outside = [beyond(z, end) if np.any(np.isfinite(_value(end))) else False
               for beyond, end in zip(compare, self._get_support(*shapes))]
    below, above = (np.asarray(decide(part)) for part in outside)
    valid = np.asarray(decide(valid)).astype(bool)
    within = valid & ~(below | above)
    if within.all():
        return formula(z, *operands)
    rec = recorder_of((z, *operands))
    shape = np.broadcast_shapes(within.shape, shape_of(z), *map(shape_of, operands))
    within, below, above, valid = (np.broadcast_to(x, shape) for x in (within, below, above, valid))
    result = rec.array_of(np.where(valid, np.where(below, fill[0], fill[1]), np.nan))
    result = result + 0.0 * np.isnan(z) if is_traced(z) else np.where(np.isnan(z), np.nan, result)
    if within.any():
        chosen = [x if np.ndim(_value(x)) == 0 else np.broadcast_to(x, shape)[within] for x in (z, *operands)]
        result[within] = formula(*chosen)
    return result if shape or type(result) is not TracedArray else result[()]


@parts_apart
def lazywhere(cond: Any, arrays: Any, f: Any, fillvalue: Any = None, f2: Any = None) -> Any:
    """SciPy's choice between two formulas, each of which is asked where it is wanted only."""
    cond = np.asarray(decide(cond))
    if cond.all():
        return f(*arrays)
    if not cond.any() and f2 is not None:
        return f2(*arrays)
    shape = np.broadcast_shapes(cond.shape, *map(shape_of, arrays))
    cond, rec = np.broadcast_to(cond, shape), recorder_of(arrays)
    arrays = [np.broadcast_to(x, shape) for x in arrays]
    result = rec.array_of(np.full(shape, 0.0 if fillvalue is None else fillvalue))
    for mask, function in ((cond, f), (~cond, f2)):
        if function is not None and mask.any():
            result[mask] = function(*(x[mask] for x in arrays))
    return result


def dirichlet(log: bool) -> Rule:
    """logpdf = sum (alpha - 1) log x - sum loggamma(alpha) + loggamma(sum alpha), along the first axis of x."""
    from_log = (lambda y: y) if log else np.exp

    def rule(self: Any, x: Any, alpha: Any) -> Any:
        x, alpha = _operand(x), _operand(alpha)
        if shape_of(alpha) != shape_of(x)[:1]:
            x = np.concatenate([x, 1.0 - np.sum(x, 0, keepdims=True)])  # SciPy's short form leaves the last one out
        if shape_of(alpha) != shape_of(x)[:1] or len(shape_of(alpha)) != 1:
            raise ValueError("Vector 'x' must have either the same number of entries as, or one entry fewer than, "
                             f"parameter vector 'a', but alpha.shape = {shape_of(alpha)} and x.shape = {shape_of(x)}.")
        fine = (np.all(decide(np.greater(alpha, 0))), np.all(decide(np.greater_equal(x, 0))),
                np.all(decide(np.less(np.abs(np.sum(x, 0) - 1.0), 10e-10))))
        for holds, what in zip(fine, ("All parameters must be greater than 0", "Each entry in 'x' must be greater than "
                                      "or equal to zero.", "The input vector 'x' must lie within the normal simplex.")):
            if not holds:
                raise ValueError(what)
        powers = np.sum(np.transpose(sc.xlogy(alpha - 1.0, np.transpose(x))), 0)
        return from_log(powers - np.sum(sc.gammaln(alpha)) + sc.gammaln(np.sum(alpha)))

    return rule


class Covariance:
    """A traced covariance matrix as SciPy's densities ask for it: C = L L^T."""

    _allow_singular = False

    def __init__(self, matrix: Any) -> None:
        self.covariance, self.rank = matrix, np.int64(shape_of(matrix)[-1])
        self.factor = np.linalg.cholesky(matrix)
        log_pdet = 2.0 * np.sum(np.log(np.diagonal(self.factor)))
        self.log_pdet = traced_array(log_pdet) if is_traced(log_pdet) else log_pdet

    def whiten(self, x: Any) -> Any:
        """L^-1 x for every row x."""
        rows = np.reshape(x, (-1, int(self.rank)))
        return np.reshape(np.transpose(np.linalg.solve(self.factor, np.transpose(rows))), shape_of(x))


def normal_parameters(self: Any, mean: Any, cov: Any, allow_singular: bool = True) -> Any:
    """(dimension, mean, covariance) of a multivariate normal distribution, one of the two traced."""
    for x in (mean, cov):
        if is_complex(x):
            _operand(x)
    if isinstance(cov, Covariance) or hasattr(cov, "log_pdet"):
        return self._process_parameters_Covariance(mean, cov)
    if not is_traced(cov):
        dim, _, covariance = self._process_parameters(np.zeros(np.shape(mean)), cov, allow_singular)
        return dim, np.reshape(mean, -1), covariance
    dim, mean, cov = self._process_parameters_psd(None, mean, cov)
    return dim, mean, Covariance(cov)


def t_density(self: Any, x: Any, loc: Any = None, shape: Any = 1, df: Any = 1) -> Any:
    """log of the density of a multivariate t distribution, by Cholesky's factor of its shape."""
    dim, loc, shape, df = self._process_parameters(loc, shape, df)
    matrix = Covariance(shape)
    upper = np.swapaxes(np.linalg.inv(matrix.factor), 0, 1)
    return self._logpdf(self._process_quantiles(x, dim), loc, upper, matrix.log_pdet, df, dim, matrix.rank)


def gauss_mass(a: Any, b: Any) -> Any:
    """log of the normal distribution's mass between a and b; on which side of 0 they lie is decided."""
    shape = np.broadcast_shapes(shape_of(a), shape_of(b))
    a, b = np.broadcast_arrays(np.atleast_1d(a), np.atleast_1d(b))
    left, right = (np.asarray(decide(part)) for part in (np.less_equal(b, 0.0), np.greater(a, 0.0)))
    turned = np.where(right, -b, a), np.where(right, -a, b)
    tail = left | right
    low, high = (np.where(tail, x, end) for x, end in zip(turned, (-2.0, -1.0)))
    log_high = sc.log_ndtr(high)
    in_tail = log_high + np.log(-np.expm1(sc.log_ndtr(low) - log_high))
    across = np.log1p(-sc.ndtr(np.where(tail, -1.0, a)) - sc.ndtr(np.where(tail, -1.0, -b)))
    return np.reshape(np.where(tail, in_tail, across), shape)


def iqr(x: Any, axis: Any = None, rng: Any = (25, 75), scale: Any = 1.0, nan_policy: str = "propagate",
        interpolation: str = "linear", keepdims: bool = False) -> Any:
    """The difference of two percentiles."""
    if nan_policy != "propagate" or isinstance(scale, str) and scale.lower() not in ("normal", "raw"):
        recorder_of((x,)).unsupported(f"scipy.stats.iqr with nan_policy={nan_policy!r} and scale={scale!r}",
                                      "use np.percentile or np.nanpercentile")
    if isinstance(scale, str):
        scale = 1.0 if scale.lower() == "raw" else 2.0 * float(sc.ndtri(0.75))
    low, high = (np.percentile(x, q, axis, method=interpolation, keepdims=keepdims) for q in sorted(rng))
    return (high - low) / scale


def absolute_deviation(x: Any, axis: Any = 0, center: Any = np.median, scale: Any = 1.0,
                       nan_policy: str = "propagate") -> Any:
    """The median distance from the median."""
    if nan_policy != "propagate" or isinstance(scale, str) and scale.lower() != "normal":
        recorder_of((x,)).unsupported(f"scipy.stats.median_abs_deviation with nan_policy={nan_policy!r} and "
                                      f"scale={scale!r}", "use np.median and np.nanmedian")
    middle = center(x, axis=axis)
    middle = middle if axis is None else np.expand_dims(middle, axis)
    return np.median(np.abs(x - middle), axis=axis) / (float(sc.ndtri(0.75)) if isinstance(scale, str) else scale)


def _beta(name: str) -> Rule:
    """A beta distribution's functions by those of scipy.special, for SciPy's in compiled code."""
    formulas: dict[str, Callable[..., Any]] = {
        "pdf": lambda x, a, b: np.exp(sc.xlog1py(b - 1.0, -x) + sc.xlogy(a - 1.0, x) - sc.betaln(a, b)),
        "cdf": lambda x, a, b: sc.betainc(a, b, x),
        "sf": lambda x, a, b: sc.betainc(b, a, 1.0 - x),
        "ppf": lambda q, a, b: sc.betaincinv(a, b, q),
        "isf": lambda q, a, b: 1.0 - sc.betaincinv(b, a, q),
    }
    formula = formulas[name]
    return lambda self, x, a, b: formula(x, a, b)


def _beta_moments(self: Any, a: Any, b: Any, moments: str = "") -> Any:
    """All four: `moments` are asked for of one frozen meanwhile, which takes this for SciPy's own by its signature."""
    n = a + b
    g2 = 6.0 * ((a - b) ** 2 * (n + 1.0) - a * b * (n + 2.0)) / (a * b * (n + 2.0) * (n + 3.0))
    return (a / n, a * b / (n * n * (n + 1.0)), 2.0 * (b - a) * np.sqrt(n + 1.0) / ((n + 2.0) * np.sqrt(a * b)), g2)


_ENTROPIES: dict[str, Callable[..., Any]] = {
    "beta_gen": lambda a, b: sc.betaln(a, b) - (a - 1.0) * sc.psi(a) - (b - 1.0) * sc.psi(b) + (
        a + b - 2.0) * sc.psi(a + b),
    "chi2_gen": lambda df: 0.5 * df + np.log(2.0) + sc.gammaln(0.5 * df) + (1.0 - 0.5 * df) * sc.psi(0.5 * df),
}


def _binom_moments(self: Any, n: Any, p: Any, moments: str = "mv") -> Any:
    variance = n * p * (1.0 - p)
    return n * p, variance, (1.0 - 2.0 * p) / np.sqrt(variance), 1.0 / variance - 6.0 / n


def _nbinom_moments(self: Any, n: Any, p: Any, moments: str = "") -> Any:
    q = 1.0 - p
    return n * q / p, n * q / (p * p), (1.0 + q) / np.sqrt(n * q), 6.0 / n + p * p / (n * q)


def multinomial_parameters(self: Any, n: Any, p: Any, eps: float = 1e-15) -> Any:
    """(n, p, whether they are none): the last probability is what the others leave, unless it is that already."""
    n = np.array(_counted(n, "scipy.stats.multinomial of a number"), dtype=int)
    p = traced_array(recorder_of((p,)).array_of(p))
    last = 1.0 - np.sum(p[..., :-1], axis=-1, keepdims=True)
    last = np.where(decide(np.greater(np.abs(last), eps)), last, p[..., -1:])
    p = np.concatenate([p[..., :-1], last], axis=-1)
    wrong = decide(np.any(np.logical_or(np.less(p, 0), np.greater(p, 1)), axis=-1))
    return n, p, np.asarray(wrong | (n <= 0))


def _nbinom_logcdf(self: Any, k: Any, n: Any, p: Any) -> Any:
    k = np.floor(k)
    return lazywhere(self._cdf(k, n, p) > 0.5, (k, n, p),
                     lambda k, n, p: np.log1p(-sc.betainc(k + 1.0, n, 1.0 - p)),
                     f2=lambda k, n, p: np.log(sc.betainc(n, k + 1.0, p)))


def _refusing(name: str) -> Rule:
    """SciPy's loops in C over elements as Python objects, which crash when an element refuses."""

    def rule(*args: Any, **kwargs: Any) -> Any:
        recorder_of((*args, *kwargs.values())).unsupported(
            f"the distribution of Kolmogorov and Smirnov ({name})", "it has no derivative rule here")

    return rule


def _by_log(self: Any, k: Any, *shapes: Any) -> Any:
    return np.exp(self._logpmf(k, *shapes))


def _kernels(self: Any, points: Any) -> Any:
    """(points, data): minus the energy of each kernel of a gaussian_kde at each point, its normalization included."""
    points = np.atleast_2d(recorder_of((points, self.dataset, self.weights)).array_of(points))
    if points.shape[0] != self.d and points.shape == (1, self.d):
        points = np.reshape(points, (self.d, 1))
    if points.shape[0] != self.d:
        raise ValueError(f"points have dimension {points.shape[0]}, dataset has dimension {self.d}")
    factor = np.linalg.cholesky(self.covariance)
    white = np.linalg.inv(factor)
    apart = np.matmul(white, points)[:, :, None] - np.matmul(white, self.dataset)[:, None, :]
    norm = np.sum(np.log(np.diagonal(factor))) + 0.5 * self.d * np.log(2 * np.pi)
    return -0.5 * np.sum(np.square(apart), axis=0) - norm


@around
def kernels(original: Callable[..., Any], self: Any, dataset: Any, bw_method: Any = None, weights: Any = None) -> None:
    """gaussian_kde of traced data or weights: its bandwidth and covariance are SciPy's formulas of them."""
    if not is_traced(dataset) and not is_traced(weights):
        return original(self, dataset, bw_method, weights)
    self.dataset = np.atleast_2d(dataset)
    self.d, self.n = self.dataset.shape
    if not self.dataset.size > 1:
        raise ValueError("`dataset` input should have multiple elements.")
    if weights is not None:
        if ndim_of(weights) != 1 or len(weights) != self.n:
            raise ValueError("`weights` input should be one-dimensional and of length n")
        self._weights = weights / np.sum(weights)
        self._neff = 1.0 / np.sum(np.square(self._weights))
    return self.set_bandwidth(bw_method=bw_method)


def _density(of_kernels: Callable[..., Any]) -> Rule:
    @around
    def rule(original: Callable[..., Any], self: Any, x: Any) -> Any:
        if not any(map(is_traced, (x, self.dataset, self.weights))):
            return original(self, x)
        return of_kernels(_kernels(self, x), self.weights)

    return rule


@around
def ranks(original: Callable[..., Any], a: Any, *args: Any, **kwargs: Any) -> Any:
    """scipy.stats.rankdata: whole numbers and halves, which stay while the order does."""
    if is_traced(a):
        axis = kwargs.get("axis", args[1] if len(args) > 1 else None)
        if shape_of(a):
            np.argsort(a, axis=axis)  # is guarded
        a = plain(a)
    return original(a, *args, **kwargs)


_OVER, _FROM_LOG = (lambda y, scale: y / scale), (lambda y, scale: y - np.log(scale))
_NONE = (-np.inf, -np.inf)
_BETA, _BINOM, _NBINOM = (f"scipy.stats.{room}:{name}_gen._" for room, name in (
    ("_continuous_distns", "beta"), ("_discrete_distns", "binom"), ("_discrete_distns", "nbinom")))

RULES: dict[str, Rule] = {
    "scipy.stats:rv_continuous.pdf": _continuous("_pdf", (0.0, 0.0), _OVER),
    "scipy.stats:rv_continuous.logpdf": _continuous("_logpdf", _NONE, _FROM_LOG),
    "scipy.stats:rv_continuous.cdf": _continuous("_cdf", (0.0, 1.0)),
    "scipy.stats:rv_continuous.logcdf": _continuous("_logcdf", (-np.inf, 0.0)),
    "scipy.stats:rv_continuous.sf": _continuous("_sf", (1.0, 0.0)),
    "scipy.stats:rv_continuous.logsf": _continuous("_logsf", (0.0, -np.inf)),
    "scipy.stats:rv_continuous.ppf": _inverse("_ppf"),
    "scipy.stats:rv_continuous.isf": _inverse("_isf"),
    "scipy.stats:rv_discrete.pmf": _discrete("_pmf", (0.0, 0.0), True),
    "scipy.stats:rv_discrete.logpmf": _discrete("_logpmf", _NONE, True),
    "scipy.stats:rv_discrete.cdf": _discrete("_cdf", (0.0, 1.0), False),
    "scipy.stats:rv_discrete.logcdf": _discrete("_logcdf", (-np.inf, 0.0), False),
    "scipy.stats:rv_discrete.sf": _discrete("_sf", (1.0, 0.0), False),
    "scipy.stats:rv_discrete.logsf": _discrete("_logsf", (0.0, -np.inf), False),
    "scipy.stats._distn_infrastructure:rv_generic._argcheck": positive,
    "scipy.stats._distn_infrastructure:rv_generic.stats": moments,
    "scipy.stats._distn_infrastructure:rv_generic.entropy": entropy,
    "scipy.stats._distn_infrastructure:rv_discrete._entropy": discrete_entropy,
    "scipy._lib._util:_lazywhere": lazywhere,
    **{_BETA + name: _beta(name) for name in ("pdf", "cdf", "sf", "ppf", "isf")},
    _BETA + "stats": _beta_moments,
    _BINOM + "stats": _binom_moments,
    _NBINOM + "stats": _nbinom_moments,
    _BINOM + "pmf": _by_log,
    _BINOM + "cdf": lambda self, k, n, p: sc.bdtr(np.floor(k), n, p),
    _BINOM + "sf": lambda self, k, n, p: sc.bdtrc(np.floor(k), n, p),
    _NBINOM + "pmf": _by_log,
    _NBINOM + "cdf": lambda self, k, n, p: sc.betainc(n, np.floor(k) + 1.0, p),
    _NBINOM + "sf": lambda self, k, n, p: sc.betainc(np.floor(k) + 1.0, n, 1.0 - p),
    _NBINOM + "logcdf": _nbinom_logcdf,
    **{f"scipy.stats._ksstats:{name}": _refusing(name) for name in ("kolmogn", "kolmognp", "kolmogni")},
    "scipy.stats._multivariate:multinomial_gen._process_parameters": multinomial_parameters,
    "scipy.stats._multivariate:multivariate_normal_gen._process_parameters": normal_parameters,
    "scipy.stats._multivariate:multivariate_t_gen.logpdf": t_density,
    "scipy.stats._continuous_distns:_log_gauss_mass": gauss_mass,
    "scipy.stats:iqr": iqr,
    "scipy.stats:median_abs_deviation": absolute_deviation,
    "scipy.stats:gaussian_kde.__init__": kernels,
    "scipy.stats:gaussian_kde.evaluate": _density(lambda y, weights: np.matmul(np.exp(y), weights)),
    "scipy.stats:gaussian_kde.logpdf": _density(lambda y, weights: special.logsumexp(y, axis=1, b=weights)),
    "scipy.stats:rankdata": ranks,
    "scipy.stats._multivariate:dirichlet_gen.logpdf": dirichlet(True),
    "scipy.stats._multivariate:dirichlet_gen.pdf": dirichlet(False),
}
