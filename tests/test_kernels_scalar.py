"""Scalar runs: the compiled loops, the op table and independent derivatives against each other."""

from __future__ import annotations

import numpy as np
import pytest

from distdiff.kernels import scalar
from distdiff.ops import OPS
from distdiff.tape import ScalarRun

SCALAR_OPS = [op for op in OPS if op.scalar]
DOMAIN = {"arcsin": (-0.9, 0.9), "arccos": (-0.9, 0.9), "arctanh": (-0.9, 0.9), "arccosh": (1.1, 4.0),
          "log1p": (-0.9, 4.0), "sqrt": (0.1, 4.0), "log": (0.1, 4.0), "log2": (0.1, 4.0), "log10": (0.1, 4.0),
          "power": (0.1, 3.0)}


def _points(op, n=40):
    rng = np.random.default_rng(op.code)
    low, high = DOMAIN.get(op.name, (-3.0, 3.0))
    return rng.uniform(low, high, (op.arity, n))


def _run(op, x):
    """A run of one op over the columns of x; the operands are nodes, x laid out before the run."""
    arity, n = x.shape
    y = np.concatenate([x.ravel(), np.zeros(n)])
    a = np.arange(n)
    b = a + n if arity == 2 else np.full(n, 10**9)  # a unary op ignores its b, whatever it holds
    run = ScalarRun(1, np.full(n, op.code, dtype=np.uint8), a, b, np.empty(0))
    return run, arity * n, y


@pytest.mark.parametrize("op", SCALAR_OPS, ids=lambda op: op.name)
def test_values_and_partials_agree_with_the_table(op, mode):
    x = _points(op)
    run, first, y = _run(op, x)
    scalar.run_values(run, first, y)
    expected = np.asarray(op.value(*x), dtype=float)
    np.testing.assert_allclose(y[first:], expected, rtol=1e-14, atol=1e-300)
    pa, pb = scalar.run_partials(run, first, y)
    for p, rule in zip((pa, pb), op.partials):
        np.testing.assert_allclose(p, 0.0 if rule is None else rule(expected, *x) * np.ones(x.shape[1]), rtol=1e-13)


@pytest.mark.parametrize("op", SCALAR_OPS, ids=lambda op: op.name)
def test_table_partials_against_central_differences(op):
    x, h = _points(op), 1e-6
    y = np.asarray(op.value(*x), dtype=float)
    for k, rule in enumerate(op.partials):
        up, down = x.copy(), x.copy()
        up[k] += h
        down[k] -= h
        slope = (np.asarray(op.value(*up), dtype=float) - np.asarray(op.value(*down), dtype=float)) / (2 * h)
        smooth = abs(slope) < 1e4  # a jump between the two points is no derivative
        assert smooth.sum() > 30
        exact = np.zeros(x.shape[1]) if rule is None else rule(y, *x) * np.ones(x.shape[1])
        np.testing.assert_allclose(exact[smooth], slope[smooth], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("op", [op for op in SCALAR_OPS if op.arity == 2], ids=lambda op: op.name)
def test_special_values_agree_with_numpy(op, mode):
    special = np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan])
    x = np.array(np.meshgrid(special, special)).reshape(2, -1)
    run, first, y = _run(op, x)
    scalar.run_values(run, first, y)
    with np.errstate(all="ignore"):
        expected = np.asarray(op.value(*x), dtype=float)
    np.testing.assert_allclose(y[first:], expected, rtol=1e-14)


@pytest.mark.parametrize("op", [op for op in SCALAR_OPS if op.arity == 1], ids=lambda op: op.name)
def test_special_values_of_unary_ops_agree_with_numpy(op, mode):
    x = np.array([[0.0, -0.0, 1.0, -1.0, -2.5, 3.5, 1e300, np.inf, -np.inf, np.nan]])
    run, first, y = _run(op, x)
    scalar.run_values(run, first, y)
    with np.errstate(all="ignore"):
        expected = np.asarray(op.value(*x), dtype=float)
    np.testing.assert_allclose(y[first:], expected, rtol=1e-14)


def test_a_remainder_of_zero_has_the_divisors_sign(mode):
    x = np.array([[0.0, -0.0, 1.0, -3.0, 0.0, 3.0], [-1.0, -0.22, -1.0, -1.0, 1.0, 1.5]])
    run, first, y = _run(OPS[[op.name for op in OPS].index("remainder")], x)
    scalar.run_values(run, first, y)
    np.testing.assert_array_equal(np.signbit(y[first:]), np.signbit(np.remainder(*x)))


def test_kinks_follow_the_tables_convention(mode):
    for name, x in {"maximum": (1.0, 1.0), "minimum": (1.0, 1.0), "power": (2.0, 0.0), "hypot": (0.0, 0.0)}.items():
        op = next(op for op in OPS if op.name == name)
        run, first, y = _run(op, np.array(x)[:, None])
        scalar.run_values(run, first, y)
        pa, pb = scalar.run_partials(run, first, y)
        expected = [float(rule(op.value(*x), *x)) for rule in op.partials]
        assert [pa[0], pb[0]] == expected


