"""The decision: candidates are made, measured by one quality, and the best predicted one wins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..cancellation import alone
from ..errors import InputError
from ..graph import Survey
from ..machine import Machine, current
from ..tape import ScalarRun, Tape
from ..tracing.memory import give_back
from . import candidates
from .candidates import ALONE, FEW, GROWN, LEVELS, RUN_BY_RUN, SCOTCH, seconds_of_arrays, seconds_of_runs
from .deeper import BETWEEN, SAME, deeper
from .placement import COLUMNS, Candidate, Judge, Partition
from .plan import Kinds
from .quality import Promise
from .scotch import MOST_LINES, available

STRATEGIES = ("auto", "axes", "streaming", "contiguous", LEVELS, GROWN, SCOTCH, "fewer ranks", COLUMNS)
MOST_RANKS = 1 << 14  # on which a layout is made: what ranks send each other is a table of pairs, 1 GB for so many
MOST_IDLE = 1 << 20  # ... and promised, most of them having nothing to do: a few numbers are held for each
MANY_ITEMS = 50_000  # beyond, only the most likely candidates are made
MANY_SMALL = 100  # statements that no rank shares with another, from which looking for layouts of them is weighed
MANY_LINES = 1 << 19  # scalar lines that are placed one by one (60 bytes and 0.3 us a line); beyond, run by run
ROOMY = 1 << 28  # bytes on the fullest rank up to which memory is none either
ONCE = 4  # ... times as many for one derivative, after which they are given back
WORTH = 1.05  # times sooner than rank 0 alone that a spread must be, as predictions are not exact
LOOK_LINE = 1e-8  # seconds a line, at least, of looking for a layout of scalar code run by run and handing runs out: a
# bound, below what `scripts/bench ranks --tools string` shows, and no rate
PATIENCE = 4.0  # times what it may save that looking may take: promises are of what comes after the layout is made
FOLLOW = 20  # points, where others follow, at which growing supersteps may save what it takes
NEAR = 1.25  # times the time of equal shares without messages that layouts may take, so that no more are looked at
FEW_RANKS = 32  # with which looking for the best number of them begins
NEXT_COLUMN = 0.4  # of the first right-hand side's cost, a further one in the same sweep where no judge knows a
# method: `distdiff calibrate --show` has 0.2 (scalar lines) to 1 (lines over arrays that stay in cache)


@dataclass(frozen=True)
class _Sweeping:
    """An evaluation, and a sweep with so many columns."""

    columns: int
    repeated: bool = False
    again: bool = True
    points: int = 0
    known: bool = False

    def __call__(self, made: Partition) -> Promise:
        share = -(-self.columns // made.n_ranks) if made.everywhere else self.columns
        return Promise(_for_columns(made.quality.seconds, share), made.quality.memory)

    imagined = __call__

    def least(self, alone: Partition, active: int, items: float) -> float:
        return 0.0


def table(tape: Tape, ranks: Sequence[int] = (2, 4, 8, 16, 32, 64, 128, 256), columns: int = 1,
          machine: Machine | None = None, strategy: str = "auto", min_block: int | None = None) -> list[dict[str, Any]]:
    """What each number of ranks promises, by the best of its partitions or the one asked for: computed here, without
    MPI.

    One row a number: `ranks`, `name` and the counts of `Quality`; `seconds` and `speedup` over one rank, for as many
    columns.  strategy, min_block: as for `partition`.
    """
    machine = current() if machine is None else machine
    one = _Sweeping(columns)(candidates.alone(tape, 1, machine)).seconds
    rows = []
    for n in ranks:
        made = partition(tape, n, strategy, min_block, machine=machine, columns=columns)
        seconds = made.promise.seconds
        rows.append({"ranks": n, "name": made.name, **made.quality.to_dict(), "seconds": seconds,
                     "speedup": one / seconds if seconds else 1.0})
    return rows


def default_min_block(n_ranks: int) -> int:
    """Lines below which spreading a block costs more messages than it saves work."""
    return 64 * n_ranks


def partition(tape: Tape, n_ranks: int, strategy: str = "auto", min_block: int | None = None,
              depth: int | None = None, machine: Machine | None = None, columns: int = 1,
              judge: Judge | None = None, share: bool = True, known: Sequence[Partition] | None = None) -> Partition:
    """Decide, from structure alone, which rank owns which node.  Not collective: rank 0 calls it.

    strategy: "auto" measures all candidates and takes the one that promises the least seconds; "axes"
    (arrays cut along an axis, scalar lines streamed to where their operands are; "streaming" is the same), "contiguous"
    (stretches in trace order), "levels" (scalar code regrouped level by level, see `regroup`, arrays along an axis),
    "growlocal" (scalar lines by supersteps that grow), "pt-scotch" (by a graph partitioner), "fewer ranks" (rank 0
    alone) or "right-hand sides" (every rank has the whole program and solves for its share of the columns) take that
    one.
    min_block: array blocks with fewer lines have a single owner.
    depth: how many supersteps become one by deep halos; None: as many as pay.
    machine: the rates by which candidates are measured; None: those of the machine at hand.
    columns: right-hand sides that are solved for together; with several, splitting them is a candidate.
    judge: what a layout promises for the job at hand, a method being chosen with it; None: an evaluation and a sweep
    with that many columns.
    share: whether a large elemental may be shared by all ranks (`Elemental.shares`).
    known: what "auto" found for fewer ranks before, for who asks what is promised and nothing else: the partition that
    is returned may be one of them, or be for no more ranks than it gives anything.
    """
    if strategy not in STRATEGIES:
        names = ", ".join(map(repr, STRATEGIES))
        raise InputError(f"partition strategy {strategy!r} does not exist; choose one of {names}")
    if n_ranks < 1 or (min_block is not None and min_block < 1):
        raise InputError(f"n_ranks={n_ranks} and min_block={min_block} must be positive")
    if depth is not None and depth < 1:
        raise InputError(f"depth={depth} must be positive: 1 exchanges after every superstep")
    most = MOST_IDLE if known is not None and strategy in ("auto", "fewer ranks") else MOST_RANKS
    if n_ranks > most:
        raise InputError(f"no layout is made for {n_ranks:,} ranks: what is held for each of them, and for pairs of "
                         f"them, is too much for one process; ask for {most:,} at most")
    machine = current() if machine is None else machine
    contest = _Contest(judge or _Sweeping(columns), machine)
    if strategy == COLUMNS and n_ranks > 1:
        contest.enter(candidates.alone(tape, n_ranks, machine, everywhere=True))
        return contest.winner()
    search = _Search(tape, n_ranks, strategy, min_block, depth, machine, columns, share, contest)
    if n_ranks == 1 or strategy in ("auto", "fewer ranks"):
        contest.enter(candidates.alone(tape, n_ranks, machine))
    if n_ranks > 1 and strategy not in ("auto", "fewer ranks"):
        search.on(n_ranks)
    elif n_ranks > 1 and strategy == "auto":
        if search.settled():
            return contest.winner()
        search.climb({ranks: seconds for made in known or () for ranks, seconds in made.tried.items()})
        for made in known or ():
            contest.add(made)
        if columns > 1:
            everywhere = candidates.alone(tape, n_ranks, machine, everywhere=True)
            contest.enter(everywhere, eligible=everywhere.quality.memory <= ROOMY)
    best = contest.winner()
    if best.n_ranks < n_ranks and known is None:
        assert best.again is not None
        few, best = best, best.again(n_ranks)
        best.name, best.promise, best.candidates = few.name, few.promise, few.candidates
    best.survey, best.tried, best.again = search.survey, search.tried, None
    return best


class _Search:
    """Makes the layouts of one tape and enters them into a contest."""

    def __init__(self, tape: Tape, n_ranks: int, strategy: str, min_block: int | None, depth: int | None,
                 machine: Machine, columns: int, share: bool, contest: _Contest) -> None:
        self.tape, self.n_ranks, self.strategy = tape, n_ranks, strategy
        self.min_block, self.depth, self.machine = min_block, depth, machine
        self.columns, self.share, self.contest = columns, share, contest
        self.kinds, self.survey, self.watch = Kinds(), Survey(tape, machine), alone()
        self.auto = strategy == "auto"
        self.tried: dict[int, float] = {}  # least seconds promised on so many ranks

    def settled(self) -> bool:
        """Whether rank 0 alone, which is in the contest, can't be beaten by more than looking for it takes."""
        tape, n, contest, machine = self.tape, self.n_ranks, self.contest, self.machine
        if _for_columns(contest.alone, self.columns) < 2 * machine.message and not contest.worth_more(tape, n):
            return True  # one exchange costs more
        if self.columns > 1:
            return False
        if run_by_run(tape) and contest.below(machine.look_call + LOOK_LINE * _scalar_lines(tape), n):
            return True  # looking for a layout of its runs does
        return (not run_by_run(tape) and contest.beneath(tape, n, self._small(n))) or contest.below(
            sharing_at_least(2, machine), n) or contest.outdone(tape, _rungs(n))  # looking for a layout costs more;
        # sharing out whatever does; values that are known here would have to be computed there

    def climb(self, tried: dict[int, float]) -> None:
        """Layouts on all ranks, a half of them, a quarter ..., as far as these may be the best.

        Looking costs the more the more ranks there are, so it begins with some FEW_RANKS, goes on to more until two
        doublings have gained nothing, and to fewer as long as these may do.  tried: least seconds on so many ranks,
        where these are known.
        """
        rungs = [active for active in _rungs(self.n_ranks) if active <= MOST_RANKS]
        start = next(k for k, active in enumerate(rungs) if active <= FEW_RANKS or k == len(rungs) - 1)
        best, idle = np.inf, 0
        for active in reversed(rungs[:start + 1]):
            found = tried[active] if active in tried else self.on(active)
            self.tried[active] = found
            if np.isfinite(found):
                best, idle = min(best, found), 0 if SAME * found < best else idle + 1
            if idle == 2:
                break
        for active in rungs[start + 1:]:
            if active not in tried:
                if not self.contest.fewer_might_do(self.tape, active):
                    break
                self.tried[active] = self.on(active)

    def on(self, active: int) -> float:
        """All layouts on the first so many ranks, or the one asked for; the least seconds that one promises."""
        before = self.contest.entered
        self._on(active)
        return min((c.promise.seconds for c in self.contest.since(before)), default=np.inf)

    def _on(self, active: int) -> None:
        tape, contest, machine = self.tape, self.contest, self.machine
        contest.cut = None
        if self.strategy == LEVELS:
            contest.enter(candidates.level_by_level(tape, self.n_ranks, machine, self.survey, self._small(active)))
            return
        for name, settings in _names(tape, active, self.strategy, contest, machine):
            self._look()
            if self.auto and contest.hopeless(tape, name, active, self._small(active)):
                continue
            self._enter(self._made(name, active, settings), active)
        if self.auto and active == self.n_ranks and available() and (
                self.columns * contest.least > _scotch_seconds(tape, active, machine)):
            self._enter(self._made(SCOTCH, active, {}), active)
        if self.auto and contest.again and not run_by_run(tape) and _some(
                tape, _scalar_lines(tape), active, machine) and contest.might_gain(self.survey, active):
            self._enter(self._made(GROWN, active, {}), active)
        if contest.cut is not None:
            cut = contest.cut
            found = deeper(cut, self.depth, contest.judge)
            if found is not None:
                found.again = lambda n: deeper(cut.again(n), found.depth, contest.judge)
                contest.enter(found, asked=self.depth is not None)
        if self.auto and contest.again and run_by_run(tape) and contest.least > NEAR * contest.alone / active:
            self.survey.forget_live()
            give_back()

            def again(n: int, most: float = contest.least) -> Any:
                return candidates.level_by_level(tape, n, machine, self.survey, self._small(active), most, active)

            made = again(active)
            if made is not None:
                made.again = again
                self._enter(made, active)

    def _small(self, active: int) -> int:
        return default_min_block(active) if self.min_block is None else self.min_block

    def _look(self) -> None:
        if self.watch is not None:
            self.watch.look(BETWEEN)

    def _made(self, name: str, active: int, settings: dict[str, Any]) -> Partition:
        """A layout for so many ranks; `again` makes it for more, which get nothing: they only make looking dearer."""
        def again(n: int) -> Partition:
            return candidates.make(self.tape, n, name, active, self._small(active), settings, machine=self.machine,
                                   kinds=self.kinds, survey=self.survey, share=self.share)

        made = again(active)
        made.again = again
        return made

    def _enter(self, made: Partition, active: int) -> None:
        if active < self.n_ranks:
            made.name = f"{made.name} on {active} ranks"
        self.contest.enter(made)


