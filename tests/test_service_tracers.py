"""Functions of modules, traced in processes beside the service: what they are told, and how they end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import wait_for

import distdiff as dd
from distdiff.errors import CancelledError, InputError, ServiceError, TracingError, UnsupportedOperationError
from distdiff.service.modules import Modules
from distdiff.service.tracers import RESTING, Tracers

pytestmark = pytest.mark.timeout(60)
MODEL = """
import os, subprocess, time
import numpy as np

loaded = os.getpid()

def loss(u, k):
    print("seen by the operator")
    return k * np.sum(u["a"] ** 2) + 0.0 * loaded

def name(u):
    open("pid", "w").write(str(os.getpid()))
    return np.sum(u)

def child(u):
    made = subprocess.Popen(["sleep", "1000"])
    open("pid", "w").write(str(made.pid))
    while True:
        pass

def refuses(u):
    return np.sum(u).astype("S")

def deep(u):
    return helper(u) + 1.0

def helper(u):
    raise ValueError("exploded")

def endless(u):
    while True:
        pass

def shuts(u):
    os.closerange(0, 100)
    time.sleep(1000)
"""
U = np.linspace(0.5, 1.5, 6)


@pytest.fixture
def tracers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracers]:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "m.py").write_text(MODEL)
    (tmp_path / "json.py").write_text("raise RuntimeError('what lies in the working directory is imported')")
    monkeypatch.chdir(tmp_path)
    made = Tracers(Modules("modules"), limit=30.0, at_once=1)
    made.start()
    yield made
    made.close()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def traced(tracers: Tracers, name: str, unwanted: Any = lambda: False, **arguments: Any) -> Path:
    return tracers.trace("m", name, arguments, Path("tape"), unwanted).result()


def test_tapes_errors_and_what_is_left(tracers):
    assert traced(tracers, "name", u=U) == Path("tape")
    first = Path("pid").read_text()
    tape = dd.load("tape")
    np.testing.assert_array_equal(tape.point[0], U)
    assert tape.names == ("u",) and dd.grad(tape)(U).tolist() == [1.0] * 6
    Path("tape").unlink()
    for name, arguments, error, message in (
            ("nope", {"u": U}, ServiceError, "no function 'nope'"),
            ("name", {"w": U}, InputError, "can't be called"), ("name", {"u": [1, 2]}, InputError, "floating-point"),
            ("refuses", {"u": U}, UnsupportedOperationError, "m.py"),
            ("loss", {"u": U, "k": 2}, TracingError, "m:loss raised ")):
        with pytest.raises(error, match=message):
            traced(tracers, name, **arguments)
        assert sorted(path.name for path in Path().iterdir()) == ["json.py", "modules", "pid"]
    traced(tracers, "name", u=U)
    assert Path("pid").read_text() == first  # no error is the process's end
    with pytest.raises(ServiceError, match="no module 'other'"):
        tracers.trace("other", "name", {}, Path("tape"), lambda: False).result()


def test_what_functions_print_is_the_operators(tracers, capfd):
    """The process writes to what was standard error when it began, so it begins inside the test."""
    made = Tracers(Modules("modules"), limit=30.0, at_once=1)
    made.start()
    with pytest.raises(TracingError, match="m:loss raised "):
        traced(made, "loss", u=U, k=2)
    made.close()
    assert capfd.readouterr().err.count("seen by the operator") == 1


def test_a_function_that_raises_says_where(tracers, capfd):
    made = Tracers(Modules("modules"), limit=30.0, at_once=1)
    with pytest.raises(TracingError) as caught:
        traced(made, "deep", u=U)
    made.close()
    lines = MODEL.splitlines()
    wanted = ["m:deep raised ValueError: exploded"] + [
        f"  m.py, line {lines.index(f'    {text}') + 1}, in {name}: {text}"
        for name, text in (("deep", "return helper(u) + 1.0"), ("helper", 'raise ValueError("exploded")'))]
    assert str(caught.value).splitlines() == wanted
    assert "\n".join(wanted) in capfd.readouterr().err


def test_it_ends_with_all_it_started(tracers):
    began = time.monotonic()
    with pytest.raises(CancelledError, match="m:child was cancelled"):
        traced(tracers, "child", lambda: Path("pid").exists() and Path("pid").stat().st_size > 0, u=U)
    assert time.monotonic() - began < 20 and tracers.under_way == 0
    wait_for(lambda: gone(int(Path("pid").read_text())))
    traced(tracers, "name", u=U)
    idle = int(Path("pid").read_text())
    assert not gone(idle)
    tracers.close()
    wait_for(lambda: gone(idle))


def test_those_that_never_return_keep_no_other_waiting(tracers):
    """Neither of other clients, nor, up to half of the processes, of their own; who waits begins in the order it came.
    """
    made = Tracers(Modules("modules"), limit=30.0, at_once=3)
    began: list[str] = []
    unwanted: set[str] = set()

    def ask(who: str, name: str, client: str) -> Future[Path]:
        return made.trace("m", name, {"u": U}, Path(who), lambda: who in unwanted, client, lambda: began.append(who))

    asked = {who: ask(who, "endless", who[0]) for who in ("a1", "a2", "a3", "b1")}
    wait_for(lambda: len(began) == 2)
    assert sorted(began) == ["a1", "b1"] and made.under_way == made.waiting == 2
    for who in ("c1", "d1", "c2"):
        assert ask(who, "name", who[0]).result(20) == Path(who)
    for who, how in (("a3", "before it had begun"), ("a1", "and its process ended")):
        unwanted.add(who)
        made.look()
        with pytest.raises(CancelledError, match=f"m:endless was cancelled, {how}"):
            asked[who].result(20)
    wait_for(lambda: "a2" in began)
    assert made.under_way == 2 and made.waiting == 0 and len(made._resting) <= RESTING
    left = ask("a4", "endless", "a")
    made.close()
    for found in (asked["a2"], asked["b1"], left, ask("late", "name", "d")):
        with pytest.raises(CancelledError):
            found.result(0)
    assert not [path for path in Path().iterdir() if path.name.endswith(".arguments")]


def test_a_limit_and_a_process_that_closes_everything(tracers):
    with pytest.raises(TracingError, match="process that traced m:shuts ended, by signal 9"):
        traced(tracers, "shuts", u=U)
    traced(tracers, "name", u=U)
    tracers._limit = 0.2
    with pytest.raises(TracingError, match=r"still being traced after 0.2 s.*--trace-limit"):
        traced(tracers, "child", u=U)
    tracers._limit = 30.0
    traced(tracers, "name", u=U)


def test_one_that_ended_while_nothing_was_asked_is_replaced(tracers):
    traced(tracers, "name", u=U)
    first = int(Path("pid").read_text())
    os.kill(first, 9)
    wait_for(lambda: gone(first))
    traced(tracers, "name", u=U)
    assert int(Path("pid").read_text()) != first


def test_it_ends_with_the_service(tmp_path):
    """Whoever kills it, at whatever moment."""
    import subprocess
    import sys

    (tmp_path / "m.py").write_text(MODEL)
    code = ("import os, signal; from pathlib import Path; from distdiff.service.modules import Modules; "
            "from distdiff.service.tracers import Tracers; t = Tracers(Modules('.'), 100.0)\n"
            "t.trace('m', 'child', {'u': 1.0}, Path('tape'), lambda: Path('pid').exists() and "
            "Path('pid').stat().st_size and os.kill(os.getpid(), signal.SIGKILL))")
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=40, check=False)
    assert killed.returncode == -9
    child = int((tmp_path / "pid").read_text())
    parent = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]) if not gone(child) else 0
    os.kill(child, 9)
    wait_for(lambda: not parent or gone(parent) or parent == 1)
    assert parent in (0, 1) or gone(parent)
