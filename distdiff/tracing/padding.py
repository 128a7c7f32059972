"""np.pad in all of its modes.

Modes that only move elements, and constants, make no statement: the border is a few boxes of the tape.  Borders that
are computed (ramps, means, odd reflections) are joined to the array, one axis after another as NumPy does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..tape import Const
from .array import TracedArray, is_traced, rearranged
from .boxes import Index, Piece, cut, join, select, whole
from .layout import pieces_of
from .order import median
from .reductions import largest, mean, smallest, traced_array
from .spaced import linspace
from .wholes import written

_MOVING = ("constant", "edge", "wrap", "reflect", "symmetric", "empty")
_STATISTICS: dict[str, Callable[..., Any]] = {"maximum": largest, "minimum": smallest, "mean": mean, "median": median}


def pad(x: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if not is_traced(x):  # a traced border
        rec, x = _recorder_in(kwargs), np.asarray(x)
        if x.dtype.kind in "iub":  # NumPy cuts it to whole numbers
            if mode != "constant":
                rec.unsupported(f"numpy.pad of whole numbers with mode={mode!r} and a traced border",
                                "pad x.astype(float)")
            return np.pad(x, pad_width, constant_values=_written(kwargs["constant_values"], x.dtype))
        x = rec.array_of(x)
    x = traced_array(x)
    if not x.ndim:
        return x.copy()
    if isinstance(pad_width, dict):
        pad_width = [pad_width.get(k, pad_width.get(k - x.ndim, 0)) for k in range(x.ndim)]
        pad_width = [(w, w) if isinstance(w, int) else w for w in pad_width]
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    if mode in _MOVING and kwargs.get("reflect_type", "even") == "even" and not _holds_traced(kwargs):
        return _moved(x, widths, mode, kwargs)
    if not isinstance(mode, str) or mode not in (*_MOVING, *_STATISTICS, "linear_ramp"):
        x.rec.unsupported(f"numpy.pad with mode={mode!r}", f"modes are {', '.join((*_MOVING, *_STATISTICS))} and "
                          "linear_ramp")
    result = x
    for axis, (before, after) in enumerate(widths):
        result = np.moveaxis(result, axis, 0)
        if mode == "constant":
            ends = _pair(kwargs.get("constant_values", 0), axis, x.ndim)
            parts = [np.broadcast_to(end, (n, *result.shape[1:])) for end, n in zip(ends, (before, after))]
            result = np.concatenate([parts[0], result, parts[1]])
        elif mode == "linear_ramp":
            low, high = _pair(kwargs.get("end_values", 0), axis, x.ndim)
            first = linspace(low, result[0], before, endpoint=False)
            result = np.concatenate([first, result, linspace(high, result[-1], after, endpoint=False)[::-1]])
        elif mode in _STATISTICS:
            lengths = _pair(kwargs.get("stat_length"), axis, x.ndim)
            n = len(result)
            low, high = (n if m is None else min(int(m), n) for m in lengths)
            rule = _STATISTICS[mode]
            first, last = (rule(part, axis=0, keepdims=True) for part in (result[:low], result[n - high :]))
            result = np.concatenate([np.repeat(first, before, 0), result, np.repeat(last, after, 0)])
        else:
            result = _reflected_oddly(result, before, after, mode == "symmetric")
        result = np.moveaxis(result, 0, axis)
    return result.copy("C")


def _reflected_oddly(x: Any, before: int, after: int, include_edge: bool) -> Any:
    """Both sides reflected about the edge's value, as often as is needed."""
    while before or after:
        period = len(x) if include_edge else len(x) - 1
        if period == 0:
            return np.concatenate([np.repeat(x[:1], before, 0), x, np.repeat(x[-1:], after, 0)])
        low, high = min(before, period), min(after, period)
        start, n = (0 if include_edge else 1), len(x)
        first = 2.0 * x[:1] - x[start : start + low][::-1]
        last = 2.0 * x[-1:] - x[n - start - high : n - start][::-1]
        x = np.concatenate([*([first] if low else []), x, *([last] if high else [])])
        before, after = before - low, after - high
    return x


