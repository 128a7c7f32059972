"""Several terms into one vector, in one pass over memory:

    dst[i]  =  sum_t  a_t src_t[i] + b_t q_t[i] (p_t[i] src_t[i])

for boxes of elements, dst and src in a workspace W, p and q anywhere (none, or p alone).  A tile of dst that stays in
the first cache level takes all its terms before the next one begins, so dst is written to memory once and each operand
read once.  Operands are strided: (at, stride of each axis) in elements.

NumPy does small work; what is large enough to be worth Numba's import is one call for as many boxes as there are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..flags import note
from . import stream

TILE = 8192  # elements: larger than for the compiled loops, for each costs several calls


class Tables(NamedTuple):
    """Boxes in numbers.

    cells    (c, 12) int64: dst, lengths of three axes, dst's strides along them, first and last + 1 of its passes,
             and the indices along the axes with which it begins: not 0 where a box is computed in parts
    passes   (k, 12) int64: src and its strides; address of p (0: none) and its strides; the same of q
    factors  (k, 2): a, b
    """

    cells: np.ndarray
    passes: np.ndarray
    factors: np.ndarray


Views = tuple[np.ndarray, list[tuple[np.ndarray, float, float, Any, Any]]]


def compiled(n: int) -> bool:
    """Whether the compiled loops are worth it, for n more elements."""
    return stream.compiled(n)


def run(W: np.ndarray, tables: Tables) -> None:
    """All boxes, compiled, on W of shape (rows,) or (rows, m) in Fortran order."""
    from . import combine_loops

    combine_loops.columns(W.__array_interface__["data"][0], *tables, W.shape[0], 1 if W.ndim == 1 else W.shape[1])
    note()


def run_views(boxes: list[Views]) -> None:
    """The same by NumPy: each box a view of dst and its terms (src, a, b, p, q).

    Only the first term's src may lie where dst is, element by element, and is then dst itself.
    """
    scratch = np.empty(TILE)
    for dst, passes in boxes:
        inside = bool(passes) and passes[0][0] is dst
        if dst.size <= TILE or dst.ndim == 0 or dst.shape[0] == 1:
            _box(dst, passes, inside, scratch)
            continue
        step = max(1, TILE * dst.shape[0] // dst.size)
        for start in range(0, dst.shape[0], step):
            part = slice(start, start + step)
            _box(dst[part], [(_cut(src, part), a, b, _cut(p, part), _cut(q, part)) for src, a, b, p, q in passes],
                 inside, scratch)


def _cut(x: Any, part: slice) -> Any:
    return x if x is None or x.shape[0] == 1 else x[part]


def _box(dst: np.ndarray, passes: list[Any], inside: bool, scratch: np.ndarray) -> None:
    if not passes:
        dst[...] = 0.0
        return
    work = scratch[: dst.size].reshape(dst.shape) if dst.size <= len(scratch) else np.empty(dst.shape)
    for k, (src, a, b, p, q) in enumerate(passes):
        if k and p is None and abs(a) == 1.0:
            (np.add if a == 1.0 else np.subtract)(dst, src, out=dst)
            continue
        w = dst if k == 0 and not inside else work
        if p is None:
            np.multiply(src, a, out=w)
        elif a != 0.0:
            np.multiply(p, b if q is None else q, out=w)
            if q is not None and b != 1.0:
                np.multiply(w, b, out=w)
            np.add(w, a, out=w)
            np.multiply(w, src, out=w)
        else:  # one after the other: the product of b, p and q might underflow
            if abs(b) > 1.0:
                np.multiply(src, b, out=w)
                np.multiply(w, p, out=w)
            else:
                np.multiply(p, src, out=w)
            if q is not None:
                np.multiply(w, q, out=w)
            if abs(b) <= 1.0 and b != 1.0:
                np.multiply(w, b, out=w)
        if k:
            np.add(dst, w, out=dst)
        elif inside:
            np.copyto(dst, w)
