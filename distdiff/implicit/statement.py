"""Implicit statements: y with R(y, x) = 0 as an elemental, and how one gets on a tape.

    (dR/dy) ydot = -(dR/dx) xdot          (dR/dy)^T lam = ybar,  xbar = -(dR/dx)^T lam

R is recorded on nodes that stand for y, at the solution, by the trace that is running; what it reads from before, given
to it or found by it in its surroundings, is what y depends on.  The recorded lines go to the elemental as a tape of
their own; on the tape around it nothing but the decisions among them stays, so that the branch taken at the solution is
guarded like any other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from operator import index
from typing import Any

import numpy as np

from ..errors import InputError
from ..evaluate import evaluate_items
from ..graph import nonzeros
from ..nested import NestedLinearization
from ..ops import Elemental, Share, System
from ..tape import Affine, Const, Joint, Operand, Tape
from ..tracing import patching, plain_value, running
from ..tracing.array import TracedArray, is_traced, rearranged, single
from ..tracing.boxes import whole
from ..tracing.recorder import Recorder
from ..tracing.transplant import Nodes, extracted, primals_of, spliced
from .equation import Equation, cycles
from .forward import MINIMIZERS, ROOTS, Settings, as_vector, solve, solved

Residual = Callable[[Any], tuple[Any, ...]]  # y, flat and traced -> (R,) or (R, objective), R flat


@dataclass(frozen=True, eq=False, repr=False)
class Implicit(Elemental):
    """y with R(y, x) = 0: operands are the first guess, on which y does not depend, and what R reads.

    A second result says whether the solution was found: always 1.0, but where R takes decisions (`guarded`) 0.0, for
    another branch than the recorded one may be right then, and the function is to be traced again.

    tape      R, or (R, objective), a function of what it reads (its own x's) and, last, of y; nothing else of R is
              kept, so files hold it (`storage.elementals`)
    settings  how it is solved
    where     the user's line
    """

    tape: Tape
    settings: Settings
    guarded: bool
    where: str

    name = "implicit"
    inert = frozenset((0,))
    implicit = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", _plain(*self.settings))
        _require_fitting(self.tape, self.settings)
        if type(self.guarded) is not bool or type(self.where) is not str:
            raise InputError(f"guarded is true or false and where is text, not {self.guarded!r} and {self.where!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("equation", "turn")}

    @cached_property
    def equation(self) -> Equation:
        return Equation(self.tape, self.where)

    @cached_property
    def turn(self) -> Any:
        """Held while the equation is at a point: linearizations of one tape have it in common, whatever thread is at
        work on them."""
        return threading.RLock()

    @cached_property
    def lines(self) -> int:
        return self.tape.lines  # counted once: equations may be within equations

    @property
    def n(self) -> int:
        return self.tape.outputs[0].shape[0]

    @cached_property
    def core_in(self) -> tuple[tuple[int, ...], ...]:
        return ((self.n,), *(leaf.shape for leaf in self.tape.inputs[:-1]))

    @property
    def core_out(self) -> tuple[tuple[int, ...], ...]:
        return ((self.n,), ())

    @cached_property
    def cycles(self) -> np.ndarray:
        return cycles(self.tape)

    @property
    def flags(self) -> int:
        return 1

    @property
    def reads(self) -> frozenset[int]:
        return frozenset((-1, *range(1, len(self.core_in))))

    def stored(self, active: Sequence[int]) -> int:
        """Those of the equation: its solution's derivative is never written out."""
        return self.n + nonzeros(self.tape)

    def shares(self, n_ranks: int) -> list[Share] | None:
        from .shared import shares

        return shares(self, n_ranks)

    @property
    def how(self) -> str:
        found = vars(self).get("equation")  # others have not been solved here
        return "" if found is None else found.how

    @property
    def alone(self) -> str:
        from .shared import reason_against

        return reason_against(self)

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        known = as_vector(x[1:])
        with self.turn:
            return solved(lambda y: self.equation.at(y, known), x[0], self.n, self.settings, self.where, self.guarded,
                          self.near)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        if any(map(is_traced, (y[0], *x[1:], *xdot[1:]))):
            at = self._nested(y, x)
            given = [np.zeros(core) if t is None else np.reshape(t, core)
                     for core, t in zip(self.core_in[1:], xdot[1:])]
            c = at.jvp(np.zeros(self.n), *given)
            zero = [np.zeros(core) for core in self.core_in[1:]]
            return statement(lambda ydot: (at.jvp(ydot, *zero) + c,), np.zeros(self.n), _LINEAR), None
        columns = next(t.shape[:t.ndim - len(core)] for core, t in zip(self.core_in[1:], xdot[1:]) if t is not None)
        given = [np.zeros((*columns, prod(core))) if t is None else np.reshape(t, (*columns, prod(core)))
                 for core, t in zip(self.core_in[1:], xdot[1:])]
        flat = np.concatenate(given, axis=-1).reshape(prod(columns), -1)
        with self.turn:
            ydot = self.equation.at(y[0], as_vector(x[1:])).tangent(np.ascontiguousarray(flat.T))
        return ydot.T.reshape(*columns, self.n), None

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        if ybar[0] is None:
            return [None] * len(wanted)
        if any(map(is_traced, (y[0], *x[1:], ybar[0]))):
            at = self._nested(y, x)
            seed = np.reshape(ybar[0], (self.n,))
            lam = statement(lambda v: (at.vjp(v)[0] - seed,), np.zeros(self.n), _LINEAR)
            return [None, *at.vjp(-lam)[1:]]
        columns = ybar[0].shape[:-1]
        seeds = np.ascontiguousarray(ybar[0].reshape(prod(columns), self.n).T)
        with self.turn:
            xbar = self.equation.at(y[0], as_vector(x[1:])).adjoint(seeds)
        ends = np.cumsum([prod(core) for core in self.core_in[1:]])
        return [None, *(part.T.reshape(*columns, *core)
                        for part, core in zip(np.split(xbar, ends[:-1]), self.core_in[1:]))]

    def system(self, y: Sequence[np.ndarray], x: Sequence[np.ndarray]) -> System | None:
        with self.turn:
            found = self.equation.at(y[0], as_vector(x[1:])).jacobian()
        if found is None:
            return None
        pattern, data = found
        columns = np.where(pattern.indices < self.n, pattern.indices, pattern.indices + 1 + self.n)
        return System(np.append(pattern.indptr, pattern.indptr[-1]), columns, -data, self.n)

    def _nested(self, y: Sequence[Any], x: Sequence[Any]) -> NestedLinearization:
        """R at (y, x) inside the trace that is running."""
        rec = running()
        assert rec is not None

        def residual(y: Any, *x: Any) -> Any:
            return spliced(rec, self.tape, (*x, y), evaluate_items)[0]

        z = [np.reshape(part, core) for part, core in zip((y[0], *x[1:]), self.core_in)]
        return NestedLinearization(residual, tuple(z), argnums=tuple(range(len(z))))


def _plain(method: str, tol: float, most: int, kind: str, leaves: tuple[int, ...]) -> Settings:
    """Settings of Python's own numbers, whoever's they were."""
    return Settings(method, float(tol), index(most), kind, tuple(map(index, leaves)))


def _require_fitting(tape: Tape, settings: Settings) -> None:
    """Raise `InputError` unless a tape has as many residuals as its last input has unknowns, settings that fit, and,
    where these ask for a minimum, an objective."""
    settings.checked(("newton", "iterate", *ROOTS, *MINIMIZERS))
    shapes, unknown = [leaf.shape for leaf in tape.outputs], tape.inputs[-1].shape
    n = sum(settings.leaves)
    objective = settings.kind == "minimum" or settings.method in MINIMIZERS
    fits = n > 0 and min(settings.leaves) >= 0 and unknown == (n,)
    if not fits or shapes != [(n,), ()] and (objective or shapes != [(n,)]):
        raise InputError(f"an equation with results of shapes {shapes} is none for unknowns of shape {unknown}, "
                         f"{settings}")


_LINEAR = Settings("newton", 1e-10, 10, "linear")


def statement(residual: Residual, y0: Any, settings: Settings, where: str = "") -> TracedArray:
    """y, flat and traced, with residual(y)[0] = 0, as an implicit statement of the trace that is running.

    residual: of traced y, (n,); called at the first guess and at the solution, and, as long as it takes decisions, at
    every step between.  y0: the first guess, (n,), traced or not.  where: the user's line, if not the one that runs.
    """
    rec = running()
    assert rec is not None
    try:
        return _recorded(rec, residual, y0, settings, where)
    except Exception:  # the function may catch it
        rec.failed()
        raise


def _recorded(rec: Recorder, residual: Residual, y0: Any, settings: Settings, where: str) -> TracedArray:
    """`statement`, on that trace."""
    rec.keep()
    rec.meet_joint()
    rec.dead = True
    guess = np.array(plain_value(y0), dtype=np.float64)
    n = len(guess)
    if not settings.leaves:
        settings = settings._replace(leaves=(n,))
    where = where or str(rec.tape.sites[rec.site()])
    recording = _Recording(rec, residual, where)
    with patching.suspended():
        steps: list[int] = []
        y = solve(recording.at, guess, settings, where, steps=steps)
    start: Operand = Const(guess)
    if is_traced(y0):
        start = single(rec, y0, (n,))
    # The statement's results come first on the tape, then the lines of R that are recorded on them, and then, in
    # between, the statement, which is known when R has been read.
    before = rec.decisions()
    rec.flush()
    site, block = rec.site(), rec.new_block((n + 1,), np.append(y, 1.0))
    first = len(rec.tape.items)
    unknown = rearranged(rec, y.copy(), whole((n,), Affine(block, 0, (1,))))
    tape, captured = recording.record(unknown, block, first)
    op = Implicit(tape, settings, rec.decisions() != before, where)
    op.found(y, *steps)
    operands = (start, *(Affine(nodes.block, nodes.lo, (1,)) for nodes in captured))
    rec.insert(first, Joint(op, (), Affine(block, 0, (1,)), operands, site))
    if op.guarded:
        rec.guard(Affine(block, n, ()), np.ones(()))
    return unknown


class _Recording:
    """R on the trace that is running, at one point after another."""

    def __init__(self, rec: Recorder, residual: Residual, where: str) -> None:
        self._rec, self._residual, self._where = rec, residual, where
        self._settled: tuple[Equation, np.ndarray] | None = None  # R takes no decisions: the same lines everywhere

    def at(self, y: np.ndarray) -> Equation:
        """The equation at y, by the branch that is taken there."""
        if self._settled is not None:
            return self._settled[0].at(y, self._settled[1])
        rec = self._rec
        before = rec.decisions()
        rec.constant_nodes(y)
        block = len(rec.tape.blocks) - 1
        unknown = rearranged(rec, y.copy(), whole(y.shape, Affine(block, 0, (1,))))
        tape, captured = self.record(unknown, block, len(rec.tape.items))
        primals = primals_of(rec)
        known = as_vector([primals.block(nodes.block)[nodes.lo:nodes.hi] for nodes in captured])
        equation = Equation(tape, self._where).at(y, known)
        if not rec.forget(before):
            self._settled = equation, known
        return equation

    def record(self, unknown: TracedArray, block: int, first: int) -> tuple[Tape, list[Nodes]]:
        """R of `unknown`, which is this block, as a tape of the items from `first` on."""
        rec = self._rec
        caught = rec.caught
        rec.capturing += 1
        try:
            with patching.resumed():
                results = self._residual(unknown)
                shapes = [np.shape(r) for r in results]
                n, = unknown.shape
                if shapes[0] != (n,):
                    raise InputError(f"the equation solved at {self._where} has {shapes[0][0]} residuals for {n} "
                                     "unknowns; there must be as many equations as unknowns")
                outputs = [single(rec, r, shape) if is_traced(r) else Const(r) for r, shape in zip(results, shapes)]
            return extracted(rec, first, block, list(zip(outputs, shapes)), n)
        except Exception:
            rec.caught = caught  # nothing was, then
            raise
        finally:
            rec.capturing -= 1


__all__ = ["Implicit", "statement"]
