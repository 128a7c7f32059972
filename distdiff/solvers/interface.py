"""Interface elimination: every rank reduces its rows to a transfer matrix, and only interfaces wait for each other.

Substitution walks through the ranks one after another where a program is a chain.  Here

    1. each rank solves with its own block alone, ghosts taken for zero             all ranks at once
    2. a small reduced system gives the values of interface rows (`schur`)          one gather, or ceil(log2 P) messages
    3. each rank adds what its ghosts bring                                         all ranks at once

The transfer matrices T = -S M^-1 B (S picks interface rows) cost one pass with s columns, once a point, s being the
fewer of ghosts and interface rows of a rank; this is what domain decomposition calls static condensation, and for
chains the partition method (Wang, ACM TOMS 7, 1981).  A chain of n rows on P ranks takes one pass over n / P rows with
s + 2 m columns instead of n rows with m: it pays for P > 2 + s / m, or for repeated solves at one point.

For these, step 3 is a product with a small matrix as well, F = -O M^-1 B from ghosts to outputs, or transposed
H = S M^-1 E from inputs to interface rows, which the pass for T gives along with it; where that would be larger than
the rank's rows, a second pass with the own block takes its place.

The method is exact, but rounds otherwise than substitution: an entry of T may be large where solutions are small.  Its
error is bounded by a priori the same magnitudes, paths added up without signs (`residual`), since every product formed
here is a part of such a sum.  The first solve of each direction at a point goes through all rows and is accepted on its
true residual, refined once if need be, and the short way's result is compared with it; where either tells of digits
lost, every solve at the point goes through all rows and is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from mpi4py import MPI

from ..cancellation import look
from ..comm import Messages as Exchanged
from ..errors import ConvergenceError, InputError
from ..kernels.stream import scatter_add
from ..machine import Machine
from ..partition.local import Exchange
from ..petsc import event
from ..petsc import options as petsc_options
from ..system import Halo, TriangularSystem
from .base import Solver
from .cost import BATCH, Cost, Method, Work, assembling_bytes, assembly, local_seconds, substitution_setup
from .residual import Residual
from .schur import Coupling, Gathered, Messages, Scan
from .transfer import NONE, Block

TAG = 75
CHECKED = 2  # columns of a checked solve whose residuals are computed, unless all are asked for
REFINEMENTS = 1
AGREE = 1e-10  # of the terms it adds up: how near the short way's first result must be to the one accepted
DENSE = 4  # entries of F or H that cost as much as substitution in a row
ENTRY = 1e-9  # seconds that an entry of a small matrix takes
SCAN_ROUND = 5_000  # entries of the reduced system whose substitution takes as long as one round of the scan
LIMIT = 1 << 31  # bytes of the reduced system that a rank may hold


def cost(work: Work, columns: int, machine: Machine) -> Cost:
    """A pass for transfer matrices and a checked solve, then solves that wait for interfaces alone."""
    if work.ranks == 1 or work.k_star == 1:
        return Cost.none("nothing crosses ranks: it would be substitution")
    s, rounds = work.interface, (work.ranks - 1).bit_length()
    held = _reduced_bytes(work.ranks * s * s)
    if held > LIMIT:
        return Cost.none(f"{s} values leave a rank: too many for narrow interfaces")
    first = min(columns, work.together)
    transfer = local_seconds(replace(work, together=BATCH), s, machine)
    check = 2 * local_seconds(work, first, machine) + 2 * min(first, CHECKED) * local_seconds(work, 1, machine)
    # Every pass: parameters are sent on, interfaces gathered, and the reduced system is solved on every rank.
    messages = (1 + rounds) * machine.exchange * work.passes(columns) + 8 * machine.byte * work.halo * columns
    small = ENTRY * s * s * (1 + work.ranks) * columns
    seconds = transfer + check + local_seconds(work, columns, machine) + messages + small
    return Cost(substitution_setup(work, machine) + assembly(work, machine) + seconds,
                assembling_bytes(work) + 8 * work.rows * (min(s, BATCH) + 2 * first) + held,
                f"a pass with {s} columns reduces every rank to its interfaces; then ranks don't wait for each other")


def _reduced_bytes(entries: float) -> float:
    return 36 * entries


class Interface(Solver):
    """Interface elimination for `tangent` and `adjoint`.  Collective.

    Options (prefix `distdiff_`): `interface_reduced` (auto, gather or scan), `interface_check` (first or always:
    which solves at a point are accepted on their true residual).

    Raises `InputError` where the interfaces are too wide for a reduced system, or not in order for a scan that was
    asked for; `ConvergenceError` if transfer matrices overflow or the residual stays large.
    """

    name = "interface"

    def __init__(self, system: TriangularSystem, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(system)
        with petsc_options(options, self.name) as given:
            wanted = given.string("interface_reduced", "auto", ("auto", "gather", "scan"))
            self._always = given.string("interface_check", "first", ("first", "always")) == "always"
        system.require_triangular(up_to_blocks=True)
        self.block = Block(system)
        self._residual = Residual(system)
        self._outputs, self._output_places = np.unique(system.outputs.ids, return_inverse=True)
        self._couple()
        rank = system.comm.rank
        self._mine = slice(int(self.coupling.starts[rank]), int(self.coupling.starts[rank + 1]))
        self._all_reads = np.concatenate([NONE, *self.coupling.reads])
        self._counts = np.diff(self.coupling.starts).tolist(), [len(reads) for reads in self.coupling.reads]
        self._gathered: Gathered | None = None
        self._scan = Scan(self.coupling, rank) if self._scans(wanted) else None
        self.refresh()

    def _couple(self) -> None:
        """Who reads whose rows.  Collective.

        Rows that read nothing, parameters above all, are known from the beginning: they are no unknowns of the reduced
        system but have an exchange of their own, `_sources`.
        """
        system, comm = self.system, self.system.comm
        bounds = np.bincount(system.components.first, minlength=system.n_local + 1)
        bounds -= np.bincount(system.components.stop, minlength=system.n_local + 1)
        unit = np.cumsum(bounds)[:-1] == 0  # elsewhere a seed is no solution yet
        reads_nothing = unit & (np.diff(system.own.indptr) + np.diff(system.ghost.indptr) == 1)
        sent = np.unique(np.concatenate([NONE, *(halo.own for halo in system.halos)]))
        self._sent = sent[~reads_nothing[sent]]  # interface rows
        starts = np.concatenate([[0], np.cumsum(comm.allgather(len(self._sent)))])
        numbers = np.full(system.n_local, -1.0)  # doubles count exactly up to 2^53
        numbers[self._sent] = starts[comm.rank] + np.arange(len(self._sent))
        ghosts = np.full(system.n_ghosts, -1.0)
        system.halo_update(numbers, ghosts)
        used = self.block.used
        self._used, self._fixed = used[ghosts[used] >= 0], used[ghosts[used] < 0]
        leaves = np.full(system.n_local, system.k_star)
        for s, halo in reversed(list(enumerate(system.halos))):
            leaves[halo.own] = s
        found = comm.allgather((ghosts[self._used].astype(np.int64), leaves[self._sent], len(self._fixed)))
        reads, levels, fixed = zip(*found)
        self.coupling = Coupling(starts, np.concatenate([NONE, *levels]), list(reads))
        self._sources: Halo | None = None
        if any(fixed):
            self._sources = Halo.merged(comm, [
                Halo(comm, Exchange([(r, ids[reads_nothing[ids]]) for r, ids in halo.sends],
                                    [(r, ids[ghosts[ids] < 0]) for r, ids in halo.recvs]), 0) for halo in system.halos])
            inputs = system.inputs.ids
            self._shared = np.flatnonzero(np.isin(inputs, self._sources.own))  # inputs that others read

    def _scans(self, wanted: str) -> bool:
        """Whether the reduced system is scanned; the same on every rank."""
        coupling = self.coupling
        if wanted == "scan" and not coupling.ordered:
            raise InputError("interface_reduced='scan' wants ranks that read from lower ranks only, and here some read "
                             "from higher ones; use partition='contiguous', or leave the option out")
        widest = int(coupling.widths().max()) ** 2 if coupling.ordered else 0
        scans = wanted == "scan" or (wanted == "auto" and coupling.ordered and (
            (coupling.n_ranks - 1).bit_length() * (SCAN_ROUND + 2 * widest) < coupling.entries))
        held = 8 * 3 * widest * (coupling.n_ranks - 1).bit_length() if scans else _reduced_bytes(coupling.entries)
        if held > LIMIT:
            raise InputError(
                f"method='interface' would hold a reduced system of {held / 1e9:.3g} GB on a rank: {coupling.n} rows "
                "are read by other ranks, too many for narrow interfaces; use method='substitution', fewer ranks, or "
                "partition='contiguous'")
        return scans

    # -- once a point ----------------------------------------------------------------------------------------------

    def refresh(self, point: Any = None) -> None:
        """The system's values have changed; transfer matrices are made when a solve wants them."""
        self._reduced_ready = False
        self._maps: dict[bool, np.ndarray | None] = {}  # F and H; None: too large, a second pass takes their place
        trusted = self.coupling.n == 0  # no more than substitution
        self._checks = {d: "every solve" if self._always else "none" if trusted else "the first" for d in (False, True)}
        self.block.columns, self.growth, self.info = 0, 0.0, {}

    def _prepare(self, transposed: bool) -> None:
        """Transfer matrices, the reduced system, and the map that step 3 of this direction wants.  Collective."""
        if transposed in self._maps:
            return
        block, system = self.block, self.system
        n_used, ends = len(self._used), system.inputs.ids if transposed else self._outputs
        entries = (len(ends) + len(self._fixed)) * len(self._sent) if transposed else len(ends) * n_used
        T = None
        with event("transfer"), np.errstate(all="ignore"):
            if entries > DENSE * system.own.nnz:
                self._maps[transposed] = None
                T = block.transfer(self._sent, self._used) if not self._reduced_ready else None
            elif transposed:
                K = block.transfer(self._sent, np.concatenate([self._used, self._fixed]), ends)
                T, self._maps[True] = K[:, :n_used], K[:, n_used:]
            else:
                rows = np.union1d(self._sent, ends)
                K = block.transfer(rows, self._used)
                T, self._maps[False] = (K[np.searchsorted(rows, part)] for part in (self._sent, ends))
        found = [np.abs(a).max(initial=0.0) for a in (T, self._maps[transposed]) if a is not None]
        largest = max((float(a) if a == a else np.inf for a in found), default=0.0)
        most = np.array([largest, block.columns])  # of all ranks
        Exchanged.wait_for(lambda: system.comm.Allreduce(MPI.IN_PLACE, most, op=MPI.MAX))
        self.growth = max(self.growth, float(most[0]))
        if not np.isfinite(self.growth):
            raise ConvergenceError(
                "interface: transfer matrices overflow: on some rank's rows derivatives grow beyond the range of "
                "double precision, or are not finite; use method='substitution', which forms no such products")
        if not self._reduced_ready:
            self._reduce(T)
        self.info = {**self.info, "interface_rows": self.coupling.n, "largest_entry": self.growth,
                     "transfer_columns": int(most[1]),
                     "rounds": 0 if not self.coupling.n else self._scan.n_rounds if self._scan is not None else 1}

    def _reduce(self, T: Any) -> None:
        """The reduced system from each rank's transfer matrix.  Collective."""
        comm = self.system.comm
        if self._scan is not None:
            self._run(self._scan.refresh(T))
            if not comm.allreduce(self._scan.finite, op=MPI.LAND):
                self._scan = None
        if self._scan is None and self.coupling.n:
            if self._gathered is None:
                self._gathered = Gathered(self.coupling)
            self._gathered.refresh(Exchanged.wait_for(lambda: comm.allgather(T)))
        self._reduced_ready = True

    # -- solves ----------------------------------------------------------------------------------------------------

    def tangent(self, xdot: np.ndarray) -> np.ndarray:
        return self._boundary(xdot, False, super().tangent)

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        return self._boundary(ybar, True, super().adjoint)

    def _boundary(self, seed: np.ndarray, transposed: bool, through_all_rows: Callable[..., np.ndarray]) -> np.ndarray:
        """From inputs to outputs (or back) the short way, or `through_all_rows` until that is trusted.  Collective."""
        self._prepare(transposed)
        if self._checks[transposed] == "none":
            return self._short_way(seed, transposed)[0]
        first = self._checks[transposed] == "the first" and seed.shape[1:] != (0,)
        out = through_all_rows(seed)
        if first and self._checks[transposed] == "none":
            short, terms = self._short_way(seed, transposed, True)
            agrees = bool((np.abs(short - out) <= AGREE * terms).all())
            if not Exchanged.wait_for(lambda: self.system.comm.allreduce(agrees, op=MPI.LAND)):
                self._checks[transposed] = "every solve"
        return out

    def _short_way(self, seed: np.ndarray, transposed: bool, measure: bool = False) -> tuple[np.ndarray, Any]:
        """The result, and (to `measure` its rounding) the magnitudes of the terms that add up to it.  Collective."""
        with event("interface"), np.errstate(all="ignore"):
            return (self._short_adjoint if transposed else self._short_tangent)(seed, measure)

    def _short_tangent(self, xdot: np.ndarray, measure: bool) -> tuple[np.ndarray, Any]:
        block, inputs, outputs = self.block, self.system.inputs.ids, self.system.outputs.ids
        y = self._zeros(xdot, inputs, "tangent")
        self._seed_inputs(y, xdot)
        ghosts = self._source_ghosts(y)
        begin = min(int(inputs.min(initial=block.n)), int(block.first[self._fixed].min(initial=block.n)))
        self._take_ghosts(self._fixed, ghosts, y)
        block.solve(y, False, begin)
        out, brought = y[outputs], self._interfaces(y[self._sent], False)
        F = self._maps[False]
        if F is not None:
            terms = np.abs(out) + (np.abs(F) @ np.abs(brought))[self._output_places] if measure else None
            return out + (F @ brought)[self._output_places], terms
        y.fill(0.0)
        self._seed_inputs(y, xdot)
        ghosts[self._used] = brought
        block.take_ghosts(ghosts, y)
        block.solve(y, False)
        return y[outputs], np.abs(y[outputs])

    def _short_adjoint(self, ybar: np.ndarray, measure: bool) -> tuple[np.ndarray, Any]:
        block, inputs, outputs = self.block, self.system.inputs.ids, self.system.outputs.ids
        lam = self._zeros(ybar, outputs, "adjoint")
        self._seed_outputs(lam, ybar)
        block.solve(lam, True, 0, int(outputs.max(initial=-1)) + 1)
        ghosts = block.to_ghosts(lam)
        brought, H = self._interfaces(ghosts[self._used], True), self._maps[True]
        ends = np.concatenate([ghosts[self._fixed], lam[inputs]])
        if H is not None:
            terms = np.abs(ends) + np.abs(H).T @ np.abs(brought) if measure else None
            ends += H.T @ brought
        else:
            lam.fill(0.0)
            self._seed_outputs(lam, ybar)
            lam[self._sent] += brought
            block.solve(lam, True)
            ends = np.concatenate([block.to_ghosts(lam)[self._fixed], lam[inputs]])
            terms = np.abs(ends) if measure else None
        # Whether a rank has H is its own affair, how often it exchanges is not.
        return self._returned(lam, ends), None if terms is None else self._returned(lam, terms)

    def _source_ghosts(self, y: np.ndarray) -> np.ndarray:
        """Ghosts with what y has at the rows that read nothing, the others zero.  Collective."""
        ghosts = np.zeros((self.system.n_ghosts, *y.shape[1:]))
        if self._sources is not None:
            self._sources.forward(y, ghosts)
        return ghosts

    def _take_ghosts(self, places: np.ndarray, ghosts: np.ndarray, y: np.ndarray) -> None:
        """y <- y - B ghosts, which are zero but for `places`."""
        if len(places):
            self.block.take_ghosts(ghosts, y)

    def _returned(self, work: np.ndarray, values: np.ndarray) -> np.ndarray:
        """The adjoint at inputs, from `values` at source ghosts, whose owners get them, and at inputs.  Collective."""
        n = len(self._fixed)
        out = values[n:]
        if self._sources is not None:
            ghosts = np.zeros((self.system.n_ghosts, *values.shape[1:]))
            ghosts[self._fixed] = values[:n]
            work[self._sources.own] = 0.0
            self._sources.reverse(work, ghosts)
            out[self._shared] += work[self.system.inputs.ids[self._shared]]
        return out

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        self._prepare(transposed)
        b = self._work("seed", y.shape[1:])
        b[:] = y
        with event("interface"), np.errstate(all="ignore"):
            self._all_rows(y, transposed)
        error = self._check(y, b, transposed) if self._checks[transposed] != "none" and y.shape[1:] != (0,) else None
        if error is not None:
            self.info = {**self.info, "residual": error}

    def _all_rows(self, y: np.ndarray, transposed: bool) -> None:
        """The three steps for a right-hand side anywhere and the solution everywhere, two passes over all rows."""
        block = self.block
        if not transposed:
            self._take_ghosts(self._fixed, self._source_ghosts(y), y)
        first = self._work("first", y.shape[1:])
        first[:] = y
        block.solve(first, transposed)
        if transposed:
            brought, waits = self._interfaces(block.to_ghosts(first)[self._used], True), len(self._sent) > 0
            y[self._sent] += brought
        else:
            brought, waits = self._interfaces(first[self._sent], False), len(self._used) > 0
            ghosts = np.zeros((block.n_ghosts, *y.shape[1:]))
            ghosts[self._used] = brought
            self._take_ghosts(self._used, ghosts, y)
        if waits:
            block.solve(y, transposed)
        else:
            y[:] = first
        if transposed and self._sources is not None:
            ghosts = block.to_ghosts(y)
            self._sources.reverse(y, ghosts)

    def _interfaces(self, values: np.ndarray, transposed: bool) -> np.ndarray:
        """Step 2: ghosts from what interface rows would be without, or transposed.  Collective."""
        coupling, comm, tail = self.coupling, self.system.comm, values.shape[1:]
        look(comm)
        if coupling.n == 0:
            return np.zeros((0, *tail))
        if self._scan is not None:
            scan = self._scan
            return self._run(scan.backward(values, len(self._sent)) if transposed else scan.forward(values))
        assert self._gathered is not None
        columns = int(np.prod(tail, dtype=np.int64))
        counts = [columns * n for n in self._counts[transposed]]
        total = np.empty((sum(self._counts[transposed]), *tail))
        mine = np.ascontiguousarray(values)
        Exchanged.wait_for(lambda: comm.Allgatherv(mine, [total, counts]))
        if not transposed:
            return self._gathered.solve(total, False)[coupling.reads[comm.rank]]
        d = np.zeros((coupling.n, *tail))
        scatter_add(self._all_reads, total, d)
        return self._gathered.solve(d, True)[self._mine]

    def _run(self, messages: Messages) -> Any:
        """The scan's messages over MPI.  Collective."""
        comm, answer = self.system.comm, None
        while True:
            try:
                partner, array, shape = messages.send(answer)  # type: ignore[arg-type]
            except StopIteration as done:
                return done.value
            answer, mine = np.empty(shape), np.ascontiguousarray(array)
            Exchanged.wait_for(partial(comm.Sendrecv, mine, partner, TAG, answer, partner, TAG))

    # -- what a solution is accepted on ----------------------------------------------------------------------------

    def _check(self, y: np.ndarray, b: np.ndarray, transposed: bool) -> float:
        """Accept y, the solution for b, on its true residual; returns the largest componentwise backward error."""
        columns, seeds = (y[:, None], b[:, None]) if y.ndim == 1 else (y, b)
        m = columns.shape[1]
        chosen = list(range(m))
        if self._checks[transposed] == "the first" and m > CHECKED:
            chosen = np.linspace(0, m - 1, CHECKED).astype(int).tolist()
        worst, checked = 0.0, 0
        while checked < len(chosen):
            k = chosen[checked]
            checked += 1
            error, refined = self._accept(columns[:, k], np.ascontiguousarray(seeds[:, k]), transposed)
            worst = max(worst, error)
            if refined and self._checks[transposed] == "the first":
                self._checks[transposed] = "every solve"
                chosen += [j for j in range(m) if j not in chosen]
        if self._checks[transposed] == "the first":
            self._checks[transposed] = "none"
        return worst

    def _accept(self, y: np.ndarray, b: np.ndarray, transposed: bool) -> tuple[float, bool]:
        """Refine y until its residual is rounding; returns its componentwise backward error, and whether it was."""
        x, r = np.array(y), self._work("residual")
        tolerance = self._residual.tolerance(transposed)
        error, norm = self._residual(b, x, r, transposed)
        steps = 0
        while not error <= tolerance and steps < REFINEMENTS and np.isfinite(norm):
            with np.errstate(all="ignore"):
                self._all_rows(r, transposed)
                x += r
            steps += 1
            error, norm = self._residual(b, x, r, transposed)
        if not error <= tolerance and not self._residual.against_magnitudes(b, r, transposed) <= tolerance:
            raise ConvergenceError(
                f"interface: after {steps} refinement{'s' * (steps != 1)} the componentwise residual is {error:.3g} > "
                f"{tolerance:.3g}; transfer matrices have entries up to {self.growth:.3g}, and what is far smaller is "
                "lost in their rounding; use method='substitution', which forms no such products")
        if steps:
            y[:] = x
        return error, steps > 0

    def close(self) -> None:
        if self._sources is not None:
            self._sources.close()

    @property
    def memory(self) -> int:
        """Bytes this rank holds beside the system."""
        held = [self.block.passes, self._residual, self._gathered, self._scan]
        maps = sum(a.nbytes for a in self._maps.values() if a is not None)
        return super().memory + maps + sum(h.nbytes for h in held if h is not None)


METHOD = Method("interface", cost, Interface, partition="contiguous")

__all__ = ["METHOD", "Interface", "cost"]
