"""Tapes in files: `save_tape` and `load_tape`.

A file is a zip archive of flat arrays (`archive`; np.load opens it too), version 1:

    header      |u1  JSON: "format" "distdiff tape", "version", "written_by", "ops" and "items" (names of the operations
                     and kinds of items that the file uses, by which numbers in it go), "elementals" (of joint
                     statements: [name, parameters], see `elementals`), "sites" [file, line, function],
                     "in_tree" and "out_tree" (`trees`), "names" of the arguments or null, "point": true or false
    structure   <i8  blocks, items, guards and outputs, one after another as below
    ids         <i8  the node ids of all `Indexed` references; ids_sizes <i8 their lengths
    numbers     <f8  constants that are one number
    constants   <f8  constants that are arrays, each once however often it is used; constants_sizes <i8 their lengths
    decisions   |u1  what guards expect where it is true or false;  expected <f8  where it is a number
    run_op      |u1  operations of all scalar runs, numbers into "ops"; run_const <f8 their constants
    run_a run_b <i4  operands of the runs with 32-bit ids; wide_a wide_b <i8 of the others
    point       <f8  the point that was saved with the tape, its leaves one after another (empty: none)

Structure, all integers; shape = (ndim, lengths...), strides without their number, which is the shape's:

    blocks      n, then for each: shape.  The first are the inputs, as many as in_tree has leaves.
    items       n, then for each its kind (number into "items"), and
                statement:   op, site, shape, out block, out offset, out strides, number of operands, operands
                joint:       number into "elementals", site, loop shape, out block, out offset, out strides (loop
                             axes and one over the results), operands (as many as the elemental has, each over the loop
                             axes and its core)
                scalar run:  block, lines, constants, 0 or 1 (wide)
    guards      n, then for each: site, shape, reference (an operand that is no constant), 0 (decisions) or 1 (expected)
    outputs     n, then for each: shape, operand
    operand     0 block offset strides | 1 number into ids | 2 (next of numbers) | 3 number into constants, then its
                lengths over the shape (each the shape's, or 1)

Blocks' first nodes follow from their sizes.  Operations and kinds go by name, so tables may grow and be reordered; a
name that is not known is an error.  Nothing is ever unpickled or imported.  What is read is a tape whose every
reference is in range (`check`) before anybody runs it.

An item of another kind needs an entry in `_ITEMS` (how it is written and read) and in `check`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from math import prod
from typing import Any

import numpy as np

from .. import __version__
from ..errors import FormatError, InputError
from ..ops import BY_NAME, OPS, Op
from ..strided import core_array
from ..tape import (
    Affine,
    Block,
    Const,
    Guard,
    Indexed,
    Item,
    Joint,
    Leaf,
    Operand,
    ScalarRun,
    Site,
    Statement,
    Tape,
    c_strides,
)
from . import elementals
from .archive import Reader, Writer, replacing, require_place
from .check import MOST_LINES, check, too_large
from .trees import from_json, to_json

FORMAT, VERSION = "distdiff tape", 1
AFFINE, INDEXED, NUMBER, ARRAY = range(4)


def save_tape(tape: Tape, path: str | os.PathLike[str], point: list[np.ndarray] | None = None,
              names: tuple[str, ...] | None = None) -> None:
    """Write a tape, under a temporary name that is renamed at the end.  point: the leaves of the arguments."""
    out = _Pools()
    structure = out.structure
    structure.append(len(tape.blocks))
    for block in tape.blocks:
        out.shape(block.shape)
    structure.append(len(tape.items))
    for item in tape.items:
        kind = next((name for name, (cls, _, _) in _ITEMS.items() if type(item) is cls), None)
        if kind is None:
            raise InputError(f"a tape with an item of type {type(item).__name__} can't be saved: it has no rule that "
                             "goes by name and parameters, so a file could not say what it computes")
        structure.append(out.kinds.setdefault(kind, len(out.kinds)))
        _ITEMS[kind][1](out, item)
    structure.append(len(tape.guards))
    for guard in tape.guards:
        structure.append(guard.site)
        out.shape(guard.expected.shape)
        out.operand(guard.ref, guard.expected.shape)
        structure.append(int(guard.expected.dtype != bool))
        (out.decisions if guard.expected.dtype == bool else out.expected).append(guard.expected)
    structure.append(len(tape.outputs))
    for leaf in tape.outputs:
        out.shape(leaf.shape)
        out.operand(leaf.ref, leaf.shape)
    header = {"format": FORMAT, "version": VERSION, "written_by": __version__, "ops": list(out.ops),
              "elementals": [json.loads(text) for text in out.elementals], "items": list(out.kinds),
              "sites": [list(site) for site in tape.sites], "in_tree": to_json(tape.in_tree),
              "out_tree": to_json(tape.out_tree), "names": names, "point": point is not None}
    code = np.zeros(256, dtype=np.uint8)
    for name, number in out.ops.items():
        if BY_NAME[name].code < len(code):  # ops of scalar lines
            code[BY_NAME[name].code] = number
    wide = [run for run in out.runs if run.a.itemsize == 8]
    narrow = [run for run in out.runs if run.a.itemsize != 8]
    with replacing(path) as stream, Writer(stream) as writer:
        text = json.dumps(header, allow_nan=False).encode()
        writer.add("header", "|u1", [np.frombuffer(text, dtype=np.uint8)])
        writer.add("structure", "<i8", [np.array(structure, dtype=np.int64)])
        for name, kind, pool in (("ids", "<i8", out.ids), ("constants", "<f8", out.constants)):
            writer.add(f"{name}_sizes", "<i8", [np.array([a.size for a in pool.arrays], dtype=np.int64)])
            writer.add(name, kind, pool.arrays)
        writer.add("numbers", "<f8", [np.array(out.numbers, dtype=np.float64)])
        writer.add("decisions", "|u1", out.decisions)
        writer.add("expected", "<f8", out.expected)
        writer.add("run_op", "|u1", [run.op if (code[run.op] == run.op).all() else code[run.op] for run in out.runs])
        writer.add("run_const", "<f8", [run.const for run in out.runs])
        for name, kind, runs in (("run", "<i4", narrow), ("wide", "<i8", wide)):
            writer.add(f"{name}_a", kind, [run.a for run in runs])
            writer.add(f"{name}_b", kind, [run.b for run in runs])
        writer.add("point", "<f8", point or [])


def load_tape(path: str | os.PathLike[str], most_lines: int = MOST_LINES,
              ) -> tuple[Tape, list[np.ndarray] | None, tuple[str, ...] | None]:
    """(tape, the leaves of the point saved with it or None, names of the arguments or None).

    Raises `FormatError` for a file that is no tape, damaged, newer than this version, made to mislead, or that stands
    for more than `most_lines` lines.
    """
    reader = Reader(path)
    try:
        with reader.reading():
            return _load(reader, most_lines)
    except FormatError as error:
        raise (error if reader.path in str(error) else reader.error(str(error))) from error.__cause__
    finally:
        reader.close()


def _load(reader: Reader, most: int) -> tuple[Tape, list[np.ndarray] | None, tuple[str, ...] | None]:
    header = json.loads(reader.array("header", "|u1").tobytes())
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FormatError("its header is not that of a tape")
    if header.get("version") != VERSION:
        raise FormatError(f"its format is version {header.get('version')!r}, and this distdiff ({__version__}) reads "
                          f"version {VERSION}; it was written by distdiff {header.get('written_by')!r}")
    source = _Source(reader, header, most)
    tape = Tape(sites=[_site(site) for site in _list(header, "sites")], in_tree=from_json(header.get("in_tree")),
                out_tree=from_json(header.get("out_tree")))
    for _ in range(source.count()):
        shape = source.shape()
        tape.blocks.append(Block(source.nodes, shape))
        source.nodes += prod(shape)
        source.limit(source.nodes)
    n_inputs = tape.in_tree.n_leaves
    if tape.in_tree.kind != "tuple" or not 0 < n_inputs <= len(tape.blocks):
        raise FormatError("its arguments do not fit its blocks")
    tape.inputs = [Leaf(block.shape, Affine(k, 0, c_strides(block.shape)))
                   for k, block in enumerate(tape.blocks[:n_inputs])]
    for _ in range(source.count()):
        kind = source.kinds[source.below(len(source.kinds))]
        tape.items.append(_ITEMS[kind][2](source))
    for _ in range(source.count()):
        site, shape = source.take(), source.shape()
        ref = source.operand(shape)
        if type(ref) is Const:
            raise FormatError("a guard looks at a constant")
        tape.guards.append(Guard(ref, source.expectation(shape), site))
    for _ in range(source.count()):
        shape = source.shape()
        tape.outputs.append(Leaf(shape, source.operand(shape)))
    source.end()
    if tape.out_tree.n_leaves != len(tape.outputs) or not tape.outputs:
        raise FormatError("its results do not fit their nesting")
    check(tape, most)
    names = header.get("names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)
                                  and len(set(names)) == len(names) == len(tape.in_tree.children)):
        raise FormatError("its arguments' names do not fit its arguments")
    with reader.open("point", "<f8") as member:
        point = [member.take(prod(leaf.shape)).reshape(leaf.shape) for leaf in tape.inputs] if header.get(
            "point") is True else None
    return tape, point, names and tuple(names)


class _Pool:
    """Arrays, each once however often it is used: told apart by where they lie in memory."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self._known: dict[Any, int] = {}

    def add(self, array: np.ndarray) -> int:
        key = array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.char
        number = self._known.setdefault(key, len(self.arrays))
        if number == len(self.arrays):
            self.arrays.append(array)  # held, so that the place is not taken by another
        return number


