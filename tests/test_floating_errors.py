"""Where NumPy's floating-point errors are raised, made errors or recorded, traced functions raise where NumPy's own do,
and nowhere else: a function that catches goes the same way."""

from __future__ import annotations

import warnings
from zlib import crc32

import numpy as np
import pytest
import scipy.special
import scipy.stats
from numpy_cases import ARGUMENTS, CASES
from test_numpy import copies, function_of

import distdiff as dd
from distdiff.errors import UnsupportedOperationError
from distdiff.tracing import trace


def first(value):
    def at(x):
        x = np.array(x)
        x.reshape(-1)[0] = value
        return x
    return at


EXTREMES = {  # what becomes of the arguments of a case; numbers become NumPy's, as all traced ones are
    "zero": lambda x: x * 0.0, "large": lambda x: x * 1e200, "small": lambda x: x * 1e-200, "negative": lambda x: -x,
    "subnormal": lambda x: x * 5e-320, "inf": first(np.inf), "-inf": first(-np.inf), "nan": first(np.nan),
    "one zero": first(0.0), "one large": first(1e300), "as they are": lambda x: x * 1.0,
}
NOT_NUMPYS = ("vectorize",  # hands Python's floats to a function, which raise OverflowError
              "polyfit", "lstsq(",  # raise a SystemError of their own where the SVD in them does not converge
              "axes=", "np.interp(",  # NaN or infinite where theirs are not: other errors of what follows
             "kj->ik\", m + 1j",  # where a part is zero by structure, infinity times it makes no NaN, but is infinite
             "np.exp(1j * u)",  # likewise NaN times it: the sine of NaN beside a zero, where NumPy has NaN twice
             "[s + 1j * r")  # 1j times one of NumPy's numbers is Python's complex, which raises none

SINGULAR = "svd(", "pinv(", "lstsq(", "nuc", "cond(", "matrix_rank(", ", 2)"  # NumPy's may not come back from infinity


def comes_back(case, name):
    return not ("inf" in name and any(part in case for part in SINGULAR))


def outcome(f, args, modes):
    try:
        with np.errstate(**modes), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            f(*args)
    except UnsupportedOperationError:
        raise
    except Exception as error:
        return type(error)
    return None


def outcomes(f, args, modes):
    """What f raises of plain arguments, and what of traced ones; the same if it is refused, which is no silence."""
    seen = []
    with np.errstate(all="ignore"):
        plain = outcome(f, copies(args), modes)
    try:
        trace(lambda *args: (seen.append(outcome(f, args, modes)), args[0] * 1.0)[1], tuple(copies(args)),
              argnums=tuple(range(len(args))))
    except UnsupportedOperationError:
        return plain, plain
    return plain, seen[0]


@pytest.mark.parametrize("turn", range(11))
def test_what_numpy_raises_is_raised_and_nothing_else(turn):
    """Every fourth case at one of the extremes; all of them, at all, agree as well."""
    other = []
    for case in CASES[turn::11]:
        k = crc32(case.encode())  # the same whatever cases are added
        name = [*EXTREMES][k % len(EXTREMES)]
        if k // 11 % 4 == 0 and comes_back(case, name) and not any(part in case for part in NOT_NUMPYS):
            f, names, _ = function_of(case)
            args = [np.asarray(EXTREMES[name](ARGUMENTS[word]))[()] for word in names]
            for modes in ({"all": "raise"}, {}):
                plain, traced = outcomes(f, args, modes)
                if plain is not traced:
                    other.append((case, name, modes, plain, traced))
    assert not other


