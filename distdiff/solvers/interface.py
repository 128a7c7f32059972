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
here is a part of such a sum.  At the first solve of each direction at a point every rank makes a second pass, from what
interfaces brought, and the rows between ranks tell its true residual (`Interface._again`); with it the short way's
result is compared.  Where that is not rounding alone, the solution goes through all rows, is accepted on the residual
of every one of them, and refined once if need be; where either tells of digits lost, or where entries are so far apart
that what vanishes in a transfer matrix may matter for one right-hand side alone, so does every solve at the point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from ..cancellation import look
from ..channels import Messages as Exchanged
from ..errors import ConvergenceError, InputError
from ..flags import quiet
from ..machine import Machine
from ..petsc import event
from ..petsc import options as petsc_options
from ..system import TriangularSystem
from .base import Solver
from .cost import BATCH, Cost, Method, Work, assembling_bytes, assembly, local_seconds, substitution_setup
from .crossings import Crossings
from .residual import Residual
from .schur import Gathered, Messages, Scan
from .transfer import Block

TAG = 75
CHECKED = 2  # columns of a checked solve whose residuals are computed, unless all are asked for
REFINEMENTS = 1
AGREE = 1e-10  # of the terms it adds up: how near the short way's first result must be to the one accepted
FAR = 1e20  # entries above, beside others below the inverse: products of some may vanish that matter after all
DENSE = 4  # entries of F or H that cost as much as substitution in a row
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
    check = local_seconds(work, first, machine)
    # Every pass: parameters are sent on, interfaces gathered, and the reduced system is solved on every rank.
    messages = (1 + rounds) * machine.exchange * work.passes(columns) + 8 * machine.byte * work.halo * columns
    small = machine.interface_entry * s * s * (1 + work.ranks) * columns
    calls = machine.interface_call + machine.interface_pass * work.passes(columns)
    seconds = transfer + check + local_seconds(work, columns, machine) + messages + small + calls
    return Cost(substitution_setup(work, machine) + assembly(work, machine) + seconds,
                assembling_bytes(work) + 8 * work.rows * (min(s, BATCH) + 2 * first) + held,
                f"a pass with {s} columns reduces every rank to its interfaces; then ranks don't wait for each other")


def _reduced_bytes(entries: float) -> float:
    return 36 * entries


