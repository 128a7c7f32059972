"""The one measure by which partitions are compared: what a pass over the tape should take.

    seconds = sum over supersteps s of  max_r work(s, r)  +  latency * max_r messages(s, r)  +  max_r bytes(s, r) / bandwidth

Everything but the seconds is counted, not modelled.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Machine:
    """Rates of one rank, in seconds: orders of magnitude of a current core and of shared memory or a fast network."""

    line: float = 1.2e-9  # a flattened line of array code, evaluated or solved
    run_line: float = 8e-9  # a line of a scalar run
    item: float = 6e-6  # what a vector statement costs before its first element
    message: float = 1.5e-5  # a message, packing and matching included
    byte: float = 2.5e-10  # a byte of a message, both copies included


MACHINE = Machine()


@dataclass(frozen=True)
class Quality:
    """What a partition promises.  Lines, values and messages are those of one forward pass."""

    max_work: int  # lines on the busiest rank
    balance: float  # busiest rank's lines over the mean of all ranks
    halo: int  # values sent
    messages: int
    k_star: int  # supersteps
    memory: int  # bytes of values and partials on the fullest rank
    seconds: float  # predicted

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Traffic:
    """Values that go from rank to rank after a superstep: entry i is values[i] from source[i] to target[i]."""

    step: np.ndarray
    source: np.ndarray
    target: np.ndarray
    values: np.ndarray


def measure(lines: np.ndarray, work: np.ndarray, nodes: np.ndarray, traffic: Traffic, machine: Machine = MACHINE) -> Quality:
    """Quality from lines (ranks,), work in seconds (supersteps, ranks), own nodes (ranks,) and the traffic."""
    n_steps, n_ranks = work.shape
    shape = (n_steps, n_ranks)
    code = (traffic.step.astype(np.int64) * n_ranks + traffic.source) * n_ranks + traffic.target
    messages, inverse = np.unique(code, return_inverse=True)
    volume = np.bincount(inverse, weights=traffic.values, minlength=len(messages))
    step, pair = np.divmod(messages, n_ranks * n_ranks)
    source, target = np.divmod(pair, n_ranks)
    seconds = float(work.max(axis=1).sum()) if n_steps else 0.0
    for end in (source, target):
        place = step * n_ranks + end
        count = np.bincount(place, minlength=n_steps * n_ranks).reshape(shape)
        bytes_ = 8.0 * np.bincount(place, weights=volume, minlength=n_steps * n_ranks).reshape(shape)
        seconds += 0.5 * float((machine.message * count + machine.byte * bytes_).max(axis=1, initial=0.0).sum())
    ghosts = np.bincount(target, weights=volume, minlength=n_ranks)
    return Quality(
        max_work=int(lines.max(initial=0)), balance=float(lines.max(initial=0) / max(lines.mean(), 1e-300)) if lines.any() else 1.0,
        halo=int(volume.sum()), messages=len(messages), k_star=n_steps,
        memory=int((8 * (nodes + ghosts) + 16 * lines).max(initial=0)), seconds=seconds)


__all__ = ["MACHINE", "Machine", "Quality", "Traffic", "measure"]
