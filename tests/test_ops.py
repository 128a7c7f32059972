"""The op table: partials against complex steps and differences, what rules read, conventions at kinks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from distdiff.ops import BY_NAME, COPY, OPS

DOMAIN = {  # where it is not the whole line
    "sqrt": (0.1, 3), "log": (0.1, 3), "log2": (0.1, 3), "log10": (0.1, 3), "log1p": (-0.9, 3), "arcsin": (-0.9, 0.9),
    "arccos": (-0.9, 0.9), "arctanh": (-0.9, 0.9), "arccosh": (1.1, 3), "cbrt": (0.1, 3), "reciprocal": (0.1, 3),
    "power": (0.1, 3), "divide": (0.1, 3),
}
NOT_ANALYTIC = {"absolute", "cbrt", "hypot", "arctan2", "maximum", "minimum", "remainder", "copysign",
                "logaddexp", "where"}
ELEMENTWISE = [op for op in OPS if op.kind == "elementwise"]


def points(op, n=40):
    rng = np.random.default_rng(op.code)
    low, high = DOMAIN.get(op.name, (-2.5, 2.5))
    x = [rng.uniform(low, high, n) for _ in range(op.arity)]
    if op.name == "where":
        x[0] = np.asarray(x[0] > 0, dtype=float)
    return x


def same(op):
    return op.name


@pytest.mark.parametrize("op", ELEMENTWISE, ids=same)
def test_partials(op):
    x = points(op)
    y = op.value(*x)
    for k, rule in enumerate(op.partials):
        if op.name == "where" and k == 0:
            assert rule is None
            continue
        if op.name not in NOT_ANALYTIC and rule is not None:
            moved = [a.astype(complex) for a in x]
            moved[k] = moved[k] + 1e-30j
            expected, tolerance = np.imag(op.value(*moved)) / 1e-30, 1e-13
        else:
            up, down = ([a + s * 1e-6 if j == k else a for j, a in enumerate(x)] for s in (1, -1))
            expected = (np.asarray(op.value(*up), float) - np.asarray(op.value(*down), float)) / 2e-6
            tolerance = 1e-8
        p = np.zeros_like(x[0]) if rule is None else np.broadcast_to(rule(y, *x), x[0].shape)
        np.testing.assert_allclose(p, expected, rtol=tolerance, atol=tolerance)
        if op.linear:
            assert isinstance(rule(y, *x), float)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=same)
def test_rules_read_what_they_say(op):
    x = points(op)
    y = op.value(*x)
    for rule, reads in zip(op.partials, op.reads):
        if rule is None:
            assert reads == frozenset()
            continue
        assert all(-1 <= place < op.arity for place in reads)
        values = [np.asarray(y, float) if -1 in reads else np.full_like(x[0], np.nan)]
        values += [a if k in reads else np.full_like(a, np.nan) for k, a in enumerate(x)]
        np.testing.assert_array_equal(rule(*values), rule(y, *x))


@pytest.mark.parametrize("op", ELEMENTWISE, ids=same)
def test_value_writes_where_told(op):
    x = points(op)
    out = np.empty_like(x[0])
    returned = op.value(*x, out=out)
    np.testing.assert_array_equal(out, np.asarray(op.value(*x), dtype=float))
    assert returned is out
    y = op.value(*[a[0] for a in x])
    assert np.ndim(y) == 0 and float(y) == pytest.approx(float(out[0]), rel=1e-15)


def test_ops_travel_by_name():
    for op in OPS:
        assert pickle.loads(pickle.dumps(op)) is op and BY_NAME[op.name] is op and OPS[op.code] is op
    assert len(OPS) < 256 and len(BY_NAME) == len(OPS)  # a scalar run holds codes in one byte
    assert COPY.reads == (frozenset(),) and BY_NAME["multiply"].reads == (frozenset((1,)), frozenset((0,)))


def test_kinks():
    def partials(name, *x):
        op = BY_NAME[name]
        x = [np.array([v]) for v in x]
        y = op.value(*x)
        return [float(np.broadcast_to(rule(y, *x), (1,))[0]) for rule in op.partials if rule is not None]

    assert partials("absolute", 0.0) == [0.0]
    assert partials("maximum", 1.0, 1.0) == [1.0, 0.0] and partials("minimum", 1.0, 1.0) == [1.0, 0.0]
    assert partials("hypot", 0.0, 0.0) == [0.0, 0.0]
    assert partials("power", 0.0, 2.0) == [0.0, 0.0] and partials("power", 0.0, 1.0) == [1.0, 0.0]
    assert partials("power", 3.0, 0.0)[0] == 0.0
    with np.errstate(all="ignore"):
        assert partials("power", -2.0, 3.0)[0] == 12.0 and partials("power", 0.0, 0.0)[0] == 0.0
        assert partials("sqrt", 0.0) == [np.inf]
