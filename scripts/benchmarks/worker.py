"""One tool's part of one benchmark, in a process of its own: `worker.py benchmark tool settings.json result-folder`.

Writes result.json (figures, version, peak memory) and the gradients as .npy files. The parent sets the environment
(one thread, one core) before this process starts, because most libraries read it when they are imported.
"""
from __future__ import annotations

import importlib
import importlib.metadata
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
from measure import peak_memory_mib

PACKAGES = {"distdiff": "distdiff", "distdiff_compiled": "distdiff", "casadi": "casadi", "torch": "torch",
            "autograd": "autograd", "jax": "jax", "jax_scan": "jax"}


def version(tool: str) -> str:
    """What this process measured: the tool's version, NumPy's and Python's."""
    parts = []
    if tool in PACKAGES:
        try:
            parts.append(f"{PACKAGES[tool]} {importlib.metadata.version(PACKAGES[tool])}")
        except importlib.metadata.PackageNotFoundError:
            parts.append(f"{PACKAGES[tool]} from its source tree")
    return ", ".join([*parts, f"NumPy {np.__version__}", f"Python {platform.python_version()}"])


def main(benchmark: str, tool: str, settings_file: str, folder: str) -> None:
    """Runs the tool and writes its results into `folder`."""
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    wall, cpu = time.perf_counter(), time.process_time()
    run = importlib.import_module(benchmark).TOOLS[tool](settings)
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    if not getattr(run, "root", True):  # under mpirun the ranks share the folder: one of them writes
        return
    for label, gradient in run.gradients.items():
        np.save(Path(folder) / f"{label}.npy", gradient)
    result = {"tool": tool, "version": version(tool), "peak_mib": peak_memory_mib(), "cpu_share": share,
              "figures": run.figures}
    (Path(folder) / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
