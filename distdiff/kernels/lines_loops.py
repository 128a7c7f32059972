"""The compiled loop of `lines` (importing this module imports Numba)."""

from __future__ import annotations

from numba import carray

from .addresses import bytes_, doubles, halves, integers, unsigned_halves
from .jit import jit
from .scalar_loops import run_adjoint, run_tangent, run_values
from .scalar_stored import adjoint

VALUES, TANGENT, ADJOINT, STORED = range(4)


@jit
def run(record):
    """The run of a record, whose columns are those that `lines.Record` writes."""
    way, n, first, touched = record[0], record[1], record[2], record[3]
    if way == STORED:
        adjoint(carray(doubles(record[4]), n), carray(doubles(record[5]), n), carray(unsigned_halves(record[6]), n),
                carray(unsigned_halves(record[7]), n), first, carray(doubles(record[8]), 1))
        return
    op, number, a, b = (carray(bytes_(record[4]), n), carray(bytes_(record[5]), 256), carray(halves(record[6]), n),
                        carray(halves(record[7]), n))
    const, y, vector = carray(doubles(record[8]), 1), carray(doubles(record[9]), 1), carray(doubles(record[12]), 1)
    starts, shifts = carray(integers(record[10]), touched), carray(integers(record[11]), touched)
    if way == VALUES:
        run_values(op, number, a, b, const, first, y)
    elif way == TANGENT:
        run_tangent(op, number, a, b, const, first, y, a, b, starts, shifts, vector, False)
    else:
        run_adjoint(op, number, a, b, const, first, y, a, b, starts, shifts, vector)
