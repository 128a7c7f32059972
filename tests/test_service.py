"""The resident service and its client: real servers in processes of their own, asked as programs ask them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import minimize, rosen
from servers import Server, metric, wait_for

import distdiff as dd
from distdiff.errors import (
    BranchChangedError,
    InputError,
    MovedError,
    NonFiniteError,
    OverdueError,
    ServiceError,
    ServiceWarning,
    TracingError,
)
from distdiff.implicit import root
from distdiff.service import wire

pytestmark = pytest.mark.timeout(100)
MODEL = """
import ctypes
import os
import time

import distdiff as dd
import numpy as np

def loss(u, power, scale=2.0):
    return scale * np.sum(u ** power)

def kinked(u, power):
    return np.sum(u ** 2) if u[0] > 0 else np.sum(u ** power)

def turning(u):
    return np.sum(u) if u[0] > 0 else {"negative": u}

def stepped(u, n: int):
    for _ in range(n - 1):
        u = u * 2.0
    return u

def fails(u):
    raise RuntimeError("boom")

def ends(u):
    raise SystemExit(3)

def exits(u):
    os._exit(5)

def crashes(u):
    ctypes.string_at(0)

def waits(u):
    time.sleep(1e9) if u[0] < 0 else None
    return np.sum(u ** 2)

def turns(u):
    while u[0] < 0:
        pass
    return np.sum(u ** 2)

def ranks(u):
    return np.sum(u) * len([name for name in os.environ if name.startswith(("OMPI_", "PMIX_", "PMI_"))])

def _private(u):
    return u

@dd.custom_jvp
def cubed(u):
    return np.array([float(x) ** 3 for x in u])

@cubed.defjvp
def cubed_jvp(primals, tangents):
    return cubed(*primals), 3.0 * primals[0] ** 2 * tangents[0]

def ruled(u):
    return np.sum(cubed(u))

@dd.elemental(partials=[lambda y, x: np.ones_like(x)])
def stuck(u):
    while np.max(u) > 1e3:
        time.sleep(0.01) if np.min(u) > 0.0 else None
    return u

def sticking(u):
    return np.sum(stuck(u) ** 2)

