"""Vectors as combinations of stored vectors: the algebra of elimination at block level.

A block whose tangent or adjoint is not stored is a sum of *terms*

    v[i]  =  sum_t  c_t[i] w_t[i + shift],       lo <= i < hi  (a box of the block)

over stored vectors w.  Eliminating it from a use `z[i] += p[i] v[i + d]` composes every term with the use: boxes
intersect, shifts add, coefficients multiply, and terms of one shift become one by adding coefficients.  So a time step
of a stencil code collapses to one row with a few diagonals.  A *coefficient* is a polynomial in values that lie in
memory anyway,

    c[i]  =  alpha + sum_j beta_j r_j[i]  (or beta_j r_j[i] s_j[i]),

so that composing them stores nothing, the factors r, s in the order in which lines multiply by them.  Places are affine
in the index i of the block the term belongs to, at + i . strides.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from math import prod
from operator import lt, mul, sub
from typing import Any, NamedTuple

from ..tape import c_strides

SAFE = (1e-100, 1e100)  # factors kept symbolic: their products must not overflow or vanish before they meet a number
DEGREE = 2  # factors of a monomial that the kernels know

VALUES, CONSTANT, STORED = range(3)  # what a factor is: values of block `number`, a constant array, a computed partial

SHIFT = 36  # bits of an address within a vector: 5e11 bytes, in 1e8 vectors
MASK = (1 << SHIFT) - 1

Index = tuple[int, ...]
Coefficient = tuple[tuple[tuple["Factor", ...], float], ...]  # (factors, beta), sorted; () for the constant


class Factor(NamedTuple):
    """Entry at + i . strides of an array in memory."""

    kind: int
    number: int
    at: int
    strides: Index


class Vector:
    """Stored elements that `refs` terms read; the addresses of vector `number` begin at number << SHIFT."""

    __slots__ = ("number", "refs", "size")

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size, self.refs = number, size, 0

    @property
    def at(self) -> int:
        return self.number << SHIFT


class Term(NamedTuple):
    """c[i] w[at + i . strides] for lo <= i < hi, in addresses of `vector`."""

    lo: Index
    hi: Index
    at: int
    strides: Index
    vector: Vector
    coefficient: Coefficient

    @property
    def work(self) -> int:
        """Elements times monomials."""
        return prod(b - a for a, b in zip(self.lo, self.hi)) * len(self.coefficient)


class Cell(NamedTuple):
    """A box all of whose elements have the same terms: (at, strides, coefficient) each."""

    lo: Index
    hi: Index
    terms: tuple[tuple[int, Index, Coefficient], ...]


ONE: Coefficient = (((), 1.0),)


def constant(c: float) -> Coefficient:
    return (((), c),)


def reference(kind: int, number: int, at: int, strides: Index) -> Coefficient:
    return (((Factor(kind, number, at, strides),), 1.0),)


def plus(a: Coefficient, b: Coefficient) -> Coefficient:
    """a + b."""
    if len(a) == 1 == len(b) and a[0][0] == b[0][0]:
        return ((a[0][0], a[0][1] + b[0][1]),)
    total = dict(a)
    for factors, beta in b:
        _add(total, factors, beta)
    return tuple(sorted(total.items()))


def _add(total: dict[tuple[Factor, ...], float], factors: tuple[Factor, ...], beta: float) -> None:
    """Adds a monomial; the same factors the other way round are the same."""
    if factors not in total and factors[::-1] in total:
        factors = factors[::-1]
    total[factors] = total.get(factors, 0.0) + beta


def times(a: Coefficient, b: Coefficient) -> Coefficient:
    """a b, b's factors first."""
    if len(a) == 1 == len(b) and not (a[0][0] and b[0][0]):
        return ((a[0][0] or b[0][0], a[0][1] * b[0][1]),)
    total: dict[tuple[Factor, ...], float] = {}
    for x, alpha in a:
        for y, beta in b:
            _add(total, y + x, alpha * beta)
    return tuple(sorted(total.items()))


