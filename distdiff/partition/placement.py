"""What a partition comes to: which rank owns which node, in which superstep, and what that promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from ..graph import Survey
from ..tape import ScalarRun, Tape
from .parcel import Sender
from .plan import Plan
from .quality import Promise, Quality
from .regrouped import given_up
from .schedule import Schedule

COLUMNS = "right-hand sides"  # the layout in which every rank has the whole program


class Scheduled:
    """A schedule of a plan: what it promises, and what `restore` puts back into the plan."""

    def __init__(self, plan: Plan, schedule: Schedule) -> None:
        self.plan, self.apart = plan, schedule.apart
        self.n_steps, self.quality = schedule.finish()
        self.sent, self.sent_ids = schedule.sent, schedule.sent_ids  # values by block, and single nodes
        self._steps, self._node_steps, self._extents = plan.where.steps, plan.where.node_step, plan.extents
        self._run_steps = {block: share.steps for block, share in plan.runs.items()}

    def restore(self) -> None:
        where = self.plan.where
        where.steps, where.node_step, self.plan.extents = self._steps, self._node_steps, self._extents
        for block, share in self.plan.runs.items():
            share.steps = self._run_steps[block]


@dataclass(frozen=True)
class Candidate:
    """One way to lay the tape out, and what it promises."""

    name: str
    quality: Quality
    promise: Promise


@dataclass
class Partition:
    """Which rank owns which node, in which superstep; made by `partition`, used by `distribute` and `localize_all`."""

    n_ranks: int
    name: str
    plan: Plan | None  # None: rank 0 has it all, or every rank
    n_steps: int
    quality: Quality
    promise: Promise = Promise(0.0, 0.0)
    candidates: list[Candidate] = field(default_factory=list)
    scheduled: Scheduled | None = field(default=None, repr=False)
    tried: dict[int, float] = field(default_factory=dict)  # least seconds that a layout promises on so many ranks
    depth: int = 1  # supersteps in one
    again: Callable[[int], Any] | None = field(default=None, repr=False)  # the same for so many ranks, while looking
    survey: Survey | None = field(default=None, repr=False)  # of the tape, for who looks at its structure next

    @property
    def k_star(self) -> int:
        return self.n_steps

    @property
    def everywhere(self) -> bool:
        """Whether every rank has the whole program, for right-hand sides of its own."""
        return self.name == COLUMNS

    @property
    def changed(self) -> np.ndarray:
        """Nodes whose values are no longer the tape's: links of chains of additions that became partial sums."""
        if self.plan is None:
            return np.empty(0, dtype=np.int64)
        sums = self.plan.accumulators
        return np.concatenate([np.empty(0, dtype=np.int64), *self.plan.changed, *([sums.changed()] if sums else [])])

    def owner(self, ids: np.ndarray) -> np.ndarray:
        """The rank that owns each node of the tape."""
        return self._find(ids)[0] if self.plan is not None else np.zeros(np.shape(ids), dtype=np.int32)

    def superstep(self, ids: np.ndarray) -> np.ndarray:
        """The superstep in which each node of the tape is computed."""
        return self._find(ids)[1] if self.plan is not None else np.zeros(np.shape(ids), dtype=np.int32)

    def _find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self.plan is not None
        regrouped = self.plan.regrouped
        return self.plan.where.find(ids if regrouped is None else regrouped.renumbered(np.asarray(ids)))

    def supersede(self, tape: Tape, written: Callable[[ScalarRun, int], ScalarRun] | None = None) -> None:
        """The tape that was partitioned gives up its runs, where the plan has regrouped them on another, which are
        written now.  written(run, its rank): what is to stand for one of these from now on."""
        if self.plan is not None and self.plan.regrouped is not None:
            self.plan.regrouped.write(tape, self.survey.reads if self.survey is not None else None, written)
            for index, item in enumerate(tape.items):
                if isinstance(item, ScalarRun):
                    tape.items[index] = given_up(item)

    def release(self) -> None:
        """Forget how the layout was found: that holds runs which are about to leave."""
        self.survey = None
        if self.plan is not None:
            self.plan.survey = self.plan.accumulators = None

    def sender(self) -> Sender:
        """What makes the structure and the parcels that travel."""
        assert self.plan is not None
        if self.plan.regrouped is not None:
            self.plan.regrouped.write()
        return Sender(self.plan, self.n_steps)

    def summary(self) -> list[dict[str, Any]]:
        """All candidates as plain data, best first."""
        ordered = sorted(self.candidates, key=lambda c: c.promise.seconds)
        return [{"name": c.name, "chosen": c.name == self.name, **c.quality.to_dict(), "job": asdict(c.promise)}
                for c in ordered]


class Judge(Protocol):
    """What a layout promises for the job at hand."""

    repeated: bool  # the job has several right-hand sides at a point, so what takes time to prepare may pay
    again: bool  # ... or other points will follow
    points: int  # that bear what sharing the program out takes; 0: nobody counts that
    known: bool  # rank 0 has the values of the only point there is

    def __call__(self, made: Partition) -> Promise: ...

    def imagined(self, made: Partition) -> Promise:
        """... or one that nobody will have."""

    def least(self, alone: Partition, active: int, items: float) -> float:
        """The least `Promise.seconds` of a layout on so many ranks, with so many items on the busiest; 0.0: unknown."""


__all__ = ["COLUMNS", "Candidate", "Judge", "Partition", "Scheduled"]
