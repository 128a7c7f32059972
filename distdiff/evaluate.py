"""The values of all nodes at a point: a rank's share of the tape, run forward.

The same code serves the first point and every later one.  Vector statements are NumPy calls that write straight
into the node storage; scalar runs are one compiled loop; after each superstep the ranks exchange halos.
"""

from __future__ import annotations

import itertools
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from mpi4py import MPI

from . import products
from .calls import Call, Lines, bind
from .cancellation import Watch, watch_of
from .channels import as_ever
from .errors import InputError
from .fusion import Fusion
from .kernels import overlap, tiles
from .kernels.sequence import Passes
from .liveness import NOWHERE, kept_blocks, lodgings
from .missing import ANY, Missing
from .node import idle
from .ops import OPS
from .partition.local import Exchange, LocalTape, Portion, Spot, Step
from .strided import BlockIndex, core_array, core_view, progressions
from .tape import UNREAD, Affine, Block, Const, Guard, Item, Joint, Operand, ScalarRun, Statement
from .tracing import memory

FEW_LINES = 24  # of a scalar run, up to which its lines are looked at one by one where that is done once

Event = Callable[[], None] | None  # starts or finishes an exchange, if there is one


class Values:
    """Node values on one rank: one flat vector with the blocks as views, or one array a block.

    Not `complete`: only the values that a solve reads stay (`liveness`); the other blocks have shared memory, or were
    not computed at all.  `storage` is another object whenever the memory is another, so that who holds views can tell.
    """

    def __init__(self, blocks: list[Block], arrays: list[np.ndarray] | None = None,
                 flat: np.ndarray | None = None) -> None:
        """On the given arrays, one a block, or on one vector, a fresh one if none is given."""
        self.blocks, self.index = blocks, BlockIndex(blocks)
        self.storage, self.complete = object(), True
        self.program: list[Call | None] | None = None  # the calls that compute all items, on views of this memory
        self.exchanges: list[tuple[Event, Event]] | None = None  # starts and finishes of a pass, on the same views
        self.woven: Passes | None = None  # all calls of a pass in order, exchanges included
        self.failure = products.Failure()  # of a joint statement's rule
        self._lines: dict[int, Lines] = {}
        self._lean = False  # blocks that no solve reads live in a pool
        self._fusion: Fusion | None = None  # the groups of statements that run tile by tile
        self._missing: Missing | None = None  # where NaN are passed over: constants without
        self.aside: dict[int, np.ndarray] = {}  # by item: lines that no result depends on, whose partials count as 0
        self._flat: np.ndarray | None = None
        if arrays is None:
            flat = self._flat = memory.empty(_length(blocks)) if flat is None else flat
            arrays = [flat[b.first : b.first + b.size] for b in blocks]
        self._arrays = arrays

    @classmethod
    def lean(cls, local: LocalTape, fused: bool) -> Values:
        """Memory for what solves read, and a pool for the rest."""
        self = cls(local.blocks, [])
        self.share(local, fused)
        return self

    @classmethod
    def of_known(cls, blocks: list[Block], known: list[np.ndarray | None], flat: bool = False) -> Values:
        """Take over arrays as they are, not copied where they are contiguous float64; None: fresh memory, UNREAD: none.

        They are handed over: at the next point they are overwritten.  flat: they are to lie in one vector, and are
        copied into it unless they do (as those of compiled code, `Recorder.room_for`).
        """
        for b, a in zip(blocks, known):
            if a is not None and a is not UNREAD and a.size != prod(b.shape):
                raise InputError(f"known values of the block at node {b.first} have {a.size} elements, not {b.size}")
        if flat:
            self = cls(blocks, flat=_vector_of(blocks, known))
            for array, a in zip(self._arrays, known):
                if a is not None and a is not UNREAD and _address(a) != _address(array):
                    array[:] = np.ravel(a)
        else:
            self = cls(blocks, [np.empty(b.size) if a is None else a if a is UNREAD or _ready(a)
                                else np.ascontiguousarray(a, dtype=np.float64).reshape(-1)
                                for b, a in zip(blocks, known)])
        self.complete = not any(a is UNREAD for a in known)
        return self

    def without_nan(self, items: list[Item]) -> bool:
        """Put a number where values are NaN, for partials to be computed there, and have `read`, `numbers` and `lines`
        give one for constants, which further points want as they are.  Whether there were any, and no rule of a joint
        statement would meet the numbers."""
        if any(np.isnan(self.operand(ref, item.operand_shape(k))).any() for item in items if type(item) is Joint
               for k, ref in enumerate(item.operands)):
            return False
        self._missing = Missing(items)
        found = self._missing.found
        with np.errstate(all="ignore"):
            for array in self._arrays:
                if array is not UNREAD and not np.isfinite(np.add.reduce(array, axis=None)):
                    missing = np.isnan(array)
                    found = found or bool(missing.any())
                    array[missing] = ANY
        return found

    def put_aside(self, lines: dict[int, np.ndarray], without: Values) -> None:
        """Let lines that no result depends on have partials 0, and a number for values that depend on them, which are
        NaN in `without`."""
        self.aside = lines
        for array, other in zip(self._arrays, without._arrays):
            if array is not UNREAD:
                array[np.isnan(other)] = ANY

    def begin(self) -> None:
        """At another point: constants are what they are again, and all lines count."""
        self._missing, self.aside = None, {}

    @property
    def passed_over(self) -> object:
        """What knows which NaN are passed over; another as soon as constants are read otherwise."""
        return self._missing

    def numbers(self, constants: np.ndarray) -> np.ndarray:
        """Constants as partials read them: where NaN are passed over, with a number in their place."""
        return constants if self._missing is None else self._missing.array(constants)

    def share(self, local: LocalTape, fused: bool, kept: list[bool] | None = None) -> None:
        """Let the blocks that no solve reads (or that are not `kept`) live in a pool; the others keep their arrays, or
        get some.

        fused: what one group of statements alone reads needs no memory.
        """
        self._fusion = Fusion(local) if fused else None
        spans = self._fusion.spans if self._fusion is not None else ()
        kept = kept_blocks(local, self.index) if kept is None else kept
        places, size = lodgings(local, kept, self.index, spans)
        pool = memory.empty(size)
        if not self._arrays:
            sizes = [b.size if place == -1 else 0 for b, place in zip(self.blocks, places)]
            *starts, total = itertools.accumulate(map(memory.apart, sizes), initial=0)
            own = memory.empty(total)
            self._arrays = [own[start : start + n] for start, n in zip(starts, sizes)]
        self._arrays = [pool[place : place + b.size] if place >= 0 else UNREAD if place == NOWHERE
                        else np.empty(b.size) if keep and array is UNREAD else array
                        for b, array, place, keep in zip(self.blocks, self._arrays, places, kept)]
        self.complete, self.storage, self._lean = all(place == -1 for place in places), object(), True
        self.program = self.exchanges = self.woven = None

    def calls(self, local: LocalTape, fused: bool) -> list[Call | None]:
        """The calls that compute all items, made once for this memory; None where another item's call does it too."""
        if self.program is None or (fused and self._fusion is None):
            if fused and self._fusion is None:
                self._fusion = Fusion(local)
            grouped = [] if self._fusion is None else self._fusion.programs(
                [None if a is UNREAD else a for a in self._arrays])
            inside = {i for start, stop in self._fusion.spans for i in range(start, stop)} if self._fusion else set()
            self.program = [None if i in inside else bind(item, self) for i, item in enumerate(local.items)]
            for start, program in grouped:
                self.program[start] = tiles.Bound.run, (program,), False
        return self.program

    def crossings(self, local: LocalTape, comm: MPI.Comm) -> list[tuple[Event, Event]]:
        """What starts and what finishes the exchange of every superstep, made once for this memory."""
        if self.exchanges is None:
            self.exchanges = [
                (exchange.starter(comm, [self.spots(ids) for _, ids in exchange.sends]),
                 exchange.finisher(comm, [self.spots(ids) for _, ids in exchange.recvs])) if exchange else (None, None)
                for exchange in (step.exchange for step in local.steps)]
        return self.exchanges

    def weave(self, local: LocalTape, comm: MPI.Comm, fused: bool) -> Passes:
        """All calls of a pass, made once for this memory: messages are waited for where they are needed.

        What follows an exchange of messages that take long begins before its end, where it runs tile by tile (see
        `overlap`).
        """
        if self.woven is None:
            calls = self.calls(local, fused)
            woven, awaited = list[Call | None](), False
            for s, (step, (start, finish)) in enumerate(zip(local.steps, self.crossings(local, comm))):
                first = [call for call in calls[step.start : step.ready] if call is not None]
                parts = self.parts(local, s) if awaited else None
                if parts is not None:
                    first[0] = parts.late.run, (), False
                    woven.insert(len(woven) - 1, (parts.early.run, (), False))
                woven += first
                if start is not None:
                    woven.append((start, (), False))
                woven += calls[step.ready : step.stop]
                awaited = finish is not None and overlap.pays(step.exchange.latency(comm))
                if finish is not None:
                    woven.append((finish, (), False))
            self.woven = Passes([self._call(*call) for call in woven if call is not None])
        return self.woven

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...],
              looks_up: bool) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if function is tiles.Bound.run:  # as a method of the program, which `Passes` can join with others
            return arguments[0].run, ()
        if looks_up:
            here = weakref.ref(self)  # large memory does not wait for a collector
            return (lambda *arguments: function(here(), *arguments)), arguments
        return function, arguments

    def parts(self, local: LocalTape, s: int) -> overlap.Groups | None:
        """Superstep s's first call in two parts, what needs no message before it first; None where it has no such."""
        step, before = local.steps[s], local.steps[s - 1].exchange
        assert self.program is not None
        first = next((call for call in self.program[step.start : step.ready] if call is not None), None)
        if first is None or first[0] is not tiles.Bound.run:
            return None
        arriving = []  # bytes that messages write
        for _, array, places in (spot for _, ids in before.recvs for spot in self.spots(ids)):
            begin, size = array.__array_interface__["data"][0], array.itemsize
            arriving += [(begin + low * size, begin + high * size) for low, high in overlap.intervals(places)]
        return overlap.groups(first[1][0], arriving)

    @property
    def flat(self) -> np.ndarray:
        """All values as one contiguous vector; separate arrays are copied into one at the first call."""
        if self._flat is None:
            if self._lean and not self.complete:
                raise RuntimeError("not all values were kept: evaluate with complete=True to have them in one vector")
            flat = np.concatenate([np.empty(0), *(np.empty(b.size) if a is UNREAD else a
                                                  for b, a in zip(self.blocks, self._arrays))])
            self._arrays = [flat[b.first : b.first + b.size] for b in self.blocks]
            self._flat, self.storage, self.program, self.exchanges, self.woven = flat, object(), None, None, None
        return self._flat

    @property
    def nbytes(self) -> int:
        """Bytes in use: shared memory counts once."""
        if self._flat is not None:
            return self._flat.nbytes
        total = sum(lines.a.nbytes + lines.b.nbytes + lines.ids.nbytes for lines in self._lines.values())
        end = 0
        for start, n in sorted((a.__array_interface__["data"][0], a.nbytes) for a in self._arrays if a.nbytes):
            total += max(start + n - max(start, end), 0)
            end = max(end, start + n)
        return total

    @property
    def is_flat(self) -> bool:
        return self._flat is not None

    @property
    def is_lean(self) -> bool:
        return self._lean

    @property
    def is_fused(self) -> bool:
        return self._fusion is not None

    @property
    def reusable(self) -> bool:
        """Whether another point's values may be written over these: writeable memory that no two blocks share."""
        if self._flat is not None or self._lean:
            return True
        stretches = sorted((a.__array_interface__["data"][0], a.nbytes) for a in self._arrays if a.nbytes)
        return all(a.flags.writeable for a in self._arrays) and all(
            start + n <= after for (start, n), (after, _) in zip(stretches, stretches[1:]))

    def block(self, i: int) -> np.ndarray:
        """The values of block i, shape (size,)."""
        return self._arrays[i]

    def view(self, ref: Affine, shape: tuple[int, ...]) -> np.ndarray:
        """A view of `ref` over `shape`, with length 1 along its stride-0 axes (see `strided`)."""
        return core_view(self._arrays[ref.block], ref.offset, shape, ref.strides)

    def operand(self, ref: Operand, shape: tuple[int, ...]) -> float | np.ndarray:
        """An operand's values, broadcastable to `shape`; a copy only for `Indexed`."""
        if type(ref) is Affine:
            return core_view(self._arrays[ref.block], ref.offset, shape, ref.strides)
        if type(ref) is Const:
            return core_array(ref.value) if isinstance(ref.value, np.ndarray) else ref.value
        return self.gather(ref.ids)

    def read(self, ref: Operand, shape: tuple[int, ...]) -> float | np.ndarray:
        """`operand`, for a partial to be computed from: without NaN that are passed over."""
        if self._missing is not None and type(ref) is Const:
            return self._missing.value(ref.value)
        return self.operand(ref, shape)

    def gather(self, ids: np.ndarray) -> np.ndarray:
        """Values of explicit nodes, shape of `ids`."""
        if self._flat is not None:
            return self._flat[ids]
        out = np.empty(ids.shape)
        for block, where, local in self.index.pieces(np.ravel(ids)):
            out.reshape(-1)[where] = self._arrays[block][local]
        return out

    def at(self, node: int) -> np.float64:
        """The value of one node."""
        if self._flat is not None:
            return self._flat[node]
        firsts = self.index.firsts_of_full
        k = bisect_right(firsts, node) - 1
        return self._arrays[self.index.full[k]][node - firsts[k]]

    def compute_few(self, item: ScalarRun) -> None:
        """The values of a run of few lines, once: for a pass that is not repeated nothing is kept to find operands by.
        """
        y, first, const = self._arrays[item.block], self.blocks[item.block].first, item.const
        for i, (code, *ids) in enumerate(zip(item.op.tolist(), item.a.tolist(), item.b.tolist())):
            op = OPS[code]
            y[i] = op.value(*[y[j - first] if j >= first else self.at(j) if j >= 0 else np.float64(const[-1 - j])
                              for j in ids[:op.arity]])

    def run(self, item: ScalarRun) -> tuple[ScalarRun | Lines, int, np.ndarray]:
        """(run, first, y): a scalar run, the place of its first line in the vector y, and y with all it reads.

        y is `flat` if there is one, else a copy of the few values that matter (values of its own lines included).
        """
        first = self.blocks[item.block].first
        if self._flat is not None:
            return item, first, self._flat
        lines = self._lines.get(item.block)
        if lines is None:
            lines = self._lines[item.block] = Lines.of(item, first)
        return lines, len(lines.ids), np.concatenate([self.gather(lines.ids), self._arrays[item.block]])

    def lines(self, item: ScalarRun) -> tuple[ScalarRun | Lines, int, np.ndarray]:
        """`run`, for partials to be computed from: without NaN that are passed over."""
        run, first, y = self.run(item)
        const = self.numbers(item.const)
        if const is item.const:
            return run, first, y
        return run._replace(const=const) if type(run) is Lines else replace(run, const=const), first, y

    def spots(self, ids: np.ndarray) -> list[Spot]:
        """Where explicit nodes lie: (places in `ids`, array, places in the array)."""
        if self._flat is not None:
            return [(where, self._flat, places) for where, places in progressions(ids)]
        found: list[Spot] = []
        for block, where, local in self.index.pieces(ids):
            if isinstance(where, slice) and not isinstance(local, slice):
                found += [(slice(where.start + part.start, where.start + part.stop), self._arrays[block], places)
                          for part, places in progressions(local)]
            else:
                found.append((where, self._arrays[block], local))
        return found

    def scatter(self, ids: np.ndarray, values: np.ndarray) -> None:
        """Set the values of explicit nodes."""
        for block, where, local in self.index.pieces(ids):
            self._arrays[block][local] = values[where]


