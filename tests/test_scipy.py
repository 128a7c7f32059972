"""SciPy's functions traced: values, derivatives and replay, as `test_numpy` checks them; and SciPy afterwards."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import threading

import numpy as np
import pytest
import scipy.special
from mpi4py import MPI
from scipy import integrate, interpolate, linalg, ndimage, optimize, signal, special, stats
from scipy.spatial import distance
from scipy.spatial.transform import Rotation
from scipy.special import logsumexp, softmax
from scipy_cases import CASES, INVERSES, NAMES, cases, known
from test_numpy import ARGUMENTS, check, function_of

import distdiff as dd
from distdiff import coverage
from distdiff.errors import UnsupportedOperationError
from distdiff.tracing import trace
from distdiff.tracing.active import TRACES
from distdiff.tracing.scipy import REPLACED, RULES
from distdiff.tracing.scipy.replacing import Replaced

OWN = logsumexp.__code__
U = np.array([0.9137, 1.7214, 0.4353, 1.3079])


@pytest.mark.parametrize("case", CASES)
def test_as_scipy(case):
    check(case, constants=NAMES, layouts=False)


@pytest.mark.parametrize("case", [*filter(known, cases(INVERSES))])
def test_inverses_as_exact_as_scipys(case):
    """Value, both modes, second order and another point, within what SciPy leaves of them."""
    f, names, _ = function_of(case, NAMES)
    x, h = np.concatenate([np.ravel(ARGUMENTS[name]) for name in names]), 1e-3
    ends = np.cumsum([np.size(ARGUMENTS[name]) for name in names])[:-1]

    def g(x):
        parts = np.split(x, ends)
        return np.sum(np.sin(f(*(p[0] if np.ndim(ARGUMENTS[name]) == 0 else p for name, p in zip(names, parts)))))

    v = np.cos(np.arange(x.size))
    with dd.linearize(g, x) as lin:
        for point in (x, x + 0.01):
            lin.update(point)
            assert lin.value == pytest.approx(g(point), rel=1e-7)
            expected = (g(point + h * v) - g(point - h * v)) / (2 * h)
            np.testing.assert_allclose(lin.jvp(v), expected, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(lin.vjp(1.0) @ v, lin.jvp(v), rtol=1e-11)
        moved = [dd.jvp(g, (point + k * h * v,), (v,))[1] for k in (1, -1)]
        np.testing.assert_allclose(lin.hvp(v) @ v, (moved[0] - moved[1]) / (2 * h), rtol=1e-2, atol=1e-2)


@pytest.mark.mpi
@pytest.mark.few_ranks
@pytest.mark.parametrize("case", CASES[::13] if MPI.COMM_WORLD.size > 1 else [])  # on one rank all of them run anyway
def test_on_ranks(case):
    check(case, constants=NAMES, layouts=False)


@pytest.mark.mpi
def test_in_a_saved_tape(tmp_path):
    def f(u):
        return special.logsumexp(special.jv(1, u)) + np.sum(special.erf(u) * special.airy(u)[2]) + special.gammaln(u[0])

    comm = MPI.COMM_WORLD
    path = comm.bcast(tmp_path / "special.tape" if comm.rank == 0 else None)
    dd.trace(f, U).save(path)
    g = dd.load(path)
    for x in (U, U + 0.3):
        np.testing.assert_allclose(dd.grad(g)(x), dd.grad(f)(x), rtol=1e-13)
        np.testing.assert_allclose(dd.hvp(g, (x,), (x,))[1], dd.hvp(f, (x,), (x,))[1], rtol=1e-12)


@pytest.mark.parametrize(("f", "message"), [
    (lambda u: special.jv(u, 1.0), r"scipy\.special\.jv with a traced first argument .* for the second only"),
    (lambda u: special.hyp2f1(1.0, 2.0, u, 0.5), r"hyp2f1 with a traced third argument .* for the fourth only"),
    (lambda u: special.eval_legendre(1.5, u), r"eval_legendre of an order that is not whole or negative"),
    (lambda u: special.kn(0.5, u), r"kn of an order that is not whole"),
    (lambda u: special.modfresnelp(u), r"scipy\.special\.modfresnelp at .*no derivative rule"),
    (lambda u: special.hankel1(u, 2.0).real, r"jv with a traced first argument"),
    (lambda u: special.hankel1(1, 1j * u).real, r"Hankel functions of complex arguments"),
    (lambda u: special.xlogy(1j, u), r"scipy\.special\.xlogy with complex numbers"),
    (lambda u: special.lambertw(-u), r"lambertw where it is not real"),
    (lambda u: special.polygamma(u, u), r"polygamma of an order that is traced"),
    (lambda u: special.zeta(u), r"scipy\.special\.zeta of .*, Riemann's zeta function .*custom_jvp takes a rule"),
    (lambda u: special.factorial(u, exact=True), r"scipy\.special\.factorial with exact=True"),
    (lambda u: special.expn(-1, u), r"expn of an order"),
    (lambda u: stats.binom.logpmf(1, u, 0.3), r"scipy\.stats\.binom\.logpmf with a number n that is traced"),
    (lambda u: stats.poisson.logpmf(u, 2.0), r"poisson\.logpmf of a count that is traced"),
    (lambda u: stats.poisson.logpmf(2, 2.0, u), r"poisson\.logpmf with a location that is traced"),
    (lambda u: stats.norm.ppf(u - 1.0), r"norm\.ppf at probabilities that are not between 0 and 1"),
    (lambda u: stats.kstwo.sf(u, 5), r"Kolmogorov"),
    (lambda u: stats.norminvgauss.ppf(0.1 * u, 1.25, 0.5), r"scipy\.stats"),
    (lambda u: ndimage.zoom(u, 2.0, order=1, mode="grid-constant"), r"scipy\.ndimage's interpolation with mode"),
    (lambda u: ndimage.geometric_transform(u, lambda i: (i[0] + 0.5,)), r"function as mapping.*map_coordinates"),
    (lambda u: interpolate.UnivariateSpline(np.arange(u.size), u, k=1)(0.5), r"CubicSpline and make_interp_spline"),
    (lambda u: linalg.fractional_matrix_power(np.outer(u, u) + np.eye(u.size), 0.3), r"expm\(p \* scipy.linalg.logm"),
    (lambda u: linalg.schur(np.outer(u, u)), r"scipy\.linalg\.schur of .*np\.linalg\.eigvals"),
    (lambda u: linalg.solve_continuous_are(np.outer(u, u), *3 * [np.eye(u.size)]), r"implicit\.root\(residual, A, X0"),
    (lambda u: stats.f.entropy(u[0], 3.0), r"the formula of the distribution's entropy"),
    (lambda u: stats.beta.var(u[0], -1.0), r"scipy\.stats\.beta\.stats of parameters that are none of it"),
    (lambda u: ndimage.map_coordinates(u, [u], mode="grid-constant"), r"rule for points.*take another mode"),
    (lambda u: distance.pdist(u[:, None], "mahalanobis"), r"scipy\.spatial\.distance\.pdist with metric='mahalanobis'"),
    (lambda u: stats.vonmises.cdf(u, 1.0), r"compiled code"),
    (lambda u: optimize.brentq(lambda s: s - u[0], 0.0, 1.0), r"scipy\.optimize\.brentq.*distdiff\.implicit"),
    (lambda u: optimize.fsolve(lambda s: s - u[0], 0.1), r"scipy\.optimize\.fsolve.*distdiff\.implicit"),
    (lambda u: optimize.root(lambda s: s - u[:2], np.ones(2)).x, r"scipy\.optimize.*distdiff\.impl"),
    (lambda u: integrate.quad(lambda s: s * u[0], 0.0, 1.0)[0], r"scipy\.integrate\.quad.*fixed_quad"),
    (lambda u: integrate.odeint(lambda y, t: -y * u[0], [1.0], [0.0, 1.0]), r"scipy\.integrate\.odeint.*solve_ivp"),
    (lambda u: integrate.solve_ivp(lambda t, y: -y, (0, u[0]), [1.0]).y, r"scipy\.integrate\.solve_ivp.*s = t / T"),
    (lambda u: integrate.solve_ivp(lambda t, y: -y * u[0], (0, 1), [1.0], "LSODA").y, r"RK45, RK23, DOP853, Radau and"),
    (lambda u: integrate.ode(lambda t, y: -y * u[0]).set_initial_value([1.0]).integrate(1.0), r"solve_ivp, and a loop"),
    (lambda u: linalg.eigh_tridiagonal(u, u[1:]), r"scipy\.linalg\.eigh_tridiagonal with vectors.*np\.linalg\.eigh"),
    (lambda u: linalg.qr(np.outer(u, 1j * u), pivoting=True), r"scipy\.linalg\.qr with mode='full' and pivoting=True"),
    (lambda u: special.logsumexp(1j * u, return_sign=True), r"logsumexp of complex numbers with return_sign"),
    (lambda u: stats.norm.logpdf(1j * u), r"scipy\.stats of complex numbers"),
    (lambda u: stats.multivariate_normal.logpdf(u, None, 1j * np.eye(4) * u), r"scipy\.stats of complex numbers"),
    (lambda u: linalg.funm(np.outer(u, u), np.exp), r"scipy\.linalg\.funm.*np\.linalg\.eig"),
    (lambda u: linalg.rq(np.outer(u, u)), r"scipy\.linalg\.rq.*np\.linalg\.qr"),
    (lambda u: signal.find_peaks(u), r"scipy\.signal\.find_peaks.*argrelmax"),
    (lambda u: Rotation.from_rotvec(u[:3]), r"scipy\.spatial\.transform\.Rotation\.from_rotvec.*scipy\.linalg\.expm"),
])
def test_refused(f, message):
    with pytest.raises(UnsupportedOperationError, match=message):
        trace(lambda u: f(u), (U,))


@pytest.mark.parametrize(("entropy", "parameters"), [(stats.beta.entropy, (2.7, 3.4)), (stats.chi2.entropy, (5.3,))])
def test_entropies_that_scipy_integrates(entropy, parameters):
    p, h = np.array(parameters), 1e-2
    value, gradient = dd.value_and_grad(lambda p: entropy(*p))(p)
    assert value == pytest.approx(float(entropy(*p)), rel=1e-9)
    plain = [8 * (entropy(*(p + h * e)) - entropy(*(p - h * e))) - entropy(*(p + 2 * h * e)) + entropy(*(p - 2 * h * e))
             for e in np.eye(p.size)]
    np.testing.assert_allclose(gradient, np.array(plain, dtype=float) / (12 * h), rtol=1e-6)


@pytest.mark.parametrize("method", ["RK45", "RK23", "DOP853", "Radau", "BDF"])
def test_solvers_of_initial_value_problems(method):
    """SciPy's own steps, traced: the derivative of what they compute, their sizes included."""

    def f(p):
        found = integrate.solve_ivp(lambda t, y, a: [a * y[1] + np.sin(t), -y[0] * y[1]], (0.0, 1.0), [p[1], 0.4],
                                    method, np.array([0.5, 1.0]), args=(p[0],), rtol=0.01)
        return np.sum(found.y * np.array([[1.0, -0.3], [0.2, 0.7]]))

    p, h = np.array([0.7, 1.1]), 1e-4
    with dd.linearize(f, p) as lin:
        assert lin.value == pytest.approx(f(p), rel=1e-14)
        differences = [(8 * (f(p + h * e) - f(p - h * e)) - f(p + 2 * h * e) + f(p - 2 * h * e)) / (12 * h)
                       for e in np.eye(2)]
        np.testing.assert_allclose(lin.vjp(1.0), differences, rtol=1e-7)
        np.testing.assert_allclose([lin.jvp(e) for e in np.eye(2)], lin.vjp(1.0), rtol=1e-12)
        lin.update(1.3 * p)
        assert lin.value == pytest.approx(f(1.3 * p), rel=1e-13)
    if method == "RK23":
        differences = [(dd.grad(f)(p + h * e) - dd.grad(f)(p - h * e)) / (2 * h) for e in np.eye(2)]
        np.testing.assert_allclose(dd.hessian(f)(p), differences, rtol=1e-5, atol=1e-7)


