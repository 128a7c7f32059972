"""What a plain call of a user's function tells beside its values: what it wrote into, whose memory its results lie in,
and of what kind they are.

The trace calls it with copies, so that a plain run and a traced one differ where the caller would see a write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ..tracing.array import TracedArray
from ..tracing.layout import laid
from ..tracing.recorder import Recorder
from ..tracing.tree import layout

TRIES = 10_000  # of np.shares_memory, before two arrays count as one


def require_unwritten(rec: Recorder, name: str, given: Sequence[Any], before: Sequence[Any]) -> None:
    """Refuse a function that wrote into arrays that it was given: `before` are their values until then."""
    for copy, x in zip(given, before):
        if isinstance(copy, np.ndarray) and copy.ndim and not np.array_equal(copy, x, equal_nan=copy.dtype.kind == "f"):
            rec.unsupported(f"{name}, which writes into an array that it is given,", "its rule says nothing of what is "
                            "there afterwards; have it write into a copy, x = np.array(x)")


def sealed(rec: Recorder, name: str, results: Sequence[Any], given: Sequence[Any], operands: Sequence[Any],
           traced: Sequence[Any]) -> None:
    """Have writes refused into arrays that a function was given or returned and that share memory: a write into one
    would change the other, of which its rule says nothing.

    results, traced: what it returned, and what that is on the tape; given, operands: the same of its arguments.
    """
    arrays = [(y, own) for y, own in (*zip(results, traced), *zip(given, operands))
              if isinstance(y, np.ndarray) and y.ndim and y.size]
    returned = set(map(id, results))
    spans = sorted((*_span(y), k) for k, (y, _) in enumerate(arrays))
    for n, (_, end, k) in enumerate(spans):
        for start, _, m in spans[n + 1 :]:
            if start >= end:
                break
            (y, own), (z, other) = arrays[k], arrays[m]
            if (id(y) in returned or id(z) in returned) and _share(y, z):
                for x in (own, other):
                    if type(x) is TracedArray:
                        rec.sealed = WeakKeyDictionary() if rec.sealed is None else rec.sealed
                        rec.sealed[x.st] = (
                            f"a write into an array that {name} was given or returned", "what it returned lies in the "
                            "memory of its argument, or of another of its results, so both would change, and its rule "
                            "says nothing of that; have it return a copy, np.array(x)")


def _span(y: np.ndarray) -> tuple[int, int]:
    """Where in memory an array begins and ends."""
    first = y.__array_interface__["data"][0]
    steps = [(n - 1) * s for n, s in zip(y.shape, y.strides)]
    return first + sum(s for s in steps if s < 0), first + sum(s for s in steps if s > 0) + y.itemsize


def order_of(x: Any) -> tuple[int, ...]:
    """The axes of an array from the slowest in memory to the fastest; () where that is their own order."""
    axes = layout(x)
    return (*(k for k in range(np.ndim(x)) if k not in axes), *axes) if axes else ()


def in_order(x: Any, order: tuple[int, ...]) -> Any:
    """An array, traced or not, whose axes lie in memory in this order."""
    if not order or isinstance(x, np.ndarray) and order_of(x) == order:
        return x
    return x.transpose(order).copy("C").transpose(np.argsort(order))


def _share(y: np.ndarray, z: np.ndarray) -> bool:
    try:
        return bool(np.shares_memory(y, z, TRIES))
    except getattr(np, "exceptions", np).TooHardError:  # where it is depends on NumPy's version
        return True


def of_kind(rec: Recorder, name: str, result: Any, traced: Any) -> Any:
    """A result on the tape, as the function returned it: its axes in that order in memory, and of its kind; what is
    whole or true decides, and is plain."""
    dtype = np.asarray(result).dtype
    rec.float64(dtype, f"the result of {name}")
    if type(traced) is TracedArray and isinstance(result, np.ndarray):
        traced = laid(traced, result)
    if dtype.kind not in "iub":
        return traced
    if np.ndim(result):
        return traced.astype(dtype)
    kind = dtype.type if isinstance(result, np.ndarray) else type(result)
    return kind(bool(traced) if dtype.kind == "b" else int(traced))


__all__ = ["in_order", "of_kind", "order_of", "require_unwritten", "sealed"]
