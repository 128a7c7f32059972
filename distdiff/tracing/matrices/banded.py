"""A x = b of band matrices, which are kept as LAPACK keeps them: A_ij at ab[above + i - j, j].

    xdot = A^-1 (bdot - Adot x)       lam = A^-T xbar,  bbar = lam,  Abar = -lam x^T within the band
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...ops import Shaped
from ..joint import applied
from . import kernels


@dataclass(frozen=True)
class Banded(Shaped):
    """A x = b, or A^T x = b, for m right-hand sides: operands are ab (below + above + 1, n) and b (n, m).

    Elements of ab outside the matrix are not read.  LinAlgError where A is singular.
    """

    n: int
    m: int
    below: int
    above: int
    transposed: bool = False
    name = "banded solve"
    signature = "(below+above+1,n),(n,m)->(n,m)"
    reads = frozenset((-1, 0))

    @property
    def lines(self) -> int:
        return 4 * (self.below + self.above + 1) * self.n * self.m

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        from scipy.linalg import solve_banded

        ab, b, undo = kernels.lanes(*x)
        diagonals = self.below, self.above
        if self.transposed:
            ab = np.stack([_from(ab[:, r], self.above - r, -1) for r in range(ab.shape[1])][::-1], axis=1)
            diagonals = self.above, self.below
        solved = [solve_banded(diagonals, band, right, check_finite=False) for band, right in zip(ab, b)]
        return (undo(np.array(solved)),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        right = xdot[1]
        if xdot[0] is not None:
            for r, d in self._diagonals():
                row = xdot[0][..., r, :, None]  # A_(j+d, j)
                change = row * _from(y[0], d, -2) if self.transposed else _from(row * y[0], -d, -2)
                right = -change if right is None else right - change
        return applied(self, x[0], right)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        lam = applied(replace(self, transposed=not self.transposed), x[0], ybar[0])[0]
        if not wanted[0]:
            return None, lam
        left, right = (y[0], lam) if self.transposed else (lam, y[0])
        rows = [np.sum(-_from(left, d, -2) * right, axis=-1) for _, d in self._diagonals()]
        return np.stack(rows, axis=-2), lam

    def _diagonals(self) -> list[tuple[int, int]]:
        """The rows of ab, and how far below the diagonal each is."""
        return [(r, r - self.above) for r in range(self.below + self.above + 1)]


def _from(x: Any, d: int, axis: int) -> Any:
    """x with element j + d at j along an axis, 0 where there is none."""
    n = x.shape[axis]
    if d == 0:
        return x
    kept = [slice(None)] * x.ndim
    kept[axis] = slice(max(d, 0), max(n + min(d, 0), 0))
    shape = list(x.shape)
    shape[axis] = min(abs(d), n)
    parts = [x[tuple(kept)], np.zeros(shape)]
    return np.concatenate(parts if d > 0 else parts[::-1], axis=axis)


__all__ = ["Banded"]
