"""Where the rows of an implicit statement are no part of a unit triangle: strongly connected components.

A residual row R_i(y, x) = 0 stands in the matrix as  sum_j dR_i/dy_j ydot_j + sum_j dR_i/dx_j xdot_j = 0.  Its diagonal
entry is not 1, and it may read rows below its own.  Ordered by strongly connected components, each after all that it
reads, the matrix is block lower triangular, and no finer ordering that moves rows and columns together makes it so
(Duff and Reid, An implementation of Tarjan's algorithm for the block triangularization of a matrix, ACM TOMS 4, 1978).
All other rows are components of their own with the diagonal 1, and stay where they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .kernels.components import strong_components


class Components(NamedTuple):
    """The diagonal blocks of one rank's rows that are no unit diagonal, ascending and disjoint.

    first, stop   (c,) component k has the rows first[k]:stop[k]
    at            (c + 1,) ... and the places at[k]:at[k+1] among the rows of all components
    left          (at[c],) where, in such a row, its entries within the component begin; those before are read from
                  rows above
    """

    first: np.ndarray
    stop: np.ndarray
    at: np.ndarray
    left: np.ndarray

    @classmethod
    def none(cls) -> Components:
        """Of rows without implicit statements."""
        empty = np.empty(0, dtype=np.int64)
        return cls(empty, empty, np.zeros(1, dtype=np.int64), empty)

    def __bool__(self) -> bool:
        return len(self.first) > 0

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self)


def order(residuals: np.ndarray, indptr: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(order, first, stop): rows order[0], order[1], ... are block lower triangular, with components first[k]:stop[k].

    `residuals` are the rows with a diagonal of their own, ascending, one at least; only they may read rows below
    (columns ascend).  A cycle must go up along their entries, so it lies in a window that such entries span without a
    gap, and only windows are searched.  Local; linear in the entries of the windows.
    """
    rows = np.arange(len(indptr) - 1)
    reach = np.maximum(indices[indptr[residuals + 1] - 1], residuals)  # the lowest row that each reads
    reach = np.maximum.accumulate(reach)
    begins = np.flatnonzero(np.append(True, residuals[1:] > reach[:-1]))
    windows = np.stack([residuals[begins], reach[np.append(begins[1:], len(residuals)) - 1] + 1], axis=1)
    size = windows[:, 1] - windows[:, 0]
    places = np.repeat(windows[:, 0] - np.cumsum(size) + size, size) + np.arange(size.sum())  # rows of the windows
    n = len(places)
    index, low, stack, path, edge, found, ends = np.zeros((7, n + 1), dtype=np.int64)
    index.fill(-1)
    count = strong_components(n + int((indptr[windows[:, 1]] - indptr[windows[:, 0]]).sum()), windows, indptr, indices,
                              index, low, stack, path, edge, found, ends)
    found, ends = found[:n], ends[:count + 1]
    rows[places] = found[np.lexsort((found, np.repeat(np.arange(count), np.diff(ends))))]
    own = (np.diff(ends) > 1) | np.isin(rows[places[ends[:-1]]], residuals)
    first = places[ends[:-1][own]]
    return rows, first, first + np.diff(ends)[own]


def components(first: np.ndarray, stop: np.ndarray, indptr: np.ndarray, indices: np.ndarray) -> Components:
    """The components first[k]:stop[k] of rows that are in block triangular order.  Local."""
    at = np.concatenate([[0], np.cumsum(stop - first)])
    owner = np.repeat(np.arange(len(first)), stop - first)
    rows = first[owner] + np.arange(at[-1]) - at[owner]
    length = indptr[rows + 1] - indptr[rows]
    entry = np.repeat(np.arange(at[-1]), length)
    places = np.repeat(indptr[rows], length) + np.arange(len(entry)) - np.repeat(np.cumsum(length) - length, length)
    above = indices[places] < first[owner[entry]]
    left = indptr[rows] + np.bincount(entry[above], minlength=int(at[-1]))
    return Components(first.astype(np.int64), stop.astype(np.int64), at, left.astype(np.int64))
