"""Values and partials of a share of the tape, against the independent interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from random_tapes import random_tape
from tape_oracle import check_guards, dense_L
from tape_oracle import evaluate as oracle

import distdiff as dd
from distdiff.errors import InputError
from distdiff.evaluate import Values, evaluate
from distdiff.kernels import scalar
from distdiff.liveness import Pool, kept_blocks
from distdiff.nonfinite import first_nonfinite
from distdiff.ops import ADD, BY_NAME, COPY, CUMSUM, MAX, MULTIPLY
from distdiff.partials import Partials, expand, expand_values
from distdiff.partition.local import whole
from distdiff.strided import BlockIndex
from distdiff.tape import Affine, Block, Const, Guard, Indexed, Leaf, ScalarRun, Site, Statement, Tape, c_strides
from distdiff.tracing import memory

ALONE = MPI.COMM_SELF


def build(*shapes, inputs=1):
    """A tape with blocks of these shapes, the first `inputs` of them inputs, the last the output."""
    tape = Tape()
    for shape in shapes:
        tape.add_block(shape)
    tape.inputs = [Leaf(shapes[i], Affine(i, 0, c_strides(shapes[i]))) for i in range(inputs)]
    tape.outputs = [Leaf(shapes[-1], Affine(len(shapes) - 1, 0, c_strides(shapes[-1])))]
    return tape


def dense(L, n):
    full = np.zeros((n, n))
    np.add.at(full, (np.repeat(np.arange(n), np.diff(L.indptr)), L.indices), L.data)
    return full


def masked_equal(actual, expected, **tolerances):
    """Equal where the expected is finite; the random programs may leave a function's domain."""
    ok = np.isfinite(expected) & (abs(expected) < 1e12)
    np.testing.assert_allclose(actual[ok], expected[ok], **tolerances)


@given(st.integers(0, 10**6))
def test_values_agree_with_the_interpreter(seed):
    tape, x = random_tape(seed)
    expected = oracle(tape, x)
    point = evaluate(whole(tape), x, ALONE, complete=True)
    masked_equal(point.values.flat, expected, rtol=1e-11, atol=1e-11)
    other = x + 0.1
    again = evaluate(whole(tape), other, ALONE, values=point.values)
    assert again.values is point.values
    masked_equal(again.values.flat, oracle(tape, other), rtol=1e-11, atol=1e-11)


@given(st.integers(0, 10**6))
def test_what_solves_read_is_kept(seed):
    """Kept blocks hold the interpreter's values at any point; the others' memory is shared, so their values are not."""
    tape, x = random_tape(seed, size=16)
    local = whole(tape)
    values = None
    for here in (x, x + 0.1):
        point = evaluate(local, here, ALONE, values=values)
        values = point.values
        expected = oracle(tape, here)
        for b, kept in enumerate(kept_blocks(local, BlockIndex(tape.blocks))):
            block = tape.blocks[b]
            if kept:
                masked_equal(values.block(b), expected[block.first : block.first + block.size], rtol=1e-11, atol=1e-11)
        masked_equal(point.outputs(), expected[local.outputs.ids], rtol=1e-11, atol=1e-11)
        masked_equal(point.completed(ALONE).values.flat, expected, rtol=1e-11, atol=1e-11)


@given(st.integers(0, 10**6))
def test_rows_of_L_agree_with_the_interpreter(seed):
    tape, x = random_tape(seed)
    local = whole(tape)
    point = evaluate(local, x, ALONE)
    expected = dense_L(tape, x)
    L = expand(local, point)
    assert L.indptr[-1] == len(L.indices) == len(L.data)
    if np.isfinite(L.data).all():
        np.testing.assert_allclose(dense(L, tape.n_nodes), expected, rtol=1e-9, atol=1e-9)
    structure = L.indptr.copy(), L.indices.copy()
    other = evaluate(local, x * 1.1, ALONE, values=point.values)
    expand_values(local, other, L)
    assert all(np.array_equal(a, b) for a, b in zip(structure, (L.indptr, L.indices)))
    if np.isfinite(L.data).all():
        np.testing.assert_allclose(dense(L, tape.n_nodes), dense_L(tape, x * 1.1), rtol=1e-9, atol=1e-9)


