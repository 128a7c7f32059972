"""Complex numbers in order: by their real parts, ties by the imaginary ones, as NumPy has them.

Which comes first is a choice element by element (`np.maximum`), or decided and guarded (`np.max`, `np.argmax`,
`np.sort`), as for real numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import composed
from ..array import shape_of
from ..decisions import decide
from ..indexing import into
from ..order import isin, lexsort
from ..reductions import axes_of, begun, given
from .array import ComplexArray, is_traced_complex
from .formulas import REAL, RULES
from .parts import Pair, filled

# -- element by element


def _beyond(strict: np.ufunc, compare: np.ufunc) -> Callable[[Pair, Pair], Any]:
    """x > y and its kin: `strict` of the real parts, `compare` of the imaginary ones where those are equal."""

    def rule(x: Pair, y: Pair) -> Any:
        (a, b), (c, d) = map(filled, x), map(filled, y)
        known = np.logical_not(np.logical_or(np.isnan(b), np.isnan(d)))
        return np.logical_or(np.logical_and(strict(a, c), known), np.logical_and(np.equal(a, c), compare(b, d)))

    return rule


COMPARISONS: dict[np.ufunc, Callable[[Pair, Pair], Any]] = {
    np.greater: _beyond(np.greater, np.greater), np.greater_equal: _beyond(np.greater, np.greater_equal),
    np.less: _beyond(np.less, np.less), np.less_equal: _beyond(np.less, np.less_equal),
}


def _chosen(compare: np.ufunc, ignoring: int) -> Callable[[Pair, Pair], Pair]:
    """np.maximum and its kin; a NaN in the first operand (0) is chosen, or one in the second (1) is left out."""

    def rule(x: Pair, y: Pair) -> Pair:
        (a, b), (c, d) = x, y = tuple(map(filled, x)), tuple(map(filled, y))
        missing = np.logical_or(*map(np.isnan, (x, y)[ignoring]))
        first = np.logical_or(COMPARISONS[compare](x, y), missing)
        return np.where(first, a, c), np.where(first, b, d)

    return rule


REAL.update(COMPARISONS)
RULES.update({np.maximum: _chosen(np.greater_equal, 0), np.minimum: _chosen(np.less_equal, 0),
              np.fmax: _chosen(np.greater_equal, 1), np.fmin: _chosen(np.less_equal, 1)})

# -- extrema and orders


def _array(x: Any) -> ComplexArray:
    return x if type(x) is ComplexArray else x.as_array() if is_traced_complex(x) else np.asarray(x)


def _place(pick: Callable[..., Any], beyond: np.ufunc) -> Callable[..., Any]:
    """np.argmax or np.argmin: the place stays while nothing lies beyond what is there."""

    def place(x: Any, axis: int | None = None, out: Any = None, *, keepdims: Any = False) -> Any:
        z = _array(x)
        ndim = z.ndim
        if axis is None or not ndim:
            z, axis = np.ravel(z), axes_of(axis or 0, 1)[0]
        values = z.plain_values()
        at = pick(values, axis)
        there = np.expand_dims(at, axis)
        best = np.take_along_axis(z, there, axis)
        decide(beyond(z, best))
        if np.count_nonzero(values == np.take_along_axis(values, there, axis)) > there.size:
            decide(np.equal(z, best))  # ... and what is equal to it stays so: else another could be the first
        if keepdims and keepdims is not np._NoValue:
            at = np.expand_dims(at, axis) if at.ndim else np.reshape(at, (1,) * ndim)
        return into(out, at)

    return place


argmax, argmin = _place(np.argmax, np.greater), _place(np.argmin, np.less)


def _extremum(place: Callable[..., Any], of_two: np.ufunc) -> Callable[..., Any]:
    def extremum(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
                 where: Any = None) -> Any:
        z = _array(x)
        if given(where):
            if not begun(initial):
                raise ValueError(f"reduction operation '{of_two.__name__}' does not have an identity, so to use a "
                                 "where mask one has to specify 'initial'")
            z = np.where(where, z, initial)
        axes = axes_of(axis, z.ndim)
        kept = [k for k in range(z.ndim) if k not in axes]
        lanes = np.reshape(np.transpose(z, [*kept, *axes]), (*(z.shape[k] for k in kept), -1))
        result = np.take_along_axis(lanes, np.expand_dims(place(lanes, -1), -1), -1)[..., 0]
        result = result if kept else result[()]
        result = of_two(result, initial) if begun(initial) else result
        if keepdims and keepdims is not np._NoValue:
            result = np.reshape(result, [1 if k in axes else n for k, n in enumerate(shape_of(z))])
        return into(out, result)

    return extremum


largest, smallest = _extremum(argmax, np.maximum), _extremum(argmin, np.minimum)


def peak_to_peak(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return into(out, largest(x, axis, keepdims=keepdims) - smallest(x, axis, keepdims=keepdims))


def argsort(x: Any, axis: int | None = -1, kind: Any = None, order: Any = None, **kwargs: Any) -> np.ndarray:
    z = _array(x)
    if axis is None or not z.ndim:
        z, axis = np.ravel(z), 0
    return lexsort((z.imag, z.real), axis)


def sort(x: Any, axis: int | None = -1, kind: Any = None, order: Any = None, **kwargs: Any) -> Any:
    z = _array(x)
    if axis is None:
        z, axis = np.ravel(z), 0
    return np.take_along_axis(z, argsort(z, axis), axis)


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.max: largest, np.min: smallest, np.amax: largest, np.amin: smallest, np.ptp: peak_to_peak,
    np.argmax: argmax, np.argmin: argmin, np.clip: composed.clip, np.isin: isin,
    np.sort: sort, np.argsort: argsort, np.sort_complex: sort,
}

__all__ = ["FUNCTIONS"]
