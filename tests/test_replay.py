"""`dd.recorded`: traced once, replayed at every other point, right wherever it is called, and counted."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import enum
import functools
import itertools
import os
import random
import secrets
import types
import uuid
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.stats
from functions import CASES

import distdiff as dd
from distdiff.draws import Draws
from distdiff.errors import (
    BranchChangedError,
    InputError,
    NonFiniteError,
    RetraceWarning,
    UnsupportedOperationError,
)
from distdiff.tracing.tree import flatten

pytestmark = pytest.mark.few_ranks  # rank 0 decides between tapes, and all others follow
X = np.array([0.3, -0.7, 1.2, 0.5])
RNG = np.random.default_rng(5)


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", [
    pytest.param(case, marks=pytest.mark.mpi if k % 4 == 0 else ()) for k, case in enumerate(CASES)], ids=str)
def test_everything_at_every_point(case):
    """Each answer is that of a fresh linearization, in any order of asking."""
    with dd.recorded(case.f, partition="axes", min_block=1) as F:
        for scale in (1.0, 1.01, 0.99):
            x = case.x * scale
            with dd.linearize(case.f, x) as lin:
                v, w = np.cos(np.arange(x.size)).reshape(x.shape), np.sin(np.arange(np.size(lin.value)) + 1.0)
                w = w.reshape(np.shape(lin.value))
                close(F.jvp(x, v), lin.jvp(v))
                close(F(x), lin.value)
                close(F.vjp(x, w), lin.vjp(w))
                if np.shape(lin.value) == ():
                    value, gradient = F.value_and_grad(x)
                    close(value, lin.value)
                    close(gradient, lin.vjp(1.0))
                    close(F.grad(x), lin.vjp(1.0))
                if x.size * np.size(lin.value) < 400:
                    close(F.jacobian(x), lin.jacobian())
        assert F.counts.traces + F.counts.replays == 3 and F.counts.repeats >= 6
        assert F.counts.traces == 1 or not case.holomorphic


@pytest.mark.mpi
def test_second_order():
    with dd.recorded(rosenbrock) as F:
        for x in (X, X + 0.1, X - 0.2):
            with dd.linearize(rosenbrock, x) as lin:
                close(F.hvp(x, X), lin.hvp(X))
                close(F.hessian(x), lin.hessian())
            close(F.hessian(x), dd.hessian(rosenbrock)(x))
            close(F.hessian(x) @ X, F.hvp(x, X))
        assert F.counts.traces == 1 and F.counts.replays == 2


@pytest.mark.mpi
@pytest.mark.parametrize("method, second", [("BFGS", ""), ("Newton-CG", "hessp")])
def test_minimize(method, second):
    minimized(method, second, X[:2])


@pytest.mark.parametrize("method, second", [
    ("CG", ""), ("L-BFGS-B", ""), ("SLSQP", ""), ("trust-krylov", "hessp"), ("trust-exact", "hess")])
def test_minimize_by_other_methods(method, second):
    minimized(method, second, X)


def minimized(method, second, x):
    optimize = pytest.importorskip("scipy.optimize")
    with dd.recorded(rosenbrock) as F:
        more = {"hessp": {"hessp": F.hvp}, "hess": {"hess": F.hessian}}.get(second, {})
        found = optimize.minimize(F, x, jac=F.grad, method=method, **more)
        assert np.abs(found.x - 1.0).max() < 1e-3
        assert F.counts.traces == 1 and F.counts.retraces == F.counts.misses == 0
        assert F.counts.replays < found.nfev + (found.nhev if second else 0), "no point is evaluated twice in a row"
        found = optimize.minimize(F.value_and_grad, x, jac=True, method=method, **more)
        assert np.abs(found.x - 1.0).max() < 1e-3 and F.counts.traces == 1


def test_line_searches_step_back_from_where_there_is_no_value():
    optimize = pytest.importorskip("scipy.optimize")

    def barrier(x):
        return np.sum(x - 0.01 * np.log(x))

    start = np.full(3, 0.02)
    with dd.recorded(barrier) as F, pytest.raises(NonFiniteError, match="log"):
        optimize.minimize(F, start, jac=F.grad, method="BFGS")
    for method in ("BFGS", "CG", "Newton-CG"):
        with dd.recorded(barrier, nonfinite="inf") as F:
            found = optimize.minimize(F, start, jac=F.grad, method=method)
            close(found.x, 0.01, 1e-4)
            assert F.counts.traces == 1


@pytest.mark.mpi
def test_least_squares_and_arguments_that_stay():
    optimize = pytest.importorskip("scipy.optimize")
    t = np.linspace(0.0, 1.0, 9)
    data = 3.0 * np.exp(-2.0 * t)
    with dd.recorded(lambda p, t, data: p[1] * np.exp(-p[0] * t) - data) as F:
        found = optimize.least_squares(F, [1.0, 1.0], jac=F.jacobian, args=(t, data))
        close(found.x, [2.0, 3.0], 1e-6)
        assert F.counts.traces == 1 and F.counts.repeats >= found.njev - 1
        other = optimize.least_squares(F, [1.0, 1.0], jac=F.jacobian, args=(t, 2.0 * data))
        close(other.x, [2.0, 6.0], 1e-6)
        assert F.counts.traces == 2 and F.counts.retraces == 0 and F.cached == 2
        again = optimize.least_squares(F, [1.0, 1.0], jac=F.jacobian, args=(t.copy(), data.copy()))
        close(again.x, found.x)
        assert F.counts.traces == 2, "equal by value"


def test_the_point_is_compared_by_its_bits_and_copied():
    x = X.copy()
    with dd.recorded(rosenbrock) as F:
        F(x)
        x += 1.0  # the caller goes on in the same memory
        close(F(x), rosenbrock(X + 1.0))
        close(F.hvp(X + 1.0, X), dd.hvp(rosenbrock, (X + 1.0,), (X,)))
        x -= 1.0
        close(F.hvp(X + 1.0, X), dd.hvp(rosenbrock, (X + 1.0,), (X,)))
        gradient = F.grad(x)
        gradient[:] = 0.0  # and may write into what it got
        close(F.grad(x), dd.grad(rosenbrock)(x))
    with dd.recorded(lambda x: np.copysign(x, x) * 2.0) as F:
        np.copysign(F(np.array([0.0])), 1.0)
        assert F.counts.replays == 0
        F(np.array([-0.0]))
        assert F.counts.replays == 1, "-0.0 is another point"


def test_hvp_after_the_callers_array_moved():
    x = X.copy()
    with dd.linearize(rosenbrock, x) as lin:
        x[:] = 9.0
        close(lin.hvp(X), dd.hvp(rosenbrock, (X,), (X,)))


# -- decisions -------------------------------------------------------------------------------------------------------


def branches(x):
    if x[0] > 0:
        return np.sum(x**2)
    return np.sum(x**3) if x[1] > 0 else np.sum(np.sin(x))


@pytest.mark.mpi
def test_a_tape_for_every_way_and_the_one_that_fits_is_found():
    points = [X * np.array([a, b, 1.0, 1.0]) for a in (1, -1) for b in (1, -1)]
    with dd.recorded(branches) as F, warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in points * 3:
            close(F(x), branches(x))
            close(F.grad(x), dd.grad(branches)(x))
            close(F.hvp(x, X), dd.hvp(branches, (x,), (X,)))
        assert F.counts.traces == 3 == F.cached and F.counts.retraces == 2
        assert F.counts.replays == 9 and F.counts.misses > 2
        assert F.at(X).report().guards >= 1
    with dd.recorded(branches, on_branch_change="raise") as F:
        F(X)
        with pytest.raises(BranchChangedError, match="test_replay.py:"):
            F(-X)
        close(F.grad(X), 2 * X)
        assert F.counts.traces == 1 and F.counts.retraces == 0


@pytest.mark.mpi
def test_tapes_are_bounded_and_thrashing_is_told_once(comm):
    with dd.recorded(lambda x: np.sum(x) * int(x[0]), max_tapes=2) as F:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for k in range(12):
                close(F(X + k), np.sum(X + k) * int(X[0] + k))
        told = [str(w.message) for w in told if w.category is RetraceWarning]
        assert len(told) == (comm.rank == 0)
        assert not told or "test_replay.py:" in told[0]
        assert F.counts.traces == 12 and F.counts.evictions == 10 and F.cached == 2
    with dd.recorded(lambda x, k: np.sum(x) * k) as F, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for k in range(10):
            F(X, k)
        assert not comm.rank == 0 or "constant argument 1 changes" in str(told[0].message)
        assert F.counts.retraces == 0 and F.cached == 8


# -- what else a tape depends on ---------------------------------------------------------------------------------------

FACTOR = 1.0
Pair = namedtuple("Pair", "a b")


def with_global(x):
    return FACTOR * np.sum(x)


def test_nesting_shape_and_constants_have_tapes_of_their_own():
    def f(x, k=1.0, **options):
        parts = x if isinstance(x, (tuple, list)) else x.values() if isinstance(x, dict) else [x]
        return sum(np.sum(part) for part in parts) * k * options.get("scale", 1.0)

    with dd.recorded(f) as F:
        calls = [(X,), (X[:2],), (X.reshape(2, 2),), ((X, X),), ([X, X],), ({"a": X, "b": X[0]},), (Pair(X, X),)]
        for args in calls:
            close(F(*args), f(*args))
        assert F.counts.traces == len(calls) and F.counts.retraces == 0
        for args in calls:
            close(F(*args), f(*args))
            assert type(F.grad(*args)) is type(args[0])
        assert F.counts.traces == len(calls)
        for kwargs in ({"k": 2.0}, {"k": 2}, {"k": np.array([2.0])}, {"scale": 3.0}, {"k": 2.0, "scale": 3.0}):
            close(F(X, **kwargs), f(X, **kwargs))
            close(F(X + 1, **kwargs), f(X + 1, **kwargs))
        assert F.counts.traces == len(calls) + 5 and F.cached == 8
    with dd.recorded(lambda x, y, z: np.sum(x * y) * z, argnums=(0, 2)) as F:
        close(F(X, X, 2.0), 2 * X @ X)
        gradient = F.grad(X + 1, X, 3.0)
        close(gradient[0], 3 * X)
        close(gradient[1], (X + 1) @ X)
        close(F.jvp(X + 1, (X, 1.0), X, 3.0), 3 * X @ X + (X + 1) @ X)
        close(F.hvp(X + 1, (X, 1.0), X, 3.0)[0], X)
        assert F.counts.traces == 1
        y = X.copy()
        F(X, y, 2.0)
        y *= 2.0
        close(F(X, y, 2.0), 4 * X @ X)
        assert F.counts.traces == 2, "a constant argument that was changed in place"


def test_surroundings_that_change_are_noticed(monkeypatch):
    weight, table, calls = 1.0, np.ones(4), 0

    def helper(x):
        return weight * x

    def f(x):
        nonlocal calls
        calls += 1  # f's own counter is none of its arguments
        return np.sum(helper(x) * table)

    with dd.recorded(f) as F:
        close(F(X), np.sum(X))
        F(X + 1)
        F.grad(X)
        assert F.counts.traces == 1
        weight = 2.0
        close(F(X), 2 * np.sum(X))
        table[0] = 3.0
        close(F.grad(X), 2 * table)
        table[0] = 1.0
        weight = 1.0
        close(F(X), np.sum(X))
        assert F.counts.traces == 3, "the first tape fits again"

    with dd.recorded(with_global) as F:
        F(X)
        monkeypatch.setitem(globals(), "FACTOR", 5.0)
        close(F(X), 5.0 * np.sum(X))

    class Model:
        scale = 1.0

        def loss(self, x):
            return self.scale * np.sum(x)

        def __call__(self, x):
            return self.scale * np.sum(x)

    model = Model()
    model.scale = 2.0
    with dd.recorded(model.loss) as F:
        F(X)
        model.scale = 4.0
        close(F(X), 4.0 * np.sum(X))

    with dd.recorded(model) as F:
        F(X)
        model.scale = 5.0
        close(F(X), 5.0 * np.sum(X))

    weights = np.ones(4)
    with dd.recorded(functools.partial(lambda w, x: w @ x, weights)) as F:
        F(X)
        weights[0] = 3.0
        close(F(X), weights @ X)

    hidden = types.SimpleNamespace(scale=1.0)
    with dd.recorded(lambda x: hidden.scale * np.sum(x)) as F:
        F(X)
        hidden.scale = 2.0
        close(F(X), 2.0 * np.sum(X))


class Slots:
    __slots__ = ("k",)

    def __init__(self, k):
        self.k = k


@dataclasses.dataclass
class Material:
    density: object = 1.0
    name: str = "steel"
    scale = 1.0

    @property
    def twice(self):
        return 2.0 * self.density

    def weigh(self, x):
        return np.sum(x) * self.twice

    def change(self, density):
        self.density = density


Weights = namedtuple("Weights", "k")


MONKEY = pytest.MonkeyPatch()


def surroundings():
    """(name, f, a change of what f reads that is not its argument), each made anew."""
    config = types.ModuleType("config")
    config.K, config.P, config.sub = 1.0, {"q": 1.0}, types.SimpleNamespace(v=1.0)
    yield "module", lambda x: (x * config.K).sum(), lambda: setattr(config, "K", 5.0)
    yield "item of a module", lambda x: (x * config.P["q"]).sum(), lambda: config.P.update(q=5.0)
    yield "getattr", lambda x: (x * getattr(config, "K")).sum(), lambda: setattr(config, "K", 2.0)  # noqa: B009
    yield "object of a module", lambda x: (x * config.sub.v).sum(), lambda: setattr(config.sub, "v", 5.0)

    p, q, r, s = (Material() for _ in range(4))
    yield "dataclass", lambda x: (x * p.density).sum(), lambda: setattr(p, "density", 5.0)
    yield "vars", lambda x: (x * vars(p)["density"]).sum(), lambda: setattr(p, "density", 7.0)
    yield "property of a method", lambda x: q.weigh(x), lambda: q.change(5.0)
    yield "hidden class attribute", lambda x: (x * r.scale).sum(), lambda: setattr(r, "scale", 5.0)
    yield "helper's parameter", lambda x: helped(x, s), lambda: setattr(s, "density", 5.0)
    many = [Material(), Material()]
    yield "objects in a list", lambda x: sum((x * m.density).sum() for m in many), lambda: many[1].change(5.0)

    class M:
        scale = 1.0
        table = np.ones(4)

    yield "class", lambda x: (x * M.scale).sum(), lambda: setattr(M, "scale", 5.0)
    yield "array of a class", lambda x: (x * M().table).sum(), lambda: M.table.fill(5.0)
    slots = Slots(1.0)
    yield "slots", lambda x: (x * slots.k).sum(), lambda: setattr(slots, "k", 5.0)
    nt = Weights(np.ones(4))
    yield "namedtuple", lambda x: (x * nt.k).sum(), lambda: nt.k.fill(4.0)
    deep = types.SimpleNamespace(p={"q": [1.0, 2.0]})
    yield "list in a dict in an object", lambda x: (x * deep.p["q"][0]).sum(), lambda: deep.p["q"].__setitem__(0, 9.0)
    ordered = OrderedDict(k=1.0)
    yield "OrderedDict", lambda x: (x * ordered["k"]).sum(), lambda: ordered.update(k=2.0)
    k = np.ones(4)
    yield "default", lambda x, k=k: (x * k).sum(), lambda: k.fill(3.0)

    big, matrix = np.ones(20000), types.SimpleNamespace(A=np.ones((200, 200)))
    yield "large array", lambda x: (x * big[0]).sum(), lambda: big.__setitem__(0, 5.0)
    yield "matrix", lambda x: (matrix.A[:, :4] @ x).sum(), lambda: matrix.A.__setitem__((7, 1), 5.0)
    parts = {"a": [big]}
    yield "large array in a dict", lambda x: (x * parts["a"][0][7]).sum(), lambda: big.__setitem__(7, 5.0)
    for kind in ("csr", "csc", "coo", "dia", "bsr"):
        A = scipy.sparse.eye(4, format="csr").asformat(kind)
        yield kind, lambda x, A=A: (A @ x).sum(), lambda A=A: A.data.__imul__(3.0)
    L = scipy.sparse.eye(4, format="lil")
    yield "lil", lambda x: (L @ x).sum(), lambda: L.__setitem__((0, 0), 50.0)
    D = scipy.sparse.eye(4, format="dok")
    yield "dok", lambda x: (D @ x).sum(), lambda: D.__setitem__((0, 0), 50.0)


    yield "a library's number", lambda x: (x * np.pi).sum(), lambda: MONKEY.setattr(np, "pi", 3.0)
    yield "a library's function", lambda x: np.linalg.norm(x), lambda: MONKEY.setattr(np.linalg, "norm", np.sum)
    numbers, held = (ctypes.c_double * 3)(1.0, 2.0, 3.0), Held(1.0)
    yield "array of C's", lambda x: (x * numbers[1]).sum(), lambda: numbers.__setitem__(1, 5.0)
    yield "struct of C's", lambda x: (x * held.k).sum(), lambda: setattr(held, "k", 5.0)
    yield "value of an enum", lambda x: (x * Kind.ONE.value[0]).sum(), lambda: Kind.ONE.value.__setitem__(0, 5.0)
    derived = Derived()
    yield "base", lambda x: derived.apply(x).sum(), lambda: setattr(Derived, "__bases__", (Thrice,))


class Held(ctypes.Structure):
    _fields_ = (("k", ctypes.c_double),)


class Kind(enum.Enum):
    ONE = [1.0]


class Twice:
    def apply(self, x):
        return 2.0 * x


class Thrice:
    def apply(self, x):
        return 3.0 * x


class Derived(Twice):
    pass


def helped(x, material):
    return np.sum(x * material.density)


def test_what_objects_modules_and_large_arrays_hold_is_noticed(request):
    request.addfinalizer(MONKEY.undo)
    for name, f, change in surroundings():
        with dd.recorded(f) as F:
            close(F(X), f(X))
            close(F(2 * X), f(2 * X))
            F.grad(X)
            assert F.counts.traces == 1, name
            change()
            assert abs(f(3 * X) - 3 * F._tapes[0].lin.update(X)) > 1e-3, name
            np.testing.assert_allclose(F(3 * X), f(3 * X), rtol=1e-12, err_msg=name)
            F(X)
            assert F.counts.traces == 2, name


def test_where_there_is_more_than_is_looked_at_is_told(comm):
    parts = [types.SimpleNamespace(k=1.0) for _ in range(1500)]
    with dd.recorded(lambda x: np.sum(x) * parts[1400].k) as F:
        with pytest.warns(RetraceWarning, match=r"if parts\[.* change") if comm.rank == 0 else contextlib.nullcontext():
            F(X)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            F(2 * X)
            F.forget()
            F(X)
    numbers = [1.0] * 5000
    with dd.recorded(lambda x: np.sum(x) * numbers[4000]) as F, warnings.catch_warnings():
        warnings.simplefilter("error")
        F(X)
        numbers[4000] = 3.0
        close(F(X), 3.0 * np.sum(X))


def test_surroundings_that_f_does_not_read_may_change():
    config = types.ModuleType("config")
    config.K, config.calls = 2.0, 0
    p, rng, big = Material(), np.random.default_rng(1), np.ones(1 << 23)
    p.trial = None

    def f(x):
        p.trial = 1
        return (x * config.K).sum() * p.density * big[0] + 0.0 * len(p.name)

    with dd.recorded(f) as F:
        for _ in range(3):
            close(F(X), f(X))
            config.calls += 1
            p.scale2, p.trial = config.calls, config.calls
            rng.random()
        assert F.counts.traces == 1
        big *= 2.0  # compared by a sample of its numbers
        close(F(X), f(X))
        assert F.counts.traces == 2

    class Fit:
        scale = 1.0

        def loss(self, x):
            return self.scale * x.sum()

    fit = Fit()
    fit.history = []
    with dd.recorded(fit.loss) as F:
        for k in range(3):
            fit.history.append(F(X + k))
        assert F.counts.traces == 1

    ring = types.SimpleNamespace(k=1.0)
    ring.ring = [ring]
    with dd.recorded(lambda x: ring.ring[0].ring[0].k * x.sum()) as F:
        F(X)
        ring.k = 3.0
        close(F(X), 3.0 * X.sum())


def test_update_keeps_the_constants_of_the_trace():
    k = np.ones(4)

    def f(x):
        return (x * k).sum()

    with dd.linearize(f, X) as lin:
        k *= 3.0
        close(lin.update(2 * X), 2 * X.sum())
    with dd.linearize(f, 2 * X) as lin:
        close(lin.value, f(2 * X))


def test_inside_a_trace_it_is_its_function():
    with dd.recorded(rosenbrock) as F:
        close(dd.grad(F)(X), dd.grad(rosenbrock)(X))
        close(dd.grad(lambda x: np.sum(F.grad(x) ** 2))(X), 2 * dd.hessian(rosenbrock)(X) @ dd.grad(rosenbrock)(X))
        close(dd.grad(lambda x: F.hvp(x, X) @ X)(X), dd.grad(lambda x: X @ dd.hessian(rosenbrock)(x) @ X)(X))
        close(dd.jacobian(lambda x: np.diag(F.hessian(x)))(X),
              dd.jacobian(lambda x: np.diag(dd.hessian(rosenbrock)(x)))(X))
        assert F.counts.traces == 0


@pytest.mark.mpi
@pytest.mark.parametrize("x", [X + 1j, np.arange(1, 5), X > 0.0, X.astype(complex)], ids=str)
def test_a_point_that_no_trace_takes_no_replay_takes(x):
    f = rosenbrock
    with pytest.raises((InputError, UnsupportedOperationError)) as traced:
        dd.grad(f)(x)
    with dd.recorded(f) as F:
        F(X)
        for ask in (F, F.grad, F.jacobian, F.hessian):
            with pytest.raises(traced.type, match="holds (complex|int64|bool) values") as replayed:
                ask(x)
            assert str(replayed.value) == str(traced.value)
    if np.iscomplexobj(x):
        tape = dd.trace(f, X)
        if tape.blocks:
            for call in (tape, lambda x: tape.save("/nonexistent/tape", point=(x,))):
                with pytest.raises(UnsupportedOperationError, match="complex"):
                    call(x)
        with pytest.raises(UnsupportedOperationError, match="complex"):
            dd.grad(tape)(x)


def test_errors():
    with dd.recorded(lambda x: np.sum(np.log(x))) as F:
        F(X**2)
        with pytest.raises(NonFiniteError, match="log"):
            F(-X)
        close(F.grad(X**2), 1 / X**2)
        assert F.counts.traces == 1
        with pytest.raises(InputError):
            F(np.array(["a"]))
        with pytest.raises(InputError, match="argnums"):
            F()
    with pytest.raises(InputError, match="closed"):
        F(X)
    F.close()
    with dd.recorded(lambda x: (np.sum(np.log(x)), x**2), nonfinite="inf") as F:
        F(X**2)
        assert F(-X)[0] == np.inf and np.isinf(F(-X)[1]).all() and F(-X)[1].shape == X.shape
        assert np.isnan(F.vjp(-X, (1.0, X))).all() and np.isnan(F.jvp(-X, X)[0])
        assert np.isnan(F.jacobian(-X)[1]).all() and F.jacobian(-X)[1].shape == (4, 4)
        close(F(X**2)[0], np.sum(np.log(X**2)))
        assert F.counts.traces == 1
    with pytest.raises(NonFiniteError), dd.recorded(lambda x: np.sum(x) * np.inf, nonfinite="inf") as F:
        F(X)
    with dd.recorded(lambda x: x) as F, pytest.raises(InputError, match="one number"):
        F.grad(X)
    for wrong in ({"max_tapes": 0}, {"has_aux": True}, {"nonfinite": "nan"}):
        with pytest.raises(InputError):
            dd.recorded(rosenbrock, **wrong)
    with pytest.raises(InputError, match="can't be called"):
        dd.recorded(3.0)


def factored(x):
    try:
        return np.sum(np.linalg.cholesky(np.diag(x)))
    except np.linalg.LinAlgError:
        return np.sum(x * x)


def positive(a):
    try:
        np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return False
    return True


def jittered(x):
    """A Gaussian process's way to a factor."""
    a, jitter = np.diag(x), 0.0
    while True:
        try:
            return np.sum(np.linalg.cholesky(a + jitter * np.eye(2)) ** 2)
        except np.linalg.LinAlgError:
            jitter = 2.0 * jitter + 0.75