def test_the_blocks_a_run_reads(mode):
    rng = np.random.default_rng(4)
    firsts = np.array([0, 5, 6, 20, 50])
    names = {op.name: op.code for op in OPS}
    op = rng.choice([names["add"], names["sin"]], size=40).astype(np.uint8)
    for blocks in ([0], [1, 3], [0, 2, 3], []):
        pool = np.concatenate([[-1, -2, 50], *(np.arange(firsts[k], firsts[k + 1]) for k in blocks)])
        a, b = rng.choice(pool, size=40).astype(np.int32), rng.choice(pool, size=40).astype(np.int32)
        b[op == names["sin"]] = 0  # not read: a unary operation
        a[: len(blocks)] = firsts[blocks]
        found = scalar.blocks_read(ScalarRun(4, op, a, b, np.ones(2)), firsts, 4)
        assert found.tolist() == blocks


@pytest.mark.parametrize("columns", [None, 1, 3])
def test_sweeps_are_the_products_with_the_explicit_matrix(columns, mode):
    rng = np.random.default_rng(3)
    names = ["multiply", "add", "subtract", "sin", "tanh", "maximum", "divide", "greater", "copy", "copysign"]
    by_name = {op.name: op for op in OPS}
    n_in, n = 3, 60
    op = np.array([by_name[names[k]].code for k in rng.integers(len(names), size=n)], dtype=np.uint8)
    top = n_in + np.arange(n)
    a, b = rng.integers(0, top), rng.integers(0, top)
    near = rng.random((2, n))  # of lines that read the one before, as the first, the second or both operands
    a, b = (np.where(here < 0.3, top - 1, ref) for here, ref in zip(near, (a, b)))
    a[rng.random(n) < 0.15] = -1
    b[rng.random(n) < 0.15] = -2
    run = ScalarRun(1, op, a, b, np.array([1.5, -0.7]))
    y = np.concatenate([rng.normal(size=n_in), np.zeros(n)])
    scalar.run_values(run, n_in, y)
    indptr = np.concatenate([np.zeros(n_in + 1, dtype=int), np.cumsum(scalar.run_counts(run))])
    indices, data = np.full(indptr[-1], -1, dtype=np.int32), np.zeros(indptr[-1])
    scalar.run_expand(run, n_in, y, run, n_in, indptr, indices, data)
    L = np.zeros((n_in + n, n_in + n))
    np.add.at(L, (np.repeat(np.arange(n_in + n), np.diff(indptr)), indices), data)
    tail = () if columns is None else (columns,)
    system = np.eye(n_in + n) - L
    starts, shifts = np.array([0, 1, n_in]), np.array([n + 1, n + 4, -n_in])  # three blocks, somewhere in a workspace
    places = np.concatenate([[n + 1], np.arange(1, n_in) + n + 4, np.arange(n)])
    work = rng.normal(size=(n + n_in + 8, *tail))
    expected = np.linalg.solve(system.T, work[places])
    if columns is None and mode == "compiled":
        stored, again = scalar.store_adjoint(run, n_in, y, a, b, starts, shifts), work.copy()
        stored.adjoint(again)
        np.testing.assert_allclose(again[places[:n_in]], expected[:n_in], rtol=1e-10, atol=1e-10 * abs(expected).max())
    scalar.run_adjoint(run, n_in, y, a, b, starts, shifts, work)
    lam = work[places]
    np.testing.assert_allclose(lam, expected, rtol=1e-10, atol=1e-10 * abs(expected).max())
    ydot = np.zeros((n_in + n, *tail))
    ydot[:n_in] = rng.normal(size=(n_in, *tail))
    expected = np.linalg.solve(system, ydot)
    work[places] = ydot
    scalar.run_tangent(run, n_in, y, a, b, starts, shifts, work)
    ydot = work[places]
    np.testing.assert_allclose(ydot, expected, rtol=1e-10, atol=1e-10 * abs(expected).max())


def test_an_operation_alone_is_its_branch():
    """What compiled functions compile of an operation is what the interpreter computes for it."""
    from distdiff.kernels import scalar_ops

    def outcome(function, *args):
        try:
            with np.errstate(all="ignore"):
                return repr(function.py_func(*args))
        except (ValueError, ZeroDivisionError, OverflowError) as error:
            return type(error)

    points = (0.3, 0.7), (-1.5, 0.4), (2.6, -0.9), (0.0, 3.0), (-0.0, 0.0), (1e300, 1e300), (float("nan"), 1.0)
    for c, name in enumerate(scalar_ops.NAMES):
        for x, z in points:
            alone = outcome(scalar_ops.alone(name), *((x, z) if name in scalar_ops.BINARY else (x,)))
            assert alone == outcome(scalar_ops.value, c, x, z), (name, x, z)
