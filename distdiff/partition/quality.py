"""The one measure by which partitions are compared: what a pass over the tape should take.

    seconds = sum over supersteps s of  max_r work(s, r)
                                        + max_r (L + 2 o + wait + (messages(s, r) - 1) g + bytes(s, r) G)

in LogGP's terms (see `machine`), there and back: a rank waits for its neighbours once, however many they are.

Everything but the seconds is counted, not modelled.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..machine import Machine


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
    lasting: float = 0.0  # `seconds` where points bear a part each of what is set up once as well; 0.0: nobody knows


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


def measure(lines: np.ndarray, work: np.ndarray, nodes: np.ndarray, traffic: Traffic, machine: Machine,
            items: np.ndarray, runs: np.ndarray) -> Quality:
    """Quality from lines (ranks,), work in seconds (supersteps, ranks), own nodes, statements and pieces of runs
    (ranks,) and the traffic.
    """
    n_steps, n_ranks = work.shape
    shape = (n_steps, n_ranks)
    code = (traffic.step.astype(np.int64) * n_ranks + traffic.source) * n_ranks + traffic.target
    messages, inverse = np.unique(code, return_inverse=True)
    volume = np.bincount(inverse, weights=traffic.values, minlength=len(messages))
    step, pair = np.divmod(messages, n_ranks * n_ranks)
    source, target = np.divmod(pair, n_ranks)
    computing = float(work.max(axis=1).sum()) if n_steps else 0.0
    exchanging = 0.0
    for end in (source, target):
        place = step * n_ranks + end
        count = np.bincount(place, minlength=n_steps * n_ranks).reshape(shape)
        bytes_ = 8.0 * np.bincount(place, weights=volume, minlength=n_steps * n_ranks).reshape(shape)
        each = np.where(count > 0, machine.message + 2 * machine.gap * (count - 1), 0.0) + machine.pass_byte * bytes_
        exchanging += 0.5 * float(each.max(axis=1, initial=0.0).sum())
    busiest = float(work.sum(axis=0).max(initial=0.0))
    ghosts = np.bincount(target, weights=volume, minlength=n_ranks)
    return Quality(
        max_work=int(lines.max(initial=0)), balance=float(lines.max() / lines.mean()) if lines.any() else 1.0,
        halo=int(volume.sum()), messages=len(messages), k_star=n_steps,
        memory=int((8 * (nodes + ghosts) + 16 * lines).max(initial=0)), seconds=computing + exchanging,
        exchanging=exchanging, items=int(items.max(initial=0)), runs=int(runs.max(initial=0)),
        sent=int(np.bincount(source, weights=volume, minlength=1).max()),
        sent_messages=int(np.bincount(source, minlength=1).max()), waits=computing / busiest if busiest else 1.0)


__all__ = ["Promise", "Quality", "Traffic", "measure"]
