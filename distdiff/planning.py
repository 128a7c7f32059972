"""What more ranks would bring: a function traced once, laid out on numbers of ranks that nobody has yet.

    seconds = (sharing + planning) / points + evaluation + values + right-hand sides x solve

Messages (LogGP) and waiting are included; `solvers.layouts` says which method, and how many points.

Nothing is solved, and no MPI is needed: layouts are counted, and counts are turned into seconds by the machine's rates
(`distdiff calibrate`).  Candidates and judge are those of `linearize` on so many ranks, so it would take the same.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from . import graph
from .machine import Machine, current
from .partition import Partition, partition
from .partition.choose import MOST_IDLE
from .report import count_text, seconds_text, size_text, structure_text
from .solvers.held import Held
from .solvers.layouts import Judge, Use
from .tape import Tape

SPARE = 2.0  # times as many lines at a time as ranks: fewer are no reason to look for another than the longest path
PAYS = 1.05  # times faster that more ranks must be to be worth it


@dataclass(frozen=True)
class Layout:
    """A number of ranks, the best partition found for it, and what it promises."""

    ranks: int
    name: str
    method: str
    seconds: float  # evaluation and all right-hand sides
    exchanging: float  # of these, messages and waiting for them
    memory: int  # bytes of tape, values and what the method holds, on the fullest rank
    k_star: int
    messages: int  # of all ranks in one pass
    halo_bytes: int  # of all ranks in one pass, for all right-hand sides
    balance: float
    max_work: int  # lines on the busiest rank
    planning: float  # seconds that making the partition took

    @property
    def computing(self) -> float:
        """Seconds of a rank's own."""
        return self.seconds - self.exchanging

    @property
    def alone(self) -> bool:
        return self.k_star == 1 and not self.messages

    @property
    def fewer(self) -> bool:
        """Whether it gives some of the ranks nothing, for the others' sake."""
        return " ranks" in self.name


@dataclass(frozen=True)
class Plan:
    """Layouts by number of ranks, ascending, and where more of them stop paying."""

    layouts: tuple[Layout, ...]
    structure: graph.Structure
    columns: int
    machine: Machine
    together: bool = False  # right-hand sides come at once, as a Jacobian's

    @property
    def best(self) -> Layout:
        """The fewest ranks from which on more of them gain less than PAYS."""
        best = self.layouts[0]
        for layout in self.layouts[1:]:
            if layout.seconds * PAYS < best.seconds:
                best = layout
        return best

    def verdict(self) -> str:
        """Where adding ranks stops paying, and why."""
        best, structure = self.best, self.structure
        more = [layout for layout in self.layouts if layout.ranks > best.ranks]
        if not best.max_work:
            return "there is nothing to compute: no statement on the tape"
        if not more:
            share = 100 * best.exchanging / best.seconds
            return f"more ranks still pay at {best.ranks}: {share:.0f} % of the time are messages"
        after = more[0]
        gain = best.seconds / after.seconds
        says = f"more ranks stop paying beyond {best.ranks}: {after.ranks} are {gain:.2f} times as fast, because "
        at_a_time = structure.parallelism
        if structure.order in ("wide", "mixed") and not structure.cycles.count:  # sums in loops are no chains
            at_a_time = max(at_a_time, structure.lines / max(structure.steps, 1))
        if after.alone and at_a_time >= SPARE * after.ranks:
            says += (f"all of it takes {seconds_text(best.seconds)} on one: {at_a_time:.3g} lines could be "
                     "computed at a time, but one rank keeps them all: every layout looked at that shares them out "
                     "would take longer, with its messages and with setting it up")
        elif after.alone or at_a_time < 2:
            says += (f"the longest path has {count_text(structure.path.span)} of {count_text(structure.path.work)} "
                     f"lines, one after another ({at_a_time:.3g} at a time on average): it can't be split, and "
                     "spreading the rest would take longer, with its messages and with setting it up")
        elif after.exchanging > 0.5 * after.seconds:
            says += (f"{count_text(after.k_star)} supersteps wait for messages, {seconds_text(after.exchanging)} of "
                     f"{seconds_text(after.seconds)}; a rank computes for {seconds_text(after.computing)}")
        elif after.fewer:
            says += (f"the layout found for them, {after.name}, leaves the others without work: shared out further, "
                     "messages would take more than there is to save")
        elif after.balance > 2.0:
            says += (f"the busiest rank has {after.balance:.1f} times the mean's lines: what is spread has fewer parts "
                     "than ranks")
        elif after.computing > PAYS * best.computing:
            other = f", by {after.method} instead of {best.method}" if after.method != best.method else ""
            says += (f"computing takes longer on each of them{other}, {seconds_text(after.computing)} after "
                     f"{seconds_text(best.computing)}: what comes with this layout is more than the share it takes off")
        else:
            says += ("what a rank computes no longer falls: statements have a cost of their own, however few elements "
                     "they have")
        if after.memory < 0.8 * best.memory:
            says += f".  Memory still falls, from {size_text(best.memory)} to {size_text(after.memory)} a rank"
        return says

    def __str__(self) -> str:
        s = self.structure
        out = [f"function     {count_text(s.lines)} flattened lines, {count_text(s.inputs)} inputs -> "
               f"{count_text(s.outputs)} outputs; {structure_text(s.shape, s.order, s.cycles)}: depth "
               f"{count_text(s.depth)}, width {count_text(s.width)}",
               f"predicted    evaluation and {self.columns} right-hand side{'s' if self.columns > 1 else ''}"
               f"{' together' if self.together else ''}; rates: "
               f"{self.machine.source}", "",
               f"{'ranks':>6} {'seconds':>10} {'speed-up':>8} {'messages':>9} {'k*':>7} {'messages':>10} {'halo':>9} "
               f"{'memory':>9} {'balance':>8}  partition: method",
               f"{'':>6} {'':>10} {'':>8} {'% of time':>9} {'':>7} {'a pass':>10} {'a pass':>9} {'a rank':>9}"]
        base = self.layouts[0]
        for layout in self.layouts:
            gain = _ratio(base.seconds, layout.seconds)
            out.append(f"{layout.ranks:>6} {seconds_text(layout.seconds):>10} {gain:>8.2f} "
                       f"{100 * layout.exchanging / (layout.seconds or 1.0):>9.0f} {count_text(layout.k_star):>7} "
                       f"{count_text(layout.messages):>10} {size_text(layout.halo_bytes):>9} "
                       f"{size_text(layout.memory):>9} {layout.balance:>8.2f}  {layout.name}: {layout.method}")
        return "\n".join([*out, "", self.verdict()])

    def to_dict(self) -> dict[str, object]:
        """Plain data, ready for JSON."""
        return {"columns": self.columns, "best": self.best.ranks, "verdict": self.verdict(),
                "layouts": [vars(layout) for layout in self.layouts], "machine": self.machine.to_dict()}


