"""The compiled loop of `sequence` (importing this module imports Numba)."""

from __future__ import annotations

import platform

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from . import combine_loops, copies_loops, lines_loops, tile_loops
from .addresses import doubles, integers
from .jit import jit

TILES, BOXES, COPIES, STEP, AWAIT, TELL, LINES, ZEROS, PICKED = range(9)
X86 = platform.machine().lower() in ("x86_64", "amd64")


@intrinsic
def _read(typing_context, address):
    """A word that another process writes: what it wrote before is seen afterwards."""
    def generate(context, builder, signature, arguments):
        word = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(word, "acquire", 8)
    return types.int64(types.int64), generate


@intrinsic
def _write(typing_context, address, value):
    """A word that another process reads: what was written before is there by then."""
    def generate(context, builder, signature, arguments):
        word = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store_atomic(arguments[1], word, "release", 8)
        return context.get_dummy_value()
    return types.void(types.int64, types.int64), generate


@intrinsic
def _pause(typing_context):
    """For a moment, that of a core which looks at a word again and again."""
    def generate(context, builder, signature, arguments):
        if X86:
            pause = builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), ir.FunctionType(ir.VoidType(), []))
            builder.call(pause, [])
        return context.get_dummy_value()
    return types.void(), generate


@jit
def run(table, first, looks):
    """The rows from `first` on, in turn; the columns are those that `sequence.Sequence` writes.

    Returns the row that waits for a word which has not come in so many looks, or the number of rows.
    """
    for k in range(first, len(table)):
        what, n, a, b, c, d, e, f = table[k]
        if what == TILES:
            tile_loops.run(carray(integers(a), (n, 5)), carray(integers(b), (1, 20)))
        elif what == BOXES:
            combine_loops.columns(d, carray(integers(a), (n, 12)), carray(integers(b), (1, 12)),
                                  carray(doubles(c), (1, 2)), e, f)
        elif what == COPIES:
            copies_loops.run(carray(integers(a), (n, 9)))
        elif what == LINES:
            lines_loops.run(carray(integers(a), n))
        elif what == PICKED:
            copies_loops.pick(n, e, doubles(a), integers(c), doubles(b), integers(d))
        elif what == ZEROS:
            vector = doubles(a)
            for i in range(n):
                vector[i] = 0.0
        elif what == STEP:
            carray(integers(a), 1)[0] += 1
        elif what == AWAIT:
            words, count = carray(integers(a), n), carray(integers(b), 1)[0]
            for i in range(n):
                left = looks
                while _read(words[i]) < count:
                    left -= 1
                    if left < 0:
                        return k
                    _pause()
        elif what == TELL:
            words, count = carray(integers(a), n), carray(integers(b), 1)[0]
            for i in range(n):
                _write(words[i], count)
    return len(table)
