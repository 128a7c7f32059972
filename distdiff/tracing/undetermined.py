"""Results that are any of many, such as the vectors that complete a basis: a program may have them, and not use them.

A joint statement says which of its results are (`Elemental.undetermined`).  Its rules take their derivatives for zero,
which is right as long as nothing that is differentiated depends on them: that is looked at when a trace is over, and
when a function is differentiated inside one, and refused otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import UnsupportedOperationError
from ..strided import core_shape
from ..tape import Affine, Const, Joint, Operand, ScalarRun, Statement, Tape
from .boxes import Index
from .recorder import Recorder


def refuse_used(rec: Recorder, results: Iterable[tuple[Operand, Index]]) -> None:
    """UnsupportedOperationError where results, of these shapes, depend on undetermined ones, with the line that made
    these.  Elements of one statement are not told apart.
    """
    if not rec.undetermined:
        return
    results = list(results)

    def used(origins: list[Joint]) -> bool:
        reached = _reached(rec.tape, origins)
        return any(_any(rec.tape, reached, ref, shape) for ref, shape in results)

    origins = [item for item in rec.tape.items if type(item) is Joint and item.op.undetermined]
    if used(origins):
        origin = next(origin for origin in origins if used([origin]))
        where = f" at {rec.tape.sites[origin.site]}" if origin.site >= 0 else ""
        error = UnsupportedOperationError(f"numpy.linalg.{origin.op.name}{where}: a result depends on vectors that "
                                          f"{origin.op.undetermined_because}")
        rec.refusal = rec.refusal or error  # the function may catch it
        raise error


def _reached(tape: Tape, origins: list[Joint]) -> np.ndarray:
    """Which nodes depend on undetermined results of these statements, by operands that have partials."""
    reached, sources = np.zeros(tape.n_nodes, dtype=bool), set(map(id, origins))
    begun = False
    for item in tape.items:
        begun = begun or id(item) in sources
        if not begun:
            continue
        if isinstance(item, ScalarRun):
            _run(reached, item, tape.blocks[item.block].first)
        elif any(_any(tape, reached, ref, item.operand_shape(k)) for k, ref in enumerate(item.operands)
                 if _active(item, k)):
            reached[_places(tape, item)] = True
        elif id(item) in sources:
            places = _places(tape, item)
            for k in item.op.undetermined:
                reached[places[..., item.op.parts[k][0]]] = True
    return reached


def _places(tape: Tape, item: Statement | Joint) -> np.ndarray:
    return item.out.ids(tape.blocks[item.out.block].first, core_shape(item.out_shape, item.out.strides))


def _active(item: Statement | Joint, k: int) -> bool:
    return k not in item.op.inert if type(item) is Joint else item.op.partials[k] is not None


def _any(tape: Tape, reached: np.ndarray, ref: Operand, shape: Index) -> bool:
    if type(ref) is Const:
        return False
    if type(ref) is Affine:  # no node is asked for twice: a product's operands stand still along some axes
        return bool(reached[ref.ids(tape.blocks[ref.block].first, core_shape(shape, ref.strides))].any())
    return bool(reached[ref.ids].any())


def _run(reached: np.ndarray, run: ScalarRun, first: int) -> None:
    a, b = run.a, run.b
    outside = [ids[(ids >= 0) & ((ids < first) | (ids >= first + len(ids)))] for ids in (a, b)]
    if not any(reached[ids].any() for ids in outside):
        return
    for i, (j, k) in enumerate(zip(a.tolist(), b.tolist()), first):
        reached[i] = j >= 0 and reached[j] or k >= 0 and reached[k]


__all__ = ["refuse_used"]
