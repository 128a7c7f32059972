"""What distdiff does with each function of NumPy's, each method of arrays, and SciPy's functions that have rules: the
table that `distdiff coverage` prints.

It is read off the tables by which traced values are dispatched (the op table, the protocol's functions, the creation
functions that are substituted), for the NumPy that is installed.  Written down here is only what they can't say: why a
function is refused, which ones never see a number, whose results have no derivative, and the conventions at kinks.

| status | means |
|---|---|
| exact | traced, with its derivatives of any order |
| constant | traced, with derivative zero: steps, comparisons, shapes; a decision is guarded, and replay where it would be another traces again |
| refused | raises `UnsupportedOperationError` with its name, the user's line, and what to write instead |
| untouched | takes no numbers that could be traced |
"""  # noqa: E501 (a row of a table)

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from .ops import shapes, special, zeta
from .tracing import contract, creation, protocol, truths, ufuncs
from .tracing.array import TracedArray
from .tracing.callers import instead
from .tracing.complexes import COMPLEX_RESULTS
from .tracing.matrices.iterative import METHODS as KRYLOV
from .tracing.scipy import RULES

EXACT, CONSTANT, REFUSED, UNTOUCHED = "exact", "constant", "refused", "untouched"


class Entry(NamedTuple):
    """One function: its name without "numpy.", one of the four statuses, and what there is to say of it."""

    name: str
    status: str
    note: str = ""


_WHOLE = "a function of whole numbers; index and count with x.astype(int)"
_MACHINE = "says how floats are stored, which no real function does"
_OUTSIDE = "its array would leave the function, or its values come from outside"
_OBJECTS = "turns the values into objects of another kind"

REASONS: dict[str, str] = {name: reason for names, reason in {
    "packbits unpackbits ravel_multi_index unravel_index": _WHOLE,
    "save savez savez_compressed savetxt": _OUTSIDE,
    "isnat": "asks for dates",
    "ndarray.tobytes ndarray.tofile ndarray.tostring ndarray.dump ndarray.dumps": _OUTSIDE,
    "ndarray.byteswap ndarray.newbyteorder ndarray.getfield ndarray.setfield": _MACHINE,
    "asmatrix mat bmat": "matrices have rules of their own: * is @; use arrays",
}.items() for name in names.split()}

_UNTOUCHED = frozenset("""
    add_docstring add_newdoc add_newdoc_ufunc bartlett base_repr binary_repr blackman broadcast_shapes busday_count
    busday_offset byte_bounds compare_chararrays datetime_as_string datetime_data deprecate deprecate_with_doc
    diag_indices disp find_common_type format_float_positional format_float_scientific from_dlpack frombuffer fromfile
    fromfunction frompyfunc fromregex fromstring genfromtxt get_array_wrap get_include get_printoptions
    getbufsize geterr geterrcall geterrobj hamming hanning info is_busday isdtype isscalar issctype issubclass_
    issubdtype issubsctype iterable load loadtxt lookfor mask_indices maximum_sctype mintypecode nested_iters
    obj2sctype printoptions promote_types recfromcsv recfromtxt safe_eval sctype2char set_numeric_ops set_printoptions
    set_string_function setbufsize seterr seterrcall seterrobj show_config show_runtime source test tril_indices
    triu_indices typename who
    linalg.test fft.fftfreq fft.rfftfreq fft.test
""".split())

_CONSTANT = frozenset("""
    all allclose alltrue any argmax argmin argpartition argsort argwhere around array_equal array_equiv array_repr
    array_str array2string can_cast common_type count_nonzero diag_indices_from digitize einsum_path empty_like fix
    flatnonzero in1d iscomplex iscomplexobj isclose isfortran isin isneginf isposinf isreal
    isrealobj ix_ lexsort may_share_memory min_scalar_type nanargmax nanargmin ndim nonzero ones_like result_type round
    round_ searchsorted shape shares_memory size sometrue tril_indices_from triu_indices_from zeros_like
    arange eye identity indices tri zeros empty ones linalg.matrix_rank
""".split())

