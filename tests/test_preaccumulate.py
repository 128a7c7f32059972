"""Elimination: what goes, what stays, that nothing is ever added, and that the reduced rows are the right ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, strategies
from random_systems import Rows, random_matrix, spread, spread_everywhere

from distdiff.kernels import csr
from distdiff.ops import COPY
from distdiff.partition.local import Exchange, LocalTape, Portion, Step
from distdiff.preaccumulate import Reduced, eliminate, superstep_ends
from distdiff.tape import Affine, Block, ScalarRun, Statement


@pytest.fixture(autouse=True, params=["plain", "compiled"])
def tier(request, monkeypatch):
    """Every kernel as plain Python and compiled."""
    monkeypatch.setattr(csr, "PLAIN_WORK", 10**9 if request.param == "plain" else -1)
    if request.param == "plain":
        for kernel in vars(csr).values():
            if isinstance(kernel, csr.Kernel):
                monkeypatch.setattr(kernel, "_compiled", None)


def program(rows: list[list[tuple[int, float]]], inputs: list[int], outputs: list[int], sent: list[int] = ()):
    """One rank's tape and rows of L from (operand, partial) lists; `sent` nodes go to another rank."""
    n = len(rows)
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    entries = [entry for row in rows for entry in row]
    L = Rows(indptr, np.array([j for j, _ in entries], np.int64), np.array([v for _, v in entries], float))
    exchange = Exchange(sends=[(1, np.array(sent, np.int64))] if len(sent) else [])
    local = LocalTape([Block(0, (n,))], [], [Step(0, 0, 0, exchange)],
                      Portion(np.array(inputs, np.int64), np.arange(len(inputs))),
                      Portion(np.array(outputs, np.int64), np.arange(len(outputs))))
    return local, L


def dense(reduced: Reduced) -> np.ndarray:
    a = reduced.own
    return sp.csr_matrix((a.data, a.indices, a.indptr), shape=(reduced.n_rows, reduced.n_rows)).toarray()


def jacobian(reduced: Reduced) -> np.ndarray:
    """Outputs by inputs, on one rank."""
    return np.linalg.inv(dense(reduced))[np.ix_(reduced.outputs.ids, reduced.inputs.ids)]


def test_chain_of_additions_becomes_one_wide_row():
    terms = 50
    rows = [[] for _ in range(terms)]  # inputs
    total = 0
    for k in range(terms):
        rows.append([(k, 2.0 + k)])  # t_k = g(x_k)
        t = len(rows) - 1
        rows.append([(t, 1.0)] if k == 0 else [(total, 1.0), (t, 1.0)])  # s = s + t_k
        total = len(rows) - 1
    reduced = eliminate(*program(rows, list(range(terms)), [total]))
    assert reduced.n_rows == terms + 1 and reduced.nnz == 2 * terms + 1
    np.testing.assert_allclose(jacobian(reduced), [2.0 + np.arange(terms)])


@pytest.mark.parametrize("order", ["rising", "falling", "falling, two rise", "shuffled"])
def test_columns_of_a_long_row_ascend(order):
    """Whatever order its cone reads inputs in; most cones, which are walked through backwards, find them falling."""
    n = 60
    reads = {"rising": range(n)[::-1], "falling": range(n), "falling, two rise": [5, 1, *range(n)],
             "shuffled": np.random.default_rng(0).permutation(n).tolist()}[order]
    rows = [[] for _ in range(n)]
    rows += [[(x, 2.0 + x), ((x + 1) % n, -1.0)] for x in reads]
    rows.append([(k, 1.0) for k in range(n, len(rows))])
    reduced = eliminate(*program(rows, list(range(n)), [len(rows) - 1]))
    assert reduced.n_rows == n + 1 and (np.diff(reduced.own.indices[reduced.own.indptr[-2]:]) > 0).all()
    expected = np.zeros(n)
    for x in reads:
        expected[x] += 2.0 + x
        expected[(x + 1) % n] -= 1.0
    np.testing.assert_allclose(jacobian(reduced), [expected], atol=1e-12)


def test_in_degree_one_vanishes():
    rows = [[]] + [[(k, 1.5)] for k in range(20)] + [[(20, 1.0), (10, 1.0)], [(20, 3.0), (5, 1.0)]]
    reduced = eliminate(*program(rows, [0], [21, 22]))
    assert reduced.n_rows == 3 and reduced.nnz == 5  # two outputs on the input
    np.testing.assert_allclose(jacobian(reduced), [[1.5**20 + 1.5**10], [3 * 1.5**20 + 1.5**5]])


def test_constants_and_unused_nodes_vanish():
    rows = [[], [], [(1, np.inf)], [(0, 2.0), (2, np.inf)], [(0, 5.0), (3, 1.0)], [(3, 1.0), (1, 7.0)]]
    reduced = eliminate(*program(rows, [0], [5]))
    assert reduced.n_rows == 2
    np.testing.assert_allclose(jacobian(reduced), [[2.0]])  # a constant's infinite partial does no harm


def test_node_used_twice_within_one_kept_row_vanishes():
    # p = x y;  q = p + x;  r = p q: p is used twice, but only r is kept
    rows = [[], [], [(0, 3.0), (1, 2.0)], [(2, 1.0), (0, 1.0)], [(2, 5.0), (3, 7.0)]]
    reduced = eliminate(*program(rows, [0, 1], [4]))
    assert reduced.n_rows == 3 and reduced.nnz == 5
    np.testing.assert_allclose(jacobian(reduced), [[12 * 3.0 + 7.0, 12 * 2.0]])