def test_known_values_are_taken_without_copying():
    tape = build((4,), (4,), (4,))
    tape.items += [Statement(ADD, (4,), Affine(1, 0, (1,)), (Affine(0, 0, (1,)), Const(1.0))),
                   Statement(MULTIPLY, (4,), Affine(2, 0, (1,)), (Affine(1, 0, (1,)), Affine(0, 0, (1,))))]
    x = np.arange(4.0)
    known = [x, x + 1.0, None]
    point = evaluate(whole(tape), x, ALONE, known=known)
    assert point.values.block(0) is x or point.values.block(0).base is x
    assert np.shares_memory(point.values.block(1), known[1])
    np.testing.assert_array_equal(point.outputs(), x * (x + 1.0))
    moved = evaluate(whole(tape), np.arange(4.0) + 1.0, ALONE, values=point.values)
    assert moved.values is point.values and np.shares_memory(moved.values.block(1), known[1])
    np.testing.assert_array_equal(moved.outputs(), (np.arange(4.0) + 1.0) * (np.arange(4.0) + 2.0))


def test_known_values_that_share_memory_are_not_written_over():
    tape = build((4,), (4,), (4,))
    tape.items += [Statement(COPY, (4,), Affine(1, 0, (1,)), (Affine(0, 0, (1,)),)),
                   Statement(ADD, (4,), Affine(2, 0, (1,)), (Affine(1, 0, (1,)), Affine(0, 0, (1,))))]
    x = np.arange(4.0)
    point = evaluate(whole(tape), x, ALONE, known=[x, x, 2.0 * x])
    again = evaluate(whole(tape), x + 1.0, ALONE, values=point.values)
    assert again.values is not point.values
    np.testing.assert_array_equal(again.outputs(), 2.0 * (x + 1.0))
    frozen = np.arange(4.0)
    frozen.flags.writeable = False
    point = evaluate(whole(tape), x, ALONE, known=[x.copy(), frozen, 2.0 * x])
    assert evaluate(whole(tape), x + 1.0, ALONE, values=point.values).values is not point.values


def test_a_wrong_number_of_known_values_is_refused():
    tape = build((4,), (4,), (4,))
    x = np.arange(4.0)
    with pytest.raises(InputError):
        Values.of_known(tape.blocks, [x, x, x[:2]])


def test_a_second_point_takes_no_fresh_memory():
    n = 200_000
    tape = build((n,), (n,), (n,), ())
    whole_block = Affine(0, 0, (1,)), Affine(1, 0, (1,)), Affine(2, 0, (1,))
    tape.items += [Statement(MULTIPLY, (n,), whole_block[1], (whole_block[0], whole_block[0])),
                   Statement(ADD, (n,), whole_block[2], (whole_block[1], Const(2.0))),
                   Statement(MULTIPLY, (n,), Affine(3, 0, (0,)), (whole_block[2], whole_block[1]))]
    local, x = whole(tape), np.linspace(0.0, 1.0, n)
    point = evaluate(local, x, ALONE)
    import tracemalloc

    tracemalloc.start()
    evaluate(local, x, ALONE, values=point.values)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * n / 4
    np.testing.assert_allclose(point.outputs(), ((x * x + 2.0) * x * x).sum(), rtol=1e-12)


