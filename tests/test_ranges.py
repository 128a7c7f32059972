"""Tangents and adjoints that leave the range of double precision on their way: right all the same, or an error."""

from __future__ import annotations

import threading
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff import flags
from distdiff.errors import FallbackWarning, NonFiniteError, PrecisionWarning, RangeError
from distdiff.solvers import METHODS
from distdiff.solvers.ranges import Found, Ranges
from distdiff.solving import Solving

FAILING, WORLD = ("krylov", "petsc", "direct"), MPI.COMM_WORLD

pytestmark = [pytest.mark.mpi, pytest.mark.few_ranks, pytest.mark.timeout(90)]

LOST = {  # factors whose product is 1, one after another: what the way from either end leaves the range by
    "under": [1e-300, 1e-300, 1e300, 1e300],
    "over": [1e300, 1e300, 1e-300, 1e-300],
    "under later": [1e100, 1e-250, 1e-250, 1e200, 1e200],
    "subnormal": [1e-160, 1e-160, 1e160, 1e160],  # digits are lost, and the exponent isn't
    "again and again": [1e-300, 1e-300, 1e300, 1e300] * 5,
}
FURTHER = {  # no power of two of the seed is far enough
    "far under": [1e-300] * 4 + [1e300] * 4,
    "far over": [1e300] * 4 + [1e-300] * 4,
    "far over and under": [1e300] * 3 + [1e-300] * 6 + [1e300] * 3,
}


def some(table: dict[str, list[float]], *on_ranks: str) -> list[Any]:
    """All of them on one rank, and these on several."""
    return [pytest.param(table[name], id=name) for name in (table if WORLD.size == 1 else on_ranks)]


def on_arrays(factors: list[float]) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for factor in factors:
            x = x * factor
        return x
    return f


def on_floats(factors: list[float]) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        found = []
        for k in range(2):
            y = x[k]
            for factor in factors:
                y = y * factor
            found.append(y)
        return np.stack(found)
    return f


def compiled(factors: list[float]) -> Callable[[Any], Any]:
    given = np.array(factors)

    @dd.compiled
    def loop(x: Any, given: Any) -> Any:
        for k in range(len(given)):
            x = x * given[k]
        return x

    return lambda x: np.stack([loop(x[0], given), loop(x[1], given)])


@pytest.fixture
def solves(monkeypatch) -> list[bool]:
    """The solves that were made, by direction."""
    made: list[bool] = []
    once = Solving._once
    monkeypatch.setattr(Solving, "_once",
                        lambda self, *args: (made.append(args[0]), once(self, *args))[1])
    return made


@pytest.mark.parametrize("method", ["auto", *(name for name in METHODS if WORLD.size == 1 or name not in FAILING)])
@pytest.mark.parametrize("factors", some(LOST, "under", "over", "again and again"))
@pytest.mark.parametrize("form", [on_arrays, on_floats])
def test_from_another_seed(comm, method, factors, form):
    """Both directions, one and twenty columns, again, and at another point; nobody is bothered, unless the method
    can't: norms, and an interface's transfer matrices on many ranks, leave the range as well."""
    layout = {"partition": "axes" if form is on_arrays else "contiguous", "min_block": 1} if comm.size > 1 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if method in FAILING or (method == "interface" and comm.size > 2) else "error")
        with dd.linearize(form(factors), np.zeros(2), comm=comm, method=method, **layout) as lin:
            seeds = np.linspace(-1.0, 2.0, 40).reshape(2, 20)
            for _ in range(2):
                for solve in lin.jvp, lin.vjp:
                    np.testing.assert_allclose(solve(np.array([1.0, -3.0])), [1.0, -3.0], rtol=1e-12)
                    np.testing.assert_allclose(solve(np.array([1e-200, 0.0])), [1e-200, 0.0], rtol=1e-12)
                    np.testing.assert_allclose(solve(np.array([1e-5, 1e3])), [1e-5, 1e3], rtol=1e-12)
                for kind in "jvp", "vjp":
                    np.testing.assert_allclose(lin.batch(kind, seeds), seeds, rtol=1e-12)
                lin.update(np.zeros(2))


