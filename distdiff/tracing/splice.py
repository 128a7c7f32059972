"""A finished tape put on one that is being written: what was recorded elsewhere, as part of the function that runs.

Its blocks come one after another behind those that are there, so a reference is moved by one number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..ops import COPY
from ..tape import UNREAD, Affine, Block, Const, Guard, Indexed, Joint, Leaf, Operand, ScalarRun, Tape, id_type
from .array import TracedArray, lower, of_ids, plain
from .recorder import Recorder
from .storage import Storage


def plain_leaves(leaves: list[Any]) -> list[np.ndarray]:
    """The values of arguments, traced or not, computed if they were put off."""
    return [np.array(plain(x), dtype=np.float64) for x in leaves]


def splice(rec: Recorder, tape: Tape, leaves: list[Any], values: list[np.ndarray]) -> list[Any]:
    """Append a tape with these (traced or plain) arguments; returns its results, one a leaf.

    values: those of each block's nodes, flat; `UNREAD` where no partial, guard or output reads them.
    """
    for k, (x, leaf) in enumerate(zip(leaves, tape.inputs)):
        own = values[k].reshape(leaf.shape)
        operand = lower(rec, x, leaf.shape)
        rec.emit(COPY, leaf.shape, (operand,), own, read=True)
    move = _Move(rec, tape)
    for block, own in zip(tape.blocks[len(leaves) :], values[len(leaves) :]):
        rec.tape.blocks.append(Block(block.first + move.nodes, block.shape))
        rec.firsts.append(block.first + move.nodes)
        if rec.keep_values:
            rec.values.append(own)
    rec.n = move.nodes + tape.n_nodes
    rec.restart()
    rec.tape.items.extend(map(move.item, tape.items))
    rec.undetermined |= any(item.op.undetermined for item in tape.items if type(item) is Joint)
    rec.tape.guards.extend(Guard(move.ref(g.ref), g.expected, move.site(g.site)) for g in tape.guards)
    return [_result(rec, move, leaf, values) for leaf in tape.outputs]


class _Move:
    """How the tape's numbers become the recorder's: its arguments are the blocks emitted last."""

    def __init__(self, rec: Recorder, tape: Tape) -> None:
        self.blocks = len(rec.firsts) - len(tape.inputs)
        self.nodes = rec.firsts[self.blocks]
        self._ids = id_type(self.nodes + tape.n_nodes)
        self._sites = [rec.site_number(site) for site in tape.sites]

    def site(self, site: int) -> int:
        return self._sites[site] if site >= 0 else -1

    def ref(self, ref: Any) -> Any:
        if type(ref) is Affine:
            return Affine(ref.block + self.blocks, ref.offset, ref.strides)
        return Indexed(ref.ids + self.nodes) if type(ref) is Indexed else ref

    def item(self, item: Any) -> Any:
        if type(item) is ScalarRun:
            a, b = (np.where(ids >= 0, ids + self.nodes, ids).astype(self._ids) for ids in (
                item.a.astype(np.int64), item.b.astype(np.int64)))
            return ScalarRun(item.block + self.blocks, item.op, a, b, item.const)
        operands = tuple(map(self.ref, item.operands))
        if item.op.kind == "joint" and item.op.implicit:
            item.op.forget()  # it was solved elsewhere
        return type(item)(item.op, item.shape, self.ref(item.out), operands, self.site(item.site))


def _result(rec: Recorder, move: _Move, leaf: Leaf, values: list[np.ndarray]) -> Any:
    """A leaf of the results as traced value; a constant as it is."""
    ref: Operand = leaf.ref
    if type(ref) is Const:
        return ref.value
    if type(ref) is Indexed:
        starts = np.array(rec.firsts[move.blocks :])
        owners = np.searchsorted(starts, ref.ids + move.nodes, side="right") - 1
        found = np.empty(ref.ids.shape)
        for block in np.unique(owners):
            here = owners == block
            found[here] = values[block][(ref.ids + move.nodes)[here] - starts[block]]
        return of_ids(rec, found, ref.ids + move.nodes) if leaf.shape else rec.scalar(
            int(ref.ids) + move.nodes, found.item())
    flat = values[ref.block]
    assert flat is not UNREAD
    if not leaf.shape:
        return rec.scalar(rec.firsts[ref.block + move.blocks] + ref.offset, flat[ref.offset].item())
    view = as_strided(flat[ref.offset :], leaf.shape, [8 * s for s in ref.strides])
    owner = rec.tape.blocks[ref.block + move.blocks]
    return TracedArray(Storage.of_block(rec, flat.reshape(owner.shape), ref.block + move.blocks), view)
