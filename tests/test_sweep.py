"""The structured sweeps against dense solves with the independent interpreter's matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from random_tapes import random_tape
from tape_oracle import jacobian
from test_evaluate import build

import distdiff as dd
from distdiff.channels import WIDTHS
from distdiff.errors import InputError
from distdiff.evaluate import evaluate
from distdiff.kernels import scalar, stream
from distdiff.ops import ADD, BY_NAME, COPY, MULTIPLY, SUBTRACT
from distdiff.partition import distribute, partition
from distdiff.partition.local import whole
from distdiff.solvers import sweep, sweep_plan, sweep_runs
from distdiff.solvers.sweep import Sweep
from distdiff.solvers.sweep_plan import plan_adjoint, plan_tangent
from distdiff.tape import Affine, Const, Indexed, Leaf, Statement

ALONE = MPI.COMM_SELF


def check(tape, x, keep=False, tolerance=1e-9):
    """Both directions at two points, one and three columns."""
    local, rng = whole(tape), np.random.default_rng(0)
    point = evaluate(local, x, ALONE)
    sweep = Sweep(local, point, ALONE, keep=keep)
    for k in range(3):
        try:
            J = jacobian(tape, x)
        except np.linalg.LinAlgError:  # the oracle's, where the random program left a function's domain
            return
        if not np.isfinite(J).all() or abs(J).max(initial=0.0) > 1e10:
            return
        J = J[local.outputs.positions]
        scale = max(1.0, abs(J).max(initial=0.0))
        for tail in ((), (3,), (1,), (0,)):
            v = rng.normal(size=(J.shape[1], *tail))
            np.testing.assert_allclose(sweep.tangent(v), J @ v, rtol=tolerance, atol=tolerance * scale)
            w = rng.normal(size=(J.shape[0], *tail))
            for _ in range(2):
                np.testing.assert_allclose(sweep.adjoint(w), J.T @ w, rtol=tolerance, atol=tolerance * scale)
        x = x * 1.05 + 0.01
        point = evaluate(local, x, ALONE, values=point.values)
        if k == 0:  # as the tracer hands values over: one array a block
            full = evaluate(local, x, ALONE, complete=True)
            point = evaluate(local, x, ALONE, known=[full.values.block(b).copy() for b in range(len(tape.blocks))])
        sweep.refresh(point)


def lay_out(monkeypatch, by_rows):
    """Several right-hand sides side by side, or one vector after another: what large and what small arrays get."""
    monkeypatch.setattr(sweep_plan, "LONG", 10**9 if by_rows else 0)
    monkeypatch.setattr(sweep, "CACHE", 8 * 100)  # two columns of 50 rows at a time


@pytest.fixture(params=["by rows", "by columns"])
def layout(request, monkeypatch):
    lay_out(monkeypatch, request.param == "by rows")


@given(st.integers(0, 10**6), st.booleans(), st.booleans())
def test_random_programs(mode, monkeypatch, seed, keep, by_rows):
    lay_out(monkeypatch, by_rows)
    check(*random_tape(seed), keep=keep)


@given(st.integers(0, 10**6), st.booleans())
def test_random_array_programs(mode, monkeypatch, seed, by_rows):
    lay_out(monkeypatch, by_rows)
    check(*random_tape(seed, scalars=False, indexed=False, size=16))


def whole_block(b):
    return Affine(b, 0, (1,))


def test_repeated_operands_add_up(mode):
    n = 5
    tape = build((n,), (n,), (n,))
    tape.items += [Statement(MULTIPLY, (n,), whole_block(1), (whole_block(0), whole_block(0))),
                   Statement(SUBTRACT, (n,), whole_block(2), (whole_block(1), whole_block(1)))]
    check(tape, np.arange(1.0, 6.0))
    tape.items[1] = Statement(ADD, (n,), whole_block(2), (whole_block(1), whole_block(1)))
    check(tape, np.arange(1.0, 6.0))


def test_periodic_shift_in_two_boxes(mode):
    n = 6
    tape = build((n,), (n,), (n,))
    tape.items += [Statement(COPY, (1,), Affine(1, 0, (1,)), (Affine(0, n - 1, (1,)),)),
                   Statement(COPY, (n - 1,), Affine(1, 1, (1,)), (Affine(0, 0, (1,)),)),
                   Statement(MULTIPLY, (n,), whole_block(2), (whole_block(1), whole_block(0)))]
    check(tape, np.linspace(0.5, 1.5, n))


def test_a_box_may_read_another_box_of_its_block(mode):
    """y_0 = x_0, y_{1,2} = 2 y_0, 2 y_0 + ..., as a recurrence written into one array would."""
    tape = build((2,), (4,))
    tape.items += [Statement(COPY, (2,), Affine(1, 0, (1,)), (whole_block(0),)),
                   Statement(MULTIPLY, (2,), Affine(1, 2, (1,)), (Affine(1, 0, (1,)), Affine(1, 1, (-1,))))]
    local, x = whole(tape), np.array([1.5, -0.5])
    sweep = Sweep(local, evaluate(local, x, ALONE), ALONE)
    J = np.array([[1, 0], [0, 1], [x[1], x[0]], [x[1], x[0]]])
    np.testing.assert_allclose(sweep.tangent(np.eye(2)), J)
    np.testing.assert_allclose(sweep.adjoint(np.eye(4)), J.T)


def test_sliding_windows(mode, layout):
    """Overlapping operands: y_i = sum_j x_{i+j}^2 c_j, and a product of windows."""
    n, w = 7, 3
    tape = build((n,), (n - w + 1,), (n - w + 1, w))
    shape = (n - w + 1, w)
    c = np.broadcast_to(np.array([1.0, -2.0, 0.5]), shape)
    window = Affine(0, 0, (1, 1))
    tape.items += [Statement(MULTIPLY, shape, Affine(1, 0, (1, 0)), (window, Const(c))),
                   Statement(MULTIPLY, shape, Affine(2, 0, (w, 1)), (window, Affine(1, 0, (1, 0))))]
    check(tape, np.linspace(0.5, 1.5, n))


def test_indices_that_repeat(mode, layout):
    tape = build((3,), (5,), (2, 2))
    tape.items += [Statement(BY_NAME["square"], (5,), Affine(1, 0, (1,)), (Indexed(np.array([0, 2, 2, 1, 2])),)),
                   Statement(MULTIPLY, (2, 2), Affine(2, 0, (2, 1)),
                             (Indexed(np.array([[3, 3], [0, 7]])), Affine(1, 1, (1, 1))))]
    check(tape, np.array([0.7, 1.3, -0.4]))


def test_an_output_given_twice_and_one_that_is_an_input(mode):
    tape = build((3,), (3,))
    tape.items.append(Statement(BY_NAME["sin"], (3,), whole_block(1), (whole_block(0),)))
    tape.outputs += [Leaf((3,), whole_block(1)), Leaf((3,), whole_block(0)), Leaf((2,), Affine(1, 1, (0,))),
                     Leaf((3,), Const(4.0))]
    check(tape, np.array([0.7, 1.3, -0.4]))


def test_what_depends_on_no_input_has_derivative_zero(mode):
    tape = build((3,), (3,), (3,))
    tape.items += [Statement(COPY, (3,), whole_block(1), (Const(2.0),)),
                   Statement(BY_NAME["exp"], (3,), whole_block(2), (whole_block(1),))]
    check(tape, np.ones(3))


def test_extreme_factors_stay_exact(mode):
    """1e200 * (1e200 * (1e-300 x)): the factors' product overflows, the derivative does not."""
    n = 3
    tape = build((n,), *[(n,)] * 6)
    for k, c in enumerate((1e-300, 1e200, 1e200, 1e-160, 1e-100, 1e150)):
        tape.items.append(Statement(MULTIPLY, (n,), whole_block(k + 1), (whole_block(k), Const(c))))
    local = whole(tape)
    sweep = Sweep(local, evaluate(local, np.ones(n), ALONE), ALONE)
    np.testing.assert_allclose(sweep.tangent(np.ones(n)), np.full(n, 1e-10), rtol=1e-12)
    np.testing.assert_allclose(sweep.adjoint(np.full(n, 1e-20)), np.full(n, 1e-30), rtol=1e-12)


