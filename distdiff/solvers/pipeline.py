"""Right-hand sides in batches through supersteps: while a rank works on one batch, its neighbour works on the next.

Substitution with m right-hand sides at once makes k* supersteps one after another, and where a program is a chain over
P ranks only one rank works at a time.  Cut into B batches, superstep s of batch j is computed in *stage* s + j, so that
all supersteps are busy with a batch each:

    k* + B - 1 stages instead of k* B         P ranks on a chain: P B / (P + B - 1) times as fast as one

Each number is computed as substitution computes it.  Messages are sent when a stage is done and waited for when a stage
begins; nobody waits for all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI

from ..cancellation import Watch, passed_on
from ..comm import on_root
from ..errors import InputError
from ..machine import Machine, current
from ..petsc import event
from ..petsc import options as petsc_options
from ..system import Halo, TriangularSystem
from .base import Solver
from .cost import BATCH, Cost, Method, Work, assembling_bytes, assembly, rows_seconds, substitution_setup
from .passes import Passes
from .work import ENTRIES

TAG = 77
WIDTHS = (4, 8, 16, 32, 64, 128, 256)  # of a batch, to choose from
WORKSPACE = 1 << 29  # bytes that a batch may take
AT_ONCE = 8  # enough batches to keep ranks busy; many more columns' results are fresh memory for every pass

Move = Callable[[np.ndarray, slice], None]  # between a batch's rows (n_local, columns) and where it is from or goes


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """Stages on the busiest rank, as many as supersteps and batches less one."""
    if work.ranks == 1 or work.k_star == 1:
        return Cost.none("nothing crosses ranks: it would be substitution")
    if min(columns, work.together) == 1:
        return Cost.none("right-hand sides that come one by one are no pipeline: it would be substitution")
    busy = min(work.k_star, work.messages + 1)
    passes, last = divmod(columns, AT_ONCE * BATCH)
    width, seconds = widest(min(columns, AT_ONCE * BATCH), work.k_star, work.rows, busy, machine, work.entries)
    if passes and last:
        seconds = passes * seconds + widest(last, work.k_star, work.rows, busy, machine, work.entries)[1]
    elif passes:
        seconds *= passes
    seconds += 2 * 8 * machine.byte * work.halo * columns  # copied out of rows and into them, batch by batch
    return Cost(substitution_setup(work, machine) + assembly(work, machine) + seconds,
                assembling_bytes(work) + 8 * (2 * work.rows * width + work.halo * columns),
                f"batches of {width} right-hand sides follow each other through {work.k_star} supersteps")


def widest(m: int, k_star: int, rows: float, busy: int, machine: Machine,
           entries: float | None = None) -> tuple[int, float]:
    """The best width of a batch, of m right-hand sides, and the seconds they all take with it.

    rows, busy, entries: of the busiest rank, supersteps in which a rank has anything to do, and nonzeros (None: as many
    as usual).
    """
    nonzeros = ENTRIES * rows if entries is None else entries

    def seconds(width: int) -> float:
        stages = k_star + -(-m // width) - 1
        return stages * (rows_seconds(rows, nonzeros, width, machine) + machine.wait
                         + busy * (machine.pipeline_task + machine.superstep))

    least = min(m, WIDTHS[0])
    width = min((w for w in (*WIDTHS, m) if w == least or (w <= m and 8 * rows * w <= WORKSPACE)), key=seconds)
    return width, seconds(width)


class Pipeline(Solver):
    """Substitution of many right-hand sides, batch after batch, for `tangent` and `adjoint`.  Collective.

    Option (prefix `distdiff_`): `pipeline_columns`, right-hand sides in a batch; chosen by a cost model otherwise.
    """

    name = "pipeline"
    substitutes = True

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        with petsc_options(system.comm, options, self.name) as given:
            self._columns = given.integer("pipeline_columns", 0)
        if self._columns < 0:
            raise InputError(f"pipeline_columns={self._columns} must be a positive number of right-hand sides")
        system.require_triangular(up_to_blocks=True)
        self._passes = Passes(system)
        halos, rows = system.halos, np.diff(system.ends) > 0
        # Supersteps in which this rank computes, takes what the one before has sent, or sends.
        self._busy = [s for s in range(system.k_star) if rows[s] or halos[s].sends or (s and halos[s - 1].recvs)]
        self._machine = on_root(system.comm, current)
        loads = system.n_local, len(self._busy), system.own.nnz + system.ghost.nnz
        self._load = [system.comm.allreduce(n, op=MPI.MAX) for n in loads]
        self._pool: list[tuple[np.ndarray, np.ndarray]] = []

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        if xdot.ndim != 2 or xdot.shape[1] == 0:
            return super().tangent(xdot)
        inputs, outputs = self.system.inputs.ids, self.system.outputs.ids
        self._fits(xdot, inputs, "tangent")
        out = np.empty((len(outputs), xdot.shape[1]))

        def fill(y: np.ndarray, columns: slice) -> None:
            y.fill(0.0)
            self._seed_inputs(y, xdot[:, columns])

        def take(y: np.ndarray, columns: slice) -> None:
            out[:, columns] = y[outputs]

        self._batches(xdot.shape[1], fill, take, False)
        return out

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        if ybar.ndim != 2 or ybar.shape[1] == 0:
            return super().adjoint(ybar)
        inputs, outputs = self.system.inputs.ids, self.system.outputs.ids
        self._fits(ybar, outputs, "adjoint")
        out = np.empty((len(inputs), ybar.shape[1]))

        def fill(lam: np.ndarray, columns: slice) -> None:
            lam.fill(0.0)
            self._seed_outputs(lam, ybar[:, columns])

        def take(lam: np.ndarray, columns: slice) -> None:
            out[:, columns] = lam[inputs]

        self._batches(ybar.shape[1], fill, take, True)
        return out

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        if y.ndim == 2 and y.shape[1]:
            self._batches(y.shape[1], lambda part, columns: np.copyto(part, y[:, columns]),
                          lambda part, columns: np.copyto(y[:, columns], part), transposed)
            return
        with event("pipeline"):
            self._passes.backward(y) if transposed else self._passes.forward(y)
        self.info = {"batches": 1, "stages": self.system.k_star}

    def width(self, m: int) -> int:
        """Right-hand sides in a batch, of m; the same on every rank."""
        if self._columns:
            return min(self._columns, m)
        rows, busy, entries = self._load
        return widest(m, self.system.k_star, rows, busy, self._machine, entries)[0]

    def _batches(self, m: int, fill: Move, take: Move, transposed: bool) -> None:
        """All right-hand sides through all supersteps, stage by stage.  Collective."""
        width = self.width(m)
        batches = [slice(start, min(start + width, m)) for start in range(0, m, width)]
        with event("pipeline"), passed_on(self.system.comm) as watch:
            self._stages(batches, fill, take, transposed, watch)
        self.info = {"batches": len(batches), "stages": self.system.k_star + len(batches) - 1}

    def _stages(self, batches: list[slice], fill: Move, take: Move, transposed: bool,
                watch: Watch | None) -> None:
        k, halos = self.system.k_star, self.system.halos
        busy = [k - 1 - s for s in reversed(self._busy)] if transposed else self._busy
        tasks = [(turn, stage - turn) for stage in range(k + len(batches) - 1)
                 for turn in reversed(busy[bisect_right(busy, stage - len(batches)):bisect_right(busy, stage)])]
        arriving = {}
        for turn, batch in tasks:
            if turn > 0:  # posted in the order in which the partners send
                halo = halos[k - 1 - turn if transposed else turn - 1]
                arriving[turn, batch] = self._receive(halo, batches[batch], transposed)
        sent: list[MPI.Request] = []
        under_way: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for turn, batch in tasks:
            columns, step = batches[batch], k - 1 - turn if transposed else turn
            if batch not in under_way:
                under_way[batch] = self._open(columns.stop - columns.start)
                fill(under_way[batch][0], columns)
            y, ghosts = under_way[batch]
            if turn > 0:
                requests, parts = arriving.pop((turn, batch))
                MPI.Request.Waitall(requests)
                if transposed:
                    for ids, part in parts:
                        y[ids] += part  # ids are distinct within a message only
                else:
                    for ids, part in parts:
                        ghosts[ids] = part
            (self._passes.backward_step if transposed else self._passes.forward_step)(step, y, ghosts, watch)
            if turn < k - 1:
                sent += self._send(halos[step - 1 if transposed else step], ghosts if transposed else y, transposed)
            if turn == busy[-1]:
                take(y, columns)
                self._pool.append(under_way.pop(batch))
            sent = [request for request in sent if not request.Test()]  # also lets messages move on meanwhile
        MPI.Request.Waitall(sent)

    def _receive(self, halo: Halo, columns: slice, transposed: bool) -> tuple[list[MPI.Request], list[Any]]:
        """Requests for a batch's messages of one exchange, and (places, buffer) of each."""
        width = columns.stop - columns.start
        expected = halo.sends if transposed else halo.recvs
        parts = [(ids, np.empty((len(ids), width))) for _, ids in expected]
        return [self.system.comm.Irecv(part, rank, TAG) for (rank, _), (_, part) in zip(expected, parts)], parts

    def _send(self, halo: Halo, values: np.ndarray, transposed: bool) -> list[MPI.Request]:
        return [self.system.comm.Isend(values[ids], rank, TAG)  # a request holds its buffer
                for rank, ids in (halo.recvs if transposed else halo.sends)]

    def _open(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Own and ghost rows of one more batch, ghosts zero."""
        system = self.system
        place = next((i for i, (y, _) in enumerate(self._pool) if y.shape[1] == width), None)
        if place is None:
            self._pool = self._pool[-1:]  # of another width: from an earlier solve, or the last batch's
            return np.empty((system.n_local, width)), np.zeros((system.n_ghosts, width))
        y, ghosts = self._pool.pop(place)
        ghosts.fill(0.0)
        return y, ghosts

    @property
    def memory(self) -> int:
        """Bytes this rank holds beside the system."""
        return super().memory + self._passes.nbytes + sum(y.nbytes + ghosts.nbytes for y, ghosts in self._pool)


METHOD = Method("pipeline", cost, Pipeline, partition="contiguous", at_once=AT_ONCE,
                ends="between two supersteps: what is left is passed on without being computed")

__all__ = ["METHOD", "Pipeline", "cost"]
