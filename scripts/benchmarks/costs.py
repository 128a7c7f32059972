"""What stages and structures cost: the figures of ARCHITECTURE.md that compare no tools.

    scripts/bench costs [--quick] [--json FILE]

Every row is the least of a few repeats, in processor time (but for start-up), so that other work on the machine changes
little; ratios are of calls taken in turns.  One process on one rank: what partitions cost for many ranks, rank 0 pays
alone.
"""
from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from mpi4py import MPI
from programs import burgers_initial, chain_inputs, make_burgers, make_chain, poisson
from scipy.sparse.linalg import splu
from structures import wide

import distdiff as dd
from distdiff import graph
from distdiff.filling import MumpsFactors, fills
from distdiff.graph.live import LiveWidth
from distdiff.graph.reads import Reads
from distdiff.machine import current
from distdiff.partition import Partition, partition, whole
from distdiff.partition.localize import Rank
from distdiff.pictures import sparsity, widths
from distdiff.program import record
from distdiff.solvers import method
from distdiff.solvers.kept import kept
from distdiff.solvers.layouts import Judge, Use
from distdiff.solvers.sweep_plan import plan_adjoint
from distdiff.spanning import SpanningBlock
from distdiff.tape import Tape
from distdiff.tracing import memory
from distdiff.watch import Surroundings

REPEATS = 5


class Row(NamedTuple):
    """A figure, the unit it is in, and what it is a figure of."""

    what: str
    value: float
    unit: str


def seconds(*calls: Callable[[], Any], repeats: int = REPEATS) -> list[float]:
    """The least processor time of each call; they are called in turns, once more beforehand."""
    taken = []
    for _ in range(repeats + 1):
        times = []
        for call in calls:
            begin = time.process_time()
            call()
            times.append(time.process_time() - begin)
        taken.append(times)
    return [min(times) for times in zip(*taken[1:])]


def burgers(points: int, steps: int) -> tuple[Callable[..., Any], np.ndarray]:
    return make_burgers(points, steps), burgers_initial(points)


