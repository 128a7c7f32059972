"""Functions with rules of their own: custom_jvp, custom_vjp, elemental; against the same functions in plain NumPy."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.errors import InputError, PrecisionWarning, UnsupportedOperationError
from distdiff.tape import Joint
from distdiff.testing import dot_product_test, taylor_test
from distdiff.tracing import trace

pytestmark = pytest.mark.few_ranks

ALONE = MPI.COMM_SELF
SPREAD = {"partition": "axes", "min_block": 1}


def sines(x):
    """A call into code that nobody can trace."""
    assert type(x) in (np.ndarray, np.float64, float)
    return np.array([math.sin(t) for t in np.ravel(x)]).reshape(np.shape(x))


# -- two results, one a number, of an array and a number


@dd.custom_jvp
def wave(x, a):
    return sines(x) * a, float(np.sum(x)) * a


@wave.defjvp
def wave_jvp(primals, tangents):
    (x, a), (xdot, adot) = primals, tangents
    return wave(x, a), (np.cos(x) * a * xdot + np.sin(x) * adot, np.sum(xdot) * a + np.sum(x) * adot)


def wave_plain(x, a):
    return np.sin(x) * a, np.sum(x) * a


# -- nested arguments, one that is no array, a whole number, and a pytree as result


class Pair(NamedTuple):
    x: object
    y: object


def _scaled(how, pair, n):
    assert how in ("plus", "times") and isinstance(n, int)
    x, y = np.asarray(pair.x), np.asarray(pair["y"] if isinstance(pair, dict) else pair.y)
    return {"z": (sines(x) + y) ** n if how == "plus" else (sines(x) * y) ** n, "rest": [x * y, 2.0 * x[0]]}


scaled = dd.custom_vjp(_scaled, nondiff_argnums=(0,))


def scaled_forward(how, pair, n):
    return scaled(how, pair, n), (pair, n)


def scaled_backward(how, residuals, zbar):
    (x, y), n = residuals
    inner = np.sin(x) + y if how == "plus" else np.sin(x) * y
    t = zbar["z"] * n * inner ** (n - 1)
    first = np.concatenate([np.reshape(2.0 * zbar["rest"][1], 1), np.zeros(len(x) - 1)])
    xbar = t * np.cos(x) * (1.0 if how == "plus" else y) + zbar["rest"][0] * y + first
    return Pair(xbar, t * (1.0 if how == "plus" else np.sin(x)) + zbar["rest"][0] * x), None


scaled.defvjp(scaled_forward, scaled_backward)


def scaled_plain(how, pair, n):
    x, y = pair
    return {"z": (np.sin(x) + y) ** n if how == "plus" else (np.sin(x) * y) ** n, "rest": [x * y, 2.0 * x[0]]}


# -- operations given by their partials


def _power(x, n):
    pairs = np.broadcast(x, n)
    return np.array([math.pow(*pair) for pair in pairs]).reshape(pairs.shape)


_mixed = lambda y, x, n: y / x * (1.0 + n * np.log(x))  # noqa: E731
power = dd.elemental(_power, partials=[lambda y, x, n: n * y / x, lambda y, x, n: y * np.log(x)],
                     second=[[lambda y, x, n: n * (n - 1.0) * y / x**2, _mixed],
                             [_mixed, lambda y, x, n: y * np.log(x) ** 2]], name="power")


@dd.elemental(partials=[lambda y, a, x: np.broadcast_to(np.eye(len(y.T))[:, :, None] * x[..., None, None, :],
                                                        (*y.shape, *a.shape[-2:])),
                        lambda y, a, x: a], signature="(m,n),(n)->(m)",
              second=[[None, lambda y, a, x: _identity(y, x, "ij,kl->ijkl")],
                      [lambda y, a, x: _identity(y, x, "ik,jl->ijkl"), None]])
def product(a, x):
    return np.matmul(a, x[..., None])[..., 0]


def _identity(y, x, how):
    return np.einsum(how, np.eye(y.shape[-1]), np.eye(x.shape[-1]))


# -- programs, with and without rules


def program_wave(wave):
    def f(z):
        for k in range(3):
            a, b = wave(z * 1.1, z[k])
            z = 0.5 * a + 0.1 * b * z[::-1] + 0.3
        return z
    return f


def program_scaled(scaled):
    def f(z):
        for how in ("plus", "times", "plus"):
            found = scaled(how, Pair(z[:4] * 0.5, z[:0:-1][:4]), 2)
            z = np.concatenate([found["z"], found["rest"][0][:1] + found["rest"][1]]) * 0.3 + 0.5
        return z
    return f


def program_power(power):
    def f(z):
        z = power(z, 1.0 + np.roll(z, 1)) + power(z[0], 2.0)
        return power(z[:, None], z[:2]).ravel()
    return f


def program_product(product):
    def f(z):
        a = z[:, None, None] * np.array([[1.0, 2.0, 0.5], [0.1, 1.0, 3.0]]) + np.sin(z[::-1])[:, None, None]
        return product(a, np.stack([z, z * z, np.cos(z)], axis=-1)).T
    return f


PROGRAMS = {
    "custom_jvp": (program_wave(wave), program_wave(wave_plain)),
    "custom_vjp": (program_scaled(scaled), program_scaled(scaled_plain)),
    "elementwise": (program_power(power), program_power(lambda x, n: np.power(x, n))),
    "vector": (program_product(product), program_product(lambda a, x: np.sum(a * x[..., None, :], axis=-1))),
}
Z = np.array([0.7, 1.3, 0.9, 1.1, 0.6])
programs = pytest.mark.parametrize("name", PROGRAMS)


def close(a, b, tolerance=1e-12):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(np.abs(b).max(), 1e-300))


@pytest.mark.mpi
@pytest.mark.timeout(100)
@programs
def test_first_order(name, comm):
    f, plain = PROGRAMS[name]
    expected = dd.jacobian(plain, comm=ALONE)
    np.testing.assert_allclose(f(Z), plain(Z), rtol=1e-13)
    for method in ("sweep", "substitution"):
        with dd.linearize(f, Z, method=method, **SPREAD) as lin:
            for z in (Z, Z[::-1] * 1.1):
                close(lin.update(z), plain(z))
                close(lin.jacobian(), expected(z))
                close(lin.vjp(np.ones(np.shape(lin.value))), expected(z).reshape(-1, 5).sum(axis=0))
                close(lin.jvp(np.arange(5.0)), expected(z) @ np.arange(5.0))
    assert comm.size > 1 or taylor_test(f, Z).passed and dot_product_test(f, Z).passed


@pytest.mark.mpi
@pytest.mark.timeout(100)
@programs
def test_second_order(name, comm):
    weights = np.arange(1.0, 1.0 + np.size(PROGRAMS[name][1](Z)))
    f, plain = ((lambda z, g=g: np.sum(weights * np.ravel(g(z)) ** 2)) for g in PROGRAMS[name])
    v = np.array([0.3, -1.0, 0.5, 2.0, 0.1])
    h = dd.hessian(plain, comm=ALONE)(Z)
    close(dd.hessian(f, **SPREAD)(Z), h, 1e-11)
    close(dd.hvp(f, (Z,), (v,), **SPREAD), h @ v, 1e-11)
    close(dd.grad(lambda z: dd.jvp(f, (z,), (v,))[1], **SPREAD)(Z), h @ v, 1e-11)


def test_third_order_of_rules_that_can_be_traced():
    v = np.array([0.3, -1.0, 0.5, 2.0, 0.1])
    for name in ("custom_jvp", "custom_vjp"):
        f, plain = ((lambda z, g=g: np.sum(g(z) ** 2)) for g in PROGRAMS[name])
        third = [dd.grad(lambda z, g=g: np.dot(v, dd.hvp(g, (z,), (v,))), comm=ALONE)(Z) for g in (f, plain)]
        close(*third, 1e-10)


@programs
def test_calls_are_joint_statements_that_compare_equal(name):
    f = PROGRAMS[name][0]
    items = [item for item in trace(f, (Z,)).tape.items if type(item) is Joint]
    assert items and all(item.op != 1 for item in items)
    if name == "custom_jvp":
        assert len({item.op for item in items}) == 1 < len(items)
    if name == "custom_vjp":
        assert len({item.op for item in items}) == 2 < len(items)


def test_outside_of_a_trace_they_are_the_functions():
    assert wave.__name__ == "wave" and wave(np.ones(2), 2.0)[1] == 4.0 and power.__name__ == "power"
    assert scaled("plus", Pair(np.ones(2), np.zeros(2)), n=1)["rest"][1] == 2.0
    with pytest.raises(TypeError):
        power(1.0)


def test_constants_of_every_kind():
    """Arguments that are not traced, by keyword and by default, and a call in a trace without any that is."""
    @dd.custom_vjp
    def f(x, c, n=3, *, scale=1.0):
        return x * c * n

    with pytest.raises(TypeError, match="by position"):
        dd.grad(lambda x: np.sum(f(x, 1.0, scale=2.0)), comm=ALONE)(np.ones(2))

    @dd.custom_vjp
    def g(x, c, n=3):
        assert type(n) is int or type(n) is np.int64
        return x * c * n

    g.defvjp(lambda x, c, n: (g(x, c, n), (c, n)), lambda r, w: (w * r[0] * r[1], None, None))

    def program(x):
        assert type(g(2.0, 3.0)) is float
        return np.sum(g(x, c=np.array([1.0, 2.0])) + g(1.0, x, 1))

    grad = dd.grad(program, comm=ALONE, method="sweep")
    np.testing.assert_array_equal(grad(np.ones(2)), [3.0, 6.0])  # the rule says: not by c


def test_rules_may_write_into_what_they_are_given():
    @dd.custom_jvp
    def f(x):
        return 2.0 * x

    @f.defjvp
    def push(primals, tangents):
        (x,), (t,) = primals, tangents
        x *= 2.0
        return x, 2.0 * t

    def slope(y, x):
        x *= 2.0
        return x

    g = dd.elemental(lambda x: x * x, partials=[slope])
    x = np.array([1.0, 2.0, 3.0])
    with dd.linearize(lambda x: g(f(x)) * x + x * x, x, comm=ALONE) as lin:
        for at in (x, x + 1.0):
            np.testing.assert_array_equal(lin.update(at), 4.0 * at**3 + at**2)
            for _ in range(2):
                np.testing.assert_array_equal(lin.vjp(np.ones(3)), 12.0 * at**2 + 2.0 * at)
    np.testing.assert_array_equal(x, [1.0, 2.0, 3.0])


def tangent_of(f):
    rule = dd.custom_jvp(f)
    rule.defjvp(lambda primals, tangents: (f(*primals), 2.0 * tangents[0]))
    return rule


def cotangent_of(f):
    rule = dd.custom_vjp(f)
    rule.defvjp(lambda *x: (f(*x), None), lambda _, w: (2.0 * w,))
    return rule


def partial_of(f):
    return dd.elemental(f, partials=[lambda y, x: np.full_like(x, 2.0)])


KINDS = pytest.mark.parametrize("kind", [tangent_of, cotangent_of, partial_of])


@KINDS
def test_functions_that_write_into_their_arguments_are_refused(kind):
    """The caller would see it, and the trace calls them with copies."""
    def f(x):
        x *= 2.0
        return x + 1.0

    with pytest.raises(UnsupportedOperationError, match=r"writes into an array.*copy"):
        dd.grad(lambda x: np.sum(kind(f)(x) * x), comm=ALONE)(np.ones(3))


def test_functions_that_write_into_constants_are_refused():
    def f(x, work):
        work[:] = x
        return 2.0 * x

    rule = dd.custom_jvp(f, nondiff_argnums=(1,))
    rule.defjvp(lambda work, primals, tangents: (f(primals[0], work), 2.0 * tangents[0]))
    with pytest.raises(UnsupportedOperationError, match=r"writes into an array"):
        dd.grad(lambda x: np.sum(rule(x, np.zeros(3))), comm=ALONE)(np.ones(3))


@KINDS
@pytest.mark.parametrize("write", ["result", "argument", "a view of it"])
def test_writes_into_what_shares_memory_are_refused(kind, write):
    rule = kind(lambda x: x)

    def f(x):
        y = 1.0 * x
        z = rule(y)
        if write == "result":
            z[0] = 7.0
        elif write == "argument":
            y += 1.0
        else:
            y[1:][0] = 5.0
        return np.sum(y * z)

    with pytest.raises(UnsupportedOperationError, match="a write into an array that <lambda> was given or returned"):
        dd.grad(f, comm=ALONE)(np.ones(3))
    np.testing.assert_array_equal(dd.grad(lambda x: np.sum(rule(1.0 * x) * x), comm=ALONE)(np.ones(3)), [3.0] * 3)


def test_writes_into_what_is_an_argument_turned_are_refused():
    f = tangent_of(lambda a: a.T)
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0].T))

    def program(x):
        b = f(np.outer(x, x))
        b[0, 1] = 7.0
        return np.sum(b)

    with pytest.raises(UnsupportedOperationError, match="was given or returned"):
        dd.grad(program, comm=ALONE)(np.ones(3))


def test_writes_into_results_that_share_memory_are_refused():
    @dd.custom_jvp
    def f(x):
        y = 2.0 * x
        return y, y[1:], x[:1] + 0.0

    f.defjvp(lambda primals, tangents: (f(*primals), (2.0 * tangents[0], 2.0 * tangents[0][1:], tangents[0][:1])))

    def program(x, k):
        results = f(x)
        results[k][0] = 7.0
        return sum(map(np.sum, results))

    for k in (0, 1):
        with pytest.raises(UnsupportedOperationError, match="was given or returned"):
            dd.grad(program, comm=ALONE)(np.ones(3), k)
    np.testing.assert_array_equal(dd.grad(program, comm=ALONE)(np.ones(3), 2), [2.0, 4.0, 4.0])


@KINDS
def test_results_of_whole_numbers_and_truths_decide(kind):
    """They stay what they are: they index, NumPy cuts what is written into them, and another one retraces."""
    floors = kind(lambda x: np.floor(x).astype(int))
    above = kind(lambda x: x > 2.0)

    def program(x):
        n, high = floors(x), above(x)
        n[0] = 1.7
        return np.sum(x[n % 3] * (high + high)) + np.sum(x[high] ** 2) + n[1] ** 2 * x[0]

    with dd.recorded(program, comm=ALONE) as F:
        for x in ([1.5, 2.5, 3.5], [1.6, 2.6, 3.6], [1.6, 0.6, 3.6], [2.5, 1.5, 0.5]):
            x = np.array(x)
            assert F(x) == program(x)
            step = np.eye(3) * 1e-3
            slopes = [(program(x + h) - program(x - h)) / 2e-3 for h in step]
            np.testing.assert_allclose(F.grad(x), slopes, rtol=1e-9, atol=1e-9)
        assert F.counts.traces == 3


def test_numbers_that_are_whole_or_true_decide():
    @dd.custom_jvp
    def f(x):
        return int(x), x > 1.0, np.int64(x), x

    f.defjvp(lambda primals, tangents: (f(*primals), (0.0, 0.0, 0.0, tangents[0])))

    def program(x):
        n, high, m, y = f(x)
        assert type(n) is int and type(high) in (bool, np.bool_) and type(m) is np.int64
        return sum([y] * n) * m if high else -y

    with dd.recorded(program, comm=ALONE) as F:
        for x in (2.5, 2.6, 3.5, 0.5, 2.7):
            assert F(x) == program(x)
            assert F.grad(x) == (int(x) ** 2 if x > 1.0 else -1.0)


def test_floats_of_other_sizes_are_told():
    f = tangent_of(lambda x: np.float32(2.0) * x.astype(np.float32))
    with pytest.warns(PrecisionWarning, match="float32"):
        dd.grad(lambda x: np.sum(f(x)), comm=ALONE)(np.ones(3))


@pytest.mark.parametrize("value", [np.sum, lambda x: 2.0, lambda x: x[:1], lambda x: x[None]],
                         ids=["sum", "constant", "slice", "axis"])
def test_elementals_have_the_shape_of_their_operands(value):
    """A smaller one would be another number of things to the program."""
    f = dd.elemental(value, partials=[lambda y, x: np.ones_like(x)])
    with pytest.raises(InputError, match=r"where real numbers of shape \(3,\) are wanted"):
        dd.grad(lambda x: np.sum(f(x)), comm=ALONE)(np.ones(3))


def test_a_result_that_is_empty_here_may_not_be_elsewhere():
    f = tangent_of(lambda x: x[x > 0.0])
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0][primals[0] > 0.0]))
    with dd.recorded(lambda x: np.sum(f(x) ** 2), comm=ALONE) as F:
        for x in ([-1.0, -2.0], [-1.0, 3.0], [1.0, 3.0], [-2.0, -1.0], [2.0, -1.0]):
            assert F(np.array(x)) == np.sum(np.maximum(x, 0.0) ** 2)
            np.testing.assert_array_equal(F.grad(np.array(x)), 2.0 * np.maximum(x, 0.0))


def test_operands_of_an_elemental_keep_their_kinds(tmp_path):
    """Whole numbers index, and truths are negated, wherever the function and its partials are called."""
    table = np.array([1.0, 2.0, 3.0])

    def value(x, i, m):
        return table[i] * x**2 * ~m

    f = dd.elemental(value, partials=[lambda y, x, i, m: 2.0 * table[i] * x * ~m, None, None],
                     second=[[lambda y, x, i, m: 2.0 * table[i] * ~m, None, None], None, None], name="f")
    i, m = np.array([2, 0, 1]), np.array([False, True, False])

    def program(x):
        return np.sum(f(x, i, m) * x) + f(x[0], 2, False) + np.sum(f(x, np.uint8(1), x > 1.5))

    def formula(x):
        return np.sum(table[i] * x**3 * ~m) + 3.0 * x[0] ** 2 + np.sum(2.0 * x**2 * ~(x > 1.5))

    x = np.array([1.0, 2.0, 3.0])
    dd.trace(program, x, comm=ALONE).save(tmp_path / "f.tape")
    for g in (program, dd.load(tmp_path / "f.tape", rules=f, comm=ALONE)):
        with dd.linearize(g, x, comm=ALONE) as lin:
            for at in (x, x + 0.25):
                np.testing.assert_allclose(lin.update(at), formula(at))
                np.testing.assert_allclose(lin.vjp(1.0), dd.grad(formula, comm=ALONE)(at))
                np.testing.assert_allclose(lin.hessian(), dd.hessian(formula, comm=ALONE)(at))


def test_arguments_and_results_keep_their_order_in_memory():
    """What depends on it, as `ravel("K")` does, is the same where a rule or a replay asks for it."""
    f = tangent_of(lambda a: np.asfortranarray(a.ravel("K").reshape(a.shape)))
    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0].ravel("K").reshape(primals[0].shape)))

    def program(x):
        return f(np.outer(x[:2], x).T).ravel("K") @ np.arange(6.0)

    def formula(x):
        return np.outer(x[:2], x).reshape(3, 2).ravel("F") @ np.arange(6.0)

    x = np.array([1.0, 2.0, 3.0])
    with dd.recorded(program, comm=ALONE) as F:
        for at in (x, x + 0.5):
            np.testing.assert_allclose(F(at), program(at))
            np.testing.assert_allclose(F(at), formula(at))
            np.testing.assert_allclose(F.grad(at), dd.grad(formula, comm=ALONE)(at))
            np.testing.assert_allclose(F.hessian(at), dd.hessian(formula, comm=ALONE)(at))
        assert F.counts.traces == 1


def test_a_backward_rule_without_a_return_is_told():
    f = dd.custom_vjp(lambda x: 2.0 * x)
    f.defvjp(lambda x: (2.0 * x, None), lambda _, w: None)
    with pytest.raises(InputError, match="returned None.*is a return missing"):
        dd.grad(lambda x: np.sum(f(x)), comm=ALONE)(np.ones(3))


@pytest.mark.parametrize("given", [
    {"partials": [3]}, {"partials": [np.cos], "second": np.sin}, {"partials": [np.cos], "second": [np.sin]},
    {"partials": [np.cos], "second": [[3]]}, {"partials": [np.cos], "signature": 7}], ids=str)
def test_what_is_no_partial_is_told_at_once(given):
    with pytest.raises(InputError, match="partial|signature"):
        dd.elemental(np.sin, **given)
    with pytest.raises(InputError, match="value"):
        dd.elemental(3, partials=[np.cos])


@pytest.mark.parametrize("kind", ["jvp", "vjp", "elemental"])
@pytest.mark.parametrize("how", ["another rule", "what it reads"])
def test_recorded_functions_notice_other_rules(kind, how):
    slope = [2.0]
    if kind == "jvp":
        f = dd.custom_jvp(lambda x: 2.0 * x)
        f.defjvp(lambda primals, tangents: (f(*primals), slope[0] * tangents[0]))
    elif kind == "vjp":
        f = dd.custom_vjp(lambda x: 2.0 * x)
        f.defvjp(lambda x: (2.0 * x, None), lambda _, w: (slope[0] * w,))
    else:
        f = dd.elemental(lambda x: 2.0 * x, partials=[lambda y, x: slope[0] + 0.0 * x])
    with dd.recorded(lambda x: f(x) * x, comm=ALONE) as F:
        assert F.grad(3.0) == 12.0
        if how == "what it reads":
            slope[0] = 5.0
        elif kind == "jvp":
            f.defjvp(lambda primals, tangents: (f(*primals), 5.0 * tangents[0]))
        elif kind == "vjp":
            f.defvjp(lambda x: (2.0 * x, None), lambda _, w: (5.0 * w,))
        else:
            f.partials = (lambda y, x: 5.0 + 0.0 * x,)
        assert F.grad(3.0) == 21.0
        assert F.grad(2.0) == 14.0
        assert F.counts.traces == 2


def test_constants_are_taken_as_they_are_at_the_call():
    """An array at nondiff_argnums that is written to between calls makes two operations."""
    @dd.custom_vjp
    def f(c, x):
        return c * x

    f.nondiff_argnums = (0,)
    f.defvjp(lambda c, x: (c * x, None), lambda c, r, w: (c * w,))

    def program(x):
        c = np.array([1.0, 2.0])
        y = f(c, x)
        c[0] = 5.0
        return f(c, y)

    tape = trace(program, (np.ones(2),)).tape
    first, second = (item.op for item in tape.items if type(item) is Joint)
    assert first != second and first == next(item.op for item in trace(program, (np.ones(2),)).tape.items[:1])
    np.testing.assert_array_equal(dd.grad(lambda x: np.sum(program(x)), comm=ALONE)(np.ones(2)), [5.0, 4.0])
    with pytest.raises(UnsupportedOperationError, match="complex"):
        trace(lambda x: f(1j, x), (np.ones(2),))


def test_a_rule_is_what_counts():
    """Straight-through: the derivative is the rule's, whatever the function does."""
    @dd.custom_jvp
    def rounded(x):
        return np.rint(x)

    rounded.defjvp(lambda primals, tangents: (np.rint(primals[0]), tangents[0]))
    gradient = dd.grad(lambda x: np.sum(rounded(x) * x), comm=ALONE)(np.array([1.4, 2.7]))
    np.testing.assert_array_equal(gradient, [2.4, 5.7])