class Point:
    """A LocalTape and the values of its nodes."""

    def __init__(self, local: LocalTape, values: Values) -> None:
        self.local, self.values = local, values

    def outputs(self) -> np.ndarray:
        """Values at local.outputs, shape (n,)."""
        return self.values.gather(self.local.outputs.ids)

    def completed(self, comm: MPI.Comm) -> Point:
        """The same point with all values, those too that no solve reads.  Collective."""
        if comm.allreduce(int(self.values.complete), op=MPI.MIN):
            return self
        return evaluate(self.local, self.values.gather(self.local.inputs.ids), comm, complete=True)

    def broken_guards(self) -> list[Guard]:
        """The guards whose nodes have other values than when traced (this rank's; agree over the ranks)."""
        broken = []
        for guard in self.local.guards:
            shape = np.shape(guard.expected)
            now = np.broadcast_to(self.values.operand(guard.ref, shape), shape)
            if not np.array_equal(now, guard.expected) and not (
                    now.dtype.kind == "f" == guard.expected.dtype.kind and np.array_equal(now, guard.expected, True)):
                broken.append(guard)
        return broken


def needs_flat(local: LocalTape) -> bool:
    """Whether values had better be one vector: most are scalar code's, whose operands reach across blocks."""
    return 4 * sum(len(item.op) for item in local.items if type(item) is ScalarRun) > local.n_nodes


