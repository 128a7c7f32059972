"""A block computed box by box is, to a sweep, often one whole again: joining the terms of its statements."""

from __future__ import annotations

from math import prod
from typing import Any

from ..partials import Other
from ..strided import interval
from ..tape import Affine, Block, Item, Statement
from .sweep_ops import Term


def joined(terms: list[Term], items: list[Item], blocks: list[Block]) -> list[Term]:
    """Terms of several boxes of one block, where they can, as one: a block taken apart is whole again.

    Boxes of a block are disjoint.  So where dst and src are at the same place of blocks of the same size in every
    box, and the boxes' elements add up to that size, the terms are one between whole blocks.  Others with one constant
    are joined if they run on from one another.
    """
    alike: dict[Any, list[Term]] = {}
    for term in terms:
        alike.setdefault(_place(term, items[term.item], blocks), []).append(term)
    result: list[Term] = []
    for key, group in alike.items():
        if key is None or len(group) == 1:
            result += group
            continue
        n, (k, dst, src, shift, what) = sum(prod(t.shape) for t in group), key
        if not shift and n == blocks[dst].size == blocks[src].size:
            whole = Affine(dst, 0, (1,)), Affine(src, 0, (1,))
            joint = Term(group[0].item, k, what, *whole, (n,)) if isinstance(what, float) else Term(
                -1, what[0], what, *whole, (n,))
            result.insert(0, joint)
        elif isinstance(what, float):
            result += _run_on(group)
        else:
            result += group
    return result


def _place(term: Term, item: Statement, blocks: list[Block]) -> Any:
    """What terms must have in common to be joined; None if nothing will do."""
    dst, src, what = term.dst, term.src, term.what
    if item.reduced or item.op.kind != "elementwise" or dst.block == src.block:
        return None

    def same(x: Affine) -> bool:
        return all(s == t or n == 1 for n, s, t in zip(term.shape, x.strides, src.strides))

    if not same(dst):
        return None
    shift = dst.offset - src.offset
    if isinstance(what, Other):
        p = item.operands[what.index]
        if type(p) is not Affine or p.offset != src.offset or not same(p) or (
                blocks[p.block].size != blocks[src.block].size):
            return None
        what = (p.block, "values")
    elif not isinstance(what, float):
        return None
    return term.k, dst.block, src.block, shift, what


def _run_on(group: list[Term]) -> list[Term]:
    """Terms with the same constant and shift: neighbouring intervals as one."""
    flat = [(t, interval(t.src, t.shape), interval(t.dst, t.shape)) for t in group]
    result = [t for t, src, dst in flat if src is None or dst is None]
    runs: list[Term] = []
    for t, src, dst in sorted((f for f in flat if f[1] is not None and f[2] is not None), key=lambda f: f[1][0]):
        n = src[1] - src[0]
        if runs and runs[-1].src.offset + runs[-1].shape[0] == src[0]:
            joint = runs[-1]
            runs[-1] = joint._replace(shape=(joint.shape[0] + n,))
        else:
            runs.append(t._replace(dst=Affine(t.dst.block, dst[0], (1,)), src=Affine(t.src.block, src[0], (1,)),
                                   shape=(n,)))
    return result + runs
