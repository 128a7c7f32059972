"""From a partition on rank 0 to a LocalTape on every rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from mpi4py import MPI

from ..comm import agreed, on_root
from ..graph import Survey
from ..node import share
from ..tape import Joint, ScalarRun, Tape
from ..tracing.memory import give_back
from .afar import Stored
from .choose import run_by_run
from .holdings import Holdings, receive_run, send_run
from .local import LocalTape, nothing, whole
from .localize import Ghosts, Rank
from .parcel import Sender, Structure, travelling, with_arrays
from .placement import Partition
from .transport import broadcast, receive, send


def amounts(tape: Tape, made: Partition, arrays: list[int] | None = None) -> dict[str, float]:
    """What `distribute` takes of each rate of `Machine`, by a layout's counts.  arrays: the tape's items that read
    constant arrays (`parcel.with_arrays`), if they are known.

    Long scalar code moves run by run, to rank 0 as well as from it, so its lines tell no layouts apart.
    """
    if made.n_ranks == 1 or (made.plan is None and not made.everywhere):
        return {}
    if made.everywhere:
        return {"copy_call": 1, "copy_item": len(tape.items)}
    lines = 0 if run_by_run(tape) else sum(item.lines for item in tape.items if isinstance(item, ScalarRun))
    plan = made.plan
    assert plan is not None
    if arrays is None or plan.tape is not tape:
        arrays = with_arrays(plan.tape)
    return {"share_call": 1, "share_rank": plan.where.active, "share_item": made.quality.items,
            "share_line": lines, "share_value": made.quality.sent, "share_indexed": _indexed(tape, made),
            "share_byte": travelling(plan, arrays)}


def _indexed(tape: Tape, made: Partition) -> int:
    """Nodes that statements name one by one, all of which are looked up."""
    survey = made.plan.survey if made.plan is not None else None
    return Survey(tape).indexed if survey is None else int(survey.indexed)


def localize_all(tape: Tape, partition: Partition) -> list[LocalTape]:
    """The LocalTapes of all ranks, made in one process without MPI: what `distribute` gives each of them."""
    if partition.n_ranks == 1:
        return [whole(tape)]
    if partition.everywhere:
        return [whole(tape) for _ in range(partition.n_ranks)]
    if partition.plan is None:
        return [whole(tape), *(nothing(tape.joint) for _ in range(partition.n_ranks - 1))]
    sender = partition.sender()
    ranks = [Rank(sender.structure, sender.parcel(r), r) for r in range(partition.n_ranks)]
    ghosts = [rank.build() for rank in ranks]
    for rank, run in sender.whole_runs():
        ranks[rank].adopt(replace(run, a=run.a.copy(), b=run.b.copy()))
    return [rank.connect([g.wanted(rank.rank) for g in ghosts]) for rank in ranks]


def distribute(tape: Tape | None, partition: Partition | None, comm: MPI.Comm,
               options: Mapping[str, Any] | None = None, holdings: Holdings | None = None,
               keeps: bool = False) -> LocalTape:
    """Every rank's share of the tape that rank 0 has partitioned.  Collective.

    options: PETSc's, for elementals that ranks share.  keeps, the same on all ranks: ranks keep what it takes to look
    at the structure of their runs (`afar`).

    Rank 0 passes the tape and a partition for comm.size ranks, the others None.  Structure is broadcast (an
    affine statement is a few integers however many lines it stands for); constants, index arrays and scalar
    lines are sent to the ranks that use them, one rank's parcel at a time, and runs that one rank has as a whole one by
    one, from rank 0 or from the rank that has held them so far (`holdings`).  These the tape gives up: afterwards it is
    used up.
    """
    if comm.size == 1:
        assert tape is not None
        return whole(tape)
    alone, everywhere, joint = on_root(comm, lambda: (partition.plan is None, partition.everywhere, tape.joint))
    if everywhere:
        return broadcast(whole(tape) if tape is not None else None, comm)
    if alone:
        return whole(tape) if comm.rank == 0 else nothing(joint)
    sender = on_root(comm, lambda: partition.sender(), share=False)
    share(comm)
    if partition is not None:
        partition.release()
    structure = broadcast(sender.structure if sender is not None else None, comm)
    parcel: Any = None
    active = on_root(comm, lambda: sender.where.active)
    if active < comm.size:  # the others get nothing, all the same
        with agreed(comm):
            parcel = sender.parcel(active) if sender is not None else None
        parcel = broadcast(parcel, comm)
    for rank in reversed(range(active)):  # rank 0 keeps the last one
        with agreed(comm):
            made = sender.parcel(rank) if sender is not None else None
        if comm.rank == 0 and rank:
            send(made, rank, comm)
        elif comm.rank == rank:
            parcel = receive(0, comm) if rank else made
    mine = Rank(structure, parcel, comm.rank)
    ghosts: Any = None
    with agreed(comm):
        ghosts = mine.build()
    _hand_out(sender, mine, comm, holdings or Holdings(comm), keeps)
    wanted = _ask(ghosts, comm)
    local: Any = None
    with agreed(comm):
        local = mine.connect(wanted)
    _join(structure, partition, comm, options or {})
    return local


def _join(structure: Structure, partition: Partition | None, comm: MPI.Comm,
          options: Mapping[str, Any]) -> None:
    """Make the parts of elementals that ranks share ready.  Collective."""
    parts = {item.out.block: item.op for _, item, _ in structure.tasks if isinstance(item, Joint)}
    for number, blocks in enumerate(structure.shared):
        whole = partition.plan.shared[number].whole if partition is not None and partition.plan is not None else None
        parts[blocks[comm.rank]].join(comm, whole, options)


def _hand_out(sender: Sender | None, mine: Rank, comm: MPI.Comm, holdings: Holdings, keeps: bool) -> None:
    """Runs that one rank has as a whole go there, one after another.  Collective."""
    if not mine.structure.whole:
        return
    failure: Exception | None = None  # of one's own; whoever fails goes on, so that nobody waits for ever
    routes = comm.bcast(sender.routes(holdings.holder) if sender is not None else None, root=0)
    for block, holder, owner in routes.tolist():
        if comm.rank == holder:
            run = sender.take(block) if sender is not None else holdings.runs.pop(block)
            if owner != holder:
                send_run(run, owner, comm)
        elif comm.rank == owner:
            run = receive_run(holder, comm)
        if comm.rank == owner:
            try:
                mine.adopt(run, keeps)
            except Exception as error:  # the others go on handing out; raised when all have theirs
                failure = failure or error
    run = None
    if keeps:
        placed = holdings.runs if sender is None else sender.placed_line_by_line()
        mine.stored |= {block: Stored(run, mine.structure.blocks[block].first) for block, run in placed.items()}
    holdings.runs.clear()  # those that were placed line by line
    give_back(pool=True)  # runs that went elsewhere: what comes next is of another size
    with agreed(comm):
        if failure is not None:
            raise failure


def _ask(ghosts: Ghosts, comm: MPI.Comm) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tell owners which nodes this rank has as ghosts; learn what others want of it.  Collective."""
    asked = [np.ascontiguousarray(np.stack(ghosts.wanted(rank)).astype(np.int64)) for rank in range(comm.size)]
    counts = np.array([a.shape[1] for a in asked], dtype=np.int64)
    answer = np.empty_like(counts)
    comm.Alltoall(counts, answer)
    wanted = [np.empty((2, n), dtype=np.int64) for n in answer]
    requests = [comm.Irecv(w, source=r, tag=_TAG) for r, w in enumerate(wanted) if w.size]
    requests += [comm.Isend(a, dest=r, tag=_TAG) for r, a in enumerate(asked) if a.size]
    MPI.Request.Waitall(requests)
    return [(w[0], w[1]) for w in wanted]


_TAG = 72
__all__ = ["amounts", "distribute", "localize_all"]
