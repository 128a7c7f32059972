"""What must hold of every LocalTape, said as code (for tests and for front ends that make their own)."""

from __future__ import annotations

import numpy as np

from ..tape import OPS, Affine, Const, Indexed, Item, Joint, Operand, ScalarRun
from .local import LocalTape

ARITY = np.array([op.arity for op in OPS])


def check(local: LocalTape) -> None:
    """Raise AssertionError where the LocalTape breaks an invariant.

    Ids are in range; items write own nodes only, each once, and never an input; every own operand of an own
    node has a smaller id, and every operand of a scalar line; nodes of a superstep come before those of the next;
    ghosts are received once, before they are read, in one message from each neighbour and superstep; what is sent is
    owned and computed once the superstep is `ready`; what is read by a guard or part of a portion is owned and
    computed.
    """
    n = local.n_nodes
    assert local.own_bits is None or len(local.own_bits) == -(-n // 8), "own has another length than the local nodes"
    own = np.ones(n, dtype=bool) if local.own is None else local.own
    assert local.n_own == np.count_nonzero(own), "own nodes are counted wrongly"
    for before, block in zip(local.blocks, local.blocks[1:]):
        assert before.first + before.size == block.first, "blocks leave gaps"
    ready = np.zeros(n, dtype=bool)  # computed or received
    written = np.zeros(n, dtype=bool)
    ready[_in_range(local.inputs.ids, n)] = True
    inputs = ready.copy()
    assert (own | ~inputs).all(), "an input on a rank that does not own it"
    assert local.steps and local.steps[0].start == 0 and local.steps[-1].stop == len(local.items), "items left out"
    highest = -1
    for s, step in enumerate(local.steps):
        assert s == 0 or step.start == local.steps[s - 1].stop, "steps leave items out"
        lowest, top = n, highest
        assert step.start <= step.ready <= step.stop, "a superstep is ready before it begins or after it ends"
        for messages in (step.exchange.sends, step.exchange.recvs):
            assert len({rank for rank, _ in messages}) == len(messages), "two messages to one neighbour in a superstep"
        sent = np.concatenate([np.empty(0, np.int64), *(_in_range(ids, n) for _, ids in step.exchange.sends)])
        for i in range(step.start, step.stop):
            item = local.items[i]
            if i == step.ready:
                assert ready[sent].all(), "sends what it does not have yet"
            ids, reads = _out(local, item), _reads(local, item)
            _in_range(ids, n)
            assert own[ids].all(), "an item writes a ghost"
            assert not inputs[ids].any(), "an item writes an input"
            ordered = isinstance(item, ScalarRun)
            if ordered:
                ready[ids] = True
            for read, target in reads:
                _in_range(read, n)
                assert ready[read].all(), "an operand is read before it is there"
                before = read < target if ordered else (read < target)[own[read]]
                assert before.all(), "an operand has no smaller id"  # of a run's lines that holds of ghosts as well
            assert not written[ids].any(), "a node is written twice"
            ready[ids] = written[ids] = True
            lowest, top = min(lowest, int(ids.min(initial=n))), max(top, int(ids.max(initial=-1)))
        assert lowest > highest, "a node comes before those of an earlier superstep"
        highest = top
        for _, ids in step.exchange.sends:
            assert own[ids].all() and ready[ids].all(), "sends what it does not have"
            assert len(np.unique(ids)) == len(ids), "sends a node twice in one message"
        for _, ids in step.exchange.recvs:
            assert not own[_in_range(ids, n)].any() and not ready[ids].any(), "receives what it has"
            ready[ids] = True
    assert ready[own].all(), "an own node is never computed"
    for portion in (local.inputs, local.outputs):
        assert len(portion.ids) == len(portion.positions)
        assert own[_in_range(portion.ids, n)].all(), "a portion holds another rank's node"
    for guard in local.guards:
        assert own[_ids(local, guard.ref, np.shape(guard.expected))].all(), "a guard watches another rank's node"


def _in_range(ids: np.ndarray, n: int) -> np.ndarray:
    assert not ids.size or (ids.min() >= 0 and ids.max() < n), "ids out of range"
    return ids


def _ids(local: LocalTape, ref: Operand, shape: tuple[int, ...]) -> np.ndarray:
    if isinstance(ref, Affine):
        ids = ref.ids(local.blocks[ref.block].first, shape)
        block = local.blocks[ref.block]
        inside = (ids >= block.first) & (ids < block.first + block.size)
        assert inside.all(), "an affine reference leaves its block"
        return ids
    assert isinstance(ref, Indexed)
    assert ref.ids.shape == shape, "index array of another shape"
    return ref.ids


def _out(local: LocalTape, item: Item) -> np.ndarray:
    if isinstance(item, ScalarRun):
        block = local.blocks[item.block]
        assert len(item.op) == len(item.a) == len(item.b) == block.size, "a run does not fill its block"
        return block.first + np.arange(block.size)
    return np.unique(_ids(local, item.out, item.out_shape))


def _reads(local: LocalTape, item: Item) -> list[tuple[np.ndarray, np.ndarray]]:
    """(node read, node that reads it) of every operand."""
    if isinstance(item, ScalarRun):
        out = _out(local, item)
        found = []
        for ref, used in ((item.a, ARITY[item.op] > 0), (item.b, ARITY[item.op] > 1)):
            assert ((ref >= 0) | (-1 - ref < len(item.const)))[used].all(), "a constant that is not there"
            places = used & (ref >= 0)
            found.append((ref[places], out[places]))
        return found
    out = np.ravel(_ids(local, item.out, item.out_shape))
    reads = []
    for k, ref in enumerate(item.operands):
        shape = item.operand_shape(k)
        if isinstance(ref, Const):
            np.broadcast_to(ref.value, shape)
        else:
            read = np.ravel(_ids(local, ref, shape))
            first = np.full(len(read), out.min(initial=local.n_nodes)) if isinstance(item, Joint) else out
            reads.append((read, first))  # each result of a joint statement may read all of its operands
    return reads


__all__ = ["check"]
