"""scipy.integrate's rules for samples: SciPy's own code is traced, but for what it makes plain numbers of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array import is_traced
from ..decisions import decide
from .replacing import Rule


def basic_simpson(y: Any, start: int, stop: int, x: Any, dx: Any, axis: int) -> Any:
    """Simpson's rule on intervals start, start + 2, ... before stop, of any lengths."""

    def part(a: Any, first: int, last: int) -> Any:
        return a[tuple(slice(first, last, 2) if k == axis % a.ndim else slice(None) for k in range(a.ndim))]

    y0, y1, y2 = (part(y, (start or 0) + k, stop + k) for k in range(3))
    if x is None:
        return np.sum(y0 + 4.0 * y1 + y2, axis) * (dx / 3.0)
    h = np.diff(x, axis=axis)
    h0, h1 = part(h, start or 0, stop), part(h, (start or 0) + 1, stop + 1)
    whole, zero = h0 + h1, decide(np.logical_or(np.equal(h0, 0.0), np.equal(h1, 0.0)))
    if np.any(zero):
        (h if is_traced(h) else y).rec.unsupported("scipy.integrate.simpson with equal neighbours among x",
                                                   "the weights of their samples are discontinuous there")
    return np.sum(whole / 6.0 * (y0 * (2.0 - h1 / h0) + y1 * (whole * whole / (h0 * h1)) + y2 * (2.0 - h0 / h1)), axis)


RULES: dict[str, Rule] = {"scipy.integrate._quadrature:_basic_simpson": basic_simpson}
