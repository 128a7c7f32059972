"""Replay tile by tile against statement by statement: the same bits."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from random_tapes import random_tape

import distdiff as dd
from distdiff import fusion
from distdiff.evaluate import evaluate
from distdiff.kernels import tiles
from distdiff.partition import distribute, localize_all, partition
from distdiff.partition.local import whole
from distdiff.tape import UNREAD, Affine
from distdiff.tracing import trace

ALONE = MPI.COMM_SELF


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """The interpreter is loaded, and tiles are so small that every grid has several."""
    patch = pytest.MonkeyPatch()
    patch.setattr(tiles, "TILE", 4)
    patch.setattr(fusion, "LONGEST_ROW", 16)
    patch.setattr(tiles._Loops, "module", None)
    patch.setattr(tiles._Loops, "spent", 10**12)
    assert tiles.worth(0, 0)
    yield
    patch.undo()


def evaluations(local, x, **options):
    """The point tile by tile, and statement by statement."""
    fused = evaluate(local, x, ALONE, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "worth", lambda elements, operations: False)
        plain = evaluate(local, x, ALONE, **options)
    return fused, plain


def same_bits(a, b):
    """Equal bit for bit, -0.0 apart from 0.0; of a NaN only that it is one (its sign depends on operand order)."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    nan = np.isnan(a)
    np.testing.assert_array_equal(nan, np.isnan(b))
    np.testing.assert_array_equal(np.where(nan, 0.0, a).view(np.int64), np.where(nan, 0.0, b).view(np.int64))


def local_of(f, *args):
    """The tape of f, whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return whole(trace(f, args, argnums=tuple(range(len(args)))).tape)


def agrees(f, *args):
    """Both ways give f's own values; returns the groups."""
    local = local_of(f, *args)
    x = np.concatenate([np.ravel(a) for a in args])
    with np.errstate(all="ignore"):
        expected = np.ravel(f(*args))
    for complete in (False, True):
        fused, plain = evaluations(local, x, complete=complete)
        same_bits(fused.outputs(), plain.outputs())
        same_bits(fused.outputs(), expected)
        if complete:
            same_bits(fused.values.flat, plain.values.flat)
    return fusion.Fusion(local).groups


def test_the_interpreter_numbers_operations_as_programs_do():
    from distdiff.kernels import tile_loops

    assert tile_loops.NAMES == tiles.NAMES


@given(st.integers(0, 10**6))
def test_random_tapes_give_the_same_bits(seed):
    tape, x = random_tape(seed, size=16)
    local = whole(tape)
    fused, plain = evaluations(local, x)
    same_bits(fused.outputs(), plain.outputs())
    for b in range(len(tape.blocks)):
        if fused.values.block(b).base is not None and fused.values.complete:
            same_bits(fused.values.block(b), plain.values.block(b))
    again = evaluate(local, x + 0.1, ALONE, values=fused.values)
    assert again.values is fused.values
    full, plain = evaluations(local, x + 0.1, complete=True)
    same_bits(again.outputs(), plain.outputs())
    same_bits(full.values.flat, plain.values.flat)


def burgers(u):
    for _ in range(3):
        left, right = np.roll(u, 1), np.roll(u, -1)
        u = u - 0.01 * (u * (right - left) / 0.3) + 0.1 * (right - 2.0 * u + left) / 0.7**2
    return u


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 9, 23])
def test_a_step_on_a_ring_is_one_group(n):
    groups = agrees(burgers, np.sin(np.arange(n) + 1.0))
    if n > 2:
        assert len(groups) == 3


def test_what_only_a_group_reads_has_no_memory():
    u = np.sin(np.arange(50.0))
    local = local_of(burgers, u)
    fused, plain = evaluations(local, u)
    kept = 50 * 8 * (1 + 2 * 3)  # the point, and a step's right - left and result
    assert fused.values.nbytes == kept < plain.values.nbytes


