"""The identities a derivative satisfies, for every declared function, method and number of ranks."""

from __future__ import annotations

import numpy as np
import pytest
from functions import CASES, reference_jacobian
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import InputError
from distdiff.solvers.direct import available
from distdiff.testing import dot_product_test, taylor_test

SPREAD = {"partition": "axes", "min_block": 1}  # over all ranks, however small
METHODS = ["sweep", "substitution", "interface", "pipeline", "neumann", "krylov", "direct"]
pytestmark = pytest.mark.mpi
few_ranks = pytest.mark.few_ranks
HALF = [pytest.param(method, case, id=f"{method}-{case}", marks=few_ranks if (k + m) % 2 else ())
        for m, method in enumerate(METHODS) for k, case in enumerate(CASES)]
"""What a method meets of ranks is much the same in all programs: on most numbers of them, each method with half of the
programs, and each program by half of the methods."""


def _close(a, b, scale, factor=1e3):
    np.testing.assert_allclose(a, b, rtol=0, atol=factor * np.finfo(float).eps * max(scale, 1.0))


_fresh: dict[tuple[str, bytes, str], np.ndarray] = {}


def jacobian_at(case, x, method="auto"):
    """By a linearization of its own, over all ranks; made once, in the same order on all of them."""
    key = case.name, x.tobytes(), method
    if key not in _fresh:
        _fresh[key] = dd.jacobian(case.f, method=method, **SPREAD)(x)
    return _fresh[key]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_jacobian_is_the_reference(case):
    reference = reference_jacobian(case)
    jacobian = jacobian_at(case, case.x)
    shape = np.shape(case.f(case.x)) + case.x.shape
    assert jacobian.shape == shape
    tolerance = 1e3 if case.holomorphic else 1e7  # central differences of order 4 at h = 1e-3 carry about 1e-10
    _close(jacobian.reshape(reference.shape), reference, np.abs(reference).max(), tolerance)


@pytest.mark.parametrize("method, case", HALF)
def test_every_method_agrees_forward_and_transposed(case, method, comm):
    if method == "direct" and not available(comm.size):
        pytest.skip("this PETSc has no direct solver for several ranks")
    reference = reference_jacobian(case)
    rng = np.random.default_rng(1)
    with dd.linearize(case.f, case.x, method=method, **SPREAD) as lin:
        value = np.ravel(lin.value)
        np.testing.assert_allclose(value, np.ravel(case.f(case.x)), rtol=1e-12)
        v, w = rng.standard_normal(case.x.size), rng.standard_normal(value.size)
        jv = np.ravel(lin.jvp(v))
        jw = lin.vjp(w.reshape(np.shape(lin.value)))
    tolerance = 1e4 if case.holomorphic else 1e8
    _close(jv, reference @ v, np.abs(reference).max() * np.abs(v).sum(), tolerance)
    _close(jw, w @ reference, np.abs(reference).max() * np.abs(w).sum(), tolerance)


@few_ranks
@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_agree_with_one(case, comm):
    many = jacobian_at(case, case.x)
    one = dd.jacobian(case.f, comm=MPI.COMM_SELF)(case.x)
    _close(many, one, np.abs(one).max())


@few_ranks
@pytest.mark.parametrize("case", CASES[::3], ids=str)
@pytest.mark.parametrize("preaccumulate", [True, False])
@pytest.mark.parametrize("method", ["substitution", "krylov"])
def test_full_and_reduced_system_agree(case, method, preaccumulate):
    expected = jacobian_at(case, case.x, "sweep")
    with dd.linearize(case.f, case.x, method=method, preaccumulate=preaccumulate, **SPREAD) as lin:
        _close(lin.jacobian(), expected, np.abs(expected).max())
        report = lin.report()
        if not preaccumulate and report.ranks == 1:
            assert report.rows == report.nodes


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("method", ["sweep", "substitution"])
def test_update_equals_a_fresh_start(case, method):
    """Replay at a new point, retraced or not, gives what a new linearization there gives."""
    x = case.x * 1.02 + 0.01
    with dd.linearize(case.f, case.x, method=method, **SPREAD) as lin:
        value = lin.update(x)
        jacobian = lin.jacobian()
        again = lin.update(case.x)
        first = lin.jacobian()
    np.testing.assert_allclose(np.ravel(value), np.ravel(case.f(x)), rtol=1e-12)
    np.testing.assert_allclose(np.ravel(again), np.ravel(case.f(case.x)), rtol=1e-12)
    for got, at in ((jacobian, x), (first, case.x)):
        expected = jacobian_at(case, at)
        _close(got, expected, np.abs(expected).max())


@few_ranks
@pytest.mark.parametrize("case", CASES, ids=str)
def test_taylor_and_dot_product(case):
    with dd.linearize(case.f, case.x, **SPREAD) as lin:
        taylor = taylor_test(case.f, case.x, lin=lin)
        assert taylor.passed, str(taylor)
        dot = dot_product_test(case.f, case.x, lin=lin)
        assert dot.passed, str(dot)


