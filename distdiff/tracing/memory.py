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
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

_empty = np.empty  # NumPy's own, whatever is substituted meanwhile

GAP = 8  # elements between neighbours: where one array ends at another's first byte, NumPy's vectorized loops take
# them to overlap and go element by element, twenty times slower for tanh
LARGE = 1 << 14  # elements: from 128 KiB on malloc itself maps fresh pages
HUGE = 1 << 19  # from 4 MiB on huge pages are asked for, as NumPy does
_PHYSICAL = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
LIMIT = min(1 << 30, _PHYSICAL // 8)  # bytes that may lie in the pool

MOST_NODES = 1 << 31  # of scalar code, whose operands are numbers of 32 bits

COLLECT_AFTER = 100_000  # new objects

_pool: dict[int, list[mmap.mmap]] = {}  # by number of elements
_rooms: list[tuple[mmap.mmap, int]] = []  # and how many elements of them have pages
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
        if _makes_way(size):
            _pool.setdefault(size // 8 - GAP, []).append(memory)


def _makes_way(size: int) -> bool:
    """Whether so many bytes more may lie in the pool, which is emptied where it has too much else."""
    global _pooled
    if _pooled + size > LIMIT:
        _empty_pool()
    if size <= LIMIT:
        _pooled += size
    return size <= LIMIT


def _empty_pool() -> None:
    global _pooled
    _pool.clear()
    _rooms.clear()
    _pooled = 0


def give_back(pool: bool = False) -> None:
    """What is free on the heap goes back to the system, where the C library would keep it (glibc does); and, if asked
    for, what lies in the pool."""
    if pool:
        _empty_pool()
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
        memory = _mapped(8 * (size + GAP))
        if size >= HUGE:
            _ask_for_huge_pages(memory)
    lease = np.ndarray.__new__(_Lease, (size,), np.float64, memory)
    lease.memory = memory
    return lease.view(np.ndarray)


def _mapped(size: int) -> mmap.mmap:
    """Fresh pages: no ndarray, NumPy would look through one, past the lease.

    Private ones: what a process has in its pool a child that it forks has in its own, and both would write there.
    """
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _ask_for_huge_pages(memory: mmap.mmap, start: int = 0) -> None:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE, start)


class Room(np.ndarray):
    """Addresses for a vector that nobody knows the length of: as many as there may ever be numbers; pages come where
    it is written.  It goes back to the pool with the last array that looks into it.

    written : elements up to which there may be pages
    """

    memory: Any = None
    written = 0

    def __array_finalize__(self, parent: Any) -> None:
        self.memory = None  # views of a room are no rooms

    def __del__(self) -> None:
        if self.memory is not None and _pool is not None and _makes_way(8 * self.written):
            _rooms.append((self.memory, self.written))

    @classmethod
    def make(cls) -> Room | None:
        """One of the pool's, or a new one; None where addresses are counted as if they were memory."""
        global _pooled
        if _rooms:
            memory, written = _rooms.pop()
            _pooled -= 8 * written
        elif _addresses_are_free():
            memory, written = _mapped(min(_PHYSICAL // 2, MOST_NODES * 8)), 0
            _ask_for_huge_pages(memory, 8 * HUGE)
        else:
            return None
        room = np.ndarray.__new__(cls, (len(memory) // 8,), np.float64, memory)
        room.memory, room.written = memory, written
        return room

    @classmethod
    def around(cls, part: np.ndarray) -> Room | None:
        """The room that an array looks into; None: it lies elsewhere."""
        base: Any = part
        while type(base) is np.ndarray:
            base = base.base
        return base if type(base) is cls and base.memory is not None else None

    def part(self, start: int, stop: int) -> np.ndarray:
        """Elements start, ..., stop - 1, to be written."""
        self.written = max(self.written, stop)
        return self.view(np.ndarray)[start:stop]

    def vector(self, n: int) -> np.ndarray:
        """The first n elements, which are all that counts from now on: pages after them go."""
        end = -(-8 * n // mmap.PAGESIZE) * mmap.PAGESIZE
        if self.written > n + HUGE and hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED, end)
            self.written = n
        return self.part(0, n)


def _addresses_are_free() -> bool:
    """Whether a process may have more addresses than it has memory: no limit counts them, and Linux doesn't (2)."""
    limits = [getattr(resource, name) for name in ("RLIMIT_AS", "RLIMIT_DATA") if hasattr(resource, name)]
    if any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits):
        return False
    try:
        return Path("/proc/sys/vm/overcommit_memory").read_text(encoding="ascii").strip() != "2"
    except OSError:
        return True
