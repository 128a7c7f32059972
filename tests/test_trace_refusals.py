"""What is refused stays refused: neither an `except` in the function nor NumPy's other array classes get round it."""

from __future__ import annotations

import math
import numbers
import operator

import numpy as np
import pytest

import distdiff as dd
from distdiff.errors import UnsupportedOperationError
from distdiff.tracing import trace

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # np.matrix

U = np.array([0.9137, 1.7214, 0.4353, 1.3079])


def holding(u):
    z = np.zeros(4)
    z[:] = u
    return z


def caught(u, attempt):
    try:
        return u * attempt(u)
    except Exception:
        return u * 1.0


@pytest.mark.parametrize(
    "attempt",
    [
        lambda u: float(u[0]),
        lambda u: np.spacing(u),
        lambda u: np.linalg.det(1j * u.reshape(2, 2)).real,
        lambda u: np.sort(1j * u).real,
        lambda u: complex(u[0]).real,
        lambda u: np.linalg.inv(1j * u.reshape(2, 2)).real,
    ],
)
def test_a_refusal_that_the_function_catches(attempt):
    with pytest.raises(UnsupportedOperationError, match=r"refusals.py:\d+ .*caught inside the function") as e:
        trace(lambda u: caught(u, attempt), (U,))
    assert isinstance(e.value.__cause__, UnsupportedOperationError)


def test_errors_that_are_no_refusals_may_be_caught():
    def f(u):
        try:
            return u.reshape(3, 5)
        except ValueError:
            pass
        try:
            u[7]
        except IndexError:
            return u * int(hasattr(u, "no_such_thing")) + u[0]

    np.testing.assert_array_equal(trace(f, (U,)).result, [U[0]] * 4)


def test_looking_at_traced_values_is_no_refusal(capsys):
    def f(u):
        print(u, repr(u), f"{u[0]:.3f} {u[0]}", str(u[0]), u.shape, holding(u))
        return u * 2.0

    np.testing.assert_array_equal(trace(f, (U,)).result, 2 * U)
    assert "0.914" in capsys.readouterr().out


@pytest.mark.parametrize("text", [
    str, repr, "{}".format, "{:.3f}".format, "{:8.2e}".format, "%s".__mod__, lambda t: f"{t}", lambda t: f"{t:g}",
])
def test_no_number_is_read_back_from_the_text_of_a_traced_value(text):
    def f(u):
        for t in (u[0], u[0] > 0.5, 1j * u[0]):
            assert text(t).startswith("traced(")
            with pytest.raises(ValueError):
                complex(text(t))
        return u[0]

    trace(f, (U,))


@pytest.mark.parametrize("text", [str, repr, "{}".format, np.array_str, np.array2string, np.array_repr])
def test_the_text_of_a_traced_array_says_so(text):
    def f(u):
        assert all(text(a).startswith("traced(") for a in (u, u > 0.5, 1j * u, u.reshape(2, 2)))
        return u

    trace(f, (U,))


def test_a_traced_scalar_is_a_real_number():
    seen = []

    def f(u):
        seen.extend([np.isscalar(u[0]), np.isscalar(u), isinstance(u[0] * 2, numbers.Real)])
        return u[0]

    trace(f, (U,))
    assert seen == [True, False, True]


EYE = np.eye(2)


@pytest.mark.parametrize(
    "f",
    [
        lambda u: np.matrix(u.reshape(2, 2)) * 2,
        lambda u: np.matrix([[u[0], u[1]]]),
        lambda u: np.asmatrix(holding(u)).sum(),
        lambda u: np.bmat([[u, u]]),
        lambda u: u[:2] * np.matrix(EYE),
        lambda u: np.matrix(EYE) * u[0],
        lambda u: np.matrix(EYE) @ u[:2],
        lambda u: np.ma.masked_array(u, [0, 1, 0, 0]).sum(),
        lambda u: np.ma.masked_array(holding(u), [0, 1, 0, 0]).sum(),
        lambda u: np.ma.masked_where(u > 1.0, u).sum(),
        lambda u: (u * np.ma.masked_array(U, [0, 1, 0, 0])).sum(),
        lambda u: np.ma.masked_array(EYE, EYE) * u[0],
        lambda u: np.concatenate([u, np.ma.masked_array(U, [0, 1, 0, 0])]),
    ],
)
def test_array_classes_with_other_rules(f):
    constructors = np.matrix.__new__, np.ma.MaskedArray.__new__
    with pytest.raises(UnsupportedOperationError):
        trace(f, (U,))
    assert (np.matrix.__new__, np.ma.MaskedArray.__new__) == constructors