def test_a_nonfinite_partial_shows_in_every_result(mode):
    """0 * inf must not pass for 0: the seed is zero where the partial is infinite."""
    tape = build((2,), (2,))
    tape.items.append(Statement(BY_NAME["sqrt"], (2,), whole_block(1), (whole_block(0),)))
    local = whole(tape)
    sweep = Sweep(local, evaluate(local, np.array([0.0, 1.0]), ALONE), ALONE)
    assert np.isnan(sweep.adjoint(np.array([0.0, 1.0]))[0])
    assert np.isnan(sweep.tangent(np.array([0.0, 1.0]))[0])


def burgers_like(n, steps):
    """The statements of a periodic explicit step u = u - dt u (right - left) + c (right - 2u + left), `steps` times."""
    shapes = [(n,)] + [(n,)] * (10 * steps)
    tape = build(*shapes)
    u, b = 0, 0

    def line(op, *operands):
        nonlocal b
        b += 1
        refs = [Const(o) if isinstance(o, float) else whole_block(o) for o in operands]
        tape.items.append(Statement(op, (n,), whole_block(b), tuple(refs)))
        return b

    def roll(x, shift):
        nonlocal b
        b += 1
        cut = shift % n
        tape.items.append(Statement(COPY, (cut,), Affine(b, 0, (1,)), (Affine(x, n - cut, (1,)),)))
        tape.items.append(Statement(COPY, (n - cut,), Affine(b, cut, (1,)), (Affine(x, 0, (1,)),)))
        return b

    for _ in range(steps):
        left, right = roll(u, 1), roll(u, -1)
        advected = line(MULTIPLY, u, line(SUBTRACT, right, left))
        moved = line(SUBTRACT, u, line(MULTIPLY, advected, 0.1))
        spread = line(ADD, line(SUBTRACT, right, line(MULTIPLY, u, 2.0)), left)
        u = line(ADD, moved, spread)
    return tape


