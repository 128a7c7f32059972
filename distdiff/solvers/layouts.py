"""What a layout of the tape promises, with the method that suits it: layout and method are chosen together.

    seconds = (sharing + planning) / points + evaluation + values + right-hand sides x solve

Sharing the program out is paid once, however many points follow, and so is what a method finds out of its structure
(planning, of which `values` is done anew): a driver's one derivative pays all of it; where other points may follow, as
`linearize` and `recorded` make them, POINTS are expected.  The method is the one that is cheapest at one of these,
which `solving` takes as well.

A `Judge` is what `partition` asks of every candidate.  A rank's share is not made for that: the busiest rank's `Work`
is read off the whole tape's counts and the layout's, and what elimination keeps off the whole tape with the nodes that
travel.  On the shares themselves the method is chosen once more, by counts of their own.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from ..graph.contractions import seconds_of
from ..machine import Machine
from ..partition import Partition, amounts, whole, with_arrays
from ..partition.candidates import alone
from ..partition.quality import Promise
from ..tape import Affine, Joint, ScalarRun, Tape
from .cost import Cost
from .kept import Elimination, Kept, kept
from .select import choose, costs
from .work import BATCH, Work, counts

SUPERSTEPS = 6  # with deep halos, planned one by one before the others are copies: the ends, and a few between
POINTS = 20  # that follow where anybody says that others may: an optimizer's path, say
NEWTON = 5  # steps of Newton's method that solving an equation takes, where no trace has counted them: quadratic
# convergence brings a guess with one digit to ten in four, and one more makes sure
SURE = 1  # ... that making sure of the solution takes which the trace has found
LOST, MUCH = 1.0, 1.5  # seconds at a point, and times those in another layout, that are worth a warning
EVALUATION = 0.5  # of a layout's quality, an evaluation and a solve: its rates are twice what an evaluation takes, and
# of it nothing else is taken, as methods have solves of their own
BY_LINES = ("array_lines", "scalar_lines", "sum_lines", "gather_lines", "far_reads", "copy_lines", "far_lines",
            "strips", "outer_lines", "indexed", "rule_lines", "vast_terms", "nodes", "nonzeros", "exploded", "inputs",
            "outputs", "implicit", "equations")


class Use(NamedTuple):
    """What a linearization is for: so many right-hand sides at a point, of which so many go through together."""

    columns: int = 1
    together: int = 1
    once: bool = False  # no other point follows

    @property
    def points(self) -> int:
        """How many points a layout serves."""
        return 1 if self.once else POINTS

    @classmethod
    def announced(cls, solves: int | str | Use, n_inputs: int, n_outputs: int) -> Use:
        """As `linearize(solves=...)` says: a number, one after another; or "jacobian", as many as one takes."""
        all_of_it = max(1, min(n_inputs, n_outputs))
        if isinstance(solves, Use):
            return solves if solves.columns else solves._replace(columns=all_of_it)
        if solves == "jacobian":
            return cls(all_of_it, BATCH)
        assert isinstance(solves, int)
        return cls(solves)

    @property
    def split(self) -> int:
        """Right-hand sides that ranks can share out: those that come together."""
        return self.columns if self.together > 1 else 1

    def share(self, n_ranks: int, everywhere: bool) -> int:
        """Right-hand sides that a rank solves for, if so many have the whole program or their part of it."""
        return -(-self.columns // n_ranks) if everywhere and self.together > 1 else self.columns


ONE_JACOBIAN = Use(0, BATCH, once=True)  # as many right-hand sides as it takes, and no other point


class Advice(NamedTuple):
    """The layout that would have been taken for so many right-hand sides at a point, and seconds in both."""

    columns: int
    here: float
    layout: str
    method: str
    there: float

    def __str__(self) -> str:
        return (f"{self.columns} right-hand sides at a point are predicted to take {self.here:.3g} s in this layout "
                f"over ranks and {self.there:.3g} s in '{self.layout}' by {self.method}: pass solves={self.columns} to "
                "linearize")

    @property
    def urgent(self) -> bool:
        """Whether what is lost is worth a warning: a second at a point, and half of what the other layout takes."""
        return self.here > max(LOST + self.there, MUCH * self.there)


class Prospects(NamedTuple):
    """What the layouts that were weighed would promise for more right-hand sides than were announced.  On rank 0."""

    works: dict[str, tuple[Work, float]]  # by layout: the busiest rank's share, seconds of a point beside its solves
    taken: str
    machine: Machine
    points: int

    def advice(self, columns: int, here: Work) -> Advice | None:
        """The best of them where it is another one than was taken, right-hand sides coming one after another.

        here: the share as it turned out, with what elimination keeps of it, which is taken to be the same part of the
        others.
        """
        nodes = max(here.nodes, 1)
        seconds: dict[str, tuple[float, str]] = {}
        for name, (work, evaluation) in self.works.items():
            rows = here.rows / nodes * work.nodes
            job = replace(here, assembled=False) if name == self.taken else replace(
                work, together=1, kept_rows=ceil(rows), kept_nonzeros=ceil(rows * here.entries / max(here.rows, 1.0)))
            method = choose(job, columns, self.machine, points=self.points).method
            found = a_point(method, job, columns, self.machine, self.points)
            seconds[name] = evaluation + (found.seconds or 0.0), method
        best = min(seconds, key=lambda name: seconds[name][0])
        there, method = seconds[best]
        if best == self.taken:
            return None
        return Advice(columns, seconds[self.taken][0], best, method, there)


def a_point(name: str, work: Work, columns: int, machine: Machine, points: int) -> Cost:
    """What a method takes at one of so many points, its structure being found at the first of them.

    A sweep's cost, which tells layouts apart as well, where nobody knows the method's.
    """
    found = costs(work, columns, machine, points)
    return found[name] if found[name].seconds is not None else replace(found["sweep"], reason=found[name].reason)


class Judge:
    """The promise of every layout of a tape, for a use, by the best method or the one asked for.  On rank 0."""

    def __init__(self, tape: Tape, use: Use, machine: Machine, method: str = "auto",
                 preaccumulate: bool = True, known: bool = False) -> None:
        """known: rank 0 has the values of the point, which its trace has left: where no other point follows, a layout
        with all of the program there evaluates nothing, and any other computes them anew."""
        self.use, self.machine, self.method = use, machine, method
        self.points = use.points if use.once else 0  # where points follow, others than were announced may want a layout
        self.repeated, self.again = use.columns > 1, use.columns > 1 or not use.once
        self._preaccumulate, self._tape = preaccumulate, tape
        self.known = known and use.once
        self._local = whole(tape)
        self._works: dict[str, tuple[Work, float]] = {}

    def prospects(self, taken: Partition) -> Prospects:
        """What the layouts judged so far would promise for more right-hand sides."""
        return Prospects(self._works, taken.name, self.machine, self.use.points)

    def __call__(self, made: Partition) -> Promise:
        work = self.work(made)
        arrays = self._arrays if made.plan is not None else None
        sharing = self.machine.seconds(amounts(self._tape, made, arrays))
        beside = self._evaluation(0.0 if self._there(made) else made.quality.seconds)
        beside += sharing / self.use.points + self._newton(made, work)
        if not made.everywhere:  # right-hand sides that come one by one can't be shared out
            self._works[made.name] = work, beside
        return self._promise(made, work, sharing, beside)

    def imagined(self, made: Partition) -> Promise:
        """The same of a layout that nobody will have, which is not among the prospects."""
        known = dict(self._works)
        promise = self(made)
        self._works = known
        return promise

    def _promise(self, made: Partition, work: Work, sharing: float, beside: float) -> Promise:
        columns = self.use.share(made.n_ranks, made.everywhere)
        name = self.method
        if name == "auto":
            name = choose(work, columns, self.machine, points=self.use.points).method
        cost = a_point(name, work, columns, self.machine, self.use.points)
        silent = a_point(name, work, columns, self.machine.without_messages(), self.use.points)
        assert cost.seconds is not None and silent.seconds is not None
        quality = made.quality
        exchanging = EVALUATION * quality.exchanging + cost.seconds - silent.seconds
        return Promise(beside + cost.seconds, quality.memory + cost.memory, exchanging, name, cost.reason, sharing)

    def least(self, alone: Partition, active: int, items: float) -> float:
        """The least `Promise.seconds` of any layout on `active` ranks with so many items on the busiest of them.

        Lines are shared equally, nobody waits and nothing is sent.  0.0: nobody knows, for several right-hand sides and
        for equations.
        """
        if self.use.columns > 1 or self._counts["implicit"]:
            return 0.0
        share, statements = 1.0 / active, items / max(self._counts["items"], 1)
        found = self._counts | {name: ceil(share * self._counts[name]) for name in BY_LINES}
        found |= self._statements(statements)
        found |= {"items": ceil(items), "runs": ceil(statements * found["runs"])}
        work = Work(k_star=1, ranks=alone.n_ranks, together=self.use.together, **found)
        passing = statements * self._calls + share * max(alone.quality.seconds - self._calls, 0.0)
        sharing = self.machine.seconds({"share_call": 1, "share_rank": active, "share_item": items})
        found = costs(work, 1, self.machine, self.use.points)
        if self.method != "auto" and found[self.method].seconds is not None:
            found = {self.method: found[self.method]}
        solve = min(cost.seconds for cost in found.values() if cost.seconds is not None)
        return self._evaluation(passing) + solve + sharing / self.use.points

    def _there(self, made: Partition) -> bool:
        """Whether the values of the one point are there already."""
        return self.known and made.plan is None and not made.everywhere

    def _evaluation(self, quality: float) -> float:
        """Seconds of evaluating a point, from those of a quality."""
        return self.machine.point_call + EVALUATION * quality

    @cached_property
    def _calls(self) -> float:
        """Seconds that all statements take before their first lines, there and back."""
        runs = sum(isinstance(item, ScalarRun) for item in self._tape.items)
        return self.machine.item * runs + seconds_of(self._tape.items, self.machine)[0]

    def _newton(self, made: Partition, work: Work) -> float:
        """Seconds a point of solving equations: in turn where one waits for another; shared ones take as long as on one
        rank, which they are shared for memory."""
        if not self._counts["implicit"]:
            return 0.0
        computing = made.quality.seconds - made.quality.exchanging
        turns = 1.0 if made.plan is None or work.shared else computing / self._alone
        there = made.n_ranks == 1 or self._there(made)  # the solutions that the trace has found
        points, first = self.use.points, 0 if there else SURE
        return turns / points * sum((first + (points - 1) * steps) * seconds for steps, seconds in self._equations)

    @cached_property
    def _equations(self) -> list[tuple[int, float]]:
        """Of every equation: steps of Newton's method, as the trace counted them, and seconds a step."""
        equations = [item for item in self._tape.items if type(item) is Joint and item.op.implicit]
        return [(item.op.steps or NEWTON, self.machine.equation_call + self.machine.equation_entry * item.op.stored(
            item.active)) for item in equations]

    @cached_property
    def _alone(self) -> float:
        """Seconds of an evaluation and a solve on one rank."""
        return alone(self._tape, 1, self.machine).quality.seconds

    def work(self, made: Partition) -> Work:
        """The busiest rank's share, foreseen."""
        quality, found = made.quality, dict(self._counts)
        if made.plan is not None:
            share = quality.max_work / max(self._tape_lines, 1)
            statements = (quality.items - quality.runs) / max(found["items"] - found["runs"], 1)
            found |= {name: ceil(share * found[name]) for name in BY_LINES}
            found |= self._statements(min(statements, 1.0))
            if made.plan.extents is not None:  # statements of a superstep shrink, so whole supersteps are the periods
                share = max(quality.k_star - SUPERSTEPS, 0) / quality.k_star
                found |= {name: round(share * found[name]) for name in ("copies", "sum_copies")}
            found["shared"] = bool(made.plan.shared)
            found |= {"items": quality.items, "runs": quality.runs, "messages": quality.sent_messages,
                      "halo": quality.sent, "interface": ceil(quality.sent * self._inner(made))}
        work = Work(k_star=quality.k_star, ranks=made.n_ranks, waits=quality.waits, together=self.use.together, **found)
        if self.use.columns == 1:
            return work
        rows, nonzeros = self._kept(made) if self._preaccumulate else (work.nodes, work.nodes + work.nonzeros)
        return replace(work, kept_rows=rows, kept_nonzeros=nonzeros)

    def _statements(self, share: float) -> dict[str, int]:
        """Sums and copies among a share of the statements: every rank plans the first periods of its loops itself."""
        whole = self._counts
        sums = round(share * whole["sums"])
        plain = whole["items"] - whole["runs"] - whole["sums"]
        return {"sums": sums, "rules": round(share * whole["rules"]),
                "copies": max(round(share * plain) - (plain - whole["copies"]), 0),
                "sum_copies": max(sums - (whole["sums"] - whole["sum_copies"]), 0)}

    def _inner(self, made: Partition) -> float:
        """The share of what travels that is no input."""
        if made.scheduled is None or not made.quality.halo:
            return 0.0
        sent, ids = made.scheduled.sent, made.scheduled.sent_ids
        inputs = np.array([leaf.ref.block for leaf in self._tape.inputs if isinstance(leaf.ref, Affine)], dtype=int)
        known = int(sent[inputs].sum() + np.isin(ids, self._local.inputs.ids).sum())
        total = int(sent.sum()) + len(ids)  # none by block where halos are deep
        return 1.0 - known / total if total else 1.0

    @cached_property
    def _arrays(self) -> list[int]:
        return with_arrays(self._tape)

    @cached_property
    def _counts(self) -> dict[str, Any]:
        return counts(self._local)

    @cached_property
    def _tape_lines(self) -> int:
        return self._local.lines

    @cached_property
    def _kept_alone(self) -> Kept:
        return kept(self._local)

    def _kept(self, made: Partition) -> Kept:
        """Rows and nonzeros left on the rank with most."""
        if made.plan is None or made.scheduled is None:
            return self._kept_alone
        where, tape = made.plan.where, made.plan.tape
        local, n = self._local if tape is self._tape else whole(tape), len(tape.blocks)
        joined = _joined(made)  # each rank's part of such a sum is a row that others read, though the sum is none
        sent = made.scheduled.sent[:n].copy()
        sent[joined] += where.n[joined]
        walk = Elimination(local, [made.scheduled.sent_ids], sent, made.n_ranks - 1)
        found = np.stack(walk.result())
        shares = np.diff(where.cuts[:n], axis=1) / np.maximum(where.n[:n], 1)[:, None]
        shares[joined] = 1.0
        for block in np.flatnonzero(where.scattered[:n] >= 0).tolist():
            owner = where.node_owner[where.nodes(block)]
            lines = np.bincount(owner, weights=walk.lines.get(block), minlength=made.n_ranks)
            shares[block] = lines / max(lines.sum(), 1)
        rows = (found[0] @ shares).max()
        inputs = np.searchsorted([b.first for b in tape.blocks], local.inputs.ids, side="right") - 1
        shares[inputs] = made.quality.max_work / max(self._tape_lines, 1)  # entries are where they are read
        nonzeros = (found[1] @ shares).max()
        more = 0 if made.plan.extents is None else made.quality.sent  # rows of others that deep halos compute
        return Kept(round(rows) + more, round(nonzeros) + more)


def _joined(made: Partition) -> list[int]:
    """Blocks of the tape that are put together of parts which ranks compute and send (`partition.lower`)."""
    plan, scheduled = made.plan, made.scheduled
    assert plan is not None and scheduled is not None
    n = len(plan.tape.blocks)
    return sorted({ceil(plan.order[part]) for part in (n + np.flatnonzero(scheduled.sent[n:])).tolist()})


__all__ = ["ONE_JACOBIAN", "Advice", "Judge", "Prospects", "Use", "a_point"]
