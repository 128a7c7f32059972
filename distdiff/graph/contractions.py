"""Sums of products (dot, matmul, einsum, tensordot) on a tape: what they stand for, and what their rows would hold."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ..machine import Machine
from ..ops import MULTIPLY
from ..tape import Const, Item, Statement, Tape


def line_seconds(item: Item, machine: Machine) -> float:
    """What a line of a vector statement takes in an evaluation and a solve."""
    return machine.product_line if contracts(item) else machine.line


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


__all__ = ["Contractions", "contractions", "contracts", "line_seconds"]