def backwards(local):
    """The same share with its blocks numbered, and laid out, the other way round, as halos may want them."""
    blocks, last, first = [], len(local.blocks) - 1, 0
    for b in reversed(local.blocks):
        blocks.append(b._replace(first=first))
        first += b.size

    def turned(ref):
        return ref._replace(block=last - ref.block) if type(ref) is Affine else ref

    def ids(portion):
        where = np.searchsorted([b.first for b in local.blocks], portion.ids, side="right") - 1
        return portion._replace(ids=np.array([blocks[last - k].first + i - local.blocks[k].first
                                              for k, i in zip(where, portion.ids)]))

    items = [item._replace(out=turned(item.out), operands=tuple(map(turned, item.operands))) for item in local.items]
    return replace(local, blocks=blocks, items=items, inputs=ids(local.inputs), outputs=ids(local.outputs))


def test_steps_whose_blocks_come_in_falling_order():
    """An operand that an instruction lacks is no address: it would be counted from the end of the table, where scratch
    memory and constants are."""
    first, second = np.linspace(0.5, 1.0, 30), np.linspace(0.1, 0.2, 30)

    def steps(u):
        for _ in range(3):  # four blocks a step, and four addresses beside the blocks: scratch, numbers, two arrays
            u = np.square((np.roll(u, 1) - u) * first + second)
        return u

    u = np.sin(np.arange(30.0))
    local = backwards(local_of(steps, u))
    fused, plain = evaluations(local, u)
    same_bits(fused.outputs(), plain.outputs())
    same_bits(fused.outputs(), steps(u))
    arrays = [None if a is UNREAD else a for a in fused.values._arrays]
    lie_within_their_memory(local, fused.values)
    assert any(a is None for a in arrays) and len(fusion.Fusion(local).groups) == 3
    writer = fusion._Writer(local.blocks, arrays)
    for stretch in fusion.Fusion(local).stretches():
        writer.program(stretch)
    addresses, memory = writer.addresses()
    assert min(writer.touched) >= 0
    assert addresses[len(arrays):].tolist() == [a.__array_interface__["data"][0] for a in memory]


def places(bound):
    """(first byte, byte after the last, whether it is scratch) of all that a bound program reads and writes."""
    found = []
    for first, last, rows, tile, _ in bound.groups:
        for c in bound.code[first:last]:
            used = 2 + (tiles.NAMES[c[0]] not in UNARY) + (tiles.NAMES[c[0]] == "where")
            for top in range(0, rows, tile):
                low, high = max(top, c[1]), min(top + tile, rows, c[2])
                if low >= high:
                    continue
                width, lines = (c[3] * (high - low), 1) if c[4] else (c[3], high - low)
                for at, row, local, step in [(*c[5:8], 1), c[8:12], c[12:16], c[16:20]][:used]:
                    begin = at + row * (low - top * local)
                    ends = begin, begin + row * (lines - 1), begin + 8 * step * (width - 1)
                    ends += (ends[1] + ends[2] - begin,)
                    found.append((min(ends), max(ends) + 8, local))
    return np.unique(np.array(found), axis=0)


UNARY = {"copy", "negative", "square", "absolute", "sqrt", "reciprocal"}


def lie_within_their_memory(local, values):
    """No instruction reads or writes a byte outside the blocks' arrays and the program's own."""
    programs = fusion.Fusion(local).programs([None if a is UNREAD else a for a in values._arrays])
    for _, bound in programs:
        memory = sorted((a.__array_interface__["data"][0], a.nbytes)
                        for a in (*(a for a in values._arrays if a is not UNREAD), *bound.memory) if a.nbytes)
        starts = np.array([start for start, _ in memory])
        ends = np.maximum.accumulate(starts + np.array([n for _, n in memory]))
        found = places(bound)
        where = np.searchsorted(starts, found[:, 0], side="right") - 1
        assert (where >= 0).all() and (found[:, 1] <= ends[where]).all()
        scratch = found[found[:, 2] != 0]
        begin = bound.memory[0].__array_interface__["data"][0]
        assert (scratch[:, 0] >= begin).all() and (scratch[:, 1] <= begin + bound.memory[0].nbytes).all()
    return len(programs)


