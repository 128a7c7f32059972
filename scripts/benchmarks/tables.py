"""Tables and targets: what a run measured, tool by tool, beside distdiff, the primal and the physical limit."""
from __future__ import annotations

from typing import Any

import gradients
import small
from scale import BUDGET, HELD, NAMES, ROOM, slope
from solver_tables import NEAR, SHARE, print_solvers, share

Figure = dict[str, Any]

POINT_STEP_LINES = 11.0
CSR_ROW_BYTES = 44.0
TAPE_BYTES = 24.0
ONCE = 1.25  # times a one-shot gradient's time on one rank that further ranks may leave it at
RECORD_BYTES = 17.0  # of a scalar line: operation, two ids of 32 bits, value
# Nanoseconds that CoDiPack (C++) takes on such a machine: to record an operation, for one in its reverse sweep (2.1,
# rounded), and for a line of Burgers' whole gradient.
CODIPACK_RECORD = 4.7
CODIPACK_REVERSE = 2.0
CODIPACK_GRADIENT = 1.9
GRADIENTS = [("distdiff", "trace"), ("distdiff", "one-shot gradient"), ("distdiff", "one-shot hvp"),
             ("distdiff", "recorded"), ("distdiff", "recorded hvp"), ("autograd", "one-shot gradient"),
             ("autograd", "one-shot hvp")]


def _limit(record: dict[str, Any], case: str) -> float:
    """Nanoseconds a unit of the limit whose name begins so."""
    return next(float(f["ns_per_unit"]) for f in record["limits"] if f["case"].startswith(case))


def _limits_of(name: str, record: dict[str, Any]) -> tuple[dict[str, float], str]:
    """The physical limit in ns a unit, by role, and what it stands for."""
    if not record["limits"]:
        return {}, "the limits could not be measured"
    byte = _limit(record, "STREAM triad, memory")
    if name == "scalar":
        record_and_read = 2 * TAPE_BYTES * byte
        return ({"gradient": record_and_read, "again": CSR_ROW_BYTES * byte, "solve": CSR_ROW_BYTES * byte,
                 "trace": RECORD_BYTES * byte},
                f"limit: gradient, {TAPE_BYTES:g} bytes an operation recorded and read back; trace, {RECORD_BYTES:g} "
                f"bytes recorded; again and solve, {CSR_ROW_BYTES:g} bytes a row of two nonzeros")
    if name == "burgers":
        state = 16.0 / POINT_STEP_LINES * byte
        return ({"cold": state, "warm": state, "again": state, "replay": state,
                 "solve": 24.0 / POINT_STEP_LINES * byte},
                "limit: the state of every step written once and read once, 16 bytes a point-step of 11 lines; replay, "
                "the state and what multiplies it written once, 16 bytes; solve, three coefficients read, 24 bytes")
    return {}, ("limit: bytes a row over the bandwidth of the triad beside it, or a chain's latency"
                if name == "substitution" else "")


def _reference(results: list[dict[str, Any]], tool: str) -> dict[str, float]:
    """ns a unit by role, of one tool."""
    return {f["role"]: f["ns_per_unit"] for r in results if r["tool"] == tool for f in r["figures"] if "role" in f}


def _seconds(t: float) -> str:
    return f"{t:.3g} s" if t >= 1 else f"{1e3 * t:.3g} ms" if t >= 1e-3 else f"{1e6 * t:.3g} us"


def _ratio(value: float, reference: float | None) -> str:
    return "" if not reference else f"{value / reference:.3g}"


def _print(header: list[str], rows: list[list[str]], left: int) -> None:
    used = [k for k in range(len(header)) if not rows or k < left or any(row[k] for row in rows)]
    header, rows = [header[k] for k in used], [[row[k] for k in used] for row in rows]
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, *rows]:
        pairs = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if k < left else cell.rjust(width) for k, (cell, width) in pairs]
        print("  " + "  ".join(cells).rstrip())


