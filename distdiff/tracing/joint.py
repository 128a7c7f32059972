"""Elementals on traced arrays: how an operation whose results are computed together gets on the tape."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from ..errors import InputError
from ..ops import Elemental
from ..tape import Affine, c_strides
from .active import set_aside
from .array import TracedArray, constant, fresh, is_traced, rearranged, single
from .boxes import Index, whole
from .indexing import decided
from .reductions import traced_array
from .ufuncs import number, recorder_of


def joint(op: Elemental, operands: Sequence[Any], name: str | None = None,
          values: Sequence[Any] | None = None) -> list[Any]:
    """The results of an elemental on operands of any kind, one of them traced: arrays (numbers, where the shape is ()).

    Operand k has shape (*loop, *op.core_in[k]), the loop axes broadcast against each other as NumPy does; result j has
    (*loop, *op.core_out[j]).  name: what error messages call it.  values: the results' values, if they are known;
    else `op.value` is called now, on plain arrays, and what it raises is raised.  ValueError where shapes do not fit.
    """
    name = name or op.name
    rec = recorder_of(operands)
    xs = [number(rec, x, name) for x in operands]
    xs = [traced_array(x) if is_traced(x) else np.asarray(x, dtype=np.float64) for x in xs]
    loops = [_loop(x.shape, core, name, k) for k, (x, core) in enumerate(zip(xs, op.core_in, strict=True))]
    loop = np.broadcast_shapes(*loops)
    shapes = [loop + core for core in op.core_out]
    if not prod(loop) * op.size:
        return [rec.array_of(np.zeros(shape)) for shape in shapes]
    rec.meet_joint()
    if op.undetermined:
        rec.undetermined = True
        if rec.capturing:
            rec.unsupported(f"{name} within an equation, with vectors that complete a basis", "they can't be told from "
                            "others there; use full_matrices=False, or mode='reduced'")
    if values is None:
        given = [x.nd if type(x) is TracedArray else x for x in xs]
        try:
            with set_aside():
                values = op.value(*(x.reshape((1,) * (len(loop) - len(own)) + x.shape) for x, own in zip(given, loops)))
        except Exception as error:  # the function may catch it
            if op.fails is None or not isinstance(error, np.linalg.LinAlgError) or rec.capturing or rec.careful:
                rec.failed()
            else:
                foreseen(error, *joint(op.fails, xs))
            raise
    flat = _flat(op, values, shapes, rec.empty((*loop, op.size)))
    if all(map(constant, xs)):
        return [rec.array_of(y.copy()) for y in op.split(flat)]
    for k in op.reads:
        if k >= 0 and type(xs[k]) is TracedArray:
            xs[k].st.need()
    refs = [single(rec, x, loop + core) for x, core in zip(xs, op.core_in)]
    read = -1 in op.reads or len(shapes) > 1 or not shapes[0]  # a number may be read by a scalar line
    block = rec.emit_joint(op, loop, refs, flat, read)
    if len(shapes) == 1:
        return [fresh(rec, flat.reshape(shapes[0]), block)]
    results = []
    for y, (part, core) in zip(op.split(flat), op.parts):  # arrays of their own: reshape makes views as NumPy's does
        if y.shape:
            strides = (*(op.size * s for s in c_strides(loop)), *c_strides(core))
            results.append(rearranged(rec, y.copy(), whole(y.shape, Affine(block, part.start, strides))))
        else:
            results.append(rec.scalar(rec.firsts[block] + part.start, y.item()))
    return results


def foreseen(error: Exception, fails: Any) -> None:
    """An error that is raised wherever a statement of its own gives what it gives now: the tape holds there."""
    if is_traced(fails):
        decided(np.not_equal(fails, 0.0))
    error.__dict__["_distdiff_foreseen"] = True


def applied(op: Elemental, *operands: Any) -> list[Any]:
    """The results of an elemental, as a joint statement where an operand is traced: what rules call.

    Traced or plain, operands have the shapes that `joint` says.
    """
    if any(map(is_traced, operands)):
        return joint(op, operands)
    with set_aside():
        return list(op.value(*(np.asarray(x, dtype=np.float64) for x in operands)))


def _loop(shape: Index, core: Index, name: str, k: int) -> Index:
    split = len(shape) - len(core)
    if split < 0 or shape[split:] != core:
        raise ValueError(f"{name}: operand {k} has shape {shape}, whose last axes are not {core}")
    return shape[:split]


def _flat(op: Elemental, results: Sequence[Any], shapes: list[Index], out: np.ndarray) -> np.ndarray:
    """All results one after another along the last axis of `out`."""
    if len(results) != len(shapes):
        raise InputError(f"{op.name} gave {len(results)} results where {len(shapes)} are declared")
    for y, shape, (part, core) in zip(results, shapes, op.parts):
        if np.shape(y) != shape:
            raise InputError(f"{op.name} gave a result of shape {np.shape(y)} where {shape} is declared")
        out[..., part] = np.reshape(y, (*out.shape[:-1], prod(core)))
    return out


__all__ = ["applied", "joint"]
