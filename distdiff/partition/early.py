"""Scalar lines that neighbours wait for, by themselves: their messages travel while a rank computes all others.

A superstep's lines on a rank are runs of up to 65,536, of which neighbours read a few, a mass at either end of its part
of a string say.  Here each run is cut where lines that are sent, and what these read of the superstep, begin and end,
and those come first.  Nodes keep their numbers, and operands have smaller ones than the lines that read them, so the
pieces may run in this order.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..kernels.sharing import find_wanted
from ..tape import Affine, Block, Indexed, Item, ScalarRun
from .local import Numbers, Step
from .plan import ARITY

LEAST = 4096  # lines of a superstep that make up for more calls, if they need not come first
SHORT = 64  # lines between two stretches that come first, fewer than which come first as well
MOST = 16  # stretches of a run that come first


Stretch = tuple[int, int, bool]  # lines low <= i < high of a run, and whether they come first


class Cut(NamedTuple):
    """What `cut` changes of a LocalTape."""

    blocks: list[Block]
    items: list[Item]
    steps: list[Step]
    run_ids: dict[int, Any]


def cut(blocks: list[Block], items: list[Item], steps: list[Step], run_ids: dict[int, Any]) -> Cut:
    """The same lines, of which those that are not waited for come after `ready`."""
    pieces: dict[int, list[Stretch]] = {}  # by block: stretches of its lines, and which come first
    whole: set[int] | None = None  # blocks that statements read or write as such
    for step in steps:
        runs = [item for item in items[step.start : step.ready] if isinstance(item, ScalarRun) and item.lines]
        if not step.exchange.sends or sum(run.lines for run in runs) < LEAST:
            continue
        whole = _affine(items) if whole is None else whole
        found = _pieces(blocks, items[step.start : step.ready], [run for run in runs if run.block not in whole],
                        np.concatenate([ids for _, ids in step.exchange.sends]))
        if sum(high - low for part in found.values() for low, high, first in part if not first) >= LEAST:
            pieces |= found
    return _written(blocks, items, steps, run_ids, pieces) if pieces else Cut(blocks, items, steps, run_ids)


def _affine(items: list[Item]) -> set[int]:
    return {ref.block for item in items if not isinstance(item, ScalarRun)
            for ref in (item.out, *item.operands) if isinstance(ref, Affine)}


def _pieces(blocks: list[Block], items: list[Item], runs: list[ScalarRun],
            sent: np.ndarray) -> dict[int, list[Stretch]]:
    """How the runs, among a superstep's items that come before its messages, can be cut."""
    if not runs:
        return {}
    here = {run.block for run in runs}
    base = min(blocks[b].first for b in here)
    wanted = np.zeros(max(blocks[b].first + blocks[b].size for b in here) - base, dtype=np.bool_)

    def want(ids: np.ndarray) -> None:
        ids = np.ravel(ids) - base
        wanted[ids[(ids >= 0) & (ids < len(wanted))]] = True

    want(sent)
    found: dict[int, list[Stretch]] = {}
    for item in reversed(items):
        if not isinstance(item, ScalarRun):
            for ref in item.operands:
                if isinstance(ref, Indexed):
                    want(ref.ids)
        elif item.block in here:
            part = _stretches(item, base, blocks[item.block].first - base, wanted)
            if part is not None:
                found[item.block] = part
        else:
            for k, ref in enumerate((item.a, item.b)):
                want(ref[ARITY[item.op] > k])
    return found


def _stretches(run: ScalarRun, base: int, start: int, wanted: np.ndarray) -> list[Stretch] | None:
    """A run's stretches, its first line being wanted[start]; None where all lines come first.  What lines that come
    first read is wanted afterwards."""
    own = wanted[start : start + run.lines]
    for _ in range(4):  # lines that come first since they are few between two that do are wanted too
        find_wanted(run.op, run.a, run.b, ARITY, base, start, wanted)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], own, [False]])))
        ends, begins = edges[1:-1:2], edges[2::2]
        short = begins - ends < SHORT
        if not short.any():
            break
        turns = np.zeros(run.lines, dtype=np.int8)
        turns[ends[short]], turns[begins[short]] = 1, -1
        own |= np.cumsum(turns, dtype=np.int8) > 0
    else:
        edges = np.empty(0, dtype=np.int64)
    if own.any() and not 0 < len(edges) <= 2 * MOST:
        own[:] = True
        find_wanted(run.op, run.a, run.b, ARITY, base, start, wanted)
    if own.all():
        return None
    bounds = [0, *edges.tolist(), run.lines]
    return [(low, high, k % 2 > 0) for k, (low, high) in enumerate(zip(bounds, bounds[1:])) if low < high]


def _written(blocks: list[Block], items: list[Item], steps: list[Step], run_ids: dict[int, Any],
             pieces: dict[int, list[Stretch]]) -> Cut:
    number: list[int] = []  # of each block, or its first piece
    made: list[Block] = []
    for b, block in enumerate(blocks):
        number.append(len(made))
        made += [Block(block.first + low, (high - low,)) for low, high, _ in pieces[b]] if b in pieces else [block]
    ids = {number[b]: where for b, where in run_ids.items() if b not in pieces}
    for b, part in pieces.items():
        if b in run_ids:
            ids |= {number[b] + k: _part(run_ids[b], low, high) for k, (low, high, _) in enumerate(part)}
    ordered: list[Item] = []
    found: list[Step] = []
    for step in steps:
        first: list[Item] = []
        rest: list[Item] = []
        for item in items[step.start : step.ready]:
            if isinstance(item, ScalarRun) and item.block in pieces:
                for k, (low, high, early) in enumerate(pieces[item.block]):
                    (first if early else rest).append(ScalarRun(
                        number[item.block] + k, item.op[low:high], item.a[low:high], item.b[low:high], item.const))
            else:
                first.append(_renumbered(item, number))
        start, rest = len(ordered), rest + [_renumbered(item, number) for item in items[step.ready : step.stop]]
        ordered += first + rest
        found.append(Step(start, start + len(first), len(ordered), step.exchange))
    return Cut(made, ordered, found, ids)


def _renumbered(item: Item, number: list[int]) -> Item:
    if isinstance(item, ScalarRun):
        return replace(item, block=number[item.block])
    operands = tuple(ref._replace(block=number[ref.block]) if isinstance(ref, Affine) else ref for ref in item.operands)
    return item.over(item.shape, item.out._replace(block=number[item.out.block]), operands)


def _part(where: Any, low: int, high: int) -> Any:
    return where.part(low, high) if isinstance(where, Numbers) else where[low:high]


__all__ = ["Cut", "cut"]
