"""Substitution in supersteps on numbers with exponents of their own: exact to rounding where nothing else is.

For systems whose solutions leave the range of double precision on their way, from any seed (`ranges`).  Entries are
those of the matrix, within range; every row is a line, since elimination would multiply some of them.  It takes many
times as long as substitution on doubles, for two numbers and a few comparisons each.
"""

from __future__ import annotations

import numpy as np

from ..flags import quiet
from ..kernels import exponents as kernels
from ..system import TriangularSystem

DIGIT = 512  # bits of an exponent's unit


class Exponents:
    """`tangent` and `adjoint` with a system of all lines, triangular.  Collective."""

    def __init__(self, system: TriangularSystem) -> None:
        system.require_triangular()
        self.system = system

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        """ydot at this rank's outputs (n_out_local[, m]), xdot at its inputs (n_in_local[, m]).  Collective."""
        return self._solve(xdot, False)

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        """lam at this rank's inputs (n_in_local[, m]), ybar at its outputs (n_out_local[, m]).  Collective."""
        return self._solve(ybar, True)

    def _solve(self, seed: np.ndarray, transposed: bool) -> np.ndarray:
        system, tail = self.system, seed.shape[1:]
        begin, end = (system.outputs, system.inputs) if transposed else (system.inputs, system.outputs)
        given = seed if tail else seed[:, None]
        m, e, gm, ge = (np.zeros((n, given.shape[1])) for n in (system.n_local, system.n_local, system.n_ghosts,
                                                               system.n_ghosts))
        with quiet():
            kernels.add(given.size, begin.ids, *_split(given), m, e)  # one node may be an output twice
            (self._backward if transposed else self._forward)(m, e, gm, ge)
            found = _joined(m[end.ids], e[end.ids])
        return found if tail else found[:, 0]

    def _forward(self, *y: np.ndarray) -> None:
        m, e, gm, ge = y
        for s, halo in enumerate(self.system.halos):
            self._rows(kernels.forward, s, *y)
            halo.forward(m, gm)
            halo.forward(e, ge)

    def _backward(self, *lam: np.ndarray) -> None:
        m, e, gm, ge = lam
        for s, halo in reversed(list(enumerate(self.system.halos))):
            for (ids, more), (_, exponents) in zip(halo.gathered(gm), halo.gathered(ge)):
                kernels.add(more.size, ids, more, exponents, m, e)
            self._rows(kernels.backward, s, *lam)

    def _rows(self, kernel: kernels.Kernel, s: int, m: np.ndarray, e: np.ndarray, gm: np.ndarray,
              ge: np.ndarray) -> None:
        own, ghost, ends = self.system.own, self.system.ghost, self.system.ends
        work = 4 * (own.nnz + ghost.nnz) * m.shape[1] // len(self.system.halos)
        kernel(work, int(ends[s]), int(ends[s + 1]), own.indptr, own.indices, own.data, ghost.indptr, ghost.indices,
               ghost.data, gm, ge, m, e)


def _split(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(m, e) of numbers."""
    m, bits = np.frexp(x)
    e = np.rint(bits / DIGIT)
    return np.ldexp(m, bits - (DIGIT * e).astype(bits.dtype)), np.where(x == 0.0, 0.0, e)


def _joined(m: np.ndarray, e: np.ndarray) -> np.ndarray:
    """The numbers of (m, e): infinite, or rounded to nothing, where they are out of range after all."""
    return np.asarray(np.ldexp(m, (DIGIT * np.clip(e, -8.0, 8.0)).astype(np.int32)))


__all__ = ["Exponents"]
