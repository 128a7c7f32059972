"""The call that computes an item of a tape: a NumPy function and its arguments, views of the values' memory.

Made once for all points that use the same memory, so a point costs no more than the calls themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import products
from .kernels import lines, scalar
from .ops import COPY, MULTIPLY, WHERE
from .partition.local import Copy, Spot, copies_of
from .strided import accumulate, contraction
from .tape import Affine, Indexed, Item, Joint, Operand, ScalarRun, Statement

FEW = 1024  # explicit nodes of which it is kept where they lie, 8 bytes each


class Memory(Protocol):
    """evaluate.Values."""

    failure: products.Failure

    @property
    def is_flat(self) -> bool: ...
    def view(self, ref: Affine, shape: tuple[int, ...]) -> np.ndarray: ...
    def operand(self, ref: Operand, shape: tuple[int, ...]) -> float | np.ndarray: ...
    def block(self, i: int) -> np.ndarray: ...
    def run(self, item: ScalarRun) -> tuple[Any, int, np.ndarray]: ...
    def spots(self, ids: np.ndarray) -> list[Spot]: ...


Call = tuple[Callable[..., Any], tuple[Any, ...], bool]  # function, arguments, and whether the values come before them


class Lines(NamedTuple):
    """A scalar run in numbers of its own: first the nodes `ids` that it reads from outside, then its lines."""

    op: np.ndarray
    a: np.ndarray
    b: np.ndarray
    const: np.ndarray
    ids: np.ndarray

    @classmethod
    def of(cls, run: ScalarRun, first: int) -> Lines:
        used = np.concatenate([run.a, np.where(scalar.BINARY[run.op], run.b, -1)])
        n = len(run.op)
        outside = (used >= 0) & ((used < first) | (used >= first + n))
        ids, number = np.unique(used[outside], return_inverse=True)
        renamed = np.where(used >= 0, used - first + len(ids), used)
        renamed[outside] = number.reshape(-1)
        renamed = renamed.astype(run.a.dtype, copy=False)
        return cls(run.op, renamed[:n], renamed[n:], run.const, ids)


def bind(item: Item, values: Memory) -> Call:
    """The call that computes an item, on views of the values: made once, for all points that use the same memory."""
    if type(item) is ScalarRun:
        return _bound_run(item, values) if values.is_flat or item.lines <= FEW else (_run, (item,), True)
    shape = item.shape
    out = values.view(item.out, item.out_shape)
    if 0 in shape:
        return out.fill, (0.0,), False  # a sum over nothing, if there is anything to set
    if type(item) is Joint:
        return _joint, (item,), True
    if any(type(ref) is Indexed for ref in item.operands):
        if sum(ref.ids.size for ref in item.operands if type(ref) is Indexed) <= FEW:
            return _bound_gather(item, out, values)
        return _gathered, (item, out), True
    return *_statement(item, out, [values.operand(ref, shape) for ref in item.operands]), False


def _run(values: Memory, item: ScalarRun) -> None:
    run, first, y = values.run(item)
    scalar.run_values(run, first, y)
    if run is not item:
        values.block(item.block)[:] = y[first:]


def _bound_run(item: ScalarRun, values: Memory) -> Call:
    """A run on one vector of all values; else a short one: what it reads is brought together in memory of its own."""
    run, first, y = values.run(item)
    if run is item:
        return lines.Values(run, first, y), (), False
    copies = _collected(values, run.ids, y[:first])
    copies.append((scalar.run_values, (run, first, y)))
    copies.append((np.copyto, (values.block(item.block), y[first:])))
    return _all, (copies,), False


def _bound_gather(item: Statement, out: np.ndarray, values: Memory) -> Call:
    """A statement of which it is known where the few explicit nodes lie that it reads."""
    copies: list[Copy] = []
    operands: list[float | np.ndarray] = []
    for ref in item.operands:
        if type(ref) is Indexed:
            array = np.empty(ref.ids.shape)
            copies += _collected(values, np.ravel(ref.ids), array.reshape(-1))
            operands.append(array)
        else:
            operands.append(values.operand(ref, item.shape))
    copies.append(_statement(item, out, operands))
    return _all, (copies,), False


def _collected(values: Memory, ids: np.ndarray, array: np.ndarray) -> list[Copy]:
    """Calls that bring the values of explicit nodes together in an array."""
    return [copy for spot in values.spots(ids) for copy in copies_of(array, *spot)]


def _all(copies: list[Copy]) -> None:
    for function, arguments in copies:
        function(*arguments)


def _joint(values: Memory, item: Joint) -> None:
    products.evaluate(item, values, values.failure)


def _gathered(values: Memory, item: Statement, out: np.ndarray) -> None:
    function, arguments = _statement(item, out, [values.operand(ref, item.shape) for ref in item.operands])
    function(*arguments)


def _statement(item: Statement, out: np.ndarray,
               xs: list[float | np.ndarray]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """One vector statement, written straight into the node storage."""
    op, shape = item.op, item.shape
    if op.kind == "scan":
        return np.cumsum, (np.broadcast_to(xs[0], shape), len(shape) - 1, None, out)
    if op.kind == "select":
        return _select, (item, out, xs[0])
    if out.shape != shape and item.reduced:
        return _reduction(item, out, xs)
    if op is COPY:
        return np.copyto, (out, xs[0])
    if op is WHERE:
        return _where, (out, *xs)
    if op.value is np.maximum or op.value is np.minimum:
        return functools.partial(op.value, out=out), tuple(xs)  # NumPy 2.4 wants their result by keyword
    return op.value, (*xs, out)


def _where(out: np.ndarray, condition: float | np.ndarray, a: float | np.ndarray, b: float | np.ndarray) -> None:
    np.copyto(out, b)
    np.copyto(out, a, where=np.asarray(condition) != 0)


def _select(item: Statement, out: np.ndarray, x: float | np.ndarray) -> None:
    axes = item.reduced
    np.copyto(out, item.op.value(_spread(x, item.shape, axes), axis=axes, keepdims=True))


def _spread(x: float | np.ndarray, shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """x with full length along the axes of a selection, so that no selection is over an empty axis by accident."""
    x = np.asarray(x, dtype=float)
    x = x.reshape((1,) * (len(shape) - x.ndim) + x.shape)
    return np.broadcast_to(x, [n if k in axes else x.shape[k] for k, n in enumerate(shape)])


def _reduction(item: Statement, out: np.ndarray, xs: list[float | np.ndarray],
               ) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Sums and contractions; the iteration space is never formed."""
    op, shape = item.op, item.shape
    if op is not COPY and op is not MULTIPLY:
        return _reduce, (item, out, xs)
    scale = 1.0
    arrays = []
    for x in xs:
        if isinstance(x, np.ndarray) and x.ndim == len(shape):
            arrays.append(x if x.dtype == np.float64 else x.astype(float))
        else:
            scale *= float(x)
    if len(arrays) == 2:
        return contraction(out, arrays[0], arrays[1], shape, scale), ()
    source = arrays[0] if arrays else np.ones((1,) * len(shape))
    return accumulate, (out, source, scale, shape, 1.0, True)


def _reduce(item: Statement, out: np.ndarray, xs: list[float | np.ndarray]) -> None:
    """The sum of an operation's results."""
    values = np.asarray(item.op.value(*xs), dtype=float)
    values = values.reshape((1,) * (len(item.shape) - values.ndim) + values.shape)
    accumulate(out, values, 1.0, item.shape, write=True)
