"""Writing into chosen elements, and choosing among arrays element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import is_traced, ndim_of, shape_of
from .decisions import decide
from .indexing import assign, into
from .ufuncs import recorder_of


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    if not is_traced(dst):
        recorder_of((src, where)).unsupported("numpy.copyto into a plain array", "make the array inside the function")
    assign(dst, src if where is True else np.where(where, src, dst))


def resize(x: Any, new_shape: Any) -> Any:
    """Repeated as often as is needed."""
    n = int(np.prod(new_shape))
    if not np.size(x) or not n:
        return np.zeros(new_shape)
    return np.reshape(np.ravel(x)[np.arange(n) % np.size(x)], new_shape)


def resize_in_place(x: Any, *new_shape: Any, refcheck: bool = True) -> None:
    """Cut off, or filled up with zeros.  Views of what the array was keep that."""
    shape = new_shape[0] if len(new_shape) == 1 else new_shape
    shape = (shape,) if ndim_of(shape) == 0 else tuple(shape)
    n = int(np.prod(shape))
    flat = np.ravel(x)[:n]
    flat = np.concatenate([flat, np.zeros(n - len(flat))]) if len(flat) < n else np.copy(flat)
    result = np.reshape(flat, shape)
    x.st, x.window = result.st, result.window


def choose(index: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    if is_traced(index):
        index.rec.unsupported("numpy.choose by traced values", "use np.where, or np.choose(x.astype(int), ...)")
    index, n = np.asarray(index), len(choices)
    if mode == "raise" and ((index < 0) | (index >= n)).any():
        raise ValueError("invalid entry in choice array")
    index = index % n if mode == "wrap" else np.clip(index, 0, n - 1)
    index, *choices = np.broadcast_arrays(index, *choices)
    result = choices[-1]
    for k in range(n - 1):
        result = np.where(index == k, choices[k], result)
    return into(out, np.copy(result) if result is choices[-1] else result)


def put(a: Any, indices: Any, values: Any, mode: str = "raise") -> None:
    if not is_traced(a):
        recorder_of((values,)).unsupported("numpy.put into a plain array", "make the array inside the function")
    indices = np.ravel(np.asarray(indices))
    values = a.rec.array_of(values) if isinstance(values, (list, tuple)) else values
    if ndim_of(values):
        values = resize(values, len(indices)) if is_traced(values) else np.resize(values, len(indices))
    if mode != "raise":
        indices = indices % a.size if mode == "wrap" else np.clip(indices, 0, a.size - 1)
    a[np.unravel_index(indices + a.size * (indices < 0), a.shape)] = values


class Flat:
    """x.flat of an array that is no view of one axis."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def __len__(self) -> int:
        return int(self.base.size)

    def __getitem__(self, index: Any) -> Any:
        return np.reshape(self.base, -1)[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        places = np.arange(len(self))[index]
        value = self.base.rec.array_of(value) if isinstance(value, (list, tuple)) else value
        if ndim_of(value):
            value = np.resize(value, np.size(places)) if not is_traced(value) else resize(value, np.size(places))
        self.base[np.unravel_index(np.ravel(places), self.base.shape)] = value

    def copy(self) -> Any:
        return np.copy(np.reshape(self.base, -1))

    def __getattr__(self, name: str) -> Any:
        return getattr(np.reshape(self.base, -1), name)


def item_set(a: Any, *args: Any) -> None:
    """ndarray.itemset, gone in NumPy 2."""
    *index, value = args
    if not index:
        a[...] = value
    elif len(index) == 1 and ndim_of(index[0]) == 0:
        put(a, index[0], value)
    else:
        a[tuple(index) if len(index) > 1 else index[0]] = value


def place(a: Any, mask: Any, values: Any) -> None:
    mask = np.asarray(decide(mask), dtype=bool)
    a[mask] = np.ravel(values)[np.arange(int(np.sum(mask))) % np.size(values)]


def put_mask(a: Any, mask: Any, values: Any) -> None:
    a[...] = np.where(mask, values if ndim_of(values) == 0 else resize(values, a.shape), a)


def put_along_axis(a: Any, indices: Any, values: Any, axis: int | None) -> None:
    if axis is None:
        a.flat[np.asarray(indices)] = values
        return
    at = list(np.ogrid[tuple(slice(n) for n in shape_of(indices))])
    at[axis] = np.asarray(indices)
    a[tuple(at)] = values


def differences(x: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    rec = recorder_of((x, *_ends(to_end), *_ends(to_begin)))
    x = np.ravel(rec.array_of(x))
    begin, end = ([] if part is None else [np.ravel(rec.array_of(part))] for part in (to_begin, to_end))
    return np.concatenate([*begin, x[1:] - x[:-1], *end])


def _ends(x: Any) -> Any:
    return x if isinstance(x, (list, tuple)) else (x,)


def extract(condition: Any, x: Any) -> Any:
    return np.ravel(x)[np.ravel(decide(condition)).astype(bool)]


def fill_diagonal(target: Any, value: Any, wrap: bool = False) -> None:
    """Every (n + 1)-th element of a matrix with n columns; of more axes those with equal indices."""
    if not is_traced(target):
        recorder_of((value,)).unsupported("numpy.fill_diagonal of a plain array", "make the array inside the function")
    if target.ndim < 2:
        raise ValueError("array must be at least 2-d")
    if target.ndim == 2:
        rows, columns = target.shape
        last = target.size if wrap else min(columns * columns, target.size)
        at = np.unravel_index(np.arange(0, last, columns + 1), target.shape)
    else:
        if len(set(target.shape)) > 1:
            raise ValueError("All dimensions of input must be of equal length")
        at = (np.arange(target.shape[0]),) * target.ndim
    value = target.rec.array_of(value) if isinstance(value, (list, tuple)) else value
    if ndim_of(value):
        value = np.ravel(value)[np.arange(len(at[0])) % np.size(value)]
    target[at] = value


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.copyto: copyto, np.resize: resize, np.choose: choose, np.put: put, np.place: place, np.putmask: put_mask,
    np.put_along_axis: put_along_axis, np.ediff1d: differences, np.extract: extract, np.fill_diagonal: fill_diagonal,
}
