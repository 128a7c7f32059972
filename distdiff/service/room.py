"""Memory that answers take on rank 0, predicted before they are computed.

A dense result of b bytes is held with its copies while it is answered: in the order asked for, as a body, and as what
the connection has not sent yet.  Each right-hand side of a batch has a column of all lines and one of its numbers.
"""

from __future__ import annotations

from . import wire

COPIES = {wire.NPY: 4, wire.NPZ: 6, wire.JSON: 16}  # of a result, itself included; JSON's numbers are objects and text
SMALL = 1 << 16  # bytes of a request that is not worth looking for room


def needed(result: int, form: str = wire.NPY) -> int:
    """Bytes that a result of so many takes until it has been answered in that form."""
    return COPIES.get(form, COPIES[wire.NPY]) * result


def column(lines: int, ranks: int, numbers: int) -> int:
    """Bytes that a right-hand side takes in a batch: its part of the lines, and its numbers in and out."""
    return 8 * (-(-lines // ranks) + numbers)


__all__ = ["SMALL", "column", "needed"]
