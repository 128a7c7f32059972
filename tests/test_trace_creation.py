"""Arrays made while tracing: true ndarrays for everyone else, restored whatever happens; and what is refused,
by name and line."""

from __future__ import annotations

import math
import threading
import warnings

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.sparse
import tape_oracle as oracle
from numpy import array, concatenate, eye, full, r_, zeros
from numpy import linspace as spaced
from scipy.special import kolmogorov

import distdiff.numpy
from distdiff.errors import DistdiffError, InputError, UnsupportedOperationError
from distdiff.tape import Affine, Const
from distdiff.tracing import sparse, trace
from distdiff.tracing.creation import NUMPY, SUBSTITUTES

U = np.array([0.9137, 1.7214, 0.4353, 1.3079])


def restored() -> bool:
    return all(getattr(np, name) is function for name, function in NUMPY.items()) and type(np.zeros(1)) is np.ndarray


# -- substitution ---------------------------------------------------------------------------------------------


def test_nothing_is_substituted_outside():
    assert restored()
    trace(lambda u: u * np.ones(4), (U,))
    assert restored() and set(NUMPY) == set(SUBSTITUTES)


def test_restored_after_errors():
    for error in (ValueError, KeyboardInterrupt, SystemExit, GeneratorExit):

        def f(u, error=error):
            raise error("stop")

        with pytest.raises(error):
            trace(f, (U,))
        assert restored()
    with pytest.raises(InputError):
        trace(lambda u: None, (U,))
    assert restored()


def test_restored_when_a_generator_is_left_open():
    def numbers(u):
        for k in range(3):
            yield np.zeros(2) + u[k]

    kept = []

    def f(u):
        g = numbers(u)
        kept.append(g)
        return next(g)

    t = trace(f, (U,))
    np.testing.assert_array_equal(t.result, [U[0]] * 2)
    assert restored()
    with pytest.raises(DistdiffError, match="after its trace was over"):
        next(kept[0])


def test_traces_inside_a_trace():
    def f(u):
        inner = trace(lambda v: np.zeros(2) + v[0], (np.array([3.0]),))
        out = np.zeros(2)  # the outer trace still has its own
        out[0] = u[0] * inner.result[1]
        return out

    t = trace(f, (U,))
    np.testing.assert_allclose(t.result, [3 * U[0], 0.0])
    assert restored()
    with pytest.raises(UnsupportedOperationError, match="itself a traced value"):
        trace(lambda u: trace(lambda v: v * 2, (u,)).result, (U,))
    assert restored()

    def mixes(u):
        return trace(lambda v: v * u, (np.ones(4),)).result

    with pytest.raises(UnsupportedOperationError, match="another trace"):
        trace(mixes, (U,))
    assert restored()


def test_other_threads_see_numpy_itself():
    inside, done = threading.Event(), threading.Event()
    seen = []

    def other():
        inside.wait(10)
        seen.extend([type(np.zeros(2)), type(np.array([1.0, 2.0])), np.sum([1.0, 2.0])])
        done.set()

    thread = threading.Thread(target=other)
    thread.start()

    def f(u):
        inside.set()
        assert done.wait(10)
        out = np.zeros(4)
        assert type(out) is not np.ndarray and isinstance(out, np.ndarray)
        out[1] = u[0]
        return out

    trace(f, (U,))
    thread.join()
    assert seen == [np.ndarray, np.ndarray, 3.0] and restored()


