"""Solvers: every method on programs of many structures, and whether `auto` takes the best.

The job is `columns` right-hand sides at one point, evaluated already, with all the method must set up for it; they go
through in batches, as `jacobian` sends them.  Imports and compilations of the process are done before.  Where batches
are many, the first ones are timed and the median of those after the first stands for the rest.
"""
from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import numpy as np
from measure import Figure
from structures import Program, held_out, suite

COLUMNS = (1, 20, 1000)
REPEATS, PASSES = 15, 4
SECONDS = 0.5  # of one method and one job; beyond, no further repetition
HOPELESS = 8.0  # times the best: such a method is not repeated; not run at all if predicted to take its square


class Run:
    """What the worker writes down."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}
        self.root = True


def table(settings: dict[str, Any]) -> Run:
    """The structures of the table."""
    return _run(settings, suite(settings["quick"]))


def others(settings: dict[str, Any]) -> Run:
    """The structures held out."""
    return _run(settings, held_out(settings["quick"]))


def _run(settings: dict[str, Any], programs: list[Program]) -> Run:
    from mpi4py import MPI

    run = Run()
    run.root = MPI.COMM_WORLD.rank == 0
    wanted = settings.get("structures")
    _warm_up(MPI.COMM_WORLD)
    for program in programs:
        if not wanted or program[0] in wanted:
            run.figures += _structure(program, settings.get("columns", COLUMNS), MPI.COMM_WORLD)
    return run


def _warm_up(comm: Any) -> None:
    """Everything imported, compiled and loaded."""
    from distdiff.warm import warm

    warm(comm)


def _structure(program: Program, columns: Any, comm: Any) -> list[Figure]:
    import distdiff as dd

    name, f, x = program
    found = []
    with dd.linearize(f, x, method="sweep", comm=comm) as lin:
        for m in columns:
            bench = _Job(lin, m, comm)
            predicted, picked = bench.predictions()
            cheapest = min(predicted.values())
            methods = [k for k, seconds in predicted.items() if seconds <= HOPELESS**2 * cheapest]
            samples: dict[str, list[float]] = {k: [] for k in methods}
            for _ in range(REPEATS):  # in turns, so that a disturbance meets them all
                best = min((min(taken) for taken in samples.values() if taken), default=np.inf)
                for method in methods:
                    taken = samples[method]
                    if not taken or sum(taken) < SECONDS and min(taken) < HOPELESS * best:
                        taken.append(bench.seconds(method))
            report = lin.report()
            found.append({
                "structure": name, "columns": m, "ranks": comm.size, "role": "job", "picked": picked,
                "samples": samples, "predicted": predicted, "lines": report.lines,
                "k_star": report.k_star, "partition": report.partition,
                "direction": bench.direction, "work": bench.work})
    return found


class _Job:
    """Some right-hand sides at the point of a linearization."""

    def __init__(self, lin: Any, columns: int, comm: Any) -> None:
        facts = lin._facts
        forward = columns > 1 and facts.n_inputs > facts.n_outputs
        self.lin, self.columns, self.comm = lin, columns, comm
        self.direction = "tangent" if forward else "adjoint"
        n = len((lin._local.inputs if forward else lin._local.outputs).positions)
        rng = np.random.default_rng(comm.rank)
        width = lin._width() if columns > 1 else 1
        self._seeds = [rng.standard_normal((n, min(width, columns - k))) for k in range(0, columns, width)][:PASSES]
        if columns == 1:
            self._seeds = [self._seeds[0][:, 0].copy()]
        self._batches = -(-columns // width)
        self.work: dict[str, Any] = {}

    def predictions(self) -> tuple[dict[str, float], str]:
        """Seconds by method, of those that apply, and what auto takes."""
        from dataclasses import asdict

        self._clear("auto")
        choice = self.lin._solving.choose(self.columns)
        self.work = asdict(self.lin._solving.work())
        return {c.method: c.seconds for c in choice.candidates if c.seconds is not None}, choice.method

    def seconds(self, method: str) -> float:
        """The job, from the evaluated point on."""
        self._clear(method)
        times = []
        self.comm.Barrier()
        start = time.perf_counter()
        self.lin._solving.select(self.columns)
        solve = partial(self.lin._solving.solve, self.direction == "tangent")
        solve(self._seeds[0])
        self.comm.Barrier()
        first = time.perf_counter() - start
        for seed in self._seeds[1:]:
            start = time.perf_counter()
            solve(seed)
            self.comm.Barrier()
            times.append(time.perf_counter() - start)
        rest = self._batches - 1
        return self.comm.bcast(first + (rest * statistics.median(times) if times else 0.0))

    def _clear(self, method: str) -> None:
        """As if nothing had been solved at this point."""
        from distdiff.solving import Solving

        lin = self.lin
        lin._solving.close()
        lin._solving = Solving(lin._local, lin.comm, lin._team, lin.stages, method=method, options=lin.options,
                               preaccumulate=lin.preaccumulate, on_failure="raise")
        lin._solving.arrive(lin._point)


TOOLS = {"table": table, "held_out": others}
