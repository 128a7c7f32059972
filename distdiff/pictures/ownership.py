"""Which rank owns what along the trace, and what ranks send each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..comm import agreed, on_root
from ..partition import Partition, localize_all
from ..partition.local import LocalTape
from ..partition.plan import binary
from ..tape import Affine, Indexed, ScalarRun, Tape
from .sections import Section, sections
from .subject import Subject

ALONG, ACROSS = 200, 64  # places along the trace, and within the arrays there


@dataclass(frozen=True)
class Ownership:
    """The owner map and the traffic of one forward pass."""

    ranks: int
    name: str  # of the partition
    k_star: int
    n: int  # nodes
    owner: np.ndarray  # (ACROSS, ALONG): the owner of places within the largest block of each stretch of the trace
    values: np.ndarray  # (ranks, ranks): values that rank i sends to rank j
    messages: np.ndarray  # (ranks, ranks): in how many messages
    lines: np.ndarray  # (ranks,): what each computes, rows beside its own included
    cut: np.ndarray  # (ranks,): edges of the graph that come from another rank's values
    sections: tuple[Section, ...]


def partition(subject: Subject) -> Ownership:
    """The layout of this job.  Collective."""
    comm, local = subject.comm, subject.local
    tape, made = subject.tape, subject.partition
    name, owner, n, along = on_root(comm, lambda: (
        "one rank" if made is None else made.name, owners(tape, made, comm.size), tape.n_nodes, tuple(sections(tape))))
    with agreed(comm):
        mine = _traffic(local, comm.size)
    values, messages, lines, cut = (np.array(column) for column in zip(*comm.allgather(mine)))
    return Ownership(comm.size, name, len(local.steps), n, owner, values, messages, lines, cut, along)


def planned(tape: Tape, made: Partition) -> Ownership:
    """The layout on ranks that nobody has.  Not collective; uses the tape up."""
    owner, n, along = owners(tape, made, made.n_ranks), tape.n_nodes, tuple(sections(tape))
    shares = localize_all(tape, made)
    values, messages, lines, cut = (np.array(column) for column in zip(*(_traffic(s, made.n_ranks) for s in shares)))
    return Ownership(made.n_ranks, made.name, made.k_star, n, owner, values, messages, lines, cut, along)


def owners(tape: Tape, made: Partition | None, ranks: int) -> np.ndarray:
    """The owner of nodes, by place in their array (rows) and along the trace (columns): (ACROSS, ALONG)."""
    n = tape.n_nodes
    if not n or made is None or made.plan is None:
        return np.zeros((ACROSS, min(ALONG, max(n, 1))), dtype=np.int32)
    first = np.array([block.first for block in tape.blocks], dtype=np.int64)
    size = np.array([block.size for block in tape.blocks], dtype=np.int64)
    edges = np.unique(np.linspace(0, n, ALONG + 1).astype(np.int64))
    found = np.empty((ACROSS, len(edges) - 1), dtype=np.int32)
    share = (np.arange(ACROSS) + 0.5) / ACROSS
    for k, (start, stop) in enumerate(zip(edges, edges[1:])):
        blocks = slice(int(np.searchsorted(first, start, side="right")) - 1, int(np.searchsorted(first, stop)))
        block = blocks.start + int(np.argmax(size[blocks]))
        layout = made.plan.layouts[block] if made.plan.regrouped is None else None  # of the tape's own blocks
        if layout is not None and layout.row * layout.n:  # cut along an axis: places along that
            row = (share * layout.n).astype(np.int64)
            found[:, k] = np.searchsorted(layout.cuts, row, side="right") - 1
        else:  # a scalar run: its lines in the stretch, from the first to the last
            begin, end = max(start, first[block]), min(stop, first[block] + size[block])
            found[:, k] = made.owner(begin + (share * (end - begin)).astype(np.int64))
    return found


def _traffic(local: LocalTape, ranks: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """(values sent to each rank, messages, lines computed, operands that are another rank's values) of one rank."""
    values, messages = np.zeros(ranks, dtype=np.int64), np.zeros(ranks, dtype=np.int64)
    for step in local.steps:
        for rank, ids in step.exchange.sends:
            values[rank] += len(ids)
            messages[rank] += 1
    return values, messages, local.lines, _ghost_reads(local)


def _ghost_reads(local: LocalTape) -> int:
    ghost = _ghosts(local)
    if ghost is None:
        return 0
    count = 0
    for item in local.items:
        if isinstance(item, ScalarRun):
            for ref, active in ((item.a, item.op >= 0), (item.b, binary(item.op))):
                count += int(np.count_nonzero(ghost[ref[(ref >= 0) & active]]))
            continue
        for k, operand in enumerate(item.operands if 0 not in item.shape else ()):
            shape = item.operand_shape(k)
            if isinstance(operand, Affine):
                start = local.blocks[operand.block].first + operand.offset
                view = np.lib.stride_tricks.as_strided(ghost[start:], shape, operand.strides, writeable=False)
                count += int(np.count_nonzero(view))
            elif isinstance(operand, Indexed):
                count += int(np.count_nonzero(ghost[operand.ids]))
    return count


def _ghosts(local: LocalTape) -> np.ndarray | None:
    """Which local nodes arrive from other ranks, bool; None where there are none."""
    arriving = [ids for step in local.steps for _, ids in step.exchange.recvs]
    if not arriving:
        return None
    ghost = np.zeros(local.n_nodes, dtype=bool)
    for ids in arriving:
        ghost[ids] = True
    return ghost


__all__ = ["Ownership", "owners", "partition", "planned"]
