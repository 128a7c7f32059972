"""Polynomials by their coefficients, highest power first, and sums of shifted products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .array import is_traced, ndim_of, shape_of
from .ufuncs import recorder_of


def polyval(p: Any, x: Any) -> Any:
    p, x = _array(p), x if isinstance(x, np.poly1d) else _array(x)
    y = 0.0 * x
    for coefficient in p:
        y = y * x + coefficient
    return y


def _both(a: Any, b: Any) -> tuple[Any, Any]:
    """Two polynomials with equally many coefficients."""
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    n = max(len(a), len(b))
    return tuple(np.concatenate([np.zeros(n - len(x)), x]) if len(x) < n else x for x in (a, b))


def polyadd(a: Any, b: Any) -> Any:
    a, b = _both(a, b)
    return a + b


def polysub(a: Any, b: Any) -> Any:
    a, b = _both(a, b)
    return a - b


def polymul(a: Any, b: Any) -> Any:
    return np.convolve(*(_trimmed(np.atleast_1d(x), lambda first: np.equal(first, 0.0)) for x in (a, b)))


def _trimmed(p: Any, vanishes: Callable[[Any], Any]) -> Any:
    """Without leading coefficients that vanish, which is decided; one is left."""
    while len(p) > 1 and vanishes(p[0]):
        p = p[1:]
    return p


def polydiv(u: Any, v: Any) -> tuple[Any, Any]:
    """(quotient, remainder) by long division."""
    u, v = np.atleast_1d(u) + 0.0, np.atleast_1d(v) + 0.0
    m, n = len(u) - 1, len(v) - 1
    if m < n:
        return np.zeros(1), _trimmed(u, _vanishes)
    quotient, rest = [], u
    for k in range(m - n + 1):
        factor = rest[k] / v[0]
        quotient.append(factor)
        rest = rest - np.concatenate([np.zeros(k), factor * v, np.zeros(m - n - k)])
    tail = rest[m - n + 1 :]
    return np.stack(quotient), _trimmed(tail, _vanishes) if len(tail) else np.zeros(1)


def _vanishes(first: Any) -> Any:
    """As NumPy takes a remainder's coefficients for none."""
    return np.isclose(first, 0.0, rtol=1e-14)


def polyder(p: Any, m: int = 1) -> Any:
    p = np.atleast_1d(p)
    for _ in range(m):
        n = len(p) - 1
        p = p[:-1] * np.arange(n, 0.0, -1.0)
    return p if m else np.copy(p)


def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    p = np.atleast_1d(p)
    constants = np.zeros(m) if k is None else np.atleast_1d(k)
    for i in range(m):
        constant = constants[0 if len(constants) == 1 else i]
        n = len(p)
        p = np.concatenate([p / np.arange(n, 0.0, -1.0), np.reshape(constant, 1)])
    return p


SMALL = 12  # order of matrices whose characteristic polynomial is found without their eigenvalues


def poly(zeros: Any) -> Any:
    """The coefficients of the polynomial with these zeros, real or complex, or of a matrix's characteristic polynomial.
    """
    zeros = np.atleast_1d(zeros)
    shape = shape_of(zeros)
    if len(shape) == 2 and shape[0] == shape[1] and shape[0]:
        if shape[0] <= SMALL:
            return _characteristic(zeros)
        zeros = np.linalg.eigvals(zeros)
    elif len(shape) != 1:
        raise ValueError("input must be 1d or non-empty square 2d array.")
    if not shape[0]:
        return 1.0
    result: Any = np.ones(1)
    for zero in zeros:
        result = np.convolve(result, np.stack([1.0 + 0.0 * zero, -zero]))
    return result


def _characteristic(a: Any) -> Any:
    """By Faddeev and LeVerrier's recursion, M <- A M + c I, c_k = -tr(A M) / k: right at equal eigenvalues too."""
    if not np.all(np.isfinite(a)):  # decided, as NumPy does
        raise np.linalg.LinAlgError("Array must not contain infs or NaNs")
    n = shape_of(a)[0]
    coefficients, power = [1.0 + 0.0 * a[0, 0]], np.eye(n)
    for k in range(1, n + 1):
        power = np.matmul(a, power)
        coefficients.append(np.trace(power) / -k)
        power = power + coefficients[-1] * np.eye(n)
    return np.stack(coefficients)