def _pair(values: Any, axis: int, ndim: int) -> tuple[Any, Any]:
    """What np.pad's options say of the two ends of an axis."""
    if not _nested(values):
        return values, values
    values = list(values)
    if len(values) == 1:
        return _pair(values[0], axis, ndim)
    if any(map(_nested, values)):
        return _pair(values[axis], axis, ndim) if len(values[axis]) == 1 else tuple(values[axis])
    low, high = values
    return low, high


def _nested(x: Any) -> bool:
    return isinstance(x, (list, tuple)) or isinstance(x, np.ndarray) and x.ndim > 0


def _written(border: Any, dtype: np.dtype) -> Any:
    if isinstance(border, (list, tuple)):
        return [_written(part, dtype) for part in border]
    return written(border, dtype)


def _holds_traced(tree: Any) -> bool:
    if isinstance(tree, dict):
        tree = list(tree.values())
    return any(map(_holds_traced, tree)) if isinstance(tree, (list, tuple)) else is_traced(tree)


def _recorder_in(tree: Any) -> Any:
    """The recorder of the first traced value in nested options."""
    for part in tree.values() if isinstance(tree, dict) else tree:
        if is_traced(part):
            return part.rec
        if isinstance(part, (list, tuple)) and _holds_traced(part):
            return _recorder_in(part)
    raise AssertionError("no traced operand")


# -- borders that are moved -----------------------------------------------------------------------------------------


def _moved(x: TracedArray, widths: list[list[int]], mode: str, options: dict[str, Any]) -> TracedArray:
    values = np.pad(x.nd, widths, mode, **options) if mode != "empty" else np.pad(x.nd, widths)
    mode = "constant" if mode == "empty" else mode
    fill = np.broadcast_to(np.asarray(options.get("constant_values", 0), dtype=float), (x.ndim, 2)).tolist()
    pieces, shape = pieces_of(x), x.shape
    for axis, ((before, after), (low, high)) in enumerate(zip(widths, fill)):
        at = (np.zeros(before + shape[axis] + after, dtype=int) if mode == "constant"
              else np.pad(np.arange(shape[axis]), (before, after), mode))
        first = _border(pieces, shape, axis, mode, at[:before], float(low))
        last = _border(pieces, shape, axis, mode, at[len(at) - after :], float(high))
        pieces, shape = join([*first, (pieces, shape), *last], axis)
    return rearranged(x.rec, values, pieces, x.st.boolean)


Part = tuple[list[Piece], Index]


def _border(pieces: list[Piece], shape: Index, axis: int, mode: str, at: np.ndarray, value: float) -> list[Part]:
    """The parts that pad one side: a constant, an edge that stands still, or runs of the elements `at` these
    indices."""
    if not len(at):
        return []
    box = shape[:axis] + (len(at),) + shape[axis + 1 :]
    if mode == "constant":
        return [(whole(box, Const(value)) if 0 not in box else [], box)]
    if mode == "edge":
        edge, one = cut(pieces, shape, axis, range(int(at[0]), int(at[0]) + 1))
        axes = [(k, 1) if n > 1 else None for k, n in enumerate(one)]
        return [(select(edge, (0,) * len(one), axes, box), box)]
    parts, start = [], 0
    while start < len(at):
        step = int(at[start + 1] - at[start]) if start + 1 < len(at) and abs(at[start + 1] - at[start]) == 1 else 1
        stop = start + 1
        while stop < len(at) and at[stop] - at[stop - 1] == step:
            stop += 1
        parts.append(cut(pieces, shape, axis, range(int(at[start]), int(at[start]) + step * (stop - start), step)))
        start = stop
    return parts


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {np.pad: pad}
