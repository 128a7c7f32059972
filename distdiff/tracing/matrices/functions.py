"""Functions of matrices: exp, log, square root and others that are given by a power series.

    f [ A  E ]  =  [ f(A)  L(A, E) ]          ydot = L(A, Adot),   Abar = L(A^T, Ybar)
      [ 0  A ]     [  0     f(A)   ]

with L the Frechet derivative (Mathias, 1996), so that the derivative is a value of f itself, and so are those of every
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UnsupportedOperationError
from ...ops import Shaped
from ..array import is_traced
from ..joint import applied
from .shared import transpose

NAMES = ("expm", "logm", "sqrtm", "cosm", "sinm", "tanm", "coshm", "sinhm", "tanhm")


@dataclass(frozen=True)
class MatrixFunction(Shaped):
    """f(A) of a matrix (n, n), by SciPy's function of that name.

    UnsupportedOperationError where the result is complex (a logarithm or a square root off the principal branch).
    """

    function: str
    n: int
    signature = "(n,n)->(n,n)"
    reads = frozenset((0,))

    def __post_init__(self) -> None:
        if self.function not in NAMES:
            raise ValueError(f"no function of matrices: {self.function!r}")

    @property
    def name(self) -> str:
        return self.function

    @property
    def lines(self) -> int:
        return 25 * self.n**3

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        import scipy.linalg

        function = getattr(scipy.linalg, self.function)
        if x[0].ndim == 2:
            return (self._real(function(x[0])),)
        flat = x[0].reshape(-1, self.n, self.n)
        return (np.array([self._real(function(a)) for a in flat]).reshape(x[0].shape),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return (self._derivative(x[0], xdot[0]),)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return (self._derivative(transpose(x[0]), ybar[0]),)

    def _derivative(self, a: Any, change: Any) -> Any:
        n = self.n
        a, change = np.broadcast_arrays(a, change)
        if self.function == "expm" and not is_traced(a) and not is_traced(change):
            return _frechet(a, change)
        upper = np.concatenate([a, change], axis=-1)
        lower = np.concatenate([np.zeros(a.shape), a], axis=-1)
        block = np.concatenate([upper, lower], axis=-2)
        return applied(MatrixFunction(self.function, 2 * n), block)[0][..., :n, n:]

    def _real(self, y: np.ndarray) -> np.ndarray:
        if np.iscomplexobj(y):
            if np.any(np.abs(y.imag) > 1e-13 * np.max(np.abs(y))):
                raise UnsupportedOperationError(
                    f"{self.function} of a real matrix of order {self.n} is complex here, and traced values are real: "
                    "it has a real principal value where no eigenvalue is zero or negative")
            y = y.real
        return y


def _frechet(a: np.ndarray, change: np.ndarray) -> np.ndarray:
    """L(A, E) of the exponential, by the algorithm of Al-Mohy and Higham (2009), at half the cost of a block's."""
    from scipy.linalg import expm_frechet

    found = np.empty(a.shape)
    for k in np.ndindex(a.shape[:-2]):
        found[k] = expm_frechet(a[k], change[k], compute_expm=False, check_finite=False)
    return found


__all__ = ["NAMES", "MatrixFunction"]
