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
from math import ceil
from typing import Any

from ..kernels.slots import MANY
from ..machine import Machine
from .work import BATCH, Work

ENTRY_BYTES, ROW_BYTES = 12, 28  # of a stored nonzero, and of a row beside its entries
INDEX_BYTES = 8  # of a row before elimination, beside its entries
FAR_ROWS = 1 << 14  # rows beyond which a batch of right-hand sides no longer stays in cache


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
    suits it, `at_once` how many batches of right-hand sides it wants to see at once.  ends: where a solve that is
    cancelled ends.
    """

    name: str
    cost: Callable[[Work, int, Machine], Cost]
    make: Callable[..., Any]
    assembled: bool = True
    partition: str = "auto"
    at_once: int = 1
    ends: str = "between two supersteps"


def latency(work: Work, columns: int, machine: Machine) -> float:
    """Seconds that the exchanges between supersteps take, all right-hand sides together."""
    if work.ranks == 1:
        return 0.0
    return machine.exchange * (work.k_star - 1) * work.passes(columns) + 8 * machine.byte * work.halo * columns


def assembly_amounts(work: Work) -> dict[str, float]:
    """What the system takes of each rate of `Machine` until it is assembled."""
    return {"assembly_call": 1, "expand_item": work.items, "assemble_node": work.nodes,
            "assemble_entry": work.nonzeros, "assemble_kept": work.entries}


def refresh_amounts(work: Work) -> dict[str, float]:
    """... and new values in a structure that is there."""
    return {"refresh_call": 1, "refresh_item": work.items, "refresh_node": work.nodes, "refresh_entry": work.nonzeros,
            "refresh_kept": work.entries}


def pass_amounts(work: Work) -> dict[str, float]:
    """What a substitution with one right-hand side takes, messages left out."""
    return {"pass_call": 1, "row": work.rows, "entry": work.entries}


def column_amounts(work: Work) -> dict[str, float]:
    """What every further right-hand side in the same pass takes."""
    return {"pass_next_column": 1, "row_next_column": work.rows, "entry_next_column": work.entries,
            "far_row_next_column": max(work.rows - FAR_ROWS, 0)}


def assembly(work: Work, machine: Machine) -> float:
    """Seconds until the system is assembled with the values of the point."""
    if work.assembled:
        return 0.0
    seconds = machine.seconds(equation_rows_amounts(work))  # eliminated anew at every point
    if work.expanded:
        return seconds + machine.seconds(refresh_amounts(work)) + (machine.joining_again if work.k_star > 1 else 0.0)
    joining = machine.joining_call + machine.joining_value * work.halo if work.k_star > 1 else 0.0
    return seconds + machine.seconds(assembly_amounts(work)) + joining


def system_bytes(work: Work) -> float:
    """Bytes of the assembled system."""
    return work.rows * ROW_BYTES + work.entries * ENTRY_BYTES


def assembling_bytes(work: Work) -> float:
    """The same, with all rows before elimination if they are still to be written: for a dense product of n x n matrices
    these are up to 2 n^3 entries, whatever is left of them."""
    expanded = 0.0 if work.assembled else work.nodes * INDEX_BYTES + work.nonzeros * ENTRY_BYTES
    return expanded + system_bytes(work)


def equation_amounts(work: Work) -> dict[str, float]:
    """What the systems of equations take at a point, whoever solves with them one by one."""
    return {"equation_call": work.equations, "equation_entry": work.implicit}


def equation_solve_amounts(work: Work) -> dict[str, float]:
    """... and what a right-hand side takes then,"""
    return {"equation_solve": work.equations, "equation_solve_entry": work.implicit}


def equation_column_amounts(work: Work) -> dict[str, float]:
    """... or a further one that comes with it."""
    return {"equation_next_column": work.equations, "equation_entry_next_column": work.implicit}


def equation_rows_amounts(work: Work) -> dict[str, float]:
    """What writing equations' rows into the assembled system takes."""
    return {"equation_rows_call": work.equations, "equation_rows_entry": work.implicit}