class Short(NamedTuple):
    """The short way's result, what interfaces brought this rank, and the magnitudes of the terms it adds up."""

    found: np.ndarray
    brought: np.ndarray
    terms: np.ndarray


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
        with petsc_options(system.comm, options, self.name) as given:
            wanted = given.string("interface_reduced", "auto", ("auto", "gather", "scan"))
            self._always = given.string("interface_check", "first", ("first", "always")) == "always"
        system.require_triangular(up_to_blocks=True)
        self.block = Block(system)
        self._residual = Residual(system)
        self._outputs, self._output_places = np.unique(system.outputs.ids, return_inverse=True)
        self._inputs, self._input_places = np.unique(system.inputs.ids, return_inverse=True)
        self.crossings = Crossings(system, self.block.used)
        self.coupling, self._sent = self.crossings.coupling, self.crossings.sent
        self._used, self._fixed = self.crossings.used, self.crossings.fixed
        self._ends = np.union1d(self._sent, self._outputs)  # rows that solutions are wanted in
        self._end_sent, self._end_outputs = (np.searchsorted(self._ends, rows) for rows in (self._sent, self._outputs))
        self._gathered: Gathered | None = None
        self._scan = Scan(self.coupling, system.comm.rank) if self._scans(wanted) else None
        self.refresh()

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
        with event("transfer"), quiet():
            if entries > DENSE * system.own.nnz:
                self._maps[transposed] = None
                T = block.transfer(self._sent, self._used) if not self._reduced_ready else None
            elif transposed:
                K = block.transfer(self._sent, np.concatenate([self._used, self._fixed]), ends)
                T, self._maps[True] = K[:, :n_used], K[:, n_used:]
            else:
                K = block.transfer(self._ends, self._used)
                T, self._maps[False] = K[self._end_sent], K[self._end_outputs]
        found = [np.abs(a).max(initial=0.0) for a in (T, self._maps[transposed]) if a is not None]
        largest = max((float(a) if a == a else np.inf for a in found), default=0.0)
        most = np.array([largest, block.columns, *self._extremes()])  # of all ranks
        Exchanged.wait_for(lambda: system.comm.Allreduce(MPI.IN_PLACE, most, op=MPI.MAX))
        self.growth = max(self.growth, float(most[0]))
        if not np.isfinite(self.growth):
            raise ConvergenceError(
                "interface: transfer matrices overflow: on some rank's rows derivatives grow beyond the range of "
                "double precision, or are not finite; use method='substitution', which forms no such products")
        if most[2] and most[3]:  # what is lost in one solve's transfer may matter in another's
            self._checks = {d: "every solve" if how == "the first" else how for d, how in self._checks.items()}
        if not self._reduced_ready:
            self._reduce(T)
        self.info = {**self.info, "interface_rows": self.coupling.n, "largest_entry": self.growth,
                     "transfer_columns": int(most[1]),
                     "rounds": 0 if not self.coupling.n else self._scan.n_rounds if self._scan is not None else 1}

    def _extremes(self) -> tuple[bool, bool]:
        """Whether some of this rank's entries are above FAR, and whether some are below the inverse and not zero."""
        sizes = [np.abs(part.data) for part in (self.system.own, self.system.ghost)]
        small = any(np.count_nonzero(size) != np.count_nonzero(size >= 1.0 / FAR) for size in sizes)
        return any(bool((size > FAR).any()) for size in sizes), small

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
        self._fits(xdot, self.system.inputs.ids, "tangent")
        return self._boundary(xdot, False)

    def adjoint(self, ybar: np.ndarray) -> np.ndarray:
        self._fits(ybar, self.system.outputs.ids, "adjoint")
        return self._boundary(ybar, True)

    def _boundary(self, seed: np.ndarray, transposed: bool) -> np.ndarray:
        """From inputs to outputs, or back: the short way, and another way beside it until it is trusted.  Collective.
        """
        self._prepare(transposed)
        checks = self._checks[transposed] if seed.shape[1:] != (0,) else "none"
        short = self._short_way(seed, transposed, checks != "none")
        if checks == "none":
            return short.found
        if checks == "every solve":
            return self._through_all_rows(seed, short.brought, transposed)
        found, error = self._again(seed, short.brought, transposed)
        if error <= self._residual.tolerance(transposed) and not self.system.cyclic:
            self._checks[transposed] = "none"
            self.info = {**self.info, "residual": max(error, self._rounding())}
        else:
            found = self._through_all_rows(seed, short.brought, transposed)
        agrees = bool((np.abs(short.found - found) <= AGREE * short.terms).all())
        if not Exchanged.wait_for(lambda: self.system.comm.allreduce(agrees, op=MPI.LAND)):
            self._checks[transposed] = "every solve"
        return found

    def _short_way(self, seed: np.ndarray, transposed: bool, measure: bool = False) -> Short:
        """The result (to `measure` its rounding, with the magnitudes of the terms it adds up).  Collective."""
        with event("interface"), quiet():
            return (self._short_adjoint if transposed else self._short_tangent)(seed, measure)

    def _short_tangent(self, xdot: np.ndarray, measure: bool) -> Short:
        block, F, places = self.block, self._maps[False], self._output_places
        ghosts, seeds = self._source_ghosts(xdot), self._at(xdot, self._inputs, self._input_places)
        ends = block.forward(ghosts, self._fixed, self._inputs, seeds, self._ends)
        out, brought = ends[self._end_outputs], self._interfaces(ends[self._end_sent], False)
        terms = np.abs(out)
        if F is not None:
            terms = terms + np.abs(F) @ np.abs(brought) if measure else terms
            out = out + F @ brought
        else:
            out = self._with_ghosts(ghosts, brought, seeds)[self._end_outputs]
            terms = np.abs(out)
        return Short(out[places], brought, terms[places])

    def _short_adjoint(self, ybar: np.ndarray, measure: bool) -> Short:
        block, H = self.block, self._maps[True]
        seeds = self._at(ybar, self._outputs, self._output_places)
        ghosts, lam = block.backward(self._outputs, seeds, self._inputs)
        brought = self._interfaces(ghosts[self._used], True)
        ends = np.concatenate([ghosts[self._fixed], lam[self._input_places]])
        terms = np.abs(ends) if measure else None
        if H is not None:
            terms = terms + np.abs(H).T @ np.abs(brought) if terms is not None else None
            ends += H.T @ brought
        else:
            ghosts, lam = self._with_interfaces(seeds, brought)
            ends = np.concatenate([ghosts[self._fixed], lam[self._input_places]])
            terms = np.abs(ends) if measure else None
        # Whether a rank has H is its own affair, how often it exchanges is not.
        found = self.crossings.returned(ends)
        return Short(found, brought, np.abs(found) if terms is None else self.crossings.returned(terms))

    def _with_ghosts(self, ghosts: np.ndarray, brought: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """The solution at `_ends` by one more pass, ghosts being what interfaces brought."""
        ghosts[self._used] = brought
        return self.block.forward(ghosts, self.block.used, self._inputs, seeds, self._ends)

    def _with_interfaces(self, seeds: np.ndarray, brought: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The transpose: what ghosts get, and the solution at inputs."""
        both = np.zeros((len(self._ends), *seeds.shape[1:]))
        both[self._end_outputs] = seeds
        both[self._end_sent] += brought
        return self.block.backward(self._ends, both, self._inputs)

    def _again(self, seed: np.ndarray, brought: np.ndarray, transposed: bool) -> tuple[np.ndarray, float]:
        """The result by a pass that starts from what interfaces brought; its componentwise backward error.  Collective.

        Such a pass computes every row as substitution does, whose residual is rounding whatever the ghosts were
        (`Solver._rounding`).  What is left of the system are the rows between ranks: what a rank took for a ghost g
        against what its owner has there, y.  The residual of a row that reads g is B (y - g), no more of the terms
        |B| |g| that it adds up than |y - g| is of |g|; and transposed likewise.
        """
        with event("interface"), quiet():
            if transposed:
                ghosts, lam = self._with_interfaces(self._at(seed, self._outputs, self._output_places), brought)
                found = self.crossings.returned(np.concatenate([ghosts[self._fixed], lam[self._input_places]]))
                there = self.crossings.collected(ghosts[self._used], True)[self.crossings.mine]
            else:
                ends = self._with_ghosts(self._source_ghosts(seed), brought,
                                         self._at(seed, self._inputs, self._input_places))
                found = ends[self._end_outputs][self._output_places]
                there = self.crossings.collected(ends[self._end_sent], False)[self.crossings.reads]
            left, scale = (there - brought).ravel(), np.abs(brought).ravel()
            error = self._residual.largest(np.append(left, 0.0 * found), np.append(scale, 0.0 * found))
            return found, error  # infinite where a result is not finite

    def _source_ghosts(self, xdot: np.ndarray) -> np.ndarray:
        return self.crossings.source_ghosts(self.crossings.source_values(xdot))

    # -- through all rows ------------------------------------------------------------------------------------------

    def _through_all_rows(self, seed: np.ndarray, brought: np.ndarray, transposed: bool) -> np.ndarray:
        """The result from a solution in all rows, accepted on its residual; `brought`: what interfaces bring.
        Collective."""
        system = self.system
        begin, end = (system.outputs, system.inputs) if transposed else (system.inputs, system.outputs)
        y = self._zeros(seed, begin.ids, "seed")
        (self._seed_outputs if transposed else self._seed_inputs)(y, seed)
        self._accepted(y, transposed, brought)
        return y[end.ids]

    def _solve(self, y: np.ndarray, transposed: bool) -> None:
        self._prepare(transposed)
        self._accepted(y, transposed)

    def _accepted(self, y: np.ndarray, transposed: bool, brought: np.ndarray | None = None) -> None:
        """Solve in place, and accept the solution.  Collective."""
        checked = self._checks[transposed] != "none" and y.shape[1:] != (0,)
        if checked:
            b = self._work("seed", y.shape[1:])
            b[:] = y
        with event("interface"), quiet():
            self._all_rows(y, transposed, brought)
        if checked:
            self.info = {**self.info, "residual": self._check(y, b, transposed)}

    def _all_rows(self, y: np.ndarray, transposed: bool, brought: np.ndarray | None = None) -> None:
        """The three steps for a right-hand side anywhere and the solution everywhere: two passes over all rows, or one
        where it is known what interfaces bring."""
        block, crossings = self.block, self.crossings
        ghosts = np.zeros(0) if transposed else crossings.source_ghosts(y[crossings.source_rows])
        if brought is None:
            first = self._work("first", y.shape[1:])
            first[:] = y
            if not transposed and len(self._fixed):
                block.take_ghosts(ghosts, first)
            block.solve(first, transposed)
            brought = self._interfaces(block.to_ghosts(first)[self._used] if transposed else first[self._sent],
                                       transposed)
        if transposed:
            y[self._sent] += brought
            block.solve(y, True)
            y[crossings.source_rows] += crossings.at_sources(block.to_ghosts(y))
        else:
            ghosts[self._used] = brought
            block.take_ghosts(ghosts, y)
            block.solve(y, False)

    def _interfaces(self, values: np.ndarray, transposed: bool) -> np.ndarray:
        """Step 2: ghosts from what interface rows would be without, or transposed.  Collective."""
        look(self.system.comm)
        if self.coupling.n == 0:
            return np.zeros((0, *values.shape[1:]))
        if self._scan is not None:
            scan = self._scan
            return self._run(scan.backward(values, len(self._sent)) if transposed else scan.forward(values))
        assert self._gathered is not None
        z = self._gathered.solve(self.crossings.collected(values, transposed), transposed)
        return z[self.crossings.mine if transposed else self.crossings.reads]

    def _run(self, messages: Messages) -> Any:
        """The scan's messages over MPI.  Collective."""
        comm, answer = self.system.comm, None
        while True:
            try:
                partner, array, shape = messages.send(answer)
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
            with quiet():
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
        self.crossings.close()

    @property
    def memory(self) -> int:
        """Bytes this rank holds beside the system."""
        held: list[Any] = [self.block, self._residual, self._gathered, self._scan]
        maps = sum(a.nbytes for a in self._maps.values() if a is not None)
        return super().memory + maps + sum(h.nbytes for h in held if h is not None)


METHOD = Method("interface", cost, Interface, partition="contiguous")

__all__ = ["METHOD", "Interface", "cost"]
