"""The tape while it is written: blocks, statements, scalar runs, guards, sites, and the memory of the values."""

from __future__ import annotations

import sys
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import prod
from operator import mul
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..cancellation import alone
from ..ops import COPY, Elemental, Op
from ..tape import (
    RUN_LINES,
    UNREAD,
    Affine,
    Block,
    Const,
    Item,
    Joint,
    Operand,
    ScalarRun,
    Site,
    Statement,
    Tape,
    c_strides,
    id_type,
)
from . import memory
from .boxes import Piece, refine
from .constants import Constants
from .guards import Decisions

FEW_LINES = 1 << 12  # of compiled code: they join the lines around them
FEW_NUMBERS = 512  # of a run's lines, three a line, up to which lists become arrays sooner by themselves
MANY_LOOKS, WORTH = 4, 32  # putting off is given up after so many looks with fewer items to compute at each, on average

# (blocks, items, arrays): computes the items' values into the blocks' arrays; those of UNREAD ones are not wanted.
Evaluate = Callable[[list[Block], list[Item], list[Any]], None]

_array, _empty = np.array, np.empty  # NumPy's own, whatever is substituted meanwhile
_new = tuple.__new__


class ValuesWanted(BaseException):
    """Raised through the user's function when it wants a derivative inside: the trace begins again and keeps values."""


class JointMet(BaseException):
    """Raised through the user's function where it makes a joint statement, if nobody wants a tape that has one."""


class Located(BaseException):
    """Raised through the user's function when the node that is looked for is made (not to be caught by it)."""

    def __init__(self, site: Site) -> None:
        self.site = site


class Holdings(Protocol):
    """Who takes runs of scalar lines off a tape while it is written."""

    long: int  # scalar lines from which on runs may leave

    def note(self, tape: Tape, beside: Callable[[], AbstractContextManager[None]]) -> None:
        """Runs were added to the tape and are complete: they, and those before, may be exchanged for `HeldRun`s.

        beside: NumPy is itself again while its body runs (NumPy's functions are exchanged during a trace, and Numba
        takes them by name).
        """

    def forget(self) -> None:
        """The tape is given up, and the function traced once more without."""


