"""The solvers of a tape at a point: chosen, made when asked for, refreshed at another, replaced where they fail."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from .assembly import Assembly
from .cancellation import apart, look
from .comm import agreed, on_root, require_sound, sound, tell, together
from .errors import CancelledError, ConvergenceError, OverdueError, PrecisionWarning, RangeError
from .evaluate import Point
from .flags import Watched
from .machine import current as current_machine
from .nonfinite import all_finite
from .partials import rounded
from .partition.local import LocalTape
from .petsc import PREFIX
from .solvers import method as method_of
from .solvers.exponents import Exponents
from .solvers.failures import Failures
from .solvers.kept import expected_kept, kept_by
from .solvers.layouts import Advice, Prospects
from .solvers.measured import Clock, Measured
from .solvers.ranges import Found, Ranges, weights
from .solvers.select import Choice, choose
from .solvers.work import BATCH, Work
from .solvers.work import count as count_work
from .spanning import PART
from .stages import Stages
from .system import TriangularSystem

if TYPE_CHECKING:
    from .solvers.structured import StructuredSystem

FEW = 4  # right-hand sides at a point that nobody thinks about
WIDE = 1 << 32  # bytes that all lines may take on a rank, written out where no seed stays in range
LEAVES = ("the derivative's tangents or adjoints leave the range of double precision on their way, from every seed: "
          "what is rounded to nothing in one place is needed in another")
ROOMY = 1 << 28  # bytes that a method may take on a rank though nobody asked for it, or as many as all values take


def _weakly(owner: object, name: str) -> Callable[..., Any]:
    """A method of an object, which it does not keep: so this is in no cycle, and the memory of a tape that nobody has
    any more is there at once."""
    here = weakref.ref(owner)
    return lambda *given: getattr(here(), name)(*given)


class Expected:
    """How many right-hand sides will still come at a point, by what came so far.

    As many as came at it already, or as came at each of the last two points that had any: what a faster method takes to
    set up is then at most about what it saves, and where every point brings one, one is expected.
    """

    def __init__(self) -> None:
        self.here = 0
        self._before: list[int] = []

    def leave(self) -> None:
        """Another point."""
        if self.here:
            self._before = [*self._before[-1:], self.here]
        self.here = 0

    def come(self, count: int) -> int:
        """`count` more are here: how many that makes with those expected, a power of two where it is more than them."""
        usual = min(self._before) if len(self._before) == 2 else 0
        more = max(self.here, usual - self.here - count)
        self.here += count
        return 1 << (count + more - 1).bit_length() if more >= FEW else count


class Solving:
    """What solves with one rank's share of a tape.  Everything is collective on `comm`.

    `team` are the ranks that share one copy of the program: `comm`, or each rank alone.  once: no other right-hand
    sides will come than those announced, and no other point.  points: so many of them the method is chosen for.
    by_itself: one of several ranks has all of it and meets the others after a solve only.  `arrive` gives it the point,
    `leave` comes before another one.

    Attributes
    ----------
    choice : the method selected last, and why
    size : lines and statements of the busiest rank
    expected : right-hand sides that a method was last looked for, of those that came and as many again
    solvers : by method, those made so far; assembly : the PETSc system, or None
    """

    choice: Choice

    def __init__(self, local: LocalTape, comm: MPI.Comm, team: MPI.Comm, stages: Stages, *, method: str,
                 options: Mapping[str, Any], preaccumulate: bool, on_failure: str,
                 once: bool = False, by_itself: bool = False, points: int = 1) -> None:
        self._local, self._comm, self._team, self._stages = local, comm, team, stages
        self.method, self._options, self._preaccumulate = method, options, preaccumulate
        self._points = points
        size = count_work(local, comm)
        self.size: Work = replace(size, once=once, ranks=1 if by_itself else size.ranks)
        self.solvers: dict[str, Any] = {}
        self.assembly: Any = None
        self._kept: tuple[int, int] | None = None  # rows and nonzeros of the assembled system
        self._lossy = False  # its elimination has rounded products of partials to nothing, on some rank
        self._failures = Failures(comm, on_failure)
        self._choices: dict[tuple[Work, int], Choice] = {}
        self._operator: Any = None  # I - L on all nodes, for PETSc users
        self._stale: set[str] = set()  # solvers, and "assembly", that hold the values of an earlier point
        self._point: Any = None
        self._expected = Expected()
        self.expected = 0
        self._clock = Clock()
        self._lines: Any = None  # all of them, assembled, and what solves with them beyond the range of doubles
        self._wide: Any = None
        self._beyond: set[bool] = set()  # directions in which that was asked for at this point
        self._rounded = False  # whether partials of this point are below the normal numbers, as far as is known
        self._ranges = Ranges(comm, team, *(_weakly(self, name) for name in (
            "_once", "_overflows", "_partials_rounded", "_slope", "_tell_of_partials")))

    def arrive(self, point: Point) -> None:
        """The point whose values count from now on."""
        self._point = point
        if self._operator is not None:
            self._operator.refresh(point)

    def leave(self) -> None:
        """The values are about to be overwritten."""
        self._failures.clear()
        self._ranges.leave()
        self._rounded = False
        self._narrow()
        self._expected.leave()
        self._stale = set(self.solvers) | ({"assembly"} if self.assembly is not None else set())
        self._point = None

    def look_again(self, point: Point) -> None:
        """The same point, whose partials have changed."""
        self._stale = set(self.solvers) | ({"assembly"} if self.assembly is not None else set())
        self.arrive(point)
        self._prepare()

    def select(self, columns: int, together: int = BATCH, come: int = 0) -> None:
        """Choose the method for that many right-hand sides, `together` in a pass, and have its solver ready.

        come: so many are here; where more were at this point, or usually are, a faster method that will have paid is
        taken.
        """
        self.choice = self._failures.instead_of(self._for_more(self.choose(columns, together), columns, together, come))
        self._prepare()

    def _for_more(self, choice: Choice, columns: int, together: int, come: int) -> Choice:
        """The method that is cheapest from here on, its set-up included, for as many as are expected."""
        self.expected = expected = self._expected.come(come)
        if self.method != "auto" or expected <= max(columns, come):
            return choice
        found = self.choose(expected, together, onward=True)
        memory = next(c.memory for c in found.candidates if c.method == found.method)
        return found if found.method in self.solvers or memory <= max(ROOMY, 8 * self.size.nodes) else choice

    def solve(self, forward: bool, seed: np.ndarray) -> np.ndarray:
        """A solve by the method selected or, if that fails, by another.

        `seed` is at this rank's inputs and the result at its outputs, or the other way round unless `forward`.
        """
        if seed.ndim > 1 and seed.shape[1] == 1:  # as a vector: loops over columns take 2 to 3 times as long for one
            return self.solve(forward, seed[:, 0])[:, None]
        found = self._ranges.solve(forward, seed)
        if found is None:
            self._widen()
            self._beyond.add(forward)
            with self._stages("solve"), together(self._comm), apart(self._comm, self._team):
                found = self._wide.tangent(seed) if forward else self._wide.adjoint(seed)
        elif self._lossy and method_of(self.choice.method).assembled and not self._ranges.stands(seed, found):
            self._assemble_anew(False)
            self._lossy = False
            self._prepare()
            return self.solve(forward, seed)
        return found

    def _widen(self) -> None:
        """Have what solves where every seed leaves the range of doubles, or raise `RangeError`.  Collective."""
        if self._wide is not None:
            return
        full = 8 * (self.size.nodes + self.size.nonzeros) * 6  # entries, expanded and stored, values and exponents
        cannot = ("they are lines of several ranks' equations" if self.size.shared else
                  "implicit statements are among the lines" if self.size.cyclic else
                  f"writing all lines out would take {full / 1e9:.2g} GB" if full > WIDE else
                  "on_failure='raise' asks for an error" if self._failures.final else "")
        if cannot:
            raise RangeError(f"{LEAVES}, and substitution with exponents of their own is no way out: {cannot}. Scale "
                             "the function's variables, so that partial derivatives are nearer to 1")
        self._failures.warn(f"{LEAVES}; substitution on all lines, with exponents of their own, solves instead at this "
                            "point, which takes far longer")
        self._lines = Assembly(self._local, self._point, self._team, False, self._stages)
        self._wide = Exponents(self._lines.system)

    def _narrow(self) -> None:
        if self._lines is not None:
            self._lines.close()
        self._lines = self._wide = None
        self._beyond.clear()

    @property
    def ranges(self) -> str:
        """How solves at this point stay within the range of doubles, where they leave it by themselves; else empty."""
        told = []
        for forward, power in self._ranges.powers.items():
            what = "tangents" if forward else "adjoints"
            if forward in self._beyond:
                told.append(f"{what} leave the range of double precision from every seed: substitution on all lines, "
                            "with exponents of their own")
            elif power:
                told.append(f"{what} are solved from seeds times 2^{power}, as they leave the range of double "
                            "precision on their way")
        return "; ".join(told)

    def _once(self, forward: bool, seed: np.ndarray, trial: bool) -> Found:
        """The same, whatever is lost."""
        name = self.choice.method
        solver, began = self.solvers[name], time.perf_counter()
        try:
            with self._stages("solve"), together(self._comm) as told:
                with Watched() as seen, apart(self._comm, self._team):
                    found = solver.tangent(seed) if forward else solver.adjoint(seed)
                told.numbers = seen.under, seen.over
            self._clock.note(name, seed.shape[1] if seed.ndim > 1 else 1, time.perf_counter() - began)
            under, over = told.numbers
            infinite = bool(over) and self._comm.allreduce(not all_finite(found), op=MPI.LOR)  # infinity travels
            return Found(found, bool(under), infinite)
        except ConvergenceError as error:
            require_sound(self._comm)
            if trial and getattr(solver, "takes_norms", False):
                return Found(seed, False, True)
            self._fall_back(error)
            return self._once(forward, seed, trial)
        except Exception as error:
            if not trial or not self._refused(error):
                raise
            return Found(seed, False, True)

    def _overflows(self, power: int) -> bool:
        """Whether a solve with random numbers of size 2^power in all rows does, on any rank, or a rule refuses them."""
        from .solvers.structured import StructuredSystem

        try:
            with self._stages("solve"), together(self._comm) as told:
                system = StructuredSystem(self._local, self._point, self._team)
                given = weights(system.n_own, power, self._comm.rank)
                with Watched() as seen, apart(self._comm, self._team):
                    system.backward(given)
                told.numbers = seen.over, False
        except Exception as error:
            if not self._refused(error):
                raise
            return True
        return bool(told.numbers[0])

    def _partials_rounded(self, look: bool) -> bool:
        """Whether partials of some rank are known to be below the normal numbers; `look`: see whether they are."""
        if look and not self._rounded:
            with agreed(self._comm):
                mine = rounded(self._local, self._point) != ""
            self._rounded = bool(self._comm.allreduce(mine, op=MPI.LOR))
        return self._rounded

    def _slope(self) -> int:
        """log2 of f over x, or over 1 where x is smaller."""
        values = self._point.values.gather(self._local.inputs.ids)
        sizes = np.array([np.abs(self._point.outputs()).max(initial=0.0), np.abs(values).max(initial=1.0)])
        self._comm.Allreduce(MPI.IN_PLACE, sizes, op=MPI.MAX)
        y, x = np.frexp(sizes)[1].tolist()
        return int(y - x) if sizes[0] > 0.0 else -4000

    def _tell_of_partials(self) -> None:
        """Warn, or raise where a failure is an error, that partials of this point are too small for doubles."""
        where = next((site for site in self._comm.allgather(rounded(self._local, self._point)) if site), "a line")
        what = (f"a partial derivative of {where} is below 2.2e-308, the least normal number, and what rounding leaves "
                "of it may not be enough: this derivative may be wrong. Scale the function's variables, so that "
                "partial derivatives are nearer to 1")
        if self._failures.final:
            raise RangeError(what)
        tell(self._comm, what, PrecisionWarning)

    def _refused(self, error: Exception) -> bool:
        """Whether an error may be a rule's, of numbers that nobody asked for, and all ranks have it."""
        return bool(self._local.joint) and sound(self._comm) and not isinstance(error, CancelledError | OverdueError)

    def another_way(self, forward: bool) -> bool:
        """After a result that is not finite: whether there is another way to solve, which is taken from now on.

        Partials may multiply in the order of the lines.  A walk does so, but 0 * inf on a line that no result reads is
        NaN there, where elimination finds nothing: what is chosen where walks are not is asked for as well.  Then seeds
        may be smaller.
        """
        if self.choice.method == "walk" and self.method == "auto":
            self.size = replace(self.size, once=False)
            self.select(1, 1)
            return True
        if self.solvers[self.choice.method].multiply_in_order(forward):
            return True
        return self._ranges.may_overflow(forward)

    def choose(self, columns: int, together: int = BATCH, onward: bool = False) -> Choice:
        """Rank 0's choice of a method for all points, made once for the same job; `onward`: for the rest of this point,
        what is set up already costing nothing."""
        if columns > 1 and self._kept is None:
            full = self.size.nodes, self.size.nonzeros + self.size.nodes
            self._kept = expected_kept(self._local, self._comm) if self._preaccumulate else full
        job, points = (self.work(together, onward), columns), 1 if onward else self._points
        if job not in self._choices:
            self._choices[job] = on_root(self._comm, lambda: choose(*job, current_machine(), self.method, points))
        return self._choices[job]

    def pass_seconds(self, columns: int) -> float | None:
        """Predicted seconds of one more pass with so many right-hand sides, by the method chosen, which is ready; None
        where it has no prediction.  Local, on rank 0."""
        work = replace(self.work(columns, onward=True), planned=True, little=self.little)
        once, twice = (method_of(self.choice.method).cost(work, m, current_machine()).seconds
                       for m in (columns, 2 * columns))
        return None if once is None or twice is None else twice - once

    @property
    def little(self) -> bool:
        """Whether the method chosen keeps little of wide solutions, as it finds out at the second of them.  Local."""
        return getattr(self.solvers.get(self.choice.method), "little", False)

    def measured(self) -> Measured | None:
        """What further solves by the method chosen took, and what was predicted, on rank 0.  Collective."""
        return on_root(self._comm, lambda: self._clock.measured(self.choice.method, self.pass_seconds))

    def advice(self, prospects: Prospects | None, announced: int) -> Advice | None:
        """The layout that would have suited the right-hand sides that come, where they are more than were announced."""
        if prospects is None or self.expected <= announced:
            return None
        return prospects.advice(self.expected, self.work(1))

    def work(self, together: int = BATCH, onward: bool = False) -> Work:
        """The job as the cost model sees it now.  Local."""
        there = self.assembly is not None
        rows, nonzeros = self._kept or (None, None)
        return replace(self.size, kept_rows=rows, kept_nonzeros=nonzeros, together=together,
                       assembled=there and "assembly" not in self._stale, expanded=onward and there,
                       planned=onward and "sweep" in self.solvers)

    def assemble(self) -> None:
        """The PETSc system with the values of this point."""
        if self.assembly is None or "assembly" in self._stale and not self.assembly.refresh(self._point):
            self._assemble_anew(self._preaccumulate)
        lost = self._comm.allreduce(2 * self.assembly.lossy + (self._rounded or self.assembly.rounded), op=MPI.BOR)
        self._lossy, self._rounded = bool(lost & 2), bool(lost & 1)
        self._stale.discard("assembly")

    def _assemble_anew(self, preaccumulate: bool) -> None:
        """The PETSc system at this point, and none of the solvers of one that there was."""
        if self.assembly is not None:
            for name in [name for name in self.solvers if method_of(name).assembled]:
                self.solvers.pop(name).close()
                self._stale.discard(name)
            self.assembly.close()
            self.assembly = None
        self.assembly = Assembly(self._local, self._point, self._team, preaccumulate, self._stages)
        system = self.assembly.system
        self._kept = kept_by(system.n_local, system.own.nnz + system.ghost.nnz, self._comm)

    def counts(self, assemble: bool) -> tuple[int | None, int | None]:
        """Rows and entries of the PETSc system, if there is one or it is to be assembled for them."""
        with self.looked_at(assemble) as system:
            return (system.n_rows, system.nnz) if system is not None else (None, None)

    @contextmanager
    def looked_at(self, assemble: bool) -> Iterator[TriangularSystem | None]:
        """The PETSc system, or None while there is none; `assemble`: made for the look, and gone after it."""
        for_the_look, kept = assemble and self.assembly is None, self._kept
        if for_the_look:
            self.assemble()
        try:
            yield self.assembly.system if self.assembly is not None else None
        finally:  # looking changes nothing: no later update has to refresh a matrix that nobody solves with
            if for_the_look:
                self.assembly.close()
                self.assembly, self._kept = None, kept

    def operator(self, keep: bool) -> StructuredSystem:
        """I - L of the whole program, the same one at every call."""
        if self._operator is None:
            from .solvers.structured import StructuredSystem

            self._operator = StructuredSystem(self._local, self._point, self._comm, keep=keep)
        return self._operator

    @property
    def memory(self) -> int:
        """Bytes on this rank."""
        held = [thing for thing in (*self.solvers.values(), self.assembly, self._lines) if thing is not None]
        return sum(getattr(thing, "memory", 0) for thing in held) + (
            self._operator.nbytes if self._operator is not None else 0)

    def close(self) -> None:
        """Free all of them; they are made anew when asked for."""
        self._narrow()
        for held in (*self.solvers.values(), self.assembly, self._operator):
            if held is not None:
                held.close()
        self.solvers, self._stale = {}, set()
        self.assembly = self._operator = self._point = None

    def _prepare(self) -> None:
        name = self.choice.method
        if name in self.solvers and name not in self._stale:
            return
        try:
            with together(self._comm), np.errstate(all="ignore"):
                self._make(name)
        except ConvergenceError as error:
            self._fall_back(error)

    def _fall_back(self, error: ConvergenceError) -> None:
        """Have another method's solver ready, the chosen one having failed; or raise the error."""
        require_sound(self._comm)
        self._failures.add(self.choice.method, error)
        self.choice = self._failures.instead_of(self.choice)
        self._prepare()

    def _say_what_is_not_read(self, name: str) -> None:
        """Warn of PETSc's options for a method that takes none, and for equations where ranks share none."""
        given = list(map(str, self._failures.options(self._options)))
        blocks = [key for key in given if key.lstrip("-").removeprefix(PREFIX).startswith(PART)]
        if methods := [key for key in given if key not in blocks]:
            chosen = "" if self.method == name else ", which was chosen here,"
            tell(self._comm, f"options were given and not read ({', '.join(methods)}): method {name!r}{chosen} is not "
                             "PETSc's; with method='krylov', 'direct' or 'petsc' they count")
        if blocks and self._comm.size > 1 and not self.size.shared:  # on one rank none ever is
            tell(self._comm, f"options were given and not read ({', '.join(blocks)}): they are for equations that "
                             "several ranks share, and there is none: report() says why")

    def _make(self, name: str) -> None:
        """The method's solver, with the values of this point."""
        method = method_of(name)
        look(self._comm)
        if name not in self.solvers:
            if method.assembled:
                self.assemble()
                look(self._comm)
                with self._stages("set up"):
                    self.solvers[name] = method.make(self.assembly.system, self._failures.options(self._options))
            else:
                self._say_what_is_not_read(name)
                with self._stages("plan"), agreed(self._comm):
                    self.solvers[name] = method.make(self._local, self._point, self._team)
        elif name in self._stale:
            if method.assembled:
                self.assemble()
                look(self._comm)
                if name not in self.solvers:  # assembled anew
                    self._make(name)
                    return
            self.solvers[name].refresh(self._point)
            self._stale.discard(name)
        look(self._comm)  # a factorization was carried through
