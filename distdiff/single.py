"""One derivative of a small program at one point, on one rank, with no more around the trace and the solve than that.

A linearization counts statements, weighs methods, and keeps what further points and right-hand sides want.  For a
program of some tens of statements all of that takes longer than its trace and a walk through it (`solvers.walk`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mpi4py import MPI

from .comm import chosen, on_root
from .evaluate import evaluate
from .flags import Watched
from .nest import Nest
from .nonfinite import all_finite
from .partition import whole
from .program import Program, record
from .solvers.ranges import STEP
from .solvers.walk import Walk
from .tape import Const
from .tracing import Trace, is_leaf, running
from .tracing.splice import splice
from .tracing.tree import flatten, unflatten

FEW = 256  # statements
SMALL = 1 << 17  # nodes


class Single:
    """f at args: traced, and ready to be walked through if `small`.

    traced : the trace, which a linearization at the same point goes on from where this does not answer
    value, aux : of f, once something has been found
    """

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], argnums: int | tuple[int, ...],
                 kwargs: Mapping[str, Any], has_aux: bool, comm: MPI.Comm, joints: bool) -> None:
        self.traced: Trace = on_root(comm, lambda: record(
            f, args, argnums=argnums, kwargs=dict(kwargs), has_aux=has_aux, keep_values="read", joints=joints),
            share=False)
        tape = self.traced.tape
        self.aux, self.value = self.traced.aux, None
        self.small = len(tape.items) <= FEW and tape.n_nodes <= SMALL and self.traced.values is not None and not any(
            type(leaf.ref) is Const for leaf in tape.outputs)
        self._args, self._comm = (args[argnums],) if isinstance(argnums, int) else tuple(args[k] for k in argnums), comm
        self._single = isinstance(argnums, int)
        if self.small:
            self._arrive()

    def _arrive(self) -> None:
        """The values of all lines that the trace has left open, and a walk."""
        tape = self.traced.tape
        leaves, spec = flatten(self._args[0] if self._single else self._args)
        self.inputs = Nest(spec, [leaf.shape for leaf in tape.inputs])
        self.outputs = Nest(tape.out_tree, [leaf.shape for leaf in tape.outputs])
        x = np.concatenate([np.asarray(leaf, dtype=float).ravel() for leaf in leaves])
        local = whole(tape)
        self._point = evaluate(local, x, self._comm, known=self.traced.values)
        self._walk = Walk(local, self._point, self._comm)

    def again(self, *args: Any) -> Any:
        """f, called at the same point inside a trace, after `second` was asked for: what was traced is put on that
        trace's tape, and nothing runs."""
        rec, tape, known = running(), self.traced.tape, self.traced.values
        assert rec is not None and known is not None
        values = [self._point.values.block(b) if own is None else own for b, own in enumerate(known)]
        return unflatten(tape.out_tree, splice(rec, tape, flatten(args, "arguments", is_leaf)[0], values))

    def pullback(self, cotangent: np.ndarray) -> Any:
        """xbar = J^T ybar, nested; None where something is not finite, or lost, which is for others to look into."""
        return self._found(self._in_range(self._walk.adjoint, cotangent), self.inputs)

    def pushforward(self, tangents: tuple[Any, ...]) -> Any:
        """ydot = J xdot, likewise."""
        tree = tangents[0] if self._single else tuple(tangents)
        return self._found(self._in_range(self._walk.tangent, self.inputs.flat(tree, "tangent")), self.outputs)

    def second(self, tangents: tuple[Any, ...]) -> Any:
        """H v of a function with one result, likewise, whether it is small or not; NotImplemented where walks don't
        compute it."""
        if not self.small:
            self._arrive()
        tree = tangents[0] if self._single else tuple(tangents)
        xdot = self.inputs.flat(tree, "tangent")
        if not len(self._point.local.outputs.ids):  # the result depends on no input
            return self.inputs.nest(np.zeros(len(xdot)))
        found: Any = NotImplemented
        for power in 0, STEP // 2:  # tangents and adjoints meet in products
            with Watched() as seen:
                found = self._walk.second(2.0**power * xdot, np.full(1, 2.0**power))
            if found is None:
                return NotImplemented
            if not seen.under:
                return self._found(found * 4.0**-power, self.inputs)
        return None

    @staticmethod
    def _in_range(walk: Callable[[np.ndarray], np.ndarray], seed: np.ndarray) -> np.ndarray | None:
        """What a walk finds, from a larger seed where something is lost on the way (`solvers.ranges`); None where that
        doesn't help."""
        for power in 0, STEP:
            with Watched() as seen:
                found = walk(seed if power == 0 else 2.0**power * seed)
            if not seen.under:
                return found if power == 0 else found * 2.0**-power
        return None

    def _found(self, result: np.ndarray | None, nest: Nest) -> Any:
        values = self._point.outputs()
        if result is None or not all_finite(result) or not all_finite(values):
            return None
        self.value = self.outputs.nest(values)
        return nest.nest(result)


def single(f: Callable[..., Any], args: tuple[Any, ...], argnums: int | tuple[int, ...], kwargs: Mapping[str, Any],
           has_aux: bool, settings: Mapping[str, Any], joints: bool = True) -> Single | None:
    """f at args for one derivative, where nothing is asked for but that, on one rank; else None.

    joints: whether a program with joint statements is one of them, or `HasJoint` is raised.
    """
    comm = chosen(settings.get("comm"))
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    if settings.keys() - {"comm"} or comm.size > 1 or (
            not callable(f) or isinstance(f, Program) or not all(type(k) is int for k in numbers)):
        return None
    return Single(f, args, argnums, kwargs, has_aux, comm, joints)
