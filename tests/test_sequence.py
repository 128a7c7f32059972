"""Rows of a sequence do what their calls do, to the last bit, and nothing that they raise is lost."""

from __future__ import annotations

import numpy as np
import pytest

from distdiff.flags import Watched
from distdiff.kernels import combine, jit, lines, scalar
from distdiff.kernels.copies import ADD, COPY, MOVE, Picked, Zeros
from distdiff.kernels.sequence import Passes, Sequence
from distdiff.ops import BY_NAME
from distdiff.tape import ScalarRun


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    monkeypatch.setattr(jit, "_at_once", True)
    assert scalar.compiled(1)


def some_run(n=50, n_in=3):
    rng = np.random.default_rng(1)
    names = ["multiply", "add", "subtract", "sin", "tanh", "maximum", "divide"]
    op = np.array([BY_NAME[names[k]].code for k in rng.integers(len(names), size=n)], dtype=np.uint8)
    a, b = rng.integers(0, n_in + np.arange(n), (2, n)).astype(np.int32)
    a[rng.random(n) < 0.15] = -1
    y = np.concatenate([rng.uniform(0.5, 1.0, n_in), np.zeros(n)])
    return ScalarRun(1, op, a, b, np.array([1.5])), n_in, y


def test_lines_in_a_sequence_are_the_lines():
    run, first, y = some_run()
    values = lines.Values(run, first, y)
    values()
    expected, y[first:] = y.copy(), 0.0
    sequence = Sequence()
    assert values.join(sequence)
    sequence.run(lambda: None)
    np.testing.assert_array_equal(y, expected)
    starts, shifts = np.array([0, 1, first]), np.array([60, 64, -first])
    before = np.random.default_rng(2).standard_normal(80)
    for way, loop in ((lines.TANGENT, scalar.run_tangent), (lines.ADJOINT, scalar.run_adjoint)):
        W, sequence = before.copy(), Sequence()
        record = lines.Record(way, run, first, y, starts, shifts, W)
        record.put(sequence)
        expected = before.copy()
        loop(run, first, y, run.a, run.b, starts, shifts, expected)
        sequence.run(lambda: None)
        np.testing.assert_array_equal(W, expected)
    stored, written = scalar.store_adjoint(run, first, y, run.a, run.b, starts, shifts), before.copy()
    stored.adjoint(written)
    for forgotten in (False, True):  # the record may change between two passes
        W[:] = before
        record.forget() if forgotten else record.write_out(stored)
        sequence.run(lambda: None)
        np.testing.assert_array_equal(W, expected if forgotten else written)


def test_runs_of_many_nodes_stay_calls():
    run, first, y = some_run()
    long = ScalarRun(1, run.op, run.a.astype(np.int64), run.b.astype(np.int64), run.const)
    assert not lines.Values(long, first, y).join(Sequence())


def test_vectors_become_zero():
    W = np.ones(9)
    zeros, many = Zeros(W[2:5]), Zeros(np.ones((3, 2), order="F"))
    assert not many.join(Sequence())
    passes = Passes([(zeros, ()), (zeros, ())])
    for _ in range(4):
        W[:] = 1.0
        passes(lambda: None)
        assert W.tolist() == [1.0] * 2 + [0.0] * 3 + [1.0] * 4
    assert passes.joined[0][0].__self__.rows


@pytest.mark.parametrize("how", [COPY, MOVE, ADD])
@pytest.mark.parametrize(("where", "places"), [
    (slice(1, 5), np.array([7, 0, 3, 9])), (np.array([2, 0, 4, 1]), slice(9, 1, -2)),
    (np.array([5, 2, 0, 3], dtype=np.int32), np.array([1, 2, 8, 4]))])
def test_single_elements_are_picked(how, where, places):
    rng, found = np.random.default_rng(3), []
    to, source = rng.standard_normal(6), rng.standard_normal(10)
    for sequence in (None, Sequence()):
        y, x = to.copy(), source.copy()
        picked = Picked(how, y, where, x, places)
        if sequence is None:
            picked()
        else:
            assert picked.join(sequence) and not Picked(how, y[:, None], where, x[:, None], places).join(sequence)
            sequence.run(lambda: None)
        found.append((y, x))
    np.testing.assert_array_equal(found[0][0][where], source[places] + (how == ADD) * to[where])
    np.testing.assert_array_equal(found[0][1][places], (how != MOVE) * source[places])
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


def test_what_is_lost_in_a_sequence_is_noted():
    """... though a ufunc of NumPy's, which follows, lowers the processor's flags."""
    W = np.array([0.0, 1e-300])
    cells = np.array([[0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 0, 0]])
    sequence = Sequence()
    sequence.boxes(W, combine.Tables(cells, np.array([[1, 0, 0, 1, *[0] * 8]]), np.array([[1e-300, 0.0]])))
    with Watched() as found:
        sequence.run(lambda: None)
        np.add(np.ones(3), 1.0)
    assert found.under and not found.over and W[0] == 0.0