def caught(operation, kinds=np.linalg.LinAlgError, **modes):
    def f(x):
        try:
            with np.errstate(**modes):
                return np.sum(operation(x))
        except kinds:
            return np.sum(x * x)
    return f


def set_globally(x):
    before = np.seterr(all="raise")
    try:
        return 0.0 / x[0] + x[1]
    except FloatingPointError:
        return 3.0 * x[1]
    finally:
        np.seterr(**before)


def called_back(x):
    seen = []
    before = np.seterrcall(lambda kind, flag: seen.append(kind)), np.seterr(all="call")
    y = 1.0 / (1.0 + x * 1e305)
    np.seterr(**before[1])
    np.seterrcall(before[0])
    return np.sum(y) + (1.0 + len(seen)) * x[1]


def warned(operation, *error, **record):
    def f(x):
        with warnings.catch_warnings(**record) as told:
            warnings.simplefilter(*error or ("always",))
            try:
                y = operation(x)
            except RuntimeWarning:
                return 3.0 * x[1]
        return np.sum(1.0 / (1.0 + y)) + x[1] * (1.0 + len(told or ()))
    return f


def whole_number(operation):
    def f(x):
        try:
            k = operation(x[0])
        except (ValueError, OverflowError):
            k = 7
        return x[1] * k
    return f


