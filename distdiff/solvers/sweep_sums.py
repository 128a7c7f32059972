"""What a sweep's blocks are at a moment of planning: sums of terms over stored vectors, and the memory of those.

Most blocks stay sums: they are *eliminated*, their terms composed with every use, as long as that does not add work
(Markowitz' count, p q <= p + q, on blocks).  The others are *kept*: their terms, gathered to one a diagonal, are one
operation that writes a vector once.  Where vectors lie is decided afterwards (`sweep_places`).

A loop is planned by its first periods: what was planned for one is a function of the sums of the blocks that it
touched, so where those come again, renumbered, so does the outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from ..tape import Block, c_strides
from . import combination as algebra
from .combination import SHIFT, STORED, VALUES, Coefficient, Factor, Index, Term, Vector
from .sweep_boxes import box_of
from .sweep_ops import Combine, Lines, Partial, Repeat, Time, Zero, names
from .sweep_period import Loop

LONG = 1000  # elements from which on a vector is too large to be kept for a small part of it
MANY = 16  # terms of one vector
HELD = 6  # vectors that one pending sum may keep alive
AXES = 3  # axes of a block that boxes may be cut along
KNOWN = 16  # different periods of a loop that are looked for: where ends stay what they were, a dozen come in turn


class Use(NamedTuple):
    """dst[i] += coefficient[i] src[at + i . strides] for lo <= i < hi, indices of block dst; `shift`: i + shift in src.

    `shift` is None where src's elements are no box of its block in the same order.
    """

    dst: int
    lo: Index
    hi: Index
    src: int
    at: int
    strides: Index
    shift: Index | None
    coefficient: Coefficient

    @property
    def work(self) -> int:
        return prod(b - a for a, b in zip(self.lo, self.hi)) * len(self.coefficient)


class Sums:
    """The blocks that live, each a sum of terms; operations that store vectors go to `ops`, in order.

    every: no block is eliminated.
    """

    def __init__(self, blocks: list[Block], every: bool = False) -> None:
        self._every = every
        self.sizes = [b.size for b in blocks]
        self.grids: list[Index] = [b.shape if len(b.shape) <= AXES else (b.size,) for b in blocks]
        self.ops: list[Any] = []
        self.kept = 0  # rows that are stored: elements of vectors, as often as they are written anew
        self.moved = 0  # elements that the operations go over
        self.vectors: list[int] = []  # sizes of those made, by number
        self.partials: list[int] = []  # likewise of partials that are computed
        self._terms: dict[int, list[Term]] = {}
        self._decided: set[int] = set()  # blocks that are kept or eliminated already
        self._before: dict[int, tuple[list[Term] | None, bool]] | None = None  # while a period is recorded

    # -- blocks

    def _look(self, b: int) -> list[Term] | None:
        """Block b's terms; None: it is zero."""
        terms = self._terms.get(b)
        if self._before is not None and b not in self._before:
            self._before[b] = terms, b in self._decided
        return terms

    def __contains__(self, b: int) -> bool:
        """Whether block b is anything but zero."""
        return self._look(b) is not None

    def _set(self, b: int, terms: list[Term] | None) -> None:
        old = self._look(b)
        if terms is None:
            self._terms.pop(b, None)
        else:
            self._terms[b] = terms
            for t in terms:
                t.vector.refs += 1
        for t in old or ():
            t.vector.refs -= 1

    def drop(self, b: int) -> None:
        """Block b is not needed any more."""
        if self._look(b) is not None:
            self._decided.discard(b)
            self._set(b, None)

    # -- vectors

    def _vector(self, size: int) -> Vector:
        self.vectors.append(size)
        return Vector(len(self.vectors) - 1, size)

    def _own_at(self, b: int, vector: Vector) -> int:
        grid = self.grids[b]
        self._set(b, [Term((0,) * len(grid), grid, vector.at, c_strides(grid), vector, algebra.ONE)])
        return vector.at

    def make(self, b: int) -> int:
        """Block b's vector is one of its own from now on, which what comes next writes; its address."""
        self.kept += self.sizes[b]
        return self._own_at(b, self._vector(self.sizes[b]))

    def partial(self, item: int, k: int, shape: Index) -> int:
        """Have the partial of a statement computed; its number."""
        self.partials.append(prod(shape))
        self.ops.append(Partial(item, k, len(self.partials) - 1, shape))
        return len(self.partials) - 1

    def _place(self, b: int) -> int | None:
        """Where block b's vector is, if it is stored as it is."""
        terms, grid = self._terms[b], self.grids[b]
        if len(terms) != 1:
            return None
        t = terms[0]
        if t.coefficient != algebra.ONE or t.hi != grid or any(t.lo) or t.strides != c_strides(grid):
            return None
        return t.at

    def read(self, b: int) -> int:
        """Where block b's vector is; it is stored now if it was not."""
        at = self._place(b)
        return self.keep(b) if at is None else at

    def own(self, b: int) -> int:
        """The same, and nothing else reads or is part of those addresses: they may be written to."""
        terms = self._look(b)
        if terms is None:
            at = self.make(b)
            self.ops.append(Zero(at, at + self.sizes[b]))
            self.moved += self.sizes[b]
            return at
        at, vector = self._place(b), terms[0].vector
        if at is None or vector.refs > 1 or vector.size != self.sizes[b]:
            at = self.keep(b)
        return at

    def keep(self, b: int) -> int:
        """Store block b: one operation writes all its terms."""
        terms, grid = self._terms[b], self.grids[b]
        strides = c_strides(grid)
        cells = algebra.cells(terms, (0,) * len(grid), grid)
        vector = self._overwritten(terms, cells, self.sizes[b], strides) or self._vector(self.sizes[b])
        boxes = [box_of(cell, vector.at, strides) for cell in cells]
        if boxes:
            self.ops.append(Combine(b, boxes))
        self.kept += self.sizes[b]
        self.moved += sum(prod(box.shape) * max(len(box.passes), 1) for box in boxes)
        return self._own_at(b, vector)

    @staticmethod
    def _overwritten(terms: list[Term], cells: list[algebra.Cell], n: int, strides: Index) -> Vector | None:
        """A vector that ends here and that each element of the result reads at its own place only, once."""
        for v in dict.fromkeys(t.vector for t in terms):
            mine = [t for t in terms if t.vector is v]
            if v.refs == len(mine) and v.size == n and all(
                    t.at == v.at and t.strides == strides for t in mine) and all(
                    sum(len(c) - (c[0][0] == () and len(c) > 1) for at, _, c in cell.terms if at == v.at) <= 1
                    for cell in cells):
                return v
        return None

    # -- terms

    def decide(self, b: int, uses: float) -> None:
        """Keep block b, or leave it eliminated: not if its terms, composed with `uses`, are more than both."""
        terms = self._look(b)
        if terms is None or b in self._decided:
            return
        self._decided.add(b)
        if self._place(b) is not None or not self.sizes[b]:
            return
        if len(terms) > 1:
            terms = algebra.gathered(terms)
            self._set(b, terms)
        own = sum(t.work for t in terms) / self.sizes[b]
        if self._every or own * uses > own + uses + 1e-9 or len(terms) > MANY:
            self.keep(b)

    def push(self, use: Use) -> None:
        """dst's sum gets what a use of src adds."""
        terms = self._terms[use.src]
        if use.shift is not None and all(algebra.compatible(use.coefficient, t.coefficient) for t in terms):
            new = algebra.through(use.lo, use.hi, use.shift, use.coefficient, terms)
        else:
            at = self.read(use.src)
            new = [Term(use.lo, use.hi, at + use.at, use.strides, self._terms[use.src][0].vector, use.coefficient)]
        if new:
            self._add(use.dst, new)

    def _add(self, b: int, new: list[Term]) -> None:
        terms = [*(self._look(b) or ()), *new]
        self._set(b, terms)
        n = self.sizes[b]
        if any(t.vector.size > 2 * n + LONG for t in new):  # no small part keeps a large vector
            self.keep(b)
        elif len(terms) > HELD and (len({t.vector for t in terms}) > HELD or len(terms) > 2 * MANY):
            self.keep(b)