def test_rules_that_do_not_fit_are_refused():
    @dd.custom_jvp
    def f(x):
        return x * x

    x = np.ones(3)
    grad = dd.grad(lambda x: np.sum(f(x)), comm=ALONE, method="sweep")  # which transposes the rule
    with pytest.raises(InputError, match="f.defjvp"):
        grad(x)
    f.defjvp(lambda p, t: t[0])
    with pytest.raises(InputError, match=r"must return \(result, tangent"):
        dd.jvp(f, (x,), (x,), comm=ALONE)
    f.defjvp(lambda p, t: (np.sin(p[0]), np.abs(t[0])))
    for derivative in (dd.jacobian(f, comm=ALONE), grad):
        with pytest.raises(InputError, match="jvp rule of f is not linear in the tangents: for -2 t"):
            derivative(x)
    f.defjvp(lambda p, t: (p[0], (t[0], t[0])))
    with pytest.raises(InputError, match="nested as"):
        dd.jvp(f, (x,), (x,), comm=ALONE)
    f.defjvp(lambda p, t: (p[0], sines(2.0 * p[0] * t[0])))
    with pytest.raises((AssertionError, UnsupportedOperationError)):
        grad(x)

    @dd.custom_vjp
    def g(x, y):
        return x * y

    with pytest.raises(InputError, match="g.defvjp"):
        dd.grad(lambda x: np.sum(g(x, 2.0)), comm=ALONE)(x)
    g.defvjp(lambda x, y: (x * y, y), lambda y, w: (np.clip(w * y, -1.0, 1.0), None))
    for method in ("walk", "sweep", "substitution"):
        with pytest.raises(InputError, match="backward rule of g is not linear in the cotangents: for -2 w"):
            dd.grad(lambda x: np.sum(g(x, 2.0)), comm=ALONE, method=method)(x)
    for backward, message in ((lambda r, w: w, "1 cotangents for 2"), (lambda r, w: (w[:2], None), "shape"),
                              (lambda r, w: ((w, w), None), "nested as")):
        g.defvjp(lambda x, y: (x * y, None), backward)
        with pytest.raises(InputError, match=message):
            dd.grad(lambda x: np.sum(g(x, x)), comm=ALONE)(x)
    with pytest.raises(UnsupportedOperationError, match="nondiff_argnums"):
        dd.grad(lambda x: np.sum(scaled(x, Pair(x, x), 2)["z"]), comm=ALONE)(x)


