"""Constants with NaN (missing data) that a function passes over, as partials are computed from them.

What is made of such data meets adjoints that are zero, so any number will do in their place: y = p * data has the
partial `data` for p, and 0 * nan would be one sum's undoing.  Values keep their NaN, which further points want.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .strided import core_array
from .tape import Const, Item, Joint, ScalarRun

ANY = 0.5  # what stands for NaN where partials are computed that nothing depends on: most functions are smooth there


def has_nan(constants: np.ndarray) -> bool:
    """Whether any of an array of constants is NaN."""
    return bool(np.isnan(core_array(constants)).any())


class Missing:
    """The constants of a tape's items, with `ANY` in the place of NaN.  found: whether there is one."""

    def __init__(self, items: Iterable[Item]) -> None:
        self.found = False
        self._numbers: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by id: the array, and one without NaN
        for item in items:
            if type(item) is Joint:
                continue  # whose rules read what is there
            for value in [item.const] if type(item) is ScalarRun else [
                    ref.value for ref in item.operands if type(ref) is Const]:
                if not isinstance(value, np.ndarray):
                    self.found = self.found or value != value
                elif id(value) not in self._numbers and has_nan(value):
                    self.found = True
                    self._numbers[id(value)] = value, np.where(np.isnan(value), ANY, value)

    def array(self, constants: np.ndarray) -> np.ndarray:
        """An array of constants without NaN: itself if it has none."""
        return self._numbers.get(id(constants), (constants, constants))[1]

    def value(self, constant: float | np.ndarray) -> float | np.ndarray:
        """The same of an operand's."""
        if isinstance(constant, np.ndarray):
            return core_array(self.array(constant))
        return ANY if constant != constant else constant


__all__ = ["ANY", "Missing", "has_nan"]