def irregular(statements: int) -> tuple[Callable[..., Any], np.ndarray]:
    """Array code in which no stretch is like another: slices of lengths of their own."""
    rng = np.random.default_rng(0)
    cuts = rng.integers(20, 400, size=(statements // 3, 2))

    def f(u: Any) -> Any:
        for a, b in cuts:
            n = min(len(u) - a, len(u) - b)
            u = np.concatenate([np.tanh(u[a:a + n] * u[b:b + n]), u[:len(u) - n]])
        return np.sum(u)
    return f, np.linspace(0.1, 1.0, 1000)


def structure(quick: bool) -> Iterator[Row]:
    """Structure analysis, partition, plans, and what elimination is expected to keep."""
    tape = dd.trace(*burgers(20_000, 40 if quick else 400))
    n = len(tape.items)
    yield Row("structure of Burgers", 1e6 * seconds(lambda: graph.analyse(tape))[0] / n, "us a statement")
    reads = Reads(tape)
    yield Row("... live widths between blocks alone", 1e6 * seconds(lambda: LiveWidth(reads))[0] / n, "us a statement")
    scalar = dd.trace(make_chain(2_000 if quick else 20_000), chain_inputs())
    lines = scalar.lines
    yield Row("structure of scalar code", 1e9 * seconds(lambda: graph.analyse(scalar))[0] / lines, "ns a line")
    machine = current()
    for name, picture in (("levels", lambda: widths.of_tape(scalar, machine)),
                          ("entries", lambda: sparsity.of_tape(scalar))):
        yield Row(f"... a picture of its {name}, counted", 1e9 * seconds(picture)[0] / lines, "ns a line")
    with memory.rare_collections():  # as while a function is linearized
        yield from _sharing(*burgers(100_000, 10 if quick else 91))
    placed = dd.trace(make_chain(600 if quick else 6000), chain_inputs())  # line by line
    (took,) = seconds(lambda: partition(placed, 1024, machine=machine), repeats=1)
    yield Row("partition of scalar code for 1024 ranks", 1e6 * took / placed.lines, "us a line")
    f, x = burgers(400, 40 if quick else 400)
    gradient = whole(dd.trace(dd.grad(f), x))
    yield Row("kept rows foreseen, Burgers' gradient",
              1e6 * seconds(lambda: kept(gradient))[0] / len(gradient.items), "us a statement")
    yield Row("a sweep's plan, Burgers' periods replayed",
              1e6 * seconds(lambda: plan_adjoint(whole(tape)))[0] / n, "us a statement")
    other = dd.trace(*irregular(90 if quick else 600))
    yield Row("a sweep's plan, nothing alike",
              1e6 * seconds(lambda: plan_adjoint(whole(other)))[0] / len(other.items), "us a statement")


def _sharing(f: Callable[..., Any], x: np.ndarray) -> Iterator[Row]:
    """What rank 0 does beside the trace of a program that goes to ranks: one after another, all others waiting."""
    def traced() -> Tape:
        return record(f, (x,), argnums=0, kwargs={}, has_aux=False, keep_values=False).tape

    tape, machine = traced(), current()
    n, use = len(tape.items), Use.announced(1, tape.n_inputs, tape.n_outputs)
    yield Row(f"trace of Burgers, {tape.lines:.0e} lines", 1e6 * seconds(traced, repeats=3)[0] / n, "us a statement")
    for ranks in (2, 16):
        (took,) = seconds(lambda ranks=ranks: partition(tape, ranks, machine=machine, judge=Judge(
            tape, use, machine, "auto", True)), repeats=3)
        yield Row(f"... a partition for {ranks} ranks", 1e6 * took / n, "us a statement")
    for depth in (1, 4):
        made = partition(tape, 2, strategy="axes", depth=depth, machine=machine)
        sender = made.sender()
        wanted = [Rank(sender.structure, sender.parcel(rank), rank).build().wanted(0) for rank in range(2)]

        def shared(made: Partition = made, wanted: Any = wanted) -> None:
            sender = made.sender()
            pickle.dumps(sender.structure, protocol=5, buffer_callback=lambda buffer: None)
            mine, _ = (Rank(sender.structure, sender.parcel(rank), rank) for rank in range(2))
            mine.build()
            mine.connect(wanted)

        yield Row(f"... shared out on 2 ranks, {depth} supersteps in one", 1e6 * seconds(shared, repeats=3)[0] / n,
                  "us a statement")


def files(quick: bool) -> Iterator[Row]:
    """Tapes in files: read and checked."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "f.tape")
        for name, f, x, unit in (("Burgers", *burgers(1000, 100), "us a statement"),
                                 ("scalar code", make_chain(1_000 if quick else 10_000), chain_inputs(), "ns a line")):
            tape = dd.trace(f, x)
            tape.save(path)
            of, scale = (len(tape.items), 1e6) if unit.startswith("us") else (tape.lines, 1e9)
            yield Row(f"a tape of {name} read from its file", scale * seconds(lambda: dd.load(path))[0] / of, unit)
            yield Row("... the file", path.stat().st_size / of, "bytes" + unit[2:])


def second_order(quick: bool) -> Iterator[Row]:
    """Gradients written down, and Hessian products, beside gradients."""
    yield from _second_order("Burgers", *burgers(20_000, 20 if quick else 50))
    yield from _second_order("scalar code", make_chain(200 if quick else 2000), chain_inputs())


def _second_order(name: str, f: Callable[..., Any], x: np.ndarray) -> Iterator[Row]:
    v = np.cos(np.arange(x.size)).reshape(x.shape)
    tape, of_gradient = dd.trace(f, x), dd.trace(dd.grad(f), x)
    yield Row(f"lines of the gradient's tape, {name}", of_gradient.lines / tape.lines, "times the function's")
    once, twice = seconds(lambda: dd.grad(f)(x), lambda: dd.hvp(f, (x,), (v,)), repeats=3)
    yield Row("... one hvp", twice / once, "times one gradient")
    with dd.linearize(f, x) as lin:
        first, second = seconds(lambda: lin.vjp(1.0), lambda: lin.hvp(v))
    yield Row("... a further hvp", second / first, "times a further vjp")


def replays(quick: bool) -> Iterator[Row]:
    """Functions recorded once: replays that break a guard, and looking for constants that changed."""
    steps = 100 if quick else 1000

    def in_arrays(u: Any) -> Any:
        for _ in range(50):
            u = u + 0.1 * np.sin(u) if u[0] > 0.0 else u - 0.1
        return np.sum(u)

    def in_scalars(u: Any) -> Any:
        a = u[0]
        for _ in range(steps):
            a = a + 0.1 * np.sin(a) if a > 0.0 else a - 0.1
        return a

    for name, f, n in (("10 points", in_arrays, 10), ("100,000 points", in_arrays, 100_000),
                       ("scalar code", in_scalars, 1)):
        yield _broken(name, f, np.linspace(1.0, 2.0, n))
    k, s, params = np.ones(100), 2.0, {"q": [1.0, np.ones(3)]}
    looked = Surroundings(lambda x: (x * k * s).sum() * params["q"][0])
    calls = 1000
    (took,) = seconds(lambda: [looked.changed() for _ in range(calls)])
    yield Row("looking whether a handful of constants changed", 1e6 * took / calls, "us")


def _broken(name: str, f: Callable[..., Any], x: np.ndarray) -> Row:
    with dd.linearize(f, x) as lin:
        def breaks() -> None:
            assert lin.try_update(-x) is not None

        trace, replay = seconds(lambda: dd.trace(f, x), breaks)
    return Row(f"a replay that breaks a guard, {name}", replay / trace, "of a trace")


def equations(quick: bool) -> Iterator[Row]:
    """Nonlinear Poisson on a square as an implicit statement."""
    n = 30 if quick else 100
    f, x = poisson(n)
    solved, traced = seconds(lambda: f(x), lambda: dd.linearize(f, x).close(), repeats=2)
    yield Row(f"nonlinear Poisson, {n} x {n}: the solution", solved, "s")
    yield Row("... linearized there", traced, "s")
    firsts = []
    for _ in range(3):
        with dd.linearize(f, x) as lin:
            begin = time.process_time()
            lin.vjp(1.0)
            firsts.append(time.process_time() - begin)
            further = seconds(lambda: lin.vjp(1.0))[0]
    yield Row("... the first vjp", min(firsts), "s")
    yield Row("... a further one", further, "s")
    yield from _factors(60 if quick else 400)
    yield from _filling(13 if quick else 22)
    yield from _by_components(100 if quick else 1000)


def _factors(n: int) -> Iterator[Row]:
    """What ranks that share an equation factorize with, on one rank, beside what one rank alone does."""
    second = sp.diags([-np.ones(n - 1), 2.001 * np.ones(n), -np.ones(n - 1)], [-1, 0, 1])
    a = (sp.kron(second, sp.eye(n)) + sp.kron(sp.eye(n), second)).tocsr()
    a.sort_indices()
    b = np.ones(n * n)

    def factorized() -> Any:
        return splu(a.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.1, options={"SymmetricMode": True})

    own = factorized()
    yield Row(f"factors of dR/dy, {n} x {n}: SuperLU", seconds(factorized, repeats=2)[0], "s")
    yield Row("... a solve with them", seconds(lambda: own.solve(b), repeats=2)[0], "s")
    begin = time.process_time()
    shared = SpanningBlock(MPI.COMM_SELF, a.indptr, a.indices, "the bench")
    shared.refresh(a.data)
    yield Row("... MUMPS, the first time", time.process_time() - begin, "s")
    yield Row("... at a further point", seconds(lambda: shared.refresh(a.data), repeats=2)[0], "s")
    yield Row("... a refined solve with them", seconds(lambda: shared.solve(b, False), repeats=2)[0], "s")
    yield Row("... one as Newton's method takes", seconds(lambda: shared.solve(b, False, False), repeats=2)[0], "s")
    shared.close()


def _filling(n: int) -> Iterator[Row]:
    """A cube of unknowns, which fills in."""
    line, one = sp.diags([np.ones(n - 1), np.ones(n), np.ones(n - 1)], [-1, 0, 1]), sp.eye(n)
    a = (sp.kron(sp.kron(line, one), one) + sp.kron(sp.kron(one, line), one) + sp.kron(sp.kron(one, one), line)).tocsr()
    a.data = np.random.default_rng(0).uniform(-1.0, -0.2, a.nnz)
    a.setdiag(7.0)
    b = np.ones(n**3)

    def factorized() -> Any:
        return splu(a.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.1)

    own = factorized()
    yield Row(f"factors of a cube of {n}^3, by SuperLU", seconds(factorized, repeats=2)[0], "s")
    yield Row("... a solve with them", seconds(lambda: own.solve(b), repeats=2)[0], "s")
    begin = time.process_time()
    factors = MumpsFactors(a)
    factors.refresh(a)
    yield Row("... by MUMPS, the first time", time.process_time() - begin, "s")
    yield Row("... at a further point", seconds(lambda: factors.refresh(a), repeats=2)[0], "s")
    yield Row("... a solve with them", seconds(lambda: factors.solve(b, False), repeats=2)[0], "s")
    yield Row("... telling that it fills in", seconds(lambda: fills(a), repeats=2)[0], "s")


def _by_components(number: int) -> Iterator[Row]:
    """Equations of three unknowns with a hundred lines after each, factorized as a whole and component by component."""
    def f(x: Any) -> Any:
        y, kept = x, []
        for _ in range(number):
            y = dd.implicit.root(lambda z, y: y + 0.1 * y**3 - 0.1 * np.roll(y, 1) - np.cos(z), y, np.zeros(3))
            a, b, c = y[0], y[1], y[2]
            for _ in range(16):
                a, b, c = 0.6 * a + 0.3 * np.sin(b), 0.5 * b - 0.2 * a * c, 0.9 * c + 0.1 * a
            y = np.array([a, b, c])
            kept.append(a)
        return np.array(kept)

    tape, x = dd.trace(f, np.array([0.3, 0.5, 0.7])), np.array([0.3, 0.5, 0.7])
    known = []
    with dd.linearize(tape, x, method="substitution") as lin:
        lin.vjp(np.ones(number))
        system, seed = lin._solving.assembly.system, np.ones(number)
        for name, options in (("substitution", {}), ("direct", {"direct_of": "components"}),
                              ("direct", {"direct_of": "whole"})):
            def ready(name: str = name, options: dict[str, str] = options) -> Any:
                system._factorized = False  # as at another point
                return method(name).make(system, options)

            solver = ready()
            for _ in range(10):  # until loops are compiled
                solver.adjoint(seed)
            first, again = seconds(lambda made=ready: made().close(), lambda one=solver: one.adjoint(seed), repeats=2)
            known.append(solver.adjoint(seed))
            what = f"{name} of {options['direct_of']}" if options else name
            yield Row(f"{number} equations between {tape.lines:,} lines: {what}, until it is ready", first, "s")
            yield Row("... an adjoint", again, "s")
            solver.close()
    assert all(np.allclose(one, known[0], rtol=1e-9, atol=0) for one in known)


def methods(quick: bool) -> Iterator[Row]:
    """The finite Neumann series beside substitution, and the structured operator beside a sweep."""
    for depth in (2, 8):
        yield _neumann(depth, 20_000 if quick else 200_000)
    yield _structured("Burgers", *burgers(20_000, 20))
    yield _structured(*wide(20_000, 20))


def _neumann(depth: int, width: int) -> Row:
    def f(u: Any) -> Any:
        for _ in range(depth):
            u = np.roll(u, 1) * np.roll(u, -1)
        return u

    x, w = np.linspace(0.9, 1.1, width), np.ones(width)
    with (dd.linearize(f, x, method="neumann", preaccumulate=False) as neumann,
          dd.linearize(f, x, method="substitution", preaccumulate=False) as substitution):
        exact, series = seconds(lambda: substitution.vjp(w), lambda: neumann.vjp(w))
    return Row(f"neumann at depth {depth}", series / exact, "times substitution")


def _structured(name: str, f: Callable[..., Any], x: np.ndarray) -> Row:
    with dd.linearize(f, x, method="sweep") as lin:
        operator = lin.operator()
        b = np.zeros(operator.n_own)
        sweep, product, solve = seconds(lambda: lin.vjp(1.0), lambda: operator.mult(b), lambda: operator.solve(b))
    return Row(f"a product and a solve with the structured operator, {name}", (product + solve) / sweep, "sweeps")


SMALL = """import time; start = time.perf_counter()
import numpy as np, distdiff as dd
loaded = time.perf_counter()
{}
dd.grad(f)(np.array([0.5, 1.5]))
print(loaded - start, time.perf_counter() - start)"""
PLAIN = "f = lambda x: np.sum(np.sin(x) * x)"
COMPILED = """
@dd.compiled
def steps(u, v, n):
    for _ in range(n):
        u, v = u + 1e-3 * v, v - 1e-3 * u
    return u * v
f = lambda x: steps(x[0], x[1], 1000)"""


def start_up(quick: bool) -> Iterator[Row]:
    """Processes that take one small gradient, by the clock: compiled loops are on disk, files in the system's cache."""
    for name, f in (("", PLAIN), (" under dd.compiled", COMPILED)):
        taken = []
        for _ in range(3 if quick else 7):
            done = subprocess.run([sys.executable, "-c", SMALL.format(f)], capture_output=True, text=True, check=True)
            taken.append([float(seconds) for seconds in done.stdout.split()])
        loaded, first = (min(column) for column in zip(*taken))
        if not name:
            yield Row("import numpy, distdiff", loaded, "s")
        yield Row(f"... and the first gradient of a small function{name}", first, "s")


PARTS = (start_up, structure, files, second_order, replays, equations, methods)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench costs", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, some seconds: a smoke test")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    assert MPI.COMM_WORLD.size == 1
    rows = []
    for part in PARTS:
        print(f"\n{part.__doc__.splitlines()[0]}")
        for row in part(arguments.quick):
            rows.append(row)
            print(f"  {row.what:<58}{row.value:>10.3g}  {row.unit}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([row._asdict() for row in rows], indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
