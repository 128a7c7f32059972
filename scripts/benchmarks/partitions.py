"""What every partitioner makes of programs of many structures, on ranks that nobody has: counted, not measured.

    scripts/bench partitions [--ranks 2,16,256] [--program NAME] [--quick] [--json FILE]

Rows are by the measure that layouts are compared by: seconds predicted for an evaluation and a solve (for as many
right-hand sides as the program is asked for), with the default machine's rates, so that they are the same everywhere;
values, messages and supersteps of one pass; lines of the busiest rank of every superstep, one superstep after another;
bytes on the fullest rank.  Beneath, which partitioner is ahead for which program.  No MPI, one process.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import distdiff as dd
from distdiff.machine import Machine
from distdiff.partition import table
from distdiff.tape import ScalarRun

RANKS = (2, 4, 8, 16, 32, 64, 128, 256)
PARTITIONERS = ("fewer ranks", "axes", "streaming", "contiguous", "levels", "growlocal", "pt-scotch",
                "right-hand sides")
SCALAR = ("streaming", "levels", "growlocal", "pt-scotch")  # that look at single lines
MOST_OF_SCOTCH = 100_000  # lines: beyond, PT-Scotch takes minutes for a table


class Program(NamedTuple):
    """A function at a point, and right-hand sides that come together."""

    name: str
    f: Callable[..., Any]
    x: np.ndarray
    columns: int = 1


def programs(quick: bool) -> list[Program]:
    n = 1 if quick else 4
    draw = np.random.default_rng(0)
    ring, places = np.linspace(0.1, 1.0, 100 * n), draw.uniform(size=(300 * n, 2))
    near = np.argsort(((places[:, None] - places)**2).sum(axis=2), axis=1)[:, 1:4]
    reads = draw.uniform(size=(20_000 * n, 2))

    def grid(u: Any) -> Any:
        for _ in range(50):
            u = u + 0.1 * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
        return np.sum(u**2)

    def grid_in_loops(x: Any) -> Any:
        u = [x[k] for k in range(len(x))]
        for _ in range(50 * n):
            u = [u[k] + 0.1 * (u[k - 1] - 2 * u[k] + u[(k + 1) % len(u)]) for k in range(len(u))]
        return sum(u)

    def samples(x: Any) -> Any:
        total = 0.0
        for k in range(20_000 * n):
            total = total + np.tanh(x[0] * (0.001 * k) + x[1])**2
        return total

    def again(x: Any) -> Any:
        """All samples anew for every guess."""
        guess = x[0]
        for _ in range(5):
            total = 0.0
            for k in range(4000 * n):
                t = guess * (0.001 * k)
                for _ in range(4):
                    t = np.sin(t) * guess
                total = total + t
            guess = np.tanh(total * x[1])
        return guess

    def members(x: Any) -> Any:
        """One trajectory after the other."""
        kept = []
        for k in range(128 * n):
            s = x[k]
            for _ in range(200):
                s = np.sin(s) * x[-1]
            kept.append(s)
        return kept

    def mesh(x: Any) -> Any:
        """Points in the plane, in random order, add up their neighbours."""
        u = [x[k] for k in range(len(x))]
        for _ in range(10 * n):
            u = [np.sin(u[i] * u[a] * u[b] * u[c]) for i, (a, b, c) in enumerate(near)]
        return u

    def triangular(x: Any) -> Any:
        """A triangular solve whose rows read any two before them."""
        y = [x[k] for k in range(len(x))]
        for a, b in reads:
            y.append(0.4 * y[int(a * len(y))] - 0.3 * y[int(b * len(y))])
        return y[-5:]

    def tree(x: Any) -> Any:
        u = [x[k] for k in range(len(x))]
        while len(u) > 1:
            u = [np.sin(a) * np.tanh(b) for a, b in zip(u[::2], u[1::2])]
        return u[0]

    def chain(x: Any) -> Any:
        s = x[0]
        for k in range(5000 * n):
            s = np.sin(s) * x[k % len(x)]
        return s

    few = np.linspace(0.4, 0.9, 5)
    return [Program("grid", grid, np.linspace(0.1, 1.0, 50_000 * n)), Program("grid in loops", grid_in_loops, ring),
            Program("samples in loops", samples, few), Program("samples again", again, few),
            Program("members", members, np.linspace(0.1, 1.0, 128 * n + 1)),
            Program("mesh", mesh, np.linspace(0.4, 0.9, len(places))), Program("triangular solve", triangular, few),
            Program("tree in loops", tree, np.linspace(0.5, 1.5, 8192 * n)),
            Program("chain", chain, few), Program("chain, 50 columns", chain, few, 50)]


def rows(program: Program, ranks: tuple[int, ...]) -> list[dict[str, Any]]:
    tape = dd.trace(program.f, program.x)
    scalar = sum(item.lines for item in tape.items if isinstance(item, ScalarRun))
    found = []
    for name in PARTITIONERS:
        if name in SCALAR and not scalar or name == "axes" and scalar == tape.lines - tape.n_inputs or (
                name == "pt-scotch" and scalar > MOST_OF_SCOTCH or name == "right-hand sides" and program.columns == 1):
            continue
        begun = time.process_time()
        for row in table(tape, ranks, program.columns, Machine(), name):
            found.append({"program": program.name, "lines": tape.lines, "partitioner": name, **row,
                          "in_turn": row["waits"] * row["max_work"]})
        for row in found[-len(ranks):]:
            row["made"] = (time.process_time() - begun) / len(ranks)
    return found


def best(found: list[dict[str, Any]], ranks: int) -> dict[str, Any]:
    """The row that promises least; of equals the first, which has the simplest layout."""
    here = [row for row in found if row["ranks"] == ranks]
    least = min(row["seconds"] for row in here)
    return next(row for row in here if row["seconds"] <= 1.005 * least)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench partitions", description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", default=",".join(map(str, RANKS)), help="numbers of ranks, default %(default)s")
    parser.add_argument("--program", default="", help="programs whose name contains this")
    parser.add_argument("--quick", action="store_true", help="smaller programs")
    parser.add_argument("--json", type=Path, help="all rows to a file")
    arguments = parser.parse_args()
    ranks, every = tuple(int(n) for n in arguments.ranks.split(",")), []
    chosen = [p for p in programs(arguments.quick) if arguments.program in p.name]
    for program in chosen:
        found = rows(program, ranks)
        every += found
        print(f"\n{program.name}: {found[0]['lines']:,} lines, {program.columns} right-hand side"
              f"{'s' * (program.columns > 1)}")
        print(f"{'ranks':>7} {'partitioner':<17}{'predicted':>11}{'speed-up':>9}{'lines in turn':>14}{'k*':>7}"
              f"{'messages':>10}{'values sent':>12}{'memory':>11}{'made in':>9}")
        for n in ranks:
            for row in (r for r in found if r["ranks"] == n):
                print(f"{n:>7} {row['partitioner']:<17}{1e3 * row['seconds']:>8.3g} ms{row['speedup']:>9.2f}"
                      f"{row['in_turn']:>14,.0f}{row['k_star']:>7}{row['messages']:>10,}{row['halo']:>12,}"
                      f"{row['memory'] / 1e6:>7.3g} MB{row['made']:>7.2f} s{' <' * (row is best(found, n))}")
    print(f"\n{'ahead':<18}" + "".join(f"{n:>22}" for n in ranks))
    for program in chosen:
        found = [row for row in every if row["program"] == program.name]
        ahead = [best(found, n) for n in ranks]
        print(f"{program.name:<18}" + "".join(f"{row['partitioner'] + ' ' + format(row['speedup'], '.2f'):>22}"
                                              for row in ahead))
    if arguments.json:
        arguments.json.write_text(json.dumps(every, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
