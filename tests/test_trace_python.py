"""Python's own functions on traced values: what works does, and what would cut the derivative names what to write."""

from __future__ import annotations

import cmath
import collections.abc
import decimal
import functools
import itertools
import json
import math
import math as m
import numbers
import operator
import re
import statistics
import subprocess
import sys
import warnings
from math import cos, lgamma

import numba
import numpy as np
import pytest
from mpi4py import MPI
from test_cli import fresh_environment

import distdiff as dd
from distdiff.errors import NonFiniteError, PrecisionWarning, UnsupportedOperationError
from distdiff.tracing import trace

X = np.array([0.3, 0.7, 0.9, 0.2])
MATH = [name for name in dir(math) if not name.startswith("_") and callable(getattr(math, name))]
ARGUMENTS = {name: "u[0], u[1]" for name in ("atan2", "pow", "fmod", "copysign", "hypot", "comb", "perm", "gcd", "lcm",
                                             "remainder", "isclose", "nextafter")}
ARGUMENTS |= {"ldexp": "u[0], 2", "dist": "[u[0], 1.0], [u[1], 0.0]", "fsum": "u", "prod": "u", "sumprod": "u, u",
              "fma": "u[0], u[1], 2.0"}
WORK = {"ceil", "floor", "trunc", "prod"}  # they ask the value for what they want, by name or by operators


@pytest.mark.parametrize("name", MATH)
def test_the_math_module(name, tmp_path):
    path = tmp_path / "traced_math.py"
    path.write_text(f"import math\ndef f(u):\n    return u[0] * math.{name}({ARGUMENTS.get(name, 'u[0]')})\n")
    space: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    if name in WORK:
        assert np.isfinite(trace(space["f"], (X,)).result)
        return
    with pytest.raises(UnsupportedOperationError, match=rf"Write .* for math\.{name}\b") as refused:
        trace(space["f"], (X,))
    assert f"{path}:3" in str(refused.value)
    twin = re.search(rf"Write (.*?) for math\.{name}\b", str(refused.value)).group(1)
    numpy_name = re.fullmatch(r"np\.(\w+)", twin)
    assert numpy_name is None or hasattr(np, numpy_name.group(1))
    assert "a formula in" not in twin


@pytest.mark.parametrize(("f", "message"), [
    (lambda u: cos(u[0]), "np.cos for math.cos"),
    (lambda u: lgamma(u[0]), "scipy.special.gammaln for math.lgamma"),
    (lambda u: m.tanh(u[0]), "np.tanh for math.tanh"),
    (lambda u: cmath.exp(u[0]), "complex"),
    (lambda u: statistics.mean(list(u)), "np.mean for statistics.mean"),
    (lambda u: statistics.fmean(u), "np.mean for statistics.fmean"),
    (lambda u: statistics.stdev(list(u)), re.escape("np.std(x, ddof=1) for statistics.stdev")),
    (lambda u: float(u[0]), r"Leave float\(\) out"),
    (lambda u: sum(map(float, u)), "NumPy's functions for Python's"),
    (lambda u: np.float64(u[0]) * np.float32(u[1]), r"Leave np\.float64\(\) out"),
    (lambda u: np.double(u), r"Leave np\.double\(\) out"),
    (lambda u: np.int64(u[0]), "int.x. decides for a whole number"),
    (lambda u: u[0] + len("%.2f" % u[0]), r'Write f"\{x:.3g\}"'),  # noqa: UP031 (what is tested)
    (lambda u: u[0] + len(json.dumps({"loss": u[0]})), r"write out distdiff\.numpy\.value"),
    (lambda u: decimal.Decimal(u[0]), r"write out distdiff\.numpy\.value"),
    (lambda u: np.zeros(u[0]) + u[1], "used as a length .* int.x. decides"),
    (lambda u: numba.njit(lambda a: 2.0 * a)(u[0]), r"as Python functions under distdiff\.compiled"),
    (lambda u: [1.0, 2.0][u[0]], "int.x. decides for one"),
    (lambda u: u[0] * len(range(u[0])), "int.x. decides for one"),
    (lambda u: u[0].hex(), "distdiff.numpy.value"),
    (lambda u: u[: u[0]], "the end of a slice .* int.x. decides for one"),
    (lambda u: (k := u[0] + 1.0) and [1.0, 2.0][:k], "the end of a slice .* int.x. decides for one"),
])
def test_refused(f, message):
    with pytest.raises(UnsupportedOperationError, match=message):
        trace(f, (X,))


@functools.singledispatch
def by_kind(x):
    return 7.0 * x