@pytest.mark.parametrize("method", ["walk", "sweep", "substitution"])
def test_rules_that_write_into_what_they_are_given(method):
    """Primals, tangents and cotangents are the rule's own; residuals serve all cotangents at a point."""
    x = np.array([0.5, -1.2, 2.0])

    def writes(given, factor):
        given *= factor
        return given

    f, g = dd.custom_jvp(lambda x: np.sin(x)), dd.custom_vjp(lambda x: np.sin(x))
    f.defjvp(lambda p, t: (np.sin(p[0]), writes(t[0], writes(np.cos(p[0]), 1.0)) + 0.0 * writes(p[0], 3.0)))
    g.defvjp(lambda x: (np.sin(writes(x, 1.0)), np.cos(x)), lambda c, w: (writes(w, c),))
    for function in (f, g):
        def loss(x, function=function):
            y = function(x)
            return np.sum(y * y + x * y)

        for _ in range(2):
            gradient = dd.grad(loss, comm=ALONE, method=method)(x)
            np.testing.assert_allclose(gradient, np.sin(2 * x) + np.sin(x) + x * np.cos(x), rtol=1e-13)
    g.defvjp(lambda x: (np.sin(x), np.cos(x)), lambda c, w: (writes(c, w),))
    with pytest.raises((InputError, UnsupportedOperationError), match="<lambda> (writes into its residuals|is wanted)"):
        dd.grad(lambda x: np.sum(g(x)), comm=ALONE, method=method)(x)  # (which may record it, to transpose it)