@dd.custom_jvp
def rooted(x):
    if np.min(x) < 0.0:
        raise ValueError("a negative number")
    return np.sqrt(x)


rooted.defjvp(lambda primals, tangents: (np.sqrt(primals[0]), tangents[0] / (2.0 * np.sqrt(primals[0]))))

@dd.compiled
def cubed(x):
    product = 1e300
    for _ in range(3):
        product = product * x[0]
    return 1.0 / product + x[1]


EXCEPTIONS = {  # function, a point where an operation raises and one where none does
    "cholesky": (factored, [-1.0, 4.0], [1.0, 4.0]),
    "helper": (lambda x: x @ x if positive(np.diag(x)) else np.sum(x), [-1.0, 4.0], [1.0, 4.0]),
    "jitter": (jittered, [-1.0, 4.0], [1.0, 4.0]),
    "inv": (caught(lambda x: np.linalg.inv(np.diag(x))), [0.0, 4.0], [1.0, 4.0]),
    "solve": (caught(lambda x: np.linalg.solve(np.diag(x), np.ones(2))), [0.0, 4.0], [1.0, 4.0]),
    "divide": (caught(lambda x: 3.0 / x, FloatingPointError, all="raise"), [0.0, 4.0], [1.0, 4.0]),
    "divide, finite": (caught(lambda x: 3.0 / (1.0 + 1.0 / x), FloatingPointError, all="raise"),
                       [0.0, 4.0], [1.0, 4.0]),
    "divide numbers": (caught(lambda x: 1.0 / (1.0 + x[1] / x[0]), FloatingPointError, all="raise"),
                       [0.0, 4.0], [1.0, 4.0]),
    "log": (caught(lambda x: np.log(x), FloatingPointError, all="raise"), [-1.0, 4.0], [1.0, 4.0]),
    "sum": (caught(lambda x: x.sum() ** 0.5, FloatingPointError, all="raise"), [-8.0, 4.0], [1.0, 4.0]),
    "a number": (caught(lambda x: np.log(x[0]) + x[1], FloatingPointError, all="raise"), [-1.0, 4.0], [1.0, 4.0]),
    "product of numbers": (caught(lambda x: 1.0 / (x[0] * 1e305) + x[1], FloatingPointError, over="raise"),
                           [1e4, 4.0], [1.0, 4.0]),
    "compiled": (caught(cubed, FloatingPointError, over="raise"), [1e4, 4.0], [1.0, 4.0]),
    "np.seterr": (set_globally, [0.0, 4.0], [1.0, 4.0]),
    "np.seterrcall": (called_back, [1e4, 4.0], [1.0, 4.0]),
    "warnings are errors": (warned(lambda x: x * x, "error"), [1e200, 4.0], [1.0, 4.0]),
    "those of numbers": (warned(lambda x: x[0] * x[0], "error", RuntimeWarning), [1e200, 4.0], [1.0, 4.0]),
    "warnings recorded": (warned(lambda x: x * x, record=True), [1e200, 4.0], [1.0, 4.0]),
    "int": (whole_number(int), [np.nan, 4.0], [1.0, 4.0]),
    "round": (whole_number(round), [np.inf, 4.0], [1.0, 4.0]),
    "a rule": (caught(rooted, ValueError), [-1.0, 4.0], [1.0, 4.0]),
    "an equation": (caught(lambda x: dd.implicit.root(lambda x, y: y * y - x, x, np.ones(2)), Exception),
                    [-1.0, 4.0], [1.0, 4.0]),
    "inside a gradient": (lambda x: np.sum(dd.grad(factored)(x)), [-1.0, 4.0], [1.0, 4.0]),
    "check_finite": (caught(lambda x: scipy.linalg.cholesky(np.diag(x)), Exception), [-1.0, 4.0], [1.0, 4.0]),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.mpi] * (name in ("cholesky", "log")))
                                  for name in EXCEPTIONS])
