"""The flattened function as a sequence of blocks of statements.

A *node* is one flattened scalar line y_i = F_i(y_0, ..., y_{i-1}).  Nodes that come from one array operation
form a *block*: consecutive ids, laid out in C order over the block's shape.  A `Statement` says how (a box of)
a block is computed; it stands for as many lines as its iteration shape has elements, and where its operands
are *affine* it holds a few integers however many lines that is.  A `ScalarRun` is a run of scalar lines (a Python
loop over floats), held as flat arrays.

The same classes describe the whole tape on rank 0 and, in local numbers, the share of one rank
(`partition.local.LocalTape`): what evaluates, sweeps or expands one serves the other.

A scalar line takes 9 bytes (`ScalarRun`): its operation and two node ids of 32 bits, or 64 where the tape needs
them.  A run ends after `RUN_LINES` lines at the latest, so what anyone holds beside it while working on it is bounded,
and vectors over its block can live and die long before those of the whole program.

A statement with iteration shape S reads operand values a_k, b_k, ... for every multi-index k in S, and

    y[out(k)]  =  op(a_k, b_k, ...)          if `out` is one to one,
    y[out(k)] +=  op(a_k, b_k, ...)          (from zero) if `out` has stride 0 along some axes: a sum, or, with
                                             op = multiply, a contraction such as a matrix product.

Two ops are more than elementwise (`Op.kind`): "select" (maximum/minimum over the stride-0 axes of `out`) and
"scan" (y[out(k)] = y[out(k) - 1 step along the last axis] + a_k, cumulative sums).

A `Joint` computes several results together, at every multi-index k of its *loop* axes:

    y[out(k, .)]  =  G(a_k, b_k, ...)

with G an elemental (`ops.elemental`), a_k, b_k, ... arrays of its operands' *core* shapes, and all its results, flat
and one after another, along the last axis of `out`.  Ranks may share the loop axes; the core of an iteration is on one
rank.  `core(k)` and `core_out` say which axes follow those of `shape` in an operand and in the results; a Statement has
none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .ops import ADD, COPY, OPS, Elemental, Op


class Affine(NamedTuple):
    """Nodes `offset + sum_k i_k strides_k` of one block, counted from the block's first node."""

    block: int
    offset: int
    strides: tuple[int, ...]

    def ids(self, first: int, shape: tuple[int, ...]) -> np.ndarray:
        """The explicit ids over `shape`, given the id of the block's first node."""
        ids = np.full(shape, first + self.offset, dtype=np.int64)
        for axis, (n, stride) in enumerate(zip(shape, self.strides)):
            ids += (np.arange(n, dtype=np.int64) * stride).reshape((-1,) + (1,) * (len(shape) - axis - 1))
        return ids


class Indexed(NamedTuple):
    """Nodes given one by one: `ids` (int64) has the operand's shape (`operand_shape`), and may cross blocks."""

    ids: np.ndarray


class Const(NamedTuple):
    """A value that is no node: a float, or an array of the operand's shape (strides may be 0)."""

    value: float | np.ndarray


Operand = Affine | Indexed | Const


class Block(NamedTuple):
    """Nodes first, ..., first + size - 1, laid out in C order over `shape`."""

    first: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)


class Statement(NamedTuple):
    """One vector operation over the iteration space `shape` (see the module's equation)."""

    op: Op
    shape: tuple[int, ...]
    out: Affine
    operands: tuple[Operand, ...]
    site: int = -1  # index into Tape.sites, the user's line

    core_out = ()

    def core(self, k: int) -> tuple[int, ...]:
        return ()

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.shape

    def operand_shape(self, k: int) -> tuple[int, ...]:
        return self.shape

    def over(self, shape: tuple[int, ...], out: Affine, operands: tuple[Any, ...]) -> Statement:
        """The same operation with another iteration space, results and operands."""
        return Statement(self.op, shape, out, operands, self.site)

    @property
    def reduced(self) -> tuple[int, ...]:
        """Axes of the iteration space that are summed (or selected) away."""
        return () if self.op.kind == "scan" else _still(self.shape, self.out.strides)

    @property
    def lines(self) -> int:
        """Flattened scalar lines this statement stands for."""
        if self.op is COPY or self.op.kind == "scan":
            return prod(self.shape)
        return _lines(self.shape, self.out.strides)


@dataclass(frozen=True, slots=True)
class Joint:
    """An elemental at every index of the loop axes `shape` (see the module's text).  It writes each of its nodes once.

    out       over (*shape, op.size)
    operands  operand k over (*shape, *op.core_in[k])
    """

    op: Elemental
    shape: tuple[int, ...]
    out: Affine
    operands: tuple[Operand, ...]
    site: int = -1

    reduced = ()

    @property
    def core_out(self) -> tuple[int, ...]:
        return (self.op.size,)

    def core(self, k: int) -> tuple[int, ...]:
        return self.op.core_in[k]

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (*self.shape, self.op.size)

    def operand_shape(self, k: int) -> tuple[int, ...]:
        return (*self.shape, *self.op.core_in[k])

    def over(self, shape: tuple[int, ...], out: Affine, operands: tuple[Any, ...]) -> Joint:
        """The same operation with other loop axes, results and operands."""
        return Joint(self.op, shape, out, operands, self.site)

    @property
    def active(self) -> list[int]:
        """The operands that have derivatives."""
        return [k for k, ref in enumerate(self.operands) if type(ref) is not Const and k not in self.op.inert]

    @property
    def lines(self) -> int:
        return prod(self.shape) * self.op.lines