def polyfit(x: Any, y: Any, deg: int, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False) -> Any:
    """With plain x and w linear in y: NumPy's fit of every unit vector is the matrix; else by least squares."""
    if full or cov:
        recorder_of((x, y, w)).unsupported("numpy.polyfit with full= or cov=", "only the coefficients are returned")
    if not is_traced(x) and not is_traced(w):
        return np.dot(np.polyfit(x, np.eye(len(y)), deg, rcond, w=w), y)
    if deg < 0:
        raise ValueError("expected deg >= 0")
    if ndim_of(x) != 1 or not shape_of(x)[0] or shape_of(x)[0] != shape_of(y)[0]:
        raise TypeError("expected x and y to have same length")
    columns = np.vander(x, deg + 1)
    if w is not None:
        columns = columns * np.reshape(w, (-1, 1))
        y = np.transpose(np.transpose(y) * w)
    scale = np.sqrt(np.sum(columns * columns, axis=0))
    found = np.linalg.lstsq(columns / scale, y, shape_of(x)[0] * np.finfo(float).eps if rcond is None else rcond)[0]
    return np.transpose(np.transpose(found) / scale)


def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    if ndim_of(x) != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    n = len(x) if N is None else N
    if not n:
        return np.zeros((len(x), 0))
    columns: list[Any] = [np.ones(len(x))]
    for _ in range(n - 1):
        columns.append(columns[-1] * x)
    return np.stack(columns[:n] if increasing else columns[:n][::-1], axis=1)


def _mode(mode: Any) -> str:
    """NumPy takes numbers and first letters as well."""
    known = {0: "valid", 1: "same", 2: "full", "v": "valid", "s": "same", "f": "full"}
    found = known.get(mode[:1].lower() if isinstance(mode, str) else mode)
    if found is None:
        raise ValueError(f"mode must be one of 'valid', 'same', or 'full' (got {mode!r})")
    return found


def convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    """sum_k a[i - k] v[k]: a window that slides over the padded longer operand, one contraction."""
    mode = _mode(mode)
    a, v = np.atleast_1d(a), np.atleast_1d(v)
    if ndim_of(a) > 1 or ndim_of(v) > 1:
        raise ValueError("object too deep for desired array")
    if not shape_of(a)[0] or not shape_of(v)[0]:
        raise ValueError(f"{'a' if not shape_of(a)[0] else 'v'} cannot be empty")
    if shape_of(a)[0] < shape_of(v)[0]:
        a, v = v, a
    n, m = shape_of(a)[0], shape_of(v)[0]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(a, m - 1), m)
    full = np.dot(windows, v[::-1])
    if mode == "full":
        return full
    if mode == "valid":
        return full[m - 1 : n]
    return full[(m - 1) // 2 : (m - 1) // 2 + n]


def correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    if not ndim_of(a) or not ndim_of(v):
        raise ValueError("object of too small depth for desired array")
    if shape_of(a)[0] >= shape_of(v)[0]:
        return convolve(a, v[::-1], mode)
    return convolve(v, a[::-1], mode)[::-1]


def _array(x: Any) -> Any:
    """Numbers that may come as lists, also of traced ones."""
    if is_traced(x) or not isinstance(x, (list, tuple)):
        return x
    found = next(filter(is_traced, _numbers(x)), None)
    return found.rec.array_of(x) if found is not None else np.asarray(x) + 0.0


def _numbers(x: Any) -> Iterator[Any]:
    """What nested lists hold."""
    if isinstance(x, (list, tuple)):
        for part in x:
            yield from _numbers(part)
    else:
        yield x


def _of_lists(function: Callable[..., Any]) -> Callable[..., Any]:
    """Coefficients may come as lists."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_array, args), **kwargs)

    return call


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.polyval: polyval, np.polyadd: _of_lists(polyadd), np.polysub: _of_lists(polysub),
    np.polymul: _of_lists(polymul), np.polydiv: _of_lists(polydiv), np.polyder: _of_lists(polyder),
    np.polyfit: polyfit, np.polyint: _of_lists(polyint), np.poly: _of_lists(poly), np.vander: _of_lists(vander),
    np.convolve: _of_lists(convolve), np.correlate: _of_lists(correlate),
}
