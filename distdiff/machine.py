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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import __version__
from .errors import InputError
from .places import places

VARIABLE = "DISTDIFF_MACHINE"
VERSION = 2  # of the constants' meaning: files of another version are not read


@dataclass(frozen=True)
class Machine:
    """Rates in seconds: of a `line` of array code or of a scalar run (`run_line`), a statement (`item`), a `row` or an
    `entry` (nonzero, the unit diagonal included) of the assembled system, a `call`.

    The partition's constants are for an evaluation and a solve together, so messages go there and back.
    """

    # A pass: evaluation and one solve
    line: float = 1.0e-9
    function_line: float = 3.0e-9  # of what is more than arithmetic
    gather_line: float = 5.0e-9  # of a running sum, a selection, or reads by explicit nodes
    vast_line: float = 5.0e-10  # ... beside any of these, where values leave the second cache
    product_line: float = 2.0e-10  # of a sum of products, which BLAS computes
    run_line: float = 8.0e-9
    point_call: float = 3.2e-4
    item: float = 4.0e-6  # what a vector statement costs before its first element
    operation: float = 4.0e-6  # ... one that does not run tile by tile with others

    # Messages
    latency: float = 1.0e-6  # L: on the way
    overhead: float = 1.0e-6  # o: on either side, packing and matching included
    gap: float = 1.0e-6  # g: between two messages of one rank
    byte: float = 2.5e-10  # G: a byte, all copies included
    wait: float = 2.2e-5  # for neighbours who are not quite as far, a superstep: most of what its messages cost

    agreement: float = 2.5e-5  # of all ranks on failures, which ends a solve

    # Looking for a layout, on rank 0: one more candidate, a statement of it, one that no rank shares with another; a
    # scalar line that is placed by itself in supersteps that grow, or by a graph partitioner
    look_call: float = 4.0e-3
    look_item: float = 2.5e-5
    look_small: float = 1.5e-4
    grow_line: float = 3.0e-7
    scotch_line: float = 5.0e-6

    # Handing every rank its share, once: agreements, a rank's parcel, a statement of the busiest rank, a scalar line
    # that is placed by itself, a value of another rank, a node that a statement names, a byte of constants; or the
    # whole program, to all
    share_call: float = 2.5e-3
    share_rank: float = 5.0e-5
    share_item: float = 4.8e-5
    share_line: float = 9.0e-8
    share_value: float = 2.7e-7
    share_indexed: float = 1.5e-7
    share_byte: float = 1.0e-9
    copy_call: float = 2.2e-4
    copy_item: float = 5.0e-6

    # A sweep: once (statements are new ones, sums, or copies of a loop's period)
    sweep_call: float = 3.1e-4
    plan_item: float = 6.3e-5
    plan_sum: float = 8.0e-5
    plan_run: float = 6.1e-5
    plan_copy: float = 1.0e-5
    plan_sum_copy: float = 4.2e-5
    plan_far_line: float = 6.8e-10  # fresh memory
    plan_exchange: float = 1.2e-4  # a superstep's messages, and what they keep apart: on several ranks alone
    plan_ghost: float = 5.0e-8  # ... and a value that travels
    plan_rule: float = 7.0e-6  # a partial that is computed
    plan_indexed: float = 1.0e-8  # a node that an operand names by itself
    bind_item: float = 1.6e-5  # a further planned operation, when first several right-hand sides come
    workspace_byte: float = 8.0e-11
    # A sweep: a pass, its first right-hand side ...
    sweep_pass: float = 2.3e-5
    sweep_item: float = 3.7e-7
    sweep_sum: float = 5.4e-6
    sweep_run: float = 2.2e-5
    sweep_line: float = 4.5e-10  # over arrays that stay in cache
    sweep_far_line: float = 1.0e-10  # over others
    sweep_copy_line: float = 0.8e-10
    sweep_sum_line: float = 1.2e-11
    sweep_gather_line: float = 1.4e-9
    sweep_run_line: float = 3.2e-9
    sweep_rule: float = 8.9e-6  # partials that are computed: a statement's, an entry
    sweep_rule_line: float = 1.5e-9
    sweep_outer_line: float = 5.0e-10
    sweep_vast_term: float = 4.0e-10  # a coefficient that comes from memory
    sweep_strip: float = 8.5e-9
    sweep_end: float = 2.0e-10  # an input or output
    # ... and every further one in the same pass
    sweep_item_next_column: float = 1.0e-8
    sweep_sum_next_column: float = 5.6e-8
    sweep_rule_line_next_column: float = 1.1e-10
    sweep_vast_term_next_column: float = 7.0e-10
    sweep_outer_line_next_column: float = 9.5e-10
    sweep_line_next_column: float = 4.5e-10
    sweep_far_line_next_column: float = 3.5e-10
    sweep_copy_line_next_column: float = 4.0e-11
    sweep_sum_line_next_column: float = 1.7e-11
    sweep_gather_line_next_column: float = 2.6e-9
    sweep_run_line_next_column: float = 6.5e-10
    sweep_strip_next_column: float = 8.7e-9
    sweep_end_next_column: float = 1.1e-9

    # A walk through the statements: a pass, where no other follows
    walk_call: float = 3.5e-5
    walk_item: float = 5.4e-6
    walk_line: float = 6.5e-10  # every term goes to memory and back
    walk_sum_line: float = 6.0e-11
    walk_run_line: float = 3.9e-9
    walk_far_node: float = 1.7e-9  # of a vector that leaves the cache, and is fresh memory

    # The assembled system: expanding, eliminating, assembling, once a point
    assembly_call: float = 5.6e-4
    expand_item: float = 1.9e-5
    assemble_node: float = 1.9e-8  # a row before elimination
    assemble_entry: float = 9.3e-9  # a nonzero before elimination
    assemble_kept: float = 4.5e-9  # a nonzero that is left
    # ... new values in a structure that is there
    refresh_call: float = 2.0e-4
    refresh_item: float = 7.0e-6
    refresh_node: float = 6.6e-9
    refresh_entry: float = 3.3e-9
    refresh_kept: float = 1.6e-9
    # ... on several ranks: until they have agreed, once and on new values, and on a value that travels
    joining_call: float = 2.0e-4
    joining_again: float = 2.0e-4
    joining_value: float = 1.1e-7
    # Substitution: once, a pass and its first right-hand side, every further one
    substitution_call: float = 1.4e-4
    substitution_row: float = 9.7e-9
    pass_call: float = 3.7e-6
    row: float = 5.3e-10
    entry: float = 5.1e-10
    row_next_column: float = 4.9e-10
    entry_next_column: float = 1.1e-10
    far_row_next_column: float = 6.5e-10  # beyond what stays in cache
    pass_next_column: float = 4.4e-8
    # ... a superstep, beside its rows and messages: once, and in a pass
    step: float = 6.0e-5
    step_pass: float = 1.5e-5
    # ... where a solution is kept only as long as rows read it: a row or an entry of a pass, and of a column in it
    slot_entry: float = 3.0e-9
    slot_entry_next_column: float = 5.0e-11
    # Interface elimination: until interfaces are known, a pass, an entry of a small matrix
    interface_call: float = 8.0e-4
    interface_pass: float = 3.0e-5
    interface_entry: float = 1.0e-9
    # A pipeline: a superstep of a batch, beside its rows
    pipeline_task: float = 2.0e-5
    # Krylov: once, a right-hand side, an iteration of one
    krylov_call: float = 1.8e-4
    krylov_row: float = 1.0e-8
    krylov_solve: float = 3.4e-5
    krylov_iteration: float = 3.5e-5
    krylov_entry: float = 4.6e-9
    # A factorization: once a point, a right-hand side
    direct_call: float = 4.9e-4
    factor_entry: float = 3.3e-7
    direct_solve: float = 7.9e-5
    direct_entry: float = 8.1e-8

    # An equation (`dd.implicit`), an entry of its lines: its system at a point (a step of Newton's method, or what
    # derivatives there want), a right-hand side with that, every further one, and its rows in the assembled system
    equation_call: float = 4.0e-4
    equation_entry: float = 1.5e-7
    equation_solve: float = 3.0e-5
    equation_solve_entry: float = 6.0e-9
    equation_next_column: float = 2.0e-6
    equation_entry_next_column: float = 5.0e-9
    equation_rows_call: float = 1.0e-3
    equation_rows_entry: float = 2.1e-7
    component_entry: float = 1.4e-7  # factors of its component there

    source: str = "defaults"  # where the rates are from

    @property
    def superstep(self) -> float:
        """A message from a neighbour that is as far as we are: L + 2 o."""
        return self.latency + 2 * self.overhead

    @property
    def exchange(self) -> float:
        """The same in the midst of a pass, where the neighbour is not quite as far."""
        return self.superstep + self.wait

    @property
    def message(self) -> float:
        """A superstep's first message of a pass, there and back, the wait included."""
        return 2 * self.exchange

    @property
    def pass_byte(self) -> float:
        """A byte of a pass, there and back."""
        return 2 * self.byte

    def seconds(self, amounts: Mapping[str, float]) -> float:
        """So much of each rate, in all."""
        return sum(amount * getattr(self, name) for name, amount in amounts.items())

    def without_messages(self) -> Machine:
        """The same machine if messages took no time."""
        return replace(self, latency=0.0, overhead=0.0, gap=0.0, byte=0.0, wait=0.0, agreement=0.0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def files() -> list[Path]:
    """Where this machine's rates may lie: they are for one kind of processor, and of one version."""
    kind = "".join(c if c.isalnum() else "-" for c in _processor())
    return [folder / f"machine-{VERSION}-{__version__}-{kind}.json" for folder in places(__file__)]


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
    for path in files():
        try:
            return read(path)
        except (OSError, ValueError):
            continue  # not there, or of another version: as if there were none
    return Machine()


def read(path: Path) -> Machine:
    """The rates in a file; `ValueError` where it holds anything else."""
    content = json.loads(path.read_text(encoding="utf-8"))
    names = {field.name: field.type for field in fields(Machine)}
    rates = content.get("rates") if isinstance(content, dict) and content.get("version") == VERSION else None
    if not isinstance(rates, dict) or not set(rates) <= set(names):
        raise ValueError(f"not the rates of version {VERSION}")
    rates = {**Machine().to_dict(), **rates}  # one that was not measured then is the usual one
    for name, kind in names.items():
        good = isinstance(rates[name], str) if kind == "str" else (
            isinstance(rates[name], float) and 0.0 <= rates[name] < float("inf"))
        if not good:
            raise ValueError(f"{name} = {rates[name]!r}")
    return Machine(**rates)


__all__ = ["Machine", "current", "files", "read"]
