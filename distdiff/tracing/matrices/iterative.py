"""A x = b by SciPy's Krylov methods: cg, gmres and their kin.

What they compute is the solution of an equation, to a tolerance: its derivative is the equation's, at the x that was
found, and not that of the steps, which depend on the residual.  It is computed through a sparse factor of A, so that it
is as exact as x is, whatever the tolerance.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ConvergenceError
from ...ops import Shaped
from .sparse import SparseSystem, require_places

METHODS = ("cg", "cgs", "bicg", "bicgstab", "gmres", "lgmres", "minres", "qmr", "gcrotmk", "tfqmr")
_NO_SETTINGS = ("A", "b", "x0", "M", "M1", "M2", "callback", "outer_v", "CU")  # of their parameters
_REAL = ("tol", "rtol", "shift")
_TEXTS = (("atol", "legacy"), *(("callback_type", how) for how in ("x", "pr_norm", "legacy")))


@dataclass(frozen=True, eq=False)
class Held:
    """A preconditioner: something of the user's, as it is."""

    what: Any


@dataclass(frozen=True)
class Iterative(Shaped):
    """x of A x = b, (n, 1) each: operands are A in CSC (data, row numbers, where columns begin), b, and where the
    iteration starts.

    settings: (name, value) of the method's options; held: its preconditioner, which no file can hold.
    ConvergenceError where the method ends without a solution.
    """

    n: int
    entries_of_a: int
    method: str
    settings: tuple[Any, ...] = ()
    held: Held | None = None
    signature = "(entries_of_a),(entries_of_a),(n+1),(n,1),(n,1)->(n,1)"
    inert = frozenset((1, 2, 4))
    reads = frozenset((-1, 0, 1, 2))

    def __post_init__(self) -> None:
        if self.method not in METHODS or not isinstance(self.held, Held | None) or not all(
                isinstance(name, str) and name.isidentifier() for name, _ in self.settings):
            raise ValueError(f"no method {self.method!r}, or with other options than it has")

    def require_sound(self) -> None:
        import scipy.sparse.linalg

        known = inspect.signature(getattr(scipy.sparse.linalg, self.method)).parameters
        for name, value in self.settings:
            kinds = (int, float) if name in _REAL else (bool, int, type(None), *((float,) if name == "atol" else ()))
            fits = type(value) in kinds or (name, value) in _TEXTS
            if name not in known or name in _NO_SETTINGS or not fits:
                raise ValueError(f"{self.name} has no option {name}={value!r} here")

    @property
    def name(self) -> str:
        return f"scipy.sparse.linalg.{self.method}"

    @property
    def lines(self) -> int:
        return 40 * self.entries_of_a

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        from scipy.sparse import csc_matrix

        indices, indptr = (part[(0,) * (part.ndim - 1)] for part in x[1:3])
        require_places(indices, indptr)
        indices, indptr = indices.astype(np.int32), indptr.astype(np.int32)
        loop = np.broadcast_shapes(x[0].shape[:-1], x[3].shape[:-2], x[4].shape[:-2])
        data, b, guess = (np.broadcast_to(part, loop + part.shape[part.ndim - k :])
                          for part, k in ((x[0], 1), (x[3], 2), (x[4], 2)))
        found = np.empty((*loop, self.n, 1))
        for at in np.ndindex(loop):
            matrix = csc_matrix((data[at], indices, indptr), shape=(self.n, self.n))
            found[at][:, 0] = self.solution(matrix, b[at][:, 0], guess[at][:, 0])
        return (found,)

    def solution(self, a: Any, b: Any, guess: Any, **others: Any) -> np.ndarray:
        """x by SciPy; others: options that are no settings."""
        import scipy.sparse.linalg

        options = dict(self.settings) | others | ({} if self.held is None else self.held.what)
        x, info = getattr(scipy.sparse.linalg, self.method)(a, b, guess, **options)
        if info != 0:
            residual = np.linalg.norm(a @ x - b) / (np.linalg.norm(b) or 1.0)
            raise ConvergenceError(
                f"{self.name} of a matrix of order {self.n} ended without a solution (info={info}, |A x - b| = "
                f"{residual:.2g} |b|), so there is no derivative of one: allow more iterations, give a preconditioner, "
                "or solve with scipy.sparse.linalg.spsolve")
        return np.asarray(x).reshape(self.n)

    @property
    def _direct(self) -> SparseSystem:
        return SparseSystem(self.n, 1, self.entries_of_a)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return self._direct.tangent(y, x[:4], xdot[:4])

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        return *self._direct.adjoint(y, x[:4], ybar, wanted[:4]), None


__all__ = ["METHODS", "Held", "Iterative"]
