"""Memory for large results, used again by later ones.

The first write to fresh memory costs more than the arithmetic (the kernel maps and clears every page), and a loop
that takes a gradient at every turn would pay it at every turn.  So large buffers go back to a pool when the last
array that looks into them is gone.  Python's own objects are let be while there is no garbage among them.
"""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_empty = np.empty  # NumPy's own, whatever is substituted meanwhile

GAP = 8  # elements between neighbours: where one array ends at another's first byte, NumPy's vectorized loops take
# them to overlap and go element by element, twenty times slower for tanh
LARGE = 1 << 14  # elements: from 128 KiB on malloc itself maps fresh pages
HUGE = 1 << 19  # from 4 MiB on huge pages are asked for, as NumPy does
_PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
LIMIT = min(1 << 30, _PHYSICAL // 8)  # bytes that may lie in the pool

COLLECT_AFTER = 100_000  # new objects

_pool: dict[int, list[mmap.mmap]] = {}  # by number of elements
_pooled = 0  # bytes


@contextmanager
def rare_collections() -> Iterator[None]:
    """Python's garbage collector looks less often: a trace makes objects by the thousand, all of which stay.

    Every 700 new objects it would look at the new ones, and every time their number has grown by a quarter at all
    objects of the process, which takes tens of milliseconds once large libraries are loaded.
    """
    thresholds = gc.get_threshold()
    if thresholds[0]:  # 0: the user has turned it off
        gc.set_threshold(max(thresholds[0], COLLECT_AFTER), *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


class _Lease(np.ndarray):
    """The array that stands between a buffer and all views of it: it dies with the last of them."""

    memory: Any = None

    def __array_finalize__(self, parent: Any) -> None:
        self.memory = None  # views of a lease are no leases

    def __del__(self) -> None:
        global _pooled
        memory = self.memory
        if memory is None or _pool is None:  # (at the end of the interpreter)
            return
        size = len(memory)
        if _pooled + size > LIMIT:
            _pool.clear()
            _pooled = 0
        if size <= LIMIT:
            _pool.setdefault(size // 8 - GAP, []).append(memory)
            _pooled += size


def give_back(pool: bool = False) -> None:
    """What is free on the heap goes back to the system, where the C library would keep it (glibc does); and, if asked
    for, what lies in the pool."""
    global _pooled
    if pool:
        _pool.clear()
        _pooled = 0
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def apart(size: int) -> int:
    """Elements that an array takes in a row of arrays, so that large ones don't touch the next."""
    return size if size < 4 * GAP else -(-size // GAP) * GAP + GAP


def empty(size: int) -> np.ndarray:
    """An uninitialized float64 array of shape (size,)."""
    global _pooled
    if size < LARGE:
        return _empty(size)
    try:
        memory = _pool[size].pop()
        _pooled -= len(memory)
    except (KeyError, IndexError):
        memory = mmap.mmap(-1, 8 * (size + GAP))  # no ndarray: NumPy would look through one, past the lease
        if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
    lease = np.ndarray.__new__(_Lease, (size,), np.float64, memory)
    lease.memory = memory
    return lease.view(np.ndarray)
