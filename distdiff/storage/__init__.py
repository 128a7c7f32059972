"""Tapes in files: `save_tape` and `load_tape`.

A file is a zip archive of flat arrays (`archive`; np.load opens it too), version 3:

    header      |u1  JSON: "format" "distdiff tape", "version", "written_by", "ops" and "items" (names of the operations
                     and kinds of items that the file uses, by which numbers in it go), "elementals" (of joint
                     statements: [name, parameters], see `elementals`), "sites" [file, line, function],
                     "in_tree" and "out_tree" (`trees`), "names" of the arguments or null, "point": true or false;
                     "tapes": for each inner tape, an equation that a statement solves, its sites; "rules": those of
                     users' that elementals call, [kind, module, name, what it takes] (`rules`)
    structure   <i8  the inner tapes, then blocks, items, guards and outputs, one after another as below
    ids         <i8  the node ids of all `Indexed` references; ids_sizes <i8 their lengths
    numbers     <f8  constants that are one number
    constants   <f8  constants that are arrays, each once however often it is used; constants_sizes <i8 their lengths
    decisions   |u1  what guards expect where it is true or false;  expected <f8  where it is a number
    run_op      |u1  operations of all scalar runs, numbers into "ops"; run_const <f8 their constants
    run_a run_b <i4  operands of the runs with 32-bit ids; wide_a wide_b <i8 of the others
    point       <f8  the point that was saved with the tape, its leaves one after another (empty: none)

Structure, all integers; shape = (ndim, lengths...), strides without their number, which is the shape's:

    inner tapes for each: number of inputs, blocks, items, outputs.  One that another's elementals have among their
                parameters ({"tape": number}) comes before it.
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

Version 2 has no rules, and no "rules" in its header, version 1 no inner tapes either, and no "tapes"; they are what is
written where there are none, so that distdiff's that know no other read it.

An item of another kind needs an entry in `_ITEMS` (how it is written and read) and in `check`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import __version__
from ..errors import FormatError, InputError
from ..ops import BY_NAME, OPS
from ..tape import (
    Affine,
    Block,
    Const,
    Guard,
    Item,
    Joint,
    Leaf,
    ScalarRun,
    Site,
    Statement,
    Tape,
    c_strides,
)
from . import elementals
from .archive import Reader, Writer, replacing, require_place
from .check import MOST_LINES, check
from .pools import Pools, Source, listed
from .rules import Find, among, bound, called
from .trees import from_json, to_json

FORMAT, VERSION = "distdiff tape", 3
DEPTH = 16  # equations within equations: every one that is solved solves those in it at every step


def save_tape(tape: Tape, path: str | os.PathLike[str], point: list[np.ndarray] | None = None,
              names: tuple[str, ...] | None = None) -> None:
    """Write a tape, under a temporary name that is renamed at the end.  point: the leaves of the arguments."""
    out = Pools()
    structure = out.structure
    _put_inner(out, tape, ())
    _put_lines(out, tape)
    structure.append(len(tape.guards))
    for guard in tape.guards:
        structure.append(guard.site)
        out.shape(guard.expected.shape)
        out.operand(guard.ref, guard.expected.shape)
        structure.append(int(guard.expected.dtype != bool))
        (out.decisions if guard.expected.dtype == bool else out.expected).append(guard.expected)
    _put_outputs(out, tape)
    header = {"format": FORMAT, "version": 1, "written_by": __version__, "ops": list(out.ops),
              "elementals": [json.loads(text) for text in out.elementals], "items": list(out.kinds),
              "sites": _sites(tape), "in_tree": to_json(tape.in_tree),
              "out_tree": to_json(tape.out_tree), "names": names, "point": point is not None}
    if out.tapes or out.rules:
        header |= {"version": 2, "tapes": list(map(_sites, out.tapes))}
    if out.rules:
        header |= {"version": 3, "rules": list(map(called, out.rules))}
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


def load_tape(path: str | os.PathLike[str], most_lines: int = MOST_LINES, find: Find | None = None,
              ) -> tuple[Tape, list[np.ndarray] | None, tuple[str, ...] | None]:
    """(tape, the leaves of the point saved with it or None, names of the arguments or None).

    find: finds users' rules that the tape calls (`rules`).  Raises `RuleError` where it does not; `FormatError` for a
    file that is no tape, damaged, newer than this version, made to mislead, or that stands for more than `most_lines`
    lines.
    """
    reader = Reader(path)
    try:
        with reader.reading():
            return _load(reader, most_lines, find or among(()))
    except FormatError as error:
        raise (error if reader.path in str(error) else reader.error(str(error))) from error.__cause__
    finally:
        reader.close()


def _load(reader: Reader, most: int, find: Find) -> tuple[Tape, list[np.ndarray] | None, tuple[str, ...] | None]:
    header = json.loads(reader.array("header", "|u1").tobytes())
    try:
        json.dumps(header, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # halves of characters, which nobody could be told of
        raise FormatError("its header holds text that is none") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FormatError("its header is not that of a tape")
    if type(header.get("version")) is not int or not 0 < header["version"] <= VERSION:
        raise FormatError(f"its format is version {header.get('version')!r}, and this distdiff ({__version__}) reads "
                          f"versions up to {VERSION}; it was written by distdiff {header.get('written_by')!r}")
    source = Source(reader, header, most, _ITEMS,
                    bound(listed(header, "rules") if header["version"] > 2 else [], find))
    for sites in listed(header, "tapes") if header["version"] > 1 else ():
        source.inner.append(_get_inner(source, sites))
    tape = Tape(sites=_places(header.get("sites")), in_tree=from_json(header.get("in_tree")),
                out_tree=from_json(header.get("out_tree")))
    if tape.in_tree.kind != "tuple":
        raise FormatError("its arguments are no tuple")
    _get_lines(source, tape, tape.in_tree.n_leaves)
    for _ in range(source.count()):
        site, shape = source.take(), source.shape()
        ref = source.operand(shape)
        if type(ref) is Const:
            raise FormatError("a guard looks at a constant")
        tape.guards.append(Guard(ref, source.expectation(shape), site))
    _get_outputs(source, tape)
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


def _put_lines(out: Pools, tape: Tape) -> None:
    """A tape's blocks and items."""
    out.structure.append(len(tape.blocks))
    for block in tape.blocks:
        out.shape(block.shape)
    out.structure.append(len(tape.items))
    for item in tape.items:
        kind = next((name for name, (cls, _, _) in _ITEMS.items() if type(item) is cls), None)
        if kind is None:
            raise InputError(f"a tape with an item of type {type(item).__name__} can't be saved: it has no rule that "
                             "goes by name and parameters, so a file could not say what it computes")
        out.structure.append(out.kinds.setdefault(kind, len(out.kinds)))
        _ITEMS[kind][1](out, item)