class _Pools:
    """Everything a file holds, while it is put together."""

    def __init__(self) -> None:
        self.structure: list[int] = []
        self.ids, self.constants, self.numbers = _Pool(), _Pool(), []  # type: ignore[var-annotated]
        self.decisions: list[np.ndarray] = []
        self.expected: list[np.ndarray] = []
        self.runs: list[ScalarRun] = []
        self.ops: dict[str, int] = {}
        self.elementals: dict[str, int] = {}  # their JSON
        self.kinds: dict[str, int] = {}

    def op(self, op: Op) -> int:
        return self.ops.setdefault(op.name, len(self.ops))

    def shape(self, shape: tuple[int, ...]) -> None:
        self.structure += (len(shape), *shape)

    def operand(self, ref: Operand, shape: tuple[int, ...]) -> None:
        if type(ref) is Affine:
            self.structure += (AFFINE, ref.block, ref.offset, *ref.strides)
        elif type(ref) is Indexed:
            self.structure += (INDEXED, self.ids.add(ref.ids))
        elif type(ref) is Const and not isinstance(ref.value, np.ndarray):
            self.structure.append(NUMBER)
            self.numbers.append(float(ref.value))
        elif type(ref) is Const:
            core = core_array(np.broadcast_to(ref.value, shape))
            self.structure += (ARRAY, self.constants.add(core), *core.shape)
        else:
            raise InputError(f"an operand of type {type(ref).__name__} can't be saved")


