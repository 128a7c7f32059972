"""A function linearized inside a function that is being traced: the face of `Linearization`, on the outer tape.

Nothing here is collective: the function around runs on rank 0 alone.  Its tape gets the lines of the derivative
(`tracing.stretch`), to be spread, solved and differentiated like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

import numpy as np
from mpi4py import MPI

from .errors import UnsupportedOperationError
from .nest import Nest, require_number
from .settings import CALL, refuse_unknown
from .tracing import Stretch, is_leaf, running
from .tracing.walks import pullback, pushforward


class NestedLinearization:
    """f at a point inside a trace: `value`, `aux`, and derivatives as traced values.

    Settings of solvers and ranks are those of the outermost call; here they are taken and have no effect.
    """

    comm = MPI.COMM_SELF

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], *, argnums: int | tuple[int, ...] = 0,
                 kwargs: Mapping[str, Any] | None = None, has_aux: bool = False, **settings: Any) -> None:
        refuse_unknown(settings, CALL)
        rec = running()
        assert rec is not None
        self._again = f, args, argnums, dict(kwargs or {}), has_aux
        self._stretch = Stretch(rec, f, args, argnums, dict(kwargs or {}), has_aux)
        self._single = isinstance(argnums, (int, np.integer))
        self.value, self.aux = self._stretch.value, self._stretch.aux
        self._inputs = Nest(self._stretch.in_spec, [leaf.shape for leaf in self._stretch.inputs])
        self._outputs = Nest(self._stretch.out_spec, [leaf.shape for leaf in self._stretch.outputs])

    def jvp(self, *tangents: Any) -> Any:
        """ydot = J xdot, nested as `Linearization.jvp`."""
        leaves = self._inputs.leaves(tangents[0] if self._single else tuple(tangents), "tangent", is_leaf)
        return self._outputs.unflatten(pushforward(self._stretch, leaves))

    def vjp(self, cotangent: Any) -> Any:
        """xbar = J^T ybar, nested as `Linearization.vjp`."""
        leaves = self._outputs.leaves(cotangent, "cotangent", is_leaf)
        return self._inputs.unflatten(pullback(self._stretch, leaves))

    def jacobian(self) -> Any:
        """The dense Jacobian, nested as `Linearization.jacobian`: one walk a row, or a column if there are fewer."""
        inputs, outputs = self._inputs, self._outputs
        forward = inputs.bounds[-1] <= outputs.bounds[-1]
        seeded, others = (inputs, outputs) if forward else (outputs, inputs)
        walk = pushforward if forward else pullback
        blocks = []  # for each seeded leaf the derivatives of (or by) the others
        for k, shape in enumerate(seeded.shapes):
            units = []
            for i in np.ndindex(shape):
                seeds = [np.zeros(s) for s in seeded.shapes]
                seeds[k][i] = 1.0
                units.append(walk(self._stretch, seeds))
            blocks.append([_block([unit[j] for unit in units], shape, other, forward)
                           for j, other in enumerate(others.shapes)])
        if forward:
            blocks = [list(row) for row in zip(*blocks)]
        return outputs.unflatten([inputs.unflatten(row) for row in blocks])

    def hvp(self, *tangents: Any) -> Any:
        """H v, nested as `Linearization.hvp`."""
        return self._gradient().jvp(*tangents)

    def hessian(self) -> Any:
        """The dense Hessian, nested as `Linearization.hessian`."""
        return self._gradient().jacobian()

    def _gradient(self) -> NestedLinearization:
        f, args, argnums, kwargs, has_aux = self._again
        return NestedLinearization(gradient(f, argnums, has_aux), args, argnums=argnums, kwargs=kwargs)

    def close(self) -> None:
        """Nothing is held: the lines stay on the tape."""

    def __enter__(self) -> NestedLinearization:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def gradient(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of f as a function to be traced."""

    @wraps(f)
    def function(*args: Any, **kwargs: Any) -> Any:
        at = NestedLinearization(f, args, argnums=argnums, kwargs=kwargs, has_aux=has_aux)
        require_number(at.value)
        return at.vjp(1.0)

    return function


def refuse_inside(unknown: Iterable[str] = ()) -> None:
    """Refuse to work for all ranks inside a function that rank 0 alone is running, and settings that there are not."""
    if running() is not None:
        refuse_unknown(unknown, CALL)
        raise UnsupportedOperationError(
            "a linearization is made or used inside a function that is being differentiated, which runs on rank 0 "
            "alone; use grad, jvp, vjp, jacobian, hvp or hessian there, whose derivatives become part of the function")


def _block(units: list[Any], seeded: tuple[int, ...], other: tuple[int, ...], forward: bool) -> Any:
    """Derivatives for each element of a seeded leaf as one block of a Jacobian, result first."""
    if not seeded:
        return units[0]
    block = np.stack([u if np.ndim(u) else np.reshape(u, ()) for u in units], axis=len(other) if forward else 0)
    return np.reshape(block, other + seeded if forward else seeded + other)
