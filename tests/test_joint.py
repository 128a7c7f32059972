"""Joint statements: what the front end makes of operands of any kind, what is kept, cut and counted, and failures.

Values and derivatives of every order, on every method and rank count, are tested with the other functions (`functions`:
solves, together) and random tapes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from elementals import MatVec, Polar, Products, Solve, apply
from functions import CASES
from mpi4py import MPI

import distdiff as dd
from distdiff import graph
from distdiff.errors import InputError, NonFiniteError
from distdiff.evaluate import evaluate
from distdiff.liveness import kept_blocks
from distdiff.ops import Elemental
from distdiff.partition import localize_all, partition, whole
from distdiff.solvers.sweep_ops import Product
from distdiff.solvers.sweep_plan import plan_adjoint, plan_tangent
from distdiff.strided import BlockIndex
from distdiff.tape import Affine, Indexed, Joint, c_strides
from distdiff.testing import taylor_test
from distdiff.tracing import memory, recorder, trace

ALONE = MPI.COMM_SELF
SOLVES, TOGETHER = (next(c for c in CASES if c.name == name) for name in ("solves", "together"))


def joints(tape):
    return [item for item in tape.items if type(item) is Joint]


# -- the front end


def test_operands_broadcast_along_loop_axes_and_stay_affine():
    def f(a, b):
        return apply(Solve(2), a[:, None], b.T[1:])

    a = np.random.default_rng(0).normal(size=(3, 2, 2)) + 3.0 * np.eye(2)
    b = np.random.default_rng(1).normal(size=(2, 5))
    tape = trace(f, (a, b), argnums=(0, 1)).tape
    (item,) = joints(tape)
    assert item.shape == (3, 4) and item.lines == 24
    assert item.operands == (Affine(0, 0, (4, 0, 2, 1)), Affine(1, 1, (0, 1, 5)))
    assert item.out == Affine(2, 0, c_strides((3, 4, 2))) and len(tape.items) == 1
    value, gradient = dd.value_and_grad(lambda a, b: f(a, b).sum(), argnums=(0, 1), comm=ALONE)(a, b)
    y = np.linalg.solve(a[:, None], b.T[1:][None, ..., None])[..., 0]
    lam = np.linalg.solve(np.swapaxes(a, 1, 2)[:, None], np.ones((3, 4, 2, 1)))[..., 0]
    np.testing.assert_allclose(value, y.sum(), rtol=1e-13)
    np.testing.assert_allclose(gradient[0], -np.einsum("ijk,ijl->ikl", lam, y), rtol=1e-12)
    np.testing.assert_allclose(gradient[1][:, 1:], lam.sum(axis=0).T, rtol=1e-12)
    np.testing.assert_array_equal(gradient[1][:, 0], 0.0)


def test_several_results_are_arrays_as_numpys_are():
    """Each may be written, reshaped and returned by itself; scalars are scalars."""
    def f(x):
        r, e = apply(Polar(2), x.reshape(3, 2))
        assert r.shape == (3,) and e.shape == (3, 2) and e.flags.c_contiguous
        e.reshape(-1)[1:] *= 2.0  # a view, as it would be in NumPy
        r[0] = 5.0
        s, _ = apply(Polar(2), x[:2])
        assert np.ndim(s) == 0 and s > 0
        return np.concatenate([r, e.ravel(), [s]])

    x = np.array([3.0, 4.0, 1.0, 2.0, -2.0, 1.5])
    np.testing.assert_array_equal(trace(f, (x,)).result, f(x))
    J = dd.jacobian(f, comm=ALONE)(x)
    columns = [(f(x + 1e-6 * unit) - f(x - 1e-6 * unit)) / 2e-6 for unit in np.eye(6)]
    np.testing.assert_allclose(J, np.transpose(columns), atol=1e-9)


def test_a_single_result_that_is_a_number_is_kept_for_scalar_lines():
    def f(x):
        y = apply(Fragile(), x[0])
        return y * y + y

    np.testing.assert_allclose(dd.grad(f, comm=ALONE)(np.array([3.0, 1.0])), [4 * 27.0 + 6.0, 0.0])


def test_operands_that_do_not_fit():
    with pytest.raises(ValueError, match="solve: operand 1 has shape"):
        trace(lambda x: apply(Solve(3), np.eye(3), x), (np.ones(4),))
    with pytest.raises(ValueError):
        trace(lambda x: apply(Polar(2), x) and apply(MatVec(2, 2), np.ones((4, 2, 2)), x), (np.ones((3, 2)),))
    with pytest.raises(InputError, match="2 results where 1"):
        trace(lambda x: apply(Wrong(), x), (np.ones(3),))


@dataclass(frozen=True)
class Wrong(Elemental):
    name, core_in, core_out = "wrong", ((3,),), ((3,),)

    def value(self, x):
        return x, x


def test_constants_make_no_statement():
    def f(x):
        c = apply(Polar(2), np.full(2, 3.0) * np.ones(2))
        assert np.ndim(c[0]) == 0
        return x * c[0] + apply(MatVec(2, 2), np.array([[1.0, 2.0], [3.0, 4.0]]), x)

    tape = trace(f, (np.array([1.0, 2.0]),)).tape
    (item,) = joints(tape)
    assert item.active == [1]
    assert graph.analyse(tape).nonzeros == 2 + 4 + 4  # of the product by a constant, the joint statement, the sum


def test_nothing_along_a_loop_axis():
    def f(x):
        return np.sum(apply(Polar(2), x[:0])[1]) + x.sum()

    value, gradient = dd.value_and_grad(f, comm=ALONE)(np.ones((3, 2)))
    assert value == 6.0
    np.testing.assert_array_equal(gradient, np.ones((3, 2)))


@pytest.mark.parametrize("case", [SOLVES, TOGETHER], ids=str)
def test_results_that_were_put_off_are_there(case, monkeypatch):
    eager = trace(case.f, (case.x,), keep_values=True)
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(recorder, "MANY_LOOKS", 10**9)
    from distdiff.evaluate import evaluate_items

    lazy = trace(case.f, (case.x,), keep_values="read", evaluate=evaluate_items)
    np.testing.assert_array_equal(lazy.result, eager.result)
    assert lazy.tape.blocks == eager.tape.blocks
    local = whole(lazy.tape)
    assert all(values is None or np.isfinite(values).all() for values in lazy.values)
    for b, kept in enumerate(kept_blocks(local, BlockIndex(local.blocks))):
        if kept and lazy.values[b] is not None:
            np.testing.assert_array_equal(lazy.values[b], np.ravel(eager.values[b]))


# -- what is kept, cut and counted


def test_only_what_rules_read_is_kept():
    def f(x):
        v = x * 2.0
        y = apply(Solve(3), np.diag(np.ones(3)) + 0.1 * x[:, None] * x, v + 1.0)  # reads y and the matrix, not b
        return np.sum(apply(Products(3), y + 3.0, np.ones(2)) - 1.0)  # reads its operand, not its result

    tape = trace(f, (np.array([0.3, 0.2, 0.1]),)).tape
    kept = kept_blocks(whole(tape), BlockIndex(tape.blocks))
    solve, products = joints(tape)
    assert kept[solve.out.block] and kept[solve.operands[0].block] and not kept[solve.operands[1].block]
    assert kept[products.operands[0].block] and not kept[products.out.block]


def test_counts():
    tape = trace(lambda x: apply(Products(5), x, np.ones((3, 4))), (np.ones((3, 5)),)).tape
    found = graph.analyse(tape)
    assert (found.nonzeros, found.depth, found.width, found.lines) == (3 * 8, 1, 15, 15 + 3 * 15)
    tape = trace(lambda x: apply(Solve(3), x, np.ones(3)), (np.eye(3) * 2.0,)).tape
    assert graph.analyse(tape).nonzeros == 27


def test_loop_axes_are_cut_in_step_and_cores_never():
    def f(u):
        for _ in range(3):
            u = apply(Solve(3), np.eye(3) + 0.1 * u[:, :, None] * u[:, None, :], u) + 0.1 * u
        return u

    tape = trace(f, (np.full((8, 3), 0.2),)).tape
    locals_ = localize_all(tape, partition(tape, 4, strategy="axes", min_block=1))
    assert [len(local.steps) for local in locals_] == [1] * 4  # no message: all is cut along the batch
    assert all([item.shape for item in joints(local)] == [(2,)] * 3 for local in locals_)
    tape = trace(lambda x: apply(Solve(12), x + np.eye(12), np.ones(12)), (np.ones((12, 12)),)).tape
    locals_ = localize_all(tape, partition(tape, 4, strategy="axes", min_block=1))
    assert sorted(len(joints(local)) for local in locals_) == [0, 0, 0, 1]
    assert all(local.joint for local in locals_)


def test_a_loop_with_a_joint_statement_is_planned_by_its_first_periods(monkeypatch):
    from distdiff.solvers import sweep_plan, sweep_sums

    def f(u):
        for _ in range(12):
            u = apply(Solve(2), np.eye(2) + 0.1 * u[:, :, None] * np.roll(u, 1, 0)[:, None, :], u) * np.sin(u) + u
        return u

    tape = trace(f, (np.full((4, 2), 0.3),)).tape
    renamed, rename = [], sweep_sums.Replay._rename
    monkeypatch.setattr(sweep_sums.Replay, "_rename", lambda *args: renamed.append(1) or rename(*args))
    for make in (plan_adjoint, plan_tangent):
        renamed.clear()
        plan = make(whole(tape))
        assert len(renamed) >= 4
        with monkeypatch.context() as patch:
            patch.setattr(sweep_plan, "loops", lambda *arguments: [])
            plain = make(whole(tape))
        assert plan[2:6] == plain[2:6]
        assert [op.item for op in plan.operations if type(op) is Product] == [
            op.item for op in plain.operations if type(op) is Product]
    with dd.linearize(f, np.full((4, 2), 0.3), method="sweep", comm=ALONE) as lin:
        expected = dd.jacobian(f, method="substitution", comm=ALONE)
        for x in (np.full((4, 2), 0.3), np.linspace(0.1, 0.9, 8).reshape(4, 2)):
            lin.update(x)
            np.testing.assert_allclose(lin.jacobian(), expected(x), rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(lin.vjp(np.ones((4, 2))), expected(x).sum(axis=(0, 1)), rtol=1e-12)


def test_operands_node_by_node_on_ranks():
    """A transposed operand is no slab of rows on a rank."""
    tape = trace(lambda x: apply(MatVec(2, 6), x.reshape(6, 2).T, x[::2]), (np.linspace(0.1, 1.0, 12),)).tape
    locals_ = localize_all(tape, partition(tape, 3, strategy="axes", min_block=1))
    (item,) = [item for local in locals_ for item in joints(local)]
    assert item.operand_shape(0) == (2, 6)
    assert all(type(ref) in (Affine, Indexed) for ref in item.operands)


# -- failures


@dataclass(frozen=True)
class Fragile(Elemental):
    """y = x^2 for numbers; its rules fail where they meet a value above their limits."""

    name, core_in, core_out = "fragile", ((),), ((),)
    value_limit: float = 100.0
    rule_limit: float = 100.0

    def value(self, x):
        if np.max(x) > self.value_limit:
            raise np.linalg.LinAlgError("beyond the limit of value")
        return (x * x,)

    def tangent(self, y, x, xdot):
        if np.max(x[0]) > self.rule_limit:
            raise ZeroDivisionError("beyond the limit of the rule")
        return (2.0 * x[0] * xdot[0],)

    def adjoint(self, y, x, ybar, wanted):
        return self.tangent(y, x, ybar)


def smooth(op):
    def f(x):
        y = x
        for _ in range(3):
            y = 0.3 * (np.roll(y, 1) + y + np.roll(y, -1))
            y = apply(op, y) + 0.5
        return y

    return f


@pytest.mark.mpi
@pytest.mark.timeout(60)
@pytest.mark.parametrize("strategy", ["axes", "fewer ranks"])
def test_what_a_rule_raises_on_one_rank_is_raised_on_all(comm, strategy, plain_loops):
    """Only the rank with the last elements fails, and all go on afterwards."""
    x, far = np.linspace(0.1, 0.4, 24), np.linspace(0.1, 0.4, 24)
    far[-1] = 40.0
    settings = {"comm": comm, "partition": strategy, "min_block": 1, "method": "sweep"}
    with dd.linearize(smooth(Fragile(value_limit=100.0)), x, **settings) as lin:
        first = lin.vjp(np.ones(24))
        with pytest.raises(np.linalg.LinAlgError, match="limit of value") as raised:
            lin.update(far)
        assert "rule of fragile, called at" in raised.value.__notes__[0]
        with pytest.raises(InputError, match="the last update failed"):
            lin.vjp(np.ones(24))
        lin.update(x)
        np.testing.assert_array_equal(lin.vjp(np.ones(24)), first)
    with dd.linearize(smooth(Fragile(value_limit=1e9, rule_limit=10.0)), x, **settings) as lin:
        lin.update(far)
        for solve in (lin.vjp, lin.jvp):
            with pytest.raises(ZeroDivisionError, match="limit of the rule"):
                solve(np.ones(24))
        operator = lin.operator()
        for product in (operator.mult, operator.mult_transpose, operator.solve, operator.solve_transpose):
            with pytest.raises(ZeroDivisionError, match="limit of the rule"):
                product(np.ones(operator.n_own))
        lin.update(x)
        np.testing.assert_array_equal(lin.vjp(np.ones(24)), first)
    for name in ("substitution", "krylov"):
        with dd.linearize(smooth(Fragile(value_limit=1e9, rule_limit=10.0)), x, **{**settings, "method": name}) as lin:
            lin.update(far)
            with pytest.raises(ZeroDivisionError, match="limit of the rule"):
                lin.vjp(np.ones(24))
    with pytest.raises(np.linalg.LinAlgError, match="limit of value"):
        dd.linearize(smooth(Fragile(value_limit=0.05)), x, **settings)


@pytest.mark.mpi
def test_what_is_not_finite_is_named(comm):
    settings = {"comm": comm, "partition": "axes", "min_block": 1}

    def f(x):
        return apply(Polar(2), x)[1]

    x = np.ones((4, 2))
    with dd.linearize(f, x, **settings) as lin:
        x[2] = 0.0
        with pytest.raises(NonFiniteError, match="the result of polar is nan at .*elementals"):
            lin.update(x)


@pytest.mark.mpi
@pytest.mark.parametrize("case", [SOLVES, TOGETHER], ids=str)
def test_second_order_on_ranks(case, comm):
    def f(x):
        return np.sum(case.f(x) ** 2)

    test = taylor_test(f, case.x, order=2, comm=comm, partition="axes", min_block=1)
    assert test.passed, str(test)


def test_the_value_alone_runs_where_nothing_reads():
    """A second evaluation gives the same values as a trace there."""
    tape = trace(TOGETHER.f, (TOGETHER.x,)).tape
    point = evaluate(whole(tape), TOGETHER.x * 1.1, ALONE)
    np.testing.assert_allclose(point.outputs(), TOGETHER.f(TOGETHER.x * 1.1), rtol=1e-13)
