"""scipy.interpolate's piecewise polynomials, in their points and coefficients: which piece is decided, knots are plain.

The rules answer for the compiled loops at the bottom, so `CubicSpline`, `PchipInterpolator`, `Akima1DInterpolator`,
`BSpline`, `make_interp_spline`, `interp1d` and their derivatives are SciPy's own objects.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array import is_traced, shape_of
from ..decisions import decide, searchsorted
from ..ufuncs import recorder_of
from .replacing import Rule, parts_apart, writes


def _pieces(knots: Any, x: Any, first: int, last: int) -> np.ndarray:
    """The piece that each x lies in: knots[i] <= x < knots[i + 1], i from `first` to `last`; beyond the ends, those."""
    if is_traced(knots):
        knots.rec.unsupported("scipy.interpolate with knots that are traced", "they must not depend on the inputs")
    return np.clip(searchsorted(knots[first : last + 2], x, "right") - 1, 0, last - first) + first


def _beyond(x: Any, low: float, high: float) -> np.ndarray:
    return np.asarray(decide(np.logical_or(np.less(x, low), np.greater(x, high))))


def _written(out: Any, y: Any, x: Any, extrapolate: bool, low: float, high: float) -> None:
    out[...] = y
    if not extrapolate:
        beyond = _beyond(x, low, high)
        if beyond.any():
            out[beyond] = np.nan


@writes(5)
def piecewise(c: Any, knots: Any, x: Any, order: int, extrapolate: Any, out: Any) -> None:
    """sum_j c[j, i] (x - knots[i])^(k - j) on piece i, or its derivative of that order."""
    if order < 0:
        recorder_of((c, x)).unsupported("scipy.interpolate: an antiderivative at traced points",
                                        "make it first, with antiderivative(), and evaluate that")
    if not is_traced(knots) and knots[-1] < knots[0]:
        recorder_of((c, x)).unsupported("scipy.interpolate with knots that fall", "turn them round")
    i = _pieces(knots, x, 0, len(knots) - 2)
    step, degree = np.reshape(x - knots[i], (-1, 1)), c.shape[0] - 1
    y = 0.0 * step
    for power in range(degree, order - 1, -1):
        factor = float(np.prod(np.arange(power - order + 1, power + 1)))
        y = y * step + (c[degree - power][i] if factor == 1.0 else factor * c[degree - power][i])
    _written(out, y, x, bool(extrapolate), knots[0], knots[-1])


@writes(6)
def spline(knots: Any, c: Any, k: int, x: Any, order: int, extrapolate: Any, out: Any) -> None:
    """de Boor's recurrence for sum_i c_i B_i,k(x), after `order` differences of the coefficients."""
    low, high, t = knots[k], knots[len(knots) - k - 1], knots
    if order > k:
        _written(out, 0.0 * np.reshape(x, (-1, 1)), x, bool(extrapolate), low, high)
        return
    for _ in range(order):
        n = len(t) - k - 1
        width = t[k + 1 : k + n] - t[1:n]
        c = np.reshape(k * (width > 0) / np.where(width > 0, width, 1.0), (-1, 1)) * (c[1:n] - c[: n - 1])
        t, k = t[1:-1], k - 1
    i = _pieces(t, x, k, len(t) - k - 2)
    parts = [c[i - k + j] for j in range(k + 1)]
    for r in range(1, k + 1):
        for j in range(k, r - 1, -1):
            start, stop = t[i - k + j], t[i + j + 1 - r]
            weight = np.reshape((x - start) / (stop - start), (-1, 1))
            parts[j] = (1.0 - weight) * parts[j - 1] + weight * parts[j]
    _written(out, parts[k], x, bool(extrapolate), low, high)


def spline_values(knots: Any, c: Any, k: int, x: Any, order: int, extrapolate: Any) -> Any:
    """The same, as SciPy 1.15 and later calls it."""
    out = recorder_of((c, x)).array_of(np.zeros((shape_of(x)[0], shape_of(c)[1])))
    spline(knots, c, k, x, order, extrapolate, out)
    return out


def interp1d(self: Any, x: Any) -> Any:
    """What an interp1d object makes of its points: straight lines or a spline; steps have no derivative."""
    if self._kind == "linear":
        x_known, y_known = self.x, self._y
        i = np.clip(searchsorted(x_known, x), 1, len(x_known) - 1)
        slope = (y_known[i] - y_known[i - 1]) / np.reshape(x_known[i] - x_known[i - 1], (-1, 1))
        y = slope * np.reshape(x - x_known[i - 1], (-1, 1)) + y_known[i - 1]
    elif hasattr(self, "_spline"):
        y = self._spline(x)
    else:
        recorder_of((x,)).unsupported(f"scipy.interpolate.interp1d of kind {self._kind!r}",
                                      "it is constant between its points; use one with a derivative")
    if not self._extrapolate:
        below, above = (np.asarray(decide(part)) for part in (np.less(x, self.x[0]), np.greater(x, self.x[-1])))
        if self.bounds_error and (below.any() or above.any()):
            raise ValueError(f"A value in x_new is {'below' if below.any() else 'above'} the interpolation range.")
        for beyond, value in ((below, self._fill_value_below), (above, self._fill_value_above)):
            if beyond.any():
                y[beyond] = value
    return y


def grid_places(self: Any, x: Any) -> tuple[np.ndarray, Any]:
    """For every axis of a RegularGridInterpolator: the cells that the points lie in, and how far along them."""
    cells, along = [], []
    for points, grid in zip(x, self.grid):
        i = _pieces(grid, points, 0, len(grid) - 2)
        cells.append(i)
        width = grid[i + 1] - grid[i]
        along.append((points - grid[i]) / width)
    return np.stack(cells), np.stack(along)


def grid_values(values: Any, cells: Any, along: Any, grid: Any, out: Any) -> Any:
    """Bilinear interpolation."""
    (i, j), (a, b) = cells, along
    return ((1.0 - a) * ((1.0 - b) * values[i, j] + b * values[i, j + 1])
            + a * ((1.0 - b) * values[i + 1, j] + b * values[i + 1, j + 1]))


RULES: dict[str, Rule] = {
    "scipy.interpolate._ppoly:evaluate": piecewise,
    "scipy.interpolate._bspl:evaluate_spline": spline,
    "scipy.interpolate._dierckx:evaluate_spline": spline_values,
    "scipy.interpolate:interp1d._evaluate": interp1d,
    "scipy.interpolate:RegularGridInterpolator._find_indices": grid_places,
    "scipy.interpolate._rgi:evaluate_linear_2d": parts_apart(grid_values),
}