def _get_lines(source: Source, tape: Tape, n_inputs: int) -> None:
    nodes = 0
    for _ in range(source.count()):
        shape = source.shape()
        tape.blocks.append(Block(nodes, shape))
        nodes += prod(shape)
        source.limit(nodes)
    if not 0 < n_inputs <= len(tape.blocks):
        raise FormatError("its arguments do not fit its blocks")
    tape.inputs = [Leaf(block.shape, Affine(k, 0, c_strides(block.shape)))
                   for k, block in enumerate(tape.blocks[:n_inputs])]
    for _ in range(source.count()):
        kind = source.kinds[source.below(len(source.kinds))]
        tape.items.append(_ITEMS[kind][2](source))


def _put_outputs(out: Pools, tape: Tape) -> None:
    out.structure.append(len(tape.outputs))
    for leaf in tape.outputs:
        out.shape(leaf.shape)
        out.operand(leaf.ref, leaf.shape)


def _get_outputs(source: Source, tape: Tape) -> None:
    for _ in range(source.count()):
        shape = source.shape()
        tape.outputs.append(Leaf(shape, source.operand(shape)))


def _put_inner(out: Pools, tape: Tape, within: tuple[Tape, ...]) -> None:
    """The tapes among the parameters of a tape's elementals, those of theirs before them."""
    if len(within) > DEPTH:
        raise InputError(f"a tape with equations within equations, {len(within)} deep, can't be saved: files hold up "
                         f"to {DEPTH}")
    for op in dict.fromkeys(item.op for item in tape.items if type(item) is Joint):
        for inner in elementals.tapes(op):
            if not any(inner is known for known in out.tapes):
                _put_inner(out, inner, (*within, inner))
                out.structure.append(len(inner.inputs))
                _put_lines(out, inner)
                _put_outputs(out, inner)
                out.tapes.append(inner)