def moved(a: Coefficient, shift: Index) -> Coefficient:
    """The coefficient whose entry i is a's entry i + shift."""
    if not any(shift):
        return a
    return tuple(sorted(
        (tuple(Factor(f.kind, f.number, f.at + dot(f.strides, shift), f.strides) for f in factors), beta)
        for factors, beta in a))


def compatible(a: Coefficient, b: Coefficient) -> bool:
    """Whether the product may be formed: of a degree that the kernels know, no constant out of range."""
    for x, alpha in a:
        for y, beta in b:
            if len(x) + len(y) > DEGREE or not (SAFE[0] < abs(alpha * beta) < SAFE[1] or alpha == 0.0 or beta == 0.0):
                return False
    return True


def dot(a: Index, b: Index) -> int:
    return sum(map(mul, a, b))


def through(lo: Index, hi: Index, shift: Index, coefficient: Coefficient, terms: list[Term]) -> list[Term]:
    """The terms of  c[i] v[i + shift], lo <= i < hi,  where v is the sum of `terms`."""
    found = []
    for t in terms:
        low = tuple(map(max, lo, map(sub, t.lo, shift)))
        high = tuple(map(min, hi, map(sub, t.hi, shift)))
        if all(map(lt, low, high)):
            found.append(Term(low, high, t.at + dot(t.strides, shift), t.strides, t.vector,
                              times(coefficient, moved(t.coefficient, shift))))
    return found


@lru_cache(maxsize=4096)
def corner(offset: int, strides: Index, shape: Index, grid: Index) -> Index | None:
    """Where the elements of an operand over `shape` begin in a block of shape `grid`, if they are a box of it."""
    if len(shape) != len(grid):
        return None
    found = []
    for n, stride, step, extent in zip(shape, strides, c_strides(grid), grid):
        place, offset = divmod(offset, step)
        if (n != 1 and stride != step) or place + n > extent:
            return None
        found.append(place)
    return tuple(found)


def gathered(terms: list[Term]) -> list[Term]:
    """The same sum with as few terms as may be: one a shift wherever boxes match or make a larger one."""
    groups: dict[tuple[int, Index], list[Term]] = {}
    for t in terms:
        groups.setdefault((t.at, t.strides), []).append(t)
    result = []
    for (at, strides), group in groups.items():
        if len(group) == 1:
            result += group
            continue
        lo, hi = _hull(group)
        for cell in cells(group, lo, hi):
            for _, _, c in cell.terms:
                result.append(Term(cell.lo, cell.hi, at, strides, group[0].vector, c))
    return result


def cells(terms: list[Term], lo: Index, hi: Index) -> list[Cell]:
    """The box lo <= i < hi, cut where the set of terms changes."""
    return [Cell(a, b, value) for a, b, value in _cut(terms, lo, hi, 0)]


def _hull(terms: list[Term]) -> tuple[Index, Index]:
    return (tuple(map(min, *(t.lo for t in terms))), tuple(map(max, *(t.hi for t in terms))))


def _cut(terms: list[Term], lo: Index, hi: Index, axis: int) -> list[tuple[Index, Index, Any]]:
    """Boxes of the axes from `axis` on, each with the terms that cover it."""
    if axis == len(lo):
        total: dict[tuple[int, Index], Coefficient] = {}
        for t in terms:
            place = t.at, t.strides
            total[place] = plus(total[place], t.coefficient) if place in total else t.coefficient
        return [((), (), tuple(sorted((*place, c) for place, c in total.items())))]
    ends = sorted({lo[axis], hi[axis], *(e for t in terms for e in (t.lo[axis], t.hi[axis])
                                         if lo[axis] < e < hi[axis])})
    slabs: list[tuple[int, int, Any]] = []
    for start, stop in pairwise(ends):
        inside = _cut([t for t in terms if t.lo[axis] <= start and t.hi[axis] >= stop], lo, hi, axis + 1)
        if slabs and slabs[-1][2] == inside:
            slabs[-1] = slabs[-1][0], stop, inside
        else:
            slabs.append((start, stop, inside))
    return [((start, *a), (stop, *b), value) for start, stop, inside in slabs for a, b, value in inside]
