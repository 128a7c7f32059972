"""Eliminated, replayed loops against the assembled system: programs with long loops of every kind."""

from __future__ import annotations

import numpy as np
import pytest
from mpi4py import MPI

import distdiff as dd
from distdiff.evaluate import evaluate
from distdiff.implicit import root
from distdiff.kernels import stream
from distdiff.partition.local import whole
from distdiff.solvers.sweep import Sweep
from distdiff.solvers.sweep_ops import Combine, Repeat, Turn
from distdiff.solvers.sweep_plan import plan_adjoint, plan_tangent
from distdiff.tracing import trace

ALONE = MPI.COMM_SELF
STEPS = 14


def heat(u):
    for _ in range(STEPS):
        u = u + 0.1 * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1))
    return u


def burgers(u):
    for _ in range(STEPS):
        left, right = np.roll(u, 1), np.roll(u, -1)
        u = u - 0.1 * u * (right - left) + 0.05 * (right - 2.0 * u + left)
    return u


def interior(u):
    """In-place interior updates, boundaries kept."""
    v = np.zeros_like(u)
    for _ in range(STEPS):
        v[1:-1] = 0.9 * u[1:-1] + 0.05 * u[2:] * u[:-2]
        v[0], v[-1] = u[0], 0.5 * u[-1]
        u, v = v, np.zeros_like(u)
    return u


def parameters(p):
    """Every step reads the same two arrays, one through a rule."""
    a, u = p[:6], p[6:]
    b = np.sin(a)
    for _ in range(STEPS):
        u = u + 0.1 * b * np.tanh(u) + 0.01 * a * np.roll(u, 2)
    return u


def shared(u):
    """Eliminated blocks from before the loop, in terms with the same coefficients in every period."""
    w = np.cos(u)
    for step in range(16):
        u = u * 1.0
        u[1:-1] += 0.1 * np.sin(w[2:])
        if step % 2:
            u = 0.9 * u + 0.05 * np.roll(u, 1)
    return u


def gauges(u):
    """Some steps leave a record, by index."""
    records = []
    for step in range(STEPS):
        u = u + 0.1 * (np.roll(u, 1) - u) * u
        if step % 3 == 2:
            records.append(u[[0, 3, 3]])
    return np.concatenate(records)


def reductions(u):
    """A mean in every step, which all elements read."""
    total = 0.0
    for _ in range(STEPS):
        u = u - 0.1 * u * np.mean(u) + 0.1 * np.cos(u)
        total = total + np.sum(u**2)
    return np.stack([total, u[0], u[-1]])


def alternating(u):
    """Two kinds of steps in turn, and a loop after the loop."""
    for step in range(STEPS):
        u = 0.9 * u + 0.1 * np.roll(u, 1) if step % 2 else u - 0.1 * u * u
    for _ in range(STEPS):
        u = u * 0.99 + 0.02 * np.roll(u, -1) * u
    return u


def grid(u):
    """Five points on a torus, and a transposed product."""
    u = u.reshape(4, 3)
    for _ in range(STEPS):
        u = u + 0.1 * (np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1) - 4.0 * u) * u
    return u @ u.T


def volume(u):
    """Three axes, one sided differences in place of some."""
    u = u.reshape(2, 3, 2)
    for _ in range(STEPS):
        v = u + 0.0
        v[:, 1:, :] = u[:, 1:, :] - 0.1 * (u[:, 1:, :] - u[:, :-1, :]) * u[::-1, 1:, :]
        u = v
    return u


def history(u):
    """Two steps back, and a result that reads all steps."""
    before, total = u, 0.5 * u
    for _ in range(STEPS):
        u, before = 2.0 * u - before + 0.01 * np.roll(u, 1) * u, u
        total = total + u * u
    return total


def products(u):
    """Chains of products: coefficients of more factors than a kernel takes."""
    for _ in range(STEPS):
        u = 0.3 * u * np.roll(u, 1) * np.roll(u, -1) * (1.0 + u) + 0.5 * u
    return u


def leapfrog(x):
    q, p = x[:5], x[5:]
    for _ in range(STEPS):
        p = p - 0.05 * np.sin(q)
        q = q + 0.1 * p
        p = p - 0.05 * np.sin(q)
    return np.concatenate([q, p])


def constants(u):
    """An array of constants in a loop, one that is another in each step."""
    w = np.linspace(0.5, 1.0, len(u))
    for step in range(STEPS):
        u = w * u + np.full(len(u), 0.1 * step) * np.roll(u, 1)
    return u


def scans(u):
    for _ in range(STEPS):
        u = u - 0.02 * np.cumsum(u) * u
    return u


def implicit(u):
    """A step that an equation gives, another one every time, and an explicit one between."""
    x, v = u[:5], u[5]
    for _ in range(STEPS):
        x = root(lambda x, y: y - x + 0.1 * (y**3 - v * np.roll(y, 1)), x, x)
        x = x + 0.05 * np.sin(x)
    return x


