"""Compiled loops on disk: found again, made anew when anything is wrong with them, and never the wrong ones."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from distdiff.kernels import cache

SOURCE = """
from distdiff.kernels.jit import jit
{imports}
@jit
def twice(x):
    return x + x + {constant}
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder for compiled code; nothing else can be written."""
    monkeypatch.setenv("DISTDIFF_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr(sys, "pycache_prefix", "/dev/null")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    cache._digest.cache_clear()
    cache._warn.cache_clear()
    monkeypatch.setattr(cache.DiskCache, "compiled", [])
    return tmp_path


def load(folder: Path, constant: Any = 0, imports: str = "") -> Any:
    """The function as a fresh process would have it."""
    path = folder / "module.py"
    path.write_text(SOURCE.format(constant=constant, imports=imports))
    cache._digest.cache_clear()
    spec = importlib.util.spec_from_file_location("module", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice


def files(folder: Path) -> list[Path]:
    return sorted((folder / "compiled").rglob("*.nbc*"))


def test_found_again_by_signature_and_source(places):
    assert load(places)(2) == 4 and len(cache.DiskCache.compiled) == 1
    assert load(places)(3) == 6 and len(cache.DiskCache.compiled) == 1
    assert load(places)(1.5) == 3.0 and len(cache.DiskCache.compiled) == 2
    assert len(files(places)) == 2
    assert load(places, constant=1)(2) == 5 and len(cache.DiskCache.compiled) == 3
    assert len(files(places)) == 2  # another source takes the place of the old one


@pytest.mark.parametrize(("imports", "call"), [("from called import one", "one()"), ("import called", "called.one()")])
def test_a_called_function_in_another_file_counts(places, monkeypatch, imports, call):
    monkeypatch.syspath_prepend(str(places))
    for value in (1, 10):
        called = f"from distdiff.kernels.jit import jit\n\n@jit\ndef one():\n    return {value}\n"
        (places / "called.py").write_text(called)
        sys.modules.pop("called", None)
        importlib.invalidate_caches()
        assert load(places, constant=call, imports=imports)(2) == 4 + value
    sys.modules.pop("called")


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other key", "no code", "unreadable"])
def test_damaged_files_are_compiled_anew(places, damage):
    f = load(places)
    assert f(2) == 4
    (path,) = files(places)
    whole = path.read_bytes()
    if damage == "no code":  # whole, of the right key, and no compiled function
        key = f._cache._key(f.signatures[0], f.targetctx.codegen())[1]
        path.write_bytes(hashlib.sha256(key + b"rubbish").digest() + b"rubbish")
    elif damage == "unreadable":
        path.unlink()
        path.mkdir()
    else:
        flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
        other = b"0" * 32 + whole[32:]
        path.write_bytes({"empty": b"", "cut": whole[:1000], "flipped": flipped, "other key": other}[damage])
    if damage == "unreadable":
        with pytest.warns(RuntimeWarning, match="Set DISTDIFF_CACHE_DIR"):
            assert load(places)(2) == 4
        return
    assert load(places)(2) == 4 and len(cache.DiskCache.compiled) == 2
    assert load(places)(2) == 4 and len(cache.DiskCache.compiled) == 2  # and kept this time
    assert files(places) == [path]


def test_no_place_to_write_is_said_once(places, monkeypatch):
    monkeypatch.setenv("DISTDIFF_CACHE_DIR", "/dev/null/compiled")
    with pytest.warns(RuntimeWarning, match="Not a directory.*Set DISTDIFF_CACHE_DIR") as said:
        f = load(places)
        assert (f(2), f(2.5)) == (4, 5.0)
    assert len(said) == 1


def test_read_where_it_can_not_write(places, monkeypatch):
    """Compiled beside the source of an installation, which is then read-only and has no user's folder either."""
    monkeypatch.delenv("DISTDIFF_CACHE_DIR")
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    assert load(places)(2) == 4
    monkeypatch.setattr(cache, "_write", lambda *arguments: pytest.fail("written to"))
    for home in ("", "/nonexistent"):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", home)
        assert load(places)(2) == 4 and len(cache.DiskCache.compiled) == 1


def test_the_order_of_places(monkeypatch):
    source = str(Path(cache.__file__))
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.setenv("DISTDIFF_CACHE_DIR", "/d")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/n")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    beside = Path(source).parent / "__pycache__"
    first, second, third = cache.places(source)
    assert first.parent == Path("/d") and second == beside and third.parent == Path("/x/distdiff")
    monkeypatch.delenv("DISTDIFF_CACHE_DIR")
    assert cache.places(source)[0].parent == Path("/n")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    first, second = cache.places(source)
    assert first == beside and second.parent == Path("/h/.cache/distdiff")
    monkeypatch.setenv("HOME", "")
    assert cache.places(source) == [beside]


def test_processes_that_start_at_once(places):
    """Each compiles two signatures of one function, in either order, into one empty folder: all get their own."""
    module = places / "module.py"
    module.write_text(SOURCE.format(constant=0, imports=""))
    code = ("import sys; sys.path.insert(0, sys.argv[1])\n"
            "from module import twice; from distdiff.kernels.cache import DiskCache\n"
            "for x in ((2, 2.5) if sys.argv[2] == '0' else (2.5, 2)): assert twice(x) == 2 * x, x\n"
            "print(len(DiskCache.compiled), len(twice.typingctx._functions))")
    start = [sys.executable, "-c", code, str(places)]
    running = [subprocess.Popen([*start, str(k % 2)], stdout=subprocess.PIPE, text=True) for k in range(4)]
    counts = [int(p.communicate(timeout=100)[0].split()[0]) for p in running]
    assert not any(p.returncode for p in running) and max(counts) >= 1
    found = subprocess.run([*start, "0"], capture_output=True, text=True, timeout=100).stdout.split()
    assert found == ["0", "0"]  # nothing compiled, and nothing read in that only a compilation asks for
    assert len(files(places)) == 2


def test_loops_on_disk_need_nothing_that_only_compilations_do():
    """What cached machine code refers to is there once Numba's runtime is: LLVM ends a process that lacks a symbol."""
    code = """import pickle, sys
from distdiff.kernels import cache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
rtsys.initialize(cpu_target.target_context)
files = {file for place in cache.places(cache.__file__) for file in place.glob("*.nbc")}
for file in files:
    CompileResult._rebuild(cpu_target.target_context, *pickle.loads(file.read_bytes()[cache.DIGEST:]))
print(len(files), len(cpu_target.typing_context._functions))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    loops, known = map(int, done.stdout.split())
    assert loops > 20 and known == 0
