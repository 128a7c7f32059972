"""Interface elimination and the pipeline on two ranks, against substitution of the whole chain by one of them.

The chain has n rows that read i - s and i - s + 1, so s values cross the cut between the ranks, and substitution on two
ranks takes as long as on one. A thousand inputs and a thousand outputs lie all along it: each rank has a pass of its
own to make whatever the method, so two ranks can be twice as fast at most. The limit shown is half of what the one rank
took in the same run, contenders in turn.

    further solve      the transfer matrices of the point are there
    first solve        they are made, and a second pass tells the residual.  Its limit is what the columns of the
                       transfer matrices take by themselves, and two passes over half of the rows
    every row kept     substitution as it is where solutions stay in cache, or many rows have to be kept
"""
from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from measure import figure
from ranks import Run

ENDS = 1000  # inputs and outputs
BATCH = 32  # right-hand sides that substitution takes at once


def chain_system(comm: Any, n: int, s: int) -> Any:
    """I - L of the chain in stretches over `comm`; collective."""
    from distdiff.components import Components
    from distdiff.partition.local import Exchange, Portion
    from distdiff.preaccumulate import CSR
    from distdiff.system import TriangularSystem

    rank, size = comm.rank, comm.size
    lo, hi = rank * n // size, (rank + 1) * n // size
    values = np.random.default_rng(7).uniform(-0.45, 0.45, (n, 2))[lo:hi]
    i = np.arange(lo, hi)
    columns = np.stack([i - s, i - s + 1, i], axis=1)
    entries = np.concatenate([values, np.ones((hi - lo, 1))], axis=1)
    own, ghost = columns >= lo, (columns < lo) & (columns >= 0)

    def rows(keep: np.ndarray, shift: int) -> CSR:
        indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))]).astype(np.int32)
        return CSR(indptr, (columns[keep] - shift).astype(np.int32), entries[keep])

    exchanges = [Exchange() for _ in range(size)]  # rank r computes in superstep r
    if rank < size - 1:
        exchanges[rank].sends.append((rank + 1, np.arange(hi - lo - s, hi - lo)))
    if rank:
        exchanges[rank - 1].recvs.append((rank - 1, hi - lo + np.arange(s)))
    places = np.arange(ENDS) * (n // ENDS)
    mine = np.flatnonzero((places >= lo) & (places < hi))
    inputs = Portion(places[mine] - lo, mine)
    outputs = Portion(places[mine] + n // ENDS - 1 - lo, mine)
    reduced = SimpleNamespace(
        own=rows(own, lo), ghost=rows(ghost, lo - s), n_rows=hi - lo, n_ghosts=s if rank else 0, inputs=inputs,
        outputs=outputs, ends=np.where(np.arange(size + 1) > rank, hi - lo, 0), exchanges=exchanges,
        nnz=int(own.sum() + ghost.sum()), order_ghosts=lambda order: None,
        components=Components.none(), where=str)
    return TriangularSystem(comm, reduced)


def _in_turn(run: Run, calls: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Timings of all calls, one after the other again and again; the very first compile, and don't count."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        run.seconds(call)
    more = True
    while more:
        for name, call in calls.items():
            taken[name].append(run.seconds(call))
        first = next(iter(taken.values()))
        total = sum(map(sum, taken.values()))
        more = run.comm.bcast(len(first) < run.settings["repeats"] and total < run.settings["budget"])
    return taken


class Chains:
    """The chain on one rank and on all, and a seed for both."""

    def __init__(self, run: Run, n: int, s: int) -> None:
        from mpi4py import MPI

        self.run, self.n = run, n
        self.spread = chain_system(run.comm, n, s)  # the first: all ranks together start PETSc
        self.whole = chain_system(MPI.COMM_SELF, n, s) if run.root else None

    def seed(self, system: Any, transposed: bool, m: int) -> np.ndarray:
        seed = np.random.default_rng(3).standard_normal((ENDS, m))
        mine = seed[(system.outputs if transposed else system.inputs).positions]
        return np.ascontiguousarray(mine[:, 0] if m == 1 else mine)

    def keep(self, label: str, system: Any, transposed: bool, found: np.ndarray) -> None:
        """The whole result on rank 0, so that results of several ways are compared."""
        positions = (system.inputs if transposed else system.outputs).positions
        parts = self.run.comm.gather((positions, found)) if system is self.spread else [(positions, found)]
        if self.run.root:
            full = np.zeros((ENDS, *found.shape[1:]))
            for places, values in parts:
                full[places] = values
            kept = self.run.gradients.setdefault(label, full)
            if not np.allclose(full, kept, rtol=1e-10, atol=1e-12 * np.abs(kept).max()):
                raise RuntimeError(f"another solution: {label}")

    def close(self) -> None:
        for system in (self.whole, self.spread):
            if system is not None:
                system.close()


def repeated(settings: dict[str, Any]) -> Run:
    """First and further solves by interface elimination, narrow and wide interfaces, one right-hand side and twenty."""
    from distdiff.solvers.base import Solver
    from distdiff.solvers.interface import Interface
    from distdiff.solvers.substitution import Substitution

    run = Run(settings)
    for s in settings["widths"]:
        chains = Chains(run, settings["rows"], s)
        alone = Substitution(chains.whole) if run.root else None
        both, ours = Substitution(chains.spread), Interface(chains.spread)
        for m in (1, 20):
            for transposed in (False, True):
                name = "adjoint" if transposed else "tangent"
                label = f"{name}, s = {s}, m = {m}"
                results: dict[str, Any] = {}

                seeds = {id(system): chains.seed(system, transposed, m) for system in (chains.whole, chains.spread)
                         if system is not None}

                def solve(what: str, solver: Any, t: bool = transposed, into: dict[str, Any] = results,
                          seeds: dict[int, np.ndarray] = seeds) -> None:
                    if solver is not None:
                        into[what] = (solver.adjoint if t else solver.tangent)(seeds[id(solver.system)])

                def first(solve: Callable[..., None] = solve, ours: Any = ours) -> None:
                    ours.refresh()
                    solve("first solve", ours)

                def every_row(a: Any = alone, t: bool = transposed, seeds: dict[int, np.ndarray] = seeds) -> None:
                    if a is not None:
                        (Solver.adjoint if t else Solver.tangent)(a, seeds[id(a.system)])

                taken = _in_turn(run, {
                    "substitution, one rank": lambda solve=solve, a=alone: solve("one", a),
                    "substitution, two ranks": lambda solve=solve, b=both: solve("two", b),
                    "substitution, one rank, every row kept": every_row,
                    "interface, its columns alone": partial(columns_alone, ours, transposed),
                    "interface, first solve": first,
                    "interface, further solve": lambda solve=solve, o=ours: solve("further", o)})
                for found, system in ((results.get("one"), chains.whole), (results["two"], chains.spread),
                                      (results["first solve"], chains.spread), (results["further"], chains.spread)):
                    if found is not None:
                        chains.keep(label.replace(" ", ""), system, transposed, found)
                _figures(run, label, f"{name} {s} {m}", taken, chains.n * m)
        chains.close()
    return run


def columns_alone(ours: Any, transposed: bool) -> None:
    """What a first solve can't do without: the passes for this rank's transfer matrices.  Local."""
    block, system = ours.block, ours.system
    if transposed:
        block.transfer(ours._sent, np.concatenate([ours._used, ours._fixed]), system.inputs.ids)
    else:
        block.transfer(ours._ends, ours._used)


def pipeline(settings: dict[str, Any]) -> Run:
    """256 right-hand sides, batch after batch."""
    from distdiff.solvers.pipeline import Pipeline
    from distdiff.solvers.substitution import Substitution

    run = Run(settings)
    m = settings["columns"]
    chains = Chains(run, settings["rows"] // 4, 8)
    alone = Substitution(chains.whole) if run.root else None
    ours = Pipeline(chains.spread)
    for transposed in (False, True):
        name = "adjoint" if transposed else "tangent"
        results: dict[str, Any] = {}

        whole = chains.seed(chains.whole, transposed, m) if run.root else np.empty((0, 0))
        mine = chains.seed(chains.spread, transposed, m)

        def one_rank(t: bool = transposed, into: dict[str, Any] = results, seed: np.ndarray = whole) -> None:
            if alone is not None:
                solve = alone.adjoint if t else alone.tangent
                parts = [solve(np.ascontiguousarray(seed[:, k:k + BATCH])) for k in range(0, m, BATCH)]
                into["one"] = np.concatenate(parts, axis=1)

        def piped(t: bool = transposed, into: dict[str, Any] = results, seed: np.ndarray = mine) -> None:
            into["ours"] = (ours.adjoint if t else ours.tangent)(seed)

        taken = _in_turn(run, {"substitution, one rank": one_rank, "pipeline": piped})
        for found, system in ((results.get("one"), chains.whole), (results["ours"], chains.spread)):
            if found is not None:
                chains.keep(f"{name}-{m}", system, transposed, found)
        stages = f", {ours.info['batches']} batches, {ours.info['stages']} stages"
        _figures(run, f"{name}, s = 8, m = {m}", f"{name} {m}", taken, chains.n * m, {"pipeline": stages})
    chains.close()
    return run


def library(settings: dict[str, Any]) -> Run:
    """The same through the library: `lin.jvp`, `lin.vjp` and a Jacobian of twenty columns, a scalar loop of two states
    and eighteen parameters, all read along the way, with forty results of it."""
    from mpi4py import MPI

    import distdiff as dd

    run = Run(settings)
    n, results_of = settings["rows"] // 3, 40
    each = n // 2 // results_of

    def f(x: Any) -> Any:
        a, b = x[0], x[1]
        out = np.zeros(results_of)
        for r in range(results_of):
            for k in range(each):
                p = x[2 + k % 18]
                a, b = a + 1e-5 * p * (b - a * b), b + 1e-5 * (a * b - p * a)
            out[r] = a
        return out

    g, x = dd.compiled(f), np.linspace(0.5, 1.5, 20)
    both = dd.linearize(g, x, method="interface")
    both.vjp(np.ones(results_of))
    alone = dd.linearize(g, x, comm=MPI.COMM_SELF, method="substitution") if run.root else None
    calls: dict[str, Callable[[Any], Any]] = {
        "vjp": lambda lin: lin.vjp(np.ones(results_of)), "jvp": lambda lin: lin.jvp(np.ones(20)),
        "Jacobian by 20 tangents": lambda lin: lin.jacobian()}
    for name, call in calls.items():
        results: dict[str, Any] = {}

        def one_rank(call: Any = call, into: dict[str, Any] = results) -> None:
            if alone is not None:
                into["one"] = call(alone)

        def two_ranks(call: Any = call, into: dict[str, Any] = results) -> None:
            into["two"] = call(both)

        for solve in (two_ranks, two_ranks):  # the first goes through all rows
            solve()
        taken = _in_turn(run, {"substitution, one rank": one_rank, "interface, further solve": two_ranks})
        if run.root and not np.allclose(results["one"], results["two"], rtol=1e-10):
            raise RuntimeError(f"another solution: {name}")
        _figures(run, f"library, {name}", f"library {name}", taken, n * (20 if "20" in name else 1))
    both.close()
    if alone is not None:
        alone.close()
    return run


def _figures(run: Run, label: str, role: str, taken: dict[str, list[float]], units: float,
             more: dict[str, str] | None = None) -> None:
    median = {what: 1e9 * statistics.median(seconds) / units for what, seconds in taken.items()}
    half = median["substitution, one rank"] / 2
    limits = {"interface, first solve": median.get("interface, its columns alone", 0.0) + 2 * half,
              "interface, further solve": half, "pipeline": half}
    for what, seconds in taken.items():
        bound = {"limit": limits[what]} if what in limits else {}
        run.figures.append(figure(f"{label}: {what}{(more or {}).get(what, '')}", seconds, units, "row",
                                  role=f"{what}: {role}", ranks=2, **bound))


TOOLS = {"repeated": repeated, "pipeline": pipeline, "library": library}