def test_an_order_that_is_constant_though_traced():
    def f(u):
        n = np.zeros(4)
        n[0] = u[0]
        n[:] = 2.0
        return special.jv(n, u)

    np.testing.assert_allclose(dd.jvp(f, (U,), (np.ones(4),))[1], special.jvp(2, U), rtol=1e-14)


def test_a_tape_that_asks_for_a_partial_there_is_none_of(tmp_path):
    """As an edited file might: the order of a Bessel function depends on the input."""
    tape = dd.trace(lambda u: np.sum(special.jv(1.0, u)), U)
    at = next(i for i, item in enumerate(tape.items) if item.op.name == "jv")
    x = tape.items[at].operands[1]
    tape.items[at] = tape.items[at]._replace(operands=(x, x))
    tape.save(tmp_path / "edited.tape")
    f = dd.load(tmp_path / "edited.tape")
    np.testing.assert_allclose(f(U), np.sum(special.jv(U, U)))
    with pytest.raises(UnsupportedOperationError, match="further derivative of jv in argument 1 .*no rule"):
        dd.grad(f)(U)


def test_another_ufunc_of_the_same_name():
    erf = np.frompyfunc(lambda x: x, 1, 1)

    with pytest.raises(UnsupportedOperationError, match="the ufunc"):
        trace(lambda u: erf(u), (U,))


