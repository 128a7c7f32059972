"""Scalar runs in a sweep: bound to memory as calls or as parts of a sequence, and written out for many solves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..evaluate import Values
from ..kernels import lines, scalar
from ..kernels.sequence import Sequence
from ..partition.local import LocalTape
from . import sweep_ops as ops

MANY = 3  # solves at one point after which scalar lines are written out ...
STORE = 256 << 20  # ... as long as they take no more bytes than this; it costs as much as five solves save


class Runs:
    """What is written out of a sweep's scalar runs at this point, after so many adjoints of one column."""

    def __init__(self, local: LocalTape) -> None:
        self.items = local.items
        self.nbytes = self.solved = self.points = 0
        self._written: dict[tuple[str, int], Any] = {}

    def forget(self) -> None:
        """At another point."""
        self.nbytes = self.solved = 0
        self.points += 1
        self._written.clear()

    def written(self, run: Run) -> Any:
        """A run written out; None where that does not pay yet, is too much memory or too little work."""
        if self.solved <= MANY:
            return None
        key = run.way, run.op.item
        if key not in self._written:
            if 24 * len(run.item.op) + self.nbytes > STORE or len(run.W) >= 2**32:
                return None
            stored = scalar.store_adjoint(*run.values.lines(run.item), run.item.a, run.item.b, run.op.starts,
                                          run.op.shifts)
            if stored is None:
                return None
            self._written[key] = stored
            self.nbytes += stored.nbytes
        return self._written[key]


class Bound:
    """The scalar runs of one plan on one workspace W, in the order of its calls."""

    def __init__(self, runs: Runs, way: str, values: Values, forward: bool) -> None:
        self._runs, self._way, self._values, self._forward = runs, way, values, forward
        self._bound: list[Run] = []
        # The point, whether there lines are written out, and what gives their constants, when last looked at:
        self._known: tuple[int, bool, object] = (0, False, None)

    def bind(self, op: ops.Lines, W: np.ndarray, forward: bool) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """The call that goes over a run."""
        self._bound.append(Run(self._runs, self._way, op, W, self._values, forward))
        return self._bound[-1], ()

    def begin(self, columns: tuple[int, ...]) -> None:
        """A pass for so many columns begins."""
        writes = not self._forward and not columns
        self._runs.solved += writes
        known = self._runs.points, writes and self._runs.solved > MANY, self._values.passed_over
        if known != self._known:
            for run in self._bound:
                run.settle()
            self._known = known


class Run:
    """A run, on a workspace (rows,) or (rows, m), in one direction."""

    def __init__(self, runs: Runs, way: str, op: ops.Lines, W: np.ndarray, values: Values, forward: bool) -> None:
        self.way, self.op, self.W, self.values, self.item = way, op, W, values, runs.items[op.item]
        self._runs, self._forward, self._one = runs, forward, W.ndim == 1 and not forward
        self._columns = [W] if W.flags.c_contiguous else W.T
        self._record: lines.Record | None = None

    def __call__(self) -> None:
        written = self._runs.written(self) if self._one else None
        if written is not None:
            written.adjoint(self.W)
            return
        loop = scalar.run_tangent if self._forward else scalar.run_adjoint
        run = self.values.lines(self.item)
        for column in self._columns:
            loop(*run, self.item.a, self.item.b, self.op.starts, self.op.shifts, column)

    def join(self, sequence: Sequence) -> bool:
        """Put it into a sequence.  False: of several columns, of values that do not stay where they are, in Python."""
        if self.W.ndim > 1 or not self.values.is_flat or not lines.Record.possible(self.item):
            return False
        self._record = lines.Record(lines.TANGENT if self._forward else lines.ADJOINT, *self.values.run(self.item),
                                    self.op.starts, self.op.shifts, self.W)
        self.settle()
        self._record.put(sequence)
        return True

    def settle(self) -> None:
        """Have the sequence go over the lines as they are written out by now, or on the tape, with constants as they
        are at this point."""
        if self._record is not None:
            self._record.read(self.values.numbers(self.item.const))
        if self._record is not None and self._one:
            written = self._runs.written(self)
            if written is not None:
                self._record.write_out(written)
            else:
                self._record.forget()


__all__ = ["MANY", "STORE", "Bound", "Runs"]
