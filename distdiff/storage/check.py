"""Whether a tape is one: every reference in range and to what was computed before, every node computed exactly once.

Tapes that a trace makes satisfy this by construction.  One that comes from a file has to pass here before anything runs
it, for the compiled loops trust what they are given.  All of it is arithmetic on the structure: no memory is taken for
what the tape stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from ..errors import FormatError
from ..ops import OPS
from ..tape import Affine, Block, Const, Indexed, Joint, Operand, ScalarRun, Statement, Tape, Vector, c_strides

Box = tuple[tuple[int, ...], tuple[int, ...]]  # lo, hi
MOST_LINES = 1 << 40  # lines and nodes a tape may stand for, unless said otherwise: 8 TiB of values
_SCALAR = np.array([op.scalar for op in OPS] + [False] * (256 - len(OPS)))


def check(tape: Tape, most_lines: int = MOST_LINES) -> None:
    """Raise `FormatError` for the first thing that is not as the stages which run a tape take for granted."""
    n_inputs = len(tape.inputs)
    done = n_inputs  # blocks computed completely
    lines = tape.n_inputs
    k = 0
    while k < len(tape.items):
        item = tape.items[k]
        if type(item) is ScalarRun:
            _check_run(tape, item, done)
            k += 1
            lines += item.lines
        elif type(item) is Statement or type(item) is Joint:
            stop = k
            while stop < len(tape.items) and _computes(tape.items[stop], done):
                _check_vector(tape, tape.items[stop], done)
                lines += tape.items[stop].lines
                stop += 1
            if stop == k:
                raise FormatError(f"item {k} computes no block that is next")
            _check_cover(tape.blocks[done], tape.items[k:stop], done)
            k = stop
        else:
            raise FormatError(f"item {k} is a {type(item).__name__}")
        done += 1
        if lines > most_lines:
            raise FormatError(too_large(most_lines))
    if done != len(tape.blocks):
        raise FormatError(f"{len(tape.blocks) - done} blocks are computed by nothing")
    for guard in tape.guards:
        _check_reference(tape, guard.ref, guard.expected.shape, done)
        _check_site(tape, guard.site)
    for leaf in tape.outputs:
        _check_reference(tape, leaf.ref, leaf.shape, done)


def too_large(most_lines: int) -> str:
    """What is said of a tape that stands for more lines than allowed."""
    return f"it stands for more than {most_lines:.3g} lines; load it with most_lines= if that is meant"


def _computes(item: object, block: int) -> bool:
    return (type(item) is Statement or type(item) is Joint) and item.out.block == block


def _check_site(tape: Tape, site: int) -> None:
    if not -1 <= site < len(tape.sites):
        raise FormatError(f"there is no place {site} in the code")


def _extent(ref: Affine, shape: tuple[int, ...]) -> tuple[int, int]:
    """The least and the largest place that a reference touches."""
    steps = [(n - 1) * s for n, s in zip(shape, ref.strides)]
    return ref.offset + sum(s for s in steps if s < 0), ref.offset + sum(s for s in steps if s > 0)


def _check_reference(tape: Tape, ref: Operand, shape: tuple[int, ...], done: int) -> None:
    """An operand over a shape, of nodes in the first `done` blocks."""
    if type(ref) is Const:
        if np.shape(ref.value) not in ((), shape):
            raise FormatError(f"a constant of shape {np.shape(ref.value)} stands where one of shape {shape} is wanted")
    elif type(ref) is Indexed:
        end = tape.blocks[done].first if done < len(tape.blocks) else tape.n_nodes
        if ref.ids.shape != shape or ref.ids.size and not (0 <= ref.ids.min() and ref.ids.max() < end):
            raise FormatError("a reference by index leaves what was computed before")
    else:
        if not 0 <= ref.block < done or len(ref.strides) != len(shape):
            raise FormatError(f"a reference to block {ref.block} leaves what was computed before")
        size = tape.blocks[ref.block].size
        if any(abs(s) > MOST_LINES for s in ref.strides):  # along an axis of length 1 it reaches nothing, but overflows
            raise FormatError("a reference has strides beyond any block")
        low, high = (ref.offset, ref.offset) if 0 in shape else _extent(ref, shape)
        if low < 0 or high >= size + (0 in shape):
            raise FormatError(f"a reference touches places {low} to {high} of a block of {size}")


def _check_vector(tape: Tape, item: Vector, done: int) -> None:
    op, shape, out = item.op, item.shape, item.out
    _check_site(tape, item.site)
    if len(item.operands) != op.arity:
        raise FormatError(f"{op.name} has {len(item.operands)} operands, not {op.arity}")
    if done >= len(tape.blocks) or not all(0 <= s <= MOST_LINES for s in out.strides):
        raise FormatError("a statement's result has no block, runs backwards, or has strides beyond any block")
    for k, ref in enumerate(item.operands):
        _check_reference(tape, ref, item.operand_shape(k), done)
    if op.kind not in ("elementwise", "select", "scan", "joint"):
        raise FormatError(f"{op.name} is of a kind {op.kind} that has no rules here")
    if op.kind == "scan" and 0 not in shape and (
            not shape or any(n > 1 and s == 0 for n, s in zip(shape, out.strides))):
        raise FormatError("a running sum has no axis to run along")


def _check_cover(block: Block, items: list[Vector], number: int) -> None:
    """The boxes that the statements compute must be disjoint and together the whole block."""
    boxes = [_box(block, item) for item in items]
    if sum(prod(b - a for a, b in zip(lo, hi)) for lo, hi in boxes) != block.size:
        raise FormatError(f"not every node of block {number} is computed exactly once")
    if len(boxes) > 1:
        for lo, hi in _meetings(boxes):
            raise FormatError(f"nodes {lo} to {hi} of block {number} are computed twice")


def _box(block: Block, item: Vector) -> Box:
    """The part of its block that a statement computes, as (lo, hi) on the block's axes."""
    strides = c_strides(block.shape)
    lengths = [1] * len(strides)
    rest = item.out.offset
    if rest < 0 or rest > block.size or len(item.out.strides) != len(item.out_shape):
        raise FormatError("a statement's result begins outside its block")
    if 0 in item.out_shape and (block.size == 0 or not item.reduced):  # nothing is computed
        return (0,) * len(strides), (0,) * len(strides)
    if rest == block.size:
        raise FormatError("a statement's result begins outside its block")
    for n, s in zip(item.out_shape, item.out.strides):
        if n == 1 or s == 0 and type(item) is Statement:  # no axis, or a sum
            continue
        k = next((k for k, (own, step) in enumerate(zip(block.shape, strides)) if step == s and own > 1), None)
        if k is None or lengths[k] != 1:
            raise FormatError("a statement's result is no box of its block")
        lengths[k] = n
    low = []
    for own, step, n in zip(block.shape, strides, lengths):
        start, rest = divmod(rest, step) if step else (0, rest)
        if n < 0 or start + n > own:
            raise FormatError("a statement's result leaves its block")
        low.append(start)
    return tuple(low), tuple(a + n for a, n in zip(low, lengths))