def evaluate(local: LocalTape, x_local: np.ndarray, comm: MPI.Comm, values: Values | None = None,
             known: list[np.ndarray | None] | None = None, complete: bool = False,
             instead: Mapping[int, tuple[Any, Any]] | None = None) -> Point:
    """Run the tape forward at a point.  Collective on `comm`.

    x_local: values of the inputs this rank owns, in the order of `local.inputs.ids`.
    values: storage of an earlier point, reused: its contents are overwritten.
    known: values that the tracer has already, one array a local block, handed over for good (the next point overwrites
    them); None where it has none; `tape.UNREAD` where nothing reads the values, so that they are not computed. What is
    known is not computed again and, for array code, not copied.
    complete: keep all values, not only those that solves read.
    instead: by item, (where, number): what a statement's results are there, whatever it computes; if `complete`.
    """
    if x_local.shape != local.inputs.ids.shape:
        raise InputError(f"this rank owns {len(local.inputs.ids)} inputs, the point has shape {x_local.shape}")
    if known is not None:
        values = Values.of_known(local.blocks, known, flat=needs_flat(local))
        todo = {i for i, array in enumerate(known) if array is None}
    else:
        fused = instead is None and tiles.worth(local.n_nodes, len(local.items))
        if values is None or not values.reusable or (complete and not values.complete):
            values = Values(local.blocks) if complete or needs_flat(local) else Values.lean(local, fused)
        elif values.is_flat:
            values.complete = True  # from now on: all of them are computed
        elif not complete and (not values.is_lean or (fused and not values.is_fused)):
            values.share(local, fused)
        todo = None
        values.scatter(local.inputs.ids, x_local)
    watch, last = watch_of(comm), len(local.steps) - 1
    woven = None
    if todo is None and watch is None and last > 0 and instead is None:
        woven = values.weave(local, comm, fused)
    elif todo is None:
        calls = values.calls(local, fused)
        for i, (where, number) in (instead or {}).items():
            calls[i] = _replacing, (calls[i], local.items[i], where, number), True
    else:
        calls = [None if _block(item) not in todo else
                 (Values.compute_few, (item,), True) if type(item) is ScalarRun and len(item.op) <= FEW_LINES else
                 bind(item, values) for item in local.items]
    values.failure.forget()
    values.begin()
    with np.errstate(all="ignore"):  # what is not finite is reported with file and line, not as a NumPy warning
        if woven is not None:
            woven(idle, not as_ever())
        for s, (step, (start, finish)) in enumerate(zip(local.steps, values.crossings(local, comm)) if woven is None
                                                    else ()):
            _execute(values, calls[step.start : step.ready], watch)
            if start is not None:
                start()
            _execute(values, calls[step.ready : step.stop], watch)
            if finish is not None:
                finish()
            if watch is not None:
                watch.look(s == last)
    if local.joint:
        values.failure.agree(comm, local.sites)
    return Point(local, values)