def print_limits(record: dict[str, Any]) -> None:
    """The machine and what it can do."""
    m = record["machine"]
    print(f"\n{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {m['system']}; load {m['load_before']:.2f}; "
          f"one thread on core {record['core']}")
    if m["load_before"] > 0.5:
        print("  the machine is not idle: these figures are no measurement")
    if record["quick"]:
        print("  --quick: small sizes, few samples; these figures are no measurement")
    rows = []
    for f in record["limits"]:
        extra = f"{1 / f['ns_per_unit']:.3g} GB/s" if f["unit"] == "byte" else ""
        rows.append([f["case"], f"{f['ns_per_unit']:.3g} ns/{f['unit']}", extra])
    _print(["limit", "median", ""], rows, 1)


def print_benchmark(name: str, record: dict[str, Any]) -> None:
    """One benchmark's table."""
    if name == "scale":
        _print_scale(record)
        return
    if name == "small":
        _print_small(record)
    if name == "gradients":
        _print_gradients(record)
        return
    if name == "solvers":
        print_solvers(record["benchmarks"][name], _seconds, _print)
        return
    benchmark = record["benchmarks"][name]
    limits, words = _limits_of(name, record)
    results = benchmark["results"]
    ours = _reference(results, "distdiff")
    base = {**_reference(results, "python"), **_reference(results, "numpy")}
    sizes = ", ".join(f"{k} {v:g}" for k, v in benchmark["settings"].items()
                      if isinstance(v, (int, float)) and k not in ("repeats", "budget"))
    print(f"\n{name}: {sizes}")
    rows = []
    for result in results:
        if result["error"]:
            rows.append([result["tool"], "failed: " + result["error"][:80], *[""] * 10])
        for f in result["figures"]:
            limit = limits.get(f.get("role", ""))
            limit = f.get("limit", limit)
            tool = result["tool"] + (f" x{result['ranks']}" if result["ranks"] else "")
            role = f.get("role", "")
            same = ours.get(role) if result["tool"] != "distdiff" and role != "primal" else None
            rows.append([tool, f["case"], f"{f['units']:.4g}", _seconds(f["median"]),
                         f"{_seconds(f['min'])} .. {_seconds(f['max'])} ({len(f['samples'])})",
                         f"{f['ns_per_unit']:.4g}", _ratio(f["ns_per_unit"], same),
                         _ratio(f["ns_per_unit"], f.get("primal", base.get("primal"))),
                         f"{limit:.3g}" if limit else "",
                         f"{100 * limit / f['ns_per_unit']:.0f} %" if limit else "",
                         f"{f['bytes_per_unit']} ({f['moved_per_unit']})" if "bytes_per_unit" in f else "",
                         f"{result['peak_mib']:.0f}"])
    units = {f["unit"] for r in results for f in r["figures"]}
    unit = units.pop() if len(units) == 1 else "unit"
    _print(["tool", "what", f"{unit}s", "median", "range (samples)", f"ns/{unit}", "/ distdiff", "/ primal",
            "limit ns", "reached", f"bytes/{unit} (moved)", "MiB"], rows, 2)
    if words:
        print("  " + words)
    versions = [f"{r['tool']}: {r['version']}" for r in results if not r["error"]]
    print("  " + "; ".join(versions))
    hindered = [f"{r['tool']} {100 * r['cpu_share']:.0f} %" for r in results if not r["error"] and r["cpu_share"] < 0.9]
    if hindered:
        print("  hindered by other work on the machine (share of a core they had): " + ", ".join(hindered))
    wrong = [c for c in benchmark["checks"] if not c["agrees"]]
    if wrong:
        for c in wrong:
            print(f"  WRONG: {c['what']}: {c['tool']} differs from {c['against']} by {c['difference']:.2g}")
    elif benchmark["checks"]:
        worst = max(c["difference"] for c in benchmark["checks"])
        print(f"  all {len(benchmark['checks'])} comparisons of gradients agree; the largest difference is {worst:.1e}")