@given(st.integers(0, 10**6))
def test_programs_of_random_tapes_stay_within_their_memory(seed):
    tape, x = random_tape(seed, size=16)
    local = whole(tape)
    lie_within_their_memory(local, evaluate(local, x, ALONE).values)


@pytest.mark.mpi
@pytest.mark.parametrize("partition", ["contiguous", "axes"])
def test_programs_of_shares_stay_within_their_memory(comm, partition):
    """With halos, deep ones too, and blocks in the order that they want."""
    rng = np.random.default_rng(2)

    def waves(u, v):
        for _ in range(4):
            u = u + 0.1 * (np.roll(v, 1, 0) - np.roll(v, -1, 0)) * np.square(u)
            v = v + 0.1 * (np.roll(u, 1, 1) - np.roll(u, -1, 1)) * np.maximum(v, 0.1)
            u[1:-1] += np.sqrt(np.abs(v[2:] - v[:-2]))
        return np.sum(u * v)

    with dd.linearize(waves, rng.normal(size=(24, 10)), rng.normal(size=(24, 10)), argnums=(0, 1), comm=comm,
                      method="sweep", partition=partition, min_block=8) as lin:
        lin.update(rng.normal(size=(24, 10)), rng.normal(size=(24, 10)))
        assert lie_within_their_memory(lin._at.local, lin._at.point.values) > 0


def in_place(u, k):
    u = u.copy()
    for _ in range(2):
        u[1:-1] = u[1:-1] + k[1:-1] * (u[2:] - 2.0 * u[1:-1] + u[:-2])
        u[0], u[-1] = u[1], u[-2]
        u[::3] *= 0.5
    return u * k


def test_in_place_slices():
    rng = np.random.default_rng(0)
    for n in (3, 8, 31):
        agrees(in_place, rng.normal(size=n), rng.uniform(0.1, 0.3, n))


def plane(u, v):
    flux = np.roll(u, -1, axis=1) * v - u
    other = np.roll(u, -1, axis=0) - v[:, :1] * u[:1]
    u = u + (flux - np.roll(flux, 1, axis=1)) + (other - np.roll(other, 1, axis=0))
    w = u[1:-1, 1:-1] - 0.25 * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2])
    return np.where(w > 0.1, w * w, -w).T / (1.0 + v[1:-1, 1:-1].T)


@pytest.mark.parametrize("shape", [(3, 3), (5, 4), (4, 13), (7, 40), (40, 7)])
def test_stencils_in_the_plane(shape):
    rng = np.random.default_rng(1)
    agrees(plane, rng.normal(size=shape), rng.uniform(0.5, 1.5, shape))


def space(u):
    for axis in range(3):
        u = u + 0.1 * (np.roll(u, 1, axis=axis) - 2.0 * u + np.roll(u, -1, axis=axis))
    return u[:, ::2] * u[:, 1::2]


def test_stencils_in_space():
    agrees(space, np.random.default_rng(2).normal(size=(3, 4, 5)))


@np.errstate(all="ignore")
def test_extreme_values():
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 1.7e308, -1.7e308, 2.0**-1022])
    a, b = (m.ravel() for m in np.meshgrid(values, values))
    binary = [np.add, np.subtract, np.multiply, np.divide, np.greater, np.greater_equal, np.less, np.less_equal,
              np.equal, np.not_equal]
    for ufunc in binary:
        agrees(lambda x, y, u=ufunc: u(x, y) * 1.0, a, b)
        for c in (0.0, -0.0, 2.0, np.inf):
            agrees(lambda x, u=ufunc, c=c: u(x, c) * 1.0, a)
            agrees(lambda x, u=ufunc, c=c: u(c, x) * 1.0, a)
    for ufunc in (np.negative, np.square, np.absolute, np.sqrt, np.reciprocal):
        agrees(lambda x, u=ufunc: u(x), a)
    for ufunc in (np.maximum, np.minimum):  # of 0.0 and -0.0 NumPy takes either
        local = local_of(lambda x, y, u=ufunc: u(x, y), a, b)
        fused, _ = evaluations(local, np.concatenate([a, b]))
        np.testing.assert_array_equal(fused.outputs(), ufunc(a, b))
    agrees(lambda x, y: np.where(x, y, -y), a, b)


