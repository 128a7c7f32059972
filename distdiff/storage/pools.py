"""What a tape file holds beside its structure, put together (`Pools`) and taken apart (`Source`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import numpy as np

from .. import __version__
from ..errors import FormatError, InputError
from ..ops import BY_NAME, Elemental, Op
from ..strided import core_array
from ..tape import Affine, Const, Indexed, Operand, ScalarRun, Tape
from . import elementals
from .archive import Reader
from .check import too_large

AFFINE, INDEXED, NUMBER, ARRAY = range(4)


class Pool:
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


class Pools:
    """Everything a file holds, while it is put together."""

    def __init__(self) -> None:
        self.structure: list[int] = []
        self.ids, self.constants, self.numbers = Pool(), Pool(), []
        self.decisions: list[np.ndarray] = []
        self.expected: list[np.ndarray] = []
        self.runs: list[ScalarRun] = []
        self.ops: dict[str, int] = {}
        self.elementals: dict[str, int] = {}  # their JSON
        self.rules: list[Any] = []  # users', that the elementals call
        self.tapes: list[Tape] = []  # the inner ones
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


class Source:
    """What a file holds, while it is taken apart."""

    def __init__(self, reader: Reader, header: dict[str, Any], most: int, kinds: Collection[str],
                 rules: Sequence[Any]) -> None:
        self.most, self.rules = most, rules
        self.inner: list[Tape] = []
        self.depths: list[int] = []  # of the inner tapes: how many are in each other
        self.depth = 1  # of the tape that is read
        self._reader = reader
        self._structure = reader.array("structure", "<i8").tolist()
        self._at = 0
        self.kinds, self.ops = listed(header, "items"), []
        for kind in self.kinds:
            if kind not in kinds:
                raise FormatError(f"it holds items of a kind {kind!r}, which distdiff {__version__} does not know")
        for name in listed(header, "ops"):
            if not isinstance(name, str) or name not in BY_NAME:
                raise FormatError(f"it uses an operation {name!r}, which distdiff {__version__} does not know")
            self.ops.append(BY_NAME[name])
        self._elementals: list[tuple[Elemental, int] | None] = [None] * len(listed(header, "elementals"))
        self._named = header["elementals"]
        self.n_elementals = len(self._named)
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

    def elemental(self, number: int) -> Elemental:
        """One of the elementals, which are made when the inner tapes that they have are there."""
        found = self._elementals[number]
        if found is None:
            op = elementals.from_json(self._named[number], self.most, self.inner, self.rules)
            depths = [depth for tape, depth in zip(self.inner, self.depths)
                      if any(tape is own for own in elementals.tapes(op))]
            found = self._elementals[number] = op, max(depths, default=0)
        self.depth = max(self.depth, 1 + found[1])
        return found[0]

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
        for number in range(len(self._elementals)):
            self.elemental(number)
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


def listed(header: dict[str, Any], name: str) -> list[Any]:
    """A list that a header holds."""
    value = header.get(name)
    if not isinstance(value, list):
        raise FormatError(f"its header has no list {name!r}")
    return value


__all__ = ["Pools", "Source", "listed"]
