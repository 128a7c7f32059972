"""Partial derivatives of the statements at a point: the nonzeros of L.

For a statement y[out(k)] (+)= op(a_k, b_k, ...) the partial with respect to operand j is kept *by reference*
wherever it can be: a float where it is constant, the other operand's own values for a product, and an array of its own
only where the rule computes one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol

import numpy as np

from .flags import Watched, note, quiet
from .kernels import scalar
from .missing import has_nan
from .ops import ADD, DIVIDE, MULTIPLY, SUBTRACT, Op, System
from .partition.local import LocalTape
from .products import Products
from .strided import TILE, core_shape, interval
from .tape import Affine, Const, Indexed, Joint, Operand, ScalarRun, Statement

_CONSTANT_RULES = {ADD.partials[0]: 1.0, SUBTRACT.partials[1]: -1.0}


class Point(Protocol):
    """evaluate.Point: a LocalTape and the values of its nodes."""

    local: LocalTape
    values: Any


class Other(NamedTuple):
    """The partial is the value of operand `index` itself."""

    index: int


class Rule(NamedTuple):
    """The partial is computed by the op table's rule `function(y, *x)` (or, for selections, from the values)."""

    function: Callable[..., Any]


Coefficient = float | Other | Rule | None


def coefficient(item: Statement, k: int) -> Coefficient:
    """What the partial of a statement with respect to operand k is; None where there is no entry in L.

    Reads structure and constants only, so it holds at every point.
    """
    op, operands = item.op, item.operands
    rule = op.partials[k]
    if rule is None or type(operands[k]) is Const:
        return None
    if op.kind == "select":
        return Rule(rule)
    if op is MULTIPLY:
        other = operands[1 - k]
        if type(other) is not Const or isinstance(other.value, np.ndarray):
            return Other(1 - k)
        return Rule(rule) if other.value != other.value else float(other.value)  # NaN may be passed over
    if op is DIVIDE and k == 0:
        other = operands[1]
        if type(other) is Const and not isinstance(other.value, np.ndarray) and other.value == other.value:
            return 1.0 / other.value if other.value else math.copysign(math.inf, other.value)
    constant = _CONSTANT_RULES.get(rule)
    return Rule(rule) if constant is None else constant


def by_reference(what: Coefficient, operands: Sequence[Operand]) -> bool:
    """Whether the partial is an operand's values where they lie; those of constants with NaN may be passed over."""
    if not isinstance(what, Other) or type(operands[what.index]) is Indexed:
        return False
    other = operands[what.index]
    return type(other) is not Const or not (isinstance(other.value, np.ndarray) and has_nan(other.value))