CAUGHT = {  # an operation, arguments where it raises if they are traced as a formula, and others where it does
    "sinc": (np.sinc, [1e-200, 0.5], [np.inf, 0.5]),
    "cov": (lambda x: np.cov(x, x * x), [1e-100, 3e-100], [1e160, 2.0]),
    "complex division": (lambda x: abs(1.0 / (x + 1j)), [1e-170, 2.0], [1e308, 2.0]),
    "complex power": (lambda x: np.abs((x + 1j) ** 2), [1e-200, 2.0], [1e200, 2.0]),
    "average": (lambda x: np.average(x, weights=x), [1.0, 2.0], [1.0, -1.0]),
    "method": (lambda x: x.var(), [1e-80, 2.0], [1e200, 2.0]),
    "i0": (np.i0, [1e-200, 2.0], [800.0, 2.0]),
    "reduction": (lambda x: np.logaddexp.reduce(x), [-800.0, 1.0], [np.nan, 1.0]),
    "truth": (lambda x: np.asarray(x[0] > 1.0).astype(int) + x[0].astype(int), [1e-200, 2.0], [np.nan, 2.0]),
    "einsum": (lambda x: np.einsum("i,i->", x, x), [1e200, 1.0], [1e200, 1.0]),
    "scipy": (scipy.special.logsumexp, [-800.0, 1.0], [-np.inf, -np.inf]),
    "distribution": (lambda x: scipy.stats.norm.logpdf(x), [1e-200, 2.0], [1e200, 2.0]),
}


@pytest.mark.parametrize("name", CAUGHT)
@pytest.mark.parametrize("how", [{"all": "raise"}, {"over": "raise", "invalid": "raise"}, "warnings", "recorded"])
def test_a_function_that_catches_goes_numpys_way(name, how):
    operation, *points = CAUGHT[name]

    def f(x):
        with warnings.catch_warnings(record=how == "recorded") as told:
            if not isinstance(how, dict):
                warnings.simplefilter("error" if how == "warnings" else "always", RuntimeWarning)
            try:
                with np.errstate(**how if isinstance(how, dict) else {}):
                    y = operation(x)
            except (FloatingPointError, RuntimeWarning, ZeroDivisionError):
                return 3.0 * x[1]
        return np.sum(1.0 / (1.0 + y * y)) + x[1] * (1.0 + bool(told))

    with np.errstate(all="ignore" if isinstance(how, dict) else "warn"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for point in points:
            x = np.array(point)
            np.testing.assert_allclose(trace(f, (x,)).result, f(x), rtol=1e-12)

def test_what_was_put_off_is_of_the_lines_before():
    """Large results are computed when somebody looks: errors raised by then are none of theirs."""
    x = np.full(40_000, 1e-200)

    def f(x):
        with np.errstate(all="ignore"):
            y = x * x + x
        with np.errstate(all="raise"):
            z = np.minimum(y, 1.0)
        return np.sum(z) + (1.0 if z[3] < 1.0 else x[0])

    assert dd.value_and_grad(f)(x)[0] == f(x)


def test_values_at_the_ends_of_the_range():
    for f, x in ((lambda x: np.frexp(x)[0], [5e-320, 1.0, -3e-310, 1e308, 0.0]),
                 (lambda x: np.modf(x)[0], [np.inf, 1.5, -np.inf]),
                 (lambda x: np.polymul(x, [1.0, 2.0]), [0.0, 1.0, 3.0]),
                 (lambda x: np.polymul(x[:2], x), [0.0, 0.0, 3.0]),
                 (lambda x: np.polydiv(x, [1.0, 2.0])[1], [1.0, 4.0, 4.0]),
                 (lambda x: np.polydiv(x[1:], x)[1], [1.0, 0.0, 4.0])):
        np.testing.assert_array_equal(trace(f, (np.array(x),)).result, f(np.array(x)))


@pytest.mark.parametrize(("f", "point", "other", "kind"), [
    (lambda x: np.average(x, weights=x), [1.0, -1.0], [1.0, 2.0], ZeroDivisionError),
    (lambda x: np.cov(np.ones((2, 2)) * x, aweights=x), [-1.0, 2.0], [1.0, 2.0], ValueError),
    (lambda x: np.cov(np.ones((2, 2)) * x, aweights=x), [0.0, 0.0], [1.0, 2.0], ZeroDivisionError),
    (lambda x: np.histogram(np.ones(3), bins=x)[0] * x[0], [2.0, 1.0], [0.0, 2.0], ValueError),
    (lambda x: np.histogram(x, bins=2)[1], [np.inf, 1.0], [0.0, 2.0], ValueError),
    (lambda x: np.histogram(np.ones(3), bins=2, range=(x[0], x[1]))[1], [2.0, 1.0], [0.0, 2.0], ValueError),
])
def test_what_numpy_raises_by_values_is_raised_and_decides(f, point, other, kind):
    def g(x):
        try:
            return np.sum(f(x)) + x[1]
        except kind:
            return 3.0 * x[1]

    with dd.recorded(g) as F, np.errstate(all="ignore"):
        for x in (point, other, point):
            assert F(np.array(x)) == g(np.array(x))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e308])
