"""A X + X B = Q.

    Xdot solves it for Qdot - Adot X - X Bdot        Lam solves A^T Lam + Lam B^T = Xbar:
                                                     Qbar = Lam,  Abar = -Lam X^T,  Bbar = -X^T Lam
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ops import Shaped
from ..joint import applied
from .shared import times, transpose


@dataclass(frozen=True)
class Sylvester(Shaped):
    """X (m, n) of A (m, m), B (n, n) and Q (m, n), by SciPy.  LinAlgError where A and -B share an eigenvalue."""

    m: int
    n: int
    name = "solve_sylvester"
    signature = "(m,m),(n,n),(m,n)->(m,n)"
    reads = frozenset((-1, 0, 1))

    @property
    def lines(self) -> int:
        return 20 * (self.m**3 + self.n**3)

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        from scipy.linalg import solve_sylvester

        loop = np.broadcast_shapes(*(part.shape[:-2] for part in x))
        a, b, q = (np.broadcast_to(part, loop + part.shape[-2:]) for part in x)
        out = np.empty((*loop, self.m, self.n))
        for k in np.ndindex(*loop):
            out[k] = solve_sylvester(a[k], b[k], q[k])
        return (out,)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        right = xdot[2]
        for change in (None if xdot[0] is None else times(xdot[0], y[0]),
                       None if xdot[1] is None else times(y[0], xdot[1])):
            if change is not None:
                right = -change if right is None else right - change
        return applied(self, x[0], x[1], right)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        lam = applied(self, transpose(x[0]), transpose(x[1]), ybar[0])[0]
        return -times(lam, transpose(y[0])), -times(transpose(y[0]), lam), lam


__all__ = ["Sylvester"]
