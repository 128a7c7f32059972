"""Accumulators that several ranks' stretches of the trace add to, and how each becomes one partial sum a rank.

A loop over samples, s = s + t_k, is a chain of additions as long as the program.  Cut in trace order, every stretch
would wait for the one before it, for one value.  Eliminating the links, which are used once, makes one wide row of the
chain (see `chains`): where it enters a stretch it starts anew from its term, and its last link becomes the sum of what
the stretches have added up.  The lines of all other runs stay as they are, so a run may go to its rank as a whole.

One pass over the lines, a run at a time: what is held is what the runs' scratch takes, and the chains that may go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..graph import Reads
from ..kernels.graph import follow_chains, weave
from ..ops import ADD, COPY, NEGATIVE, SUBTRACT
from ..tape import Const, Indexed, ScalarRun, Tape, id_type
from .chains import MIN_LINKS, total
from .plan import ARITY, Plan, RunShare

MOST = 1024  # accumulators that are cut; programs with more of them, a grid's points say, don't add up to few numbers


@dataclass
class Crossing:
    """Where a chain goes on in another rank's stretch: from node `link` to node `enters`, its sign at both."""

    link: int
    sign: int
    enters: int


@dataclass
class Chain:
    """A chain that crosses from stretch to stretch, and its last link so far."""

    crossings: list[Crossing] = field(default_factory=list)
    end: int = -1
    sign: int = 1
    length: int = 0


@dataclass
class _Tails:
    """Links that are used once, by a line of a later run: node, links so far, sign, number of the chain, its reader."""

    node: np.ndarray
    length: np.ndarray
    sign: np.ndarray
    chain: np.ndarray
    end: np.ndarray

    def where(self, keep: np.ndarray) -> _Tails:
        return _Tails(*(column[keep] for column in vars(self).values()))

    def with_more(self, other: _Tails) -> _Tails:
        return _Tails(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values())))


@dataclass
class _Walk:
    """What `follow_chains` fills in of a run."""

    run: ScalarRun
    first: int
    columns: tuple[np.ndarray, ...]  # previous, length, sign, origin
    uses: np.ndarray
    tails: _Tails
    enters: np.ndarray
    last: np.ndarray


