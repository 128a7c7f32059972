"""Pictures of a linearized function: counted and measured first, as plain arrays, and then drawn.

    picture = lin.plot("spy")            collective; "spy", "levels", "partition", "timeline", "scaling"
    picture.data                         what was counted or measured
    picture.save("spy.svg")              or .png, `figure()`, `svg(dark=True)`; needs matplotlib

    spy         where I - L has its entries, before and after elimination, binned
    levels      lines by level, values alive along the trace, the critical path
    partition   who owns what along the trace and its arrays, what ranks send each other
    timeline    computing, sending and waiting of every rank, measured in an evaluation and a solve
    scaling     predicted and measured seconds by number of ranks
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import InputError
from ..partition import partition as make_partition
from ..tape import Tape
from .ownership import partition, planned
from .passes import timeline
from .picture import Picture, require_path, require_suffix
from .ranks import scaling
from .sparsity import spy
from .subject import Subject
from .widths import levels

_TAKEN: dict[str, Callable[[Subject], Any]] = {
    "spy": spy, "levels": levels, "partition": partition, "timeline": timeline, "scaling": scaling}
KINDS = tuple(_TAKEN)


def take(subject: Subject, kind: str) -> Picture:
    """The picture of that kind, the same on every rank.  Collective; raises `InputError` for another kind."""
    if kind not in _TAKEN:
        raise InputError(f"there is no picture {kind!r}; there are {', '.join(KINDS)}")
    return Picture(kind, _TAKEN[kind](subject))


def take_planned(tape: Tape, ranks: int, strategy: str = "auto") -> Picture:
    """The picture "partition" of a tape on ranks that nobody has.  Not collective; uses the tape up."""
    return Picture("partition", planned(tape, make_partition(tape, ranks, strategy=strategy)))


__all__ = ["KINDS", "Picture", "Subject", "require_path", "require_suffix", "take", "take_planned"]
