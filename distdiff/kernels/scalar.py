"""Loops over scalar runs: values, partials, entries of L, and both sweeps.

Small runs go line by line through the op table, so they pay neither for Numba's import nor for a compilation; once
the work adds up (`PLAIN_LINES`) the compiled loops of `scalar_loops` take over, cached on disk.

In all of them lines read `y`, the local node values as one vector.  The sweeps work on `lam` or `ydot`, (n,) or
(n, m), where blocks of nodes lie in any order: operands a and b of line i are the nodes ta[i] and tb[i], line i itself
is node starts[-1] + i, and node j lies at j + shifts[k] for the last starts[k] <= j.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..flags import note, quiet
from ..ops import BY_NAME, OPS
from .jit import worth_it

if TYPE_CHECKING:
    from .scalar_stored import Stored

PLAIN_LINES = 50_000  # lines (times columns) that may run in plain Python, about 0.1 s, before the loops are compiled


class Run(Protocol):
    """tape.ScalarRun."""

    op: np.ndarray
    a: np.ndarray
    b: np.ndarray
    const: np.ndarray


class _Loops:
    """The compiled loops, from when they are worth it."""

    module: ModuleType | None = None
    spent = 0
    number: np.ndarray  # Op.code -> number in the compiled loops

    @classmethod
    def ready(cls, lines: int) -> bool:
        """Whether to run compiled, after `lines` more."""
        cls.spent += lines
        if cls.module is None and worth_it(cls.spent, PLAIN_LINES):
            cls.load()
        return cls.module is not None

    @classmethod
    def load(cls) -> ModuleType:
        from . import scalar_loops

        cls.number = numbers()
        cls.module = scalar_loops
        return scalar_loops


def numbers() -> np.ndarray:
    """By Op.code, the number of each operation in the compiled loops."""
    from .scalar_ops import NAMES

    found = np.full(256, len(NAMES), dtype=np.uint8)
    for number, name in enumerate(NAMES):
        found[BY_NAME[name].code] = number
    return found


def loop_numbers() -> np.ndarray:
    """`numbers()`, once the loops run compiled: always one array."""
    return _Loops.number


def compiled(lines: int) -> bool:
    """Whether the loops run compiled, after `lines` more."""
    return _Loops.ready(lines)


ACTIVE = np.array([sum(1 << k for k, p in enumerate(op.partials[:2]) if p is not None) for op in OPS], dtype=np.uint8)
BINARY = np.array([op.arity == 2 for op in OPS])


def active(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Which lines have an entry in L for operand a, and for operand b (bool arrays)."""
    bits = ACTIVE[run.op]
    return (run.a >= 0) & (bits & 1 != 0), (run.b >= 0) & (bits & 2 != 0)


def run_counts(run: Run) -> np.ndarray:
    """Entries of L in the row of each line."""
    a, b = active(run)
    return a.astype(np.int64) + b


def _line(run: Run, i: int, y: np.ndarray) -> tuple[object, list[np.float64]]:
    op = OPS[run.op[i]]
    ids = (run.a[i], run.b[i])[: op.arity]
    return op, [y[j] if j >= 0 else np.float64(run.const[-1 - j]) for j in ids]


def run_values(run: Run, first: int, y: np.ndarray) -> None:
    """y[first + i] = op_i(y[a_i], y[b_i])."""
    if _Loops.ready(len(run.op)):
        _Loops.module.run_values(run.op, _Loops.number, run.a, run.b, run.const, first, y)
        return
    with np.errstate(all="ignore"):
        for i in range(len(run.op)):
            op, x = _line(run, i, y)
            y[first + i] = op.value(*x)


