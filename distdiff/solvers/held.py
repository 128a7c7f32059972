"""What a rank will hold: its part of what one rank with everything would, what it is sent, what the method holds.

Finding it takes as long as the trace of array code, so nothing is chosen by it: layouts are compared by bounds, and
who asks for a plan or a report gets this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..graph import LiveWidth, Reads
from ..liveness import kept_blocks, lodgings
from ..partition import Quality, whole
from ..partition.quality import Promise
from ..strided import BlockIndex
from ..tape import ScalarRun, Tape
from .sweep import CACHE

if TYPE_CHECKING:
    from .layouts import Use


class Held(NamedTuple):
    """By one rank with all of a program: bytes of the tape and of the values of a point, values alive at once at most
    (the lines of a run live together), lines and ends."""

    bytes: int
    alive: int
    lines: int
    ends: int

    @classmethod
    def of(cls, tape: Tape) -> Held:
        local, index = whole(tape), BlockIndex(tape.blocks)
        kept = kept_blocks(local, index)
        _, pool = lodgings(local, kept, index)
        values = pool + sum(block.size for block, stays in zip(tape.blocks, kept) if stays)
        run = max((item.lines for item in tape.items if isinstance(item, ScalarRun)), default=0)
        return cls(local.nbytes + 8 * values, max(LiveWidth(Reads(tape)).widest, run),
                   max(tape.lines - tape.n_inputs, 1), tape.n_inputs + tape.n_outputs)

    def by(self, everything: bool, quality: Quality, promise: Promise, use: Use) -> float:
        """Bytes on the rank with most lines of a layout, or on one with everything.

        A sweep's vectors take the place of those that nothing reads any more; partials are those of assembled methods.
        """
        share = 1.0 if everything else quality.max_work / self.lines
        method = promise.memory - quality.memory
        if promise.method == "sweep":
            one = 8.0 * min(self.alive * share + quality.sent, method / 8.0)
            method = min(one * min(use.columns, use.together), CACHE + one)
        ends = 0.0 if everything else 16.0 * self.ends  # whose they are, on rank 0
        return min(share, 1.0) * self.bytes + 8.0 * quality.sent + ends + method


__all__ = ["Held"]