def _ratio(a: float, b: float) -> float:
    return a / b if b else 1.0


def plan(tape: Tape, ranks: Sequence[int], columns: int | str | Use = 1, machine: Machine | None = None,
         strategy: str = "auto") -> Plan:
    """Lay a tape out on each number of ranks (one is always among them), and predict.  Not collective.

    columns: right-hand sides at a point, as `solves` says to `linearize`: one after another, or "jacobian".

    More ranks than lines are laid out as so many are, and the others have nothing to do.  Raises `InputError` for more
    than layouts are made for (`partition.choose`).
    """
    machine = current() if machine is None else machine
    use = Use.announced(columns, tape.n_inputs, tape.n_outputs)
    judge = Judge(tape, use, machine)
    held = Held.of(tape)
    found: list[Partition] = []  # those of fewer ranks are candidates for more
    layouts = tuple(_layout(tape, n, judge, strategy, held, found) for n in sorted({1, *ranks}))
    return Plan(layouts, graph.analyse(tape), use.columns, machine, use.together > 1)


def _layout(tape: Tape, ranks: int, judge: Judge, strategy: str, held: Held, found: list[Partition]) -> Layout:
    began = time.perf_counter()
    busy = min(ranks, max(tape.lines, 1)) if tape.lines <= MOST_IDLE else ranks  # others have nothing to do
    made = partition(tape, busy, strategy=strategy if ranks > 1 else "auto", machine=judge.machine,
                     columns=judge.use.split, judge=judge, known=found[1:])
    planning = time.perf_counter() - began
    found.append(made)
    quality, promise = made.quality, made.promise
    return Layout(ranks, made.name, promise.method, promise.seconds, promise.exchanging,
                  int(held.by(made.plan is None, quality, promise, judge.use)),
                  quality.k_star, quality.messages, 8 * quality.halo * judge.use.columns,
                  quality.balance * ranks / busy, quality.max_work, planning)


__all__ = ["Layout", "Plan", "plan"]
