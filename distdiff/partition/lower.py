"""Sums, extrema and running sums whose long axis lies on several ranks, as partial results and what joins
them.

    sum_k a_k  =  sum_r p_r,     p_r = sum over rank r's k of a_k

New blocks hold the partial results; no new operation is needed, so everything downstream reads them as any
other statement.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..tape import ADD, COPY, Affine, Indexed, Statement, c_strides
from .layout import split
from .plan import Plan, cut, cut_statement


def _one_each(active: np.ndarray, n_ranks: int) -> np.ndarray:
    """Cuts of one row for each active rank."""
    cuts = np.zeros(n_ranks + 1, dtype=np.int64)
    cuts[active + 1] = 1
    return np.cumsum(cuts)


def reduction(plan: Plan, index: int, item: Statement, axis: int, edges: np.ndarray) -> None:
    """Lower a sum, contraction or extremum cut along the reduced `axis` at `edges` (ranks + 1 places of that
    axis).

    An extremum must be cut along its first reduced axis, so that a tie still goes to the first in C order.
    """
    out, block = item.out, item.out.block
    active = np.flatnonzero(np.diff(edges) > 0)
    reduced = item.reduced
    kept = [k for k in range(len(item.shape)) if k not in reduced]
    kept_shape = tuple(item.shape[k] for k in kept)
    strides, size = c_strides(kept_shape), prod(kept_shape)
    shape = (len(active), *kept_shape)
    partials = plan.add_block(shape, block, split(shape, 0, _one_each(active, plan.n_ranks)))
    inner = [0] * len(item.shape)
    for k, stride in zip(kept, strides):
        inner[k] = stride
    for row, rank in enumerate(active):
        to = Affine(partials, row * size, tuple(inner))
        plan.add(index, cut_statement(item, axis, int(edges[rank]), int(edges[rank + 1]), to), int(rank))
    op = item.op if item.op.kind == "select" and len(active) > 1 else COPY
    joined = Affine(block, out.offset, (0, *(out.strides[k] for k in kept)))
    plan.add(index, Statement(op, shape, joined, (Affine(partials, 0, (size, *strides)),), item.site))


def scan(plan: Plan, index: int, item: Statement, edges: np.ndarray) -> None:
    """Lower a running sum cut along its own (last) axis: y = local running sum + all that came before on
    other ranks.
    """
    block, axis = item.out.block, len(item.shape) - 1
    active = np.flatnonzero(np.diff(edges) > 0)
    lead = item.shape[:-1]
    rows, length = prod(lead), item.shape[-1]
    running = plan.add_block(item.shape, block, split(item.shape, axis, edges))
    inside = c_strides(item.shape)
    before = (len(active) - 1, *lead)
    carries = plan.add_block(before, block, split(before, 0, _one_each(active[1:], plan.n_ranks)))
    first = plan.blocks[running].first
    ends = np.array([int(edges[rank + 1]) - 1 for rank in active], dtype=np.int64)
    ids = first + ends.reshape((-1,) + (1,) * len(lead)) + (np.arange(rows, dtype=np.int64) * length).reshape(lead)
    for row, rank in enumerate(active):
        low, high = int(edges[rank]), int(edges[rank + 1])
        local = Affine(running, low, inside)
        plan.add(index, cut_statement(item, axis, low, high, local), int(rank))
        shape, to = (*lead, high - low), cut(item.out, axis, low, high)
        assert isinstance(to, Affine)
        if row == 0:
            plan.add(index, Statement(COPY, shape, to, (local,), item.site), int(rank))
            continue
        sums = Affine(carries, (row - 1) * rows, (0, *c_strides(lead)))
        plan.add(index, Statement(COPY, (row, *lead), sums, (Indexed(ids[:row]),), item.site), int(rank))
        carried = Affine(carries, (row - 1) * rows, (*c_strides(lead), 0))
        plan.add(index, Statement(ADD, shape, to, (local, carried), item.site), int(rank))


__all__ = ["reduction", "scan"]
