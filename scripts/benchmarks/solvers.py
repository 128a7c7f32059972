"""Solvers: every method on programs of many structures, and whether `auto` takes the best.

The job is `columns` right-hand sides at one point, evaluated already, with all the method must set up for it; they go
through in batches, as `jacobian` sends them.  Imports and compilations of the process are done before.  Where batches
are many, the first ones are timed and the median of those after the first stands for the rest.

On several ranks `auto` chooses a layout for each number of right-hand sides, with the method; every method on every
other layout stands against that: all on rank 0, arrays cut along axes, stretches in trace order, right-hand sides
split.  A layout is for many points (`Use.points`), and the job there is one of them: its part of sharing the program
out and of what the method takes at the first point alone, an evaluation, and what it takes at another.

Seconds are the least of several runs in turns: what disturbs a run is not the method's.  All methods' results are
compared.
"""
from __future__ import annotations

import statistics
import time
from functools import partial
from typing import Any

import numpy as np
from measure import Figure
from structures import Program, fresh, held_out, suite, unseen

COLUMNS = (1, 20, 1000)
PASSES = 4
LEAST = 4  # runs of a method that may still be the best
SECONDS = 0.4  # of one method and one job; beyond, no further repetition
DISTURBED = 2.0  # seconds that a single run may have been held up by something, a loop that the cache lacks included
HOPELESS = 4.0  # times the best: such a method is not repeated; not run at all if predicted to take its square
TOLERANCE = 1e-8  # of the largest result
LAYOUTS = ("fewer ranks", "axes", "contiguous", "right-hand sides")  # beside auto's own
EVALUATIONS = 5


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


def newest(settings: dict[str, Any]) -> Run:
    """The structures that nobody looked at while layouts and methods came to be chosen together."""
    return _run(settings, fresh(settings["quick"]))


def last(settings: dict[str, Any]) -> Run:
    """The structures written when counts and rates were changed last."""
    return _run(settings, unseen(settings["quick"]))


def _run(settings: dict[str, Any], programs: list[Program]) -> Run:
    from mpi4py import MPI

    from distdiff.warm import warm

    run = Run()
    run.root = MPI.COMM_WORLD.rank == 0
    warm(MPI.COMM_WORLD)
    wanted = settings.get("structures")
    for program in programs:
        if not wanted or program[0] in wanted:
            run.figures += _structure(program, settings, MPI.COMM_WORLD)
    return run


def _structure(program: Program, settings: dict[str, Any], comm: Any) -> list[Figure]:
    from distdiff.solvers.layouts import Use
    from distdiff.solvers.work import BATCH

    name, f, x = program
    laid: dict[str, _Laid] = {}

    def lay(partition: str, m: int) -> _Laid:
        made = _Laid(f, x, partition, Use(m, BATCH if m > 1 else 1), comm)
        if made.name in laid:
            made.lin.close()
        return laid.setdefault(made.name, made)

    found = []
    for m in settings.get("columns", COLUMNS):
        mine = lay("auto", m)
        others = [lay(partition, m) for partition in (LAYOUTS if comm.size > 1 else ())
                  if m > 1 or partition != "right-hand sides"]
        candidates, picked = {}, ""
        for each in {id(one): one for one in (mine, *others)}.values():
            job = _Job(each.lin, m, comm)
            predicted, chosen = job.predictions()
            label = {method: f"{method}, {each.name}" if comm.size > 1 else method for method in predicted}
            picked = label[chosen] if each is mine else picked
            candidates |= {label[method]: (job, method, seconds + each.predicted, each.evaluation)
                           for method, seconds in predicted.items()}
        found.append(_times(candidates, settings, comm) | {
            "structure": name, "columns": m, "ranks": comm.size, "role": "job", "picked": picked,
            "direction": job.direction, "lines": mine.lin.report().lines, "partition": mine.name})
    for each in laid.values():
        each.lin.close()
    return found


class _Laid:
    """A linearization in a layout, and on several ranks the seconds that an evaluation takes with its part of sharing
    the program out, measured and predicted.
    """

    def __init__(self, f: Any, x: np.ndarray, partition: str, use: Any, comm: Any) -> None:
        import distdiff as dd
        from distdiff.machine import current

        self.lin = lin = dd.linearize(f, x, partition=partition, solves=use, comm=comm)
        self.name = lin._at.facts.partition
        self.evaluation = self.predicted = 0.0
        if comm.size > 1:
            taken = []
            for k in range(EVALUATIONS):
                comm.Barrier()
                start = time.perf_counter()
                lin.update(x * (1.0 + 1e-9 * (k % 2)))
                comm.Barrier()
                taken.append(time.perf_counter() - start)
            chosen = next(c for c in lin._at.facts.candidates if c["chosen"])
            share = lin.report().times["share"] / use.points
            self.evaluation = comm.bcast(min(taken)) + share
            self.predicted = 0.5 * chosen["seconds"] + current().point_call + chosen["job"]["sharing"] / use.points