class _Contest:
    """Candidates come in one by one; `winner` has all of them with it, and its supersteps are those of its plan."""

    def __init__(self, judge: Judge, machine: Machine) -> None:
        self.judge, self.again, self.machine = judge, judge.again, machine
        self._best: Partition | None = None
        self._alone: Partition | None = None
        self.cut: Partition | None = None  # the best one that cuts arrays, on as many ranks as are looked at
        self._candidates: list[Candidate] = []

    def enter(self, made: Partition, asked: bool = False, eligible: bool = True) -> None:
        """One more; `asked` for, it takes the place of the one that it was made of."""
        made.promise = self.judge(made)
        if made.name == ALONE:
            self._alone = made
        self._candidates.append(Candidate(made.name, made.quality, made.promise))
        if not eligible:
            return
        if self._best is None or _better(made, self._best) or (asked and self._best is self.cut):
            self._best = made
        cuts = made.plan is not None and not made.name.startswith(("contiguous", LEVELS, GROWN))
        if cuts and (self.cut is None or _better(made, self.cut)):
            self.cut = made

    def add(self, made: Partition) -> None:
        """One whose promise is known, of a contest on fewer ranks."""
        if made.plan is not None and " ranks" not in made.name:
            made = replace(made, name=f"{made.name} on {made.n_ranks} ranks")
        self._candidates.append(Candidate(made.name, made.quality, made.promise))
        if self._best is None or _better(made, self._best):
            self._best = made

    @property
    def entered(self) -> int:
        """How many came so far."""
        return len(self._candidates)

    def since(self, before: int) -> list[Candidate]:
        """Those that came after so many."""
        return self._candidates[before:]

    @property
    def least(self) -> float:
        """Seconds of a pass in the layout in which it takes least."""
        return min((c.quality.seconds for c in self._candidates), default=0.0)

    @property
    def alone(self) -> float:
        """... on rank 0 alone."""
        return next((c.quality.seconds for c in self._candidates if c.name == ALONE), 0.0)

    def worth_more(self, tape: Tape, n_ranks: int) -> bool:
        """Whether sharing out all that the best so far takes, set-up included, might save enough to look for it."""
        assert self._best is not None
        saved = (1.0 - 1.0 / n_ranks) * self._best.promise.seconds
        return PATIENCE * saved > self._looking(tape)

    def might_gain(self, survey: Survey, n_ranks: int) -> bool:
        """Whether growing supersteps may save more than it takes: equal shares would be sooner done than the best so
        far, and there is something to do at a time."""
        assert self._best is not None
        if (1.0 - 1.0 / n_ranks) * self._best.promise.seconds * FOLLOW < self.machine.grow_line * _scalar_lines(
                survey.tape):
            return False
        levels = survey.levels
        at_a_time = levels.work / max(float(levels.time.max(initial=0.0)), np.finfo(float).tiny)
        return self.least > NEAR * self.alone / min(n_ranks, at_a_time)

    def beneath(self, tape: Tape, n_ranks: int, min_block: int) -> bool:
        """Whether a program of many small statements takes longer to be looked at than sharing it out may save."""
        assert self._best is not None
        promise = self._best.promise
        own = sum(item.lines < min_block for item in tape.items)
        saved = (1.0 - 1.0 / n_ranks) * promise.seconds
        return own > MANY_SMALL and promise.memory <= ROOMY and PATIENCE * saved < self.machine.seconds(
            {"look_call": 1, "look_small": own})

    def hopeless(self, tape: Tape, name: str, active: int, min_block: int) -> bool:
        """Whether making a layout of many statements takes longer than it may save over the points that follow.

        Stretches of the trace have a part of all statements, what is cut along axes every statement that is cut.
        """
        assert self._alone is not None and self._best is not None
        here = self._best.promise
        if len(tape.items) <= MANY_SMALL or (self._best is not self._alone and active < self._alone.n_ranks):
            return False  # on fewer ranks: `fewer_might_do` has looked
        cut = 0 if name == "contiguous" else sum(
            not isinstance(item, ScalarRun) and item.lines >= min_block for item in tape.items)
        least = self.judge.least(self._alone, active, cut + (len(tape.items) - cut) / active)
        worth = WORTH if self._best is self._alone and here.memory <= ROOMY else 1.0
        saved = here.seconds / worth - least
        patience = 1.0 if self.judge.points == 1 else PATIENCE
        return least > 0.0 and patience * saved < self._looking(tape)

    def outdone(self, tape: Tape, rungs: list[int]) -> bool:
        """Whether no layout on so many ranks may take less than rank 0 alone, which has the values of the point: what
        it would hold beside these is all the memory that could be saved."""
        assert self._alone is not None
        promise = self._alone.promise
        if not self.judge.known or promise.memory - self._alone.quality.memory > ONCE * ROOMY:
            return False
        return WORTH * min(self.judge.least(self._alone, active, len(tape.items) / active)
                           for active in rungs) > promise.seconds

    def _looking(self, tape: Tape) -> float:
        """Seconds that making one more candidate takes."""
        return self.machine.seconds({"look_call": 1, "look_item": len(tape.items)})

    def fewer_might_do(self, tape: Tape, active: int) -> bool:
        """Whether a layout on so many of the ranks may take less than the best so far: lines shared equally, and of its
        messages as much as the part of the ranks that is left."""
        assert self._alone is not None and self._best is not None
        best = self._best.promise
        least = self.judge.least(self._alone, active, len(tape.items) / active)
        if not least:
            least = self._alone.promise.seconds / active
        left = 0.0 if self._best is self._alone else best.exchanging * active / self._alone.n_ranks
        worth = WORTH if self._best is self._alone else 1.0
        return bool(least + left < best.seconds / worth)

    def below(self, sharing: float, n_ranks: int) -> bool:
        """Whether no layout can save a point its part of what looking for one or sharing out takes at least."""
        assert self._best is not None
        promise, points = self._best.promise, self.judge.points
        room = ONCE * ROOMY if points == 1 else ROOMY
        return points > 0 and promise.memory <= room and (1.0 - 1.0 / n_ranks) * promise.seconds < sharing / points

    def winner(self) -> Partition:
        best = self._best
        assert best is not None
        if best.scheduled is not None:  # a deeper one of the same plan may have come after it
            best.scheduled.restore()
        best.candidates = self._candidates
        return best


