"""The streaming loops, plain and compiled, in every way in which their arguments may coincide."""

from __future__ import annotations

import numpy as np
import pytest

from distdiff.kernels import stream

COINCIDENCES = ["none", "no first", "first is dst", "second is dst", "both", "only second is dst"]


@pytest.fixture(params=["plain", "compiled"])
def mode(request, monkeypatch):
    monkeypatch.setattr(stream._Loops, "spent", 10**12 if request.param == "compiled" else -(10**12))
    if request.param == "plain":
        monkeypatch.setattr(stream._Loops, "module", None)


def _arguments(coincidence, shape):
    rng = np.random.default_rng(len(coincidence))
    dst, first, second = rng.normal(size=(3, *shape))
    if coincidence in ("no first", "only second is dst"):
        first = None
    if coincidence in ("first is dst", "both"):
        first = dst
    if coincidence in ("second is dst", "both", "only second is dst"):
        second = dst
    return dst, first, second


def _sum(s1, first, term):
    return term if first is None else s1 * first + term


@pytest.mark.parametrize("coincidence", COINCIDENCES)
@pytest.mark.parametrize("n", [0, 1, 7, 20_000])
def test_linear(mode, coincidence, n):
    for s1, s2 in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 0.5), (0.3, -2.0), (2.0, 1.0)]:
        dst, first, second = _arguments(coincidence, (n,))
        expected = _sum(s1, first, s2 * second)
        stream.linear(dst, s1, first, s2, second)
        np.testing.assert_allclose(dst, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("coincidence", COINCIDENCES)
@pytest.mark.parametrize("n", [0, 1, 7, 20_000])
def test_product(mode, coincidence, n):
    p = np.random.default_rng(9).normal(size=n)
    for s1, s2, c in [(1.0, 1.0, 0.0), (1.0, 0.5, 0.0), (0.3, -2.0, 1.5), (1.0, 1.0, 0.5)]:
        dst, first, second = _arguments(coincidence, (n,))
        expected = _sum(s1, first, (s2 * p + c) * second)
        stream.product(dst, s1, first, s2, p, c, second)
        np.testing.assert_allclose(dst, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("coincidence", COINCIDENCES)
def test_columns(mode, coincidence):
    p = np.random.default_rng(9).normal(size=5000)
    dst, first, second = _arguments(coincidence, (5000, 3))
    expected = _sum(0.3, first, (-2.0 * p + 1.5)[:, None] * second)
    stream.columns(dst, 0.3, first, -2.0, p, 1.5, second)
    np.testing.assert_allclose(dst, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("tail", [(), (3,)])
def test_scatter_add_counts_repeated_places(mode, tail):
    rng = np.random.default_rng(0)
    places = rng.integers(0, 10, size=100)
    vector, values = rng.normal(size=(10, *tail)), rng.normal(size=(100, *tail))
    expected = vector.copy()
    np.add.at(expected, places, values)
    stream.scatter_add(places, values, vector)
    np.testing.assert_allclose(vector, expected, rtol=1e-12)