def test_a_contraction_never_forms_its_iteration_space():
    n = 400
    tape = build((n, n), (n, n), (n, n), inputs=2)
    shape = (n, n, n)
    factors = Affine(0, 0, (n, 1, 0)), Affine(1, 0, (0, n, 1))
    tape.items.append(Statement(MULTIPLY, shape, Affine(2, 0, (n, 0, 1)), factors))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, n, n))
    local, x = whole(tape), np.concatenate([a.ravel(), b.ravel()])
    import tracemalloc

    tracemalloc.start()
    point = evaluate(local, x, ALONE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(point.outputs().reshape(n, n), a @ b, rtol=1e-12, atol=1e-12)
    assert peak < 8 * 4 * n * n


@pytest.mark.parametrize("op", [COPY, MULTIPLY])
def test_sums_over_nothing_are_zero(op):
    tape = build((3, 0), (3,))
    ref = Affine(0, 0, (0, 1))
    tape.items.append(Statement(op, (3, 0), Affine(1, 0, (1, 0)), (ref,) * op.arity))
    point = evaluate(whole(tape), np.empty(0), ALONE)
    np.testing.assert_array_equal(point.outputs(), np.zeros(3))
    assert len(expand(whole(tape), point).data) == 0


def test_guards_say_whether_the_trace_still_holds():
    tape = build((3,), (3,))
    tape.items.append(Statement(BY_NAME["greater"], (3,), Affine(1, 0, (1,)), (Affine(0, 0, (1,)), Const(0.0))))
    tape.guards = [Guard(Affine(1, 0, (1,)), np.array([1.0, 0.0, 1.0]), 7),
                   Guard(Indexed(np.array([3, 5])), np.ones(2), 8)]
    for x in ([1.0, -1.0, 2.0], [1.0, 1.0, 2.0], [-1.0, -1.0, 1.0]):
        point = evaluate(whole(tape), np.array(x), ALONE)
        assert (point.broken_guards() == []) == check_guards(tape, point.completed(ALONE).values.flat)
    assert [g.site for g in point.broken_guards()] == [7, 8]


def test_the_first_nonfinite_is_named():
    tape = build((2,), (2,), (2,))
    tape.sites = [Site("model.py", 3, "f"), Site("model.py", 4, "f")]
    tape.items += [Statement(BY_NAME["sqrt"], (2,), Affine(1, 0, (1,)), (Affine(0, 0, (1,)),), 0),
                   Statement(BY_NAME["exp"], (2,), Affine(2, 0, (1,)), (Affine(1, 0, (1,)),), 1)]
    local = whole(tape)
    assert first_nonfinite(evaluate(local, np.array([1.0, 4.0]), ALONE, complete=True)) is None
    for x, what, item in (([1.0, 0.0], "a partial derivative of sqrt is inf", 0),
                          ([1.0, -1.0], "the result of sqrt is nan", 0), ([1.0, 1e12], "the result of exp is inf", 1)):
        found = first_nonfinite(evaluate(local, np.array(x), ALONE, complete=True))
        assert (found.what, found.order, found.site) == (what, (0, item), tape.sites[item])
    found = first_nonfinite(evaluate(local, np.array([np.nan, 1.0]), ALONE, complete=True))
    assert found.what == "entry 0 of the inputs is nan" and found.order < (0, 0)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_nonfinite_scalar_line_is_named_by_its_node(compiled, monkeypatch):
    monkeypatch.setattr(scalar._Loops, "spent", 10**12 if compiled else -(10**12))
    monkeypatch.setattr(scalar._Loops, "module", None)
    tape = build((2,), (3,))
    codes = np.array([BY_NAME[name].code for name in ("add", "sqrt", "multiply")], dtype=np.uint8)
    tape.items.append(ScalarRun(1, codes, np.array([0, 2, 3]), np.array([1, -1, 3]), np.ones(1)))
    local = whole(tape)
    assert first_nonfinite(evaluate(local, np.array([1.0, 1.0]), ALONE, complete=True)) is None
    for x, what in (([1.0, -2.0], "the result of sqrt is nan"), ([1.0, -1.0], "a partial derivative of sqrt is inf")):
        found = first_nonfinite(evaluate(local, np.array(x), ALONE, complete=True))
        assert (found.what, found.order, found.site, found.node) == (what, (0, 0), None, 3)
    local.run_ids = {1: np.array([40, 50, 60])}
    assert first_nonfinite(evaluate(local, np.array([1.0, -1.0]), ALONE, complete=True)).node == 50


def test_large_values_are_not_taken_for_infinite():
    tape = build((4,), (4,))
    tape.items.append(Statement(COPY, (4,), Affine(1, 0, (1,)), (Affine(0, 0, (1,)),)))
    assert first_nonfinite(evaluate(whole(tape), np.full(4, 1.7e308), ALONE, complete=True)) is None


def test_partials_are_references_where_they_can_be():
    tape = build((3,), (3,), (3,), inputs=2)
    tape.items.append(Statement(MULTIPLY, (3,), Affine(2, 0, (1,)), (Affine(0, 0, (1,)), Affine(1, 0, (1,)))))
    point = evaluate(whole(tape), np.arange(6.0), ALONE)
    pa, pb = Partials(point).of(0)
    assert np.shares_memory(pa, point.values.block(1)) and np.shares_memory(pb, point.values.block(0))
    kept = Partials(point, keep=True)
    assert kept.of(0)[0] is not None and kept.nbytes == 0


def test_a_selection_keeps_every_candidate_and_gives_ties_to_the_first():
    tape = build((2, 3), (2,))
    tape.items.append(Statement(MAX, (2, 3), Affine(1, 0, (1, 0)), (Affine(0, 0, (3, 1)),)))
    point = evaluate(whole(tape), np.array([1.0, 5.0, 5.0, 7.0, 7.0, 0.0]), ALONE)
    L = expand(whole(tape), point)
    np.testing.assert_array_equal(L.data, [0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(L.indices, np.arange(6))


def test_a_scan_reads_its_own_predecessor():
    tape = build((2, 3), (2, 3))
    tape.items.append(Statement(CUMSUM, (2, 3), Affine(1, 0, (3, 1)), (Affine(0, 0, (3, 1)),)))
    x = np.arange(1.0, 7.0)
    point = evaluate(whole(tape), x, ALONE)
    np.testing.assert_array_equal(point.outputs().reshape(2, 3), np.cumsum(x.reshape(2, 3), axis=1))
    assert np.diff(expand(whole(tape), point).indptr).tolist() == [0] * 6 + [1, 2, 2] * 2


def test_a_point_of_the_wrong_size_is_refused():
    with pytest.raises(InputError, match="owns 3 inputs"):
        evaluate(whole(build((3,), (3,))), np.zeros(2), ALONE)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 30), max_size=12))
