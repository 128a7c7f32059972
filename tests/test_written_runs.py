"""Derivatives of scalar runs that compiled loops write are the lines that plain Python records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distdiff as dd
from distdiff.kernels.templates import FEW_LINES, Loops
from distdiff.ops import BY_NAME, OPS
from distdiff.tape import ScalarRun

pytestmark = pytest.mark.few_ranks

X = np.array([0.3, 0.45, 0.7])
LINES = [op for op in OPS if op.scalar and op.kind == "elementwise" and isinstance(op.value, np.ufunc)]
CONDITIONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "logical_and", "logical_or",
              "logical_xor", "logical_not", "isfinite", "isnan", "isinf", "signbit")
SMOOTH = [op for op in LINES if op.name not in CONDITIONS]


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    Loops.load()


def using(monkeypatch: pytest.MonkeyPatch, compiled: bool) -> None:
    monkeypatch.setattr(Loops, "ready", classmethod(lambda cls, lines: compiled))


def lines(f: Any, *args: Any) -> list[Any]:
    """What a tape says line by line, whatever runs its lines are in."""
    tape = dd.trace(f, *args)
    found: list[Any] = []
    for item in tape.items:
        if type(item) is not ScalarRun:
            first = [tape.blocks[ref.block].first + ref.offset if hasattr(ref, "block") else repr(ref)
                     for ref in (item.out, *item.operands)]
            found.append((item.op.name, item.shape, *first))
            continue
        const = [repr(c) for c in item.const.tolist()]
        for code, *ids in zip(item.op.tolist(), item.a.tolist(), item.b.tolist()):
            ids = ids[: OPS[code].arity]  # what a line of one operand says of a second does not count
            found.append((OPS[code].name, *(j if j >= 0 else const[-1 - j] for j in ids)))
    return found + [(guard.ref.ids.tolist(), guard.expected.tolist()) for guard in tape.guards]


def same_lines(f: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        using(patch, False)
        plain = lines(f, X)
        using(patch, True)
        assert lines(f, X) == plain


def tangent(f: Any) -> Any:
    return lambda x: dd.jvp(f, (x,), (x * x,))[1]


def program(steps: Any) -> Any:
    """A scalar program: every step applies an operation to earlier values or constants."""
    def f(x: Any) -> Any:
        known = [x[0], x[1], x[2]]
        for op, i, j, number in steps:
            a, b = known[-1 - i % len(known)], known[-1 - j % len(known)]
            b = b if number is None else number
            known.append(op.value(a) if op.arity == 1 else op.value(a, b) if i % 2 else op.value(b, a))
        return sum(known)

    return f


def steps_of(ops: list[Any]) -> Any:
    number = st.sampled_from([None, None, None, 2.0, 1.0, -1.0, 0.5, 3.0, -0.0])
    return st.lists(st.tuples(st.sampled_from(ops), st.integers(0, 9), st.integers(0, 9), number), max_size=12)


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(steps_of([BY_NAME[name] for name in ("add", "subtract", "multiply", "negative", "square", "sin", "exp", "tanh",
                                            "absolute", "remainder", "arctan2")]))
def test_random_programs(taken):
    with np.errstate(all="ignore"):
        same_lines(dd.grad(program(taken)))
        same_lines(tangent(program(taken)))


@pytest.mark.parametrize("op", SMOOTH, ids=lambda op: op.name)
def test_every_operation(op):
    with np.errstate(all="ignore"):
        for b in (None, 0.25):
            f = program([(op, 1, 0, b), (op, 0, 2, b), (BY_NAME["multiply"], 0, 1, None)])
            same_lines(dd.grad(f))
            same_lines(tangent(f))


def steps(x: Any) -> Any:
    a, b = x[0], x[1]
    for k in range(40):
        a, b = a + 0.1 * b, b - 0.05 * np.sin(a) * x[2] + (np.cos(a)**3 if a > 0.4 else a / (2.0 + k))
    return a * b


@pytest.mark.parametrize("f", [
    dd.grad(steps), lambda x: dd.grad(lambda x: (dd.grad(steps)(x)**2).sum())(x),
    lambda x: dd.jvp(dd.grad(steps), (x,), (X,))[1], lambda x: dd.grad(lambda y: dd.jvp(steps, (y,), (x,))[1])(x),
    lambda x: dd.vjp(lambda y: [steps(y), y[0] * x[1]], x)[1]([x[0], 2.0]),
], ids=["gradient", "third", "tangent of it", "its gradient", "pullback"])
def test_nested(f):
    same_lines(f)


@pytest.mark.mpi
def test_values_are_those_of_the_lines():
    """What stands on the tape as values is what evaluating it again gives, and so are the derivatives."""
    with pytest.MonkeyPatch.context() as patch:
        results = []
        for compiled in (False, True):
            using(patch, compiled)
            results.append((dd.hessian(steps)(X), dd.hvp(steps, (X,), (X,)), dd.grad(steps)(X)))
    for plain, written in zip(*results):
        np.testing.assert_allclose(written, plain, rtol=1e-12)


@pytest.mark.mpi
def test_runs_longer_than_one():
    """Many lines: runs end, and adjoints go on in the run before."""
    def f(x):
        a, b = x[0], x[1]
        for _ in range(14_000):
            a, b = a + 1e-3 * b, b - 1e-3 * a * x[2]
        return a * b

    with pytest.MonkeyPatch.context() as patch:
        using(patch, True)
        with dd.linearize(dd.grad(f), X) as lin:
            hessian, at = lin.jacobian(), lin.value
            moved = X + [1e-3, 2e-3, -1e-3]
            lin.update(moved)
            again = lin.jacobian()
            value = lin.value
    step = 1e-5
    for k in range(3):
        e = step * np.eye(3)[k]
        np.testing.assert_allclose(hessian[k], (dd.grad(f)(X + e) - dd.grad(f)(X - e)) / (2 * step), rtol=1e-6,
                                   atol=1e-8)
    np.testing.assert_allclose(at, dd.grad(f)(X), rtol=1e-10)
    np.testing.assert_allclose(value, dd.grad(f)(moved), rtol=1e-10)
    np.testing.assert_allclose(again, again.T, rtol=1e-8)


def orbit(x: Any) -> Any:
    a, b = x[0], x[1]
    for _ in range(3000):
        a, b = a + 1e-3 * b, b - 1e-3 * a * a * x[2]
        if a > 0.5:
            b = b - 1e-4 * a
    return a * b


@pytest.mark.mpi
def test_code_that_was_traced_compiled():
    """Runs that machine code wrote, with their values."""
    with pytest.MonkeyPatch.context() as patch:
        using(patch, False)
        plain = dd.hessian(orbit)(X)
        using(patch, True)
        compiled = dd.compiled(orbit)
        np.testing.assert_allclose(dd.hessian(compiled)(X), plain, rtol=1e-10)
        np.testing.assert_allclose(dd.hvp(compiled, (X,), (X,)), plain @ X, rtol=1e-10)


def limited(x: Any) -> Any:
    """Limiters, regularized distances and powers, as they stand in scalar loops."""
    a, b = x[0], x[1]
    for k in range(30):
        slope = np.maximum(0.0, np.minimum(a - b, 0.3 * abs(b)))
        a, b = a + 0.1 * np.hypot(slope, 1e-3 * k), b - 0.05 * slope**x[2] + 0.01 * a**b * 1.5**a
        b = np.minimum(np.maximum(b, -2.0), a + 1.0)
    return np.maximum(a, b) - np.minimum(a, b) + 2.0**b


@pytest.mark.parametrize("f", [
    dd.grad(limited), lambda x: dd.jvp(dd.grad(limited), (x,), (X,))[1], tangent(limited),
    lambda x: dd.grad(lambda y: dd.jvp(limited, (y,), (x,))[1])(x),
], ids=["gradient", "tangent of it", "tangent", "its gradient"])
def test_lines_that_choose_by_what_counts(f):
    same_lines(f)
    with np.errstate(all="ignore"):
        tape = dd.trace(f, X)
    runs = [k for k, item in enumerate(tape.items) if type(item) is ScalarRun]
    assert runs == [*range(runs[0], runs[-1] + 1)] and runs[0] <= 2  # arguments and results, nothing in between
    assert len(tape.items) - len(runs) <= 4  # and whether the result is finite, where a partial is not


def test_small_programs_stay_in_python():
    assert FEW_LINES > 10
    module, spent = Loops.module, Loops.spent
    try:
        Loops.module, Loops.spent = None, 0
        dd.hessian(steps)(X)
        assert Loops.module is None
    finally:
        Loops.module, Loops.spent = module, spent
