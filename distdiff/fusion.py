"""Which statements run together tile by tile: groups of consecutive elementwise statements over one grid of elements.

The elements of blocks that are as large as the first lie on the grid one after another.  Others, a few rows longer on
either side as deep halos leave them, lie where what they have in common with the group's blocks lies.  A statement
joins the group if it reads the group's own results only at the places where it writes; what else it reads, shifted as
it may be, was complete before the group began.  Hence tiles can run one after another, and a result that only the group
reads needs no more memory than one tile.

The grid is cut into rows as its boxes want it: slices along the last axis of an array make pieces of its rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .kernels import tiles
from .partition.local import LocalTape
from .tape import Affine, Block, Const, Item, Operand, Statement

LONGEST_ROW = 4 * tiles.TILE  # a tile holds whole rows
MOST = 64  # statements in a group: their memory has to stay in the second cache level

Strides = tuple[int, ...]


@lru_cache(maxsize=4096)
def _collapsed(shape: tuple[int, ...], strides: tuple[Strides, ...]) -> tuple[tuple[int, ...], tuple[Strides, ...]]:
    """The same elements over as few axes as can be: none of length 1, neighbours joined where all strides allow."""
    axes: list[list[int]] = []  # length, then one stride an operand
    for k, n in enumerate(shape):
        if n == 1:
            continue
        here = [s[k] for s in strides]
        if axes and all(before == n * s for before, s in zip(axes[-1][1:], here)):
            axes[-1] = [n * axes[-1][0], *here]
        else:
            axes.append([n, *here])
    return tuple(a[0] for a in axes), tuple(tuple(a[j + 1] for a in axes) for j in range(len(strides)))


class Member(NamedTuple):
    """A statement that can run tile by tile: its axes, and the strides of result and operands along them."""

    item: Statement
    extents: tuple[int, ...]
    strides: tuple[Strides, ...]

    @property
    def row_length(self) -> int:
        """Elements a row of the grid must have, 0 if any will do."""
        if len(self.extents) == 2:
            return self.strides[0][0]
        return self.strides[0][0] if self.extents and self.strides[0][0] != 1 else 0

    def box(self, length: int) -> tuple[int, int, int, bool] | None:
        """(first row, rows, width, whether they join end to end) on a grid with such rows; None if it is no box."""
        row, column = divmod(self.item.out.offset, length)
        if not self.extents:
            return row, 1, 1, False
        n = self.extents[-1]
        if len(self.extents) == 2:
            fits = self.strides[0][0] == length and column + n <= length
            return (row, self.extents[0], n, False) if fits else None
        if self.strides[0][0] != 1:
            return (row, n, 1, False) if self.strides[0][0] == length else None
        if column == 0 and n % length == 0:
            return row, n // length, length, True
        return (row, 1, n, False) if column + n <= length else None


def member(item: Item) -> Member | None:
    """The item as a member of a group, if it can be one."""
    if type(item) is not Statement or item.op.name not in tiles.NUMBER or item.op.kind != "elementwise" \
            or item.reduced or 0 in item.shape:
        return None
    strides = [item.out.strides]
    for ref in item.operands:
        if type(ref) is Affine:
            strides.append(ref.strides)
        elif type(ref) is not Const:
            return None
        elif isinstance(ref.value, np.ndarray):
            if ref.value.dtype != np.float64 or ref.value.shape != item.shape:
                return None
            strides.append(tuple(s // 8 for s in ref.value.strides))
        else:
            strides.append((0,) * len(item.shape))
    extents, along = _collapsed(item.shape, tuple(strides))
    out = along[0]
    if len(extents) > 2 or any(s <= 0 for s in out) or (len(extents) == 2 and out[1] != 1):
        return None
    found = Member(item, extents, along)
    return found if found.row_length <= LONGEST_ROW else None


class Pattern:
    """What groups that repeat have in common: their statements, with blocks counted from the one written first.

    Time steps repeat; only the first of them is looked at statement by statement.
    """

    def __init__(self, first: Member, blocks: list[Block]) -> None:
        self.origin = first.item.out.block
        self.size = blocks[self.origin].size
        self.length = max(first.row_length, 1)
        self.members = [first]
        self.made = {self.origin: 0}  # the blocks that are computed: how many elements after the first they begin
        self._read: dict[int, int] = {}  # likewise of others, as their first reader has them
        self.keys: list[Any] = []  # of its statements and of the one that followed (None at the end of a superstep)
        self._note(first, 0)

    @property
    def tile(self) -> int:
        """Rows of the grid in a tile."""
        return max(1, tiles.TILE // self.length)

    @property
    def top(self) -> int:
        """The grid's first row, counted from the first block's."""
        return min(self.made.values()) // self.length

    def rows(self, blocks: list[Block]) -> int:
        """Rows of the grid."""
        return -(-max(begin + blocks[b].size for b, begin in self.made.items()) // self.length) - self.top

    def box(self, member: Member) -> tuple[int, int, int, bool]:
        """`Member.box` on the grid."""
        box = member.box(self.length)
        assert box is not None
        return box[0] + self.made[member.item.out.block] // self.length - self.top, *box[1:]

    def join(self, new: Member, blocks: list[Block]) -> bool:
        """Take one more statement, if the tiles can still run one after another."""
        begin = self._begin(new, blocks) if len(self.members) < MOST else None
        if begin is None:
            return False
        length = new.row_length or self.length
        if length != self.length and any(m.box(length) is None for m in self.members):
            return False
        if new.box(length) is None or begin % length or any(place % length for place in self.made.values()):
            return False
        self.length = length
        self.members.append(new)
        self.made[new.item.out.block] = begin
        self._note(new, begin)
        return True

    def _begin(self, new: Member, blocks: list[Block]) -> int | None:
        """Where the block that a statement writes begins on the grid; None where it can be nowhere."""
        out = new.item.out
        begin = self.made.get(out.block)
        for ref, strides in zip(new.item.operands, new.strides[1:]):
            if type(ref) is Affine and ref.block in self.made:
                wanted = self.made[ref.block] + ref.offset - out.offset
                if strides != new.strides[0] or begin not in (None, wanted):
                    return None
                begin = wanted
        size = blocks[out.block].size
        if begin is None and size == self.size:
            return 0
        if begin is None:
            begin = next((self._read[ref.block] + ref.offset - out.offset for ref in new.item.operands
                          if type(ref) is Affine and ref.block in self._read), None)
        near = begin is not None and 4 * abs(begin) <= self.size and self.size <= 2 * size <= 4 * self.size
        return begin if near else None

    def _note(self, member: Member, begin: int) -> None:
        """What else a statement reads lies on the grid where it reads it."""
        for ref, strides in zip(member.item.operands, member.strides[1:]):
            if type(ref) is Affine and ref.block not in self.made and strides == member.strides[0]:
                self._read.setdefault(ref.block, begin + member.item.out.offset - ref.offset)


class Group(NamedTuple):
    """Consecutive statements items[start:stop] that follow a pattern, `shift` blocks after it."""

    start: int
    stop: int
    pattern: Pattern
    shift: int


def _key(item: Item | None, origin: int, blocks: list[Block]) -> Any:
    """Equal for two statements that are the same but for where counting blocks begins; of no use if not a statement."""
    if type(item) is not Statement:
        return None if item is None else id(item)
    out = item.out
    parts: list[Any] = [item.op, item.shape, blocks[out.block].shape, out.block - origin, out.offset, out.strides]
    for ref in item.operands:
        if type(ref) is Affine:
            parts.append((ref.block - origin, ref.offset, ref.strides))
        elif type(ref) is Const and not isinstance(ref.value, np.ndarray):
            parts.append(ref.value or repr(ref.value))  # 0.0 == -0.0, but they are two constants
        else:
            parts.append(id(ref[0]))
    return tuple(parts)


class Fusion:
    """The groups of a share of the tape, and the programs that run them."""

    def __init__(self, local: LocalTape) -> None:
        self.local = local
        self.groups: list[Group] = []
        self._patterns: dict[Any, Pattern] = {}  # by the first statement
        for step in local.steps:
            for i, end in ((step.start, step.ready), (step.ready, step.stop)):  # what is sent must be there
                while i < end:
                    group = self._group(i, end)
                    if group is not None:
                        self.groups.append(group)
                    i = i + 1 if group is None else group.stop

    def _group(self, start: int, end: int) -> Group | None:
        """The group that begins with item `start`, before item `end`; None if that item is not of a kind to fuse."""
        blocks, items = self.local.blocks, self.local.items
        head = items[start]
        if type(head) is not Statement:
            return None
        origin = head.out.block
        key = _key(head, origin, blocks)
        known = self._patterns.get(key)
        if known is not None and start + len(known.members) <= end:
            for i, other in enumerate(known.keys, start):
                if other != (key if i == start else _key(items[i] if i < end else None, origin, blocks)):
                    break
            else:
                return Group(start, start + len(known.members), known, origin - known.origin)
        first = member(items[start])
        if first is None:
            return None
        pattern = self._patterns[key] = Pattern(first, blocks)
        stop = start + 1
        while stop < end:
            found = member(items[stop])
            if found is None or not pattern.join(found, blocks):
                break
            stop += 1
        pattern.keys = [_key(items[i] if i < end else None, origin, blocks) for i in range(start, stop + 1)]
        return Group(start, stop, pattern, 0)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(start, stop) of the items of every group."""
        return [(group.start, group.stop) for group in self.groups]

    def stretches(self) -> list[list[Group]]:
        """Groups that follow one another between exchanges: each stretch runs as one program."""
        ends = {end for step in self.local.steps for end in (step.ready, step.stop)}
        found: list[list[Group]] = []
        for group in self.groups:
            if found and found[-1][-1].stop == group.start and group.start not in ends:
                found[-1].append(group)
            else:
                found.append([group])
        return found

    def programs(self, arrays: list[np.ndarray | None]) -> list[tuple[int, tiles.Bound]]:
        """(first item, program) of every stretch.  arrays: the blocks' memory, None for what only its group reads."""
        writer = _Writer(self.local.blocks, arrays)
        written = [(stretch[0].start, writer.program(stretch)) for stretch in self.stretches()]
        addresses, memory = writer.addresses()
        return [(start, program.bind(addresses, memory)) for start, program in written]


