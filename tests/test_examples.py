"""The worked examples: the models keep their physics, distdiff gets their gradients right, the demo runs end to end."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.examples import burgers, demo, digits, flow, lotka_volterra

pytestmark = pytest.mark.few_ranks

EVERYWHERE = pytest.mark.mpi


def complex_step(f, x, direction):
    """d/dt f(x + t direction) at t = 0, exact to rounding for the real analytic functions of the examples."""
    step = 1e-30
    return f(x + 1j * step * direction).imag / step


def small_sea():
    sea = flow.make_sea(20)
    return sea, flow.place_gauges(sea, count=9, steps=14, every=3)


def problem(name):
    """A small instance of an example: its function and a point where it is differentiated."""
    rng = np.random.default_rng(3)
    if name == "lotka_volterra":
        return lotka_volterra.make_misfit(substeps=3), lotka_volterra.start()
    if name == "burgers":
        return burgers.make_misfit(37, 9), burgers.initial(37)
    if name == "flow":
        sea, gauges = small_sea()
        return flow.make_misfit(sea, gauges), rng.standard_normal(sea.wet.shape)
    pytest.importorskip("sklearn")
    images, labels, _, _ = digits.load()
    return digits.make_loss(images[:53], labels[:53]), digits.start()


# -- the models, without distdiff --------------------------------------------------------------------------------------


def test_pelts_are_the_published_ones():
    years, hare, lynx = lotka_volterra.load_pelts()
    assert years.tolist() == list(range(1900, 1921))
    assert (hare[0], hare[3], hare[-1]) == (30.0, 77.4, 24.7) and hare.sum() == pytest.approx(715.7)
    assert (lynx[0], lynx[4], lynx[-1]) == (4.0, 59.4, 8.6) and lynx.sum() == pytest.approx(423.5)


def test_runge_kutta_is_of_order_four():
    ends = [
        np.array([series[-1] for series in lotka_volterra.trajectory(lotka_volterra.start(), 6, n)])
        for n in (4, 8, 16)
    ]
    rate = np.log2(np.linalg.norm(ends[0] - ends[1]) / np.linalg.norm(ends[1] - ends[2]))
    assert 3.6 < rate < 4.5


def test_predator_prey_orbit_conserves_its_invariant():
    alpha, beta, gamma, delta, _, _ = lotka_volterra.START
    hare, lynx = map(np.array, lotka_volterra.trajectory(lotka_volterra.start(), 21, 50))
    invariant = delta * hare - gamma * np.log(hare) + beta * lynx - alpha * np.log(lynx)
    assert np.ptp(invariant) < 1e-6 * np.abs(invariant).max()


def test_burgers_stays_bounded_and_keeps_a_constant():
    assert burgers.make_misfit(40, 30)(np.ones(40)) == 0.0
    assert (
        0.0
        < burgers.make_misfit(40, 400)(burgers.initial(40))
        < burgers.make_misfit(40, 0)(burgers.initial(40))
    )


def test_water_at_rest_stays_at_rest_and_none_is_lost():
    sea, gauges = small_sea()
    still = flow.simulate(np.zeros(sea.wet.shape), sea, gauges.rows, gauges.columns, gauges.times)
    assert np.all(np.array(still) == 0.0)
    every_cell = np.indices(sea.wet.shape)
    surface = flow.make_truth(sea)
    later = flow.simulate(surface, sea, *every_cell, times=(14,))[0]
    assert np.abs(later - surface).max() > 0.1
    assert later.sum() == pytest.approx(surface.sum(), abs=1e-10)
    assert np.all(later[sea.wet == 0.0] == 0.0)


def test_smoothing_keeps_the_mean_and_stays_off_the_land():
    sea, _ = small_sea()
    rough = sea.wet * np.random.default_rng(0).standard_normal(sea.wet.shape)
    soft = flow.smooth(rough, sea.wet)
    assert soft.sum() == pytest.approx(rough.sum(), abs=1e-12)
    assert soft.std() < 0.5 * rough.std()
    assert np.all(soft[sea.wet == 0.0] == 0.0)


def test_closed_form_of_the_digits_gradient():
    f, w = problem("digits")
    images, labels, _, _ = digits.load()
    gradient = digits.closed_form_gradient(w, images[:53], labels[:53])
    for direction in np.random.default_rng(1).standard_normal((3, w.size)):
        assert complex_step(f, w, direction) == pytest.approx(gradient @ direction, rel=1e-12)


# -- their derivatives by distdiff -------------------------------------------------------------------------------------


@EVERYWHERE
@pytest.mark.parametrize("method", ["auto", "substitution"])
@pytest.mark.parametrize("name", ["lotka_volterra", "burgers", "flow", "digits"])
def test_gradient_against_complex_step(name, method):
    f, x = problem(name)
    value, gradient = dd.value_and_grad(f, method=method)(x)
    assert value == pytest.approx(f(x), rel=1e-13)
    for direction in np.random.default_rng(5).standard_normal((3, *x.shape)):
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert np.vdot(gradient, direction) == pytest.approx(complex_step(f, x, direction), abs=1e-12 * scale)


@EVERYWHERE
@pytest.mark.parametrize("name", ["lotka_volterra", "burgers", "flow", "digits"])
@pytest.mark.parametrize("method", ["auto", "substitution"])
def test_update_is_a_new_linearization(name, method):
    f, x = problem(name)
    moved = x + 0.05 * np.random.default_rng(7).standard_normal(x.shape)
    value, gradient = dd.value_and_grad(f)(moved)
    with dd.linearize(f, x, method=method) as lin:
        lin.vjp(1.0)
        assert lin.update(moved) == pytest.approx(value, rel=1e-13)
        np.testing.assert_allclose(lin.vjp(1.0), gradient, rtol=0, atol=1e-12 * np.abs(gradient).max())


@EVERYWHERE
@pytest.mark.parametrize(
    "module, argument",
    [(lotka_volterra, lotka_volterra.start()), (flow, np.zeros((12, 12))), (burgers, burgers.initial(16))],
)
def test_functions_named_on_the_command_line(module, argument):
    test = dd.testing.taylor_test(module.misfit, argument)
    assert test.passed, str(test)


# -- the demo ----------------------------------------------------------------------------------------------------------


@EVERYWHERE
def test_small_demo(tmp_path, capfd):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    world = MPI.COMM_WORLD
    out = world.bcast(tmp_path) / "figures"
    results = demo.run(world, size="small", out=out)

    for part in demo.PARTS:  # the optimiser took the same steps everywhere
        xs = world.allgather(results[part]["x"])
        assert all(np.array_equal(x, xs[0]) for x in xs)
    fitted = np.exp(results["scalar"]["x"])
    # posterior means of the Stan case study with their own error model: 0.55, 0.028, 0.80, 0.024, 34, 5.9
    np.testing.assert_allclose(fitted, [0.55, 0.028, 0.80, 0.024, 34.0, 5.9], rtol=0.05)
    assert results["grid"]["error"] < 0.25
    assert results["wide"]["difference"] < 1e-12
    assert results["wide"]["accuracy"] > 0.6

    printed = capfd.readouterr().out
    world.barrier()
    if world.rank == 0:
        for word in (
            "flattened lines",
            "rows kept",
            "nonzeros",
            "ranks",
            "method",
            "time",
            "memory",
            "Taylor test",
        ):
            assert printed.count(word) >= 3, word
        for name in ("lotka_volterra.png", "shallow_water.png", "digits.png"):
            assert (out / name).read_bytes().startswith(b"\x89PNG")
            assert (out / name).stat().st_size > 20_000
    else:
        assert printed == ""


@EVERYWHERE
@pytest.mark.parametrize("package, argument", [("sklearn.datasets", "wide"), ("matplotlib", "scalar")])
def test_missing_package_is_named_with_the_remedy(tmp_path, monkeypatch, package, argument):
    monkeypatch.setitem(sys.modules, package, None)  # import then raises ImportError
    with pytest.raises(ImportError, match="pip install"):
        demo.run(MPI.COMM_WORLD, (argument,), "small", tmp_path)


@EVERYWHERE
def test_output_that_cannot_be_written(tmp_path, capfd):
    pytest.importorskip("matplotlib")
    world = MPI.COMM_WORLD
    taken = world.bcast(tmp_path) / "file"
    if world.rank == 0:
        taken.write_text("not a folder")
    assert demo.main(["--part", "scalar", "--size", "small", "--out", str(taken / "inside")]) == 1
    if world.rank == 0:
        assert "--out" in capfd.readouterr().err


def test_help_teaches_and_needs_nothing(capsys):
    with pytest.raises(SystemExit) as stop:
        demo.main(["--help"])
    assert stop.value.code == 0
    assert "mpirun -n 2" in capsys.readouterr().out