by_kind.register(np.ndarray)(lambda x: np.sum(x) * 3.0)
by_kind.register(complex)(lambda z: z * z + 5.0 * z)


@by_kind.register(float)
def by_value(x):
    match x:
        case 0.9:
            return x
        case float():
            return x * x if isinstance(x, np.floating) and isinstance(x, (int, float)) else 3.0 * x


ASKED = """
np.isscalar(t), np.ndim(t), np.shape(t), np.size(t), np.iterable(t), np.iscomplexobj(t), np.isrealobj(t), callable(t)
len(t)
len([*t])
callable(iter(t))
np.ndim(next(iter(t)))
callable(reversed(t))
np.ndim(sum(t))
len(sorted(t))
np.ndim(max(t))
a, b = t
a, *b = t
1.0 in t
np.ndim(t[0])
np.ndim(t[()]), np.ndim(t[None]), np.ndim(t[...]), np.shape(t[..., None])
t()
t.attribute
t.dtype, t.shape, t.ndim, t.size, t.itemsize, t.nbytes, np.ndim(t.T), np.ndim(t.real)
np.ndim(t.item())
t.astype(float).ndim
isinstance(t, np.ndarray) or isinstance(t, np.generic) or isinstance(t, np.number)
isinstance(t, (float, complex)) and not isinstance(t, (int, bool, str, list, tuple))
issubclass(t.__class__, np.floating), issubclass(t.__class__, float), t.__class__.__name__
np.issubdtype(t.dtype, np.floating), np.issubdtype(t.dtype, np.integer), np.result_type(t), np.can_cast(t.dtype, float)
"""
ABSTRACT = [*(f"abc.{name}" for name in collections.abc.__all__), *(f"numbers.{name}" for name in numbers.__all__)]
NAMES = {name for kind in (np.float64, np.bool_, np.int64, np.complex128, np.ndarray, list, dict, str)
         for name in dir(kind) if not name.startswith("_")} - {
    "fromhex", "hex", "as_integer_ratio", "is_integer", "numerator", "denominator", "bit_count",  # Python's numbers'
    "data", "ctypes"}  # refused
NAMES |= {"value", "values", "columns", "to_numpy", "numpy", "units", "magnitude", "requires_grad", *(
    f"__{name}__" for name in "iter len getitem contains call next enter float int bool abs array str".split())}


def answers(t):
    """What a value says of itself, asked in all these ways."""
    space = {"t": t, "np": np, "abc": collections.abc, "numbers": numbers}
    told = {}
    for text in [*ASKED.strip().splitlines(), *(f"isinstance(t, {kind})" for kind in ABSTRACT)]:
        try:
            if text.startswith("a, "):
                exec(text, dict(space))
            told[text] = eval(text, space) if not text.startswith("a, ") else None
        except Exception as error:
            told[text] = type(error)
    return told | {f"hasattr(t, {name!r})": hasattr(t, name) for name in NAMES}


KINDS = {"a number": lambda x: x[0] * 2.0, "a truth": lambda x: x[0] > 0.0, "a count": lambda x: np.sum(x > 0.1),
         "a complex number": lambda x: x[0] + 1j, "a vector": lambda x: x * 2.0, "a matrix": lambda x: x.reshape(2, 2),
         "a mask": lambda x: x > 0.5, "a complex vector": lambda x: x + 1j}


@pytest.mark.parametrize("kind", KINDS)
def test_traced_values_say_of_themselves_what_numpys_do(kind):
    """Code that goes by such answers goes the same way."""
    seen = []
    trace(lambda x: (seen.append(answers(KINDS[kind](x))), x[0])[1], (X,))
    expected = answers(KINDS[kind](X))
    assert {text: answer for text, answer in seen[0].items() if expected[text] != answer} == {}


