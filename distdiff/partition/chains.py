"""Chains of additions s_k = s_(k-1) +- t_k in scalar runs, and how one becomes a sum over ranks.

Eliminating the links, which are used once, makes one wide row of the chain:  s_n = sum_k (+-) t_k.  Where its terms lie on several
ranks, every rank adds up its own into a partial sum p_r, in the links' own nodes, and the last link's node becomes
sum_r (+-) p_r.  The derivative is exact; values agree to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..kernels.graph import chain_links, chain_roots, count_uses
from ..ops import ADD, COPY, NEGATIVE, SUBTRACT
from ..tape import Affine, Const, Indexed, Operand, ScalarRun
from .plan import Plan, RunShare, binary

MIN_LINKS = 8  # shorter chains stay as they are


@dataclass
class Links:
    """For every line of a run: the earlier link (-1: none), which operand is the term (-1: no link), the chain's last link."""

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
                for ref in item.operands:
                    self._read_ref(ref, item.shape)
        for leaf in tape.outputs:
            self._read_ref(leaf.ref, leaf.shape)
        for guard in tape.guards:
            self._read_ref(guard.ref, np.shape(guard.expected))

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
    root, previous = links.root, links.previous
    positions = np.arange(len(root))
    crosses = np.bincount(root, weights=owner != owner[root], minlength=len(root)) > 0
    member = np.flatnonzero(crosses[root])
    if not len(member):
        return None
    first = plan.blocks[block].first
    op, a, b = run.op.copy(), run.a.copy(), run.b.copy()
    gain, sign = _signs(run, links, member)
    order = member[np.argsort(root[member] * plan.n_ranks + owner[member], kind="stable")]
    fresh = np.ones(len(order), dtype=bool)  # the first link of its chain on its rank
    fresh[1:] = (root[order[1:]] != root[order[:-1]]) | (owner[order[1:]] != owner[order[:-1]])
    head = previous[order] < 0
    relative = np.where(head, gain[order], sign[order])  # how what a line contributes enters the total
    leader = np.flatnonzero(fresh)[np.cumsum(fresh) - 1]
    enters = relative[leader]  # ... and how its rank's partial sum does
    term = np.where(links.term[order] == 0, run.a[order], run.b[order])
    link = ~fresh & ~head  # a head is the first of its chain, so it is fresh
    here = order[link]
    a[here] = first + order[np.flatnonzero(link) - 1]
    b[here] = term[link]
    op[here] = np.where(relative[link] == enters[link], ADD.code, SUBTRACT.code)
    alone = fresh & ~head
    op[order[alone]] = COPY.code
    a[order[alone]] = b[order[alone]] = term[alone]

    last = np.ones(len(order), dtype=bool)
    last[:-1] = fresh[1:]
    sums: dict[int, list[tuple[int, int]]] = {}
    for place in np.flatnonzero(last):
        sums.setdefault(int(root[order[place]]), []).append((int(order[place]), int(enters[place])))
    extra: list[tuple[int, int, int, int]] = []  # (before line, op, a, b), ids follow n_nodes
    fresh_id = plan.n_nodes
    for r, partials in sorted(sums.items()):
        extra.append((r, int(op[r]), int(a[r]), int(b[r])))  # the last link's own partial sum moves to a new node
        parts = [(fresh_id + len(extra) - 1, s) if p == r else (first + p, s) for p, s in partials]
        parts.sort(key=lambda part: -part[1])
        total, positive = parts[0]
        if positive < 0:
            extra.append((r, NEGATIVE.code, total, total))
            total = fresh_id + len(extra) - 1
        for node, s in parts[1:-1]:
            extra.append((r, ADD.code if s > 0 else SUBTRACT.code, total, node))
            total = fresh_id + len(extra) - 1
        node, s = parts[-1]
        op[r], a[r], b[r] = ADD.code if s > 0 else SUBTRACT.code, total, node
    before, codes, left, right = (np.array(column) for column in zip(*extra))
    added = plan.add_block((len(extra),), block, None)
    plan.where.scatter(added, owner[before])
    plan.changed.append(first + member[member != root[member]])
    ids = np.insert(first + positions, before, fresh_id + np.arange(len(extra)))
    op, a, b = np.insert(op, before, codes), np.insert(a, before, left), np.insert(b, before, right)
    index = np.empty(len(ids), dtype=np.int64)  # position of each of the block's nodes, then of the fresh ones
    index[np.where(ids < fresh_id, ids - first, len(root) + ids - fresh_id)] = np.arange(len(ids))
    inner = tuple(_inside(ref, first, len(root), fresh_id, index) for ref in (a, np.where(binary(op), b, -1)))
    return RunShare(ids, op, a, b, run.const, np.insert(owner, before, owner[before]), inner)


def _inside(ref: np.ndarray, first: int, n: int, fresh: int, index: np.ndarray) -> np.ndarray:
    """Positions of the operands within the run, -1 outside."""
    place = np.where(ref >= fresh, n + ref - fresh, np.where(ref < first + n, ref - first, -1))
    return np.where(place >= 0, index[np.maximum(place, 0)], -1)


def _signs(run: ScalarRun, links: Links, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(how a link, how its own term) enters the chain's total: +1 or -1."""
    gain = np.ones(len(run.op), dtype=np.int8)
    minus = run.op == SUBTRACT.code
    flips = minus & (links.term == 0)  # t - s: what came before changes its sign
    if flips.any():
        for i in member[::-1]:
            if links.previous[i] >= 0:
                gain[links.previous[i]] = -gain[i] if flips[i] else gain[i]
    sign = np.where(minus & (links.term == 1), -gain, gain)
    return gain, sign


__all__ = ["MIN_LINKS", "Chains", "Links", "rewire"]
