"""Whether a function goes on with something that it found made: random generators, iterators.

Each of its runs draws other numbers than the one before, so it is another function every time, and a tape has the
draws of one run.  Nothing says so but the state that these things are in before and after it.
"""

from __future__ import annotations

import operator
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from io import IOBase
from types import GeneratorType
from typing import Any

import numpy as np

from .watch import Search


class Draws(Search):
    """The random generators and iterators that a function reaches from around it, or is given, and their states now."""

    def __init__(self, f: Any, arguments: Mapping[Any, Any]) -> None:
        super().__init__(f, arguments)
        self._things["numpy.random"] = np.random.mtrand._rand
        self._things["random"] = random._inst  # type: ignore[attr-defined]
        self._before = {name: _state(thing) for name, thing in self._things.items()}

    def begin(self) -> None:
        self._things: dict[str, Any] = {}
        super().begin()

    def met(self, value: Any, write: Callable[[Any], None] | None) -> None:
        if isinstance(value, (np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random)) or (
                isinstance(value, Iterator) and not isinstance(value, IOBase)):
            self._things.setdefault(f"a {type(value).__name__}", value)

    def drawn(self) -> str:
        """What the function has drawn from since, in words; "" if nothing."""
        changed = (name for name, thing in self._things.items() if _state(thing) != self._before[name])
        return next(changed, "")


def _state(thing: Any) -> Any:
    """What tells whether something was drawn."""
    if isinstance(thing, np.random.Generator):
        thing = thing.bit_generator
    if isinstance(thing, np.random.BitGenerator):
        return pickle.dumps(thing.state)
    if isinstance(thing, np.random.RandomState):
        return pickle.dumps(thing.get_state(legacy=False))
    if isinstance(thing, random.Random):
        return thing.getstate()
    if isinstance(thing, GeneratorType):
        frame = thing.gi_frame
        return None if frame is None else (frame.f_lasti, [*map(id, frame.f_locals.values())])
    if hasattr(thing, "__length_hint__"):
        return operator.length_hint(thing)
    return repr(thing)  # itertools.count(5)