def test_partials_that_are_not_given():
    once = dd.elemental(np.tanh, partials=[lambda y, x: 1.0 - y * y])
    x = np.array([0.3, 0.8])
    np.testing.assert_allclose(dd.grad(lambda x: np.sum(once(x)), comm=ALONE)(x), 1.0 - np.tanh(x) ** 2)
    with pytest.raises(UnsupportedOperationError, match="order 2 of tanh"):
        dd.hessian(lambda x: np.sum(once(x)), comm=ALONE)(x)
    flat = dd.elemental(lambda x, c: x * c, partials=[lambda y, x, c: c + 0.0 * x, None], second=[None, None])
    np.testing.assert_array_equal(dd.hessian(lambda x: np.sum(flat(x, x)), comm=ALONE)(x), np.zeros((2, 2)))
    with pytest.raises(UnsupportedOperationError, match="order 3 of power"):
        dd.jacobian(dd.hessian(lambda z: np.sum(power(z, z))), comm=ALONE)(x)
    for bad in ("(n)", "(n)->(m)", "n->n", "(n),(n)->()"):
        with pytest.raises(InputError, match="signature"):
            dd.elemental(np.sum, partials=[None], signature=bad)
    with pytest.raises(InputError, match="second partials"):
        dd.elemental(np.sum, partials=[None], second=[])
    with pytest.raises(InputError, match="partials of sum are a ufunc"):
        dd.elemental(np.sum, partials=np.cos)
    with pytest.raises(ValueError, match="product: operand 1"):
        trace(lambda x: product(np.ones((2, 3)), x), (np.ones(2),))


