"""Telling the processor what memory will be wanted soon (importing this module imports Numba)."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

READ, ALL_CACHES, DATA = 0, 3, 1  # what LLVM's llvm.prefetch is told


@intrinsic
def touch(_: Any, y: Any, j: Any) -> Any:
    """llvm.prefetch of the line in which y[j] begins, or y[j, 0]; j is unsigned and need not be within y."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(y)(context, builder, arguments[0])
        place = [context.cast(builder, arguments[1], j, types.uintp)]
        place += [context.get_constant(types.uintp, 0)] * (y.ndim - 1)
        shape, strides = (cgutils.unpack_tuple(builder, what) for what in (array.shape, array.strides))
        address = cgutils.get_item_pointer2(context, builder, array.data, shape, strides, y.layout, place)
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, number, number, number]))
        builder.call(prefetch, [builder.bitcast(address, pointer), *(number(n) for n in (READ, ALL_CACHES, DATA))])
        return context.get_dummy_value()

    return types.void(y, j), generate


def fetch(y: Any, j: Any) -> None:
    touch(y, j)
