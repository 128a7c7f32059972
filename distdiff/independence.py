"""Lines that no result depends on at a point, though their partials are infinite: shown by computing with other values.

The square root of 0 has an infinite partial.  Where it goes nowhere (a matrix of distances, whose diagonal a mask or a
`where` leaves out), the chain rule wants 0 * inf, which is NaN; the derivative is that of the other lines all the same.
Adjoints of zero alone don't tell, as sqrt(x)**2 has them at 0, and the derivative 1.  So the tape is computed again
with other results of such lines: with NaN, which arithmetic hands on, and with numbers on either side, for functions
that pass over NaN.  What is the same bit by bit depends on none of them.

Decisions lie as they fell; but a line whose own value is not finite, 0 / 0, must have decided none (`nansum`): without
it, there is no other point where f is what it is here.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from .comm import agreed, sound
from .errors import CancelledError, OverdueError
from .evaluate import Point, evaluate
from .partials import Partials, Rule, coefficient
from .tape import Statement

NUMBERS = (1.0, -1.0)


def singular(point: Point) -> dict[int, np.ndarray]:
    """By item: the elements of a statement's box at which a partial is not finite.  point: has all values."""
    found: dict[int, np.ndarray] = {}
    partials = Partials(point)
    with np.errstate(all="ignore"):
        for i, item in enumerate(point.local.items):
            if type(item) is not Statement or 0 in item.shape or item.reduced or item.op.kind != "elementwise":
                continue
            for k in range(len(item.operands)):
                if isinstance(coefficient(item, k), Rule):
                    lost = ~np.isfinite(partials.array(i, k))
                    if lost.any():
                        found[i] = found.get(i, False) | np.broadcast_to(lost, item.shape)
    return found


def put_aside(point: Point, team: MPI.Comm, comm: MPI.Comm) -> bool:
    """`_put_aside`, where no rule of a joint statement refuses what it is given instead, which is to depend on it.

    Twice, if at first it isn't so: loops that are compiled meanwhile round otherwise.
    """
    try:
        return _put_aside(point, team, comm) or _put_aside(point, team, comm)
    except Exception as error:  # of a rule, agreed upon: whatever it raises
        if isinstance(error, CancelledError | OverdueError) or not sound(comm):
            raise
        return False


def _put_aside(point: Point, team: MPI.Comm, comm: MPI.Comm) -> bool:
    """Let the lines of a point at which partials are not finite have none, where no result depends on them, on any
    rank; whether it is so, and there are such lines.  Collective.

    Takes as long as six points and all their partials, and the memory of all values twice.
    """
    local, x = point.local, point.values.gather(point.local.inputs.ids)
    whole = evaluate(local, x, team, complete=True, instead={})  # sums in the order of those that follow
    results = whole.outputs()
    infinite, decided, found = {}, {}, {}
    with agreed(comm):
        for i, item in enumerate(local.items):
            if type(item) is Statement:
                y = whole.values.view(item.out, item.out_shape)
                infinite[i] = ~np.isfinite(y)
                if not any(item.op.partials):
                    decided[i] = ..., y.copy()
        whole.values.without_nan(local.items)
        found = singular(whole)
    if not comm.allreduce(bool(found), op=MPI.LOR):
        return False
    there = whole
    for number in NUMBERS:
        there = evaluate(local, x, team, complete=True, instead={
            i: (lost & infinite[i], number) for i, lost in found.items()})
        as_ever = not there.broken_guards() and all(
            np.array_equal(there.values.view(local.items[i].out, y.shape), y, True) for i, (_, y) in decided.items())
        if not _same(there, results, comm) or not comm.allreduce(as_ever, op=MPI.LAND):
            return False
    for number in (*NUMBERS, np.nan):
        there = evaluate(local, x, team, complete=True, instead=decided | {
            i: (lost, number) for i, lost in found.items()})
        if not _same(there, results, comm):
            return False
    point.values.put_aside(found, there.values)
    return True


def _same(there: Point, results: np.ndarray, comm: MPI.Comm) -> bool:
    return bool(comm.allreduce(np.array_equal(there.outputs(), results), op=MPI.LAND))


__all__ = ["put_aside"]
