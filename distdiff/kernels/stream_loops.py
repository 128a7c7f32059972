"""The compiled loops of `stream` (importing this module imports Numba)."""

from __future__ import annotations

from .jit import jit


@jit(contract=True)
def scatter_add(places, values, vector):
    for i in range(len(places)):
        vector[places[i]] += values[i]


@jit(contract=True)
def scatter_add_columns(places, values, vector):
    for i in range(len(places)):
        for k in range(values.shape[1]):
            vector[places[i], k] += values[i, k]
