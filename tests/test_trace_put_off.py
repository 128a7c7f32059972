"""Results that a trace computes only when somebody looks: the same tape, the same values, and nobody sees others."""

from __future__ import annotations

import gc
import subprocess
import sys

import numpy as np
import pytest
import tape_oracle as oracle
from test_fusion import same_bits
from test_trace import PROGRAMS, check_unread, flat

import distdiff as dd
from distdiff.evaluate import evaluate_items
from distdiff.kernels import tiles
from distdiff.tape import UNREAD, Statement
from distdiff.tracing import memory, recorder, trace

np_full = np.full  # NumPy's own, whatever is substituted meanwhile


@pytest.fixture(params=["statement by statement", "tile by tile"])
def put_off(request, monkeypatch):
    """Every array is put off, and memory that nobody has written to yet is NaN."""
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(recorder, "MANY_LOOKS", 10**9)
    monkeypatch.setattr(recorder.Recorder, "empty", lambda self, shape: np_full(shape, np.nan))
    fused = request.param == "tile by tile"
    if fused:
        monkeypatch.setattr(tiles, "TILE", 4)
        monkeypatch.setattr(tiles._Loops, "module", None)
        monkeypatch.setattr(tiles._Loops, "spent", 10**12)
    else:
        monkeypatch.setattr(tiles, "worth", lambda elements, operations: False)


def tapes_equal(a, b):
    """The same blocks and statements; constants are compared by value."""
    assert a.blocks == b.blocks and len(a.items) == len(b.items)
    for one, two in zip(a.items, b.items):
        assert type(one) is type(two)
        if type(one) is Statement:
            assert (one.op, one.shape, one.out, one.site) == (two.op, two.shape, two.out, two.site)
            for x, y in zip(one.operands, two.operands):
                assert type(x) is type(y)
                for p, q in zip(x, y):
                    np.testing.assert_array_equal(p, q)
        else:
            np.testing.assert_array_equal(one.op, two.op)
            np.testing.assert_array_equal(one.a, two.a)


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name, put_off):
    f, args = PROGRAMS[name]
    args = tuple(np.array(a) if isinstance(a, np.ndarray) else a for a in args)
    numbers = tuple(range(len(args)))
    eager = trace(f, args, argnums=numbers, keep_values=True)
    y = oracle.evaluate(eager.tape, flat(args))
    t = check_unread(f, args, y, evaluate=evaluate_items)
    tapes_equal(t.tape, eager.tape)
    for one, two in zip(flat(t.result), flat(eager.result)):
        same_bits(one, two)
    for lazy, kept in zip(t.values, eager.values):
        if lazy is not UNREAD and lazy is not None and kept is not None:
            same_bits(lazy, kept)


def ring(u, steps=6):
    for _ in range(steps):
        u = u - 0.1 * (u * (np.roll(u, -1) - np.roll(u, 1))) + 0.05 * np.exp(-u)
    return u


def test_nothing_is_computed_before_somebody_looks(put_off):
    calls = []

    def evaluate(blocks, items, arrays):
        calls.append(len(items))
        evaluate_items(blocks, items, arrays)

    looks = []

    def f(u):
        u = ring(u)
        looks.append(len(calls))
        v = float(u[3] > 0.0) + u.sum()
        looks.append(len(calls))
        w = ring(u) * v
        looks.append(len(calls))
        return np.sum(w)

    x = np.linspace(0.1, 0.9, 20)
    t = trace(f, (x,), keep_values="read", evaluate=evaluate)
    assert looks == [0, 1, 1] and len(calls) == 2
    same_bits(t.result, f(x))


def test_what_nobody_has_any_more_is_not_kept(put_off):
    t = trace(lambda u: np.sum(ring(u)), (np.linspace(0.1, 0.9, 20),), keep_values="read", evaluate=evaluate_items)
    eager = trace(lambda u: np.sum(ring(u)), (np.linspace(0.1, 0.9, 20),), keep_values="read")
    assert [v is UNREAD for v in t.values] == [v is UNREAD for v in eager.values]


def test_looking_writing_and_slicing_in_between(put_off):
    def f(u):
        seen = []
        first = u * 2.0
        half = first[::2]
        turned = np.roll(first, 3)
        first[1:4] = first[2:5] * 3.0
        seen.append(half.sum())
        first *= turned
        turned[0] = u[1]
        if turned[0] > 0.0:
            first = first + np.roll(half.repeat(2), 1)
        first[:] = first[::-1] - turned
        grid = np.roll(first.reshape(2, -1).T * 0.5, 1, axis=0)
        return grid, half, turned, seen[0], np.roll(first, 2)[::3]

    x = np.linspace(0.5, 1.5, 12)
    t = trace(f, (x,), keep_values="read", evaluate=evaluate_items)
    same_bits(flat(t.result), flat(f(x.copy())))


