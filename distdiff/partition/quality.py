"""The one measure by which partitions are compared: what a pass over the tape should take.

    seconds = sum over supersteps s of  max_r work(s, r)
                                        + max_r (L + 2 o + wait + (messages(s, r) - 1) g + bytes(s, r) G)

in LogGP's terms (see `machine`), there and back: a rank waits for its neighbours once, however many they are.

Everything but the seconds is counted, not modelled.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from ..machine import Machine

CROWDED = 4  # places for each that occurs, up to which all of them are counted


@dataclass(frozen=True)
class Quality:
    """What a partition promises.  Lines, values and messages are those of one forward pass."""

    max_work: int  # lines on the busiest rank
    balance: float  # busiest rank's lines over the mean of all ranks
    halo: int  # values sent
    messages: int
    k_star: int  # supersteps
    memory: int  # bytes of values and partials on the fullest rank
    seconds: float  # predicted, of an evaluation and a solve
    exchanging: float = 0.0  # ... of which messages and waiting for them
    items: int = 0  # statements and pieces of scalar runs on the rank with most
    runs: int = 0  # ... of these, pieces of scalar runs
    sent: int = 0  # values that the rank sends that sends most
    sent_messages: int = 0  # ... and messages
    waits: float = 1.0  # work of the busiest rank of every superstep, over that of the busiest rank of all

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Promise:
    """What a layout takes for the job at hand, by the method that suits it."""

    seconds: float
    memory: float  # bytes on the fullest rank
    exchanging: float = 0.0  # ... of the seconds, messages and waiting for them
    method: str = ""  # "": no method was asked
    reason: str = ""
    sharing: float = 0.0  # seconds of handing every rank its share, whole; of them `seconds` has a point's part
    at_most: bool = True  # the memory is a bound, not what is predicted (`solvers.held`)


@dataclass
class Traffic:
    """Values that go from rank to rank after a superstep: entry i is values[i] from source[i] to target[i]."""

    step: np.ndarray
    source: np.ndarray
    target: np.ndarray
    values: np.ndarray

    @classmethod
    def none(cls) -> Traffic:
        """No messages."""
        nothing = np.empty(0, dtype=np.int64)
        return cls(nothing, nothing, nothing, np.empty(0))


class Load(NamedTuple):
    """What ranks compute in every superstep: `seconds` at `place` = superstep * n_ranks + rank, each once."""

    n_steps: int
    n_ranks: int
    place: np.ndarray
    seconds: np.ndarray

    def largest(self) -> float:
        """The seconds of the busiest rank of every superstep, added up."""
        most = np.zeros(self.n_steps)
        np.maximum.at(most, self.place // self.n_ranks, self.seconds)
        return float(most.sum())

    def busiest(self) -> float:
        """The seconds of the rank that has most in all."""
        return float(np.bincount(self.place % self.n_ranks, weights=self.seconds, minlength=self.n_ranks).max())


def gathered(place: np.ndarray, size: int, *weights: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """(the places that occur, ascending; the sums of each of the weights there), of `size` places that there are:
    supersteps times ranks may be far more than there is to be done.
    """
    if size <= CROWDED * (len(place) + 1000):
        found = np.flatnonzero(np.bincount(place, minlength=size))
        return found, [np.bincount(place, weights=w, minlength=size)[found] for w in weights]
    found, inverse = np.unique(place, return_inverse=True)
    return found, [np.bincount(inverse, weights=w, minlength=len(found)) for w in weights]


def measure(lines: np.ndarray, work: Load, nodes: np.ndarray, traffic: Traffic, machine: Machine,
            items: np.ndarray, runs: np.ndarray) -> Quality:
    """Quality from lines (ranks,), work in seconds, own nodes, statements and pieces of runs (ranks,) and the traffic.
    """
    n_steps, n_ranks = work.n_steps, work.n_ranks
    code = (traffic.step.astype(np.int64) * n_ranks + traffic.source) * n_ranks + traffic.target
    messages, (volume,) = gathered(code, n_steps * n_ranks * n_ranks, traffic.values)
    step, pair = np.divmod(messages, n_ranks * n_ranks)
    source, target = np.divmod(pair, n_ranks)
    computing = work.largest()
    exchanging = 0.0
    for end in (source, target):
        place, (count, values) = gathered(step * n_ranks + end, n_steps * n_ranks, np.ones(len(end)), volume)
        each = machine.message + 2 * machine.gap * (count - 1) + machine.pass_byte * 8.0 * values
        exchanging += 0.5 * Load(n_steps, n_ranks, place, each).largest()
    busiest = work.busiest()
    ghosts = np.bincount(target, weights=volume, minlength=n_ranks)
    return Quality(
        max_work=int(lines.max(initial=0)), balance=float(lines.max() / lines.mean()) if lines.any() else 1.0,
        halo=int(volume.sum()), messages=len(messages), k_star=n_steps,
        memory=int((8 * (nodes + ghosts) + 16 * lines).max(initial=0)), seconds=computing + exchanging,
        exchanging=exchanging, items=int(items.max(initial=0)), runs=int(runs.max(initial=0)),
        sent=int(np.bincount(source, weights=volume, minlength=1).max()),
        sent_messages=int(np.bincount(source, minlength=1).max()), waits=computing / busiest if busiest else 1.0)


__all__ = ["Load", "Promise", "Quality", "Traffic", "gathered", "measure"]