def test_an_exception_that_f_catches_decides_its_course(name):
    """Whichever way was recorded, the other is not replayed for it; nor by a tape without its function."""
    f, *points = EXCEPTIONS[name]
    points = [np.array(x) for x in points]
    for first, second in (points, points[::-1]):
        with dd.recorded(f) as F, dd.linearize(f, first) as lin, (
                dd.linearize(f, first, on_branch_change="raise")) as no:
            for x in (first, second, 1.5 * second, first):
                with dd.linearize(f, x) as fresh:
                    close(F(x), f(x))
                    close(F.grad(x), fresh.vjp(1.0))
                    close(lin.update(x), f(x))
                    close(lin.vjp(1.0), fresh.vjp(1.0))
            assert F.counts.retraces >= 1 and lin.retraces >= 1
            with pytest.raises(BranchChangedError):
                no.update(second)
            close(no.update(first), f(first))
    tape = dd.trace(f, points[0])
    with dd.linearize(tape, points[0]) as lin:
        close(lin.value, f(points[0]))
        with pytest.raises(BranchChangedError):
            lin.update(points[1])


@pytest.mark.parametrize("handles", [True, False])
@pytest.mark.parametrize("errors", [lambda: np.errstate(all="raise"), lambda: filtered("error")],
                         ids=["np.errstate", "warnings"])
