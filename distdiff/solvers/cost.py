"""What a method costs for the job at hand: what a method's file tells `select`.

Every method's file holds its class and

    cost(work, columns, machine) -> Cost        seconds and memory for `columns` right-hand sides at one point
    METHOD = Method(name, cost, its class, whether it works on the assembled system)

and `solvers.METHODS` names the file.  Predictions are  setup + columns x solve  on the busiest rank, plus the messages
of the supersteps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..machine import Machine

KEPT_SHARE = 0.3  # rows kept by preaccumulation, of the lines (before it is known)
ENTRY, ROW = 12, 28  # bytes of a stored nonzero, and of a row beside its entries
ENTRIES = 3  # nonzeros a kept row, the diagonal included
BATCH = 32  # right-hand sides that go through together


@dataclass(frozen=True)
class Work:
    """What the cost functions look at; counts are those of the busiest rank unless they say otherwise."""

    array_lines: int
    scalar_lines: int  # lines of scalar runs
    items: int  # statements and runs
    k_star: int
    ranks: int
    messages: int = 0  # sent by the busiest rank in one pass
    halo: int = 0  # values sent by the busiest rank in one pass
    waits: float = 1.0  # lines of the busiest rank of every superstep, over those of the busiest rank of all
    kept_rows: int | None = None  # once known
    assembled: bool = False  # the matrix holds the values of this point

    @property
    def lines(self) -> int:
        return self.array_lines + self.scalar_lines

    @property
    def rows(self) -> float:
        """Rows of the assembled system."""
        return self.kept_rows if self.kept_rows is not None else KEPT_SHARE * self.lines


@dataclass(frozen=True)
class Cost:
    """Predicted seconds and bytes (on the fullest rank, beside tape and values), and why they are what they are."""

    seconds: float | None  # None: the method does not apply, and `reason` says why
    memory: float
    reason: str

    @classmethod
    def none(cls, reason: str) -> Cost:
        """The method does not apply."""
        return cls(None, 0.0, reason)


@dataclass(frozen=True)
class Method:
    """A way to solve the system.

    `make` is called with (system, options) where the method works on the assembled system, else with (local, point,
    comm); what it returns has tangent, adjoint, refresh, close, info and memory.  `partition` is the strategy that
    suits it, `at_once` how many batches of right-hand sides it wants to see at once.
    """

    name: str
    cost: Callable[[Work, int, Machine], Cost]
    make: Callable[..., Any]
    assembled: bool = True
    partition: str = "auto"
    at_once: int = 1


def batches(columns: int) -> int:
    """How many passes carry that many right-hand sides."""
    return -(-max(columns, 1) // BATCH)


def latency(work: Work, columns: int, machine: Machine) -> float:
    """Seconds that the exchanges after supersteps take, all right-hand sides together."""
    return machine.superstep * (work.k_star - 1) * batches(columns) if work.ranks > 1 else 0.0


def assembly(work: Work, machine: Machine) -> float:
    """Seconds until the system is assembled with the values of the point."""
    return 0.0 if work.assembled else machine.assemble_line * work.lines + machine.expand_item * work.items


def system_bytes(work: Work) -> float:
    """Bytes of the assembled system."""
    return work.rows * (ROW + ENTRIES * ENTRY)


def substitution_seconds(work: Work, columns: int, machine: Machine) -> float:
    """Seconds of the substitutions themselves, everything being assembled."""
    return work.waits * local_seconds(work, columns, machine) + latency(work, columns, machine)


def local_seconds(work: Work, columns: float, machine: Machine) -> float:
    """Seconds that a rank takes for its own rows, nobody to wait for."""
    return work.rows * (machine.row + (max(columns, 1) - 1) * machine.row_next_column)


__all__ = ["Cost", "Method", "Work", "assembly", "batches", "latency", "local_seconds", "substitution_seconds",
           "system_bytes"]
