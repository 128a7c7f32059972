"""Stretches of a tape taken out, put into another, or left out: the same items on other nodes.

`extracted` makes a tape of its own of what was recorded since a mark: the nodes it reads from before become inputs.
`spliced` is the inverse: it records a tape's items once more, on traced inputs.  `pruned` drops what no output, no
guard and no further item depends on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..tape import Affine, Block, Const, Guard, Indexed, Item, Leaf, Operand, ScalarRun, Site, Tape, c_strides, id_type
from .array import TracedArray, compact, is_traced, rearranged, single
from .boxes import whole
from .floating import aside
from .primals import Primals
from .recorder import Evaluate, Recorder


class Nodes(NamedTuple):
    """Consecutive nodes of one block: places lo, ..., hi - 1."""

    block: int
    lo: int
    hi: int


class Moved:
    """Where blocks go: block b, from place `shift[b]` on, becomes block `number[b]` of the other tape."""

    def __init__(self, old: Sequence[Block], number: dict[int, int], shift: dict[int, int],
                 new: Sequence[Block]) -> None:
        self._number, self._shift = number, shift
        blocks = sorted(number)
        self._firsts = np.array([old[b].first for b in blocks], dtype=np.int64)
        self._by = np.array([new[number[b]].first - old[b].first - shift.get(b, 0) for b in blocks], dtype=np.int64)
        self._type = id_type(new[-1].first + new[-1].size if new else 0)

    def ref(self, ref: Any) -> Any:
        if type(ref) is Affine:
            return Affine(self._number[ref.block], ref.offset - self._shift.get(ref.block, 0), ref.strides)
        return Indexed(self.ids(ref.ids)) if type(ref) is Indexed else ref

    def ids(self, ids: np.ndarray) -> np.ndarray:
        return ids + self._by[np.searchsorted(self._firsts, ids, side="right") - 1]

    def item(self, item: Item, site: Callable[[int], int]) -> Item:
        if type(item) is not ScalarRun:
            moved = item.over(item.shape, self.ref(item.out), tuple(map(self.ref, item.operands)))
            return type(moved)(moved.op, moved.shape, moved.out, moved.operands, site(item.site))
        operands = []
        for ids in (item.a, item.b):
            moved = ids.astype(self._type)
            moved[ids >= 0] = self.ids(ids[ids >= 0])
            operands.append(moved)
        return ScalarRun(self._number[item.block], item.op, *operands, item.const)


def _block(item: Item) -> int:
    return item.block if type(item) is ScalarRun else item.out.block


def _reads(item: Item, firsts: np.ndarray, blocks: Sequence[Block]) -> Iterator[Nodes]:
    """The nodes an item reads, block by block: at least those."""
    if type(item) is ScalarRun:
        ids = np.concatenate([item.a, item.b])
        yield from _ranges(ids[ids >= 0], firsts)
        return
    for k, ref in enumerate(item.operands):
        yield from _reads_of(ref, item.operand_shape(k), firsts)


def _reads_of(ref: Operand, shape: tuple[int, ...], firsts: np.ndarray) -> Iterator[Nodes]:
    if type(ref) is Affine and 0 not in shape:
        reach = [(n - 1) * s for n, s in zip(shape, ref.strides)]
        lo, hi = (ref.offset + sum(f(r, 0) for r in reach) for f in (min, max))
        yield Nodes(ref.block, lo, hi + 1)
    elif type(ref) is Indexed:
        yield from _ranges(ref.ids.ravel(), firsts)


def _ranges(ids: np.ndarray, firsts: np.ndarray) -> Iterator[Nodes]:
    owners = np.searchsorted(firsts, ids, side="right") - 1
    for block in np.unique(owners).tolist():
        here = ids[owners == block]
        yield Nodes(block, int(here.min() - firsts[block]), int(here.max() - firsts[block]) + 1)


def _needed(items: Sequence[Item], wanted: set[int], firsts: np.ndarray, blocks: Sequence[Block]) -> list[Item]:
    """Of the items, in order, those that compute the wanted blocks and what they read; `wanted` grows."""
    kept = []
    for item in reversed(items):
        if _block(item) in wanted:
            kept.append(item)
            wanted.update(nodes.block for nodes in _reads(item, firsts, blocks))
    return kept[::-1]


def extracted(rec: Recorder, start: int, unknowns: int, outputs: Sequence[tuple[Operand, tuple[int, ...]]],
              n: int) -> tuple[Tape, list[Nodes]]:
    """(tape, captured): the recorder's items from `start` on as a tape of their own, a function of the first n nodes of
    block `unknowns`.

    outputs: the results and their shapes.  captured: the earlier nodes that it reads, its inputs before the unknowns.
    """
    rec.flush()
    tape, firsts = rec.tape, np.array(rec.firsts, dtype=np.int64)
    wanted: set[int] = set()
    reads = [nodes for ref, shape in outputs for nodes in _reads_of(ref, shape, firsts)]
    wanted.update(nodes.block for nodes in reads)
    items = _needed(tape.items[start:], wanted, firsts, tape.blocks)
    reads += [nodes for item in items for nodes in _reads(item, firsts, tape.blocks)]
    inner = {_block(item) for item in items}
    spans: dict[int, tuple[int, int]] = {}
    for block, lo, hi in reads:
        if block not in inner and block != unknowns:
            known = spans.get(block, (lo, hi))
            spans[block] = min(lo, known[0]), max(hi, known[1])
    captured = [Nodes(block, *spans[block]) for block in sorted(spans)]
    new = Tape()
    number = {nodes.block: new.add_block((nodes.hi - nodes.lo,)) for nodes in captured}
    number[unknowns] = new.add_block((n,))
    new.inputs = [Leaf(block.shape, Affine(b, 0, c_strides(block.shape))) for b, block in enumerate(new.blocks)]
    for item in items:
        if _block(item) not in number:
            number[_block(item)] = new.add_block(tape.blocks[_block(item)].shape)
    moved = Moved(tape.blocks, number, {nodes.block: nodes.lo for nodes in captured}, new.blocks)
    sites = _Sites(tape.sites, new.sites)
    new.items = [moved.item(item, sites) for item in items]
    new.outputs = [Leaf(shape, moved.ref(ref)) for ref, shape in outputs]
    return new, captured


class _Sites:
    """Numbers of sites in another list, into which they are copied as they come up."""

    def __init__(self, old: list[Site], new: list[Site]) -> None:
        self._old, self._new = old, new
        self._known: dict[int, int] = {-1: -1}

    def __call__(self, site: int) -> int:
        if site not in self._known:
            self._known[site] = len(self._new)
            self._new.append(self._old[site])
        return self._known[site]


def primals_of(rec: Recorder) -> Primals:
    """The values of what the recorder has written."""
    if rec.primals is None:
        rec.primals = Primals(rec)
    return rec.primals


def spliced(rec: Recorder, tape: Tape, inputs: Sequence[Any], evaluate: Evaluate) -> list[TracedArray]:
    """The tape's results on traced (or plain) inputs, its items recorded once more on the recorder's tape."""
    rec.flush()
    number, arrays, site = {}, [], rec.site()
    for k, x in enumerate(inputs):
        x = x if is_traced(x) else rec.array_of(np.array(x, dtype=np.float64))
        x = np.reshape(x, -1)
        ref = single(rec, x, x.shape)
        if type(ref) is not Affine or ref.offset or rec.tape.blocks[ref.block].size != x.size or (
                x.size > 1 and ref.strides != (1,)):
            x = compact(x)
            ref = single(rec, x, x.shape)
        number[k] = ref.block
        arrays.append(np.array(x.nd))
        x.st.need()
    rec.flush()
    arrays += [np.empty(block.size) for block in tape.blocks[len(arrays):]]
    with aside():
        evaluate(tape.blocks, tape.items, arrays)
    runs = {item.block for item in tape.items if type(item) is ScalarRun}
    for b in range(len(inputs), len(tape.blocks)):
        number[b] = rec.new_block(tape.blocks[b].shape, arrays[b])
        if b in runs and rec.keep_values:
            rec.values[number[b]] = None  # as those of other runs
    moved = Moved(tape.blocks, number, {}, rec.tape.blocks)
    rec.tape.items += [moved.item(item, lambda _: site) for item in tape.items]
    results = []
    for leaf in tape.outputs:
        n = prod(leaf.shape)
        if type(leaf.ref) is Const:
            results.append(rec.array_of(np.broadcast_to(np.asarray(leaf.ref.value, dtype=np.float64), (n,)).copy()))
            continue
        ref = moved.ref(leaf.ref)
        ids = leaf.ref.ids if type(leaf.ref) is Indexed else leaf.ref.ids(tape.blocks[leaf.ref.block].first, (n,))
        flat = np.concatenate(arrays)[ids]
        results.append(rearranged(rec, flat, whole((n,), ref)))
    return results


def pruned(tape: Tape, values: list[Any] | None) -> tuple[Tape, list[Any] | None, np.ndarray]:
    """The tape (and its values, one array a block) without what nothing depends on; and what the first node of each
    block was before."""
    blocks, firsts = tape.blocks, np.array([block.first for block in tape.blocks], dtype=np.int64)
    wanted: set[int] = {leaf.ref.block for leaf in tape.inputs if type(leaf.ref) is Affine}
    for ref, shape in [(leaf.ref, leaf.shape) for leaf in tape.outputs] + [
            (guard.ref, guard.expected.shape) for guard in tape.guards]:
        wanted.update(nodes.block for nodes in _reads_of(ref, shape, firsts))
    items = _needed(tape.items, wanted, firsts, blocks)
    if len(wanted) == len(blocks):
        return tape, values, firsts
    new = Tape(sites=tape.sites, in_tree=tape.in_tree, out_tree=tape.out_tree)
    number = {b: new.add_block(blocks[b].shape) for b in range(len(blocks)) if b in wanted}
    moved = Moved(blocks, number, {}, new.blocks)
    new.items = [moved.item(item, lambda site: site) for item in items]
    new.inputs = [Leaf(leaf.shape, moved.ref(leaf.ref)) for leaf in tape.inputs]
    new.outputs = [Leaf(leaf.shape, moved.ref(leaf.ref)) for leaf in tape.outputs]
    new.guards = [Guard(moved.ref(guard.ref), guard.expected, guard.site) for guard in tape.guards]
    return new, None if values is None else [values[b] for b in number], firsts[list(number)]


__all__ = ["Nodes", "extracted", "primals_of", "pruned", "spliced"]