PROGRAMS = [(heat, 9), (burgers, 9), (interior, 8), (parameters, 12), (shared, 12), (gauges, 7), (reductions, 6),
            (alternating, 7), (grid, 12), (volume, 12), (history, 6),
            (products, 7), (leapfrog, 10), (constants, 6), (scans, 5), (implicit, 6)]


def point_of(f, x):
    traced = trace(f, (x,), argnums=0, keep_values="read")
    local = whole(traced.tape)
    return local, evaluate(local, x, ALONE, known=traced.values)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("f,n", PROGRAMS, ids=lambda p: getattr(p, "__name__", ""))
def test_loops_agree_with_the_assembled_system(mode, f, n, keep):
    x = np.linspace(0.4, 1.2, n)
    local, point = point_of(f, x)
    sweep = Sweep(local, point, ALONE, keep=keep)
    rng = np.random.default_rng(0)
    for here in (x, x[::-1] * 0.9):
        J = dd.jacobian(f, method="substitution", comm=ALONE)(here).reshape(-1, n)
        point = evaluate(local, here, ALONE, values=point.values)
        sweep.refresh(point)
        for tail in ((), (3,)):
            for _ in range(2):
                v, w = rng.normal(size=(n, *tail)), rng.normal(size=(len(J), *tail))
                scale = 1e-12 * max(1.0, abs(J).max())
                np.testing.assert_allclose(sweep.tangent(v), J @ v, rtol=1e-10, atol=scale)
                np.testing.assert_allclose(sweep.adjoint(w), J.T @ w, rtol=1e-10, atol=scale)
    sweep.close()


@pytest.mark.parametrize("f,n", PROGRAMS, ids=lambda p: getattr(p, "__name__", ""))
def test_a_replayed_plan_is_the_plan(f, n, monkeypatch):
    """Planned event by event, loops or not, the operations are as many and go over as many elements."""
    from distdiff.solvers import sweep_plan

    local = point_of(f, np.linspace(0.4, 1.2, n))[0]
    for make in (plan_adjoint, plan_tangent):
        replayed = make(local)
        with monkeypatch.context() as patch:
            patch.setattr(sweep_plan, "loops", lambda *arguments: [])
            plain = make(local)
        assert replayed[2:6] == plain[2:6]  # rows of workspace, stored, kept, moved
        assert len(single(replayed)) == len(single(plain))


def single(plan):
    return [x for op in plan.operations for x in (op.unrolled() if type(op) in (Repeat, Turn) else [op])]


@pytest.mark.parametrize("make", [plan_adjoint, plan_tangent])
def test_a_burgers_step_is_three_diagonals_without_coefficients(make):
    """Eleven lines a point-step become one row: three operands in the interior and at each of the two wraps."""
    n = 50
    plans = []
    for steps in (20, 40):
        def run(u, steps=steps):
            for _ in range(steps):
                left, right = np.roll(u, 1), np.roll(u, -1)
                u = u - 1e-3 * (u * (right - left) / 0.04) + 1e-4 * (right - 2.0 * u + left) / 0.0004
            return u
        plans.append(make(point_of(run, np.linspace(0.5, 1.5, n))[0]))
    assert plans[1].stored == 0 and plans[1].rows == plans[0].rows == 2 * n
    assert plans[1].moved - plans[0].moved == 20 * 3 * n
    last = [op for op in single(plans[1]) if type(op) is Combine][20]
    assert sorted(box.shape for box in last.boxes) == [(1,), (1,), (n - 2,)]
    assert all(len(box.passes) == 3 for box in last.boxes)


def test_planning_a_long_loop_plans_two_periods(monkeypatch):
    from distdiff.solvers.sweep_plan import _Planner

    local = point_of(lambda u: [u := u - 0.1 * u * np.roll(u, 1) for _ in range(300)][-1], np.linspace(0.5, 1.0, 8))[0]
    calls = []
    plain = _Planner.statements
    monkeypatch.setattr(_Planner, "statements", lambda self, items: (calls.append(items), plain(self, items)))
    plan_adjoint(local)
    assert len(calls) < len(local.items) // 20


def test_combinations_become_tables_together(mode, monkeypatch):
    """However many products, scans and exchanges come between them: a table of one row costs what one of many does."""
    from distdiff.solvers.sweep_table import Program, Programs

    A = np.linspace(-0.1, 0.1, 36).reshape(6, 6)
    local, point = point_of(lambda x: [x := x + 0.1 * np.sin(A @ x) for _ in range(40)][-1], np.linspace(0.5, 1.0, 6))
    plain, run, made, runs = Programs._tabulate, Program.__call__, [], []
    monkeypatch.setattr(Programs, "_tabulate", lambda self, ops: (made.append(len(ops)), plain(self, ops))[1])
    monkeypatch.setattr(Program, "__call__", lambda self: (runs.append(self), run(self))[1])
    sweep = Sweep(local, point, ALONE)
    for _ in range(3):
        sweep.adjoint(np.ones(6))
    assert len(runs) >= 3 * 40 and len(made) == (stream._Loops.spent > 0)
    sweep.close()


