"""The structure of L read off a tape: what a solver wants to know of the system before it is built.

Array blocks are taken as units, so an all-array tape costs microseconds a statement however many lines it stands for;
scalar lines are taken one by one in compiled loops.  Everything is linear in the tape.

The *shape* is named by what does not depend on how a program is written: as loops over floats or on arrays, with one
function more or less on the way, sums as loops, reductions or products of matrices.  Nodes are counted by steps, levels
in which sums of products are one (`lines.steps`), inputs left out: D steps, W = nodes / D on average, w on the widest,
and at least v a step on average in every eighth of them.

    tree     levels narrow evenly by halves, HALVES times or more, to FEW nodes, or widen so while lines read one each
             (`levels.Narrowing`; SINGLE + 1 entries to SINGLE nodes at most), and it is not dense
    wide     D <= SHALLOW and W >= D: few steps, however lines read each other within them; or in the middle, the first
             and the last eighth of the steps left out, parts that have nothing in common (`weak_components`) of THIN
             nodes a step at most, more than THIN parts or the steps alike: chains side by side, whatever they begin
             with and what is made of them
    chain    W <= THIN and w <= EVEN THIN, or D <= SHALLOW and w < D; where it is dense it is mixed: a triangle of sums,
             whose steps read much of all that is before them (DENSE entries each, or D / 4 where steps are few), so
             that across every cut in the middle lie values of long ago (D / LONG that are no inputs, and 4 W)
    grid     D > SHALLOW, W > THIN, w <= EVEN W and v >= W / STEADY: many steps alike
    mixed    all else: parts of different shapes, after or beside each other; a tangle whose steps swell and shrink
    cyclic   equations whose unknowns depend on each other have a quarter of all lines (`components.Cycles`)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from ..machine import Machine
from ..tape import Const, Joint, ScalarRun, Tape
from ..tracing.memory import give_back
from .components import Cycles, Middle, Strong, cycles, strong_components, weak_components
from .contractions import Contractions, contractions
from .levels import Levels, Path, Profile, Steps, Uses
from .lines import ACTIVE, Here, Lines
from .lines import nonzeros as nonzeros_of_run
from .listing import Listing, Single
from .live import Cut, LiveWidth
from .reads import Reads
from .survey import LINES, Survey

MANY = 1 << 20  # lines from which what was held of each, some tens of bytes, does not stay with the C library
SHALLOW = 32  # steps up to which a graph counts as shallow
THIN = 8  # nodes a step, on average, up to which it counts as thin
CYCLIC = 4  # one line in so many that belongs to a cycle makes a program cyclic
EVEN = 8  # widest step over the mean up to which steps count as alike
DENSE = 16  # entries a node from which on a step reads much
LONG = 5  # steps to a value across a cut up to which there are many of long ago
SINGLE = 4
STEADY = 4  # the mean over that of the eighth of the steps with fewest nodes, up to which they don't swell or shrink


@dataclass(frozen=True)
class Structure:
    """What a solver wants to know of the system (I - L) ydot = xdot before it is built."""

    lines: int  # flattened scalar lines
    nodes: int  # rows of the full system (a sum of n terms is one row)
    nonzeros: int  # entries of L
    depth: int  # edges of the longest path (blockwise: an upper bound that array programs attain)
    width: int  # most nodes on one level
    inputs: int
    outputs: int
    shape: str  # "chain", "wide", "grid", "tree" or "mixed"; "cyclic" where cycles are at least a quarter of the lines
    steps: int  # levels in which a sum is one, and functions of one input none (`lines.steps`)
    order: str  # the same names, of the acyclic graph of strongly connected components
    cycles: Cycles
    profile: Profile  # nodes and lines by level
    path: Path  # the critical path
    uses: Uses
    live: int  # most values that cross a cut of the trace
    narrowest: Cut  # where fewest cross a cut with a quarter of the nodes on either side at least
    components: int  # weakly connected
    pieces: int  # the same without the inputs: parts that compute nothing together
    contractions: Contractions  # sums of products

    @property
    def parallelism(self) -> float:
        """Work over span: the speed-up that any number of ranks could reach if messages were free."""
        return self.path.work / self.path.span if self.path.span else 1.0


def analyse(tape: Tape, machine: Machine = LINES, survey: Survey | None = None,
            lines: Lines | None = None) -> Structure:
    """The structure of a tape; the critical path is the one that takes the machine longest, by default in lines.

    survey: what is known of it already, on that machine.  lines: where its runs are looked at; None: here.
    """
    structure = _analysed(tape, Survey(tape, machine, lines) if survey is None else survey, lines)
    if tape.lines > MANY:
        give_back()
    return structure


def _analysed(tape: Tape, survey: Survey, lines: Lines | None) -> Structure:
    reads, levels = survey.reads, survey.levels
    depth, width, narrowing, profile = levels.summary()
    nodes, found = tape.n_nodes, cycles(tape)
    steps = levels.by_step()
    inputs = tape.n_inputs
    pieces = weak_components(tape, reads, False, lines)

    def strands() -> int:
        """Parts of the middle."""
        return weak_components(tape, reads, False, lines, Middle(levels, steps.first, steps.last))

    entries = levels.nonzeros + nonzeros(tape, runs=False)
    alive = levels.narrowest.width - _read(tape, reads)
    dense = (entries >= min(DENSE, steps.depth / 4) * steps.nodes and LONG * alive >= steps.depth
             and alive * steps.depth >= 4 * steps.nodes)
    tree = narrowing.tree or (narrowing.spreading and SINGLE * entries <= (SINGLE + 1) * nodes)
    order = _shape(steps, tree, dense, strands)
    cyclic = found.count > 0 and CYCLIC * found.lines >= tape.lines
    return Structure(
        lines=tape.lines, nodes=nodes, nonzeros=entries, depth=depth, width=width,
        inputs=inputs, outputs=tape.n_outputs, shape="cyclic" if cyclic else order, order=order,
        steps=steps.depth, cycles=found, profile=profile, path=levels.path(),
        uses=Uses.of(levels.used, levels.most_used), live=levels.widest, narrowest=levels.narrowest,
        components=weak_components(tape, reads, lines=lines), pieces=pieces,
        contractions=contractions(tape))


def _read(tape: Tape, reads: Reads) -> int:
    """Inputs that something reads, about: of an array those of the statement that reads most of it."""
    found = 0
    for block in np.flatnonzero(reads.leaf).tolist():
        most = max((touch.nodes for touch in reads.touches[block]), default=0)
        one_by_one = int(np.count_nonzero(reads.single[reads.exposed(block)].uses))
        found += min(most + one_by_one, tape.blocks[block].size)
    return found


def _shape(steps: Steps, tree: bool, dense: bool, strands: Callable[[], int]) -> str:
    if tree and not dense:
        return "tree"
    mean = steps.nodes / max(steps.depth, 1)
    if steps.depth <= SHALLOW:
        return "wide" if mean >= steps.depth else "chain" if steps.width < steps.depth and not dense else "mixed"
    if mean <= THIN:
        return "chain" if steps.width <= EVEN * THIN and not dense else "mixed"
    alike, parts = mean <= STEADY * steps.thinnest and steps.width <= EVEN * mean, strands()
    if steps.middle <= THIN * parts and (alike or parts > THIN):
        return "wide"
    return "grid" if alike else "mixed"


def nonzeros(tape: Tape, runs: bool = True) -> int:
    """Entries of L: active operands.  An extremum has one a result, a running sum also its predecessor.

    runs=False: in rows of array statements only.
    """
    count = 0
    for item in tape.items:
        if isinstance(item, ScalarRun):
            count += nonzeros_of_run(item) if runs else 0
            continue
        n = prod(item.shape)
        if isinstance(item, Joint):
            count += n * item.op.stored(item.active)
            continue
        active = sum(not isinstance(ref, Const) and partial is not None
                     for ref, partial in zip(item.operands, item.op.partials))
        if item.op.kind == "select":
            count += active * prod(extent for extent, s in zip(item.shape, item.out.strides) if s or extent == 1)
        else:
            count += active * n
        if item.op.kind == "scan" and n:
            count += n - n // item.shape[-1]
    return count


__all__ = ["ACTIVE", "LINES", "Contractions", "Cut", "Cycles", "Here", "Levels", "Lines", "Listing", "LiveWidth",
           "Path", "Profile", "Reads", "Single", "Strong", "Structure", "Survey", "Uses", "analyse", "contractions",
           "cycles", "nonzeros", "strong_components"]
