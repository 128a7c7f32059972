"""How functions with rules travel to other ranks."""

from __future__ import annotations

import sys
from typing import Any


class Named:
    """A function with rules; it travels to other ranks by its name, or, where it has none, by what it is made of."""

    __name__: str
    __module__: str
    __qualname__: str
    code: tuple[str, ...]  # attributes that hold functions of the user's, beside the one that it wraps

    def __reduce__(self) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else object.__reduce_ex__(self, 2)


__all__ = ["Named"]
