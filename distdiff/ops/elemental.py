"""Elementals: operations whose results are computed together, and whose derivative is a product, not an entry list.

An elemental G maps arrays of fixed *core* shapes to arrays of fixed core shapes (a solve, a factorization, a user's own
function with its rule).  `tape.Joint` applies one at every index of its *loop* axes, like NumPy's generalized ufuncs:

    y_1, ..., y_s = G(x_1, ..., x_r)

    tangent    ydot_j = sum_k dG_j/dx_k xdot_k              adjoint    xbar_k = sum_j (dG_j/dx_k)^T ybar_j
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from mpi4py import MPI

Shape = tuple[int, ...]
Pattern = tuple[np.ndarray, np.ndarray]  # (places in the flat results, places in the flat operand) of the entries


class Elemental:
    """One operation G for `tape.Joint`.  Subclasses set the attributes and write `value`, `tangent` and `adjoint`.

    name      what messages and reports call it
    core_in   the shape of each operand x_k at one loop index
    core_out  the shape of each result y_j at one loop index
    reads     operands whose values `tangent`, `adjoint` and `entries` read, and -1 for the results; default: all.
              Values of others are not kept; the rules get None in their place
    inert     operands on which no result depends differentiably (a mask, an order): never asked for
    undetermined  results that are any of many (`undetermined_because` goes on saying): nothing that is differentiated
              may depend on them, which `tracing.undetermined` sees to; rules take their derivatives for zero
    fails     an elemental of the same operands that gives 1 where `value` raises LinAlgError, and 0 elsewhere: what a
              function that catches the error decides by, so that a tape holds where it would be raised again
    implicit  the results solve equations, which `system` gives (without loop axes only)
    collective  a rank's part of one that ranks share (`shares`): its rules are called by all of them, each with its own
    lines     flattened lines that one loop index stands for, in the cost model and in reports; default: its results

    **Arrays.**  An x_k has shape (*loop, *core_in[k]), every loop axis with its length or 1; all x_k have the same
    number of loop axes, perhaps none.  A ydot_j or ybar_j has (*columns, *loop, *core_out[j]), an xdot_k
    (*columns, *loop, *core_in[k]), where `columns` is one axis of right-hand sides or nothing; loop axes of an xdot_k
    may have length 1 as well.  So rules work on the last axes and let NumPy broadcast the others.  What they return may
    have length 1, or lack leading axes, where it is the same along them.

    **Traced arrays.**  A second derivative calls `tangent` and `adjoint` inside a trace, on traced arrays: write them
    in NumPy functions that have rules themselves, or in calls of elementals.  There they meet a loop axis at least, so
    that no sum over core axes is a number.  `value` and `entries` see plain arrays.

    **Travel.**  An elemental goes to other ranks by pickle, the class by its name.  Two elementals that compare equal
    are the same operation, so that loops are recognized: make subclasses frozen dataclasses of their parameters.
    """

    kind = "joint"
    if TYPE_CHECKING:  # as properties, so that subclasses may set them or compute them

        @property
        def name(self) -> str: ...

        @property
        def core_in(self) -> tuple[Shape, ...]: ...

        @property
        def core_out(self) -> tuple[Shape, ...]: ...

    inert: frozenset[int] = frozenset()
    fails: Elemental | None = None
    undetermined: frozenset[int] = frozenset()
    undetermined_because = ""
    implicit = False
    collective = False
    left: np.ndarray | None = None  # the solution that the trace found, until its point has been evaluated elsewhere
    near: np.ndarray | None = None  # ... while that is done: where solving starts
    steps: int | None = None  # of Newton's method, that the trace took; None: nobody knows

    @property
    def flags(self) -> int:
        """How many of its results, the last ones, are no lines of the program but tell something of the others."""
        return 0

    @property
    def reads(self) -> frozenset[int]:
        return frozenset(range(-1, len(self.core_in)))

    @property
    def lines(self) -> int:
        return self.size

    @property
    def size(self) -> int:
        """Results at one loop index, all cores together."""
        return sum(map(prod, self.core_out))

    @property
    def arity(self) -> int:
        return len(self.core_in)

    @cached_property
    def parts(self) -> tuple[tuple[slice, Shape], ...]:
        """Where each result's elements are among all, flat and one after another, and their core shape."""
        ends = np.cumsum([prod(core) for core in self.core_out]).tolist()
        return tuple((slice(end - prod(core), end), core) for end, core in zip(ends, self.core_out))

    def split(self, flat: Any) -> list[Any]:
        """The results, (..., *core_out[j]), in an array (..., size) of all: views."""
        return [flat[..., part].reshape(flat.shape[:-1] + core) for part, core in self.parts]

    def require_sound(self) -> None:
        """Raise `ValueError` for parameters out of a file, each of its kind, with which it could not be called."""

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        """y = G(x): arrays (*loop, *core_out[j])."""
        raise NotImplementedError

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        """ydot = J xdot.  xdot[k] is None where operand k is constant; a ydot_j that is zero may be None."""
        raise NotImplementedError

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        """xbar = J^T ybar, an xbar_k only where wanted[k]; others, and those that are zero, may be None.

        ybar[j] is None where it is zero by structure.
        """
        raise NotImplementedError

    def count(self, k: int) -> int:
        """Entries of the Jacobian with respect to operand k at one loop index."""
        pattern = self.pattern(k)
        return self.size * prod(self.core_in[k]) if pattern is None else len(pattern[0])

    @property
    def cycles(self) -> np.ndarray:
        """Unknowns in each strongly connected component, of an implicit elemental's equations, that has more than one.
        """
        return np.empty(0, dtype=np.int64)

    def stored(self, active: Sequence[int]) -> int:
        """Entries of the rows that it makes in the assembled system at one loop index, by these operands, at most."""
        return sum(self.count(k) for k in active)

    def pattern(self, k: int) -> Pattern | None:
        """Where the Jacobian with respect to operand k, of core_out by core_in[k], has entries at one loop index.

        The same at every point.  Default None: everywhere; the entries then come from `tangent` or `adjoint`.
        """
        return None

    def entries(self, k: int, y: Sequence[np.ndarray], x: Sequence[np.ndarray]) -> np.ndarray:
        """The entries of `pattern(k)`: (*loop, entries).  Called only where there is a pattern."""
        raise NotImplementedError

    def system(self, y: Sequence[np.ndarray], x: Sequence[np.ndarray]) -> System | None:
        """The rows of an implicit elemental in the assembled system, which then solves its equations; None: it gets the
        Jacobian instead.  The same structure at every point.
        """
        raise NotImplementedError

    def shares(self, n_ranks: int) -> list[Share] | None:
        """What each of so many ranks has of an elemental without loop axes; None: one rank has it all (`alone`)."""
        return None

    @property
    def alone(self) -> str:
        """Why ranks don't share it; empty where they may."""
        return "its results are computed together"

    @property
    def how(self) -> str:
        """How its equations are solved, for reports; empty while they have not been here."""
        return ""

    def join(self, comm: MPI.Comm, whole: Elemental | None, options: Mapping[str, Any]) -> None:
        """Make a rank's part ready, `whole` being what it is a part of, on rank 0; `options` are PETSc's.  Collective.
        """
        raise NotImplementedError

    def leave(self) -> None:
        """Free what `join` made.  Collective."""
        raise NotImplementedError

    def found(self, solution: np.ndarray, steps: int | None = None) -> None:
        """Keep what an implicit elemental's equation was solved by while the function ran, in so many steps.

        It travels with the elemental, so that who evaluates the trace's own point need not solve the equation again
        from the user's first guess; at other points that guess counts, which says of several solutions which is meant.
        """
        vars(self).update(left=solution, steps=steps)

    def resume(self) -> None:
        """From now on values are asked for at the trace's own point."""
        vars(self)["near"] = vars(self).pop("left", None)

    def forget(self) -> None:
        """That point is left."""
        vars(self).pop("left", None)
        vars(self).pop("near", None)

    def __repr__(self) -> str:
        return f"<elemental {self.name}>"


