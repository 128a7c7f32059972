"""NumPy and SciPy while a thread traces: what no protocol of theirs reaches is exchanged, and put back.

The substitutes (`creation`, the rules of `scipy`) stand under NumPy's names for all threads, but answer in threads that
trace alone; others get NumPy's own answers meanwhile.  It is undone when the last trace ends, whatever ends it.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import calls, closed, floating, sparse
from .active import TRACES, running
from .array import TracedArray
from .callers import called
from .codes import code_of
from .creation import NUMPY, SUBSTITUTES
from .holding import held, traced_within
from .recorder import Recorder
from .scipy import REPLACED as SCIPY
from .ufuncs import OTHER_RULES, refuse_other_rules

_ORIGINALS = {name: NUMPY[name] for name in SUBSTITUTES}
_NAMES = vars(np)  # updated at once: a trace begins and ends in microseconds
_replaced: list[tuple[Any, str, Any]] = []  # SciPy's and NumPy's own methods
_lock = threading.Lock()
_uses = 0


def _held_in_this_thread(x: Any) -> TracedArray | None:
    x = held(x) if threading.get_ident() in TRACES else x
    return x if type(x) is TracedArray else None


def _refusing(cls: type) -> Any:
    """The constructor of an array class with other rules, which refuses traced values."""
    original = cls.__new__

    def new(kind: type, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() in TRACES:
            rec = traced_within([*args, *kwargs.values()])
            if rec is not None:
                refuse_other_rules(rec, f"{called()}a numpy {cls.__name__} of traced values")
        return original(kind, *args, **kwargs)

    return staticmethod(new)


_REFUSING = {cls: _refusing(cls) for cls in OTHER_RULES}
_vectorize = np.vectorize.__call__


def _vectorized(self: np.vectorize, *args: Any, **kwargs: Any) -> Any:
    """np.vectorize's objects, which turn their arguments into arrays of objects."""
    if threading.get_ident() in TRACES and traced_within([*args, *kwargs.values()]) is not None:
        args, kwargs = tuple(map(held, args)), {name: held(x) for name, x in kwargs.items()}
        return calls.vectorized(self, *args, **kwargs)
    return _vectorize(self, *args, **kwargs)


def _unless_refused(hook: Callable[..., Any]) -> Callable[..., Any]:
    """sys.excepthook while somebody traces: compiled code of SciPy's prints what a function that it calls raises, and
    goes on to an error of its own; of a refusal the caller is told once, by the error that ends the trace."""

    def show(kind: type[BaseException], error: BaseException, trail: Any) -> None:
        if not any(error is rec.refusal for recorders in list(TRACES.values()) for rec in recorders):
            hook(kind, error, trail)

    return show


def _then_looked(own: Callable[..., Any]) -> Callable[..., Any]:
    """A function after which floating-point errors, or warnings of them, may lead to another thing."""
    def changed(*args: Any, **kwargs: Any) -> Any:
        result = own(*args, **kwargs)
        if threading.get_ident() in TRACES:
            floating.look()
        return result

    return changed


def _of_errors() -> Iterator[tuple[Any, str, Any]]:
    """What decides what floating-point errors lead to: whose attribute, and what stands there while a thread traces."""
    yield warnings.catch_warnings, "__enter__", _then_looked(vars(warnings.catch_warnings)["__enter__"])
    if "seterr" not in getattr(np.errstate.__enter__, "__code__", _then_looked.__code__).co_names:
        for name in ("__enter__", "__exit__"):
            yield np.errstate, name, _then_looked(vars(np.errstate)[name])
    for name in ("_filters_mutated", "_filters_mutated_lock_held"):
        if name in vars(warnings):
            yield warnings, name, _then_looked(vars(warnings)[name])
    for function, own in ((np.seterr, floating.set_modes), (np.seterrcall, floating.replaced)):
        yield function, "__code__", code_of(_then_looked(own))
    for function, own in ((np.geterr, floating.modes), (np.geterrcall, floating.handler)):
        yield function, "__code__", code_of(own)


_OF_ERRORS = [*_of_errors()]


def _let_numba_look() -> None:
    """Numba learns which of NumPy's functions it has rules for when it compiles first: not while ours stand there."""
    if "numba" in sys.modules and "numba.np.arrayobj" not in sys.modules:
        from numba.core.registry import cpu_target

        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()


@contextmanager
def substituted(rec: Recorder) -> Iterator[None]:
    """While the body runs, this thread's creation functions answer with arrays that can hold traced values."""
    global _uses
    me = threading.get_ident()
    with _lock:
        if _uses == 0:
            _let_numba_look()
            _NAMES.update(SUBSTITUTES)
            for cls, name in sparse.methods():
                _replaced.append((cls, name, vars(cls)[name]))
                setattr(cls, name, sparse.dispatching(vars(cls)[name], _held_in_this_thread))
            for cls in OTHER_RULES:
                _replaced.append((cls, "__new__", vars(cls)["__new__"]))
                cls.__new__ = _REFUSING[cls]
            _replaced.append((sys, "excepthook", sys.excepthook))
            sys.excepthook = _unless_refused(sys.excepthook)
            _replaced.append((np.vectorize, "__call__", np.vectorize.__call__))
            np.vectorize.__call__ = _vectorized
            for thing, name, ours in _OF_ERRORS:
                _replaced.append((thing, name, getattr(thing, name)))
                setattr(thing, name, ours)
            closed.exchange()
            SCIPY.replace()
        _uses += 1
        TRACES.setdefault(me, []).append(rec)
    try:
        yield
    finally:
        with _lock:
            TRACES[me].pop()
            if not TRACES[me]:
                del TRACES[me]
            _uses -= 1
            if _uses == 0:
                _NAMES.update(_ORIGINALS)
                while _replaced:
                    setattr(*_replaced.pop())
                closed.restore()
                SCIPY.restore()


@contextmanager
def suspended() -> Iterator[None]:
    """While the body runs, NumPy is itself again, for code that takes its functions by name (Numba's compiler) or
    needs plain arrays of its own (SciPy's solvers).

    It is so for all threads: one that traces meanwhile has its traced values refused by plain arrays.
    """
    with _answering(_ORIGINALS, aside=True):
        yield


@contextmanager
def resumed() -> Iterator[None]:
    """While the body runs, inside `suspended`, the trace goes on."""
    with _answering(SUBSTITUTES, aside=False):
        yield


@contextmanager
def _answering(table: dict[str, Callable[..., Any]], aside: bool) -> Iterator[None]:
    before, ours = {name: _NAMES[name] for name in SUBSTITUTES}, closed.exchanged()
    rec, rest = running(), False
    if rec is not None:
        rest, rec.aside = rec.aside, aside
    with _lock:
        if _uses:
            _NAMES.update(table)
            (closed.restore if aside else closed.exchange)()
    try:
        yield
    finally:
        if rec is not None:
            rec.aside = rest
        with _lock:
            if _uses:
                _NAMES.update(before)
                (closed.exchange if ours else closed.restore)()
