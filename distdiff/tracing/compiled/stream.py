"""The tape as compiled code writes it: flat arrays, a chunk at a time.

Compiled code finds the chunk through one block of memory, `words`, which LLVM knows as the symbol `SYMBOL`: no address
is built into the code, so it may be kept on disk.  A line takes the next node, and its parts are stored at that node
in three arrays (operation, two operands) and its value in a fourth; the addresses are biased so that the node itself
is the index.  Where a chunk is full, compiled code calls `refill`, which hands it to the recorder and lays out the
next.  Constants are numbered by the chunk, and found again through a small table by their bits.
"""

from __future__ import annotations

import ctypes

import llvmlite.binding
import numpy as np

from ...errors import InputError
from ...tape import RUN_LINES, Site
from .. import memory
from ..recorder import Located, Recorder

SYMBOL = "distdiff_compiled_stream"
(NEXT, END, OP, A, B, VALUE, CONST_NEXT, CONST, TABLE, GUARD_NEXT, GUARD_END, GUARD_NODE, GUARD_VALUE, GUARD_SITE,
 REFILL, SITE) = range(16)
N_WORDS = 16
CHUNK = RUN_LINES
GUARDS = 1 << 12
TABLE_BITS = 10
LINES_FULL, GUARDS_FULL = 0, 1  # what refill is asked for


class Stopped(Exception):
    """Raised in compiled code when refill failed; the reason is in `Stream.failure`."""


class _Chunk:
    """Memory for the lines of a chunk."""

    def __init__(self) -> None:
        raw = memory.empty(CHUNK * 9 // 8).view(np.uint8)
        self.a, self.b = raw[: 4 * CHUNK].view(np.int32), raw[4 * CHUNK : 8 * CHUNK].view(np.int32)
        self.op = raw[8 * CHUNK :]
        self.addresses = [_address(part) for part in (self.op, self.a, self.b)]


class Stream:
    """The one tape that compiled code writes at a time.  `begin`, run compiled code, then `end`."""

    def __init__(self) -> None:
        self.words = np.zeros(N_WORDS, dtype=np.int64)
        self._table = np.zeros((1 << TABLE_BITS, 2), dtype=np.int64)
        self._const = np.empty(2 * CHUNK)
        self._guards = np.empty(GUARDS, np.int64), np.empty(GUARDS), np.empty(GUARDS, np.int64)
        self._free: _Chunk | None = None
        self._unwanted = np.empty(CHUNK)  # values that nobody keeps
        self.failure: BaseException | None = None
        self._callback = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32)(self._refill)
        words = self.words
        words[TABLE], words[CONST] = _address(self._table), _address(self._const)
        words[GUARD_NODE], words[GUARD_VALUE], words[GUARD_SITE] = map(_address, self._guards)
        words[REFILL] = ctypes.cast(self._callback, ctypes.c_void_p).value or 0
        llvmlite.binding.add_symbol(SYMBOL, _address(words))

    def begin(self, rec: Recorder) -> None:
        """Lines go to this recorder from now on."""
        self.rec, self.failure = rec, None
        self.words[GUARD_NEXT], self.words[GUARD_END] = 0, GUARDS
        self._open()

    def end(self) -> None:
        """Hand over what is left, or raise what went wrong in a refill."""
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                raise failure
            self._close()
            self._decisions()
        finally:
            del self.rec, self._values

    def _open(self) -> None:
        """Lay out a chunk for the lines from the recorder's next node on."""
        first = self.rec.next_node()
        if first + CHUNK >= 1 << 31:
            raise InputError(
                f"the function has more than {first} flattened lines, and compiled tracing numbers nodes with 32 bits: "
                "trace it by the interpreter, or differentiate it in parts"
            )
        self._chunk, self._free = self._free or _Chunk(), None
        target = self.rec.target
        end = first + CHUNK if target is None or target < first else min(first + CHUNK, target)
        words, mark = self.words, first + 1
        words[NEXT], words[END] = mark, end + 1
        self._values = self.rec.room_for(first, CHUNK) if self.rec.keep_values else self._unwanted
        op, a, b = self._chunk.addresses
        words[OP], words[A], words[B] = op - mark, a - 4 * mark, b - 4 * mark
        words[VALUE] = _address(self._values) - 8 * mark
        words[CONST_NEXT] = 0
        self._table.fill(0)
        self._first = first

    def _close(self) -> None:
        """Hand the chunk's lines over: its memory as well, unless they are few."""
        n = int(self.words[NEXT]) - 1 - self._first
        chunk = self._chunk
        parts = [part[:n] for part in (chunk.op, chunk.a, chunk.b, self._values)]
        if n < CHUNK // 2:
            parts, self._free = [part.copy() for part in parts], chunk
        op, a, b, values = parts
        if n:
            self.rec.append_lines(op, a, b, self._const[: self.words[CONST_NEXT]].copy(), values)

    def _decisions(self) -> None:
        n = int(self.words[GUARD_NEXT])
        if not n:
            return
        nodes, values, sites = (part[:n] for part in self._guards)
        for address in np.unique(sites):
            mine = sites == address
            text = ctypes.string_at(int(address)).decode()
            self.rec.guard_nodes(nodes[mine], values[mine], self.rec.site_number(site_of(text)))
        self.words[GUARD_NEXT] = 0

    def _refill(self, what: int) -> int:
        """Called by compiled code: 0 to go on, 1 to stop."""
        if self.failure is None:
            try:
                if what == GUARDS_FULL:
                    self._decisions()
                elif self.words[NEXT] - 1 == self.rec.target:
                    raise Located(site_of(ctypes.string_at(int(self.words[SITE])).decode()))
                else:
                    self._close()
                    self._open()
            except BaseException as failure:  # KeyboardInterrupt too: it can't pass through compiled code
                self.failure = failure
        return int(self.failure is not None)


def site_text(file: str, line: int, function: str) -> str:
    """A place in the user's code as compiled code holds it."""
    return f"{line}\n{function}\n{file}"


def site_of(text: str) -> Site:
    """The site that a `site_text` names."""
    line, function, file = text.split("\n", 2)
    return Site(file, int(line), function)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


STREAM = Stream()
