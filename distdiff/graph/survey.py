"""What walks over a whole tape find, kept as long as a layout for it is chosen."""

from __future__ import annotations

from functools import cached_property

from ..machine import Machine
from ..tape import Indexed, Statement, Tape
from .levels import Levels
from .lines import Lines
from .live import LiveWidth
from .reads import Reads

LINES = Machine(line=1.0, function_line=1.0, gather_line=1.0, vast_line=0.0, product_line=1.0, run_line=1.0, item=0.0,
                operation=0.0, source="counted")


class Survey:
    """Reads, live widths and levels of a tape, each found when first asked for: candidates for its layout and its
    structure look at the same ones.
    """

    def __init__(self, tape: Tape, machine: Machine = LINES, lines: Lines | None = None) -> None:
        self.tape, self.machine, self._lines = tape, machine, lines

    @cached_property
    def reads(self) -> Reads:
        return Reads(self.tape)

    @cached_property
    def indexed(self) -> int:
        """Nodes that statements name one by one."""
        return sum(ref.ids.size for item in self.tape.items if type(item) is Statement
                   for ref in item.operands if type(ref) is Indexed)

    @cached_property
    def live(self) -> LiveWidth:
        return LiveWidth(self.reads)

    def forget_live(self) -> None:
        """Of programs that read much they are large: what comes next in the making of a layout has no use for them."""
        self.__dict__.pop("live", None)

    @cached_property
    def levels(self) -> Levels:
        """With times on this machine."""
        return Levels(self.tape, self.reads, self.live, self.machine, self._lines)


__all__ = ["LINES", "Survey"]