@dataclass(frozen=True, slots=True)
class ScalarRun:
    """A run of scalar lines: node first+i is op[i] applied to operands a[i] and, for binary ops, b[i].

    `a` and `b` (`id_type`) hold node ids, or -1-k for the constant `const[k]`; a unary op ignores its b.
    """

    block: int
    op: np.ndarray  # uint8, Op.code
    a: np.ndarray
    b: np.ndarray
    const: np.ndarray  # float64

    @property
    def lines(self) -> int:
        return len(self.op)

    @property
    def nbytes(self) -> int:
        return self.op.nbytes + self.a.nbytes + self.b.nbytes + self.const.nbytes


class HeldRun(ScalarRun):
    """A run whose lines another rank holds while the tape is in the making: `look` fetches them to be looked at.

    reads : what its lines read from outside of it (`graph.listing.Listing`)
    """

    __slots__ = ("_lines", "_look", "reads")
    _lines: int
    _look: Callable[[], ScalarRun]
    reads: Any

    def __init__(self, block: int, lines: int, reads: Any, look: Callable[[], ScalarRun]) -> None:
        for name, value in (("block", block), ("_lines", lines), ("reads", reads), ("_look", look)):
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"HeldRun(block={self.block}, {self._lines} lines)"

    op = property(lambda self: self._look().op)
    a = property(lambda self: self._look().a)
    b = property(lambda self: self._look().b)
    const = property(lambda self: self._look().const)

    @property
    def lines(self) -> int:
        return self._lines

    @property
    def nbytes(self) -> int:
        return 0


def id_type(n: int) -> type[np.signedinteger[Any]]:
    """The type of operand ids in a scalar run, for nodes 0, ..., n-1 and as many constants."""
    return np.int32 if n <= 2**31 else np.int64


RUN_LINES = 1 << 16  # lines of a scalar run: a vector over its block, 512 KiB, stays in cache

Vector = Statement | Joint
Item = Vector | ScalarRun

UNREAD = np.empty(0)  # stands for the values of a block that no partial, guard or output reads: they were not kept


class Guard(NamedTuple):
    """The trace holds only where the nodes `ref` have exactly the values `expected` (comparisons, mask, index)."""

    ref: Affine | Indexed
    expected: np.ndarray
    site: int


class Leaf(NamedTuple):
    """One array (or scalar, shape ()) among the arguments or results, and the nodes that carry it."""

    shape: tuple[int, ...]
    ref: Operand  # over `shape`; a Const result depends on no input


class Site(NamedTuple):
    """A place in the user's code."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


@dataclass
class Tape:
    """The flattened function.  Structure and constants only: no values of nodes.

    The first blocks carry the inputs, one a leaf of the arguments, and are computed by no item.
    """

    blocks: list[Block] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    inputs: list[Leaf] = field(default_factory=list)
    outputs: list[Leaf] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    in_tree: Any = None  # how the leaves of the arguments nest, as one tuple (tracing.tree)
    out_tree: Any = None  # how the result's leaves nest
    homebound: frozenset[Elemental] = frozenset()  # those that only rank 0 has
    alike: dict[int, int] = field(default_factory=dict)  # vectors that lie as others before them do, node by node

    @property
    def n_nodes(self) -> int:
        return self.blocks[-1].first + self.blocks[-1].size if self.blocks else 0

    @property
    def n_inputs(self) -> int:
        return sum(prod(leaf.shape) for leaf in self.inputs)

    @property
    def n_outputs(self) -> int:
        return sum(prod(leaf.shape) for leaf in self.outputs)

    @property
    def lines(self) -> int:
        """Flattened scalar lines, loads of inputs included."""
        return self.n_inputs + sum(item.lines for item in self.items)

    @property
    def joint(self) -> bool:
        """Whether there are joint statements."""
        return any(type(item) is Joint for item in self.items)

    def add_block(self, shape: tuple[int, ...]) -> int:
        """Append a block of fresh nodes; returns its index."""
        self.blocks.append(Block(self.n_nodes, tuple(shape)))
        return len(self.blocks) - 1

    def ids(self, ref: Affine | Indexed, shape: tuple[int, ...]) -> np.ndarray:
        """Explicit node ids of a reference."""
        return ref.ids if isinstance(ref, Indexed) else ref.ids(self.blocks[ref.block].first, shape)


@lru_cache(maxsize=4096)
def _still(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Axes along which a result does not move."""
    return tuple(k for k, (n, s) in enumerate(zip(shape, strides)) if s == 0 and n != 1)


@lru_cache(maxsize=4096)
def _lines(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Lines of an operation over `shape`: what comes to the same result is added up."""
    n, still = prod(shape), _still(shape, strides)
    return 2 * n - prod(s for k, s in enumerate(shape) if k not in still) if n and still else n


@lru_cache(maxsize=4096)
def c_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a C-ordered array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


__all__ = ["ADD", "COPY", "OPS", "RUN_LINES", "UNREAD", "Affine", "Block", "Const", "Guard", "HeldRun", "Indexed",
           "Item", "Joint", "Leaf", "Op", "Operand", "ScalarRun", "Site", "Statement", "Tape", "Vector", "c_strides",
           "id_type"]
