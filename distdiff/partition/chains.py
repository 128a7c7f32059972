"""Chains of additions s_k = s_(k-1) +- t_k in scalar runs, and how one becomes a sum over ranks.

Eliminating the links, which are used once, makes one wide row of the chain:  s_n = sum_k (+-) t_k.  Where its
terms lie on several ranks, every rank adds up its own into a partial sum p_r, in the links' own nodes, and
the last link's node becomes sum_r (+-) p_r.  The derivative is exact; values agree to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.graph import chain_links, chain_roots, count_uses, split_chains, weave
from ..ops import ADD, COPY, NEGATIVE, SUBTRACT
from ..tape import Affine, Const, Indexed, Operand, ScalarRun, id_type
from .plan import ARITY, Plan, RunShare, binary

MIN_LINKS = 8  # shorter chains stay as they are


@dataclass
class Links:
    """For every line of a run: the earlier link (-1: none), which operand is the term (-1: no link), the
    chain's last link.
    """

    previous: np.ndarray
    term: np.ndarray
    root: np.ndarray


class Chains:
    """Finds chains; counts, once a plan, who else reads the nodes of scalar runs."""

    def __init__(self, plan: Plan) -> None:
        tape = plan.tape
        self.plan = plan
        self.start: dict[int, int] = {}
        total = 0
        for item in tape.items:
            if isinstance(item, ScalarRun):
                self.start[item.block] = total
                total += len(item.op)
        self.uses = np.zeros(total, dtype=np.int64)
        self._base = np.full(len(tape.blocks), -1, dtype=np.int64)
        for block, start in self.start.items():
            self._base[block] = start
        for item in tape.items:
            if isinstance(item, ScalarRun):
                first = tape.blocks[item.block].first
                for ref in (item.a, item.b[binary(item.op)]):
                    self._read(ref[(ref >= 0) & (ref < first)])
            else:
                for k, ref in enumerate(item.operands):
                    self._read_ref(ref, item.operand_shape(k))
        numbers = []  # nodes that results of one number are, of which a loop may leave thousands: counted together
        for ref, shape in [(leaf.ref, leaf.shape) for leaf in tape.outputs] + [
                (guard.ref, np.shape(guard.expected)) for guard in tape.guards]:
            if shape or not isinstance(ref, Affine):
                self._read_ref(ref, shape)
            elif ref.block in self.start:
                numbers.append(tape.blocks[ref.block].first + ref.offset)
        self._read(np.array(numbers, dtype=np.int64))

    def _read_ref(self, ref: Operand, shape: tuple[int, ...]) -> None:
        if isinstance(ref, Const) or (isinstance(ref, Affine) and ref.block not in self.start):
            return
        if isinstance(ref, Indexed):
            self._read(np.ravel(ref.ids))
        else:
            self._read(np.ravel(ref.ids(self.plan.blocks[ref.block].first, shape)))

    def _read(self, ids: np.ndarray) -> None:
        if len(ids):
            block = self.plan.where.block_of(ids)
            base = self._base[block]
            at = (base + ids - self.plan.where.first[block])[base >= 0]
            self.uses += np.bincount(at, minlength=len(self.uses)) if len(at) > 1000 else 0
            if len(at) <= 1000:
                np.add.at(self.uses, at, 1)

    def of(self, block: int, run: ScalarRun, a: np.ndarray, b: np.ndarray) -> Links | None:
        """The chains of a run that are long enough; a, b: operands' positions in the run, -1 outside."""
        additive = (run.op == ADD.code) | (run.op == SUBTRACT.code)
        if np.count_nonzero(additive) < MIN_LINKS:
            return None
        start = self.start[block]
        uses = count_uses(a, b, self.uses[start:start + len(run.op)].copy())
        previous = chain_links(a, b, additive, uses)
        root = chain_roots(previous)
        length = np.bincount(root, minlength=len(root))[root]
        short = length < MIN_LINKS
        previous[short] = -1
        root[short] = np.flatnonzero(short)
        if short.all():
            return None
        term = np.where(previous < 0, -1, np.where(previous == a, 1, 0)).astype(np.int8)
        return Links(previous, term, root)


def rewire(plan: Plan, block: int, run: ScalarRun, links: Links, owner: np.ndarray) -> RunShare | None:
    """Partial sums for the chains whose links lie on several ranks: the run so changed, None if there are none."""
    root = links.root
    crosses = np.flatnonzero(np.bincount(root, weights=owner != owner[root], minlength=len(root)))
    if not len(crosses):
        return None
    n_ranks, first, fresh = plan.n_ranks, plan.blocks[block].first, plan.n_nodes
    slot = np.full(len(root), -1, dtype=np.int64)
    slot[crosses] = np.arange(len(crosses))
    ids = id_type(fresh + 4 * n_ranks * len(crosses))
    op, a, b = run.op.copy(), run.a.astype(ids), run.b.astype(ids)
    last, enters = split_chains(op, a, b, links.previous, links.term, root, owner, slot, n_ranks, first,
                                ADD.code, SUBTRACT.code, COPY.code)
    plan.changed.append(first + np.flatnonzero((slot[root] >= 0) & (slot < 0)))
    extra: list[tuple[int, int, int, int]] = []  # (before line, op, a, b); their ids begin at `fresh`
    for r, links_of, signs in zip(crosses, last.reshape(-1, n_ranks), enters.reshape(-1, n_ranks)):
        parts = [(first + int(p), int(s)) for p, s in zip(links_of, signs) if p >= 0]
        total(int(r), parts, first, fresh, op, a, b, extra)
    before, codes, left, right = (np.array(column) for column in zip(*extra))
    added = plan.add_block((len(extra),), block, None)
    plan.where.scatter(added, owner[before])
    nodes, op, a, b, owner, *inner = weave(op, a, b, owner, before, codes, left, right, first, fresh, ARITY > 1)
    return RunShare(nodes, op, a, b, run.const, owner, tuple(inner))


def total(r: int, parts: list[tuple[int, int]], first: int, fresh: int, op: np.ndarray, a: np.ndarray, b: np.ndarray,
          extra: list[tuple[int, int, int, int]]) -> None:
    """Line r, the last of its chain, becomes the sum of the partial sums `parts` (node, sign), by way of more
    lines.

    The partial sum that line r was itself moves to a new line.
    """
    extra.append((r, int(op[r]), int(a[r]), int(b[r])))
    moved = fresh + len(extra) - 1
    parts = [(moved if node == first + r else node, sign) for node, sign in parts]
    parts.sort(key=lambda part: -part[1])
    total, positive = parts[0]
    if positive < 0:
        extra.append((r, NEGATIVE.code, total, total))
        total = fresh + len(extra) - 1
    for node, sign in parts[1:-1]:
        extra.append((r, ADD.code if sign > 0 else SUBTRACT.code, total, node))
        total = fresh + len(extra) - 1
    node, sign = parts[-1]
    op[r], a[r], b[r] = ADD.code if sign > 0 else SUBTRACT.code, total, node


__all__ = ["MIN_LINKS", "Chains", "Links", "rewire", "total"]
