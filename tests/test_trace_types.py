"""Whole numbers and truths among floats: what traced values are cut to where NumPy writes them into such arrays, and
what truths give that are joined; writes that NumPy refuses leave no trace behind, whoever catches it."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

import distdiff as dd

X = np.array([0.7137, -1.3219, 2.1172, 0.4511, -0.2383, 1.6121])
ELSEWHERE = np.array([1.2171, -1.8112, 3.0871, -0.3177, -0.6113, 2.4831])  # other truths, other whole numbers
KNOWN = {"np": np, "G": np.arange(6), "T": np.array([True, False, True, True, False, True]), "cut": lambda t: (
    1 if t > 0 else t), "pair": lambda t: (0 if t > 0 else t, t)}

CUT = """
np.full_like(np.arange(6), x[2]) * x
np.full_like(G, x[2]) * x
np.full_like(G.reshape(2, 3).T, x[:3] * 3, shape=(2, 3)).ravel("K") * x
np.full_like(x, x[2] * 2, dtype=int) * x
np.full_like(T, x[0] - x[0]) * x
np.full_like(x > 0, x[1]) * x
np.full(3, x[2] * 3, dtype=int) * x[:3]
np.full((2, 3), x[:3] * 3, np.int8) * x[:3]
np.full(2, x[0], bool) * x[:2]
(x[2] * 1e200).astype(int) * x * 1e-18
np.array(x[2] * 1e200).astype("i8") * x * 1e-18
np.full(3, x[0] > 0) + np.full(3, x[1] > 0) + x[:3]
np.full(3, [x[0] * 4, 1.5, 2.5], dtype=int) * x[:3]
np.fromiter((t * 3 for t in x), int) * x
np.fromiter((t * 3 for t in x), dtype=np.int64, count=2) * x[:2]
np.insert(np.arange(5), 2, x[2]) * x
np.insert(T[:5], [0], x[2]) * x
np.insert(np.zeros(0, int), 0, x[2]) * x
np.pad(np.arange(4), 1, constant_values=x[2]) * x
np.pad(np.arange(4), 1, constant_values=[[x[2], 7.5]]) * x
np.vectorize(cut)(x) * x
np.vectorize(lambda t: t if t > 0 else 0)(x) * x
np.vectorize(lambda t: True if t > 0 else t)(x) * x
np.vectorize(lambda t: t, otypes=[int])(x) * x
np.vectorize(lambda t: t, otypes="d")(x) * x
np.vectorize(pair)(x)[0] * x + np.vectorize(pair)(x)[1]
np.vectorize(lambda t: (t, t * 3), otypes=[float, int])(x)[1] * x
np.vectorize(lambda r: 1 if r[0] > 0 else r.sum(), signature="(n)->()")(x.reshape(2, 3)) * x[:2]
np.apply_along_axis(lambda r: 1 if r[0] > 0 else r.sum(), 0, x.reshape(3, 2).T) * x[:3]
"""

COUNTS = """
{2: 1.0, 3: 2.0}.get(np.sum(x > 1), 3.0) * x
(np.sum(x > 0) & 1) * x + (3 & np.sum(x > 0)) * x + (np.sum(x > 0) | 8) * x + (np.sum(x > 0) ^ np.sum(x < 1)) * x
(np.sum(x > 0) << 1) * x + (1 << np.sum(x > 0)) * x + (np.sum(x > 0) >> 1) * x + ~np.sum(x > 0) * x
np.linalg.matrix_power(np.outer(x[:2], x[:2]), np.sum(x > 0) - 1)
np.split(x, [np.sum(x > 0)])[0] * 2
np.array_split(x, [1, np.sum(x > 0)])[1].sum() * x
np.delete(x, np.sum(x > 0) - 1)
np.delete(x, [np.sum(x > 0) - 1, 0])
np.delete(x, x > 1)
np.delete(G, x > 1) * x[0]
np.compress(x > 0, G) * x[0]
np.repeat(G, np.sum(x > 0)) * x[1] * float(np.sum(x > 0))
np.repeat(x, x > 0) * 2 + np.repeat(G, x > 0) * x[0]
np.repeat(x[:2], np.sum(x.reshape(2, 3) > 0, axis=1))
np.take(x, np.sum(x.reshape(2, 3) > 0, axis=1)) + np.take(G, np.sum(x.reshape(2, 3) > 0, axis=1))
(np.count_nonzero(x[0]) + np.count_nonzero(x[1] > 0)) * x
np.ones((np.sum(x > 0), 2)) * x[0]
np.zeros([2, np.sum(x > 0)]) + np.full((2, np.sum(x > 0)), x[0]) + np.full((2, np.sum(x > 0)), 3.0)
np.tile(x, (np.sum(x > 0), 1)) + np.broadcast_to(x, (np.sum(x > 0), 6)) + np.resize(G, (np.sum(x > 0), 6))
np.pad(x, (0, np.sum(x > 0))) + np.pad(x, np.sum(x > 0))[:x.size + np.sum(x > 0)]
np.insert(x, np.sum(x > 0), x[0]) * 2
np.sum(x.reshape(2, 3), axis=np.sum(x > 0) - 3)
x.reshape(2, 3).mean(np.sum(x > 0) - 3) * 2
np.fft.fft(x.reshape(2, 3), axis=np.sum(x > 0) - 3).real
np.polyder(x, np.sum(x > 0) - 2)
x[-np.sum(x > 0):] * 2
x[np.sum(x > 0) // 2] * x * abs(np.sum(x > 0) - 9)
[x[0], x[1], x[2]][np.sum(x > 0) % 3] * x
np.bitwise_and.accumulate(x > 0) * x + np.bitwise_or.accumulate(x > 0) * x
"""

INTO = """
y[:] = x * 10
y[...] = x > 0
y[[0, 1, 1]] = x[:3] * 4
y[G > 2] = x[:3] * 7
y[x > 0] = x[2] * 3
y += x > 0
y[:2] = [x[0] * 3, 1]
y[1:3][0] = x[2] * 3
y.fill(x[2] * 2)
"""

TRUTHS = """
(x > 0) @ (x > 0) * x + T @ (x > 0) * x
(x > 0).dot(x < 1) * x + np.dot(T, x > 0) * x
(np.outer(x > 0, x > 0) @ np.outer(T, x > 0))[0] * x
(x > 0) @ G * x + (x > 0) @ x
np.inner(x > 0, x > 0) * x + np.vdot(x > 0, T) * x
np.tensordot(x > 0, x > 0, 1) * x
np.einsum("i,i", x > 0, T) * x + np.einsum("i->", x > 0) * x
np.einsum("i,i", x > 0, x) * x
np.linalg.multi_dot([np.outer(x > 0, T)] * 3)[0] * x
np.linalg.matrix_power(np.outer(x > 0, x > 0), 2)[0] * x
np.convolve(x > 0, T)[:6] * x
((x > 0) * T + (x > 0) * T) * x
((x > 0) + T) * x + ((x > 0) + True) * x
~((x > 0) * T) * x
(np.where(T, x > 0, x < 1) + np.where(T, x > 0, False)) * x
(np.diag(x > 0) + np.diag(x > 0))[2] * x
(np.tril(np.outer(x > 0, x > 0)) & True)[3] * x
np.median(x > 0) * x + np.median((x > 0)[:3]) * x + np.nanmedian(x > 0) * x
np.interp(0.5, G, x > 0) * x
np.linalg.norm(x > 0) * x
"""

FEW_BITS = """
np.sqrt(m)
np.exp(m)
np.arctan2(m, T)
np.hypot(m[0], m)
np.add(m, np.float16(1.1))
m + np.float16(1.1)
np.float32(0.1) * m
m * np.float32([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
np.int8([100, 1, 2, 3, 4, 5]) * m
m // T
G // np.logical_not(m)
m ** m
m ** 2
m ** 2.0
m ** 3
m ** 0.5
m.round()
m.clip(0, 1)
m % 2
np.divmod(m, T)[1]
np.fmod(T, m)
np.fabs(m)
np.absolute(m)
abs(m)
np.square(m)
np.conjugate(m)
np.floor(m)
np.spacing(m)
np.nextafter(m, T)
np.ldexp(m, G)
np.frexp(m)[0]
np.logaddexp(m, m)
np.logaddexp.reduce(m)
np.hypot.reduce(m)
np.arctan2.accumulate(m)
np.power.outer(m, T)
np.sqrt(m, where=T, out=np.zeros(6))
np.add(m, m, dtype=float)
np.multiply(m, T, dtype=float)
np.cumprod(m) + np.cumprod(m)
np.where(m, np.float32(0.1), np.float32(0.2)) * np.float32(0.7)
np.where(m, np.float16([0.1] * 6), 0.5)
m << 1
1 << m
m >> T
m & 3
3 | m
m ^ 2
np.gcd(m, 4)
m & T
np.sqrt(m[0])
m[0] + np.float16(1.1)
m[0] // m[1]
m[0] & 2
m[0] | T
m[0] << 3
1 << m[1]
abs(m[0])
m[0] ** 2
np.left_shift(np.sum(m), 2)
np.float32(0.1) * m[2]
"""

LIKE_NUMPY = """
m.__neg__()
-m[0]
m.ptp()
round(m[0])
np.positive(m)
np.subtract(m, T)
m - m
np.sign(m)
np.subtract.reduce(m)
m.__ilshift__(1)
m.__iand__(3)
m ** -1
"""

WAYS = """
np.conj(np.array(x[0]))
np.add(x + 1j * x, None)
F4 * x[0]
np.divide(x[:3], C8).real
np.power(C8, x[:3]).imag
np.sum(x, axis=0.0)
np.mean(x, axis=0.0)
np.sum(m, axis=())
np.sum(m[0]) + np.sum(m[2])
np.sum(m, initial=0.5)
np.sum(m, initial=0.5, dtype=float)
np.prod(m, where=m, initial=0.5)
np.max(m, initial=0.5)
np.min(np.sum(m), initial=0.5)
np.nansum(m, initial=0.5)
np.nanmax(m)
x[:0].prod()
np.mean(m, dtype=int)
np.var(m, dtype=int)
np.std(m, dtype=int, axis=0)
np.prod(x + 1j * x, dtype=complex)
np.arccos(m, dtype=int)
np.add(m, T, dtype=int)
np.conj(m, casting="no")
np.add(x, G, casting="no")
np.add(x, G, casting="safe")
np.add(x, x, signature="dd->d")
np.absolute(x, signature="dd->d")
np.add(x, 1, dtype=int)
np.power(m, 0.5)
np.float_power(m, 0.5)
np.ldexp(x, 0.5)
np.floor_divide(np.sum(m), T)
np.remainder(np.sum(m), np.int8([1, 2]))
np.sum(x, out=np.zeros(3))
np.median(x, out=np.zeros(3))
np.nanvar(x, out=np.zeros(1))
np.clip(x, 0, 1, out=np.zeros((2, 6)))
np.around(x, 1, np.zeros((2, 6)))
np.take(x, [0, 1], out=np.zeros(3))
np.cumsum(G * 1.0, out=x.copy())
np.sum(np.ones((2, 6)), 0, out=x.copy())
np.sum(np.ones((2, 6)), 1, out=x.copy())
"""

REFUSED = """
np.put(y, [0, 99], [5.0, 6.0])
np.put(y, [1, -7, 2], x[0])
y.diagonal()[0] = 3.0
np.diag(y)[0] = x[0]
np.diagonal(y, 1)[...] = x[0]
y.diagonal().__iadd__(1.0)
np.broadcast_to(y, (2, 2, 3))[0] = 3.0
np.lib.stride_tricks.sliding_window_view(y, 2, 1)[0, 0, 0] = 3.0
y[:] = np.ones(4)
y[[0, 1]] = np.ones((2, 4))
y[0] = [1, 2]
y[[0, 5]] = 1.0
y += np.ones((3, 2, 3))
y += 1j
np.matmul(y, y, out=y)
np.add(x[0], np.ones((4, 2, 3)), out=y)
"""

READ_ONLY = """
y[0, 1] = 1.0
y[0] = x[:3]
y[[0, 1]] = 1.0
y[y > 0] = 1.0
y[y > 0] = x[:1]
y.flat[:2] = 1.0
y.fill(1.0)
y.sort()
y.partition(1)
y += 1.0
y *= y
y.T[0] = 1.0
y.reshape(-1)[0] = x[0]
y.real[0] = 1.0
np.add.at(y, 0, 1.0)
np.multiply.at(y, 0, 2.0)
np.add(y, 1.0, out=y)
np.cumsum(x.reshape(2, 3), 1, out=y)
np.copyto(y, 1.0)
np.fill_diagonal(y, 3.0)
np.put(y, [0], 1.0)
np.putmask(y, y > -9, 1.0)
np.place(y, np.ones((2, 3), bool), [1.0])
np.put_along_axis(y, np.array([[0], [1]]), 2.0, 1)
np.nan_to_num(y, copy=False)
"""


def lines(table: str) -> list[str]:
    return table.strip().splitlines()


def held_to_numpy(f):
    """f's values at two points by one tape, and its derivative to differences."""
    with dd.linearize(f, X) as lin:
        for x in (X, ELSEWHERE, X):
            assert np.array_equal(lin.update(x), f(x.copy()))
            v, h = np.cos(np.arange(6.0)), 1e-4
            differences = (f(x + h * v) - f(x - h * v)) / (2 * h)
            assert np.allclose(lin.jvp(v), differences, 1e-7, 1e-7)
            assert np.isclose(np.vdot(lin.vjp(np.ones(lin.value.shape)), v), differences.sum(), 1e-7, 1e-7)


@pytest.mark.parametrize("text", lines(CUT) + lines(TRUTHS) + lines(COUNTS))
def test_whole_numbers_and_truths(text):
    held_to_numpy(eval("lambda x: " + text, KNOWN))


@pytest.mark.parametrize("text", lines(FEW_BITS))
def test_truths_in_numbers_of_fewer_bits(text):
    """Results are of NumPy's type, or of doubles and whole numbers that hold the same."""
    kinds = []

    def f(x):
        found = eval(text, KNOWN, {"m": x > 0})
        kinds.append(found.dtype if hasattr(found, "dtype") else np.result_type(found))
        return found * x

    held_to_numpy(f)
    traced, plain = kinds[:2]
    assert traced == plain or (traced, plain) == (np.dtype(float), np.dtype(int))


def test_a_count_is_no_key_of_what_other_traces_find():
    def f(x, axis):
        return np.sum(np.reshape(x, (2, 3)), axis=axis)[0]

    dd.grad(lambda x: f(x, np.sum(x > 0) - 3))(X)
    assert np.array_equal(dd.grad(lambda x: f(x, 1))(X), [1, 1, 1, 0, 0, 0])


def test_what_a_count_looks_like(capsys):
    def f(x):
        text = f"{np.sum(x > 0):3d}"
        print(text, np.sum(x > 0), file=sys.stderr)
        return x[0]

    dd.grad(f)(X)
    assert capsys.readouterr().err == "traced(  4) traced(4)\n"


@pytest.mark.parametrize("spectrum", [
    np.linalg.eigvals, lambda a: np.linalg.eig(a)[0], lambda a: np.roots([1, a[0, 1] * 3, a[1, 0]])])
def test_whether_eigenvalues_are_complex_is_decided(spectrum):
    def f(x):
        w = spectrum(np.reshape(x, (2, 2)))
        return x[0] * 3 if np.iscomplexobj(w) else np.max(w)

    real, turning = np.array([3.0, 1.0, 1.0, 2.0]), np.array([0.5, 1.0, -1.0, 0.7])
    f_again = dd.recorded(f)
    with dd.linearize(f, real) as lin:
        for x in (real, turning, real, turning):
            assert np.isclose(lin.update(x), f(x)) and np.isclose(f_again(x), f(x))


def test_counts_beside_a_result_are_whole_numbers():
    (_, aux), _ = dd.value_and_grad(lambda x: (x[0], (np.sum(x > 0), x[1] > 0)), has_aux=True)(X)
    assert aux == (4, False) and type(aux[0]) is int


def test_arrays_are_compared_with_none_element_by_element():
    found = []

    def f(x):
        found.extend([x == None, None != x, x[0] == None])  # noqa: E711
        return x[0]

    dd.grad(f)(X)
    assert found[0].shape == found[1].shape == (6,) and not found[0].any() and found[1].all() and found[2] is False


def test_whole_numbers_beyond_64_bits_are_factors():
    held_to_numpy(lambda x: np.asarray(x * 2**70 / 10**21 + 2**64 - 2**64 * x, dtype=float) * 1e-20)


@pytest.mark.parametrize("call", [
    lambda y: y.var(bogus=1), lambda y: y.std(initial=0.5), lambda y: np.var(y, weights=y)])
def test_options_that_variances_do_not_have(call):
    for run in (call, dd.grad(call)):
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            run(X)


def test_the_distance_to_the_next_number_takes_no_digits():
    assert np.array_equal(dd.grad(lambda x: np.sum(np.spacing(x) * 1e16 + x))(X), np.ones(6))
    assert np.array_equal(dd.grad(lambda x: sum(np.spacing(t) * 1e16 + t for t in x))(X), np.ones(6))


@pytest.mark.parametrize("text", lines(WAYS))
def test_ways_to_say_in_what_numbers_and_where(text):
    """Values, their types and errors are NumPy's; numbers of 32 bits, which are computed in 64, are told of."""
    known = {**KNOWN, "F4": np.float32([0.1, 0.2, 0.3]), "C8": np.complex64([1 + 1j, 2, 3])}
    seen = []

    def f(x):
        try:
            seen.append(dd.numpy.value(eval("lambda x, m: " + text, known)(x, x > 0)))
        except (TypeError, ValueError) as error:
            seen.append(error)
        return np.sum(x)

    with np.errstate(all="ignore"), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        f(X)
        dd.linearize(f, X)
    plain, traced = seen[:2]
    if isinstance(plain, Exception):
        assert isinstance(traced, (TypeError, ValueError)) and isinstance(plain, type(traced))
        return
    few = any(issubclass(w.category, dd.errors.PrecisionWarning) for w in told)
    assert few == ("F4" in text) and isinstance(traced, np.ndarray) is isinstance(plain, np.ndarray)
    assert np.shape(traced) == np.shape(plain)
    kinds = np.asarray(traced).dtype, np.asarray(plain).dtype
    assert few or kinds[0] == kinds[1] or kinds == (np.dtype(float), np.dtype(int))
    np.testing.assert_allclose(traced, plain, rtol=1e-6 if few else 1e-14)


@pytest.mark.parametrize("text", lines(LIKE_NUMPY))
def test_what_numpy_refuses_of_truths(text):
    errors = []
    for run in (lambda f: f(X), lambda f: dd.linearize(f, X)):
        with pytest.raises((TypeError, ValueError)) as error:
            run(lambda x: eval(text, KNOWN, {"m": x > 0}) * x)
        errors.append(error.value)
    assert isinstance(errors[0], type(errors[1]))
    assert not isinstance(errors[1], dd.errors.DistdiffError)


@pytest.mark.parametrize("kind", [int, np.int8, bool])
@pytest.mark.parametrize("text", lines(INTO))
def test_writing_into_whole_numbers(text, kind):
    code = compile(text, "a write", "exec")

    def f(x):
        y = np.zeros(6, kind)
        exec(code, KNOWN, {"x": x, "y": y})
        return y * x

    held_to_numpy(f)


@pytest.mark.parametrize("text", lines(REFUSED) + ["ro: " + text for text in lines(READ_ONLY)])
def test_a_refused_write_that_is_caught(text):
    code = compile(text.removeprefix("ro: "), "a write", "exec")

    def f(x):
        y = x.reshape(2, 3) * 1.0
        if text.startswith("ro: "):
            y.flags.writeable = False
        try:
            exec(code, KNOWN, {"x": x, "y": y})
        except (ValueError, IndexError, TypeError):
            return np.ravel(y) * x
        raise AssertionError("written")

    held_to_numpy(f)


@pytest.mark.parametrize("text", lines(READ_ONLY) + ["y.T[:1] += 1.0", "y[1:][0] = 3.0", "np.sin(y, out=y)"])
def test_an_argument_that_must_not_be_written(text):
    code = compile(text, "a write", "exec")

    def f(y, x):
        assert not y.flags.writeable
        exec(code, KNOWN, {"x": x, "y": y})
        return np.sum(y * x[:3])

    y = X.reshape(2, 3).copy()
    y.flags.writeable = False
    for run in (lambda: f(y, X), lambda: dd.grad(f, (0, 1))(y, X), lambda: dd.recorded(f)(y, X)):
        with pytest.raises(ValueError, match="read-only|WRITEABLE"):
            run()


def test_copies_and_inner_derivatives_of_an_argument_that_must_not_be_written():
    def f(x, write=False):
        y = x.copy()
        y[0] += 1.0
        (x if write else y)[1:] *= 2.0
        return np.sum(y * y * x)

    x = X.copy()
    x.flags.writeable = False
    found = [dd.grad(f)(X), dd.grad(f)(x), dd.recorded(f).grad(x), dd.grad(lambda x: np.sum(dd.grad(f)(x)))(x)]
    assert all(np.array_equal(gradient, found[0]) for gradient in found[:3]) and found[3].shape == X.shape
    F = dd.recorded(f)
    assert F(x) == f(x) and F(X) == f(X) and F.counts.traces == 2  # which f could tell apart
    with pytest.raises(ValueError, match="read-only"):
        dd.grad(lambda x: np.sum(dd.grad(lambda y: f(y, True))(x)))(x)


def test_a_write_into_whole_numbers_that_is_refused():
    def f(x):
        y = np.zeros(6, int)
        np.copyto(y, x, casting="unsafe")
        return y * x

    with pytest.raises(dd.errors.UnsupportedOperationError, match="array of dtype int64"):
        dd.linearize(f, X)


@pytest.mark.parametrize("key", [lambda x: x[0], lambda x: x[0] + 1j * x[1]])
def test_numbers_are_no_keys_whoever_catches_it(key):
    def f(x):
        try:
            return {0.5: 2.0}.get(key(x), 1.0) * x
        except TypeError:
            return x * x

    with pytest.raises(dd.errors.UnsupportedOperationError, match="key of a dict"):
        dd.linearize(f, X)