@pytest.mark.parametrize("signature, partial, second, said", [
    (None, lambda y, x: np.ones(2), None, r"is a ndarray of shape \(2,\) .* of shape \(3,\)"),
    (None, lambda y, x: np.ones((1, 3)), None, r"\(1, 3\)"),
    (None, lambda y, x: None, None, "NoneType"),
    (None, lambda y, x: 1j * x, None, "complex128"),
    (None, lambda y, x: "x", None, "is a str"),
    ("(n)->()", lambda y, x: 1.0 + np.zeros(2), None, r"\(2,\) .* of shape \(3,\)"),
    ("(n)->(n)", lambda y, x: np.ones((3, 2)), None, r"\(3, 2\) .* of shape \(3, 3\)"),
    (None, lambda y, x: 2.0 * x, lambda y, x: np.ones(4), r"\(0, 0\) of .* shape \(4,\)"),
])
def test_partials_of_another_shape(signature, partial, second, said):
    value = (lambda x: x * x) if signature != "(n)->()" else (lambda x: np.sum(x * x, -1))
    f = dd.elemental(value, partials=[partial], second=None if second is None else [[second]], signature=signature)
    derivative = dd.grad if second is None else dd.hessian
    with pytest.raises(InputError, match=rf"partial derivative .*{said}[\s\S]*broadcasts to it"):
        derivative(lambda x: np.sum(f(x)), comm=ALONE)(np.ones(3))