class _Writer:
    """Writes programs.  Addresses are numbered: blocks, then scratch memory, constants, and constant arrays.

    The instructions of a pattern are written once for all its groups with the same results in scratch memory.
    """

    def __init__(self, blocks: list[Block], arrays: list[np.ndarray | None]) -> None:
        self.blocks, self.arrays = blocks, arrays
        self.scratch = 0  # bytes that the largest group takes
        self.constants: dict[bytes, int] = {}  # bits of a float: its place
        self.tables: dict[int, tuple[np.ndarray, int]] = {}  # id of a constant array: the array, its number
        self.written: dict[Any, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        self.touched: set[int] = set()  # numbers of addresses in the programs: a trace that is looked at has run most

    def program(self, stretch: list[Group]) -> tiles.Program:
        program = tiles.Program()
        for group in stretch:
            pattern = group.pattern
            key = pattern, *(self.arrays[b + group.shift] is None for b in pattern.made)
            code, bases, counted = self.written.get(key) or self.written.setdefault(key, self._write(group))
            bases = bases + group.shift * counted
            self.touched.update(bases.reshape(-1).tolist())
            program.add(pattern.rows(self.blocks), pattern.tile, code, bases)
        return program

    def _write(self, group: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(instructions, bases of their places in the pattern, which bases are blocks and move with the group)."""
        pattern = group.pattern
        local = {b for b in pattern.made if self.arrays[b + group.shift] is None}
        slots = self._slots(pattern, local)
        code, bases, there = [], [], []
        for m in pattern.members:
            row, rows, width, collapsed = pattern.box(m)
            places = [self._place(ref, strides, m, pattern.length, row, width, collapsed, slots)
                      for ref, strides in zip((m.item.out, *m.item.operands), m.strides)]
            code.append(tiles.instruction(m.item.op.name, row, row + rows, width, collapsed, places))
            bases.append(tiles.bases(places))
            there.append([k < len(places) for k in range(len(bases[-1]))])  # an operand that is lacking moves nowhere
        table = np.array(bases, dtype=np.int64)
        return np.array(code, dtype=np.int64), table, ((table < len(self.arrays)) & np.array(there)).astype(np.int64)

    def _slots(self, pattern: Pattern, local: set[int]) -> dict[int, int]:
        """Offsets in scratch memory for the blocks that only this group reads; free again after the last reading."""
        size = 8 * pattern.tile * pattern.length + 192  # not all slots at the same place in their pages
        last: dict[int, int] = {}
        for k, m in enumerate(pattern.members):
            last.update((ref.block, k) for ref in (m.item.out, *m.item.operands)
                        if type(ref) is Affine and ref.block in local)
        ending: dict[int, list[int]] = {}
        for block, k in last.items():
            ending.setdefault(k, []).append(block)
        slots: dict[int, int] = {}
        free: list[int] = []
        count = 0
        for k, m in enumerate(pattern.members):
            block = m.item.out.block
            if block in local and block not in slots:  # never the slot of an operand: loops run faster on two arrays
                if not free:
                    free.append(count * size)
                    count += 1
                slots[block] = free.pop()
            free += [slots[b] for b in ending.get(k, ())]
        self.scratch = max(self.scratch, count * size)
        return slots

    def _place(self, ref: Operand, strides: Strides, m: Member, length: int, low: int, width: int, collapsed: bool,
               slots: dict[int, int]) -> tiles.Place:
        if type(ref) is Affine and ref.block in slots:
            return tiles.Place(len(self.arrays), slots[ref.block] + 8 * (m.item.out.offset % length), 8 * length, 1,
                               True)
        if type(ref) is Const and not isinstance(ref.value, np.ndarray):
            place = self.constants.setdefault(np.float64(ref.value).tobytes(), len(self.constants))
            return tiles.Place(len(self.arrays) + 1, 8 * place)
        if type(ref) is Const:
            _, number = self.tables.setdefault(id(ref.value), (ref.value, len(self.arrays) + 2 + len(self.tables)))
            base, offset = number, 0
        else:
            base, offset = ref.block, ref.offset
        if not strides:
            row, step = 0, 0
        elif len(strides) == 2:
            row, step = strides
        elif collapsed:
            row, step = length * strides[0], strides[0]
        elif width == 1:
            row, step = strides[0], 0
        else:
            row, step = 0, strides[0]
        return tiles.Place(base, 8 * (offset - low * row), 8 * row, step)

    def addresses(self) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """The table of addresses, and the memory that it points to beside the blocks."""
        scratch = np.empty(self.scratch // 8)
        constants = np.frombuffer(b"".join(self.constants), dtype=np.float64)
        tables = [array for array, _ in self.tables.values()]
        known = len(self.arrays)
        found = np.zeros(known + 2 + len(tables), dtype=np.int64)
        for number, array in enumerate((scratch, constants, *tables), known):
            found[number] = array.__array_interface__["data"][0]
        for number in self.touched:
            if number < known and self.arrays[number] is not None:
                found[number] = self.arrays[number].__array_interface__["data"][0]
        return found, (scratch, constants, *tables)