def _print_gradients(record: dict[str, Any]) -> None:
    """Program by program: what derivatives cost over the primal, and how a one-shot gradient's time divides."""
    found = {(r["tool"], f["role"]): f for r, f in _figures(record, "gradients")}
    rows = []
    for name in gradients.PROGRAMS:
        row = [name]
        primal = found.get(("distdiff", f"{name}: primal"))
        row.append("" if primal is None else _seconds(primal["median"]))
        over = {}
        for tool, what in GRADIENTS:
            f = found.get((tool, f"{name}: {what}"))
            over[tool, what] = None if f is None else f["over"]
            row.append("" if f is None else f"{f['over']:.1f}")
        traced, once = over["distdiff", "trace"], over["distdiff", "one-shot gradient"]
        row.append("" if traced is None or once is None else f"{(once - traced) / traced:.2f}")
        rows.append(row)
    print("\ngradients: medians of ratios to the primal, taken in turns, on processor time")
    _print(["program", "primal", "trace", "one-shot gradient", "one-shot hvp", "recorded: value, gradient",
            "recorded: hvp", "autograd: gradient", "autograd: hvp", "(one-shot - trace) / trace"], rows, 1)
    failed = [f"{r['tool']} failed: {r['error']}" for r in record["benchmarks"]["gradients"]["results"] if r["error"]]
    for c in record["benchmarks"]["gradients"]["checks"]:
        if not c["agrees"]:
            failed.append(f"WRONG: {c['what']}: {c['tool']} differs from {c['against']} by {c['difference']:.2g}")
    for line in failed:
        print("  " + line)


def _print_small(record: dict[str, Any]) -> None:
    """Operation by operation: NumPy's own time, what it takes traced, that included, and the tracing's part of it."""
    own = {f["role"]: f for r, f in _figures(record, "small") if r["tool"] == "numpy"}
    rows = []
    for f in (f for r, f in _figures(record, "small") if r["tool"] == "distdiff"):
        alone = own.get(f["role"])
        rows.append([f["case"], f"{f['ns_per_unit'] / 1e3:.2f}", f"{1e6 * f['min'] / f['units']:.2f}",
                     "" if alone is None else f"{alone['ns_per_unit'] / 1e3:.2f}",
                     "" if alone is None else f"{(f['ns_per_unit'] - alone['ns_per_unit']) / 1e3:.2f}"])
    print("\nsmall: us an operation on eight elements (matrices: 8 x 8)")
    _print(["operation", "traced, median", "least", "NumPy", "overhead"], rows, 1)


def _print_scale(record: dict[str, Any]) -> None:
    """Cost by size, beside what memory allows."""
    figures = [f for _, f in _figures(record, "scale")]
    byte = _limit(record, "STREAM triad, memory") if record["limits"] else 0.0
    rows = []
    for f in figures:
        name, lines, peaks = f["role"], f["units"], f["peaks"]
        rows.append([f["case"], str(f["ranks"]), f["partition"], _seconds(f["samples"][0]), _seconds(f["min"]),
                     f"{1e9 * f['min'] / lines:.3g}", f"{2 * HELD[name] * byte:.2g}",
                     " + ".join(f"{p / lines:.3g}" for p in peaks), f"{sum(peaks) / lines:.3g}",
                     f"{HELD[name]:.3g}", f"{BUDGET[name]:g}", f"{sum(peaks) / 2**30:.2f}",
                     f"{f['tangent_differs']:.0e}, {f['difference_differs']:.0e}"])
    print("\nscale: trace and gradient from scratch, by size")
    _print(["program", "ranks", "partition", "first", "best", "ns/line", "limit", "peak B/line, by rank", "sum",
            "limit", "aim", "GiB", "<g,v> off J v, difference"], rows, 3)
    print(f"  limits: what has to be held, written once and read once at the triad's bandwidth; "
          f"{ROOM / 2**30:g} GiB is what the largest are to fit in")
    for name in ("scalar", "string"):
        two = {f["units"]: f["peaks"][0] for f in figures if f["role"] == name and f["ranks"] == 2}
        sizes = sorted(two)
        for less, large in zip(sizes, sizes[1:]):
            print(f"  rank 0 of 2, {NAMES[name]}: {two[less] / 1e6:.4g} MB for {less:.3g} lines, "
                  f"{two[large] / 1e6:.4g} MB for {large:.3g}: {(two[large] - two[less]) / (large - less):.3g} bytes a "
                  "further line")


