"""What a function reaches by names of its own, and no protocol: NumPy's functions that were imported from it
(`from numpy import zeros, array`), and SciPy's factors that were made before the function runs.

Where a trace ends because one of them had no place for a traced value, the names are found (globals, closures,
defaults, attributes, items of lists and dictionaries: `watch.Search`), exchanged for what answers for them, and the
function is run again; a function whose code had that before is not run in vain a second time.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

from ..errors import UnsupportedOperationError
from ..watch import Search
from .active import set_aside
from .creation import NUMPY, SUBSTITUTES
from .scipy import outside

_met: weakref.WeakSet[CodeType] = weakref.WeakSet()  # code of functions that had such names
_MAKERS = {id(NUMPY[name]): function for name, function in SUBSTITUTES.items()}


def refused(error: UnsupportedOperationError) -> bool:
    """Whether a trace may have ended because of such a name: a factor, or an array that is plain."""
    return outside.refused(error.__cause__) or "plain" in str(error)


def expected(f: Callable[..., Any]) -> bool:
    """Whether f had names exchanged before."""
    return _code(f) in _met


@contextmanager
def exchanged(f: Callable[..., Any], args: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], bool]]:
    """While the body runs, f finds what takes traced values: (its arguments with that, whether there is any).

    Other threads find it too, and have NumPy's and SciPy's answers from it.
    """
    places = _Places(f).places
    with set_aside():
        found = [(write, value, ours) for write, value in places if (ours := _ours(value)) is not None]
        given = tuple(x if (ours := _ours(x)) is None else ours for x in args)
    some = bool(found) or any(x is not y for x, y in zip(given, args))
    code = _code(f)
    if some and code is not None:
        _met.add(code)
    done = []
    try:
        for write, value, ours in found:
            write(ours)
            done.append((write, value))
        yield given, some
    finally:
        for write, value in reversed(done):
            write(value)


def _code(f: Any) -> CodeType | None:
    while isinstance(f, functools.partial):
        f = f.func
    return getattr(f, "__code__", None) or getattr(type(f).__call__, "__code__", None)


def _ours(x: Any) -> Any:
    return _MAKERS.get(id(x)) or outside.ours(x)


class _Places(Search):
    """The places where what a function reaches is named, each as what writes another value there."""

    def begin(self) -> None:
        self.places: list[tuple[Callable[[Any], None], Any]] = []
        super().begin()

    def met(self, value: Any, write: Callable[[Any], None] | None) -> None:
        if write is not None and (id(value) in _MAKERS or outside.is_factor(value)):
            self.places.append((write, value))


__all__ = ["exchanged", "expected", "refused"]