@pytest.mark.filterwarnings("ignore")
def test_a_distribution_of_the_users_own():
    class Ramp(stats.rv_continuous):
        def _pdf(self, x, slope):
            return 0.5 + slope * (x - 1.0)

    ramp = Ramp(a=0.0, b=2.0, name="norm")  # whatever it is called

    def f(p):
        return np.sum(ramp.logpdf(np.array([0.3, 1.7, 5.0, 0.1])[[0, 1, 3]], p[0], p[1], p[2]))

    x, h = np.array([0.2, -0.1, 1.1]), 1e-6
    expected = [(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(dd.grad(f)(x), expected, rtol=1e-8)
    assert dd.value_and_grad(lambda p: p * ramp.pdf(7.0, 0.1, p))(1.0)[0] == 0.0


def test_outside_the_support_the_trace_is_guarded():
    F = dd.recorded(lambda p: np.sum(np.exp(stats.gamma.logpdf(np.array([0.3, 1.2]) - p, 2.0))))
    assert F.grad(0.1) == pytest.approx(F.grad(0.1)) and F.counts.traces == 1
    F(0.5)  # the first point has left the support
    assert F.counts.retraces == 1
    x = np.array([0.7])
    np.testing.assert_allclose(F.grad(0.5), -np.exp(-x) * (1 - x), rtol=1e-12)


# -- the coverage table ------------------------------------------------------------------------------------------

COVERED = {entry.name.removeprefix("scipy."): entry.status for entry in coverage.scipy_table()}


def test_what_is_exact_has_a_case():
    rooms = "special.", "signal.", "ndimage.", "interpolate.", "integrate.", "optimize.", "stats.", "spatial."
    exact = [name for name, status in COVERED.items() if status != "refused" and name.startswith(rooms)]
    called = {name: re.sub(r"stats\.(rv_continuous|rv_discrete|gaussian_kde)|spatial\.", "", name) for name in exact}
    written = [*CASES, *cases(INVERSES)]
    missing = [name for name in exact
               if not any(re.search(rf"\b{re.escape(called[name])}\b", case) for case in written)]
    assert not missing, f"no case in scipy_cases names {missing}"
    assert {"special.erf", "stats.norm", "ndimage.gaussian_filter", "signal.convolve"} <= set(exact)


@pytest.mark.parametrize("name", [name for name, status in COVERED.items() if status == "refused"])
def test_what_is_refused_says_so(name):
    function = getattr(special, name.removeprefix("special."))
    with pytest.raises(UnsupportedOperationError, match=rf"scipy\.{re.escape(name)}\b"):
        trace(lambda u: function(*[u] * function.nin), (U,))


def test_the_table_as_text():
    text = coverage.text("scipy.special.gammai")
    assert "scipy.special.gammainc" in text and "NumPy" not in text and text.endswith("4 exact")
    assert "in argument 2; the others must be plain" in coverage.text("scipy.special.jv")


# -- the exchange of code ----------------------------------------------------------------------------------------


def its_own() -> bool:
    return (logsumexp.__code__ is OWN and scipy.special.logsumexp is logsumexp
            and REPLACED not in sys.meta_path)


def test_scipy_is_itself_afterwards():
    assert its_own()
    trace(lambda u: logsumexp(u), (U,))
    assert its_own()
    for error in (ValueError, KeyboardInterrupt, SystemExit):

        def f(u, error=error):
            assert not its_own()
            raise error("stop")

        with pytest.raises(error):
            trace(f, (U,))
        assert its_own()


def test_traces_inside_a_trace():
    def f(u):
        inner = trace(lambda v: softmax(v), (np.array([3.0, 1.0]),))
        assert not its_own()
        return logsumexp(u) * inner.result[0]

    trace(f, (U,))
    assert its_own()


def test_plain_arguments_get_scipys_own_answer():
    expected, seen = logsumexp(U, b=2.0), []

    def f(u):
        y = logsumexp(U, b=2.0)
        z = np.zeros(4)  # can hold traced values, and does not
        seen.extend([y, type(logsumexp(z)), inspect.signature(logsumexp)])
        return u * y

    trace(f, (U,))
    assert seen[0] == expected and issubclass(seen[1], float)


def test_other_threads_are_left_alone():
    answers = []

    def other(u):  # a traced value in a thread that traces nothing
        try:
            answers.append(logsumexp(U))
            answers.append(threading.get_ident() in TRACES)
            logsumexp(u)
        except Exception as error:
            answers.append(error)

    def f(u):
        thread = threading.Thread(target=other, args=(u,))
        thread.start()
        thread.join()
        return u

    with pytest.raises(UnsupportedOperationError, match="in scipy.special.logsumexp at"):
        trace(f, (U,))
    assert answers[:2] == [logsumexp(U), False] and isinstance(answers[2], UnsupportedOperationError)


LATE = """
def double(x, *, by=2.0):
    return x.nothing

class Thing:
    factor = 3.0
    def times(self, x):
        return x.nothing

def closed(by):
    def scaled(x):
        return x.nothing
    return scaled

scaled = closed(4.0)
"""


@pytest.mark.parametrize("early", [False, True])
def test_modules_loaded_by_the_function_itself(tmp_path, monkeypatch, early):
    name = f"late_module_{early}"
    (tmp_path / f"{name}.py").write_text(LATE)
    monkeypatch.syspath_prepend(str(tmp_path))
    rules = Replaced({
        f"{name}:double": lambda x, by=2.0: x * by,
        f"{name}:Thing.times": lambda self, x: x * self.factor,
        f"{name}:scaled": lambda x: x * 4.0,
        f"{name}:gone_in_this_version": lambda x: x,
        "no_such_module:f": lambda x: x,
    })
    thing = importlib.import_module(name).Thing() if early else None

    def f(u):
        rules.replace()
        try:
            module = importlib.import_module(name)
            double = module.double
            assert not hasattr(double, "nothing")
            with pytest.raises(AttributeError, match="nothing"):
                double(1.0)
            return double(u) + double(u, by=3.0) + (thing or module.Thing()).times(u) + module.scaled(u)
        finally:
            rules.restore()

    np.testing.assert_allclose(dd.jvp(f, (U,), (np.ones(4),))[1], np.full(4, 12.0))
    assert rules not in sys.meta_path
    with pytest.raises(AttributeError, match="nothing"):
        sys.modules[name].double(U)
    with pytest.raises(AttributeError, match="nothing"):
        sys.modules[name].scaled(U)
    sys.modules.pop(name)


def test_rules_name_functions_of_scipys():
    missing = []
    for path in RULES:
        module, name = path.split(":")
        try:
            found = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
            assert callable(found)
        except (ImportError, AttributeError):
            missing.append(path)
    inner = [path for path in missing if path != "scipy.linalg:kron"]  # which SciPy 1.17 has no more
    assert all("._" in path.replace(":", ".") for path in inner), f"no such function: {missing}"
    assert len(missing) < 10  # insides of SciPy that other versions of it have


def test_what_has_no_rule_names_scipys_function():
    with pytest.raises(UnsupportedOperationError, match=r"in scipy\.special\.diric at .*test_scipy.py"):
        trace(lambda u: scipy.special.diric(u, 3), (U,))


SHAPES = {"gamma": (2.0,), "beta": (2.0, 3.0), "chi2": (3.0,), "t": (4.0,), "f": (3.0, 5.0), "invgamma": (3.0,)}


@pytest.mark.parametrize("name", SHAPES)
def test_the_table_says_to_which_order_distribution_functions_have_derivatives_in_their_shapes(name):
    note = next(entry.note for entry in coverage.scipy_table() if entry.name == f"scipy.stats.{name}")
    order = int(note.removeprefix("cdf, sf and ppf in the shapes up to order "))
    of, shapes = getattr(stats, name), np.array(SHAPES[name])
    assert np.isfinite(dd.grad(lambda p: of.sf(0.4, *p) + of.ppf(0.4, *p))(shapes)).all()
    if order == 2:
        f = dd.grad(lambda p: dd.grad(lambda p: of.cdf(0.4, *p))(p)[0])
        assert np.isfinite(f(shapes)).all()
        with pytest.raises(UnsupportedOperationError, match=r"further derivative of \w+inc_\d+ in argument . is"):
            dd.grad(lambda p, f=f: f(p)[0])(shapes)