class Shaped(Elemental):
    """An elemental whose core shapes follow from its parameters.

    signature  the shapes in the notation of NumPy's generalized ufuncs, "(n,n),(n,m)->(n,m)"; a length is a sum, such
               as n+1, of numbers and of attributes
    """

    signature: str

    @cached_property
    def core_in(self) -> tuple[Shape, ...]:
        return self._shapes(0)

    @cached_property
    def core_out(self) -> tuple[Shape, ...]:
        return self._shapes(1)

    def _shapes(self, side: int) -> tuple[Shape, ...]:
        cores = re.findall(r"\(([^)]*)\)", self.signature.split("->")[side])
        return tuple(tuple(self._length(length) for length in core.split(",") if length) for core in cores)

    def _length(self, text: str) -> int:
        first, *others = (int(term) if term.isdecimal() else getattr(self, term) for term in text.split("+"))
        return sum(others, first)


@dataclass(frozen=True)
class Elsewhere(Elemental):
    """Stands for an elemental that only another rank has: what is to be known of it here."""

    name: str
    core_in: tuple[Shape, ...]
    core_out: tuple[Shape, ...]


class Share(NamedTuple):
    """A rank's part of an elemental that ranks share.

    part      an elemental whose operands are elements of the whole's operands, flat, and whose results are some of its
              results, flat
    operands  their places in each of the whole's operands
    results   their places among the whole's flat results; -1: the whole has no such result
    """

    part: Elemental
    operands: tuple[np.ndarray, ...]
    results: np.ndarray


class System(NamedTuple):
    """Rows for the flat results of an elemental without loop axes, in CSR; columns count the flat results, then the
    flat operands, one after another.

    The first `residuals` rows hold -dR/dy and -dR/dx, the others the Jacobian.
    """

    indptr: np.ndarray
    columns: np.ndarray
    data: np.ndarray
    residuals: int