@contextmanager
def at_the_trace(local: LocalTape, here: bool) -> Iterator[None]:
    """While the trace's own point is evaluated (`here`): equations start from what they were solved by there."""
    solved = [item.op for item in local.items if type(item) is Joint and item.op.implicit] if local.joint else []
    for op in solved if here else ():
        op.resume()
    try:
        yield
    finally:
        for op in solved:
            op.forget()


def evaluate_items(blocks: list[Block], items: list[Item], arrays: list[Any]) -> None:
    """Compute the items' values into the arrays of their blocks, one a block; nobody wants those of `UNREAD` ones.

    What the items read is computed by earlier ones or lies in the arrays.
    """
    empty = np.empty(0, dtype=np.int64)
    nothing = Portion(empty, empty)
    local = LocalTape(blocks, items, [Step(0, len(items), len(items), Exchange())], nothing, nothing)
    values = Values(blocks, arrays)
    fused = tiles.worth(sum(blocks[b].size for b in {_block(item) for item in items}), len(items))
    values.share(local, fused, [array is not UNREAD for array in arrays])
    with np.errstate(all="ignore"):
        _execute(values, values.calls(local, fused))
    values.failure.agree(MPI.COMM_SELF, [])


def _length(blocks: list[Block]) -> int:
    return blocks[-1].first + blocks[-1].size if blocks else 0