def test_two_threads_trace_at_once():
    barrier = threading.Barrier(2)
    results = {}

    def work(k):
        def f(u):
            barrier.wait(10)
            out = np.zeros(4)
            for i in range(4):
                out[i] = u[i] * k
            barrier.wait(10)
            return out.sum()

        results[k] = trace(f, (U,)).result

    threads = [threading.Thread(target=work, args=(k,)) for k in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {2: pytest.approx(2 * U.sum()), 3: pytest.approx(3 * U.sum())} and restored()


def test_other_functions_of_numpy_stay(monkeypatch):
    def f(u):
        assert np.arange(3).dtype == int and np.zeros(2, dtype=int).dtype == int
        assert type(np.zeros(2, dtype=object)) is np.ndarray and type(np.array(["a"])) is np.ndarray
        assert np.array([1, 2]).dtype.kind == "i" and np.zeros((2, 2), dtype=bool).dtype == bool
        assert np.asarray(U) is U and np.array(U) is not U
        assert np.zeros.__name__ == "zeros" and "Return a new array" in np.zeros.__doc__
        return u

    trace(f, (U,))


# -- holding arrays ----------------------------------------------------------------------------------------------


def test_holding_arrays_are_ndarrays_to_compiled_code():
    def f(u):
        a = np.zeros((2, 2))
        a[0, 0] = a[1, 1] = 2.0
        a += np.eye(2)
        lu = scipy.linalg.lu_factor(a)
        b = scipy.linalg.lu_solve(lu, np.ones(2))
        root = scipy.optimize.brentq(lambda x: x * x - 2.0, 0.0, 2.0)
        values, _ = np.linalg.eigh(a)
        memory = memoryview(np.ones(3))
        return (
            u[:2] * b
            + root
            + values[0]
            + memory[0]
            + np.ones(3)[1:].sum()
            + float(np.ones(()))
            + math.sqrt(np.full(1, 4.0)[0])
        )

    t = trace(f, (U,))
    np.testing.assert_allclose(t.result, f(U))


def test_sparse_matrices():
    band = scipy.sparse.diags([1.0, -2.0, 1.5], [-1, 0, 1], shape=(40, 40), format="csr")
    odd = scipy.sparse.random(30, 40, 0.1, random_state=1, format="csc")
    empty = scipy.sparse.csr_matrix((3, 40))
    x = np.cos(np.arange(40.0))
    own = {cls: vars(cls)[name] for cls, name in sparse.methods()}

    def f(u):
        m = u.reshape(40, 1) * np.ones(2)
        out = np.zeros(40)
        out[:] = u
        return (band @ u, band.dot(u * u), odd @ u, odd.T @ (odd @ u), u @ band, u @ odd.T, band @ m, empty @ u,
                odd @ out, band @ np.ones(40), (band @ band) @ u)

    t = trace(f, (x,))
    assert {cls: vars(cls)[name] for cls, name in sparse.methods()} == own
    for traced, plain in zip(t.result, f(x)):
        np.testing.assert_allclose(traced, plain, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(oracle.jacobian(trace(lambda u: band @ u, (x,)).tape, x), band.toarray(), atol=1e-14)
    twice = trace(lambda u: odd @ (u * 2), (x,)).tape
    np.testing.assert_allclose(oracle.jacobian(twice, x), 2 * odd.toarray(), atol=1e-14)
    products = [item for item in trace(lambda u: band @ u, (x,)).tape.items if item.op.name == "multiply"]
    assert [item.shape for item in products] == [(2, 2), (38, 3)]  # the rows at the ends, and the inner ones
    assert isinstance(products[1].operands[1], Affine)
    with pytest.raises(ValueError, match="mismatch"):
        trace(lambda u: odd.T @ u, (x,))


def test_memory_of_a_holding_array_can_not_be_mistaken():
    def f(u):
        a = np.zeros(3)
        a[1] = u[0]
        assert np.isnan(np.ndarray.view(a, np.ndarray)).all()
        assert np.isnan(memoryview(a)[0])
        return a

    np.testing.assert_array_equal(trace(f, (U,)).result, [0.0, U[0], 0.0])


@pytest.mark.parametrize("view", [
    lambda a: np.swapaxes(a, 0, 1),
    lambda a: np.moveaxis(a, 0, 1),
    np.transpose,
    lambda a: np.reshape(a, (2, -1)),
    np.ravel,
    lambda a: np.squeeze(a[:1]),
    lambda a: np.expand_dims(a, 0),
    np.atleast_2d,
    lambda a: np.atleast_3d(a, a)[1],
    np.flip,
    np.flipud,
    np.rot90,
    lambda a: np.split(a, 2)[1],
    lambda a: np.hsplit(a, 3)[2],
    lambda a: np.array_split(a, 3)[1][::-1],
    lambda a: np.rollaxis(a, 1),
    lambda a: np.broadcast_arrays(a, np.ones((4, 3)))[0],
    lambda a: np.nan_to_num(a, copy=False),
    lambda a: np.einsum("ii->i", a[:3]),
    lambda a: np.real(a.T),
    lambda a: np.reshape(np.flip(np.swapaxes(a, 0, 1), 0), (3, 2, 2)),
])
@pytest.mark.parametrize("transposed", [False, True])
def test_views_by_functions_write_through(view, transposed):
    def f(u):
        a = np.ones((3, 4)).T if transposed else np.ones((4, 3))
        w = view(a)
        w[...] += u[0]
        a *= u[1]
        w *= 2.0
        return a

    t = trace(f, (U,))
    np.testing.assert_allclose(t.result, f(U))
    written = f(U) > 4.0
    np.testing.assert_allclose(oracle.jacobian(t.tape, U)[:, 0].reshape(4, 3)[written], 2.0 * U[1])


@pytest.mark.parametrize("made", [
    lambda: np.arange(4, dtype=float),
    lambda: np.arange(4).astype(float),
    lambda: np.arange(8)[::2] / 2,
    lambda: np.exp(-np.arange(4)),
    lambda: np.where(np.arange(4) > 2, 0.5, np.arange(4)),
    lambda: np.reshape(np.arange(4), (2, 2)).ravel() * 1.0,
    lambda: np.zeros(4, dtype=int) + 0.5,
    lambda: np.indices((4, 2))[0][:, 0] * 2.0,
    lambda: np.tri(4, 5)[2, :4],
    lambda: np.array([1, 2, 3, 4]) / 3,
])
def test_what_whole_numbers_become(made):
    t = trace(lambda u: written(made(), u), (U,))
    plain = made()
    plain[1] = U[1]
    np.testing.assert_array_equal(t.result, plain)
    np.testing.assert_array_equal(oracle.jacobian(t.tape, U)[:, 1], [0.0, 1.0, 0.0, 0.0])


def test_whole_numbers_stay_whole():
    def f(u):
        k = np.arange(4)
        k[0] = u[1] + 2.0  # cut, as NumPy does, and guarded
        k += 1
        return np.array([u[i % 4] for i in k]) + u[k[::-1] % 4] * k

    plain, t = f(U), trace(f, (U,))
    np.testing.assert_array_equal(t.result, plain)
    assert len(t.tape.guards) == 1


def written(a, u):
    a[1] = u[1]
    return a


def test_parts_of_complex_arrays_by_functions():
    def f(u):
        z = np.zeros((2, 2), complex)
        np.imag(z)[:] = u[:2]
        np.real(z.T)[1] = u[2:]
        return np.concatenate([z.real, z.imag])

    np.testing.assert_array_equal(trace(f, (U,)).result, f(U))


def test_a_view_that_is_only_to_be_read_stays_so():
    def f(u):
        np.broadcast_to(np.zeros(3), (2, 3))[0] = u[0]
        return u

    with pytest.raises(ValueError, match="read-only"):
        trace(f, (U,))


def test_views_taken_before_and_after():
    def f(u):
        a = np.zeros((3, 4))
        row, column, flat = a[1], a.T[2], a.reshape(-1)
        a[1, 2] = u[0]
        flat[0] = u[1]
        column[0] += 5.0
        row *= 2
        b = np.asarray(a)
        b[2] = u
        c = a.copy()
        c[0] = 7.0
        return (
            a,
            row,
            column,
            flat,
            b is a,
            np.array(row),
            a.sum(),
            a.max(axis=0),
            a.mean(),
            c,
            a[a > 1],
            len(a),
            a.shape,
            a.tolist(),
        )

    t = trace(f, (U,))
    for traced, plain in zip(t.result, f(U)):
        np.testing.assert_allclose(np.array(traced, dtype=float), np.array(plain, dtype=float))
    y = oracle.evaluate(t.tape, U * 1.5 + 1)
    flat = np.concatenate([np.ravel(np.asarray(part, dtype=float)) for part in f(U * 1.5 + 1)])
    np.testing.assert_allclose(oracle.outputs(t.tape, y)[: 12 + 4 + 3 + 12], flat[: 12 + 4 + 3 + 12])


def test_constant_results_need_no_nodes():
    def f(u):
        a = np.zeros(4)
        a[1] = 2.0
        return a, np.ones(2), 3.0, 4, np.float32(1.0), True, u[0]

    t = trace(f, (U,))
    assert t.tape.n_nodes == 4 and all(isinstance(leaf.ref, Const) for leaf in t.tape.outputs[:-1])
    assert type(t.result[0]) is np.ndarray and t.result[5] == 1.0


def test_np_empty_is_the_same_every_time():
    def f(u):
        a = np.empty(5)
        a[1:3] = u[:2]
        return a * 1.0

    np.testing.assert_array_equal(trace(f, (U,)).result, [0.0, U[0], U[1], 0.0, 0.0])


def test_distdiff_numpy():
    def f(u):
        from distdiff.numpy import array, sin, zeros

        out = zeros(3)
        out[0] = sin(u[0])
        assert distdiff.numpy.value(out[0]) == np.sin(U[0]) and type(distdiff.numpy.value(u)) is np.ndarray
        return out * array([u[0], 1.0, 2.0])

    np.testing.assert_allclose(trace(f, (U,)).result, [np.sin(U[0]) * U[0], 0, 0])
    assert (
        type(distdiff.numpy.zeros(2)) is np.ndarray
        and distdiff.numpy.linalg is np.linalg
        and "zeros" in dir(distdiff.numpy)
    )


def test_isinstance_and_attributes():
    texts = []

    def f(u):
        assert isinstance(u, np.ndarray) and u.dtype == np.float64 and u.shape == (4,) and u.ndim == 1 and u.size == 4
        assert (u > 1).dtype == bool and u[0].dtype == np.float64 and u[0].shape == () and np.ndim(u[0]) == 0
        assert np.shape(u) == (4,) and np.size(u) == 4 and not np.iscomplexobj(u) and np.isrealobj(u)
        assert u.flags.c_contiguous and u.nbytes == 32 and u.itemsize == 8 and len(u) == 4 and u.T.shape == (4,)
        texts.extend([repr(u), str(u[0]), f"{u[0]:.2f}", f"{u}"])
        assert u.real is u and (u.imag == 0).all() and 0.5 not in (u > 5) * 1.0
        assert np.result_type(u, 1.0) == np.float64
        return u

    trace(f, (U,))
    assert "traced" in texts[0] and texts[1] == f"traced({U[0]})" and texts[2] == "traced(0.91)" and "0.91" in texts[3]


# -- refused, by name and line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "f, words",
    [
        (lambda u: math.sin(u[0]), "np.sin"),
        (lambda u: float(u[0]), "plain float"),
        (lambda u: float(u.sum()), "plain float"),
        (lambda u: complex(u[0]), "complex"),
        (lambda u: u * 1j, "complex"),
        (lambda u: u[0] * 1j, "complex"),
        (lambda u: np.fft.fft(u), "a complex result"),
        (lambda u: np.median(1j * u).real * u, "numpy.median of complex"),
        (lambda u: np.linalg.svd(1j * u.reshape(1, 4))[2].real, "numpy.linalg.svd of a 1 x 4 matrix"),
        (lambda u: (1j * u).view(float), "another type"),
        (lambda u: complex(1j * u[0]).real, "plain complex"),
        (lambda u: np.add(u, 1j, out=np.array([1j] * 4, dtype="c8")).real, "plain array"),
        (lambda u: np.linalg.qr(1j * u.reshape(2, 2), "raw")[1].real, "numpy.linalg.qr of a complex"),
        (lambda u: np.linalg.tensorinv(1j * u.reshape(2, 2), 1).real, "numpy.linalg.tensorinv of complex"),
        (lambda u: np.gcd(u, 2), "numpy.gcd"),
        (lambda u: u.astype(complex), "complex"),
        (lambda u: np.add.at(U, [0], u[:1]), "at"),
        (lambda u: np.add.at(OUTSIDE, [0], u[0]), "numpy.add.at"),
        (lambda u: np.sin(u, dtype=int), "dtype"),
        (lambda u: np.sum(u, dtype=int), "numpy.sum with dtype"),
        (lambda u: np.histogram(u, bins="auto"), "histogram"),
        (lambda u: np.less.reduce(u), "numpy.less.reduce"),
        (lambda u: u.tobytes(), "tobytes"),
        (lambda u: scipy.linalg.schur(1j * u.reshape(2, 2))[0].real, "."),
        (lambda u: U.__setitem__(0, u[0]), "plain array"),
        (lambda u: np.add(U, u, out=OUTSIDE), "plain array"),
        (lambda u: np.array(u, dtype=complex), "complex"),
        (lambda u: np.pad(u, 1, lambda *a: None), "numpy.pad"),
        (lambda u: u * np.array(["a"] * 4), "numpy.multiply"),
        (lambda u: np.sin([u[0], u[1]]), "np.array"),
        (lambda u: np.arange(u[0]), "arange"),
        (lambda u: np.einsum("i->i", u, order="F"), "einsum"),
        (lambda u: u.view("i8"), "."),
        (lambda u: kolmogorov(u), "scipy.special.kolmogorov"),
        (lambda u: np.linalg.matrix_rank(1j * u.reshape(2, 2)) * u, "numpy.linalg.matrix_rank of complex"),
    ],
)
def test_unsupported(f, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises((UnsupportedOperationError, TypeError), match=words) as caught:
            trace(f, (U,))
    if isinstance(caught.value, UnsupportedOperationError):
        line = f.__code__.co_firstlineno
        assert f"{__file__}:{line}" in str(caught.value)
    assert restored()


OUTSIDE = np.zeros(4)


def test_numpys_own_errors_come_through():
    for f, error in (
        (lambda u: u + np.ones(3), ValueError),
        (lambda u: u[7], IndexError),
        (lambda u: u[0, 0], IndexError),
        (lambda u: u.reshape(3), ValueError),
        (lambda u: u.sum(axis=2), ValueError),
        (lambda u: np.concatenate([u, u[None]]), ValueError),
        (lambda u: u.copy().__setitem__(slice(2), np.ones(3)), ValueError),
        (lambda u: bool(u > 1), ValueError),
        (lambda u: u[u], IndexError), (lambda u: u[u[0]], IndexError),
        (lambda u: -(u > 1), TypeError),
        (lambda u: (u > 1) - (u > 2), TypeError),
        (lambda u: u @ np.ones(3), ValueError),
        (lambda u: u + "a", TypeError),
        (lambda u: u[0] + None, TypeError),
        (lambda u: len(u.sum()), TypeError),
        (lambda u: range(u[0]), TypeError),
        (lambda u: {u[0]: 1}, TypeError),
        (lambda u: u.no_such_thing, AttributeError),
        (lambda u: int(u[0] / 0.0 * 0.0), ValueError),
        (lambda u: np.stack([u, u[:2]]), ValueError),
        (lambda u: u.transpose(1, 0), ValueError),
    ):
        with np.errstate(all="ignore"), pytest.raises(error):
            trace(f, (U,))
        assert restored()
    with pytest.raises(IndexError, match=r"test_trace_creation.py:\d+ .*holds floats: int\(x\) decides"):
        trace(lambda u: u[u[0]], (U,))


def test_comparisons_with_what_is_no_number():
    assert trace(lambda u: u if u[0] is not None and u[0] != None else 2 * u, (U,)).tape.lines == 4  # noqa: E711


def test_division_by_zero_is_numpys():
    def f(u):
        return np.array([u[0] / 0.0, (u[0] - u[0]) / 0.0, 1.0 / (u[0] - U[0]), u[0] ** 0.5, (-u[0]) ** 0.5])

    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(trace(f, (U,)).result, [np.inf, np.nan, np.inf, U[0] ** 0.5, np.nan])


class _System:
    """As found in textbooks: arrays are made by names of the module's own."""

    made = 0

    def __init__(self, n, maker=zeros):
        self.a, self.b = maker((n, n)), maker(n)
        type(self).made += 1

    def filled(self, u):
        for i in range(len(u)):
            self.a[i, i] = 2.0 + u[i] ** 2
            self.b[i] = np.sin(u[i])
        return self


TABLE, TWICE = {"make": [eye]}, 2 * zeros(3)


def _of_names(u):
    system = _System(len(u)).filled(u)
    m = TABLE["make"][0](2)
    m[0] = u[:2]
    y = array([u[0], 1.0, u[1] * u[2]])
    parts = [np.linalg.solve(system.a, system.b), m @ y[:2], r_[u[3], 2.0], full(2, u[0]), spaced(u[0], u[1], 3)]
    return concatenate(parts)


def test_functions_of_numpys_by_names_of_the_users():
    """`from numpy import zeros`: found where they refuse, exchanged meanwhile, and known the next time."""
    own, h = (array, concatenate, eye, full, r_, zeros, spaced), 1e-6
    expected = np.stack([(_of_names(U + h * e) - _of_names(U - h * e)) / (2 * h) for e in np.eye(4)], axis=-1)
    for runs in (2, 1):  # one in vain at first
        before = _System.made
        t = trace(_of_names, (U,))
        assert _System.made == before + runs
        np.testing.assert_allclose(t.result, _of_names(U), rtol=1e-14)
        np.testing.assert_allclose(oracle.jacobian(t.tape, U), expected, rtol=1e-7, atol=1e-8)
        assert own == (array, concatenate, eye, full, r_, zeros, spaced) and TABLE["make"] == [np.eye] and restored()
    with pytest.raises(UnsupportedOperationError, match="plain float at .*test_trace_creation"):
        trace(lambda u: TWICE.__setitem__(0, u[0]) or u * zeros(4), (U,))
    assert zeros is NUMPY["zeros"]