@pytest.mark.parametrize("method", ["auto", "sweep", "substitution", "krylov", "interface"])
@pytest.mark.parametrize("factors", some(FURTHER, "far under", "far over and under"))
@pytest.mark.parametrize("form", [on_arrays, on_floats])
def test_with_exponents(comm, method, factors, form):
    """What no seed has in range is solved with exponents of their own, which is told once a point, or is an error."""
    layout = {"partition": "axes" if form is on_arrays else "contiguous", "min_block": 1} if comm.size > 1 else {}
    seeds = np.array([[1.0, -3.0, 0.0], [2.0, 0.5, 4.0]])
    with dd.linearize(form(factors), np.zeros(2), comm=comm, method=method, **layout) as lin:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for kind in "jvp", "vjp":
                np.testing.assert_allclose(getattr(lin, kind)(seeds[:, 0]), seeds[:, 0], rtol=1e-12)
                np.testing.assert_allclose(lin.batch(kind, seeds), seeds, rtol=1e-12)
        assert "exponents of their own" in lin.report().ranges and "range        tangents leave" in str(lin.report())
        told = [str(w.message) for w in caught]
        assert all(w.category is FallbackWarning and w.filename == __file__ for w in caught)
        assert len([text for text in told if "exponents of their own" in text]) == (comm.rank == 0), told
    with dd.linearize(form(factors), np.zeros(2), comm=comm, method=method, on_failure="raise", **layout) as lin:
        for solve in lin.jvp, lin.vjp:
            with pytest.raises((RangeError, dd.errors.ConvergenceError)):
                solve(seeds[:, 0])


@pytest.mark.parametrize("factors", [LOST["under"], LOST["over"], FURTHER["far under"]])
def test_every_way_to_ask(comm, factors):
    x, v = np.zeros(2), np.array([1.0, -3.0])  # where values stay
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        for f in on_arrays(factors), on_floats(factors), *[compiled(factors)] * (factors is LOST["under"]):
            def total(x, f=f):
                return np.sum(f(x))
            np.testing.assert_allclose(dd.grad(total, comm=comm)(x), 1.0, rtol=1e-12)
            np.testing.assert_allclose(dd.jvp(f, (x,), (v,), comm=comm)[1], v, rtol=1e-12)
            np.testing.assert_allclose(dd.vjp(f, x, comm=comm)[1](v)[0], v, rtol=1e-12)
            np.testing.assert_allclose(dd.jacobian(f, comm=comm)(x), np.eye(2), rtol=1e-12)
            np.testing.assert_allclose(dd.recorded(total, comm=comm).grad(x), 1.0, rtol=1e-12)