def _figures(record: dict[str, Any], name: str) -> list[tuple[dict[str, Any], Figure]]:
    benchmark = record["benchmarks"].get(name, {"results": []})
    return [(r, f) for r in benchmark["results"] for f in r["figures"]]


def targets(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What is aimed at, what was measured, whether it was reached; only what this run can tell."""
    found: list[dict[str, Any]] = []

    def aim(what: str, value: float | None, bound: float, at_most: bool, unit: str = "x") -> None:
        if value is not None:
            met = value <= bound if at_most else value >= bound
            found.append({"what": what, "measured": value, "bound": bound, "at_most": at_most, "unit": unit,
                          "met": met})

    def one(name: str, tool: str, role: str, ranks: int = 0) -> float | None:
        return next((f["ns_per_unit"] for r, f in _figures(record, name)
                     if r["tool"] == tool and f.get("role") == role and r["ranks"] == ranks), None)

    def over(p: float | None, q: float | None) -> float | None:
        return None if p is None or q is None else p / q

    ours = one("scalar", "distdiff", "gradient")
    aim("scalar: trace + gradient", ours, 600.0, True, "ns an operation")
    aim("scalar: compiled trace, values kept", one("scalar", "distdiff_compiled", "trace"), CODIPACK_RECORD, True,
        "ns an operation")
    aim("scalar: compiled trace + gradient", one("scalar", "distdiff_compiled", "gradient"), 15.0, True,
        "ns an operation")
    aim("scalar: solve again at one point", one("scalar", "distdiff", "solve"), CODIPACK_REVERSE, True,
        "ns an operation")
    aim("scalar: value and gradient again at another point", one("scalar", "distdiff", "again"), 20.0, True,
        "ns an operation")
    aim("scalar: gradient again at another point, over CasADi's",
        over(one("scalar", "distdiff", "again"), one("scalar", "casadi", "again")), 1.0, True)
    for tool in ("casadi", "torch", "autograd", "jax"):
        aim(f"scalar: {tool} over distdiff", over(one("scalar", tool, "gradient"), ours), 10.0, False)
    for operation in small.OPERATIONS:
        traced, own = one("small", "distdiff", operation), one("small", "numpy", operation)
        aim(f"small: overhead of tracing {operation}, NumPy's own time taken off",
            None if traced is None or own is None else traced - own, 6000.0, True, "ns an operation")
    for case, bound in (("trace + gradient", 4.0), ("value again", 1.5), ("vjp", 3.0), ("jvp", 3.0)):
        for f in (f for _, f in _figures(record, "dense") if f["role"].endswith(f", 500: {case}")):
            aim(f"dense: {f['case']}, over the primal", f["ns_per_unit"] / f["primal"], bound, True)
    warm, jax = one("burgers", "distdiff", "warm"), one("burgers", "jax", "warm")
    aim("burgers: trace + gradient, over JAX's scan", over(warm, jax), 1.0, True)
    aim("burgers: trace + gradient", warm, CODIPACK_GRADIENT, True, "ns a line")
    for tool in ("torch", "autograd"):
        aim(f"burgers: trace + gradient, over {tool}'s", over(warm, one("burgers", tool, "warm")), 0.4, True)
    aim("burgers: value again at another point (replay), over the NumPy primal in the same process",
        over(one("burgers", "distdiff", "replay"), one("burgers", "distdiff", "primal")), 1.0, True)
    aim("burgers: gradient again at another point, over JAX's",
        over(one("burgers", "distdiff", "again"), jax), 0.7, True)
    if record["limits"]:
        aim("burgers: gradient alone, over three coefficients read from memory",
            over(one("burgers", "distdiff", "solve"), _limits_of("burgers", record)[0]["solve"]), 1.5, True)
    for role in (f["role"] for r, f in _figures(record, "flow") if r["tool"] == "distdiff"):
        kind, cells = role.split()
        mine, where = one("flow", "distdiff", role), f"flow, {cells} x {cells}:"
        if kind == "one-shot":
            aim(f"{where} trace + gradient, over the primal", over(mine, one("flow", "distdiff", f"primal {cells}")),
                6.0, True)
            for tool in ("torch", "autograd"):
                aim(f"{where} trace + gradient, over {tool}'s", over(mine, one("flow", tool, role)), 1.0, True)
        elif kind == "again":
            aim(f"{where} value and gradient at another point, over JAX's scan",
                over(mine, one("flow", "jax", role)), 1.0, True)
    solves = _figures(record, "substitution")
    local = [f["limit"] / f["ns_per_unit"] for _, f in solves
             if f.get("method") == "distdiff in place" and not f["role"].startswith("scattered")]
    aim("substitution: local patterns, least part of the limit", min(local, default=None), 0.7, False)
    for role in dict.fromkeys(f["role"] for _, f in solves if "role" in f):
        petsc = [f["ns_per_unit"] for r, f in solves if r["tool"] == "petsc" and f.get("role") == role]
        mine = [f["ns_per_unit"] for r, f in solves if r["tool"] == "distdiff" and f.get("role") == role]
        if petsc and mine:
            aim(f"substitution: {role} rhs, over PETSc's best", min(mine) / min(petsc), 1.0, True)
    turns = {(f["turn"], f["method"]): f["ns_per_unit"] for _, f in solves if "turn" in f}
    for turn in dict.fromkeys(turn for turn, _ in turns):
        aim(f"substitution: {turn} rhs, over PETSc's in turn", over(turns[turn, "distdiff"], turns[turn, "PETSc"]), 1.0,
            True)
    for program in ("wide", "samples", "ensemble", "string", "grid", "demo_grid"):
        alone = one("ranks", program, "alone", 2)
        parts, shares = (over(alone, one("ranks", program, role, 2)) for role in ("parts", "shares"))
        stream = over(*(one("ranks", "memory", "bandwidth", ranks) for ranks in (1, 2)))
        limit = "".join(f"; {what} {bound:.2f}" for what, bound in (
            ("halves by themselves", parts), ("shares without waiting", shares), ("memory", stream)) if bound
        ).replace("; ", " (limits: ", 1)
        limit += ")" if limit else ""
        aim(f"ranks: {program}, evaluate + solve, 1 rank over 2{limit}",
            over(alone, one("ranks", program, "turns", 2)), 1.8, False)
        aim(f"ranks: {program}, one-shot gradient, 2 ranks over 1",
            over(one("ranks", program, "once", 2), one("ranks", program, "once", 1)), ONCE, True)
    scale = [f for _, f in _figures(record, "scale")]
    for name, what in NAMES.items():
        for ranks in (1, 2):
            of = [f for f in scale if (f["role"], f["ranks"]) == (name, ranks)]
            if of:
                largest = max(of, key=lambda f: f["units"])
                where, peak = f"scale: {what}, {ranks} rank{'s' * (ranks > 1)}", sum(largest["peaks"])
                aim(f"{where}, peak of all", peak / largest["units"], BUDGET[name], True, "bytes a line")
                aim(f"{where}, growth of time, lines to the power of", slope(of), 1.1, True, "")
    for ranks in (1, 2):
        jobs = [f for r, f in _figures(record, "solvers") if r["ranks"] == ranks]
        aim(f"solvers: jobs in which auto is within {NEAR:g} of the best method, {ranks} rank{'s' * (ranks > 1)}",
            share(jobs), SHARE, False, "of all")
    return found


def print_targets(record: dict[str, Any]) -> None:
    """The targets as a table."""
    rows = [[t["what"], f"{t['measured']:.3g} {t['unit']}", f"{'<=' if t['at_most'] else '>='} {t['bound']:g}",
             "met" if t["met"] else "MISSED"] for t in record["targets"]]
    if rows:
        print("\ntargets")
        _print(["", "measured", "aim", ""], rows, 1)
