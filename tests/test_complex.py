"""Complex intermediates beyond the calls of `complex_cases`: what they cost on the tape, files, replay, conventions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.special
import scipy.stats
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import FormatError, InputError, UnsupportedOperationError
from distdiff.examples import spectral
from distdiff.storage import elementals
from distdiff.tape import Const, Joint
from distdiff.tracing import plain_value, trace
from distdiff.tracing.complexes.fourier import Transform

pytestmark = pytest.mark.few_ranks

U = np.array([0.9137, 1.7214, 0.4353, 1.3079, 0.6181, 1.1231])
K = np.fft.rfftfreq(6, 1 / 6)
OUTSIDE = np.zeros(6, dtype=complex)


def statements(f, u=U):
    return len(trace(f, (u,)).tape.items)


# -- what it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f, expected", [
    (lambda u: (1j * u).imag, 0),
    (lambda u: (u + 1j).real, 0),
    (lambda u: (2j * u).imag, 1),
    (lambda u: (1j * K * np.fft.rfft(u)).imag, 1 + 2),  # the transform, and a product a part
    (lambda u: (-1j * K * np.fft.rfft(u)).real, 1 + 2),
    (lambda u: (np.exp(1j * K) * np.fft.rfft(u)).real, 1 + 6),
    (lambda u: np.exp(1j * u).real, 2),
    (lambda u: np.fft.fft(1j * u[::-1]).real, 1),
    (lambda u: np.fft.fft(np.roll(1j * u, 1)).real, 1 + 2),  # the transform wants its operand in one piece
    (lambda u: np.abs(1j * u), 1),
    (lambda u: np.fft.ifft(np.fft.fft(u)).real, 2),
    (lambda u: np.sum(1j * u).imag, 1),
    (lambda u: (np.ones((6, 6)) @ (1j * u)).imag, 1),
])
def test_what_is_zero_by_structure_costs_nothing(f, expected):
    assert statements(f) == expected


def test_what_a_loop_computes_again_is_one_constant():
    k, kept = np.arange(64.0), []  # kept: so that no two of them lie at the same place

    def f(u):
        z = 1j * u
        for _ in range(4):
            kept.append(-1j * k)
            z = z * kept[-1]
        return z.real, z.imag

    constants = [ref.value for item in trace(f, (k,)).tape.items for ref in item.operands if isinstance(ref, Const)]
    assert len(constants) == 4 and len({x.__array_interface__["data"][0] for x in constants}) <= 2  # k and -k


def test_a_transform_is_one_statement_of_linear_size():
    n = 1 << 15

    def f(u):
        v = np.fft.rfft(u)
        return np.sum(np.fft.irfft(v * np.exp(-1e-3 * np.arange(n // 2 + 1))) ** 2)

    tape = trace(f, (np.zeros(n),)).tape
    assert [type(item) for item in tape.items].count(Joint) == 2
    with dd.linearize(f, np.sin(np.arange(n) / 7.0), method="sweep") as lin:
        g = lin.vjp(1.0)
    filtered = np.fft.irfft(np.fft.rfft(np.sin(np.arange(n) / 7.0)) * np.exp(-2e-3 * np.arange(n // 2 + 1)))
    np.testing.assert_allclose(g, 2.0 * filtered, atol=1e-12)


@pytest.mark.parametrize("form", ["fftn", "ifftn", "rfftn", "irfftn"])
@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (6,), (3, 4), (2, 3, 5)])
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_adjoints_of_transforms(form, shape, norm):
    rng = np.random.default_rng(1)
    for given in ("both", "real", "imaginary") if form != "rfftn" else ("real",):
        op = Transform(form, shape, norm, given)
        x = [rng.standard_normal((2, *core)) for core in op.core_in]
        w = [rng.standard_normal((2, *core)) for core in op.core_out]
        y, xbar = op.tangent(None, [None] * len(x), x), op.adjoint(None, [None] * len(x), w, [True] * len(x))
        left, right = (sum(np.vdot(a, b) for a, b in zip(*pair)) for pair in ((y, w), (x, xbar)))
        assert left == pytest.approx(right, rel=1e-12, abs=1e-12)


# -- files ---------------------------------------------------------------------------------------------------------


def spectrum(u):
    z = np.zeros(6, dtype=complex)
    z[1:4] = np.fft.rfft(u)[:3] * np.exp(1j * u[:3])
    return np.sum(np.abs(np.fft.ifft2(np.stack([z, 1j * u]))) ** 2), np.fft.irfft(z * 1j, 5)


def test_a_saved_tape_has_its_transforms(tmp_path):
    dd.trace(spectrum, U).save(tmp_path / "f.tape")
    loaded = dd.load(tmp_path / "f.tape")
    with dd.linearize(spectrum, U) as own, dd.linearize(loaded, U) as other:
        for a, b in zip(own.vjp((1.0, np.arange(5.0))), other.vjp((1.0, np.arange(5.0)))):
            np.testing.assert_allclose(a, b, rtol=1e-14)
        other.update(U[::-1].copy())
        np.testing.assert_allclose(other.value[1], spectrum(U[::-1].copy())[1], atol=1e-15)


@pytest.mark.parametrize("parameters", [
    {"form": "fft", "shape": [4]}, {"form": "fftn", "shape": []}, {"form": "fftn", "shape": [0]},
    {"form": "fftn", "shape": [4], "norm": "none"}, {"form": "rfftn", "shape": [4], "given": "both"},
    {"form": "fftn", "shape": [4.0]}, {"form": "fftn", "shape": [1 << 40]}, {"form": "fftn", "shape": [4], "n": 1},
])
def test_no_other_transform_is_made_from_a_file(parameters):
    with pytest.raises(FormatError):
        elementals.from_json(["fourier", parameters], 1 << 20)


# -- replay and ranks ------------------------------------------------------------------------------------------------


def mandelbrot(p):
    """How a decision on a complex scalar is guarded: |z| > 2 ends the loop."""
    c, z = p[0] + 1j * p[1], 0j
    for _ in range(50):
        z = z * z + c
        if abs(z) > 2.0:
            break
    return abs(z) ** 2


def test_decisions_on_complex_scalars():
    F = dd.recorded(mandelbrot)
    for p in (np.array([0.4, 0.5]), np.array([0.41, 0.5]), np.array([0.6, 0.9])):
        assert F(p) == pytest.approx(mandelbrot(p), rel=1e-12)
        h = 1e-6
        for k, e in enumerate(np.eye(2)):
            difference = (mandelbrot(p + h * e) - mandelbrot(p - h * e)) / (2 * h)
            assert F.grad(p)[k] == pytest.approx(difference, rel=1e-5)
    assert F.counts.retraces >= 1


@pytest.mark.mpi
@pytest.mark.parametrize("method", ["sweep", "substitution"])
def test_on_ranks(method):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3, 12))

    def f(x):
        v = np.fft.rfft(x, axis=1)
        y = np.fft.irfft(v * np.exp(1j * np.arange(7)), axis=1)
        return np.sum(y * x ** 2) + np.sum(np.abs(np.fft.fft2(x + 1j * y)) ** 2) * 1e-3

    with dd.linearize(f, x, method=method) as lin:
        g = lin.vjp(1.0)
        hv = lin.hvp(np.ones_like(x))
    for direction in (np.ones_like(x), np.cos(np.arange(36.0)).reshape(3, 12)):
        h = 1e-5
        difference = (f(x + h * direction) - f(x - h * direction)) / (2 * h)
        assert np.vdot(g, direction) == pytest.approx(difference, rel=1e-7, abs=1e-7)
    second = (f(x + 1e-3) - 2.0 * f(x) + f(x - 1e-3)) / 1e-6
    assert np.sum(hv) == pytest.approx(second, rel=1e-5)


# -- conventions -------------------------------------------------------------------------------------------------


def test_the_modulus_has_derivative_zero_at_zero():
    assert np.array_equal(dd.grad(lambda u: np.sum(np.abs((1.0 + 1j) * u)))(np.zeros(2)), np.zeros(2))


def test_on_the_cut_the_derivative_is_that_of_the_side():
    def side(sign):
        return dd.grad(lambda p: np.sqrt(-4.0 + sign * 1j * p[0]).real)(np.zeros(1))[0]

    # sqrt(-4 + ib) = 2i + b / 4 above the cut
    assert side(1.0) == pytest.approx(0.25)


def test_a_real_array_keeps_the_real_part_with_numpys_warning():
    def f(u):
        z = np.zeros(6)
        z[:] = u + 1j * u
        return np.sum(z * z) + np.sum((1j * u + u).astype(float))

    with pytest.warns(Warning, match="discards the imaginary part"):
        expected = f(U)
    if MPI.COMM_WORLD.rank == 0:
        with pytest.warns(Warning, match="discards the imaginary part"):
            assert trace(f, (U,)).result == pytest.approx(expected)
    for wrong in (lambda u: u.__imul__(1j), lambda u: np.multiply(u, 1j, out=u), lambda u: u.__setitem__(0, 1j * u[0])):
        with pytest.raises(TypeError), warnings.catch_warnings():
            trace(wrong, (U,))


def test_values_can_be_looked_at():
    seen = []
    trace(lambda u: (seen.append((plain_value(1j * u), plain_value(1j * u[0]), repr(1j * u[0]))), u)[1], (U,))
    np.testing.assert_array_equal(seen[0][0], 1j * U)
    assert seen[0][1] == 1j * U[0] and "traced" in seen[0][2]


@pytest.mark.parametrize("f, words", [
    (lambda u: 1j * u, "return z.real and z.imag"),
    (lambda u: np.exp(1j * u[0]), "return z.real and z.imag"),
    (lambda u: np.linalg.svd(np.eye(6)[:3] + 1j * np.outer(u[:3], u))[0].real, "full_matrices=False"),
    (lambda u: np.linalg.qr(np.eye(6)[:, :3] + 1j * np.outer(u, u[:3]), "complete")[1].real, "mode='reduced'"),
    (lambda u: np.median(1j * u).real, "numpy.median of complex"),
    (lambda u: np.pad(1j * u, 1, "maximum").real, "numpy.pad of complex numbers with mode='maximum'"),
    (lambda u: np.partition(1j * u, 1).real, "numpy.partition of complex numbers"),
    (lambda u: (1j * u).searchsorted(0.5).real, "ordered by their parts"),
    (lambda u: np.interp(1j * u, U, U).real, "numpy.interp with complex numbers in that place"),
    (lambda u: np.average(u, weights=1j * u).real, "numpy.average with complex weights"),
    (lambda u: scipy.stats.norm.logpdf(1j * u).real, "scipy.stats of complex numbers"),
    (lambda u: scipy.special.erf(1j * u).real, "scipy.special.erf with complex numbers"),
    (lambda u: np.nanmax(1j * u).real, "numpy.nanmax of complex numbers"),
    (lambda u: OUTSIDE.__setitem__(0, u[0]), "np.zeros.n, dtype=complex"),
    (lambda u: OUTSIDE.__setitem__(0, 1j * u[0]), "made outside the function"),
    (lambda u: OUTSIDE.__setitem__(slice(3), 1j * u[:3]), "made outside the function"),
])
def test_refusals_name_what_to_write(f, words):
    with pytest.raises((UnsupportedOperationError, TypeError), match=words):
        result = trace(f, (U,))
        assert result is None


def test_complex_arguments_are_refused():
    for x in (1j * U, 1j):
        with pytest.raises((UnsupportedOperationError, InputError), match=r"x \+ 1j \* y"):
            dd.grad(lambda z: np.sum(np.abs(z)))(x)


# -- pseudo-spectral solvers -----------------------------------------------------------------------------------------

SOLVERS = {
    "flame": (spectral.make_flame(48, 2), spectral.initial(48)),
    "flame, odd": (spectral.make_flame(45, 2), spectral.initial(45)),
    "enstrophy": (spectral.make_enstrophy(12, 2, dt=0.1), spectral.vortices(12)),
}
AT = np.array([-2, -1, 1, 2])
FIRST, SECOND = np.array([1, -8, 8, -1]) / 12, np.array([-1, 16, 16, -1]) / 12  # differences of fourth order


def along(f, x, v, h=2.0**-7):
    """f' and f'' along v."""
    y = np.array([f(x + h * k * v) for k in AT])
    return FIRST @ y / h, (SECOND @ y - 2.5 * f(x)) / h**2


