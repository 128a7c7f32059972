"""What statements take by their kind; sums of products (dot, matmul, einsum, tensordot) on a tape: what they stand for,
and what their rows would hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from ..kernels.tiles import NUMBER
from ..machine import Machine
from ..ops import MULTIPLY
from ..tape import Const, Indexed, Item, ScalarRun, Statement, Tape


def rates(item: Item) -> tuple[str, str]:
    """The rates of `Machine` of a vector statement and of a line of it, in an evaluation and a solve: one of arithmetic
    runs tile by tile with others, any other is a call by itself."""
    if contracts(item):
        return "operation", "product_line"
    if type(item) is not Statement or item.reduced:
        return "operation", "line"
    if item.op.kind != "elementwise" or any(type(ref) is Indexed for ref in item.operands):
        return "operation", "gather_line"
    return ("item", "line") if item.op.name in NUMBER else ("operation", "function_line")


def line_seconds(item: Item, machine: Machine) -> float:
    """What a line of a vector statement takes in an evaluation and a solve."""
    return float(getattr(machine, rates(item)[1])) + (machine.vast_line if vast(item) else 0.0)


def vast(item: Item) -> bool:
    """Whether a statement's values leave the second cache, so that writing them takes longer than computing them."""
    return type(item) is Statement and not item.reduced and prod(item.shape) > VAST


def call_seconds(item: Item, machine: Machine) -> float:
    """What the statement takes before its first line."""
    return float(getattr(machine, rates(item)[0]))


def seconds_of(items: Iterable[Item], machine: Machine) -> tuple[float, float, int]:
    """(what all vector statements take before their first lines, what their lines take, how many these are);
    statements that are alike take the same, and are looked at once."""
    known: dict[tuple[object, ...], tuple[float, float, int]] = {}
    calls, lines, number = 0.0, 0.0, 0
    for item in items:
        if isinstance(item, ScalarRun):
            continue
        key: tuple[object, ...] = ()
        if type(item) is Statement and (item.op is not MULTIPLY or 0 not in item.out.strides):  # sums are few
            key = id(item.op), item.shape, item.out.strides, tuple(map(type, item.operands))
        took = known.get(key) if key else None
        if took is None:
            n = item.lines
            took = call_seconds(item, machine), line_seconds(item, machine) * n, n
            if key:
                known[key] = took
        calls, lines, number = calls + took[0], lines + took[1], number + took[2]
    return calls, lines, number


VAST = 1 << 15  # elements


@dataclass(frozen=True)
class Contractions:
    """The statements y[i, j] = sum_k a[i, k] b[k, j] of a tape, with any number of axes of each kind, batches included.

    Their rows of L are a and b themselves, repeated (Kronecker products with I); they are applied as products.
    """

    statements: int
    lines: int  # flattened scalar lines
    rows: int  # results
    entries: int  # of L in these rows
    largest: tuple[int, ...]  # the largest iteration space


def contracts(item: Item) -> bool:
    """Whether an item multiplies two arrays and sums."""
    return isinstance(item, Statement) and item.op is MULTIPLY and bool(item.reduced) and not any(
        isinstance(ref, Const) and not hasattr(ref.value, "shape") for ref in item.operands)


def contractions(tape: Tape) -> Contractions:
    """Count them."""
    lines = rows = entries = count = 0
    largest: tuple[int, ...] = ()
    for item in tape.items:
        if not contracts(item):
            continue
        n = prod(item.shape)
        count += 1
        lines += item.lines
        rows += prod(extent for k, extent in enumerate(item.shape) if k not in item.reduced)
        entries += n * sum(not isinstance(ref, Const) for ref in item.operands)
        if n > prod(largest) or not largest:
            largest = item.shape
    return Contractions(count, lines, rows, entries, largest)


__all__ = ["Contractions", "call_seconds", "contractions", "contracts", "line_seconds", "rates", "seconds_of", "vast"]
