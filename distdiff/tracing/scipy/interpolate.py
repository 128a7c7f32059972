"""scipy.interpolate's piecewise polynomials, in their points, coefficients and knots: which piece is decided.

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


@writes(5, "out")
def integral(c: Any, knots: Any, a: Any, b: Any, extrapolate: Any, out: Any) -> None:
    """The integral from a to b of what `piecewise` evaluates."""
    powers = np.arange(len(c), 0, -1)
    primitive = c / np.reshape(powers, (-1, 1, 1))
    steps = np.reshape(np.diff(knots), (1, -1)) ** np.reshape(powers, (-1, 1))
    whole = np.cumsum(np.sum(primitive * steps[:, :, None], axis=0), axis=0)  # of the pieces up to each

    def until(x: Any) -> Any:
        i = int(np.reshape(_pieces(knots, np.reshape(x, 1), 0, len(knots) - 2), ()))
        part = np.sum(primitive[:, i] * np.reshape((x - knots[i]) ** powers, (-1, 1)), axis=0)
        return part + whole[i - 1] if i else part

    out[...] = until(b) - until(a)
    if not extrapolate and any(_beyond(x, knots[0], knots[-1]) for x in (a, b)):
        out[...] = np.nan


@writes(6)
def spline(knots: Any, c: Any, k: int, x: Any, order: int, extrapolate: Any, out: Any) -> None:
    """sum_i c_i B_i,k(x), or its derivative of that order."""
    y = de_boor(knots, c, k, x, order)
    _written(out, y, x, bool(extrapolate), knots[k], knots[len(knots) - k - 1])


def de_boor(t: Any, c: Any, k: int, x: Any, order: int = 0) -> Any:
    """de Boor's recurrence, after `order` differences of the coefficients: (points, columns of c)."""
    if order > k:
        return 0.0 * np.reshape(x, (-1, 1)) + np.zeros(shape_of(c)[1])
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
    return parts[k]


@parts_apart
def splev(x: Any, tck: Any, der: int = 0, ext: int = 0) -> Any:
    """FITPACK's splines, beyond their ends as `ext` says: 0 goes on, 1 is zero, 2 an error, 3 the end's value."""
    t, c, k = tck
    if not isinstance(c, np.ndarray) or c.ndim != 1:
        return [splev(x, (t, part, k), der, ext) for part in c]
    x = recorder_of((x, c)).array_of(x)
    flat, low, high = np.reshape(x, -1), t[k], t[-k - 1]
    beyond = _beyond(flat, low, high) if ext else np.zeros(1, dtype=bool)
    if ext == 2 and beyond.any():
        raise ValueError("Invalid input data")
    column, at = np.reshape(c[: len(t) - k - 1], (-1, 1)), np.clip(flat, low, high) if ext == 3 else flat
    y = de_boor(t, column, k, at, der)[:, 0]
    y = np.where(beyond, 0.0, y) if ext == 1 and beyond.any() else y
    return np.reshape(y, x.shape)


def surface(tx: Any, ty: Any, c: Any, kx: int, ky: int, *rest: Any) -> tuple[Any, int]:
    """FITPACK's bivariate splines at points (x_i, y_i): ([dx, dy,] x, y) -> (values, 0)."""
    dx, dy = rest[:-2] or (0, 0)
    x, y = (np.clip(z, t[k], t[-k - 1]) for z, t, k in zip(rest[-2:], (tx, ty), (kx, ky)))
    c = np.reshape(c, (len(tx) - kx - 1, len(ty) - ky - 1))
    along_x, along_y = de_boor(tx, np.eye(c.shape[0]), kx, x, dx), de_boor(ty, np.eye(c.shape[1]), ky, y, dy)
    return np.sum(np.matmul(along_x, c) * along_y, axis=1), 0  # products of the B-splines themselves


def interpolating(x: Any, y: Any, k: int = 3, t: Any = None, bc_type: Any = None, axis: int = 0, **options: Any) -> Any:
    """make_interp_spline, whose coefficients are linear in y: SciPy's of every unit vector are the matrix."""
    from scipy.interpolate import BSpline, make_interp_spline

    rec = recorder_of((x, y, t))
    if getattr(y, "dtype", np.dtype(float)).kind == "c":
        rec.unsupported("scipy.interpolate.make_interp_spline of complex y", "interpolate real and imaginary parts")
    if is_traced(x) or is_traced(t) or not (bc_type is None or isinstance(bc_type, str)):
        rec.unsupported("scipy.interpolate.make_interp_spline with traced x or values in bc_type",
                        "only y may be traced, and bc_type be a name")
    y = np.moveaxis(y, axis, 0)
    unit = make_interp_spline(x, np.eye(shape_of(y)[0]), k, t, bc_type, 0, **options)
    return BSpline.construct_fast(unit.t, np.tensordot(unit.c, y, (1, 0)), unit.k, axis=axis % len(shape_of(y)))


def interp1d_of(self: Any, x: Any, y: Any, kind: Any = "linear", axis: int = -1, copy: bool = True,
                bounds_error: Any = None, fill_value: Any = np.nan, assume_sorted: bool = False) -> None:
    """interp1d of traced x or y: SciPy's of their values looks at everything else."""
    rec = recorder_of((x, y, fill_value))
    if is_traced(fill_value) or is_traced(x) and kind != "linear":
        rec.unsupported("scipy.interpolate.interp1d of traced fill_value, or x where it is not linear",
                        "CubicSpline can be traced in x")
    if getattr(y, "dtype", np.dtype(float)).kind == "c":
        rec.unsupported("scipy.interpolate.interp1d of complex y", "interpolate real and imaginary parts")
    y = rec.array_of(y)
    values = x.plain_values() if is_traced(x) else x
    self.__init__(values, y.plain_values(), kind, axis, copy, bounds_error, fill_value, assume_sorted)
    order = slice(None) if assume_sorted else np.argsort(x, kind="mergesort")
    self.x = x[order] if is_traced(x) else self.x
    self.y = y if assume_sorted else np.take(y, order, axis)
    self._y = self._reshape_yi(self.y)
    if hasattr(self, "_spline"):
        self._spline = interpolating(self.x, self._y, self._spline.k, check_finite=False)


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
    "scipy.interpolate._ppoly:integrate": integral,
    "scipy.interpolate._bspl:evaluate_spline": spline,
    "scipy.interpolate._dierckx:evaluate_spline": spline_values,
    "scipy.interpolate._fitpack_impl:splev": splev,
    "scipy.interpolate._fitpack2:dfitpack.bispeu": surface,
    "scipy.interpolate._fitpack2:dfitpack.pardeu": surface,
    "scipy.interpolate:make_interp_spline": interpolating,
    "scipy.interpolate:interp1d.__init__": interp1d_of,
    "scipy.interpolate:interp1d._evaluate": interp1d,
    "scipy.interpolate:RegularGridInterpolator._find_indices": grid_places,
    "scipy.interpolate._rgi:evaluate_linear_2d": parts_apart(grid_values),
}