def test_an_array_that_escapes_its_trace_holds_its_values(put_off):
    escaped = []

    def f(u):
        v = u * 2.0
        escaped.extend([v, np.roll(v, 1), np.roll(v, 1)[2:]])
        return np.sum(u)

    x = np.arange(1.0, 8.0)
    trace(f, (x,), keep_values="read", evaluate=evaluate_items)
    for a, b in zip(escaped, (2.0 * x, np.roll(2.0 * x, 1), np.roll(2.0 * x, 1)[2:])):
        same_bits(a.plain_values(), b)


def test_a_function_that_always_looks_is_computed_as_it_goes():
    n, calls = memory.LARGE, []

    def evaluate(blocks, items, arrays):
        calls.append(len(items))
        evaluate_items(blocks, items, arrays)

    def f(u):
        for _ in range(20):
            u = u + 0.1 * u * u
            if u[0] > 1e9:
                return u
        return u

    t = trace(f, (np.linspace(0.0, 0.5, n),), keep_values="read", evaluate=evaluate)
    assert len(calls) == recorder.MANY_LOOKS
    same_bits(t.result, f(np.linspace(0.0, 0.5, n)))


def test_gradients_of_large_arrays():
    n = memory.LARGE + 77
    x = np.cos(np.arange(float(n)))
    v = np.sin(np.arange(float(n)))
    for _ in range(2):
        with dd.linearize(lambda u: np.sum(ring(u, 3) ** 2), x) as lin:
            same_bits(lin.value, np.sum(ring(x, 3) ** 2))
            gradient = lin.vjp(np.ones(()))
            np.testing.assert_allclose(gradient @ v, lin.jvp(v), rtol=1e-10)
            lin.update(x + 0.1)
            same_bits(lin.value, np.sum(ring(x + 0.1, 3) ** 2))
        gc.collect()
    h = 1e-6
    near = [np.sum(ring(x + s * h * v, 3) ** 2) for s in (1, -1)]
    np.testing.assert_allclose(gradient @ v, (near[0] - near[1]) / (2 * h), rtol=1e-6)


def test_floating_point_errors_the_user_handles(put_off):
    def f(x):
        with np.errstate(invalid="raise"):
            try:
                y = np.sqrt(x)
            except FloatingPointError:
                y = 3 * x
        return np.sum(y * y)

    x = np.linspace(-1, 1, 50)
    value, gradient = dd.value_and_grad(f)(x)
    assert value == f(x)
    np.testing.assert_allclose(gradient, 18 * x, rtol=1e-14)


def test_kept_after_the_trace(put_off):
    kept = []

    def f(x):
        y = 3 * np.sin(x)
        kept.append(y)
        return np.sum(y * y)

    dd.grad(f)(np.ones(50))
    for look in (lambda y: y[3], lambda y: y[[1, 2]], lambda y: y.tolist(), lambda y: y.__setitem__(3, 1.0)):
        with pytest.raises(dd.errors.UnsupportedOperationError, match="after its trace was over"):
            look(kept[-1])


def test_numba_imported_while_a_trace_computes_knows_numpy_itself():
    """Numba takes np.zeros and its kin by name when it is imported, once and for all."""
    program = """
import sys, numpy as np, distdiff as dd
from distdiff.kernels import jit
jit.compile_at_once()

def f(x):
    y = 2 * x * x
    assert "numba" not in sys.modules
    str(y[0])
    assert "numba" in sys.modules, "nothing was computed by compiled loops"
    return np.sum(y)

dd.grad(f)(np.ones(20_000))
import numba
assert numba.njit(lambda n: np.zeros(n).sum() + np.array([1.0, 2.0]).sum())(3) == 3.0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_a_look_takes_addresses_of_what_is_computed_alone(monkeypatch):
    """A loop that looks now and then does not pay at every look for all steps before."""
    from distdiff import fusion

    u = np.linspace(0.1, 1.0, 1 << 14)
    monkeypatch.setattr(tiles._Loops, "spent", 10**12)
    plain, touched = fusion._Writer.addresses, []
    monkeypatch.setattr(fusion._Writer, "addresses", lambda self: (touched.append(len(self.touched)), plain(self))[1])

    def f(u):
        seen = 0.0
        for _ in range(6):
            for _ in range(40):
                u = 0.5 * u + 0.25 * u * u
            seen = seen + u[3]
        return seen

    expected = f(u)
    with dd.linearize(f, u) as lin:
        assert lin.value == expected
    assert len(touched) >= 4 and max(touched[1:]) <= touched[0] + 8
