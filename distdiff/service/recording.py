"""The process that traces functions of a service's modules, one after another, as it is told on standard input.

A line of JSON says what to trace, with which arguments, and where the tape goes; one answers, empty or with the error.
It has no MPI and nothing of the service's, so it can be ended at any moment, whatever the function does: one that never
returns, inside of C too, takes all memory, or ends its process, takes nothing else with it.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DistdiffError, InputError, TracingError
from ..nest import names_of
from ..storage import save_tape
from ..tracing import trace
from ..tracing.tree import flatten, is_number
from . import wire
from .modules import Modules

PR_SET_PDEATHSIG = 1


def record(modules: Modules, module: str, name: str, arguments: dict[str, Any], path: str) -> None:
    """Trace a function at arguments given by name, and write its tape with the point: those that hold floats."""
    f = modules.function(module, name)
    try:
        args = inspect.signature(f).bind(**arguments).args
    except TypeError as error:
        raise InputError(f"{module}:{name}{inspect.signature(f)} can't be called with these arguments: {error}"
                         ) from error
    positions = tuple(k for k, value in enumerate(args) if np.asarray(value).dtype.kind == "f")
    if not positions:
        raise InputError("no argument holds floating-point numbers to differentiate by; give them as floats")
    tape = trace(f, args, argnums=positions).tape
    leaves, _ = flatten(tuple(args[k] for k in positions), "point", is_number)
    save_tape(tape, path, [np.asarray(leaf, dtype=float) for leaf in leaves], names_of(f, positions))


def answer(modules: Modules, asked: dict[str, Any]) -> dict[str, Any]:
    """What is said of one function: nothing where it was traced, else the error, with its place where it is the
    function's own; the operator, who may mend it, is told of that too."""
    module, name = asked["module"], asked["function"]
    try:
        content = Path(asked["arguments"]).read_bytes()
        record(modules, module, name, wire.named(wire.NPZ, content, len(content)), asked["tape"])
    except DistdiffError as error:
        return {"type": type(error).__name__, "detail": str(error), "status": getattr(error, "status", 0)}
    except (Exception, SystemExit) as error:  # a function that wants the process to end ends itself alone
        detail = f"{module}:{name} raised {type(error).__name__}: {error}{modules.places(error)}"
        print(f"distdiff: {detail}", file=sys.stderr, flush=True)
        return {"type": TracingError.__name__, "detail": detail, "status": 0}
    return {}


def give_way(parent: int) -> None:
    """End with the service, whoever kills it; be the first that a system short of memory ends; leave its core alone."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with suppress(OSError, AttributeError):  # launchers bind a rank, and what it starts, to cores
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def main(directory: str, parent: int) -> None:
    give_way(parent)
    modules = Modules(directory)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as says:
        os.dup2(2, 1)  # what functions print is the operator's to see
        for line in sys.stdin:
            said = answer(modules, json.loads(line))
            sys.stdout.flush()
            print(json.dumps(said), file=says, flush=True)


__all__ = ["main", "record"]
