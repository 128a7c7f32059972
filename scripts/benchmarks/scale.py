"""Cost by size: an array program and two scalar ones, from 1e5 flattened lines up, time and every rank's peak memory.

The peak is that of the resident set over one linearization with a gradient, less what the process held before (the
interpreter, libraries, the compiled loops). Every gradient is checked: <g, v> against the tangent J v, which is
another solve, and against a central difference of the plain program.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import Figure, figure, peak_memory_mib
from programs import burgers_initial, chain_inputs, chain_steps, make_burgers, make_chain
from ranks import Run
from ranks import string_program as string_of

ROOM = 20 * 2**30  # bytes that the largest sizes are to fit in
BUDGET = {"grid": 2.0, "scalar": 24.0, "string": 24.0}  # bytes a line, all ranks together
# What there is to hold: array code, the two arrays of values a step that partials read, of 11 lines; scalar code,
# operation, operands and value of every line.
HELD = {"grid": 16 / 11, "scalar": 9.0 + 8.0, "string": 9.0 + 8.0}
NAMES = {"grid": "array code", "scalar": "scalar code", "string": "scalar code that reads far back"}
COLOURS = {"grid": "#0072B2", "scalar": "#D55E00", "string": "#009E73"}
KEEP = 2e6  # lines up to which gradients are kept, to be compared between numbers of ranks


def _status(name: str) -> int | None:
    """A size from /proc/self/status in bytes, where there is one."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)


def _peak() -> int:
    return _status("VmHWM") or int(peak_memory_mib() * 2**20)


def _forget_peak() -> None:
    """The peak of the resident set begins anew (Linux; elsewhere sizes must ascend, and do)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        pass


def grid_program(lines: float) -> tuple[Callable[[Any], Any], np.ndarray]:
    """Burgers with about so many flattened lines: ten steps or more, of at most 1e5 points."""
    points = int(min(100_000, lines // 110))
    return make_burgers(points, max(1, round(lines / (11 * points)))), burgers_initial(points)


def scalar_program(lines: float) -> tuple[Callable[[Any], Any], np.ndarray]:
    """Lotka and Volterra's chain of at least so many scalar statements."""
    return make_chain(chain_steps(lines)), chain_inputs()