@pytest.mark.mpi
@pytest.mark.parametrize("name", SOLVERS if MPI.COMM_WORLD.size == 1 else ["enstrophy"])
def test_pseudo_spectral_solvers(name, tmp_path):
    f, x = SOLVERS[name]
    v = np.random.default_rng(2).standard_normal(x.shape) / np.sqrt(x.size)
    with dd.linearize(f, x) as lin:
        for point in (x, x[::-1] * 1.1 - 0.05):
            if point is not x:
                lin.update(point)
            assert lin.value == pytest.approx(f(point), rel=1e-12)
            first, second = along(f, point, v)
            assert np.vdot(lin.vjp(1.0), v) == pytest.approx(first, rel=1e-7)
            assert lin.jvp(v) == pytest.approx(first, rel=1e-7)
            assert np.vdot(lin.hvp(v), v) == pytest.approx(second, rel=1e-5)
    if MPI.COMM_WORLD.size == 1:
        dd.trace(f, x).save(tmp_path / "f.tape")
        value, gradient = dd.value_and_grad(dd.load(tmp_path / "f.tape"))(x)
        assert value == pytest.approx(f(x), rel=1e-12)
        np.testing.assert_allclose(gradient, dd.grad(f)(x), rtol=1e-10, atol=1e-13)


@pytest.mark.mpi
@pytest.mark.parametrize("settings", [{"partition": "axes"}, {"partition": "contiguous", "method": "substitution"}])
def test_a_solver_cut_over_ranks(settings):
    f, x = SOLVERS["flame"]
    v = np.cos(np.arange(48.0))
    with dd.linearize(f, x, **settings) as lin:
        assert np.vdot(lin.vjp(1.0), v) == pytest.approx(along(f, x, v)[0], rel=1e-7)
        lin.update(x * 1.1)
        assert np.vdot(lin.vjp(1.0), v) == pytest.approx(along(f, x * 1.1, v)[0], rel=1e-7)
