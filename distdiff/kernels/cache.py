"""Compiled loops kept on disk, for many processes at once (importing this module imports Numba).

Numba's own cache keeps an index file beside numbered data files.  Two processes that compile two signatures of one
function at the same time can both take the number 1, and the index then names the wrong code; and an index or a file
that is cut short makes every later call raise.  Here a file is one compiled signature, named by all that its machine
code depends on, complete or not there, and whatever can't be read is compiled anew.

Files are looked for in all of `places`, and written to the first that can be written, so a read-only installation can
bring its compiled loops with it (`distdiff warm` makes them).  Nobody waits for another's compilation: ranks on cores
of their own are done as soon as the first of them would be.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import uuid
import warnings
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from ..places import places

DIGEST = hashlib.sha256().digest_size


class DiskCache(_Cache):
    """What a Numba dispatcher asks for compiled code, and gives it to: the files of one function."""

    compiled: list[str] = []  # the functions that this process had to compile

    def __init__(self, function: FunctionType) -> None:
        self._function = function
        self._name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}".replace("<locals>.", "")
        self._places = places(function.__code__.co_filename)
        self._stamp = _stamp(function)
        self._enabled = True

    @property
    def cache_path(self) -> str:
        return str(self._places[0])

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        for place in self._places:
            for path in place.glob(f"{self._name}.*.nbc"):
                path.unlink(missing_ok=True)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        """The compiled function for that signature, None if there is none that works.

        It is linked with Numba's runtime and run.  What Numba knows of Python's and NumPy's functions, which takes as
        long to read in as Numba itself, is left to who compiles (and refreshes the context for it).
        """
        if not self._enabled:
            return None
        rtsys.initialize(target_context)
        name, key = self._key(sig, target_context.codegen())
        for place in self._places:
            payload = _read(place / name, key)
            if payload is None:
                continue
            try:
                return CompileResult._rebuild(target_context, *pickle.loads(payload))
            except Exception:  # machine code that does not link here raises whatever LLVM makes of it
                _discard(place / name)
        return None

    def save_overload(self, sig: Any, result: CompileResult) -> None:
        """Keep what was compiled, in the first place that can be written."""
        DiskCache.compiled.append(f"{self._name}{sig}")
        if not self._enabled or result.library.has_dynamic_globals:
            return
        name, key = self._key(sig, result.codegen)
        payload = dumps(result._reduce())
        reasons = []
        for place in self._places:
            try:
                place.mkdir(parents=True, exist_ok=True)
                if _read(place / name, key) is None:  # another process may have been faster
                    _write(place / name, key, payload)
                return
            except OSError as error:
                reasons.append(f"{place}: {error.strerror}")
        _warn("; ".join(reasons))

    def _key(self, sig: Any, codegen: Any) -> tuple[str, bytes]:
        """The file's name, and what its content must be the compilation of.

        Another source overwrites a file; another signature, processor or version has one of its own.
        """
        cells = [cell.cell_contents for cell in self._function.__closure__ or ()]
        key = repr((numba.__version__, llvmlite.__version__, np.__version__, sys.implementation.cache_tag,
                    str(sig), codegen.magic_tuple(), hashlib.sha256(dumps(cells)).hexdigest() if cells else ""))
        name = f"{self._name}.{hashlib.sha256(key.encode()).hexdigest()[:24]}.nbc"
        return name, key.encode() + self._stamp


def _stamp(function: FunctionType) -> bytes:
    """A digest of the source files whose compiled functions the function may contain."""
    files, seen, todo = set(), set(), [function]
    while todo:
        f = todo.pop()
        seen.add(f)
        files.add(f.__code__.co_filename)
        names = f.__code__.co_names
        named = [f.__globals__.get(name) for name in names]
        named += [getattr(g, name, None) for g in named if isinstance(g, ModuleType) for name in names]
        enclosed = [cell.cell_contents for cell in f.__closure__ or ()]
        called = (getattr(g, "py_func", getattr(g, "_defn", None)) for g in named + enclosed)  # jit's, and intrinsics
        todo += [g for g in called if g is not None and g not in seen]
    return hashlib.sha256(b"".join(_digest(file) for file in sorted(files)) + function.__code__.co_code).digest()


@lru_cache
def _digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


def _read(path: Path, key: bytes) -> bytes | None:
    """The payload of a file that is whole and made of this key."""
    try:
        content = path.read_bytes()
    except OSError:  # not there, not ours to read, or replaced under our hands (ESTALE)
        return None
    payload = content[DIGEST:]
    return payload if content[:DIGEST] == hashlib.sha256(key + payload).digest() else None


def _write(path: Path, key: bytes, payload: bytes) -> None:
    """The file appears whole or not at all, whoever else writes it."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}")
    try:
        temporary.write_bytes(hashlib.sha256(key + payload).digest() + payload)
        os.replace(temporary, path)
    except OSError:
        _discard(temporary)
        raise


def _discard(path: Path) -> None:
    try:
        path.unlink()
    except OSError:
        pass  # in a folder that only others can write; a later place may have a better one


@lru_cache(maxsize=1)
def _warn(reasons: str) -> None:
    warnings.warn(f"distdiff can't keep its compiled loops, so every process compiles them anew, for some seconds: no "
                  f"folder for them can be written ({reasons}). Set DISTDIFF_CACHE_DIR to one that can.",
                  RuntimeWarning, stacklevel=2)
