"""Runs the benchmarks: every tool in a process of its own, one after the other, on one core, in the same run.

    scripts/bench [scalar|small|gradients|dense|matrices|burgers|flow|substitution|ranks|interface|scale|solvers|all]
                  [--quick | --full] [--json FILE] [--plot FILE] [--tools LIST]

The exit status is 1 if distdiff failed or a tool's gradient differs from distdiff's, 0 otherwise; missed targets and
failures of other tools are shown, not punished.
"""
from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import machine
from scale import draw
from solvers import agreement
from tables import print_benchmark, print_limits, print_targets, targets

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEERS = ROOT / ".venv-bench" / "bin" / "python"
PEER_TOOLS = {"casadi", "torch", "autograd", "jax", "jax_scan"}
TOLERANCE = 1e-10

BENCHMARKS = {
    "scalar": ("python", "distdiff", "distdiff_compiled", "casadi", "torch", "autograd", "jax", "jax_scan"),
    "small": ("numpy", "distdiff"),
    "gradients": ("distdiff", "autograd"),
    "dense": ("distdiff",),
    "matrices": ("numpy", "distdiff"),
    "burgers": ("numpy", "distdiff", "torch", "autograd", "jax", "casadi"),
    "flow": ("distdiff", "torch", "autograd", "jax"),
    "substitution": ("petsc", "distdiff", "reads"),
    "ranks": ("latency", "memory", "wide", "samples", "ensemble", "string", "grid", "demo_grid", "depths", "overlap",
              "equations"),
    "interface": ("repeated", "pipeline", "library"),
    "scale": ("grid", "scalar", "string"),
    "solvers": ("table", "held_out", "fresh", "unseen"),
}
PARALLEL = ("ranks", "interface", "scale", "solvers")  # run on one rank and on two
TWO = ("latency", "depths", "overlap", *BENCHMARKS["interface"])  # tools that run on two alone
LARGEST = {"grid": [1e9], "scalar": [2e8]}  # with --full, on two ranks

FULL = {
    "scalar": {"operations": 1e6, "casadi_operations": 1e6, "torch_operations": 1e6, "autograd_operations": 2e5,
               "repeats": 5, "budget": 60.0},
    "small": {"operations": 2000, "repeats": 9, "budget": 20.0},
    "gradients": {"repeats": 9, "budget": 20.0},
    "dense": {"repeats": 9, "budget": 40.0},
    "matrices": {"sizes": [[3, 50_000], [12, 2000], [40, 200], [600, 1]], "repeats": 5, "budget": 60.0},
    "burgers": {"points": 100_000, "steps": 100, "casadi_points": 1000, "casadi_steps": 10,
                "repeats": 7, "budget": 20.0},
    "flow": {"sizes": [[80, 128], [256, 60]], "repeats": 9, "budget": 20.0},
    "substitution": {"rows": 3_000_000, "width": 30_000, "patterns": ["layered", "chain", "scattered"], "repeats": 7,
                     "budget": 2.0, "triad": 2**24},
    "ranks": {"images": 100_000, "cells": 256, "steps": 60, "demo_cells": 80, "demo_steps": 128,
              "samples": 1e7, "points": 400, "particles": 25_000, "turns": 40, "repeats": 7, "budget": 10.0},
    "interface": {"rows": 1_000_000, "widths": [2, 8, 64], "columns": 256, "repeats": 9, "budget": 6.0},
    "scale": {"grid": [1e5, 1e6, 1e7, 1e8], "scalar": [1e5, 1e6, 1e7, 1e8], "string": [1e5, 1e6, 1e7], "repeats": 5,
              "budget": 10.0},
    "solvers": {"repeats": 15},
}
QUICK = {
    "scalar": {"operations": 1e5, "casadi_operations": 5e4, "torch_operations": 5e4, "autograd_operations": 2e4,
               "repeats": 3, "budget": 2.0},
    "small": {"operations": 500, "repeats": 3, "budget": 3.0},
    "gradients": {"repeats": 3, "budget": 3.0},
    "dense": {"repeats": 3, "budget": 3.0},
    "matrices": {"sizes": [[3, 5000], [12, 200], [100, 1]], "repeats": 2, "budget": 6.0},
    "burgers": {"points": 20_000, "steps": 20, "casadi_points": 100, "casadi_steps": 10, "repeats": 3, "budget": 2.0},
    "flow": {"sizes": [[32, 32]], "repeats": 3, "budget": 2.0},
    "substitution": {"rows": 300_000, "width": 3_000, "patterns": ["layered", "chain", "scattered"], "repeats": 3,
                     "budget": 0.2, "triad": 2**22},
    "ranks": {"images": 4_000, "cells": 64, "steps": 20, "demo_cells": 32, "demo_steps": 20,
              "samples": 1e6, "points": 60, "particles": 10_000, "turns": 20, "repeats": 3, "budget": 3.0},
    "interface": {"rows": 100_000, "widths": [2, 8], "columns": 256, "repeats": 4, "budget": 2.0},
    "scale": {"grid": [1e5, 1e6, 1e7], "scalar": [1e5, 1e6], "string": [1e5, 1e6], "repeats": 3, "budget": 2.0},
    "solvers": {"repeats": 3},
}


