"""What is refused stays refused: neither an `except` in the function nor NumPy's other array classes get round it."""

from __future__ import annotations

import math
import numbers

import numpy as np
import pytest

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