@few_ranks
@pytest.mark.parametrize("argnums", [1, (0, 2), (2, 0), (1,), (0, -2)])
def test_tests_are_by_the_arguments_asked_for(argnums):
    """... whatever f writes into what it is given, with keywords and results beside."""
    def f(u, p, k, scale=1.0):
        u *= p["a"]
        u += k["b"][0]
        return np.sum(np.sin(u) * p["c"]) * scale + k["b"][1] ** 3, "beside"

    args = np.cos(np.arange(4.0)), {"a": 0.7, "c": np.arange(4.0)}, {"b": (1.3, 0.4)}
    kept = args[0].copy()
    told = {"argnums": argnums, "has_aux": True, "kwargs": {"scale": 1.7}, "comm": MPI.COMM_SELF}
    for order in (1, 2):
        taylor = taylor_test(f, *args, order=order, **told)
        assert taylor.passed and taylor.second[0] > taylor.floor, str(taylor)
    assert dot_product_test(f, *args, **told).passed
    np.testing.assert_array_equal(args[0], kept)
    with pytest.raises(InputError, match="argnums"):
        taylor_test(f, *args, argnums=7)


@few_ranks
def test_taylor_test_finds_a_wrong_derivative(monkeypatch):
    """The check itself can fail: a derivative off by 1e-4 has second-order remainders of rate 1."""
    f = CASES[1].f
    lin = dd.linearize(f, CASES[1].x)
    right = lin.jvp
    monkeypatch.setattr(lin, "jvp", lambda v: right(v) * 1.01)
    result = taylor_test(f, CASES[1].x, lin=lin)
    lin.close()
    assert not result.passed and result.rates[-1] < 1.2


@few_ranks
@pytest.mark.parametrize("size", [1e306, 1e200, 1e158, 1e100, 1e-9, 1e-100, 1e-200, 1e-300])
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_taylor_test_measures_at_every_size(size, right):
    """Steps and norms go with the size of x: neither is lost, and no square overflows or underflows."""
    linear, square = dd.custom_jvp(lambda x: x * 1.0), dd.custom_jvp(lambda x: x * x)
    linear.defjvp(lambda p, t: (p[0] * 1.0, (1.0 if right else -7.0) * t[0]))
    square.defjvp(lambda p, t: (p[0] * p[0], (2.0 if right else 5.0) * p[0] * t[0]))
    for f in (linear, lambda x: square(x / size) * size):
        result = taylor_test(f, np.array([1.0, 2.0]) * size)
        assert result.passed == right, str(result)


@few_ranks
def test_taylor_test_that_measured_nothing_has_not_passed():
    end = taylor_test(lambda x: x * 1.0, np.array([1e308, np.finfo(float).max]), h=1e3)
    assert not end.passed and "not finite" in str(end)
    still = taylor_test(lambda x: x * 1.0, np.ones(2), direction=np.full(2, 1e-30))
    assert not still.passed and "nothing was measured" in str(still)
    tiny = dd.custom_jvp(lambda x: x * 1.0)  # of a size that is lost beside the other term: larger steps find it
    tiny.defjvp(lambda p, t: (p[0] * 1.0, -7.0 * t[0]))
    assert not taylor_test(lambda x: 1.0 + tiny(x), np.full(2, 1e-15)).passed


@few_ranks
def test_dot_product_test_beyond_the_range_of_numbers():
    lin = dd.linearize(lambda x: x * 2.0, np.array([1.0, 2.0]) * 1e200)
    assert dot_product_test(lambda x: x * 2.0, np.array([1.0, 2.0]) * 1e200, lin=lin).passed
    right = lin.vjp
    lin.vjp = lambda w: right(w) * 1.5
    for size in (1e200, 1e-200):
        result = dot_product_test(lambda x: x * 2.0, np.array([1.0, 2.0]) * size, lin=lin)
        assert not result.passed, str(result)
    lin.close()


@few_ranks
def test_taylor_test_finds_that_f_is_no_function():
    rng = np.random.default_rng(0)
    result = taylor_test(lambda x: np.sum(x * rng.random(3)), np.ones(3))
    assert not result.passed and "run twice at the same point, it gives results that differ" in str(result)


@few_ranks
def test_taylor_test_finds_a_trace_that_took_another_way():
    """A type test sees a traced scalar, not a float: the trace is of another function, and the test says so."""
    result = taylor_test(lambda t: t * t if type(t) in (float, np.float64) else 0.0 * t, 3.0)
    assert not result.passed and "types" in str(result)


def test_large_repeats_keep_their_values():
    """Arrays copied into fresh nodes because their ids are irregular keep the values that solves and outputs read."""
    x = np.random.default_rng(0).standard_normal(150)
    gradient = dd.grad(lambda x: np.sin(np.concatenate([np.repeat(x, 2), x])).sum())(x)
    np.testing.assert_allclose(gradient, 3 * np.cos(x), rtol=1e-12)
    value, derivative = dd.jvp(lambda x: (x, np.repeat(x, 2)), (x,), (x,))
    np.testing.assert_array_equal(value[1], np.repeat(x, 2))
    np.testing.assert_array_equal(derivative[1], np.repeat(x, 2))
