"""scipy.ndimage's interpolation: values of splines through an array's elements, at points between them.

The spline's coefficients are linear in the elements, a matrix an axis, which SciPy's own filter of unit vectors gives.
Which cell a point lies in, and in which of the array's reflections or repetitions, is decided; within it a spline is a
polynomial in the point.

`before` elements were put in front of an axis by SciPy, which does so where it has no exact boundary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product
from typing import Any

import numpy as np

from ..array import is_traced, shape_of
from ..decisions import decide
from ..ufuncs import recorder_of
from ..wholes import whole
from .replacing import Rule, writes

NEAREST, WRAP, REFLECT, MIRROR, CONSTANT, GRID_WRAP, GRID_CONSTANT = range(7)  # SciPy's numbers of modes
NAMES = ("nearest", "wrap", "reflect", "mirror", "constant", "grid-wrap", "grid-constant")


@writes(3)
def spline_filter1d(x: Any, order: int, axis: int, output: Any, mode: int) -> None:
    """The coefficients, along one axis."""
    from scipy.ndimage import spline_filter1d as filtered

    matrix = filtered(np.eye(shape_of(x)[axis]), order, 0, mode=NAMES[mode])
    output[...] = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)


@writes(3)
def zoom_shift(x: Any, zoom: Any, shift: Any, output: Any, order: int, mode: int, value: float, before: int,
               by_cells: Any) -> None:
    """Points on a grid along the axes: a matrix an axis."""
    if mode == GRID_CONSTANT:
        _refuse((x, zoom, shift, value))
    rec = recorder_of((x, zoom, shift, value))
    y, outside = x, np.zeros(output.shape, dtype=bool)
    for axis, (length, m) in enumerate(zip(shape_of(x), output.shape)):
        z = np.arange(float(m))
        z = z if shift is None else z + shift[axis]
        if zoom is not None:
            z = (z + 0.5) * zoom[axis] - 0.5 if by_cells else z * zoom[axis]
        beyond, places, weights = _along(z + before, length, order, mode)
        matrix = rec.array_of(np.zeros((m, length))) if is_traced(weights[-1]) else np.zeros((m, length))
        for i, weight in zip(places, weights):
            np.add.at(matrix, (np.arange(m), i), weight)
        y = np.moveaxis(np.tensordot(matrix, y, (1, axis)), 0, axis)
        outside |= np.reshape(beyond, [-1 if k == axis else 1 for k in range(output.ndim)])
    output[...] = np.where(outside, value, y) if outside.any() else y


@writes(5)
def geometric_transform(x: Any, function: Any, at: Any, matrix: Any, shift: Any, output: Any, order: int, mode: int,
                        value: float, before: int = 0, *rest: Any) -> None:
    """Points anywhere: those of an affine map, or as they are given."""
    if function is not None or mode == GRID_CONSTANT or is_traced(matrix) or is_traced(shift):
        _refuse((x, at, matrix, shift, value))
    if at is None:
        grid = np.indices(output.shape).reshape(output.ndim, -1)
        points = matrix @ grid + np.reshape(0.0 if shift is None else shift, (-1, 1))
    else:
        points = np.reshape(at, (shape_of(at)[0], -1))
    found = [_along(z + before, length, order, mode) for z, length in zip(points, shape_of(x))]
    beyond = reduce(np.logical_or, (part[0] for part in found))
    corners = [list(zip(places, weights)) for _, places, weights in found]
    y = sum(reduce(lambda a, b: a * b, (weight for _, weight in corner)) * x[tuple(i for i, _ in corner)]
            for corner in product(*corners))
    y = np.where(beyond, value, y) if beyond.any() else y
    output[...] = np.reshape(y, output.shape)


def _refuse(operands: Sequence[Any]) -> None:
    recorder_of([x for x in operands if is_traced(x)]).unsupported(
        "scipy.ndimage's interpolation with mode='grid-constant', a function as mapping, or traced maps",
        "there is a rule for points: compute them in NumPy, give them to map_coordinates, and take another mode")


def _along(z: Any, length: int, order: int, mode: int) -> tuple[np.ndarray, list[np.ndarray], list[Any]]:
    """Of points along an axis: which are beyond it, and the elements that a spline of this order takes, with weights.
    """
    beyond = np.zeros(shape_of(z), dtype=bool)
    if mode == CONSTANT:
        beyond = np.asarray(decide(np.logical_or(np.less(z, 0), np.greater(z, length - 1))))
        z = np.where(beyond, 0.0, z) if beyond.any() else z
    elif length == 1:
        z = 0.0 * z
    else:
        z = _within(z, length, mode)
    middle = z + 0.5 * (order % 2 == 0)
    cell = _floor(middle)
    part = middle - cell
    weights: list[Any] = [1.0 + 0.0 * part]
    for d in range(1, order + 1):  # de Boor's recursion, with whole knots
        saved, further = 0.0, []
        for r, weight in enumerate(weights):
            term = weight * (1.0 / d)
            further.append(saved + (r + 1.0 - part) * term)
            saved = (part + (d - r - 1.0)) * term
        weights = [*further, saved]
    first = cell - order // 2
    edge = MIRROR if mode in (CONSTANT, WRAP) else mode
    return beyond, [_index(first + k, length, edge) for k in range(order + 1)], weights


def _floor(z: Any) -> np.ndarray:
    return np.asarray(whole(np.floor(z))) if is_traced(z) else np.floor(z).astype(int)


def _within(z: Any, length: int, mode: int) -> Any:
    """The point of the array itself that a point stands for."""
    if mode == NEAREST:  # the elements are the nearest, not the point
        return z
    if mode in (WRAP, GRID_WRAP):
        period = length - (mode == WRAP)
        outside = np.asarray(decide(np.logical_or(np.less(z, 0), np.greater(z, length - 1))))
        return z - period * np.where(outside, _floor(z * (1.0 / period)), 0)
    period, start = (length - 1, 0.0) if mode == MIRROR else (length, 0.5)
    turn = _floor((z + start) * (1.0 / period))
    odd = turn % 2 == 1
    return np.where(odd, -1.0, 1.0) * z + np.where(odd, (turn + 1) * period - 2.0 * start, -turn * period)


def _index(i: np.ndarray, length: int, mode: int) -> np.ndarray:
    """The element that stands beyond the ends."""
    if length == 1 or mode == NEAREST:
        return np.clip(i, 0, length - 1)
    if mode == GRID_WRAP:
        return i % length
    period = 2 * length - (2 if mode == MIRROR else 0)
    i = i % period
    return np.where(i < length, i, period - i - (0 if mode == MIRROR else 1))


RULES: dict[str, Rule] = {f"scipy.ndimage._nd_image:{rule.__name__}": rule for rule in (
    spline_filter1d, zoom_shift, geometric_transform)}

__all__ = ["RULES"]