def test_empty_and_single_elements():
    agrees(lambda x: np.concatenate([x[:0] * 2.0, x[1:2] * 3.0, (x[:1, None] * x).ravel()]), np.arange(1.0, 6.0))


def test_constant_arrays_of_any_strides():
    rng = np.random.default_rng(3)
    c = rng.normal(size=(6, 10))
    agrees(lambda x: x * c[::2, ::2] + c[0, :5] - c[:3, :1], rng.normal(size=(3, 5)))


def test_operations_without_an_instruction_run_between_groups():
    u = np.linspace(0.1, 1.0, 21)
    groups = agrees(lambda x: np.sum(np.exp(2.0 * x * x) / (1.0 + x)) * x, u)
    assert len(groups) == 3


@pytest.mark.mpi
@pytest.mark.parametrize("f, shape", [(burgers, (57,)), (space, (4, 6, 8))])
def test_ranks_give_the_same_bits(f, shape):
    x = np.random.default_rng(4).normal(size=shape)
    comm = MPI.COMM_WORLD
    with dd.linearize(f, x, comm=comm, min_block=1, method="sweep") as lin:
        for here in (x, x + 0.25):
            if here is not x:
                lin.update(here)
            same_bits(lin.value, f(here))
        with dd.linearize(f, here, comm=ALONE, method="sweep") as single:
            w = np.cos(np.arange(np.size(lin.value))).reshape(np.shape(lin.value))
            np.testing.assert_allclose(lin.vjp(w), single.vjp(w), rtol=1e-12, atol=1e-14)


def waters(z):
    """Two fields on a ring of rows, in steps of several statements."""
    u, v = z, 0.5 * z
    for _ in range(8):
        slope = np.roll(u, -1, axis=0) - u + 0.3 * np.roll(v, 1, axis=1)
        v = v + 0.1 * (slope * u)
        u = u + 0.1 * (v - np.roll(v, 1, axis=0)) + 0.05 * v * v
    return u


@pytest.mark.mpi
@pytest.mark.parametrize("depth", [1, 4])
def test_rows_of_deep_halos_run_together(comm, depth):
    """Blocks that are a few rows longer than others lie on their grid: the same bits as statement by statement."""
    x = np.random.default_rng(5).uniform(0.5, 1.5, (16 * comm.size, 3))
    tape = trace(waters, (x,)).tape
    plan = partition(tape, comm.size, strategy="axes", min_block=1, depth=depth) if comm.rank == 0 else None
    local = distribute(tape if comm.rank == 0 else None, plan, comm) if comm.size > 1 else whole(tape)
    here = x.ravel()[local.inputs.positions]
    fused = evaluate(local, here, comm)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "worth", lambda elements, operations: False)
        plain = evaluate(local, here, comm)
    assert fused.values.is_fused and not plain.values.is_fused
    same_bits(fused.outputs(), plain.outputs())
    local.close()


def test_groups_take_blocks_of_several_lengths():
    tape = trace(waters, (np.ones((32, 3)),)).tape
    for local in localize_all(tape, partition(tape, 2, strategy="axes", min_block=1, depth=4)):
        sizes = [{local.blocks[item.out.block].size for item in local.items[start:stop]}
                 for start, stop in fusion.Fusion(local).spans]
        assert sum(len(each) > 1 for each in sizes) >= 4
