"""Which method solves the system: a cost model over the structure, every candidate with its figure and its reason.

The model is  seconds(method) = setup + columns x solve  on the busiest rank, plus the latency of the supersteps.
Its constants are rounded from timings on a 2.6 GHz Zen 4 core (`scripts/bench` repeats those of sweep and substitution;
those of krylov and direct are rough).  They order the methods, they do not promise seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

METHODS = ("sweep", "substitution", "krylov", "direct")

# Seconds.
SWEEP_ARRAY_LINE = 0.5e-9  # one adjoint sweep over array code, a line: 0.15 for stencils, more where rules compute
SWEEP_SCALAR_LINE = 4.0e-9  # one adjoint sweep over scalar runs, a line
PLAN_ITEM = 16e-6  # planning the sweep of one statement, once
SWEEP_ITEM = 4e-6  # dispatch of one planned statement
EXPAND_ITEM = 40e-6  # expanding one statement into rows, once
SWEEP_NEXT_COLUMN = 0.4  # a further right-hand side in the same sweep, of the first one's cost
ASSEMBLE_LINE = 50e-9  # expand, eliminate and assemble, a line
KEPT_SHARE = 0.3  # rows kept by preaccumulation, of the lines (before it is known)
ROW = 3.5e-9  # substitution on an assembled row, first right-hand side
ROW_NEXT_COLUMN = 1.2e-9
LATENCY = 3e-6  # one superstep's exchange
KRYLOV_ITERATION = 3.0  # an iteration, in substitutions: the preconditioner, the product, the orthogonalisation
FACTOR_ROW = 1.5e-6  # symbolic and numeric factorisation with MUMPS, a row
DIRECT_ROW = 30e-9
CALL = {"sweep": 20e-6, "substitution": 1.5e-3, "krylov": 2.5e-3, "direct": 4e-3}  # PETSc objects, first use


@dataclass(frozen=True)
class Work:
    """What the cost model looks at; counts are those of the busiest rank."""

    array_lines: int
    scalar_lines: int
    items: int
    k_star: int
    ranks: int
    kept_rows: int | None = None  # once known
    assembled: bool = False  # the matrix holds the values of this point


@dataclass(frozen=True)
class Candidate:
    """A method, its predicted cost for the job at hand, and why it was or wasn't taken."""

    method: str
    seconds: float | None  # None: not applicable
    reason: str


@dataclass(frozen=True)
class Choice:
    """The method to use and how it was found."""

    method: str
    reason: str
    candidates: tuple[Candidate, ...]


def check_method(method: str) -> None:
    """Raise `InputError` for a method that does not exist."""
    if method != "auto" and method not in METHODS:
        raise InputError(f"method {method!r} does not exist; choose 'auto' or one of {', '.join(METHODS)}")


def predict(work: Work, columns: int) -> dict[str, float]:
    """Predicted seconds of each method for `columns` right-hand sides at one point, set-up included."""
    lines = work.array_lines + work.scalar_lines
    rows = work.kept_rows if work.kept_rows is not None else KEPT_SHARE * lines
    columns = max(columns, 1)
    latency = LATENCY * (work.k_star - 1) if work.ranks > 1 else 0.0
    one_sweep = SWEEP_ARRAY_LINE * work.array_lines + SWEEP_SCALAR_LINE * work.scalar_lines
    batches = -(-columns // 32)
    sweep = one_sweep * (1 + (columns - 1) * SWEEP_NEXT_COLUMN) + work.items * (PLAN_ITEM + SWEEP_ITEM * batches)
    sweep += latency * batches
    setup = 0.0 if work.assembled else ASSEMBLE_LINE * lines + EXPAND_ITEM * work.items
    substitution = setup + rows * (ROW + (columns - 1) * ROW_NEXT_COLUMN) + latency * batches
    krylov = setup + columns * work.k_star * (KRYLOV_ITERATION * ROW * rows + LATENCY * work.ranks)
    direct = setup + FACTOR_ROW * rows + columns * DIRECT_ROW * rows
    seconds = {"sweep": sweep, "substitution": substitution, "krylov": krylov, "direct": direct}
    return {name: t + CALL[name] for name, t in seconds.items()}


def choose(work: Work, columns: int = 1, method: str = "auto") -> Choice:
    """The cheapest method for `columns` right-hand sides at one point, or the one asked for."""
    check_method(method)
    seconds = predict(work, columns)
    best = min(seconds, key=lambda name: seconds[name])
    taken = best if method == "auto" else method
    runner_up = min((name for name in seconds if name != taken), key=lambda name: seconds[name])
    candidates = tuple(
        Candidate(name, seconds[name], _why(name, work, columns) if name == taken or seconds[name] <= seconds[taken]
                  else f"{seconds[name] / seconds[taken]:.3g}x the cost of {taken}; {_why(name, work, columns)}")
        for name in METHODS
    )
    if method != "auto":
        reason = f"asked for; the cost model's own choice is {best}"
    else:
        plural = "s" if columns != 1 else ""
        reason = (f"cheapest for {columns} right-hand side{plural}: predicted {seconds[best]:.3g} s, next {runner_up} "
                  f"{seconds[runner_up]:.3g} s; {_why(best, work, columns)}")
    return Choice(taken, reason, candidates)


def _why(name: str, work: Work, columns: int) -> str:
    if name == "sweep":
        return "reads the tape's structure in place, nothing is assembled"
    if name == "substitution":
        return "assembles the kept rows once, then streams them for all right-hand sides"
    if name == "krylov":
        return f"exact after k* = {work.k_star} iterations, each costing about {KRYLOV_ITERATION:g} substitutions"
    return "factors a matrix that is triangular already: pays only where cycles appear"
