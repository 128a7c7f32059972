"""Stationary iteration  x <- M^-1 (b + N x),  I - L = M - N,  that ends exactly after finitely many steps.

M is the identity (Jacobi-Richardson: the Neumann series), or the block diagonal of I - L over the ranks.  M^-1 N is
nilpotent, however large the entries of L are: with M = I every factor is an edge, and no path has more than depth(L);
with blocks every factor crosses from one rank to another, and no path does that more than k* - 1 times.  So the
iteration is exact after depth(L), or k*, steps from *any* start.

Steps compute x anew from b and N x; they do not add a correction to x.  That ends after as many steps in floating
point too, bit for bit: rows that depend on b alone are final after one step, rows that read those after two, and every
step does the same arithmetic.  What is left is a substitution, with its small componentwise residual, even where terms
cancel to mere rounding.  Corrections would round anew in every step, and at such rows never settle.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from ..cancellation import watch_of
from ..kernels import ghosts as ghost_kernels
from ..kernels import products
from ..system import TriangularSystem
from .passes import Passes, unsigned

# By direction, and by the number of dimensions of the solution: the product with own rows, with ghost columns.
_OWN = {False: {1: products.subtract, 2: products.subtract_columns},
        True: {1: products.subtract_transposed, 2: products.subtract_transposed_columns}}
_GHOST = {False: {1: ghost_kernels.forward, 2: ghost_kernels.forward_columns},
          True: {1: ghost_kernels.backward, 2: ghost_kernels.backward_columns}}


class Iteration:
    """The iteration on one system: with M the ranks' diagonal blocks, given their `Passes`, else with M = I."""

    def __init__(self, system: TriangularSystem, blocks: Passes | None = None) -> None:
        self.system, self._blocks = system, blocks
        own, ghost = system.own, system.ghost
        self._own = (unsigned(own.indptr), unsigned(own.indices), own.data)
        self._ghost = (unsigned(ghost.indptr), unsigned(ghost.indices), ghost.data)
        self._ghosts = np.empty((system.n_ghosts, 0))

    def step(self, b: np.ndarray, x: np.ndarray, new: np.ndarray, transposed: bool) -> None:
        """new <- M^-1 (b + N x), or M^-T (b + N^T x); all three (n_local,) or (n_local, m).  Collective."""
        system, rows = self.system, self.system.ghost_rows
        new[...] = b
        if self._blocks is None:
            _OWN[transposed][x.ndim](system.own.nnz, *self._own, x, new)
        if system.comm.size > 1:
            if self._ghosts.shape[1:] != x.shape[1:]:
                self._ghosts = np.zeros((system.n_ghosts, *x.shape[1:]))
            arrays = (rows, *self._ghost, self._ghosts)
            if transposed:
                self._ghosts.fill(0.0)
                _GHOST[True][x.ndim](system.ghost.nnz, *arrays, x)
                system.halo_add(new, self._ghosts)
            else:
                system.halo_update(x, self._ghosts)
                _GHOST[False][x.ndim](system.ghost.nnz, *arrays, new)
        if self._blocks is not None:
            (self._blocks.backward if transposed else self._blocks.forward)(new)

    def run(self, b: np.ndarray, x: np.ndarray, new: np.ndarray, transposed: bool, most: int) -> tuple[np.ndarray, int]:
        """Steps from x, until one changes no bit or `most` are done.  Collective.

        `new` is work space.  Returns the last iterate, which lies in x or in `new`, and the number of steps.
        """
        watch = watch_of(self.system.comm)
        for steps in range(1, most + 1):
            if watch is not None:
                watch.look()
            self.step(b, x, new, transposed)
            x, new = new, x
            if steps < most and self._equal(x, new):
                return x, steps
        return x, most

    def _equal(self, a: np.ndarray, b: np.ndarray) -> bool:
        same = np.array_equal(a.view(np.int64), b.view(np.int64))  # as bits: NaN, too, has to stop the iteration
        return bool(self.system.comm.allreduce(same, op=MPI.LAND)) if self.system.comm.size > 1 else same

    @property
    def nbytes(self) -> int:
        return self._ghosts.nbytes
