"""What is on the tape: its structure, the decisions it is guarded by, arguments and results, the user's lines."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tape_oracle as oracle
from test_trace import V4, M, U, check, nodes

from distdiff.errors import InputError, UnsupportedOperationError
from distdiff.ops import COPY
from distdiff.tape import RUN_LINES, UNREAD, Affine, Const, Indexed, ScalarRun, Statement
from distdiff.tracing import joining, locate, protocol, trace, usual

Pair = collections.namedtuple("Pair", "a b")


# -- structure --------------------------------------------------------------------------------------------------


def test_array_code_has_affine_operands_only():
    def f(u):
        for _ in range(3):
            u = u + 0.1 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1))
            u[1:-1] = u[1:-1] * u[2:] - np.pad(u, 1)[:-2][1:-1]
        return np.stack([u[:4], u[3:]]).T @ np.ones(2)

    t = check(f, U)
    assert all(isinstance(ref, (Affine, Const)) for item in t.tape.items for ref in item.operands)


def test_irregular_storages_settle():
    """Views that are no boxes of a large piecewise array: one COPY, and operands are affine again; aliasing holds."""
    big = np.linspace(0.5, 1.5, 100)

    def f(u):
        m = np.zeros((10, 10))
        m[1:-1, 1:-1] = u.reshape(10, 10)[:8, :8]
        flat = m.reshape(-1)
        a = flat * 2.0
        b = flat[3:50] * flat[:47] + m.T.reshape(-1)[:47]
        m[0] = 3.0
        flat[99] = u[0]
        return a, b, flat * 2.0, m * m

    t = check(f, big, derivative=False)
    assert all(isinstance(ref, (Affine, Const)) for item in t.tape.items for ref in item.operands)

    def g(u):
        v = u.copy()
        v[np.argsort(np.sin(np.arange(100) * 7.0))] = u * 2.0
        return v * v + v[::-1]

    t = check(g, big, derivative=False)
    assert sum(isinstance(ref, Indexed) for item in t.tape.items for ref in item.operands) == 1


def _everyday(u):
    m, k = np.outer(u, u), np.linspace(1.0, 2.0, 9).reshape(3, 3)
    s, w = u[1], u.copy()
    w += u * s - 2.0 / u
    w[1:-1] -= np.sin(w[2:]) * w[:-2]
    w[::2] = u[1::2][::-1]
    v = np.where(w > u, w, 0.5) + np.where(u < 1.0, 0.0, u) - (s - u) ** 2 + np.maximum(w[::-1], 0.1)
    p = m[:3, :3] @ k @ u[:3] + k.T @ m[1:4, 2:5].T @ u[:3] + np.dot(m[0], u) + np.dot(u, w) * (u[:3] @ m[:, 1:4][:3])
    m[1:, 2] *= -w[1:]
    m[0] = np.exp(-m[3]) + np.hypot(s, 0.3) + np.arctan(s) + 2.0 ** s
    q = m[1:-1, 1:-1] * w[1:-1] - u[1:-1, None] / m[:-2, 2:] + np.ones((1, 4)) * w[:4] * (m[2:, 2:] > 0.2) + w[:4] ** 3
    q[q > 2.0] = 0.5
    r = np.where(k[1] > 1.5, w[:3], u[3:, None]) + np.where(m[:3, :3] > w[:3], 1, k) * np.stack([u, w], 1)[1:4, :1]
    t = np.vstack([u, w]).max(0) - np.hstack([u, w]).cumsum()[::2] + np.concatenate([m, m[1:]], 0).sum(0) * u[[0] * 6]
    m = m - np.sum(m, 1, keepdims=True) * np.mean(m, 0) + m.cumsum(0)
    parts = q, r * np.max(r), t[np.arange(6) > 2], u[[3, 1, 1]] * np.take(w, [0, 2, 4]), np.concatenate([w, u])[2:7] * 3
    return *parts, np.sum(m * m), v.sum(), p, np.maximum(s, 0.1), np.abs(-m).sum()


def test_the_usual_way_records_what_the_general_one_does(monkeypatch):
    """Statements, operands, lines and what is kept."""
    u = np.array([0.9137, 1.7214, 0.4353, 1.3079, 0.6181, 1.1231])
    quick = check(_everyday, u)
    for name in ("_carrier", "_factor"):
        monkeypatch.setattr(usual, name, lambda *args: None)
    monkeypatch.setattr(usual, "_inner", lambda *args: NotImplemented)
    monkeypatch.setattr(protocol, "_of_scalars", lambda op, inputs: NotImplemented)
    monkeypatch.setattr(joining, "_alike", lambda arrays: False)
    general = check(_everyday, u)
    assert quick.tape.blocks == general.tape.blocks
    assert [v is UNREAD for v in quick.values] == [v is UNREAD for v in general.values]
    for one, two in zip(quick.tape.items, general.tape.items, strict=True):
        if type(one) is Statement:
            assert (one.op, one.shape, one.out, one.site) == (two.op, two.shape, two.out, two.site)
            for x, y in zip(one.operands, two.operands, strict=True):
                assert type(x) is type(y)
                for a, b in zip(x, y):
                    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("f, statements", [
    (np.mean, 2), (lambda u: np.mean(np.outer(u, u), axis=0), 3), (np.linalg.norm, 2), (np.var, 5), (np.std, 6),
    (lambda u: np.sqrt(np.var(np.outer(u, u), axis=1, ddof=1, keepdims=True)), 7),
    (lambda u: np.linalg.norm(np.outer(u, u), axis=1), 3), (lambda u: np.inner(u, u) + np.append(u, u), 3),
    (lambda u: u**u[::-1] + np.zeros_like(u) * np.ones_like(u), 2)])
def test_reductions_are_few_statements_and_no_scalar_lines(f, statements):
    t = check(f, U)
    assert [type(item) for item in t.tape.items] == [Statement] * statements


def test_variances_with_where_and_of_turned_arrays():
    check(lambda u: np.std(u, where=np.arange(7) > 2) * u + np.var(np.outer(u, u), where=np.eye(7) < 1, ddof=1), U)
    check(lambda u: np.mean(np.outer(u, u * u).T[:, 1:], axis=0) * np.var(np.asfortranarray(np.outer(u, u)), 1)[1:], U)
    check(lambda u: np.mean(np.transpose(np.multiply.outer(np.outer(u, u), u), (2, 0, 1)), axis=1) * u, U)


def test_moving_data_makes_no_statements():
    t = check(lambda u: np.roll(np.concatenate([u[2:], u[:2]]), 2)[::-1].copy(), U)
    assert nodes(t) == 0 and not t.tape.items
    t = check(lambda u: np.roll(u, 2) + 0.0, U)
    assert len(t.tape.items) == 2  # one a piece


def test_gathered_ids_are_compressed():
    t = check(lambda u: u[[0, 2, 4]] * u[np.arange(3)], U)
    assert all(isinstance(ref, Affine) for item in t.tape.items for ref in item.operands)

    def loop(u):
        out = np.empty(60)
        for i in range(60):
            out[i] = u[i % 7] * 2.0
        return out * u[0]

    last = check(loop, U).tape.items[-1]
    assert isinstance(last, Statement) and isinstance(last.operands[0], Affine)
    t = check(lambda u: u[[0, 5, 1, 1]] * 2.0, U)
    assert isinstance(t.tape.items[0].operands[0], Indexed)


def test_a_shape_that_is_set_is_that_of_one_view():
    def f(u):
        v, w = np.concatenate([u, u * 2.0]), u * 3.0
        flat = w[:]
        v.shape, w.shape = (2, 7), (7, 1)
        flat += 1.0
        return (v * v).sum(0) @ w[:, 0] + (w * w).sum() * flat[0]

    check(f, U)


def test_scalar_lines_are_one_run():
    def f(u):
        s = 1.0
        for k in range(100):
            s = s * u[k % 7] + 0.5
        return s

    items = check(f, U).tape.items
    assert len(items) == 1 and isinstance(items[0], ScalarRun) and items[0].lines == 200
    assert list(items[0].const) == [1.0, 0.5]


def test_long_scalar_code_is_cut_into_runs():
    n = 70_001

    def f(u):
        s = u[0]
        for _ in range(n):
            s = s * 0.5 + u[1]
        return s

    t = trace(f, (U,))
    assert t.tape.n_nodes == 7 + 2 * n and [run.lines for run in t.tape.items] == [RUN_LINES] * 2 + [2 * n % RUN_LINES]
    assert [run.nbytes for run in t.tape.items] == [9 * run.lines + 8 for run in t.tape.items]
    y = oracle.evaluate(t.tape, U)
    assert y[-1] == t.result == f(U)


def test_zeros_keep_their_sign():
    t = check(lambda a: a * 0.0 + a * -0.0, 2.0, derivative=False)
    assert sorted(map(str, t.tape.items[0].const)) == ["-0.0", "0.0"]


def test_constant_work_costs_nothing():
    def f(u):
        a = np.linspace(0, 1, 50)
        b = np.zeros((50, 50))
        b[np.arange(50), np.arange(50)] = np.exp(a)
        c = np.linalg.solve(b, a)
        return u * c[3]

    t = check(f, U)
    assert nodes(t) == 7 and len(t.tape.items) == 1


def test_constants_are_copies_and_shared():
    c = np.ones(100)

    def f(u):
        v = u * c
        w = v * c
        c[0] = 5.0
        z = w * c
        c[0] = 1.0
        return z

    t = trace(f, (np.ones(100),))
    first, second, third = (item.operands[1].value for item in t.tape.items)
    assert first is second and third is not first and third[0] == 5.0 and first[0] == 1.0


def test_broadcast_constants_stay_small():
    row = np.arange(5.0)
    t = trace(lambda u: u * np.broadcast_to(row, (100, 5)) + row, (np.ones((100, 5)),))
    assert all(item.operands[1].value.strides[0] == 0 for item in t.tape.items)


def test_values_that_nothing_reads_are_not_kept():
    def step(u):
        for _ in range(5):
            left, right = np.roll(u, 1), np.roll(u, -1)
            u = u - 0.1 * (u * (right - left) / 2.0) + 0.3 * (right - 2.0 * u + left)
        return np.sum(u * u)

    t = trace(step, (U,), keep_values="read")
    kept = [values is not UNREAD for values in t.values]
    assert sum(kept) == 1 + 5 * 2 + 1  # the input, u and right - left of every step, the result


def test_sums_stand_still_along_their_axes():
    t = check(lambda m: m.sum(axis=0), M)
    (item,) = t.tape.items
    assert item.op is COPY and item.shape == (3, 4) and item.out.strides == (0, 1)
    (item,) = check(lambda m: m @ V4, M).tape.items
    assert item.op.name == "multiply" and item.shape == (3, 4) and item.out.strides == (1, 0)


# -- guards ----------------------------------------------------------------------------------------------------------


def guarded(f, x, other):
    """Whether a tape made at x notices that it does not hold at `other`."""
    t = trace(f, (x,))
    assert oracle.check_guards(t.tape, oracle.evaluate(t.tape, x))
    return not oracle.check_guards(t.tape, oracle.evaluate(t.tape, other))


@pytest.mark.parametrize(
    "f",
    [
        lambda u: u if u[0] > 1 else 2 * u,
        lambda u: u * (2 if u[:2].sum() > 2.7 else 1) if u[2] > 1 else u,
        lambda u: u[u > 1].sum(),
        lambda u: u[np.argmax(u)],
        lambda u: u[np.argsort(u)] * np.arange(7),
        lambda u: np.sort(u),
        lambda u: u[int(3 * u[0])],
        lambda u: max(u[0], u[1]),
        lambda u: u * np.count_nonzero(u > 1) if np.any(u[:3] > 1.5) and np.all(u[4:6] < 1.5) else u,
        lambda u: u[np.nonzero(u > 1)],
        lambda u: u * np.searchsorted(np.arange(3.0), u[0]),
        lambda u: u if np.allclose(u[0], U[0]) else 2 * u,
        lambda u: u * (u[0] > 1 or u[1] > 1.5),
        lambda u: np.interp(u, [0.5, 1.0, 1.5], [1.0, 3.0, -1.0]),
        lambda u: u * len(np.flatnonzero(u < 0.5)),
        lambda u: u * float(u[0] < 1),
        lambda u: u[(10 * u).astype(int) % 7],
    ],
)
def test_decisions_are_guarded(f):
    assert guarded(f, U, U[[1, 0, 3, 2, 5, 6, 4]])
    assert not guarded(f, U, U * 1.0)


@pytest.mark.parametrize(
    "f",
    [
        lambda u: np.where(u > 1, u, 2 * u),
        lambda u: u.max(),
        lambda u: np.maximum(u, 1),
        lambda u: abs(u - 1),
        lambda u: ((u > 1) & (u < 2)) * u,
        lambda u: (u > 1).any() * u,
        lambda u: np.clip(u, 0.5, 1.0),
        lambda u: np.sign(u - 1),
    ],
)
def test_choices_by_element_are_recomputed(f):
    t = trace(f, (U,))
    assert not t.tape.guards
    other = U[[1, 0, 3, 2, 5, 6, 4]]
    np.testing.assert_allclose(oracle.outputs(t.tape, oracle.evaluate(t.tape, other)), np.ravel(f(other)))


def test_masked_assignment_is_no_decision():
    def f(u):
        u = u.copy()
        u[u > 1] = 0.0
        return u * 2

    t = trace(f, (U,))
    assert not t.tape.guards
    np.testing.assert_allclose(oracle.outputs(t.tape, oracle.evaluate(t.tape, U[::-1])), f(U[::-1]))


# -- arguments and results ---------------------------------------------------------------------------------------


def test_nested_arguments_and_results():
    def f(params, scale):
        return {
            "z": params["w"] * scale + params["b"][0],
            "a": Pair(params["b"][1].x if hasattr(params["b"][1], "x") else params["b"][1], 3.0),
        }

    params = {"w": M, "b": [2.0, V4]}
    t = trace(f, (params, 2.0), argnums=(0, 1))
    assert [leaf.shape for leaf in t.tape.inputs] == [(), (4,), (3, 4), ()]
    np.testing.assert_allclose(t.result["z"], M * 2.0 + 2.0)
    assert isinstance(t.result["a"], Pair) and t.result["a"].b == 3.0 and isinstance(t.result["a"].a, np.ndarray)
    t = trace(f, (params, 2.0), argnums=1)
    assert t.tape.n_inputs == 1 and isinstance(t.tape.outputs[0].ref, Const)


def test_untraced_arguments_pass_as_they_are():
    marker = object()

    def f(x, y, z=None):
        assert y is marker and z == "text"
        return x * 2

    assert trace(f, (U, marker), kwargs={"z": "text"}).tape.n_outputs == 7


def test_aux():
    t = trace(lambda u: (u.sum(), {"u": u * 2, "s": u[0], "name": "x", "n": [u[1] > 1, 3]}), (U,), has_aux=True)
    np.testing.assert_array_equal(t.aux["u"], U * 2)
    assert t.aux["s"] == U[0] and t.aux["name"] == "x" and t.aux["n"] == [True, 3] and type(t.aux["u"]) is np.ndarray
    with pytest.raises(InputError, match="result, aux"):
        trace(lambda u: u, (U,), has_aux=True)


def test_float32_is_computed_in_float64():
    t = trace(lambda u: (u * u).sum(), (np.float32(U),))
    assert t.tape.inputs[0].shape == (7,) and t.result == (np.float64(np.float32(U)) ** 2).sum()


@pytest.mark.parametrize(
    "args, error, words",
    [
        ((np.arange(3),), InputError, "astype"),
        ((3,), InputError, "1.0"),
        ((np.array([True]),), InputError, "float"),
        ((np.ones(2) * 1j,), UnsupportedOperationError, "complex"),
        ((1j,), UnsupportedOperationError, "complex"),
        ((np.zeros(0),), InputError, "empty"),
        (("text",), InputError, "str"),
        (([1.0, "a"],), InputError, r"\[1\]"),
        ((None,), InputError, "no number"),
        ((np.array(["a"]),), InputError, "number"),
    ],
)
def test_wrong_arguments(args, error, words):
    with pytest.raises(error, match=words):
        trace(lambda x: x, args)


@pytest.mark.parametrize(
    "f, words",
    [
        (lambda u: None, "None"),
        (lambda u: "text", "str"),
        (lambda u: [u, "a"], "result"),
        (lambda u: [], "no number"),
    ],
)
def test_wrong_results(f, words):
    with pytest.raises(InputError, match=words):
        trace(f, (U,))


def test_wrong_argnums():
    for argnums in (1, -2, (0, 0), ()):
        with pytest.raises(InputError, match="argnums"):
            trace(lambda u: u, (U,), argnums=argnums)


def test_the_users_own_exception_comes_through():
    class Mine(Exception):
        pass

    def f(u):
        raise Mine("here")

    with pytest.raises(Mine, match="here"):
        trace(f, (U,))
    assert np.zeros.__module__ == "numpy" and type(np.zeros(2)) is np.ndarray


# -- sites --------------------------------------------------------------------------------------------------------


def test_sites_and_locate():
    def f(u):
        s = u[0] * 2.0
        s = s + u[1]
        v = u * s
        return v.sum()

    line = f.__code__.co_firstlineno
    t = trace(f, (U,))
    assert [t.tape.sites[item.site].line for item in t.tape.items[1:]] == [line + 3, line + 4]
    assert all(site.file == __file__ and site.function.endswith("f") for site in t.tape.sites)
    assert [locate(f, (U,), node=k) for k in (0, 6)] == [None, None]
    assert [locate(f, (U,), node=k).line - line for k in (7, 8, 9, 15, 16)] == [1, 2, 3, 3, 4]
    assert type(np.zeros(2)) is np.ndarray
