"""Products that sum, of complex arrays: bilinear in the parts, so four real products, or as many as parts are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..array import ndim_of
from ..indexing import into
from ..ufuncs import recorder_of
from .array import computed, parts_of
from .parts import Part, minus, negated, plus
from .ufuncs import _GUFUNCS


def bilinear(function: Callable[..., Any], conjugated: int | None = None) -> Callable[..., Any]:
    """B(a + ib, c + id) = B(a, c) - B(b, d) + i (B(a, d) + B(b, c)); conjugated: the operand that is taken so."""

    def product(x: Any, y: Any, *args: Any, **kwargs: Any) -> Any:
        rec = recorder_of((x, y))
        out = kwargs.pop("out", None)
        (a, b), (c, d) = parts_of(x, rec), parts_of(y, rec)
        b, d = (negated(b) if conjugated == 0 else b), (negated(d) if conjugated == 1 else d)

        def term(p: Part, q: Part) -> Part:
            return None if p is None or q is None else function(p, q, *args, **kwargs)

        re, im = minus(term(a, c), term(b, d)), plus(term(a, d), term(b, c))
        if re is None and im is None:
            re = function(np.zeros(np.shape(x)), np.zeros(np.shape(y)), *args, **kwargs)
        return into(out, computed(rec, re, im))

    return product


def einsum(subscripts: Any, *operands: Any, out: Any = None, **kwargs: Any) -> Any:
    """Linear in every operand: one real product for every choice of a part of each that is there."""
    rec = recorder_of(operands if isinstance(subscripts, str) else (subscripts, *operands))
    if not isinstance(subscripts, str):
        rec.unsupported("numpy.einsum of complex arrays with lists of axes", "write the subscripts as text")
    kwargs.pop("dtype", None)
    chosen: list[tuple[int, list[Part]]] = [(0, [])]
    for pair in [parts_of(x, rec) for x in operands]:
        chosen = [(power + k, [*parts, part]) for power, parts in chosen for k, part in enumerate(pair)
                  if part is not None]
    sums: list[Part] = [None, None]
    for power, parts in chosen:
        term = np.einsum(subscripts, *parts, **kwargs)
        combine = plus if power % 4 < 2 else minus
        sums[power % 2] = combine(sums[power % 2], term)
    if sums[0] is None and sums[1] is None:
        sums[0] = np.einsum(subscripts, *(np.zeros(np.shape(x)) for x in operands), **kwargs)
    return into(out, computed(rec, *sums))


def dot(x: Any, y: Any, out: Any = None) -> Any:
    if ndim_of(x) == 0 or ndim_of(y) == 0:
        return into(out, np.multiply(x, y))
    return bilinear(np.dot)(x, y, out=out)


def outer(x: Any, y: Any, out: Any = None) -> Any:
    return into(out, np.multiply(np.reshape(x, (-1, 1)), np.reshape(y, (1, -1))))


def inner(x: Any, y: Any) -> Any:
    return np.multiply(x, y) if ndim_of(x) == 0 or ndim_of(y) == 0 else bilinear(np.inner)(x, y)


def vdot(x: Any, y: Any) -> Any:
    return bilinear(np.dot, 0)(np.ravel(x), np.ravel(y))


def multi_dot(arrays: Sequence[Any], *, out: Any = None) -> Any:
    result = arrays[0]
    for x in arrays[1:]:
        result = np.dot(result, x)
    return into(out, result)


def matrix_power(a: Any, n: int) -> Any:
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    if n < 0:
        a, n = np.linalg.inv(a), -n
    if n == 1:
        return a  # itself, as in NumPy
    result = np.zeros_like(a) + np.eye(a.shape[-1])
    while n:
        if n & 1:
            result = np.matmul(result, a)
        n >>= 1
        a = np.matmul(a, a) if n else a
    return result


def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    return bilinear(lambda x, y: np.convolve(x, y, mode))(a, v)


def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    """sum_n a_{n+k} conj(v_n)."""
    return bilinear(lambda x, y: np.correlate(x, y, mode), 1)(a, v)


def _matmul(x: Any, y: Any, axes: Any = None, **options: Any) -> Any:
    return bilinear(np.matmul)(x, y, **({} if axes is None else {"axes": axes}))


_GUFUNCS[np.matmul] = _matmul
for _name, _conjugated in {"vecdot": 0, "matvec": None, "vecmat": 0}.items():
    if hasattr(np, _name):  # of NumPy 2
        _GUFUNCS[getattr(np, _name)] = bilinear(getattr(np, _name), _conjugated)

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.dot: dot, np.inner: inner, np.outer: outer, np.vdot: vdot,
    np.tensordot: lambda a, b, axes=2: bilinear(lambda x, y: np.tensordot(x, y, axes))(a, b),
    np.einsum: einsum, np.kron: bilinear(np.kron), np.cross: bilinear(np.cross),
    np.convolve: convolve, np.correlate: correlate,
    np.linalg.multi_dot: multi_dot, np.linalg.matrix_power: matrix_power,
}