# -- on ranks


@dd.elemental(partials=[lambda y, x: np.cos(x)])
def where_it_runs(x):
    RAN.append(MPI.COMM_WORLD.rank)
    return np.sin(x)


RAN: list[int] = []


class Unloadable(NamedTuple):
    """Loads on rank 0 only, as what is defined there alone."""

    def __reduce__(self):
        return _load, ()


def _load():
    if MPI.COMM_WORLD.rank:
        raise ImportError("not here")
    return Unloadable()


@pytest.mark.mpi
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["by name", "closure", "unloadable"])
def test_functions_run_where_their_arguments_are_or_at_home(kind, comm):
    """What another rank can't have stays on rank 0; the values are the same."""
    RAN.clear()
    if kind == "by name":
        function = where_it_runs
    else:
        def local(x, unloadable=Unloadable()):  # noqa: B008
            return where_it_runs.value(x)

        partial = (lambda y, x: np.cos(x)) if kind == "closure" else Unloadable()
        function = dd.elemental(local if kind == "closure" else where_it_runs.value,
                                partials=[partial if kind == "closure" else where_it_runs.partials[0]])
        if kind == "unloadable":
            function.unloadable = Unloadable()

    def f(x):
        y = np.roll(x, 1) * x
        return function(y) + function(0.5 * np.roll(y, -1))

    x = np.linspace(0.1, 2.0, 4 * comm.size + 1)
    expected = dd.jacobian(lambda x: np.sin(np.roll(x, 1) * x) + np.sin(0.5 * x * np.roll(x, -1)), comm=ALONE)(x)
    with dd.linearize(f, x, comm=comm, **SPREAD) as lin:
        close(lin.jacobian(), expected)
        RAN.clear()
        lin.update(x * 1.1)
        lin.update(x)
        close(lin.vjp(np.ones(len(x))), expected.sum(axis=0))
        assert bool(RAN) == (kind == "by name" or comm.rank == 0)


@pytest.mark.mpi
@pytest.mark.parametrize("partition", ["levels", "contiguous", "streaming"])
def test_rules_in_long_scalar_code_on_several_ranks(partition):
    f = dd.elemental(np.sin, partials=[lambda y, x: np.cos(x)], name="sine")

    def orbit(x, sine):
        y = x[0]
        for k in range(300):
            y = 0.9 * sine(y) + 0.1 * x[k % 3]
        return y

    x = np.array([0.7, 1.3, 0.4])
    with dd.linearize(lambda x: orbit(x, f), x, partition=partition) as lin:
        np.testing.assert_allclose(lin.vjp(1.0), dd.grad(lambda x: orbit(x, np.sin))(x), rtol=1e-12)
        np.testing.assert_allclose(lin.update(1.1 * x), orbit(1.1 * x, np.sin), rtol=1e-12)
