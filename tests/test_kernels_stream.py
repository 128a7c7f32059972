"""Scattered sums, plain and compiled."""

from __future__ import annotations

import numpy as np
import pytest

from distdiff.kernels import stream


@pytest.mark.parametrize("tail", [(), (3,)])
def test_scatter_add_counts_repeated_places(mode, tail):
    rng = np.random.default_rng(0)
    places = rng.integers(0, 10, size=100)
    vector, values = rng.normal(size=(10, *tail)), rng.normal(size=(100, *tail))
    expected = vector.copy()
    np.add.at(expected, places, values)
    stream.scatter_add(places, values, vector)
    np.testing.assert_allclose(vector, expected, rtol=1e-12)


@pytest.mark.parametrize("tail", [(), (3,)])
def test_scatter_add_far_apart_and_in_a_part(mode, tail):
    """Places in a small part of a large vector, and so far apart that counting them all would take longer."""
    rng = np.random.default_rng(1)
    for places in (rng.integers(5000, 5200, size=300), rng.integers(0, 10_000, size=100), np.array([7])):
        vector, values = rng.normal(size=(10_000, *tail)), rng.normal(size=(len(places), *tail))
        expected = vector.copy()
        np.add.at(expected, places, values)
        stream.scatter_add(places, values, vector)
        np.testing.assert_allclose(vector, expected, rtol=1e-12, atol=1e-14)
