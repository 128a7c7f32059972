"""A PETSc KSP on I - L or on its explicit transpose, with errors that carry PETSc's reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI

from ..cancellation import Watch, unwatched, watch_of
from ..channels import Messages
from ..errors import CancelledError, ConvergenceError, InputError, MissingSolverError
from ..flags import ignored
from ..petsc import OPTION_ERRORS, PREFIX, Options, destroy, ended, petsc, reason
from ..petsc import options as petsc_options
from .residual import RTOL

LOOSE = 1e-6  # a residual above is the user's choice, but nobody should find it by accident
OF_ONE_RANK = {  # preconditioners that end the job on several (PETSc 3.18), or don't exist, and what to take instead
    "eisenstat": "use pc_type='sor', or 'bjacobi' with sub_pc_type='eisenstat'",
    "tfs": "use pc_type='lu' with pc_factor_mat_solver_type='mumps'",
    "ilu": "use pc_type='bjacobi' or 'asm', whose blocks have ILU by themselves (sub_pc_type='ilu')",
    "icc": "use pc_type='bjacobi' or 'asm' with sub_pc_type='icc'"}
NO_PACKAGE = 92  # PETSC_ERR_MISSING_FACTOR


class Square(Protocol):
    """What a KSP is for: a `TriangularSystem`, or a component of one."""

    comm: MPI.Comm
    n_local: int
    n_rows: int

    @property
    def mat(self) -> Any: ...
    @property
    def cyclic(self) -> bool: ...
    def matrix(self, comm: MPI.Comm) -> Any: ...
    def longest(self, transposed: bool) -> int: ...


class Ksp:
    """One KSP: creation, `solve`, `refresh` and `close` are collective.

    configure    sets types and defaults, before PETSc's options (prefix `distdiff_`) are read
    transpose    solve with an explicit transpose, for what can't solve transposed: a copy of the matrix
    remedy       what an error message advises
    alone        on a communicator of its own.  PETSc keeps SuperLU_DIST's process grid on the communicator and, at
                 least up to 3.18, frees it twice once a second factorization has used it: heap corruption

    Raises `MissingSolverError` for a package that this PETSc lacks, `ConvergenceError` where PETSc fails otherwise;
    what PETSc says of options goes through, for `petsc.options`.
    """

    def __init__(self, system: Square, who: str, configure: Callable[[Any], None], transpose: bool = False,
                 alone: bool = False, remedy: str = "method='substitution' needs nothing of PETSc's") -> None:
        PETSc = petsc()
        self.who, self.remedy, self._alone, self._transpose = who, remedy, alone, transpose
        self._watch: Watch | bool | None = None  # None until the monitor is there, False while nobody watches
        self._cancelled: CancelledError | None = None
        self.comm, self._watched = system.comm.Dup() if alone else system.comm, system.comm
        self._base = system.matrix(self.comm) if alone else system.mat
        self.mat = self._base.transpose(PETSc.Mat()) if transpose else self._base
        self._b, self._x = np.zeros(system.n_local), np.zeros(system.n_local)
        size = (system.n_local, system.n_rows)
        self._vecs = tuple(PETSc.Vec().createWithArray(a, size=size, comm=self.comm) for a in (self._b, self._x))
        self.ksp = PETSc.KSP().create(comm=self.comm)
        try:
            with self.reasons("set-up"):
                self.ksp.setOptionsPrefix(PREFIX)
                self.ksp.setOperators(self.mat)
                configure(self.ksp)
                self._require_apt()
                self._read_options()
                self._set_up()
        except BaseException:
            with suppress(PETSc.Error):  # what is half set up may refuse to go
                self.close()
            raise

    def _read_options(self) -> None:
        self.ksp.setFromOptions()

    def _require_apt(self) -> None:
        """Eisenstat's preconditioner fails at the first solve on several ranks, and crashes when it is destroyed; that
        of Tufo and Fischer does on three; that of variable point blocks fails on ranks in different calls.  So none is
        made."""
        kind = petsc().Options(PREFIX).getString("pc_type", "")
        if kind == "vpbjacobi":
            raise InputError(f"{self.who}: pc_type={kind!r} wants sizes of blocks, which nobody gives; use 'bjacobi' "
                             "or 'pbjacobi'")
        if self.comm.size > 1 and kind in OF_ONE_RANK:
            raise InputError(f"{self.who}: pc_type={kind!r} works on one rank only, and there are {self.comm.size}; "
                             f"{OF_ONE_RANK[kind]}")

    def _set_up(self) -> None:
        self.ksp.setUp()
        failed = self.ksp.getConvergedReason()
        if failed < 0:
            raise ConvergenceError(f"{self.who}: set-up failed ({reason_name(failed)}): entries may be too large or "
                                   f"not finite, or memory too small; {self.remedy}")

    def solve(self, b: np.ndarray, x: np.ndarray, transposed: bool = False) -> tuple[int, int]:
        """x <- the solution for b, (n_local,) each, from x = 0; returns the iterations and PETSc's converged reason."""
        self._b[:] = b
        self._x.fill(0.0)
        for vec in self._vecs:
            vec.stateIncrease()  # PETSc caches norms by state, and we have written into the arrays
        with self._cancellable(), self.reasons("the solve"), ignored():  # residuals tell what is lost
            solve = self.ksp.solveTranspose if transposed else self.ksp.solve
            Messages.elsewhere(lambda: solve(*self._vecs))
        x[:] = self._x
        return self.ksp.getIterationNumber(), self.ksp.getConvergedReason()

    @contextmanager
    def _cancellable(self) -> Iterator[None]:
        """Let the solve inside end early where somebody watches: between iterations, by PETSc's own limit on them.

        An exception would leave PETSc's vectors locked.  Raises `CancelledError` afterwards.
        """
        watch = watch_of(self._watched)
        if watch is None:
            yield
            return
        if self._watch is None:
            self.ksp.setMonitor(self._look)  # from now on: monitors can't be taken away one by one
        most = self.ksp.getTolerances()[3]
        self._watch, self._cancelled = watch, None
        try:
            with unwatched():  # by the passes that precondition
                yield
        finally:
            self._watch = False
            self.ksp.setTolerances(max_it=most)
        if self._cancelled is not None:
            raise self._cancelled

    def _look(self, ksp: Any, iteration: int, norm: float) -> None:
        if self._watch and self._cancelled is None:
            try:
                self._watch.look()
            except CancelledError as error:
                self._cancelled = error
                ksp.setTolerances(max_it=iteration)

    def refresh(self) -> None:
        """The system's values have changed; `TriangularSystem.refresh` has told its own matrix."""
        with self.reasons("set-up"):
            if self._alone:
                self._base.stateIncrease()
                if self.comm.size > 1:
                    self._base.assemble()
            if self._transpose:
                self.mat = self._base.transpose(self.mat)
            self.ksp.setOperators(self.mat)
            self._set_up()

    @contextmanager
    def reasons(self, what: str) -> Iterator[None]:
        """PETSc's errors inside as `ConvergenceError` or `MissingSolverError`, saying what failed and why."""
        PETSc = petsc()
        try:
            yield
        except PETSc.Error as error:
            if error.ierr in OPTION_ERRORS and what == "set-up":
                raise
            if error.ierr == NO_PACKAGE:
                raise MissingSolverError(f"{self.who}: this PETSc has no such package ({reason(error)}); choose "
                                         "another, or a PETSc configured with it") from error
            raise ConvergenceError(f"{self.who}: {what} failed with PETSc error {error.ierr} ({reason(error)}); "
                                   f"{self.remedy}") from error

    @property
    def nbytes(self) -> int:
        return self._b.nbytes + self._x.nbytes

    def close(self) -> None:
        destroy(self.ksp, *self._vecs, *[self.mat] * self._transpose, *[self._base] * self._alone)
        if self._alone and not ended():
            self.comm.Free()


