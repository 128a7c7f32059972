"""Joint statements on the vectors of a rank: their values, and the products of their derivatives.

    y = G(x)          ydot (+)= s J xdot          xbar += s J^T ybar          J itself, for assembled methods

Vectors are flat, (n,), or have columns, (n, m); what the rules see is described in `ops.elemental`.  Rules are foreign
code: what they return is checked for its shape, and what they raise leaves NaN behind and is raised at the end of the
pass (`Failure`), so that no rank waits for one that left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from mpi4py import MPI

from .comm import agreed, alone
from .deadline import limited, within
from .errors import InputError
from .flags import note
from .kernels import stream
from .strided import accumulate_overlapping, core_view
from .tape import Affine, Indexed, Joint, Operand, Site

DENSE = 1 << 22  # elements of unit vectors that go through a rule at once


class Failure:
    """The first exception that a rule raised on this rank during a pass."""

    def __init__(self) -> None:
        self._first: tuple[Joint, Exception] | None = None

    @contextmanager
    def caught(self, item: Joint, spoil: Callable[[], Any]) -> Iterator[None]:
        """Keep what the body raises, and spoil what it should have computed."""
        try:
            yield
        except Exception as error:  # of foreign code: raised again, on all ranks, when the pass is over
            self._first = self._first or (item, error)
            spoil()

    def forget(self) -> None:
        """A pass begins; one before it may have ended early."""
        self._first = None

    def agree(self, comm: MPI.Comm, sites: list[Site]) -> None:
        """Raise on every rank what was caught on one, with a note of the user's line.  Collective."""
        first, self._first = self._first, None
        with agreed(comm):
            if first is not None:
                item, error = first
                if 0 <= item.site < len(sites):
                    error.add_note(f"(raised by a rule of {item.op.name}, called at {sites[item.site]})")
                raise error


def _called(rule: Callable[..., Any], *arguments: Any) -> Any:
    """What a rule gives; what it may ask of all ranks it asks of this one.  A user's may have a limit."""
    with alone():
        op = getattr(rule, "__self__", None)
        if not limited() or getattr(op, "rule", None) is None:
            found = rule(*arguments)
        else:
            with within(f"the rule of {op.name}"):
                found = rule(*arguments)
        note()
        return found


# -- what the rules see


def arguments(item: Joint, operand: Callable[[Operand, tuple[int, ...]], Any], only: frozenset[int] | None = None,
              ) -> list[Any]:
    """The operands' values: (*loop, *core), loop axes with their length or 1; None for those not in `only`.

    operand(ref, shape): values at a reference, with length 1 (or no axis) where they are the same.
    """
    found: list[Any] = []
    for k, ref in enumerate(item.operands):
        if only is not None and k not in only:
            found.append(None)
            continue
        x = np.asarray(operand(ref, item.operand_shape(k)), dtype=np.float64)
        found.append(widened(x, len(item.shape), item.core(k)))
    return found


def widened(x: np.ndarray, loops: int, core: tuple[int, ...]) -> np.ndarray:
    """x with all its loop axes, and its core axes in full length."""
    x = x.reshape((1,) * (loops + len(core) - x.ndim) + x.shape)
    return x if x.shape[loops:] == core else np.broadcast_to(x, x.shape[:loops] + core)


def fill(item: Joint, flat: np.ndarray, results: Sequence[Any], scale: float = 1.0, write: bool = True) -> None:
    """flat = results or += scale results; flat is (..., op.size), results may lack axes or be None where zero."""
    if len(results) != len(item.op.core_out):
        raise InputError(f"{item.op.name} gave {len(results)} results where {len(item.op.core_out)} are declared")
    for (part, core), y in zip(item.op.parts, results):
        here = flat[..., part]
        if y is None:
            if write:
                here[...] = 0.0
            continue
        y = spread(item, y, flat.shape[:-1] + core).reshape(here.shape)
        if write:
            np.copyto(here, y) if scale == 1.0 else np.multiply(y, scale, out=here)
        else:
            here += y if scale == 1.0 else scale * y


def spread(item: Joint, x: Any, shape: tuple[int, ...]) -> np.ndarray:
    """What a rule returned, in full shape."""
    x = np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise InputError(f"{item.op.name} gave an array of dtype {x.dtype} where floats are wanted")
    try:
        return np.broadcast_to(x, shape)
    except ValueError:
        raise InputError(f"{item.op.name} gave an array of shape {x.shape} where {shape} is wanted") from None


# -- values


def evaluate(item: Joint, values: Any, failure: Failure) -> None:
    """y = G(x), written into the values (`evaluate.Values`)."""
    out = values.view(item.out, item.out_shape)
    with failure.caught(item, lambda: out.fill(np.nan)):
        fill(item, out, _called(item.op.value, *arguments(item, values.operand)))


