"""Memory that answers take on rank 0, predicted before they are computed, and given back after.

A dense result of b bytes is held with its copies until it has been sent: in the order asked for, which is sent as it
lies there, or as the body that another form is.  Each right-hand side of a batch has a column of all lines and one of
its numbers.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

from . import wire

COPIES = {wire.NPY: 2, wire.NPZ: 5, wire.JSON: 16}  # of a result, itself included; JSON's numbers are objects and text
SMALL = 1 << 16  # bytes of a request that is not worth looking for room
LARGE = 1 << 22  # bytes of a result after which memory is given back
AFTER = 0.5  # seconds after it has been sent, if no other was


def needed(result: int, form: str = wire.NPY) -> int:
    """Bytes that a result of so many takes until it has been answered in that form."""
    return COPIES.get(form, COPIES[wire.NPY]) * result


def column(lines: int, ranks: int, numbers: int) -> int:
    """Bytes that a right-hand side takes in a batch: its part of the lines, and its numbers in and out."""
    return 8 * (-(-lines // ranks) + numbers)


def give_back() -> None:
    """What has been freed goes back to the system: arrays of some MB, which the allocator keeps else.  C libraries
    other than glibc have no such call."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


__all__ = ["AFTER", "LARGE", "SMALL", "column", "give_back", "needed"]
