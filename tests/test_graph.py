"""Structure of tapes: depth, width and nonzeros against the dense L, and the names of known shapes."""

from __future__ import annotations

import numpy as np
import tape_oracle
from hypothesis import given
from tapes import CUMSUM, SIN, Writer, tapes

from distdiff import graph
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


@given(tapes(arrays=False))
def test_scalar_programs_are_levelled_exactly(tape):
    found = graph.analyse(tape)
    level = levels_of(pattern(tape))
    assert found.depth == level.max(initial=0)
    assert found.width == np.bincount(level).max(initial=0)


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
    assert (found.lines, found.depth, found.width, found.shape) == (101 * n, 100, n, "grid")
