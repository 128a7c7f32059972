"""The functional face: shapes, nesting, argnums, aux, scalars, several outputs."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import InputError

pytestmark = [pytest.mark.mpi, pytest.mark.few_ranks]  # how arguments and results nest, which all ranks are told


def test_grad_of_a_square():
    np.testing.assert_allclose(dd.grad(lambda x: np.sum(x * x))(np.arange(4.0)), 2 * np.arange(4.0))


def test_value_and_grad_of_a_float():
    value, gradient = dd.value_and_grad(lambda x: x * np.sin(x))(2.0)
    assert isinstance(value, float) and np.shape(gradient) == ()
    np.testing.assert_allclose([value, gradient], [2 * np.sin(2), np.sin(2) + 2 * np.cos(2)], rtol=1e-14)


def test_argnums_and_constants():
    def f(a, b, c):
        return np.sum(a * b) * c

    a, b = np.arange(3.0), np.arange(3.0) + 1
    gb = dd.grad(f, argnums=1)(a, b, 2.0)
    np.testing.assert_allclose(gb, 2 * a)
    ga, gc = dd.grad(f, argnums=(0, 2))(a, b, 2.0)
    np.testing.assert_allclose(ga, 2 * b)
    np.testing.assert_allclose(gc, np.sum(a * b))
    np.testing.assert_allclose(dd.grad(lambda x, *, k: k * np.sum(x))(a, k=3.0), 3 * np.ones(3))


def test_nested_arguments_and_results():
    parameters = {"w": np.arange(6.0).reshape(2, 3), "b": (np.ones(2), 0.5)}

    def f(p):
        y = p["w"] @ np.array([1.0, 2.0, 3.0]) + p["b"][0] * p["b"][1]
        return {"y": y, "loss": np.sum(y**2)}

    value, pullback = dd.vjp(f, parameters)
    assert set(value) == {"y", "loss"}
    (g,) = pullback({"y": np.zeros(2), "loss": 1.0})
    pullback.close()
    y = parameters["w"] @ [1.0, 2.0, 3.0] + 0.5
    np.testing.assert_allclose(g["w"], np.outer(2 * y, [1, 2, 3]))
    np.testing.assert_allclose(g["b"][0], 2 * y * 0.5)
    np.testing.assert_allclose(g["b"][1], np.sum(2 * y))
    jacobian = dd.jacobian(lambda p: f(p)["y"])(parameters)
    assert jacobian["w"].shape == (2, 2, 3) and jacobian["b"][1].shape == (2,)
    np.testing.assert_allclose(jacobian["b"][0], 0.5 * np.eye(2))


def test_jvp_of_several_arguments():
    y, ydot = dd.jvp(lambda a, b: a * b, (np.arange(3.0), 2.0), (np.ones(3), 1.0))
    np.testing.assert_allclose(y, 2 * np.arange(3.0))
    np.testing.assert_allclose(ydot, 2 + np.arange(3.0))


def test_aux_comes_beside():
    def f(x):
        return np.sum(x**2), {"steps": 7}

    gradient, aux = dd.grad(f, has_aux=True)(np.ones(2))
    np.testing.assert_allclose(gradient, [2, 2])
    assert aux == {"steps": 7}  # on every rank


def test_constant_results_have_zero_derivative():
    value, pullback = dd.vjp(lambda x: (x * 2.0, np.arange(3.0), 5.0), np.ones(2))
    np.testing.assert_allclose(value[1], np.arange(3.0))
    assert value[2] == 5.0
    (g,) = pullback((np.ones(2), np.ones(3), 1.0))
    np.testing.assert_allclose(g, [2, 2])
    pullback.close()


def test_identity_and_repeated_outputs():
    jacobian = dd.jacobian(lambda x: (x, x[::-1], x[0]))(np.arange(3.0))
    np.testing.assert_allclose(jacobian[0], np.eye(3))
    np.testing.assert_allclose(jacobian[1], np.eye(3)[::-1])
    np.testing.assert_allclose(jacobian[2], [1, 0, 0])


def test_unused_input_has_zero_gradient():
    g = dd.grad(lambda a, b: np.sum(a), argnums=(0, 1))(np.ones(3), np.ones(4))
    np.testing.assert_allclose(g[1], np.zeros(4))


def test_jacobian_wider_than_a_batch():
    n = 75
    a = np.random.default_rng(0).standard_normal((n, n))
    for method in ("sweep", "substitution"):
        np.testing.assert_allclose(dd.jacobian(lambda x: np.tanh(a @ x), method=method)(np.zeros(n)), a, rtol=1e-12)
    tall = dd.jacobian(lambda x: np.concatenate([x, x**2]))(np.full(n, 3.0))
    np.testing.assert_allclose(tall, np.vstack([np.eye(n), 6 * np.eye(n)]))


@pytest.mark.parametrize("result", [np.ones(2), (1.0, 2.0)])
def test_grad_wants_one_number(result):
    with pytest.raises(InputError, match="one number"):
        dd.grad(lambda x: x if isinstance(result, np.ndarray) else (x[0], x[1]))(np.ones(2))


@pytest.mark.parametrize(("call", "words"), [
    (lambda f, x: dd.hvp(f, (x,), (x,), argnums=0), r"takes no argnums: .*hvp\(lambda x: f\(x, k\), \(x,\), \(v,\)\)"),
    (lambda f, x: dd.jvp(f, (x,), (x,), kwargs={}), "jvp takes no kwargs"),
    (lambda f, x: dd.vjp(f, x, argnums=0), r"vjp takes no argnums: .*vjp\(lambda x: f\(x, k\), x\)"),
    (lambda f, x: dd.grad(f, x)(x), r"positions of arguments \(which go into a second call: grad\(f\)\(x\)\)"),
])
def test_arguments_in_the_wrong_place(call, words):
    with pytest.raises(InputError, match=words):
        call(np.sum, np.ones(3))


def test_seeds_that_do_not_fit():
    with dd.linearize(lambda x: x * 2.0, np.ones(3)) as lin:
        with pytest.raises(InputError, match=r"shape \(2,\)"):
            lin.jvp(np.ones(2))
        with pytest.raises(InputError, match="nested"):
            lin.vjp((np.ones(3), np.ones(3)))
        with pytest.raises(InputError, match="point"):
            lin.update(np.ones((3, 1)))
        np.testing.assert_allclose(lin.jvp(np.ones(3)), 2 * np.ones(3))  # still usable
    with pytest.raises(InputError, match="closed"):
        lin.jvp(np.ones(3))


def test_report_tells_what_was_done():
    with dd.linearize(lambda x: np.sum(np.sin(x) ** 2), np.ones(10), method="substitution") as lin:
        lin.vjp(1.0)
        report = lin.report()
    assert report.inputs == 10 and report.outputs == 1 and report.method == "substitution"
    assert report.lines >= 10 + 10 + 10 + 9 and report.rows is not None and report.rows <= report.nodes
    assert {"trace", "evaluate", "solve"} <= set(report.times)
    text = str(report)
    for word in ("function", "structure", "ranks", "method", "memory"):
        assert word in text
    import json

    json.dumps(report.to_dict())


def test_a_value_that_is_written_into_is_the_callers():
    with dd.linearize(lambda x: {"squares": x * x, "sum": np.sum(x)}, np.arange(3.0)) as lin:
        for value in (lin.value, lin.update(np.arange(3.0))):
            value["squares"][:] = -1.0
            np.testing.assert_array_equal(lin.value["squares"], [0.0, 1.0, 4.0])
            assert lin.value["sum"] == 3.0


def test_a_line_says_what_a_thing_is():
    """On every rank alone: none of them asks the others."""
    def energy(x, k=1.0):
        return k * np.sum(x**2)

    x = np.ones(3)
    lin, recorded, tape = dd.linearize(energy, x, method="sweep"), dd.recorded(energy), dd.trace(energy, x)
    ranks = f" on {lin.comm.size} ranks" if lin.comm.size > 1 else ""
    told = f"<linearization of energy, (3,) to (), {lin.report().lines} lines, sweep{ranks}"
    assert repr(lin) == told + ">"
    lin.close()
    assert repr(lin) == told + ", closed>"
    assert repr(tape) == (f"<tape of x: (3,) to (), {tape.lines} lines>" if lin.comm.rank == 0 else
                          "<tape that rank 0 keeps>")
    assert "recorded" in repr(recorded) and repr(recorded).endswith("energy, not called yet>")
    recorded(x), recorded(2 * x)
    assert repr(recorded).endswith("energy, 1 traces, 1 replays>")
    recorded.close()


def _writes(u, v, state, w=None):
    """Into all that it is given; what is not differentiated takes values that are."""
    v[0] = u[0] * u[1]
    v *= 2.0
    state["h"][1:] += u[1:] * v[1:]
    state["history"][0] -= state["h"]
    w += np.linalg.solve(np.eye(3) + np.outer(v, v), u)
    return np.sum(w * state["h"]) + np.sum(state["history"][0] ** 2)


@pytest.mark.mpi
def test_what_f_writes_into_its_arguments_reaches_none_of_the_users(comm):
    u, v = np.array([0.7, 1.3, -0.4]), np.array([0.3, -0.2, 0.9])

    def given():
        return np.array(v), {"h": np.ones(3), "history": [np.full(3, 0.5), "name"]}

    def plain(u):
        return _writes(u, *given(), w=np.zeros(3))

    constants, w = given(), np.zeros(3)
    h = 1e-5
    expected = np.array([(plain(u + h * e) - plain(u - h * e)) / (2 * h) for e in np.eye(3)])
    keywords = {"comm": comm}
    for _ in range(2):
        value, gradient = dd.value_and_grad(_writes, **keywords)(u, *constants, w=w)
        assert value == pytest.approx(plain(u), rel=1e-13)
        np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-8)
    F = dd.recorded(_writes, **keywords)
    np.testing.assert_allclose(F.grad(u, *constants, w=w), gradient, rtol=1e-12)
    inner = dd.jvp(lambda u: dd.grad(_writes)(u, *constants, w=w), (u,), (v,), **keywords)[1]
    np.testing.assert_allclose(inner, dd.hvp(plain, (u,), (v,), **keywords), rtol=1e-10)
    for array, as_was in zip((constants[0], constants[1]["h"], constants[1]["history"][0], w), (v, 1.0, 0.5, 0.0)):
        np.testing.assert_array_equal(array, np.broadcast_to(as_was, 3))


class _Pair(namedtuple("_Pair", "a b")):
    def __new__(cls, both):
        return super().__new__(cls, *both)


def test_constant_arguments_of_all_shapes_reach_f_as_they_are():
    ring, log, pair = [np.ones(2)], [], _Pair((np.ones(2), "b"))
    ring.append(ring)
    table = OrderedDict(v=np.ones(2))

    def f(u, ring, log, pair, table):
        log.append(1.0)
        ring[0][:] = u
        pair.a[:] = 2.0 * u
        assert type(pair) is _Pair and pair.b == "b" and type(table) is OrderedDict and table["v"][0] == 1.0
        return np.sum(ring[0] * pair.a) * len(log)

    gradient = dd.grad(f, comm=MPI.COMM_SELF)(np.array([1.0, 3.0]), ring, log, pair, table)
    np.testing.assert_allclose(gradient, [4.0, 12.0])
    assert log == [1.0] and ring[1] is ring and ring[0][1] == pair.a[1] == 1.0


def test_a_constant_argument_that_is_read_only_stays_so():
    fixed = np.arange(3.0)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        dd.grad(_writes)(np.ones(3), fixed, {}, w=None)
