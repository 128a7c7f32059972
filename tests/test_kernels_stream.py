"""Scattered sums, plain and compiled."""

from __future__ import annotations

import numpy as np
import pytest

from distdiff.kernels import stream


@pytest.fixture(params=["plain", "compiled"])
def mode(request, monkeypatch):
    monkeypatch.setattr(stream._Loops, "spent", 10**12 if request.param == "compiled" else -(10**12))
    if request.param == "plain":
        monkeypatch.setattr(stream._Loops, "module", None)


@pytest.mark.parametrize("tail", [(), (3,)])
def test_scatter_add_counts_repeated_places(mode, tail):
    rng = np.random.default_rng(0)
    places = rng.integers(0, 10, size=100)
    vector, values = rng.normal(size=(10, *tail)), rng.normal(size=(100, *tail))
    expected = vector.copy()
    np.add.at(expected, places, values)
    stream.scatter_add(places, values, vector)
    np.testing.assert_allclose(vector, expected, rtol=1e-12)
