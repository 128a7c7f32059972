"""Files of named flat arrays: a zip archive of .npy members, which NumPy's own np.load opens as well.

Every member is one-dimensional, of one of the types in `TYPES`, and stored, not compressed: what a file asks to be
read is in the file, so nothing in it can promise more memory than it has bytes.  Members are written and read piece by
piece.  Damage is told by the archive's checksums, and anything unexpected is a `FormatError`.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import FormatError, InputError, RuleError

TYPES = {"<f8": np.float64, "<i8": np.int64, "<i4": np.int32, "|u1": np.uint8}
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(rb"\{'descr': '([<|][fiu][148])', 'fortran_order': False, 'shape': \((\d{1,18}),\), \} *\n")
_DATE = (1980, 1, 1, 0, 0, 0)  # of every member, so that the same content is the same file
PIECE = 1 << 24  # bytes written or read at a time

# What zipfile raises for archives that are none, truncated, or made to mislead.
_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError,
           OverflowError, IndexError, KeyError, TypeError, struct.error)


def require_place(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` where no file can be written at `path`: to say so before the work is done."""
    target = Path(path)
    if target.is_dir():
        raise InputError(f"{target} is a directory; name the file to write")
    if not target.parent.is_dir():
        raise InputError(f"there is no directory {target.parent} to write {target} in")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"the directory {target.parent} can't be written in; name another for {target.name}")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A stream to write the file in, under a temporary name beside it, renamed at the end: no reader ever sees half a
    file, and a failure leaves what was there."""
    require_place(path)
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # temporary files are the user's alone
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


class Writer:
    """Writes members one after another."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED)

    def add(self, name: str, kind: str, arrays: Iterable[np.ndarray]) -> None:
        """One member: the arrays one after another, as `kind`."""
        arrays = list(arrays)
        n = sum(a.size for a in arrays)
        text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({n},), }}"
        text += " " * (-(len(_MAGIC) + 3 + len(text)) % 64) + "\n"
        info = zipfile.ZipInfo(f"{name}.npy", _DATE)
        info.file_size = len(_MAGIC) + 2 + len(text) + n * np.dtype(kind).itemsize
        with self._zip.open(info, "w", force_zip64=info.file_size > 2**31 - 1) as member:
            member.write(_MAGIC + struct.pack("<H", len(text)) + text.encode("ascii"))
            for a in arrays:
                flat = np.ascontiguousarray(a, dtype=kind).reshape(-1).view(np.uint8)
                for start in range(0, len(flat), PIECE):
                    member.write(flat[start : start + PIECE].data)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with suppress(Exception) if error is not None else nullcontext():  # the first error counts
            self._zip.close()


class Reader:
    """Reads members of a file; whatever is wrong with it is a `FormatError`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not os.path.isfile(path):
            raise InputError(f"there is no file {self.path}")
        self.size = os.path.getsize(path)
        with self.reading():
            self._zip = zipfile.ZipFile(path)
            names = self._zip.namelist()
        if len(set(names)) != len(names):
            raise self.error("two members have one name")
        if sum(info.file_size for info in self._zip.infolist()) > self.size:
            raise self.error("its members claim to be larger than the file")

    def error(self, what: str) -> FormatError:
        return FormatError(f"{self.path} is no tape that can be used: {what}. It was damaged or truncated, or not "
                           "written by distdiff; save it again")

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What goes wrong in the body is the file's fault."""
        try:
            yield
        except (FormatError, RuleError):
            raise
        except _DAMAGE as error:
            raise self.error(f"{type(error).__name__}: {error}") from error

    def array(self, name: str, kind: str) -> np.ndarray:
        """A whole member."""
        with self.open(name, kind) as member:
            return member.take(member.left)

    @contextmanager
    def open(self, name: str, kind: str) -> Iterator[Member]:
        """A member, to be read piece by piece, and to its end: the checksum is compared there."""
        with self.reading():
            info = self._zip.getinfo(f"{name}.npy")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise self.error(f"member {name} is compressed or encrypted, which distdiff never does")
            with self._zip.open(info) as stream:
                member = Member(self, name, kind, stream, info.file_size)
                yield member
                if member.left:
                    raise self.error(f"member {name} has {member.left} elements too many")
                stream.read(1)  # past the end: compares the checksum

    def close(self) -> None:
        self._zip.close()


class Member:
    """An open member: `take(n)` gives the next n elements."""

    def __init__(self, reader: Reader, name: str, kind: str, stream: Any, size: int) -> None:
        self._reader, self._name, self._stream, self.dtype = reader, name, stream, np.dtype(TYPES[kind])
        start = stream.read(len(_MAGIC) + 2)
        (length,) = struct.unpack("<H", start[-2:])
        text = stream.read(length)
        found = _HEADER.fullmatch(text)
        if not start.startswith(_MAGIC) or found is None or found[1].decode() != kind:
            raise reader.error(f"member {name} is no one-dimensional array of type {kind}")
        self.left = int(found[2])
        if self.left * self.dtype.itemsize != size - len(start) - length:
            raise reader.error(f"member {name} has not the size that it says")

    def take(self, n: int) -> np.ndarray:
        """The next n elements, in memory of their own."""
        if n < 0 or n > self.left:
            raise self._reader.error(f"member {self._name} ends early")
        self.left -= n
        out = np.empty(n, self.dtype)
        into = memoryview(out).cast("B") if n else memoryview(b"")
        start = 0
        while start < len(into):
            piece = self._stream.read(min(PIECE, len(into) - start))
            if not piece:
                raise self._reader.error(f"member {self._name} ends early")
            into[start : start + len(piece)] = piece
            start += len(piece)
        return out
