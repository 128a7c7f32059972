"""Memory at an address, for compiled loops over tables of addresses (importing this module imports Numba)."""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


def _pointer(kind: Any) -> Any:
    @intrinsic
    def pointer(typing_context, address):
        def cast(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))
        return types.CPointer(kind)(types.int64), cast
    return pointer


doubles, integers = _pointer(types.float64), _pointer(types.int64)
bytes_, halves, unsigned_halves = _pointer(types.uint8), _pointer(types.int32), _pointer(types.uint32)

__all__ = ["bytes_", "doubles", "halves", "integers", "unsigned_halves"]
