"""The true residual r = b - A x of a solution, row by row, and when it is small enough to accept.

Two measures, A = I - L:

- componentwise backward error  max_i |r_i| / (|b| + |A| |x|)_i  (Oettli and Prager; Higham, Accuracy and
  Stability of Numerical Algorithms, 2nd ed., theorem 7.3).  Substitution keeps it below gamma_n, n the
  longest row (theorem 8.5), whatever the entries are.
- residual against magnitudes max_i |r_i| / min(s_i, max_k (|b| + |A| |x|)_k), (I - |L|) s = |b|: s_i adds
  up every path to row i without signs. Where terms cancel exactly, x_i is rounding left over from terms
  of size s_i, and a method that does not round as substitution does (a factorization in another order)
  leaves residuals of eps s_i there, far above x_i. A residual below tol s gives an error below tol (I -
  |L|)^-1 s; that of substitution is bounded a priori by 2 gamma_n times the same, since |x| <= s and |A|
  s <= 2 s (Higham, theorem 8.10). But s may grow to any size where x does not (1.8 times a step of a heat
  equation), and then says nothing: no residual is small that is not so beside the largest of the terms
  that it is made of, as it never is where an iteration ended early.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from ..kernels import csr
from ..system import TriangularSystem
from .passes import Passes

RTOL = 1e-12
_EPS, _TINY = np.finfo(float).eps, np.finfo(float).tiny


class Residual:
    """Residuals of one system, whose values may change in place.  All methods are collective."""

    def __init__(self, system: TriangularSystem) -> None:
        self.system = system
        self._scale = np.zeros(system.n_local)
        self._ghosts = np.zeros((2, system.n_ghosts))

    @property
    def nbytes(self) -> int:
        return self._scale.nbytes + self._ghosts.nbytes

    def __call__(self, b: np.ndarray, x: np.ndarray, r: np.ndarray, transposed: bool) -> tuple[float, float]:
        """r <- b - A x, all (n_local,); returns the componentwise backward error and max |r_i|, over all ranks."""
        system, scale = self.system, self._scale
        own, ghost = system.own, system.ghost
        r[:] = b
        np.abs(b, out=scale)
        kernel = csr.residual_transposed if transposed else csr.residual
        kernel(own.nnz, own.indptr, own.indices, own.data, x, r, scale)
        if system.comm.size > 1:
            gr, gs = self._ghosts
            if transposed:
                self._ghosts.fill(0.0)
                kernel(ghost.nnz, ghost.indptr, ghost.indices, ghost.data, x, gr, gs)
                system.halo_add(r, gr)
                system.halo_add(scale, gs)
            else:
                system.halo_update(x, gr)
                kernel(ghost.nnz, ghost.indptr, ghost.indices, ghost.data, gr, r, scale)
        return self.both(r, scale)

    def worst(self, b: np.ndarray, x: np.ndarray, transposed: bool) -> tuple[float, float]:
        """The two measures' largest over all columns of b and x, (n_local,) or (n_local, m)."""
        r, error, norm = np.empty(len(b)), 0.0, 0.0
        for column, solution in ((b, x),) if b.ndim == 1 else zip(b.T, x.T):
            one = self(np.ascontiguousarray(column), np.ascontiguousarray(solution), r, transposed)
            error, norm = max(error, one[0]), max(norm, one[1])
        return error, norm

    def against_magnitudes(self, b: np.ndarray, r: np.ndarray, transposed: bool) -> float:
        """max |r_i| / min(s_i, the largest term) over all ranks, r the residual of the last call.

        One substitution with |L|, on a copy of the values.
        """
        most = np.array([_maximum(self._scale)])
        self.system.comm.Allreduce(MPI.IN_PLACE, most, op=MPI.MAX)
        return self.both(r, np.minimum(self.paths(b, transposed), most))[0]

    def paths(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        """s, what all paths from b to each row add up to without signs: 0 where there is none, so that x is 0."""
        passes, s = Passes(self.system.without_signs()), np.abs(b)
        with np.errstate(all="ignore"):
            passes.backward(s) if transposed else passes.forward(s)
        return s

    def tolerance(self, transposed: bool) -> float:
        """RTOL, or what rounding may do to the longest row if that is more: 2 n eps."""
        return max(RTOL, 2 * _EPS * self.system.longest(transposed))

    def largest(self, r: np.ndarray, scale: np.ndarray) -> float:
        """max |r_i| / scale_i over all ranks."""
        return self.both(r, scale)[0]

    def both(self, r: np.ndarray, scale: np.ndarray) -> tuple[float, float]:
        """max |r_i| / scale_i, and max |r_i|."""
        with np.errstate(all="ignore"):
            size = np.abs(r)
            ratio = size / (scale + _TINY)  # below the normal numbers rounding is no longer relative
        mine = np.array([_maximum(ratio), _maximum(size)])
        self.system.comm.Allreduce(MPI.IN_PLACE, mine, op=MPI.MAX)
        return float(mine[0]), float(mine[1])


def _maximum(values: np.ndarray) -> float:
    """The maximum, infinity where a value is not a number, 0 of nothing (MPI's MAX says nothing about NaN)."""
    largest = float(values.max(initial=0.0))
    return largest if largest == largest else float("inf")
