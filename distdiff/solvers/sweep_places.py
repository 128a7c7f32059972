"""Where vectors lie: one workspace, in which each has room from the operation that makes it to the last that names it.

What is freed is taken again at once, so the working set is the live width of the program and stays in cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..liveness import Pool, lengths
from .sweep_ops import Repeat, names

NEAR = (8, 1)  # parts of a size by which those of one slot differ at most
FEW = 4  # of the largest vector, in which all find room: no other slots are tried


def placed(operations: list[Any], sizes: list[int], partials: list[int], lasting: set[int],
           keep_partials: bool) -> tuple[np.ndarray, int, np.ndarray, int]:
    """(where each vector begins, rows in all; the same of computed partials).

    sizes, partials: elements of vectors and partials, by number; lasting: vectors that are read after all operations;
    keep_partials: no two partials share memory.
    """
    named = list(_named(operations))
    offsets, rows = _room([v for v, _ in named], sizes, lasting)
    kept = set(range(len(partials))) if keep_partials else set()
    stored, size = _room([p for _, p in named], partials, kept)
    return offsets, rows, stored, size


def _named(operations: list[Any]) -> Iterator[tuple[set[int], set[int]]]:
    """What each operation names, loops unrolled."""
    bodies: dict[int, list[tuple[set[int], set[int]]]] = {}
    for op in operations:
        if type(op) is not Repeat:
            yield names(op)
            continue
        body = bodies.setdefault(id(op.operations), [])
        if not body:
            body += [names(single) for single in op.operations]
        for time in op.times:
            vectors, partials = dict(zip(op.vectors, time.vectors)), dict(zip(op.partials, time.partials))
            for v, p in body:
                yield {vectors[n] for n in v}, {partials[n] for n in p}


def _room(named: list[set[int]], sizes: list[int], lasting: set[int]) -> tuple[np.ndarray, int]:
    """Where each vector begins, and rows in all: by slots for sizes that are nearly alike, or half alike if that needs
    less, as where halos of many rows are deep."""
    last: dict[int, int] = {}
    for k, numbers in enumerate(named):
        for n in numbers:
            last[n] = k
    best, found = -1, np.zeros(len(sizes), dtype=np.int64)
    for parts in NEAR:
        room = lengths(sizes, parts)
        pool, offsets, made = Pool(), np.zeros(len(sizes), dtype=np.int64), set()
        for k, numbers in enumerate(named):
            for n in sorted(numbers):
                if n not in made:
                    made.add(n)
                    offsets[n] = pool.take(room[n])
            for n in sorted(numbers):
                if last[n] == k and n not in lasting:
                    pool.give(int(offsets[n]), room[n])
        if best < 0 or pool.size < best:
            best, found = pool.size, offsets
        if pool.size <= FEW * max(room, default=0):
            break
    return found, best