class Products:
    """J of one joint statement at a point, applied to vectors."""

    def __init__(self, item: Joint, values: Any) -> None:
        self.item = item
        reads = item.op.reads
        self.x = arguments(item, values.operand, reads)
        self.y: list[Any] = [None] * len(item.op.core_out)
        if -1 in reads:
            self.y = item.op.split(values.view(item.out, item.out_shape))

    def tangent(self, xdot: Sequence[np.ndarray | None], out: np.ndarray, columns: bool, scale: float = 1.0,
                write: bool = True) -> None:
        """out = J xdot, or += scale J xdot.  Arrays over the operands' and the results' shapes, perhaps with columns.

        An xdot_k may have length 1 where it is the same; None: zero.
        """
        item, loops = self.item, len(self.item.shape)
        given = []
        for k, t in enumerate(xdot):
            if t is None:
                given.append(None)
            elif columns:
                t = np.moveaxis(t, -1, 0)
                given.append(np.broadcast_to(t, t.shape[: 1 + loops] + item.core(k)))
            else:
                given.append(widened(t, loops, item.core(k)))
        out = np.moveaxis(out, -1, 0) if columns else out
        fill(item, out, _called(item.op.tangent, self.y, self.x, given), scale, write)

    def adjoint(self, ybar: np.ndarray, columns: bool, wanted: Sequence[bool]) -> list[np.ndarray | None]:
        """xbar = J^T ybar over the operands' shapes, with trailing columns if ybar has them; None where not wanted."""
        item = self.item
        ybar = np.moveaxis(ybar, -1, 0) if columns else ybar
        results = _called(item.op.adjoint, self.y, self.x, item.op.split(ybar), wanted)
        if len(results) != len(wanted):
            raise InputError(f"the adjoint of {item.op.name} gave {len(results)} arrays for {len(wanted)} operands")
        found: list[np.ndarray | None] = []
        for k, (xbar, want) in enumerate(zip(results, wanted)):
            if xbar is None or not want:
                found.append(None)
                continue
            xbar = spread(item, xbar, (*ybar.shape[: ybar.ndim - 1 - len(item.shape)], *item.operand_shape(k)))
            found.append(np.moveaxis(xbar, 0, -1) if columns else xbar)
        return found

    def jacobian(self, k: int) -> np.ndarray:
        """The entries for operand k: those of its pattern, (*loop, entries), or all, (*loop, op.size, size of x_k)."""
        item = self.item
        op, core, loops = item.op, item.core(k), item.shape
        if op.pattern(k) is not None:
            return spread(item, _called(op.entries, k, self.y, self.x), (*loops, len(op.pattern(k)[0])))
        size, n = op.size, prod(core)
        found = np.zeros((*loops, size, n))
        forward = n <= size
        width = max(1, DENSE // max(prod(loops) * max(size, n), 1))
        for start in range(0, n if forward else size, width):
            stop = min(start + width, n if forward else size)
            units = np.eye(stop - start, n if forward else size, start)  # one unit vector a column of the product
            units = units.reshape((stop - start,) + (1,) * len(loops) + (-1,))
            if forward:
                seeds: list[Any] = [None] * op.arity
                seeds[k] = np.broadcast_to(units.reshape(units.shape[:-1] + core), (stop - start, *loops, *core))
                product = np.empty((stop - start, *loops, size))
                fill(item, product, _called(op.tangent, self.y, self.x, seeds))
                found[..., start:stop] = np.moveaxis(product, 0, -1)
            else:
                ybar = np.broadcast_to(units, (stop - start, *loops, size))
                wanted = [j == k for j in range(op.arity)]
                xbar = _called(op.adjoint, self.y, self.x, op.split(ybar), wanted)[k]
                if xbar is not None:
                    xbar = spread(item, xbar, (stop - start, *loops, *core)).reshape((stop - start, *loops, n))
                    found[..., start:stop, :] = np.moveaxis(xbar, 0, -2)
        return found


# -- products on flat vectors


Place = Affine | np.ndarray | None  # an operand's nodes in a vector: start and strides, one by one, or no matter


def add_tangent(products: Products, vector: np.ndarray, places: Sequence[Place], out: np.ndarray, scale: float,
                write: bool) -> None:
    """out (+)= scale J xdot, xdot read at `places` of a vector."""
    columns, item = vector.ndim > 1, products.item
    xdot: list[Any] = []
    for k, place in enumerate(places):
        if place is None:
            xdot.append(None)
        elif isinstance(place, Affine):
            xdot.append(core_view(vector, place.offset, item.operand_shape(k), place.strides))
        else:
            xdot.append(vector[place])
    products.tangent(xdot, out, columns, scale, write)


def add_adjoint(products: Products, ybar: np.ndarray, vector: np.ndarray, places: Sequence[Place],
                scale: float) -> None:
    """vector[places] += scale J^T ybar."""
    columns, item = vector.ndim > 1, products.item
    for k, xbar in enumerate(products.adjoint(ybar, columns, [place is not None for place in places])):
        place, shape = places[k], item.operand_shape(k)
        if xbar is None or 0 in shape:
            continue
        if isinstance(place, Affine):
            dst = core_view(vector, place.offset, shape, place.strides)
            accumulate_overlapping(dst, xbar, 1.0, shape, scale, False, place.strides)
            continue
        terms = np.reshape(scale * xbar, (prod(shape), *vector.shape[1:]))
        flat = np.reshape(place, -1)
        if vector.flags.c_contiguous:
            stream.scatter_add(flat, terms, vector)
        else:
            for column, part in zip(vector.T, terms.T):
                stream.scatter_add(flat, np.ascontiguousarray(part), column)


def operand_places(item: Joint, first: Callable[[int], int]) -> list[Place]:
    """Where the active operands' nodes lie in a vector over all nodes; first(b): that of block b's first node."""
    places: list[Place] = [None] * len(item.operands)
    for k in item.active:
        ref = item.operands[k]
        if isinstance(ref, Affine):
            places[k] = Affine(-1, first(ref.block) + ref.offset, ref.strides)
        elif isinstance(ref, Indexed):
            places[k] = ref.ids
    return places


__all__ = ["Failure", "Place", "Products", "add_adjoint", "add_tangent", "arguments", "evaluate", "fill",
           "operand_places", "widened"]