def component_amounts(work: Work) -> dict[str, float]:
    """What factorizing these rows' components takes there."""
    return {"component_entry": work.implicit}


def equations_setup(work: Work, machine: Machine) -> float:
    """Seconds for the systems of equations at a point, each by itself."""
    return machine.seconds(equation_amounts(work))


def equations_seconds(work: Work, columns: int, machine: Machine) -> float:
    """Seconds to solve with these."""
    passes = min(work.passes(columns), columns)
    return passes * machine.seconds(equation_solve_amounts(work)) + (columns - passes) * machine.seconds(
        equation_column_amounts(work))


def implicit_setup(work: Work, machine: Machine) -> float:
    """Seconds to factorize the components of implicit statements in the assembled system, at a point."""
    return machine.seconds(component_amounts(work))


def implicit_seconds(work: Work, columns: int, machine: Machine) -> float:
    """Seconds to solve with these factors: rows of the system in any case, so a call is none of theirs."""
    entries = {"equation_solve_entry": 1, "equation_entry_next_column": columns - 1}
    return work.implicit * machine.seconds(entries)


def substitution_setup(work: Work, machine: Machine) -> float:
    """Seconds until a solver that substitutes is ready, the system being assembled."""
    if work.expanded or work.assembled:  # a solver that is there has found its rows' patterns
        return implicit_setup(work, machine)
    return machine.substitution_call + machine.substitution_row * work.rows + implicit_setup(work, machine)


def substitution_seconds(work: Work, columns: int, machine: Machine) -> float:
    """Seconds of the substitutions themselves, everything being assembled."""
    return (work.waits * local_seconds(work, columns, machine) + steps_seconds(work, columns, machine)
            + latency(work, columns, machine) + work.waits * implicit_seconds(work, columns, machine))


def steps_seconds(work: Work, columns: int, machine: Machine) -> float:
    """Seconds that supersteps of assembled rows take beside these and their messages."""
    return (work.k_star - 1) * (machine.step + machine.step_pass * work.passes(columns))


def local_seconds(work: Work, columns: float, machine: Machine) -> float:
    """Seconds that a rank takes for its own rows, nobody to wait for."""
    passes = min(work.passes(ceil(columns)), columns)
    if work.little and columns >= MANY * passes:
        return passes * machine.pass_call + machine.seconds(slot_amounts(work, passes, columns))
    return passes * machine.seconds(pass_amounts(work)) + (columns - passes) * machine.seconds(column_amounts(work))


def slot_amounts(work: Work, passes: int, columns: float) -> dict[str, float]:
    """What rows take whose solutions are kept only as long as others read them."""
    entries = work.rows + work.entries
    return {"slot_entry": passes * entries, "slot_entry_next_column": columns * entries}


def rows_seconds(rows: float, entries: float, columns: int, machine: Machine) -> float:
    """Seconds of a pass over so many rows with so many right-hand sides."""
    further = rows * machine.row_next_column + entries * machine.entry_next_column
    further += max(rows - FAR_ROWS, 0.0) * machine.far_row_next_column
    return rows * machine.row + entries * machine.entry + (columns - 1) * further


def batches(columns: int) -> int:
    """How many passes carry that many right-hand sides, where they go together."""
    return -(-max(columns, 1) // BATCH)


__all__ = ["BATCH", "Cost", "Method", "Work", "assembling_bytes", "assembly", "assembly_amounts", "batches",
           "column_amounts", "component_amounts", "equation_amounts", "equation_column_amounts",
           "equation_rows_amounts", "equation_solve_amounts", "equations_seconds", "equations_setup",
           "implicit_seconds", "implicit_setup", "latency", "local_seconds", "pass_amounts",
           "refresh_amounts", "rows_seconds", "slot_amounts", "steps_seconds", "substitution_seconds",
           "substitution_setup", "system_bytes"]
