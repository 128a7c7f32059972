"""NaN among data, which the function passes over on its way: its result depends on nothing that is made of them."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import NonFiniteError
from distdiff.kernels import jit

ALONE = MPI.COMM_SELF
U = np.array([0.9137, 1.7214, 0.4353, 1.3079, 0.6181, 1.1231])
D = U[::-1].copy()
D[[2, 4]] = np.nan
THERE = ~np.isnan(D)
WITH = np.outer(D, U)

PASSED_OVER = {
    "nansum": lambda u: np.nansum((u - D) ** 2),
    "nanmean": lambda u: np.nanmean(np.exp(u - D) * u),
    "nanvar": lambda u: np.nanvar((u - D) ** 2),
    "nanmax": lambda u: np.nanmax((u - D) ** 2) + np.sum(u**2),
    "mask": lambda u: np.sum((np.sin(u - D) ** 2)[THERE]),
    "where": lambda u: np.sum(np.where(THERE, np.tanh(u - D) ** 2, u)),
    "fmax": lambda u: np.sum(np.fmax((u - D) ** 2, 0.3)),
    "nan_to_num": lambda u: np.sum(np.nan_to_num((u - D) ** 2, nan=0.7)),
    "on and on": lambda u: np.nansum((np.tanh(u - D) * np.cumsum(u)) ** 2),
    "scalars": lambda u: sum(np.where(np.isnan(t := (x - y) ** 2), 0.1, t) for x, y in zip(u, D)),
    "factor": lambda u: np.nansum(u * D) + np.nansum((u[0] * D) ** 2) + np.sum(np.where(THERE, D * np.sin(u), u)),
    "factor, then a mask": lambda u: np.sum((u * D)[THERE] ** 2) + np.sum(u[1] * D, where=THERE),
    "quotients and powers": lambda u: np.nansum(u / D) + np.nansum(D / u) + np.nansum(u**D) + np.nansum(np.hypot(u, D)),
    "numbers": lambda u: np.nansum(u * np.nan + u / np.nan) + np.nansum(u**np.nan) + np.nanmean(D * u * u[0]),
    "scalar factors": lambda u: sum(np.where(np.isnan(t := x * y + x / y + y / x), 0.1, t) for x, y in zip(u, D)),
    "sum of products": lambda u: np.nansum((WITH @ u) ** 2) + np.nansum(u @ WITH) + np.nansum(np.outer(D, u)),
    "beside a solve": lambda u: np.nansum(u * D) + np.sum(np.linalg.solve(np.eye(6) + np.outer(u, u), u)),
    "outside the domain": lambda u: np.nansum(np.log(u - 1.0)) + np.nansum(np.sqrt(u - 1.25)),
    "singular at zero": lambda u: np.nansum(1.0 / (u - D) + np.log(np.abs(u - D)) + np.arcsin(0.1 * (u - D))),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["auto", "substitution"])
@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_is_passed_over_has_derivative_zero(name, method):
    f, h = PASSED_OVER[name], 1e-4
    with dd.linearize(f, U, comm=ALONE, method=method) as lin:
        assert method != "auto" or lin.choice.method == "sweep"
        for x in (U, 1.07 * U):
            lin.update(x)
            differences = [(8 * (f(x + h * e) - f(x - h * e)) - f(x + 2 * h * e) + f(x - 2 * h * e)) / (12 * h)
                           for e in np.eye(6)]
            np.testing.assert_allclose(lin.vjp(1.0), differences, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose([lin.jvp(e) for e in np.eye(6)], lin.vjp(1.0), rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(lin.jacobian(), lin.vjp(1.0), rtol=1e-12, atol=1e-14)
            assert lin.value == f(x)
    np.testing.assert_allclose(dd.grad(f, comm=ALONE)(U), dd.grad(f, comm=ALONE, method="sweep")(U), rtol=1e-13)


@pytest.mark.filterwarnings("ignore")
def test_compiled_passes_read_the_constants_that_stand_for_nan(monkeypatch):
    monkeypatch.setattr(jit, "_at_once", True)
    f = PASSED_OVER["scalar factors"]
    with dd.linearize(f, U, comm=ALONE, method="sweep") as lin, (
            dd.linearize(f, 1.07 * U, comm=ALONE, method="substitution")) as other:
        for turn in (lin.jvp, lin.vjp, lin.jvp):  # bound as a tangent first
            assert np.isfinite(turn(U if turn == lin.jvp else 1.0)).all()
        lin.update(1.07 * U)
        np.testing.assert_allclose([lin.jvp(e) for e in np.eye(6)], other.vjp(1.0), rtol=1e-12)
        np.testing.assert_allclose(lin.vjp(1.0), other.vjp(1.0), rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("f", [
    lambda u: np.nansum(np.sin(u - U) / (u - U)),  # at this point alone
    lambda u: np.nansum(u / (u - U[0]) * (u - U[0])),
    lambda u: np.sum((u - D) ** 2),
    lambda u: np.sum(np.where(THERE, u, 0.0) * (u - D)),
])
@pytest.mark.parametrize("method", ["auto", "substitution"])
def test_nan_that_is_made_or_not_passed_over_is_an_error(f, method):
    for _ in range(2):
        with pytest.raises(NonFiniteError), dd.linearize(f, U, comm=ALONE, method=method) as lin:
            for _ in range(2):
                with pytest.raises(NonFiniteError, match="is (nan|inf) at .*test_missing"):
                    lin.vjp(1.0)
            lin.vjp(1.0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted({*PASSED_OVER} - {"scalars", "scalar factors", "outside the domain"}))
def test_second_derivatives_where_arrays_have_nan(name):
    """The result stays finite, which a tape of the gradient guards."""
    f, v, h = PASSED_OVER[name], np.cos(np.arange(6.0)), 1e-4
    F = dd.recorded(f, comm=ALONE)
    for x in (U, 1.07 * U):
        g = [dd.grad(f, comm=ALONE)(x + k * h * v) for k in (-2, -1, 1, 2)]
        expected = (8 * (g[2] - g[1]) - g[3] + g[0]) / (12 * h)
        np.testing.assert_allclose(F.hvp(x, v), expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(dd.jvp(dd.grad(f), (x,), (v,), comm=ALONE)[1], expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(dd.grad(lambda x: dd.grad(f)(x) @ v, comm=ALONE)(x), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("f", [
    lambda u: np.nansum(np.sin(u - U) / (u - U)) + np.nansum((u - D) ** 2),
    lambda u: np.sum((u - D) ** 2),
    lambda u: np.sum(np.where(THERE, u, 0.0) * (u - D)),
])
def test_second_derivatives_of_what_has_none(f):
    for derivative in (lambda: dd.hvp(f, (U,), (U,), comm=ALONE), lambda: dd.jvp(dd.grad(f), (U,), (U,), comm=ALONE)):
        with pytest.raises(NonFiniteError, match="is nan at .*test_missing"):
            derivative()


def test_arguments_that_are_nan_are_an_error():
    x = np.where(THERE, U, np.nan)
    with dd.linearize(lambda u: np.nansum(u**2), x, comm=ALONE) as lin:
        for _ in range(2):
            with pytest.raises(NonFiniteError, match="entry 2 of the inputs is nan"):
                lin.vjp(1.0)


@pytest.mark.mpi
@pytest.mark.filterwarnings("ignore")
def test_on_ranks(comm):
    data = np.cos(np.arange(60.0))
    data[::7] = np.nan

    def f(u):
        return np.nansum((np.roll(u, 1) * u - data) ** 2) + np.nansum(u * data)

    u = np.sin(1.0 + np.arange(60.0))
    there = ~np.isnan(data)
    expected = dd.grad(lambda u: np.sum(((np.roll(u, 1) * u)[there] - data[there]) ** 2)
                       + np.sum(u[there] * data[there]), comm=ALONE)
    for method in ("auto", "substitution"):
        with dd.linearize(f, u, comm=comm, method=method, partition="axes", min_block=1) as lin:
            np.testing.assert_allclose(lin.vjp(1.0), expected(u), rtol=1e-12, atol=1e-13)


P = np.array([[0.3, 1.1, -0.4], [0.9, -0.2, 0.6], [0.1, 0.5, 1.2], [-0.7, 0.8, 0.4]])


def _distances(p):
    return np.linalg.norm(p[:, None] - p[None], axis=-1)


def _pairs(p):
    i, j = np.triu_indices(len(p), 1)
    return np.sum(_distances(p)[i, j] ** 3)


def _filled(p):
    r = _distances(p)
    np.fill_diagonal(r, np.inf)
    return np.sum(r**-6.0 - r**-3.0)


def _unit_vectors(p):
    d = p[:, None] - p[None]
    r = np.sqrt(np.sum(d**2, axis=-1))[..., None]
    return np.sum(np.where(r > 0, d / r, 0.0) * np.arange(3.0) * p)


def _root_of_what_is_positive(p):
    x = np.concatenate([p.ravel() ** 2, 0.0 * p[0]])
    return np.sum(np.where(x > 0, np.sqrt(x) * np.log(x), 0.0)) + np.sum(np.sqrt(np.maximum(p - p[0], 0.0))[p > p[0]])


def _neighbours(p):
    r = _distances(p)
    return sum(np.sum(np.cos(p[np.argsort(row)[1:3]] - at)) for row, at in zip(r, p)) + np.sum(r[r > 0] ** 2)


def _beside_a_solve(p):
    r = _distances(p)
    return np.sum(r[r > 0] ** 1.5) + np.linalg.solve(np.eye(3) + np.outer(p[0], p[0]), p[1]).sum()


UNREAD = [_pairs, _beside_a_solve, _filled, _unit_vectors, _root_of_what_is_positive, _neighbours,
          lambda p: sum(_distances(p)[i, j] ** 2.5 for i in range(4) for j in range(i))]


@pytest.mark.mpi
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("f", UNREAD)
def test_infinite_partials_that_no_result_depends_on(comm, f):
    """The roots of zeros on the diagonal of a matrix of distances, and what a `where` does not choose."""
    h, v = 1e-5, np.cos(np.arange(12.0)).reshape(4, 3)
    expected = {k: (8 * (f(x + h * v) - f(x - h * v)) - f(x + 2 * h * v) + f(x - 2 * h * v)) / (12 * h)
                for k, x in enumerate((P, 1.1 * P[::-1]))}
    for method in ("auto", "walk", "substitution") if comm.size == 1 else ("auto",):
        with dd.linearize(f, P, comm=comm, method=method) as lin:
            for k, x in enumerate((P, 1.1 * P[::-1])):
                if k:
                    assert lin.update(x) == pytest.approx(f(x), rel=1e-13)
                for found in (np.sum(lin.vjp(1.0) * v), lin.jvp(v), np.sum(lin.jacobian() * v)):
                    assert found == pytest.approx(expected[k], rel=1e-8, abs=1e-9)
    assert np.sum(dd.grad(f, comm=comm)(P) * v) == pytest.approx(expected[0], rel=1e-8, abs=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("f", UNREAD)
def test_second_derivatives_past_infinite_partials(f):
    """... and at points to come: what the structure does not tell is guarded."""
    h, v = 1e-4, np.cos(np.arange(12.0)).reshape(4, 3)
    F = dd.recorded(f, comm=ALONE)
    for x in (P, 1.1 * P[::-1]):
        g = [dd.grad(f, comm=ALONE)(x + k * h * v) for k in (-2, -1, 1, 2)]
        expected = (8 * (g[2] - g[1]) - g[3] + g[0]) / (12 * h)
        scale = np.abs(expected).max()
        for found in (F.hvp(x, v), dd.grad(lambda x: np.sum(dd.grad(f)(x) * v), comm=ALONE)(x)):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(dd.hvp(f, (x,), (v,), comm=ALONE), expected, rtol=1e-9, atol=1e-9 * scale)
    forward = dd.jvp(lambda x: dd.jvp(f, (x,), (v,))[1], (x,), (v,), comm=ALONE)[1]
    assert forward == pytest.approx(np.sum(expected * v), rel=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_second_derivatives_where_a_choice_falls_otherwise_at_another_point():
    def f(d):
        return np.sum(np.where(d > 0.0, np.sqrt(d) * d, 2.0 * d**2))

    F = dd.recorded(f, comm=ALONE)
    for d in (np.array([0.7, 0.0, 1.3]), np.array([0.7, 0.4, 0.0]), np.array([0.0, 0.2, 0.3])):
        expected = np.where(d > 0, 0.75 / np.sqrt(np.where(d > 0, d, 1.0)), 4.0)
        np.testing.assert_allclose(F.hvp(d, np.ones(3)), expected, rtol=1e-12)
        np.testing.assert_allclose(dd.hvp(f, (d,), (np.ones(3),), comm=ALONE), expected, rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("f", [
    lambda d: np.sum(np.sqrt(d) ** 2),  # has derivative 1, by 0 * inf
    lambda d: np.sum(np.sqrt(d) * d),
    lambda d: np.sum(np.minimum(np.sqrt(d), 2.0)),
    lambda d: np.sum(np.fmax(np.sqrt(d), 0.0)),
    lambda d: np.sum(np.fmin(np.sqrt(d), 0.5)),
    lambda d: np.sum(np.where(d < 1.0, np.sqrt(d), 0.0)),
    lambda d: np.sum(np.sqrt(d)) * 1e-300 + 1e300,
    lambda d: np.nansum(d / d),
    lambda d: np.max(np.sqrt(d)) + np.sort(np.sqrt(d))[0],
    lambda d: np.exp(np.log(d[1])),
    lambda d: np.linalg.solve(np.eye(3) + np.outer(np.sqrt(d), d), d)[0],
])
def test_infinite_partials_on_which_results_depend_are_an_error(f):
    d = np.array([0.7, 0.0, 1.3])
    with pytest.raises(NonFiniteError), dd.linearize(f, d, comm=ALONE, method="substitution") as lin:
        lin.vjp(1.0)
    for derivative in (lambda: dd.grad(f, comm=ALONE)(d), lambda: dd.hvp(f, (d,), (d,), comm=ALONE)):
        with pytest.raises(NonFiniteError):
            derivative()