class _Source:
    """What a file holds, while it is taken apart."""

    def __init__(self, reader: Reader, header: dict[str, Any], most: int) -> None:
        self.most, self.nodes = most, 0
        self._reader = reader
        self._structure = reader.array("structure", "<i8").tolist()
        self._at = 0
        self.kinds, self.ops = _list(header, "items"), []
        for kind in self.kinds:
            if kind not in _ITEMS:
                raise FormatError(f"it holds items of a kind {kind!r}, which distdiff {__version__} does not know")
        for name in _list(header, "ops"):
            if not isinstance(name, str) or name not in BY_NAME:
                raise FormatError(f"it uses an operation {name!r}, which distdiff {__version__} does not know")
            self.ops.append(BY_NAME[name])
        self.elementals = [elementals.from_json(data, most) for data in _list(header, "elementals")]
        self.code = np.array([op.code for op in self.ops], dtype=np.int64)
        self._ids = self._pool("ids", "<i8")
        self._constants = self._pool("constants", "<f8")
        self._numbers = iter(reader.array("numbers", "<f8").tolist())
        self._decisions, self._expected = reader.array("decisions", "|u1"), reader.array("expected", "<f8")
        self.runs = _Runs(reader)

    def _pool(self, name: str, kind: str) -> list[np.ndarray]:
        sizes = self._reader.array(f"{name}_sizes", "<i8").tolist()
        with self._reader.open(name, kind) as member:
            return [member.take(n) for n in sizes]

    def take(self) -> int:
        if self._at >= len(self._structure):
            raise FormatError("its structure ends early")
        self._at += 1
        return self._structure[self._at - 1]

    def below(self, n: int) -> int:
        value = self.take()
        if not 0 <= value < n:
            raise FormatError(f"its structure holds {value} where a number below {n} is wanted")
        return value

    def count(self) -> int:
        """A number of things that come next, each of which takes a number at least."""
        return self.below(len(self._structure) - self._at + 1)

    def several(self, n: int) -> tuple[int, ...]:
        start, self._at = self._at, self._at + n
        if self._at > len(self._structure):
            raise FormatError("its structure ends early")
        return tuple(self._structure[start : self._at])

    def shape(self) -> tuple[int, ...]:
        shape = self.several(self.below(33))
        if any(n < 0 for n in shape):
            raise FormatError(f"it has a shape {shape}")
        self.limit(prod(n for n in shape if n))
        return shape

    def limit(self, lines: int) -> None:
        if lines > self.most:
            raise FormatError(too_large(self.most))

    def operand(self, shape: tuple[int, ...]) -> Operand:
        kind = self.below(4)
        if kind == AFFINE:
            return Affine(self.take(), self.take(), self.several(len(shape)))
        if kind == INDEXED:
            return Indexed(self._fitting(self._ids[self.below(len(self._ids))], shape))
        if kind == NUMBER:
            value = next(self._numbers, None)
            if value is None:
                raise FormatError("it holds too few numbers")
            return Const(value)
        values = self._constants[self.below(len(self._constants))]
        core = self.several(len(shape))
        if any(c not in (1, n) for c, n in zip(core, shape)):
            raise FormatError(f"a constant of shape {core} stands where one of shape {shape} is wanted")
        return Const(np.broadcast_to(self._fitting(values, core), shape))

    def expectation(self, shape: tuple[int, ...]) -> np.ndarray:
        """What a guard expects, the next in its pool."""
        n, wide = prod(shape), self.below(2)
        pool = self._expected if wide else self._decisions
        if n > len(pool):
            raise FormatError("it holds too few of what its guards expect")
        values, rest = pool[:n].reshape(shape), pool[n:]
        if wide:
            self._expected = rest
            return values
        self._decisions = rest
        if values.size and values.max() > 1:
            raise FormatError("a decision is neither true nor false")
        return values.view(bool)

    @staticmethod
    def _fitting(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if values.size != prod(shape):
            raise FormatError(f"{values.size} elements stand where an array of shape {shape} is wanted")
        return values.reshape(shape)

    def end(self) -> None:
        if self._at != len(self._structure) or len(self._decisions) or len(self._expected) or next(
                self._numbers, None) is not None:
            raise FormatError("it holds more than its structure uses")
        self.runs.end()


class _Runs:
    """The streams that scalar runs come in, all open at a time: no run is held twice."""

    def __init__(self, reader: Reader) -> None:
        self._stack = ExitStack()
        self._members = {name: self._stack.enter_context(reader.open(name, kind)) for name, kind in (
            ("run_op", "|u1"), ("run_const", "<f8"), ("run_a", "<i4"), ("run_b", "<i4"), ("wide_a", "<i8"),
            ("wide_b", "<i8"))}

    def take(self, lines: int, constants: int, wide: int) -> tuple[np.ndarray, ...]:
        """op, a, b, const of the next run."""
        m, name = self._members, "wide" if wide else "run"
        return (m["run_op"].take(lines), m[f"{name}_a"].take(lines), m[f"{name}_b"].take(lines),
                m["run_const"].take(constants))

    def end(self) -> None:
        self._stack.close()


def _put_statement(out: _Pools, item: Statement) -> None:
    out.structure += (out.op(item.op), item.site)
    out.shape(item.shape)
    out.structure += (item.out.block, item.out.offset, *item.out.strides, len(item.operands))
    for ref in item.operands:
        out.operand(ref, item.shape)


def _get_statement(source: _Source) -> Statement:
    op, site, shape = source.ops[source.below(len(source.ops))], source.take(), source.shape()
    out = Affine(source.take(), source.take(), source.several(len(shape)))
    return Statement(op, shape, out, tuple(source.operand(shape) for _ in range(source.below(8))), site)


def _put_run(out: _Pools, item: ScalarRun) -> None:
    out.runs.append(item)
    for code in np.flatnonzero(np.bincount(item.op)).tolist():
        out.op(OPS[code])
    out.structure += (item.block, item.lines, len(item.const), int(item.a.itemsize == 8))


def _get_run(source: _Source) -> ScalarRun:
    block, lines, constants, wide = source.take(), source.take(), source.take(), source.below(2)
    op, a, b, const = source.runs.take(lines, constants, wide)
    if op.size and (op.max() >= len(source.code) or source.code[op].max() > 255):
        raise FormatError("a scalar line has an operation that it can't have")
    return ScalarRun(block, source.code[op].astype(np.uint8), a, b, const)


def _put_joint(out: _Pools, item: Joint) -> None:
    text = json.dumps(elementals.to_json(item.op), allow_nan=False)
    out.structure += (out.elementals.setdefault(text, len(out.elementals)), item.site)
    out.shape(item.shape)
    out.structure += (item.out.block, item.out.offset, *item.out.strides)
    for k, ref in enumerate(item.operands):
        out.operand(ref, item.operand_shape(k))


def _get_joint(source: _Source) -> Joint:
    op, site, shape = source.elementals[source.below(len(source.elementals))], source.take(), source.shape()
    out = Affine(source.take(), source.take(), source.several(len(shape) + 1))
    shapes = [(*shape, *core) for core in op.core_in]
    for whole in (*shapes, (*shape, op.size)):
        source.limit(prod(n for n in whole if n))
        if len(whole) > 32:
            raise FormatError(f"an operand of a joint statement has {len(whole)} axes")
    return Joint(op, shape, out, tuple(map(source.operand, shapes)), site)


_ITEMS: dict[str, tuple[type[Item], Callable[[_Pools, Any], None], Callable[[_Source], Item]]] = {
    "statement": (Statement, _put_statement, _get_statement),
    "joint": (Joint, _put_joint, _get_joint),
    "scalar run": (ScalarRun, _put_run, _get_run),
}


def _site(data: Any) -> Site:
    if isinstance(data, list) and [type(part) for part in data] == [str, int, str]:
        return Site(*data)
    raise FormatError("a place in the code is none")


def _list(header: dict[str, Any], name: str) -> list[Any]:
    value = header.get(name)
    if not isinstance(value, list):
        raise FormatError(f"its header has no list {name!r}")
    return value


__all__ = ["MOST_LINES", "load_tape", "replacing", "require_place", "save_tape"]
