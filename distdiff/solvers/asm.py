"""The local solve of PETSc's additive Schwarz method: exact substitution on a rank's overlapping rows.

PETSc hands each rank the rows of its domain, its own and those that they reach within the overlap, numbered by rank;
they are triangular in some other order, which is found once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels import substitution as kernels
from ..kernels.products import order_rows
from ..kernels.stretches import stretches
from .passes import unsigned


class InOrder:
    """Context of a Python preconditioner for a sequential matrix that is unit triangular up to its numbering."""

    def setUp(self, pc: Any) -> None:
        indptr, indices, data = pc.getOperators()[1].getValuesCSR()
        n = len(indptr) - 1
        self._order = np.full(n, -1, dtype=np.int64)
        order_rows(len(indices), indptr, indices, self._order, np.zeros(n, np.int8), np.zeros(n, np.int64))
        place = np.empty(n, dtype=np.int64)
        place[self._order] = np.arange(n)
        row, column = np.repeat(place, np.diff(indptr)), place[indices]
        sort = np.lexsort((column, row))
        indices, data = column[sort].astype(indices.dtype), data[sort]
        indptr = np.concatenate([[0], np.cumsum(np.diff(indptr)[self._order])]).astype(indptr.dtype)
        found = stretches(np.array([0, n]), indptr, indices)
        self._arguments = (len(data), 0, len(found.table), found.table, found.offsets, unsigned(indptr),
                           unsigned(indices), data)

    def apply(self, pc: Any, b: Any, x: Any) -> None:
        self._sweep(kernels.forward, b, x)

    def applyTranspose(self, pc: Any, b: Any, x: Any) -> None:
        self._sweep(kernels.backward, b, x)

    def _sweep(self, sweep: Any, b: Any, x: Any) -> None:
        y = b.getArray(readonly=True)[self._order]
        sweep(*self._arguments, y)
        with x as array:
            array[self._order] = y
