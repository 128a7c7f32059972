"""What the machine at hand takes for each kind of work: the rates behind every prediction, in seconds.

One `Machine` serves the partition's quality and the choice of a method.  `Machine()` holds constants measured on
2.6 GHz Zen 4 cores with messages in shared memory; `distdiff calibrate` measures this machine's own and keeps them
where compiled loops are kept (`places`), and `current()` finds them there.  DISTDIFF_MACHINE=default leaves them
aside, and DISTDIFF_MACHINE=FILE takes those of a file.

Messages follow LogGP (Alexandrov, Ionescu, Schauser, Scheiman: LogGP, SPAA 1995): one of k bytes keeps its sender and
its receiver busy for o each and arrives L + 2 o + (k - 1) G after it was sent; the next may follow g later.
"""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import __version__
from .errors import InputError
from .places import places

VARIABLE = "DISTDIFF_MACHINE"
VERSION = 1  # of the constants' meaning: files of another version are not read


@dataclass(frozen=True)
class Machine:
    """Rates in seconds; `line` is a flattened line of array code, `run_line` one of a scalar run, `item` a statement.

    The partition's constants are for a *pass*, an evaluation and a solve, so messages go there and back.
    """

    # A pass: evaluation and one solve
    line: float = 1.0e-9
    run_line: float = 8.0e-9
    item: float = 4.0e-6  # what a vector statement costs before its first element

    # Messages
    latency: float = 1.0e-6  # L: on the way
    overhead: float = 1.0e-6  # o: on either side, packing and matching included
    gap: float = 1.0e-6  # g: between two messages of one rank
    byte: float = 2.5e-10  # G: a byte, all copies included
    wait: float = 2.2e-5  # for a neighbour who is not quite as far, a message: most of what it costs

    # One sweep over the tape
    sweep_line: float = 0.5e-9  # 0.15 for stencils, more where rules compute
    sweep_run_line: float = 4.0e-9
    sweep_item: float = 4.0e-6  # dispatch of one planned statement
    sweep_next_column: float = 0.4  # a further right-hand side in the same sweep, of the first one's cost
    plan_item: float = 16e-6  # planning the sweep of one statement, once

    # The assembled system
    expand_item: float = 40e-6  # expanding one statement into rows, once
    assemble_line: float = 50e-9  # expanding, eliminating and assembling, a line, once
    row: float = 3.5e-9  # substitution, a row, the first right-hand side
    row_next_column: float = 1.2e-9
    factor_row: float = 1.5e-6  # symbolic and numeric factorisation with MUMPS, a row
    direct_row: float = 30e-9

    # A solver's objects, and its first use
    sweep_call: float = 20e-6
    substitution_call: float = 1.5e-3
    krylov_call: float = 2.5e-3
    direct_call: float = 4e-3

    source: str = "defaults"  # where the rates are from

    @property
    def superstep(self) -> float:
        """A message from a neighbour that is as far as we are: L + 2 o."""
        return self.latency + 2 * self.overhead

    @property
    def message(self) -> float:
        """A message of a pass, there and back, the wait included."""
        return 2 * (self.superstep + self.wait)

    @property
    def pass_byte(self) -> float:
        """A byte of a pass, there and back."""
        return 2 * self.byte

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def file_name() -> str:
    """Rates are for one kind of processor, of one version of them."""
    kind = "".join(c if c.isalnum() else "-" for c in _processor())
    return f"machine-{VERSION}-{__version__}-{kind}.json"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # long: a part for every core
            found = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)
    except OSError:
        found = None
    return found or platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def current() -> Machine:
    """This process's machine: the calibrated one if there is one, else the defaults.  Not collective: rank 0 asks.

    Raises `InputError` where DISTDIFF_MACHINE names a file that holds no rates.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "default":
        return Machine()
    if wanted:
        try:
            return read(Path(wanted))
        except (OSError, ValueError) as error:
            raise InputError(f"{VARIABLE}={wanted} holds no rates of this version ({error}); make them with 'distdiff "
                             f"calibrate', or set {VARIABLE}=default") from error
    for folder in places(__file__):
        try:
            return read(folder / file_name())
        except (OSError, ValueError):
            continue  # not there, or of another version: as if there were none
    return Machine()


def read(path: Path) -> Machine:
    """The rates in a file; `ValueError` where it holds anything else."""
    content = json.loads(path.read_text(encoding="utf-8"))
    names = {field.name: field.type for field in fields(Machine)}
    rates = content.get("rates") if isinstance(content, dict) and content.get("version") == VERSION else None
    if not isinstance(rates, dict) or set(rates) != set(names):
        raise ValueError(f"not the rates of version {VERSION}")
    for name, kind in names.items():
        good = isinstance(rates[name], str) if kind == "str" else (
            isinstance(rates[name], float) and 0.0 <= rates[name] < float("inf"))
        if not good:
            raise ValueError(f"{name} = {rates[name]!r}")
    return Machine(**rates)


__all__ = ["Machine", "current", "file_name", "read"]
