"""Writing into chosen elements, and choosing among arrays element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .array import is_boolean, is_traced, ndim_of, shape_of
from .decisions import decide
from .indexing import assign, into, plain_index, scatter
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
    """Cut off, or filled up with zeros, in the order of its memory.  Where the number of elements stays, so does the
    memory, and views of it stay views; else views keep what the array was (in NumPy they point nowhere)."""
    shape = new_shape[0] if len(new_shape) == 1 else new_shape
    shape = (shape,) if ndim_of(shape) == 0 else tuple(shape)
    n, flags = int(np.prod(shape)), x.window.flags
    if n == x.size:
        window = x.window.view()  # the buffer keeps its own shape
        window.resize(shape, refcheck=False)
        x.window = window
        return
    if not (flags.c_contiguous or flags.f_contiguous):
        raise ValueError("resize only works on single-segment arrays")
    order = "C" if flags.c_contiguous else "F"
    flat = np.ravel(x, order)[:n]
    flat = np.concatenate([flat, np.zeros(n - len(flat))]) if len(flat) < n else np.copy(flat)
    result = np.reshape(flat, shape, order)
    x.st, x.window, x.at = result.st, result.window, result.at


def choose(index: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """A mask chooses as np.where does, with no decision; other indices are plain."""
    n = len(choices)
    if is_traced(index):
        if not is_boolean(index):
            index.rec.unsupported("numpy.choose by traced values", "use np.where, or np.choose(x.astype(int), ...)")
        if n > 1:
            choices = [index.rec.array_of(x) if isinstance(x, (list, tuple)) else x for x in choices]
            mask, *parts = np.broadcast_arrays(index, *choices)
            return into(out, np.where(mask, parts[1], parts[0]))
        index = decide(index)
    index = np.asarray(index).astype(int)
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
    beyond = np.flatnonzero((indices < -a.size) | (indices >= a.size)) if mode == "raise" else ()
    if len(beyond):  # NumPy writes what comes before it
        first, indices = indices[beyond[0]], indices[: beyond[0]]
        values = values[: beyond[0]] if ndim_of(values) else values
    a[np.unravel_index(indices + a.size * (indices < 0), a.shape)] = values
    if len(beyond):
        raise IndexError(f"index {first} is out of bounds for axis 0 with size {a.size}")


class Flat:
    """x.flat: reads and writes the elements of x in C order.  As in NumPy what an index gives is a copy, and values
    that are too few are written again from the first on."""

    def __init__(self, base: Any) -> None:
        self.base = base
        self.index = 0  # of the element that comes next

    def __len__(self) -> int:
        return int(self.base.size)

    def __iter__(self) -> Flat:
        return self

    def __next__(self) -> Any:
        if self.index >= len(self):
            raise StopIteration
        self.index += 1
        return self._element(self.index - 1)

    @property
    def coords(self) -> tuple[int, ...]:
        """Where the element that comes next is in x."""
        places, rest = [], self.index
        for n in self.base.shape[:0:-1]:
            rest, place = divmod(rest, n)
            places.append(place)
        return tuple([rest, *places[::-1]]) if self.base.ndim else ()

    def _one_index(self, index: Any) -> Any:
        """An index as NumPy takes it here; the elements then come from the first on again."""
        self.index = 0
        index = plain_index(self.base.rec, index[0] if type(index) is tuple and len(index) == 1 else index)
        if index is None or type(index) is tuple:
            raise IndexError("only integers, slices (`:`), ellipsis (`...`) and integer or boolean arrays are valid "
                             "indices")
        if isinstance(index, (bool, np.bool_)):
            return 0 if index else slice(0, 0)
        return index

    def __getitem__(self, index: Any) -> Any:
        index = self._one_index(index)
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"index {index} is out of bounds for size {len(self)}")
            return self._element(int(index) % len(self))
        part = np.reshape(self.base, -1)[index]
        return np.copy(part) if isinstance(index, (slice, type(Ellipsis))) else part

    def __setitem__(self, index: Any, value: Any) -> None:
        base, index = self.base, self._one_index(index)
        value = base.rec.array_of(value) if isinstance(value, (list, tuple)) else value
        if is_traced(value) and ndim_of(value) and value.st is base.st:
            scatter(base, index, value, flat=True)  # where both overlap the result depends on the order of writes
            return
        places = np.arange(len(self))[index]
        if ndim_of(value) and ndim_of(places):
            if not np.size(value):
                return
            if np.size(value) != np.size(places):
                value = resize(value, np.size(places)) if is_traced(value) else np.resize(value, np.size(places))
            if index is Ellipsis or type(index) is slice and index == slice(None):
                base[...] = np.reshape(value, base.shape)
                return
            value = np.ravel(value)
        elements = np.reshape(base, -1)
        if isinstance(index, (slice, type(Ellipsis))) and elements.st is base.st:
            elements[index] = value
        else:
            base[np.unravel_index(np.ravel(places), base.shape)] = value

    def copy(self) -> Any:
        return self.base.flatten()

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.reshape(self.base, -1).__array__(dtype, copy)

    def _element(self, index: int) -> Any:
        return self.base[tuple(map(int, np.unravel_index(index, self.base.shape)))]

    def _distdiff_held(self) -> Any:
        """What NumPy's functions see of it."""
        return np.reshape(self.base, -1)


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
    if mask.size != a.size:
        raise ValueError("place: mask and data must be the same size")
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