def string_program(lines: float) -> tuple[Callable[[Any], Any], np.ndarray]:
    """Masses on a string in scalar code, time in the outer loop: a step reads what the one before left."""
    masses = int(min(25_000, lines // 70))
    return string_of(masses, max(1, round(lines / (7 * masses))))


def _warm_up() -> None:
    """Every rank loads and compiles what it will use, so that it counts as held before."""
    from mpi4py import MPI

    import distdiff as dd

    for program, lines in ((grid_program, 2e7), (scalar_program, 2e5), (string_program, 1e6)):
        f, x = program(lines)
        for comm in (MPI.COMM_SELF, MPI.COMM_WORLD):
            with dd.linearize(f, x, comm=comm) as lin:
                lin.vjp(1.0), lin.jvp(np.ones_like(x))


def _empty_pool() -> None:
    """What one program leaves for the next to use again (up to 1 GiB) is not the next one's: each stands for itself."""
    from distdiff.tracing import memory

    memory.give_back(pool=True)


def _difference(f: Callable[[Any], Any], x: np.ndarray, v: np.ndarray) -> float:
    """J v by a central difference of the plain program."""
    h = 1e-6 * np.abs(x).max()
    plus, minus = (f(np.array(x + s * v)) for s in (h, -h))
    return float(plus - minus) / (2 * h)


def _measure(run: Run, name: str, program: Callable[[float], Any], lines: float, before: int) -> Figure:
    """One size: gradients from scratch, their peak beyond `before`, what is held, and the checks."""
    import distdiff as dd

    f, x = program(lines)
    comm, held, peaks = run.comm, 0, []
    samples: list[float] = []
    while True:  # again from scratch, while there is time: the second finds its memory mapped already
        run.comm.Barrier()
        _forget_peak()
        start = time.perf_counter()
        lin = dd.linearize(f, x)
        gradient = np.asarray(lin.vjp(1.0))
        comm.Barrier()
        samples.append(time.perf_counter() - start)
        if not peaks:
            peaks = comm.allgather(_peak() - before)
        if not comm.bcast(len(samples) < run.settings["repeats"] and sum(samples) < run.settings["budget"]):
            break
        lin.close()
        del lin
    report = lin.report()
    held = report.memory_per_rank_bytes
    v = np.random.default_rng(0).standard_normal(x.shape)
    tangent = float(lin.jvp(v))
    lin.close()
    plain = comm.bcast(_difference(f, x, v) if run.root else None)
    along = float(np.sum(gradient * v))
    if lines <= KEEP:
        run.gradients[f"{name}-{lines:g}"] = gradient
    wrong = abs(along - tangent) / abs(tangent), abs(along - plain) / abs(plain)
    if not (wrong[0] < 1e-9 and wrong[1] < 1e-4):
        raise RuntimeError(f"{name}, {lines:g} lines: <g, v> = {along}, J v = {tangent}, by differences {plain}")
    return figure(f"{name}, {lines:g} lines", samples, report.lines, "line", role=name, ranks=comm.size, peaks=peaks,
                  held=held, tangent_differs=wrong[0], difference_differs=wrong[1], partition=report.partition,
                  k_star=report.k_star, stages=dict(report.times))


def _sizes(settings: dict[str, Any], name: str, program: Callable[[float], Any]) -> Run:
    run = Run(settings)
    _warm_up()
    _empty_pool()
    before = _status("VmRSS") or 0
    for lines in settings[name]:
        _empty_pool()
        run.figures.append(_measure(run, name, program, lines, before))
    return run


def draw(path: Path, figures: list[Figure]) -> None:
    """Seconds and peak bytes a line over the number of lines, one line a program and number of ranks."""
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(10.5, 4.4), dpi=150, layout="constrained")
    seconds, memory = canvas.subplots(1, 2)
    for name, ranks in sorted({(f["role"], f["ranks"]) for f in figures}):
        of = sorted((f for f in figures if (f["role"], f["ranks"]) == (name, ranks)), key=lambda f: f["units"])
        lines = np.array([f["units"] for f in of])
        style = {"color": COLOURS[name], "marker": "o" if ranks == 1 else "s", "linestyle": "-" if ranks == 1 else "--",
                 "fillstyle": "full" if ranks == 1 else "none",
                 "label": f"{NAMES[name]}, {ranks} rank{'s' * (ranks > 1)}"}
        seconds.plot(lines, [f["min"] for f in of], **style)
        memory.plot(lines, [sum(f["peaks"]) / f["units"] for f in of], **style)
        if ranks == 1:
            seconds.plot(lines, of[-1]["min"] * lines / lines[-1], color="#666666", linewidth=0.8, zorder=0)
    for name in ("grid", "scalar"):
        budget = BUDGET[name]
        memory.axhline(budget, color=COLOURS[name], linewidth=0.8, linestyle=":")
        memory.annotate(f"{budget:g} bytes", (1.0, budget), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                        color=COLOURS[name], fontsize=8)
    seconds.set(xscale="log", yscale="log", xlabel="flattened lines", ylabel="seconds, trace and gradient",
                title="time (grey: proportional to the lines)")
    memory.set(xscale="log", yscale="log", xlabel="flattened lines", ylabel="bytes a line, all ranks",
               title="peak memory beyond the interpreter's")
    for axes in (seconds, memory):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.6)
        axes.legend(fontsize=8, frameon=False)
    canvas.savefig(path)


def slope(figures: list[Figure]) -> float:
    """The exponent of the time's growth, by least squares over the larger half of the sizes; 1 is linear."""
    of = sorted(figures, key=lambda f: f["units"])[len(figures) // 2 - 1:]
    if len(of) < 2:
        return 1.0
    return float(np.polyfit([math.log(f["units"]) for f in of], [math.log(f["min"]) for f in of], 1)[0])


TOOLS = {"grid": lambda settings: _sizes(settings, "grid", grid_program),
         "scalar": lambda settings: _sizes(settings, "scalar", scalar_program),
         "string": lambda settings: _sizes(settings, "string", string_program)}