def test_time_steps(mode):
    check(burgers_like(9, 3), np.linspace(0.5, 1.5, 9))


def test_the_workspace_is_the_live_width_and_not_the_length():
    n = 100
    rows = [plan_adjoint(whole(burgers_like(n, steps))).rows for steps in (2, 4, 40)]
    assert rows[1] == rows[2] <= 6 * n
    rows = [plan_tangent(whole(burgers_like(n, steps))).rows for steps in (2, 4, 40)]
    assert rows[1] == rows[2] <= 8 * n


def test_linear_statements_cost_no_pass():
    """Of the 10 blocks of a step the adjoint writes six: two products, two combinations, two shifts."""
    n = 1000
    moved = [plan_adjoint(whole(burgers_like(n, steps))).moved for steps in (5, 6)]
    assert moved[1] - moved[0] <= 6 * n


def test_a_seed_of_the_wrong_size_is_refused():
    tape = build((3,), (2,))
    tape.items.append(Statement(COPY, (2,), whole_block(1), (whole_block(0),)))
    local = whole(tape)
    sweep = Sweep(local, evaluate(local, np.ones(3), ALONE), ALONE)
    with pytest.raises(InputError, match="adjoint's seed"):
        sweep.adjoint(np.ones(3))
    with pytest.raises(InputError, match="tangent's seed"):
        sweep.tangent(np.ones((3, 1, 1)))
    sweep.close()