def select_indicator(op: Op, x: np.ndarray, shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """1.0 at the first extremum (in C order) over `axes`, 0.0 elsewhere: the partials of max and min over an array."""
    x = np.broadcast_to(x, shape)
    kept = [k for k in range(len(shape)) if k not in axes]
    rows = x.transpose([*kept, *axes])
    kept_shape = rows.shape[: len(kept)]
    rows = rows.reshape((*kept_shape, -1))
    chosen = (np.argmax if op.name == "max" else np.argmin)(rows, axis=-1)
    indicator = np.zeros(rows.shape)
    np.put_along_axis(indicator, chosen[..., None], 1.0, axis=-1)
    indicator = indicator.reshape(kept_shape + tuple(shape[k] for k in axes))
    return indicator.transpose(np.argsort([*kept, *axes]))


class Partials:
    """Partials of every item at a point; computed on the fly, or stored with `keep=True` for repeated solves."""

    def __init__(self, point: Point, keep: bool = False) -> None:
        self.point, self.keep = point, keep
        self._kept: dict[tuple[int, int], np.ndarray] = {}

    def refresh(self, point: Point) -> None:
        """Move to another point; what was stored is computed anew when it is next asked for."""
        self.point = point
        self._kept.clear()

    @property
    def nbytes(self) -> int:
        """Bytes of stored partials."""
        return sum(a.nbytes for a in self._kept.values())

    def array(self, i: int, k: int) -> float | np.ndarray:
        """The partial of statement i for its active operand k, broadcastable to the statement's shape."""
        if self.keep and (i, k) in self._kept:
            return self._kept[i, k]
        item = self.point.local.items[i]
        what = coefficient(item, k)
        if isinstance(what, float):
            return what
        values, shape = self.point.values, item.shape
        if isinstance(what, Other):
            return values.read(item.operands[what.index], shape)
        if item.op.kind == "select":
            p = select_indicator(item.op, values.read(item.operands[0], shape), shape, item.reduced)
        else:
            with quiet():
                p = what.function(*self._arguments(item, k))
        if isinstance(p, np.ndarray) and p.ndim < len(shape):
            p = p.reshape((1,) * (len(shape) - p.ndim) + p.shape)
        if i in values.aside:
            p = np.where(values.aside[i], 0.0, p)
        if self.keep:
            self._kept[i, k] = p
        return p

    def _arguments(self, item: Statement, k: int) -> list[Any]:
        """What the rule for operand k is called with; None for what it does not read, which may not have been kept."""
        values, shape, reads = self.point.values, item.shape, item.op.reads[k]
        xs = [values.read(ref, shape) if j in reads or item.reduced else None
              for j, ref in enumerate(item.operands)]
        return [item.op.value(*xs) if item.reduced else values.view(item.out, shape) if -1 in reads else None, *xs]

    def write(self, i: int, k: int, out: np.ndarray) -> None:
        """The same into an array of the statement's shape, a part at a time: a rule's temporaries stay in cache."""
        item = self.point.local.items[i]
        what, shape = coefficient(item, k), item.shape
        axis = next((axis for axis, n in enumerate(shape) if n > 1), 0)
        if self.keep or not isinstance(what, Rule) or item.op.kind == "select" or item.reduced or (
                out.size <= 2 * TILE) or i in self.point.values.aside:
            np.copyto(out, self.array(i, k))
            return
        arguments = self._arguments(item, k)
        rows = max(1, TILE * shape[axis] // out.size)
        with quiet():
            for start in range(0, shape[axis], rows):
                part = (*(slice(None),) * axis, slice(start, start + rows))
                out[part] = what.function(*(
                    x[part] if isinstance(x, np.ndarray) and x.ndim == len(shape) and x.shape[axis] > 1 else x
                    for x in arguments))

    def of(self, i: int, references: bool = True) -> tuple[float | np.ndarray | None, ...]:
        """Partials of item i, one an operand: None (inactive), a float, or an array.

        `references=False` gives None as well where the partial is an operand's own values.

        For a `ScalarRun` (pa, pb), arrays over its lines, 0 where there is no such operand.
        """
        item = self.point.local.items[i]
        if type(item) is ScalarRun:
            return self.run(i)
        what = [coefficient(item, k) for k in range(len(item.operands))]
        return tuple(None if w is None or (not references and isinstance(w, Other)) else self.array(i, k)
                     for k, w in enumerate(what))

    def run(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """(pa, pb) of a scalar run."""
        if self.keep and (i, 0) in self._kept:
            return self._kept[i, 0], self._kept[i, 1]
        pa, pb = scalar.run_partials(*self.point.values.lines(self.point.local.items[i]))
        if self.keep:
            self._kept[i, 0], self._kept[i, 1] = pa, pb
        return pa, pb


def rounded(local: LocalTape, point: Point) -> str:
    """The user's line of the first item of which a partial is rounded below the normal numbers, to 0 perhaps, as its
    rule forms it; empty: there is none.  As much work as forming all of them."""
    partials = Partials(point)
    for i, item in enumerate(local.items):
        if type(item) is Joint:
            continue  # whose products are formed as they are applied
        with Watched() as seen:
            if type(item) is ScalarRun:
                partials.run(i)
            elif 0 not in item.shape and item.op.kind != "select":
                for k in range(len(item.operands)):
                    if isinstance(coefficient(item, k), Rule):
                        partials.array(i, k)
        if seen.under:
            return str(local.sites[item.site]) if type(item) is Statement and item.site >= 0 else "a scalar line"
    return ""


class LocalL(NamedTuple):
    """The rows of L over local nodes in CSR: indptr (n+1,), indices, data (nnz,).

    Rows of ghosts and inputs are empty; a column may come up twice in a row (x*x); explicit zeros are kept, for the
    structure depends on the tape alone and never on values (a selection keeps an entry, 0 or 1, for every candidate).
    The rows of `residuals` (nodes, ascending) are those of implicit statements: -dR/dy and -dR/dx.
    """

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray
    residuals: np.ndarray = np.empty(0, dtype=np.int64)


def expand(local: LocalTape, point: Point) -> LocalL:
    """L explicitly, one row a flattened line.  Memory O(nonzeros); no Python work per line."""
    indptr, residuals = _places(local, point)
    indices = np.empty(indptr[-1], dtype=np.int32 if local.n_nodes < 2**31 else np.int64)
    data = np.empty(indptr[-1])
    _fill(local, point, indptr, indices, data)
    return LocalL(indptr, indices, data, residuals)


def expand_structure(local: LocalTape) -> tuple[np.ndarray, np.ndarray]:
    """(indptr, indices) of L, read off the tape alone.  The rows of implicit statements are taken to read all that
    these depend on."""
    indptr, _ = _places(local, None)
    indices = np.empty(indptr[-1], dtype=np.int32 if local.n_nodes < 2**31 else np.int64)
    _fill(local, None, indptr, indices, None)
    return indptr, indices


def _places(local: LocalTape, point: Point | None) -> tuple[np.ndarray, np.ndarray]:
    """(where the entries of every row are, the rows of implicit statements)."""
    counts = np.zeros(local.n_nodes, dtype=np.int64)
    residuals = [np.empty(0, dtype=np.int64)]
    for item in local.items:
        if type(item) is ScalarRun:
            first = local.blocks[item.block].first
            counts[first : first + len(item.op)] = scalar.run_counts(item)
        elif type(item) is Joint:
            rows, system = _joint_rows(local, item), _system(item, point)
            counts[rows] = _joint_counts(item) if system is None else np.diff(system.indptr)
            if system is not None:
                residuals.append(rows[:system.residuals])
        else:
            _count(local, item, counts)
    indptr = np.zeros(local.n_nodes + 1, dtype=np.int64)
    np.cumsum(counts, out=indptr[1:])
    return indptr, np.sort(np.concatenate(residuals))


def expand_values(local: LocalTape, point: Point, out: LocalL) -> LocalL:
    """The same structure at another point: overwrites out.data."""
    _fill(local, point, out.indptr, None, out.data)
    return out


def _active(item: Statement) -> list[int]:
    return [k for k in range(len(item.operands)) if coefficient(item, k) is not None]


def _rows(local: LocalTape, item: Statement) -> tuple[np.ndarray, int]:
    """(row ids over the kept axes, with length 1 along reduced ones; entries a row and operand)."""
    kept = core_shape(item.shape, item.out.strides) if item.reduced else item.shape
    ids = item.out.ids(local.blocks[item.out.block].first, kept)
    size = 1
    for k in item.reduced:
        size *= item.shape[k]
    return ids, size


def _count(local: LocalTape, item: Statement, counts: np.ndarray) -> None:
    active = len(_active(item))
    if 0 in item.shape or not (active or item.op.kind == "scan"):
        return
    first = local.blocks[item.out.block].first
    span = None if item.reduced else interval(item.out, item.shape)
    if span is not None:
        counts[first + span[0] : first + span[1]] = active
        rows = None
    else:
        rows, size = _rows(local, item)
        counts[rows] = active * size
    if item.op.kind == "scan":
        rows = _rows(local, item)[0] if rows is None else rows
        counts[rows[..., 1:]] += 1


def _fill(local: LocalTape, point: Point | None, indptr: np.ndarray, indices: np.ndarray | None,
          data: np.ndarray | None) -> None:
    """Writes indices, or values at a point, or both."""
    partials = None if point is None else Partials(point)
    for i, item in enumerate(local.items):
        if type(item) is ScalarRun:
            first = local.blocks[item.block].first
            if point is None:
                scalar.run_columns(item, first, indptr, indices)
            else:
                scalar.run_expand(*point.values.lines(item), item, first, indptr, indices, data)
                note()
        elif 0 in item.shape:
            continue
        elif type(item) is Joint and (system := _system(item, point)) is not None:
            _fill_system(local, item, system, indptr, indices, data)
        elif type(item) is Joint:
            _fill_joint(local, item, None if point is None else Products(item, point.values), indptr, indices, data)
        else:
            _fill_statement(local, i, item, partials, indptr, indices, data)


def _fill_statement(local: LocalTape, i: int, item: Statement, partials: Partials | None, indptr: np.ndarray,
                    indices: np.ndarray | None, data: np.ndarray | None) -> None:
    """Entries of a row: all active operands of its first iteration, then of the next (reduced axes in C order)."""
    active, shape = _active(item), item.shape
    if not active and item.op.kind != "scan":
        return
    axes = item.reduced
    kept = [k for k in range(len(shape)) if k not in axes]
    order = [*kept, *axes]
    kept_shape, size = tuple(shape[k] for k in kept), 1
    for k in axes:
        size *= shape[k]
    first = local.blocks[item.out.block].first
    span = interval(Affine(item.out.block, item.out.offset, tuple(item.out.strides[k] for k in kept)), kept_shape)
    width = size * len(active)
    regular = span is not None and item.op.kind != "scan"
    if regular:  # rows one after another, all of the same width: the entries are a plain array
        lo, hi = int(indptr[first + span[0]]), int(indptr[first + span[1]])
        places: Any = slice(lo, hi)
    else:
        rows, _ = _rows(local, item)
        start = indptr[rows.transpose(order).reshape(kept_shape)]
        places = start[..., None] + np.arange(width)
    entry_shape = tuple(shape[k] for k in order)
    for slot, k in enumerate(active):
        at = None if regular else places[..., slot :: len(active)].reshape(entry_shape)
        if partials is not None and data is not None:
            p = np.broadcast_to(partials.array(i, k), shape).transpose(order)
            if regular:
                data[places].reshape((*entry_shape, len(active)))[..., slot] = p
            else:
                data[at] = p
        if indices is not None:
            ref = item.operands[k]
            ids = ref.ids(local.blocks[ref.block].first, shape) if type(ref) is Affine else ref.ids
            ids = ids.transpose(order)
            if regular:
                indices[places].reshape((*entry_shape, len(active)))[..., slot] = ids
            else:
                indices[at] = ids
    if item.op.kind == "scan":  # y[k] also reads y[k-1]
        at = start[..., 1:] + width
        if data is not None:
            data[at] = 1.0
        if indices is not None:
            indices[at] = rows[..., :-1]


def _joint_rows(local: LocalTape, item: Joint) -> np.ndarray:
    return item.out.ids(local.blocks[item.out.block].first, item.out_shape)


def _system(item: Joint, point: Point | None) -> System | None:
    """The equations of an implicit statement; of others, and where there is no point, None."""
    if point is None or not item.op.implicit:
        return None
    products = Products(item, point.values)
    return item.op.system(products.y, products.x)


def _fill_system(local: LocalTape, item: Joint, system: System, indptr: np.ndarray, indices: np.ndarray | None,
                 data: np.ndarray | None) -> None:
    rows = _joint_rows(local, item)
    length = np.diff(system.indptr)
    at = np.repeat(indptr[rows] - system.indptr[:-1], length) + np.arange(len(system.data))
    if data is not None:
        data[at] = system.data
    if indices is not None:
        ids = [rows]
        for k, ref in enumerate(item.operands):
            shape = item.operand_shape(k)
            found = (ref.ids(local.blocks[ref.block].first, shape) if type(ref) is Affine
                     else getattr(ref, "ids", np.full(shape, -1)))  # constants have no entries
            ids.append(np.reshape(found, -1))
        indices[at] = np.concatenate(ids)[system.columns]


def _joint_counts(item: Joint) -> np.ndarray:
    """Entries of each row of one iteration."""
    counts = np.zeros(item.op.size, dtype=np.int64)
    for k in item.active:
        pattern = item.op.pattern(k)
        counts += prod(item.core(k)) if pattern is None else np.bincount(pattern[0], minlength=len(counts))
    return counts


def _fill_joint(local: LocalTape, item: Joint, products: Products | None, indptr: np.ndarray,
                indices: np.ndarray | None, data: np.ndarray | None) -> None:
    """Entries of a row: all of its first active operand, then of the next."""
    start = indptr[_joint_rows(local, item)]  # where each row's next entries go
    for k in item.active:
        ref, core, pattern = item.operands[k], item.core(k), item.op.pattern(k)
        n = prod(core)
        if pattern is None:
            at, columns, width = start[..., None] + np.arange(n), None, n
        else:
            rows, columns = pattern
            width = np.bincount(rows, minlength=item.op.size)
            order = np.argsort(rows, kind="stable")
            place = np.empty(len(rows), dtype=np.int64)  # of an entry in its row
            place[order] = np.arange(len(rows)) - np.repeat(np.cumsum(width) - width, width)
            at = start[..., rows] + place
        if products is not None and data is not None:
            data[at] = products.jacobian(k)
        if indices is not None:
            ids = ref.ids(local.blocks[ref.block].first, item.operand_shape(k)) if type(ref) is Affine else ref.ids
            ids = np.reshape(ids, (*item.shape, n))
            indices[at] = ids[..., None, :] if columns is None else ids[..., columns]
        start = start + width
