"""Many right-hand sides at one point, on any number of ranks."""

from __future__ import annotations

import numpy as np
import pytest

import distdiff as dd
from distdiff.errors import InputError

pytestmark = pytest.mark.mpi
A = np.random.default_rng(0).standard_normal((9, 7))


def several(x, p):
    return {"y": np.tanh(A @ x) * p, "s": np.sum(x * x)}


@pytest.mark.parametrize("partition", ["auto", "right-hand sides"])
@pytest.mark.parametrize("kind, rows, width", [("jvp", 10, 8), ("vjp", 8, 10)])
def test_columns_are_single_products(kind, rows, width, partition):
    rng = np.random.default_rng(1)
    seeds = rng.standard_normal((width, 70))
    with dd.linearize(several, rng.standard_normal(7), 0.5, argnums=(0, 1), partition=partition,
                      solves="jacobian") as lin:
        inputs, outputs = lin.nests
        for m in (70, 3, 1, 0):
            found = lin.batch(kind, seeds[:, :m], expected=64)
            assert found.shape == (rows, m)
            for k in range(0, m, 13):
                if kind == "jvp":
                    single = outputs.flat(lin.jvp(*inputs.nest(seeds[:, k])), "result")
                else:
                    single = inputs.flat(lin.vjp(outputs.nest(seeds[:, k])), "result")
                np.testing.assert_allclose(found[:, k], single, rtol=1e-12, atol=1e-14)
                if m == 1:  # solved as a vector
                    np.testing.assert_array_equal(found[:, k], single)
        np.testing.assert_array_equal(lin.batch(kind, range(2, 5)), lin.batch(kind, np.eye(width)[:, 2:5]))


def test_columns_of_a_hessian_follow_updates():
    with dd.linearize(lambda x: np.sum(x**4), np.ones(5)) as lin:
        for scale in (1.0, 2.0):
            lin.update(np.full(5, scale))
            np.testing.assert_allclose(lin.batch("hvp", range(1, 4)), 12 * scale**2 * np.eye(5)[:, 1:4], rtol=1e-13)


@pytest.mark.parametrize("kind, seeds, message", [
    ("product", range(1), "kind='product' does not exist"),
    ("jvp", np.ones(7), r"columns of an array of shape \(7, m\), not an array of shape \(7,\)"),
    ("jvp", np.full((7, 2), np.nan), "NaN"),
    ("jvp", range(3, 9), "names no unit vectors of 7"),
    ("vjp", [1.0], "not a list"),
])
def test_what_no_right_hand_sides_are(kind, seeds, message):
    with dd.linearize(lambda x: A @ x, np.ones(7)) as lin, pytest.raises(InputError, match=message):
        lin.batch(kind, seeds)
