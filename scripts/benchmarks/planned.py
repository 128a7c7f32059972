"""What `distdiff plan` predicts of layouts on these ranks, beside what the same functions take there.

    scripts/bench planned [--ranks 1,2] [--program NAME] [--quick] [--json FILE]

A point is as `plan` has it: an evaluation and a gradient, with a POINTS-th of what sharing the program out and the
first solve's set-up take.  Seconds are the least of several, of the processor on one rank.  Messages are those of all
ranks in one pass, bytes what the fullest rank holds.  By the machine's rates (`distdiff calibrate`).
"""
from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from structures import Program, burgers, chain, digits, layered, mesh, tree, water, wide

POINTS = 12
LAYOUTS = {"grid in loops, grown": "growlocal"}  # that are asked for by name, by program


def ensemble(particles: int, steps: int) -> Program:
    """Particles in loops over floats, step after step, and the energy of all."""
    def f(x: Any) -> Any:
        q, p = [x[k] for k in range(particles)], [0.0] * particles
        for _ in range(steps):
            p = [p[k] - 0.01 * np.sin(q[k]) for k in range(particles)]
            q = [q[k] + 0.01 * p[k] for k in range(particles)]
        return sum(a * a for a in p)
    return "ensemble", f, np.linspace(0.1, 1.0, particles)


def loops(cells: int, steps: int) -> Program:
    """A grid in loops over floats."""
    def f(x: Any) -> Any:
        u = [x[k] for k in range(cells)]
        for _ in range(steps):
            u = [u[k] + 0.1 * (u[k - 1] - 2 * u[k] + u[(k + 1) % cells]) for k in range(cells)]
        return sum(u)
    return "grid in loops", f, np.linspace(0.1, 1.0, cells)


def programs(quick: bool) -> list[Program]:
    s = 10 if quick else 1

    def summed(program: Program) -> Program:
        name, f, x = program
        return name, lambda u: np.sum(np.asarray(f(u)) ** 2), x

    large = summed(burgers(200_000 // s, 40))
    return [chain(20_000 // s), wide(400_000 // s, 8), summed(layered(64, 6)), tree(2**14), summed(burgers(2000, 60)),
            ("large burgers", *large[1:]), water(48, 16), ("large water", *water(192 // (4 if quick else 1), 16)[1:]),
            digits(600), mesh(4000, 10), ensemble(2000 // s, 20), loops(400, 200 // s),
            (next(iter(LAYOUTS)), *loops(400, 200 // s)[1:])]


def measured(program: Program) -> dict[str, Any]:
    """Of a program on all ranks.  Collective."""
    from mpi4py import MPI

    import distdiff as dd
    from distdiff.comm import on_root
    from distdiff.planning import plan
    from distdiff.solvers.layouts import POINTS as SHARING
    from distdiff.tracing import trace

    name, f, x = program
    comm = MPI.COMM_WORLD
    clock = time.process_time if comm.size == 1 else time.perf_counter
    strategy = LAYOUTS.get(name, "auto") if comm.size > 1 else "auto"
    layout = on_root(comm, lambda: next(
        vars(one) for one in plan(trace(f, (x,)).tape, [comm.size], strategy=strategy).layouts
        if one.ranks == comm.size))

    def seconds(call: Callable[[], Any]) -> float:
        comm.Barrier()
        start = clock()
        call()
        comm.Barrier()
        return comm.bcast(clock() - start)

    with dd.linearize(f, x, partition=strategy) as lin:  # has what is loaded late loaded
        lin.vjp(1.0)
    with dd.linearize(f, x, partition=strategy) as lin:
        first = seconds(lambda: lin.vjp(1.0))
        again = [(seconds(lambda k=k: lin.update(x * (1.0 + 1e-9 * k))), seconds(lambda: lin.vjp(1.0)))
                 for k in range(POINTS)][2:]
        report = lin.report()
        evaluation, solve = map(min, zip(*again))
        once = report.times.get("share", 0.0) + max(first - solve, 0.0)
        return {"program": name, "ranks": comm.size, "layout": report.partition, "method": report.method,
                "seconds": evaluation + solve + once / SHARING, "messages": report.messages,
                "memory": report.memory_per_rank_bytes, "predicted": layout, "evaluation": evaluation, "solve": solve,
                "once": once}


def worker(arguments: argparse.Namespace) -> None:
    from mpi4py import MPI

    from distdiff.warm import warm

    warm(MPI.COMM_WORLD)
    for program in programs(arguments.quick):
        if arguments.program in program[0]:
            found = measured(program)
            if MPI.COMM_WORLD.rank == 0:
                print(json.dumps(found), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench planned", description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", default="1,2", help="numbers of ranks, default %(default)s")
    parser.add_argument("--program", default="", help="programs whose name contains this")
    parser.add_argument("--quick", action="store_true", help="smaller programs")
    parser.add_argument("--json", type=Path, help="all rows to a file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return 0
    rows = []
    print(f"{'program':<22}{'ranks':>6}  {'predicted':>10}{'took':>10}{'ratio':>7}{'messages':>10}{'counted':>9}"
          f"{'memory':>11}{'held':>11}{'ratio':>7}  layout: method")
    for ranks in map(int, arguments.ranks.split(",")):
        command = ["mpirun", "-n", str(ranks), sys.executable, __file__, "--worker", "--program", arguments.program,
                   *(["--quick"] if arguments.quick else [])]
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        for row in (json.loads(line) for line in said.splitlines() if line.startswith("{")):
            rows.append(row)
            plan = row["predicted"]
            name = f"{row['layout']}: {row['method']}"
            other = f" (plan: {plan['name']}: {plan['method']})" if name != f"{plan['name']}: {plan['method']}" else ""
            print(f"{row['program']:<22}{ranks:>6}  {1e3 * plan['seconds']:>7.3g} ms{1e3 * row['seconds']:>7.3g} ms"
                  f"{plan['seconds'] / row['seconds']:>7.2f}{plan['messages']:>10}{row['messages']:>9}"
                  f"{plan['memory'] / 1e6:>8.3g} MB{row['memory'] / 1e6:>8.3g} MB"
                  f"{plan['memory'] / max(row['memory'], 1):>7.2f}  {name}{other}", flush=True)
    for what, key in ("time", "seconds"), ("memory", "memory"):
        ratios = sorted(row["predicted"][key] / row[key] for row in rows)
        quarters = ", ".join(f"{q:.2f}" for q in np.quantile(ratios, [0.25, 0.5, 0.75]))
        print(f"{what}: predicted over measured {quarters} (quartiles), {ratios[0]:.2f} to {ratios[-1]:.2f}")
    equal = sum(row["predicted"]["messages"] == row["messages"] for row in rows)
    print(f"messages: as counted in {equal} of {len(rows)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
