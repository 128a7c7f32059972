"""Sums over index arrays: np.add.at, and np.bincount with weights.

Terms that go to the same place are gathered side by side, places with equally many terms together, and summed by one
statement for each number of terms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import TracedArray, is_traced, shape_of
from .indexing import plain_index
from .ufuncs import recorder_of


def segment_sums(terms: TracedArray, places: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, Any]]]:
    """Sums of the terms (one axis) that share a place: the distinct places, and groups (which of them, their sums)."""
    order = np.argsort(places, kind="stable")
    targets, starts, counts = np.unique(places[order], return_index=True, return_counts=True)
    groups = []
    for m in np.unique(counts):
        which = np.flatnonzero(counts == m)
        gathered = terms[order[starts[which][:, None] + np.arange(m)]]
        groups.append((which, gathered[:, 0] if m == 1 else np.sum(gathered, axis=1)))
    return targets, groups


def add_at(target: TracedArray, index: Any, terms: Any, sign: float = 1.0) -> None:
    """target[index] += terms, where an element that is named several times takes all of its terms."""
    rec = target.rec
    index = plain_index(rec, index)
    numbers = np.arange(target.size).reshape(target.shape)[index]
    terms = rec.array_of(np.broadcast_to(rec.array_of(terms), shape_of(numbers)))
    targets, groups = segment_sums(np.reshape(terms, -1), np.reshape(numbers, -1))
    for which, sums in groups:
        at = np.unravel_index(targets[which], target.shape)
        target[at] = target[at] + sums if sign > 0 else target[at] - sums


def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    rec = recorder_of((x, weights))
    if is_traced(x):
        rec.unsupported("numpy.bincount of traced values", "it counts whole numbers: use x.astype(int)")
    x = np.asarray(x)
    if x.min(initial=0) < 0:
        raise ValueError("'list' argument must have no negative elements")
    result = rec.array_of(np.zeros(max(int(x.max(initial=-1)) + 1, minlength)))
    if x.size:
        add_at(result, x, weights)
    return result


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {np.bincount: bincount}