def test_errors_that_are_raised_before_f_runs(errors, handles):
    """They decide where code that f reaches has a handler; elsewhere they only end it."""
    def inverse(x):
        return np.sum(1.0 / (1.0 + x * x)) + x[1]

    f = (lambda x: falling_back(inverse, x)) if handles else inverse
    points = [np.array(x) for x in ([1.0, 2.0], [1e200, 2.0], [2.0, 2.0])]
    with dd.recorded(f) as F:
        with errors():
            for x in points[::1 if handles else 2]:
                close(F(x), f(x))
            assert F.counts.traces == (3 if handles else 1)
        with filtered("ignore"):  # and on a tape of theirs alone
            for x in points:
                close(F(x), f(x))
        assert F.counts.traces == (4 if handles else 2)


@contextlib.contextmanager
def filtered(action):
    with warnings.catch_warnings():
        warnings.simplefilter(action, RuntimeWarning)
        yield


def falling_back(f, x):
    try:
        return f(x)
    except (FloatingPointError, RuntimeWarning):
        return 3.0 * x[1]


@pytest.mark.parametrize("quiet", [lambda: np.errstate(all="ignore"), lambda: filtered("ignore")])
def test_errors_that_are_ignored_are_no_decision(quiet):
    def f(x):
        with quiet():
            return np.sum(np.where(x > 0.0, np.sqrt(x * x * x), 1.0 / (x * x)))

    with dd.recorded(f) as F, warnings.catch_warnings():
        warnings.simplefilter("error")
        for x in (X, 2.0 * X, 3.0 * X):
            close(F(x), f(x))
        assert F.counts.traces == 1