def _address(a: np.ndarray) -> int:
    return int(a.__array_interface__["data"][0])


def _vector_of(blocks: list[Block], known: list[np.ndarray | None]) -> np.ndarray | None:
    """The vector in which known values lie already, every block from its first node on; None where there is none, or
    blocks have moved since."""
    found: memory.Room | None = None
    for b, a in zip(blocks, known):
        room = None if a is None or a is UNREAD else memory.Room.around(a)
        if room is None:
            continue
        if (found is not None and found is not room) or _address(a) != _address(room) + 8 * b.first:
            return None
        found = room
    return None if found is None else found.vector(_length(blocks))


def _ready(a: np.ndarray) -> bool:
    """Whether an array is what the values of a block are held in."""
    return type(a) is np.ndarray and a.ndim == 1 and a.dtype.char == "d" and a.flags.c_contiguous


def _replacing(values: Values, call: Call, item: Statement, where: Any, number: Any) -> None:
    _execute(values, [call])
    values.view(item.out, item.out_shape)[where] = number


def _block(item: Item) -> int:
    return item.block if type(item) is ScalarRun else item.out.block


def _execute(values: Values, calls: list[Call | None], watch: Watch | None = None) -> None:
    for call in calls:
        if call is not None:
            if watch is not None and watch.given_up():
                return
            function, arguments, looks_up = call
            if looks_up:
                function(values, *arguments)
            else:
                function(*arguments)
