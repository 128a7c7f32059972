"""What is linearized: a function at its arguments, which rank 0 runs and of whose tape every rank gets its share."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from .cancellation import look
from .comm import on_root, outside
from .errors import FallbackWarning, InputError
from .facts import Facts
from .graph import Structure, analyse
from .machine import current as current_machine
from .partition import (
    Holdings,
    LocalTape,
    Partition,
    distribute,
    homebound,
    partition,
    run_by_run,
    skeleton,
    structure,
    wants_petsc,
    whole,
)
from .petsc import start
from .program import record
from .solvers import method as method_of
from .solvers.held import Held
from .solvers.layouts import Judge, Prospects, Use
from .stages import Stages
from .tape import Site, Tape
from .tracing import Trace, locate
from .tracing.tree import flatten, fresh, laid, manner

LONG = 30.0  # seconds after which is said that the other ranks wait for the function to end


class Share(NamedTuple):
    """What a rank has once the function was traced and spread; the tape and the plan are gone."""

    facts: Facts  # the same on every rank
    local: LocalTape
    values: list[Any] | None  # that tracing left, one array a block, on a rank that has all of the program
    aux: Any


class Source:
    """A function, its arguments, and how `linearize` was told to take them; rank 0's count.

    Attributes
    ----------
    f, args, kwargs : what rank 0 calls; `move` changes the arguments
    settings : those that `linearize` takes, checked and the same on every rank
    prospects : what the layouts weighed would promise for more right-hand sides, where it was free to weigh several; on
        rank 0 of several
    """

    prospects: Prospects | None = None
    _tape: Tape | None = None  # on rank 0, if it has all of the program
    _skeleton: Tape | None = None  # on rank 0, of one whose runs lie on several ranks, if they can be looked at there
    _kept = False  # whether there is such a skeleton
    _manner: Any = None  # of the arguments that f was traced at
    otherwise = False  # the arguments are nested alike, but f may see another order of keys or of axes in memory

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, *,
                 comm: MPI.Comm, stages: Stages, settings: Mapping[str, Any], traced: Trace | None = None) -> None:
        self.f, self.args, self.kwargs, self.settings = f, tuple(args), dict(kwargs or {}), settings
        self._comm, self._stages = comm, stages
        self._traced = traced  # what running f gave, if somebody on one rank has done so
        self._how: dict[str, Any] = {
            "argnums": settings["argnums"], "kwargs": self.kwargs, "has_aux": settings["has_aux"]}

    @property
    def single(self) -> bool:
        """Whether it is differentiated by one argument, as such, not by a tuple of them."""
        return isinstance(self.settings["argnums"], int)

    def pack(self, values: tuple[Any, ...]) -> Any:
        """Per-argument values as the one tree the inputs are nested in."""
        argnums = self.settings["argnums"]
        expected = 1 if self.single else len(argnums)
        if len(values) != expected:
            raise InputError(f"{len(values)} arguments given for {expected} differentiated ones (argnums={argnums!r})")
        return values[0] if self.single else tuple(values)

    def move(self, args: tuple[Any, ...]) -> None:
        """Have the differentiated arguments be these: a retrace, or the search for a line, runs f there."""
        if self._comm.rank != 0:
            return
        argnums = self.settings["argnums"]
        moved = list(self.args)
        for number, arg in zip((argnums,) if self.single else argnums, args):
            moved[number] = arg
        self.args = tuple(moved)
        self.otherwise = not isinstance(self.f, Tape) and self._manner != self._manner_now()

    def _manner_now(self) -> Any:
        argnums = self.settings["argnums"]
        return manner([self.args[k] for k in ((argnums,) if self.single else argnums)])

    def laid(self, tree: Any) -> Any:
        """What is nested as the differentiated arguments, lying in memory as they do; on rank 0, which has them."""
        if self._comm.rank != 0:
            return tree
        argnums = self.settings["argnums"]
        return laid(tree, self.args[argnums] if self.single else tuple(self.args[k] for k in argnums))

    def has_value(self) -> bool:
        """Whether f, run once as it is, has a finite real result at the arguments.  On rank 0.

        A tape may have none where f goes another way, catching what an operation raises.
        """
        if isinstance(self.f, Tape):
            return False
        args, kwargs = fresh((self.args, self.kwargs))  # which f may write into
        quiet = {kind: "ignore" for kind, mode in np.geterr().items() if mode == "warn"}
        try:
            with np.errstate(**quiet):
                result = self.f(*args, **kwargs)
            leaves = flatten(result[0] if self.settings["has_aux"] else result, "the function's result")[0]
            return all(np.isrealobj(leaf) and bool(np.isfinite(leaf).all()) for leaf in leaves)
        except Exception:  # f's own: the caller tells what was raised on the tape
            return False

    def locate(self, node: int) -> Site | None:
        """The user's line that recorded a node of the whole tape, by running f once more; None where f is a tape, which
        holds no line of scalar code: whoever calls it did not write that.  On rank 0."""
        return None if isinstance(self.f, Tape) else locate(self.f, self.args, node=node, **self._how)

    def spread(self) -> Share:
        """Trace and partition; every rank gets its share, and what the function said of itself.  Collective."""
        comm = self._comm
        holdings = Holdings(comm, self._once) if comm.size > 1 and self._run_by_run else None
        traced, plan = self._record("read" if comm.size == 1 or self._alone else False, holdings)
        if comm.rank == 0:
            self._manner, self.otherwise = self._manner_now(), False
        values = None
        if traced is not None:  # on rank 0
            values, traced.values = traced.values, None
            if plan is not None and (plan.plan is not None or plan.everywhere):
                values = None  # every rank computes its own
        look(comm)
        with self._stages("partition"):
            tape: Any = traced.tape if comm.rank == 0 else None

            def known() -> tuple[Facts, bool]:
                if plan is not None and plan.plan is None:
                    self._tape = tape
                elif plan is not None and run_by_run(tape):
                    self._skeleton = skeleton(tape, plan.plan)
                facts = Facts.of(tape, plan, self.args, self.settings["argnums"], traced.elsewhere)
                return facts, self._skeleton is not None

            self._tape = self._skeleton = None
            facts, self._kept = on_root(comm, known)
        if comm.size == 1:
            local = whole(tape)
        else:
            with self._stages("share"):
                local = distribute(tape, plan, comm, self.settings["options"], holdings, self._kept)
        aux = on_root(comm, lambda: traced.aux)
        return Share(facts, local, values, aux)

    def record(self) -> tuple[Tape | None, Partition | None]:
        """The whole tape once more, and who owns what of it (None on one rank): on rank 0.  Collective."""
        traced, plan = self._record(False)
        return (traced.tape if self._comm.rank == 0 else None), plan

    @property
    def _alone(self) -> bool:
        """Whether rank 0 will probably have all of the program, so that the values of its trace are those of the point:
        where it is asked for, and where one derivative is all that is wanted."""
        partition = self.settings["partition"]
        return partition == "fewer ranks" or (partition == "auto" and self._once)

    @property
    def _once(self) -> bool:
        """Whether one derivative is all that is wanted."""
        solves = self.settings["solves"]
        return isinstance(solves, Use) and solves.once

    @property
    def _run_by_run(self) -> bool:
        """Whether long scalar code will be laid out run by run, so that its runs may leave while it is traced."""
        settings = self.settings
        suits = method_of(settings["method"]).partition if settings["method"] != "auto" else "auto"
        return (suits if settings["partition"] == "auto" else settings["partition"]) in ("auto", "contiguous", "levels")

    def structure(self, local: LocalTape) -> tuple[Structure, Held | None]:
        """The structure of the tape, found where its scalar runs lie, or on rank 0 if that has all of it; where ranks
        would have had to keep too much for it, by tracing f once more.  And what one rank would hold of it all, None
        where no rank sees all of it.  Collective."""
        if self._kept:
            return structure(self._comm, self._skeleton, local.stored, current_machine()), None

        def found() -> tuple[Structure, Held | None]:
            tape = self._tape or record(self.f, self.args, **self._how).tape
            return analyse(tape, current_machine()), Held.of(tape) if self._comm.size > 1 else None

        return on_root(self._comm, found)

    def _record(self, keep_values: str | bool,
                holdings: Holdings | None = None) -> tuple[Trace | Any, Partition | None]:
        """What f recorded, and who owns what of it (None on one rank): on rank 0.  Collective."""
        comm, plan = self._comm, None
        if self._traced is not None:
            traced, self._traced = self._traced, None
            return traced, None
        with self._stages("trace"), _told_if_long(comm):
            traced = _led(comm, holdings, lambda: record(self.f, self.args, keep_values=keep_values,
                                                         holdings=holdings, **self._how))
        if comm.size > 1:
            with self._stages("partition"):
                stay = homebound(traced.tape if comm.rank == 0 else None, comm)
                if comm.rank == 0:
                    traced.tape.homebound = stay
                if on_root(comm, lambda: wants_petsc(traced.tape, comm.size, *self._layout(traced.tape))):
                    start(comm)
                plan = _led(comm, holdings, lambda: self._plan(traced.tape, traced.values is not None, holdings))
        return traced, plan

    def _plan(self, tape: Tape, known: bool, holdings: Holdings | None) -> Partition:
        """Which layout, of all that are weighed with the method that suits each.  known: values of the point are."""
        settings, machine = self.settings, current_machine()
        use = Use.announced(settings["solves"], tape.n_inputs, tape.n_outputs)
        strategy, columns = self._layout(tape)
        judge = Judge(tape, use, machine, settings["method"], settings["preaccumulate"], known)
        assembled = settings["method"] != "auto" and method_of(settings["method"]).assembled
        if holdings is not None:
            holdings.settle(tape, leave=not use.once and strategy in ("auto", "levels"))
        share = not assembled and not use.once  # first factors over ranks take twice as long as one rank's own
        made = partition(tape, self._comm.size, strategy=strategy, min_block=settings["min_block"], machine=machine,
                         columns=columns, judge=judge, share=share)
        _tell_if_replaced(settings["partition"], made.name)
        self.prospects = judge.prospects(made) if len(made.candidates) > 1 and not made.everywhere else None
        if made.plan is None and holdings is not None:
            holdings.gather(tape)  # one rank has it all, or every rank
        elif made.plan is not None and made.plan.regrouped is not None and run_by_run(tape):
            made.supersede(tape, holdings.written if holdings is not None else None)
            if holdings is not None:
                holdings.forget()  # there are others on another tape
        return made

    def _layout(self, tape: Tape) -> tuple[str, int]:
        """How to partition, and for how many right-hand sides that come together."""
        settings = self.settings
        strategy = settings["partition"]
        if strategy == "auto" and settings["method"] != "auto":
            strategy = method_of(settings["method"]).partition
        return strategy, Use.announced(settings["solves"], tape.n_inputs, tape.n_outputs).split


def _tell_if_replaced(asked: str, made: str) -> None:
    """Warn where a program has nothing that the partitioner asked for by its name could place.  On rank 0."""
    why = {"axes": "there are no arrays to cut, and scalar lines are streamed to where their operands are",
           "streaming": "there are no scalar lines to stream, and arrays are cut along an axis",
           "levels": "there is no scalar code that could be regrouped by its levels, and arrays are cut along an axis"}
    if asked in why and asked not in made:
        warnings.warn(f"partition={asked!r} is {made!r} for this program: {why[asked]}. partition='auto' takes what "
                      "suits it; 'distdiff plan --partition NAME' tells what each comes to", FallbackWarning,
                      stacklevel=outside())


@contextmanager
def _told_if_long(comm: MPI.Comm) -> Iterator[None]:
    """While the function runs, on rank 0: one that communicates on `comm` itself would wait for ever, in silence.

    (It may hold Python's lock meanwhile, so that another rank has to say it.)
    """
    words = (f"distdiff: rank 1 has waited {LONG:g} s for rank 0 to run the function; one that communicates with other "
             "ranks itself will never end, as rank 0 alone runs it")
    teller = threading.Timer(LONG, lambda: print(words, file=sys.stderr, flush=True))
    teller.daemon = True
    if comm.rank == 1:
        teller.start()
    try:
        yield
    finally:
        teller.cancel()


def _led(comm: MPI.Comm, holdings: Holdings | None, work: Callable[[], Any]) -> Any:
    """`work()` on rank 0, while the others hold runs of the tape for it.  Collective."""
    if holdings is None:
        return on_root(comm, work, share=False)
    if comm.rank:
        holdings.serve()
        return on_root(comm, work, share=False)

    def speak() -> Any:
        with holdings.speaking():
            return work()

    return on_root(comm, speak, share=False)


__all__ = ["Share", "Source"]
