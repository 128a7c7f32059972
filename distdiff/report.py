"""What a linearization is made of, as data and as text."""

from __future__ import annotations

import resource
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI

from .facts import Facts
from .graph import Contractions, Cut, Cycles, Path, Profile, Uses
from .partition.local import LocalTape
from .solvers.measured import Measured
from .solvers.select import Candidate, Choice
from .solvers.sweep_ops import Counts
from .stages import Stages
from .system import TriangularSystem
from .tape import Joint


def count_text(n: float | None) -> str:
    if n is None:
        return "-"
    return f"{n:,.0f}" if n < 1e7 else f"{n:.3g}"


def size_text(n: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def seconds_text(t: float) -> str:
    return f"{t:.3g} s" if t >= 1 else f"{1e3 * t:.3g} ms" if t >= 1e-3 else f"{1e6 * t:.3g} us"


RAMP = " .:-=+*#%@"


def _picture(profile: Profile) -> str:
    """Nodes a level, from inputs to outputs, as darker and lighter characters."""
    each = [n / max(b - a, 1) for n, a, b in zip(profile.nodes, profile.edges, profile.edges[1:])]
    most = max(each, default=0.0) or 1.0
    return "|" + "".join(RAMP[0 if not n else max(1, round((len(RAMP) - 1) * n / most))] for n in each) + "|"


def _path(path: Path) -> str:
    counts = (path.statements, "statements"), (path.scalar_lines, "scalar lines")
    what = " and ".join(f"{count_text(n)} {name}" for n, name in counts if n) or "nothing"
    where = ", ".join(f"{site} ({100 * share:.0f} %)" for site, share in path.sites if share >= 0.01)
    return (f"{what} in turn, {seconds_text(path.span)} of {seconds_text(path.work)} work"
            + (f", in {where}" if path.statements else ""))


def _uses(uses: Uses) -> str:
    never, once, *more = (*uses.count, 0, 0)[:max(len(uses.count), 2)]
    total = max(never + once + sum(more), 1)
    shares = (("never", never), ("once", once), (f"more often, up to {count_text(uses.most)} times", sum(more)))
    return "read " + ", ".join(f"{what} {100 * n / total:.0f} %" for what, n in shares
                               if n >= 0.005 * total)


def _parts(components: int, pieces: int, depth: int) -> str:
    if depth <= 1:
        return "no line reads another but inputs"
    if components > 1:
        return f"{count_text(components)} that have nothing in common"
    return "all hang together" if pieces <= 1 else f"{count_text(pieces)} that have only inputs in common"


def structure_text(shape: str, order: str, cycles: Cycles) -> str:
    """The name of the shape, and of that of the components where they are rows no longer."""
    if not cycles.count:
        return shape
    among = "" if shape == order else f" ({order} of components)"
    if cycles.count == 1:
        return f"{shape}{among}, a strongly connected component of {count_text(cycles.rows)} rows"
    return (f"{shape}{among}, {count_text(cycles.count)} strongly connected components of more than one row, "
            f"{count_text(cycles.rows)} rows in all, {count_text(cycles.largest)} the largest")


def _contractions(found: Contractions, assembled: bool) -> str:
    what = "a sum of products" if found.statements == 1 else f"{count_text(found.statements)} sums of products"
    largest = " x ".join(map(str, found.largest))
    done = (f"written out, {count_text(found.entries)} entries before elimination" if assembled
            else f"applied as matrix products, their {count_text(found.entries)} entries are written nowhere")
    largest += " the largest" if found.statements > 1 else ""
    return f"{what} ({largest}), {count_text(found.lines)} of the lines in {count_text(found.rows)} rows; {done}"


@dataclass(frozen=True)
class Report:
    """Everything `Linearization.report()` knows.  Counts are over all ranks unless they say otherwise."""

    lines: int  # flattened scalar lines
    nodes: int  # rows of the full system (a sum of n terms is one row)
    nonzeros: int  # entries of L in the full system
    inputs: int
    outputs: int
    depth: int  # longest path
    width: int  # most nodes on one level
    shape: str  # chain, wide, grid, tree, mixed, cyclic
    order: str  # the shape of the acyclic graph of strongly connected components
    cycles: Cycles  # strongly connected components of more than one row
    parallelism: float  # work over critical path: what ranks without end could gain
    profile: Profile
    path: Path  # in the machine's seconds
    uses: Uses
    live: int  # most values that cross a cut of the trace
    narrowest: Cut  # ... and fewest, in the middle half of it
    components: int  # parts that have nothing in common
    pieces: int  # ... but inputs
    contractions: Contractions  # sums of products: dot, matmul, einsum, tensordot
    ranks: int
    partition: str
    k_star: int  # supersteps of one pass
    messages: int  # in one pass
    halo: int  # values sent in one pass
    halo_bytes: int  # the same for one right-hand side in bytes
    max_work: int  # lines on the busiest rank
    balance: float  # max_work over the mean of all ranks
    partition_candidates: list[dict[str, Any]]
    rows: int | None  # kept by preaccumulation; None while nothing is assembled
    nnz: int | None  # stored, unit diagonal included
    method: str
    reason: str
    candidates: tuple[Candidate, ...]
    equations: list[str]  # of implicit statements: on several ranks who has them and why; how their blocks are solved
    times: dict[str, float]  # seconds by stage, on the slowest rank
    memory_per_rank_bytes: int  # tape, values, partials, workspace, messages and matrix, on the fullest rank
    peak_memory_per_rank_bytes: int  # resident set of the process, most so far, on the fullest rank
    guards: int
    retraces: int
    solves: int  # right-hand sides solved so far
    sweeps: dict[str, Counts] = field(default_factory=dict)  # by direction, of those swept in so far
    accuracy: str = ""  # what is known of the solution's true residual
    dot_product: float | None = None  # `dot_product_residual`, if it was asked for
    advice: str = ""  # another layout for as many right-hand sides as came, and how to ask for it
    measured: Measured | None = None  # further solves, beside what was predicted; None before there are any
    ranges: str = ""  # how solves stay within the range of doubles, where they would leave it
    info: dict[str, Any] = field(default_factory=dict)  # the solver's own: iterations, residual, ...

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        kept = "nothing assembled" if self.rows is None else (
            f"{count_text(self.rows)} rows kept ({self.nodes / max(self.rows, 1):.1f} times fewer), "
            f"{count_text(self.nnz)} nonzeros with the diagonal")
        out = [
            f"function     {count_text(self.lines)} flattened lines, {count_text(self.inputs)} inputs -> "
            f"{count_text(self.outputs)} outputs, {count_text(self.guards)} guards",
            f"structure    {structure_text(self.shape, self.order, self.cycles)}: "
            f"depth {count_text(self.depth)}, width {count_text(self.width)}; I - L has "
            f"{count_text(self.nodes)} rows, {count_text(self.nonzeros)} entries below the diagonal",
            f"levels       {_picture(self.profile)} nodes a level",
            f"path         {_path(self.path)}, parallelism {self.parallelism:.3g}",
            f"values       {_uses(self.uses)}; {count_text(self.live)} live at most, "
            f"{count_text(self.narrowest.width)} across the narrowest cut in the middle",
            f"parts        {_parts(self.components, self.pieces, self.depth)}",
            f"ranks        {self.ranks}; partition {self.partition}: k* = {count_text(self.k_star)}, "
            f"{count_text(self.messages)} messages, "
            f"{count_text(self.halo)} halo values ({size_text(self.halo_bytes)}) a pass",
            f"             busiest rank {count_text(self.max_work)} lines, {self.balance:.2f} x the mean",
        ]
        if len(self.partition_candidates) > 1:
            for c in self.partition_candidates:
                job = c["job"]
                sharing = f", {seconds_text(job['sharing'])} to share it out" if job["sharing"] else ""
                memory = "at most " * job["at_most"] + size_text(job["memory"])
                out.append(f"               {c['name']:<24} predicted {seconds_text(job['seconds'])} a point by "
                           f"{job['method']}{sharing}, {memory} a rank; k* "
                           f"{count_text(c['k_star'])}, halo "
                           f"{count_text(c['halo'])}, busiest rank {count_text(c['max_work'])} lines; {job['reason']}")
        if self.advice:
            out.append(f"             {self.advice}")
        if self.contractions.statements:
            out.append(f"products     {_contractions(self.contractions, self.rows is not None)}")
        out += [f"equation     {text}" for text in self.equations]
        out.append(f"system       {kept}")
        for direction, sweep in self.sweeps.items():
            stored = f"{size_text(sweep.coefficient_bytes)} of" if sweep.coefficient_bytes else "no"
            out.append(f"sweep        {direction}: {count_text(sweep.rows)} rows left by block elimination "
                       f"({self.nodes / max(sweep.rows, 1):.1f} times fewer), {sweep.terms_per_row:.3g} terms a row, "
                       f"{stored} stored coefficients, {count_text(sweep.moved)} elements moved a solve")
        out += [f"method       {self.method}: {self.reason}"]
        for c in self.candidates:
            cost = ("not applicable" if c.seconds is None
                    else f"predicted {seconds_text(c.seconds)}, {size_text(c.memory)} a rank")
            out.append(f"               {c.method:<14} {cost}; {c.reason}")
        out.append("time         " + ", ".join(f"{name} {seconds_text(t)}" for name, t in self.times.items()))
        out.append(f"memory       {size_text(self.memory_per_rank_bytes)} a rank held by the linearization, "
                   f"{size_text(self.peak_memory_per_rank_bytes)} peak of the process")
        if self.measured is not None:
            out.append(f"measured     {_measured(self.measured)}")
        if self.solves or self.retraces:
            extra = "".join(f", {k} {v:.3g}" if isinstance(v, float) else f", {k} {v}" for k, v in self.info.items())
            out.append(f"solved       {count_text(self.solves)} right-hand sides, {self.retraces} retraces{extra}")
        if self.ranges:
            out.append(f"range        {self.ranges}")
        if self.accuracy:
            measured = "" if self.dot_product is None else (
                f"; |<w, J v> - <J^T w, v>| is {self.dot_product:.2g} of its terms, measured")
            out.append(f"accuracy     {self.accuracy}{measured}")
        return "\n".join(out)


def _measured(found: Measured) -> str:
    plural = "s" * (found.columns > 1)
    predicted = f", predicted {seconds_text(found.predicted)}" if found.predicted is not None else ""
    return (f"{found.method}: {count_text(found.solves)} further solve{'s' * (found.solves > 1)} with {found.columns} "
            f"right-hand side{plural} took {seconds_text(found.seconds)} each (median){predicted}"
            f"{'; ' * bool(found.verdict)}{found.verdict}")


def dot_product_residual(tangent: Callable[[np.ndarray], np.ndarray], adjoint: Callable[[np.ndarray], np.ndarray],
                         n_inputs: int, n_outputs: int) -> float:
    """|<w, J v> - <J^T w, v>| / (<|w|, |J v|> + <|J^T w|, |v|>) for one random pair: rounding if both are right.

    Any error in either direction that is no error of the other shows, unless v and w don't meet it.
    """
    rng = np.random.default_rng(5)
    v, w = rng.standard_normal(n_inputs), rng.standard_normal(n_outputs)
    ours, theirs = w * tangent(v), adjoint(w) * v
    size = float(np.abs(ours).sum() + np.abs(theirs).sum())
    return abs(float(ours.sum() - theirs.sum())) / size if size else 0.0


def _solved(comm: MPI.Comm, local: LocalTape, solvers: dict[str, Any]) -> list[str]:
    """How the blocks of implicit statements are solved, on any rank: within each, or in an assembled system."""
    found = [(item.op.how, "") for item in local.items if type(item) is Joint and item.op.implicit]
    found += [(solver.system.how, f" ({name})") for name, solver in solvers.items()
              if isinstance(getattr(solver, "system", None), TriangularSystem)]
    shared = any(type(item) is Joint and item.op.collective for item in local.items)
    counts = Counter(f"solved by {how}{where}" for part in comm.allgather([] if shared and comm.rank else found)
                     for how, where in part if how)
    return [text if n == 1 else f"{n:,} times {text}" for text, n in counts.items()]


def gather(comm: MPI.Comm, facts: Facts, local: LocalTape, choice: Choice, solvers: dict[str, Any], stages: Stages,
           kept: tuple[int | None, int | None], memory: int, *, retraces: int, solves: int,
           dot_product: float | None = None, advice: str = "", measured: Measured | None = None,
           ranges: str = "") -> Report:
    """The report, from what this rank knows: rows and entries `kept` by the system, bytes of `memory` held.

    Collective.
    """
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    lines = comm.allgather(local.lines)
    names = list(stages.seconds)
    slowest = [max(t) for t in zip(*comm.allgather([stages.seconds[n] for n in names]))]
    structure, halo = facts.structure, comm.allreduce(local.halo)
    return Report(
        lines=structure.lines, nodes=structure.nodes, nonzeros=structure.nonzeros, inputs=facts.n_inputs,
        outputs=facts.n_outputs, depth=structure.depth, width=structure.width, shape=structure.shape,
        order=structure.order, cycles=structure.cycles,
        parallelism=structure.parallelism, profile=structure.profile, path=structure.path, uses=structure.uses,
        live=structure.live, narrowest=structure.narrowest, components=structure.components, pieces=structure.pieces,
        contractions=structure.contractions, ranks=comm.size, partition=facts.partition, k_star=len(local.steps),
        messages=comm.allreduce(local.messages), halo=halo, halo_bytes=8 * halo,
        max_work=max(lines), balance=max(lines) * len(lines) / max(sum(lines), 1),
        partition_candidates=facts.candidates,
        rows=kept[0], nnz=kept[1],
        method=choice.method, reason=choice.reason, candidates=choice.candidates,
        equations=[*facts.equations, *_solved(comm, local, solvers)],
        times=dict(zip(names, slowest)), memory_per_rank_bytes=comm.allreduce(memory, op=MPI.MAX),
        peak_memory_per_rank_bytes=comm.allreduce(peak, op=MPI.MAX), guards=facts.guards,
        retraces=retraces, solves=solves,
        sweeps=solvers["sweep"].counts() if "sweep" in solvers else {},
        dot_product=dot_product, advice=advice, measured=measured, ranges=ranges,
        accuracy=solvers[choice.method].accuracy() if choice.method in solvers else "",
        info=dict(getattr(solvers.get(choice.method), "info", {}) or {}))