def test_pieces_cover_a_list_of_nodes(sizes, ids):
    blocks, first = [], 0
    for n in sizes:
        blocks.append(Block(first, (n,)))
        first += n
    ids = np.array([i % first for i in ids] if first else [], dtype=np.int64)
    found = np.full(len(ids), -1)
    for block, where, local in BlockIndex(blocks).pieces(ids):
        found[where] = blocks[block].first + np.arange(blocks[block].size)[local]
    np.testing.assert_array_equal(found, ids)
    assert BlockIndex(blocks).blocks_of(ids) == sorted({block for block, _, _ in BlockIndex(blocks).pieces(ids)})


@given(st.lists(st.integers(0, 5), max_size=40), st.randoms(use_true_random=False))
def test_a_pool_never_gives_a_place_twice(sizes, random):
    pool, taken = Pool(), []
    for n in sizes:
        if taken and random.random() < 0.5:
            pool.give(*taken.pop(random.randrange(len(taken))))
        offset = pool.take(n)
        assert offset + n <= pool.size
        assert all(offset + n <= o or o + m <= offset for o, m in taken if m and n)
        taken.append((offset, n))


def test_large_arrays_do_not_touch():
    """NumPy's vectorized loops take arrays that touch to overlap and go element by element (tanh: 20 times slower)."""
    n = 1 << 16  # whole pages, so that separate mappings would touch as well

    def f(x):
        y = np.tanh(x)
        return np.sum(np.exp(-y) * np.sin(y + x))

    def spans(arrays):
        return sorted({(a.__array_interface__["data"][0], a.nbytes) for a in arrays if a.nbytes})

    taken = [memory.empty(n) for _ in range(6)]
    x = np.linspace(0.0, 1.0, n)
    with dd.linearize(f, x) as lin:
        lin.update(x + 0.1)
        values = lin._at.point.values
        for found in (spans(taken), spans(values.block(b) for b in range(len(values.blocks)))):
            assert len(found) > 2
            assert all(start + size < after for (start, size), (after, _) in zip(found, found[1:]))
        assert lin.value == pytest.approx(f(x + 0.1), rel=1e-14)