def _rungs(n_ranks: int) -> list[int]:
    """All ranks, a half of them, a quarter ..., two or three."""
    return [n_ranks >> k for k in range(n_ranks.bit_length() - 1)]


def sharing_at_least(n_ranks: int, machine: Machine) -> float:
    """Seconds that `distribute` takes whatever the program."""
    return machine.seconds({"share_call": 1, "share_rank": n_ranks})


def _scalar_lines(tape: Tape) -> int:
    return sum(item.lines for item in tape.items if isinstance(item, ScalarRun))


def run_by_run(tape: Tape) -> bool:
    """Whether scalar code is too long to be placed line by line."""
    return _scalar_lines(tape) > MANY_LINES


def wants_petsc(tape: Tape, n_ranks: int, strategy: str = "auto", columns: int = 1) -> bool:
    """Whether `partition` may ask for PT-Scotch, which it does only where all ranks have started PETSc before."""
    if strategy != "auto":
        return strategy == SCOTCH
    machine = current()
    scotch = _scotch_seconds(tape, n_ranks, machine)
    if scotch == float("inf"):
        return False
    alone = _for_columns(candidates.alone(tape, n_ranks, machine).quality.seconds, columns)
    return alone >= 2 * machine.message and scotch < columns * alone


def _scotch_seconds(tape: Tape, n_ranks: int, machine: Machine) -> float:
    """What partitioning the graph of the scalar lines takes at least; infinite where it is not worth a thought."""
    lines = _scalar_lines(tape)
    return machine.scotch_line * lines if _some(tape, lines, n_ranks, machine) and lines <= MOST_LINES else float("inf")


