"""The one face of all solvers of an assembled system.

    (I - L) ydot = seed at the inputs,           read out at the outputs       tangent
    (I - L)^T lam = seed at the outputs,         read out at the inputs        adjoint
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import prod
from typing import Any

import numpy as np

from ..errors import InputError
from ..system import TriangularSystem


class Solver(ABC):
    """A way to solve with a `TriangularSystem`.  All methods are collective.

    A subclass solves in place: `_solve(y, transposed)` for y of shape (n_local,) or (n_local, m), row-major.
    `info` tells about the last solve: plain numbers and words.
    """

    name = "solver"
    little = False  # whether wide solves are known to keep of their solutions only what rows still read
    takes_norms = False  # whether a solution is looked for, or accepted, by norms, which overflow before solutions do
    substitutes = False  # whether solutions are those of substitution, whose residual is small by theory

    def __init__(self, system: TriangularSystem) -> None:
        self.system = system
        self.info: dict[str, Any] = {}
        self._workspace: dict[tuple[str, bool], np.ndarray] = {}  # by name: memory for the widest solve so far
        out = system.outputs.ids
        self._outputs_distinct = len(np.unique(out)) == len(out)

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        """ydot at this rank's outputs (n_out_local[, m]), xdot at its inputs (n_in_local[, m]).  Collective."""
        y = self._zeros(xdot, self.system.inputs.ids, "tangent")
        self._seed_inputs(y, xdot)
        self._solve(y, False)
        return y[self.system.outputs.ids]

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        """lam at this rank's inputs (n_in_local[, m]), ybar at its outputs (n_out_local[, m]).  Collective."""
        ids = self.system.outputs.ids
        lam = self._zeros(ybar, ids, "adjoint")
        self._seed_outputs(lam, ybar)
        self._solve(lam, True)
        return lam[self.system.inputs.ids]

    def multiply_in_order(self, forward: bool) -> bool:
        """Whether solving again could avoid an overflow, as partials then multiply in the order of the lines."""
        return False

    def refresh(self, point: Any = None) -> None:  # noqa: B027 (most solvers hold nothing of their own)
        """The system's values have changed (`TriangularSystem.refresh`)."""

    def accuracy(self) -> str:
        """What is known of the last solve's true residual, measured or by theory.  Collective."""
        if self.substitutes:
            return f"componentwise residual at most {self._rounding():.2g}, by theory"
        if "residual" not in self.info:
            return "not measured yet"
        return f"componentwise residual {self.info['residual']:.2g}, measured at the last solve"

    def _rounding(self) -> float:
        """gamma_n, n the longest row or column: no more is substitution's componentwise backward error (Higham,
        Accuracy and Stability of Numerical Algorithms, 2nd ed., theorem 8.5).  Collective."""
        n = max(self.system.longest(False), self.system.longest(True))
        u = np.finfo(float).eps / 2
        return n * u / (1 - n * u)

    def close(self) -> None:  # noqa: B027 (nor free anything)
        """Free PETSc objects; a second call does nothing."""

    @property
    def memory(self) -> int:
        """Bytes this rank holds beside the system."""
        return sum(a.nbytes for a in self._workspace.values())

    @abstractmethod
    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        """Overwrite the seed y, (n_local,) or (n_local, m), with the solution of (I - L) or its transpose."""

    def _zeros(self, seed: np.ndarray, ids: np.ndarray, what: str) -> np.ndarray:
        """The solution's array, kept between calls: fresh pages cost as much as the solve."""
        self._fits(seed, ids, what)
        y = self._work("y", seed.shape[1:])
        y.fill(0.0)
        return y

    def _fits(self, seed: np.ndarray, ids: np.ndarray, what: str) -> None:
        if seed.ndim not in (1, 2) or len(seed) != len(ids):
            raise InputError(f"the {what}'s seed has shape {seed.shape} on rank {self.system.comm.rank}, but "
                             f"({len(ids)},) or ({len(ids)}, m) is wanted")

    def _seed_inputs(self, y: np.ndarray, xdot: np.ndarray) -> None:
        y[self.system.inputs.ids] = xdot

    def _seed_outputs(self, lam: np.ndarray, ybar: np.ndarray) -> None:
        ids = self.system.outputs.ids
        if self._outputs_distinct:
            lam[ids] = ybar
        else:
            np.add.at(lam, ids, ybar)  # one node may be an output twice

    def _at(self, seed: np.ndarray, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """What seeds add up to in these rows, places[k] of which the k-th one belongs to."""
        seeds = np.zeros((len(rows), *seed.shape[1:]))
        if len(rows) == len(seed):
            seeds[places] = seed
        else:
            np.add.at(seeds, places, seed)  # one node may be an output twice
        return seeds

    def _work(self, name: str, columns: tuple[int, ...] = (), ghosts: bool = False) -> np.ndarray:
        """Memory for so many columns, of whatever content; the same for all widths, which batches come in turn."""
        shape = (self.system.n_ghosts if ghosts else self.system.n_local, *columns)
        size, kept = prod(shape), self._workspace.get((name, ghosts))
        if kept is None or kept.size < size:
            kept = self._workspace[name, ghosts] = np.empty(size)  # unlike zeros, large ones get huge pages: fewer TLB
            kept.fill(0.0)  # misses
        return kept[:size].reshape(shape)