def test_other_classes_of_constants_keep_working():
    def f(u):
        return u * float(np.ma.masked_array(U, [0, 1, 0, 0]).sum() + np.matrix(EYE).trace()[0, 0])

    np.testing.assert_allclose(trace(f, (U,)).result, U * (U.sum() - U[1] + 2.0))


@pytest.mark.parametrize(
    "f, words",
    [
        (lambda u: math.cosh(u[0]), "np.cosh for math.cosh"),
        (lambda u: math.atan2(u[0], 1.0) * u, "np.arctan2 for math.atan2"),
        (lambda u: math.gamma(u[1]) * u, "scipy.special.gamma for math.gamma"),
        (lambda u: float(u[0]) * u, r"np\.sin\(x\), not math\.sin\(x\)"),
        (lambda u: np.savetxt("/nowhere/file", u), "numpy.savetxt"),
        (lambda u: u.astype(float).view("i8"), "numpy.ndarray.view"),
        (lambda u: np.bmat([[u, u]]), "numpy.bmat: a numpy matrix"),
    ],
)
def test_a_refusal_names_what_was_called_and_what_to_write(f, words):
    with pytest.raises(UnsupportedOperationError, match=words):
        trace(f, (U,))


@pytest.mark.parametrize("f", [
    lambda u: U.dot(u),
    lambda u: (np.outer(U, U)
               .dot(u)),
    lambda u: np.outer(U, U).dot(u.reshape(4, 1)),
    lambda u: U.dot(1j * u).imag,
])
def test_the_method_dot_of_a_plain_array(f):
    with pytest.raises(UnsupportedOperationError, match=r"Write P @ \w or np.dot\(P, \w\) for P.dot"):
        trace(f, (U,))


def table(u, factor=1.0):
    return factor * np.outer(u, np.sin(u))


def shuffled(shuffle, y):
    shuffle(y)
    return y * 1.0


@pytest.mark.filterwarnings("ignore:you are shuffling")
@pytest.mark.parametrize("f, words", [
    (lambda u: shuffled(np.random.default_rng(3).shuffle, table(u)), "shuffle that swaps rows"),
    (lambda u: shuffled(np.random.RandomState(3).shuffle, table(u)), "shuffle that swaps rows"),
    (lambda u: shuffled(np.random.shuffle, table(u)), r"y\[rng.permutation\(len\(y\)\)\]"),
    (lambda u: shuffled(np.random.default_rng(3).shuffle, table(u, 1j)).imag, "shuffle that swaps rows"),
    (lambda u: getattr(np.random, "shuffle")(table(u)), "compiled code that swaps rows"),  # noqa: B009
    (lambda u: np.random.default_rng(3).permuted(table(u), axis=1), "take_along_axis"),
])
def test_rows_that_compiled_code_swaps(f, words):
    with pytest.raises(UnsupportedOperationError, match=words):
        trace(f, (U,))


def rows_exchanged(u):
    y = table(u)
    y[0], y[1] = y[1], y[0]  # views: both rows are the second, in NumPy as well
    y[2] = y[3]
    operator.setitem(y, 3, y[1])
    return y


def whole_rows(u):
    y, order = table(u), np.random.default_rng(3).permuted(np.indices((4, 4))[1], axis=1)
    return y[np.random.default_rng(3).permutation(len(y))] + np.take_along_axis(y, order, 1)


def held_rows(u):
    y = np.zeros((4, 4))
    y[:] = table(u)
    np.random.default_rng(3).shuffle(y)
    return y


@pytest.mark.filterwarnings("ignore:you are shuffling")
@pytest.mark.parametrize("f", [
    rows_exchanged, whole_rows, held_rows,
    lambda u: np.random.default_rng(3).permutation(table(u)),
    lambda u: np.random.default_rng(3).permutation(table(u), axis=1),
    lambda u: np.random.RandomState(3).permutation(table(u)),
    lambda u: shuffled(np.random.default_rng(3).shuffle, u * 2.0),
])
def test_rows_and_elements_in_another_order(f):
    np.testing.assert_array_equal(trace(f, (U,)).result, f(U))
    report = dd.testing.taylor_test(lambda u: np.sum(f(u) ** 2 * np.arange(4.0)), U)
    assert report.passed