def environment() -> dict[str, str]:
    """One thread for every library, double precision on the CPU for JAX, and this project's packages importable."""
    one = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
                                  "VECLIB_MAXIMUM_THREADS")}
    return {**os.environ, **one, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}


def launcher(ranks: int) -> list[str]:
    """mpirun with every rank bound to a core of its own, for Open MPI and MPICH."""
    mpirun = shutil.which("mpirun") or shutil.which("mpiexec")
    if mpirun is None:
        raise RuntimeError("no mpirun on PATH; source scripts/env.sh")
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    bind = ["--bind-to", "core"] if "Open MPI" in said or "OpenRTE" in said else ["-bind-to", "core"]
    return [mpirun, "-n", str(ranks), *bind]


def pinned(core: int) -> Any:
    """For a child process: run on that core alone, where the system can do it."""
    return (lambda: os.sched_setaffinity(0, {core})) if hasattr(os, "sched_setaffinity") else None


class Session:
    """One run of scripts/bench: where results go, which core is used, what has been measured."""

    def __init__(self, quick: bool, full: bool, folder: Path) -> None:
        self.quick, self.full, self.folder = quick, full, folder
        self.core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        self.timeout = 180 if quick else 1500

    def work(self, benchmark: str, tool: str, settings: dict[str, Any], ranks: int = 0) -> dict[str, Any]:
        """Runs one worker; its result, or {'tool', 'error'}. With `ranks`, under mpirun, which does the binding."""
        label = f"{tool}-{ranks}" if ranks else tool
        folder = self.folder / benchmark / label
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(json.dumps({**settings, "quick": self.quick}), encoding="utf-8")
        python = str(PEERS) if tool in PEER_TOOLS else sys.executable
        command = [python, str(HERE / "worker.py"), benchmark, tool, str(folder / "settings.json"), str(folder)]
        where = f" on {ranks} rank{'s' * (ranks > 1)}" if ranks else ""
        print(f"bench: {benchmark}, {tool}{where}", file=sys.stderr, flush=True)
        try:
            done = subprocess.run([*(launcher(ranks) if ranks else []), *command], env=environment(), text=True,
                                  capture_output=True, timeout=self.timeout, check=False,
                                  preexec_fn=None if ranks else pinned(self.core))
            error = None if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])
        except subprocess.TimeoutExpired:
            error = [f"stopped after {self.timeout} s"]
        except OSError as failure:
            error = [f"could not be started ({failure.strerror}); run scripts/setup-bench"]
        if error is not None:
            (folder / "stderr.txt").write_text("\n".join(error), encoding="utf-8")
            said = next((line for line in reversed(error) if "Error" in line), error[-1])
            print(f"bench: {benchmark}, {tool} failed: {said}", file=sys.stderr)
            return {"tool": tool, "ranks": ranks, "error": said, "figures": []}
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return {**result, "ranks": ranks, "error": None}

    def run(self, benchmark: str, chosen: set[str] | None) -> dict[str, Any]:
        """All tools of a benchmark."""
        settings = (QUICK if self.quick else FULL)[benchmark]
        tools = [tool for tool in BENCHMARKS[benchmark] if chosen is None or tool in chosen]
        results = []
        for tool in tools:
            for ranks in ((2,) if tool in TWO else (1, 2)) if benchmark in PARALLEL else (0,):
                largest = LARGEST.get(tool, []) if self.full and benchmark == "scale" and ranks == 2 else []
                more = {tool: settings[tool] + largest} if largest else {}
                results.append(self.work(benchmark, tool, {**settings, **more}, ranks))
        return {"settings": settings, "results": results, "checks": self.compare(benchmark) + agreement(results)}

    def compare(self, benchmark: str) -> list[dict[str, Any]]:
        """Largest difference of each tool's gradient from distdiff's (or the first tool's), over its largest entry."""
        found: dict[str, dict[str, np.ndarray]] = {}
        for path in sorted((self.folder / benchmark).glob("*/*.npy")):
            found.setdefault(path.stem, {})[path.parent.name] = np.load(path)
        checks = []
        for label, gradients in found.items():
            reference = "distdiff" if "distdiff" in gradients else sorted(gradients)[0]
            scale = np.abs(gradients[reference]).max()
            for tool in sorted(set(gradients) - {reference}):
                difference = float(np.abs(gradients[tool] - gradients[reference]).max() / scale)
                checks.append({"what": label, "tool": tool, "against": reference, "difference": difference,
                               "agrees": difference <= TOLERANCE})
        return checks