def _times(candidates: dict[str, tuple[_Job, str, float, float]], settings: dict[str, Any],
           comm: Any) -> dict[str, Any]:
    """Samples of every candidate (job, method, seconds predicted, those of the evaluation), and the largest difference
    of their results.
    """
    cheapest = min(seconds for _, _, seconds, _ in candidates.values())
    samples: dict[str, list[float]] = {
        name: [] for name, (_, _, seconds, _) in candidates.items() if seconds <= HOPELESS**2 * cheapest}
    worst, reference = 0.0, None
    for _ in range(settings["repeats"]):  # in turns, so that a disturbance meets them all
        best = min((min(taken) for taken in samples.values() if taken), default=np.inf)
        for name, taken in samples.items():
            job, method, _, evaluation = candidates[name]
            if len(taken) >= LEAST and (sum(taken) > SECONDS or min(taken) > HOPELESS * best):
                continue
            if taken and min(taken) > max(SECONDS if len(taken) > 1 else DISTURBED, HOPELESS * best):
                continue
            seconds, result = job.run(method)
            taken.append(seconds + evaluation)
            reference = result if reference is None else reference
            both = ..., slice(min(result.shape[-1], reference.shape[-1])) if result.ndim > 1 else slice(None)
            difference = np.abs(result[both] - reference[both]).max()
            worst = max(worst, float(difference / max(np.abs(reference).max(), 1e-300)))
    return {"samples": samples, "predicted": {name: candidates[name][2] for name in samples}, "difference": worst}


class _Job:
    """Some right-hand sides at the point of a linearization."""

    def __init__(self, lin: Any, columns: int, comm: Any) -> None:
        from distdiff import batches

        facts, local = lin._at.facts, lin._at.local
        forward = columns > 1 and facts.n_inputs > facts.n_outputs
        self.lin, self.columns, self.comm = lin, lin._at.use._replace(columns=columns).share(
            comm.size, facts.everywhere), comm
        self._points = lin._at.use.points if comm.size > 1 else 1
        columns = self.columns
        self.direction = "tangent" if forward else "adjoint"
        self._results = lin._at.outputs if forward else lin._at.inputs
        self._width = batches.width(local.n_nodes, comm) if columns > 1 else 1
        self._ends = ((facts.n_inputs, local.inputs.positions) if forward
                      else (facts.n_outputs, local.outputs.positions))
        self._made: dict[int, list[np.ndarray]] = {}

    def _at_once(self, method: str) -> int:
        """How many right-hand sides `jacobian` would hand to the method together."""
        from distdiff.solvers import method as method_of

        return self._width * (method_of(method).at_once if self.columns > 1 else 1)

    def _seeds(self, method: str) -> list[np.ndarray]:
        """The first batches, as wide as the method wants them."""
        width, m = self._at_once(method), self.columns
        if width not in self._made:
            n, places = self._ends
            rng = np.random.default_rng(0)  # the same on every rank
            # column by column: layouts and methods whose batches differ have the same columns
            seeds = [rng.standard_normal((min(width, m - k), n)).T for k in range(0, m, width)[:PASSES]]
            self._made[width] = [np.ascontiguousarray(seed[places] if m > 1 else seed[places, 0]) for seed in seeds]
        return self._made[width]

    def predictions(self) -> tuple[dict[str, float], str]:
        """Seconds by method, of those that apply, and what auto takes."""
        from distdiff.machine import current
        from distdiff.solvers.layouts import a_point

        self._clear("auto")
        solving = self.lin._solving
        choice, work = solving.choose(self.columns), solving.work()
        seconds = {c.method: a_point(c.method, work, self.columns, current(), self._points).seconds
                   for c in choice.candidates if c.seconds is not None}
        return self.comm.bcast({method: taken for method, taken in seconds.items() if taken is not None}), choice.method

    def run(self, method: str) -> tuple[float, np.ndarray]:
        """Seconds of the job, from the evaluated point on, and the first batch's result."""
        self._clear(method)
        times, seeds = [], self._seeds(method)
        solve = partial(self.lin._solving.solve, self.direction == "tangent")

        def at_first(seed: np.ndarray) -> tuple[float, np.ndarray]:
            self.comm.Barrier()
            start = time.perf_counter()
            self.lin._solving.select(self.columns)
            result = solve(seed)
            self.comm.Barrier()
            return time.perf_counter() - start, result

        first, result = at_first(seeds[0])
        result = self._results.collect(result)
        if self._points > 1:  # the same values, which nobody knows to be the same
            self.lin._solving.leave()
            self.lin._solving.arrive(self.lin._at.point)
            first = (first + (self._points - 1) * at_first(seeds[0])[0]) / self._points
        for seed in seeds[1:]:
            self.comm.Barrier()
            start = time.perf_counter()
            solve(seed)
            self.comm.Barrier()
            times.append(time.perf_counter() - start)
        rest = -(-self.columns // self._at_once(method)) - 1
        return self.comm.bcast(first + (rest * statistics.median(times) if times else 0.0)), result

    def _clear(self, method: str) -> None:
        """As if nothing had been solved at this point."""
        from distdiff.solving import Solving

        lin = self.lin
        lin._solving.close()
        lin._solving = Solving(lin._at.local, lin.comm, lin._at.team, lin.stages, method=method, options=lin.options,
                               preaccumulate=lin.preaccumulate, on_failure="raise", points=self._points)
        lin._solving.arrive(lin._at.point)


def agreement(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every job's methods against the first of them."""
    return [{"what": f"{f['structure']}, {f['columns']} right-hand sides, {f['ranks']} ranks", "tool": "another method",
             "against": next(iter(f["samples"])), "difference": f["difference"],
             "agrees": f["difference"] <= TOLERANCE}
            for result in results for f in result["figures"] if "difference" in f]


TOOLS = {"table": table, "held_out": others, "fresh": newest, "unseen": last}
