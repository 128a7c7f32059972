"""Systems on disk: what was acknowledged is there after any process was killed at any moment.

    DIRECTORY/lock                  held while a service uses the directory
              incoming/             uploads under way, and tapes being recorded
              systems/ID/tape-0     the tape
                         about      JSON: name, settings, where it came from
                         arguments  .npz: those of a function of the service's own, which may be traced again: tape-1
                         point.npz  the point acknowledged last, its number, and the number of its tape

A system is put together under a name that starts with a dot, and renamed; a point is written beside the old one, and
renamed; every file and directory is on disk before the rename, and the rename before the answer.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DistdiffError, FormatError, InputError
from . import wire

PATIENCE = 10.0  # seconds that processes of a service that was killed have for letting go of the lock


class Kept(NamedTuple):
    """A system as it was acknowledged last."""

    id: str
    tape: Path
    about: dict[str, Any]
    number: int
    x: np.ndarray


class Spool:
    """The directory of a service, or, without one, a temporary directory that ends with it."""

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        self.lasting = directory is not None
        self.root = Path(directory if directory is not None else tempfile.mkdtemp(prefix="distdiff-service-"))
        self._tapes: dict[str, int] = {}  # of systems, which of their tapes counts
        self._incoming, self._systems = self.root / "incoming", self.root / "systems"
        try:
            for folder in (self.root, self._incoming, self._systems):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._locked()
            for left in (*self._incoming.iterdir(), *self._systems.glob(".*")):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        except OSError as error:
            raise InputError(f"the spool {self.root} can't be used: {error}") from error

    def _locked(self) -> int:
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() > until:
                    os.close(handle)
                    raise InputError(f"the spool {self.root} is in use by another service: end that one, or name "
                                     "another directory") from None
                time.sleep(0.05)

    def incoming(self) -> Path:
        """A name for a file that is being written."""
        handle, path = tempfile.mkstemp(dir=self._incoming)
        os.close(handle)
        return Path(path)

    def keep(self, name: str, tape: Path, about: dict[str, Any], x: np.ndarray,
             arguments: dict[str, Any] | None = None) -> None:
        """A new system at its point 1, with a tape out of `incoming`."""
        building, final = self._systems / f".{name}", self._systems / name
        building.mkdir(mode=0o700)
        self._take(tape, building / "tape-0")
        self._write(building / "about", json.dumps(about).encode())
        if arguments is not None:
            self._write(building / "arguments", wire.to_npz({key: np.asarray(a) for key, a in arguments.items()}))
        self._write(building / "point.npz", _point(1, x, 0))
        self._sync_folder(building)
        os.rename(building, final)
        self._sync_folder(self._systems)
        self._tapes[name] = 0

    def tape(self, name: str) -> Path:
        """Where a system's tape is."""
        return self._systems / name / f"tape-{self._tapes[name]}"

    def arguments(self, name: str) -> dict[str, Any] | None:
        """What a function of the service's own was traced with; None for other systems."""
        path = self._systems / name / "arguments"
        content = path.read_bytes() if path.exists() else None
        return None if content is None else wire.named(wire.NPZ, content, len(content))

    def move(self, name: str, number: int, x: np.ndarray, tape: Path | None = None) -> None:
        """The system's point from now on, and its tape, if that is another one."""
        folder, old = self._systems / name, self.tape(name)
        if tape is not None:
            self._take(tape, folder / f"tape-{self._tapes[name] + 1}")
        if self.lasting:
            self._write(folder / ".point.npz", _point(number, x, self._tapes[name] + (tape is not None)))
            self._sync_folder(folder)
            os.replace(folder / ".point.npz", folder / "point.npz")  # point and tape change at once
            self._sync_folder(folder)
        if tape is not None:
            self._tapes[name] += 1
            old.unlink()

    def _take(self, tape: Path, place: Path) -> None:
        os.replace(tape, place)
        with open(place, "rb") as stream:
            self._sync(stream.fileno())

    def drop(self, name: str) -> None:
        """The system is no more."""
        gone = self._systems / f".{name}"
        os.rename(self._systems / name, gone)
        self._sync_folder(self._systems)
        shutil.rmtree(gone, ignore_errors=True)

    def systems(self) -> Iterator[Kept | DistdiffError]:
        """Every system as it was acknowledged last, or what is wrong with it."""
        for folder in sorted(self._systems.iterdir(), key=lambda folder: folder.stat().st_mtime_ns):
            try:
                about = json.loads((folder / "about").read_bytes())
                content = (folder / "point.npz").read_bytes()
                found = wire.from_npz(content, len(content))
                self._tapes[folder.name] = int(found["tape"])
                yield Kept(folder.name, self.tape(folder.name), about, int(found["number"]), found["x"])
            except (OSError, ValueError, KeyError, DistdiffError) as error:
                yield FormatError(f"the system in {folder} can't be read: {error}")

    def close(self) -> None:
        os.close(self._lock)
        if not self.lasting:
            shutil.rmtree(self.root, ignore_errors=True)

    def _write(self, path: Path, content: bytes) -> None:
        with open(path, "wb") as stream:
            stream.write(content)
            stream.flush()
            self._sync(stream.fileno())

    def _sync(self, handle: int) -> None:
        if self.lasting:
            os.fsync(handle)

    def _sync_folder(self, folder: Path) -> None:
        if self.lasting:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _point(number: int, x: np.ndarray, tape: int) -> bytes:
    return wire.to_npz({"number": np.array(number), "x": x, "tape": np.array(tape)})
