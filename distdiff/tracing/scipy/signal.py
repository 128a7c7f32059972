"""scipy.signal: convolutions as contractions with sliding windows, recursive filters as the recurrences they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..array import is_traced, shape_of
from ..order import picked
from ..ufuncs import number, recorder_of
from .replacing import Rule
from .windows import contracted, extended, sliding

# -- convolution ---------------------------------------------------------------------------------------------------


def _array(x: Any, name: str) -> Any:
    x = number(recorder_of((x,)), x, name) if is_traced(x) else np.asarray(x)
    if x.dtype.kind not in "fiub":
        raise TypeError(f"{name} with coefficients of dtype {x.dtype} and traced values")
    return x


def _parts(x: Any) -> tuple[Any, Any]:
    """Real and imaginary part; None for the latter where x is real."""
    x = x if hasattr(x, "dtype") else np.asarray(x)
    return (x.real, x.imag) if x.dtype.kind == "c" else (x, None)


def _bilinear(conjugate: bool = False, fills: bool = False) -> Callable[[Rule], Rule]:
    """A rule for real operands that is bilinear in them, for complex ones too: by real and imaginary parts.

    fills: its third option is what in1 is beyond its ends, a part of which belongs to either part of in1.
    """

    def mark(rule: Rule) -> Rule:
        def of_complex(in1: Any, in2: Any, *args: Any, **kwargs: Any) -> Any:
            (a, b), (c, d) = _parts(in1), _parts(in2)
            if b is None and d is None:
                return rule(in1, in2, *args, **kwargs)
            real, imaginary = kwargs, kwargs
            if fills:
                beyond = np.asarray(args[2] if len(args) > 2 else kwargs.get("fillvalue", 0))
                args = args[:2]
                real, imaginary = {**kwargs, "fillvalue": beyond.real}, {**kwargs, "fillvalue": beyond.imag}
                b = np.zeros(shape_of(a)) if b is None and beyond.imag else b
            d = -d if conjugate and d is not None else d
            re, im = rule(a, c, *args, **real), 0.0
            re = re if b is None or d is None else re - rule(b, d, *args, **imaginary)
            im = im if d is None else im + rule(a, d, *args, **real)
            im = im if b is None else im + rule(b, c, *args, **imaginary)
            return re + 1j * im

        return of_complex

    return mark


def _flipped(x: Any) -> Any:
    return x[(slice(None, None, -1),) * len(shape_of(x))]


@_bilinear()
def convolve(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    """sum_k in1[i - k] in2[k] over all axes."""
    return fftconvolve(in1, in2, mode)


@_bilinear(conjugate=True)
def correlate(in1: Any, in2: Any, mode: str = "full", method: str = "auto") -> Any:
    return fftconvolve(in1, _flipped(_array(in2, "scipy.signal.correlate")), mode)


@_bilinear()
def fftconvolve(in1: Any, in2: Any, mode: str = "full", axes: Any = None) -> Any:
    """The same over some axes; along the others one of the two may have length 1."""
    a, v = _array(in1, "scipy.signal.convolve"), _array(in2, "scipy.signal.convolve")
    n, m = shape_of(a), shape_of(v)
    if len(n) != len(m):
        raise ValueError("in1 and in2 should have the same dimensionality")
    if not n:
        return a * v
    axes = range(len(n)) if axes is None else sorted(k % len(n) for k in np.atleast_1d(axes).tolist())
    if not all(n) or not all(m):
        return np.array([])
    if mode == "valid":
        larger = [n[k] >= m[k] for k in axes]
        if not all(larger):
            if any(n[k] > m[k] for k in axes):
                raise ValueError("For 'valid' mode, one must be at least as large as the other in every dimension")
            a, v, n, m = v, a, m, n
        return _windowed(a, v, {k: (0, 0) for k in axes})
    if mode == "full":
        if np.prod([n[k] for k in axes]) < np.prod([m[k] for k in axes]):
            a, v, n, m = v, a, m, n
        return _windowed(a, v, {k: (m[k] - 1, m[k] - 1) for k in axes})
    if mode != "same":
        raise ValueError("acceptable mode flags are 'valid', 'same', or 'full'")
    return _windowed(a, v, {k: (m[k] - 1 - (m[k] - 1) // 2, (m[k] - 1) // 2) for k in axes})


def _windowed(a: Any, v: Any, ends: dict[int, tuple[int, int]], extension: str = "constant", value: Any = 0.0) -> Any:
    """The windows over a, extended at its ends, contracted with v from behind."""
    for axis, (before, after) in ends.items():
        a = extended(a, axis, before, after, extension, value)
    shape = [1 if k in ends else max(pair) for k, pair in enumerate(zip(shape_of(a), shape_of(v)))]
    a = np.broadcast_to(a, [n if k in ends else shape[k] for k, n in enumerate(shape_of(a))])
    v = np.broadcast_to(v, [n if k in ends else shape[k] for k, n in enumerate(shape_of(v))])
    v = v[tuple(slice(None, None, -1) if k in ends else slice(None) for k in range(len(shape)))]
    return contracted(a, v, sorted(ends))


@_bilinear(fills=True)
def convolve2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Any:
    """In two dimensions, with in1 filled, wrapped or mirrored beyond its ends."""
    return _convolved(in1, in2, mode, boundary, fillvalue, lambda m: (m // 2, (m - 1) // 2))


def _convolved(in1: Any, in2: Any, mode: str, boundary: str, fillvalue: Any, same: Callable[[int], Any]) -> Any:
    """same: how many elements in1 is extended by on either side, for a kernel of length m, to keep its size."""
    if mode == "valid" and any(n < m for n, m in zip(np.shape(in1), np.shape(in2))):
        in1, in2 = in2, in1
    a, v = _array(in1, "scipy.signal.convolve2d"), _array(in2, "scipy.signal.convolve2d")
    if len(shape_of(a)) != 2 or len(shape_of(v)) != 2:
        raise ValueError("convolve2d inputs must both be 2-D arrays")
    m = shape_of(v)
    ends = {"valid": lambda m: (0, 0), "full": lambda m: (m - 1, m - 1), "same": same}
    extension = {"fill": "constant", "wrap": "wrap", "symm": "reflect"}
    if mode not in ends or boundary not in extension:
        raise ValueError(f"acceptable modes are {list(ends)}, acceptable boundaries are {list(extension)}")
    return _windowed(a, v, {k: ends[mode](m[k]) for k in (0, 1)}, extension[boundary], fillvalue)


@_bilinear(conjugate=True, fills=True)
def correlate2d(in1: Any, in2: Any, mode: str = "full", boundary: str = "fill", fillvalue: Any = 0) -> Any:
    swapped = mode == "valid" and any(n < m for n, m in zip(np.shape(in1), np.shape(in2)))
    if swapped:
        in1, in2 = in2, in1
    y = _convolved(in1, _flipped(_array(in2, "scipy.signal.correlate2d")), mode, boundary, fillvalue,
                   lambda m: ((m - 1) // 2, m // 2))
    return _flipped(y) if swapped else y


# -- recursive filters ---------------------------------------------------------------------------------------------


def lfilter(b: Any, a: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    """a_0 y[n] = sum_k b_k x[n - k] - sum_k a_k y[n - k], in direct form II transposed; with zi also the last state."""
    (re, im), (start, of_im) = _parts(x), (zi, None) if zi is None else _parts(zi)
    if im is not None or of_im is not None:
        im = np.zeros(shape_of(re)) if im is None else im
        of_im = np.zeros(shape_of(start)) if of_im is None and zi is not None else of_im
        real, imaginary = lfilter(b, a, re, axis, start), lfilter(b, a, im, axis, of_im)
        return real + 1j * imaginary if zi is None else tuple(x + 1j * y for x, y in zip(real, imaginary))
    b, a, x = (np.atleast_1d(_array(z, "scipy.signal.lfilter")) for z in (b, a, x))
    rec = recorder_of((b, a, x, zi))
    order = max(len(shape_of(b)) and shape_of(b)[0], shape_of(a)[0]) - 1
    b, a = b / a[0], a / a[0]
    b = np.concatenate([b, np.zeros(order + 1 - shape_of(b)[0])])
    a = np.concatenate([a, np.zeros(order + 1 - shape_of(a)[0])])
    b, a = (list(z) if is_traced(z) else z.tolist() for z in (b, a))  # Python's floats: products of them are quickest
    lanes = np.moveaxis(x, axis, 0)
    lanes = lanes.tolist() if not is_traced(lanes) and lanes.ndim == 1 else lanes
    if zi is None:
        state = [0.0] * order
    else:
        zi = np.moveaxis(zi if is_traced(zi) else np.asarray(zi, dtype=float), axis, 0)
        state = list(np.broadcast_to(zi, (order, *shape_of(lanes)[1:])))
    results = []
    for value in lanes:
        y = b[0] * value + state[0] if order else b[0] * value
        for k in range(order):
            after = state[k + 1] if k + 1 < order else 0.0
            state[k] = b[k + 1] * value - a[k + 1] * y + after
        results.append(y)
    y = np.moveaxis(rec.array_of(results), 0, axis)
    return y if zi is None else (y, np.moveaxis(rec.array_of(state), 0, axis))


def sosfilt(sos: Any, x: Any, axis: int = -1, zi: Any = None) -> Any:
    """Sections of second order one after another."""
    states = []
    for k in range(shape_of(sos)[0]):
        x = lfilter(sos[k, :3], sos[k, 3:], x, axis, None if zi is None else zi[k])
        if zi is not None:
            x, state = x
            states.append(state)
    return x if zi is None else (x, np.stack(states))


def upfirdn(h: Any, x: Any, up: int = 1, down: int = 1, axis: int = -1, mode: str = "constant", cval: float = 0) -> Any:
    """Every down-th of: x with up - 1 zeros after each element, convolved with h."""
    h, x = _array(h, "scipy.signal.upfirdn"), _array(x, "scipy.signal.upfirdn")
    if mode != "constant" or cval != 0:
        recorder_of((h, x)).unsupported(f"scipy.signal.upfirdn with mode={mode!r}", "extend the signal before")
    x = np.moveaxis(x, axis, 0)
    shape = shape_of(x)
    spread = recorder_of((h, x)).array_of(np.zeros(((shape[0] - 1) * up + 1, *shape[1:])))
    spread[::up] = x
    y = _windowed(spread, np.reshape(h, (-1,) + (1,) * (len(shape) - 1)), {0: (shape_of(h)[0] - 1,) * 2})
    return np.moveaxis(y[::down], 0, axis)


def order_filter(x: Any, domain: Any, rank: int) -> Any:
    """The element of that rank under the domain, zeros beyond the ends."""
    for axis, size in enumerate(shape_of(domain)):
        x = extended(x, axis, size // 2, size - 1 - size // 2, "constant")
    windows = sliding(x, shape_of(domain), range(len(shape_of(domain))))[(..., *np.nonzero(domain))]
    return picked(windows, int(rank), -1)[..., int(rank)]


def segments(x: Any, win: Any, detrend: Callable[[Any], Any], nperseg: int, noverlap: int, nfft: int,
             sides: str) -> Any:
    """The transforms of overlapping, detrended and windowed segments: what welch, stft and their kin are made of."""
    parts = sliding(x, [nperseg], [-1])[..., :: nperseg - noverlap, :]
    parts = win * detrend(parts)
    return np.fft.rfft(parts, n=nfft) if sides == "onesided" else np.fft.fft(parts, n=nfft)


RULES: dict[str, Rule] = {f"scipy.signal:{name}": rule for name, rule in {
    "convolve": convolve, "correlate": correlate, "fftconvolve": fftconvolve, "oaconvolve": fftconvolve,
    "convolve2d": convolve2d, "correlate2d": correlate2d, "lfilter": lfilter, "sosfilt": sosfilt, "upfirdn": upfirdn,
}.items()} | {
    "scipy.signal._sigtools:_order_filterND": order_filter, "scipy.signal._spectral_py:_fft_helper": segments}