NOTES: dict[str, str] = {
    "absolute": "derivative 0 at 0, of complex numbers too",
    "maximum": "a tie goes to the first operand", "minimum": "a tie goes to the first operand",
    "fmax": "a tie goes to the first operand", "fmin": "a tie goes to the first operand",
    "max": "a tie goes to the first largest", "min": "a tie goes to the first smallest",
    "clip": "passes the derivative where x is at a bound",
    "sort": "stable; the order is guarded", "sort_complex": "the order is guarded",
    "median": "what lies on either side is guarded",
    "quantile": "what lies on either side is guarded; with weights, of no NaN",
    **{name: "the order is guarded"
       for name in "unique unique_all unique_counts unique_inverse unique_values".split()},
    "partition": "the order is guarded",
    "piecewise": "the conditions are decided",
    "histogram": "places are decided, weights are summed; bins by name refused",
    "choose": "the index is plain or a mask", "interp": "which piece is decided; at a knot, that of the right",
    "remainder": "derivative 1 also where it jumps", "fmod": "derivative 1 also where it jumps",
    "power": "0 ** b has derivative 0 in b", "hypot": "derivative 0 at (0, 0)",
    "heaviside": "derivative 0 in x, that of h where x is 0",
    "nextafter": "derivative 1, as of x", "spacing": "derivative 0",
    "frexp": "mantissa exact, exponent decided", "ldexp": "the exponent must be plain",
    "nan_to_num": "derivative 0 where it replaces", "where": "a choice at every point; with one argument a decision",
    "linalg.norm": "at 0 not differentiable",
    "linalg.eigh": "of the triangle that NumPy reads; no derivative of vectors where eigenvalues are equal; phases of "
                   "complex ones are LAPACK's, which keeps their first component real (of 'U' the last)",
    "linalg.eigvalsh": "where eigenvalues are equal, right for functions that are symmetric in them",
    "linalg.eig": "real eigenvalues; no derivative of vectors where they are equal",
    "linalg.eigvals": "real eigenvalues",
    "linalg.svd": "no result may depend on vectors that complete a basis, nor on those of equal singular values; "
                  "phases of complex ones are LAPACK's, which keeps the first components of V (of wide ones, U) real",
    "linalg.svdvals": "where singular values are equal, right for functions that are symmetric in them",
    "linalg.qr": "columns linearly independent; no result may depend on those that complete a basis",
    "linalg.pinv": "of full rank, or with singular values clear of the cutoff rcond",
    "linalg.lstsq": "as pinv; the rank is decided",
    "linalg.matrix_rank": "decided", "roots": "real roots",
    "linalg.det": "at singular matrices too", "linalg.slogdet": "the sign has derivative 0",
    "linalg.cholesky": "of the lower triangle, all that NumPy reads: the upper one has derivative 0",
    "histogram_bin_edges": "bins by name refused", "histogram2d": "as histogram",
    "histogramdd": "as histogram", "cov": "fweights must be plain",
    "polyfit": "full= and cov= refused",
    "arange": "of traced values refused: their number would depend on them; of a count decided",
    "zeros": "can come to hold traced values", "empty": "can come to hold traced values, and begins as zeros",
    "ones": "can come to hold traced values", "tri": "can come to hold traced values",
    "indices": "can come to hold traced values, once they are floats",
    "geomspace": "signs are decided", "apply_along_axis": "calls the function once a row",
    "kaiser": "in beta",
    "angle": "of real numbers 0 or pi; at 0 not differentiable",
    **{f"fft.{name}": "one statement a call, O(n log n) in either direction" for name in (
        "fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn hfft ihfft").split()},
    "sqrt": "of complex numbers: the branch of NumPy", "log": "of complex numbers: the branch of NumPy",
    **{name: "of truths and counts, which are decided; of floats refused" for name in (
        "gcd lcm left_shift right_shift bitwise_left_shift bitwise_right_shift bitwise_count").split()},
    "i0": "by series: NumPy's values to rounding",
}


def table() -> list[Entry]:
    """All public functions of numpy, numpy.linalg, numpy.fft and numpy.emath, and methods of arrays, in the order of
    names."""
    return [Entry(name, _status(name, function), REASONS.get(name) or _note(name, function))
            for name, function in _public()]


def _note(name: str, function: Any) -> str:
    """An alias has the note of what it is an alias of."""
    return NOTES.get(name) or NOTES.get(getattr(function, "__name__", name), "")


_EMATH = "arccos arcsin arctanh log log10 log2 logn power sqrt".split()


def _public() -> Iterator[tuple[str, Any]]:
    for prefix, module in (("", np), ("linalg.", np.linalg), ("fft.", np.fft), ("emath.", np.emath)):
        for name in sorted({*dir(module), *module.__all__}) if module is not np.emath else _EMATH:
            found = getattr(module, name, None) if not name.startswith("_") else None
            if callable(found) and not isinstance(found, (type, types.ModuleType)):
                yield prefix + name, found
    for name in dir(np.ndarray):
        if not name.startswith("_") and callable(getattr(np.ndarray, name)):
            yield f"ndarray.{name}", getattr(np.ndarray, name)


