"""Numbers that can be indexed, and are no sequences.

NumPy's numbers are so: t[()] and t[..., None] are numbers and arrays, while iter(t) is a TypeError and
hasattr(t, "__iter__") false, by which much code tells numbers from arrays.  A class of Python's that has `__getitem__`
fills two slots of its type with it, one for indexing and one by which `iter` takes its objects for sequences.  With
`__iter__ = None` iter(t) raises, but the class has the attribute; so the second slot is emptied instead.
"""

from __future__ import annotations

import ctypes
from typing import Any

_ITEM = 44  # Py_sq_item, of the stable ABI
_WORD = ctypes.sizeof(ctypes.c_void_p)
_slot = ctypes.pythonapi.PyType_GetSlot
_slot.restype, _slot.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_int)


class _Indexed:
    def __getitem__(self, index: Any) -> Any: ...


def _place() -> int | None:
    """Where in a class's own memory the slot is: the only word that holds what it holds."""
    words = (ctypes.c_void_p * (type.__basicsize__ // _WORD)).from_address(id(_Indexed))
    places = [k for k, word in enumerate(words) if word is not None and word == _slot(_Indexed, _ITEM)]
    return places[0] * _WORD if len(places) == 1 else None


_PLACE = _place()


def no_sequence(kind: Any) -> Any:
    """The class, whose objects are no sequences to Python though they can be indexed."""
    if _PLACE is not None:  # the same in all classes that are made while Python runs
        ctypes.memset(id(kind) + _PLACE, 0, _WORD)
    else:  # a Python that keeps it elsewhere
        kind.__iter__ = None
    return kind
