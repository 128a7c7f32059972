"""Whether arithmetic has left the range of double precision: asked of the processor, which notes it at no cost.

An operation that rounds a result below 2^-1022, or whose result is above all numbers, raises a flag that stays up
(IEEE 754-2019, clause 7), one set a thread.  NumPy's ufuncs lower all flags when they begin, and what they raise they
report where `np.errstate` asks for it: `quiet` does.  What compiled loops and libraries raise is still up when they
return, until the next ufunc: whoever calls one in a solve calls `note` after it.  Threads that a library starts by
itself have flags of their own, which nobody sees: what BLAS may have lost in a product of matrices is told by the
magnitudes in it (`note_product`).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import numpy as np

UNDER, OVER = 1, 2  # what has been noted
THREADED = 4096  # products in a product of matrices from which on BLAS may start threads (OpenBLAS: some 10,000)
_NORMAL = float(np.finfo(float).tiny)
_OF_NUMPY = 4, 2  # its numbers for the same, in what np.errstate calls


class _Noted(threading.local):
    now = 0
    watched = False  # NumPy reports already, and warns of nothing


_noted, _nothing = _Noted(), nullcontext()


class _Processor:
    """The C library's access to the flags, whose numbers depend on the processor: read off what operations raise."""

    def __init__(self) -> None:
        library = ctypes.PyDLL(None)  # these return at once: other threads need not be let in
        self.test, self.clear = library.fetestexcept, library.feclearexcept
        tiny, huge = np.array([1e-300]), np.array([1e300])
        self.inexact = self._raised(np.array([1.0]), np.array([0.1 + 1e-17]), np.divide)
        self.under = self._raised(tiny, tiny, np.multiply) & ~self.inexact
        self.over = self._raised(huge, huge, np.multiply) & ~self.inexact
        self.both = self.under | self.over

    def _raised(self, a: np.ndarray, b: np.ndarray, operation: Any) -> int:
        with np.errstate(all="ignore"):
            operation(a, b)
        return int(self.test(0x3F))


@cache
def _processor() -> _Processor:
    return _Processor()


def note() -> None:
    """What is up now counts for the `Watched` around.  Some 0.2 us."""
    processor = _processor()
    raised = processor.test(processor.both)
    if raised:
        _noted.now |= (UNDER if raised & processor.under else 0) | (OVER if raised & processor.over else 0)


def note_product(a: np.ndarray, b: np.ndarray, product: np.ndarray) -> None:
    """The same for product = a @ b, stacks of matrices, some of which threads of BLAS may have computed.

    Terms below the least normal number, 2^-1022, are off by 2^-1075 each, which is no more than the rounding of a sum
    of k terms from 2^-1022 k on.  Where a sum is smaller there may be such terms, if the least numbers of its row and
    of its column that are not zero multiply to one.  So who multiplies zeros, or what is far from either end of the
    range, has noted nothing; and it takes one look at the product or at both factors, whichever are fewer numbers, and
    where it has small sums at the rows and columns of these.
    """
    if not _noted.watched or product.size * a.shape[-1] < THREADED:
        return
    with np.errstate(all="ignore"):  # what is multiplied here counts for nobody
        _noted.now |= _lost(a, b, product)


def _lost(a: np.ndarray, b: np.ndarray, product: np.ndarray) -> int:
    terms = a.shape[-1]
    least = _NORMAL * terms  # of sums that have lost nothing
    if a.size + b.size < product.size:
        sizes = np.abs(a), np.abs(b)
        under = float(np.prod([size.min(initial=np.inf, where=size > 0.0) for size in sizes])) < _NORMAL
        over = not float(np.prod([size.max(initial=0.0) for size in sizes])) * terms < np.inf
    else:
        size = np.abs(product)
        under, over = size.min(initial=np.inf) < least, not size.max(initial=0.0) < np.inf
    if under:  # of the rows and columns that matter alone, which are few: those of zeros, mostly, have no terms
        small = np.abs(product) < least
        rows = _least(a, small.any(axis=-1))[..., :, None]
        small &= rows < np.inf
        columns = _least(np.swapaxes(b, -1, -2), small.any(axis=-2))[..., None, :]
        under = bool((small & (rows * columns < _NORMAL)).any())
    over = over and not np.isfinite(product).all() and bool(np.isfinite(a).all() and np.isfinite(b).all())
    return UNDER * under | OVER * over


def _least(x: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The least size of what is not zero in each of the rows that are wanted; infinite for others, and where there is
    nothing."""
    found = np.full(wanted.shape, np.inf)
    rows = np.broadcast_to(x, (*wanted.shape, x.shape[-1]))[wanted]
    found[wanted] = np.abs(rows).min(axis=-1, initial=np.inf, where=rows != 0.0)
    return found


def _called(kind: str, flags: int) -> None:
    under, over = _OF_NUMPY
    _noted.now |= (UNDER if flags & under else 0) | (OVER if flags & over else 0)


def quiet() -> Any:
    """No warnings from NumPy inside: what is not finite, or lost, whoever is around has noted."""
    return _nothing if _noted.watched else np.errstate(all="ignore", under="call", over="call", call=_called)


class Watched:
    """`with Watched() as found:`, and afterwards what its body has raised.

    under : whether a result was rounded below the normal numbers; over: whether one of finite numbers was above all
    """

    __slots__ = ("_before", "_quiet", "over", "under")

    def __enter__(self) -> Watched:
        self._before = _noted.now, _noted.watched
        self._quiet = quiet()
        self._quiet.__enter__()
        _noted.now, _noted.watched = 0, True
        processor = _processor()
        processor.clear(processor.both)
        return self

    def __exit__(self, *error: Any) -> None:
        note()
        found = _noted.now
        self.under, self.over = bool(found & UNDER), bool(found & OVER)
        _noted.now, _noted.watched = self._before
        self._quiet.__exit__(*error)
        if found:
            _processor().clear(_processor().both)


@contextmanager
def ignored() -> Iterator[None]:
    """What is raised inside counts for nobody: norms, say, whose squares leave the range where nothing is lost."""
    before = _noted.now
    try:
        yield
    finally:
        _noted.now = before
        _processor().clear(_processor().both)


__all__ = ["OVER", "UNDER", "Watched", "ignored", "note", "note_product", "quiet"]
