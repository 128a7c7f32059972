"""Arrays over the nodes of one block: read at a reference, multiplied and summed, put together from parts.

Tangents and adjoints of a block are such arrays, traced themselves.  One number (traced or plain) stands for an array
that is the same everywhere, and None for one that is zero by structure, so neither makes a line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..strided import core_shape
from ..tape import Const, c_strides
from .array import TracedArray, compact, is_boolean, is_traced, plain, shape_of
from .boxes import Index, view_axes, whole
from .contract import contraction
from .indexing import assign, scatter
from .recorder import Recorder
from .storage import Storage

FEW = 8  # parts that cover less than 1 / FEW of a block are added in their places, not to the whole block


def along(x: Any, offset: int, strides: Index, shape: Index) -> Any:
    """Elements offset + k . strides of x (counted in C order) for all k in `shape`, with length 1 where the stride is
    0: a view."""
    nd = plain(x)
    if not shape_of(nd):
        return x
    shape = core_shape(shape, strides)
    if offset == 0 and nd.shape == shape and all(n == 1 or s == c for n, s, c in zip(shape, strides, c_strides(shape))):
        return x
    mapped = view_axes(nd.shape, shape, strides, offset)
    if mapped is None:  # an axis that runs along several of x's
        if not nd.flags.c_contiguous:
            x = compact(x) if is_traced(x) else np.ascontiguousarray(x)
            nd = plain(x)
        view = as_strided(nd.reshape(-1)[offset:], shape, [8 * s for s in strides])
    else:
        base, axes = mapped
        corner = nd[tuple(slice(b, None) for b in base)]
        view = as_strided(corner, shape, [0 if axis is None else nd.strides[axis[0]] * axis[1] for axis in axes])
    return TracedArray(x.st, view) if is_traced(x) else view


def boxed(x: Any, lo: Index, hi: Index) -> Any:
    """The box lo <= k < hi of an array that may have length 1 along axes on which it does not depend."""
    if not shape_of(x):
        return x
    return x[tuple(slice(None) if n == 1 else slice(a, b) for n, a, b in zip(x.shape, lo, hi))]


_FLOATS = (float, np.float64)  # by type: a traced scalar passes for one


def times(p: Any, q: Any) -> Any:
    """p q elementwise; a condition, which is not one number, chooses between the other and 0."""
    if is_boolean(p) or is_boolean(q):
        if not shape_of(p) and not shape_of(q):
            return np.multiply(p, q)
        return np.where(p, q, 0.0) if is_boolean(p) else np.where(q, p, 0.0)
    if type(p) in _FLOATS and (p == 1.0 or p == -1.0):
        return q if p > 0.0 else -q
    if type(q) in _FLOATS and (q == 1.0 or q == -1.0):
        return p if q > 0.0 else -p
    return p * q


def product(p: Any, q: Any, shape: Index, kept: Sequence[int]) -> Any:
    """sum p q over all axes of the iteration space but the `kept` ones, over these; no array of the iteration space is
    made where both p and q move along summed axes.  p and q are numbers or arrays with length 1 where they stand still.
    """
    if len(kept) == len(shape):  # the usual case, first
        x = times(p, q)
        return x if shape_of(x) in (shape, ()) else np.broadcast_to(x, shape)
    moves = [[k for k, n in enumerate(shape_of(x)) if n > 1] for x in (p, q)]
    moving = sorted({*moves[0], *moves[1]})
    summed = [k for k in moving if k not in kept]
    free = [k for k in moving if k in kept]
    p, q = (_squeezed(x, axes) for x, axes in zip((p, q), moves))
    if summed and moves[0] and moves[1] and not is_boolean(p):
        places = {k: j for j, k in enumerate([*free, *summed])}
        terms = [tuple([places[k] for k in axes]) for axes in moves]
        if is_traced(p) or is_traced(q):
            x = contraction(p, q, *terms, len(free), None, "einsum")
        else:
            x = _einsum(p, q, terms, len(free))
    else:
        p, q = (_spread(x, axes, moving) for x, axes in zip((p, q), moves))
        x = times(p, q)
        if summed:
            x = np.sum(x, axis=tuple(moving.index(k) for k in summed))
    idle = prod(shape[k] for k in range(len(shape)) if k not in kept and k not in moving)
    if idle != 1:
        x = x * float(idle)
    if not free:
        return x
    x = x[tuple(slice(None) if k in free else np.newaxis for k in kept)]
    return np.broadcast_to(x, tuple(shape[k] for k in kept))


def _squeezed(x: Any, axes: Sequence[int]) -> Any:
    lengths = shape_of(x)
    if len(axes) == len(lengths):
        return x
    return x[tuple(slice(None) if k in axes else 0 for k in range(len(lengths)))]


def _spread(x: Any, axes: Sequence[int], moving: Sequence[int]) -> Any:
    if not axes or len(axes) == len(moving):
        return x
    return x[tuple(slice(None) if k in axes else np.newaxis for k in moving)]


def _einsum(a: np.ndarray, b: np.ndarray, terms: Sequence[Index], free: int) -> Any:
    return np.einsum(a, terms[0], b, terms[1], list(range(free)), optimize=True)


def number(x: Any) -> Any:
    """The single element of an array of one, or a number as it is."""
    if not shape_of(x):
        return x.scalar() if type(x) is TracedArray else x
    return number(x[(0,) * len(x.shape)])


class Box(NamedTuple):
    """Nodes offset + k . strides of a block for all k in `shape`, no two of them the same."""

    offset: int
    strides: Index
    shape: Index


Part = Box | np.ndarray  # or places, one by one


class Sheet:
    """An array over the nodes of a block as the sum of parts, each over some of them."""

    def __init__(self, rec: Recorder, shape: Index) -> None:
        self.rec, self.shape, self.size = rec, shape, prod(shape)
        self.parts: dict[Any, tuple[Part, list[Any]]] = {}  # what lies at the same nodes, together

    def add(self, value: Any, offset: int, strides: Index, shape: Index) -> None:
        """Add a value over `shape` at the nodes offset + k . strides, no two of them the same."""
        box = Box(offset, strides, shape)
        self.parts.setdefault(box, (box, []))[1].append(value)

    def add_at(self, value: Any, places: np.ndarray) -> None:
        """Add values, (n,), at n different places."""
        steps = np.diff(places)
        if len(places) == 1 or (steps == steps[0]).all():
            self.add(value, int(places[0]), (int(steps[0]) if len(steps) else 1,), places.shape)
        else:
            self.parts.setdefault(places.tobytes(), (places, []))[1].append(value)

    def total(self) -> Any:
        """The sum of the parts: an array of the block's shape, a number that stands for one, or None if there are
        none."""
        if self.size == 1:
            return sum_of([number(value) for _, values in self.parts.values() for value in values])
        wholes, layers = [], []
        for part, values in sorted(self.parts.values(), key=lambda entry: -_extent(entry[0])):  # small ones fill gaps
            value = sum_of(values)
            whole = self._whole(value, *part) if type(part) is Box else None
            if whole is not None:
                wholes.append(whole)
            elif not any(layer.take(part, value) for layer in layers):
                layers.append(Layer(self.rec, self.shape))
                layers[-1].take(part, value)
        layers.sort(key=lambda layer: -layer.covered)
        if layers and not wholes:
            wholes.append(layers.pop(0).array())
        few = [layer for layer in layers if FEW * layer.covered < self.size and len(layer.parts) < FEW]
        result = sum_of(wholes + [layer.array() for layer in layers if layer not in few])
        for layer in few:
            result = layer.added_to(result)
        return result

    def _whole(self, value: Any, offset: int, strides: Index, shape: Index) -> Any:
        """The value as an array of the block's shape, where it covers all of it without a gap; else None."""
        if prod(shape) != self.size or offset:
            return None
        order = sorted((k for k, n in enumerate(shape) if n > 1), key=lambda k: -strides[k])
        lengths = tuple(shape[k] for k in order)
        if tuple(strides[k] for k in order) != c_strides(lengths):
            return None
        if not shape_of(value) or value.shape == self.shape and order == sorted(order):
            return value
        rest = [k for k in range(len(shape)) if k not in order]
        return np.reshape(np.transpose(value, [*order, *rest]), self.shape)