@pytest.mark.parametrize("operation", [
    lambda x, y: y if positive(np.diag(x)) else y + 1.0, lambda x, y: y if positive(np.diag(y)) else y + 1.0,
    lambda x, y: np.where(np.sum(caught(np.log, FloatingPointError, all="raise")(x)) > 0, y, 2.0 * y)])
def test_equations_whose_functions_catch_are_refused(operation):
    with pytest.raises(UnsupportedOperationError, match=r"equation's function goes on .*_replay.py:\d+ .*eigvalsh"):
        dd.grad(lambda x: np.sum(dd.implicit.root(lambda x, y: operation(x, y) - x, x, np.ones(2))))(
            np.array([-1.0, 4.0]))


@pytest.mark.mpi
def test_what_f_does_not_catch_is_raised_as_it_was():
    with dd.recorded(lambda x: np.sum(np.linalg.cholesky(np.diag(x)))) as F:
        for _ in range(2):
            close(F(np.array([1.0, 4.0])), 3.0)
            with pytest.raises(np.linalg.LinAlgError, match="positive definite"):
                F(np.array([-1.0, 4.0]))
        assert F.counts.traces == 1


# -- what f draws from -------------------------------------------------------------------------------------------------


LEGACY = np.random.mtrand._rand  # what np.random.rand() draws from