class Ksps:
    """The KSPs of one solver: of I - L, and of its explicit transpose, each made when first asked for.  Collective.

    make(given, transpose) makes one while PETSc's options hold those `given` to the solver.
    """

    def __init__(self, options: Mapping[str, Any], who: str, make: Callable[[Options, bool], Ksp]) -> None:
        self._options, self._who, self._make = options, who, make
        self._kept: dict[bool, Ksp] = {}

    def first(self, given: Options) -> tuple[Ksp, float]:
        """The KSP of I - L, made within the solver's own options, and the tolerance they ask for."""
        ksp = self._kept[False] = self._make(given, False)
        try:
            return ksp, relative_tolerance(ksp.ksp)
        except BaseException:
            self.close()
            raise

    def __getitem__(self, transpose: bool) -> Ksp:
        if transpose not in self._kept:
            with petsc_options(self._kept[False].comm, self._options, self._who, told=True) as given:
                self._kept[transpose] = self._make(given, transpose)
        return self._kept[transpose]

    def refresh(self) -> None:
        """The system's values have changed."""
        for ksp in self._kept.values():
            ksp.refresh()

    @property
    def nbytes(self) -> int:
        return sum(ksp.nbytes for ksp in self._kept.values())

    def close(self) -> None:
        for ksp in self._kept.values():
            ksp.close()
        self._kept = {}


def finite_tolerances(ksp: Any) -> None:
    """PETSc's tolerances where the user gives none: divtol out of the way, for a non-normal system may grow by many
    orders of magnitude before it ends exactly."""
    ksp.setTolerances(rtol=RTOL, atol=1e-300, divtol=1e300)


def relative_tolerance(ksp: Any) -> float:
    """ksp_rtol; raises `InputError` if any result at all would do."""
    rtol = float(ksp.getTolerances()[0])
    if not rtol < 1.0:
        raise InputError(f"ksp_rtol={rtol:g} would accept any result, zero included, since the residual is relative; "
                         "give a tolerance below 1, or leave it out")
    return rtol


def reason_name(number: int) -> str:
    """PETSc's name of a converged reason, DIVERGED_MAX_IT for -3."""
    reasons = vars(petsc().KSP.ConvergedReason)
    return next((name for name, value in reasons.items() if isinstance(value, int) and value == number), str(number))
