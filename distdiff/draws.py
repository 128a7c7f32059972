"""Whether a function goes on with something that it found made: random generators, iterators; or begins with what
nobody gave it: entropy.

Each of its runs draws other numbers than the one before, so it is another function every time, and a tape has the
draws of one run.  Nothing says so but the state that these things are in before and after it.
"""

from __future__ import annotations

import operator
import os
import pickle
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import IOBase
from types import GeneratorType
from typing import Any

import numpy as np

from .snapshot import kept, same
from .tracing import running
from .watch import Search

_GENERATORS = (np.random.Generator, np.random.RandomState, np.random.BitGenerator, np.random.SeedSequence,
               random.Random)
_BUILT_IN = ("builtins", "itertools")  # whose iterators say what they are made of
DEEP = 6  # iterators that others go on with


class Draws(Search):
    """The random generators and iterators that a function reaches from around it, or is given, and their states now."""

    def __init__(self, f: Any, arguments: Mapping[Any, Any]) -> None:
        super().__init__(f, arguments)
        for value in arguments.values():
            self.met(value, None)
        self._add("numpy.random", np.random.mtrand._rand)
        self._add("random", random._inst)  # type: ignore[attr-defined]
        self._before = {key: _state(thing) for key, (_, thing) in self._things.items()}
        self._entropy = ""

    def begin(self) -> None:
        self._things: dict[int, tuple[str, Any]] = {}
        super().begin()

    def met(self, value: Any, write: Callable[[Any], None] | None) -> None:
        if _draws(value) or type(value).__module__.startswith("scipy.stats"):
            self._add(f"a {type(value).__name__}", value)

    def _add(self, name: str, thing: Any) -> None:
        self._things.setdefault(id(thing), (name, thing))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the body traces the function, see whether it takes entropy of the system's, as generators that are made
        without a seed do."""
        entry = threading.get_ident(), self
        with _lock:
            if not _watching:
                _own.update(urandom=os.urandom, seed=random.Random.seed)
                _put(_urandom, _seed)
            _watching.append(entry)
        try:
            yield
        finally:
            with _lock:
                _watching.remove(entry)
                if not _watching:
                    _put(_own["urandom"], _own["seed"])

    def drawn(self) -> str:
        """What the function has drawn from since, in words; "" if nothing."""
        changed = (name for key, (name, thing) in self._things.items() if not same(self._before[key], _state(thing)))
        return next(changed, self._entropy)


_lock = threading.Lock()
_watching: list[tuple[int, Draws]] = []  # (thread, who watches); threads begin and end in any order
_own: dict[str, Callable[..., Any]] = {}  # Python's own functions, meanwhile


def _put(urandom: Callable[..., Any], seed: Callable[..., Any]) -> None:
    os.urandom = random._urandom = urandom  # type: ignore[attr-defined, assignment]
    random.Random.seed = seed  # type: ignore[method-assign, assignment]


def _noted(name: str) -> None:
    if (rec := running()) is not None and not rec.aside:
        for thread, draws in tuple(_watching):
            if thread == threading.get_ident():
                draws._entropy = draws._entropy or name


def _urandom(size: int) -> bytes:
    _noted("the system's entropy")
    return _own["urandom"](size)  # type: ignore[no-any-return]


def _seed(this: random.Random, a: Any = None, *args: Any, **kwargs: Any) -> None:
    if a is None:
        _noted("a random.Random without a seed")
    _own["seed"](this, a, *args, **kwargs)


def _draws(value: Any) -> bool:
    return isinstance(value, _GENERATORS) or isinstance(value, Iterator) and not isinstance(value, IOBase)


def _state(thing: Any, depth: int = 0) -> Any:
    """What tells whether something was drawn: equal (`same`) where nothing was."""
    if isinstance(thing, np.random.SeedSequence):
        return thing.n_children_spawned
    if isinstance(thing, np.random.Generator):
        return _state(thing.bit_generator)
    if isinstance(thing, np.random.BitGenerator):
        seeds = getattr(thing, "seed_seq", None) or getattr(thing, "_seed_seq", None)
        return kept(thing.state), getattr(seeds, "n_children_spawned", 0)
    if isinstance(thing, np.random.RandomState):
        return kept(thing.get_state(legacy=False))
    if isinstance(thing, random.Random):
        return pickle.dumps(thing.getstate())
    if type(thing).__module__.startswith("scipy.stats"):  # frozen distributions, and sequences of low discrepancy
        own = getattr(thing, "random_state", None) or getattr(thing, "rng", None)
        return getattr(thing, "num_generated", 0), _state(own) if isinstance(own, _GENERATORS) else None
    if depth > DEEP:
        return None
    if isinstance(thing, GeneratorType):
        frame, inner = thing.gi_frame, thing.gi_yieldfrom
        return None if frame is None else (frame.f_lasti, _parts(frame.f_locals, depth), _part(inner, depth))
    if type(thing).__module__ not in _BUILT_IN:
        return _parts(getattr(thing, "__dict__", {}), depth)
    if hasattr(thing, "__length_hint__"):
        return operator.length_hint(thing)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made = thing.__reduce__()[1:]
    except (TypeError, ValueError):
        return repr(thing)  # itertools.count(5)
    return repr(thing), [[_part(part, depth) for part in parts] for parts in made if isinstance(parts, tuple)]


def _parts(names: Mapping[str, Any], depth: int) -> Any:
    return [(name, _part(value, depth)) for name, value in names.items()]


def _part(value: Any, depth: int) -> Any:
    return _state(value, depth + 1) if _draws(value) else kept(value)