def _meetings(boxes: list[Box]) -> Iterator[Box]:
    """Where two boxes meet, if any do."""
    lo, hi = (np.array([box[k] for box in boxes], dtype=np.int64).reshape(len(boxes), -1) for k in (0, 1))
    solid = (hi > lo).all(axis=1)
    lo, hi = lo[solid], hi[solid]
    order = np.argsort(lo[:, 0], kind="stable") if lo.shape[1] else np.arange(len(lo))
    lo, hi = lo[order], hi[order]
    for i in range(len(lo) - 1):  # only boxes that begin before this one ends along the first axis
        stop = int(np.searchsorted(lo[:, 0], hi[i, 0])) if lo.shape[1] else len(lo)
        others = slice(i + 1, stop)
        low, high = np.maximum(lo[others], lo[i]), np.minimum(hi[others], hi[i])
        meet = np.flatnonzero((low < high).all(axis=1))
        if len(meet):
            yield tuple(low[meet[0]].tolist()), tuple(high[meet[0]].tolist())


def _check_run(tape: Tape, run: ScalarRun, done: int) -> None:
    n = len(run.op)
    if run.block != done or done >= len(tape.blocks) or tape.blocks[done].shape != (n,):
        raise FormatError(f"a scalar run of {n} lines computes no block that is next")
    if not len(run.a) == len(run.b) == n:
        raise FormatError("a scalar run has operands for other lines than its own")
    if not _SCALAR[run.op].all():
        raise FormatError("a scalar line has an operation of arrays")
    first, least = tape.blocks[done].first, -len(run.const)
    lines = np.arange(first, first + n)
    for ids in (run.a, run.b):
        if n and (ids.min() < least or (ids >= lines).any()):
            raise FormatError("a scalar line reads what is not there, or not computed yet")