@dd.elemental(partials=[lambda y, x: np.zeros_like(x)])
def place(u):
    return 0.0 * u + max(float(os.environ.get(name, 0)) for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK"))

def placed(u):
    for _ in range(20):
        u = u + 0.1 * np.sin(np.roll(u, 1))
    return np.sum(place(u))
"""
Pair = namedtuple("Pair", "a b")
ALONE = pytest.mark.parametrize("server", [1], indirect=True)  # nothing in it depends on the number of ranks
TOGETHER = pytest.mark.parametrize("server", [2], indirect=True)  # what goes on several ranks goes on one
X = np.linspace(0.3, 1.7, 12)


def heat(u, k):
    for _ in range(5):
        u = u + k * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
    return u


def nested(p, q):
    return {"sum": np.sum(p.a * p.b), "all": [np.sin(p.a) * q["z"], q["z"]]}


def equilibrium(u, k):
    return np.sum(root(lambda u, v: v + v**3 - heat(u, k), u, np.zeros(12)) ** 2)


def energy(u):
    return np.sum(heat(u, 0.2) ** 4)


@pytest.fixture(scope="module", params=[1, 2])
def server(request, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "models").mkdir()
    (folder / "models" / "model.py").write_text(MODEL)
    with Server(folder, "--modules", "models", "--traces", "4", "--rule-limit", "2", ranks=request.param,
                unix=request.param == 1) as running:
        yield running


@pytest.fixture
def client(server) -> Iterator[object]:
    with server.connect() as found:
        yield found


def alike(found, wanted):
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        found, wanted = list(found.values()), list(wanted.values())
    if isinstance(wanted, (tuple, list)):
        assert type(found) is type(wanted) and len(found) == len(wanted)
        for a, b in zip(found, wanted):
            alike(a, b)
    else:
        assert np.shape(found) == np.shape(wanted)
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("f, args, argnums, tangents, cotangent", [
    (heat, (X, 0.2), (0, 1), (np.cos(X), 1.0), X),
    (heat, (X, 0.2), 0, (np.cos(X),), X),
    (energy, (X.reshape(3, 4),), 0, (np.ones((3, 4)),), 1.0),
    (nested, (Pair(X, X[::-1]), {"z": 2.0}), (0, 1), (Pair(X, X), {"z": 1.0}), {"sum": 1.0, "all": [X, 3.0]}),
    (lambda x: 3.0 * x, (1.5,), 0, (1.0,), 1.0),
    (equilibrium, (X, 0.2), (0, 1), (np.cos(X), 1.0), 1.0),
])
def test_the_same_answers_as_linearize(client, f, args, argnums, tangents, cotangent):
    with client.linearize(f, *args, argnums=argnums) as remote, dd.linearize(f, *args, argnums=argnums) as local:
        for _ in range(2):
            alike(remote.value, local.value)
            alike(remote.jvp(*tangents), local.jvp(*tangents))
            alike(remote.vjp(cotangent), local.vjp(cotangent))
            alike(remote.jacobian(), local.jacobian())
            alike(remote.update(*tangents), local.update(*tangents))
        assert remote.point == 2 and str(local.report().lines) in str(remote.report())
        assert remote.report()["lines"] == local.report().lines


@TOGETHER
def test_second_derivatives(client):
    with client.linearize(energy, X) as remote, dd.linearize(energy, X) as local:
        alike(remote.hvp(X), local.hvp(X))
        alike(remote.hessian(), local.hessian())


@TOGETHER
def test_in_an_optimizer(client):
    def f(x):
        return 100 * np.sum((x[1:] - x[:-1] ** 2) ** 2) + np.sum((1 - x[:-1]) ** 2)

    x0 = np.full(6, -0.5)
    with client.linearize(f, x0) as remote:
        def gradient(x):
            remote.update(x)
            return remote.vjp(1.0)

        found = minimize(remote.update, x0, jac=gradient, method="BFGS")
        assert found.success and rosen(found.x) < 1e-8
        again = minimize(remote, x0, jac=remote.grad, method="BFGS")
        np.testing.assert_array_equal(again.x, found.x)
        alike(remote.grad(), remote.vjp(1.0))
        before = remote.point
        value, slope = remote.value_and_grad(found.x)
        alike(client.attach(remote.id).grad(found.x), slope)  # it is there already
        assert value == remote(found.x) and remote.point >= before


@TOGETHER
def test_recorded_is_straight_in_an_optimizer(client):
    """The face of dd.recorded: no point is evaluated twice, and all derivatives take the point first."""
    def f(x, scale=1.0):
        return scale * np.sum((x[1:] - x[:-1] ** 2) ** 2) + np.sum((1 - x[:-1]) ** 2)

    x0, v = np.full(6, -0.5), np.arange(6.0)
    with client.recorded(f, name="rosen") as F, dd.recorded(f) as G:
        for method, most in (("BFGS", 100), ("Newton-CG", 8)):
            found, wanted = (minimize(R, x0, args=(100.0,), jac=R.grad, method=method, options={"maxiter": most},
                                      hessp=R.hvp if method == "Newton-CG" else None) for R in (F, G))
            assert found.nit == wanted.nit and (rosen(found.x) < 1e-8 or method != "BFGS")
            np.testing.assert_allclose(found.x, wanted.x, rtol=1e-6)
        assert vars(F.counts) == vars(G.counts) and F.counts.traces == 1 and F.counts.repeats > F.counts.replays > 10
        for R in (F, G):
            R.forget()
        for name, arguments in (("jvp", (x0, v)), ("vjp", (x0, 2.0)), ("hvp", (x0, v)), ("jacobian", (x0,)),
                                ("hessian", (x0,)), ("value_and_grad", (x0,)), ("__call__", (x0,))):
            alike(getattr(F, name)(*arguments), getattr(G, name)(*arguments))
        assert F(x0, 2.0) != F(x0) and F.cached == 2 and F.at(x0).report()["lines"] > 10
        assert repr(F).startswith("<recorded test_recorded_is_straight_in_an_optimizer.<locals>.f, 3 traces, ")
        with pytest.raises(InputError, match="one number"):
            client.recorded(lambda x: x).grad(x0)
        with pytest.raises(InputError, match="part of a function that is being traced"):
            dd.trace(lambda x: F.grad(x), x0)
    with pytest.raises(InputError, match="closed"):
        F(x0)
    assert "rosen" not in {system["name"] for system in client.systems()}


@TOGETHER
def test_recorded_where_branches_change_and_nothing_is_finite(client):
    def f(x):
        return np.sum(x**2) if x[0] > 0 else np.sum(np.log(1.0 - x))

    with client.recorded(f, nonfinite="inf", max_tapes=2) as F:
        for x in (X, -X, X, -2 * X, 3 * X):
            alike(F.grad(x), dd.grad(f)(x))
        assert (F.counts.traces, F.counts.retraces, F.counts.replays) == (2, 1, 2) and F.cached == 2
        bad = np.array([-1.0, 2.0])
        assert F(-X[:2]) == pytest.approx(f(-X[:2])) and F.counts.evictions == 1
        assert F(bad) == np.inf and np.isnan(F.grad(bad)).all()
        alike(F.grad(-X[:2]), dd.grad(f)(-X[:2]))
    with client.recorded(f, on_branch_change="raise") as F:
        F(X)
        with pytest.raises(BranchChangedError):
            F(-X)
    for wrong in ({"max_tapes": 0}, {"nonfinite": "no"}, {"on_branch_change": "no"}, {"has_aux": True}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            client.recorded(f, **wrong)


@TOGETHER
def test_a_changed_branch_is_traced_again_here(client):
    def f(x):
        return np.sum(x**2) if x[0] > 0 else np.sum(x**3)

    with client.linearize(f, X) as remote:
        assert remote.update(-X) == pytest.approx(np.sum(-X**3)) and remote.retraces == 1
        alike(remote.vjp(1.0), 3 * X**2)
    with client.linearize(f, X, on_branch_change="raise") as remote:
        with pytest.raises(BranchChangedError, match="goes the other way"):
            remote.update(-X)
        alike(remote.vjp(1.0), 2 * X)  # it stays where it was


@TOGETHER
def test_mistakes_have_the_library_s_own_errors(client):
    with pytest.raises(InputError, match="reverse"):
        client.linearize(heat, X, 0.2, reverse=True)
    with client.linearize(lambda x: np.log(x), X) as remote:
        with pytest.raises(NonFiniteError, match="test_service.py"):
            remote.update(-X)
        with pytest.raises(InputError, match="shape"):
            remote.vjp(np.ones(3))
        alike(remote.vjp(X), np.ones(12))
    with pytest.raises(InputError, match="closed"):
        remote.vjp(X)


@TOGETHER
def test_nobody_is_answered_for_another_s_point(client):
    with client.linearize(energy, X) as mine:
        theirs = client.attach(mine.id)
        np.testing.assert_array_equal(theirs.product("vjp", np.ones(1)), mine.vjp(1.0))
        theirs.move(2 * X)
        with pytest.raises(MovedError, match="point 2"):
            mine.vjp(1.0)
        alike(mine.update(X), energy(X))
        alike(mine.vjp(1.0), dd.grad(energy)(X))
    with pytest.raises(ServiceError, match="no system"):
        theirs.value_vector()


@TOGETHER
@pytest.mark.parametrize("f, args, tangents, cotangent", [
    (heat, (X, 0.2), (np.cos(X), 1.0), X),
    (energy, (X.reshape(3, 4),), (np.ones((3, 4)),), 1.0),
    (nested, (Pair(X, X[::-1]), {"z": 2.0}), (Pair(X, X), {"z": 1.0}), {"sum": 1.0, "all": [X, 3.0]}),
])
def test_who_attaches_has_the_same_face(client, f, args, tangents, cotangent):
    argnums = tuple(range(len(args))) if len(args) > 1 else 0
    with client.linearize(f, *args, argnums=argnums) as mine, dd.linearize(f, *args, argnums=argnums) as local:
        theirs = client.attach(mine.id)
        for _ in range(2):
            for ask in (lambda r: r.value, lambda r: r.jvp(*tangents), lambda r: r.vjp(cotangent),
                        lambda r: r.jacobian(), lambda r: r.update(*tangents)):
                alike(flattened(ask(theirs)), flattened(ask(local)))
        if f is energy:
            alike(theirs.hvp(*tangents), local.hvp(*tangents))
            alike(theirs.hessian(), local.hessian())
        assert theirs.point == 2 and theirs.report()["lines"] == local.report().lines
        with pytest.raises(InputError, match="cotangent"):
            theirs.vjp((1.0, 2.0, 3.0))
        theirs.close()
        with pytest.raises(ServiceError, match="no system"):
            client.attach(mine.id)


def flattened(tree):
    """Named tuples by name and fields: who attaches is given types of the same names."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return {f"{type(tree).__name__}.{key}": flattened(part) for key, part in tree._asdict().items()}
    if isinstance(tree, dict):
        return {key: flattened(part) for key, part in tree.items()}
    return type(tree)(map(flattened, tree)) if isinstance(tree, (list, tuple)) else tree


@ALONE
def test_a_branch_that_changes_for_who_attaches(client):
    def f(x):
        return np.sum(x**2) if x[0] > 0 else np.sum(x**3)

    first = client.linearize(f, X, name="kinked", method="sweep")
    blind = client.attach(first.id)
    with pytest.raises(BranchChangedError, match=f"goes the other way.*client.attach\\('{first.id}', f\\) traces"):
        blind.update(-X)
    for wrong, message in ((lambda x: np.sum(x**3), "another by"), (lambda x: x, "shape"), (lambda x: [x], "nested")):
        with pytest.raises(InputError, match=f"<lambda> is not the function of system '{first.id}'.*{message}"):
            client.attach(first.id, wrong)
    assert repr(blind) == (f"<remote linearization of kinked, (12,) to (), {blind.described['lines']} lines, sweep, "
                           f"point 1 of '{first.id}' at {client.address}>")
    alike(blind.vjp(1.0), 2 * X)
    with client.attach(first.id, f) as seeing:
        assert seeing.update(-X) == pytest.approx(np.sum(-X**3)) and seeing.retraces == 1
        alike(seeing.vjp(1.0), 3 * X**2)
        assert seeing.described["name"] == "kinked" and seeing.described["settings"]["method"] == "sweep"
        assert seeing.id != first.id and first.id not in {found["id"] for found in client.systems()}


@ALONE
def test_what_does_not_exist_is_named(client):
    with client.linearize(heat, X, 0.2) as remote:
        for ask, message in (
                (lambda: remote.start("nope"), "kind='nope' does not exist; choose one of 'jvp'.*'hessian'"),
                (lambda: remote.product("jacobian", X), "kind='jacobian' does not exist; choose one of 'jvp'"),
                (lambda: remote.matrix("vjp"), "kind='vjp' does not exist; choose one of 'jacobian'"),
                (lambda: remote.start("vjp"), r"a vjp wants a vector: start\('vjp', vector\)"),
                (lambda: remote.start("jacobian", X), "a jacobian takes no vector"),
                (lambda: client.attach(""), r"'' is no id of a system; client.systems\(\) lists"),
                (lambda: remote.plot("pie"), "kind='pie' does not exist; choose 'spy'.*'scaling'"),
                (lambda: remote.product("vjp", np.ones(5)), r"shape \(5,\), but \(12,\) is wanted: the numbers of all"),
                (lambda: client.run("model:loss", u=X, power=object()), "'power' is a object, and .*linearize"),
                (lambda: client.run("model:loss", u=[[1.0], [1.0, 2.0]]), "'u' is a list whose parts have different"),
                (lambda: client.run("model:loss", u=X + 1j), "'u' is an array of complex128, and .* of real numbers"),
                (lambda: client.run("model"), "'model' names no function: write 'module:function'"),
                (lambda: client.run(":loss"), "names no function"),
                (lambda: client.run("../model:loss"), "names no function.*without directory"),
                (lambda: client.linearize("model:loss", X), r"a str, which.*client.run\('model:loss', name=value")):
            with pytest.raises(InputError, match=message):
                ask()


@ALONE
def test_functions_of_chosen_modules(client):
    with client.run("model:loss", u=X, power=3) as remote:
        assert remote.described["function"] == "model:loss" and remote.described["names"] == ["u"]
        alike(remote.product("vjp", np.ones(1)), 6 * X**2)
        alike(remote.vjp(1.0), 6 * X**2)
        alike(remote.value, 2 * np.sum(X**3))
    for function, said, names, value in (("loss", '{"u": [1, 2, 3], "power": 2}', ["u", "power"], 28.0),
                                         ("stepped", '{"u": 2, "n": 3.0}', ["u"], 8.0)):
        opened = client._json("POST", f"/v1/functions/model/{function}", f'{{"arguments": {said}}}', "application/json")
        with client.attach(opened["id"]) as remote:
            assert remote.described["names"] == names
            alike(remote.value, value)
    with client.run("model:kinked", u=X, power=3) as remote:
        assert remote.update(-X) == pytest.approx(-np.sum(X**3)) and remote.point == 2  # traced again there
        alike(remote.product("vjp", np.ones(1)), 3 * X**2)
        remote.move(2 * X)
        alike(remote.product("vjp", np.ones(1)), 4 * X)
        with pytest.raises(InputError, match="NaN"):
            remote.move(np.nan * X)
        alike(remote.product("vjp", np.ones(1)), 4 * X)
    with client.run("model:turning", u=X) as remote:
        alike(remote.update(-X), {"negative": -X})
        alike(remote.vjp({"negative": X}), X)
        alike(remote.value, {"negative": -X})
    for function, arguments, message in (
            ("model:_private", {"u": X}, "defines no function '_private'; it has loss, kinked, turning, stepped, "),
            ("model:os", {"u": X}, "no function"), ("os:getcwd", {"u": X}, "no module 'os'"),
            ("..model:loss", {"u": X}, "no module"), ("model:loss", {"u": X}, "missing a required argument: 'power'"),
            ("model:loss", {"u": X, "power": 3, "z": 1.0}, "unexpected keyword"),
            ("model:loss", {"u": X.astype(int), "power": 3}, "floating"), ("model:fails", {"u": X}, "boom"),
            ("model:ends", {"u": X}, "model:ends raised SystemExit: 3"),
            ("model:exits", {"u": X}, "process that traced model:exits ended, by exit status 5"),
            ("model:crashes", {"u": X}, "process that traced model:crashes ended, by signal 11")):
        with pytest.raises(dd.DistdiffError, match=message):
            client.run(function, **arguments)


@TOGETHER
@pytest.mark.parametrize("name", ["waits", "turns"])
def test_a_function_that_never_returns_keeps_nobody_waiting(client, name):
    """It is traced beside the ranks, which solve meanwhile; cancelled it ends, and its system is where it was."""
    def under_way() -> list:
        return [job for job in client._json("GET", "/v1/jobs") if job["state"] == "running"]

    def ask(what, errors: list) -> threading.Thread:
        def caught() -> None:
            with pytest.raises(ServiceError, match="the job was cancelled") as error:
                what()
            errors.append(error.value.status)
        thread = threading.Thread(target=caught)
        thread.start()
        return thread

    with client.run(f"model:{name}", u=X) as mine, client.linearize(heat, X, 0.1) as other:
        ended: list = []
        wanted = other.vjp(X)
        for what, kind, system in ((lambda: client.run(f"model:{name}", u=-X), "open", None),
                                   (lambda: mine.move(-X), "move", mine.id)):
            thread = ask(what, ended)
            wait_for(lambda: client._json("GET", "/healthz")["tracing"] == 1)
            (job,) = under_way()
            assert job["kind"] == kind and (system is None or job["system"] == system)
            alike(other.vjp(X), wanted)
            assert metric(client, "distdiff_traces") == 1 and mine.id in {s["id"] for s in client.systems()}
            said = client._json("DELETE", f"/v1/jobs/{job['id']}")
            assert said["ends"] == "at once: the process that traces its function is ended"
            thread.join(20)
            assert not thread.is_alive()
            wait_for(lambda: client._json("GET", "/healthz")["tracing"] == 0)
            alike(mine.vjp(1.0), 2 * X)
        assert set(ended) == {409}
    with client.run("model:ranks", u=X) as remote:
        alike(remote.vjp(1.0), 0 * X)  # the next is traced by a process of its own, which is no rank


@TOGETHER
def test_a_function_is_opened_without_waiting(server):
    """A job as others are: told of, followed, cancelled; two that never return keep no third waiting."""
    with server.connect() as client, server.connect() as another:
        known = client.functions()
        assert known["model:loss"] == ["u", "power", "scale"] and "model:_private" not in known
        job = client.start("model:loss", u=X, power=3, name="mine")
        assert job.info()["kind"] == "open" and job.id in {info["id"] for info in client._json("GET", "/v1/jobs")}
        with job.result() as remote:
            alike(remote.vjp(1.0), 6 * X**2)
            assert remote.described["name"] == "mine"
        failing = client.start("model:fails", u=X)
        with pytest.raises(TracingError, match="model:fails raised RuntimeError: boom"):
            failing.result()
        many = [who.start("model:turns", u=-X) for who in (client, client, client, another)]
        wait_for(lambda: [job.info()["state"] for job in many] == ["running", "running", "queued", "running"])
        with client.linearize(heat, X, 0.1) as other, another.run("model:loss", u=X, power=2) as third:
            alike(third.vjp(1.0), 4 * X)
            assert client._json("GET", "/healthz")["tracing"] == 3 and metric(client, "distdiff_traces_waiting") == 1
            assert many[2].info()["began"] is None and many[2].cancel() == "at once"
            assert many[0].cancel() == "at once: the process that traces its function is ended"
            for job in (many[1], many[3]):
                job.cancel()
            for job in many:
                with pytest.raises(ServiceError, match="cancelled"):
                    job.result()
            alike(other.vjp(X), dd.vjp(heat, X, 0.1)[1](X)[0])
        found = client.ask("GET", f"/v1/systems/{client.run('model:loss', u=X, power=2).id}/report", accept="*/*",
                           prefer="respond-async")[1]
        follow = json.loads(found)["id"]
        wait_for(lambda: client._json("GET", f"/v1/jobs/{follow}")["state"] == "done")
        assert client._json("GET", f"/v1/jobs/{follow}/result")["lines"] > 12
        job = client._json("GET", f"/v1/jobs/{follow}")
        found = client.ask("GET", f"/v1/systems/{job['system']}/pictures/levels", accept="*/*", prefer="respond-async")
        follow = json.loads(found[1])["id"]
        wait_for(lambda: client._json("GET", f"/v1/jobs/{follow}")["state"] == "done")
        headers, drawn = client.ask("GET", f"/v1/jobs/{follow}/result?dark=true", accept="*/*")
        assert b"<svg" in drawn and "levels" in headers["distdiff-caption"]


@TOGETHER
def test_a_rule_that_never_returns_is_left(client):
    """Once it is cancelled, or has taken what rules may take; its system is where it was, and others are served."""
    with client.run("model:sticking", u=X) as mine, client.linearize(heat, X, 0.1) as other:
        wanted = other.vjp(X)
        for far in (1e4 * X, np.linspace(-1e4, 1e4, 12)):
            began = time.monotonic()
            job = mine.start("update", far)
            next(info for info in job.events() if info["state"] == "running")
            job.cancel()
            with pytest.raises(ServiceError, match="cancelled"):
                job.result()
            assert time.monotonic() - began < 3.0
        with pytest.raises(OverdueError, match="rule of stuck was left where it was: .* the 2 s that rules may"):
            mine.update(1e4 * X)
        alike(other.vjp(X), wanted)
        alike(mine.vjp(1.0), 2 * X)
        alike(mine.update(2 * X), 4 * np.sum(X**2))


def test_rules_are_those_of_the_services_modules(client):
    """A tape names the rules that it calls; none that a client sends is ever run."""
    mine: dict = {"__name__": "model"}
    exec(MODEL, mine)
    v = np.cos(X)
    for remote in (client.run("model:ruled", u=X), client.linearize(mine["ruled"], X)):
        with remote:
            alike(remote.product("vjp", np.ones(1)), 3.0 * X**2)
            alike(remote.product("hvp", v), 6.0 * X * v)
            remote.move(2.0 * X)
            alike(remote.jvp(v), np.sum(12.0 * X**2 * v))
    for module, message in (("elsewhere", r"of module elsewhere\), which is code .*started with model; put the rule"),
                            ("os", "of module os.*was started with model")):
        mine["cubed"].__module__ = module
        with pytest.raises(ServiceError, match=message) as caught:
            client.linearize(mine["ruled"], X)
        assert caught.value.status == 422
    mine["cubed"].__module__, mine["cubed"].__name__ = "model", "loss"
    with pytest.raises(ServiceError, match="defines 0 of them"):
        client.linearize(mine["ruled"], X)
    exec(MODEL.replace("def cubed(u)", "def cubed(u, power=3)"), mine)
    with pytest.raises(InputError, match=r'parameters \["u", "power"\].*another rule'):
        client.linearize(mine["ruled"], X)


@TOGETHER
def test_rules_of_modules_are_run_by_rank_0(client):
    """So that whoever cancels reaches them, wherever the lines around them are computed."""
    body = wire.to_npz({"u": np.linspace(0.0, 1.0, 2000)})
    made = client._json("POST", "/v1/functions/model/placed?partition=contiguous", body, wire.NPZ)
    with client.attach(made["id"]) as remote:
        assert remote.report()["partition"] == "contiguous" and remote.report()["k_star"] > 1
        assert remote.update(np.linspace(1.0, 2.0, 2000)) == 0.0


@ALONE
def test_who_may_ask(server):
    with pytest.raises(ServiceError, match="token") as caught:
        server.connect(token="x" * 30)
    assert caught.value.status == 401
    (server.folder / "open").write_text("x" * 30)
    (server.folder / "open").chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        server.connect(token=server.folder / "open")
    with pytest.raises(ServiceError, match="wrong.*there is no file /nope, so that was sent as the token"):
        server.connect(token="/nope")
    with pytest.raises(ServiceError, match="no token is given, and there is no file .*s.token"):
        server.connect(token=None)


@ALONE
def test_a_system_that_could_not_be_deleted_is_told_of(client, monkeypatch):
    ask = type(client).ask

    def refused(self, method, *arguments, **keywords):
        if method == "DELETE":
            raise ServiceError("no service answers", status=0)
        return ask(self, method, *arguments, **keywords)

    remote = client.linearize(heat, X, 0.1)
    wanted = remote.vjp(X)
    monkeypatch.setattr(type(client), "ask", refused)
    with pytest.raises(ServiceError, match="no service answers"):
        remote.close()
    with pytest.raises(ServiceError, match="no service answers"), remote:
        pass
    with pytest.raises(ZeroDivisionError) as caught, remote:
        1 / 0  # noqa: B018 -- what the body raises
    assert caught.value.__notes__ == [f"the system {remote.id!r} could not be deleted: no service answers"]
    monkeypatch.undo()
    alike(remote.vjp(X), wanted)  # it is there, and another call tries again
    twin = client.attach(remote.id)
    remote.close()
    remote.close()
    twin.close()  # gone already
    assert remote.id not in {system["id"] for system in client.systems()}


def test_nobody_there(tmp_path):
    with pytest.raises(ServiceError, match="no service answers at unix:"):
        dd.connect(f"unix:{tmp_path}/none", token="x" * 30)
    with pytest.raises(ServiceError, match="no service answers at unix:"):
        dd.connect(f"unix:{tmp_path}/none")  # which is said before what keeps the token


NO_MPI = """
import sys
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("mpi4py", "petsc4py"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
"""


@ALONE
def test_a_client_needs_no_mpi(server):
    code = NO_MPI + """
import numpy as np, distdiff as dd
from pathlib import Path
from scipy.optimize import minimize
client = dd.connect(sys.argv[1], token=Path(sys.argv[2]))
with client.linearize(lambda x: np.sum(x**3), np.ones(4)) as r:
    print(r.value, r.vjp(1.0).tolist(), r.update(np.full(4, 2.0)))
@dd.compiled
def f(x):
    s = 0.0
    for k in range(3):
        s += (x[k] - k) ** 2
    return s
with client.linearize(f, np.ones(3)) as r:
    def gradient(x):
        r.update(x)
        return r.vjp(1.0)
    print(np.round(minimize(r.update, np.ones(3), jac=gradient).x, 6) + 0.0)
for name in ("grad", "linearize", "load", "implicit"):
    try:
        getattr(dd, name)
    except dd.DistdiffError as error:
        said = f"{type(error).__name__}: {error}"
    assert said.startswith(f"MissingPackageError: distdiff.{name} needs mpi4py, as it solves on MPI ranks"), said
    assert "pip install 'distdiff[mpi]'" in said and "distdiff.connect(url)" in said, said
assert not [name for name in sys.modules if name.partition(".")[0] in ("mpi4py", "petsc4py", "fastapi", "uvicorn")]
from distdiff.cli import main
assert main(["grad", "model:loss", "--output", "g.npz"]) == 1
"""
    done = subprocess.run([sys.executable, "-c", code, server.url, str(server.folder / "t")], text=True, timeout=60,
                          capture_output=True, check=False)
    assert done.stdout == "4.0 [3.0, 3.0, 3.0, 3.0] 32.0\n[0. 1. 2.]\n", done
    assert done.stderr.startswith("distdiff: error: distdiff grad needs mpi4py"), done


def wide(u, steps=3):
    for _ in range(steps):
        u = np.tanh(np.roll(u, 1) * 1.1 + 0.3 * u)
    return u


def test_a_long_job_with_progress(client):
    with client.linearize(wide, np.linspace(0, 1, 1000), 30) as remote:
        job = remote.start("jacobian")
        seen = [(info["state"], info["done"]) for info in job.events()]
        assert seen[-1] == ("done", 1000) and len({done for _, done in seen}) > 2
        assert [done for _, done in seen] == sorted(done for _, done in seen)
        np.testing.assert_allclose(job.result(), remote.jacobian(), rtol=1e-12)
        assert job.id in [info["id"] for info in client._json("GET", "/v1/jobs")]
        product = remote.start("vjp", np.ones(1000))
        np.testing.assert_allclose(product.result(), remote.vjp(np.ones(1000)), rtol=1e-12)
        failing = remote.start("hessian")
        with pytest.raises(InputError, match="one number"):
            failing.result()
        assert failing.info()["state"] == "failed" and "one number" in failing.info()["error"]["detail"]


@ALONE
@pytest.mark.parametrize("f, args, argnums, tangents, cotangent", [
    (heat, (X, 0.2), (0, 1), (np.cos(X), 1.0), X),
    (energy, (X.reshape(3, 4),), 0, (np.ones((3, 4)),), 1.0),
    (nested, (Pair(X, X[::-1]), {"z": 2.0}), (0, 1), (Pair(X, X), {"z": 1.0}), {"sum": 1.0, "all": [X, 3.0]}),
    (lambda x: x * x, (1.5,), 0, (1.0,), 1.0),
])
def test_what_is_started_has_the_face_of_what_is_waited_for(client, f, args, argnums, tangents, cotangent):
    asked = {"jvp": tangents, "vjp": (cotangent,), "jacobian": (), "update": tangents}
    with client.linearize(f, *args, argnums=argnums) as remote:
        if np.shape(remote.value) == () and not isinstance(remote.value, dict):
            asked = {"hvp": tangents, "hessian": (), **asked}
        for kind, given in asked.items():
            job = remote.start(kind, *given)
            alike(job.result(), getattr(remote, kind)(*given))
        remote.update(*tangents)
        alike(remote.value, f(*tangents))
        for kind, given in (("vjp", (cotangent, cotangent)), ("jvp", (*tangents, 1.0)), ("update", ({"no": X},))):
            with pytest.raises(InputError):
                remote.start(kind, *given)


@ALONE
def test_cancelled_between_batches(client):
    with client.linearize(wide, np.linspace(0, 1, 4000), 60) as remote:
        solved = metric(client, 'distdiff_right_hand_sides_total{kind="jvp"}')
        job, behind = remote.start("jacobian"), remote.start("jacobian")
        for info in job.events():
            if info["done"]:
                behind.cancel()
                job.cancel()
        assert info["state"] == "cancelled" and 0 < info["done"] < 4000
        wait_for(lambda: behind.info()["state"] == "cancelled")  # its turn may have been under way
        with pytest.raises(ServiceError, match="cancelled"):
            job.result()
        assert metric(client, 'distdiff_right_hand_sides_total{kind="jvp"}') - solved < 4000
        remote.vjp(np.ones(4000))  # and it lives on


def test_a_single_long_solve_and_a_move_are_cancelled(client):
    u = np.linspace(0, 1, 50_000)
    with client.linearize(wide, u, 200) as remote:
        right, value = remote.vjp(u), remote.value
        solved = metric(client, 'distdiff_right_hand_sides_total{kind="vjp"}')
        for kind, seed in (("vjp", u), ("update", 2 * u)):
            job = remote.start(kind, seed)
            next(info for info in job.events() if info["state"] != "queued")
            ends = job.cancel()
            with pytest.raises(ServiceError, match="cancelled"):
                job.result()
            assert ends in ("between two supersteps", "at once") and job.info()["state"] == "cancelled"
        assert metric(client, 'distdiff_right_hand_sides_total{kind="vjp"}') == solved  # neither was carried through
        alike(remote.vjp(u), right)  # at the point where it was
        moved = remote.start("update", -u)  # 2 u would go to the same fixed point
        alike(moved.result(), remote.value)
        assert remote.point == 2 and not np.array_equal(remote.value, value)
        assert moved.cancel() == "it had ended before" and moved.info()["state"] == "done"
        assert job.cancel() == "it had ended before" and job.info()["state"] == "cancelled"


@ALONE
def test_others_are_served_between_the_batches_of_a_long_job(client, monkeypatch):
    """And who deletes its system, which waits for it, is told so."""
    monkeypatch.setattr("distdiff.service.remote.SOON", 0.0)
    with client.linearize(wide, np.linspace(0, 1, 4000), 60) as long, client.linearize(energy, X) as short:
        job = long.start("jacobian")
        for _ in range(3):
            short.vjp(1.0)
            long.vjp(np.ones(4000))
        assert job.info()["state"] == "running"
        threading.Timer(0.2, job.cancel).start()
        with pytest.warns(ServiceWarning, match=f"waits for .*: jacobian '{job.id}' .* of 4000 right.*cancel"):
            long.close()
        assert job.info()["state"] == "cancelled" and long.id not in {found["id"] for found in client.systems()}


@ALONE
def test_who_goes_away_is_cancelled(server, client):
    with client.linearize(wide, np.linspace(0, 1, 3000), 60) as remote, server.connect(timeout=1.5) as impatient:
        others = [remote.start("jacobian") for _ in range(6)]  # so that a seventh takes long
        with pytest.raises(ServiceError, match="has not answered for 1.5 s"):
            impatient.attach(remote.id).matrix("jacobian")
        known = {job.id for job in others}
        wait_for(lambda: not {info["id"] for info in client._json("GET", "/v1/jobs") if not info["ended"]} - known)
        assert any(job.info()["state"] == "running" for job in others)
        for job in others:
            job.cancel()
        remote.vjp(np.ones(3000))


@ALONE
def test_what_comes_together_is_solved_together(client):
    n = 40
    with client.linearize(wide, np.linspace(0, 1, 500)) as remote, client.linearize(
            wide, np.linspace(0, 1, 4000), 100) as slow:
        seeds = np.random.default_rng(0).standard_normal((n, 500))
        remote.vjp(seeds[0])
        before = metric(client, 'distdiff_solves_total{kind="vjp"}'), metric(
            client, 'distdiff_right_hand_sides_total{kind="vjp"}')
        blocker = slow.start("jacobian")
        answers = [None] * n
        barrier = threading.Barrier(n)

        def ask(k):
            barrier.wait()
            answers[k] = remote.vjp(seeds[k])

        threads = [threading.Thread(target=ask, args=(k,)) for k in range(n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        blocker.cancel()
        for k in range(n):
            np.testing.assert_allclose(answers[k], remote.vjp(seeds[k]), rtol=1e-11, atol=1e-13)
        solves = metric(client, 'distdiff_solves_total{kind="vjp"}') - before[0] - n
        columns = metric(client, 'distdiff_right_hand_sides_total{kind="vjp"}') - before[1] - n
        assert columns == n and solves < n / 2, (solves, columns)