def floats():
    k = 1.0
    while True:
        yield k
        k += 1.0


def noise():
    rng = np.random.default_rng(3)
    while True:
        yield rng.normal()


class Counting:
    n = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.n += 1
        return self.n


def drawing():
    """(name, f, whether it draws from what was made outside), each made anew."""
    rng, old, own = np.random.default_rng(3), np.random.RandomState(3), random.Random(3)
    thing = types.SimpleNamespace(rng=np.random.default_rng(4), batches=iter(range(100)))
    made = (k for k in range(100))
    yield "generator", lambda x: np.sum(x) * rng.normal(), True
    yield "shuffled", lambda x: x[rng.permutation(4)] @ X, True
    yield "RandomState", lambda x: np.sum(x) * old.rand(), True
    yield "numpy.random", lambda x: np.sum(x) * LEGACY.rand(), True
    yield "random", lambda x: np.sum(x) * random.random(), True
    yield "random.Random", lambda x: np.sum(x) * own.random(), True
    yield "attribute", lambda x: np.sum(x) * thing.rng.normal(), True
    yield "argument", lambda x, rng=thing.rng: np.sum(x) * rng.normal(), True
    yield "iterator", lambda x: np.sum(x) * next(thing.batches), True
    yield "generator of Python's", lambda x: np.sum(x) * next(made), True
    unused, second = np.random.default_rng(5), np.random.default_rng(6)
    yield "the second of two", lambda x: np.sum(x) * (second.normal() if unused is not None else 0.0), True
    seeds = np.random.SeedSequence(3)
    yield "seeds", lambda x: np.sum(x) * np.random.default_rng(seeds.spawn(1)[0]).normal(), True
    frozen, points = scipy.stats.norm(), scipy.stats.qmc.Sobol(1, seed=3)
    frozen.random_state = np.random.default_rng(3)
    yield "frozen", lambda x: np.sum(x) * frozen.rvs(), True
    yield "Sobol", lambda x: np.sum(x) * points.random(1)[0, 0], True
    twice, within, over = floats(), noise(), itertools.cycle([1.0, 2.0, 3.0, 4.0, 5.0])
    yield "twice from one", lambda x: np.sum(x) * next(twice) * next(twice), True
    yield "noise of a generator's", lambda x: np.sum(x) * next(within), True
    yield "cycle", lambda x: np.sum(x) * next(over), True
    sliced, mapped, counted = itertools.cycle([1.0, 2.0, 3.0, 4.0, 5.0]), map(float, range(1, 100)), Counting()
    yield "slices", lambda x: x[:2] @ list(itertools.islice(sliced, 2)), True
    yield "map", lambda x: np.sum(x) * next(mapped), True
    yield "iterator of the user's", lambda x: np.sum(x) * next(counted), True
    zipped = zip(itertools.repeat(1.0), itertools.count(1))
    yield "zip", lambda x: np.sum(x) * next(zipped)[1], True
    whole = itertools.cycle([1.0, 2.0])
    yield "all of a cycle", lambda x: np.sum(x) if whole is not None else next(whole), False
    yield "made inside", lambda x: np.sum(x) * np.random.default_rng(3).normal(), False
    yield "not drawn from", lambda x: np.sum(x) if rng is not None else LEGACY.rand(), False


def test_what_f_draws_is_drawn_at_every_point():
    """And value and gradient at one point are of one draw."""
    for (name, f, outside), (_, plain, _) in zip(drawing(), drawing()):
        with dd.recorded(f) as F, warnings.catch_warnings():
            warnings.simplefilter("ignore", RetraceWarning)
            for x in (X, 2 * X, 3 * X):
                state = LEGACY.get_state(), random.getstate()
                value, gradient = F.value_and_grad(x)
                LEGACY.set_state(state[0])
                random.setstate(state[1])
                np.testing.assert_allclose(value, plain(x), err_msg=name)
                close(gradient @ x, value)
            assert F.counts.traces == (3 if outside else 1), name


@pytest.mark.parametrize("make", [
    lambda: np.random.default_rng(3), lambda: random.Random(3), lambda: map(float, range(1, 10)), lambda: noise(),
    lambda: [np.random.default_rng(3)]], ids=["Generator", "Random", "map", "generator", "in a list"])
def test_what_f_draws_from_an_argument_is_drawn_at_every_point(make):
    def f(x, rng):
        rng = rng[0] if isinstance(rng, list) else rng
        return np.sum(x) * (rng.random() if hasattr(rng, "random") else next(rng))

    own, mine = make(), make()
    with dd.recorded(f) as F:
        for x in (X, 2 * X, 3 * X):
            value, gradient = F.value_and_grad(x, own)
            close(value, f(x, mine))
            close(gradient @ x, value)
        assert F.counts.traces == 3


def test_keyword_arguments_come_in_their_order():
    def f(x, **weights):
        return sum((k + 1) * w for k, w in enumerate(weights.values())) * np.sum(x)

    with dd.recorded(f) as F:
        for x in (X, 2 * X):
            close(F(x, a=1.0, b=2.0), 5.0 * np.sum(x))
            close(F(x, b=2.0, a=1.0), 4.0 * np.sum(x))
        assert F.counts.traces == 2