NUMBERS = """
np.prod(u), u.prod(), np.sum(u), u.mean(), np.median(u), np.nanmedian(u), np.quantile(u, 0.3), np.nanquantile(u, 0.3)
np.var(u), np.ptp(u), np.max(u), np.nanprod(u), np.trace(m), u @ u, np.dot(u, u), np.vdot(u, u), np.inner(u, u)
np.linalg.norm(u), np.linalg.norm(m, 1), np.linalg.norm(m, 2), np.linalg.norm(m, -np.inf), np.linalg.norm(u, 0)
np.logaddexp.reduce(u), np.add.reduce(u), np.einsum("i,i", u, u), np.linalg.det(m), np.dot(u[:0], u[:0]), u[1, ...]
c.sum(), np.max(c), c.mean(), c @ c, np.prod(c), np.linalg.norm(c), np.trace(c.reshape(2, 2)), c[0] + 1.0
(1j * u).sum(), np.max(u + 1j * u), np.prod(1j * u), (1j * u).mean(), np.vdot(1j * u, u), (u + 1j * u).min()
u[0].astype(int), u[0].sum(), u[0].round(1), u[0].squeeze(), np.squeeze(u[0]), u[0] ** 0
np.interp(u[0], [0, 1], [0, 1]), np.fmax(u[0], 1.0), np.heaviside(u[0], 0.5), np.nan_to_num(u[0])
np.clip(u[0], 0, 1), np.sinc(u[0]), np.angle(u[0])
np.asarray(u[0]), np.reshape(u[0], ()), u[..., 0], np.atleast_1d(u[0]), np.broadcast_to(u[0], ()), u[:1].reshape(())
"""


def kinds(u, line):
    """Of each result whether it is an array, and a number of which kind."""
    space = {"np": np, "__name__": "kinds"}
    exec(f"def f(u, m, c): return {line}", space)
    c = u.copy()
    c[:] = 1.0  # a constant, in an array that holds traced values
    return [(isinstance(y, np.ndarray), isinstance(y, float), isinstance(y, complex), isinstance(y, np.integer))
            for y in space["f"](u, u.reshape(2, 2), c)]


@pytest.mark.parametrize("line", NUMBERS.strip().splitlines())
def test_what_has_no_axes_is_a_number_where_numpys_is(line):
    seen = []
    trace(lambda u: (seen.append(kinds(u, line)), u[0])[1], (X,))
    assert seen[0] == kinds(X.copy(), line)


@pytest.mark.parametrize("f", [
    lambda u: sum(u) + sum([a * a for a in u], 1.0),
    lambda u: max(u) * max(u[0], 0.5) + min(u[1], *u) + max(u, key=lambda a: -a),
    lambda u: sorted(u)[1] + sorted(u, reverse=True)[0] * sorted([u[0], 0.5, u[1]], key=lambda a: a * a)[0],
    lambda u: abs(u[0] - 1) + pow(u[0], 3) + u[1] ** 0.5 + divmod(u[0], 0.2)[1] + round(u[0], 1) * u[1],
    lambda u: functools.reduce(operator.mul, u) + list(itertools.accumulate(u))[-1] + math.prod(u) ** 2,
    lambda u: sum(a * b for a, b in zip(u, u[::-1])) + sum(i * a for i, a in enumerate(u)) + sum(map(abs, u)),
    lambda u: u[0] * any(u > 0.5) + u[1] * all(u > 0.1) + (u[2] if 0.2 < u[0] < 0.5 else 0.0),
    lambda u: u[3] * int(u[0] * 10 + 0.5) + u[1] * round(u[2]),
    lambda u: statistics.median(list(u)),
    lambda u: by_kind(u[0]) + by_kind(u[1] * u[2]) + by_kind(u) + by_kind(1j * u[0]).imag,
    lambda u: u[0] ** 2 if isinstance(u[0] > 0.0, np.bool_) and not isinstance(u[0] > 0.0, float) else u[1],
    lambda u: {True: u[0] ** 2, False: u[1]}[u[2] > 0.5] + len({u[0] > 0.1, u[1] > 0.1}) * u[3],
    lambda u: np.sum(u[: np.sum(u > 0.5)]) + u[sum(u > 0.5) - 1] * [1.0, 2.0, 3.0, 4.0, 5.0][np.sum(u > 0.5)],
    lambda u: sum(u[i] ** 2 for i in range((u > 0.5).sum())) + u[np.arange(np.sum(u > 0.5))].sum() * np.sum(u > 0.5),
    lambda u: np.sum(np.repeat(u, np.sum(u > 0.5) + 1)) * np.tile(u, 1 + (u[0] > 0.1))[-1] + np.roll(
        u, np.sum(u < 0.5) * 2)[0],
    lambda u: np.linspace(0.0, u[0], np.sum(u > 0.5) + 2)[1] + np.sqrt(np.sum(u > 0.5)) * u[1] ** np.sum(u > 0.5),
])
def test_what_works_in_plain_python(f):
    expected = [(f(X + 1e-6 * e) - f(X - 1e-6 * e)) / 2e-6 for e in np.eye(4)]
    value, gradient = dd.value_and_grad(f)(X)
    assert value == pytest.approx(f(X), rel=1e-15)
    np.testing.assert_allclose(gradient, expected, rtol=1e-7, atol=1e-8)


