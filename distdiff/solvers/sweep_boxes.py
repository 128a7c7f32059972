"""From a gathered sum to the boxes that the kernels run through."""

from __future__ import annotations

from math import prod
from operator import sub

from .combination import Cell, Coefficient, Factor, Index, dot
from .sweep_ops import Box, Pass

SHORT = 8  # elements along the last axis below which a longer one is better the innermost


def box_of(cell: Cell, dst: int, strides: Index) -> Box:
    """The operation on one cell of a block whose vector lies at `dst`; a term that reads there comes first.

    Axes that all operands run through as one are joined, so that the innermost is as long as may be.
    """
    lo, shape = cell.lo, tuple(map(sub, cell.hi, cell.lo))
    passes = []
    for at, steps, c in sorted(cell.terms, key=lambda t: t[0] != dst):
        at += dot(steps, lo)
        for a, b, factors in monomials(c):
            passes.append(Pass(at, steps, a, b, tuple([
                Factor(kind, number, place + dot(along, lo), along) for kind, number, place, along in factors])))
    dst += dot(strides, lo)
    if len(shape) < 2:
        return Box(dst, shape, strides, tuple(passes))
    axes = _joined(shape, {strides, *(p.strides for p in passes), *(f.strides for p in passes for f in p.factors)})
    if axes == list(zip(shape, range(len(shape)))):
        return Box(dst, shape, strides, tuple(passes))

    def along(s: Index) -> Index:
        return tuple([s[axis] for _, axis in axes])

    return Box(dst, tuple([n for n, _ in axes]), along(strides), tuple([
        Pass(src, along(steps), a, b, tuple([Factor(kind, number, at, along(s)) for kind, number, at, s in factors]))
        for src, steps, a, b, factors in passes]))


def monomials(c: Coefficient) -> list[tuple[float, float, tuple[Factor, ...]]]:
    """The coefficient as a sum of a + b f."""
    a = sum(beta for factors, beta in c if not factors)
    rest = [(a if k == 0 else 0.0, beta, factors) for k, (factors, beta) in enumerate(x for x in c if x[0])]
    return rest or [(a, 0.0, ())]


def _joined(shape: Index, columns: set[Index]) -> list[tuple[int, int]]:
    """(length, axis whose strides count) of the axes left after joining; the innermost last."""
    axes: list[tuple[int, int]] = []
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        if axes and all(s[axes[-1][1]] == s[axis] * n for s in columns):
            axes[-1] = axes[-1][0] * n, axis
        else:
            axes.append((n, axis))
    if not axes:
        return [(1, len(shape) - 1)] if prod(shape) == 1 else [(0, 0)]
    if axes[-1][0] < SHORT:
        longest = max(range(len(axes)), key=lambda k: axes[k][0])
        axes.append(axes.pop(longest))
    return axes
