"""Matrices that have lost their rank: determinants, which have all derivatives there, and pseudoinverses with a cutoff.

A determinant is a polynomial in any direction, so its derivatives can be read off values at a few points, exactly.
"""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import NotDifferentiableError, UnsupportedOperationError
from distdiff.testing import taylor_test
from distdiff.tracing.matrices import minors

ALONE = MPI.COMM_SELF
RNG = np.random.default_rng(11)


def of_rank(rank, n, m=None, values=None):
    """An n x m matrix of that rank, or with these singular values."""
    m = n if m is None else m
    given = [1.5, 0.8, 2.2, 1.1][:rank] if values is None else values
    s = np.diag([*given, *[0.0] * min(m, n)][: min(m, n)])
    u, v = (np.linalg.qr(RNG.normal(size=(k, k)))[0][:, : min(m, n)] for k in (n, m))
    return u @ s @ v.T


def slope(g, degree):
    """g'(0) of a polynomial g of that degree at most."""
    t = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    values = np.array([g(x) for x in t])
    powers = np.linalg.solve(np.vander(t, increasing=True), values.reshape(len(t), -1))
    return powers[1 if degree else 0].reshape(values.shape[1:]) * (degree > 0)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("n, rank", [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 2), (4, 3), (4, 4)])
def test_determinants_to_fourth_order(n, rank):
    """Each derivative against the one before; det itself is NumPy's."""
    a, e, f, g = of_rank(rank, n), *RNG.normal(size=(3, n, n))

    def first(x):
        return dd.grad(np.linalg.det, comm=ALONE)(x)

    def second(x):
        return dd.hvp(np.linalg.det, (x,), (e,), comm=ALONE)

    def third(x):
        return dd.jvp(second, (x,), (f,), comm=ALONE)[1]

    close(np.sum(first(a) * e), slope(lambda t: np.linalg.det(a + t * e), n))
    close(second(a), slope(lambda t: first(a + t * e), n - 1))
    close(third(a), slope(lambda t: second(a + t * f), n - 1))
    close(np.sum(dd.grad(lambda x: np.sum(second(x) * g), comm=ALONE)(a) * f), np.sum(third(a) * g))
    close(dd.jvp(third, (a,), (g,), comm=ALONE)[1], slope(lambda t: third(a + t * g), n - 1))


@pytest.mark.parametrize("n, rank", [(1, 0), (2, 1), (3, 1), (3, 3)])
def test_complex_determinants_to_third_order(n, rank):
    a, b = of_rank(rank, n), 0.0 * np.eye(n)
    if rank > 1:
        b = RNG.normal(size=(n, n))
    e, f, g = RNG.normal(size=(3, n, n)), RNG.normal(size=(3, n, n)), 0.3 - 0.7j

    def det(x, y):
        return np.real(np.linalg.det(x + 1j * y) * g)

    def of(k):
        return e[k], f[k]

    def moved(k, t):
        return a + t * e[k], b + t * f[k]

    def second(x, y):
        return dd.hvp(det, (x, y), of(1), comm=ALONE)

    first = dd.grad(det, (0, 1), comm=ALONE)
    close(sum(np.sum(p * q) for p, q in zip(first(a, b), of(0))), slope(lambda t: det(*moved(0, t)), n))
    close(dd.jvp(det, (a, b), of(0), comm=ALONE)[1], slope(lambda t: det(*moved(0, t)), n))
    close(second(a, b), slope(lambda t: np.array(first(*moved(1, t))), n - 1))
    close(dd.jvp(second, (a, b), of(2), comm=ALONE)[1], slope(lambda t: np.array(second(*moved(2, t))), n - 1))


def test_many_determinants_of_which_one_is_singular():
    a = np.stack([of_rank(k, 3) for k in (3, 2, 0, 1, 3)])
    v = RNG.normal(size=a.shape)
    np.testing.assert_array_equal(
        dd.hvp(lambda x: np.sum(np.linalg.det(x)), (a,), (v,), comm=ALONE).round(10),
        np.stack([dd.hvp(np.linalg.det, (x,), (w,), comm=ALONE) for x, w in zip(a, v)]).round(10))


def test_a_nearly_singular_determinant_keeps_its_digits():
    """By the inverse the second derivative would be a difference of terms of order 1e22."""
    u, v = (np.linalg.qr(RNG.normal(size=(3, 3)))[0] for _ in range(2))
    e = RNG.normal(size=(3, 3))

    def at(small):
        a = u @ np.diag([1.0, 0.5, small]) @ v
        return dd.hvp(np.linalg.det, (a,), (e,), comm=ALONE)

    for small in (1e-11, 1e-6, 1e-2):
        np.testing.assert_allclose(at(small), (1.0 - small) * at(0.0) + small * at(1.0), rtol=1e-9, atol=1e-11)


def test_where_determinants_end():
    with pytest.raises(NotDifferentiableError, match="derivative of slogdet is wanted at a singular matrix"):
        dd.grad(lambda a: np.linalg.slogdet(a)[1], comm=ALONE)(np.ones((3, 3)))
    with pytest.raises(NotDifferentiableError, match="slogdet is wanted at a singular complex matrix"):
        dd.grad(lambda a: np.linalg.slogdet(a + 0j)[1], comm=ALONE)(np.eye(3, k=1))
    with pytest.raises(UnsupportedOperationError, match="up to order 8"):
        minors.check(8)
    u, s, vt = np.linalg.svd(np.zeros((600, 600)))
    with pytest.raises(UnsupportedOperationError, match="order 600 that is nearly singular"):
        minors.by_singular_values(u, s, vt, [np.eye(600)] * 2)