def main() -> int:
    """Parses the command line, runs, prints, writes."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[0])
    parser.add_argument("benchmark", nargs="*", metavar="|".join([*BENCHMARKS, "all"]), help="which (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes, a minute or two: a smoke test")
    parser.add_argument("--full", action="store_true",
                        help="scale: also 1e9 lines of array code and 2e8 scalar statements; 6 GiB, some minutes")
    parser.add_argument("--plot", metavar="FILE", help="scale: draw cost by size there, as PNG")
    parser.add_argument("--json", metavar="FILE", help="write machine, versions and every sample there")
    parser.add_argument("--tools", metavar="LIST", help="only these tools, separated by commas")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.benchmark) - {*BENCHMARKS, "all"})
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    names = list(BENCHMARKS) if not arguments.benchmark or "all" in arguments.benchmark else arguments.benchmark
    chosen = set(arguments.tools.split(",")) if arguments.tools else None
    with tempfile.TemporaryDirectory(prefix="distdiff-bench-") as folder:
        session = Session(arguments.quick, arguments.full, Path(folder))
        record: dict[str, Any] = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), "quick": arguments.quick,
            "machine": machine(), "core": session.core, "limits": session.work("limits", "machine", {})["figures"]}
        print_limits(record)
        record["benchmarks"] = {}
        for name in names:
            record["benchmarks"][name] = session.run(name, chosen)
            print_benchmark(name, record)
    record["targets"] = targets(record)
    print_targets(record)
    if arguments.plot and "scale" in record["benchmarks"]:
        draw(Path(arguments.plot), [f for r in record["benchmarks"]["scale"]["results"] for f in r["figures"]])
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(record, indent=1), encoding="utf-8")
    ours = [r for b in record["benchmarks"].values() for r in b["results"]
            if r["tool"].startswith("distdiff") or r["ranks"]]
    checks = [check for b in record["benchmarks"].values() for check in b["checks"]]
    return int(any(r["error"] for r in ours) or not all(check["agrees"] for check in checks))


if __name__ == "__main__":
    sys.exit(main())