def _status(name: str, function: Any) -> str:
    if name.startswith("ndarray."):
        short = name.removeprefix("ndarray.")
        method = getattr(TracedArray, short, None)
        if method is None or hasattr(method, "refused"):
            return REFUSED
        return CONSTANT if short in _CONSTANT else EXACT
    if isinstance(function, np.ufunc):
        op = ufuncs.OP_OF.get(function)
        if op is not None:
            return EXACT if any(op.partials) else CONSTANT
        if function in ufuncs.COMPOSED or function in contract.GUFUNCS:
            return EXACT
        return CONSTANT if function in truths.WHOLE_ONLY else REFUSED
    if function in protocol.FUNCTIONS or name in creation.SUBSTITUTES:
        return CONSTANT if name in _CONSTANT else EXACT
    return UNTOUCHED if name in _UNTOUCHED else REFUSED


_CONSTANT_OF_SCIPY = frozenset(("rankdata",))


def scipy_table() -> list[Entry]:
    """SciPy's functions that have a rule, the ufuncs of scipy.special that have none, and what is built of them and
    traced as SciPy's own code.  Functions that are not in it are traced through too, or refused by name."""
    import scipy.special

    found = {f"scipy.special.{name}": _special(function) for name, function in vars(scipy.special).items()
             if isinstance(function, np.ufunc)}
    for path in RULES:
        module, name = path.split(":")
        if module.startswith("scipy.") and not any(part.startswith("_") for part in f"{module}.{name}".split(".")):
            status = CONSTANT if name in _CONSTANT_OF_SCIPY else EXACT
            found[f"{module}.{name}"] = status, _OF_SCIPY.get(name.rpartition(".")[2], "")
    found |= {f"scipy.{room}.{name}": (EXACT, _OF_SCIPY.get(f"{room}.{name}") or _OF_SCIPY.get(
        name, "SciPy's own code, traced"))
              for room, names in _THROUGH.items() for name in names.split()}
    return [Entry(name, *found[name]) for name in sorted(found)]


def _special(function: np.ufunc) -> tuple[str, str]:
    ops = special.SPECIAL.get(function.__name__)
    if f"scipy.special.{function.__name__}" in COMPLEX_RESULTS:
        return EXACT, _OF_SCIPY.get(function.__name__, "")
    if ops is None:
        return REFUSED, "no derivative rule; distdiff.elemental takes one"
    known = [str(k) for k, rule in enumerate(ops[0].partials, 1) if rule is not special.UNKNOWN]
    note = f"in argument {' and '.join(known)}; the others must be plain" if len(known) < function.nin else ""
    return (EXACT if any(ops[0].partials) else CONSTANT), note