class Accumulators:
    """The accumulators of a tape whose scalar runs are cut at nodes bounds[1], ..., bounds[-2], one stretch a rank."""

    def __init__(self, tape: Tape, reads: Reads, bounds: np.ndarray, most: int = MOST) -> None:
        self.tape, self.reads, self.bounds = tape, reads, bounds[1:-1]
        self.chains: dict[int, Chain] = {}  # those that cross, by number
        self._numbers = 0
        for walk in self._walks() if self._may_cross() else ():
            self._note(walk)
            if len(self.chains) > most:
                self.chains = {}
                break
        self.chains = {number: chain for number, chain in self.chains.items() if chain.length >= MIN_LINKS}
        self._starts: dict[int, dict[int, int]] = {}  # by block, nodes where a chain starts anew: the link before
        self._ends: dict[int, list[tuple[int, list[tuple[int, int]]]]] = {}  # by block, (last link, [(node, sign)])
        for chain in self.chains.values():
            for crossing in chain.crossings:
                self._starts.setdefault(self._block(crossing.enters), {})[crossing.enters] = crossing.link
            parts = [(crossing.link, chain.sign * crossing.sign) for crossing in chain.crossings]
            self._ends.setdefault(self._block(chain.end), []).append((chain.end, [*parts, (chain.end, 1)]))

    def touches(self, block: int) -> bool:
        """Whether lines of the run that computes a block change."""
        return block in self._starts or block in self._ends

    def rewire(self, plan: Plan, block: int, run: ScalarRun, owner: np.ndarray) -> RunShare:
        """The run with its chains started anew and ended by sums of the stretches' parts."""
        first, fresh = plan.blocks[block].first, plan.n_nodes
        op, a, b, extra = self.altered(block, run, fresh)
        if not extra:
            return plan.share(ScalarRun(block, op, a, b, run.const), owner)
        before, codes, left, right = (np.array(column) for column in zip(*extra))
        added = plan.add_block((len(extra),), block, None)
        plan.where.scatter(added, owner[before])
        nodes, op, a, b, owner, *inner = weave(op, a, b, owner, before, codes, left, right, first, fresh, ARITY > 1)
        return RunShare(nodes, op, a, b, run.const, owner, tuple(inner))

    def altered(self, block: int, run: ScalarRun, fresh: int) -> tuple[np.ndarray, np.ndarray, np.ndarray,
                                                                      list[tuple[int, int, int, int]]]:
        """The run's op, a and b with chains started anew, and the lines (before which line, op, a, b), numbered from
        `fresh` on, that come in for sums of the stretches' parts.
        """
        first, ends = int(self.reads.first[block]), sorted(self._ends.get(block, []))
        ids = id_type(fresh + sum(1 + len(parts) for _, parts in ends))
        op, a, b = run.op.copy(), run.a.astype(ids), run.b.astype(ids)
        for node, turned in self.starts(block, run):
            i = node - first
            term = a[i] if turned else b[i]
            op[i] = NEGATIVE.code if op[i] == SUBTRACT.code and not turned else COPY.code
            a[i] = b[i] = term
        extra: list[tuple[int, int, int, int]] = []
        for node, parts in ends:
            total(node - first, parts, first, fresh, op, a, b, extra)
        return op, a, b, extra

    def starts(self, block: int, run: ScalarRun) -> list[tuple[int, bool]]:
        """Nodes of the run where chains start anew, ascending: whether the chain was their second operand."""
        first, links = int(self.reads.first[block]), self._starts.get(block, {})
        return [(node, bool(run.b[node - first] == links[node])) for node in sorted(links)]

    def ends(self, block: int) -> list[tuple[int, list[int]]]:
        """Nodes of the run that become sums of the stretches' parts, ascending, with the last links of the others."""
        return [(node, [part for part, _ in parts if part != node])
                for node, parts in sorted(self._ends.get(block, []))]

    def changed(self) -> np.ndarray:
        """Nodes whose values are no longer the tape's: links from where a chain starts anew up to its last but one."""
        found = [np.empty(0, dtype=np.int64)]
        starts = {crossing.enters for chain in self.chains.values() for crossing in chain.crossings}
        ends = {chain.end for chain in self.chains.values()}
        going = np.empty(0, dtype=np.int64)  # links of earlier runs whose values have changed
        for walk in self._walks():
            previous, length, _, origin = walk.columns
            here = np.zeros(len(length), dtype=bool)
            for i in np.flatnonzero(length).tolist():
                p, node = int(previous[i]), walk.first + i
                before = walk.tails.node[-2 - p] in going if p < -1 else p >= 0 and here[p]
                here[i] = node not in ends and (node in starts or before)
            changed = walk.first + np.flatnonzero(here)
            going = np.concatenate([going, changed])
            found.append(changed)
        return np.concatenate(found)

    # -- one pass over the lines

    def _may_cross(self) -> bool:
        """Whether a chain can lead from stretch to stretch, as far as what runs read of each other tells."""
        reads = self.reads
        bounds = self.bounds[self.bounds < self.tape.n_nodes]  # ranks that are left out have none
        if not np.isin(bounds, reads.first).all():
            return True  # a run lies on two ranks
        for part in reads.parts():
            some = reads.scalar[reads.block_of(part.ids)] & (part.uses == 1)
            some &= self._owner(part.ids) < self._owner(part.end)
            pairs = np.stack([part.ids[some], part.end[some]])
            pairs = pairs[:, reads.scalar[reads.block_of(pairs[1])]]
            additive = [self._additive(nodes) for nodes in pairs]
            if (additive[0] & additive[1]).any():
                return True
        return False

    def _additive(self, nodes: np.ndarray) -> np.ndarray:
        """Which nodes of runs are additions or subtractions."""
        block, found = self.reads.block_of(nodes), np.zeros(len(nodes), dtype=bool)
        for b in np.unique(block).tolist():
            here = np.flatnonzero(block == b)
            op = self.reads.runs[b].op[nodes[here] - int(self.reads.first[b])]
            found[here] = (op == ADD.code) | (op == SUBTRACT.code)
        return found

    def _block(self, node: int) -> int:
        return int(self.reads.block_of(np.array([node]))[0])

    def _owner(self, nodes: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.bounds, nodes, side="right")

    def _walks(self) -> Iterator[_Walk]:
        """The runs in order, with the chains that may go on in them."""
        reads, pinned = self.reads, self._pinned()
        tails = _Tails(*np.empty((5, 0), dtype=np.int64))
        room: list[np.ndarray] = []
        self._numbers = 0
        for block, run in reads.runs.items():
            n, first = run.lines, int(reads.first[block])
            if not n:
                continue
            if not room or len(room[0]) < n:
                room = [np.empty(n, dtype=kind) for kind in (np.int64, np.int64, np.int64, np.int8, np.int64)]
            uses, *columns = (column[:n] for column in room)
            uses[:] = 0
            exposed, often = reads.read_of(block)
            uses[exposed] = often
            uses[pinned[slice(*np.searchsorted(pinned, [first, first + n]))] - first] += 2
            enters, last = np.full((2, len(tails.node)), -1)
            op, a, b = run.op, run.a, run.b
            follow_chains(op, a, b, ARITY, ADD.code, SUBTRACT.code, first, uses, tails.node, tails.length,
                          tails.sign, *columns, enters, last)
            yield _Walk(run, first, tuple(columns), uses, tails, enters, last)
            _, length, sign, origin = columns
            once = (uses[exposed] == 1) & (length[exposed] > 0)
            at, end = exposed[once], reads.single[reads.exposed(block)].end[once].astype(np.int64)
            old = origin[at] >= 0
            chain = np.where(old, tails.chain[np.where(old, origin[at], 0)] if len(tails.chain) else 0,
                             self._numbers + np.arange(len(at)))
            self._numbers += len(at)
            more = _Tails(first + at, length[at], sign[at].astype(np.int64), chain, end)
            tails = tails.where((tails.end >= first + n) & (enters < 0)).with_more(more)

    def _note(self, walk: _Walk) -> None:
        """Where chains cross in a run, and how far those that have crossed have come."""
        previous, length, sign, origin = walk.columns
        first, tails = walk.first, walk.tails
        here = np.flatnonzero(walk.enters >= 0)
        crosses = self._owner(tails.node[here]) != self._owner(first + walk.enters[here])
        known = np.isin(tails.chain[here], list(self.chains)) if self.chains else np.zeros(len(here), dtype=bool)
        for k in here[crosses]:
            chain = self.chains.setdefault(int(tails.chain[k]), Chain())
            chain.crossings.append(Crossing(int(tails.node[k]), int(tails.sign[k]), int(first + walk.enters[k])))
        for k in here[crosses | known]:
            self._reach(self.chains[int(tails.chain[k])], walk, int(walk.last[k]))
        if self._owner(np.array([first]))[0] == self._owner(np.array([first + len(length) - 1]))[0]:
            return
        owner = self._owner(first + np.arange(len(length)))
        inside = np.flatnonzero(previous >= 0)
        for i in inside[owner[previous[inside]] != owner[inside]]:
            number = self._number(walk, int(origin[i]))
            chain = self.chains.setdefault(number, Chain())
            p = int(previous[i])
            chain.crossings.append(Crossing(first + p, int(sign[p]), first + int(i)))
            self._reach(chain, walk, int(np.flatnonzero(origin == origin[i])[-1]))

    def _number(self, walk: _Walk, origin: int) -> int:
        """The number of a chain that came into the run, or will have when it leaves it, or one of its own."""
        if origin >= 0:
            return int(walk.tails.chain[origin])
        end = walk.first + int(np.flatnonzero(walk.columns[3] == origin)[-1])
        length = walk.columns[1]
        at, _ = self.reads.read_of(walk.run.block)
        at = walk.first + at[(walk.uses[at] == 1) & (length[at] > 0)]
        place = int(np.searchsorted(at, end))
        return self._numbers + place if place < len(at) and at[place] == end else -1 - end

    @staticmethod
    def _reach(chain: Chain, walk: _Walk, line: int) -> None:
        _, length, sign, _ = walk.columns
        chain.end, chain.sign, chain.length = walk.first + line, int(sign[line]), int(length[line])

    def _pinned(self) -> np.ndarray:
        """Nodes of runs that are results, or watched by a guard: ascending."""
        tape, reads, found = self.tape, self.reads, [np.empty(0, dtype=np.int64)]
        for ref, shape in [*((leaf.ref, leaf.shape) for leaf in tape.outputs),
                           *((guard.ref, np.shape(guard.expected)) for guard in tape.guards)]:
            if not isinstance(ref, Const) and (isinstance(ref, Indexed) or reads.scalar[ref.block]):
                found.append(np.ravel(tape.ids(ref, shape)))
        return np.unique(np.concatenate(found))


__all__ = ["Accumulators"]
