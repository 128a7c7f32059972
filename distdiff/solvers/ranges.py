"""Solutions whose vectors leave the range of double precision on their way and come back: found, and solved again.

Derivatives are linear in their seeds, J (2^k x) = 2^k J x, and bit by bit so in floating point as long as nothing is
rounded below the normal numbers or above all numbers, which the processor notes at no cost (`flags`).  So a solve that
raises no flag is as exact as ever; where one does, seeds times other powers of two are tried, by bisection between what
is too small and too large, until one raises none.

Vectors may span more than all numbers, or fade away for good, as an adjoint does on its way back through a thousand
contractions.  Then every power loses something, and what that may come to is looked at.  A result that is rounded
below 2^-1022 is off by 2^-1075 at most, which goes on from its row as from a seed there: entries of (I - L)^-1 tell how
it grows.  So one solve with random seeds of size 2^q in *all* rows that stays below all numbers tells that no entry is
above 2^(1024 - q), but for some bits by which random weights may cancel: on a path along which anything grows, every
row's own seed is there to grow, whatever has faded away before it.  What is lost of a solution from seeds times 2^k is
then less than

    ROWS 2^-1075 2^(1024 - q + SLACK) 2^-k

and where that is nothing beside every column of the result, the result stands.

Partials that are below 2^-1022 themselves, as 1 / x has one at 1e200, are lost before any seed comes.  Each is off by
2^-1075 of the solution that it multiplies, which is less than 2^(1024 - q + SLACK) times the seed, so the same factor
once more says what that may come to.  It is no matter beside what a seed is for either: a change of x by as much as x
itself, which changes f as much as f.  Products of partials that elimination rounds so are lost likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

STEP = 600  # bits by which seeds are tried larger or smaller, before there is anything to bisect
ENDS = 1000  # largest and smallest power of two of a seed's largest number
CLOSE = 8  # bits between too small and too large at which bisecting ends
TRIES = 12  # at most
PROBES = (900, 650, 500, 200, 100)  # q one after another until nothing overflows
ROWS = 40  # log2 of how many results may be rounded, and all their errors be added up
SLACK = 10  # log2 of what random weights may cancel
NOTHING = 200  # bits by which an error is below a result's largest number to be nothing beside it: whatever is within
# 1e-45 of that has all its digits
LEAST = -1074  # log2 of the smallest number


class Found(NamedTuple):
    """A solve: what it gave here, and whether on any rank something was rounded below the normal numbers, and the
    result is not finite because something overflowed."""

    result: np.ndarray
    under: bool
    infinite: bool


class Ranges:
    """Solves at a point, in both directions, whose seeds are multiplied by powers of two.  All methods are collective.

    solve(forward, seed, trial) : one solve, as it is; a trial, from another seed than the one that was given, is
    infinite where the norms that it is accepted by are.  overflows(q): whether a solve with random seeds of size 2^q in
    all rows does.  team: the ranks that share one copy of the program.  rounded(look): whether partials at this point
    are below the normal numbers, as far as is known, or looked at.  slope(): log2 of f over x, at this point.  tell():
    what such partials have lost may matter; once a point.
    """

    def __init__(self, comm: MPI.Comm, team: MPI.Comm, solve: Callable[[bool, np.ndarray, bool], Found],
                 overflows: Callable[[int], bool], rounded: Callable[[bool], bool] = lambda look: False,
                 slope: Callable[[], int] = lambda: 0, tell: Callable[[], None] = lambda: None) -> None:
        self._comm, self._team, self._solve, self._overflows = comm, team, solve, overflows
        self._rounded, self._slope_here, self._tell = rounded, slope, tell
        self._told = False
        self._slope: int | None = None
        self._power = {True: 0, False: 0}  # what the latest seeds were multiplied by, by direction
        self._settled: set[bool] = set()  # directions in which no power was without loss
        self._proven: int | None = None  # the largest q that doesn't overflow at this point, of those tried
        self._smaller: set[bool] = set()  # directions in which an overflow is looked into at this point

    @property
    def powers(self) -> dict[bool, int]:
        """What the latest seeds were multiplied by, as a power of two, by direction (forward)."""
        return dict(self._power)

    def leave(self) -> None:
        """Another point: powers may do there as well, and are tried first."""
        self._proven = self._slope = None
        self._told = False
        self._smaller.clear()

    def may_overflow(self, forward: bool) -> bool:
        """From now on at this point smaller seeds are tried where a result overflows; False: they were already."""
        if forward in self._smaller:
            return False
        self._smaller.add(forward)
        return True

    def solve(self, forward: bool, seed: np.ndarray) -> np.ndarray | None:
        """The result for a seed; None where every power of two loses what may matter."""
        power = self._power[forward]
        if power:
            least, most = self._bounds(seed)
            power = min(max(power, least), most)
        found = self._at(forward, seed, power)
        if found.infinite:
            if power == 0 and forward not in self._smaller:
                return found.result  # who asked looks for the cause
        else:
            rounded = self._rounded(found.under)
            if rounded and not self._told and not self._harmless(seed, found.result, power, partials=True):
                self._told = True
                self._tell()
            if not found.under or (rounded or forward in self._settled) and self._harmless(seed, found.result, power):
                return _times(found.result, -power)
        return self._search(forward, seed, found, power)

    def _at(self, forward: bool, seed: np.ndarray, power: int) -> Found:
        return self._solve(forward, _times(seed, power), power != 0)

    def _search(self, forward: bool, seed: np.ndarray, found: Found, power: int) -> np.ndarray | None:
        """From a solve that lost something."""
        least, most = self._bounds(seed)
        low: int | None = None  # loses, and high overflows
        high: int | None = None
        kept = found
        for _ in range(TRIES):
            if found.infinite:
                high = power
            else:
                if not found.under:
                    self._power[forward] = power
                    self._settled.discard(forward)
                    return _times(found.result, -power)
                low, kept = power, found
            if low is not None and high is not None:
                if high - low <= CLOSE:
                    break
                power = (low + high) // 2
            elif low is not None:
                if low >= most:
                    break
                power = min(low + STEP, most)
            else:
                assert high is not None
                if high <= least:
                    return None
                power = max(high - STEP, least)
            found = self._at(forward, seed, power)
        if low is None:
            return None
        self._power[forward] = low
        self._settled.add(forward)
        return _times(kept.result, -low) if self._harmless(seed, kept.result, low) else None

    def stands(self, seed: np.ndarray, result: np.ndarray) -> bool:
        """Whether it is nothing beside the result that products of partials were rounded before the solve."""
        return self._harmless(seed, result, 0, partials=True)

    def _harmless(self, seed: np.ndarray, result: np.ndarray, power: int, partials: bool = False) -> bool:
        """Whether what was lost of a result from seeds times 2^power is nothing beside it; `partials`: by them."""
        if self._proven is None:
            self._proven = next((q for q in PROBES if not self._overflows(q)), -ENDS)
        sizes = np.stack([np.abs(x if x.ndim == 2 else x[:, None]).max(axis=0, initial=0.0) for x in (result, seed)])
        if self._team.size > 1:
            self._team.Allreduce(MPI.IN_PLACE, sizes, op=MPI.MAX)
        there, asked = sizes
        with np.errstate(all="ignore"):
            exponents = np.where(there > 0.0, np.frexp(there)[1] - power, -4 * ENDS)
        grown = 1024 - self._proven + SLACK
        lost: Any = ROWS - 1075 + grown - power
        if partials:
            if self._slope is None:
                self._slope = self._slope_here()
            lost = ROWS - 1075 + 2 * grown + np.frexp(asked)[1]
            exponents = np.maximum(exponents, self._slope + np.frexp(asked)[1])
        enough = bool(((asked == 0.0) | (lost <= np.maximum(exponents - NOTHING, LEAST))).all())
        return bool(self._comm.allreduce(enough, op=MPI.LAND))

    def _bounds(self, seed: np.ndarray) -> tuple[int, int]:
        """The least and the largest power by which all ranks' seeds stay within range."""
        largest = np.array([np.abs(seed).max(initial=0.0)])
        self._comm.Allreduce(MPI.IN_PLACE, largest, op=MPI.MAX)
        size = int(np.frexp(largest[0])[1])
        return (-ENDS - size, ENDS - size) if 0.0 < largest[0] < np.inf else (0, 0)


def weights(n: int, power: int, rank: int) -> np.ndarray:
    """n random numbers of size 2^power and either sign."""
    rng = np.random.default_rng([n, rank])
    return np.asarray(np.ldexp(rng.uniform(1.0, 2.0, n) * rng.choice([-1.0, 1.0], n), power))


def _times(x: np.ndarray, power: int) -> np.ndarray:
    """x times 2^power."""
    if power == 0:
        return x
    with np.errstate(all="ignore"):
        return x * 2.0**power if abs(power) <= ENDS else np.ldexp(x, power)


__all__ = ["Found", "Ranges", "weights"]