def _extent(part: Part) -> int:
    return prod(part.shape)


class Layer:
    """Parts of a sheet that don't meet."""

    def __init__(self, rec: Recorder, shape: Index) -> None:
        self.rec, self.shape = rec, shape
        self.parts: list[tuple[Part, Any]] = []
        self.mask = np.zeros(prod(shape), dtype=bool)
        self.covered = 0

    def take(self, part: Part, value: Any) -> bool:
        """Take a part in, unless it meets another."""
        if type(part) is Box:
            window = as_strided(self.mask[part.offset :], part.shape, part.strides)
        else:
            window = self.mask[part]
        if window.any():
            return False
        if type(part) is Box:
            window[...] = True
        else:
            self.mask[part] = True
        self.parts.append((part, value))
        self.covered += window.size
        return True

    def array(self) -> Any:
        """The parts side by side, 0 between them."""
        if self._traced():
            values = self.rec.empty(self.shape)
            if self.covered < values.size:
                values.fill(0.0)
            array: Any = TracedArray(Storage(self.rec, values, whole(self.shape, Const(0.0))), values)
        else:
            array = np.zeros(self.shape)
        self._write(array, lambda _, value: value)
        return array

    def added_to(self, array: Any) -> Any:
        """A copy of `array` with the parts added in their places."""
        if not shape_of(array):
            array = np.broadcast_to(array, self.shape)
        if not is_traced(array) and self._traced():
            array = self.rec.array_of(array)
        array = array.copy()
        self._write(array, lambda old, value: old + value)
        return array

    def _traced(self) -> bool:
        return any(is_traced(value) for _, value in self.parts)

    def _write(self, array: Any, new: Callable[[Any, Any], Any]) -> None:
        traced = is_traced(array)
        for part, value in self.parts:
            if type(part) is Box:
                view = along(array, *part)
                if traced:
                    assign(view, new(view, value))
                else:
                    view[...] = new(view, value)
            elif traced:
                flat = array.reshape(-1)
                scatter(flat, part, new(flat[part], value))
            else:
                np.put(array, part, new(np.take(array, part), value))


def sum_of(terms: Sequence[Any]) -> Any:
    """Their sum, or None if there are none."""
    total = None
    for term in terms:
        total = term if total is None else total + term
    return total