def test_a_count_that_slices_is_a_decision():
    def f(u):
        out = np.zeros(np.sum(u > 0.5))
        out[:] = u[: len(out)] ** 2
        out[np.sum(u > 0.5) - 1] += 1.0
        assert isinstance(np.sum(u > 0.5), np.integer)
        return np.sum(out)

    recorded = dd.recorded(f)
    for x in (X, 1.001 * X, X[::-1].copy(), np.minimum(X, 0.51)):
        np.testing.assert_allclose(recorded.grad(x), 2 * np.where(np.arange(4) < np.sum(x > 0.5), x, 0.0))
    assert recorded.counts.traces == len({np.sum(x > 0.5) for x in (X, np.minimum(X, 0.51))})


@pytest.mark.parametrize("f", [
    lambda u: u.astype(np.float32) * 2,
    lambda u: np.add(u, 1.0, dtype=np.float32),
    lambda u: np.sum(u, dtype="f4") * u,
    lambda u: np.array([u[0], u[1]], dtype=np.float32),
    lambda u: np.zeros(4, dtype=np.float32) + u,
    lambda u: np.asarray(u, dtype=np.float16),
])
def test_floats_of_another_size_are_said_to_be_of_64_bits(f):
    with pytest.warns(PrecisionWarning, match="computed in float64") as seen:
        result = trace(f, (X,)).result
    assert seen[0].filename == __file__ and result.dtype == np.float64
    np.testing.assert_allclose(result, f(X), rtol=2e-3)
    with pytest.warns(PrecisionWarning, match="the argument comes as float32") as seen:
        value, gradient = dd.value_and_grad(lambda u: np.sum(u**2))(X.astype("f4"))
    assert seen[0].filename == __file__ and gradient.dtype == np.float64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace(lambda u: u.astype(float) + np.zeros(4, dtype=float) + np.sum(u, dtype=np.float64), (X,))


BY_ZERO = {
    "x / 0.0": lambda x: x[0] / 0.0, "1.0 / (x - x)": lambda x: 1.0 / (x[0] - x[0]), "x // 0.0": lambda x: x[0] // 0.0,
    "x % 0.0": lambda x: x[0] % 0.0, "divmod": lambda x: divmod(x[0], 0)[0], "power": lambda x: (x[0] - x[0]) ** -1,
    "x / len": lambda x: x[0] / (x.shape[0] - 2), "np.log": lambda x: np.log(x[0] - x[0]),
    "array": lambda x: (x / 0)[1],
    "in a loop": lambda x: sum((x[0] / (k * 1.0) for k in range(3)), 0.0),
}


@pytest.mark.parametrize("name", BY_ZERO)
@pytest.mark.parametrize("how", ["interpreted", "compiled"])
def test_a_traced_number_is_divided_by_zero_as_numpys(name, how):
    f, x = BY_ZERO[name], np.array([2.0, 3.0])
    g = f if how == "interpreted" else dd.compiled(f)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler can't take is interpreted
        expected = f(x)
        found = trace(lambda x: g(x), (x,)).result
        np.testing.assert_array_equal(found, expected)
        with pytest.raises(NonFiniteError, match=r"(inf|nan) at .*test_trace_python.py"):
            dd.grad(g, comm=MPI.COMM_SELF)(x)


@pytest.mark.parametrize("f", [lambda x: x[0] * (1.0 / (x.shape[0] - 2)), lambda x: x[0] / 1.0 + 1 % (x.shape[0] - 2)])
def test_a_number_that_is_not_traced_is_pythons(f):
    for g in (f, dd.compiled(f)):
        with warnings.catch_warnings(), pytest.raises(ZeroDivisionError):
            warnings.simplefilter("ignore")
            trace(lambda x, g=g: g(x), (np.array([2.0, 3.0]),))


def test_numba_that_compiles_first_while_a_function_is_traced_compiles_afterwards(tmp_path):
    """It takes NumPy's functions by name then, for good, and must not take those that stand in for them."""
    (tmp_path / "program.py").write_text(
        "import numba, numpy as np, distdiff as dd\n"
        "try:\n"
        "    dd.grad(lambda u: numba.njit(lambda a: 2.0 * a)(u[0]))(np.ones(2))\n"
        "except dd.errors.UnsupportedOperationError:\n"
        "    print(numba.njit(lambda n: np.zeros(n).sum())(3))\n")
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, env=fresh_environment(), text=True,
                          capture_output=True, timeout=60)
    assert done.stdout == "0.0\n", done.stderr