def run_partials(run: Run, first: int, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(pa, pb): partials of every line, 0 where there is no entry in L."""
    n = len(run.op)
    pa, pb = np.zeros(n), np.zeros(n)
    if _Loops.ready(n):
        _Loops.module.run_partials(run.op, _Loops.number, run.a, run.b, run.const, first, y, pa, pb)
        return pa, pb
    with quiet():
        for i in range(n):
            op, x = _line(run, i, y)
            for p, rule, j in zip((pa, pb), op.partials, (run.a[i], run.b[i])):
                if j >= 0 and rule is not None:
                    p[i] = rule(y[first + i], *x)
    return pa, pb


def run_first_bad(run: Run, first: int, y: np.ndarray) -> tuple[int, float, bool]:
    """(first line whose value or an active partial is not finite, what it is, whether a partial); line -1: none."""
    if _Loops.ready(len(run.op)):
        return _Loops.module.run_first_bad(run.op, _Loops.number, ACTIVE, run.a, run.b, run.const, first, y)
    pa, pb = run_partials(run, first, y)
    finite = np.isfinite(y[first : first + len(run.op)]) & np.isfinite(pa) & np.isfinite(pb)
    if finite.all():
        return -1, 0.0, False
    k = int(np.argmin(finite))
    value = float(y[first + k])
    if not np.isfinite(value):
        return k, value, False
    return k, float(pb[k] if np.isfinite(pa[k]) else pa[k]), True


def run_expand(run: Run, first: int, y: np.ndarray, source: Run, row: int, indptr: np.ndarray,
               indices: np.ndarray | None, data: np.ndarray) -> None:
    """Entries of L in rows row, row + 1, ... into indices (unless None) and data, at the places of indptr.

    `source` is the run in the numbers of the columns; `run` may be the same in other numbers, those of y.
    """
    if _Loops.ready(len(run.op)):
        structure = indices is not None
        _Loops.module.run_entries(run.op, _Loops.number, ACTIVE, run.a, run.b, run.const, first, y, source.a, source.b,
                                  row, indptr, structure, indices if structure else np.empty(0, dtype=np.int32), data)
        return
    start = indptr[row : row + len(run.op)].copy()
    for mask, p, ids in zip(active(source), run_partials(run, first, y), (source.a, source.b)):
        data[start[mask]] = p[mask]
        if indices is not None:
            indices[start[mask]] = ids[mask]
        start += mask


def run_columns(run: Run, row: int, indptr: np.ndarray, indices: np.ndarray) -> None:
    """The columns alone."""
    start = indptr[row : row + len(run.op)].copy()
    for mask, ids in zip(active(run), (run.a, run.b)):
        indices[start[mask]] = ids[mask]
        start += mask


def blocks_read(run: Run, firsts: np.ndarray, own: int) -> np.ndarray:
    """The blocks before its own that a run's operands lie in, ascending; block k has nodes from firsts[k] on."""
    n = len(run.op)
    if _Loops.ready(n):
        read = np.zeros(own, dtype=np.bool_)
        _Loops.module.blocks_read(run.op, _Loops.number, run.a, run.b, firsts, own, read)
        return np.flatnonzero(read)
    used = np.concatenate([run.a, run.b[BINARY[run.op]]])
    used = used[(used >= 0) & (used < firsts[own])]
    return np.unique(np.searchsorted(firsts, used, side="right") - 1)


def _places(ids: np.ndarray, starts: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    return ids + shifts[np.searchsorted(starts, ids, side="right") - 1]


def run_adjoint(run: Run, first: int, y: np.ndarray, ta: np.ndarray, tb: np.ndarray, starts: np.ndarray,
                shifts: np.ndarray, lam: np.ndarray) -> None:
    """lam[place of ta_i] += pa_i lam[place of i], lam[place of tb_i] += pb_i lam[place of i], last line first."""
    if _Loops.ready(lam.size // max(len(lam), 1) * len(run.op)):
        loop = _Loops.module.run_adjoint if lam.ndim == 1 else _Loops.module.run_adjoint_columns
        loop(run.op, _Loops.number, run.a, run.b, run.const, first, y, ta, tb, starts, shifts, lam)
        note()
        return
    pa, pb = run_partials(run, first, y)
    use_a, use_b = active(run)
    base, ta, tb = starts[-1] + shifts[-1], _places(ta, starts, shifts), _places(tb, starts, shifts)
    with quiet():
        for i in range(len(run.op) - 1, -1, -1):
            if use_a[i]:
                lam[ta[i]] += pa[i] * lam[base + i]
            if use_b[i]:
                lam[tb[i]] += pb[i] * lam[base + i]


def store_adjoint(run: Run, first: int, y: np.ndarray, ta: np.ndarray, tb: np.ndarray, starts: np.ndarray,
                  shifts: np.ndarray) -> Stored | None:
    """`run_adjoint` for these arguments, without lam, written out for many calls; None while that isn't worth it."""
    if not _Loops.ready(len(run.op)):
        return None
    from .scalar_stored import Stored

    return Stored.of(run.op, _Loops.number, run.a, run.b, run.const, first, y, (ta, tb), starts, shifts)


def run_tangent(run: Run, first: int, y: np.ndarray, ta: np.ndarray, tb: np.ndarray, starts: np.ndarray,
                shifts: np.ndarray, ydot: np.ndarray, add: bool = False) -> None:
    """ydot[place of i] = pa_i ydot[place of ta_i] + pb_i ydot[place of tb_i], in order.

    add: += instead, so that what stands in the lines' places is a right-hand side.
    """
    if _Loops.ready(ydot.size // max(len(ydot), 1) * len(run.op)):
        loop = _Loops.module.run_tangent if ydot.ndim == 1 else _Loops.module.run_tangent_columns
        loop(run.op, _Loops.number, run.a, run.b, run.const, first, y, ta, tb, starts, shifts, ydot, add)
        note()
        return
    pa, pb = run_partials(run, first, y)
    use_a, use_b = active(run)
    base, ta, tb = starts[-1] + shifts[-1], _places(ta, starts, shifts), _places(tb, starts, shifts)
    with quiet():
        for i in range(len(run.op)):
            row = ydot[base + i] if add else np.zeros(ydot.shape[1:])
            if use_a[i]:
                row = row + pa[i] * ydot[ta[i]]
            if use_b[i]:
                row = row + pb[i] * ydot[tb[i]]
            ydot[base + i] = row