def _get_inner(source: Source, sites: Any) -> Tape:
    source.depth = 1
    tape = Tape(sites=_places(sites))
    _get_lines(source, tape, source.take())
    _get_outputs(source, tape)
    check(tape, source.most)
    if source.depth > DEPTH:
        raise FormatError(f"it holds equations within equations, more than {DEPTH} deep")
    source.depths.append(source.depth)
    return tape


def _put_statement(out: Pools, item: Statement) -> None:
    out.structure += (out.op(item.op), item.site)
    out.shape(item.shape)
    out.structure += (item.out.block, item.out.offset, *item.out.strides, len(item.operands))
    for ref in item.operands:
        out.operand(ref, item.shape)


def _get_statement(source: Source) -> Statement:
    op, site, shape = source.ops[source.below(len(source.ops))], source.take(), source.shape()
    out = Affine(source.take(), source.take(), source.several(len(shape)))
    return Statement(op, shape, out, tuple(source.operand(shape) for _ in range(source.below(8))), site)


def _put_run(out: Pools, item: ScalarRun) -> None:
    out.runs.append(item)
    for code in np.flatnonzero(np.bincount(item.op)).tolist():
        out.op(OPS[code])
    out.structure += (item.block, item.lines, len(item.const), int(item.a.itemsize == 8))


def _get_run(source: Source) -> ScalarRun:
    block, lines, constants, wide = source.take(), source.take(), source.take(), source.below(2)
    op, a, b, const = source.runs.take(lines, constants, wide)
    if op.size and (op.max() >= len(source.code) or source.code[op].max() > 255):
        raise FormatError("a scalar line has an operation that it can't have")
    return ScalarRun(block, source.code[op].astype(np.uint8), a, b, const)


def _put_joint(out: Pools, item: Joint) -> None:
    text = json.dumps(elementals.to_json(item.op, out.tapes, out.rules), allow_nan=False)
    out.structure += (out.elementals.setdefault(text, len(out.elementals)), item.site)
    out.shape(item.shape)
    out.structure += (item.out.block, item.out.offset, *item.out.strides)
    for k, ref in enumerate(item.operands):
        out.operand(ref, item.operand_shape(k))


def _get_joint(source: Source) -> Joint:
    op, site, shape = source.elemental(source.below(source.n_elementals)), source.take(), source.shape()
    out = Affine(source.take(), source.take(), source.several(len(shape) + 1))
    shapes = [(*shape, *core) for core in op.core_in]
    for whole in (*shapes, (*shape, op.size)):
        source.limit(prod(n for n in whole if n))
        if len(whole) > 32:
            raise FormatError(f"an operand of a joint statement has {len(whole)} axes")
    return Joint(op, shape, out, tuple(map(source.operand, shapes)), site)


_ITEMS: dict[str, tuple[type[Item], Callable[[Pools, Any], None], Callable[[Source], Item]]] = {
    "statement": (Statement, _put_statement, _get_statement),
    "joint": (Joint, _put_joint, _get_joint),
    "scalar run": (ScalarRun, _put_run, _get_run),
}


def _sites(tape: Tape) -> list[list[Any]]:
    return [list(site) for site in tape.sites]


def _places(data: Any) -> list[Site]:
    if not isinstance(data, list):
        raise FormatError("its header has no list of 'sites'")
    if any(not isinstance(site, list) or [type(part) for part in site] != [str, int, str] for site in data):
        raise FormatError("a place in the code is none")
    return [Site(*site) for site in data]


__all__ = ["MOST_LINES", "Find", "among", "load_tape", "replacing", "require_place", "save_tape"]
