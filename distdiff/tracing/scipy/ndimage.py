"""scipy.ndimage's filters: the compiled loops at their bottom, so that all that is built of them is SciPy's own code.

`origin` o and a window of m elements: result i sees elements i - m // 2 - o to i + m - m // 2 - 1 - o.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import order
from . import resampling
from .replacing import Rule, writes
from .windows import contracted, extended, sliding

_MODES = ("nearest", "wrap", "reflect", "mirror", "constant", "wrap", "constant")  # by SciPy's numbers


def _around(x: Any, sizes: Sequence[int], axes: Sequence[int], mode: int, value: float, origins: Sequence[int]) -> Any:
    """x extended such that there is a window around each of its elements."""
    for size, axis, origin in zip(sizes, axes, origins):
        before = size // 2 + int(origin)
        x = extended(x, axis, before, size - 1 - before, _MODES[mode], value)
    return x


@writes(3)
def correlate1d(x: Any, weights: Any, axis: int, output: Any, mode: int, value: float, origin: int) -> None:
    kernel = np.reshape(weights, [-1 if k == axis else 1 for k in range(x.ndim)])
    output[...] = contracted(_around(x, [len(weights)], [axis], mode, value, [origin]), kernel, [axis])


@writes(3)
def uniform_filter1d(x: Any, size: int, axis: int, output: Any, mode: int, value: float, origin: int) -> None:
    output[...] = np.mean(sliding(_around(x, [size], [axis], mode, value, [origin]), [size], [axis]), -1)


@writes(2)
def correlate(x: Any, weights: Any, output: Any, mode: int, value: float, origins: Sequence[int]) -> None:
    axes = range(x.ndim)
    output[...] = contracted(_around(x, weights.shape, axes, mode, value, origins), weights, axes)


@writes(3)
def extreme1d(x: Any, size: int, axis: int, output: Any, mode: int, value: float, origin: int, least: Any) -> None:
    windows = sliding(_around(x, [size], [axis], mode, value, [origin]), [size], [axis])
    output[...] = (np.min if least else np.max)(windows, -1)


@writes(3)
def extreme(x: Any, footprint: Any, structure: Any, output: Any, mode: int, value: float, origins: Any,
            least: Any) -> None:
    windows = _within(x, footprint, mode, value, origins)
    if structure is not None:
        heights = structure[footprint.astype(bool)]
        windows = windows - heights if least else windows + heights
    output[...] = (np.min if least else np.max)(windows, -1)


@writes(3)
def rank(x: Any, number: int, footprint: Any, output: Any, mode: int, value: float, origins: Any) -> None:
    output[...] = order.picked(_within(x, footprint, mode, value, origins), number, -1)[..., number]


@writes(3)
def rank1d(x: Any, number: int, size: int, output: Any, mode: int, value: float, origin: int) -> None:
    """What newer SciPy calls for one axis."""
    windows = sliding(_around(x, [size], [0], mode, value, [origin]), [size], [0])
    output[...] = order.picked(windows, number, -1)[..., number]


def _within(x: Any, footprint: Any, mode: int, value: float, origins: Sequence[int]) -> Any:
    """(*x.shape, elements of the footprint): what lies under it at every place."""
    x = _around(x, footprint.shape, range(x.ndim), mode, value, origins)
    return sliding(x, footprint.shape, range(x.ndim))[(..., *np.nonzero(footprint))]


RULES: dict[str, Rule] = {f"scipy.ndimage._nd_image:{name}": rule for name, rule in {
    "correlate1d": correlate1d, "correlate": correlate, "uniform_filter1d": uniform_filter1d,
    "min_or_max_filter1d": extreme1d, "min_or_max_filter": extreme, "rank_filter": rank,
}.items()} | {"scipy.ndimage._rank_filter_1d:rank_filter": rank1d} | resampling.RULES