@pytest.mark.mpi
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("depth", [1, 3])
def test_ranks_sweep_their_shares(comm, seed, depth):
    """Every rank evaluates and sweeps its share; together they are the interpreter's Jacobian."""
    tape, x = random_tape(seed, size=12, scalars=seed % 2 == 1)
    plan = partition(tape, comm.size, strategy="axes", min_block=1, depth=depth) if comm.rank == 0 else None
    local = distribute(tape if comm.rank == 0 else None, plan, comm)
    n_in, n_out = tape.n_inputs, tape.n_outputs
    point = None
    for here in (x, x * 1.05 + 0.01):
        point = evaluate(local, here[local.inputs.positions], comm, values=point and point.values)
        J = jacobian(tape, here)
        if not np.isfinite(J).all() or abs(J).max(initial=0.0) > 1e10:
            return
        scale = max(1.0, abs(J).max(initial=0.0))
        sweep = Sweep(local, point, comm)
        for tail in ((), (3,)):
            rng = np.random.default_rng(seed)
            v, w = rng.normal(size=(n_in, *tail)), rng.normal(size=(n_out, *tail))
            total = np.zeros((n_out, *tail))
            total[local.outputs.positions] = sweep.tangent(v[local.inputs.positions])
            np.testing.assert_allclose(comm.allreduce(total), J @ v, rtol=1e-9, atol=1e-9 * scale)
            total = np.zeros((n_in, *tail))
            total[local.inputs.positions] = sweep.adjoint(w[local.outputs.positions])
            np.testing.assert_allclose(comm.allreduce(total), J.T @ w, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.mpi
def test_batches_of_several_widths_are_bound_once_each(comm, monkeypatch):
    """Up to `WIDTHS` of them; right in any order, at other points, with a larger workspace, on messages of theirs."""
    def f(u):
        for _ in range(4):
            u = u + 0.3 * np.roll(u, 1) * u
        return u

    bound = []
    bind = Sweep._bind
    monkeypatch.setattr(Sweep, "_bind", lambda self, plan, W, forward: (
        bound.append(W.shape[1:]), bind(self, plan, W, forward))[1])
    x, rng = np.linspace(0.5, 1.0, 24), np.random.default_rng(0)
    tape, plan = dd.trace(f, x, comm=comm), None
    if comm.rank == 0:
        plan = partition(tape, comm.size, strategy="axes", min_block=1)
    local = distribute(tape if comm.rank == 0 else None, plan, comm)
    point = evaluate(local, x[local.inputs.positions], comm)
    solver = Sweep(local, point, comm)
    J = dd.jacobian(f, comm=comm)(x)

    def solve(*widths):
        bound.clear()
        for m in widths:
            w = rng.normal(size=(24, m) if m else 24)
            mine = solver.adjoint(np.ascontiguousarray(w[local.outputs.positions]))
            np.testing.assert_allclose(mine, (J.T @ w)[local.inputs.positions], rtol=1e-12, atol=1e-12)
        return len(bound)

    widths = range(12, 12 - WIDTHS, -1)  # the widest first, or the workspace grows and all are bound again
    assert solve(*widths, 0) == WIDTHS + 1
    assert solve(*widths, 0, *reversed(widths)) == 0
    assert solve(2, 0, *widths[1:]) == 1 and solve(12) == 1
    for k in range(3):  # another memory: all calls go, the channels stay
        point = evaluate(local, x[local.inputs.positions], comm)
        solver.refresh(point)
        assert solve(*np.roll([1, 2, 3, 4, 5, 6, 8], k), *rng.permutation(13)) >= 7
    assert solve(40) == 1 and solve(3, 5, 40, 3, 5) == 2
    solver.close()


@pytest.mark.mpi
def test_many_solves_at_one_point_write_the_lines_out(comm, monkeypatch):
    """Written out or not, solve after solve and at the next point: the same, and within the memory allowed."""
    def f(u):
        p, q, total = u[0], u[1], 0.0
        for k in range(60):
            p, q = p + 0.01 * (2.0 - p * q), q + 0.01 * np.sin(p / q) - abs(q) * (q > 1.0) * 1e-3
            total = total + np.maximum(p, q) ** 2 - 3.0 * u[k % 4]
            if k == 30:
                v = np.exp(0.1 * u)
                total = total * v[2]
        return total + v[3], p

    monkeypatch.setattr(scalar._Loops, "spent", 10**12)
    x, w = np.array([1.0, 0.9, 1.3, 0.7]), (0.5, 2.0)
    settings = {"comm": comm, "method": "sweep", "partition": "contiguous", "min_block": 1}
    for limit in (sweep_runs.STORE, 0):
        monkeypatch.setattr(sweep_runs, "STORE", limit)
        with dd.linearize(f, x, **settings) as lin:
            for point in (x, 1.1 * x):
                lin.update(point)
                with dd.linearize(f, point, **settings) as fresh:
                    expected = fresh.vjp(w)
                for k in range(2 * sweep_runs.MANY):
                    np.testing.assert_allclose(lin.vjp(w), expected, rtol=1e-13)
                    stored = comm.allreduce(lin._solving.solvers["sweep"]._runs.nbytes)
                    assert (stored > 0) == (limit > 0 and k >= sweep_runs.MANY)


@pytest.mark.parametrize("shape", [(70_000,), (3, 40_000), (1, 50_000), (40_000, 2), (200, 1, 300)])
def test_partials_of_large_arrays_are_computed_part_by_part(shape):
    """... and are the same; operands that stand still along an axis are not cut along it."""
    row = np.linspace(0.5, 1.5, shape[-1])
    x = np.linspace(0.1, 2.0, int(np.prod(shape))).reshape(shape)

    def f(x, row):
        return np.sum(np.tanh(x) ** 3 * np.arctan2(x, row) ** 2)

    with dd.linearize(f, x, row, argnums=(0, 1), method="sweep") as lin:
        for found, k in zip(lin.vjp(1.0), range(2)):
            h = 1e-6
            up, down = ((x + h * (k == 0), row + h * (k == 1)), (x - h * (k == 0), row - h * (k == 1)))
            assert np.sum(found) == pytest.approx((f(*up) - f(*down)) / (2 * h), rel=1e-6)
        t, s = np.tanh(x), np.arctan2(x, row)
        r2 = x * x + row * row
        exact = 3 * t**2 * (1 - t * t) * s**2 + t**3 * 2 * s * row / r2
        np.testing.assert_allclose(lin.vjp(1.0)[0], exact, rtol=1e-12, atol=1e-14)


def test_many_solves_of_small_boxes_are_compiled(monkeypatch):
    """NumPy's calls for a box take as long as thousands of elements: their number counts, not their size alone."""
    def steps(u):
        for _ in range(40):
            u = np.tanh(u + 0.1 * np.roll(u, 1))
        return u

    for name, value in (("spent", 0), ("module", None)):
        monkeypatch.setattr(stream._Loops, name, value)
    u = np.linspace(0.1, 1.0, 50)
    with dd.linearize(steps, u, method="sweep") as lin:
        first = lin.vjp(u)
        assert stream._Loops.module is None
        for _ in range(200):
            found = lin.vjp(u)
        assert stream._Loops.module is not None  # after 40 x 50 x 200 elements, which alone would be few
        np.testing.assert_allclose(found, first, rtol=1e-14)