class Period(NamedTuple):
    """A period that was planned: sums before and after of the blocks it touched, and what became of it.

    `first`, `partials` number the vectors that were new in it; `refs` are those of older vectors, before.
    """

    base: int
    before: dict[int, tuple[list[Term] | None, bool]]
    refs: dict[Vector, int]
    after: dict[int, tuple[list[Term] | None, bool]]
    first: int
    partials: int
    made: tuple[int, int]  # vectors and partials
    kept: int
    moved: int
    operations: list[Any]
    numbers: list[int]  # vectors that the operations name, and those before, ascending
    partial_numbers: list[int]


class Replay:
    """Plans periods of a loop, where they are as before by renaming; base: the first block of the period."""

    def __init__(self, sums: Sums, loop: Loop) -> None:
        self.sums, self.loop = sums, loop
        self._known: list[Period] = []
        self._last: tuple[int, int] = (-1, -1)  # the two periods before, by their bases
        self._next: dict[tuple[int, int], Period] = {}  # what came after two such

    def repeated(self, base: int) -> bool:
        """Plan the period by one planned before, if there is one that it matches."""
        likely = self._next.get(self._last)
        for period in self._known if likely is None else [likely, *(p for p in self._known if p is not likely)]:
            names = self._matched(period, base - period.base)
            if names is not None:
                self._rename(period, base - period.base, *names)
                self._came(period)
                return True
        return False

    def _came(self, period: Period) -> None:
        self._next[self._last] = period
        self._last = self._last[1], period.base

    def record(self, base: int, plan: Callable[[], None]) -> None:
        """Plan the period by `plan`, and remember it."""
        sums = self.sums
        if len(self._known) == KNOWN:
            plan()
            return
        refs = {t.vector: t.vector.refs for terms in sums._terms.values() for t in terms}
        first, partials, start = len(sums.vectors), len(sums.partials), len(sums.ops)
        kept, moved = sums.kept, sums.moved
        sums._before = {}
        plan()
        before, sums._before = sums._before, None
        after = {b: (sums._terms.get(b), b in sums._decided) for b in before}
        operations = sums.ops[start:]
        if any(type(op) is Lines for op in operations):
            return
        found = [names(op) for op in operations]
        numbers, partial_numbers = (set().union(*sets) for sets in zip(*found)) if found else (set(), set())
        period = Period(
            base, before, refs, after, first, partials, (len(sums.vectors) - first, len(sums.partials) - partials),
            sums.kept - kept, sums.moved - moved, operations, sorted(numbers | {v.number for terms, _ in before.values()
                                                              for v in (t.vector for t in terms or ())}),
            sorted(partial_numbers))
        self._known.append(period)
        self._came(period)

    def _block(self, b: int, step: int) -> int:
        return b + step if self.loop.lo <= b < self.loop.hi else b

    def _matched(self, period: Period, step: int) -> tuple[dict[int, Vector], dict[int, int]] | None:
        """What the period's older vectors and partials are called now, if the sums are what they were."""
        sums = self.sums
        vectors: dict[int, Vector] = {}
        partials: dict[int, int] = {}
        for b, (terms, decided) in period.before.items():
            b = self._block(b, step)
            now = sums._terms.get(b)
            if (terms is None) != (now is None) or (b in sums._decided) != decided:
                return None
            if terms is None:
                continue
            if len(terms) != len(now):
                return None
            for t, u in zip(terms, now):
                v, w = t.vector, u.vector
                if vectors.setdefault(v.number, w) is not w or w.size != v.size or w.refs != period.refs[v]:
                    return None
                if t.lo != u.lo or t.hi != u.hi or t.strides != u.strides or t.at - v.at != u.at - w.at:
                    return None
                if not self._same(t.coefficient, u.coefficient, step, partials):
                    return None
        if len({w.number for w in vectors.values()}) != len(vectors) or len(set(partials.values())) != len(partials):
            return None
        return vectors, partials

    def _same(self, a: Coefficient, b: Coefficient, step: int, partials: dict[int, int]) -> bool:
        if len(a) != len(b):
            return False
        for (x, alpha), (y, beta) in zip(a, b):
            if alpha != beta or len(x) != len(y):
                return False
            for f, g in zip(x, y):
                if f.kind != g.kind or f.at != g.at or f.strides != g.strides:
                    return False
                if f.kind == STORED:
                    if partials.setdefault(f.number, g.number) != g.number:
                        return False
                elif (self._block(f.number, step) if f.kind == VALUES else f.number) != g.number:
                    return False
        return True

    def _rename(self, period: Period, step: int, vectors: dict[int, Vector], partials: dict[int, int]) -> None:
        """The period's outcome under new names."""
        sums = self.sums
        more, more_partials = len(sums.vectors) - period.first, len(sums.partials) - period.partials
        sums.vectors += sums.vectors[period.first : period.first + period.made[0]]
        sums.partials += sums.partials[period.partials : period.partials + period.made[1]]
        for terms, _ in period.after.values():
            for t in terms or ():
                if t.vector.number not in vectors:
                    vectors[t.vector.number] = Vector(t.vector.number + more, t.vector.size)

        def factor(f: Factor) -> Factor:
            kind, number, at, strides = f
            if kind == VALUES:
                return Factor(kind, self._block(number, step), at, strides)
            if kind == STORED:
                return Factor(kind, partials.get(number, number + more_partials), at, strides)
            return f

        def term(t: Term) -> Term:
            vector = vectors[t.vector.number]
            coefficient = t.coefficient
            if len(coefficient) > 1 or coefficient[0][0]:
                coefficient = tuple([(tuple([factor(f) for f in factors]), beta) for factors, beta in coefficient])
            return Term(t.lo, t.hi, t.at + ((vector.number - t.vector.number) << SHIFT), t.strides, vector, coefficient)

        for b, (terms, decided) in period.after.items():
            b = self._block(b, step)
            sums._set(b, None if terms is None else [term(t) for t in terms])
            (sums._decided.add if decided else sums._decided.discard)(b)
        sums.kept += period.kept
        sums.moved += period.moved
        if not period.operations:
            return
        last = sums.ops[-1] if sums.ops else None
        if type(last) is not Repeat or last.operations is not period.operations:
            last = Repeat(period.operations, period.numbers, period.partial_numbers, [], self.loop.lo, self.loop.hi)
            sums.ops.append(last)
        last.times.append(Time(
            step, step // self.loop.blocks * self.loop.items, step // self.loop.blocks * self.loop.steps,
            [vectors[n].number if n in vectors else n + more for n in period.numbers],
            [partials.get(n, n + more_partials) for n in period.partial_numbers]))
