"""Substitution stretch by stretch: any mixture of rows, any number of columns, any indices, against a dense solve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import solve_triangular

from distdiff.kernels import ghosts as G
from distdiff.kernels import stretches as S
from distdiff.kernels import substitution as K
from distdiff.kernels.stretches import FIRST, NEAR, REACH, ROWS, WIDTH, stretches
from distdiff.preaccumulate import CSR
from distdiff.solvers.passes import unsigned

# Offsets of rows that run as stretches (recurrences, far, mixed, wide), and of rows that can't.
REGULAR = ([1], [2, 1], [32], [100, 40, 1], [77, 33, 32, 2, 1], [200, 199, 150, 149, 120, 90, 64, 63, 40], [50, 50, 1])
IRREGULAR = ([2], [31], [3, 1], [3, 2, 1], [1, 1], [2, 2, 1], [90, 5],
             list(range(40, 60)))


@pytest.fixture(autouse=True)
def search(monkeypatch):
    """Stretches are searched in systems of any size."""
    monkeypatch.setattr(S, "SMALL", 0)


def rows_of(columns: list[list[int]], rng: np.random.Generator) -> CSR:
    """I - L with these columns beside the unit diagonal, some of the values zero."""
    full = [[*sorted(row), i] for i, row in enumerate(columns)]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in full])]).astype(np.int64)
    data = rng.uniform(-0.4, 0.4, indptr[-1])
    data[rng.random(len(data)) < 0.05] = 0.0
    data[indptr[1:] - 1] = 1.0
    return CSR(indptr, np.array([j for row in full for j in row], dtype=np.int64), data)


def reaching(offsets: list[int], start: int, stop: int) -> list[list[int]]:
    return [[i - d for d in offsets if d <= i] for i in range(start, stop)]


def program(rng: np.random.Generator) -> list[list[int]]:
    """A few pieces, each of one kind: regular, irregular, without operands, or random with duplicates."""
    columns: list[list[int]] = []
    for _ in range(rng.integers(1, 6)):
        start, stop = len(columns), len(columns) + int(rng.choice([1, 3, 63, 64, 65, 130, 200]))
        kind = rng.integers(5)
        if kind < 2:
            columns += reaching(REGULAR[rng.integers(len(REGULAR))], start, stop)
        elif kind == 2:
            columns += reaching(IRREGULAR[rng.integers(len(IRREGULAR))], start, stop)
        elif kind == 3:
            columns += [[] for _ in range(start, stop)]
        else:
            columns += [list(rng.integers(0, i, min(i, rng.choice([0, 1, 2, 3, 5, 30])))) if i else []
                        for i in range(start, stop)]
    return columns


def dense(rows: CSR) -> np.ndarray:
    n = len(rows.indptr) - 1
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.repeat(np.arange(n), np.diff(rows.indptr)), rows.indices), rows.data)
    return matrix


def substitute(rows: CSR, ends: np.ndarray, y: np.ndarray, transposed: bool, plain: bool) -> None:
    found = stretches(ends, rows.indptr, rows.indices)
    kernel = {(1, False): K.forward, (1, True): K.backward, (2, False): K.forward_columns,
              (2, True): K.backward_columns}[y.ndim, transposed]
    run = kernel.plain if plain else kernel.compiled
    steps = range(len(ends) - 1)
    for s in reversed(steps) if transposed else steps:
        run(found.steps[s], found.steps[s + 1], found.table, found.offsets,
            unsigned(rows.indptr), unsigned(rows.indices), rows.data, y)


def check(rows: CSR, ends: np.ndarray, m: int | None, plain: bool) -> None:
    """Forward and transposed, m columns (None: a vector), to rounding."""
    n, matrix = len(rows.indptr) - 1, dense(rows)
    b = np.random.default_rng(n).standard_normal((n,) if m is None else (n, m))
    inverse = np.abs(solve_triangular(matrix, np.eye(n), lower=True, unit_diagonal=True))
    grown = 10 * np.finfo(float).eps * inverse @ np.abs(matrix) @ inverse
    for transposed in (False, True):
        y = b.copy()
        with np.errstate(over="raise"):
            substitute(rows, ends, y, transposed, plain)
        expected = solve_triangular(matrix, b, lower=True, unit_diagonal=True, trans=int(transposed)) if b.size else b
        bound = (grown.T if transposed else grown) @ np.abs(b)
        assert np.all(np.abs(y - expected) <= bound)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("seed", range(12))
def test_any_mixture_of_rows(seed, index):
    rng = np.random.default_rng(seed)
    rows = rows_of(program(rng), rng)
    rows.indptr, rows.indices = rows.indptr.astype(index), rows.indices.astype(index)
    n = len(rows.indptr) - 1
    ends = np.array([0, *sorted(rng.integers(0, n + 1, rng.integers(0, 3))), n])  # supersteps may be empty
    for m in (None, 0, 1, 2, 3, 4, 7, 8, 9, 16):
        check(rows, ends, m, plain=False)
    if seed < 3:
        for m in (None, 2, 5, 9):
            check(rows, ends, m, plain=True)


@pytest.mark.parametrize("offsets", REGULAR)
def test_rows_that_reach_back_alike_are_one_stretch(offsets):
    rng = np.random.default_rng(1)
    rows = rows_of(reaching(offsets, 0, 500), rng)
    found = stretches(np.array([0, 500]), rows.indptr, rows.indices)
    last = found.table[-1]
    first = max(offsets)
    assert last[FIRST] == first and last[ROWS] == 500 - first and last[WIDTH] == len(offsets)
    np.testing.assert_array_equal(found.offsets[-len(offsets):], -np.array(offsets))
    assert last[NEAR] == sum(d < S.FAR for d in offsets) and last[REACH] >= S.FAR
    for m in (None, 1, 3, 4, 16):
        check(rows, np.array([0, 500]), m, plain=False)


@pytest.mark.parametrize("offsets", IRREGULAR)
def test_rows_that_wait_for_each_other_are_read_as_stored(offsets):
    rows = rows_of(reaching(offsets, 0, 300), np.random.default_rng(1))
    found = stretches(np.array([0, 300]), rows.indptr, rows.indices)
    assert len(found.table) == 1 and found.table[0, WIDTH] == 0 and found.table[0, ROWS] == 300
    check(rows, np.array([0, 300]), 2, plain=False)


def test_stretches_end_with_their_superstep_and_skip_what_has_no_operands():
    columns = [[] for _ in range(100)] + reaching([90, 1], 100, 400)
    rows = rows_of(columns, np.random.default_rng(1))
    found = stretches(np.array([0, 0, 250, 400]), rows.indptr, rows.indices)
    np.testing.assert_array_equal(found.steps, [0, 0, 1, 2])
    np.testing.assert_array_equal(found.table[:, [FIRST, ROWS]], [[100, 150], [250, 150]])


def test_small_systems_are_not_searched(monkeypatch):
    monkeypatch.setattr(S, "SMALL", 10**9)
    rows = rows_of(reaching([100, 1], 0, 300), np.random.default_rng(1))
    found = stretches(np.array([0, 200, 200, 300]), rows.indptr, rows.indices)
    np.testing.assert_array_equal(found.table[:, [FIRST, ROWS, WIDTH]], [[0, 200, 0], [200, 100, 0]])
    check(rows, np.array([0, 200, 200, 300]), None, plain=True)


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_what_scattered_rows_read_is_fetched_ahead(index):
    """To the last row and the first of every superstep: columns together are columns one by one, unaided."""
    n, rng = 150_000, np.random.default_rng(2)
    counts = rng.integers(0, 5, n)
    counts[:9] = 0
    indptr = np.concatenate([[0], np.cumsum(counts + 1)])
    indices = (rng.random(indptr[-1]) * np.repeat(np.arange(n), counts + 1)).astype(index)
    indices[indptr[1:] - 1] = np.arange(n)
    rows = CSR(indptr.astype(index), indices, rng.uniform(-0.2, 0.2, indptr[-1]))
    ends = np.array([0, 70_000, 70_500, n])
    near = np.concatenate([[0], indices[:-1]])  # the row before, as the first that a row reads
    assert K.scattered(70_500, n - 70_500, indptr, indices, 4) and not K.scattered(0, n, indptr, near, 4)
    for m in (2, 4, 7, 9):
        b = rng.standard_normal((n, m))
        for transposed in (False, True):
            y = b.copy()
            substitute(rows, ends, y, transposed, plain=False)
            for k in (0, m - 1):
                one = b[:, k].copy()
                substitute(rows, ends, one, transposed, plain=False)
                np.testing.assert_allclose(y[:, k], one, rtol=1e-12, atol=1e-12 * np.abs(one).max())


def test_nothing_and_one_row():
    check(rows_of([[]], np.random.default_rng(1)), np.array([0, 1]), None, plain=True)
    for transposed in (False, True):
        for plain in (False, True):
            for shape in ((0,), (0, 2)):
                substitute(rows_of([], np.random.default_rng(1)), np.array([0, 0]), np.zeros(shape), transposed, plain)


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("compiled", [False, True])
def test_ghosts(index, compiled):
    """One parameter for all rows, two in turn, several a row, rows without any: both directions, with and without
    columns."""
    rng = np.random.default_rng(7)
    n, n_ghosts = 60, 9
    for pattern in ([[4]] * n, [[k % 2] for k in range(n)], [[k % n_ghosts] for k in range(n)],
                    [sorted(rng.choice(n_ghosts, rng.integers(0, 4), replace=False)) for _ in range(n)],
                    [[]] * n, [[2], [], [2, 3], [3], [2], [5], [2, 5]] * (n // 7) + [[1]] * (n % 7)):
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in pattern])]).astype(index)
        indices = np.array([g for row in pattern for g in row], dtype=index)
        data = rng.uniform(-1.0, 1.0, len(indices))
        dense = np.zeros((n, n_ghosts))
        np.add.at(dense, (np.repeat(np.arange(n), np.diff(indptr)), indices), data)
        rows = np.flatnonzero(np.diff(indptr)).astype(index)
        for tail, forth, back in ((), G.forward, G.backward), ((3,), G.forward_columns, G.backward_columns):
            y, ghosts = rng.standard_normal((n, *tail)), rng.standard_normal((n_ghosts, *tail))
            for kernel, into, expected in (forth, y, y - dense @ ghosts), (back, ghosts, ghosts - dense.T @ y):
                found = into.copy()
                arrays = (found, y) if kernel is back else (ghosts, found)
                run = kernel.compiled if compiled else kernel.plain
                run(rows, unsigned(indptr), unsigned(indices), data, *arrays)
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