class Recorder(Decisions):
    """Writes one tape.  `values[b]` are the values of block b's nodes, or None for a scalar run."""

    def __init__(self, keep_values: bool | str, target: int | None = None, evaluate: Evaluate | None = None,
                 note: Callable[[Tape], None] | None = None, long: int = 0) -> None:
        super().__init__(Tape())
        self.note = note  # is told whenever a run of scalar lines is complete (`Holdings`), if no values are kept:
        self.long = long  # ... they are of programs with at most so many of these, as then runs leave
        self._scalar_lines = 0
        self.evaluate = evaluate
        self.lazy = evaluate is not None and keep_values == "read"  # large results are computed when somebody looks
        self.pending: dict[int, weakref.ref[Any]] = {}  # blocks put off, and their storages (while somebody has them)
        self.moved: list[weakref.ref[Any]] = []  # storages whose values are to be moved there from other blocks
        self._computed = self._looks = self._put_off = 0  # items so far, times somebody looked, items computed then
        self.keep_values = bool(keep_values)
        self.sparing = keep_values == "read"  # keep only what a partial, a guard or an output reads
        self.values: list[np.ndarray | None] = []
        self.n = 0  # nodes in closed blocks: the first id of the open scalar run
        self.firsts: list[int] = []
        self.factors: dict[Any, Any] = {}  # of the matrices that were factorized last (`linalg.factors_of`)
        self.factored: dict[Any, Any] = {}  # constant operands of products that were recorded last (`usual.product`)
        self.modulus: Any = None  # the latest block of |x| or |x + iy|, and what it is made of (`usual.unary`)
        self.joints = True  # whether a tape with joint statements is wanted
        self.undetermined = False  # a statement has results that are any of many (`undetermined`)
        self.sealed: weakref.WeakKeyDictionary[Any, tuple[str, str]] | None = None  # where writes are refused
        self.dead = False  # something was recorded only to be taken out; the tape is pruned when it is complete
        self.holding = False  # an array made in the function holds traced values, and its own memory is NaN
        self.shown = sys.stdout, sys.stderr  # where what is printed is to be looked at
        self.careful = False  # errors of NumPy's are to come up where they arise
        self.note_of_errors: Any = None  # (tracing.floating)
        self.aside = False  # what runs is not the user's function, but Numba's compiler, say
        self.counting = False  # scalar lines are numbered in a row, which a block ends
        self.run: list[int] = []  # open scalar run: op, a, b; op, a, b; ...  up to RUN_LINES of them
        self.constants: dict[float | str, int] = {}
        self.constant_values = array("d")
        # Filled in by tracing.scalar.attach:
        self.restart: Callable[[], None]  # tells the scalars that ids have moved on
        self.retire: Callable[[], None]  # ... that the trace is over
        self.scalar: Callable[[int, float], Any]  # (node, value) -> a traced scalar
        self.boolean: Callable[[int, float], Any]
        self.count: Callable[[int, float], Any]
        self.scalar_type: type
        self.scalar_op: Callable[..., Any]  # (op, operands) -> a traced scalar
        self.be_careful: Callable[[bool], None]  # have scalars compute as NumPy's floats, errors included, or not
        self.array_of: Callable[[Any], Any]  # nested lists of traced values as a traced array (tracing.creation)
        self.target = target
        self.watch = alone()
        self.alert = target is not None or self.watch is not None  # for nodes, or for them to be unwanted
        self.primals: Any = None  # tracing.primals.Primals, once a derivative is taken inside the function
        self._constants = Constants()
        self._room: memory.Room | None = None

    # -- memory ------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Memory for a result."""
        size = prod(shape)
        return _empty(shape) if size < memory.LARGE else memory.empty(size).reshape(shape)

    def room_for(self, first: int, n: int) -> np.ndarray:
        """Memory for the values of n nodes from `first` on, which compiled code is about to make: their places in one
        vector of all nodes, so that it need not be put together, where there are addresses for one."""
        if self._room is None:
            self._room = memory.Room.make()
        room = self._room
        return memory.empty(n) if room is None or first + n > room.size else room.part(first, first + n)

    def snapshot(self, values: np.ndarray) -> np.ndarray:
        """An own float64 copy of a user's constant array, shared between uses while its content stays the same."""
        if values.dtype.kind not in "fiub":
            self.unsupported(
                f"a constant array of dtype {values.dtype}", "derivatives here are those of real functions"
            )
        return self._constants.copy(values)

    def release(self) -> tuple[Tape, list[np.ndarray | None]]:
        """Hand over the tape and its values.  The recorder lives in reference cycles with the closures made for it, and
        would keep them in memory until the garbage collector comes by, while the next trace takes fresh pages."""
        if self.pending:
            self.compute()
        for storage in self.moved:  # arrays that escaped the trace
            st = storage()
            if st is not None and st.pending:
                st.fill()
        self.moved.clear()
        tape, values = self.tape, self.values
        self.tape, self.values = Tape(sites=tape.sites), []
        return tape, values

    def keep(self) -> None:
        """The values of nodes will be asked for."""
        if not self.keep_values:
            raise ValuesWanted

    def filled(self) -> None:
        """The open scalar run is as long as runs are; no operation is under way."""
        self.flush()
        self._part_with_values()

    def _part_with_values(self) -> None:
        """Keep no values any more once runs are to leave, as if none had ever been kept."""
        if self.note is None or not self.keep_values or self._scalar_lines <= self.long:
            return
        if self.primals is not None or self.capturing:
            raise ValuesWanted
        if self.pending:
            self.compute()
        for storage in self.moved:
            st = storage()
            if st is not None and st.pending:
                st.fill()
        self.moved.clear()
        self.values, self.keep_values, self.sparing, self.lazy = [], False, False, False
        self.note(self.tape)

    # -- values that were put off ------------------------------------------------------------------------------

    def compute(self) -> None:
        """Compute what was put off: into the kept arrays, and into the buffers of arrays that somebody still has."""
        self.flush()
        pending, self.pending = self.pending, {}
        blocks, values = self.tape.blocks, self.values
        todo = []
        for item in self.tape.items[self._computed :]:
            if type(item) is ScalarRun:
                if values[item.block] is None:
                    values[item.block] = _empty(blocks[item.block].size)
                    todo.append(item)
            elif item.out.block in pending:
                todo.append(item)
        arrays = list(values)
        for block, storage in pending.items():
            st = storage()
            if st is not None:
                st.pending = False
                if arrays[block] is UNREAD:
                    arrays[block] = st.buffer.reshape(-1)
        assert self.evaluate is not None
        self.evaluate(blocks, todo, arrays)
        self._computed = len(self.tape.items)
        self._looks += 1
        self._put_off += len(todo)
        if self._looks >= MANY_LOOKS and self._put_off < WORTH * self._looks:
            self.lazy = False  # a function that looks at its values all the time

    def holds(self, piece: Piece) -> bool:
        """Whether a piece's values can be read at any time: kept (or to be), or constant."""
        operand = piece.ref
        return type(operand) is Const or (
            type(operand) is Affine and operand.block < len(self.values)
            and self.values[operand.block] is not None and self.values[operand.block] is not UNREAD)

    def view(self, operand: Affine, shape: tuple[int, ...]) -> np.ndarray:
        """The kept values of an operand."""
        values = self.values[operand.block]
        assert values is not None and values is not UNREAD
        return as_strided(values[operand.offset :], shape, [8 * s for s in operand.strides])

    # -- blocks and statements ------------------------------------------------------------------------------------

    def record(self, op: Op, shape: tuple[int, ...], operands: tuple[Any, ...], values: np.ndarray,
               strides: tuple[int, ...], read: bool, site: int = -1) -> int:
        """The statement that computes a fresh block in C order of shape values.shape from operands over the iteration
        space `shape`; returns the block's index.

        Operands may be in several pieces: one statement a box of their common refinement.  strides: of the result over
        `shape`.  read: whether something is known to read the values.  site: the user's line, where that is known.
        """
        if site < 0:
            site = self._end
        if site < 0:
            frame, ours = sys._getframe(2), self._ours
            while id(frame.f_code) in ours:
                back = frame.f_back  # a new object every time
                if back is None:
                    break
                frame = back
            known = self._sites.get((id(frame.f_code), frame.f_lasti))
            site = self.site() if known is None else known
        if self.run:
            self.flush()
        first = self.n
        self.n = n = first + values.size
        if self.alert:
            self._look(first, n, site)
        firsts, tape = self.firsts, self.tape
        block = len(firsts)
        firsts.append(first)
        tape.blocks.append(_new(Block, (first, values.shape)))
        if self.keep_values:
            if not read and self.sparing:
                self.values.append(UNREAD)
            else:
                self.values.append(values if values.ndim == 1 else values.reshape(-1))
        if self.counting:
            self.restart()
        for operand in operands:
            if type(operand) is list:
                self._boxes(op, shape, operands, block, strides, site)
                return block
        tape.items.append(_new(Statement, (op, shape, _new(Affine, (block, 0, strides)), operands, site)))
        return block

    def follow(self, op: Op, value: float, *constants: Const) -> Any:
        """op of the number that the statement recorded last has computed, and constants, as a statement of the same
        line; returns the number."""
        tape, firsts, first = self.tape, self.firsts, self.n
        site = tape.items[-1].site
        if self.alert:
            self._look(first, first + 1, site)
        self.n, block = first + 1, len(firsts)
        firsts.append(first)
        tape.blocks.append(_new(Block, (first, ())))
        if self.keep_values:
            self.values.append(_array((value,)))
        operands = (_new(Affine, (block - 1, 0, ())), *constants)
        tape.items.append(_new(Statement, (op, (), _new(Affine, (block, 0, ())), operands, site)))
        return self.scalar(first, value)

    def _look(self, first: int, stop: int, site: int | None = None) -> None:
        """Nodes are about to be made: stop here if one of them is looked for, or nobody wants them any more."""
        self.cancel()
        if self.target is not None and first <= self.target < stop and self.running:
            raise Located(self.tape.sites[self.site() if site is None else site])

    def cancel(self) -> None:
        """Raise `CancelledError` if nobody wants this trace any more."""
        if self.watch is not None:
            self.watch.look("while the function was traced")

    def _boxes(self, op: Op, shape: tuple[int, ...], operands: Sequence[Operand | list[Piece]], block: int,
               strides: tuple[int, ...], site: int) -> None:
        """A statement for each box on which every operand is in one piece."""
        items = self.tape.items
        for lo, size, refs in refine(operands, shape):
            out = _new(Affine, (block, sum(map(mul, lo, strides)), strides))
            items.append(_new(Statement, (op, size, out, refs, site)))

    def new_block(self, shape: tuple[int, ...], values: np.ndarray, read: bool = True) -> int:
        """Fresh nodes with these values; returns the block's index.  read: something is known to read the values."""
        if self.run:
            self.flush()
        size = prod(shape)
        first, self.n = self.n, self.n + size
        if self.alert:
            self._look(first, self.n)
        blocks = self.tape.blocks
        blocks.append(Block(first, shape))
        self.firsts.append(first)
        if self.keep_values:
            self.values.append(values.reshape(-1) if read or not self.sparing else UNREAD)
        self.restart()
        return len(blocks) - 1

    def emit(self, op: Op, shape: tuple[int, ...], operands: Sequence[Operand | list[Piece]], values: np.ndarray,
             out_strides: tuple[int, ...] | None = None, read: bool = False) -> int:
        """`record`, of a result that moves along all axes if nothing else is said; a single number is kept, as it will
        be looked at."""
        strides = c_strides(shape) if out_strides is None else out_strides
        return self.record(op, shape, tuple(operands), values, strides, read or not values.shape)

    def emit_joint(self, op: Elemental, shape: tuple[int, ...], operands: Sequence[Operand], values: np.ndarray,
                   read: bool) -> int:
        """The joint statement that computes a fresh block, its values (*shape, op.size); returns the block's index."""
        site = self.site()
        block = self.new_block(values.shape, values, read)
        out = Affine(block, 0, c_strides(values.shape))
        self.tape.items.append(Joint(op, shape, out, tuple(operands), site))
        return block

    def meet_joint(self) -> None:
        """A joint statement is about to be made."""
        if not self.joints:
            raise JointMet

    def insert(self, place: int, item: Item) -> None:
        """An item whose block is there already, its values known, before the items from `place` on."""
        self.tape.items.insert(place, item)
        self._computed += self._computed > place

    def constant_nodes(self, values: np.ndarray) -> int:
        """Nodes that carry constants, where explicit ids want some; returns the first id."""
        block = self.new_block(values.shape, values)
        strides = c_strides(values.shape)
        self.tape.items.append(
            Statement(COPY, values.shape, Affine(block, 0, strides), (Const(values),), self.site())
        )
        return self.firsts[block]

    def block_of(self, node: int) -> int:
        """Index of the block a node is in; the open scalar run counts as the next block."""
        return len(self.firsts) if node >= self.n else bisect_right(self.firsts, node) - 1

    def node(self, node: int, ndim: int = 0) -> Affine:
        """One node, broadcast over `ndim` axes."""
        if node >= self.n:
            return Affine(len(self.firsts), node - self.n, (0,) * ndim)
        block = bisect_right(self.firsts, node) - 1
        return Affine(block, node - self.firsts[block], (0,) * ndim)

    # -- scalar runs -------------------------------------------------------------------------------------------------

    def constant(self, value: Any) -> int:
        """The number -1-k under which a scalar line names constant k."""
        value = float(value)
        key = value or repr(value)  # 0.0 == -0.0, but they are two constants
        known = self.constants.get(key)
        if known is None:
            self.constant_values.append(value)
            known = -len(self.constant_values)
            if len(self.constants) >= RUN_LINES:
                self.constants.clear()
            self.constants[key] = known
        return known

    def next_node(self) -> int:
        """The node of the scalar line that comes next."""
        return self.n + len(self.run) // 3

    def append_lines(self, op: np.ndarray, a: np.ndarray, b: np.ndarray, const: np.ndarray, values: np.ndarray) -> None:
        """Scalar lines that compiled code made, RUN_LINES at most, for the nodes from `next_node()` on.

        Few of them continue the open run; many are a run of their own, whose values need no evaluation, on these
        arrays, not copied.
        """
        if len(op) < FEW_LINES:
            numbers = [self.constant(c) for c in const.tolist()]
            for line in zip(op.tolist(), *([i if i >= 0 else numbers[-1 - i] for i in ids.tolist()] for ids in (a, b))):
                self.run.extend(line)
            self.restart()
            return
        self.flush()
        self._append_run(op, a, b, const, values)
        self._part_with_values()

    def flush(self) -> None:
        """Close the open scalar run, if there is one: it becomes a block and an item."""
        if not self.run:
            return
        run = self.run
        ids = id_type(self.n + len(run) // 3)
        if len(run) < FEW_NUMBERS:
            lines = [_array(run[::3], np.uint8), _array(run[1::3], ids), _array(run[2::3], ids)]
        else:
            table = np.frombuffer(array("q", run), dtype=np.int64).reshape(-1, 3)
            lines = [table[:, 0].astype(np.uint8), table[:, 1].astype(ids), table[:, 2].astype(ids)]
        run.clear()
        const = _array(self.constant_values)
        self.constants.clear()
        self.constant_values = array("d")
        self._append_run(*lines, const, None)

    def _append_run(self, op: np.ndarray, a: np.ndarray, b: np.ndarray, const: np.ndarray,
                    values: np.ndarray | None) -> None:
        self.cancel()
        blocks = self.tape.blocks
        blocks.append(Block(self.n, op.shape))
        self.firsts.append(self.n)
        if self.keep_values:
            self.values.append(values)
        self.n += len(op)
        self.tape.items.append(ScalarRun(len(blocks) - 1, op, a, b, const))
        self._scalar_lines += len(op)
        if self.note is not None and not self.keep_values:
            self.note(self.tape)
        self.restart()

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Close what is open; the tape is complete."""
        self.flush()
        self._close_guards()
        self._constants.clear()
        self.close()

    def close(self) -> None:
        """The trace is over, whether or not it came to a tape: its values refuse from now on."""
        self.open, self.modulus, self._room = False, None, None
        self.retire()
