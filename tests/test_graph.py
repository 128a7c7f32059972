"""Structure of tapes: depth, width and nonzeros against the dense L, and the names of known shapes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import tape_oracle
from hypothesis import given
from scipy.sparse.csgraph import connected_components
from tapes import CUMSUM, SIN, Writer, tapes

from distdiff import graph
from distdiff.kernels import graph as kernels
from distdiff.ops import ADD, COPY, MULTIPLY
from distdiff.tape import Affine, Leaf, Statement, Tape


def levels_of(L: np.ndarray) -> np.ndarray:
    """Levels by the definition: 1 + the largest level of a column in the row."""
    level = np.zeros(len(L), dtype=int)
    for i in range(len(L)):
        (columns,) = np.nonzero(L[i])
        level[i] = 1 + level[columns].max() if len(columns) else 0
    return level


def pattern(tape) -> np.ndarray:
    """The pattern of L from the ids alone; entries that cancel or vanish by chance don't."""
    L = np.zeros((tape.n_nodes, tape.n_nodes))
    x = np.random.default_rng(1).uniform(0.3, 0.9, tape.n_inputs)
    tape_oracle.evaluate(tape, x, lambda rows, columns, values: np.add.at(L, (rows, columns), 1.0))
    return L


@given(tapes())
def test_counts_against_the_dense_matrix(tape):
    found = graph.analyse(tape)
    L = pattern(tape)
    level = levels_of(L)
    assert found.nodes == tape.n_nodes and found.lines == tape.lines
    assert found.inputs == tape.n_inputs and found.outputs == tape.n_outputs
    assert found.nonzeros == L.sum()  # an edge twice (a * a) counts twice
    assert found.depth >= level.max(initial=0)  # blocks are units
    assert found.shape in ("chain", "wide", "grid", "tree", "mixed")


def live_widths(tape, L: np.ndarray) -> np.ndarray:
    """By the definition: nodes below p that a node from p on reads, inputs if a node below p reads them as well."""
    width = np.zeros(len(L) + 1, dtype=int)
    for j in range(len(L)):
        (readers,) = np.nonzero(L[:, j])
        if len(readers):
            begin = readers.min() if j < tape.n_inputs else j
            width[begin + 1:readers.max() + 1] += 1
    return width


def weak(L: np.ndarray) -> int:
    return connected_components(sp.csr_matrix(L), directed=False)[0]


