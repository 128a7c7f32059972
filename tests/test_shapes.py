"""Derivatives of incomplete gamma and beta functions in their shapes: reference values by mpmath, 100 digits."""

from __future__ import annotations

import numpy as np
import pytest

from distdiff.ops import shapes

GAMMA = [  # order, a, x
    (1, 0.01, 0.02, -3.259188575332898),
    (1, 0.5, 3.0, -0.04724032644797375),
    (1, 2.5, 0.3, -0.02798157427941372),
    (1, 2.5, 20.0, -3.499890642552943e-7),
    (1, 300.0, 280.0, -0.01186555761872261),
    (1, 5000.0, 5100.0, -0.002082263752376242),
    (2, 0.3, 0.7, -0.2608908478866635),
    (2, 2.5, 2.4, 0.01483393946591677),
    (2, 40.0, 60.0, -0.0004745950714065327),
    (3, 1.4, 1.2, 0.247055371312062),
    (4, 3.0, 2.0, -0.1065464039671494),
]
BETA = [  # orders, a, b, x
    (1, 0, 0.02, 0.03, 0.4, -12.14427629475163),
    (1, 0, 3.0, 2.0, 0.2, -0.03737671121820753),
    (0, 1, 3.0, 2.0, 0.97, 0.01519649207539729),
    (1, 0, 40.0, 70.0, 0.5, -0.0006815815105720344),
    (0, 1, 800.0, 900.0, 0.48, 0.006807961825661439),
    (2, 0, 0.5, 2.0, 0.3, 0.1486142556264991),
    (1, 1, 2.0, 3.0, 0.4, 0.008923407670034283),
    (0, 2, 1.5, 0.5, 0.999, -1.700553159515355),
    (1, 1, 40.0, 70.0, 0.36, -0.0001897919911501856),
]


@pytest.mark.parametrize("order, a, x, expected", GAMMA)
def test_of_gammainc(order, a, x, expected):
    assert shapes.gammainc(order, a, x) == pytest.approx(expected, rel=1e-11 if order > 2 else 1e-12)


@pytest.mark.parametrize("i, j, a, b, x, expected", BETA)
def test_of_betainc(i, j, a, b, x, expected):
    assert shapes.betainc(i, j, a, b, x) == pytest.approx(expected, rel=1e-11)
    assert shapes.betainc(j, i, b, a, 1.0 - x) == pytest.approx(-expected, rel=1e-11)


def test_ends_and_what_is_outside():
    x = np.array([0.0, np.inf, -1.0, np.nan, 1e300, 1e-300])
    found = shapes.gammainc(1, 2.0, x)
    assert found[0] == found[1] == found[4] == found[5] == 0.0 and np.isnan(found[2:4]).all()
    assert np.isnan(shapes.gammainc(1, [0.0, -1.0, np.inf, np.nan], 1.0)).all()
    found = shapes.betainc(1, 0, 2.0, 3.0, [0.0, 1.0, -0.1, 1.1, np.nan])
    assert found[0] == found[1] == 0.0 and np.isnan(found[2:]).all()
    assert np.isnan(shapes.betainc(0, 1, [0.0, 1.0], [1.0, 0.0], 0.5)).all()


def test_many_at_a_time_are_as_one():
    a = np.linspace(0.2, 40.0, 3 * shapes.CHUNK // 2)
    x = np.linspace(50.0, 0.1, a.size)
    found = shapes.gammainc(1, a, x)
    for k in (0, shapes.CHUNK - 1, shapes.CHUNK, a.size - 1):
        assert found[k] == pytest.approx(shapes.gammainc(1, a[k], x[k]), rel=1e-12)
    into = np.empty((2, 3))
    assert shapes.betainc(1, 0, np.ones((2, 1)), 2.0, np.full(3, 0.3), out=into) is into
    assert np.ptp(into) == 0.0