@pytest.mark.parametrize("draw", [
    lambda: np.random.default_rng().random(), lambda: np.random.RandomState().rand(), lambda: random.Random().random(),
    lambda: random.SystemRandom().random(), lambda: secrets.randbelow(10**9), lambda: uuid.uuid4().int / 2**128,
    lambda: os.urandom(4)[0] + os.urandom(4)[1] / 256, lambda: np.random.Generator(np.random.PCG64()).random(),
    lambda: scipy.stats.norm.rvs(random_state=np.random.default_rng())],
    ids=["default_rng", "RandomState", "Random", "SystemRandom", "secrets", "uuid4", "urandom", "PCG64", "scipy"])
def test_generators_without_a_seed_are_others_at_every_point(draw):
    with dd.recorded(lambda x: np.sum(x) * draw()) as F:
        found = [F(k * X) / np.sum(k * X) for k in (1.0, 2.0, 3.0)]
        assert len(set(np.round(found, 9))) == F.counts.traces == 3


# -- what f sees of its arguments beside their values ------------------------------------------------------------------


def in_their_order(parts):
    total = 0.0
    for key, part in parts.items():
        total = total * 0.5 + np.sum(part) ** 2 + len(key)
    return total


def as_they_lie(x):
    return x.ravel(order="K") @ np.arange(1.0, 7.0) ** 2 + np.sum(x.flatten("A") ** 3 * np.arange(6.0))


A, B = X[:2], X[2:]
MATRIX = np.arange(1.0, 7.0).reshape(2, 3)
SEEN = {"keys": (in_their_order, {"b": A, "a": B}, {"a": B, "b": A}),
        "keys inside": (lambda p: in_their_order(p[0]) * p[1], ({"b": A, "a": B}, 2.0), ({"a": B, "b": A}, 2.0)),
        "memory": (as_they_lie, MATRIX, np.asfortranarray(MATRIX)),
        "memory of three axes": (lambda x: as_they_lie(x.transpose(2, 0, 1)), MATRIX.reshape(1, 2, 3),
                                 MATRIX.reshape(1, 2, 3).transpose(2, 0, 1).copy().transpose(1, 2, 0))}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.mpi] * (name in ("keys", "memory"))) for name in SEEN])
def test_the_order_of_keys_and_of_axes_in_memory_is_the_callers(name, comm):
    f, *points = SEEN[name]
    for first, second in (points, points[::-1]):
        assert f(first) != f(second)
        given = (first, second) if comm.rank == 0 else (first, first)
        with dd.recorded(f) as F, dd.linearize(f, given[0]) as lin, (
                dd.linearize(f, given[0], on_branch_change="raise")) as no:
            close(lin.value, f(first))
            for x, here in zip(given, (first, second)):
                close(F(x), f(here))
                close(lin.update(x), f(here))
                close(lin.update(x), f(here))
                gradient = dd.grad(f)(x)
                flat(gradient, F.grad(x), lin.vjp(1.0))
                flat(dd.hvp(f, (x,), (gradient,)), F.hvp(x, gradient), lin.hvp(gradient))
            assert lin.retraces == 1 and F.counts.traces == 2
            with pytest.raises(BranchChangedError, match="come in another order"):
                no.update(given[1])
            close(no.update(given[0]), f(first))
    if comm.size == 1:
        assert dd.testing.taylor_test(f, points[0], order=2).passed


def flat(*trees):
    first, *others = (np.concatenate([np.ravel(leaf) for leaf in flatten(tree)[0]]) for tree in trees)
    for other in others:
        close(other, first)


def test_constants_and_results_keep_their_order_too():
    constant = np.asfortranarray(MATRIX)
    with dd.recorded(lambda x, k: {"z": np.sum(x * k.ravel("K")), "a": x[0]}) as F:
        found = F(np.arange(6.0), constant)
        assert list(found) == ["z", "a"] and found["z"] == np.arange(6.0) @ constant.ravel("K")


def misshapen(x):
    """What NumPy raises of shapes no value decides."""
    y = x
    for attempt in (lambda: x + np.ones(5), lambda: np.concatenate([x, np.ones((2, 2))]), lambda: x.reshape(7),
                    lambda: np.ones((3, 3)) @ x, lambda: np.split(x, 3), lambda: np.einsum("ij,j", x, x)):
        try:
            y = attempt()
        except ValueError:
            y = y * x
    return np.sum(y)


@pytest.mark.parametrize("f", [jittered, misshapen, EXCEPTIONS["helper"][0]])
def test_what_is_raised_again_at_other_points_is_replayed(f, tmp_path):
    points = [np.array(x) for x in ([-1.0, 4.0], [-1.2, 3.0], [-0.9, 5.0])]
    with dd.recorded(f) as F, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for x in points:
            close(F(x), f(x))
            close(F.grad(x), dd.grad(f)(x))
        assert F.counts.traces == 1 and F.counts.replays == 2
    dd.trace(f, points[0]).save(tmp_path / "tape")
    tape = dd.load(tmp_path / "tape")
    close(dd.grad(tape)(points[1]), dd.grad(f)(points[1]))
    close(dd.hessian(tape)(points[1]), dd.hessian(f)(points[1]))


def test_threads_that_watch_for_entropy_leave_python_as_it_was():
    own = os.urandom, random.Random.seed
    first, second = (Draws(np.sum, {}).watching() for _ in range(2))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # before the other, as a thread may
    assert os.urandom is not own[0]
    second.__exit__(None, None, None)
    assert (os.urandom, random.Random.seed) == own