def test_node_with_two_heads_stays():
    rows = [[], [], [(0, 3.0), (1, 2.0)], [(2, 1.0), (0, 1.0)], [(2, 5.0), (1, 7.0)]]
    assert eliminate(*program(rows, [0, 1], [3, 4])).n_rows == 5


def test_sent_nodes_inputs_and_outputs_stay():
    rows = [[], [(0, 2.0)], [(1, 3.0)], [(2, 4.0)]]
    reduced = eliminate(*program(rows, [0], [3], sent=[2]))
    assert list(reduced.kept) == [0, 2, 3]
    (rank, ids), = reduced.exchanges[0].sends
    assert rank == 1 and list(ids) == [1]
    np.testing.assert_allclose(dense(reduced), [[1, 0, 0], [-6, 1, 0], [0, -4, 1]])


def test_output_that_is_an_input_and_outputs_twice():
    rows = [[], [(0, 2.0), (0, 3.0)]]
    reduced = eliminate(*program(rows, [0], [0, 1, 1]))
    np.testing.assert_allclose(jacobian(reduced), [[1.0], [5.0], [5.0]])


def test_full_keeps_every_line():
    rows = [[], [(0, 2.0)], [(1, 3.0), (1, 1.0)], [], [(2, 4.0), (0, 1.0)]]
    reduced = eliminate(*program(rows, [0], [4]), full=True)
    assert reduced.n_rows == 5 and reduced.nnz == 5 + 4  # duplicates are added up
    np.testing.assert_allclose(jacobian(reduced), [[2 * 4 * 4 + 1.0]])


def test_empty():
    for full in (False, True):
        reduced = eliminate(*program([], [], []), full=full)
        assert reduced.n_rows == 0 and reduced.nnz == 0


def test_deep_cone_is_swept_once():
    """x_(k+1) = x_k + x_(k-1): paths grow like Fibonacci numbers, work must not."""
    n = 80
    rows = [[], []] + [[(k - 1, 1.0), (k - 2, 1.0)] for k in range(2, n)]
    reduced = eliminate(*program(rows, [0, 1], [n - 1]))
    assert reduced.n_rows == 3
    a, b = 1, 0  # coefficients of x_1 and x_0
    for _ in range(n - 2):
        a, b = a + b, a
    np.testing.assert_allclose(jacobian(reduced), [[b, a]], rtol=1e-14)


@given(seed=strategies.integers(0, 10**6), degree=strategies.floats(0.5, 4.0), n=strategies.integers(5, 60),
       n_out=strategies.integers(1, 5))
def test_random_dags(seed, degree, n, n_out):
    """Right Jacobian, no more nonzeros than before, sorted rows, and refresh = rebuild."""
    rng = np.random.default_rng(seed)
    L = random_matrix(rng, n, 3, degree)
    p = spread(L, np.zeros(n, int), np.arange(3), rng.integers(3, n, n_out), 0)
    full, reduced = eliminate(p.local, p.rows, full=True), eliminate(p.local, p.rows)
    assert reduced.n_rows <= full.n_rows == n and reduced.nnz <= full.nnz
    for r in (full, reduced):
        np.testing.assert_allclose(jacobian(r), p.jacobian(), rtol=0, atol=p.tolerance())
        for i in range(r.n_rows):
            row = r.own.indices[r.own.indptr[i]:r.own.indptr[i + 1]]
            assert row[-1] == i and (np.diff(row) > 0).all()
    values = rng.uniform(-1, 1, len(p.rows.data))
    before = reduced.own.data
    reduced.refresh(values)
    fresh = eliminate(p.local, p.rows._replace(data=values))
    assert reduced.own.data is before
    np.testing.assert_array_equal(reduced.own.indices, fresh.own.indices)
    np.testing.assert_array_equal(reduced.own.data, fresh.own.data)


def test_structure_does_not_depend_on_values():
    p = spread_everywhere(80, 3, 5)[1]
    a, b = eliminate(p.local, p.rows), eliminate(p.local, p.rows._replace(data=np.zeros_like(p.rows.data)))
    for one, other in ((a.own, b.own), (a.ghost, b.ghost)):
        np.testing.assert_array_equal(one.indptr, other.indptr)
        np.testing.assert_array_equal(one.indices, other.indices)


def test_never_more_nonzeros_on_several_ranks():
    for p in spread_everywhere(200, 4, 11):
        full, reduced = eliminate(p.local, p.rows, full=True), eliminate(p.local, p.rows)
        assert reduced.n_rows < full.n_rows and reduced.nnz < full.nnz
        assert reduced.ends[-1] == reduced.n_rows and (np.diff(reduced.ends) >= 0).all()


def test_superstep_ends_of_statements():
    blocks = [Block(0, (4,)), Block(4, (3, 5)), Block(19, (6,))]

    grid = Statement(COPY, (2, 4), Affine(1, 1, (5, 1)), ())  # last node written: 4 + 1 + 5 + 3
    run = ScalarRun(2, np.zeros(4, np.uint8), np.zeros(4, np.int64), np.zeros(4, np.int64), np.empty(0))
    local = LocalTape(blocks, [grid, run], [Step(*bounds, Exchange()) for bounds in ((0, 1, 1), (1, 1, 1), (1, 2, 2))],
                      Portion(np.arange(4), np.arange(4)), Portion(np.array([22]), np.array([0])))
    assert list(superstep_ends(local, 25)) == [0, 14, 14, 25]