def test_singular_values_of_what_is_infinite_come_back(value):
    """LAPACK may never return from infinite entries when it is asked for vectors, which derivatives want."""
    m = np.array(ARGUMENTS["m"])
    m[0, 0] = value
    with np.errstate(all="ignore"):
        for f in (lambda m: np.linalg.norm(m, 2), lambda m: np.linalg.norm(m + 1j, 2), lambda m: np.linalg.svd(m)[1]):
            trace(f, (m,))


def handler(kind, flag):
    pass


ASKED = """
np.geterr()
np.geterrcall()
np.seterr(over="raise")
[np.seterr(over="raise"), np.geterr(), np.seterr(over="warn"), np.geterr()]
[np.seterrcall(handler), np.geterrcall(), np.seterrcall(None), np.geterrcall()]
[np.seterr(all="call"), np.seterrcall(handler), np.geterr(), np.seterrcall(None), np.seterr(all="warn"), np.geterr()]
within(dict(all="raise"))
within(dict(divide="ignore", call=handler))
within(dict(over="print"))
"""


def within(options):
    seen = [np.geterr(), np.geterrcall()]
    with np.errstate(**options):
        seen += [np.geterr(), np.geterrcall()]
        with np.errstate(under="warn"):
            seen += [np.geterr(), np.geterrcall()]
    return [*seen, np.geterr(), np.geterrcall()]


@pytest.mark.parametrize("outside", [{}, {"over": "ignore"}, {"all": "call", "call": handler}, {"call": handler}])
@pytest.mark.parametrize("text", ASKED.strip().splitlines())
def test_what_errors_lead_to_is_said_as_the_user_has_set_it(text, outside):
    seen = []

    def f(x):
        with np.errstate(call=np.geterrcall()):
            seen.append(eval(text))
            dd.grad(lambda y: y * len(seen))(x[0])
            seen.append(np.geterr())
        return x * (np.geterr()["over"] == outside.get("over", outside.get("all", "warn")))

    for run in (lambda: f(np.ones(2)), lambda: trace(f, (np.ones(2),)).result):
        with np.errstate(**outside):
            assert np.array_equal(run(), np.ones(2))
    assert seen[:2] == seen[-2:] and len(seen) > 3  # (a trace begins again where a derivative is taken within)


def test_warnings_of_errors_are_noted_again_after_the_users_own_handler():
    called = []

    def f(x):
        with np.errstate(all="call", call=lambda *what: called.append(what)):
            np.log(x - x)
        old = np.seterr(divide="call"), np.seterrcall(lambda *what: called.append(what))
        1.0 / (x - x)
        np.seterrcall(old[1])
        np.seterr(**old[0])
        x / (x - x)
        return np.sum(x)

    with pytest.warns(RuntimeWarning, match="divide by zero encountered") as told:
        assert dd.grad(f)(np.ones(2)).tolist() == [1.0, 1.0]
    assert len(called) == 2 and len(told) == 1