def test_second_derivatives(comm):
    """Of squares of what has come back into range: values, first and second derivatives on one tape."""
    def f(x):
        return np.sum((x * 1e-300 * 1e-300 * 1e300 * 1e300) ** 2)

    v = np.array([1.0, -3.0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        with dd.linearize(f, np.ones(2), comm=comm) as lin:
            np.testing.assert_allclose(lin.hvp(v), 2 * v, rtol=1e-12)
            np.testing.assert_allclose(lin.hessian(), 2 * np.eye(2), rtol=1e-12)
        np.testing.assert_allclose(dd.hvp(f, (np.ones(2),), (v,), comm=comm), 2 * v, rtol=1e-12)


def little_by_little(x: Any) -> Any:
    """Times 1/8 until there is no number for the product, no factor of which is small, and times 8 again."""
    found = []
    for k in range(2):
        y = x[k]
        for factor in 0.125, 8.0:
            for _ in range(360):
                y = factor * y
        found.append(y)
    return np.stack(found)


@pytest.mark.parametrize("method", ["substitution", "interface"])
def test_elimination_of_small_steps(comm, method):
    """Eliminated, the first half of each is one partial derivative, of which nothing is left."""
    seeds = np.array([[1.0, -3.0, 0.0], [2.0, 0.5, 4.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if method == "interface" and comm.size > 2 else "error")
        with dd.linearize(little_by_little, np.ones(2), comm=comm, method=method) as lin:
            for _ in range(2):
                for kind in "jvp", "vjp":
                    np.testing.assert_array_equal(lin.batch(kind, seeds), seeds)
                    np.testing.assert_array_equal(getattr(lin, kind)(seeds[:, 0]), seeds[:, 0])
                lin.update(np.ones(2))


# -- what is lost for good, and does no harm


def tails(x: Any) -> Any:
    """A sum of densities, most of them far away."""
    return np.sum(np.exp(-x * x) * x)


def fading(x: Any) -> Any:
    """A contraction that has forgotten where it began, and what it was given last."""
    y = x
    for _ in range(350):
        y = 0.01 * y + np.sin(x) * 1e-3
    return np.sum(y)


@pytest.mark.parametrize("method", ["sweep", "substitution", "krylov", "petsc", "direct"])
def test_tails_are_no_matter(comm, solves, method):
    """A few more solves at the first point (norms overflow before adjoints do), and none at others."""
    x = np.linspace(20.0, 27.5, 40)  # products go down to 1e-325
    exact = np.exp(-x * x) * (1.0 - 2.0 * x * x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dd.linearize(tails, x, comm=comm, method=method, preaccumulate=False) as lin:
            for turn in range(3):
                solves.clear()
                np.testing.assert_allclose(lin.vjp(1.0), exact, rtol=1e-10, atol=1e-322)
                assert len(solves) <= (1 if turn else 2 if method in ("sweep", "substitution") else 3)
                lin.update(x)
        np.testing.assert_allclose(dd.grad(tails, comm=comm)(x), exact, rtol=1e-10, atol=1e-322)


def test_rules_need_not_take_what_nobody_asked_for(comm):
    """A user's rule that refuses large adjoints, beside what fades away."""
    asked: list[float] = []

    @dd.custom_vjp
    def twice(x):
        return 2.0 * x

    def backward(_, w):
        asked.append(float(np.abs(w).max()))
        if asked[-1] > 1e50:
            raise ValueError("too large")
        return (2.0 * w,)

    twice.defvjp(lambda x: (2.0 * x, None), backward)

    def f(x):
        y = x
        for _ in range(350):
            y = 0.01 * y + np.sin(x)
        return np.sum(twice(y))

    x = np.linspace(0.1, 1.0, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dd.linearize(f, x, comm=comm, method="sweep") as lin:
            for _ in range(2):
                np.testing.assert_allclose(lin.vjp(1.0), 2.0 / 0.99 * np.cos(x), rtol=1e-9)
                lin.update(x)
    if comm.rank == 0:
        assert max(asked) > 1e50


@pytest.mark.parametrize("method", ["sweep", "substitution"])
def test_what_fades_for_good_is_no_matter(comm, solves, method, monkeypatch):
    """That nothing grows is looked at once a point; no exponents, no warnings."""
    def no_way(self):
        raise AssertionError("exponents")

    monkeypatch.setattr(Solving, "_widen", no_way)
    looked: list[int] = []
    overflows = Solving._overflows
    monkeypatch.setattr(Solving, "_overflows", lambda self, q: (looked.append(q), overflows(self, q))[1])
    x = np.linspace(0.1, 1.0, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dd.linearize(fading, x, comm=comm, method=method) as lin:
            for turn in range(3):
                solves.clear()
                looked.clear()
                for _ in range(2):
                    np.testing.assert_allclose(lin.vjp(1.0), 1e-3 / 0.99 * np.cos(x), rtol=1e-9)
                assert len(looked) == (method == "sweep") and len(solves) <= (5 if turn == 0 else 2)
                lin.update(x)


def test_elimination_stays_where_what_it_loses_is_no_matter(comm, monkeypatch):
    """Nothing grows, as one look a point tells: a contraction of what another argument gives stays a row a result."""
    looked: list[int] = []
    overflows = Solving._overflows
    monkeypatch.setattr(Solving, "_overflows", lambda self, q: (looked.append(q), overflows(self, q))[1])

    def f(x: Any) -> Any:
        y = x[:4]
        for _ in range(200):
            y = 0.01 * y + np.sin(x[4:]) * 1e-3
        return y

    x = np.linspace(0.1, 1.0, 8)
    exact = np.hstack([np.zeros((4, 4)), np.diag(1e-3 / 0.99 * np.cos(x[4:]))])
    with dd.linearize(f, x, comm=comm, method="substitution") as lin:
        for _ in range(2):
            looked.clear()
            np.testing.assert_allclose(lin.jvp(np.ones(8)), exact.sum(axis=1), rtol=1e-9)
            np.testing.assert_allclose(lin.batch("vjp", np.eye(4)).T, exact, rtol=1e-9)
            assert len(looked) == 1 and lin.report().rows == 12
            lin.update(x)


def test_growth_in_the_midst_of_what_fades(comm):
    """Seeds fade before it and after it, from either end."""
    factors = [1e-300] * 4 + [1e300] * 8 + [1e-300] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        for method in "sweep", "substitution":
            with dd.linearize(on_arrays(factors), np.zeros(2), comm=comm, method=method) as lin:
                for solve in lin.jvp, lin.vjp:
                    np.testing.assert_allclose(solve(np.array([1.0, 2.0])), [1.0, 2.0], rtol=1e-12)


def test_results_out_of_range_are_what_they_are(comm):
    """Too small for a number is 0, or what is left of it; too large an error."""
    for factors, exact in ([1e-300] * 3, 0.0), ([1e-160, 1e-160, 3.0], 3e-320), ([1e-300] * 5, 0.0):
        with dd.linearize(on_arrays(factors), np.zeros(2), comm=comm) as lin:
            for solve in lin.jvp, lin.vjp:
                np.testing.assert_allclose(solve(np.ones(2)), exact, rtol=1e-3)
    with dd.linearize(on_arrays([1e200, 1e200]), np.full(2, 1e-200), comm=comm) as lin:
        for solve in lin.jvp, lin.vjp:
            with pytest.raises(NonFiniteError, match="above all numbers"):
                solve(np.ones(2))


# -- partials, and products of matrices


AT_THE_ENDS = [  # x, 1, with values and derivatives in range, and squares out of it
    (lambda x: np.arctan2(1e200 * x, 1e200), 0.5), (lambda x: np.arctan2(1e-200, 1e-200 * x), -0.5),
    (lambda x: np.arccosh(1e200 * x), 1.0), (lambda x: 1e-200 * np.hypot(1e200 * x, 1e200), 0.5**0.5)]


@pytest.mark.parametrize("method", ["sweep", "substitution"])
def test_rules_hold_where_squares_are_out_of_range(comm, method):
    x = np.ones(2)
    for rule, slope in AT_THE_ENDS[:1 if comm.size > 1 else None]:
        compiled = dd.compiled(rule)
        for f in rule, lambda x, rule=rule: np.stack([rule(x[0]), rule(x[1])]), lambda x, rule=compiled: np.stack(
                [rule(x[0]), rule(x[1])]):
            with dd.linearize(f, x, comm=comm, method=method) as lin:
                np.testing.assert_allclose(lin.vjp(x), slope, rtol=1e-12)
                np.testing.assert_allclose(lin.jvp(x), slope, rtol=1e-12)


ROUNDED = [lambda x: 1.0 / (1e200 * x) * 1e200, lambda x: (1e200 * x)**-1.0 * 1e200, lambda x: np.arctan(1e170 * x),
           lambda x: np.arctan(1e200 * x) * 1e200]
UNHARMED = [lambda x: x + np.logaddexp(x, 900.0), lambda x: np.sinh(x) / 1e300 / 1e10 + x,
            lambda x: x + 1.0 / (1e200 + x)]


@pytest.mark.parametrize("method, preaccumulate", [
    ("auto", True), ("sweep", True), ("substitution", True), ("substitution", False), ("krylov", True)])
def test_partials_that_doubles_do_not_hold_are_told_of(comm, method, preaccumulate):
    """1 / x at 1e200 has one of 1e-400.  Once a point, on rank 0, or an error; not where they are no matter."""
    x, ranks = np.ones(2), comm.size > 1
    for rule in (ROUNDED[:1] + UNHARMED[:1] if ranks else ROUNDED + UNHARMED):
        for f in rule, lambda x, rule=rule: np.stack([rule(x[0]), rule(x[1])]):
            settings = {"comm": comm, "method": method, "preaccumulate": preaccumulate}
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with dd.linearize(f, x, **settings) as lin:
                    for _ in range(2):
                        for solve in lin.vjp, lin.jvp:
                            found = solve(x)
            told = [str(w.message) for w in caught if w.category is PrecisionWarning]
            if rule in ROUNDED:
                assert len(told) == (comm.rank == 0), told
                assert all("test_ranges.py" in text or "a scalar line" in text for text in told)
                with dd.linearize(f, x, on_failure="raise", **settings) as lin:
                    with pytest.raises((RangeError, dd.errors.ConvergenceError)):
                        lin.vjp(x)
            else:
                assert not caught and np.isfinite(found).all()


@pytest.fixture
def threads(monkeypatch):
    """Products of matrices by a thread of BLAS's own, whose flags nobody sees."""
    multiply = np.matmul

    def apart(*factors: Any, **more: Any) -> Any:
        found: list[Any] = []

        def work() -> None:
            with np.errstate(all="ignore"):
                found.append(multiply(*factors, **more))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return found[0]

    monkeypatch.setattr("distdiff.strided.np", types.SimpleNamespace(**{**vars(np), "matmul": apart}))


@pytest.mark.parametrize("a, b, under, over", [
    (1e-200, 1e-200, True, False), (1e200, 1e200, False, True), (1.0, 1.0, False, False), (0.0, 1e-300, False, False),
    (1e-160, 1e-150, True, False), ((1.0, 0.0), 1e-300, False, False), ((1.0, 1e-20), 1e-300, False, False),
    ((1e-300, 0.0), (0.0, 1e-300), True, False), (np.inf, 1.0, False, False), (np.nan, 1e-300, False, False)])
@pytest.mark.parametrize("shape", [(60, 3, 50), (9, 500, 1), (2, 1, 70, 70, 3)])
def test_magnitudes_tell_what_threads_of_blas_have_lost(a, b, under, over, shape):
    """Zeros, by which what is small is multiplied, lose nothing, nor do terms beside others far larger."""
    *stack, m, k, n = shape
    a, b = np.resize(a, (*stack, m, k)), np.resize(b, (*stack, k, n))
    with np.errstate(all="ignore"):
        product = a @ b
    with flags.Watched() as seen:
        flags.note_product(a, b, product)
    assert (seen.under, seen.over) == (under, over)
    flags.note_product(a, b, product)  # nobody looks


def test_rows_of_zeros_are_all_that_is_looked_at(monkeypatch):
    """Pixels that are black in all images: their sums are zero, and say nothing of the others."""
    looked, least = [], flags._least
    monkeypatch.setattr(flags, "_least", lambda x, wanted: looked.append(int(wanted.sum())) or least(x, wanted))
    a, b = np.full((64, 1000), 1e-3), np.full((1000, 10), 1e-6)
    a[[0, 32, 39]] = 0.0
    for scale, rows, columns in ((1.0, 3, 0), (1e-302, 64, 10)):
        with flags.Watched() as seen:
            flags.note_product(a[None], scale * b[None], scale * (a @ b)[None])
        assert looked == [rows, columns] and seen.under == (columns > 0)
        looked.clear()


@pytest.mark.parametrize("factors", [LOST["under"], LOST["over"]])
@pytest.mark.parametrize("method", ["sweep", "substitution"])
def test_products_in_threads_of_blas(comm, factors, method, threads):
    matrices = [np.eye(70) * factor for factor in factors]

    def f(x):
        for A in matrices:
            x = A @ x
        return x

    x, v = np.zeros((70, 3)), np.linspace(1.0, 2.0, 210).reshape(70, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with dd.linearize(f, x, comm=comm, method=method) as lin:
            for solve in lin.jvp, lin.vjp:
                np.testing.assert_allclose(solve(v), v, rtol=1e-12)


# -- the parts


@pytest.mark.parametrize("how", [
    lambda a: a * a, lambda a: a @ a, lambda a: np.dot(a, a), lambda a: np.einsum("ij,jk->ik", a, a),
    lambda a: float(a[0, 0]) * float(a[0, 1]), lambda a: np.multiply.accumulate(a), lambda a: [a * a, a + a],
    lambda a: [np.dot(a, a), flags.note(), a + a]])
def test_flags(how):
    """Raised by ufuncs, by libraries and by Python, and lowered by the next ufunc unless they are noted."""
    for size, under, over in (1e-200, True, False), (1e200, False, True), (1.5, False, False):
        with flags.Watched() as outer:
            with flags.Watched() as seen:
                how(np.full((3, 3), size))
            assert (seen.under, seen.over) == (under, over)
        assert (outer.under, outer.over) == (False, False)  # who looked has seen to it


def test_ranges_give_up(comm):
    """No power is without loss, and errors may grow: nothing is returned."""
    tried = []

    def solve(forward: bool, seed: np.ndarray, trial: bool) -> Found:
        tried.append(seed[0])
        return Found(seed, True, bool(seed[0] > 2.0**300))

    ranges = Ranges(comm, comm, solve, lambda q: True)
    assert ranges.solve(True, np.ones(1)) is None and len(tried) <= 12
    fine = Ranges(comm, comm, solve, lambda q: q > 500)
    assert fine.solve(True, np.ones(1)) is not None