@pytest.mark.parametrize("make", [plan_adjoint, plan_tangent])
def test_a_loop_of_implicit_steps_is_planned_by_its_first_ones(monkeypatch, make):
    from distdiff.solvers.sweep_plan import _Planner

    def run(u):
        for _ in range(60):
            u = root(lambda u, v: v - u + 0.1 * (v**3 - np.roll(v, 1)), u, u) * 0.99
        return u

    local = point_of(run, np.linspace(0.5, 1.0, 6))[0]
    calls = []
    plain = _Planner.statements
    monkeypatch.setattr(_Planner, "statements", lambda self, items: (calls.append(items), plain(self, items)))
    make(local)
    assert 0 < len(calls) < len(local.items) // 4


def test_the_report_counts_what_elimination_leaves():
    """Burgers: one row of three diagonals a point-step, and no coefficient is stored."""
    import json

    n, steps = 40, 20

    def run(u):
        for _ in range(steps):
            left, right = np.roll(u, 1), np.roll(u, -1)
            u = u - 1e-3 * (u * (right - left) / 0.04) + 1e-4 * (right - 2.0 * u + left) / 0.0004
        return u

    with dd.linearize(run, np.linspace(0.5, 1.5, n), method="sweep", comm=ALONE) as lin:
        assert lin.report().sweeps == {}
        lin.vjp(np.ones(n))
        report = lin.report()
        assert set(report.sweeps) == {"adjoint"}
        lin.jvp(np.ones(n))
        data = json.loads(json.dumps(lin.report().to_dict()))["sweeps"]
    for direction in ("adjoint", "tangent"):
        assert data[direction] == {
            "rows": n * steps, "terms_per_row": 3.0, "coefficient_bytes": 0, "moved": 3 * n * steps}, direction
    assert "800 rows left by block elimination" in str(report)
    assert "3 terms a row, no stored coefficients" in str(report)


@pytest.mark.mpi
def test_the_report_sums_counts_over_ranks(comm):
    def f(u):
        for _ in range(STEPS):
            u = u + 0.1 * np.sin(u) * np.roll(u, 1)
        return u

    x = np.linspace(0.5, 1.5, 60)
    found = []
    for where in (ALONE, comm):
        with dd.linearize(f, x, method="sweep", comm=where, partition="axes", min_block=1) as lin:
            lin.vjp(np.ones(60))
            found.append(lin.report().sweeps["adjoint"])
    one, many = found
    assert one.coefficient_bytes > 0 and comm.bcast(many) == many
    if comm.size == 1:
        assert many == one
    else:  # halos make vectors of what would otherwise be eliminated
        assert one.rows < many.rows < 20 * one.rows and many.moved > one.moved and many.terms_per_row > 1.0


def mixed(u):
    """A product between combinations."""
    A = np.linspace(-0.1, 0.1, len(u) ** 2).reshape(len(u), len(u))
    for _ in range(STEPS):
        u = u + 0.1 * np.sin(A @ u) - 0.1 * u * np.roll(u, 1)
    return u


@pytest.mark.parametrize("f", [gauges, mixed], ids=lambda f: f.__name__)
def test_a_loop_becomes_tables_by_its_periods(f, monkeypatch):
    """However often its turns come, and what else comes between its combinations: each is looked at once a period."""
    from distdiff.solvers import sweep_table

    monkeypatch.setattr(stream._Loops, "spent", 1 << 40)
    plain, looked = sweep_table._three, []
    monkeypatch.setattr(sweep_table, "_three", lambda x, fill: (looked.append(x), plain(x, fill))[1])
    for steps in (36, 72):
        monkeypatch.setitem(globals(), "STEPS", steps)
        local, point = point_of(f, np.linspace(0.4, 1.2, 12))
        sweep = Sweep(local, point, ALONE)
        sweep.adjoint(np.ones(len(local.outputs.ids)))
        sweep.close()
        looked.append(None)
    first = looked.index(None)
    assert first > 0 and len(looked) - first - 2 <= first


def test_periods_come_in_the_order_they_came_before(monkeypatch):
    """Records every third step make periods of three kinds: once their order is known, each is looked at alone."""
    from distdiff.solvers.sweep_sums import Replay

    monkeypatch.setitem(globals(), "STEPS", 120)
    local = point_of(gauges, np.linspace(0.4, 1.2, 12))[0]
    plain, tried = Replay._matched, []
    monkeypatch.setattr(Replay, "_matched", lambda self, *args: (tried.append(plain(self, *args)), tried[-1])[1])
    plan_adjoint(local)
    found = sum(names is not None for names in tried)
    assert found > 100 and len(tried) - found < 20