_THROUGH = {
    "stats": """
        norm t gamma beta chi2 expon lognorm uniform laplace cauchy logistic weibull_min pareto halfnorm gumbel_r
        invgamma f skewnorm vonmises poisson binom bernoulli nbinom geom dirichlet multivariate_normal multinomial
        zscore gmean hmean skew kurtosis moment sem entropy linregress ttest_1samp boxcox
    """,
    "signal": "filtfilt sosfiltfilt savgol_filter medfilt order_filter hilbert resample freqz "
              "welch periodogram stft csd",
    "ndimage": """
        correlate1d convolve1d correlate convolve gaussian_filter gaussian_filter1d laplace sobel prewitt
        gaussian_laplace gaussian_gradient_magnitude uniform_filter uniform_filter1d maximum_filter minimum_filter
        maximum_filter1d grey_dilation grey_erosion grey_opening median_filter percentile_filter rank_filter
        sum_labels mean variance center_of_mass map_coordinates
        affine_transform zoom shift rotate spline_filter
    """,
    "integrate": "trapezoid simpson cumulative_trapezoid romb solve_ivp",
    "interpolate": """
        CubicSpline PchipInterpolator Akima1DInterpolator CubicHermiteSpline PPoly BSpline interp1d splev
        RegularGridInterpolator barycentric_interpolate krogh_interpolate
    """,
    "spatial.distance": "cityblock sqeuclidean",
}
_SHAPES = "cdf, sf and ppf in the shapes up to order "
_OF_SCIPY = {
    **{f"stats.{name}": f"{_SHAPES}{shapes.ORDER}" for name in "gamma chi2 invgamma".split()},
    **{f"stats.{name}": f"{_SHAPES}2" for name in "beta t f".split()},
    "wofz": "of real and complex arguments", "sph_harm": "in the angles, but at the poles",
    **{f"hankel{kind}": "in argument 2, real" for kind in ("1", "2", "1e", "2e")},
    **{f"stats.{name}": "densities; cdf, sf and ppf refused" for name in ("skewnorm", "vonmises")},
    **{f"stats.{name}": "the count must be plain; ppf refused" for name in ("poisson", "geom", "bernoulli")},
    "stats.binom": "in p; ppf refused", "stats.nbinom": "cdf and sf in p; ppf refused",
    **{name: "of any distribution whose own formula can be traced"
       for name in "cdf sf logcdf logsf ppf isf".split()},
    "lambertw": "where it is real; the result is real", "polygamma": "in argument 2",
    **{name: f"beyond 1, in s up to order {zeta.ORDER}" for name in ("zeta", "zetac")},
    "comb": "exact=True refused", "perm": "exact=True refused", "factorial": "exact=True refused",
    "logpmf": "the count must be plain", "pmf": "the count must be plain",
    "logpdf": "of any distribution whose own formula can be traced", "upfirdn": "mode constant with 0",
    "rankdata": "the order is guarded", "vq": "the nearest codewords are decided",
    "cdist": "roots have derivative 0 where points coincide; metrics with matrices or weights refused",
    "pdist": "as cdist", "euclidean": "derivative 0 at distance 0", "minkowski": "derivative 0 at distance 0",
    **{name: "any order; mode grid-constant refused" for name in ("spline_filter", "map_coordinates")},
    **{name: "in the image; traced maps refused" for name in ("affine_transform", "zoom", "rotate")},
    "shift": "in the image and the shift",
    "solve_ivp": "methods RK45, RK23, DOP853, Radau and BDF, without events; step sizes have derivatives too",
    "make_interp_spline": "in y",
    "interp1d": "in y and at points", "simpson": "neighbours among x must differ",
    **{name: "the derivative of A x = b, through a sparse factor; operators that are no matrix refused"
       for name in KRYLOV},
    "evaluate": "at traced points", "lfilter": "one statement a sample and coefficient",
}


def text(pattern: str = "") -> str:
    """The table of the functions whose names hold `pattern`, as the command prints it; of functions of SciPy's that are
    in no table, that; nothing where no function is so called.

    A pattern may be written as in a program: `np.linalg.solve`, `sp.special.jv`, `scipy.special.jv`.
    """
    libraries = [(f"NumPy {np.__version__}", table()), (f"SciPy {version('scipy')}", scipy_table())]
    library, dot, rest = pattern.partition(".")
    if dot and library in ("np", "numpy"):
        pattern, libraries = rest, libraries[:1]
    elif dot and library == "sp":
        pattern = f"scipy.{rest}"
    chosen = [(name, [entry for entry in entries if pattern in entry.name]) for name, entries in libraries]
    width = max((len(entry.name) for _, entries in chosen for entry in entries), default=0)
    lines = [f"{entry.name:<{width}}  {entry.status:<9}  {entry.note}".rstrip()
             for _, entries in chosen for entry in entries]
    if not lines:
        return _unlisted(pattern) if pattern and len(libraries) > 1 else ""
    summaries = []
    for library, entries in chosen:
        counts = {status: sum(entry.status == status for entry in entries)
                  for status in (EXACT, CONSTANT, REFUSED, UNTOUCHED)}
        if entries:
            summaries.append(f"{library}: {', '.join(f'{n} {status}' for status, n in counts.items() if n)}")
    return "\n".join([*lines, "", *summaries])


_ROOMS = ("cluster.hierarchy", "cluster.vq", "fft", "integrate", "interpolate", "linalg", "ndimage", "optimize",
          "signal", "sparse", "sparse.csgraph", "sparse.linalg", "spatial", "spatial.distance", "special", "stats")


def _unlisted(pattern: str) -> str:
    """What is to be said of SciPy's public functions and classes without a rule; nothing where none is so called."""
    names = []
    for room in _ROOMS:
        module = importlib.import_module(f"scipy.{room}")
        names += [name for found in module.__all__ if pattern in (name := f"scipy.{room}.{found}")
                  and callable(getattr(module, found, None))]
    if not names:
        return ""
    lines = []
    for name in sorted(names):
        known = instead(f" in {name}")
        lines.append(f"{name}  not covered{known and f': {known}'}")
    return "\n".join([*lines, "", "Not covered: there is no rule. Where SciPy's own code calls NumPy's functions it is "
                      "traced; where it is compiled code it is refused by name when it is called."])