@given(tapes(arrays=False))
def test_scalar_programs_are_analysed_exactly(tape):
    found = graph.analyse(tape)
    L, n = pattern(tape), tape.n_inputs
    level = levels_of(L)
    assert found.depth == level.max(initial=0)
    assert found.width == np.bincount(level).max(initial=0)
    edges = found.profile.edges
    assert list(found.profile.nodes) == [np.sum((level >= a) & (level < b)) for a, b in zip(edges, edges[1:])]
    uses = L.sum(axis=0)
    classes = np.where(uses > 0, 1 + np.ceil(np.log2(np.maximum(uses, 1))), 0).astype(int)
    assert list(found.uses.count) == list(np.bincount(classes)) and found.uses.most == uses.max(initial=0)
    width = live_widths(tape, L)
    reads = graph.Reads(tape)
    live = graph.LiveWidth(reads)
    for block, run in reads.runs.items():
        first = tape.blocks[block].first
        np.testing.assert_array_equal(live.within(run), width[first:first + len(run.op)])
    for low, high in ((n, tape.n_nodes), (n + 3, n + 7), (tape.n_nodes // 2,) * 2):
        if n <= low <= high < tape.n_nodes:
            cut = live.narrowest(low, high)
            assert low <= cut.position <= high and cut.width == width[low:high + 1].min() == width[cut.position]
    low, high = tape.n_nodes // 4, tape.n_nodes - tape.n_nodes // 4
    if n <= low:
        assert found.narrowest.width == width[low:high + 1].min()
    assert (found.components, found.pieces) == (weak_by_block(tape, L, True), weak_by_block(tape, L, False))
    lines = levels_of_runs(tape, L)
    assert found.path.scalar_lines == lines.max(initial=0) and found.path.work == tape.lines


def weak_by_block(tape, L: np.ndarray, through_inputs: bool) -> int:
    """Components of scalar programs, whose input arrays are units if lines read them."""
    L, n = L.copy(), tape.n_inputs
    if not through_inputs:
        return weak(L[n:, n:]) if len(L) > n else 0
    for leaf in tape.inputs:
        ids = np.ravel(tape.ids(leaf.ref, leaf.shape))
        if len(ids) and L[:, tape.ids(Affine(leaf.ref.block, 0, (1,)), (tape.blocks[leaf.ref.block].size,))].any():
            L[ids[1:], ids[:-1]] = 1.0
    return weak(L) if len(L) else 0


def levels_of_runs(tape, L: np.ndarray) -> np.ndarray:
    """Lines of runs on the longest path to every node."""
    level = np.zeros(len(L), dtype=int)
    for i in range(tape.n_inputs, len(L)):
        (columns,) = np.nonzero(L[i])
        level[i] = 1 + level[columns].max(initial=0)
    return level


@given(tapes())
def test_blocks_are_units_and_bound_what_single_nodes_would_give(tape):
    found, L = graph.analyse(tape), pattern(tape)
    width = live_widths(tape, L)
    live = graph.LiveWidth(graph.Reads(tape))
    between = np.array([block.first for block in tape.blocks if block.size], dtype=int)
    assert (live.between(between) >= width[between]).all()
    assert found.live >= width[between].max(initial=0)
    assert found.components <= (weak(L) if len(L) else 0)
    assert sum(found.profile.nodes) == tape.n_nodes and sum(found.profile.lines) <= tape.lines  # scans: rounded down
    assert sum(found.uses.count) == tape.n_nodes
    assert found.path.span <= found.path.work and sum(share for _, share in found.path.sites) <= 1 + 1e-12
    assert found.path.span >= found.depth * bool(tape.items)


@pytest.mark.parametrize("seed", range(12))
def test_strong_components_against_scipy(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    matrix = sp.random(n, n, density=rng.uniform(0.5, 2.5) / n, random_state=seed, format="csr")
    if seed % 3 == 0:
        matrix = sp.tril(matrix, format="csr")
    found = graph.strong_components(matrix.indptr, matrix.indices)
    count, labels = connected_components(matrix, connection="strong")
    assert len(found.sizes) == count and len(set(zip(found.component, labels))) == count
    row, column = matrix.nonzero()
    assert (found.component[column] <= found.component[row]).all()


@pytest.mark.parametrize("n", [100, 200])
def test_finding_strong_components_is_linear(n):
    class Counted(np.ndarray):  # every look at an edge
        looks = 0

        def __getitem__(self, k):
            Counted.looks += 1
            return int(np.ndarray.__getitem__(self, k))

    rng = np.random.default_rng(n)
    indices = rng.integers(0, n, 3 * n).view(Counted)
    Counted.looks = 0
    graph.strong_components(np.arange(n + 1) * 3, indices)
    assert Counted.looks <= 3 * n + n  # every edge once, and once more where it led on


def test_a_stencil_in_time_is_a_grid():
    w = Writer()
    u = w.input(1000)
    for _ in range(40):
        u = w.apply(ADD, w.roll(u, 1), w.roll(u, -1))
    w.output(u)
    found = graph.analyse(w.tape)
    assert (found.depth, found.width, found.shape) == (80, 2000, "grid")
    assert found.nonzeros == 40 * 4 * 1000


def test_samples_and_one_sum_are_wide():
    w = Writer()
    x, weights = w.input(500, 20), w.input(20)
    loss = w.reduce(COPY, {0}, w.apply(SIN, w.reduce(MULTIPLY, {1}, x, weights)))
    w.output(loss)
    found = graph.analyse(w.tape)
    assert (found.depth, found.shape) == (3, "wide")
    assert found.nonzeros == 2 * 500 * 20 + 500 + 500


def test_a_scalar_loop_is_a_chain():
    w = Writer()
    x = w.input()
    lines = [(MULTIPLY, int(x.view), 0.5)]
    for k in range(5000):
        lines.append((SIN, ("line", k), 0.0))
    w.output(w.run(lines)[-1:])
    found = graph.analyse(w.tape)
    assert (found.depth, found.width, found.shape) == (5001, 1, "chain")


def test_pairwise_addition_is_a_tree():
    w = Writer()
    a = w.input(64)
    while a.shape[0] > 1:
        a = w.apply(ADD, a[::2], a[1::2])
    w.output(a)
    found = graph.analyse(w.tape)
    assert (found.depth, found.width, found.shape) == (6, 64, "tree")


def test_a_running_sum_is_as_deep_as_long():
    w = Writer()
    w.output(w.apply(CUMSUM, w.input(3, 100)))
    found = graph.analyse(w.tape)
    assert (found.depth, found.width) == (100, 300)
    assert found.nonzeros == 300 + 297


def test_a_hundred_million_lines_take_no_time():
    tape, n = Tape(), 10**6
    previous = tape.add_block((n,))
    tape.inputs.append(Leaf((n,), Affine(previous, 0, (1,))))
    for _ in range(100):
        block = tape.add_block((n,))
        tape.items.append(Statement(SIN, (n,), Affine(block, 0, (1,)), (Affine(previous, 0, (1,)),)))
        previous = block
    found = graph.analyse(tape)
    assert (found.lines, found.depth, found.width, found.shape) == (101 * n, 100, n, "wide")


def test_passes_that_are_small_one_by_one_add_up(monkeypatch):
    compiled = []
    monkeypatch.setattr(kernels, "jit", lambda f: compiled.append(f) or f)
    loop = kernels.Loop(len)
    for _ in range(kernels.OFTEN):
        assert loop(np.empty(kernels.SMALL)) == kernels.SMALL and not compiled
    assert loop(np.empty(1)) == 1 and compiled == [len]
    assert loop(np.empty(2)) == 2 and compiled == [len]


def test_lists_run_as_plain_python_however_often(monkeypatch):
    """Machine code would copy them there and back."""
    monkeypatch.setattr(kernels, "jit", lambda f: pytest.fail("compiled for lists"))
    loop = kernels.Loop(len)
    for _ in range(2 * kernels.OFTEN + 1):
        assert loop([0.0] * kernels.SMALL) == kernels.SMALL
