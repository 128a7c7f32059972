"""Measures this machine's rates (`machine.Machine`), says how far they can be trusted, keeps them for later runs.

Computing is measured in the processor's time, messages and waits by the clock.  Where this process does not have a core
to itself, or the same messages take now so long and now longer, the machine is busy, and nothing is kept.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from mpi4py import MPI

from ..comm import agreed, on_root
from ..errors import DistdiffError
from ..kernels.jit import compile_at_once
from ..machine import VERSION, Machine, current, files
from ..petsc import start
from ..stages import Stages
from .between import agreements, messages, shares, waits
from .fit import Fitted, fit_all
from .rows import assembled
from .stages import samples

CALM = 1.6  # times the least that the same messages usually take on a machine that nobody else is busy with


@dataclass
class Calibration:
    """The machine, and how far its rates can be trusted."""

    machine: Machine
    fits: list[Fitted] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        out = [f"{self.machine.source}, in {self.seconds:.0f} s", "",
               f"{'rate':<28}{'seconds':>12}   when any one program is left out"]
        for fit in self.fits:
            for name, rate in fit.rates.items():
                lo, hi = fit.spread.get(name, (rate, rate))
                out.append(f"{name:<28}{rate:>12.3g}   {lo:.3g} .. {hi:.3g}")
        out += ["", f"{'stage':<28}{'programs':>9}   predicted/measured, each program predicted from the others"]
        for fit in self.fits:
            if len(fit.ratios) > 2:
                ordered = sorted(fit.ratios.items(), key=lambda pair: pair[1])
                quartiles = np.quantile([r for _, r in ordered], [0.25, 0.5, 0.75])
                out.append(f"{fit.stage:<28}{len(ordered):>9}   " + "  ".join(f"{q:.2f}" for q in quartiles)
                           + f"   least {ordered[0][1]:.2f} ({ordered[0][0]}), most {ordered[-1][1]:.2f} "
                           f"({ordered[-1][0]})")
        return "\n".join(out)


def calibrate(comm: MPI.Comm, stages: Stages | None = None) -> Calibration:
    """Measure the machine; about half a minute.  Collective: rank 0 measures computing, all ranks messages.

    `stages` are told what is measured.  Raises `DistdiffError` where this process has to share its core, or messages
    take now so long and now longer: then others use the machine as well.
    """
    stages = stages or Stages()
    began = time.perf_counter()
    with stages("compiling what is not there yet"):
        compile_at_once()
    start(comm)  # together, before rank 0 goes on alone
    alone = on_root(comm, lambda: fit_all(samples(stages)), share=False)
    fits: list[Fitted] = alone if comm.rank == 0 else []
    machine = on_root(comm, lambda: _with(Machine(), fits))
    if comm.size > 1:
        with stages("measuring messages between the ranks"):
            between = messages(comm)
            between += [*waits(comm, _with(machine, between)), *agreements(comm, machine),
                        *shares(comm)]
        with stages("measuring assembled systems over the ranks"):
            between += assembled(comm, _with(machine, between))
        with agreed(comm):
            refuse_unrest(between)
        machine = _with(machine, between)
        fits = fits + between
    today = datetime.now(UTC).isoformat(timespec="minutes")
    host = f"{comm.size} ranks" if comm.size > 1 else "one rank"
    machine = on_root(comm, lambda: replace(machine, source=f"measured {today} on {os.uname().nodename}, {host}"))
    return Calibration(machine, fits, time.perf_counter() - began)


def refuse_unrest(fits: list[Fitted]) -> None:
    """Raise `DistdiffError` where what was measured by the clock was disturbed."""
    worst = max(fits, key=lambda fit: fit.unrest)
    if worst.unrest > CALM:
        raise DistdiffError(
            f"the machine is busy with something else: measuring {worst.stage}, the same thing usually took "
            f"{worst.unrest:.1f} times as long as at best ({CALM:g} is the limit), so rates of messages would be "
            "those of the other load. Nothing is kept; run this again when the machine is quiet")


def _with(machine: Machine, fits: list[Fitted]) -> Machine:
    """The machine with the fitted rates; a rate that no program told anything of stays as it was."""
    return replace(machine, **{name: rate for fit in fits for name, rate in fit.rates.items()})


def save(machine: Machine) -> Path:
    """Keep the rates for later runs on such a machine, in the first place that can be written; returns the file."""
    content = json.dumps({"version": VERSION, "rates": machine.to_dict()}, indent=1)
    reasons = []
    for path in files():
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(content, encoding="utf-8")
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            reasons.append(f"{path.parent}: {error.strerror}")
            continue
        current.cache_clear()
        return path
    raise DistdiffError(f"no folder for the rates can be written ({'; '.join(reasons)}); set DISTDIFF_CACHE_DIR to one")


__all__ = ["Calibration", "Fitted", "calibrate", "save"]