def _some(tape: Tape, lines: int, n_ranks: int, machine: Machine) -> bool:
    """Whether scalar lines are more than what array code ends with, so that layouts may differ by them, and take any
    time beside it.
    """
    return lines >= min(default_min_block(n_ranks), len(tape.items)) > 0 and (
        seconds_of_runs(tape, machine) > FEW * seconds_of_arrays(tape, machine))


def _for_columns(seconds: float, columns: int) -> float:
    """Seconds of an evaluation and of solves for so many columns, from those of a pass, which is half a solve."""
    return seconds * (1.0 + 0.5 * NEXT_COLUMN * (columns - 1))


def _better(new: Partition, old: Partition) -> bool:
    """Sooner done; where that makes no difference, as on a chain, with less memory on the fullest rank."""
    mine, other = new.promise, old.promise
    if old.name == ALONE and max(mine.memory, other.memory) <= ROOMY:
        return WORTH * mine.seconds < other.seconds
    if max(mine.memory, other.memory) > ROOMY and mine.seconds < SAME * other.seconds < SAME**2 * mine.seconds:
        return mine.memory < other.memory
    return mine.seconds < other.seconds


def _names(tape: Tape, active: int, strategy: str, contest: _Contest,
           machine: Machine) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, settings) of layouts, each asked for when those before it are in the contest."""
    arrays = any(not isinstance(item, ScalarRun) for item in tape.items)
    scalars = any(isinstance(item, ScalarRun) for item in tape.items)
    axes = "axes and streaming" if arrays and scalars else "streaming" if scalars else "axes"
    if strategy == SCOTCH and not available():
        raise InputError("PETSc was built without PT-Scotch, or not started by all ranks of MPI.COMM_WORLD (import "
                         "petsc4py.PETSc on all of them); choose another partition strategy, such as 'auto'")
    if strategy != "auto":
        yield axes if strategy in ("axes", "streaming") else strategy, {}
        return
    several = _some(tape, _scalar_lines(tape), active, machine)
    if run_by_run(tape):
        yield "contiguous", {}
        if arrays:
            yield RUN_BY_RUN, {}
        return
    axes = axes if several or not arrays else "axes"
    yield axes, {}
    if len(tape.items) < MANY_ITEMS:
        if any(len(leaf.shape) > 1 and np.argmax(leaf.shape) for leaf in tape.inputs):
            yield f"{axes}, first axis", {"first": "first"}
        if several or contest.judge.repeated or contest.worth_more(tape, active):
            yield "contiguous", {}  # of a time loop, each rank sets up its part alone


__all__ = ["STRATEGIES", "Candidate", "Judge", "Partition", "default_min_block", "partition", "run_by_run",
           "table", "wants_petsc"]
