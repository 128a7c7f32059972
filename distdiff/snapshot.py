"""Values as they were: copies that stay, and whether something is still what was copied.

Numbers and text count by value and type, arrays bit by bit with the order of their axes in memory, containers part by
part, all else by identity.  `kept` and `same` are a copy and its comparison; `remember` keeps no more than it takes to
tell, once and for many questions, whether one value is what it was.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections import deque
from collections.abc import Callable
from itertools import repeat
from types import MappingProxyType
from typing import Any

import numpy as np

LARGE = 1 << 16  # bytes: larger arrays are compared where they lie, smaller ones by their bytes
SAMPLE = 4096  # numbers of an array that is not compared whole
_CONTAINERS = (dict, list, set, deque, MappingProxyType)
_BUFFERS = (bytearray, memoryview, array, ctypes.Array, ctypes.Structure)
BY_CONTENT = (*_CONTAINERS, *_BUFFERS)  # what changes where it lies, and is remembered by what it holds
_ALIKE = (float, int, str, bytes, complex, np.generic, type(None))  # which code tells apart by their values
_compare = ctypes.CDLL(None).memcmp
_compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def kept(value: Any, limit: float = math.inf, met: dict[int, Any] | None = None) -> Any:
    """A copy of arrays (up to `limit` bytes) in nested containers; everything else as it is.

    met: copies of what was met on the way, by its id: a container that holds itself gets a copy that does, and one
    array that is there twice gets one copy.
    """
    if isinstance(value, np.ndarray) and value.dtype != object:
        if value.nbytes > limit:
            return value
        if met is not None and id(value) in met:
            return met[id(value)]
        copy = value.copy("K")
        copy.flags.writeable = value.flags.writeable
        if met is not None:
            met[id(value)] = copy
        return copy
    if not isinstance(value, (tuple, list, dict)):
        return value
    met = {} if met is None else met
    if id(value) in met:
        return met[id(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[kept(part, limit, met) for part in value])
    if type(value) is tuple:
        return tuple([kept(part, limit, met) for part in value])
    if type(value) is list:
        copy: Any = []
        met[id(value)] = copy
        copy.extend([kept(part, limit, met) for part in value])
        return copy
    if type(value) is dict:
        copy = met[id(value)] = {}
        copy.update([(key, kept(part, limit, met)) for key, part in value.items()])
        return copy
    return value


def identities(*values: Any) -> tuple[int, ...]:
    """Which of the arrays, containers and other objects among values and in their containers are one: for each the
    place of the first that it is."""
    places: dict[int, int] = {}
    found: list[int] = []
    rest = [*reversed(values)]
    while rest:
        value = rest.pop()
        if isinstance(value, _ALIKE):
            continue
        first = places.setdefault(id(value), len(found))
        found.append(first)
        if first == len(found) - 1 and isinstance(value, (tuple, list, dict)):
            rest += reversed(value.values() if isinstance(value, dict) else value)
    return tuple(found)


def same(a: Any, b: Any, met: set[tuple[int, int]] | None = None) -> bool:
    """Whether b is what was kept as a: numbers and text by value and type, arrays bit by bit, containers part by part,
    other objects by identity.  met: pairs of containers that are being compared, which may hold themselves."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray) and a.dtype != object:
        return same_bits(a, b)
    if isinstance(a, (tuple, list)) or type(a) is dict:
        if len(a) != len(b):
            return False
        pair = id(a), id(b)
        if met is None:
            met = set()
        elif pair in met:
            return True
        met.add(pair)
        if isinstance(a, dict):
            return list(a) == list(b) and all(map(same, a.values(), b.values(), repeat(met)))  # their order, too
        return all(map(same, a, b, repeat(met)))
    if isinstance(a, (float, np.floating)):
        return bool(a == b and math.copysign(1.0, a) == math.copysign(1.0, b) or (a != a and b != b))
    if isinstance(a, (int, str, bytes, complex, np.generic, frozenset)):
        return bool(a == b)
    return a is b


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are equal, NaN equal to itself and -0.0 another number than 0.0, their axes in memory in the
    same order."""
    if a.shape != b.shape or a.dtype != b.dtype or _axes(a) != _axes(b):
        return False
    if a.nbytes > LARGE and a.flags.forc and a.strides == b.strides:  # no temporary
        return not _compare(a.ctypes.data, b.ctypes.data, a.nbytes)
    if a.dtype.kind == "f" and a.itemsize == 8:
        a, b = (np.ascontiguousarray(x).view(np.int64) for x in (a, b))
        return bool((a == b).all())
    return a.tobytes() == b.tobytes()


def _axes(x: np.ndarray) -> Any:
    """The axes from the slowest in memory to the fastest, which x.ravel("K") tells; None where copies don't keep it."""
    if x.ndim < 2 or x.flags.c_contiguous or 0 in x.strides or not x.size:
        return None
    return sorted((k for k in range(x.ndim) if x.shape[k] > 1), key=lambda k: -abs(x.strides[k]))


def remember(value: Any, whole: bool = True) -> tuple[Any, Callable[[Any], bool] | None]:
    """What to keep of a value, and how to ask whether it is the same now; None: by `same`, as it can't change where it
    lies.  whole: False takes a sample of a large array, `SAMPLE` numbers from all over it."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            parts = kept(value.tolist(), LARGE)
            return value, lambda now: type(now) is type(value) and now.shape == value.shape \
                and same(parts, now.tolist())
        shape, dtype = value.shape, value.dtype
        if value.nbytes <= LARGE:
            bits, axes = value.tobytes(), _axes(value)
            return None, lambda now: isinstance(now, np.ndarray) and now.shape == shape and now.dtype == dtype and (
                now.tobytes() == bits and _axes(now) == axes)
        copy = value.copy(order="K") if whole else _sample(value)
        return None, lambda now: isinstance(now, np.ndarray) and now.shape == shape and now.dtype == dtype \
            and same_bits(copy, now if whole else _sample(now))
    if type(value) in (dict, list) or isinstance(value, tuple):
        keep = kept(value, LARGE)
        return keep, lambda now: same(keep, now)
    if isinstance(value, _BUFFERS):
        bits = bytes(value)
        return None, lambda now: type(now) is type(value) and bytes(now) == bits
    if isinstance(value, _CONTAINERS):  # subclasses, such as OrderedDict
        plain = dict if isinstance(value, (dict, MappingProxyType)) else set if isinstance(value, set) else list
        keep = plain(value) if plain is set else kept(plain(value), LARGE)
        return keep, lambda now: type(now) is type(value) and (
            keep == now if plain is set else same(keep, plain(now)))
    return value, None


def _sample(x: np.ndarray) -> np.ndarray:
    """Numbers from all over an array."""
    return x.flat[::max(1, x.size // SAMPLE)]