PINV = [  # shape, singular values, what counts as zero of the largest
    ((4, 3), (3.0, 2.0, 0.1), 0.2), ((3, 4), (3.0, 3.0, 0.0), 0.2), ((3, 3), (2.0, 0.0, 0.0), 0.1),
    ((2, 5), (2.0, 1e-9), 1e-6), ((3, 3), (2.0, 0.1, 0.1), 0.1), ((3, 2), (0.0, 0.0), 0.1)]


@pytest.mark.parametrize("shape, values, rcond", PINV)
def test_pseudoinverses_with_a_cutoff(shape, values, rcond):
    """Of what is computed: the pseudoinverse without the small singular values, to third order."""
    a = of_rank(len(values), *shape, values=values)
    if not any(values):
        with pytest.raises(NotDifferentiableError, match="of rank 0, whose singular value 0 is within rounding"):
            dd.grad(lambda x: np.sum(np.linalg.pinv(x, rcond)), comm=ALONE)(a)
        return
    v, w = RNG.normal(size=(2, *shape))
    weights, h = RNG.normal(size=shape[::-1]), 1e-4 if values[-1] > 1e-8 or rcond > 1e-3 else 1e-7

    def f(x):
        p = np.linalg.pinv(x, rcond)
        return np.sum(weights * p + 0.1 * p * p)

    def second(x):
        return np.sum(dd.hvp(f, (x,), (v,), comm=ALONE) * w)

    def difference(g, d):
        return (8 * (g(a + h * d) - g(a - h * d)) - g(a + 2 * h * d) + g(a - 2 * h * d)) / (12 * h)

    gradient = dd.grad(f, comm=ALONE)(a)
    near = {"rtol": 1e-6, "atol": 1e-6}
    np.testing.assert_allclose(np.sum(gradient * v), difference(f, v), **near)
    np.testing.assert_allclose(dd.jvp(f, (a,), (v,), comm=ALONE)[1], np.sum(gradient * v), rtol=1e-11)
    np.testing.assert_allclose(second(a), difference(lambda x: np.sum(dd.grad(f, comm=ALONE)(x) * v), w), **near)
    np.testing.assert_allclose(dd.jvp(second, (a,), (w,), comm=ALONE)[1], difference(second, w), rtol=1e-5, atol=1e-5)
    F = dd.recorded(f, comm=ALONE)
    for x in (a, of_rank(min(shape), *shape), a):  # of other ranks, decided where second derivatives are traced
        np.testing.assert_allclose(F.hvp(x, v), dd.hvp(f, (x,), (v,), comm=ALONE), rtol=1e-9, atol=1e-9)


def test_least_squares_of_a_matrix_without_full_rank():
    a, b = of_rank(2, 5, 3), RNG.normal(size=5)
    test = taylor_test(lambda b: np.sum(np.linalg.lstsq(a, b, rcond=1e-8)[0] ** 3), b, order=2, comm=ALONE)
    assert test.passed, str(test)
    gradient = dd.grad(lambda a: np.sum(np.linalg.lstsq(a, b, rcond=0.01)[0] ** 3), comm=ALONE)(a)
    expected = dd.grad(lambda a: np.sum((np.linalg.pinv(a, 0.01) @ b) ** 3), comm=ALONE)(a)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-12)


def test_many_pseudoinverses_and_complex_ones():
    a = np.stack([of_rank(2, 4, 3), of_rank(3, 4, 3), of_rank(1, 4, 3)])
    weights = RNG.normal(size=(3, 3, 4))

    def f(x):
        return np.sum(np.linalg.pinv(x, 1e-6) ** 2 * weights)

    one_by_one = np.stack([dd.grad(lambda x, w: np.sum(np.linalg.pinv(x, 1e-6) ** 2 * w), comm=ALONE)(x, w)
                           for x, w in zip(a, weights)])
    np.testing.assert_allclose(dd.grad(f, comm=ALONE)(a), one_by_one, rtol=1e-10, atol=1e-10)
    with dd.linearize(f, a, comm=ALONE, method="substitution") as lin:
        np.testing.assert_allclose(lin.vjp(1.0), one_by_one, rtol=1e-10, atol=1e-10)

    def turned(x):
        return np.sum(np.linalg.pinv(1j * x, 1e-6).imag ** 2 * weights)

    np.testing.assert_allclose(dd.grad(turned, comm=ALONE)(a), one_by_one, rtol=1e-9, atol=1e-9)


def test_in_files(tmp_path):
    """The second derivatives of a tape, which hold what no function's own tape does."""
    a, b = of_rank(2, 3), of_rank(2, 4, 3)

    def f(a, b):
        first = dd.grad(lambda x: np.linalg.det(x) + np.real(np.linalg.det(x + 1j * x.T)), comm=ALONE)(a)
        return np.sum(first**2) + np.sum(dd.grad(lambda x: np.sum(np.linalg.pinv(x, 1e-6) ** 2), comm=ALONE)(b) ** 2)

    dd.trace(f, a, b, argnums=(0, 1)).save(tmp_path / "f.tape")
    g, x = dd.load(tmp_path / "f.tape"), (1.01 * a, 1.01 * b)
    there = [*dd.grad(g, argnums=(0, 1), comm=ALONE)(*x), *dd.hvp(g, x, x, comm=ALONE)]
    here = [*dd.grad(f, argnums=(0, 1), comm=ALONE)(*x), *dd.hvp(f, x, x, comm=ALONE)]
    for p, q in zip(there, here, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-9)
